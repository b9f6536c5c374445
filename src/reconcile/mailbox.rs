//! A queue of length one whose newest value replaces an older one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    inner: Mutex<MailboxInner<T>>,
    filled: Notify,
}

#[derive(Debug)]
struct MailboxInner<T> {
    value: Option<T>,
    closed: bool,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self {
            inner: Mutex::new(MailboxInner {
                value: None,
                closed: false,
            }),
            filled: Notify::new(),
        }
    }
}

impl<T> Mailbox<T> {
    fn lock(&self) -> MutexGuard<'_, MailboxInner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the pending value; returns `value` if the mailbox is closed.
    pub(super) fn put(&self, value: T) -> Result<(), T> {
        self.merge(value, |value, _| value)
    }

    /// Replaces the pending value by `merge(value, pending)`; returns `value` if closed.
    pub(super) fn merge(&self, value: T, merge: impl FnOnce(T, Option<T>) -> T) -> Result<(), T> {
        self.merge_quietly(value, merge)?;
        self.filled.notify_one();
        Ok(())
    }

    /// Merges without waking the receiver, which finds the value when it wakes for another reason.
    pub(super) fn merge_quietly(
        &self,
        value: T,
        merge: impl FnOnce(T, Option<T>) -> T,
    ) -> Result<(), T> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(value);
        }
        inner.value = Some(merge(value, inner.value.take()));
        Ok(())
    }

    pub(super) fn take(&self) -> Option<T> {
        self.lock().value.take()
    }

    pub(super) fn is_filled(&self) -> bool {
        self.lock().value.is_some()
    }

    /// Closes the mailbox unless a value is pending; returns whether it is closed.
    pub(super) fn close(&self) -> bool {
        let mut inner = self.lock();
        inner.closed = inner.value.is_none();
        inner.closed
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits for a value without taking it.
    pub(super) async fn filled(&self) {
        while !self.is_filled() {
            self.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailbox_close_keeps_pending_and_refuses_later() {
        let mailbox = Mailbox::default();
        assert_eq!(mailbox.put(1), Ok(()));
        assert!(
            !mailbox.close() && !mailbox.is_closed(),
            "a value is pending"
        );
        assert_eq!(mailbox.merge(2, |new, old| new + old.unwrap()), Ok(()));
        assert_eq!(mailbox.take(), Some(3));
        assert!(mailbox.close() && mailbox.is_closed());
        assert_eq!((mailbox.put(4), mailbox.take()), (Err(4), None));
    }
}
