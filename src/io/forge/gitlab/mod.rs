//! GitLab: writing. gitlab.com and self-managed servers differ in their URLs only.

mod dialect;
pub(crate) mod approvals;
pub(crate) mod read;
mod merge;

pub(crate) use dialect::DIALECT;

use super::{
    Approvals, Checks, CommentOutcome, CommitStatus, Forge, ForgeError, ForgeOperation,
    ForgeProblem, ForgeRelease, MergeCommand, NewRequest, OpenedRequest, PullRequest,
    RequestFilter, RequestLabel, RequestList, RequestPatch, RequestedReviewer, TextLimits,
    UnrequestedReview,
    api::{ForgeApi, List},
    bot_comments::{CommentThread, MarkedComment, marked_text, told_login},
    common, page,
};
use crate::spec;
use async_trait::async_trait;
use read::{DRAFT, GitlabUser, MergeRequest};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// GitLab's validations: a title of 255 characters, texts of a mebibyte.
const LIMITS: TextLimits = TextLimits {
    title: 255,
    body: 1_000_000,
    comment: 1_000_000,
    status: 255,
};
/// The number of group members asked for a review: a review requested from a hundred people is done
/// by none of them.
const MEMBERS: usize = 20;

#[derive(Debug)]
pub(crate) struct Gitlab {
    pub(crate) api: ForgeApi,
    pub(crate) place: spec::ForgeSpec,
}

#[derive(Deserialize)]
struct GitlabNote {
    id: u64,
    body: String,
    author: GitlabUser,
    #[serde(default)]
    system: bool,
}

#[derive(Deserialize)]
pub(crate) struct GitlabProject {
    merge_method: Option<String>,
    squash_option: Option<String>,
    #[serde(default)]
    pub(crate) only_allow_merge_if_pipeline_succeeds: bool,
}

impl Gitlab {
    pub(crate) fn new(api: ForgeApi, place: spec::ForgeSpec) -> Self {
        Self { api, place }
    }

    pub(crate) async fn settings(&self) -> Result<Arc<GitlabProject>, ForgeError> {
        let read = self
            .api
            .get::<GitlabProject>(ForgeOperation::Settings, self.project(&[], &[]));
        self.api.pass_cache.once("repository", read).await
    }

    /// Makes a label if neither the project nor a group above it has it.
    async fn make_label(&self, label: &RequestLabel) -> Result<(), ForgeError> {
        let body = json!({
            "name": label.name,
            "color": format!("#{}", label.color),
            "description": label.description,
        });
        common::make_label(
            &self.api,
            self.project(&["labels", &label.name], &[]),
            (self.project(&["labels"], &[]), body),
            ForgeError::is_conflict,
        )
        .await
    }

    async fn edit(
        &self,
        operation: ForgeOperation,
        number: u64,
        body: Value,
    ) -> Result<(), ForgeError> {
        let url = self.project(&["merge_requests", &number.to_string()], &[]);
        self.api.apply(operation, Method::PUT, url, body).await
    }
}

fn titled(title: &str, draft: bool) -> String {
    common::draft_title(DRAFT, title, draft, LIMITS.title)
}

impl Gitlab {
    /// Returns the login of the token's user.
    async fn own_login(&self) -> Result<String, ForgeError> {
        let url = self.api.url(["user"], &[]);
        let user = self.api.get::<GitlabUser>(ForgeOperation::SignIn, url);
        Ok(user.await?.username)
    }
}

