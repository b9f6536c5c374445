//! `tagboat run`.

use super::{
    Failure, Outcome, Screen, applications, client, interrupt,
    print::{self, Detail},
    screen::shows_color,
    settings::SettingsArguments,
};
use crate::{
    core::error::ErrorKind,
    daemon::{self, DaemonEnd, Signals},
    events,
    io::registry::RegistryTimeouts,
    service::{
        Service,
        engine::{self, ServiceContext},
        run::{self, RunAnswer},
    },
};
use clap::ValueEnum;
use std::{os::unix::process::CommandExt as _, process::Command, sync::Arc};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Keep config repositories up to date and clusters synced, as a daemon or in one pass
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,

    /// Make one pass and exit
    #[arg(long)]
    once: bool,

    /// Write the log in this format to standard error
    #[arg(
        long,
        value_enum,
        default_value_t = LogFormat::Text,
        env = "TAGBOAT_LOG_FORMAT",
        help_heading = "Logging"
    )]
    log_format: LogFormat,

    /// Log this level (off, error, warn, info, debug or trace), or a level per module as in
    /// tagboat::io=debug
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
    /// Lines of text
    Text,
    /// A JSON object per line
    Json,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    match arguments.once {
        true => run_once(arguments, screen),
        false => run_daemon(arguments),
    }
}

fn run_daemon(arguments: &Arguments) -> Result<Outcome, Failure> {
    let runtime = engine::runtime()?;
    let signals = runtime.block_on(async { Signals::install() })?;
    interrupt::leave_to_command();
    log_to_stderr(arguments)?;
    events::log_panics();
    let context = Arc::new(ServiceContext::read(&arguments.settings.file())?);
    let engine = context.open(RegistryTimeouts::default())?;
    let end = runtime.block_on(daemon::run(engine, &context, signals));
    // Pushes have ended by now. Other blocking tasks only read, or write caches.
    runtime.shutdown_background();
    match end? {
        DaemonEnd::Stopped => Ok(Outcome::Done),
        DaemonEnd::Reload => Err(start_again()),
    }
}

/// Starts the program again in this process, with the same arguments and environment. Returns only
/// if that fails.
fn start_again() -> Failure {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "tagboat".into());
    let program = std::env::current_exe().ok();
    // A program that was replaced meanwhile has no path any more.
    let program = program.filter(|program| program.is_file());
    let program = program.unwrap_or_else(|| name.clone().into());
    let error = Command::new(program).arg0(name).args(arguments).exec();
    let message = format!("cannot start again with the new settings: {error}");
    Failure::new(ErrorKind::Local, message)
}

fn run_once(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let context = Arc::new(ServiceContext::read(&arguments.settings.file())?);
    if client::is_daemon_running(&context) {
        let message = format!(
            "a daemon makes the passes with this store ({})",
            context.socket().display()
        );
        return Err(Failure::new(ErrorKind::Local, message)
            .hint("Have it make a pass now with `tagboat scan`, or stop it first."));
    }
    let engine = context.open(RegistryTimeouts::one_shot())?;
    let runtime = engine::runtime()?;
    for warning in &engine.warnings {
        screen.warning(warning);
    }
    let service = Service::new(&context, &engine, None);
    let spinner = screen.spinner();
    let once = run::run_once(&service, &spinner);
    let answer = interrupt::run(runtime, &service, &spinner, once);
    drop(spinner);
    engine.scanner.store.flush()?;
    let answer = answer?;
    let has_clusters = !context.settings.clusters.is_empty();
    screen.answer(&answer, |answer, screen| text(answer, has_clusters, screen));
    Ok(answer.outcome)
}

fn text(answer: &RunAnswer, has_clusters: bool, screen: &mut Screen) {
    for pass in &answer.passes {
        print::pass(pass, Detail::Results, screen);
    }
    if has_clusters {
        applications::statuses(&answer.applications, screen);
    }
}

fn log_to_stderr(arguments: &Arguments) -> Result<(), Failure> {
    let filter = filter(&arguments.log)
        .map_err(|error| Failure::input(format!("--log {:?}: {error}", arguments.log)))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(shows_color(&std::io::stderr()))
        .with_target(false);
    match arguments.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Parses a log filter. A bare level is that of tagboat's own modules: below `info`, libraries log
/// every step of a request. Without this, a misspelt level would count as the name of a module.
fn levels(text: &str) -> Result<String, String> {
    let directive = |directive: &str| {
        let directive = directive.trim();
        if directive.contains(['=', '[']) {
            return Ok(directive.to_owned());
        }
        match directive.parse::<LevelFilter>() {
            Ok(level) if !directive.is_empty() && level > LevelFilter::INFO => {
                Ok(format!("info,tagboat={level}"))
            }
            Ok(level) if !directive.is_empty() => Ok(level.to_string()),
            _ => Err(format!(
                "{directive:?} is no level: write off, error, warn, info, debug or trace, or MODULE=LEVEL"
            )),
        }
    };
    let directives: Result<Vec<String>, String> = text.split(',').map(directive).collect();
    Ok(directives?.join(","))
}

/// Parses a log filter, and mutes the Kubernetes client library unless the user names it. The
/// library warns of every watch that ends, which each does every few minutes, and of every failed
/// request, which tagboat reports itself.
fn filter(text: &str) -> Result<EnvFilter, String> {
    let text = levels(text)?;
    let parse = |text: &str| EnvFilter::try_new(text).map_err(|error| error.to_string());
    let filter = parse(&text)?;
    let is_quieter = filter
        .max_level_hint()
        .is_some_and(|level| level < LevelFilter::WARN);
    if text.contains("kube_client") || is_quieter {
        return Ok(filter);
    }
    // Only the library itself reports certificates that it cannot reload.
    parse(&format!(
        "{text},kube_client::client=error,kube_client::client::tls=warn"
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
    fn log_mutes_the_kubernetes_library() {
        for (text, expected) in [
            ("info", "ours certificates"),
            ("error", ""),
            ("info,kube_client=warn", "ours eof certificates"),
            ("off", ""),
        ] {
            let lines = Lines::default();
            let writer = lines.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_env_filter(filter(text).unwrap())
                .with_writer(move || writer.clone())
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
            let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            let logged: Vec<&str> = logged.split_whitespace().collect();
            assert_eq!(logged.join(" "), expected, "{text}");
        }
        for wrong in ["tagboat=loud", "bogus", "", "info,loud", "warn;debug"] {
            assert!(filter(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn log_level_is_that_of_tagboat() {
        for (text, expected) in [
            ("info", "info"),
            ("debug", "info,tagboat=debug"),
            ("warn, tagboat::io=trace", "warn,tagboat::io=trace"),
            ("trace", "info,tagboat=trace"),
            ("off", "off"),
        ] {
            assert_eq!(levels(text).as_deref(), Ok(expected), "{text}");
        }
    }
}
