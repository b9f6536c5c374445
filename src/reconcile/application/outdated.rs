//! Objects that were judged by a health rule that no longer counts.

use super::AppReconciler;
use crate::io::cluster::{ClusterError, RequestIdentity};

impl AppReconciler {
    /// Reads the live objects again whose health rule has changed: the state keeps verdicts, not
    /// objects. One request an object, when the declaration changes, and none at rest.
    pub(super) async fn judge_outdated(&mut self) -> Result<(), ClusterError> {
        loop {
            // The guard of the lock must end with the statement.
            let outdated = self.cluster.state().outdated(&self.name);
            let Some(key) = outdated else {
                return Ok(());
            };
            let mut desired = self.target.iter().flat_map(|target| &target.desired);
            if let Some(one) = desired.find(|one| one.key == key) {
                let client = &self.cluster.client;
                let resource = client.resource(&one.gvk()).await?;
                let live = client.get(&RequestIdentity::Own, &resource, &key).await?;
                if let Some(live) = live {
                    self.cluster.observe(&live);
                }
            }
            self.cluster.state().mark_judged(&self.name, &key);
        }
    }
}
