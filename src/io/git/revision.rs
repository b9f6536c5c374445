//! The files of one commit.

use super::{
    error::{GitError, broken},
    tree_cache::TreeCache,
};
use crate::objects::tenancy;
use gix::{ObjectId, objs::tree::EntryKind, prelude::FindExt};
use std::{path::Path, sync::Arc};

/// A commit of a mirror or a working copy, opened for reading. It belongs to one thread; making one
/// costs microseconds.
pub struct Revision<'m> {
    dir: &'m Path,
    repo: gix::Repository,
    commit: ObjectId,
    tree: ObjectId,
    trees: Arc<TreeCache>,
    /// The most bytes of a file, where a tenant has a limit.
    file_limit: Option<u64>,
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    pub path: String,
    /// File, executable, symbolic link, submodule (`Commit`) or tree.
    pub kind: EntryKind,
    pub id: ObjectId,
}

/// A blob with what the tree says about it. The bytes of a symbolic link are its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileBlob {
    pub entry: TreeEntry,
    pub bytes: Vec<u8>,
}

impl<'m> Revision<'m> {
    pub(super) fn new(
        dir: &'m Path,
        repo: gix::Repository,
        commit: ObjectId,
        trees: Arc<TreeCache>,
    ) -> Result<Self, GitError> {
        let tree = tree_of(dir, &repo, commit)?;
        Ok(Self {
            dir,
            repo,
            commit,
            tree,
            trees,
            file_limit: None,
        })
    }

    /// Refuses files of more bytes when they are read by path.
    #[must_use]
    pub fn limit_files(self, file_limit: Option<u64>) -> Self {
        Self { file_limit, ..self }
    }

    /// Checks the size of a file that was read.
    ///
    /// # Errors
    /// [`GitError::Limit`] with the path.
    pub fn check_size(&self, path: &str, bytes: &[u8]) -> Result<(), GitError> {
        let refusal = |limit| tenancy::file_refusal(limit, bytes.len());
        match self.file_limit.and_then(refusal) {
            None => Ok(()),
            Some(why) => Err(GitError::Limit {
                place: path.to_owned(),
                why,
            }),
        }
    }

    pub fn commit(&self) -> ObjectId {
        self.commit
    }

    pub fn tree(&self) -> ObjectId {
        self.tree
    }

    /// Returns the entry at `path`; the root is the empty path. Symbolic links are not followed.
    pub fn find(&self, path: &str) -> Result<Option<TreeEntry>, GitError> {
        let (mut id, mut kind) = (self.tree, EntryKind::Tree);
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if kind != EntryKind::Tree {
                return Ok(None);
            }
            match self.trees.find(self.dir, &self.repo, id, part.as_bytes())? {
                Some(entry) => (kind, id) = entry,
                None => return Ok(None),
            }
        }
        Ok(Some(TreeEntry {
            path: path.to_owned(),
            kind,
            id,
        }))
    }

    /// The blob at `path`, or nothing where there is none (a tree or submodule has none).
    pub fn read(&self, path: &str) -> Result<Option<FileBlob>, GitError> {
        match self.find(path)? {
            Some(entry) if !matches!(entry.kind, EntryKind::Tree | EntryKind::Commit) => {
                let bytes = self.blob(entry.id)?;
                self.check_size(path, &bytes)?;
                Ok(Some(FileBlob { entry, bytes }))
            }
            _ => Ok(None),
        }
    }

    pub fn blob(&self, id: ObjectId) -> Result<Vec<u8>, GitError> {
        let mut bytes = Vec::new();
        self.repo
            .objects
            .find_blob(&id, &mut bytes)
            .map_err(|error| broken(self.dir, "blob", id, &error))?;
        Ok(bytes)
    }

    /// Every file, link and submodule below `path` in the order of their full paths. A path that is
    /// not UTF-8 is left out: no declaration can name it.
    pub fn list(&self, path: &str) -> Result<Vec<TreeEntry>, GitError> {
        let mut out = Vec::new();
        if let Some(TreeEntry {
            kind: EntryKind::Tree,
            id,
            ..
        }) = self.find(path)?
        {
            super::tree::walk(
                self.dir,
                &self.repo,
                id,
                path.trim_matches('/'),
                &mut |path, entry| {
                    out.push(TreeEntry {
                        path: path.to_owned(),
                        kind: entry.mode.kind(),
                        id: entry.oid.to_owned(),
                    });
                },
            )?;
        }
        Ok(out)
    }

    /// Checks the number of files and folders.
    ///
    /// # Errors
    /// [`GitError::Limit`] if there are more than `most`.
    pub fn check_entries(&self, most: usize) -> Result<(), GitError> {
        super::tree::check_entries(self.dir, &self.repo, self.tree, most)
    }
}

/// The root tree of a commit.
pub(crate) fn tree_of(
    dir: &Path,
    repo: &gix::Repository,
    commit: ObjectId,
) -> Result<ObjectId, GitError> {
    let mut buffer = Vec::new();
    let found = repo
        .objects
        .find_commit(&commit, &mut buffer)
        .map_err(|error| broken(dir, "commit", commit, &error))?;
    Ok(found.tree())
}
