//! `tagboat set`.

use super::{Exit, Failure, Screen, counted, safe, screen::Color, show};
use crate::{
    declare::{self, Choice, Declarations, ImagePolicy, Mistake, Severity},
    folder::{self, FileReport, Options, Report},
    image::ImageRef,
    name::Name,
    policy::{self, Chosen},
    rewrite::{Change, Choices, Decision, DigestReflection, LeftAlone, Order, Reason},
    survey,
};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Write given tags into the files of a folder
///
/// For a CI job that has just built an image: no registry, no Git, no declarations needed. References are found by
/// their repository and by markers, and rewritten in place; everything else stays as it is, byte for byte. What is
/// left alone is listed with the reason.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// The folder
    dir: PathBuf,

    /// What to write: policy, image and tag; with a digest it is written, too (with -f as the policy says)
    #[arg(value_name = "NS:NAME=IMAGE:TAG[@DIGEST]", required = true)]
    choices: Vec<String>,

    /// Files or folders that declare the policies, also those of Flux: then their order and digestReflectionPolicy count
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    files: Vec<PathBuf>,

    /// Which references are written
    #[arg(long, value_enum, default_value_t = References::Auto)]
    references: References,

    /// Take the digest away from pinned references whose choice has none
    #[arg(long)]
    unpin: bool,

    /// Print what would change as a unified diff; write nothing
    #[arg(long)]
    diff: bool,

    /// Write nothing; exit with 1 if something would change
    #[arg(long)]
    check: bool,
}

const EXAMPLES: &str = "\
Examples:
  tagboat set . apps:podinfo=ghcr.io/stefanprodan/podinfo:6.7.1
  tagboat set envs/dev apps:web=registry.example.com/web:1.4.0@sha256:… --diff
  tagboat set . flux-system:podinfo=ghcr.io/stefanprodan/podinfo:6.7.1 -f clusters/ --references markers

Without -f a choice is an explicit order: any other tag of its image is replaced, a higher one, too. With -f the policy's \
order counts, so that a lower version is left alone.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum References {
    /// Every reference to the image, and the marked ones
    Auto,
    /// Only references with a marker
    Markers,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    let wanted = read_choices(&arguments.choices)?;
    if arguments.dir.is_file() {
        return Err(Failure::input(format!("{}: this is a file; name the folder it lies in", arguments.dir.display())));
    }
    let declared = declared(arguments)?;
    let choices = choices(arguments, &wanted, declared.as_ref())?;
    let options = Options { write: !arguments.diff && !arguments.check, keep_bytes: arguments.diff, ..Options::default() };
    let report = folder::rewrite(&arguments.dir, &choices, options)?;
    let answer = Answer { dir: &arguments.dir, wanted: &wanted, declared: declared.as_ref(), report: &report };
    if screen.is_json() {
        screen.json(&answer.json());
    } else {
        answer.print(arguments, screen);
    }
    Ok(if !report.errors.is_empty() {
        Exit::Partly
    } else if arguments.check && answer.changes().next().is_some() {
        Exit::Findings
    } else {
        Exit::Done
    })
}

/// Every choice by its policy. All that is wrong is said at once.
fn read_choices(texts: &[String]) -> Result<BTreeMap<Name, ImageRef>, Failure> {
    let mut choices: BTreeMap<Name, ImageRef> = BTreeMap::new();
    let mut wrong = Vec::new();
    for text in texts {
        match read_choice(text) {
            Ok((name, image)) => {
                if let Some(other) = choices.get(&name) {
                    wrong.push(format!("{name} is given twice, as {other} and {image}"));
                } else {
                    choices.insert(name, image);
                }
            }
            Err(why) => wrong.push(format!("choice {}: {why}", crate::image::shown(text))),
        }
    }
    if wrong.is_empty() {
        return Ok(choices);
    }
    Err(Failure::input(wrong.join("\n")).hint("Write a choice as NS:NAME=IMAGE:TAG or NS:NAME=IMAGE:TAG@DIGEST."))
}

fn read_choice(text: &str) -> Result<(Name, ImageRef), String> {
    let Some((name, image)) = text.split_once('=') else { return Err("there is no '='".to_owned()) };
    let name: Name = name.parse().map_err(|error: crate::name::NameError| error.to_string())?;
    let image = ImageRef::new(image).map_err(|error| error.to_string())?;
    if image.tag.is_none() {
        return Err("there is no tag".to_owned());
    }
    Ok((name, image))
}

/// The policies of `-f`; nothing without it.
fn declared(arguments: &Arguments) -> Result<Option<Declarations>, Failure> {
    if arguments.files.is_empty() {
        return Ok(None);
    }
    let mut files = Vec::new();
    for path in &arguments.files {
        files.extend(survey::declaring(path)?);
    }
    Ok(Some(declare::read(files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())), None)))
}

