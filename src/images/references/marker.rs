//! Markers in Flux's form: `# {"$imagepolicy": "namespace:name"}`, optionally with `:tag`, `:name`
//! or `:digest` appended.
//!
//! A marker belongs to the scalar on its line; on a line of its own, to the scalar on the next line
//! at the same indent. If a line has several values (flow style), the marker belongs to the only
//! one that fits the requested part.
//!
//! The comment must be the marker and nothing else, as for Flux: a line that was commented out with
//! its marker is not one. The other comments that hold a marker are named in notes.

use super::{MARKER, Note, NoteKind, ReferencePart};
use crate::core::{
    image::{Digest, ImageRef, shown},
    name::Name,
    yaml::{Node, YamlComment, YamlStream},
};
use memchr::memmem::Finder;
use std::{collections::HashMap, sync::LazyLock};

static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARKER));

/// A parsed marker and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker {
    pub policy: Name,
    pub part: ReferencePart,
    pub line: u32,
    pub column: u32,
}

/// The markers of a file by the scalar they belong to, and notes for those that cannot be read or
/// belong to nothing.
pub(crate) fn attach(stream: &YamlStream<'_>) -> (HashMap<u32, Marker>, Vec<Note>) {
    let (mut markers, mut notes) = (HashMap::new(), vec![]);
    let source = stream.source();
    let (marked, strays) = mentions(stream);
    notes.extend(strays.into_iter().map(|byte| {
        let (line, column) = line_column(stream, byte);
        lost(
            line,
            column,
            "the marker stands in a text, not in a comment",
        )
    }));
    if marked.is_empty() {
        return (markers, notes);
    }
    let lines = ValueLines::of(stream);
    // Markers behind a value first: they win over one on the line above.
    let (own_line, behind): (Vec<YamlComment>, Vec<YamlComment>) =
        marked.into_iter().partition(|comment| {
            let before = &source[..comment.span().start];
            before[before.rfind('\n').map_or(0, |at| at + 1)..]
                .trim_matches(['\u{feff}', ' ', '\t', '\r'])
                .is_empty()
        });
    for (comment, own) in behind
        .into_iter()
        .map(|comment| (comment, false))
        .chain(own_line.into_iter().map(|comment| (comment, true)))
    {
        let (line, column) = (comment.line(), comment.column());
        let read = match read(stream.comment_text(&comment)) {
            Ok(Some(read)) => read,
            Ok(None) => continue,
            Err((kind, message)) => {
                notes.push(Note {
                    kind,
                    line,
                    column,
                    message,
                });
                continue;
            }
        };
        let found = if own {
            lines.below(source, &comment, read.1)
        } else {
            lines.behind(&comment, read.1)
        };
        match found {
            Err(why) => notes.push(lost(line, column, why)),
            Ok(node) if node.value().is_none() => notes.push(Note {
                kind: NoteKind::Alias,
                line,
                column,
                message:
                    "the marker stands at an alias, which is never edited: mark the anchored value"
                        .to_owned(),
            }),
            Ok(node) if markers.contains_key(&node.id()) => {
                notes.push(lost(line, column, "the value has another marker already"))
            }
            Ok(node) => {
                markers.insert(
                    node.id(),
                    Marker {
                        policy: read.0,
                        part: read.1,
                        line,
                        column,
                    },
                );
            }
        }
    }
    (markers, notes)
}

fn lost(line: u32, column: u32, why: &str) -> Note {
    Note {
        kind: NoteKind::LostMarker,
        line,
        column,
        message: format!("the marker belongs to nothing: {why}"),
    }
}

