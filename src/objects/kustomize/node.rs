//! Nodes of resources and patches, as kustomize keeps them.
//!
//! kustomize works on YAML nodes: it compares list elements by the text of their keys, and a null
//! that is written differs from a value left out. So the text of every scalar is kept until the
//! object is finished.

use super::problem::Problem;
use crate::{
    core::yaml::{self, NodeKind, NodeStyle},
    objects::manifest::{is_plain_text, resolve_plain},
};
use serde_json::{Map, Value};

/// Nodes that aliases may add to one text.
const MOST_REPEATED: usize = 200_000;

/// The bound on nesting, aliases included.
const DEEPEST: usize = 200;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalarKind {
    Text,
    Integer,
    Float,
    Boolean,
}

/// The fields of a mapping, in the order of the text; no name is there twice.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fields(Vec<(String, Node)>);

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

    /// Counts the nodes below it and itself.
    pub(super) fn size(&self) -> usize {
        1 + match self {
            Self::Null { .. } | Self::Scalar(_) => 0,
            Self::List(items) => items.iter().map(Node::size).sum::<usize>(),
            Self::Map(fields) => fields.iter().map(|(_, value)| value.size()).sum(),
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
        if self.depth() + above > DEEPEST + 50 {
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
                        return Err(Problem::unsupported(format!(
                            "the number {number} is read differently by different readers"
                        )));
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

/// Reads the documents of a text, each with its line; none of those that are empty.
///
/// # Errors
/// What another reader might read differently is left to the kustomize program.
pub(super) fn read(text: &str) -> Result<Vec<(u32, Node)>, (u32, Problem)> {
    let at = |line: u32| move |why: &str| (line, Problem::unsupported(why));
    if let Some(line) = text.lines().zip(1u32..).find_map(|(line, number)| {
        let odd = line.starts_with("...")
            || line.starts_with('%')
            || line.contains(['\r', '\u{85}', '\u{2028}', '\u{2029}', '\u{feff}']);
        odd.then_some(number)
    }) {
        return Err(at(line)(
            "a line here is read differently by different readers",
        ));
    }
    let mut separators = text
        .lines()
        .zip(1u32..)
        .filter(|(line, _)| line.starts_with("---"));
    let mut last = None;
    for (line, number) in &mut separators {
        let rest = line[3..].trim();
        if !rest.is_empty() && !rest.starts_with('#') {
            return Err(at(number)("a document begins on the line of its separator"));
        }
        if last.is_some_and(|last| last + 1 == number) {
            return Err(at(number)("two separators of documents follow each other"));
        }
        last = Some(number);
    }
    let stream =
        yaml::parse(text).map_err(|error| (error.line, Problem::refused(error.message.clone())))?;
    for comment in stream.comments() {
        let text = stream.comment_text(comment);
        if text.contains('{') && text.contains('$') {
            return Err(at(comment.line())("the comment may be a setter"));
        }
    }
    let mut reader = Reader {
        left: MOST_REPEATED,
    };
    let mut documents = Vec::new();
    for root in stream.documents().flatten() {
        let node = reader.node(root, 0, false)?;
        if !node.is_null() {
            documents.push((root.line(), node));
        }
    }
    Ok(documents)
}

struct Reader {
    /// Nodes that aliases may still add.
    left: usize,
}

impl Reader {
    fn node(
        &mut self,
        node: yaml::Node<'_>,
        depth: usize,
        repeated: bool,
    ) -> Result<Node, (u32, Problem)> {
        if repeated {
            self.left = self.left.saturating_sub(1);
        }
        if depth > DEEPEST || self.left == 0 {
            return Err((
                node.line(),
                Problem::unsupported("aliases repeat too much here"),
            ));
        }
        if let Some(target) = node.target() {
            return self.node(target, depth + 1, true);
        }
        let refuse = |why: &str| (node.line(), Problem::unsupported(why));
        match node.kind() {
            NodeKind::Alias => Err(refuse("the alias stands for nothing")),
            NodeKind::Scalar(_) if node.tag().is_some() => {
                Err(refuse("a value here is written with a tag"))
            }
            NodeKind::Scalar(NodeStyle::Plain) => {
                plain(node.value().unwrap_or_default()).map_err(|problem| (node.line(), problem))
            }
            NodeKind::Scalar(_) => Ok(Node::text(node.value().unwrap_or_default())),
            NodeKind::Sequence { .. } => node
                .items()
                .map(|item| self.node(item, depth + 1, repeated))
                .collect::<Result<_, _>>()
                .map(Node::List),
            NodeKind::Mapping { flow } => {
                let mut fields = Fields::default();
                let mut seen = std::collections::HashSet::new();
                for (key, value) in node.entries() {
                    let name = name(key).ok_or_else(|| {
                        (
                            key.line(),
                            Problem::unsupported("a key here is not simple text"),
                        )
                    })?;
                    if !seen.insert(name) {
                        return Err((
                            key.line(),
                            Problem::refused(format!("the key {name:?} is written twice")),
                        ));
                    }
                    let value = self.node(value, depth + 1, repeated)?;
                    if flow && value == (Node::Null { written: false }) {
                        return Err((
                            key.line(),
                            Problem::unsupported("a value left out in braces becomes text"),
                        ));
                    }
                    fields.push(name.to_owned(), value);
                }
                Ok(Node::Map(fields))
            }
        }
    }
}

/// Returns the name of a field, where all readers agree on it.
fn name(key: yaml::Node<'_>) -> Option<&str> {
    let text = key.value()?;
    let is_sure = match key.style()? {
        NodeStyle::Plain => {
            text != "<<"
                && !text.is_empty()
                && matches!(plain(text), Ok(ref node) if node.as_string().is_some())
        }
        _ => true,
    };
    (is_sure && key.tag().is_none()).then_some(text)
}

/// Resolves a plain scalar as YAML 1.2 with Go's numbers; what is read differently elsewhere is
/// refused.
fn plain(text: &str) -> Result<Node, Problem> {
    let kind = match text {
        "" => return Ok(Node::Null { written: false }),
        "~" | "null" | "Null" | "NULL" => return Ok(Node::Null { written: true }),
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => ScalarKind::Boolean,
        "<<" => return Err(Problem::unsupported("a merge key is used as a value")),
        _ if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-')) => {
            ScalarKind::Text
        }
        _ if is_short_integer(text) => ScalarKind::Integer,
        _ if is_short_float(text) => ScalarKind::Float,
        _ if !is_plain_text(text) || is_date(text) || text.starts_with("0o") => {
            return Err(Problem::unsupported(format!(
                "{text:?} is read differently by different readers; put it in quotes"
            )));
        }
        _ => ScalarKind::Text,
    };
    Ok(Node::Scalar(Scalar {
        text: text.to_owned(),
        kind,
    }))
}

/// Matches decimal integers without sign games, and octal ones as file modes are written.
fn is_short_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let all = |digits: &str, last: u8| {
        !digits.is_empty() && digits.bytes().all(|digit| (b'0'..=last).contains(&digit))
    };
    match digits.as_bytes() {
        [b'0'] => text == "0",
        [b'0', ..] => text.len() <= 6 && !text.starts_with('-') && all(digits, b'7'),
        _ => digits.len() <= 15 && all(digits, b'9'),
    }
}

/// Matches decimal fractions of at most fifteen digits.
fn is_short_float(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let Some((whole, fraction)) = digits.split_once('.') else {
        return false;
    };
    let all = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    all(whole)
        && all(fraction)
        && digits.len() <= 16
        && (whole == "0" || !whole.starts_with('0'))
        && digits.bytes().any(|digit| (b'1'..=b'9').contains(&digit))
}

/// Matches what begins as a date does.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() > 6 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-'
}

/// Returns whether a text that kustomize writes without quotes is read back as the same text.
pub(super) fn is_sure_text(text: &str) -> bool {
    is_plain_text(text) && matches!(plain(text), Ok(ref node) if node.as_string().is_some())
}
