//! `sync`: a reconcile pass now.

use super::{
    Failure, Outcome, Progress, Service,
    confirm_delete::{self, ConfirmedDeletions},
    progress_text,
    scope::{self, QueryClusters, RepositoryScope},
    status::unreachable,
};
use crate::{
    core::name::Name,
    objects::health::HealthStatus,
    reconcile::{
        ApplicationRequest, ApplicationState, ApplicationStatus, Message, PROGRESS_INTERVAL,
        Reason, ReconcileMode, Reconciler,
    },
    spec::Application,
    update::RefusedHead,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    sync::Arc,
};

/// Asks to reconcile Applications now.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SyncQuery {
    /// The Applications; all if empty.
    pub applications: Vec<Name>,
    /// The state to wait for.
    pub wait_for: WaitFor,
    /// A commit other than the branch's newest, or the first digits of its id.
    pub revision: Option<String>,
    /// True to plan only.
    pub dry_run: bool,
    /// True to confirm deletions that exceed what prune may delete on its own.
    pub confirm_prune: bool,
}

/// The state of an Application at which a sync is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WaitFor {
    /// Everything is applied.
    #[default]
    Applied,
    /// The state that the Application itself declares with `wait`.
    Declared,
    /// Every object is healthy.
    Healthy,
}

/// The Applications after a sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncAnswer {
    /// The Applications, each on its cluster.
    pub applications: Vec<ApplicationStatus>,
    /// Applications that no repository declares and whose objects are deleted.
    pub deleted: Vec<Name>,
    /// Config repositories with invalid declarations, which are not used.
    pub invalid_declarations: Vec<String>,
    /// Heads of branches that are not deployed, because they are not verified.
    pub refused_heads: Vec<RefusedHead>,
    /// The classification.
    pub outcome: Outcome,
}

/// Reconciles Applications and waits for the result. A running daemon does the work.
///
/// # Errors
/// If an Application is not declared, a revision does not exist, or a Git server or cluster cannot
/// be asked.
pub async fn sync(
    service: &Service,
    query: &SyncQuery,
    progress: &dyn Progress,
) -> Result<SyncAnswer, Failure> {
    progress.update("reading Git");
    let mut selected = scope::select(service, &query.applications).await?;
    if let Some(name) = selected.undeclared.first().filter(|_| !query.confirm_prune) {
        return Err(selected.undeclared_failure(name));
    }
    if let Some(revision) = &query.revision {
        if service.reconciler.is_some() && !query.dry_run {
            return Err(Failure::input(
                "cannot apply another revision while a daemon follows the branch: \
                 it would undo this at once",
            )
            .hint("Go back in Git with `tagboat rollback`, or stop the daemon first."));
        }
        for scope in &mut selected.scopes {
            *scope = at_revision(scope, revision).await?;
        }
    }
    let clusters = if query.dry_run {
        QueryClusters::open(service, ReconcileMode::Plan).await?
    } else {
        QueryClusters::shared(service, ReconcileMode::Act).await?
    };
    let ConfirmedDeletions {
        deleted,
        remaining: mut applications,
    } = confirm_delete::confirm(service, &clusters, &selected).await?;
    if clusters.is_own() {
        expect_repositories(service, &clusters, &selected.scopes);
    }
    selected.scopes.retain(RepositoryScope::is_relevant);
    start(service, query, &clusters, &selected.scopes);
    for scope in &selected.scopes {
        let found = wait(&clusters.reconciler, scope, query, progress).await;
        let missing = without_status(&scope.applications(), scope.repository(), &found);
        applications.extend(found.into_iter().chain(missing));
    }
    clusters.close().await;
    let outcome = match outcome(query, &applications) {
        // What was asked for is the head.
        Outcome::Done => Outcome::findings_if(!selected.refused_heads.is_empty()),
        outcome => outcome,
    };
    Ok(SyncAnswer {
        applications,
        deleted,
        invalid_declarations: selected.invalid_declarations,
        refused_heads: selected.refused_heads,
        outcome,
    })
}

/// Announces the repositories: also those of which no revision may be deployed, since an object may
/// have moved there. Not those that were read and of which nothing is selected.
fn expect_repositories(service: &Service, clusters: &QueryClusters, scopes: &[RepositoryScope]) {
    let is_unselected = |name: &str| {
        let mut scopes = scopes.iter();
        scopes.any(|scope| scope.repository() == name && !scope.is_relevant())
    };
    let configs = service.updaters.iter().map(|updater| &updater.repo.config);
    let expected = configs.filter(|config| !is_unselected(&config.name));
    clusters
        .reconciler
        .expect_repositories(expected.map(|config| (config.name.as_str(), &*config.rights)));
}

