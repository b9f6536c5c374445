//! What a process remembers of requests between passes.

use super::{closed::EndedRequests, merge_refusals::MergeRefusal};
use crate::update::{ImageUpdater, previews::PreviewSummaries};
use crate::{io::git::ObjectId, review::lifecycle::BranchCommits};
use jiff::Timestamp;
use std::{
    collections::HashMap,
    sync::{MutexGuard, PoisonError},
};

/// What is remembered. All of it can be had again.
#[derive(Debug, Default)]
pub(crate) struct RequestCache {
    /// Requests that ended.
    pub(crate) ended: EndedRequests,
    /// Notes on those that are open.
    pub(crate) notes: HashMap<u64, RequestNotes>,
    /// What previews have said.
    pub(crate) outlooks: PreviewSummaries,
    /// The one of those that merge by themselves which others wait for, and since when.
    pub(crate) front: Option<(u64, Timestamp)>,
    /// Whose commits a branch has, by its head and that of its target; with the parent where it is
    /// one of the bot's.
    pub(crate) commits: HashMap<(ObjectId, ObjectId), (BranchCommits, Option<ObjectId>)>,
}

/// What has been done with an open request.
#[derive(Debug, Default)]
pub(crate) struct RequestNotes {
    /// The commit of somebody else that it has been told of.
    pub(crate) told: Option<String>,
    /// When a text was last made that may become better.
    pub(crate) tried: Option<Timestamp>,
    /// Whether its labels have been looked at.
    pub(crate) dressed: bool,
    /// A merge that the forge has refused.
    pub(crate) refusal: Option<MergeRefusal>,
    /// When it was built anew because its base wants that.
    pub(crate) rebuilt: Option<Timestamp>,
}

impl RequestCache {
    /// The notes on a request, to be added to.
    pub(crate) fn note(&mut self, number: u64) -> &mut RequestNotes {
        self.notes.entry(number).or_default()
    }
}

impl ImageUpdater {
    /// What is remembered. A thread that has died with it leaves nothing half done.
    pub(crate) fn known(&self) -> MutexGuard<'_, RequestCache> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
