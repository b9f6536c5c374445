//! Policies: choose a tag from registry facts, with a reason for every tag that was refused.
//!
//! [`choose`] is pure. If a deciding fact is missing, it returns [`PolicyOutcome::Needs`]; the
//! caller fetches the facts and asks again. Ties go to the bytewise greatest tag, whatever the
//! order of the list; a tag that cannot be judged is refused alone; a missing date or platform
//! never lets a tag through.

mod holds;
mod order;
mod refusal;
#[cfg(test)]
mod tests;

pub use holds::{HeldMove, Hold, Holds, holds};
pub use order::{Comparison, orders, standing};
pub use refusal::Refusal;

use crate::{
    core::image::{Digest, Platform, Tag, TagList},
    spec::{DigestReflection, ImagePolicy, PolicyKind, SortOrder},
};
use jiff::{SignedDuration, Timestamp};
use order::OrderKey;
use std::{borrow::Cow, cmp::Ordering, collections::HashMap};

/// The facts about an image repository when a policy chooses.
#[derive(Debug)]
pub struct RegistryFacts<'a> {
    /// Every tag of a complete listing; a partial one must never get here.
    pub tags: &'a TagList,
    /// Facts about single tags.
    pub details: &'a HashMap<String, TagFacts>,
}

/// The facts about one tag.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TagFacts {
    pub digest: Option<Digest>,
    /// True if the registry has confirmed the digest in this pass.
    pub fresh: bool,
    /// Since when it was seen with this digest.
    pub since: Option<Timestamp>,
    /// The creation date of the image; `Some(None)` if the image has no credible date.
    pub created: Option<Option<Timestamp>>,
    pub platforms: Option<Vec<Platform>>,
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

/// The number of tags above the present one whose digest every scan confirms (see `minimumAge`).
const CLOCKS: usize = 20;

/// The number of dates one question asks for: a batch that takes seconds at some ten requests a
/// second.
const DATES: usize = 50;

/// A tag that passed the filters, with its sort key.
struct Candidate<'a> {
    tag: &'a str,
    key: OrderKey<'a>,
}

pub fn choose(question: &PolicyInput<'_>, facts: &RegistryFacts<'_>) -> PolicyOutcome {
    decide(question, facts, None)
}

/// Chooses, and says of every tag that was not chosen why, in the order of the list.
pub fn explain(
    question: &PolicyInput<'_>,
    facts: &RegistryFacts<'_>,
) -> (PolicyOutcome, Vec<(String, Refusal)>) {
    let mut refused = HashMap::new();
    let outcome = decide(question, facts, Some(&mut refused));
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
            (
                tag.to_owned(),
                refused.remove(tag).unwrap_or_else(otherwise),
            )
        })
        .collect();
    (outcome, reasons)
}

