//! Automatic merges. Checks, approvals and previews cost calls, so they are fetched only if nothing
//! else stands in the way.

use super::{
    RequestReconciler,
    merge_refusals::MergeOffer,
    preview,
    state::{BranchState, DesiredRequest, StepOutcome},
};
use crate::update::{
    FailureReport, PassMode, RequestState, pass_state::PassClock, previews::REFUSAL_TTL,
};
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

struct MergeAnswers {
    checks: forge::Checks,
    approvals: forge::Approvals,
}

/// A pull request that may merge automatically, with the inputs that stay the same meanwhile.
struct MergeCandidate<'a> {
    auto_merge: &'a AutoMerge,
    environment: &'a Environment,
    set: &'a Arc<ChangeSet>,
    target: &'a str,
    /// Head of the branch, and the commit of the target that it is made on.
    head: ObjectId,
    parent: ObjectId,
    /// True if that is the head of the target.
    on_head: bool,
    clock: PassClock,
}

/// Reasons not to merge now, the end of the wait, and whether only the forge's answers are missing.
type MergeWait = (Vec<String>, Option<Timestamp>, bool);

impl MergeCandidate<'_> {
    /// Applies the rules; none if the pull request may merge.
    fn waits(
        &self,
        request: &forge::PullRequest,
        first_seen: &[Option<Timestamp>],
        answers: Option<&MergeAnswers>,
        preview: &PreviewSummary,
    ) -> Option<MergeWait> {
        let decided = merging::decide(&MergeInput {
            auto_merge: self.auto_merge,
            windows: &self.environment.windows,
            moves: &self.set.moves,
            first_seen,
            request,
            checks: answers.map(|answers| &answers.checks),
            approvals: answers.map(|answers| &answers.approvals),
            own: true,
            current: is_commit(&request.head_commit, self.head),
            target: self.target,
            preview,
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

/// Tells whether a forge's text is the id of a commit.
pub(crate) fn is_commit(named: &str, commit: ObjectId) -> bool {
    ObjectId::from_hex(named.as_bytes()).is_ok_and(|named| named == commit)
}

fn quiet(waits: Vec<String>, until: Option<Timestamp>) -> StepOutcome {
    StepOutcome::UpToDate {
        waits,
        until,
        would_merge: false,
    }
}

impl RequestReconciler<'_> {
    /// Merges a pull request that is up to date, or reports what it waits for.
    pub(crate) async fn try_merge(
        &mut self,
        item: &DesiredRequest<'_>,
        set: &Arc<ChangeSet>,
        request: forge::PullRequest,
    ) -> Result<StepOutcome, GitError> {
        let (Some((_, Some(auto_merge))), Some(environment)) = (item.options(), item.environment)
        else {
            return Ok(quiet(
                vec!["It waits for a person to merge it: autoMerge is not declared.".to_owned()],
                None,
            ));
        };
        let Some(BranchState {
            head,
            parent: Some(parent),
            on_head,
            ..
        }) = self.branches.get(&item.branch).cloned()
        else {
            return Ok(quiet(Vec::new(), None));
        };
        let candidate = MergeCandidate {
            auto_merge,
            environment,
            set,
            target: self.context.repo.mirror.remote().branch(),
            head,
            parent,
            on_head,
            clock: self.clock,
        };
        let by_age = auto_merge.minimum_age.is_some();
        let first_seen = match self.first_seen(set, by_age, false).await {
            Ok(first_seen) => first_seen,
            Err(failure) => return Ok(failure),
        };
        let (preview, valid_until) = self.known_preview(&candidate).unwrap_or_default();
        if valid_until.is_some() && self.text_is_stale(&request, &preview) {
            return self.update_text(item, set, &request).await;
        }
        let waits = candidate.waits(&request, &first_seen, None, &preview);
        if let Some((reasons, until, false)) = waits {
            // A forge can lag behind a push.
            if is_commit(&request.head_commit, head) {
                self.leave_front(request.number);
            }
            return Ok(quiet(reasons, until.max(valid_until)));
        }
        // Each merge starts another round over all pull requests.
        match self.progress.waiting.get(&request.number) {
            Some((of, reasons, until)) if *of == head => Ok(quiet(reasons.clone(), *until)),
            _ => self.confirm(item, &candidate, &request, first_seen).await,
        }
    }

    /// Confirms at the forge, the registries and the clusters that nothing stands in the way, and
    /// merges.
    async fn confirm(
        &mut self,
        item: &DesiredRequest<'_>,
        candidate: &MergeCandidate<'_>,
        listed: &forge::PullRequest,
        mut first_seen: Vec<Option<Timestamp>>,
    ) -> Result<StepOutcome, GitError> {
        let answers = async {
            let request = self.context.forge.get(listed.number).await?;
            let (checks, approvals) = futures::try_join!(
                self.context.forge.checks(&request),
                self.context.forge.approvals(&request)
            )?;
            Ok::<_, forge::ForgeError>((request, MergeAnswers { checks, approvals }))
        };
        let (request, answers) = match answers.await {
            Ok(answers) => answers,
            Err(error) => return Ok(Self::failure(&error)),
        };
        if let Some(other) = self.other_step(item, &request, candidate.on_head) {
            return Ok(other);
        }
        if let Some((reasons, until, _)) = candidate.waits(
            &request,
            &first_seen,
            Some(&answers),
            &PreviewSummary::Clear,
        ) {
            if answers.checks.state == forge::ChecksState::Failed {
                self.leave_front(request.number);
            }
            return Ok(self.wait(&request, candidate, reasons, until));
        }
        if !candidate.on_head {
            match self.context.forge.wants_newest(candidate.target).await {
                Ok(true) => return Ok(self.behind(&request)),
                Ok(false) => {}
                Err(error) => return Ok(Self::failure(&error)),
            }
        }
        // A tag may have moved since its age was last read.
        if candidate.auto_merge.minimum_age.is_some() {
            first_seen = match self.first_seen(candidate.set, true, true).await {
                Ok(first_seen) => first_seen,
                Err(failure) => return Ok(failure),
            };
            if let Some((reasons, until, _)) = candidate.waits(
                &request,
                &first_seen,
                Some(&answers),
                &PreviewSummary::Clear,
            ) {
                return Ok(quiet(reasons, until));
            }
        }
        if let Some((reasons, until)) =
            self.refused(&self.offer(&request, &answers.checks, &answers.approvals))
        {
            return Ok(quiet(reasons, Some(until)));
        }
        let (preview, valid_until) = match self.known_preview(candidate) {
            Some(known) => known,
            None => self.preview(candidate).await,
        };
        if self.text_is_stale(&request, &preview) {
            return self.update_text(item, candidate.set, &request).await;
        }
        if preview != PreviewSummary::Clear {
            let (reasons, ..) = candidate
                .waits(&request, &first_seen, Some(&answers), &preview)
                .unwrap_or_default();
            return Ok(self.wait(&request, candidate, reasons, valid_until));
        }
        if self.mode == PassMode::Plan {
            return Ok(StepOutcome::UpToDate {
                waits: Vec::new(),
                until: None,
                would_merge: true,
            });
        }
        self.merge_unless_changed(item, candidate, request.number, &first_seen, &answers)
            .await
    }

    /// Merges, unless the pull request or the declarations changed during the preview.
    async fn merge_unless_changed(
        &mut self,
        item: &DesiredRequest<'_>,
        candidate: &MergeCandidate<'_>,
        number: u64,
        first_seen: &[Option<Timestamp>],
        answers: &MergeAnswers,
    ) -> Result<StepOutcome, GitError> {
        let request = match self.context.forge.get(number).await {
            Ok(request) => request,
            Err(error) => return Ok(Self::failure(&error)),
        };
        if let Some(other) = self.other_step(item, &request, candidate.on_head) {
            return Ok(other);
        }
        // A new commit may suspend the Environment, close a window or exclude a tag.
        match self.context.repo.read(|mirror| mirror.fetch()).await {
            Ok(head) if head.commit == self.snapshot.commit => {}
            Ok(_) => return Ok(StepOutcome::Conflict),
            Err(error @ GitError::Broken { .. }) => return Err(error),
            Err(error) => return Ok(Self::failure(&error)),
        }
        match candidate.waits(&request, first_seen, Some(answers), &PreviewSummary::Clear) {
            None => {
                let offer = self.offer(&request, &answers.checks, &answers.approvals);
                self.merge(item, candidate.set, &request, offer).await
            }
            Some((reasons, until, _)) => Ok(quiet(reasons, until)),
        }
    }

    /// Notes until the end of this pass what a pull request waits for.
    fn wait(
        &mut self,
        request: &forge::PullRequest,
        candidate: &MergeCandidate<'_>,
        reasons: Vec<String>,
        until: Option<Timestamp>,
    ) -> StepOutcome {
        self.progress
            .waiting
            .insert(request.number, (candidate.head, reasons.clone(), until));
        quiet(reasons, until)
    }

    /// Previews a change, and returns until when the summary is valid.
    async fn preview(&self, candidate: &MergeCandidate<'_>) -> (PreviewSummary, Option<Timestamp>) {
        let MergeCandidate {
            set, parent, head, ..
        } = *candidate;
        let now = self.clock.now();
        let target = self.snapshot.commit;
        match preview::preview(self.context, set, target, parent, head, now).await {
            Some(preview) => (preview.summary(), now.checked_add(REFUSAL_TTL).ok()),
            None => Default::default(),
        }
    }

    /// Returns a preview of this process that is still valid.
    fn known_preview(
        &self,
        candidate: &MergeCandidate<'_>,
    ) -> Option<(PreviewSummary, Option<Timestamp>)> {
        let cache = self.context.cache.lock();
        cache
            .previews
            .get(self.snapshot.commit, candidate.head, self.clock.now())
            .map(|(preview, until)| (preview, Some(until)))
    }

    /// Tells whether the text shows another verdict of the clusters, and may be written.
    fn text_is_stale(&self, request: &forge::PullRequest, preview: &PreviewSummary) -> bool {
        let refused = matches!(preview, PreviewSummary::Refused(_));
        self.mode == PassMode::Write
            && Marker::of(request).is_some_and(|marker| marker.refused != refused)
    }

    /// Takes over the forge's present view of a pull request; returns an outcome if that leads to
    /// another step.
    fn other_step(
        &mut self,
        item: &DesiredRequest<'_>,
        request: &forge::PullRequest,
        on_head: bool,
    ) -> Option<StepOutcome> {
        self.change(request.number, |known| *known = request.clone());
        let target = self.context.target();
        // A person has renamed the branch.
        if request.head != item.branch {
            return Some(StepOutcome::Conflict);
        }
        if request.base == target && request.mergeable == Mergeable::Behind && !on_head {
            return Some(self.behind(request));
        }
        (request.base != target || (request.mergeable == Mergeable::Conflicts && !on_head))
            .then_some(StepOutcome::Again)
    }

    async fn merge(
        &mut self,
        item: &DesiredRequest<'_>,
        set: &Arc<ChangeSet>,
        request: &forge::PullRequest,
        offer: MergeOffer,
    ) -> Result<StepOutcome, GitError> {
        let message = match self.message(set) {
            Ok(message) => message,
            Err(failure) => return Ok(failure),
        };
        if !self.progress.merged.insert(request.number) {
            let waits =
                vec!["This pass merged it, and the forge still shows it as open.".to_owned()];
            return Ok(StepOutcome::UpToDate {
                waits,
                until: None,
                would_merge: false,
            });
        }
        self.context.publisher.begin();
        let (title, text) = message.split_once('\n').unwrap_or((&message, ""));
        let merge = MergeCommand {
            head: request.head_commit.clone(),
            method: item.options().and_then(|(request, _)| request.merge_method),
            title: title.to_owned(),
            // Its trailer marks the merge as an update of the bot.
            message: text.trim().to_owned(),
            delete_branch: !self.is_shared(&item.branch),
        };
        match self.context.forge.merge(request.number, &merge).await {
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
                self.progress.ended.push((item.name.clone(), row));
                self.progress.states.remove(&item.branch);
                self.forget(request, ClosedRequest::Merged);
                Ok(StepOutcome::Merged)
            }
            Err(error) => Ok(self
                .not_merged(item, offer, &error.problem)
                .unwrap_or_else(|| Self::failure(&error))),
        }
    }

    /// Returns when each tag was first seen with its digest, if a rule goes `by_age`.
    ///
    /// With `confirm` every tag is looked up at its registry; else only those that were never seen.
    async fn first_seen(
        &mut self,
        set: &Arc<ChangeSet>,
        by_age: bool,
        confirm: bool,
    ) -> Result<Vec<Option<Timestamp>>, StepOutcome> {
        let mut all = Vec::new();
        for row in &set.moves {
            all.push(if by_age {
                self.first_seen_one(row, confirm).await?
            } else {
                None
            });
        }
        Ok(all)
    }

    async fn first_seen_one(
        &mut self,
        row: &ImageMove,
        confirm: bool,
    ) -> Result<Option<Timestamp>, StepOutcome> {
        let scanner = self.context.scanner;
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