fn choices<'a>(
    arguments: &Arguments,
    wanted: &BTreeMap<Name, ImageRef>,
    declared: Option<&'a Declarations>,
) -> Result<Choices<'a>, Failure> {
    let mut choices = Choices::new(arguments.references == References::Auto);
    let mut wrong = Vec::new();
    for (name, image) in wanted {
        let Some(tag) = image.tag.clone() else { continue };
        let decision = match declared {
            None => Decision {
                policy: name.clone(),
                repository: image.repository.clone(),
                tag,
                digest: image.digest.clone(),
                // A digest that is given is part of the order; without one only pinned references ask for it.
                digest_reflection: if image.digest.is_some() { DigestReflection::Always } else { DigestReflection::Never },
                unpin: arguments.unpin,
                allow_downgrade: true,
                compare: Box::new(|_| Order::Newer),
            },
            Some(declared) => match chosen_by(name, image, declared) {
                // Whether a registry still lists an equal version is not known here, and the choice is an order.
                Ok(policy) => Decision {
                    unpin: arguments.unpin,
                    ..crate::update::decision(policy, &Chosen { tag, digest: image.digest.clone() }, false, |_| false)
                },
                Err(why) => {
                    wrong.push(why);
                    continue;
                }
            },
        };
        choices.add(decision);
    }
    if !wrong.is_empty() {
        // Why a policy is missing is often that it could not be read.
        let missing = |declared: &&Declarations| wanted.keys().any(|name| !declared.policies.contains_key(name));
        let mistakes = declared.into_iter().filter(missing).flat_map(|declared| &declared.mistakes);
        wrong.extend(mistakes.filter(|mistake| mistake.severity == Severity::Error).map(ToString::to_string));
        return Err(Failure::input(wrong.join("\n")));
    }
    for policy in declared.into_iter().flat_map(|declared| declared.policies.values()).filter(|policy| !wanted.contains_key(&policy.name)) {
        choices.add_nothing(policy.name.clone(), Some(policy.image.clone()), NO_CHOICE);
    }
    Ok(choices)
}

const NO_CHOICE: &str = "no choice is given for it";

/// The policy that a choice is of, if it can be.
fn chosen_by<'d>(name: &Name, image: &ImageRef, declared: &'d Declarations) -> Result<&'d ImagePolicy, String> {
    let Some(policy) = declared.policies.get(name) else {
        let known: Vec<String> = declared.policies.keys().map(Name::to_string).collect();
        let known = if known.is_empty() { "none is declared there".to_owned() } else { format!("known are {}", known.join(", ")) };
        return Err(format!("there is no usable ImagePolicy {name}; {known}"));
    };
    let tag = image.tag.as_ref().map(|tag| tag.as_str()).unwrap_or_default();
    if policy.image != image.repository {
        return Err(format!("{name} is for {}, not for {} ({})", policy.image, image.repository, policy.place));
    }
    match &policy.choice {
        Choice::Digest(followed) if followed.as_str() != tag => {
            Err(format!("{name} follows the tag {followed}, so {tag} cannot be its choice ({})", policy.place))
        }
        Choice::Semver(_) | Choice::Numerical(_) | Choice::Alphabetical(_) if !policy::orders(policy, tag) => {
            Err(format!("{name} is a {} policy that cannot order the tag {tag} ({})", policy.choice.kind(), policy.place))
        }
        _ => Ok(policy),
    }
}

/// What was done, and how to say it.
struct Answer<'a> {
    dir: &'a Path,
    wanted: &'a BTreeMap<Name, ImageRef>,
    declared: Option<&'a Declarations>,
    report: &'a Report,
}

