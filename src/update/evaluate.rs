//! Decisions of policies, and the edits that they make in the files of an Environment.

use super::{
    Scans, blocking,
    report::{FailureReport, LeftReport, PolicyReport, RefusedReport},
};
use crate::{
    core::{
        image::{Digest, ImageRepository},
        name::Name,
    },
    images::{
        policy::{
            self, Chosen, Comparison, Holds, MissingFacts, PolicyInput, PolicyOutcome, Refusal,
            RegistryFacts,
        },
        rewrite::{self, Choices, LeaveReason, RewriteDecision, UpdateDirection},
        scope::{EnvironmentScope, PolicyUsage, ReferencedFile},
    },
    io::{
        facts::{RepositoryScan, ScanError, Scanner},
        git::RepoPath,
    },
    review::FileEdits,
    spec::{Declarations, ImagePolicy, ReferenceScope},
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

/// Rounds of missing facts that one policy gets in a pass: twenty batches of dates, or as many tags
/// without the wanted platforms. The next pass continues from what the store has kept.
pub(super) const ROUNDS: usize = 20;

/// Reason of a policy that used up its rounds.
pub(super) const COLLECTING: &str =
    "facts of many tags are still being collected; the next pass goes on";

/// Refused tags that a report names for each policy.
const REFUSED: usize = 5;

/// The outcome of a policy in a pass.
#[derive(Debug, Clone)]
pub enum PolicyDecision {
    Chosen(Chosen),
    Nothing {
        reason: String,
        /// When the first tag that is only too young becomes old enough.
        free_at: Option<Timestamp>,
    },
}

/// Holds of each policy of an Environment.
pub(crate) type HoldsByPolicy = BTreeMap<Name, Holds>;

/// Decisions of each policy of an Environment.
pub(crate) type Decisions = BTreeMap<Name, PolicyDecision>;

impl PolicyDecision {
    /// A decision for nothing, with a reason that does not end by itself.
    pub fn nothing(reason: impl Into<String>) -> Self {
        PolicyDecision::Nothing {
            reason: reason.into(),
            free_at: None,
        }
    }
}

/// The edits in the files of an Environment, with what is left alone.
#[derive(Debug, Default)]
pub(super) struct ScopeEdits {
    pub files: Vec<FileEdits>,
    pub left: Vec<LeftReport>,
    /// Policies whose choice cannot be written before its digest is known.
    pub needs_digest: BTreeSet<Name>,
}

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

/// Returns the facts of a scan.
pub(super) fn facts(scan: &RepositoryScan) -> RegistryFacts<'_> {
    RegistryFacts {
        tags: &scan.tags,
        details: &scan.details,
    }
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
    let goes_by_time = policy.minimum_age.is_some() || policy.choice.is_by_date();
    if first && goes_by_time {
        scanner.recall(scan, now)?;
    }
    if first && !holds.is_empty() {
        scanner.recall_listed(scan)?;
    }
    Ok(
        match policy::choose(&input(usage, holds, now), &facts(scan)) {
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
    /// Rounds of the policy that comes next, and their start.
    rounds: usize,
    since: Instant,
}

impl Evaluation {
    pub(crate) fn new(
        scope: &Arc<EnvironmentScope>,
        scans: Scans,
        held: &Arc<HoldsByPolicy>,
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
            rounds: 0,
            since: Instant::now(),
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
            let decision = match self.scans.get_mut(image) {
                None if usage.policy.suspend => PolicyDecision::nothing("the policy is suspended"),
                None => PolicyDecision::nothing("its repository could not be scanned"),
                Some(scan) => {
                    match choose(usage, scanner, scan, holds, self.now, self.rounds == 0) {
                        Ok(Ok(decision)) => decision,
                        Ok(Err(missing)) => return Some((name.clone(), image.clone(), missing)),
                        Err(error) => self.failed(image, &error),
                    }
                }
            };
            self.decided(name, decision);
        }
        None
    }

    pub(crate) fn decided(&mut self, name: &Name, decision: PolicyDecision) {
        self.decisions.insert(name.clone(), decision);
        self.rounds = 0;
        self.since = Instant::now();
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

/// Edits the files of an Environment. `read` returns the bytes of a file.
///
/// # Errors
/// Those of `read`.
pub(super) fn edit<E>(
    scope: &EnvironmentScope,
    declared: &Declarations,
    decisions: &BTreeMap<Name, PolicyDecision>,
    scans: &Scans,
    mut read: impl FnMut(&ReferencedFile) -> Result<Vec<u8>, E>,
) -> Result<ScopeEdits, E> {
    let choices = choices(scope, declared, decisions, scans);
    let mut edits = ScopeEdits::default();
    for file in scope.files() {
        let references = &file.findings.references;
        let bytes = if rewrite::may_edit(references, &choices) {
            read(file)?
        } else {
            Vec::new()
        };
        let outcome = rewrite::rewrite(&bytes, references, &choices);
        edits.needs_digest.extend(outcome.needs_digest().cloned());
        edits.left.extend(
            outcome
                .left
                .into_iter()
                .filter(|left| left.reason != LeaveReason::NoPolicy)
                .map(|left| LeftReport {
                    file: file.path.clone(),
                    line: left.line,
                    column: left.column,
                    code: left.reason.code(),
                    reason: left.reason.to_string(),
                    policy: left.policy,
                }),
        );
        if outcome.edits.is_empty() {
            continue;
        }
        // A file that cannot be written is left alone; the others go on.
        if let Err(error) = RepoPath::new(&file.path) {
            edits
                .left
                .extend(outcome.changes.into_iter().map(|change| LeftReport {
                    file: file.path.clone(),
                    line: change.line,
                    column: change.column,
                    code: LeaveReason::Unwritable.code(),
                    reason: format!("its file cannot be written: {error}"),
                    policy: Some(change.policy),
                }));
        } else {
            edits.files.push(FileEdits {
                path: file.path.clone(),
                source: bytes,
                edits: outcome.edits.into_iter().zip(outcome.changes).collect(),
            });
        }
    }
    Ok(edits)
}

fn choices<'c>(
    scope: &'c EnvironmentScope,
    declared: &'c Declarations,
    decisions: &BTreeMap<Name, PolicyDecision>,
    scans: &Scans,
) -> Choices<'c> {
    let environment = &scope.environment;
    let mut choices = Choices::new(environment.references == ReferenceScope::Auto);
    for policy in declared.policies.values() {
        let name = policy.name.clone();
        if !environment.selects(policy) {
            choices.add_nothing(
                name,
                None,
                format!(
                    "the Environment {} does not select this policy",
                    environment.name
                ),
            );
            continue;
        }
        let chosen = match decisions.get(&policy.name) {
            Some(PolicyDecision::Chosen(chosen)) => chosen,
            Some(PolicyDecision::Nothing { reason, .. }) => {
                choices.add_nothing(name, Some(policy.image.clone()), reason);
                continue;
            }
            None => {
                let reason = "the policy was not evaluated";
                choices.add_nothing(name, Some(policy.image.clone()), reason);
                continue;
            }
        };
        let scan = scans.get(&policy.image);
        let tags = scan.map(|scan| Arc::clone(&scan.tags));
        let mut decision = rewrite_decision(
            policy,
            chosen,
            environment.allow_downgrade,
            move |present| tags.as_ref().is_some_and(|tags| tags.contains(present)),
        );
        if policy.choice.is_by_date() {
            let later = created_later(scope, policy, chosen, scan);
            let compare = decision.compare;
            decision.compare = Box::new(move |present| {
                if later.contains(present) {
                    UpdateDirection::Lower
                } else {
                    compare(present)
                }
            });
        }
        choices.add(decision);
    }
    choices
}

/// Returns the present tags of a `newest` policy whose images are newer than the chosen one.
///
/// That is the policy's own order, which the texts of tags do not show.
fn created_later(
    scope: &EnvironmentScope,
    policy: &ImagePolicy,
    chosen: &Chosen,
    scan: Option<&RepositoryScan>,
) -> BTreeSet<String> {
    let created = |tag: &str| scan?.details.get(tag)?.created.flatten();
    let (Some(usage), Some(limit)) = (
        scope.policies.get(&policy.name),
        created(chosen.tag.as_str()),
    ) else {
        return BTreeSet::new();
    };
    usage
        .tags
        .iter()
        .filter(|tag| created(tag).is_some_and(|time| time > limit))
        .cloned()
        .collect()
}

/// Returns what the rewriter needs to write a choice. `listed` tells whether the registry still
/// lists a present tag.
pub fn rewrite_decision<'p>(
    policy: &'p ImagePolicy,
    chosen: &Chosen,
    allow_downgrade: bool,
    listed: impl Fn(&str) -> bool + Send + Sync + 'p,
) -> RewriteDecision<'p> {
    let tag = chosen.tag.clone();
    RewriteDecision {
        policy: policy.name.clone(),
        repository: policy.image.clone(),
        tag: chosen.tag.clone(),
        digest: chosen.digest.clone(),
        digest_reflection: policy.reflect,
        unpin: false,
        allow_downgrade,
        compare: Box::new(
            move |present| match policy::standing(policy, present, tag.as_str()) {
                Comparison::Newer => UpdateDirection::Newer,
                Comparison::Equal => UpdateDirection::Equal {
                    listed: listed(present),
                },
                Comparison::Lower => UpdateDirection::Lower,
                // A digest alone may belong to any tag of the repository; a policy that follows a
                // digest replaces it.
                Comparison::Unorderable
                    if Digest::new(present).is_ok() && policy.choice.followed().is_some() =>
                {
                    UpdateDirection::Newer
                }
                Comparison::Unorderable => UpdateDirection::Unorderable,
            },
        ),
    }
}

