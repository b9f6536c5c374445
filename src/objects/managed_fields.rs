//! Field ownership of live objects, from `metadata.managedFields`. Pure.
//!
//! The field holds, for each manager, a tree (FieldsV1): `f:name` is a field, `k:{"name":"x"}` a
//! list element by its merge keys, `v:"x"` an element of a set, `i:3` an element by index, `.` the
//! node itself. A leaf is `{}`.

use crate::{
    core::pointer,
    objects::{
        object::{MANAGER, Object, PREFIX},
        plan::{FieldPattern, KindAtomicFields, ListType},
    },
};
use jiff::Timestamp;
use serde_json::{Map, Value};

/// The operation by which a manager came to own fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ManagerOperation {
    /// Server-side apply.
    Apply,
    /// Create, update or patch.
    Update,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    /// The name, as "kubectl-edit".
    pub name: String,
    pub operation: ManagerOperation,
    /// The subresource, as "scale" or "status".
    pub subresource: Option<String>,
    /// The time of its last change.
    pub time: Option<Timestamp>,
}

fn entries(live: &Object) -> impl Iterator<Item = &Value> {
    live.pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|entry| entry.is_object())
}

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn manager(entry: &Value) -> Manager {
    Manager {
        name: text(entry, "manager").to_owned(),
        operation: if text(entry, "operation") == "Apply" {
            ManagerOperation::Apply
        } else {
            ManagerOperation::Update
        },
        subresource: Some(text(entry, "subresource"))
            .filter(|name| !name.is_empty())
            .map(str::to_owned),
        time: text(entry, "time").parse().ok(),
    }
}

/// Returns the managers of the value at an RFC 6901 pointer, the latest writer first. A value below
/// an atomic map or list belongs to the manager of that.
pub fn managers_of(live: &Object, pointer: &str) -> Vec<Manager> {
    let steps = steps(pointer);
    let mut owners: Vec<Manager> = entries(live)
        .filter(|entry| {
            entry
                .get("fieldsV1")
                .is_some_and(|tree| owns(tree, live, &steps))
        })
        .map(manager)
        .collect();
    owners.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.cmp(b)));
    owners.dedup();
    owners
}

fn owns(tree: &Value, live: &Object, steps: &[String]) -> bool {
    found(tree, live, steps).is_some()
}

/// Returns the node of a value in a tree, or of the atomic value above it.
fn found<'t>(tree: &'t Value, live: &Object, steps: &[String]) -> Option<&'t Value> {
    let mut node = tree;
    let mut value: Option<&Value> = None;
    for (at, step) in steps.iter().enumerate() {
        let children = node.as_object()?;
        if at > 0 && children.is_empty() {
            return Some(node);
        }
        let (found, next) = match value {
            Some(Value::Array(list)) => {
                let (index, element) = step
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| Some((index, list.get(index)?)))?;
                (
                    children
                        .iter()
                        .find(|(key, _)| is_element(key, index, element))
                        .map(|(_, child)| child),
                    Some(element),
                )
            }
            Some(value) => (children.get(&format!("f:{step}")), value.get(step)),
            None => (children.get(&format!("f:{step}")), live.value().get(step)),
        };
        (node, value) = (found?, next);
    }
    (!steps.is_empty()).then_some(node)
}

/// Splits an RFC 6901 pointer.
fn steps(path: &str) -> Vec<String> {
    path.split('/')
        .skip(1)
        .map(|token| pointer::decode(token).into_owned())
        .collect()
}

/// Returns whether a manager other than `own` owns the whole value at an RFC 6901 pointer, and
/// `own` does not.
pub fn is_overwritten(live: &Object, pointer: &str, own: &str) -> bool {
    let steps = steps(pointer);
    let mut others = false;
    for entry in entries(live) {
        let whole = entry
            .get("fieldsV1")
            .and_then(|tree| found(tree, live, &steps))
            .and_then(Value::as_object)
            .is_some_and(Map::is_empty);
        if whole && text(entry, "manager") == own {
            return false;
        }
        others |= whole;
    }
    others
}

