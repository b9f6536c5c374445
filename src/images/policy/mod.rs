//! Policies: choose a tag from registry facts, with a reason for every tag that was refused.
//!
//! Each kind of policy is one file that implements `rule::Rule` (`with_rule` lists them). Three of
//! them order tags by their text and implement `order::TagOrder` instead. The flow they share is
//! in `filter` (which tags take part) and `eligibility` (holds, ages, platforms, digests).
//!
//! [`choose`] is pure. If a deciding fact is missing, it returns [`PolicyOutcome::Needs`]; the
//! caller fetches the facts and asks again. Ties go to the bytewise greatest tag, whatever the
//! order of the list; a tag that cannot be judged is refused alone; a missing date or platform
//! never lets a tag through.

mod alphabetical;
mod digest;
mod eligibility;
mod filter;
mod holds;
mod newest;
mod numerical;
mod order;
mod refusal;
mod rule;
mod semver;
#[cfg(test)]
mod tests;

pub use holds::{HeldMove, Hold, Holds, MoveOrigin, holds};
pub use refusal::Refusal;
pub use rule::Comparison;

use crate::{
    core::image::{Digest, Platform, Tag, TagList},
    spec::{ImagePolicy, PolicyKind},
};
use alphabetical::Alphabetical;
use digest::FollowedTag;
use jiff::Timestamp;
use newest::Newest;
use numerical::Numerical;
use refusal::Refusals;
use rule::Rule;
use semver::Semver;
use std::{cmp::Ordering, collections::HashMap};

/// Calls `use_rule` with the rule of a policy's kind. No other place of this module knows every
/// kind.
fn with_rule<T>(policy: &ImagePolicy, use_rule: impl FnOnce(&dyn Rule) -> T) -> T {
    match &policy.choice {
        PolicyKind::Semver(range) => use_rule(&Semver(range)),
        PolicyKind::Numerical(order) => use_rule(&Numerical(*order)),
        PolicyKind::Alphabetical(order) => use_rule(&Alphabetical(*order)),
        PolicyKind::Newest => use_rule(&Newest),
        PolicyKind::Digest(tag) => use_rule(&FollowedTag(tag)),
    }
}

/// The facts about an image repository when a policy chooses.
#[derive(Debug)]
pub struct RegistryFacts<'a> {
    /// Every tag of a complete listing; a partial one must never get here.
    pub tags: &'a TagList,
    /// Facts about single tags.
    pub details: &'a HashMap<String, TagFacts>,
}

impl RegistryFacts<'_> {
    /// Returns whether the registry lists the tag and does not have it.
    fn has_vanished(&self, tag: &str) -> bool {
        // Most passes ask for no single tag at all.
        !self.details.is_empty() && self.details.get(tag).is_some_and(TagFacts::is_vanished)
    }
}

/// The facts about one tag.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TagFacts {
    pub digest: Option<Digest>,
    /// True if the registry has confirmed the digest in this pass.
    pub fresh: bool,
    /// Since when it was seen with this digest.
    pub since: Option<Timestamp>,
    /// The time of the listing in which the tag first appeared; none if the first listing of the
    /// repository had it.
    pub listed: Option<Timestamp>,
    /// The creation date of the image; `Some(None)` if it has none that can be believed. More than
    /// a day ahead of the clock is not.
    pub created: Option<Option<Timestamp>>,
    pub platforms: Option<Vec<Platform>>,
    /// The kind of artifact behind the tag, if it is known to be no image: "a Helm chart".
    pub artifact: Option<String>,
}

impl TagFacts {
    /// Returns whether the registry was asked for the tag in this pass and does not have it.
    fn is_vanished(&self) -> bool {
        self.fresh && self.digest.is_none()
    }
}

/// The question to a policy.
#[derive(Debug)]
pub struct PolicyInput<'a> {
    pub policy: &'a ImagePolicy,
    /// The least value the files have at present, if the policy can order it: clocks are kept for
    /// tags above it.
    pub present: Option<&'a str>,
    /// Versions held back by reverts.
    pub holds: &'a Holds,
    pub now: Timestamp,
}

/// The result of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyOutcome {
    Chosen(Chosen),
    /// None, and why; with the time at which waiting ends, where it is known.
    Nothing {
        reason: String,
        /// The time at which the first tag that only waits for its age becomes eligible.
        free_at: Option<Timestamp>,
    },
    Needs(MissingFacts),
}

impl PolicyOutcome {
    /// Nothing was chosen, and waiting does not help.
    fn nothing(reason: impl Into<String>) -> Self {
        Self::Nothing {
            reason: reason.into(),
            free_at: None,
        }
    }
}

/// A chosen tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The tag's own text.
    pub tag: Tag,
    /// The digest, if the policy follows digests or the age check confirmed it.
    pub digest: Option<Digest>,
}

