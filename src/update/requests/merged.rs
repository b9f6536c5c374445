//! Requests that were merged lately, with the files that they changed: what is told of them
//! afterwards begins here.

use super::closed::EndedRequests;
use crate::update::ImageUpdater;
use crate::{
    io::{
        forge,
        git::{GitError, Mirror, ObjectId},
    },
    review::{
        Marker,
        rollout::{self, MergedRequest},
    },
};
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc};

/// Requests merged lately ([`rollout::LATELY`]).
#[derive(Debug, Default)]
pub(crate) struct RecentMerges {
    /// Those whose commit has not been read.
    unread: BTreeMap<u64, (forge::PullRequest, String)>,
    /// Those told of, by number.
    told: BTreeMap<u64, MergedRequest>,
}

impl RecentMerges {
    /// Takes note of a request that was merged.
    pub(crate) fn take(&mut self, request: &forge::PullRequest, marker: Option<&Marker>) {
        let (forge::RequestStatus::Merged, Some(marker)) = (request.state, marker) else {
            return;
        };
        if !self.told.contains_key(&request.number) {
            self.unread.insert(
                request.number,
                (request.clone(), marker.environment.clone()),
            );
        }
    }

    /// Another updater tells of its own.
    fn forget(&mut self, foreign: impl Fn(&u64) -> bool) {
        self.unread.retain(|number, _| !foreign(number));
        self.told.retain(|number, _| !foreign(number));
    }

    fn read(&mut self, mirror: &Mirror, head: ObjectId, now: Timestamp) -> Result<(), GitError> {
        let recent = |at: Timestamp| rollout::is_recent(at, now);
        self.told.retain(|_, merged| recent(merged.at));
        let ended =
            |request: &forge::PullRequest| request.ended.as_ref().and_then(|ended| ended.at);
        self.unread
            .retain(|_, (request, _)| ended(request).is_some_and(recent));
        let mut read = Vec::new();
        for (number, (request, environment)) in &self.unread {
            let Some(mut merged) = MergedRequest::new(request, environment, Vec::new()) else {
                continue;
            };
            // The forge may have been asked after the mirror: then the next pass reads it.
            let Ok(commit) = merged.commit.parse::<ObjectId>() else {
                continue;
            };
            if mirror.contains(head, commit)? {
                merged.files = changed(mirror, commit)?;
                read.push((*number, merged));
            }
        }
        for (number, merged) in read {
            self.unread.remove(&number);
            self.told.insert(number, merged);
        }
        Ok(())
    }
}

impl ImageUpdater {
    /// Tells of the requests that were merged within the last day ([`ImageUpdater::merged`]), where that
    /// is news.
    ///
    /// # Errors
    /// If the mirror cannot be read.
    pub(crate) fn tell_merged(&self, head: ObjectId, now: Timestamp) -> Result<(), GitError> {
        let EndedRequests { lately, all, .. } = &mut self.known().ended;
        lately.forget(|number| all.get(number).is_some_and(|ended| ended.foreign));
        lately.read(&self.mirror, head, now)?;
        let list: Arc<[MergedRequest]> = lately.told.values().cloned().collect();
        self.merged.send_if_modified(|told| {
            let news = **told != *list;
            if news {
                *told = list;
            }
            news
        });
        Ok(())
    }
}

/// The files that a commit changed against its first parent.
pub(crate) fn changed(mirror: &Mirror, commit: ObjectId) -> Result<Vec<String>, GitError> {
    let mut history = mirror.history(commit, i64::MIN, 1);
    let Some(commit) = history.next().transpose()? else {
        return Ok(Vec::new());
    };
    Ok(history
        .changes(&commit)?
        .into_iter()
        .map(|change| change.path)
        .collect())
}
