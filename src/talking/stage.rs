//! How far an Application has come with one merged commit, from what the reconciler says now and what the cluster has
//! recorded.

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
    /// What became of its last revisions, the newest first. Those before the newest may be missing; then it may seem
    /// superseded where it was not.
    pub rollouts: &'a [Rollout],
}

/// How far it has come.
///
/// # Errors
/// If a revision cannot be compared.
pub fn stage<E>(known: &Known<'_>, relation: impl Fn(&str) -> Result<Relation, E>) -> Result<Stage, E> {
    let mut newer: Option<&Rollout> = None;
    let mut failed = None;
    for rollout in known.rollouts {
        match relation(&rollout.revision)? {
            // What is older is before it, too.
            Relation::Before => break,
            Relation::Other => newer = Some(rollout),
            Relation::Same => {
                match (rollout.result, newer) {
                    (Outcome::Applied, _) => return Ok(Stage::RolledOut(since(known.merged, rollout.since))),
                    (Outcome::Failed | Outcome::Unhealthy, Some(_)) => return Ok(Stage::Failed(rollout.message.clone())),
                    (_, Some(newer)) => return Ok(Stage::Superseded { by: newer.revision.clone() }),
                    (Outcome::Failed | Outcome::Unhealthy, None) => failed = Some(rollout.message.clone()),
                    (Outcome::Progressing | Outcome::Superseded, None) => {}
                }
                break;
            }
        }
    }
    if let (Some(newer), None) = (newer, &failed) {
        return Ok(Stage::Superseded { by: newer.revision.clone() });
    }
    let Some((status, revision)) = known.status.and_then(|status| Some((status, status.revision.as_deref()?))) else {
        return Ok(failed.map_or_else(|| Stage::Waiting(String::new()), Stage::Failed));
    };
    Ok(match (relation(revision)?, failed) {
        (Relation::Before, None) => Stage::Waiting(format!("it is still at {}", revision.get(..10).unwrap_or(revision))),
        (Relation::Other, None) => Stage::Superseded { by: revision.to_owned() },
        (Relation::Before | Relation::Other, Some(why)) => Stage::Failed(why),
        (Relation::Same, failed) => live(status, failed),
    })
}

/// By how it is now, at a revision that says the same as the merged commit.
fn live(status: &Status, failed: Option<String>) -> Stage {
    let reason = || status.reason().unwrap_or_default();
    match status.state {
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
        State::Orphaned | State::Deleting => Stage::Waiting("it is not declared any more".to_owned()),
    }
}

/// The clocks of a forge and of this machine differ: what seems to be earlier took no time.
fn since(merged: Timestamp, done: Timestamp) -> Duration {
    Duration::try_from(done.duration_since(merged)).unwrap_or(Duration::ZERO)
}
