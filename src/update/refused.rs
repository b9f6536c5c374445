//! Requests that a base does not take as they are: branches that must contain its newest commit, and merges that the forge
//! has refused, which are not asked for again until something is different.

use super::{
    FailureReport,
    stepping::{HOUR, Stepped, Walk},
    wanting::Item,
};
use crate::{
    forge::{self, Approvals, Checks, Mergeable, Problem},
    git::ObjectId,
    publish::life::Commits,
};
use jiff::Timestamp;
use std::sync::PoisonError;

/// What was there when a merge was asked for: as long as it is the same, the answer will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
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
pub(super) struct Refusal {
    offer: Offer,
    reason: String,
    /// When it is asked for again although nothing that can be seen is different: who may merge is not told.
    until: Timestamp,
}

impl Walk<'_> {
    /// Where the base wants the newest commit in a branch, all requests that lack it are behind, also those that the forge
    /// has not looked at. It is asked for only if there are such.
    pub(super) async fn mark_behind(&mut self) {
        let (looked, target) = (&self.looked, self.target);
        let stale = |request: &forge::Request| {
            let stale = looked.get(&request.head).is_some_and(|looked| !looked.fresh && looked.commits == Commits::Own);
            stale && request.base == target && !matches!(request.mergeable, Mergeable::Behind | Mergeable::Conflicts)
        };
        if !self.open.iter().any(stale) {
            return;
        }
        match self.forge.wants_newest(target).await {
            Ok(true) => {
                self.open.iter_mut().filter(|request| stale(request)).for_each(|request| request.mergeable = Mergeable::Behind);
            }
            Ok(false) => {}
            Err(error) => self.failures.push(FailureReport::at_forge(&error)),
        }
    }

    /// What is offered to the forge with a merge.
    pub(super) fn offer(&self, request: &forge::Request, checks: &Checks, approvals: &Approvals) -> Offer {
        Offer {
            number: request.number,
            head: request.head_commit.clone(),
            base: self.world.commit,
            mergeable: request.mergeable.clone(),
            checks: checks.clone(),
            approvals: approvals.clone(),
        }
    }

    /// Whether the forge has refused just this, with its reason, and when it is asked again all the same.
    pub(super) fn refused(&self, offer: &Offer) -> Option<(Vec<String>, Timestamp)> {
        let known = self.updater.known.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = known.refusals.get(&offer.number).filter(|refusal| refusal.offer == *offer && self.now < refusal.until)?;
        Some((vec![refusal.reason.clone()], refusal.until))
    }

    /// What a merge that the forge did not do leads to; nothing where that is a failure.
    pub(super) fn not_merged(&mut self, item: &Item<'_>, offer: Offer, problem: &Problem) -> Option<Stepped> {
        let number = offer.number;
        let reason = format!("The forge did not merge it: {problem}.");
        let until = match problem {
            // Somebody pushed in between, or the forge is still looking: the next pass sees.
            Problem::HeadChanged { .. } | Problem::NotYet { .. } => None,
            Problem::Behind { .. } => {
                if self.looked.get(&item.branch).is_some_and(|looked| !looked.fresh) {
                    self.change(number, |known| known.mergeable = Mergeable::Behind);
                    self.done.merged.remove(&number);
                    return Some(Stepped::Again);
                }
                None
            }
            Problem::NotMergeable { .. } => {
                let until = self.now.checked_add(HOUR).unwrap_or(Timestamp::MAX);
                let refusal = Refusal { offer, reason: reason.clone(), until };
                self.updater.known.lock().unwrap_or_else(PoisonError::into_inner).refusals.insert(number, refusal);
                Some(until)
            }
            _ => return None,
        };
        self.done.merged.remove(&number);
        Some(Stepped::Settled { waits: vec![reason], until, would_merge: false })
    }
}
