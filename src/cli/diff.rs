//! `tagboat diff`.

use super::{
    Failure, Outcome, Screen, applications::ApplicationSelector, client, counted, print, safe,
    screen::Color, settings::SettingsArguments,
};
use crate::{
    reconcile::{ChangeKind, ObjectDiff},
    service::diff::{ApplicationDiff, DiffAnswer, DiffQuery},
};

/// Show how the live objects differ from Git, and who changed them
///
/// The diff goes from the cluster to Git: applying would add the lines with +. It is made with the
/// server's dry run, so that defaults and webhooks make no difference, and changes nothing. An
/// object that is as the last sync recorded it needs no dry run. Values of Secrets are masked.
/// Exits with 1 if something differs.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,

    #[command(flatten)]
    selector: ApplicationSelector,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let query = DiffQuery {
        applications: arguments.selector.names(),
    };
    let answer = client::ask(&arguments.settings, &query, screen)?;
    screen.answer(&answer, text);
    Ok(answer.outcome())
}

fn text(answer: &DiffAnswer, screen: &mut Screen) {
    for application in &answer.applications {
        self::application(application, screen);
    }
    for failure in &answer.failures {
        screen.failure(failure);
    }
    print::invalid_declarations(&answer.invalid_declarations, screen);
    print::refused_heads(&answer.refused_heads, screen);
}

fn application(diff: &ApplicationDiff, screen: &mut Screen) {
    let summary = match diff.changed().count() {
        0 => "synced".to_owned(),
        count => format!(
            "{count} of {} differ",
            counted(diff.objects.len(), "object")
        ),
    };
    let name = screen.paint(Color::Bold, &diff.application);
    screen.line(format_args!("{name} on {}: {summary}", diff.cluster));
    for changed in diff.changed() {
        object(changed, screen);
    }
    for object in &diff.objects {
        for note in &object.notes {
            screen.line(format_args!("{}: {}", safe(&object.object), safe(note)));
        }
    }
}

fn object(diff: &ObjectDiff, screen: &mut Screen) {
    let action = match diff.change {
        ChangeKind::Create => "would be created",
        ChangeKind::Change => "would be changed",
        ChangeKind::Delete => "would be deleted",
        ChangeKind::Refused => "cannot be applied",
        ChangeKind::None => return,
    };
    let place = match &diff.place {
        Some(place) => format!(" ({})", safe(place)),
        None => String::new(),
    };
    let name = screen.paint(Color::Bold, safe(&diff.object));
    screen.line(format_args!("{name} {action}{place}"));
    if let Some(error) = &diff.error {
        let error = screen.paint(Color::Red, safe(error));
        screen.line(format_args!("  {error}"));
    }
    if let Some(hint) = &diff.hint {
        let hint = screen.paint(Color::Dim, safe(hint));
        screen.line(format_args!("  {hint}"));
    }
    for change in &diff.changed_by {
        let line = format!("  {}", safe(&change.to_string()));
        screen.line(screen.paint(Color::Cyan, line));
    }
    print::unified(&diff.diff, screen);
}
