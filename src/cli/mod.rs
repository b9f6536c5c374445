//! Arguments and printing: one file a subcommand.
//!
//! Belongs here: what the user types, turned into a query of [`service`](crate::service), and the
//! answer as text or JSON. Does not belong here: any decision that another client of the service
//! would have to repeat.

mod applications;
mod author;
mod check;
mod client;
mod complete;
mod completions;
#[cfg(feature = "demo")]
mod demo;
mod diff;
mod exit_codes;
mod explain;
mod health;
mod history;
mod holds;
mod init;
mod input;
mod interrupt;
mod man;
mod plan;
mod policies;
mod preview;
mod print;
mod release;
mod render;
mod requests;
mod rollback;
mod run;
mod scan;
mod schema;
mod screen;
mod select;
mod set;
mod settings;
mod status;
mod suspend;
mod sync;
mod table;
mod tags;
mod unsupported;

use crate::{
    core::text::escape_control as safe,
    service::{Failure, Outcome},
};
use clap::{FromArgMatches as _, Parser, Subcommand, ValueEnum};
use clap_complete::CompleteEnv;
use screen::Screen;
use std::process::ExitCode;

/// Update container images in a GitOps repository and deploy the result to Kubernetes
#[derive(Debug, Parser)]
#[command(
    name = "tagboat",
    version,
    after_help = exit_codes::SUMMARY,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Arguments {
    /// Print the answer in this format
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t = Output::Text,
        env = "TAGBOAT_OUTPUT",
        help_heading = "Output"
    )]
    output: Output,

    #[command(subcommand)]
    command: Command,
}

/// The format of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Text for reading
    Text,
    /// JSON for programs, described by `tagboat schema answer`
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "demo")]
    Demo(demo::Arguments),
    Init(init::Arguments),
    Run(run::Arguments),
    Scan(scan::Arguments),
    Plan(plan::Arguments),
    Requests(requests::Arguments),
    Preview(preview::Arguments),
    Status(status::Arguments),
    Sync(sync::Arguments),
    Diff(diff::Arguments),
    History(history::Arguments),
    Policies(policies::Arguments),
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
    Man(man::Arguments),
}

/// Returns the command line's definition, for the reference in `docs/`.
pub fn command() -> clap::Command {
    exit_codes::document(<Arguments as clap::CommandFactory>::command())
}

/// Parses the arguments, runs the command, and prints its failure.
pub fn main() -> ExitCode {
    // Ends the process if the shell asks for candidates.
    CompleteEnv::with_factory(command)
        .var(complete::VARIABLE)
        .complete();
    let parsed = command()
        .try_get_matches()
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => return ExitCode::from(print_usage(&error).exit_code()),
    };
    // Without handlers, a signal ends the process as the system does it.
    let _ = interrupt::install();
    // Installed before the first client; an earlier installation would be harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut screen = Screen::new(arguments.output);
    let outcome = run(arguments.command, &mut screen).unwrap_or_else(|failure| {
        screen.failure(&failure);
        failure.outcome()
    });
    // A query that was pushing has been waited for.
    let outcome = match interrupt::is_requested() {
        true => Outcome::Interrupted,
        false => outcome,
    };
    ExitCode::from(outcome.exit_code())
}

fn run(command: Command, screen: &mut Screen) -> Result<Outcome, Failure> {
    match command {
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => demo::run(&arguments, screen),
        Command::Init(arguments) => init::run(&arguments, screen),
        Command::Run(arguments) => run::run(&arguments, screen),
        Command::Scan(arguments) => scan::run(&arguments, screen),
        Command::Plan(arguments) => plan::run(&arguments, screen),
        Command::Requests(arguments) => requests::run(&arguments, screen),
        Command::Preview(arguments) => preview::run(&arguments, screen),
        Command::Status(arguments) => status::run(&arguments, screen),
        Command::Sync(arguments) => sync::run(&arguments, screen),
        Command::Diff(arguments) => diff::run(&arguments, screen),
        Command::History(arguments) => history::run(&arguments, screen),
        Command::Policies(arguments) => policies::run(&arguments, screen),
        Command::Explain(arguments) => explain::run(&arguments, screen),
        Command::Holds(arguments) => holds::run(&arguments, screen),
        Command::Release(arguments) => release::run(&arguments, screen),
        Command::Suspend(arguments) => suspend::suspend(&arguments, screen),
        Command::Resume(arguments) => suspend::resume(&arguments, screen),
        Command::Rollback(arguments) => rollback::run(&arguments, screen),
        Command::Select(arguments) => select::run(&arguments, screen),
        Command::Set(arguments) => set::run(&arguments, screen),
        Command::Check(arguments) => check::run(&arguments, screen),
        Command::Tags(arguments) => tags::run(&arguments, screen),
        Command::Render(arguments) => render::run(&arguments, screen),
        Command::Health(arguments) => health::run(&arguments, screen),
        Command::Schema(arguments) => schema::run(&arguments, screen),
        Command::Completions(arguments) => completions::run(&arguments, screen),
        Command::Man(arguments) => man::run(&arguments, screen),
    }
}

/// Prints help or a usage error. A closed pipe is no failure here.
fn print_usage(error: &clap::Error) -> Outcome {
    if !error.use_stderr() {
        let _ = error.print();
        return Outcome::Done;
    }
    if asks_for_json() {
        let message = error.to_string();
        let message = message.strip_prefix("error: ").unwrap_or(&message);
        Screen::new(Output::Json).failure(&Failure::input(message.trim_end()));
    } else {
        let _ = error.print();
    }
    Outcome::BadInput
}

/// Looks for JSON output in arguments that could not be parsed.
fn asks_for_json() -> bool {
    let arguments: Vec<_> = std::env::args_os().collect();
    let is_json = |pair: &[std::ffi::OsString]| {
        (pair[0] == "-o" || pair[0] == "--output") && pair[1] == "json"
    };
    arguments.windows(2).any(is_json)
        || arguments
            .iter()
            .any(|argument| argument == "-ojson" || argument == "--output=json")
        || std::env::var_os("TAGBOAT_OUTPUT").is_some_and(|output| output == "json")
}

/// Returns `1 file`, `2 files`.
fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}
