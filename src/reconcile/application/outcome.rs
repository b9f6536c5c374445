//! The outcome of a pass: state, reason, problems, and what becomes of the rollout. Pure.

use super::{Unreadable, assess::Assessment, prune::PruneResult, watch_failure};
use crate::{
    core::name::Name,
    objects::{
        health::{Health, HealthStatus},
        object::ObjectKey,
        plan::RolloutOutcome,
    },
    reconcile::{
        Reason,
        cluster_state::{WatchTrouble, WatchedScope},
        status::{ApplicationState, Message},
    },
};
use std::collections::BTreeMap;

/// Attempts after which a transient failure counts as the outcome of a pass.
pub(super) const OBSERVED_ATTEMPTS: u32 = 3;

/// Everything that the outcome of a pass depends on.
pub(crate) struct OutcomeInput<'a> {
    pub application: &'a Name,
    pub assessment: &'a Assessment,
    pub prune: &'a PruneResult,
    /// Unhealthy objects, with what their pods report.
    pub unhealthy: &'a [(ObjectKey, Health)],
    /// Pending objects that wait for a dependency.
    pub held_up: &'a [Message],
    /// Notes of the rendering.
    pub notes: &'a [Message],
    /// The outcome reported last for the same manifests.
    pub reported: Option<RolloutOutcome>,
    pub wait_for_health: bool,
    /// Whether the Application was removed and its objects are being deleted.
    pub deleting: bool,
    /// Whether the deadline of the rollout has passed.
    pub late: bool,
    /// Whether the cluster does not serve all desired kinds.
    pub unserved_kinds: bool,
    /// Whether every transient failure was retried [`OBSERVED_ATTEMPTS`] times.
    pub retries_exhausted: bool,
    /// Kinds whose watch fails, so that their objects may be stale.
    pub stale_watches: &'a BTreeMap<WatchedScope, WatchTrouble>,
    pub unreadable: Option<&'a Unreadable>,
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub state: ApplicationState,
    pub reason: Reason,
    pub observed: bool,
    pub problems: Vec<Message>,
    pub notes: Vec<Message>,
    /// What the user must confirm.
    pub confirmation: Option<Message>,
    /// The result to record for the revision, with its message.
    pub rollout: Option<(RolloutOutcome, String)>,
    /// Whether the deadline of the rollout matters, so that the task must wake then.
    pub wakes_at_deadline: bool,
}

impl Outcome {
    fn set(&mut self, state: ApplicationState, reason: Reason) {
        self.state = state;
        self.reason = reason;
    }

    fn require_confirmation(&mut self, application: &Name, why: &str) {
        self.set(ApplicationState::ConfirmationRequired, Reason::PruneBlocked);
        let message = confirmation_message(application, why);
        self.problems.push(message.clone());
        self.confirmation = Some(message);
    }
}

/// Returns what the user must confirm, and how.
pub(super) fn confirmation_message(application: &Name, why: &str) -> Message {
    Message::application(format!("confirmation required: {why}")).with_hint(Some(format!(
        "If this is intended, run `tagboat sync {application} --confirm-prune`."
    )))
}

/// Decides the outcome of a pass.
pub(crate) fn outcome(input: &OutcomeInput<'_>) -> Outcome {
    let (assessment, prune) = (input.assessment, input.prune);
    let problems = assessment
        .failures
        .iter()
        .chain(&assessment.waits)
        .chain(&prune.failures);
    let notes = input
        .notes
        .iter()
        .chain(&assessment.notes)
        .chain(&prune.notes);
    let mut outcome = Outcome {
        state: ApplicationState::Synced,
        reason: Reason::Synced,
        observed: true,
        problems: problems.cloned().collect(),
        notes: notes.cloned().collect(),
        confirmation: None,
        rollout: None,
        wakes_at_deadline: false,
    };
    if input.deleting {
        deleting(input, &mut outcome);
    } else if !assessment.failures.is_empty() || !prune.failures.is_empty() {
        failed(input, &mut outcome);
    } else if !assessment.waits.is_empty() || !assessment.pending.is_empty() {
        waiting(input, &mut outcome);
    } else if let Some(why) = &prune.confirmation {
        outcome.require_confirmation(input.application, why);
    } else if !prune.waits.is_empty() {
        outcome.observed = false;
        outcome.notes.extend(prune.waits.iter().cloned());
        let state = if input.is_rolling_out() {
            ApplicationState::Progressing
        } else {
            ApplicationState::Synced
        };
        outcome.set(state, Reason::PrunePending);
    } else {
        applied(input, &mut outcome);
        hold_deletions(input, &mut outcome);
    }
    overlay_watches(input, &mut outcome);
    if let Some(Unreadable { reason, message }) = input.unreadable {
        outcome.problems.insert(0, message.clone());
        outcome.set(ApplicationState::Failed, *reason);
        outcome.observed = true;
    }
    outcome
}

impl OutcomeInput<'_> {
    /// Returns whether the rollout of the manifests has not ended.
    pub(super) fn is_rolling_out(&self) -> bool {
        is_rolling_out(self.reported)
    }
}

