//! Requests that merge by themselves: what the decision needs is asked for only where nothing else
//! stands in the way.

use super::{
    BranchState,
    desired::DesiredRequest,
    execute::{RequestReconciler, StepOutcome},
    merge_refusals::MergeOffer,
};
use crate::update::{FailureReport, PassClock, PassMode, RequestState, blocking, previews::REST};
use crate::{
    images::policy::MissingFacts,
    io::{
        forge::{self, MergeCommand, Mergeable},
        git::{GitError, ObjectId},
    },
    review::{
        ChangeSet, ImageMove, Marker, PreviewSummary,
        lifecycle::ClosedRequest,
        merging::{self, MergeDecision, MergeInput},
    },
    spec::{AutoMerge, Environment},
};
use jiff::Timestamp;
use std::sync::Arc;

/// What the forge says beside the request itself.
struct MergeAnswers {
    checks: forge::Checks,
    approvals: forge::Approvals,
}

/// A request that may merge by itself, with what does not change while that is found out.
struct MergeCandidate<'a> {
    auto_merge: &'a AutoMerge,
    environment: &'a Environment,
    set: &'a ChangeSet,
    target: &'a str,
    /// The head that was looked at, and the commit it is made on.
    head: ObjectId,
    parent: ObjectId,
    /// Whether that is the newest commit of the target.
    fresh: bool,
    clock: PassClock,
}

/// Why a request does not merge now, until when, and whether only the forge's answers are missing.
type MergeWait = (Vec<String>, Option<Timestamp>, bool);

impl MergeCandidate<'_> {
    /// Goes through the rules; nothing is left to wait for where it gives nothing.
    fn waits(
        &self,
        request: &forge::PullRequest,
        seen: &[Option<Timestamp>],
        answers: Option<&MergeAnswers>,
        outlook: &PreviewSummary,
    ) -> Option<MergeWait> {
        let decided = merging::decide(&MergeInput {
            auto_merge: self.auto_merge,
            windows: &self.environment.windows,
            moves: &self.set.moves,
            seen,
            request,
            checks: answers.map(|answers| &answers.checks),
            approvals: answers.map(|answers| &answers.approvals),
            own: true,
            current: is(&request.head_commit, self.head),
            target: self.target,
            outlook,
            now: self.clock.now(),
        });
        match decided {
            MergeDecision::Now => None,
            MergeDecision::Waits {
                reasons,
                until,
                ask,
            } => Some((reasons, until, ask)),
        }
    }
}

/// Whether a forge names this commit.
pub(crate) fn is(named: &str, commit: ObjectId) -> bool {
    ObjectId::from_hex(named.as_bytes()).is_ok_and(|named| named == commit)
}

fn quiet(waits: Vec<String>, until: Option<Timestamp>) -> StepOutcome {
    StepOutcome::Settled {
        waits,
        until,
        would_merge: false,
    }
}

