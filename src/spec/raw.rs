//! Raw shapes of the declared kinds, for serde and for the JSON schema. The checked types are in
//! the files beside this one.

use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Name and labels of a declaration.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Metadata")]
pub(crate) struct RawMetadata {
    /// The name: lower-case letters, digits, '-' and '.'.
    pub name: String,
    /// The namespace; "default" where none is written.
    pub namespace: Option<String>,
    /// Labels for selectors.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Annotations are for people and other tools; tagboat does not read them.
    #[serde(default)]
    #[allow(
        dead_code,
        reason = "allowed so that other tools can annotate declarations"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// One whole declaration.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Declaration<Spec> {
    #[allow(
        dead_code,
        reason = "part of the schema; the reader has looked at it already"
    )]
    pub api_version: ApiVersion,
    #[allow(
        dead_code,
        reason = "part of the schema; the reader has looked at it already"
    )]
    pub kind: String,
    pub metadata: RawMetadata,
    pub spec: Spec,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) enum ApiVersion {
    #[serde(rename = "tagboat.dev/v1alpha1")]
    V1Alpha1,
}

/// The image repository to watch and the rule that chooses one of its tags.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PolicySpec {
    /// The repository without a tag, as "ghcr.io/stefanprodan/podinfo".
    pub image: String,
    /// Scan this often: "5m", "1h30m". The default is 5m. Not together with schedule.
    pub interval: Option<String>,
    /// Scan at the times of this five-field cron line.
    pub schedule: Option<String>,
    /// The time zone of the schedule, as "Europe/Berlin"; UTC where none is written.
    pub time_zone: Option<String>,
    /// The tags that take part, and the part of them that is compared.
    pub filter_tags: Option<RawFilterTags>,
    /// The rule that chooses a tag: exactly one.
    pub policy: RawChoice,
    /// When to write the digest beside the tag. Always is the default of a digest policy, else
    /// Never.
    pub digest_reflection_policy: Option<RawDigestReflection>,
    /// A tag that lacks one of these platforms is not chosen.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// The time for which a tag must have been seen with its digest before it is chosen: "72h".
    pub minimum_age: Option<String>,
    /// Tags never to choose, word for word.
    #[serde(default)]
    pub ignore_tags: Vec<String>,
    /// The longest time for which one scan of the repository may take; "2m" if unset. Of several
    /// policies for one repository the longest counts.
    pub timeout: Option<String>,
    /// Stop scanning and updating.
    #[serde(default)]
    pub suspend: bool,
}