/// Starts all Applications before the first is waited for: an object that one gives up may be
/// wanted by another.
fn start(
    service: &Service,
    query: &SyncQuery,
    clusters: &QueryClusters,
    scopes: &[RepositoryScope],
) {
    let reconciler = &clusters.reconciler;
    for scope in scopes {
        if clusters.is_own() {
            scope.follow(service, reconciler);
        }
        for application in scope.applications() {
            reconciler.request(&application.name, &ApplicationRequest::Now);
            if query.confirm_prune {
                let confirmation = ApplicationRequest::ConfirmPrune(scope.revision());
                reconciler.request(&application.name, &confirmation);
            }
        }
    }
}

fn outcome(query: &SyncQuery, statuses: &[ApplicationStatus]) -> Outcome {
    if let outcome @ (Outcome::Remote | Outcome::Partly) = unreachable(statuses) {
        return outcome;
    }
    if query.dry_run {
        let any = |states: &[ApplicationState]| {
            let mut all = statuses.iter();
            all.any(|status| states.contains(&status.state))
        };
        return match any(&[ApplicationState::Failed, ApplicationState::Pending]) {
            true => Outcome::Partly,
            false => Outcome::findings_if(any(&[ApplicationState::ConfirmationRequired])),
        };
    }
    let is_done = |status: &ApplicationStatus| {
        matches!(
            status.state,
            ApplicationState::Synced
                | ApplicationState::Suspended
                | ApplicationState::Orphaned
                | ApplicationState::Progressing
        )
    };
    let is_enough = |status: &ApplicationStatus| {
        is_done(status) && (query.wait_for != WaitFor::Healthy || is_healthy(status))
    };
    let needs_user = |status: &ApplicationStatus| {
        is_done(status) || status.state == ApplicationState::ConfirmationRequired
    };
    if statuses.iter().all(is_enough) {
        Outcome::Done
    } else if statuses.iter().all(needs_user) {
        Outcome::Findings
    } else {
        Outcome::Partly
    }
}

/// Returns the same scope at another commit.
async fn at_revision(scope: &RepositoryScope, revision: &str) -> Result<RepositoryScope, Failure> {
    let repository = scope.repository();
    let unknown = |cause: &dyn fmt::Display| {
        Failure::input(format!(
            "repository {repository} has no commit {revision:?}: {cause}"
        ))
    };
    if revision.len() < 4 || !revision.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Failure::input(format!(
            "invalid --revision {revision:?}: expected the id of a commit, \
             or at least its first four digits"
        ))
        .hint("Look up the id of a branch, a tag or HEAD with `git rev-parse`."));
    }
    let commit = match revision.parse() {
        Ok(commit) => commit,
        Err(_) => scope.updater.repo.resolve(revision).await?,
    };
    let (mirror, updater) = (&scope.updater.repo.mirror, &scope.updater);
    mirror.at(commit).map_err(|error| unknown(&error))?;
    if let Some(why) = updater.refusal_of(commit).await? {
        let message = format!("repository {repository}: commit {revision} {why}");
        return Err(Failure::input(message).hint(RefusedHead::HINT));
    }
    let declared = Arc::new(updater.repo.declared_at(commit).await?);
    let only = scope.only.as_ref().map(|only| {
        let is_declared = |name: &&Name| declared.applications.contains_key(*name);
        only.iter()
            .filter(is_declared)
            .cloned()
            .collect::<BTreeSet<_>>()
    });
    if scope.is_relevant() && only.as_ref().is_some_and(BTreeSet::is_empty) {
        return Err(Failure::input(format!(
            "repository {repository} declares none of these Applications at {revision}"
        )));
    }
    Ok(RepositoryScope {
        updater: Arc::clone(updater),
        commit,
        declared,
        only,
    })
}

/// Returns a pending status for each Application without one: silence is no success.
fn without_status(
    applications: &[&Application],
    repository: &str,
    found: &[ApplicationStatus],
) -> Vec<ApplicationStatus> {
    let heard: HashSet<&Name> = found.iter().map(|status| &status.application).collect();
    let is_silent = |application: &&&Application| !heard.contains(&application.name);
    applications
        .iter()
        .filter(is_silent)
        .map(|application| ApplicationStatus {
            problems: vec![Message::application("no status was reported in time")],
            ..ApplicationStatus::new(application.name.clone(), repository, &application.cluster)
        })
        .collect()
}

fn is_healthy(status: &ApplicationStatus) -> bool {
    status
        .health
        .is_none_or(|health| health == HealthStatus::Current)
}

