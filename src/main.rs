//! The `tagboat` program: a doorway to the library.

use mimalloc::MiMalloc;
use std::process::ExitCode;

// What many threads free is given back to the system: with the allocator of the C library a process that has applied
// ten thousand objects keeps three times what it needs.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    tagboat::cli::main()
}
