//! The settings file, `tagboat.yaml`: how to reach things and who may use them. It holds no policy
//! and no secret.

mod registry;
mod repository;
mod tenant;
mod trust;
mod verify;

use super::{
    diagnostic::{Diagnostic, Severity, SourcePlace},
    document::{SpecDocument, SpecReader},
    environment::CommitAuthor,
    forge::{self, ForgeSpec},
    health::{self, HealthRule},
    rights::RepositoryRights,
    secret_source::SecretSource,
    settings_raw as raw,
    validator::SpecSchema,
};
pub use super::{render_kustomize::KustomizeMode, render_sandbox::RenderSandbox};
use crate::core::{name::is_label, schedule, yaml};
use registry::registry;
pub use repository::message_sample;
use repository::repository;
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::Duration,
};
pub use verify::{PublicText, VerifyKey, VerifyKeyKind, VerifyMode, VerifySettings};

static PROCESS: LazyLock<SpecSchema> = LazyLock::new(SpecSchema::of::<raw::RawSettings>);
static REGISTRIES: LazyLock<SpecSchema> = LazyLock::new(SpecSchema::of::<raw::RawRegistries>);

pub(crate) fn schema() -> serde_json::Value {
    let mut schema = PROCESS.value.clone();
    schema["title"] = serde_json::json!("tagboat.yaml");
    schema
}

/// A checked settings file.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The config repositories, at least one.
    pub repositories: Vec<ConfigRepository>,
    /// The registries that need more than anonymous HTTPS.
    pub registries: Vec<RegistrySettings>,
    /// The clusters Applications may name.
    pub clusters: Vec<ClusterSettings>,
    pub render: RenderSettings,
    /// The listen address of the HTTP server.
    pub listen: std::net::SocketAddr,
    /// The folder of caches: mirrors, index, database. Deletable.
    pub store: Option<PathBuf>,
}

/// A config repository, with its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRepository {
    /// The name in texts, and in `registries[].repositories`.
    pub name: String,
    /// The URL, without a secret.
    pub url: String,
    /// The branch that is read and written; that of the remote's HEAD if none is written.
    pub branch: Option<String>,
    /// The folder of declarations; the whole repository if unset.
    pub policies: Option<String>,
    pub author: CommitAuthor,
    /// The SSH key that signs them.
    pub signing_key: Option<SigningKeySettings>,
    /// Whose signature a commit needs before it is deployed.
    pub verify: Option<VerifySettings>,
    pub access: GitAccess,
    /// A PEM file of certificate authorities in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// A proxy, as "http://proxy:3128".
    pub proxy: Option<String>,
    /// Other hosts that the server may redirect to.
    pub allow_redirects_to: Vec<String>,
    /// The interval at which the remote is polled for commits.
    pub interval: Duration,
    /// The commit message as a Jinja template; tagboat's own if none is written.
    pub message: Option<String>,
    /// The forge that opens requests.
    pub forge: Option<ForgeSpec>,
    /// The clusters that it may deploy to, and the bounds of a tenant.
    pub rights: Arc<RepositoryRights>,
}

/// The credentials for a Git remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitAccess {
    Anonymous,
    /// User name and password or token.
    Basic {
        /// The user name; forges accept any name with a token.
        username: String,
        password: SecretSource,
    },
    /// The `ssh` program with these files.
    Ssh {
        identity: Option<PathBuf>,
        known_hosts: Option<PathBuf>,
    },
}

/// The SSH key that signs commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKeySettings {
    /// The key in OpenSSH form.
    pub key: SecretSource,
    pub passphrase: Option<SecretSource>,
}

/// Settings for the registries below a prefix.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// Host, or host and beginning of the path; the longest that fits counts.
    pub prefix: String,
    pub credentials: RegistryCredentials,
    /// True to speak plain HTTP.
    pub insecure: bool,
    /// A PEM file of certificate authorities in addition to the system's.
    pub ca_file: Option<PathBuf>,
    pub proxy: Option<String>,
    pub requests_per_second: Option<u32>,
    /// The most requests in flight.
    pub concurrency: Option<usize>,
    /// The config repositories whose policies may use it; all if none is named.
    pub repositories: Vec<String>,
    /// The shortest interval of scans that a policy gets; the usual one if none is written.
    pub minimum_interval: Option<Duration>,
    /// True if the registry's push time counts for `minimumAge`.
    pub push_time: bool,
}

