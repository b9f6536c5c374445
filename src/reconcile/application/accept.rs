//! Acceptance: turns work into a target, and registers its claims.

use super::{AppReconciler, Requeue, Unreadable};
use crate::{
    events::{Event, EventFact, EventReason},
    io::cluster::ClusterError,
    objects::{
        health,
        object::{Gvk, ObjectKey},
        plan::{self, DesiredObject, InventoryEntry},
        tenancy,
    },
    reconcile::{
        ClusterKinds, Reason, RepositoryId, blocking,
        cluster_state::{
            NameHolder, RECORD_TTL,
            observed::{self, WatchedManifest},
        },
        options::ReconcileOptions,
        status::{ApplicationState, ApplicationStatus, Message},
        work::{AcceptedRevision, Target, Work},
    },
    spec::{DeletionPolicy, rights::RepositoryRights},
};
use std::{collections::HashSet, sync::Arc};
use tokio::time::Instant;

/// A revision with more objects than its tenant has room for.
pub(crate) struct OverLimit {
    accepted: Box<AcceptedRevision>,
    keys: Box<[ObjectKey]>,
}

impl AppReconciler {
    /// Reports that another repository holds the name on this cluster, and touches nothing until
    /// it is released.
    pub(crate) fn name_taken(&mut self, holder: &NameHolder) -> Requeue {
        if matches!(self.work, Some(Work::Remove { .. })) {
            return Requeue::Done;
        }
        self.cluster
            .state()
            .drop_claim(&self.repository.name, &self.name);
        self.status.revision = self.work.as_ref().map(|work| work.revision().to_owned());
        let (repository, requeue) = match holder {
            NameHolder::Followed(repository) => (&**repository, Requeue::OnDependency),
            NameHolder::Recorded(repository) => {
                (repository, Requeue::At(Some(Instant::now() + RECORD_TTL)))
            }
        };
        self.fail(Reason::NameConflict, self.name_conflict(repository));
        requeue
    }

    fn fail(&mut self, reason: Reason, problem: Message) {
        self.status
            .set_state(ApplicationState::Failed, reason, true);
        self.status.problems = vec![problem];
    }

    /// Accepts work; returns it with the error if the API server cannot say what it serves.
    pub(crate) async fn accept(&mut self, work: Work) -> Result<(), (Work, ClusterError)> {
        match work {
            Work::Apply(accepted) => return self.accept_revision(accepted).await,
            Work::Same { revision, hash } => self.accept_same(revision, &hash),
            Work::Unreadable {
                revision,
                reason,
                message,
            } => {
                self.set_terms();
                self.accept_unreadable(revision, Unreadable { reason, message });
            }
            Work::Suspend { revision } => {
                self.set_terms();
                self.accept_suspension(revision);
            }
            Work::Remove {
                revision,
                delete_guard,
                rights,
            } => {
                self.set_terms();
                return self.accept_removal(revision, delete_guard, rights).await;
            }
        }
        Ok(())
    }

    /// Moves the target to another revision of the same rendering.
    fn accept_same(&mut self, revision: String, hash: &str) {
        match self
            .target
            .as_mut()
            .filter(|target| *target.rendered == *hash)
        {
            Some(target) => target.revision.clone_from(&revision),
            None => {
                // Refused, or lost in a panic: the next rendering counts as changed.
                self.handle.forget_rendering();
                self.context.ask_for_work();
                return;
            }
        }
        self.unreadable = None;
        self.cluster.state().mark_read(&self.name, &revision);
        self.status.revision = Some(revision);
    }

    fn accept_unreadable(&mut self, revision: String, unreadable: Unreadable) {
        if self.unreadable.as_ref() != Some(&unreadable) {
            let message = &unreadable.message;
            let event = Event::warning(EventReason::SourceUnreadable, message.to_string())
                .revision(Some(&revision))
                .hint(message.hint.clone())
                .fact(EventFact::State, unreadable.reason.to_string());
            self.record_event(event);
        }
        // The revision stays unread: a prune of an object that it may declare waits.
        self.cluster.state().mark_unreadable(&self.name, &revision);
        self.status.revision = Some(revision);
        self.fail(unreadable.reason, unreadable.message.clone());
        self.unreadable = Some(unreadable);
    }

