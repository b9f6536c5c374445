//! Steps that all forges share.

use super::{
    CommitStatus, Forge, ForgeError, ForgeOperation, ForgeProblem, MergeCommand, NewRequest,
    OpenedRequest, PullRequest, RequestPatch, RequestStatus, RequestedReviewer, StatusState,
    UnrequestedReview,
    api::{ApiCall, ForgeApi},
};
use crate::{core::text::plain, review::types::cut, spec::MergeMethod};
use reqwest::{Method, Url};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

impl ForgeApi {
    /// A request whose head is not in the repository is none of ours.
    pub(crate) fn foreign(&self, operation: ForgeOperation) -> ForgeError {
        self.error(
            operation,
            ForgeProblem::Unsupported("the request comes from a fork".to_owned()),
        )
    }
}

/// Opens a pull request with `body`; or finds the open one of this head branch, if the forge says
/// that it `exists` or if only the response was lost. `read` returns none for one from a fork.
pub(crate) async fn open<T: DeserializeOwned>(
    forge: &dyn Forge,
    api: &ForgeApi,
    new: &NewRequest,
    (url, body): (Url, Value),
    read: impl FnOnce(T) -> Option<PullRequest>,
    exists: fn(&ForgeError) -> bool,
) -> Result<OpenedRequest, ForgeError> {
    let operation = ForgeOperation::Open;
    let call = ApiCall::once(operation, Method::POST, url, body);
    let opened = api
        .json(&call)
        .await
        .and_then(|made| read(made).ok_or_else(|| api.foreign(operation)));
    let error = match opened {
        Ok(request) => {
            return Ok(OpenedRequest {
                request,
                found: false,
            });
        }
        Err(error) if error.problem.is_open() || exists(&error) => error,
        Err(error) => return Err(error),
    };
    match forge.find(&new.head).await? {
        Some(request) if request.state == RequestStatus::Open && request.base == new.base => {
            Ok(OpenedRequest {
                request,
                found: true,
            })
        }
        _ => Err(error),
    }
}

/// The fields of a request that change, with the forge's name of the text and the title as it
/// writes it; none if none does.
pub(crate) fn changed(
    change: &RequestPatch,
    body: &str,
    title: impl FnOnce(&str) -> String,
) -> Option<Value> {
    let mut fields = Map::new();
    fields.extend(
        change
            .title
            .as_ref()
            .map(|text| ("title".to_owned(), json!(title(text)))),
    );
    fields.extend(
        change
            .body
            .as_ref()
            .map(|text| (body.to_owned(), json!(text))),
    );
    (!fields.is_empty()).then_some(Value::Object(fields))
}

/// Resolves a merge that failed or whose answer was lost.
///
/// Returns the commit if the verified head was merged after all; else the error, which says so if
/// the head has changed.
pub(crate) async fn merged_after_all(
    forge: &dyn Forge,
    number: u64,
    merge: &MergeCommand,
    mut error: ForgeError,
) -> Result<Option<String>, ForgeError> {
    let unclear = error.problem.is_open();
    if !unclear
        && !error.problem.is_unmerged()
        && !matches!(error.problem, ForgeProblem::Refused { .. })
    {
        return Err(error);
    }
    // If it cannot be read, the error of the merge is all that is known.
    let Ok(request) = forge.get(number).await else {
        return Err(error);
    };
    if request.state == RequestStatus::Merged && request.head_commit == merge.head {
        return Ok(request.ended.and_then(|ended| ended.commit));
    }
    if request.state == RequestStatus::Open && request.head_commit != merge.head {
        error.problem = ForgeProblem::HeadChanged { message: None };
    }
    Err(error)
}

/// Returns the title of a pull request; GitLab and Gitea mark a draft by a prefix.
pub(crate) fn draft_title(prefix: &str, title: &str, draft: bool, limit: usize) -> String {
    let prefix = if draft { prefix } else { "" };
    cut(&format!("{prefix}{title}"), limit)
}

/// Makes a label with `body`, if there is none at `label` yet.
pub(crate) async fn make_label(
    api: &ForgeApi,
    label: Url,
    (labels, body): (Url, Value),
    exists: fn(&ForgeError) -> bool,
) -> Result<(), ForgeError> {
    let operation = ForgeOperation::Label;
    if api.find::<Value>(operation, label).await?.is_some() {
        return Ok(());
    }
    match api.apply(operation, Method::POST, labels, body).await {
        // Created concurrently.
        Err(error) if exists(&error) => Ok(()),
        other => other,
    }
}

/// Returns why a team cannot be asked, if it belongs to another owner than the repository.
pub(crate) fn foreign_team(reviewer: &RequestedReviewer, own: &str) -> Option<UnrequestedReview> {
    match reviewer {
        RequestedReviewer::Team {
            owner: Some(owner), ..
        } if !owner.eq_ignore_ascii_case(own) => Some(UnrequestedReview {
            reviewer: reviewer.clone(),
            why: format!("the team is not of {own}, whose repository it is"),
        }),
        _ => None,
    }
}

/// Requests reviews, on GitHub and Gitea. A single invalid reviewer fails all.
pub(crate) async fn request_reviews(
    api: &ForgeApi,
    url: Url,
    reviewers: &[&RequestedReviewer],
) -> Result<(), ForgeError> {
    let (mut users, mut teams) = (Vec::new(), Vec::new());
    for reviewer in reviewers {
        match reviewer {
            RequestedReviewer::User(login) => users.push(login),
            RequestedReviewer::Team { name, .. } => teams.push(name),
        }
    }
    let body = json!({"reviewers": users, "team_reviewers": teams});
    api.apply(ForgeOperation::Reviewers, Method::POST, url, body)
        .await
}

/// A reviewer whom the forge refused.
pub(crate) fn refused_reviewer(
    reviewer: &RequestedReviewer,
    message: Option<String>,
) -> UnrequestedReview {
    UnrequestedReview {
        reviewer: reviewer.clone(),
        why: message.unwrap_or_else(|| "refused".to_owned()),
    }
}

/// The fields of a commit status. `context` is the forge's name of that field, `failure` its word
/// for that state.
pub(crate) fn status_fields(
    status: &CommitStatus,
    context: &str,
    failure: &str,
    limit: usize,
) -> Value {
    let state = match status.state {
        StatusState::Pending => "pending",
        StatusState::Success => "success",
        StatusState::Failure => failure,
    };
    let mut body = json!({
        "state": state,
        context: status.context,
        "description": cut(&plain(&status.description), limit),
    });
    if let Some(url) = &status.url {
        body["target_url"] = json!(url);
    }
    body
}

/// Returns whether a deletion found its object.
pub(crate) fn deleted(
    deletion: Result<(), ForgeError>,
    is_missing: impl FnOnce(&ForgeError) -> bool,
) -> Result<bool, ForgeError> {
    match deletion {
        Ok(()) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The word of the APIs for a merge method.
pub(crate) fn method_name(method: MergeMethod) -> &'static str {
    match method {
        MergeMethod::Merge => "merge",
        MergeMethod::Squash => "squash",
        MergeMethod::Rebase => "rebase",
    }
}
