//! Nodes of resources and patches, as kustomize keeps them.
//!
//! kustomize works on YAML nodes: it compares list elements by the text of their keys, and a null
//! that is written differs from a value left out. So the text of every scalar is kept until the
//! object is finished.

use super::{
    problem::Problem,
    scalar::{ScalarKind, is_short_float},
};
use crate::objects::manifest::resolve_plain;
use serde_json::{Map, Value};

/// The bound on nesting.
const DEEPEST: usize = 250;

/// Integers beyond this lose digits where a JSON patch is applied.
const LARGEST: i64 = 1 << 53;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null {
        /// False for a value left out.
        written: bool,
    },
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Fields),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scalar {
    pub text: String,
    pub kind: ScalarKind,
}

/// The fields of a mapping, in the order of the text; no name is there twice.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fields(Vec<(String, Node)>);

/// Returns the size of a text in nodes: one takes some 64 bytes.
pub(super) fn text_size(text: &str) -> usize {
    1 + text.len() / 64
}

impl Node {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Scalar(Scalar {
            text: text.into(),
            kind: ScalarKind::Text,
        })
    }

    pub(super) fn integer(number: i64) -> Self {
        Self::Scalar(Scalar {
            text: number.to_string(),
            kind: ScalarKind::Integer,
        })
    }

    pub(super) fn boolean(yes: bool) -> Self {
        Self::Scalar(Scalar {
            text: yes.to_string(),
            kind: ScalarKind::Boolean,
        })
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null { .. })
    }

    /// Returns whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Null { .. } => true,
            Self::Scalar(_) => false,
            Self::List(items) => items.is_empty(),
            Self::Map(fields) => fields.is_empty(),
        }
    }

    /// Returns the text of a scalar.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// Returns the text of a scalar whose type is text.
    pub(super) fn as_string(&self) -> Option<&str> {
        match self {
            Self::Scalar(scalar) if scalar.kind == ScalarKind::Text => Some(&scalar.text),
            _ => None,
        }
    }

    /// Returns the text as kustomize compares it: empty for collections and nulls.
    pub(super) fn compared(&self) -> &str {
        self.as_text().unwrap_or_default()
    }

    pub(super) fn as_map(&self) -> Option<&Fields> {
        match self {
            Self::Map(fields) => Some(fields),
            _ => None,
        }
    }

    pub(super) fn as_map_mut(&mut self) -> Option<&mut Fields> {
        match self {
            Self::Map(fields) => Some(fields),
            _ => None,
        }
    }

    pub(super) fn as_list(&self) -> Option<&[Node]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.as_map()?.get(name)
    }

    /// Counts the nodes below it and itself; texts count by their length.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Null { .. } => 1,
            Self::Scalar(scalar) => text_size(&scalar.text),
            Self::List(items) => 1 + items.iter().map(Node::size).sum::<usize>(),
            Self::Map(fields) => {
                let fields = fields.iter();
                1 + fields
                    .map(|(name, value)| text_size(name) + value.size())
                    .sum::<usize>()
            }
        }
    }

    /// Returns whether a field in it, at any depth, has a name that is meant.
    pub(super) fn names_any(&self, is_meant: &dyn Fn(&str) -> bool) -> bool {
        match self {
            Self::Map(fields) => fields
                .iter()
                .any(|(name, node)| is_meant(name) || node.names_any(is_meant)),
            Self::List(items) => items.iter().any(|item| item.names_any(is_meant)),
            Self::Null { .. } | Self::Scalar(_) => false,
        }
    }

    /// Returns whether all texts in it pass through kustomize's writers and readers unchanged.
    pub(super) fn is_printable(&self) -> bool {
        match self {
            Self::Null { .. } => true,
            Self::Scalar(scalar) => is_printable(&scalar.text),
            Self::List(items) => items.iter().all(Node::is_printable),
            Self::Map(fields) => fields
                .iter()
                .all(|(name, value)| is_printable(name) && value.is_printable()),
        }
    }

    /// Returns how deep it nests.
    pub(super) fn depth(&self) -> usize {
        1 + match self {
            Self::Null { .. } | Self::Scalar(_) => 0,
            Self::List(items) => items.iter().map(Node::depth).max().unwrap_or(0),
            Self::Map(fields) => fields
                .0
                .iter()
                .map(|(_, value)| value.depth())
                .max()
                .unwrap_or(0),
        }
    }

    /// Checks that it can be walked without too deep a stack.
    pub(super) fn check_depth(&self, above: usize) -> Result<(), Problem> {
        if self.depth() + above > DEEPEST {
            return Err(Problem::unsupported("the object nests too deep"));
        }
        Ok(())
    }

    /// Returns the comparisons that a merge into it may need: those of its lists, and those of a
    /// patch of some size with its largest mapping.
    pub(super) fn merge_cost(&self, patch: usize) -> usize {
        match self {
            Self::Null { .. } | Self::Scalar(_) => 1,
            Self::List(items) => items
                .iter()
                .map(|item| item.merge_cost(patch))
                .sum::<usize>()
                .saturating_add(items.len().saturating_mul(items.len() + patch)),
            Self::Map(fields) => fields
                .0
                .iter()
                .map(|(_, value)| value.merge_cost(patch))
                .sum::<usize>()
                .saturating_add(if fields.len() > 32 {
                    fields.len().saturating_mul(patch)
                } else {
                    0
                }),
        }
    }

    /// Converts a value of JSON, as kustomize reads back what a JSON patch made.
    pub(super) fn from_json(value: Value) -> Result<Self, Problem> {
        Ok(match value {
            Value::Null => Self::Null { written: true },
            Value::Bool(yes) => Self::boolean(yes),
            Value::String(text) => Self::text(text),
            Value::Number(number) => match number.as_i64() {
                Some(number) if number.abs() < LARGEST => Self::integer(number),
                _ => match number.as_f64().map(|number| number.to_string()) {
                    Some(text) if is_short_float(&text) => Self::Scalar(Scalar {
                        text,
                        kind: ScalarKind::Float,
                    }),
                    _ => {
                        return Err(Problem::unsupported(
                            "a number is read differently by different readers",
                        ));
                    }
                },
            },
            Value::Array(items) => Self::List(
                items
                    .into_iter()
                    .map(Self::from_json)
                    .collect::<Result<_, _>>()?,
            ),
            Value::Object(map) => Self::Map(Fields(
                map.into_iter()
                    .map(|(name, value)| Ok((name, Self::from_json(value)?)))
                    .collect::<Result<_, Problem>>()?,
            )),
        })
    }

    /// Converts it to a value, with fields in the order in which kustomize prints them.
    pub(super) fn into_value(self) -> Value {
        match self {
            Self::Null { .. } => Value::Null,
            Self::Scalar(scalar) => scalar.into_value(),
            Self::List(items) => Value::Array(items.into_iter().map(Node::into_value).collect()),
            Self::Map(mut fields) => {
                fields
                    .0
                    .sort_by(|(one, _), (other, _)| super::field_order::printed(one, other));
                Value::Object(
                    fields
                        .0
                        .into_iter()
                        .map(|(name, value)| (name, value.into_value()))
                        .collect::<Map<_, _>>(),
                )
            }
        }
    }
}

