//! `init`: drafts of policies, Environments and settings for a config repository.

mod draft;
mod environments;
mod images;
mod origin;
mod policy_rule;

use super::{
    Failure, Outcome, safe_point,
    survey::{self, SETTINGS_FILE, Survey},
    unsupported::UnsupportedFindings,
};
use crate::{
    core::{image::ImageRepository, name::Name},
    images::includes::IncludeGraph,
    spec::Environment,
};
use environments::EnvironmentDraft;
use images::ImageUsage;
use origin::Origin;
use policy_rule::PolicyRule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

/// Asks for drafts.
#[derive(Debug, Clone)]
pub struct InitQuery {
    /// The folder of the repository.
    pub folder: PathBuf,
    /// True to write the drafts into the folder.
    pub write: bool,
}

/// The images of a repository, and drafts for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InitAnswer {
    /// The images that the files refer to.
    pub images: Vec<FoundImage>,
    /// The drafted Environments; empty if some are declared.
    pub environments: Vec<DraftedEnvironment>,
    /// The declared Environments.
    pub declared_environments: Vec<String>,
    /// The drafted files.
    pub files: Vec<DraftFile>,
    /// Files and folders that could not be read.
    pub errors: Vec<String>,
    /// The number of files that were read.
    pub files_read: usize,
    /// The charts and units that are not handled yet.
    pub unsupported: UnsupportedFindings,
}

/// An image that files refer to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundImage {
    /// The image repository.
    pub image: ImageRepository,
    /// The tags in the files.
    pub present: Vec<String>,
    /// The files.
    pub files: Vec<String>,
    /// The declared policies for it.
    pub declared: Vec<Name>,
    /// The drafted policies for it.
    pub drafted: Vec<Name>,
    /// The reasons why policies are missing, a sentence each.
    pub reasons: Vec<String>,
}

/// A drafted Environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DraftedEnvironment {
    /// The name.
    pub name: String,
    /// The globs of its files.
    pub paths: Vec<String>,
    /// The way changes reach the branch.
    pub via: WriteVia,
}

/// The way changes reach the branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WriteVia {
    /// A commit on the branch itself.
    Commit,
    /// A pull request.
    PullRequest,
}

/// A drafted file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DraftFile {
    /// The path from the folder.
    pub path: String,
    /// The content.
    pub text: String,
    /// The state of the file.
    pub state: DraftState,
    /// The reason why it could not be written.
    pub error: Option<String>,
}

/// The state of a drafted file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DraftState {
    /// Not written: the query did not ask for it.
    Drafted,
    /// Written.
    Written,
    /// Not written: a file of this name exists.
    Exists,
    /// Could not be written.
    Failed,
}

impl InitAnswer {
    /// Classifies the answer.
    pub fn outcome(&self) -> Outcome {
        let has_failed = |file: &DraftFile| file.state == DraftState::Failed;
        if !self.files.is_empty() && self.files.iter().all(has_failed) {
            return Outcome::BadInput;
        }
        Outcome::partly_if(!self.errors.is_empty() || self.files.iter().any(has_failed))
    }

    /// The number of files in a state.
    pub fn count(&self, state: DraftState) -> usize {
        self.files.iter().filter(|file| file.state == state).count()
    }
}

/// A drafted policy.
struct PolicyDraft {
    name: Name,
    image: ImageRepository,
    rule: PolicyRule,
    notes: Vec<String>,
}

/// Drafts what a repository lacks, and writes it if asked to. Existing files are never changed.
///
/// # Errors
/// If the folder cannot be read.
pub fn init(query: &InitQuery) -> Result<InitAnswer, Failure> {
    if query.folder.is_file() {
        return Err(Failure::input(format!(
            "{}: not a folder",
            query.folder.display()
        )));
    }
    let survey = survey::survey(&query.folder)?;
    let graph = IncludeGraph::new(&survey.includes);
    let images = images::find(&survey, &graph);
    let PolicyDrafts { drafts, reasons } = policy_drafts(&survey, &images);
    let environments = environment_drafts(&survey, &images, &drafts, &graph);
    let origin = Origin::of(&query.folder);
    let mut files = files(&survey, &drafts, &environments, origin.as_ref());
    for file in &mut files {
        let path = query.folder.join(&file.path);
        if path.symlink_metadata().is_ok() {
            file.state = DraftState::Exists;
        } else if query.write {
            match safe_point::uninterrupted(|| write(&query.folder, &file.path, &file.text)) {
                Ok(()) => file.state = DraftState::Written,
                Err(error) => {
                    file.state = DraftState::Failed;
                    file.error = Some(error.to_string());
                }
            }
        }
    }
    let found = images.iter().map(|(image, usage)| FoundImage {
        drafted: drafts
            .iter()
            .filter(|draft| draft.image == *image)
            .map(|draft| draft.name.clone())
            .collect(),
        image: image.clone(),
        present: usage.tags.iter().cloned().collect(),
        files: usage.files.iter().cloned().collect(),
        declared: usage.declared.clone(),
        reasons: reasons.get(image).cloned().unwrap_or_default(),
    });
    Ok(InitAnswer {
        images: found.collect(),
        environments: environments.iter().map(DraftedEnvironment::from).collect(),
        declared_environments: survey.declared.environments.keys().cloned().collect(),
        files,
        errors: survey.errors.iter().map(ToString::to_string).collect(),
        files_read: survey.parsed,
        unsupported: UnsupportedFindings::new(survey.unsupported),
    })
}

