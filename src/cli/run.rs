//! `tagboat run`.

use super::{
    Exit, Failure, Screen,
    client::Service,
    show, status,
    sync::{self, Sync, Until},
};
use crate::service::engine::{self, ProcessContext, ProcessOptions};
use crate::{
    daemon,
    update::{PassMode, PassReport, Rescan},
};
use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::json;
use std::{io::IsTerminal, sync::Arc};
use tracing_subscriber::{
    EnvFilter,
    filter::{LevelFilter, ParseError},
};

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
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "TAGBOAT_LOG",
        help_heading = "Logging"
    )]
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
    let context = Arc::new(ProcessContext::read(&arguments.process)?);
    if !arguments.once {
        log_to_stderr(arguments)?;
    }
    let engine = context.open()?;
    let runtime = engine::runtime()?;
    if !arguments.once {
        // Dropping the runtime afterwards waits for a push that is under way: a pass is never
        // dropped between commit and push.
        return runtime.block_on(daemon::run(engine, &context));
    }
    for warning in &engine.warnings {
        screen.note(format_args!("warning: {warning}"));
    }
    let desk = Service::new(&context, &engine, None);
    let (reports, applied) = runtime.block_on(async {
        let mut reports: Vec<PassReport> = Vec::new();
        for updater in &engine.updaters {
            let _progress = screen.progress(&format!("updating {}", updater.config.name));
            let _turn = updater.turn.lock().await;
            context.preview_with(updater, &engine.renderer, None).await;
            reports.push(
                updater
                    .pass(PassMode::Write, &Rescan::All, Timestamp::now())
                    .await,
            );
        }
        // What was committed is applied at once, and told together.
        let applied = match context.process.clusters.is_empty() {
            true => None,
            false => Some(
                sync::bring(
                    &desk,
                    &Sync {
                        until: Until::Declared,
                        ..Sync::default()
                    },
                    screen,
                )
                .await,
            ),
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
    let filter = filter(&arguments.log)
        .map_err(|error| Failure::input(format!("--log {:?}: {error}", arguments.log)))?;
    // As everywhere: colour only on a terminal, and not if NO_COLOR is set.
    let color = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(color)
        .with_target(false);
    match arguments.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// What is logged. The client library warns of each watch that ends, which each does every few
/// minutes, and of each request that fails, which is told in our words where it matters: it is
/// heard only by those who name it.
fn filter(said: &str) -> Result<EnvFilter, ParseError> {
    let filter = EnvFilter::try_new(said)?;
    if said.contains("kube_client")
        || filter
            .max_level_hint()
            .is_some_and(|level| level < LevelFilter::WARN)
    {
        return Ok(filter);
    }
    // What it says of certificates that it cannot read again has no other voice.
    EnvFilter::try_new(format!(
        "{said},kube_client::client=error,kube_client::client::tls=warn"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io,
        sync::{Mutex, PoisonError},
    };
    use tracing::{subscriber::with_default, warn};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_watch_that_ends_is_not_in_the_log_unless_somebody_asks() {
        for (said, wanted) in [
            ("info", "ours certificates"),
            ("error", ""),
            ("info,kube_client=warn", "ours eof certificates"),
            ("off", ""),
        ] {
            let lines = Lines::default();
            let writer = lines.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_env_filter(filter(said).unwrap())
                .with_writer(move || writer.clone());
            let subscriber = subscriber
                .without_time()
                .with_level(false)
                .with_target(false)
                .with_ansi(false)
                .finish();
            with_default(subscriber, || {
                warn!(target: "tagboat::cluster", "ours");
                warn!(target: "kube_client::client", "eof");
                warn!(target: "kube_client::client::tls", "certificates");
            });
            let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            assert_eq!(
                text.split_whitespace().collect::<Vec<_>>().join(" "),
                wanted,
                "{said}"
            );
        }
        assert!(filter("tagboat=loud").is_err());
    }
}