/// Returns up to `most` refused tags above `chosen`, best first: the answer for a user who expected
/// something newer.
pub fn refused_above(
    question: &PolicyInput<'_>,
    facts: &RegistryFacts<'_>,
    chosen: &str,
    most: usize,
) -> Vec<(String, Refusal)> {
    let mut above: Vec<(String, Refusal)> = explain(question, facts)
        .1
        .into_iter()
        .filter(|(tag, refusal)| {
            !matches!(refusal, Refusal::NotBest { .. } | Refusal::Unknown)
                && standing(question.policy, chosen, tag) == Comparison::Newer
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

type RefusedTag<'r> = Option<&'r mut HashMap<String, Refusal>>;

fn refuse(refused: &mut RefusedTag<'_>, tag: &str, refusal: impl FnOnce() -> Refusal) {
    if let Some(refused) = refused {
        refused.insert(tag.to_owned(), refusal());
    }
}

fn decide(
    question: &PolicyInput<'_>,
    facts: &RegistryFacts<'_>,
    mut refused: RefusedTag<'_>,
) -> PolicyOutcome {
    let policy = question.policy;
    if let PolicyKind::Digest(tag) = &policy.choice {
        return follow(question, facts, tag, refused);
    }
    let plain = policy.minimum_age.is_none()
        && policy.platforms.is_empty()
        && question.holds.is_empty()
        && !matches!(policy.choice, PolicyKind::Newest);
    let best = |best: Option<Candidate<'_>>, reason: &dyn Fn() -> String| match best {
        Some(best) => confirm(question, facts, best.tag),
        None => PolicyOutcome::Nothing {
            reason: reason(),
            free_at: None,
        },
    };
    let nothing = || {
        format!(
            "none of {} tags is eligible: {}",
            facts.tags.len(),
            order::wanted(policy)
        )
    };
    if plain && refused.is_none() {
        return best(greatest(policy, facts.tags), &nothing);
    }
    let mut candidates = Vec::new();
    for tag in facts.tags.iter() {
        match order::examine(policy, tag) {
            Ok(key) => candidates.push(Candidate { tag, key }),
            Err(refusal) => refuse(&mut refused, tag, || refusal),
        }
    }
    if matches!(policy.choice, PolicyKind::Newest)
        && let Some(needs) = date(&mut candidates, facts, &mut refused)
    {
        return PolicyOutcome::Needs(needs);
    }
    candidates.sort_unstable_by(|left, right| rank(policy, right, left));
    if let Some(needs) = clocks(question, facts, &candidates) {
        return PolicyOutcome::Needs(needs);
    }
    let mut free_at: Option<Timestamp> = None;
    let mut reason = None;
    for candidate in candidates {
        match eligible(question, facts, &candidate) {
            Ok(()) => return best(Some(candidate), &nothing),
            Err(CandidateVerdict::Needs(needs)) => return PolicyOutcome::Needs(needs),
            Err(CandidateVerdict::Refused(refusal)) => {
                if let Refusal::TooYoung {
                    free_at: Some(time),
                    ..
                } = &refusal
                {
                    free_at = Some(free_at.map_or(*time, |earliest| earliest.min(*time)));
                }
                reason.get_or_insert_with(|| format!("the best tag {} {refusal}", candidate.tag));
                refuse(&mut refused, candidate.tag, || refusal);
            }
        }
    }
    PolicyOutcome::Nothing {
        reason: reason.unwrap_or_else(nothing),
        free_at,
    }
}

/// The greatest candidate in one walk, without keeping the others.
fn greatest<'a>(policy: &ImagePolicy, tags: &'a TagList) -> Option<Candidate<'a>> {
    let mut best: Option<Candidate<'a>> = None;
    for tag in tags.iter() {
        if order::surely_lost(policy, tag, best.as_ref().map(|best| &best.key)) {
            continue;
        }
        let Ok(key) = order::examine(policy, tag) else {
            continue;
        };
        let candidate = Candidate { tag, key };
        if best
            .as_ref()
            .is_none_or(|best| rank(policy, &candidate, best) == Ordering::Greater)
        {
            best = Some(candidate);
        }
    }
    best
}

/// Compares two candidates by preference; the bytes of the tags decide between equal keys.
fn rank(policy: &ImagePolicy, left: &Candidate<'_>, right: &Candidate<'_>) -> Ordering {
    let order = left.key.compare(&right.key);
    let order = match policy.choice {
        PolicyKind::Numerical(SortOrder::Descending)
        | PolicyKind::Alphabetical(SortOrder::Descending) => order.reverse(),
        _ => order,
    };
    order.then_with(|| left.tag.cmp(right.tag))
}

/// Puts creation dates to candidates, or says which are missing. Candidates without a date leave.
fn date<'a>(
    candidates: &mut Vec<Candidate<'a>>,
    facts: &RegistryFacts<'_>,
    refused: &mut RefusedTag<'_>,
) -> Option<MissingFacts> {
    let created = |tag: &str| facts.details.get(tag).and_then(|details| details.created);
    // The tag that sorts last was most often pushed last, so it is fetched first.
    let missing: Vec<Tag> = candidates
        .iter()
        .rev()
        .filter(|candidate| created(candidate.tag).is_none())
        .filter_map(|c| Tag::new(c.tag).ok())
        .take(DATES)
        .collect();
    if !missing.is_empty() {
        return Some(MissingFacts {
            dates: missing,
            ..MissingFacts::default()
        });
    }
    candidates.retain_mut(|candidate| match created(candidate.tag).flatten() {
        Some(time) => {
            candidate.key = OrderKey::Date(time);
            true
        }
        None => {
            refuse(refused, candidate.tag, || Refusal::NoDate);
            false
        }
    });
    None
}

