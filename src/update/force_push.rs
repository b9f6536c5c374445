//! Updates that a force-push removed from the branch. Taking the bot's commit away is a revert.
//!
//! Git does not record what a branch was, so the store keeps the head of the last pass, and each
//! removed update for as long as a revert counts. Without the store nothing is known of it.

use super::{
    RepoFollower, RepoSnapshot, blocking,
    history::{MoveFilter, ReferenceMove, ValueChange, moves_of_commit, value_change},
};
use crate::{
    images::{
        policy::{HeldMove, MoveOrigin},
        references::{FileKind, Findings, Needles, YamlFile},
    },
    io::{
        git::{GitError, Mirror, ObjectId},
        store::Store,
    },
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, sync::Arc};

/// Table of the store. A key is a remote and a branch.
const TABLE: &str = "branch-head";

/// The retention of a removed update: as long as reverts count.
const KEPT: SignedDuration = SignedDuration::from_hours(180 * 24);

/// Commits that one force-push may remove; with more, the branch was replaced by another history.
const MOST_REMOVED: usize = 1000;

/// Removed updates that are kept of a branch, the latest ones.
const MOST_KEPT: usize = 2000;

/// The updates that force-pushes removed from a branch, as the store keeps them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemovedUpdates {
    /// The head that the last pass saw, in hexadecimal digits.
    head: Option<String>,
    updates: Vec<RemovedUpdate>,
    /// True once the store was read.
    #[serde(skip)]
    is_loaded: bool,
}

/// A move that a commit made before a force-push removed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RemovedUpdate {
    /// The removed commit.
    commit: String,
    /// The time of the pass that missed the commit.
    seen: Timestamp,
    moved: ReferenceMove,
    /// The tag that stood there after the force-push.
    tag: Option<String>,
    /// The digest that stood there after the force-push.
    digest: Option<String>,
}

/// Compares the head of a snapshot with that of the last pass, and notes the updates that the
/// branch has lost since. Returns warnings; failures of the store or missing commits stop nothing.
pub(crate) async fn observe(
    removed: &Arc<tokio::sync::Mutex<RemovedUpdates>>,
    repo: &RepoFollower,
    store: &Arc<Store>,
    snapshot: &RepoSnapshot,
    now: Timestamp,
) -> Vec<String> {
    let mut removed = Arc::clone(removed).lock_owned().await;
    let (mirror, store) = (Arc::clone(&repo.mirror), Arc::clone(store));
    let snapshot = snapshot.clone();
    blocking(move || {
        let mut warnings = Vec::new();
        let remote = mirror.remote();
        let key = format!("{} {}", remote.shown(), remote.branch());
        if !removed.is_loaded {
            match store.get(TABLE, &key) {
                // An entry that cannot be read counts as none.
                Ok(bytes) => {
                    *removed = bytes
                        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
                        .unwrap_or_default();
                }
                Err(error) => warnings.push(error.to_string()),
            }
            removed.is_loaded = true;
        }
        if removed.head.as_deref() == Some(snapshot.commit.to_string().as_str()) {
            return warnings;
        }
        warnings.extend(removed.follow(&mirror, snapshot.commit, snapshot.needles(), now));
        let saved = serde_json::to_vec(&*removed).map(|bytes| store.put(TABLE, &key, &bytes));
        if let Ok(Err(error)) = saved {
            warnings.push(error.to_string());
        }
        warnings
    })
    .await
}

impl RemovedUpdates {
    /// Moves on to another head. Returns a warning if the commits that it lost cannot be read.
    fn follow(
        &mut self,
        mirror: &Mirror,
        head: ObjectId,
        needles: &Needles,
        now: Timestamp,
    ) -> Option<String> {
        self.updates
            .retain(|row| now.duration_since(row.seen) <= KEPT);
        let before = self.head.replace(head.to_string())?;
        let before = ObjectId::from_hex(before.as_bytes()).ok()?;
        let unknown = |why: String| {
            let remote = mirror.remote();
            let (branch, shown) = (remote.branch(), remote.shown());
            Some(format!(
                "{shown}: the branch {branch} was force-pushed, and {why}: versions that this reverts are not held"
            ))
        };
        match lost_updates(mirror, before, head, needles, now) {
            Ok(Some(lost)) => {
                self.updates.extend(lost);
                let beyond = self.updates.len().saturating_sub(MOST_KEPT);
                self.updates.drain(..beyond);
                None
            }
            Ok(None) => unknown(format!("more than {MOST_REMOVED} commits are gone")),
            Err(error) => unknown(error.to_string()),
        }
    }

    /// Returns the removed updates of a policy as moves back, oldest first.
    ///
    /// `is_update` tells whether the move of a person's commit had been proposed by the bot.
    pub(crate) fn moves(
        &self,
        filter: &MoveFilter<'_>,
        is_update: impl Fn(&HeldMove) -> bool,
    ) -> Vec<HeldMove> {
        let rows = self.updates.iter().filter_map(|row| {
            let ValueChange { old, new, tag } = value_change(filter, &row.moved)?;
            let present = if row.moved.tag.is_some() && !filter.digests {
                row.tag.clone()
            } else {
                row.digest.clone()
            };
            let proposal = HeldMove {
                origin: MoveOrigin::Commit {
                    id: row.commit.clone(),
                    author: String::new(),
                },
                time: row.seen,
                by_bot: row.moved.by_bot,
                old,
                new,
                tag,
            };
            if !proposal.by_bot && !is_update(&proposal) {
                return None;
            }
            Some(HeldMove {
                origin: MoveOrigin::ForcePush {
                    removed: row.commit.clone(),
                },
                by_bot: false,
                old: proposal.new.clone(),
                new: present.filter(|present| *present != proposal.new)?,
                ..proposal
            })
        });
        rows.collect()
    }
}

/// Returns the moves of the commits that `before` had and `head` does not have, oldest first; none
/// if there are too many.
fn lost_updates(
    mirror: &Mirror,
    before: ObjectId,
    head: ObjectId,
    needles: &Needles,
    now: Timestamp,
) -> Result<Option<Vec<RemovedUpdate>>, GitError> {
    let Some(commits) = mirror.beyond(before, head, MOST_REMOVED)? else {
        return Ok(None);
    };
    let revision = mirror.at(head)?;
    let mut present: HashMap<String, Findings> = HashMap::new();
    let mut lost = Vec::new();
    for commit in commits.iter().rev() {
        for moved in moves_of_commit(mirror, commit.id, needles)? {
            if !present.contains_key(&moved.path) {
                let file = revision.read(&moved.path)?;
                let kind = FileKind::of(&moved.path, |_| false);
                let findings = file
                    .map(|file| YamlFile::new(kind, &file.bytes).findings())
                    .unwrap_or_default();
                present.insert(moved.path.clone(), findings);
            }
            let reference = present[&moved.path].references.iter().find(|reference| {
                reference.locator == moved.locator && reference.repository == moved.repository
            });
            // A reference that is gone has no value that the force-push could have put back.
            if let Some(reference) = reference {
                lost.push(RemovedUpdate {
                    commit: commit.id.to_string(),
                    seen: now,
                    tag: reference.tag(),
                    digest: reference.digest(),
                    moved,
                });
            }
        }
    }
    Ok(Some(lost))
}
