//! `holds`: the versions that reverts hold back.

use super::{
    Failure, Outcome, Progress, Service,
    types::{Gaps, HeldTag},
};
use crate::{core::name::Name, update::PassReport};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks for the held versions.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HoldsQuery {}

/// The held versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldsAnswer {
    /// The holds, by repository, Environment and policy.
    pub holds: Vec<ListedHold>,
    /// The reasons why the answer may lack something: without the forge's answer, the holds of
    /// closed pull requests are unknown.
    #[serde(flatten)]
    pub gaps: Gaps,
}

/// A held version with its policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedHold {
    /// The config repository.
    pub repository: String,
    /// The Environment.
    pub environment: String,
    /// The policy.
    pub policy: Name,
    /// The hold.
    #[serde(flatten)]
    pub held: HeldTag,
}

impl HoldsAnswer {
    /// Classifies the answer.
    pub fn outcome(&self) -> Outcome {
        Outcome::partly_if(!self.gaps.failures.is_empty())
    }
}

/// Lists the holds of every policy in every Environment.
///
/// # Errors
/// If a Git server cannot be asked.
pub async fn holds(
    service: &Service,
    _: &HoldsQuery,
    progress: &dyn Progress,
) -> Result<HoldsAnswer, Failure> {
    let _locks = service.lock_repositories().await;
    let now = Timestamp::now();
    let mut answer = HoldsAnswer {
        holds: Vec::new(),
        gaps: Gaps::default(),
    };
    for updater in &service.updaters {
        let repository = &updater.repo.config.name;
        progress.update(&format!("reading {repository}"));
        let mut report = PassReport::default();
        let snapshot = updater.refresh_for_holds(now, &mut report).await?;
        answer.gaps.add(repository, &report, &snapshot.declared);
        let (scopes, _) = snapshot.lint().await;
        for scope in &scopes {
            for (policy, holds) in updater.holds(&snapshot, scope, now).await? {
                answer.holds.extend(holds.iter().map(|hold| ListedHold {
                    repository: repository.clone(),
                    environment: scope.environment.name.clone(),
                    policy: policy.clone(),
                    held: HeldTag::from(hold),
                }));
            }
        }
    }
    Ok(answer)
}
