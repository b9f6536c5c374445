//! Apply: sends the pending objects in their order, as many at once as the cluster takes.

use super::{ANSWER_TIMEOUT, AppReconciler, assess::FailedObject, object_apply::ObjectApply};
use crate::{
    core::error::Classify,
    events::{Event, EventReason},
    io::cluster::{ApplyResult, ClusterError},
    objects::{
        health::HealthStatus,
        plan::{
            self, AppliedState, ApplyOrder, ApplyReason, DesiredObject, InventoryEntry, Rollout,
            RolloutOutcome,
        },
    },
    reconcile::{
        application::{assess::ForeignState, served::NOT_SERVED},
        cluster_state::{ClusterState, observed},
        diff::ApplyRefusal,
        permits::WorkPermit,
        status::Message,
    },
};
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};
use tokio::time::Instant;

/// Forced fields named in one log line.
const LOGGED_FIELDS: usize = 5;

/// The index of an object, and the answer to its apply with what to record of it.
type ApplyAnswer = (usize, Result<(ApplyResult, AppliedState), ApplyRefusal>);

impl AppReconciler {
    /// Applies objects.
    ///
    /// A failure stops only the objects that depend on the failed one. An object that waits for
    /// the health of another is left to the next assessment. Newer work stops what has not begun.
    pub(crate) async fn apply(
        &mut self,
        pending: &BTreeMap<usize, ApplyReason>,
        permit: &WorkPermit,
    ) -> Result<(), ClusterError> {
        self.record_intent(pending).await?;
        let mut waiting: BTreeSet<usize> = pending.keys().copied().collect();
        let mut requests: FuturesUnordered<BoxFuture<'static, ApplyAnswer>> =
            FuturesUnordered::new();
        let mut in_flight: BTreeSet<usize> = BTreeSet::new();
        let mut failed: HashSet<usize> = HashSet::new();
        // Only known until the answer is observed.
        let mut before: HashMap<usize, ForeignState> = HashMap::new();
        loop {
            if !self.handle.mailbox.is_filled() && !self.context.stop.is_cancelled() {
                for index in self.startable(&waiting, &in_flight, &mut failed) {
                    waiting.remove(&index);
                    if failed.contains(&index) {
                        continue;
                    }
                    in_flight.insert(index);
                    before.extend(self.foreign_state(index, pending[&index]));
                    requests.push(self.apply_request(index, permit.clone()));
                }
            }
            let Some((index, answer)) = requests.next().await else {
                break;
            };
            in_flight.remove(&index);
            if self.process_answer(index, answer, pending[&index], before.get(&index)) {
                if let Some(state) = before.remove(&index) {
                    self.count_repair(index, pending[&index], state);
                }
            } else {
                failed.insert(index);
            }
        }
        Ok(())
    }

    /// Writes new objects into the inventory before the first of them is sent, so that a crash
    /// orphans nothing.
    async fn record_intent(
        &mut self,
        pending: &BTreeMap<usize, ApplyReason>,
    ) -> Result<(), ClusterError> {
        let Some(target) = &self.target else {
            return Ok(());
        };
        let mut any_new = false;
        for index in pending.keys() {
            let one = &target.desired[*index];
            self.inventory
                .entries
                .entry(one.key.clone())
                .or_insert_with(|| {
                    any_new = true;
                    InventoryEntry {
                        version: one.version.clone(),
                        applied: None,
                    }
                });
        }
        // Stays dirty until a save succeeds, even if this one fails.
        self.dirty |= any_new;
        let git_changed = pending.values().any(|reason| !reason.is_drift());
        let is_rollout = target.reported != Some(RolloutOutcome::Applied);
        if git_changed && is_rollout && (any_new || self.record.is_none()) {
            self.history.note(Rollout {
                revision: target.revision.clone(),
                result: RolloutOutcome::Progressing,
                since: Timestamp::now(),
                message: String::new(),
            });
        }
        if self.dirty || self.record.is_none() {
            self.save().await?;
        }
        Ok(())
    }

