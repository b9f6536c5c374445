//! New choices, confirmed by the registry before they are written.
//!
//! A registry may list a tag whose manifest is gone: after an interrupted deletion or a garbage
//! collection. Only a HEAD shows it. The tag is then refused alone, and the policy chooses again.

use super::{
    Scans,
    decision::PolicyDecision,
    edits::ScopeEdits,
    evaluate::{COLLECTING, Evaluation, ROUNDS},
};
use crate::{
    core::{
        image::{Digest, ImageRepository, Tag},
        name::Name,
    },
    images::policy::{MissingFacts, TagFacts},
    io::facts::{RepositoryScan, ScanError, Scanner},
};
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

/// The time for which a confirmed choice is not confirmed again: a pull request waits for days, and
/// costs no request meanwhile.
const VALID: SignedDuration = SignedDuration::from_hours(24);

/// Repositories asked at once.
const CONCURRENCY: usize = 16;

/// Choices that registries have confirmed within the last day, so that a pending one costs nothing.
#[derive(Debug, Default)]
pub(crate) struct ConfirmedChoices(Mutex<HashMap<(ImageRepository, Tag), Timestamp>>);

impl ConfirmedChoices {
    fn contains(&self, repository: &ImageRepository, tag: &Tag, now: Timestamp) -> bool {
        let choices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        choices
            .get(&(repository.clone(), tag.clone()))
            .is_some_and(|confirmed| is_valid(*confirmed, now))
    }

    fn add(&self, repository: &ImageRepository, tag: &Tag, now: Timestamp) {
        let mut choices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        choices.retain(|_, confirmed| is_valid(*confirmed, now));
        choices.insert((repository.clone(), tag.clone()), now);
    }
}

fn is_valid(confirmed: Timestamp, now: Timestamp) -> bool {
    now.duration_since(confirmed).abs() < VALID
}

/// The tags to confirm of each repository, each with the policies that chose it.
type NewChoices = BTreeMap<ImageRepository, BTreeMap<Tag, BTreeSet<Name>>>;

/// The consequence of what registries answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Confirmation {
    /// Every tag that would be written exists.
    Confirmed,
    /// Decisions were taken back.
    Refused,
    /// A tag does not exist, or its image may have another date.
    DecideAgain,
}

/// Asks registries for the tags that would be written, except those they have confirmed already.
///
/// `rounds` counts the calls for one Environment; after the last one, policies whose best tags were
/// all missing are left alone.
pub(super) async fn confirm(
    scanner: &Scanner,
    choices: &ConfirmedChoices,
    evaluation: &mut Evaluation,
    edits: &ScopeEdits,
    rounds: usize,
) -> Confirmation {
    let new = new_choices(choices, evaluation, edits);
    if new.is_empty() {
        return Confirmation::Confirmed;
    }
    if rounds < ROUNDS {
        return ask(scanner, choices, evaluation, &new).await;
    }
    for name in new.values().flat_map(BTreeMap::values).flatten() {
        evaluation.decided(name, PolicyDecision::nothing(COLLECTING));
    }
    Confirmation::Refused
}

/// Returns the tags that edits write and that no registry has confirmed.
fn new_choices(
    confirmed: &ConfirmedChoices,
    evaluation: &Evaluation,
    edits: &ScopeEdits,
) -> NewChoices {
    let written: BTreeSet<&Name> = edits
        .files
        .iter()
        .flat_map(|file| file.edits.iter().map(|(_, change)| &change.policy))
        .collect();
    let mut new = NewChoices::new();
    for name in written {
        let (Some(usage), Some(PolicyDecision::Chosen(chosen))) = (
            evaluation.scope.policies.get(name),
            evaluation.decisions.get(name),
        ) else {
            continue;
        };
        let (repository, tag) = (&usage.policy.image, &chosen.tag);
        let is_fresh = details(&evaluation.scans, repository, tag).is_some_and(|one| one.fresh);
        if !is_fresh && !confirmed.contains(repository, tag, evaluation.now) {
            let tags = new.entry(repository.clone()).or_default();
            tags.entry(tag.clone()).or_default().insert(name.clone());
        }
    }
    new
}

fn details<'s>(scans: &'s Scans, repository: &ImageRepository, tag: &Tag) -> Option<&'s TagFacts> {
    scans.get(repository)?.details.get(tag.as_str())
}

/// Asks the registries, several at once.
async fn ask(
    scanner: &Scanner,
    choices: &ConfirmedChoices,
    evaluation: &mut Evaluation,
    new: &NewChoices,
) -> Confirmation {
    let now = evaluation.now;
    let scans: Vec<RepositoryScan> = new
        .keys()
        .filter_map(|repository| evaluation.scans.remove(repository))
        .collect();
    let answers: Vec<HeadAnswer> = stream::iter(scans)
        .map(|scan| {
            let tags: Vec<Tag> = new[&scan.repository].keys().cloned().collect();
            head(scanner, scan, tags, now)
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    let mut outcome = Confirmation::Confirmed;
    for HeadAnswer {
        scan,
        before,
        result,
    } in answers
    {
        let repository = scan.repository.clone();
        if let Err(error) = result {
            // Without its scan, no other Environment asks the registry again in this pass.
            let decision = evaluation.failed(&repository, &error);
            for name in new[&repository].values().flatten() {
                evaluation.decided(name, decision.clone());
            }
            outcome = outcome.max(Confirmation::Refused);
            continue;
        }
        evaluation.scans.insert(repository.clone(), scan);
        for (tag, old) in before {
            let found = details(&evaluation.scans, &repository, &tag);
            let digest = found.and_then(|found| found.digest.as_ref());
            match (digest, old) {
                (None, _) => outcome = Confirmation::DecideAgain,
                // A digest that moved may have another date.
                (Some(digest), Some(old)) if *digest != old => outcome = Confirmation::DecideAgain,
                (Some(_), _) => choices.add(&repository, &tag, now),
            }
        }
    }
    outcome
}

/// The answer of a registry about tags of one repository.
struct HeadAnswer {
    scan: RepositoryScan,
    /// The digests that were known before.
    before: Vec<(Tag, Option<Digest>)>,
    result: Result<(), ScanError>,
}

/// Confirms tags of one repository.
async fn head(
    scanner: &Scanner,
    mut scan: RepositoryScan,
    tags: Vec<Tag>,
    now: Timestamp,
) -> HeadAnswer {
    let known = |tag: &Tag| scan.details.get(tag.as_str())?.digest.clone();
    let before = tags.iter().map(|tag| (tag.clone(), known(tag))).collect();
    let missing = MissingFacts::of_digests(tags);
    let result = scanner.answer(&mut scan, &missing, now).await;
    HeadAnswer {
        scan,
        before,
        result,
    }
}
