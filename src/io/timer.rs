//! Timers of tasks that also wait for something else.

use tokio::time::Instant;

/// Sleeps until a time; forever if there is none.
pub async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
