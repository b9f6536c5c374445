//! The calls of Gitea's API that are answered; all others are not found.

use super::{
    BOT, ForgeShared,
    book::{ForgeRefusal, PullBook, SandboxComment},
    lock,
};
use crate::core::secret::Secret;
use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::any,
};
use serde_json::{Value, json};
use std::collections::HashMap;

/// The address of the bot's commits that a merge makes.
const ADDRESS: &str = "tagboat@localhost";

pub(super) fn router(shared: ForgeShared, project: &str, token: &Secret) -> Router {
    let wanted = [
        format!("token {}", token.expose()),
        format!("Bearer {}", token.expose()),
    ];
    let check = middleware::from_fn(move |request: Request, next: Next| {
        let known = request
            .headers()
            .get(header::AUTHORIZATION)
            .is_some_and(|sent| wanted.iter().any(|one| sent == one.as_str()));
        async move {
            if known {
                next.run(request).await
            } else {
                refused(&ForgeRefusal(401, "sign in".to_owned()))
            }
        }
    });
    let below = format!("/api/v1/repos/{project}");
    Router::new()
        .route(&below, any(answer))
        .route(&format!("{below}/{{*rest}}"), any(answer))
        .route("/api/v1/user", any(account))
        .route_layer(check)
        .with_state(shared)
}

/// Tells whose the token is, if it has the scope.
async fn account(State(shared): State<ForgeShared>) -> Response {
    match &lock(&shared).account {
        Some(login) => found(json!({"login": login})),
        None => {
            let why = "the token has no scope read:user";
            refused(&ForgeRefusal(403, why.to_owned()))
        }
    }
}

