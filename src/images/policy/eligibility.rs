//! The conditions other than order: holds, the minimum age, platforms, and a confirmed digest.

use super::{
    Chosen, Comparison, MissingFacts, PolicyInput, PolicyOutcome, Refusal, Refusals, RegistryFacts,
    TagFacts, admits, standing, wanted,
};
use crate::{
    core::image::{Platform, Tag},
    spec::{DigestReflection, ImagePolicy},
};
use jiff::Timestamp;
use std::time::Duration;

/// The number of tags above the present one whose digest every scan confirms (see `minimumAge`).
const CLOCKS: usize = 20;

/// Chooses the first tag of a ranking, best first, that meets the conditions.
pub(super) fn first_eligible(
    question: &PolicyInput<'_>,
    facts: &RegistryFacts<'_>,
    ranked: &[&str],
    refusals: &mut Refusals,
) -> PolicyOutcome {
    if let Some(missing) = unconfirmed_clocks(question, facts, ranked) {
        return PolicyOutcome::Needs(missing);
    }
    let mut earliest: Option<Timestamp> = None;
    let mut best_refused = None;
    for tag in ranked {
        match eligible(question, facts, tag) {
            Ok(()) => return confirm(question, facts, tag),
            Err(Ineligible::Needs(missing)) => return PolicyOutcome::Needs(missing),
            Err(Ineligible::Refused(refusal)) => {
                earliest = earliest.into_iter().chain(refusal.free_at()).min();
                best_refused.get_or_insert_with(|| format!("the best tag {tag} {refusal}"));
                refusals.add(tag, || refusal);
            }
        }
    }
    match best_refused {
        Some(reason) => PolicyOutcome::Nothing {
            reason,
            free_at: earliest,
        },
        None => none_eligible(question, facts),
    }
}

/// The outcome if no tag passes the filters and the order.
pub(super) fn none_eligible(
    question: &PolicyInput<'_>,
    facts: &RegistryFacts<'_>,
) -> PolicyOutcome {
    PolicyOutcome::nothing(format!(
        "none of {} tags is eligible: {}",
        facts.tags.len(),
        wanted(question.policy)
    ))
}

/// The answer for a tag that won; where digests are followed, its digest must be confirmed first.
pub(super) fn confirm(
    question: &PolicyInput<'_>,
    facts: &RegistryFacts<'_>,
    tag: &str,
) -> PolicyOutcome {
    let Ok(tag) = Tag::new(tag) else {
        return PolicyOutcome::nothing(Refusal::NoTag.to_string());
    };
    let details = facts.details.get(tag.as_str());
    let fresh = details.filter(|details| details.fresh);
    let digest = fresh.and_then(|details| details.digest.clone());
    if question.policy.reflect != DigestReflection::Always {
        return PolicyOutcome::Chosen(Chosen { tag, digest });
    }
    match (fresh, digest) {
        (None, _) => PolicyOutcome::Needs(MissingFacts::of_digests(vec![tag])),
        (Some(_), None) => PolicyOutcome::nothing(format!("the tag {tag} {}", Refusal::Vanished)),
        (Some(_), Some(digest)) => match held_digest(question, digest.as_str()) {
            Some(refusal) => PolicyOutcome::nothing(format!("the digest of {tag} {refusal}")),
            None => PolicyOutcome::Chosen(Chosen {
                tag,
                digest: Some(digest),
            }),
        },
    }
}

/// The tags whose clocks must be kept running: the first above the present one.
fn unconfirmed_clocks(
    question: &PolicyInput<'_>,
    facts: &RegistryFacts<'_>,
    ranked: &[&str],
) -> Option<MissingFacts> {
    question.policy.minimum_age?;
    let confirmed = |tag: &str| facts.details.get(tag).is_some_and(|details| details.fresh);
    let unconfirmed: Vec<Tag> = ranked
        .iter()
        .filter(|tag| is_above_present(question, tag))
        .take(CLOCKS)
        .filter(|tag| !confirmed(tag))
        .filter_map(|tag| Tag::new(*tag).ok())
        .collect();
    (!unconfirmed.is_empty()).then(|| MissingFacts::of_digests(unconfirmed))
}

