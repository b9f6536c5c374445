//! The first-parent history of a commit, read lazily.

use super::{
    error::{GitError, plain},
    mirror::Mirror,
    trailer::has_trailer,
    tree::difference,
};
use gix::{ObjectId, prelude::FindExt};

/// Commits older than `since` that are looked at in a row before the walk ends: clocks of people
/// differ. Git itself uses five.
const SLOP: usize = 5;

/// A walk from a commit along first parents, newest first. Commits are read on demand.
pub struct FirstParents<'m> {
    mirror: &'m Mirror,
    repo: gix::Repository,
    next: Option<ObjectId>,
    since: i64,
    older: usize,
    left: usize,
}

/// A commit of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryCommit {
    pub id: ObjectId,
    pub tree: ObjectId,
    pub parent: Option<ObjectId>,
    /// The second parent of a merge of exactly two: the head of the merged branch.
    pub merged: Option<ObjectId>,
    /// The commit time, in seconds since 1970.
    pub seconds: i64,
    /// The author's name, safe to print.
    pub author: String,
    /// The first line of the message, safe to print.
    pub subject: String,
    /// True if the message has a `Tagboat-Update` trailer: an update commit of the bot.
    pub update: bool,
}

/// A file that a commit changed against its first parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDelta {
    pub path: String,
    /// The blob before; none for a new file.
    pub old: Option<ObjectId>,
    /// The blob after; none for a deleted file.
    pub new: Option<ObjectId>,
}

impl Mirror {
    /// The first-parent history of `head`: commits not older than `since` (seconds since 1970), at
    /// most `limit` of them.
    pub fn history(&self, head: ObjectId, since: i64, limit: usize) -> FirstParents<'_> {
        FirstParents {
            mirror: self,
            repo: self.local(),
            next: Some(head),
            since,
            older: 0,
            left: limit,
        }
    }
}

impl FirstParents<'_> {
    /// Returns the files that `commit` changed against its first parent, in the order of their
    /// paths. The cost is proportional to the change.
    pub fn changes(&self, commit: &HistoryCommit) -> Result<Vec<FileDelta>, GitError> {
        let old = match commit.parent {
            Some(parent) => Some(self.read(parent)?.tree),
            None => None,
        };
        let mut differences = Vec::new();
        difference(
            self.mirror.dir(),
            &self.repo,
            old,
            Some(commit.tree),
            &mut differences,
        )?;
        let id = |side: Option<(_, ObjectId)>| side.map(|(_, id)| id);
        Ok(differences
            .into_iter()
            .map(|d| FileDelta {
                path: d.path,
                old: id(d.old),
                new: id(d.new),
            })
            .collect())
    }

    /// The commits that a merge brought to the first parent's history, newest first; nothing if it
    /// is no merge of two, or has more than `limit` of them.
    pub fn brought(
        &self,
        merge: &HistoryCommit,
        limit: usize,
    ) -> Result<Option<Vec<HistoryCommit>>, GitError> {
        let (Some(first), Some(second)) = (merge.parent, merge.merged) else {
            return Ok(None);
        };
        let Some(own) = self.mirror.beyond(second, first, limit)? else {
            return Ok(None);
        };
        own.into_iter()
            .map(|own| self.read(own.id))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn read(&self, id: ObjectId) -> Result<HistoryCommit, GitError> {
        let broken = |error: &dyn std::fmt::Display| self.mirror.broken("commit", id, error);
        let mut buffer = Vec::new();
        let found = self
            .repo
            .objects
            .find_commit(&id, &mut buffer)
            .map_err(|error| broken(&error))?;
        let seconds = found.committer().map_err(|error| broken(&error))?.seconds();
        let author = found
            .author()
            .map_err(|error| broken(&error))?
            .name
            .to_string();
        let mut parents = found.parents();
        Ok(HistoryCommit {
            id,
            tree: found.tree(),
            parent: parents.next(),
            merged: parents.next().filter(|_| parents.next().is_none()),
            seconds,
            author: plain(&author),
            subject: plain(&found.message_summary().to_string()),
            update: has_trailer(found.message, "Tagboat-Update"),
        })
    }
}

impl Iterator for FirstParents<'_> {
    type Item = Result<HistoryCommit, GitError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 && self.older < SLOP {
            let id = self.next.take()?;
            let commit = match self.read(id) {
                Ok(commit) => commit,
                Err(error) => return Some(Err(error)),
            };
            self.next = commit.parent;
            if commit.seconds >= self.since {
                (self.older, self.left) = (0, self.left - 1);
                return Some(Ok(commit));
            }
            self.older += 1;
        }
        None
    }
}
