//! Gitea and Forgejo: what changes something.

mod dialect;
pub(crate) mod read;
mod labels;
mod merge;

pub(crate) use dialect::DIALECT;

use super::{
    Approvals, Checks, CommentOutcome, CommitStatus, Forge, ForgeError, ForgeOperation,
    ForgeProblem, ForgeRelease, MergeCommand, NewRequest, OpenedRequest, PullRequest,
    RequestFilter, RequestLabel, RequestList, RequestPatch, RequestStatus, RequestedReviewer,
    TextLimits, UnrequestedReview,
    api::ForgeApi,
    bot_comments::{CommentThread, MarkedComment, marked_text, told_login},
    common, page,
};
use crate::spec;
use async_trait::async_trait;
use labels::id_of;
use read::{DRAFT, GiteaPull, GiteaUser};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// A title has a column of 255 characters; texts have no limit of Gitea's own, so ours is what
/// people still read.
const LIMITS: TextLimits = TextLimits {
    title: 255,
    body: 262_144,
    comment: 262_144,
    status: 255,
};

#[derive(Debug)]
pub(crate) struct Gitea {
    pub(crate) api: ForgeApi,
    pub(crate) place: spec::ForgeSpec,
}

#[derive(Deserialize)]
struct GiteaComment {
    id: u64,
    #[serde(default)]
    body: String,
    user: Option<GiteaUser>,
}

impl Gitea {
    pub(crate) fn new(api: ForgeApi, place: spec::ForgeSpec) -> Self {
        Self { api, place }
    }

    fn owner(&self) -> &str {
        self.place.project.split('/').next().unwrap_or_default()
    }

    async fn edit(&self, number: u64, body: Value) -> Result<(), ForgeError> {
        let url = self.repo(&["pulls", &number.to_string()], &[]);
        self.api
            .apply(ForgeOperation::Change, Method::PATCH, url, body)
            .await
    }
}

fn titled(title: &str, draft: bool) -> String {
    common::draft_title(DRAFT, title, draft, LIMITS.title)
}

impl Gitea {
    /// Returns the login of the token's user.
    async fn own_login(&self) -> Result<String, ForgeError> {
        let url = self.api.url(["user"], &[]);
        let user = self.api.get::<GiteaUser>(ForgeOperation::SignIn, url);
        Ok(user.await?.login)
    }
}

#[async_trait]
impl Forge for Gitea {
    fn place(&self) -> &spec::ForgeSpec {
        &self.place
    }

    fn limits(&self) -> TextLimits {
        LIMITS
    }

    fn calls(&self) -> BTreeMap<ForgeOperation, u64> {
        self.api.calls()
    }

    fn commit_url(&self, commit: &str) -> String {
        page(&self.place, &["commit", commit])
    }

    async fn look(&self, which: RequestFilter, prefix: &str) -> Result<RequestList, ForgeError> {
        self.list_requests(which, prefix).await
    }

    async fn find(&self, head: &str) -> Result<Option<PullRequest>, ForgeError> {
        self.find_request(head).await
    }

    async fn get(&self, number: u64) -> Result<PullRequest, ForgeError> {
        self.get_request(number).await
    }

    async fn open(&self, new: &NewRequest) -> Result<OpenedRequest, ForgeError> {
        let body = json!({
            "head": new.head,
            "base": new.base,
            "title": titled(&new.title, new.draft),
            "body": new.body,
        });
        common::open(
            self,
            &self.api,
            new,
            (self.repo(&["pulls"], &[]), body),
            GiteaPull::request,
            ForgeError::is_conflict,
        )
        .await
    }

    async fn update(&self, request: &PullRequest, change: &RequestPatch) -> Result<(), ForgeError> {
        match common::changed(change, "body", |title| titled(title, request.draft)) {
            Some(body) => self.edit(request.number, body).await,
            None => Ok(()),
        }
    }

    async fn label(
        &self,
        number: u64,
        add: &[RequestLabel],
        remove: &[&str],
    ) -> Result<(), ForgeError> {
        if add.is_empty() && remove.is_empty() {
            return Ok(());
        }
        let number = number.to_string();
        let all: Vec<&str> = add
            .iter()
            .map(|label| label.name.as_str())
            .chain(remove.iter().copied())
            .collect();
        let known = self.known_labels(&all).await?;
        let shared = match all.iter().any(|name| id_of(&known, name).is_none()) {
            true => {
                self.api
                    .pass_cache
                    .once("organisation labels", self.organisation_labels())
                    .await?
            }
            false => Arc::default(),
        };
        let id_of = |name: &str| id_of(&known, name).or_else(|| id_of(&shared, name));
        let mut ids = Vec::new();
        for label in add {
            ids.push(match id_of(&label.name) {
                Some(id) => id,
                None => self.make_label(label).await?,
            });
        }
        let sent = async {
            if !ids.is_empty() {
                let url = self.repo(&["issues", &number, "labels"], &[]);
                let body = json!({"labels": ids});
                self.api
                    .apply(ForgeOperation::Label, Method::POST, url, body)
                    .await?;
            }
            // A label that the repository does not have is on no request.
            for id in remove.iter().filter_map(|name| id_of(name)) {
                let url = self.repo(&["issues", &number, "labels", &id.to_string()], &[]);
                self.api
                    .apply(ForgeOperation::Label, Method::DELETE, url, None)
                    .await?;
            }
            Ok(())
        };
        let sent = sent.await;
        if sent.is_err() {
            // A label may have been replaced by another one of the same name.
            self.api.pass_cache.clear().await;
        }
        sent
    }

