//! The bare mirror of a remote, a folder that can be deleted at any time.

use super::{
    error::{GitError, chain},
    object_limit::MAX_OBJECT,
    remote::Remote,
    revision::Revision,
    tree_cache::TreeCache,
};
use crate::io::private;
use gix::{ObjectId, protocol::handshake::Ref, remote::fetch::refmap};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, atomic::AtomicBool},
    time::{Duration, Instant},
};

/// A reference below this prefix in the remote is kept below [`TRACKED`].
pub(crate) const HEADS: &str = "refs/heads/";

/// The prefix of remote branches in the mirror.
pub(crate) const TRACKED: &str = "refs/remotes/origin/";

/// Bytes of unpacked objects that each thread keeps as bases of deltas: without them reading 10,000
/// blobs takes five times as long; with more it takes no less.
const PACK_CACHE: usize = 4 << 20;

/// Packs that a running process can have open at once. gix reserves slots for 32 when it opens a
/// repository and fails when later fetches exceed them; each fetch adds one.
const PACKS_OPEN: u16 = 2048;

/// Packs beyond which [`Mirror::compact`] clones again. Every lookup may search every pack.
const PACKS_KEPT: usize = 256;

/// A complete copy of one branch of a [`Remote`], and of others on demand.
pub struct Mirror {
    dir: PathBuf,
    remote: Remote,
    /// The prefix of further branches to fetch.
    prefix: Option<String>,
    repo: RwLock<gix::ThreadSafeRepository>,
    rebuilt: Option<String>,
    pub(super) trees: Arc<TreeCache>,
    /// Held as long as the mirror lives; the system lets go of it when the process dies.
    _lock: fs::File,
}

/// The current head of the branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BranchHead {
    pub commit: ObjectId,
    /// True if this fetch moved it.
    pub changed: bool,
}

impl Mirror {
    /// Opens the mirror in `dir`, which is created if it is missing. An unusable repository there
    /// is deleted, and [`Mirror::rebuilt`] has the reason: the next fetch clones again. Sends
    /// nothing.
    ///
    /// # Errors
    /// [`GitError::InUse`] if another process has it open, [`GitError::Mirror`] if the folder
    /// cannot be created.
    pub fn open(dir: &Path, remote: Remote) -> Result<Self, GitError> {
        let lock = lock(dir)?;
        let (repo, rebuilt) = match fs::symlink_metadata(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (init(dir)?, None),
            _ => match usable(dir, &tracking(&remote)) {
                Ok(repo) => (repo, None),
                Err(why) => {
                    // A process that died while it made the folder has left nothing to lose, and
                    // nothing to tell.
                    let packs = fs::read_dir(dir.join("objects/pack")).map_or(0, Iterator::count);
                    let unborn =
                        dir.join("objects").is_dir() && !dir.join("HEAD").exists() && packs == 0;
                    remove(dir)?;
                    (init(dir)?, Some(why).filter(|_| !unborn))
                }
            },
        };
        Ok(Self {
            dir: dir.to_owned(),
            remote,
            prefix: None,
            repo: RwLock::new(repo),
            rebuilt,
            trees: Arc::default(),
            _lock: lock,
        })
    }

    /// From now on a fetch brings the branches, too, whose names begin with `prefix`, a folder as
    /// `tagboat/`: by the same question and on the same connection. [`Mirror::branches`] gives
    /// them.
    #[must_use]
    pub fn with_branches(self, prefix: &str) -> Self {
        Self {
            prefix: Some(prefix.to_owned()),
            ..self
        }
    }

    pub(crate) fn prefix(&self) -> Option<&str> {
        self.prefix.as_deref()
    }

    /// Returns the reason why an existing folder was deleted, if it was.
    pub fn rebuilt(&self) -> Option<&str> {
        self.rebuilt.as_deref()
    }

    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The commit that the last fetch saw; nothing is sent.
    pub fn head(&self) -> Option<ObjectId> {
        let repo = self.shared().to_thread_local();
        let id = repo
            .try_find_reference(tracking(&self.remote).as_str())
            .ok()??
            .try_id()?
            .detach();
        repo.has_object(id).then_some(id)
    }

    /// Lists the remote's references (one ls-refs) and fetches only if a followed branch has moved.
    /// A force-push is followed; a deleted branch is forgotten.
    ///
    /// # Errors
    /// [`GitError::NoBranch`], [`GitError::Denied`] or [`GitError::Wire`]; the mirror is unchanged.
    pub fn fetch(&self) -> Result<BranchHead, GitError> {
        self.remote.guard("fetch", || self.fetch_unguarded())
    }

