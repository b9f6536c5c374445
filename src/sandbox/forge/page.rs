//! The web pages of pull requests, for a person who follows a link of the demo.

use super::{ForgeShared, book::PullBook, lock};
use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use std::fmt::Write as _;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}\
    pre{white-space:pre-wrap;overflow-wrap:anywhere;border:1px solid #8886;border-radius:6px;padding:1rem}\
    .state{border:1px solid;border-radius:1rem;padding:.1rem .7rem}";

pub(super) fn router(shared: ForgeShared, project: &str) -> Router {
    let below = format!("/{project}");
    Router::new()
        .route(&below, get(all))
        .route(&format!("{below}/pulls"), get(all))
        .route(&format!("{below}/pulls/{{number}}"), get(one))
        .with_state(shared)
}

async fn all(State(shared): State<ForgeShared>) -> Response {
    let work = move || {
        let mut body = String::from("<h1>Pull requests</h1>\n<ul>\n");
        let book = lock(&shared);
        for pull in book.pulls.values().rev() {
            let (address, title) = (escaped(&book.page), escaped(&pull.title));
            let (number, state) = (pull.number, book.state(pull.number));
            let _ = writeln!(
                body,
                "<li><a href=\"{address}/pulls/{number}\">#{number} {title}</a> ({state})</li>"
            );
        }
        body.push_str("</ul>\n");
        page("Pull requests", &body)
    };
    answered(crate::io::try_blocking(work).await.ok())
}

async fn one(State(shared): State<ForgeShared>, Path(number): Path<u64>) -> Response {
    let work = move || request(&lock(&shared), number);
    match crate::io::try_blocking(work).await {
        Ok(Some(page)) => answered(Some(page)),
        Ok(None) => (StatusCode::NOT_FOUND, "there is no such pull request\n").into_response(),
        Err(_) => answered(None),
    }
}

fn answered(page: Option<String>) -> Response {
    match page {
        // The texts come from registries and repositories: nothing in them may run.
        Some(page) => (
            [(
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; style-src 'unsafe-inline'",
            )],
            Html(page),
        )
            .into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Returns the page of a pull request; none if there is none of this number.
fn request(book: &PullBook, number: u64) -> Option<String> {
    let pull = book.pulls.get(&number)?;
    let title = format!("#{number} {}", pull.title);
    let mut body = format!(
        "<h1>{}</h1>\n<p><span class=\"state\">{}</span> <code>{}</code> into <code>{}</code></p>\n<pre>{}</pre>\n",
        escaped(&title),
        book.state(number),
        escaped(&pull.head),
        escaped(&pull.base),
        escaped(&pull.body)
    );
    body.push_str("<h2>Checks</h2>\n<ul>\n");
    let statuses = book.statuses_of(number);
    for (context, state) in &statuses {
        let _ = writeln!(body, "<li>{}: {}</li>", escaped(context), escaped(state));
    }
    if statuses.is_empty() {
        body.push_str("<li>none has reported yet</li>\n");
    }
    body.push_str("</ul>\n<h2>Comments</h2>\n");
    for comment in book.comments.iter().filter(|one| one.request == number) {
        let (author, text) = (escaped(&comment.author), escaped(&comment.body));
        let _ = writeln!(body, "<p>{author}:</p>\n<pre>{text}</pre>");
    }
    Some(page(&title, &body))
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n<style>{STYLE}</style>\n{body}</html>\n",
        escaped(title)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
