//! The records of clusters, read at most once a round.

use super::{RolloutSource, RolloutTarget};
use crate::{
    core::name::Name, io::cluster::ClusterError, objects::plan::Rollout,
    reconcile::ApplicationStatus,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// The records of clusters, as far as read.
#[derive(Debug, Clone, Default)]
pub(super) struct ClusterRecords {
    pub clusters: BTreeMap<String, Arc<HashMap<Name, Vec<Rollout>>>>,
}

impl ClusterRecords {
    pub(super) fn has(&self, cluster: &str) -> bool {
        self.clusters.contains_key(cluster)
    }

    /// Returns the records of a cluster; reads them once.
    pub(super) async fn read(
        &mut self,
        source: &dyn RolloutSource,
        cluster: &str,
    ) -> Result<Arc<HashMap<Name, Vec<Rollout>>>, ClusterError> {
        if let Some(known) = self.clusters.get(cluster) {
            return Ok(Arc::clone(known));
        }
        let rollouts = Arc::new(source.rollouts(cluster).await?);
        self.clusters
            .insert(cluster.to_owned(), Arc::clone(&rollouts));
        Ok(rollouts)
    }

    /// Returns the rollouts of an Application, newest first. The status knows the newest before it
    /// is recorded.
    pub(super) fn rollouts(
        &self,
        target: &RolloutTarget,
        status: Option<&ApplicationStatus>,
    ) -> Vec<Rollout> {
        let recorded = self
            .clusters
            .get(&target.cluster)
            .and_then(|rollouts| rollouts.get(&target.application));
        let mut all = recorded.cloned().unwrap_or_default();
        if let Some(newest) = status.and_then(|status| status.rollout.as_ref()) {
            match all
                .iter_mut()
                .find(|rollout| rollout.revision == newest.revision)
            {
                Some(known) => known.clone_from(newest),
                None => all.insert(0, newest.clone()),
            }
        }
        all
    }
}
