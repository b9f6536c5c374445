//! HTTP for every client here: routes, calls within limits, rate limits and links between pages.
//!
//! Each client (`registry`, `forge`) adds its own sign-in and the meaning of its responses.

mod address;
pub mod budget;
mod call;
pub mod link;

pub use address::{is_loopback, is_private};
pub use call::{HttpBody, HttpCall, HttpFailure, HttpHost, HttpResponse, HttpTimeouts, PLAIN_HTTP};

use crate::core::secret::Secret;
use reqwest::{Client, Url};
use std::{
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

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

/// `host[:port]` of a URL: the name of a budget.
pub fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A lock whose holder cannot have left the value half changed: every critical section here is a
/// single step.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
