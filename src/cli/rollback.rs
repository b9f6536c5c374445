//! `tagboat rollback`.

use super::{
    Exit, Failure, Screen,
    client::{self, Query},
    counted, safe,
    screen::Color,
    suspend::declaring,
};
use crate::service::engine::ProcessOptions;
use crate::{
    core::name::Name,
    update::{
        DeclarationKind, DeclarationRef, FileChangeKind, HeldVersion, ImageUpdater, RollbackOutcome,
    },
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

const EXAMPLE: &str = "\
Examples:
  tagboat rollback dev/podinfo                 to the state before its last change
  tagboat rollback dev/podinfo --to 1a2b3c4d   to the state at this commit

One commit on the branch restores every file below the Application's path, byte for byte, deleted and added ones included. \
Other folders stay, and so do the files of declarations below the path. Versions that went down are held: the bot does not \
bring them back until something newer comes; `tagboat release` lifts a hold. Rolling back a second time without --to undoes \
the first.";

/// Bring the files of an Application back to an earlier state, by a commit
///
/// Without --to that is the state before the last commit that changed a file below the
/// Application's path. The cluster follows as it follows every commit, and updates respect it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLE)]
pub struct Arguments {
    #[command(flatten)]
    process: ProcessOptions,

    /// The Application, as ns/name
    #[arg(value_name = "APP")]
    application: Name,

    /// A commit of the branch, by its id or the first digits of it (at least four)
    #[arg(long, value_name = "REV")]
    to: Option<String>,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    let query = Query::Rollback {
        application: arguments.application.clone(),
        to: arguments.to.clone(),
    };
    client::run(&arguments.process, &query, screen)
}

/// Answers.
pub async fn answer(
    updaters: &[Arc<ImageUpdater>],
    application: &Name,
    to: Option<&str>,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let named = DeclarationRef {
        kind: DeclarationKind::Application,
        name: application.to_string(),
    };
    let updater = declaring(updaters, &named).await?;
    let to = match to {
        Some(text) => Some(updater.revision(text).await?),
        None => None,
    };
    let done = updater.roll_back(application, to, Timestamp::now()).await?;
    if screen.is_json() {
        let mut value = json!(done);
        value["repository"] = Value::from(updater.config.name.clone());
        screen.json(&value);
    } else {
        show(&done, screen);
    }
    for warning in &done.warnings {
        screen.note(safe(&format!("warning: {warning}")));
    }
    Ok(Exit::Done)
}

/// Prints what became of a rollback.
pub(super) fn show(done: &RollbackOutcome, screen: &mut Screen) {
    let RollbackOutcome {
        application,
        path,
        commit,
        from: _,
        to,
        files,
        kept,
        undone,
        outside,
        held,
        suspended,
        warnings: _,
    } = done;
    let folder = if path.is_empty() {
        "the repository"
    } else {
        path.as_str()
    };
    let short = |id: &str| id[..id.len().min(10)].to_owned();
    match commit {
        Some(commit) => {
            screen.line(format_args!(
                "{application} is back at {} by {} ({})",
                short(to),
                short(commit),
                counted(files.len(), "file")
            ));
        }
        None => screen.line(safe(&format!(
            "{application}: nothing differs in {folder} between {} and now; nothing was committed",
            short(to)
        ))),
    }
    for file in files {
        let (word, color) = match file.way {
            FileChangeKind::Restored => ("restored", Color::Cyan),
            FileChangeKind::Added => ("added   ", Color::Green),
            FileChangeKind::Deleted => ("deleted ", Color::Red),
        };
        let word = screen.paint(color, word);
        screen.line(format_args!("  {word}  {}", safe(&file.path)));
    }
    for path in kept {
        screen.line(safe(&format!("  kept      {path} (a declaration)")));
    }
    if !undone.is_empty() {
        screen.line("undone:");
    }
    for commit in undone {
        screen.line(safe(&format!(
            "  {} {} ({})",
            short(&commit.commit),
            commit.subject,
            commit.author
        )));
    }
    for HeldVersion {
        environment,
        policy,
        version,
        instead: _,
    } in held
    {
        screen.line(format_args!(
            "held from now on: {environment} {policy}: versions up to {}",
            safe(version)
        ));
        screen.line(format_args!(
            "  lift it with: tagboat release {environment} {policy}"
        ));
    }
    for path in outside {
        let path = if path.is_empty() {
            "the whole repository"
        } else {
            path
        };
        let note = format!(
            "note: {application} reads {path}, too, which is not as it was at {} and stays: it lies outside of {folder}",
            short(to)
        );
        screen.note(safe(&note));
    }
    if *suspended {
        screen.note(format_args!("note: {application} is suspended: nothing is applied until `tagboat resume application/{application}`"));
    }
}