    fn accept_suspension(&mut self, revision: String) {
        self.target = None;
        self.unreadable = None;
        // A suspended Application keeps what it owns.
        let owned: Vec<ObjectKey> = self.inventory.entries.keys().cloned().collect();
        self.cluster
            .state()
            .claim_keys(&self.name, &revision, owned);
        let cluster = self.cluster.client.name();
        self.status = ApplicationStatus {
            rollout: self.history.0.first().cloned(),
            objects: self.inventory.entries.len(),
            revision: Some(revision),
            ..ApplicationStatus::new(self.name.clone(), &self.repository.name, cluster)
        };
        self.status
            .set_state(ApplicationState::Suspended, Reason::Suspended, true);
    }

    async fn accept_removal(
        &mut self,
        revision: String,
        delete_guard: Option<String>,
        rights: Arc<RepositoryRights>,
    ) -> Result<(), (Work, ClusterError)> {
        self.unreadable = None;
        if self.inventory.entries.is_empty() && self.record.is_none() {
            // Nothing was ever applied.
            self.target = None;
            self.status
                .set_state(ApplicationState::Deleting, Reason::Deleting, false);
            return Ok(());
        }
        let resources = match self.cluster.client.resources().await {
            Ok(resources) => resources,
            Err(error) => {
                let work = Work::Remove {
                    revision,
                    delete_guard,
                    rights,
                };
                return Err((work, error));
            }
        };
        self.cluster.watch(self.owned_kinds(), &resources).await;
        if self.inventory.deletion == DeletionPolicy::Orphan {
            self.orphan(revision);
            return Ok(());
        }
        let recorded = self.inventory.service_account.as_deref();
        let cluster = self.cluster.client.name();
        let account = match tenancy::removal_account(&rights, cluster, &self.name, recorded) {
            Ok(account) => account,
            Err(why) => {
                self.target = None;
                self.status.revision = Some(revision);
                let message = format!("it was removed from Git, and its objects stay: {why}");
                self.fail(Reason::TenantRefused, Message::application(message));
                return Ok(());
            }
        };
        if self.inventory.delete_guard.is_none() && delete_guard.is_some() {
            self.inventory.delete_guard = delete_guard;
            self.dirty = true;
        }
        let options = ReconcileOptions::for_removal(&self.inventory, account, rights);
        self.note_left_namespaces();
        let take_over = self.cluster.client.take_over_managers();
        self.cluster
            .state()
            .claim(&self.name, &revision, &[], |one| {
                watched_manifest(one, &options, None, take_over)
            });
        self.target = Some(Target {
            options,
            revision,
            desired: Vec::new(),
            refused: Vec::new(),
            notes: Vec::new(),
            rendered: Arc::default(),
            hash: plan::hash_all(&[]),
            deadline: Instant::now(),
            deleting: true,
            reported: None,
            dependencies_met: true,
            unserved_source: None,
            published_by: None,
        });
        Ok(())
    }

