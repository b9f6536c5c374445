//! The `tagboat` program: the library behind an allocator.

use libmimalloc_sys::{_mi_option_last, mi_option_set, mi_option_t};
use mimalloc::MiMalloc;
use std::process::ExitCode;

// Returns memory that many threads have freed to the system. With the allocator of the C library, a
// process that has applied ten thousand objects keeps three times as much memory as it needs.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The option `mi_option_purge_delay` of `mimalloc.h`: the milliseconds after which freed pages
/// are returned to the system.
const PURGE_DELAY: mi_option_t = 15;
// Options are numbered by version; this is the number of options of the checked one.
const _: () = assert!(
    _mi_option_last == 47,
    "look up the number of mi_option_purge_delay"
);

fn main() -> ExitCode {
    return_memory_at_once();
    #[cfg(target_os = "linux")]
    keep_inherited_files();
    tagboat::cli::main()
}

/// Sets the purge delay to zero. By default, freed pages are returned only when something else is
/// allocated later, so that an idle reconciler would keep the memory of its last large render.
#[allow(unsafe_code, reason = "the allocator has no safe call for its options")]
fn return_memory_at_once() {
    // SAFETY: the call stores a number in a variable of the allocator; no other thread runs yet.
    unsafe { mi_option_set(PURGE_DELAY, 0) }
}

/// Marks every inherited file but the standard streams as close-on-exec, so that no program that
/// tagboat runs gets a file or socket of the caller. The files that tagboat opens have the mark.
///
/// Linux before 5.11 lacks the call, and Landlock as well.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "libc has no safe call for it")]
fn keep_inherited_files() {
    // SAFETY: the call sets a flag of open files, and takes numbers only.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3_u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
    }
}
