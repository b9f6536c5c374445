//! Sets of fields, as `metadata.managedFields` holds them (`fieldsV1`), and what merges and
//! compares objects by them. Pure.

use super::schema::{KindSchema, ListMerge, key};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A step from an object to one of its fields.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FieldSegment {
    Field(String),
    /// An element of a keyed list: its key as JSON.
    Key(String),
    /// An element of a set: its value as JSON.
    Value(String),
}

/// A set of fields: whether the field itself is a member, and its children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub owned: bool,
    pub below: BTreeMap<FieldSegment, Fields>,
}

/// Fields that only the server writes, without an owner.
const NOBODYS: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "generation",
    "resourceVersion",
    "selfLink",
    "managedFields",
    "generateName",
];

impl Fields {
    /// The fields that an object says something about.
    pub(super) fn of(object: &Value, schema: KindSchema) -> Self {
        let mut fields = Self::default();
        fields.add(object, schema, &mut Vec::new());
        fields.strip();
        fields
    }

    fn add<'a>(&mut self, value: &'a Value, schema: KindSchema, path: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) if !map.is_empty() && !schema.is_atomic_map(path) => {
                for (name, value) in map {
                    path.push(name);
                    self.below
                        .entry(FieldSegment::Field(name.clone()))
                        .or_default()
                        .add(value, schema, path);
                    path.pop();
                }
            }
            Value::Array(list) if !list.is_empty() => match elements(list, schema.list(path)) {
                Some(elements) => {
                    for (step, element) in elements {
                        let below = self.below.entry(step).or_default();
                        below.owned = true;
                        if element.is_object() {
                            below.add(element, schema, path);
                        }
                    }
                }
                None => self.owned = true,
            },
            _ => self.owned = true,
        }
    }

    /// Removes fields that have no owner.
    pub(super) fn strip(&mut self) {
        self.below
            .remove(&FieldSegment::Field("apiVersion".to_owned()));
        self.below.remove(&FieldSegment::Field("kind".to_owned()));
        let metadata = FieldSegment::Field("metadata".to_owned());
        if let Some(below) = self.below.get_mut(&metadata) {
            below.below.retain(
                |step, _| !matches!(step, FieldSegment::Field(name) if NOBODYS.contains(&name.as_str())),
            );
            below.owned = false;
            if below.is_empty() {
                self.below.remove(&metadata);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.owned && self.below.values().all(Self::is_empty)
    }

    pub(super) fn union(&mut self, other: &Self) {
        self.owned |= other.owned;
        for (step, fields) in &other.below {
            self.below.entry(step.clone()).or_default().union(fields);
        }
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        self.owned &= !other.owned;
        for (step, fields) in &other.below {
            if let Some(below) = self.below.get_mut(step) {
                below.subtract(fields);
                if below.is_empty() {
                    self.below.remove(step);
                }
            }
        }
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        let mut both = Self {
            owned: self.owned && other.owned,
            below: BTreeMap::new(),
        };
        for (step, fields) in &self.below {
            if let Some(below) = other
                .below
                .get(step)
                .map(|other| fields.intersection(other))
                .filter(|below| !below.is_empty())
            {
                both.below.insert(step.clone(), below);
            }
        }
        both
    }

    /// Encodes the set as `fieldsV1`.
    pub(super) fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.owned && !self.below.is_empty() {
            map.insert(".".to_owned(), json!({}));
        }
        for (step, fields) in &self.below {
            let name = match step {
                FieldSegment::Field(name) => format!("f:{name}"),
                FieldSegment::Key(key) => format!("k:{key}"),
                FieldSegment::Value(value) => format!("v:{value}"),
            };
            map.insert(name, fields.to_json());
        }
        Value::Object(map)
    }

    /// Decodes `fieldsV1`; unknown parts are dropped.
    pub(super) fn from_json(value: &Value) -> Self {
        let Some(map) = value.as_object() else {
            return Self::default();
        };
        let mut fields = Self {
            owned: map.is_empty() || map.contains_key("."),
            below: BTreeMap::new(),
        };
        for (name, value) in map {
            let step = match name.split_once(':') {
                Some(("f", name)) => FieldSegment::Field(name.to_owned()),
                Some(("k", key)) => FieldSegment::Key(key.to_owned()),
                Some(("v", value)) => FieldSegment::Value(value.to_owned()),
                _ => continue,
            };
            fields.below.insert(step, Self::from_json(value));
        }
        fields
    }

    /// The paths as the API server's conflicts name them: `.spec.containers[name="main"].image`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.write_paths("", &mut paths);
        paths
    }

    fn write_paths(&self, prefix: &str, paths: &mut Vec<String>) {
        if self.owned {
            paths.push(prefix.to_owned());
        }
        for (step, fields) in &self.below {
            let step = match step {
                FieldSegment::Field(name) => format!(".{name}"),
                FieldSegment::Key(key) => {
                    let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
                    let pairs: Vec<String> = key
                        .iter()
                        .map(|(name, value)| format!("{name}={value}"))
                        .collect();
                    format!("[{}]", pairs.join(","))
                }
                FieldSegment::Value(value) => format!("[={value}]"),
            };
            fields.write_paths(&format!("{prefix}{step}"), paths);
        }
    }
}

