//! `tagboat health`.

use super::{Exit, Failure, Screen, safe, screen::Color};
use crate::objects::{
    health::{self, Health, HealthStatus},
    manifest::Manifests,
    object::Object,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Say how objects are, from what their status says, without any cluster
///
/// The rules are those of kstatus. Lists are taken apart, so `kubectl get all -o yaml | tagboat
/// health -f -` works. Exits with 1 if an object has failed. As JSON: a list of apiVersion, kind,
/// namespace (null without one), name, status, message.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A file of objects as YAML or JSON, as a cluster gives them; "-" reads standard input
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    let mut manifests = Manifests::default();
    for path in &arguments.files {
        let bytes =
            read(path).map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
        let name = if path.as_os_str() == "-" {
            "standard input".to_owned()
        } else {
            safe(&path.display().to_string())
        };
        manifests.read(&name, &bytes);
    }
    for mistake in &manifests.mistakes {
        screen.note(safe(&mistake.to_string()));
    }
    for (origin, key) in &manifests.left_out {
        screen.note(safe(&format!(
            "{origin}: {key} is a declaration, not an object of a cluster"
        )));
    }
    if !manifests.mistakes.is_empty() {
        let files: Vec<String> = arguments
            .files
            .iter()
            .map(|path| safe(&path.display().to_string()))
            .collect();
        return Err(Failure::input(format!(
            "{}: not everything is an object",
            files.join(", ")
        )));
    }
    let now = Timestamp::now();
    let judged: Vec<(&Object, Health)> = manifests
        .objects
        .iter()
        .map(|object| (object, health::assess_at(object, now)))
        .collect();
    if screen.is_json() {
        screen.json(
            &judged
                .iter()
                .map(|(object, health)| as_json(object, health))
                .collect::<Vec<_>>(),
        );
    } else {
        let names: Vec<String> = judged
            .iter()
            .map(|(object, _)| safe(&object.key().to_string()))
            .collect();
        let width = names
            .iter()
            .map(|name| name.chars().count())
            .max()
            .unwrap_or(0);
        for (name, (_, Health { status, message })) in names.iter().zip(&judged) {
            let word = screen.paint(color(*status), format_args!("{status:<11}"));
            screen.line(format_args!("{word}  {name:<width$}  {message}"));
        }
    }
    let failed = judged
        .iter()
        .any(|(_, health)| health.status == HealthStatus::Failed);
    Ok(if failed { Exit::Findings } else { Exit::Done })
}

fn as_json(object: &Object, Health { status, message }: &Health) -> Value {
    json!({
        "apiVersion": object.gvk().api_version(),
        "kind": object.gvk().kind,
        "namespace": object.namespace(),
        "name": object.name(),
        "status": status,
        "message": message,
    })
}

fn color(status: HealthStatus) -> Color {
    match status {
        HealthStatus::Current => Color::Green,
        HealthStatus::Failed => Color::Red,
        HealthStatus::InProgress | HealthStatus::Terminating => Color::Cyan,
        HealthStatus::NotFound | HealthStatus::Unknown => Color::Dim,
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        return io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes);
    }
    fs::read(path)
}
