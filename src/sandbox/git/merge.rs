//! Merging a branch into `main`, as the button of a forge does: by whole files.

use super::repository::{BareRepository, SandboxGitError, branch, write_commit};
use gix::{ObjectId, objs::tree::EntryKind, prelude::FindExt};
use std::collections::{BTreeMap, BTreeSet};

/// The result of a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeOutcome {
    /// The commit that `main` is at now.
    Done(ObjectId),
    /// The branch is at this commit, not at the one that was to be merged; nothing if it is gone.
    Moved(Option<ObjectId>),
    /// A file was changed on both sides.
    Conflict,
}

/// Files by path.
type TreeFiles = BTreeMap<String, (EntryKind, ObjectId)>;

impl BareRepository {
    /// Merges a branch that is at `head`, as one commit on `main` (`squash`) or with a merge
    /// commit.
    ///
    /// # Errors
    /// If the repository cannot be read or written.
    pub fn merge(
        &self,
        name: &str,
        head: ObjectId,
        squash: bool,
        who: (&str, &str),
        seconds: i64,
        message: &str,
    ) -> Result<MergeOutcome, SandboxGitError> {
        let writing = self.lock();
        let repo = self.open()?;
        let found = branch(&repo, name)?;
        if found != Some(head) {
            return Ok(MergeOutcome::Moved(found));
        }
        let main =
            branch(&repo, "main")?.ok_or_else(|| SandboxGitError::new("there is no main"))?;
        let Some(tree) = merged_tree(&repo, main, head)? else {
            return Ok(MergeOutcome::Conflict);
        };
        let parents = if squash { vec![main] } else { vec![main, head] };
        let id = write_commit(&repo, tree, parents, who, seconds, message)?;
        self.change(
            &writing,
            &[("refs/heads/main".to_owned(), Some(main), Some(id))],
        )?;
        Ok(MergeOutcome::Done(id))
    }

    /// Returns whether a branch could be merged into `main` now.
    ///
    /// # Errors
    /// If the repository cannot be read.
    pub fn is_mergeable(&self, head: ObjectId) -> Result<bool, SandboxGitError> {
        let repo = self.open()?;
        let Some(main) = branch(&repo, "main")? else {
            return Ok(false);
        };
        Ok(merged_tree(&repo, main, head)?.is_some())
    }
}

/// The tree of `main` with what `head` changed; nothing where both changed a file.
fn merged_tree(
    repo: &gix::Repository,
    main: ObjectId,
    head: ObjectId,
) -> Result<Option<ObjectId>, SandboxGitError> {
    let Some(base) = repo.merge_base(main, head).map_err(SandboxGitError::new)? else {
        return Ok(None);
    };
    let (before, ours, theirs) = (
        files(repo, base.detach())?,
        files(repo, main)?,
        files(repo, head)?,
    );
    let paths: BTreeSet<&String> = before.keys().chain(theirs.keys()).collect();
    let changed: Vec<&String> = paths
        .into_iter()
        .filter(|path| before.get(*path) != theirs.get(*path))
        .collect();
    let both = |path: &&&String| {
        ours.get(**path) != before.get(**path) && ours.get(**path) != theirs.get(**path)
    };
    if changed.iter().any(|path| both(&path)) {
        return Ok(None);
    }
    let tree = repo
        .find_commit(main)
        .and_then(|commit| Ok(commit.tree_id()?.detach()))
        .map_err(SandboxGitError::new)?;
    let mut editor = repo.edit_tree(tree).map_err(SandboxGitError::new)?;
    for path in changed {
        match theirs.get(path) {
            Some((kind, id)) => editor
                .upsert(path.as_str(), *kind, *id)
                .map(drop)
                .map_err(SandboxGitError::new)?,
            None => editor
                .remove(path.as_str())
                .map(drop)
                .map_err(SandboxGitError::new)?,
        }
    }
    Ok(Some(editor.write().map_err(SandboxGitError::new)?.detach()))
}

fn files(repo: &gix::Repository, commit: ObjectId) -> Result<TreeFiles, SandboxGitError> {
    let tree = repo
        .find_commit(commit)
        .and_then(|commit| Ok(commit.tree_id()?.detach()))
        .map_err(SandboxGitError::new)?;
    let (mut found, mut folders) = (TreeFiles::new(), vec![(String::new(), tree)]);
    while let Some((folder, id)) = folders.pop() {
        let mut buffer = Vec::new();
        for entry in &repo
            .objects
            .find_tree(&id, &mut buffer)
            .map_err(SandboxGitError::new)?
            .entries
        {
            let path = format!("{folder}{}", entry.filename);
            match entry.mode.kind() {
                EntryKind::Tree => folders.push((format!("{path}/"), entry.oid.to_owned())),
                kind => drop(found.insert(path, (kind, entry.oid.to_owned()))),
            }
        }
    }
    Ok(found)
}
