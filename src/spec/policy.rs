//! ImagePolicy: which tag of a repository is wanted.

mod filter;

pub use filter::TagFilter;
pub(crate) use filter::{check_extract, exclude_patterns, pattern};

use super::{
    diagnostic::SourcePlace,
    document::SpecReader,
    raw::{self, Declaration, PolicySpec},
};
use crate::core::{
    image::{ImageRepository, Platform, Tag},
    name::Name,
    schedule::{self, CronLine, Schedule},
    version::Range,
};
use std::{cmp::Ordering, collections::BTreeMap, time::Duration};

/// A checked ImagePolicy.
#[derive(Debug, Clone)]
pub struct ImagePolicy {
    pub name: Name,
    pub place: SourcePlace,
    pub labels: BTreeMap<String, String>,
    /// The repository whose tags it chooses among.
    pub image: ImageRepository,
    /// The scan schedule; a repository with several policies uses the shortest.
    pub scan: Schedule,
    /// The filter, and the part of a tag that is compared.
    pub filter: TagFilter,
    pub choice: PolicyKind,
    pub reflect: DigestReflection,
    /// Platforms that a chosen tag must have.
    pub platforms: Vec<Platform>,
    /// The time for which a tag must have been seen with its digest.
    pub minimum_age: Option<Duration>,
    /// Tags never to choose.
    pub ignore: Vec<Tag>,
    /// The time limit of one scan, where it is not the usual one.
    pub timeout: Option<Duration>,
    pub suspend: bool,
    /// The Flux ImageRepository it refers to, which can suspend it.
    pub repository: Option<Name>,
}

impl ImagePolicy {
    /// Returns whether two policies decide alike, given the same facts.
    pub fn decides_like(&self, other: &Self) -> bool {
        // Every field is named, so that a new one is placed on one of the two sides.
        let Self {
            name: _,
            place: _,
            labels: _,
            image,
            scan: _,
            filter,
            choice,
            reflect,
            platforms,
            minimum_age,
            ignore,
            timeout: _,
            suspend,
            repository: _,
        } = self;
        *image == other.image
            && *filter == other.filter
            && *choice == other.choice
            && *reflect == other.reflect
            && *platforms == other.platforms
            && *minimum_age == other.minimum_age
            && *ignore == other.ignore
            && *suspend == other.suspend
    }
}

/// The rule by which a policy chooses one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyKind {
    /// The greatest version in the range.
    Semver(Range),
    /// The greatest number, or the least.
    Numerical(SortOrder),
    /// The last in the order of bytes, or the first.
    Alphabetical(SortOrder),
    /// The most recently created image.
    Newest,
    /// This tag, with its current digest.
    Digest(Tag),
}

impl PolicyKind {
    /// Returns the tag that a digest policy follows.
    pub fn followed(&self) -> Option<&Tag> {
        match self {
            Self::Digest(tag) => Some(tag),
            _ => None,
        }
    }

    /// Returns whether tags are ordered by the creation date of their images.
    pub fn is_by_date(&self) -> bool {
        matches!(self, Self::Newest)
    }
}

/// The end of an order that is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SortOrder {
    #[default]
    Ascending,
    Descending,
}

impl SortOrder {
    /// Turns the order of two keys into their order by preference.
    pub fn direct(self, order: Ordering) -> Ordering {
        match self {
            Self::Ascending => order,
            Self::Descending => order.reverse(),
        }
    }

    /// The addition to the name of a kind in a short description.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Ascending => "",
            Self::Descending => ", least first",
        }
    }
}

/// The rule for writing the digest beside the tag. A pinned reference always gets the new digest.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub enum DigestReflection {
    /// Only where a digest already exists.
    #[default]
    Never,
    /// Where none exists yet; an existing one changes only with its tag.
    IfNotPresent,
    /// Always the current digest of the tag.
    Always,
}

