//! Branches that must wait although a change is desired.
//!
//! Either their last pull request was merged a moment ago and the merge is not in the snapshot yet,
//! or it was closed and its text had no room for everything that was refused with it.

use super::{
    closed::{EndedRequest, EndedRequests},
    state::{BranchSurvey, DesiredRequest},
};
use crate::{
    core::text::plain,
    io::git::{GitError, Mirror, ObjectId},
    review::lifecycle::ClosedRequest,
};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// How long a merge that Git does not show is waited for. After that it has been removed from the
/// target again.
const MERGE_VISIBLE: SignedDuration = SignedDuration::from_mins(10);

/// Returns the branches that must wait, each with the reason.
pub(super) fn branches(
    mirror: &Mirror,
    target: ObjectId,
    ended: &EndedRequests,
    heads: &BTreeMap<String, ObjectId>,
    open: &BTreeSet<String>,
    now: Timestamp,
) -> Result<BTreeMap<String, String>, GitError> {
    let base = mirror.remote().branch();
    // The highest number of a branch counts.
    let latest: BTreeMap<&str, (u64, &EndedRequest)> = ended
        .ours(base)
        .map(|(number, ended)| (ended.head.as_str(), (number, ended)))
        .collect();
    let mut blocked = BTreeMap::new();
    for (branch, (number, request)) in latest {
        if open.contains(branch) {
            continue;
        }
        let reason = match ended.last(branch, base) {
            Some(ClosedRequest::Merged) => {
                let head = heads.get(branch);
                merge_not_visible(mirror, target, head, number, request, now)?
            }
            Some(ClosedRequest::Closed) => cut_refusal(number, request),
            _ => None,
        };
        blocked.extend(reason.map(|reason| (branch.to_owned(), reason)));
    }
    Ok(blocked)
}

/// The reason to wait for a merge that the snapshot lacks.
///
/// The forge is read after Git. On the older snapshot the same changes are still desired, and would
/// be proposed a second time.
fn merge_not_visible(
    mirror: &Mirror,
    target: ObjectId,
    head: Option<&ObjectId>,
    number: u64,
    ended: &EndedRequest,
    now: Timestamp,
) -> Result<Option<String>, GitError> {
    let is_same = head.is_some() && ended.head_commit.parse::<ObjectId>().ok().as_ref() == head;
    let Some(commit) = ended
        .commit
        .as_ref()
        .and_then(|commit| commit.parse::<ObjectId>().ok())
    else {
        return Ok(None);
    };
    if !is_same
        || now.duration_since(ended.at).abs() >= MERGE_VISIBLE
        || mirror.contains(target, commit)?
    {
        return Ok(None);
    }
    Ok(Some(format!(
        "Pull request #{number} was merged a moment ago, and its commit is not in the mirror yet."
    )))
}

/// The reason to wait after a close whose pull request had more images than its text.
///
/// Those are refused, too, and it is unknown which they were.
fn cut_refusal(number: u64, ended: &EndedRequest) -> Option<String> {
    let cut = ended.marker.as_ref()?.cut;
    let by = ended.by.clone().flatten();
    let by = plain(by.as_deref().unwrap_or("someone"));
    (cut > 0).then(|| {
        format!(
            "Pull request #{number}, which {by} closed, had {cut} more images than fit in its text: reopen it, or split the changes (update.group)."
        )
    })
}

/// Warnings of blocked branches that do not exist, so that no row shows them.
pub(super) fn warnings(desired: &[DesiredRequest<'_>], survey: &BranchSurvey) -> Vec<String> {
    desired
        .iter()
        .filter(|item| item.set.is_some() && !survey.heads.contains_key(&item.branch))
        .filter_map(|item| {
            let reason = survey.blocked.get(&item.branch)?;
            Some(format!("{} waits: {reason}", item.name))
        })
        .collect()
}
