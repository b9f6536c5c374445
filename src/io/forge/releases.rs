//! Selects the releases between two versions.

use super::{ForgeRelease, NOTES};
use crate::core::version::Version;
use std::cmp::Ordering;

/// Pages of a hundred that are looked through.
pub(crate) const MOST_PAGES: usize = 3;

/// The part before the version in a tag (`chart-`, `app/`), and the version.
fn split(tag: &str) -> Option<(&str, Version<'_>)> {
    let starts = std::iter::once(0).chain(
        tag.match_indices(['-', '/', '_', '@'])
            .map(|(at, found)| at + found.len()),
    );
    starts
        .filter_map(|at| Some((&tag[..at], Version::of_tag(&tag[at..]).ok()?)))
        .next()
}

/// Returns, of releases ordered latest first, those after `from` up to `to`. Versions are compared
/// behind a common prefix; pre-releases are left out unless `to` is one. Other names are found by
/// their position in the list.
pub(crate) fn between(all: Vec<ForgeRelease>, from: &str, to: &str) -> Vec<ForgeRelease> {
    let (Some((_, from_version)), Some((_, to_version))) = (split(from), split(to)) else {
        let Some(start) = all.iter().position(|release| release.tag == to) else {
            return Vec::new();
        };
        let end = all
            .iter()
            .position(|release| release.tag == from)
            .filter(|end| *end > start)
            .unwrap_or(start + 1);
        return all.into_iter().take(end).skip(start).collect();
    };
    // Of a repository with many parts the one whose release this is: the shortest name, to be
    // certain of one.
    let same = |release: &&ForgeRelease| {
        split(&release.tag)
            .is_some_and(|(_, version)| version.precedence(&to_version) == Ordering::Equal)
    };
    let prefix = all
        .iter()
        .filter(same)
        .filter_map(|release| Some(split(&release.tag)?.0.to_owned()))
        .min_by_key(String::len);
    let Some(prefix) = prefix else {
        return Vec::new();
    };
    let wanted = |release: &ForgeRelease| {
        split(&release.tag).is_some_and(|(before, version)| {
            before == prefix
                && version.precedence(&from_version) == Ordering::Greater
                && version.precedence(&to_version) != Ordering::Greater
                && (version.pre.is_empty() || !to_version.pre.is_empty())
        })
    };
    all.into_iter().filter(wanted).collect()
}

/// A release with its notes cut.
pub(crate) fn release(
    tag: String,
    name: Option<String>,
    notes: Option<&str>,
    url: String,
    at: Option<jiff::Timestamp>,
) -> ForgeRelease {
    ForgeRelease {
        tag,
        name: name.unwrap_or_default(),
        notes: crate::review::types::cut(notes.unwrap_or_default(), NOTES),
        url,
        at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(all: &[&str], from: &str, to: &str) -> Vec<String> {
        let all = all
            .iter()
            .map(|tag| release((*tag).to_owned(), None, None, String::new(), None))
            .collect();
        between(all, from, to)
            .into_iter()
            .map(|release| release.tag)
            .collect()
    }

    #[test]
    fn releases_between_two_versions_are_found() {
        let plain = [
            "v2.0.0",
            "v1.10.0",
            "v1.9.1",
            "v1.9.0",
            "v1.10.0-rc.1",
            "v1.8.0",
        ];
        assert_eq!(tags(&plain, "1.9.0", "1.10.0"), ["v1.10.0", "v1.9.1"]);
        assert_eq!(tags(&plain, "v1.9.1", "1.10.0-rc.1"), ["v1.10.0-rc.1"]);
        assert_eq!(
            tags(&plain, "1.0.0", "1.11.0"),
            [""; 0],
            "a version that is no release says nothing of the others"
        );
        assert_eq!(tags(&plain, "1.10.0", "1.9.0"), [""; 0]);
        let parts = [
            "web-1.3.0",
            "api/v1.3.0",
            "web-1.2.0",
            "api/v1.2.0",
            "web-1.1.0",
        ];
        assert_eq!(tags(&parts, "1.1.0", "1.3.0"), ["web-1.3.0", "web-1.2.0"]);
        let words = ["nightly-3", "nightly-2", "nightly-1"];
        assert_eq!(
            tags(&words, "nightly-1", "nightly-3"),
            ["nightly-3", "nightly-2"]
        );
        assert_eq!(tags(&words, "gone", "nightly-2"), ["nightly-2"]);
        assert_eq!(tags(&words, "nightly-1", "gone"), [""; 0]);
    }

    #[test]
    fn release_notes_are_cut() {
        let long = "ä".repeat(NOTES + 10);
        let cut = release("v1.0.0".into(), None, Some(&long), String::new(), None);
        assert_eq!(cut.notes.chars().count(), NOTES);
    }
}
