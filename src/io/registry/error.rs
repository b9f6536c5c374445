//! Errors of registries.

use crate::{
    core::{
        error::{Classify, ErrorKind},
        image::{Digest, shown},
    },
    io::http::PLAIN_HTTP,
};
use std::time::Duration;

/// A registry did not deliver the requested facts. Nothing of the response is used (fail closed).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{subject}: {problem}")]
pub struct RegistryError {
    /// The repository (`host/path`), tag or digest included where one was asked for.
    pub subject: String,
    pub problem: RegistryProblem,
}

/// The cause. Texts of the registry are escaped and cut in the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryProblem {
    /// 404.
    #[error("the registry has no such {what}")]
    NotFound {
        /// "repository", "tag" or "manifest".
        what: &'static str,
    },
    /// 401 or 403, by the registry or its token service.
    #[error(
        "sign-in to {host} refused ({status}) with {credentials}{}",
        says(message)
    )]
    Unauthorized {
        host: String,
        /// 401 or 403.
        status: u16,
        /// The source of the credentials that were used; never their text.
        credentials: String,
        /// The registry's message.
        message: Option<String>,
    },
    /// The registry wants us to wait. Nothing is sent to the host before that.
    #[error("{host} limits requests: next try in {} s", retry_after.as_secs().max(1))]
    Throttled {
        /// The host that is left alone.
        host: String,
        retry_after: Duration,
    },
    #[error("{host} answered {status} to {what}{}", says(message))]
    Status {
        host: String,
        what: &'static str,
        status: u16,
        /// The registry's message.
        message: Option<String>,
    },
    /// An answer that is not what the protocol promises.
    #[error("{host} answered {what} with something else: {why}")]
    Content {
        host: String,
        what: &'static str,
        why: String,
    },
    /// An answer larger than anything honest.
    #[error("{host} answered {what} with more than {limit} bytes")]
    TooLarge {
        host: String,
        what: &'static str,
        /// The bound in bytes.
        limit: usize,
    },
    #[error("{host} sends tag pages without end: {why}")]
    Endless { host: String, why: String },
    /// A redirect that is not followed.
    #[error("{host} redirects {what} to {}: not followed, {why}", shown(to))]
    Redirect {
        host: String,
        what: &'static str,
        /// Host of the new place.
        to: String,
        why: &'static str,
    },
    /// A request for sign-in that cannot be followed.
    #[error("{host} asks for sign-in in a way that is not followed: {why}")]
    Challenge { host: String, why: String },
    /// The content is not what its digest says.
    #[error("content of {host} has digest {found}, not {expected}")]
    Digest {
        host: String,
        /// The digest asked for or promised.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    #[error("cannot reach {host}: {why}")]
    Transport { host: String, why: String },
    #[error("{host} is too slow: no {what} within {} ms", after.as_millis())]
    Timeout {
        host: String,
        /// "connection", "headers" or "body".
        what: &'static str,
        after: Duration,
    },
    /// Credentials that cannot be had.
    #[error("no credentials from {origin}: {why}")]
    Credentials {
        /// The configured source.
        origin: String,
        why: String,
    },
    /// A setting of `tagboat.yaml` cannot be used.
    #[error("{0}")]
    Setup(String),
}

/// Formats `: "message of the registry"`, if there is one.
fn says(message: &Option<String>) -> String {
    message
        .as_deref()
        .map(|text| format!(": {}", shown(text)))
        .unwrap_or_default()
}

impl RegistryProblem {
    pub(crate) fn about(self, subject: impl Into<String>) -> RegistryError {
        RegistryError {
            subject: subject.into(),
            problem: self,
        }
    }

    /// Returns whether the error is transient: the same request, sent again at once, may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            RegistryProblem::Transport { .. } | RegistryProblem::Timeout { .. } => true,
            RegistryProblem::Status { status, .. } => matches!(status, 500 | 502 | 503 | 504),
            _ => false,
        }
    }
}

impl Classify for RegistryError {
    fn kind(&self) -> ErrorKind {
        match self.problem {
            RegistryProblem::Setup(_) => ErrorKind::Config,
            _ => ErrorKind::Remote,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self.problem {
            RegistryProblem::Throttled { retry_after, .. } => Some(retry_after),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match &self.problem {
            RegistryProblem::Unauthorized { credentials, .. } if credentials == super::credentials::NOBODY => {
                Some("Give the registry credentials under `registries` in tagboat.yaml, or check the repository's name.".to_owned())
            }
            RegistryProblem::Unauthorized { .. } => Some("Check that these credentials are valid and may pull from this repository.".to_owned()),
            RegistryProblem::NotFound { .. } => Some("Check the name; some registries hide a private repository this way.".to_owned()),
            RegistryProblem::Content { why, .. } if why.contains("HTML") => {
                Some("A proxy or sign-in page may stand in front of the registry; or the host is none.".to_owned())
            }
            RegistryProblem::Transport { why, .. } if why == PLAIN_HTTP => {
                Some("Write `insecure: true` for it under `registries` in tagboat.yaml; `tagboat tags` takes --insecure.".to_owned())
            }
            RegistryProblem::Transport { why, .. } if why.contains("certificate") || why.contains("UnknownIssuer") => {
                Some("Name the registry's certificate authority with `caFile` under `registries` in tagboat.yaml.".to_owned())
            }
            _ => None,
        }
    }
}
