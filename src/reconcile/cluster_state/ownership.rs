//! Ownership of names and objects, between repositories and between processes.

use super::{AppEntry, ClusterHandle, ClusterState, DeclaredRevision, claims::Claimants};
use crate::{
    core::name::Name,
    io::cluster::{ApplicationRecord, ClusterError},
    objects::{
        object::ObjectKey,
        plan::{self, Inventory, ObjectClaims, text},
    },
    reconcile::RepositoryId,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// The holder of an Application's name on a cluster.
pub(crate) enum NameHolder {
    /// A repository that this process follows.
    Followed(Arc<RepositoryId>),
    /// A repository that only a record names.
    Recorded(RepositoryId),
}

/// How long the record of an Application of another process is trusted while an object of it is
/// desired here.
pub(crate) const RECORD_TTL: Duration = Duration::from_secs(60);

/// Records that are read one by one; more of them are read with all others.
const SINGLE_READS: usize = 8;

/// Parses the inventory of a record; `None` if it is damaged or was not read.
pub(crate) fn inventory(record: &ApplicationRecord) -> Option<Inventory> {
    (record.damaged.is_none() && record.unread.is_none())
        .then(|| Inventory::parse(record.data.get(text::INVENTORY)?).ok())
        .flatten()
}

impl ClusterHandle {
    /// Reserves the name of an Application for a repository; returns the holder if it is taken.
    pub(crate) async fn reserve_name(
        &self,
        name: &Name,
        repository: &Arc<RepositoryId>,
    ) -> Result<Option<NameHolder>, ClusterError> {
        let recorded = self
            .with_records(|records| records.repositories.get(name).cloned())
            .await?;
        if let Some(owner) = self.state().name_owner(name) {
            return Ok((owner != repository).then(|| NameHolder::Followed(Arc::clone(owner))));
        }
        if let Some(recorded) = recorded.filter(|recorded| !repository.may_take_over(recorded)) {
            // The record may have been deleted since, to hand the objects over. One that cannot be
            // read, which its holder may be writing, still has the same holder.
            let record = self.reread(name).await?;
            let holder = record.as_ref().map(|record| {
                let inventory = inventory(record);
                inventory.map_or(recorded, |inventory| RepositoryId::from(&inventory))
            });
            self.replace_record(name, record, holder.as_ref()).await;
            if let Some(holder) = holder.filter(|holder| !repository.may_take_over(holder)) {
                return Ok(Some(NameHolder::Recorded(holder)));
            }
        }
        let mut state = self.state();
        if let Some(owner) = state.name_owner(name).filter(|owner| *owner != repository) {
            return Ok(Some(NameHolder::Followed(Arc::clone(owner))));
        }
        state.application(name).owner = Some(Arc::clone(repository));
        Ok(None)
    }

    async fn replace_record(
        &self,
        name: &Name,
        record: Option<ApplicationRecord>,
        holder: Option<&RepositoryId>,
    ) {
        let mut records = self.records.lock().await;
        let Some(records) = records.as_mut() else {
            return;
        };
        match (holder, record) {
            (Some(holder), Some(record)) => {
                records.repositories.insert(name.clone(), holder.clone());
                records.waiting.insert(name.clone(), record);
            }
            _ => {
                records.repositories.remove(name);
                records.waiting.remove(name);
            }
        }
    }

    /// Reads the records of Applications that other processes reconcile; returns whether any was
    /// read.
    ///
    /// The flag of each owner says that its record must be fresh; otherwise [`RECORD_TTL`] counts.
    pub(crate) async fn consult_records(
        &self,
        foreign_owners: &BTreeMap<Name, bool>,
    ) -> Result<bool, ClusterError> {
        let due: Vec<&Name> = {
            let state = self.state();
            let is_stale = |name: &Name| {
                let entry = state.applications.get(name);
                entry
                    .and_then(|entry| entry.consulted)
                    .is_none_or(|at| at.elapsed() >= RECORD_TTL)
            };
            foreign_owners
                .iter()
                .filter(|(name, fresh)| **fresh || is_stale(name))
                .map(|(name, _)| name)
                .collect()
        };
        if due.is_empty() {
            return Ok(false);
        }
        let mut records = Vec::new();
        if due.len() > SINGLE_READS {
            records = self.client.records().await?;
        } else {
            for name in &due {
                records.extend(self.client.record(name).await?);
            }
        }
        let mut state = self.state();
        for name in due {
            let record = records.iter().find(|record| record.application == *name);
            state.set_recorded(name, record.map(inventory));
            state.application(name).consulted = Some(Instant::now());
        }
        Ok(true)
    }
}

impl ClusterState {
    /// Returns the newest revision of a repository.
    pub(crate) fn revision_of(&self, repository: &str) -> Option<String> {
        let declared = self.declared.get(repository)?;
        Some(declared.revision.clone())
    }

    /// Returns whether an Application declares a Namespace.
    pub(crate) fn is_namespace_claimed(&self, name: &str) -> bool {
        let key = ObjectKey::new("", "Namespace", None, name);
        self.claims.contains_key(&key)
    }

    /// Returns another Application that declares objects in a namespace.
    pub(crate) fn user_of_namespace(&self, namespace: &str, except: &Name) -> Option<Name> {
        let claims = self.claims.iter();
        claims
            .filter(|(key, _)| key.namespace.as_deref() == Some(namespace))
            .flat_map(|(_, claimants)| claimants.iter())
            .find(|name| *name != except)
            .cloned()
    }

    fn name_owner(&self, name: &Name) -> Option<&Arc<RepositoryId>> {
        self.applications.get(name)?.owner.as_ref()
    }

    /// Returns the stored copy of a key, so that equal keys share memory.
    pub(crate) fn intern(&self, key: ObjectKey) -> ObjectKey {
        let known = self.claims.get_key_value(&key).map(|(known, _)| known);
        known
            .or_else(|| self.objects.get_key_value(&key).map(|(known, _)| known))
            .cloned()
            .unwrap_or(key)
    }

    /// Returns the stored copy of a key that the record of an Application may name.
    pub(crate) fn intern_recorded(&self, name: &Name, key: ObjectKey) -> ObjectKey {
        let entry = self.applications.get(name);
        let recorded = entry
            .and_then(|entry| entry.recorded.as_ref())
            .and_then(|keys| Some(keys[keys.binary_search(&key).ok()?].clone()));
        recorded.unwrap_or_else(|| self.intern(key))
    }

    /// Stores what the record of an Application says: `None` for no record, `Some(None)` for a
    /// damaged one.
    pub(super) fn set_recorded(&mut self, name: &Name, record: Option<Option<Inventory>>) {
        let entry = self.application(name);
        entry.record_damaged = matches!(record, Some(None));
        let inventory = record.flatten().unwrap_or_default();
        let repository = Some(inventory.repository).filter(|name| !name.is_empty());
        entry.recorded_in = repository.map(String::into_boxed_str);
        entry.recorded = Some(inventory.entries.into_keys().collect());
    }

    /// Returns whether no repository of this process has anything to do with an Application.
    pub(crate) fn is_foreign(&self, name: &Name) -> bool {
        let is_known = self
            .applications
            .get(name)
            .is_some_and(|entry| entry.wake.is_some() || entry.retired);
        !is_known
            && !self
                .declared
                .values()
                .any(|declared| declared.names.contains(name))
    }

    /// Records whether a repository is a tenant.
    pub(crate) fn set_tenant(&mut self, repository: &str, is_tenant: bool) {
        if is_tenant {
            self.tenants.insert(repository.to_owned());
        } else {
            self.tenants.remove(repository);
        }
    }

    /// Returns the repository of an Application, as far as it is known.
    fn repository_of(&self, application: &Name) -> Option<&str> {
        let entry = self.applications.get(application);
        let owner = entry.and_then(|entry| entry.owner.as_ref());
        let declared = || {
            let mut declared = self.declared.iter();
            declared.find(|(_, declared)| declared.names.contains(application))
        };
        owner
            .map(|owner| owner.name.as_str())
            .or_else(|| Some(declared()?.0.as_str()))
            .or_else(|| entry?.recorded_in.as_deref())
    }

    /// Records how many objects an Application declares, before they are claimed; wakes those that
    /// wait for room if there may be more.
    pub(crate) fn reserve_objects(&mut self, name: &Name, objects: usize) {
        let entry = self.application(name);
        entry.waits_for_room = false;
        let before = entry.objects();
        entry.reserved = Some(objects);
        if objects < before {
            let waiting = self.applications.values();
            waiting
                .filter(|entry| entry.waits_for_room)
                .filter_map(|entry| entry.wake.as_ref())
                .for_each(|wake| wake.notify_one());
        }
    }

    /// Has an Application woken when others of its repository may need less room.
    pub(crate) fn wait_for_room(&mut self, name: &Name) {
        self.application(name).waits_for_room = true;
    }

    /// Counts the objects of a repository's other Applications: those that are reserved, or else
    /// those that their records name.
    ///
    /// Undeclared Applications count, too, without those of `keys`, which are taken over; but not
    /// those being removed: their prune waits until all others are read, and would wait for ever.
    pub(crate) fn objects_of_others<'k>(
        &self,
        repository: &str,
        except: &Name,
        keys: &(impl Iterator<Item = &'k ObjectKey> + Clone),
    ) -> usize {
        let declared = self.declared.get(repository);
        let is_declared =
            |name: &Name| declared.is_some_and(|declared| declared.names.contains(name));
        let is_theirs = |entry: &AppEntry| match &entry.owner {
            Some(owner) => owner.name == repository,
            None => entry.recorded_in.as_deref() == Some(repository),
        };
        let mut count = 0;
        for (name, entry) in self.applications.iter().filter(|(name, _)| *name != except) {
            if is_declared(name) {
                count += entry.objects();
            } else if is_theirs(entry) && !entry.retired {
                let is_recorded = |key: &ObjectKey| {
                    let recorded = entry.recorded.as_ref();
                    recorded.is_some_and(|keys| keys.binary_search(key).is_ok())
                };
                let is_owned = |key: &ObjectKey| {
                    let live = self.live(key);
                    live.is_some_and(|live| live.owner.as_ref() == Some(name))
                };
                let moved = keys
                    .clone()
                    .filter(|key| is_recorded(key) || is_owned(key))
                    .count();
                count += entry.objects().saturating_sub(moved);
            }
        }
        count
    }

    /// Returns another Application that may take an object over.
    pub(crate) fn heir(&self, application: &Name, key: &ObjectKey) -> Option<Name> {
        let claimants = self.claims.get(key).into_iter().flat_map(Claimants::iter);
        let mut heirs = claimants
            .filter(|other| *other != application && plan::may_take_over(self, other, application));
        heirs.next().cloned()
    }

    pub(crate) fn expect_repository(&mut self, repository: &str) {
        self.expected_repositories.insert(repository.to_owned());
    }

    /// Drops the claim of a repository to a name that another repository holds.
    pub(crate) fn drop_claim(&mut self, repository: &str, name: &Name) {
        let Some(declared) = self.declared.get_mut(repository) else {
            return;
        };
        if declared.names.remove(name) && declared.unread.remove(name) && declared.unread.is_empty()
        {
            self.wake_restless();
        }
    }

    /// Records that an Application cannot be read at a revision, so that only a new revision can
    /// tell what it declares.
    pub(crate) fn mark_unreadable(&mut self, name: &Name, revision: &str) {
        let entry = self.application(name);
        let before = entry.unreadable_at.replace(revision.to_owned());
        if before.as_deref() != Some(revision) {
            self.wake_restless();
        }
    }

    /// Returns what is still unread of the other repositories that may deploy here, and that may
    /// therefore declare any object. Tenants may not: they take nothing over.
    pub(crate) fn unread_elsewhere(&self, repository: &str) -> Option<String> {
        let others = || {
            let all = self.expected_repositories.iter();
            all.chain(self.declared.keys())
                .filter(|other| *other != repository && !self.tenants.contains(*other))
        };
        if let Some(other) = others().find(|other| !self.declared.contains_key(*other)) {
            return Some(format!("repository {other}"));
        }
        let first_unread = |declared: &DeclaredRevision| {
            let is_unreadable = |name: &&Name| {
                let entry = self.applications.get(*name);
                entry.is_some_and(|entry| {
                    entry.unreadable_at.as_deref() == Some(&*declared.revision)
                })
            };
            let mut unread = declared.unread.iter().filter(|name| !is_unreadable(name));
            unread.next().map(ToString::to_string)
        };
        others().find_map(|other| {
            let name = first_unread(self.declared.get(other)?)?;
            Some(format!("{name} of repository {other}"))
        })
    }
}

impl ObjectClaims for ClusterState {
    fn claims(&self, application: &Name, key: &ObjectKey) -> Option<bool> {
        let entry = self.applications.get(application);
        let is_claimed = || {
            self.claims
                .get(key)
                .is_some_and(|names| names.iter().any(|name| name == application))
        };
        let is_damaged = entry.is_some_and(|entry| entry.record_damaged);
        let owner = entry.and_then(|entry| entry.owner.as_ref());
        let declared = owner
            .and_then(|repository| self.declared.get(&repository.name))
            .into_iter()
            .chain(self.declared.values())
            .find(|declared| declared.names.contains(application));
        if let Some(declared) = declared {
            return (!declared.unread.contains(application)).then(|| is_claimed() || is_damaged);
        }
        if entry.is_some_and(|entry| entry.retired) {
            return Some(false);
        }
        // Another process reconciles it, or its declaration is unreadable: its record counts.
        let is_recorded = entry
            .and_then(|entry| entry.recorded.as_ref())
            .is_some_and(|keys| keys.binary_search(key).is_ok());
        Some(is_claimed() || is_recorded || is_damaged)
    }

    fn claimants(&self, key: &ObjectKey) -> Vec<Name> {
        self.claims
            .get(key)
            .into_iter()
            .flat_map(Claimants::iter)
            .cloned()
            .collect()
    }

    fn is_tenant(&self, application: &Name) -> bool {
        self.repository_of(application)
            .is_some_and(|repository| self.tenants.contains(repository))
    }

    fn are_foreign(&self, one: &Name, other: &Name) -> bool {
        let repositories = self.repository_of(one).zip(self.repository_of(other));
        repositories.is_some_and(|(one, other)| one != other)
    }
}