/// Returns whether an Application has reached the state that a sync waits for.
fn has_ended(query: &SyncQuery, status: &ApplicationStatus) -> bool {
    // Deletions belong to the sync; the health of a rollout does only if it is waited for.
    let is_rolling_out = status.state == ApplicationState::Progressing
        && status.reason != Reason::PrunePending
        && !query.confirm_prune;
    match query.wait_for {
        WaitFor::Healthy => {
            status.observed && (is_healthy(status) || status.state.needs_attention())
        }
        WaitFor::Declared => status.observed,
        WaitFor::Applied => status.observed || is_rolling_out,
    }
}

/// Waits until the Applications have reached a state, or the deadline; returns their statuses.
async fn wait(
    reconciler: &Arc<Reconciler>,
    scope: &RepositoryScope,
    query: &SyncQuery,
    progress: &dyn Progress,
) -> Vec<ApplicationStatus> {
    let revision = scope.revision();
    let applications = scope.applications();
    let names: BTreeSet<&Name> = applications
        .iter()
        .map(|application| &application.name)
        .collect();
    let is_ours = |status: &ApplicationStatus| {
        status.repository == scope.repository()
            && (names.contains(&status.application) || scope.only.is_none())
    };
    let is_done = |status: &ApplicationStatus| {
        has_ended(query, status) && status.revision.as_deref() == Some(revision.as_str())
    };
    let end = tokio::time::Instant::now() + scope.deadline();
    let mut status_changed = reconciler.status_changes();
    loop {
        status_changed.mark_unchanged();
        let mut statuses = reconciler.statuses();
        statuses.retain(is_ours);
        progress.update(&progress_text::lines(&statuses, is_done));
        let has_all = || {
            let heard: HashSet<&Name> = statuses.iter().map(|status| &status.application).collect();
            names.iter().all(|name| heard.contains(*name))
        };
        if reconciler.has_accepted(scope.repository(), &revision)
            && statuses.iter().all(is_done)
            && has_all()
        {
            return statuses;
        }
        tokio::select! {
            _ = status_changed.changed() => {}
            () = tokio::time::sleep_until(end) => return statuses,
        }
        // A thousand Applications change status thousands of times, and each look is at all of
        // them.
        tokio::time::sleep(PROGRESS_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECLARED: &str = "\
apiVersion: tagboat.dev/v1alpha1
kind: Environment
metadata: {name: dev}
spec: {paths: ['**'], update: {via: commit}}
---
apiVersion: tagboat.dev/v1alpha1
kind: Application
metadata: {name: shop, namespace: x}
spec: {environment: dev, path: shop, cluster: a}
";

    #[test]
    fn sync_without_status_is_pending() {
        let declared = crate::spec::read([("apps.yaml", DECLARED.as_bytes())], None);
        let applications: Vec<&Application> = declared.applications.values().collect();
        assert_eq!(applications.len(), 1, "{:?}", declared.mistakes);
        let silent = without_status(&applications, "r", &[]);
        assert_eq!(silent.len(), 1);
        assert_eq!(silent[0].state, ApplicationState::Pending);
        assert_eq!(
            silent[0].problems[0].to_string(),
            "no status was reported in time"
        );
        assert!(without_status(&applications, "r", &silent).is_empty());
    }

    #[test]
    fn sync_waits_for_deletions_but_not_for_health() {
        let status = |reason, observed| ApplicationStatus {
            state: ApplicationState::Progressing,
            reason,
            observed,
            ..ApplicationStatus::new("dev/a".parse().unwrap(), "r", "c")
        };
        let plain = SyncQuery::default();
        let confirming = SyncQuery {
            confirm_prune: true,
            ..SyncQuery::default()
        };
        assert!(has_ended(&plain, &status(Reason::Progressing, false)));
        assert!(!has_ended(&plain, &status(Reason::PrunePending, false)));
        assert!(!has_ended(&confirming, &status(Reason::Progressing, false)));
        assert!(has_ended(&confirming, &status(Reason::Synced, true)));
    }

    #[test]
    fn sync_outcome_follows_the_worst_state() {
        let status = |state| ApplicationStatus {
            state,
            ..ApplicationStatus::new("dev/a".parse().unwrap(), "r", "c")
        };
        let query = SyncQuery::default();
        let of = |state| outcome(&query, &[status(ApplicationState::Synced), status(state)]);
        assert_eq!(of(ApplicationState::Progressing), Outcome::Done);
        assert_eq!(
            of(ApplicationState::ConfirmationRequired),
            Outcome::Findings
        );
        assert_eq!(of(ApplicationState::Failed), Outcome::Partly);
        assert_eq!(of(ApplicationState::Pending), Outcome::Partly);
    }
}
