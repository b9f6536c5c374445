//! One request and its answer: within the host's budget, within bounds of time and size, repeated when the connection
//! fails. Sign-in and redirects are [`super::session`]'s.

use super::{
    Problem, Timing,
    hosts::{Hosts, Ticket},
};
use reqwest::{
    Client, Method, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, IF_NONE_MATCH},
};
use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Of an error's body only its first words are of use.
const COMPLAINT: usize = 16 * 1024;

/// What a request is for; requests are counted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestKind {
    /// A page of a tag list.
    Tags,
    /// HEAD of a manifest.
    Head,
    /// GET of a manifest.
    Manifest,
    /// GET of a config.
    Blob,
    /// A token.
    Token,
    /// Any of the others that was answered with a request for sign-in.
    Challenge,
}

impl RequestKind {
    /// The word for it in status output.
    pub fn as_str(self) -> &'static str {
        match self {
            RequestKind::Tags => "tags",
            RequestKind::Head => "head",
            RequestKind::Manifest => "manifest",
            RequestKind::Blob => "blob",
            RequestKind::Token => "token",
            RequestKind::Challenge => "challenge",
        }
    }
}

/// Fields of a form.
pub(super) type Form = Vec<(String, String)>;

/// A request.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) accept: &'static str,
    pub(super) etag: Option<HeaderValue>,
    pub(super) kind: RequestKind,
    /// For people: "a tag list".
    pub(super) what: &'static str,
    /// Most bytes of a body.
    pub(super) limit: usize,
    /// Sent as POST with these fields.
    pub(super) form: Option<Form>,
}

impl Ask {
    pub(super) fn get(url: Url, accept: &'static str, kind: RequestKind, what: &'static str, limit: usize) -> Self {
        Self { method: Method::GET, url, accept, etag: None, kind, what, limit, form: None }
    }
}

/// An answer, read whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) url: Url,
}

impl Answer {
    /// A header as text; none if it has other than visible ASCII.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn host(&self) -> String {
        host_of(&self.url)
    }

    pub(super) fn is_html(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"))
            || self.body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<')
    }

    /// The first error's code and words, as the distribution specification and token services send them.
    pub(super) fn message(&self) -> Option<String> {
        let value: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        let first = value.get("errors").and_then(|errors| errors.get(0)).unwrap_or(&value);
        let words: Vec<&str> =
            ["code", "error", "message", "error_description", "details"].iter().filter_map(|key| first.get(key)?.as_str()).collect();
        (!words.is_empty()).then(|| words.join(": ").chars().take(300).collect())
    }

    /// The problem of a status that nothing is known to do about.
    pub(super) fn unexpected(&self, what: &'static str) -> Problem {
        if self.is_html() {
            return Problem::Content { host: self.host(), what, why: format!("HTML with status {}", self.status.as_u16()) };
        }
        Problem::Status { host: self.host(), what, status: self.status.as_u16(), message: self.message() }
    }
}

/// `host[:port]` of a URL: the name of a budget.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// What sends requests: a client for its way out, and the budgets of all hosts.
#[derive(Clone, Copy)]
pub(super) struct Sender<'a> {
    pub(super) client: &'a Client,
    pub(super) hosts: &'a Hosts,
    pub(super) timing: &'a Timing,
}

