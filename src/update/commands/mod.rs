//! Commands that change Git: which declaration they name, how they retry, and why they fail.

mod declaration;
mod message;
mod push;
pub(crate) mod release;
pub(crate) mod rollback;
pub(crate) mod suspend;

pub use declaration::{DeclarationKind, DeclarationRef, DeclarationRefError};
pub use message::{CommandAuthor, CommandCommit};
pub(crate) use message::{below_subject, subject};
pub(crate) use push::{BranchCommand, CommandPlan, push_command};

use super::commit::PUSH_ATTEMPTS;
use crate::{
    core::{
        error::{Classify, ErrorKind},
        name::Name,
    },
    images::rewrite::SuspendError,
    io::git::{GitError, PushRejection},
    spec::SourcePlace,
};

/// An error of a command that changes Git.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    #[error("there is no {what}{}", suggestion(near))]
    Unknown {
        what: String,
        /// Similar names that are declared.
        near: Vec<String>,
        /// True if some declarations have errors; it may be one of them.
        mistakes: bool,
    },
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Refused(#[from] PushRejection),
    #[error(
        "cannot push to git remote {remote}: the branch moved first, {PUSH_ATTEMPTS} times in a row"
    )]
    PushedFirst {
        /// URL without credentials.
        remote: String,
    },
    /// The declaration is written in a form that cannot be edited.
    #[error("{file}: {error}")]
    Suspend {
        file: String,
        #[source]
        error: SuspendError,
    },
    /// The edited file does not declare the intended state.
    #[error("{place}: the edit would not have changed {what} as intended")]
    NotProved { place: SourcePlace, what: String },
    /// A policy of Flux is suspended through its ImageRepository.
    #[error("{place}: {what} is not suspended itself, but its ImageRepository {repository} is")]
    RepositorySuspended {
        /// Place of the ImageRepository.
        place: SourcePlace,
        what: String,
        repository: Name,
    },
    #[error(
        "cannot roll back {application} to {revision}: it has no folder {path} there, so that everything would be deleted"
    )]
    NoFolder {
        application: Name,
        revision: String,
        path: String,
    },
    #[error(
        "cannot roll back {application}: no commit of the branch has changed {path} since it exists (commits read: {read})"
    )]
    NothingBefore {
        application: Name,
        path: String,
        read: usize,
    },
    #[error("cannot roll back {path}: another commit has just changed it")]
    Changed { path: String },
}

impl Classify for CommandError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Git(error) => error.kind(),
            Self::Refused(refusal) => refusal.kind(),
            Self::PushedFirst { .. } | Self::Changed { .. } => ErrorKind::Conflict,
            Self::NotProved { .. } => ErrorKind::Bug,
            Self::Unknown { .. }
            | Self::Suspend { .. }
            | Self::RepositorySuspended { .. }
            | Self::NoFolder { .. }
            | Self::NothingBefore { .. } => ErrorKind::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Git(error) => return error.hint(),
            Self::Refused(refusal) => return refusal.hint(),
            Self::Suspend { error, .. } => return error.hint(),
            Self::Unknown { mistakes: true, .. } => "Some declarations have errors and are not used; `tagboat check` names them.".into(),
            Self::Unknown { .. } => return None,
            Self::PushedFirst { .. } => "Nothing was changed. Repeat the command.".into(),
            Self::Changed { .. } => "Nothing was changed. Review the last commits and repeat the command.".into(),
            Self::NotProved { .. } => "Nothing was changed. Write `suspend` under `spec` by hand.".into(),
            Self::RepositorySuspended { repository, .. } => {
                format!("`tagboat resume imagerepository/{repository}` resumes every policy that refers to it.")
            }
            Self::NoFolder { .. } => "Name a revision that has it with --to; to delete an Application, delete its declaration.".into(),
            Self::NothingBefore { .. } => "Name a revision with --to.".into(),
        })
    }
}

fn suggestion(near: &[String]) -> String {
    if near.is_empty() {
        String::new()
    } else {
        format!("; did you mean {}?", near.join(" or "))
    }
}