/// The comments that mention the marker, and the bytes of mentions outside of comments.
fn mentions(stream: &YamlStream<'_>) -> (Vec<YamlComment>, Vec<usize>) {
    let (mut marked, mut strays): (Vec<YamlComment>, Vec<usize>) = (vec![], vec![]);
    let comments = stream.comments();
    for at in FINDER.find_iter(stream.source().as_bytes()) {
        let after = comments.partition_point(|comment| comment.span().start <= at);
        match after
            .checked_sub(1)
            .map(|index| comments[index])
            .filter(|comment| comment.span().end > at)
        {
            Some(comment) if marked.last() == Some(&comment) => {}
            Some(comment) => marked.push(comment),
            None => strays.push(at),
        }
    }
    (marked, strays)
}

/// Returns the line and column of a byte inside a text, counted from the enclosing scalar: counting
/// from the start of the file for each of many would be quadratic.
fn line_column(stream: &YamlStream<'_>, byte: usize) -> (u32, u32) {
    let (mut low, mut high) = (0, stream.nodes().len() as u32);
    while low < high {
        let middle = low + (high - low) / 2;
        match stream
            .node(middle)
            .is_some_and(|node| node.span().start <= byte)
        {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    low.checked_sub(1)
        .and_then(|id| stream.node(id))
        .map_or((1, 1), |node| (node.line(), node.column()))
}

/// Reads a comment: `None` if it only mentions markers in prose.
///
/// # Errors
/// The kind of the note, and its message.
fn read(comment: &str) -> Result<Option<(Name, ReferencePart)>, (NoteKind, String)> {
    let Some(start) = comment.find('{') else {
        return Ok(None);
    };
    let bad = |message: String| (NoteKind::BadMarker, message);
    let in_text = |message: &str| (NoteKind::MarkerInText, message.to_owned());
    let front = comment[..start].strip_prefix('#').unwrap_or_default();
    if !front.trim().is_empty() {
        return Err(in_text(
            "this comment is no marker, because it has other text before it",
        ));
    }
    let mut values =
        serde_json::Deserializer::from_str(&comment[start..]).into_iter::<serde_json::Value>();
    let Some(Ok(value)) = values.next() else {
        return Err(bad(
            "the marker is no JSON: write {\"$imagepolicy\": \"namespace:name\"}".to_owned(),
        ));
    };
    let behind = &comment[start + values.byte_offset()..];
    if behind.contains(MARKER) {
        return Err(bad("there are two markers in one comment".to_owned()));
    }
    let Some(text) = value.get(MARKER) else {
        return Ok(None);
    };
    if !behind.trim().is_empty() {
        return Err(in_text(
            "this comment is no marker, because it has other text behind it",
        ));
    }
    let Some(text) = text.as_str() else {
        return Err(bad(
            "the marker's value is no text: write {\"$imagepolicy\": \"namespace:name\"}"
                .to_owned(),
        ));
    };
    policy_and_part(text).map(Some).map_err(bad)
}

/// Reads the text of a marker, `namespace:name[:part]`.
fn policy_and_part(text: &str) -> Result<(Name, ReferencePart), String> {
    let (name, part) = match text.match_indices(':').nth(1) {
        None => (text, ReferencePart::Whole),
        Some((at, _)) => {
            let part = match &text[at + 1..] {
                "tag" => ReferencePart::Tag,
                "name" => ReferencePart::Name,
                "digest" => ReferencePart::Digest,
                other => {
                    return Err(format!(
                        "the marker's part {} is none of tag, name, digest",
                        shown(other)
                    ));
                }
            };
            (&text[..at], part)
        }
    };
    let policy = name
        .parse::<Name>()
        .map_err(|error| format!("the marker names no policy: {error}"))?;
    Ok((policy, part))
}

/// A line, the key of the value on it, and the value.
type MarkedLine<'t> = (u32, Option<&'t str>, Node<'t>);

/// The values (never keys) of a file by line.
struct ValueLines<'t> {
    /// Values by the line of a comment behind them.
    behind: Vec<MarkedLine<'t>>,
    /// The same by the line that the value begins on.
    begins: Vec<MarkedLine<'t>>,
}

impl<'t> ValueLines<'t> {
    fn of(stream: &'t YamlStream<'t>) -> Self {
        let mut values = vec![];
        for root in stream.documents().flatten() {
            collect(root, None, &mut values);
        }
        let by = |line: fn(Node<'t>) -> u32| {
            let mut all: Vec<_> = values
                .iter()
                .map(|&(key, node)| (line(node), key, node))
                .collect();
            all.sort_by_key(|entry| (entry.0, entry.2.id()));
            all
        };
        Self {
            behind: by(Node::tail_line),
            begins: by(Node::head_line),
        }
    }

    fn behind(&self, comment: &YamlComment, part: ReferencePart) -> Result<Node<'t>, &'static str> {
        // A block scalar begins below the comment that follows its header.
        let all = on(&self.behind, comment.line());
        choose(
            all.iter().filter(|entry| {
                entry.2.span().end <= comment.span().start
                    || entry.2.style().is_some_and(|style| style.is_block())
            }),
            part,
        )
        .ok_or("no value, or no single one that fits, stands on its line")
    }

    fn below(
        &self,
        source: &str,
        comment: &YamlComment,
        part: ReferencePart,
    ) -> Result<Node<'t>, &'static str> {
        let next = source[comment.span().end..]
            .split_once('\n')
            .map_or("", |(_, rest)| rest);
        let indent = next.len() - next.trim_start_matches(' ').len();
        if indent + 1 != comment.column() as usize {
            return Err("the very next line has another indent");
        }
        choose(on(&self.begins, comment.line() + 1).iter(), part)
            .ok_or("no value, or no single one that fits, stands on the very next line")
    }
}

fn on<'a, 't>(entries: &'a [MarkedLine<'t>], line: u32) -> &'a [MarkedLine<'t>] {
    let start = entries.partition_point(|entry| entry.0 < line);
    let end = entries.partition_point(|entry| entry.0 <= line);
    &entries[start..end]
}

