//! A child process that never outlives its test, however that ends.

use std::{
    ops::{Deref, DerefMut},
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

/// The time that a process may take to end, on a busy machine.
const BOUND: Duration = Duration::from_secs(120);

/// A process that is killed (SIGKILL) on drop.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// Sends a signal by its name: "TERM", "INT".
    pub(crate) fn signal(&self, name: &str) {
        assert!(
            Command::new("/bin/kill")
                .args([&format!("-{name}"), &self.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for its end, with a bound.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < BOUND, "it did not end within {BOUND:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = self.wait();
    }
}
