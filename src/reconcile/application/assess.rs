//! Assessment: compares the desired objects with the live ones, and decides what to apply now.

use super::{
    AppReconciler, back_off,
    repair::{EXISTENCE, OWNER_LABELS, RepairBackoff, WHOLE},
    watch_failure,
};
use crate::{
    core::{
        error::{Classify, ErrorKind},
        name::Name,
    },
    events::{Event, EventReason},
    io::cluster::ClusterError,
    objects::{
        health::{Health, HealthStatus, RunEnd},
        object::ObjectKey,
        plan::{
            self, ApplyReason, DesiredObject, ObjectAction, PrunePlan, RefusedObject, SkipReason,
            ValueHash,
        },
    },
    reconcile::{
        cluster_state::{
            ClusterState, RECORD_TTL, WatchTrouble,
            observed::{self, ForeignChange},
        },
        status::{ApplicationStatus, COMPLETED_AND_GONE, DriftedObject, Message, PlannedAction},
        work::Target,
    },
};
use jiff::Timestamp;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

const FAILED_AND_GONE: &str =
    "it has failed and is gone; it runs again when its manifest changes, or by `tagboat sync`";

/// An object that could not be applied or deleted.
#[derive(Debug)]
pub(crate) struct FailedObject {
    pub message: Message,
    /// Failures in a row.
    pub failures: u32,
    pub retry_at: Instant,
    /// The manifest that failed; another one is tried at once.
    pub manifest: ValueHash,
    /// Whether a retry may succeed without a change by the user.
    pub transient: bool,
}

impl FailedObject {
    pub(crate) fn after(
        before: Option<&Self>,
        message: Message,
        error: &ClusterError,
        manifest: ValueHash,
    ) -> Self {
        let failures = before
            .filter(|before| before.manifest == manifest)
            .map_or(0, |before| before.failures)
            .saturating_add(1);
        let wait = error.retry_after().unwrap_or_else(|| back_off(failures));
        Self {
            message,
            failures,
            retry_at: Instant::now() + wait,
            manifest,
            transient: error.kind() != ErrorKind::Config,
        }
    }
}

/// The findings about all desired objects.
#[derive(Debug, Default)]
pub(crate) struct Assessment {
    /// Objects to apply, by index.
    pub pending: BTreeMap<usize, ApplyReason>,
    /// Objects that cannot be applied.
    pub failures: Vec<Message>,
    /// Objects that wait for something else.
    pub waits: Vec<Message>,
    /// Changed objects that are not repaired now.
    pub drifted: Vec<DriftedObject>,
    pub notes: Vec<Message>,
    pub unhealthy: Vec<(ObjectKey, Health)>,
    pub worst_health: Option<HealthStatus>,
    /// When the next retry or repair is due.
    pub wake_at: Option<Instant>,
    /// Whether a failure may pass without a change by the user.
    pub transient: bool,
    /// Owners of desired objects that other processes reconcile; `true` if the object is about to
    /// be taken over.
    pub foreign_owners: BTreeMap<Name, bool>,
}

impl Assessment {
    /// Returns whether every object is as desired.
    pub(crate) fn all_applied(&self) -> bool {
        self.pending.is_empty() && self.failures.is_empty() && self.waits.is_empty()
    }

    fn wake_by(&mut self, at: Instant) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Wakes when the clock shows a time.
    fn wake_at_time(&mut self, at: Timestamp, now: Timestamp) {
        let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
        self.wake_by(Instant::now() + wait);
    }

    pub(crate) fn report(&self, status: &mut ApplicationStatus) {
        status.health = self.worst_health;
        status.problems = self.failures.iter().chain(&self.waits).cloned().collect();
        status.drifted.clone_from(&self.drifted);
        status.unhealthy = health_messages(&self.unhealthy);
        status.notes.clone_from(&self.notes);
    }

