//! Taking up a job: what is wanted from now on, and who must know of it.

use super::{
    AcceptedRevision, AppReconciler, Requeue, Target, Work, options::ReconcileOptions, short,
};
use crate::reconcile::{
    ClusterKinds, RepositoryId,
    cluster_state::{
        CONSULT, Taken,
        observed::{self, WatchedManifest},
    },
    status::{ApplicationState, ApplicationStatus, Message},
};
use crate::{
    io::cluster::ClusterError,
    objects::{
        object::{Gvk, ObjectKey},
        plan::{self, DesiredObject, InventoryEntry},
    },
    spec::{DeletionPolicy, Ignore},
};
use std::{collections::HashSet, sync::Arc};
use tokio::time::Instant;
use tracing::warn;

impl AppReconciler {
    /// Another repository has an Application of this name on this cluster. Nothing is done, and
    /// nothing of the other's is touched, until it has given the name up.
    pub(crate) fn turned_away(&mut self, taken: &Taken) -> Requeue {
        if matches!(self.job, Some(Work::Gone { .. })) {
            return Requeue::Ended;
        }
        self.hub.state().renounce(&self.repository.name, &self.name);
        self.status.revision = self.job.as_ref().map(|job| job.revision().to_owned());
        (self.status.state, self.status.observed) = (ApplicationState::Failed, true);
        let holder = match taken {
            Taken::Here(holder) => holder,
            Taken::Recorded(recorded) => recorded,
        };
        self.status.problems = vec![self.rival(holder)];
        match taken {
            Taken::Here(_) => Requeue::Turned,
            Taken::Recorded(_) => Requeue::At(Some(Instant::now() + CONSULT)),
        }
    }

