//! Facts about the images of a pull request, from registry and forge: read once for each step, and
//! kept in the store.
//!
//! Labels of images are hostile input: they contain URLs. Nothing is ever sent to such a URL.
//! Release notes are read through the config repository's own forge, and only if the label names a
//! project on the same host; any other source is only linked. Missing facts are left out with a
//! note; they never keep a pull request from being opened.

use crate::update::report::RefusedReport;
use crate::{
    core::{
        image::{Digest, ImageRepository, Tag},
        schedule,
        version::{Bump, Version},
    },
    images::policy,
    io::{
        blocking,
        facts::{RepositoryScan, ScanError, Scanner},
        forge::{self, Forge},
        registry::{ImageDescription, ManifestHead, RegistryError, RegistryProblem},
    },
    review::{DescribedMove, ImageLabels, ImageMove, MoveFacts, ReleaseNotes, SeenBy, SeenSince},
    spec::{self, ImagePolicy},
};
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

/// Default timeout of the calls about one image.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Images whose facts are read concurrently.
const CONCURRENT: usize = 4;
/// Images whose facts are read for one text: half a minute at worst. The others are described with
/// what is known, and read when the text is written again.
const MOST: usize = 12;
/// Releases with notes in a text.
const RELEASES: usize = 10;
/// Characters kept of one release's notes.
const NOTES: usize = 8 * 1024;
/// Characters of one label.
const LABEL: usize = 1_000;
/// How long missing facts are not asked for again.
const RETRY_AFTER: SignedDuration = SignedDuration::from_hours(1);
/// Table of the store.
const TABLE: &str = "told";
/// Steps kept in the store, of 80 KiB at worst and usually 2 KiB.
const KEPT: usize = 1_000;

/// Sources of facts.
pub struct FactsGatherer<'g> {
    pub scanner: &'g Scanner,
    /// The forge of the config repository.
    pub forge: Option<&'g dyn Forge>,
    pub now: Timestamp,
    /// Timeout of the calls about one image: [`PATIENCE`].
    pub patience: Duration,
}

/// A move, with what the pass knows of it.
pub struct FactsQuery<'a> {
    pub image: &'a ImageMove,
    /// The policy that chose, if it is still declared.
    pub policy: Option<&'a ImagePolicy>,
    pub scan: Option<&'a RepositoryScan>,
    /// Newer tags that were refused.
    pub refused: &'a [RefusedReport],
}

/// Gathered facts, in the order of the queries.
pub struct GatheredFacts {
    pub moves: Vec<DescribedMove>,
    /// True if a later attempt may find more.
    pub may_tell_more: bool,
}

/// Facts of a step, as the store keeps them.
#[derive(Serialize, Deserialize)]
struct CachedStep {
    facts: MoveFacts,
    seen: Option<Timestamp>,
    by_registry: bool,
    /// When the facts were read.
    at: Timestamp,
    /// True if a later attempt may find more.
    again: bool,
}

