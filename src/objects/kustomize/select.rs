//! Selection of resources: by patterns of kind and name, by labels and annotations.

use super::{
    kustomization::Selector,
    problem::Problem,
    resource::{ObjectId, Resource, check_reserved},
};
use regex::Regex;

/// A selector whose patterns are compiled.
#[derive(Debug)]
pub(super) struct Selection {
    group: Option<Regex>,
    version: Option<Regex>,
    kind: Option<Regex>,
    name: Option<Regex>,
    namespace: Option<Regex>,
    labels: Vec<Requirement>,
    annotations: Vec<Requirement>,
    /// True if no part of an identity is named.
    pub names_nothing: bool,
}

/// A condition on labels.
#[derive(Debug, PartialEq)]
enum Requirement {
    Is(String, String),
    IsNot(String, String),
    Exists(String),
    Lacks(String),
}

impl Selection {
    pub(super) fn new(selector: &Selector) -> Result<Self, Problem> {
        let Selector {
            group,
            version,
            kind,
            name,
            namespace,
            annotation_selector,
            label_selector,
        } = selector;
        Ok(Self {
            group: anchored(group)?,
            version: anchored(version)?,
            kind: anchored(kind)?,
            name: anchored(name)?,
            namespace: anchored(namespace)?,
            labels: requirements(label_selector)?,
            annotations: requirements(annotation_selector)?,
            names_nothing: [group, version, kind, name, namespace]
                .iter()
                .all(|part| part.is_empty()),
        })
    }

    /// Returns whether a patch is for a resource.
    pub(super) fn selects(&self, resource: &Resource) -> bool {
        let (now, original) = (resource.id(), resource.original_id());
        let either = |pattern: &Option<Regex>, one: &str, other: &str| {
            matches(pattern, one) || matches(pattern, other)
        };
        either(
            &self.namespace,
            original.effective_namespace(),
            now.effective_namespace(),
        ) && either(&self.name, &original.name, &now.name)
            && self.matches_kind(&now)
            && self.matches_texts(resource)
    }

    /// Returns whether the conditions on labels and annotations are met.
    pub(super) fn matches_texts(&self, resource: &Resource) -> bool {
        let meets = |all: &[Requirement], field: &str| {
            if all.is_empty() {
                return true;
            }
            let texts = resource.texts(field);
            all.iter().all(|one| one.is_met(&texts))
        };
        meets(&self.labels, "labels") && meets(&self.annotations, "annotations")
    }

    /// Returns whether there are conditions on labels or annotations.
    pub(super) fn has_texts(&self) -> bool {
        !self.labels.is_empty() || !self.annotations.is_empty()
    }

    /// Returns whether an identity matches, with the namespace as it is written.
    pub(super) fn matches_id(&self, id: &ObjectId) -> bool {
        self.matches_kind(id)
            && matches(&self.name, &id.name)
            && matches(&self.namespace, &id.namespace)
    }

    fn matches_kind(&self, id: &ObjectId) -> bool {
        matches(&self.group, &id.group)
            && matches(&self.version, &id.version)
            && matches(&self.kind, &id.kind)
    }
}

fn matches(pattern: &Option<Regex>, text: &str) -> bool {
    pattern
        .as_ref()
        .is_none_or(|pattern| pattern.is_match(text))
}

/// Compiles a pattern that is read alike by Go and here.
fn anchored(pattern: &str) -> Result<Option<Regex>, Problem> {
    if pattern.is_empty() {
        return Ok(None);
    }
    let is_known = |c: char| c.is_ascii_alphanumeric() || "._-/|*+?()[]^$".contains(c);
    let is_odd = [
        "--", "[[", "(?", "**", "++", "*+", "??", "*?", "+?", "?+", "+*", "?*", "[^]", "[]",
    ]
    .iter()
    .any(|odd| pattern.contains(odd));
    // Go takes a repetition of nothing for an error, as kustomize reports it.
    if !pattern.chars().all(is_known) || is_odd || pattern.starts_with(['*', '+', '?']) {
        return Err(Problem::unsupported(format!(
            "the pattern {pattern:?} is not read in the process"
        )));
    }
    Regex::new(&format!("^(?:{pattern})$"))
        .map(Some)
        .map_err(|_| Problem::refused(format!("{pattern:?} is no pattern")))
}

/// Reads a label selector without sets.
fn requirements(text: &str) -> Result<Vec<Requirement>, Problem> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',').map(requirement).collect()
}

fn requirement(text: &str) -> Result<Requirement, Problem> {
    let unsure =
        || Problem::unsupported(format!("the selector {text:?} is not read in the process"));
    let (key, rest) = match text.find(['=', '!']) {
        Some(0) if text.starts_with('!') => ("", &text[1..]),
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let is_part = |part: &str| {
        part.chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
    };
    let is_key = |part: &str| {
        is_part(part)
            && part.len() <= 63
            && part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let (key, rest) = (key.trim(), rest.trim());
    check_reserved(key)?;
    check_reserved(rest)?;
    let value = |value: &str| {
        let value = value.trim();
        let is_value = value.is_empty() || is_key(value) && !value.contains('/');
        is_value.then(|| value.to_owned()).ok_or_else(unsure)
    };
    if text.starts_with('!') {
        return if is_key(rest) {
            Ok(Requirement::Lacks(rest.to_owned()))
        } else {
            Err(unsure())
        };
    }
    if !is_key(key) {
        return Err(unsure());
    }
    let key = key.to_owned();
    if rest.is_empty() {
        return Ok(Requirement::Exists(key));
    }
    if let Some(rest) = rest.strip_prefix("!=") {
        return Ok(Requirement::IsNot(key, value(rest)?));
    }
    match rest.strip_prefix("==").or(rest.strip_prefix('=')) {
        Some(rest) => Ok(Requirement::Is(key, value(rest)?)),
        None => Err(unsure()),
    }
}

impl Requirement {
    fn is_met(&self, texts: &[(&str, &str)]) -> bool {
        let of = |key: &str| {
            texts
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, text)| *text)
        };
        match self {
            Self::Is(key, value) => of(key) == Some(value),
            // As in Kubernetes, an absent label is not the value.
            Self::IsNot(key, value) => of(key) != Some(value),
            Self::Exists(key) => of(key).is_some(),
            Self::Lacks(key) => of(key).is_none(),
        }
    }
}
