//! Registry configuration, already checked and resolved by the caller.

use crate::io::http::{HttpTimeouts, Proxy, SecretLocation};
use std::{path::PathBuf, time::Duration};

/// The settings for registries below one prefix.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// `host[:port]` or `host[:port]/path` as in [`crate::core::image::ImageRepository::as_str`];
    /// the longest that fits wins.
    pub prefix: String,
    pub credentials: RegistryLogin,
    /// Speak plain HTTP. Then the token service may be plain, too.
    pub insecure: bool,
    /// PEM file of further certificate authorities.
    pub ca_file: Option<PathBuf>,
    pub proxy: Proxy,
    /// Requests a second to the host. The smallest of all prefixes of one host counts.
    pub requests_per_second: Option<u32>,
    /// Requests in flight to the host, at least 1. The smallest of all prefixes of one host counts.
    pub concurrency: usize,
    /// Config repositories that may use these credentials; empty means all. Kept here, checked by
    /// the caller.
    pub allowed_repositories: Vec<String>,
    /// Trust `Last-Modified` of a manifest as the time of its push (DESIGN §3, minimumAge).
    pub push_time: bool,
}

impl RegistryConfig {
    /// Anonymous, over TLS, eight requests in flight (what a browser opens to one host, rounded
    /// up).
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            credentials: RegistryLogin::Anonymous,
            insecure: false,
            ca_file: None,
            proxy: Proxy::System,
            requests_per_second: None,
            concurrency: 8,
            allowed_repositories: Vec::new(),
            push_time: false,
        }
    }
}

/// The sign-in of a registry. Nothing is read before a registry asks for it.
#[derive(Debug, Clone)]
pub enum RegistryLogin {
    /// Tokens are requested anonymously.
    Anonymous,
    /// A user name and a password (or personal access token).
    Basic {
        username: String,
        password: SecretLocation,
    },
    /// A token sent as it is (`Authorization: Bearer`).
    Bearer(SecretLocation),
    /// A docker `config.json`: `auths`, `credHelpers`, `credsStore`.
    DockerConfig { path: PathBuf },
    /// A docker credential helper: `ecr-login` runs `docker-credential-ecr-login`; with a `/` in
    /// it, it is the program's path.
    Helper {
        /// Short name or path.
        program: String,
    },
}

/// Timeouts. [`Default`] suits real registries; tests shorten them.
#[derive(Debug, Clone, Copy)]
pub struct RegistryTimeouts {
    /// To connect, TLS included.
    pub connect: Duration,
    /// From the request sent to the headers of its answer.
    pub headers: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    pub body: Duration,
    pub helper: Duration,
    /// Before the first repetition; doubled each time, ±50 %.
    pub backoff: Duration,
    /// Tries of one request when the connection fails or the server answers 5xx.
    pub attempts: u32,
    /// The lifetime of resolved credentials before they are read again.
    pub credentials: Duration,
}

impl RegistryTimeouts {
    /// Returns the timeouts of one HTTP call.
    pub(crate) fn http(&self) -> HttpTimeouts {
        HttpTimeouts {
            connect: self.connect,
            headers: self.headers,
            idle: self.idle,
            body: self.body,
            backoff: self.backoff,
            attempts: self.attempts,
        }
    }
}

impl Default for RegistryTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            headers: Duration::from_secs(30),
            idle: Duration::from_secs(20),
            body: Duration::from_secs(120),
            helper: Duration::from_secs(10),
            backoff: Duration::from_millis(250),
            attempts: 3,
            credentials: Duration::from_secs(300),
        }
    }
}
