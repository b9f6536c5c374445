//! YAML → values.

use super::scalar;
use crate::core::yaml::{self, Node, NodeKind, NodeStyle};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Bytes that aliases may add to what is written. A manifest repeats a few blocks; a "billion
/// laughs" repeats for ever.
const REPEATED: usize = 32 << 20;

/// The cost of a value beside its text, in bytes.
const COST: usize = 64;

/// A text can have thousands of problems; the first are enough.
const MOST_PROBLEMS: usize = 100;

/// The bound on nesting: written values (the parser stops at 255) and those that aliases add.
const DEEPEST: usize = 300;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxProblem {
    /// The line, from 1.
    pub line: usize,
    /// The problem and its remedy.
    pub message: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ManifestDocument {
    /// The line of its first value, from 1.
    pub line: usize,
    /// The lines of the entries under `items`.
    pub items: Vec<usize>,
    pub value: Value,
    /// True if a key is written twice in it.
    pub has_duplicates: bool,
}

/// The documents of a YAML text.
#[derive(Debug, Default)]
pub struct ManifestStream {
    pub documents: Vec<ManifestDocument>,
    /// What cannot be read.
    pub problems: Vec<SyntaxProblem>,
    /// Keys that are written twice in one mapping.
    pub duplicates: Vec<SyntaxProblem>,
}

/// Parses the non-empty documents of a YAML text as kubectl does, with all problems. Duplicate
/// keys, which kubectl silently drops, are problems.
pub fn yaml(text: &str) -> (Vec<ManifestDocument>, Vec<SyntaxProblem>) {
    let mut stream = printed_yaml(text);
    if !stream.duplicates.is_empty() {
        stream.problems.append(&mut stream.duplicates);
        stream.problems.sort_by_key(|problem| problem.line);
        stream.documents.retain(|document| !document.has_duplicates);
    }
    (stream.documents, stream.problems)
}

/// Parses what a program printed, as Kubernetes does: of duplicate keys, the last one counts.
pub fn printed_yaml(text: &str) -> ManifestStream {
    let stream = match yaml::parse(text) {
        Ok(stream) => stream,
        Err(error) => {
            return ManifestStream {
                problems: vec![SyntaxProblem {
                    line: error.line as usize,
                    message: error.message,
                }],
                ..ManifestStream::default()
            };
        }
    };
    let mut walk = ValueBuilder {
        repeated: REPEATED,
        problems: Vec::new(),
        duplicates: Vec::new(),
        duplicated: 0,
    };
    let mut documents = Vec::new();
    for root in stream.documents().flatten() {
        let (before, duplicated) = (walk.problems.len(), walk.duplicated);
        let value = walk.value(root, 0, false);
        if walk.problems.len() == before && !value.is_null() {
            let items = root
                .get("items")
                .map(|items| items.target().unwrap_or(items));
            let items = items
                .into_iter()
                .flat_map(|items| items.items().map(|item| item.line() as usize))
                .collect();
            documents.push(ManifestDocument {
                line: root.line() as usize,
                items,
                value,
                has_duplicates: walk.duplicated > duplicated,
            });
        }
    }
    ManifestStream {
        documents,
        problems: walk.problems,
        duplicates: walk.duplicates,
    }
}

struct ValueBuilder {
    repeated: usize,
    problems: Vec<SyntaxProblem>,
    duplicates: Vec<SyntaxProblem>,
    /// The number of duplicate keys, also of those beyond the bound.
    duplicated: usize,
}

impl ValueBuilder {
    fn value(&mut self, node: Node<'_>, depth: usize, repeated: bool) -> Value {
        if depth > DEEPEST || (repeated && self.spent(node)) {
            self.repeated = 0;
            return self.refused(
                node,
                "aliases repeat too much here, or something that holds itself",
            );
        }
        match node.kind() {
            NodeKind::Scalar(style) => self.scalar(node, style),
            NodeKind::Sequence { .. } => {
                let mut list = Vec::new();
                for item in node.items() {
                    list.push(self.value(item, depth + 1, repeated));
                    if self.is_over() {
                        break;
                    }
                }
                Value::Array(list)
            }
            NodeKind::Mapping { .. } => Value::Object(self.mapping(node, depth, repeated)),
            NodeKind::Alias => match node.target() {
                Some(target) => self.value(target, depth + 1, true),
                None => {
                    self.refuse(node, "the alias stands for nothing");
                    Value::Null
                }
            },
        }
    }

    fn mapping(&mut self, node: Node<'_>, depth: usize, repeated: bool) -> Map<String, Value> {
        let mut map = Map::new();
        let mut written: HashMap<String, u32> = HashMap::new();
        for (key, value) in node.entries() {
            if self.is_over() {
                break;
            }
            if key.value() == Some("<<") && key.style() == Some(NodeStyle::Plain) {
                self.merge(value, depth, &mut map);
                continue;
            }
            let Some(name) = self.key(key) else { continue };
            if let Some(first) = written.insert(name.clone(), key.line()) {
                let message = format!(
                    "the key {:?} is written twice, first at line {first}",
                    shown(&name)
                );
                self.duplicate(key, message);
            }
            let value = self.value(value, depth + 1, repeated);
            map.insert(name, value);
        }
        map
    }

    /// Merges `<<`: it overrides earlier keys, and later keys override it, as in go-yaml.
    fn merge(&mut self, node: Node<'_>, depth: usize, into: &mut Map<String, Value>) {
        let mappings: Vec<Node<'_>> = match node.kind() {
            // The first of several wins.
            NodeKind::Sequence { .. } => {
                node.items().collect::<Vec<_>>().into_iter().rev().collect()
            }
            _ => vec![node],
        };
        for mapping in mappings {
            let target = mapping.target().unwrap_or(mapping);
            if !target.is_mapping() {
                self.refuse(mapping, "\"<<\" takes a mapping or a list of mappings");
                continue;
            }
            if let Value::Object(map) = self.value(target, depth + 1, true) {
                into.extend(map);
            }
        }
    }

    fn key(&mut self, node: Node<'_>) -> Option<String> {
        let node = node.target().unwrap_or(node);
        let name = match (node.value(), node.style(), node.tag()) {
            (Some(text), Some(NodeStyle::Plain), None) => scalar::key(text),
            (Some(text), ..) => Some(text.to_owned()),
            (None, ..) => None,
        };
        if name.is_none() {
            self.refuse(node, "a key must be text, a number or a boolean");
        }
        name
    }

    fn scalar(&mut self, node: Node<'_>, style: NodeStyle) -> Value {
        let text = node.value().unwrap_or_default();
        match node.tag() {
            None if style != NodeStyle::Plain => Value::String(text.to_owned()),
            None if scalar::is_number_json_lacks(text) => self.refused(
                node,
                "a manifest cannot hold infinity or NaN; put text in quotes",
            ),
            None => scalar::resolve_plain(text),
            Some("!!binary") => match decoded(text) {
                Some(text) => Value::String(text),
                None => self.refused(
                    node,
                    "!!binary is no base64 of text; write the base64 text itself, without the tag",
                ),
            },
            Some(tag) if tag.starts_with("!!") || tag == "!" => match scalar::tagged(tag, text) {
                Some(value) => value,
                None => self.refused(node, &format!("{:?} is no {}", shown(text), shown(tag))),
            },
            // An unknown tag leaves text as it is.
            Some(_) => Value::String(text.to_owned()),
        }
    }

    fn spent(&mut self, node: Node<'_>) -> bool {
        let cost = COST + node.value().map_or(0, str::len);
        self.repeated = self.repeated.saturating_sub(cost);
        self.repeated == 0
    }

    /// Returns whether endless repetition ends the reading.
    fn is_over(&self) -> bool {
        self.repeated == 0
    }

    fn refused(&mut self, node: Node<'_>, message: &str) -> Value {
        self.refuse(node, message);
        Value::Null
    }

    fn duplicate(&mut self, node: Node<'_>, message: String) {
        self.duplicated += 1;
        if self.duplicates.len() < MOST_PROBLEMS {
            self.duplicates.push(SyntaxProblem {
                line: node.line() as usize,
                message,
            });
        }
    }

    fn refuse(&mut self, node: Node<'_>, message: &str) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(SyntaxProblem {
                line: node.line() as usize,
                message: message.to_owned(),
            });
        }
    }
}

fn decoded(text: &str) -> Option<String> {
    use base64::Engine as _;
    let text: String = text.split_ascii_whitespace().collect();
    String::from_utf8(
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .ok()?,
    )
    .ok()
}

/// Returns the beginning of a text of the file, for a message.
pub(crate) fn shown(text: &str) -> String {
    let mut cut: String = text.chars().take(80).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}
