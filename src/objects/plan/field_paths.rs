//! The leaves of a manifest, and the live values in their places.
//!
//! Drift is judged over the leaves that the manifest names; what API servers, webhooks and users
//! add beside them is theirs. List elements are matched as server-side apply matches them, by their
//! identifying fields, so that a side-car in front moves nothing. An atomic map or list
//! ([`KindAtomicFields`]) is one leaf.

use super::{
    DesiredObject,
    atomic::{FieldPattern, KindAtomicFields},
    leaf_hashes::{LeafHashes, leaf_hash},
    value_hash::{ValueHash, canonical, sorted},
};
use crate::{
    core::pointer,
    objects::object::{Object, ObjectKey},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldStep {
    Field(String),
    /// A list element, by its identifying fields if it has any.
    Element {
        /// The index in the manifest, from 0.
        index: usize,
        /// The identifying fields, as ("name", "web").
        identity: Vec<(String, Value)>,
    },
}

/// The path of a field in an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldPath(pub Vec<FieldStep>);

/// Writes `/spec/template/spec/containers[name=web]/image`.
impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            match part {
                FieldStep::Field(name) => write!(f, "/{}", pointer::encode(name))?,
                FieldStep::Element { index, identity } if identity.is_empty() => {
                    write!(f, "/{index}")?
                }
                FieldStep::Element { identity, .. } => {
                    let said: Vec<String> = identity
                        .iter()
                        .map(|(field, value)| format!("{field}={}", plain(value)))
                        .collect();
                    write!(f, "[{}]", said.join(","))?;
                }
            }
        }
        Ok(())
    }
}

impl FieldPath {
    /// Returns whether a JSON pointer names this path or a parent of it.
    pub fn is_below(&self, pointer: &str) -> bool {
        let mut parts = self.0.iter();
        pointer
            .trim_end_matches('/')
            .split('/')
            .skip(1)
            .all(|desired| match parts.next() {
                Some(FieldStep::Field(name)) => pointer::decode(desired) == *name,
                Some(FieldStep::Element { index, .. }) => desired.parse() == Ok(*index),
                None => false,
            })
    }

    /// Returns the JSON pointer of this path in another object, with list elements matched by
    /// identity.
    pub fn pointer_in(&self, object: &Object) -> Option<String> {
        let mut path = String::new();
        let mut parts = self.0.iter();
        let Some(FieldStep::Field(first)) = parts.next() else {
            return None;
        };
        let token = |name: &str| format!("/{}", pointer::encode(name));
        path.push_str(&token(first));
        let mut value = object.value().get(first)?;
        for part in parts {
            match part {
                FieldStep::Field(name) => {
                    path.push_str(&token(name));
                    value = value.get(name)?;
                }
                FieldStep::Element { index, identity } => {
                    let elements = value.as_array()?;
                    value = element(elements, *index, identity)?;
                    let place = elements
                        .iter()
                        .position(|other| std::ptr::eq(other, value))?;
                    path.push_str(&format!("/{place}"));
                }
            }
        }
        Some(path)
    }

    /// Returns the value at this path in another object, with list elements matched by identity.
    pub fn of<'v>(&self, object: &'v Object) -> Option<&'v Value> {
        let mut parts = self.0.iter();
        let Some(FieldStep::Field(first)) = parts.next() else {
            return None;
        };
        let mut value = object.value().get(first)?;
        for part in parts {
            value = match part {
                FieldStep::Field(name) => value.get(name)?,
                FieldStep::Element { index, identity } => {
                    element(value.as_array()?, *index, identity)?
                }
            };
        }
        Some(value)
    }
}

/// Identifying fields of list elements, in the order in which they are tried: the
/// `x-kubernetes-list-map-keys` of the built-in kinds.
const IDENTITIES: &[&[&str]] = &[
    &["name"],
    &["containerPort", "protocol"],
    &["port", "protocol"],
    &["mountPath"],
    &["devicePath"],
    &["topologyKey", "whenUnsatisfiable"],
    &["uid"],
    &["ip"],
    &["type"],
    &["key"],
];

/// Defaults that manifests omit and API servers add.
const DEFAULTS: &[(&str, &str)] = &[("protocol", "TCP")];

