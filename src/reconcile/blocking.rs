//! CPU-bound work, kept off the async workers.

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
        run(work).await
    }
}

/// Runs work on a blocking thread. A panic there is a panic here.
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match crate::io::try_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("blocking tasks are never cancelled"),
        },
    }
}
