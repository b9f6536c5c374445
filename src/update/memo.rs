//! Decisions of earlier passes, each with everything it was made from: a pass judges the tags of
//! a policy only if one of these has changed.
//!
//! An entry is compared, never looked up by a hash of its inputs, and holds no more than one pass
//! needs: what the last pass did not use is forgotten.

use super::{
    PolicyReport, Scans,
    decision::{Decisions, PolicyDecision},
    report::{EnvironmentReport, LeftReport},
};
use crate::{
    core::name::Name,
    images::{
        policy::{Holds, TagFacts},
        scope::{EnvironmentScope, PolicyUsage},
    },
    io::{
        facts::{RepositoryScan, Scanner},
        store::{FactsVersion, ListVersion},
    },
    spec::ImagePolicy,
};
use jiff::Timestamp;
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

/// Policies remembered, each once for every Environment that uses it: some kilobytes each. Further
/// ones are judged in every pass.
const MOST_POLICIES: usize = 20_000;

/// Confirmed tags of a repository that are compared; a decision with more is not remembered.
const MOST_CONFIRMED: usize = 64;

/// Tags that a remembered row may name.
const MOST_NAMED: usize = 1_000;

/// Decisions and edits of earlier passes, and the count of those that had to be made.
#[derive(Debug, Default)]
pub(crate) struct PassMemory {
    environments: Mutex<HashMap<String, RememberedEnvironment>>,
    decided: AtomicU64,
    explained: AtomicU64,
    edited: AtomicU64,
}

/// The work of all passes of a repository so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassWork {
    /// Tag lists from which a policy had to choose.
    pub decisions: u64,
    /// Tag lists that were judged tag by tag, for the reasons in a report.
    pub explanations: u64,
    /// Files whose references were compared with decisions.
    pub files: u64,
    /// Tag lists that were read from the store.
    pub lists: u64,
}

#[derive(Debug, Default)]
struct RememberedEnvironment {
    policies: HashMap<Name, RememberedPolicy>,
    edits: Option<RememberedEdits>,
}

#[derive(Debug, Default)]
struct RememberedPolicy {
    /// The decision as if nothing had been reverted, which comes first in each pass.
    free: Option<(DecisionInputs, PolicyDecision)>,
    /// The decision under holds.
    held: Option<(DecisionInputs, PolicyDecision)>,
    row: Option<(DecisionInputs, PolicyDecision, PolicyReport)>,
}

/// Everything that a decision is made from.
#[derive(Debug)]
pub(crate) struct DecisionInputs {
    usage: Arc<PolicyUsage>,
    holds: Holds,
    tags: ListVersion,
    /// The store's facts, for policies that go by them.
    facts: Option<FactsVersion>,
    /// Tags that the registry has confirmed in the pass, or in that of the last scan.
    confirmed: HashMap<String, TagFacts>,
    /// The time of the decision, and the time from which an age or a date can change it; none for
    /// policies without a clock.
    clock: Option<(Timestamp, Option<Timestamp>)>,
}

/// The question of a pass to its memory.
#[derive(Clone, Copy)]
pub(crate) struct MemoryQuestion<'q> {
    pub(crate) environment: &'q str,
    pub(crate) usage: &'q Arc<PolicyUsage>,
    pub(crate) holds: &'q Holds,
    pub(crate) facts: Option<FactsVersion>,
    pub(crate) now: Timestamp,
}

/// The edits of an Environment whose files are up to date.
#[derive(Debug)]
struct RememberedEdits {
    /// Compared by its address, which it keeps.
    scope: Weak<EnvironmentScope>,
    decisions: Decisions,
    tags: Vec<Option<ListVersion>>,
    left: Vec<LeftReport>,
}

/// Returns the version of the store's facts, if a policy goes by them.
pub(crate) fn facts_version(policy: &ImagePolicy, scanner: &Scanner) -> Option<FactsVersion> {
    let goes_by_facts =
        policy.minimum_age.is_some() || policy.choice.is_by_date() || !policy.platforms.is_empty();
    goes_by_facts.then(|| scanner.store.facts_version(&policy.image))
}

