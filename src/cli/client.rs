//! Commands that look at config repositories as the daemon sees them: `plan`, `requests`,
//! `explain`, `holds`, `release`, `suspend`, `resume`, `rollback`.
//!
//! A running daemon answers them over its local socket, because it has the store open; where none
//! runs, the command opens the store itself. The answer is made by the same code in both cases.

use super::{
    Exit, Failure, Output, Screen, diff, explain, history, holds, plan,
    preview::{self, Between},
    release, requests, rollback,
    screen::CapturedOutput,
    status, suspend,
    sync::{self, Sync},
};
use crate::service::engine::{self, Engine, ProcessContext, ProcessOptions};
use crate::{
    core::name::Name,
    io::render::Renderer,
    reconcile::Reconciler,
    spec::Declarations,
    update::{DeclarationRef, ImageUpdater, PassReport},
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
    /// How Applications are; all of them if none is named.
    Status {
        /// These.
        applications: Vec<Name>,
    },
    /// Bring clusters to what Git says.
    Sync(Sync),
    /// What Git says and what clusters have; of all Applications if none is named.
    Diff {
        /// These.
        applications: Vec<Name>,
    },
    /// What became of an Application's revisions.
    History {
        /// Which.
        application: Name,
    },
    /// What becomes different on clusters between two revisions.
    Preview(Between),
    /// The requests for review.
    Requests,
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
        what: DeclarationRef,
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
pub struct SocketRequest {
    /// The question.
    pub query: Query,
    /// Only this repository.
    pub repository: Option<String>,
    /// Whether the answer is JSON.
    pub json: bool,
    /// Whether it is in colour.
    pub color: bool,
}

/// What a daemon says, a line of JSON each; the answer comes last.
#[derive(Debug, Serialize, Deserialize)]
pub enum SocketReply {
    /// How far it is.
    Progress(String),
    /// The end.
    Answer {
        /// What to print.
        kept: CapturedOutput,
        /// The exit code.
        exit: u8,
    },
}

/// What questions are answered with.
pub struct Service {
    /// One for each config repository.
    pub updaters: Vec<Arc<ImageUpdater>>,
    /// The clusters, if there are any and a daemon looks after them.
    pub reconciler: Option<Arc<Reconciler>>,
    /// Renders what Applications name.
    pub renderer: Arc<Renderer>,
    /// The process file, for what is opened anew.
    pub context: Arc<ProcessContext>,
}

impl Service {
    /// With what a process has open.
    pub fn new(
        context: &Arc<ProcessContext>,
        engine: &Engine,
        reconciler: Option<Arc<Reconciler>>,
    ) -> Self {
        Self {
            updaters: engine.updaters.clone(),
            reconciler,
            renderer: Arc::clone(&engine.renderer),
            context: Arc::clone(context),
        }
    }

    /// The same for one repository.
    pub fn only(&self, repository: Option<&str>) -> Self {
        let wanted = |updater: &&Arc<ImageUpdater>| {
            repository.is_none_or(|name| updater.config.name == name)
        };
        Self {
            updaters: self.updaters.iter().filter(wanted).cloned().collect(),
            reconciler: self.reconciler.clone(),
            renderer: Arc::clone(&self.renderer),
            context: Arc::clone(&self.context),
        }
    }
}

/// The longest answer taken: thousands of diffs.
const MOST_BYTES: u64 = 256 << 20;

/// Asks: the daemon if one runs, else ourselves.
pub fn run(options: &ProcessOptions, query: &Query, screen: &mut Screen) -> Result<Exit, Failure> {
    let context = Arc::new(ProcessContext::read(options)?);
    if let Some(exit) = ask_daemon(&context.socket(), options, query, screen)? {
        return Ok(exit);
    }
    let engine = context.open()?;
    for warning in &engine.warnings {
        screen.note(format_args!("warning: {warning}"));
    }
    let desk = Service::new(&context, &engine, None);
    engine::runtime()?.block_on(answer(&desk, query, screen))
}

/// Answers, with what is open already.
pub async fn answer(desk: &Service, query: &Query, screen: &mut Screen) -> Result<Exit, Failure> {
    let updaters = desk.updaters.as_slice();
    // Those that make a pass or write to Git have the repositories to themselves meanwhile.
    let mut turns = Vec::new();
    if !matches!(
        query,
        Query::Status { .. }
            | Query::Sync(_)
            | Query::Diff { .. }
            | Query::History { .. }
            | Query::Preview(_)
    ) {
        for updater in updaters {
            turns.push(Arc::clone(&updater.turn).lock_owned().await);
        }
    }
    let answer = match query {
        Query::Status { applications } => status::answer(desk, applications, screen).await,
        Query::Sync(sync) => sync::answer(desk, sync, screen).await,
        Query::Diff { applications } => diff::answer(desk, applications, screen).await,
        Query::History { application } => history::answer(desk, application, screen).await,
        Query::Preview(between) => preview::answer(desk, between, screen).await,
        Query::Plan { check } => plan::answer(updaters, *check, screen).await,
        Query::Explain { policy } => explain::answer(updaters, policy, screen).await,
        Query::Holds => holds::answer(updaters, screen).await,
        Query::Requests => requests::answer(updaters, screen).await,
        Query::Release {
            environment,
            policy,
        } => release::answer(updaters, environment, policy, screen).await,
        Query::Suspend { what, rest } => suspend::answer(updaters, what, *rest, screen).await,
        Query::Rollback { application, to } => {
            rollback::answer(updaters, application, to.as_deref(), screen).await
        }
    };
    // What a command has written is applied now, not at the next poll. Trouble with that is the
    // next poll's.
    if desk.reconciler.is_some()
        && matches!(
            query,
            Query::Release { .. } | Query::Suspend { .. } | Query::Rollback { .. }
        )
    {
        for updater in updaters {
            let _ = updater.look(&mut PassReport::default()).await;
        }
    }
    answer
}

/// Says what an answer may lack because a remote could not be asked; then that is how the command
/// ends.
pub(crate) fn mind_failures(report: &PassReport, screen: &mut Screen) -> Option<Exit> {
    for failure in &report.failures {
        screen.note(format_args!(
            "error ({}): {}",
            failure.kind, failure.message
        ));
    }
    (!report.failures.is_empty()).then_some(Exit::Partly)
}

/// Says that an answer may lack what declarations with errors would have said.
pub(crate) fn mind_errors(declared: &Declarations, screen: &mut Screen) {
    if declared.has_errors() {
        screen.note(
            "note: some declarations have errors and are not used; `tagboat check` names them",
        );
    }
}

fn ask_daemon(
    socket: &Path,
    options: &ProcessOptions,
    query: &Query,
    screen: &mut Screen,
) -> Result<Option<Exit>, Failure> {
    // No socket, or one that nobody listens on: no daemon runs.
    let Ok(mut stream) = UnixStream::connect(socket) else {
        return Ok(None);
    };
    let broken = |error: &dyn std::fmt::Display| {
        Failure {
            exit: Exit::Remote,
            error: anyhow::anyhow!("the daemon at {}: {error}", socket.display()),
            hint: None,
        }
        .hint("Ask again, or stop the daemon and ask without it.")
    };
    let (output, color) = screen.form();
    let asked = SocketRequest {
        query: query.clone(),
        repository: options.repository.clone(),
        json: output == Output::Json,
        color,
    };
    let mut line = serde_json::to_string(&asked).map_err(|error| broken(&error))?;
    line.push('\n');
    stream
        .write_all(line.as_bytes())
        .map_err(|error| broken(&error))?;
    let progress = screen.progress("asking the daemon");
    let mut lines = BufReader::new(std::io::Read::take(stream, MOST_BYTES));
    let (kept, exit) = loop {
        let mut text = String::new();
        lines.read_line(&mut text).map_err(|error| broken(&error))?;
        match serde_json::from_str(&text).map_err(|_| broken(&"it gave no answer"))? {
            SocketReply::Progress(text) => progress.say(text),
            SocketReply::Answer { kept, exit } => break (kept, exit),
        }
    };
    drop(progress);
    screen.print(kept.out);
    if !kept.err.is_empty() {
        screen.note(kept.err.trim_end());
    }
    let exits = [
        Exit::Done,
        Exit::Findings,
        Exit::BadInput,
        Exit::Remote,
        Exit::Partly,
    ];
    Ok(Some(
        exits
            .into_iter()
            .find(|known| *known as u8 == exit)
            .unwrap_or(Exit::Partly),
    ))
}

/// The forms by name, for the answer of a daemon.
pub fn output(json: bool) -> Output {
    let name = if json { "json" } else { "text" };
    Output::from_str(name, false).unwrap_or(Output::Text)
}
