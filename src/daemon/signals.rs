//! The signals that a daemon obeys.

use crate::{core::error::ErrorKind, service::Failure};
use std::io::{self, IsTerminal};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The handlers of the signals, installed before anything can be pushed: no signal is missed.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// True if a user watches the daemon in a terminal, whose end is a hangup, too.
    in_terminal: bool,
}

/// The request of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DaemonSignal {
    /// Stop at a safe point; the name of the signal.
    Stop(&'static str),
    /// Read the settings again.
    Reload,
}

impl Signals {
    /// Installs the handlers. Needs the context of a runtime.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn install() -> Result<Self, Failure> {
        let install = || {
            Ok::<_, io::Error>(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                hangup: signal(SignalKind::hangup())?,
                in_terminal: io::stdin().is_terminal(),
            })
        };
        install().map_err(|error| {
            Failure::new(ErrorKind::Local, format!("cannot handle signals: {error}"))
        })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> DaemonSignal {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => DaemonSignal::Stop("SIGTERM"),
            _ = self.interrupt.recv() => DaemonSignal::Stop("SIGINT"),
            _ = self.hangup.recv() => match self.in_terminal && !io::stdin().is_terminal() {
                true => DaemonSignal::Stop("SIGHUP"),
                false => DaemonSignal::Reload,
            },
        }
    }
}
