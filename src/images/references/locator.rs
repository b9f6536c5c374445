//! The place of a reference in the structure of its file, stable when lines or items are added
//! elsewhere.

use super::Reference;
use crate::core::yaml::Node;
use std::{borrow::Cow, collections::HashMap, fmt::Write as _};

/// A longer locator is cut to its end, behind a hash of the rest, so that hostile nesting cannot
/// multiply memory.
const LONGEST: usize = 512;

/// The path from the root of a document to the current node.
#[derive(Debug, Default)]
pub(crate) struct NodePath {
    text: String,
}

impl NodePath {
    /// Starts at the root of the document `index`; a Kubernetes object is named by its kind and
    /// name.
    pub(super) fn at_root(index: usize, root: Node<'_>) -> Self {
        let mut path = Self::default();
        match object(root) {
            Some(name) => path.text.push_str(&name),
            None => path.text.push_str(&index.to_string()),
        }
        path.text.push(':');
        path
    }

    /// Steps to the value under `key`; returns what [`NodePath::back`] needs.
    pub(super) fn enter_key(&mut self, key: Node<'_>) -> PathSegment {
        let step = self.step();
        if !self.text.ends_with(':') {
            self.text.push('.');
        }
        self.text.push_str(&word(key.value().unwrap_or("?")));
        self.shorten(step)
    }

    /// Steps to an item of a sequence, named by its `name`, else by the object it is, else by its
    /// index.
    pub(super) fn enter_item(&mut self, index: usize, item: Node<'_>) -> PathSegment {
        let step = self.step();
        let name = item
            .get("name")
            .and_then(Node::value)
            .filter(|name| !name.is_empty());
        let _ = match (name, object(item)) {
            (Some(name), _) => write!(self.text, "[name={}]", word(name)),
            (None, Some(object)) => write!(self.text, "[{object}]"),
            (None, None) => write!(self.text, "[{index}]"),
        };
        self.shorten(step)
    }

    /// Steps back to where `step` was taken.
    pub(super) fn back(&mut self, step: PathSegment) {
        match step {
            PathSegment::Length(length) => self.text.truncate(length),
            PathSegment::Text(text) => self.text = text,
        }
    }

    pub(super) fn locator(&self) -> String {
        self.text.clone()
    }

    fn step(&self) -> PathSegment {
        PathSegment::Length(self.text.len())
    }

    fn shorten(&mut self, step: PathSegment) -> PathSegment {
        let PathSegment::Length(length) = step else {
            return step;
        };
        if self.text.len() <= LONGEST {
            return step;
        }
        let mut before = std::mem::take(&mut self.text);
        self.text = format!("~{:016x}:", fnv(before.as_bytes()));
        before.truncate(length);
        PathSegment::Text(before)
    }
}

/// The state to restore when the walk leaves a node.
#[derive(Debug)]
pub(crate) enum PathSegment {
    Length(usize),
    Text(String),
}

/// `Kind/name` or `Kind/namespace/name` of a Kubernetes object.
fn object(node: Node<'_>) -> Option<String> {
    let kind = node.get("kind")?.value()?;
    let metadata = node.get("metadata")?;
    let name = metadata.get("name")?.value()?;
    Some(match metadata.get("namespace").and_then(Node::value) {
        Some(namespace) => format!("{}/{}/{}", word(kind), word(namespace), word(name)),
        None => format!("{}/{}", word(kind), word(name)),
    })
}

/// Quotes and escapes a segment that could be confused with the structure of a locator.
fn word(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/');
    if !text.is_empty() && text.len() <= 128 && text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let start: String = text.chars().take(64).collect();
    if start.len() == text.len() {
        format!("{text:?}").into()
    } else {
        format!("{start:?}~{:016x}", fnv(text.as_bytes())).into()
    }
}

/// FNV-1a: the same in every version and process, which the standard hasher does not promise.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Makes equal locators of one file distinct, in the order of the text: `…`, `…#2`, `…#3`.
pub(crate) fn number(references: &mut [Reference]) {
    let mut seen: HashMap<String, u32> = HashMap::with_capacity(references.len());
    for reference in references {
        let count = seen
            .entry(reference.locator.clone())
            .and_modify(|count| *count += 1)
            .or_insert(1);
        if *count > 1 {
            let _ = write!(reference.locator, "#{count}");
        }
    }
}
