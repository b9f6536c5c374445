//! What the reconciler logs while the story is played, as `tagboat run` would print it to standard
//! error.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// The lines logged so far. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct DemoLog {
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl DemoLog {
    /// Collects from now on what this process logs. A process does so once.
    pub fn begin() -> Self {
        let log = Self::default();
        let format = tracing_subscriber::fmt()
            .with_writer(log.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time();
        // A second one in a process would go without lines, which its reader then tells.
        let _ = format
            .with_env_filter(EnvFilter::new("tagboat=info"))
            .try_init();
        log
    }

    /// The messages that hold a text, without their fields.
    pub fn lines(&self, text: &str) -> Vec<String> {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = String::from_utf8_lossy(&bytes);
        let lines = bytes.lines().filter(|line| line.contains(text));
        lines
            .map(|line| {
                line.split(" application=")
                    .next()
                    .unwrap_or(line)
                    .trim()
                    .to_owned()
            })
            .collect()
    }
}

impl io::Write for DemoLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
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
