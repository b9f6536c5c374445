//! Gitea and Forgejo: what changes something.

use super::{
    Approvals, Change, Checks, Commented, Forge, ForgeError, Label, Limits, Listed, Merge,
    NewRequest, Opened, Operation, Problem, Release, Request, Reviewer, State, Status, StatusState,
    Unasked, Which, alike,
    api::{Api, Call, List},
    gitea_read::{DRAFT, PAGE, Pull, User},
    marker_line,
    own::{Calls, Written},
    page,
    words::cut,
};
use crate::declare::{self, MergeMethod};
use async_trait::async_trait;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// A title has a column of 255 characters; texts have no limit of Gitea's own, so ours is what
/// people still read.
const LIMITS: Limits = Limits {
    title: 255,
    body: 262_144,
    comment: 262_144,
    status: 255,
};

/// How often a merge is tried while Gitea looks for conflicts: some eight seconds.
const LOOKS: u32 = 5;

/// The labels of the repository, as they are called among what is asked once.
const LABELS: &str = "labels";

/// Labels by name, with their ids.
type Labels = Vec<(String, u64)>;

/// Gitea's words while it is still looking for conflicts.
const BUSY: &str = "try again later";

#[derive(Debug)]
pub(super) struct Gitea {
    pub(super) api: Api,
    pub(super) place: declare::Forge,
}

#[derive(Deserialize)]
struct LabelShape {
    id: u64,
    name: String,
}

#[derive(Deserialize)]
struct Comment {
    id: u64,
    #[serde(default)]
    body: String,
    user: Option<User>,
}

#[derive(Deserialize)]
struct Repository {
    default_merge_style: Option<String>,
}

impl Gitea {
    pub(super) fn new(api: Api, place: declare::Forge) -> Self {
        Self { api, place }
    }

    fn owner(&self) -> &str {
        self.place.project.split('/').next().unwrap_or_default()
    }

    /// The declared way to merge, or the repository's.
    async fn method(&self, declared: Option<MergeMethod>) -> Result<String, ForgeError> {
        Ok(match declared {
            Some(MergeMethod::Merge) => "merge".to_owned(),
            Some(MergeMethod::Squash) => "squash".to_owned(),
            Some(MergeMethod::Rebase) => "rebase".to_owned(),
            None => {
                let read = self
                    .api
                    .get::<Repository>(Operation::Settings, self.repo(&[], &[]));
                let repository = self.api.standing.once("repository", read).await?;
                repository
                    .default_merge_style
                    .clone()
                    .filter(|style| !style.is_empty())
                    .unwrap_or_else(|| "merge".to_owned())
            }
        })
    }

    async fn send_merge(
        &self,
        operation: Operation,
        number: u64,
        merge: &Merge,
        later: bool,
    ) -> Result<(), ForgeError> {
        let body = json!({
            "Do": self.method(merge.method).await?,
            "head_commit_id": merge.head,
            "MergeTitleField": merge.title,
            "MergeMessageField": merge.message,
            "delete_branch_after_merge": merge.delete_branch,
            "merge_when_checks_succeed": later,
        });
        let call = Call::once(
            operation,
            Method::POST,
            self.repo(&["pulls", &number.to_string(), "merge"], &[]),
            body,
        );
        let mut tries = 0;
        let answer = loop {
            match self.api.send(&call).await {
                // After each push to head or base it looks for conflicts, for a moment.
                Err(error) if is_busy(&error) && tries < LOOKS => {
                    tries += 1;
                    self.api.pause(tries).await;
                }
                other => break other,
            }
        };
        answer.map(drop).map_err(|mut error| {
            error.problem = match error.problem {
                Problem::Status {
                    status: 405,
                    message,
                } => match message.as_deref() {
                    Some(text) if text.contains(BUSY) => Problem::NotYet { message },
                    Some(text) if text.contains("behind the base branch") => {
                        Problem::Behind { message }
                    }
                    _ => Problem::NotMergeable { message },
                },
                Problem::Refused {
                    status: 409,
                    message,
                } if message
                    .as_deref()
                    .is_some_and(|text| text.contains("head out of date")) =>
                {
                    Problem::HeadChanged { message }
                }
                Problem::Refused {
                    status: 409,
                    message,
                } if !later => Problem::NotMergeable { message },
                other => other,
            };
            error
        })
    }

