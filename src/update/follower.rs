//! The local state of one config repository: its mirror, and the last revision that was read.

use super::{DeclarationScope, DeclaredNames, RepoSnapshot, SnapshotCache, blocking, snapshot};
use crate::{
    io::git::{GitError, Mirror, ObjectId},
    spec::{Declarations, settings::ConfigRepository},
};
use std::{path::PathBuf, sync::Arc};
use tokio::sync::{Mutex, watch};

/// Follows the branch of one config repository.
pub struct RepoFollower {
    pub config: ConfigRepository,
    pub mirror: Arc<Mirror>,
    /// Held by a pass, and by every query that fetches or writes: two of them never run at the same
    /// time on one repository.
    pub lock: Arc<Mutex<()>>,
    /// Every revision, as soon as it has been read.
    pub revisions: watch::Sender<Option<RepoSnapshot>>,
    pub index_folder: PathBuf,
    cache: Arc<Mutex<SnapshotCache>>,
}

impl RepoFollower {
    /// Creates a follower that has read nothing yet. The index files lie in `index_folder`.
    pub fn new(config: ConfigRepository, mirror: Mirror, index_folder: PathBuf) -> Self {
        Self {
            config,
            mirror: Arc::new(mirror),
            lock: Arc::default(),
            revisions: watch::Sender::new(None),
            index_folder,
            cache: Arc::default(),
        }
    }

    fn scope(&self) -> DeclarationScope {
        DeclarationScope::from(&self.config)
    }

    /// Fetches the branch and reads its head. Warnings go to `warnings`.
    ///
    /// # Errors
    /// If the remote cannot be reached or the mirror is damaged.
    pub async fn refresh(&self, warnings: &mut Vec<String>) -> Result<RepoSnapshot, GitError> {
        let mirror = Arc::clone(&self.mirror);
        let mut cache = Arc::clone(&self.cache).lock_owned().await;
        let (scope, folder) = (self.scope(), self.index_folder.clone());
        let (snapshot, found) = blocking(move || {
            let head = mirror.fetch()?;
            let last = cache.declared();
            let (snapshot, found) =
                snapshot::read(&mirror, head.commit, &scope, &folder, &mut cache)?;
            let is_same = last.is_some_and(|last| Arc::ptr_eq(&last, &snapshot.declared));
            if !is_same {
                // Without them, the shell completes no names.
                let _ = DeclaredNames::from(&*snapshot.declared).write(&folder);
            }
            Ok::<_, GitError>((snapshot, found))
        })
        .await?;
        warnings.extend(found);
        self.revisions.send_if_modified(|last| {
            let is_new = last
                .as_ref()
                .is_none_or(|last| last.commit != snapshot.commit);
            if is_new {
                *last = Some(snapshot.clone());
            }
            is_new
        });
        Ok(snapshot)
    }

    /// Returns the declarations of the revision that was read last.
    pub fn declared(&self) -> Option<Arc<Declarations>> {
        let last = self.revisions.borrow();
        last.as_ref().map(|last| Arc::clone(&last.declared))
    }

    /// Returns the declarations of the revision that this or an earlier process has read last;
    /// none before the first fetch. Sends nothing, and does not wait for a fetch.
    ///
    /// # Errors
    /// If an object of the mirror is missing.
    pub async fn last_declared(&self) -> Result<Option<Arc<Declarations>>, GitError> {
        if let Some(declared) = self.declared() {
            return Ok(Some(declared));
        }
        let cache = Arc::clone(&self.cache).try_lock_owned();
        let (scope, folder) = (self.scope(), self.index_folder.clone());
        self.read(move |mirror| {
            let Some(head) = mirror.head() else {
                return Ok(None);
            };
            let Ok(mut cache) = cache else {
                let declared = snapshot::declared_at(mirror, head, &scope)?;
                return Ok(Some(Arc::new(declared)));
            };
            let read = snapshot::read(mirror, head, &scope, &folder, &mut cache);
            read.map(|(snapshot, _)| Some(snapshot.declared))
        })
        .await
    }

    /// Reads the declarations of any commit, past the cache.
    ///
    /// # Errors
    /// If an object of the mirror is missing.
    pub async fn declared_at(&self, commit: ObjectId) -> Result<Declarations, GitError> {
        let scope = self.scope();
        self.read(move |mirror| snapshot::declared_at(mirror, commit, &scope))
            .await
    }

    /// Returns the files that declare something at `commit`, if that was read last.
    pub(super) async fn declaring_files(
        &self,
        commit: ObjectId,
    ) -> Option<Vec<(String, ObjectId)>> {
        self.cache.lock().await.sources(commit).map(<[_]>::to_vec)
    }

    /// Resolves a commit of the branch by its id or the beginning of it, after a fetch.
    ///
    /// # Errors
    /// [`GitError::Revision`] if there is no such commit; or if the remote cannot be reached.
    pub async fn resolve(&self, revision: &str) -> Result<ObjectId, GitError> {
        let head = self.refresh(&mut Vec::new()).await?.commit;
        let revision = revision.to_owned();
        self.read(move |mirror| mirror.revision(head, &revision))
            .await
    }

    /// Runs a function that reads the mirror in a blocking task.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Mirror) -> T + Send + 'static,
    ) -> T {
        let mirror = Arc::clone(&self.mirror);
        blocking(move || read(&mirror)).await
    }

    /// Drops the mirror and all that was read from it; the next fetch clones again.
    pub(super) async fn rebuild(&self) -> Result<(), GitError> {
        *self.cache.lock().await = SnapshotCache::default();
        self.read(Mirror::rebuild).await
    }

    /// Compacts the mirror where that is due.
    pub(super) async fn compact(&self) -> Result<(), GitError> {
        self.read(|mirror| mirror.compact().map(drop)).await
    }
}
