//! What an Environment would change: its policies decide, its files are edited, and reverts hold
//! back.

use super::{
    EnvironmentReport, EnvironmentScope, EnvironmentState, FailureReport, ImageUpdater, MoveFilter,
    PassReport, PassState, PolicyDecision, PolicyUsage, PreparedEnvironment, RepoSnapshot, Scans,
    blocking, scan::doubt,
};
use crate::images::scope::ScopeEdits;
use crate::{
    core::{image::ImageRepository, name::Name},
    images::{
        policy::{Holds, MissingFacts, holds},
        references::Needles,
    },
    io::{
        facts::ScanError,
        git::{GitError, Person},
    },
    review::{group, group_apart},
    spec::{PolicyKind, ReferenceScope, WriteMode},
};
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

impl ImageUpdater {
    /// Decides and edits, first as if nothing had ever been reverted and no tag had moved since its
    /// scan. Only where something would change are digests confirmed again, and the history is
    /// read, and decided again under what it holds back.
    pub(crate) async fn prepare(
        &self,
        world: &RepoSnapshot,
        local: &EnvironmentScope<'_>,
        pass: &mut PassState<'_>,
        report: &mut PassReport,
    ) -> Result<PreparedEnvironment, GitError> {
        let (scans, now) = (&mut pass.scans, pass.now);
        let environment = local.environment;
        let mut row = EnvironmentReport::new(&environment.name, EnvironmentState::UpToDate);
        let person = environment
            .author
            .as_ref()
            .and_then(|author| Person::new(&author.name, &author.email).ok());
        if environment.suspend {
            row.state = EnvironmentState::Suspended;
            return Ok(PreparedEnvironment {
                report: row,
                sets: Vec::new(),
                person,
            });
        }
        let nothing_held: BTreeMap<Name, Holds> = BTreeMap::new();
        let (mut decided, mut edits) = self
            .decide(world, local, scans, &nothing_held, now, report)
            .await?;
        if !edits.files.is_empty() && doubt(local, scans) {
            (decided, edits) = self
                .decide(world, local, scans, &nothing_held, now, report)
                .await?;
        }
        let mut held = nothing_held;
        if !edits.files.is_empty() {
            held = self.holds(world, local, now).await?;
            if held.values().any(|holds| !holds.is_empty()) {
                (decided, edits) = self.decide(world, local, scans, &held, now, report).await?;
            }
        }
        let none = Holds::default();
        row.policies = local
            .policies
            .iter()
            .map(|(name, present)| {
                let scan = scans.get(&present.policy.image);
                present.report(
                    decided.get(*name),
                    scan,
                    held.get(*name).unwrap_or(&none),
                    now,
                )
            })
            .collect();
        row.left = edits.left;
        let unasked = |image: &ImageRepository| {
            !scans.contains_key(image)
                || report
                    .failures
                    .iter()
                    .any(|failure| failure.repository.as_ref() == Some(image))
        };
        for (policy, present) in row.policies.iter_mut().zip(local.policies.values()) {
            policy.unknown |= !present.policy.suspend && unasked(&present.policy.image);
        }
        if row.policies.iter().any(|policy| policy.unknown) {
            row.state = EnvironmentState::Unknown;
        }
        let divide = if matches!(environment.via, WriteMode::Commit) {
            group
        } else {
            group_apart
        };
        let sets = divide(&environment.name, environment.group, &edits.files);
        Ok(PreparedEnvironment {
            report: row,
            sets,
            person,
        })
    }

