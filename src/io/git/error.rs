//! Errors of Git operations.

use super::object_limit::{TOO_LARGE, is_too_large};
use crate::core::{
    error::{Classify, ErrorKind},
    text::short_id,
};
use std::path::{Path, PathBuf};

/// An error of a Git operation. Text from a server is escaped and cut before it gets in here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GitError {
    /// The URL or branch of a remote is none.
    #[error("git remote {remote}: {why}")]
    Remote {
        /// The URL, without credentials.
        remote: String,
        why: String,
    },
    /// A file that a remote needs (CA, identity) cannot be read or is of the wrong form.
    #[error("git remote {remote}: {} {}: {why}", what, file.display())]
    File {
        /// The URL, without credentials.
        remote: String,
        /// The purpose of the file: "CA file" …
        what: &'static str,
        file: PathBuf,
        why: String,
    },
    /// The remote has no such branch (an empty repository has none at all).
    #[error("git remote {remote}: has no branch {branch:?}")]
    NoBranch {
        /// The URL, without credentials.
        remote: String,
        branch: String,
    },
    /// The remote itself is a shallow clone. Without its history no revert can be seen.
    #[error("git remote {remote}: is a shallow clone, whose history is cut off")]
    Shallow {
        /// The URL, without credentials.
        remote: String,
    },
    /// A folder that the settings file names is not in a commit.
    #[error(
        "git remote {remote}: commit {} has no folder {folder:?}, which repositories[].policies names",
        short_id(commit)
    )]
    NoFolder {
        /// The URL, without credentials.
        remote: String,
        commit: String,
        folder: String,
    },
    /// The server does not let us in, or hides the repository.
    #[error("git remote {remote}: cannot {doing}: {why}")]
    Denied {
        /// The URL, without credentials.
        remote: String,
        /// The operation: "fetch" or "push".
        doing: &'static str,
        /// The server's message.
        why: String,
    },
    /// The server redirects to a host that is not allowed. Nothing was sent there.
    #[error(
        "git remote {remote}: cannot {doing}: the server redirects to {to}, which is not allowed"
    )]
    Redirected {
        /// The URL, without credentials.
        remote: String,
        /// The operation: "fetch" or "push".
        doing: &'static str,
        /// Host and port.
        to: String,
    },
    /// The server cannot be reached, breaks off, or does not speak Git.
    #[error("git remote {remote}: cannot {doing}: {why}")]
    Wire {
        /// The URL, without credentials.
        remote: String,
        /// The operation: "fetch" or "push".
        doing: &'static str,
        why: String,
    },
    /// A push reached the server, but its answer did not reach us: it may or may not have happened.
    /// Fetch to find out.
    #[error("git remote {remote}: the answer to the push was lost: {why}")]
    Unanswered {
        /// The URL, without credentials.
        remote: String,
        why: String,
    },
    /// The mirror's folder cannot be used: permissions, a full disk.
    #[error("git mirror {}: {why}", dir.display())]
    Mirror { dir: PathBuf, why: String },
    /// A folder is no working copy that can be read.
    #[error("{}: {why}", dir.display())]
    Checkout { dir: PathBuf, why: String },
    /// Another process works in the mirror's folder.
    #[error("git mirror {}: another process is using it", dir.display())]
    InUse { dir: PathBuf },
    /// An object of the mirror is missing or damaged: `Mirror::rebuild` helps.
    #[error("git mirror {}: {what} is damaged or missing: {why}", dir.display())]
    Broken {
        dir: PathBuf,
        what: String,
        why: String,
    },
    /// A commit, or a file of it, is larger than what is read.
    #[error("{place}: {why}")]
    Limit {
        /// The mirror, remote or file.
        place: String,
        why: String,
    },
    /// A path that must not be written.
    #[error("path {path}: {why}")]
    Path {
        /// The path, quoted and escaped.
        path: String,
        why: &'static str,
    },
    /// Text that names no commit of the branch.
    #[error("revision {revision} {why}")]
    Revision {
        /// The text, quoted and escaped.
        revision: String,
        why: String,
    },
    /// A signing key that cannot be used.
    #[error("signing key: {0}")]
    Key(String),
    /// A public key that verifies no commits.
    #[error("{0}")]
    PublicKey(String),
    /// A name, address or message that a commit cannot contain.
    #[error("commit {what}: {why}")]
    Commit {
        what: &'static str,
        why: &'static str,
    },
}