    fn fetch_unguarded(&self) -> Result<BranchHead, GitError> {
        let before = self.head();
        let wire = |error: gix::Error| self.remote.wire("fetch", &error);
        let repo = self.local();
        let transport = self.remote.transport(gix_transport::Protocol::V2)?;
        let tracking = tracking(&self.remote);
        let mut specs = vec![format!("+{}:{tracking}", self.remote.source())];
        specs.extend(
            self.prefix
                .as_ref()
                .map(|prefix| format!("+{HEADS}{prefix}*:{TRACKED}{prefix}*")),
        );
        let remote = repo
            .remote_at_without_url_rewrite(self.remote.url().clone())
            .and_then(|remote| {
                remote.with_refspecs(
                    specs.iter().map(String::as_str),
                    gix::remote::Direction::Fetch,
                )
            })
            .map_err(wire)?
            .with_fetch_tags(gix::remote::fetch::Tags::None);
        let connection = remote
            .to_connection_with_transport(transport)
            // The identity is already set, for the URL's own host only; any other request for
            // credentials gets none.
            .with_credentials(|_| Ok(None))
            .with_transport_options(Box::new(self.remote.http_options()?));
        let prepared = connection
            .prepare_fetch(
                gix::progress::Discard,
                gix::remote::ref_map::Options::default(),
            )
            .map_err(wire)?;
        let source = self.remote.source();
        let (mut commit, mut branches) = (None, BTreeMap::new());
        for mapping in &prepared.ref_map().mappings {
            let (Some(name), Some(id)) = (mapping.remote.as_name(), mapping.remote.as_id()) else {
                continue;
            };
            match std::str::from_utf8(name) {
                Ok(name) if name == source => {
                    self.remote
                        .set_default_branch(symbolic_target(&mapping.remote))?;
                    commit = Some(id.to_owned());
                }
                Ok(name) => drop(branches.insert(
                    name.strip_prefix(HEADS).unwrap_or(name).to_owned(),
                    id.to_owned(),
                )),
                Err(_) => {}
            }
        }
        let Some(commit) = commit else {
            return Err(GitError::NoBranch {
                remote: self.remote.shown().to_owned(),
                branch: self.remote.branch().to_owned(),
            });
        };
        let known = self.branches()?;
        self.forget_branches(
            &repo,
            known.keys().filter(|name| !branches.contains_key(*name)),
        )?;
        if before == Some(commit)
            && branches
                .iter()
                .all(|(name, id)| known.get(name) == Some(id))
        {
            return Ok(BranchHead {
                commit,
                changed: false,
            });
        }
        prepared
            .receive(gix::progress::Discard, &AtomicBool::new(false))
            .map_err(wire)?;
        if repo.is_shallow().map_err(wire)? {
            // What was received has no parents, and would not get them by a later fetch.
            self.rebuild()?;
            return Err(GitError::Shallow {
                remote: self.remote.shown().to_owned(),
            });
        }
        match self.head() {
            // Another push may have happened between the two responses: the received commit counts.
            Some(commit) => Ok(BranchHead {
                commit,
                changed: before != Some(commit),
            }),
            None => Err(self.broken("commit", commit, &"it was not received")),
        }
    }

