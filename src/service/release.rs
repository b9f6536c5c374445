//! `release`: the commit or pull request that brings a held version back and so lifts its hold.

use super::{
    Failure, Outcome, Progress, Service,
    types::{Gaps, ImageUpdate, Selected},
};
use crate::{
    core::name::Name,
    images::policy::{self, Comparison, Hold, Holds},
    review::{ImageMove, ReleasedVersion},
    spec::ImagePolicy,
    update::{CommandCommit, ImageUpdater, PassReport, ReleaseOrder, RequestState},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks for the held version of a policy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReleaseQuery {
    /// The Environment.
    pub environment: String,
    /// The policy.
    pub policy: Name,
    /// Commits outside the Environment's windows, too.
    pub ignore_windows: bool,
    /// The person's part of the commit.
    pub commit: CommandCommit,
}

/// The released version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseAnswer {
    /// The config repository.
    pub repository: String,
    /// The Environment.
    pub environment: String,
    /// The policy.
    pub policy: Name,
    /// The version that was held: a tag, or a digest for policies that follow one. None if nothing
    /// was held.
    pub version: Option<String>,
    /// The tag and digest that are written.
    pub selected: Option<Selected>,
    /// The commit, where the Environment commits directly.
    pub commit: Option<String>,
    /// The pull request, where the Environment goes by pull requests.
    pub pull_request: Option<ReleasedRequest>,
    /// The image versions that changed.
    pub images: Vec<ImageUpdate>,
    /// The reasons why a hold may not have been seen.
    #[serde(flatten)]
    pub gaps: Gaps,
}

/// The pull request that proposes a released version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleasedRequest {
    /// The number; none while it is not open.
    pub number: Option<u64>,
    /// The URL of its page.
    pub url: Option<String>,
    /// The state.
    pub state: RequestState,
    /// The reasons why it is not open or merged yet.
    pub waits: Vec<String>,
}

impl ReleaseAnswer {
    /// Classifies the answer. Failures matter only if no hold was found: one may be unknown.
    pub fn outcome(&self) -> Outcome {
        Outcome::partly_if(self.version.is_none() && !self.gaps.failures.is_empty())
    }
}

/// Brings the greatest held version back, which also lifts every hold below it: by a commit inside
/// the Environment's window, or by a pull request, as the Environment says.
///
/// # Errors
/// If the Environment or the policy does not exist, its window is closed, the policy does not
/// choose the version, no reference can be edited, or a remote fails.
pub async fn release(
    service: &Service,
    query: &ReleaseQuery,
    progress: &dyn Progress,
) -> Result<ReleaseAnswer, Failure> {
    let _locks = service.lock_repositories().await;
    let result = in_any_repository(service, query, progress).await;
    service.fetch_after_write().await;
    result
}

async fn in_any_repository(
    service: &Service,
    query: &ReleaseQuery,
    progress: &dyn Progress,
) -> Result<ReleaseAnswer, Failure> {
    for updater in &service.updaters {
        progress.update(&format!("releasing in {}", updater.repo.config.name));
        if let Some(answer) = in_repository(updater, query).await? {
            return Ok(answer);
        }
    }
    Err(Failure::input(format!(
        "no Environment {}",
        query.environment
    )))
}

/// Releases in one repository; none if it does not have the Environment.
async fn in_repository(
    updater: &ImageUpdater,
    query: &ReleaseQuery,
) -> Result<Option<ReleaseAnswer>, Failure> {
    let ReleaseQuery {
        environment,
        policy,
        ..
    } = query;
    let now = Timestamp::now();
    let mut report = PassReport::default();
    let snapshot = updater.refresh_for_holds(now, &mut report).await?;
    let mut gaps = Gaps::default();
    gaps.add(&updater.repo.config.name, &report, &snapshot.declared);
    let (scopes, _) = snapshot.lint().await;
    let Some(scope) = scopes
        .into_iter()
        .find(|scope| scope.environment.name == *environment)
    else {
        return Ok(None);
    };
    if !scope.policies.contains_key(policy) {
        return Err(Failure::input(format!(
            "{policy} has no reference in Environment {environment}"
        )));
    }
    let mut answer = ReleaseAnswer {
        repository: updater.repo.config.name.clone(),
        environment: environment.clone(),
        policy: policy.clone(),
        version: None,
        selected: None,
        commit: None,
        pull_request: None,
        images: Vec::new(),
        gaps,
    };
    let declared = &snapshot.declared.policies[policy];
    let mut holds = updater.holds(&snapshot, &scope, now).await?;
    let Some(hold) = greatest(declared, &holds.remove(policy).unwrap_or_default()) else {
        return Ok(Some(answer));
    };
    let order = ReleaseOrder {
        environment: environment.clone(),
        version: ReleasedVersion {
            policy: policy.clone(),
            version: hold.value.clone(),
        },
        ignore_windows: query.ignore_windows,
        commit: query.commit.clone(),
    };
    answer.version = Some(hold.value);
    let report = updater.release(&order, now).await;
    answer.read(&report, &order.version)?;
    Ok(Some(answer))
}

impl ReleaseAnswer {
    /// Fills in what the pass of a release did.
    fn read(&mut self, report: &PassReport, released: &ReleasedVersion) -> Result<(), Failure> {
        if let Some(failure) = report.failures.first() {
            return Err(Failure {
                error: failure.message.clone(),
                kind: failure.kind,
                hint: failure.hint.clone(),
            });
        }
        let row = report
            .environments
            .iter()
            .find(|row| row.name == self.environment);
        let brings = |images: &[ImageMove]| images.iter().any(|image| released.is_in(image));
        let mut rows = row.iter().flat_map(|row| &row.commits);
        let commit = rows.find(|commit| brings(&commit.images));
        let mut rows = row.iter().flat_map(|row| &row.requests);
        let request = rows.find(|request| brings(&request.images));
        let images = match (commit, request) {
            (Some(commit), _) if commit.id.is_some() => {
                self.commit.clone_from(&commit.id);
                &commit.images
            }
            (Some(_), _) => return Err(self.window_is_closed(row.and_then(|row| row.until))),
            (None, Some(request)) => {
                self.pull_request = Some(ReleasedRequest {
                    number: request.number,
                    url: request.url.clone(),
                    state: request.state,
                    waits: request.waits.clone(),
                });
                &request.images
            }
            (None, None) => {
                return Err(Failure::input(format!(
                    "cannot edit any reference of {} in {}",
                    self.policy, self.environment
                ))
                .hint("Run `tagboat plan` for the reasons."));
            }
        };
        let image = images.iter().find(|image| released.is_in(image));
        self.selected = image.map(|image| Selected {
            tag: image.new.clone(),
            digest: image.digest.clone(),
        });
        self.images = images.iter().map(ImageUpdate::from).collect();
        Ok(())
    }

    fn window_is_closed(&self, until: Option<Timestamp>) -> Failure {
        let next = until.map_or(String::new(), |next| {
            format!(" until {}", next.strftime("%Y-%m-%d %H:%M UTC"))
        });
        Failure::input(format!(
            "the window of Environment {} is closed{next}: {} stays held",
            self.environment, self.policy
        ))
        .hint("Release it when the window is open, or pass --now.")
    }
}

fn greatest(policy: &ImagePolicy, holds: &Holds) -> Option<Hold> {
    holds.iter().cloned().reduce(|greatest, hold| {
        match policy::standing(policy, &greatest.value, &hold.value) {
            Comparison::Newer => hold,
            _ => greatest,
        }
    })
}
