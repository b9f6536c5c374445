//! Pull requests on a forge: one trait, [`Forge`], and one folder for each forge that implements
//! it.
//!
//! | file | subject |
//! |---|---|
//! | `github/`, `gitlab/`, `gitea/` | one forge: its dialect (authentication, paging, scopes), reading, writing |
//! | `api`, `api/pages`, `api/dialect` | one call with its sign-in, lists page by page, conventions that differ |
//! | `cache`, `pass_cache` | responses by ETag, and for one pass |
//! | `common`, `bot_comments`, `releases` | steps that all forges share |
//! | `error` | errors, and the permission that a token lacks |
//!
//! Reads are retried when a connection fails. A write is looked up before it is believed lost. A
//! pull request from a fork is never taken for the bot's, whatever its branch is called.

mod common;
mod api;
mod cache;
mod error;
mod gitea;
mod github;
mod gitlab;
mod bot_comments;
mod releases;
mod pass_cache;

pub use crate::io::http::{HttpTimeouts, Proxy, SecretLocation};
pub use crate::review::types::{
    Approvals, Check, CheckState, Checks, ChecksState, CommentOutcome, CommitStatus, ForgeRelease,
    MergeCommand, Mergeable, NOTES, NewRequest, OpenedRequest, PullRequest, RequestEnd,
    RequestFilter, RequestLabel, RequestList, RequestPatch, RequestStatus, RequestedReviewer,
    StatusState, TextLimits, UnrequestedReview,
};
pub use error::{ForgeError, ForgeOperation, ForgeProblem};

use crate::spec::{self, ForgeKind};
use async_trait::async_trait;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

/// The configuration of a forge, resolved by the caller.
#[derive(Debug, Clone)]
pub struct ForgeConfig {
    /// The forge and the repository on it; its `credentials` are not read.
    pub forge: spec::ForgeSpec,
    pub credentials: ForgeLogin,
    /// PEM file of further certificate authorities.
    pub ca_file: Option<PathBuf>,
    pub proxy: Proxy,
    pub timeouts: HttpTimeouts,
}

/// The sign-in of a forge. Nothing is read before the first call, and files are read again for
/// each.
#[derive(Debug, Clone)]
pub enum ForgeLogin {
    /// Public projects can be read, within narrow limits.
    Anonymous,
    Token(SecretLocation),
    App {
        id: u64,
        /// The id of its installation; asked for by the repository's name if there is none.
        installation: Option<u64>,
        private_key: SecretLocation,
    },
}

/// The time limits that suit real forges: a merge takes its time.
pub const TIMEOUTS: HttpTimeouts = HttpTimeouts {
    headers: Duration::from_secs(60),
    ..HttpTimeouts::DEFAULT
};

/// The forge of one repository, signed in.
///
/// Every error is a [`ForgeError`], which names forge, repository and operation and says what the
/// token lacks.
#[async_trait]
pub trait Forge: std::fmt::Debug + Send + Sync {
    /// Returns the forge and the repository on it.
    fn place(&self) -> &spec::ForgeSpec;

    /// Returns the forge's limits of text.
    fn limits(&self) -> TextLimits;

    /// Returns the request counts by operation; retries count.
    fn calls(&self) -> BTreeMap<ForgeOperation, u64>;

    /// Returns the login of the bot's account; none if the forge does not tell it to this token.
    async fn account(&self) -> Result<Option<String>, ForgeError>;

    /// Returns the web page of a commit.
    fn commit_url(&self, commit: &str) -> String;

    /// Returns the web page that compares two commits, branches or tags.
    fn compare_url(&self, from: &str, to: &str) -> String {
        compare_url(self.place(), from, to)
    }

    /// The repository's requests whose head branch begins with `prefix`, latest first: one call for
    /// each page (100; on Gitea what its administrator allows, usually 50), without a body where an
    /// ETag says that nothing changed.
    async fn look(&self, which: RequestFilter, prefix: &str) -> Result<RequestList, ForgeError>;

    /// The same without what else the forge has shown.
    async fn list(
        &self,
        which: RequestFilter,
        prefix: &str,
    ) -> Result<Vec<PullRequest>, ForgeError> {
        Ok(self.look(which, prefix).await?.requests)
    }

    /// The request of exactly this head branch: an open one if there is one, else the latest.
    async fn find(&self, head: &str) -> Result<Option<PullRequest>, ForgeError>;

    /// Returns one pull request with all details: mergeability, and who closed it.
    async fn get(&self, number: u64) -> Result<PullRequest, ForgeError>;

    /// Opens a request; or finds the open one of this head branch, also if the answer to the
    /// opening is lost.
    async fn open(&self, new: &NewRequest) -> Result<OpenedRequest, ForgeError>;

