//! The author and the message of a command's commit.

use crate::{core::text::without_controls_but_lines, io::git::Person};
use serde::{Deserialize, Serialize};

/// The part of a command's commit that comes from the person who runs it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandCommit {
    /// The author; the bot if there is none.
    pub author: Option<CommandAuthor>,
    /// Text for the message.
    pub message: Option<String>,
}

/// Name and address of a person, as Git has them configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandAuthor {
    pub name: String,
    pub email: String,
}

impl CommandCommit {
    /// Bytes of the person's text: more is cut.
    const MOST_BYTES: usize = 16 << 10;

    /// Returns the author; none if Git could not write the name.
    pub(crate) fn person(&self) -> Option<Person> {
        let author = self.author.as_ref()?;
        Person::new(&author.name, &author.email).ok()
    }

    /// Puts the person's text below the subject of a message.
    pub(crate) fn describe(&self, message: &str) -> String {
        let Some(text) = &self.message else {
            return message.to_owned();
        };
        let text = text.get(..text.floor_char_boundary(Self::MOST_BYTES));
        let text = without_controls_but_lines(text.unwrap_or_default());
        match text.trim() {
            "" => message.to_owned(),
            text => below_subject(message, text),
        }
    }
}

/// Puts a paragraph between the subject and the rest of a message.
pub(crate) fn below_subject(message: &str, paragraph: &str) -> String {
    match message.split_once('\n') {
        Some((subject, rest)) => format!(
            "{subject}\n\n{paragraph}\n\n{}",
            rest.trim_start_matches('\n')
        ),
        None => format!("{message}\n\n{paragraph}\n"),
    }
}

/// Returns a subject of at most 72 characters, because Git's tools cut longer ones.
pub(crate) fn subject(before: &str, name: &str, after: &str) -> String {
    let room = 72usize.saturating_sub(before.chars().count() + after.chars().count());
    if name.chars().count() <= room {
        return format!("{before}{name}{after}");
    }
    // The end of a name is more specific than its beginning.
    let skip = name.chars().count() - room.saturating_sub(1);
    format!(
        "{before}…{}{after}",
        name.chars().skip(skip).collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subject_fits_for_long_names() {
        assert_eq!(
            subject("Roll back ", "dev/podinfo", " to 1a2b3c4d5e"),
            "Roll back dev/podinfo to 1a2b3c4d5e"
        );
        let long = subject(
            "Roll back ",
            &format!("{}/{}", "n".repeat(63), "m".repeat(63)),
            " to 1a2b3c4d5e",
        );
        assert!(
            long.chars().count() == 72 && long.ends_with("m to 1a2b3c4d5e"),
            "{long}"
        );
    }
}
