//! The status of policies and image repositories after the last pass, kept in the store so that it
//! can be shown without asking anything.

use super::{ImageUpdater, PassReport, PolicyReport, Scans};
use crate::{
    core::{
        error::Classify as _,
        image::{Digest, ImageRepository, Tag},
        name::Name,
    },
    io::{
        blocking,
        store::{Store, StoreError},
    },
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, atomic::Ordering},
};

/// Table of the store: image repository → [`ScanFailure`].
const FAILURES: &str = "scan-failures";
/// Table of the store: config repository → its [`RecordedDecision`]s.
const DECISIONS: &str = "policy-decisions";

/// The failure of the last pass that asked for an image repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanFailure {
    pub time: Timestamp,
    pub error: String,
    pub hint: Option<String>,
}

/// The decision of a policy in an Environment, as the last pass made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedDecision {
    pub environment: String,
    pub policy: Name,
    /// Tags in the files, each once.
    pub present: Vec<String>,
    /// Present tags that the registry does not list any more.
    pub unlisted: Vec<String>,
    pub chosen: Option<Tag>,
    pub digest: Option<Digest>,
    /// Why nothing was chosen.
    pub reason: Option<String>,
    /// Holds after reverts, a sentence each.
    pub held: Vec<String>,
}

/// The last listing of an image repository and its failure, as far as the store knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageStatus {
    /// The number of tags listed last.
    pub tags: Option<usize>,
    /// The time of the last listing that was whole.
    pub scanned: Option<Timestamp>,
    pub failure: Option<ScanFailure>,
}

impl RecordedDecision {
    fn new(environment: &str, report: &PolicyReport) -> Self {
        Self {
            environment: environment.to_owned(),
            policy: report.name.clone(),
            present: report.present.clone(),
            unlisted: report.unlisted.clone(),
            chosen: report.chosen.clone(),
            digest: report.digest.clone(),
            reason: report.reason.clone(),
            held: report.held.clone(),
        }
    }
}

/// Records the result of a pass. Only what has changed is written.
///
/// # Errors
/// If the store refuses.
pub(super) async fn record(
    updater: &ImageUpdater,
    report: &PassReport,
    scans: &Scans,
    now: Timestamp,
) -> Result<(), StoreError> {
    let failed: BTreeMap<ImageRepository, ScanFailure> = report
        .failures
        .iter()
        .filter_map(|failure| {
            let recorded = ScanFailure {
                time: now,
                error: failure.message.clone(),
                hint: failure.hint.clone(),
            };
            Some((failure.repository.clone()?, recorded))
        })
        .collect();
    let succeeded: HashSet<String> = scans
        .keys()
        .filter(|image| !failed.contains_key(*image))
        .map(ImageRepository::to_string)
        .collect();
    let is_own = |failure: &super::FailureReport| failure.repository.is_none() && !failure.forge;
    let is_whole = report.revision.is_some() && !report.failures.iter().any(is_own);
    // A pass that decided as the last one did writes and reads nothing.
    let fingerprint = is_whole.then(|| fingerprint(report));
    let is_new = fingerprint.is_some_and(|one| updater.decided.swap(one, Ordering::SeqCst) != one);
    let decisions = is_new.then(|| decisions(report));
    let (store, name) = (
        Arc::clone(&updater.scanner.store),
        report.repository.clone(),
    );
    let recorded = blocking(move || {
        for image in store.keys(FAILURES)? {
            if succeeded.contains(&image) {
                store.remove(FAILURES, &image)?;
            }
        }
        for (image, failure) in &failed {
            put(&store, FAILURES, image.as_str(), failure)?;
        }
        match decisions {
            Some((decided, unknown)) => record_decisions(&store, &name, decided, &unknown),
            None => Ok(()),
        }
    })
    .await;
    if recorded.is_err() {
        updater.decided.store(0, Ordering::SeqCst);
    }
    recorded
}

/// Returns a hash of the decisions of a pass; never 0, which stands for none.
fn fingerprint(report: &PassReport) -> u64 {
    let mut hash = DefaultHasher::new();
    for environment in &report.environments {
        environment.name.hash(&mut hash);
        for policy in &environment.policies {
            policy.name.hash(&mut hash);
            policy.present.hash(&mut hash);
            policy.unlisted.hash(&mut hash);
            policy.chosen.hash(&mut hash);
            policy.digest.hash(&mut hash);
            policy.reason.hash(&mut hash);
            policy.held.hash(&mut hash);
            policy.unknown.hash(&mut hash);
        }
    }
    hash.finish().max(1)
}

