//! `tagboat diff`.

use super::{
    Exit, Failure, Screen,
    applications::{self, ApplicationSelector},
    client::{self, Query, Service},
    screen::Color,
    show,
};
use crate::service::engine::ProcessOptions;
use crate::{
    core::{error::Classify as _, name::Name},
    reconcile::{self, ChangeKind, ObjectDiff, ReconcileMode},
};
use serde_json::json;

/// Show, object by object, what Git says, what the cluster has, and who changed it
///
/// From the cluster to Git: lines with + are what applying would bring. Asked with the server's dry
/// run, so that defaults and webhooks make no difference; nothing is changed. Values of Secrets are
/// masked. Exits with 1 if something differs.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    process: ProcessOptions,

    #[command(flatten)]
    meant: ApplicationSelector,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    client::run(
        &arguments.process,
        &Query::Diff {
            applications: arguments.meant.applications.clone(),
        },
        screen,
    )
}

/// Answers.
pub async fn answer(desk: &Service, wanted: &[Name], screen: &mut Screen) -> Result<Exit, Failure> {
    let scopes = applications::find(desk, wanted, screen).await?;
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
    let (mut answers, mut exit) = (Vec::new(), Exit::Done);
    for scope in &scopes {
        let render = scope.render(desk);
        for application in scope.applications() {
            let progress = screen.progress(&format!(
                "comparing {} with cluster {}",
                application.name, application.cluster
            ));
            let compared = async {
                let cluster = reconciler.cluster(&application.cluster).ok_or_else(|| {
                    match reconciler.connection_error(&application.cluster) {
                        Some(error) => Failure {
                            hint: error.hint(),
                            ..Failure::input(format!("{}: {error}", application.place))
                        },
                        None => Failure::input(format!(
                            "{}: there is no cluster {:?} in tagboat.yaml",
                            application.place, application.cluster
                        )),
                    }
                })?;
                let (render, declared) = (std::sync::Arc::clone(&render), application.clone());
                let rendered = tokio::task::spawn_blocking(move || render(&declared))
                    .await
                    .map_err(|error| Failure::input(format!("rendering ended unasked: {error}")))?;
                let rendered = rendered.map_err(|why| Failure {
                    hint: why.message.hint.clone(),
                    ..Failure::input(format!("{}: {}", application.name, why.message))
                })?;
                let recorded = reconciler.records(Some(&application.cluster)).await?;
                let inventory = recorded
                    .get(&(application.cluster.clone(), application.name.clone()))
                    .map(|one| one.inventory.clone());
                Ok(reconcile::diff_objects(
                    cluster,
                    application,
                    &rendered,
                    &inventory.unwrap_or_default(),
                )
                .await?)
            };
            let compared: Result<Vec<ObjectDiff>, Failure> = compared.await;
            drop(progress);
            match compared {
                Ok(differences) => {
                    if differences
                        .iter()
                        .any(|difference| difference.change != ChangeKind::None)
                    {
                        exit = exit.max(Exit::Findings);
                    }
                    answers.push((
                        application.name.clone(),
                        application.cluster.clone(),
                        differences,
                    ));
                }
                // One that cannot be compared does not hide the others.
                Err(failure) if wanted.len() != 1 => {
                    screen.failure(&failure);
                    exit = Exit::Partly;
                }
                Err(failure) => return Err(failure),
            }
        }
    }
    if let Some(own) = own {
        own.end().await;
    }
    if screen.is_json() {
        let all: Vec<_> = answers
            .iter()
            .map(|(application, cluster, objects)| json!({"application": application, "cluster": cluster, "objects": objects}))
            .collect();
        screen.json(&all);
        return Ok(exit);
    }
    for (application, cluster, differences) in &answers {
        let different = differences
            .iter()
            .filter(|difference| difference.change != ChangeKind::None)
            .count();
        let said = match different {
            0 => "as Git says".to_owned(),
            count => format!(
                "{} of {} different",
                count,
                super::counted(differences.len(), "object")
            ),
        };
        screen.line(format_args!(
            "{} on {cluster}: {said}",
            screen.paint(Color::Bold, application)
        ));
        for difference in differences
            .iter()
            .filter(|difference| difference.change != ChangeKind::None)
        {
            object(difference, screen);
        }
        for difference in differences {
            for note in &difference.notes {
                screen.line(format_args!(
                    "{}: {}",
                    super::safe(&difference.object),
                    super::safe(note)
                ));
            }
        }
    }
    Ok(exit)
}

fn object(difference: &ObjectDiff, screen: &mut Screen) {
    let what = match difference.change {
        ChangeKind::Create => "would be created",
        ChangeKind::Change => "would be changed",
        ChangeKind::Delete => "would be deleted",
        ChangeKind::Refused => "cannot be applied",
        ChangeKind::None => return,
    };
    let place = difference
        .place
        .as_ref()
        .map_or(String::new(), |place| format!(" ({})", super::safe(place)));
    screen.line(format_args!(
        "{} {what}{place}",
        screen.paint(Color::Bold, super::safe(&difference.object))
    ));
    if let Some(error) = &difference.error {
        screen.line(format_args!(
            "  {}",
            screen.paint(Color::Red, super::safe(error))
        ));
    }
    if let Some(hint) = &difference.hint {
        screen.line(format_args!(
            "  {}",
            screen.paint(Color::Dim, super::safe(hint))
        ));
    }
    for changed in &difference.changed_by {
        let manager = changed.manager.as_deref().unwrap_or("somebody");
        let line = format!("  {} was changed by {manager}", super::safe(&changed.path));
        screen.line(screen.paint(Color::Cyan, line));
    }
    show::unified(&difference.diff, screen);
}
