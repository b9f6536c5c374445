//! Decisions of policies, and the rows about them in a report.

use super::{
    Scans, blocking,
    decision::{Decisions, PolicyDecision},
    memo::{MemoryQuestion, PassMemory, facts_version},
    report::{FailureReport, PolicyReport, RefusedReport},
};
use crate::{
    core::{image::ImageRepository, name::Name},
    images::{
        policy::{self, Holds, MissingFacts, PolicyInput, PolicyOutcome, Refusal, RegistryFacts},
        scope::{EnvironmentScope, PolicyUsage},
    },
    io::{
        facts::{RepositoryScan, ScanError, Scanner},
        store::{FactsVersion, StoreError},
    },
    spec::ImagePolicy,
};
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc, time::Instant};

/// Rounds of missing facts that one policy gets in a pass: twenty batches of dates, or as many tags
/// without the wanted platforms. The next pass continues from what the store has kept.
pub(super) const ROUNDS: usize = 20;

/// Reason of a policy that used up its rounds.
pub(super) const COLLECTING: &str =
    "facts of many tags are still being collected; the next pass goes on";

/// Refused tags that a report names for each policy.
const REFUSED: usize = 5;

/// Holds of each policy of an Environment.
pub(crate) type HoldsByPolicy = BTreeMap<Name, Holds>;

/// Returns the question to a policy.
pub(super) fn input<'a>(
    usage: &'a PolicyUsage,
    holds: &'a Holds,
    now: Timestamp,
) -> PolicyInput<'a> {
    PolicyInput {
        policy: &usage.policy,
        present: usage.least(),
        holds,
        now,
    }
}

/// Returns the facts of a scan. Blocks, if its tags were not read yet.
///
/// # Errors
/// If the store refuses.
pub(super) fn facts(scan: &RepositoryScan) -> Result<RegistryFacts<'_>, StoreError> {
    Ok(RegistryFacts {
        tags: scan.tags.get()?,
        details: &scan.details,
    })
}

/// Fills in what a policy needs of the store's facts.
fn recall(
    policy: &ImagePolicy,
    scanner: &Scanner,
    scan: &mut RepositoryScan,
    holds: &Holds,
    now: Timestamp,
) -> Result<(), ScanError> {
    if policy.minimum_age.is_some() || policy.choice.is_by_date() {
        scanner.recall(scan, now)?;
    }
    if !holds.is_empty() {
        scanner.recall_listed(scan)?;
    }
    Ok(())
}

/// Asks a policy once: its decision, or the facts it lacks.
pub(super) fn choose(
    usage: &PolicyUsage,
    scanner: &Scanner,
    scan: &mut RepositoryScan,
    holds: &Holds,
    now: Timestamp,
    first: bool,
) -> Result<Result<PolicyDecision, MissingFacts>, ScanError> {
    let policy = &usage.policy;
    if policy.suspend {
        return Ok(Ok(PolicyDecision::nothing("the policy is suspended")));
    }
    if first {
        recall(policy, scanner, scan, holds, now)?;
    }
    Ok(
        match policy::choose(&input(usage, holds, now), &facts(scan)?) {
            PolicyOutcome::Chosen(chosen) => Ok(PolicyDecision::Chosen(chosen)),
            PolicyOutcome::Nothing { reason, free_at } => {
                Ok(PolicyDecision::Nothing { reason, free_at })
            }
            PolicyOutcome::Needs(missing) => Err(missing),
        },
    )
}

/// The policies of one Environment, decided one after the other.
///
/// Policies may share a scan: what one of them had fetched, the next one finds. Comparing ten
/// thousand tags is CPU-bound work, so the policies run in blocking tasks, which end only where
/// facts must be fetched.
pub(crate) struct Evaluation {
    pub(crate) scope: Arc<EnvironmentScope>,
    pub(crate) scans: Scans,
    pub(crate) held: Arc<HoldsByPolicy>,
    pub(crate) now: Timestamp,
    pub(crate) decisions: Decisions,
    /// Failures of registries and the store, once for each repository.
    pub(crate) failures: Vec<FailureReport>,
    /// Repositories whose facts are still being fetched, each with a sentence.
    pub(crate) running: BTreeMap<ImageRepository, String>,
    memory: Arc<PassMemory>,
    /// Rounds of the policy that comes next, their start, and the version of the store's facts in
    /// the first of them.
    rounds: usize,
    since: Instant,
    facts: Option<FactsVersion>,
}

