//! `spec.suspend` of a declaration: the smallest edit that sets or removes it.
//!
//! Suspending adds one entry at the head of `spec`, in the present style: a line of its own in
//! block style and in flow mappings over several lines, an entry inside `{…}` otherwise. Resuming
//! removes the added bytes exactly, so that the two commits together change nothing. An entry
//! written by a person (elsewhere, with a comment) keeps its place, and only its value changes.

use super::{TextEdit, apply};
use crate::core::{
    error::{Classify, ErrorKind as Blame},
    yaml::{self, Node, NodeKind, NodeStyle, YamlError, YamlStream},
};

/// The key.
const KEY: &str = "suspend";

/// A declaration that cannot be edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuspendError {
    /// The file is no YAML.
    #[error("not YAML: {0}")]
    Yaml(#[from] YamlError),
    /// No declaration is named at this place.
    #[error("{line}:{column}: no declaration has its name here")]
    NoDeclaration {
        /// Line, from 1.
        line: u32,
        /// Column in characters, from 1.
        column: u32,
    },
    /// The `spec` is written in a way that no edit can be sure of: an alias, an anchor on the
    /// value, explicit keys.
    #[error("{line}:{column}: suspend cannot be written here without touching something else")]
    Unwritable {
        /// Line, from 1.
        line: u32,
        /// Column in characters, from 1.
        column: u32,
    },
}

impl Classify for SuspendError {
    fn kind(&self) -> Blame {
        Blame::Config
    }

    fn hint(&self) -> Option<String> {
        matches!(self, Self::Unwritable { .. })
            .then(|| "Write `suspend` under `spec` by hand.".to_owned())
    }
}

/// Returns the edit that suspends (or resumes) the declaration whose `metadata.name` is at `name`
/// (line and column, as in [`SourcePlace`](crate::spec::SourcePlace)); `None` if it already is.
///
/// The result is parsed again to prove that everything else of the file reads as before.
///
/// # Errors
/// [`SuspendError`]; nothing is guessed.
pub fn suspend(
    source: &str,
    name: (u32, u32),
    rest: bool,
) -> Result<Option<TextEdit>, SuspendError> {
    let stream = yaml::parse(source)?;
    let named = |root: &Node<'_>| {
        root.find(&[yaml::PathStep::Key("metadata"), yaml::PathStep::Key("name")])
            .is_some_and(|at| at.line_column() == name)
    };
    let (line, column) = name;
    let document = stream
        .documents()
        .position(|root| root.as_ref().is_some_and(named))
        .ok_or(SuspendError::NoDeclaration { line, column })?;
    edit(source, &stream, document, rest)
}

fn edit(
    source: &str,
    stream: &YamlStream<'_>,
    document: usize,
    rest: bool,
) -> Result<Option<TextEdit>, SuspendError> {
    let unwritable = |node: Option<Node<'_>>| {
        let (line, column) = node.map_or((1, 1), |node| (node.line(), node.column()));
        SuspendError::Unwritable { line, column }
    };
    let root = stream.document(document);
    let Some((key, spec)) = root
        .and_then(|root| root.entry("spec"))
        .filter(|(_, spec)| spec.is_mapping())
    else {
        return Err(unwritable(root));
    };
    let candidates = match spec.entry(KEY) {
        None if !rest => return Ok(None),
        None => added(source, key, spec),
        Some((_, value)) if says(value) == rest => return Ok(None),
        // An anchored value is repeated elsewhere.
        Some((_, value)) if value.anchored() || value.written().is_empty() => {
            return Err(unwritable(Some(value)));
        }
        Some((name, value)) => {
            let mut candidates = Vec::new();
            if !rest {
                candidates.extend(
                    removed(source, spec, name, value)
                        .into_iter()
                        .filter(|edit| was_added(source, edit, document)),
                );
            }
            candidates.push(TextEdit {
                range: value.span(),
                text: rest.to_string(),
            });
            candidates
        }
    };
    let found = candidates
        .into_iter()
        .find(|edit| is_proved(source, stream, edit, document, rest));
    found.map(Some).ok_or_else(|| unwritable(Some(key)))
}

