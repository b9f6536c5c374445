//! `scan`: the registries are asked for new tags now.

use super::{
    Failure, Outcome, Progress, Service,
    pass_summary::{self, PassSummary},
    progress::scan_counts,
    types::{PartialFailure, available},
};
use crate::{
    core::image::{ImageRef, ImageRepository},
    io::{blocking, facts::SCAN_TIMEOUT, store::StoreError},
    spec::ImagePolicy,
    update::{self, FailureReport, ImageStatus, ImageUpdater},
};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, oneshot};

/// Scans at once, without a daemon; each registry has its own limit beside that.
const CONCURRENCY: usize = 8;

/// Asks for scans.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ScanQuery {
    /// The image repositories; those of all policies if empty.
    pub images: Vec<String>,
}

/// The scanned image repositories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScanAnswer {
    /// The image repositories, by config repository and name.
    pub images: Vec<ScannedImage>,
    /// The passes of the daemon after the scans; none without a daemon, where nothing is committed.
    pub passes: Vec<PassSummary>,
    /// The classification.
    pub outcome: Outcome,
}

/// A scanned image repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScannedImage {
    /// The config repository.
    pub repository: String,
    /// The image repository.
    pub image: ImageRepository,
    /// The number of tags; none if it was never scanned.
    pub tags: Option<u64>,
    /// The number of tags that the scan before did not list; none if there was none.
    pub new_tags: Option<u64>,
    /// The time of the last scan that succeeded.
    pub scanned: Option<Timestamp>,
    /// The reason why the tags could not be listed now.
    pub failure: Option<PartialFailure>,
    /// The reason why there was nothing to scan: no file refers to the image.
    pub skipped: Option<String>,
}

/// The scans of a daemon's config repositories: those that commands ask for, and the times of the
/// next ones.
#[derive(Default)]
pub struct DaemonScans {
    repositories: BTreeMap<String, Arc<RepositoryScans>>,
}

/// The scans of one config repository.
#[derive(Default)]
pub struct RepositoryScans {
    waiting: Mutex<Vec<ScanRequest>>,
    next: Mutex<HashMap<ImageRepository, Timestamp>>,
    wake: Notify,
}

/// A scan that a command waits for.
pub struct ScanRequest {
    pub images: BTreeSet<ImageRepository>,
    reply: oneshot::Sender<PassSummary>,
}

impl DaemonScans {
    /// Creates the scans of config repositories.
    pub fn new<'n>(repositories: impl IntoIterator<Item = &'n str>) -> Self {
        let entry = |name: &str| (name.to_owned(), Arc::default());
        Self {
            repositories: repositories.into_iter().map(entry).collect(),
        }
    }

    /// Returns the scans of a config repository.
    pub fn of(&self, repository: &str) -> Option<Arc<RepositoryScans>> {
        self.repositories.get(repository).map(Arc::clone)
    }
}

impl RepositoryScans {
    fn ask(&self, images: BTreeSet<ImageRepository>) -> oneshot::Receiver<PassSummary> {
        let (reply, answer) = oneshot::channel();
        let request = ScanRequest { images, reply };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Those whose command has ended wait for nothing.
        waiting.retain(|request| !request.reply.is_closed());
        waiting.push(request);
        drop(waiting);
        self.wake.notify_one();
        answer
    }

    /// Takes the requests that the next pass answers.
    pub fn take(&self) -> Vec<ScanRequest> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for a request.
    pub async fn requested(&self) {
        self.wake.notified().await;
    }

    /// Publishes the times of the next scans.
    pub fn schedule(&self, next: HashMap<ImageRepository, Timestamp>) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// Returns the time of the next scan.
    pub fn next(&self, image: &ImageRepository) -> Option<Timestamp> {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        next.get(image).copied()
    }
}

impl ScanRequest {
    /// Answers the command, unless it has ended meanwhile.
    pub fn answer(self, pass: PassSummary) {
        let _ = self.reply.send(pass);
    }
}

/// Has the daemon scan now and make the pass that follows; without one, lists the tags into the
/// store and commits nothing.
///
/// # Errors
/// If an image is invalid or no policy has it, or a Git server cannot be asked.
pub async fn scan(
    service: &Service,
    query: &ScanQuery,
    progress: &dyn Progress,
) -> Result<ScanAnswer, Failure> {
    let images = query.images.iter().map(|image| repository_of(image));
    let images: BTreeSet<ImageRepository> = images.collect::<Result<_, _>>()?;
    let mut selected = Vec::new();
    let mut known = BTreeSet::new();
    for updater in &service.updaters {
        progress.update(&format!("reading {}", updater.repo.config.name));
        let timeouts = timeouts(service, updater).await?;
        known.extend(timeouts.keys().cloned());
        let is_asked = |image: &ImageRepository| images.is_empty() || images.contains(image);
        let timeouts: BTreeMap<_, _> = timeouts
            .into_iter()
            .filter(|(image, _)| is_asked(image))
            .collect();
        if !timeouts.is_empty() {
            selected.push((updater, timeouts));
        }
    }
    if let Some(image) = images.iter().find(|image| !known.contains(image)) {
        let names = available(known.iter().map(ImageRepository::to_string));
        return Err(Failure::input(format!(
            "no active policy has the image {image}; {names}"
        )));
    }
    let mut answer = ScanAnswer {
        images: Vec::new(),
        passes: Vec::new(),
        outcome: Outcome::Done,
    };
    for (updater, timeouts) in selected {
        let name = &updater.repo.config.name;
        let asked: Vec<ImageRepository> = timeouts.keys().cloned().collect();
        let store = &updater.scanner.store;
        let before = update::image_statuses(store, asked.clone()).await?;
        let known = known_tags(updater, &asked).await?;
        let failures = match service.scans.as_ref().and_then(|scans| scans.of(name)) {
            Some(scans) => {
                let pass = in_daemon(updater, &scans, &asked, progress).await?;
                let failures = pass.failures.clone();
                answer.passes.push(pass);
                failures
            }
            None => alone(updater, timeouts, progress).await?,
        };
        let after = update::image_statuses(store, asked.clone()).await?;
        let listed = known_tags(updater, &asked).await?;
        for image in asked {
            let failure = failures
                .iter()
                .find(|failure| failure.image.as_ref() == Some(&image));
            let new = known.get(&image).zip(listed.get(&image));
            answer.images.push(scanned(
                name,
                image.clone(),
                before.get(&image),
                after.get(&image),
                new.map(|(known, listed)| listed.difference(known).count() as u64),
                failure,
            ));
        }
    }
    answer.outcome = outcome(&answer);
    Ok(answer)
}

