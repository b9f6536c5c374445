//! `requests`: the pull requests of tagboat.

use super::{
    Failure, Outcome, Progress, Service,
    pass_summary::{self, PassSummary, PullRequestSummary},
    types::PartialFailure,
};
use crate::update::{PassMode, Rescan};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks for the pull requests of tagboat.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RequestsQuery {}

/// The pull requests of tagboat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestsAnswer {
    /// The pull requests, by repository and Environment.
    pub pull_requests: Vec<ListedPullRequest>,
    /// The config repositories that have a forge.
    pub repositories: Vec<String>,
    /// Failures of registries, Git servers and forges.
    pub failures: Vec<PartialFailure>,
    /// The classification.
    pub outcome: Outcome,
}

/// A pull request with its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedPullRequest {
    /// The config repository.
    pub repository: String,
    /// The Environment.
    pub environment: String,
    /// The pull request.
    #[serde(flatten)]
    pub pull_request: PullRequestSummary,
}

/// Plans a pass over each repository with a forge, and lists the pull requests in it.
///
/// # Errors
/// None: a repository that cannot be read is part of the answer.
pub async fn requests(
    service: &Service,
    _: &RequestsQuery,
    progress: &dyn Progress,
) -> Result<RequestsAnswer, Failure> {
    let _locks = service.lock_repositories().await;
    let mut passes = Vec::new();
    for updater in service
        .updaters
        .iter()
        .filter(|updater| updater.forge.is_some())
    {
        progress.update(&format!(
            "reading {}, its forge and its registries",
            updater.repo.config.name
        ));
        let report = updater.pass(PassMode::Plan, &Rescan::All, Timestamp::now());
        passes.push(PassSummary::from(&report.await));
    }
    let outcome = pass_summary::outcome(&passes);
    let mut answer = RequestsAnswer {
        pull_requests: Vec::new(),
        repositories: Vec::new(),
        failures: Vec::new(),
        outcome,
    };
    for pass in passes {
        for environment in pass.environments {
            let listed =
                environment
                    .pull_requests
                    .into_iter()
                    .map(|pull_request| ListedPullRequest {
                        repository: pass.repository.clone(),
                        environment: environment.name.clone(),
                        pull_request,
                    });
            answer.pull_requests.extend(listed);
        }
        answer.failures.extend(pass.failures);
        answer.repositories.push(pass.repository);
    }
    Ok(answer)
}
