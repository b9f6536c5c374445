//! The `tagboat` program: a doorway to the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tagboat::cli::main()
}
