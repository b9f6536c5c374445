//! One step of a request, done at the Git server or the forge. Nothing of a step is lost if the
//! process dies in it: what is there afterwards says what comes next.

use super::{
    BranchState, RequestsDone,
    automerge::is,
    body::{self, BodyComposer, ComposedBody},
    closed::EndedRequests,
    desired::DesiredRequest,
    ownership::{ForeignRequest, RequestOwner},
};
use crate::update::{
    FailureReport, ImageUpdater, PassClock, PassMode, RepoSnapshot, RequestState, Scans,
    commit::PublishOutcome,
};
use crate::{
    core::error::{Classify, ErrorKind},
    io::{
        forge::{self, Forge, ForgeError, NewRequest, RequestLabel, RequestedReviewer},
        git::{GitError, PushOutcome},
    },
    review::{
        ChangeSet, CommitMessage, Marker, PREFIX, folder,
        lifecycle::{
            self, BranchCommits, BranchInfo, ClosedRequest, DesiredBranch, LifecycleStep, REBASE,
            RequestAction, RequestQuota, RequestSituation, SUPERSEDED,
        },
        merging::HOLD,
    },
};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering},
};

/// How long a text that may become better is left as it is, how long after its opening a request's
/// labels are missed, and how long a refused merge rests.
pub(crate) const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// How often a pass pushes one branch: once, and once more if somebody was faster. With more,
/// somebody undoes it.
const MOST_PUSHES: u32 = 3;

/// What has become of a step.
pub(crate) enum StepOutcome {
    /// It is done, and shows at once.
    Again,
    /// It is done, and shows when the world is read again.
    Moved,
    /// The request was merged.
    Merged,
    /// Somebody else was faster.
    Conflict,
    /// There was nothing to do.
    Quiet,
    /// The request is as it should be.
    Settled {
        /// What it waits for until it merges.
        waits: Vec<String>,
        /// When the wait ends by itself.
        until: Option<Timestamp>,
        /// Whether a pass would merge it.
        would_merge: bool,
    },
    /// It could not be done.
    Failed(Box<FailureReport>),
}

/// One walk over all requests.
pub(crate) struct RequestReconciler<'w> {
    pub(crate) updater: &'w ImageUpdater,
    pub(crate) forge: Arc<dyn Forge>,
    pub(crate) world: &'w RepoSnapshot,
    /// The branch that requests are made for.
    pub(crate) target: &'w str,
    pub(crate) mode: PassMode,
    pub(crate) now: Timestamp,
    pub(crate) clock: PassClock,
    /// The open requests of this updater, with what has been done to them.
    pub(crate) open: Vec<forge::PullRequest>,
    /// Those of others.
    pub(crate) others: Vec<ForeignRequest>,
    pub(crate) whose: &'w RequestOwner,
    /// The branches that are there.
    pub(crate) looked: HashMap<String, BranchState>,
    pub(crate) scans: &'w mut Scans,
    pub(crate) done: &'w mut RequestsDone,
    pub(crate) failures: Vec<FailureReport>,
    pub(crate) warnings: Vec<String>,
}