    async fn accept_revision(
        &mut self,
        accepted: Box<AcceptedRevision>,
    ) -> Result<(), (Work, ClusterError)> {
        let recorded = RepositoryId::from(&self.inventory);
        if !self.repository.may_take_over(&recorded) {
            self.status.revision = Some(accepted.revision);
            // Another revision is judged, even if it renders the same.
            self.handle.forget_rendering();
            self.fail(Reason::NameConflict, self.name_conflict(&recorded));
            self.cluster
                .state()
                .drop_claim(&self.repository.name, &self.name);
            return Ok(());
        }
        let resources = match self.cluster.client.resources().await {
            Ok(resources) => resources,
            Err(error) => return Err((Work::Apply(accepted), error)),
        };
        let (desired, refused) = {
            let (application, rendered) =
                (accepted.application.clone(), Arc::clone(&accepted.rendered));
            let kinds = ClusterKinds::new(&self.cluster.client, Arc::clone(&resources));
            let bytes = rendered
                .manifests
                .iter()
                .map(|manifest| manifest.bytes())
                .sum();
            let plan = move || plan::desired_objects(&application, rendered.objects(), &kinds);
            blocking::compute(bytes, plan).await
        };
        let desired = self.intern(desired);
        if let Some(why) = self.limit_exceeded(&accepted, &desired) {
            self.refuse_revision(accepted, &desired, why);
            return Ok(());
        }
        let AcceptedRevision {
            application,
            revision,
            rendered,
        } = *accepted;
        let options = ReconcileOptions::new(&application, &self.cluster.health);
        self.unreadable = None;
        let entries = &self.inventory.entries;
        let take_over = self.cluster.client.take_over_managers();
        self.cluster
            .state()
            .claim(&self.name, &revision, &desired, |one| {
                watched_manifest(one, &options, entries.get(&one.key), take_over)
            });
        let kinds: Vec<_> = desired
            .iter()
            .map(DesiredObject::gvk)
            .chain(self.owned_kinds())
            .collect();
        self.cluster.watch(kinds, &resources).await;
        let keys: HashSet<&ObjectKey> = desired.iter().map(|one| &one.key).collect();
        self.failures.retain(|key, _| keys.contains(key));
        let before = self.target.as_ref().map(|target| &target.options);
        if before.is_some_and(|before| before.changes_requests(&options)) {
            self.failures.clear();
        }
        self.pod_reports.clear();
        self.record_declaration(&recorded);
        let hash = plan::hash_all(&desired);
        // A revision with the same manifests continues the rollout.
        let same = self
            .target
            .as_ref()
            .filter(|target| target.hash == hash && !target.deleting);
        let (reported, dependencies_met) =
            same.map_or((None, false), |same| (same.reported, same.dependencies_met));
        let reported = reported.or_else(|| self.applied_before(hash));
        let mut target = Target {
            options,
            revision,
            refused,
            notes: rendered.warnings.iter().map(Message::application).collect(),
            rendered: rendered.hash.as_str().into(),
            hash,
            deadline: Instant::now() + application.timeout,
            deleting: false,
            reported,
            dependencies_met,
            unserved_source: None,
            published_by: None,
            desired,
        };
        if target.has_unserved_kinds() {
            target.unserved_source = Some(Box::new((application, rendered)));
        }
        self.target = Some(target);
        Ok(())
    }

    /// Returns why the objects of a revision are more than a tenant may have.
    fn limit_exceeded(
        &self,
        accepted: &AcceptedRevision,
        desired: &[DesiredObject],
    ) -> Option<String> {
        accepted.application.rights.tenant.as_ref()?;
        // Two Applications at once must not take the same room.
        let mut state = self.cluster.state();
        let keys = desired.iter().map(|one| &one.key);
        let others = state.objects_of_others(&self.repository.name, &self.name, &keys);
        let objects = accepted.rendered.manifests.len();
        let refusal = tenancy::objects_refusal(&accepted.application.rights, objects, others);
        match refusal {
            None => state.reserve_objects(&self.name, objects),
            Some(_) => state.wait_for_room(&self.name),
        }
        refusal
    }

    /// Leaves the last revision in force, and keeps the refused one until there is room for it.
    fn refuse_revision(
        &mut self,
        accepted: Box<AcceptedRevision>,
        desired: &[DesiredObject],
        why: String,
    ) {
        // A revision that renders the same is judged, too.
        self.handle.forget_rendering();
        let unreadable = Unreadable {
            reason: Reason::TenantRefused,
            message: Message::application(why),
        };
        self.accept_unreadable(accepted.revision.clone(), unreadable);
        let keys = desired.iter().map(|one| one.key.clone()).collect();
        self.over_limit = Some(Box::new(OverLimit { accepted, keys }));
    }

