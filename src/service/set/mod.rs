//! `set`: given tags, written into the files of a folder.

mod folder;

pub use folder::{SetFile, SetOptions, SetReport, rewrite};

use super::{
    Failure, Outcome, file_error::FileError, pass_summary::FileDiff, survey, types::available,
};
use crate::{
    core::{
        image::{Digest, ImageRef, ImageRepository, Tag},
        name::{Name, NameError},
    },
    images::{
        lint::message_of,
        policy::{self, Chosen},
        references::NoteKind,
        rewrite::{
            Choices, DigestReflection, LeaveReason, LeftAlone, RewriteDecision, ScalarChange,
            UpdateDirection,
        },
    },
    spec::{self, Declarations, Diagnostic, ImagePolicy, PolicyKind, Severity},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

/// Asks to write given tags.
#[derive(Debug, Clone)]
pub struct SetQuery {
    /// The folder.
    pub folder: PathBuf,
    /// The choices, as `NS:NAME=IMAGE:TAG[@DIGEST]`.
    pub choices: Vec<String>,
    /// Files or folders that declare the policies; if empty, each choice is an explicit order.
    pub declarations: Vec<PathBuf>,
    /// True to write only references with a marker.
    pub markers_only: bool,
    /// True to remove the digest of pinned references whose choice has none.
    pub unpin: bool,
    /// False to plan only.
    pub write: bool,
    /// True to include diffs in the answer.
    pub diffs: bool,
}

/// The written tags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetAnswer {
    /// The changed values, by file.
    pub changes: Vec<ChangedValue>,
    /// The changed files with their diffs; empty unless diffs were asked for.
    pub files: Vec<FileDiff>,
    /// References left alone.
    pub left: Vec<UnchangedReference>,
    /// Text that looks like a reference or marker and is none.
    pub notes: Vec<FileNote>,
    /// Errors in the declarations.
    pub diagnostics: Vec<Diagnostic>,
    /// Files that could not be read or written.
    pub errors: Vec<FileFailure>,
    /// Choices without any reference or marker.
    pub unmatched: Vec<UnmatchedChoice>,
    /// True if the files were written, false for a plan.
    pub written: bool,
}

/// A value that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangedValue {
    /// The file, from the folder.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The part of a reference that the value holds.
    pub part: String,
    /// The value before.
    pub old: String,
    /// The value after.
    pub new: String,
    /// The policy.
    pub policy: Name,
    /// The image repository.
    pub image: ImageRepository,
    /// The tag of the reference before, as written.
    pub present: Option<String>,
    /// The version after.
    pub selected: super::types::Selected,
    /// The path of the value inside the file.
    pub locator: String,
}

/// A reference left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnchangedReference {
    /// The file, from the folder.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The reason as a code.
    pub code: String,
    /// The reason as a sentence.
    pub reason: String,
    /// The policy.
    pub policy: Option<Name>,
    /// The image repository.
    pub image: Option<ImageRepository>,
    /// The path of the reference inside the file.
    pub locator: String,
}

/// Text that looks like a reference or marker and is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileNote {
    /// The file, from the folder.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The reason as a code.
    pub code: NoteKind,
    /// The reason as a sentence.
    pub reason: String,
}

/// A file that could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileFailure {
    /// The file, from the folder.
    pub file: String,
    /// The message.
    pub error: String,
}

/// A choice without any reference or marker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnmatchedChoice {
    /// The policy.
    pub policy: Name,
    /// The image repository.
    pub image: ImageRepository,
}

impl SetAnswer {
    /// Classifies the answer: `Partly` if a file that mentions an image could not be handled.
    pub fn outcome(&self) -> Outcome {
        let is_unreadable =
            |note: &FileNote| matches!(note.code, NoteKind::Unparsable | NoteKind::NotUtf8);
        if self.changes.is_empty() && !self.errors.is_empty() {
            return Outcome::BadInput;
        }
        Outcome::partly_if(!self.errors.is_empty() || self.notes.iter().any(is_unreadable))
    }

    /// The number of files with changes.
    pub fn changed_files(&self) -> usize {
        let mut files: Vec<&str> = self
            .changes
            .iter()
            .map(|change| change.file.as_str())
            .collect();
        files.dedup();
        files.len()
    }
}

/// Writes the choices into every file of the folder.
///
/// # Errors
/// If a choice or the folder is invalid. Files that fail are part of the answer.
pub fn set(query: &SetQuery) -> Result<SetAnswer, Failure> {
    let given = read_choices(&query.choices)?;
    if query.folder.is_file() {
        return Err(Failure::input(format!(
            "{}: not a folder; name the folder of the file",
            query.folder.display()
        )));
    }
    let declared = read_declarations(&query.declarations)?;
    let choices = choices(query, &given, declared.as_ref())?;
    let options = SetOptions {
        write: query.write,
        keep_bytes: query.diffs,
        ..SetOptions::default()
    };
    let report = rewrite(&query.folder, &choices, options)?;
    Ok(answer(query, &given, declared.as_ref(), report))
}