    /// Takes up a job; gives it back if the cluster cannot say what it serves.
    pub(crate) async fn read(&mut self, job: Work) -> Result<(), (Work, ClusterError)> {
        let read = match job {
            Work::Broken { revision, row } => {
                if self.broken.as_ref() != Some(&row) {
                    let cluster = self.hub.cluster.name();
                    warn!(application = %self.name, cluster, revision = short(&revision), hint = row.hint, "{row}");
                }
                // Not read: who would prune what this one may want waits.
                self.hub.state().mark_broken(&self.name, &revision);
                self.status.revision = Some(revision);
                self.status.state = ApplicationState::Failed;
                self.status.problems = vec![row.clone()];
                self.status.observed = true;
                self.broken = Some(row);
                return Ok(());
            }
            Work::Suspend { revision } => {
                self.current = None;
                self.broken = None;
                self.hub.state().hold(
                    &self.name,
                    &revision,
                    self.inventory.entries.keys().cloned(),
                );
                self.status = ApplicationStatus {
                    rollout: self.history.0.first().cloned(),
                    ..ApplicationStatus::new(
                        self.name.clone(),
                        &self.repository.name,
                        self.hub.cluster.name(),
                    )
                };
                self.status.objects = self.inventory.entries.len();
                (
                    self.status.revision,
                    self.status.state,
                    self.status.observed,
                ) = (Some(revision), ApplicationState::Suspended, true);
                return Ok(());
            }
            Work::Same { revision } => {
                self.broken = None;
                self.hub.state().mark_read(&self.name, &revision);
                self.status.revision = Some(revision.clone());
                if let Some(current) = &mut self.current {
                    current.revision = revision;
                }
                return Ok(());
            }
            Work::Gone { revision, doubt } => {
                self.broken = None;
                if self.inventory.entries.is_empty() && self.record.is_none() {
                    // It never came to anything.
                    (self.current, self.status.state) = (None, ApplicationState::Deleting);
                    return Ok(());
                }
                if self.inventory.deletion == DeletionPolicy::Orphan {
                    if self.status.state != ApplicationState::Orphaned {
                        let hint =
                            "Declare it again, or delete its objects and its record by hand.";
                        let objects = self.inventory.entries.len();
                        warn!(application = %self.name, cluster = self.hub.cluster.name(), revision = short(&revision), objects, hint, "nobody declares it any more; its objects stay");
                    }
                    self.current = None;
                    self.status.objects = self.inventory.entries.len();
                    (
                        self.status.revision,
                        self.status.state,
                        self.status.observed,
                    ) = (Some(revision), ApplicationState::Orphaned, true);
                    self.status.problems = Vec::new();
                    return Ok(());
                }
                let served = match self.hub.cluster.resources().await {
                    Ok(served) => served,
                    Err(error) => return Err((Work::Gone { revision, doubt }, error)),
                };
                if self.inventory.doubt.is_none() && doubt.is_some() {
                    (self.inventory.doubt, self.dirty) = (doubt, true);
                }
                self.hub.watch(self.kinds(), &served).await;
                self.hub
                    .state()
                    .claim(&self.name, &revision, &[], |one| watched(one, &[], None));
                self.current = Some(Target {
                    terms: ReconcileOptions::recorded(&self.inventory),
                    revision,
                    desired: Vec::new(),
                    refused: Vec::new(),
                    notes: Vec::new(),
                    rendered: plan::hash_all(&[]),
                    deadline: Instant::now(),
                    deleting: true,
                    told: None,
                    released: true,
                    unplaced: None,
                });
                return Ok(());
            }
            Work::Apply(read) => read,
        };
        let recorded = RepositoryId::from(&self.inventory);
        if !self.repository.may_take_over(&recorded) {
            self.status.revision = Some(read.revision);
            self.status.state = ApplicationState::Failed;
            self.status.observed = true;
            self.status.problems = vec![self.rival(&recorded)];
            self.hub.state().renounce(&self.repository.name, &self.name);
            return Ok(());
        }
        let served = match self.hub.cluster.resources().await {
            Ok(served) => served,
            Err(error) => return Err((Work::Apply(read), error)),
        };
        let AcceptedRevision {
            application,
            revision,
            rendered,
        } = *read;
        let notes = rendered.warnings.iter().map(Message::application).collect();
        let source = Arc::clone(&rendered);
        let (mut desired, refused) = plan::desired_objects(
            &application,
            rendered.objects(),
            &ClusterKinds(Arc::clone(&served)),
        );
        desired.shrink_to_fit();
        {
            let state = self.hub.state();
            desired
                .iter_mut()
                .for_each(|one| one.key = state.same_of(&self.name, one.key.clone()));
        }
        let rendered = plan::hash_all(&desired);
        self.broken = None;
        let same = self
            .current
            .as_ref()
            .is_some_and(|current| current.rendered == rendered && !current.deleting);
        let terms = ReconcileOptions::of(&application);
        let entries = &self.inventory.entries;
        self.hub
            .state()
            .claim(&self.name, &revision, &desired, |one| {
                watched(one, &terms.ignore, entries.get(&one.key))
            });
        let kinds: Vec<_> = desired
            .iter()
            .map(DesiredObject::gvk)
            .chain(self.kinds())
            .collect();
        self.hub.watch(kinds, &served).await;
        let known: HashSet<&ObjectKey> = desired.iter().map(|one| &one.key).collect();
        self.failing.retain(|key, _| known.contains(key));
        self.reasons.forget();
        let settings = (
            application.deletion,
            application.prune,
            application.service_account.clone(),
        );
        let terms_recorded = (
            self.inventory.deletion,
            self.inventory.prune,
            self.inventory.service_account.clone(),
        );
        let doubted = self.inventory.doubt.take().is_some();
        if self.record.is_some()
            && (settings != terms_recorded || recorded != *self.repository || doubted)
        {
            self.dirty = true;
        }
        (
            self.inventory.deletion,
            self.inventory.prune,
            self.inventory.service_account,
        ) = settings;
        let RepositoryId {
            name,
            address,
            part,
        } = (*self.repository).clone();
        (
            self.inventory.repository,
            self.inventory.address,
            self.inventory.part,
        ) = (name, address, part);
        let (told, released) = match &self.current {
            // Another revision that says the same is no rollout.
            Some(current) if same => (current.told, current.released),
            _ => (None, false),
        };
        let deadline = Instant::now() + application.timeout;
        let unplaced = desired
            .iter()
            .any(|one| !one.known)
            .then(|| Box::new((application, source)));
        self.current = Some(Target {
            terms,
            revision,
            desired,
            refused,
            notes,
            rendered,
            deadline,
            deleting: false,
            told,
            released,
            unplaced,
        });
        Ok(())
    }

    /// What is said where another repository has the name.
    pub(crate) fn rival(&self, holder: &RepositoryId) -> Message {
        let (namespace, name) = (self.name.namespace(), self.name.name());
        let hint = if holder.address == self.repository.address && !holder.address.is_empty() {
            "Is it the same repository? Then its name in tagboat.yaml (repositories[].name) has changed, which concerns all its Applications: call it as before, or delete their records."
        } else {
            "Give one of them another name or namespace, or delete the record to hand the objects over."
        };
        Message {
            hint: Some(hint.to_owned()),
            ..Message::application(format!(
                "repository {holder} has an Application of this name on this cluster (record ConfigMap {namespace}/tagboat-{name})"
            ))
        }
    }

    /// The kinds of what is owned.
    fn kinds(&self) -> Vec<Gvk> {
        self.inventory
            .entries
            .iter()
            .map(|(key, entry)| Gvk {
                group: key.group.clone(),
                version: entry.version.clone(),
                kind: key.kind.clone(),
            })
            .collect()
    }
}

/// How a wanted object is judged: against what the last apply of this very manifest answered.
fn watched(
    one: &DesiredObject,
    rules: &[Ignore],
    entry: Option<&InventoryEntry>,
) -> WatchedManifest {
    let applied = entry
        .and_then(|entry| entry.applied.as_ref())
        .filter(|applied| applied.manifest == one.hash);
    WatchedManifest {
        manifest: one.manifest.clone(),
        ignore: observed::ignored(rules, &one.key),
        expected: applied.map(|applied| applied.live),
        atoms: applied
            .map(|applied| applied.atoms.clone())
            .unwrap_or_default(),
    }
}
