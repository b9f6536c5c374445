//! Input of a text: the moves of a pull request with their facts.

use crate::{
    core::image::{Digest, Platform},
    review::{ImageMove, preview::Preview},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Content of a text.
#[derive(Debug, Clone)]
pub struct MoveStory<'a> {
    pub environment: &'a str,
    /// The policy or directory that groups the changes; none if all are together.
    pub group: Option<&'a str>,
    pub moves: &'a [DescribedMove],
    /// None if there is no preview.
    pub preview: Option<&'a Preview>,
    /// A sentence: `It waits for a person to merge it.`
    pub merging: &'a str,
    /// The hidden marker. It comes first and is never cut.
    pub marker: &'a str,
}

/// A move with its facts.
#[derive(Debug, Clone)]
pub struct DescribedMove {
    pub image: ImageMove,
    /// The policy in short: `semver >=6.0.0 <7.0.0`.
    pub policy: String,
    pub seen: Option<SeenSince>,
    /// Newer tags, each with the reason of its refusal, which completes "the tag … ".
    pub refused: Vec<(String, String)>,
    pub facts: MoveFacts,
}

/// Time at which a tag was first seen with its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenSince {
    pub at: Timestamp,
    pub clock: SeenBy,
}

/// Source of a first-seen time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeenBy {
    /// tagboat saw the tag first.
    Tagboat,
    /// The registry's push time, if `registries[].pushTime` trusts it.
    Registry,
}

/// Facts about a move from registry and forge, read once and kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MoveFacts {
    /// Digest of the new tag.
    pub digest: Option<Digest>,
    pub platforms: Vec<Platform>,
    /// Build time of the new image, by its publisher's word.
    pub created: Option<Timestamp>,
    pub old: ImageLabels,
    pub new: ImageLabels,
    /// URL of the comparison of both sources.
    pub compare: Option<String>,
    /// Releases between both versions, latest first.
    pub releases: Vec<ReleaseNotes>,
    /// A sentence about missing facts.
    pub missing: Option<String>,
}

/// Labels of an image (`org.opencontainers.image.…`): hostile text of its publisher.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageLabels {
    pub source: Option<String>,
    pub revision: Option<String>,
    pub version: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseNotes {
    pub tag: String,
    /// May be empty.
    pub name: String,
    /// Hostile text.
    pub notes: String,
    pub url: String,
    pub at: Option<Timestamp>,
}