/// Returns whether a text holds no control characters and no uncommon ends of lines.
fn is_printable(text: &str) -> bool {
    text.is_ascii() && !text.contains(|c: char| c.is_ascii_control() && !"\t\n\r".contains(c))
        || !text.contains(|c: char| match c {
            '\t' | '\n' | '\r' => false,
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => true,
            c => c.is_control(),
        })
}

impl Scalar {
    fn into_value(self) -> Value {
        match self.kind {
            ScalarKind::Text => Value::String(self.text),
            ScalarKind::Boolean => Value::Bool(self.text.eq_ignore_ascii_case("true")),
            // Both were checked when they were read.
            ScalarKind::Integer | ScalarKind::Float => resolve_plain(&self.text),
        }
    }
}

impl Fields {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Node)> {
        self.0
            .iter_mut()
            .map(|(name, value)| (name.as_str(), value))
    }

    pub(super) fn into_fields(self) -> Vec<(String, Node)> {
        self.0
    }

    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        self.0
            .iter_mut()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value)
    }

    pub(super) fn set(&mut self, name: &str, value: Node) {
        match self.get_mut(name) {
            Some(old) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Adds a field whose name is known to be new.
    pub(super) fn push(&mut self, name: String, value: Node) {
        self.0.push((name, value));
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Node> {
        let at = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.remove(at).1)
    }

    /// Returns the field, made with `make` where it is missing.
    pub(super) fn entry(&mut self, name: &str, make: impl FnOnce() -> Node) -> &mut Node {
        let at = match self.0.iter().position(|(other, _)| other == name) {
            Some(at) => at,
            None => {
                self.0.push((name.to_owned(), make()));
                self.0.len() - 1
            }
        };
        &mut self.0[at].1
    }

    /// Returns the mapping at a field, made where it is missing or null; `None` where the field is
    /// something else.
    pub(super) fn map(&mut self, name: &str) -> Option<&mut Fields> {
        let node = self.entry(name, || Node::Map(Fields::default()));
        if node.is_null() {
            *node = Node::Map(Fields::default());
        }
        node.as_map_mut()
    }
}
