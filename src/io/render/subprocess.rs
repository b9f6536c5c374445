//! Runs other programs: kustomize and helm.
//!
//! A program gets a list of arguments (no shell), a cleared environment whose HOME is a temporary
//! folder, an empty standard input, and limits of time, memory, output, files and processes; its
//! reach is confined by `confinement.rs`. It runs in its own process group, which is killed as a
//! whole at the deadline or after its exit, so that nothing it started stays behind.
//!
//! Memory is limited by RLIMIT_DATA, set on the child's pid right after it was started: it counts
//! writable memory. RLIMIT_AS would count address space, of which every Go program reserves more
//! than it ever uses. On systems without prlimit only GOMEMLIMIT limits it.

use super::confinement::{self, Confinement, StartFailure};
use crate::{core::text::one_line_end, spec::settings::RenderSandbox};
use std::{
    ffi::OsString,
    fs,
    io::{self, Read},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

/// Bytes that a program may print: some 10,000 objects.
const PRINTED: usize = 64 << 20;

/// Bytes kept of standard error, of its beginning and of its end.
const COMPLAINED: usize = 16 << 10;

/// Characters shown of what a failed program says.
const LONGEST_COMPLAINT: usize = 2000;

/// The end of a failure that the sandbox may have caused.
pub(super) const SANDBOX_MAY_REFUSE: &str = " (the sandbox may refuse it a file that it needs)";

/// Exit codes of loaders and shells that cannot start a program.
const NOT_STARTED: [i32; 2] = [126, 127];

/// The polling interval for the exit of a process, once it has closed its output.
const POLL: Duration = Duration::from_millis(2);

/// Bytes that a program may write to its HOME.
pub(super) const SCRATCH: u64 = 512 << 20;

/// Files and folders that a program may make in its HOME.
const SCRATCH_FILES: usize = 100_000;

/// Files that a program may have open.
#[cfg(any(target_os = "linux", target_os = "android"))]
const OPEN_FILES: u64 = 1024;

/// Processes that a program, itself counted, may run at once.
pub(super) const PROCESSES: usize = 64;

/// The interval at which files and processes are counted.
const WATCH: Duration = Duration::from_millis(200);

pub(crate) struct ProgramCall<'c> {
    pub binary: &'c Path,
    pub arguments: Vec<OsString>,
    pub folder: &'c Path,
    /// The folder with everything that the program may read.
    pub inputs: &'c Path,
    /// The folder used as HOME, the only one that it may write to.
    pub home: &'c Path,
    pub timeout: Duration,
    pub memory: u64,
    /// True to allow other hosts, with our PATH and proxies; without them otherwise.
    pub remote: bool,
    pub sandbox: RenderSandbox,
}

/// The reason why a program failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ProgramFailure {
    NotStarted(String),
    /// The system cannot confine it, as the settings require.
    Unconfined(String),
    /// A non-zero exit, with the end of its error output.
    Failed(String),
    /// The deadline passed.
    Time,
    /// The output limit was exceeded.
    Output,
    /// The limit of written files was exceeded.
    Files,
    /// The limit of processes was exceeded.
    Processes,
    /// Killed, as systems do when memory is short; with its error output.
    Killed(String),
    /// The program reported that it ran out of memory.
    Memory,
}

