//! Discovery data as the plan asks for it.

use crate::{
    io::cluster::Resources,
    objects::{object::Gvk, plan::KindScopes},
};
use std::sync::Arc;

/// The kinds that a cluster serves.
pub struct ClusterKinds(pub Arc<Resources>);

impl KindScopes for ClusterKinds {
    fn namespaced(&self, gvk: &Gvk) -> Option<bool> {
        self.0.find(gvk).map(|resource| resource.namespaced)
    }
}
