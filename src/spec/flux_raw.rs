//! The shapes of `image.toolkit.fluxcd.io` (`v1`, `v1beta2`), field by field, so that each is
//! honoured, warned about or refused by name in [`super::flux`].

use super::raw::{RawDigestReflection, RawMetadata, RawOrdered, RawSelector, RawSemver};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FluxDeclaration<Spec> {
    #[allow(dead_code, reason = "the reader has looked at it already")]
    pub api_version: String,
    #[allow(dead_code, reason = "the reader has looked at it already")]
    pub kind: String,
    pub metadata: FluxMetadata,
    pub spec: Spec,
    /// Written by a cluster into exported objects; nothing to read.
    #[allow(dead_code, reason = "exported objects carry it")]
    pub status: Option<Value>,
}

/// Objects exported from a cluster carry more metadata than people write, so unknown fields are let
/// through.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FluxMetadata {
    #[serde(flatten)]
    pub known: FluxName,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct FluxName {
    pub name: String,
    pub namespace: Option<String>,
    #[serde(default)]
    pub labels: std::collections::BTreeMap<String, String>,
}

impl From<FluxMetadata> for RawMetadata {
    fn from(flux: FluxMetadata) -> Self {
        Self {
            name: flux.known.name,
            namespace: flux.known.namespace,
            labels: flux.known.labels,
            ..Self::default()
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RepositorySpec {
    pub image: String,
    pub interval: Option<String>,
    pub timeout: Option<String>,
    #[serde(default)]
    pub suspend: bool,
    pub exclusion_list: Option<Vec<String>>,
    pub secret_ref: Option<Value>,
    pub proxy_secret_ref: Option<Value>,
    pub cert_secret_ref: Option<Value>,
    pub service_account_name: Option<String>,
    pub access_from: Option<Value>,
    pub provider: Option<String>,
    #[serde(default)]
    pub insecure: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FluxPolicySpec {
    pub image_repository_ref: RepositoryRef,
    pub policy: FluxChoice,
    pub filter_tags: Option<FluxFilterTags>,
    pub digest_reflection_policy: Option<RawDigestReflection>,
    pub interval: Option<String>,
    #[serde(default)]
    pub suspend: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepositoryRef {
    pub name: String,
    pub namespace: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FluxChoice {
    pub semver: Option<RawSemver>,
    pub numerical: Option<RawOrdered>,
    pub alphabetical: Option<RawOrdered>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FluxFilterTags {
    pub pattern: Option<String>,
    pub extract: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AutomationSpec {
    pub source_ref: Option<Value>,
    pub git: Option<GitSpec>,
    pub interval: Option<String>,
    pub policy_selector: Option<RawSelector>,
    pub update: Option<UpdateSpec>,
    #[serde(default)]
    pub suspend: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GitSpec {
    pub checkout: Option<FluxCheckout>,
    pub commit: Option<FluxCommit>,
    pub push: Option<FluxPush>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Checkout")]
pub(crate) struct FluxCheckout {
    #[serde(rename = "ref")]
    pub reference: FluxCheckoutRef,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "CheckoutRef")]
pub(crate) struct FluxCheckoutRef {
    pub branch: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Commit")]
pub(crate) struct FluxCommit {
    pub author: Option<FluxAuthor>,
    pub signing_key: Option<Value>,
    pub message_template: Option<String>,
    pub message_template_values: Option<Value>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Author")]
pub(crate) struct FluxAuthor {
    pub name: Option<String>,
    pub email: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Push")]
pub(crate) struct FluxPush {
    pub branch: Option<String>,
    pub refspec: Option<String>,
    pub options: Option<Value>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateSpec {
    pub strategy: Option<String>,
    pub path: Option<String>,
}
