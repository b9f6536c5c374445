//! `tagboat check`.

use super::{Exit, Failure, Screen, counted, safe, screen::Color};
use crate::{
    images::lint,
    service::survey::{self, Survey},
    spec::{Diagnostic, Severity, SourcePlace, settings},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path, PathBuf},
};

/// Report every mistake in declarations, and every marker and reference that matches nothing
///
/// Reads folders without any network: what is declared (also for Flux), all other YAML files, and
/// tagboat.yaml. A repository is read as a whole, from the nearest folder above that has a .git, or
/// from PATH itself; what is said is only about files below PATH. Exits with 1 if there is anything
/// to say.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Folders or files to report on
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    let mut roots: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for path in &arguments.paths {
        let full = fs::canonicalize(path)
            .map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
        roots.entry(root_of(&full)).or_default().push(full);
    }
    let here = std::env::current_dir()
        .and_then(fs::canonicalize)
        .unwrap_or_default();
    let (mut found, mut unread, mut files) = (Vec::new(), 0, 0);
    for (root, below) in &roots {
        let survey = survey::survey(root)?;
        files += survey.parsed;
        for mut mistake in mistakes(&survey) {
            let place = root.join(&mistake.place.file);
            if below.iter().any(|below| place.starts_with(below)) {
                mistake.place.file = shown(&here, &place);
                found.push(mistake);
            }
        }
        unread += survey.errors.len();
        found.extend(survey.errors.iter().map(|error| Diagnostic {
            place: SourcePlace::file(&shown(
                &here,
                &fs::canonicalize(&error.path).unwrap_or_else(|_| error.path.clone()),
            )),
            severity: Severity::Error,
            message: error.to_string(),
        }));
    }
    found.sort();
    found.dedup();
    if screen.is_json() {
        screen.json(&found);
    } else {
        let folders: Vec<String> = roots.keys().map(|root| shown(&here, root)).collect();
        print(
            &found,
            &format!(
                "{} in {}",
                counted(files, "file"),
                safe(&folders.join(", "))
            ),
            screen,
        );
    }
    Ok(match (found.is_empty(), unread) {
        (true, _) => Exit::Done,
        (false, 0) => Exit::Findings,
        (false, _) => Exit::Partly,
    })
}

/// Everything that is wrong in a folder, paths counted from there.
pub(super) fn mistakes(survey: &Survey) -> Vec<Diagnostic> {
    let (_, mut all) = lint::find(&survey.declared, &survey.files);
    for (file, bytes) in &survey.process {
        match std::str::from_utf8(bytes) {
            Ok(source) => all.extend(
                settings::read(file, source)
                    .map_or_else(|mistakes| mistakes, |(_, warnings)| warnings),
            ),
            Err(_) => all.push(Diagnostic {
                place: SourcePlace::file(file),
                severity: Severity::Error,
                message: "the file is not UTF-8".to_owned(),
            }),
        }
    }
    all
}

/// The nearest folder above with a `.git`; without one the path itself, or the folder of a file.
fn root_of(full: &Path) -> PathBuf {
    let start = if full.is_dir() {
        full
    } else {
        full.parent().unwrap_or(full)
    };
    let repository = start
        .ancestors()
        .find(|folder| folder.join(".git").exists());
    repository.unwrap_or(start).to_owned()
}

/// A path as one would type it here.
fn shown(here: &Path, place: &Path) -> String {
    let (mut from, mut to) = (here.components().peekable(), place.components().peekable());
    while from.peek().is_some() && from.peek() == to.peek() {
        from.next();
        to.next();
    }
    let up = from.map(|_| Component::ParentDir);
    let path: PathBuf = up.chain(to).collect();
    if path.as_os_str().is_empty() {
        return ".".to_owned();
    }
    // Further up than the root's own folders the whole path is shorter to read.
    if path.starts_with("../../..") {
        place.display().to_string()
    } else {
        path.display().to_string()
    }
}

fn print(found: &[Diagnostic], read: &str, screen: &mut Screen) {
    for mistake in found {
        let color = if mistake.severity == Severity::Error {
            Color::Red
        } else {
            Color::Cyan
        };
        let (place, message) = (safe(&mistake.place.to_string()), safe(&mistake.message));
        screen.line(format_args!(
            "{place}: {}: {message}",
            screen.paint(color, mistake.severity)
        ));
    }
    let count = |severity| {
        found
            .iter()
            .filter(|mistake| mistake.severity == severity)
            .count()
    };
    match (count(Severity::Error), count(Severity::Warning)) {
        (0, 0) => screen.note(format_args!("checked {read}: nothing to report")),
        (errors, warnings) => {
            screen.note(format_args!(
                "checked {read}: {}, {}",
                counted(errors, "error"),
                counted(warnings, "warning")
            ));
        }
    }
}
