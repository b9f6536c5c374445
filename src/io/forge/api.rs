//! One call of a forge's API: authenticated, rate limited, bounded in time and size, with paging
//! and ETags.

mod call;
mod dialect;
mod pages;

pub(crate) use call::ApiCall;
pub(crate) use dialect::{Dialect, PageProgress, TokenSource, linked_page, numbered_page};
pub(crate) use pages::{Dated, Entry, List};

use super::{
    ForgeConfig, ForgeError, ForgeLogin, ForgeOperation, ForgeProblem,
    cache::ResponseCache,
    error::{WORDS, words},
    pass_cache::PassCache,
};
use crate::{
    core::{
        retry::{Backoffs, backoffs},
        secret::Secret,
    },
    io::http::{
        HostRoute, HttpFailure, HttpHost, HttpResponse, HttpTimeouts, SecretLocation, host_of,
        is_loopback, lock,
    },
};
use reqwest::{
    Client, Method, StatusCode, Url,
    header::{ETAG, HeaderName, HeaderValue},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

/// The one lane of a forge: it counts requests by the token.
const LANE: &str = "";

/// Most bytes of an answer: a page of a hundred requests with the longest texts has some ten MiB.
const MOST_BYTES: usize = 24 << 20;
/// Most pages of one list: ten thousand requests.
const MOST_PAGES: usize = 200;
/// Requests in flight. GitHub asks clients not to send many at once.
const FLIGHT: usize = 6;
/// Redirects of one call.
const HOPS: usize = 3;
/// Statuses of a refusal because of a rate limit: GitHub's second limit answers 403.
const THROTTLING: &[StatusCode] = &[StatusCode::TOO_MANY_REQUESTS, StatusCode::FORBIDDEN];
/// GitHub's documented wait for its secondary rate limit if the response names none.
const SECOND_LIMIT: Duration = Duration::from_secs(60);

/// The authentication of calls.
pub(crate) enum ApiAuth {
    Anonymous,
    Token(SecretLocation),
    /// Short-lived tokens, obtained by signing in.
    Source(Box<dyn TokenSource>),
}

/// A forge's API, for one repository.
pub(crate) struct ForgeApi {
    dialect: &'static Dialect,
    pub(crate) repository: String,
    base: Url,
    client: Client,
    timeouts: HttpTimeouts,
    auth: ApiAuth,
    host: HttpHost,
    cache: Mutex<ResponseCache>,
    /// Responses cached for one pass.
    pub(crate) pass_cache: PassCache,
    /// Comments that this process wrote, by id.
    pub(crate) written: Mutex<HashSet<u64>>,
    calls: Mutex<BTreeMap<ForgeOperation, u64>>,
}

impl std::fmt::Debug for ForgeApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Api({} {} {})",
            self.dialect.kind, self.base, self.repository
        )
    }
}

impl ForgeApi {
    pub(crate) fn new(config: &ForgeConfig, dialect: &'static Dialect) -> Result<Self, ForgeError> {
        let base = config.forge.api.clone();
        let host = host_of(&base);
        let setup = |why| ForgeError {
            forge: config.forge.kind,
            host: host.as_str().into(),
            repository: config.forge.project.as_str().into(),
            operation: ForgeOperation::SignIn,
            permission: (dialect.scope)(ForgeOperation::SignIn),
            problem: ForgeProblem::Setup(why),
        };
        let route = HostRoute {
            proxy: &config.proxy,
            ca_file: config.ca_file.as_deref(),
            plain: base.scheme() == "http",
            loopback: is_loopback(&host),
            connect: config.timeouts.connect,
        };
        let client = route.client().map_err(setup)?;
        let auth = match &config.credentials {
            ForgeLogin::Anonymous => ApiAuth::Anonymous,
            ForgeLogin::Token(source) => ApiAuth::Token(source.clone()),
            ForgeLogin::App { .. } => match dialect
                .token_source
                .and_then(|new| new(&config.credentials))
            {
                Some(source) => ApiAuth::Source(source),
                None => return Err(setup("this forge has no Apps".to_owned())),
            },
        };
        Ok(Self {
            dialect,
            repository: config.forge.project.clone(),
            base,
            client,
            timeouts: config.timeouts,
            auth,
            host: HttpHost::new(None, FLIGHT, THROTTLING),
            cache: Mutex::default(),
            pass_cache: PassCache::default(),
            written: Mutex::default(),
            calls: Mutex::default(),
        })
    }

