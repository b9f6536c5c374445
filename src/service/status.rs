//! `status`: each Application on its cluster.

use super::{
    Failure, Outcome, Progress, Service, progress_text,
    scope::{self, QueryClusters},
};
use crate::{
    core::{error::ErrorKind, name::Name, text::short_id},
    objects::plan::RolloutOutcome,
    reconcile::{ApplicationState, ApplicationStatus, Message, Reason, ReconcileMode},
    update::RefusedHead,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks for the state of Applications.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StatusQuery {
    /// The Applications; all if empty.
    pub applications: Vec<Name>,
}

/// The state of Applications.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusAnswer {
    /// The Applications, each on its cluster.
    pub applications: Vec<ApplicationStatus>,
    /// Config repositories with invalid declarations, which are not used.
    pub invalid_declarations: Vec<String>,
    /// Heads of branches that are not deployed, because they are not verified.
    pub refused_heads: Vec<RefusedHead>,
}

impl StatusAnswer {
    /// Classifies the answer.
    pub fn outcome(&self) -> Outcome {
        let is_trouble =
            |status: &ApplicationStatus| status.state.needs_attention() || status.is_unhealthy();
        match unreachable(&self.applications) {
            Outcome::Done => Outcome::findings_if(
                !self.refused_heads.is_empty() || self.applications.iter().any(is_trouble),
            ),
            outcome => outcome,
        }
    }
}

/// Classifies Applications by their clusters: `Remote` if none of these can be reached, `Partly` if
/// only some can.
pub(super) fn unreachable(statuses: &[ApplicationStatus]) -> Outcome {
    let is_unreachable = |status: &&ApplicationStatus| status.reason == Reason::ClusterUnreachable;
    let count = statuses.iter().filter(is_unreachable).count();
    let failures = (count > 0).then_some(ErrorKind::Remote);
    Outcome::of_parts(count < statuses.len(), failures)
}

/// Returns what the daemon has observed, or else observes the clusters once.
///
/// # Errors
/// If an Application is not declared, or a Git server or cluster cannot be asked.
pub async fn status(
    service: &Service,
    query: &StatusQuery,
    progress: &dyn Progress,
) -> Result<StatusAnswer, Failure> {
    let names = &query.applications;
    let mut answer = if service.reconciler.is_some() {
        observed(service)
    } else {
        observe(service, names, progress).await?
    };
    answer
        .applications
        .retain(|status| names.is_empty() || names.contains(&status.application));
    let is_known = |name: &Name| {
        answer
            .applications
            .iter()
            .any(|status| status.application == *name)
    };
    match names.iter().find(|name| !is_known(name)) {
        Some(name) => Err(Failure::input(format!("no Application {name}"))),
        None => Ok(answer),
    }
}

fn observed(service: &Service) -> StatusAnswer {
    let mut applications = Vec::new();
    let (mut invalid_declarations, mut refused_heads) = (Vec::new(), Vec::new());
    for updater in &service.updaters {
        let name = &updater.repo.config.name;
        refused_heads.extend(updater.refused_head());
        if updater
            .repo
            .declared()
            .is_some_and(|declared| declared.has_errors())
        {
            invalid_declarations.push(name.clone());
        }
    }
    let is_served = |status: &ApplicationStatus| {
        service
            .updaters
            .iter()
            .any(|updater| updater.repo.config.name == status.repository)
    };
    if let Some(reconciler) = &service.reconciler {
        applications = reconciler.statuses();
        applications.retain(is_served);
    }
    StatusAnswer {
        applications,
        invalid_declarations,
        refused_heads,
    }
}

/// Adds what the last sync recorded to a state that was observed without a sync: a daemon knows
/// it from its own work.
fn apply_last_rollout(status: &mut ApplicationStatus) {
    let Some(rollout) = &status.rollout else {
        return;
    };
    match (status.state, rollout.result) {
        (ApplicationState::OutOfSync | ApplicationState::Waiting, RolloutOutcome::Failed) => {
            let revision = short_id(&rollout.revision);
            let message = format!("the sync of {revision} failed: {}", rollout.message);
            status.problems.insert(0, Message::application(message));
            (status.state, status.reason) = (ApplicationState::Failed, Reason::SyncFailed);
        }
        (ApplicationState::Synced, RolloutOutcome::Degraded) if status.is_unhealthy() => {
            (status.state, status.reason) = (ApplicationState::Degraded, Reason::HealthDegraded);
        }
        (ApplicationState::Synced, RolloutOutcome::Progressing) if status.is_unhealthy() => {
            (status.state, status.reason) = (ApplicationState::Progressing, Reason::Progressing);
        }
        _ => {}
    }
}

