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
        .route_layer(check)
        .with_state(shared)
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
        route(&mut book, &method, &segments, &query, &body)
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

fn route(
    book: &mut PullBook,
    method: &Method,
    segments: &[&str],
    query: &HashMap<String, String>,
    body: &Value,
) -> Result<Response, ForgeRefusal> {
    let text = |field: &str| body[field].as_str().unwrap_or_default();
    let number = |text: &str| {
        text.parse::<u64>()
            .map_err(|_| ForgeRefusal(404, format!("{text:?} is no number")))
    };
    let none = || list(Vec::new(), query);
    Ok(match (method.as_str(), segments) {
        ("GET", [""]) => found(json!({"default_merge_style": "merge"})),
        ("GET", ["pulls"]) => {
            let open = query.get("state").is_none_or(|state| state != "closed");
            list(
                book.listed(open)
                    .into_iter()
                    .map(|number| book.shape(number))
                    .collect::<Result<_, _>>()?,
                query,
            )
        }
        ("POST", ["pulls"]) => {
            let number = book.open(BOT, text("head"), text("base"), text("title"), text("body"))?;
            made(book.shape(number)?)
        }
        ("GET", ["pulls", number_text]) => {
            let number = number(number_text)?;
            if let Some(status) = book.withheld.get(&number) {
                return Err(ForgeRefusal(*status, "it is withheld".to_owned()));
            }
            found(book.shape(number)?)
        }
        ("PATCH", ["pulls", number_text]) => {
            let number = number(number_text)?;
            let pull = book.pull(number)?;
            for (field, place) in [("title", &mut pull.title), ("body", &mut pull.body)] {
                if let Some(text) = body[field].as_str() {
                    text.clone_into(place);
                }
            }
            match text("state") {
                "closed" => book.close(number, BOT)?,
                "open" => book.reopen(number)?,
                _ => book.touch(number),
            }
            made(book.shape(number)?)
        }
        ("POST", ["pulls", number_text, "merge"]) => {
            let number = number(number_text)?;
            let message = format!(
                "{}\n\n{}",
                text("MergeTitleField"),
                text("MergeMessageField")
            );
            let message = if message.trim().is_empty() {
                format!("Merge request #{number}")
            } else {
                message
            };
            let branch = book.pull(number)?.head.clone();
            book.merge(
                number,
                body["head_commit_id"].as_str(),
                text("Do") == "squash",
                (BOT, ADDRESS),
                message.trim(),
            )?;
            if body["delete_branch_after_merge"] == true {
                book.repository.delete_branch(&branch)?;
            }
            found(Value::Null)
        }
        ("GET", ["pulls", _, "reviews"]) | ("GET", ["releases" | "tags"]) => none(),
        ("POST", ["pulls", _, "requested_reviewers"]) => made(json!([])),
        ("GET", ["issues", number_text, "timeline"]) => {
            list(book.timeline(number(number_text)?)?, query)
        }
        ("POST", ["issues", number_text, "labels"]) => {
            let number = number(number_text)?;
            let labels: Vec<u64> = body["labels"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_u64)
                .collect();
            book.pull(number)?.labels.extend(labels);
            book.touch(number);
            found(json!([]))
        }
        ("DELETE", ["issues", number_text, "labels", label]) => {
            let (pull, label) = (number(number_text)?, number(label)?);
            book.pull(pull)?.labels.remove(&label);
            book.touch(pull);
            StatusCode::NO_CONTENT.into_response()
        }
        ("GET", ["labels"]) => list(
            book.labels
                .keys()
                .filter_map(|id| book.label(*id))
                .collect(),
            query,
        ),
        ("POST", ["labels"]) => {
            let id = book.next();
            book.labels.insert(id, text("name").to_owned());
            made(json!({"id": id, "name": text("name")}))
        }
        ("GET", ["issues", number_text, "comments"]) => {
            let number = number(number_text)?;
            found(Value::Array(
                book.comments
                    .iter()
                    .filter(|comment| comment.request == number)
                    .map(shape)
                    .collect(),
            ))
        }
        ("POST", ["issues", number_text, "comments"]) => {
            let (request, id) = (number(number_text)?, book.next());
            book.pull(request)?;
            book.comments.push(SandboxComment {
                id,
                request,
                author: BOT.to_owned(),
                body: text("body").to_owned(),
            });
            book.touch(request);
            made(json!({"id": id}))
        }
        ("PATCH", ["issues", "comments", id]) => {
            let id = number(id)?;
            let missing = || ForgeRefusal(404, format!("there is no comment {id}"));
            let comment = book
                .comments
                .iter_mut()
                .find(|comment| comment.id == id)
                .ok_or_else(missing)?;
            text("body").clone_into(&mut comment.body);
            found(shape(comment))
        }
        ("GET", ["statuses", commit]) => list(book.statuses(commit), query),
        ("POST", ["statuses", commit]) => {
            book.set_status(
                commit,
                text("context"),
                text("state"),
                text("description"),
                text("target_url"),
            );
            made(json!({}))
        }
        ("GET", ["branches", rest @ ..]) => match book.repository.branch(&rest.join("/"))? {
            Some(id) => found(json!({"name": rest.join("/"), "commit": {"id": id.to_string()}})),
            None => return Err(ForgeRefusal(404, "there is no such branch".to_owned())),
        },
        ("DELETE", ["branches", rest @ ..])
            if book.repository.delete_branch(&rest.join("/"))? =>
        {
            StatusCode::NO_CONTENT.into_response()
        }
        _ => {
            return Err(ForgeRefusal(
                404,
                "the sandbox's forge does not answer this".to_owned(),
            ));
        }
    })
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
