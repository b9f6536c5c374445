//! The outcome of a pass, as a table.

use super::*;
use crate::{objects::plan::ApplyReason, reconcile::status::DriftedObject};

/// The owned parts of an [`OutcomeInput`]; by default, everything is applied and healthy.
struct Case {
    assessment: Assessment,
    prune: PruneResult,
    unhealthy: Vec<(ObjectKey, Health)>,
    reported: Option<RolloutOutcome>,
    wait: bool,
    deleting: bool,
    late: bool,
    unserved: bool,
    exhausted: bool,
    stale: BTreeMap<WatchedScope, WatchTrouble>,
    unreadable: Option<Unreadable>,
}

fn case() -> Case {
    Case {
        assessment: Assessment::default(),
        prune: PruneResult::default(),
        unhealthy: Vec::new(),
        reported: None,
        wait: true,
        deleting: false,
        late: false,
        unserved: false,
        exhausted: false,
        stale: BTreeMap::new(),
        unreadable: None,
    }
}

impl Case {
    fn decide(&self) -> Outcome {
        let name: Name = "shop/web".parse().unwrap();
        let held_up = [Message::application("held up")];
        outcome(&OutcomeInput {
            application: &name,
            assessment: &self.assessment,
            prune: &self.prune,
            unhealthy: &self.unhealthy,
            held_up: if self.assessment.pending.is_empty() {
                &[]
            } else {
                &held_up
            },
            notes: &[],
            reported: self.reported,
            wait_for_health: self.wait,
            deleting: self.deleting,
            late: self.late,
            unserved_kinds: self.unserved,
            retries_exhausted: self.exhausted,
            stale_watches: &self.stale,
            unreadable: self.unreadable.as_ref(),
        })
    }
}

fn failing(transient: bool) -> Assessment {
    Assessment {
        failures: vec![Message::application("refused")],
        transient,
        ..Assessment::default()
    }
}

fn waiting() -> Assessment {
    Assessment {
        waits: vec![Message::application("not served")],
        ..Assessment::default()
    }
}

fn pending() -> Assessment {
    Assessment {
        pending: [(0, ApplyReason::New)].into(),
        ..Assessment::default()
    }
}

fn drifted(repaired_at: Option<jiff::Timestamp>) -> Assessment {
    Assessment {
        drifted: vec![DriftedObject {
            object: "ConfigMap shop/a".to_owned(),
            fields: Vec::new(),
            deleted: true,
            repaired_at,
        }],
        ..Assessment::default()
    }
}

fn unhealthy(status: HealthStatus) -> Vec<(ObjectKey, Health)> {
    let key = ObjectKey::new("apps", "Deployment", Some("shop".to_owned()), "web");
    vec![(key, Health::new(status, "0/1"))]
}

fn confirm() -> PruneResult {
    PruneResult {
        confirmation: Some("11 objects would be deleted".to_owned()),
        ..PruneResult::default()
    }
}

fn prune_waits() -> PruneResult {
    PruneResult {
        waits: vec![Message::application("it is being deleted")],
        ..PruneResult::default()
    }
}

fn prune_fails() -> PruneResult {
    PruneResult {
        failures: vec![Message::application("forbidden")],
        ..PruneResult::default()
    }
}

/// `state reason observed rollout`, where the rollout is empty if none is recorded.
fn line(outcome: &Outcome) -> String {
    let observed = if outcome.observed { "observed" } else { "open" };
    let rollout = match &outcome.rollout {
        None => String::new(),
        Some((result, message)) if message.is_empty() => format!(" {result}"),
        Some((result, message)) => format!(" {result}: {message}"),
    };
    format!("{} {} {observed}{rollout}", outcome.state, outcome.reason)
}

#[test]
fn outcome_applied_and_health_table() {
    use HealthStatus::{Failed, InProgress};
    let web = "Deployment shop/web";
    let cases: Vec<(Case, String)> = vec![
        (case(), "synced Synced observed applied".to_owned()),
        (
            Case {
                unhealthy: unhealthy(InProgress),
                ..case()
            },
            format!("progressing Progressing open progressing: {web}: 0/1"),
        ),
        (
            Case {
                unhealthy: unhealthy(InProgress),
                wait: false,
                ..case()
            },
            "synced Synced observed applied".to_owned(),
        ),
        (
            Case {
                unhealthy: unhealthy(InProgress),
                late: true,
                ..case()
            },
            format!(
                "degraded HealthDegraded observed degraded: {web} did not become healthy in time: 0/1"
            ),
        ),
        (
            Case {
                unhealthy: unhealthy(Failed),
                ..case()
            },
            format!("degraded HealthDegraded observed degraded: {web} did not become healthy: 0/1"),
        ),
        // Health that degrades after the rollout does not change its result.
        (
            Case {
                unhealthy: unhealthy(Failed),
                reported: Some(RolloutOutcome::Applied),
                ..case()
            },
            "synced Synced observed applied".to_owned(),
        ),
        (
            Case {
                unhealthy: unhealthy(InProgress),
                reported: Some(RolloutOutcome::Degraded),
                ..case()
            },
            "degraded HealthDegraded observed".to_owned(),
        ),
        (
            Case {
                reported: Some(RolloutOutcome::Degraded),
                ..case()
            },
            "synced Synced observed applied".to_owned(),
        ),
        (
            Case {
                assessment: drifted(None),
                ..case()
            },
            "drifted DriftReported observed applied".to_owned(),
        ),
        (
            Case {
                assessment: drifted(Some(jiff::Timestamp::UNIX_EPOCH)),
                ..case()
            },
            "drifted DriftRepairDelayed observed applied".to_owned(),
        ),
    ];
    for (case, expected) in cases {
        assert_eq!(line(&case.decide()), expected);
    }
}

