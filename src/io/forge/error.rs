//! Errors of forges, and the permissions that a token may lack.

use crate::{
    core::{
        error::{Classify, ErrorKind},
        image::shown,
        secret::Secret,
    },
    spec::ForgeKind,
};
use serde_json::Value;
use std::{fmt, time::Duration};

/// The number of characters kept of a forge's message.
pub(crate) const WORDS: usize = 400;

/// The failed operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ForgeOperation {
    SignIn,
    /// Reading settings of the repository.
    Settings,
    /// Listing or finding requests.
    List,
    Read,
    Open,
    /// Changing title or text, or closing.
    Change,
    Label,
    Reviewers,
    /// Reading or writing comments.
    Comment,
    /// Reading checks of a commit.
    Checks,
    Approvals,
    Merge,
    /// Letting the forge merge when it can.
    AutoMerge,
    Branch,
    /// Setting a commit status.
    Status,
    /// Reading releases and tags.
    Releases,
}

impl ForgeOperation {
    /// Returns the text that completes "cannot …".
    pub fn as_str(self) -> &'static str {
        match self {
            ForgeOperation::SignIn => "sign in as a GitHub App",
            ForgeOperation::Settings => "read the repository's settings",
            ForgeOperation::List => "list pull requests",
            ForgeOperation::Read => "read a pull request",
            ForgeOperation::Open => "open a pull request",
            ForgeOperation::Change => "change a pull request",
            ForgeOperation::Label => "label a pull request",
            ForgeOperation::Reviewers => "ask for reviews",
            ForgeOperation::Comment => "comment on a pull request",
            ForgeOperation::Checks => "read checks",
            ForgeOperation::Approvals => "read approvals",
            ForgeOperation::Merge => "merge a pull request",
            ForgeOperation::AutoMerge => "let a pull request merge itself",
            ForgeOperation::Branch => "delete a branch",
            ForgeOperation::Status => "set a commit status",
            ForgeOperation::Releases => "read releases",
        }
    }
}

impl fmt::Display for ForgeOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error of a forge. The forge's message is escaped and cut; it never contains a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{forge} {host}, {repository}: cannot {operation}: {problem}")]
pub struct ForgeError {
    pub forge: ForgeKind,
    /// The host, `host[:port]`.
    pub host: Box<str>,
    pub repository: Box<str>,
    pub operation: ForgeOperation,
    /// The permission that the operation requires of a token.
    pub permission: &'static str,
    pub problem: ForgeProblem,
}