impl Evaluation {
    pub(crate) fn new(
        scope: &Arc<EnvironmentScope>,
        scans: Scans,
        held: &Arc<HoldsByPolicy>,
        memory: &Arc<PassMemory>,
        now: Timestamp,
    ) -> Self {
        Self {
            scope: Arc::clone(scope),
            scans,
            held: Arc::clone(held),
            now,
            decisions: Decisions::new(),
            failures: Vec::new(),
            running: BTreeMap::new(),
            memory: Arc::clone(memory),
            rounds: 0,
            since: Instant::now(),
            facts: None,
        }
    }

    /// Decides every policy.
    pub(crate) async fn run(mut self, scanner: &Scanner) -> Self {
        loop {
            let scanner_ = scanner.clone();
            let missing;
            (self, missing) = blocking(move || {
                let missing = self.advance(&scanner_);
                (self, missing)
            })
            .await;
            let Some((name, repository, missing)) = missing else {
                return self;
            };
            let Some(scan) = self.scans.get_mut(&repository) else {
                return self;
            };
            match scanner.answer(scan, &missing, self.now).await {
                Ok(()) => self.rounds += 1,
                Err(error) => {
                    let decision = self.failed(&repository, &error);
                    self.decided(&name, decision);
                }
            }
            let is_late = self
                .scans
                .get(&repository)
                .is_some_and(|scan| self.since.elapsed() > scan.timeout);
            if self.rounds == ROUNDS || self.rounds > 0 && is_late {
                self.decided(&name, PolicyDecision::nothing(COLLECTING));
            }
        }
    }

    /// Decides policies until one of them lacks facts.
    fn advance(&mut self, scanner: &Scanner) -> Option<(Name, ImageRepository, MissingFacts)> {
        let scope = Arc::clone(&self.scope);
        let none = Holds::default();
        for (name, usage) in scope.policies.iter().skip(self.decisions.len()) {
            let image = &usage.policy.image;
            let held = Arc::clone(&self.held);
            let holds = held.get(name).unwrap_or(&none);
            let decision = if self.scans.contains_key(image) && !usage.policy.suspend {
                match self.decide(usage, holds, scanner) {
                    Ok(Ok(decision)) => decision,
                    Ok(Err(missing)) => return Some((name.clone(), image.clone(), missing)),
                    Err(error) => self.failed(image, &error),
                }
            } else if usage.policy.suspend {
                PolicyDecision::nothing("the policy is suspended")
            } else {
                PolicyDecision::nothing("its repository could not be scanned")
            };
            self.decided(name, decision);
        }
        None
    }

    /// Decides one policy whose repository was scanned, from memory if nothing has changed.
    fn decide(
        &mut self,
        usage: &Arc<PolicyUsage>,
        holds: &Holds,
        scanner: &Scanner,
    ) -> Result<Result<PolicyDecision, MissingFacts>, ScanError> {
        let Some(scan) = self.scans.get_mut(&usage.policy.image) else {
            return Ok(Ok(PolicyDecision::nothing(COLLECTING)));
        };
        let first = self.rounds == 0;
        if first {
            // Before the facts themselves: what is added meanwhile then counts as a change.
            self.facts = facts_version(&usage.policy, scanner);
        }
        let question = MemoryQuestion {
            environment: &self.scope.environment.name,
            usage,
            holds,
            facts: self.facts,
            now: self.now,
        };
        if first && let Some(decision) = self.memory.decision(&question, scan) {
            if usage.policy.choice.is_by_date() {
                // The edits compare the dates of present tags.
                scanner.recall(scan, self.now)?;
            }
            return Ok(Ok(decision));
        }
        self.memory.count_decision();
        let chosen = choose(usage, scanner, scan, holds, self.now, first)?;
        if let Ok(decision) = &chosen {
            self.memory.keep_decision(&question, scan, decision);
        }
        Ok(chosen)
    }

