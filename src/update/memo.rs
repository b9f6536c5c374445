//! Decisions of earlier passes, each with everything it was made from: a pass judges the tags of
//! a policy only if one of these has changed.
//!
//! An entry is compared, never looked up by a hash of its inputs, and holds no more than one pass
//! needs: what the last pass did not use is forgotten. What exceeds the bytes of the memory is not
//! remembered, and decided in every pass.

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

/// The most bytes of what is remembered of a config repository, as far as they are estimated.
const MOST_BYTES: usize = 8 << 20;

/// The bytes of an entry beside its own fields and texts: names, digests, its part of the tables.
const ENTRY_BYTES: usize = 256;

/// Policies remembered, each once for every Environment that uses it. Further ones are judged in
/// every pass.
const MOST_POLICIES: usize = 20_000;

/// Confirmed tags of a repository that are compared; a decision with more is not remembered.
const MOST_CONFIRMED: usize = 64;

/// Tags that a remembered row may name.
const MOST_NAMED: usize = 1_000;

/// Decisions and edits of earlier passes, and the count of those that had to be made.
#[derive(Debug)]
pub(crate) struct PassMemory {
    most_bytes: usize,
    environments: Mutex<HashMap<String, RememberedEnvironment>>,
    decided: AtomicU64,
    explained: AtomicU64,
    edited: AtomicU64,
}

impl Default for PassMemory {
    fn default() -> Self {
        Self {
            most_bytes: MOST_BYTES,
            environments: Mutex::default(),
            decided: AtomicU64::default(),
            explained: AtomicU64::default(),
            edited: AtomicU64::default(),
        }
    }
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
    /// The estimate for all of them.
    bytes: usize,
}

#[derive(Debug, Default)]
struct RememberedPolicy {
    /// The decision as if nothing had been reverted, which comes first in each pass.
    free: Remembered<PolicyDecision>,
    /// The decision under holds.
    held: Remembered<PolicyDecision>,
    row: Remembered<(PolicyDecision, PolicyReport)>,
}

/// A value with what it was made from, if it is remembered.
type Remembered<T> = Option<Box<RememberedValue<T>>>;

#[derive(Debug)]
struct RememberedValue<T> {
    inputs: DecisionInputs,
    value: T,
    bytes: usize,
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
    bytes: usize,
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
    /// Returns whether a decision that is made now is made from the same. Takes over the present
    /// declaration then, so that none that is replaced is kept.
    fn are_those_of(&mut self, question: &MemoryQuestion<'_>, scan: &RepositoryScan) -> bool {
        let same_usage =
            Arc::ptr_eq(&self.usage, question.usage) || self.usage.decides_like(question.usage);
        let is_confirmed =
            |(tag, facts): (&String, &TagFacts)| self.confirmed.get(tag) == Some(facts);
        let is_same = same_usage
            && self.tags == scan.tags.version()
            && self.facts == question.facts
            && self.holds == *question.holds
            && self.clock.is_none_or(|(from, until)| {
                from <= question.now && until.is_none_or(|until| question.now < until)
            })
            && confirmed(scan).all(is_confirmed)
            && confirmed(scan).count() == self.confirmed.len();
        if is_same {
            self.usage = Arc::clone(question.usage);
        }
        is_same
    }

    /// Estimates the bytes beside those of the fields. The declaration is that of the pass.
    fn bytes(&self) -> usize {
        let holds = self.holds.iter();
        let holds = holds.map(|hold| ENTRY_BYTES + 2 * hold.value.len() + hold.to_string().len());
        let confirmed = self.confirmed.iter().map(|(tag, facts)| {
            let platforms = facts.platforms.as_ref().map_or(0, Vec::len);
            let artifact = facts.artifact.as_ref().map_or(0, String::len);
            size_of::<TagFacts>() + tag.len() + artifact + (1 + platforms) * ENTRY_BYTES
        });
        holds.chain(confirmed).sum()
    }
}

fn decision_bytes(decision: &PolicyDecision) -> usize {
    match decision {
        PolicyDecision::Chosen(chosen) => chosen.tag.as_str().len(),
        PolicyDecision::Nothing { reason, .. } => reason.len(),
    }
}

fn row_bytes(row: &PolicyReport) -> usize {
    let lists = [&row.present, &row.unlisted, &row.held, &row.young];
    let texts = lists.into_iter().flatten().chain(&row.reason);
    let refused = row.refused.iter();
    let refused = refused.map(|one| size_of_val(one) + one.tag.len() + one.reason.len());
    refused
        .chain(texts.map(|text| size_of_val(text) + text.len()))
        .sum()
}

impl<T> RememberedValue<T> {
    /// Estimates the bytes; those behind the value's pointers are known to the caller.
    fn new(inputs: DecisionInputs, value: T, behind: usize) -> Box<Self> {
        let bytes = size_of::<Self>() + ENTRY_BYTES + inputs.bytes() + behind;
        Box::new(Self {
            inputs,
            value,
            bytes,
        })
    }
}

