//! GitHub: reading. Shapes follow the REST API, version 2022-11-28.

use super::Github;
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
use jiff::Timestamp;
use reqwest::Url;
use serde::Deserialize;
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};

/// Asks what a branch's classic protection wants of those who are not its administrators.
const APPROVALS_WANTED: &str = "query($owner: String!, $name: String!, $ref: String!) { repository(owner: $owner, name: $name) \
    { ref(qualifiedName: $ref) { refUpdateRule { requiredApprovingReviewCount } } } }";

/// The number of reviewers outside the repository whose permission is looked up. Of further ones,
/// in alphabetical order, only objections count.
const MOST_ASKED: usize = 30;

#[derive(Deserialize)]
pub(crate) struct GithubUser {
    pub(crate) login: String,
}

#[derive(Deserialize)]
struct PullRef {
    #[serde(rename = "ref")]
    branch: String,
    sha: String,
    repo: Option<GithubRepository>,
}

#[derive(Deserialize)]
struct GithubRepository {
    full_name: String,
}

#[derive(Deserialize)]
struct GithubNamed {
    name: String,
}

/// A pull request, from a list or alone.
#[derive(Deserialize)]
pub(crate) struct GithubPull {
    number: u64,
    #[serde(default)]
    node_id: String,
    html_url: String,
    state: String,
    title: String,
    body: Option<String>,
    #[serde(default)]
    draft: bool,
    head: PullRef,
    base: PullRef,
    user: Option<GithubUser>,
    #[serde(default)]
    labels: Vec<GithubNamed>,
    created_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
    closed_at: Option<Timestamp>,
    merged_at: Option<Timestamp>,
    merge_commit_sha: Option<String>,
    merged_by: Option<GithubUser>,
    mergeable: Option<bool>,
    mergeable_state: Option<String>,
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
struct CheckRun {
    name: String,
    status: String,
    conclusion: Option<String>,
    html_url: Option<String>,
    started_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct GithubStatus {
    context: String,
    state: String,
    target_url: Option<String>,
    updated_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct GithubReview {
    user: Option<GithubUser>,
    state: String,
    commit_id: Option<String>,
    #[serde(default)]
    author_association: String,
}

impl GithubReview {
    /// Returns whether the author is known to belong to the repository: in a public one everyone
    /// may write a review. A member who hides the membership appears to Apps as an outsider.
    fn belongs(&self) -> bool {
        matches!(
            self.author_association.as_str(),
            "OWNER" | "MEMBER" | "COLLABORATOR"
        )
    }
}

#[derive(Deserialize)]
struct RulesetRule {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    parameters: serde_json::Value,
}

#[derive(Deserialize)]
struct GithubRelease {
    tag_name: String,
    name: Option<String>,
    body: Option<String>,
    html_url: String,
    published_at: Option<Timestamp>,
    #[serde(default)]
    draft: bool,
}

/// The requirements of the base branch for a merge.
#[derive(Default)]
pub(crate) struct MergeRequirements {
    checks: Vec<String>,
    /// Approvals required by rulesets; classic protection may require more.
    approvals: u32,
    /// True if the base may have classic protection.
    protected: bool,
    /// True if the branch must contain the base's newest commit. Only administrators can read
    /// classic protection; there `mergeable_state` of each pull request tells.
    pub(crate) newest: bool,
}

impl Github {
    pub(crate) async fn list_requests(
        &self,
        which: RequestFilter,
        prefix: &str,
    ) -> Result<RequestList, ForgeError> {
        let (state, sort, until) = match which {
            RequestFilter::Open => {
                self.api.standing.clear().await;
                ("open", "created", None)
            }
            RequestFilter::EndedSince(since) => ("closed", "updated", Some(since)),
        };
        let query = [
            ("state", state),
            ("sort", sort),
            ("direction", "desc"),
            ("per_page", "100"),
        ];
        let list = List {
            until,
            most: which.most_pages(),
            ..List::all(ForgeOperation::List, self.repo(&["pulls"], &query), prefix)
        };
        let keep = |pull: GithubPull| Entry {
            stamp: pull.updated_at,
            kept: pull
                .request(&self.place.project)
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

    pub(crate) async fn find_request(&self, head: &str) -> Result<Option<PullRequest>, ForgeError> {
        let owner = self.place.project.split('/').next().unwrap_or_default();
        let (head_query, query) = (format!("{owner}:{head}"), ("state", "all"));
        let query = [
            query,
            ("head", head_query.as_str()),
            ("sort", "created"),
            ("direction", "desc"),
            ("per_page", "100"),
        ];
        let list = List {
            most: Some(1),
            ..List::all(ForgeOperation::List, self.repo(&["pulls"], &query), head)
        };
        let keep = |pull: GithubPull| {
            pull.request(&self.place.project)
                .filter(|request| request.head == head)
                .into()
        };
        Ok(crate::review::types::latest(
            self.api.pages(&list, keep).await?,
        ))
    }

    pub(crate) async fn get_request(&self, number: u64) -> Result<PullRequest, ForgeError> {
        #[derive(Deserialize)]
        struct Issue {
            closed_by: Option<GithubUser>,
        }
        let number = number.to_string();
        let pull: GithubPull = self
            .api
            .get(ForgeOperation::Read, self.repo(&["pulls", &number], &[]))
            .await?;
        let mut request = pull
            .request(&self.place.project)
            .ok_or_else(|| self.api.foreign(ForgeOperation::Read))?;
        if let (RequestStatus::Closed, Some(ended)) = (request.state, &mut request.ended) {
            let issue: Issue = self
                .api
                .get(ForgeOperation::Read, self.repo(&["issues", &number], &[]))
                .await?;
            ended.by = issue.closed_by.map(|user| user.login);
        }
        Ok(request)
    }

    pub(crate) async fn read_checks(&self, request: &PullRequest) -> Result<Checks, ForgeError> {
        let commit = request.head_commit.as_str();
        let (op, query) = (ForgeOperation::Checks, [("per_page", "100")]);
        let mut list = List::all(
            op,
            self.repo(
                &["commits", commit, "check-runs"],
                &[("filter", "latest"), ("per_page", "100")],
            ),
            "",
        );
        list.inside = Some("check_runs");
        let runs = self
            .api
            .pages(&list, |run: CheckRun| Some(run_check(run)).into());
        let mut list = List::all(op, self.repo(&["commits", commit, "status"], &query), "");
        list.inside = Some("statuses");
        let statuses = self.api.pages(&list, |status: GithubStatus| {
            Some(status_check(status)).into()
        });
        let (runs, statuses, wanted) =
            futures::try_join!(runs, statuses, self.base_wants(&request.base))?;
        let mut named: Vec<Check> = runs.into_iter().chain(statuses).collect();
        Checks::require(&mut named, &wanted.checks, |word, name| word == name);
        Ok(Checks::of(named))
    }

    /// The same, asked once in a pass.
    pub(crate) async fn base_wants(
        &self,
        base: &str,
    ) -> Result<Arc<MergeRequirements>, ForgeError> {
        self.api
            .standing
            .once(&format!("branch {base}"), Box::pin(self.wanted(base)))
            .await
    }

    /// Reads the requirements of branch protection and rulesets, as far as possible without
    /// administration rights.
    async fn wanted(&self, base: &str) -> Result<MergeRequirements, ForgeError> {
        #[derive(Deserialize)]
        struct Branch {
            protected: Option<bool>,
            protection: Option<Protection>,
        }
        #[derive(Deserialize)]
        struct Protection {
            required_status_checks: Option<Required>,
        }
        #[derive(Deserialize)]
        struct Required {
            #[serde(default)]
            contexts: Vec<String>,
        }
        let op = ForgeOperation::Settings;
        let branch = self
            .api
            .find::<Branch>(op, self.repo(&["branches", base], &[]));
        // Repositories on a plan without rulesets answer 403 or 404; GitHub Enterprise before 3.11
        // does not have the endpoint.
        let list = List::all(
            op,
            self.repo(&["rules", "branches", base], &[("per_page", "100")]),
            "",
        );
        let rules = async {
            match self
                .api
                .pages(&list, |rule: RulesetRule| {
                    Some((rule.kind, rule.parameters)).into()
                })
                .await
            {
                Ok(rules) => Ok(rules),
                Err(error)
                    if matches!(
                        error.problem,
                        ForgeProblem::NotFound { .. } | ForgeProblem::Forbidden { .. }
                    ) =>
                {
                    Ok(Vec::new())
                }
                Err(error) => Err(error),
            }
        };
        let (branch, rules) = futures::try_join!(branch, rules)?;
        let protected = branch
            .as_ref()
            .and_then(|branch| branch.protected)
            .unwrap_or(true);
        let mut wanted = MergeRequirements {
            protected,
            ..MergeRequirements::default()
        };
        let classic = branch
            .and_then(|branch| branch.protection)
            .and_then(|protection| protection.required_status_checks);
        wanted
            .checks
            .extend(classic.into_iter().flat_map(|required| required.contexts));
        for (kind, parameters) in rules {
            match kind.as_str() {
                "required_status_checks" => {
                    let checks = parameters["required_status_checks"]
                        .as_array()
                        .into_iter()
                        .flatten();
                    wanted.checks.extend(
                        checks.filter_map(|check| check["context"].as_str().map(str::to_owned)),
                    );
                    wanted.newest |= parameters["strict_required_status_checks_policy"] == true;
                }
                "pull_request" => {
                    let count = parameters["required_approving_review_count"]
                        .as_u64()
                        .and_then(|count| u32::try_from(count).ok());
                    wanted.approvals = wanted.approvals.max(count.unwrap_or(0));
                }
                _ => {}
            }
        }
        wanted.checks.sort();
        wanted.checks.dedup();
        Ok(wanted)
    }

    /// Returns the number of approvals that the base requires; `None` if only administrators may
    /// read it.
    async fn approvals_wanted(&self, base: &str) -> Result<Option<u32>, ForgeError> {
        let wanted = self.base_wants(base).await?;
        if !wanted.protected {
            return Ok(Some(wanted.approvals));
        }
        let classic = self
            .api
            .standing
            .once(
                &format!("approvals {base}"),
                Box::pin(self.classic_approvals(base)),
            )
            .await?;
        Ok(classic
            .map(|classic| classic.max(wanted.approvals))
            .or(Some(wanted.approvals).filter(|count| *count > 0)))
    }

    /// Returns the approvals required by classic protection. REST reports them to administrators
    /// only, GraphQL to every writer; `None` if it does not, as on a GitHub Enterprise without that
    /// field.
    async fn classic_approvals(&self, base: &str) -> Result<Option<u32>, ForgeError> {
        let (owner, name) = self.place.project.split_once('/').unwrap_or_default();
        let variables = json!({"owner": owner, "name": name, "ref": format!("refs/heads/{base}")});
        match self
            .graphql(ForgeOperation::Settings, APPROVALS_WANTED, variables)
            .await
        {
            Ok(data) => {
                let found = &data["repository"]["ref"];
                let count = found["refUpdateRule"]["requiredApprovingReviewCount"]
                    .as_u64()
                    .unwrap_or(0);
                Ok(found
                    .is_object()
                    .then(|| u32::try_from(count).unwrap_or(u32::MAX)))
            }
            Err(error)
                if matches!(
                    error.problem,
                    ForgeProblem::NotFound { .. }
                        | ForgeProblem::Forbidden { .. }
                        | ForgeProblem::Refused { .. }
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn read_approvals(
        &self,
        request: &PullRequest,
    ) -> Result<Approvals, ForgeError> {
        let number = request.number.to_string();
        let list = List::all(
            ForgeOperation::Approvals,
            self.repo(&["pulls", &number, "reviews"], &[("per_page", "100")]),
            "",
        );
        let reviews = self.api.pages(&list, |review: GithubReview| {
            let belongs = review.belongs();
            review
                .user
                .map(|user| (user.login, belongs, review.state, review.commit_id))
                .into()
        });
        let (reviews, wanted) = futures::try_join!(reviews, self.approvals_wanted(&request.base))?;
        // Reviews are ordered by time: the last one with a verdict counts; comments have none.
        let mut last = BTreeMap::new();
        for (login, belongs, state, commit) in reviews {
            let word = match state.as_str() {
                // An approval of an earlier head says nothing about the present one.
                "APPROVED" if commit.as_deref() == Some(&request.head_commit) => {
                    ReviewVerdict::Approved
                }
                "APPROVED" => ReviewVerdict::Earlier,
                "CHANGES_REQUESTED" => ReviewVerdict::Against,
                "DISMISSED" => {
                    last.remove(&login);
                    continue;
                }
                _ => continue,
            };
            last.insert(login, (word, belongs));
        }
        let (mut said, mut asked) = (BTreeMap::new(), 0);
        for (login, (word, belongs)) in last {
            let counts = match belongs {
                true => Some(true),
                false if asked == MOST_ASKED => None,
                false => {
                    asked += 1;
                    self.may_write(&login).await?
                }
            };
            // If the permission is unknown, an objection counts and an approval does not.
            if counts.unwrap_or(word == ReviewVerdict::Against) {
                said.insert(login, word);
            }
        }
        Ok(Approvals::of(&said, wanted))
    }

    /// Returns whether a user may write to the repository, cached for a pass; `None` if this token
    /// may not ask.
    async fn may_write(&self, login: &str) -> Result<Option<bool>, ForgeError> {
        #[derive(Deserialize)]
        struct Permission {
            permission: String,
        }
        let ask = async {
            let url = self.repo(&["collaborators", login, "permission"], &[]);
            match self
                .api
                .find::<Permission>(ForgeOperation::Approvals, url)
                .await
            {
                // `maintain` is reported as `write`, `triage` as `read`.
                Ok(found) => Ok(Some(found.is_some_and(|found| {
                    matches!(found.permission.as_str(), "admin" | "maintain" | "write")
                }))),
                Err(error) if matches!(error.problem, ForgeProblem::Forbidden { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        Ok(*self
            .api
            .standing
            .once(&format!("permission {login}"), ask)
            .await?)
    }

    pub(crate) async fn read_releases(
        &self,
        project: &str,
        from: &str,
        to: &str,
    ) -> Result<Vec<ForgeRelease>, ForgeError> {
        let op = ForgeOperation::Releases;
        let list = List {
            most: Some(releases::MOST_PAGES),
            ..List::all(
                op,
                self.project(project, &["releases"], &[("per_page", "100")]),
                "",
            )
        };
        let found = self
            .api
            .pages(&list, |shape: GithubRelease| {
                let GithubRelease {
                    tag_name,
                    name,
                    body,
                    html_url,
                    published_at,
                    draft,
                } = shape;
                (!draft)
                    .then(|| {
                        releases::release(tag_name, name, body.as_deref(), html_url, published_at)
                    })
                    .into()
            })
            .await?;
        if !found.is_empty() {
            return Ok(releases::between(found, from, to));
        }
        let list = List {
            most: Some(releases::MOST_PAGES),
            ..List::all(
                op,
                self.project(project, &["tags"], &[("per_page", "100")]),
                "",
            )
        };
        let mut page = self.place.clone();
        page.project = project.to_owned();
        let keep = |tag: GithubNamed| {
            let url = crate::io::forge::page(&page, &["tree", &tag.name]);
            Some(releases::release(tag.name, None, None, url, None)).into()
        };
        Ok(releases::between(
            self.api.pages(&list, keep).await?,
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

fn run_check(run: CheckRun) -> Check {
    let state = match (run.status.as_str(), run.conclusion.as_deref()) {
        ("completed", Some("success")) => CheckState::Passed,
        ("completed", Some("neutral" | "skipped")) => CheckState::Skipped,
        // failure, cancelled, timed_out, action_required, stale, startup_failure, and what may
        // come.
        ("completed", _) => CheckState::Failed,
        _ => CheckState::Pending,
    };
    Check {
        name: run.name,
        state,
        required: false,
        url: run.html_url,
        at: run.completed_at.or(run.started_at),
    }
}

fn status_check(status: GithubStatus) -> Check {
    let state = match status.state.as_str() {
        "success" => CheckState::Passed,
        "pending" => CheckState::Pending,
        _ => CheckState::Failed,
    };
    Check {
        name: status.context,
        state,
        required: false,
        url: status.target_url,
        at: status.updated_at,
    }
}
