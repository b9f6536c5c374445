//! Confines a program: no network, no file but those it is given, no other process.
//!
//! A thread restricts itself with Landlock and seccomp and starts the program, which inherits both
//! for good; the other threads of this process stay as they are. Landlock answers with EACCES,
//! seccomp with EPERM.
//!
//! Landlock cannot hide that a file exists, nor its size: only opening it is refused.

use crate::spec::settings::{RenderSandbox, RenderSettings};
use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    process::{Child, Command},
    thread,
};

/// The reach of a program.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "only Linux can confine programs")
)]
pub(super) struct Confinement<'c> {
    pub binary: &'c Path,
    /// A folder that it may read.
    pub inputs: &'c Path,
    /// The only folder that it may write to.
    pub scratch: &'c Path,
    /// True if it may talk to other hosts, with the programs of the system (git, ssh).
    pub remote: bool,
}

/// The reason why a program was not started.
#[derive(Debug)]
pub(super) enum StartFailure {
    System(io::Error),
    /// The kernel cannot confine it.
    Unconfined(String),
}

/// Starts a program, confined as `sandbox` demands.
pub(super) fn start(
    command: &mut Command,
    confinement: Confinement<'_>,
    sandbox: RenderSandbox,
) -> Result<Child, StartFailure> {
    if sandbox == RenderSandbox::Disabled {
        return command.spawn().map_err(StartFailure::System);
    }
    on_a_thread(|| match restrict(confinement) {
        Some(gap) if sandbox == RenderSandbox::Required => Err(StartFailure::Unconfined(gap)),
        _ => command.spawn().map_err(StartFailure::System),
    })
    .and_then(|started| started)
}

/// Returns what this system lacks to confine a program, as a sentence; nothing if it can. A program
/// with `remote` may talk to other hosts.
///
/// A thread tries it, because a container may forbid what the kernel offers.
pub fn sandbox_gap(remote: bool) -> Option<String> {
    let root = Path::new("/");
    let attempt = on_a_thread(|| {
        restrict(Confinement {
            binary: root,
            inputs: root,
            scratch: root,
            remote,
        })
    });
    attempt.unwrap_or_else(|failure| match failure {
        StartFailure::System(error) => Some(error.to_string()),
        StartFailure::Unconfined(gap) => Some(gap),
    })
}

/// Returns the warning that programs run unconfined although they may be confined.
pub fn sandbox_warning(settings: &RenderSettings) -> Option<String> {
    let remote = settings.allow_remote_bases;
    let gap = (settings.sandbox == RenderSandbox::Auto).then(|| sandbox_gap(remote))??;
    Some(format!("kustomize and helm are not confined: {gap}"))
}

/// The folders of programs that a script may run.
pub(super) const SCRIPT_PROGRAMS: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// Returns whether an interpreter runs the program.
pub(super) fn is_script(binary: &Path) -> bool {
    let mut start = [0; 2];
    let read = File::open(binary).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *b"#!"
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, StartFailure> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("render-sandbox".to_owned())
            .spawn_scoped(scope, work)
            .map_err(StartFailure::System)?;
        thread.join().map_err(|_| {
            StartFailure::System(io::Error::other("the thread that confines it panicked"))
        })
    })
}

#[cfg(target_os = "linux")]
use linux::restrict;

