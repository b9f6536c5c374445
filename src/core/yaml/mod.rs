//! YAML with the place of everything: each scalar, key and comment of a text knows its byte range,
//! line and column.
//!
//! A [`YamlStream`] is one arena of 32-byte nodes in reading order over the borrowed text; nothing
//! is allocated for a node, since parsing is what a pass spends most of its time on. It says
//! nothing about types (`1.10` is the text `1.10`), and it keeps what loaders throw away: duplicate
//! keys, comments, styles, anchors.
//!
//! The parser's own spans have quirks that are straightened here: a value left out has an empty
//! span and the empty text, and a block scalar's span covers its lines of content, neither the
//! header nor the indent that follows.

mod node;
mod pointer;

pub use node::{Node, NodeKind, NodeStyle, is_null};
pub use pointer::{PathStep, PointerTarget};

use crate::core::error::{Classify, ErrorKind as Blame};
use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StructureStyle};
use node::{NONE, RawNode};
use std::ops::Range;

/// All documents of one text, with their comments.
#[derive(Debug)]
pub struct YamlStream<'s> {
    source: &'s str,
    nodes: Vec<RawNode>,
    /// Scalars whose value is not a piece of the text (escapes, folded lines).
    cooked: Vec<Box<str>>,
    /// The root of each document; [`NONE`] for one without content.
    roots: Vec<u32>,
    comments: Vec<YamlComment>,
    /// The parser's number of an anchor and the node it is set on, in the order of the text.
    anchors: Vec<(usize, u32)>,
    /// The tags of scalars that have one, by node, in the order of the text. They are rare.
    tags: Vec<(u32, Box<str>)>,
}

/// A comment, from its `#` to the end of its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct YamlComment {
    start: u32,
    end: u32,
    line: u32,
    column: u32,
}

impl YamlComment {
    /// The bytes of the comment, `#` included, line break excluded.
    pub fn span(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Line, from 1.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// Column of the `#` in characters, from 1.
    pub fn column(&self) -> u32 {
        self.column
    }
}

/// Text that is no YAML, with the place where reading stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct YamlError {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The parser's expectation.
    pub message: String,
}

impl Classify for YamlError {
    fn kind(&self) -> Blame {
        Blame::Config
    }
}

impl From<ScanError> for YamlError {
    fn from(error: ScanError) -> Self {
        let at = error.marker();
        // Some messages quote the text, which may come from anybody.
        let info = error.info();
        let message = info
            .chars()
            .flat_map(|c| {
                if c.is_control() {
                    c.escape_default().collect()
                } else {
                    vec![c]
                }
            })
            .collect();
        Self {
            line: small(at.line()),
            column: small(at.col() + 1),
            message,
        }
    }
}

/// Reads all documents of `source`.
///
/// # Errors
/// At the first place that is no YAML; also if collections nest deeper than 255, or the text is
/// longer than 2 GiB.
pub fn parse(source: &str) -> Result<YamlStream<'_>, YamlError> {
    if source.len() > i32::MAX as usize {
        return Err(YamlError {
            line: 1,
            column: 1,
            message: "the file is longer than 2 GiB".to_owned(),
        });
    }
    // A long licence or changelog at the head of a file is ordinary; the length of the text bounds
    // the buffer.
    let options = granit_parser::options! { max_buffered_comment_events: usize::MAX };
    let mut stream = YamlStream {
        source,
        nodes: Vec::with_capacity(source.len() / 12),
        cooked: vec![],
        roots: vec![],
        comments: vec![],
        anchors: vec![],
        tags: vec![],
    };
    let mut open: Vec<u32> = Vec::with_capacity(16);
    for event in Parser::new_from_str_with_options(source, options) {
        let (event, span) = event?;
        match event {
            Event::Scalar(value, style, anchor, tag) => {
                stream.push_scalar(&value, style, anchor, &span);
                if let Some(tag) = tag {
                    let full = tag.to_string();
                    let tag = full
                        .strip_prefix("tag:yaml.org,2002:")
                        .map_or_else(|| full.clone(), |name| format!("!!{name}"));
                    stream
                        .tags
                        .push((small(stream.nodes.len()) - 1, tag.into()));
                }
            }
            Event::Alias(anchor) => {
                stream.push(NodeKind::Alias, 0, &span);
                let target = stream
                    .anchors
                    .binary_search_by_key(&anchor, |entry| entry.0)
                    .ok()
                    .map(|found| stream.anchors[found].1);
                if let Some(node) = stream.nodes.last_mut() {
                    node.text = target.unwrap_or(NONE);
                }
            }
            Event::MappingStart(style, anchor, _) => {
                open.push(small(stream.nodes.len()));
                stream.push(
                    NodeKind::Mapping {
                        flow: style == StructureStyle::Flow,
                    },
                    anchor,
                    &span,
                );
            }
            Event::SequenceStart(style, anchor, _) => {
                open.push(small(stream.nodes.len()));
                stream.push(
                    NodeKind::Sequence {
                        flow: style == StructureStyle::Flow,
                    },
                    anchor,
                    &span,
                );
            }
            Event::MappingEnd | Event::SequenceEnd => {
                let next = small(stream.nodes.len());
                if let Some(node) = open.pop().and_then(|at| stream.nodes.get_mut(at as usize)) {
                    node.next = next;
                    node.end = bytes(&span).1.max(node.start);
                }
            }
            Event::DocumentStart(..) => stream.roots.push(small(stream.nodes.len())),
            Event::DocumentEnd => {
                if let Some(root) = stream
                    .roots
                    .last_mut()
                    .filter(|root| **root as usize >= stream.nodes.len())
                {
                    *root = NONE;
                }
            }
            Event::Comment(..) => {
                let (start, end) = bytes(&span);
                stream.comments.push(YamlComment {
                    start,
                    end,
                    line: small(span.start.line()),
                    column: small(span.start.col() + 1),
                });
            }
            _ => {}
        }
    }
    Ok(stream)
}

