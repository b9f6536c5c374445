//! Kubernetes objects: their kind, their key, and their content as JSON.
//!
//! An [`Object`] is a manifest or a live object with an apiVersion, a kind and a name.
//! [`ObjectSettings`] are its annotations under our own prefix and under Flux's. [`Retention`] is
//! what the annotations of any tool say about its deletion.

mod compact;
mod retention;
mod settings;
#[cfg(test)]
mod tests;

pub use compact::CompactObject;
pub use retention::{DeletionRule, Retention};
pub use settings::{ApplyMode, ObjectSetting, ObjectSettings};

use crate::core::pointer;
use serde_json::{Map, Value};
use std::{fmt, ops::Deref, sync::Arc};

/// The prefix of our labels and annotations, and the group of our declarations.
pub const PREFIX: &str = "tagboat.dev";

/// Returns whether an annotation of a live object tells tools how to treat it: people set these by
/// hand, to protect an object.
pub(crate) fn instructs_tools(annotation: &str) -> bool {
    settings::is_setting(annotation) || retention::is_rule(annotation)
}

/// The field manager of our applies.
pub const MANAGER: &str = "tagboat";

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvk {
    /// The API group; empty for the core group.
    pub group: String,
    pub version: String,
    pub kind: String,
}

impl Gvk {
    /// Parses an `apiVersion` ("apps/v1", "v1").
    pub fn new(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
        }
    }

    /// Returns the `apiVersion`: "apps/v1" or "v1".
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Returns whether group and kind match, in any version.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }
}

impl fmt::Display for Gvk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group.as_str() {
            "" => write!(f, "{}/{}", self.version, self.kind),
            group => write!(f, "{group}/{}/{}", self.version, self.kind),
        }
    }
}

/// The identity of an object in a cluster. The version is no part of it: one object is served in
/// several.
///
/// The parts are shared: a clone is a pointer. Desired, owned, live and watched objects are stored
/// by key, ten thousand of each.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(Arc<KeyParts>);

#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyParts {
    /// The API group; empty for the core group.
    pub group: String,
    pub kind: String,
    /// The namespace; `None` for cluster-scoped objects, and for manifests without one.
    pub namespace: Option<String>,
    pub name: String,
}

impl ObjectKey {
    pub fn new(
        group: impl Into<String>,
        kind: impl Into<String>,
        namespace: Option<String>,
        name: impl Into<String>,
    ) -> Self {
        Self(Arc::new(KeyParts {
            group: group.into(),
            kind: kind.into(),
            namespace,
            name: name.into(),
        }))
    }
}

impl Deref for ObjectKey {
    type Target = KeyParts;

    fn deref(&self) -> &KeyParts {
        &self.0
    }
}

/// Writes `Deployment shop/web` or `Namespace shop`, with the group if the kind alone could
/// mislead.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if self.group.contains('.') && !self.group.ends_with(".k8s.io") {
            write!(f, ".{}", self.group)?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " {namespace}/{}", self.name),
            None => write!(f, " {}", self.name),
        }
    }
}

/// The place of a manifest, for messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectOrigin {
    /// The path from the root of the repository or folder.
    pub file: Arc<str>,
    /// The first line of the document, from 1; 0 in the output of a program.
    pub line: usize,
}

