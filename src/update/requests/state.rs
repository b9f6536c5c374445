//! Desired and actual state of branches and pull requests: the types that all steps share.

use crate::{
    io::git::{ObjectId, Person},
    review::{
        ChangeSet, Marker,
        lifecycle::{BranchCommits, DesiredBranch},
    },
    spec::{Environment, WriteMode},
    update::{EnvironmentReport, FailureReport},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The desired state of one branch and its pull request.
pub(crate) struct DesiredRequest<'a> {
    pub(crate) branch: String,
    /// Name of the Environment.
    pub(crate) name: String,
    /// The Environment, as long as it is declared.
    pub(crate) environment: Option<&'a Environment>,
    pub(crate) row: Option<&'a EnvironmentReport>,
    pub(crate) set: Option<&'a Arc<ChangeSet>>,
    /// Author of the commits; the bot if there is none.
    pub(crate) author: Option<&'a Person>,
    /// Desired instead of the change set: nothing, or no change for now.
    pub(crate) instead: Option<DesiredBranch>,
    /// Marker of the open pull request.
    pub(crate) marker: Option<Marker>,
}

impl<'a> DesiredRequest<'a> {
    /// Options of the Environment's pull requests, and its rules for automatic merges.
    pub(crate) fn options(
        &self,
    ) -> Option<(
        &'a crate::spec::RequestOptions,
        Option<&'a crate::spec::AutoMerge>,
    )> {
        match &self.environment?.via {
            WriteMode::PullRequest {
                request,
                auto_merge,
            } => Some((request, auto_merge.as_ref())),
            WriteMode::Commit => None,
        }
    }
}

/// The bot's branches at a fetch.
pub(crate) struct BranchSurvey {
    pub(crate) heads: BTreeMap<String, ObjectId>,
    /// Of branches that may be foreign: the files that they change.
    pub(crate) files: BTreeMap<String, Option<Vec<String>>>,
    /// Branches that must wait, each with the reason.
    pub(crate) blocked: BTreeMap<String, String>,
    /// Branches of which a pull request for the target has ended.
    pub(crate) ended: BTreeSet<String>,
}

/// A branch against what is desired of it.
#[derive(Debug, Clone)]
pub(crate) struct BranchState {
    pub(crate) head: ObjectId,
    pub(crate) commits: BranchCommits,
    /// The commit of the target that it is made on, if it has one commit.
    pub(crate) parent: Option<ObjectId>,
    /// True if its one commit makes exactly the desired change.
    pub(crate) matches: bool,
    /// True if it is made on the target's head.
    pub(crate) on_head: bool,
    /// Hash of everything that the pull request's text is made from.
    pub(crate) content: String,
}

/// Commits of a branch beyond its target, with the parent if there is one commit of the bot.
pub(crate) type OwnedCommits = (BranchCommits, Option<ObjectId>);

/// Outcome of a step.
pub(crate) enum StepOutcome {
    /// Done; the next step can be decided at once.
    Again,
    /// Done; the snapshot must be read again.
    Moved,
    Merged,
    /// The branch or pull request has changed meanwhile.
    Conflict,
    /// There was nothing to do.
    Quiet,
    UpToDate {
        /// Reasons why it is not merged yet.
        waits: Vec<String>,
        /// When the wait ends by itself.
        until: Option<jiff::Timestamp>,
        /// True if a pass that writes would merge it.
        would_merge: bool,
    },
    Failed(Box<FailureReport>),
}
