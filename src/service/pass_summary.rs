//! The update pass of one config repository as an answer: for `plan`, `requests`, `policies` and
//! `run --once`.

use super::{
    Outcome,
    types::{ImageUpdate, PartialFailure, RefusedTag, Selected},
};
use crate::{
    core::{error::ErrorKind, image::ImageRepository, name::Name, text::escape_control},
    review::FileChange,
    spec::{Diagnostic, Severity},
    update::{
        CommitReport, EnvironmentReport, EnvironmentState, LeftReport, PassReport, PolicyReport,
        RequestReport, RequestState, RequestTotals,
    },
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use similar::TextDiff;

/// A pass, planned or made, over one config repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PassSummary {
    /// The config repository.
    pub repository: String,
    /// The revision read last; none if the repository could not be fetched.
    pub revision: Option<String>,
    /// The Environments, by name.
    pub environments: Vec<EnvironmentSummary>,
    /// Errors and warnings in declarations and files.
    pub diagnostics: Vec<Diagnostic>,
    /// Failures of registries, the Git server and the forge.
    pub failures: Vec<PartialFailure>,
    /// Facts about the repository or its forge that are no failures.
    pub warnings: Vec<String>,
    /// The requests that the pass has sent.
    pub requests_sent: RequestTotals,
}

/// An Environment in a pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentSummary {
    /// The name.
    pub name: String,
    /// The result of the pass.
    pub state: EnvironmentState,
    /// The time when a window opens.
    pub until: Option<Timestamp>,
    /// The policies with references in this Environment.
    pub policies: Vec<PolicySummary>,
    /// The commits, made or planned.
    pub commits: Vec<CommitSummary>,
    /// The pull requests that are open, and those that the pass opened, merged or closed or would.
    pub pull_requests: Vec<PullRequestSummary>,
    /// References left alone. Those without any policy are not listed.
    pub left: Vec<LeftReference>,
}

/// A policy in an Environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicySummary {
    /// The policy.
    pub name: Name,
    /// The image repository.
    pub image: ImageRepository,
    /// The tags in the files, each once.
    pub present: Vec<String>,
    /// The tags in the files that the registry does not list any more.
    pub unlisted: Vec<String>,
    /// The selected version.
    pub selected: Option<Selected>,
    /// The reason why nothing was selected.
    pub reason: Option<String>,
    /// The best few refused tags above the selected one, or above the present one.
    pub refused: Vec<RefusedTag>,
    /// The time when the first tag refused only for its age is old enough.
    pub free_at: Option<Timestamp>,
    /// The holds, a sentence each.
    pub held: Vec<String>,
}

/// A commit, made or planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommitSummary {
    /// The id; none while it is only planned.
    pub id: Option<String>,
    /// The whole message.
    pub message: String,
    /// The image versions that change.
    pub images: Vec<ImageUpdate>,
    /// The changed files.
    pub files: Vec<FileDiff>,
}

/// A pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PullRequestSummary {
    /// The branch.
    pub branch: String,
    /// The number; none until it is opened.
    pub number: Option<u64>,
    /// The page at the forge.
    pub url: Option<String>,
    /// The title.
    pub title: String,
    /// The state, or the planned change of it.
    pub state: RequestState,
    /// The reasons why it is not merged yet or why it was closed, a sentence each.
    pub waits: Vec<String>,
    /// The time when the wait ends without anybody's doing.
    pub until: Option<Timestamp>,
    /// The image versions that change.
    pub images: Vec<ImageUpdate>,
    /// The changed files.
    pub files: Vec<FileDiff>,
}

/// A changed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileDiff {
    /// The path from the root.
    pub path: String,
    /// The change as a unified diff with Git's headers.
    pub diff: String,
}

/// A reference that the pass does not change although a policy is for its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftReference {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The reason as a code.
    pub code: String,
    /// The reason as a sentence.
    pub reason: String,
    /// The policy.
    pub policy: Option<Name>,
}

impl FileDiff {
    /// Compares two versions of a file; bytes that are not UTF-8 are replaced.
    pub fn new(path: &str, before: &[u8], after: &[u8]) -> Self {
        let before = String::from_utf8_lossy(before);
        let after = String::from_utf8_lossy(after);
        let shown_path = escape_control(path);
        let diff = TextDiff::from_lines(before.as_ref(), after.as_ref())
            .unified_diff()
            .context_radius(3)
            .header(&format!("a/{shown_path}"), &format!("b/{shown_path}"))
            .to_string();
        Self {
            path: path.to_owned(),
            diff,
        }
    }
}

impl From<&FileChange> for FileDiff {
    fn from(change: &FileChange) -> Self {
        Self::new(&change.path, &change.before, &change.after)
    }
}

impl From<&PassReport> for PassSummary {
    fn from(report: &PassReport) -> Self {
        Self {
            repository: report.repository.clone(),
            revision: report.revision.clone(),
            environments: convert(&report.environments),
            diagnostics: report.findings.clone(),
            failures: convert(&report.failures),
            warnings: report.warnings.clone(),
            requests_sent: report.requests.clone(),
        }
    }
}

