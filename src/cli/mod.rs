//! The command line: what was typed → what is needed, and the answer as text or JSON. One file a
//! subcommand.

mod applications;
pub mod client;
mod check;
mod completions;
#[cfg(feature = "demo")]
mod demo;
mod diff;
mod explain;
mod health;
mod gone;
mod history;
mod holds;
mod init;
mod plan;
mod preview;
mod release;
mod render;
mod requests;
mod rollback;
mod run;
mod schema;
mod screen;
mod select;
mod set;
mod show;
mod status;
mod sync;
mod suspend;
mod tags;

pub use screen::{Failure, Screen};

use clap::{Parser, Subcommand, ValueEnum};
use std::process::ExitCode;

/// How a command ended, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done; nothing to do included.
    Done = 0,
    /// `check`, `set --check` or `plan --check` found something, `select` chose nothing, `health`
    /// saw a failed object, `preview` something that would be refused.
    Findings = 1,
    /// A declaration, a file or an argument is wrong.
    BadInput = 2,
    /// A registry, a Git server or the network is in trouble.
    Remote = 3,
    /// Some of the work was done, some was not.
    Partly = 4,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, nothing to do included · 1 findings (check, set --check, plan --check found something; select chose \
nothing, health saw a failed object, preview something that would be refused) · 2 bad input · 3 remote trouble · 4 partly done";

/// Keep the images of a fleet current: from the registry through Git to the cluster
#[derive(Debug, Parser)]
#[command(name = "tagboat", version, after_help = EXIT_CODES, propagate_version = true, subcommand_required = true, arg_required_else_help = true)]
struct Arguments {
    /// Print the answer as text or as JSON
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text, env = "TAGBOAT_OUTPUT")]
    output: Output,

    #[command(subcommand)]
    command: Command,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "demo")]
    Demo(demo::Arguments),
    Init(init::Arguments),
    Run(run::Arguments),
    Plan(plan::Arguments),
    Requests(requests::Arguments),
    Preview(preview::Arguments),
    Status(status::Arguments),
    Sync(sync::Arguments),
    Diff(diff::Arguments),
    History(history::Arguments),
    Explain(explain::Arguments),
    Holds(holds::Arguments),
    Release(release::Arguments),
    Suspend(suspend::Suspend),
    Resume(suspend::Resume),
    Rollback(rollback::Arguments),
    Select(select::Arguments),
    Set(set::Arguments),
    Check(check::Arguments),
    Tags(tags::Arguments),
    Render(render::Arguments),
    Health(health::Arguments),
    Schema(schema::Arguments),
    Completions(completions::Arguments),
}

/// Reads the arguments, runs the command, prints what went wrong, and gives the exit code.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are answers, not errors; a closed pipe while printing them is
            // nobody's fault.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() {
                Exit::BadInput as u8
            } else {
                Exit::Done as u8
            });
        }
    };
    // One TLS provider for the process, before the first client; a second installation would be no
    // harm.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut screen = Screen::new(arguments.output);
    let result = match arguments.command {
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => demo::run(&arguments, &mut screen),
        Command::Init(arguments) => init::run(&arguments, &mut screen),
        Command::Run(arguments) => run::run(&arguments, &mut screen),
        Command::Plan(arguments) => plan::run(&arguments, &mut screen),
        Command::Requests(arguments) => requests::run(&arguments, &mut screen),
        Command::Preview(arguments) => preview::run(&arguments, &mut screen),
        Command::Status(arguments) => status::run(&arguments, &mut screen),
        Command::Sync(arguments) => sync::run(&arguments, &mut screen),
        Command::Diff(arguments) => diff::run(&arguments, &mut screen),
        Command::History(arguments) => history::run(&arguments, &mut screen),
        Command::Explain(arguments) => explain::run(&arguments, &mut screen),
        Command::Holds(arguments) => holds::run(&arguments, &mut screen),
        Command::Release(arguments) => release::run(&arguments, &mut screen),
        Command::Suspend(arguments) => suspend::suspend(&arguments, &mut screen),
        Command::Resume(arguments) => suspend::resume(&arguments, &mut screen),
        Command::Rollback(arguments) => rollback::run(&arguments, &mut screen),
        Command::Select(arguments) => select::run(&arguments, &mut screen),
        Command::Set(arguments) => set::run(&arguments, &mut screen),
        Command::Check(arguments) => check::run(&arguments, &mut screen),
        Command::Tags(arguments) => tags::run(&arguments, &mut screen),
        Command::Render(arguments) => render::run(&arguments, &mut screen),
        Command::Health(arguments) => health::run(&arguments, &mut screen),
        Command::Schema(arguments) => schema::run(&arguments, &mut screen),
        Command::Completions(arguments) => completions::run(&arguments, &mut screen),
    };
    match result {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            screen.failure(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// `1 file`, `2 files`.
fn counted(count: usize, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}

/// Text of a file or the name of one, which must not reach a terminal as it is.
fn safe(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect()
}