impl ProgramCall<'_> {
    /// Runs the program and returns its output.
    pub(super) fn run(&self) -> Result<Vec<u8>, ProgramFailure> {
        let deadline = Instant::now() + self.timeout;
        let confinement = Confinement {
            binary: self.binary,
            inputs: self.inputs,
            scratch: self.home,
            remote: self.remote,
        };
        let started = confinement::start(&mut self.command(), confinement, self.sandbox);
        let mut child = started.map_err(|failure| match failure {
            StartFailure::System(error) => {
                ProgramFailure::NotStarted(self.perhaps_confined(error.to_string(), || {
                    error.kind() == io::ErrorKind::PermissionDenied
                }))
            }
            StartFailure::Unconfined(gap) => ProgramFailure::Unconfined(gap),
        })?;
        bound(child.id(), self.memory, self.timeout);
        let (sender, receiver) = mpsc::channel();
        // A thread waits for each pipe, because either may be full while the other is read. They
        // end with the pipes.
        let out = child
            .stdout
            .take()
            .map(|pipe| collect(pipe, OutputLimit::First(PRINTED), false, sender.clone()));
        let err = child
            .stderr
            .take()
            .map(|pipe| collect(pipe, OutputLimit::Ends(COMPLAINED), true, sender));
        let (mut printed, mut complained) = (Vec::new(), Vec::new());
        let mut wrong = None;
        let mut pipes = [out, err].iter().flatten().count();
        while pipes > 0 && wrong.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            match receiver.recv_timeout(left.min(WATCH)) {
                Ok(ProgramOutput { too_much: true, .. }) => wrong = Some(ProgramFailure::Output),
                Ok(output) => {
                    pipes -= 1;
                    match output.complaint {
                        true => complained = output.bytes,
                        false => printed = output.bytes,
                    }
                }
                Err(RecvTimeoutError::Timeout) if !left.is_zero() => {
                    wrong = self.excess(child.id());
                }
                Err(_) => wrong = Some(ProgramFailure::Time),
            }
        }
        let mut counted = Instant::now();
        while wrong.is_none() && !has_ended(child.id()) {
            if Instant::now() >= deadline {
                wrong = Some(ProgramFailure::Time);
            } else if counted.elapsed() >= WATCH {
                wrong = self.excess(child.id());
                counted = Instant::now();
            }
            #[expect(clippy::disallowed_methods, reason = "this runs in blocking tasks")]
            std::thread::sleep(POLL);
        }
        // Until the child is reaped, its id, which is also the group's, is not reused.
        kill_group(child.id());
        let status = child
            .wait()
            .map_err(|error| ProgramFailure::NotStarted(error.to_string()))?;
        match wrong {
            Some(wrong) => Err(wrong),
            None if status.success() => Ok(printed),
            None => Err(match complaint(&complained, status) {
                ProgramFailure::Failed(why) => {
                    ProgramFailure::Failed(self.perhaps_confined(why, || {
                        NOT_STARTED.contains(&status.code().unwrap_or_default())
                    }))
                }
                other => other,
            }),
        }
    }

    /// Adds to a failure that the sandbox may be its cause.
    fn perhaps_confined(&self, why: String, is_likely: impl FnOnce() -> bool) -> String {
        if self.sandbox != RenderSandbox::Disabled && is_likely() {
            format!("{why}{SANDBOX_MAY_REFUSE}")
        } else {
            why
        }
    }

    /// Returns the limit that the running program exceeds, if any.
    fn excess(&self, id: u32) -> Option<ProgramFailure> {
        let mut budget = (SCRATCH, SCRATCH_FILES);
        if !fits(self.home, &mut budget) {
            return Some(ProgramFailure::Files);
        }
        (processes(id) > PROCESSES).then_some(ProgramFailure::Processes)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.binary);
        command
            .args(&self.arguments)
            .current_dir(self.folder)
            .env_clear()
            .process_group(0);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
            .env("HOME", self.home)
            .env("TMPDIR", self.home)
            .env("LC_ALL", "C.UTF-8")
            .env("KUBECONFIG", "/dev/null");
        for (name, folder) in [
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_DATA_HOME", "data"),
            ("HELM_CACHE_HOME", "helm/cache"),
            ("HELM_CONFIG_HOME", "helm/config"),
            ("HELM_DATA_HOME", "helm/data"),
        ] {
            command.env(name, self.home.join(folder));
        }
        // A garbage collector that knows the bound keeps well below it.
        command.env("GOMEMLIMIT", (self.memory / 10 * 9).to_string());
        if self.remote {
            for name in [
                "PATH",
                "HTTP_PROXY",
                "HTTPS_PROXY",
                "NO_PROXY",
                "http_proxy",
                "https_proxy",
                "no_proxy",
                "SSL_CERT_FILE",
                "SSL_CERT_DIR",
            ] {
                command.envs(std::env::var_os(name).map(|value| (name, value)));
            }
        } else {
            // No folder of programs but for scripts, and a proxy on a closed port (9 is "discard").
            let folders = match confinement::is_script(self.binary) {
                true => confinement::SCRIPT_PROGRAMS.join(":"),
                false => "/dev/null".to_owned(),
            };
            command.env("PATH", folders);
            for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
                command.env(name, "http://127.0.0.1:9");
            }
        }
        command
    }
}

/// Resolves a program: a path as it is, or a bare name on PATH.
pub fn find(binary: &Path) -> Option<PathBuf> {
    if binary.components().count() > 1 {
        return binary
            .is_file()
            .then(|| std::path::absolute(binary).unwrap_or_else(|_| binary.to_owned()));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(binary))
        .find(|file| file.is_absolute() && file.is_file())
}

/// Signals at the limits of processor time and of a file's size.
const XCPU: i32 = rustix::process::Signal::XCPU.as_raw();
const XFSZ: i32 = rustix::process::Signal::XFSZ.as_raw();

struct ProgramOutput {
    complaint: bool,
    bytes: Vec<u8>,
    too_much: bool,
}

#[derive(Clone, Copy)]
enum OutputLimit {
    /// Keep so many bytes, and fail if there are more.
    First(usize),
    /// Keep so many bytes of the beginning and of the end.
    Ends(usize),
}

