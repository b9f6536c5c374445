//! One request and its response: within the host's budget, bounded in time and size, retried when
//! the connection fails. [`super::session`] handles sign-in and redirects.

use super::{RegistryProblem, RegistryTimeouts, hosts::Hosts};
use crate::io::http::{self, HttpFailure, HttpLimits, jittered};
pub(crate) use crate::io::http::{HttpResponse, host_of};
use reqwest::{
    Client, Method, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, IF_NONE_MATCH},
};

/// The purpose of a request; requests are counted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestKind {
    /// A page of a tag list.
    Tags,
    Head,
    Manifest,
    /// GET of a config.
    Blob,
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
pub(crate) type FormFields = Vec<(String, String)>;

/// A request.
#[derive(Clone)]
pub(crate) struct RegistryRequest {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) accept: &'static str,
    pub(crate) etag: Option<HeaderValue>,
    pub(crate) kind: RequestKind,
    /// The name in messages: "a tag list".
    pub(crate) what: &'static str,
    /// Most bytes of a body.
    pub(crate) limit: usize,
    /// Sent as POST with these fields.
    pub(crate) form: Option<FormFields>,
}

impl RegistryRequest {
    pub(crate) fn get(
        url: Url,
        accept: &'static str,
        kind: RequestKind,
        what: &'static str,
        limit: usize,
    ) -> Self {
        Self {
            method: Method::GET,
            url,
            accept,
            etag: None,
            kind,
            what,
            limit,
            form: None,
        }
    }
}

/// Accessors for the parts of a registry's response.
pub(crate) trait ErrorBody {
    /// Returns the first error's code and message, as the distribution specification and token
    /// services send them.
    fn message(&self) -> Option<String>;

    /// The problem of a status that nothing is known to do about.
    fn unexpected(&self, what: &'static str) -> RegistryProblem;
}

impl ErrorBody for HttpResponse {
    fn message(&self) -> Option<String> {
        let value: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        let first = value
            .get("errors")
            .and_then(|errors| errors.get(0))
            .unwrap_or(&value);
        let words: Vec<&str> = ["code", "error", "message", "error_description", "details"]
            .iter()
            .filter_map(|key| first.get(key)?.as_str())
            .collect();
        (!words.is_empty()).then(|| words.join(": ").chars().take(300).collect())
    }

    fn unexpected(&self, what: &'static str) -> RegistryProblem {
        if self.is_html() {
            return RegistryProblem::Content {
                host: self.host(),
                what,
                why: format!("HTML with status {}", self.status.as_u16()),
            };
        }
        RegistryProblem::Status {
            host: self.host(),
            what,
            status: self.status.as_u16(),
            message: self.message(),
        }
    }
}

/// Sends requests: a client for its route, and the budgets of all hosts.
#[derive(Clone, Copy)]
pub(crate) struct RequestSender<'a> {
    pub(crate) client: &'a Client,
    pub(crate) hosts: &'a Hosts,
    pub(crate) timing: &'a RegistryTimeouts,
}

impl RequestSender<'_> {
    /// Sends a request and reads its answer, again if the connection fails or the server answers
    /// 5xx.
    ///
    /// # Errors
    /// Any [`RegistryProblem`] but those of meaning: the caller judges the status, which is neither
    /// 429 nor 5xx.
    pub(crate) async fn send(
        &self,
        ask: &RegistryRequest,
        authorization: Option<&HeaderValue>,
    ) -> Result<HttpResponse, RegistryProblem> {
        let attempts = if ask.form.is_none() {
            self.timing.attempts.max(1)
        } else {
            1
        };
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

    async fn exchange(
        &self,
        ask: &RegistryRequest,
        authorization: Option<&HeaderValue>,
    ) -> Result<HttpResponse, RegistryProblem> {
        let name = host_of(&ask.url);
        let host = self.hosts.get(&name);
        let ticket = host.admit().await?;
        let mut request = self
            .client
            .request(ask.method.clone(), ask.url.clone())
            .header(ACCEPT, ask.accept);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        if let Some(etag) = &ask.etag {
            request = request.header(IF_NONE_MATCH, etag.clone());
        }
        if let Some(form) = &ask.form {
            request = self
                .client
                .post(ask.url.clone())
                .header(ACCEPT, ask.accept)
                .form(form);
        }
        ticket.count(ask.kind);
        let bounds = HttpLimits {
            connect: self.timing.connect,
            headers: self.timing.headers,
            idle: self.timing.idle,
            body: self.timing.body,
            limit: ask.limit,
        };
        let failed = |failure| failed(&name, ask, failure);
        let response = http::send(request, bounds).await.map_err(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        if status == StatusCode::UNAUTHORIZED {
            ticket.recount(ask.kind, RequestKind::Challenge);
        }
        if let Some(retry_after) = ticket
            .answered(status, &headers)
            .filter(|_| status == StatusCode::TOO_MANY_REQUESTS)
        {
            return Err(RegistryProblem::Throttled {
                host: name,
                retry_after,
            });
        }
        let body = http::body(response, &ask.method, bounds)
            .await
            .map_err(failed)?;
        Ok(HttpResponse {
            status,
            headers,
            body,
            url: ask.url.clone(),
        })
    }
}

fn failed(host: &str, ask: &RegistryRequest, failure: HttpFailure) -> RegistryProblem {
    let host = host.to_owned();
    match failure {
        HttpFailure::Transport(why) => RegistryProblem::Transport { host, why },
        HttpFailure::Timeout(what, after) => RegistryProblem::Timeout { host, what, after },
        HttpFailure::TooLarge => RegistryProblem::TooLarge {
            host,
            what: ask.what,
            limit: ask.limit,
        },
    }
}

/// Returns the media type if it is JSON or a manifest.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(CONTENT_TYPE)?
        .to_str()
        .ok()?
        .split(';')
        .next()
        .map(str::trim)
}
