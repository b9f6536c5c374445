//! The system calls that a confined program may not use, as seccomp filters.
//!
//! They cover what Landlock leaves open: the network, other processes, and the owner, mode, times
//! and attributes of any file. Kernels differ in what Landlock can do; where it lacks something
//! that a program without network could use, a filter refuses it too.

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, sock_filter,
};
use std::{collections::BTreeMap, env};

/// The features that decide what is refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct FilterOptions {
    /// True if the program may talk to other hosts, by git and ssh.
    pub remote: bool,
    /// True if Landlock confines signals (Linux 6.12).
    pub signals_confined: bool,
}

/// System calls that reach the network, other processes, other files or the kernel's own state.
const REFUSED: [i64; 80] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_finit_module,
    libc::SYS_fremovexattr,
    libc::SYS_fsconfig,
    libc::SYS_fsetxattr,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_ioprio_set,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lremovexattr,
    libc::SYS_lsetxattr,
    // Landlock does not see a program that lies in memory.
    libc::SYS_memfd_create,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
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
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_removexattr,
    libc::SYS_request_key,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_semget,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_setpriority,
    // A session of its own would outlive the process group.
    libc::SYS_setsid,
    libc::SYS_settimeofday,
    libc::SYS_setxattr,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_shmget,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    // Landlock confines it since Linux 6.2 only.
    libc::SYS_truncate,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    // setxattrat, removexattrat, file_setattr and open_tree_attr, by their common numbers.
    463,
    466,
    467,
    469,
];

/// Calls that only the oldest architecture has.
#[cfg(target_arch = "x86_64")]
const REFUSED_OLD: [i64; 2] = [libc::SYS_chown, libc::SYS_lchown];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_OLD: [i64; 0] = [];

/// Calls that change the mode and the times of a file, which git needs and kustomize does not.
const FILE_MODES: [i64; 4] = [
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_utimensat,
    FCHMODAT2,
];

const FCHMODAT2: i64 = 452;

#[cfg(target_arch = "x86_64")]
const FILE_MODES_OLD: [i64; 4] = [
    libc::SYS_chmod,
    libc::SYS_futimesat,
    libc::SYS_utime,
    libc::SYS_utimes,
];
#[cfg(not(target_arch = "x86_64"))]
const FILE_MODES_OLD: [i64; 0] = [];

/// Calls that send a signal to any process.
const SIGNALS: [i64; 5] = [
    libc::SYS_kill,
    libc::SYS_pidfd_send_signal,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_tkill,
];

/// Flags of `clone` that make a namespace.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// The first number of x32 system calls, which are other entries to the same calls.
#[cfg(target_arch = "x86_64")]
const END_OF_NUMBERS: u32 = 0x4000_0000;
/// No system call has such a number.
#[cfg(not(target_arch = "x86_64"))]
const END_OF_NUMBERS: u32 = u32::MAX;

/// Filters this thread and all that it starts.
///
/// # Errors
/// A sentence, if the kernel takes no filter.
pub(super) fn filter(options: FilterOptions) -> Result<(), String> {
    let refusals = refusals(options).map_err(|error| format!("no seccomp filter: {error}"))?;
    for program in [by_number(), refusals] {
        seccompiler::apply_filter(&program)
            .map_err(|error| format!("the kernel takes no seccomp filter: {error}"))?;
    }
    Ok(())
}

/// Returns a filter of call numbers alone. Its `clone3` does not exist, because a filter cannot
/// see its flags; C libraries then use `clone`.
fn by_number() -> BpfProgram {
    let refuse = |error: i32| libc::SECCOMP_RET_ERRNO | error.unsigned_abs();
    let step = |code: u32, k: u32, jt: u8, jf: u8| sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt,
        jf,
        k,
    };
    let answer = |k: u32| step(libc::BPF_RET | libc::BPF_K, k, 0, 0);
    let is_equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let is_at_least = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or_default();
    vec![
        // The number is the first field.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(is_equal, clone3, 0, 1),
        answer(refuse(libc::ENOSYS)),
        step(is_at_least, END_OF_NUMBERS, 0, 1),
        answer(refuse(libc::EPERM)),
        answer(libc::SECCOMP_RET_ALLOW),
    ]
}

