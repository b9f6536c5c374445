//! Previews of pull requests on clusters.
//!
//! `update` renders nothing and reaches no cluster: [`Previews`] is implemented by the `preview`
//! layer. The text of a pull request may be hours old and people can edit it, so an automatic merge
//! goes by previews of this process alone.

use crate::{
    io::git::ObjectId,
    review::{Preview, PreviewSummary},
};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;

/// How long a preview without objections is good for a merge.
const FRESH: SignedDuration = SignedDuration::from_mins(2);

/// How long one with objections is believed; what stood in the way may have gone by then.
pub(super) const REFUSAL_TTL: SignedDuration = SignedDuration::from_mins(10);

/// Previews what a change does on clusters.
#[async_trait::async_trait]
pub trait Previews: Send + Sync {
    /// Previews the step from `base` (the target's head, or the parent of a pull request's commit)
    /// to `head`, both commits of the mirror.
    ///
    /// It never fails: what is unknown stands in the preview.
    async fn preview(&self, base: ObjectId, head: ObjectId) -> Preview;
}

/// Previews of this process, by the target's commit and the head of the branch.
#[derive(Debug, Default)]
pub(crate) struct PreviewSummaries(HashMap<(ObjectId, ObjectId), (Timestamp, PreviewSummary)>);

impl PreviewSummaries {
    /// Returns a summary that is still valid, and until when it is.
    pub(super) fn get(
        &self,
        target: ObjectId,
        head: ObjectId,
        now: Timestamp,
    ) -> Option<(PreviewSummary, Timestamp)> {
        let (at, summary) = self.0.get(&(target, head))?;
        let ttl = if *summary == PreviewSummary::Clear {
            FRESH
        } else {
            REFUSAL_TTL
        };
        let until = at.checked_add(ttl).ok()?;
        (now < until).then(|| (summary.clone(), until))
    }

    pub(super) fn insert(
        &mut self,
        target: ObjectId,
        head: ObjectId,
        now: Timestamp,
        summary: PreviewSummary,
    ) {
        self.0.insert((target, head), (now, summary));
    }

    pub(super) fn forget(&mut self, head: ObjectId) {
        self.0.retain(|(_, known), _| *known != head);
    }

    pub(super) fn retain(&mut self, wanted: impl Fn(ObjectId) -> bool) {
        self.0.retain(|(_, head), _| wanted(*head));
    }
}
