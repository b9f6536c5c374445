//! What a request says to the bot itself: a comment at the top of its text that people do not see.

use super::{ImageMove, types::PullRequest};
use crate::core::{
    image::{Digest, ImageRepository, Tag},
    name::Name,
};
use serde::{Deserialize, Serialize};
use written::SerializedMarker;

mod written;

/// How the marker begins.
const BEGIN: &str = "<!-- tagboat:request ";
const END: &str = " -->";

/// What a request proposes, and what its text was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SerializedMarker", into = "SerializedMarker")]
pub struct Marker {
    /// The Environment.
    pub environment: String,
    /// The policy or directory whose changes these are; none for all together.
    pub group: Option<String>,
    /// The images that it moves.
    pub moves: Vec<Proposed>,
    /// Which tagboat's it is; texts of older ones do not say it.
    pub scope: Option<MarkerScope>,
    /// Moves that had no room, of requests with hundreds.
    pub cut: usize,
    /// A hash of what the text was made from: it is written anew where this is another.
    pub content: String,
    /// Whether the text may become better when it is made again, because something could not be
    /// asked.
    pub again: bool,
    /// Whether the text says that a cluster refuses something: only of the text, which people can
    /// edit.
    pub refused: bool,
}

/// What tells the requests of several updaters of one repository apart: each has what it declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MarkerScope {
    /// The file that declares the Environment.
    pub file: String,
    /// The branch that is read and written.
    pub target: String,
}

/// An image that a request moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proposed {
    /// The policy that chose.
    pub policy: Name,
    /// The repository.
    pub repository: ImageRepository,
    /// What stands there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// The chosen tag.
    pub new: Tag,
    /// The digest written beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// A marker that cannot be read: somebody has edited it, or a later tagboat wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its hidden marker cannot be read: {0}")]
pub struct MarkerError(String);

impl Marker {
    /// The marker of a request that moves these, whose text is made from `content`.
    pub fn new(
        environment: &str,
        group: Option<&str>,
        moves: &[ImageMove],
        content: String,
    ) -> Self {
        let proposed = |row: &ImageMove| Proposed {
            policy: row.policy.clone(),
            repository: row.repository.clone(),
            old: row.old.clone(),
            new: row.new.clone(),
            digest: row.digest.clone(),
        };
        Self {
            environment: environment.to_owned(),
            group: group.map(str::to_owned),
            moves: moves.iter().map(proposed).collect(),
            scope: None,
            cut: 0,
            content,
            again: false,
            refused: false,
        }
    }

