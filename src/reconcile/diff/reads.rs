//! Reads that the comparisons with one cluster share: records, and lists of live objects.

use super::ForeignOwners;
use crate::{
    core::name::Name,
    io::cluster::{ApplicationRecord, ClusterClient, ClusterError, RequestIdentity, Resource},
    objects::{
        object::{CompactObject, Gvk, Object, ObjectKey},
        plan::{Inventory, OWNER_LABELS},
    },
    reconcile::RecordedApplication,
};
use futures::future::try_join_all;
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::OnceCell;

/// Records that are read one by one; more of them are read with all others.
const SINGLE_READS: usize = 8;

/// The number of objects from which on they are listed instead of read one by one.
const LISTED_FROM: usize = 4;

/// The part of a list that must be wanted: one object in so many.
const WANTED_PART: usize = 50;

/// The most bytes of listed objects that wait for the comparison of their Applications. What is
/// beyond is read one by one.
const HELD_BYTES: usize = 64 << 20;

/// The records of Applications, and what the comparisons of all of them read once.
#[derive(Default)]
pub struct ClusterReads {
    inventories: HashMap<Name, Arc<Inventory>>,
    pub(super) live: LiveObjects,
    pub(super) foreign_owners: ForeignOwners,
}

impl ClusterReads {
    /// Reads the records of Applications: those of many with as few requests as pages.
    ///
    /// # Errors
    /// If the cluster does not answer.
    pub async fn new(
        cluster: &ClusterClient,
        applications: &HashSet<Name>,
    ) -> Result<Self, ClusterError> {
        let reads_all = applications.len() > SINGLE_READS;
        let records = if reads_all {
            cluster.records().await?
        } else {
            let reads = applications.iter().map(|name| cluster.record(name));
            try_join_all(reads).await?.into_iter().flatten().collect()
        };
        let selected = applications.clone();
        // Thousands of inventories are parsed.
        Ok(crate::io::blocking(move || Self::of(&records, &selected, reads_all)).await)
    }

    fn of(records: &[ApplicationRecord], selected: &HashSet<Name>, reads_all: bool) -> Self {
        let mut reads = Self::default();
        reads.live.lists_all = reads_all;
        for record in records {
            reads.foreign_owners.learn(record);
            let inventory = RecordedApplication::from(record).inventory;
            let name = &record.application;
            let is_selected = selected.contains(name);
            reads.live.count(name, &inventory, is_selected);
            if is_selected {
                reads.inventories.insert(name.clone(), Arc::new(inventory));
            }
        }
        reads
    }

    /// Returns the inventory of an Application; an empty one if it was never applied.
    pub(super) fn inventory(&self, application: &Name) -> Arc<Inventory> {
        let recorded = self.inventories.get(application);
        recorded.map(Arc::clone).unwrap_or_default()
    }
}

/// The objects that one list request is expected to return.
#[derive(Default)]
struct ListedKind {
    /// The objects that will be compared.
    wanted: HashSet<ObjectKey>,
    /// All of them.
    total: usize,
}

/// A list: the kind, and the Application if it is of one alone.
type ListId<K> = (K, Option<Name>);

/// Listed objects by key; none if they cannot be listed.
type ListedObjects = Option<Mutex<HashMap<ObjectKey, HeldObject>>>;

/// A listed object, with its part of the bytes that are held.
struct HeldObject {
    object: CompactObject,
    _part: HeldBytes,
}

/// Bytes that count as held until this is dropped: with the object that is taken, or with a list
/// that fails, begins again or is given up.
struct HeldBytes {
    bytes: usize,
    total: Arc<AtomicUsize>,
}