/// Returns the atomic maps and lists of a manifest, learnt from the API server's answer to its
/// apply by `own`.
pub fn atomic_fields(manifest: &Object, answer: &Object, own: &str) -> KindAtomicFields {
    let mut found_atomic = Vec::new();
    let ours = entries(answer)
        .filter(|entry| text(entry, "manager") == own && text(entry, "subresource").is_empty());
    for children in ours.filter_map(|entry| entry.get("fieldsV1")?.as_object()) {
        let mut place = FieldPattern::default();
        for (name, wanted) in manifest.value() {
            let Some(node) = children.get(&format!("f:{name}")) else {
                continue;
            };
            let mark = place.field(name);
            find_atoms(node, wanted, &mut place, &mut found_atomic);
            place.back(mark);
        }
    }
    KindAtomicFields::new(found_atomic)
}

fn find_atoms(
    node: &Value,
    wanted: &Value,
    place: &mut FieldPattern,
    found_atomic: &mut Vec<Box<str>>,
) {
    let Some(children) = node.as_object() else {
        return;
    };
    match wanted {
        // An empty map is a leaf whether it is atomic or not.
        Value::Object(fields) if fields.values().all(Value::is_null) => {}
        // A list of scalars is one leaf anyway.
        Value::Array(elements) if elements.is_empty() || !elements.iter().all(Value::is_object) => {
        }
        Value::Object(_) | Value::Array(_) if children.is_empty() => {
            found_atomic.push(place.to_string().into())
        }
        Value::Object(fields) => {
            for (name, wanted) in fields {
                let Some(node) = children.get(&format!("f:{name}")) else {
                    continue;
                };
                let mark = place.field(name);
                find_atoms(node, wanted, place, found_atomic);
                place.back(mark);
            }
        }
        Value::Array(elements) => {
            let mark = place.element();
            for (key, node) in children.iter().filter(|(key, _)| key.starts_with("k:")) {
                for wanted in elements.iter().filter(|wanted| may_be(key, wanted)) {
                    find_atoms(node, wanted, place, found_atomic);
                }
            }
            place.back(mark);
        }
        _ => {}
    }
}

/// Returns whether a tree key may match an element of a manifest, which may omit defaulted fields.
fn may_be(key: &str, element: &Value) -> bool {
    key.strip_prefix("k:")
        .and_then(|keys| serde_json::from_str::<Map<String, Value>>(keys).ok())
        .is_some_and(|keys| {
            keys.iter()
                .all(|(name, value)| element.get(name).is_none_or(|wanted| wanted == value))
        })
}

/// Returns whether a tree key matches an element of a list.
fn is_element(key: &str, index: usize, element: &Value) -> bool {
    match key.split_at_checked(2) {
        Some(("k:", keys)) => serde_json::from_str::<Map<String, Value>>(keys).is_ok_and(|keys| {
            !keys.is_empty()
                && keys
                    .iter()
                    .all(|(name, value)| element.get(name) == Some(value))
        }),
        Some(("v:", value)) => {
            serde_json::from_str::<Value>(value).is_ok_and(|value| value == *element)
        }
        Some(("i:", number)) => number.parse() == Ok(index),
        _ => false,
    }
}

/// Returns the fields that tell the elements of a list apart, as the API server uses them.
pub(crate) fn list_key_fields(live: &Object, pointer: &str) -> Vec<String> {
    let steps = steps(pointer);
    let keys = |entry: &Value| {
        let node = found(entry.get("fieldsV1")?, live, &steps)?.as_object()?;
        let key = node.keys().find_map(|key| key.strip_prefix("k:"))?;
        let fields: Map<String, Value> = serde_json::from_str(key).ok()?;
        Some(fields.into_iter().map(|(name, _)| name).collect())
    };
    entries(live).find_map(keys).unwrap_or_default()
}

