//! `plan`: the changes that a pass would make.

use super::{
    Failure, Outcome, Progress, Service,
    pass_summary::{self, PassSummary},
    progress::scan_counts,
    unsupported::{self, UnsupportedFindings},
};
use crate::{
    io::{blocking, git::GitError},
    update::{ImageUpdater, PassMode, Rescan},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Asks for the changes that a pass would make.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PlanQuery {}

/// The changes that a pass would make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanAnswer {
    /// A planned pass for each config repository.
    pub passes: Vec<PassSummary>,
    /// The charts and units of each config repository that are not handled yet.
    pub unsupported: Vec<RepositoryUnsupported>,
}

/// The charts and units of a config repository that are not handled yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryUnsupported {
    /// The config repository.
    pub repository: String,
    /// The charts and units.
    pub findings: UnsupportedFindings,
}

impl PlanAnswer {
    /// Returns true if a pass would change something.
    pub fn has_changes(&self) -> bool {
        self.passes.iter().any(PassSummary::has_changes)
    }

    /// Classifies the answer.
    pub fn outcome(&self) -> Outcome {
        pass_summary::outcome(&self.passes)
    }
}

/// Makes a pass over each repository that stops before it writes.
///
/// # Errors
/// None: a repository that cannot be read is part of the answer.
pub async fn plan(
    service: &Service,
    _: &PlanQuery,
    progress: &dyn Progress,
) -> Result<PlanAnswer, Failure> {
    let _locks = service.lock_repositories().await;
    let (mut passes, mut unsupported) = (Vec::new(), Vec::new());
    for updater in &service.updaters {
        let report = updater.pass(PassMode::Plan, &Rescan::All, Timestamp::now());
        let report = scan_counts(updater, "planning", progress, report).await;
        let mut pass = PassSummary::from(&report);
        match find_unsupported(updater).await {
            Ok(findings) if findings.total > 0 => unsupported.push(RepositoryUnsupported {
                repository: pass.repository.clone(),
                findings,
            }),
            Ok(_) => {}
            Err(error) => pass.warnings.push(error.to_string()),
        }
        passes.push(pass);
    }
    Ok(PlanAnswer {
        passes,
        unsupported,
    })
}

/// Finds what is not handled in the revision that the pass has read; nothing if it could not.
async fn find_unsupported(updater: &ImageUpdater) -> Result<UnsupportedFindings, GitError> {
    let last = updater.repo.revisions.borrow().clone();
    let Some(last) = last else {
        return Ok(UnsupportedFindings::default());
    };
    let mirror = Arc::clone(&updater.repo.mirror);
    blocking(move || unsupported::at(&mirror, last.commit, &last.declared)).await
}
