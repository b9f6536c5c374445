//! What a pass asks of whoever can say what a change does on clusters: this room renders nothing
//! and talks to no cluster.
//!
//! A text may be hours old, and people can edit it: what merges by itself goes by previews of this
//! process alone.

use super::{ImageUpdater, blocking, commit::edits};
use crate::{
    io::git::{CommitMeta, GitError, ObjectId, Person},
    objects::health::plain,
    review::{ChangeSet, Preview, PreviewSummary, PreviewTrouble},
};
use jiff::{SignedDuration, Timestamp};
use std::{collections::HashMap, sync::Arc};

/// For how long a preview without objections is good for a merge.
const FRESH: SignedDuration = SignedDuration::from_mins(2);

/// After how long one with objections is made again: what stood in the way may have gone.
pub(super) const REST: SignedDuration = SignedDuration::from_mins(10);

/// Says what a change does on clusters.
#[async_trait::async_trait]
pub trait Previews: Send + Sync {
    /// What becomes different from `base` (the target's head, or the parent of a request's commit)
    /// to `head`. Both are commits of the mirror. Never fails: what cannot be known stands in the
    /// preview.
    async fn preview(&self, base: ObjectId, head: ObjectId) -> Preview;
}

/// What previews of this process have said, by the target and the head of the branch.
#[derive(Debug, Default)]
pub(crate) struct PreviewSummaries(HashMap<(ObjectId, ObjectId), (Timestamp, PreviewSummary)>);

impl PreviewSummaries {
    /// What was said, and until when that stands.
    pub(super) fn get(
        &self,
        target: ObjectId,
        head: ObjectId,
        now: Timestamp,
    ) -> Option<(PreviewSummary, Timestamp)> {
        let (at, outlook) = self.0.get(&(target, head))?;
        let rest = if *outlook == PreviewSummary::Clear {
            FRESH
        } else {
            REST
        };
        let until = at.checked_add(rest).ok()?;
        (now < until).then(|| (outlook.clone(), until))
    }

    /// Forgets what was said of a head.
    pub(super) fn forget(&mut self, head: ObjectId) {
        self.0.retain(|(_, of), _| *of != head);
    }

    /// Keeps what was said of these heads.
    pub(super) fn retain(&mut self, wanted: impl Fn(ObjectId) -> bool) {
        self.0.retain(|(_, head), _| wanted(*head));
    }
}

impl ImageUpdater {
    /// A preview of what the merge of a branch would make of the target, on which the branch may
    /// have been made a while ago (`parent`); nothing where there is nobody to make one.
    pub(super) async fn preview(
        &self,
        set: &ChangeSet,
        target: ObjectId,
        parent: ObjectId,
        head: ObjectId,
        now: Timestamp,
    ) -> Option<Preview> {
        let previews = Arc::clone(self.previews.get()?);
        let merged = if parent == target {
            Ok(head)
        } else {
            self.merged_onto(set, target, head).await
        };
        let preview = match merged {
            Ok(merged) => previews.preview(target, merged).await,
            Err(error) => Preview {
                applications: Vec::new(),
                trouble: vec![PreviewTrouble {
                    message: plain(&error.to_string()),
                    passes: true,
                }],
            },
        };
        self.known()
            .outlooks
            .0
            .insert((target, head), (now, preview.outlook()));
        Some(preview)
    }

    /// The commit that a set's changes make on the target. It is the same each time, lies in the
    /// mirror alone, and nobody ever gets it.
    async fn merged_onto(
        &self,
        set: &ChangeSet,
        target: ObjectId,
        head: ObjectId,
    ) -> Result<ObjectId, GitError> {
        let (mirror, make) = (Arc::clone(&self.mirror), edits(set.files.clone())?);
        let bot = Person::new(&self.config.author.name, &self.config.author.email)?;
        blocking(move || {
            let text = CommitMeta {
                author: &bot,
                committer: &bot,
                seconds: 0,
                text: "What a merge would make",
                key: None,
            };
            match make(&mirror, target, &text)? {
                Some(draft) => mirror.keep(&draft).map(|()| draft.commit),
                // What it changes is there: the branch itself says what it would do.
                None => Ok(head),
            }
        })
        .await
    }
}