/// The only value, or the only one that fits the part, or the only one under `value` (`{name:
/// image.tag, value: 1.0.0}`).
fn choose<'a, 't: 'a>(
    entries: impl Iterator<Item = &'a MarkedLine<'t>> + Clone,
    part: ReferencePart,
) -> Option<Node<'t>> {
    let fitting = entries.clone().filter(|entry| fits(entry.1, entry.2, part));
    let values = entries.clone().filter(|entry| entry.1 == Some("value"));
    single(entries)
        .or_else(|| single(fitting))
        .or_else(|| single(values))
}

fn single<'a, 't: 'a>(mut entries: impl Iterator<Item = &'a MarkedLine<'t>>) -> Option<Node<'t>> {
    let first = entries.next()?.2;
    entries.next().is_none().then_some(first)
}

fn fits(key: Option<&str>, node: Node<'_>, part: ReferencePart) -> bool {
    let value = node.value().unwrap_or_default();
    match (part, key) {
        (ReferencePart::Whole, Some("image")) => true,
        (ReferencePart::Whole, _) => {
            ImageRef::new(value).is_ok_and(|image| image.tag.is_some() || image.digest.is_some())
        }
        (ReferencePart::Tag, Some(key)) => matches!(key, "tag" | "newTag" | "version"),
        (ReferencePart::Name, Some(key)) => matches!(key, "newName" | "repository"),
        (ReferencePart::Digest, Some("digest")) => true,
        (ReferencePart::Digest, _) => Digest::new(value).is_ok(),
        (ReferencePart::Tag | ReferencePart::Name, None) => false,
    }
}

fn collect<'t>(
    node: Node<'t>,
    key: Option<&'t str>,
    values: &mut Vec<(Option<&'t str>, Node<'t>)>,
) {
    for (name, value) in node.entries() {
        collect(value, name.value(), values);
    }
    for item in node.items() {
        collect(item, None, values);
    }
    let left_out = node.span().is_empty();
    if !node.is_mapping() && !node.is_sequence() && !left_out {
        values.push((key, node));
    }
}
