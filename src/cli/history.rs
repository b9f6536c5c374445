//! `tagboat history`.

use super::{
    Exit, Failure, Screen, applications,
    client::{self, Query, Service},
    screen::Color,
    show,
};
use crate::service::engine::ProcessOptions;
use crate::{
    core::{error::Classify as _, name::Name},
    io::git::Mirror,
    objects::plan::{Rollout, RolloutOutcome},
    reconcile::ReconcileMode,
};
use serde_json::json;

/// Show the last revisions of an Application that changed something, and what became of them
///
/// Read from the record in its cluster, which holds the last 20.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    process: ProcessOptions,

    /// The Application, as ns/name
    #[arg(value_name = "APPLICATION")]
    application: Name,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    client::run(
        &arguments.process,
        &Query::History {
            application: arguments.application.clone(),
        },
        screen,
    )
}

/// Answers.
pub async fn answer(
    desk: &Service,
    application: &Name,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let own = match &desk.reconciler {
        Some(_) => None,
        None => Some(applications::CommandClusters::open(desk, ReconcileMode::Plan).await?),
    };
    let Some(reconciler) = own
        .as_ref()
        .map(|own| &own.reconciler)
        .or(desk.reconciler.as_ref())
    else {
        return Err(applications::none());
    };
    let mut found = reconciler.records(None).await?;
    found.retain(|(_, name), _| name == application);
    let strange = if found.is_empty() {
        reconciler.record_conflicts(application).await?
    } else {
        Vec::new()
    };
    let closed: Vec<String> = reconciler
        .clusters()
        .filter_map(|name| reconciler.connection_error(name))
        .map(|error| error.to_string())
        .collect();
    if let Some(own) = own {
        own.end().await;
    }
    if let Some(error) = strange.first() {
        return Err(Failure {
            hint: error.hint(),
            ..Failure::input(format!(
                "Application {application} has no readable record: {error}"
            ))
        });
    }
    if found.is_empty() && !closed.is_empty() {
        return Err(Failure::input(format!(
            "no cluster that could be asked has a record of Application {application}; {}",
            closed.join("; ")
        )));
    }
    if found.is_empty() {
        return Err(Failure::input(format!(
            "no cluster has a record of Application {application}: it was never applied"
        )));
    }
    if screen.is_json() {
        let all: Vec<_> = found
            .iter()
            .map(|((cluster, _), recorded)| json!({"application": application, "cluster": cluster, "revisions": recorded.history}))
            .collect();
        screen.json(&all);
        return Ok(Exit::Done);
    }
    for ((cluster, _), recorded) in &found {
        screen.line(format_args!(
            "{} on {cluster}",
            screen.paint(Color::Bold, application)
        ));
        let mirror = desk
            .updaters
            .iter()
            .find(|updater| updater.config.name == recorded.inventory.repository)
            .map(|updater| &*updater.mirror);
        let rows: Vec<_> = recorded
            .history
            .0
            .iter()
            .map(|rollout| cells(rollout, mirror))
            .collect();
        for line in applications::table(&["REVISION", "RESULT", "SINCE", "COMMIT"], &rows, screen) {
            screen.line(line);
        }
    }
    Ok(Exit::Done)
}

fn cells(rollout: &Rollout, mirror: Option<&Mirror>) -> Vec<(String, Option<Color>)> {
    let color = match rollout.result {
        RolloutOutcome::Applied => Color::Green,
        RolloutOutcome::Failed | RolloutOutcome::Degraded => Color::Red,
        RolloutOutcome::Progressing | RolloutOutcome::Superseded => Color::Dim,
    };
    // A commit that the mirror does not have any more has no subject.
    let subject = mirror
        .and_then(|mirror| {
            mirror
                .history(rollout.revision.parse().ok()?, 0, 1)
                .next()?
                .ok()
        })
        .map(|commit| commit.subject);
    let mut said = subject.unwrap_or_default();
    if !rollout.message.is_empty() {
        said = format!(
            "{said}{}{}",
            if said.is_empty() { "" } else { " - " },
            rollout.message
        );
    }
    vec![
        (
            rollout
                .revision
                .get(..10)
                .unwrap_or(&rollout.revision)
                .to_owned(),
            None,
        ),
        (rollout.result.to_string(), Some(color)),
        (show::shown(rollout.since), None),
        (super::safe(&said), None),
    ]
}
