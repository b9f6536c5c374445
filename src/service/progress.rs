//! Progress of a query, for the client that waits for its answer.

/// Receives the progress of a query: a spinner, or the client of the local socket.
pub trait Progress: Send + Sync {
    /// Replaces the text shown so far; it may have several lines.
    fn update(&self, text: &str);
}

/// Discards all progress.
#[derive(Debug, Clone, Copy)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn update(&self, _: &str) {}
}
