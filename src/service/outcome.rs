//! The end of a query: a classified [`Failure`], or an [`Outcome`] beside its answer.

use crate::core::error::{Classify, ErrorKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{error::Error, fmt};

/// The classification of a finished query, which decides the exit code of the command. The greater
/// of two is the more serious one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Everything was done; nothing to do counts as done.
    Done,
    /// The query found something that the user asked to be warned about.
    Findings,
    /// A declaration, a file or an argument is invalid, or this machine cannot do the work now.
    BadInput,
    /// A registry, a Git server, a forge or a cluster failed.
    Remote,
    /// Some of the work was done, the rest failed.
    Partly,
    /// A signal stopped the command at a safe point.
    Interrupted,
}

impl Outcome {
    /// The exit code: the one place that maps an outcome to a number.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Findings => 1,
            Self::BadInput => 2,
            Self::Remote => 3,
            Self::Partly => 4,
            // 128 + SIGINT, as shells have it.
            Self::Interrupted => 130,
        }
    }

    /// Classifies work of which some parts failed: `Partly` if the rest was achieved, else what the
    /// worst failure stands for.
    pub fn of_parts(achieved: bool, failures: impl IntoIterator<Item = ErrorKind>) -> Self {
        match failures.into_iter().map(Self::from).max() {
            None => Self::Done,
            Some(Self::Interrupted) => Self::Interrupted,
            Some(_) if achieved => Self::Partly,
            Some(worst) => worst,
        }
    }

    /// Returns `Findings` if `found`, else `Done`.
    pub fn findings_if(found: bool) -> Self {
        if found { Self::Findings } else { Self::Done }
    }

    /// Returns `Partly` if `failed`, else `Done`.
    pub fn partly_if(failed: bool) -> Self {
        if failed { Self::Partly } else { Self::Done }
    }
}

impl From<ErrorKind> for Outcome {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Config | ErrorKind::Local => Self::BadInput,
            ErrorKind::Remote | ErrorKind::Conflict => Self::Remote,
            // How far the work went is not known.
            ErrorKind::Bug => Self::Partly,
            ErrorKind::Interrupted => Self::Interrupted,
        }
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
        self.kind.into()
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
    fn outcome_of_parts_is_partly_if_some_were_done() {
        use ErrorKind::{Bug, Config, Conflict, Interrupted, Local, Remote};
        for (achieved, failures, code) in [
            (true, &[] as &[ErrorKind], 0),
            (false, &[], 0),
            (false, &[Config], 2),
            (false, &[Local], 2),
            (false, &[Config, Remote], 3),
            (false, &[Conflict], 3),
            (false, &[Remote, Bug], 4),
            (true, &[Config], 4),
            (true, &[Remote, Interrupted], 130),
        ] {
            let outcome = Outcome::of_parts(achieved, failures.iter().copied());
            assert_eq!(outcome.exit_code(), code, "{achieved} {failures:?}");
        }
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
