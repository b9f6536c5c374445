//! Fields in the way of an apply that the API server refused.
//!
//! A server-side apply removes only what its manager owned before. A port that kubectl renumbered,
//! the `valueFrom` that the user set in place of a `value`, or a default of the server
//! (`rollingUpdate` beside `type: Recreate`) stays, and makes the merged object invalid. Once such
//! fields are ours, the same apply removes them.

use super::{
    managed_fields::{self, list_key_fields},
    object::Object,
};
use crate::core::pointer;
use serde_json::{Map, Value};

/// Words by which validation says that two fields exclude each other.
const EXCLUSIVE: [&str; 11] = [
    "more than 1",
    "more than one",
    "may not be specified",
    "must not be specified",
    "may not be set",
    "must not be set",
    "must be empty",
    "exactly one",
    "at most one",
    "mutually exclusive",
    "may only be",
];

/// Words by which validation says that two elements of a list exclude each other.
const DOUBLED: [&str; 2] = ["duplicate value", "already allocated"];

/// Causes and fields looked at: a manifest decides how many a refusal has.
const MOST: usize = 64;

/// A step of a path in a message of the API server: `spec.ports[1].name`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RefusedStep {
    Field(String),
    /// Any element of a list: the index is that of the merged object, which is not stored.
    Element,
}

/// Returns the JSON pointers of live fields that Git does not name and that a refused apply may
/// have failed for. `causes` are those of the API server, as `spec.ports[1].name: Duplicate value`.
pub(crate) fn in_the_way(live: &Object, manifest: &Object, causes: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for cause in causes.iter().take(MOST) {
        let Some((path, message)) = cause.split_once(": ") else {
            continue;
        };
        let message = message.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        let mut search = Search {
            live,
            elements: says(&DOUBLED),
            siblings: says(&EXCLUSIVE),
            found: &mut found,
        };
        let (root, wanted) = (live.value(), manifest.value());
        search.fields(root, wanted, &steps(path), &mut Vec::new());
    }
    found.sort();
    found.dedup();
    found.truncate(MOST);
    found
}

/// Parses `spec.containers[0].env[1].value`; brackets with a name are a field of a map.
fn steps(path: &str) -> Vec<RefusedStep> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (name, mut rest) = part.split_at(part.find('[').unwrap_or(part.len()));
        if !name.is_empty() {
            steps.push(RefusedStep::Field(name.to_owned()));
        }
        while let Some((inner, more)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        {
            steps.push(match inner.parse::<usize>() {
                Ok(_) => RefusedStep::Element,
                Err(_) => RefusedStep::Field(inner.to_owned()),
            });
            rest = more;
        }
    }
    steps
}

struct Search<'s> {
    live: &'s Object,
    /// True if elements of the last list on the path may be in the way.
    elements: bool,
    /// True if fields beside the last one on the path may be in the way.
    siblings: bool,
    found: &'s mut Vec<String>,
}

impl Search<'_> {
    fn fields(
        &mut self,
        live: &Map<String, Value>,
        wanted: &Map<String, Value>,
        steps: &[RefusedStep],
        path: &mut Vec<String>,
    ) {
        let [RefusedStep::Field(name), rest @ ..] = steps else {
            return;
        };
        if rest.is_empty() {
            self.last_field(name, live, wanted, path);
            return;
        }
        let (Some(live), Some(wanted)) = (live.get(name), wanted.get(name)) else {
            return;
        };
        path.push(name.clone());
        match (live, wanted) {
            (Value::Object(live), Value::Object(wanted)) => {
                self.fields(live, wanted, rest, path);
            }
            (Value::Array(live), Value::Array(wanted)) => {
                self.list(live, wanted, rest, path);
            }
            _ => {}
        }
        path.pop();
    }

    fn list(
        &mut self,
        live: &[Value],
        wanted: &[Value],
        steps: &[RefusedStep],
        path: &mut Vec<String>,
    ) {
        let [RefusedStep::Element, rest @ ..] = steps else {
            return;
        };
        let keys = list_key_fields(self.live, &to_pointer(path));
        let is_last_list = !rest.contains(&RefusedStep::Element);
        for (index, element) in live.iter().enumerate() {
            let same = wanted
                .iter()
                .find(|wanted| !keys.is_empty() && has_equal_keys(&keys, element, wanted));
            path.push(index.to_string());
            match (element, same) {
                (Value::Object(live), Some(Value::Object(wanted))) => {
                    self.fields(live, wanted, rest, path);
                }
                (_, None) if self.elements && is_last_list && !keys.is_empty() => {
                    self.add(path);
                }
                _ => {}
            }
            path.pop();
        }
    }

    /// Adds the named field and its alternatives. The fields of a whole spec are no alternatives of
    /// each other.
    fn last_field(
        &mut self,
        name: &str,
        live: &Map<String, Value>,
        wanted: &Map<String, Value>,
        path: &mut Vec<String>,
    ) {
        let is_spec = path.len() < 2 || path.last().is_some_and(|last| last == "spec");
        let names = live.keys().filter(|field| {
            let is_alternative = self.siblings && !is_spec;
            (*field == name || is_alternative) && !wanted.contains_key(*field)
        });
        for field in names.cloned().collect::<Vec<_>>() {
            path.push(field);
            self.add(path);
            path.pop();
        }
    }

    fn add(&mut self, path: &[String]) {
        let pointer = to_pointer(path);
        // The apply itself removes fields that only tagboat owns.
        if !managed_fields::is_owned_only_by(self.live, &pointer, super::object::MANAGER) {
            self.found.push(pointer);
        }
    }
}

