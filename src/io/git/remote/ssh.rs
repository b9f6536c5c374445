//! A connection through the `ssh` program, within the bounds of responses.
//!
//! gix starts `ssh` itself and reads without a bound, so that the process is started here, and a
//! thread of its own kills it when the server is silent for too long.

use super::{
    GitTimeout, Remote,
    bounds::{RequestStart, ResponseBounds},
};
use crate::{core::text::one_line_end, io::git::error::GitError};
use gix::bstr::{BStr, BString, ByteSlice};
use gix_transport::{
    Protocol, Service,
    client::{
        self, MessageKind, TransportWithoutIO, WriteMode,
        blocking_io::{RequestWriter, SetServiceResponse, Transport},
        git::{ConnectMode, blocking_io::Connection},
    },
};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    any::Any,
    borrow::Cow,
    ffi::{OsStr, OsString},
    io::{self, Read, Write},
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

/// Bytes kept of the standard error of `ssh`.
const COMPLAINT: u64 = 16 << 10;

/// Characters shown of it.
const SHOWN: usize = 500;

/// The wait for the rest of the standard error of a process that has ended. A connection that is
/// shared with later ones keeps it open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Texts of a refused login.
const DENIALS: [&str; 2] = ["ermission denied", "Host key verification failed"];

/// A connection that starts `ssh` for its handshake.
pub(super) struct SshTransport {
    url: gix::Url,
    program: OsString,
    arguments: Vec<OsString>,
    /// The path on the server, as its shell reads it.
    path: BString,
    version: Protocol,
    /// The time limit of one step.
    step: Duration,
    connection: Option<Connection<SshReader, SshWriter>>,
    process: Option<Arc<SshProcess>>,
}

impl Remote {
    pub(super) fn ssh_transport(&self, version: Protocol) -> Result<SshTransport, GitError> {
        use gix::url::ArgumentSafety::{Absent, Dangerous, Usable};
        let refused = |why: &str| GitError::Remote {
            remote: self.shown.clone(),
            why: why.into(),
        };
        let host = match (self.url.user_as_argument(), self.url.host_as_argument()) {
            (Usable(user), Usable(host) | Dangerous(host)) => format!("{user}@{host}"),
            (Absent, Usable(host)) => host.to_owned(),
            _ => return Err(refused("its host or user looks like an option of ssh")),
        };
        let path = gix::url::expand_path::for_shell(self.url.path.clone());
        if path.trim().first() == Some(&b'-') {
            return Err(refused("its path looks like an option of git"));
        }
        let (program, mut arguments) = self.access.ssh_command();
        if version != Protocol::V1 {
            arguments.extend(["-o", "SendEnv=GIT_PROTOCOL"].map(Into::into));
        }
        arguments.extend(self.url.port.map(|port| format!("-p{port}").into()));
        arguments.push(host.into());
        let GitTimeout(step) = self.access.timeout;
        Ok(SshTransport {
            url: self.url.clone(),
            program,
            arguments,
            path,
            version,
            step,
            connection: None,
            process: None,
        })
    }
}

impl SshTransport {
    fn start(&self, service: Service) -> io::Result<(SshReader, SshWriter, Arc<SshProcess>)> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .arg(service.as_str())
            .arg(OsStr::from_bytes(&quoted(self.path.as_bstr())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        // Its messages are read.
        command.envs([("LANG", "C"), ("LC_ALL", "C")]);
        match self.version {
            Protocol::V1 => command.env_remove("GIT_PROTOCOL"),
            version => command.env("GIT_PROTOCOL", format!("version={}", version as usize)),
        };
        let mut child = command.spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(io::Error::other("it has no pipes"));
        };
        let process = SshProcess::watched(child, errors)?;
        let current = Arc::new(Mutex::new(CurrentResponse {
            bounds: ResponseBounds::new(self.step, None),
            request: None,
        }));
        let reader = SshReader {
            output,
            current: Arc::clone(&current),
            process: Arc::clone(&process),
        };
        let writer = SshWriter {
            input,
            current,
            process: Arc::clone(&process),
            step: self.step,
        };
        Ok((reader, writer, process))
    }
}

/// Quotes a path for the shell of the server.
fn quoted(path: &BStr) -> BString {
    let mut out = BString::from("'");
    out.extend_from_slice(&path.replace("'", r"'\''"));
    out.push(b'\'');
    out
}

impl TransportWithoutIO for SshTransport {
    fn to_url(&self) -> Cow<'_, BStr> {
        Cow::Owned(self.url.to_bstring())
    }

    fn connection_persists_across_multiple_requests(&self) -> bool {
        true
    }

    fn configure(&mut self, _config: &dyn Any) -> Result<(), gix::Error> {
        Ok(())
    }
}

impl Transport for SshTransport {
    fn handshake<'a>(
        &mut self,
        service: Service,
        extra_parameters: &'a [(&'a str, Option<&'a str>)],
    ) -> Result<SetServiceResponse<'_>, client::Error> {
        let started = self.start(service);
        let (reader, writer, process) = started.map_err(|source| client::Error::InvokeProgram {
            source,
            command: self.program.clone(),
        })?;
        self.process = Some(process);
        let connection = self.connection.insert(Connection::new(
            reader,
            writer,
            self.version,
            self.path.clone(),
            None::<(&str, Option<u16>)>,
            ConnectMode::Process,
            false,
        ));
        connection.handshake(service, extra_parameters)
    }

    fn request(
        &mut self,
        write_mode: WriteMode,
        on_into_read: MessageKind,
        trace: bool,
    ) -> Result<RequestWriter<'_>, client::Error> {
        let connection = self.connection.as_mut();
        connection
            .ok_or(client::Error::MissingHandshake)?
            .request(write_mode, on_into_read, trace)
    }
}

