//! Applications at rest: what happens to others does not wake their tasks.

use super::AppReconciler;
use crate::{
    objects::object::ObjectKey,
    reconcile::{status::ApplicationState, work::Target},
};
use std::collections::HashSet;

impl AppReconciler {
    /// Records that this Application rests, if it does.
    pub(super) fn rest(&self) {
        if self.owns_name && self.is_settled() {
            self.cluster.state().set_rest(&self.name, true);
        }
    }

    /// Records that this Application is at work.
    pub(super) fn wake(&self) {
        if self.owns_name {
            self.cluster.state().set_rest(&self.name, false);
        }
    }

    /// Returns whether nothing that others declare or apply makes a difference to this Application,
    /// and no work waits.
    fn is_settled(&self) -> bool {
        let status = &self.status;
        let is_synced = status.state == ApplicationState::Synced && status.observed;
        let target = self.target.as_ref().filter(|target| {
            !target.deleting && target.dependencies_met && !target.has_unserved_kinds()
        });
        let is_kept_back = |target: &Target| {
            let desired: HashSet<&ObjectKey> = target.desired.iter().map(|one| &one.key).collect();
            let mut owned = self.inventory.entries.keys();
            owned.any(|key| !desired.contains(key))
        };
        is_synced
            && target.is_some_and(|target| !is_kept_back(target))
            && status.problems.is_empty()
            && self.work.is_none()
            && self.unreadable.is_none()
            && self.over_limit.is_none()
            && self.failures.is_empty()
            && self.namespace_check.is_none()
    }
}
