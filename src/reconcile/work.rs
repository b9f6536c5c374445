//! The work of an Application's task, and the target it pursues.

use super::options::ReconcileOptions;
use crate::{
    io::render::Rendered,
    objects::plan::{DesiredObject, RefusedObject, RolloutOutcome, ValueHash},
    reconcile::{Reason, status::Message},
    spec::{Application, rights::RepositoryRights},
};
use std::sync::Arc;
use tokio::time::Instant;

#[derive(Debug)]
pub(crate) enum Work {
    Apply(Box<AcceptedRevision>),
    /// The rendering equals the last one, at another revision.
    Same {
        revision: String,
        /// The hash of the objects: another one was accepted, or none, if the task has refused or
        /// lost this one.
        hash: Arc<str>,
    },
    /// The revision cannot be read; the last readable one stays in force.
    Unreadable {
        revision: String,
        reason: Reason,
        message: Message,
    },
    Suspend {
        revision: String,
    },
    /// The Application was removed from Git.
    Remove {
        revision: String,
        /// Why its objects are not deleted without a confirmation.
        delete_guard: Option<String>,
        /// The rights of its repository today.
        rights: Arc<RepositoryRights>,
    },
}

impl Work {
    pub(crate) fn revision(&self) -> &str {
        match self {
            Work::Apply(accepted) => &accepted.revision,
            Work::Same { revision, .. }
            | Work::Unreadable { revision, .. }
            | Work::Suspend { revision }
            | Work::Remove { revision, .. } => revision,
        }
    }

    /// Merges this work with older work that no pass has taken up.
    ///
    /// A rendering equal to the last one is equal to the waiting one.
    pub(super) fn after(self, waiting: Option<Self>) -> Self {
        match (self, waiting) {
            (Work::Same { revision, .. }, Some(Work::Apply(waiting))) => {
                Work::Apply(Box::new(AcceptedRevision {
                    revision,
                    ..*waiting
                }))
            }
            (work, _) => work,
        }
    }
}

/// An Application at a revision, rendered.
#[derive(Debug)]
pub(crate) struct AcceptedRevision {
    pub application: Application,
    pub revision: String,
    pub rendered: Arc<Rendered>,
}

/// The state that an Application's task establishes.
pub(crate) struct Target {
    pub options: ReconcileOptions,
    pub revision: String,
    pub desired: Vec<DesiredObject>,
    pub refused: Vec<RefusedObject>,
    pub notes: Vec<Message>,
    /// The hash of the rendered objects; empty for a removal.
    pub rendered: Arc<str>,
    /// The hash of all desired objects.
    pub hash: ValueHash,
    /// The rollout has failed if it is not healthy by then.
    pub deadline: Instant,
    /// Whether the Application was removed and its objects are being deleted.
    pub deleting: bool,
    /// The last reported outcome.
    pub reported: Option<RolloutOutcome>,
    /// Whether all dependencies have been ready once.
    pub dependencies_met: bool,
    /// The source of the desired objects, until the cluster serves all their kinds.
    pub unserved_source: Option<Box<(Application, Arc<Rendered>)>>,
    /// When the kinds of established CRDs should be served; `None` while no object waits for one.
    pub published_by: Option<Instant>,
}

impl Target {
    pub(crate) fn has_unserved_kinds(&self) -> bool {
        self.desired.iter().any(|one| !one.served)
    }
}
