//! `tagboat sync`.

use super::{
    Exit, Failure, Screen,
    applications::{self, ApplicationSelector, CommandClusters, RepositoryApplications},
    client::{self, Query, Service},
    gone, status,
};
use crate::service::engine::ProcessOptions;
use crate::{
    core::name::Name,
    objects::health,
    reconcile::{
        ApplicationRequest, ApplicationState, ApplicationStatus, Message, ReconcileMode, Reconciler,
    },
    spec::Application,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, sync::Arc};

/// Bring Applications to what Git says, now
///
/// The revision is read anew, what waits after trouble is tried again, and the outcome is shown. A
/// running daemon does it; else this command does. Exits with 1 if something waits for a yes, with
/// 4 if something could not be applied or did not become healthy.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tagboat sync dev/podinfo --wait\n  tagboat sync --all --dry-run\n  tagboat sync prod/shop --confirm-prune"
)]
pub struct Arguments {
    #[command(flatten)]
    process: ProcessOptions,

    #[command(flatten)]
    meant: ApplicationSelector,

    /// Wait until every object is healthy, whatever the Applications declare
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,

    /// Another commit than the branch's newest, by its id or the first digits of it (at least
    /// four). Not while a daemon runs, which follows the branch: to go back for good there is
    /// `tagboat rollback`
    #[arg(long, value_name = "COMMIT")]
    revision: Option<String>,

    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Say yes to deleting what the present revision wants deleted, however much it is
    #[arg(long, conflicts_with_all = ["dry_run", "all"])]
    confirm_prune: bool,
}

/// What an outcome waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Until {
    /// That everything was sent.
    #[default]
    Sent,
    /// What the Applications declare (`wait`).
    Declared,
    /// That everything is healthy.
    Healthy,
}

/// What is asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sync {
    /// These Applications; all if none is named.
    pub applications: Vec<Name>,
    /// How long the outcome is waited for.
    pub until: Until,
    /// Another revision.
    pub revision: Option<String>,
    /// Only say.
    pub dry_run: bool,
    /// A yes to a large prune.
    pub confirm_prune: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    let Arguments {
        process,
        meant,
        wait,
        revision,
        dry_run,
        confirm_prune,
    } = arguments;
    let sync = Sync {
        applications: meant.applications.clone(),
        until: if *wait { Until::Healthy } else { Until::Sent },
        revision: revision.clone(),
        dry_run: *dry_run,
        confirm_prune: *confirm_prune,
    };
    client::run(process, &Query::Sync(sync), screen)
}

/// Answers.
pub async fn answer(desk: &Service, sync: &Sync, screen: &mut Screen) -> Result<Exit, Failure> {
    let (statuses, exit) = bring(desk, sync, screen).await?;
    status::show(&statuses, screen);
    Ok(exit)
}

/// Brings Applications to what Git says; gives how they are then.
pub(super) async fn bring(
    desk: &Service,
    sync: &Sync,
    screen: &mut Screen,
) -> Result<(Vec<ApplicationStatus>, Exit), Failure> {
    let (mut scopes, gone) = applications::look_for(desk, &sync.applications, screen).await?;
    if let Some(name) = gone.first().filter(|_| !sync.confirm_prune) {
        return Err(applications::unknown(name, &scopes));
    }
    if let Some(revision) = &sync.revision {
        if desk.reconciler.is_some() && !sync.dry_run {
            return Err(Failure::input("a daemon runs and follows the branch; it would undo this at once")
                .hint("`tagboat rollback` goes back in Git, which the daemon then applies; or stop the daemon first."));
        }
        for scope in &mut scopes {
            *scope = at(scope, revision).await?;
        }
    }
    let own = match &desk.reconciler {
        Some(_) if !sync.dry_run => None,
        _ => Some(
            CommandClusters::open(
                desk,
                if sync.dry_run {
                    ReconcileMode::Plan
                } else {
                    ReconcileMode::Act
                },
            )
            .await?,
        ),
    };
    let reconciler = match (&own, &desk.reconciler) {
        (Some(own), _) => Arc::clone(&own.reconciler),
        (None, Some(reconciler)) => Arc::clone(reconciler),
        (None, None) => return Err(applications::none()),
    };
    let mut statuses =
        gone::confirm(&reconciler, desk, own.is_some(), &scopes, &gone, screen).await?;
    let progress = screen.progress("reading Git");
    scopes.retain(|scope| scope.only.as_ref().is_none_or(|only| !only.is_empty()));
    if own.is_some() {
        reconciler.expect_repositories(
            scopes
                .iter()
                .map(|scope| scope.updater.config.name.as_str()),
        );
    }
    // All of them before the first is waited for: what one lets go of, another may want.
    for scope in &scopes {
        if own.is_some() {
            reconciler.reconcile(
                &scope.repository(),
                &scope.revision(),
                &scope.declared,
                scope.only.as_ref(),
                &scope.render(desk),
            );
        }
        for application in scope.applications() {
            reconciler.request(&application.name, &ApplicationRequest::Now);
            if sync.confirm_prune {
                reconciler.request(
                    &application.name,
                    &ApplicationRequest::ConfirmPrune(scope.revision()),
                );
            }
        }
    }
    for scope in &scopes {
        let tell = |statuses: &[ApplicationStatus], done: &dyn Fn(&ApplicationStatus) -> bool| {
            progress.say(applications::progress(statuses, done))
        };
        let found = wait_for(&reconciler, scope, sync.until, tell).await;
        let missing = missing(&scope.applications(), &scope.updater.config.name, &found);
        statuses.extend(found.into_iter().chain(missing));
    }
    drop(progress);
    if let Some(own) = own {
        own.end().await;
    }
    let done = |state| {
        matches!(
            state,
            ApplicationState::Synced
                | ApplicationState::Suspended
                | ApplicationState::Orphaned
                | ApplicationState::Progressing
        )
    };
    let exit = if sync.dry_run {
        if statuses.iter().any(|status| {
            matches!(
                status.state,
                ApplicationState::Failed | ApplicationState::Pending
            )
        }) {
            Exit::Partly
        } else {
            Exit::Done
        }
    } else if statuses
        .iter()
        .all(|status| done(status.state) && (sync.until != Until::Healthy || healthy(status)))
    {
        Exit::Done
    } else if statuses
        .iter()
        .all(|status| done(status.state) || status.state == ApplicationState::ConfirmationRequired)
    {
        Exit::Findings
    } else {
        Exit::Partly
    };
    Ok((statuses, exit))
}

