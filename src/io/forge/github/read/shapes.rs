//! Response shapes of GitHub's REST API, as far as they are read.

use crate::io::forge::{Mergeable, PullRequest, RequestEnd, RequestStatus};
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct GithubUser {
    pub(crate) login: String,
}

#[derive(Deserialize)]
pub(super) struct PullRef {
    #[serde(rename = "ref")]
    pub(super) branch: String,
    pub(super) sha: String,
    pub(super) repo: Option<GithubRepository>,
}

#[derive(Deserialize)]
pub(super) struct GithubRepository {
    pub(super) full_name: String,
}

#[derive(Deserialize)]
pub(super) struct GithubNamed {
    pub(super) name: String,
}

/// A pull request, from a list or alone.
#[derive(Deserialize)]
pub(crate) struct GithubPull {
    pub(super) number: u64,
    #[serde(default)]
    pub(super) node_id: String,
    pub(super) html_url: String,
    pub(super) state: String,
    pub(super) title: String,
    pub(super) body: Option<String>,
    #[serde(default)]
    pub(super) draft: bool,
    pub(super) head: PullRef,
    pub(super) base: PullRef,
    pub(super) user: Option<GithubUser>,
    #[serde(default)]
    pub(super) labels: Vec<GithubNamed>,
    pub(super) created_at: Option<Timestamp>,
    pub(super) updated_at: Option<Timestamp>,
    pub(super) closed_at: Option<Timestamp>,
    pub(super) merged_at: Option<Timestamp>,
    pub(super) merge_commit_sha: Option<String>,
    pub(super) merged_by: Option<GithubUser>,
    pub(super) mergeable: Option<bool>,
    pub(super) mergeable_state: Option<String>,
}

impl GithubPull {
    /// Converts the pull request; `None` if its head is in a fork or was deleted with it.
    pub(crate) fn request(self, repository: &str) -> Option<PullRequest> {
        let own = self
            .head
            .repo
            .as_ref()
            .is_some_and(|repo| repo.full_name.eq_ignore_ascii_case(repository));
        if !own {
            return None;
        }
        let state = match (self.state.as_str(), self.merged_at) {
            (_, Some(_)) => RequestStatus::Merged,
            ("open", None) => RequestStatus::Open,
            _ => RequestStatus::Closed,
        };
        let mergeable = match (self.mergeable_state.as_deref(), self.mergeable) {
            (Some("dirty"), _) => Mergeable::Conflicts,
            (Some("behind"), _) => Mergeable::Behind,
            (Some("blocked"), _) => {
                Mergeable::Blocked("blocked: a required check or review is missing".to_owned())
            }
            (Some("draft"), _) => Mergeable::Blocked("it is a draft".to_owned()),
            // Unstable: a check that is not required is not green; the checks themselves say so.
            (Some("clean" | "has_hooks" | "unstable"), Some(true)) => Mergeable::Yes,
            (_, Some(false)) => Mergeable::Conflicts,
            _ => Mergeable::Unknown,
        };
        let ended = (state != RequestStatus::Open).then(|| RequestEnd {
            at: self.merged_at.or(self.closed_at),
            by: self.merged_by.map(|user| user.login),
            // Before the merge it is a trial merge of GitHub's own.
            commit: self
                .merge_commit_sha
                .filter(|_| state == RequestStatus::Merged),
        });
        Some(PullRequest {
            number: self.number,
            url: self.html_url,
            state,
            head: self.head.branch,
            head_commit: self.head.sha,
            base: self.base.branch,
            title: self.title,
            body: self.body.unwrap_or_default(),
            labels: self.labels.into_iter().map(|label| label.name).collect(),
            author: self.user.map(|user| user.login).unwrap_or_default(),
            draft: self.draft,
            opened: self.created_at,
            updated: self.updated_at,
            ended,
            mergeable,
            id: self.node_id,
        })
    }
}

#[derive(Deserialize)]
pub(super) struct CheckRun {
    pub(super) name: String,
    pub(super) status: String,
    pub(super) conclusion: Option<String>,
    pub(super) html_url: Option<String>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) completed_at: Option<Timestamp>,
    pub(super) app: Option<GithubApp>,
}

#[derive(Deserialize)]
pub(super) struct GithubApp {
    pub(super) slug: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct GithubStatus {
    pub(super) context: String,
    pub(super) state: String,
    pub(super) target_url: Option<String>,
    pub(super) updated_at: Option<Timestamp>,
}

#[derive(Deserialize)]
pub(super) struct GithubReview {
    pub(super) user: Option<GithubUser>,
    pub(super) state: String,
    pub(super) commit_id: Option<String>,
    #[serde(default)]
    pub(super) author_association: String,
}

impl GithubReview {
    /// Returns whether the author is known to belong to the repository: in a public one everyone
    /// may write a review. A member who hides the membership appears to Apps as an outsider.
    pub(super) fn belongs(&self) -> bool {
        matches!(
            self.author_association.as_str(),
            "OWNER" | "MEMBER" | "COLLABORATOR"
        )
    }
}

#[derive(Deserialize)]
pub(super) struct RulesetRule {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) parameters: serde_json::Value,
}

#[derive(Deserialize)]
pub(super) struct GithubRelease {
    pub(super) tag_name: String,
    pub(super) name: Option<String>,
    pub(super) body: Option<String>,
    pub(super) html_url: String,
    pub(super) published_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) draft: bool,
}
