//! `policies`: the declared policies and what they select.

use super::{
    Failure, Outcome, Progress, Service,
    pass_summary::{self, PassSummary},
    types::{PartialFailure, Selected},
};
use crate::{
    core::{image::ImageRepository, name::Name},
    update::{PassMode, Rescan},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks for the declared policies.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PoliciesQuery {}

/// The declared policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoliciesAnswer {
    /// The policies, by repository and name.
    pub policies: Vec<ListedPolicy>,
    /// Failures of registries, Git servers and forges.
    pub failures: Vec<PartialFailure>,
    /// The classification.
    pub outcome: Outcome,
}

/// A declared policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedPolicy {
    /// The config repository.
    pub repository: String,
    /// The policy.
    pub policy: Name,
    /// The image repository.
    pub image: ImageRepository,
    /// The kind: semver, numerical, alphabetical, newest or digest.
    pub kind: String,
    /// True if the policy is suspended.
    pub suspended: bool,
    /// The Environments with references to the image; empty if no file refers to it.
    pub environments: Vec<PolicyInEnvironment>,
}

/// A policy in one Environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyInEnvironment {
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
    /// The holds, a sentence each.
    pub held: Vec<String>,
}

/// Plans a pass, and lists the declared policies with what each selects.
///
/// # Errors
/// None: a repository that cannot be read is part of the answer.
pub async fn policies(
    service: &Service,
    _: &PoliciesQuery,
    progress: &dyn Progress,
) -> Result<PoliciesAnswer, Failure> {
    let _locks = service.lock_repositories().await;
    let mut policies = Vec::new();
    let mut passes = Vec::new();
    for updater in &service.updaters {
        let repository = &updater.repo.config.name;
        progress.update(&format!("reading {repository} and its registries"));
        let report = updater.pass(PassMode::Plan, &Rescan::All, Timestamp::now());
        let pass = PassSummary::from(&report.await);
        let declared = updater.repo.declared();
        for policy in declared
            .iter()
            .flat_map(|declared| declared.policies.values())
        {
            policies.push(ListedPolicy {
                repository: repository.clone(),
                policy: policy.name.clone(),
                image: policy.image.clone(),
                kind: policy.choice.kind().to_owned(),
                suspended: policy.suspend,
                environments: environments(&pass, &policy.name),
            });
        }
        passes.push(pass);
    }
    let outcome = pass_summary::outcome(&passes);
    let failures = passes.into_iter().flat_map(|pass| pass.failures).collect();
    Ok(PoliciesAnswer {
        policies,
        failures,
        outcome,
    })
}

fn environments(pass: &PassSummary, policy: &Name) -> Vec<PolicyInEnvironment> {
    let mut found = Vec::new();
    for environment in &pass.environments {
        let here = environment
            .policies
            .iter()
            .filter(|summary| summary.name == *policy);
        found.extend(here.map(|summary| PolicyInEnvironment {
            environment: environment.name.clone(),
            present: summary.present.clone(),
            unlisted: summary.unlisted.clone(),
            selected: summary.selected.clone(),
            reason: summary.reason.clone(),
            held: summary.held.clone(),
        }));
    }
    found
}
