//! Commit messages: a function of the change set, so that a retry writes the same.

use super::{ChangeSet, ImageMove};
use crate::core::{
    error::{Classify, ErrorKind},
    text,
};
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
        let clean = text::without_controls_but_lines(&text);
        let text = clean.trim();
        let group = set.group.as_deref().map_or(String::new(), |group| {
            format!(" ({})", group.escape_debug())
        });
        // Git reads the last paragraph alone: a trailer after a block of trailers joins it.
        let gap = if ends_with_trailers(text) { "" } else { "\n" };
        Ok(format!(
            "{text}\n{gap}{TRAILER}: {}{group}\n",
            set.environment
        ))
    }
}

/// Returns whether the last paragraph of a message is a block of trailers, as Git reads it.
fn ends_with_trailers(message: &str) -> bool {
    gix::objs::commit::MessageRef::from_bytes(message.as_bytes())
        .body()
        .is_some_and(|body| body.trailers().next().is_some())
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
    let text = environment
        .render_str(template, Serde(context(set)))
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

/// Returns what a template sees. [`crate::spec::settings::message_sample`] has the same names.
fn context(set: &ChangeSet) -> Value {
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
    json!({"environment": set.environment, "group": set.group, "images": images, "subject": subject(set)})
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
        spec::settings,
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
    fn message_trailer_joins_a_block_of_trailers() {
        let set = set(&[("ghcr.io/a/podinfo", Some("6.5.0"), "6.5.1")]);
        for (template, expected) in [
            (
                "up\n\nSigned-off-by: Bot <bot@example.org>",
                "up\n\nSigned-off-by: Bot <bot@example.org>\nTagboat-Update: dev\n",
            ),
            (
                "up\n\nwhy\n\nChange-Id: I1234\nSigned-off-by: Bot <bot@example.org>\n\n",
                "up\n\nwhy\n\nChange-Id: I1234\nSigned-off-by: Bot <bot@example.org>\nTagboat-Update: dev\n",
            ),
            (
                "up\n\nSigned-off-by: Bot <bot@example.org>\n\nlast words",
                "up\n\nSigned-off-by: Bot <bot@example.org>\n\nlast words\n\nTagboat-Update: dev\n",
            ),
            ("fix: up", "fix: up\n\nTagboat-Update: dev\n"),
        ] {
            let message = CommitMessage::new(Some(template.to_owned()));
            assert_eq!(message.of(&set).unwrap(), expected);
        }
    }

    #[test]
    fn message_sample_of_the_settings_has_every_name() {
        fn names(value: &Value, path: &str, all: &mut Vec<String>) {
            match value {
                Value::Object(entries) => {
                    for (key, value) in entries {
                        names(value, &format!("{path}.{key}"), all);
                    }
                }
                Value::Array(items) => {
                    for item in items {
                        names(item, path, all);
                    }
                }
                _ => all.push(path.to_owned()),
            }
        }
        let shape = |value: &Value| {
            let mut all = vec![];
            names(value, "", &mut all);
            all.sort();
            all
        };
        let set = set(&[("ghcr.io/a/podinfo", Some("6.5.0"), "6.5.1")]);
        assert_eq!(shape(&context(&set)), shape(&settings::message_sample()));
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
