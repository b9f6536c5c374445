//! GitHub: reading. Shapes follow the REST API, version 2022-11-28.

mod shapes;
mod approvals;

use super::Github;
use crate::io::forge::{
    Check, CheckState, Checks, ForgeError, ForgeOperation, ForgeProblem, ForgeRelease, PullRequest,
    RequestFilter, RequestList, RequestStatus,
    api::{Dated, Entry, List},
    releases,
};
use reqwest::Url;
use serde::Deserialize;
use shapes::{CheckRun, GithubNamed, GithubRelease, GithubStatus, RulesetRule};
pub(crate) use shapes::{GithubPull, GithubUser};
use std::sync::Arc;

/// Asks what a branch's classic protection wants of those who are not its administrators.
const APPROVALS_WANTED: &str = "query($owner: String!, $name: String!, $ref: String!) { repository(owner: $owner, name: $name) \
    { ref(qualifiedName: $ref) { refUpdateRule { requiredApprovingReviewCount } } } }";

/// The number of reviewers outside the repository whose permission is looked up. Of further ones,
/// in alphabetical order, only objections count.
const MOST_ASKED: usize = 30;

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
                self.api.pass_cache.clear().await;
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
            .pass_cache
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
        app: run.app.and_then(|app| app.slug),
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
        // The combined status does not tell who set it.
        app: None,
    }
}
