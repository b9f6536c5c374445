//! What is remembered of an Application in its cluster: read once, written when something has come
//! of a revision.

use super::{ANSWERABLE, AppReconciler, short};
use crate::reconcile::RepositoryId;
use crate::{
    core::error::{Classify as _, ErrorKind},
    io::cluster::{ApplicationRecord, ClusterError, ClusterProblem},
    objects::{
        object::ObjectKey,
        plan::{Inventory, InventoryEntry, Rollout, RolloutHistory, RolloutOutcome, text},
    },
};
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{error, info, warn};

impl AppReconciler {
    /// What lies in the cluster.
    pub(crate) async fn load(&mut self) -> Result<(), ClusterError> {
        self.record = self.hub.take_record(&self.name).await?;
        if let Some(record) = &self.record {
            let text = |name: &str| record.data.get(name).map(String::as_str);
            let damaged = match (&record.damaged, text(text::INVENTORY).map(Inventory::parse)) {
                (None, Some(Ok(mut inventory))) => {
                    let mut state = self.hub.state();
                    inventory.entries = inventory
                        .entries
                        .into_iter()
                        .map(|(key, entry)| (state.same_of(&self.name, key), entry))
                        .collect();
                    for applied in inventory
                        .entries
                        .values_mut()
                        .filter_map(|entry| entry.applied.as_mut())
                    {
                        applied.atoms = state.atoms.shared(std::mem::take(&mut applied.atoms));
                    }
                    self.inventory = inventory;
                    None
                }
                (None, Some(Err(why))) => Some(why),
                (None, None) => Some("it is missing".to_owned()),
                (Some(why), _) => Some(why.clone()),
            };
            if let Some(why) = damaged {
                warn!(application = %self.name, cluster = self.hub.cluster.name(), "its inventory is damaged ({why}); it is begun anew from the labels of what is live");
                (self.lost, self.dirty) = (true, true);
            }
            if let Some(Ok(history)) = text(text::HISTORY).map(RolloutHistory::parse) {
                self.history = history;
            }
            self.status.rollout = self.history.0.first().cloned();
            // What the process before this one sent last may still be under way.
            self.answerable = Instant::now() + ANSWERABLE;
        }
        // Without a record, too, something may be there: somebody has deleted it.
        self.lost |= self.record.is_none();
        // Ten thousand objects at rest: the same is not kept as text, too.
        if let Some(record) = &mut self.record {
            record.data.clear();
        }
        self.loaded = true;
        Ok(())
    }

    /// Takes into a lost inventory what carries our labels. Of kinds that cannot be watched nothing
    /// is seen: they are looked at when they can.
    pub(crate) fn find_lost(&mut self) {
        if self.lost {
            self.lost = !self.unlisted.is_empty();
            let state = self.hub.state();
            for (key, seen) in state.labelled(&self.name) {
                if let std::collections::btree_map::Entry::Vacant(place) =
                    self.inventory.entries.entry(key.clone())
                {
                    place.insert(InventoryEntry {
                        version: seen.version.clone(),
                        applied: None,
                    });
                    self.inventory.found.insert(key.clone());
                    self.dirty = true;
                }
            }
        }
    }

    /// Whether the namespace of the record is among the objects, and on its way out: what is
    /// written there now would make it anew.
    fn loses_its_namespace(&self) -> bool {
        let key = ObjectKey::new("", "Namespace", None, self.name.namespace());
        let goes = || {
            self.deleting.contains(&key)
                || self
                    .hub
                    .state()
                    .live(&key)
                    .is_some_and(|live| live.terminating)
        };
        self.inventory.entries.contains_key(&key) && goes()
    }

    /// Writes the record where it is behind. Gives whether nothing is left of an Application that
    /// is being deleted: then there is nothing to write any more.
    pub(crate) async fn note_down(&mut self) -> Result<bool, ClusterError> {
        let deleting = self
            .current
            .as_ref()
            .is_some_and(|current| current.deleting);
        if deleting && self.inventory.entries.is_empty() {
            return Ok(true);
        }
        if self.dirty && !(deleting && self.loses_its_namespace()) {
            self.save().await?;
        }
        Ok(false)
    }

