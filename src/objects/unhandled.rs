//! Content of rendered objects that another controller would treat, and tagboat does not.
//!
//! Nothing is ignored silently: each kind of it is one note, with the first objects that have it.

use super::object::{Object, ObjectKey};
use serde_json::Value;

/// Objects that a note names.
const MOST_NAMED: usize = 3;

/// The deepest value that is searched for placeholders.
const DEEPEST: usize = 64;

/// The annotation with which users keep Flux from substituting variables.
const SUBSTITUTE: &str = "kustomize.toolkit.fluxcd.io/substitute";

/// Returns the notes about objects. `substitutes` tells whether Flux would have substituted
/// variables in them.
pub fn notes(objects: &[Object], substitutes: bool) -> Vec<String> {
    let mut notes = Vec::new();
    let hooks = named(objects, |object| {
        ["argocd.argoproj.io/hook", "helm.sh/hook"]
            .iter()
            .any(|name| object.annotation(name).is_some())
    });
    if let Some(hooks) = hooks {
        notes.push(format!(
            "{hooks}: hooks are not run in their phase, but applied like any other object"
        ));
    }
    let waves = named(objects, |object| {
        object.annotation("argocd.argoproj.io/sync-wave").is_some()
    });
    if let Some(waves) = waves {
        notes.push(format!(
            "{waves}: argocd.argoproj.io/sync-wave is not read; objects are applied in the order of their kinds"
        ));
    }
    if let Some(units) = named(objects, is_unit) {
        notes.push(format!(
            "{units}: applied as they are; they deploy something only where the controller of Flux or Argo CD runs"
        ));
    }
    let placeholders = named(objects, |object| {
        substitutes && object.annotation(SUBSTITUTE) != Some("disabled") && has_placeholder(object)
    });
    if let Some(placeholders) = placeholders {
        notes.push(format!(
            "{placeholders}: variables such as ${{NAME}} are not substituted"
        ));
    }
    notes
}

/// Returns the first of the objects that match, and the number of the others.
fn named(objects: &[Object], matches: impl Fn(&Object) -> bool) -> Option<String> {
    let keys: Vec<ObjectKey> = objects
        .iter()
        .filter(|object| matches(object))
        .map(Object::key)
        .collect();
    let names: Vec<String> = keys
        .iter()
        .take(MOST_NAMED)
        .map(ObjectKey::to_string)
        .collect();
    match keys.len() {
        0 => None,
        count if count > MOST_NAMED => Some(format!(
            "{} and {} more",
            names.join(", "),
            count - MOST_NAMED
        )),
        _ => Some(names.join(", ")),
    }
}

/// Returns whether an object makes Flux or Argo CD deploy something, or is a source of that.
fn is_unit(object: &Object) -> bool {
    let key = object.key();
    match key.group.as_str() {
        "kustomize.toolkit.fluxcd.io" | "helm.toolkit.fluxcd.io" | "source.toolkit.fluxcd.io" => {
            true
        }
        "argoproj.io" => matches!(key.kind.as_str(), "Application" | "ApplicationSet"),
        _ => false,
    }
}

/// Returns whether a field has a variable as Flux substitutes them. Scripts are full of such texts:
/// the data of ConfigMaps and Secrets, commands and arguments do not count, and neither do the
/// descriptions of CRDs.
fn has_placeholder(object: &Object) -> bool {
    let key = object.key();
    let is_data = key.group.is_empty() && matches!(key.kind.as_str(), "ConfigMap" | "Secret");
    if key.kind == "CustomResourceDefinition" {
        return false;
    }
    object.value().iter().any(|(name, value)| {
        let is_left_out = is_data && matches!(name.as_str(), "data" | "stringData" | "binaryData");
        !is_left_out && finds_placeholder(value, DEEPEST)
    })
}

fn finds_placeholder(value: &Value, depth: usize) -> bool {
    match value {
        _ if depth == 0 => false,
        Value::String(text) => is_variable(text),
        Value::Array(items) => items.iter().any(|item| finds_placeholder(item, depth - 1)),
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            !matches!(name.as_str(), "command" | "args") && finds_placeholder(value, depth - 1)
        }),
        _ => false,
    }
}

/// Returns whether a text has `${NAME}`, also with a default (`${NAME:-x}`).
fn is_variable(text: &str) -> bool {
    text.match_indices("${").any(|(at, _)| {
        // `$${NAME}` stands for itself.
        let is_escaped = text[..at].ends_with('$');
        let rest = &text[at + 2..];
        let name = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .map_or(rest, |end| &rest[..end]);
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        is_name && !is_escaped && rest[name.len()..].starts_with(['}', ':', '/'])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        Object::new(value).unwrap()
    }

    #[test]
    fn unhandled_content_has_one_note_a_kind() {
        let annotated = |name: &str, annotation: &str| {
            object(json!({
                "apiVersion": "batch/v1", "kind": "Job",
                "metadata": {"name": name, "namespace": "a", "annotations": {annotation: "1"}},
            }))
        };
        let mut objects: Vec<Object> = ["a", "b", "c", "d", "e"]
            .iter()
            .map(|name| annotated(name, "argocd.argoproj.io/hook"))
            .collect();
        objects.push(annotated("wave", "argocd.argoproj.io/sync-wave"));
        objects.push(object(json!({
            "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease",
            "metadata": {"name": "redis", "namespace": "a"},
        })));
        objects.push(object(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": "web", "namespace": "a"},
            "spec": {"rules": [{"host": "web.${DOMAIN:-example.com}"}]},
        })));
        let found = notes(&objects, true);
        let starts: Vec<&str> = found
            .iter()
            .map(|note| note.split(": ").next().unwrap())
            .collect();
        assert_eq!(
            starts,
            [
                "Job a/a, Job a/b, Job a/c and 2 more",
                "Job a/wave",
                "HelmRelease.helm.toolkit.fluxcd.io a/redis",
                "Ingress a/web",
            ]
        );
        assert_eq!(notes(&objects[7..], false), [""; 0]);
    }

    #[test]
    fn placeholder_in_a_script_is_none() {
        let config = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "a"},
            "data": {"run.sh": "echo ${HOME}"},
        });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "a"},
            "spec": {"containers": [{"name": "a", "args": ["${HOME}"], "env": [{"name": "A", "value": "$(B) $${C} ${} ${1}"}]}]},
        });
        let opted_out = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "${NAME}", "annotations": {SUBSTITUTE: "disabled"}},
        });
        let objects: Vec<Object> = [config, pod, opted_out].map(object).into();
        assert_eq!(notes(&objects, true), [""; 0]);
        assert!(is_variable("a-${b_1}-c") && is_variable("${a/b/c}"));
    }
}