/// The credentials for a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryCredentials {
    Anonymous,
    /// User name and password.
    Basic {
        username: String,
        password: SecretSource,
    },
    Token(SecretSource),
    /// A docker config.json, with its credential helpers.
    DockerConfig(PathBuf),
    /// A credential helper: the program `docker-credential-NAME`.
    Helper(String),
}

/// A cluster that Applications may name.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    pub name: String,
    /// The kubeconfig file; none means in-cluster.
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    /// The config repositories, beside tenants, that may deploy to it; the only one if empty.
    pub repositories: Vec<String>,
    /// The most requests a second; none means no bound of ours.
    pub requests_per_second: Option<u32>,
    /// The most requests in flight.
    pub concurrency: usize,
    /// Prefixes of the field managers whose fields are taken over.
    pub take_over: Vec<String>,
    /// Rules that decide the health of kinds, for every Application on it.
    pub health: Vec<Arc<HealthRule>>,
    /// The namespace that belongs to tagboat: its records are there, and nowhere else.
    pub namespace: String,
    /// True if instructions count that others annotate live objects with.
    pub honor_live_annotations: bool,
}

/// The namespace of the records where `clusters[].namespace` is not set.
pub const OWN_NAMESPACE: &str = "tagboat-system";

impl ClusterSettings {
    /// Returns a cluster with default settings; without a kubeconfig, the cluster that the process
    /// runs in.
    pub fn new(name: impl Into<String>, kubeconfig: Option<PathBuf>) -> Self {
        Self {
            name: name.into(),
            kubeconfig,
            context: None,
            repositories: Vec::new(),
            requests_per_second: None,
            concurrency: CONCURRENCY,
            take_over: TAKE_OVER.map(str::to_owned).to_vec(),
            health: Vec::new(),
            namespace: OWN_NAMESPACE.to_owned(),
            honor_live_annotations: true,
        }
    }
}

/// The programs that render, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderSettings {
    /// The kustomize program.
    pub kustomize: PathBuf,
    pub kustomize_mode: KustomizeMode,
    pub helm: PathBuf,
    /// True if a kustomization may read from other hosts.
    pub allow_remote_bases: bool,
    pub sandbox: RenderSandbox,
    /// The time limit of one rendering.
    pub timeout: Duration,
    /// The memory limit of one rendering, in bytes.
    pub memory: u64,
}

impl Default for RenderSettings {
    fn default() -> Self {
        Self {
            kustomize: "kustomize".into(),
            kustomize_mode: KustomizeMode::Program,
            helm: "helm".into(),
            allow_remote_bases: false,
            sandbox: RenderSandbox::Auto,
            timeout: Duration::from_secs(60),
            memory: 1024 << 20,
        }
    }
}

/// Requests in flight to one cluster where nothing is written: where a kube-apiserver's throughput
/// stops growing.
const CONCURRENCY: usize = 16;

/// Prefixes of the field managers of the tools that tagboat is put in place of.
pub const TAKE_OVER: [&str; 6] = [
    "kubectl",
    "before-first-apply",
    "kustomize-controller",
    "helm",
    "Helm",
    "argocd-",
];

/// Reads a settings file.
///
/// # Errors
/// Every mistake, if one of them is an error.
pub fn read(file: &str, source: &str) -> Result<(Settings, Vec<Diagnostic>), Vec<Diagnostic>> {
    read_document(file, source, |at| {
        at.shape(&PROCESS).and_then(|raw| check(at, raw))
    })
}

