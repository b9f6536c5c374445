//! `digest`: one tag, with its current digest, which the registry confirms in every pass.

use super::{
    Comparison, MissingFacts, PolicyInput, PolicyOutcome, Refusal, Refusals, RegistryFacts,
    TagFacts,
    eligibility::{self, Ineligible},
    rule::Rule,
};
use crate::{
    core::image::{Digest, Tag},
    spec::{ImagePolicy, TagFilter},
};

pub(super) struct FollowedTag<'p>(pub(super) &'p Tag);

impl Rule for FollowedTag<'_> {
    fn choose(
        &self,
        question: &PolicyInput<'_>,
        facts: &RegistryFacts<'_>,
        refusals: &mut Refusals,
    ) -> PolicyOutcome {
        let tag = self.0;
        for other in facts.tags.iter().filter(|other| *other != tag.as_str()) {
            refusals.add(other, || Refusal::NotFollowed {
                followed: tag.clone(),
            });
        }
        if !facts.tags.contains(tag.as_str()) {
            return PolicyOutcome::nothing(format!(
                "the followed tag {tag} is not in the repository"
            ));
        }
        let details = facts.details.get(tag.as_str());
        let Some(details) = details.filter(|details| details.fresh) else {
            return PolicyOutcome::Needs(MissingFacts::of_digests(vec![tag.clone()]));
        };
        match self.eligible(question, details) {
            Ok(()) => eligibility::confirm(question, facts, tag.as_str()),
            Err(Ineligible::Needs(missing)) => PolicyOutcome::Needs(missing),
            Err(Ineligible::Refused(refusal)) => {
                let reason = format!("the digest of {tag} {refusal}");
                let free_at = refusal.free_at();
                refusals.add(tag.as_str(), || refusal);
                PolicyOutcome::Nothing { reason, free_at }
            }
        }
    }

    /// No order relates digests, nor other tags to the followed one.
    fn compare(&self, _filter: &TagFilter, _present: &str, _chosen: &str) -> Comparison {
        Comparison::Unorderable
    }

    fn admits(&self, _policy: &ImagePolicy, tag: &str) -> bool {
        tag == self.0.as_str()
    }

    fn wanted(&self) -> String {
        format!("the tag {} is followed", self.0)
    }

    fn summary(&self) -> String {
        format!("digest of {}", self.0)
    }
}

impl FollowedTag<'_> {
    /// Checks the digest. A hold and the age concern the digest, since the tag is always the same.
    fn eligible(&self, question: &PolicyInput<'_>, details: &TagFacts) -> Result<(), Ineligible> {
        let digest = details.digest.as_ref().map(Digest::as_str);
        let held = digest.and_then(|digest| eligibility::held_digest(question, digest));
        let waiting = question
            .policy
            .minimum_age
            .filter(|_| question.present != digest);
        let refusal = match (held, waiting, details.since) {
            (Some(held), ..) => Some(held),
            (None, Some(age), Some(since)) => eligibility::too_young(question.now, age, since),
            (None, Some(_), None) => Some(Refusal::NoClock),
            (None, None, _) => None,
        };
        match refusal {
            Some(refusal) => Err(Ineligible::Refused(refusal)),
            None => eligibility::on_platforms(question.policy, self.0.as_str(), details),
        }
    }
}
