//! The log of the reconciler during the story, as `tagboat run` prints it to standard error.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// The lines logged so far; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct DemoLog {
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl DemoLog {
    /// Collects what this process logs from now on.
    pub(super) fn begin() -> Self {
        let log = Self::default();
        let format = tracing_subscriber::fmt()
            .with_writer(log.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time();
        // Fails only if a logger is installed already; then the checks of the story fail.
        let _ = format
            .with_env_filter(EnvFilter::new("tagboat=info"))
            .try_init();
        log
    }

    /// Returns the messages that contain a text, without their fields.
    pub(super) fn lines(&self, text: &str) -> Vec<String> {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let log = String::from_utf8_lossy(&bytes);
        let without_fields = |line: &str| match line.split_once(" reason=") {
            Some((message, _)) => message.trim().to_owned(),
            None => line.trim().to_owned(),
        };
        log.lines()
            .filter(|line| line.contains(text))
            .map(without_fields)
            .collect()
    }
}

impl io::Write for DemoLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut log = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for DemoLog {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
