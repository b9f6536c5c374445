//! `tagboat run`.

use super::{
    Exit, Failure, Screen,
    ask::Desk,
    context::{self, Context, ProcessOptions},
    show, status,
    sync::{self, Sync, Until},
};
use crate::{
    daemon,
    update::{Mode, Report, Rescan},
};
use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::json;
use std::{io::IsTerminal, sync::Arc};
use tracing_subscriber::EnvFilter;

/// Keep config repositories up to date and clusters in step with them: as a daemon, or in one pass
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    process: ProcessOptions,

    /// Make one pass and end
    #[arg(long)]
    once: bool,

    /// The form of the log, which goes to standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "TAGBOAT_LOG_FORMAT", help_heading = "Logging")]
    log_format: LogFormat,

    /// What is logged: error, warn, info, debug, trace, or tagboat::room=level
    #[arg(long, value_name = "FILTER", default_value = "info", env = "TAGBOAT_LOG", help_heading = "Logging")]
    log: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    let context = Arc::new(Context::read(&arguments.process)?);
    if !arguments.once {
        log_to_stderr(arguments)?;
    }
    let engine = context.open()?;
    let runtime = context::runtime()?;
    if !arguments.once {
        // Dropping the runtime afterwards waits for a push that is under way: a pass is never dropped between commit
        // and push.
        return runtime.block_on(daemon::run(engine, &context));
    }
    for warning in &engine.warnings {
        screen.note(format_args!("warning: {warning}"));
    }
    let desk = Desk::new(&context, &engine, None);
    let (reports, applied) = runtime.block_on(async {
        let mut reports: Vec<Report> = Vec::new();
        for updater in &engine.updaters {
            let _progress = screen.progress(&format!("updating {}", updater.config.name));
            let _turn = updater.turn.lock().await;
            reports.push(updater.pass(Mode::Write, &Rescan::All, Timestamp::now()).await);
        }
        // What was committed is applied at once, and told together.
        let applied = match context.process.clusters.is_empty() {
            true => None,
            false => Some(sync::bring(&desk, &Sync { until: Until::Declared, ..Sync::default() }, screen).await),
        };
        (reports, applied)
    });
    engine.scanner.store.flush()?;
    let (statuses, exit) = applied.transpose()?.unwrap_or((Vec::new(), Exit::Done));
    match (screen.is_json(), context.process.clusters.is_empty()) {
        (true, true) => screen.json(&reports),
        (true, false) => screen.json(&json!({"passes": reports, "applications": statuses})),
        (false, none) => {
            for report in &reports {
                show::report(report, false, screen);
            }
            if !none {
                status::show(&statuses, screen);
            }
        }
    }
    Ok(exit.max(show::exit(&reports)))
}

fn log_to_stderr(arguments: &Arguments) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&arguments.log).map_err(|error| Failure::input(format!("--log {:?}: {error}", arguments.log)))?;
    // As everywhere: colour only on a terminal, and not if NO_COLOR is set.
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(color).with_target(false);
    match arguments.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
