//! References that the commits of a branch have moved, from which holds after a revert are read.

use crate::{
    core::{image::ImageRepository, name::Name},
    images::{
        policy::{HeldMove, MoveOrigin},
        references::{self, FileKind, Needles, Reference, ReferenceOrigin},
    },
    io::git::{self, FileDelta, GitError, HistoryCommit, Mirror, ObjectId},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet, hash_map::Entry};

/// How far back reverts count (DESIGN, "Hold after revert"): 180 days, in seconds.
const SINCE: i64 = 180 * 24 * 3600;

/// Commits read: a busy repository makes fifty a day for half a year.
const MOST_COMMITS: usize = 10_000;

/// Value in place of a removed digest.
const UNPINNED: &str = "no digest";

/// Commits read of a merged branch. A branch with more is no proposal of an update.
const MOST_MERGED: usize = 50;

/// A reference that a commit moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ReferenceMove {
    pub(super) path: String,
    pub(super) locator: String,
    marker: Option<Name>,
    pub(super) repository: Option<ImageRepository>,
    pub(super) tag: Option<(String, String)>,
    digest: Option<(String, String)>,
    /// The tag beside the digest.
    beside: Option<String>,
    /// True if the bot proposed the move; a person may have merged it.
    pub(super) by_bot: bool,
}

/// The value of a reference before and after a move, as a policy counts it.
pub(super) struct ValueChange {
    pub(super) old: String,
    pub(super) new: String,
    /// The tag of a digest that moved.
    pub(super) tag: Option<String>,
}

impl ReferenceMove {
    /// Tells whether both are moves of one reference.
    fn is_of(&self, other: &Self) -> bool {
        (&self.path, &self.locator, &self.marker, &self.repository)
            == (
                &other.path,
                &other.locator,
                &other.marker,
                &other.repository,
            )
    }
}

/// Moves by commit. Commits never change, so each is read once.
#[derive(Debug, Default)]
pub struct HoldHistory {
    fingerprint: [u8; 32],
    moved: HashMap<ObjectId, Vec<ReferenceMove>>,
    walked: Option<(ObjectId, Vec<HistoryCommit>)>,
}

/// Selects the references of a policy in the files of an Environment.
pub struct MoveFilter<'a> {
    pub policy: &'a Name,
    pub repository: &'a ImageRepository,
    /// Counts references without a marker, too.
    pub automatic: bool,
    /// Counts digests alone. Else a digest counts if its tag has not moved.
    pub digests: bool,
    /// Tells whether a file belongs to the Environment.
    pub contains: &'a dyn Fn(&str) -> bool,
}

impl HoldHistory {
    /// Reads the history of `head`; commits that were read before are not read again.
    ///
    /// # Errors
    /// If an object of the mirror is missing.
    pub fn walk(
        &mut self,
        mirror: &Mirror,
        head: ObjectId,
        needles: &Needles,
        now: Timestamp,
    ) -> Result<(), GitError> {
        if self.fingerprint != needles.fingerprint() {
            *self = Self {
                fingerprint: needles.fingerprint(),
                ..Self::default()
            };
        }
        if self
            .walked
            .as_ref()
            .is_some_and(|(walked, _)| *walked == head)
        {
            return Ok(());
        }
        let mut history = mirror.history(head, now.as_second() - SINCE, MOST_COMMITS);
        let mut commits = Vec::new();
        while let Some(commit) = history.next().transpose()? {
            if let Entry::Vacant(unknown) = self.moved.entry(commit.id) {
                let changes = if commit.parent.is_some() {
                    history.changes(&commit)?
                } else {
                    Vec::new()
                };
                let mut found = moved(mirror, &commit, &changes, needles)?;
                if !commit.update && !found.is_empty() {
                    mark_proposed(mirror, &history, &commit, &mut found, needles)?;
                }
                unknown.insert(found);
            }
            commits.push(commit);
        }
        let kept: HashSet<ObjectId> = commits.iter().map(|commit| commit.id).collect();
        self.moved.retain(|id, _| kept.contains(id));
        self.walked = Some((head, commits));
        Ok(())
    }

    /// Returns the moves of a policy's references, oldest first.
    pub fn moves(&self, filter: &MoveFilter<'_>) -> Vec<HeldMove> {
        let Some((_, commits)) = &self.walked else {
            return Vec::new();
        };
        let mut moves = Vec::new();
        for commit in commits.iter().rev() {
            for moved in self.moved.get(&commit.id).into_iter().flatten() {
                let Some(ValueChange { old, new, tag }) = value_change(filter, moved) else {
                    continue;
                };
                moves.push(HeldMove {
                    origin: MoveOrigin::Commit {
                        id: commit.id.to_string(),
                        author: commit.author.clone(),
                    },
                    time: Timestamp::from_second(commit.seconds).unwrap_or(Timestamp::UNIX_EPOCH),
                    by_bot: moved.by_bot,
                    old,
                    new,
                    tag,
                });
            }
        }
        moves
    }
}