impl HeldBytes {
    /// Adds bytes to those that are held; `None` if that would be too many.
    fn new(bytes: usize, total: &Arc<AtomicUsize>) -> Option<Self> {
        let held = total.fetch_add(bytes, Ordering::Relaxed);
        let part = Self {
            bytes,
            total: Arc::clone(total),
        };
        (held.saturating_add(bytes) <= HELD_BYTES).then_some(part)
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Live objects of recorded Applications, listed once a kind.
#[derive(Default)]
pub(super) struct LiveObjects {
    /// True for a list of the objects of all Applications, false for that of one.
    lists_all: bool,
    /// By group and kind.
    expected: HashMap<ListId<(String, String)>, ListedKind>,
    lists: Mutex<HashMap<ListId<Gvk>, Arc<OnceCell<ListedObjects>>>>,
    /// The bytes of all listed objects that wait for their comparison.
    held: Arc<AtomicUsize>,
}

impl LiveObjects {
    fn scope(&self, application: &Name) -> Option<Name> {
        (!self.lists_all).then(|| application.clone())
    }

    fn count(&mut self, application: &Name, inventory: &Inventory, is_selected: bool) {
        let scope = self.scope(application);
        for key in inventory.entries.keys() {
            let kind = (key.group.clone(), key.kind.clone());
            let listed = self.expected.entry((kind, scope.clone())).or_default();
            listed.total += 1;
            if is_selected {
                listed.wanted.insert(key.clone());
            }
        }
    }

    /// Takes a live object out of the list of its kind, which may be seconds old; `None` if it has
    /// to be read by itself.
    pub(super) async fn take(
        &self,
        cluster: &ClusterClient,
        application: &Name,
        resource: &Resource,
        key: &ObjectKey,
    ) -> Option<CompactObject> {
        let scope = self.scope(application);
        let kind = (key.group.clone(), key.kind.clone());
        let expected = self.expected.get(&(kind, scope.clone()))?;
        let count = expected.wanted.len();
        let is_worth_it = count >= LISTED_FROM && count * WANTED_PART >= expected.total;
        if !is_worth_it || !resource.can("list") || !expected.wanted.contains(key) {
            return None;
        }
        let cell = {
            let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
            let id = (resource.gvk.clone(), scope.clone());
            Arc::clone(lists.entry(id).or_default())
        };
        let list = || self.list(cluster, resource, scope.as_ref(), &expected.wanted);
        let listed = cell.get_or_init(list).await.as_ref()?;
        let mut listed = listed.lock().unwrap_or_else(PoisonError::into_inner);
        Some(listed.remove(key)?.object)
    }

    /// Lists a kind by the labels of its owners, as the watches do. An account that may not list
    /// reads one by one.
    async fn list(
        &self,
        cluster: &ClusterClient,
        resource: &Resource,
        application: Option<&Name>,
        wanted: &HashSet<ObjectKey>,
    ) -> ListedObjects {
        let [namespace, name] = OWNER_LABELS;
        let labels = match application {
            None => name.to_owned(),
            Some(of) => format!("{namespace}={},{name}={}", of.namespace(), of.name()),
        };
        let hold = |object: Object| {
            let key = object.key();
            if !wanted.contains(&key) {
                return None;
            }
            let object = CompactObject::new(object);
            let part = HeldBytes::new(object.bytes(), &self.held)?;
            let held = HeldObject {
                object,
                _part: part,
            };
            Some((key, held))
        };
        let own = RequestIdentity::Own;
        let listed = cluster.list_as(&own, resource, None, Some(&labels), hold);
        let listed = listed.await.ok()?;
        Some(Mutex::new(listed.into_iter().flatten().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::plan::InventoryEntry;

    fn inventory(maps: usize) -> Inventory {
        let entry = InventoryEntry {
            version: "v1".to_owned(),
            applied: None,
        };
        let key =
            |number| ObjectKey::new("", "ConfigMap", Some("a".to_owned()), format!("m{number}"));
        Inventory {
            entries: (0..maps)
                .map(|number| (key(number), entry.clone()))
                .collect(),
            ..Inventory::default()
        }
    }

    #[test]
    fn inventory_is_counted_by_kind_and_list() {
        let (one, other): (Name, Name) = ("a/one".parse().unwrap(), "a/other".parse().unwrap());
        let counts = |lists_all: bool| {
            let mut live = LiveObjects {
                lists_all,
                ..LiveObjects::default()
            };
            live.count(&one, &inventory(3), true);
            live.count(&other, &inventory(5), false);
            let mut counts: Vec<_> = live.expected.into_values().collect();
            counts.sort_by_key(|listed| listed.total);
            let counts = counts.into_iter();
            counts
                .map(|listed| (listed.wanted.len(), listed.total))
                .collect::<Vec<_>>()
        };
        assert_eq!(counts(true), [(3, 8)]);
        assert_eq!(counts(false), [(3, 3), (0, 5)]);
    }

    #[test]
    fn dropped_bytes_are_held_no_more() {
        let total = Arc::new(AtomicUsize::new(0));
        let most = HeldBytes::new(HELD_BYTES - 1, &total);
        assert!(most.is_some());
        assert!(HeldBytes::new(2, &total).is_none());
        assert_eq!(total.load(Ordering::Relaxed), HELD_BYTES - 1);
        drop(most);
        assert_eq!(total.load(Ordering::Relaxed), 0);
        assert!(HeldBytes::new(2, &total).is_some());
    }
}
