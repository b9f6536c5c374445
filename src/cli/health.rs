//! `tagboat health`.

use super::{Failure, Outcome, Screen, input, safe, screen::Color};
use crate::{
    objects::health::HealthStatus,
    service::health::{self, HealthAnswer, HealthQuery},
};
use std::path::PathBuf;

/// Judge the health of objects by their status, without any cluster
///
/// Uses the rules of kstatus. Lists are taken apart, so that `kubectl get all -o yaml | tagboat
/// health -f -` works. Exits with 1 if an object has failed.
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
    let names: Vec<String> = answer.objects.iter().map(|one| safe(&one.object)).collect();
    let widths = names.iter().map(|name| name.chars().count());
    let width = widths.max().unwrap_or_default();
    for (name, object) in names.iter().zip(&answer.objects) {
        let status = format!("{:<11}", object.status);
        let status = screen.paint(color(object.status), status);
        screen.line(format_args!("{status}  {name:<width$}  {}", object.message));
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
