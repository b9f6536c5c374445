//! Opening the file, and the transactions on it.

use super::{
    StoreError,
    error::{RedbError, any},
    listings::{self, Listings},
    tables::{META, create_all},
};
use crate::io::private;
use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, WriteTransaction,
};
use std::{
    fs::File,
    io::{ErrorKind, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, RwLock, atomic::AtomicU64},
    time::{Duration, Instant},
};

/// The version of the table layout. A file of another version is replaced, since all of it can be
/// fetched again.
const VERSION: u64 = 2;
/// Pages kept in memory. The daemon reads one list at a time; redb's own default is 1 GiB.
const CACHE: usize = 8 * 1024 * 1024;

/// Commits that may be lost are made lasting with the first one after this time: redb frees no page
/// before, and a crash then costs no more than this much of them.
const LAG: Duration = Duration::from_secs(60);

/// The result of opening the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenReport {
    /// A new file.
    New,
    /// The file of an earlier process.
    Kept,
    /// A file that could not be used; worth a warning.
    Rebuilt {
        /// The new path of the old file. One such file is kept.
        moved_to: PathBuf,
        why: String,
    },
}

/// The database. One process has it open; threads share it.
#[derive(Debug)]
pub struct Store {
    pub(super) path: PathBuf,
    /// None after a failed write, until it could be opened again.
    database: RwLock<Option<Database>>,
    opener: StoreOpener,
    /// The last commit that waited for the disk.
    lasted: Mutex<Instant>,
    pub(super) listings: Mutex<Listings>,
    /// Tag lists that were read from the file.
    pub(super) lists_read: AtomicU64,
}

/// Turns the file into a database; a test injects a disk that fills up here.
type StoreOpener = fn(&Path) -> Result<Database, StoreError>;

impl Store {
    /// Opens the file or makes it, readable by its owner only.
    ///
    /// # Errors
    /// If another process has it open, or the file system refuses. A damaged file is none: see
    /// [`OpenReport`].
    pub fn open(path: &Path) -> Result<(Self, OpenReport), StoreError> {
        Self::open_by(path, database)
    }

    fn open_by(path: &Path, opener: StoreOpener) -> Result<(Self, OpenReport), StoreError> {
        let io = |source| failure(path, redb::Error::Io(source));
        let existed = path.metadata().is_ok_and(|data| data.len() > 0);
        let (database, opened) = match opener(path) {
            Ok(database) => (
                database,
                if existed {
                    OpenReport::Kept
                } else {
                    OpenReport::New
                },
            ),
            // The file never had content, so nothing is lost.
            Err(StoreError::Damaged { .. }) if unborn(path) => {
                std::fs::remove_file(path).map_err(io)?;
                (opener(path)?, OpenReport::New)
            }
            Err(StoreError::Damaged { why, .. }) => {
                let mut name = path.file_name().unwrap_or_default().to_owned();
                name.push(".damaged");
                let moved_to = path.with_file_name(name);
                std::fs::rename(path, &moved_to).map_err(io)?;
                (opener(path)?, OpenReport::Rebuilt { moved_to, why })
            }
            Err(error) => return Err(error),
        };
        Ok((
            Self {
                path: path.to_owned(),
                database: RwLock::new(Some(database)),
                opener,
                lasted: Mutex::new(Instant::now()),
                listings: Mutex::default(),
                lists_read: AtomicU64::default(),
            },
            opened,
        ))
    }

    /// Bytes of the file.
    pub fn size(&self) -> Result<u64, StoreError> {
        self.path
            .metadata()
            .map(|data| data.len())
            .map_err(|source| StoreError::Io {
                path: self.path.clone(),
                source,
            })
    }

    /// Runs `work` on a snapshot.
    pub(crate) fn read<T>(
        &self,
        work: impl Fn(&ReadTransaction) -> Result<T, RedbError>,
    ) -> Result<T, StoreError> {
        self.with(|database| work(&database.begin_read().map_err(any)?))
    }

    /// Runs `work` and commits it atomically; `lasting` waits for the disk.
    pub(crate) fn write<T>(
        &self,
        lasting: bool,
        work: impl Fn(&WriteTransaction) -> Result<T, RedbError>,
    ) -> Result<T, StoreError> {
        let lasting = lasting
            || self
                .lasted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .elapsed()
                >= LAG;
        let result = self.with(|database| {
            let mut transaction = database.begin_write().map_err(any)?;
            if !lasting {
                transaction.set_durability(Durability::None).map_err(any)?;
            }
            let result = work(&transaction)?;
            transaction.commit().map_err(any)?;
            Ok(result)
        })?;
        if lasting {
            *self.lasted.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        Ok(result)
    }

    /// Syncs deferred commits to disk: call it before the process ends.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.write_touched()?;
        self.write(true, |_| Ok(()))
    }

    fn with<T>(&self, work: impl Fn(&Database) -> Result<T, RedbError>) -> Result<T, StoreError> {
        let open = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let result = open.as_ref().map(|database| guarded(|| work(database)));
        drop(open);
        let result = match result {
            Some(result) => result,
            None => self.with_reopened(work)?,
        };
        result.map_err(|trouble| {
            // After a failed write redb refuses all further work of the handle; the file is as the
            // last commit left it.
            *self
                .database
                .write()
                .unwrap_or_else(PoisonError::into_inner) = None;
            failure(&self.path, *trouble)
        })
    }

    fn with_reopened<T>(
        &self,
        work: impl Fn(&Database) -> Result<T, RedbError>,
    ) -> Result<Result<T, RedbError>, StoreError> {
        let mut place = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let database = match place.take() {
            Some(database) => database,
            None => (self.opener)(&self.path)?,
        };
        let database = place.insert(database);
        Ok(guarded(|| work(database)))
    }
}

