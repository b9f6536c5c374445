//! Discovery data as the plan asks for it.

use crate::{
    io::cluster::{ClusterClient, Resources},
    objects::{object::Gvk, plan::KindScopes},
};
use std::sync::Arc;

/// The kinds that a cluster serves.
pub struct ClusterKinds {
    served: Arc<Resources>,
    own_namespace: String,
}

impl ClusterKinds {
    pub fn new(cluster: &ClusterClient, served: Arc<Resources>) -> Self {
        Self {
            served,
            own_namespace: cluster.own_namespace().to_owned(),
        }
    }
}

impl KindScopes for ClusterKinds {
    fn namespaced(&self, gvk: &Gvk) -> Option<bool> {
        self.served.find(gvk).map(|resource| resource.namespaced)
    }

    fn own_namespace(&self) -> Option<&str> {
        Some(&self.own_namespace)
    }
}
