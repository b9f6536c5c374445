//! Kinds that order tags by their text. The greatest key wins; the bytes of the tags decide between
//! equal keys.

use super::{
    Comparison, PolicyInput, PolicyOutcome, Refusal, Refusals, RegistryFacts, eligibility,
    filter::{compared_text, present_text},
    rule::Rule,
};
use crate::spec::{ImagePolicy, TagFilter};
use std::{borrow::Cow, cmp::Ordering};

/// A kind that orders tags by a key in their text. Every such kind is a [`Rule`].
pub(super) trait TagOrder {
    /// The sort key of a tag.
    type Key<'a>;

    /// Reads the key from the text that is compared, or refuses the text.
    fn key<'a>(&self, text: Cow<'a, str>) -> Result<Self::Key<'a>, Refusal>;

    /// Refuses a key that the policy does not take, such as a version out of range. The present
    /// value need not pass.
    fn admit(&self, _key: &Self::Key<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// Compares two keys by preference.
    fn compare_keys(&self, left: &Self::Key<'_>, right: &Self::Key<'_>) -> Ordering;

    /// Returns whether a cheap look at the tag shows that it loses against `best`, or is refused.
    ///
    /// Most tags of a large repository are decided here. Called only if the tag itself is compared.
    fn surely_loses(&self, _tag: &str, _best: Option<&Self::Key<'_>>) -> bool {
        false
    }

    /// The condition as a clause that completes a sentence.
    fn wanted(&self) -> String;

    /// The kind and its parameters in short.
    fn summary(&self) -> String;
}

impl<O: TagOrder> Rule for O {
    fn choose(
        &self,
        question: &PolicyInput<'_>,
        facts: &RegistryFacts<'_>,
        refusals: &mut Refusals,
    ) -> PolicyOutcome {
        let policy = question.policy;
        let only_order_decides = policy.minimum_age.is_none()
            && policy.platforms.is_empty()
            && question.holds.is_empty();
        if only_order_decides && !refusals.are_collected() {
            return match greatest(self, policy, facts) {
                Some(tag) => eligibility::confirm(question, facts, tag),
                None => eligibility::none_eligible(question, facts),
            };
        }
        let mut candidates = Vec::new();
        for tag in facts.tags.iter() {
            match Candidate::read(self, policy, tag) {
                Ok(candidate) => candidates.push(candidate),
                Err(refusal) => refusals.add(tag, || refusal),
            }
        }
        candidates.sort_unstable_by(|left, right| right.rank(self, left));
        let ranked: Vec<&str> = candidates.iter().map(|candidate| candidate.tag).collect();
        eligibility::first_eligible(question, facts, &ranked, refusals)
    }

    fn compare(&self, filter: &TagFilter, present: &str, chosen: &str) -> Comparison {
        let key = |value| self.key(present_text(filter, value)?);
        match (key(present), key(chosen)) {
            (Ok(present), Ok(chosen)) => self.compare_keys(&chosen, &present).into(),
            _ => Comparison::Unorderable,
        }
    }

    fn orders(&self, filter: &TagFilter, value: &str) -> bool {
        present_text(filter, value).is_ok_and(|text| self.key(text).is_ok())
    }

    fn admits(&self, policy: &ImagePolicy, tag: &str) -> bool {
        Candidate::read(self, policy, tag).is_ok()
    }

    fn orders_by_text(&self) -> bool {
        true
    }

    fn wanted(&self) -> String {
        TagOrder::wanted(self)
    }

    fn summary(&self) -> String {
        TagOrder::summary(self)
    }
}

/// A tag that passed the filters and the order.
struct Candidate<'a, O: TagOrder> {
    tag: &'a str,
    key: O::Key<'a>,
}

impl<'a, O: TagOrder> Candidate<'a, O> {
    fn read(order: &O, policy: &ImagePolicy, tag: &'a str) -> Result<Self, Refusal> {
        let key = order.key(compared_text(policy, tag)?)?;
        order.admit(&key)?;
        Ok(Self { tag, key })
    }

    fn rank(&self, order: &O, other: &Self) -> Ordering {
        order
            .compare_keys(&self.key, &other.key)
            .then_with(|| self.tag.cmp(other.tag))
    }
}

/// The greatest candidate in one walk, without keeping the others.
fn greatest<'a, O: TagOrder>(
    order: &O,
    policy: &ImagePolicy,
    facts: &RegistryFacts<'a>,
) -> Option<&'a str> {
    let compares_tags = policy.filter.extract.is_none();
    let mut best: Option<Candidate<'a, O>> = None;
    for tag in facts.tags.iter() {
        let best_key = best.as_ref().map(|best| &best.key);
        if !policy.filter.may_match(tag) || compares_tags && order.surely_loses(tag, best_key) {
            continue;
        }
        let Ok(candidate) = Candidate::read(order, policy, tag) else {
            continue;
        };
        if best
            .as_ref()
            .is_none_or(|best| candidate.rank(order, best) == Ordering::Greater)
            && !facts.has_vanished(tag)
        {
            best = Some(candidate);
        }
    }
    best.map(|best| best.tag)
}
