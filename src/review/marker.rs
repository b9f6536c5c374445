//! The marker of a pull request: a hidden comment at the top of its text, for the bot itself.

use super::{ImageMove, types::PullRequest};
use crate::core::{
    image::{Digest, ImageRepository, Tag},
    name::Name,
};
use serde::{Deserialize, Serialize};
pub use signature::{MarkerKey, MarkerSubject, without_signature};
use written::SerializedMarker;

mod signature;
mod written;

const BEGIN: &str = "<!-- tagboat:request ";
const END: &str = " -->";

/// The content of a pull request, as the bot reads it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SerializedMarker", into = "SerializedMarker")]
pub struct Marker {
    pub environment: String,
    /// The policy or directory that groups the changes; none if all are together.
    pub group: Option<String>,
    pub moves: Vec<Proposed>,
    /// The updater that owns it; older markers have none.
    pub scope: Option<MarkerScope>,
    /// Moves that had no room; a pull request can have hundreds.
    pub cut: usize,
    /// Hash of everything that the text is made from. If it differs, the text is written again.
    pub content: String,
    /// True if the text may become better when it is written again, because a call had failed.
    pub again: bool,
    /// True if the text shows a refusal by a cluster. It describes only the text, which people can
    /// edit.
    pub refused: bool,
    /// Held versions that `tagboat release` proposes here. Their holds rest while it is open.
    pub released: Vec<ReleasedVersion>,
}

/// A held version that a person asked for again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasedVersion {
    pub policy: Name,
    /// A tag, or a digest for policies that follow one.
    pub version: String,
}

/// The owner of a pull request among several updaters of one repository: each owns what it
/// declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MarkerScope {
    /// The file that declares the Environment.
    pub file: String,
    /// The branch that the updater follows.
    pub target: String,
}

/// A proposed move of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proposed {
    pub policy: Name,
    pub repository: ImageRepository,
    /// The present value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    pub new: Tag,
    /// The digest written beside the tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

impl ReleasedVersion {
    /// Returns whether a move brings this version.
    pub fn is_in(&self, image: &ImageMove) -> bool {
        image.policy == self.policy
            && (image.new.as_str() == self.version
                || image
                    .digest
                    .as_ref()
                    .is_some_and(|digest| digest.as_str() == self.version))
    }
}

/// A marker that a person has edited, or that a later version wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its hidden marker cannot be read: {0}")]
pub struct MarkerError(String);

impl Marker {
    /// Creates a marker.
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
            released: Vec::new(),
        }
    }

    /// Returns the marker as the first line of a text, with at most `most` characters, signed if a
    /// key is given.
    ///
    /// If there are too many moves, it drops first the digests whose tag is enough, then moves at
    /// the end. Nothing in it can end the comment early, or means anything to a forge.
    pub fn write(&self, most: usize, signer: Option<(&MarkerKey, MarkerSubject<'_>)>) -> String {
        let most = most.saturating_sub(signer.map_or(0, |_| signature::SIGNATURE_LENGTH));
        let json = self.fitting(most.saturating_sub(BEGIN.len() + END.len()));
        let signature = signer.map(|(key, subject)| key.sign(subject, &json));
        format!("{BEGIN}{json}{}{END}", signature.unwrap_or_default())
    }

    /// Returns the JSON with at most `most` characters, as far as there are moves to drop.
    fn fitting(&self, most: usize) -> String {
        let whole = self.text();
        if whole.len() <= most {
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
            if text.len() <= most || fitting.moves.is_empty() {
                return text;
            }
            let kept = fitting.moves.len() * 3 / 4;
            fitting.cut += fitting.moves.len() - kept;
            fitting.moves.truncate(kept);
        }
    }

    /// Returns the JSON in ASCII.
    fn text(&self) -> String {
        // In JSON these characters occur in strings only, where each may be escaped.
        let json = serde_json::to_string(self).unwrap_or_default();
        let mut text = String::with_capacity(json.len() + 32);
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
        text
    }

    /// Reads the first marker of a text, if there is one.
    ///
    /// # Errors
    /// If there is one that cannot be read.
    pub fn read(text: &str) -> Result<Option<Self>, MarkerError> {
        let Some((_, rest)) = text.split_once(BEGIN) else {
            return Ok(None);
        };
        let wrong =
            |why: String| MarkerError(why.chars().take(200).flat_map(char::escape_debug).collect());
        let inside = enclosed(rest).ok_or_else(|| wrong("it has no end".to_owned()))?;
        let (json, _) = signature::split(inside);
        serde_json::from_str(json)
            .map(Some)
            .map_err(|error| wrong(error.to_string()))
    }

    /// Reads the marker of a pull request; none if it cannot be read.
    pub fn of(request: &PullRequest) -> Option<Self> {
        Self::read(&request.body).ok().flatten()
    }
}

/// Returns the content of a comment whose begin was read.
fn enclosed(rest: &str) -> Option<&str> {
    Some(rest.split_once("-->")?.0)
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
    fn marker_absent_is_none_broken_is_error() {
        assert_eq!(
            Marker::read("Nothing to see\r\n<!-- tagboat:others -->"),
            Ok(None)
        );
        let good = Marker::new("prod", None, &[row(None)], "c".into()).write(10_000, None);
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
    fn marker_thousands_of_moves_cut_at_a_row() {
        let mut all = Marker::new(
            "prod",
            Some("apps/web"),
            &vec![row(Some("1.0.0".into())); 3000],
            "c".into(),
        );
        all.moves[0].old = Some("1.1.0".to_owned());
        let text = all.write(20_000, None);
        let read = Marker::read(&text).unwrap().unwrap();
        assert!(
            text.len() <= 20_000 && read.moves.len() > 20,
            "{}",
            text.len()
        );
        assert_eq!(read.moves.len() + read.cut, 3000);
        // Where the tag stays, the digest is the whole proposal.
        assert_eq!(
            read.moves.iter().filter(|row| row.digest.is_some()).count(),
            1
        );
    }

    #[test]
    fn marker_hundreds_of_moves_fit_every_forge() {
        // GitHub has the shortest limit, 65,536 characters; half of them are the marker's.
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
            let read = Marker::read(&all.write(32_768, None)).unwrap().unwrap();
            assert_eq!(
                (read.cut, read.moves.len(), read == all),
                (0, count, digests)
            );
        }
    }

    #[test]
    fn marker_first_format_is_read() {
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
        fn marker_any_content_round_trips(
            old in proptest::option::of(".*"), group in proptest::option::of(".*"), content in ".*", again: bool, refused: bool, tail in ".*",
        ) {
            let mut marker = Marker::new("prod", group.as_deref(), &[row(old)], content);
            marker.scope = group.map(|file| MarkerScope { target: file.clone(), file });
            (marker.again, marker.refused) = (again, refused);
            check(&marker, &tail)?;
        }

        #[test]
        fn marker_content_cannot_end_the_comment(old in "[-<>!@#`&\\\\\"a ]{0,40}", tail in "[-<>! a]{0,20}") {
            check(&Marker::new(&old, Some(&old), &[row(Some(old.clone()))], old.clone()), &tail)?;
        }
    }

    fn check(marker: &Marker, tail: &str) -> Result<(), TestCaseError> {
        let text = marker.write(1 << 20, None);
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
