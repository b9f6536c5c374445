//! A process that never outlives the test that has started it, however that test ends.

use std::{
    ops::{Deref, DerefMut},
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

/// How long a process that was asked to end may take, tests beside it included.
const BOUND: Duration = Duration::from_secs(60);

/// A process; SIGKILL comes with the end of the value.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// Sends a signal by its name: "TERM", "INT".
    pub fn signal(&self, name: &str) {
        assert!(
            Command::new("/bin/kill")
                .args([&format!("-{name}"), &self.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for its end, with a bound.
    pub fn ended(&mut self) -> ExitStatus {
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
