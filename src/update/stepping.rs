//! One step of a request, done at the Git server or the forge. Nothing of a step is lost if the
//! process dies in it: what is there afterwards says what comes next.

use super::{
    Clock, FailureReport, Mode, RequestState, Scans, Updater, World,
    automerge::is,
    ended::EndedRequests,
    publishing::Published,
    requesting::{Done, Looked},
    telling::{self, Telling, Told},
    wanting::Item,
    whose::{Others, Whose},
};
use crate::{
    error::{Fault, Kind},
    forge::{self, Forge, ForgeError, Label, NewRequest, Reviewer},
    git::{GitError, Pushed},
    publish::{
        ChangeSet, Marker, Message, PREFIX, folder,
        life::{
            self, Action, Branch, Commits, Decision, Ended, REBASE, Room, SUPERSEDED, Situation,
            Wanted,
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
pub(super) const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// How often a pass pushes one branch: once, and once more if somebody was faster. With more,
/// somebody undoes it.
const MOST_PUSHES: u32 = 3;

/// What has become of a step.
pub(super) enum Stepped {
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
pub(super) struct Walk<'w> {
    pub(super) updater: &'w Updater,
    pub(super) forge: Arc<dyn Forge>,
    pub(super) world: &'w World,
    /// The branch that requests are made for.
    pub(super) target: &'w str,
    pub(super) mode: Mode,
    pub(super) now: Timestamp,
    pub(super) clock: Clock,
    /// The open requests of this updater, with what has been done to them.
    pub(super) open: Vec<forge::Request>,
    /// Those of others.
    pub(super) others: Vec<Others>,
    pub(super) whose: &'w Whose,
    /// The branches that are there.
    pub(super) looked: HashMap<String, Looked>,
    pub(super) scans: &'w mut Scans,
    pub(super) done: &'w mut Done,
    pub(super) failures: Vec<FailureReport>,
    pub(super) warnings: Vec<String>,
}

impl Walk<'_> {
    /// How a branch and its request are now.
    pub(super) fn situation<'s>(
        &'s self,
        item: &Item<'_>,
        marker: Option<&'s Marker>,
    ) -> Situation<'s> {
        let request = self.request(item);
        let looked = self.looked.get(&item.branch);
        let known = self.updater.known();
        let wanted = match (&item.otherwise, item.set) {
            (Some(wanted), _) => wanted.clone(),
            // Without a branch there is no text yet.
            (None, Some(set)) => Wanted::Change {
                content: looked.map_or_else(String::new, |looked| {
                    telling::content(set, looked.head, item.environment)
                }),
            },
            (None, None) => Wanted::Nothing { why: String::new() },
        };
        let notes = request.and_then(|request| known.notes.get(&request.number));
        let labels = Self::via(item).map_or(&[][..], |(request, _)| &request.labels);
        let lacks = |request: &forge::Request| {
            request
                .opened
                .is_some_and(|opened| self.now.duration_since(opened) < HOUR)
                && !notes.is_some_and(|notes| notes.dressed)
                && labels.iter().any(|label| !request.labels.contains(label))
        };
        Situation {
            wanted,
            target: self.target,
            branch: looked.map(|looked| Branch {
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

    fn room(&self, item: &Item<'_>, ended: &EndedRequests) -> Room {
        let Some((request, _)) = Self::via(item) else {
            return Room::default();
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
        Room {
            max_open: request.max_open,
            open: open().count() + opening,
            per_hour: request.per_hour,
            opened,
        }
    }

    /// Does what was decided.
    pub(super) async fn step(
        &mut self,
        item: &Item<'_>,
        decision: &Decision,
    ) -> Result<Stepped, GitError> {
        if !decision.action.is_quiet() {
            self.updater.publishing.store(true, Ordering::SeqCst);
        }
        let request = self.request(item).cloned();
        match (decision.action, item.set, request) {
            (Action::Stop, _, Some(request)) => Ok(self.stop(item, &request, decision).await),
            (Action::Nothing | Action::Wait | Action::Stop, ..) => Ok(Stepped::Quiet),
            (Action::Push, Some(set), _) => self.push(item, set).await,
            (Action::Open, Some(set), None) => self.open(item, set).await,
            (Action::Tell, Some(set), Some(request)) => self.retell(item, set, &request).await,
            (Action::Dress, _, Some(request)) => Ok(self.dress(item, &request).await),
            (Action::Unlabel, _, Some(request)) => Ok(self.unlabel(&request).await),
            (Action::Settled, Some(set), Some(request)) => self.settled(item, set, request).await,
            (Action::Close, _, Some(request)) => self.close(item, request, decision).await,
            (Action::Delete, ..) => {
                let row = self.report(item, RequestState::Closed, vec![decision.reason.clone()]);
                let stepped = self.delete(item).await?;
                // What is left of a request that this pass has ended was told with it.
                if matches!(stepped, Stepped::Quiet)
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
            _ => Ok(Stepped::Quiet),
        }
    }

    async fn stop(
        &mut self,
        item: &Item<'_>,
        request: &forge::Request,
        decision: &Decision,
    ) -> Stepped {
        let Some(Looked {
            commits: Commits::Others { commit, .. },
            ..
        }) = self.looked.get(&item.branch)
        else {
            return Stepped::Quiet;
        };
        if self.mode == Mode::Plan || request.base != self.target {
            return Stepped::Quiet;
        }
        if self
            .updater
            .known()
            .notes
            .get(&request.number)
            .is_some_and(|notes| notes.told.as_ref() == Some(commit))
        {
            return Stepped::Quiet;
        }
        let text = format!(
            "{}\n\nUntil then tagboat leaves this request as it is.",
            life::said(&decision.reason)
        );
        match self.forge.comment(request, "others", &text).await {
            Ok(_) => {
                self.updater.known().note(request.number).told = Some(commit.clone());
                Stepped::Quiet
            }
            Err(error) => Self::failure(&error),
        }
    }

    async fn push(&mut self, item: &Item<'_>, set: &ChangeSet) -> Result<Stepped, GitError> {
        let message = match self.message(set) {
            Ok(message) => message,
            Err(failure) => return Ok(failure),
        };
        let pushes = self.done.pushes.entry(item.branch.clone()).or_default();
        *pushes += 1;
        if *pushes > MOST_PUSHES {
            return Ok(Stepped::Failed(Box::new(FailureReport {
                kind: Kind::Conflict,
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
            Ok(Published::Done(_)) => {
                if self.request(item).is_some() {
                    self.done
                        .states
                        .entry(item.branch.clone())
                        .or_insert(RequestState::Updated);
                } else {
                    self.done.made.insert(item.branch.clone());
                }
                Ok(Stepped::Moved)
            }
            // The next fetch shows whether it is there.
            Ok(Published::Conflict | Published::Unsure(_)) => Ok(Stepped::Conflict),
            Ok(Published::Refused(refusal)) => Ok(Self::failure(&refusal)),
            Err(error @ GitError::Broken { .. }) => Err(error),
            Err(error) => Ok(Self::failure(&error)),
        }
    }

    async fn told(&self, item: &Item<'_>, set: &ChangeSet) -> Option<Told> {
        let (
            Some(Looked {
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
        let telling = Telling {
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

    async fn open(&mut self, item: &Item<'_>, set: &ChangeSet) -> Result<Stepped, GitError> {
        let Some(Told { title, body }) = self.told(item, set).await else {
            return Ok(Stepped::Quiet);
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
                    return Ok(Stepped::Quiet);
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
    async fn dress(&mut self, item: &Item<'_>, request: &forge::Request) -> Stepped {
        let Some((declared, _)) = Self::via(item) else {
            return Stepped::Quiet;
        };
        let missing = declared
            .labels
            .iter()
            .filter(|name| !request.labels.contains(name));
        let labels: Vec<Label> = missing
            .map(|name| label(name, "Set on tagboat's requests"))
            .collect();
        if let Err(error) = self.forge.label(request.number, &labels, &[]).await {
            return Self::failure(&error);
        }
        let reviewers: Vec<Reviewer> = declared
            .reviewers
            .iter()
            .map(|text| Reviewer::parse(text))
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
        Stepped::Again
    }

    pub(super) async fn retell(
        &mut self,
        item: &Item<'_>,
        set: &ChangeSet,
        request: &forge::Request,
    ) -> Result<Stepped, GitError> {
        let Some(Told { title, body }) = self.told(item, set).await else {
            return Ok(Stepped::Quiet);
        };
        let change = forge::Change {
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
        if change != forge::Change::default() {
            self.done
                .states
                .entry(item.branch.clone())
                .or_insert(RequestState::Updated);
        }
        Ok(Stepped::Again)
    }

    async fn unlabel(&mut self, request: &forge::Request) -> Stepped {
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
                Stepped::Again
            }
            Err(error) => Self::failure(&error),
        }
    }

    async fn close(
        &mut self,
        item: &Item<'_>,
        listed: forge::Request,
        decision: &Decision,
    ) -> Result<Stepped, GitError> {
        // Much can have happened since it was listed, and what is closed cannot be taken back
        // unseen.
        let request = match self.forge.get(listed.number).await {
            Ok(request) => request,
            Err(error) => return Ok(Self::failure(&error)),
        };
        if request.state != forge::State::Open {
            self.open.retain(|known| known.number != request.number);
            return Ok(Stepped::Quiet);
        }
        if request.labels.iter().any(|label| label == HOLD) || request.base != listed.base {
            self.change(listed.number, |known| *known = request);
            return Ok(Stepped::Again);
        }
        // Somebody has pushed to the branch, or renamed it.
        let moved = self
            .looked
            .get(&item.branch)
            .is_some_and(|looked| !is(&request.head_commit, looked.head));
        if moved || request.head != item.branch {
            self.change(listed.number, |known| *known = request);
            return Ok(Stepped::Conflict);
        }
        if let Err(error) = self.close_for(&request, &decision.reason).await {
            return Ok(Self::failure(&error));
        }
        let row = self.report(item, RequestState::Closed, vec![decision.reason.clone()]);
        self.done.ended.push((item.name.clone(), row));
        self.done.states.remove(&item.branch);
        self.forget(&request, Ended::Superseded);
        match self.looked.contains_key(&item.branch) {
            true => self.delete(item).await,
            false => Ok(Stepped::Quiet),
        }
    }

    /// Closes a request with a reason.
    async fn close_for(&self, request: &forge::Request, reason: &str) -> Result<(), ForgeError> {
        let text = format!("Closed by tagboat: {}", life::said(reason));
        let superseded = [label(SUPERSEDED, "Closed by tagboat itself")];
        // A person's close holds what was proposed; the label, set before, tells that this one is
        // none.
        self.forge.comment(request, "closed", &text).await?;
        self.forge.label(request.number, &superseded, &[]).await?;
        self.forge.close(request.number).await
    }

    /// Two bots at the same moment can open two requests of one branch where the forge lets them.
    /// The first one stays.
    pub(super) async fn close_twins(&mut self, items: &[Item<'_>]) {
        let mut first: BTreeMap<&str, u64> = BTreeMap::new();
        let ours = |request: &&forge::Request| {
            request.base == self.target && request.head.starts_with(PREFIX)
        };
        for request in self.open.iter().filter(ours) {
            let number = first.entry(&request.head).or_insert(request.number);
            *number = request.number.min(*number);
        }
        // Those of a branch that is to be left alone are, too.
        let quiet = |head: &str| {
            !items.iter().any(|item| {
                item.branch == head && !matches!(item.otherwise, Some(Wanted::Unknown { .. }))
            })
        };
        let twin = |request: &&forge::Request| {
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
            if self.mode == Mode::Write {
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
        if request.state == forge::State::Open && marked && same && !held {
            self.close_for(
                &request,
                &format!("Request {first} is for the same branch."),
            )
            .await?;
            self.forget(&request, Ended::Superseded);
        }
        Ok(())
    }

    /// Whether somebody else has an open request from a branch.
    pub(super) fn is_shared(&self, branch: &str) -> bool {
        self.others
            .iter()
            .any(|others| others.request.head == branch)
    }

    /// Deletes a branch from where it is known to be, unless somebody else needs it.
    pub(super) async fn delete(&mut self, item: &Item<'_>) -> Result<Stepped, GitError> {
        if self.is_shared(&item.branch) {
            return Ok(Stepped::Quiet);
        }
        let Some(looked) = self.looked.remove(&item.branch) else {
            return Ok(Stepped::Quiet);
        };
        if matches!(looked.commits, Commits::Others { .. }) {
            return Ok(Stepped::Quiet);
        }
        let (mirror, branch) = (Arc::clone(&self.updater.mirror), item.branch.clone());
        match super::blocking(move || mirror.delete_branch(&branch, looked.head)).await {
            Ok(Pushed::Done) => Ok(Stepped::Quiet),
            Ok(Pushed::Rejected(refusals)) => match refusals.into_iter().next() {
                Some(refusal) if refusal.kind != Kind::Conflict => Ok(Self::failure(&refusal)),
                _ => Ok(Stepped::Conflict),
            },
            Err(GitError::Unanswered { .. }) => Ok(Stepped::Conflict),
            Err(error @ GitError::Broken { .. }) => Err(error),
            Err(error) => Ok(Self::failure(&error)),
        }
    }

    /// The message of a set's commit.
    pub(super) fn message(&self, set: &ChangeSet) -> Result<String, Stepped> {
        let message = Message::new(self.updater.config.message.clone()).of(set);
        message.map_err(|error| Stepped::Failed(Box::new(FailureReport::new(&error))))
    }

    /// Notes what has become of an open request.
    pub(super) fn change(&mut self, number: u64, change: impl FnOnce(&mut forge::Request)) {
        if let Some(request) = self
            .open
            .iter_mut()
            .find(|request| request.number == number)
        {
            change(request);
        }
    }

    /// Notes that a request has ended.
    pub(super) fn forget(&mut self, request: &forge::Request, how: Ended) {
        self.open.retain(|known| known.number != request.number);
        self.updater.known().ended.end(request, how, self.now);
    }

    /// A failure of one request, which others do not wait for.
    pub(super) fn failure(fault: &impl Fault) -> Stepped {
        Stepped::Failed(Box::new(FailureReport::at_forge(fault)))
    }
}

/// A label of the bot's.
fn label(name: &str, description: &str) -> Label {
    Label {
        name: name.to_owned(),
        color: "0b7285".to_owned(),
        description: description.to_owned(),
    }
}
