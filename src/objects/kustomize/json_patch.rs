//! JSON patches (RFC 6902), with the liberties of the Go library that kustomize uses.

use super::{
    node::{Fields, Node},
    problem::Problem,
    source::Source,
};
use crate::objects::manifest::printed_yaml;
use serde::Deserialize;
use serde_json::Value;

/// Operations of one patch.
const MOST_OPERATIONS: usize = 2_000;

#[derive(Debug, Clone)]
pub(super) struct JsonPatch(Vec<Operation>);

#[derive(Debug, Clone)]
struct Operation {
    kind: Kind,
    path: Vec<String>,
    from: Vec<String>,
    value: Option<Node>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Add,
    Remove,
    Replace,
    Move,
    Copy,
    Test,
}

impl JsonPatch {
    /// Reads a patch: YAML or JSON, a list of operations.
    pub(super) fn read(text: &str) -> Result<Self, Problem> {
        if text.starts_with('[') {
            // Then kustomize takes it for JSON.
            let value = serde_json::from_str(text)
                .map_err(|error| Problem::refused(format!("a JSON patch is no JSON: {error}")))?;
            return Self::of(value);
        }
        let stream = printed_yaml(text);
        if let Some(problem) = stream.problems.first().or(stream.duplicates.first()) {
            return Err(Problem::refused(&problem.message));
        }
        let mut documents = stream.documents;
        let (Some(document), true) = (documents.pop(), documents.is_empty()) else {
            return Err(Problem::unsupported("a JSON patch is one document"));
        };
        Self::of(document.value)
    }

    fn of(value: Value) -> Result<Self, Problem> {
        let Value::Array(operations) = value else {
            return Err(Problem::unsupported("a JSON patch is a list"));
        };
        if operations.is_empty() || operations.len() > MOST_OPERATIONS {
            return Err(Problem::unsupported(
                "a JSON patch has no operations, or too many",
            ));
        }
        operations
            .into_iter()
            .map(Operation::read)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(super) fn apply(&self, fields: Fields, source: &Source<'_>) -> Result<Fields, Problem> {
        let mut root = Node::Map(fields);
        settle_nulls(&mut root);
        for operation in &self.0 {
            operation.apply(&mut root, source)?;
        }
        match root {
            Node::Map(fields) => Ok(fields),
            _ => Err(Problem::refused(
                "the patch makes the object something else",
            )),
        }
    }
}

/// Makes all nulls alike, as they are after a conversion to JSON.
fn settle_nulls(node: &mut Node) {
    match node {
        Node::Null { written } => *written = true,
        Node::Scalar(_) => {}
        Node::List(items) => items.iter_mut().for_each(settle_nulls),
        Node::Map(fields) => fields.iter_mut().for_each(|(_, value)| settle_nulls(value)),
    }
}

impl Operation {
    fn read(value: Value) -> Result<Self, Problem> {
        let Value::Object(mut fields) = value else {
            return Err(Problem::refused("an operation is a mapping"));
        };
        let mut text = |name: &str| match fields.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Problem::refused(format!(
                "{name} of an operation is no text"
            ))),
        };
        let (kind, path, from) = (text("op")?, text("path")?, text("from")?);
        let value = fields.remove("value");
        if let Some(other) = fields.keys().next() {
            return Err(Problem::unsupported(format!("an operation has {other:?}")));
        }
        let kind: Kind = super::kustomization::typed(Value::from(kind.unwrap_or_default()))?;
        let path = pointer(&path.ok_or_else(|| Problem::refused("an operation has no path"))?)?;
        let from = match from {
            Some(from) if matches!(kind, Kind::Move | Kind::Copy) => pointer(&from)?,
            None if matches!(kind, Kind::Move | Kind::Copy) => {
                return Err(Problem::refused("an operation has no from"));
            }
            _ => Vec::new(),
        };
        let of_annotations = |path: &[String]| {
            matches!(path, [first] if first == "metadata") || is_annotations(path)
        };
        if of_annotations(&from) || kind == Kind::Test && of_annotations(&path) {
            return Err(Problem::unsupported(
                "the annotations hold notes of kustomize where a patch reads them as a whole",
            ));
        }
        if matches!(path.as_slice(), [first] if first == "metadata") {
            return Err(Problem::unsupported("metadata is changed as a whole"));
        }
        if matches!(kind, Kind::Move | Kind::Copy) && is_annotations(&path) {
            return Err(Problem::unsupported(
                "the annotations are changed as a whole",
            ));
        }
        if kind == Kind::Test && value.as_ref().is_none_or(Value::is_null) {
            return Err(Problem::unsupported("a test is of null"));
        }
        let needs_value = matches!(kind, Kind::Add | Kind::Replace | Kind::Test);
        if needs_value && value.is_none() {
            return Err(Problem::unsupported("an operation has no value"));
        }
        Ok(Self {
            kind,
            path,
            from,
            value: value.map(Node::from_json).transpose()?,
        })
    }

    fn apply(&self, root: &mut Node, source: &Source<'_>) -> Result<(), Problem> {
        if let Some(value) = &self.value {
            value.check_depth(self.path.len())?;
            source.keep(value.size())?;
        }
        let value = || self.value.clone().unwrap_or(Node::Null { written: true });
        match self.kind {
            Kind::Add => add(root, &self.path, value()),
            Kind::Remove => remove(root, &self.path).map(drop),
            Kind::Replace => replace(root, &self.path, value()),
            Kind::Move => {
                let moved = remove(root, &self.from)?;
                moved.check_depth(self.path.len())?;
                add(root, &self.path, moved)
            }
            Kind::Copy => {
                let copied = get(root, &self.from)?.clone();
                copied.check_depth(self.path.len())?;
                source.keep(copied.size())?;
                add(root, &self.path, copied)
            }
            Kind::Test => {
                if get(root, &self.path)?.clone().into_value() == value().into_value() {
                    Ok(())
                } else {
                    Err(Problem::refused("the test of a patch fails"))
                }
            }
        }
    }
}

