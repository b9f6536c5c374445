//! Pull requests that were merged lately, with the files that they changed: the input of rollout
//! reports.

use super::cache::SharedRequestCache;
use crate::{
    io::{
        forge,
        git::{GitError, Mirror, ObjectId},
    },
    review::rollout::MergedRequest,
    update::RepoFollower,
};
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

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
