//! The tags of a scan, which most passes do not look at.

use crate::{
    core::image::{ImageRepository, TagList},
    io::store::{ListVersion, Store, StoreError},
};
use std::sync::{Arc, OnceLock};

/// The tags of a listing, read from the store by the first policy that judges them.
///
/// They cost no memory between passes, and a list that no policy judges is not read.
#[derive(Debug, Clone)]
pub struct ListedTags {
    store: Arc<Store>,
    repository: ImageRepository,
    version: ListVersion,
    read: OnceLock<(ListVersion, Arc<TagList>)>,
}

impl ListedTags {
    /// Refers to the tags of a listing in the store.
    pub(super) fn kept(
        store: &Arc<Store>,
        repository: &ImageRepository,
        version: ListVersion,
    ) -> Self {
        Self {
            store: Arc::clone(store),
            repository: repository.clone(),
            version,
            read: OnceLock::new(),
        }
    }

    /// Holds the tags of a listing that is new.
    pub(super) fn fresh(
        store: &Arc<Store>,
        repository: &ImageRepository,
        version: ListVersion,
        tags: TagList,
    ) -> Self {
        let listed = Self::kept(store, repository, version);
        // The cell is new.
        let _ = listed.read.set((version, Arc::new(tags)));
        listed
    }

    /// Returns the version of the tags. Reading them may give a newer one, of a scan by another
    /// config repository.
    pub fn version(&self) -> ListVersion {
        self.read
            .get()
            .map_or(self.version, |(version, _)| *version)
    }

    /// Returns the tags. Blocks, if they are read for the first time.
    ///
    /// # Errors
    /// If the store cannot be read, or has lost them.
    pub fn get(&self) -> Result<&Arc<TagList>, StoreError> {
        if self.read.get().is_none() {
            let kept = self.store.tags(&self.repository)?;
            let kept = kept.ok_or_else(|| self.store.lost(&self.repository))?;
            // Another thread may have read them, too.
            let _ = self.read.set((kept.version, Arc::new(kept.tags)));
        }
        match self.read.get() {
            Some((_, tags)) => Ok(tags),
            None => Err(self.store.lost(&self.repository)),
        }
    }
}
