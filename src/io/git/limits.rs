//! Bounds of what the objects of a repository may make us hold: a few hundred bytes of trees can
//! stand for billions of files, and a megabyte of a pack for gigabytes of a blob.

use super::error::{GitError, broken};
use gix::ObjectId;
use std::path::Path;

/// Files and folders of one commit.
const MAX_ENTRIES: usize = 500_000;

/// Bytes of their paths together.
const MAX_PATHS: usize = 64 << 20;

/// Bytes of one file.
const MAX_FILE: u64 = 32 << 20;

/// Counts the entries of trees that one walk visits.
#[derive(Debug)]
pub(super) struct EntryBudget {
    entries: usize,
    path_bytes: usize,
}

impl Default for EntryBudget {
    fn default() -> Self {
        Self {
            entries: MAX_ENTRIES,
            path_bytes: MAX_PATHS,
        }
    }
}

impl EntryBudget {
    /// Spends the entry at a path.
    ///
    /// # Errors
    /// [`GitError::Limit`] if a commit has too many, or too long ones.
    pub(super) fn spend(&mut self, dir: &Path, path: &str) -> Result<(), GitError> {
        let limit = |why| GitError::Limit {
            dir: dir.to_owned(),
            why,
        };
        self.entries = self.entries.checked_sub(1).ok_or_else(|| {
            limit(format!(
                "a commit has more than {MAX_ENTRIES} files and folders"
            ))
        })?;
        self.path_bytes = self.path_bytes.checked_sub(path.len()).ok_or_else(|| {
            limit(format!(
                "the paths of a commit have more than {} MiB",
                MAX_PATHS >> 20
            ))
        })?;
        Ok(())
    }
}

/// Checks the size of a blob before it is unpacked.
///
/// # Errors
/// [`GitError::Limit`] if it is too large, [`GitError::Broken`] if it is missing.
pub(super) fn check_size(
    dir: &Path,
    repo: &gix::Repository,
    id: ObjectId,
    path: Option<&str>,
) -> Result<(), GitError> {
    let header = repo
        .find_header(id)
        .map_err(|error| broken(dir, "blob", id, &error))?;
    if header.size() <= MAX_FILE {
        return Ok(());
    }
    let file = match path {
        Some(path) => crate::core::text::one_line(path, 400),
        None => format!("blob {}", id.to_hex_with_len(12)),
    };
    Err(GitError::Limit {
        dir: dir.to_owned(),
        why: format!(
            "{file} has {} MiB; at most {} are read",
            header.size().div_ceil(1 << 20),
            MAX_FILE >> 20
        ),
    })
}
