//! GitHub: what changes something. github.com and Enterprise differ in their addresses only.

mod dialect;
pub(crate) mod app;
pub(crate) mod read;
mod graphql;

pub(crate) use dialect::DIALECT;

use super::{
    Approvals, Checks, CommentOutcome, CommitStatus, Forge, ForgeError, ForgeOperation,
    ForgeProblem, ForgeRelease, MergeCommand, NewRequest, OpenedRequest, PullRequest,
    RequestFilter, RequestLabel, RequestList, RequestPatch, RequestedReviewer, StatusState,
    TextLimits, UnrequestedReview,
    api::{ApiCall, ForgeApi, List},
    bot_comments::{CommentCalls, MarkedComment},
    common,
    github::read::{GithubPull, GithubUser},
    marker_line, page,
};
use crate::review::types::cut;
use crate::spec::{self, MergeMethod};
use async_trait::async_trait;
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

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
        let methods = self.api.standing.once("repository", read).await?;
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

    /// Makes a label if it is missing.
    async fn make_label(&self, label: &RequestLabel) -> Result<(), ForgeError> {
        if self
            .api
            .find::<Value>(
                ForgeOperation::Label,
                self.repo(&["labels", &label.name], &[]),
            )
            .await?
            .is_some()
        {
            return Ok(());
        }
        let body = json!({"name": label.name, "color": label.color, "description": cut(&label.description, 100)});
        let call = ApiCall::again(
            ForgeOperation::Label,
            Method::POST,
            self.repo(&["labels"], &[]),
            body,
        );
        match self.api.send(&call).await {
            // Created concurrently.
            Err(error) if is_refused(&error, 422, "already_exists") => Ok(()),
            other => other.map(drop),
        }
    }

    async fn request_reviews(
        &self,
        number: &str,
        users: &[&str],
        teams: &[&str],
    ) -> Result<(), ForgeError> {
        let body = json!({"reviewers": users, "team_reviewers": teams});
        let call = ApiCall::again(
            ForgeOperation::Reviewers,
            Method::POST,
            self.repo(&["pulls", number, "requested_reviewers"], &[]),
            body,
        );
        self.api.send(&call).await.map(drop)
    }
}

