//! Application: manifests, their target cluster and options.

use super::{
    diagnostic::SourcePlace,
    document::SpecReader,
    health::{self, HealthRule},
    policy::name_of,
    raw::{self, ApplicationSpec, Declaration},
    rights::{RepositoryRights, account_name},
};
use crate::core::{
    name::{Name, is_subdomain},
    schedule,
};
use std::{sync::Arc, time::Duration};

/// A checked Application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// The owner's identity in the cluster.
    pub name: Name,
    pub place: SourcePlace,
    pub environment: String,
    /// The folder of its manifests, from the root of the repository, without a slash at its end.
    pub path: String,
    /// A cluster of the settings file.
    pub cluster: String,
    /// The namespace of namespaced objects that name none.
    pub target_namespace: Option<String>,
    pub create_namespace: NamespaceCreation,
    /// True to delete objects that vanish from the manifests.
    pub prune: bool,
    /// True to wait for health before the rollout counts as done.
    pub wait: bool,
    pub timeout: Duration,
    /// Applications that must be healthy first.
    pub depends_on: Vec<Name>,
    pub service_account: Option<String>,
    pub deletion: DeletionPolicy,
    /// Options for rendering the Helm chart, if the path is one.
    pub helm: Option<Helm>,
    pub drift: Drift,
    /// Fields that others may change.
    pub ignore: Vec<Ignore>,
    /// Rules that decide the health of kinds.
    pub health: Vec<Arc<HealthRule>>,
    pub suspend: bool,
    /// The rights of its repository.
    pub rights: Arc<RepositoryRights>,
    /// True if the repository declares more Applications than it may.
    pub exceeds_units: bool,
}

/// Options for rendering a Helm chart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Helm {
    /// The name of the release; the Application's name if none is written.
    pub release_name: Option<String>,
    /// Files of values, paths from the root of the repository; a later one counts more.
    pub value_files: Vec<String>,
    /// Values that count more than every file.
    pub values: serde_json::Map<String, serde_json::Value>,
}

/// The reaction to changes that others make to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Drift {
    #[default]
    Repair,
    Report,
}

/// The namespaces that are created if they are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NamespaceCreation {
    /// `targetNamespace`.
    #[default]
    Target,
    /// Every namespace that an object names.
    All,
    None,
}

/// Objects, and the fields of them that others may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignore {
    /// The API group, empty for the core group; none means every group.
    pub group: Option<String>,
    /// The kind; none means every kind.
    pub kind: Option<String>,
    /// The namespace; none means every namespace.
    pub namespace: Option<String>,
    /// The name; none means every name.
    pub name: Option<String>,
    /// JSON pointers (RFC 6901); fields below one are ignored, too.
    pub pointers: Vec<String>,
}

/// The fate of the objects of a deleted Application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeletionPolicy {
    #[default]
    Orphan,
    Delete,
}

impl Application {
    /// Returns whether another declaration says the same, whatever its place.
    pub fn declares_like(&self, other: &Self) -> bool {
        let Self {
            name,
            place: _,
            environment,
            path,
            cluster,
            target_namespace,
            create_namespace,
            prune,
            wait,
            timeout,
            depends_on,
            service_account,
            deletion,
            helm,
            drift,
            ignore,
            health,
            suspend,
            rights,
            exceeds_units,
        } = self;
        *name == other.name
            && *environment == other.environment
            && *path == other.path
            && *cluster == other.cluster
            && *target_namespace == other.target_namespace
            && *create_namespace == other.create_namespace
            && *prune == other.prune
            && *wait == other.wait
            && *timeout == other.timeout
            && *depends_on == other.depends_on
            && *service_account == other.service_account
            && *deletion == other.deletion
            && *helm == other.helm
            && *drift == other.drift
            && *ignore == other.ignore
            && *health == other.health
            && *suspend == other.suspend
            && *rights == other.rights
            && *exceeds_units == other.exceeds_units
    }

    /// Returns whether a namespace is created if it is missing.
    pub fn creates_namespace(&self, namespace: &str) -> bool {
        match self.create_namespace {
            NamespaceCreation::Target => self.target_namespace.as_deref() == Some(namespace),
            NamespaceCreation::All => true,
            NamespaceCreation::None => false,
        }
    }

    /// Puts it under the rights of its repository.
    pub(super) fn restrict(&mut self, rights: &Arc<RepositoryRights>) {
        self.rights = Arc::clone(rights);
        let Some(tenant) = &rights.tenant else {
            return;
        };
        if self.service_account.is_none() {
            self.service_account.clone_from(&tenant.service_account);
        }
        if !tenant.create_namespaces {
            self.create_namespace = NamespaceCreation::None;
        }
    }
}

/// The default of `timeout`.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The longest value of a Kubernetes label.
const LABEL: usize = 63;