/// The tags whose clocks must be kept running: the first above the present one.
fn clocks(
    question: &PolicyInput<'_>,
    facts: &RegistryFacts<'_>,
    ranked: &[Candidate<'_>],
) -> Option<MissingFacts> {
    question.policy.minimum_age?;
    let above = |candidate: &&Candidate<'_>| {
        question.present.is_none_or(|present| {
            standing(question.policy, present, candidate.tag) == Comparison::Newer
        })
    };
    let unconfirmed: Vec<Tag> = ranked
        .iter()
        .filter(above)
        .take(CLOCKS)
        .filter(|candidate| {
            !facts
                .details
                .get(candidate.tag)
                .is_some_and(|details| details.fresh)
        })
        .filter_map(|candidate| Tag::new(candidate.tag).ok())
        .collect();
    if unconfirmed.is_empty() {
        None
    } else {
        Some(MissingFacts {
            digests: unconfirmed,
            ..MissingFacts::default()
        })
    }
}

enum CandidateVerdict {
    Needs(MissingFacts),
    Refused(Refusal),
}

/// Returns whether a candidate passes the conditions other than order.
fn eligible(
    question: &PolicyInput<'_>,
    facts: &RegistryFacts<'_>,
    candidate: &Candidate<'_>,
) -> Result<(), CandidateVerdict> {
    let policy = question.policy;
    let tag = || Tag::new(candidate.tag).map_err(|_| CandidateVerdict::Refused(Refusal::NoTag));
    if let Some(hold) = question.holds.holding(policy, candidate.tag) {
        return Err(CandidateVerdict::Refused(Refusal::Held(Box::new(
            hold.clone(),
        ))));
    }
    let details = facts
        .details
        .get(candidate.tag)
        .map_or_else(|| Cow::Owned(TagFacts::default()), Cow::Borrowed);
    // The present value and everything below it do not wait again.
    let present = question
        .present
        .is_some_and(|present| standing(policy, present, candidate.tag) != Comparison::Newer);
    if let Some(age) = policy.minimum_age
        && !present
    {
        match (&details.digest, details.since) {
            (Some(_), Some(since)) => {
                let free_at = since.checked_add(age).ok();
                if free_at.is_none_or(|free_at| question.now < free_at) {
                    return Err(CandidateVerdict::Refused(Refusal::TooYoung {
                        since,
                        free_at,
                        age,
                    }));
                }
                if !details.fresh {
                    return Err(CandidateVerdict::Needs(MissingFacts {
                        digests: vec![tag()?],
                        ..MissingFacts::default()
                    }));
                }
            }
            // Confirmed, yet without a digest: the tag vanished between listing and asking.
            _ if details.fresh => return Err(CandidateVerdict::Refused(Refusal::Vanished)),
            _ => return Err(CandidateVerdict::Refused(Refusal::NoClock)),
        }
    }
    if !policy.platforms.is_empty() {
        let Some(has) = &details.platforms else {
            return Err(CandidateVerdict::Needs(MissingFacts {
                platforms: vec![tag()?],
                ..MissingFacts::default()
            }));
        };
        let missing: Vec<Platform> = policy
            .platforms
            .iter()
            .filter(|wanted| !has.iter().any(|has| has.serves(wanted)))
            .cloned()
            .collect();
        if !missing.is_empty() {
            return Err(CandidateVerdict::Refused(Refusal::Platforms { missing }));
        }
    }
    Ok(())
}

