//! What a pass asks of whoever can say what a change does on clusters: this room renders nothing and talks to no cluster.
//!
//! A text may be hours old, and people can edit it: what merges by itself goes by previews of this process alone.

use super::{Updater, listing::Known};
use crate::{
    git::ObjectId,
    publish::{Outlook, Preview},
};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

/// For how long a preview without objections is good for a merge.
const FRESH: SignedDuration = SignedDuration::from_mins(2);

/// After how long one with objections is made again: what stood in the way may have gone.
pub(super) const REST: SignedDuration = SignedDuration::from_mins(10);

/// Says what a change does on clusters.
#[async_trait::async_trait]
pub trait Previews: Send + Sync {
    /// What becomes different from `base` (the target's head, or the parent of a request's commit) to `head`. Both are
    /// commits of the mirror. Never fails: what cannot be known stands in the preview.
    async fn preview(&self, base: ObjectId, head: ObjectId) -> Preview;
}

/// What previews of this process have said, by what was compared.
#[derive(Debug, Default)]
pub(super) struct Outlooks(HashMap<(ObjectId, ObjectId), (Timestamp, Outlook)>);

impl Outlooks {
    /// What was said, and until when that stands.
    pub(super) fn get(&self, base: ObjectId, head: ObjectId, now: Timestamp) -> Option<(Outlook, Timestamp)> {
        let (at, outlook) = self.0.get(&(base, head))?;
        let rest = if *outlook == Outlook::Clear { FRESH } else { REST };
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

impl Updater {
    /// A preview of a change; nothing where there is nobody to make one.
    pub(super) async fn preview(&self, base: ObjectId, head: ObjectId, now: Timestamp) -> Option<Preview> {
        let preview = Arc::clone(self.previews.get()?).preview(base, head).await;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { outlooks, .. } = &mut *known;
        outlooks.0.insert((base, head), (now, preview.outlook()));
        Some(preview)
    }
}