    async fn ask_reviews(
        &self,
        request: &PullRequest,
        reviewers: &[RequestedReviewer],
    ) -> Result<Vec<UnrequestedReview>, ForgeError> {
        let number = request.number.to_string();
        let url = self.repo(&["pulls", &number, "requested_reviewers"], &[]);
        let mut unasked = Vec::new();
        // One by one: a single invalid reviewer would fail all.
        for reviewer in reviewers {
            if let Some(foreign) = common::foreign_team(reviewer, self.owner()) {
                unasked.push(foreign);
                continue;
            }
            if matches!(reviewer, RequestedReviewer::User(login) if login.eq_ignore_ascii_case(&request.author))
            {
                continue;
            }
            match common::request_reviews(&self.api, url.clone(), &[reviewer]).await {
                Ok(()) => {}
                Err(ForgeError {
                    problem:
                        ForgeProblem::Refused { message, .. } | ForgeProblem::NotFound { message },
                    ..
                }) => unasked.push(common::refused_reviewer(reviewer, message)),
                Err(error) => return Err(error),
            }
        }
        Ok(unasked)
    }

    async fn comment(
        &self,
        request: &PullRequest,
        marker: &str,
        text: &str,
    ) -> Result<CommentOutcome, ForgeError> {
        let number = request.number.to_string();
        let (line, text) = marked_text(marker, text, LIMITS.comment);
        let url = self.repo(&["issues", &number, "comments"], &[]);
        let comments: Vec<GiteaComment> =
            self.api.get(ForgeOperation::Comment, url.clone()).await?;
        let marked = comments
            .into_iter()
            .filter(|comment| comment.body.starts_with(&line))
            .map(|comment| {
                let login = comment.user.map(|user| user.login).unwrap_or_default();
                MarkedComment {
                    id: comment.id,
                    login,
                    body: comment.body,
                }
            });
        let thread = CommentThread {
            post: url,
            edit: |id: u64| self.repo(&["issues", "comments", &id.to_string()], &[]),
            edit_method: Method::PATCH,
        };
        let own = self.own_login();
        let found = marked.collect();
        Box::pin(
            self.api
                .keep_comment(found, &request.author, &text, thread, own),
        )
        .await
    }

    async fn account(&self) -> Result<Option<String>, ForgeError> {
        told_login(self.own_login().await)
    }

    async fn wants_newest(&self, base: &str) -> Result<bool, ForgeError> {
        self.wants_newest_commit(base).await
    }

    async fn checks(&self, request: &PullRequest) -> Result<Checks, ForgeError> {
        self.read_checks(request).await
    }

    async fn approvals(&self, request: &PullRequest) -> Result<Approvals, ForgeError> {
        self.read_approvals(request).await
    }

    async fn merge(&self, number: u64, merge: &MergeCommand) -> Result<Option<String>, ForgeError> {
        match self
            .send_merge(ForgeOperation::Merge, number, merge, false)
            .await
        {
            // The answer is empty. That the commit cannot be read now is no failure of the merge.
            Ok(()) => Ok(self
                .get_request(number)
                .await
                .ok()
                .and_then(|request| request.ended)
                .and_then(|ended| ended.commit)),
            Err(error) => common::merged_after_all(self, number, merge, error).await,
        }
    }

    fn auto_merge_keeps_head(&self) -> bool {
        false
    }

    async fn merge_when_ready(
        &self,
        request: &PullRequest,
        merge: &MergeCommand,
    ) -> Result<(), ForgeError> {
        // Gitea compares the head only for an immediate merge, not for a scheduled one: check it
        // first.
        let changed = |request: &PullRequest| {
            request.state == RequestStatus::Open && request.head_commit != merge.head
        };
        let error = || {
            self.api.error(
                ForgeOperation::AutoMerge,
                ForgeProblem::HeadChanged { message: None },
            )
        };
        if changed(&self.get_request(request.number).await?) {
            return Err(error());
        }
        match self
            .send_merge(ForgeOperation::AutoMerge, request.number, merge, true)
            .await
        {
            // The merge was already scheduled.
            Err(ForgeError {
                problem:
                    ForgeProblem::Refused {
                        status: 409,
                        message: Some(text),
                    },
                ..
            }) if text.contains("already scheduled") => {}
            other => other?,
        }
        // And after, for who pushed between.
        if changed(&self.get_request(request.number).await?) {
            self.cancel_merge(request).await?;
            return Err(error());
        }
        Ok(())
    }

    async fn cancel_merge(&self, request: &PullRequest) -> Result<(), ForgeError> {
        let url = self.repo(&["pulls", &request.number.to_string(), "merge"], &[]);
        let canceled = self
            .api
            .apply(ForgeOperation::AutoMerge, Method::DELETE, url, None);
        common::deleted(canceled.await, ForgeError::is_not_found).map(drop)
    }

    async fn close(&self, number: u64) -> Result<(), ForgeError> {
        self.edit(number, json!({"state": "closed"})).await
    }

    async fn delete_branch(&self, branch: &str) -> Result<bool, ForgeError> {
        let url = self.repo(&["branches", branch], &[]);
        let deleted = self
            .api
            .apply(ForgeOperation::Branch, Method::DELETE, url, None);
        common::deleted(deleted.await, ForgeError::is_not_found)
    }

    async fn set_status(&self, commit: &str, status: &CommitStatus) -> Result<(), ForgeError> {
        let body = common::status_fields(status, "context", "failure", LIMITS.status);
        let url = self.repo(&["statuses", commit], &[]);
        self.api
            .apply(ForgeOperation::Status, Method::POST, url, body)
            .await
    }

    async fn releases(
        &self,
        project: &str,
        from: &str,
        to: &str,
    ) -> Result<Vec<ForgeRelease>, ForgeError> {
        self.read_releases(project, from, to).await
    }
}