    /// Writes the record: before the first apply of an object, and when something has come of it.
    pub(crate) async fn save(&mut self) -> Result<(), ClusterError> {
        /// How often somebody else's write is taken in.
        const TRIES: usize = 3;
        for attempt in 1.. {
            let mut record = self
                .record
                .clone()
                .unwrap_or_else(|| ApplicationRecord::new(self.name.clone(), Default::default()));
            record
                .data
                .insert(text::INVENTORY.to_owned(), self.inventory.to_string());
            record
                .data
                .insert(text::HISTORY.to_owned(), self.history.to_string());
            match self
                .hub
                .cluster
                .save(&mut record, &self.repository.to_string())
                .await
            {
                Ok(()) => {
                    record.data.clear();
                    self.record = Some(record);
                    self.dirty = false;
                    self.status.rollout = self.history.0.first().cloned();
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Conflict && attempt < TRIES => {
                    // What somebody else has noted is kept: of two inventories the union orphans
                    // nothing.
                    let found = self.hub.reread(&self.name).await?;
                    let theirs = found.as_ref().and_then(|record| {
                        Inventory::parse(record.data.get(text::INVENTORY)?).ok()
                    });
                    let theirs = theirs.unwrap_or_default();
                    let owner = RepositoryId::from(&theirs);
                    if !self.repository.may_take_over(&owner) {
                        let why = self.rival(&owner).message;
                        return Err(ClusterError {
                            problem: Box::new(ClusterProblem::Refused { why }),
                            ..error
                        });
                    }
                    self.record = found;
                    for (key, entry) in theirs.entries {
                        if !self.inventory.entries.contains_key(&key) {
                            if theirs.found.contains(&key) {
                                self.inventory.found.insert(key.clone());
                            }
                            self.inventory.entries.insert(key, entry);
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Notes what became of the revision, and tells it once.
    pub(crate) fn outcome(&mut self, result: RolloutOutcome, message: String) {
        let Some(current) = &mut self.current else {
            return;
        };
        if current.deleting {
            return;
        }
        let newest = self.history.0.first();
        let applied = newest.is_some_and(|newest| newest.result == RolloutOutcome::Applied);
        // A revision that changed nothing here is no news, unless the last word was another one.
        if self.inventory.rendered == Some(current.rendered)
            && applied
            && result == RolloutOutcome::Applied
        {
            current.told = Some(result);
            return;
        }
        // What worked once and is unwell now is a matter of status, not of the revision.
        if current.told == Some(RolloutOutcome::Applied) && result != RolloutOutcome::Failed {
            return;
        }
        let rollout = Rollout {
            revision: current.revision.clone(),
            result,
            since: Timestamp::now(),
            message,
        };
        let before = self.history.clone();
        self.history.note(rollout);
        if self.history != before {
            self.dirty = true;
        }
        if result == RolloutOutcome::Applied {
            self.inventory.rendered = Some(current.rendered);
            self.inventory.revision = Some(current.revision.clone());
        }
        if current.told != Some(result) {
            current.told = Some(result);
            let message = self
                .history
                .0
                .first()
                .map(|newest| newest.message.clone())
                .unwrap_or_default();
            let (application, cluster, revision) = (
                &self.name,
                self.hub.cluster.name(),
                short(&current.revision),
            );
            match result {
                RolloutOutcome::Applied => {
                    info!(%application, cluster, revision, objects = current.desired.len(), "in step")
                }
                RolloutOutcome::Progressing => {
                    info!(%application, cluster, revision, "applied; waiting for health")
                }
                RolloutOutcome::Superseded => {}
                RolloutOutcome::Failed => {
                    error!(%application, cluster, revision, "not applied: {message}")
                }
                RolloutOutcome::Degraded => {
                    error!(%application, cluster, revision, "applied, but not healthy: {message}")
                }
            }
        }
        self.status.rollout = self.history.0.first().cloned();
    }
}
