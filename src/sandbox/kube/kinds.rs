//! The kinds that the sandbox serves: a table of the built-in ones, and those that
//! CustomResourceDefinitions declare.

use super::store::ObjectStore;
use serde_json::Value;

/// One kind, in one version of its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SandboxKind {
    /// Empty for the core group.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// `Deployment`.
    pub kind: String,
    /// `deployments`: how it is addressed.
    pub plural: String,
    /// `deployment`.
    pub singular: String,
    /// `deploy`.
    pub short: Vec<String>,
    pub namespaced: bool,
    pub status: bool,
    pub scale: bool,
    /// True for built-in kinds, whose lists have known keys.
    pub builtin: bool,
}

impl SandboxKind {
    /// `apps/v1`, or `v1` in the core group.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Returns whether the kind has `metadata.generation`.
    pub(super) fn counts_generations(&self) -> bool {
        const COUNTED: &[&str] = &[
            "apps",
            "batch",
            "networking.k8s.io",
            "policy",
            "apiextensions.k8s.io",
        ];
        !self.builtin || COUNTED.contains(&self.group.as_str()) || self.kind == "Pod"
    }

    /// `deployments.apps`, as messages name it.
    pub(super) fn resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }
}

/// Group and version, kind, plural, short names, and flags: `n` namespaced, `s` status, `c` scale.
const BUILTIN: &[(&str, &str, &str, &str, &str, &str)] = &[
    ("", "v1", "Namespace", "namespaces", "ns", "s"),
    ("", "v1", "Node", "nodes", "no", "s"),
    ("", "v1", "ConfigMap", "configmaps", "cm", "n"),
    ("", "v1", "Secret", "secrets", "", "n"),
    ("", "v1", "ServiceAccount", "serviceaccounts", "sa", "n"),
    ("", "v1", "Service", "services", "svc", "ns"),
    ("", "v1", "Pod", "pods", "po", "ns"),
    ("", "v1", "Event", "events", "ev", "n"),
    (
        "",
        "v1",
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        "pvc",
        "ns",
    ),
    ("", "v1", "PersistentVolume", "persistentvolumes", "pv", "s"),
    ("", "v1", "LimitRange", "limitranges", "limits", "n"),
    ("", "v1", "ResourceQuota", "resourcequotas", "quota", "ns"),
    ("apps", "v1", "Deployment", "deployments", "deploy", "nsc"),
    ("apps", "v1", "ReplicaSet", "replicasets", "rs", "nsc"),
    ("apps", "v1", "StatefulSet", "statefulsets", "sts", "nsc"),
    ("apps", "v1", "DaemonSet", "daemonsets", "ds", "ns"),
    ("batch", "v1", "Job", "jobs", "", "ns"),
    ("batch", "v1", "CronJob", "cronjobs", "cj", "ns"),
    (
        "networking.k8s.io",
        "v1",
        "Ingress",
        "ingresses",
        "ing",
        "ns",
    ),
    (
        "networking.k8s.io",
        "v1",
        "NetworkPolicy",
        "networkpolicies",
        "netpol",
        "n",
    ),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles", "", "n"),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "RoleBinding",
        "rolebindings",
        "",
        "n",
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "ClusterRole",
        "clusterroles",
        "",
        "",
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        "",
        "",
    ),
    (
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        "hpa",
        "ns",
    ),
    (
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        "pdb",
        "ns",
    ),
    (
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        "crd",
        "s",
    ),
];

/// Returns all kinds, the built-in ones first; a CustomResourceDefinition is served as soon as it
/// exists.
pub(super) fn kinds(store: &ObjectStore) -> Vec<SandboxKind> {
    let mut all: Vec<SandboxKind> = BUILTIN
        .iter()
        .map(
            |&(group, version, kind, plural, short, flags)| SandboxKind {
                group: group.to_owned(),
                version: version.to_owned(),
                kind: kind.to_owned(),
                plural: plural.to_owned(),
                singular: kind.to_lowercase(),
                short: short.split_whitespace().map(str::to_owned).collect(),
                namespaced: flags.contains('n'),
                status: flags.contains('s'),
                scale: flags.contains('c'),
                builtin: true,
            },
        )
        .collect();
    for definition in store.list("apiextensions.k8s.io", "customresourcedefinitions", None) {
        all.extend(declared(definition));
    }
    all
}

/// The kinds that a CustomResourceDefinition declares, one for each version it serves.
fn declared(definition: &Value) -> Vec<SandboxKind> {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let versions = spec["versions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let served = versions.iter().filter(|version| version["served"] == true);
    let kind = |version: &Value| SandboxKind {
        group: text(&spec["group"]),
        version: text(&version["name"]),
        kind: text(&spec["names"]["kind"]),
        plural: text(&spec["names"]["plural"]),
        singular: spec["names"]["singular"].as_str().map_or_else(
            || text(&spec["names"]["kind"]).to_lowercase(),
            str::to_owned,
        ),
        short: spec["names"]["shortNames"]
            .as_array()
            .into_iter()
            .flatten()
            .map(text)
            .collect(),
        namespaced: spec["scope"] == "Namespaced",
        status: version["subresources"]["status"].is_object(),
        scale: version["subresources"]["scale"].is_object(),
        builtin: false,
    };
    served.map(kind).collect()
}
