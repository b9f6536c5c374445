//! Pull requests that a base does not accept as they are: branches that must contain its newest
//! commit, and merges that the forge refused, which are not repeated until something has changed.

use super::{
    HOUR, RequestReconciler,
    state::{DesiredRequest, StepOutcome},
};
use crate::update::{FailureReport, PassMode};
use crate::{
    core::text::plain,
    io::{
        forge::{self, Approvals, Checks, ForgeProblem, Mergeable},
        git::ObjectId,
    },
    review::lifecycle::BranchCommits,
};
use jiff::Timestamp;

/// Inputs of the forge's answer to a merge: as long as they are the same, the answer will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MergeOffer {
    number: u64,
    head: String,
    /// The commit of the target.
    base: ObjectId,
    mergeable: Mergeable,
    checks: Checks,
    approvals: Approvals,
}

#[derive(Debug, Clone)]
pub(crate) struct MergeRefusal {
    offer: MergeOffer,
    reason: String,
    /// When it is repeated although no input has changed: a forge does not tell who may merge.
    until: Timestamp,
}

impl RequestReconciler<'_> {
    /// Marks pull requests that lack the newest commit of a base which requires it.
    ///
    /// That is for those that people merge. Each is rebuilt for it once an hour only, because every
    /// time checks run again and approvals are lost. An automatic merge is rebuilt when nothing
    /// else is in its way ([`RequestReconciler::behind`]).
    pub(crate) async fn mark_behind(&mut self, desired: &[DesiredRequest<'_>]) {
        // Only some forges tell it in lists; the rule must be the same for all.
        self.open
            .iter_mut()
            .filter(|request| request.mergeable == Mergeable::Behind)
            .for_each(|request| request.mergeable = Mergeable::Unknown);
        let (branches, target, now) = (&self.branches, self.context.target(), self.now);
        let is_merged_by_people = |request: &forge::PullRequest| {
            let item = desired.iter().find(|item| item.branch == request.head);
            item.is_some_and(|item| item.set.is_some() && matches!(item.options(), Some((_, None))))
        };
        let stale = |request: &forge::PullRequest| {
            let stale = branches
                .get(&request.head)
                .is_some_and(|branch| !branch.on_head && branch.commits == BranchCommits::Own);
            stale && request.base == target && request.mergeable != Mergeable::Conflicts
        };
        let due: Vec<u64> = {
            let cache = self.context.cache.lock();
            let is_due = |request: &&forge::PullRequest| {
                cache
                    .notes
                    .get(&request.number)
                    .and_then(|notes| notes.rebuilt)
                    .is_none_or(|at| now.duration_since(at) >= HOUR)
                    && !self.progress.pushes.contains_key(&request.head)
            };
            self.open
                .iter()
                .filter(|request| stale(request) && is_merged_by_people(request))
                .filter(is_due)
                .map(|request| request.number)
                .collect()
        };
        if due.is_empty() {
            return;
        }
        match self.context.forge.wants_newest(target).await {
            Ok(true) => {
                let mut cache = self.context.cache.lock();
                for request in self
                    .open
                    .iter_mut()
                    .filter(|request| due.contains(&request.number))
                {
                    request.mergeable = Mergeable::Behind;
                    if self.mode == PassMode::Write {
                        cache.note(request.number).rebuilt = Some(now);
                    }
                }
            }
            Ok(false) => {}
            Err(error) => self.failures.push(FailureReport::at_forge(&error)),
        }
    }

    /// Handles an automatic merge that lacks the newest commit of a base which requires it.
    ///
    /// One pull request is rebuilt at a time, and the others wait until it is merged: else each
    /// merge would rebuild and check all of them again.
    pub(crate) fn behind(&mut self, request: &forge::PullRequest) -> StepOutcome {
        let mut cache = self.context.cache.lock();
        let ahead = cache.front.filter(|(number, at)| {
            let open = self.open.iter().any(|other| other.number == *number);
            *number != request.number && open && self.now.duration_since(*at) < HOUR
        });
        let target = plain(self.context.target());
        let waits = match ahead {
            Some((number, at)) => {
                let why = format!(
                    "It must contain the newest commit of {target}, and waits for pull request {number}, which was rebuilt for that."
                );
                Some((why, at.checked_add(HOUR).ok()))
            }
            // The target may move faster than the branch can be rebuilt.
            None if self.progress.pushes.contains_key(&request.head) => Some((
                format!("{target} has moved again; its branch is rebuilt later."),
                None,
            )),
            None => None,
        };
        if waits.is_none()
            && self.mode == PassMode::Write
            && cache
                .front
                .is_none_or(|(number, _)| number != request.number)
        {
            cache.front = Some((request.number, self.now));
        }
        drop(cache);
        let mergeable = if waits.is_none() {
            Mergeable::Behind
        } else {
            Mergeable::Unknown
        };
        self.change(request.number, |known| known.mergeable = mergeable);
        match waits {
            None => StepOutcome::Again,
            Some((why, until)) => StepOutcome::UpToDate {
                waits: vec![why],
                until,
                would_merge: false,
            },
        }
    }

    /// Lets others go first, because a pull request cannot merge for now.
    pub(crate) fn leave_front(&self, number: u64) {
        let mut cache = self.context.cache.lock();
        cache.front = cache.front.filter(|(front, _)| *front != number);
    }

    pub(crate) fn offer(
        &self,
        request: &forge::PullRequest,
        checks: &Checks,
        approvals: &Approvals,
    ) -> MergeOffer {
        MergeOffer {
            number: request.number,
            head: request.head_commit.clone(),
            base: self.snapshot.commit,
            mergeable: request.mergeable.clone(),
            checks: checks.clone(),
            approvals: approvals.clone(),
        }
    }

    /// Returns the reason for which the forge refused the same merge, and when it is repeated.
    pub(crate) fn refused(&self, offer: &MergeOffer) -> Option<(Vec<String>, Timestamp)> {
        let cache = self.context.cache.lock();
        let refusal = cache
            .notes
            .get(&offer.number)?
            .refusal
            .as_ref()
            .filter(|refusal| refusal.offer == *offer && self.now < refusal.until)?;
        Some((vec![refusal.reason.clone()], refusal.until))
    }

    /// Handles a merge that the forge did not make; none if that is a failure.
    pub(crate) fn not_merged(
        &mut self,
        item: &DesiredRequest<'_>,
        offer: MergeOffer,
        problem: &ForgeProblem,
    ) -> Option<StepOutcome> {
        let number = offer.number;
        let reason = format!("The forge did not merge it: {problem}.");
        let until = match problem {
            // A push came in between, or the forge is still computing: left to the next pass.
            ForgeProblem::HeadChanged { .. } | ForgeProblem::NotYet { .. } => None,
            ForgeProblem::Behind { .. } => {
                if self
                    .branches
                    .get(&item.branch)
                    .is_some_and(|branch| !branch.on_head)
                    && let Some(request) = self.request(item).cloned()
                {
                    self.progress.merged.remove(&number);
                    return Some(self.behind(&request));
                }
                None
            }
            ForgeProblem::NotMergeable { .. } => {
                let until = self.now.checked_add(HOUR).unwrap_or(Timestamp::MAX);
                let refusal = MergeRefusal {
                    offer,
                    reason: reason.clone(),
                    until,
                };
                self.context.cache.lock().note(number).refusal = Some(refusal);
                Some(until)
            }
            _ => return None,
        };
        self.progress.merged.remove(&number);
        Some(StepOutcome::UpToDate {
            waits: vec![reason],
            until,
            would_merge: false,
        })
    }
}
