//! What the sandbox knows of the shape of built-in kinds: which lists have keys, and which maps are
//! one value. It is said by the names on the way, since those are used the same in all built-in
//! kinds (`x-kubernetes-list-map-keys` and `x-kubernetes-map-type` in their OpenAPI documents).

use serde_json::{Value, json};

/// How a list is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListMerge {
    Atomic,
    /// Of scalars, each of which is there or not.
    Set,
    /// Of maps that these fields tell apart.
    Keyed(&'static [&'static str]),
}

/// The schema of one kind: of its metadata always, of the rest if it is built in.
#[derive(Debug, Clone, Copy)]
pub struct KindSchema {
    /// Whether the kind comes with Kubernetes.
    pub builtin: bool,
}

impl KindSchema {
    /// How the list at this path is merged; the path has the names of fields only.
    pub fn list(self, path: &[&str]) -> ListMerge {
        match path {
            ["metadata", "ownerReferences"] => return ListMerge::Keyed(&["uid"]),
            ["metadata", "finalizers"] => return ListMerge::Set,
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

    /// Whether the map at this path is one value.
    pub fn is_atomic_map(self, path: &[&str]) -> bool {
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
pub fn key(fields: &[&str], element: &Value) -> Option<Value> {
    let mut key = serde_json::Map::new();
    // In the order of names, as the API server writes it.
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
