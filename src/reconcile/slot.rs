//! A place for the newest of something: what was not taken is replaced.

use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

#[derive(Debug)]
pub(super) struct Slot<T> {
    value: Mutex<Option<T>>,
    filled: Notify,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { value: Mutex::new(None), filled: Notify::new() }
    }
}

impl<T> Slot<T> {
    /// Puts a value in, in place of one that nobody took.
    pub fn put(&self, value: T) {
        self.merge(|_| value);
    }

    /// Puts in what is made of the value that nobody took.
    pub fn merge(&self, make: impl FnOnce(Option<T>) -> T) {
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        *value = Some(make(value.take()));
        drop(value);
        self.filled.notify_one();
    }

    /// Takes what is there.
    pub fn take(&self) -> Option<T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether something is there.
    pub fn is_filled(&self) -> bool {
        self.value.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Waits until something is there.
    pub async fn filled(&self) {
        while !self.is_filled() {
            self.filled.notified().await;
        }
    }
}
