//! Gitea and Forgejo: reading. Shapes follow the swagger file of Gitea 1.26.

use super::Gitea;
use crate::{
    io::forge::{
        Approvals, Check, CheckState, Checks, ForgeError, ForgeOperation, ForgeProblem,
        ForgeRelease, Mergeable, PullRequest, RequestEnd, RequestFilter, RequestList,
        RequestStatus,
        api::{Dated, Entry, List},
        releases,
    },
    review::types::ReviewVerdict,
};
use globset::Glob;
use jiff::Timestamp;
use reqwest::Url;
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc};

/// Gitea's title prefix of a draft.
pub(crate) const DRAFT: &str = "WIP: ";
/// Pages of ended requests among which one is looked for by its branch: some two hundred.
const ENDED_PAGES: usize = 4;

#[derive(Deserialize)]
pub(crate) struct GiteaUser {
    pub(crate) login: String,
}

#[derive(Deserialize)]
struct PullBranch {
    /// The branch, also when it is gone; then `ref` is another.
    label: String,
    #[serde(rename = "ref")]
    branch: String,
    #[serde(default)]
    sha: String,
    repo_id: i64,
}

#[derive(Deserialize)]
struct GiteaNamed {
    name: String,
}

/// A pull request, from a list or alone.
#[derive(Deserialize)]
pub(crate) struct GiteaPull {
    number: u64,
    html_url: String,
    state: String,
    title: String,
    body: Option<String>,
    #[serde(default)]
    draft: bool,
    head: PullBranch,
    base: PullBranch,
    user: Option<GiteaUser>,
    labels: Option<Vec<GiteaNamed>>,
    created_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
    closed_at: Option<Timestamp>,
    #[serde(default)]
    merged: bool,
    merged_at: Option<Timestamp>,
    merged_by: Option<GiteaUser>,
    merge_commit_sha: Option<String>,
    #[serde(default)]
    mergeable: bool,
}

impl GiteaPull {
    /// Converts the pull request; `None` if its head is in a fork.
    pub(crate) fn request(self) -> Option<PullRequest> {
        if self.head.repo_id != self.base.repo_id {
            return None;
        }
        let state = match (self.merged, self.state.as_str()) {
            (true, _) => RequestStatus::Merged,
            (false, "open") => RequestStatus::Open,
            _ => RequestStatus::Closed,
        };
        let mergeable = match (self.mergeable, self.draft) {
            (true, _) => Mergeable::Yes,
            (false, true) => Mergeable::Blocked("it is a draft".to_owned()),
            (false, false) => {
                Mergeable::Blocked("it conflicts, or Gitea is still looking".to_owned())
            }
        };
        let ended = (state != RequestStatus::Open).then(|| RequestEnd {
            at: self.merged_at.or(self.closed_at),
            by: self.merged_by.map(|user| user.login),
            commit: self
                .merge_commit_sha
                .filter(|_| state == RequestStatus::Merged),
        });
        let title = if self.draft {
            self.title
                .strip_prefix(DRAFT)
                .unwrap_or(&self.title)
                .to_owned()
        } else {
            self.title
        };
        Some(PullRequest {
            number: self.number,
            url: self.html_url,
            state,
            head: self.head.label,
            head_commit: self.head.sha,
            base: self.base.branch,
            title,
            body: self.body.unwrap_or_default(),
            labels: self
                .labels
                .into_iter()
                .flatten()
                .map(|label| label.name)
                .collect(),
            author: self.user.map(|user| user.login).unwrap_or_default(),
            draft: self.draft,
            opened: self.created_at,
            updated: self.updated_at,
            ended,
            mergeable,
            id: String::new(),
        })
    }
}

#[derive(Deserialize)]
struct GiteaStatus {
    id: u64,
    context: String,
    status: String,
    target_url: Option<String>,
    updated_at: Option<Timestamp>,
    created_at: Option<Timestamp>,
    creator: Option<GiteaUser>,
}

#[derive(Deserialize)]
pub(crate) struct GiteaBranch {
    #[serde(default)]
    required_approvals: u32,
    #[serde(default)]
    enable_status_check: bool,
    status_check_contexts: Option<Vec<String>>,
    #[serde(default)]
    effective_branch_protection_name: String,
}

#[derive(Deserialize)]
struct GiteaProtection {
    #[serde(default)]
    block_on_outdated_branch: bool,
}

#[derive(Deserialize)]
struct GiteaReview {
    user: Option<GiteaUser>,
    state: String,
    commit_id: Option<String>,
    #[serde(default)]
    official: bool,
    #[serde(default)]
    stale: bool,
    #[serde(default)]
    dismissed: bool,
}

#[derive(Deserialize)]
struct TimelineEvent {
    #[serde(rename = "type")]
    kind: String,
    user: Option<GiteaUser>,
}

#[derive(Deserialize)]
struct GiteaRelease {
    tag_name: String,
    name: Option<String>,
    body: Option<String>,
    html_url: String,
    published_at: Option<Timestamp>,
    #[serde(default)]
    draft: bool,
}

