//! Branches that rest although something is wanted of them: their latest request was merged a
//! moment ago, and Git has not shown it yet; or it was closed, and its text had no room for all
//! that people refused with it.

use super::{closed::EndedRequest, desired::DesiredRequest};
use crate::update::{ImageUpdater, RepoSnapshot};
use crate::{
    io::{
        forge,
        git::{GitError, ObjectId},
    },
    objects::health::plain,
    review::lifecycle::ClosedRequest,
};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// For how long a merge that Git does not show is waited for. After that somebody has taken it off
/// the target again.
const SHOWN: SignedDuration = SignedDuration::from_mins(10);

impl ImageUpdater {
    /// The branches that rest, each with the reason.
    pub(crate) fn resting(
        &self,
        world: &RepoSnapshot,
        branches: &BTreeMap<String, ObjectId>,
        open: &[forge::PullRequest],
        now: Timestamp,
    ) -> Result<BTreeMap<String, String>, GitError> {
        let target = self.mirror.remote().branch();
        let known = &self.known().ended;
        // The later number counts.
        let latest: BTreeMap<&str, (u64, &EndedRequest)> = known
            .ours(target)
            .map(|(number, ended)| (ended.head.as_str(), (number, ended)))
            .collect();
        let mut resting = BTreeMap::new();
        for (branch, (number, ended)) in latest {
            if open.iter().any(|request| request.head == branch) {
                continue;
            }
            let why = match known.last(branch, target) {
                Some(ClosedRequest::Merged) => {
                    self.unseen(world, branches.get(branch), number, ended, now)?
                }
                Some(ClosedRequest::Closed) => untold(number, ended),
                _ => None,
            };
            resting.extend(why.map(|why| (branch.to_owned(), why)));
        }
        Ok(resting)
    }

    /// Why a branch waits that was merged as it is. The forge is asked after Git: on what Git
    /// showed then, the same changes are still wanted, and would be proposed a second time.
    fn unseen(
        &self,
        world: &RepoSnapshot,
        head: Option<&ObjectId>,
        number: u64,
        ended: &EndedRequest,
        now: Timestamp,
    ) -> Result<Option<String>, GitError> {
        let merged = head.is_some() && ended.head_commit.parse::<ObjectId>().ok().as_ref() == head;
        let Some(commit) = ended
            .commit
            .as_ref()
            .and_then(|commit| commit.parse::<ObjectId>().ok())
        else {
            return Ok(None);
        };
        if !merged
            || now.duration_since(ended.at).abs() >= SHOWN
            || self.mirror.contains(world.commit, commit)?
        {
            return Ok(None);
        }
        Ok(Some(format!(
            "Request #{number} was merged a moment ago, and Git did not show it yet when it was asked."
        )))
    }
}

/// Why a group rests whose request was closed: what its text had no room for is refused, too, and
/// nobody can say what it was.
fn untold(number: u64, ended: &EndedRequest) -> Option<String> {
    let cut = ended.marker.as_ref()?.cut;
    let by = ended.by.clone().flatten();
    let by = plain(by.as_deref().unwrap_or("somebody"));
    (cut > 0).then(|| {
        format!(
            "Request #{number}, which {by} closed, had {cut} images more than its text could tell of: open it again, or divide what is proposed (update.group)."
        )
    })
}

/// Says so where no row does: nothing is there of the branch.
pub(crate) fn say(
    items: &[DesiredRequest<'_>],
    resting: &BTreeMap<String, String>,
    branches: &BTreeMap<String, ObjectId>,
    warnings: &mut Vec<String>,
) {
    for item in items
        .iter()
        .filter(|item| item.set.is_some() && !branches.contains_key(&item.branch))
    {
        let warning = resting
            .get(&item.branch)
            .map(|why| format!("{} waits: {why}", item.name));
        if let Some(warning) = warning.filter(|warning| !warnings.contains(warning)) {
            warnings.push(warning);
        }
    }
}
