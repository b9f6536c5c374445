//! GitHub: what changes something. github.com and Enterprise differ in their addresses only.

mod dialect;
pub(crate) mod app;
pub(crate) mod read;
mod graphql;

pub(crate) use dialect::DIALECT;

use super::{
    Approvals, Checks, CommentOutcome, CommitStatus, Forge, ForgeError, ForgeOperation,
    ForgeProblem, ForgeRelease, MergeCommand, NewRequest, OpenedRequest, PullRequest,
    RequestFilter, RequestLabel, RequestList, RequestPatch, RequestedReviewer, TextLimits,
    UnrequestedReview,
    api::{ApiCall, ForgeApi, List},
    bot_comments::{CommentThread, MarkedComment, marked_text, told_login},
    common, page,
};
use crate::{
    review::types::cut,
    spec::{self, MergeMethod},
};
use async_trait::async_trait;
use read::{GithubPull, GithubUser};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// GitHub refuses longer texts: "body is too long (maximum is 65536 characters)".
const LIMITS: TextLimits = TextLimits {
    title: 256,
    body: 65_536,
    comment: 65_536,
    status: 140,
};

#[derive(Debug)]
pub(crate) struct Github {
    pub(crate) api: ForgeApi,
    pub(crate) place: spec::ForgeSpec,
}

#[derive(Deserialize)]
struct GithubComment {
    id: u64,
    body: Option<String>,
    user: Option<GithubUser>,
}

#[derive(Deserialize)]
struct MergeMethods {
    #[serde(default)]
    allow_merge_commit: Option<bool>,
    #[serde(default)]
    allow_squash_merge: Option<bool>,
    #[serde(default)]
    allow_rebase_merge: Option<bool>,
}

impl Github {
    pub(crate) fn new(api: ForgeApi, place: spec::ForgeSpec) -> Self {
        Self { api, place }
    }

    /// The declared method, or the first that the repository allows.
    async fn method(&self, declared: Option<MergeMethod>) -> Result<MergeMethod, ForgeError> {
        if let Some(method) = declared {
            return Ok(method);
        }
        let read = self
            .api
            .get::<MergeMethods>(ForgeOperation::Settings, self.repo(&[], &[]));
        let methods = self.api.pass_cache.once("repository", read).await?;
        let all = [
            (methods.allow_merge_commit, MergeMethod::Merge),
            (methods.allow_squash_merge, MergeMethod::Squash),
            (methods.allow_rebase_merge, MergeMethod::Rebase),
        ];
        // Without push permission the methods are not listed; GitHub then refuses an invalid one.
        Ok(all
            .into_iter()
            .find(|(allowed, _)| *allowed == Some(true))
            .map_or(MergeMethod::Merge, |(_, method)| method))
    }

    async fn make_label(&self, label: &RequestLabel) -> Result<(), ForgeError> {
        let body = json!({
            "name": label.name,
            "color": label.color,
            "description": cut(&label.description, 100),
        });
        common::make_label(
            &self.api,
            self.repo(&["labels", &label.name], &[]),
            (self.repo(&["labels"], &[]), body),
            |error| error.is_refused(422, "already_exists"),
        )
        .await
    }

    async fn edit(&self, number: u64, body: Value) -> Result<(), ForgeError> {
        let url = self.repo(&["pulls", &number.to_string()], &[]);
        self.api
            .apply(ForgeOperation::Change, Method::PATCH, url, body)
            .await
    }
}

