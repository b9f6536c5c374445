//! A forge in this process: a Git server with pull requests, the part of Gitea's API that tagboat
//! uses, and a page of each pull request, on a loopback port and in memory.
//!
//! For the demo. It proves nothing about forges; the tests of `io::forge` use a real Gitea.

mod answer;
mod book;
mod page;

use super::git::{BareRepository, GitServer, SandboxGitError};
use crate::core::secret::Secret;
use book::{ForgeRefusal, PullBook};
use jiff::Timestamp;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whom requests belong to that are opened over the API.
pub const BOT: &str = "tagboat";

/// A running forge with one repository; it stops when dropped.
pub struct SandboxForge {
    server: GitServer,
    shared: ForgeShared,
    project: String,
}

/// The state shared by the API and the methods.
type ForgeShared = Arc<Mutex<PullBook>>;

/// A request, as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullView {
    pub number: u64,
    pub head: String,
    pub title: String,
    pub body: String,
    pub labels: Vec<String>,
    pub comments: Vec<String>,
    pub open: bool,
}

impl SandboxForge {
    /// Serves `repository` as `project` (`owner/name`). The API requires `token`; Git requires
    /// nothing.
    ///
    /// # Errors
    /// If no port is available.
    pub async fn start(
        repository: BareRepository,
        project: &str,
        token: &Secret,
    ) -> std::io::Result<Self> {
        let shared: ForgeShared =
            Arc::new(Mutex::new(PullBook::new(repository.clone(), String::new())));
        let api = answer::router(Arc::clone(&shared), project, token)
            .merge(page::router(Arc::clone(&shared), project));
        let server = GitServer::start_at(repository, format!("{project}.git"), None, |git| {
            api.fallback_service(git)
        })
        .await?;
        lock(&shared).page = format!("http://{}/{project}", server.address());
        Ok(Self {
            server,
            shared,
            project: project.to_owned(),
        })
    }

    pub fn clone_url(&self) -> String {
        self.server.url()
    }

    /// `owner/name`.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// Sets the time of later events; `None` for the real clock.
    pub fn set_clock(&self, now: Option<Timestamp>) {
        lock(&self.shared).clock = now;
    }

    /// Returns all pull requests, by number.
    pub fn requests(&self) -> Vec<PullView> {
        let book = lock(&self.shared);
        let seen = |pull: &book::SandboxPull| PullView {
            number: pull.number,
            head: pull.head.clone(),
            title: pull.title.clone(),
            body: pull.body.clone(),
            labels: pull
                .labels
                .iter()
                .filter_map(|id| book.labels.get(id).cloned())
                .collect(),
            comments: book
                .comments
                .iter()
                .filter(|comment| comment.request == pull.number)
                .map(|comment| comment.body.clone())
                .collect(),
            open: book.is_open(pull.number),
        };
        book.pulls.values().map(seen).collect()
    }

    /// A person opens a request; gives its number.
    ///
    /// # Errors
    /// If a branch is not there, or has an open request for this base.
    pub fn open(
        &self,
        who: &str,
        head: &str,
        base: &str,
        title: &str,
    ) -> Result<u64, SandboxGitError> {
        lock(&self.shared)
            .open(who, head, base, title, "")
            .map_err(failed)
    }

    /// Sets whose the token is. With `None` the token may not read it, as on Gitea without the
    /// scope `read:user`. Pull requests are opened as [`BOT`] all the same.
    pub fn set_account(&self, login: Option<&str>) {
        lock(&self.shared).account = login.map(str::to_owned);
    }

    /// A person merges a request by its button; gives the commit.
    ///
    /// # Errors
    /// If it cannot be merged.
    pub fn merge(&self, number: u64, who: (&str, &str)) -> Result<String, SandboxGitError> {
        let mut book = lock(&self.shared);
        let title = book.pull(number).map_err(failed)?.title.clone();
        book.merge(
            number,
            None,
            false,
            who,
            &format!("Merge request #{number}: {title}"),
        )
        .map_err(failed)
    }

    /// A person closes a request.
    ///
    /// # Errors
    /// If there is none of this number.
    pub fn close(&self, number: u64, who: &str) -> Result<(), SandboxGitError> {
        lock(&self.shared).close(number, who).map_err(failed)
    }

    /// A request cannot be read any more, with this status of HTTP, or can again; lists still show
    /// it.
    ///
    /// # Errors
    /// If there is none of this number.
    pub fn withhold(&self, number: u64, status: Option<u16>) -> Result<(), SandboxGitError> {
        let mut book = lock(&self.shared);
        book.pull(number).map_err(failed)?;
        book.withheld.remove(&number);
        book.withheld.extend(status.map(|status| (number, status)));
        Ok(())
    }

    /// A person opens a request again.
    ///
    /// # Errors
    /// If it is merged, or there is none of this number.
    pub fn reopen(&self, number: u64) -> Result<(), SandboxGitError> {
        lock(&self.shared).reopen(number).map_err(failed)
    }

    /// A person points a request at another branch.
    ///
    /// # Errors
    /// If there is none of this number.
    pub fn retarget(&self, number: u64, base: &str) -> Result<(), SandboxGitError> {
        let mut book = lock(&self.shared);
        base.clone_into(&mut book.pull(number).map_err(failed)?.base);
        book.touch(number);
        Ok(())
    }

    /// A person edits a request's text.
    ///
    /// # Errors
    /// If there is none of this number.
    pub fn rewrite(&self, number: u64, body: &str) -> Result<(), SandboxGitError> {
        let mut book = lock(&self.shared);
        body.clone_into(&mut book.pull(number).map_err(failed)?.body);
        book.touch(number);
        Ok(())
    }

    /// Shows a request as opened by another account, as forges do once its author is deleted.
    ///
    /// # Errors
    /// If there is none of this number.
    pub fn reassign(&self, number: u64, author: &str) -> Result<(), SandboxGitError> {
        let mut book = lock(&self.shared);
        author.clone_into(&mut book.pull(number).map_err(failed)?.author);
        book.touch(number);
        Ok(())
    }

    /// A person sets a label.
    ///
    /// # Errors
    /// If there is no request of this number.
    pub fn label(&self, number: u64, name: &str) -> Result<(), SandboxGitError> {
        let mut book = lock(&self.shared);
        let known = book
            .labels
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(id, _)| *id);
        let id = known.unwrap_or_else(|| book.next());
        book.labels.insert(id, name.to_owned());
        book.pull(number).map_err(failed)?.labels.insert(id);
        book.touch(number);
        Ok(())
    }

    /// Reports a check: `state` is success, pending or failure.
    ///
    /// # Errors
    /// If the pull request's branch is gone.
    pub fn check(&self, number: u64, name: &str, state: &str) -> Result<(), SandboxGitError> {
        let mut book = lock(&self.shared);
        let branch = book.pull(number).map_err(failed)?.head.clone();
        let commit = book
            .repository
            .branch(&branch)?
            .ok_or_else(|| SandboxGitError::new("the branch is gone"))?;
        book.set_status(&commit.to_string(), name, state, "", "");
        book.touch(number);
        Ok(())
    }
}

fn lock(shared: &ForgeShared) -> MutexGuard<'_, PullBook> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(refusal: ForgeRefusal) -> SandboxGitError {
    SandboxGitError::new(refusal.1)
}
