//! Queries about config repositories and clusters.
//!
//! A running daemon answers them over its local socket, since it has the store open. Without one,
//! the command opens the store itself. The same code computes the answer in both cases, and the
//! command prints it.

use super::{Failure, Screen, interrupt, settings::SettingsArguments};
use crate::{
    core::error::ErrorKind,
    io::registry::RegistryTimeouts,
    service::{
        Progress, Service,
        engine::{self, ServiceContext},
        protocol::{SocketReply, SocketRequest, TypedQuery},
    },
};
use std::{
    fmt,
    io::{BufRead, BufReader, Read as _, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
};

/// The most bytes read from a daemon: enough for thousands of diffs.
const MAX_REPLY: u64 = 256 << 20;

/// Returns true if a daemon has the store of these settings open.
pub(super) fn is_daemon_running(context: &ServiceContext) -> bool {
    UnixStream::connect(context.socket()).is_ok()
}

/// Gets an answer from the daemon, or computes it if none runs.
pub(super) fn ask<Q: TypedQuery>(
    settings: &SettingsArguments,
    query: &Q,
    screen: &mut Screen,
) -> Result<Q::Answer, Failure> {
    let settings = settings.file();
    let context = Arc::new(ServiceContext::read(&settings)?);
    let socket = context.socket();
    // Without a socket, or with one that has no listener, no daemon runs.
    if let Ok(stream) = UnixStream::connect(&socket) {
        let request = SocketRequest {
            query: query.clone().into(),
            settings: context.identity.clone(),
            repository: settings.repository,
        };
        return ask_daemon::<Q>(&socket, stream, &request, screen);
    }
    let engine = context.open(RegistryTimeouts::one_shot())?;
    for warning in &engine.warnings {
        screen.warning(warning);
    }
    let service = Service::new(&context, &engine, None);
    let spinner = screen.spinner();
    let runtime = engine::runtime()?;
    interrupt::run(runtime, &service, &spinner, query.run(&service, &spinner))
}

fn ask_daemon<Q: TypedQuery>(
    socket: &Path,
    mut stream: UnixStream,
    request: &SocketRequest,
    screen: &Screen,
) -> Result<Q::Answer, Failure> {
    let broken = |error: &dyn fmt::Display| {
        let message = format!("the daemon at {}: {error}", socket.display());
        Failure::new(ErrorKind::Local, message)
            .hint("Try again, or stop the daemon and run the command without it.")
    };
    let mut line = serde_json::to_string(request).map_err(|error| broken(&error))?;
    line.push('\n');
    let sent = stream.write_all(line.as_bytes());
    sent.map_err(|error| broken(&error))?;
    let spinner = screen.spinner();
    spinner.update("asking the daemon");
    let mut replies = BufReader::new(stream.take(MAX_REPLY));
    loop {
        let mut line = String::new();
        let read = replies.read_line(&mut line);
        read.map_err(|error| broken(&error))?;
        match serde_json::from_str(&line).map_err(|_| broken(&"it sent no answer"))? {
            SocketReply::Progress(text) => spinner.update(&text),
            SocketReply::Answer(answer) => {
                return serde_json::from_value(answer).map_err(|error| {
                    broken(&format_args!("its answer is of another version: {error}"))
                });
            }
            SocketReply::Failure(failure) => return Err(failure),
        }
    }
}
