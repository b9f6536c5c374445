//! A bound on the Applications that work at once.
//!
//! A working Application holds its objects as trees, ten times their text, several times over.
//! Thousands that begin together would take hundreds of megabytes, for work that the API server
//! takes sixteen requests at a time.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The permits of one cluster.
pub(crate) struct WorkPermits(Arc<Semaphore>);

impl WorkPermits {
    /// Creates twice as many permits as the cluster takes requests, so that it is not idle while
    /// half of the Applications compute.
    pub(super) fn new(concurrency: usize) -> Self {
        Self(Arc::new(Semaphore::new(
            concurrency
                .saturating_mul(2)
                .clamp(2, Semaphore::MAX_PERMITS),
        )))
    }

    /// Waits for a permit, first come, first served.
    pub(super) async fn acquire(&self) -> WorkPermit {
        // The semaphore is never closed; if it were, working unbounded would be right.
        WorkPermit(Arc::new(Mutex::new(
            Arc::clone(&self.0).acquire_owned().await.ok(),
        )))
    }
}

/// A permit to work, until all its clones are dropped or one of them releases it.
#[derive(Clone)]
pub(crate) struct WorkPermit(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl WorkPermit {
    /// Releases the permit early, before a long wait.
    pub(crate) fn release(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn permit_released_or_dropped_is_free_again() {
        let permits = WorkPermits::new(1);
        let (first, second) = (permits.acquire().await, permits.acquire().await);
        assert!(permits.acquire().now_or_never().is_none());
        let copy = first.clone();
        drop(first);
        assert!(permits.acquire().now_or_never().is_none());
        copy.release();
        let third = permits.acquire().now_or_never().unwrap();
        assert!(permits.acquire().now_or_never().is_none());
        drop((second, third));
        assert!(permits.acquire().now_or_never().is_some());
    }
}
