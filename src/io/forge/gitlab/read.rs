//! GitLab: reading. A pull request is a merge request; its number is the project's `iid`.

use super::Gitlab;
use crate::io::forge::{
    Check, CheckState, Checks, ForgeError, ForgeOperation, ForgeProblem, ForgeRelease, Mergeable,
    PullRequest, RequestEnd, RequestFilter, RequestList, RequestStatus,
    api::{ApiCall, Dated, Entry, List},
    releases,
};
use jiff::Timestamp;
use reqwest::Url;
use serde::Deserialize;

/// GitLab's title prefix of a draft.
pub(crate) const DRAFT: &str = "Draft: ";

#[derive(Deserialize)]
pub(crate) struct GitlabUser {
    pub(crate) id: u64,
    pub(crate) username: String,
    #[serde(default)]
    pub(crate) state: String,
}

#[derive(Deserialize)]
pub(crate) struct GitlabPipeline {
    sha: String,
    #[serde(rename = "ref", default)]
    branch: String,
    status: String,
    web_url: Option<String>,
    updated_at: Option<Timestamp>,
}

/// A merge request, from a list or alone.
#[derive(Deserialize)]
pub(crate) struct MergeRequest {
    iid: u64,
    web_url: String,
    state: String,
    source_branch: String,
    target_branch: String,
    source_project_id: Option<u64>,
    target_project_id: Option<u64>,
    pub(crate) sha: Option<String>,
    title: String,
    description: Option<String>,
    #[serde(default)]
    labels: Vec<String>,
    author: Option<GitlabUser>,
    #[serde(default)]
    draft: bool,
    created_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
    merged_at: Option<Timestamp>,
    closed_at: Option<Timestamp>,
    merge_user: Option<GitlabUser>,
    merged_by: Option<GitlabUser>,
    closed_by: Option<GitlabUser>,
    merge_commit_sha: Option<String>,
    squash_commit_sha: Option<String>,
    detailed_merge_status: Option<String>,
    merge_status: Option<String>,
    pub(crate) head_pipeline: Option<GitlabPipeline>,
    #[serde(default)]
    pub(crate) reviewers: Vec<GitlabUser>,
}

impl MergeRequest {
    /// The commit that a merge made; of a fast-forward the head itself.
    pub(crate) fn commit(&self) -> Option<String> {
        self.merge_commit_sha
            .clone()
            .or_else(|| self.squash_commit_sha.clone())
            .or_else(|| self.sha.clone())
    }

    pub(crate) fn is_merged(&self) -> bool {
        self.state == "merged"
    }

    /// Converts the merge request; `None` if its head is in a fork.
    pub(crate) fn request(self) -> Option<PullRequest> {
        if self.source_project_id.is_none() || self.source_project_id != self.target_project_id {
            return None;
        }
        let state = match self.state.as_str() {
            "merged" => RequestStatus::Merged,
            "closed" => RequestStatus::Closed,
            // Locked: it is being merged.
            _ => RequestStatus::Open,
        };
        let commit = self.commit().filter(|_| state == RequestStatus::Merged);
        let by = match state {
            RequestStatus::Merged => self.merge_user.or(self.merged_by),
            _ => self.closed_by,
        };
        let ended = (state != RequestStatus::Open).then(|| RequestEnd {
            at: if state == RequestStatus::Merged {
                self.merged_at
            } else {
                self.closed_at
            },
            by: by.map(|user| user.username),
            commit,
        });
        let mergeable = mergeable(
            self.detailed_merge_status.as_deref(),
            self.merge_status.as_deref(),
        );
        let title = if self.draft {
            self.title
                .strip_prefix(DRAFT)
                .unwrap_or(&self.title)
                .to_owned()
        } else {
            self.title
        };
        Some(PullRequest {
            number: self.iid,
            url: self.web_url,
            state,
            head: self.source_branch,
            head_commit: self.sha.unwrap_or_default(),
            base: self.target_branch,
            title,
            body: self.description.unwrap_or_default(),
            labels: self.labels,
            author: self.author.map(|user| user.username).unwrap_or_default(),
            draft: self.draft,
            opened: self.created_at,
            updated: self.updated_at,
            ended,
            mergeable,
            id: String::new(),
        })
    }
}

/// GitLab's own word; the older one where the newer (15.6) is not known.
fn mergeable(detailed: Option<&str>, older: Option<&str>) -> Mergeable {
    match (detailed, older) {
        (Some("mergeable"), _) | (None, Some("can_be_merged")) => Mergeable::Yes,
        (Some("conflict"), _) | (None, Some("cannot_be_merged")) => Mergeable::Conflicts,
        (Some("need_rebase"), _) => Mergeable::Behind,
        (Some("unchecked" | "checking" | "preparing" | "approvals_syncing"), _) | (None, _) => {
            Mergeable::Unknown
        }
        (Some(other), _) => Mergeable::Blocked(other.chars().take(80).collect()),
    }
}

