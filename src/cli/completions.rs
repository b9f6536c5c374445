//! `tagboat completions`.

use super::{Exit, Failure, Screen};
use clap::CommandFactory;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut super::Arguments::command(),
        "tagboat",
        &mut script,
    );
    screen.print(String::from_utf8_lossy(&script));
    Ok(Exit::Done)
}
