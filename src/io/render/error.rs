//! Errors of rendering, classified.

use super::subprocess::SANDBOX_MAY_REFUSE;
use crate::{
    core::error::{Classify, ErrorKind},
    io::git::GitError,
    objects::{manifest::ManifestError, object::ObjectOrigin},
};
use std::{path::PathBuf, time::Duration};

/// A limit of a program that renders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenderLimit {
    /// A retry may meet it.
    Time,
    Memory,
    Output,
    Files,
    Processes,
}

/// An error of rendering. Text printed by a program is cut and escaped before it gets in here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// There is no such folder in the revision.
    #[error("{path}: there is no such folder")]
    NoFolder { path: String },
    /// The folder holds a kustomization and a chart.
    #[error("{path}: holds a kustomization and a Chart.yaml, so it is not clear which one counts")]
    Both { path: String },
    /// Helm values are given for a folder that is no chart.
    #[error("{path}: helm: is written for it, but it holds no Chart.yaml")]
    NoChart { path: String },
    /// The folder holds files, and none of them is a manifest.
    #[error("{path}: there is no .yaml, .yml or .json file to apply{others}")]
    NoManifests {
        path: String,
        /// A few of the other files, as the end of the sentence.
        others: String,
    },
    /// Manifests that cannot be taken; all of them.
    #[error("{}", listed(.0))]
    Manifests(Vec<ManifestError>),
    /// Something would be read from another host, or from outside the repository.
    #[error("{origin}: {what}")]
    Outside { origin: ObjectOrigin, what: String },
    /// A program that is needed is not there.
    #[error("{path}: {program} is needed to render it, and {} {why}", binary.display())]
    NoProgram {
        path: String,
        program: &'static str,
        binary: PathBuf,
        why: String,
    },
    /// A program says that the folder cannot be rendered.
    #[error("{path}: {program} failed: {why}")]
    Failed {
        path: String,
        program: &'static str,
        why: String,
        /// True if it was allowed to read from other hosts, one of which may not have responded.
        remote: bool,
    },
    /// A program tried to reach another host.
    #[error("{path}: {program} tried to reach another host, and a rendering has no network: {why}")]
    Network {
        path: String,
        program: &'static str,
        why: String,
    },
    /// The system cannot confine a program, as the settings require.
    #[error("{path}: {program} is not run, because it cannot be confined: {why}")]
    Unconfined {
        path: String,
        program: &'static str,
        why: String,
    },
    /// The inputs exceed what is copied for one rendering.
    #[error("{path}: the files to render are more than {mebibytes} MiB or {files} files")]
    TooLarge {
        /// The first file that does not fit.
        path: String,
        mebibytes: u64,
        files: usize,
    },
    /// A program took more than it may.
    #[error("{path}: {program} was stopped: {why}")]
    Stopped {
        path: String,
        program: &'static str,
        why: String,
        limit: RenderLimit,
    },
    #[error("{}: {why}", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        why: String,
    },
    #[error(transparent)]
    Git(#[from] GitError),
}

impl RenderError {
    pub(crate) fn disk(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::Disk {
            path: path.to_owned(),
            why: error.to_string(),
        }
    }

    /// Returns whether the program took too long.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::Stopped {
                limit: RenderLimit::Time,
                ..
            }
        )
    }

    /// Returns whether a retry may succeed although Git is unchanged: the machine was busy or full,
    /// another host did not respond, a missing program may be installed.
    pub fn may_pass(&self) -> bool {
        let here = matches!(
            self,
            Self::NoProgram { .. } | Self::Failed { remote: true, .. }
        );
        here || self.kind() != ErrorKind::Config
    }
}

impl Classify for RenderError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Disk { .. } => ErrorKind::Local,
            _ if self.is_timeout() => ErrorKind::Local,
            Self::Git(error) => error.kind(),
            _ => ErrorKind::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoProgram { program, why, .. } | Self::Failed { program, why, .. }
                if why.ends_with(SANDBOX_MAY_REFUSE) =>
            {
                format!("Install the released {program}, one static binary; or write render.sandbox: disabled in tagboat.yaml, if you trust the charts.")
            }
            Self::NoProgram { program, .. } => {
                format!("Install {program} (one binary), or write where it is as render.{program} in tagboat.yaml.")
            }
            Self::Outside { what, .. } if what.contains("another host") => {
                "Copy it into the repository; or write render.allowRemoteBases: true in tagboat.yaml, and what Git says is not all that counts.".into()
            }
            Self::Network { .. } => {
                "Copy the file into the repository, and name it there by its path.".into()
            }
            Self::Unconfined { .. } => {
                "Run tagboat on Linux 5.13 or later with Landlock, where a container may use landlock and seccomp; or write render.sandbox: auto in tagboat.yaml.".into()
            }
            Self::TooLarge { .. } => {
                "Give the Application's files a folder of their own.".into()
            }
            Self::Stopped { limit, .. } => match limit {
                RenderLimit::Time => "render.timeout in tagboat.yaml says how long it may take.".into(),
                RenderLimit::Memory => "render.memory in tagboat.yaml says how much memory it may take.".into(),
                RenderLimit::Output | RenderLimit::Files | RenderLimit::Processes => return None,
            },
            Self::Both { .. } => "Move one of them into a folder of its own.".into(),
            Self::Git(error) => return error.hint(),
            _ => return None,
        })
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Git(error) => error.retry_after(),
            _ => None,
        }
    }
}

fn listed(mistakes: &[ManifestError]) -> String {
    match mistakes {
        [] => "nothing can be taken".to_owned(),
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn render_error_in_git_is_not_transient() {
        let (path, why) = (|| "apps/shop".to_owned(), || "why".to_owned());
        let failed = |remote| RenderError::Failed {
            path: path(),
            program: "kustomize",
            why: why(),
            remote,
        };
        let stopped = |limit| RenderError::Stopped {
            path: path(),
            program: "helm",
            why: why(),
            limit,
        };
        let missing = RenderError::NoProgram {
            path: path(),
            program: "helm",
            binary: "helm".into(),
            why: why(),
        };
        for error in [
            missing,
            failed(true),
            stopped(RenderLimit::Time),
            RenderError::Disk {
                path: path().into(),
                why: why(),
            },
        ] {
            assert!(error.may_pass(), "{error}");
        }
        let both = RenderError::Both { path: path() };
        for error in [
            RenderError::NoFolder { path: path() },
            both,
            failed(false),
            stopped(RenderLimit::Memory),
            RenderError::Manifests(Vec::new()),
        ] {
            assert!(!error.may_pass(), "{error}");
        }
    }
}
