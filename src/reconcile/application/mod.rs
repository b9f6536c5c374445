//! The task of one Application on its cluster.
//!
//! It sleeps until an event concerns it, assesses everything from the start, and acts. While it
//! waits it holds no worker, and while nothing changes it sends no request.
//!
//! ```text
//! work ─▶ accept ─▶ watches? ─▶ dependencies? ─▶ assess ─▶ apply ─▶ prune ─▶ health ─▶ outcome
//!                                                  ▲                                      │
//!                                                  └────── event, timer, work ◀─ sleep ◀──┘
//! ```

pub(crate) mod accept;
pub(crate) mod apply;
pub(crate) mod assess;
pub(crate) mod conclude;
mod failed_pass;
mod former;
pub(crate) mod inventory;
mod namespaces;
mod object_apply;
mod orphan;
mod outdated;
pub(crate) mod outcome;
pub(crate) mod pods;
pub(crate) mod prune;
pub(crate) mod repair;
mod requests;
mod rest;
pub(crate) mod scales;
mod served;

use super::{
    ApplicationHandle, ApplicationRequest, Reason, ReconcileContext, RepositoryId,
    cluster_state::{
        ClusterHandle, Unlisted, WatchTrouble, WatchedScope,
        observed::{self, WatchedManifest},
    },
    context::ApplicationKey,
    permits::WorkPermit,
    status::{ApplicationState, ApplicationStatus, Message},
    work::{Target, Work},
};
use crate::{
    core::{name::Name, retry},
    events::{Event, EventReason},
    io::{
        cluster::{ApplicationRecord, ClusterError, RequestIdentity},
        sleep_until,
        supervise::catch_panic,
    },
    objects::{
        health,
        object::ObjectKey,
        plan::{AppliedState, Inventory, RolloutHistory},
    },
};
use accept::OverLimit;
use assess::{Assessment, FailedObject};
use former::FormerState;
use futures::future::OptionFuture;
use namespaces::NamespaceCheck;
use pods::PodReports;
use repair::RepairBackoff;
use scales::ScaleChecks;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// Why the newest revision cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub reason: Reason,
    pub message: Message,
}

pub(crate) struct AppReconciler {
    pub name: Name,
    pub repository: Arc<RepositoryId>,
    pub cluster: Arc<ClusterHandle>,
    pub context: Arc<ReconcileContext>,
    pub handle: ApplicationHandle,
    pub status: ApplicationStatus,
    /// Work that no pass has accepted yet.
    pub(crate) work: Option<Work>,
    /// Requests that no pass has executed yet.
    requests: Vec<ApplicationRequest>,
    /// The revision whose deletions the user has confirmed, until they are planned.
    confirming: Option<Box<str>>,
    /// Whether the name on this cluster is reserved for this repository.
    owns_name: bool,
    pub(crate) target: Option<Target>,
    pub(crate) record: Option<Box<ApplicationRecord>>,
    /// Whether the record was read.
    pub(crate) loaded: bool,
    /// True if the record must be read from the cluster again, after a pass that panicked.
    rereads: bool,
    /// Whether the inventory must be rebuilt from labels.
    pub(crate) inventory_lost: bool,
    /// What an older tagboat has left in the Application's namespace.
    former: Box<FormerState>,
    /// Whether the recorded terms of a removal are older than the declaration.
    pub(crate) terms_changed: bool,
    pub(crate) inventory: Inventory,
    pub(crate) history: RolloutHistory,
    /// Whether the record in the cluster is out of date.
    pub(crate) dirty: bool,
    pub(crate) failures: HashMap<ObjectKey, FailedObject>,
    pub(crate) repairs: HashMap<ObjectKey, RepairBackoff>,
    /// Objects whose deletion was accepted.
    pub(crate) deleting: HashSet<ObjectKey>,
    /// Scopes that cannot be watched.
    pub(crate) unlisted: Unlisted,
    pub(crate) unreadable: Option<Unreadable>,
    /// Boxed, like the check of namespaces: few tasks have one.
    over_limit: Option<Box<OverLimit>>,
    /// The confirmation that was logged last.
    pub(crate) logged_confirmation: Option<Message>,
    /// Until when the API server may still execute an unanswered request.
    pub(crate) answers_until: Instant,
    /// Failed passes in a row.
    failed_passes: u32,
    pub(crate) pod_reports: PodReports,
    pub(crate) scales: ScaleChecks,
    namespace_check: Option<Box<NamespaceCheck>>,
}

