//! What became of a pass: one value that feeds the text, the JSON, the log and the status.

use crate::{
    core::{
        error::{Classify, ErrorKind},
        image::{Digest, ImageRepository, Tag},
        name::Name,
    },
    review::{FileChange, ImageMove},
    spec::Diagnostic,
};
use jiff::Timestamp;
use serde::Serialize;
use std::time::Duration;

/// What became of a pass over one config repository.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassReport {
    /// The config repository, by name.
    pub repository: String,
    /// The revision that was read last.
    pub revision: Option<String>,
    /// The Environments, by name.
    pub environments: Vec<EnvironmentReport>,
    /// What is wrong in declarations and files.
    pub findings: Vec<Diagnostic>,
    /// What went wrong at remotes.
    pub failures: Vec<FailureReport>,
    /// What is worth knowing beside that.
    pub warnings: Vec<String>,
    /// Requests that were sent.
    pub requests: RequestTotals,
}

/// Requests that a pass has sent.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct RequestTotals {
    /// Tag listings (the first page of each).
    pub listings: u64,
    /// Digests asked for.
    pub heads: u64,
    /// Everything sent to registries, sign-in included.
    pub registry: u64,
    /// Questions for the branch.
    pub ls_refs: u64,
}

/// One Environment in a pass.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentReport {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub state: EnvironmentState,
    /// Where the state ends by itself: when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The policies that have references here.
    pub policies: Vec<PolicyReport>,
    /// The commits made, or those a pass would make.
    pub commits: Vec<CommitReport>,
    /// Its requests: those that are open, and those that this pass opened, merged or closed, or
    /// would.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<RequestReport>,
    /// References left alone, with the reason. Those without any policy are not listed.
    pub left: Vec<LeftReport>,
}

/// What became of an Environment.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum EnvironmentState {
    /// Nothing to change.
    UpToDate,
    /// Nothing was changed, but not every registry could be asked: there may be something newer.
    Unknown,
    /// Commits were pushed.
    Committed,
    /// A pass would commit.
    Planned,
    /// Changes wait for a window to open.
    WindowClosed,
    /// Changes are proposed in requests.
    Proposed,
    /// Its requests, or what people refused by closing some, could not be looked at; nothing was
    /// changed.
    Waiting,
    /// It is suspended.
    Suspended,
    /// Changes could not be published.
    Failed,
}

/// A policy in an Environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyReport {
    /// Its name.
    pub name: Name,
    /// Its repository.
    pub repository: ImageRepository,
    /// The tags that the files had, each once.
    pub present: Vec<String>,
    /// The tag chosen.
    pub chosen: Option<Tag>,
    /// Its digest, where it was looked up.
    pub digest: Option<Digest>,
    /// Why nothing was chosen.
    pub reason: Option<String>,
    /// Tags above the chosen one, or above what stands there, that were refused: the best few.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedReport>,
    /// When the first tag that waits only for its age will be free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_at: Option<Timestamp>,
    /// What reverts hold back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<String>,
    /// Tags that wait only for their age.
    #[serde(skip)]
    pub young: Vec<String>,
    /// Whether not all was known that the decision needs.
    #[serde(skip)]
    pub unknown: bool,
    /// Whether it rests.
    #[serde(skip)]
    pub suspended: bool,
}

/// A tag that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedReport {
    /// The tag.
    pub tag: String,
    /// Why.
    pub reason: String,
}

/// A commit.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitReport {
    /// Its id; none while it is only planned.
    pub id: Option<String>,
    /// Its message.
    pub message: String,
    /// The images that move.
    pub images: Vec<ImageMove>,
    /// The files, before and after; for diffs.
    #[serde(skip)]
    pub files: Vec<FileChange>,
}

/// A request for review.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestReport {
    /// Its branch.
    pub branch: String,
    /// Its number; none as long as it is not open.
    pub number: Option<u64>,
    /// Where people read it.
    pub url: Option<String>,
    /// Its title.
    pub title: String,
    /// What became of it.
    pub state: RequestState,
    /// What it waits for, or why it was closed: sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<String>,
    /// When the wait ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The images that move.
    pub images: Vec<ImageMove>,
    /// The files, before and after; for diffs.
    #[serde(skip)]
    pub files: Vec<FileChange>,
}

/// What became of a request in a pass.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RequestState {
    /// It was opened.
    Opened,
    /// Its branch, text or labels were changed.
    Updated,
    /// It is open, as it was.
    Open,
    /// It was merged.
    Merged,
    /// It was closed, or a branch left behind was deleted.
    Closed,
    /// Nothing is done until something else has happened.
    Waiting,
    /// Nothing is done until a person has done something.
    Stopped,
    /// Something went wrong.
    Failed,
    /// A pass would open it.
    WouldOpen,
    /// A pass would change its branch, text or labels.
    WouldUpdate,
    /// A pass would merge it.
    WouldMerge,
    /// A pass would close it, or delete a branch left behind.
    WouldClose,
}

impl RequestState {
    /// For people.
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

    /// Whether the pass changed something, or would.
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

/// A reference left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftReport {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// A word for the reason, for programs.
    pub code: &'static str,
    /// The reason.
    pub reason: String,
    /// The policy in question.
    pub policy: Option<Name>,
}

/// What went wrong at a remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureReport {
    /// Whose fault it is.
    pub kind: ErrorKind,
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The repository of images that could not be read; none for the config repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<ImageRepository>,
    /// When trying again can help, in seconds from then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// Whether it is the forge's alone, which commits do not wait for.
    #[serde(skip)]
    pub forge: bool,
}

impl FailureReport {
    /// What a fault says.
    pub fn new(fault: &impl Classify) -> Self {
        Self {
            kind: fault.kind(),
            message: fault.to_string(),
            hint: fault.hint(),
            repository: None,
            retry_after: fault.retry_after().as_ref().map(Duration::as_secs),
            forge: false,
        }
    }

    /// What a forge says.
    pub fn at_forge(fault: &impl Classify) -> Self {
        Self {
            forge: true,
            ..Self::new(fault)
        }
    }

    /// The same, of a repository of images.
    pub fn of(self, repository: &ImageRepository) -> Self {
        Self {
            repository: Some(repository.clone()),
            ..self
        }
    }
}

impl EnvironmentReport {
    /// A row without anything in it yet.
    pub(super) fn new(name: &str, state: EnvironmentState) -> Self {
        let (until, policies, commits, requests, left) = Default::default();
        Self {
            name: name.to_owned(),
            state,
            until,
            policies,
            commits,
            requests,
            left,
        }
    }
}

impl PassReport {
    /// Whether the pass changed something, or would.
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
