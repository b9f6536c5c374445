//! `tagboat check`.

use super::{Failure, Outcome, Screen, counted, print, safe, screen::Color, unsupported};
use crate::{
    service::{
        check::{self, CheckAnswer, CheckQuery},
        engine::SettingsFile,
    },
    spec::Severity,
};
use std::path::PathBuf;

/// Report every mistake in declarations, and every marker and reference that matches nothing
///
/// Reads declarations (also those of Flux), all other YAML files and tagboat.yaml, without any
/// network. Reads a repository as a whole, from the nearest folder above with a .git or from PATH
/// itself, and reports on the files below PATH. Exits with 1 if there is an error, with --strict
/// also if there is a warning.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Folders or files to report on
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,

    /// Report what this config repository of the settings has no right to deploy
    #[arg(short, long, value_name = "NAME", requires = "config")]
    repository: Option<String>,

    /// Read the rights of the repository from FILE
    #[arg(short, long, value_name = "FILE", requires = "repository")]
    config: Option<PathBuf>,

    /// Exit with 1 for warnings, too
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let query = CheckQuery {
        paths: arguments.paths.clone(),
        settings: arguments.config.clone().map(|config| SettingsFile {
            config,
            is_named: true,
            repository: arguments.repository.clone(),
        }),
    };
    let answer = check::check(&query, &screen.spinner())?;
    screen.answer(&answer, text);
    Ok(answer.outcome(arguments.strict))
}

fn text(answer: &CheckAnswer, screen: &mut Screen) {
    for diagnostic in &answer.diagnostics {
        let place = safe(&diagnostic.place.to_string());
        let severity = screen.paint(print::severity_color(diagnostic), diagnostic.severity);
        let message = safe(&diagnostic.message);
        screen.line(format_args!("{place}: {severity}: {message}"));
    }
    for line in unsupported::lines(&answer.unsupported) {
        let label = screen.paint(Color::Dim, "note:");
        screen.line(format_args!("{label} {line}"));
    }
    let files = counted(answer.files, "file");
    let folders = safe(&answer.folders.join(", "));
    if answer.diagnostics.is_empty() {
        screen.note(match answer.unsupported.total {
            0 => format!("checked {files} in {folders}: nothing to report"),
            total => format!(
                "checked {files} in {folders}: nothing to correct, {}",
                unsupported::counted(total)
            ),
        });
        return;
    }
    let errors = answer
        .diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.severity == Severity::Error)
        .count();
    screen.note(format_args!(
        "checked {files} in {folders}: {}, {}",
        counted(errors, "error"),
        counted(answer.diagnostics.len() - errors, "warning")
    ));
}
