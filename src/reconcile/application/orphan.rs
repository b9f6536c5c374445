//! Removed Applications whose objects stay (`deletionPolicy: Orphan`).

use super::{AppReconciler, Requeue};
use crate::{
    events::{Event, EventFact, EventReason},
    io::cluster::ClusterError,
    objects::object::ObjectKey,
    reconcile::{Reason, status::ApplicationState},
};

impl AppReconciler {
    /// Keeps the objects of an Application that was removed from Git.
    pub(super) fn orphan(&mut self, revision: String) {
        let objects = self.inventory.entries.len();
        if self.status.state != ApplicationState::Orphaned {
            let message = "Application removed from Git; objects kept (deletionPolicy: Orphan)";
            let hint = "Declare it again, or delete its objects and its record by hand.";
            let event = Event::warning(EventReason::ApplicationOrphaned, message)
                .revision(Some(&revision))
                .hint(Some(hint))
                .fact(EventFact::Objects, objects);
            self.record_event(event);
        }
        self.target = None;
        self.status.objects = objects;
        self.status.revision = Some(revision);
        self.status
            .set_state(ApplicationState::Orphaned, Reason::Orphaned, true);
        self.status.problems = Vec::new();
    }

    /// Forgets orphaned objects that are gone or belong to another Application, and the Application
    /// itself with the last of them.
    pub(super) async fn release_orphaned(&mut self) -> Result<Requeue, ClusterError> {
        self.unlisted = self.cluster.unlisted(self.inventory.entries.keys());
        self.recover_inventory();
        let released: Vec<ObjectKey> = {
            let cluster = self.cluster.state();
            let is_ours = |key: &&ObjectKey| {
                let live = cluster.live(key);
                live.is_some_and(|live| live.owner.as_ref() == Some(&self.name))
            };
            // Absence from a watch that does not work proves nothing.
            let is_known = |key: &&ObjectKey| self.unlisted.covering(key).is_none();
            let keys = self.inventory.entries.keys();
            keys.filter(is_known)
                .filter(|key| !is_ours(key))
                .cloned()
                .collect()
        };
        for key in &released {
            self.inventory.remove(key);
            self.dirty = true;
        }
        self.status.objects = self.inventory.entries.len();
        let acts = !self.context.is_plan();
        if self.inventory.entries.is_empty() && !self.inventory_lost {
            if let Some(record) = self.record.take_if(|_| acts) {
                self.cluster.client.remove(&record).await?;
                self.record_event(Event::info(
                    EventReason::ApplicationDeleted,
                    "its objects are gone or belong to other Applications",
                ));
            }
            return Ok(Requeue::Done);
        }
        if self.dirty && acts {
            self.save().await?;
        }
        Ok(Requeue::At(None))
    }
}