impl<'s> YamlStream<'s> {
    pub fn source(&self) -> &'s str {
        self.source
    }

    /// The root of each document, in order; `None` for a document without content.
    pub fn documents(&self) -> impl ExactSizeIterator<Item = Option<Node<'_>>> {
        self.roots.iter().map(|&root| {
            (root != NONE).then_some(Node {
                stream: self,
                at: root,
            })
        })
    }

    /// The root of the document at `index`, from 0.
    pub fn document(&self, index: usize) -> Option<Node<'_>> {
        self.roots
            .get(index)
            .filter(|root| **root != NONE)
            .map(|&at| Node { stream: self, at })
    }

    /// Returns the nodes of all documents in reading order: a mapping, its first key, that key's
    /// value, and so on.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = Node<'_>> {
        (0..small(self.nodes.len())).map(|at| Node { stream: self, at })
    }

    /// The node whose [`Node::id`] is `id`.
    pub fn node(&self, id: u32) -> Option<Node<'_>> {
        ((id as usize) < self.nodes.len()).then_some(Node {
            stream: self,
            at: id,
        })
    }

    /// Returns all comments in the order of the text.
    pub fn comments(&self) -> &[YamlComment] {
        &self.comments
    }

    /// The text of a comment, `#` included.
    pub fn comment_text(&self, comment: &YamlComment) -> &'s str {
        &self.source[comment.span()]
    }

    /// Line and column of a byte, as [`line_column`] counts them.
    pub fn line_column(&self, byte: usize) -> (u32, u32) {
        line_column(self.source, byte)
    }

    fn push(&mut self, kind: NodeKind, anchor: usize, span: &Span) {
        let (start, end) = bytes(span);
        let next = small(self.nodes.len()) + 1;
        let (line, column) = (small(span.start.line()), small(span.start.col() + 1));
        self.nodes.push(RawNode {
            start,
            end,
            text: start,
            length: 0,
            next,
            line,
            column,
            kind,
            anchored: anchor != 0,
            cooked: false,
        });
        if anchor != 0 {
            self.anchors.push((anchor, next - 1));
        }
    }

    fn push_scalar(&mut self, value: &str, style: ScalarStyle, anchor: usize, span: &Span) {
        let style = match style {
            ScalarStyle::SingleQuoted => NodeStyle::SingleQuoted,
            ScalarStyle::DoubleQuoted => NodeStyle::DoubleQuoted,
            ScalarStyle::Literal => NodeStyle::Literal,
            ScalarStyle::Folded => NodeStyle::Folded,
            _ => NodeStyle::Plain,
        };
        self.push(NodeKind::Scalar(style), anchor, span);
        let Some(node) = self.nodes.last_mut() else {
            return;
        };
        if node.start == node.end && style == NodeStyle::Plain {
            return;
        }
        let written = &self.source[node.start as usize..node.end as usize];
        if style.is_block() {
            // The parser's span of a block scalar runs on into the indent of what follows.
            node.end = node.start
                + small(
                    written
                        .rfind('\n')
                        .map_or(written.len(), |at| at + 1)
                        .max(written.trim_end_matches(' ').len()),
                );
        }
        let inner = if style.is_quoted() { 1 } else { 0 };
        if written.get(inner..written.len().saturating_sub(inner)) == Some(value) {
            (node.text, node.length) = (node.start + inner as u32, small(value.len()));
        } else {
            (node.text, node.length, node.cooked) = (small(self.cooked.len()), 0, true);
            self.cooked.push(value.into());
        }
    }
}

/// Line from 1 and column in characters from 1 of the byte at `byte` of `source`.
pub fn line_column(source: &str, byte: usize) -> (u32, u32) {
    let mut byte = byte.min(source.len());
    while !source.is_char_boundary(byte) {
        byte -= 1;
    }
    let before = &source[..byte];
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    (
        small(memchr::memchr_iter(b'\n', before.as_bytes()).count() + 1),
        small(before[start..].chars().count() + 1),
    )
}

fn bytes(span: &Span) -> (u32, u32) {
    let range = span.byte_range().unwrap_or_default();
    (small(range.start), small(range.end))
}

/// Narrows a count. Every count is at most the length of the text, which [`parse`] bounds to 2 GiB.
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
