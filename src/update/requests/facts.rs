//! What registry and forge tell of the images that a request moves: asked once for each step, and
//! kept in the store.
//!
//! Labels of images are hostile: they name addresses. Nothing is ever sent to such an address.
//! Release notes are read through the config repository's own forge, and only if the label names a
//! project on the same host; of any other source the text has the link alone. What cannot be found
//! out is left out with a word; it never keeps a request from opening.

use crate::update::report::RefusedReport;
use crate::{
    core::{
        image::{Digest, ImageRepository, Tag},
        schedule,
        version::{Bump, Version},
    },
    io::{
        facts::{RepositoryScan, ScanError, Scanner},
        forge::{self, Forge},
        registry::{ImageDescription, ManifestHead, RegistryError, RegistryProblem},
    },
    review::{DescribedMove, ImageLabels, ImageMove, MoveFacts, ReleaseNotes, SeenBy, SeenSince},
    spec::{self, ImagePolicy, PolicyKind, SortOrder},
};
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long the questions about one image usually may take.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Images asked about at once.
const AT_ONCE: usize = 4;
/// Images asked about for one text: with those of [`AT_ONCE`] in half a minute at worst. Others are
/// told of with what is known, and asked about when the text is made again.
const MOST: usize = 12;
/// Releases whose notes are taken.
const RELEASES: usize = 10;
/// Characters of one release's notes that are kept.
const NOTES: usize = 8 * 1024;
/// Characters of one label.
const LABEL: usize = 1_000;
/// How long something that could not be found out is not asked again.
const REST: SignedDuration = SignedDuration::from_hours(1);
/// Where the store keeps it.
const TABLE: &str = "told";
/// Steps that are kept: with notes of 80 KiB at worst, usually 2 KiB.
const KEPT: usize = 1_000;

/// Who is asked.
pub struct FactsGatherer<'g> {
    /// Registries and store.
    pub scanner: &'g Scanner,
    /// The forge of the config repository.
    pub forge: Option<&'g dyn Forge>,
    /// The time.
    pub now: Timestamp,
    /// How long the questions about one image may take: [`PATIENCE`].
    pub patience: Duration,
}

/// A move that is told of, with what the pass knows.
pub struct FactsQuery<'a> {
    /// The move.
    pub image: &'a ImageMove,
    /// The policy that chose, if it is still declared.
    pub policy: Option<&'a ImagePolicy>,
    /// What is known of the repository.
    pub scan: Option<&'a RepositoryScan>,
    /// Newer tags that were refused.
    pub refused: &'a [RefusedReport],
}

/// What was gathered, in the order of the question.
pub struct GatheredFacts {
    /// The moves.
    pub told: Vec<DescribedMove>,
    /// Whether asking again later can tell more.
    pub may_tell_more: bool,
}

/// What is kept of a step.
#[derive(Serialize, Deserialize)]
struct CachedStep {
    facts: MoveFacts,
    seen: Option<Timestamp>,
    by_registry: bool,
    /// When it was asked.
    at: Timestamp,
    /// Whether something is missing that may be found out later.
    again: bool,
}

