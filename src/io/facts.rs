//! Answers the questions of policies from the registry, and from the store what the registry need
//! not be asked again.
//!
//! One [`RepositoryScan`] is one repository in one pass, shared by all policies that read it: its
//! tags are listed once, a digest is confirmed once.

mod background;
mod error;
mod tags;

use crate::{
    core::image::{Digest, ImageRepository, Tag},
    images::policy::{MissingFacts, TagFacts},
    io::{
        blocking,
        registry::{
            ImageDescription, Listing, Registries, RegistryError, RegistryProblem, Tags, Validator,
        },
        store::{KeptListing, ListVersion, Store, StoreError},
    },
};
pub use background::BackgroundScans;
use background::ScanPatience;
pub use error::ScanError;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use std::{collections::HashMap, sync::Arc, time::Duration};
pub use tags::ListedTags;

/// The time limit of a scan where no policy writes one: a list of 100,000 tags at 100 a page takes
/// half of it at a slow registry.
pub const SCAN_TIMEOUT: Duration = Duration::from_secs(120);

/// The furthest ahead of this clock that a creation date is believed: a day covers wrong time
/// zones.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(24);

/// Concurrent requests for one repository; the registry client also bounds them by host.
const AT_ONCE: usize = 8;

/// Answers the questions of policies from the registry and the store.
#[derive(Clone)]
pub struct Scanner {
    pub registries: Arc<Registries>,
    pub store: Arc<Store>,
    /// None waits until the time limit of each scan.
    patience: Option<ScanPatience>,
}

/// The facts about an image repository during a pass.
#[derive(Debug, Clone)]
pub struct RepositoryScan {
    pub repository: ImageRepository,
    pub tags: ListedTags,
    /// The number of listed names that are no valid tags.
    pub hostile: usize,
    /// Facts about single tags.
    pub details: HashMap<String, TagFacts>,
    /// True if the facts are from an earlier pass: good enough to see that nothing changes, not to
    /// change anything.
    pub remembered: bool,
    /// The time from which the first creation date is believed that is too far ahead now.
    pub believed_from: Option<Timestamp>,
    /// The time limit of the scan, and of each later question.
    pub timeout: Duration,
}

impl Scanner {
    /// Creates a scanner that waits for every registry.
    pub fn new(registries: Arc<Registries>, store: Arc<Store>) -> Self {
        Self {
            registries,
            store,
            patience: None,
        }
    }

    /// Returns the scanner of one of several config repositories, which has its share of the
    /// requests to each registry.
    #[must_use]
    pub fn owned_by(&self, owner: &str) -> Self {
        Self {
            registries: Arc::new(self.registries.owned_by(owner)),
            ..self.clone()
        }
    }

    /// Returns a scanner that waits so long in a pass for all answers of a registry, and leaves the
    /// rest to `scans`.
    #[must_use]
    pub fn patient(&self, scans: &Arc<BackgroundScans>, longest: Duration) -> Self {
        Self {
            patience: Some(ScanPatience::new(scans, longest)),
            ..self.clone()
        }
    }

    fn impatient(&self) -> Self {
        Self {
            patience: None,
            ..self.clone()
        }
    }

