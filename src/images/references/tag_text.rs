//! The tag inside the text of a marked scalar: `1.0.0`, `1.0.0@sha256:…`, `--tag=1.0.0`.

use crate::core::image::{Digest, Tag};
use std::ops::Range;

/// Returns the byte range of the tag in the text of a scalar with a `:tag` marker.
///
/// The whole text where it is a tag, with or without a digest behind it; otherwise the only piece
/// that looks like one ([`only_piece`]). `None` if there is no such piece, or more than one.
pub(crate) fn range(text: &str) -> Option<Range<usize>> {
    whole(text).or_else(|| only_piece(text))
}

/// Returns whether a text is a tag, or a tag with a digest behind it.
pub(crate) fn is_tag(text: &str) -> bool {
    whole(text).is_some()
}

/// Returns the range of the tag if the text is a tag, or a tag with a digest behind it.
fn whole(text: &str) -> Option<Range<usize>> {
    let start = text.len() - text.trim_start().len();
    let (tag, digest) = match text.trim().split_once('@') {
        Some((tag, digest)) => (tag, Some(digest)),
        None => (text.trim(), None),
    };
    let is_tag = Tag::new(tag).is_ok() && digest.is_none_or(|digest| Digest::new(digest).is_ok());
    is_tag.then(|| start..start + tag.len())
}

/// Returns the only piece of a text that looks like a tag: a run of a tag's characters that has a
/// digit and is not the name in front of a `=`, as in `JAVA8_TAG=1.0.0`.
pub(crate) fn only_piece(text: &str) -> Option<Range<usize>> {
    let mut found = pieces(text).filter(|range| {
        let piece = &text[range.clone()];
        piece.bytes().any(|byte| byte.is_ascii_digit())
            && !text[range.end..].starts_with('=')
            && Tag::new(piece).is_ok()
    });
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

fn pieces(text: &str) -> impl Iterator<Item = Range<usize>> {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + bytes[at..].iter().position(part)?;
        let length = bytes[start..].iter().take_while(|byte| part(byte)).count();
        at = start + length;
        Some(start..at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_text_is_whole_or_the_only_piece() {
        let digest = format!("edge@sha256:{}", "0".repeat(64));
        for (text, expected) in [
            ("1.0.0", Some("1.0.0")),
            ("20260501", Some("20260501")),
            ("latest\n", Some("latest")),
            (digest.as_str(), Some("edge")),
            ("--tag=1.0.0", Some("1.0.0")),
            ("APP_VERSION=1.0.0", Some("1.0.0")),
            ("JAVA8_TAG=1.0.0", Some("1.0.0")),
            ("version: v2 (stable)", Some("v2")),
            ("ghcr.io/org/app:1.0.0", Some("1.0.0")),
            ("from 1.0.0 to 1.1.0", None),
            ("--tag=latest", None),
            ("${TAG}", None),
            ("edge@latest", None),
            ("é1.0", Some("1.0")),
            ("", None),
        ] {
            assert_eq!(range(text).map(|range| &text[range]), expected, "{text}");
        }
    }
}
