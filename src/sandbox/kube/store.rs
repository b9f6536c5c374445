//! The objects, and what happened to them: one counter of revisions, as etcd has it. No clock, no
//! network.

use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// Changes that are kept for watches; a watch from before them is told that it is too old. A demo
/// makes a few hundred.
const KEPT: usize = 1_000;

/// Where an object lies. Versions of a group share their objects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// Empty for the core group.
    pub group: String,
    /// `deployments`.
    pub plural: String,
    /// Empty for objects of the whole cluster.
    pub namespace: String,
    pub name: String,
}

/// What happened to one object.
#[derive(Debug, Clone)]
pub struct StoreChange {
    pub id: Id,
    /// How it was, unless it is new.
    pub old: Option<Arc<Value>>,
    /// How it is; for a deletion, how it was last, with the revision of its end.
    pub new: Arc<Value>,
    /// Whether it is gone.
    pub deleted: bool,
}

/// All objects.
#[derive(Debug, Default)]
pub struct ObjectStore {
    revision: u64,
    objects: BTreeMap<Id, Arc<Value>>,
    changes: VecDeque<StoreChange>,
}

impl ObjectStore {
    /// The number of the last change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// One object.
    pub fn get(&self, id: &Id) -> Option<&Arc<Value>> {
        self.objects.get(id)
    }

    /// The objects of a kind, in all namespaces or one, by namespace and name.
    pub fn list(
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

    pub fn all(&self) -> impl Iterator<Item = (&Id, &Arc<Value>)> {
        self.objects.iter()
    }

    /// Puts an object and gives it as it is stored: with its revision.
    pub fn put(&mut self, id: Id, mut object: Value) -> Arc<Value> {
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
    pub fn remove(&mut self, id: &Id) -> Option<Arc<Value>> {
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
    pub fn changes_after(&self, revision: u64) -> Option<impl Iterator<Item = &StoreChange>> {
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