    /// Returns the actions that a pass would take.
    pub(crate) fn planned_actions(&self, target: &Target, prune: &PrunePlan) -> Vec<PlannedAction> {
        let applies = self.pending.iter().map(|(index, reason)| PlannedAction {
            action: reason.as_str().to_owned(),
            object: target.desired[*index].key.to_string(),
        });
        let deletions = prune.delete.iter().map(|object| PlannedAction {
            action: "delete".to_owned(),
            object: object.key.to_string(),
        });
        applies.chain(deletions).collect()
    }

    fn add_health(&mut self, cluster: &ClusterState, key: &ObjectKey) {
        let now = Timestamp::now();
        let Some((health, changes)) = cluster.health(key, now) else {
            return;
        };
        if let Some(at) = changes {
            self.wake_at_time(at, now);
        }
        self.count_health(key, health);
    }

    fn count_health(&mut self, key: &ObjectKey, health: &Health) {
        if self
            .worst_health
            .is_none_or(|worst| severity(worst) < severity(health.status))
        {
            self.worst_health = Some(health.status);
        }
        if health.status != HealthStatus::Current {
            self.unhealthy.push((key.clone(), health.clone()));
        }
    }

    /// Adds a Job that has ended and is gone.
    fn add_ended(&mut self, key: &ObjectKey, end: RunEnd) {
        match end {
            RunEnd::Completed => self.notes.push(Message::object(key, COMPLETED_AND_GONE)),
            RunEnd::Failed => {
                let health = Health::new(HealthStatus::Failed, FAILED_AND_GONE);
                self.count_health(key, &health);
            }
        }
    }
}

/// Refused objects that a status names; more are counted.
const NAMED_REFUSALS: usize = 100;

fn refusal_messages(refused: &[RefusedObject]) -> impl Iterator<Item = Message> {
    let more = refused.len().saturating_sub(NAMED_REFUSALS);
    let counted =
        (more > 0).then(|| Message::application(format!("{more} more objects are refused")));
    let named = refused.iter().take(NAMED_REFUSALS).map(|refused| Message {
        place: refused.origin.as_ref().map(ToString::to_string),
        ..Message::object(&refused.key, refused.why.clone())
    });
    named.chain(counted)
}

pub(super) fn health_messages(unhealthy: &[(ObjectKey, Health)]) -> Vec<Message> {
    unhealthy
        .iter()
        .map(|(key, health)| Message::object(key, format!("{}: {}", health.status, health.message)))
        .collect()
}

/// Returns the rank of a health, the worst highest.
fn severity(status: HealthStatus) -> u8 {
    match status {
        HealthStatus::Current => 0,
        HealthStatus::Unknown => 1,
        HealthStatus::Terminating => 2,
        HealthStatus::InProgress => 3,
        HealthStatus::NotFound => 4,
        HealthStatus::Failed => 5,
    }
}

impl AppReconciler {
    /// Returns whether the claims of unselected Applications matter to this pass.
    pub(crate) fn needs_unselected(&self, assessment: &Assessment) -> bool {
        let deletes = |target: &Target| {
            let prune = self.plan_prune(target, &self.cluster.state());
            !prune.delete.is_empty()
        };
        self.context.unselected.has_selection()
            && (!assessment.waits.is_empty()
                || self.context.is_plan() && self.target.as_ref().is_some_and(deletes))
    }

    /// Assesses all desired objects.
    pub(crate) fn assess(&self) -> Assessment {
        let mut assessment = Assessment::default();
        let Some(target) = &self.target else {
            return assessment;
        };
        let mut cluster = self.cluster.state();
        let now = Instant::now();
        assessment
            .failures
            .extend(refusal_messages(&target.refused));
        for (index, one) in target.desired.iter().enumerate() {
            self.assess_object(&cluster, index, one, now, &mut assessment);
        }
        if !assessment.pending.is_empty() {
            // Pending objects may wait for the health of others, which time alone can change.
            let now = Timestamp::now();
            let changes = |one: &DesiredObject| cluster.health(&one.key, now)?.1;
            for at in target.desired.iter().filter_map(changes) {
                assessment.wake_at_time(at, now);
            }
        }
        if !assessment.waits.is_empty() {
            cluster.wait_for_handover(&self.name);
        }
        assessment
    }

