//! Texts that name a watched image with its version outside of every known place: arguments,
//! environment variables, ConfigMaps. They are listed, so that nothing is ignored silently.

use super::{FileKind, Findings, Needles, Note, NoteKind, YamlFile};
use crate::core::{image::ImageRef, yaml::YamlComment};
use std::ops::Range;

/// Notes of one file; a generated file may have thousands of mentions.
const MOST: usize = 50;

/// Mentions of watched images that are no references, by their first byte.
pub(super) type Mentions = Vec<(usize, ImageRef)>;

/// Finds the mentions; `None` if nothing in the file names a watched image.
pub(super) fn find(
    file: &YamlFile<'_>,
    needles: &Needles,
    findings: &Findings,
) -> Option<Mentions> {
    let is_parsed = matches!(
        file.kind(),
        FileKind::Yaml | FileKind::Kustomization | FileKind::Json
    );
    let is_encrypted = |note: &Note| note.kind == NoteKind::Encrypted;
    let source = file.bytes();
    let Some(text) = std::str::from_utf8(source)
        .ok()
        .filter(|_| is_parsed && !findings.notes.iter().any(is_encrypted))
    else {
        return needles.hit(source).then(Vec::new);
    };
    let mut spans: Vec<Range<usize>> = findings
        .references
        .iter()
        .flat_map(|reference| &reference.slots)
        .map(|slot| slot.span.clone())
        .collect();
    spans.sort_by_key(|span| span.start);
    let is_reference = |range: &Range<usize>| {
        let before = spans.partition_point(|span| span.start <= range.start);
        spans[..before]
            .last()
            .is_some_and(|span| range.end <= span.end)
    };
    let mut found = None;
    let mut end = 0;
    for segment in needles.segments(source) {
        let found = found.get_or_insert_with(Vec::new);
        // A version follows the segment at once.
        if segment.start < end || !matches!(source.get(segment.end), Some(b':' | b'@')) {
            continue;
        }
        let range = word(text, &segment);
        end = range.end;
        if is_reference(&range) {
            continue;
        }
        let image = ImageRef::new(&text[range.clone()]).ok().filter(|image| {
            (image.tag.is_some() || image.digest.is_some()) && needles.watches(&image.repository)
        });
        found.extend(image.map(|image| (range.start, image)));
        if found.len() == MOST {
            break;
        }
    }
    found.or_else(|| needles.hit_without_segments(source).then(Vec::new))
}

/// Adds a note for each mention.
pub(super) fn note(file: &YamlFile<'_>, mentions: Mentions, findings: &mut Findings) {
    if mentions.is_empty() {
        return;
    }
    // A file that cannot be parsed has a note about that already.
    let Some(stream) = file.stream() else {
        return;
    };
    let comments = stream.comments();
    for (at, image) in mentions
        .into_iter()
        .filter(|(at, _)| !is_comment(comments, *at))
    {
        let (line, column) = stream.line_column(at);
        // What is wrong on the line explains the mention, too.
        if findings
            .notes
            .iter()
            .any(|note| note.line == line && note.kind != NoteKind::Unmanaged)
        {
            continue;
        }
        findings.notes.push(Note {
            kind: NoteKind::Unmanaged,
            line,
            column,
            message: format!("{image} is named here and not updated: write a marker to manage it"),
        });
    }
    findings.notes.sort_by_key(|note| (note.line, note.column));
}

/// Returns the run of characters of an image reference around a segment, without a scheme.
fn word(text: &str, segment: &Range<usize>) -> Range<usize> {
    let part = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/' | b':' | b'@')
    };
    let bytes = text.as_bytes();
    let before = bytes[..segment.start]
        .iter()
        .rev()
        .take_while(|byte| part(byte));
    let mut start = segment.start - before.count();
    let after = bytes[segment.end..].iter().take_while(|byte| part(byte));
    let end = segment.end + after.count();
    if let Some(scheme) = text[start..segment.start].find("://") {
        start += scheme + 3;
    }
    start..end
}

fn is_comment(comments: &[YamlComment], at: usize) -> bool {
    let after = comments.partition_point(|comment| comment.span().start <= at);
    comments[..after]
        .last()
        .is_some_and(|comment| at < comment.span().end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::image::ImageRepository;

    #[test]
    fn mentions_outside_of_references_are_noted() {
        let web = ImageRepository::new("ghcr.io/acme/web").unwrap();
        let needles = Needles::new([&web]);
        let pod = "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: a\n    image: ghcr.io/acme/web:1.0 # ghcr.io/acme/web:0.9 before\n    args: [--sidecar=ghcr.io/acme/web:1.0, oci://ghcr.io/acme/web:1.0]\n    env:\n    - {name: I, value: 'ghcr.io/acme/web@sha256:0'}\n    - {name: J, value: ghcr.io/acme/web}\n    - {name: K, value: ghcr.io/acme/web-ui:1}\n    - {name: L, value: \"ghcr.io/acme/web:1.0\"}\n";
        let found = YamlFile::new(FileKind::Yaml, pod.as_bytes()).watched_findings(&needles);
        let notes: Vec<(NoteKind, u32, u32)> = found
            .notes
            .iter()
            .map(|note| (note.kind, note.line, note.column))
            .collect();
        assert_eq!(
            notes,
            [
                (NoteKind::Unmanaged, 7, 22),
                (NoteKind::Unmanaged, 7, 50),
                (NoteKind::Unmanaged, 12, 25)
            ]
        );
        assert_eq!(found.references.len(), 1);
        assert!(
            found.notes[0]
                .message
                .starts_with("ghcr.io/acme/web:1.0 is named here")
        );
        let many = format!("a:\n{}", "- -x=ghcr.io/acme/web:1.0\n".repeat(MOST * 2));
        let found = YamlFile::new(FileKind::Yaml, many.as_bytes()).watched_findings(&needles);
        assert_eq!(found.notes.len(), MOST);
    }
}