/// Restricts nothing: only Linux has Landlock and seccomp.
#[cfg(not(target_os = "linux"))]
fn restrict(_: Confinement<'_>) -> Option<String> {
    Some("only Linux can confine programs".to_owned())
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{
        super::system_calls::{self, FilterOptions},
        Confinement, SCRIPT_PROGRAMS, is_script,
    };
    use landlock::{
        ABI, Access, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr, RulesetCreated,
        RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
    };
    use std::{
        env,
        ffi::{OsStr, OsString},
        fs::File,
        io::{self, Read as _, Seek as _, SeekFrom},
        os::unix::ffi::OsStrExt as _,
        path::{Path, PathBuf},
    };

    /// The newest Landlock that is used; an older kernel enforces what it knows.
    const LANDLOCK: ABI = ABI::V6;

    /// Libraries, and the loaders of programs that need them.
    const LIBRARIES: [&str; 10] = [
        "/lib",
        "/lib32",
        "/lib64",
        "/usr/lib",
        "/usr/lib32",
        "/usr/lib64",
        "/usr/local/lib",
        "/nix/store",
        "/gnu/store",
        "/etc/ld.so.cache",
    ];

    /// Files without a secret that programs read: randomness, time zones.
    const COMMON: [&str; 5] = [
        "/dev/random",
        "/dev/urandom",
        "/dev/zero",
        "/etc/localtime",
        "/usr/share/zoneinfo",
    ];

    /// Programs of programs: git finds its own there.
    const LIBEXEC: &str = "/usr/libexec";

    /// The system's configuration of name resolution, certificates, git and ssh.
    const NETWORK: [&str; 18] = [
        "/etc/ca-certificates",
        "/etc/gai.conf",
        "/etc/gitconfig",
        "/etc/group",
        "/etc/host.conf",
        "/etc/hosts",
        "/etc/nsswitch.conf",
        "/etc/passwd",
        "/etc/pki",
        "/etc/protocols",
        "/etc/resolv.conf",
        "/etc/services",
        "/etc/ssh/ssh_config",
        "/etc/ssh/ssh_config.d",
        "/etc/ssh/ssh_known_hosts",
        "/etc/ssl",
        "/usr/share/ca-certificates",
        "/usr/share/git-core",
    ];

    /// Restricts this thread and all that it starts; returns what could not be enforced.
    pub(super) fn restrict(confinement: Confinement<'_>) -> Option<String> {
        let mut missing = Vec::new();
        let remote = confinement.remote;
        let mut signals_confined = false;
        match landlock(confinement) {
            Ok(RulesetStatus::NotEnforced) => {
                missing.push("the kernel offers no Landlock".to_owned());
            }
            Ok(RulesetStatus::FullyEnforced) => signals_confined = true,
            // Of what an older Landlock lacks, the filter refuses all but the signals of git.
            Ok(RulesetStatus::PartiallyEnforced) if remote => {
                missing.push("Landlock confines no signals before Linux 6.12".to_owned());
            }
            Ok(RulesetStatus::PartiallyEnforced) => {}
            Err(error) => missing.push(format!("Landlock failed: {error}")),
        }
        // After Landlock, whose system calls the filter may not know.
        let filtered = system_calls::filter(FilterOptions {
            remote,
            signals_confined,
        });
        if let Err(why) = filtered {
            missing.push(why);
        }
        (!missing.is_empty()).then(|| missing.join("; "))
    }

    fn landlock(confinement: Confinement<'_>) -> Result<RulesetStatus, RulesetError> {
        let Confinement {
            binary,
            inputs,
            scratch,
            remote,
        } = confinement;
        let mut ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(LANDLOCK))?
            .scope(Scope::from_all(LANDLOCK))?;
        if !remote {
            ruleset = ruleset.handle_access(AccessNet::from_all(LANDLOCK))?;
        }
        let run = AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir;
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let write = AccessFs::from_all(LANDLOCK) & !AccessFs::Execute;
        // Sockets and devices are no files of a rendering.
        let write = write
            & !(AccessFs::MakeSock
                | AccessFs::MakeBlock
                | AccessFs::MakeChar
                | AccessFs::MakeFifo
                | AccessFs::IoctlDev);
        let mut rules = ruleset.create()?;
        rules = allow(rules, [binary], run)?;
        rules = allow(rules, LIBRARIES, read)?;
        rules = allow(
            rules,
            loader(binary),
            AccessFs::Execute | AccessFs::ReadFile,
        )?;
        rules = allow(rules, COMMON, read)?;
        rules = allow(
            rules,
            ["/dev/null"],
            AccessFs::ReadFile | AccessFs::WriteFile,
        )?;
        rules = allow(rules, [inputs], read)?;
        rules = allow(rules, [scratch], write)?;
        if remote || is_script(binary) {
            rules = allow(rules, LIBRARIES, run)?;
            rules = allow(rules, SCRIPT_PROGRAMS, run)?;
            rules = allow(rules, [LIBEXEC], run)?;
        }
        if remote {
            rules = allow(rules, NETWORK, read)?;
            rules = allow(rules, certificates(), read)?;
        }
        Ok(rules.restrict_self()?.ruleset)
    }

    /// Adds a rule for each path that exists.
    fn allow<P: AsRef<Path>>(
        rules: RulesetCreated,
        paths: impl IntoIterator<Item = P>,
        access: impl Into<BitFlags<AccessFs>>,
    ) -> Result<RulesetCreated, RulesetError> {
        rules.add_rules(path_beneath_rules(paths, access.into()))
    }

    /// Returns the loader that a program names, if it is linked dynamically.
    fn loader(binary: &Path) -> Option<PathBuf> {
        const HEADER: usize = 64;
        const SEGMENT: usize = 56;
        const LOADER: u64 = 3;
        let mut file = File::open(binary).ok()?;
        let mut read = |at: u64, length: usize| -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; length];
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        let header = read(0, HEADER).ok()?;
        // 64 bits, the least significant byte first.
        if !header.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let (table, segments) = (number(&header, 32, 8)?, number(&header, 56, 2)?);
        for segment in 0..segments {
            let at = table.checked_add(segment * SEGMENT as u64)?;
            let segment = read(at, SEGMENT).ok()?;
            if number(&segment, 0, 4)? == LOADER {
                let length = usize::try_from(number(&segment, 32, 8)?).ok()?;
                let name = read(number(&segment, 8, 8)?, length.min(LONGEST_PATH)).ok()?;
                let name = name.split(|byte| *byte == 0).next()?;
                return Some(PathBuf::from(OsStr::from_bytes(name)));
            }
        }
        None
    }

    /// Bytes of the longest path.
    const LONGEST_PATH: usize = 4096;

    fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
        let field = bytes.get(at..at + length)?;
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(field.iter().rev().fold(0, add))
    }

    fn certificates() -> Vec<PathBuf> {
        ["SSL_CERT_FILE", "SSL_CERT_DIR"]
            .iter()
            .filter_map(env::var_os)
            .flat_map(|value: OsString| env::split_paths(&value).collect::<Vec<_>>())
            .collect()
    }
}
