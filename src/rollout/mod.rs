//! Rollout reports: the fate of merged pull requests on the clusters, as commit statuses and
//! comments.
//!
//! ```text
//! merged pull requests ─▶ Applications reached ─▶ stage (pure) ─▶ text (review::rollout) ─▶ forge
//!                                ▲ status changes of the reconciler
//! ```
//!
//! A task sleeps until a pull request is merged. From then on it looks whenever the status of an
//! Application changes, and sends what is new. It is done with a pull request when the result is
//! reported or its time is over. The comment carries the state: after a restart, an identical
//! comment means that nothing is left to send.

mod records;
mod send;
mod source;
mod stage;
mod reporter;

pub use source::FleetSource;
pub use stage::{RevisionRelation, StageInput, stage};

use crate::{
    core::name::Name,
    events::Recorder,
    io::{cluster::ClusterError, forge::Forge, git::GitError, sleep_until},
    objects::plan::Rollout,
    reconcile::ApplicationStatus,
    review::rollout::MergedRequest,
};
use async_trait::async_trait;
use reporter::RolloutReporter;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The timing of reports.
#[derive(Debug, Clone)]
pub struct ReportTiming {
    /// How long status changes are gathered: a thousand Applications change within seconds.
    pub gather: Duration,
    /// The least time between two reports about one pull request in progress. The result is
    /// reported at once.
    pub pace: Duration,
    /// How long a pull request merged before this process started may be unclear before it is
    /// reported: usually an earlier process reported it already.
    pub grace: Duration,
    /// How long a result is awaited beyond the Application's own timeout.
    pub bound: Duration,
    /// The first delay after a failure, doubled each time up to sixty times as long.
    pub backoff: Duration,
}

impl Default for ReportTiming {
    fn default() -> Self {
        Self {
            gather: Duration::from_millis(500),
            pace: Duration::from_secs(15),
            grace: Duration::from_secs(60),
            bound: Duration::from_secs(30 * 60),
            backoff: Duration::from_secs(10),
        }
    }
}

/// An Application that a pull request reaches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RolloutTarget {
    pub cluster: String,
    pub application: Name,
    pub timeout: Duration,
}

/// The source of rollouts: a repository's mirror and the clusters. Every method but
/// [`RolloutSource::rollouts`] may block.
#[async_trait]
pub trait RolloutSource: Send + Sync + 'static {
    /// Returns the statuses of the repository's Applications.
    fn statuses(&self) -> Vec<ApplicationStatus>;

    /// Returns a receiver that is notified of every status change.
    fn status_changes(&self) -> watch::Receiver<u64>;

    /// Returns the Applications that a pull request reaches; `None` until the merge commit has been
    /// fetched.
    ///
    /// # Errors
    /// If the mirror cannot be read.
    fn targets(&self, merged: &MergedRequest) -> Result<Option<Vec<RolloutTarget>>, GitError>;

    /// Returns the relation of a revision to the merge commit of a pull request.
    ///
    /// # Errors
    /// If the mirror cannot be read.
    fn relation(
        &self,
        merged: &MergedRequest,
        target: &RolloutTarget,
        revision: &str,
    ) -> Result<RevisionRelation, GitError>;

    /// Returns the last rollouts of all Applications on a cluster, newest first.
    ///
    /// # Errors
    /// If the cluster does not answer.
    async fn rollouts(&self, cluster: &str) -> Result<HashMap<Name, Vec<Rollout>>, ClusterError>;
}

/// Reports the merged pull requests of one repository until it is stopped. It may be dropped at any
/// point.
///
/// `merged` holds those of the last [`LATELY`](crate::review::rollout::LATELY), reported or not.
pub async fn report(
    source: Arc<dyn RolloutSource>,
    forge: Arc<dyn Forge>,
    mut merged: watch::Receiver<Arc<[MergedRequest]>>,
    timing: ReportTiming,
    events: Recorder,
    stop: CancellationToken,
) {
    let mut status_changes = source.status_changes();
    let gather = timing.gather;
    let mut reporter = RolloutReporter::new(source, forge, timing, events);
    loop {
        let requests = Arc::clone(&merged.borrow_and_update());
        reporter.take(&requests, jiff::Timestamp::now());
        status_changes.mark_unchanged();
        let wake = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            wake = reporter.round() => wake,
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = merged.changed() => if changed.is_err() { return },
            // Without an open report, no status change wakes.
            changed = status_changes.changed(), if wake.on_status_change => match changed {
                Ok(()) => tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(gather) => {}
                },
                Err(_) => return,
            },
            () = sleep_until(wake.at) => {}
        }
    }
}