/// Returns whether the forge refused with this status and message.
pub(crate) fn is_refused(error: &ForgeError, with: u16, words: &str) -> bool {
    matches!(&error.problem, ForgeProblem::Refused { status, message: Some(message) } if *status == with && message.contains(words))
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
        let call = ApiCall::once(
            ForgeOperation::Open,
            Method::POST,
            self.repo(&["pulls"], &[]),
            body,
        );
        let request = |pull: GithubPull| {
            pull.request(&self.place.project)
                .ok_or_else(|| self.api.foreign(ForgeOperation::Open))
        };
        let answer = self.api.json(&call).await.and_then(request);
        common::opened(self, new, answer, |error| {
            is_refused(error, 422, "already exists")
        })
        .await
    }

    async fn update(&self, request: &PullRequest, change: &RequestPatch) -> Result<(), ForgeError> {
        let Some(body) = common::changed(change, "body", |title| cut(title, LIMITS.title)) else {
            return Ok(());
        };
        let url = self.repo(&["pulls", &request.number.to_string()], &[]);
        self.api
            .send(&ApiCall::again(
                ForgeOperation::Change,
                Method::PATCH,
                url,
                body,
            ))
            .await
            .map(drop)
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
                .standing
                .once(&format!("label {}", label.name), self.make_label(label))
                .await?;
        }
        if !add.is_empty() {
            let names: Vec<&str> = add.iter().map(|label| label.name.as_str()).collect();
            let url = self.repo(&["issues", &number, "labels"], &[]);
            self.api
                .send(&ApiCall::again(
                    ForgeOperation::Label,
                    Method::POST,
                    url,
                    json!({"labels": names}),
                ))
                .await?;
        }
        for name in remove {
            let url = self.repo(&["issues", &number, "labels", name], &[]);
            match self
                .api
                .send(&ApiCall::again(
                    ForgeOperation::Label,
                    Method::DELETE,
                    url,
                    None,
                ))
                .await
            {
                // "Label does not exist", as wanted. A missing request says otherwise.
                Err(ForgeError {
                    problem:
                        ForgeProblem::NotFound {
                            message: Some(message),
                        },
                    ..
                }) if message.contains("Label") => {}
                other => drop(other?),
            }
        }
        Ok(())
    }

    async fn ask_reviews(
        &self,
        request: &PullRequest,
        reviewers: &[RequestedReviewer],
    ) -> Result<Vec<UnrequestedReview>, ForgeError> {
        let own = self.place.project.split('/').next().unwrap_or_default();
        let (mut users, mut teams, mut unasked) = (Vec::new(), Vec::new(), Vec::new());
        for reviewer in reviewers {
            match reviewer {
                RequestedReviewer::User(login) if login.eq_ignore_ascii_case(&request.author) => {}
                RequestedReviewer::User(login) => users.push((login.as_str(), reviewer)),
                RequestedReviewer::Team { owner, name }
                    if owner
                        .as_deref()
                        .is_none_or(|owner| owner.eq_ignore_ascii_case(own)) =>
                {
                    teams.push((name.as_str(), reviewer));
                }
                RequestedReviewer::Team { .. } => {
                    unasked.push(UnrequestedReview {
                        reviewer: reviewer.clone(),
                        why: format!("the team is not of {own}, whose repository it is"),
                    });
                }
            }
        }
        if users.is_empty() && teams.is_empty() {
            return Ok(unasked);
        }
        let number = request.number.to_string();
        let user_names: Vec<&str> = users.iter().map(|(name, _)| *name).collect();
        let team_names: Vec<&str> = teams.iter().map(|(name, _)| *name).collect();
        match self
            .request_reviews(&number, &user_names, &team_names)
            .await
        {
            Ok(()) => return Ok(unasked),
            // A single invalid reviewer fails all: request them one by one, and report that one.
            Err(error) if matches!(error.problem, ForgeProblem::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        for (is_team, (name, reviewer)) in users
            .into_iter()
            .map(|user| (false, user))
            .chain(teams.into_iter().map(|team| (true, team)))
        {
            let asked = if is_team {
                self.request_reviews(&number, &[], &[name]).await
            } else {
                self.request_reviews(&number, &[name], &[]).await
            };
            match asked {
                Ok(()) => {}
                Err(ForgeError {
                    problem: ForgeProblem::Refused { message, .. },
                    ..
                }) => {
                    unasked.push(UnrequestedReview {
                        reviewer: reviewer.clone(),
                        why: message.unwrap_or_else(|| "refused".to_owned()),
                    });
                }
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
        let (line, op) = (marker_line(marker), ForgeOperation::Comment);
        let text = cut(&format!("{line}\n{text}"), LIMITS.comment);
        let list = List::all(
            op,
            self.repo(&["issues", &number, "comments"], &[("per_page", "100")]),
            &line,
        );
        let keep = |comment: GithubComment| {
            let (id, login) = (
                comment.id,
                comment.user.map(|user| user.login).unwrap_or_default(),
            );
            comment
                .body
                .filter(|body| body.starts_with(&line))
                .map(|body| MarkedComment { id, login, body })
                .into()
        };
        let found = self.api.pages(&list, keep).await?;
        let change = |id: u64| {
            ApiCall::again(
                op,
                Method::PATCH,
                self.repo(&["issues", "comments", &id.to_string()], &[]),
                json!({"body": text}),
            )
        };
        let make = ApiCall::once(
            op,
            Method::POST,
            self.repo(&["issues", &number, "comments"], &[]),
            json!({"body": text}),
        );
        Box::pin(self.api.keep_comment(
            found,
            &request.author,
            &text,
            CommentCalls { change, make },
            self.own_login(),
        ))
        .await
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
        let mut body = json!({"sha": merge.head, "merge_method": word(method)});
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
            "mergeMethod": word(method).to_ascii_uppercase(),
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
            Err(error) if is_refused(&error, 422, "clean status") => {
                self.merge(request.number, merge).await.map(drop)
            }
            Err(error)
                if is_refused(&error, 422, "uto merge is not allowed")
                    || is_refused(&error, 422, "uto-merge is not allowed") =>
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
            Err(error) if is_refused(&error, 422, "Can't disable auto-merge") => Ok(()),
            other => other.map(drop),
        }
    }

    async fn close(&self, number: u64) -> Result<(), ForgeError> {
        let url = self.repo(&["pulls", &number.to_string()], &[]);
        self.api
            .send(&ApiCall::again(
                ForgeOperation::Change,
                Method::PATCH,
                url,
                json!({"state": "closed"}),
            ))
            .await
            .map(drop)
    }

    async fn delete_branch(&self, branch: &str) -> Result<bool, ForgeError> {
        let segments: Vec<&str> = ["git", "refs", "heads"]
            .into_iter()
            .chain(branch.split('/'))
            .collect();
        match self
            .api
            .send(&ApiCall::again(
                ForgeOperation::Branch,
                Method::DELETE,
                self.repo(&segments, &[]),
                None,
            ))
            .await
        {
            Ok(_) => Ok(true),
            Err(error) if is_refused(&error, 422, "Reference does not exist") => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn set_status(&self, commit: &str, status: &CommitStatus) -> Result<(), ForgeError> {
        let state = match status.state {
            StatusState::Pending => "pending",
            StatusState::Success => "success",
            StatusState::Failure => "failure",
        };
        let mut body = json!({"state": state, "context": status.context, "description": cut(&status.description, LIMITS.status)});
        if let Some(url) = &status.url {
            body["target_url"] = json!(url);
        }
        // The last of one context counts, so that twice is as good as once.
        self.api
            .send(&ApiCall::again(
                ForgeOperation::Status,
                Method::POST,
                self.repo(&["statuses", commit], &[]),
                body,
            ))
            .await
            .map(drop)
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

fn word(method: MergeMethod) -> &'static str {
    match method {
        MergeMethod::Merge => "merge",
        MergeMethod::Squash => "squash",
        MergeMethod::Rebase => "rebase",
    }
}