impl Sender<'_> {
    /// Sends a request and reads its answer, again if the connection fails or the server answers 5xx.
    ///
    /// # Errors
    /// Any [`Problem`] but those of meaning: the caller judges the status, which is neither 429 nor 5xx.
    pub(super) async fn send(&self, ask: &Ask, authorization: Option<&HeaderValue>) -> Result<Answer, Problem> {
        let attempts = if ask.form.is_none() { self.timing.attempts.max(1) } else { 1 };
        let mut attempt = 1;
        loop {
            let problem = match self.exchange(ask, authorization).await {
                Ok(answer) if answer.status.is_server_error() => answer.unexpected(ask.what),
                Ok(answer) => return Ok(answer),
                Err(problem) => problem,
            };
            if attempt >= attempts || !problem.is_passing() {
                return Err(problem);
            }
            tokio::time::sleep(jittered(self.timing.backoff * 2u32.pow(attempt.min(8) - 1))).await;
            attempt += 1;
        }
    }

    async fn exchange(&self, ask: &Ask, authorization: Option<&HeaderValue>) -> Result<Answer, Problem> {
        let name = host_of(&ask.url);
        let host = self.hosts.get(&name);
        let ticket = host.admit().await?;
        let mut request = self.client.request(ask.method.clone(), ask.url.clone()).header(ACCEPT, ask.accept);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        if let Some(etag) = &ask.etag {
            request = request.header(IF_NONE_MATCH, etag.clone());
        }
        if let Some(form) = &ask.form {
            request = self.client.post(ask.url.clone()).header(ACCEPT, ask.accept).form(form);
        }
        ticket.count(ask.kind);
        let timeout = |what, after| Problem::Timeout { host: name.clone(), what, after };
        let response = tokio::time::timeout(self.timing.headers, request.send())
            .await
            .map_err(|_| timeout("headers", self.timing.headers))?
            .map_err(|error| match error.is_connect() && error.is_timeout() {
                true => timeout("connection", self.timing.connect),
                false => transport(&name, error),
            })?;
        let (status, headers) = (response.status(), response.headers().clone());
        if status == StatusCode::UNAUTHORIZED {
            ticket.recount(ask.kind, RequestKind::Challenge);
        }
        if let Some(retry_after) = ticket.answered(status, &headers).filter(|_| status == StatusCode::TOO_MANY_REQUESTS) {
            return Err(Problem::Throttled { host: name, retry_after });
        }
        let body = tokio::time::timeout(self.timing.body, self.body(response, ask, &ticket))
            .await
            .map_err(|_| timeout("whole body", self.timing.body))??;
        Ok(Answer { status, headers, body, url: ask.url.clone() })
    }

    /// Reads a body; beyond its bound an honest one is refused and an error's is cut.
    async fn body(&self, mut response: reqwest::Response, ask: &Ask, ticket: &Ticket<'_>) -> Result<Vec<u8>, Problem> {
        let honest = response.status().is_success();
        let limit = if honest { ask.limit } else { COMPLAINT };
        let too_large = || Problem::TooLarge { host: ticket.name().to_owned(), what: ask.what, limit };
        if honest && ask.method != Method::HEAD && response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        loop {
            let chunk = tokio::time::timeout(self.timing.idle, response.chunk()).await.map_err(|_| Problem::Timeout {
                host: ticket.name().to_owned(),
                what: "more of the body",
                after: self.timing.idle,
            })?;
            match chunk {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body),
                Err(_) if !honest => return Ok(body),
                Err(error) => return Err(transport(ticket.name(), error)),
            }
            match (body.len() > limit, honest) {
                (true, true) => return Err(too_large()),
                (true, false) => {
                    body.truncate(limit);
                    return Ok(body);
                }
                (false, _) => {}
            }
        }
    }
}

/// The innermost reason, without the URL (whose query may be long).
fn transport(host: &str, error: reqwest::Error) -> Problem {
    let error = error.without_url();
    let mut why: &dyn std::error::Error = &error;
    while let Some(inner) = why.source() {
        why = inner;
    }
    Problem::Transport { host: host.to_owned(), why: why.to_string().chars().take(300).collect() }
}

/// ±50 %. The hasher's seed is the only randomness needed for a wait.
fn jittered(wait: Duration) -> Duration {
    let percent = 50 + RandomState::new().hash_one(wait) % 101;
    wait * u32::try_from(percent).unwrap_or(100) / 100
}

/// Whether a header names JSON or a manifest, or nothing.
pub(super) fn media_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').next().map(str::trim)
}
