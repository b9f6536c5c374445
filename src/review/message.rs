//! Commit messages: a function of the change set, so that a retry writes the same.

use super::{ChangeSet, ImageMove};
use crate::core::error::{Classify, ErrorKind};
use minijinja::{Environment, value::Serde};
use serde_json::{Value, json};

/// Trailer of the bot's own updates, by which the history knows them (holds after a revert).
pub const TRAILER: &str = "Tagboat-Update";

/// Characters of a subject. Git's tools cut longer ones.
const SUBJECT: usize = 72;

/// Steps of a template: enough for thousands of rows, and an end for endless loops.
const FUEL: u64 = 1_000_000;

/// Bytes of a message from a template.
const MOST_BYTES: usize = 64 << 10;

/// Writes commit messages, by a template if there is one.
#[derive(Debug, Clone, Default)]
pub struct CommitMessage {
    template: Option<String>,
}

/// An error of a template.
#[derive(Debug, thiserror::Error)]
#[error("the commit message template (repositories[].message) failed: {0}")]
pub struct CommitMessageError(String);

impl Classify for CommitMessageError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Config
    }
}

impl CommitMessage {
    /// Creates a writer with the built-in message or a template.
    ///
    /// A template sees `environment`, `group` and `images`, each with `policy`, `repository`,
    /// `image`, `old`, `new`, `digest`, `bump`, `step` and `places` (of `file` and `line`).
    pub fn new(template: Option<String>) -> Self {
        Self { template }
    }

    /// Returns the whole message, which always has the trailer.
    ///
    /// # Errors
    /// If the template cannot be rendered, or makes no subject.
    pub fn of(&self, set: &ChangeSet) -> Result<String, CommitMessageError> {
        let text = match &self.template {
            None => format!("{}\n\n{}", subject(set), body(set)),
            Some(template) => render(template, set)?,
        };
        let clean = clean(&text);
        let group = set.group.as_deref().map_or(String::new(), |group| {
            format!(" ({})", group.escape_debug())
        });
        Ok(format!(
            "{}\n\n{TRAILER}: {}{group}\n",
            clean.trim(),
            set.environment
        ))
    }
}

/// Returns the subject: `dev: podinfo 6.5.0 → 6.5.1`, with as many images as fit.
pub fn subject(set: &ChangeSet) -> String {
    let head = format!("{}: ", set.environment);
    let rows: Vec<String> = set
        .moves
        .iter()
        .map(|row| format!("{} {}", row.image(), row.step()))
        .collect();
    let length = |text: &str| text.chars().count();
    for shown in (1..=rows.len()).rev() {
        let rest = rows.len() - shown;
        let more = if rest == 0 {
            String::new()
        } else {
            format!(" and {rest} more")
        };
        let text = format!("{head}{}{more}", rows[..shown].join(", "));
        if length(&text) <= SUBJECT {
            return text;
        }
    }
    let text = match set.moves.as_slice() {
        [row] => format!("{head}update {} to {}", row.image(), row.new),
        rows => format!("{head}update {} images", rows.len()),
    };
    if length(&text) <= SUBJECT {
        text
    } else {
        text.chars().take(SUBJECT - 1).chain(['…']).collect()
    }
}

fn body(set: &ChangeSet) -> String {
    let row = |row: &ImageMove| {
        let digest = row
            .digest
            .as_ref()
            .map_or(String::new(), |digest| format!("\n  {digest}"));
        let places: String = row
            .places
            .iter()
            .map(|place| format!("\n  {}:{}", place.file, place.line))
            .collect();
        format!(
            "{} {} (policy {}){digest}{places}",
            row.repository,
            row.step(),
            row.policy
        )
    };
    set.moves.iter().map(row).collect::<Vec<_>>().join("\n")
}

fn render(template: &str, set: &ChangeSet) -> Result<String, CommitMessageError> {
    let failed = |error: minijinja::Error| CommitMessageError(error.to_string());
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    let images: Vec<Value> = set
        .moves
        .iter()
        .map(|row| {
            let mut image = json!(row);
            image["image"] = json!(row.image());
            image["step"] = json!(row.step());
            image
        })
        .collect();
    let context = json!({"environment": set.environment, "group": set.group, "images": images, "subject": subject(set)});
    let text = environment
        .render_str(template, Serde(context))
        .map_err(failed)?;
    if text.trim().is_empty() {
        return Err(CommitMessageError("it makes an empty message".to_owned()));
    }
    if text.len() > MOST_BYTES {
        return Err(CommitMessageError(format!(
            "it makes more than {} KiB",
            MOST_BYTES >> 10
        )));
    }
    Ok(text)
}

