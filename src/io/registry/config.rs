//! Registry configuration, already checked and resolved by the caller.

use crate::io::http::{HttpTimeouts, Proxy, SecretLocation};
use std::{path::PathBuf, time::Duration};

/// The shortest interval of scans where no setting says otherwise.
const MINIMUM_INTERVAL: Duration = Duration::from_secs(10);

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
    /// The shortest interval of scans that a policy gets.
    pub minimum_interval: Duration,
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
            minimum_interval: MINIMUM_INTERVAL,
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

/// Time limits. [`Default`] suits a daemon with real registries.
#[derive(Debug, Clone, Copy)]
pub struct RegistryTimeouts {
    /// Of one request.
    pub http: HttpTimeouts,
    pub helper: Duration,
    /// The lifetime of resolved credentials before they are read again.
    pub credentials: Duration,
    /// The longest `Retry-After` that a request waits out. Zero for a daemon: its schedule waits,
    /// so that no pass stands still.
    pub retry_after: Duration,
}

impl RegistryTimeouts {
    /// The limits for a command that runs once: nothing would send its requests again later.
    pub fn one_shot() -> Self {
        Self {
            retry_after: Duration::from_secs(60),
            ..Self::default()
        }
    }
}

impl Default for RegistryTimeouts {
    fn default() -> Self {
        Self {
            http: HttpTimeouts::DEFAULT,
            helper: Duration::from_secs(10),
            credentials: Duration::from_secs(300),
            retry_after: Duration::ZERO,
        }
    }
}
