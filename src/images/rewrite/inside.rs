//! Image references inside other text: `--image=repo:tag`, a command line, JSON.

use crate::core::image::{ImageRef, ImageRepository};
use std::ops::Range;

/// The only reference of `repository` with a tag or a digest in `text`; `None` if there is none or
/// more than one. A bare name does not count: `nginx` in a command line is a program.
pub(crate) fn only(text: &str, repository: &ImageRepository) -> Option<(Range<usize>, ImageRef)> {
    let mut found = words(text).filter_map(|range| {
        let image = ImageRef::new(&text[range.clone()]).ok()?;
        (image.repository == *repository && (image.tag.is_some() || image.digest.is_some()))
            .then_some((range, image))
    });
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// The runs of characters that an image reference is made of; a scheme in front is cut off.
fn words(text: &str) -> impl Iterator<Item = Range<usize>> {
    let part = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/' | b':' | b'@')
    };
    let mut at = 0;
    std::iter::from_fn(move || {
        let bytes = text.as_bytes();
        let start = at + bytes[at..].iter().position(|&byte| part(byte))?;
        let end = start
            + bytes[start..]
                .iter()
                .position(|&byte| !part(byte))
                .unwrap_or(bytes.len() - start);
        at = end;
        let start = text[start..end]
            .find("://")
            .map_or(start, |scheme| start + scheme + 3);
        Some(start..end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_needs_exactly_one_reference() {
        let repository = ImageRepository::new("ghcr.io/a/b").unwrap();
        for (text, expected) in [
            ("--image=ghcr.io/a/b:1", Some("ghcr.io/a/b:1")),
            (
                "run \"ghcr.io/a/b:1\" 'ghcr.io/a/c:2'",
                Some("ghcr.io/a/b:1"),
            ),
            ("oci://ghcr.io/a/b:1,x", Some("ghcr.io/a/b:1")),
            ("{\"image\":\"ghcr.io/a/b:1\"}", Some("ghcr.io/a/b:1")),
            ("ghcr.io/a/b:1 ghcr.io/a/b:1", None),
            ("ghcr.io/a/b", None),
            ("xghcr.io/a/b:1 ghcr.io/a/b-c:1 ghcr.io/a/b/c:1", None),
            ("é ghcr.io/a/b:1é", Some("ghcr.io/a/b:1")),
            ("", None),
        ] {
            assert_eq!(
                only(text, &repository).map(|(range, _)| &text[range]),
                expected,
                "{text}"
            );
        }
    }
}