/// The elements of a list that has keys or is a set, each with its step; none if it is atomic or an
/// element has no key.
fn elements(list: &[Value], kind: ListMerge) -> Option<Vec<(FieldSegment, &Value)>> {
    let step = |element: &Value| match kind {
        ListMerge::Atomic => None,
        ListMerge::Set => Some(FieldSegment::Value(element.to_string())),
        ListMerge::Keyed(fields) => {
            key(fields, element).map(|key| FieldSegment::Key(key.to_string()))
        }
    };
    list.iter()
        .map(|element| Some((step(element)?, element)))
        .collect()
}

/// The differences between two objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FieldDifference {
    /// Fields that are new or have another value.
    pub changed: Fields,
    pub removed: Fields,
}

/// Compares two objects.
pub(super) fn compare(old: &Value, new: &Value, schema: KindSchema) -> FieldDifference {
    let mut difference = FieldDifference::default();
    compare_at(
        old,
        new,
        schema,
        &mut Vec::new(),
        &mut difference.changed,
        &mut difference.removed,
    );
    difference.changed.strip();
    difference.removed.strip();
    difference
}

fn compare_at<'a>(
    old: &'a Value,
    new: &'a Value,
    schema: KindSchema,
    path: &mut Vec<&'a str>,
    changed: &mut Fields,
    removed: &mut Fields,
) {
    match (old, new) {
        (Value::Object(before), Value::Object(after)) if !schema.is_atomic_map(path) => {
            for (name, old) in before {
                path.push(name);
                match after.get(name) {
                    Some(new) if new == old => {}
                    Some(new) => {
                        let (mut more, mut less) = (Fields::default(), Fields::default());
                        compare_at(old, new, schema, path, &mut more, &mut less);
                        keep(changed, FieldSegment::Field(name.clone()), more);
                        keep(removed, FieldSegment::Field(name.clone()), less);
                    }
                    None => whole(
                        removed
                            .below
                            .entry(FieldSegment::Field(name.clone()))
                            .or_default(),
                        old,
                        schema,
                        path,
                    ),
                }
                path.pop();
            }
            for (name, new) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
                path.push(name);
                whole(
                    changed
                        .below
                        .entry(FieldSegment::Field(name.clone()))
                        .or_default(),
                    new,
                    schema,
                    path,
                );
                path.pop();
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            let kind = schema.list(path);
            let (Some(before), Some(after)) = (elements(before, kind), elements(after, kind))
            else {
                changed.owned = old != new;
                return;
            };
            for (step, old) in &before {
                match after.iter().find(|(other, _)| other == step) {
                    Some((_, new)) if new == old => {}
                    Some((_, new)) => {
                        let (mut more, mut less) = (Fields::default(), Fields::default());
                        compare_at(old, new, schema, path, &mut more, &mut less);
                        keep(changed, step.clone(), more);
                        keep(removed, step.clone(), less);
                    }
                    None => {
                        let gone = removed.below.entry(step.clone()).or_default();
                        whole(gone, old, schema, path);
                        gone.owned = true;
                    }
                }
            }
            for (step, new) in after
                .iter()
                .filter(|(step, _)| !before.iter().any(|(other, _)| other == step))
            {
                let fresh = changed.below.entry(step.clone()).or_default();
                whole(fresh, new, schema, path);
                fresh.owned = true;
            }
        }
        _ if old == new => {}
        _ => {
            // Another type of value: the fields below it are gone.
            removed.add(old, schema, path);
            removed.owned = false;
            whole(changed, new, schema, path);
        }
    }
}

