//! The stage of an Application's rollout of one merge commit, from its status and its record.

use crate::{
    core::text::short_id,
    objects::plan::{Rollout, RolloutOutcome},
    reconcile::{ApplicationState, ApplicationStatus},
    review::rollout::RolloutStage,
};
use jiff::Timestamp;
use std::time::Duration;

/// The relation of a revision to a merge commit, for one Application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RevisionRelation {
    /// The revision does not contain the commit.
    Before,
    /// The revision contains the commit, and the Application renders from the same content.
    Same,
    /// The revision contains the commit, but the Application renders from other content.
    Other,
}

/// What is known of an Application on its cluster.
#[derive(Debug, Clone, Copy)]
pub struct StageInput<'a> {
    /// When the pull request was merged.
    pub merged: Timestamp,
    /// The status; `None` if the reconciler has none.
    pub status: Option<&'a ApplicationStatus>,
    /// The last rollouts, newest first. If only the newest is known, the stage may seem superseded
    /// although it was not.
    pub rollouts: &'a [Rollout],
}

/// Returns the stage of a rollout.
///
/// # Errors
/// If a revision cannot be compared.
pub fn stage<E>(
    known: &StageInput<'_>,
    relation: impl Fn(&str) -> Result<RevisionRelation, E>,
) -> Result<RolloutStage, E> {
    let mut newer: Option<&Rollout> = None;
    let mut failed = None;
    for rollout in known.rollouts {
        match relation(&rollout.revision)? {
            // Older revisions are before it too.
            RevisionRelation::Before => break,
            RevisionRelation::Other => newer = Some(rollout),
            RevisionRelation::Same => {
                match (rollout.result, newer) {
                    (RolloutOutcome::Applied, _) => {
                        return Ok(RolloutStage::RolledOut(since(known.merged, rollout.since)));
                    }
                    (RolloutOutcome::Failed | RolloutOutcome::Degraded, Some(_)) => {
                        return Ok(RolloutStage::Failed(rollout.message.clone()));
                    }
                    (_, Some(newer)) => {
                        return Ok(RolloutStage::Superseded {
                            by: newer.revision.clone(),
                        });
                    }
                    (RolloutOutcome::Failed | RolloutOutcome::Degraded, None) => {
                        failed = Some(rollout.message.clone())
                    }
                    (RolloutOutcome::Progressing | RolloutOutcome::Superseded, None) => {}
                }
                break;
            }
        }
    }
    if let (Some(newer), None) = (newer, &failed) {
        return Ok(RolloutStage::Superseded {
            by: newer.revision.clone(),
        });
    }
    let Some((status, revision)) = known
        .status
        .and_then(|status| Some((status, status.revision.as_deref()?)))
    else {
        return Ok(failed.map_or_else(
            || RolloutStage::Waiting(String::new()),
            RolloutStage::Failed,
        ));
    };
    Ok(match (relation(revision)?, failed) {
        (RevisionRelation::Before, None) => {
            RolloutStage::Waiting(format!("it is still at {}", short_id(revision)))
        }
        (RevisionRelation::Other, None) => RolloutStage::Superseded {
            by: revision.to_owned(),
        },
        (RevisionRelation::Before | RevisionRelation::Other, Some(why)) => {
            RolloutStage::Failed(why)
        }
        (RevisionRelation::Same, failed) => live(status, failed),
    })
}

/// Returns the stage by the current status, at a revision with the same content.
fn live(status: &ApplicationStatus, failed: Option<String>) -> RolloutStage {
    let reason = || status.summary().unwrap_or_default();
    match status.state {
        // It has failed, and nothing newer is known.
        ApplicationState::Pending | ApplicationState::Waiting if failed.is_some() => {
            RolloutStage::Failed(failed.unwrap_or_default())
        }
        ApplicationState::Pending => RolloutStage::Waiting(String::new()),
        ApplicationState::Waiting | ApplicationState::OutOfSync => RolloutStage::Waiting(reason()),
        ApplicationState::Applying => RolloutStage::Applying,
        ApplicationState::Progressing => RolloutStage::Progressing(reason()),
        // Nothing was noted for this revision, so that nothing was to be done.
        ApplicationState::Synced | ApplicationState::Drifted
            if status.observed && failed.is_none() =>
        {
            RolloutStage::Unchanged
        }
        ApplicationState::Synced | ApplicationState::Drifted => RolloutStage::Applying,
        ApplicationState::ConfirmationRequired => RolloutStage::ConfirmationRequired(reason()),
        ApplicationState::Degraded => RolloutStage::Failed(failed.unwrap_or_else(reason)),
        // A transient failure is retried a few times first.
        ApplicationState::Failed if !status.observed => RolloutStage::Waiting(reason()),
        ApplicationState::Failed => RolloutStage::Failed(failed.unwrap_or_else(reason)),
        ApplicationState::Suspended => RolloutStage::Suspended,
        ApplicationState::Orphaned | ApplicationState::Deleting => {
            RolloutStage::Waiting("it is no longer declared".to_owned())
        }
    }
}

