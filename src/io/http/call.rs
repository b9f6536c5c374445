//! One HTTP call: admitted by its host, bounded in time and size, and repeated while its failure is
//! transient.
//!
//! Registries and forges share this layer. Each adds its sign-in, its redirects and the meaning of
//! responses.

use super::{
    budget::{Admission, Budget},
    host_of, lock,
};
use crate::core::retry;
use backon::Retryable;
use jiff::Timestamp;
use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode, Url,
    header::{HeaderMap, HeaderValue, IF_NONE_MATCH},
};
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The reason of a failed connection to a server that does not speak TLS.
pub const PLAIN_HTTP: &str = "it answers in plain HTTP, not TLS";

/// The error of rustls if the first bytes of the server are no TLS record.
const NO_TLS_RECORD: &str = "InvalidContentType";

/// Most bytes of an error's body: only its beginning is useful.
const ERROR_BODY: usize = 16 * 1024;

/// A request and its bounds.
#[derive(Clone)]
pub struct HttpCall {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: HttpBody,
    /// Most bytes of the response's body.
    pub limit: usize,
    /// False for a call that must not be sent twice, whatever happens to its response.
    pub idempotent: bool,
}

/// The body of a request.
#[derive(Clone)]
pub enum HttpBody {
    Empty,
    Json(Value),
    Form(Vec<(String, String)>),
}

impl HttpCall {
    pub fn get(url: Url, limit: usize) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: HttpBody::Empty,
            limit,
            idempotent: true,
        }
    }

    /// Makes the call conditional, if there is an ETag of an earlier response.
    pub fn conditional(mut self, etag: Option<HeaderValue>) -> Self {
        if let Some(etag) = etag {
            self.headers.insert(IF_NONE_MATCH, etag);
        }
        self
    }

    /// Returns whether 304 Not Modified is an answer to this call.
    pub fn is_conditional(&self) -> bool {
        self.headers.contains_key(IF_NONE_MATCH)
    }

    fn request(&self, client: &Client) -> RequestBuilder {
        let request = client
            .request(self.method.clone(), self.url.clone())
            .headers(self.headers.clone());
        match &self.body {
            HttpBody::Empty => request,
            HttpBody::Json(value) => request.json(value),
            HttpBody::Form(fields) => request.form(fields),
        }
    }
}

/// The time limits of a call, and its repetition. Tests shorten them.
#[derive(Debug, Clone, Copy)]
pub struct HttpTimeouts {
    /// To connect, TLS included. The client has it from [`super::HostRoute`].
    pub connect: Duration,
    /// From the request sent to the headers of its response.
    pub headers: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    pub body: Duration,
    /// Before the first repetition; doubled each time, ±50 %.
    pub backoff: Duration,
    /// Attempts of an idempotent call.
    pub attempts: u32,
}

impl HttpTimeouts {
    /// The limits that suit real registries.
    pub const DEFAULT: Self = Self {
        connect: Duration::from_secs(10),
        headers: Duration::from_secs(30),
        idle: Duration::from_secs(20),
        body: Duration::from_secs(120),
        backoff: Duration::from_millis(250),
        attempts: 3,
    };

    /// Runs `attempt` until it succeeds, fails for good, or has no attempt left. A call that is not
    /// idempotent has one.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub async fn retry<T, E, F>(
        &self,
        idempotent: bool,
        attempt: impl FnMut() -> F,
        is_transient: fn(&E) -> bool,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let attempts = if idempotent { self.attempts } else { 1 };
        attempt
            .retry(retry::backoffs(self.backoff, attempts.saturating_sub(1)))
            .when(is_transient)
            .await
    }
}

/// A call without a usable response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpFailure {
    /// The connection failed, for this innermost reason.
    Transport(String),
    /// A part of the response that missed its deadline: "connection", "headers", "whole body",
    /// "more of the body".
    Timeout(&'static str, Duration),
    /// The body is larger than [`HttpCall::limit`].
    TooLarge,
    /// The host limits requests: nothing is sent to it for this long.
    Throttled(Duration),
}

/// Lanes of one host that are kept. Beyond them, those that are not parked are forgotten.
const MOST_LANES: usize = 4096;

/// A host: its pace, its bound of requests in flight, and the rate limit of each lane.
///
/// A lane is what the host counts requests by: a credential, or all that is sent without one. A
/// host that refuses the requests of one lane still gets those of the others.
#[derive(Debug)]
pub struct HttpHost {
    flight: Semaphore,
    pace: Mutex<Budget>,
    lanes: Mutex<HashMap<String, Budget>>,
    /// Statuses by which the host refuses a request because of its rate limit.
    throttling: &'static [StatusCode],
}

impl HttpHost {
    pub fn new(
        requests_per_second: Option<u32>,
        in_flight: usize,
        throttling: &'static [StatusCode],
    ) -> Self {
        Self {
            flight: Semaphore::new(in_flight.min(Semaphore::MAX_PERMITS)),
            pace: Mutex::new(Budget::new(Instant::now(), requests_per_second)),
            lanes: Mutex::default(),
            throttling,
        }
    }

    /// Returns the lanes in which nothing is sent to the host, and for how long.
    pub fn parked(&self) -> Vec<(String, Duration)> {
        let now = Instant::now();
        let rest = |(lane, budget): (&String, &Budget)| Some((lane.clone(), budget.parked(now)?));
        lock(&self.lanes).iter().filter_map(rest).collect()
    }

    /// Sends nothing in a lane for this long.
    pub fn park(&self, lane: &str, wait: Duration) {
        self.with_lane(lane, |budget| budget.park(Instant::now(), wait));
    }