    /// Every policy of an Environment decides, and the files are edited; digests that only the
    /// files ask for are looked up on the way.
    async fn decide(
        &self,
        world: &RepoSnapshot,
        local: &EnvironmentScope<'_>,
        scans: &mut Scans,
        held: &BTreeMap<Name, Holds>,
        now: Timestamp,
        report: &mut PassReport,
    ) -> Result<(BTreeMap<Name, PolicyDecision>, ScopeEdits), GitError> {
        let mut decided: BTreeMap<Name, PolicyDecision> = BTreeMap::new();
        let none = Holds::default();
        for (name, present) in &local.policies {
            let decision = match scans.get_mut(&present.policy.image) {
                None if present.policy.suspend => {
                    PolicyDecision::nothing("the policy is suspended")
                }
                None => PolicyDecision::nothing("its repository could not be scanned"),
                Some(scan) => {
                    let holds = held.get(*name).unwrap_or(&none);
                    match present.decide(&self.scanner, scan, holds, now).await {
                        Ok(decision) => decision,
                        Err(error) => failed(report, &present.policy.image, &error),
                    }
                }
            };
            decided.insert((*name).clone(), decision);
        }
        let mut edits = self.edit(world, local, &decided, scans)?;
        // A choice gets its digest once; what is still missing then is left alone, with that
        // reason.
        for name in std::mem::take(&mut edits.needs_digest) {
            let (Some(present), Some(PolicyDecision::Chosen(chosen))) =
                (local.policies.get(&name), decided.get_mut(&name))
            else {
                continue;
            };
            let Some(scan) = scans.get_mut(&present.policy.image) else {
                continue;
            };
            let needs = MissingFacts {
                digests: vec![chosen.tag.clone()],
                ..MissingFacts::default()
            };
            match self.scanner.answer(scan, &needs, now).await {
                Ok(()) => {
                    let digest = scan
                        .details
                        .get(chosen.tag.as_str())
                        .and_then(|details| details.digest.clone());
                    let holds = held.get(&name).unwrap_or(&none);
                    let hold = digest
                        .as_ref()
                        .and_then(|digest| holds.holding(present.policy, digest.as_str()));
                    if let Some(hold) = hold {
                        let nothing = PolicyDecision::nothing(format!(
                            "the digest of {} is held: {hold}",
                            chosen.tag
                        ));
                        decided.insert(name, nothing);
                    } else {
                        chosen.digest = digest;
                    }
                }
                Err(error) => {
                    let nothing = failed(report, &present.policy.image, &error);
                    decided.insert(name, nothing);
                }
            }
            edits.needs_digest.clear();
        }
        let edits = if edits.left.iter().any(|left| left.code == "needs-digest") {
            self.edit(world, local, &decided, scans)?
        } else {
            edits
        };
        Ok((decided, edits))
    }

    pub(crate) fn edit(
        &self,
        world: &RepoSnapshot,
        local: &EnvironmentScope<'_>,
        decided: &BTreeMap<Name, PolicyDecision>,
        scans: &Scans,
    ) -> Result<ScopeEdits, GitError> {
        let revision = self.mirror.at(world.commit)?;
        local.edits(world, decided, scans, |file| match file.blob {
            Some(blob) => revision.blob(blob),
            None => Ok(revision
                .read(&file.path)?
                .map(|found| found.bytes)
                .unwrap_or_default()),
        })
    }

    /// What reverts hold back, for each policy of an Environment.
    pub async fn holds(
        &self,
        world: &RepoSnapshot,
        local: &EnvironmentScope<'_>,
        now: Timestamp,
    ) -> Result<BTreeMap<Name, Holds>, GitError> {
        let (mirror, memory, commit) = (
            Arc::clone(&self.mirror),
            Arc::clone(&self.memory),
            world.commit,
        );
        let needles = Needles::new(world.declared.policies.values().map(|policy| &policy.image));
        let walked = blocking(move || {
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.1.walk(&mirror, commit, &needles, now)
        });
        walked.await?;
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let contains = |path: &str| local.environment.paths.contains(path);
        let of = |present: &PolicyUsage<'_>| {
            let policy = present.policy;
            let wanted = MoveFilter {
                policy: &policy.name,
                repository: &policy.image,
                automatic: local.environment.references == ReferenceScope::Auto,
                digests: matches!(policy.choice, PolicyKind::Digest(_)),
                contains: &contains,
            };
            holds(
                policy,
                &self.moves(&local.environment.name, policy, &memory.1, &wanted),
            )
        };
        Ok(local
            .policies
            .iter()
            .map(|(name, present)| ((*name).clone(), of(present)))
            .collect())
    }
}

fn failed(
    report: &mut PassReport,
    repository: &ImageRepository,
    error: &ScanError,
) -> PolicyDecision {
    let failure = FailureReport::new(error).of(repository);
    let reason = failure.message.clone();
    if !report.failures.contains(&failure) {
        report.failures.push(failure);
    }
    PolicyDecision::nothing(reason)
}
