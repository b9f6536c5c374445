//! The door to blocking work: Git, files, YAML and long computations never run on the workers of
//! the async runtime (invariant 13).

/// Runs a function in a blocking task. A panic there is a panic here.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    #[allow(clippy::disallowed_methods, reason = "the one helper")]
    let task = tokio::task::spawn_blocking(work);
    match task.await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("blocking tasks are never cancelled"),
        },
    }
}
