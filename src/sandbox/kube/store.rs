//! The objects, and what happened to them: one counter of revisions, as etcd has it. No clock, no
//! network.

use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// Changes kept for watches; an older watch gets 410 Gone. A demo makes a few hundred.
const KEPT: usize = 1_000;

/// The identity of an object. All versions of a group share their objects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    /// Empty for the core group.
    pub group: String,
    /// `deployments`.
    pub plural: String,
    /// Empty for objects of the whole cluster.
    pub namespace: String,
    pub name: String,
}

/// One change of one object.
#[derive(Debug, Clone)]
pub(super) struct StoreChange {
    pub id: Id,
    /// The object before, unless it is new.
    pub old: Option<Arc<Value>>,
    /// The object after; for a deletion its last state, with the revision of its end.
    pub new: Arc<Value>,
    pub deleted: bool,
}

/// All objects.
#[derive(Debug, Default)]
pub(super) struct ObjectStore {
    revision: u64,
    objects: BTreeMap<Id, Arc<Value>>,
    changes: VecDeque<StoreChange>,
}

impl ObjectStore {
    /// The number of the last change.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn get(&self, id: &Id) -> Option<&Arc<Value>> {
        self.objects.get(id)
    }

    /// The objects of a kind, in all namespaces or one, by namespace and name.
    pub(super) fn list(
        &self,
        group: &str,
        plural: &str,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = &Arc<Value>> {
        let from = Id {
            group: group.to_owned(),
            plural: plural.to_owned(),
            namespace: namespace.unwrap_or_default().to_owned(),
            name: String::new(),
        };
        let (group, plural) = (from.group.clone(), from.plural.clone());
        let namespace = namespace.map(str::to_owned);
        self.objects
            .range(from..)
            .take_while(move |(id, _)| {
                id.group == group
                    && id.plural == plural
                    && namespace.as_ref().is_none_or(|one| id.namespace == *one)
            })
            .map(|(_, object)| object)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&Id, &Arc<Value>)> {
        self.objects.iter()
    }

    /// Stores an object and returns it with its revision.
    pub(super) fn put(&mut self, id: Id, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let new = Arc::new(object);
        let old = self.objects.insert(id.clone(), new.clone());
        self.record(StoreChange {
            id,
            old,
            new: new.clone(),
            deleted: false,
        });
        new
    }

    /// Removes an object and gives how it was last.
    pub(super) fn remove(&mut self, id: &Id) -> Option<Arc<Value>> {
        let old = self.objects.remove(id)?;
        self.revision += 1;
        let mut last = Value::clone(&old);
        last["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let new = Arc::new(last);
        self.record(StoreChange {
            id: id.clone(),
            old: Some(old),
            new: new.clone(),
            deleted: true,
        });
        Some(new)
    }

    /// The changes after a revision, or nothing if some of them are forgotten.
    pub(super) fn changes_after(
        &self,
        revision: u64,
    ) -> Option<impl Iterator<Item = &StoreChange>> {
        let first = self.revision + 1 - self.changes.len() as u64;
        (revision + 1 >= first).then(|| self.changes.iter().skip((revision + 1 - first) as usize))
    }

    fn record(&mut self, change: StoreChange) {
        if self.changes.len() == KEPT {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
    }
}
