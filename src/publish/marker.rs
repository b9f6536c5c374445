//! What a request says to the bot itself: a comment at the top of its text that people do not see.

use super::ImageMove;
use crate::{
    image::{Digest, Repository, Tag},
    name::Name,
};
use serde::{Deserialize, Serialize};

/// How the marker begins.
const BEGIN: &str = "<!-- tagboat:request ";
const END: &str = " -->";
/// The form that is written; others are not read.
const VERSION: u32 = 1;

/// What a request proposes, and what its text was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Marker {
    /// Of the form.
    version: u32,
    /// The Environment.
    pub environment: String,
    /// The policy or directory whose changes these are; none for all together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The images that it moves.
    pub moves: Vec<Proposed>,
    /// Moves that had no room, of requests with thousands.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut: usize,
    /// A hash of what the text was made from: it is written anew where this is another.
    pub content: String,
    /// Whether the text may become better when it is made again, because something could not be asked.
    #[serde(default, skip_serializing_if = "is_false")]
    pub again: bool,
    /// Whether the text says that a cluster refuses something: only of the text, which people can edit.
    #[serde(default, skip_serializing_if = "is_false")]
    pub refused: bool,
}

/// An image that a request moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proposed {
    /// The policy that chose.
    pub policy: Name,
    /// The repository.
    pub repository: Repository,
    /// What stands there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// The chosen tag.
    pub new: Tag,
    /// The digest written beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_false(word: &bool) -> bool {
    !*word
}

/// A marker that cannot be read: somebody has edited it, or a later tagboat wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its hidden marker cannot be read: {0}")]
pub struct MarkerError(String);

impl Marker {
    /// The marker of a request that moves these, whose text is made from `content`.
    pub fn new(environment: &str, group: Option<&str>, moves: &[ImageMove], content: String) -> Self {
        let proposed = |row: &ImageMove| Proposed {
            policy: row.policy.clone(),
            repository: row.repository.clone(),
            old: row.old.clone(),
            new: row.new.clone(),
            digest: row.digest.clone(),
        };
        Self {
            version: VERSION,
            environment: environment.to_owned(),
            group: group.map(str::to_owned),
            moves: moves.iter().map(proposed).collect(),
            cut: 0,
            content,
            again: false,
            refused: false,
        }
    }

    /// The marker as the first line of a request's text, of at most `most` characters: moves at the end are left out where
    /// there are too many. Nothing in it can end the comment early, or means anything to a forge.
    pub fn write(&self, most: usize) -> String {
        let mut fitting = self.clone();
        loop {
            let text = fitting.text();
            if text.chars().count() <= most || fitting.moves.is_empty() {
                return text;
            }
            let kept = fitting.moves.len() * 3 / 4;
            fitting.cut += fitting.moves.len() - kept;
            fitting.moves.truncate(kept);
        }
    }

    fn text(&self) -> String {
        // In JSON these stand in strings only, where each may be written by its number.
        let json = serde_json::to_string(self).unwrap_or_default();
        let mut text = String::with_capacity(json.len() + 32);
        text.push_str(BEGIN);
        for c in json.chars() {
            match c {
                '<' | '>' | '&' | '@' | '#' | '`' | '!' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
                c if !c.is_ascii() || c.is_ascii_control() => {
                    let mut units = [0; 2];
                    c.encode_utf16(&mut units).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
                }
                c => text.push(c),
            }
        }
        text.push_str(END);
        text
    }

    /// Reads the first marker of a text; none where there is none.
    ///
    /// # Errors
    /// If there is one that cannot be read.
    pub fn read(text: &str) -> Result<Option<Self>, MarkerError> {
        let Some((_, rest)) = text.split_once(BEGIN) else { return Ok(None) };
        let wrong = |why: String| MarkerError(why.chars().take(200).flat_map(char::escape_debug).collect());
        let (json, _) = rest.split_once("-->").ok_or_else(|| wrong("it has no end".to_owned()))?;
        let marker: Self = serde_json::from_str(json.trim()).map_err(|error| wrong(error.to_string()))?;
        if marker.version != VERSION {
            return Err(wrong(format!("it is of version {}, and this tagboat reads version {VERSION}", marker.version)));
        }
        Ok(Some(marker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version;
    use proptest::prelude::*;

    fn row(old: Option<String>) -> ImageMove {
        ImageMove {
            policy: "apps/web".parse().unwrap(),
            repository: Repository::new("ghcr.io/acme/web").unwrap(),
            bump: version::bump(old.as_deref(), "1.1.0"),
            old,
            new: Tag::new("1.1.0").unwrap(),
            digest: Some(Digest::new(format!("sha256:{}", "a".repeat(64))).unwrap()),
            places: Vec::new(),
        }
    }

    #[test]
    fn a_text_without_a_marker_has_none_and_a_broken_one_says_why() {
        assert_eq!(Marker::read("Nothing to see\r\n<!-- tagboat:others -->"), Ok(None));
        let good = Marker::new("prod", None, &[row(None)], "c".into()).write(10_000);
        for (text, why) in [
            ("<!-- tagboat:request {", "no end"),
            ("<!-- tagboat:request {} -->", "missing field"),
            ("<!-- tagboat:request {\u{1b}[31m} -->", "key must be a string"),
            (&good.replace("\"version\":1", "\"version\":2"), "version 2"),
            (&good.replace("apps/web", "../.."), "name"),
            (&good.replace("1.1.0", "1 1 0"), "tag"),
        ] {
            let error = Marker::read(text).unwrap_err().to_string();
            assert!(error.to_lowercase().contains(why) && !error.contains('\u{1b}'), "{text}: {error}");
        }
    }

    #[test]
    fn thousands_of_moves_are_cut_whole() {
        let all = Marker::new("prod", Some("apps/web"), &vec![row(Some("1.0.0".into())); 3000], "c".into());
        let text = all.write(20_000);
        let read = Marker::read(&text).unwrap().unwrap();
        assert!(text.len() <= 20_000 && read.moves.len() > 20, "{}", text.len());
        assert_eq!(read.moves.len() + read.cut, 3000);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_whatever_stands_in_it(
            old in proptest::option::of(".*"), group in proptest::option::of(".*"), content in ".*", again: bool, refused: bool, tail in ".*",
        ) {
            let mut marker = Marker::new("prod", group.as_deref(), &[row(old)], content);
            (marker.again, marker.refused) = (again, refused);
            check(&marker, &tail)?;
        }

        #[test]
        fn nothing_ends_it_early(old in "[-<>!@#`&\\\\\"a ]{0,40}", tail in "[-<>! a]{0,20}") {
            check(&Marker::new(&old, Some(&old), &[row(Some(old.clone()))], old.clone()), &tail)?;
        }
    }

    fn check(marker: &Marker, tail: &str) -> Result<(), TestCaseError> {
        let text = marker.write(1 << 20);
        prop_assert!(text.is_ascii() && !text.contains('\n'));
        let inside = text.strip_prefix("<!--").and_then(|text| text.strip_suffix("-->")).unwrap();
        prop_assert!(!inside.contains(['<', '>', '@', '#']), "{}", inside);
        prop_assert_eq!(Marker::read(&format!("before\r\n{text}\r\n{tail}")).unwrap(), Some(marker.clone()));
        Ok(())
    }
}
