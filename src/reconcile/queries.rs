//! Queries and requests of the CLI and the daemon: statuses, records, retries.

use super::{ApplicationStatus, Reconciler};
use crate::{
    core::name::Name,
    io::cluster::{ApplicationRecord, ClusterClient, ClusterError},
    objects::plan::{Inventory, RolloutHistory, text},
};
use futures::future::{join_all, try_join_all};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// A request of the user about one Application.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ApplicationRequest {
    /// Retry now, without waiting for a back-off; failed renderings too.
    Now,
    /// Confirm the deletions of this revision.
    ConfirmPrune(String),
}

/// An Application's record in a cluster.
#[derive(Debug, Clone)]
pub struct RecordedApplication {
    pub inventory: Inventory,
    pub history: RolloutHistory,
}

impl From<&ApplicationRecord> for RecordedApplication {
    /// Parses a record; damaged parts are empty.
    fn from(record: &ApplicationRecord) -> Self {
        let text = |name: &str| {
            record
                .data
                .get(name)
                .map(String::as_str)
                .unwrap_or_default()
        };
        Self {
            inventory: Inventory::parse(text(text::INVENTORY)).unwrap_or_default(),
            history: RolloutHistory::parse(text(text::HISTORY)).unwrap_or_default(),
        }
    }
}

/// The least time between two reports of progress. A thousand Applications change status
/// thousands of times within seconds.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);

impl Reconciler {
    /// Returns whether every cluster knows the declared and removed Applications of a revision.
    ///
    /// Before that, the statuses may be incomplete.
    pub fn has_accepted(&self, repository: &str, revision: &str) -> bool {
        self.clusters
            .keys()
            .all(|cluster| self.context.has_accepted(cluster, repository, revision))
    }

    /// Returns how many passes the tasks of all Applications have begun.
    pub fn passes(&self) -> u64 {
        self.context.passes.load(Ordering::Relaxed)
    }

    /// Returns all statuses by cluster and name.
    pub fn statuses(&self) -> Vec<ApplicationStatus> {
        self.context.statuses().values().cloned().collect()
    }

    /// Passes a request to an Application on every cluster; returns whether there is one.
    ///
    /// Its status is not observed again before a pass has taken the request.
    pub fn request(&self, name: &Name, request: &ApplicationRequest) -> bool {
        let mut any = false;
        for (key, handle) in self
            .handles()
            .iter()
            .filter(|((_, other, _), _)| other == name)
        {
            any = true;
            if *request == ApplicationRequest::Now {
                handle.render_retry.request();
            }
            self.context.request(key, request.clone());
            handle.wake.notify_one();
        }
        any
    }

    /// Returns a counter that changes when a task has lost its work: hand over the newest revision
    /// again.
    pub fn work_lost(&self) -> watch::Receiver<u64> {
        self.context.work_lost.subscribe()
    }

    /// Waits until Applications have been observed at a revision; all of them if `only` is `None`.
    ///
    /// Returns `false` on a timeout or a stop. `progress` is called with the statuses whenever
    /// some changed, several changes at once.
    pub async fn wait_until_observed(
        &self,
        repository: &str,
        revision: &str,
        only: Option<&BTreeSet<Name>>,
        timeout: Duration,
        mut progress: impl FnMut(&[ApplicationStatus]),
    ) -> bool {
        let mut status_changed = self.context.status_changed.subscribe();
        let is_selected = |status: &&ApplicationStatus| {
            status.repository == repository
                && only.is_none_or(|only| only.contains(&status.application))
        };
        let is_done = |status: &ApplicationStatus| {
            status.observed && status.revision.as_deref() == Some(revision)
        };
        let end = Instant::now() + timeout;
        let mut due = Instant::now();
        loop {
            status_changed.mark_unchanged();
            let now = Instant::now();
            let accepted = self.has_accepted(repository, revision);
            let (done, report) = {
                let statuses = self.context.statuses();
                let mut selected = statuses.values().filter(is_selected);
                let done = accepted && selected.all(is_done);
                let report = (done || now >= due).then(|| {
                    let selected = statuses.values().filter(is_selected);
                    selected.cloned().collect::<Vec<_>>()
                });
                (done, report)
            };
            let postponed = report.is_none();
            if let Some(statuses) = report {
                progress(&statuses);
                due = now + PROGRESS_INTERVAL;
            }
            if done {
                return true;
            }
            tokio::select! {
                _ = status_changed.changed() => {}
                () = tokio::time::sleep_until(due), if postponed => {}
                () = tokio::time::sleep_until(end) => return false,
                () = self.context.stop.cancelled() => return false,
            }
        }
    }

    /// Returns a receiver that is notified of every status change.
    pub fn status_changes(&self) -> watch::Receiver<u64> {
        self.context.status_changed.subscribe()
    }

    /// Reads all records of a cluster; none of one that cannot be used.
    ///
    /// # Errors
    /// If the cluster does not answer.
    pub async fn records(
        &self,
        cluster: &str,
    ) -> Result<BTreeMap<Name, RecordedApplication>, ClusterError> {
        let Some(handle) = self.clusters.get(cluster) else {
            return Ok(BTreeMap::new());
        };
        let records = handle.client.records().await?;
        // Thousands of inventories are parsed: off the async workers.
        Ok(crate::io::blocking(move || {
            let recorded = records.iter().map(|record| {
                (
                    record.application.clone(),
                    RecordedApplication::from(record),
                )
            });
            recorded.collect()
        })
        .await)
    }

    /// Reads the records of an Application in the clusters that may be asked, by cluster; none
    /// where there is no record. All clusters are asked at once, so that none delays another.
    pub async fn records_of(
        &self,
        application: &Name,
        may_ask: impl Fn(&str) -> bool,
    ) -> BTreeMap<String, Result<Option<RecordedApplication>, ClusterError>> {
        let asked = self.clusters.iter().filter(|(name, _)| may_ask(name));
        let reads = asked.map(|(name, handle)| async {
            let record = handle.client.record(application).await;
            let recorded = record.map(|record| record.as_ref().map(RecordedApplication::from));
            (name.clone(), recorded)
        });
        join_all(reads).await.into_iter().collect()
    }

    /// Returns, for each cluster, a ConfigMap that has the name of an Application's record without
    /// being one.
    ///
    /// # Errors
    /// If a cluster does not answer.
    pub async fn record_conflicts(
        &self,
        name: &Name,
        may_ask: impl Fn(&str) -> bool,
    ) -> Result<Vec<ClusterError>, ClusterError> {
        let asked = self.clusters.iter().filter(|(name, _)| may_ask(name));
        let reads = asked.map(|(_, handle)| handle.client.in_place_of_record(name));
        Ok(try_join_all(reads).await?.into_iter().flatten().collect())
    }

    /// Returns why the kubeconfig of a cluster cannot be used.
    pub fn connection_error(&self, cluster: &str) -> Option<&ClusterError> {
        self.unusable.get(cluster)
    }

    /// Returns the names of all clusters in tagboat.yaml.
    pub fn clusters(&self) -> impl Iterator<Item = &String> {
        self.clusters.keys().chain(self.unusable.keys())
    }

    pub fn cluster(&self, name: &str) -> Option<&ClusterClient> {
        self.clusters.get(name).map(|handle| &handle.client)
    }
}