/// Turns redb's assertions on damaged files into errors; it checks what it reads, but some damage
/// reaches them.
fn guarded<T>(work: impl FnOnce() -> Result<T, RedbError>) -> Result<T, RedbError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Box::new(redb::Error::Corrupted(
            "an assertion failed".to_owned(),
        )))
    })
}

fn database(path: &Path) -> Result<Database, StoreError> {
    let end = Instant::now() + LET_GO;
    loop {
        let file =
            private::open_file(path).map_err(|source| failure(path, redb::Error::Io(source)))?;
        match prepared(path, || {
            redb::Builder::new().set_cache_size(CACHE).create_file(file)
        }) {
            Err(StoreError::InUse { .. }) if Instant::now() < end => {
                #[expect(clippy::disallowed_methods, reason = "this runs in blocking tasks")]
                std::thread::sleep(LET_GO / 50);
            }
            opened => return opened,
        }
    }
}

/// A program that this process starts has all its files for a moment, also those just closed: the
/// lock of the file is let go only then.
const LET_GO: Duration = Duration::from_millis(500);

fn prepared(
    path: &Path,
    open: impl FnOnce() -> Result<Database, DatabaseError>,
) -> Result<Database, StoreError> {
    guarded(|| {
        let database = open().map_err(|error| match error {
            DatabaseError::UpgradeRequired(_) | DatabaseError::RepairAborted => {
                Box::new(redb::Error::Corrupted(error.to_string()))
            }
            error => any(error),
        })?;
        prepare(&database)?;
        Ok(database)
    })
    .map_err(|trouble| failure(path, *trouble))
}

/// Creates the tables of a new file, or checks that the file's are ours.
fn prepare(database: &Database) -> Result<(), RedbError> {
    let version = {
        let transaction = database.begin_read().map_err(any)?;
        match transaction.open_table(META) {
            Ok(table) => table
                .get("version")
                .map_err(any)?
                .map(|version| version.value()),
            Err(redb::TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(Box::new(redb::Error::Corrupted(error.to_string()))),
        }
    };
    match version {
        Some(VERSION) => Ok(()),
        Some(other) => Err(Box::new(redb::Error::Corrupted(format!(
            "version {other}, this tagboat writes {VERSION}"
        )))),
        None => {
            let transaction = database.begin_write().map_err(any)?;
            listings::create(&transaction)?;
            create_all(&transaction, VERSION)?;
            transaction.commit().map_err(any)
        }
    }
}

/// Returns whether a process died while creating the file: redb writes the magic number last.
fn unborn(path: &Path) -> bool {
    let mut start = [1; 9];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut start))
        .is_ok()
        && start == [0; 9]
}

fn failure(path: &Path, trouble: redb::Error) -> StoreError {
    let path = path.to_owned();
    match trouble {
        redb::Error::DatabaseAlreadyOpen => StoreError::InUse { path },
        redb::Error::Io(source)
            if matches!(
                source.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded
            ) =>
        {
            StoreError::Full { path }
        }
        // redb's word for a file that does not begin as its own do, or ends early.
        redb::Error::Io(source)
            if matches!(
                source.kind(),
                ErrorKind::InvalidData | ErrorKind::UnexpectedEof
            ) =>
        {
            StoreError::Damaged {
                path,
                why: source.to_string(),
            }
        }
        redb::Error::Io(source) => StoreError::Io { path, source },
        redb::Error::PreviousIo => StoreError::Io {
            path,
            source: std::io::Error::other("an earlier write failed"),
        },
        other => StoreError::Damaged {
            path,
            why: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::{StorageBackend, backends::FileBackend};
    use std::{io, sync::atomic::Ordering};

    /// Size of the disk in bytes.
    static DISK: AtomicU64 = AtomicU64::new(u64::MAX);

    #[derive(Debug)]
    struct Disk(FileBackend);

    impl Disk {
        fn room(end: u64) -> io::Result<()> {
            if end > DISK.load(Ordering::SeqCst) {
                Err(ErrorKind::StorageFull.into())
            } else {
                Ok(())
            }
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            Self::room(len)?;
            self.0.set_len(len)
        }
        fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            Self::room(offset + data.len() as u64)?;
            self.0.write(offset, data)
        }
        fn close(&self) -> io::Result<()> {
            self.0.close()
        }
    }

    fn small_disk(path: &Path) -> Result<Database, StoreError> {
        let file =
            private::open_file(path).map_err(|source| failure(path, redb::Error::Io(source)))?;
        prepared(path, || {
            redb::Builder::new().create_with_backend(Disk(FileBackend::new(file)?))
        })
    }

    #[test]
    fn store_full_disk_is_reported_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let (store, _) = Store::open_by(&path, small_disk).unwrap();
        store.put("a", "kept", b"before").unwrap();
        DISK.store(store.size().unwrap(), Ordering::SeqCst);
        let big = vec![7; 8 * 1024 * 1024];
        for _ in 0..2 {
            let error = store.put("a", "big", &big).unwrap_err();
            assert!(matches!(error, StoreError::Full { .. }), "{error}");
        }
        assert_eq!(
            store.get("a", "kept").unwrap().as_deref(),
            Some(&b"before"[..])
        );
        assert_eq!(store.get("a", "big").unwrap(), None);
        DISK.store(u64::MAX, Ordering::SeqCst);
        store.put("a", "big", &big).unwrap();
        drop(store);
        let (store, opened) = Store::open(&path).unwrap();
        assert_eq!(
            (
                opened,
                store.get("a", "big").unwrap().map(|bytes| bytes.len())
            ),
            (OpenReport::Kept, Some(big.len()))
        );
    }
}
