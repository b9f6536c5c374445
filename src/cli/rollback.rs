//! `tagboat rollback`.

use super::{
    Failure, Outcome, Screen, author::CommitArguments, client, complete, counted, safe,
    screen::Color, settings::SettingsArguments,
};
use crate::{
    core::{name::Name, text::short_id},
    service::rollback::RollbackQuery,
    update::{FileChangeKind, RollbackOutcome},
};

const EXAMPLES: &str = "\
Examples:
  tagboat rollback dev/podinfo                 restore the state before its last change
  tagboat rollback dev/podinfo --to 1a2b3c4d   restore the state at this commit

One commit on the branch restores every file below the Application's path, byte for byte, \
including deleted and added ones. Other folders and the declarations below the path stay as they \
are. Versions that went down are held: tagboat does not bring them back until a newer one \
appears; `tagboat release` lifts a hold. A second rollback without --to reverts the first.";

/// Restore the files of an Application by a commit
///
/// Without --to, restores the state before the last commit that changed a file below the
/// Application's path. The cluster follows as it follows every commit, and updates respect it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,

    /// The Application, as ns/name
    #[arg(value_name = "APP", add = complete::applications())]
    application: Name,

    /// Restore the state at this commit of the branch, by its id or at least its first four digits
    #[arg(long, value_name = "REV")]
    to: Option<String>,

    #[command(flatten)]
    commit: CommitArguments,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let query = RollbackQuery {
        application: arguments.application.clone(),
        to: arguments.to.clone(),
        commit: arguments.commit.commit(),
    };
    let answer = client::ask(&arguments.settings, &query, screen)?;
    screen.answer(&answer, |answer, screen| text(&answer.rollback, screen));
    Ok(Outcome::Done)
}

/// Prints a rollback.
pub(super) fn text(rollback: &RollbackOutcome, screen: &mut Screen) {
    let RollbackOutcome {
        application, path, ..
    } = rollback;
    let folder = match path.as_str() {
        "" => "the repository",
        path => path,
    };
    let to = short_id(&rollback.to);
    match &rollback.commit {
        Some(commit) => screen.line(format_args!(
            "{application} is back at {to} by {} ({})",
            short_id(commit),
            counted(rollback.files.len(), "file")
        )),
        None => screen.line(safe(&format!(
            "{application}: nothing in {folder} differs between {to} and now; nothing was committed"
        ))),
    }
    files(rollback, screen);
    for held in &rollback.held {
        let (environment, policy) = (&held.environment, &held.policy);
        screen.line(format_args!(
            "held from now on: {environment} {policy}: {}, and the versions listed below it",
            safe(&held.version)
        ));
        screen.line(format_args!(
            "  lift it with: tagboat release {environment} {policy}"
        ));
    }
    for path in &rollback.outside {
        let path = match path.as_str() {
            "" => "the whole repository",
            path => path,
        };
        screen.note(safe(&format!(
            "note: {application} also reads {path}, which has changed since {to} and is not \
             restored, because it is outside of {folder}"
        )));
    }
    if rollback.suspended {
        screen.note(format_args!(
            "note: {application} is suspended: nothing is applied until `tagboat resume \
             application/{application}`"
        ));
    }
    for warning in &rollback.warnings {
        screen.note(safe(&format!("warning: {warning}")));
    }
}

fn files(rollback: &RollbackOutcome, screen: &mut Screen) {
    for file in &rollback.files {
        let word = match file.change {
            FileChangeKind::Restored => screen.paint(Color::Cyan, "restored"),
            FileChangeKind::Added => screen.paint(Color::Green, "added   "),
            FileChangeKind::Deleted => screen.paint(Color::Red, "deleted "),
        };
        screen.line(format_args!("  {word}  {}", safe(&file.path)));
    }
    for path in &rollback.kept {
        screen.line(safe(&format!("  kept      {path} (a declaration)")));
    }
    if !rollback.reverted.is_empty() {
        screen.line("reverted commits:");
    }
    for commit in &rollback.reverted {
        screen.line(safe(&format!(
            "  {} {} ({})",
            short_id(&commit.commit),
            commit.subject,
            commit.author
        )));
    }
}