/// The cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgeProblem {
    /// 401: no credentials, or an invalid or expired token.
    #[error("the credentials are refused (401){}", says(message))]
    Unauthorized { message: Option<String> },
    /// 403: the token may not do it.
    #[error("the token may not do that (403){}", says(message))]
    Forbidden { message: Option<String> },
    /// 404: not there, or hidden from this token.
    #[error("not found, or hidden from this token (404){}", says(message))]
    NotFound { message: Option<String> },
    /// The forge wants us to wait. Nothing is sent before that.
    #[error("requests are limited: next try in {} s", retry_after.as_secs().max(1))]
    Throttled { retry_after: Duration },
    /// The pull request cannot be merged now.
    #[error("it cannot be merged now{}", says(message))]
    NotMergeable { message: Option<String> },
    /// The branch must contain the newest commit of the base before it is merged.
    #[error(
        "its branch does not contain the newest commit of the base{}",
        says(message)
    )]
    Behind { message: Option<String> },
    /// The forge asks to retry later: it is still computing mergeability, or another merge happened
    /// at the same moment. Gitea reports conflicts in the same way.
    #[error("it cannot be merged yet{}", says(message))]
    NotYet { message: Option<String> },
    /// The head is another one than was verified.
    #[error("its head is not the commit that was verified{}", says(message))]
    HeadChanged { message: Option<String> },
    /// The forge understood and does not want it (400, 422).
    #[error("refused ({status}){}", says(message))]
    Refused {
        /// 400, 409 or 422.
        status: u16,
        message: Option<String>,
    },
    /// The declared options contradict the repository's settings on the forge.
    #[error("{0}")]
    Unsupported(String),
    #[error("answered {status}{}", says(message))]
    Status {
        status: u16,
        message: Option<String>,
    },
    /// An answer that is not what the API promises.
    #[error("answered {endpoint} with something else: {why}")]
    Content { endpoint: String, why: String },
    /// An answer larger than anything honest.
    #[error("answered {endpoint} with more than {limit} bytes")]
    TooLarge {
        endpoint: String,
        /// The bound in bytes.
        limit: usize,
    },
    /// More pages than are followed.
    #[error("{endpoint} has more than {pages} pages")]
    Endless { endpoint: String, pages: usize },
    /// A redirect that is not followed.
    #[error("redirected to {}, which is not followed", shown(to))]
    Redirect { to: String },
    #[error("cannot be reached: {0}")]
    Transport(String),
    #[error("too slow: no {what} within {} ms", after.as_millis())]
    Timeout {
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

/// Formats `: "message of the forge"`, if there is one.
fn says(message: &Option<String>) -> String {
    message
        .as_deref()
        .map(|text| format!(": {}", shown(text)))
        .unwrap_or_default()
}

impl ForgeProblem {
    /// Returns whether the error is transient: the same request, sent again at once, may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            ForgeProblem::Transport(_) | ForgeProblem::Timeout { .. } => true,
            ForgeProblem::Status { status, .. } => matches!(status, 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// Returns whether the forge understood the merge and refused it.
    pub(crate) fn is_unmerged(&self) -> bool {
        matches!(
            self,
            ForgeProblem::NotMergeable { .. }
                | ForgeProblem::Behind { .. }
                | ForgeProblem::NotYet { .. }
                | ForgeProblem::HeadChanged { .. }
        )
    }

    /// Returns whether the request may have been carried out although no response confirms it.
    pub(crate) fn is_open(&self) -> bool {
        self.is_transient()
            || matches!(
                self,
                ForgeProblem::Content { .. } | ForgeProblem::TooLarge { .. }
            )
    }
}

impl ForgeError {
    /// Returns whether the forge refused with this status and message.
    pub(crate) fn is_refused(&self, with: u16, words: &str) -> bool {
        matches!(
            &self.problem,
            ForgeProblem::Refused { status, message: Some(message) }
                if *status == with && message.contains(words)
        )
    }

    /// Returns whether the forge reported a conflict (409).
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self.problem, ForgeProblem::Refused { status: 409, .. })
    }

    /// Returns whether the forge has no such object, or hides it.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self.problem, ForgeProblem::NotFound { .. })
    }

    /// Returns whether the forge has no such object and names its kind. A missing pull request or
    /// repository says otherwise.
    pub(crate) fn is_missing(&self, kind: &str) -> bool {
        matches!(
            &self.problem,
            ForgeProblem::NotFound { message: Some(message) } if message.contains(kind)
        )
    }
}

impl Classify for ForgeError {
    fn kind(&self) -> ErrorKind {
        match self.problem {
            ForgeProblem::Setup(_) | ForgeProblem::Unsupported(_) => ErrorKind::Config,
            _ if self.problem.is_unmerged() => ErrorKind::Conflict,
            _ => ErrorKind::Remote,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self.problem {
            ForgeProblem::Throttled { retry_after } => Some(retry_after),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match &self.problem {
            ForgeProblem::Unauthorized { .. } | ForgeProblem::Forbidden { .. } | ForgeProblem::NotFound { .. } => {
                Some(format!("To {}, {} wants {}.", self.operation, self.forge, self.permission))
            }
            ForgeProblem::Redirect { .. } => Some("The repository was renamed or moved: write its new address into tagboat.yaml.".to_owned()),
            ForgeProblem::Content { why, .. } if why.contains("HTML") => {
                Some("A proxy or sign-in page may stand in front of the forge; or forge.url is not that of its API.".to_owned())
            }
            ForgeProblem::Transport(why) if why.contains("certificate") || why.contains("UnknownIssuer") => {
                Some("Name the forge's certificate authority with `caFile` beside the repository in tagboat.yaml.".to_owned())
            }
            _ => None,
        }
    }
}

/// Extracts a forge's error message on one line, without the token in case it is quoted.
pub(crate) fn words(body: &[u8], token: Option<&Secret>) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let mut said: Vec<String> = Vec::new();
    let mut add = |value: &Value| match value {
        Value::String(text) => said.push(text.clone()),
        Value::Null => {}
        other => said.push(other.to_string()),
    };
    for field in ["message", "error", "error_description"] {
        add(&value[field]);
    }
    for error in value["errors"].as_array().into_iter().flatten() {
        match (&error["message"], &error["field"], &error["code"]) {
            (Value::String(message), _, _) => add(&Value::String(message.clone())),
            (_, Value::String(field), Value::String(code)) => {
                add(&Value::String(format!("{field} {code}")))
            }
            _ => add(error),
        }
    }
    let mut text = said.join(": ");
    if let Some(token) = token.filter(|token| !token.is_empty()) {
        text = text.replace(token.expose(), "***");
    }
    (!text.is_empty()).then(|| text.chars().take(WORDS).collect())
}
