//! Error classification: whose fault an error is, and whether a retry can help.
//!
//! Each client and pass has its own error type. A caller asks all of them the same question: wait
//! for a changed file, back off, refetch and redo, or report a defect.

use std::time::Duration;

/// The party at fault, which decides the reaction.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ErrorKind {
    /// A declaration, the settings file or an argument is wrong: nothing helps until it changes.
    Config,
    /// The machine that tagboat runs on: a store in use, a full disk. Try again when that has
    /// changed.
    Local,
    /// A registry, a Git server or the network: back off and try again.
    Remote,
    /// Another writer was first: refetch and redo on the new state.
    Conflict,
    /// A defect of tagboat.
    Bug,
    /// A signal asked the command to stop.
    Interrupted,
}

impl ErrorKind {
    /// The word used in logs and JSON output.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Config => "config",
            ErrorKind::Local => "local",
            ErrorKind::Remote => "remote",
            ErrorKind::Conflict => "conflict",
            ErrorKind::Bug => "bug",
            ErrorKind::Interrupted => "interrupted",
        }
    }
}

impl std::fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error that can be classified; its message names the file, image or remote.
pub trait Classify: std::error::Error + Send + Sync + 'static {
    fn kind(&self) -> ErrorKind;

    /// Returns the earliest retry time, from now, if the remote asked for one (`Retry-After`).
    fn retry_after(&self) -> Option<Duration> {
        None
    }

    /// Returns advice for the user, as a sentence of its own.
    fn hint(&self) -> Option<String> {
        None
    }
}