#[derive(Deserialize)]
struct GitlabStatus {
    name: String,
    status: String,
    #[serde(default)]
    allow_failure: bool,
    target_url: Option<String>,
    created_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    /// The account that set an external status, or for which a job runs.
    author: Option<GitlabUser>,
}

#[derive(Deserialize)]
struct GitlabRelease {
    tag_name: String,
    name: Option<String>,
    description: Option<String>,
    released_at: Option<Timestamp>,
    #[serde(default)]
    upcoming_release: bool,
}

#[derive(Deserialize)]
struct GitlabTag {
    name: String,
}

#[derive(Deserialize)]
struct GitlabCommit {
    #[serde(default)]
    parent_ids: Vec<String>,
}

impl Gitlab {
    pub(crate) async fn list_requests(
        &self,
        which: RequestFilter,
        prefix: &str,
    ) -> Result<RequestList, ForgeError> {
        let (since, query) = match which {
            RequestFilter::Open => {
                self.api.pass_cache.clear().await;
                (
                    String::new(),
                    vec![("state", "opened"), ("order_by", "created_at")],
                )
            }
            RequestFilter::EndedSince(since) => (
                since.to_string(),
                vec![("state", "all"), ("order_by", "updated_at")],
            ),
        };
        let mut query = query;
        if !since.is_empty() {
            query.push(("updated_after", since.as_str()));
        }
        query.extend([("scope", "all"), ("sort", "desc"), ("per_page", "100")]);
        let list = List {
            most: which.most_pages(),
            ..List::all(
                ForgeOperation::List,
                self.project(&["merge_requests"], &query),
                prefix,
            )
        };
        let wanted = |request: &PullRequest| {
            request.head.starts_with(prefix)
                && (which == RequestFilter::Open || request.state != RequestStatus::Open)
        };
        let keep = |request: MergeRequest| Entry {
            stamp: request.updated_at,
            kept: request.request().filter(wanted),
        };
        let Dated {
            found: requests,
            latest,
            back_to,
        } = self.api.dated(&list, keep).await?;
        Ok(RequestList {
            requests,
            latest,
            back_to,
        })
    }

    pub(crate) async fn find_request(&self, head: &str) -> Result<Option<PullRequest>, ForgeError> {
        let query = [
            ("source_branch", head),
            ("state", "all"),
            ("scope", "all"),
            ("order_by", "created_at"),
            ("sort", "desc"),
            ("per_page", "100"),
        ];
        let list = List {
            most: Some(1),
            ..List::all(
                ForgeOperation::List,
                self.project(&["merge_requests"], &query),
                head,
            )
        };
        let keep = |request: MergeRequest| {
            request
                .request()
                .filter(|request| request.head == head)
                .into()
        };
        Ok(crate::review::types::latest(
            self.api.pages(&list, keep).await?,
        ))
    }

    /// Reads one merge request with all details.
    pub(crate) async fn whole(
        &self,
        operation: ForgeOperation,
        number: u64,
    ) -> Result<MergeRequest, ForgeError> {
        self.api
            .get(
                operation,
                self.project(&["merge_requests", &number.to_string()], &[]),
            )
            .await
    }

    pub(crate) async fn get_request(&self, number: u64) -> Result<PullRequest, ForgeError> {
        let whole = self.whole(ForgeOperation::Read, number).await?;
        whole
            .request()
            .ok_or_else(|| self.api.foreign(ForgeOperation::Read))
    }

    pub(crate) async fn read_checks(&self, request: &PullRequest) -> Result<Checks, ForgeError> {
        let (op, head) = (ForgeOperation::Checks, request.head_commit.as_str());
        let statuses = List::all(
            op,
            self.project(
                &["repository", "commits", head, "statuses"],
                &[("per_page", "100")],
            ),
            "",
        );
        let statuses = self.api.pages(&statuses, |status: GitlabStatus| {
            Some(status_check(status)).into()
        });
        let (whole, mut named) = futures::try_join!(self.whole(op, request.number), statuses)?;
        if whole.sha.as_deref() != Some(head) {
            return Err(self
                .api
                .error(op, ForgeProblem::HeadChanged { message: None }));
        }
        let required = whole
            .detailed_merge_status
            .as_deref()
            .is_some_and(|status| status.starts_with("ci_"))
            || self.settings().await?.only_allow_merge_if_pipeline_succeeds;
        match whole.head_pipeline {
            Some(pipeline) if self.is_of(&pipeline, request).await? => {
                let state = pipeline_state(&pipeline.status, false);
                named.push(Check {
                    name: PIPELINE.to_owned(),
                    state,
                    required,
                    url: pipeline.web_url,
                    at: pipeline.updated_at,
                    app: None,
                });
            }
            // Wanted, and not there yet, or there for another head.
            _ if required => named.push(Check {
                name: PIPELINE.to_owned(),
                state: CheckState::Pending,
                required,
                url: None,
                at: None,
                app: None,
            }),
            _ => {}
        }
        Ok(Checks::of(named))
    }