/// Returns whether `own` manages the value at an RFC 6901 pointer, and nobody else.
pub(crate) fn is_owned_only_by(live: &Object, pointer: &str, own: &str) -> bool {
    let managers = managers_of(live, pointer);
    !managers.is_empty() && managers.iter().all(|manager| manager.name == own)
}

/// Field ownership after a claim.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ClaimedFields {
    /// The managed fields to write.
    pub entries: Vec<Value>,
    /// The claimed fields, each with its former managers; none if the server set it.
    pub fields: Vec<(String, Vec<String>)>,
}

/// Returns the managed fields after `own` has claimed the values at JSON pointers. `None` if
/// nothing can be claimed.
pub(crate) fn claimed(live: &Object, pointers: &[String], own: &str) -> Option<ClaimedFields> {
    let is_ours = |entry: &Value| {
        text(entry, "manager") == own
            && text(entry, "operation") == "Apply"
            && text(entry, "subresource").is_empty()
    };
    let mut all: Vec<Value> = entries(live).cloned().collect();
    let at = all.iter().position(is_ours)?;
    let mut fields = Vec::new();
    for pointer in pointers {
        let steps = steps(pointer);
        let Some(keys) = tree_keys(live, &steps) else {
            continue;
        };
        let mut tree = Value::Object(Map::new());
        let mut managers = Vec::new();
        for entry in all.iter_mut().filter(|entry| !is_ours(entry)) {
            let name = text(entry, "manager").to_owned();
            if let Some(node) = entry
                .get_mut("fieldsV1")
                .and_then(|fields| removed(fields, &keys))
            {
                union(&mut tree, &node);
                managers.push(name);
            }
        }
        let Some(mine) = all[at].get_mut("fieldsV1") else {
            continue;
        };
        for key in keys.iter().rev() {
            let mut above = Map::new();
            above.insert(key.clone(), tree);
            tree = Value::Object(above);
        }
        union(mine, &tree);
        fields.push((pointer.clone(), managers));
    }
    all.retain(|entry| {
        let fields = entry.get("fieldsV1").and_then(Value::as_object);
        fields.is_none_or(|fields| !fields.is_empty())
    });
    (!fields.is_empty()).then_some(ClaimedFields {
        entries: all,
        fields,
    })
}

/// Returns the keys of FieldsV1 on the way to a value. The key of a list element is that of any
/// manager that owns something in it.
fn tree_keys(live: &Object, steps: &[String]) -> Option<Vec<String>> {
    let mut keys: Vec<String> = Vec::with_capacity(steps.len());
    let mut value: Option<&Value> = None;
    for (at, step) in steps.iter().enumerate() {
        let (key, next) = match value {
            Some(Value::Array(list)) => {
                let index = step.parse::<usize>().ok()?;
                let element = list.get(index)?;
                let known = entries(live).find_map(|entry| {
                    let node = keys
                        .iter()
                        .try_fold(entry.get("fieldsV1")?, |node, key| node.get(key))?;
                    let mut names = node.as_object()?.keys();
                    names.find(|key| is_element(key, index, element)).cloned()
                });
                (known?, element)
            }
            Some(value) => (format!("f:{step}"), value.get(step)?),
            None if at == 0 => (format!("f:{step}"), live.value().get(step)?),
            None => return None,
        };
        keys.push(key);
        value = Some(next);
    }
    (!keys.is_empty()).then_some(keys)
}

/// Removes a node from a tree, with the branches that become empty, and returns it.
fn removed(tree: &mut Value, keys: &[String]) -> Option<Value> {
    let (first, rest) = keys.split_first()?;
    let map = tree.as_object_mut()?;
    if rest.is_empty() {
        return map.shift_remove(first);
    }
    let child = map.get_mut(first)?;
    let node = removed(child, rest)?;
    if child.as_object().is_some_and(Map::is_empty) {
        map.shift_remove(first);
    }
    Some(node)
}

/// Returns the last writer of the object itself, not of a subresource.
pub fn last_writer(live: &Object) -> Option<Manager> {
    entries(live)
        .map(manager)
        .filter(|manager| manager.subresource.is_none())
        .max_by(|a, b| a.time.cmp(&b.time))
}

