//! The state of the sandbox forge: pull requests, labels, comments and statuses, in memory.

use crate::sandbox::git::{BareRepository, MergeOutcome, SandboxGitError};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A request.
#[derive(Debug, Clone)]
pub(super) struct SandboxPull {
    pub number: u64,
    pub head: String,
    /// The head's commit when it ended; while it is open, the branch says it.
    last: Option<String>,
    pub base: String,
    pub title: String,
    pub body: String,
    pub author: String,
    pub labels: BTreeSet<u64>,
    pub opened: Timestamp,
    pub updated: Timestamp,
    ended: Option<SandboxEnd>,
}

#[derive(Debug, Clone)]
struct SandboxEnd {
    at: Timestamp,
    by: String,
    merge: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct SandboxComment {
    pub id: u64,
    pub request: u64,
    pub author: String,
    pub body: String,
}

#[derive(Debug, Clone)]
struct SandboxStatus {
    id: u64,
    context: String,
    state: String,
    description: String,
    url: String,
    at: Timestamp,
}

/// A refusal, with Gitea's status.
#[derive(Debug)]
pub(super) struct ForgeRefusal(pub u16, pub String);

impl From<SandboxGitError> for ForgeRefusal {
    fn from(error: SandboxGitError) -> Self {
        ForgeRefusal(500, error.to_string())
    }
}

pub(super) struct PullBook {
    pub repository: BareRepository,
    /// The web page of the pull request.
    pub page: String,
    /// The time set by the demo, or `None` for the real clock.
    pub clock: Option<Timestamp>,
    pub pulls: BTreeMap<u64, SandboxPull>,
    pub labels: BTreeMap<u64, String>,
    pub comments: Vec<SandboxComment>,
    /// Requests that are listed and cannot be read alone, with the status.
    pub withheld: BTreeMap<u64, u16>,
    /// The token's user; none if the token may not read it.
    pub account: Option<String>,
    statuses: BTreeMap<String, Vec<SandboxStatus>>,
    last: u64,
}

impl PullBook {
    pub(super) fn new(repository: BareRepository, page: String) -> Self {
        let (clock, pulls, labels, comments, withheld, statuses, last) = Default::default();
        Self {
            repository,
            page,
            clock,
            pulls,
            labels,
            comments,
            withheld,
            account: Some(super::BOT.to_owned()),
            statuses,
            last,
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.unwrap_or_else(Timestamp::now)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn open(
        &mut self,
        author: &str,
        head: &str,
        base: &str,
        title: &str,
        body: &str,
    ) -> Result<u64, ForgeRefusal> {
        for branch in [head, base] {
            if self.repository.branch(branch)?.is_none() {
                return Err(ForgeRefusal(404, format!("there is no branch {branch}")));
            }
        }
        if self
            .pulls
            .values()
            .any(|pull| pull.ended.is_none() && pull.head == head && pull.base == base)
        {
            return Err(ForgeRefusal(
                409,
                "pull request already exists for these targets".to_owned(),
            ));
        }
        let number = self.pulls.len() as u64 + 1;
        let (opened, text) = (self.now(), str::to_owned);
        let pull = SandboxPull {
            number,
            head: text(head),
            last: None,
            base: text(base),
            title: text(title),
            body: text(body),
            author: text(author),
            labels: BTreeSet::new(),
            opened,
            updated: opened,
            ended: None,
        };
        self.pulls.insert(number, pull);
        Ok(number)
    }

    pub(super) fn pull(&mut self, number: u64) -> Result<&mut SandboxPull, ForgeRefusal> {
        self.pulls
            .get_mut(&number)
            .ok_or_else(|| ForgeRefusal(404, format!("there is no request {number}")))
    }

    pub(super) fn is_open(&self, number: u64) -> bool {
        self.pulls
            .get(&number)
            .is_some_and(|pull| pull.ended.is_none())
    }

    /// Returns the state of a pull request in a word.
    pub(super) fn state(&self, number: u64) -> &'static str {
        match self.pulls.get(&number).map(|pull| &pull.ended) {
            Some(Some(SandboxEnd { merge: Some(_), .. })) => "merged",
            Some(Some(_)) => "closed",
            Some(None) => "open",
            None => "unknown",
        }
    }

    /// Returns the checks of a pull request's head, each with its state.
    pub(super) fn statuses_of(&self, number: u64) -> Vec<(String, String)> {
        let head = self.pulls.get(&number).and_then(|pull| {
            let branch = self.repository.branch(&pull.head).ok().flatten();
            let present = branch.map(|commit| commit.to_string());
            present
                .filter(|_| pull.ended.is_none())
                .or(pull.last.clone())
        });
        let statuses = head.and_then(|head| self.statuses.get(&head));
        let mut last: BTreeMap<String, String> = BTreeMap::new();
        for status in statuses.into_iter().flatten() {
            last.insert(status.context.clone(), status.state.clone());
        }
        last.into_iter().collect()
    }

    /// Marks a pull request as changed.
    pub(super) fn touch(&mut self, number: u64) {
        let now = self.now();
        if let Some(pull) = self.pulls.get_mut(&number) {
            pull.updated = now;
        }
    }

    pub(super) fn close(&mut self, number: u64, by: &str) -> Result<(), ForgeRefusal> {
        self.end(number, by, None)
    }

    pub(super) fn reopen(&mut self, number: u64) -> Result<(), ForgeRefusal> {
        let pull = self.pull(number)?;
        if pull
            .ended
            .as_ref()
            .is_some_and(|ended| ended.merge.is_some())
        {
            return Err(ForgeRefusal(412, "it is merged".to_owned()));
        }
        pull.ended = None;
        self.touch(number);
        Ok(())
    }

    fn end(&mut self, number: u64, by: &str, merge: Option<String>) -> Result<(), ForgeRefusal> {
        let head = self.pull(number)?.head.clone();
        let last = self.repository.branch(&head)?.map(|id| id.to_string());
        let at = self.now();
        let pull = self.pull(number)?;
        if pull.ended.is_none() {
            (pull.ended, pull.last, pull.updated) = (
                Some(SandboxEnd {
                    at,
                    by: by.to_owned(),
                    merge,
                }),
                last,
                at,
            );
        }
        Ok(())
    }

    /// Merges a request whose head is still `head`; a person's button passes what the branch is at.
    pub(super) fn merge(
        &mut self,
        number: u64,
        head: Option<&str>,
        squash: bool,
        who: (&str, &str),
        message: &str,
    ) -> Result<String, ForgeRefusal> {
        let seconds = self.now().as_second();
        let branch = self.pull(number)?.head.clone();
        if !self.is_open(number) {
            return Err(ForgeRefusal(405, "the request has ended".to_owned()));
        }
        let there = self
            .repository
            .branch(&branch)?
            .ok_or_else(|| ForgeRefusal(404, format!("there is no branch {branch}")))?;
        let present = there.to_string();
        if head.is_some_and(|head| !head.is_empty() && head != present) {
            return Err(ForgeRefusal(409, "head out of date".to_owned()));
        }
        match self
            .repository
            .merge(&branch, there, squash, who, seconds, message)?
        {
            MergeOutcome::Done(commit) => {
                self.end(number, who.0, Some(commit.to_string()))?;
                Ok(commit.to_string())
            }
            MergeOutcome::Moved(_) => Err(ForgeRefusal(409, "head out of date".to_owned())),
            MergeOutcome::Conflict => Err(ForgeRefusal(409, "merge conflict".to_owned())),
        }
    }

    pub(super) fn set_status(
        &mut self,
        commit: &str,
        context: &str,
        state: &str,
        description: &str,
        url: &str,
    ) {
        let (id, at, text) = (self.next(), self.now(), str::to_owned);
        let status = SandboxStatus {
            id,
            context: text(context),
            state: text(state),
            description: text(description),
            url: text(url),
            at,
        };
        self.statuses
            .entry(commit.to_owned())
            .or_default()
            .push(status);
    }

    pub(super) fn statuses(&self, commit: &str) -> Vec<Value> {
        let shape = |status: &SandboxStatus| {
            let SandboxStatus {
                id,
                context,
                state,
                description,
                url,
                at,
            } = status;
            json!({"id": id, "context": context, "status": state, "description": description, "target_url": url, "updated_at": at})
        };
        self.statuses
            .get(commit)
            .into_iter()
            .flatten()
            .map(shape)
            .collect()
    }

    /// Returns the numbers of open, or of closed, pull requests.
    pub(super) fn listed(&self, open: bool) -> Vec<u64> {
        let mut found: Vec<&SandboxPull> = self
            .pulls
            .values()
            .filter(|pull| pull.ended.is_none() == open)
            .collect();
        found.sort_by_key(|pull| std::cmp::Reverse((pull.updated, pull.number)));
        found.into_iter().map(|pull| pull.number).collect()
    }

    /// A request as Gitea tells it.
    pub(super) fn shape(&self, number: u64) -> Result<Value, ForgeRefusal> {
        let pull = self
            .pulls
            .get(&number)
            .ok_or_else(|| ForgeRefusal(404, format!("there is no request {number}")))?;
        let branch = self.repository.branch(&pull.head)?;
        let head = match (&pull.ended, branch) {
            (None, Some(id)) => id.to_string(),
            _ => pull.last.clone().unwrap_or_default(),
        };
        let base = self
            .repository
            .branch(&pull.base)?
            .map(|id| id.to_string())
            .unwrap_or_default();
        let mergeable = match (&pull.ended, branch) {
            (None, Some(id)) => self.repository.is_mergeable(id)?,
            _ => false,
        };
        let labels: Vec<Value> = pull
            .labels
            .iter()
            .filter_map(|id| self.label(*id))
            .collect();
        let ended = pull.ended.as_ref();
        let merged = ended.filter(|ended| ended.merge.is_some());
        Ok(json!({
            "number": number,
            "html_url": format!("{}/pulls/{number}", self.page),
            "state": if ended.is_some() { "closed" } else { "open" },
            "title": pull.title,
            "body": pull.body,
            "draft": pull.title.starts_with("WIP: "),
            "head": {"label": pull.head, "ref": pull.head, "sha": head, "repo_id": 1},
            "base": {"label": pull.base, "ref": pull.base, "sha": base, "repo_id": 1},
            "user": {"login": pull.author},
            "labels": labels,
            "created_at": pull.opened,
            "updated_at": pull.updated,
            "closed_at": ended.map(|ended| ended.at),
            "merged": merged.is_some(),
            "merged_at": merged.map(|ended| ended.at),
            "merged_by": merged.map(|ended| json!({"login": ended.by})),
            "merge_commit_sha": merged.and_then(|ended| ended.merge.clone()),
            "mergeable": mergeable,
        }))
    }

    /// The events of a request: who closed it.
    pub(super) fn timeline(&mut self, number: u64) -> Result<Vec<Value>, ForgeRefusal> {
        let ended = self.pull(number)?.ended.clone();
        Ok(ended
            .map(|ended| json!({"type": "close", "user": {"login": ended.by}}))
            .into_iter()
            .collect())
    }

    pub(super) fn label(&self, id: u64) -> Option<Value> {
        self.labels
            .get(&id)
            .map(|name| json!({"id": id, "name": name}))
    }
}
