//! Reasons why a tag was not chosen.

use super::Hold;
use crate::core::{
    image::{Platform, Tag, shown},
    schedule,
};
use jiff::Timestamp;
use std::{collections::HashMap, fmt, time::Duration};

/// The reason why a tag was not chosen. The text completes the sentence "the tag … ".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// `ignoreTags` lists it.
    Ignored,
    /// `filterTags.pattern` does not match it.
    Unmatched {
        pattern: String,
    },
    /// `filterTags.exclude` (or Flux's exclusion list) matches it.
    Excluded {
        pattern: String,
    },
    NoVersion {
        why: &'static str,
    },
    OutOfRange {
        range: String,
    },
    /// The release would be in the range, but no comparator accepts pre-releases.
    PreRelease {
        range: String,
    },
    /// The compared text is no whole decimal number.
    NoNumber {
        /// The tag, or what `filterTags.extract` makes of it.
        text: String,
    },
    /// The image has no credible creation date.
    NoDate,
    /// The tag names another artifact: a signature, a chart.
    NoImage {
        kind: String,
    },
    /// The tag has not been seen for long enough.
    TooYoung {
        /// Since when it was seen with its digest.
        since: Timestamp,
        free_at: Option<Timestamp>,
        age: Duration,
    },
    /// The tag has no first-seen time yet: too many tags sort above it.
    NoClock,
    /// The registry lists it and does not have it.
    Vanished,
    Platforms {
        missing: Vec<Platform>,
    },
    Held(Box<Hold>),
    /// Another tag is followed.
    NotFollowed {
        followed: Tag,
    },
    /// Eligible, but a better tag was chosen.
    NotBest {
        chosen: Tag,
    },
    /// The text is not a valid tag.
    NoTag,
    /// Not judged, because facts were missing.
    Unknown,
}

impl Refusal {
    /// The time at which waiting ends, if the tag only waits for its age.
    pub(super) fn free_at(&self) -> Option<Timestamp> {
        match self {
            Refusal::TooYoung { free_at, .. } => *free_at,
            _ => None,
        }
    }
}

/// The refusals of one choice. They are collected only for an explanation: each costs an
/// allocation, and a large repository has a hundred thousand of them.
#[derive(Debug)]
pub(super) struct Refusals(Option<HashMap<String, Refusal>>);

impl Refusals {
    pub(super) fn discarded() -> Self {
        Self(None)
    }

    pub(super) fn collected() -> Self {
        Self(Some(HashMap::new()))
    }

    pub(super) fn are_collected(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn add(&mut self, tag: &str, refusal: impl FnOnce() -> Refusal) {
        if let Some(by_tag) = &mut self.0 {
            by_tag.insert(tag.to_owned(), refusal());
        }
    }

    pub(super) fn take(&mut self, tag: &str) -> Option<Refusal> {
        self.0.as_mut()?.remove(tag)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Ignored => f.write_str("is listed in ignoreTags"),
            Refusal::Unmatched { pattern } => write!(f, "does not match the filter {pattern:?}"),
            Refusal::Excluded { pattern } => write!(f, "matches the exclusion {pattern:?}"),
            Refusal::NoVersion { why } => f.write_str(why),
            Refusal::OutOfRange { range } => write!(f, "is outside the range {range:?}"),
            Refusal::PreRelease { range } => write!(
                f,
                "is a pre-release, which the range {range:?} does not take"
            ),
            Refusal::NoNumber { text } => write!(
                f,
                "is compared as {}, which is no whole decimal number",
                shown(text)
            ),
            Refusal::NoImage { kind } => write!(f, "is {kind}, not an image"),
            Refusal::NoDate => f.write_str("has no creation date that can be believed"),
            Refusal::TooYoung {
                since,
                free_at,
                age,
            } => {
                write!(
                    f,
                    "was first seen {} and must be seen for {}",
                    minutes(*since),
                    schedule::show(*age)
                )?;
                free_at.map_or(Ok(()), |free_at| {
                    write!(f, ": free at {}", minutes(free_at))
                })
            }
            Refusal::NoClock => {
                f.write_str("is not watched for its age yet, because too many tags stand above it")
            }
            Refusal::Vanished => f.write_str("is listed by the registry, which does not have it"),
            Refusal::Platforms { missing } => {
                let missing: Vec<String> = missing.iter().map(Platform::to_string).collect();
                write!(f, "is not built for {}", missing.join(", "))
            }
            Refusal::Held(hold) => write!(f, "is held: {hold}"),
            Refusal::NotFollowed { followed } => write!(f, "is not the followed tag {followed}"),
            Refusal::NotBest { chosen } => write!(f, "is eligible, but {chosen} is preferred"),
            Refusal::NoTag => f.write_str("is text that no tag can be"),
            Refusal::Unknown => f.write_str("was not judged, because nothing could be chosen"),
        }
    }
}

/// A time to the minute, in UTC.
fn minutes(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
