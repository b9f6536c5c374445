//! What a cluster serves, as the plan asks for it.

use crate::{cluster::Resources, object::Gvk, plan::Kinds};
use std::sync::Arc;

/// What a cluster serves, for the plan.
pub struct Served(pub Arc<Resources>);

impl Kinds for Served {
    fn namespaced(&self, gvk: &Gvk) -> Option<bool> {
        self.0.find(gvk).map(|resource| resource.namespaced)
    }
}