fn is_annotations(path: &[String]) -> bool {
    matches!(path, [first, second] if first == "metadata" && second == "annotations")
}

/// Splits a JSON pointer; the root itself cannot be meant.
fn pointer(text: &str) -> Result<Vec<String>, Problem> {
    let Some(rest) = text.strip_prefix('/') else {
        return Err(Problem::unsupported(format!(
            "{text:?} is no path to a field"
        )));
    };
    Ok(rest
        .split('/')
        .map(|part| part.replace("~1", "/").replace("~0", "~"))
        .collect())
}

fn missing(path: &[String]) -> Problem {
    Problem::refused(format!("there is no /{}", path.join("/")))
}

/// Returns the collection that holds the last part of a path.
fn parent<'n>(root: &'n mut Node, path: &[String]) -> Result<&'n mut Node, Problem> {
    let mut node = root;
    for part in &path[..path.len().saturating_sub(1)] {
        node = match node {
            Node::Map(fields) => fields.get_mut(part).ok_or_else(|| missing(path))?,
            Node::List(items) => {
                let at = index(part)?;
                items.get_mut(at).ok_or_else(|| missing(path))?
            }
            _ => return Err(missing(path)),
        };
    }
    Ok(node)
}

fn index(part: &str) -> Result<usize, Problem> {
    let is_plain = part == "0" || !part.starts_with(['0', '+', '-']);
    match part.parse() {
        Ok(at) if is_plain => Ok(at),
        _ => Err(Problem::unsupported(format!(
            "{part:?} is no index of a list"
        ))),
    }
}

fn last(path: &[String]) -> &str {
    path.last().map_or("", String::as_str)
}

fn get<'n>(root: &'n mut Node, path: &[String]) -> Result<&'n Node, Problem> {
    let found = match parent(root, path)? {
        Node::Map(fields) => fields.get(last(path)),
        Node::List(items) => items.get(index(last(path))?),
        _ => None,
    };
    found.ok_or_else(|| missing(path))
}

fn add(root: &mut Node, path: &[String], value: Node) -> Result<(), Problem> {
    match parent(root, path)? {
        Node::Map(fields) => fields.set(last(path), value),
        Node::List(items) if last(path) == "-" => items.push(value),
        Node::List(items) => {
            let at = index(last(path))?;
            if at > items.len() {
                return Err(missing(path));
            }
            items.insert(at, value);
        }
        _ => return Err(missing(path)),
    }
    Ok(())
}

/// Replaces a value; in a mapping, one that is not there is added.
fn replace(root: &mut Node, path: &[String], value: Node) -> Result<(), Problem> {
    match parent(root, path)? {
        Node::Map(fields) => fields.set(last(path), value),
        Node::List(items) => {
            let at = index(last(path))?;
            *items.get_mut(at).ok_or_else(|| missing(path))? = value;
        }
        _ => return Err(missing(path)),
    }
    Ok(())
}

fn remove(root: &mut Node, path: &[String]) -> Result<Node, Problem> {
    match parent(root, path)? {
        Node::Map(fields) => fields.remove(last(path)).ok_or_else(|| missing(path)),
        Node::List(items) => {
            let at = index(last(path))?;
            if at >= items.len() {
                return Err(missing(path));
            }
            Ok(items.remove(at))
        }
        _ => Err(missing(path)),
    }
}
