//! Commands that look at config repositories as the daemon sees them: `plan`, `explain`, `holds`, `release`,
//! `suspend`, `resume`, `rollback`.
//!
//! A running daemon answers them over its local socket, because it has the store open; where none runs, the command
//! opens the store itself. The answer is made by the same code in both cases.

use super::{
    Exit, Failure, Output, Screen,
    context::{self, Context, ProcessOptions},
    explain, holds, plan, release, rollback,
    screen::Kept,
    suspend,
};
use crate::{
    declare::Declarations,
    name::Name,
    update::{Named, Updater},
};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
};

/// A question.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Query {
    /// What a pass would change; with `check`, that is a finding.
    Plan {
        /// Whether changes are findings.
        check: bool,
    },
    /// Why a policy chose what it chose.
    Explain {
        /// The policy.
        policy: Name,
    },
    /// What is held.
    Holds,
    /// Lift a hold.
    Release {
        /// The Environment.
        environment: String,
        /// The policy.
        policy: Name,
    },
    /// Let a declaration rest, or work again.
    Suspend {
        /// Which.
        what: Named,
        /// Whether it shall rest.
        rest: bool,
    },
    /// Bring the files of an Application back.
    Rollback {
        /// The Application.
        application: Name,
        /// The commit, or the first digits of its id.
        to: Option<String>,
    },
}

/// A question on its way to a daemon, one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct Asked {
    /// The question.
    pub query: Query,
    /// Only this repository.
    pub repository: Option<String>,
    /// Whether the answer is JSON.
    pub json: bool,
    /// Whether it is in colour.
    pub color: bool,
}

/// A daemon's answer, one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answered {
    /// What to print.
    pub kept: Kept,
    /// The exit code.
    pub exit: u8,
}

/// The longest answer taken: thousands of diffs.
const MOST_BYTES: u64 = 256 << 20;

/// Asks: the daemon if one runs, else ourselves.
pub fn run(options: &ProcessOptions, query: &Query, screen: &mut Screen) -> Result<Exit, Failure> {
    let context = Context::read(options)?;
    if let Some(exit) = ask_daemon(&context.socket(), options, query, screen)? {
        return Ok(exit);
    }
    let engine = context.open()?;
    for warning in &engine.warnings {
        screen.note(format_args!("warning: {warning}"));
    }
    context::runtime()?.block_on(answer(&engine.updaters, query, screen))
}

/// Answers, with what is open already.
pub async fn answer(updaters: &[Arc<Updater>], query: &Query, screen: &mut Screen) -> Result<Exit, Failure> {
    match query {
        Query::Plan { check } => plan::answer(updaters, *check, screen).await,
        Query::Explain { policy } => explain::answer(updaters, policy, screen).await,
        Query::Holds => holds::answer(updaters, screen).await,
        Query::Release { environment, policy } => release::answer(updaters, environment, policy, screen).await,
        Query::Suspend { what, rest } => suspend::answer(updaters, what, *rest, screen).await,
        Query::Rollback { application, to } => rollback::answer(updaters, application, to.as_deref(), screen).await,
    }
}

/// Says that an answer may lack what declarations with errors would have said.
pub(super) fn mind_errors(declared: &Declarations, screen: &mut Screen) {
    if declared.has_errors() {
        screen.note("note: some declarations have errors and are not used; `tagboat check` names them");
    }
}

fn ask_daemon(socket: &Path, options: &ProcessOptions, query: &Query, screen: &mut Screen) -> Result<Option<Exit>, Failure> {
    // No socket, or one that nobody listens on: no daemon runs.
    let Ok(mut stream) = UnixStream::connect(socket) else { return Ok(None) };
    let broken = |error: &dyn std::fmt::Display| {
        Failure { exit: Exit::Remote, error: anyhow::anyhow!("the daemon at {}: {error}", socket.display()), hint: None }
            .hint("Ask again, or stop the daemon and ask without it.")
    };
    let (output, color) = screen.form();
    let asked = Asked { query: query.clone(), repository: options.repository.clone(), json: output == Output::Json, color };
    let mut line = serde_json::to_string(&asked).map_err(|error| broken(&error))?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(|error| broken(&error))?;
    let mut text = String::new();
    BufReader::new(std::io::Read::take(stream, MOST_BYTES)).read_line(&mut text).map_err(|error| broken(&error))?;
    let Answered { kept, exit } = serde_json::from_str(&text).map_err(|_| broken(&"it gave no answer"))?;
    screen.print(kept.out);
    if !kept.err.is_empty() {
        screen.note(kept.err.trim_end());
    }
    let exits = [Exit::Done, Exit::Findings, Exit::BadInput, Exit::Remote, Exit::Partly];
    Ok(Some(exits.into_iter().find(|known| *known as u8 == exit).unwrap_or(Exit::Partly)))
}

/// The forms by name, for the answer of a daemon.
pub fn output(json: bool) -> Output {
    let name = if json { "json" } else { "text" };
    Output::from_str(name, false).unwrap_or(Output::Text)
}
