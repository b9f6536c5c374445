//! Label and field selectors, as queries carry them. Pure.

use super::refusal::KubeRefusal;
use serde_json::Value;

/// The selectors of a list or watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ListSelector {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    /// A JSON pointer's parts: into the labels, or anywhere.
    path: Vec<String>,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl ListSelector {
    /// Reads `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// If a term cannot be read.
    pub(super) fn parse(labels: &str, fields: &str) -> Result<Self, KubeRefusal> {
        let mut terms = Vec::new();
        for text in split(labels) {
            terms.push(label(text).ok_or_else(|| {
                KubeRefusal::BadRequest(format!("unable to parse requirement: {text}"))
            })?);
        }
        for text in split(fields) {
            let (path, value, equal) = comparison(text)
                .ok_or_else(|| KubeRefusal::BadRequest(format!("invalid selector: {text}")))?;
            let path = path.split('.').map(str::to_owned).collect();
            let values = vec![value.to_owned()];
            terms.push(Term {
                path,
                test: if equal {
                    Test::In(values)
                } else {
                    Test::NotIn(values)
                },
            });
        }
        Ok(Self { terms })
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| {
            let mut value = Some(object);
            for part in &term.path {
                value = value.and_then(|value| value.get(part));
            }
            let text = value.map(|value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            });
            let is_label = term.path.first().is_some_and(|part| part == "metadata")
                && term.path.get(1).is_some_and(|part| part == "labels");
            // A field that is not there is empty; a label that is not there is none.
            let text = if is_label {
                text
            } else {
                Some(text.unwrap_or_default())
            };
            match (&term.test, text) {
                (Test::In(values), Some(text)) => values.contains(&text),
                (Test::NotIn(values), Some(text)) => !values.contains(&text),
                (Test::Exists, found) => found.is_some(),
                (Test::Absent, found) => found.is_none(),
                (Test::In(_), None) => false,
                (Test::NotIn(_), None) => true,
            }
        })
    }
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
        .into_iter()
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect()
}

fn comparison(text: &str) -> Option<(&str, &str, bool)> {
    if let Some((name, value)) = text.split_once("!=") {
        return Some((name.trim(), value.trim(), false));
    }
    let (name, value) = text.split_once("==").or_else(|| text.split_once('='))?;
    Some((name.trim(), value.trim(), true))
}

fn label(text: &str) -> Option<Term> {
    let term = |name: &str, test| Term {
        path: vec![
            "metadata".to_owned(),
            "labels".to_owned(),
            name.trim().to_owned(),
        ],
        test,
    };
    if let Some(list) = text.strip_suffix(')') {
        let (head, values) = list.split_once('(')?;
        let values = values
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect();
        let (name, word) = head.trim().rsplit_once(char::is_whitespace)?;
        return match word {
            "in" => Some(term(name, Test::In(values))),
            "notin" => Some(term(name, Test::NotIn(values))),
            _ => None,
        };
    }
    if let Some((name, value, equal)) = comparison(text) {
        let values = vec![value.to_owned()];
        return Some(term(
            name,
            if equal {
                Test::In(values)
            } else {
                Test::NotIn(values)
            },
        ));
    }
    let (name, test) = text
        .strip_prefix('!')
        .map_or((text, Test::Exists), |name| (name, Test::Absent));
    (!name.contains(char::is_whitespace)).then(|| term(name, test))
}
