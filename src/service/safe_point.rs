//! Safe points for a process that a signal ends at once: no file is left half written.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// Read by work that must not be cut off, of which several threads may do some; written by the end
/// of the process.
static WORK: RwLock<()> = RwLock::new(());

/// Runs work that a signal must not cut off, such as the replacement of a file.
pub fn uninterrupted<T>(work: impl FnOnce() -> T) -> T {
    let _guard: RwLockReadGuard<'_, ()> = WORK.read().unwrap_or_else(PoisonError::into_inner);
    work()
}

/// Waits until no work is under way that must not be cut off, keeps more from beginning, and ends
/// the process with `end`.
pub fn end_process(end: impl FnOnce()) {
    let _guard = WORK.write().unwrap_or_else(PoisonError::into_inner);
    end();
}
