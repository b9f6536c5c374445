//! `tagboat health`.

use super::{
    Failure, Outcome, Screen, input, safe,
    screen::Color,
    table::{Cell, table},
};
use crate::{
    objects::health::HealthStatus,
    service::health::{self, HealthAnswer, HealthQuery, ObjectHealth},
};
use std::path::PathBuf;

/// Judge the health of objects by their status, without any cluster
///
/// Uses the rules of kstatus, and those in `spec.health` of Applications among the files. Lists are
/// taken apart, so that `kubectl get all -o yaml | tagboat health -f -` works. Exits with 1 if an
/// object has failed.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Read live objects, as YAML or JSON, from FILE; "-" reads standard input
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let query = HealthQuery {
        files: input::read_all(&arguments.files)?,
    };
    let answer = health::health(&query)?;
    screen.answer(&answer, text);
    Ok(answer.outcome())
}

fn text(answer: &HealthAnswer, screen: &mut Screen) {
    for declaration in &answer.declarations {
        screen.note(safe(&format!(
            "{declaration} is a declaration, not a live object"
        )));
    }
    let cells = |object: &ObjectHealth| -> Vec<Cell> {
        vec![
            (object.status.to_string(), Some(color(object.status))),
            (safe(&object.object), None),
            (safe(&object.message), None),
        ]
    };
    let rows: Vec<Vec<Cell>> = answer.objects.iter().map(cells).collect();
    for line in table(&[], &rows, screen) {
        screen.line(line);
    }
}

fn color(status: HealthStatus) -> Color {
    match status {
        HealthStatus::Current => Color::Green,
        HealthStatus::Failed => Color::Red,
        HealthStatus::InProgress | HealthStatus::Terminating => Color::Cyan,
        HealthStatus::NotFound | HealthStatus::Unknown => Color::Dim,
    }
}
