//! `plan`: the changes that a pass would make.

use super::{
    Failure, Outcome, Progress, Service,
    pass_summary::{self, PassSummary},
};
use crate::update::{PassMode, Rescan};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks for the changes that a pass would make.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PlanQuery {}

/// The changes that a pass would make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanAnswer {
    /// A planned pass for each config repository.
    pub passes: Vec<PassSummary>,
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
    let mut passes = Vec::new();
    for updater in &service.updaters {
        progress.update(&format!(
            "reading {} and its registries",
            updater.repo.config.name
        ));
        let report = updater.pass(PassMode::Plan, &Rescan::All, Timestamp::now());
        passes.push(PassSummary::from(&report.await));
    }
    Ok(PlanAnswer { passes })
}
