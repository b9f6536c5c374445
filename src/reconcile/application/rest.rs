//! Applications at rest: what happens to others does not wake their tasks.

use super::AppReconciler;
use crate::reconcile::status::ApplicationState;

impl AppReconciler {
    /// Records that this Application rests, if it does.
    pub(super) fn rest(&self) {
        if self.is_settled() {
            self.cluster.state().set_rest(&self.name, true);
        }
    }

    /// Returns whether nothing that others declare or apply makes a difference to this Application,
    /// and no work waits.
    fn is_settled(&self) -> bool {
        let status = &self.status;
        let is_synced = status.state == ApplicationState::Synced && status.observed;
        let target = self.target.as_ref().filter(|target| {
            !target.deleting
                && target.dependencies_met
                && !target.has_unserved_kinds()
                // Nothing is kept back from being deleted.
                && target.desired.len() == self.inventory.entries.len()
        });
        is_synced
            && target.is_some()
            && status.problems.is_empty()
            && self.work.is_none()
            && self.unreadable.is_none()
            && self.over_limit.is_none()
            && self.failures.is_empty()
            && self.namespace_check.is_none()
    }
}
