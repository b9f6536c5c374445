//! Memory of a process about pull requests, kept between passes. All of it can be read again.

use super::{
    authors::RequestAuthors, closed::EndedRequests, merge_refusals::MergeRefusal,
    state::OwnedCommits,
};
use crate::{io::git::ObjectId, review::ReleasedVersion, update::previews::PreviewSummaries};
use jiff::Timestamp;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A cache that the tasks of a pass share. It is locked for single steps only, never over I/O.
#[derive(Debug, Default, Clone)]
pub(crate) struct SharedRequestCache(Arc<Mutex<RequestCache>>);

#[derive(Debug, Default)]
pub(crate) struct RequestCache {
    /// None before the pull requests were listed for the first time.
    pub(crate) authors: Option<Arc<RequestAuthors>>,
    pub(crate) ended: EndedRequests,
    /// Held versions that open pull requests propose again, with their Environments.
    pub(crate) released: Vec<(String, ReleasedVersion)>,
    /// Notes on open pull requests, by number.
    pub(crate) notes: HashMap<u64, RequestNotes>,
    pub(crate) previews: PreviewSummaries,
    /// The pull request that others wait for while it is rebuilt and merged, and since when.
    pub(crate) front: Option<(u64, Timestamp)>,
    /// By the head of a branch and that of its target.
    pub(crate) commits: HashMap<(ObjectId, ObjectId), OwnedCommits>,
}

#[derive(Debug, Default)]
pub(crate) struct RequestNotes {
    /// The foreign commit that a comment was written about.
    pub(crate) commented: Option<String>,
    /// When a text was last written that may become better.
    pub(crate) text_written: Option<Timestamp>,
    /// The text that this process opened it with, if it must be signed yet.
    pub(crate) unsigned_text: Option<String>,
    pub(crate) labels_checked: bool,
    /// A merge that the forge has refused.
    pub(crate) refusal: Option<MergeRefusal>,
    /// When it was rebuilt because its base requires its newest commit.
    pub(crate) rebuilt: Option<Timestamp>,
}

impl SharedRequestCache {
    /// Locks the cache. No critical section leaves it half changed.
    pub(crate) fn lock(&self) -> MutexGuard<'_, RequestCache> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RequestCache {
    /// Adds a login of the bot's account. Ended pull requests that were judged without it are
    /// listed and judged again by the next pass.
    pub(crate) fn add_login(&mut self, login: &str) {
        let Some(authors) = &mut self.authors else {
            return;
        };
        if Arc::make_mut(authors).learn(login) && self.ended.has_doubtful() {
            self.ended.since = None;
        }
    }

    pub(crate) fn note(&mut self, number: u64) -> &mut RequestNotes {
        self.notes.entry(number).or_default()
    }
    /// Notes that a text was written now; with it, if it must be signed yet.
    pub(crate) fn note_text(&mut self, number: u64, now: Timestamp, unsigned: Option<String>) {
        let notes = self.note(number);
        notes.text_written = Some(now);
        notes.unsigned_text = unsigned;
    }

    /// Tells whether the text of a pull request must be signed yet.
    pub(crate) fn must_sign(&self, number: u64) -> bool {
        let notes = self.notes.get(&number);
        notes.is_some_and(|notes| notes.unsigned_text.is_some())
    }
}
