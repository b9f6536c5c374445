//! How far an Application has come with one merged commit, from what the reconciler says now and
//! what the cluster has recorded.

use crate::{
    plan::{Outcome, Rollout},
    publish::rollout::Stage,
    reconcile::{State, Status},
};
use jiff::Timestamp;
use std::time::Duration;

/// How a revision relates to a merged commit, for one Application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// It does not contain the commit.
    Before,
    /// It contains the commit, and nothing that the Application renders from has changed since.
    Same,
    /// It contains the commit, and what the Application renders from has changed since.
    Other,
}

/// What is known of an Application on its cluster.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// When the request was merged.
    pub merged: Timestamp,
    /// How the Application is; nothing while the reconciler does not know it.
    pub status: Option<&'a Status>,
    /// What became of its last revisions, the newest first. Those before the newest may be missing;
    /// then it may seem superseded where it was not.
    pub rollouts: &'a [Rollout],
}

/// How far it has come.
///
/// # Errors
/// If a revision cannot be compared.
pub fn stage<E>(
    known: &Known<'_>,
    relation: impl Fn(&str) -> Result<Relation, E>,
) -> Result<Stage, E> {
    let mut newer: Option<&Rollout> = None;
    let mut failed = None;
    for rollout in known.rollouts {
        match relation(&rollout.revision)? {
            // What is older is before it, too.
            Relation::Before => break,
            Relation::Other => newer = Some(rollout),
            Relation::Same => {
                match (rollout.result, newer) {
                    (Outcome::Applied, _) => {
                        return Ok(Stage::RolledOut(since(known.merged, rollout.since)));
                    }
                    (Outcome::Failed | Outcome::Unhealthy, Some(_)) => {
                        return Ok(Stage::Failed(rollout.message.clone()));
                    }
                    (_, Some(newer)) => {
                        return Ok(Stage::Superseded {
                            by: newer.revision.clone(),
                        });
                    }
                    (Outcome::Failed | Outcome::Unhealthy, None) => {
                        failed = Some(rollout.message.clone())
                    }
                    (Outcome::Progressing | Outcome::Superseded, None) => {}
                }
                break;
            }
        }
    }
    if let (Some(newer), None) = (newer, &failed) {
        return Ok(Stage::Superseded {
            by: newer.revision.clone(),
        });
    }
    let Some((status, revision)) = known
        .status
        .and_then(|status| Some((status, status.revision.as_deref()?)))
    else {
        return Ok(failed.map_or_else(|| Stage::Waiting(String::new()), Stage::Failed));
    };
    Ok(match (relation(revision)?, failed) {
        (Relation::Before, None) => Stage::Waiting(format!(
            "it is still at {}",
            revision.get(..10).unwrap_or(revision)
        )),
        (Relation::Other, None) => Stage::Superseded {
            by: revision.to_owned(),
        },
        (Relation::Before | Relation::Other, Some(why)) => Stage::Failed(why),
        (Relation::Same, failed) => live(status, failed),
    })
}

/// By how it is now, at a revision that says the same as the merged commit.
fn live(status: &Status, failed: Option<String>) -> Stage {
    let reason = || status.reason().unwrap_or_default();
    match status.state {
        // It has failed, and nothing newer is known.
        State::Pending | State::Waiting if failed.is_some() => {
            Stage::Failed(failed.unwrap_or_default())
        }
        State::Pending => Stage::Waiting(String::new()),
        State::Waiting | State::Behind => Stage::Waiting(reason()),
        State::Applying => Stage::Applying,
        State::Progressing => Stage::Progressing(reason()),
        // Nothing was noted for this revision, so that nothing was to be done.
        State::InStep | State::Drifted if status.settled && failed.is_none() => Stage::Unchanged,
        State::InStep | State::Drifted => Stage::Applying,
        State::NeedsYes => Stage::NeedsYes(reason()),
        State::Unhealthy => Stage::Failed(failed.unwrap_or_else(reason)),
        // What may pass is tried again a few times first.
        State::Failed if !status.settled => Stage::Waiting(reason()),
        State::Failed => Stage::Failed(failed.unwrap_or_else(reason)),
        State::Suspended => Stage::Suspended,
        State::Orphaned | State::Deleting => {
            Stage::Waiting("it is not declared any more".to_owned())
        }
    }
}