/// The requested page size; servers usually cap it at 50.
pub(crate) const PAGE: (&str, &str) = ("limit", "100");

impl Gitea {
    pub(crate) async fn list_requests(
        &self,
        which: RequestFilter,
        prefix: &str,
    ) -> Result<RequestList, ForgeError> {
        let (query, until) = match which {
            RequestFilter::Open => {
                self.api.pass_cache.clear().await;
                (vec![("state", "open")], None)
            }
            RequestFilter::EndedSince(since) => (
                vec![("state", "closed"), ("sort", "recentupdate")],
                Some(since),
            ),
        };
        let query: Vec<_> = query.into_iter().chain([PAGE]).collect();
        let list = List {
            until,
            most: which.most_pages(),
            ..List::all(ForgeOperation::List, self.repo(&["pulls"], &query), prefix)
        };
        let keep = |pull: GiteaPull| Entry {
            stamp: pull.updated_at,
            kept: pull
                .request()
                .filter(|request| request.head.starts_with(prefix)),
        };
        let Dated {
            found: mut requests,
            latest,
            back_to,
        } = self.api.dated(&list, keep).await?;
        requests.retain(|request| {
            until.is_none_or(|until| request.updated.is_none_or(|updated| updated >= until))
        });
        Ok(RequestList {
            requests,
            latest,
            back_to,
        })
    }

    /// Gitea has no question for a head branch: the open ones are listed, then the latest that
    /// ended.
    pub(crate) async fn find_request(&self, head: &str) -> Result<Option<PullRequest>, ForgeError> {
        let open = self
            .list_requests(RequestFilter::Open, head)
            .await?
            .requests;
        if let Some(found) = open.into_iter().find(|request| request.head == head) {
            return Ok(Some(found));
        }
        let url = self.repo(
            &["pulls"],
            &[("state", "closed"), ("sort", "recentupdate"), PAGE],
        );
        let list = List {
            most: Some(ENDED_PAGES),
            ..List::all(ForgeOperation::List, url, head)
        };
        let ended = self
            .api
            .pages(&list, |pull: GiteaPull| {
                pull.request().filter(|request| request.head == head).into()
            })
            .await?;
        Ok(ended.into_iter().max_by_key(|request| request.number))
    }

    pub(crate) async fn get_request(&self, number: u64) -> Result<PullRequest, ForgeError> {
        let number = number.to_string();
        let pull: GiteaPull = self
            .api
            .get(ForgeOperation::Read, self.repo(&["pulls", &number], &[]))
            .await?;
        let foreign = || self.api.foreign(ForgeOperation::Read);
        let mut request = pull.request().ok_or_else(foreign)?;
        if let (RequestStatus::Closed, Some(ended)) = (request.state, &mut request.ended) {
            let list = List::all(
                ForgeOperation::Read,
                self.repo(&["issues", &number, "timeline"], &[PAGE]),
                "",
            );
            let keep = |event: TimelineEvent| {
                event
                    .user
                    .filter(|_| event.kind == "close")
                    .map(|user| user.login)
                    .into()
            };
            ended.by = self.api.pages(&list, keep).await?.pop();
        }
        Ok(request)
    }

    /// Returns the protection of the base; `None` if the branch is unprotected.
    async fn branch(&self, base: &str) -> Result<Arc<Option<GiteaBranch>>, ForgeError> {
        let ask = self.api.find(
            ForgeOperation::Settings,
            self.repo(&["branches", base], &[]),
        );
        self.api
            .pass_cache
            .once(&format!("branch {base}"), ask)
            .await
    }

