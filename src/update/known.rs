//! What a process remembers of requests between passes.

use super::{Updater, ended::EndedRequests, previews::Outlooks, refused::Refusal};
use crate::{git::ObjectId, publish::life::Commits};
use jiff::Timestamp;
use std::{
    collections::HashMap,
    sync::{MutexGuard, PoisonError},
};

/// What is remembered. All of it can be had again.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Requests that ended.
    pub(super) ended: EndedRequests,
    /// Notes on those that are open.
    pub(super) notes: HashMap<u64, Notes>,
    /// What previews have said.
    pub(super) outlooks: Outlooks,
    /// The one of those that merge by themselves which others wait for, and since when.
    pub(super) front: Option<(u64, Timestamp)>,
    /// Whose commits a branch has, by its head and that of its target; with the parent where it is
    /// one of the bot's.
    pub(super) commits: HashMap<(ObjectId, ObjectId), (Commits, Option<ObjectId>)>,
}

/// What has been done with an open request.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// The commit of somebody else that it has been told of.
    pub(super) told: Option<String>,
    /// When a text was last made that may become better.
    pub(super) tried: Option<Timestamp>,
    /// Whether its labels have been looked at.
    pub(super) dressed: bool,
    /// A merge that the forge has refused.
    pub(super) refusal: Option<Refusal>,
    /// When it was built anew because its base wants that.
    pub(super) rebuilt: Option<Timestamp>,
}

impl Known {
    /// The notes on a request, to be added to.
    pub(super) fn note(&mut self, number: u64) -> &mut Notes {
        self.notes.entry(number).or_default()
    }
}

impl Updater {
    /// What is remembered. A thread that has died with it leaves nothing half done.
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