/// Reads only the registries of a settings file, which may have nothing else.
///
/// # Errors
/// Every mistake in them, if one of them is an error.
pub fn read_registries(
    file: &str,
    source: &str,
) -> Result<(Vec<RegistrySettings>, Vec<Diagnostic>), Vec<Diagnostic>> {
    read_document(file, source, |at| {
        let raw: raw::RawRegistries = at.shape(&REGISTRIES)?;
        let registries: Vec<Option<RegistrySettings>> = raw
            .registries
            .into_iter()
            .enumerate()
            .map(|(index, raw)| registry(at, &format!("/registries/{index}"), raw))
            .collect();
        registries.into_iter().collect()
    })
}

/// Reads the one document of a file; `check` returns none after a mistake.
fn read_document<T>(
    file: &str,
    source: &str,
    check: impl FnOnce(&mut SpecReader<'_>) -> Option<T>,
) -> Result<(T, Vec<Diagnostic>), Vec<Diagnostic>> {
    let whole = |line, column, message| {
        vec![Diagnostic {
            place: SourcePlace {
                file: file.to_owned(),
                line,
                column,
            },
            severity: Severity::Error,
            message,
        }]
    };
    let stream = yaml::parse(source).map_err(|error| {
        whole(
            error.line as usize,
            error.column as usize,
            format!("not YAML: {}", error.message),
        )
    })?;
    let mut roots = stream.documents().flatten();
    let (Some(root), None) = (roots.next(), roots.next()) else {
        return Err(whole(
            1,
            1,
            "expected one document with repositories:".to_owned(),
        ));
    };
    let document = SpecDocument::new(file, root, source).map_err(|mistake| vec![mistake])?;
    let mut at = SpecReader::new(&document);
    let checked = check(&mut at);
    let mistakes = at.mistakes;
    match checked {
        Some(checked)
            if !mistakes
                .iter()
                .any(|mistake| mistake.severity == Severity::Error) =>
        {
            Ok((checked, mistakes))
        }
        _ => Err(mistakes),
    }
}

fn check(at: &mut SpecReader<'_>, raw: raw::RawSettings) -> Option<Settings> {
    let raw::RawSettings {
        repositories,
        registries,
        clusters,
        health,
        render,
        server,
        store,
        notifications,
    } = raw;
    if !notifications.is_empty() {
        at.warn(
            "/notifications",
            "notifications are checked but not yet sent",
        );
    }
    if server.is_some() {
        at.warn("/server", "the HTTP server is checked but not yet started");
    }
    let repositories: Vec<Option<ConfigRepository>> = repositories
        .into_iter()
        .enumerate()
        .map(|(index, raw)| repository(at, &format!("/repositories/{index}"), raw))
        .collect();
    let repositories: Option<Vec<ConfigRepository>> = repositories.into_iter().collect();
    let known = repository_names(at, repositories.as_deref().unwrap_or_default());
    for (index, raw) in registries.iter().enumerate() {
        let pointer = format!("/registries/{index}");
        check_repositories(at, &pointer, &raw.repositories, &known);
    }
    check_clusters(at, &clusters, &known);
    let health = health::rules(at, "/health", health);
    let clusters = clusters.into_iter().map(|raw| ClusterSettings {
        health: health.clone(),
        ..ClusterSettings::from(raw)
    });
    let clusters: Vec<ClusterSettings> = clusters.collect();
    let repositories = repositories.map(|mut repositories| {
        tenant::grant(at, &mut repositories, &clusters);
        repositories
    });
    let registries: Vec<Option<RegistrySettings>> = registries
        .into_iter()
        .enumerate()
        .map(|(index, raw)| registry(at, &format!("/registries/{index}"), raw))
        .collect();
    let listen = server
        .and_then(|server| server.listen)
        .unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listen = at.check(
        "/server/listen",
        listen
            .parse()
            .map_err(|_| format!("{listen:?} is no address and port, as \"127.0.0.1:8080\"")),
    );
    let render = renderer(at, render.unwrap_or_default());
    Some(Settings {
        repositories: repositories?,
        registries: registries.into_iter().collect::<Option<_>>()?,
        clusters,
        render: render?,
        listen: listen?,
        store,
    })
}

/// Returns the names of the repositories, in their order, after checking that no two are the same.
fn repository_names(at: &mut SpecReader<'_>, repositories: &[ConfigRepository]) -> Vec<String> {
    let mut names = BTreeSet::new();
    for (index, repository) in repositories.iter().enumerate() {
        if !names.insert(repository.name.clone()) {
            at.error(
                &format!("/repositories/{index}"),
                format!(
                    "two repositories are named {:?}; write name: on one of them",
                    repository.name
                ),
            );
        }
    }
    names.into_iter().collect()
}

/// Checks the names of repositories that may use a registry or a cluster.
fn check_repositories(at: &mut SpecReader<'_>, pointer: &str, names: &[String], known: &[String]) {
    for (index, name) in names.iter().enumerate() {
        if !known.contains(name) {
            at.error(
                &format!("{pointer}/repositories/{index}"),
                format!(
                    "there is no repository named {name:?}; known are {}",
                    known.join(", ")
                ),
            );
        }
    }
}

fn check_clusters(at: &mut SpecReader<'_>, clusters: &[raw::RawCluster], known: &[String]) {
    let mut named = BTreeSet::new();
    for (index, raw) in clusters.iter().enumerate() {
        let pointer = format!("/clusters/{index}");
        if !named.insert(&raw.name) {
            at.error(
                &format!("{pointer}/name"),
                format!("two clusters are named {:?}", raw.name),
            );
        }
        if raw.in_cluster && raw.context.is_some() {
            at.error(
                &format!("{pointer}/context"),
                "a context belongs to a kubeconfig",
            );
        }
        check_repositories(at, &pointer, &raw.repositories, known);
        if let Some(namespace) = raw.namespace.as_ref().filter(|name| !is_label(name)) {
            let message = format!(
                "{namespace:?} is no namespace: write at most 63 lower-case letters, digits and '-'"
            );
            at.error(&format!("{pointer}/namespace"), message);
        }
        if raw.in_cluster == raw.kubeconfig.is_some() {
            at.error(&pointer, "write either kubeconfig or inCluster: true");
        }
    }
}

impl From<raw::RawCluster> for ClusterSettings {
    fn from(raw: raw::RawCluster) -> Self {
        let usual = ClusterSettings::new(raw.name, raw.kubeconfig);
        Self {
            context: raw.context,
            repositories: raw.repositories,
            requests_per_second: raw.requests_per_second,
            concurrency: raw
                .concurrency
                .map_or(usual.concurrency, |concurrency| concurrency as usize),
            take_over: raw.take_over.unwrap_or(usual.take_over),
            namespace: raw.namespace.unwrap_or(usual.namespace),
            honor_live_annotations: raw.honor_live_annotations.unwrap_or(true),
            ..usual
        }
    }
}

fn renderer(at: &mut SpecReader<'_>, raw: raw::RawRender) -> Option<RenderSettings> {
    let usual = RenderSettings::default();
    let timeout = match raw.timeout {
        None => Some(usual.timeout),
        Some(text) => at.check("/render/timeout", schedule::duration(&text)),
    };
    if raw.sandbox == RenderSandbox::Disabled {
        at.warn(
            "/render/sandbox",
            "kustomize and helm can reach the network and read every file that tagboat can",
        );
    }
    let mode = super::render_kustomize::mode(raw.kustomize.as_deref(), raw.kustomize_program);
    let (kustomize_mode, program) = at.check("/render/kustomize", mode)?;
    Some(RenderSettings {
        kustomize: program.unwrap_or(usual.kustomize),
        kustomize_mode,
        helm: raw.helm.unwrap_or(usual.helm),
        allow_remote_bases: raw.allow_remote_bases,
        sandbox: raw.sandbox,
        timeout: timeout?,
        memory: raw.memory.map_or(usual.memory, |mib| u64::from(mib) << 20),
    })
}

/// Returns the default author of commits.
pub fn default_author() -> CommitAuthor {
    CommitAuthor {
        name: "tagboat".to_owned(),
        email: "tagboat@localhost".to_owned(),
    }
}
