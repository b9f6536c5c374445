//! Report of a pass: one value that feeds the text, the JSON, the log and the status.

use crate::{
    core::{
        error::{Classify, ErrorKind},
        image::{Digest, ImageRepository, Tag},
        name::Name,
    },
    review::{FileChange, ImageMove, ReleasedVersion},
    spec::Diagnostic,
};
use jiff::Timestamp;
use serde::Serialize;
use std::{collections::BTreeSet, time::Duration};

/// Outcome of a pass over one config repository.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassReport {
    /// Name of the config repository.
    pub repository: String,
    /// Revision that was read last.
    pub revision: Option<String>,
    /// Sorted by name.
    pub environments: Vec<EnvironmentReport>,
    /// Findings in declarations and files.
    pub findings: Vec<Diagnostic>,
    /// Failures of remotes.
    pub failures: Vec<FailureReport>,
    pub warnings: Vec<String>,
    /// Image repositories whose scan goes on beyond the pass.
    pub running: BTreeSet<ImageRepository>,
    /// Calls to remotes.
    pub requests: RequestTotals,
}

/// Calls of a pass to remotes.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct RequestTotals {
    /// Tag listings, each counted once whatever its pages.
    pub listings: u64,
    /// Manifest heads, for digests.
    pub heads: u64,
    /// All calls to registries, authentication included.
    pub registry: u64,
    /// `ls-refs` calls to the Git server.
    pub ls_refs: u64,
}

/// One Environment in a pass.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentReport {
    pub name: String,
    pub state: EnvironmentState,
    /// When the state ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Policies with references in the Environment.
    pub policies: Vec<PolicyReport>,
    /// Commits that were made, or would be.
    pub commits: Vec<CommitReport>,
    /// Pull requests that are open, or that the pass opened, merged or closed, or would.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<RequestReport>,
    /// References that were not edited; those without any policy are not listed.
    pub left: Vec<LeftReport>,
    /// Held versions that the change sets bring back because a person released them.
    #[serde(skip)]
    pub released: Vec<ReleasedVersion>,
}

/// State of an Environment after a pass.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum EnvironmentState {
    UpToDate,
    /// Nothing was changed, but a registry failed: there may be something newer.
    Unknown,
    Committed,
    /// A pass that writes would commit or change a pull request.
    Planned,
    WindowClosed,
    /// Changes are proposed in pull requests.
    Proposed,
    /// Nothing was changed, because the forge's pull requests, or refusals in them, are unknown.
    Waiting,
    Suspended,
    Failed,
}

/// A policy in an Environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyReport {
    pub name: Name,
    pub repository: ImageRepository,
    /// Tags in the files before the pass, each once.
    pub present: Vec<String>,
    pub chosen: Option<Tag>,
    /// Digest of the chosen tag, if it was read.
    pub digest: Option<Digest>,
    /// Present tags that the registry does not list any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unlisted: Vec<String>,
    /// Why nothing was chosen.
    pub reason: Option<String>,
    /// The best few refused tags above the chosen or the present one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedReport>,
    /// The time at which the first tag that is only too young becomes old enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_at: Option<Timestamp>,
    /// Holds after reverts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<String>,
    /// Tags that are only too young.
    #[serde(skip)]
    pub young: Vec<String>,
    /// True if facts for the decision are missing.
    #[serde(skip)]
    pub unknown: bool,
    #[serde(skip)]
    pub suspended: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedReport {
    pub tag: String,
    pub reason: String,
}

/// A commit, made or planned.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitReport {
    /// None if it is only planned.
    pub id: Option<String>,
    pub message: String,
    pub images: Vec<ImageMove>,
    /// Files before and after, for diffs.
    #[serde(skip)]
    pub files: Vec<FileChange>,
}

/// A pull request.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestReport {
    pub branch: String,
    /// None if it is not open yet.
    pub number: Option<u64>,
    pub url: Option<String>,
    pub title: String,
    pub state: RequestState,
    /// Sentences: what it waits for, or why it was closed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<String>,
    /// When the wait ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    pub images: Vec<ImageMove>,
    /// Files before and after, for diffs.
    #[serde(skip)]
    pub files: Vec<FileChange>,
}