    /// Returns the objects that may be sent now, and those whose dependencies have failed, which
    /// are added to `failed`.
    fn startable(
        &mut self,
        waiting: &BTreeSet<usize>,
        in_flight: &BTreeSet<usize>,
        failed: &mut HashSet<usize>,
    ) -> Vec<usize> {
        self.await_publication(waiting);
        let (mut ready, blocked) = self.ready_and_blocked(waiting, in_flight, failed);
        let Some(target) = &self.target else {
            return Vec::new();
        };
        for (index, dependency) in &blocked {
            let one = &target.desired[*index];
            let dependency = &target.desired[*dependency];
            if let Some(cause) = self.failures.get(&dependency.key) {
                let message = Message::desired(
                    one,
                    format!(
                        "it waits for {}, which could not be applied",
                        dependency.key
                    ),
                );
                let failure = FailedObject {
                    message,
                    failures: cause.failures,
                    retry_at: cause.retry_at,
                    manifest: one.hash,
                    transient: cause.transient,
                };
                self.failures.insert(one.key.clone(), failure);
            }
            failed.insert(*index);
        }
        let blocked: BTreeSet<usize> = blocked.into_iter().map(|(index, _)| index).collect();
        // A higher wave waits for the answers of lower ones, unless those wait for something else.
        let lowest = ready
            .iter()
            .chain(in_flight)
            .map(|index| target.desired[*index].wave)
            .min();
        ready.retain(|index| {
            Some(target.desired[*index].wave) == lowest && !blocked.contains(index)
        });
        ready.extend(blocked);
        ready
    }

    /// Returns the objects without a missing dependency; and pairs of an object and its failed
    /// dependency.
    fn ready_and_blocked(
        &self,
        waiting: &BTreeSet<usize>,
        in_flight: &BTreeSet<usize>,
        failed: &HashSet<usize>,
    ) -> (Vec<usize>, Vec<(usize, usize)>) {
        let mut ready = Vec::new();
        let mut blocked = Vec::new();
        let Some(target) = &self.target else {
            return (ready, blocked);
        };
        let cluster = self.cluster.state();
        for index in waiting.iter().copied() {
            let mut is_ready = true;
            let one = &target.desired[index];
            for after in &one.after {
                let dependency = &target.desired[after.index];
                let has_failed = failed.contains(&after.index)
                    || self
                        .failures
                        .get(&dependency.key)
                        .is_some_and(|failure| failure.manifest == dependency.hash);
                if has_failed {
                    blocked.push((index, after.index));
                }
                is_ready &= !waiting.contains(&after.index)
                    && !in_flight.contains(&after.index)
                    && self.missing(&cluster, one, after).is_none();
            }
            if is_ready {
                ready.push(index);
            }
        }
        (ready, blocked)
    }