    fn assess_object(
        &self,
        cluster: &ClusterState,
        index: usize,
        one: &DesiredObject,
        now: Instant,
        assessment: &mut Assessment,
    ) {
        if let Some(trouble) = self.watch_trouble(&one.key) {
            let Message { message, hint, .. } = watch_failure(&one.key.kind, trouble);
            let message = Message::desired(one, message).with_hint(hint);
            if trouble.transient {
                assessment.waits.push(message);
            } else {
                assessment.failures.push(message);
            }
            return;
        }
        let entry = self.inventory.entries.get(&one.key);
        match plan::decide_action(&self.name, one, entry, cluster.live(&one.key), cluster) {
            ObjectAction::Leave(SkipReason::Synced) => {
                assessment.add_health(cluster, &one.key);
                let observed = cluster.observed(&one.key);
                let released = observed.map_or(&[][..], |observed| &observed.released);
                let notes = released.iter().filter_map(|released| released.note());
                let additions = observed.map_or(&[][..], |observed| &observed.template_additions);
                let notes = notes.chain(observed::addition_notes(additions));
                assessment
                    .notes
                    .extend(notes.map(|note| Message::object(&one.key, note)));
            }
            ObjectAction::Leave(SkipReason::Frozen) => assessment.notes.push(Message::object(
                &one.key,
                "it is left alone: reconcile: disabled on the live object",
            )),
            ObjectAction::Leave(SkipReason::Disabled | SkipReason::Present) => {}
            ObjectAction::Leave(SkipReason::Ended(end)) => assessment.add_ended(&one.key, end),
            ObjectAction::Wait(why) => assessment.waits.push(Message::desired(one, why)),
            ObjectAction::Refuse(why) => {
                if let Some(owner) = self.foreign_owner(cluster, &one.key) {
                    assessment.foreign_owners.entry(owner).or_insert(false);
                    assessment.wake_by(now + RECORD_TTL);
                }
                assessment.failures.push(Message::desired(one, why));
            }
            ObjectAction::Apply(reason) => {
                self.assess_apply(cluster, (index, one), reason, now, assessment);
            }
        }
    }

    /// Schedules an apply, unless it failed before, keeps changing owners, or repairs a drift that
    /// is not repaired now.
    fn assess_apply(
        &self,
        cluster: &ClusterState,
        (index, one): (usize, &DesiredObject),
        reason: ApplyReason,
        now: Instant,
        assessment: &mut Assessment,
    ) {
        if let Some(failed) = self
            .failures
            .get(&one.key)
            .filter(|failed| failed.manifest == one.hash && failed.retry_at > now)
        {
            assessment.failures.push(failed.message.clone());
            assessment.wake_by(failed.retry_at);
            assessment.transient |= failed.transient;
            return;
        }
        if reason == ApplyReason::Taken {
            let due = RepairBackoff::due(self.repairs.get(&one.key), &[OWNER_LABELS], now);
            if due > now {
                let owner = cluster.live(&one.key).and_then(|live| live.owner.clone());
                let why = repeated_takeover(owner.as_ref());
                assessment.waits.push(Message::desired(one, why));
                assessment.wake_by(due);
                return;
            }
            if let Some(owner) = self.foreign_owner(cluster, &one.key) {
                assessment.foreign_owners.insert(owner, true);
            }
        }
        if reason.is_drift()
            && let Some((drifted, due)) = self.unrepaired(cluster, one, reason, now)
        {
            if let Some(due) = due {
                assessment.wake_by(due);
            }
            assessment.drifted.push(drifted);
            assessment.add_health(cluster, &one.key);
            return;
        }
        assessment.pending.insert(index, reason);
    }

    /// Returns the owner of a live object that another process reconciles.
    fn foreign_owner(&self, cluster: &ClusterState, key: &ObjectKey) -> Option<Name> {
        let owner = cluster.live(key)?.owner.as_ref()?;
        (*owner != self.name && cluster.is_foreign(owner)).then(|| owner.clone())
    }

    /// Returns why the kind of an object cannot be watched.
    pub(crate) fn watch_trouble(&self, key: &ObjectKey) -> Option<&WatchTrouble> {
        self.unlisted.covering(key)?
    }

