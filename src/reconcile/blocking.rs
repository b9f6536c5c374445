//! CPU-bound work, kept off the async workers.

use crate::io::blocking;

/// Bytes of JSON that take about a millisecond to parse or write.
pub(super) const THRESHOLD: usize = 64 << 10;

/// Runs CPU-bound work on a blocking thread, if it handles more than [`THRESHOLD`] bytes.
///
/// Most inputs are small, and thousands of them must not each pay for a change of thread.
pub(super) async fn compute<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    if bytes < THRESHOLD {
        work()
    } else {
        blocking(work).await
    }
}