    /// Returns whether a pipeline ran for the head: on it, or on a merge of it into the base.
    async fn is_of(
        &self,
        pipeline: &GitlabPipeline,
        request: &PullRequest,
    ) -> Result<bool, ForgeError> {
        if pipeline.sha == request.head_commit {
            return Ok(true);
        }
        if !pipeline
            .branch
            .starts_with(&format!("refs/merge-requests/{}/", request.number))
        {
            return Ok(false);
        }
        let commit = self.project(&["repository", "commits", &pipeline.sha], &[]);
        let commit = self
            .api
            .find::<GitlabCommit>(ForgeOperation::Checks, commit)
            .await?;
        Ok(commit.is_some_and(|commit| commit.parent_ids.contains(&request.head_commit)))
    }

    pub(crate) async fn read_releases(
        &self,
        project: &str,
        from: &str,
        to: &str,
    ) -> Result<Vec<ForgeRelease>, ForgeError> {
        let mut page = self.place.clone();
        page.project = project.to_owned();
        let most = Some(releases::MOST_PAGES);
        let list = |segments: &[&str]| List {
            most,
            ..List::all(
                ForgeOperation::Releases,
                self.other(project, segments, &[("per_page", "100")]),
                "",
            )
        };
        let keep = |shape: GitlabRelease| {
            let url = crate::io::forge::page(&page, &["-", "releases", &shape.tag_name]);
            let release = || {
                releases::release(
                    shape.tag_name,
                    shape.name,
                    shape.description.as_deref(),
                    url,
                    shape.released_at,
                )
            };
            (!shape.upcoming_release).then(release).into()
        };
        let found = self.api.pages(&list(&["releases"]), keep).await?;
        if !found.is_empty() {
            return Ok(releases::between(found, from, to));
        }
        let keep = |tag: GitlabTag| {
            let url = crate::io::forge::page(&page, &["-", "tags", &tag.name]);
            Some(releases::release(tag.name, None, None, url, None)).into()
        };
        Ok(releases::between(
            self.api.pages(&list(&["repository", "tags"]), keep).await?,
            from,
            to,
        ))
    }

    /// The users that a name means: one, or the active members of a group.
    pub(crate) async fn members(&self, group: &str) -> Result<Vec<GitlabUser>, ForgeError> {
        let url = self
            .api
            .url(["groups", group, "members"], &[("per_page", "100")]);
        let members = self
            .api
            .get::<Vec<GitlabUser>>(ForgeOperation::Reviewers, url)
            .await?;
        Ok(members
            .into_iter()
            .filter(|user| user.state == "active")
            .collect())
    }

    /// An address below the project, which is one segment.
    pub(crate) fn project(&self, segments: &[&str], query: &[(&str, &str)]) -> Url {
        self.other(&self.place.project, segments, query)
    }

    fn other(&self, project: &str, segments: &[&str], query: &[(&str, &str)]) -> Url {
        self.api.url(
            ["projects", project]
                .into_iter()
                .chain(segments.iter().copied()),
            query,
        )
    }

    /// Reads the list of something small and whole.
    pub(crate) async fn user(&self, name: &str) -> Result<Option<GitlabUser>, ForgeError> {
        let call = ApiCall::get(
            ForgeOperation::Reviewers,
            self.api.url(["users"], &[("username", name)]),
        );
        Ok(self
            .api
            .json::<Vec<GitlabUser>>(&call)
            .await?
            .into_iter()
            .find(|user| user.username.eq_ignore_ascii_case(name)))
    }
}

/// The check name of the pipeline as a whole.
const PIPELINE: &str = "pipeline";

fn status_check(status: GitlabStatus) -> Check {
    let state = pipeline_state(&status.status, status.allow_failure);
    let at = status
        .finished_at
        .or(status.started_at)
        .or(status.created_at);
    Check {
        name: status.name,
        state,
        required: false,
        url: status.target_url,
        at,
        app: status.author.map(|author| author.username),
    }
}

/// The state of a pipeline, a job or an external status.
fn pipeline_state(status: &str, may_fail: bool) -> CheckState {
    match status {
        "success" => CheckState::Passed,
        "skipped" => CheckState::Skipped,
        "failed" | "canceled" | "manual" if may_fail => CheckState::Skipped,
        "failed" | "canceled" | "canceling" => CheckState::Failed,
        // created, waiting_for_resource, preparing, pending, running, scheduled, manual, and what
        // may come.
        _ => CheckState::Pending,
    }
}