    /// Returns a drift that is not repaired now, by declaration or because of the back-off, with
    /// the time of its repair.
    fn unrepaired(
        &self,
        cluster: &ClusterState,
        one: &DesiredObject,
        reason: ApplyReason,
        now: Instant,
    ) -> Option<(DriftedObject, Option<Instant>)> {
        let repair = self.target.as_ref()?.options.repair;
        let fields = cluster
            .observed(&one.key)
            .map(|observed| observed.changed.clone())
            .unwrap_or_default();
        let due = RepairBackoff::due(
            self.repairs.get(&one.key),
            &drifted_fields(&fields, reason),
            now,
        );
        if repair && due <= now {
            return None;
        }
        let due = repair.then_some(due);
        let repaired_at = due.and_then(|due| {
            Timestamp::now()
                .checked_add(due.saturating_duration_since(now))
                .ok()
        });
        let drifted = DriftedObject {
            object: one.key.to_string(),
            fields,
            deleted: reason == ApplyReason::Deleted,
            repaired_at,
        };
        Some((drifted, due))
    }

    /// Returns what others made of an object that is about to be repaired or taken over.
    pub(crate) fn foreign_state(
        &self,
        index: usize,
        reason: ApplyReason,
    ) -> Option<(usize, ForeignState)> {
        let key = &self.target.as_ref()?.desired.get(index)?.key;
        let cluster = self.cluster.state();
        if reason == ApplyReason::Taken {
            let owner = cluster.live(key).and_then(|live| live.owner.clone());
            return Some((index, ForeignState::Owned(owner)));
        }
        let drifted = || DriftedObject {
            object: key.to_string(),
            fields: cluster
                .observed(key)
                .map(|observed| observed.changed.clone())
                .unwrap_or_default(),
            deleted: reason == ApplyReason::Deleted,
            repaired_at: None,
        };
        reason
            .is_drift()
            .then(|| (index, ForeignState::Drifted(drifted())))
    }

    /// Counts a repair or a take-over that has succeeded. A take-over that is not the first is
    /// logged.
    pub(crate) fn count_repair(&mut self, index: usize, reason: ApplyReason, before: ForeignState) {
        let one = self
            .target
            .as_ref()
            .and_then(|target| target.desired.get(index));
        let Some(key) = one.map(|one| one.key.clone()) else {
            return;
        };
        let now = Instant::now();
        let mut repeated = None;
        let repairs = self.repairs.entry(key.clone()).or_default();
        match before {
            ForeignState::Drifted(drifted) => {
                repairs.record(&drifted_fields(&drifted.fields, reason), now);
            }
            ForeignState::Owned(owner) => {
                if repairs.is_repeated(OWNER_LABELS, now) {
                    let message = format!("{key}: {}", repeated_takeover(owner.as_ref()));
                    repeated = Some(Event::warning(EventReason::OwnerConflict, message));
                }
                repairs.record(&[OWNER_LABELS], now);
            }
        }
        if let Some(event) = repeated {
            self.record_event(event);
        }
    }
}

/// What others made of an object, before it is repaired or taken over.
#[derive(Debug)]
pub(crate) enum ForeignState {
    Drifted(DriftedObject),
    /// The Application that owned it, if any.
    Owned(Option<Name>),
}

fn repeated_takeover(owner: Option<&Name>) -> String {
    let (owner, process) = match owner {
        Some(owner) => (
            format!("Application {owner}"),
            ", apparently from another process",
        ),
        None => ("another Application".to_owned(), ""),
    };
    format!("{owner} repeatedly takes it over{process}; remove it from one of them")
}

/// Returns the fields by which a drift is counted.
fn drifted_fields(fields: &[ForeignChange], reason: ApplyReason) -> Vec<&str> {
    match (reason, fields) {
        (ApplyReason::Deleted, _) => vec![EXISTENCE],
        (_, []) => vec![WHOLE],
        (_, fields) => fields.iter().map(|field| field.path.as_str()).collect(),
    }
}
