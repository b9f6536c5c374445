//! Pull requests that were merged lately, with the files that they changed: the input of rollout
//! reports.

use super::cache::SharedRequestCache;
use crate::{
    io::{
        forge,
        git::{GitError, Mirror, ObjectId},
    },
    review::{
        Marker,
        rollout::{self, MergedRequest},
    },
    update::RepoFollower,
};
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// Pull requests merged within [`rollout::LATELY`], by number.
#[derive(Debug, Default, Clone)]
pub(crate) struct RecentMerges {
    /// Those whose commit has not been read, with their Environment.
    unread: BTreeMap<u64, (forge::PullRequest, String)>,
    announced: BTreeMap<u64, MergedRequest>,
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
    fn retain(&mut self, is_foreign: impl Fn(&u64) -> bool, now: Timestamp) {
        let is_recent = |at: Timestamp| rollout::is_recent(at, now);
        self.announced
            .retain(|number, merged| !is_foreign(number) && is_recent(merged.at));
        self.unread.retain(|number, (request, _)| {
            let ended = request.ended.as_ref().and_then(|ended| ended.at);
            !is_foreign(number) && ended.is_some_and(is_recent)
        });
    }
}

/// Announces the recent merges to the reporters of rollouts, if they have changed.
///
/// # Errors
/// If the mirror cannot be read.
pub(crate) async fn announce(
    repo: &RepoFollower,
    cache: &SharedRequestCache,
    announced: &watch::Sender<Arc<[MergedRequest]>>,
    now: Timestamp,
) -> Result<(), GitError> {
    let unread = {
        let mut cache = cache.lock();
        let ended = &mut cache.ended;
        let all = &ended.all;
        ended.recent.retain(
            |number| all.get(number).is_some_and(|ended| ended.foreign),
            now,
        );
        ended.recent.unread.clone()
    };
    let read = if unread.is_empty() {
        Vec::new()
    } else {
        repo.read(move |mirror| read_files(mirror, &unread)).await?
    };
    let list: Arc<[MergedRequest]> = {
        let mut cache = cache.lock();
        let recent = &mut cache.ended.recent;
        for (number, merged) in read {
            recent.unread.remove(&number);
            recent.announced.insert(number, merged);
        }
        recent.announced.values().cloned().collect()
    };
    announced.send_if_modified(|last| {
        let is_new = **last != *list;
        if is_new {
            *last = list;
        }
        is_new
    });
    Ok(())
}

/// Reads the files of the merges that the mirror has.
fn read_files(
    mirror: &Mirror,
    unread: &BTreeMap<u64, (forge::PullRequest, String)>,
) -> Result<Vec<(u64, MergedRequest)>, GitError> {
    let Some(head) = mirror.head() else {
        return Ok(Vec::new());
    };
    let mut read = Vec::new();
    for (number, (request, environment)) in unread {
        let Some(mut merged) = MergedRequest::new(request, environment, Vec::new()) else {
            continue;
        };
        let Ok(commit) = merged.commit.parse::<ObjectId>() else {
            continue;
        };
        // The forge may have been read after the mirror: then the next pass reads the commit.
        if mirror.contains(head, commit)? {
            merged.files = changed(mirror, commit)?;
            read.push((*number, merged));
        }
    }
    Ok(read)
}

/// Returns the files that a commit changed against its first parent.
pub(super) fn changed(mirror: &Mirror, commit: ObjectId) -> Result<Vec<String>, GitError> {
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