/// Back-off after a failure: from one second, doubled each time, up to five minutes.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

pub(crate) fn back_off(failures: u32) -> Duration {
    retry::delay(failures, BACK_OFF.0, BACK_OFF.1)
}

/// How long an API server may work on a request whose client is gone: kube-apiserver allows a
/// minute (`--request-timeout`).
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(75);

/// Failures in a row after which a caller that waits for the outcome stops waiting.
pub(crate) const MAX_ATTEMPTS: u32 = 3;

/// What follows a pass.
pub(crate) enum Requeue {
    /// Sleep until an event, at most until a time.
    At(Option<Instant>),
    /// Sleep until an event or a status change of any Application.
    OnDependency,
    /// The Application is deleted; the task ends.
    Done,
}

impl AppReconciler {
    pub(super) fn new(
        name: Name,
        cluster: Arc<ClusterHandle>,
        context: Arc<ReconcileContext>,
        handle: ApplicationHandle,
    ) -> Self {
        let status =
            ApplicationStatus::new(name.clone(), &handle.repository.name, cluster.client.name());
        Self {
            name,
            repository: Arc::clone(&handle.repository),
            cluster,
            context,
            handle,
            status,
            work: None,
            requests: Vec::new(),
            confirming: None,
            owns_name: false,
            target: None,
            record: None,
            loaded: false,
            rereads: false,
            inventory_lost: false,
            former: Box::default(),
            terms_changed: false,
            inventory: Inventory::default(),
            history: RolloutHistory::default(),
            dirty: false,
            failures: HashMap::new(),
            repairs: HashMap::new(),
            deleting: HashSet::new(),
            unlisted: Unlisted::default(),
            unreadable: None,
            over_limit: None,
            logged_confirmation: None,
            answers_until: Instant::now(),
            failed_passes: 0,
            pod_reports: PodReports::default(),
            scales: ScaleChecks::default(),
            namespace_check: None,
        }
    }

    /// Runs until the process stops, or the Application and its objects are deleted.
    pub(super) async fn run(mut self) {
        let mut status_changed = self.context.status_changed.subscribe();
        loop {
            let permit = tokio::select! {
                biased;
                () = self.context.stop.cancelled() => return,
                permit = self.cluster.work_permit() => permit,
            };
            self.wake();
            if let Some(work) = self.handle.mailbox.take() {
                // Merged with work that a failing cluster has not let us accept yet.
                self.work = Some(work.after(self.work.take()));
            }
            status_changed.mark_unchanged();
            // Boxed: thousands of sleeping tasks keep no room for the locals of a pass.
            let pass = Box::pin(self.pass(&permit));
            let result = match catch_panic(pass).await {
                Ok(result) => result,
                Err(panic) => {
                    drop(permit);
                    if Box::pin(self.start_over(&panic)).await {
                        continue;
                    }
                    return;
                }
            };
            let mut on_dependency = false;
            let wake_at = match result {
                Ok(Requeue::Done) => {
                    if self.finish().await {
                        return;
                    }
                    // Declared again meanwhile: start over.
                    self = Self::new(self.name, self.cluster, self.context, self.handle);
                    self.context.publish(&self.status);
                    continue;
                }
                Ok(Requeue::At(wake_at)) => {
                    self.failed_passes = 0;
                    wake_at
                }
                Ok(Requeue::OnDependency) => {
                    self.failed_passes = 0;
                    on_dependency = true;
                    None
                }
                Err(error) => Some(self.pass_failed(&error)),
            };
            drop(permit);
            // A caller that requested another rendering waits for its result.
            self.status.observed &= !self.handle.render_retry.is_requested();
            self.context.publish(&self.status);
            self.rest();
            let kinds_served = OptionFuture::from(self.kinds_served());
            tokio::select! {
                biased;
                () = self.context.stop.cancelled() => return,
                () = self.handle.mailbox.filled() => {}
                () = self.handle.wake.notified() => {}
                Some(()) = kinds_served => {}
                _ = status_changed.changed(), if on_dependency => {}
                () = sleep_until(wake_at) => {}
            }
        }
    }

