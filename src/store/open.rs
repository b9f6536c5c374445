//! Opening the file, and the transactions on it.

use super::{
    StoreError,
    tables::{META, create_all},
};
use redb::{Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, StorageError, WriteTransaction};
use std::{
    fs::{File, OpenOptions},
    io::ErrorKind,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

/// The form of the tables. Another one in the file: it is begun anew, since all of it can be fetched again.
const VERSION: u64 = 1;
/// Pages kept in memory. The daemon reads one list at a time; redb's own default is 1 GiB.
const CACHE: usize = 8 * 1024 * 1024;

/// What was found when the store was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// Nothing: a new file.
    New,
    /// What an earlier process left.
    Kept,
    /// A file that could not be used; worth a warning.
    Rebuilt {
        /// Where it lies now. One such file is kept.
        moved_to: PathBuf,
        /// What was wrong.
        why: String,
    },
}

/// The database. One process has it open; threads share it.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// None after a failed write, until it could be opened again.
    database: RwLock<Option<Database>>,
}

/// Any error of redb.
pub(super) type Trouble = Box<redb::Error>;

impl Store {
    /// Opens the file or makes it, readable by its owner only.
    ///
    /// # Errors
    /// If another process has it open, or the file system refuses. A damaged file is none: see [`Opened`].
    pub fn open(path: &Path) -> Result<(Self, Opened), StoreError> {
        let io = |source| failure(path, Box::new(redb::Error::Io(source)));
        let existed = path.metadata().is_ok_and(|data| data.len() > 0);
        let (database, opened) = match database(path) {
            Ok(database) => (database, if existed { Opened::Kept } else { Opened::New }),
            Err(StoreError::Damaged { why, .. }) => {
                let mut name = path.file_name().unwrap_or_default().to_owned();
                name.push(".damaged");
                let moved_to = path.with_file_name(name);
                std::fs::rename(path, &moved_to).map_err(io)?;
                (database(path)?, Opened::Rebuilt { moved_to, why })
            }
            Err(error) => return Err(error),
        };
        Ok((Self { path: path.to_owned(), database: RwLock::new(Some(database)) }, opened))
    }

    /// Bytes of the file.
    pub fn size(&self) -> Result<u64, StoreError> {
        self.path.metadata().map(|data| data.len()).map_err(|source| StoreError::Io { path: self.path.clone(), source })
    }

    /// Runs `work` on a snapshot.
    pub(super) fn read<T>(&self, work: impl Fn(&ReadTransaction) -> Result<T, Trouble>) -> Result<T, StoreError> {
        self.with(|database| work(&database.begin_read().map_err(any)?))
    }

    /// Runs `work` and commits what it did, all or nothing; `lasting` waits for the disk.
    pub(super) fn write<T>(&self, lasting: bool, work: impl Fn(&WriteTransaction) -> Result<T, Trouble>) -> Result<T, StoreError> {
        self.with(|database| {
            let mut transaction = database.begin_write().map_err(any)?;
            if !lasting {
                transaction.set_durability(Durability::None).map_err(any)?;
            }
            let result = work(&transaction)?;
            transaction.commit().map_err(any)?;
            Ok(result)
        })
    }

    /// Writes down what was left to a later commit: call it before the process ends.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.write(true, |_| Ok(()))
    }

    fn with<T>(&self, work: impl Fn(&Database) -> Result<T, Trouble>) -> Result<T, StoreError> {
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let result = match &*guard {
            Some(database) => guarded(|| work(database)),
            None => {
                drop(guard);
                let mut place = self.database.write().unwrap_or_else(PoisonError::into_inner);
                let opened = match place.take() {
                    Some(database) => database,
                    None => database(&self.path)?,
                };
                return guarded(|| work(place.insert(opened))).map_err(|trouble| failure(&self.path, trouble));
            }
        };
        drop(guard);
        result.map_err(|trouble| {
            let error = failure(&self.path, trouble);
            // After a failed write redb refuses all further work of the handle; the file is as the last commit left it.
            *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
            error
        })
    }
}

/// redb checks what it reads, but some damage reaches its assertions.
fn guarded<T>(work: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Box::new(redb::Error::Corrupted("an assertion failed".to_owned()))))
}

pub(super) fn any(error: impl Into<redb::Error>) -> Trouble {
    Box::new(error.into())
}

fn database(path: &Path) -> Result<Database, StoreError> {
    let file = private(path).map_err(|source| failure(path, Box::new(redb::Error::Io(source))))?;
    guarded(|| {
        let database = redb::Builder::new().set_cache_size(CACHE).create_file(file).map_err(|error| match error {
            DatabaseError::UpgradeRequired(_) | DatabaseError::RepairAborted => Box::new(redb::Error::Corrupted(error.to_string())),
            error => any(error),
        })?;
        prepare(&database)?;
        Ok(database)
    })
    .map_err(|trouble| failure(path, trouble))
}

/// Creates the tables of a new file, or checks that the file's are ours.
fn prepare(database: &Database) -> Result<(), Trouble> {
    let version = {
        let transaction = database.begin_read().map_err(any)?;
        match transaction.open_table(META) {
            Ok(table) => table.get("version").map_err(any)?.map(|version| version.value()),
            Err(redb::TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(Box::new(redb::Error::Corrupted(error.to_string()))),
        }
    };
    match version {
        Some(VERSION) => Ok(()),
        Some(other) => Err(Box::new(redb::Error::Corrupted(format!("version {other}, this tagboat writes {VERSION}")))),
        None => {
            let transaction = database.begin_write().map_err(any)?;
            create_all(&transaction, VERSION)?;
            transaction.commit().map_err(any)
        }
    }
}

fn private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn failure(path: &Path, trouble: Trouble) -> StoreError {
    let path = path.to_owned();
    match *trouble {
        redb::Error::DatabaseAlreadyOpen => StoreError::InUse { path },
        redb::Error::Io(source) if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => StoreError::Full { path },
        // redb's word for a file that does not begin as its own do, or ends early.
        redb::Error::Io(source) if matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            StoreError::Damaged { path, why: source.to_string() }
        }
        redb::Error::Io(source) => StoreError::Io { path, source },
        redb::Error::PreviousIo => StoreError::Io { path, source: std::io::Error::other("an earlier write failed") },
        other => StoreError::Damaged { path, why: other.to_string() },
    }
}

impl From<StorageError> for StoreError {
    fn from(error: StorageError) -> Self {
        failure(Path::new("store"), any(error))
    }
}
