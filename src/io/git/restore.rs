//! Putting what an earlier commit had back in its place: whole folders by their ids, so that every
//! byte, mode and link of them is the same, and nothing is read or sent that the server has not.

use super::{
    draft::{CommitDraft, CommitMeta},
    error::GitError,
    history::HistoryCommit,
    mirror::Mirror,
    path::RepoPath,
    revision::tree_of,
    tree::difference,
};
use gix::{ObjectId, hash::Prefix, objs::tree::EntryKind, prelude::FindExt};

/// The desired content of a path: an object of the mirror, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeRestore {
    /// The path from the root; the root itself is the empty path, which comes first and takes a
    /// tree.
    pub path: String,
    /// The object; `None` deletes the path.
    pub entry: Option<(EntryKind, ObjectId)>,
}

/// A file, link or submodule that is not the same in two commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedPath {
    pub path: String,
    /// The entry in the first commit.
    pub from: Option<(EntryKind, ObjectId)>,
    /// The entry in the second commit.
    pub to: Option<(EntryKind, ObjectId)>,
}

impl Mirror {
    /// Drafts a commit on `parent` that puts other objects at some paths, in order; `None` if they
    /// are already there. Folders that become empty disappear, as Git has none.
    ///
    /// # Errors
    /// [`GitError::Path`] for a path that must not be written; [`GitError::Commit`],
    /// [`GitError::Key`], [`GitError::Broken`].
    pub fn graft(
        &self,
        parent: ObjectId,
        grafts: &[TreeRestore],
        message: &CommitMeta<'_>,
    ) -> Result<Option<CommitDraft>, GitError> {
        let mut repo = self.local().with_object_memory();
        let old = tree_of(self.dir(), &repo, parent)?;
        let (root, grafts) = match grafts {
            [
                TreeRestore {
                    path,
                    entry: Some((EntryKind::Tree, id)),
                },
                rest @ ..,
            ] if path.is_empty() => (*id, rest),
            _ => (old, grafts),
        };
        let broken = |error: gix::Error| self.broken("tree", root, &error);
        let mut editor = repo.edit_tree(root).map_err(broken)?;
        for TreeRestore { path, entry } in grafts {
            let path = RepoPath::new(path)?;
            match entry {
                Some((kind, id)) => editor.upsert(path.as_str(), *kind, *id).map(drop),
                None => editor.remove(path.as_str()).map(drop),
            }
            .map_err(broken)?;
        }
        let tree = editor.write().map_err(broken)?.detach();
        drop(editor);
        self.seal(&mut repo, parent, old, tree, message)
    }

    /// The files below `path` that differ between two commits, in the order of their paths. Costs
    /// what differs.
    ///
    /// # Errors
    /// [`GitError::Broken`]
    pub fn differences(
        &self,
        from: ObjectId,
        to: ObjectId,
        path: &str,
    ) -> Result<Vec<ChangedPath>, GitError> {
        let (from, to) = (self.at(from)?.find(path)?, self.at(to)?.find(path)?);
        let plain = |entry: &super::revision::TreeEntry| (entry.kind, entry.id);
        let tree = |entry: &Option<super::revision::TreeEntry>| {
            entry
                .as_ref()
                .filter(|entry| entry.kind == EntryKind::Tree)
                .map(|entry| entry.id)
        };
        let file = |entry: &Option<super::revision::TreeEntry>| {
            entry
                .as_ref()
                .filter(|entry| entry.kind != EntryKind::Tree)
                .map(plain)
        };
        let mut out = Vec::new();
        if file(&from) != file(&to) {
            out.push(ChangedPath {
                path: path.to_owned(),
                from: file(&from),
                to: file(&to),
            });
        }
        let mut differences = Vec::new();
        difference(
            self.dir(),
            &self.local(),
            tree(&from),
            tree(&to),
            &mut differences,
        )?;
        let side = |side: Option<(gix::objs::tree::EntryMode, ObjectId)>| {
            side.map(|(mode, id)| (mode.kind(), id))
        };
        out.extend(differences.into_iter().map(|found| ChangedPath {
            path: if path.is_empty() {
                found.path
            } else {
                format!("{}/{}", path.trim_matches('/'), found.path)
            },
            from: side(found.old),
            to: side(found.new),
        }));
        Ok(out)
    }

    /// The commit of the history of `head` whose id is `text`, or begins with it (at least four
    /// characters).
    ///
    /// # Errors
    /// [`GitError::Revision`] where it is none, or begins several.
    pub fn revision(&self, head: ObjectId, text: &str) -> Result<ObjectId, GitError> {
        let failed = |why: String| GitError::Revision {
            revision: crate::core::image::shown(text),
            why,
        };
        let branch = self.remote().branch();
        if !(4..=40).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(failed(
                "is no commit id: write 4 to 40 hexadecimal digits".to_owned(),
            ));
        }
        let prefix = Prefix::from_hex(text).map_err(|error| failed(error.to_string()))?;
        let repo = self.local();
        let mut found = std::collections::HashSet::new();
        repo.objects
            .lookup_prefix(prefix, Some(&mut found))
            .map_err(|error| self.broken("index", head, &error))?;
        let mut buffer = Vec::new();
        let mut commits: Vec<ObjectId> = found
            .into_iter()
            .filter(|id| repo.objects.find_commit(id, &mut buffer).is_ok())
            .collect();
        commits.sort();
        let mut ours = Vec::new();
        for commit in &commits {
            if self.contains(head, *commit)? {
                ours.push(*commit);
            }
        }
        match (ours.as_slice(), commits.as_slice()) {
            ([one], _) => Ok(*one),
            ([], []) => Err(failed(format!("begins no commit of the branch {branch:?}"))),
            ([], _) => Err(failed(format!(
                "is not in the history of the branch {branch:?}"
            ))),
            (several, _) => {
                let ids: Vec<String> = several
                    .iter()
                    .map(|id| id.to_hex_with_len(12).to_string())
                    .collect();
                Err(failed(format!(
                    "begins several commits: {}",
                    ids.join(", ")
                )))
            }
        }
    }

    /// Returns the first parents of `head` that are not in the history of `base`, newest first, at
    /// most `limit`.
    ///
    /// # Errors
    /// [`GitError::Broken`]
    pub fn since(
        &self,
        head: ObjectId,
        base: ObjectId,
        limit: usize,
    ) -> Result<Vec<HistoryCommit>, GitError> {
        let repo = self.local();
        let broken = |error: &dyn std::fmt::Display| self.broken("commit", base, error);
        let mut known = std::collections::HashSet::new();
        for info in repo
            .rev_walk([base])
            .all()
            .map_err(|error| broken(&error))?
        {
            known.insert(info.map_err(|error| broken(&error))?.id);
        }
        self.history(head, i64::MIN, limit)
            .take_while(|commit| {
                commit
                    .as_ref()
                    .map_or(true, |commit| !known.contains(&commit.id))
            })
            .collect()
    }
}