/// Named in place of a manager that scaled to zero.
const UNKNOWN_SCALER: &str = "an unknown client";

/// Returns the manager that set `spec.replicas` through the scale subresource, usually an
/// autoscaler.
///
/// The API server keeps no entry for a scale to zero: nobody owns the number then, although
/// everything else has an owner.
pub fn scaled_by(live: &Object) -> Option<String> {
    let replicas = live.pointer("/spec/replicas");
    if replicas.and_then(Value::as_i64) == Some(0)
        && entries(live).any(|entry| text(entry, "manager") == MANAGER)
        && managers_of(live, "/spec/replicas").is_empty()
    {
        return Some(UNKNOWN_SCALER.to_owned());
    }
    entries(live)
        .filter(|entry| text(entry, "subresource") == "scale")
        .filter(|entry| entry.pointer("/fieldsV1/f:spec/f:replicas").is_some())
        .max_by(|a, b| text(a, "time").cmp(text(b, "time")))
        .map(|entry| text(entry, "manager").to_owned())
}

/// Returns which of `names` own fields of the object itself (not through a subresource), sorted.
pub(crate) fn legacy_managers(live: &Object, names: &[String], own: &str) -> Vec<String> {
    let mut found: Vec<String> = entries(live)
        .filter(|entry| is_legacy(entry, names, own))
        .map(|entry| text(entry, "manager").to_owned())
        .collect();
    found.sort();
    found.dedup();
    found
}

fn is_legacy(entry: &Value, names: &[String], own: &str) -> bool {
    let name = text(entry, "manager");
    let ours = name == own && (text(entry, "operation") == "Apply" || holds_record(entry));
    text(entry, "subresource").is_empty()
        && !ours
        && (name == own || names.iter().any(|legacy| legacy == name))
}

/// Returns whether an entry belongs to a record, which is not written by apply and must not be
/// taken over by a manifest.
fn holds_record(entry: &Value) -> bool {
    entry
        .pointer("/fieldsV1/f:metadata/f:labels")
        .is_some_and(|labels| labels.get(format!("f:{PREFIX}/record")).is_some())
}

/// Returns the managed fields after a take-over: the fields of `names` belong to `own`, and their
/// entries are gone. `None` if they own nothing.
///
/// Fields that `own` wrote by other operations than apply are merged too; otherwise they would be
/// owned for ever.
pub(crate) fn taken_over(live: &Object, names: &[String], own: &str) -> Option<Vec<Value>> {
    let (legacy, mut kept): (Vec<&Value>, Vec<&Value>) =
        entries(live).partition(|entry| is_legacy(entry, names, own));
    if legacy.is_empty() {
        return None;
    }
    let at = kept.iter().position(|entry| {
        text(entry, "manager") == own
            && text(entry, "operation") == "Apply"
            && text(entry, "subresource").is_empty()
    });
    let base = at.map(|at| kept.remove(at).clone());
    let mut merged = base.unwrap_or_else(|| {
        let mut first = legacy[0].clone();
        first["manager"] = own.into();
        first["operation"] = "Apply".into();
        first
    });
    for entry in legacy {
        if let Some(fields) = entry.get("fieldsV1") {
            match merged.get_mut("fieldsV1") {
                Some(mine) => union(mine, fields),
                None => merged["fieldsV1"] = fields.clone(),
            }
        }
    }
    Some(
        kept.into_iter()
            .cloned()
            .chain(std::iter::once(merged))
            .collect(),
    )
}

/// Removes a field of the object's spec from what `own` manages, so that it has no owner.
pub(crate) fn disowned(mut entries: Vec<Value>, field: &str, own: &str) -> Vec<Value> {
    let keys = ["f:spec".to_owned(), format!("f:{field}")];
    let ours = entries
        .iter_mut()
        .filter(|entry| text(entry, "manager") == own && text(entry, "subresource").is_empty());
    for fields in ours.filter_map(|entry| entry.get_mut("fieldsV1")) {
        removed(fields, &keys);
    }
    entries
}

