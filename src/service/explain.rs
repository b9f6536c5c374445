//! `explain`: the decision of a policy, tag by tag.

use super::{
    Failure, Outcome, Progress, Service,
    types::{Gaps, HeldTag, RefusedTag, Selected, available},
};
use crate::{
    core::name::Name,
    io::{blocking, facts::SCAN_TIMEOUT},
    update::{self, ExplainedPolicy, PassReport, PolicyDecision},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Asks for the decision of a policy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExplainQuery {
    /// The policy.
    pub policy: Name,
}

/// The decision of a policy in each Environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplainAnswer {
    /// The policy.
    pub policy: Name,
    /// The decisions; empty if no file of an Environment refers to the image.
    pub decisions: Vec<ExplainedDecision>,
    /// The reasons why the answer may lack something.
    #[serde(flatten)]
    pub gaps: Gaps,
}

/// The decision of a policy in one Environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedDecision {
    /// The config repository.
    pub repository: String,
    /// The Environment.
    pub environment: String,
    /// The tags in the files, each once.
    pub present: Vec<String>,
    /// The tags in the files that the registry does not list any more.
    pub unlisted: Vec<String>,
    /// The selected version.
    pub selected: Option<Selected>,
    /// The reason why nothing was selected.
    pub reason: Option<String>,
    /// The time when the first tag refused only for its age is old enough.
    pub free_at: Option<Timestamp>,
    /// The held versions.
    pub held: Vec<HeldTag>,
    /// Every refused tag.
    pub refused: Vec<RefusedTag>,
}

impl ExplainAnswer {
    /// Classifies the answer.
    pub fn outcome(&self) -> Outcome {
        Outcome::partly_if(!self.gaps.failures.is_empty())
    }
}

/// Decides for each Environment in which the policy has references.
///
/// # Errors
/// If no repository declares the policy, or a Git server or registry cannot be asked.
pub async fn explain(
    service: &Service,
    query: &ExplainQuery,
    progress: &dyn Progress,
) -> Result<ExplainAnswer, Failure> {
    let _locks = service.lock_repositories().await;
    let now = Timestamp::now();
    let name = &query.policy;
    let mut declared = BTreeSet::new();
    let mut answer = ExplainAnswer {
        policy: name.clone(),
        decisions: Vec::new(),
        gaps: Gaps::default(),
    };
    for updater in &service.updaters {
        progress.update(&format!(
            "reading {} and its registries",
            updater.repo.config.name
        ));
        let mut report = PassReport::default();
        let snapshot = updater.refresh_for_holds(now, &mut report).await?;
        answer
            .gaps
            .add(&updater.repo.config.name, &report, &snapshot.declared);
        declared.extend(snapshot.declared.policies.keys().cloned());
        let Some(policy) = snapshot.declared.policies.get(name) else {
            continue;
        };
        let mut scan = updater
            .scanner
            .scan(&policy.image, policy.timeout.unwrap_or(SCAN_TIMEOUT), now)
            .await?;
        let (scopes, _) = snapshot.lint().await;
        for scope in &scopes {
            let Some(usage) = scope.policies.get(name) else {
                continue;
            };
            let mut holds = updater.holds(&snapshot, scope, now).await?;
            let holds = holds.remove(name).unwrap_or_default();
            let explained;
            (scan, explained) =
                update::explain(scope, name, &updater.scanner, scan, &holds, now).await?;
            let Some(ExplainedPolicy { decision, refused }) = explained else {
                continue;
            };
            let (selected, reason, free_at) = match &decision {
                PolicyDecision::Chosen(chosen) => (Some(Selected::from(chosen)), None, None),
                PolicyDecision::Nothing { reason, free_at } => {
                    (None, Some(reason.clone()), *free_at)
                }
            };
            let listed = scan.tags.clone();
            let tags = blocking(move || listed.get().cloned()).await?;
            answer.decisions.push(ExplainedDecision {
                repository: updater.repo.config.name.clone(),
                environment: scope.environment.name.clone(),
                present: usage.tags.iter().cloned().collect(),
                unlisted: usage.unlisted(&tags),
                selected,
                reason,
                free_at,
                held: holds.iter().map(HeldTag::from).collect(),
                refused: refused.into_iter().map(RefusedTag::new).collect(),
            });
        }
    }
    if !declared.contains(name) {
        let names = available(declared.iter().map(Name::to_string));
        return Err(Failure::input(format!("no ImagePolicy {name}; {names}")));
    }
    Ok(answer)
}