    /// Changes title or text; nothing is sent if nothing is to be changed.
    async fn update(&self, request: &PullRequest, change: &RequestPatch) -> Result<(), ForgeError>;

    /// Adds labels, made where they are missing, and removes others.
    async fn label(
        &self,
        number: u64,
        add: &[RequestLabel],
        remove: &[&str],
    ) -> Result<(), ForgeError>;

    /// Requests reviews from people and teams, except the author; returns those who could not be
    /// asked.
    async fn ask_reviews(
        &self,
        request: &PullRequest,
        reviewers: &[RequestedReviewer],
    ) -> Result<Vec<UnrequestedReview>, ForgeError>;

    /// Updates one comment: the one with the marker, invisible to readers, by the pull request's
    /// author or the current account. A marker is a short word of letters, digits and dashes.
    async fn comment(
        &self,
        request: &PullRequest,
        marker: &str,
        text: &str,
    ) -> Result<CommentOutcome, ForgeError>;

    /// Returns whether a merge requires the branch to contain the newest commit of `base`, as far
    /// as the forge tells: GitHub from rulesets, GitLab from the project's merge method, Gitea to
    /// administrators. Otherwise [`Mergeable::Behind`] or the refusal of a merge
    /// ([`ForgeProblem::Behind`]) tells. Cached for a pass.
    async fn wants_newest(&self, base: &str) -> Result<bool, ForgeError>;

    /// The checks of exactly the commit that `request.head_commit` names, with those that the base
    /// requires.
    async fn checks(&self, request: &PullRequest) -> Result<Checks, ForgeError>;

    /// Returns who approved, who objects, and how many approvals are required.
    async fn approvals(&self, request: &PullRequest) -> Result<Approvals, ForgeError>;

    /// Merges it if its head is `merge.head`; gives the commit made, where the forge names it.
    async fn merge(&self, number: u64, merge: &MergeCommand) -> Result<Option<String>, ForgeError>;

    /// Returns whether [`Forge::merge_when_ready`] applies to the verified head only, also later.
    /// If not (GitHub, Gitea), a later commit on the branch is merged with it once its checks pass;
    /// use [`Forge::merge`] where that must not happen.
    fn auto_merge_keeps_head(&self) -> bool;

    /// Schedules the merge for when the base's requirements are met, if the head is `merge.head`.
    /// May merge at once.
    async fn merge_when_ready(
        &self,
        request: &PullRequest,
        merge: &MergeCommand,
    ) -> Result<(), ForgeError>;

    /// Cancels [`Forge::merge_when_ready`]; succeeds if nothing is scheduled.
    async fn cancel_merge(&self, request: &PullRequest) -> Result<(), ForgeError>;

    /// Closes it without a merge.
    async fn close(&self, number: u64) -> Result<(), ForgeError>;

    /// Deletes a branch; whether it was there.
    async fn delete_branch(&self, branch: &str) -> Result<bool, ForgeError>;

    /// Sets a status of a commit.
    async fn set_status(&self, commit: &str, status: &CommitStatus) -> Result<(), ForgeError>;

    /// Returns the releases of a project on this forge after version `from` up to `to`, latest
    /// first; tags if it has no releases. Looks at the latest 300 only.
    async fn releases(
        &self,
        project: &str,
        from: &str,
        to: &str,
    ) -> Result<Vec<ForgeRelease>, ForgeError>;
}

/// Returns the conventions of a forge. A new forge is registered here.
fn dialect(kind: ForgeKind) -> &'static api::Dialect {
    match kind {
        ForgeKind::Github => &github::DIALECT,
        ForgeKind::Gitlab => &gitlab::DIALECT,
        ForgeKind::Gitea => &gitea::DIALECT,
    }
}

/// Builds a client. Sends nothing and reads no secret.
///
/// # Errors
/// If the CA file or the proxy cannot be used.
pub fn connect(config: &ForgeConfig) -> Result<Arc<dyn Forge>, ForgeError> {
    let dialect = dialect(config.forge.kind);
    let api = api::ForgeApi::new(config, dialect)?;
    Ok((dialect.connect)(api, config.forge.clone()))
}

/// Returns the web page of a forge that compares two commits, branches or tags of a repository.
pub fn compare_url(place: &spec::ForgeSpec, from: &str, to: &str) -> String {
    let range = format!("{from}...{to}");
    let path = dialect(place.kind)
        .compare_path
        .iter()
        .copied()
        .chain([range.as_str()]);
    page(place, &path.collect::<Vec<_>>())
}

/// An address for people below the forge's.
fn page(place: &spec::ForgeSpec, segments: &[&str]) -> String {
    let mut url = place.web.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty()
            .extend(place.project.split('/'))
            .extend(segments);
    }
    url.into()
}
