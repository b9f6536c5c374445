//! `run --once`: one update pass, and one reconcile pass over its result.

use super::{
    Failure, Outcome, Progress, Service,
    pass_summary::{self, PassSummary},
    progress::scan_counts,
    sync::{self, SyncQuery, WaitFor},
};
use crate::{
    reconcile::ApplicationStatus,
    update::{PassMode, Rescan},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The passes over all repositories and clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunAnswer {
    /// An update pass for each config repository.
    pub passes: Vec<PassSummary>,
    /// The Applications after the reconcile pass, each on its cluster.
    pub applications: Vec<ApplicationStatus>,
    /// The classification.
    pub outcome: Outcome,
}

/// Makes one update pass over each repository, then reconciles the Applications, if the settings
/// name clusters.
///
/// # Errors
/// If a cluster cannot be opened. A repository that cannot be read is part of the answer.
pub async fn run_once(service: &Service, progress: &dyn Progress) -> Result<RunAnswer, Failure> {
    let mut passes = Vec::new();
    for updater in &service.updaters {
        let _lock = updater.repo.lock.lock().await;
        service
            .context
            .preview_with(updater, &service.renderer, None)
            .await;
        let report = updater.pass(PassMode::Write, &Rescan::All, Timestamp::now());
        let report = scan_counts(updater, "updating", progress, report).await;
        passes.push(PassSummary::from(&report));
    }
    let mut answer = RunAnswer {
        outcome: pass_summary::outcome(&passes),
        passes,
        applications: Vec::new(),
    };
    if !service.context.settings.clusters.is_empty() {
        let query = SyncQuery {
            wait_for: WaitFor::Declared,
            ..SyncQuery::default()
        };
        let synced = sync::sync(service, &query, progress).await?;
        answer.applications = synced.applications;
        answer.outcome = answer.outcome.max(synced.outcome);
    }
    Ok(answer)
}
