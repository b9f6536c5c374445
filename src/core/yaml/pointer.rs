//! Finding a node by its path, for messages that name a place.

use super::{Node, YamlStream};
use crate::core::pointer::decode;

/// One step down a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathStep<'p> {
    /// To the value under a key.
    Key(&'p str),
    /// To an item of a sequence, from 0.
    Index(usize),
}

/// The node at the end of a path, or the nearest one around it.
#[derive(Debug, Clone, Copy)]
pub struct PointerTarget<'t> {
    /// The node, or the nearest ancestor that exists.
    pub value: Node<'t>,
    /// The key of the node, if it is a value of a mapping.
    pub key: Option<Node<'t>>,
    /// True if the whole path exists.
    pub exact: bool,
}

impl PointerTarget<'_> {
    /// Line and column to show: of the key where there is one (a missing or empty value has no
    /// place of its own).
    pub fn line_column(&self) -> (u32, u32) {
        let at = self.key.unwrap_or(self.value);
        (at.line(), at.column())
    }
}

impl<'t> Node<'t> {
    /// Follows `path` from this node as far as it goes.
    pub fn walk<'p>(self, path: impl IntoIterator<Item = PathStep<'p>>) -> PointerTarget<'t> {
        let mut found = PointerTarget {
            value: self,
            key: None,
            exact: true,
        };
        for step in path {
            let next = match step {
                PathStep::Key(name) => found
                    .value
                    .entry(name)
                    .map(|(key, value)| (Some(key), value)),
                PathStep::Index(index) => found.value.items().nth(index).map(|value| (None, value)),
            };
            let Some((key, value)) = next else {
                return PointerTarget {
                    exact: false,
                    ..found
                };
            };
            found = PointerTarget {
                value,
                key,
                exact: true,
            };
        }
        found
    }

    /// Returns the node at `path` with its key, if the whole path exists.
    pub fn find(self, path: &[PathStep<'_>]) -> Option<PointerTarget<'t>> {
        Some(self.walk(path.iter().copied())).filter(|found| found.exact)
    }

    /// Follows a JSON pointer (RFC 6901, `/spec/policy/semver/range`) as far as it goes. A number
    /// steps into a sequence by index and into a mapping by key.
    pub fn pointer(self, pointer: &str) -> PointerTarget<'t> {
        let mut found = PointerTarget {
            value: self,
            key: None,
            exact: true,
        };
        for token in pointer.split('/').skip(1) {
            let token = decode(token);
            let step = match token.parse::<usize>() {
                Ok(index) if found.value.is_sequence() => PathStep::Index(index),
                _ => PathStep::Key(&token),
            };
            let next = found.value.walk([step]);
            if !next.exact {
                return PointerTarget {
                    exact: false,
                    ..found
                };
            }
            found = next;
        }
        found
    }
}

impl YamlStream<'_> {
    /// Follows a JSON pointer in the document at `index`; `None` if that document does not exist or
    /// has no content.
    pub fn locate(&self, index: usize, pointer: &str) -> Option<PointerTarget<'_>> {
        self.document(index).map(|root| root.pointer(pointer))
    }
}