async fn answer(
    State(shared): State<ForgeShared>,
    rest: Option<Path<String>>,
    Query(query): Query<HashMap<String, String>>,
    method: Method,
    bytes: Bytes,
) -> Response {
    let path = rest.map(|Path(rest)| rest).unwrap_or_default();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    // Git works in this thread's time.
    let work = move || {
        let mut book = lock(&shared);
        let segments: Vec<&str> = path.split('/').collect();
        let call = ForgeCall {
            method: &method,
            query: &query,
            body: &body,
        };
        call.route(&mut book, &segments)
    };
    match crate::io::try_blocking(work).await {
        Ok(Ok(response)) => response,
        Ok(Err(refusal)) => refused(&refusal),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn refused(ForgeRefusal(status, why): &ForgeRefusal) -> Response {
    (
        StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        Json(json!({"message": why})),
    )
        .into_response()
}

/// A call of the API.
struct ForgeCall<'a> {
    method: &'a Method,
    query: &'a HashMap<String, String>,
    body: &'a Value,
}

impl ForgeCall<'_> {
    fn route(&self, book: &mut PullBook, segments: &[&str]) -> Result<Response, ForgeRefusal> {
        match (self.method.as_str(), segments) {
            ("GET", [""]) => Ok(found(json!({"default_merge_style": "merge"}))),
            ("GET", ["releases" | "tags"]) => Ok(list(Vec::new(), self.query)),
            (_, ["pulls", rest @ ..]) => self.pulls(book, rest),
            (_, ["issues", rest @ ..]) => self.issues(book, rest),
            (_, ["labels"]) => self.labels(book),
            (_, ["statuses", commit]) => self.statuses(book, commit),
            (_, ["branches", rest @ ..]) => self.branches(book, &rest.join("/")),
            _ => unanswered(),
        }
    }

    fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_default()
    }

    fn pulls(&self, book: &mut PullBook, segments: &[&str]) -> Result<Response, ForgeRefusal> {
        match (self.method.as_str(), segments) {
            ("GET", []) => {
                let open = self
                    .query
                    .get("state")
                    .is_none_or(|state| state != "closed");
                let listed = book.listed(open).into_iter();
                let shapes = listed.map(|number| book.shape(number));
                Ok(list(shapes.collect::<Result<_, _>>()?, self.query))
            }
            ("POST", []) => {
                let (head, base) = (self.text("head"), self.text("base"));
                let number = book.open(BOT, head, base, self.text("title"), self.text("body"))?;
                Ok(made(book.shape(number)?))
            }
            ("GET", [number]) => {
                let number = parse(number)?;
                if let Some(status) = book.withheld.get(&number) {
                    return Err(ForgeRefusal(*status, "it is withheld".to_owned()));
                }
                Ok(found(book.shape(number)?))
            }
            ("PATCH", [number]) => self.edit_pull(book, parse(number)?),
            ("POST", [number, "merge"]) => self.merge_pull(book, parse(number)?),
            ("GET", [_, "reviews"]) => Ok(list(Vec::new(), self.query)),
            ("POST", [_, "requested_reviewers"]) => Ok(made(json!([]))),
            _ => unanswered(),
        }
    }

    fn edit_pull(&self, book: &mut PullBook, number: u64) -> Result<Response, ForgeRefusal> {
        let pull = book.pull(number)?;
        for (field, place) in [("title", &mut pull.title), ("body", &mut pull.body)] {
            if let Some(text) = self.body[field].as_str() {
                text.clone_into(place);
            }
        }
        match self.text("state") {
            "closed" => book.close(number, BOT)?,
            "open" => book.reopen(number)?,
            _ => book.touch(number),
        }
        Ok(made(book.shape(number)?))
    }

    fn merge_pull(&self, book: &mut PullBook, number: u64) -> Result<Response, ForgeRefusal> {
        let (title, text) = (self.text("MergeTitleField"), self.text("MergeMessageField"));
        let message = format!("{title}\n\n{text}");
        let message = if message.trim().is_empty() {
            format!("Merge request #{number}")
        } else {
            message
        };
        let branch = book.pull(number)?.head.clone();
        book.merge(
            number,
            self.body["head_commit_id"].as_str(),
            self.text("Do") == "squash",
            (BOT, ADDRESS),
            message.trim(),
        )?;
        if self.body["delete_branch_after_merge"] == true {
            book.repository.delete_branch(&branch)?;
        }
        Ok(found(Value::Null))
    }

    fn issues(&self, book: &mut PullBook, segments: &[&str]) -> Result<Response, ForgeRefusal> {
        match (self.method.as_str(), segments) {
            ("GET", [number, "timeline"]) => Ok(list(book.timeline(parse(number)?)?, self.query)),
            ("POST", [number, "labels"]) => {
                let number = parse(number)?;
                let labels = self.body["labels"].as_array().into_iter().flatten();
                let labels: Vec<u64> = labels.filter_map(Value::as_u64).collect();
                book.pull(number)?.labels.extend(labels);
                book.touch(number);
                Ok(found(json!([])))
            }
            ("DELETE", [number, "labels", label]) => {
                let (number, label) = (parse(number)?, parse(label)?);
                book.pull(number)?.labels.remove(&label);
                book.touch(number);
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            ("GET", [number, "comments"]) => {
                let number = parse(number)?;
                let comments = book.comments.iter();
                let comments = comments.filter(|comment| comment.request == number);
                Ok(found(Value::Array(comments.map(shape).collect())))
            }
            ("POST", [number, "comments"]) => {
                let (request, id) = (parse(number)?, book.next());
                book.pull(request)?;
                book.comments.push(SandboxComment {
                    id,
                    request,
                    author: BOT.to_owned(),
                    body: self.text("body").to_owned(),
                });
                book.touch(request);
                Ok(made(json!({"id": id})))
            }
            ("PATCH", ["comments", id]) => {
                let id = parse(id)?;
                let missing = || ForgeRefusal(404, format!("there is no comment {id}"));
                let mut comments = book.comments.iter_mut();
                let comment = comments
                    .find(|comment| comment.id == id)
                    .ok_or_else(missing)?;
                self.text("body").clone_into(&mut comment.body);
                Ok(found(shape(comment)))
            }
            _ => unanswered(),
        }
    }

    fn labels(&self, book: &mut PullBook) -> Result<Response, ForgeRefusal> {
        match self.method.as_str() {
            "GET" => {
                let labels = book.labels.keys().filter_map(|id| book.label(*id));
                Ok(list(labels.collect(), self.query))
            }
            "POST" => {
                let id = book.next();
                book.labels.insert(id, self.text("name").to_owned());
                Ok(made(json!({"id": id, "name": self.text("name")})))
            }
            _ => unanswered(),
        }
    }

    fn statuses(&self, book: &mut PullBook, commit: &str) -> Result<Response, ForgeRefusal> {
        match self.method.as_str() {
            "GET" => Ok(list(book.statuses(commit), self.query)),
            "POST" => {
                book.set_status(
                    commit,
                    self.text("context"),
                    self.text("state"),
                    self.text("description"),
                    self.text("target_url"),
                );
                Ok(made(json!({})))
            }
            _ => unanswered(),
        }
    }

    fn branches(&self, book: &mut PullBook, name: &str) -> Result<Response, ForgeRefusal> {
        match self.method.as_str() {
            "GET" => match book.repository.branch(name)? {
                Some(id) => Ok(found(
                    json!({"name": name, "commit": {"id": id.to_string()}}),
                )),
                None => Err(ForgeRefusal(404, "there is no such branch".to_owned())),
            },
            "DELETE" if book.repository.delete_branch(name)? => {
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            _ => unanswered(),
        }
    }
}

fn unanswered() -> Result<Response, ForgeRefusal> {
    let why = "the sandbox's forge does not answer this".to_owned();
    Err(ForgeRefusal(404, why))
}

fn parse(number: &str) -> Result<u64, ForgeRefusal> {
    number
        .parse()
        .map_err(|_| ForgeRefusal(404, format!("{number:?} is no number")))
}

fn shape(comment: &SandboxComment) -> Value {
    json!({"id": comment.id, "body": comment.body, "user": {"login": comment.author}})
}

fn found(value: Value) -> Response {
    Json(value).into_response()
}

fn made(value: Value) -> Response {
    (StatusCode::CREATED, Json(value)).into_response()
}

/// Responds with one page, and with the total count in the header that Gitea sends.
fn list(all: Vec<Value>, query: &HashMap<String, String>) -> Response {
    let number = |name: &str, or: usize| {
        query
            .get(name)
            .and_then(|text| text.parse().ok())
            .filter(|number| *number > 0)
            .unwrap_or(or)
    };
    let (page, limit) = (number("page", 1), number("limit", 30).min(50));
    let mut headers = HeaderMap::new();
    headers.insert(
        HeaderName::from_static("x-total-count"),
        HeaderValue::from(all.len()),
    );
    let rows: Vec<Value> = all
        .into_iter()
        .skip((page - 1).saturating_mul(limit))
        .take(limit)
        .collect();
    (headers, Json(rows)).into_response()
}