/// State of a pull request after a pass.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum RequestState {
    Opened,
    /// Its branch, text or labels were changed.
    Updated,
    /// Open and unchanged.
    Open,
    Merged,
    /// Closed, or a branch left behind was deleted.
    Closed,
    /// Waits for something else to happen.
    Waiting,
    /// Waits for a person to act.
    Stopped,
    Failed,
    WouldOpen,
    WouldUpdate,
    WouldMerge,
    WouldClose,
}

impl RequestState {
    /// Returns the state as a verb phrase.
    pub fn as_str(self) -> &'static str {
        match self {
            RequestState::Opened => "opened",
            RequestState::Updated => "updated",
            RequestState::Open => "open",
            RequestState::Merged => "merged",
            RequestState::Closed => "closed",
            RequestState::Waiting => "waits",
            RequestState::Stopped => "stopped",
            RequestState::Failed => "failed",
            RequestState::WouldOpen => "would be opened",
            RequestState::WouldUpdate => "would be updated",
            RequestState::WouldMerge => "would be merged",
            RequestState::WouldClose => "would be closed",
        }
    }

    /// Tells whether the pass changed the pull request, or would.
    pub fn is_change(self) -> bool {
        !matches!(
            self,
            RequestState::Open
                | RequestState::Waiting
                | RequestState::Stopped
                | RequestState::Failed
        )
    }
}

/// A reference that was not edited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftReport {
    pub file: String,
    /// Counted from 1.
    pub line: u32,
    /// In characters, counted from 1.
    pub column: u32,
    /// Stable code of the reason.
    pub code: &'static str,
    pub reason: String,
    pub policy: Option<Name>,
}

/// A failure of a remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureReport {
    pub kind: ErrorKind,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The image repository that failed; none for the config repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<ImageRepository>,
    /// Seconds after which a retry can help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// True if only the forge failed, which does not delay commits.
    #[serde(skip)]
    pub forge: bool,
}

impl FailureReport {
    /// The failure of an error.
    pub fn new(error: &impl Classify) -> Self {
        Self {
            kind: error.kind(),
            message: error.to_string(),
            hint: error.hint(),
            repository: None,
            retry_after: error.retry_after().as_ref().map(Duration::as_secs),
            forge: false,
        }
    }

    /// The failure of a forge's error.
    pub fn at_forge(error: &impl Classify) -> Self {
        Self {
            forge: true,
            ..Self::new(error)
        }
    }

    /// The same failure, of an image repository.
    pub fn of(self, repository: &ImageRepository) -> Self {
        Self {
            repository: Some(repository.clone()),
            ..self
        }
    }
}

impl EnvironmentReport {
    /// An empty row.
    pub(super) fn new(name: &str, state: EnvironmentState) -> Self {
        Self {
            name: name.to_owned(),
            state,
            until: None,
            policies: Vec::new(),
            commits: Vec::new(),
            requests: Vec::new(),
            left: Vec::new(),
            released: Vec::new(),
        }
    }
}

impl PassReport {
    /// Tells whether the pass changed something, or would.
    pub fn has_changes(&self) -> bool {
        let changes = |request: &RequestReport| request.state.is_change();
        self.environments.iter().any(|environment| {
            !environment.commits.is_empty() || environment.requests.iter().any(changes)
        })
    }

    /// Adds a failure once.
    pub(super) fn add_failure(&mut self, failure: FailureReport) {
        if !self.failures.contains(&failure) {
            self.failures.push(failure);
        }
    }

    /// Adds a scan that goes on beyond the pass, which is no failure.
    pub(super) fn add_running(&mut self, repository: ImageRepository, warning: String) {
        self.add_warning(warning);
        self.running.insert(repository);
    }

    /// Adds a warning once.
    pub(super) fn add_warning(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Counts the pushed commits.
    pub fn pushed(&self) -> usize {
        self.environments
            .iter()
            .flat_map(|environment| &environment.commits)
            .filter(|commit| commit.id.is_some())
            .count()
    }
}
