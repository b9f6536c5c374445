//! One request: rate limit, authentication, timeout, classification of the response, retries.

use super::{
    ClusterClient, RequestIdentity,
    api_error::{self, RequestTarget},
    connection::{Connection, chain, reopen},
    error::{ClusterError, ClusterProblem},
};
use crate::events::{Event, EventReason};
use crate::objects::object::Gvk;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{HeaderMap, Method, Request, StatusCode};
use jiff::Timestamp;
use kube::client::Body;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The most bytes of an answer that are read, if a request sets no other bound: a page of 500
/// objects of 1 MiB is more than any server sends at once.
const LARGEST: usize = 256 << 20;
/// The timeout of one attempt, webhooks included (the server gives them at most 30 s).
const PATIENCE: Duration = Duration::from_secs(60);
/// Tries of what can be sent again, the first included.
const TRIES: u32 = 4;
/// The longest `Retry-After` that is waited for here; a longer one is for the caller to plan with.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// After a reconnect because of a 401, another 401 within this time is final.
const REOPEN_PAUSE: Duration = Duration::from_secs(2);

/// A request, as far as it differs from others.
#[derive(Clone)]
pub(crate) struct ApiRequest<'a> {
    /// The counter in [`RequestStats`].
    pub count: RequestVerb,
    pub method: Method,
    pub path: String,
    pub body: Bytes,
    pub content: &'static str,
    pub accept: &'static str,
    pub identity: &'a RequestIdentity,
    /// The subject, for messages.
    pub subject: String,
    /// The resource as roles write it.
    pub resource: String,
    pub namespace: Option<&'a str>,
    pub gvk: Option<&'a Gvk>,
    /// True if it can be retried when it is unknown whether it arrived.
    pub again: bool,
    /// The most bytes of the answer that are read.
    pub largest: usize,
}

impl<'a> ApiRequest<'a> {
    pub(crate) fn get(count: RequestVerb, path: String, identity: &'a RequestIdentity) -> Self {
        ApiRequest {
            count,
            method: Method::GET,
            path,
            body: Bytes::new(),
            content: "application/json",
            accept: "application/json",
            identity,
            subject: String::new(),
            resource: String::new(),
            namespace: None,
            gvk: None,
            again: true,
            largest: LARGEST,
        }
    }
}

/// A success.
pub(crate) struct ApiResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The verb by which requests are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum RequestVerb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Apply,
    Patch,
    Delete,
    Discovery,
}

const VERBS: [&str; 9] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "apply",
    "patch",
    "delete",
    "discovery",
];

impl RequestVerb {
    fn role_verb(self) -> &'static str {
        match self {
            RequestVerb::Apply => "patch",
            RequestVerb::Discovery => "get",
            other => VERBS[other as usize],
        }
    }
}

/// Request counts by verb, retries included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestStats(pub BTreeMap<&'static str, u64>);

impl RequestStats {
    /// Returns the difference to an earlier count.
    pub fn since(&self, before: &Self) -> Self {
        let since = self
            .0
            .iter()
            .map(|(verb, count)| (*verb, count - before.of(verb)));
        Self(since.filter(|(_, count)| *count > 0).collect())
    }

    /// The requests of one verb.
    pub fn of(&self, verb: &str) -> u64 {
        self.0.get(verb).copied().unwrap_or_default()
    }

    /// Returns the count of writing requests.
    pub fn writes(&self) -> u64 {
        self.0
            .iter()
            .filter(|(verb, _)| !matches!(**verb, "get" | "list" | "watch" | "discovery"))
            .map(|(_, count)| count)
            .sum()
    }

    /// Returns the count of everything but watches: a steady state sends none.
    pub fn without_watches(&self) -> u64 {
        self.0
            .iter()
            .filter(|(verb, _)| **verb != "watch")
            .map(|(_, count)| count)
            .sum()
    }
}

#[derive(Default)]
pub(crate) struct RequestCounts([AtomicU64; VERBS.len()]);

