//! The known parts of built-in schemas: keys of lists, and atomic maps.
//!
//! Keyed by the names of the fields on the path, since built-in kinds use them consistently
//! (`x-kubernetes-list-map-keys` and `x-kubernetes-map-type` in their OpenAPI documents).

use serde_json::{Value, json};

/// The merge strategy of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListMerge {
    Atomic,
    /// A set of scalars.
    Set,
    /// Of maps that these fields tell apart.
    Keyed(&'static [&'static str]),
}

/// The schema of one kind: metadata always, the rest if it is built in.
#[derive(Debug, Clone, Copy)]
pub(super) struct KindSchema {
    pub builtin: bool,
}

impl KindSchema {
    /// Returns the merge strategy of the list at this path; the path has names of fields only.
    pub(super) fn list(self, path: &[&str]) -> ListMerge {
        match path {
            ["metadata", "ownerReferences"] => return ListMerge::Keyed(&["uid"]),
            ["metadata", "finalizers"] => return ListMerge::Set,
            // Of a ServiceAccount.
            ["secrets"] if self.builtin => return ListMerge::Keyed(&["name"]),
            _ if !self.builtin => return ListMerge::Atomic,
            _ => {}
        }
        let (Some(name), parent) = (
            path.last(),
            path.len().checked_sub(2).map_or("", |at| path[at]),
        ) else {
            return ListMerge::Atomic;
        };
        match *name {
            "containers"
            | "initContainers"
            | "ephemeralContainers"
            | "env"
            | "volumes"
            | "imagePullSecrets"
            | "resourceClaims" => ListMerge::Keyed(&["name"]),
            "volumeMounts" => ListMerge::Keyed(&["mountPath"]),
            "volumeDevices" => ListMerge::Keyed(&["devicePath"]),
            "hostAliases" => ListMerge::Keyed(&["ip"]),
            "topologySpreadConstraints" => ListMerge::Keyed(&["topologyKey", "whenUnsatisfiable"]),
            "ports"
                if matches!(
                    parent,
                    "containers" | "initContainers" | "ephemeralContainers"
                ) =>
            {
                ListMerge::Keyed(&["containerPort", "protocol"])
            }
            "ports" if path.len() == 2 && parent == "spec" => {
                ListMerge::Keyed(&["port", "protocol"])
            }
            "conditions" if parent == "status" => ListMerge::Keyed(&["type"]),
            _ => ListMerge::Atomic,
        }
    }

    /// Returns whether the map at this path is atomic.
    pub(super) fn is_atomic_map(self, path: &[&str]) -> bool {
        const ATOMIC: &[&str] = &[
            "selector",
            "nodeSelector",
            "labelSelector",
            "namespaceSelector",
            "podSelector",
            "configMapKeyRef",
            "secretKeyRef",
            "fieldRef",
            "resourceFieldRef",
            "fileKeyRef",
            "roleRef",
        ];
        self.builtin && path.len() > 1 && path.last().is_some_and(|name| ATOMIC.contains(name))
    }
}

/// The key of an element of a keyed list, with the default of a protocol. Without one of the fields
/// it has none.
pub(super) fn key(fields: &[&str], element: &Value) -> Option<Value> {
    let mut key = serde_json::Map::new();
    // Sorted by name, as the API server writes them.
    let mut fields = fields.to_vec();
    fields.sort_unstable();
    for field in fields {
        match element.get(field) {
            Some(value) => key.insert(field.to_owned(), value.clone()),
            None if field == "protocol" => key.insert(field.to_owned(), json!("TCP")),
            None => return None,
        };
    }
    Some(Value::Object(key))
}
