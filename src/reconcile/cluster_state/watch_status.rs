//! The state of the watches: first lists, and watches that fail.

use super::{ClusterHandle, ClusterState, GroupKind};
use crate::{
    core::error::{Classify as _, ErrorKind},
    events::{Event, EventReason},
    io::cluster::{ClusterError, ClusterProblem},
    objects::{
        health::KindTraits,
        object::{Gvk, ObjectKey},
    },
};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// How long a watch may fail before its Applications report it. Restarts of API servers are
/// shorter.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(crate) struct WatchStatus {
    /// Whether the first list has come.
    pub(super) listed: bool,
    /// Whether the cluster does not serve the kind, so that no object of it can exist.
    unserved: bool,
    /// The traits of the kind that its health depends on.
    pub(super) traits: KindTraits,
    trouble: Option<WatchTrouble>,
    /// Whether the failure was logged.
    logged: bool,
}

impl WatchStatus {
    pub(super) fn new(unserved: bool) -> Self {
        Self {
            unserved,
            ..Self::default()
        }
    }
}

/// Why a kind cannot be watched.
#[derive(Debug, Clone)]
pub(crate) struct WatchTrouble {
    pub message: String,
    pub hint: Option<String>,
    /// Whether it may pass without a change by the user.
    pub transient: bool,
    since: Instant,
}

impl WatchTrouble {
    #[cfg(test)]
    pub(crate) fn new(message: &str, transient: bool) -> Self {
        Self {
            message: message.to_owned(),
            hint: None,
            transient,
            since: Instant::now(),
        }
    }
}

/// Kinds without a first list, each with the failure of its watch, if any.
pub(crate) type Unlisted = BTreeMap<GroupKind, Option<WatchTrouble>>;

impl ClusterHandle {
    /// Returns the kinds that cannot be judged yet, because their first list has not come.
    pub(crate) fn unlisted<'k>(&self, keys: impl Iterator<Item = &'k ObjectKey>) -> Unlisted {
        let state = self.state();
        let mut unlisted = Unlisted::new();
        for key in keys {
            let kind = (key.group.clone(), key.kind.clone());
            if let Some(status) = state
                .kinds
                .get(&kind)
                .filter(|status| !status.listed && !status.unserved)
            {
                unlisted.insert(kind, status.trouble.clone());
            }
        }
        unlisted
    }

    /// Returns the kinds whose watch has failed for [`STALE_AFTER`], so that their objects may be
    /// stale; and the time when the next one will be reported.
    pub(crate) fn stale_watches<'k>(
        &self,
        keys: impl Iterator<Item = &'k ObjectKey>,
    ) -> (BTreeMap<GroupKind, WatchTrouble>, Option<Instant>) {
        let mut state = self.state();
        let mut stale = BTreeMap::new();
        let mut next: Option<Instant> = None;
        if state.kinds.values().all(|status| status.trouble.is_none()) {
            return (stale, next);
        }
        for key in keys {
            let kind = (key.group.clone(), key.kind.clone());
            let Some(status) = state.kinds.get_mut(&kind).filter(|status| status.listed) else {
                continue;
            };
            let Some(trouble) = &status.trouble else {
                continue;
            };
            let due = trouble.since + STALE_AFTER;
            if due > Instant::now() {
                next = Some(next.map_or(due, |next| next.min(due)));
                continue;
            }
            if !std::mem::replace(&mut status.logged, true) {
                let message = format!(
                    "the watch of {} fails, changes go unnoticed: {}",
                    key.kind, trouble.message
                );
                let event = Event::warning(EventReason::WatchFailed, message);
                self.client
                    .events()
                    .record(event.hint(trouble.hint.clone()));
            }
            stale.insert(kind, trouble.clone());
        }
        (stale, next)
    }

    pub(super) fn watch_failed(&self, gvk: Gvk, error: &ClusterError) {
        // Of a server that hangs, nothing was heard for a while before it was noticed.
        let silence = match *error.problem {
            ClusterProblem::Silent { silence, .. } => silence,
            _ => Duration::ZERO,
        };
        let now = Instant::now();
        let mut state = self.state();
        let status = state.watch_status(gvk);
        status.unserved = matches!(
            *error.problem,
            ClusterProblem::UnknownKind { down: false, .. }
        );
        status.trouble = Some(WatchTrouble {
            message: error.problem.to_string(),
            hint: error.hint(),
            transient: error.kind() != ErrorKind::Config,
            since: now.checked_sub(silence).unwrap_or(now),
        });
        state.wake_all();
    }

    pub(super) fn watch_recovered(&self, gvk: Gvk) {
        let kind = gvk.kind.clone();
        let mut state = self.state();
        let status = state.watch_status(gvk);
        status.unserved = false;
        status.trouble = None;
        if std::mem::take(&mut status.logged) {
            let message = format!("the watch of {kind} works again");
            let event = Event::info(EventReason::WatchRecovered, message);
            self.client.events().record(event);
        }
        state.wake_all();
    }
}

impl ClusterState {
    pub(super) fn watch_status(&mut self, gvk: Gvk) -> &mut WatchStatus {
        self.kinds.entry((gvk.group, gvk.kind)).or_default()
    }
}