impl RequestCounts {
    pub(crate) fn add(&self, verb: RequestVerb) {
        self.0[verb as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> RequestStats {
        RequestStats(
            VERBS
                .iter()
                .zip(&self.0)
                .map(|(verb, count)| (*verb, count.load(Ordering::Relaxed)))
                .collect(),
        )
    }
}

/// The last attempt to connect.
pub(crate) struct ConnectAttempt {
    generation: u64,
    at: Instant,
    failed: Option<ClusterProblem>,
}

/// The earliest start of the next request.
pub(crate) struct RateLimiter {
    interval: Duration,
    next: std::sync::Mutex<Instant>,
}

impl RateLimiter {
    pub(crate) fn new(requests_per_second: Option<u32>) -> Option<Self> {
        let rate = requests_per_second?.max(1);
        Some(Self {
            interval: Duration::from_secs(1) / rate,
            next: std::sync::Mutex::new(Instant::now()),
        })
    }

    /// The wait for the next slot, which is then taken.
    fn slot(&self, now: Instant) -> Duration {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = (*next).max(now);
        *next = slot + self.interval;
        slot - now
    }
}

impl ClusterClient {
    pub(crate) fn fault(
        &self,
        subject: impl Into<String>,
        problem: ClusterProblem,
    ) -> ClusterError {
        ClusterError {
            cluster: self.inner.name.clone(),
            subject: subject.into(),
            problem: Box::new(problem),
        }
    }

    /// Sends it until it is answered, as often as makes sense within a few seconds.
    pub(crate) async fn call(&self, call: ApiRequest<'_>) -> Result<ApiResponse, ClusterError> {
        let (mut tries, begun) = (0, Instant::now());
        loop {
            tries += 1;
            let problem = match self.once(&call).await {
                Ok(answer) => return Ok(answer),
                Err(problem) => problem,
            };
            // A throttled request was not executed; any other failed one may have been. A server
            // that does not respond at all is not tried four times for a minute each.
            let again = tries < TRIES
                && begun.elapsed() < PATIENCE / 2
                && problem.passes_quickly()
                && (call.again || matches!(problem, ClusterProblem::Throttled { .. }));
            let wait = match &problem {
                ClusterProblem::Throttled { retry_after } => *retry_after + jitter(100),
                _ => Duration::from_millis(50 << (2 * tries)) + jitter(100),
            };
            if !again || wait > LONGEST_WAIT + Duration::from_secs(1) {
                return Err(self.fault(call.subject, problem));
            }
            let message = format!("{}: trying again in {wait:?}: {problem}", call.subject);
            self.inner
                .events
                .record(Event::debug(EventReason::RequestRetried, message));
            tokio::time::sleep(wait).await;
        }
    }

    /// One attempt; a second one on a new connection if the credentials are refused.
    async fn once(&self, call: &ApiRequest<'_>) -> Result<ApiResponse, ClusterProblem> {
        let _permit =
            self.inner
                .permits
                .acquire()
                .await
                .map_err(|error| ClusterProblem::Protocol {
                    why: error.to_string(),
                })?;
        if let Some(pace) = &self.inner.pace {
            tokio::time::sleep(pace.slot(Instant::now())).await;
        }
        let connection = self.connection(None).await?;
        match self.send(call, &connection).await {
            Err(ClusterProblem::Unauthorized { .. }) if self.may_reopen() => {
                let renewed = self.connection(Some(connection.generation)).await?;
                self.send(call, &renewed).await
            }
            other => other,
        }
    }

    pub(super) async fn send(
        &self,
        call: &ApiRequest<'_>,
        connection: &Connection,
    ) -> Result<ApiResponse, ClusterProblem> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(&call.path)
            .header("accept", call.accept)
            .header("user-agent", concat!("tagboat/", env!("CARGO_PKG_VERSION")));
        if !call.body.is_empty() {
            request = request.header("content-type", call.content);
        }
        let mut request = request
            .body(Body::from(call.body.clone()))
            .map_err(|error| ClusterProblem::Address {
                why: format!("no request: {error}"),
            })?;
        connection.sign(&mut request, call.identity).await?;
        self.inner.counts.add(call.count);
        let unreachable = |why: String| ClusterProblem::Unreachable {
            server: connection.server.clone(),
            why,
        };
        let exchange = async {
            let (head, body) = connection
                .client
                .send(request)
                .await
                .map_err(|error| unreachable(transport(&error)))?
                .into_parts();
            let body = Limited::new(body, call.largest)
                .collect()
                .await
                .map_err(|error| match error.is::<LengthLimitError>() {
                    true => ClusterProblem::AnswerTooLarge {
                        limit: call.largest,
                    },
                    false => unreachable(chain(&*error)),
                })?
                .to_bytes();
            Ok::<_, ClusterProblem>((head, body))
        };
        let (head, body) = tokio::time::timeout(PATIENCE, exchange)
            .await
            .map_err(|_| unreachable(format!("no answer within {} s", PATIENCE.as_secs())))??;
        if head.status.is_success() {
            return Ok(ApiResponse {
                status: head.status,
                headers: head.headers,
                body,
            });
        }
        let who = self.who(call.identity);
        let asked = RequestTarget {
            verb: call.count.role_verb(),
            resource: &call.resource,
            namespace: call.namespace,
            gvk: call.gvk,
            who: &who,
            server: &connection.server,
        };
        Err(api_error::problem(
            head.status.as_u16(),
            retry_after(&head.headers),
            &body,
            &asked,
        ))
    }

    /// Returns the present connection, or a new one if it is missing, expiring or of the generation
    /// `refused`.
    pub(crate) async fn connection(
        &self,
        refused: Option<u64>,
    ) -> Result<Arc<Connection>, ClusterProblem> {
        let good = |connection: &Arc<Connection>| {
            refused != Some(connection.generation) && !connection.is_expiring()
        };
        let at_hand = || {
            self.inner
                .connection
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        };
        if let Some(connection) = at_hand().filter(good) {
            return Ok(connection);
        }
        let mut opened = self.inner.opened.lock().await;
        if let Some(connection) = at_hand().filter(good) {
            return Ok(connection);
        }
        let failed = match opened.take() {
            // A caller that waited here for a failed attempt does not start the next one: a plugin
            // may take a minute to fail.
            Some(ConnectAttempt {
                generation,
                at,
                failed: Some(problem),
            }) if at.elapsed() < REOPEN_PAUSE => {
                *opened = Some(ConnectAttempt {
                    generation,
                    at,
                    failed: Some(problem.clone()),
                });
                problem
            }
            before => {
                let generation = before.map_or(0, |before| before.generation + 1);
                let made = Box::pin(reopen(
                    self.inner.kubeconfig.as_deref(),
                    self.inner.context.as_deref(),
                    &self.inner.server,
                    generation,
                    self.inner.events.clone(),
                ))
                .await;
                *opened = Some(ConnectAttempt {
                    generation,
                    at: Instant::now(),
                    failed: made.as_ref().err().cloned(),
                });
                match made {
                    Ok(new) => {
                        let new = Arc::new(new);
                        *self
                            .inner
                            .connection
                            .write()
                            .unwrap_or_else(PoisonError::into_inner) = Some(new.clone());
                        return Ok(new);
                    }
                    Err(problem) => problem,
                }
            }
        };
        // An expiring connection is still valid.
        at_hand().filter(|_| refused.is_none()).ok_or(failed)
    }

    /// Returns whether a refusal of credentials leads to a reconnect: not right after one.
    pub(crate) fn may_reopen(&self) -> bool {
        let settled =
            |opened: &ConnectAttempt| opened.generation == 0 || opened.at.elapsed() > REOPEN_PAUSE;
        self.inner
            .opened
            .try_lock()
            .map_or(true, |opened| opened.as_ref().is_none_or(settled))
    }

    pub(crate) fn who(&self, identity: &RequestIdentity) -> String {
        match identity {
            RequestIdentity::Own => self.inner.user.clone(),
            RequestIdentity::ServiceAccount { namespace, name } => {
                format!("ServiceAccount {namespace}/{name}")
            }
        }
    }

    /// Parses a JSON response.
    pub(crate) fn read<T: serde::de::DeserializeOwned>(
        &self,
        subject: &str,
        body: &[u8],
    ) -> Result<T, ClusterError> {
        serde_json::from_slice(body).map_err(|error| {
            self.fault(
                subject,
                ClusterProblem::Protocol {
                    why: format!("no such JSON: {error}"),
                },
            )
        })
    }
}

/// Describes a transport error.
pub(crate) fn transport(error: &kube::Error) -> String {
    match error {
        kube::Error::Service(error) => chain(&**error),
        other => chain(other),
    }
}

/// `Retry-After`: seconds or a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default())
}

/// Up to so many milliseconds, so that many clients do not come back at once. Randomness of the
/// hasher is enough for that.
pub(crate) fn jitter(milliseconds: u64) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    Duration::from_millis(RandomState::new().hash_one(0) % milliseconds.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_limiter_spaces_its_slots() {
        let pace = RateLimiter::new(Some(10)).unwrap();
        let now = Instant::now();
        let waits: Vec<u64> = (0..3)
            .map(|_| pace.slot(now + Duration::from_secs(1)).as_millis() as u64)
            .collect();
        assert_eq!(waits, [0, 100, 200]);
        assert!(RateLimiter::new(None).is_none());
    }

    #[test]
    fn retry_after_parses_seconds_and_dates() {
        let headers = |value: &str| {
            HeaderMap::from_iter([("retry-after".parse().unwrap(), value.parse().unwrap())])
        };
        assert_eq!(retry_after(&headers("7")), Some(Duration::from_secs(7)));
        assert_eq!(
            retry_after(&headers("Fri, 20 Nov 2020 10:00:00 GMT")),
            Some(Duration::ZERO)
        );
        assert_eq!(retry_after(&headers("soon")), None);
    }
}