/// Removes control characters but line ends: a message is printed on terminals.
fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || *c == '\n')
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{
            image::{Digest, ImageRepository, Tag},
            version,
        },
        review::FileLine,
    };

    fn set(rows: &[(&str, Option<&str>, &str)]) -> ChangeSet {
        let moves = rows
            .iter()
            .map(|(repository, old, new)| ImageMove {
                policy: format!("apps/{}", repository.rsplit('/').next().unwrap())
                    .parse()
                    .unwrap(),
                repository: ImageRepository::new(repository).unwrap(),
                old: old.map(str::to_owned),
                new: Tag::new(*new).unwrap(),
                digest: (*old == Some(new))
                    .then(|| Digest::new(format!("sha256:{}", "a".repeat(64))).unwrap()),
                bump: version::bump(*old, new),
                places: vec![FileLine {
                    file: "envs/dev/app.yaml".to_owned(),
                    line: 12,
                }],
            })
            .collect();
        ChangeSet {
            environment: "dev".to_owned(),
            group: None,
            moves,
            files: Vec::new(),
        }
    }

    #[test]
    fn message_subject_names_moves_in_72_characters() {
        for (rows, expected) in [
            (
                vec![("ghcr.io/a/podinfo", Some("6.5.0"), "6.5.1")],
                "dev: podinfo 6.5.0 → 6.5.1",
            ),
            (
                vec![("ghcr.io/a/podinfo", Some("latest"), "latest")],
                "dev: podinfo latest → sha256:aaaaaaaaaaaa",
            ),
            (
                vec![
                    ("a/one", Some("1.0.0"), "1.1.0"),
                    ("a/two", Some("1.0.0"), "1.1.0"),
                    ("a/three", Some("1.0.0"), "1.1.0"),
                ],
                "dev: one 1.0.0 → 1.1.0, two 1.0.0 → 1.1.0, three 1.0.0 → 1.1.0",
            ),
            (
                vec![
                    ("a/service-one", Some("1.0.0-beta.1"), "1.1.0-beta.1"),
                    ("a/two", Some("1.0.0-beta.1"), "1.1.0-beta.2"),
                ],
                "dev: service-one 1.0.0-beta.1 → 1.1.0-beta.1 and 1 more",
            ),
        ] {
            assert_eq!(subject(&set(&rows)), expected);
        }
        let long = "x".repeat(120);
        let text = subject(&set(&[("a/one", Some("1.0.0"), &long)]));
        assert!(
            text.chars().count() <= 72 && text.starts_with("dev: update one to xxx"),
            "{text}"
        );
    }

    #[test]
    fn message_has_a_row_per_image_and_a_trailer() {
        let text = CommitMessage::default()
            .of(&set(&[("ghcr.io/a/podinfo", Some("6.5.0"), "6.5.1")]))
            .unwrap();
        assert_eq!(
            text,
            "dev: podinfo 6.5.0 → 6.5.1\n\nghcr.io/a/podinfo 6.5.0 → 6.5.1 (policy apps/podinfo)\n  envs/dev/app.yaml:12\n\nTagboat-Update: dev\n"
        );
    }

    #[test]
    fn message_template_sees_all_and_is_bounded() {
        let message = |template: &str| {
            CommitMessage::new(Some(template.to_owned()))
                .of(&set(&[("ghcr.io/a/podinfo", Some("6.5.0"), "6.5.1")]))
                .map_err(|e| e.to_string())
        };
        let text = message(
            "chore({{ environment }}): {% for i in images %}{{ i.image }} to {{ i.new }} [{{ i.bump }}] {{ i.places[0].file }}{% endfor %}\u{1b}[31m",
        );
        assert_eq!(
            text.unwrap(),
            "chore(dev): podinfo to 6.5.1 [patch] envs/dev/app.yaml[31m\n\nTagboat-Update: dev\n"
        );
        assert!(message("{{ nothing.at.all }}").is_err());
        assert!(message("  ").is_err());
        assert!(message("{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}").is_err());
    }
}