/// Returns the values of a move if it belongs to the filter's policy.
pub(super) fn value_change(filter: &MoveFilter<'_>, moved: &ReferenceMove) -> Option<ValueChange> {
    let is_ours = match &moved.marker {
        Some(marker) => marker == filter.policy,
        None => filter.automatic && moved.repository.as_ref() == Some(filter.repository),
    };
    let (values, tag) = match &moved.tag {
        Some(_) if !filter.digests => (&moved.tag, None),
        _ => (&moved.digest, moved.beside.clone()),
    };
    let (old, new) = values.clone()?;
    (is_ours && (filter.contains)(&moved.path)).then_some(ValueChange { old, new, tag })
}

/// Returns the moves of one commit against its first parent.
///
/// # Errors
/// If an object of the mirror is missing.
pub(super) fn moves_of_commit(
    mirror: &Mirror,
    commit: ObjectId,
    needles: &Needles,
) -> Result<Vec<ReferenceMove>, GitError> {
    let mut history = mirror.history(commit, i64::MIN, 1);
    match history.next().transpose()? {
        Some(commit) if commit.parent.is_some() => {
            let changes = history.changes(&commit)?;
            moved(mirror, &commit, &changes, needles)
        }
        _ => Ok(Vec::new()),
    }
}

fn moved(
    mirror: &Mirror,
    commit: &HistoryCommit,
    changes: &[FileDelta],
    needles: &Needles,
) -> Result<Vec<ReferenceMove>, GitError> {
    let mut all = Vec::new();
    for change in changes {
        let (Some(old), Some(new)) = (change.old, change.new) else {
            continue;
        };
        // Files under a chart's templates are never edited, so charts need not be known here.
        let kind = FileKind::of(&change.path, |_| false);
        if kind == FileKind::NotYaml {
            continue;
        }
        let revision = mirror.at(commit.id)?;
        let (old, new) = (revision.blob(old)?, revision.blob(new)?);
        if !needles.hit(&old) || !needles.hit(&new) {
            continue;
        }
        let after = references::find(kind, &new).references;
        let after: HashMap<&str, &Reference> = after
            .iter()
            .map(|reference| (reference.locator.as_str(), reference))
            .collect();
        for before in references::find(kind, &old).references {
            let Some(after) = after.get(before.locator.as_str()) else {
                continue;
            };
            if before.repository != after.repository {
                continue;
            }
            let pair = |old: Option<String>, new: Option<String>| {
                old.zip(new).filter(|(old, new)| old != new)
            };
            // Removing a digest counts as a move, too.
            let pinned = after
                .digest()
                .or_else(|| before.digest().map(|_| UNPINNED.to_owned()));
            let (tag, digest) = (
                pair(before.tag(), after.tag()),
                pair(before.digest(), pinned),
            );
            if tag.is_some() || digest.is_some() {
                let marker = match &after.why {
                    ReferenceOrigin::Marker { policy, .. } => Some(policy.clone()),
                    _ => None,
                };
                all.push(ReferenceMove {
                    path: change.path.clone(),
                    locator: after.locator.clone(),
                    marker,
                    repository: after.repository.clone(),
                    tag,
                    digest,
                    beside: after.tag(),
                    by_bot: commit.update,
                });
            }
        }
    }
    Ok(all)
}

/// Marks the moves of a person's merge that the bot had proposed.
///
/// Those are moves whose reference only the bot's commits moved on the merged branch, from the old
/// to the new value. Every other move of a merge is its author's.
fn mark_proposed(
    mirror: &Mirror,
    history: &git::FirstParents<'_>,
    merge: &HistoryCommit,
    moves: &mut [ReferenceMove],
    needles: &Needles,
) -> Result<(), GitError> {
    let Some(brought) = history.brought(merge, MOST_MERGED)? else {
        return Ok(());
    };
    // Newest first.
    let mut steps = Vec::new();
    for commit in brought.iter().filter(|commit| commit.parent.is_some()) {
        let mut changes = history.changes(commit)?;
        changes.retain(|change| moves.iter().any(|row| row.path == change.path));
        steps.extend(moved(mirror, commit, &changes, needles)?);
    }
    for row in moves {
        let of: Vec<&ReferenceMove> = steps.iter().filter(|step| step.is_of(row)).collect();
        let net = |part: fn(&ReferenceMove) -> Option<&(String, String)>| {
            let (new, old) = (
                of.iter().find_map(|step| part(step))?,
                of.iter().rev().find_map(|step| part(step))?,
            );
            Some((old.0.clone(), new.1.clone())).filter(|(old, new)| old != new)
        };
        let same = net(|step| step.tag.as_ref()) == row.tag
            && net(|step| step.digest.as_ref()) == row.digest;
        row.by_bot = same && of.iter().all(|step| step.by_bot);
    }
    Ok(())
}