/// How the API server merges a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ListType {
    /// As one value, or unknown.
    #[default]
    Unknown,
    /// By the values of these fields.
    Keyed(Vec<String>),
    /// A set of scalars.
    Set,
}

/// The field ownership of a live object.
#[derive(Clone, Copy)]
pub struct FieldOwnership<'b> {
    /// The atomic maps and lists of the manifest.
    pub atomic_fields: &'b KindAtomicFields,
    /// Returns whether another manager owns the whole of a map that the manifest leaves empty.
    /// Nothing else tells whether an empty map is atomic.
    pub overwritten: &'b dyn Fn(&FieldPath) -> bool,
    /// Returns how the API server merges a list.
    pub list_type: &'b dyn Fn(&FieldPath) -> ListType,
}

impl Default for FieldOwnership<'_> {
    /// Treats every map and list of objects as granular.
    fn default() -> Self {
        const NONE: &KindAtomicFields = &KindAtomicFields::NONE;
        Self {
            atomic_fields: NONE,
            overwritten: &|_| false,
            list_type: &|_| ListType::Unknown,
        }
    }
}

/// Visits each leaf of a manifest with its live value, in an order that depends on the content
/// alone. Skips apiVersion, kind, name, namespace and status.
pub fn visit_leaves(
    manifest: &Object,
    live: &Object,
    ownership: FieldOwnership<'_>,
    visit: &mut dyn FnMut(&FieldPath, &Value, Option<&Value>),
) {
    let mut walk = FieldWalker {
        path: FieldPath::default(),
        place: FieldPattern::default(),
        ownership,
        visit,
    };
    for name in sorted(manifest.value()) {
        if matches!(name.as_str(), "apiVersion" | "kind" | "status") {
            continue;
        }
        let (Some(desired), there) = (manifest.value().get(name), live.value().get(name)) else {
            continue;
        };
        walk.field(name, desired, there);
    }
}

struct FieldWalker<'w> {
    path: FieldPath,
    place: FieldPattern,
    ownership: FieldOwnership<'w>,
    visit: &'w mut dyn FnMut(&FieldPath, &Value, Option<&Value>),
}

impl FieldWalker<'_> {
    fn field(&mut self, name: &str, desired: &Value, there: Option<&Value>) {
        self.path.0.push(FieldStep::Field(name.to_owned()));
        let mark = self.place.field(name);
        self.descend(desired, there);
        self.place.back(mark);
        self.path.0.pop();
    }

    fn descend(&mut self, desired: &Value, there: Option<&Value>) {
        match desired {
            // Atomic: one leaf.
            Value::Object(_) | Value::Array(_)
                if self.ownership.atomic_fields.contains(&self.place) =>
            {
                (self.visit)(&self.path, desired, there)
            }
            Value::Object(fields) if !fields.is_empty() => {
                let top = matches!(self.path.0.as_slice(), [FieldStep::Field(only)] if only == "metadata");
                for name in sorted(fields) {
                    if top && matches!(name.as_str(), "name" | "namespace") {
                        continue;
                    }
                    self.field(name, &fields[name], there.and_then(|there| there.get(name)));
                }
            }
            // API servers may drop or fill an empty map, and so may other managers unless it is
            // atomic.
            Value::Object(_) => {
                let filled = |there: &Value| {
                    there.as_object().is_some_and(|fields| {
                        !fields.is_empty() && (self.ownership.overwritten)(&self.path)
                    })
                };
                let there = there.map(|there| {
                    if there.is_object() && !filled(there) {
                        &Value::Null
                    } else {
                        there
                    }
                });
                (self.visit)(&self.path, desired, there);
            }
            Value::Array(elements)
                if elements.iter().all(Value::is_object) && !elements.is_empty() =>
            {
                self.elements(elements, there);
            }
            // Other managers add to the set: each of our members is a leaf.
            Value::Array(members) if self.is_set(members) => self.members(members, there),
            _ => (self.visit)(&self.path, desired, there),
        }
    }

    fn is_set(&self, members: &[Value]) -> bool {
        let may_be_set = !members.is_empty()
            && !members
                .iter()
                .any(|member| member.is_object() || member.is_array());
        may_be_set
            && (self.path.to_string() == "/metadata/finalizers"
                || (self.ownership.list_type)(&self.path) == ListType::Set)
    }

    fn members(&mut self, members: &[Value], there: Option<&Value>) {
        for (index, member) in members.iter().enumerate() {
            let found = there
                .and_then(Value::as_array)
                .and_then(|there| there.iter().find(|other| *other == member));
            self.path.0.push(FieldStep::Element {
                index,
                identity: Vec::new(),
            });
            (self.visit)(&self.path, member, found);
            self.path.0.pop();
        }
    }

    fn elements(&mut self, elements: &[Value], there: Option<&Value>) {
        // A guess, and for kinds of CRDs what the API server does.
        let mut keys: Vec<String> = identity_of(elements)
            .iter()
            .map(|key| (*key).to_owned())
            .collect();
        if keys.is_empty()
            && let ListType::Keyed(fields) = (self.ownership.list_type)(&self.path)
        {
            keys = fields;
        }
        let mark = self.place.element();
        for (index, desired) in elements.iter().enumerate() {
            let identity: Vec<(String, Value)> = keys
                .iter()
                .filter_map(|key| field(desired, key).map(|value| (key.clone(), value)))
                .collect();
            let found = there
                .and_then(Value::as_array)
                .and_then(|there| element(there, index, &identity));
            self.path.0.push(FieldStep::Element { index, identity });
            self.descend(desired, found);
            self.path.0.pop();
        }
        self.place.back(mark);
    }
}

