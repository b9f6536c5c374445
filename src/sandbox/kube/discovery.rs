//! Discovery: version, groups and kinds in both forms, and the part of OpenAPI that kubectl reads
//! before it writes. Pure.

use super::kinds::SandboxKind;
use serde_json::{Value, json};

/// The version that it is like.
pub(super) const VERSION: &str = "v1.36.0";

/// `/version`.
pub(super) fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "gitVersion": VERSION, "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "", "platform": "tagboat sandbox",
    })
}

/// Groups and their versions, in the order of the kinds.
fn groups(kinds: &[SandboxKind]) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for kind in kinds {
        let at = groups
            .iter()
            .position(|(group, _)| *group == kind.group)
            .unwrap_or_else(|| {
                groups.push((kind.group.clone(), Vec::new()));
                groups.len() - 1
            });
        if !groups[at].1.contains(&kind.version) {
            groups[at].1.push(kind.version.clone());
        }
    }
    groups
}

/// `/api`.
pub(super) fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `/apis`.
pub(super) fn group_list(kinds: &[SandboxKind]) -> Value {
    let named = groups(kinds)
        .into_iter()
        .filter(|(group, _)| !group.is_empty());
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": named.map(|(group, versions)| one_group(&group, &versions)).collect::<Vec<_>>()})
}

fn one_group(group: &str, versions: &[String]) -> Value {
    let version = |version: &String| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": group,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    })
}

/// `/apis/GROUP`, if there is such a group.
pub(super) fn group(kinds: &[SandboxKind], name: &str) -> Option<Value> {
    let (group, versions) = groups(kinds)
        .into_iter()
        .find(|(group, _)| group == name && !group.is_empty())?;
    Some(one_group(&group, &versions))
}

const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const PART_VERBS: [&str; 3] = ["get", "patch", "update"];

/// Returns the subresources of a kind: name, and the group, version and kind of their body.
fn parts(kind: &SandboxKind) -> Vec<(&'static str, Value)> {
    let mut parts = Vec::new();
    if kind.status {
        parts.push((
            "status",
            json!({"group": kind.group, "version": kind.version, "kind": kind.kind}),
        ));
    }
    if kind.scale {
        parts.push((
            "scale",
            json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}),
        ));
    }
    parts
}

/// `/api/v1` or `/apis/GROUP/VERSION`, if there is such a version.
pub(super) fn resource_list(kinds: &[SandboxKind], group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for kind in kinds
        .iter()
        .filter(|kind| kind.group == group && kind.version == version)
    {
        resources.push(json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": VERBS, "shortNames": kind.short, "categories": categories(kind),
        }));
        for (part, of) in parts(kind) {
            resources.push(json!({
                "name": format!("{}/{part}", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "group": of["group"], "version": of["version"], "kind": of["kind"], "verbs": PART_VERBS,
            }));
        }
    }
    let api_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    (!resources.is_empty())
        .then(|| json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": resources}))
}

/// Returns the categories, such as `kubectl get all`.
fn categories(kind: &SandboxKind) -> &'static [&'static str] {
    let all = [
        "Pod",
        "Service",
        "Deployment",
        "ReplicaSet",
        "StatefulSet",
        "DaemonSet",
        "Job",
        "CronJob",
        "HorizontalPodAutoscaler",
    ];
    if kind.builtin && all.contains(&kind.kind.as_str()) {
        &["all"]
    } else {
        &[]
    }
}

/// The aggregated form of `/api` (core) or `/apis`: everything in one answer.
pub(super) fn aggregated(kinds: &[SandboxKind], core: bool) -> Value {
    let resource = |kind: &SandboxKind| {
        let part = |(part, of): (&str, Value)| json!({"subresource": part, "responseKind": of, "verbs": PART_VERBS});
        json!({
            "resource": kind.plural,
            "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
            "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": kind.singular,
            "verbs": VERBS,
            "shortNames": kind.short,
            "categories": categories(kind),
            "subresources": parts(kind).into_iter().map(part).collect::<Vec<_>>(),
        })
    };
    let item = |(group, versions): (String, Vec<String>)| {
        let version = |version: &String| {
            let of = kinds
                .iter()
                .filter(|kind| kind.group == group && kind.version == *version);
            json!({"version": version, "freshness": "Current", "resources": of.map(resource).collect::<Vec<_>>()})
        };
        let metadata = if group.is_empty() {
            json!({"creationTimestamp": null})
        } else {
            json!({"name": group, "creationTimestamp": null})
        };
        json!({"metadata": metadata, "versions": versions.iter().map(version).collect::<Vec<_>>()})
    };
    let wanted = groups(kinds)
        .into_iter()
        .filter(|(group, _)| group.is_empty() == core);
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": wanted.map(item).collect::<Vec<_>>(),
    })
}

/// `/openapi/v3`: where the documents are.
pub(super) fn openapi(kinds: &[SandboxKind]) -> Value {
    let mut paths = serde_json::Map::new();
    for (group, versions) in groups(kinds) {
        for version in versions {
            let path = if group.is_empty() {
                format!("api/{version}")
            } else {
                format!("apis/{group}/{version}")
            };
            paths.insert(
                path.clone(),
                json!({"serverRelativeURL": format!("/openapi/v3/{path}")}),
            );
        }
    }
    json!({"paths": paths})
}

/// Returns one document: each kind can be patched, and the server validates; no schemas.
pub(super) fn openapi_document(kinds: &[SandboxKind], group: &str, version: &str) -> Value {
    let mut paths = serde_json::Map::new();
    for kind in kinds
        .iter()
        .filter(|kind| kind.group == group && kind.version == version)
    {
        let root = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        let namespace = if kind.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let parameter =
            |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
        let operation = json!({
            "parameters": [parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation"), parameter("force")],
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind.kind},
        });
        paths.insert(
            format!("{root}{namespace}/{}/{{name}}", kind.plural),
            json!({"patch": operation}),
        );
    }
    json!({"openapi": "3.0.0", "info": {"title": "tagboat sandbox", "version": VERSION}, "paths": paths, "components": {"schemas": {}}})
}
