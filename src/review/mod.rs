//! A change set → a commit or a request: what shares one (`group`), how it is told (`message`),
//! what its reviewer reads (`body`) and is told of clusters (`preview`), when it merges by itself
//! (`merging`), and what became of it on the clusters (`rollout`). What is done next with a request
//! says `life`, by its `branch` and its hidden `marker`.

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
pub use marker::{Marker, MarkerError, MarkerScope, Proposed};
pub use message::{CommitMessage, CommitMessageError, TRAILER, subject};
pub use preview::{
    ApplicationChange, ApplicationPreview, DryRunVerdict, ObjectChange, ObjectPreview, Preview,
    PreviewSummary, PreviewTrouble,
};

use crate::core::{
    image::{Digest, ImageRepository, Tag},
    name::Name,
    version::{self, Bump},
};

/// An image that moves, with every line it moves on: one row of a message.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageMove {
    /// The policy that chose.
    pub policy: Name,
    /// The repository.
    pub repository: ImageRepository,
    /// What stood there: a tag, or text that is none.
    pub old: Option<String>,
    /// The chosen tag.
    pub new: Tag,
    /// The digest written beside it, where one is.
    pub digest: Option<Digest>,
    /// The kind of step.
    pub bump: Bump,
    /// Where.
    pub places: Vec<FileLine>,
}

/// A line of a file.
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
    /// The path from the root of the repository.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
}

impl ImageMove {
    /// The last word of the repository: what people call the image.
    pub fn image(&self) -> &str {
        self.repository.last_segment()
    }

    /// The step as people write it: `6.5.0 → 6.5.1`, or `latest@sha256:0f0f…` where the tag stays.
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

/// What the edits of files say about images: one move for each policy and step, in the order of
/// policies.
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