/// Returns the first identity that all elements have and no two share.
fn identity_of(elements: &[Value]) -> &'static [&'static str] {
    let fits = |keys: &&&[&str]| {
        let mut seen = std::collections::BTreeSet::new();
        elements.iter().all(|element| {
            element.get(keys[0]).is_some()
                && seen.insert(
                    keys.iter()
                        .map(|key| field(element, key).map_or(String::new(), |value| plain(&value)))
                        .collect::<Vec<_>>(),
                )
        })
    };
    IDENTITIES.iter().find(fits).copied().unwrap_or(&[])
}

/// Returns a field of an element, or its known default.
fn field(element: &Value, key: &str) -> Option<Value> {
    let default = || {
        DEFAULTS
            .iter()
            .find(|(field, _)| *field == key)
            .map(|(_, value)| Value::from(*value))
    };
    element.get(key).cloned().or_else(default)
}

fn element<'v>(
    there: &'v [Value],
    index: usize,
    identity: &[(String, Value)],
) -> Option<&'v Value> {
    match identity {
        [] => there.get(index),
        _ => there.iter().find(|other| {
            identity
                .iter()
                .all(|(key, value)| field(other, key).as_ref() == Some(value))
        }),
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Hashes all manifests of an Application, independent of their order.
pub fn hash_all(desired: &[DesiredObject]) -> ValueHash {
    let mut all: Vec<(&ObjectKey, ValueHash)> =
        desired.iter().map(|one| (&one.key, one.hash)).collect();
    all.sort();
    let mut hash = Sha256::new();
    for (key, content) in all {
        hash.update(format!("{key}\n"));
        hash.update(content.0);
    }
    ValueHash::finish(hash)
}

/// Hashes the live values at the leaves of a manifest, as a whole and each. A leaf for which
/// `is_released` returns true counts with the value of the manifest, so that a release changes
/// nothing.
pub fn hash_live(
    manifest: &Object,
    live: &Object,
    ownership: FieldOwnership<'_>,
    is_released: &mut dyn FnMut(&FieldPath, &Value, Option<&Value>) -> bool,
) -> (ValueHash, LeafHashes) {
    let mut hash = Sha256::new();
    let mut leaves = Vec::new();
    visit_leaves(manifest, live, ownership, &mut |path, desired, there| {
        hash.update(path.to_string());
        let value = if is_released(path, desired, there) {
            Some(desired)
        } else {
            there
        };
        leaves.push(leaf_hash(value));
        match value {
            Some(value) => {
                hash.update([1]);
                canonical(&mut hash, value);
            }
            None => hash.update([0]),
        }
    });
    (ValueHash::finish(hash), LeafHashes::new(leaves))
}
