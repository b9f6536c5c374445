//! Reasons why a tag was not chosen.

use super::Hold;
use crate::core::{
    image::{Platform, Tag},
    schedule,
};
use jiff::Timestamp;
use std::{fmt, time::Duration};

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
    NoNumber,
    /// The image has no credible creation date.
    NoDate,
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
            Refusal::NoNumber => f.write_str("is no decimal number"),
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