/// Returns the duration of a rollout; zero if the forge's clock is ahead.
fn since(merged: Timestamp, done: Timestamp) -> Duration {
    Duration::try_from(done.duration_since(merged)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::Message;
    use std::convert::Infallible;

    const AT: &str = "2026-11-21T12:00:00Z";

    fn at(seconds: i64) -> Timestamp {
        let merged: Timestamp = AT.parse().unwrap();
        merged
            .checked_add(jiff::SignedDuration::from_secs(seconds))
            .unwrap()
    }

    /// Revisions are named after their relation: `b1` before, `s1` the same, `o1` another.
    fn relation(revision: &str) -> Result<RevisionRelation, Infallible> {
        Ok(match revision.as_bytes()[0] {
            b'b' => RevisionRelation::Before,
            b's' => RevisionRelation::Same,
            _ => RevisionRelation::Other,
        })
    }

    fn rollout(revision: &str, result: RolloutOutcome, seconds: i64) -> Rollout {
        let message = if matches!(result, RolloutOutcome::Failed | RolloutOutcome::Degraded) {
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

    fn status(revision: Option<&str>, state: ApplicationState) -> ApplicationStatus {
        let mut status = ApplicationStatus::new("shop/web".parse().unwrap(), "fleet", "east");
        (status.revision, status.state, status.observed) =
            (revision.map(str::to_owned), state, true);
        if !matches!(
            state,
            ApplicationState::Synced | ApplicationState::Applying | ApplicationState::Suspended
        ) {
            status.problems = vec![Message::application("the reason")];
        }
        status
    }

    fn stage_of(status: Option<&ApplicationStatus>, rollouts: &[Rollout]) -> RolloutStage {
        stage(
            &StageInput {
                merged: at(0),
                status,
                rollouts,
            },
            relation,
        )
        .unwrap()
    }

    #[test]
    fn stage_without_record_follows_status() {
        let why = || "the reason".to_owned();
        let cases: &[(Option<&str>, ApplicationState, RolloutStage)] = &[
            (
                None,
                ApplicationState::Pending,
                RolloutStage::Waiting(String::new()),
            ),
            (
                Some("b123456789abc"),
                ApplicationState::Synced,
                RolloutStage::Waiting("it is still at b123456789".to_owned()),
            ),
            (
                Some("b1"),
                ApplicationState::Failed,
                RolloutStage::Waiting("it is still at b1".to_owned()),
            ),
            (
                Some("o1"),
                ApplicationState::Synced,
                RolloutStage::Superseded {
                    by: "o1".to_owned(),
                },
            ),
            (
                Some("o1"),
                ApplicationState::Failed,
                RolloutStage::Superseded {
                    by: "o1".to_owned(),
                },
            ),
            (
                Some("s1"),
                ApplicationState::Pending,
                RolloutStage::Waiting(String::new()),
            ),
            (
                Some("s1"),
                ApplicationState::Waiting,
                RolloutStage::Waiting(why()),
            ),
            (
                Some("s1"),
                ApplicationState::Applying,
                RolloutStage::Applying,
            ),
            (
                Some("s1"),
                ApplicationState::Progressing,
                RolloutStage::Progressing(why()),
            ),
            (
                Some("s1"),
                ApplicationState::Synced,
                RolloutStage::Unchanged,
            ),
            (
                Some("s1"),
                ApplicationState::Drifted,
                RolloutStage::Unchanged,
            ),
            (
                Some("s1"),
                ApplicationState::Degraded,
                RolloutStage::Failed(why()),
            ),
            (
                Some("s1"),
                ApplicationState::ConfirmationRequired,
                RolloutStage::ConfirmationRequired(why()),
            ),
            (
                Some("s1"),
                ApplicationState::Failed,
                RolloutStage::Failed(why()),
            ),
            (
                Some("s1"),
                ApplicationState::Suspended,
                RolloutStage::Suspended,
            ),
            (
                Some("s1"),
                ApplicationState::Orphaned,
                RolloutStage::Waiting("it is no longer declared".to_owned()),
            ),
        ];
        for (revision, state, expected) in cases {
            let status = status(*revision, *state);
            // Earlier rollouts do not matter.
            for rollouts in [
                vec![],
                vec![rollout("b1", RolloutOutcome::Applied, -100)],
                vec![rollout("b1", RolloutOutcome::Failed, -100)],
            ] {
                assert_eq!(
                    stage_of(Some(&status), &rollouts),
                    *expected,
                    "{revision:?} {state:?}"
                );
            }
        }
        assert_eq!(stage_of(None, &[]), RolloutStage::Waiting(String::new()));
        // A failure that is retried is not final, nor is a status that is not observed.
        for (state, expected) in [
            (ApplicationState::Failed, RolloutStage::Waiting(why())),
            (ApplicationState::Synced, RolloutStage::Applying),
        ] {
            let unsettled = ApplicationStatus {
                observed: false,
                ..status(Some("s1"), state)
            };
            assert_eq!(stage_of(Some(&unsettled), &[]), expected);
        }
    }

    #[test]
    fn stage_recorded_outcome_is_final() {
        use RolloutOutcome::{Applied, Degraded, Failed, Progressing, Superseded};
        let took = |seconds| RolloutStage::RolledOut(Duration::from_secs(seconds));
        let by = |revision: &str| RolloutStage::Superseded {
            by: revision.to_owned(),
        };
        let broken = |revision: &str| RolloutStage::Failed(format!("{revision} is broken"));
        let cases: Vec<(&str, Vec<Rollout>, ApplicationState, RolloutStage)> = vec![
            (
                "at once",
                vec![rollout("s1", Applied, 42)],
                ApplicationState::Synced,
                took(42),
            ),
            (
                "the forge's clock is ahead",
                vec![rollout("s1", Applied, -3)],
                ApplicationState::Synced,
                took(0),
            ),
            (
                "unwell since",
                vec![rollout("s1", Applied, 42)],
                ApplicationState::Degraded,
                took(42),
            ),
            (
                "after a failure",
                vec![rollout("s2", Applied, 90), rollout("s1", Failed, 5)],
                ApplicationState::Synced,
                took(90),
            ),
            (
                "before another one",
                vec![
                    rollout("o1", Failed, 99),
                    rollout("s1", Applied, 42),
                    rollout("b1", Applied, -9),
                ],
                ApplicationState::Failed,
                took(42),
            ),
            (
                "failed",
                vec![rollout("s1", Degraded, 42)],
                ApplicationState::Degraded,
                broken("s1"),
            ),
            (
                "failed, then another one",
                vec![rollout("o1", Applied, 99), rollout("s1", Failed, 42)],
                ApplicationState::Synced,
                broken("s1"),
            ),
            (
                "another one came first",
                vec![
                    rollout("o2", Applied, 9),
                    rollout("o1", Failed, 8),
                    rollout("b1", Applied, -9),
                ],
                ApplicationState::Synced,
                by("o1"),
            ),
            (
                "overtaken",
                vec![rollout("o1", Progressing, 9), rollout("s1", Superseded, 8)],
                ApplicationState::Progressing,
                by("o1"),
            ),
            (
                "not yet",
                vec![rollout("s1", Progressing, 9)],
                ApplicationState::Progressing,
                RolloutStage::Progressing("the reason".to_owned()),
            ),
        ];
        for (what, rollouts, state, expected) in cases {
            let status = ApplicationStatus {
                rollout: rollouts.first().cloned(),
                ..status(Some(&rollouts[0].revision), state)
            };
            assert_eq!(stage_of(Some(&status), &rollouts), expected, "{what}");
        }
        // A recorded failure counts, whatever the reconciler has not observed again after a
        // restart.
        for (revision, state) in [
            (None, ApplicationState::Pending),
            (Some("b1"), ApplicationState::Synced),
            (Some("s1"), ApplicationState::Pending),
            (Some("s1"), ApplicationState::Waiting),
        ] {
            let status = Some(status(revision, state));
            assert_eq!(
                stage_of(status.as_ref(), &[rollout("s1", Failed, 5)]),
                broken("s1"),
                "{revision:?} {state}"
            );
        }
        assert_eq!(stage_of(None, &[rollout("s1", Failed, 5)]), broken("s1"));
        assert_eq!(
            stage_of(
                Some(&status(Some("s1"), ApplicationState::Applying)),
                &[rollout("s1", Failed, 5)]
            ),
            RolloutStage::Applying
        );
    }
}