impl<'q> MemoryQuestion<'q> {
    fn name(&self) -> &'q Name {
        &self.usage.policy.name
    }

    /// Returns the inputs of a decision that is made now; none if they are too many.
    fn inputs(&self, scan: &RepositoryScan) -> Option<DecisionInputs> {
        let confirmed = confirmed(scan).map(|(tag, facts)| (tag.clone(), facts.clone()));
        let confirmed: HashMap<_, _> = confirmed.take(MOST_CONFIRMED + 1).collect();
        (confirmed.len() <= MOST_CONFIRMED).then(|| DecisionInputs {
            usage: Arc::clone(self.usage),
            holds: self.holds.clone(),
            tags: scan.tags.version(),
            facts: self.facts,
            confirmed,
            clock: clock(&self.usage.policy, scan, self.now),
        })
    }
}

impl DecisionInputs {
    /// Returns whether a decision that is made now is made from the same.
    fn are_those_of(&self, question: &MemoryQuestion<'_>, scan: &RepositoryScan) -> bool {
        let same_usage =
            Arc::ptr_eq(&self.usage, question.usage) || self.usage.decides_like(question.usage);
        let is_confirmed =
            |(tag, facts): (&String, &TagFacts)| self.confirmed.get(tag) == Some(facts);
        same_usage
            && self.tags == scan.tags.version()
            && self.facts == question.facts
            && self.holds == *question.holds
            && self.clock.is_none_or(|(from, until)| {
                from <= question.now && until.is_none_or(|until| question.now < until)
            })
            && confirmed(scan).all(is_confirmed)
            && confirmed(scan).count() == self.confirmed.len()
    }
}

fn confirmed(scan: &RepositoryScan) -> impl Iterator<Item = (&String, &TagFacts)> {
    scan.details.iter().filter(|(_, facts)| facts.fresh)
}

/// Returns the time within which the clock changes nothing: from now until the first tag is old
/// enough, or a creation date ahead of the clock is believed. None for policies without a clock.
fn clock(
    policy: &ImagePolicy,
    scan: &RepositoryScan,
    now: Timestamp,
) -> Option<(Timestamp, Option<Timestamp>)> {
    if policy.minimum_age.is_none() && !policy.choice.is_by_date() {
        return None;
    }
    let old_enough = policy.minimum_age.into_iter().flat_map(|age| {
        let since = scan.details.values().filter_map(|facts| facts.since);
        since.filter_map(move |since| since.checked_add(age).ok())
    });
    let until = old_enough
        .chain(scan.believed_from)
        .filter(|time| *time > now)
        .min();
    Some((now, until))
}

impl PassMemory {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, RememberedEnvironment>> {
        let environments = self.environments.lock();
        environments.unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the work so far; `lists` are those that the store has read.
    pub(crate) fn work(&self, lists: u64) -> PassWork {
        PassWork {
            decisions: self.decided.load(Ordering::Relaxed),
            explanations: self.explained.load(Ordering::Relaxed),
            files: self.edited.load(Ordering::Relaxed),
            lists,
        }
    }