/// Adds a field with everything below it.
fn whole<'a>(fields: &mut Fields, value: &'a Value, schema: KindSchema, path: &mut Vec<&'a str>) {
    fields.add(value, schema, path);
    fields.owned = true;
}

fn keep(fields: &mut Fields, step: FieldSegment, below: Fields) {
    if !below.is_empty() {
        fields.below.insert(step, below);
    }
}

/// Merges the applied object into the live one: maps by field, keyed lists by element, anything
/// else as a whole.
pub(super) fn merge(live: &Value, applied: &Value, schema: KindSchema) -> Value {
    merge_at(live, applied, schema, &mut Vec::new())
}

fn merge_at<'a>(
    live: &'a Value,
    applied: &'a Value,
    schema: KindSchema,
    path: &mut Vec<&'a str>,
) -> Value {
    match (live, applied) {
        (Value::Object(old), Value::Object(new)) if !schema.is_atomic_map(path) => {
            let mut merged = old.clone();
            for (name, value) in new {
                path.push(name);
                let value = old
                    .get(name)
                    .map_or_else(|| value.clone(), |old| merge_at(old, value, schema, path));
                path.pop();
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Value::Array(old), Value::Array(new)) => {
            let kind = schema.list(path);
            let (Some(old), Some(new)) = (elements(old, kind), elements(new, kind)) else {
                return applied.clone();
            };
            let is_new = |step: &FieldSegment| new.iter().any(|(other, _)| other == step);
            // The applied order; what only the live object has stays before the same neighbour.
            let (mut merged, mut next) = (Vec::new(), 0);
            for (step, element) in &new {
                while let Some((_, alone)) = old.get(next).filter(|(step, _)| !is_new(step)) {
                    merged.push(Value::clone(alone));
                    next += 1;
                }
                match old.iter().position(|(other, _)| other == step) {
                    Some(at) => {
                        if at >= next {
                            merged.extend(
                                old[next..at]
                                    .iter()
                                    .filter(|(step, _)| !is_new(step))
                                    .map(|(_, element)| Value::clone(element)),
                            );
                            next = at + 1;
                        }
                        merged.push(merge_at(old[at].1, element, schema, path));
                    }
                    None => merged.push(Value::clone(element)),
                }
            }
            merged.extend(
                old[next..]
                    .iter()
                    .filter(|(step, _)| !is_new(step))
                    .map(|(_, element)| Value::clone(element)),
            );
            Value::Array(merged)
        }
        _ => applied.clone(),
    }
}

/// Removes fields from an object, and parents that become empty.
pub(super) fn remove(object: &mut Value, fields: &Fields, schema: KindSchema) {
    remove_at(object, fields, schema, &mut Vec::new());
}

fn remove_at(value: &mut Value, fields: &Fields, schema: KindSchema, path: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (step, below) in &fields.below {
                let FieldSegment::Field(name) = step else {
                    continue;
                };
                let Some(inner) = map.get_mut(name) else {
                    continue;
                };
                if below.below.is_empty() {
                    map.shift_remove(name);
                    continue;
                }
                path.push(name.clone());
                remove_at(inner, below, schema, path);
                path.pop();
                if matches!(inner, Value::Object(map) if map.is_empty())
                    || matches!(inner, Value::Array(list) if list.is_empty())
                {
                    map.shift_remove(name);
                }
            }
        }
        Value::Array(list) => {
            let kind = schema.list(&path.iter().map(String::as_str).collect::<Vec<_>>());
            let Some(steps) = elements(list, kind)
                .map(|all| all.into_iter().map(|(step, _)| step).collect::<Vec<_>>())
            else {
                return;
            };
            let mut steps = steps.into_iter();
            list.retain_mut(|element| {
                let Some(below) = steps.next().and_then(|step| fields.below.get(&step)) else {
                    return true;
                };
                if below.owned {
                    return false;
                }
                remove_at(element, below, schema, path);
                true
            });
        }
        _ => {}
    }
}
