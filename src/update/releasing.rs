//! `tagboat release`: a held version is written once, by hand.

use super::{
    Decided, FailureReport, Local, Scans, Updater, World, decide::Edits, publishing::Published,
};
use crate::{
    declare::Group,
    git::GitError,
    name::Name,
    policy::Chosen,
    publish::{ImageMove, Message, group},
    scan::Scan,
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// What became of a release.
#[derive(Debug)]
pub enum Released {
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

impl Updater {
    /// Writes the held version of a policy once in an Environment, which lifts the hold. A policy
    /// that follows a digest holds digests: then `chosen` has one.
    ///
    /// # Errors
    /// If the remote cannot be asked, or the push is refused.
    pub async fn release(
        &self,
        world: &World,
        local: &Local<'_>,
        policy: &Name,
        mut chosen: Chosen,
        now: Timestamp,
    ) -> Result<Released, GitError> {
        let Some(present) = local.policies.get(policy) else {
            return Ok(Released::Nothing);
        };
        let version = chosen
            .digest
            .as_ref()
            .map_or(chosen.tag.as_str(), |digest| digest.as_str())
            .to_owned();
        let mut scans = Scans::new();
        let scan = Scan {
            repository: present.policy.image.clone(),
            tags: Arc::new([chosen.tag.as_str()].into_iter().collect()),
            hostile: 0,
            details: HashMap::new(),
            remembered: false,
        };
        scans.insert(present.policy.image.clone(), scan);
        let mut edits = Edits::default();
        for _ in 0..2 {
            let decided = BTreeMap::from([(policy.clone(), Decided::Chosen(chosen.clone()))]);
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
                Err(error) => return Ok(Released::Unknown(FailureReport::new(&error))),
            }
        }
        let Some(set) = group(&local.environment.name, Group::All, &edits.files)
            .into_iter()
            .next()
        else {
            return Ok(Released::Nothing);
        };
        let message = Message::default().of(&set).unwrap_or_default();
        let message = message.replacen(
            '\n',
            &format!("\n\nReleased by hand: the hold of {version} is lifted.\n"),
            1,
        );
        match self.publish(&set, &message, None, now).await? {
            Published::Done(commit) => Ok(Released::Done {
                commit: commit.to_string(),
                images: set.moves,
            }),
            Published::Conflict | Published::Unsure(_) => Ok(Released::Conflict),
            Published::Refused(refusal) => Ok(Released::Unknown(FailureReport::new(&refusal))),
        }
    }
}
