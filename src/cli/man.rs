//! `tagboat man`.

use super::{Failure, Outcome, Screen, counted};
use crate::core::error::ErrorKind;
use clap_mangen::Man;
use std::{io, path::PathBuf};

const EXAMPLES: &str = "\
Examples:
  tagboat man | man -l -
  tagboat man --dir ~/.local/share/man/man1 && man tagboat-scan";

/// Print the manual page of tagboat, or write the pages of all commands
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Write tagboat.1 and a page for each command into DIR, which is created
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let program = super::command().disable_help_subcommand(true);
    let Some(folder) = &arguments.dir else {
        let mut page = Vec::new();
        let rendered = Man::new(program).render(&mut page);
        rendered.map_err(|error| Failure::input(format!("cannot write the page: {error}")))?;
        screen.print(String::from_utf8_lossy(&page));
        return Ok(Outcome::Done);
    };
    let pages = 1 + program.get_subcommands().count();
    let write = || {
        std::fs::create_dir_all(folder)?;
        clap_mangen::generate_to(program, folder)
    };
    write().map_err(|error: io::Error| {
        let message = format!("cannot write manual pages to {}: {error}", folder.display());
        Failure::new(ErrorKind::Local, message)
    })?;
    screen.note(format_args!(
        "wrote {} to {}",
        counted(pages, "manual page"),
        folder.display()
    ));
    Ok(Outcome::Done)
}
