//! Branches of pull requests, whose commits may be other people's.

use super::{
    draft::{CommitDraft, Person},
    error::{GitError, plain},
    mirror::{HEADS, Mirror, TRACKED},
    push::{PushOutcome, RefUpdate},
    trailer::has_trailer,
};
use gix::{
    ObjectId,
    prelude::FindExt,
    refs::transaction::{Change, PreviousValue, RefEdit, RefLog},
};
use std::collections::{BTreeMap, BinaryHeap, HashMap};

/// Commits that are read at most to see where a branch left its target.
const MOST_READ: usize = 20_000;

/// Commits of the target's that are read on when all others are known to be its own: clocks of
/// people differ. Git itself uses five.
const SLOP: usize = 5;

/// A commit of a branch that its target does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchCommit {
    pub id: ObjectId,
    pub parents: Vec<ObjectId>,
    /// The author's name, safe to print.
    pub author: String,
    pub author_email: String,
    /// The first line of the message, safe to print.
    pub subject: String,
    pub committer: String,
    pub email: String,
    /// True if the message has a `Tagboat-Update` trailer.
    pub update: bool,
}

impl BranchCommit {
    /// Returns whether the bot made it: an update commit with the bot's identity as committer, and
    /// one parent.
    pub fn is_by(&self, bot: &Person) -> bool {
        self.update && self.parents.len() == 1 && bot.is(&self.committer, &self.email)
    }

    /// Returns whether a person rewrote a commit of the bot, who is still its author: a forge's
    /// "rebase" button does that, and so does amending.
    pub fn is_remade(&self, bot: &Person) -> bool {
        self.update && self.parents.len() == 1 && bot.is(&self.author, &self.author_email)
    }
}

impl Mirror {
    /// The branches that were asked for with [`Mirror::with_branches`], as the last fetch saw them:
    /// name (`tagboat/dev/all`) and head. A name that is not UTF-8 is left out.
    ///
    /// # Errors
    /// [`GitError::Mirror`] if the references cannot be read.
    pub fn branches(&self) -> Result<BTreeMap<String, ObjectId>, GitError> {
        let Some(prefix) = self.prefix() else {
            return Ok(BTreeMap::new());
        };
        let repo = self.shared().to_thread_local();
        let failed = |why: String| GitError::Mirror {
            dir: self.dir().to_owned(),
            why,
        };
        let platform = repo
            .references()
            .map_err(|error| failed(super::error::chain(&error)))?;
        let all = format!("{TRACKED}{prefix}");
        let found = platform
            .prefixed(all.as_str())
            .map_err(|error| failed(super::error::chain(&error)))?;
        let mut branches = BTreeMap::new();
        for reference in found {
            let reference = reference.map_err(|error| failed(super::error::chain(&error)))?;
            let Ok(name) = std::str::from_utf8(reference.name().as_bstr()) else {
                continue;
            };
            if let (Some(name), Some(id)) = (name.strip_prefix(TRACKED), reference.try_id())
                && name != self.remote().branch()
            {
                branches.insert(name.to_owned(), id.detach());
            }
        }
        Ok(branches)
    }

    /// The commits of `head` that are not in the history of `target`, newest first; nothing if
    /// there are more than `limit`, or if it would take too long to say.
    ///
    /// # Errors
    /// [`GitError::Broken`] if a commit is missing.
    pub fn beyond(
        &self,
        head: ObjectId,
        target: ObjectId,
        limit: usize,
    ) -> Result<Option<Vec<BranchCommit>>, GitError> {
        let repo = self.local();
        let mut buffer = Vec::new();
        let mut read = |id: ObjectId| -> Result<(i64, Vec<ObjectId>), GitError> {
            let broken = |error: &dyn std::fmt::Display| self.broken("commit", id, error);
            let found = repo
                .objects
                .find_commit(&id, &mut buffer)
                .map_err(|error| broken(&error))?;
            let seconds = found.committer().map_err(|error| broken(&error))?.seconds();
            Ok((seconds, found.parents().collect()))
        };
        // Both histories are walked together, newest first, and what the target reaches is painted:
        // the walk ends when nothing unpainted is left to walk, and not at the root of a long
        // history.
        let mut painted: HashMap<ObjectId, bool> = HashMap::new();
        let mut queue = BinaryHeap::new();
        let mut parents_of: HashMap<ObjectId, Vec<ObjectId>> = HashMap::new();
        for (id, paint) in [(target, true), (head, false)] {
            if painted
                .insert(id, paint || painted.get(&id).copied().unwrap_or(false))
                .is_none()
            {
                let (seconds, parents) = read(id)?;
                parents_of.insert(id, parents);
                queue.push((seconds, id));
            }
        }
        let mut order: Vec<(i64, ObjectId)> = Vec::new();
        let mut slop = SLOP;
        while let Some((seconds, id)) = queue.pop() {
            let paint = painted[&id];
            if !paint {
                order.push((seconds, id));
            }
            let unpainted = || order.iter().filter(|(_, id)| !painted[id]);
            // Thousands of commits on the bot's branch are not realistic, and a branch that is not
            // counted to the end is not the bot's.
            if parents_of.len() > MOST_READ || unpainted().count() > limit + SLOP {
                return Ok(None);
            }
            let oldest = unpainted().map(|(seconds, _)| *seconds).min();
            if !paint
                || queue.iter().any(|(_, id)| !painted[id])
                || oldest.is_some_and(|oldest| seconds >= oldest)
            {
                slop = SLOP;
            } else {
                slop -= 1;
                if slop == 0 || oldest.is_none() {
                    break;
                }
            }
            for parent in parents_of.get(&id).cloned().unwrap_or_default() {
                match painted.get(&parent).copied() {
                    None => {
                        let (seconds, parents) = read(parent)?;
                        parents_of.insert(parent, parents);
                        painted.insert(parent, paint);
                        queue.push((seconds, parent));
                    }
                    // Seen from the branch before; it belongs to the target after all, and so do
                    // its parents.
                    Some(false) if paint => {
                        painted.insert(parent, true);
                        queue.push((i64::MAX, parent));
                    }
                    Some(_) => {}
                }
            }
        }
        let mut order: Vec<ObjectId> = order.into_iter().map(|(_, id)| id).collect();
        order.retain(|id| !painted[id]);
        if order.len() > limit {
            return Ok(None);
        }
        order
            .into_iter()
            .map(|id| self.own(&repo, id))
            .collect::<Result<Vec<_>, _>>()
            .map(Some)
    }

