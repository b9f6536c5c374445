//! Nodes of a tree: scalars, sequences, mappings and aliases.

use super::YamlStream;
use std::{fmt, ops::Range};

/// No node.
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeKind {
    Scalar(NodeStyle),
    Sequence {
        /// Written as `[…]`.
        flow: bool,
    },
    Mapping {
        /// Written as `{…}`.
        flow: bool,
    },
    /// `*name`, a reference to the node anchored by that name.
    Alias,
}

/// The style of a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum NodeStyle {
    Plain,
    /// `'…'`
    SingleQuoted,
    /// `"…"`
    DoubleQuoted,
    /// `|`
    Literal,
    /// `>`
    Folded,
}

impl NodeStyle {
    pub fn is_quoted(self) -> bool {
        matches!(self, NodeStyle::SingleQuoted | NodeStyle::DoubleQuoted)
    }

    /// Returns whether the scalar is a literal or folded block.
    pub fn is_block(self) -> bool {
        matches!(self, NodeStyle::Literal | NodeStyle::Folded)
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct RawNode {
    pub start: u32,
    pub end: u32,
    /// The start of the value in the source, or its index in the cooked values; of an alias its
    /// target.
    pub text: u32,
    pub length: u32,
    /// The node after this one and everything in it.
    pub next: u32,
    pub line: u32,
    pub column: u32,
    pub kind: NodeKind,
    pub anchored: bool,
    pub cooked: bool,
}

/// Returns whether an unquoted text means null (YAML 1.2.2, section 10.3.2).
pub fn is_null(plain: &str) -> bool {
    matches!(plain, "" | "~" | "null" | "Null" | "NULL")
}

/// A node of a [`YamlStream`]: a view, as cheap to copy as a reference.
#[derive(Clone, Copy)]
pub struct Node<'t> {
    pub(crate) stream: &'t YamlStream<'t>,
    pub(crate) at: u32,
}

impl<'t> Node<'t> {
    fn raw(self) -> &'t RawNode {
        &self.stream.nodes[self.at as usize]
    }

    pub fn kind(self) -> NodeKind {
        self.raw().kind
    }

    /// Returns the byte range in the text: with quotes, without anchor, tag and block header. Empty
    /// for an omitted value.
    pub fn span(self) -> Range<usize> {
        let raw = self.raw();
        raw.start as usize..raw.end as usize
    }

    /// Line of its first byte, from 1.
    pub fn line(self) -> u32 {
        self.raw().line
    }

    /// Column of its first byte in characters, from 1.
    pub fn column(self) -> u32 {
        self.raw().column
    }

    /// Returns whether the node has an anchor (`&name`), so that aliases elsewhere may repeat it.
    pub fn anchored(self) -> bool {
        self.raw().anchored
    }

    pub fn style(self) -> Option<NodeStyle> {
        match self.raw().kind {
            NodeKind::Scalar(style) => Some(style),
            _ => None,
        }
    }

    /// The text of a scalar, unquoted and unescaped; `None` for anything else.
    pub fn value(self) -> Option<&'t str> {
        let raw = self.raw();
        match raw.kind {
            NodeKind::Scalar(_) if raw.cooked => Some(&self.stream.cooked[raw.text as usize]),
            NodeKind::Scalar(_) => {
                Some(&self.stream.source[raw.text as usize..(raw.text + raw.length) as usize])
            }
            _ => None,
        }
    }

    /// Returns whether this is the null of YAML's core schema: nothing, `~` or `null`, unquoted.
    pub fn is_null(self) -> bool {
        self.style() == Some(NodeStyle::Plain)
            && self.value().is_some_and(is_null)
            && self.tag().is_none_or(|tag| tag == "!!null")
    }

    /// The tag of a scalar, if one is written: "!!str" for `!!str 1`, as the standard ones are
    /// shortened.
    pub fn tag(self) -> Option<&'t str> {
        let tags = &self.stream.tags;
        tags.binary_search_by_key(&self.at, |entry| entry.0)
            .ok()
            .map(|found| &*tags[found].1)
    }

    /// Returns the bytes as written.
    pub fn written(self) -> &'t str {
        &self.stream.source[self.span()]
    }

    /// A number of the node, unique in its stream and growing in reading order.
    pub fn id(self) -> u32 {
        self.at
    }

    /// Returns the node that an alias refers to; `None` for anything else.
    pub fn target(self) -> Option<Node<'t>> {
        let raw = self.raw();
        (raw.kind == NodeKind::Alias && raw.text != NONE).then_some(Node {
            at: raw.text,
            ..self
        })
    }

    /// The line that people see it begin on: of a block scalar that of its `|` or `>`, else the
    /// line of its first byte.
    pub fn head_line(self) -> u32 {
        let raw = self.raw();
        if !self.style().is_some_and(NodeStyle::is_block) {
            return raw.line;
        }
        let before = &self.stream.source.as_bytes()[..raw.start as usize];
        let blank = before
            .iter()
            .rev()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
        raw.line
            - memchr::memchr_iter(b'\n', &before[before.len() - blank..])
                .count()
                .min(raw.line as usize - 1) as u32
    }

    /// Returns the line of the last byte; for a block scalar [`Node::head_line`], the only line
    /// that can have its comment.
    pub fn tail_line(self) -> u32 {
        match self.style() {
            Some(style) if style.is_block() => self.head_line(),
            _ => {
                self.raw().line
                    + memchr::memchr_iter(b'\n', self.written().as_bytes()).count() as u32
            }
        }
    }

    pub fn is_mapping(self) -> bool {
        matches!(self.raw().kind, NodeKind::Mapping { .. })
    }

    pub fn is_sequence(self) -> bool {
        matches!(self.raw().kind, NodeKind::Sequence { .. })
    }

    /// The items of a sequence; nothing for anything else.
    pub fn items(self) -> impl Iterator<Item = Node<'t>> {
        self.children(self.is_sequence())
    }

    /// The keys and values of a mapping in the order of the text, doubled keys included; nothing
    /// for anything else.
    pub fn entries(self) -> impl Iterator<Item = (Node<'t>, Node<'t>)> {
        let mut children = self.children(self.is_mapping());
        std::iter::from_fn(move || Some((children.next()?, children.next()?)))
    }

    /// The first entry of a mapping under `key`: the key's node and the value's.
    pub fn entry(self, key: &str) -> Option<(Node<'t>, Node<'t>)> {
        self.entries().find(|(name, _)| name.value() == Some(key))
    }

    /// The value of the first entry under `key`.
    pub fn get(self, key: &str) -> Option<Node<'t>> {
        self.entry(key).map(|(_, value)| value)
    }

    fn children(self, any: bool) -> impl Iterator<Item = Node<'t>> + use<'t> {
        let (mut at, end) = if any {
            (self.at + 1, self.raw().next)
        } else {
            (0, 0)
        };
        std::iter::from_fn(move || {
            (at < end).then(|| {
                let child = Node {
                    stream: self.stream,
                    at,
                };
                at = child.raw().next;
                child
            })
        })
    }
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let raw = self.raw();
        write!(
            f,
            "{:?} at {}:{} {:?}",
            raw.kind,
            raw.line,
            raw.column,
            self.written()
        )
    }
}
