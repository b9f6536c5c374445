//! The choices of one Environment and the edits they come to.

use crate::update::{
    history::digest,
    report::{LeftReport, PolicyReport, RefusedReport},
    snapshot::{ReferencedFile, RepoSnapshot},
};
use crate::{
    core::{
        image::{Digest, ImageRepository},
        name::Name,
    },
    images::{
        policy::{
            self, Chosen, Comparison, Holds, PolicyInput, PolicyOutcome, Refusal, RegistryFacts,
        },
        references::{Reference, ReferenceOrigin},
        rewrite::{self, Choices, LeaveReason, RewriteDecision, UpdateDirection},
    },
    io::facts::{RepositoryScan, ScanError, Scanner},
    review::FileEdits,
    spec::{Declarations, Environment, ImagePolicy, PolicyKind, ReferenceScope},
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Questions a policy may ask in one pass: twenty batches of dates, or as many tags without the
/// wanted platforms. What is not answered by then goes on in the next pass, from what the store
/// keeps.
const ROUNDS: usize = 20;

/// What is said when there were more questions than a pass asks.
const COLLECTING: &str = "facts of many tags are still being collected; the next pass goes on";

/// How many refused tags a report names for each policy.
const REFUSED: usize = 5;

/// The policies of an Environment that have references in its files, with the values that stand
/// there.
pub struct EnvironmentScope<'w> {
    pub environment: &'w Environment,
    pub files: Vec<&'w ReferencedFile>,
    /// The policies, each with its present values.
    pub policies: BTreeMap<&'w Name, PolicyUsage<'w>>,
}

/// A policy with what stands in the files.
pub struct PolicyUsage<'w> {
    pub policy: &'w ImagePolicy,
    /// The tags, each once.
    pub tags: BTreeSet<String>,
    /// The digests, each once.
    pub digests: BTreeSet<String>,
}

/// What a policy decided.
#[derive(Debug, Clone)]
pub enum PolicyDecision {
    Chosen(Chosen),
    Nothing {
        reason: String,
        free_at: Option<Timestamp>,
    },
}

impl<'w> EnvironmentScope<'w> {
    /// Finds what belongs to an Environment. `excluded` files belong to several, so to none.
    pub fn new(
        declared: &'w Declarations,
        files: &'w [ReferencedFile],
        environment: &'w Environment,
        excluded: &BTreeSet<String>,
    ) -> Self {
        let files: Vec<&ReferencedFile> = files
            .iter()
            .filter(|file| {
                file.regular
                    && environment.paths.contains(&file.path)
                    && !excluded.contains(&file.path)
            })
            .collect();
        let automatic = environment.references == ReferenceScope::Auto;
        let selected: Vec<&ImagePolicy> = declared
            .policies
            .values()
            .filter(|policy| environment.selects(policy))
            .collect();
        let mut by_repository: HashMap<&ImageRepository, Vec<&ImagePolicy>> = HashMap::new();
        for policy in &selected {
            by_repository.entry(&policy.image).or_default().push(policy);
        }
        let mut policies: BTreeMap<&Name, PolicyUsage<'w>> = BTreeMap::new();
        for reference in files.iter().flat_map(|file| &file.findings.references) {
            let matching: Vec<&ImagePolicy> = match &reference.why {
                ReferenceOrigin::Marker { policy, .. } => selected
                    .iter()
                    .filter(|known| known.name == *policy)
                    .copied()
                    .collect(),
                _ if automatic => reference
                    .repository
                    .as_ref()
                    .and_then(|repository| by_repository.get(repository))
                    .cloned()
                    .unwrap_or_default(),
                _ => Vec::new(),
            };
            for policy in matching {
                let present = policies
                    .entry(&policy.name)
                    .or_insert_with(|| PolicyUsage::of(policy));
                present.tags.extend(reference.tag());
                present.digests.extend(digest(reference));
            }
        }
        Self {
            environment,
            files,
            policies,
        }
    }

