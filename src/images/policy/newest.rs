//! `newest`: the most recently created image. It needs the creation date of every candidate.

use super::{
    Comparison, MissingFacts, PolicyInput, PolicyOutcome, Refusal, Refusals, RegistryFacts,
    eligibility, filter::compared_text, rule::Rule,
};
use crate::{
    core::image::Tag,
    spec::{ImagePolicy, TagFilter},
};
use jiff::Timestamp;

/// The number of dates one question asks for: a batch that takes seconds at some ten requests a
/// second.
const DATES: usize = 50;

pub(super) struct Newest;

impl Rule for Newest {
    fn choose(
        &self,
        question: &PolicyInput<'_>,
        facts: &RegistryFacts<'_>,
        refusals: &mut Refusals,
    ) -> PolicyOutcome {
        let mut tags = Vec::new();
        for tag in facts.tags.iter() {
            match compared_text(question.policy, tag) {
                Ok(_) if facts.has_vanished(tag) => refusals.add(tag, || Refusal::Vanished),
                Ok(_) => tags.push(tag),
                Err(refusal) => refusals.add(tag, || refusal),
            }
        }
        let details = |tag: &str| facts.details.get(tag);
        let created = |tag: &str| details(tag).and_then(|details| details.created);
        // The tag that sorts last was most often pushed last, so it is fetched first.
        let undated = tags.iter().rev().filter(|tag| created(tag).is_none());
        let missing: Vec<Tag> = undated
            .filter_map(|tag| Tag::new(*tag).ok())
            .take(DATES)
            .collect();
        if !missing.is_empty() {
            return PolicyOutcome::Needs(MissingFacts::of_dates(missing));
        }
        let mut dated: Vec<(Timestamp, &str)> = Vec::new();
        for tag in tags {
            let artifact = details(tag).and_then(|details| details.artifact.as_ref());
            match (artifact, created(tag).flatten()) {
                (Some(kind), _) => refusals.add(tag, || Refusal::NoImage { kind: kind.clone() }),
                (None, Some(time)) => dated.push((time, tag)),
                (None, None) => refusals.add(tag, || Refusal::NoDate),
            }
        }
        dated.sort_unstable_by(|left, right| right.cmp(left));
        let ranked: Vec<&str> = dated.into_iter().map(|(_, tag)| tag).collect();
        eligibility::first_eligible(question, facts, &ranked, refusals)
    }

    /// The chosen image was created last; tags alone have no order.
    fn compare(&self, _filter: &TagFilter, _present: &str, _chosen: &str) -> Comparison {
        Comparison::Newer
    }

    fn admits(&self, policy: &ImagePolicy, tag: &str) -> bool {
        compared_text(policy, tag).is_ok()
    }

    fn wanted(&self) -> String {
        "images with a creation date are wanted".to_owned()
    }

    fn summary(&self) -> String {
        "newest".to_owned()
    }
}
