//! The end of a query: a classified [`Failure`], or an [`Outcome`] beside its answer.

use crate::core::error::{Classify, ErrorKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{error::Error, fmt};

/// The classification of a finished query. The greater of two is the more serious one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Everything was done; nothing to do counts as done.
    Done,
    /// The query found something that the user asked to be warned about.
    Findings,
    /// A declaration, a file or an argument is invalid.
    BadInput,
    /// A registry, a Git server, a forge or a cluster failed.
    Remote,
    /// Some of the work was done, the rest failed.
    Partly,
}

impl Outcome {
    /// Returns `Findings` if `found`, else `Done`.
    pub fn findings_if(found: bool) -> Self {
        if found { Self::Findings } else { Self::Done }
    }

    /// Returns `Partly` if `failed`, else `Done`.
    pub fn partly_if(failed: bool) -> Self {
        if failed { Self::Partly } else { Self::Done }
    }
}

/// The reason why a query has no answer: the error object of the JSON output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// The message with its causes, in one line.
    pub error: String,
    /// The classification, which decides the exit code.
    pub kind: ErrorKind,
    /// An imperative sentence with the remedy.
    pub hint: Option<String>,
}

impl Failure {
    /// An invalid argument, file or declaration.
    pub fn input(error: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Config, error)
    }

    /// A failure of this kind without a hint.
    pub fn new(kind: ErrorKind, error: impl fmt::Display) -> Self {
        Self {
            error: error.to_string(),
            kind,
            hint: None,
        }
    }

    /// Adds a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts `context` before the message, as in `CONTEXT: MESSAGE`.
    pub fn within(self, context: impl fmt::Display) -> Self {
        Self {
            error: format!("{context}: {}", self.error),
            ..self
        }
    }

    /// The outcome that this failure stands for.
    pub fn outcome(&self) -> Outcome {
        match self.kind {
            ErrorKind::Config => Outcome::BadInput,
            ErrorKind::Remote | ErrorKind::Conflict => Outcome::Remote,
            ErrorKind::Bug => Outcome::Partly,
        }
    }
}

impl<E: Classify> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            error: with_causes(&error),
            kind: error.kind(),
            hint: error.hint(),
        }
    }
}

/// Joins an error and its causes, leaving out a cause that the text before already ends with.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read a: {0}")]
    struct Repeats(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read b")]
    struct Hides(#[source] std::io::Error);

    #[test]
    fn failure_causes_are_named_once() {
        let cause = || std::io::Error::other("disk full");
        assert_eq!(with_causes(&Repeats(cause())), "cannot read a: disk full");
        assert_eq!(with_causes(&Hides(cause())), "cannot read b: disk full");
    }

    #[test]
    fn failure_json_has_error_kind_and_hint() {
        let failure = Failure::input("no such file").hint("Name the file.");
        assert_eq!(
            serde_json::to_value(&failure).unwrap(),
            serde_json::json!({"error": "no such file", "kind": "config", "hint": "Name the file."})
        );
        assert_eq!(failure.outcome(), Outcome::BadInput);
    }
}
