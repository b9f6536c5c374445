//! `tagboat select`.

use super::{Exit, Failure, Screen, screen::Color};
use crate::{
    core::{image::TagList, name::Name},
    images::policy::{self, Holds, PolicyInput, PolicyOutcome, RegistryFacts},
    spec::{self, ImagePolicy, PolicyKind, Severity},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    fs,
    io::{self, Read},
    path::PathBuf,
};

/// Choose among tags given one a line, without any network
///
/// Exits with 1 if the policy chooses none of them. minimumAge and platforms are facts of a
/// registry and rest here.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A file with the policy; files of Flux are read, too
    #[arg(short, long = "file", value_name = "POLICY.yaml", required = true)]
    files: Vec<PathBuf>,

    /// The policy, where the file has several
    #[arg(long, value_name = "NS/NAME")]
    policy: Option<Name>,

    /// The tags, one a line; "-" reads standard input
    #[arg(long, value_name = "FILE")]
    tags: PathBuf,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    let mut policy = find(arguments, screen)?;
    if policy.minimum_age.take().is_some() {
        screen.note("note: minimumAge is not judged here; a scan does, from what it has seen");
    }
    if !std::mem::take(&mut policy.platforms).is_empty() {
        screen
            .note("note: platforms are not judged here; a scan does, from what the registry says");
    }
    if matches!(policy.choice, PolicyKind::Newest) {
        return Err(Failure::input(format!(
            "{}: a newest policy goes by creation dates, which tags alone do not have",
            policy.name
        ))
        .hint("Try `tagboat explain`, which asks the registry."));
    }
    let (tags, hostile) = read_tags(&arguments.tags)?;
    let mut details = HashMap::new();
    if let PolicyKind::Digest(tag) = &policy.choice {
        // Which digest it is at present only the registry knows; here the tag itself is the answer.
        policy.reflect = spec::DigestReflection::Never;
        details.insert(
            tag.as_str().to_owned(),
            policy::TagFacts {
                fresh: true,
                ..policy::TagFacts::default()
            },
        );
    }
    let question = PolicyInput {
        policy: &policy,
        present: None,
        holds: &Holds::default(),
        now: Timestamp::now(),
    };
    let (outcome, refused) = policy::explain(
        &question,
        &RegistryFacts {
            tags: &tags,
            details: &details,
        },
    );
    let mut refused: Vec<(String, String)> = refused
        .into_iter()
        .map(|(tag, refusal)| (tag, refusal.to_string()))
        .collect();
    refused.extend(hostile);
    let (selected, reason) = match outcome {
        PolicyOutcome::Chosen(chosen) => (Some(chosen), None),
        PolicyOutcome::Nothing { reason, .. } => (None, Some(reason)),
        PolicyOutcome::Needs(needs) => {
            return Err(Failure::input(format!(
                "{}: facts of the registry are missing: {needs:?}",
                policy.name
            )));
        }
    };
    if screen.is_json() {
        screen.json(&json!({
            "policy": policy.name.to_string(),
            "selected": selected.as_ref().map_or(Value::Null, |chosen| {
                json!({"tag": chosen.tag.as_str(), "digest": chosen.digest.as_ref().map(|digest| digest.as_str())})
            }),
            "refused": refused.iter().map(|(tag, reason)| json!({"tag": tag, "reason": reason})).collect::<Vec<_>>(),
        }));
    } else {
        if let Some(chosen) = &selected {
            screen.line(screen.paint(Color::Green, &chosen.tag));
        }
        for (tag, reason) in &refused {
            let line = format!("  {} {reason}", tag.escape_debug());
            screen.note(screen.paint(Color::Dim, line));
        }
        if let Some(reason) = reason {
            screen.note(format_args!("nothing was chosen: {reason}"));
        }
    }
    Ok(if selected.is_some() {
        Exit::Done
    } else {
        Exit::Findings
    })
}

fn find(arguments: &Arguments, screen: &mut Screen) -> Result<ImagePolicy, Failure> {
    let mut files = Vec::new();
    for path in &arguments.files {
        let bytes = fs::read(path)
            .map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
        files.push((path.display().to_string(), bytes));
    }
    // The name of the file may end in anything here; the reader goes by endings.
    let named: Vec<(String, &[u8])> = files
        .iter()
        .map(|(path, bytes)| {
            (
                if path.ends_with(".yaml") || path.ends_with(".yml") {
                    path.clone()
                } else {
                    format!("{path}.yaml")
                },
                bytes.as_slice(),
            )
        })
        .collect();
    let declared = spec::read_policies(named.iter().map(|(path, bytes)| (path.as_str(), *bytes)));
    let mut wrong = false;
    for mistake in &declared.mistakes {
        screen.note(mistake);
        wrong |= mistake.severity == Severity::Error;
    }
    let known: Vec<String> = declared.policies.keys().map(Name::to_string).collect();
    let policy = match &arguments.policy {
        Some(name) => declared.policies.get(name).cloned(),
        None if declared.policies.len() == 1 && !wrong => declared.policies.into_values().next(),
        None => None,
    };
    policy.ok_or_else(|| {
        let files: Vec<String> = arguments
            .files
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let files = files.join(", ");
        match (&arguments.policy, known.as_slice()) {
            (Some(name), []) => {
                Failure::input(format!("{files}: there is no usable ImagePolicy {name}"))
            }
            (Some(name), known) => Failure::input(format!(
                "{files}: there is no ImagePolicy {name}; known are {}",
                known.join(", ")
            )),
            (None, []) => Failure::input(format!("{files}: there is no usable ImagePolicy")),
            (None, [_]) => Failure::input(format!(
                "{files}: mend the mistakes above, or name the policy with --policy"
            )),
            (None, known) => Failure::input(format!(
                "{files}: name one of the policies with --policy: {}",
                known.join(", ")
            )),
        }
    })
}

type Hostile = Vec<(String, String)>;

/// The tags of a file, one a line, and the lines that are no tags with their reason.
fn read_tags(path: &std::path::Path) -> Result<(TagList, Hostile), Failure> {
    let bytes = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    let bytes = bytes.map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
    let text = String::from_utf8_lossy(&bytes);
    let (mut tags, mut hostile) = (TagList::new(), Vec::new());
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.trim().is_empty() {
            continue;
        }
        if let Err(error) = tags.push(line.trim()) {
            hostile.push((
                line.trim().to_owned(),
                format!("is text that no tag can be: it {}", error.why),
            ));
        }
    }
    Ok((tags, hostile))
}
