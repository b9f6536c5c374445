//! The state of single watches, and of those of a kind in single namespaces.

use crate::{io::cluster::WatchScope, objects::object::Gvk};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// The most namespaces in which one kind is watched: each is a connection's stream and a task.
pub(super) const MOST_NAMESPACES: usize = 200;

/// The state of one watch.
#[derive(Default)]
pub(super) struct ScopeStatus {
    /// Whether the first list has come.
    pub(super) listed: bool,
    pub(super) trouble: Option<WatchTrouble>,
    /// Whether the failure was logged.
    pub(super) logged: bool,
}

/// Why a kind cannot be watched.
#[derive(Debug, Clone)]
pub(crate) struct WatchTrouble {
    pub message: String,
    pub hint: Option<String>,
    /// Whether it may pass without a change by the user.
    pub transient: bool,
    pub(super) since: Instant,
}

/// The watches of a kind in single namespaces.
#[derive(Default)]
pub(super) struct NarrowedWatch {
    /// The version of the kind that is watched.
    pub(super) version: String,
    pub(super) namespaces: BTreeMap<String, ScopeStatus>,
}

impl NarrowedWatch {
    pub(super) fn scopes(&self, gvk: &Gvk) -> Vec<WatchScope> {
        let gvk = Gvk {
            version: self.version.clone(),
            ..gvk.clone()
        };
        let namespaces = self.namespaces.keys();
        namespaces
            .map(|namespace| WatchScope::namespace(gvk.clone(), namespace))
            .collect()
    }

    pub(super) fn is_full(&self) -> bool {
        self.namespaces.len() >= MOST_NAMESPACES
    }
}

/// Returns the trouble of a namespace beyond the bound.
pub(super) fn too_many_namespaces(kind: &str) -> WatchTrouble {
    WatchTrouble {
        message: format!(
            "{kind} is watched in {MOST_NAMESPACES} namespaces already, which is the most"
        ),
        hint: Some(format!(
            "grant the verbs get, list and watch on objects of kind {kind} by a ClusterRole"
        )),
        transient: false,
        since: Instant::now(),
    }
}
