//! Decoded trees, shared by everything that reads a mirror.
//!
//! Thousands of Applications look their folders up in the same few trees, of which one may have
//! thousands of entries.

use super::error::{GitError, broken};
use gix::{
    ObjectId,
    objs::tree::{EntryKind, EntryMode},
    prelude::FindExt,
};
use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Bytes of decoded trees that are kept: a tree of 10,000 entries takes 0.8 MB.
const KEPT: usize = 4 << 20;

/// Bytes of the largest tree that is kept alone, in the place of all others: more than a commit
/// may have entries.
const LARGEST: usize = 64 << 20;

/// A tree whose entries are found by name.
#[derive(Debug)]
struct DecodedTree {
    /// Sorted by name.
    entries: Box<[DecodedEntry]>,
}

#[derive(Debug)]
struct DecodedEntry {
    name: Box<[u8]>,
    mode: EntryMode,
    id: ObjectId,
}

impl DecodedTree {
    fn find(&self, name: &[u8]) -> Option<(EntryKind, ObjectId)> {
        let at = self
            .entries
            .binary_search_by(|entry| (*entry.name).cmp(name));
        at.ok()
            .map(|at| (self.entries[at].mode.kind(), self.entries[at].id))
    }

    /// Returns roughly the memory that it takes.
    fn bytes(&self) -> usize {
        let names: usize = self.entries.iter().map(|entry| entry.name.len()).sum();
        names + self.entries.len() * (size_of::<DecodedEntry>() + 16) + 128
    }
}

/// The trees that were looked up last, by id.
#[derive(Debug, Default)]
pub(super) struct TreeCache {
    trees: Mutex<KeptTrees>,
    decoded: AtomicU64,
}

#[derive(Debug, Default)]
struct KeptTrees {
    by_id: HashMap<ObjectId, Arc<DecodedTree>>,
    bytes: usize,
}

impl TreeCache {
    /// Returns how many trees were decoded.
    pub(super) fn decoded(&self) -> u64 {
        self.decoded.load(Ordering::Relaxed)
    }

    /// Returns the entry of a tree by name.
    ///
    /// # Errors
    /// [`GitError::Broken`] if the tree is not in the repository.
    pub(super) fn find(
        &self,
        dir: &Path,
        repo: &gix::Repository,
        tree: ObjectId,
        name: &[u8],
    ) -> Result<Option<(EntryKind, ObjectId)>, GitError> {
        let kept = self.lock().by_id.get(&tree).cloned();
        let decoded = match kept {
            Some(decoded) => decoded,
            None => {
                let decoded = self.decode(dir, repo, tree)?;
                self.lock().keep(tree, &decoded);
                decoded
            }
        };
        Ok(decoded.find(name))
    }

    /// Forgets all trees, when objects are deleted.
    pub(super) fn clear(&self) {
        *self.lock() = KeptTrees::default();
    }

    fn decode(
        &self,
        dir: &Path,
        repo: &gix::Repository,
        id: ObjectId,
    ) -> Result<Arc<DecodedTree>, GitError> {
        self.decoded.fetch_add(1, Ordering::Relaxed);
        let mut buffer = Vec::new();
        let tree = repo
            .objects
            .find_tree(&id, &mut buffer)
            .map_err(|error| broken(dir, "tree", id, &error))?;
        let entries = tree.entries.iter().map(|entry| DecodedEntry {
            name: entry.filename.to_vec().into(),
            mode: entry.mode,
            id: entry.oid.to_owned(),
        });
        let mut entries: Box<[DecodedEntry]> = entries.collect();
        // Git sorts a folder as if its name ended in '/'. Of equal names, which only a hostile tree
        // has, the first one counts.
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let mut entries = entries.into_vec();
        entries.dedup_by(|later, first| later.name == first.name);
        Ok(Arc::new(DecodedTree {
            entries: entries.into(),
        }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, KeptTrees> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeptTrees {
    fn keep(&mut self, id: ObjectId, tree: &Arc<DecodedTree>) {
        let bytes = tree.bytes();
        if bytes > LARGEST {
            return;
        }
        if self.bytes + bytes > KEPT {
            // Trees of the newest revision come back at once; those of older ones do not.
            *self = Self::default();
        }
        if self.by_id.insert(id, Arc::clone(tree)).is_none() {
            self.bytes += bytes;
        }
    }
}
