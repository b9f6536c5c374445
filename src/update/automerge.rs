//! Requests that merge by themselves: what the decision needs is asked for only where nothing else stands in the way.

use super::{
    FailureReport, Mode, RequestState,
    refused::Offer,
    stepping::{Stepped, Walk},
    wanting::Item,
};
use crate::{
    forge::{self, Merge, Mergeable},
    git::GitError,
    policy::Needs,
    publish::{
        ChangeSet, ImageMove,
        life::Ended,
        merging::{self, Asked, Merging},
    },
};
use jiff::Timestamp;

impl Walk<'_> {
    /// A request that is as it should be merges, or says what it waits for.
    pub(super) async fn settled(&mut self, item: &Item<'_>, set: &ChangeSet, request: forge::Request) -> Result<Stepped, GitError> {
        let quiet = |waits, until| Ok(Stepped::Settled { waits, until, would_merge: false });
        let (Some((_, Some(auto_merge))), Some(environment)) = (Self::via(item), item.environment) else {
            return quiet(vec!["It waits for people: autoMerge is not declared.".to_owned()], None);
        };
        let Some(looked) = self.looked.get(&item.branch) else { return quiet(Vec::new(), None) };
        let (head, fresh) = (looked.head.to_string(), looked.fresh);
        let refused = item.refused(&request);
        let mut seen = match self.seen(set, auto_merge.minimum_age.is_some(), false).await {
            Ok(seen) => seen,
            Err(failure) => return Ok(failure),
        };
        let now = self.now;
        let ask =
            |request: &forge::Request, seen: &[Option<Timestamp>], checks: Option<&forge::Checks>, approvals: Option<&forge::Approvals>| {
                let current = request.head_commit == head;
                let windows = &environment.windows;
                merging::decide(&Asked {
                    auto_merge,
                    windows,
                    moves: &set.moves,
                    seen,
                    request,
                    checks,
                    approvals,
                    own: true,
                    current,
                    refused,
                    now,
                })
            };
        match ask(&request, &seen, None, None) {
            Merging::Waits { reasons, until, ask: false } => return quiet(reasons, until),
            Merging::Waits { .. } | Merging::Now => {}
        }
        // After each merge all are looked at again; the forge is asked of each once in a pass.
        if let Some((of, reasons, until)) = self.done.waiting.get(&request.number)
            && *of == head
        {
            return quiet(reasons.clone(), *until);
        }
        // From here on the forge is asked, of the request as it is now.
        let asked = async {
            let request = self.forge.get(request.number).await?;
            let (checks, approvals) = futures::try_join!(self.forge.checks(&request), self.forge.approvals(&request))?;
            Ok::<_, forge::ForgeError>((request, checks, approvals))
        };
        let (request, checks, approvals) = match asked.await {
            Ok(asked) => asked,
            Err(error) => return Ok(Self::failure(&error)),
        };
        self.change(request.number, |known| *known = request.clone());
        if matches!(request.mergeable, Mergeable::Behind | Mergeable::Conflicts) && !fresh {
            // What the list did not say leads to another decision.
            return Ok(Stepped::Again);
        }
        match ask(&request, &seen, Some(&checks), Some(&approvals)) {
            Merging::Waits { reasons, until, .. } => {
                self.done.waiting.insert(request.number, (head, reasons.clone(), until));
                return quiet(reasons, until);
            }
            Merging::Now if auto_merge.minimum_age.is_none() => {}
            // A tag may have moved since its clock was last looked at.
            Merging::Now => {
                seen = match self.seen(set, true, true).await {
                    Ok(seen) => seen,
                    Err(failure) => return Ok(failure),
                };
                if let Merging::Waits { reasons, until, .. } = ask(&request, &seen, Some(&checks), Some(&approvals)) {
                    return quiet(reasons, until);
                }
            }
        }
        let offer = self.offer(&request, &checks, &approvals);
        if let Some((reasons, until)) = self.refused(&offer) {
            return quiet(reasons, Some(until));
        }
        if self.mode == Mode::Plan {
            return Ok(Stepped::Settled { waits: Vec::new(), until: None, would_merge: true });
        }
        self.merge(item, set, &request, offer).await
    }

    async fn merge(&mut self, item: &Item<'_>, set: &ChangeSet, request: &forge::Request, offer: Offer) -> Result<Stepped, GitError> {
        let message = match self.message(set) {
            Ok(message) => message,
            Err(failure) => return Ok(failure),
        };
        if !self.done.merged.insert(request.number) {
            let waits = vec!["It was merged by this pass, and the forge still calls it open.".to_owned()];
            return Ok(Stepped::Settled { waits, until: None, would_merge: false });
        }
        self.updater.publishing.store(true, std::sync::atomic::Ordering::SeqCst);
        let (title, text) = message.split_once('\n').unwrap_or((&message, ""));
        let merge = Merge {
            head: request.head_commit.clone(),
            method: Self::via(item).and_then(|(request, _)| request.merge_method),
            title: title.to_owned(),
            // With the trailer, by which the history knows an update.
            message: text.trim().to_owned(),
            delete_branch: true,
        };
        match self.forge.merge(request.number, &merge).await {
            Ok(commit) => {
                let ended = Some(forge::Ended { at: Some(self.now), by: None, commit });
                let request = &forge::Request { state: forge::State::Merged, ended, ..request.clone() };
                let row = self.report(item, RequestState::Merged, Vec::new());
                self.done.ended.push((item.name.clone(), row));
                self.done.states.remove(&item.branch);
                self.forget(request, Ended::Merged);
                Ok(Stepped::Merged)
            }
            Err(error) => Ok(self.not_merged(item, offer, &error.problem).unwrap_or_else(|| Self::failure(&error))),
        }
    }

    /// When each move's tag was first seen with its digest. Nothing is asked for where no rule goes by it. With `confirm`
    /// every tag is looked up at its registry; else only those that were never seen.
    async fn seen(&mut self, set: &ChangeSet, wanted: bool, confirm: bool) -> Result<Vec<Option<Timestamp>>, Stepped> {
        let mut all = Vec::new();
        for row in &set.moves {
            all.push(if wanted { self.since(row, confirm).await? } else { None });
        }
        Ok(all)
    }

    async fn since(&mut self, row: &ImageMove, confirm: bool) -> Result<Option<Timestamp>, Stepped> {
        let scanner = &self.updater.scanner;
        let failed = |error: &crate::scan::ScanError| Stepped::Failed(Box::new(FailureReport::new(error).of(&row.repository)));
        let Some(scan) = self.scans.get_mut(&row.repository) else { return Ok(None) };
        let stored = scanner.store.seen(&row.repository, &row.new).map_err(|error| failed(&error.into()))?;
        let fits = |digest: &crate::image::Digest| row.digest.as_ref().is_none_or(|wanted| wanted == digest);
        let details = scan.details.get(row.new.as_str());
        if !confirm || details.is_some_and(|details| details.fresh) {
            let known = details.filter(|details| details.digest.as_ref().is_some_and(fits)).and_then(|details| details.since);
            let known = known.or_else(|| stored.as_ref().filter(|seen| fits(&seen.digest)).map(|seen| seen.since));
            if known.is_some() || stored.is_some() {
                return Ok(known);
            }
        }
        let needs = Needs { digests: vec![row.new.clone()], ..Needs::default() };
        scanner.answer(scan, &needs, self.now).await.map_err(|error| failed(&error))?;
        let details = scan.details.get(row.new.as_str());
        Ok(details.filter(|details| details.digest.as_ref().is_some_and(fits)).and_then(|details| details.since))
    }
}

impl Item<'_> {
    /// Whether a cluster refused something when the request's text was written.
    fn refused(&self, request: &forge::Request) -> bool {
        crate::publish::Marker::read(&request.body).ok().flatten().is_none_or(|marker| marker.refused)
    }
}