/// Reads every choice; all invalid ones are in one error.
fn read_choices(texts: &[String]) -> Result<BTreeMap<Name, ImageRef>, Failure> {
    let mut choices: BTreeMap<Name, ImageRef> = BTreeMap::new();
    let mut errors = Vec::new();
    for text in texts {
        match read_choice(text) {
            Ok((name, image)) => match choices.get(&name) {
                Some(other) => errors.push(format!("{name} is given twice: {other} and {image}")),
                None => drop(choices.insert(name, image)),
            },
            Err(error) => {
                let shown = crate::core::image::shown(text);
                errors.push(format!("choice {shown}: {error}"));
            }
        }
    }
    if errors.is_empty() {
        return Ok(choices);
    }
    Err(Failure::input(errors.join("\n"))
        .hint("Write a choice as NS:NAME=IMAGE:TAG or NS:NAME=IMAGE:TAG@DIGEST."))
}

fn read_choice(text: &str) -> Result<(Name, ImageRef), String> {
    let Some((name, image)) = text.split_once('=') else {
        return Err("it has no '='".to_owned());
    };
    let name: Name = name.parse().map_err(|error: NameError| error.to_string())?;
    let image = ImageRef::new(image).map_err(|error| error.to_string())?;
    match image.tag {
        Some(_) => Ok((name, image)),
        None => Err("it has no tag".to_owned()),
    }
}

fn read_declarations(paths: &[PathBuf]) -> Result<Option<Declarations>, Failure> {
    if paths.is_empty() {
        return Ok(None);
    }
    let mut files = Vec::new();
    for path in paths {
        files.extend(survey::declaring(path)?);
    }
    let files = files
        .iter()
        .map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    Ok(Some(spec::read(files, None)))
}

const NO_CHOICE: &str = "no choice is given for it";

fn choices<'d>(
    query: &SetQuery,
    given: &BTreeMap<Name, ImageRef>,
    declared: Option<&'d Declarations>,
) -> Result<Choices<'d>, Failure> {
    let mut choices = Choices::new(!query.markers_only);
    let mut errors = Vec::new();
    for (name, image) in given {
        let Some(tag) = image.tag.clone() else {
            continue;
        };
        let decision = match declared {
            None => Ok(explicit(query, name, image, tag)),
            Some(declared) => by_policy(query, name, image, tag, declared),
        };
        match decision {
            Ok(decision) => choices.add(decision),
            Err(error) => errors.push(error),
        }
    }
    if !errors.is_empty() {
        // A policy is often missing because its declaration is invalid.
        let lacks_policy = |declared: &&Declarations| {
            given
                .keys()
                .any(|name| !declared.policies.contains_key(name))
        };
        let diagnostics = errors_of(declared.filter(lacks_policy));
        errors.extend(diagnostics.map(ToString::to_string));
        return Err(Failure::input(errors.join("\n")));
    }
    for policy in declared
        .into_iter()
        .flat_map(|declared| declared.policies.values())
        .filter(|policy| !given.contains_key(&policy.name))
    {
        choices.add_nothing(policy.name.clone(), Some(policy.image.clone()), NO_CHOICE);
    }
    Ok(choices)
}

fn errors_of(declared: Option<&Declarations>) -> impl Iterator<Item = &Diagnostic> {
    declared
        .into_iter()
        .flat_map(|declared| &declared.mistakes)
        .filter(|diagnostic| diagnostic.severity == Severity::Error)
}

/// Without a policy a choice is an order: any other tag is replaced, even a higher one.
fn explicit<'d>(query: &SetQuery, name: &Name, image: &ImageRef, tag: Tag) -> RewriteDecision<'d> {
    RewriteDecision {
        policy: name.clone(),
        repository: image.repository.clone(),
        tag,
        digest: image.digest.clone(),
        // A given digest is part of the order; without one, only pinned references need it.
        digest_reflection: match image.digest {
            Some(_) => DigestReflection::Always,
            None => DigestReflection::Never,
        },
        unpin: query.unpin,
        allow_downgrade: true,
        compare: Box::new(|_| UpdateDirection::Newer),
    }
}

fn by_policy<'d>(
    query: &SetQuery,
    name: &Name,
    image: &ImageRef,
    tag: Tag,
    declared: &'d Declarations,
) -> Result<RewriteDecision<'d>, String> {
    let policy = declared_policy(name, image, declared)?;
    let chosen = Chosen {
        tag,
        digest: image.digest.clone(),
    };
    // The registry is not asked, so that no equal version counts as unlisted.
    let decision = crate::update::rewrite_decision(policy, &chosen, false, |_| false);
    Ok(RewriteDecision {
        unpin: query.unpin,
        ..decision
    })
}