const UNSHALLOW: &str = "Fetch the whole history there: `git fetch --unshallow`, or fetch-depth: 0 where a CI job checks out.";

impl Classify for GitError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Remote { .. }
            | Self::File { .. }
            | Self::NoBranch { .. }
            | Self::Shallow { .. }
            | Self::NoFolder { .. }
            | Self::Limit { .. }
            | Self::Checkout { .. } => ErrorKind::Config,
            Self::Path { .. }
            | Self::Revision { .. }
            | Self::Key(_)
            | Self::PublicKey(_)
            | Self::Commit { .. } => ErrorKind::Config,
            Self::Mirror { .. } | Self::InUse { .. } | Self::Broken { .. } => ErrorKind::Local,
            Self::Denied { .. } | Self::Redirected { .. } | Self::Wire { .. } => ErrorKind::Remote,
            Self::Unanswered { .. } => ErrorKind::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoBranch { .. } => "Check the branch name; an empty repository needs a first commit.".into(),
            Self::NoFolder { .. } => {
                "Correct repositories[].policies in tagboat.yaml, or bring the folder back (one that declares nothing needs a file in it). What was declared before stays in force.".into()
            }
            Self::Denied { .. } => {
                "Check the URL and the credentials: servers answer \"not found\" for what an account may not see.".into()
            }
            Self::Redirected { to, .. } => format!(
                "Write the new address as `url` of the repository, or allow the host there: `allowRedirectsTo: [\"{to}\"]`."
            ),
            Self::Broken { dir, .. } => format!("The mirror is a cache: delete {} and it is cloned again.", dir.display()),
            Self::Limit { .. } => "Make the repository smaller: tagboat reads it again after the next commit.".into(),
            Self::Shallow { .. } => UNSHALLOW.into(),
            Self::Revision { why, .. } if why.contains("shallow") => UNSHALLOW.into(),
            Self::Revision { .. } => "`git log --first-parent` lists the commits that the branch has been at.".into(),
            Self::InUse { .. } => "Stop the other process, or give this one a folder of its own.".into(),
            _ => return None,
        })
    }
}

/// Builds the error for a missing or corrupt object.
pub(crate) fn broken(
    dir: &Path,
    what: &str,
    id: gix::ObjectId,
    why: &dyn std::fmt::Display,
) -> GitError {
    let (what, why) = (
        format!("{what} {}", id.to_hex_with_len(12)),
        plain(&why.to_string()),
    );
    if is_too_large(&why) {
        return GitError::Limit {
            place: format!("git mirror {}", dir.display()),
            why: format!("{what}: {TOO_LARGE}"),
        };
    }
    GitError::Broken {
        dir: dir.to_owned(),
        what,
        why,
    }
}

/// Text of a server or library made safe to print: one line of at most 400 characters.
pub(crate) fn plain(text: &str) -> String {
    crate::core::text::one_line(text, 400)
}

/// Formats an error with its causes on one line, each once.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut say = |text: String| {
        let text = text.lines().next().unwrap_or_default().trim().to_owned();
        if !text.is_empty() && !said.iter().any(|before| before.contains(&text)) {
            said.push(text);
        }
    };
    match error.downcast_ref::<gix::Error>() {
        Some(error) => {
            for cause in error.iter_errors() {
                let mut next = Some(cause);
                while let Some(cause) = next {
                    say(cause.to_string());
                    next = cause.source();
                }
            }
        }
        None => {
            let mut next = Some(error);
            while let Some(cause) = next {
                say(cause.to_string());
                next = cause.source();
            }
        }
    }
    plain(&said.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_error_text_is_one_harmless_line() {
        assert_eq!(
            plain("\u{1b}[31mno\u{7}\r\nnext\u{202e}"),
            r"\u{1b}[31mno\u{7}  next\u{202e}"
        );
        assert_eq!(plain(&"x".repeat(1000)).chars().count(), 401);
    }

    #[test]
    fn git_error_causes_are_named_once() {
        let error = std::io::Error::other(std::io::Error::other("deep"));
        assert_eq!(chain(&error), "deep");
    }
}