pub(crate) fn read(
    at: &mut SpecReader<'_>,
    raw: Declaration<ApplicationSpec>,
) -> Option<Application> {
    let ApplicationSpec {
        environment,
        path,
        cluster,
        target_namespace,
        create_namespace,
        prune,
        wait,
        timeout,
        depends_on,
        service_account_name,
        deletion_policy,
        helm,
        drift,
        ignore,
        health,
        suspend,
    } = raw.spec;
    let name = name_of(at, &raw.metadata);
    if let Some(name) = &name {
        check_label_lengths(at, name);
    }
    let path = folder(at, "/spec/path", &path);
    let timeout = match timeout {
        None => Some(TIMEOUT),
        Some(text) => at.check("/spec/timeout", schedule::duration(&text)),
    };
    let depends_on = dependencies(at, name.as_ref(), &depends_on);
    let helm = match (helm, &path) {
        (Some(raw), Some(path)) => chart(at, raw, path),
        _ => None,
    };
    if let Some(account) = &service_account_name {
        at.check("/spec/serviceAccountName", account_name(account));
    }
    check_pointers(at, &ignore);
    let health = health::rules(at, "/spec/health", health);
    if at.failed() {
        return None;
    }
    Some(Application {
        name: name?,
        place: at.document.place("/metadata/name"),
        environment,
        path: path?,
        cluster,
        target_namespace,
        create_namespace: match create_namespace {
            None => NamespaceCreation::Target,
            Some(true) => NamespaceCreation::All,
            Some(false) => NamespaceCreation::None,
        },
        prune,
        wait,
        timeout: timeout?,
        depends_on: depends_on?,
        service_account: service_account_name,
        deletion: match deletion_policy {
            None | Some(raw::RawDeletionPolicy::Orphan) => DeletionPolicy::Orphan,
            Some(raw::RawDeletionPolicy::Delete) => DeletionPolicy::Delete,
        },
        helm,
        drift: match drift {
            None | Some(raw::RawDrift::Repair) => Drift::Repair,
            Some(raw::RawDrift::Report) => Drift::Report,
        },
        ignore: ignore.into_iter().map(Ignore::from).collect(),
        health,
        suspend,
        rights: Arc::default(),
        exceeds_units: false,
    })
}

/// Checks that the name fits into a label: every object of an Application carries it.
fn check_label_lengths(at: &mut SpecReader<'_>, name: &Name) {
    if name.name().len().max(name.namespace().len()) > LABEL {
        at.error(
            "/metadata/name",
            format!("name and namespace of an Application have at most {LABEL} characters: its objects carry them as labels"),
        );
    }
}

fn dependencies(
    at: &mut SpecReader<'_>,
    own: Option<&Name>,
    texts: &[String],
) -> Option<Vec<Name>> {
    let names = texts
        .iter()
        .enumerate()
        .map(|(index, text)| at.check(&format!("/spec/dependsOn/{index}"), text.parse::<Name>()))
        .collect::<Option<Vec<_>>>()?;
    if names.iter().any(|other| Some(other) == own) {
        at.error("/spec/dependsOn", "an Application cannot depend on itself");
    }
    Some(names)
}

fn check_pointers(at: &mut SpecReader<'_>, rules: &[raw::RawIgnore]) {
    for (index, rule) in rules.iter().enumerate() {
        for (place, pointer) in rule.json_pointers.iter().enumerate() {
            if !pointer.starts_with('/') {
                at.error(
                    &format!("/spec/ignore/{index}/jsonPointers/{place}"),
                    format!("{pointer:?} is no JSON pointer: write \"/spec/replicas\""),
                );
            }
        }
    }
}

impl From<raw::RawIgnore> for Ignore {
    fn from(raw: raw::RawIgnore) -> Self {
        Self {
            group: raw.group,
            kind: raw.kind,
            namespace: raw.namespace,
            name: raw.name,
            pointers: raw.json_pointers,
        }
    }
}

/// The chart at `path`; its files of values become paths from the root.
fn chart(at: &mut SpecReader<'_>, raw: raw::RawHelm, path: &str) -> Option<Helm> {
    let raw::RawHelm {
        release_name,
        value_files,
        values,
    } = raw;
    if release_name
        .as_deref()
        .is_some_and(|name| !is_subdomain(name) || name.len() > 53)
    {
        at.error(
            "/spec/helm/releaseName",
            "write a name of lower-case letters, digits, '-' and '.', at most 53 as Helm has it",
        );
    }
    let value_files = value_files
        .iter()
        .enumerate()
        .map(|(index, file)| {
            let here = format!("/spec/helm/valueFiles/{index}");
            let from_root = match file.strip_prefix('/') {
                Some(file) => file.to_owned(),
                None => match resolve(path, file) {
                    Some(resolved) => resolved,
                    None => {
                        at.error(&here, format!("{file:?} leads out of the repository"));
                        return None;
                    }
                },
            };
            folder(at, &here, &from_root)
        })
        .collect::<Option<_>>()?;
    Some(Helm {
        release_name,
        value_files,
        values,
    })
}

/// Resolves a relative path from a folder; `None` if it leaves the root of the repository.
pub fn resolve(folder: &str, relative: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// A folder of the repository; "." and "./" are its root, the empty path.
pub(crate) fn folder(at: &mut SpecReader<'_>, pointer: &str, text: &str) -> Option<String> {
    let path = text.trim_start_matches("./").trim_end_matches('/');
    let path = if path == "." { "" } else { path };
    if text.starts_with('/')
        || path
            .split('/')
            .any(|part| part == ".." || part == "." || part == ".git")
        || path.contains(['\\', '\0', '\n'])
    {
        at.error(
            pointer,
            format!(
                "{text:?} must be a folder of the repository, written from its root, without '..'"
            ),
        );
        return None;
    }
    Some(path.to_owned())
}
