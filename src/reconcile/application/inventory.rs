//! The record of an Application in its cluster: read once, written when a pass changed it.

use super::{ANSWER_TIMEOUT, AppReconciler};
use crate::{
    core::error::{Classify as _, ErrorKind},
    events::{Event, EventFact, EventReason},
    io::cluster::{ApplicationRecord, ClusterError, ClusterProblem},
    objects::{
        health::RunEnd,
        plan::{
            Inventory, InventoryEntry, Rollout, RolloutHistory, RolloutOutcome, ValueHash, text,
        },
    },
    reconcile::{RepositoryId, blocking},
};
use jiff::Timestamp;
use std::collections::btree_map::Entry;
use tokio::time::Instant;

/// Writes per save, if other processes write the same record.
const SAVE_ATTEMPTS: usize = 3;

/// Bytes of JSON for one inventory entry, to estimate the work.
const ENTRY_BYTES: usize = 300;

impl AppReconciler {
    /// Loads the record from the cluster.
    pub(crate) async fn load(&mut self) -> Result<(), ClusterError> {
        let record = if self.rereads {
            self.cluster.read_alone(&self.name).await?
        } else {
            self.cluster.take_record(&self.name).await?
        };
        self.record = record.map(Box::new);
        let mut damage = None;
        if let Some(record) = &mut self.record {
            // Ten thousand objects at rest: the parsed inventory replaces the text.
            let mut data = std::mem::take(&mut record.data);
            let inventory = data.remove(text::INVENTORY);
            let damaged = match (record.damaged.clone(), inventory) {
                (Some(why), _) => Some(why),
                (None, None) => Some("it is missing".to_owned()),
                (None, Some(text)) => {
                    let parsed =
                        blocking::compute(text.len(), move || Inventory::parse(&text)).await;
                    parsed.map(|inventory| self.set_inventory(inventory)).err()
                }
            };
            if let Some(why) = damaged {
                let message = format!(
                    "inventory damaged ({why}); rebuilding it from the labels of live objects"
                );
                damage = Some(Event::warning(EventReason::InventoryDamaged, message));
                self.inventory_lost = true;
                self.dirty = true;
            }
            let history = data.get(text::HISTORY);
            if let Some(Ok(history)) = history.map(|text| RolloutHistory::parse(text)) {
                self.history = history;
            }
            self.status.rollout = self.history.0.first().cloned();
            self.inventory_lost |= self.inventory.incomplete;
            // The last applies of a previous process may still be under way.
            self.answers_until = Instant::now() + ANSWER_TIMEOUT;
        }
        // A missing record may have been deleted by hand while its objects exist.
        self.inventory_lost |= self.record.is_none();
        self.loaded = true;
        if let Some(event) = damage {
            self.record_event(event);
        }
        Ok(())
    }

    /// Sets the inventory; its keys and atomic fields share memory with those in use.
    fn set_inventory(&mut self, mut inventory: Inventory) {
        let mut state = self.cluster.state();
        inventory.entries = inventory
            .entries
            .into_iter()
            .map(|(key, entry)| (state.intern_recorded(&self.name, key), entry))
            .collect();
        for applied in inventory
            .entries
            .values_mut()
            .filter_map(|entry| entry.applied.as_mut())
        {
            let atomic_fields = std::mem::take(&mut applied.atomic_fields);
            applied.atomic_fields = state.atomic_fields.intern(atomic_fields);
        }
        drop(state);
        self.inventory = inventory;
    }

    /// Adds live objects with our labels to a lost inventory.
    ///
    /// Objects of a kind whose watch fails are added when it works.
    pub(crate) fn recover_inventory(&mut self) {
        if !self.inventory_lost {
            return;
        }
        self.inventory_lost = !self.unlisted.is_empty();
        self.dirty |= self.inventory.incomplete && !self.inventory_lost;
        let state = self.cluster.state();
        for (key, observed) in state.labelled(&self.name) {
            if let Entry::Vacant(entry) = self.inventory.entries.entry(key.clone()) {
                entry.insert(InventoryEntry {
                    version: observed.version.clone(),
                    applied: None,
                });
                self.inventory.recovered.insert(key.clone());
                self.dirty = true;
            }
        }
    }

    /// Records which Jobs have ended, so that none of them is run again when it is gone.
    pub(crate) fn record_ends(&mut self) {
        let Some(target) = &self.target else { return };
        let mut state = self.cluster.state();
        for one in &target.desired {
            let entry = self.inventory.entries.get_mut(&one.key);
            let applied = entry
                .and_then(|entry| entry.applied.as_mut())
                .filter(|applied| applied.ended.is_none() && applied.manifest == one.hash);
            let Some(applied) = applied else { continue };
            applied.ended = state.take_end(&one.key, &applied.uid);
            self.dirty |= applied.ended.is_some();
        }
    }

    /// Lets Jobs that failed and are gone run again, at the user's request.
    pub(crate) fn forget_failed_ends(&mut self) {
        let entries = self.inventory.entries.values_mut();
        let failed = entries
            .filter_map(|entry| entry.applied.as_mut())
            .filter(|applied| applied.ended == Some(RunEnd::Failed));
        for applied in failed {
            applied.ended = None;
            self.dirty = true;
        }
    }