impl FactsGatherer<'_> {
    /// Finds out what can be told. Never fails: what is not known is left out.
    pub async fn gather(&self, asked: &[FactsQuery<'_>]) -> GatheredFacts {
        let kept: Vec<Option<CachedStep>> = asked.iter().map(|asked| self.kept(asked)).collect();
        let due = |kept: &Option<CachedStep>| {
            kept.as_ref()
                .is_none_or(|kept| kept.again && self.now.duration_since(kept.at) >= REST)
        };
        let wanted: Vec<usize> = (0..asked.len()).filter(|at| due(&kept[*at])).collect();
        let found: Vec<(usize, CachedStep)> = stream::iter(wanted.into_iter().take(MOST))
            .map(|at| async move { (at, self.ask(&asked[at]).await) })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut all = kept;
        for (at, kept) in found {
            self.keep(&asked[at], &kept);
            all[at] = Some(kept);
        }
        let may_tell_more = all
            .iter()
            .any(|kept| kept.as_ref().is_none_or(|kept| kept.again));
        let told = asked
            .iter()
            .zip(all)
            .map(|(asked, kept)| told(asked, kept.unwrap_or_else(|| self.unasked(asked))))
            .collect();
        GatheredFacts {
            told,
            may_tell_more,
        }
    }

    /// What is known without asking anybody.
    fn unasked(&self, asked: &FactsQuery<'_>) -> CachedStep {
        let digest = known_digest(asked);
        let (seen, by_registry) = self.seen(asked, digest.as_ref());
        let missing =
            Some("Not asked about yet, because the request moves many images.".to_owned());
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

    /// Asks registry and forge, for as long as patience lasts.
    async fn ask(&self, asked: &FactsQuery<'_>) -> CachedStep {
        let mut kept = CachedStep {
            facts: MoveFacts::default(),
            ..self.unasked(asked)
        };
        kept.again = false;
        match tokio::time::timeout(self.patience, self.find_out(asked, &mut kept)).await {
            Ok(Ok(())) => {}
            Ok(Err(missing)) => (kept.facts.missing, kept.again) = (Some(missing), true),
            Err(_) => {
                let seconds = self.patience.as_secs();
                kept.facts.missing = Some(format!(
                    "Registry or forge did not answer within {seconds} s; there may be more to tell."
                ));
                kept.again = true;
            }
        }
        if kept.facts.digest.is_none() {
            kept.facts.digest = known_digest(asked);
        }
        if kept.seen.is_none() {
            (kept.seen, kept.by_registry) = self.seen(asked, kept.facts.digest.as_ref());
        }
        kept
    }

    /// Fills in facts as they come, so that a late answer costs only what comes after it.
    ///
    /// # Errors
    /// In words for people: what could not be found out.
    async fn find_out(&self, asked: &FactsQuery<'_>, kept: &mut CachedStep) -> Result<(), String> {
        let ImageMove {
            repository,
            old,
            new,
            bump,
            ..
        } = asked.image;
        let facts = &mut kept.facts;
        let labels =
            |error: ScanError| format!("The labels of the image could not be read: {error}.");
        let digest = match known_digest(asked) {
            Some(digest) => digest,
            None => {
                let Some(head) = self.head(repository, new).await.map_err(labels)? else {
                    return Ok(());
                };
                // Where no rule goes by an age, nobody has looked at the tag before: its clock
                // begins here.
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
        // Of a tag that stays nobody says any more what it stood for.
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
        let Some((from, to)) = versions(asked.image, &facts.old, &facts.new) else {
            return Ok(());
        };
        let releases = forge.releases(&project, &from, &to).await;
        let releases =
            releases.map_err(|error| format!("The release notes could not be read: {error}."))?;
        facts.releases = releases.into_iter().take(RELEASES).map(release).collect();
        Ok(())
    }

    /// What a tag stands for; nothing if the registry does not have it.
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

    /// Where people compare the two sources: if both are one project, on a forge whose pages are
    /// known.
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

    /// The project at an address: on the config repository's forge, or on one that its host's name
    /// tells.
    fn place(&self, source: &str) -> Option<spec::ForgeSpec> {
        let own = self.forge.and_then(|forge| {
            Some(spec::ForgeSpec {
                project: forge.place().project_at(source)?,
                ..forge.place().clone()
            })
        });
        own.or_else(|| spec::ForgeSpec::of(source))
    }

    /// The project on the config repository's forge, the only one that is asked: one of the same
    /// owner. A label could name any project that the bot's token reads, and readers of the request
    /// may not.
    fn project(&self, labels: &ImageLabels) -> Option<(&dyn Forge, String)> {
        let forge = self.forge?;
        let project = forge.place().project_at(labels.source.as_deref()?)?;
        let owner = |project: &str| project.split('/').next().map(str::to_lowercase);
        (owner(&project) == owner(&forge.place().project)).then_some((forge, project))
    }

    /// Since when the tag was there with this digest, and whether the registry says so.
    fn seen(&self, asked: &FactsQuery<'_>, digest: Option<&Digest>) -> (Option<Timestamp>, bool) {
        let ImageMove {
            repository, new, ..
        } = asked.image;
        let kept = self.scanner.store.seen(repository, new).ok().flatten();
        let kept = kept
            .filter(|seen| digest.is_none_or(|digest| seen.digest == *digest))
            .map(|seen| seen.since);
        let counted = asked
            .scan
            .and_then(|scan| scan.details.get(new.as_str())?.since);
        match (counted, kept) {
            (Some(counted), Some(kept)) if counted < kept => (Some(counted), true),
            (_, kept) => (kept, false),
        }
    }

    /// What is kept of a step, unless the tag stands for something else by now.
    fn kept(&self, asked: &FactsQuery<'_>) -> Option<CachedStep> {
        let bytes = self.scanner.store.get(TABLE, &key(asked.image)).ok()??;
        let kept: CachedStep = serde_json::from_slice(&bytes).ok()?;
        let moved =
            known_digest(asked).is_some_and(|digest| kept.facts.digest.as_ref() != Some(&digest));
        (!moved).then_some(kept)
    }

    /// Keeps it. A store that refuses costs another question, and says so itself where it matters.
    fn keep(&self, asked: &FactsQuery<'_>, kept: &CachedStep) {
        let store = &self.scanner.store;
        let keys = store.keys(TABLE).unwrap_or_default();
        if keys.len() >= KEPT {
            for key in keys {
                let _ = store.remove(TABLE, &key);
            }
        }
        if let Ok(bytes) = serde_json::to_vec(kept) {
            let _ = store.put(TABLE, &key(asked.image), &bytes);
        }
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

/// The digest that was written, or that the registry has confirmed in this pass.
fn known_digest(asked: &FactsQuery<'_>) -> Option<Digest> {
    let confirmed = || {
        asked
            .scan?
            .details
            .get(asked.image.new.as_str())
            .filter(|details| details.fresh)?
            .digest
            .clone()
    };
    asked.image.digest.clone().or_else(confirmed)
}

fn told(asked: &FactsQuery<'_>, kept: CachedStep) -> DescribedMove {
    let clock = if kept.by_registry {
        SeenBy::Registry
    } else {
        SeenBy::Tagboat
    };
    DescribedMove {
        image: asked.image.clone(),
        policy: asked.policy.map_or(String::new(), wants),
        seen: kept.seen.map(|at| SeenSince { at, clock }),
        refused: asked
            .refused
            .iter()
            .map(|refused| (refused.tag.clone(), refused.reason.clone()))
            .collect(),
        facts: kept.facts,
    }
}

/// What a policy wants, in short: `semver >=6.0.0 <7.0.0, minimum age 72h`.
pub fn wants(policy: &ImagePolicy) -> String {
    let order = |kind: &str, order: SortOrder| match order {
        SortOrder::Ascending => kind.to_owned(),
        SortOrder::Descending => format!("{kind}, least first"),
    };
    let mut text = match &policy.choice {
        PolicyKind::Semver(range) => format!("semver {range}"),
        PolicyKind::Numerical(by) => order("numerical", *by),
        PolicyKind::Alphabetical(by) => order("alphabetical", *by),
        PolicyKind::Newest => "newest".to_owned(),
        PolicyKind::Digest(tag) => format!("digest of {tag}"),
    };
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

/// The versions whose releases are asked for: those that the images call themselves, else their
/// tags; none if they are one.
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