    /// The edits of the Environment's files under these decisions, and what is left alone. The
    /// third: policies whose choice cannot be written until its digest is known. `read` gives the
    /// bytes of a file.
    pub fn edits<E>(
        &self,
        world: &RepoSnapshot,
        decided: &BTreeMap<Name, PolicyDecision>,
        tags: &HashMap<ImageRepository, RepositoryScan>,
        mut read: impl FnMut(&ReferencedFile) -> Result<Vec<u8>, E>,
    ) -> Result<ScopeEdits, E> {
        let choices = self.choices(world, decided, tags);
        let mut edits = ScopeEdits::default();
        for file in &self.files {
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
            if !outcome.edits.is_empty() {
                let edited = outcome.edits.into_iter().zip(outcome.changes).collect();
                edits.files.push(FileEdits {
                    path: file.path.clone(),
                    source: bytes,
                    edits: edited,
                });
            }
        }
        Ok(edits)
    }

    fn choices<'c>(
        &'c self,
        world: &'c RepoSnapshot,
        decided: &BTreeMap<Name, PolicyDecision>,
        scans: &HashMap<ImageRepository, RepositoryScan>,
    ) -> Choices<'c> {
        let mut choices = Choices::new(self.environment.references == ReferenceScope::Auto);
        for policy in world.declared.policies.values() {
            let name = policy.name.clone();
            if !self.environment.selects(policy) {
                choices.add_nothing(
                    name,
                    None,
                    format!(
                        "the Environment {} does not select this policy",
                        self.environment.name
                    ),
                );
                continue;
            }
            let chosen = match decided.get(&policy.name) {
                Some(PolicyDecision::Chosen(chosen)) => chosen,
                Some(PolicyDecision::Nothing { reason, .. }) => {
                    choices.add_nothing(name, Some(policy.image.clone()), reason);
                    continue;
                }
                None => {
                    choices.add_nothing(
                        name,
                        Some(policy.image.clone()),
                        "the policy was not asked",
                    );
                    continue;
                }
            };
            let scan = scans.get(&policy.image);
            let tags = scan.map(|scan| Arc::clone(&scan.tags));
            let mut decision = decision(
                policy,
                chosen,
                self.environment.allow_downgrade,
                move |present| tags.as_ref().is_some_and(|tags| tags.contains(present)),
            );
            if matches!(policy.choice, PolicyKind::Newest) {
                let later = self.created_later(policy, chosen, scan);
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

    /// The present tags of a `newest` policy whose images were created after the chosen one: the
    /// policy's own order, which the texts of tags do not show.
    fn created_later(
        &self,
        policy: &ImagePolicy,
        chosen: &Chosen,
        scan: Option<&RepositoryScan>,
    ) -> BTreeSet<String> {
        let created = |tag: &str| scan?.details.get(tag)?.created.flatten();
        let (Some(present), Some(limit)) = (
            self.policies.get(&policy.name),
            created(chosen.tag.as_str()),
        ) else {
            return BTreeSet::new();
        };
        present
            .tags
            .iter()
            .filter(|tag| created(tag).is_some_and(|time| time > limit))
            .cloned()
            .collect()
    }
}

/// What writing a choice takes.
pub fn decision<'p>(
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
                // A digest alone stands for any tag of the repository; following one replaces it.
                Comparison::Unorderable
                    if Digest::new(present).is_ok()
                        && matches!(policy.choice, PolicyKind::Digest(_)) =>
                {
                    UpdateDirection::Newer
                }
                Comparison::Unorderable => UpdateDirection::Unorderable,
            },
        ),
    }
}

/// What rewriting the files of an Environment comes to.
#[derive(Debug, Default)]
pub struct ScopeEdits {
    pub files: Vec<FileEdits>,
    pub left: Vec<LeftReport>,
    /// Policies whose choice waits for its digest.
    pub needs_digest: BTreeSet<Name>,
}

impl<'w> PolicyUsage<'w> {
    fn of(policy: &'w ImagePolicy) -> Self {
        Self {
            policy,
            tags: BTreeSet::new(),
            digests: BTreeSet::new(),
        }
    }