    /// Saves terms of a removal that have changed in Git, before anything else may go wrong.
    pub(super) async fn save_terms(&mut self) -> Result<(), ClusterError> {
        // A lost inventory is saved when it has been rebuilt.
        let can_save = self.record.is_some() && !self.inventory_lost && !self.context.is_plan();
        if self.terms_changed && can_save {
            self.save().await?;
            self.terms_changed = false;
        }
        Ok(())
    }

    /// Writes the record if it is dirty; returns whether the Application is completely deleted and
    /// needs no record.
    pub(crate) async fn save_if_dirty(&mut self) -> Result<bool, ClusterError> {
        let deleting = self.target.as_ref().is_some_and(|target| target.deleting);
        if deleting && self.inventory.entries.is_empty() {
            return Ok(true);
        }
        if self.dirty {
            self.save().await?;
        }
        Ok(false)
    }

    /// Writes the record; merges it with what another process wrote meanwhile.
    pub(crate) async fn save(&mut self) -> Result<(), ClusterError> {
        for attempt in 1.. {
            let mut record = self.record.clone().unwrap_or_else(|| {
                Box::new(ApplicationRecord::new(
                    self.name.clone(),
                    Default::default(),
                ))
            });
            self.inventory.incomplete = self.inventory_lost;
            let inventory = self.inventory_text().await;
            record.data.insert(text::INVENTORY.to_owned(), inventory);
            record
                .data
                .insert(text::HISTORY.to_owned(), self.history.to_string());
            let client = &self.cluster.client;
            match client.save(&mut record, &self.repository.to_string()).await {
                Ok(()) => {
                    record.data.clear();
                    self.record = Some(record);
                    self.dirty = false;
                    self.status.rollout = self.history.0.first().cloned();
                    self.remove_former_record().await;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Conflict && attempt < SAVE_ATTEMPTS => {
                    self.merge_record(error).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn inventory_text(&self) -> String {
        let bytes = self.inventory.entries.len() * ENTRY_BYTES;
        if bytes < blocking::THRESHOLD {
            return self.inventory.to_string();
        }
        let inventory = self.inventory.clone();
        blocking::compute(bytes, move || inventory.to_string()).await
    }

    /// Merges the record that another process wrote: the union of two inventories orphans nothing.
    async fn merge_record(&mut self, conflict: ClusterError) -> Result<(), ClusterError> {
        let found = self.cluster.reread(&self.name).await?;
        let theirs = found
            .as_ref()
            .and_then(|record| Inventory::parse(record.data.get(text::INVENTORY)?).ok())
            .unwrap_or_default();
        let owner = RepositoryId::from(&theirs);
        if !self.repository.may_take_over(&owner) {
            let why = self.name_conflict(&owner).message;
            return Err(ClusterError {
                problem: Box::new(ClusterProblem::Refused { why }),
                ..conflict
            });
        }
        self.record = found.map(Box::new);
        for (key, entry) in theirs.entries {
            if self.inventory.entries.contains_key(&key) {
                continue;
            }
            if theirs.recovered.contains(&key) {
                self.inventory.recovered.insert(key.clone());
            }
            self.inventory.entries.insert(key, entry);
        }
        Ok(())
    }

    /// Returns the outcome of the same manifests, if the newest rollout applied them: a revision
    /// that changes nothing here is no rollout.
    pub(crate) fn applied_before(&self, hash: ValueHash) -> Option<RolloutOutcome> {
        let newest = self.history.0.first()?.result;
        (newest == RolloutOutcome::Applied && self.inventory.rendered == Some(hash))
            .then_some(newest)
    }

    /// Records the outcome of the revision, and logs it once.
    pub(crate) fn record_outcome(&mut self, result: RolloutOutcome, message: String) {
        let Some(target) = &mut self.target else {
            return;
        };
        if target.deleting {
            return;
        }
        // What becomes of the objects after a successful rollout is a matter of status, not of the
        // revision.
        if target.reported == Some(RolloutOutcome::Applied) {
            return;
        }
        let before = self.history.clone();
        self.history.note(Rollout {
            revision: target.revision.clone(),
            result,
            since: Timestamp::now(),
            message,
        });
        self.dirty |= self.history != before;
        if result == RolloutOutcome::Applied {
            self.inventory.rendered = Some(target.hash);
            self.inventory.revision = Some(target.revision.clone());
        }
        let is_new = target.reported.replace(result) != Some(result);
        self.status.rollout = self.history.0.first().cloned();
        if is_new {
            self.report_outcome(result);
        }
    }

    fn report_outcome(&self, result: RolloutOutcome) {
        let Some(target) = &self.target else {
            return;
        };
        let newest = self.history.0.first();
        let message = newest.map_or("", |newest| newest.message.as_str());
        let event = match result {
            RolloutOutcome::Applied => Event::info(EventReason::SyncSucceeded, "synced")
                .fact(EventFact::Objects, target.desired.len()),
            RolloutOutcome::Progressing => {
                Event::info(EventReason::SyncProgressing, "applied; waiting for health")
            }
            RolloutOutcome::Superseded => return,
            RolloutOutcome::Failed => {
                Event::error(EventReason::SyncFailed, format!("not applied: {message}"))
            }
            RolloutOutcome::Degraded => Event::error(
                EventReason::HealthDegraded,
                format!("applied, but not healthy: {message}"),
            ),
        };
        self.record_event(event.revision(Some(&target.revision)));
    }
}
