//! `tagboat history`.

use super::{
    Failure, Outcome, Screen, client, complete, print, safe,
    screen::Color,
    settings::SettingsArguments,
    table::{Cell, table},
};
use crate::{
    core::{name::Name, text::short_id},
    objects::plan::RolloutOutcome,
    service::history::{HistoryAnswer, HistoryQuery, RolledOutRevision},
};

/// Show the last revisions of an Application that changed something, with their results
///
/// Reads the record in the Application's cluster, which keeps the last 20. Exits with 4 if another
/// cluster cannot be asked.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,

    /// The Application, as ns/name
    #[arg(value_name = "APPLICATION", add = complete::applications())]
    application: Name,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let query = HistoryQuery {
        application: arguments.application.clone(),
    };
    let answer = client::ask(&arguments.settings, &query, screen)?;
    screen.answer(&answer, text);
    Ok(answer.outcome())
}

fn text(answer: &HistoryAnswer, screen: &mut Screen) {
    for history in &answer.clusters {
        let name = screen.paint(Color::Bold, &answer.application);
        screen.line(format_args!("{name} on {}", history.cluster));
        let rows: Vec<Vec<Cell>> = history.revisions.iter().map(cells).collect();
        let heads = ["REVISION", "RESULT", "SINCE", "COMMIT"];
        for line in table(&heads, &rows, screen) {
            screen.line(line);
        }
    }
    for failure in &answer.failures {
        screen.failure(failure);
    }
}

fn cells(revision: &RolledOutRevision) -> Vec<Cell> {
    let color = match revision.result {
        RolloutOutcome::Applied => Color::Green,
        RolloutOutcome::Failed | RolloutOutcome::Degraded => Color::Red,
        RolloutOutcome::Progressing | RolloutOutcome::Superseded => Color::Dim,
    };
    let parts = [
        revision.subject.as_deref().unwrap_or_default(),
        &revision.message,
    ];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    vec![
        (short_id(&revision.revision).to_owned(), None),
        (revision.result.to_string(), Some(color)),
        (print::minute(revision.since), None),
        (safe(&parts.join(" - ")), None),
    ]
}