fn refusals(options: FilterOptions) -> Result<BpfProgram, BackendError> {
    let FilterOptions {
        remote,
        signals_confined,
    } = options;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut refuse = |calls: &[i64]| rules.extend(calls.iter().map(|call| (*call, Vec::new())));
    refuse(&REFUSED);
    refuse(&REFUSED_OLD);
    if !remote {
        // Without sockets there is nothing to connect, bind or send to.
        refuse(&[libc::SYS_socket, libc::SYS_socketpair]);
        refuse(&FILE_MODES);
        refuse(&FILE_MODES_OLD);
        if !signals_confined {
            refuse(&SIGNALS);
        }
    }
    let argument = |index, operator, value: u64| {
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)
    };
    let any = |conditions: Vec<SeccompCondition>| {
        let rules = conditions
            .into_iter()
            .map(|one| SeccompRule::new(vec![one]));
        rules.collect::<Result<Vec<_>, _>>()
    };
    let other_than =
        |index, value: i32| argument(index, SeccompCmpOp::Ne, u64::from(value.unsigned_abs()));
    if remote {
        // Other families, as Unix sockets, lead to the machine's own services.
        let families = [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
        let other = families.map(|family| other_than(0, family));
        let other = other.into_iter().collect::<Result<Vec<_>, _>>()?;
        rules.insert(libc::SYS_socket, vec![SeccompRule::new(other)?]);
    } else if !signals_confined {
        // Go interrupts its own threads; every other process ignores this signal.
        rules.insert(libc::SYS_tgkill, any(vec![other_than(2, libc::SIGURG)?])?);
    }
    let namespaces = NAMESPACES.map(|flag| {
        let flag = u64::from(flag.unsigned_abs());
        argument(0, SeccompCmpOp::MaskedEq(flag), flag)
    });
    let namespaces = namespaces.into_iter().collect::<Result<Vec<_>, _>>()?;
    rules.insert(libc::SYS_clone, any(namespaces)?);
    // The limits of the process itself; those of any other have a number.
    rules.insert(libc::SYS_prlimit64, any(vec![other_than(0, 0)?])?);
    // A new process joins its group by this call, after it was filtered and before it runs the
    // program: the numbers of its own group are zero.
    rules.insert(
        libc::SYS_setpgid,
        any(vec![other_than(0, 0)?, other_than(1, 0)?])?,
    );
    let target = TargetArch::try_from(env::consts::ARCH)?;
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, target).and_then(BpfProgram::try_from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::{io::Errno, process};
    use std::thread;

    /// Runs in a thread with the filter.
    fn filtered<T: Send>(options: FilterOptions, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                filter(options).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    #[test]
    fn signals_are_refused_where_landlock_lacks_them() {
        let own = process::getpid();
        let signal = || process::test_kill_process(own);
        let with = |remote, signals_confined| FilterOptions {
            remote,
            signals_confined,
        };
        assert_eq!(filtered(with(false, false), signal), Err(Errno::PERM));
        assert_eq!(filtered(with(false, true), signal), Ok(()));
        assert_eq!(filtered(with(true, false), signal), Ok(()));
    }

    #[test]
    fn truncate_is_refused_without_landlock() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "text").unwrap();
        let options = FilterOptions {
            remote: true,
            signals_confined: true,
        };
        let program = filtered(options, || {
            std::process::Command::new("perl")
                .args(["-e", "exit(truncate($ARGV[0], 0) ? 0 : 1)"])
                .arg(&file)
                .status()
        });
        assert_eq!(program.unwrap().code(), Some(1));
        assert_eq!(std::fs::read(&file).unwrap(), b"text");
    }

    #[test]
    fn clone_makes_no_namespace() {
        let child = |flags: i32| {
            let script = format!(
                "my $pid = syscall({}, {flags}, 0, 0, 0, 0); exit 0 if $pid == 0; exit($pid > 0 ? 0 : $!{{EPERM}} ? 1 : 2)",
                libc::SYS_clone
            );
            let options = FilterOptions {
                remote: true,
                signals_confined: true,
            };
            let mut perl = std::process::Command::new("perl");
            let status = filtered(options, || perl.args(["-e", &script]).status());
            status.unwrap().code()
        };
        assert_eq!(child(libc::SIGCHLD), Some(0));
        for namespace in NAMESPACES {
            assert_eq!(child(namespace | libc::SIGCHLD), Some(1), "{namespace:x}");
        }
    }

    #[test]
    fn clone_makes_threads_and_processes_still() {
        let options = FilterOptions {
            remote: false,
            signals_confined: false,
        };
        let started = filtered(options, || {
            let thread = thread::spawn(|| 7).join().unwrap();
            let process = std::process::Command::new("true").status().unwrap();
            (thread, process.success())
        });
        assert_eq!(started, (7, true));
    }
}