fn outcome(answer: &ScanAnswer) -> Outcome {
    let failures = answer
        .images
        .iter()
        .filter_map(|image| Some(image.failure.as_ref()?.kind));
    let scanned = answer.images.iter().any(|image| image.failure.is_none());
    let scans = Outcome::of_parts(scanned, failures);
    scans.max(pass_summary::outcome(&answer.passes))
}

fn scanned(
    repository: &str,
    image: ImageRepository,
    before: Option<&ImageStatus>,
    after: Option<&ImageStatus>,
    new_tags: Option<u64>,
    failure: Option<&PartialFailure>,
) -> ScannedImage {
    let time = |status: Option<&ImageStatus>| status.and_then(|status| status.scanned);
    let is_scanned = time(before) != time(after);
    let skipped = (failure.is_none() && !is_scanned)
        .then(|| "no file of an Environment that is not suspended refers to it".to_owned());
    ScannedImage {
        repository: repository.to_owned(),
        image,
        tags: after.and_then(|status| status.tags).map(|tags| tags as u64),
        new_tags: new_tags.filter(|_| is_scanned),
        scanned: time(after),
        failure: failure.cloned(),
        skipped,
    }
}

/// Reads the image repository from an argument.
fn repository_of(text: &str) -> Result<ImageRepository, Failure> {
    let image = ImageRef::new(text)?;
    if image.tag.is_some() || image.digest.is_some() {
        return Err(Failure::input(format!(
            "{text}: a scan lists all tags of an image repository"
        ))
        .hint(format!("Write {}.", image.repository)));
    }
    Ok(image.repository)
}

/// Returns the image repositories of all policies that are not suspended, each with its longest
/// time limit.
async fn timeouts(
    service: &Service,
    updater: &ImageUpdater,
) -> Result<BTreeMap<ImageRepository, Duration>, Failure> {
    let declared = match updater.repo.declared() {
        Some(declared) if service.scans.is_some() => declared,
        // The first pass of a daemon is under way, or there is none.
        _ => {
            let _lock = updater.repo.lock.lock().await;
            updater.repo.refresh(&mut Vec::new()).await?.declared
        }
    };
    let mut timeouts = BTreeMap::new();
    let is_active = |policy: &&ImagePolicy| !policy.suspend;
    for policy in declared.policies.values().filter(is_active) {
        let timeout = policy.timeout.unwrap_or(SCAN_TIMEOUT);
        let longest = timeouts.entry(policy.image.clone()).or_insert(timeout);
        *longest = timeout.max(*longest);
    }
    Ok(timeouts)
}

/// Returns the tags that the store knows of image repositories.
async fn known_tags(
    updater: &ImageUpdater,
    images: &[ImageRepository],
) -> Result<BTreeMap<ImageRepository, BTreeSet<String>>, Failure> {
    let mut known = BTreeMap::new();
    for image in images {
        if let Some((scan, _)) = updater.scanner.last(image).await? {
            let tags = blocking(move || {
                let tags = scan.tags.get()?;
                Ok::<_, StoreError>(tags.iter().map(str::to_owned).collect())
            });
            let tags = tags.await?;
            known.insert(image.clone(), tags);
        }
    }
    Ok(known)
}

/// Has the loop of the daemon make a pass with these scans.
async fn in_daemon(
    updater: &ImageUpdater,
    scans: &RepositoryScans,
    images: &[ImageRepository],
    progress: &dyn Progress,
) -> Result<PassSummary, Failure> {
    let answer = scans.ask(images.iter().cloned().collect());
    let pass = scan_counts(updater, "scanning for", progress, answer).await;
    pass.map_err(|_| {
        Failure::new(
            crate::core::error::ErrorKind::Local,
            "the daemon stopped before the scan",
        )
        .hint("Try again when it runs.")
    })
}

/// Lists the tags without a daemon.
async fn alone(
    updater: &Arc<ImageUpdater>,
    timeouts: BTreeMap<ImageRepository, Duration>,
    progress: &dyn Progress,
) -> Result<Vec<PartialFailure>, Failure> {
    let (total, now) = (timeouts.len(), Timestamp::now());
    let mut scans = stream::iter(timeouts)
        .map(|(image, timeout)| async move {
            let scan = updater.scanner.scan(&image, timeout, now).await;
            let result = scan.map(drop);
            update::record_scan(&updater.scanner.store, &image, &result, now).await?;
            Ok::<_, Failure>((image, result))
        })
        .buffer_unordered(CONCURRENCY);
    let (mut done, mut failures) = (0, Vec::new());
    while let Some(scan) = scans.next().await {
        let (image, result) = scan?;
        done += 1;
        progress.update(&format!("scanned {done} of {total} image repositories"));
        if let Err(error) = result {
            failures.push(PartialFailure::from(&FailureReport::new(&error).of(&image)));
        }
    }
    Ok(failures)
}