/// The clocks of a forge and of this machine differ: what seems to be earlier took no time.
fn since(merged: Timestamp, done: Timestamp) -> Duration {
    Duration::try_from(done.duration_since(merged)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::Row;
    use std::convert::Infallible;

    const AT: &str = "2026-11-21T12:00:00Z";

    fn at(seconds: i64) -> Timestamp {
        let merged: Timestamp = AT.parse().unwrap();
        merged
            .checked_add(jiff::SignedDuration::from_secs(seconds))
            .unwrap()
    }

    /// Revisions are called after what they are: `b1` before, `s1` the same, `o1` another.
    fn relation(revision: &str) -> Result<Relation, Infallible> {
        Ok(match revision.as_bytes()[0] {
            b'b' => Relation::Before,
            b's' => Relation::Same,
            _ => Relation::Other,
        })
    }

    fn rollout(revision: &str, result: Outcome, seconds: i64) -> Rollout {
        let message = if matches!(result, Outcome::Failed | Outcome::Unhealthy) {
            format!("{revision} is broken")
        } else {
            String::new()
        };
        Rollout {
            revision: revision.to_owned(),
            result,
            since: at(seconds),
            message,
        }
    }

    fn status(revision: Option<&str>, state: State) -> Status {
        let mut status = Status::new("shop/web".parse().unwrap(), "fleet", "east");
        (status.revision, status.state, status.settled) =
            (revision.map(str::to_owned), state, true);
        if !matches!(state, State::InStep | State::Applying | State::Suspended) {
            status.problems = vec![Row::whole("the reason")];
        }
        status
    }

    fn told(status: Option<&Status>, rollouts: &[Rollout]) -> Stage {
        stage(
            &Known {
                merged: at(0),
                status,
                rollouts,
            },
            relation,
        )
        .unwrap()
    }

    #[test]
    fn now_counts_while_nothing_is_recorded_of_it() {
        let why = || "the reason".to_owned();
        let cases: &[(Option<&str>, State, Stage)] = &[
            (None, State::Pending, Stage::Waiting(String::new())),
            (
                Some("b123456789abc"),
                State::InStep,
                Stage::Waiting("it is still at b123456789".to_owned()),
            ),
            (
                Some("b1"),
                State::Failed,
                Stage::Waiting("it is still at b1".to_owned()),
            ),
            (
                Some("o1"),
                State::InStep,
                Stage::Superseded {
                    by: "o1".to_owned(),
                },
            ),
            (
                Some("o1"),
                State::Failed,
                Stage::Superseded {
                    by: "o1".to_owned(),
                },
            ),
            (Some("s1"), State::Pending, Stage::Waiting(String::new())),
            (Some("s1"), State::Waiting, Stage::Waiting(why())),
            (Some("s1"), State::Applying, Stage::Applying),
            (Some("s1"), State::Progressing, Stage::Progressing(why())),
            (Some("s1"), State::InStep, Stage::Unchanged),
            (Some("s1"), State::Drifted, Stage::Unchanged),
            (Some("s1"), State::Unhealthy, Stage::Failed(why())),
            (Some("s1"), State::NeedsYes, Stage::NeedsYes(why())),
            (Some("s1"), State::Failed, Stage::Failed(why())),
            (Some("s1"), State::Suspended, Stage::Suspended),
            (
                Some("s1"),
                State::Orphaned,
                Stage::Waiting("it is not declared any more".to_owned()),
            ),
        ];
        for (revision, state, expected) in cases {
            let status = status(*revision, *state);
            // What became of revisions before it says nothing about it.
            for rollouts in [
                vec![],
                vec![rollout("b1", Outcome::Applied, -100)],
                vec![rollout("b1", Outcome::Failed, -100)],
            ] {
                assert_eq!(
                    told(Some(&status), &rollouts),
                    *expected,
                    "{revision:?} {state:?}"
                );
            }
        }
        assert_eq!(told(None, &[]), Stage::Waiting(String::new()));
        // What is tried again has not failed yet, and what is not settled may still turn.
        for (state, expected) in [
            (State::Failed, Stage::Waiting(why())),
            (State::InStep, Stage::Applying),
        ] {
            let unsettled = Status {
                settled: false,
                ..status(Some("s1"), state)
            };
            assert_eq!(told(Some(&unsettled), &[]), expected);
        }
    }

    #[test]
    fn what_is_recorded_counts_for_good() {
        use Outcome::{Applied, Failed, Progressing, Superseded, Unhealthy};
        let took = |seconds| Stage::RolledOut(Duration::from_secs(seconds));
        let by = |revision: &str| Stage::Superseded {
            by: revision.to_owned(),
        };
        let broken = |revision: &str| Stage::Failed(format!("{revision} is broken"));
        let cases: Vec<(&str, Vec<Rollout>, State, Stage)> = vec![
            (
                "at once",
                vec![rollout("s1", Applied, 42)],
                State::InStep,
                took(42),
            ),
            (
                "the forge's clock is ahead",
                vec![rollout("s1", Applied, -3)],
                State::InStep,
                took(0),
            ),
            (
                "unwell since",
                vec![rollout("s1", Applied, 42)],
                State::Unhealthy,
                took(42),
            ),
            (
                "after a failure",
                vec![rollout("s2", Applied, 90), rollout("s1", Failed, 5)],
                State::InStep,
                took(90),
            ),
            (
                "before another one",
                vec![
                    rollout("o1", Failed, 99),
                    rollout("s1", Applied, 42),
                    rollout("b1", Applied, -9),
                ],
                State::Failed,
                took(42),
            ),
            (
                "failed",
                vec![rollout("s1", Unhealthy, 42)],
                State::Unhealthy,
                broken("s1"),
            ),
            (
                "failed, then another one",
                vec![rollout("o1", Applied, 99), rollout("s1", Failed, 42)],
                State::InStep,
                broken("s1"),
            ),
            (
                "another one came first",
                vec![
                    rollout("o2", Applied, 9),
                    rollout("o1", Failed, 8),
                    rollout("b1", Applied, -9),
                ],
                State::InStep,
                by("o1"),
            ),
            (
                "overtaken",
                vec![rollout("o1", Progressing, 9), rollout("s1", Superseded, 8)],
                State::Progressing,
                by("o1"),
            ),
            (
                "not yet",
                vec![rollout("s1", Progressing, 9)],
                State::Progressing,
                Stage::Progressing("the reason".to_owned()),
            ),
        ];
        for (what, rollouts, state, expected) in cases {
            let status = Status {
                rollout: rollouts.first().cloned(),
                ..status(Some(&rollouts[0].revision), state)
            };
            assert_eq!(told(Some(&status), &rollouts), expected, "{what}");
        }
        // A failure is one whatever the reconciler has not found out again after a restart.
        for (revision, state) in [
            (None, State::Pending),
            (Some("b1"), State::InStep),
            (Some("s1"), State::Pending),
            (Some("s1"), State::Waiting),
        ] {
            let status = Some(status(revision, state));
            assert_eq!(
                told(status.as_ref(), &[rollout("s1", Failed, 5)]),
                broken("s1"),
                "{revision:?} {state}"
            );
        }
        assert_eq!(told(None, &[rollout("s1", Failed, 5)]), broken("s1"));
        assert_eq!(
            told(
                Some(&status(Some("s1"), State::Applying)),
                &[rollout("s1", Failed, 5)]
            ),
            Stage::Applying
        );
    }
}
