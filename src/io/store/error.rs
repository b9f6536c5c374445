//! Errors of the store.

use crate::core::error::{Classify, ErrorKind};
use std::path::PathBuf;

/// The store cannot be used, or could not write. Its previous content is intact.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("{}: in use by another process", path.display())]
    InUse { path: PathBuf },
    /// The disk is full; nothing was written.
    #[error("{}: the disk is full; nothing was written and nothing is lost", path.display())]
    Full { path: PathBuf },
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The content is damaged; opening the store again moves it aside.
    #[error("{}: damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
}

impl Classify for StoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            // Space and other processes come and go without a change of any declaration.
            StoreError::InUse { .. } | StoreError::Full { .. } | StoreError::Io { .. } => {
                ErrorKind::Local
            }
            StoreError::Damaged { .. } => ErrorKind::Bug,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            StoreError::InUse { .. } => {
                "A running tagboat holds it; give this one another `store`, or stop that one."
                    .to_owned()
            }
            StoreError::Full { .. } => "Free some space; the next pass writes again.".to_owned(),
            StoreError::Io { .. } => {
                "Check that the folder of `store` exists and can be written.".to_owned()
            }
            StoreError::Damaged { .. } => {
                "Restart tagboat: it moves the file aside and begins a new one.".to_owned()
            }
        })
    }
}

/// Any error of redb.
pub(crate) type RedbError = Box<redb::Error>;

pub(crate) fn any(error: impl Into<redb::Error>) -> RedbError {
    Box::new(error.into())
}
