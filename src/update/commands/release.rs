//! `tagboat release`: a pass over one Environment in which a hold is lifted.
//!
//! The Environment decides how: with `via: commit` the held version is committed inside the
//! window, with `via: pullRequest` a pull request proposes it. Its marker names the version, so
//! that the hold rests while the pull request is open; merging it lifts the hold for good, and
//! closing it holds the version again.

use super::{CommandCommit, below_subject};
use crate::{
    core::{error::ErrorKind, image::Digest},
    images::scope::EnvironmentScope,
    review::ReleasedVersion,
    spec::WriteMode,
    update::{EnvironmentReport, FailureReport, PolicyReport},
};
use std::sync::Arc;

/// A held version that a person wants back.
#[derive(Debug, Clone)]
pub struct ReleaseOrder {
    pub environment: String,
    pub version: ReleasedVersion,
    /// Commits outside the Environment's windows, too.
    pub ignore_windows: bool,
    pub commit: CommandCommit,
}

impl ReleaseOrder {
    /// Narrows an Environment to the released policy where it commits directly, so that nothing
    /// else is committed along. A pull request has all changes of its group in it, as always.
    pub(crate) fn narrow(&self, scope: Arc<EnvironmentScope>) -> Arc<EnvironmentScope> {
        match scope.environment.via {
            WriteMode::Commit => Arc::new(scope.only(&self.version.policy)),
            WriteMode::PullRequest { .. } => scope,
        }
    }

    /// Adds to the message of the commit that its version was released, and what the person says.
    pub(crate) fn describe(&self, message: &str) -> String {
        let note = format!(
            "Released by hand: the hold of {} is lifted.",
            self.version.version
        );
        self.commit.describe(&below_subject(message, &note))
    }

    /// Returns why the version cannot be written, if the policy does not choose it without its
    /// hold.
    pub(crate) fn refusal(&self, row: &EnvironmentReport) -> Option<FailureReport> {
        let ReleasedVersion { policy, version } = &self.version;
        let row = row.policies.iter().find(|row| row.name == *policy)?;
        let chosen = row.chosen.as_ref().map(|tag| tag.as_str());
        let digest = row.digest.as_ref().map(Digest::as_str);
        if [chosen, digest].contains(&Some(version.as_str())) {
            return None;
        }
        Some(FailureReport {
            kind: ErrorKind::Config,
            message: format!(
                "cannot release {version}: {policy} {}",
                instead(row, version)
            ),
            hint: Some(format!("Run `tagboat explain {policy}` for all reasons.")),
            repository: None,
            retry_after: None,
            forge: false,
        })
    }
}

/// Completes a sentence about a policy that does not choose a version.
fn instead(row: &PolicyReport, version: &str) -> String {
    let refused = row.refused.iter().find(|refused| refused.tag == version);
    match (refused, &row.chosen, &row.reason) {
        (Some(refused), ..) => format!("refuses it, because it {}", refused.reason),
        (None, Some(chosen), _) => format!("chooses {chosen}"),
        (None, None, Some(reason)) => format!("chooses nothing: {reason}"),
        (None, None, None) => "chooses nothing".to_owned(),
    }
}