    /// The least value that the policy can order: clocks are kept for tags above it. For a digest
    /// policy the digest that stands everywhere.
    pub fn least(&self) -> Option<&str> {
        if matches!(self.policy.choice, PolicyKind::Digest(_)) {
            return self
                .digests
                .first()
                .filter(|_| self.digests.len() == 1)
                .map(String::as_str);
        }
        self.tags
            .iter()
            .filter(|tag| policy::orders(self.policy, tag))
            .map(String::as_str)
            .reduce(|least, tag| {
                if policy::standing(self.policy, least, tag) == Comparison::Lower {
                    tag
                } else {
                    least
                }
            })
    }

    /// Asks the policy, answering what it needs.
    ///
    /// # Errors
    /// If the registry or the store cannot be asked: then nothing is decided.
    pub async fn decide(
        &self,
        scanner: &Scanner,
        scan: &mut RepositoryScan,
        holds: &Holds,
        now: Timestamp,
    ) -> Result<PolicyDecision, ScanError> {
        if self.policy.suspend {
            return Ok(PolicyDecision::nothing("the policy is suspended"));
        }
        if self.policy.minimum_age.is_some() || matches!(self.policy.choice, PolicyKind::Newest) {
            scanner.recall(scan)?;
        }
        for _ in 0..ROUNDS {
            let question = PolicyInput {
                policy: self.policy,
                present: self.least(),
                holds,
                now,
            };
            match policy::choose(
                &question,
                &RegistryFacts {
                    tags: &scan.tags,
                    details: &scan.details,
                },
            ) {
                PolicyOutcome::Chosen(chosen) => return Ok(PolicyDecision::Chosen(chosen)),
                PolicyOutcome::Nothing { reason, free_at } => {
                    return Ok(PolicyDecision::Nothing { reason, free_at });
                }
                PolicyOutcome::Needs(needs) => scanner.answer(scan, &needs, now).await?,
            }
        }
        Ok(PolicyDecision::nothing(COLLECTING))
    }

    /// The row of the report.
    pub fn report(
        &self,
        decided: Option<&PolicyDecision>,
        scan: Option<&RepositoryScan>,
        holds: &Holds,
        now: Timestamp,
    ) -> PolicyReport {
        let mut report = PolicyReport {
            name: self.policy.name.clone(),
            repository: self.policy.image.clone(),
            present: self.tags.iter().cloned().collect(),
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
            suspended: self.policy.suspend,
        };
        match decided {
            Some(PolicyDecision::Chosen(chosen)) => {
                (report.chosen, report.digest) = (Some(chosen.tag.clone()), chosen.digest.clone())
            }
            Some(PolicyDecision::Nothing { reason, free_at }) => {
                (report.reason, report.free_at) = (Some(reason.clone()), *free_at);
                report.unknown = reason == COLLECTING;
            }
            None => {}
        }
        let least = report
            .chosen
            .as_ref()
            .map(|tag| tag.as_str())
            .or(self.least());
        if let (Some(scan), Some(least)) = (scan, least) {
            let question = PolicyInput {
                policy: self.policy,
                present: self.least(),
                holds,
                now,
            };
            let facts = RegistryFacts {
                tags: &scan.tags,
                details: &scan.details,
            };
            let above = policy::refused_above(&question, &facts, least, usize::MAX);
            let young = above
                .iter()
                .filter(|(_, refusal)| matches!(refusal, Refusal::TooYoung { .. }));
            report.young = young.map(|(tag, _)| tag.clone()).collect();
            // What stands there may be chosen while something newer still waits.
            let waiting = above.iter().filter_map(|(_, refusal)| match refusal {
                Refusal::TooYoung { free_at, .. } => *free_at,
                _ => None,
            });
            report.free_at = report.free_at.into_iter().chain(waiting).min();
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
}

impl PolicyDecision {
    pub fn nothing(reason: impl Into<String>) -> Self {
        PolicyDecision::Nothing {
            reason: reason.into(),
            free_at: None,
        }
    }
}

/// Whether a reference has anything to do with a policy: by its marker or its repository.
pub fn concerns(reference: &Reference, policy: &ImagePolicy) -> bool {
    match &reference.why {
        ReferenceOrigin::Marker { policy: name, .. } => *name == policy.name,
        _ => reference.repository.as_ref() == Some(&policy.image),
    }
}
