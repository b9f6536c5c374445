//! A file or folder that cannot be read or written.

use crate::core::error::{Classify, ErrorKind};
use std::path::{Path, PathBuf};

/// A file or folder that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    #[source]
    source: std::io::Error,
}

impl FileError {
    /// An error whose message is `cannot ACTION PATH`.
    pub(super) fn new(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

impl Classify for FileError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Config
    }
}