    pub(crate) async fn wants_newest_commit(&self, base: &str) -> Result<bool, ForgeError> {
        let branch = self.branch(base).await?;
        let Some(rule) = branch
            .as_ref()
            .as_ref()
            .map(|branch| branch.effective_branch_protection_name.as_str())
            .filter(|rule| !rule.is_empty())
        else {
            return Ok(false);
        };
        let ask = async {
            let segments: Vec<&str> = std::iter::once("branch_protections")
                .chain(rule.split('/'))
                .collect();
            match self
                .api
                .find::<GiteaProtection>(ForgeOperation::Settings, self.repo(&segments, &[]))
                .await
            {
                Ok(protection) => {
                    Ok(protection.is_some_and(|protection| protection.block_on_outdated_branch))
                }
                // Only administrators may read it; then the refusal of a merge says it.
                Err(error) if matches!(error.problem, ForgeProblem::Forbidden { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        };
        Ok(*self
            .api
            .pass_cache
            .once(&format!("newest {base}"), ask)
            .await?)
    }

    pub(crate) async fn read_checks(&self, request: &PullRequest) -> Result<Checks, ForgeError> {
        // Read all statuses: the count of the combined status is wrong with many contexts (1.26).
        let url = self.repo(&["statuses", &request.head_commit], &[PAGE]);
        let list = List::all(ForgeOperation::Checks, url, "");
        let statuses = self
            .api
            .pages(&list, |status: GiteaStatus| Some(Arc::new(status)).into());
        let (statuses, branch) = futures::try_join!(statuses, self.branch(&request.base))?;
        // The latest of each context counts; ids grow, and the orders that can be asked for do not
        // what they say (1.26).
        let mut latest: BTreeMap<&str, &GiteaStatus> = BTreeMap::new();
        for status in &statuses {
            let known = latest.entry(&status.context).or_insert(status);
            if known.id < status.id {
                *known = status;
            }
        }
        let mut named: Vec<Check> = latest.into_values().map(check).collect();
        let branch = branch
            .as_ref()
            .as_ref()
            .filter(|branch| branch.enable_status_check);
        let required = branch
            .and_then(|branch| branch.status_check_contexts.clone())
            .unwrap_or_default();
        // Gitea matches required contexts as globs.
        let fits = |word: &str, name: &str| {
            word == name || Glob::new(word).is_ok_and(|glob| glob.compile_matcher().is_match(name))
        };
        Checks::require(&mut named, &required, fits);
        Ok(Checks::of(named))
    }

    pub(crate) async fn read_approvals(
        &self,
        request: &PullRequest,
    ) -> Result<Approvals, ForgeError> {
        let url = self.repo(&["pulls", &request.number.to_string(), "reviews"], &[PAGE]);
        let list = List::all(ForgeOperation::Approvals, url, "");
        // Only official ones count: those of people whom the branch's protection names, or who may
        // write.
        let keep = |review: GiteaReview| {
            (review.official && !review.dismissed)
                .then_some(review)
                .map(Arc::new)
                .into()
        };
        let (reviews, branch) =
            futures::try_join!(self.api.pages(&list, keep), self.branch(&request.base))?;
        let mut said = BTreeMap::new();
        for review in reviews {
            let login = review
                .user
                .as_ref()
                .map(|user| user.login.clone())
                .unwrap_or_default();
            let present =
                !review.stale && review.commit_id.as_deref() == Some(&request.head_commit);
            match review.state.as_str() {
                "APPROVED" if present => drop(said.insert(login, ReviewVerdict::Approved)),
                "APPROVED" => drop(said.insert(login, ReviewVerdict::Earlier)),
                "REQUEST_CHANGES" => drop(said.insert(login, ReviewVerdict::Against)),
                _ => {}
            }
        }
        let required = branch
            .as_ref()
            .as_ref()
            .map(|branch| branch.required_approvals);
        Ok(Approvals::of(&said, required))
    }

    pub(crate) async fn read_releases(
        &self,
        project: &str,
        from: &str,
        to: &str,
    ) -> Result<Vec<ForgeRelease>, ForgeError> {
        let most = Some(releases::MOST_PAGES);
        let list = |what: &str| List {
            most,
            ..List::all(
                ForgeOperation::Releases,
                self.project(project, &[what], &[PAGE]),
                "",
            )
        };
        let keep = |shape: GiteaRelease| {
            let GiteaRelease {
                tag_name,
                name,
                body,
                html_url,
                published_at,
                draft,
            } = shape;
            (!draft)
                .then(|| releases::release(tag_name, name, body.as_deref(), html_url, published_at))
                .into()
        };
        let found = self.api.pages(&list("releases"), keep).await?;
        if !found.is_empty() {
            return Ok(releases::between(found, from, to));
        }
        let mut page = self.place.clone();
        page.project = project.to_owned();
        let keep = |tag: GiteaNamed| {
            let url = crate::io::forge::page(&page, &["src", "tag", &tag.name]);
            Some(releases::release(tag.name, None, None, url, None)).into()
        };
        Ok(releases::between(
            self.api.pages(&list("tags"), keep).await?,
            from,
            to,
        ))
    }

    /// An address below the repository.
    pub(crate) fn repo(&self, segments: &[&str], query: &[(&str, &str)]) -> Url {
        self.project(&self.place.project, segments, query)
    }

    fn project(&self, project: &str, segments: &[&str], query: &[(&str, &str)]) -> Url {
        self.api.url(
            std::iter::once("repos")
                .chain(project.split('/'))
                .chain(segments.iter().copied()),
            query,
        )
    }
}

fn check(status: &GiteaStatus) -> Check {
    let state = match status.status.as_str() {
        "success" => CheckState::Passed,
        "pending" => CheckState::Pending,
        "skipped" => CheckState::Skipped,
        // failure, error, warning, and what may come: Gitea itself counts a warning as bad.
        _ => CheckState::Failed,
    };
    let url = status.target_url.clone().filter(|url| !url.is_empty());
    Check {
        name: status.context.clone(),
        state,
        required: false,
        url,
        at: status.updated_at.or(status.created_at),
        app: status.creator.as_ref().map(|user| user.login.clone()),
    }
}