/// Facts that decide and are missing. Each list is bounded, so that one question costs a bounded
/// number of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MissingFacts {
    /// Tags whose digest the registry must confirm, in this pass.
    pub digests: Vec<Tag>,
    /// Tags whose creation date is wanted.
    pub dates: Vec<Tag>,
    /// Tags whose platforms are wanted.
    pub platforms: Vec<Tag>,
}

impl MissingFacts {
    pub fn of_digests(digests: Vec<Tag>) -> Self {
        Self {
            digests,
            ..Self::default()
        }
    }

    fn of_dates(dates: Vec<Tag>) -> Self {
        Self {
            dates,
            ..Self::default()
        }
    }

    fn of_platforms(platforms: Vec<Tag>) -> Self {
        Self {
            platforms,
            ..Self::default()
        }
    }
}

pub fn choose(question: &PolicyInput<'_>, facts: &RegistryFacts<'_>) -> PolicyOutcome {
    with_rule(question.policy, |rule| {
        rule.choose(question, facts, &mut Refusals::discarded())
    })
}

/// Chooses, and says of every tag that was not chosen why, in the order of the list.
pub fn explain(
    question: &PolicyInput<'_>,
    facts: &RegistryFacts<'_>,
) -> (PolicyOutcome, Vec<(String, Refusal)>) {
    let mut refusals = Refusals::collected();
    let outcome = with_rule(question.policy, |rule| {
        rule.choose(question, facts, &mut refusals)
    });
    let chosen = match &outcome {
        PolicyOutcome::Chosen(chosen) => Some(&chosen.tag),
        _ => None,
    };
    let reasons = facts
        .tags
        .iter()
        .filter(|tag| chosen.is_none_or(|chosen| chosen.as_str() != *tag))
        .map(|tag| {
            let otherwise = || match chosen {
                Some(chosen) => Refusal::NotBest {
                    chosen: chosen.clone(),
                },
                None => Refusal::Unknown,
            };
            let refusal = refusals.take(tag).unwrap_or_else(otherwise);
            (tag.to_owned(), refusal)
        })
        .collect();
    (outcome, reasons)
}

/// Returns up to `most` refused tags above `chosen`, best first: the answer for a user who expected
/// something newer.
///
/// Only tags above are judged, since the reason of a tag does not depend on lower ones.
pub fn refused_above(
    question: &PolicyInput<'_>,
    facts: &RegistryFacts<'_>,
    chosen: &str,
    most: usize,
) -> Vec<(String, Refusal)> {
    let is_above = |tag: &&str| standing(question.policy, chosen, tag) == Comparison::Newer;
    let higher: TagList = facts.tags.iter().filter(is_above).collect();
    if higher.is_empty() {
        return Vec::new();
    }
    let at_least: TagList = facts
        .tags
        .contains(chosen)
        .then_some(chosen)
        .into_iter()
        .chain(higher.iter())
        .collect();
    let facts = RegistryFacts {
        tags: &at_least,
        details: facts.details,
    };
    let mut above: Vec<(String, Refusal)> = explain(question, &facts)
        .1
        .into_iter()
        .filter(|(tag, refusal)| {
            tag != chosen && !matches!(refusal, Refusal::NotBest { .. } | Refusal::Unknown)
        })
        .collect();
    above.sort_by(
        |(left, _), (right, _)| match standing(question.policy, left, right) {
            Comparison::Newer => Ordering::Greater,
            Comparison::Lower => Ordering::Less,
            Comparison::Equal | Comparison::Unorderable => right.cmp(left),
        },
    );
    above.truncate(most);
    above
}

/// Compares `chosen` with `present`. A present value need not be in the policy's range, but must be
/// of its kind.
pub fn standing(policy: &ImagePolicy, present: &str, chosen: &str) -> Comparison {
    if present == chosen {
        return Comparison::Equal;
    }
    with_rule(policy, |rule| rule.compare(&policy.filter, present, chosen))
}

/// Returns whether the policy can order this value.
pub fn orders(policy: &ImagePolicy, value: &str) -> bool {
    with_rule(policy, |rule| rule.orders(&policy.filter, value))
}

/// Returns whether the policy's filters and rule take this tag.
fn admits(policy: &ImagePolicy, tag: &str) -> bool {
    with_rule(policy, |rule| rule.admits(policy, tag))
}

/// Returns whether the policy orders values by their text, so that a hold covers a range of them.
pub fn orders_by_text(policy: &ImagePolicy) -> bool {
    with_rule(policy, |rule| rule.orders_by_text())
}

/// Describes the rule in short: `semver >=6.0.0 <7.0.0`.
pub fn summary(policy: &ImagePolicy) -> String {
    with_rule(policy, |rule| rule.summary())
}

/// Returns the policy's condition as a clause that completes a sentence.
fn wanted(policy: &ImagePolicy) -> String {
    let rule = with_rule(policy, |rule| rule.wanted());
    match &policy.filter.pattern {
        Some(pattern) => format!("{rule}, of tags that match {:?}", pattern.as_str()),
        None => rule,
    }
}
