//! Texts of resources and patches, read as kustomize reads them.

use super::{
    node::{Fields, Node, Scalar, text_size},
    problem::Problem,
    scalar::{Plain, ScalarKind, plain},
};
use crate::core::yaml::{self, NodeKind, NodeStyle};

/// Nodes that aliases may add to one text.
const MOST_REPEATED: usize = 200_000;

/// The bound on nesting, aliases included.
const DEEPEST: usize = 200;

/// Reads the documents of a text, each with its line; none of those that are empty.
///
/// # Errors
/// Text that YAML parsers disagree on is left to the kustomize program.
pub(super) fn read(text: &str) -> Result<Vec<(u32, Node)>, (u32, Problem)> {
    let at = |line: u32| move |why: &str| (line, Problem::unsupported(why));
    if let Some(line) = text.lines().zip(1u32..).find_map(|(line, number)| {
        // Halves of characters, as JSON escapes them, are no YAML to Go.
        let odd = line.starts_with("...")
            || line.contains("\\ud")
            || line.contains("\\uD")
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
        yaml::parse(text).map_err(|error| (error.line, Problem::refused(error.message)))?;
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
            let size = text_size(node.value().unwrap_or_default());
            self.left = self.left.saturating_sub(size);
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
                let text = node.value().unwrap_or_default();
                match plain(text).map_err(|problem| (node.line(), problem))? {
                    Plain::Null { written } => Ok(Node::Null { written }),
                    Plain::Value(kind) => Ok(Node::Scalar(Scalar {
                        text: text.to_owned(),
                        kind,
                    })),
                }
            }
            NodeKind::Scalar(NodeStyle::Folded | NodeStyle::Literal)
                if node.value().is_some_and(|text| text.starts_with('\t')) =>
            {
                Err(refuse("a block of text begins with a tab"))
            }
            NodeKind::Scalar(NodeStyle::Folded) => {
                let text = node.value().unwrap_or_default();
                // The writer of kustomize adds lines to some.
                if text.strip_suffix('\n').unwrap_or(text).contains('\n') {
                    return Err(refuse("a folded text has more than one paragraph"));
                }
                Ok(Node::text(text))
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
            text != "<<" && !text.is_empty() && plain(text) == Ok(Plain::Value(ScalarKind::Text))
        }
        _ => true,
    };
    (is_sure && key.tag().is_none()).then_some(text)
}
