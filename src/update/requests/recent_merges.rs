//! Pull requests that were merged lately.

use crate::{
    io::forge,
    review::{
        Marker,
        rollout::{self, MergedRequest},
    },
};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Pull requests merged within [`rollout::LATELY`], by number.
#[derive(Debug, Default, Clone)]
pub(crate) struct RecentMerges {
    /// Merges whose commit has not been read, with their Environment.
    pub(super) unread: BTreeMap<u64, (forge::PullRequest, String)>,
    pub(super) announced: BTreeMap<u64, MergedRequest>,
}

impl RecentMerges {
    /// Takes note of a pull request, if it was merged.
    pub(crate) fn add(&mut self, request: &forge::PullRequest, marker: Option<&Marker>) {
        let (forge::RequestStatus::Merged, Some(marker)) = (request.state, marker) else {
            return;
        };
        if !self.announced.contains_key(&request.number) {
            self.unread.insert(
                request.number,
                (request.clone(), marker.environment.clone()),
            );
        }
    }

    /// Drops what another updater reports, and what is too old.
    pub(super) fn retain(&mut self, is_foreign: impl Fn(&u64) -> bool, now: Timestamp) {
        let is_recent = |at: Timestamp| rollout::is_recent(at, now);
        self.announced
            .retain(|number, merged| !is_foreign(number) && is_recent(merged.at));
        self.unread.retain(|number, (request, _)| {
            let ended = request.ended.as_ref().and_then(|ended| ended.at);
            !is_foreign(number) && ended.is_some_and(is_recent)
        });
    }
}
