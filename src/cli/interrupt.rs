//! SIGINT and SIGTERM in commands: exit code 130, after a safe point.
//!
//! A thread waits for the signals. A command that only reads, or writes files whole, is ended at
//! once. One that works with repositories and clusters ends itself, see [`run`]; a second signal
//! does not wait for it. The daemon and the demo have handlers of their own.

use super::{Failure, Outcome};
use crate::{
    core::error::ErrorKind,
    service::{Progress, Service, safe_point},
};
use std::{
    io::{self, IsTerminal, Write},
    pin::pin,
    sync::{
        OnceLock,
        atomic::{AtomicU8, Ordering},
    },
};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// The treatment of a signal: one of the constants below.
static TREATMENT: AtomicU8 = AtomicU8::new(END_PROCESS);
/// The process ends at once, but no file is left half written.
const END_PROCESS: u8 = 0;
/// The command reaches a safe point first; a second signal ends the process.
const END_COMMAND: u8 = 1;
/// The command has handlers of its own.
const IGNORE: u8 = 2;

/// The number of signals so far.
static SIGNALS: OnceLock<watch::Sender<u32>> = OnceLock::new();

/// Installs the handlers. Where that fails, the system's default applies: the signal ends the
/// process.
pub(super) fn install() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    // Installed now, and not when the thread first runs.
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    let signals = SIGNALS.get_or_init(|| watch::Sender::new(0));
    let wait = move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                signals.send_modify(|count| *count += 1);
                match TREATMENT.load(Ordering::SeqCst) {
                    END_PROCESS => safe_point::end_process(exit),
                    END_COMMAND if *signals.borrow() > 1 => exit(),
                    _ => {}
                }
            }
        });
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .map(drop)
}

fn exit() {
    // What is left of a spinner.
    if io::stderr().is_terminal() && !super::screen::is_dumb() {
        let _ = io::stderr().write_all(b"\r\x1b[2K");
    }
    std::process::exit(Outcome::Interrupted.exit_code().into());
}

/// Leaves the signals to the command, which has installed handlers of its own.
pub(super) fn leave_to_command() {
    TREATMENT.store(IGNORE, Ordering::SeqCst);
}

/// Returns true if a signal has asked the command to stop.
pub(super) fn is_requested() -> bool {
    TREATMENT.load(Ordering::SeqCst) != IGNORE
        && SIGNALS.get().is_some_and(|signals| *signals.borrow() > 0)
}

/// Runs a query. At a signal, it is dropped and what it has begun is brought to a safe point; if it
/// is pushing, it is waited for, so that its answer is not lost.
///
/// # Errors
/// The failures of the query, or [`ErrorKind::Interrupted`].
pub(super) fn run<T>(
    runtime: Runtime,
    service: &Service,
    progress: &dyn Progress,
    query: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    TREATMENT.store(END_COMMAND, Ordering::SeqCst);
    let result = runtime.block_on(async {
        let result = {
            let mut query = pin!(query);
            let stopped = tokio::select! {
                biased;
                result = &mut query => return result,
                () = requested() => service.stop(),
            };
            progress.update("stopping at a safe point; press Ctrl-C again to stop at once");
            match stopped {
                true => query.await,
                false => Err(Failure::new(ErrorKind::Interrupted, "interrupted")),
            }
        };
        service.wind_down().await;
        result
    });
    TREATMENT.store(END_PROCESS, Ordering::SeqCst);
    // What is left are reads, such as a fetch from a silent server.
    runtime.shutdown_background();
    result
}

async fn requested() {
    let Some(signals) = SIGNALS.get() else {
        return std::future::pending().await;
    };
    // The sender is never dropped.
    let _ = signals.subscribe().wait_for(|count| *count > 0).await;
}
