//! `tagboat status`.

use super::{
    Exit, Failure, Screen, applications,
    client::{self, Query, Service},
    screen::Color,
};
use crate::service::engine::ProcessOptions;
use crate::{
    core::name::Name,
    reconcile::{ApplicationState, ApplicationStatus, ReconcileMode},
};

/// Show each Application on its cluster: revision, in step or not, healthy or why not
///
/// A running daemon says what it sees. Where none runs, clusters are asked now, and nothing is
/// changed. Exits with 1 if something drifted, failed, is unhealthy or waits for a yes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    process: ProcessOptions,

    /// The Applications, as ns/name; all if none is named
    #[arg(value_name = "APPLICATION")]
    applications: Vec<Name>,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    client::run(
        &arguments.process,
        &Query::Status {
            applications: arguments.applications.clone(),
        },
        screen,
    )
}

/// Answers.
pub async fn answer(desk: &Service, wanted: &[Name], screen: &mut Screen) -> Result<Exit, Failure> {
    let mut statuses = match &desk.reconciler {
        Some(reconciler) => {
            let known: Vec<&str> = desk
                .updaters
                .iter()
                .map(|updater| updater.config.name.as_str())
                .collect();
            reconciler
                .statuses()
                .into_iter()
                .filter(|status| known.contains(&status.repository.as_str()))
                .collect()
        }
        None => look(desk, wanted, screen).await?,
    };
    statuses.retain(|status: &ApplicationStatus| {
        wanted.is_empty() || wanted.contains(&status.application)
    });
    if let Some(name) = wanted
        .iter()
        .find(|name| !statuses.iter().any(|status| status.application == **name))
    {
        return Err(Failure::input(format!("there is no Application {name}")));
    }
    show(&statuses, screen);
    Ok(
        if statuses.iter().any(|status| status.state.needs_attention()) {
            Exit::Findings
        } else {
            Exit::Done
        },
    )
}

/// Asks the clusters now.
async fn look(
    desk: &Service,
    wanted: &[Name],
    screen: &mut Screen,
) -> Result<Vec<ApplicationStatus>, Failure> {
    let scopes = applications::find(desk, wanted, screen).await?;
    let clusters = applications::CommandClusters::open(desk, ReconcileMode::Plan).await?;
    let progress = screen.progress("asking clusters");
    for scope in &scopes {
        clusters.reconciler.reconcile(
            &scope.repository(),
            &scope.revision(),
            &scope.declared,
            scope.only.as_ref(),
            &scope.render(desk),
        );
    }
    for scope in &scopes {
        let tell = |statuses: &[ApplicationStatus]| {
            progress.say(applications::progress(statuses, |status| status.observed))
        };
        clusters
            .reconciler
            .wait_until_observed(
                &scope.updater.config.name,
                &scope.revision(),
                scope.only.as_ref(),
                scope.patience(),
                tell,
            )
            .await;
    }
    drop(progress);
    let statuses = clusters.reconciler.statuses();
    clusters.end().await;
    Ok(statuses)
}

/// Prints statuses.
pub(super) fn show(statuses: &[ApplicationStatus], screen: &mut Screen) {
    if screen.is_json() {
        screen.json(&statuses);
        return;
    }
    if statuses.is_empty() {
        screen.line("no Application is declared");
        return;
    }
    let cells = |status: &ApplicationStatus| {
        let revision = status
            .revision
            .as_deref()
            .map_or("-", |revision| revision.get(..10).unwrap_or(revision));
        let health = status
            .health
            .map_or("-".to_owned(), |health| health.to_string());
        vec![
            (status.application.to_string(), Some(Color::Bold)),
            (status.cluster.clone(), None),
            (revision.to_owned(), None),
            (
                status.state.to_string(),
                Some(applications::color(status.state)),
            ),
            (health, None),
            (status.objects.to_string(), None),
        ]
    };
    let lines = statuses.iter().map(cells).collect::<Vec<_>>();
    let lines = applications::table(
        &[
            "APPLICATION",
            "CLUSTER",
            "REVISION",
            "STATE",
            "HEALTH",
            "OBJECTS",
        ],
        &lines,
        screen,
    );
    let mut lines = lines.into_iter();
    if let Some(heads) = lines.next() {
        screen.line(heads);
    }
    for (line, status) in lines.zip(statuses) {
        screen.line(line);
        applications::rows(status, screen);
        if status.state == ApplicationState::OutOfSync || !status.planned.is_empty() {
            for planned in &status.planned {
                screen.line(format_args!(
                    "    would {} {}",
                    planned.action,
                    super::safe(&planned.object)
                ));
            }
        }
    }
}
