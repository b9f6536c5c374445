//! Who may have what: which repository a name belongs to, what others own that nobody here looks
//! after, and what is still to be read before anything is deleted.

use super::{ClusterHandle, ClusterState, DeclaredRevision};
use crate::{
    core::name::Name,
    io::cluster::{ApplicationRecord, ClusterError, is_record},
    objects::{
        object::ObjectKey,
        plan::{Inventory, ObjectClaims, text},
    },
    reconcile::{RepositoryId, cluster_state::claims::ClaimQueue},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Whose a name on a cluster is.
pub(crate) enum Taken {
    /// Another repository's that is followed here.
    Here(Arc<RepositoryId>),
    /// Another one's, by the record.
    Recorded(RepositoryId),
}

/// How often the record of an Application is read that another process looks after and that has
/// what somebody wants.
pub(crate) const CONSULT: Duration = Duration::from_secs(60);

/// What a record says is owned; nothing if it is damaged.
pub(crate) fn inventory(record: &ApplicationRecord) -> Option<Inventory> {
    record
        .damaged
        .is_none()
        .then(|| Inventory::parse(record.data.get(text::INVENTORY)?).ok())
        .flatten()
}

impl ClusterHandle {
    /// Gives a name on this cluster to an Application of a repository; or says whose it is.
    pub async fn sit(
        &self,
        name: &Name,
        repository: &Arc<RepositoryId>,
    ) -> Result<Option<Taken>, ClusterError> {
        let recorded = self
            .records(|records| records.repositories.get(name).cloned())
            .await?;
        if let Some(holder) = self.state().seats.get(name) {
            return Ok((holder != repository).then(|| Taken::Here(Arc::clone(holder))));
        }
        if recorded.is_some_and(|recorded| !repository.may_take_over(&recorded)) {
            // It may have been deleted since, to hand the objects over.
            let record = self.reread(name).await?;
            let now = record
                .as_ref()
                .map(|record| RepositoryId::from(&inventory(record).unwrap_or_default()));
            let mut records = self.records.lock().await;
            if let Some(records) = records.as_mut() {
                match (&now, record) {
                    (Some(now), Some(record)) => {
                        records.repositories.insert(name.clone(), now.clone());
                        records.waiting.insert(name.clone(), record);
                    }
                    _ => {
                        records.repositories.remove(name);
                        records.waiting.remove(name);
                    }
                }
            }
            if let Some(now) = now.filter(|now| !repository.may_take_over(now)) {
                return Ok(Some(Taken::Recorded(now)));
            }
        }
        let mut state = self.state();
        if let Some(holder) = state.seats.get(name).filter(|holder| *holder != repository) {
            return Ok(Some(Taken::Here(Arc::clone(holder))));
        }
        state.seats.insert(name.clone(), Arc::clone(repository));
        Ok(None)
    }

    /// Forgets the record of an Application that is no more.
    pub async fn forget(&self, name: &Name) {
        if let Some(records) = self.records.lock().await.as_mut() {
            records.repositories.remove(name);
            records.waiting.remove(name);
        }
    }

    /// Reads the records of Applications that nobody here looks after: whatever has been written
    /// since the first look counts. `now` are those of which that is to be known this moment; the
    /// others are asked every now and then. Whether anything was read.
    pub async fn consult(&self, strangers: &BTreeMap<Name, bool>) -> Result<bool, ClusterError> {
        let due: Vec<&Name> = {
            let state = self.state();
            let old = |name: &Name| {
                state
                    .consulted
                    .get(name)
                    .is_none_or(|at| at.elapsed() >= CONSULT)
            };
            strangers
                .iter()
                .filter(|(name, now)| **now || old(name))
                .map(|(name, _)| name)
                .collect()
        };
        if due.is_empty() {
            return Ok(false);
        }
        let records = self.cluster.records().await?;
        let mut state = self.state();
        for name in due {
            state.recorded(
                name,
                records.iter().find(|record| record.application == *name),
            );
            state.consulted.insert(name.clone(), Instant::now());
        }
        Ok(true)
    }
}

impl ClusterState {
    /// The key as it is kept already, where it is: each that is read anew has words of its own.
    pub fn same(&self, key: ObjectKey) -> ObjectKey {
        let known = self.claims.get_key_value(&key).map(|(known, _)| known);
        known
            .or_else(|| self.seen.get_key_value(&key).map(|(known, _)| known))
            .cloned()
            .unwrap_or(key)
    }

    /// The same for an object of an Application, which its record may name.
    pub fn same_of(&self, name: &Name, key: ObjectKey) -> ObjectKey {
        let owned = self
            .owned
            .get(name)
            .and_then(|keys| Some(keys[keys.binary_search(&key).ok()?].clone()));
        owned.unwrap_or_else(|| self.same(key))
    }

    /// Notes what the record of an Application says.
    pub(crate) fn recorded(&mut self, name: &Name, record: Option<&ApplicationRecord>) {
        let inventory = record.map(inventory);
        match inventory {
            Some(None) => self.unsure.insert(name.clone()),
            _ => self.unsure.remove(name),
        };
        self.owned.insert(
            name.clone(),
            inventory
                .flatten()
                .unwrap_or_default()
                .entries
                .into_keys()
                .collect(),
        );
    }

    /// Whether nobody here looks after an Application.
    pub fn is_stranger(&self, name: &Name) -> bool {
        !self.inboxes.contains_key(name)
            && !self.retired.contains(name)
            && !self
                .declared
                .values()
                .any(|declared| declared.names.contains(name))
    }

    /// A repository will be followed.
    pub fn expect(&mut self, repository: &str) {
        self.expected.insert(repository.to_owned());
    }

    /// A repository does not have an Application here that it declares: another one has it.
    pub fn renounce(&mut self, repository: &str, name: &Name) {
        let Some(declared) = self.declared.get_mut(repository) else {
            return;
        };
        if declared.names.remove(name) && declared.unread.remove(name) && declared.unread.is_empty()
        {
            self.wake_all();
        }
    }

    /// An Application could not be read at a revision: it is not known what it wants, and will not
    /// be before another one.
    pub fn mark_broken(&mut self, name: &Name, revision: &str) {
        if self
            .broken
            .insert(name.clone(), revision.to_owned())
            .as_deref()
            != Some(revision)
        {
            self.wake_all();
        }
    }

    /// What is still to be read of the other repositories that may deploy here: what they want may
    /// be anybody's.
    pub fn unread_elsewhere(&self, repository: &str) -> Option<String> {
        let others = || {
            self.expected
                .iter()
                .chain(self.declared.keys())
                .filter(|other| *other != repository)
        };
        if let Some(other) = others().find(|other| !self.declared.contains_key(*other)) {
            return Some(format!("repository {other}"));
        }
        let open = |declared: &DeclaredRevision| {
            let unread = declared.unread.iter().find(|name| {
                self.broken
                    .get(*name)
                    .is_none_or(|at| *at != declared.revision)
            });
            unread.map(ToString::to_string)
        };
        others().find_map(|other| {
            Some(format!(
                "{} of repository {other}",
                open(self.declared.get(other)?)?
            ))
        })
    }

    /// An Application rests: what its record says it has stays its own.
    pub fn hold(&mut self, name: &Name, revision: &str, keys: impl Iterator<Item = ObjectKey>) {
        self.unclaim(name);
        let keys: Vec<ObjectKey> = keys.collect();
        for key in &keys {
            self.claims
                .entry(key.clone())
                .or_insert_with(|| ClaimQueue::new(name))
                .add(name);
        }
        self.claimed.insert(name.clone(), keys);
        self.mark_read(name, revision);
    }
}

impl ObjectClaims for ClusterState {
    fn wants(&self, application: &Name, key: &ObjectKey) -> Option<bool> {
        let claimed = || {
            self.claims
                .get(key)
                .is_some_and(|names| names.iter().any(|name| name == application))
        };
        let seat = self
            .seats
            .get(application)
            .and_then(|repository| self.declared.get(&repository.name));
        let declared = seat
            .into_iter()
            .chain(self.declared.values())
            .find(|declared| declared.names.contains(application));
        if let Some(declared) = declared {
            return (!declared.unread.contains(application))
                .then(|| claimed() || self.unsure.contains(application));
        }
        if self.retired.contains(application) {
            return Some(false);
        }
        // Not of this process, or not to be read: what its record says counts.
        let owned = self
            .owned
            .get(application)
            .is_some_and(|keys| keys.binary_search(key).is_ok());
        Some(claimed() || owned || self.unsure.contains(application))
    }

    fn record_of(&self, key: &ObjectKey) -> Option<Name> {
        if key.kind != "ConfigMap" || !key.name.starts_with("tagboat-") {
            return None;
        }
        let names = self
            .owned
            .keys()
            .chain(self.inboxes.keys())
            .chain(self.declared.values().flat_map(|declared| &declared.names));
        names.into_iter().find(|name| is_record(key, name)).cloned()
    }

    fn wanted_by(&self, key: &ObjectKey) -> Vec<Name> {
        self.claims
            .get(key)
            .into_iter()
            .flat_map(ClaimQueue::iter)
            .cloned()
            .collect()
    }
}