    /// Returns what a dependency of an object still lacks.
    pub(super) fn missing(
        &self,
        cluster: &ClusterState,
        one: &DesiredObject,
        after: &ApplyOrder,
    ) -> Option<&'static str> {
        let dependency = &self.target.as_ref()?.desired[after.index];
        let entry = self.inventory.entries.get(&dependency.key);
        let left_alone = plan::is_left_alone(dependency, entry, cluster.live(&dependency.key));
        if !left_alone && entry.is_none_or(|entry| entry.applied.is_none()) {
            return Some("is not applied yet");
        }
        // An object that is left alone is often not observed: it carries no labels of ours.
        let is_healthy = cluster
            .health(&dependency.key, Timestamp::now())
            .map_or(left_alone, |(health, _)| {
                health.status == HealthStatus::Current
            });
        if after.healthy && !is_healthy {
            return Some("is not healthy yet");
        }
        self.awaits_kind(one, dependency).then_some(NOT_SERVED)
    }

    /// Returns the pending objects that wait for a dependency.
    pub(crate) fn held_up(&self, pending: &BTreeMap<usize, ApplyReason>) -> Vec<Message> {
        let Some(target) = &self.target else {
            return Vec::new();
        };
        let cluster = self.cluster.state();
        let message = |index: &usize| {
            let one = &target.desired[*index];
            let missing = |after: &ApplyOrder| {
                let dependency = &target.desired[after.index];
                let missing = self.missing(&cluster, one, after)?;
                Some((&dependency.key, missing))
            };
            let (dependency, missing) = one.after.iter().find_map(missing)?;
            Some(Message::desired(
                one,
                format!("it waits for {dependency}, which {missing}"),
            ))
        };
        pending.keys().filter_map(message).collect()
    }

    fn apply_request(
        &mut self,
        index: usize,
        permit: WorkPermit,
    ) -> BoxFuture<'static, ApplyAnswer> {
        let Some(target) = &self.target else {
            return Box::pin(std::future::pending());
        };
        let one = target.desired[index].clone();
        let creates_namespace = self.creates_namespace(&one);
        let ignore = observed::ignore_pointers(&target.options.ignore, &one.key);
        let entry = self.inventory.entries.get(&one.key);
        let apply = ObjectApply {
            cluster: Arc::clone(&self.cluster),
            application: self.name.clone(),
            identity: self.identity(),
            before: entry.and_then(|entry| entry.applied.clone()),
            ignore,
            permit,
            unscaled: self.scales.take_unscaled(&one.key),
            creates_namespace,
            rights: Arc::clone(&target.options.rights),
            one,
        };
        Box::pin(async move {
            let answer = match apply.run().await {
                Ok(answer) => Ok(answer),
                Err(error) => Err(apply.refusal(error).await),
            };
            (index, answer)
        })
    }

    /// Takes in an answer; returns whether the object was applied.
    fn process_answer(
        &mut self,
        index: usize,
        answer: Result<(ApplyResult, AppliedState), ApplyRefusal>,
        reason: ApplyReason,
        before: Option<&ForeignState>,
    ) -> bool {
        let Some(target) = &self.target else {
            return false;
        };
        let one = target.desired[index].clone();
        let revision = target.revision.clone();
        let (result, applied) = match answer {
            Ok(answer) => answer,
            Err(refusal) => {
                self.process_refusal(&one, &revision, refusal);
                return false;
            }
        };
        self.record_event(match before {
            Some(ForeignState::Drifted(drifted)) => {
                Event::info(EventReason::DriftRepaired, format!("repaired {drifted}"))
            }
            _ => {
                let message = format!("{}: {}", reason.as_str(), one.key);
                Event::info(EventReason::ObjectApplied, message).revision(Some(&revision))
            }
        });
        if !result.forced.is_empty() && !reason.is_drift() {
            let fields = result.forced.iter().take(LOGGED_FIELDS);
            let fields: Vec<String> = fields.map(ToString::to_string).collect();
            let message = format!("{}: took ownership of {}", one.key, fields.join(", "));
            self.record_event(Event::info(EventReason::FieldsTakenOver, message));
        }
        if !result.took_over.is_empty() {
            let managers = result.took_over.join(", ");
            let message = format!("{}: took over the fields of {managers}", one.key);
            self.record_event(Event::info(EventReason::FieldsTakenOver, message));
        }
        self.failures.remove(&one.key);
        let answered = applied.clone();
        let untouched = applied.untouched;
        let entry = InventoryEntry {
            version: one.version,
            applied: Some(applied),
        };
        let old = self
            .inventory
            .entries
            .insert(one.key.clone(), entry.clone());
        let was_recovered = self.inventory.recovered.remove(&one.key);
        self.dirty |= was_recovered || old.as_ref() != Some(&entry);
        self.judge(index, &answered);
        if !untouched {
            self.cluster.observe(&result.live);
        }
        true
    }

    fn process_refusal(&mut self, one: &DesiredObject, revision: &str, refusal: ApplyRefusal) {
        let ApplyRefusal { error, why } = refusal;
        let message = Message::desired(one, why).with_hint(error.hint());
        self.answers_until = Instant::now() + ANSWER_TIMEOUT;
        let failure = FailedObject::after(self.failures.get(&one.key), message, &error, one.hash);
        if failure.failures == 1 {
            let event = Event::warning(EventReason::ApplyFailed, failure.message.to_string())
                .revision(Some(revision))
                .hint(error.hint());
            self.record_event(event);
        }
        self.failures.insert(one.key.clone(), failure);
    }
}