impl Answer<'_> {
    fn changes(&self) -> impl Iterator<Item = (&FileReport, &Change)> {
        self.report.files.iter().flat_map(|file| file.outcome.changes.iter().map(move |change| (file, change)))
    }

    fn left(&self) -> impl Iterator<Item = (&FileReport, &LeftAlone)> {
        self.report.files.iter().flat_map(|file| file.outcome.left.iter().map(move |left| (file, left)))
    }

    /// What is wrong in the files of `-f`; what they say of Environments has no bearing here, so warnings rest.
    fn mistakes(&self) -> impl Iterator<Item = &Mistake> {
        let all = self.declared.into_iter().flat_map(|declared| &declared.mistakes);
        all.filter(|mistake| mistake.severity == Severity::Error)
    }

    /// The reason as this command means it: that a marker names another policy is no mistake where only some are given.
    fn reason(&self, left: &LeftAlone) -> (&'static str, String) {
        let not_given = match (&left.reason, self.declared) {
            (Reason::UnknownPolicy, None) => true,
            (Reason::NothingChosen(why), _) => why == NO_CHOICE,
            _ => false,
        };
        match (not_given, &left.policy) {
            (true, Some(policy)) => ("no-choice", format!("no choice is given for {policy}")),
            _ => (left.reason.code(), left.reason.to_string()),
        }
    }

    fn json(&self) -> Value {
        let changes = self.changes().map(|(file, change)| {
            json!({
                "file": file.path, "line": change.line, "column": change.column, "part": change.part.as_str(),
                "old": change.old, "new": change.new, "policy": change.policy, "repository": change.repository,
                "oldTag": change.old_tag, "newTag": change.new_tag, "digest": change.new_digest.as_ref().map(|digest| digest.as_str()),
                "locator": change.locator,
            })
        });
        let left = self.left().map(|(file, left)| {
            let (code, reason) = self.reason(left);
            json!({
                "file": file.path, "line": left.line, "column": left.column, "reason": reason, "code": code,
                "policy": left.policy, "repository": left.repository, "locator": left.locator,
            })
        });
        let notes = self.report.files.iter().flat_map(|file| {
            file.notes.iter().map(
                |note| json!({"file": file.path, "line": note.line, "column": note.column, "kind": note.kind, "message": note.message}),
            )
        });
        let root = std::fs::canonicalize(self.dir).unwrap_or_default();
        let errors = self.report.errors.iter().map(|error| {
            let file = error.path.strip_prefix(&root).unwrap_or(&error.path);
            json!({"file": file.display().to_string(), "message": error.to_string()})
        });
        json!({
            "changes": changes.collect::<Vec<_>>(),
            "left": left.collect::<Vec<_>>(),
            "notes": notes.collect::<Vec<_>>(),
            "mistakes": self.mistakes().collect::<Vec<_>>(),
            "errors": errors.collect::<Vec<_>>(),
        })
    }

    fn print(&self, arguments: &Arguments, screen: &mut Screen) {
        if arguments.diff {
            for file in &self.report.files {
                if let Some((before, after)) = &file.bytes {
                    show::diff(&file.path, before, after, screen);
                }
            }
        } else {
            for (file, change) in self.changes() {
                let place = screen.paint(Color::Cyan, format_args!("{}:{}:{}", safe(&file.path), change.line, change.column));
                let new = screen.paint(Color::Green, &change.new);
                screen.line(format_args!("{place}: {} → {new} ({})", safe(&change.old), change.policy));
            }
        }
        // What nobody asked for, and what is well.
        let quiet = |code: &str| matches!(code, "no-policy" | "no-choice" | "markers-only" | "up-to-date");
        let mut pinned = false;
        for (file, left) in self.left() {
            let (code, reason) = self.reason(left);
            if !quiet(code) {
                pinned |= left.reason == Reason::NeedsDigest;
                let place = screen.paint(Color::Cyan, format_args!("{}:{}:{}", safe(&file.path), left.line, left.column));
                screen.note(format_args!("left alone: {place}: {reason}"));
            }
        }
        for file in &self.report.files {
            for note in &file.notes {
                let place = screen.paint(Color::Cyan, format_args!("{}:{}:{}", safe(&file.path), note.line, note.column));
                screen.note(format_args!("note: {place}: {}", note.message));
            }
        }
        for mistake in self.mistakes() {
            screen.note(safe(&mistake.to_string()));
        }
        for error in &self.report.errors {
            screen.note(format_args!("{} {}", screen.paint(Color::Red, "error:"), safe(&error.to_string())));
        }
        for (name, image) in self.wanted {
            let concerns = |file: &&FileReport| {
                let outcome = &file.outcome;
                outcome.changes.iter().any(|change| change.policy == *name)
                    || outcome
                        .left
                        .iter()
                        .any(|left| left.policy.as_ref() == Some(name) || left.repository.as_ref() == Some(&image.repository))
            };
            if !self.report.files.iter().any(|file| concerns(&file)) {
                screen.note(format_args!("note: no file mentions {} or has a marker for {name}", image.repository));
            }
        }
        if pinned {
            screen.note("hint: give the digest, as IMAGE:TAG@DIGEST, or take digests away with --unpin");
        }
        let files = self.report.files.iter().filter(|file| !file.outcome.changes.is_empty()).count();
        let values = self.changes().count();
        if values == 0 {
            screen.note("nothing to change");
        } else {
            let verb = if arguments.diff || arguments.check { "would change" } else { "changed" };
            screen.note(format_args!("{verb} {} in {}", counted(values, "value"), counted(files, "file")));
        }
    }
}