    /// The labels of the repository; with all of these, if they are there at all.
    async fn known_labels(&self, names: &[&str]) -> Result<Arc<Labels>, ForgeError> {
        let lacks = |known: &Labels| names.iter().any(|name| id_of(known, name).is_none());
        let known = self.api.standing.once(LABELS, self.labels()).await?;
        if !lacks(&known) {
            return Ok(known);
        }
        // Somebody may have made them since.
        self.api.standing.forget(LABELS).await;
        self.api.standing.once(LABELS, self.labels()).await
    }

    async fn labels(&self) -> Result<Labels, ForgeError> {
        let keep = |label: LabelShape| Some((label.name, label.id)).into();
        self.api
            .pages(
                &List::all(Operation::Label, self.repo(&["labels"], &[PAGE]), ""),
                keep,
            )
            .await
    }

    async fn organisation_labels(&self) -> Result<Labels, ForgeError> {
        let url = self.api.url(["orgs", self.owner(), "labels"], &[PAGE]);
        let keep = |label: LabelShape| Some((label.name, label.id)).into();
        match self
            .api
            .pages(&List::all(Operation::Label, url, ""), keep)
            .await
        {
            Ok(labels) => Ok(labels),
            // The owner is a user, or the token may not look at organisations: then a label of the
            // repository is made.
            Err(error)
                if matches!(
                    error.problem,
                    Problem::NotFound { .. } | Problem::Forbidden { .. }
                ) =>
            {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    async fn make_label(&self, label: &Label) -> Result<u64, ForgeError> {
        let body = json!({"name": label.name, "color": format!("#{}", label.color), "description": label.description});
        // Gitea would make a second one of the same name.
        let call = Call::once(
            Operation::Label,
            Method::POST,
            self.repo(&["labels"], &[]),
            body,
        );
        let made = self.api.json::<LabelShape>(&call).await?.id;
        self.api.standing.forget(LABELS).await;
        Ok(made)
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

    async fn edit(&self, number: u64, body: Value) -> Result<(), ForgeError> {
        let url = self.repo(&["pulls", &number.to_string()], &[]);
        self.api
            .send(&Call::again(Operation::Change, Method::PATCH, url, body))
            .await
            .map(drop)
    }
}

/// Whether Gitea did nothing because it is still looking for conflicts.
fn is_busy(error: &ForgeError) -> bool {
    matches!(&error.problem, Problem::Status { status: 405, message: Some(text) } if text.contains(BUSY))
}

fn titled(title: &str, draft: bool) -> String {
    cut(
        &if draft {
            format!("{DRAFT}{title}")
        } else {
            title.to_owned()
        },
        LIMITS.title,
    )
}

fn id_of(labels: &Labels, name: &str) -> Option<u64> {
    labels
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, id)| *id)
}

#[async_trait]
impl Forge for Gitea {
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
        let body = json!({"head": new.head, "base": new.base, "title": titled(&new.title, new.draft), "body": new.body});
        let call = Call::once(
            Operation::Open,
            Method::POST,
            self.repo(&["pulls"], &[]),
            body,
        );
        let request = |pull: Pull| {
            pull.request()
                .ok_or_else(|| self.api.foreign(Operation::Open))
        };
        let answer = self.api.json(&call).await.and_then(request);
        alike::opened(self, new, answer, |error| {
            matches!(error.problem, Problem::Refused { status: 409, .. })
        })
        .await
    }

    async fn update(&self, request: &Request, change: &Change) -> Result<(), ForgeError> {
        match alike::changed(change, "body", |title| titled(title, request.draft)) {
            Some(body) => self.edit(request.number, body).await,
            None => Ok(()),
        }
    }

    async fn label(&self, number: u64, add: &[Label], remove: &[&str]) -> Result<(), ForgeError> {
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
                    .standing
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
                self.api
                    .send(&Call::again(
                        Operation::Label,
                        Method::POST,
                        url,
                        json!({"labels": ids}),
                    ))
                    .await?;
            }
            // A label that the repository does not have is on no request.
            for id in remove.iter().filter_map(|name| id_of(name)) {
                let url = self.repo(&["issues", &number, "labels", &id.to_string()], &[]);
                self.api
                    .send(&Call::again(Operation::Label, Method::DELETE, url, None))
                    .await?;
            }
            Ok(())
        };
        let sent = sent.await;
        if sent.is_err() {
            // One of them may be another one of the same name by now.
            self.api.standing.clear().await;
        }
        sent
    }

    async fn ask_reviews(
        &self,
        request: &Request,
        reviewers: &[Reviewer],
    ) -> Result<Vec<Unasked>, ForgeError> {
        let number = request.number.to_string();
        let mut unasked = Vec::new();
        // One by one: one who may not be asked would fail all.
        for reviewer in reviewers {
            let asked = match reviewer {
                Reviewer::User(login) if login.eq_ignore_ascii_case(&request.author) => continue,
                Reviewer::User(login) => self.request_reviews(&number, &[login], &[]).await,
                Reviewer::Team { owner, name }
                    if owner
                        .as_deref()
                        .is_none_or(|owner| owner.eq_ignore_ascii_case(self.owner())) =>
                {
                    self.request_reviews(&number, &[], &[name]).await
                }
                Reviewer::Team { .. } => {
                    let why = format!(
                        "the team is not of {}, whose repository it is",
                        self.owner()
                    );
                    unasked.push(Unasked {
                        reviewer: reviewer.clone(),
                        why,
                    });
                    continue;
                }
            };
            match asked {
                Ok(()) => {}
                Err(ForgeError {
                    problem: Problem::Refused { message, .. } | Problem::NotFound { message },
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
        let url = self.repo(&["issues", &number, "comments"], &[]);
        let comments: Vec<Comment> = self.api.get(op, url.clone()).await?;
        let marked = comments
            .into_iter()
            .filter(|comment| comment.body.starts_with(&line))
            .map(|comment| {
                let login = comment.user.map(|user| user.login).unwrap_or_default();
                Written {
                    id: comment.id,
                    login,
                    body: comment.body,
                }
            });
        let change = |id: u64| {
            Call::again(
                op,
                Method::PATCH,
                self.repo(&["issues", "comments", &id.to_string()], &[]),
                json!({"body": text}),
            )
        };
        let make = Call::once(op, Method::POST, url, json!({"body": text}));
        let own = async {
            Ok(self
                .api
                .get::<User>(Operation::SignIn, self.api.url(["user"], &[]))
                .await?
                .login)
        };
        Box::pin(self.api.keep_comment(
            marked.collect(),
            &request.author,
            &text,
            Calls { change, make },
            own,
        ))
        .await
    }

    async fn wants_newest(&self, base: &str) -> Result<bool, ForgeError> {
        self.wants_newest_commit(base).await
    }

    async fn checks(&self, request: &Request) -> Result<Checks, ForgeError> {
        self.read_checks(request).await
    }

    async fn approvals(&self, request: &Request) -> Result<Approvals, ForgeError> {
        self.read_approvals(request).await
    }

    async fn merge(&self, number: u64, merge: &Merge) -> Result<Option<String>, ForgeError> {
        match self
            .send_merge(Operation::Merge, number, merge, false)
            .await
        {
            // The answer is empty. That the commit cannot be read now is no failure of the merge.
            Ok(()) => Ok(self
                .get_request(number)
                .await
                .ok()
                .and_then(|request| request.ended)
                .and_then(|ended| ended.commit)),
            Err(error) => super::words::merged_after_all(self, number, merge, error).await,
        }
    }

    fn auto_merge_keeps_head(&self) -> bool {
        false
    }

    async fn merge_when_ready(&self, request: &Request, merge: &Merge) -> Result<(), ForgeError> {
        // Gitea looks at the head only when it merges at once, not when it is told to do so later:
        // look before.
        let changed =
            |request: &Request| request.state == State::Open && request.head_commit != merge.head;
        let error = || {
            self.api
                .error(Operation::AutoMerge, Problem::HeadChanged { message: None })
        };
        if changed(&self.get_request(request.number).await?) {
            return Err(error());
        }
        match self
            .send_merge(Operation::AutoMerge, request.number, merge, true)
            .await
        {
            // It was told so before.
            Err(ForgeError {
                problem:
                    Problem::Refused {
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

    async fn cancel_merge(&self, request: &Request) -> Result<(), ForgeError> {
        let url = self.repo(&["pulls", &request.number.to_string(), "merge"], &[]);
        match self
            .api
            .send(&Call::again(
                Operation::AutoMerge,
                Method::DELETE,
                url,
                None,
            ))
            .await
        {
            Err(ForgeError {
                problem: Problem::NotFound { .. },
                ..
            }) => Ok(()),
            other => other.map(drop),
        }
    }

    async fn close(&self, number: u64) -> Result<(), ForgeError> {
        self.edit(number, json!({"state": "closed"})).await
    }

    async fn delete_branch(&self, branch: &str) -> Result<bool, ForgeError> {
        match self
            .api
            .send(&Call::again(
                Operation::Branch,
                Method::DELETE,
                self.repo(&["branches", branch], &[]),
                None,
            ))
            .await
        {
            Ok(_) => Ok(true),
            Err(ForgeError {
                problem: Problem::NotFound { .. },
                ..
            }) => Ok(false),
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
