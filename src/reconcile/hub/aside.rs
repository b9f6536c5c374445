//! Applications that have no task here, because a command has not named them.

use super::{Hub, State};
use crate::{
    cluster::ClusterError,
    name::Name,
    object::Key,
    reconcile::{Recorded, claimants::Claimants},
};

impl Hub {
    /// What lies in the cluster of an Application that has no task.
    pub async fn recorded_of(&self, name: &Name) -> Result<Option<Recorded>, ClusterError> {
        self.records(|records| records.waiting.get(name).map(Recorded::from))
            .await
    }
}

impl State {
    /// Notes what an Application wants that has no task here.
    pub fn note(&mut self, name: &Name, revision: &str, keys: impl IntoIterator<Item = Key>) {
        self.unclaim(name);
        let keys: Vec<Key> = keys
            .into_iter()
            .map(|key| self.same_of(name, key))
            .collect();
        for key in &keys {
            self.claims
                .entry(key.clone())
                .or_insert_with(|| Claimants::new(name))
                .add(name);
        }
        self.claimed.insert(name.clone(), keys);
        self.mark_read(name, revision);
    }

    /// Whether an Application has a task here.
    pub fn is_here(&self, name: &Name) -> bool {
        self.inboxes.contains_key(name)
    }
}
