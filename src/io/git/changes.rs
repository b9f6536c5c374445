//! The difference between two commits of a mirror.

use super::{Mirror, error::GitError, revision::tree_of, tree::differing_entries};
use gix::ObjectId;
use std::collections::HashSet;

impl Mirror {
    /// Returns the paths of all files and folders that differ between two commits; the root is the
    /// empty path.
    ///
    /// # Errors
    /// [`GitError::Broken`] if an object is not in the mirror, [`GitError::Limit`] if there are too
    /// many.
    pub fn changed_paths(&self, old: ObjectId, new: ObjectId) -> Result<HashSet<String>, GitError> {
        let repo = self.local();
        let tree = |commit| tree_of(self.dir(), &repo, commit);
        let (old, new) = (tree(old)?, tree(new)?);
        let mut paths = HashSet::new();
        if old != new {
            paths.insert(String::new());
        }
        let trees = (Some(old), Some(new));
        differing_entries(self.dir(), &repo, trees, &mut |path, _, _| {
            paths.insert(path.to_owned());
        })?;
        Ok(paths)
    }

    /// Returns how many trees were decoded to look something up; one that is kept counts once.
    pub fn decoded_trees(&self) -> u64 {
        self.trees.decoded()
    }
}
