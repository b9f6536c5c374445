//! A place for the newest of something: what was not taken is replaced.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    inside: Mutex<MailboxInner<T>>,
    filled: Notify,
}

#[derive(Debug)]
struct MailboxInner<T> {
    value: Option<T>,
    /// Whether nobody takes anything any more.
    closed: bool,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self {
            inside: Mutex::new(MailboxInner {
                value: None,
                closed: false,
            }),
            filled: Notify::new(),
        }
    }
}

impl<T> Mailbox<T> {
    fn lock(&self) -> MutexGuard<'_, MailboxInner<T>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a value in, in place of one that nobody took; gives it back where nobody takes it any
    /// more.
    pub fn put(&self, value: T) -> Result<(), T> {
        self.merge(value, |value, _| value)
    }

    /// Puts in what is made of a value and the one that nobody took; gives it back where nobody
    /// takes it any more.
    pub fn merge(&self, value: T, make: impl FnOnce(T, Option<T>) -> T) -> Result<(), T> {
        let mut inside = self.lock();
        if inside.closed {
            return Err(value);
        }
        inside.value = Some(make(value, inside.value.take()));
        drop(inside);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes what is there.
    pub fn take(&self) -> Option<T> {
        self.lock().value.take()
    }

    /// Whether something is there.
    pub fn is_filled(&self) -> bool {
        self.lock().value.is_some()
    }

    /// Takes nothing more from now on, unless something is there; whether that is so.
    pub fn close(&self) -> bool {
        let mut inside = self.lock();
        inside.closed = inside.value.is_none();
        inside.closed
    }

    /// Whether nobody takes anything any more.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits until something is there.
    pub async fn filled(&self) {
        while !self.is_filled() {
            self.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_before_the_end_is_taken_and_what_comes_after_is_given_back() {
        let slot = Mailbox::default();
        assert_eq!(slot.put(1), Ok(()));
        assert!(
            !slot.close() && !slot.is_closed(),
            "somebody must take it first"
        );
        assert_eq!(slot.merge(2, |new, old| new + old.unwrap()), Ok(()));
        assert_eq!(slot.take(), Some(3));
        assert!(slot.close() && slot.is_closed());
        assert_eq!((slot.put(4), slot.take()), (Err(4), None));
    }
}
