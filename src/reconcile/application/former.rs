//! The upgrade from a tagboat that kept records in the namespaces of the Applications.
//!
//! An Application without a record whose labels are on live objects may have such an old record.
//! It is not believed: it names kinds, and the objects are recovered by their labels, as those of a
//! lost record. Their deletion needs a confirmation.

use super::{AppReconciler, Requeue};
use crate::{
    events::{Event, EventReason},
    io::cluster::{ClusterError, ClusterProblem, FormerRecord},
    objects::object::ObjectKey,
};
use tokio::time::Instant;

/// What is known of the old record.
#[derive(Default)]
pub(super) struct FormerState {
    /// Whether it was looked for.
    asked: bool,
    /// One key for each of its kinds.
    kinds: Vec<ObjectKey>,
    /// The record, until it is removed.
    record: Option<FormerRecord>,
}

impl FormerState {
    /// Returns keys whose kinds must be listed before the inventory is complete.
    pub(super) fn watched(&self) -> impl Iterator<Item = &ObjectKey> {
        self.kinds.iter()
    }
}

impl AppReconciler {
    /// Looks for the record of an older tagboat, and watches the kinds that it names.
    pub(super) async fn find_former_record(&mut self) -> Result<Option<Requeue>, ClusterError> {
        let is_lost = self.record.is_none() || self.inventory.incomplete;
        let is_upgrade = is_lost && !self.inventory.recovered.is_empty();
        if self.former.asked || !is_upgrade {
            return Ok(None);
        }
        let client = &self.cluster.client;
        let found = match client.former_record(&self.name).await {
            Ok(found) => found,
            // The account has no rights there now: it had none before.
            Err(error) if matches!(*error.problem, ClusterProblem::Forbidden { .. }) => None,
            Err(error) => return Err(error),
        };
        self.former.asked = true;
        let Some(found) = found else { return Ok(None) };
        let resources = client.resources().await?;
        let served = found.kinds.iter().filter(|gvk| {
            let exact = resources.find(gvk).is_some();
            exact || resources.preferred(&gvk.group, &gvk.kind).is_some()
        });
        let kinds: Vec<_> = served.cloned().collect();
        self.former.kinds = kinds
            .iter()
            .map(|gvk| ObjectKey::new(gvk.group.clone(), gvk.kind.clone(), None, ""))
            .collect();
        self.cluster.watch(kinds, &resources).await;
        self.former.record = Some(found);
        self.inventory_lost = true;
        Ok(Some(Requeue::At(Some(Instant::now()))))
    }

    /// Removes the record of an older tagboat once ours is saved.
    pub(super) async fn remove_former_record(&mut self) {
        // While a kind cannot be listed, the record still names it.
        let is_moved = self.record.is_some() && !self.inventory_lost;
        let Some(found) = self.former.record.take_if(|_| is_moved) else {
            return;
        };
        self.former.kinds.clear();
        let place = self.cluster.client.record_place(&self.name);
        let event = match self.cluster.client.remove_former(&found).await {
            Ok(()) => Event::info(
                EventReason::RecordMoved,
                format!("the record of an older tagboat was replaced by ConfigMap {place}"),
            ),
            Err(error) => Event::warning(
                EventReason::RecordNotCleared,
                format!("cannot delete the record of an older tagboat: {error}"),
            ),
        };
        self.record_event(event);
    }
}
