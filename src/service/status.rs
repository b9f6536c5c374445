//! `status`: each Application on its cluster.

use super::{
    Failure, Outcome, Progress, Service, progress_text,
    scope::{self, QueryClusters},
};
use crate::{
    core::{error::ErrorKind, name::Name},
    reconcile::{ApplicationStatus, Reason, ReconcileMode},
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
}

impl StatusAnswer {
    /// Classifies the answer.
    pub fn outcome(&self) -> Outcome {
        let is_trouble = |status: &ApplicationStatus| status.state.needs_attention();
        match unreachable(&self.applications) {
            Outcome::Done => Outcome::findings_if(self.applications.iter().any(is_trouble)),
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
    let mut invalid_declarations = Vec::new();
    for updater in &service.updaters {
        let name = &updater.repo.config.name;
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
    let applications = clusters.reconciler.statuses();
    clusters.close().await;
    Ok(StatusAnswer {
        applications,
        invalid_declarations: selected.invalid_declarations,
    })
}
