//! Confines a program: no network, no file but those it is given, no other process.
//!
//! A thread restricts itself with Landlock and seccomp and starts the program, which inherits both
//! for good; the other threads of this process stay as they are. Landlock answers with EACCES,
//! seccomp with EPERM.
//!
//! Landlock cannot hide that a file exists, nor its size: only opening it is refused.

use crate::spec::settings::{RenderSandbox, RenderSettings};
use std::{
    io,
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

/// Returns what this system lacks to confine a program, as a sentence; nothing if it can.
///
/// A thread tries it, because a container may forbid what the kernel offers.
pub fn sandbox_gap() -> Option<String> {
    let root = Path::new("/");
    let attempt = on_a_thread(|| {
        restrict(Confinement {
            binary: root,
            inputs: root,
            scratch: root,
            remote: false,
        })
    });
    attempt.unwrap_or_else(|failure| match failure {
        StartFailure::System(error) => Some(error.to_string()),
        StartFailure::Unconfined(gap) => Some(gap),
    })
}

/// Returns the warning that programs run unconfined although they may be confined.
pub fn sandbox_warning(settings: &RenderSettings) -> Option<String> {
    let gap = (settings.sandbox == RenderSandbox::Auto).then(sandbox_gap)??;
    Some(format!("kustomize and helm are not confined: {gap}"))
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
    use super::Confinement;
    use landlock::{
        ABI, Access, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr, RulesetCreated,
        RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
    };
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule, TargetArch,
    };
    use std::{
        collections::BTreeMap,
        env,
        ffi::OsString,
        fs::File,
        io::Read as _,
        path::{Path, PathBuf},
        sync::LazyLock,
    };

    /// The newest Landlock that is used; an older kernel enforces what it knows.
    const LANDLOCK: ABI = ABI::V6;

    /// Libraries, and the loader of programs that need them.
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

    /// Programs that a script, or kustomize for a remote base, runs.
    const PROGRAMS: [&str; 4] = ["/bin", "/usr/bin", "/usr/local/bin", "/usr/libexec"];

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
        match landlock(confinement) {
            Ok(RulesetStatus::NotEnforced) => {
                missing.push("the kernel offers no Landlock".to_owned());
            }
            Ok(_) => {}
            Err(error) => missing.push(format!("Landlock failed: {error}")),
        }
        // After Landlock, whose system calls an older filter may not know.
        if let Err(why) = seccomp(confinement.remote) {
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
        rules = allow(rules, LIBRARIES, run)?;
        rules = allow(rules, COMMON, read)?;
        rules = allow(
            rules,
            ["/dev/null"],
            AccessFs::ReadFile | AccessFs::WriteFile,
        )?;
        rules = allow(rules, [inputs], read)?;
        rules = allow(rules, [scratch], write)?;
        if remote || is_script(binary) {
            rules = allow(rules, PROGRAMS, run)?;
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

    /// Returns whether an interpreter runs the program.
    fn is_script(binary: &Path) -> bool {
        let mut start = [0; 2];
        let read = File::open(binary).and_then(|mut file| file.read_exact(&mut start));
        read.is_ok() && start == *b"#!"
    }

    fn certificates() -> Vec<PathBuf> {
        ["SSL_CERT_FILE", "SSL_CERT_DIR"]
            .iter()
            .filter_map(env::var_os)
            .flat_map(|value: OsString| env::split_paths(&value).collect::<Vec<_>>())
            .collect()
    }

    /// System calls that reach the network, other processes or the kernel's own state.
    const REFUSED: [i64; 54] = [
        libc::SYS_acct,
        libc::SYS_add_key,
        libc::SYS_adjtimex,
        libc::SYS_bpf,
        libc::SYS_chroot,
        libc::SYS_clock_adjtime,
        libc::SYS_clock_settime,
        libc::SYS_delete_module,
        libc::SYS_finit_module,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fsopen,
        libc::SYS_fspick,
        libc::SYS_init_module,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_io_uring_setup,
        libc::SYS_kcmp,
        libc::SYS_kexec_load,
        libc::SYS_keyctl,
        libc::SYS_mount,
        libc::SYS_mount_setattr,
        libc::SYS_move_mount,
        libc::SYS_mq_open,
        libc::SYS_msgctl,
        libc::SYS_msgget,
        libc::SYS_msgrcv,
        libc::SYS_msgsnd,
        libc::SYS_name_to_handle_at,
        libc::SYS_open_by_handle_at,
        libc::SYS_open_tree,
        libc::SYS_perf_event_open,
        libc::SYS_pidfd_getfd,
        libc::SYS_pivot_root,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_ptrace,
        libc::SYS_quotactl,
        libc::SYS_reboot,
        libc::SYS_request_key,
        libc::SYS_semget,
        libc::SYS_setdomainname,
        libc::SYS_sethostname,
        libc::SYS_setns,
        libc::SYS_settimeofday,
        libc::SYS_shmat,
        libc::SYS_shmctl,
        libc::SYS_shmget,
        libc::SYS_swapoff,
        libc::SYS_swapon,
        libc::SYS_syslog,
        libc::SYS_umount2,
        libc::SYS_unshare,
        libc::SYS_userfaultfd,
    ];

    /// The bit of x32 system calls, whose numbers would pass by the others.
    #[cfg(target_arch = "x86_64")]
    const X32: i64 = 0x4000_0000;

    type CompiledFilter = Result<BpfProgram, String>;

    static OFFLINE: LazyLock<CompiledFilter> = LazyLock::new(|| compile(false));
    static ONLINE: LazyLock<CompiledFilter> = LazyLock::new(|| compile(true));

    fn seccomp(remote: bool) -> Result<(), String> {
        let filter = if remote { &ONLINE } else { &OFFLINE };
        let program = filter.as_ref().map_err(Clone::clone)?;
        seccompiler::apply_filter(program)
            .map_err(|error| format!("the kernel takes no seccomp filter: {error}"))
    }

    fn compile(remote: bool) -> CompiledFilter {
        let text = |error: seccompiler::BackendError| format!("no seccomp filter: {error}");
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            REFUSED.iter().map(|call| (*call, Vec::new())).collect();
        // Without sockets there is nothing to connect, bind or send to.
        rules.insert(libc::SYS_socket, Vec::new());
        rules.insert(libc::SYS_socketpair, Vec::new());
        if remote {
            // Other families, as Unix sockets, lead to the machine's own services.
            let other = [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK]
                .into_iter()
                .map(|family| {
                    SeccompCondition::new(
                        0,
                        SeccompCmpArgLen::Dword,
                        SeccompCmpOp::Ne,
                        u64::from(family.unsigned_abs()),
                    )
                })
                .collect::<Result<Vec<_>, _>>()
                .map_err(text)?;
            rules.insert(
                libc::SYS_socket,
                vec![SeccompRule::new(other).map_err(text)?],
            );
            rules.remove(&libc::SYS_socketpair);
        }
        #[cfg(target_arch = "x86_64")]
        {
            let x32: Vec<_> = rules
                .iter()
                .map(|(call, rules)| (call | X32, rules.clone()))
                .collect();
            rules.extend(x32);
        }
        let target = TargetArch::try_from(env::consts::ARCH).map_err(text)?;
        let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, target);
        filter.and_then(BpfProgram::try_from).map_err(text)
    }
}