    /// Returns the request counts by operation; retries count.
    pub(crate) fn calls(&self) -> BTreeMap<ForgeOperation, u64> {
        lock(&self.calls).clone()
    }

    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// An address below the API's; each segment is escaped, so that a branch with a slash stays
    /// one.
    pub(crate) fn url<'a>(
        &self,
        segments: impl IntoIterator<Item = &'a str>,
        query: &[(&str, &str)],
    ) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    pub(crate) fn error(&self, operation: ForgeOperation, problem: ForgeProblem) -> ForgeError {
        ForgeError {
            forge: self.dialect.kind,
            host: host_of(&self.base).into(),
            repository: self.repository.as_str().into(),
            operation,
            permission: (self.dialect.scope)(operation),
            problem,
        }
    }

    /// Sends a call and reads its answer, whose status is a success.
    pub(crate) async fn send(&self, call: &ApiCall) -> Result<HttpResponse, ForgeError> {
        let mut renewed = false;
        loop {
            let answer = match &self.auth {
                ApiAuth::Anonymous => self.try_send(call, None).await,
                ApiAuth::Token(source) => match source.text().await {
                    Ok(token) => self.try_send(call, Some(&token)).await,
                    Err((origin, why)) => Err(ForgeProblem::Credentials { origin, why }),
                },
                ApiAuth::Source(source) => match source.token(self).await {
                    Ok(token) => match self.try_send(call, Some(&token)).await {
                        Err(ForgeProblem::Unauthorized { .. }) if !renewed => {
                            source.forget(&token).await;
                            renewed = true;
                            continue;
                        }
                        answer => answer,
                    },
                    Err(problem) => return Err(self.error(ForgeOperation::SignIn, problem)),
                },
            };
            return answer.map_err(|problem| self.error(call.operation, problem));
        }
    }

    /// Sends an idempotent call that changes something, and whose response says no more.
    pub(crate) async fn apply(
        &self,
        operation: ForgeOperation,
        method: Method,
        url: Url,
        body: impl Into<Option<Value>>,
    ) -> Result<(), ForgeError> {
        let call = ApiCall::idempotent(operation, method, url, body);
        self.send(&call).await.map(drop)
    }

    /// Sends a call with this token, again while its failure is transient.
    pub(crate) async fn try_send(
        &self,
        call: &ApiCall,
        token: Option<&Secret>,
    ) -> Result<HttpResponse, ForgeProblem> {
        self.timeouts
            .retry(
                call.http.idempotent,
                || self.follow(call, token),
                ForgeProblem::is_transient,
            )
            .await
    }

    /// Returns the back-offs before repeated attempts of a call that the forge refused for now.
    pub(crate) fn backoffs(&self, repetitions: u32) -> Backoffs {
        backoffs(self.timeouts.backoff, repetitions)
    }

    /// Follows redirects of reads, within the API only: GitHub sends them for a renamed repository.
    async fn follow(
        &self,
        call: &ApiCall,
        token: Option<&Secret>,
    ) -> Result<HttpResponse, ForgeProblem> {
        let mut call = call.clone();
        self.add_headers(&mut call, token)?;
        for _ in 0..=HOPS {
            let response = self.exchange(&call).await?;
            if !matches!(response.status.as_u16(), 301 | 302 | 307 | 308) {
                return self.judge(&call, response, token);
            }
            match response.location() {
                Some(to)
                    if call.http.method == Method::GET && to.origin() == self.base.origin() =>
                {
                    call.http.url = to;
                }
                to => {
                    let to = to.as_ref().map_or_else(|| "?".to_owned(), host_and_path);
                    return Err(ForgeProblem::Redirect { to });
                }
            }
        }
        let to = host_and_path(&call.http.url);
        Err(ForgeProblem::Redirect { to })
    }

    fn add_headers(&self, call: &mut ApiCall, token: Option<&Secret>) -> Result<(), ForgeProblem> {
        let headers = &mut call.http.headers;
        for (name, value) in self.dialect.headers {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        if let Some(token) = token {
            let (name, text) = (self.dialect.authorization)(token.expose());
            let mut value =
                HeaderValue::from_str(&text).map_err(|_| ForgeProblem::Credentials {
                    origin: "the configured token".to_owned(),
                    why: "it has characters that no token has".to_owned(),
                })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(())
    }

    async fn exchange(&self, call: &ApiCall) -> Result<HttpResponse, ForgeProblem> {
        let count = || *lock(&self.calls).entry(call.operation).or_default() += 1;
        self.host
            .exchange(&self.client, LANE, &call.http, &self.timeouts, count)
            .await
            .map_err(|failure| match failure {
                HttpFailure::Transport(why) => ForgeProblem::Transport(why),
                HttpFailure::Timeout(what, after) => ForgeProblem::Timeout { what, after },
                HttpFailure::TooLarge => ForgeProblem::TooLarge {
                    endpoint: call.endpoint(),
                    limit: call.http.limit,
                },
                HttpFailure::Throttled(retry_after) => ForgeProblem::Throttled { retry_after },
            })
    }

    /// Classifies the statuses that mean the same on every forge.
    fn judge(
        &self,
        call: &ApiCall,
        answer: HttpResponse,
        token: Option<&Secret>,
    ) -> Result<HttpResponse, ForgeProblem> {
        let status = answer.status.as_u16();
        if answer.status.is_success() || (status == 304 && call.http.is_conditional()) {
            return Ok(answer);
        }
        if answer.is_html() && status != 404 {
            return Err(ForgeProblem::Content {
                endpoint: call.endpoint(),
                why: format!("HTML with status {status}"),
            });
        }
        let message = words(&answer.body, token);
        Err(match status {
            401 => ForgeProblem::Unauthorized { message },
            403 if message
                .as_deref()
                .is_some_and(|message| message.contains("secondary rate limit")) =>
            {
                self.park(SECOND_LIMIT);
                ForgeProblem::Throttled {
                    retry_after: SECOND_LIMIT,
                }
            }
            403 => ForgeProblem::Forbidden { message },
            404 => ForgeProblem::NotFound { message },
            400 | 409 | 422 => ForgeProblem::Refused { status, message },
            _ => ForgeProblem::Status { status, message },
        })
    }

    /// Sends nothing for this long.
    pub(crate) fn park(&self, wait: Duration) {
        self.host.park(LANE, wait);
    }

    pub(crate) async fn json<T: DeserializeOwned>(&self, call: &ApiCall) -> Result<T, ForgeError> {
        let answer = self.send(call).await?;
        self.read(call, &answer)
    }

    /// The value that an answer holds.
    pub(crate) fn read<T: DeserializeOwned>(
        &self,
        call: &ApiCall,
        answer: &HttpResponse,
    ) -> Result<T, ForgeError> {
        self.parse(call, answer)
            .map_err(|problem| self.error(call.operation, problem))
    }

    pub(crate) fn parse<T: DeserializeOwned>(
        &self,
        call: &ApiCall,
        answer: &HttpResponse,
    ) -> Result<T, ForgeProblem> {
        serde_json::from_slice(&answer.body).map_err(|error| ForgeProblem::Content {
            endpoint: call.endpoint(),
            why: if answer.is_html() {
                "HTML".to_owned()
            } else {
                format!("no such JSON: {error}")
                    .chars()
                    .take(WORDS)
                    .collect()
            },
        })
    }

    /// Reads JSON; conditionally where an ETag came with it the last time.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        operation: ForgeOperation,
        url: Url,
    ) -> Result<T, ForgeError> {
        let key = url.to_string();
        let known = lock(&self.cache).get::<HttpResponse>(&key);
        let etag = known.as_ref().map(|(etag, _)| etag.clone());
        let call = ApiCall::get(operation, url).conditional(etag);
        let answer = self.send(&call).await?;
        if let (304, Some((_, known))) = (answer.status.as_u16(), known) {
            return self.read(&call, &known);
        }
        let value = self.read(&call, &answer)?;
        match answer.headers.get(ETAG).cloned() {
            Some(etag) => {
                let size = answer.body.len();
                lock(&self.cache).put(key, etag, Arc::new(answer), size);
            }
            None => lock(&self.cache).forget(&key),
        }
        Ok(value)
    }

    /// Reads JSON that may not be there.
    pub(crate) async fn find<T: DeserializeOwned>(
        &self,
        operation: ForgeOperation,
        url: Url,
    ) -> Result<Option<T>, ForgeError> {
        match self.get(operation, url).await {
            Ok(value) => Ok(Some(value)),
            Err(ForgeError {
                problem: ForgeProblem::NotFound { .. },
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn host_and_path(url: &Url) -> String {
    format!("{}{}", host_of(url), url.path())
}