impl<'w> RequestReconciler<'w> {
    /// A request that is as it should be merges, or says what it waits for.
    pub(crate) async fn settled(
        &mut self,
        item: &DesiredRequest<'_>,
        set: &ChangeSet,
        request: forge::PullRequest,
    ) -> Result<StepOutcome, GitError> {
        let (Some((_, Some(auto_merge))), Some(environment)) = (Self::via(item), item.environment)
        else {
            return Ok(quiet(
                vec!["It waits for people: autoMerge is not declared.".to_owned()],
                None,
            ));
        };
        let Some(BranchState {
            head,
            parent: Some(parent),
            fresh,
            ..
        }) = self.looked.get(&item.branch).cloned()
        else {
            return Ok(quiet(Vec::new(), None));
        };
        let (target, clock): (&'w str, _) = (self.target, self.clock);
        let one = MergeCandidate {
            auto_merge,
            environment,
            set,
            target,
            head,
            parent,
            fresh,
            clock,
        };
        let seen = match self
            .seen(set, auto_merge.minimum_age.is_some(), false)
            .await
        {
            Ok(seen) => seen,
            Err(failure) => return Ok(failure),
        };
        let (outlook, stands) = self.outlook(&one).unwrap_or_default();
        if stands.is_some() && self.tells_otherwise(&request, &outlook) {
            return self.retell(item, set, &request).await;
        }
        if let Some((reasons, until, false)) = one.waits(&request, &seen, None, &outlook) {
            // A forge can be a little behind what was just pushed.
            if is(&request.head_commit, head) {
                self.stands_aside(request.number);
            }
            return Ok(quiet(reasons, until.max(stands)));
        }
        // After each merge all are looked at again; the forge is asked of each once in a pass.
        match self.done.waiting.get(&request.number) {
            Some((of, reasons, until)) if *of == head => Ok(quiet(reasons.clone(), *until)),
            _ => self.ready(item, &one, &request, seen).await,
        }
    }

    /// The forge is asked what only it knows, of the request as it is now; then registries and
    /// clusters once more.
    async fn ready(
        &mut self,
        item: &DesiredRequest<'_>,
        one: &MergeCandidate<'_>,
        listed: &forge::PullRequest,
        mut seen: Vec<Option<Timestamp>>,
    ) -> Result<StepOutcome, GitError> {
        let asked = async {
            let request = self.forge.get(listed.number).await?;
            let (checks, approvals) =
                futures::try_join!(self.forge.checks(&request), self.forge.approvals(&request))?;
            Ok::<_, forge::ForgeError>((request, MergeAnswers { checks, approvals }))
        };
        let (request, answers) = match asked.await {
            Ok(asked) => asked,
            Err(error) => return Ok(Self::failure(&error)),
        };
        if let Some(other) = self.otherwise(item, &request, one.fresh) {
            return Ok(other);
        }
        if let Some((reasons, until, _)) =
            one.waits(&request, &seen, Some(&answers), &PreviewSummary::Clear)
        {
            if answers.checks.state == forge::ChecksState::Failed {
                self.stands_aside(request.number);
            }
            return Ok(self.rests(&request, one, reasons, until));
        }
        if !one.fresh {
            match self.forge.wants_newest(self.target).await {
                Ok(true) => return Ok(self.behind(&request)),
                Ok(false) => {}
                Err(error) => return Ok(Self::failure(&error)),
            }
        }
        // A tag may have moved since its clock was last looked at.
        if one.auto_merge.minimum_age.is_some() {
            seen = match self.seen(one.set, true, true).await {
                Ok(seen) => seen,
                Err(failure) => return Ok(failure),
            };
            if let Some((reasons, until, _)) =
                one.waits(&request, &seen, Some(&answers), &PreviewSummary::Clear)
            {
                return Ok(quiet(reasons, until));
            }
        }
        if let Some((reasons, until)) =
            self.refused(&self.offer(&request, &answers.checks, &answers.approvals))
        {
            return Ok(quiet(reasons, Some(until)));
        }
        let (outlook, stands) = match self.outlook(one) {
            Some(known) => known,
            None => {
                let at = self.clock.now();
                match self
                    .updater
                    .preview(one.set, self.world.commit, one.parent, one.head, at)
                    .await
                {
                    Some(preview) => (preview.outlook(), at.checked_add(REST).ok()),
                    None => Default::default(),
                }
            }
        };
        if self.tells_otherwise(&request, &outlook) {
            return self.retell(item, one.set, &request).await;
        }
        if outlook != PreviewSummary::Clear {
            let (reasons, ..) = one
                .waits(&request, &seen, Some(&answers), &outlook)
                .unwrap_or_default();
            return Ok(self.rests(&request, one, reasons, stands));
        }
        if self.mode == PassMode::Plan {
            return Ok(StepOutcome::Settled {
                waits: Vec::new(),
                until: None,
                would_merge: true,
            });
        }
        // The preview took its time, in which people can have said something.
        let request = match self.forge.get(request.number).await {
            Ok(request) => request,
            Err(error) => return Ok(Self::failure(&error)),
        };
        if let Some(other) = self.otherwise(item, &request, one.fresh) {
            return Ok(other);
        }
        // And can have changed what is declared: paused an Environment, closed a window, refused a
        // tag.
        let mirror = Arc::clone(&self.updater.mirror);
        match blocking(move || mirror.fetch()).await {
            Ok(head) if head.commit == self.world.commit => {}
            Ok(_) => return Ok(StepOutcome::Conflict),
            Err(error @ GitError::Broken { .. }) => return Err(error),
            Err(error) => return Ok(Self::failure(&error)),
        }
        match one.waits(&request, &seen, Some(&answers), &outlook) {
            None => {
                let offer = self.offer(&request, &answers.checks, &answers.approvals);
                self.merge(item, one.set, &request, offer).await
            }
            Some((reasons, until, _)) => Ok(quiet(reasons, until)),
        }
    }

    /// Notes what a request waits for until the end of this pass.
    fn rests(
        &mut self,
        request: &forge::PullRequest,
        one: &MergeCandidate<'_>,
        reasons: Vec<String>,
        until: Option<Timestamp>,
    ) -> StepOutcome {
        self.done
            .waiting
            .insert(request.number, (one.head, reasons.clone(), until));
        quiet(reasons, until)
    }

    /// What a preview of this process has said of a change, as long as that stands.
    fn outlook(&self, one: &MergeCandidate<'_>) -> Option<(PreviewSummary, Option<Timestamp>)> {
        let known = self.updater.known();
        known
            .outlooks
            .get(self.world.commit, one.head, self.clock.now())
            .map(|(outlook, until)| (outlook, Some(until)))
    }

    /// Whether the text says of clusters what is not so any more, and can be written anew.
    fn tells_otherwise(&self, request: &forge::PullRequest, outlook: &PreviewSummary) -> bool {
        let refused = matches!(outlook, PreviewSummary::Refused(_));
        self.mode == PassMode::Write
            && Marker::of(request).is_some_and(|marker| marker.refused != refused)
    }

    /// Notes what the forge says of a request now; gives a step where that leads to another
    /// decision than what it said before.
    fn otherwise(
        &mut self,
        item: &DesiredRequest<'_>,
        request: &forge::PullRequest,
        fresh: bool,
    ) -> Option<StepOutcome> {
        self.change(request.number, |known| *known = request.clone());
        // Somebody has renamed the branch.
        if request.head != item.branch {
            return Some(StepOutcome::Conflict);
        }
        if request.base == self.target && request.mergeable == Mergeable::Behind && !fresh {
            return Some(self.behind(request));
        }
        (request.base != self.target || (request.mergeable == Mergeable::Conflicts && !fresh))
            .then_some(StepOutcome::Again)
    }

    async fn merge(
        &mut self,
        item: &DesiredRequest<'_>,
        set: &ChangeSet,
        request: &forge::PullRequest,
        offer: MergeOffer,
    ) -> Result<StepOutcome, GitError> {
        let message = match self.message(set) {
            Ok(message) => message,
            Err(failure) => return Ok(failure),
        };
        if !self.done.merged.insert(request.number) {
            let waits =
                vec!["It was merged by this pass, and the forge still calls it open.".to_owned()];
            return Ok(StepOutcome::Settled {
                waits,
                until: None,
                would_merge: false,
            });
        }
        self.updater
            .publishing
            .store(true, std::sync::atomic::Ordering::SeqCst);
        let (title, text) = message.split_once('\n').unwrap_or((&message, ""));
        let merge = MergeCommand {
            head: request.head_commit.clone(),
            method: Self::via(item).and_then(|(request, _)| request.merge_method),
            title: title.to_owned(),
            // With the trailer, by which the history knows an update.
            message: text.trim().to_owned(),
            delete_branch: !self.is_shared(&item.branch),
        };
        match self.forge.merge(request.number, &merge).await {
            Ok(commit) => {
                let ended = Some(forge::RequestEnd {
                    at: Some(self.now),
                    by: None,
                    commit,
                });
                let request = &forge::PullRequest {
                    state: forge::RequestStatus::Merged,
                    ended,
                    ..request.clone()
                };
                let row = self.report(item, RequestState::Merged, Vec::new());
                self.done.ended.push((item.name.clone(), row));
                self.done.states.remove(&item.branch);
                self.forget(request, ClosedRequest::Merged);
                Ok(StepOutcome::Merged)
            }
            Err(error) => Ok(self
                .not_merged(item, offer, &error.problem)
                .unwrap_or_else(|| Self::failure(&error))),
        }
    }

    /// When each move's tag was first seen with its digest. Nothing is asked for where no rule goes
    /// by it. With `confirm` every tag is looked up at its registry; else only those that were
    /// never seen.
    async fn seen(
        &mut self,
        set: &ChangeSet,
        wanted: bool,
        confirm: bool,
    ) -> Result<Vec<Option<Timestamp>>, StepOutcome> {
        let mut all = Vec::new();
        for row in &set.moves {
            all.push(if wanted {
                self.since(row, confirm).await?
            } else {
                None
            });
        }
        Ok(all)
    }

    async fn since(
        &mut self,
        row: &ImageMove,
        confirm: bool,
    ) -> Result<Option<Timestamp>, StepOutcome> {
        let scanner = &self.updater.scanner;
        let failed = |error: &crate::io::facts::ScanError| {
            StepOutcome::Failed(Box::new(FailureReport::new(error).of(&row.repository)))
        };
        let Some(scan) = self.scans.get_mut(&row.repository) else {
            return Ok(None);
        };
        let stored = scanner
            .store
            .seen(&row.repository, &row.new)
            .map_err(|error| failed(&error.into()))?;
        let fits = |digest: &crate::core::image::Digest| {
            row.digest.as_ref().is_none_or(|wanted| wanted == digest)
        };
        let details = scan.details.get(row.new.as_str());
        if !confirm || details.is_some_and(|details| details.fresh) {
            let known = details
                .filter(|details| details.digest.as_ref().is_some_and(fits))
                .and_then(|details| details.since);
            let known = known.or_else(|| {
                stored
                    .as_ref()
                    .filter(|seen| fits(&seen.digest))
                    .map(|seen| seen.since)
            });
            if known.is_some() || stored.is_some() {
                return Ok(known);
            }
        }
        let needs = MissingFacts {
            digests: vec![row.new.clone()],
            ..MissingFacts::default()
        };
        scanner
            .answer(scan, &needs, self.now)
            .await
            .map_err(|error| failed(&error))?;
        let details = scan.details.get(row.new.as_str());
        Ok(details
            .filter(|details| details.digest.as_ref().is_some_and(fits))
            .and_then(|details| details.since))
    }
}
