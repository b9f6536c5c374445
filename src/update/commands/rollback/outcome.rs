//! Outcome of a rollback, as commands show it.

use crate::core::name::Name;
use serde::Serialize;

/// Outcome of a rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackOutcome {
    pub application: Name,
    /// Folder of the Application; empty for the root.
    pub path: String,
    /// The commit; none if the folder was as it was at `to`.
    pub commit: Option<String>,
    /// The head of the branch before.
    pub from: String,
    /// The revision whose state was restored.
    pub to: String,
    pub files: Vec<RestoredFile>,
    /// Files with declarations, which differ and stay as they are.
    pub kept: Vec<String>,
    /// Reverted commits, newest first.
    pub reverted: Vec<RevertedCommit>,
    /// Files and folders outside of its own that the Application reads, and that have changed
    /// since. They stay.
    pub outside: Vec<String>,
    /// Lowered versions, which are held from now on.
    pub held: Vec<HeldVersion>,
    /// True if the Application is suspended, so that nothing is applied.
    pub suspended: bool,
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoredFile {
    /// Path from the root of the repository.
    pub path: String,
    pub change: FileChangeKind,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum FileChangeKind {
    /// Has its old content or mode again.
    Restored,
    Added,
    Deleted,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevertedCommit {
    pub commit: String,
    pub subject: String,
    pub author: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldVersion {
    pub environment: String,
    pub policy: Name,
    /// The version that was removed.
    pub version: String,
    /// The version that was restored.
    pub instead: String,
}