/// Returns whether a value suspends the declaration. Only booleans are valid.
fn says(value: Node<'_>) -> bool {
    value
        .target()
        .unwrap_or(value)
        .value()
        .is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

/// Ways to put the entry at the head of `spec`, the best one first.
fn added(source: &str, spec_key: Node<'_>, spec: Node<'_>) -> Vec<TextEdit> {
    let insert = |at: usize, text: String| TextEdit {
        range: at..at,
        text,
    };
    let Some((key, value)) = spec.entries().next() else {
        return vec![insert(spec.span().start + 1, entry(NodeStyle::Plain, ": "))];
    };
    let style = key.style().unwrap_or(NodeStyle::Plain);
    let start = line_start(source, key.span().start);
    let indent = &source[start..key.span().start];
    let alone = indent.bytes().all(|byte| matches!(byte, b' ' | b'\t'));
    match spec.kind() {
        NodeKind::Mapping { flow: true } => {
            let between = source
                .get(key.span().end..value.span().start)
                .unwrap_or_default();
            let colon = if between == ":" { ":" } else { ": " };
            if alone && start > 0 {
                return vec![insert(
                    start,
                    format!(
                        "{indent}{},{}",
                        entry(style, colon),
                        line_end(&source[..start])
                    ),
                )];
            }
            vec![insert(
                key.span().start,
                format!("{},{}", entry(style, colon), &colon[1..]),
            )]
        }
        _ if alone => {
            // Right below `spec:`, above a comment that belongs to the first entry; else right
            // above that.
            let below = source[spec_key.span().end..]
                .find('\n')
                .map(|at| spec_key.span().end + at + 1);
            let places = below
                .filter(|below| *below < start)
                .into_iter()
                .chain([start]);
            places
                .map(|at| {
                    insert(
                        at,
                        format!("{indent}{}{}", entry(style, ": "), line_end(&source[..at])),
                    )
                })
                .collect()
        }
        _ => Vec::new(),
    }
}

/// Returns candidate edits that remove the entry: its line, or only its text.
fn removed(source: &str, spec: Node<'_>, key: Node<'_>, value: Node<'_>) -> [TextEdit; 2] {
    let next = spec
        .entries()
        .map(|(name, _)| name.span().start)
        .find(|start| *start > key.span().start);
    let cut = |range| TextEdit {
        range,
        text: String::new(),
    };
    let line = line_start(source, key.span().start)
        ..source[value.span().end..]
            .find('\n')
            .map_or(source.len(), |at| value.span().end + at + 1);
    [
        cut(line),
        cut(key.span().start..next.unwrap_or(value.span().end)),
    ]
}

/// Returns whether removing by `edit` undoes the text that [`added`] writes.
fn was_added(source: &str, edit: &TextEdit, document: usize) -> bool {
    let without =
        String::from_utf8(apply(source.as_bytes(), std::slice::from_ref(edit))).unwrap_or_default();
    let Ok(stream) = yaml::parse(&without) else {
        return false;
    };
    let again = self::edit(&without, &stream, document, true);
    matches!(again, Ok(Some(again)) if apply(without.as_bytes(), std::slice::from_ref(&again)) == source.as_bytes())
}

/// Returns whether the file reads as before except for this entry: the same documents, nodes, tags,
/// anchors and comments.
fn is_proved(
    source: &str,
    stream: &YamlStream<'_>,
    edit: &TextEdit,
    document: usize,
    rest: bool,
) -> bool {
    let after =
        String::from_utf8(apply(source.as_bytes(), std::slice::from_ref(edit))).unwrap_or_default();
    let Ok(after) = yaml::parse(&after) else {
        return false;
    };
    let spec = after.document(document).and_then(|root| root.get("spec"));
    let now = spec.and_then(|spec| spec.get(KEY));
    now.map_or(!rest, |value| says(value) == rest)
        && outline(stream, document) == outline(&after, document)
}

/// The content of a text without positions and without the one entry.
#[derive(PartialEq, Eq)]
struct DocumentOutline<'t> {
    nodes: Vec<(NodeKind, &'t str, Option<&'t str>, bool)>,
    /// Before which node each document begins.
    documents: Vec<Option<usize>>,
    comments: Vec<&'t str>,
}

fn outline<'t>(stream: &'t YamlStream<'t>, document: usize) -> DocumentOutline<'t> {
    let left_out = stream
        .document(document)
        .and_then(|root| root.get("spec"))
        .and_then(|spec| spec.entry(KEY));
    let left_out: Vec<u32> = left_out.map_or(Vec::new(), |(key, value)| vec![key.id(), value.id()]);
    let kept = stream.nodes().filter(|node| !left_out.contains(&node.id()));
    let nodes = kept.map(|node| {
        (
            node.kind(),
            node.value().unwrap_or_else(|| {
                if node.kind() == NodeKind::Alias {
                    node.written()
                } else {
                    ""
                }
            }),
            node.tag(),
            node.anchored(),
        )
    });
    let before =
        |root: Node<'_>| root.id() as usize - left_out.iter().filter(|id| **id < root.id()).count();
    DocumentOutline {
        nodes: nodes.collect(),
        documents: stream.documents().map(|root| root.map(before)).collect(),
        comments: stream
            .comments()
            .iter()
            .map(|comment| stream.comment_text(comment).trim_end())
            .collect(),
    }
}

fn entry(style: NodeStyle, colon: &str) -> String {
    match style {
        NodeStyle::DoubleQuoted => format!("\"{KEY}\"{colon}true"),
        NodeStyle::SingleQuoted => format!("'{KEY}'{colon}true"),
        _ => format!("{KEY}{colon}true"),
    }
}

fn line_start(source: &str, at: usize) -> usize {
    source[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// Returns the line end of the last line of `text`.
fn line_end(text: &str) -> &'static str {
    if text.ends_with("\r\n") { "\r\n" } else { "\n" }
}
