//! `tagboat set`.

mod answer;

use super::{Exit, Failure, Screen};
use crate::{
    core::{image::ImageRef, name::Name},
    images::{
        policy::{self, Chosen},
        references::{Note, NoteKind},
        rewrite::{Choices, DigestReflection, RewriteDecision, UpdateDirection},
    },
    service::{
        set::{self, SetOptions},
        survey,
    },
    spec::{self, Declarations, ImagePolicy, PolicyKind, Severity},
};
use answer::SetSummary;
use clap::ValueEnum;
use std::{collections::BTreeMap, path::PathBuf};

/// Write given tags into the files of a folder
///
/// For a CI job that has just built an image: no registry, no Git, no declarations needed.
/// References are found by their repository and by markers, and rewritten in place; everything else
/// stays as it is, byte for byte. What is left alone is listed with the reason.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// The folder
    dir: PathBuf,

    /// What to write: policy, image and tag; with a digest it is written, too (with -f as the
    /// policy says)
    #[arg(value_name = "NS:NAME=IMAGE:TAG[@DIGEST]", required = true)]
    choices: Vec<String>,

    /// Files or folders that declare the policies, also those of Flux: then their order and
    /// digestReflectionPolicy count
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    files: Vec<PathBuf>,

    /// Which references are written
    #[arg(long, value_enum, default_value_t = ReferenceMode::Auto)]
    references: ReferenceMode,

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
enum ReferenceMode {
    /// Every reference to the image, and the marked ones
    Auto,
    /// Only references with a marker
    Markers,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    let wanted = read_choices(&arguments.choices)?;
    if arguments.dir.is_file() {
        return Err(Failure::input(format!(
            "{}: this is a file; name the folder it lies in",
            arguments.dir.display()
        )));
    }
    let declared = declared(arguments)?;
    let choices = choices(arguments, &wanted, declared.as_ref())?;
    let options = SetOptions {
        write: !arguments.diff && !arguments.check,
        keep_bytes: arguments.diff,
        ..SetOptions::default()
    };
    let report = set::rewrite(&arguments.dir, &choices, options)?;
    let answer = SetSummary {
        dir: &arguments.dir,
        wanted: &wanted,
        declared: declared.as_ref(),
        report: &report,
    };
    if screen.is_json() {
        screen.json(&answer.json());
    } else {
        answer.print(arguments.diff, arguments.diff || arguments.check, screen);
    }
    // Such a file mentions what was to be written, and nobody can say what stands in it.
    let unread = |note: &Note| matches!(note.kind, NoteKind::Unparsable | NoteKind::NotUtf8);
    let partly =
        !report.errors.is_empty() || report.files.iter().flat_map(|file| &file.notes).any(unread);
    Ok(if partly {
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
            Err(why) => wrong.push(format!("choice {}: {why}", crate::core::image::shown(text))),
        }
    }
    if wrong.is_empty() {
        return Ok(choices);
    }
    Err(Failure::input(wrong.join("\n"))
        .hint("Write a choice as NS:NAME=IMAGE:TAG or NS:NAME=IMAGE:TAG@DIGEST."))
}

fn read_choice(text: &str) -> Result<(Name, ImageRef), String> {
    let Some((name, image)) = text.split_once('=') else {
        return Err("there is no '='".to_owned());
    };
    let name: Name = name
        .parse()
        .map_err(|error: crate::core::name::NameError| error.to_string())?;
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
    Ok(Some(spec::read(
        files
            .iter()
            .map(|(path, bytes)| (path.as_str(), bytes.as_slice())),
        None,
    )))
}

fn choices<'a>(
    arguments: &Arguments,
    wanted: &BTreeMap<Name, ImageRef>,
    declared: Option<&'a Declarations>,
) -> Result<Choices<'a>, Failure> {
    let mut choices = Choices::new(arguments.references == ReferenceMode::Auto);
    let mut wrong = Vec::new();
    for (name, image) in wanted {
        let Some(tag) = image.tag.clone() else {
            continue;
        };
        let decision = match declared {
            None => RewriteDecision {
                policy: name.clone(),
                repository: image.repository.clone(),
                tag,
                digest: image.digest.clone(),
                // A digest that is given is part of the order; without one only pinned references
                // ask for it.
                digest_reflection: if image.digest.is_some() {
                    DigestReflection::Always
                } else {
                    DigestReflection::Never
                },
                unpin: arguments.unpin,
                allow_downgrade: true,
                compare: Box::new(|_| UpdateDirection::Newer),
            },
            Some(declared) => match chosen_by(name, image, declared) {
                // Whether a registry still lists an equal version is not known here, and the choice
                // is an order.
                Ok(policy) => RewriteDecision {
                    unpin: arguments.unpin,
                    ..crate::update::decision(
                        policy,
                        &Chosen {
                            tag,
                            digest: image.digest.clone(),
                        },
                        false,
                        |_| false,
                    )
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
        let missing = |declared: &&Declarations| {
            wanted
                .keys()
                .any(|name| !declared.policies.contains_key(name))
        };
        let mistakes = declared
            .into_iter()
            .filter(missing)
            .flat_map(|declared| &declared.mistakes);
        wrong.extend(
            mistakes
                .filter(|mistake| mistake.severity == Severity::Error)
                .map(ToString::to_string),
        );
        return Err(Failure::input(wrong.join("\n")));
    }
    for policy in declared
        .into_iter()
        .flat_map(|declared| declared.policies.values())
        .filter(|policy| !wanted.contains_key(&policy.name))
    {
        choices.add_nothing(policy.name.clone(), Some(policy.image.clone()), NO_CHOICE);
    }
    Ok(choices)
}

const NO_CHOICE: &str = "no choice is given for it";

/// The policy that a choice is of, if it can be.
fn chosen_by<'d>(
    name: &Name,
    image: &ImageRef,
    declared: &'d Declarations,
) -> Result<&'d ImagePolicy, String> {
    let Some(policy) = declared.policies.get(name) else {
        let known: Vec<String> = declared.policies.keys().map(Name::to_string).collect();
        let known = if known.is_empty() {
            "none is declared there".to_owned()
        } else {
            format!("known are {}", known.join(", "))
        };
        return Err(format!("there is no usable ImagePolicy {name}; {known}"));
    };
    let tag = image
        .tag
        .as_ref()
        .map(|tag| tag.as_str())
        .unwrap_or_default();
    if policy.image != image.repository {
        return Err(format!(
            "{name} is for {}, not for {} ({})",
            policy.image, image.repository, policy.place
        ));
    }
    match &policy.choice {
        PolicyKind::Digest(followed) if followed.as_str() != tag => Err(format!(
            "{name} follows the tag {followed}, so {tag} cannot be its choice ({})",
            policy.place
        )),
        PolicyKind::Semver(_) | PolicyKind::Numerical(_) | PolicyKind::Alphabetical(_)
            if !policy::orders(policy, tag) =>
        {
            Err(format!(
                "{name} is a {} policy that cannot order the tag {tag} ({})",
                policy.choice.kind(),
                policy.place
            ))
        }
        _ => Ok(policy),
    }
}