impl PolicyKind {
    /// The word for it in files and texts.
    pub fn kind(&self) -> &'static str {
        match self {
            PolicyKind::Semver(_) => "semver",
            PolicyKind::Numerical(_) => "numerical",
            PolicyKind::Alphabetical(_) => "alphabetical",
            PolicyKind::Newest => "newest",
            PolicyKind::Digest(_) => "digest",
        }
    }
}

/// The interval of a scan where none is written.
const INTERVAL: Duration = Duration::from_secs(300);

pub(crate) fn read(at: &mut SpecReader<'_>, raw: Declaration<PolicySpec>) -> Option<ImagePolicy> {
    let PolicySpec {
        image,
        interval,
        schedule,
        time_zone,
        filter_tags,
        policy,
        digest_reflection_policy,
        platforms,
        minimum_age,
        ignore_tags,
        timeout,
        suspend,
    } = raw.spec;
    let name = name_of(at, &raw.metadata);
    let labels = raw.metadata.labels;
    let image = repository(at, "/spec/image", &image);
    let scan = scan(
        at,
        interval.as_deref(),
        schedule.as_deref(),
        time_zone.as_deref(),
    );
    let filter = filter::filter(at, filter_tags);
    let choice = choice(at, policy);
    let reflect = match (digest_reflection_policy, &choice) {
        (Some(raw::RawDigestReflection::Never), Some(PolicyKind::Digest(_))) => {
            at.error("/spec/digestReflectionPolicy", "a digest policy writes digests, so it cannot be Never; leave it out or write Always");
            None
        }
        (Some(raw::RawDigestReflection::IfNotPresent), Some(PolicyKind::Digest(_))) => {
            at.error(
                "/spec/digestReflectionPolicy",
                "a digest policy follows its tag, which IfNotPresent does not; leave it out or write Always",
            );
            None
        }
        (None, Some(PolicyKind::Digest(_))) => Some(DigestReflection::Always),
        (written, _) => Some(reflection(written)),
    };
    at.is_at_most("/spec/platforms", platforms.len(), MAX_PLATFORMS);
    at.is_at_most("/spec/ignoreTags", ignore_tags.len(), MAX_IGNORED);
    let platforms = platforms
        .iter()
        .enumerate()
        .map(|(index, platform)| {
            at.check(
                &format!("/spec/platforms/{index}"),
                platform.parse::<Platform>(),
            )
        })
        .collect::<Option<Vec<_>>>();
    let minimum_age =
        minimum_age.map(|text| at.check("/spec/minimumAge", schedule::duration(&text)));
    let ignore = ignore_tags
        .into_iter()
        .enumerate()
        .map(|(index, tag)| at.check(&format!("/spec/ignoreTags/{index}"), Tag::new(tag)))
        .collect::<Option<Vec<_>>>();
    let timeout = timeout.map(|text| at.check("/spec/timeout", schedule::duration(&text)));
    if at.failed() {
        return None;
    }
    Some(ImagePolicy {
        name: name?,
        place: at.document.place("/metadata/name"),
        labels,
        image: image?,
        scan: scan?,
        filter: filter?,
        choice: choice?,
        reflect: reflect?,
        platforms: platforms?,
        minimum_age: minimum_age.flatten(),
        ignore: ignore?,
        timeout: timeout.flatten(),
        suspend,
        repository: None,
    })
}

pub(crate) fn reflection(written: Option<raw::RawDigestReflection>) -> DigestReflection {
    match written {
        None | Some(raw::RawDigestReflection::Never) => DigestReflection::Never,
        Some(raw::RawDigestReflection::IfNotPresent) => DigestReflection::IfNotPresent,
        Some(raw::RawDigestReflection::Always) => DigestReflection::Always,
    }
}

pub(crate) fn name_of(at: &mut SpecReader<'_>, metadata: &raw::RawMetadata) -> Option<Name> {
    at.check(
        "/metadata/name",
        Name::new(
            metadata.namespace.as_deref().unwrap_or("default"),
            &metadata.name,
        ),
    )
}