    /// The marker as the first line of a request's text, of at most `most` characters: where there
    /// are too many moves, first digests are left out beside which the tag says enough, then moves
    /// at the end. Nothing in it can end the comment early, or means anything to a forge.
    pub fn write(&self, most: usize) -> String {
        let whole = self.text();
        if whole.chars().count() <= most {
            return whole;
        }
        let mut fitting = self.clone();
        for row in fitting
            .moves
            .iter_mut()
            .filter(|row| row.old.is_some() && row.old.as_deref() != Some(row.new.as_str()))
        {
            row.digest = None;
        }
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
                '<' | '>' | '&' | '@' | '#' | '`' | '!' => {
                    text.push_str(&format!("\\u{:04x}", u32::from(c)))
                }
                c if !c.is_ascii() || c.is_ascii_control() => {
                    let mut units = [0; 2];
                    c.encode_utf16(&mut units)
                        .iter()
                        .for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
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
        let Some((_, rest)) = text.split_once(BEGIN) else {
            return Ok(None);
        };
        let wrong =
            |why: String| MarkerError(why.chars().take(200).flat_map(char::escape_debug).collect());
        let (json, _) = rest
            .split_once("-->")
            .ok_or_else(|| wrong("it has no end".to_owned()))?;
        serde_json::from_str(json.trim())
            .map(Some)
            .map_err(|error| wrong(error.to_string()))
    }

    /// The marker of a request; none where it has none that can be read.
    pub fn of(request: &PullRequest) -> Option<Self> {
        Self::read(&request.body).ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::version;
    use proptest::prelude::*;

    fn row(old: Option<String>) -> ImageMove {
        ImageMove {
            policy: "apps/web".parse().unwrap(),
            repository: ImageRepository::new("ghcr.io/acme/web").unwrap(),
            bump: version::bump(old.as_deref(), "1.1.0"),
            old,
            new: Tag::new("1.1.0").unwrap(),
            digest: Some(Digest::new(format!("sha256:{}", "a".repeat(64))).unwrap()),
            places: Vec::new(),
        }
    }

    #[test]
    fn a_text_without_a_marker_has_none_and_a_broken_one_says_why() {
        assert_eq!(
            Marker::read("Nothing to see\r\n<!-- tagboat:others -->"),
            Ok(None)
        );
        let good = Marker::new("prod", None, &[row(None)], "c".into()).write(10_000);
        for (text, why) in [
            ("<!-- tagboat:request {", "no end"),
            ("<!-- tagboat:request {} -->", "missing field"),
            (
                "<!-- tagboat:request {\u{1b}[31m} -->",
                "key must be a string",
            ),
            (&good.replace("\"version\":2", "\"version\":3"), "version 3"),
            (&good.replace("\"apps/\"", "\"../\""), "name"),
            (
                &good.replace("\"prefixes\":[", "\"prefixes\":[],\"others\":["),
                "prefix",
            ),
            (&good.replace("qqqqqq", "not64!"), "digest"),
            (&good.replace("1.1.0", "1 1 0"), "tag"),
        ] {
            let error = Marker::read(text).unwrap_err().to_string();
            assert!(
                error.to_lowercase().contains(why) && !error.contains('\u{1b}'),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn thousands_of_moves_are_cut_whole() {
        let mut all = Marker::new(
            "prod",
            Some("apps/web"),
            &vec![row(Some("1.0.0".into())); 3000],
            "c".into(),
        );
        all.moves[0].old = Some("1.1.0".to_owned());
        let text = all.write(20_000);
        let read = Marker::read(&text).unwrap().unwrap();
        assert!(
            text.len() <= 20_000 && read.moves.len() > 20,
            "{}",
            text.len()
        );
        assert_eq!(read.moves.len() + read.cut, 3000);
        // Where the tag stays, the digest is all that the request proposes.
        assert_eq!(
            read.moves.iter().filter(|row| row.digest.is_some()).count(),
            1
        );
    }

    #[test]
    fn hundreds_of_moves_have_room_on_every_forge() {
        // GitHub takes the shortest texts, of 65,536 characters; half of them are the marker's.
        let rows = |count: usize| {
            let row = |number: usize| ImageMove {
                policy: format!("default/service-{number}").parse().unwrap(),
                repository: ImageRepository::new(&format!(
                    "registry.example.org/acme/platform/service-{number}"
                ))
                .unwrap(),
                digest: Some(Digest::new(format!("sha256:{number:064x}")).unwrap()),
                ..row(Some("1.0.0-rc.1".into()))
            };
            (0..count).map(row).collect::<Vec<_>>()
        };
        for (count, digests) in [(250, true), (400, false)] {
            let all = Marker::new("prod", None, &rows(count), "c".into());
            let read = Marker::read(&all.write(32_768)).unwrap().unwrap();
            assert_eq!(
                (read.cut, read.moves.len(), read == all),
                (0, count, digests)
            );
        }
    }

    #[test]
    fn the_first_form_is_read() {
        let old = format!(
            "<!-- tagboat:request {{\"version\":1,\"environment\":\"prod\",\"group\":\"apps\",\"moves\":[{{\"policy\":\"apps/web\",\
             \"repository\":\"ghcr.io/acme/web\",\"old\":\"1.0.0\",\"new\":\"1.1.0\",\"digest\":\"sha256:{}\"}}],\"cut\":2,\
             \"content\":\"c\",\"again\":true}} -->",
            "a".repeat(64)
        );
        let mut marker = Marker::new(
            "prod",
            Some("apps"),
            &[row(Some("1.0.0".into()))],
            "c".into(),
        );
        (marker.cut, marker.again) = (2, true);
        assert_eq!(Marker::read(&old), Ok(Some(marker)));
        assert!(
            Marker::read(&old.replace("\"moves\"", "\"moved\""))
                .unwrap_err()
                .to_string()
                .contains("moves")
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_whatever_stands_in_it(
            old in proptest::option::of(".*"), group in proptest::option::of(".*"), content in ".*", again: bool, refused: bool, tail in ".*",
        ) {
            let mut marker = Marker::new("prod", group.as_deref(), &[row(old)], content);
            marker.scope = group.map(|file| MarkerScope { target: file.clone(), file });
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
        let inside = text
            .strip_prefix("<!--")
            .and_then(|text| text.strip_suffix("-->"))
            .unwrap();
        prop_assert!(!inside.contains(['<', '>', '@', '#']), "{}", inside);
        prop_assert_eq!(
            Marker::read(&format!("before\r\n{text}\r\n{tail}")).unwrap(),
            Some(marker.clone())
        );
        Ok(())
    }
}
