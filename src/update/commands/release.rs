//! `tagboat release`: a held version is written once, by hand.

use crate::{
    core::name::Name,
    images::policy::Chosen,
    io::{facts::RepositoryScan, git::GitError},
    review::{CommitMessage, ImageMove, group},
    spec::ChangeGroup,
};
use crate::{
    images::scope::ScopeEdits,
    update::{
        EnvironmentScope, FailureReport, ImageUpdater, PolicyDecision, RepoSnapshot, Scans,
        commit::PublishOutcome,
    },
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// What became of a release.
#[derive(Debug)]
pub enum ReleaseOutcome {
    /// The version was written.
    Done {
        /// The commit.
        commit: String,
        /// The images that moved.
        images: Vec<ImageMove>,
    },
    /// No reference of the policy could be edited.
    Nothing,
    /// Somebody else pushed first.
    Conflict,
    /// A registry or the Git server said no.
    Unknown(FailureReport),
}

impl ImageUpdater {
    /// Writes the held version of a policy once in an Environment, which lifts the hold. A policy
    /// that follows a digest holds digests: then `chosen` has one.
    ///
    /// # Errors
    /// If the remote cannot be asked, or the push is refused.
    pub async fn release(
        &self,
        world: &RepoSnapshot,
        local: &EnvironmentScope<'_>,
        policy: &Name,
        mut chosen: Chosen,
        now: Timestamp,
    ) -> Result<ReleaseOutcome, GitError> {
        let Some(present) = local.policies.get(policy) else {
            return Ok(ReleaseOutcome::Nothing);
        };
        let version = chosen
            .digest
            .as_ref()
            .map_or(chosen.tag.as_str(), |digest| digest.as_str())
            .to_owned();
        let mut scans = Scans::new();
        let scan = RepositoryScan {
            repository: present.policy.image.clone(),
            tags: Arc::new([chosen.tag.as_str()].into_iter().collect()),
            hostile: 0,
            details: HashMap::new(),
            remembered: false,
        };
        scans.insert(present.policy.image.clone(), scan);
        let mut edits = ScopeEdits::default();
        for _ in 0..2 {
            let decided =
                BTreeMap::from([(policy.clone(), PolicyDecision::Chosen(chosen.clone()))]);
            edits = self.edit(world, local, &decided, &scans)?;
            if edits.needs_digest.is_empty() {
                break;
            }
            match self
                .scanner
                .registries
                .digest(&present.policy.image, &chosen.tag)
                .await
            {
                Ok(digest) => chosen.digest = Some(digest),
                Err(error) => return Ok(ReleaseOutcome::Unknown(FailureReport::new(&error))),
            }
        }
        let Some(set) = group(&local.environment.name, ChangeGroup::All, &edits.files)
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
        match self.publish(&set, &message, None, now).await? {
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
}
