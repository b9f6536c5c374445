//! Field ownership of live objects, from `metadata.managedFields`. Pure.
//!
//! The field holds, for each manager, a tree (FieldsV1): `f:name` is a field, `k:{"name":"x"}` a
//! list element by its merge keys, `v:"x"` an element of a set, `i:3` an element by index, `.` the
//! node itself. A leaf is `{}`.

mod additions;
mod takeover;

pub(crate) use additions::AddedField;
pub(crate) use takeover::{TakeOverRules, disowned, without};

use crate::{
    core::pointer,
    objects::{
        object::{MANAGER, Object, Retention},
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

/// Returns what the annotations that tagboat has applied say about an object's deletion: others may
/// annotate a live object, too.
pub fn applied_retention(live: &Object) -> Retention {
    let whole = live.retention();
    if whole == Retention::default() {
        return whole;
    }
    let is_ours = |name: &str| {
        let pointer = format!("/metadata/annotations/{}", pointer::encode(name));
        let mut managers = managers_of(live, &pointer).into_iter();
        managers.any(|manager| manager.name == MANAGER)
    };
    live.retention_by(is_ours)
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

/// Returns whether `own` alone manages the value at an RFC 6901 pointer.
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
/// The API server keeps no entry for a scale to zero: the number has no manager then, although
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
mod tests;