    /// Runs transactions of the store in a blocking task.
    async fn in_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = Arc::clone(&self.store);
        blocking(move || work(&store)).await
    }

    /// Returns the last listing, from memory if it is known there.
    async fn kept_listing(
        &self,
        repository: &ImageRepository,
    ) -> Result<Option<KeptListing>, StoreError> {
        if let Some(known) = self.store.known_listing(repository) {
            return Ok(Some(known));
        }
        let repository = repository.clone();
        self.in_store(move |store| store.listing(&repository)).await
    }

    /// Notes that the kept list is still the registry's.
    async fn touch(&self, repository: &ImageRepository, now: Timestamp) -> Result<(), StoreError> {
        match self.store.touch_known(repository, now) {
            true => self.in_store(Store::write_touched).await,
            false => Ok(()),
        }
    }

    /// Begins the facts of a pass about a repository.
    fn begin(&self, repository: &ImageRepository, tags: ListedTags) -> RepositoryScan {
        RepositoryScan {
            repository: repository.clone(),
            tags,
            hostile: 0,
            details: HashMap::new(),
            remembered: false,
            believed_from: None,
            timeout: SCAN_TIMEOUT,
        }
    }

    fn begin_kept(&self, repository: &ImageRepository, version: ListVersion) -> RepositoryScan {
        self.begin(
            repository,
            ListedTags::kept(&self.store, repository, version),
        )
    }

    /// Lists the tags, with `If-None-Match` where the registry offered an `ETag` before.
    ///
    /// # Errors
    /// If the list is not whole and certain, takes longer than `timeout`, or the store refuses.
    pub async fn scan(
        &self,
        repository: &ImageRepository,
        timeout: Duration,
        now: Timestamp,
    ) -> Result<RepositoryScan, ScanError> {
        match &self.patience {
            Some(patience) => {
                let scanner = self.impatient();
                patience.scan(scanner, repository, timeout, now).await
            }
            None => self.list(repository, timeout, now).await,
        }
    }

    /// Lists the tags within the time limit.
    async fn list(
        &self,
        repository: &ImageRepository,
        timeout: Duration,
        now: Timestamp,
    ) -> Result<RepositoryScan, ScanError> {
        let kept = self.kept_listing(repository).await?;
        let validator: Option<&Validator> =
            kept.as_ref().and_then(|kept| kept.state.validator.as_ref());
        let listing = self.registries.list_tags(repository, validator);
        let scan = match (within(repository, timeout, listing).await?, &kept) {
            (Tags::Listed(listing), kept) => {
                let hostile = listing.refused.count;
                let scan = self.take(repository, listing, kept.as_ref(), now).await?;
                RepositoryScan { hostile, ..scan }
            }
            (Tags::NotModified, Some(kept)) => {
                self.touch(repository, now).await?;
                self.begin_kept(repository, kept.version)
            }
            (Tags::NotModified, None) => {
                return Err(ScanError::Unasked {
                    repository: repository.clone(),
                });
            }
        };
        Ok(RepositoryScan { timeout, ..scan })
    }

    /// Keeps a listing; one that is as before is not written.
    async fn take(
        &self,
        repository: &ImageRepository,
        listing: Listing,
        kept: Option<&KeptListing>,
        now: Timestamp,
    ) -> Result<RepositoryScan, StoreError> {
        let Listing {
            tags, validator, ..
        } = listing;
        if let Some(kept) = kept
            && kept.state.validator == validator
            && kept.has(&tags)
        {
            self.touch(repository, now).await?;
            return Ok(self.begin_kept(repository, kept.version));
        }
        let key = repository.clone();
        let (tags, version) = self
            .in_store(move |store| {
                let (version, _) = store.put_listing(&key, &tags, validator.as_ref(), now)?;
                Ok((tags, version))
            })
            .await?;
        let tags = ListedTags::fresh(&self.store, repository, version, tags);
        Ok(self.begin(repository, tags))
    }

    /// The last listing, without asking the registry; with the time it is of.
    ///
    /// # Errors
    /// If the store refuses.
    pub async fn last(
        &self,
        repository: &ImageRepository,
    ) -> Result<Option<(RepositoryScan, Timestamp)>, ScanError> {
        let kept = self.kept_listing(repository).await?;
        Ok(kept.map(|kept| {
            let scan = self.begin_kept(repository, kept.version);
            (scan, kept.state.fetched)
        }))
    }

    /// Fills in what the store knows of every tag: first-seen times, dates, platforms. For policies
    /// that go by them. Blocks for a transaction.
    ///
    /// # Errors
    /// If the store refuses.
    pub fn recall(&self, scan: &mut RepositoryScan, now: Timestamp) -> Result<(), ScanError> {
        let tags = Arc::clone(scan.tags.get()?);
        let known = self.store.known_facts(&scan.repository, &tags, |tag| {
            !scan.details.contains_key(tag)
        })?;
        for (tag, seen, description) in known {
            let mut details = TagFacts {
                since: Some(seen.since),
                digest: Some(seen.digest),
                ..TagFacts::default()
            };
            if let Some(description) = description {
                let believed_from = describe(&mut details, description, now);
                scan.believe_from(believed_from);
            }
            scan.details.insert(tag, details);
        }
        Ok(())
    }

    /// Fills in when tags appeared in the list, for policies with holds.
    ///
    /// # Errors
    /// If the store refuses.
    pub fn recall_listed(&self, scan: &mut RepositoryScan) -> Result<(), ScanError> {
        for (tag, listed) in self.store.listed_since(&scan.repository)? {
            scan.details.entry(tag).or_default().listed = Some(listed);
        }
        Ok(())
    }

    /// Answers what a policy needs. What the registry does not have is answered, too: as a tag
    /// without a digest.
    ///
    /// # Errors
    /// If the registry cannot be asked, or not within the scan's time limit: then the policy must
    /// not decide. Descriptions that were fetched until then are kept for the next question.
    pub async fn answer(
        &self,
        scan: &mut RepositoryScan,
        needs: &MissingFacts,
        now: Timestamp,
    ) -> Result<(), ScanError> {
        match &self.patience {
            Some(patience) => {
                let scanner = self.impatient();
                patience.answer(scanner, scan, needs, now).await
            }
            None => self.answer_now(scan, needs, now).await,
        }
    }

    /// Answers within the time limit of the scan.
    async fn answer_now(
        &self,
        scan: &mut RepositoryScan,
        needs: &MissingFacts,
        now: Timestamp,
    ) -> Result<(), ScanError> {
        let (repository, timeout) = (scan.repository.clone(), scan.timeout);
        within(&repository, timeout, self.fetch_facts(scan, needs, now)).await
    }

    async fn fetch_facts(
        &self,
        scan: &mut RepositoryScan,
        needs: &MissingFacts,
        now: Timestamp,
    ) -> Result<(), ScanError> {
        let fresh = |tag: &&Tag| {
            !scan
                .details
                .get(tag.as_str())
                .is_some_and(|details| details.fresh)
        };
        let known = |tag: &&Tag| {
            scan.details
                .get(tag.as_str())
                .is_some_and(|details| details.digest.is_some())
        };
        let mut unconfirmed: Vec<Tag> = needs.digests.iter().filter(fresh).cloned().collect();
        unconfirmed.extend(
            needs
                .dates
                .iter()
                .chain(&needs.platforms)
                .filter(|tag| !known(tag))
                .filter(fresh)
                .cloned(),
        );
        self.confirm(scan, unconfirmed, now).await?;
        let mut asked: Vec<(String, Option<Digest>)> = Vec::new();
        for tag in needs.dates.iter().chain(&needs.platforms) {
            let details = scan.details.entry(tag.as_str().to_owned()).or_default();
            asked.push((tag.as_str().to_owned(), details.digest.clone()));
        }
        let repository = &scan.repository;
        let described: Vec<(String, Option<ImageDescription>)> = stream::iter(asked)
            .map(|(tag, digest)| async move {
                let description = match digest {
                    Some(digest) => self.describe(repository, &digest).await?,
                    None => None,
                };
                Ok::<_, ScanError>((tag, description))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for (tag, description) in described {
            let believed_from = describe(
                scan.details.entry(tag).or_default(),
                description.unwrap_or_default(),
                now,
            );
            scan.believe_from(believed_from);
        }
        Ok(())
    }

    /// Fetches the current digests of tags and records the first time each was seen.
    async fn confirm(
        &self,
        scan: &mut RepositoryScan,
        tags: Vec<Tag>,
        now: Timestamp,
    ) -> Result<(), ScanError> {
        let repository = &scan.repository;
        let heads: Vec<_> = stream::iter(tags)
            .map(|tag| async move {
                match self.registries.head(repository, &tag).await {
                    Ok(head) => Ok((tag, Some(head))),
                    Err(RegistryError {
                        problem: RegistryProblem::NotFound { .. },
                        ..
                    }) => Ok((tag, None)),
                    Err(error) => Err(error),
                }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let found: Vec<(Tag, Digest)> = heads
            .iter()
            .filter_map(|(tag, head)| Some((tag.clone(), head.as_ref()?.digest.clone())))
            .collect();
        let key = repository.clone();
        let mut seen = self
            .in_store(move |store| store.see(&key, &found, now))
            .await?
            .into_iter();
        for (tag, head) in heads {
            let details = scan.details.entry(tag.as_str().to_owned()).or_default();
            details.fresh = true;
            let Some(head) = head else {
                details.digest = None;
                continue;
            };
            if details.digest.as_ref() != Some(&head.digest) {
                // A tag that was pushed again is dated again.
                details.created = None;
                details.platforms = None;
                details.artifact = None;
            }
            let first_seen = seen.next().map_or(now, |seen| seen.since);
            details.since = Some(
                head.pushed
                    .map_or(first_seen, |pushed| pushed.min(first_seen)),
            );
            details.digest = Some(head.digest);
        }
        Ok(())
    }

    /// Returns the description of a digest's manifest: from the store for ever, else from the
    /// registry.
    ///
    /// # Errors
    /// If the registry cannot be reached.
    pub async fn describe(
        &self,
        repository: &ImageRepository,
        digest: &Digest,
    ) -> Result<Option<ImageDescription>, ScanError> {
        let key = (repository.clone(), digest.clone());
        let stored = self.in_store({
            let (repository, digest) = key.clone();
            move |store| store.description(&repository, &digest)
        });
        if let Some(description) = stored.await? {
            return Ok(Some(description));
        }
        match self.registries.describe(repository, digest).await {
            Ok(description) => {
                let (repository, digest) = key;
                let description = self
                    .in_store(move |store| {
                        store.put_description(&repository, &digest, &description)?;
                        Ok(description)
                    })
                    .await?;
                Ok(Some(description))
            }
            Err(RegistryError {
                problem: RegistryProblem::NotFound { .. },
                ..
            }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Runs requests to a registry within a time limit.
async fn within<T, E: Into<ScanError>>(
    repository: &ImageRepository,
    timeout: Duration,
    requests: impl Future<Output = Result<T, E>>,
) -> Result<T, ScanError> {
    match tokio::time::timeout(timeout, requests).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(ScanError::Deadline {
            repository: repository.clone(),
            after: timeout,
        }),
    }
}

impl RepositoryScan {
    fn believe_from(&mut self, time: Option<Timestamp>) {
        self.believed_from = self.believed_from.into_iter().chain(time).min();
    }
}

/// Adds a description to the facts of a tag. Returns the time from which its date is believed, if
/// that is too far ahead now.
fn describe(
    details: &mut TagFacts,
    description: ImageDescription,
    now: Timestamp,
) -> Option<Timestamp> {
    let latest = now.checked_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX);
    let created = description.created;
    details.created = Some(created.filter(|created| *created <= latest));
    details.artifact = description.artifact;
    details.platforms = Some(description.platforms);
    created
        .filter(|created| *created > latest)
        .and_then(|created| created.checked_sub(CLOCK_SKEW).ok())
}
