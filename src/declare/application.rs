//! Application: what is applied where. Read and checked; applying is the reconciler's work.

use super::{
    document::Reader,
    mistake::Place,
    policy::name_of,
    raw::{self, ApplicationSpec, Declaration},
};
use crate::{name::Name, schedule};
use std::time::Duration;

/// A checked Application.
#[derive(Debug, Clone)]
pub struct Application {
    /// The identity that owns what it applies.
    pub name: Name,
    /// Where it is declared.
    pub place: Place,
    /// The Environment it belongs to.
    pub environment: String,
    /// The folder of its manifests, from the root of the repository, without a slash at its end.
    pub path: String,
    /// A cluster of the process file.
    pub cluster: String,
    /// Where namespaced objects go that name no namespace.
    pub target_namespace: Option<String>,
    /// Whether objects that vanish are deleted.
    pub prune: bool,
    /// Whether the outcome waits for health.
    pub wait: bool,
    /// How long it waits.
    pub timeout: Duration,
    /// Applications that must be healthy first.
    pub depends_on: Vec<Name>,
    /// The service account to act as.
    pub service_account: Option<String>,
    /// What happens to its objects when it is deleted.
    pub deletion: DeletionPolicy,
    /// Whether it rests.
    pub suspend: bool,
}

/// What happens to the objects of a deleted Application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeletionPolicy {
    /// They stay.
    #[default]
    Orphan,
    /// They are deleted.
    Delete,
}

/// How long an outcome is waited for where nothing is written.
const TIMEOUT: Duration = Duration::from_secs(300);

pub(super) fn read(at: &mut Reader<'_>, raw: Declaration<ApplicationSpec>) -> Option<Application> {
    let ApplicationSpec {
        environment,
        path,
        cluster,
        target_namespace,
        prune,
        wait,
        timeout,
        depends_on,
        service_account_name,
        deletion_policy,
        suspend,
    } = raw.spec;
    let name = name_of(at, &raw.metadata);
    let path = folder(at, "/spec/path", &path);
    let timeout = match timeout {
        None => Some(TIMEOUT),
        Some(text) => at.check("/spec/timeout", schedule::duration(&text)),
    };
    let depends_on = depends_on
        .iter()
        .enumerate()
        .map(|(index, text)| at.check(&format!("/spec/dependsOn/{index}"), text.parse::<Name>()))
        .collect::<Option<Vec<_>>>();
    if name.is_some() && depends_on.as_deref().is_some_and(|names| names.iter().any(|other| Some(other) == name.as_ref())) {
        at.error("/spec/dependsOn", "an Application cannot depend on itself");
    }
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
        prune,
        wait,
        timeout: timeout?,
        depends_on: depends_on?,
        service_account: service_account_name,
        deletion: match deletion_policy {
            None | Some(raw::DeletionPolicy::Orphan) => DeletionPolicy::Orphan,
            Some(raw::DeletionPolicy::Delete) => DeletionPolicy::Delete,
        },
        suspend,
    })
}

/// A folder of the repository; "." and "./" are its root, the empty path.
pub(super) fn folder(at: &mut Reader<'_>, pointer: &str, text: &str) -> Option<String> {
    let path = text.trim_start_matches("./").trim_end_matches('/');
    let path = if path == "." { "" } else { path };
    if text.starts_with('/')
        || path.split('/').any(|part| part == ".." || part == "." || part == ".git")
        || path.contains(['\\', '\0', '\n'])
    {
        at.error(pointer, format!("{text:?} must be a folder of the repository, written from its root, without '..'"));
        return None;
    }
    Some(path.to_owned())
}