/// The same Applications at another commit.
async fn at(
    scope: &RepositoryApplications,
    revision: &str,
) -> Result<RepositoryApplications, Failure> {
    let name = &scope.updater.config.name;
    let unknown = |why: &dyn std::fmt::Display| {
        Failure::input(format!(
            "repository {name} has no commit {revision:?}: {why}"
        ))
    };
    if revision.len() < 4 || !revision.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let said = format!(
            "--revision takes the id of a commit, or its first digits (at least four), not {revision:?}"
        );
        return Err(
            Failure::input(said).hint("`git rev-parse` gives the id of a branch, a tag or HEAD.")
        );
    }
    let commit = match revision.parse() {
        Ok(commit) => commit,
        Err(_) => scope.updater.revision(revision).await?,
    };
    scope
        .updater
        .mirror
        .at(commit)
        .map_err(|error| unknown(&error))?;
    let declared = Arc::new(scope.updater.declared_at(commit).await?);
    let only = scope.only.clone().map(|only| {
        only.into_iter()
            .filter(|name| declared.applications.contains_key(name))
            .collect::<BTreeSet<_>>()
    });
    if scope.only.as_ref().is_some_and(|before| !before.is_empty())
        && only.as_ref().is_some_and(BTreeSet::is_empty)
    {
        return Err(Failure::input(format!(
            "repository {name} declares none of these Applications at {revision}"
        )));
    }
    Ok(RepositoryApplications {
        updater: Arc::clone(&scope.updater),
        commit,
        declared,
        only,
    })
}

/// Applications of which nothing has been heard, though they were waited for: that is no outcome.
fn missing(
    applications: &[&Application],
    repository: &str,
    found: &[ApplicationStatus],
) -> Vec<ApplicationStatus> {
    let silent = applications
        .iter()
        .filter(|one| !found.iter().any(|status| status.application == one.name));
    silent
        .map(|one| ApplicationStatus {
            problems: vec![Message::application("nothing has been heard of it in time")],
            ..ApplicationStatus::new(one.name.clone(), repository, &one.cluster)
        })
        .collect()
}

/// Whether everything is well.
fn healthy(status: &ApplicationStatus) -> bool {
    status
        .health
        .is_none_or(|health| health == health::HealthStatus::Current)
}

/// Waits until the Applications have come to an end, with `wait` to a healthy one; gives how they
/// are then.
async fn wait_for(
    reconciler: &Arc<Reconciler>,
    scope: &RepositoryApplications,
    until: Until,
    tell: impl Fn(&[ApplicationStatus], &dyn Fn(&ApplicationStatus) -> bool),
) -> Vec<ApplicationStatus> {
    let revision = scope.revision();
    let names: BTreeSet<&Name> = scope
        .applications()
        .into_iter()
        .map(|application| &application.name)
        .collect();
    let ours = |status: &ApplicationStatus| {
        status.repository == scope.updater.config.name
            && (names.contains(&status.application) || scope.only.is_none())
    };
    let end = tokio::time::Instant::now() + scope.patience();
    let mut turned = reconciler.status_changes();
    loop {
        turned.mark_unchanged();
        let statuses: Vec<ApplicationStatus> =
            reconciler.statuses().into_iter().filter(ours).collect();
        let done = |status: &ApplicationStatus| {
            let here = status.revision.as_deref() == Some(revision.as_str());
            let ended = match until {
                Until::Healthy => {
                    status.observed && (healthy(status) || status.state.needs_attention())
                }
                Until::Declared => status.observed,
                Until::Sent => status.observed || status.state == ApplicationState::Progressing,
            };
            here && ended
        };
        tell(&statuses, &done);
        let taken = reconciler.has_accepted(&scope.updater.config.name, &revision);
        if taken
            && statuses.iter().all(done)
            && names
                .iter()
                .all(|name| statuses.iter().any(|status| status.application == **name))
        {
            return statuses;
        }
        tokio::select! {
            _ = turned.changed() => {}
            () = tokio::time::sleep_until(end) => return statuses,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_without_a_status_is_not_done() {
        let text = "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\nspec: {paths: ['**'], update: {via: commit}}\n---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {name: shop, namespace: x}\nspec: {environment: dev, path: shop, cluster: a}\n";
        let declared = crate::spec::read([("apps.yaml", text.as_bytes())], None);
        let applications: Vec<&Application> = declared.applications.values().collect();
        assert_eq!(applications.len(), 1, "{:?}", declared.mistakes);
        let silent = missing(&applications, "r", &[]);
        assert_eq!(
            (silent.len(), silent[0].state),
            (1, ApplicationState::Pending)
        );
        assert_eq!(
            silent[0].problems[0].to_string(),
            "nothing has been heard of it in time"
        );
        assert!(missing(&applications, "r", &silent).is_empty());
    }
}