/// The tags that take part.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "FilterTags")]
pub(crate) struct RawFilterTags {
    /// A regular expression in RE2 syntax, not anchored.
    pub pattern: Option<String>,
    /// The compared text, from the groups of the pattern: "$1", "$name", "${name}".
    pub extract: Option<String>,
    /// Regular expressions: a tag matching one takes no part.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// Exactly one way to choose.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
#[schemars(rename = "Choice")]
pub(crate) struct RawChoice {
    /// The greatest version in a range.
    pub semver: Option<RawSemver>,
    /// The greatest or least number.
    pub numerical: Option<RawOrdered>,
    /// The last or first in the order of bytes.
    pub alphabetical: Option<RawOrdered>,
    /// The most recently created image, by the date that it states.
    pub newest: Option<RawNewest>,
    /// Follow the current digest of one tag.
    pub digest: Option<RawFollowDigest>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Semver")]
pub(crate) struct RawSemver {
    /// A range as Masterminds/semver reads it: ">=6.0.0 <7.0.0", "~1.2", "1.x || >=2.5.0-0".
    pub range: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Ordered")]
pub(crate) struct RawOrdered {
    /// asc (the default) chooses the last, desc the first.
    #[serde(default)]
    pub order: RawOrder,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Order")]
pub(crate) enum RawOrder {
    #[default]
    Asc,
    Desc,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Newest")]
pub(crate) struct RawNewest {}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FollowDigest")]
pub(crate) struct RawFollowDigest {
    /// The tag to follow, as "latest".
    pub tag: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "DigestReflection")]
pub(crate) enum RawDigestReflection {
    Never,
    IfNotPresent,
    Always,
}

/// Where and how chosen tags are written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EnvironmentSpec {
    /// Globs from the root of the repository: "envs/dev/**"; with '!' in front they take files out
    /// again.
    pub paths: Vec<String>,
    /// The policies that apply here; all where none is written.
    pub policy_selector: Option<RawSelector>,
    /// auto (the default): every reference to a policy's repository; markers: only marked ones.
    #[serde(default)]
    pub references: RawReferences,
    /// How to write changes.
    pub update: RawUpdate,
    /// Stop updating.
    #[serde(default)]
    pub suspend: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "References")]
pub(crate) enum RawReferences {
    #[default]
    Auto,
    Markers,
}

/// A label selector as Kubernetes has it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Selector")]
pub(crate) struct RawSelector {
    /// Labels that must be there with these values.
    #[serde(default)]
    pub match_labels: BTreeMap<String, String>,
    /// Conditions that must hold.
    #[serde(default)]
    pub match_expressions: Vec<RawExpression>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Expression")]
pub(crate) struct RawExpression {
    /// The label.
    pub key: String,
    /// The comparison.
    pub operator: RawOperator,
    /// The values for In and NotIn.
    #[serde(default)]
    pub values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "Operator")]
pub(crate) enum RawOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// How to write changes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Update")]
pub(crate) struct RawUpdate {
    /// commit: straight to the branch; pullRequest: for review.
    pub via: RawVia,
    /// The changes that share one commit or pull request: all (the default), policy or directory.
    #[serde(default)]
    pub group: RawGroup,
    /// The times at which commits and merges are allowed; always if unset.
    #[serde(default)]
    pub windows: Vec<RawWindow>,
    /// Allow replacing the present version by a lower one.
    #[serde(default)]
    pub allow_downgrade: bool,
    /// Options of pull requests. Only with via: pullRequest.
    pub request: Option<RawRequest>,
    /// The conditions for merging automatically. Only with via: pullRequest.
    pub auto_merge: Option<RawAutoMerge>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Via")]
pub(crate) enum RawVia {
    Commit,
    PullRequest,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Group")]
pub(crate) enum RawGroup {
    #[default]
    All,
    Policy,
    Directory,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Window")]
pub(crate) struct RawWindow {
    /// The opening time of the window: a five-field cron line.
    pub cron: String,
    /// The duration for which it stays open: "8h".
    pub duration: String,
    /// The time zone of the line, as "Europe/Berlin"; UTC where none is written.
    pub time_zone: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Request")]
pub(crate) struct RawRequest {
    /// Labels to set.
    #[serde(default)]
    pub labels: Vec<String>,
    /// People and teams ("team/platform") to ask.
    #[serde(default)]
    pub reviewers: Vec<String>,
    /// Open as a draft.
    #[serde(default)]
    pub draft: bool,
    /// The merge method.
    pub merge_method: Option<RawMergeMethod>,
    /// The most requests open at a time.
    #[schemars(range(min = 1))]
    pub max_open: Option<u32>,
    /// The most requests opened in an hour.
    #[schemars(range(min = 1))]
    pub per_hour: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "MergeMethod")]
pub(crate) enum RawMergeMethod {
    Merge,
    Squash,
    Rebase,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "AutoMerge")]
pub(crate) struct RawAutoMerge {
    /// The kinds of step that may merge.
    #[schemars(length(min = 1))]
    pub bump: Vec<RawBump>,
    /// The minimum age of every chosen tag.
    pub minimum_age: Option<String>,
    /// The checks that must have passed, each a name, or `{name, app}` with the App or account
    /// that must have reported it; or true: those that the base requires, or
    /// where it names none at least one, two minutes after the last has ended; or false: none need
    /// be there. True where nothing is written.
    #[serde(default)]
    #[schemars(schema_with = "require_checks")]
    pub require_checks: Option<RawRequireChecks>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum RawRequireChecks {
    Whether(bool),
    Named(Vec<RawRequiredCheck>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum RawRequiredCheck {
    Name(String),
    Reported { name: String, app: String },
}

fn require_checks(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": ["boolean", "array", "null"],
        "items": {
            "type": ["string", "object"],
            "properties": {
                "name": {"type": "string", "description": "The name, as the forge shows it."},
                "app": {
                    "type": "string",
                    "description": "The App on GitHub, as in its URL; the login of the account on GitLab and Gitea."
                }
            },
            "required": ["name", "app"],
            "additionalProperties": false
        },
        "minItems": 1
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Bump")]
pub(crate) enum RawBump {
    Major,
    Minor,
    Patch,
    Digest,
    Other,
}

/// The manifests, their target cluster and options.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ApplicationSpec {
    /// The Environment it belongs to.
    pub environment: String,
    /// The folder of its manifests, from the root of the repository.
    pub path: String,
    /// A cluster of tagboat.yaml, by name.
    pub cluster: String,
    /// The namespace for namespaced objects that name none.
    pub target_namespace: Option<String>,
    /// Create missing namespaces: true for every namespace that objects name, false for none; by
    /// default only targetNamespace. With deletionPolicy Delete, such a namespace is deleted once
    /// nothing is left in it.
    pub create_namespace: Option<bool>,
    /// Delete objects that vanish from the manifests.
    #[serde(default)]
    pub prune: bool,
    /// Wait for the health of the objects.
    #[serde(default)]
    pub wait: bool,
    /// The time to wait: "5m".
    pub timeout: Option<String>,
    /// Applications that must be healthy first, as "namespace/name".
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// The service account to act as.
    pub service_account_name: Option<String>,
    /// The fate of the objects when the Application is deleted: Orphan (the default) or Delete.
    pub deletion_policy: Option<RawDeletionPolicy>,
    /// Options for rendering the Helm chart at path; only where there is a Chart.yaml.
    pub helm: Option<RawHelm>,
    /// The reaction to changes that others make to an object: repair (the default) or report.
    pub drift: Option<RawDrift>,
    /// Fields that others may change: neither compared nor written once the object exists.
    #[serde(default)]
    pub ignore: Vec<RawIgnore>,
    /// Rules in CEL that decide the health of kinds; they count more than those of tagboat.yaml and
    /// the built-in ones.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub health: Vec<RawHealthRule>,
    /// Stop applying.
    #[serde(default)]
    pub suspend: bool,
}

/// Options for rendering a Helm chart.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Helm")]
pub(crate) struct RawHelm {
    /// The name of the release; the Application's name if none is written.
    pub release_name: Option<String>,
    /// Files of values, from the folder of the chart, a later one counting more; "/" at the front
    /// means the repository's root.
    #[serde(default)]
    pub value_files: Vec<String>,
    /// Values that count more than every file.
    #[serde(default)]
    pub values: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Drift")]
pub(crate) enum RawDrift {
    Repair,
    Report,
}

/// Objects, and the fields of them that others may change.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Ignore")]
pub(crate) struct RawIgnore {
    /// The API group, "" for the core group; every group if none is written.
    pub group: Option<String>,
    /// The kind; every kind if none is written.
    pub kind: Option<String>,
    /// The namespace; every namespace if none is written.
    pub namespace: Option<String>,
    /// The name; every name if none is written.
    pub name: Option<String>,
    /// The fields as JSON pointers (RFC 6901): "/spec/replicas". Fields below them are ignored,
    /// too.
    pub json_pointers: Vec<String>,
}

/// Conditions in CEL that decide the health of a kind. They are tried in the order inProgress,
/// failed, current; if none holds, the object is in progress.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "HealthRule")]
pub(crate) struct RawHealthRule {
    /// Group and version of the kind, as "cert-manager.io/v1". The rule counts for every version.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// The object is as its spec demands: "status.phase == 'Running'".
    pub current: String,
    /// The object is on its way there.
    pub in_progress: Option<String>,
    /// The object does not get there by itself.
    pub failed: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "DeletionPolicy")]
pub(crate) enum RawDeletionPolicy {
    Orphan,
    Delete,
}