impl From<&EnvironmentDraft> for DraftedEnvironment {
    fn from(draft: &EnvironmentDraft) -> Self {
        Self {
            name: draft.name.clone(),
            paths: draft.paths.clone(),
            via: match draft.review {
                Some(_) => WriteVia::PullRequest,
                None => WriteVia::Commit,
            },
        }
    }
}

/// Creates a file and its folders below `root`. An existing file is an error, also if it came in
/// between, and so is a folder that is a link, which may lead out of the repository.
fn write(root: &Path, path: &str, text: &str) -> io::Result<()> {
    let mut folder = root.to_owned();
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    for part in folders.split('/').filter(|part| !part.is_empty()) {
        folder.push(part);
        match folder.symlink_metadata() {
            Ok(data) if data.is_symlink() => {
                let why = format!("{part} is a symbolic link, which is not followed");
                return Err(io::Error::other(why));
            }
            Ok(_) => {}
            Err(_) => fs::create_dir(&folder)?,
        }
    }
    io::Write::write_all(
        &mut fs::File::create_new(folder.join(name))?,
        text.as_bytes(),
    )
}

/// Drafted policies, and the reasons why others are missing.
#[derive(Default)]
struct PolicyDrafts {
    drafts: Vec<PolicyDraft>,
    reasons: BTreeMap<ImageRepository, Vec<String>>,
}

/// Drafts a policy for each image with a tag and without a policy, and for each marker whose policy
/// is not declared: a marker's policy from the tags at its markers alone, since another marker may
/// follow another kind of tag of the same image.
fn policy_drafts(survey: &Survey, images: &BTreeMap<ImageRepository, ImageUsage>) -> PolicyDrafts {
    let mut taken: BTreeSet<Name> = survey.declared.policies.keys().cloned().collect();
    taken.extend(
        images
            .values()
            .flat_map(|image| image.markers.keys().cloned()),
    );
    let mut all = PolicyDrafts::default();
    for (repository, image) in images {
        let mut wanted: Vec<(Name, &BTreeSet<String>)> = image
            .markers
            .iter()
            .map(|(name, tags)| (name.clone(), tags))
            .collect();
        let is_replaced = image.unmarked.is_empty() && !image.replaced_by.is_empty();
        if wanted.is_empty() && image.declared.is_empty() && !is_replaced {
            wanted.push((images::free_name(repository, &taken), &image.unmarked));
        }
        let reasons = all.reasons.entry(repository.clone()).or_default();
        let replaced_by: Vec<&str> = image
            .replaced_by
            .iter()
            .map(ImageRepository::as_str)
            .collect();
        if is_replaced {
            reasons.push(format!(
                "kustomize replaces it with {}",
                abbreviated(&replaced_by)
            ));
        }
        let is_shared = wanted.len() > 1;
        for (name, tags) in wanted {
            // A marker may name one policy beside two images: the first one gets it.
            if all.drafts.iter().any(|draft| draft.name == name) {
                reasons.push(format!("the marker of {name} is also beside another image"));
                continue;
            }
            match policy_rule::guess(tags) {
                Err(why) if why.is_empty() && image.tags.is_empty() => {
                    reasons.push("the files have no tag".to_owned());
                }
                Err(why) if why.is_empty() => {
                    reasons.push("its markers name policies for other images".to_owned());
                }
                Err(why) => reasons.push(why),
                Ok(guessed) => {
                    let mut notes = guessed.notes;
                    notes.extend(unmarked_note(image, is_shared));
                    notes.extend(automation_note(survey, image));
                    taken.insert(name.clone());
                    all.drafts.push(PolicyDraft {
                        name,
                        image: repository.clone(),
                        rule: guessed.rule,
                        notes,
                    });
                }
            }
        }
    }
    all
}

