//! Requests that a base does not take as they are: branches that must contain its newest commit,
//! and merges that the forge has refused, which are not asked for again until something is
//! different.

use super::{
    desired::DesiredRequest,
    execute::{HOUR, RequestReconciler, StepOutcome},
};
use crate::update::{FailureReport, PassMode};
use crate::{
    io::{
        forge::{self, Approvals, Checks, ForgeProblem, Mergeable},
        git::ObjectId,
    },
    objects::health::plain,
    review::lifecycle::BranchCommits,
};
use jiff::Timestamp;

/// What was there when a merge was asked for: as long as it is the same, the answer will be.
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

/// A merge that the forge refused.
#[derive(Debug, Clone)]
pub(crate) struct MergeRefusal {
    offer: MergeOffer,
    reason: String,
    /// When it is asked for again although nothing that can be seen is different: who may merge is
    /// not told.
    until: Timestamp,
}

impl RequestReconciler<'_> {
    /// Where the base wants the newest commit in a branch, requests that people merge are behind
    /// when they lack it, also those that the forge has not looked at: but each is built anew for
    /// that once an hour only, since every time checks run and approvals end. What merges by itself
    /// is, when nothing else is in its way ([`RequestReconciler::behind`]).
    pub(crate) async fn mark_behind(&mut self, items: &[DesiredRequest<'_>]) {
        // What the list says is known of some forges only; the rules here are the same for all.
        self.open
            .iter_mut()
            .filter(|request| request.mergeable == Mergeable::Behind)
            .for_each(|request| request.mergeable = Mergeable::Unknown);
        let (looked, target, now) = (&self.looked, self.target, self.now);
        let people = |request: &forge::PullRequest| {
            let item = items.iter().find(|item| item.branch == request.head);
            item.is_some_and(|item| {
                item.set.is_some() && matches!(Self::via(item), Some((_, None)))
            })
        };
        let stale = |request: &forge::PullRequest| {
            let stale = looked
                .get(&request.head)
                .is_some_and(|looked| !looked.fresh && looked.commits == BranchCommits::Own);
            stale && request.base == target && request.mergeable != Mergeable::Conflicts
        };
        let rested: Vec<u64> = {
            let known = self.updater.known();
            let due = |request: &&forge::PullRequest| {
                known
                    .notes
                    .get(&request.number)
                    .and_then(|notes| notes.rebuilt)
                    .is_none_or(|at| now.duration_since(at) >= HOUR)
                    && !self.done.pushes.contains_key(&request.head)
            };
            self.open
                .iter()
                .filter(|request| stale(request) && people(request))
                .filter(due)
                .map(|request| request.number)
                .collect()
        };
        if rested.is_empty() {
            return;
        }
        match self.forge.wants_newest(target).await {
            Ok(true) => {
                let mut known = self.updater.known();
                for request in self
                    .open
                    .iter_mut()
                    .filter(|request| rested.contains(&request.number))
                {
                    request.mergeable = Mergeable::Behind;
                    if self.mode == PassMode::Write {
                        known.note(request.number).rebuilt = Some(now);
                    }
                }
            }
            Ok(false) => {}
            Err(error) => self.failures.push(FailureReport::at_forge(&error)),
        }
    }

    /// A request that would merge by itself lacks the newest commit of a base that wants it. One is
    /// built anew at a time, and the others wait until it has merged: else each merge would have
    /// all of them built and checked again.
    pub(crate) fn behind(&mut self, request: &forge::PullRequest) -> StepOutcome {
        let mut known = self.updater.known();
        let ahead = known.front.filter(|(number, at)| {
            let open = self.open.iter().any(|other| other.number == *number);
            *number != request.number && open && self.now.duration_since(*at) < HOUR
        });
        let target = plain(self.target);
        let waits = match ahead {
            Some((number, at)) => {
                let why = format!(
                    "It must contain the newest commit of {target}, and waits for request {number}, which was built anew for that."
                );
                Some((why, at.checked_add(HOUR).ok()))
            }
            // Whoever pushes there all the time is not raced.
            None if self.done.pushes.contains_key(&request.head) => Some((
                format!("{target} has moved again; its branch is built anew later."),
                None,
            )),
            None => None,
        };
        if waits.is_none()
            && self.mode == PassMode::Write
            && known
                .front
                .is_none_or(|(number, _)| number != request.number)
        {
            known.front = Some((request.number, self.now));
        }
        drop(known);
        let mergeable = if waits.is_none() {
            Mergeable::Behind
        } else {
            Mergeable::Unknown
        };
        self.change(request.number, |known| known.mergeable = mergeable);
        match waits {
            None => StepOutcome::Again,
            Some((why, until)) => StepOutcome::Settled {
                waits: vec![why],
                until,
                would_merge: false,
            },
        }
    }

    /// Lets others go before a request that cannot merge for now.
    pub(crate) fn stands_aside(&self, number: u64) {
        let mut known = self.updater.known();
        known.front = known.front.filter(|(front, _)| *front != number);
    }

    /// What is offered to the forge with a merge.
    pub(crate) fn offer(
        &self,
        request: &forge::PullRequest,
        checks: &Checks,
        approvals: &Approvals,
    ) -> MergeOffer {
        MergeOffer {
            number: request.number,
            head: request.head_commit.clone(),
            base: self.world.commit,
            mergeable: request.mergeable.clone(),
            checks: checks.clone(),
            approvals: approvals.clone(),
        }
    }

    /// Whether the forge has refused just this, with its reason, and when it is asked again all the
    /// same.
    pub(crate) fn refused(&self, offer: &MergeOffer) -> Option<(Vec<String>, Timestamp)> {
        let known = self.updater.known();
        let refusal = known
            .notes
            .get(&offer.number)?
            .refusal
            .as_ref()
            .filter(|refusal| refusal.offer == *offer && self.now < refusal.until)?;
        Some((vec![refusal.reason.clone()], refusal.until))
    }

    /// What a merge that the forge did not do leads to; nothing where that is a failure.
    pub(crate) fn not_merged(
        &mut self,
        item: &DesiredRequest<'_>,
        offer: MergeOffer,
        problem: &ForgeProblem,
    ) -> Option<StepOutcome> {
        let number = offer.number;
        let reason = format!("The forge did not merge it: {problem}.");
        let until = match problem {
            // Somebody pushed in between, or the forge is still looking: the next pass sees.
            ForgeProblem::HeadChanged { .. } | ForgeProblem::NotYet { .. } => None,
            ForgeProblem::Behind { .. } => {
                if self
                    .looked
                    .get(&item.branch)
                    .is_some_and(|looked| !looked.fresh)
                    && let Some(request) = self.request(item).cloned()
                {
                    self.done.merged.remove(&number);
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
                self.updater.known().note(number).refusal = Some(refusal);
                Some(until)
            }
            _ => return None,
        };
        self.done.merged.remove(&number);
        Some(StepOutcome::Settled {
            waits: vec![reason],
            until,
            would_merge: false,
        })
    }
}