#[async_trait]
impl Forge for Gitlab {
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
        page(&self.place, &["-", "commit", commit])
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
            "source_branch": new.head,
            "target_branch": new.base,
            "title": titled(&new.title, new.draft),
            "description": new.body,
        });
        common::open(
            self,
            &self.api,
            new,
            (self.project(&["merge_requests"], &[]), body),
            MergeRequest::request,
            ForgeError::is_conflict,
        )
        .await
    }

    async fn update(&self, request: &PullRequest, change: &RequestPatch) -> Result<(), ForgeError> {
        match common::changed(change, "description", |title| titled(title, request.draft)) {
            Some(body) => {
                self.edit(ForgeOperation::Change, request.number, body)
                    .await
            }
            None => Ok(()),
        }
    }

    async fn label(
        &self,
        number: u64,
        add: &[RequestLabel],
        remove: &[&str],
    ) -> Result<(), ForgeError> {
        for label in add {
            self.api
                .pass_cache
                .once(&format!("label {}", label.name), self.make_label(label))
                .await?;
        }
        if add.is_empty() && remove.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = add.iter().map(|label| label.name.as_str()).collect();
        self.edit(
            ForgeOperation::Label,
            number,
            json!({"add_labels": names.join(","), "remove_labels": remove.join(",")}),
        )
        .await
    }

    async fn ask_reviews(
        &self,
        request: &PullRequest,
        reviewers: &[RequestedReviewer],
    ) -> Result<Vec<UnrequestedReview>, ForgeError> {
        let (mut asked, mut unasked) = (Vec::new(), Vec::new());
        let top = self.place.project.split('/').next().unwrap_or_default();
        for reviewer in reviewers {
            let mut refuse = |why: &str| {
                unasked.push(UnrequestedReview {
                    reviewer: reviewer.clone(),
                    why: why.to_owned(),
                })
            };
            match reviewer {
                RequestedReviewer::User(login) => match self.user(login).await? {
                    Some(user) => asked.push(user),
                    None => refuse("there is no such user"),
                },
                RequestedReviewer::Team { owner, name } => match self
                    .members(&format!("{}/{name}", owner.as_deref().unwrap_or(top)))
                    .await
                {
                    Ok(members) if members.is_empty() => {
                        refuse("the group has no members of its own")
                    }
                    Ok(members) if members.len() > MEMBERS => {
                        refuse("the group has more than 20 members")
                    }
                    Ok(members) => asked.extend(members),
                    Err(error) if error.is_not_found() => refuse("there is no such group"),
                    Err(error) => return Err(error),
                },
            }
        }
        asked.retain(|user| !user.username.eq_ignore_ascii_case(&request.author));
        asked.sort_unstable_by_key(|user| user.id);
        asked.dedup_by_key(|user| user.id);
        if asked.is_empty() {
            return Ok(unasked);
        }
        // The list replaces the present one, which people may have changed.
        let present = self
            .whole(ForgeOperation::Reviewers, request.number)
            .await?
            .reviewers;
        let mut ids: Vec<u64> = present.iter().map(|user| user.id).collect();
        ids.extend(
            asked
                .iter()
                .map(|user| user.id)
                .filter(|id| !present.iter().any(|user| user.id == *id)),
        );
        ids.sort_unstable();
        ids.dedup();
        if ids.len() > present.len() {
            self.edit(
                ForgeOperation::Reviewers,
                request.number,
                json!({"reviewer_ids": ids}),
            )
            .await?;
            // GitLab drops users without access to the project, and on the free tier all but one,
            // and answers 200.
            let requested = self
                .whole(ForgeOperation::Reviewers, request.number)
                .await?
                .reviewers;
            let dropped = asked
                .iter()
                .filter(|user| !requested.iter().any(|one| one.id == user.id));
            unasked.extend(dropped.map(|user| UnrequestedReview {
                reviewer: RequestedReviewer::User(user.username.clone()),
                why: "GitLab did not keep the reviewer: a user needs access to the project, and the free tier allows one reviewer"
                    .to_owned(),
            }));
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
        let notes = |rest: &[&str], query: &[(&str, &str)]| {
            let segments: Vec<&str> = ["merge_requests", number.as_str(), "notes"]
                .into_iter()
                .chain(rest.iter().copied())
                .collect();
            self.project(&segments, query)
        };
        let list = List::all(
            ForgeOperation::Comment,
            notes(
                &[],
                &[
                    ("sort", "asc"),
                    ("order_by", "created_at"),
                    ("per_page", "100"),
                ],
            ),
            &line,
        );
        let keep = |note: GitlabNote| {
            let marked = !note.system && note.body.starts_with(&line);
            marked
                .then_some(MarkedComment {
                    id: note.id,
                    login: note.author.username,
                    body: note.body,
                })
                .into()
        };
        let found = self.api.pages(&list, keep).await?;
        let thread = CommentThread {
            post: notes(&[], &[]),
            edit: |id: u64| notes(&[&id.to_string()], &[]),
            edit_method: Method::PUT,
        };
        let own = self.own_login();
        Box::pin(
            self.api
                .keep_comment(found, &request.author, &text, thread, own),
        )
        .await
    }

    async fn account(&self) -> Result<Option<String>, ForgeError> {
        told_login(self.own_login().await)
    }

    async fn wants_newest(&self, _: &str) -> Result<bool, ForgeError> {
        // By fast-forward, or by merge commits over a linear history.
        Ok(self
            .settings()
            .await?
            .merge_method
            .as_deref()
            .is_some_and(|method| matches!(method, "ff" | "rebase_merge")))
    }

    async fn checks(&self, request: &PullRequest) -> Result<Checks, ForgeError> {
        self.read_checks(request).await
    }

    async fn approvals(&self, request: &PullRequest) -> Result<Approvals, ForgeError> {
        self.read_approvals(request).await
    }

    async fn merge(&self, number: u64, merge: &MergeCommand) -> Result<Option<String>, ForgeError> {
        self.send_merge(ForgeOperation::Merge, number, merge, false)
            .await
    }

    fn auto_merge_keeps_head(&self) -> bool {
        // A push ends it.
        true
    }

    async fn merge_when_ready(
        &self,
        request: &PullRequest,
        merge: &MergeCommand,
    ) -> Result<(), ForgeError> {
        self.send_merge(ForgeOperation::AutoMerge, request.number, merge, true)
            .await
            .map(drop)
    }

    async fn cancel_merge(&self, request: &PullRequest) -> Result<(), ForgeError> {
        let url = self.project(
            &[
                "merge_requests",
                &request.number.to_string(),
                "cancel_merge_when_pipeline_succeeds",
            ],
            &[],
        );
        let canceled = self
            .api
            .apply(ForgeOperation::AutoMerge, Method::POST, url, None);
        match canceled.await {
            // Auto-merge is not set.
            Err(ForgeError {
                problem: ForgeProblem::Status { status: 406, .. },
                ..
            }) => Ok(()),
            other => other,
        }
    }

    async fn close(&self, number: u64) -> Result<(), ForgeError> {
        self.edit(
            ForgeOperation::Change,
            number,
            json!({"state_event": "close"}),
        )
        .await
    }

    async fn delete_branch(&self, branch: &str) -> Result<bool, ForgeError> {
        let url = self.project(&["repository", "branches", branch], &[]);
        let deleted = self
            .api
            .apply(ForgeOperation::Branch, Method::DELETE, url, None);
        common::deleted(deleted.await, |error| error.is_missing("Branch"))
    }

    async fn set_status(&self, commit: &str, status: &CommitStatus) -> Result<(), ForgeError> {
        let body = common::status_fields(status, "name", "failed", LIMITS.status);
        let url = self.project(&["statuses", commit], &[]);
        let set = self
            .api
            .apply(ForgeOperation::Status, Method::POST, url, body);
        match set.await {
            // The status already has this value.
            Err(error) if error.is_refused(400, "Cannot transition status") => Ok(()),
            other => other,
        }
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
