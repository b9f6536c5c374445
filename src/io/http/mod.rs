//! HTTP for every client here: routes, bounded requests, rate limits and links between pages.
//!
//! Each client (`registry`, `forge`) adds its own sign-in and the meaning of its responses.

pub mod budget;
pub mod link;

use crate::core::secret::Secret;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url, header::HeaderMap};
use std::{
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

/// Only the beginning of an error's body is useful.
const COMPLAINT: usize = 16 * 1024;

/// The way out to a host.
#[derive(Debug, Clone)]
pub enum Proxy {
    /// The proxy of the usual variables (`HTTPS_PROXY`, `NO_PROXY`).
    System,
    Direct,
    /// An explicit proxy. A secret, since proxy URLs carry passwords.
    Url(Secret),
}

/// The location of a secret.
#[derive(Debug, Clone)]
pub enum SecretLocation {
    Value(Secret),
    /// A file that is read again when the credentials are refreshed, so that a rotated secret is
    /// picked up.
    File(PathBuf),
}

impl From<Secret> for SecretLocation {
    fn from(secret: Secret) -> Self {
        Self::Value(secret)
    }
}

impl SecretLocation {
    /// The text; of a file without its last line end.
    ///
    /// # Errors
    /// Where the file is, and why it cannot be used.
    pub async fn text(&self) -> Result<Secret, (String, String)> {
        match self {
            Self::Value(secret) => Ok(secret.clone()),
            Self::File(path) => {
                let place = || format!("file {}", path.display());
                let text = tokio::fs::read_to_string(path)
                    .await
                    .map_err(|error| (place(), error.to_string()))?;
                let text = text.trim_end_matches(['\r', '\n']);
                if text.is_empty() {
                    Err((place(), "it is empty".to_owned()))
                } else {
                    Ok(Secret::new(text))
                }
            }
        }
    }
}

/// The route to a host: proxy, TLS and certificate authorities.
#[derive(Debug, Clone, Copy)]
pub struct HostRoute<'a> {
    pub proxy: &'a Proxy,
    /// PEM file of further certificate authorities.
    pub ca_file: Option<&'a Path>,
    /// True to allow plain HTTP.
    pub plain: bool,
    /// True if the host is this machine, where the system's proxy does not apply ([`is_loopback`]).
    pub loopback: bool,
    /// The longest wait for a connection, TLS included.
    pub connect: Duration,
}

impl HostRoute<'_> {
    /// Builds a client that follows no redirect by itself. Requires the process-wide TLS provider.
    ///
    /// # Errors
    /// If the CA file or the proxy cannot be used; never with the proxy's text, which may contain a
    /// password.
    pub fn client(&self) -> Result<Client, String> {
        let mut builder = Client::builder()
            .user_agent(concat!("tagboat/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(self.connect)
            .https_only(!self.plain);
        builder = match self.proxy {
            // A proxy cannot reach this machine's loopback, whatever the variables say; Go's tools
            // behave the same way.
            Proxy::System if self.loopback => builder.no_proxy(),
            Proxy::System => builder,
            Proxy::Direct => builder.no_proxy(),
            // The reason could quote the URL and its password.
            Proxy::Url(url) => builder.proxy(
                reqwest::Proxy::all(url.expose()).map_err(|_| "the proxy is no URL".to_owned())?,
            ),
        };
        if let Some(path) = self.ca_file {
            let about = |why: String| format!("caFile {}: {why}", path.display());
            let pem = std::fs::read(path).map_err(|error| about(error.to_string()))?;
            let roots = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|_| about("is no PEM file of certificates".to_owned()))?;
            if roots.is_empty() {
                return Err(about("has no certificate in it".to_owned()));
            }
            builder = builder.tls_certs_merge(roots);
        }
        builder
            .build()
            .map_err(|error| format!("no HTTP client: {error:?}"))
    }
}