fn to_pointer(path: &[String]) -> String {
    path.iter()
        .map(|step| format!("/{}", pointer::encode(step)))
        .collect()
}

/// Compares the key fields of two elements; the default protocol may be omitted.
fn has_equal_keys(keys: &[String], one: &Value, other: &Value) -> bool {
    let field = |element: &Value, key: &String| match element.get(key) {
        None if key == "protocol" => Some(Value::from("TCP")),
        value => value.cloned(),
    };
    keys.iter()
        .all(|key| field(one, key).is_some() && field(one, key) == field(other, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[allow(
        clippy::needless_pass_by_value,
        reason = "json! makes values, not references"
    )]
    fn object(spec: Value, entries: &[(&str, Value)]) -> Object {
        let entries: Vec<Value> = entries
            .iter()
            .map(|(manager, fields)| json!({"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": fields}}))
            .collect();
        Object::new(json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "managedFields": entries}, "spec": spec})).unwrap()
    }

    #[test]
    fn refused_fields_in_the_way_table() {
        let port = |port: u16| json!({"name": "http", "port": port, "protocol": "TCP"});
        let key = |port: u16| format!("k:{{\"port\":{port},\"protocol\":\"TCP\"}}");
        let ports = [
            (
                "tagboat",
                json!({"f:ports": {key(80): {".": {}, "f:port": {}}}}),
            ),
            (
                "k9s",
                json!({"f:ports": {key(81): {".": {}, "f:port": {}}}}),
            ),
        ];
        let named =
            |list: &str, fields: Value| [("k9s", json!({list: {"k:{\"name\":\"a\"}": fields}}))];
        for (case, live, wanted, cause, found) in [
            (
                "a port of the same name",
                object(json!({"ports": [port(81)]}), &ports),
                json!({"ports": [port(80)]}),
                "spec.ports[1].name: Duplicate value: \"http\"",
                "/spec/ports/0",
            ),
            (
                "a port that Git names",
                object(json!({"ports": [port(81)]}), &ports),
                json!({"ports": [port(81)]}),
                "spec.ports[1].name: Duplicate value: \"http\"",
                "",
            ),
            (
                "the server's default",
                object(
                    json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}, "replicas": 1}),
                    &[],
                ),
                json!({"strategy": {"type": "Recreate"}}),
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
                "/spec/strategy/rollingUpdate",
            ),
            (
                "the other half of a value",
                object(
                    json!({"env": [{"name": "a", "valueFrom": {}}, {"name": "injected", "value": "1"}]}),
                    &named("f:env", json!({"f:valueFrom": {}})),
                ),
                json!({"env": [{"name": "a", "value": "1"}]}),
                "spec.env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
                "/spec/env/0/valueFrom",
            ),
            (
                "the field of Git is named, not the one in the way",
                object(
                    json!({"volumes": [{"name": "a", "emptyDir": {}}]}),
                    &named("f:volumes", json!({".": {}})),
                ),
                json!({"volumes": [{"name": "a", "configMap": {"name": "c"}}]}),
                "spec.volumes[0].configMap: Forbidden: may not specify more than 1 volume type",
                "/spec/volumes/0/emptyDir",
            ),
            (
                "another complaint",
                object(
                    json!({"volumes": [{"name": "a", "emptyDir": {}}]}),
                    &named("f:volumes", json!({".": {}})),
                ),
                json!({"volumes": [{"name": "a", "configMap": {"name": "c"}}]}),
                "spec.volumes[0].configMap.name: Invalid value: \"c\"",
                "",
            ),
            (
                "fields of a spec are no alternatives",
                object(
                    json!({"replicas": 3, "paused": true}),
                    &[("hpa", json!({"f:replicas": {}}))],
                ),
                json!({}),
                "spec.paused: Forbidden: may not be set",
                "/spec/paused",
            ),
            (
                "ours goes by itself",
                object(
                    json!({"strategy": {"rollingUpdate": {}}}),
                    &[("tagboat", json!({"f:strategy": {"f:rollingUpdate": {}}}))],
                ),
                json!({"strategy": {"type": "Recreate"}}),
                "spec.strategy.rollingUpdate: Forbidden: may not be specified",
                "",
            ),
            (
                "no path",
                object(json!({"a": 1}), &[]),
                json!({}),
                "what",
                "",
            ),
        ] {
            let manifest = object(wanted, &[]);
            let pointers = in_the_way(&live, &manifest, &[cause.to_owned()]);
            assert_eq!(pointers.join(" "), found, "{case}");
        }
    }

    proptest::proptest! {
        #[test]
        fn refused_fields_any_cause_never_panics(cause in r"[a-z.\[\]0-9: ]{0,24}") {
            let live = object(json!({"a": [{"name": "b"}]}), &[]);
            in_the_way(&live, &live, &[cause]);
        }
    }
}
