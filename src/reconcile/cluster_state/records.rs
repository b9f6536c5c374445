//! The records in a cluster: read once, then owned by the tasks of their Applications.

use super::{ClusterHandle, ownership};
use crate::{
    core::name::Name,
    events::{Event, EventReason},
    io::cluster::{ApplicationRecord, ClusterError, ClusterProblem},
    objects::plan::Inventory,
    reconcile::{RecordedApplication, RepositoryId},
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The records as they were first read.
pub(super) struct RecordTable {
    /// Records that no task has taken yet.
    pub waiting: HashMap<Name, ApplicationRecord>,
    /// The repository that each record names.
    pub repositories: HashMap<Name, RepositoryId>,
    /// Repositories whose namesakes were logged.
    logged: HashSet<String>,
}

impl ClusterHandle {
    /// Takes the record of an Application out of the table. One that was not read with all others
    /// is read alone.
    ///
    /// # Errors
    /// If it is too large; and as every request.
    pub(crate) async fn take_record(
        &self,
        name: &Name,
    ) -> Result<Option<ApplicationRecord>, ClusterError> {
        let is_unread = |record: &ApplicationRecord| record.unread.is_some();
        let take = |records: &mut RecordTable| match records.waiting.get(name) {
            Some(unread) if is_unread(unread) => Some(unread.clone()),
            _ => records.waiting.remove(name),
        };
        let found = self.with_records(take).await?;
        if !found.as_ref().is_some_and(is_unread) {
            return Ok(found);
        }
        self.read_alone(name).await
    }

    /// Reads the record of an Application from the cluster.
    ///
    /// # Errors
    /// If it is too large; and as every request.
    pub(crate) async fn read_alone(
        &self,
        name: &Name,
    ) -> Result<Option<ApplicationRecord>, ClusterError> {
        let alone = self.reread(name).await?;
        match alone.as_ref().and_then(|record| record.unread.as_ref()) {
            Some(why) => Err(ClusterError {
                cluster: self.client.name().to_owned(),
                subject: format!("record {}", self.client.record_place(name)),
                problem: Box::new(ClusterProblem::Refused { why: why.clone() }),
            }),
            None => Ok(alone),
        }
    }

    /// Returns the record of an Application that has no task.
    pub(crate) async fn waiting_record(
        &self,
        name: &Name,
    ) -> Result<Option<RecordedApplication>, ClusterError> {
        self.with_records(|records| records.waiting.get(name).map(RecordedApplication::from))
            .await
    }

    /// Returns the Applications whose records name a repository.
    ///
    /// Records of a namesake (same name, other address) are left alone, and logged once.
    pub(crate) async fn recorded(
        &self,
        repository: &RepositoryId,
    ) -> Result<BTreeSet<Name>, ClusterError> {
        let (found, namesakes) = self
            .with_records(|records| records.of_repository(repository))
            .await?;
        for (namesake, count) in namesakes {
            let message = format!(
                "{count} Applications on this cluster belong to {namesake}, which is not {repository}; they are left alone"
            );
            let event = Event::warning(EventReason::ForeignRecord, message);
            let events = self.client.events();
            events.record(event.repository(&repository.name));
        }
        Ok(found)
    }

    /// Runs a function on the records; reads them from the cluster the first time.
    pub(super) async fn with_records<T>(
        &self,
        work: impl FnOnce(&mut RecordTable) -> T,
    ) -> Result<T, ClusterError> {
        let mut records = self.records.lock().await;
        if let Some(records) = records.as_mut() {
            return Ok(work(records));
        }
        let read = self.client.records().await?;
        // Thousands of inventories are parsed: off the async workers.
        let (read, inventories) = crate::io::blocking(move || {
            let inventories: Vec<_> = read.iter().map(ownership::inventory).collect();
            (read, inventories)
        })
        .await;
        let mut repositories = HashMap::new();
        {
            let mut state = self.state();
            for (record, inventory) in read.iter().zip(inventories) {
                let name = &record.application;
                let repository = inventory.as_ref().map(RepositoryId::from);
                repositories.insert(
                    name.clone(),
                    repository.unwrap_or_else(|| RepositoryId::from(&Inventory::default())),
                );
                state.set_recorded(name, Some(inventory));
            }
        }
        let waiting = read
            .into_iter()
            .map(|record| (record.application.clone(), record))
            .collect();
        Ok(work(records.insert(RecordTable {
            waiting,
            repositories,
            logged: HashSet::new(),
        })))
    }

    /// Reads the record of one Application again, after another process has written it.
    pub(crate) async fn reread(
        &self,
        name: &Name,
    ) -> Result<Option<ApplicationRecord>, ClusterError> {
        self.client.record(name).await
    }

    /// Forgets the record of a deleted Application.
    pub(crate) async fn forget_record(&self, name: &Name) {
        if let Some(records) = self.records.lock().await.as_mut() {
            records.repositories.remove(name);
            records.waiting.remove(name);
        }
    }
}

impl RecordTable {
    /// Returns the Applications of a repository; and the namesakes of the repository that were not
    /// logged yet, with the number of their Applications.
    fn of_repository(
        &mut self,
        repository: &RepositoryId,
    ) -> (BTreeSet<Name>, BTreeMap<String, usize>) {
        let found = self
            .repositories
            .iter()
            .filter(|(_, named)| *named == repository)
            .map(|(name, _)| name.clone())
            .collect();
        let mut namesakes: BTreeMap<String, usize> = BTreeMap::new();
        if self.logged.insert(repository.name.clone()) {
            for named in self
                .repositories
                .values()
                .filter(|named| named.name == repository.name && *named != repository)
            {
                *namesakes.entry(named.to_string()).or_default() += 1;
            }
        }
        (found, namesakes)
    }
}