#[async_trait]
impl Forge for Github {
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
            "title": cut(&new.title, LIMITS.title),
            "head": new.head,
            "base": new.base,
            "body": new.body,
            "draft": new.draft,
            "maintainer_can_modify": false,
        });
        common::open(
            self,
            &self.api,
            new,
            (self.repo(&["pulls"], &[]), body),
            |pull: GithubPull| pull.request(&self.place.project),
            |error| error.is_refused(422, "already exists"),
        )
        .await
    }

    async fn update(&self, request: &PullRequest, change: &RequestPatch) -> Result<(), ForgeError> {
        match common::changed(change, "body", |title| cut(title, LIMITS.title)) {
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
        let number = number.to_string();
        for label in add {
            self.api
                .pass_cache
                .once(&format!("label {}", label.name), self.make_label(label))
                .await?;
        }
        if !add.is_empty() {
            let names: Vec<&str> = add.iter().map(|label| label.name.as_str()).collect();
            let url = self.repo(&["issues", &number, "labels"], &[]);
            let body = json!({"labels": names});
            self.api
                .apply(ForgeOperation::Label, Method::POST, url, body)
                .await?;
        }
        for name in remove {
            let url = self.repo(&["issues", &number, "labels", name], &[]);
            let removed = self
                .api
                .apply(ForgeOperation::Label, Method::DELETE, url, None);
            // "Label does not exist" is the wanted state.
            common::deleted(removed.await, |error| error.is_missing("Label"))?;
        }
        Ok(())
    }

    async fn ask_reviews(
        &self,
        request: &PullRequest,
        reviewers: &[RequestedReviewer],
    ) -> Result<Vec<UnrequestedReview>, ForgeError> {
        let own = self.place.project.split('/').next().unwrap_or_default();
        let (mut asked, mut unasked) = (Vec::new(), Vec::new());
        for reviewer in reviewers {
            match (reviewer, common::foreign_team(reviewer, own)) {
                (_, Some(foreign)) => unasked.push(foreign),
                (RequestedReviewer::User(login), None)
                    if login.eq_ignore_ascii_case(&request.author) => {}
                _ => asked.push(reviewer),
            }
        }
        if asked.is_empty() {
            return Ok(unasked);
        }
        let number = request.number.to_string();
        let url = self.repo(&["pulls", &number, "requested_reviewers"], &[]);
        match common::request_reviews(&self.api, url.clone(), &asked).await {
            Ok(()) => return Ok(unasked),
            // A single invalid reviewer fails all: request them one by one, and report that one.
            Err(error) if matches!(error.problem, ForgeProblem::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        asked.sort_by_key(|reviewer| matches!(reviewer, RequestedReviewer::Team { .. }));
        for reviewer in asked {
            match common::request_reviews(&self.api, url.clone(), &[reviewer]).await {
                Ok(()) => {}
                Err(ForgeError {
                    problem: ForgeProblem::Refused { message, .. },
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
        let list = List::all(
            ForgeOperation::Comment,
            self.repo(&["issues", &number, "comments"], &[("per_page", "100")]),
            &line,
        );
        let keep = |comment: GithubComment| {
            let login = comment.user.map(|user| user.login).unwrap_or_default();
            let body = comment.body.filter(|body| body.starts_with(&line));
            body.map(|body| MarkedComment {
                id: comment.id,
                login,
                body,
            })
            .into()
        };
        let found = self.api.pages(&list, keep).await?;
        let thread = CommentThread {
            post: self.repo(&["issues", &number, "comments"], &[]),
            edit: |id: u64| self.repo(&["issues", "comments", &id.to_string()], &[]),
            edit_method: Method::PATCH,
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

    async fn wants_newest(&self, base: &str) -> Result<bool, ForgeError> {
        Ok(self.base_wants(base).await?.newest)
    }

    async fn checks(&self, request: &PullRequest) -> Result<Checks, ForgeError> {
        self.read_checks(request).await
    }

    async fn approvals(&self, request: &PullRequest) -> Result<Approvals, ForgeError> {
        self.read_approvals(request).await
    }

    async fn merge(&self, number: u64, merge: &MergeCommand) -> Result<Option<String>, ForgeError> {
        #[derive(Deserialize)]
        struct Merged {
            sha: Option<String>,
        }
        let method = self.method(merge.method).await?;
        let mut body = json!({"sha": merge.head, "merge_method": common::method_name(method)});
        if !merge.title.is_empty() && method != MergeMethod::Rebase {
            body["commit_title"] = json!(merge.title);
            body["commit_message"] = json!(merge.message);
        }
        let call = ApiCall::once(
            ForgeOperation::Merge,
            Method::PUT,
            self.repo(&["pulls", &number.to_string(), "merge"], &[]),
            body,
        );
        match self.api.json::<Merged>(&call).await {
            Ok(merged) => Ok(merged.sha),
            Err(mut error) => {
                error.problem = match error.problem {
                    // Another merge happened at the same moment.
                    ForgeProblem::Status {
                        status: 405,
                        message,
                    } if message
                        .as_deref()
                        .is_some_and(|text| text.contains("Base branch was modified")) =>
                    {
                        ForgeProblem::NotYet { message }
                    }
                    ForgeProblem::Status {
                        status: 405,
                        message,
                    } => ForgeProblem::NotMergeable { message },
                    ForgeProblem::Refused {
                        status: 409,
                        message,
                    } => ForgeProblem::HeadChanged { message },
                    other => other,
                };
                common::merged_after_all(self, number, merge, error).await
            }
        }
    }

    fn auto_merge_keeps_head(&self) -> bool {
        // A push by a user with write access keeps it on.
        false
    }

    async fn merge_when_ready(
        &self,
        request: &PullRequest,
        merge: &MergeCommand,
    ) -> Result<(), ForgeError> {
        let method = self.method(merge.method).await?;
        let mut input = json!({
            "pullRequestId": request.id,
            "mergeMethod": common::method_name(method).to_ascii_uppercase(),
            "expectedHeadOid": merge.head,
        });
        if !merge.title.is_empty() && method != MergeMethod::Rebase {
            input["commitHeadline"] = json!(merge.title);
            input["commitBody"] = json!(merge.message);
        }
        let query = "mutation($input: EnablePullRequestAutoMergeInput!) { enablePullRequestAutoMerge(input: $input) { clientMutationId } }";
        match self
            .graphql(ForgeOperation::AutoMerge, query, json!({"input": input}))
            .await
        {
            // Nothing left to wait for: GitHub expects an immediate merge instead.
            Err(error) if error.is_refused(422, "clean status") => {
                self.merge(request.number, merge).await.map(drop)
            }
            Err(error)
                if error.is_refused(422, "uto merge is not allowed")
                    || error.is_refused(422, "uto-merge is not allowed") =>
            {
                let why = "\"Allow auto-merge\" is off in the repository's settings";
                Err(ForgeError {
                    problem: ForgeProblem::Unsupported(why.to_owned()),
                    ..error
                })
            }
            other => other.map(drop),
        }
    }

    async fn cancel_merge(&self, request: &PullRequest) -> Result<(), ForgeError> {
        let query = "mutation($input: DisablePullRequestAutoMergeInput!) { disablePullRequestAutoMerge(input: $input) { clientMutationId } }";
        match self
            .graphql(
                ForgeOperation::AutoMerge,
                query,
                json!({"input": {"pullRequestId": request.id}}),
            )
            .await
        {
            Err(error) if error.is_refused(422, "Can't disable auto-merge") => Ok(()),
            other => other.map(drop),
        }
    }

    async fn close(&self, number: u64) -> Result<(), ForgeError> {
        self.edit(number, json!({"state": "closed"})).await
    }

    async fn delete_branch(&self, branch: &str) -> Result<bool, ForgeError> {
        let segments: Vec<&str> = ["git", "refs", "heads"]
            .into_iter()
            .chain(branch.split('/'))
            .collect();
        let url = self.repo(&segments, &[]);
        let deleted = self
            .api
            .apply(ForgeOperation::Branch, Method::DELETE, url, None);
        common::deleted(deleted.await, |error| {
            error.is_refused(422, "Reference does not exist")
        })
    }

    async fn set_status(&self, commit: &str, status: &CommitStatus) -> Result<(), ForgeError> {
        let body = common::status_fields(status, "context", "failure", LIMITS.status);
        let url = self.repo(&["statuses", commit], &[]);
        // The last of one context counts, so that twice is as good as once.
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