    fn with_lane<T>(&self, lane: &str, work: impl FnOnce(&mut Budget) -> T) -> T {
        let mut lanes = lock(&self.lanes);
        if !lanes.contains_key(lane) {
            let now = Instant::now();
            if lanes.len() >= MOST_LANES {
                lanes.retain(|_, budget| budget.parked(now).is_some());
            }
            lanes.insert(lane.to_owned(), Budget::new(now, None));
        }
        let lane = lanes.get_mut(lane).expect("it was inserted above");
        work(lane)
    }

    /// Sends a call once and reads its response. `sending` is called when the host admits it.
    ///
    /// # Errors
    /// If the lane is parked or the response parks it, the connection fails, or the response is too
    /// slow or too large.
    pub async fn exchange(
        &self,
        client: &Client,
        lane: &str,
        call: &HttpCall,
        timeouts: &HttpTimeouts,
        sending: impl FnOnce(),
    ) -> Result<HttpResponse, HttpFailure> {
        let _permit = self.admit(lane).await?;
        sending();
        let response = send(call.request(client), timeouts).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let wait = self.with_lane(lane, |budget| {
            budget.answered(Instant::now(), Timestamp::now(), status, &headers)
        });
        if let Some(wait) = wait.filter(|_| self.throttling.contains(&status)) {
            return Err(HttpFailure::Throttled(wait));
        }
        let body = read_body(response, call, timeouts).await?;
        Ok(HttpResponse {
            status,
            headers,
            body,
            url: call.url.clone(),
        })
    }

    /// Waits for a permit and for the pace. A parked lane fails the call: that wait is the
    /// caller's.
    async fn admit(&self, lane: &str) -> Result<SemaphorePermit<'_>, HttpFailure> {
        let is_open = || {
            let rest = self.with_lane(lane, |budget| budget.parked(Instant::now()));
            rest.map_or(Ok(()), |rest| Err(HttpFailure::Throttled(rest)))
        };
        let closed = |_| HttpFailure::Transport("the client is closed".to_owned());
        let permit = self.flight.acquire().await.map_err(closed)?;
        is_open()?;
        let admission = lock(&self.pace).admit(Instant::now());
        match admission {
            Admission::Parked(rest) => return Err(HttpFailure::Throttled(rest)),
            Admission::After(wait) if wait.is_zero() => {}
            Admission::After(wait) => {
                tokio::time::sleep(wait).await;
                // Another request may have been throttled meanwhile.
                is_open()?;
            }
        }
        Ok(permit)
    }
}

/// Sends a request and waits for the headers of its response.
async fn send(request: RequestBuilder, timeouts: &HttpTimeouts) -> Result<Response, HttpFailure> {
    match tokio::time::timeout(timeouts.headers, request.send()).await {
        Err(_) => Err(HttpFailure::Timeout("headers", timeouts.headers)),
        Ok(Err(error)) if error.is_connect() && error.is_timeout() => {
            Err(HttpFailure::Timeout("connection", timeouts.connect))
        }
        Ok(Err(error)) => Err(transport(error)),
        Ok(Ok(response)) => Ok(response),
    }
}

/// Reads a body. One that is too large fails the call, or is cut if the response is an error.
async fn read_body(
    response: Response,
    call: &HttpCall,
    timeouts: &HttpTimeouts,
) -> Result<Vec<u8>, HttpFailure> {
    let read = tokio::time::timeout(timeouts.body, read_pieces(response, call, timeouts)).await;
    read.unwrap_or(Err(HttpFailure::Timeout("whole body", timeouts.body)))
}

async fn read_pieces(
    mut response: Response,
    call: &HttpCall,
    timeouts: &HttpTimeouts,
) -> Result<Vec<u8>, HttpFailure> {
    let is_success = response.status().is_success();
    let limit = if is_success { call.limit } else { ERROR_BODY };
    if is_success
        && call.method != Method::HEAD
        && response
            .content_length()
            .is_some_and(|length| length > limit as u64)
    {
        return Err(HttpFailure::TooLarge);
    }
    let mut body = Vec::new();
    loop {
        match tokio::time::timeout(timeouts.idle, response.chunk()).await {
            Err(_) => return Err(HttpFailure::Timeout("more of the body", timeouts.idle)),
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            Ok(Ok(None)) => return Ok(body),
            Ok(Err(_)) if !is_success => return Ok(body),
            Ok(Err(error)) => return Err(transport(error)),
        }
        match (body.len() > limit, is_success) {
            (true, true) => return Err(HttpFailure::TooLarge),
            (true, false) => {
                body.truncate(limit);
                return Ok(body);
            }
            (false, _) => {}
        }
    }
}

/// Returns the innermost reason, without the URL (whose query may be long).
fn transport(error: reqwest::Error) -> HttpFailure {
    let error = error.without_url();
    let mut reason: &dyn std::error::Error = &error;
    while let Some(inner) = reason.source() {
        reason = inner;
    }
    let reason = reason.to_string();
    if reason.contains(NO_TLS_RECORD) {
        return HttpFailure::Transport(PLAIN_HTTP.to_owned());
    }
    HttpFailure::Transport(reason.chars().take(300).collect())
}

/// A response, read whole.
#[derive(Debug)]
pub struct HttpResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub url: Url,
}

impl HttpResponse {
    /// A header as text; none if it has other than visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the responding host, `host[:port]`.
    pub fn host(&self) -> String {
        host_of(&self.url)
    }

    /// Returns whether the response is an HTML page.
    pub fn is_html(&self) -> bool {
        self.header("content-type").is_some_and(|kind| {
            kind.trim_start()
                .to_ascii_lowercase()
                .starts_with("text/html")
        }) || self.body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<')
    }

    /// Returns the URL of `Location`.
    pub fn location(&self) -> Option<Url> {
        self.url.join(self.header("location")?).ok()
    }
}
