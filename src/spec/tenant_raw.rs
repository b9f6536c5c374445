//! The raw shape of `repositories[].tenant`.

use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Tenant")]
pub(super) struct RawTenant {
    /// The clusters that it may deploy to, by name or glob; none if none is written.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub clusters: Vec<String>,
    /// The namespaces of its Applications and of their objects, by name or glob.
    #[schemars(length(min = 1, max = 1000))]
    pub namespaces: Vec<String>,
    /// The service account to act as where an Application names none. Without it, such an
    /// Application is refused: nothing of a tenant is applied with tagboat's own rights.
    pub service_account_name: Option<String>,
    /// Kinds of the whole cluster that it may apply, as "group/Kind"; none if none is written. A
    /// Namespace must match `namespaces`, too.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub cluster_scoped: Vec<String>,
    /// Kinds that it may not apply, as "rbac.authorization.k8s.io/*".
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub deny: Vec<String>,
    /// Let its Applications create missing namespaces that match `namespaces`.
    #[serde(default)]
    pub create_namespaces: bool,
    /// Follow annotations that others set on live objects, as `reconcile: disabled`; true if unset.
    pub honor_live_annotations: Option<bool>,
    /// The most that it may declare.
    pub limits: Option<RawLimits>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "TenantLimits")]
pub(super) struct RawLimits {
    /// Applications: 200 if unset.
    #[schemars(range(min = 1))]
    pub units: Option<u32>,
    /// Objects of all its Applications on one cluster: 5000 if unset.
    #[schemars(range(min = 1))]
    pub objects: Option<u32>,
    /// Files and folders of a commit: 100000 if unset.
    #[schemars(range(min = 1))]
    pub files: Option<u32>,
    /// The size of one file that is read, as "512Ki" or "5Mi", which is the default.
    pub file_size: Option<String>,
}
