//! The place of a reference in the structure of its file, stable when lines or items are added
//! elsewhere.

use super::Reference;
use crate::core::yaml::Node;
use std::{borrow::Cow, collections::HashMap, fmt::Write as _};

/// A longer locator is cut to its end, behind a hash of the rest, so that hostile nesting cannot
/// multiply memory.
const LONGEST: usize = 512;

/// The path from the root of a document to the current node.
///
/// Most nodes hold no reference, so that a step is only noted, and written when a locator is asked
/// for.
#[derive(Debug, Default)]
pub(crate) struct NodePath<'t> {
    /// The document by its index and root, until it is written.
    document: Option<(usize, Node<'t>)>,
    steps: Vec<Step<'t>>,
    /// The path as far as it is written.
    text: String,
    /// The state of `text` before each written step.
    before: Vec<PathText>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'t> {
    Key(Node<'t>),
    Item(usize, Node<'t>),
}

/// An earlier state of the text of a path.
#[derive(Debug)]
enum PathText {
    Length(usize),
    Text(String),
}

impl<'t> NodePath<'t> {
    /// Starts at the root of the document `index`; a Kubernetes object is named by its kind and
    /// name.
    pub(super) fn at_root(index: usize, root: Node<'t>) -> Self {
        Self {
            document: Some((index, root)),
            ..Self::default()
        }
    }

    /// Steps to the value under `key`.
    pub(super) fn enter_key(&mut self, key: Node<'t>) {
        self.steps.push(Step::Key(key));
    }

    /// Steps to an item of a sequence, named by its `name`, else by the object it is, else by its
    /// index.
    pub(super) fn enter_item(&mut self, index: usize, item: Node<'t>) {
        self.steps.push(Step::Item(index, item));
    }

    /// Takes the last step back.
    pub(super) fn back(&mut self) {
        self.steps.pop();
        if self.before.len() <= self.steps.len() {
            return;
        }
        match self.before.pop() {
            Some(PathText::Length(length)) => self.text.truncate(length),
            Some(PathText::Text(text)) => self.text = text,
            None => {}
        }
    }

    pub(super) fn locator(&mut self) -> String {
        if let Some((index, root)) = self.document.take() {
            self.text = object(root).unwrap_or_else(|| index.to_string());
            self.text.push(':');
        }
        for index in self.before.len()..self.steps.len() {
            let before = self.write(self.steps[index]);
            self.before.push(before);
        }
        self.text.clone()
    }

    /// Writes one step; returns the state before it.
    fn write(&mut self, step: Step<'t>) -> PathText {
        let length = self.text.len();
        match step {
            Step::Key(key) => {
                let key = word(key.value().unwrap_or("?"));
                let dot = if self.text.ends_with(':') { "" } else { "." };
                self.text.extend([dot, &key]);
            }
            Step::Item(index, item) => {
                let name = item.get("name").and_then(Node::value);
                if let Some(name) = name.filter(|name| !name.is_empty()) {
                    self.text.extend(["[name=", &word(name), "]"]);
                } else if let Some(object) = object(item) {
                    self.text.extend(["[", &object, "]"]);
                } else {
                    self.text.extend(["[", &index.to_string(), "]"]);
                }
            }
        }
        if self.text.len() <= LONGEST {
            return PathText::Length(length);
        }
        let mut before = std::mem::take(&mut self.text);
        self.text = format!("~{:016x}:", fnv(before.as_bytes()));
        before.truncate(length);
        PathText::Text(before)
    }
}

/// `Kind/name` or `Kind/namespace/name` of a Kubernetes object.
fn object(node: Node<'_>) -> Option<String> {
    let kind = node.get("kind")?.value()?;
    let metadata = node.get("metadata")?;
    let name = metadata.get("name")?.value()?;
    let (kind, name) = (word(kind), word(name));
    Some(match metadata.get("namespace").and_then(Node::value) {
        Some(namespace) => [&*kind, "/", &word(namespace), "/", &name].concat(),
        None => [&*kind, "/", &name].concat(),
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