impl RequestReconciler<'_> {
    /// How a branch and its request are now.
    pub(crate) fn situation<'s>(
        &'s self,
        item: &DesiredRequest<'_>,
        marker: Option<&'s Marker>,
    ) -> RequestSituation<'s> {
        let request = self.request(item);
        let looked = self.looked.get(&item.branch);
        let known = self.updater.known();
        let wanted = match (&item.otherwise, item.set) {
            (Some(wanted), _) => wanted.clone(),
            // Without a branch there is no text yet.
            (None, Some(set)) => DesiredBranch::Change {
                content: looked.map_or_else(String::new, |looked| {
                    body::content(set, looked.head, item.environment)
                }),
            },
            (None, None) => DesiredBranch::Nothing { why: String::new() },
        };
        let notes = request.and_then(|request| known.notes.get(&request.number));
        let labels = Self::via(item).map_or(&[][..], |(request, _)| &request.labels);
        let lacks = |request: &forge::PullRequest| {
            request
                .opened
                .is_some_and(|opened| self.now.duration_since(opened) < HOUR)
                && !notes.is_some_and(|notes| notes.dressed)
                && labels.iter().any(|label| !request.labels.contains(label))
        };
        RequestSituation {
            wanted,
            target: self.target,
            branch: looked.map(|looked| BranchInfo {
                head: looked.head.to_string(),
                commits: looked.commits.clone(),
                same: looked.same,
                fresh: looked.fresh,
            }),
            request,
            marker,
            retell: notes
                .and_then(|notes| notes.tried)
                .is_none_or(|tried| self.now.duration_since(tried) >= HOUR),
            undressed: request.is_some_and(lacks),
            shared: self.is_shared(&item.branch),
            ended: known.ended.last(&item.branch, self.target),
            room: self.room(item, &known.ended),
            now: self.now,
        }
    }

    fn room(&self, item: &DesiredRequest<'_>, ended: &EndedRequests) -> RequestQuota {
        let Some((request, _)) = Self::via(item) else {
            return RequestQuota::default();
        };
        let folder = folder(&item.name);
        let ours = |head: &str, base: &str| head.starts_with(&folder) && base == self.target;
        let open = || {
            self.open
                .iter()
                .filter(|request| ours(&request.head, &request.base))
        };
        let ended = ended
            .ours(self.target)
            .map(|(_, ended)| ended)
            .filter(|ended| ended.head.starts_with(&folder));
        let opened = open()
            .filter_map(|request| request.opened)
            .chain(ended.filter_map(|ended| ended.opened));
        // Branches that this pass has just made have their requests still to come.
        let opening = |branch: &&String| {
            **branch != item.branch
                && ours(branch, self.target)
                && !open().any(|known| known.head == **branch)
        };
        let opening = self.done.made.iter().filter(opening).count();
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

    /// Does what was decided.
    pub(crate) async fn step(
        &mut self,
        item: &DesiredRequest<'_>,
        decision: &LifecycleStep,
    ) -> Result<StepOutcome, GitError> {
        if !decision.action.is_quiet() {
            self.updater.publishing.store(true, Ordering::SeqCst);
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
            (RequestAction::Tell, Some(set), Some(request)) => {
                self.retell(item, set, &request).await
            }
            (RequestAction::Dress, _, Some(request)) => Ok(self.dress(item, &request).await),
            (RequestAction::Unlabel, _, Some(request)) => Ok(self.unlabel(&request).await),
            (RequestAction::Settled, Some(set), Some(request)) => {
                self.settled(item, set, request).await
            }
            (RequestAction::Close, _, Some(request)) => self.close(item, request, decision).await,
            (RequestAction::Delete, ..) => {
                let row = self.report(item, RequestState::Closed, vec![decision.reason.clone()]);
                let stepped = self.delete(item).await?;
                // What is left of a request that this pass has ended was told with it.
                if matches!(stepped, StepOutcome::Quiet)
                    && !self
                        .done
                        .ended
                        .iter()
                        .any(|(_, ended)| ended.branch == row.branch)
                {
                    self.done.ended.push((item.name.clone(), row));
                }
                Ok(stepped)
            }
            // No decision asks for it.
            _ => Ok(StepOutcome::Quiet),
        }
    }

    async fn stop(
        &mut self,
        item: &DesiredRequest<'_>,
        request: &forge::PullRequest,
        decision: &LifecycleStep,
    ) -> StepOutcome {
        let Some(BranchState {
            commits: BranchCommits::Others { commit, .. },
            ..
        }) = self.looked.get(&item.branch)
        else {
            return StepOutcome::Quiet;
        };
        if self.mode == PassMode::Plan || request.base != self.target {
            return StepOutcome::Quiet;
        }
        if self
            .updater
            .known()
            .notes
            .get(&request.number)
            .is_some_and(|notes| notes.told.as_ref() == Some(commit))
        {
            return StepOutcome::Quiet;
        }
        let text = format!(
            "{}\n\nUntil then tagboat leaves this request as it is.",
            lifecycle::said(&decision.reason)
        );
        match self.forge.comment(request, "others", &text).await {
            Ok(_) => {
                self.updater.known().note(request.number).told = Some(commit.clone());
                StepOutcome::Quiet
            }
            Err(error) => Self::failure(&error),
        }
    }

    async fn push(
        &mut self,
        item: &DesiredRequest<'_>,
        set: &ChangeSet,
    ) -> Result<StepOutcome, GitError> {
        let message = match self.message(set) {
            Ok(message) => message,
            Err(failure) => return Ok(failure),
        };
        let pushes = self.done.pushes.entry(item.branch.clone()).or_default();
        *pushes += 1;
        if *pushes > MOST_PUSHES {
            return Ok(StepOutcome::Failed(Box::new(FailureReport {
                kind: ErrorKind::Conflict,
                message: format!("git remote {}: {} was pushed and is another again", self.updater.mirror.remote().shown(), item.branch),
                hint: Some("Another program or a hook rewrites the branch; let one of the two leave it alone.".to_owned()),
                repository: None,
                retry_after: None,
                forge: true,
            })));
        }
        let old = self.looked.get(&item.branch).map(|looked| looked.head);
        match self
            .updater
            .publish_branch(&item.branch, old, set, &message, item.person, self.now)
            .await
        {
            Ok(PublishOutcome::Done(_)) => {
                if self.request(item).is_some() {
                    self.done
                        .states
                        .entry(item.branch.clone())
                        .or_insert(RequestState::Updated);
                } else {
                    self.done.made.insert(item.branch.clone());
                }
                Ok(StepOutcome::Moved)
            }
            // The next fetch shows whether it is there.
            Ok(PublishOutcome::Conflict | PublishOutcome::Unsure(_)) => Ok(StepOutcome::Conflict),
            Ok(PublishOutcome::Refused(refusal)) => Ok(Self::failure(&refusal)),
            Err(error @ GitError::Broken { .. }) => Err(error),
            Err(error) => Ok(Self::failure(&error)),
        }
    }

    async fn told(&self, item: &DesiredRequest<'_>, set: &ChangeSet) -> Option<ComposedBody> {
        let (
            Some(BranchState {
                head,
                parent: Some(base),
                ..
            }),
            Some(row),
        ) = (self.looked.get(&item.branch), item.row)
        else {
            return None;
        };
        let (head, base, now, at, forge) = (*head, *base, self.now, self.clock.now(), &*self.forge);
        let telling = BodyComposer {
            set,
            world: self.world,
            base,
            head,
            scans: self.scans,
            row,
            forge,
            now,
            at,
        };
        Some(self.updater.tell(&telling).await)
    }

    async fn open(
        &mut self,
        item: &DesiredRequest<'_>,
        set: &ChangeSet,
    ) -> Result<StepOutcome, GitError> {
        let Some(ComposedBody { title, body }) = self.told(item, set).await else {
            return Ok(StepOutcome::Quiet);
        };
        let draft = Self::via(item).is_some_and(|(request, _)| request.draft);
        let new = NewRequest {
            head: item.branch.clone(),
            base: self.target.to_owned(),
            title,
            body,
            draft,
        };
        match self.forge.open(&new).await {
            Ok(opened) => {
                // Another updater of an Environment of this name may have been faster.
                if let Some(others) = self.whose.sort(vec![opened.request.clone()]).others.pop() {
                    self.others.push(others);
                    return Ok(StepOutcome::Quiet);
                }
                self.updater.known().note(opened.request.number).tried = Some(self.now);
                self.done
                    .states
                    .insert(item.branch.clone(), RequestState::Opened);
                self.open.push(opened.request.clone());
                Ok(self.dress(item, &opened.request).await)
            }
            Err(error) => Ok(Self::failure(&error)),
        }
    }

    /// Labels and reviewers.
    async fn dress(
        &mut self,
        item: &DesiredRequest<'_>,
        request: &forge::PullRequest,
    ) -> StepOutcome {
        let Some((declared, _)) = Self::via(item) else {
            return StepOutcome::Quiet;
        };
        let missing = declared
            .labels
            .iter()
            .filter(|name| !request.labels.contains(name));
        let labels: Vec<RequestLabel> = missing
            .map(|name| label(name, "Set on tagboat's requests"))
            .collect();
        if let Err(error) = self.forge.label(request.number, &labels, &[]).await {
            return Self::failure(&error);
        }
        let reviewers: Vec<RequestedReviewer> = declared
            .reviewers
            .iter()
            .map(|text| RequestedReviewer::parse(text))
            .collect();
        if !reviewers.is_empty() {
            match self.forge.ask_reviews(request, &reviewers).await {
                Ok(unasked) => self.warnings.extend(unasked.iter().map(|one| {
                    format!(
                        "request #{}: {} could not be asked to review: {}",
                        request.number, one.reviewer, one.why
                    )
                })),
                Err(error) => return Self::failure(&error),
            }
        }
        self.updater.known().note(request.number).dressed = true;
        self.change(request.number, |request| {
            request
                .labels
                .extend(labels.into_iter().map(|label| label.name))
        });
        self.done
            .states
            .entry(item.branch.clone())
            .or_insert(RequestState::Updated);
        StepOutcome::Again
    }

    pub(crate) async fn retell(
        &mut self,
        item: &DesiredRequest<'_>,
        set: &ChangeSet,
        request: &forge::PullRequest,
    ) -> Result<StepOutcome, GitError> {
        let Some(ComposedBody { title, body }) = self.told(item, set).await else {
            return Ok(StepOutcome::Quiet);
        };
        let change = forge::RequestPatch {
            title: Some(title.clone()).filter(|title| *title != request.title),
            body: Some(body.clone()).filter(|body| *body != request.body),
        };
        if let Err(error) = self.forge.update(request, &change).await {
            return Ok(Self::failure(&error));
        }
        self.updater.known().note(request.number).tried = Some(self.now);
        self.change(request.number, |request| {
            (request.title, request.body) = (title, body)
        });
        if change != forge::RequestPatch::default() {
            self.done
                .states
                .entry(item.branch.clone())
                .or_insert(RequestState::Updated);
        }
        Ok(StepOutcome::Again)
    }

    async fn unlabel(&mut self, request: &forge::PullRequest) -> StepOutcome {
        let off = |label: &str| [REBASE, SUPERSEDED].into_iter().find(|own| *own == label);
        let labels: Vec<&str> = request
            .labels
            .iter()
            .filter_map(|label| off(label))
            .collect();
        match self.forge.label(request.number, &[], &labels).await {
            Ok(()) => {
                self.change(request.number, |request| {
                    request.labels.retain(|label| off(label).is_none())
                });
                // Whoever asks for a new branch wants to know anew what it does, also where the
                // branch stays.
                if let Some(looked) = self.looked.get(&request.head) {
                    let mut known = self.updater.known();
                    known.outlooks.forget(looked.head);
                    known.note(request.number).tried = None;
                }
                self.done
                    .states
                    .entry(request.head.clone())
                    .or_insert(RequestState::Updated);
                StepOutcome::Again
            }
            Err(error) => Self::failure(&error),
        }
    }

    async fn close(
        &mut self,
        item: &DesiredRequest<'_>,
        listed: forge::PullRequest,
        decision: &LifecycleStep,
    ) -> Result<StepOutcome, GitError> {
        // Much can have happened since it was listed, and what is closed cannot be taken back
        // unseen.
        let request = match self.forge.get(listed.number).await {
            Ok(request) => request,
            Err(error) => return Ok(Self::failure(&error)),
        };
        if request.state != forge::RequestStatus::Open {
            self.open.retain(|known| known.number != request.number);
            return Ok(StepOutcome::Quiet);
        }
        if request.labels.iter().any(|label| label == HOLD) || request.base != listed.base {
            self.change(listed.number, |known| *known = request);
            return Ok(StepOutcome::Again);
        }
        // Somebody has pushed to the branch, or renamed it.
        let moved = self
            .looked
            .get(&item.branch)
            .is_some_and(|looked| !is(&request.head_commit, looked.head));
        if moved || request.head != item.branch {
            self.change(listed.number, |known| *known = request);
            return Ok(StepOutcome::Conflict);
        }
        if let Err(error) = self.close_for(&request, &decision.reason).await {
            return Ok(Self::failure(&error));
        }
        let row = self.report(item, RequestState::Closed, vec![decision.reason.clone()]);
        self.done.ended.push((item.name.clone(), row));
        self.done.states.remove(&item.branch);
        self.forget(&request, ClosedRequest::Superseded);
        match self.looked.contains_key(&item.branch) {
            true => self.delete(item).await,
            false => Ok(StepOutcome::Quiet),
        }
    }

    /// Closes a request with a reason.
    async fn close_for(
        &self,
        request: &forge::PullRequest,
        reason: &str,
    ) -> Result<(), ForgeError> {
        let text = format!("Closed by tagboat: {}", lifecycle::said(reason));
        let superseded = [label(SUPERSEDED, "Closed by tagboat itself")];
        // A person's close holds what was proposed; the label, set before, tells that this one is
        // none.
        self.forge.comment(request, "closed", &text).await?;
        self.forge.label(request.number, &superseded, &[]).await?;
        self.forge.close(request.number).await
    }

    /// Two bots at the same moment can open two requests of one branch where the forge lets them.
    /// The first one stays.
    pub(crate) async fn close_twins(&mut self, items: &[DesiredRequest<'_>]) {
        let mut first: BTreeMap<&str, u64> = BTreeMap::new();
        let ours = |request: &&forge::PullRequest| {
            request.base == self.target && request.head.starts_with(PREFIX)
        };
        for request in self.open.iter().filter(ours) {
            let number = first.entry(&request.head).or_insert(request.number);
            *number = request.number.min(*number);
        }
        // Those of a branch that is to be left alone are, too.
        let quiet = |head: &str| {
            !items.iter().any(|item| {
                item.branch == head
                    && !matches!(item.otherwise, Some(DesiredBranch::Unknown { .. }))
            })
        };
        let twin = |request: &&forge::PullRequest| {
            ours(request)
                && !quiet(&request.head)
                && first
                    .get(request.head.as_str())
                    .is_some_and(|number| *number < request.number)
        };
        let twins: Vec<(u64, u64)> = self
            .open
            .iter()
            .filter(twin)
            .filter_map(|request| Some((request.number, *first.get(request.head.as_str())?)))
            .collect();
        for (number, first) in twins {
            if self.mode == PassMode::Write {
                self.updater.publishing.store(true, Ordering::SeqCst);
                if let Err(error) = self.close_twin(number, first).await {
                    self.failures.push(FailureReport::at_forge(&error));
                }
            }
            self.open.retain(|known| known.number != number);
        }
    }

    /// Closes a request if it still is the twin of another one, and nobody wants it to stay.
    async fn close_twin(&mut self, number: u64, first: u64) -> Result<(), ForgeError> {
        let request = self.forge.get(number).await?;
        let branch = self
            .open
            .iter()
            .find(|known| known.number == first)
            .map(|known| known.head.as_str());
        let marked = Marker::of(&request).is_some();
        let held = request.labels.iter().any(|label| label == HOLD);
        let same = request.base == self.target && branch == Some(&request.head);
        if request.state == forge::RequestStatus::Open && marked && same && !held {
            self.close_for(
                &request,
                &format!("Request {first} is for the same branch."),
            )
            .await?;
            self.forget(&request, ClosedRequest::Superseded);
        }
        Ok(())
    }

    /// Whether somebody else has an open request from a branch.
    pub(crate) fn is_shared(&self, branch: &str) -> bool {
        self.others
            .iter()
            .any(|others| others.request.head == branch)
    }

    /// Deletes a branch from where it is known to be, unless somebody else needs it.
    pub(crate) async fn delete(
        &mut self,
        item: &DesiredRequest<'_>,
    ) -> Result<StepOutcome, GitError> {
        if self.is_shared(&item.branch) {
            return Ok(StepOutcome::Quiet);
        }
        let Some(looked) = self.looked.remove(&item.branch) else {
            return Ok(StepOutcome::Quiet);
        };
        if matches!(looked.commits, BranchCommits::Others { .. }) {
            return Ok(StepOutcome::Quiet);
        }
        let (mirror, branch) = (Arc::clone(&self.updater.mirror), item.branch.clone());
        match crate::update::blocking(move || mirror.delete_branch(&branch, looked.head)).await {
            Ok(PushOutcome::Done) => Ok(StepOutcome::Quiet),
            Ok(PushOutcome::Rejected(refusals)) => match refusals.into_iter().next() {
                Some(refusal) if refusal.kind != ErrorKind::Conflict => Ok(Self::failure(&refusal)),
                _ => Ok(StepOutcome::Conflict),
            },
            Err(GitError::Unanswered { .. }) => Ok(StepOutcome::Conflict),
            Err(error @ GitError::Broken { .. }) => Err(error),
            Err(error) => Ok(Self::failure(&error)),
        }
    }

    /// The message of a set's commit.
    pub(crate) fn message(&self, set: &ChangeSet) -> Result<String, StepOutcome> {
        let message = CommitMessage::new(self.updater.config.message.clone()).of(set);
        message.map_err(|error| StepOutcome::Failed(Box::new(FailureReport::new(&error))))
    }

    /// Notes what has become of an open request.
    pub(crate) fn change(&mut self, number: u64, change: impl FnOnce(&mut forge::PullRequest)) {
        if let Some(request) = self
            .open
            .iter_mut()
            .find(|request| request.number == number)
        {
            change(request);
        }
    }

    /// Notes that a request has ended.
    pub(crate) fn forget(&mut self, request: &forge::PullRequest, how: ClosedRequest) {
        self.open.retain(|known| known.number != request.number);
        self.updater.known().ended.end(request, how, self.now);
    }

    /// A failure of one request, which others do not wait for.
    pub(crate) fn failure(fault: &impl Classify) -> StepOutcome {
        StepOutcome::Failed(Box::new(FailureReport::at_forge(fault)))
    }
}

/// A label of the bot's.
fn label(name: &str, description: &str) -> RequestLabel {
    RequestLabel {
        name: name.to_owned(),
        color: "0b7285".to_owned(),
        description: description.to_owned(),
    }
}
