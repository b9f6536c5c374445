//! The order of objects and of their fields, as kustomize prints them.

use super::resource::{ObjectId, Resource};
use std::{cmp::Ordering, collections::HashMap};

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

/// Compares names of fields as Go's YAML writer does: symbols, then numbers by value, then letters.
pub(super) fn printed(one: &str, other: &str) -> Ordering {
    tokens(one).cmp(tokens(other))
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Token<'t> {
    Symbol(char),
    /// The length without leading zeros, the digits, the length with them.
    Number(usize, &'t str, usize),
    Letter(char),
}

fn tokens(name: &str) -> impl Iterator<Item = Token<'_>> {
    let mut rest = name;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = match first.is_ascii_digit() {
            true => rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        let (token, after) = rest.split_at(end);
        rest = after;
        let digits = token.trim_start_matches('0');
        Some(match first {
            _ if first.is_ascii_digit() => Token::Number(digits.len(), digits, token.len()),
            _ if first.is_alphabetic() => Token::Letter(first),
            _ => Token::Symbol(first),
        })
    })
}