    pub(crate) fn decided(&mut self, name: &Name, decision: PolicyDecision) {
        self.decisions.insert(name.clone(), decision);
        self.rounds = 0;
        self.since = Instant::now();
        self.facts = None;
    }

    /// Notes a failure, and returns the decision that follows from it.
    pub(crate) fn failed(
        &mut self,
        repository: &ImageRepository,
        error: &ScanError,
    ) -> PolicyDecision {
        let failure = FailureReport::new(error).of(repository);
        let reason = failure.message.clone();
        if matches!(error, ScanError::Running { .. }) {
            // Without its scan, no other Environment waits for the registry in this pass.
            self.scans.remove(repository);
            self.running.insert(repository.clone(), reason.clone());
        } else if !self.failures.contains(&failure) {
            self.failures.push(failure);
        }
        PolicyDecision::nothing(reason)
    }
}

/// The policy of a row in a report, with what it was decided under.
#[derive(Clone, Copy)]
pub(crate) struct RowInputs<'r> {
    pub(crate) environment: &'r str,
    pub(crate) usage: &'r Arc<PolicyUsage>,
    pub(crate) decision: Option<&'r PolicyDecision>,
    pub(crate) holds: &'r Holds,
    pub(crate) now: Timestamp,
}

/// Returns the row of a policy in the report, from memory if nothing has changed.
///
/// # Errors
/// If the store refuses.
pub(crate) fn policy_report(
    inputs: RowInputs<'_>,
    memory: &PassMemory,
    scanner: &Scanner,
    scan: Option<&mut RepositoryScan>,
) -> Result<PolicyReport, ScanError> {
    let RowInputs {
        usage,
        holds,
        decision,
        now,
        ..
    } = inputs;
    let (Some(scan), Some(decision)) = (scan, decision) else {
        return Ok(plain_row(usage, decision, holds));
    };
    let question = MemoryQuestion {
        environment: inputs.environment,
        usage,
        holds,
        facts: facts_version(&usage.policy, scanner),
        now,
    };
    if let Some(row) = memory.row(&question, scan, decision) {
        return Ok(row);
    }
    recall(&usage.policy, scanner, scan, holds, now)?;
    let mut row = plain_row(usage, Some(decision), holds);
    row.unlisted = usage.unlisted(scan.tags.get()?);
    let chosen = row.chosen.as_ref().map(|tag| tag.as_str());
    if let Some(least) = chosen.or(usage.least()) {
        let above =
            policy::refused_above(&input(usage, holds, now), &facts(scan)?, least, usize::MAX);
        // The present tag may be the choice while a newer one is still too young.
        for (tag, refusal) in &above {
            if let Refusal::TooYoung { free_at, .. } = refusal {
                row.young.push(tag.clone());
                row.free_at = row.free_at.into_iter().chain(*free_at).min();
            }
        }
        let refused = above.iter().take(REFUSED);
        row.refused = refused
            .map(|(tag, refusal)| RefusedReport {
                tag: tag.clone(),
                reason: refusal.to_string(),
            })
            .collect();
    }
    memory.keep_row(&question, scan, decision, &row);
    Ok(row)
}

/// Returns the row of a policy without what its tag list adds.
pub(crate) fn plain_row(
    usage: &PolicyUsage,
    decision: Option<&PolicyDecision>,
    holds: &Holds,
) -> PolicyReport {
    let policy = &usage.policy;
    let mut row = PolicyReport {
        name: policy.name.clone(),
        repository: policy.image.clone(),
        present: usage.tags.iter().cloned().collect(),
        unlisted: Vec::new(),
        chosen: None,
        digest: None,
        reason: None,
        refused: Vec::new(),
        free_at: None,
        held: holds
            .iter()
            .map(|hold| format!("{}: {hold}", hold.value))
            .collect(),
        young: Vec::new(),
        unknown: false,
        suspended: policy.suspend,
    };
    match decision {
        Some(PolicyDecision::Chosen(chosen)) => {
            row.chosen = Some(chosen.tag.clone());
            row.digest = chosen.digest.clone();
        }
        Some(PolicyDecision::Nothing { reason, free_at }) => {
            row.unknown = reason == COLLECTING;
            row.reason = Some(reason.clone());
            row.free_at = *free_at;
        }
        None => {}
    }
    row
}
