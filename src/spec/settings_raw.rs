//! The raw shape of `tagboat.yaml`, for serde and for the JSON schema.

use super::{
    forge_kind::ForgeKind, raw::RawHealthRule, render_sandbox::RenderSandbox,
    secret_source::SecretSource, tenant_raw::RawTenant,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;

/// Settings of the tagboat process: repositories, registries, clusters, forges and credentials.
/// A file in a Git working copy must be named with --config before it may choose programs,
/// credentials, clusters or the store.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Process")]
pub(super) struct RawSettings {
    /// The config repositories.
    #[schemars(length(min = 1))]
    pub repositories: Vec<RawRepository>,
    /// The registries that need more than anonymous HTTPS.
    #[serde(default)]
    pub registries: Vec<RawRegistry>,
    /// The clusters Applications may name.
    #[serde(default)]
    pub clusters: Vec<RawCluster>,
    /// Rules in CEL that decide the health of kinds, for every Application; its own count more.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub health: Vec<RawHealthRule>,
    /// The programs that render kustomizations and charts.
    pub render: Option<RawRender>,
    /// The HTTP server.
    pub server: Option<RawServer>,
    /// The folder of caches.
    pub store: Option<PathBuf>,
    /// Sinks for notifications.
    #[serde(default)]
    pub notifications: Vec<RawNotification>,
}

/// The registries of a settings file, whatever else is in it.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct RawRegistries {
    #[serde(default)]
    pub registries: Vec<RawRegistry>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Repository")]
pub(super) struct RawRepository {
    /// A name for texts; the last part of the URL if none is written.
    pub name: Option<String>,
    /// https://…, ssh://…, git@host:path or file://…, without user and password.
    pub url: String,
    /// The branch to read and write: that of the remote's HEAD if none is written.
    pub branch: Option<String>,
    /// The folder of declarations; everywhere if none is written.
    pub policies: Option<String>,
    /// The author of the commits.
    pub author: Option<RawAuthor>,
    /// The SSH key that signs commits.
    pub signing_key: Option<RawSigningKey>,
    /// Whose signature a commit needs before it is deployed.
    pub verify: Option<RawVerify>,
    /// User name and password for https.
    pub basic: Option<RawBasic>,
    /// A token for https.
    pub token: Option<SecretSource>,
    /// Files for ssh.
    pub ssh: Option<RawSsh>,
    /// PEM file of further certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// A proxy, as "http://proxy:3128".
    pub proxy: Option<String>,
    /// Send credentials over plain HTTP, readable for anyone on the way.
    #[serde(default)]
    pub insecure: bool,
    /// Other hosts that the server may redirect to, each a host, or host and port. They get no
    /// credentials.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub allow_redirects_to: Vec<String>,
    /// The interval at which to look for new commits; "1m" if unset.
    pub interval: Option<String>,
    /// The commit message as a Jinja template.
    pub message: Option<String>,
    /// The forge that opens requests.
    pub forge: Option<RawForge>,
    /// The bounds of a repository whose authors are not trusted with whole clusters; without it
    /// the repository is the platform's own.
    pub tenant: Option<RawTenant>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Author")]
pub(super) struct RawAuthor {
    /// The name.
    pub name: String,
    /// The e-mail address.
    pub email: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SigningKey")]
pub(super) struct RawSigningKey {
    /// The private key in OpenSSH form.
    pub key: SecretSource,
    /// The passphrase of the key.
    pub passphrase: Option<SecretSource>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Verify")]
pub(super) struct RawVerify {
    /// The commits that need a signature.
    #[serde(default)]
    pub mode: RawVerifyMode,
    /// The keys whose signatures count, at most 100: `ssh` or `gpg`, each a text or {file: PATH}.
    pub keys: Vec<RawVerifyKey>,
    /// The full ID of a commit that needs no signature. Only this commit, and commits that have it
    /// in their history, are deployed.
    pub from: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "VerifyMode")]
pub(super) enum RawVerifyMode {
    /// The head of the branch.
    #[default]
    Head,
    /// Every commit since the last verified one, along first parents.
    History,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "VerifyKey")]
pub(super) enum RawVerifyKey {
    /// An OpenSSH public key, as in id_ed25519.pub.
    Ssh(RawPublicText),
    /// An OpenPGP public key block, as `gpg --export --armor` prints it.
    Gpg(RawPublicText),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
#[schemars(rename = "PublicText")]
pub(super) enum RawPublicText {
    /// The text itself.
    Inline(String),
    /// A file.
    File {
        /// The path, from the folder of the settings file.
        file: PathBuf,
    },
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Basic")]
pub(super) struct RawBasic {
    /// The user.
    pub username: String,
    /// The password.
    pub password: SecretSource,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Ssh")]
pub(super) struct RawSsh {
    /// The private key.
    pub identity: Option<PathBuf>,
    /// The keys of known hosts.
    pub known_hosts: Option<PathBuf>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Forge")]
pub(super) struct RawForge {
    /// github, gitlab or gitea (Forgejo, too); only where the repository's address does not tell.
    pub kind: Option<ForgeKind>,
    /// The address of its API, as "https://git.example.org/api/v4"; only where the repository's
    /// address does not tell.
    pub url: Option<String>,
    /// A token; the repository's own token if none is written.
    pub token: Option<SecretSource>,
    /// A GitHub App instead of a token.
    pub app: Option<RawApp>,
    /// Send credentials over plain HTTP, readable for anyone on the way.
    #[serde(default)]
    pub insecure: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "App")]
pub(super) struct RawApp {
    /// The id of the App.
    pub id: u64,
    /// The id of its installation; asked for by the repository's name if none is written.
    pub installation: Option<u64>,
    /// The private key, PEM.
    pub private_key: SecretSource,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Registry")]
pub(super) struct RawRegistry {
    /// Host, or host and beginning of the path: "ghcr.io/acme". The longest that fits counts.
    pub prefix: String,
    /// The credentials; anonymous if unset.
    pub credentials: Option<RawCredentials>,
    /// Speak plain HTTP.
    #[serde(default)]
    pub insecure: bool,
    /// PEM file of further certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// A proxy.
    pub proxy: Option<String>,
    /// The most requests a second.
    #[schemars(range(min = 1))]
    pub requests_per_second: Option<u32>,
    /// The most requests in flight.
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: Option<u32>,
    /// The config repositories whose policies may use it.
    #[serde(default)]
    pub repositories: Vec<String>,
    /// The shortest interval at which a policy may have an image repository scanned, whatever it
    /// declares; "10s" if unset.
    pub minimum_interval: Option<String>,
    /// Let the registry's push time count for minimumAge.
    #[serde(default)]
    pub push_time: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Credentials")]
pub(super) struct RawCredentials {
    /// User name and password.
    pub basic: Option<RawBasic>,
    /// A bearer token.
    pub token: Option<SecretSource>,
    /// A docker config.json.
    pub docker_config: Option<PathBuf>,
    /// A credential helper, as "ecr-login" for the program docker-credential-ecr-login.
    pub helper: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Cluster")]
pub struct RawCluster {
    /// The name Applications use.
    pub name: String,
    /// A kubeconfig file.
    pub kubeconfig: Option<PathBuf>,
    /// A context of it.
    pub context: Option<String>,
    /// Use the service account tagboat runs as.
    #[serde(default)]
    pub in_cluster: bool,
    /// The config repositories, beside tenants, that may deploy to it. Needed if there are several.
    #[serde(default)]
    pub repositories: Vec<String>,
    /// The most requests a second; no bound if none is written, since the server has its own
    /// (priority and fairness).
    #[schemars(range(min = 1))]
    pub requests_per_second: Option<u32>,
    /// The most requests in flight: 16 if none is written.
    #[schemars(range(min = 1))]
    pub concurrency: Option<u32>,
    /// Field managers, by the beginning of their names, whose fields become Git's: what Git does
    /// not name is removed. Those of kubectl, Flux, Argo CD and Helm if none is written.
    pub take_over: Option<Vec<String>>,
    /// The namespace of tagboat's own records in the cluster: `tagboat-system` if none is written.
    /// Let nobody else write ConfigMaps there.
    pub namespace: Option<String>,
    /// Follow annotations that others set on live objects, as `reconcile: disabled`; true if unset.
    /// With false only annotations that tagboat applied count.
    pub honor_live_annotations: Option<bool>,
}

/// The programs that render, and what they may do.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Render")]
pub(super) struct RawRender {
    /// The renderer of kustomizations. "program": the kustomize program; "auto", an experiment: in
    /// the process what overlays really use, the rest by the program; "compare": by both, with a
    /// warning for each difference. A path means that program. "program" if unset.
    pub kustomize: Option<String>,
    /// The kustomize program; found on PATH if none is written.
    pub kustomize_program: Option<PathBuf>,
    /// The helm program; found on PATH if none is written.
    pub helm: Option<PathBuf>,
    /// Allow a kustomization to read from other hosts. Git is then no longer the only source.
    #[serde(default)]
    pub allow_remote_bases: bool,
    /// The confinement of the programs (Landlock and seccomp): auto as far as the kernel can,
    /// required or not at all, disabled. "auto" if unset.
    #[serde(default)]
    pub sandbox: RenderSandbox,
    /// The time limit of one rendering; "1m" if unset.
    pub timeout: Option<String>,
    /// The memory limit of one rendering in MiB; 1024 if unset.
    #[schemars(range(min = 64))]
    pub memory: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Server")]
pub(super) struct RawServer {
    /// Address and port: "127.0.0.1:8080" if nothing is written.
    pub listen: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "checked now, used by notifications")]
#[schemars(rename = "Notification")]
pub(super) struct RawNotification {
    /// A name for texts.
    pub name: String,
    /// The URL a JSON event is posted to.
    pub webhook: SecretSource,
}