async fn observe(
    service: &Service,
    names: &[Name],
    progress: &dyn Progress,
) -> Result<StatusAnswer, Failure> {
    // Settings without clusters fail before Git is read, which may wait for a pass.
    let clusters = QueryClusters::open(service, ReconcileMode::Plan).await?;
    progress.update("reading Git");
    let selected = match scope::select_declared(service, names).await {
        Ok(selected) => selected,
        Err(failure) => {
            clusters.close().await;
            return Err(failure);
        }
    };
    progress.update("asking clusters");
    for scope in &selected.scopes {
        scope.follow(service, &clusters.reconciler);
    }
    for scope in &selected.scopes {
        let report = |statuses: &[ApplicationStatus]| {
            progress.update(&progress_text::lines(statuses, |status| status.observed));
        };
        clusters
            .reconciler
            .wait_until_observed(
                scope.repository(),
                &scope.revision(),
                scope.only.as_ref(),
                scope.deadline(),
                report,
            )
            .await;
    }
    let mut applications = clusters.reconciler.statuses();
    applications.iter_mut().for_each(apply_last_rollout);
    clusters.close().await;
    Ok(StatusAnswer {
        applications,
        invalid_declarations: selected.invalid_declarations,
        refused_heads: selected.refused_heads,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{health::HealthStatus, plan::Rollout};

    fn status(
        state: ApplicationState,
        result: RolloutOutcome,
        health: HealthStatus,
    ) -> ApplicationStatus {
        let rollout = Rollout {
            revision: "0123456789".repeat(4),
            result,
            since: jiff::Timestamp::UNIX_EPOCH,
            message: "ConfigMap a/b: refused".to_owned(),
        };
        ApplicationStatus {
            state,
            health: Some(health),
            rollout: Some(rollout),
            ..ApplicationStatus::new("dev/a".parse().unwrap(), "r", "c")
        }
    }

    #[test]
    fn status_without_sync_knows_the_last_one() {
        use ApplicationState::{Degraded, Failed, OutOfSync, Progressing, Synced};
        use HealthStatus::{Current, InProgress};
        for (before, result, health, after) in [
            (OutOfSync, RolloutOutcome::Failed, Current, Failed),
            (OutOfSync, RolloutOutcome::Applied, Current, OutOfSync),
            (Synced, RolloutOutcome::Failed, Current, Synced),
            (Synced, RolloutOutcome::Degraded, InProgress, Degraded),
            (Synced, RolloutOutcome::Degraded, Current, Synced),
            (Synced, RolloutOutcome::Progressing, InProgress, Progressing),
            (Synced, RolloutOutcome::Applied, InProgress, Synced),
        ] {
            let mut status = status(before, result, health);
            apply_last_rollout(&mut status);
            assert_eq!(status.state, after, "{before} {result} {health}");
            let named = status.problems.iter().map(ToString::to_string);
            assert_eq!(
                named.collect::<Vec<_>>(),
                (after == Failed)
                    .then_some("the sync of 0123456789 failed: ConfigMap a/b: refused")
                    .into_iter()
                    .collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn status_of_unhealthy_object_is_a_finding() {
        let outcome = |health| {
            let status = status(ApplicationState::Synced, RolloutOutcome::Applied, health);
            let answer = StatusAnswer {
                applications: vec![status],
                invalid_declarations: Vec::new(),
                refused_heads: Vec::new(),
            };
            answer.outcome()
        };
        assert_eq!(outcome(HealthStatus::Current), Outcome::Done);
        assert_eq!(outcome(HealthStatus::Unknown), Outcome::Done);
        assert_eq!(outcome(HealthStatus::InProgress), Outcome::Findings);
        assert_eq!(outcome(HealthStatus::Failed), Outcome::Findings);
    }
}