    /// Takes up a revision that was refused for its number of objects, if there is room now.
    pub(super) fn try_over_limit(&mut self) {
        if self.work.is_some() {
            self.over_limit = None;
        }
        let has_room = |over: &mut Box<OverLimit>| {
            let OverLimit { accepted, keys } = &**over;
            let state = self.cluster.state();
            let others = state.objects_of_others(&self.repository.name, &self.name, &keys.iter());
            let objects = accepted.rendered.manifests.len();
            tenancy::objects_refusal(&accepted.application.rights, objects, others).is_none()
        };
        if let Some(over) = self.over_limit.take_if(has_room) {
            self.work = Some(Work::Apply(over.accepted));
        }
    }

    /// Shares the memory of equal keys among thousands of objects.
    fn intern(&self, mut desired: Vec<DesiredObject>) -> Vec<DesiredObject> {
        desired.shrink_to_fit();
        let state = self.cluster.state();
        for one in &mut desired {
            one.key = state.intern_recorded(&self.name, one.key.clone());
        }
        desired
    }

    /// Takes over what the newest declaration says about a removal, even if it cannot be applied.
    fn set_terms(&mut self) {
        let Some(terms) = self.handle.removal_terms() else {
            return;
        };
        if self.inventory.set_terms(terms) && self.record.is_some() {
            self.dirty = true;
            self.terms_changed = true;
        }
    }

    /// Copies what a removal of the Application must know into the inventory.
    fn record_declaration(&mut self, recorded: &RepositoryId) {
        self.set_terms();
        let inventory = &mut self.inventory;
        let was_guarded = inventory.delete_guard.take().is_some();
        let was_removed = inventory.left_namespaces.take().is_some() || was_guarded;
        self.namespace_check = None;
        if self.record.is_some() && (*recorded != *self.repository || was_removed) {
            self.dirty = true;
        }
        inventory.repository.clone_from(&self.repository.name);
        inventory.address.clone_from(&self.repository.address);
        inventory.part.clone_from(&self.repository.part);
    }

    /// Returns the problem of a name that another repository holds.
    pub(crate) fn name_conflict(&self, holder: &RepositoryId) -> Message {
        let record = self.cluster.client.record_place(&self.name);
        let hint = if holder.address == self.repository.address && !holder.address.is_empty() {
            "If it is the same repository, its name in tagboat.yaml (repositories[].name) has changed, which concerns all its Applications: restore the name, or delete their records."
        } else {
            "Give one of them another name or namespace, or delete the record to hand the objects over."
        };
        Message::application(format!(
            "repository {holder} has an Application of this name on this cluster (record ConfigMap {record})"
        ))
        .with_hint(Some(hint.to_owned()))
    }

    fn owned_kinds(&self) -> Vec<Gvk> {
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

/// Returns the manifest that judges a live object; with the answer to its last apply, if that sent
/// the same manifest.
fn watched_manifest(
    one: &DesiredObject,
    options: &ReconcileOptions,
    entry: Option<&InventoryEntry>,
    take_over: &Arc<[String]>,
) -> WatchedManifest {
    let applied = entry
        .and_then(|entry| entry.applied.as_ref())
        .filter(|applied| applied.manifest == one.hash);
    WatchedManifest {
        manifest: one.manifest.clone(),
        ignore: observed::ignore_pointers(&options.ignore, &one.key),
        expected: applied.map(|applied| applied.live),
        expected_leaves: applied
            .map(|applied| applied.leaves.clone())
            .unwrap_or_default(),
        atomic_fields: applied
            .map(|applied| applied.atomic_fields.clone())
            .unwrap_or_default(),
        take_over: Arc::clone(take_over),
        health: health::rule_for(&options.health, &one.key),
    }
}
