//! `release`: the commit that writes a held version and so lifts its hold.

use super::{
    Failure, Outcome, Progress, Service,
    types::{Gaps, ImageUpdate, Selected},
};
use crate::{
    core::{
        error::ErrorKind,
        image::{Digest, Tag},
        name::Name,
    },
    images::policy::{self, Chosen, Comparison, Hold, Holds},
    spec::{ImagePolicy, PolicyKind},
    update::{ImageUpdater, PassReport, ReleaseOutcome},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks to write the held version of a policy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReleaseQuery {
    /// The Environment.
    pub environment: String,
    /// The policy.
    pub policy: Name,
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
    /// The version written.
    pub selected: Option<Selected>,
    /// The commit.
    pub commit: Option<String>,
    /// The image versions that changed.
    pub images: Vec<ImageUpdate>,
    /// The reasons why a hold may not have been seen.
    #[serde(flatten)]
    pub gaps: Gaps,
}

impl ReleaseAnswer {
    /// Classifies the answer. Failures matter only if no hold was found: one may be unknown.
    pub fn outcome(&self) -> Outcome {
        Outcome::partly_if(self.commit.is_none() && !self.gaps.failures.is_empty())
    }
}

/// The most attempts of a release, each on the new head after another push came first.
const ATTEMPTS: usize = 5;

/// Writes the greatest held version, which also lifts every hold below it.
///
/// # Errors
/// If the Environment or the policy does not exist, no reference can be edited, or a remote fails.
pub async fn release(
    service: &Service,
    query: &ReleaseQuery,
    progress: &dyn Progress,
) -> Result<ReleaseAnswer, Failure> {
    let _locks = service.lock_repositories().await;
    let mut result = Ok(None);
    for _ in 0..ATTEMPTS {
        result = attempt(service, query, progress).await;
        if !matches!(result, Ok(None)) {
            break;
        }
    }
    service.fetch_after_write().await;
    result?.ok_or_else(|| {
        Failure::new(
            ErrorKind::Conflict,
            format!("cannot push the release: the branch moved {ATTEMPTS} times in a row"),
        )
    })
}

/// Tries once; none if the branch moved meanwhile.
async fn attempt(
    service: &Service,
    query: &ReleaseQuery,
    progress: &dyn Progress,
) -> Result<Option<ReleaseAnswer>, Failure> {
    let mut conflict = false;
    for updater in &service.updaters {
        progress.update(&format!("releasing in {}", updater.repo.config.name));
        match in_repository(updater, query).await? {
            RepositoryRelease::NoSuchEnvironment => {}
            RepositoryRelease::Conflict => conflict = true,
            RepositoryRelease::Finished(answer) => return Ok(Some(*answer)),
        }
    }
    if conflict {
        return Ok(None);
    }
    Err(Failure::input(format!(
        "no Environment {}",
        query.environment
    )))
}

enum RepositoryRelease {
    NoSuchEnvironment,
    Conflict,
    Finished(Box<ReleaseAnswer>),
}

async fn in_repository(
    updater: &ImageUpdater,
    query: &ReleaseQuery,
) -> Result<RepositoryRelease, Failure> {
    let ReleaseQuery {
        environment,
        policy,
    } = query;
    let now = Timestamp::now();
    let mut report = PassReport::default();
    let snapshot = updater.refresh_for_holds(&mut report).await?;
    let mut gaps = Gaps::default();
    gaps.add(&updater.repo.config.name, &report, &snapshot.declared);
    let (scopes, _) = snapshot.lint().await;
    let Some(scope) = scopes
        .into_iter()
        .find(|scope| scope.environment.name == *environment)
    else {
        return Ok(RepositoryRelease::NoSuchEnvironment);
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
        images: Vec::new(),
        gaps,
    };
    let declared = &snapshot.declared.policies[policy];
    let mut holds = updater.holds(&snapshot, &scope, now).await?;
    let Some(hold) = greatest(declared, &holds.remove(policy).unwrap_or_default()) else {
        return Ok(RepositoryRelease::Finished(Box::new(answer)));
    };
    let chosen = chosen(declared, &hold)?;
    answer.selected = Some(Selected::from(&chosen));
    answer.version = Some(hold.value);
    match updater
        .release(&snapshot, &scope, policy, chosen, now)
        .await?
    {
        ReleaseOutcome::Done { commit, images } => {
            answer.commit = Some(commit);
            answer.images = images.iter().map(ImageUpdate::from).collect();
            Ok(RepositoryRelease::Finished(Box::new(answer)))
        }
        ReleaseOutcome::Nothing => Err(Failure::input(format!(
            "cannot edit any reference of {policy} in {environment}"
        ))
        .hint("Run `tagboat plan` for the reasons.")),
        ReleaseOutcome::Unknown(failure) => Err(Failure {
            error: failure.message,
            kind: ErrorKind::Remote,
            hint: failure.hint,
        }),
        ReleaseOutcome::Conflict => Ok(RepositoryRelease::Conflict),
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

/// Returns what to write for a hold: a held digest goes beside the tag that it was written with.
fn chosen(policy: &ImagePolicy, hold: &Hold) -> Result<Chosen, Failure> {
    let tag = match &policy.choice {
        PolicyKind::Digest(followed) => Some(followed.clone()),
        _ => hold.tag.clone().map(Tag::new).transpose()?,
    };
    match (Digest::new(hold.value.as_str()), tag) {
        (Ok(digest), Some(tag)) => Ok(Chosen {
            tag,
            digest: Some(digest),
        }),
        _ => Ok(Chosen {
            tag: Tag::new(hold.value.as_str())?,
            digest: None,
        }),
    }
}
