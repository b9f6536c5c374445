//! `tagboat release`: writes a held version once, which lifts its hold.

use crate::{
    core::name::Name,
    images::policy::Chosen,
    io::{facts::RepositoryScan, git::GitError},
    review::{CommitMessage, ImageMove, group},
    spec::ChangeGroup,
    update::{
        EnvironmentScope, FailureReport, ImageUpdater, PolicyDecision, RepoSnapshot, Scans,
        commit::{CommitText, PublishOutcome, PushTarget, edit_files},
        evaluate::{Decisions, ScopeEdits},
        plan,
    },
};
use jiff::Timestamp;
use std::{collections::HashMap, sync::Arc};

/// Outcome of a release.
#[derive(Debug)]
pub enum ReleaseOutcome {
    /// The version was written.
    Done {
        commit: String,
        images: Vec<ImageMove>,
    },
    /// No reference of the policy could be edited.
    Nothing,
    /// The branch moved first.
    Conflict,
    /// A registry or the Git server refused.
    Unknown(FailureReport),
}

/// Writes the held version of a policy once in an Environment.
///
/// A policy that follows a digest holds digests: then `chosen` has one.
///
/// # Errors
/// If the remote cannot be reached, or the push fails.
pub(crate) async fn release(
    updater: &ImageUpdater,
    snapshot: &RepoSnapshot,
    scope: &Arc<EnvironmentScope>,
    policy: &Name,
    mut chosen: Chosen,
    now: Timestamp,
) -> Result<ReleaseOutcome, GitError> {
    let Some(usage) = scope.policies.get(policy) else {
        return Ok(ReleaseOutcome::Nothing);
    };
    let version = chosen
        .digest
        .as_ref()
        .map_or(chosen.tag.as_str(), |digest| digest.as_str())
        .to_owned();
    let image = &usage.policy.image;
    let mut edits = ScopeEdits::default();
    for _ in 0..2 {
        edits = edit(updater, snapshot, scope, policy, &chosen).await?;
        if edits.needs_digest.is_empty() {
            break;
        }
        let registries = &updater.scanner.registries;
        match registries.digest(image, &chosen.tag).await {
            Ok(digest) => chosen.digest = Some(digest),
            Err(error) => return Ok(ReleaseOutcome::Unknown(FailureReport::new(&error))),
        }
    }
    let environment = &scope.environment.name;
    let Some(set) = group(environment, ChangeGroup::All, &edits.files)
        .into_iter()
        .next()
    else {
        return Ok(ReleaseOutcome::Nothing);
    };
    let message = CommitMessage::default().of(&set).unwrap_or_default();
    let message = message.replacen(
        '\n',
        &format!("\n\nReleased by hand: the hold of {version} is lifted.\n"),
        1,
    );
    let text = CommitText {
        message: &message,
        author: None,
        now,
    };
    let make = edit_files(set.files)?;
    match updater
        .publisher
        .push(PushTarget::Followed, text, make)
        .await?
    {
        PublishOutcome::Done(commit) => Ok(ReleaseOutcome::Done {
            commit: commit.to_string(),
            images: set.moves,
        }),
        PublishOutcome::Conflict | PublishOutcome::Unsure(_) => Ok(ReleaseOutcome::Conflict),
        PublishOutcome::Refused(refusal) => {
            Ok(ReleaseOutcome::Unknown(FailureReport::new(&refusal)))
        }
    }
}

/// Edits the files as if the policy had chosen this version.
async fn edit(
    updater: &ImageUpdater,
    snapshot: &RepoSnapshot,
    scope: &Arc<EnvironmentScope>,
    policy: &Name,
    chosen: &Chosen,
) -> Result<ScopeEdits, GitError> {
    let Some(usage) = scope.policies.get(policy) else {
        return Ok(ScopeEdits::default());
    };
    let image = usage.policy.image.clone();
    let scan = RepositoryScan {
        repository: image.clone(),
        tags: Arc::new([chosen.tag.as_str()].into_iter().collect()),
        hostile: 0,
        details: HashMap::new(),
        remembered: false,
    };
    let scans = Scans::from([(image, scan)]);
    let decision = PolicyDecision::Chosen(chosen.clone());
    let decisions = Decisions::from([(policy.clone(), decision)]);
    let (snapshot, scope) = (snapshot.clone(), Arc::clone(scope));
    updater
        .repo
        .read(move |mirror| plan::edit_files(mirror, &snapshot, &scope, &decisions, &scans))
        .await
}