    /// Counts a choice among tags.
    pub(crate) fn count_decision(&self) {
        self.decided.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts files whose references are compared with decisions.
    pub(crate) fn count_files(&self, files: usize) {
        self.edited.fetch_add(files as u64, Ordering::Relaxed);
    }

    /// Returns the decision that was made from the same inputs.
    pub(crate) fn decision(
        &self,
        question: &MemoryQuestion<'_>,
        scan: &RepositoryScan,
    ) -> Option<PolicyDecision> {
        let environments = self.lock();
        let environment = environments.get(question.environment)?;
        let remembered = environment.policies.get(question.name())?;
        let slot = match question.holds.is_empty() {
            true => &remembered.free,
            false => &remembered.held,
        };
        let (inputs, decision) = slot.as_ref()?;
        let is_same = inputs.are_those_of(question, scan);
        is_same.then(|| decision.clone())
    }

    /// Remembers a decision.
    pub(crate) fn keep_decision(
        &self,
        question: &MemoryQuestion<'_>,
        scan: &RepositoryScan,
        decision: &PolicyDecision,
    ) {
        let Some(inputs) = question.inputs(scan) else {
            return;
        };
        self.with_policy(question, |remembered| {
            let slot = match question.holds.is_empty() {
                true => &mut remembered.free,
                false => &mut remembered.held,
            };
            *slot = Some((inputs, decision.clone()));
        });
    }

    /// Returns the row of a report that was made from the same inputs and decision.
    pub(crate) fn row(
        &self,
        question: &MemoryQuestion<'_>,
        scan: &RepositoryScan,
        decision: &PolicyDecision,
    ) -> Option<PolicyReport> {
        let environments = self.lock();
        let environment = environments.get(question.environment)?;
        let row = environment.policies.get(question.name())?.row.as_ref();
        let (inputs, of, row) = row?;
        let is_same = of == decision && inputs.are_those_of(question, scan);
        is_same.then(|| row.clone())
    }

    /// Counts and remembers a row of a report.
    pub(crate) fn keep_row(
        &self,
        question: &MemoryQuestion<'_>,
        scan: &RepositoryScan,
        decision: &PolicyDecision,
        row: &PolicyReport,
    ) {
        self.explained.fetch_add(1, Ordering::Relaxed);
        if row.young.len() > MOST_NAMED || row.present.len() > MOST_NAMED {
            return;
        }
        if let Some(inputs) = question.inputs(scan) {
            self.with_policy(question, |remembered| {
                remembered.row = Some((inputs, decision.clone(), row.clone()));
            });
        }
    }

    fn with_policy(&self, question: &MemoryQuestion<'_>, work: impl FnOnce(&mut RememberedPolicy)) {
        let mut environments = self.lock();
        let known: usize = environments.values().map(|one| one.policies.len()).sum();
        let environment = environments
            .entry(question.environment.to_owned())
            .or_default();
        match environment.policies.get_mut(question.name()) {
            Some(remembered) => work(remembered),
            None if known < MOST_POLICIES => {
                let remembered = environment.policies.entry(question.name().clone());
                work(remembered.or_default());
            }
            None => {}
        }
    }

    /// Returns what was left alone in an Environment, if its files, decisions and tag lists are as
    /// they were when nothing had to be edited.
    pub(crate) fn unedited(
        &self,
        scope: &Arc<EnvironmentScope>,
        decisions: &Decisions,
        scans: &Scans,
    ) -> Option<Vec<LeftReport>> {
        let environments = self.lock();
        let edits = environments
            .get(&scope.environment.name)
            .and_then(|environment| environment.edits.as_ref())?;
        let is_same = edits.scope.ptr_eq(&Arc::downgrade(scope))
            && edits.decisions == *decisions
            && edits.tags.iter().copied().eq(versions(scope, scans));
        is_same.then(|| edits.left.clone())
    }

    /// Remembers that the files of an Environment are up to date.
    pub(crate) fn keep_unedited(
        &self,
        scope: &Arc<EnvironmentScope>,
        decisions: &Decisions,
        scans: &Scans,
        left: &[LeftReport],
    ) {
        // The creation dates that these policies compare are no part of their decision.
        if scope
            .policies
            .values()
            .any(|usage| usage.policy.choice.is_by_date())
        {
            return;
        }
        let edits = RememberedEdits {
            scope: Arc::downgrade(scope),
            decisions: decisions.clone(),
            tags: versions(scope, scans).collect(),
            left: left.to_vec(),
        };
        let mut environments = self.lock();
        let name = scope.environment.name.clone();
        environments.entry(name).or_default().edits = Some(edits);
    }

    /// Forgets what a whole pass has not used.
    pub(crate) fn keep_only(&self, rows: &[EnvironmentReport]) {
        let used: HashMap<&str, &EnvironmentReport> =
            rows.iter().map(|row| (row.name.as_str(), row)).collect();
        self.lock().retain(|name, environment| {
            let Some(row) = used.get(name.as_str()) else {
                return false;
            };
            let used: HashSet<&Name> = row.policies.iter().map(|policy| &policy.name).collect();
            environment.policies.retain(|name, _| used.contains(name));
            true
        });
    }
}

/// Returns the version of each policy's tag list.
fn versions(scope: &EnvironmentScope, scans: &Scans) -> impl Iterator<Item = Option<ListVersion>> {
    let policies = scope.policies.values();
    policies.map(|usage| Some(scans.get(&usage.policy.image)?.tags.version()))
}

#[cfg(test)]
mod tests;
