//! One call of a forge's API: authenticated, rate limited, bounded in time and size, with paging
//! and ETags.

mod call;
mod dialect;
mod pages;

pub(crate) use call::ApiCall;
pub(crate) use dialect::{Dialect, PageProgress, TokenSource, linked_page, numbered_page};
pub(crate) use pages::{Dated, Entry, List};

use super::{
    ForgeConfig, ForgeError, ForgeLogin, ForgeOperation, ForgeProblem, ForgeTimeouts,
    cache::ResponseCache,
    error::{WORDS, words},
    pass_cache::PassCache,
};
use crate::{
    core::secret::Secret,
    io::http::{
        self, HostRoute, HttpFailure, HttpLimits, HttpResponse, SecretLocation,
        budget::{Admission, Budget},
        host_of, jittered, lock,
    },
};
use jiff::Timestamp;
use reqwest::{
    Client, Method, StatusCode, Url,
    header::{ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH},
};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// Most bytes of an answer: a page of a hundred requests with the longest texts has some ten MiB.
const MOST_BYTES: usize = 24 << 20;
/// Most pages of one list: ten thousand requests.
const MOST_PAGES: usize = 200;
/// Requests in flight. GitHub asks clients not to send many at once.
const FLIGHT: usize = 6;
/// Redirects of one call.
const HOPS: usize = 3;
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
    timing: ForgeTimeouts,
    auth: ApiAuth,
    budget: Mutex<Budget>,
    flight: Semaphore,
    cache: Mutex<ResponseCache>,
    /// Responses cached for one pass.
    pub(crate) standing: PassCache,
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
            host: host.clone(),
            repository: config.forge.project.clone(),
            operation: ForgeOperation::SignIn,
            problem: ForgeProblem::Setup(why),
        };
        let way = HostRoute {
            proxy: &config.proxy,
            ca_file: config.ca_file.as_deref(),
            plain: base.scheme() == "http",
            loopback: http::is_loopback(&host),
            connect: config.timing.connect,
        };
        let client = way.client().map_err(setup)?;
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
            timing: config.timing,
            auth,
            budget: Mutex::new(Budget::new(Instant::now(), None)),
            flight: Semaphore::new(FLIGHT),
            cache: Mutex::default(),
            standing: PassCache::default(),
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
            host: host_of(&self.base),
            repository: self.repository.clone(),
            operation,
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

    /// Sends a call with this token, again while trouble passes and the call may be sent again.
    pub(crate) async fn try_send(
        &self,
        call: &ApiCall,
        token: Option<&Secret>,
    ) -> Result<HttpResponse, ForgeProblem> {
        let mut attempt = 1;
        loop {
            let problem = match self.follow(call, token).await {
                Ok(answer) => return Ok(answer),
                Err(problem) => problem,
            };
            if !call.again || attempt >= self.timing.attempts.max(1) || !problem.is_passing() {
                return Err(problem);
            }
            self.pause(attempt).await;
            attempt += 1;
        }
    }

    /// Waits before another try; longer after each.
    pub(crate) async fn pause(&self, attempt: u32) {
        tokio::time::sleep(jittered(
            self.timing.backoff * 2u32.pow(attempt.clamp(1, 8) - 1),
        ))
        .await;
    }

    /// Follows redirects of reads, within the API only: GitHub sends them for a renamed repository.
    async fn follow(
        &self,
        call: &ApiCall,
        token: Option<&Secret>,
    ) -> Result<HttpResponse, ForgeProblem> {
        let mut call = call.clone();
        for _ in 0..=HOPS {
            let answer = self.exchange(&call, token).await?;
            if !matches!(answer.status.as_u16(), 301 | 302 | 307 | 308) {
                return self.judge(&call, answer, token);
            }
            let target = answer
                .header("location")
                .and_then(|place| call.url.join(place).ok());
            match target {
                Some(to) if call.method == Method::GET && to.origin() == self.base.origin() => {
                    call.url = to
                }
                to => {
                    return Err(ForgeProblem::Redirect {
                        to: to.map_or_else(
                            || "?".to_owned(),
                            |to| format!("{}{}", host_of(&to), to.path()),
                        ),
                    });
                }
            }
        }
        Err(ForgeProblem::Redirect {
            to: format!("{}{}", host_of(&call.url), call.url.path()),
        })
    }

    async fn exchange(
        &self,
        call: &ApiCall,
        token: Option<&Secret>,
    ) -> Result<HttpResponse, ForgeProblem> {
        let _permit = self
            .flight
            .acquire()
            .await
            .map_err(|_| ForgeProblem::Setup("the forge client is closed".to_owned()))?;
        let admission = lock(&self.budget).admit(Instant::now());
        if let Admission::Parked(retry_after) = admission {
            return Err(ForgeProblem::Throttled { retry_after });
        }
        let mut request = self
            .client
            .request(call.method.clone(), call.url.clone())
            .headers(self.fixed_headers());
        if let Some(token) = token {
            let (name, text) = (self.dialect.authorization)(token.expose());
            let origin = || "the configured token".to_owned();
            let mut value =
                HeaderValue::from_str(&text).map_err(|_| ForgeProblem::Credentials {
                    origin: origin(),
                    why: "it has characters that no token has".to_owned(),
                })?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        if let Some(etag) = &call.etag {
            request = request.header(IF_NONE_MATCH, etag.clone());
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        *lock(&self.calls).entry(call.operation).or_default() += 1;
        let timing = self.timing;
        let bounds = HttpLimits {
            connect: timing.connect,
            headers: timing.headers,
            idle: timing.idle,
            body: timing.body,
            limit: MOST_BYTES,
        };
        let failed = |failure| match failure {
            HttpFailure::Transport(why) => ForgeProblem::Transport(why),
            HttpFailure::Timeout(what, after) => ForgeProblem::Timeout { what, after },
            HttpFailure::TooLarge => ForgeProblem::TooLarge {
                endpoint: call.endpoint(),
                limit: MOST_BYTES,
            },
        };
        let response = http::send(request, bounds).await.map_err(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let wish = lock(&self.budget).answered(Instant::now(), Timestamp::now(), status, &headers);
        if let (Some(retry_after), StatusCode::TOO_MANY_REQUESTS | StatusCode::FORBIDDEN) =
            (wish, status)
        {
            return Err(ForgeProblem::Throttled { retry_after });
        }
        let body = http::body(response, &call.method, bounds)
            .await
            .map_err(failed)?;
        Ok(HttpResponse {
            status,
            headers,
            body,
            url: call.url.clone(),
        })
    }

    fn fixed_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in self.dialect.headers {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        headers
    }

    /// Classifies the statuses that mean the same on every forge.
    fn judge(
        &self,
        call: &ApiCall,
        answer: HttpResponse,
        token: Option<&Secret>,
    ) -> Result<HttpResponse, ForgeProblem> {
        let status = answer.status.as_u16();
        if answer.status.is_success() || (status == 304 && call.etag.is_some()) {
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
        lock(&self.budget).park(Instant::now(), wait);
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
        let call = ApiCall {
            etag: known.as_ref().map(|(etag, _)| etag.clone()),
            ..ApiCall::get(operation, url)
        };
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