/// The answer for a tag that won; where digests are followed, its digest must be confirmed first.
fn confirm(question: &PolicyInput<'_>, facts: &RegistryFacts<'_>, tag: &str) -> PolicyOutcome {
    let Ok(tag) = Tag::new(tag) else {
        return PolicyOutcome::Nothing {
            reason: Refusal::NoTag.to_string(),
            free_at: None,
        };
    };
    let details = facts.details.get(tag.as_str());
    let fresh = details.filter(|details| details.fresh);
    let digest = fresh.and_then(|details| details.digest.clone());
    let follows = question.policy.reflect == DigestReflection::Always;
    let hold = digest
        .as_ref()
        .filter(|_| follows)
        .and_then(|digest| question.holds.holding(question.policy, digest.as_str()));
    if let Some(hold) = hold {
        return PolicyOutcome::Nothing {
            reason: format!(
                "the digest of {tag} {}",
                Refusal::Held(Box::new(hold.clone()))
            ),
            free_at: None,
        };
    }
    match (follows, fresh, digest) {
        (true, None, _) => PolicyOutcome::Needs(MissingFacts {
            digests: vec![tag],
            ..MissingFacts::default()
        }),
        (true, Some(_), None) => PolicyOutcome::Nothing {
            reason: format!("the tag {tag} {}", Refusal::Vanished),
            free_at: None,
        },
        (_, _, digest) => PolicyOutcome::Chosen(Chosen { tag, digest }),
    }
}

/// Follows the digest of one tag.
fn follow(
    question: &PolicyInput<'_>,
    facts: &RegistryFacts<'_>,
    tag: &Tag,
    mut refused: RefusedTag<'_>,
) -> PolicyOutcome {
    for other in facts.tags.iter().filter(|other| *other != tag.as_str()) {
        refuse(&mut refused, other, || Refusal::NotFollowed {
            followed: tag.clone(),
        });
    }
    if !facts.tags.contains(tag.as_str()) {
        return PolicyOutcome::Nothing {
            reason: format!("the followed tag {tag} is not in the repository"),
            free_at: None,
        };
    }
    let Some(details) = facts
        .details
        .get(tag.as_str())
        .filter(|details| details.fresh)
    else {
        return PolicyOutcome::Needs(MissingFacts {
            digests: vec![tag.clone()],
            ..MissingFacts::default()
        });
    };
    let candidate = Candidate {
        tag: tag.as_str(),
        key: OrderKey::Text(Cow::Borrowed(tag.as_str())),
    };
    let unseen = question
        .policy
        .minimum_age
        .filter(|_| question.present != details.digest.as_ref().map(Digest::as_str));
    let held = details
        .digest
        .as_ref()
        .and_then(|digest| question.holds.holding(question.policy, digest.as_str()));
    let refusal = match (held, unseen, details.since) {
        (Some(hold), ..) => Some(Refusal::Held(Box::new(hold.clone()))),
        (None, Some(age), Some(since)) => {
            let free_at = since
                .checked_add(SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX))
                .ok();
            free_at
                .is_none_or(|free_at| question.now < free_at)
                .then_some(Refusal::TooYoung {
                    since,
                    free_at,
                    age,
                })
        }
        (None, Some(_), None) => Some(Refusal::NoClock),
        (None, None, _) => None,
    };
    let refusal = match refusal {
        Some(refusal) => Some(refusal),
        None => match eligible(
            &PolicyInput {
                present: Some(tag.as_str()),
                holds: &Holds::default(),
                ..*question
            },
            facts,
            &candidate,
        ) {
            Ok(()) => None,
            Err(CandidateVerdict::Needs(needs)) => return PolicyOutcome::Needs(needs),
            Err(CandidateVerdict::Refused(refusal)) => Some(refusal),
        },
    };
    match refusal {
        None => confirm(question, facts, tag.as_str()),
        Some(refusal) => {
            let free_at = if let Refusal::TooYoung { free_at, .. } = &refusal {
                *free_at
            } else {
                None
            };
            let reason = format!("the digest of {tag} {refusal}");
            refuse(&mut refused, tag.as_str(), || refusal);
            PolicyOutcome::Nothing { reason, free_at }
        }
    }
}
