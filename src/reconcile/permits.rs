//! How many Applications are at work at once.
//!
//! One that is at work holds its objects as trees, ten times their text, several times: thousands
//! that begin together would take hundreds of megabytes for what the server takes sixteen at a
//! time.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The turns of a cluster.
pub(crate) struct WorkPermits(Arc<Semaphore>);

impl WorkPermits {
    /// For a cluster that takes so many requests at once: twice as many, so that it is not idle
    /// while some of them think.
    pub fn new(concurrency: usize) -> Self {
        Self(Arc::new(Semaphore::new(
            concurrency
                .saturating_mul(2)
                .clamp(2, Semaphore::MAX_PERMITS),
        )))
    }

    /// Waits for one; whoever came first has it first.
    pub async fn wait(&self) -> WorkPermit {
        // The semaphore is never closed; were it, nobody would have to wait.
        WorkPermit(Arc::new(Mutex::new(
            Arc::clone(&self.0).acquire_owned().await.ok(),
        )))
    }
}

/// The right to be at work, until it is dropped or given back.
#[derive(Clone)]
pub(crate) struct WorkPermit(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl WorkPermit {
    /// Lets another one work: what comes now is waiting.
    pub fn give_back(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn a_turn_is_free_when_it_is_given_back_or_dropped() {
        let turns = WorkPermits::new(1);
        let (first, second) = (turns.wait().await, turns.wait().await);
        assert!(turns.wait().now_or_never().is_none());
        let copy = first.clone();
        drop(first);
        assert!(turns.wait().now_or_never().is_none());
        copy.give_back();
        let third = turns.wait().now_or_never().unwrap();
        assert!(turns.wait().now_or_never().is_none());
        drop((second, third));
        assert!(turns.wait().now_or_never().is_some());
    }
}
