//! The local socket: queries of commands on the same machine.

use super::schedule::MIN_SLEEP;
use crate::{
    core::error::ErrorKind as FailureKind,
    events::{Event, EventFact, EventReason, EventSeverity, Recorder},
    io::supervise::{BUG_HINT, catch_panic},
    service::{
        Failure, Progress, Service,
        protocol::{Query, SocketReply, SocketRequest},
    },
};
use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// The most queries answered at the same time.
const MAX_QUERIES: usize = 16;

/// The most bytes of a query.
const MAX_QUERY: u64 = 64 << 10;

/// The time for a client to send its query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// The listening socket; its file is removed when dropped.
pub(super) struct LocalSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl LocalSocket {
    /// Opens the socket for the owner alone. A file of a dead process is replaced: the lock of the
    /// store excludes a second daemon.
    ///
    /// # Errors
    /// If the file cannot be replaced or bound.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let failure =
            |error: io::Error| Failure::input(format!("socket {}: {error}", path.display()));
        let parent = path.parent().unwrap_or(Path::new("."));
        // A new socket has the mode of the umask. In a folder of its own, no other user reaches it
        // before its mode is set.
        let folder = tempfile::Builder::new()
            .prefix(".s")
            .permissions(PermissionsExt::from_mode(0o700))
            .tempdir_in(parent)
            .map_err(failure)?;
        let new = folder.path().join("s");
        let listener = UnixListener::bind(&new).map_err(failure)?;
        fs::set_permissions(&new, PermissionsExt::from_mode(0o600)).map_err(failure)?;
        fs::rename(&new, path).map_err(failure)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Sends progress to the client's connection.
struct ProgressSender(UnboundedSender<String>);

impl Progress for ProgressSender {
    fn update(&self, text: &str) {
        // Fails only when the connection is closed, which ends the query.
        let _ = self.0.send(text.to_owned());
    }
}

/// Answers queries until the daemon stops.
pub(super) async fn serve(
    socket: Arc<LocalSocket>,
    service: Arc<Service>,
    events: Recorder,
    stop: CancellationToken,
) {
    let mut queries = JoinSet::new();
    loop {
        let stream = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = socket.listener.accept(), if queries.len() < MAX_QUERIES => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    let message = format!("cannot accept a connection on the local socket: {error}");
                    events.record(Event::warning(EventReason::SocketFailed, message));
                    tokio::time::sleep(MIN_SLEEP).await;
                    continue;
                }
            },
            Some(_) = queries.join_next() => continue,
        };
        let (service, events) = (Arc::clone(&service), events.clone());
        queries.spawn(async move {
            match answer(stream, &service, &events).await {
                Ok(()) => {}
                Err(error) if is_disconnect(&error) => {
                    let message = format!("the client of the local socket disconnected: {error}");
                    events.record(Event::debug(EventReason::SocketFailed, message));
                }
                Err(error) => {
                    let message = format!("cannot answer a query on the local socket: {error}");
                    events.record(Event::warning(EventReason::SocketFailed, message));
                }
            }
        });
    }
}

fn is_disconnect(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::UnexpectedEof
    )
}

/// Answers one query. Progress is sent meanwhile, and a client that disconnects cancels the query.
async fn answer(stream: UnixStream, service: &Service, events: &Recorder) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read.take(MAX_QUERY));
    let mut line = String::new();
    timeout(QUERY_TIMEOUT, read.read_line(&mut line)).await??;
    let SocketRequest {
        query,
        settings,
        repository,
    } = serde_json::from_str(&line)?;
    events.record(received(&query, uid));
    let service = match service.for_client(&settings, repository.as_deref()) {
        Ok(service) => service,
        Err(failure) => {
            return write
                .write_all(&line_of(&SocketReply::Failure(failure))?)
                .await;
        }
    };
    let (sender, mut updates) = unbounded_channel();
    let progress = ProgressSender(sender);
    let result = {
        let mut run = pin!(catch_panic(query.run(&service, &progress)));
        loop {
            tokio::select! {
                biased;
                Some(text) = updates.recv() => {
                    write.write_all(&line_of(&SocketReply::Progress(text))?).await?;
                }
                result = &mut run => break result,
            }
        }
    };
    let result = result.unwrap_or_else(|panic| {
        let message = format!("the daemon cannot answer: a panic ({panic})");
        Err(Failure::new(FailureKind::Bug, message).hint(BUG_HINT))
    });
    let reply = result.map_or_else(SocketReply::Failure, SocketReply::Answer);
    write.write_all(&line_of(&reply)?).await
}

/// Returns the event of a query: who asked for what.
fn received(query: &Query, uid: u32) -> Event {
    let message = format!("user {uid} asked for {}", query.name());
    Event {
        // A question alone changes nothing, and pages may ask often.
        severity: match query.changes_something() {
            true => EventSeverity::Info,
            false => EventSeverity::Debug,
        },
        ..Event::info(EventReason::QueryReceived, message)
    }
    .fact(EventFact::Uid, uid)
}

fn line_of(reply: &SocketReply) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    Ok(line)
}