/// Returns the row of a policy in the report.
pub(crate) fn policy_report(
    usage: &PolicyUsage,
    decision: Option<&PolicyDecision>,
    scan: Option<&RepositoryScan>,
    holds: &Holds,
    now: Timestamp,
) -> PolicyReport {
    let policy = &usage.policy;
    let mut report = PolicyReport {
        name: policy.name.clone(),
        repository: policy.image.clone(),
        present: usage.tags.iter().cloned().collect(),
        unlisted: scan.map_or_else(Vec::new, |scan| usage.unlisted(&scan.tags)),
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
            report.chosen = Some(chosen.tag.clone());
            report.digest = chosen.digest.clone();
        }
        Some(PolicyDecision::Nothing { reason, free_at }) => {
            report.unknown = reason == COLLECTING;
            report.reason = Some(reason.clone());
            report.free_at = *free_at;
        }
        None => {}
    }
    let least = report
        .chosen
        .as_ref()
        .map(|tag| tag.as_str())
        .or(usage.least());
    if let (Some(scan), Some(least)) = (scan, least) {
        let (input, facts) = (input(usage, holds, now), facts(scan));
        let above = policy::refused_above(&input, &facts, least, usize::MAX);
        // The present tag may be the choice while a newer one is still too young.
        for (tag, refusal) in &above {
            if let Refusal::TooYoung { free_at, .. } = refusal {
                report.young.push(tag.clone());
                report.free_at = report.free_at.into_iter().chain(*free_at).min();
            }
        }
        report.refused = above
            .iter()
            .take(REFUSED)
            .map(|(tag, refusal)| RefusedReport {
                tag: tag.clone(),
                reason: refusal.to_string(),
            })
            .collect();
    }
    report
}
