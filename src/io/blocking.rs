//! Blocking work: Git, files, YAML and long computations never run on the workers of the async
//! runtime (invariant 13).

use tokio::task::JoinError;

/// Runs a function in a blocking task. A panic there is a panic here.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match try_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("blocking tasks are never cancelled"),
        },
    }
}

/// Runs a function in a blocking task.
///
/// # Errors
/// If it panics.
pub async fn try_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    #[expect(clippy::disallowed_methods, reason = "the one helper")]
    tokio::task::spawn_blocking(work).await
}
