//! The `tagboat` program: a doorway to the library.

use libmimalloc_sys::{_mi_option_last, mi_option_set, mi_option_t};
use mimalloc::MiMalloc;
use std::process::ExitCode;

// What many threads free is given back to the system: with the allocator of the C library a process
// that has applied ten thousand objects keeps three times what it needs.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// After how many milliseconds freed pages go back to the system (`mi_option_purge_delay` of
/// `mimalloc.h`).
const PURGE_DELAY: mi_option_t = 15;
// The numbers of options are those of the version that has this many.
const _: () = assert!(
    _mi_option_last == 47,
    "look up the number of mi_option_purge_delay"
);

fn main() -> ExitCode {
    give_back_at_once();
    tagboat::cli::main()
}

/// By default pages go back a while after they were freed, but only when something else is
/// allocated then: a reconciler that has read ten thousand objects and rests would keep what it
/// took for that.
#[allow(unsafe_code, reason = "the allocator has no safe call for its options")]
fn give_back_at_once() {
    // SAFETY: it stores a number in a variable of the allocator, which reads it when it frees; no
    // other thread runs yet.
    unsafe { mi_option_set(PURGE_DELAY, 0) }
}