pub(super) fn is_rolling_out(reported: Option<RolloutOutcome>) -> bool {
    !matches!(
        reported,
        Some(RolloutOutcome::Applied | RolloutOutcome::Degraded)
    )
}

fn deleting(input: &OutcomeInput<'_>, outcome: &mut Outcome) {
    outcome.problems.extend(input.prune.waits.iter().cloned());
    if let Some(why) = &input.prune.confirmation {
        outcome.require_confirmation(input.application, why);
    } else {
        outcome.set(ApplicationState::Deleting, Reason::Deleting);
        outcome.observed = false;
    }
}

fn failed(input: &OutcomeInput<'_>, outcome: &mut Outcome) {
    let reason = if input.assessment.failures.is_empty() {
        Reason::PruneFailed
    } else {
        Reason::SyncFailed
    };
    outcome.set(ApplicationState::Failed, reason);
    let mut failures = input
        .assessment
        .failures
        .iter()
        .chain(&input.prune.failures);
    let first = failures.next().map(ToString::to_string);
    outcome.rollout = Some((RolloutOutcome::Failed, first.unwrap_or_default()));
    outcome.observed = !input.assessment.transient || input.retries_exhausted;
}

fn waiting(input: &OutcomeInput<'_>, outcome: &mut Outcome) {
    let reason = if input.unserved_kinds {
        Reason::KindNotServed
    } else {
        Reason::SyncPending
    };
    outcome.set(ApplicationState::Waiting, reason);
    outcome.problems.extend(input.held_up.iter().cloned());
    if input.late {
        let first = input.assessment.waits.iter().chain(input.held_up).next();
        let message = first.map_or_else(
            || "some objects are still to be applied".to_owned(),
            ToString::to_string,
        );
        outcome.rollout = Some((RolloutOutcome::Failed, message));
    }
    outcome.wakes_at_deadline = !input.late;
    outcome.observed = input.late;
    outcome.problems.extend(input.prune.waits.iter().cloned());
}

/// Decides the outcome when every object is applied and nothing is left to delete.
fn applied(input: &OutcomeInput<'_>, outcome: &mut Outcome) {
    let unhealthy = input.unhealthy;
    if input.wait_for_health && input.is_rolling_out() && !unhealthy.is_empty() {
        rollout_health(input, outcome);
        return;
    }
    if let Some(first) = input.assessment.drifted.first() {
        let reason = if first.repaired_at.is_some() {
            Reason::DriftRepairDelayed
        } else {
            Reason::DriftReported
        };
        outcome.set(ApplicationState::Drifted, reason);
        // A later change of live objects is no failure of the revision.
        outcome.rollout = Some((RolloutOutcome::Applied, String::new()));
    } else if input.reported == Some(RolloutOutcome::Degraded) && !unhealthy.is_empty() {
        outcome.set(ApplicationState::Degraded, Reason::HealthDegraded);
    } else {
        outcome.rollout = Some((RolloutOutcome::Applied, String::new()));
    }
}

/// Waits for the health of workloads that keep objects from being deleted, until the deadline.
fn hold_deletions(input: &OutcomeInput<'_>, outcome: &mut Outcome) {
    let held = &input.prune.held;
    outcome.notes.extend(held.iter().cloned());
    if !held.is_empty() && !input.late && outcome.state == ApplicationState::Synced {
        outcome.set(ApplicationState::Progressing, Reason::Progressing);
        outcome.observed = false;
        outcome.wakes_at_deadline = true;
    }
}

/// Decides the outcome of a rollout that waits for health.
fn rollout_health(input: &OutcomeInput<'_>, outcome: &mut Outcome) {
    let failed = input
        .unhealthy
        .iter()
        .find(|(_, health)| health.status == HealthStatus::Failed);
    let Some((key, health)) = failed.or(input.unhealthy.first()) else {
        return;
    };
    let message = &health.message;
    if failed.is_none() && !input.late {
        outcome.set(ApplicationState::Progressing, Reason::Progressing);
        outcome.observed = false;
        outcome.wakes_at_deadline = true;
        outcome.rollout = Some((RolloutOutcome::Progressing, format!("{key}: {message}")));
        return;
    }
    outcome.set(ApplicationState::Degraded, Reason::HealthDegraded);
    let in_time = if failed.is_none() { " in time" } else { "" };
    outcome.rollout = Some((
        RolloutOutcome::Degraded,
        format!("{key} did not become healthy{in_time}: {message}"),
    ));
}

/// Downgrades an outcome that rests on objects which may be stale.
fn overlay_watches(input: &OutcomeInput<'_>, outcome: &mut Outcome) {
    if input.stale_watches.is_empty() {
        return;
    }
    let stale = input.stale_watches.iter();
    outcome
        .problems
        .extend(stale.map(|(scope, trouble)| watch_failure(&scope.kind, trouble)));
    let rests_on_watches = matches!(
        outcome.state,
        ApplicationState::Synced | ApplicationState::Progressing | ApplicationState::Drifted
    );
    if rests_on_watches {
        let transient = input
            .stale_watches
            .values()
            .all(|trouble| trouble.transient);
        let state = if transient {
            ApplicationState::Waiting
        } else {
            ApplicationState::Failed
        };
        outcome.set(state, Reason::WatchFailed);
    }
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