/// Finds the policy of a choice and checks that it can make this choice.
fn declared_policy<'d>(
    name: &Name,
    image: &ImageRef,
    declared: &'d Declarations,
) -> Result<&'d ImagePolicy, String> {
    let Some(policy) = declared.policies.get(name) else {
        let names = available(declared.policies.keys().map(Name::to_string));
        return Err(format!("no valid ImagePolicy {name}; {names}"));
    };
    let tag = image.tag.as_ref().map(Tag::as_str).unwrap_or_default();
    let place = &policy.place;
    if policy.image != image.repository {
        return Err(format!(
            "{name} is for {}, not for {} ({place})",
            policy.image, image.repository
        ));
    }
    match &policy.choice {
        PolicyKind::Digest(followed) if followed.as_str() != tag => Err(format!(
            "{name} follows the tag {followed} and cannot choose {tag} ({place})"
        )),
        _ if policy::orders_by_text(policy) && !policy::orders(policy, tag) => Err(format!(
            "{name} is a {} policy and cannot order the tag {tag} ({place})",
            policy.choice.kind()
        )),
        _ => Ok(policy),
    }
}

fn answer(
    query: &SetQuery,
    given: &BTreeMap<Name, ImageRef>,
    declared: Option<&Declarations>,
    report: SetReport,
) -> SetAnswer {
    let root = fs::canonicalize(&query.folder).unwrap_or_default();
    let mut answer = SetAnswer {
        changes: Vec::new(),
        files: Vec::new(),
        left: Vec::new(),
        notes: Vec::new(),
        // Environments have no effect here, so that warnings do not matter.
        diagnostics: errors_of(declared).cloned().collect(),
        errors: Vec::new(),
        unmatched: Vec::new(),
        written: query.write,
    };
    // A file that could not be read or written may have had the reference.
    if report.errors.is_empty() {
        answer.unmatched = unmatched(given, &report.files);
    }
    for file in report.files {
        let path = &file.path;
        let left = file.outcome.left.into_iter();
        answer
            .left
            .extend(left.map(|left| unchanged(path, left, declared.is_some())));
        let changes = file.outcome.changes.into_iter();
        answer
            .changes
            .extend(changes.map(|change| changed(path, change)));
        answer.notes.extend(file.notes.iter().map(|note| FileNote {
            file: path.clone(),
            line: note.line,
            column: note.column,
            code: note.kind,
            reason: message_of(note),
        }));
        if let Some((before, after)) = &file.bytes {
            answer.files.push(FileDiff::new(path, before, after));
        }
    }
    answer.errors = report
        .errors
        .iter()
        .map(|error| file_failure(&root, error))
        .collect();
    answer
}

/// Returns the choices that no file refers to, by the policy or by the image.
fn unmatched(given: &BTreeMap<Name, ImageRef>, files: &[SetFile]) -> Vec<UnmatchedChoice> {
    let (mut policies, mut images) = (HashSet::new(), HashSet::new());
    for SetFile { outcome, .. } in files {
        policies.extend(outcome.changes.iter().map(|change| &change.policy));
        policies.extend(outcome.left.iter().filter_map(|left| left.policy.as_ref()));
        images.extend(
            outcome
                .left
                .iter()
                .filter_map(|left| left.repository.as_ref()),
        );
    }
    let is_unmatched = |(name, image): &(&Name, &ImageRef)| {
        !policies.contains(name) && !images.contains(&image.repository)
    };
    let unmatched = given.iter().filter(is_unmatched);
    unmatched
        .map(|(name, image)| UnmatchedChoice {
            policy: name.clone(),
            image: image.repository.clone(),
        })
        .collect()
}

fn changed(file: &str, change: ScalarChange) -> ChangedValue {
    let digest: Option<Digest> = change.new_digest;
    ChangedValue {
        file: file.to_owned(),
        line: change.line,
        column: change.column,
        part: change.part.as_str().to_owned(),
        old: change.old,
        new: change.new,
        policy: change.policy,
        image: change.repository,
        present: change.old_tag,
        selected: super::types::Selected {
            tag: change.new_tag,
            digest,
        },
        locator: change.locator,
    }
}

/// A marker that names another policy is no mistake where only some policies are given.
fn unchanged(file: &str, left: LeftAlone, has_declarations: bool) -> UnchangedReference {
    let is_not_given = match &left.reason {
        LeaveReason::UnknownPolicy => !has_declarations,
        LeaveReason::NothingChosen(reason) => reason == NO_CHOICE,
        _ => false,
    };
    let (code, reason) = match &left.policy {
        Some(policy) if is_not_given => ("no-choice", format!("no choice is given for {policy}")),
        _ => (left.reason.code(), left.reason.to_string()),
    };
    UnchangedReference {
        file: file.to_owned(),
        line: left.line,
        column: left.column,
        code: code.to_owned(),
        reason,
        policy: left.policy,
        image: left.repository,
        locator: left.locator,
    }
}

fn file_failure(root: &Path, error: &FileError) -> FileFailure {
    let file = error.path.strip_prefix(root).unwrap_or(&error.path);
    FileFailure {
        file: file.display().to_string(),
        error: error.to_string(),
    }
}
