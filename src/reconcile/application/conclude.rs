//! The end of a pass: reports its plan or its outcome.

use super::{
    AppReconciler,
    assess::{self, Assessment},
    outcome::{self, OutcomeInput},
    prune::PruneResult,
};
use crate::events::{Event, EventReason};
use crate::reconcile::{
    Reason,
    status::{ApplicationState, Message},
};
use std::time::Duration;
use tokio::time::Instant;

/// The interval of discovery while a desired kind is not served.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(5);

impl AppReconciler {
    /// Reports the actions that a pass would take.
    pub(super) async fn report_plan(&mut self, assessment: &Assessment) {
        let reported = self.target.as_ref().and_then(|target| target.reported);
        let mut unhealthy = assessment.unhealthy.clone();
        self.report_pods(&mut unhealthy, outcome::is_rolling_out(reported))
            .await;
        let Some(target) = &self.target else { return };
        let prune = self.plan_prune(target, &self.cluster.state());
        self.status.planned = assessment.planned_actions(target, &prune);
        self.status.objects = target.desired.len();
        let target_notes = target.notes.clone();
        assessment.report(&mut self.status);
        self.status.unhealthy = assess::health_messages(&unhealthy);
        self.status.notes.extend(target_notes);
        let confirmation = prune
            .confirmation
            .map(|why| outcome::confirmation_message(&self.name, &why));
        let unreadable = self.unreadable.as_ref();
        let moves = assessment.pending.values().any(|reason| !reason.is_drift());
        let (state, reason) = if let Some(unreadable) = unreadable {
            (ApplicationState::Failed, unreadable.reason)
        } else if !self.status.problems.is_empty() {
            (ApplicationState::Failed, Reason::SyncFailed)
        } else if confirmation.is_some() {
            (ApplicationState::ConfirmationRequired, Reason::PruneBlocked)
        } else if moves || !prune.delete.is_empty() {
            (ApplicationState::OutOfSync, Reason::OutOfSync)
        } else if !assessment.pending.is_empty() || !assessment.drifted.is_empty() {
            (ApplicationState::Drifted, Reason::DriftReported)
        } else {
            (ApplicationState::Synced, Reason::Synced)
        };
        self.status.problems.extend(confirmation);
        let unreadable = unreadable.map(|unreadable| unreadable.message.clone());
        self.status.problems.extend(unreadable);
        self.status.set_state(state, reason, true);
    }

    /// Reports the outcome of a pass; returns the time of the next one.
    pub(super) async fn conclude(
        &mut self,
        assessment: &Assessment,
        prune: PruneResult,
    ) -> Option<Instant> {
        let now = Instant::now();
        if prune.confirmation.is_none() {
            self.logged_confirmation = None;
        }
        let mut wake_at: Vec<Instant> = assessment.wake_at.into_iter().collect();
        wake_at.extend(prune.wake_at);
        if !prune.failures.is_empty() {
            self.deleting.clear();
            let retries = self.failures.values().map(|failed| failed.retry_at);
            wake_at.extend(retries.filter(|retry_at| *retry_at > now));
        }
        let target = self.target.as_ref()?;
        let unserved_kinds = target.has_unserved_kinds();
        if unserved_kinds {
            wake_at.push(now + DISCOVERY_INTERVAL);
        }
        let is_rolling_out = outcome::is_rolling_out(target.reported);
        let mut unhealthy = assessment.unhealthy.clone();
        wake_at.extend(self.report_pods(&mut unhealthy, is_rolling_out).await);
        let target = self.target.as_ref()?;
        let keys = target
            .desired
            .iter()
            .map(|one| &one.key)
            .chain(self.inventory.entries.keys());
        let (stale_watches, next_stale) = self.cluster.stale_watches(keys);
        wake_at.extend(next_stale);
        let retries_exhausted = self
            .failures
            .values()
            .all(|failed| failed.failures >= outcome::OBSERVED_ATTEMPTS || !failed.transient);
        let outcome = outcome::outcome(&OutcomeInput {
            application: &self.name,
            assessment,
            prune: &prune,
            unhealthy: &unhealthy,
            held_up: &self.held_up(&assessment.pending),
            notes: &target.notes,
            reported: target.reported,
            wait_for_health: target.options.wait,
            deleting: target.deleting,
            late: Instant::now() >= target.deadline,
            unserved_kinds,
            retries_exhausted,
            stale_watches: &stale_watches,
            unreadable: self.unreadable.as_ref(),
        });
        if outcome.wakes_at_deadline {
            wake_at.push(target.deadline);
        }
        self.status.objects = target.desired.len();
        assessment.report(&mut self.status);
        self.status.unhealthy = assess::health_messages(&unhealthy);
        self.status.problems = outcome.problems;
        self.status.notes = outcome.notes;
        self.status
            .set_state(outcome.state, outcome.reason, outcome.observed);
        if let Some(message) = outcome.confirmation {
            self.report_confirmation(message);
        }
        if let Some((result, message)) = outcome.rollout {
            self.record_outcome(result, message);
        }
        wake_at.into_iter().min()
    }

    /// Records a required confirmation once.
    fn report_confirmation(&mut self, message: Message) {
        if self.logged_confirmation.as_ref() == Some(&message) {
            return;
        }
        let event = Event::warning(EventReason::ConfirmationRequired, message.to_string())
            .revision(self.status.revision.as_deref())
            .hint(message.hint.clone());
        self.record_event(event);
        self.logged_confirmation = Some(message);
    }
}
