//! GitHub: what changes something. github.com and Enterprise differ in their addresses only.

use super::{
    Approvals, Change, Checks, Commented, Forge, ForgeError, Label, Limits, Listed, Merge,
    NewRequest, Opened, Operation, Problem, Release, Request, Reviewer, Status, StatusState,
    Unasked, Which, alike,
    api::{Api, Call, List},
    github_read::{Pull, User},
    marker_line,
    own::{Calls, Written},
    page,
    words::cut,
};
use crate::declare::{self, MergeMethod};
use async_trait::async_trait;
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// GitHub refuses longer texts: "body is too long (maximum is 65536 characters)".
const LIMITS: Limits = Limits {
    title: 256,
    body: 65_536,
    comment: 65_536,
    status: 140,
};
/// Where GraphQL says that a limit was met, it says no time; its budget is of an hour.
const GRAPHQL_WAIT: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Github {
    pub(super) api: Api,
    pub(super) place: declare::Forge,
}

#[derive(Deserialize)]
struct Comment {
    id: u64,
    body: Option<String>,
    user: Option<User>,
}

#[derive(Deserialize)]
struct Methods {
    #[serde(default)]
    allow_merge_commit: Option<bool>,
    #[serde(default)]
    allow_squash_merge: Option<bool>,
    #[serde(default)]
    allow_rebase_merge: Option<bool>,
}

impl Github {
    pub(super) fn new(api: Api, place: declare::Forge) -> Self {
        Self { api, place }
    }

    /// The declared method, or the first that the repository allows.
    async fn method(&self, declared: Option<MergeMethod>) -> Result<MergeMethod, ForgeError> {
        if let Some(method) = declared {
            return Ok(method);
        }
        let read = self
            .api
            .get::<Methods>(Operation::Settings, self.repo(&[], &[]));
        let methods = self.api.standing.once("repository", read).await?;
        let all = [
            (methods.allow_merge_commit, MergeMethod::Merge),
            (methods.allow_squash_merge, MergeMethod::Squash),
            (methods.allow_rebase_merge, MergeMethod::Rebase),
        ];
        // Who may not push is not told; then GitHub says what it does not want.
        Ok(all
            .into_iter()
            .find(|(allowed, _)| *allowed == Some(true))
            .map_or(MergeMethod::Merge, |(_, method)| method))
    }

    /// Asks GraphQL; gives the data.
    pub(super) async fn graphql(
        &self,
        operation: Operation,
        query: &str,
        variables: Value,
    ) -> Result<Value, ForgeError> {
        let mut url: Url = self.api.base().clone();
        let path = url
            .path()
            .trim_end_matches('/')
            .trim_end_matches("/v3")
            .to_owned();
        url.set_path(&format!("{path}/graphql"));
        let call = Call::again(
            operation,
            Method::POST,
            url,
            json!({"query": query, "variables": variables}),
        );
        let mut answer: Value = self.api.json(&call).await?;
        let Some(error) = answer["errors"]
            .as_array()
            .and_then(|errors| errors.first())
        else {
            return Ok(answer["data"].take());
        };
        let said = error["message"]
            .as_str()
            .unwrap_or_default()
            .chars()
            .take(300)
            .collect::<String>();
        let message = Some(said.clone());
        let problem = match error["type"].as_str() {
            Some("RATE_LIMITED") => {
                self.api.park(GRAPHQL_WAIT);
                Problem::Throttled {
                    retry_after: GRAPHQL_WAIT,
                }
            }
            Some("FORBIDDEN" | "INSUFFICIENT_SCOPES") => Problem::Forbidden { message },
            Some("NOT_FOUND") => Problem::NotFound { message },
            _ if said.to_ascii_lowercase().contains("head sha")
                || said.contains("expectedHeadOid") =>
            {
                Problem::HeadChanged { message }
            }
            _ => Problem::Refused {
                status: 422,
                message,
            },
        };
        Err(self.api.error(operation, problem))
    }

