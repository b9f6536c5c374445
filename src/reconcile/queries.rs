//! What people and commands ask of a reconciler: how everything is, what clusters remember, and to
//! try again.

use super::{ApplicationStatus, Reconciler};
use crate::{
    core::name::Name,
    io::cluster::{ApplicationRecord, ClusterClient, ClusterError},
    objects::plan::{Inventory, RolloutHistory, text},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
    time::Duration,
};
use tokio::sync::watch;

/// What people may ask of an Application.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ApplicationRequest {
    /// Try again now what waits after trouble, and what could not be rendered.
    Now,
    /// Delete what this revision wants deleted.
    ConfirmPrune(String),
}

/// What lies in a cluster about an Application.
#[derive(Debug, Clone)]
pub struct RecordedApplication {
    /// What it owns.
    pub inventory: Inventory,
    /// What became of its last revisions.
    pub history: RolloutHistory,
}

impl From<&ApplicationRecord> for RecordedApplication {
    /// What cannot be read is empty.
    fn from(record: &ApplicationRecord) -> Self {
        let text = |of: &str| record.data.get(of).map(String::as_str).unwrap_or_default();
        let inventory = Inventory::parse(text(text::INVENTORY)).unwrap_or_default();
        Self {
            inventory,
            history: RolloutHistory::parse(text(text::HISTORY)).unwrap_or_default(),
        }
    }
}

impl Reconciler {
    /// Whether the Applications of a repository at a revision are known on every cluster: those it
    /// declares, and those it no longer does. Statuses say nothing of the others before that.
    pub fn has_accepted(&self, repository: &str, revision: &str) -> bool {
        self.hubs
            .keys()
            .all(|cluster| self.shared.has_taken(cluster, repository, revision))
    }

    /// How everything is, by cluster and name.
    pub fn statuses(&self) -> Vec<ApplicationStatus> {
        self.shared
            .statuses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// Asks something of an Application, on whichever clusters it is; whether there is one.
    pub fn request(&self, name: &Name, asked: &ApplicationRequest) -> bool {
        let runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
        let mut any = false;
        for (key, handle) in runners.iter().filter(|((_, other, _), _)| other == name) {
            any = true;
            if *asked == ApplicationRequest::Now && handle.again.ask() {
                self.shared.unsettle(key);
            }
            self.shared
                .asked
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(key.clone())
                .or_default()
                .push(asked.clone());
            handle.inbox.notify_one();
        }
        any
    }

    /// Waits until Applications have come to an end at a revision, all of them if none is named;
    /// gives whether they have before the time was over. `tell` hears of turns, several at once
    /// where many turn.
    pub async fn wait_until_observed(
        &self,
        repository: &str,
        revision: &str,
        only: Option<&BTreeSet<Name>>,
        patience: Duration,
        mut tell: impl FnMut(&[ApplicationStatus]),
    ) -> bool {
        /// A thousand Applications turn thousands of times within seconds; nobody reads faster than
        /// this.
        const TOLD: Duration = Duration::from_millis(50);
        let mut turned = self.shared.turned.subscribe();
        let ours = |status: &&ApplicationStatus| {
            status.repository == repository
                && only.is_none_or(|only| only.contains(&status.application))
        };
        let end = tokio::time::Instant::now() + patience;
        let mut due = tokio::time::Instant::now();
        loop {
            turned.mark_unchanged();
            let now = tokio::time::Instant::now();
            let taken = self.has_accepted(repository, revision);
            let (done, told) = {
                let statuses = self
                    .shared
                    .statuses
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                let done = taken
                    && statuses.values().filter(ours).all(|status| {
                        status.observed && status.revision.as_deref() == Some(revision)
                    });
                let told = (done || now >= due)
                    .then(|| statuses.values().filter(ours).cloned().collect::<Vec<_>>());
                (done, told)
            };
            let late = told.is_none();
            if let Some(statuses) = told {
                tell(&statuses);
                due = now + TOLD;
            }
            if done {
                return true;
            }
            tokio::select! {
                _ = turned.changed() => {}
                () = tokio::time::sleep_until(due), if late => {}
                () = tokio::time::sleep_until(end) => return false,
                () = self.shared.stop.cancelled() => return false,
            }
        }
    }

    /// Tells of each turn of some status.
    pub fn status_changes(&self) -> watch::Receiver<u64> {
        self.shared.turned.subscribe()
    }

    /// What lies in the records of a cluster, or of all.
    ///
    /// # Errors
    /// If a cluster cannot be asked.
    pub async fn records(
        &self,
        cluster: Option<&str>,
    ) -> Result<BTreeMap<(String, Name), RecordedApplication>, ClusterError> {
        let mut all = BTreeMap::new();
        for (name, hub) in self
            .hubs
            .iter()
            .filter(|(name, _)| cluster.is_none_or(|desired| desired == *name))
        {
            for record in hub.cluster.records().await? {
                all.insert(
                    (name.clone(), record.application.clone()),
                    RecordedApplication::from(&record),
                );
            }
        }
        Ok(all)
    }

    /// What lies, in each cluster, in the place of an Application's record without being one.
    ///
    /// # Errors
    /// If a cluster cannot be asked.
    pub async fn record_conflicts(&self, name: &Name) -> Result<Vec<ClusterError>, ClusterError> {
        let mut all = Vec::new();
        for hub in self.hubs.values() {
            all.extend(hub.cluster.in_place_of_record(name).await?);
        }
        Ok(all)
    }

    /// Why there is no way into a cluster that is named.
    pub fn connection_error(&self, name: &str) -> Option<&ClusterError> {
        self.closed.get(name)
    }

    /// All clusters that are named.
    pub fn clusters(&self) -> impl Iterator<Item = &String> {
        self.hubs.keys().chain(self.closed.keys())
    }

    /// A cluster by name.
    pub fn cluster(&self, name: &str) -> Option<&ClusterClient> {
        self.hubs.get(name).map(|hub| &hub.cluster)
    }
}