type Key = (String, Name);

/// Returns the decisions of a pass, and those of them that lack facts.
fn decisions(report: &PassReport) -> (Vec<RecordedDecision>, HashSet<Key>) {
    let (mut decided, mut unknown) = (Vec::new(), HashSet::new());
    for environment in &report.environments {
        for policy in &environment.policies {
            decided.push(RecordedDecision::new(&environment.name, policy));
            if policy.unknown {
                unknown.insert((environment.name.clone(), policy.name.clone()));
            }
        }
    }
    (decided, unknown)
}

/// Writes the decisions of a config repository. One that lacks facts keeps its last choice.
fn record_decisions(
    store: &Store,
    repository: &str,
    mut decided: Vec<RecordedDecision>,
    unknown: &HashSet<Key>,
) -> Result<(), StoreError> {
    let recorded = read_decisions(store, repository)?;
    let last = recorded.as_deref().unwrap_or_default();
    for decision in &mut decided {
        let key = (decision.environment.clone(), decision.policy.clone());
        let is_same = |last: &&RecordedDecision| {
            last.environment == decision.environment && last.policy == decision.policy
        };
        if unknown.contains(&key)
            && decision.chosen.is_none()
            && let Some(last) = last.iter().find(is_same)
        {
            decision.chosen.clone_from(&last.chosen);
            decision.digest.clone_from(&last.digest);
            decision.unlisted.clone_from(&last.unlisted);
            decision.held.clone_from(&last.held);
        }
    }
    match recorded.as_ref() == Some(&decided) {
        true => Ok(()),
        false => put(store, DECISIONS, repository, &decided),
    }
}

fn put(store: &Store, table: &str, key: &str, value: &impl Serialize) -> Result<(), StoreError> {
    let json = serde_json::to_vec(value).expect("it has only text, times and lists");
    store.put(table, key, &json)
}

fn read_decisions(
    store: &Store,
    repository: &str,
) -> Result<Option<Vec<RecordedDecision>>, StoreError> {
    let bytes = store.get(DECISIONS, repository)?;
    // Text of another version is as good as none: the next pass writes it again.
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Reads the decisions of a config repository, as the last pass made them; none before the first.
///
/// # Errors
/// If the store refuses.
pub async fn recorded_decisions(
    store: &Arc<Store>,
    repository: &str,
) -> Result<Option<Vec<RecordedDecision>>, StoreError> {
    let (store, repository) = (Arc::clone(store), repository.to_owned());
    blocking(move || read_decisions(&store, &repository)).await
}

/// Reads the status of image repositories.
///
/// # Errors
/// If the store refuses.
pub async fn image_statuses(
    store: &Arc<Store>,
    images: Vec<ImageRepository>,
) -> Result<BTreeMap<ImageRepository, ImageStatus>, StoreError> {
    let store = Arc::clone(store);
    blocking(move || {
        let read = |image: ImageRepository| {
            let kept = store.listing(&image)?;
            let failure = store.get(FAILURES, image.as_str())?;
            let status = ImageStatus {
                tags: kept.as_ref().map(|kept| kept.count),
                scanned: kept.map(|kept| kept.state.fetched),
                failure: failure.and_then(|bytes| serde_json::from_slice(&bytes).ok()),
            };
            Ok((image, status))
        };
        images.into_iter().map(read).collect()
    })
    .await
}

/// Records the result of a scan outside a pass.
///
/// # Errors
/// If the store refuses.
pub async fn record_scan(
    store: &Arc<Store>,
    image: &ImageRepository,
    result: &Result<(), crate::io::facts::ScanError>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let failure = result.as_ref().err().map(|error| ScanFailure {
        time: now,
        error: error.to_string(),
        hint: error.hint(),
    });
    let (store, image) = (Arc::clone(store), image.clone());
    blocking(move || match failure {
        Some(failure) => put(&store, FAILURES, image.as_str(), &failure),
        None => store.remove(FAILURES, image.as_str()).map(drop),
    })
    .await
}
