//! The order of objects, as kustomize prints them.

use super::resource::{ObjectId, Resource};
use std::collections::HashMap;

/// Kinds that come before all others, in kustomize's order.
const FIRST: [&str; 22] = [
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];

/// Kinds that come after all others.
const LAST: [&str; 2] = [
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];

/// Sorts objects by kind, group, namespace and name ("legacy"); by the kinds given, if any are.
pub(super) fn by_kind(resources: &mut [Resource], kinds: Option<(&[String], &[String])>) {
    let (first, last): (Vec<&str>, Vec<&str>) = match kinds {
        Some((first, last)) => (
            first.iter().map(String::as_str).collect(),
            last.iter().map(String::as_str).collect(),
        ),
        None => (FIRST.to_vec(), LAST.to_vec()),
    };
    let mut ranks: HashMap<&str, isize> = HashMap::new();
    for (at, kind) in first.iter().enumerate() {
        ranks.insert(kind, at as isize - first.len() as isize);
    }
    for (at, kind) in last.iter().enumerate() {
        ranks.insert(kind, 1 + at as isize);
    }
    resources.sort_by_cached_key(|resource| {
        let id = resource.id();
        let rank = ranks.get(id.kind.as_str()).copied().unwrap_or(0);
        (rank, group(&id), shown(&id))
    });
}

fn or<'t>(text: &'t str, empty: &'t str) -> &'t str {
    if text.is_empty() { empty } else { text }
}

fn group(id: &ObjectId) -> String {
    [
        or(&id.group, "~G"),
        or(&id.version, "~V"),
        or(&id.kind, "~K"),
    ]
    .join("_")
}

fn shown(id: &ObjectId) -> String {
    let kind = [
        or(&id.kind, "[noKind]"),
        or(&id.version, "[noVer]"),
        or(&id.group, "[noGrp]"),
    ]
    .join(".");
    [&kind, or(&id.namespace, "~X"), or(&id.name, "~N")].join("|")
}
