//! One typed answer for each query.
//!
//! Belongs here: what a command, the local socket or the HTTP API asks for, computed and returned
//! as a serialisable type. Does not belong here: printing, colours, arguments.
//!
//! Each query has a file with its query type, its answer type and one function. Queries about
//! config repositories and clusters take a [`Service`]; the others only read files or a registry.
//! [`protocol`] carries the former over the local socket, and [`schema`] has the JSON schema of
//! every answer.

pub mod check;
mod check_rights;
mod checkout_trust;
mod confirm_delete;
pub mod diff;
pub mod engine;
pub mod explain;
pub mod file_error;
pub mod health;
pub mod history;
pub mod holds;
pub mod init;
pub mod outcome;
pub mod pass_summary;
pub mod plan;
pub mod policies;
pub mod preview;
pub mod progress;
mod progress_text;
pub mod protocol;
pub mod release;
pub mod render;
pub mod requests;
pub mod rollback;
pub mod run;
pub mod safe_point;
pub mod scan;
pub mod schema;
mod scope;
pub mod select;
pub mod set;
pub mod status;
pub mod survey;
pub mod suspend;
pub mod sync;
pub mod tags;
pub mod types;
pub mod unsupported;

pub use outcome::{Failure, Outcome};
pub use progress::{NoProgress, Progress};

use crate::{
    io::render::Renderer,
    reconcile::{ReconcileMode, Reconciler},
    update::ImageUpdater,
};
use engine::{Engine, ServiceContext, SettingsIdentity};
use scan::DaemonScans;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

/// Everything that queries about repositories and clusters work with.
pub struct Service {
    /// One for each config repository.
    pub updaters: Vec<Arc<ImageUpdater>>,
    /// The reconciler of the daemon; none in a command, which opens clusters as it needs them.
    pub reconciler: Option<Arc<Reconciler>>,
    /// Renders Applications.
    pub renderer: Arc<Renderer>,
    /// The settings.
    pub context: Arc<ServiceContext>,
    /// The scans of the daemon; none in a command.
    pub scans: Option<Arc<DaemonScans>>,
    /// The clusters that queries have opened for themselves.
    sessions: Arc<ClusterSessions>,
}

/// The clusters that queries have opened for themselves, which have to reach a safe point before
/// the process ends.
#[derive(Default)]
struct ClusterSessions {
    stop: CancellationToken,
    opened: Mutex<Vec<(Arc<Reconciler>, CancellationToken)>>,
}

impl Service {
    /// Puts a service together from what a process has open.
    pub fn new(
        context: &Arc<ServiceContext>,
        engine: &Engine,
        reconciler: Option<Arc<Reconciler>>,
    ) -> Self {
        Self {
            updaters: engine.updaters.clone(),
            reconciler,
            renderer: Arc::clone(&engine.renderer),
            context: Arc::clone(context),
            scans: None,
            sessions: Arc::default(),
        }
    }

    /// Adds the scans of a daemon.
    #[must_use]
    pub fn with_scans(self, scans: Arc<DaemonScans>) -> Self {
        Self {
            scans: Some(scans),
            ..self
        }
    }

    /// Asks passes and clusters of a running query to stop.
    ///
    /// Returns true if a pass is pushing: then the query has to be waited for, since its answer
    /// says what was pushed. Any other query can be dropped where it is, and
    /// [`Service::wind_down`] ends what it has begun.
    pub fn stop(&self) -> bool {
        self.sessions.stop.cancel();
        // Every pass has to hear of it.
        let publishing: Vec<bool> = self.updaters.iter().map(|updater| updater.end()).collect();
        publishing.contains(&true)
    }

    /// Waits until what a dropped query has begun is at a safe point: pushes, and requests to
    /// clusters.
    pub async fn wind_down(&self) {
        let opened = std::mem::take(
            &mut *self
                .sessions
                .opened
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for (reconciler, _) in opened {
            reconciler.shut_down().await;
        }
        for updater in &self.updaters {
            updater.drain_pushes().await;
        }
    }

    /// Opens the clusters of the settings for one query; none if the settings name none.
    async fn open_clusters(
        &self,
        mode: ReconcileMode,
    ) -> Result<Option<(Arc<Reconciler>, CancellationToken)>, Failure> {
        let stop = self.sessions.stop.child_token();
        let Some(reconciler) = self.context.reconciler(mode, &stop).await? else {
            return Ok(None);
        };
        let mut opened = self
            .sessions
            .opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Those of earlier queries have ended.
        opened.retain(|(_, stop)| !stop.is_cancelled());
        opened.push((Arc::clone(&reconciler), stop.clone()));
        drop(opened);
        Ok(Some((reconciler, stop)))
    }

    /// Returns the same service for a client with these settings, and for one repository if it
    /// names one.
    ///
    /// # Errors
    /// If the client has other settings, or this process does not use the repository.
    pub fn for_client(
        &self,
        settings: &SettingsIdentity,
        repository: Option<&str>,
    ) -> Result<Self, Failure> {
        self.context.identity.check(settings)?;
        let service = self.for_repository(repository);
        match repository {
            Some(name) if service.updaters.is_empty() => Err(Failure::input(format!(
                "the daemon does not use the repository {name:?}; {}",
                types::available(
                    self.updaters
                        .iter()
                        .map(|updater| updater.repo.config.name.clone())
                )
            ))
            .hint("Start the daemon without --repository.")),
            _ => Ok(service),
        }
    }

    /// Returns the same service for one repository.
    fn for_repository(&self, repository: Option<&str>) -> Self {
        let is_selected = |updater: &&Arc<ImageUpdater>| {
            repository.is_none_or(|name| updater.repo.config.name == name)
        };
        Self {
            updaters: self.updaters.iter().filter(is_selected).cloned().collect(),
            reconciler: self.reconciler.clone(),
            renderer: Arc::clone(&self.renderer),
            context: Arc::clone(&self.context),
            scans: self.scans.clone(),
            sessions: Arc::clone(&self.sessions),
        }
    }

    /// Returns whether one of the repositories may use a cluster; another is not even asked.
    fn may_use(&self, cluster: &str) -> bool {
        let rights = |updater: &Arc<ImageUpdater>| Arc::clone(&updater.repo.config.rights);
        self.updaters
            .iter()
            .any(|updater| rights(updater).cluster_refusal(cluster).is_none())
    }

    /// Waits until no pass works on the repositories, and keeps passes out until the guards are
    /// dropped. Needed by every query that makes a pass or writes to Git.
    async fn lock_repositories(&self) -> Vec<OwnedMutexGuard<()>> {
        let mut guards = Vec::new();
        for updater in &self.updaters {
            guards.push(Arc::clone(&updater.repo.lock).lock_owned().await);
        }
        guards
    }

    /// Fetches what a query has pushed, so that the daemon applies it now and not at the next poll.
    /// A failure is left to that poll.
    async fn fetch_after_write(&self) {
        if self.reconciler.is_some() {
            for updater in &self.updaters {
                let _ = updater.repo.refresh(&mut Vec::new()).await;
            }
        }
    }
}