impl Drop for SshTransport {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            process.end();
        }
    }
}

/// The response that is being read, and the request that it answers.
struct CurrentResponse {
    bounds: ResponseBounds,
    /// Set while a request is being written.
    request: Option<RequestStart>,
}

/// The output of the server.
struct SshReader {
    output: ChildStdout,
    current: Arc<Mutex<CurrentResponse>>,
    process: Arc<SshProcess>,
}

/// The input of the server.
struct SshWriter {
    input: ChildStdin,
    current: Arc<Mutex<CurrentResponse>>,
    process: Arc<SshProcess>,
    step: Duration,
}

impl Read for SshReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let longest = {
            let mut current = lock(&self.current);
            current.request = None;
            current.bounds.count(0)?;
            current.bounds.longest_silence()
        };
        let watched = self.process.watch(longest);
        let read = self.output.read(buffer);
        drop(watched);
        match read {
            Ok(0) | Err(_) => match self.process.failure(&lock(&self.current).bounds) {
                Some(error) => Err(error),
                None => read,
            },
            Ok(bytes) => {
                lock(&self.current).bounds.count(bytes)?;
                Ok(bytes)
            }
        }
    }
}

impl Write for SshWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let longest = {
            let mut current = lock(&self.current);
            let request = current.request.get_or_insert_default().clone();
            request.observe(bytes);
            current.bounds = ResponseBounds::new(self.step, Some(request));
            current.bounds.longest_silence()
        };
        let watched = self.process.watch(longest);
        let written = self.input.write(bytes);
        drop(watched);
        written.map_err(|error| {
            let failure = self.process.failure(&lock(&self.current).bounds);
            failure.unwrap_or(error)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.input.flush()
    }
}

/// A running `ssh`, with the thread that ends it in time.
struct SshProcess {
    child: Mutex<Child>,
    watch: Mutex<Watch>,
    changed: Condvar,
    /// Its standard error.
    complaint: Mutex<mpsc::Receiver<Vec<u8>>>,
}

/// The wait for the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    Idle,
    /// The process is killed then.
    Until(Instant),
    /// The server was silent for too long.
    Expired,
    Ended,
}

/// A wait for the server that ends when this is dropped.
struct WatchedStep<'p>(&'p SshProcess);

impl Drop for WatchedStep<'_> {
    fn drop(&mut self) {
        let mut watch = lock(&self.0.watch);
        if matches!(*watch, Watch::Until(_)) {
            *watch = Watch::Idle;
        }
    }
}

impl SshProcess {
    fn watched(child: Child, errors: ChildStderr) -> io::Result<Arc<Self>> {
        let (send, complaint) = mpsc::channel();
        let process = Arc::new(Self {
            child: Mutex::new(child),
            watch: Mutex::new(Watch::Idle),
            changed: Condvar::new(),
            complaint: Mutex::new(complaint),
        });
        let threads = process.start_threads(errors, send);
        if threads.is_err() {
            process.end();
        }
        threads.map(|()| process)
    }

    fn start_threads(
        self: &Arc<Self>,
        mut errors: ChildStderr,
        send: mpsc::Sender<Vec<u8>>,
    ) -> io::Result<()> {
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        named("ssh errors").spawn(move || {
            let mut text = Vec::new();
            let _ = errors.by_ref().take(COMPLAINT).read_to_end(&mut text);
            let _ = send.send(text);
            // A program that finds its standard error closed would end.
            let _ = io::copy(&mut errors, &mut io::sink());
        })?;
        let watcher = Arc::clone(self);
        named("ssh watch").spawn(move || watcher.kill_in_time())?;
        Ok(())
    }

    fn watch(&self, longest: Duration) -> WatchedStep<'_> {
        let mut watch = lock(&self.watch);
        if *watch == Watch::Idle {
            *watch = Watch::Until(Instant::now() + longest);
            self.changed.notify_one();
        }
        WatchedStep(self)
    }

    fn kill_in_time(&self) {
        let mut watch = lock(&self.watch);
        loop {
            let now = Instant::now();
            watch = match *watch {
                Watch::Until(end) if end <= now => {
                    *watch = Watch::Expired;
                    self.kill();
                    return;
                }
                Watch::Until(end) => {
                    let waited = self.changed.wait_timeout(watch, end - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                Watch::Idle => {
                    let waited = self.changed.wait(watch);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
                Watch::Expired | Watch::Ended => return,
            };
        }
    }

    /// Returns why the connection has ended, if it should not have.
    fn failure(&self, bounds: &ResponseBounds) -> Option<io::Error> {
        if *lock(&self.watch) == Watch::Expired {
            return Some(bounds.too_slow());
        }
        let said = lock(&self.complaint).recv_timeout(LAST_WORDS).ok()?;
        let said = String::from_utf8_lossy(&said);
        let is_denial = |line: &&str| DENIALS.iter().any(|part| line.contains(part));
        let said = said.lines().find(is_denial).unwrap_or(&said);
        let text = one_line_end(said, SHOWN);
        (!text.is_empty()).then(|| io::Error::other(format!("ssh: {text}")))
    }

    /// Ends the process, which has usually ended by itself, and its watch.
    fn end(&self) {
        let mut watch = lock(&self.watch);
        if *watch != Watch::Expired {
            *watch = Watch::Ended;
        }
        drop(watch);
        self.changed.notify_one();
        self.kill();
        let _ = lock(&self.child).wait();
    }

    /// Kills the process and what it has started, such as a `ProxyCommand`: both hold the pipes.
    ///
    /// The process is waited for in [`SshProcess::end`] alone: until then its id is its own.
    fn kill(&self) {
        let id = lock(&self.child).id();
        if let Some(group) = i32::try_from(id).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