    /// By what login comments are signed; REST does not tell it to an App's installation.
    async fn own_login(&self) -> Result<String, ForgeError> {
        let data = self
            .graphql(Operation::SignIn, "query { viewer { login } }", json!({}))
            .await?;
        Ok(data["viewer"]["login"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }

    /// Makes a label if it is missing.
    async fn make_label(&self, label: &Label) -> Result<(), ForgeError> {
        if self
            .api
            .find::<Value>(Operation::Label, self.repo(&["labels", &label.name], &[]))
            .await?
            .is_some()
        {
            return Ok(());
        }
        let body = json!({"name": label.name, "color": label.color, "description": cut(&label.description, 100)});
        let call = Call::again(
            Operation::Label,
            Method::POST,
            self.repo(&["labels"], &[]),
            body,
        );
        match self.api.send(&call).await {
            // Somebody else made it meanwhile.
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
        let call = Call::again(
            Operation::Reviewers,
            Method::POST,
            self.repo(&["pulls", number, "requested_reviewers"], &[]),
            body,
        );
        self.api.send(&call).await.map(drop)
    }
}

/// Whether the forge refused with this status and these words.
pub(super) fn is_refused(error: &ForgeError, with: u16, words: &str) -> bool {
    matches!(&error.problem, Problem::Refused { status, message: Some(message) } if *status == with && message.contains(words))
}

#[async_trait]
impl Forge for Github {
    fn place(&self) -> &declare::Forge {
        &self.place
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn calls(&self) -> BTreeMap<Operation, u64> {
        self.api.calls()
    }

    fn commit_url(&self, commit: &str) -> String {
        page(&self.place, &["commit", commit])
    }

    async fn look(&self, which: Which, prefix: &str) -> Result<Listed, ForgeError> {
        self.list_requests(which, prefix).await
    }

    async fn find(&self, head: &str) -> Result<Option<Request>, ForgeError> {
        self.find_request(head).await
    }

    async fn get(&self, number: u64) -> Result<Request, ForgeError> {
        self.get_request(number).await
    }

    async fn open(&self, new: &NewRequest) -> Result<Opened, ForgeError> {
        let body = json!({
            "title": cut(&new.title, LIMITS.title),
            "head": new.head,
            "base": new.base,
            "body": new.body,
            "draft": new.draft,
            "maintainer_can_modify": false,
        });
        let call = Call::once(
            Operation::Open,
            Method::POST,
            self.repo(&["pulls"], &[]),
            body,
        );
        let request = |pull: Pull| {
            pull.request(&self.place.project)
                .ok_or_else(|| self.api.foreign(Operation::Open))
        };
        let answer = self.api.json(&call).await.and_then(request);
        alike::opened(self, new, answer, |error| {
            is_refused(error, 422, "already exists")
        })
        .await
    }

    async fn update(&self, request: &Request, change: &Change) -> Result<(), ForgeError> {
        let Some(body) = alike::changed(change, "body", |title| cut(title, LIMITS.title)) else {
            return Ok(());
        };
        let url = self.repo(&["pulls", &request.number.to_string()], &[]);
        self.api
            .send(&Call::again(Operation::Change, Method::PATCH, url, body))
            .await
            .map(drop)
    }

    async fn label(&self, number: u64, add: &[Label], remove: &[&str]) -> Result<(), ForgeError> {
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
                .send(&Call::again(
                    Operation::Label,
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
                .send(&Call::again(Operation::Label, Method::DELETE, url, None))
                .await
            {
                // "Label does not exist", as wanted. A missing request says otherwise.
                Err(ForgeError {
                    problem:
                        Problem::NotFound {
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
        request: &Request,
        reviewers: &[Reviewer],
    ) -> Result<Vec<Unasked>, ForgeError> {
        let own = self.place.project.split('/').next().unwrap_or_default();
        let (mut users, mut teams, mut unasked) = (Vec::new(), Vec::new(), Vec::new());
        for reviewer in reviewers {
            match reviewer {
                Reviewer::User(login) if login.eq_ignore_ascii_case(&request.author) => {}
                Reviewer::User(login) => users.push((login.as_str(), reviewer)),
                Reviewer::Team { owner, name }
                    if owner
                        .as_deref()
                        .is_none_or(|owner| owner.eq_ignore_ascii_case(own)) =>
                {
                    teams.push((name.as_str(), reviewer));
                }
                Reviewer::Team { .. } => {
                    unasked.push(Unasked {
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
            // One who may not be asked fails all: ask one by one, and name that one.
            Err(error) if matches!(error.problem, Problem::Refused { .. }) => {}
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
                    problem: Problem::Refused { message, .. },
                    ..
                }) => {
                    unasked.push(Unasked {
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
        request: &Request,
        marker: &str,
        text: &str,
    ) -> Result<Commented, ForgeError> {
        let number = request.number.to_string();
        let (line, op) = (marker_line(marker), Operation::Comment);
        let text = cut(&format!("{line}\n{text}"), LIMITS.comment);
        let list = List::all(
            op,
            self.repo(&["issues", &number, "comments"], &[("per_page", "100")]),
            &line,
        );
        let keep = |comment: Comment| {
            let (id, login) = (
                comment.id,
                comment.user.map(|user| user.login).unwrap_or_default(),
            );
            comment
                .body
                .filter(|body| body.starts_with(&line))
                .map(|body| Written { id, login, body })
                .into()
        };
        let found = self.api.pages(&list, keep).await?;
        let change = |id: u64| {
            Call::again(
                op,
                Method::PATCH,
                self.repo(&["issues", "comments", &id.to_string()], &[]),
                json!({"body": text}),
            )
        };
        let make = Call::once(
            op,
            Method::POST,
            self.repo(&["issues", &number, "comments"], &[]),
            json!({"body": text}),
        );
        Box::pin(self.api.keep_comment(
            found,
            &request.author,
            &text,
            Calls { change, make },
            self.own_login(),
        ))
        .await
    }

    async fn wants_newest(&self, base: &str) -> Result<bool, ForgeError> {
        Ok(self.base_wants(base).await?.newest)
    }

    async fn checks(&self, request: &Request) -> Result<Checks, ForgeError> {
        self.read_checks(request).await
    }

    async fn approvals(&self, request: &Request) -> Result<Approvals, ForgeError> {
        self.read_approvals(request).await
    }

    async fn merge(&self, number: u64, merge: &Merge) -> Result<Option<String>, ForgeError> {
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
        let call = Call::once(
            Operation::Merge,
            Method::PUT,
            self.repo(&["pulls", &number.to_string(), "merge"], &[]),
            body,
        );
        match self.api.json::<Merged>(&call).await {
            Ok(merged) => Ok(merged.sha),
            Err(mut error) => {
                error.problem = match error.problem {
                    // Somebody else merged at the same moment.
                    Problem::Status {
                        status: 405,
                        message,
                    } if message
                        .as_deref()
                        .is_some_and(|text| text.contains("Base branch was modified")) =>
                    {
                        Problem::NotYet { message }
                    }
                    Problem::Status {
                        status: 405,
                        message,
                    } => Problem::NotMergeable { message },
                    Problem::Refused {
                        status: 409,
                        message,
                    } => Problem::HeadChanged { message },
                    other => other,
                };
                super::words::merged_after_all(self, number, merge, error).await
            }
        }
    }

    fn auto_merge_keeps_head(&self) -> bool {
        // A push by somebody who may write leaves it on.
        false
    }

    async fn merge_when_ready(&self, request: &Request, merge: &Merge) -> Result<(), ForgeError> {
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
            .graphql(Operation::AutoMerge, query, json!({"input": input}))
            .await
        {
            // Nothing is left to wait for: GitHub wants to be asked for the merge itself.
            Err(error) if is_refused(&error, 422, "clean status") => {
                self.merge(request.number, merge).await.map(drop)
            }
            Err(error)
                if is_refused(&error, 422, "uto merge is not allowed")
                    || is_refused(&error, 422, "uto-merge is not allowed") =>
            {
                let why = "\"Allow auto-merge\" is off in the repository's settings";
                Err(ForgeError {
                    problem: Problem::Unsupported(why.to_owned()),
                    ..error
                })
            }
            other => other.map(drop),
        }
    }

    async fn cancel_merge(&self, request: &Request) -> Result<(), ForgeError> {
        let query = "mutation($input: DisablePullRequestAutoMergeInput!) { disablePullRequestAutoMerge(input: $input) { clientMutationId } }";
        match self
            .graphql(
                Operation::AutoMerge,
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
            .send(&Call::again(
                Operation::Change,
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
            .send(&Call::again(
                Operation::Branch,
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

    async fn set_status(&self, commit: &str, status: &Status) -> Result<(), ForgeError> {
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
            .send(&Call::again(
                Operation::Status,
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
    ) -> Result<Vec<Release>, ForgeError> {
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