    /// Forgets a deleted Application; returns whether no newer work is waiting.
    async fn finish(&mut self) -> bool {
        if self.owns_name {
            self.cluster.forget_record(&self.name).await;
            self.cluster.state().dismiss(&self.name);
            self.cluster.release_watches();
        }
        self.context.remove(&self.key());
        self.handle.mailbox.close()
    }

    /// Records an event about this Application on its cluster.
    pub(crate) fn record_event(&self, event: Event) {
        let events = self.cluster.client.events();
        events.record(event.application(&self.name));
    }

    /// Runs one pass from the start. It is idempotent: what is done already sends no request.
    async fn pass(&mut self, permit: &WorkPermit) -> Result<Requeue, ClusterError> {
        self.context.passes.fetch_add(1, Ordering::Relaxed);
        self.take_requests();
        if !self.owns_name {
            if let Some(holder) = self
                .cluster
                .reserve_name(&self.name, &self.repository)
                .await?
            {
                return Ok(self.name_taken(&holder));
            }
            self.owns_name = true;
            self.cluster
                .state()
                .register(&self.name, Arc::clone(&self.handle.wake));
        }
        if !self.loaded {
            self.load().await?;
        }
        self.execute_requests();
        self.try_over_limit();
        let has_new_work = self.work.is_some();
        self.accept_work().await?;
        self.save_terms().await?;
        if self.status.state == ApplicationState::Deleting && self.target.is_none() {
            return Ok(Requeue::Done);
        }
        if self.status.state == ApplicationState::Orphaned && self.target.is_none() {
            return self.release_orphaned().await;
        }
        self.accept_served_kinds().await?;
        if let Some(requeue) = self.wait_for_watches() {
            return Ok(requeue);
        }
        self.judge_outdated().await?;
        self.recover_inventory();
        if let Some(requeue) = self.find_former_record().await? {
            return Ok(requeue);
        }
        self.record_ends();
        if let Some(requeue) = self.wait_for_dependencies() {
            return Ok(requeue);
        }
        let mut assessment = self.assess_fresh(has_new_work).await?;
        self.assess_scales(&mut assessment).await;
        if self.needs_unselected(&assessment) {
            let (repository, cluster) = (&self.repository.name, self.cluster.client.name());
            self.context.read_all_unselected(repository, cluster);
            if self.context.is_plan() && self.context.is_reading_unselected(repository, cluster) {
                self.status.observed = false;
                return Ok(Requeue::OnDependency);
            }
        }
        if self.context.is_plan() {
            self.report_plan(&assessment).await;
            return Ok(Requeue::At(None));
        }
        if !assessment.pending.is_empty() {
            self.status
                .set_state(ApplicationState::Applying, Reason::Applying, false);
            self.context.publish(&self.status);
            self.apply(&assessment.pending, permit).await?;
            assessment = self.assess();
        }
        if self.handle.mailbox.is_filled() {
            return Ok(Requeue::At(Some(Instant::now())));
        }
        let prune = self.prune(&assessment).await?;
        let wake_at = self.conclude(&assessment, prune).await;
        if self.save_if_dirty().await? {
            if let Some(wake_at) = self.delete_namespaces().await? {
                return Ok(Requeue::At(Some(wake_at)));
            }
            if let Some(record) = self.record.take() {
                self.cluster.client.remove(&record).await?;
            }
            self.record_event(Event::info(
                EventReason::ApplicationDeleted,
                "deleted with its objects",
            ));
            return Ok(Requeue::Done);
        }
        Ok(Requeue::At(wake_at))
    }

    /// Accepts waiting work; keeps it if the cluster fails.
    async fn accept_work(&mut self) -> Result<(), ClusterError> {
        let Some(work) = self.work.take() else {
            return Ok(());
        };
        self.accept(work).await.map_err(|(work, error)| {
            self.work = Some(work);
            error
        })
    }

