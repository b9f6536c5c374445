//! What a cluster serves, as the plan asks for it.

use crate::{
    io::cluster::Resources,
    objects::{object::Gvk, plan::KindScopes},
};
use std::sync::Arc;

/// What a cluster serves, for the plan.
pub struct ClusterKinds(pub Arc<Resources>);

impl KindScopes for ClusterKinds {
    fn namespaced(&self, gvk: &Gvk) -> Option<bool> {
        self.0.find(gvk).map(|resource| resource.namespaced)
    }
}
