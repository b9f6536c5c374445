//! Types that several answers share, so that one thing has one name in all of them.

use super::Failure;
use crate::{
    core::{
        error::ErrorKind,
        image::{Digest, ImageRepository, Tag},
        name::Name,
        version::Bump,
    },
    images::policy::{self, Chosen, Hold, MoveOrigin},
    review::{FileLine, ImageMove},
    spec::Declarations,
    update::{FailureReport, PassReport},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version that a policy selected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Selected {
    /// The tag.
    pub tag: Tag,
    /// The digest, where the policy writes one.
    pub digest: Option<Digest>,
}

impl From<&Chosen> for Selected {
    fn from(chosen: &Chosen) -> Self {
        Self {
            tag: chosen.tag.clone(),
            digest: chosen.digest.clone(),
        }
    }
}

/// A tag that a policy refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedTag {
    /// The text in the registry's list, which need not be a valid tag.
    pub tag: String,
    /// The rule that refused it, as the rest of a sentence that begins with the tag.
    pub reason: String,
}

impl RefusedTag {
    pub(super) fn new((tag, refusal): (String, policy::Refusal)) -> Self {
        Self {
            tag,
            reason: refusal.to_string(),
        }
    }
}

/// A version that is held back by a revert, a force-push, or a pull request closed unmerged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldTag {
    /// The held version; an ordered policy refuses every version up to it.
    pub version: String,
    /// The act that holds it.
    pub origin: HoldOrigin,
    /// The reverting commit, or the bot's commit that a force-push removed; none for a closed pull
    /// request.
    pub commit: Option<String>,
    /// The author of the reverting commit, or the user who closed the pull request; unknown for a
    /// force-push.
    pub author: Option<String>,
    /// The time of the revert or of the closing, or at which the force-push was seen.
    pub time: Timestamp,
    /// The number of the closed pull request.
    pub pull_request: Option<u64>,
    /// The hold as a sentence.
    pub reason: String,
}

/// The acts that hold a version back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum HoldOrigin {
    /// A commit went back to a lower version.
    Revert,
    /// A pull request was closed unmerged.
    ClosedPullRequest,
    /// A force-push removed the bot's commit.
    ForcePush,
}

impl From<&Hold> for HeldTag {
    fn from(hold: &Hold) -> Self {
        let (mut commit, mut author, mut pull_request) = (None, None, None);
        let origin = match &hold.origin {
            MoveOrigin::Commit { id, author: by } => {
                (commit, author) = (Some(id.clone()), Some(by.clone()));
                HoldOrigin::Revert
            }
            MoveOrigin::ClosedRequest { number, author: by } => {
                (pull_request, author) = (Some(*number), Some(by.clone()));
                HoldOrigin::ClosedPullRequest
            }
            MoveOrigin::ForcePush { removed } => {
                commit = Some(removed.clone());
                HoldOrigin::ForcePush
            }
        };
        Self {
            version: hold.value.clone(),
            origin,
            commit,
            author,
            time: hold.time,
            pull_request,
            reason: hold.to_string(),
        }
    }
}

/// An image version that a commit or pull request changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageUpdate {
    /// The policy.
    pub policy: Name,
    /// The image repository.
    pub image: ImageRepository,
    /// The value in the files before: a tag, or text that is none.
    pub present: Option<String>,
    /// The value after.
    pub selected: Selected,
    /// The kind of step.
    pub bump: Bump,
    /// The changed lines.
    pub places: Vec<FileLine>,
}

impl From<&ImageMove> for ImageUpdate {
    fn from(moved: &ImageMove) -> Self {
        Self {
            policy: moved.policy.clone(),
            image: moved.repository.clone(),
            present: moved.old.clone(),
            selected: Selected {
                tag: moved.new.clone(),
                digest: moved.digest.clone(),
            },
            bump: moved.bump,
            places: moved.places.clone(),
        }
    }
}

/// A remote failure that did not keep a query from answering in part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartialFailure {
    /// The message.
    pub error: String,
    /// The classification.
    pub kind: ErrorKind,
    /// An imperative sentence with the remedy.
    pub hint: Option<String>,
    /// The image repository that could not be read; none for the config repository and the forge.
    pub image: Option<ImageRepository>,
    /// The earliest useful retry, in seconds, where the remote named one.
    pub retry_after: Option<u64>,
}

impl From<&FailureReport> for PartialFailure {
    fn from(report: &FailureReport) -> Self {
        Self {
            error: report.message.clone(),
            kind: report.kind,
            hint: report.hint.clone(),
            image: report.repository.clone(),
            retry_after: report.retry_after,
        }
    }
}

/// The reasons why an answer may lack something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gaps {
    /// Remotes that could not be asked.
    pub failures: Vec<PartialFailure>,
    /// Config repositories with invalid declarations, which no query uses.
    pub invalid_declarations: Vec<String>,
}

impl Gaps {
    pub(super) fn add(&mut self, repository: &str, report: &PassReport, declared: &Declarations) {
        self.failures
            .extend(report.failures.iter().map(PartialFailure::from));
        self.add_declarations(repository, declared);
    }

    pub(super) fn add_declarations(&mut self, repository: &str, declared: &Declarations) {
        if declared.has_errors() {
            self.invalid_declarations.push(repository.to_owned());
        }
    }
}

/// Lists names that exist, for an error about one that does not.
pub(super) fn available(names: impl IntoIterator<Item = String>) -> String {
    let names: Vec<String> = names.into_iter().collect();
    if names.is_empty() {
        "none is declared".to_owned()
    } else {
        format!("available: {}", names.join(", "))
    }
}

/// The failure of a query about the last pass where there was none.
pub(super) fn nothing_read(unread: &[String]) -> Failure {
    Failure::input(format!("no pass has read {} yet", unread.join(", ")))
        .hint("Run `tagboat run --once`, or wait for the first pass of the daemon.")
}
