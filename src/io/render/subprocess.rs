//! The one door to other programs: kustomize and helm.
//!
//! A program gets a list of arguments (no shell), a cleared environment whose HOME lies in a
//! temporary folder, nothing on standard input, and bounds: time, memory, and what it may print. It
//! runs in a process group of its own, which is killed as a whole when time is over or it is done,
//! so that nothing it started stays behind.
//!
//! Memory is bounded by RLIMIT_DATA, set on the child's pid right after it was started: it counts
//! what a process can write to. RLIMIT_AS would count address space, of which every Go program
//! reserves more than it ever uses. On systems without prlimit only GOMEMLIMIT bounds it.

use std::{
    ffi::OsString,
    io::Read,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

/// Bytes that a program may print: some 10,000 objects.
const PRINTED: usize = 64 << 20;

/// Bytes kept of standard error, of its beginning and of its end.
const COMPLAINED: usize = 16 << 10;

/// How often the end of a process is looked for, once it has closed what it writes to.
const POLL: Duration = Duration::from_millis(2);

/// What a program is started with.
pub(crate) struct ProgramCall<'c> {
    pub binary: &'c Path,
    pub arguments: Vec<OsString>,
    pub folder: &'c Path,
    /// The folder that stands for HOME.
    pub home: &'c Path,
    pub timeout: Duration,
    pub memory: u64,
    /// Whether it may reach other hosts: with our PATH and proxies then, without them else.
    pub remote: bool,
}

/// How it ended, if not well.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ProgramFailure {
    NotStarted(String),
    /// It said no; the end of what it complained.
    Failed(String),
    /// It took too long.
    Time,
    /// It printed too much.
    Output,
    /// It was killed, as systems do when memory is short; with what it complained.
    Killed(String),
    /// It said itself that it got no more memory.
    Memory,
}

impl ProgramCall<'_> {
    /// Runs it, and gives what it printed.
    pub fn run(&self) -> Result<Vec<u8>, ProgramFailure> {
        let deadline = Instant::now() + self.timeout;
        let mut child = self
            .command()
            .spawn()
            .map_err(|error| ProgramFailure::NotStarted(error.to_string()))?;
        bound(child.id(), self.memory);
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
        for _ in [out, err].iter().flatten() {
            match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(ProgramOutput {
                    complaint: true,
                    bytes,
                    ..
                }) => complained = bytes,
                Ok(ProgramOutput { too_much: true, .. }) => {
                    wrong = Some(ProgramFailure::Output);
                    break;
                }
                Ok(ProgramOutput { bytes, .. }) => printed = bytes,
                Err(_) => {
                    wrong = Some(ProgramFailure::Time);
                    break;
                }
            }
        }
        while wrong.is_none() && !has_ended(child.id()) {
            if Instant::now() >= deadline {
                wrong = Some(ProgramFailure::Time);
            }
            std::thread::sleep(POLL);
        }
        // As long as nobody has waited for the child, its id, which is that of the group, belongs
        // to nobody else.
        kill_group(child.id());
        let status = child
            .wait()
            .map_err(|error| ProgramFailure::NotStarted(error.to_string()))?;
        match wrong {
            Some(wrong) => Err(wrong),
            None if status.success() => Ok(printed),
            None => Err(complaint(&complained, status.code().is_none())),
        }
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
            // Nothing to run beside it, and a proxy where nobody listens (port 9 is "discard").
            command.env("PATH", self.home);
            for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
                command.env(name, "http://127.0.0.1:9");
            }
        }
        command
    }
}

/// Where a program is: as it is written, or on PATH if it is a name alone.
pub(crate) fn find(binary: &Path) -> Option<PathBuf> {
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

struct ProgramOutput {
    complaint: bool,
    bytes: Vec<u8>,
    too_much: bool,
}

#[derive(Clone, Copy)]
enum OutputLimit {
    /// So many, and an end if there are more.
    First(usize),
    /// So many of the beginning and of the end, however many there are.
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
        // Nobody listens any more when time was over.
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

/// Whether the child has ended; its id stays taken.
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

#[cfg(any(target_os = "linux", target_os = "android"))]
fn bound(id: u32, memory: u64) {
    use rustix::process::{Resource, Rlimit, prlimit};
    let limit = |most: u64| Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    // No pid would mean this process itself.
    if let Some(pid) = pid(id) {
        // It may have ended already.
        let _ = prlimit(Some(pid), Resource::Data, limit(memory));
        let _ = prlimit(Some(pid), Resource::Core, limit(0));
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn bound(_: u32, _: u64) {}

/// What a program's end means. A Go program that gets no memory ends with a report of all it was
/// doing; only its first line is of use.
fn complaint(bytes: &[u8], killed: bool) -> ProgramFailure {
    let text = String::from_utf8_lossy(bytes);
    // "fatal error: runtime: out of memory" in most cases; a thread or a page that is refused has
    // words of its own.
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
        Some(line) => ProgramFailure::Failed(plain(line)),
        None if killed => ProgramFailure::Killed(plain(&text)),
        None => ProgramFailure::Failed(plain(&text)),
    }
}

/// The end of a complaint as one harmless line of at most 2,000 characters.
fn plain(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let line = lines.join("; ");
    let skipped = line.chars().count().saturating_sub(2000);
    let mut out = if skipped > 0 {
        "…".to_owned()
    } else {
        String::new()
    };
    for c in line.chars().skip(skipped) {
        if c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
