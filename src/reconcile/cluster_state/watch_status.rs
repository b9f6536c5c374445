//! How the watches of the kinds are: which have come, and which see nothing any more.

use super::{ClusterHandle, ClusterState, GroupKind};
use crate::{
    core::error::{Classify as _, ErrorKind},
    io::cluster::{ClusterError, ClusterProblem},
    objects::object::{Gvk, ObjectKey},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;
use tracing::{info, warn};

/// How long a watch may be in trouble until that is told where its objects are known already: API
/// servers are restarted.
pub const BLIND: Duration = Duration::from_secs(30);

/// The state of a watch.
#[derive(Default)]
pub(crate) struct WatchStatus {
    pub(crate) listed: bool,
    /// The cluster does not know the kind: nothing of it can be there.
    pub(crate) unserved: bool,
    pub(crate) trouble: Option<Trouble>,
    /// Whether the log has it that nothing is seen any more.
    told: bool,
}

impl WatchStatus {
    /// One that has just begun.
    pub(crate) fn new(unserved: bool) -> Self {
        Self {
            unserved,
            ..Self::default()
        }
    }
}

/// Why a kind cannot be watched.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    pub message: String,
    pub hint: Option<String>,
    /// Whether it may pass by itself.
    pub passing: bool,
    since: Instant,
}

/// Kinds of which no list has come, and why, where that is known.
pub(crate) type Unlisted = BTreeMap<GroupKind, Option<Trouble>>;

impl ClusterHandle {
    /// Why kinds cannot be judged yet: their list has not come. Empty if all are known.
    pub fn unlisted<'k>(&self, kinds: impl Iterator<Item = &'k ObjectKey>) -> Unlisted {
        let state = self.state();
        let mut missing = Unlisted::new();
        for key in kinds {
            let kind = (key.group.clone(), key.kind.clone());
            if let Some(watching) = state
                .kinds
                .get(&kind)
                .filter(|watching| !watching.listed && !watching.unserved)
            {
                missing.insert(kind, watching.trouble.clone());
            }
        }
        missing
    }

    /// Kinds of which nothing new is seen any more, though what there was is known: what is told of
    /// their objects is of before. And when that will be so of those whose trouble has just begun.
    pub fn blind<'k>(
        &self,
        kinds: impl Iterator<Item = &'k ObjectKey>,
    ) -> (BTreeMap<GroupKind, Trouble>, Option<Instant>) {
        let mut state = self.state();
        let (mut blind, mut next) = (BTreeMap::new(), None);
        if state
            .kinds
            .values()
            .all(|watching| watching.trouble.is_none())
        {
            return (blind, next);
        }
        for key in kinds {
            let kind = (key.group.clone(), key.kind.clone());
            let Some(watching) = state
                .kinds
                .get_mut(&kind)
                .filter(|watching| watching.listed)
            else {
                continue;
            };
            let Some(trouble) = &watching.trouble else {
                continue;
            };
            let due = trouble.since + BLIND;
            if due > Instant::now() {
                next = Some(next.map_or(due, |known: Instant| known.min(due)));
                continue;
            }
            if !std::mem::replace(&mut watching.told, true) {
                let (cluster, hint) = (self.cluster.name(), &trouble.hint);
                warn!(
                    cluster,
                    hint,
                    "{} cannot be watched any more, what changes is not seen: {}",
                    key.kind,
                    trouble.message
                );
            }
            blind.insert(kind, trouble.clone());
        }
        (blind, next)
    }

    /// A watch is in trouble.
    pub(crate) fn lost_sight(&self, gvk: Gvk, error: &ClusterError) {
        let mut state = self.state();
        let watching = state.watching(gvk);
        watching.unserved = matches!(
            *error.problem,
            ClusterProblem::UnknownKind { down: false, .. }
        );
        let passing = error.kind() != ErrorKind::Config;
        watching.trouble = Some(Trouble {
            message: error.problem.to_string(),
            hint: error.hint(),
            passing,
            since: Instant::now(),
        });
        state.wake_all();
    }

    /// A watch sees again.
    pub(crate) fn sees(&self, gvk: Gvk) {
        let kind = gvk.kind.clone();
        let mut state = self.state();
        let watching = state.watching(gvk);
        (watching.unserved, watching.trouble) = (false, None);
        if std::mem::take(&mut watching.told) {
            info!(cluster = self.cluster.name(), "{kind} is watched again");
        }
        state.wake_all();
    }
}

impl ClusterState {
    pub(crate) fn watching(&mut self, gvk: Gvk) -> &mut WatchStatus {
        self.kinds.entry((gvk.group, gvk.kind)).or_default()
    }
}
