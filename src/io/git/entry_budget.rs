//! Bounds of the entries of a commit: a few hundred bytes of trees can stand for billions of files.

use super::error::GitError;
use std::path::Path;

/// Files and folders of one commit.
const MAX_ENTRIES: usize = 500_000;

/// Bytes of their paths together.
const MAX_PATHS: usize = 64 << 20;

/// Counts the entries of trees that one walk visits.
#[derive(Debug)]
pub(super) struct EntryBudget {
    most: usize,
    entries: usize,
    path_bytes: usize,
}

impl Default for EntryBudget {
    fn default() -> Self {
        Self::new(MAX_ENTRIES)
    }
}

impl EntryBudget {
    /// Creates a budget of so many entries, or fewer.
    pub(super) fn new(most: usize) -> Self {
        let most = most.min(MAX_ENTRIES);
        Self {
            most,
            entries: most,
            path_bytes: MAX_PATHS,
        }
    }

    /// Spends the entry at a path.
    ///
    /// # Errors
    /// [`GitError::Limit`] if a commit has too many, or too long ones.
    pub(super) fn spend(&mut self, dir: &Path, path: &str) -> Result<(), GitError> {
        let limit = |why| GitError::Limit {
            place: format!("git mirror {}", dir.display()),
            why,
        };
        self.entries = self.entries.checked_sub(1).ok_or_else(|| {
            limit(format!(
                "a commit has more than {} files and folders",
                self.most
            ))
        })?;
        self.path_bytes = self.path_bytes.checked_sub(path.len()).ok_or_else(|| {
            limit(format!(
                "the paths of a commit exceed {} MiB in total",
                MAX_PATHS >> 20
            ))
        })?;
        Ok(())
    }
}
