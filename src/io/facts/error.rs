//! Errors of scans.

use crate::{
    core::{
        error::{Classify, ErrorKind},
        image::ImageRepository,
        schedule,
    },
    io::{registry::RegistryError, store::StoreError},
};
use std::time::Duration;

/// A scan went wrong.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry says that nothing has changed since a listing that was never asked for.
    #[error(
        "{repository}: the registry answered \"not modified\" to a question that was not asked"
    )]
    Unasked { repository: ImageRepository },
    /// The registry answers, but not fast enough.
    #[error("{repository}: the scan took longer than {}", schedule::show(*after))]
    Deadline {
        repository: ImageRepository,
        after: Duration,
    },
    /// The registry has not answered yet; the scan goes on.
    #[error(
        "{repository}: this pass has waited {} for its registry; the scan goes on, and so do other images",
        schedule::show(*waited)
    )]
    Running {
        repository: ImageRepository,
        waited: Duration,
    },
    /// The settings file does not let this config repository use the registry.
    #[error(
        "{repository}: registries[] with prefix {prefix:?} in tagboat.yaml does not list the repository {config:?}"
    )]
    Forbidden {
        repository: ImageRepository,
        prefix: String,
        config: String,
    },
}

impl Classify for ScanError {
    fn kind(&self) -> ErrorKind {
        match self {
            ScanError::Registry(error) => error.kind(),
            ScanError::Store(error) => error.kind(),
            ScanError::Forbidden { .. } => ErrorKind::Config,
            ScanError::Unasked { .. } | ScanError::Deadline { .. } | ScanError::Running { .. } => {
                ErrorKind::Remote
            }
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            ScanError::Registry(error) => error.retry_after(),
            ScanError::Store(_)
            | ScanError::Forbidden { .. }
            | ScanError::Unasked { .. }
            | ScanError::Deadline { .. }
            | ScanError::Running { .. } => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ScanError::Registry(error) => error.hint(),
            ScanError::Store(error) => error.hint(),
            ScanError::Deadline { .. } => Some(
                "Write a longer `timeout` in the ImagePolicy (of Flux: in the ImageRepository)."
                    .to_owned(),
            ),
            ScanError::Forbidden { .. } | ScanError::Unasked { .. } | ScanError::Running { .. } => {
                None
            }
        }
    }
}
