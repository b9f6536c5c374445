//! One request to a registry and its response, over [`crate::io::http`]. [`super::session`] handles
//! sign-in and redirects.

use super::{
    RegistryProblem, RegistryTimeouts,
    hosts::{Host, Hosts},
};
use crate::io::http::{HttpCall, HttpFailure, HttpTimeouts};
pub(crate) use crate::io::http::{HttpResponse, host_of};
use reqwest::{
    Client, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use std::time::Duration;

/// Added to each wait for a rate limit.
const WAIT_MARGIN: Duration = Duration::from_millis(100);

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

/// A request.
#[derive(Clone)]
pub(crate) struct RegistryRequest {
    pub(crate) call: HttpCall,
    pub(crate) kind: RequestKind,
    /// The name in messages: "a tag list".
    pub(crate) what: &'static str,
}

impl RegistryRequest {
    pub(crate) fn get(
        url: Url,
        accept: &'static str,
        kind: RequestKind,
        what: &'static str,
        limit: usize,
    ) -> Self {
        let mut call = HttpCall::get(url, limit);
        call.headers
            .insert(ACCEPT, HeaderValue::from_static(accept));
        Self { call, kind, what }
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
    /// The config repository that asks, where several share the hosts.
    pub(crate) owner: Option<&'a str>,
    /// The unit by which hosts count requests: the prefix of a credential, or one lane without.
    pub(crate) lane: &'a str,
}

impl RequestSender<'_> {
    /// Sends a request and reads its response, again if the connection fails, the server answers
    /// 5xx, or a short `Retry-After` has passed.
    ///
    /// # Errors
    /// Any [`RegistryProblem`] but those of meaning: the caller judges the status, which is neither
    /// 429 nor 5xx.
    pub(crate) async fn send(
        &self,
        request: &RegistryRequest,
        authorization: Option<&HeaderValue>,
    ) -> Result<HttpResponse, RegistryProblem> {
        let mut request = request.clone();
        if let Some(value) = authorization {
            request.call.headers.insert(AUTHORIZATION, value.clone());
        }
        let timeouts = self.timing.http;
        let mut patience = self.timing.retry_after;
        loop {
            let result = timeouts
                .retry(
                    request.call.idempotent,
                    || self.attempt(&request, &timeouts),
                    RegistryProblem::is_transient,
                )
                .await;
            let Err(RegistryProblem::Throttled { retry_after, .. }) = result else {
                return result;
            };
            // The margin covers the rounding of the host's clock, and bounds the number of waits.
            let wait = retry_after + WAIT_MARGIN;
            match patience.checked_sub(retry_after.max(WAIT_MARGIN)) {
                Some(rest) => patience = rest,
                None => return result,
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(
        &self,
        request: &RegistryRequest,
        timeouts: &HttpTimeouts,
    ) -> Result<HttpResponse, RegistryProblem> {
        let host = self.hosts.get(&host_of(&request.call.url));
        let _share = match self.owner {
            Some(owner) => host.queue(owner).await,
            None => None,
        };
        let response = host
            .http
            .exchange(self.client, self.lane, &request.call, timeouts, || {
                host.count(request.kind)
            })
            .await
            .map_err(|failure| problem(&host, request, failure))?;
        if response.status == StatusCode::UNAUTHORIZED {
            host.recount(request.kind, RequestKind::Challenge);
        }
        if response.status.is_server_error() {
            return Err(response.unexpected(request.what));
        }
        Ok(response)
    }
}

fn problem(host: &Host, request: &RegistryRequest, failure: HttpFailure) -> RegistryProblem {
    let host = host.name.clone();
    match failure {
        HttpFailure::Transport(why) => RegistryProblem::Transport { host, why },
        HttpFailure::Timeout(what, after) => RegistryProblem::Timeout { host, what, after },
        HttpFailure::TooLarge => RegistryProblem::TooLarge {
            host,
            what: request.what,
            limit: request.call.limit,
        },
        HttpFailure::Throttled(retry_after) => RegistryProblem::Throttled { host, retry_after },
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