#[test]
fn outcome_failed_and_waiting_table() {
    let cases: Vec<(Case, &str)> = vec![
        (
            Case {
                assessment: failing(false),
                ..case()
            },
            "failed SyncFailed observed failed: refused",
        ),
        (
            Case {
                assessment: failing(true),
                ..case()
            },
            "failed SyncFailed open failed: refused",
        ),
        (
            Case {
                assessment: failing(true),
                exhausted: true,
                ..case()
            },
            "failed SyncFailed observed failed: refused",
        ),
        (
            Case {
                prune: prune_fails(),
                ..case()
            },
            "failed PruneFailed observed failed: forbidden",
        ),
        (
            Case {
                assessment: waiting(),
                unserved: true,
                ..case()
            },
            "waiting KindNotServed open",
        ),
        (
            Case {
                assessment: waiting(),
                late: true,
                ..case()
            },
            "waiting SyncPending observed failed: not served",
        ),
        (
            Case {
                assessment: pending(),
                ..case()
            },
            "waiting SyncPending open",
        ),
        (
            Case {
                assessment: pending(),
                late: true,
                ..case()
            },
            "waiting SyncPending observed failed: held up",
        ),
    ];
    for (case, expected) in cases {
        let outcome = case.decide();
        assert_eq!(line(&outcome), expected);
        let is_waiting = outcome.state == ApplicationState::Waiting;
        assert_eq!(outcome.wakes_at_deadline, is_waiting && !case.late);
    }
}

#[test]
fn outcome_prune_and_deletion_table() {
    let cases: Vec<(Case, &str)> = vec![
        (
            Case {
                prune: confirm(),
                ..case()
            },
            "confirmationRequired PruneBlocked observed",
        ),
        (
            Case {
                prune: prune_waits(),
                ..case()
            },
            "progressing PrunePending open",
        ),
        (
            Case {
                prune: prune_waits(),
                reported: Some(RolloutOutcome::Applied),
                ..case()
            },
            "synced PrunePending open",
        ),
        (
            Case {
                deleting: true,
                prune: prune_waits(),
                ..case()
            },
            "deleting Deleting open",
        ),
        (
            Case {
                deleting: true,
                prune: confirm(),
                ..case()
            },
            "confirmationRequired PruneBlocked observed",
        ),
    ];
    for (case, expected) in cases {
        let outcome = case.decide();
        assert_eq!(line(&outcome), expected);
        let is_asked = outcome.state == ApplicationState::ConfirmationRequired;
        assert_eq!(outcome.confirmation.is_some(), is_asked);
    }
    let asked = Case {
        prune: confirm(),
        ..case()
    };
    assert_eq!(
        asked.decide().problems[0].to_string(),
        "confirmation required: 11 objects would be deleted"
    );
}

#[test]
fn outcome_unreadable_or_stale_overrides() {
    let unreadable = || {
        Some(Unreadable {
            reason: Reason::RenderFailed,
            message: Message::application("not YAML"),
        })
    };
    let broken = Case {
        unreadable: unreadable(),
        assessment: waiting(),
        ..case()
    };
    let outcome = broken.decide();
    assert_eq!(line(&outcome), "failed RenderFailed observed");
    assert_eq!(outcome.problems[0].message, "not YAML");
    for (transient, expected) in [
        (true, "waiting WatchFailed observed applied"),
        (false, "failed WatchFailed observed applied"),
    ] {
        let kind = WatchedScope {
            group: "apps".to_owned(),
            kind: "Deployment".to_owned(),
            namespace: None,
        };
        let stale = Case {
            stale: [(kind, WatchTrouble::new("no route", transient))].into(),
            ..case()
        };
        let outcome = stale.decide();
        assert_eq!(line(&outcome), expected);
        assert_eq!(
            outcome.problems[0].message,
            "Deployment cannot be watched: no route"
        );
    }
}