/// Returns a note about references without a marker to an image that has markers.
fn unmarked_note(image: &ImageUsage, is_shared: bool) -> Option<String> {
    if image.markers.is_empty() || image.unmarked.is_empty() {
        return None;
    }
    let tags: Vec<&str> = image.unmarked.iter().map(String::as_str).collect();
    let tags = abbreviated(&tags);
    Some(match is_shared {
        true => format!(
            "References without a marker have {tags}: mark them, since several policies are for \
             this image."
        ),
        false => format!("References without a marker have {tags}: this policy is for them, too."),
    })
}

/// Returns a note about an image without markers whose files all belong to automations of Flux,
/// which go by markers.
fn automation_note(survey: &Survey, image: &ImageUsage) -> Option<String> {
    let environments = &survey.declared.environments;
    let owner = |file: &String| {
        let mut imported = environments.values().filter(|one| one.imported);
        imported.find(|one| one.paths.contains(file))
    };
    let owners: Option<Vec<&Environment>> = image.files.iter().map(owner).collect();
    let owner = owners?.into_iter().next()?;
    image.markers.is_empty().then(|| {
        format!(
            "The ImageUpdateAutomation {} goes by markers: write one beside each reference.",
            owner.name
        )
    })
}

/// Joins up to three values; of more, the first two and the number of the others.
pub fn abbreviated(values: &[&str]) -> String {
    match values.len() {
        0..=3 => values.join(", "),
        many => format!("{} and {} more", values[..2].join(", "), many - 2),
    }
}

/// Drafts the Environments of the files with policies; none where the user has declared some.
/// Imported automations of Flux go by markers and keep the files below their paths.
fn environment_drafts(
    survey: &Survey,
    images: &BTreeMap<ImageRepository, ImageUsage>,
    drafts: &[PolicyDraft],
    graph: &IncludeGraph<'_>,
) -> Vec<EnvironmentDraft> {
    let declared: Vec<&Environment> = survey.declared.environments.values().collect();
    if declared.iter().any(|environment| !environment.imported) {
        return Vec::new();
    }
    let has_policy = |(repository, image): &(&ImageRepository, &ImageUsage)| {
        !image.declared.is_empty() || drafts.iter().any(|draft| draft.image == **repository)
    };
    let files: BTreeSet<&str> = images
        .iter()
        .filter(has_policy)
        .flat_map(|(_, image)| image.files.iter().map(String::as_str))
        .collect();
    let including: Vec<&str> = survey
        .includes
        .iter()
        .map(|one| one.file.as_str())
        .collect();
    environments::find(files, &declared, graph, &including)
}

fn files(
    survey: &Survey,
    drafts: &[PolicyDraft],
    environments: &[EnvironmentDraft],
    origin: Option<&Origin>,
) -> Vec<DraftFile> {
    let file = |path: String, text: String| DraftFile {
        path,
        text,
        state: DraftState::Drafted,
        error: None,
    };
    let mut files = Vec::new();
    let mut stems: BTreeSet<String> = BTreeSet::from(["environments".to_owned()]);
    for draft in drafts {
        let mut stem = draft.name.name().to_owned();
        if !stems.insert(stem.clone()) {
            stem = format!("{}-{}", draft.name.namespace(), draft.name.name());
            stems.insert(stem.clone());
        }
        files.push(file(format!("policies/{stem}.yaml"), draft::policy(draft)));
    }
    if !environments.is_empty() {
        let text = draft::environments(environments);
        files.push(file("policies/environments.yaml".to_owned(), text));
    }
    let declared = &survey.declared;
    if survey.settings.is_empty() && (!files.is_empty() || !declared.policies.is_empty()) {
        let policies = declared.policies.values().map(|policy| &policy.place);
        let declared_environments = declared.environments.values().map(|one| &one.place);
        let in_folder = policies
            .chain(declared_environments)
            .all(|place| place.file.starts_with("policies/"));
        let needs_forge = environments.iter().any(|one| one.review.is_some());
        let text = draft::settings(in_folder, origin, needs_forge);
        files.push(file(SETTINGS_FILE.to_owned(), text));
    }
    files
}
