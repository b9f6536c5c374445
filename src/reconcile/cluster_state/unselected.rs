//! Applications that have no task here, because a command has not named them.

use super::{ClusterHandle, ClusterState};
use crate::{
    core::name::Name,
    io::cluster::ClusterError,
    objects::object::ObjectKey,
    reconcile::{RecordedApplication, cluster_state::claims::ClaimQueue},
};

impl ClusterHandle {
    /// What lies in the cluster of an Application that has no task.
    pub async fn recorded_of(
        &self,
        name: &Name,
    ) -> Result<Option<RecordedApplication>, ClusterError> {
        self.records(|records| records.waiting.get(name).map(RecordedApplication::from))
            .await
    }
}

impl ClusterState {
    /// Notes what an Application wants that has no task here.
    pub fn note(&mut self, name: &Name, revision: &str, keys: impl IntoIterator<Item = ObjectKey>) {
        self.unclaim(name);
        let keys: Vec<ObjectKey> = keys
            .into_iter()
            .map(|key| self.same_of(name, key))
            .collect();
        for key in &keys {
            self.claims
                .entry(key.clone())
                .or_insert_with(|| ClaimQueue::new(name))
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
