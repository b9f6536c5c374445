//! `history`: the last rollouts of an Application.

use super::{Failure, Outcome, Progress, Service, scope::QueryClusters};
use crate::{
    core::{error::Classify as _, name::Name},
    io::git::Mirror,
    objects::plan::{Rollout, RolloutOutcome},
    reconcile::{ReconcileMode, RecordedApplication, RepositoryId},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// Asks for the last rollouts of an Application.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HistoryQuery {
    /// The Application.
    pub application: Name,
}

/// The last rollouts of an Application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryAnswer {
    /// The Application.
    pub application: Name,
    /// The clusters with a record of it.
    pub clusters: Vec<ClusterHistory>,
    /// The clusters that could not be asked, each with the reason.
    #[serde(default)]
    pub failures: Vec<Failure>,
}

impl HistoryAnswer {
    /// Classifies the answer.
    pub fn outcome(&self) -> Outcome {
        let failures = self.failures.iter().map(|failure| failure.kind);
        Outcome::of_parts(!self.clusters.is_empty(), failures)
    }
}

/// The record in one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterHistory {
    /// The cluster.
    pub cluster: String,
    /// The last revisions that changed something, newest first.
    pub revisions: Vec<RolledOutRevision>,
}

/// A revision and its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolledOutRevision {
    /// The commit.
    pub revision: String,
    /// The result.
    pub result: RolloutOutcome,
    /// The time of the result.
    pub since: Timestamp,
    /// The reason of the result; empty on success.
    pub message: String,
    /// The subject of the commit; none if the mirror no longer has it.
    pub subject: Option<String>,
}

/// Reads the records of an Application from its clusters.
///
/// # Errors
/// If no cluster has a readable record. A cluster that does not answer stops no other.
pub async fn history(
    service: &Service,
    query: &HistoryQuery,
    progress: &dyn Progress,
) -> Result<HistoryAnswer, Failure> {
    let application = &query.application;
    let clusters = QueryClusters::shared(service, ReconcileMode::Plan).await?;
    progress.update("asking clusters");
    let reconciler = &clusters.reconciler;
    let may_ask = |cluster: &str| service.may_use(cluster);
    let (mut records, mut failures) = (BTreeMap::new(), Vec::new());
    for (cluster, record) in reconciler.records_of(application, may_ask).await {
        match record {
            Ok(record) => records.extend(record.map(|record| (cluster, record))),
            Err(error) => failures.push(Failure::from(error)),
        }
    }
    if records.is_empty() && !failures.is_empty() {
        clusters.close().await;
        return Err(failures.swap_remove(0));
    }
    if records.is_empty() {
        let failure = without_record(service, &clusters, application).await;
        clusters.close().await;
        return Err(failure);
    }
    clusters.close().await;
    let foreign = drop_foreign(service, &mut records);
    if let (Some((cluster, owner)), true) = (foreign, records.is_empty()) {
        return Err(Failure::input(format!(
            "the record of Application {application} on cluster {cluster} belongs to repository \
             {owner}, which tagboat.yaml does not name"
        ))
        .hint("Ask where that repository is configured, or add it to tagboat.yaml."));
    }
    let mut found = Vec::new();
    for (cluster, record) in records {
        let mirror = service
            .updaters
            .iter()
            .find(|updater| updater.repo.config.name == record.inventory.repository)
            .map(|updater| Arc::clone(&updater.repo.mirror));
        let revisions = crate::io::try_blocking(move || {
            let with_subject = |rollout| with_subject(rollout, mirror.as_deref());
            record.history.0.into_iter().map(with_subject).collect()
        });
        found.push(ClusterHistory {
            cluster,
            revisions: revisions.await.unwrap_or_default(),
        });
    }
    Ok(HistoryAnswer {
        application: application.clone(),
        clusters: found,
        failures,
    })
}

/// Drops the records of repositories that these settings do not name; returns one of them with its
/// cluster.
fn drop_foreign(
    service: &Service,
    records: &mut BTreeMap<String, RecordedApplication>,
) -> Option<(String, RepositoryId)> {
    let ours: Vec<RepositoryId> = service
        .updaters
        .iter()
        .map(|updater| RepositoryId::from(&updater.repo.config))
        .collect();
    let mut foreign = None;
    records.retain(|cluster, record| {
        let owner = RepositoryId::from(&record.inventory);
        let is_ours = ours.iter().any(|ours| ours.may_take_over(&owner));
        if !is_ours {
            foreign = Some((cluster.clone(), owner));
        }
        is_ours
    });
    foreign
}

/// Explains why there is no record.
async fn without_record(
    service: &Service,
    clusters: &QueryClusters,
    application: &Name,
) -> Failure {
    let reconciler = &clusters.reconciler;
    let may_ask = |cluster: &str| service.may_use(cluster);
    match reconciler.record_conflicts(application, may_ask).await {
        Ok(unreadable) => {
            if let Some(error) = unreadable.first() {
                return Failure {
                    hint: error.hint(),
                    ..Failure::input(format!(
                        "cannot read the record of Application {application}: {error}"
                    ))
                };
            }
        }
        Err(error) => return error.into(),
    }
    let unreachable: Vec<String> = reconciler
        .clusters()
        .filter_map(|name| reconciler.connection_error(name))
        .map(ToString::to_string)
        .collect();
    if unreachable.is_empty() {
        Failure::input(format!(
            "no cluster has a record of Application {application}: it was never applied"
        ))
    } else {
        Failure::input(format!(
            "no reachable cluster has a record of Application {application}; {}",
            unreachable.join("; ")
        ))
    }
}

fn with_subject(rollout: Rollout, mirror: Option<&Mirror>) -> RolledOutRevision {
    let commit = rollout.revision.parse().ok();
    let subject = mirror
        .zip(commit)
        .and_then(|(mirror, commit)| mirror.history(commit, 0, 1).next()?.ok())
        .map(|commit| commit.subject);
    RolledOutRevision {
        revision: rollout.revision,
        result: rollout.result,
        since: rollout.since,
        message: rollout.message,
        subject,
    }
}