impl FactsGatherer<'_> {
    /// Gathers facts. It never fails: missing facts are left out.
    pub async fn gather(&self, queries: &[FactsQuery<'_>]) -> GatheredFacts {
        let mut all = self.stored(queries).await;
        let is_due = |kept: &Option<CachedStep>| {
            kept.as_ref()
                .is_none_or(|kept| kept.again && self.now.duration_since(kept.at) >= RETRY_AFTER)
        };
        let due: Vec<usize> = (0..queries.len())
            .filter(|index| is_due(&all[*index]))
            .collect();
        let found: Vec<(usize, CachedStep)> = stream::iter(due.into_iter().take(MOST))
            .map(|index| async move { (index, self.read(&queries[index]).await) })
            .buffer_unordered(CONCURRENT)
            .collect()
            .await;
        self.store(queries, &found).await;
        for (index, kept) in found {
            all[index] = Some(kept);
        }
        let may_tell_more = all
            .iter()
            .any(|kept| kept.as_ref().is_none_or(|kept| kept.again));
        let mut moves = Vec::with_capacity(queries.len());
        for (query, kept) in queries.iter().zip(all) {
            let kept = match kept {
                Some(kept) => kept,
                None => self.known(query).await,
            };
            moves.push(described(query, kept));
        }
        GatheredFacts {
            moves,
            may_tell_more,
        }
    }

    /// Returns the facts that are known without a call.
    async fn known(&self, query: &FactsQuery<'_>) -> CachedStep {
        let digest = known_digest(query);
        let (seen, by_registry) = self.seen(query, digest.as_ref()).await;
        let missing =
            Some("Not read yet, because the pull request updates many images.".to_owned());
        CachedStep {
            facts: MoveFacts {
                digest,
                missing,
                ..MoveFacts::default()
            },
            seen,
            by_registry,
            at: self.now,
            again: true,
        }
    }

    /// Reads registry and forge, within the timeout.
    async fn read(&self, query: &FactsQuery<'_>) -> CachedStep {
        let mut kept = CachedStep {
            facts: MoveFacts::default(),
            ..self.known(query).await
        };
        kept.again = false;
        match tokio::time::timeout(self.patience, self.fill(query, &mut kept)).await {
            Ok(Ok(())) => {}
            Ok(Err(missing)) => (kept.facts.missing, kept.again) = (Some(missing), true),
            Err(_) => {
                let seconds = self.patience.as_secs();
                kept.facts.missing = Some(format!(
                    "Registry or forge did not answer within {seconds} s; facts may be missing."
                ));
                kept.again = true;
            }
        }
        if kept.facts.digest.is_none() {
            kept.facts.digest = known_digest(query);
        }
        if kept.seen.is_none() {
            (kept.seen, kept.by_registry) = self.seen(query, kept.facts.digest.as_ref()).await;
        }
        kept
    }

    /// Fills in facts as they arrive, so that a timeout loses only the later ones.
    ///
    /// # Errors
    /// A sentence about what could not be read.
    async fn fill(&self, query: &FactsQuery<'_>, kept: &mut CachedStep) -> Result<(), String> {
        let ImageMove {
            repository,
            old,
            new,
            bump,
            ..
        } = query.image;
        let facts = &mut kept.facts;
        let labels = |error: ScanError| format!("Cannot read the labels of the image: {error}.");
        let digest = match known_digest(query) {
            Some(digest) => digest,
            None => {
                let Some(head) = self.head(repository, new).await.map_err(labels)? else {
                    return Ok(());
                };
                // If no rule goes by an age, no scan has seen the tag before: its age starts here.
                let seen = [(new.clone(), head.digest.clone())];
                let since = self
                    .scanner
                    .store
                    .see(repository, &seen, self.now)
                    .ok()
                    .and_then(|seen| Some(seen.first()?.since));
                kept.by_registry = head
                    .pushed
                    .is_some_and(|pushed| since.is_none_or(|since| pushed < since));
                kept.seen = if kept.by_registry { head.pushed } else { since };
                head.digest
            }
        };
        facts.digest = Some(digest.clone());
        let Some(described) = self
            .scanner
            .describe(repository, &digest)
            .await
            .map_err(labels)?
        else {
            return Ok(());
        };
        facts.new = read_labels(&described);
        (facts.created, facts.platforms) = (described.created, described.platforms);
        // The old digest of a tag that stays is unknown.
        if let Some(old) = old
            .as_deref()
            .filter(|_| *bump != Bump::Digest)
            .and_then(|old| Tag::new(old).ok())
            && let Some(head) = self.head(repository, &old).await.map_err(labels)?
            && let Some(described) = self
                .scanner
                .describe(repository, &head.digest)
                .await
                .map_err(labels)?
        {
            facts.old = read_labels(&described);
        }
        facts.compare = self.compare(&facts.old, &facts.new);
        let Some((forge, project)) = self.project(&facts.new) else {
            return Ok(());
        };
        let Some((from, to)) = versions(query.image, &facts.old, &facts.new) else {
            return Ok(());
        };
        let releases = forge.releases(&project, &from, &to).await;
        let releases =
            releases.map_err(|error| format!("Cannot read the release notes: {error}."))?;
        facts.releases = releases.into_iter().take(RELEASES).map(release).collect();
        Ok(())
    }

    /// Reads the manifest head of a tag; none if the registry does not have the tag.
    async fn head(
        &self,
        repository: &ImageRepository,
        tag: &Tag,
    ) -> Result<Option<ManifestHead>, ScanError> {
        match self.scanner.registries.head(repository, tag).await {
            Ok(head) => Ok(Some(head)),
            Err(RegistryError {
                problem: RegistryProblem::NotFound { .. },
                ..
            }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the page that compares two sources, if both are one project on a known kind of
    /// forge.
    fn compare(&self, old: &ImageLabels, new: &ImageLabels) -> Option<String> {
        let place = self.place(new.source.as_deref()?)?;
        if old.source.is_some() && self.place(old.source.as_deref()?) != Some(place.clone()) {
            return None;
        }
        let commit = |text: &&str| {
            (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let from = old.revision.as_deref().filter(commit)?;
        let to = new.revision.as_deref().filter(commit)?;
        (from != to).then(|| forge::compare_url(&place, from, to))
    }

    /// Returns the project at a URL: on the config repository's forge, or on a well-known host.
    fn place(&self, source: &str) -> Option<spec::ForgeSpec> {
        let own = self.forge.and_then(|forge| {
            Some(spec::ForgeSpec {
                project: forge.place().project_at(source)?,
                ..forge.place().clone()
            })
        });
        own.or_else(|| spec::ForgeSpec::of(source))
    }

    /// Returns the project whose release notes may be read: on the config repository's forge, and
    /// of the same owner.
    ///
    /// A label could name any project that the bot's token can read, but readers of the pull
    /// request may not see.
    fn project(&self, labels: &ImageLabels) -> Option<(&dyn Forge, String)> {
        let forge = self.forge?;
        let project = forge.place().project_at(labels.source.as_deref()?)?;
        let owner = |project: &str| project.split('/').next().map(str::to_lowercase);
        (owner(&project) == owner(&forge.place().project)).then_some((forge, project))
    }

    /// Returns since when the tag has had this digest, and whether the registry told it.
    async fn seen(
        &self,
        query: &FactsQuery<'_>,
        digest: Option<&Digest>,
    ) -> (Option<Timestamp>, bool) {
        let ImageMove {
            repository, new, ..
        } = query.image;
        let (store, key) = (
            Arc::clone(&self.scanner.store),
            (repository.clone(), new.clone()),
        );
        let kept = blocking(move || store.seen(&key.0, &key.1)).await;
        let kept = kept
            .ok()
            .flatten()
            .filter(|seen| digest.is_none_or(|digest| seen.digest == *digest))
            .map(|seen| seen.since);
        let counted = query
            .scan
            .and_then(|scan| scan.details.get(new.as_str())?.since);
        match (counted, kept) {
            (Some(counted), Some(kept)) if counted < kept => (Some(counted), true),
            (_, kept) => (kept, false),
        }
    }

    /// Returns the stored facts of each step, unless its tag has moved since.
    async fn stored(&self, queries: &[FactsQuery<'_>]) -> Vec<Option<CachedStep>> {
        let keys: Vec<String> = queries.iter().map(|query| key(query.image)).collect();
        let store = Arc::clone(&self.scanner.store);
        let stored = blocking(move || {
            let read = |key: &String| {
                let bytes = store.get(TABLE, key).ok()??;
                serde_json::from_slice::<CachedStep>(&bytes).ok()
            };
            keys.iter().map(read).collect::<Vec<_>>()
        })
        .await;
        let is_current = |query: &FactsQuery<'_>, kept: &CachedStep| {
            known_digest(query).is_none_or(|digest| kept.facts.digest.as_ref() == Some(&digest))
        };
        queries
            .iter()
            .zip(stored)
            .map(|(query, kept)| kept.filter(|kept| is_current(query, kept)))
            .collect()
    }

    /// Stores facts. A failure only costs another read.
    async fn store(&self, queries: &[FactsQuery<'_>], found: &[(usize, CachedStep)]) {
        let rows: Vec<(String, Vec<u8>)> = found
            .iter()
            .filter_map(|(index, kept)| {
                let bytes = serde_json::to_vec(kept).ok()?;
                Some((key(queries[*index].image), bytes))
            })
            .collect();
        if rows.is_empty() {
            return;
        }
        let store = Arc::clone(&self.scanner.store);
        blocking(move || {
            let keys = store.keys(TABLE).unwrap_or_default();
            if keys.len() + rows.len() > KEPT {
                for key in keys {
                    let _ = store.remove(TABLE, &key);
                }
            }
            for (key, bytes) in rows {
                let _ = store.put(TABLE, &key, &bytes);
            }
        })
        .await;
    }
}

fn key(image: &ImageMove) -> String {
    let digest = image.digest.as_ref().map_or("", |digest| digest.as_str());
    format!(
        "{} {} {digest} {}",
        image.repository,
        image.new,
        image.old.as_deref().unwrap_or_default()
    )
}

/// Returns the digest that was written, or that the registry confirmed in this pass.
fn known_digest(query: &FactsQuery<'_>) -> Option<Digest> {
    let confirmed = || {
        query
            .scan?
            .details
            .get(query.image.new.as_str())
            .filter(|details| details.fresh)?
            .digest
            .clone()
    };
    query.image.digest.clone().or_else(confirmed)
}

fn described(query: &FactsQuery<'_>, kept: CachedStep) -> DescribedMove {
    let clock = if kept.by_registry {
        SeenBy::Registry
    } else {
        SeenBy::Tagboat
    };
    DescribedMove {
        image: query.image.clone(),
        policy: query.policy.map_or(String::new(), wants),
        seen: kept.seen.map(|at| SeenSince { at, clock }),
        refused: query
            .refused
            .iter()
            .map(|refused| (refused.tag.clone(), refused.reason.clone()))
            .collect(),
        facts: kept.facts,
    }
}

/// Describes a policy in short: `semver >=6.0.0 <7.0.0, minimum age 72h`.
pub fn wants(policy: &ImagePolicy) -> String {
    let mut text = policy::summary(policy);
    if let Some(pattern) = &policy.filter.pattern {
        text.push_str(&format!(", tags that match {}", pattern.as_str()));
    }
    if let Some(age) = policy.minimum_age {
        text.push_str(&format!(", minimum age {}", schedule::show(age)));
    }
    text
}

fn read_labels(description: &ImageDescription) -> ImageLabels {
    let label = |name: &str| {
        let text = description
            .labels
            .get(&format!("org.opencontainers.image.{name}"))?;
        let text: String = text.trim().chars().take(LABEL).collect();
        (!text.is_empty()).then_some(text)
    };
    ImageLabels {
        source: label("source"),
        revision: label("revision"),
        version: label("version"),
    }
}

/// Returns the versions between which releases are read: those of the images' labels, else their
/// tags; none if both are the same.
fn versions(image: &ImageMove, old: &ImageLabels, new: &ImageLabels) -> Option<(String, String)> {
    let version = |text: &&str| Version::of_tag(text).is_ok();
    let to = new
        .version
        .as_deref()
        .filter(version)
        .unwrap_or(image.new.as_str());
    let from = old
        .version
        .as_deref()
        .filter(version)
        .or(image.old.as_deref())?;
    (from != to && Tag::new(from).is_ok()).then(|| (from.to_owned(), to.to_owned()))
}

fn release(release: forge::ForgeRelease) -> ReleaseNotes {
    let forge::ForgeRelease {
        tag,
        name,
        notes,
        url,
        at,
    } = release;
    ReleaseNotes {
        tag,
        name,
        notes: notes.chars().take(NOTES).collect(),
        url,
        at,
    }
}
