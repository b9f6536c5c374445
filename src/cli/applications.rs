//! Applications as text, and the arguments that select them.

use super::{
    Screen, complete, safe,
    screen::Color,
    table::{Cell, table},
};
use crate::{
    core::{name::Name, text::short_id},
    reconcile::{ApplicationState, ApplicationStatus, Message},
};

/// The Applications of a command.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct ApplicationSelector {
    /// The Applications, as ns/name
    #[arg(value_name = "APPLICATION", add = complete::applications())]
    applications: Vec<Name>,

    /// Select all Applications
    #[arg(long)]
    all: bool,
}

impl ApplicationSelector {
    /// Returns the names; empty for all.
    pub(super) fn names(&self) -> Vec<Name> {
        self.applications.clone()
    }
}

/// Prints the state of Applications, with what keeps each from being synced.
pub(super) fn statuses(statuses: &[ApplicationStatus], screen: &mut Screen) {
    if statuses.is_empty() {
        screen.line("no Application is declared");
        return;
    }
    let heads = [
        "APPLICATION",
        "CLUSTER",
        "REVISION",
        "STATE",
        "HEALTH",
        "OBJECTS",
    ];
    let rows: Vec<Vec<Cell>> = statuses.iter().map(cells).collect();
    let mut lines = table(&heads, &rows, screen).into_iter();
    lines
        .next()
        .into_iter()
        .for_each(|heads| screen.line(heads));
    for (line, status) in lines.zip(statuses) {
        screen.line(line);
        messages(status, screen);
        for planned in &status.planned {
            let object = safe(&planned.object);
            screen.line(format_args!("    would {} {object}", planned.action));
        }
    }
}

fn cells(status: &ApplicationStatus) -> Vec<Cell> {
    let revision = status.revision.as_deref().map_or("-", short_id);
    let health = match status.health {
        Some(health) => health.to_string(),
        None => "-".to_owned(),
    };
    vec![
        (status.application.to_string(), Some(Color::Bold)),
        (status.cluster.clone(), None),
        (revision.to_owned(), None),
        (status.state.to_string(), Some(state_color(status.state))),
        (health, None),
        (status.objects.to_string(), None),
    ]
}

fn state_color(state: ApplicationState) -> Color {
    match state {
        ApplicationState::Synced => Color::Green,
        ApplicationState::Suspended | ApplicationState::Orphaned | ApplicationState::Pending => {
            Color::Dim
        }
        state if state.needs_attention() && state != ApplicationState::Drifted => Color::Red,
        _ => Color::Cyan,
    }
}

/// Prints the messages of an Application, a line each.
fn messages(status: &ApplicationStatus, screen: &mut Screen) {
    let problem_color = match status.state.needs_attention() {
        true => Color::Red,
        false => Color::Cyan,
    };
    for problem in &status.problems {
        message(problem, problem_color, screen);
    }
    for drifted in &status.drifted {
        let text = screen.paint(Color::Cyan, safe(&drifted.to_string()));
        screen.line(format_args!("    {text}"));
    }
    for unhealthy in &status.unhealthy {
        message(unhealthy, Color::Cyan, screen);
    }
    for note in &status.notes {
        message(note, Color::Dim, screen);
    }
}

fn message(message: &Message, color: Color, screen: &mut Screen) {
    let text = screen.paint(color, safe(&message.to_string()));
    screen.line(format_args!("    {text}"));
    if let Some(hint) = &message.hint {
        let hint = screen.paint(Color::Dim, safe(hint));
        screen.line(format_args!("      {hint}"));
    }
}