impl RememberedPolicy {
    fn decision(&mut self, is_free: bool) -> &mut Remembered<PolicyDecision> {
        match is_free {
            true => &mut self.free,
            false => &mut self.held,
        }
    }

    fn bytes(&self) -> usize {
        let row = self.row.as_ref().map_or(0, |row| row.bytes);
        let decisions = self.free.iter().chain(&self.held);
        decisions.map(|decision| decision.bytes).sum::<usize>() + row
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
        let mut environments = self.lock();
        let environment = environments.get_mut(question.environment)?;
        let policy = environment.policies.get_mut(question.name())?;
        let remembered = policy.decision(question.holds.is_empty()).as_mut()?;
        let is_same = remembered.inputs.are_those_of(question, scan);
        is_same.then(|| remembered.value.clone())
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
        let bytes = decision_bytes(decision);
        let value = RememberedValue::new(inputs, decision.clone(), bytes);
        let is_free = question.holds.is_empty();
        self.keep(question, value, |policy| policy.decision(is_free));
    }

    /// Returns the row of a report that was made from the same inputs and decision.
    pub(crate) fn row(
        &self,
        question: &MemoryQuestion<'_>,
        scan: &RepositoryScan,
        decision: &PolicyDecision,
    ) -> Option<PolicyReport> {
        let mut environments = self.lock();
        let environment = environments.get_mut(question.environment)?;
        let policy = environment.policies.get_mut(question.name())?;
        let remembered = policy.row.as_mut()?;
        let (of, row) = &remembered.value;
        let is_same = of == decision && remembered.inputs.are_those_of(question, scan);
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
            let bytes = decision_bytes(decision) + row_bytes(row);
            let value = (decision.clone(), row.clone());
            let value = RememberedValue::new(inputs, value, bytes);
            self.keep(question, value, |policy| &mut policy.row);
        }
    }

    /// Remembers a value in place of the one before, if there is room for it.
    fn keep<T>(
        &self,
        question: &MemoryQuestion<'_>,
        value: Box<RememberedValue<T>>,
        slot: impl FnOnce(&mut RememberedPolicy) -> &mut Remembered<T>,
    ) {
        let mut environments = self.lock();
        let known: usize = environments.values().map(|one| one.policies.len()).sum();
        let mut bytes: usize = environments.values().map(|one| one.bytes).sum();
        let environment = environments
            .entry(question.environment.to_owned())
            .or_default();
        let policy = match environment.policies.get_mut(question.name()) {
            Some(policy) => policy,
            None if known < MOST_POLICIES && bytes + value.bytes <= self.most_bytes => {
                let policy = environment.policies.entry(question.name().clone());
                policy.or_default()
            }
            None => return,
        };
        let slot = slot(policy);
        let before = slot.take().map_or(0, |before| before.bytes);
        bytes -= before;
        environment.bytes -= before;
        if bytes + value.bytes <= self.most_bytes {
            environment.bytes += value.bytes;
            *slot = Some(value);
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
        let decided = decisions.values();
        let decided = decided.map(|decision| ENTRY_BYTES + decision_bytes(decision));
        let texts = left
            .iter()
            .map(|left| size_of_val(left) + left.file.len() + left.reason.len());
        let edits = RememberedEdits {
            bytes: ENTRY_BYTES + decided.chain(texts).sum::<usize>(),
            scope: Arc::downgrade(scope),
            decisions: decisions.clone(),
            tags: versions(scope, scans).collect(),
            left: left.to_vec(),
        };
        let mut environments = self.lock();
        let bytes: usize = environments.values().map(|one| one.bytes).sum();
        let name = scope.environment.name.clone();
        let environment = environments.entry(name).or_default();
        let before = environment.edits.take().map_or(0, |before| before.bytes);
        environment.bytes -= before;
        if bytes - before + edits.bytes <= self.most_bytes {
            environment.bytes += edits.bytes;
            environment.edits = Some(edits);
        }
    }

    /// Forgets what a pass has not used: in the Environments that it looked at, and those that it
    /// left out and nobody expects back.
    pub(crate) fn keep_only(&self, rows: &[EnvironmentReport], is_expected: impl Fn(&str) -> bool) {
        let used: HashMap<&str, &EnvironmentReport> =
            rows.iter().map(|row| (row.name.as_str(), row)).collect();
        self.lock().retain(|name, environment| {
            let Some(row) = used.get(name.as_str()) else {
                return is_expected(name);
            };
            let used: HashSet<&Name> = row.policies.iter().map(|policy| &policy.name).collect();
            let forgotten = environment
                .policies
                .extract_if(|name, _| !used.contains(name));
            environment.bytes -= forgotten.map(|(_, policy)| policy.bytes()).sum::<usize>();
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
