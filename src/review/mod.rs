//! From a change set to a commit or a pull request: the pure half of the work with people and
//! forges.
//!
//! Groups of changes (`group`), commit messages (`message`), texts (`body`), previews on clusters
//! (`preview`), the next step (`lifecycle`, with `branch` and `marker`), automatic merges
//! (`merging`) and reports after a merge (`rollout`). `types` has the vocabulary of all forges.
//!
//! Belongs here: what a change set, a pull request or a report says and when it changes. Does not
//! belong here: calls to a forge or Git (`io`, `update`).

pub(crate) mod types;

mod body;
mod branch;
mod group;
pub mod lifecycle;
mod marker;
pub mod merging;
mod message;
mod preview;
pub mod rollout;

pub use body::{
    DescribedMove, ImageLabels, MoveFacts, MoveStory, ReleaseNotes, RequestBody, SeenBy, SeenSince,
    body, markdown, merging_words,
};
pub use branch::{PREFIX, branch, folder};
pub use group::{ChangeSet, FileChange, FileEdits, group, group_apart};
pub use marker::{
    Marker, MarkerError, MarkerKey, MarkerScope, MarkerSubject, Proposed, ReleasedVersion,
    without_signature,
};
pub use message::{CommitMessage, CommitMessageError, TRAILER, subject};
pub use preview::{
    ApplicationChange, ApplicationPreview, DryRunVerdict, ObjectChange, ObjectPreview, Preview,
    PreviewSummary, PreviewTrouble,
};

pub(crate) use types::{is_login, same_text};

use crate::core::{
    image::{Digest, ImageRepository, Tag},
    name::Name,
    version::{self, Bump},
};

/// A move of an image from one version to another, with all its places.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageMove {
    pub policy: Name,
    pub repository: ImageRepository,
    /// The old value: a tag, or text that is none.
    pub old: Option<String>,
    pub new: Tag,
    /// The digest written beside the tag.
    pub digest: Option<Digest>,
    pub bump: Bump,
    pub places: Vec<FileLine>,
}

#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
pub struct FileLine {
    /// Path from the root of the repository.
    pub file: String,
    /// Counted from 1.
    pub line: u32,
}

impl ImageMove {
    /// Returns the last segment of the repository: the image's short name.
    pub fn image(&self) -> &str {
        self.repository.last_segment()
    }

    /// Returns the step: `6.5.0 → 6.5.1`, or `latest → sha256:0f0f…` if the tag stays.
    pub fn step(&self) -> String {
        let old = self
            .old
            .as_deref()
            .map_or_else(|| "(none)".to_owned(), |old| old.escape_debug().to_string());
        match (&self.digest, self.bump) {
            (Some(digest), Bump::Digest) => format!("{} → {}", self.new, digest.short()),
            _ => format!("{old} → {}", self.new),
        }
    }
}

/// Returns the moves that the edits of files make: one for each policy and step, sorted by policy.
pub(crate) fn moves<'c>(
    changes: impl Iterator<Item = (&'c str, &'c crate::images::rewrite::ScalarChange)>,
) -> Vec<ImageMove> {
    let mut all: Vec<ImageMove> = Vec::new();
    for (file, change) in changes {
        let place = FileLine {
            file: file.to_owned(),
            line: change.line,
        };
        let same = |known: &&mut ImageMove| {
            known.policy == change.policy
                && known.old == change.old_tag
                && known.new == change.new_tag
        };
        match all.iter_mut().find(same) {
            Some(known) => {
                known.digest = known.digest.take().or_else(|| change.new_digest.clone());
                if !known.places.contains(&place) {
                    known.places.push(place);
                }
            }
            None => all.push(ImageMove {
                policy: change.policy.clone(),
                repository: change.repository.clone(),
                old: change.old_tag.clone(),
                new: change.new_tag.clone(),
                digest: change.new_digest.clone(),
                bump: version::bump(change.old_tag.as_deref(), change.new_tag.as_str()),
                places: vec![place],
            }),
        }
    }
    all.sort_by(|left, right| (&left.policy, &left.old).cmp(&(&right.policy, &right.old)));
    for row in &mut all {
        row.places.sort();
    }
    all
}