    /// Opens a commit for reading.
    ///
    /// # Errors
    /// [`GitError::Broken`] if it is not in the mirror.
    pub fn at(&self, commit: ObjectId) -> Result<Revision<'_>, GitError> {
        Revision::new(&self.dir, self.local(), commit, Arc::clone(&self.trees))
    }

    /// Returns whether `commit` is in the history of `head`, merges included. Resolves a push whose
    /// response was lost.
    pub fn contains(&self, head: ObjectId, commit: ObjectId) -> Result<bool, GitError> {
        let repo = self.local();
        if head == commit {
            return Ok(true);
        }
        if !repo.has_object(commit) {
            return Ok(false);
        }
        let walk = repo
            .rev_walk([head])
            .all()
            .map_err(|error| self.broken("commit", head, &error))?;
        for info in walk {
            if info
                .map_err(|error| self.broken("commit", head, &error))?
                .id
                == commit
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Deletes everything and starts empty; the next fetch clones. Objects opened before can no
    /// longer be read.
    ///
    /// # Errors
    /// [`GitError::Mirror`] if the folder cannot be deleted or created.
    pub fn rebuild(&self) -> Result<(), GitError> {
        let mut repo = self.repo.write().unwrap_or_else(PoisonError::into_inner);
        remove(&self.dir)?;
        self.trees.clear();
        *repo = init(&self.dir)?;
        Ok(())
    }

    /// Clones again if years of fetches have left too many packs; returns whether it did. For the
    /// idle time after a pass.
    pub fn compact(&self) -> Result<bool, GitError> {
        let packs = fs::read_dir(self.dir.join("objects/pack")).map_or(0, |files| {
            files
                .flatten()
                .filter(|file| {
                    file.path()
                        .extension()
                        .is_some_and(|extension| extension == "pack")
                })
                .count()
        });
        if packs <= PACKS_KEPT {
            return Ok(false);
        }
        self.rebuild()?;
        self.fetch()?;
        Ok(true)
    }

    /// A handle for this thread, with the cache that makes reading fast.
    pub(crate) fn local(&self) -> gix::Repository {
        cached(&self.shared())
    }

    /// The handle that threads make theirs from.
    pub(crate) fn shared(&self) -> gix::ThreadSafeRepository {
        self.repo
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Builds the error for a missing or corrupt object.
    pub(crate) fn broken(&self, what: &str, id: ObjectId, why: &dyn std::fmt::Display) -> GitError {
        super::error::broken(&self.dir, what, id, why)
    }
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirror")
            .field("dir", &self.dir)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

/// A handle for one thread.
pub(crate) fn cached(repo: &gix::ThreadSafeRepository) -> gix::Repository {
    let mut repo = repo.to_thread_local();
    repo.objects
        .set_pack_cache(|| Box::new(gix_pack::cache::lru::MemoryCappedHashmap::new(PACK_CACHE)));
    repo
}

/// The reference that a fetch writes. It is the same before the default branch has a name.
fn tracking(remote: &Remote) -> String {
    let source = remote.source();
    format!("{TRACKED}{}", source.strip_prefix(HEADS).unwrap_or(&source))
}

/// Returns the target of a symbolic reference of the remote.
fn symbolic_target(source: &refmap::Source) -> Option<&[u8]> {
    match source {
        refmap::Source::Ref(Ref::Symbolic { target, .. }) => Some(target),
        _ => None,
    }
}

fn options() -> gix::open::Options {
    gix::open::Options::isolated()
        .object_store_slots(gix::odb::store::init::Slots::Given(PACKS_OPEN))
        .open_path_as_is(true)
        .config_overrides([MAX_OBJECT])
}

fn lock(dir: &Path) -> Result<fs::File, GitError> {
    let failed = |error: std::io::Error| GitError::Mirror {
        dir: dir.to_owned(),
        why: error.to_string(),
    };
    if let Some(parent) = dir.parent() {
        private::create_folder(parent).map_err(failed)?;
    }
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let file = fs::File::options()
        .create(true)
        .append(true)
        .open(dir.with_file_name(name))
        .map_err(failed)?;
    let end = Instant::now() + LET_GO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < end => {
                #[expect(clippy::disallowed_methods, reason = "this runs in blocking tasks")]
                std::thread::sleep(LET_GO / 50);
            }
            Err(fs::TryLockError::WouldBlock) => {
                return Err(GitError::InUse {
                    dir: dir.to_owned(),
                });
            }
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}

/// A program that this process starts has all its files for a moment, also those just closed: a
/// lock is let go only then.
const LET_GO: Duration = Duration::from_millis(500);

/// Opens an existing repository, if it is usable, after removing the leftovers of a killed process.
fn usable(dir: &Path, tracking: &str) -> Result<gix::ThreadSafeRepository, String> {
    let repo =
        gix::ThreadSafeRepository::open_opts(dir, options()).map_err(|error| chain(&error))?;
    clear(dir);
    let local = repo.to_thread_local();
    if !local.is_bare() || local.object_hash() != gix::hash::Kind::Sha1 {
        return Err("it is no bare SHA-1 repository".into());
    }
    if local.is_shallow().map_err(|error| chain(&error))? {
        return Err("its history is cut off".into());
    }
    if let Some(reference) = local
        .try_find_reference(tracking)
        .map_err(|error| chain(&error))?
        && let Some(id) = reference.try_id()
    {
        let commit = local.find_commit(id).map_err(|error| chain(&error))?;
        commit.tree().map_err(|error| chain(&error))?;
    }
    Ok(repo)
}

/// Removes locks and temporary packs of a killed process. The lock beside the folder proves that it
/// is gone.
fn clear(dir: &Path) {
    let mut folders = vec![dir.join("refs")];
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = file.path();
            match file.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(_)
                    if path
                        .extension()
                        .is_some_and(|extension| extension == "lock") =>
                {
                    drop(fs::remove_file(path))
                }
                _ => {}
            }
        }
    }
    for file in [
        "packed-refs.lock",
        "HEAD.lock",
        "config.lock",
        "shallow.lock",
    ] {
        let _ = fs::remove_file(dir.join(file));
    }
    for file in fs::read_dir(dir.join("objects/pack"))
        .into_iter()
        .flatten()
        .flatten()
    {
        if file.file_name().to_string_lossy().starts_with(".tmp") {
            let _ = fs::remove_file(file.path());
        }
    }
}

/// Creates an empty repository beside `dir` and renames it, so that a killed process leaves none or
/// a whole one.
fn init(dir: &Path) -> Result<gix::ThreadSafeRepository, GitError> {
    let failed = |error: gix::Error| GitError::Mirror {
        dir: dir.to_owned(),
        why: chain(&error),
    };
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = dir.with_file_name(name);
    remove(&new)?;
    gix::ThreadSafeRepository::init_opts(
        &new,
        gix::create::Kind::Bare,
        gix::create::Options::default(),
        options(),
    )
    .map_err(failed)?;
    fs::rename(&new, dir).map_err(|error| GitError::Mirror {
        dir: dir.to_owned(),
        why: error.to_string(),
    })?;
    gix::ThreadSafeRepository::open_opts(dir, options()).map_err(failed)
}

fn remove(dir: &Path) -> Result<(), GitError> {
    let removed = match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Ok(kind) if !kind.is_dir() => fs::remove_file(dir),
        _ => fs::remove_dir_all(dir),
    };
    removed.map_err(|error| GitError::Mirror {
        dir: dir.to_owned(),
        why: error.to_string(),
    })
}