fn collect(
    mut pipe: impl Read + Send + 'static,
    keep: OutputLimit,
    complaint: bool,
    done: mpsc::Sender<ProgramOutput>,
) {
    std::thread::spawn(move || {
        let (mut bytes, mut too_much) = (Vec::new(), false);
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = pipe.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..read]);
            match keep {
                OutputLimit::First(most) if bytes.len() > most => {
                    too_much = true;
                    break;
                }
                OutputLimit::Ends(most) if bytes.len() > 2 * most => {
                    drop(bytes.drain(most..bytes.len() - most))
                }
                _ => {}
            }
        }
        // The receiver is gone after the deadline.
        let _ = done.send(ProgramOutput {
            complaint,
            bytes,
            too_much,
        });
    });
}

fn pid(id: u32) -> Option<rustix::process::Pid> {
    rustix::process::Pid::from_raw(i32::try_from(id).ok()?)
}

/// Returns whether the child has exited; its id stays reserved.
fn has_ended(id: u32) -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match pid(id) {
        Some(pid) => !matches!(waitid(WaitId::Pid(pid), options), Ok(None)),
        None => true,
    }
}

fn kill_group(id: u32) {
    if let Some(pid) = pid(id) {
        // It may be gone already.
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}

/// Counts the files below a folder against a budget of bytes and files; false if it is exceeded,
/// or if a folder cannot be counted: its path is too long, or it is closed to its owner.
fn fits(folder: &Path, budget: &mut (u64, usize)) -> bool {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return !hides_files(&error),
    };
    for entry in entries.flatten() {
        let data = match entry.metadata() {
            Ok(data) => data,
            Err(error) if hides_files(&error) => return false,
            // The program may remove what is being counted.
            Err(_) => continue,
        };
        let (Some(bytes), Some(files)) =
            (budget.0.checked_sub(data.len()), budget.1.checked_sub(1))
        else {
            return false;
        };
        *budget = (bytes, files);
        if data.is_dir() && !fits(&entry.path(), budget) {
            return false;
        }
    }
    true
}

/// Returns whether files may lie where an error occurred.
fn hides_files(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let error = Errno::from_io_error(error);
    error.is_some_and(|error| [Errno::NAMETOOLONG, Errno::ACCESS, Errno::LOOP].contains(&error))
}

/// Counts the processes of a group; none where the system has no `/proc`.
fn processes(group: u32) -> usize {
    let group = group.to_string();
    let is_member = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let is_process = name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        // Behind the name, which may contain anything: state, parent, group.
        is_process
            && fs::read_to_string(entry.path().join("stat")).is_ok_and(|stat| {
                stat.rsplit_once(") ")
                    .and_then(|(_, rest)| rest.split(' ').nth(2))
                    .is_some_and(|found| found == group)
            })
    };
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(is_member)
        .count()
}

/// Sets the limits of the system. That of processor time ends the program even if this process is
/// killed before its deadline.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn bound(id: u32, memory: u64, timeout: Duration) {
    use rustix::process::{Resource, Rlimit, prlimit};
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let seconds = (timeout.as_secs() + 1).saturating_mul(processors);
    let limit = |most: u64| Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    // No pid would mean this process itself.
    if let Some(pid) = pid(id) {
        // It may have exited already.
        let _ = prlimit(Some(pid), Resource::Data, limit(memory));
        let _ = prlimit(Some(pid), Resource::Core, limit(0));
        let _ = prlimit(Some(pid), Resource::Fsize, limit(SCRATCH));
        let _ = prlimit(Some(pid), Resource::Nofile, limit(OPEN_FILES));
        let _ = prlimit(Some(pid), Resource::Cpu, limit(seconds));
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn bound(_: u32, _: u64, _: Duration) {}

/// Classifies the end of a program. A Go program out of memory ends with a report of all its
/// goroutines; only its first line is useful.
fn complaint(bytes: &[u8], status: ExitStatus) -> ProgramFailure {
    match status.signal() {
        Some(XFSZ) => return ProgramFailure::Files,
        Some(XCPU) => return ProgramFailure::Time,
        _ => {}
    }
    let killed = status.code().is_none();
    let text = String::from_utf8_lossy(bytes);
    // Usually "fatal error: runtime: out of memory"; a refused thread or page has other messages.
    let head = text.find("\ngoroutine ").map(|end| &text[..end]);
    let says =
        |words: &[&str]| head.is_some_and(|head| words.iter().any(|word| head.contains(word)));
    if says(&[
        "memory",
        "newosproc",
        "pthread_create",
        "failed to create new OS thread",
        "mmap",
        "errno=12",
    ]) {
        return ProgramFailure::Memory;
    }
    let fatal = text
        .lines()
        .find(|line| line.starts_with("fatal error: ") || line.starts_with("panic: "));
    match fatal {
        Some(line) => ProgramFailure::Failed(one_line_end(line, LONGEST_COMPLAINT)),
        None if killed => ProgramFailure::Killed(one_line_end(&text, LONGEST_COMPLAINT)),
        None => ProgramFailure::Failed(one_line_end(&text, LONGEST_COMPLAINT)),
    }
}