/// Returns how the API server merges the list at a JSON pointer, as far as the fields of `own` show
/// it.
pub fn list_type(live: &Object, pointer: &str, own: &str) -> ListType {
    let steps = steps(pointer);
    let mut ours = entries(live)
        .filter(|entry| text(entry, "manager") == own && text(entry, "subresource").is_empty());
    let of = |entry: &Value| {
        let node = found(entry.get("fieldsV1")?, live, &steps)?.as_object()?;
        node.keys().find_map(|key| match key.split_at_checked(2)? {
            ("k:", key) => {
                let fields: Map<String, Value> = serde_json::from_str(key).ok()?;
                Some(ListType::Keyed(
                    fields.into_iter().map(|(name, _)| name).collect(),
                ))
            }
            ("v:", _) => Some(ListType::Set),
            _ => None,
        })
    };
    ours.find_map(of).unwrap_or_default()
}

/// Merges two trees. A leaf that becomes a node keeps owning itself by `.`.
fn union(mine: &mut Value, other: &Value) {
    let (Some(mine), Some(other)) = (mine.as_object_mut(), other.as_object()) else {
        return;
    };
    let lone = |map: &Map<String, Value>| map.is_empty();
    if lone(mine) != lone(other) {
        mine.insert(".".to_owned(), Value::Object(Map::new()));
    }
    for (key, value) in other {
        match mine.get_mut(key) {
            Some(child) => union(child, value),
            None => {
                mine.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A Deployment as a 1.3x server shows it: applied by kubectl, edited, and scaled by an
    /// autoscaler.
    fn deployment() -> Object {
        Object::new(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "web", "namespace": "shop",
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a/b": "c"},
                "finalizers": ["x/one", "x/two"],
                "managedFields": [
                    {"manager": "tagboat", "operation": "Apply", "apiVersion": "apps/v1", "time": "2026-11-20T10:00:00Z", "fieldsType": "FieldsV1",
                     "fieldsV1": {"f:metadata": {"f:finalizers": {"v:\"x/one\"": {}}},
                        "f:spec": {"f:selector": {}, "f:template": {"f:spec": {"f:containers": {
                            "k:{\"name\":\"web\"}": {".": {}, "f:name": {}, "f:image": {}, "f:ports": {
                                "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}}}},
                    {"manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "apps/v1", "time": "2026-11-19T10:00:00Z",
                     "fieldsV1": {"f:metadata": {"f:annotations": {".": {}, "f:a/b": {}, "f:kubectl.kubernetes.io/last-applied-configuration": {}}},
                        "f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {"f:image": {}, "f:env": {".": {}}}}}}}}},
                    {"manager": "kubectl-edit", "operation": "Update", "apiVersion": "apps/v1", "time": "2026-11-21T10:00:00Z",
                     "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {"f:image": {}}}}}}}},
                    {"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "apps/v1", "time": "2026-11-21T11:00:00Z", "subresource": "status",
                     "fieldsV1": {"f:status": {"f:conditions": {".": {}, "k:{\"type\":\"Available\"}": {".": {}, "f:status": {}}}}}},
                    {"manager": "hpa", "operation": "Update", "apiVersion": "autoscaling/v1", "time": "2026-11-21T12:00:00Z", "subresource": "scale",
                     "fieldsV1": {"f:spec": {"f:replicas": {}}}}
                ]
            },
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
                "template": {"spec": {"containers": [{"name": "side"}, {"name": "web", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}}},
            "status": {"conditions": [{"type": "Available", "status": "True"}]}
        }))
        .unwrap()
    }

    fn names(pointer: &str) -> Vec<String> {
        managers_of(&deployment(), pointer)
            .into_iter()
            .map(|manager| manager.name)
            .collect()
    }

    #[test]
    fn managers_found_through_keys_sets_and_atomic() {
        assert_eq!(
            names("/spec/template/spec/containers/1/image"),
            ["kubectl-edit", "tagboat", "kubectl-client-side-apply"]
        );
        assert_eq!(
            names("/spec/template/spec/containers/1/ports/0/containerPort"),
            ["tagboat"]
        );
        assert_eq!(names("/spec/template/spec/containers/0/image"), [""; 0]);
        assert_eq!(names("/spec/selector/matchLabels/app"), ["tagboat"]);
        assert_eq!(names("/spec/replicas"), ["hpa"]);
        assert_eq!(
            names("/metadata/annotations/a~1b"),
            ["kubectl-client-side-apply"]
        );
        assert_eq!(names("/metadata/finalizers/0"), ["tagboat"]);
        assert_eq!(names("/metadata/finalizers/1"), [""; 0]);
        assert_eq!(
            names("/status/conditions/0/status"),
            ["kube-controller-manager"]
        );
        for nothing in [
            "",
            "/",
            "/spec/none",
            "/spec/template/spec/containers/9/image",
            "/spec/template/spec/containers/x",
        ] {
            assert_eq!(names(nothing), [""; 0], "{nothing:?}");
        }
        let edit = &managers_of(&deployment(), "/spec/template/spec/containers/1/image")[0];
        assert_eq!(
            (edit.operation, edit.time),
            (
                ManagerOperation::Update,
                Some("2026-11-21T10:00:00Z".parse().unwrap())
            )
        );
    }

    #[test]
    fn scaled_by_ignores_manifests() {
        assert_eq!(scaled_by(&deployment()).as_deref(), Some("hpa"));
        let plain =
            Object::new(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}))
                .unwrap();
        assert_eq!(scaled_by(&plain), None);
        assert_eq!(managers_of(&plain, "/metadata/name"), []);
    }

    #[test]
    fn scaled_by_recognises_a_scale_to_zero() {
        let live = |replicas: u8, owner: Value| {
            let entries = json!([{"manager": "tagboat", "operation": "Apply", "fieldsV1": {"f:spec": {"f:paused": {}}}}, owner]);
            let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "managedFields": entries}, "spec": {"replicas": replicas}});
            scaled_by(&Object::new(object).unwrap())
        };
        let edited = json!({"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}});
        let status = json!({"manager": "kube-controller-manager", "operation": "Update", "subresource": "status", "fieldsV1": {"f:status": {}}});
        assert_eq!(live(0, status.clone()).as_deref(), Some(UNKNOWN_SCALER));
        assert_eq!(live(1, status), None);
        assert_eq!(live(0, edited), None);
    }

    #[test]
    fn taken_over_merges_but_skips_subresources() {
        let legacy = [
            "kubectl-client-side-apply",
            "kubectl-edit",
            "hpa",
            "kube-controller-manager",
        ]
        .map(str::to_owned);
        assert_eq!(
            legacy_managers(&deployment(), &legacy, "tagboat"),
            ["kubectl-client-side-apply", "kubectl-edit"]
        );
        let entries = taken_over(&deployment(), &legacy, "tagboat").unwrap();
        let managers: Vec<_> = entries.iter().map(|entry| text(entry, "manager")).collect();
        assert_eq!(managers, ["kube-controller-manager", "hpa", "tagboat"]);
        let container = &entries[2]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"web\"}"];
        assert!(
            container.get("f:env").is_some() && container.get("f:ports").is_some(),
            "{container}"
        );
        assert_eq!(entries[2]["operation"], "Apply");
        assert_eq!(
            taken_over(&deployment(), &["nobody".to_owned()], "tagboat"),
            None
        );
        // Without an entry of ours, the first legacy one becomes ours.
        let entries = taken_over(
            &deployment(),
            &["tagboat".to_owned(), "kubectl-edit".to_owned()],
            "other",
        )
        .unwrap();
        assert!(
            entries
                .iter()
                .any(|entry| text(entry, "manager") == "other"
                    && text(entry, "operation") == "Apply")
        );
    }

    #[test]
    fn atomic_fields_learnt_from_own_apply() {
        let manifest = |spec: Value| {
            Object::new(
                json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a"}, "spec": spec}),
            )
            .unwrap()
        };
        let answer = |fields: Value| {
            let theirs =
                json!({"manager": "other", "operation": "Apply", "fieldsV1": {"f:spec": {}}});
            let ours =
                json!({"manager": "tagboat", "operation": "Apply", "fieldsV1": {"f:spec": fields}});
            let value = json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "managedFields": [theirs, ours]}});
            Object::new(value).unwrap()
        };
        let ports = json!({"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:from": {}}}});
        for (spec, fields, found) in [
            (
                json!({"rules": [{"a": 1}], "selector": {"a": "b"}, "more": {"a": 1}}),
                json!({"f:rules": {}, "f:selector": {}, "f:more": {"f:a": {}}}),
                "/spec/rules /spec/selector",
            ),
            // Empty maps and lists of scalars reveal nothing.
            (
                json!({"rules": [], "selector": {}, "nulls": {"a": null}, "args": ["a"]}),
                json!({"f:rules": {}, "f:selector": {}, "f:nulls": {}, "f:args": {}}),
                "",
            ),
            // Elements are matched by their keys, of which a manifest may omit defaulted ones.
            (
                json!({"ports": [{"port": 80, "from": {"a": 1}}]}),
                ports.clone(),
                "/spec/ports/*/from",
            ),
            (
                json!({"ports": [{"port": 81, "from": {"a": 1}}]}),
                ports,
                "",
            ),
            // Entries of other managers reveal nothing.
            (json!({"rules": [{"a": 1}]}), json!({".": {}}), ""),
            (json!({"rules": [{"a": 1}]}), json!("what"), ""),
        ] {
            let found_atomic = atomic_fields(&manifest(spec), &answer(fields), "tagboat");
            assert_eq!(
                found_atomic
                    .places()
                    .iter()
                    .map(AsRef::as_ref)
                    .collect::<Vec<&str>>()
                    .join(" "),
                found
            );
        }
    }

    #[test]
    fn overwritten_empty_map_owned_as_a_whole() {
        let live = |entries: &[(&str, Value)]| {
            let entries: Vec<Value> = entries
                .iter()
                .map(|(name, fields)| json!({"manager": name, "fieldsV1": {"f:spec": fields}}))
                .collect();
            let value = json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "managedFields": entries}, "spec": {"a": {"b": 1}}});
            Object::new(value).unwrap()
        };
        for (entries, lost) in [
            (
                vec![
                    ("tagboat", json!({"f:a": {}})),
                    ("edit", json!({"f:a": {"f:b": {}}})),
                ],
                false,
            ),
            (
                vec![
                    ("tagboat", json!({"f:c": {}})),
                    ("edit", json!({"f:a": {}})),
                ],
                true,
            ),
            (
                vec![
                    ("tagboat", json!({"f:a": {}})),
                    ("edit", json!({"f:a": {}})),
                ],
                false,
            ),
            (vec![("edit", json!({"f:a": {".": {}, "f:b": {}}}))], false),
            (vec![], false),
        ] {
            assert_eq!(
                is_overwritten(&live(&entries), "/spec/a", "tagboat"),
                lost,
                "{entries:?}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn managed_fields_malformed_never_panic(entries in proptest::collection::vec(r#"[a-z{}:",.0-9\[\]]{0,12}"#, 0..4), pointer in "[a-z/~0-9]{0,12}") {
            let fields: Vec<Value> = entries.iter().map(|text| serde_json::from_str(text).unwrap_or_else(|_| json!({"manager": text, "fieldsV1": {text: {}}}))).collect();
            let live = Object::new(json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "managedFields": fields}, "a": [{"b": 1}]})).unwrap();
            managers_of(&live, &pointer);
            scaled_by(&live);
            taken_over(&live, &[String::new(), "a".to_owned()], "tagboat");
        }
    }

    #[test]
    fn taken_over_skips_records() {
        let map = |label: &str| {
            let fields = json!({"f:metadata": {"f:labels": {".": {}, format!("f:{label}"): {}}}, "f:data": {"f:inventory.json": {}}});
            Object::new(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tagboat-web",
                "managedFields": [{"manager": "tagboat", "operation": "Update", "fieldsV1": fields}]}}))
            .unwrap()
        };
        assert_eq!(taken_over(&map("tagboat.dev/record"), &[], "tagboat"), None);
        assert!(legacy_managers(&map("tagboat.dev/record"), &[], "tagboat").is_empty());
        assert!(taken_over(&map("app"), &[], "tagboat").is_some());
    }

    #[test]
    fn claimed_fields_move_to_their_new_owner() {
        let live = |ours: Value, theirs: Value| {
            let entries = json!([
                {"manager": "tagboat", "operation": "Apply", "fieldsV1": ours},
                {"manager": "k9s", "operation": "Update", "fieldsV1": theirs},
            ]);
            Object::new(json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "managedFields": entries},
                "spec": {"a": {"b": 1, "c": 2}, "ports": [{"port": 80}, {"port": 81}]}}))
            .unwrap()
        };
        let fields = |entries: &[Value]| -> Vec<Value> {
            entries
                .iter()
                .map(|entry| entry["fieldsV1"].clone())
                .collect()
        };
        for (ours, theirs, pointer, expected, managers) in [
            // Owned by another manager, whose entry vanishes with its last field.
            (
                json!({"f:spec": {"f:a": {"f:c": {}}}}),
                json!({"f:spec": {"f:a": {"f:b": {}}}}),
                "/spec/a/b",
                vec![json!({"f:spec": {"f:a": {"f:c": {}, "f:b": {}}}})],
                vec!["k9s"],
            ),
            // Owned by nobody.
            (
                json!({"f:spec": {"f:a": {"f:c": {}}}}),
                json!({"f:spec": {"f:x": {}}}),
                "/spec/a/b",
                vec![
                    json!({"f:spec": {"f:a": {"f:c": {}, "f:b": {}}}}),
                    json!({"f:spec": {"f:x": {}}}),
                ],
                vec![],
            ),
            // An element by its key.
            (
                json!({"f:spec": {"f:ports": {"k:{\"port\":80}": {".": {}}}}}),
                json!({"f:spec": {"f:x": {}, "f:ports": {"k:{\"port\":81}": {".": {}, "f:port": {}}}}}),
                "/spec/ports/1",
                vec![
                    json!({"f:spec": {"f:ports": {"k:{\"port\":80}": {".": {}}, "k:{\"port\":81}": {".": {}, "f:port": {}}}}}),
                    json!({"f:spec": {"f:x": {}}}),
                ],
                vec!["k9s"],
            ),
        ] {
            let found = claimed(&live(ours, theirs), &[pointer.to_owned()], "tagboat").unwrap();
            assert_eq!(fields(&found.entries), expected, "{pointer}");
            let managers = managers.into_iter().map(str::to_owned).collect();
            assert_eq!(found.fields, [(pointer.to_owned(), managers)]);
        }
        let nothing = live(json!({"f:spec": {}}), json!({}));
        assert_eq!(
            claimed(&nothing, &["/spec/none".to_owned()], "tagboat"),
            None
        );
        assert_eq!(claimed(&nothing, &["/spec/a".to_owned()], "other"), None);
    }

    #[test]
    fn union_of_leaf_and_node_keeps_both() {
        for (mine, other, both) in [
            (json!({}), json!({"f:a": {}}), json!({".": {}, "f:a": {}})),
            (json!({"f:a": {}}), json!({}), json!({".": {}, "f:a": {}})),
            (
                json!({"f:a": {}}),
                json!({"f:b": {"f:c": {}}}),
                json!({"f:a": {}, "f:b": {"f:c": {}}}),
            ),
            (json!({}), json!({}), json!({})),
        ] {
            let mut united = mine;
            union(&mut united, &other);
            assert_eq!(united, both);
        }
    }
}