/// A repository, with help for the two usual slips.
pub(crate) fn repository(
    at: &mut SpecReader<'_>,
    pointer: &str,
    text: &str,
) -> Option<ImageRepository> {
    if let Ok(image) = crate::core::image::ImageRef::new(text)
        && (image.tag.is_some() || image.digest.is_some())
    {
        at.error(
            pointer,
            format!(
                "write the repository alone, {:?}; the tag is what the policy chooses",
                image.name
            ),
        );
        return None;
    }
    let bare = text
        .trim_start_matches("oci://")
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let result = ImageRepository::new(text).map_err(|error| match ImageRepository::new(bare) {
        Ok(_) if bare != text => format!("{error}: write {bare:?}"),
        _ => error.to_string(),
    });
    at.check(pointer, result)
}

fn scan(
    at: &mut SpecReader<'_>,
    interval: Option<&str>,
    line: Option<&str>,
    zone: Option<&str>,
) -> Option<Schedule> {
    if zone.is_some() && line.is_none() {
        at.error(
            "/spec/timeZone",
            "a time zone belongs to a schedule; write schedule: or leave it out",
        );
    }
    match (interval, line) {
        (Some(_), Some(_)) => {
            at.error(
                "/spec/schedule",
                "interval and schedule exclude each other; leave one out",
            );
            None
        }
        (None, None) => Some(Schedule::Every(INTERVAL)),
        (Some(interval), None) => at
            .check("/spec/interval", schedule::duration(interval))
            .map(Schedule::Every),
        (None, Some(line)) => cron(at, "/spec/schedule", "/spec/timeZone", line, zone)
            .map(|line| Schedule::Cron(Box::new(line))),
    }
}

/// Parses a cron line; an invalid time zone is reported at its own field.
pub(crate) fn cron(
    at: &mut SpecReader<'_>,
    line_at: &str,
    zone_at: &str,
    line: &str,
    zone: Option<&str>,
) -> Option<CronLine> {
    let result = CronLine::new(line, zone);
    let pointer = if matches!(result, Err(schedule::ScheduleError::TimeZone(_))) {
        zone_at
    } else {
        line_at
    };
    at.check(pointer, result)
}

/// Entries of `ignoreTags`: each is compared with every tag.
const MAX_IGNORED: usize = 1_000;

/// Entries of `platforms`.
const MAX_PLATFORMS: usize = 32;

fn choice(at: &mut SpecReader<'_>, raw: raw::RawChoice) -> Option<PolicyKind> {
    let raw::RawChoice {
        semver,
        numerical,
        alphabetical,
        newest,
        digest,
    } = raw;
    let mut ways = Vec::new();
    if let Some(semver) = semver {
        ways.push(
            at.check("/spec/policy/semver/range", Range::new(&semver.range))
                .map(PolicyKind::Semver),
        );
    }
    ways.extend(numerical.map(|numerical| Some(PolicyKind::Numerical(order(numerical.order)))));
    ways.extend(
        alphabetical.map(|alphabetical| Some(PolicyKind::Alphabetical(order(alphabetical.order)))),
    );
    ways.extend(newest.map(|_| Some(PolicyKind::Newest)));
    if let Some(digest) = digest {
        ways.push(
            at.check("/spec/policy/digest/tag", Tag::new(digest.tag))
                .map(PolicyKind::Digest),
        );
    }
    let many = ways.len() != 1;
    let way = ways.pop().flatten();
    if many {
        at.error(
            "/spec/policy",
            "exactly one of semver, numerical, alphabetical, newest, digest must be written",
        );
    }
    way
}

pub(crate) fn order(raw: raw::RawOrder) -> SortOrder {
    match raw {
        raw::RawOrder::Asc => SortOrder::Ascending,
        raw::RawOrder::Desc => SortOrder::Descending,
    }
}
