//! The retry of a failed rendering, which the user can request.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// A failed rendering that can be retried.
#[derive(Debug, Default)]
pub(crate) struct RenderRetry {
    state: Mutex<RetryState>,
    changed: Notify,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum RetryState {
    /// The last rendering did not fail.
    #[default]
    Idle,
    Failed,
    /// The user requested another attempt, which has not ended.
    Requested,
}

impl RenderRetry {
    fn lock(&self) -> MutexGuard<'_, RetryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the end of a rendering.
    pub(super) fn rendered(&self, failed: bool) {
        *self.lock() = match failed {
            true => RetryState::Failed,
            false => RetryState::Idle,
        };
    }

    /// Waits for a request or a cancellation.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Cancels a pending retry.
    pub(super) fn cancel(&self) {
        *self.lock() = RetryState::Idle;
        self.changed.notify_one();
    }

    /// Requests another attempt at once; returns whether a rendering had failed.
    pub(super) fn request(&self) -> bool {
        let mut state = self.lock();
        if *state == RetryState::Idle {
            return false;
        }
        *state = RetryState::Requested;
        self.changed.notify_one();
        true
    }

    pub(super) fn is_requested(&self) -> bool {
        *self.lock() == RetryState::Requested
    }
}