impl fmt::Display for ObjectOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// Why a value is no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    #[error("it is {0}, not an object")]
    Shape(&'static str),
    /// A required field is missing, empty or not text.
    #[error("it has no {0}")]
    Missing(&'static str),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    value: Map<String, Value>,
    pub origin: Option<ObjectOrigin>,
}

impl Object {
    /// Checks that a value is an object.
    ///
    /// # Errors
    /// The missing field.
    pub fn new(value: Value) -> Result<Self, ObjectError> {
        let value = match value {
            Value::Object(value) => value,
            Value::Null => return Err(ObjectError::Shape("null")),
            Value::Bool(_) => return Err(ObjectError::Shape("a boolean")),
            Value::Number(_) => return Err(ObjectError::Shape("a number")),
            Value::String(_) => return Err(ObjectError::Shape("text")),
            Value::Array(_) => return Err(ObjectError::Shape("a list")),
        };
        let filled = |value: Option<&Value>| {
            value
                .and_then(Value::as_str)
                .is_some_and(|text| !text.is_empty())
        };
        for (field, pointer) in [
            ("apiVersion", value.get("apiVersion")),
            ("kind", value.get("kind")),
        ] {
            if !filled(pointer) {
                return Err(ObjectError::Missing(field));
            }
        }
        if !filled(
            value
                .get("metadata")
                .and_then(|metadata| metadata.get("name")),
        ) {
            return Err(ObjectError::Missing("metadata.name"));
        }
        Ok(Self {
            value,
            origin: None,
        })
    }

    #[must_use]
    pub fn at(mut self, origin: ObjectOrigin) -> Self {
        self.origin = Some(origin);
        self
    }

    /// Returns the fields.
    pub fn value(&self) -> &Map<String, Value> {
        &self.value
    }

    pub fn into_value(self) -> Value {
        Value::Object(self.value)
    }

    pub fn gvk(&self) -> Gvk {
        Gvk::new(self.text("apiVersion"), self.text("kind"))
    }

    pub fn key(&self) -> ObjectKey {
        let Gvk { group, kind, .. } = self.gvk();
        ObjectKey::new(
            group,
            kind,
            self.namespace().map(str::to_owned),
            self.name(),
        )
    }

    pub fn name(&self) -> &str {
        self.metadata("name").unwrap_or_default()
    }

    pub fn namespace(&self) -> Option<&str> {
        self.metadata("namespace")
            .filter(|namespace| !namespace.is_empty())
    }

    /// Sets or removes the namespace.
    pub fn set_namespace(&mut self, namespace: Option<&str>) {
        let Some(Value::Object(metadata)) = self.value.get_mut("metadata") else {
            return;
        };
        match namespace {
            Some(namespace) => metadata.insert("namespace".to_owned(), namespace.into()),
            None => metadata.shift_remove("namespace"),
        };
    }

    pub fn uid(&self) -> Option<&str> {
        self.metadata("uid")
    }

    pub fn resource_version(&self) -> Option<&str> {
        self.metadata("resourceVersion")
    }

    /// Returns whether its deletion has begun.
    pub fn is_terminating(&self) -> bool {
        self.metadata("deletionTimestamp").is_some()
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.pointer("/metadata/labels")?.get(key)?.as_str()
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.pointer("/metadata/annotations")?.get(key)?.as_str()
    }

    pub fn set_label(&mut self, key: &str, value: &str) {
        let Some(Value::Object(metadata)) = self.value.get_mut("metadata") else {
            return;
        };
        let labels = metadata
            .entry("labels")
            .or_insert_with(|| Value::Object(Map::new()));
        if !labels.is_object() {
            // `labels:` without a value is common, and means none.
            *labels = Value::Object(Map::new());
        }
        labels[key] = value.into();
    }

    /// Returns the settings from its annotations.
    pub fn settings(&self) -> ObjectSettings {
        ObjectSettings::of(self)
    }

    /// Returns what its annotations say about its deletion.
    pub fn retention(&self) -> Retention {
        Retention::of(self)
    }

    /// Returns the same of the annotations whose names count.
    pub(crate) fn retention_by(&self, counts: impl Fn(&str) -> bool) -> Retention {
        Retention::by(self, counts)
    }

    /// Returns the value at an RFC 6901 pointer.
    pub fn pointer(&self, pointer: &str) -> Option<&Value> {
        let rest = pointer.strip_prefix('/')?;
        let (first, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        self.value.get(&*pointer::decode(first))?.pointer(rest)
    }

    /// Removes the fields that only API servers write: managed fields, versions, identity, status.
    pub fn strip(&mut self) {
        self.value.shift_remove("status");
        if let Some(Value::Object(metadata)) = self.value.get_mut("metadata") {
            for field in [
                "managedFields",
                "resourceVersion",
                "uid",
                "generation",
                "creationTimestamp",
                "selfLink",
                "deletionTimestamp",
            ] {
                metadata.shift_remove(field);
            }
        }
    }

    /// Edits the fields; an edit that removes apiVersion, kind or name fails.
    pub fn edit(
        &mut self,
        change: impl FnOnce(&mut Map<String, Value>),
    ) -> Result<(), ObjectError> {
        let mut value = self.value.clone();
        change(&mut value);
        let edited = Self::new(Value::Object(value))?;
        self.value = edited.value;
        Ok(())
    }

    fn text(&self, field: &str) -> &str {
        self.value
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    fn metadata(&self, field: &str) -> Option<&str> {
        self.value.get("metadata")?.get(field)?.as_str()
    }
}