/// Returns whether a host, with or without a port, is this machine by name: `localhost` or an
/// address like `127.0.0.1` or `[::1]`.
pub fn is_loopback(host: &str) -> bool {
    let port = host
        .rfind(':')
        .filter(|at| host[at + 1..].bytes().all(|byte| byte.is_ascii_digit()));
    let name = port.map_or(host, |at| &host[..at]);
    let address = name
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// The time limits of a request on an open connection, and the size limit of its response.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// The connect timeout; only named in errors, since the client already has it.
    pub connect: Duration,
    /// From the request sent to the headers of its answer.
    pub headers: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    pub body: Duration,
    /// Most bytes of a body.
    pub limit: usize,
}

/// A request without a usable answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpFailure {
    /// The connection failed, for this innermost reason.
    Transport(String),
    /// A part of the response that missed its deadline: "connection", "headers", "whole body",
    /// "more of the body".
    Timeout(&'static str, Duration),
    /// The body is larger than [`HttpLimits::limit`].
    TooLarge,
}

/// Sends a request and waits for the headers of its answer.
///
/// # Errors
/// If the connection fails or is too slow.
pub async fn send(request: RequestBuilder, bounds: HttpLimits) -> Result<Response, HttpFailure> {
    match tokio::time::timeout(bounds.headers, request.send()).await {
        Err(_) => Err(HttpFailure::Timeout("headers", bounds.headers)),
        Ok(Err(error)) if error.is_connect() && error.is_timeout() => {
            Err(HttpFailure::Timeout("connection", bounds.connect))
        }
        Ok(Err(error)) => Err(transport(error)),
        Ok(Ok(response)) => Ok(response),
    }
}

/// Reads a body; beyond its bound an honest one is refused and an error's is cut. `method` is the
/// request's.
///
/// # Errors
/// If the connection fails, is too slow or gives too much.
pub async fn body(
    response: Response,
    method: &Method,
    bounds: HttpLimits,
) -> Result<Vec<u8>, HttpFailure> {
    let read = tokio::time::timeout(bounds.body, pieces(response, method, bounds)).await;
    read.unwrap_or(Err(HttpFailure::Timeout("whole body", bounds.body)))
}

async fn pieces(
    mut response: Response,
    method: &Method,
    bounds: HttpLimits,
) -> Result<Vec<u8>, HttpFailure> {
    let honest = response.status().is_success();
    let limit = if honest { bounds.limit } else { COMPLAINT };
    if honest
        && method != Method::HEAD
        && response
            .content_length()
            .is_some_and(|length| length > limit as u64)
    {
        return Err(HttpFailure::TooLarge);
    }
    let mut body = Vec::new();
    loop {
        match tokio::time::timeout(bounds.idle, response.chunk()).await {
            Err(_) => return Err(HttpFailure::Timeout("more of the body", bounds.idle)),
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            Ok(Ok(None)) => return Ok(body),
            Ok(Err(_)) if !honest => return Ok(body),
            Ok(Err(error)) => return Err(transport(error)),
        }
        match (body.len() > limit, honest) {
            (true, true) => return Err(HttpFailure::TooLarge),
            (true, false) => {
                body.truncate(limit);
                return Ok(body);
            }
            (false, _) => {}
        }
    }
}

/// The innermost reason, without the URL (whose query may be long).
fn transport(error: reqwest::Error) -> HttpFailure {
    let error = error.without_url();
    let mut why: &dyn std::error::Error = &error;
    while let Some(inner) = why.source() {
        why = inner;
    }
    HttpFailure::Transport(why.to_string().chars().take(300).collect())
}

/// An answer, read whole.
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
}

/// `host[:port]` of a URL: the name of a budget.
pub fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// ±50 %. The hasher's seed is the only randomness needed for a wait.
pub fn jittered(wait: Duration) -> Duration {
    let percent = 50 + RandomState::new().hash_one(wait) % 101;
    wait * u32::try_from(percent).unwrap_or(100) / 100
}

/// A lock whose holder cannot have left the value half changed: every critical section here is a
/// single step.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_names() {
        for host in [
            "localhost",
            "localhost:5000",
            "LOCALHOST:5000",
            "127.0.0.1",
            "127.3.2.1:80",
            "[::1]",
            "[::1]:5000",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "ghcr.io",
            "localhost.example.org",
            "128.0.0.1:5000",
            "[::2]:1",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
