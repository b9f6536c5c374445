//! What becomes of a revision: whether everything is there and well, and if not, why; and when to
//! look again.

use super::{AppReconciler, apply::PruneResult, assess::Assessment, short, unwatched};
use crate::objects::{
    health::{self, Health, PodProblem},
    object::ObjectKey,
    plan::RolloutOutcome,
};
use crate::reconcile::status::{ApplicationState, Message};
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;
use tracing::warn;

/// How often pods are asked why a workload does not come up, while it is waited for: at first soon,
/// then less often.
const ASK: [Duration; 4] = [
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// Reasons shown for one workload.
const SHOWN: usize = 3;

/// Why workloads do not come up, by what their pods say.
#[derive(Debug, Default)]
pub(crate) struct WaitReasons {
    known: HashMap<ObjectKey, OutcomeInputs>,
}

#[derive(Debug)]
struct OutcomeInputs {
    reasons: Vec<PodProblem>,
    asked: usize,
    next: Instant,
}

impl WaitReasons {
    /// Another revision has other reasons.
    pub fn forget(&mut self) {
        self.known.clear();
    }
}

impl AppReconciler {
    /// Says how things are, and when to look again by the clock.
    pub(crate) async fn conclude(
        &mut self,
        look: &Assessment,
        pruned: PruneResult,
    ) -> Option<Instant> {
        let mut wake = look.wake;
        let mut at =
            |time: Instant| wake = Some(wake.map_or(time, |known: Instant| known.min(time)));
        if pruned.needs_yes.is_none() {
            self.asked = None;
        }
        if !pruned.failures.is_empty() {
            self.deleting.clear();
            self.failing
                .values()
                .filter(|failing| failing.until > Instant::now())
                .for_each(|failing| at(failing.until));
        }
        self.unknown_kinds()
            .into_iter()
            .chain(pruned.wake)
            .for_each(&mut at);
        let (told, deadline, waits_for_health, deleting) = match &self.current {
            Some(current) => (
                current.told,
                current.deadline,
                current.terms.wait,
                current.deleting,
            ),
            None => return wake,
        };
        // What is unwell is asked about while somebody waits for it, and once when it turns.
        let settling =
            told != Some(RolloutOutcome::Applied) && told != Some(RolloutOutcome::Degraded);
        let mut unhealthy = look.unhealthy.clone();
        if settling
            || unhealthy
                .iter()
                .any(|(_, health)| health.status == health::HealthStatus::Failed)
        {
            for (key, health) in &mut unhealthy {
                if let Some(time) = self.ask_pods(key, health).await.filter(|_| settling) {
                    at(time);
                }
            }
        }
        look.tell(&mut self.status);
        let current = self.current.as_ref()?;
        self.status.objects = current.desired.len();
        self.status.unhealthy = unhealthy
            .iter()
            .map(|(key, health)| {
                Message::object(key, format!("{}: {}", health.status, health.message))
            })
            .collect();
        self.status.problems.extend(pruned.failures.iter().cloned());
        self.status.notes = current
            .notes
            .iter()
            .chain(&look.notes)
            .cloned()
            .chain(pruned.notes)
            .collect();
        self.status.observed = true;
        let failed = look
            .failures
            .first()
            .or(pruned.failures.first())
            .map(ToString::to_string);
        let late = Instant::now() >= deadline;
        let mut outcome = None;
        self.status.state = if deleting {
            self.status.observed = false;
            self.status.problems.extend(pruned.waits);
            match pruned.needs_yes {
                Some(why) => {
                    self.needs_yes(&why);
                    self.status.observed = true;
                    ApplicationState::ConfirmationRequired
                }
                None => ApplicationState::Deleting,
            }
        } else if let Some(message) = failed {
            outcome = Some((RolloutOutcome::Failed, message));
            // Something that may pass is tried a few times before that counts as an end.
            self.status.observed = !look.passing
                || self
                    .failing
                    .values()
                    .all(|failing| failing.times >= 3 || !failing.passing);
            ApplicationState::Failed
        } else if !look.waits.is_empty() || !look.todo.is_empty() {
            let held_up = self.held_up(&look.todo);
            self.status.problems.extend(held_up.iter().cloned());
            if late {
                let first = look.waits.iter().chain(&held_up).next();
                let message = first.map_or_else(
                    || "something is still to be applied".to_owned(),
                    ToString::to_string,
                );
                outcome = Some((RolloutOutcome::Failed, message));
            } else {
                at(deadline);
            }
            self.status.observed = late;
            self.status.problems.extend(pruned.waits);
            ApplicationState::Waiting
        } else if let Some(why) = pruned.needs_yes {
            self.needs_yes(&why);
            ApplicationState::ConfirmationRequired
        } else if !pruned.waits.is_empty() {
            self.status.observed = false;
            self.status.notes.extend(pruned.waits);
            if settling {
                ApplicationState::Progressing
            } else {
                ApplicationState::Synced
            }
        } else if waits_for_health && settling && !unhealthy.is_empty() {
            let broken = unhealthy
                .iter()
                .find(|(_, health)| health.status == health::HealthStatus::Failed);
            let (key, health) = broken.unwrap_or(&unhealthy[0]);
            if broken.is_some() || late {
                let waited = if broken.is_none() { " in time" } else { "" };
                outcome = Some((
                    RolloutOutcome::Degraded,
                    format!("{key} did not become healthy{waited}: {}", health.message),
                ));
                ApplicationState::Degraded
            } else {
                at(deadline);
                self.status.observed = false;
                outcome = Some((
                    RolloutOutcome::Progressing,
                    format!("{key}: {}", health.message),
                ));
                ApplicationState::Progressing
            }
        } else if !look.drifted.is_empty() {
            // What somebody changed since is no failure of the revision.
            outcome = Some((RolloutOutcome::Applied, String::new()));
            ApplicationState::Drifted
        } else if told == Some(RolloutOutcome::Degraded) && !unhealthy.is_empty() {
            ApplicationState::Degraded
        } else {
            outcome = Some((RolloutOutcome::Applied, String::new()));
            ApplicationState::Synced
        };
        let kinds = self
            .current
            .iter()
            .flat_map(|current| current.desired.iter().map(|one| &one.key))
            .chain(self.inventory.entries.keys());
        let (blind, next) = self.hub.blind(kinds);
        next.into_iter().for_each(&mut at);
        if !blind.is_empty() {
            self.status.problems.extend(
                blind
                    .iter()
                    .map(|((_, kind), trouble)| unwatched(kind, trouble)),
            );
            if matches!(
                self.status.state,
                ApplicationState::Synced
                    | ApplicationState::Progressing
                    | ApplicationState::Drifted
            ) {
                self.status.state = if blind.values().all(|trouble| trouble.passing) {
                    ApplicationState::Waiting
                } else {
                    ApplicationState::Failed
                };
            }
        }
        if let Some(broken) = self.broken().cloned() {
            self.status.problems.insert(0, broken);
            (self.status.state, self.status.observed) = (ApplicationState::Failed, true);
        }
        if let Some((outcome, message)) = outcome {
            self.outcome(outcome, message);
        }
        wake
    }

    /// Says what somebody must say yes to; once in the log.
    fn needs_yes(&mut self, why: &str) {
        let row = yes(&self.name, why);
        if self.asked.as_ref() != Some(&row) {
            let (application, cluster) = (&self.name, self.hub.cluster.name());
            warn!(%application, cluster, revision = self.status.revision.as_deref().map(short), hint = row.hint, "{row}");
            self.asked = Some(row.clone());
        }
        self.status.problems.push(row);
    }

    /// Adds what the pods of a workload say to its health; gives the time to ask again. Trouble
    /// with asking is no trouble of the workload.
    async fn ask_pods(&mut self, key: &ObjectKey, health: &mut Health) -> Option<Instant> {
        let one = self
            .current
            .as_ref()?
            .desired
            .iter()
            .find(|one| one.key == *key)?;
        let (namespace, selector) = health::pod_selector(&one.manifest.object().ok()?)?;
        let now = Instant::now();
        let due = match self.reasons.known.get(key) {
            None => {
                // A workload that has just been applied is on its way.
                let next = now
                    + if health.status == health::HealthStatus::Failed {
                        Duration::ZERO
                    } else {
                        ASK[0]
                    };
                self.reasons.known.insert(
                    key.clone(),
                    OutcomeInputs {
                        reasons: Vec::new(),
                        asked: 0,
                        next,
                    },
                );
                next <= now
            }
            Some(known) => known.next <= now,
        };
        if due {
            let pods = self.hub.cluster.pods(&namespace, &selector).await;
            let known = self.reasons.known.get_mut(key)?;
            known.asked += 1;
            known.next = now + ASK[known.asked.min(ASK.len() - 1)];
            if let Ok(pods) = pods {
                known.reasons = health::pod_problems(&pods);
            }
        }
        let known = self.reasons.known.get(key)?;
        let mut said: Vec<String> = known
            .reasons
            .iter()
            .take(SHOWN)
            .map(ToString::to_string)
            .collect();
        if known.reasons.len() > SHOWN {
            said.push(format!("and {} more", known.reasons.len() - SHOWN));
        }
        if !said.is_empty() {
            *health = Health::new(
                health.status,
                format!("{}; {}", health.message, said.join("; ")),
            );
        }
        Some(known.next)
    }
}

/// What needs a yes, and how to say it.
fn yes(name: &crate::core::name::Name, why: &str) -> Message {
    Message {
        hint: Some(format!(
            "If that is meant: tagboat sync {name} --confirm-prune"
        )),
        ..Message::application(format!("{why}: somebody must say yes first"))
    }
}