    fn own(&self, repo: &gix::Repository, id: ObjectId) -> Result<BranchCommit, GitError> {
        let broken = |error: &dyn std::fmt::Display| self.broken("commit", id, error);
        let mut buffer = Vec::new();
        let found = repo
            .objects
            .find_commit(&id, &mut buffer)
            .map_err(|error| broken(&error))?;
        let committer = found.committer().map_err(|error| broken(&error))?;
        let author = found.author().map_err(|error| broken(&error))?;
        Ok(BranchCommit {
            id,
            parents: found.parents().collect(),
            author: plain(&author.name.to_string()),
            author_email: author.email.to_string(),
            subject: plain(&found.message_summary().to_string()),
            committer: committer.name.to_string(),
            email: committer.email.to_string(),
            update: has_trailer(found.message, "Tagboat-Update"),
        })
    }

    /// Returns whether `commit` makes exactly these changes to `parent`, each a path with its bytes
    /// before and after.
    ///
    /// # Errors
    /// [`GitError::Broken`] if an object is missing.
    pub fn makes(
        &self,
        parent: ObjectId,
        commit: ObjectId,
        changes: &[(&str, &[u8], &[u8])],
    ) -> Result<bool, GitError> {
        let mut made = self.differences(parent, commit, "")?;
        let hash = |bytes: &[u8]| {
            gix::objs::compute_hash(gix::hash::Kind::Sha1, gix::objs::Kind::Blob, bytes).ok()
        };
        let mut wanted: Vec<_> = changes
            .iter()
            .map(|(path, before, after)| (*path, hash(before), hash(after)))
            .collect();
        wanted.sort();
        made.sort_by(|one, other| one.path.cmp(&other.path));
        let id = |side: Option<(gix::objs::tree::EntryKind, ObjectId)>| side.map(|(_, id)| id);
        Ok(made.len() == wanted.len()
            && made
                .iter()
                .zip(&wanted)
                .all(|(made, (path, before, after))| {
                    made.path == *path && id(made.from) == *before && id(made.to) == *after
                }))
    }

    /// Pushes a draft to its own branch, by compare-and-swap: the branch must not exist, or must be
    /// at `old`. The replaced commits leave the branch.
    ///
    /// # Errors
    /// As [`Mirror::push`].
    pub fn push_branch(
        &self,
        draft: &CommitDraft,
        branch: &str,
        old: Option<ObjectId>,
    ) -> Result<PushOutcome, GitError> {
        self.push_references(
            Some(draft),
            &[RefUpdate {
                reference: format!("{HEADS}{branch}"),
                old,
                new: Some(draft.commit),
            }],
        )
    }

    /// Deletes a branch that must be at `old`.
    ///
    /// # Errors
    /// As [`Mirror::push`].
    pub fn delete_branch(&self, branch: &str, old: ObjectId) -> Result<PushOutcome, GitError> {
        self.push_references(
            None,
            &[RefUpdate {
                reference: format!("{HEADS}{branch}"),
                old: Some(old),
                new: None,
            }],
        )
    }

    /// Forgets branches that the remote has deleted. Runs before others are written: a former
    /// branch name may now be a folder of branches.
    pub(crate) fn forget_branches<'b>(
        &self,
        repo: &gix::Repository,
        gone: impl Iterator<Item = &'b String>,
    ) -> Result<(), GitError> {
        let failed = |why: String| GitError::Mirror {
            dir: self.dir().to_owned(),
            why,
        };
        let mut edits = Vec::new();
        for name in gone {
            let name = format!("{TRACKED}{name}")
                .as_str()
                .try_into()
                .map_err(|error| failed(format!("{error}")))?;
            let change = Change::Delete {
                expected: PreviousValue::Any,
                log: RefLog::AndReference,
            };
            edits.push(RefEdit {
                change,
                name,
                deref: false,
            });
        }
        if !edits.is_empty() {
            repo.edit_references_as(edits, None)
                .map_err(|error| failed(super::error::chain(&error)))?;
        }
        Ok(())
    }
}