impl From<&EnvironmentReport> for EnvironmentSummary {
    fn from(report: &EnvironmentReport) -> Self {
        Self {
            name: report.name.clone(),
            state: report.state,
            until: report.until,
            policies: convert(&report.policies),
            commits: convert(&report.commits),
            pull_requests: convert(&report.requests),
            left: convert(&report.left),
        }
    }
}

impl From<&PolicyReport> for PolicySummary {
    fn from(report: &PolicyReport) -> Self {
        let refused = report.refused.iter().map(|refused| RefusedTag {
            tag: refused.tag.clone(),
            reason: refused.reason.clone(),
        });
        Self {
            name: report.name.clone(),
            image: report.repository.clone(),
            present: report.present.clone(),
            unlisted: report.unlisted.clone(),
            selected: report.chosen.clone().map(|tag| Selected {
                tag,
                digest: report.digest.clone(),
            }),
            reason: report.reason.clone(),
            refused: refused.collect(),
            free_at: report.free_at,
            held: report.held.clone(),
        }
    }
}

impl From<&CommitReport> for CommitSummary {
    fn from(report: &CommitReport) -> Self {
        Self {
            id: report.id.clone(),
            message: report.message.clone(),
            images: convert(&report.images),
            files: convert(&report.files),
        }
    }
}

impl From<&RequestReport> for PullRequestSummary {
    fn from(report: &RequestReport) -> Self {
        Self {
            branch: report.branch.clone(),
            number: report.number,
            url: report.url.clone(),
            title: report.title.clone(),
            state: report.state,
            waits: report.waits.clone(),
            until: report.until,
            images: convert(&report.images),
            files: convert(&report.files),
        }
    }
}

impl From<&LeftReport> for LeftReference {
    fn from(report: &LeftReport) -> Self {
        Self {
            file: report.file.clone(),
            line: report.line,
            column: report.column,
            code: report.code.to_owned(),
            reason: report.reason.clone(),
            policy: report.policy.clone(),
        }
    }
}

fn convert<'r, R, S: From<&'r R>>(reports: &'r [R]) -> Vec<S> {
    reports.iter().map(S::from).collect()
}

impl PassSummary {
    /// Returns true if the pass changed something, or would.
    pub fn has_changes(&self) -> bool {
        self.environments.iter().any(|environment| {
            !environment.commits.is_empty()
                || environment
                    .pull_requests
                    .iter()
                    .any(|request| request.state.is_change())
        })
    }

    /// Returns true if a declaration or file is invalid.
    pub fn has_errors(&self) -> bool {
        self.diagnostics
            .iter()
            .any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// Classifies passes: `Partly` if something was selected although something else failed.
pub fn outcome(passes: &[PassSummary]) -> Outcome {
    let achieved = passes.iter().any(|pass| {
        pass.environments.iter().any(|environment| {
            let published = matches!(
                environment.state,
                EnvironmentState::Committed
                    | EnvironmentState::Planned
                    | EnvironmentState::Proposed
            );
            published
                || environment
                    .policies
                    .iter()
                    .any(|policy| policy.selected.is_some())
        })
    });
    let kinds = passes.iter().flat_map(|pass| {
        let invalid = pass.has_errors().then_some(ErrorKind::Config);
        pass.failures
            .iter()
            .map(|failure| failure.kind)
            .chain(invalid)
    });
    Outcome::of_parts(achieved, kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(kinds: &[ErrorKind], state: EnvironmentState) -> PassSummary {
        let environment = EnvironmentSummary {
            name: "dev".to_owned(),
            state,
            until: None,
            policies: Vec::new(),
            commits: Vec::new(),
            pull_requests: Vec::new(),
            left: Vec::new(),
        };
        let failure = |kind: &ErrorKind| PartialFailure {
            error: "no answer".to_owned(),
            kind: *kind,
            hint: None,
            image: None,
            retry_after: None,
        };
        PassSummary {
            repository: "fleet".to_owned(),
            revision: None,
            environments: vec![environment],
            diagnostics: Vec::new(),
            failures: kinds.iter().map(failure).collect(),
            warnings: Vec::new(),
            requests_sent: RequestTotals::default(),
        }
    }

    #[test]
    fn pass_outcome_follows_failures_and_results() {
        let of = |kinds: &[ErrorKind], state| outcome(&[pass(kinds, state)]);
        let (config, remote) = (ErrorKind::Config, ErrorKind::Remote);
        assert_eq!(of(&[], EnvironmentState::UpToDate), Outcome::Done);
        assert_eq!(of(&[remote], EnvironmentState::Committed), Outcome::Partly);
        assert_eq!(of(&[config], EnvironmentState::Failed), Outcome::BadInput);
        assert_eq!(
            of(&[config, remote], EnvironmentState::Failed),
            Outcome::Remote
        );
    }

    #[test]
    fn file_diff_escapes_control_characters_of_paths() {
        let diff = FileDiff::new("a\nb", b"x\n", b"y\n").diff;
        assert!(diff.starts_with("--- a/a\\nb\n+++ b/a\\nb\n"), "{diff}");
    }
}
