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

mod fleet;
mod stage;
mod teller;

pub use fleet::Fleet;
pub use stage::{Known, Relation, stage};

use crate::{
    cluster::ClusterError, forge::Forge, git::GitError, name::Name, plan::Rollout,
    publish::rollout::Merged, reconcile::Status,
};
use async_trait::async_trait;
use std::{collections::HashMap, sync::Arc, time::Duration};
use teller::Teller;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// How long things may take.
#[derive(Debug, Clone)]
pub struct Timing {
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

impl Default for Timing {
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
pub struct Target {
    /// The cluster.
    pub cluster: String,
    /// Its name.
    pub application: Name,
    /// How long it may take.
    pub timeout: Duration,
}

/// What the task knows the world by: a repository's mirror and the clusters. Everything but
/// [`Ground::rollouts`] may block.
#[async_trait]
pub trait Ground: Send + Sync + 'static {
    /// How the Applications of the repository are.
    fn statuses(&self) -> Vec<Status>;

    /// Tells of each turn of some status.
    fn turns(&self) -> watch::Receiver<u64>;

    /// The Applications that a request reaches; nothing while the commit that merged it has not
    /// been read.
    ///
    /// # Errors
    /// If the mirror cannot be read.
    fn reached(&self, merged: &Merged) -> Result<Option<Vec<Target>>, GitError>;

    /// How a revision relates to the commit that merged a request.
    ///
    /// # Errors
    /// If the mirror cannot be read.
    fn relation(
        &self,
        merged: &Merged,
        target: &Target,
        revision: &str,
    ) -> Result<Relation, GitError>;

    /// What became of the last revisions of all Applications on a cluster, the newest first.
    ///
    /// # Errors
    /// If the cluster cannot be asked.
    async fn rollouts(&self, cluster: &str) -> Result<HashMap<Name, Vec<Rollout>>, ClusterError>;
}

/// Tells of the merged requests of one repository until it is stopped. It may be dropped at any
/// point.
///
/// `merged` holds those of the last [`LATELY`](crate::publish::rollout::LATELY); what was told
/// already may stay in it.
pub async fn talk(
    ground: Arc<dyn Ground>,
    forge: Arc<dyn Forge>,
    mut merged: watch::Receiver<Arc<[Merged]>>,
    timing: Timing,
    stop: CancellationToken,
) {
    let mut turns = ground.turns();
    let gather = timing.gather;
    let mut teller = Teller::new(ground, forge, timing);
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