    /// Waits for the first lists of all kinds. A kind that cannot be watched holds up only its own
    /// objects.
    fn wait_for_watches(&mut self) -> Option<Requeue> {
        let Some(target) = &self.target else {
            return Some(Requeue::At(None));
        };
        // An unreadable newer revision is what the status is about.
        if self.unreadable.is_none() {
            self.status.revision = Some(target.revision.clone());
        }
        let keys = target
            .desired
            .iter()
            .map(|one| &one.key)
            .chain(self.inventory.entries.keys())
            .chain(self.former.watched());
        let unlisted = self.cluster.unlisted(keys);
        if unlisted.iter().all(|(_, trouble)| trouble.is_some()) {
            self.unlisted = unlisted;
            return None;
        }
        self.status
            .set_state(ApplicationState::Waiting, Reason::WatchPending, false);
        self.status.problems = unlisted
            .iter()
            .map(|(WatchedScope { kind, .. }, trouble)| match trouble {
                Some(trouble) => watch_failure(kind, trouble),
                None => Message::application(format!("waiting for the first list of {kind}")),
            })
            .collect();
        Some(Requeue::At(None))
    }

    /// Waits until the dependencies have been ready once.
    fn wait_for_dependencies(&mut self) -> Option<Requeue> {
        let target = self.target.as_mut()?;
        if target.dependencies_met || self.context.is_plan() {
            return None;
        }
        let unready = self.context.unready_dependencies(
            &self.repository.name,
            &target.options.depends_on,
            &target.revision,
            target.options.rights.tenant.is_some(),
        );
        if let Some(unready) = unready {
            self.status.set_state(
                ApplicationState::Waiting,
                Reason::DependencyNotReady,
                !unready.transient,
            );
            self.status.problems = unready.messages;
            return Some(Requeue::OnDependency);
        }
        target.dependencies_met = true;
        target.deadline = Instant::now() + target.options.timeout;
        None
    }

    /// Assesses all objects, against fresh records of other processes where they decide.
    async fn assess_fresh(&mut self, has_new_work: bool) -> Result<Assessment, ClusterError> {
        let mut assessment = self.assess();
        if has_new_work {
            let owners = assessment.foreign_owners.values_mut();
            owners.for_each(|fresh| *fresh = true);
        }
        let owners = &assessment.foreign_owners;
        if !owners.is_empty() && self.cluster.consult_records(owners).await? {
            assessment = self.assess();
        }
        Ok(assessment)
    }

    fn key(&self) -> ApplicationKey {
        (
            self.cluster.client.name().to_owned(),
            self.name.clone(),
            self.repository.name.clone(),
        )
    }

    /// Returns the identity under which objects are applied and deleted.
    pub(crate) fn identity(&self) -> RequestIdentity {
        let account = match &self.target {
            Some(target) => &target.options.service_account,
            None => &self.inventory.service_account,
        };
        RequestIdentity::of(&self.name, account.as_deref())
    }

    /// Sets the manifest and the answer that judge a live object from now on.
    pub(crate) fn judge(&self, index: usize, applied: &AppliedState) {
        let Some(target) = &self.target else { return };
        let one = &target.desired[index];
        let watched = WatchedManifest {
            manifest: one.manifest.clone(),
            ignore: observed::ignore_pointers(&target.options.ignore, &one.key),
            expected: Some(applied.live),
            expected_leaves: applied.leaves.clone(),
            atomic_fields: applied.atomic_fields.clone(),
            take_over: Arc::clone(self.cluster.client.take_over_managers()),
            health: health::rule_for(&target.options.health, &one.key),
        };
        self.cluster.state().judge(&self.name, &one.key, watched);
    }

    pub(crate) fn unreadable_message(&self) -> Option<&Message> {
        Some(&self.unreadable.as_ref()?.message)
    }
}

/// Returns the problem of a kind that cannot be watched.
pub(crate) fn watch_failure(kind: &str, trouble: &WatchTrouble) -> Message {
    Message::application(format!("{kind} cannot be watched: {}", trouble.message))
        .with_hint(trouble.hint.clone())
}
