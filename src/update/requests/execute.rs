//! One step of a pull request, taken at the Git server or the forge.
//!
//! Nothing is lost if the process dies within a step: the next decision starts from what exists.

use super::{
    HOUR, RequestReconciler, authors,
    body::{self, BodyInputs, ComposedBody},
    closed::EndedRequests,
    state::{BranchState, DesiredRequest, StepOutcome},
};
use crate::{
    core::error::{Classify, ErrorKind},
    io::{
        forge::{self, NewRequest, RequestLabel, RequestedReviewer},
        git::GitError,
    },
    review::{
        ChangeSet, CommitMessage, Marker, folder,
        lifecycle::{
            self, BranchCommits, BranchInfo, DesiredBranch, LifecycleInput, LifecycleStep, REBASE,
            RequestAction, RequestQuota, SUPERSEDED,
        },
        without_signature,
    },
    update::{
        FailureReport, PassMode, RequestState,
        commit::{CommitText, PublishOutcome, PushTarget, edit_files},
    },
};
use std::sync::Arc;

/// Pushes of one branch in a pass: one, and two more after lost races. With more, another program
/// undoes them.
const MOST_PUSHES: u32 = 3;

impl RequestReconciler<'_> {
    /// The state of a branch and its pull request, for the next decision.
    pub(crate) fn lifecycle_input<'s>(
        &'s self,
        item: &DesiredRequest<'_>,
        marker: Option<&'s Marker>,
    ) -> LifecycleInput<'s> {
        let request = self.request(item);
        let branch = self.branches.get(&item.branch);
        let cache = self.context.cache.lock();
        let target = self.context.target();
        let desired = match (&item.instead, item.set) {
            (Some(desired), _) => desired.clone(),
            // Without a branch there is no text yet.
            (None, Some(_)) => DesiredBranch::Change {
                content: branch.map_or_else(String::new, |branch| branch.content.clone()),
            },
            (None, None) => DesiredBranch::Nothing { why: String::new() },
        };
        let notes = request.and_then(|request| cache.notes.get(&request.number));
        let labels = item
            .options()
            .map_or(&[][..], |(request, _)| &request.labels);
        let lacks_labels = |request: &forge::PullRequest| {
            request
                .opened
                .is_some_and(|opened| self.now.duration_since(opened) < HOUR)
                && !notes.is_some_and(|notes| notes.labels_checked)
                && labels.iter().any(|label| !request.labels.contains(label))
        };
        LifecycleInput {
            desired,
            target,
            branch: branch.map(|branch| BranchInfo {
                head: branch.head.to_string(),
                commits: branch.commits.clone(),
                matches: branch.matches,
                on_head: branch.on_head,
            }),
            request,
            marker,
            text_due: notes
                .and_then(|notes| notes.text_written)
                .is_none_or(|written| self.now.duration_since(written) >= HOUR),
            unsigned: notes.is_some_and(|notes| notes.unsigned_text.is_some()),
            lacks_labels: request.is_some_and(lacks_labels),
            shared: self.is_shared(&item.branch),
            ended: cache.ended.last(&item.branch, target),
            quota: self.quota(item, &cache.ended),
            now: self.now,
        }
    }

    fn quota(&self, item: &DesiredRequest<'_>, ended: &EndedRequests) -> RequestQuota {
        let Some((request, _)) = item.options() else {
            return RequestQuota::default();
        };
        let folder = folder(&item.name);
        let target = self.context.target();
        let open = || {
            self.open
                .iter()
                .filter(|request| request.head.starts_with(&folder) && request.base == target)
        };
        let ended = ended
            .ours(target)
            .map(|(_, ended)| ended)
            .filter(|ended| ended.head.starts_with(&folder));
        let opened = open()
            .filter_map(|request| request.opened)
            .chain(ended.filter_map(|ended| ended.opened));
        // Branches that this pass has just created will get their pull requests.
        let opening = self
            .progress
            .created
            .iter()
            .filter(|branch| {
                **branch != item.branch
                    && branch.starts_with(&folder)
                    && !open().any(|known| known.head == **branch)
            })
            .count();
        let opened = opened
            .chain(std::iter::repeat_n(self.now, opening))
            .collect();
        RequestQuota {
            max_open: request.max_open,
            open: open().count() + opening,
            per_hour: request.per_hour,
            opened,
        }
    }

    /// Takes the decided step.
    pub(crate) async fn step(
        &mut self,
        item: &DesiredRequest<'_>,
        decision: &LifecycleStep,
    ) -> Result<StepOutcome, GitError> {
        if !decision.action.is_quiet() {
            self.context.publisher.begin();
        }
        let request = self.request(item).cloned();
        match (decision.action, item.set, request) {
            (RequestAction::Stop, _, Some(request)) => {
                Ok(self.stop(item, &request, decision).await)
            }
            (RequestAction::Nothing | RequestAction::Wait | RequestAction::Stop, ..) => {
                Ok(StepOutcome::Quiet)
            }
            (RequestAction::Push, Some(set), _) => self.push(item, set).await,
            (RequestAction::Open, Some(set), None) => self.open(item, set).await,
            (RequestAction::UpdateText, Some(set), Some(request)) => {
                self.update_text(item, set, &request).await
            }
            (RequestAction::SetLabels, _, Some(request)) => {
                Ok(self.set_labels(item, &request).await)
            }
            (RequestAction::RemoveLabels, _, Some(request)) => {
                Ok(self.remove_labels(&request).await)
            }
            (RequestAction::UpToDate, Some(set), Some(request)) => {
                self.try_merge(item, set, request).await
            }
            (RequestAction::Close, _, Some(request)) => self.close(item, request, decision).await,
            (RequestAction::Delete, ..) => self.delete_left_over(item, decision).await,
            // No decision leads here.
            _ => Ok(StepOutcome::Quiet),
        }
    }

    /// Deletes a branch without a pull request, and reports it.
    async fn delete_left_over(
        &mut self,
        item: &DesiredRequest<'_>,
        decision: &LifecycleStep,
    ) -> Result<StepOutcome, GitError> {
        let row = self.report(item, RequestState::Closed, vec![decision.reason.clone()]);
        let outcome = self.delete(item).await?;
        // If this pass closed its pull request, that is reported already.
        let is_reported = self
            .progress
            .ended
            .iter()
            .any(|(_, ended)| ended.branch == row.branch);
        if matches!(outcome, StepOutcome::Quiet) && !is_reported {
            self.progress.ended.push((item.name.clone(), row));
        }
        Ok(outcome)
    }

    /// Comments, once for each foreign commit, why the bot leaves the pull request alone.
    async fn stop(
        &mut self,
        item: &DesiredRequest<'_>,
        request: &forge::PullRequest,
        decision: &LifecycleStep,
    ) -> StepOutcome {
        let Some(BranchState {
            commits: BranchCommits::Others { commit, .. },
            ..
        }) = self.branches.get(&item.branch)
        else {
            return StepOutcome::Quiet;
        };
        if self.mode == PassMode::Plan || request.base != self.context.target() {
            return StepOutcome::Quiet;
        }
        if self
            .context
            .cache
            .lock()
            .notes
            .get(&request.number)
            .is_some_and(|notes| notes.commented.as_ref() == Some(commit))
        {
            return StepOutcome::Quiet;
        }
        let text = format!(
            "{}\n\nUntil then tagboat leaves this pull request as it is.",
            lifecycle::comment_text(&decision.reason)
        );
        match self.context.forge.comment(request, "others", &text).await {
            Ok(_) => {
                self.context.cache.lock().note(request.number).commented = Some(commit.clone());
                StepOutcome::Quiet
            }
            Err(error) => Self::failure(&error),
        }
    }

    async fn push(
        &mut self,
        item: &DesiredRequest<'_>,
        set: &Arc<ChangeSet>,
    ) -> Result<StepOutcome, GitError> {
        let message = match self.message(set) {
            Ok(message) => message,
            Err(failure) => return Ok(failure),
        };
        let pushes = self.progress.pushes.entry(item.branch.clone()).or_default();
        *pushes += 1;
        if *pushes > MOST_PUSHES {
            return Ok(StepOutcome::Failed(Box::new(FailureReport {
                kind: ErrorKind::Conflict,
                message: format!(
                    "git remote {}: branch {} was pushed and has changed again",
                    self.context.repo.mirror.remote().shown(),
                    item.branch
                ),
                hint: Some(
                    "Another program or a hook rewrites the branch; stop one of the two."
                        .to_owned(),
                ),
                repository: None,
                retry_after: None,
                forge: true,
            })));
        }
        let target = PushTarget::Own {
            name: item.branch.clone(),
            old: self.branches.get(&item.branch).map(|branch| branch.head),
        };
        let text = CommitText {
            message: &message,
            author: item.author,
            now: self.now,
        };
        let make = edit_files(set.files.clone())?;
        match self.context.publisher.push(target, text, make).await {
            Ok(PublishOutcome::Done(_)) => {
                if self.request(item).is_some() {
                    self.progress
                        .states
                        .entry(item.branch.clone())
                        .or_insert(RequestState::Updated);
                } else {
                    self.progress.created.insert(item.branch.clone());
                }
                Ok(StepOutcome::Moved)
            }
            // The next fetch shows whether the commit arrived.
            Ok(PublishOutcome::Conflict | PublishOutcome::Unsure(_)) => Ok(StepOutcome::Conflict),
            Ok(PublishOutcome::Refused(refusal)) => Ok(Self::failure(&refusal)),
            Err(error @ GitError::Broken { .. }) => Err(error),
            Err(error) => Ok(Self::failure(&error)),
        }
    }

    async fn compose(
        &self,
        item: &DesiredRequest<'_>,
        set: &Arc<ChangeSet>,
    ) -> Option<ComposedBody> {
        let branch = self.branches.get(&item.branch)?;
        let inputs = BodyInputs {
            branch: &item.branch,
            opened: self
                .request(item)
                .map(|request| (request.author.as_str(), request.number)),
            set,
            snapshot: self.snapshot,
            base: branch.parent?,
            head: branch.head,
            content: &branch.content,
            scans: self.scans,
            row: item.row?,
            now: self.now,
            clock: self.clock,
        };
        Some(body::compose(self.context, &inputs).await)
    }

    async fn open(
        &mut self,
        item: &DesiredRequest<'_>,
        set: &Arc<ChangeSet>,
    ) -> Result<StepOutcome, GitError> {
        if let Err(error) = authors::ask_login(self.context, &mut self.warnings).await {
            return Ok(Self::failure(&error));
        }
        let Some(ComposedBody { title, body }) = self.compose(item, set).await else {
            return Ok(StepOutcome::Quiet);
        };
        let draft = item.options().is_some_and(|(request, _)| request.draft);
        let new = NewRequest {
            head: item.branch.clone(),
            base: self.context.target().to_owned(),
            title,
            body,
            draft,
        };
        match self.context.forge.open(&new).await {
            Ok(opened) => {
                if !opened.found {
                    authors::learn(self.context, &opened.request.author);
                }
                // Another updater with an Environment of this name may have been faster, or
                // another account.
                let authors = self.context.authors();
                if let Some(foreign) = self
                    .ownership
                    .sort(vec![opened.request.clone()], authors.as_deref())
                    .foreign
                    .pop()
                {
                    self.foreign.push(foreign);
                    return Ok(StepOutcome::Quiet);
                }
                let is_unsigned = !opened.found
                    && authors.is_some_and(|known| known.lacks_signature(&opened.request));
                let unsigned = is_unsigned.then(|| opened.request.body.clone());
                let number = opened.request.number;
                let cache = self.context.cache;
                cache.lock().note_text(number, self.now, unsigned);
                self.progress
                    .states
                    .insert(item.branch.clone(), RequestState::Opened);
                self.open.push(opened.request.clone());
                Ok(self.set_labels(item, &opened.request).await)
            }
            Err(error) => Ok(Self::failure(&error)),
        }
    }

    /// Adds the declared labels and requests reviews.
    async fn set_labels(
        &mut self,
        item: &DesiredRequest<'_>,
        request: &forge::PullRequest,
    ) -> StepOutcome {
        let Some((declared, _)) = item.options() else {
            return StepOutcome::Quiet;
        };
        let missing = declared
            .labels
            .iter()
            .filter(|name| !request.labels.contains(name));
        let labels: Vec<RequestLabel> = missing
            .map(|name| label(name, "Set on tagboat's pull requests"))
            .collect();
        if let Err(error) = self.context.forge.label(request.number, &labels, &[]).await {
            return Self::failure(&error);
        }
        let reviewers: Vec<RequestedReviewer> = declared
            .reviewers
            .iter()
            .map(|text| RequestedReviewer::parse(text))
            .collect();
        if !reviewers.is_empty() {
            match self.context.forge.ask_reviews(request, &reviewers).await {
                Ok(unasked) => self.warnings.extend(unasked.iter().map(|one| {
                    format!(
                        "pull request #{}: cannot request a review from {}: {}",
                        request.number, one.reviewer, one.why
                    )
                })),
                Err(error) => return Self::failure(&error),
            }
        }
        self.context
            .cache
            .lock()
            .note(request.number)
            .labels_checked = true;
        self.change(request.number, |request| {
            request
                .labels
                .extend(labels.into_iter().map(|label| label.name))
        });
        self.progress
            .states
            .entry(item.branch.clone())
            .or_insert(RequestState::Updated);
        StepOutcome::Again
    }

    pub(crate) async fn update_text(
        &mut self,
        item: &DesiredRequest<'_>,
        set: &Arc<ChangeSet>,
        request: &forge::PullRequest,
    ) -> Result<StepOutcome, GitError> {
        let Some(ComposedBody { title, body }) = self.compose(item, set).await else {
            return Ok(StepOutcome::Quiet);
        };
        let must_sign = self.context.cache.lock().must_sign(request.number);
        // A signature under another key is no reason to write a text again.
        let is_same = body == request.body
            || (!must_sign && without_signature(&body) == without_signature(&request.body));
        let change = forge::RequestPatch {
            title: Some(title).filter(|title| *title != request.title),
            body: Some(body).filter(|_| !is_same),
        };
        if let Err(error) = self.context.forge.update(request, &change).await {
            return Ok(Self::failure(&error));
        }
        let cache = self.context.cache;
        cache.lock().note_text(request.number, self.now, None);
        let is_changed = change != forge::RequestPatch::default();
        self.change(request.number, |request| {
            request.title = change.title.unwrap_or_else(|| request.title.clone());
            request.body = change.body.unwrap_or_else(|| request.body.clone());
        });
        if is_changed {
            self.progress
                .states
                .entry(item.branch.clone())
                .or_insert(RequestState::Updated);
        }
        Ok(StepOutcome::Again)
    }

    async fn remove_labels(&mut self, request: &forge::PullRequest) -> StepOutcome {
        let off = |label: &str| [REBASE, SUPERSEDED].into_iter().find(|own| *own == label);
        let labels: Vec<&str> = request
            .labels
            .iter()
            .filter_map(|label| off(label))
            .collect();
        match self.context.forge.label(request.number, &[], &labels).await {
            Ok(()) => {
                self.change(request.number, |request| {
                    request.labels.retain(|label| off(label).is_none())
                });
                // A user who asks for a rebase wants a new preview, too, also if the branch stays.
                if let Some(branch) = self.branches.get(&request.head) {
                    let mut cache = self.context.cache.lock();
                    cache.previews.forget(branch.head);
                    cache.note(request.number).text_written = None;
                }
                self.progress
                    .states
                    .entry(request.head.clone())
                    .or_insert(RequestState::Updated);
                StepOutcome::Again
            }
            Err(error) => Self::failure(&error),
        }
    }

    pub(crate) fn message(&self, set: &Arc<ChangeSet>) -> Result<String, StepOutcome> {
        let message = CommitMessage::new(self.context.repo.config.message.clone()).of(set);
        message.map_err(|error| StepOutcome::Failed(Box::new(FailureReport::new(&error))))
    }

    /// A failure of one pull request, which does not delay others.
    pub(crate) fn failure(fault: &impl Classify) -> StepOutcome {
        StepOutcome::Failed(Box::new(FailureReport::at_forge(fault)))
    }
}

pub(super) fn label(name: &str, description: &str) -> RequestLabel {
    RequestLabel {
        name: name.to_owned(),
        color: "0b7285".to_owned(),
        description: description.to_owned(),
    }
}
