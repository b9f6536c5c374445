//! Progress of a query, for the client that waits for its answer.

use crate::update::{ImageUpdater, ScanProgress};
use std::pin::pin;

/// Receives the progress of a query: a spinner, or the client of the local socket.
pub trait Progress: Send + Sync {
    /// Replaces the text shown so far; it may have several lines.
    fn update(&self, text: &str);
}

/// Discards all progress.
#[derive(Debug, Clone, Copy)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn update(&self, _: &str) {}
}

/// Waits for work that scans image repositories, and reports how many are scanned.
pub(super) async fn scan_counts<T>(
    updater: &ImageUpdater,
    doing: &str,
    progress: &dyn Progress,
    work: impl Future<Output = T>,
) -> T {
    let name = &updater.repo.config.name;
    progress.update(&format!("{doing} {name}"));
    let mut scanned = updater.scanned.subscribe();
    let mut work = pin!(work);
    loop {
        let ScanProgress { done, total } = tokio::select! {
            biased;
            result = &mut work => return result,
            // The sender lives as long as the updater.
            _ = scanned.changed() => *scanned.borrow_and_update(),
        };
        if total > 0 {
            progress.update(&format!(
                "{doing} {name}: {done} of {total} image repositories"
            ));
        }
    }
}
