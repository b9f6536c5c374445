//! `policies`: the status of the declared policies after the last pass.

use super::{
    Failure, Outcome, Progress, Service,
    types::{Selected, nothing_read},
};
use crate::{
    core::{
        image::{ImageRepository, Tag},
        name::Name,
    },
    images::policy::{self, Holds, PolicyInput, PolicyOutcome, RegistryFacts},
    io::{
        blocking,
        facts::{RepositoryScan, ScanError},
    },
    spec::{Declarations, ImagePolicy},
    update::{self, ImageStatus, ImageUpdater, RecordedDecision, ScanFailure},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// Asks for the declared policies.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PoliciesQuery {}

/// The declared policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoliciesAnswer {
    /// The policies, by repository and name.
    pub policies: Vec<ListedPolicy>,
    /// Config repositories that no pass has read yet.
    pub unread: Vec<String>,
    /// Config repositories with invalid declarations, which are not used.
    pub invalid_declarations: Vec<String>,
    /// True if a running daemon answered, which knows the next scans.
    pub from_daemon: bool,
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
    /// The number of tags that the last scan listed.
    pub tags: Option<u64>,
    /// The latest tag that the policy allows, of those that the last scan listed. An Environment
    /// whose selected version differs holds it back, or has had no pass since.
    pub latest: Option<Tag>,
    /// The time of the last scan that succeeded.
    pub last_scan: Option<Timestamp>,
    /// The time of the next scan, where a daemon runs.
    pub next_scan: Option<Timestamp>,
    /// The failure of the last pass that asked the registry.
    pub failure: Option<RegistryFailure>,
    /// True if a pass has looked for references to the image.
    pub decided: bool,
    /// The Environments with references to the image, as the last pass saw them.
    pub environments: Vec<PolicyInEnvironment>,
}

/// The failure of the last pass that asked a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegistryFailure {
    /// The time.
    pub time: Timestamp,
    /// The message.
    pub error: String,
    /// An imperative sentence with the remedy.
    pub hint: Option<String>,
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
    /// The version that the last pass selected.
    pub selected: Option<Selected>,
    /// The reason why nothing was selected.
    pub reason: Option<String>,
    /// The holds, a sentence each.
    pub held: Vec<String>,
}

impl PoliciesAnswer {
    /// Classifies the answer.
    pub fn outcome(&self) -> Outcome {
        Outcome::findings_if(self.policies.iter().any(|policy| policy.failure.is_some()))
    }
}

/// Lists the declared policies with what the last pass knows of each. Asks neither Git nor a
/// registry.
///
/// # Errors
/// If the store or a mirror cannot be read, or no pass has read anything yet.
pub async fn policies(
    service: &Service,
    _: &PoliciesQuery,
    _: &dyn Progress,
) -> Result<PoliciesAnswer, Failure> {
    let mut answer = PoliciesAnswer {
        policies: Vec::new(),
        unread: Vec::new(),
        invalid_declarations: Vec::new(),
        from_daemon: service.scans.is_some(),
    };
    for updater in &service.updaters {
        let repository = &updater.repo.config.name;
        let Some(declared) = updater.repo.last_declared().await? else {
            answer.unread.push(repository.clone());
            continue;
        };
        if declared.has_errors() {
            answer.invalid_declarations.push(repository.clone());
        }
        let store = &updater.scanner.store;
        let images = declared.policies.values();
        let images = images.map(|policy| policy.image.clone()).collect();
        let images = update::image_statuses(store, images).await?;
        let decisions = update::recorded_decisions(store, repository).await?;
        let latest = latest(updater, &declared).await?;
        let scans = service
            .scans
            .as_ref()
            .and_then(|scans| scans.of(repository));
        for policy in declared.policies.values() {
            let status = images.get(&policy.image).cloned().unwrap_or_default();
            let next = scans.as_ref().and_then(|scans| scans.next(&policy.image));
            let listed = listed(repository, policy, status, decisions.as_deref());
            answer.policies.push(ListedPolicy {
                latest: latest.get(&policy.name).cloned().or(listed.latest),
                next_scan: next.filter(|_| !policy.suspend),
                ..listed
            });
        }
    }
    match answer.unread.len() == service.updaters.len() && !service.updaters.is_empty() {
        true => Err(nothing_read(&answer.unread)),
        false => Ok(answer),
    }
}

/// Returns the latest tags of policies by the last scans, as far as the store has the facts.
async fn latest(
    updater: &ImageUpdater,
    declared: &Arc<Declarations>,
) -> Result<BTreeMap<Name, Tag>, Failure> {
    let mut scans: BTreeMap<ImageRepository, RepositoryScan> = BTreeMap::new();
    for policy in declared.policies.values() {
        if !scans.contains_key(&policy.image)
            && let Some((scan, _)) = updater.scanner.last(&policy.image).await?
        {
            scans.insert(policy.image.clone(), scan);
        }
    }
    let (scanner, declared, now) = (
        updater.scanner.clone(),
        Arc::clone(declared),
        Timestamp::now(),
    );
    let latest = blocking(move || {
        let mut latest = BTreeMap::new();
        for policy in declared.policies.values() {
            let Some(scan) = scans.get_mut(&policy.image) else {
                continue;
            };
            let goes_by_facts = policy.minimum_age.is_some() || policy.choice.is_by_date();
            if goes_by_facts && scan.details.is_empty() {
                scanner.recall(scan, now)?;
                // Good enough to be shown; a pass asks for them again before it writes.
                scan.details
                    .values_mut()
                    .for_each(|facts| facts.fresh = true);
            }
            let input = PolicyInput {
                policy,
                present: None,
                holds: &Holds::default(),
                now,
            };
            let facts = RegistryFacts {
                tags: scan.tags.get()?,
                details: &scan.details,
            };
            if let PolicyOutcome::Chosen(chosen) = policy::choose(&input, &facts) {
                latest.insert(policy.name.clone(), chosen.tag);
            }
        }
        Ok::<_, ScanError>(latest)
    });
    Ok(latest.await?)
}

fn listed(
    repository: &str,
    policy: &ImagePolicy,
    status: ImageStatus,
    decisions: Option<&[RecordedDecision]>,
) -> ListedPolicy {
    let of_policy = decisions
        .unwrap_or_default()
        .iter()
        .filter(|decision| decision.policy == policy.name);
    ListedPolicy {
        repository: repository.to_owned(),
        policy: policy.name.clone(),
        image: policy.image.clone(),
        kind: policy.choice.kind().to_owned(),
        suspended: policy.suspend,
        tags: status.tags.map(|tags| tags as u64),
        // Facts that only the registry has decided it then.
        latest: of_policy
            .clone()
            .find_map(|decision| decision.chosen.clone()),
        last_scan: status.scanned,
        next_scan: None,
        failure: status.failure.map(RegistryFailure::from),
        decided: decisions.is_some(),
        environments: of_policy.map(PolicyInEnvironment::from).collect(),
    }
}

impl From<ScanFailure> for RegistryFailure {
    fn from(failure: ScanFailure) -> Self {
        Self {
            time: failure.time,
            error: failure.error,
            hint: failure.hint,
        }
    }
}

impl From<&RecordedDecision> for PolicyInEnvironment {
    fn from(decision: &RecordedDecision) -> Self {
        Self {
            environment: decision.environment.clone(),
            present: decision.present.clone(),
            unlisted: decision.unlisted.clone(),
            selected: decision.chosen.clone().map(|tag| Selected {
                tag,
                digest: decision.digest.clone(),
            }),
            reason: decision.reason.clone(),
            held: decision.held.clone(),
        }
    }
}