fn is_above_present(question: &PolicyInput<'_>, tag: &str) -> bool {
    question
        .present
        .is_none_or(|present| standing(question.policy, present, tag) == Comparison::Newer)
}

/// Why a tag cannot be chosen, now or at all.
pub(super) enum Ineligible {
    Needs(MissingFacts),
    Refused(Refusal),
}

fn eligible(
    question: &PolicyInput<'_>,
    facts: &RegistryFacts<'_>,
    tag: &str,
) -> Result<(), Ineligible> {
    if let Some(refusal) = held(question, facts, tag) {
        return Err(Ineligible::Refused(refusal));
    }
    if facts.has_vanished(tag) {
        return Err(Ineligible::Refused(Refusal::Vanished));
    }
    let unknown = TagFacts::default();
    let details = facts.details.get(tag).unwrap_or(&unknown);
    // The present value and everything below it do not wait again.
    if let Some(age) = question.policy.minimum_age
        && is_above_present(question, tag)
    {
        aged(question.now, age, tag, details)?;
    }
    on_platforms(question.policy, tag, details)
}

/// Returns the refusal of a tag that a hold keeps back.
///
/// A hold covers its version, and the tags below it down to the present one that were known before
/// the revert. It covers itself alone if the policy could not choose its version any more: then
/// nothing says that the tags below were meant.
fn held(question: &PolicyInput<'_>, facts: &RegistryFacts<'_>, tag: &str) -> Option<Refusal> {
    let listed = facts.details.get(tag).and_then(|details| details.listed);
    let hold = question.holds.holding(question.policy, tag, |hold| {
        is_above_present(question, tag)
            && listed.is_none_or(|listed| listed <= hold.time)
            && facts.tags.contains(&hold.value)
            && admits(question.policy, &hold.value)
    })?;
    Some(Refusal::Held(Box::new(hold.clone())))
}

/// Returns the refusal of a digest that a hold keeps back.
pub(super) fn held_digest(question: &PolicyInput<'_>, digest: &str) -> Option<Refusal> {
    let hold = question.holds.of(digest)?;
    Some(Refusal::Held(Box::new(hold.clone())))
}

/// Returns the refusal of a digest that has not been seen for long enough.
pub(super) fn too_young(now: Timestamp, age: Duration, since: Timestamp) -> Option<Refusal> {
    let free_at = since.checked_add(age).ok();
    let waits = free_at.is_none_or(|free_at| now < free_at);
    waits.then_some(Refusal::TooYoung {
        since,
        free_at,
        age,
    })
}

fn aged(now: Timestamp, age: Duration, tag: &str, details: &TagFacts) -> Result<(), Ineligible> {
    match (&details.digest, details.since) {
        (Some(_), Some(since)) => match too_young(now, age, since) {
            Some(refusal) => Err(Ineligible::Refused(refusal)),
            None if details.fresh => Ok(()),
            None => Err(Ineligible::Needs(MissingFacts::of_digests(vec![valid(
                tag,
            )?]))),
        },
        _ => Err(Ineligible::Refused(Refusal::NoClock)),
    }
}

/// Checks that the tag has every platform of the policy.
pub(super) fn on_platforms(
    policy: &ImagePolicy,
    tag: &str,
    details: &TagFacts,
) -> Result<(), Ineligible> {
    if policy.platforms.is_empty() {
        return Ok(());
    }
    let Some(has) = &details.platforms else {
        let wanted = vec![valid(tag)?];
        return Err(Ineligible::Needs(MissingFacts::of_platforms(wanted)));
    };
    let missing: Vec<Platform> = policy
        .platforms
        .iter()
        .filter(|wanted| !has.iter().any(|has| has.serves(wanted)))
        .cloned()
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Ineligible::Refused(Refusal::Platforms { missing }))
    }
}

fn valid(tag: &str) -> Result<Tag, Ineligible> {
    Tag::new(tag).map_err(|_| Ineligible::Refused(Refusal::NoTag))
}
