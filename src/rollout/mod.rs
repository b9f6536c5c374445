//! Talking back: what became of merged requests on the clusters, as commit statuses and in the
//! requests themselves.
//!
//! ```text
//! merged requests ─▶ Applications reached ─▶ stage (pure) ─▶ words (publish::rollout) ─▶ forge
//!                            ▲ turns of the reconciler
//! ```
//!
//! A task that sleeps until a request was merged; from then on it looks whenever some Application
//! has turned, and sends what is not said yet. It ends with a request when its result is there, or
//! when its time is over. What it has said is found again after a restart by the comment: who finds
//! it as it should be has nothing to send.

mod source;
mod stage;
mod reporter;

pub use source::FleetSource;
pub use stage::{RevisionRelation, StageInput, stage};

use crate::{
    core::name::Name,
    io::{cluster::ClusterError, forge::Forge, git::GitError},
    objects::plan::Rollout,
    reconcile::ApplicationStatus,
    review::rollout::MergedRequest,
};
use async_trait::async_trait;
use reporter::RolloutReporter;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// How long things may take.
#[derive(Debug, Clone)]
pub struct ReportTiming {
    /// After a turn, how long further turns are waited for: a thousand Applications turn within
    /// seconds.
    pub gather: Duration,
    /// The least time between two words about one request while it is on its way. Its result is
    /// told at once.
    pub pace: Duration,
    /// How long what was merged before this task began may be unclear before anything is said: it
    /// was told before, as a rule, and is only found again.
    pub grace: Duration,
    /// After an Application's own timeout, how much longer its result is waited for.
    pub bound: Duration,
    /// The wait after trouble, doubled each time up to sixty times as long.
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

/// An Application that a request reaches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RolloutTarget {
    /// The cluster.
    pub cluster: String,
    /// Its name.
    pub application: Name,
    /// How long it may take.
    pub timeout: Duration,
}

/// What the task knows the world by: a repository's mirror and the clusters. Everything but
/// [`RolloutSource::rollouts`] may block.
#[async_trait]
pub trait RolloutSource: Send + Sync + 'static {
    /// How the Applications of the repository are.
    fn statuses(&self) -> Vec<ApplicationStatus>;

    /// Tells of each turn of some status.
    fn turns(&self) -> watch::Receiver<u64>;

    /// The Applications that a request reaches; nothing while the commit that merged it has not
    /// been read.
    ///
    /// # Errors
    /// If the mirror cannot be read.
    fn reached(&self, merged: &MergedRequest) -> Result<Option<Vec<RolloutTarget>>, GitError>;

    /// How a revision relates to the commit that merged a request.
    ///
    /// # Errors
    /// If the mirror cannot be read.
    fn relation(
        &self,
        merged: &MergedRequest,
        target: &RolloutTarget,
        revision: &str,
    ) -> Result<RevisionRelation, GitError>;

    /// What became of the last revisions of all Applications on a cluster, the newest first.
    ///
    /// # Errors
    /// If the cluster cannot be asked.
    async fn rollouts(&self, cluster: &str) -> Result<HashMap<Name, Vec<Rollout>>, ClusterError>;
}

/// Tells of the merged requests of one repository until it is stopped. It may be dropped at any
/// point.
///
/// `merged` holds those of the last [`LATELY`](crate::review::rollout::LATELY); what was told
/// already may stay in it.
pub async fn report(
    ground: Arc<dyn RolloutSource>,
    forge: Arc<dyn Forge>,
    mut merged: watch::Receiver<Arc<[MergedRequest]>>,
    timing: ReportTiming,
    stop: CancellationToken,
) {
    let mut turns = ground.turns();
    let gather = timing.gather;
    let mut teller = RolloutReporter::new(ground, forge, timing);
    loop {
        let list = Arc::clone(&merged.borrow_and_update());
        teller.take(&list, jiff::Timestamp::now());
        turns.mark_unchanged();
        let wake = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            wake = teller.round() => wake,
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = merged.changed() => if changed.is_err() { return },
            // While nobody waits for a result, no turn wakes.
            turned = turns.changed(), if wake.on_turns => match turned {
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

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
