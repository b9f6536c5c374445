//! Vocabulary of all forges: pull requests, checks, approvals, merges, statuses, releases.

use crate::spec::MergeMethod;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// A pull request, on GitLab a merge request.
///
/// Its head lies in the repository itself. Those from forks belong to other people, whatever their
/// branch is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    pub number: u64,
    pub url: String,
    pub state: RequestStatus,
    /// Branch to merge.
    pub head: String,
    /// The forge's commit of the head.
    pub head_commit: String,
    /// Branch to merge into.
    pub base: String,
    /// Title without the draft prefix of GitLab and Gitea.
    pub title: String,
    pub body: String,
    pub labels: Vec<String>,
    /// Login of the user who opened it.
    pub author: String,
    pub draft: bool,
    pub opened: Option<Timestamp>,
    /// Time of its last report, by the forge's clock.
    pub updated: Option<Timestamp>,
    /// End of a merged or closed pull request. A single read tells more than lists.
    pub ended: Option<RequestEnd>,
    /// As far as the forge tells; lists often do not.
    pub mergeable: Mergeable,
    /// Node id of GitHub; empty elsewhere.
    pub id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestStatus {
    Open,
    Merged,
    /// Closed without a merge.
    Closed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestEnd {
    pub at: Option<Timestamp>,
    /// None if the forge does not tell.
    pub by: Option<String>,
    /// The commit that the merge made on the base.
    pub commit: Option<String>,
}

/// Mergeability of a pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mergeable {
    Yes,
    /// The forge has not computed it yet: read it again later.
    Unknown,
    Conflicts,
    /// The base moved, and the repository requires the branch to contain it.
    Behind,
    /// Another condition is missing, in the forge's words.
    Blocked(String),
}

/// Selects the pull requests of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestFilter {
    Open,
    /// Merged or closed ones that changed since then.
    EndedSince(Timestamp),
}

/// A list of pull requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestList {
    /// The selected ones, latest first.
    pub requests: Vec<PullRequest>,
    /// Latest change of any pull request that the forge showed, selected or not.
    pub latest: Option<Timestamp>,
    /// Oldest change that was read, if there are more than can be read.
    pub back_to: Option<Timestamp>,
}

/// A pull request to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRequest {
    /// Branch to merge, which exists.
    pub head: String,
    /// Branch to merge into.
    pub base: String,
    /// Cut after [`TextLimits::title`].
    pub title: String,
    /// The forge rejects more than [`TextLimits::body`].
    pub body: String,
    pub draft: bool,
}

/// Changes to a pull request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestPatch {
    pub title: Option<String>,
    pub body: Option<String>,
}

/// Result of opening a pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedRequest {
    pub request: PullRequest,
    /// True if it existed before, or was found after a lost answer.
    pub found: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLabel {
    pub name: String,
    /// Six hexadecimal digits, for a label that must be created.
    pub color: String,
    /// For a label that must be created.
    pub description: String,
}

/// A reviewer to request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestedReviewer {
    /// Login of a user.
    User(String),
    /// Team of an organisation; on GitLab the members of a group.
    Team {
        /// Organisation or group; by default the repository's own.
        owner: Option<String>,
        name: String,
    },
}

impl RequestedReviewer {
    /// Parses `login`, `team/NAME` (of the repository's organisation) or `ORG/TEAM`.
    pub fn parse(text: &str) -> Self {
        match text.trim_start_matches('@').rsplit_once('/') {
            None => RequestedReviewer::User(text.trim_start_matches('@').to_owned()),
            Some(("team", name)) => RequestedReviewer::Team {
                owner: None,
                name: name.to_owned(),
            },
            Some((owner, name)) => RequestedReviewer::Team {
                owner: Some(owner.to_owned()),
                name: name.to_owned(),
            },
        }
    }
}

impl std::fmt::Display for RequestedReviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RequestedReviewer::User(login) => f.write_str(login),
            RequestedReviewer::Team { owner, name } => {
                write!(f, "{}/{name}", owner.as_deref().unwrap_or("team"))
            }
        }
    }
}

/// A review that could not be requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnrequestedReview {
    pub reviewer: RequestedReviewer,
    /// The forge's words.
    pub why: String,
}

/// Outcome of a comment that is kept up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommentOutcome {
    /// Written for the first time.
    Made,
    Changed,
    /// Unchanged; nothing was sent.
    Same,
}

/// State of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CheckState {
    /// Skipped: it has no result.
    Skipped,
    Passed,
    /// Running, queued, or required and not reported yet.
    Pending,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: String,
    pub state: CheckState,
    /// True if the base requires it, as far as the forge tells.
    pub required: bool,
    pub url: Option<String>,
    /// Time of its last report, by the forge's clock.
    pub at: Option<Timestamp>,
    /// The App or account that reported it; none if the forge does not tell.
    pub app: Option<String>,
}

/// State of all checks of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChecksState {
    /// No check has a result.
    None,
    /// Some are pending, and none failed.
    Pending,
    Passed,
    /// At least one failed, required or not.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks {
    pub state: ChecksState,
    /// Sorted by name.
    pub named: Vec<Check>,
}

impl Checks {
    /// Combines checks: a failed one fails all, a pending one keeps all pending, skipped ones do
    /// not count.
    pub fn of(mut named: Vec<Check>) -> Self {
        named.sort_by(|one, other| one.name.cmp(&other.name));
        let worst = named.iter().map(|check| check.state).max();
        let state = match worst {
            None | Some(CheckState::Skipped) => ChecksState::None,
            Some(CheckState::Passed) => ChecksState::Passed,
            Some(CheckState::Pending) => ChecksState::Pending,
            Some(CheckState::Failed) => ChecksState::Failed,
        };
        Self { state, named }
    }

    /// Removes some checks, as those that the bot set itself.
    #[must_use]
    pub fn without(self, unwanted: impl Fn(&Check) -> bool) -> Self {
        Self::of(
            self.named
                .into_iter()
                .filter(|check| !unwanted(check))
                .collect(),
        )
    }

    /// Marks required checks, and adds missing ones as pending. `fits` tells whether a required
    /// word means a check.
    pub(crate) fn require(
        named: &mut Vec<Check>,
        required: &[String],
        fits: impl Fn(&str, &str) -> bool,
    ) {
        for word in required {
            let mut reported = false;
            for check in named.iter_mut().filter(|check| fits(word, &check.name)) {
                (check.required, reported) = (true, true);
            }
            if !reported {
                named.push(Check {
                    name: word.clone(),
                    state: CheckState::Pending,
                    required: true,
                    url: None,
                    at: None,
                    app: None,
                });
            }
        }
    }
}

/// Reviews of a pull request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Approvals {
    /// Approvers of the present head. If none are required and GitLab would need another call, it
    /// may be an earlier head.
    pub by: Vec<String>,
    /// Approvers of an earlier head only. They do not count for the present one, whatever the
    /// repository's settings.
    pub earlier: Vec<String>,
    /// Number of required approvals, if the forge tells.
    pub required: Option<u32>,
    /// Reviewers who requested changes.
    pub changes_requested: Vec<String>,
}

/// Last verdict of a reviewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReviewVerdict {
    Approved,
    /// Approved an earlier head.
    Earlier,
    /// Requested changes.
    Against,
}

impl Approvals {
    /// Collects the last verdicts by login.
    pub(crate) fn of(verdicts: &BTreeMap<String, ReviewVerdict>, required: Option<u32>) -> Self {
        let logins = |wanted: ReviewVerdict| {
            verdicts
                .iter()
                .filter(|(_, verdict)| **verdict == wanted)
                .map(|(login, _)| login.clone())
                .collect()
        };
        Self {
            by: logins(ReviewVerdict::Approved),
            earlier: logins(ReviewVerdict::Earlier),
            required,
            changes_requested: logins(ReviewVerdict::Against),
        }
    }

    /// Tells whether approvals of an earlier head may or may not be enough: the required number is
    /// unknown, and no person approved the present head.
    pub fn only_earlier(&self) -> bool {
        self.required.is_none() && self.by.is_empty() && !self.earlier.is_empty()
    }

    /// Tells whether there are enough approvals and no requested changes.
    ///
    /// If the required number is unknown, none are required; but if there were some before, one of
    /// the present head is.
    pub fn suffice(&self) -> bool {
        self.changes_requested.is_empty()
            && self.by.len() >= self.required.unwrap_or(0) as usize
            && !self.only_earlier()
    }
}

/// A merge to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeCommand {
    /// The verified head. The forge merges no other.
    pub head: String,
    /// By default the repository's own method.
    pub method: Option<MergeMethod>,
    /// Subject of the merge commit; the forge's own if empty.
    pub title: String,
    /// Body of the merge commit.
    pub message: String,
    /// Asks the forge to delete the branch with the merge. GitHub has no such option; deleting it
    /// after a merge works everywhere.
    pub delete_branch: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatusState {
    Pending,
    Success,
    Failure,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitStatus {
    /// As `tagboat/dev`. A status replaces the one with the same name.
    pub context: String,
    pub state: StatusState,
    /// One line; cut to the forge's limit.
    pub description: String,
    pub url: Option<String>,
}

/// A release, or a tag without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgeRelease {
    pub tag: String,
    /// Title; empty for a tag alone.
    pub name: String,
    /// Hostile text of at most [`NOTES`] characters.
    pub notes: String,
    pub url: String,
    pub at: Option<Timestamp>,
}

/// Characters kept of one release's notes.
pub const NOTES: usize = 16 * 1024;

/// Limits of a forge, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextLimits {
    pub title: usize,
    pub body: usize,
    pub comment: usize,
    pub status: usize,
}

/// Returns the open pull request of one branch, else the latest.
pub(crate) fn latest(found: Vec<PullRequest>) -> Option<PullRequest> {
    let open = found
        .iter()
        .position(|request| request.state == RequestStatus::Open);
    found.into_iter().nth(open.unwrap_or(0))
}

/// Tells whether a name on a forge means the account with the login `own`.
///
/// Forges ignore the case, and GraphQL of GitHub may call a bot without its ending.
pub(crate) fn is_login(own: &str, name: &str) -> bool {
    let without = name.strip_suffix("[bot]").unwrap_or(name);
    own.eq_ignore_ascii_case(name) || own.eq_ignore_ascii_case(without)
}

/// Compares comments. Forges may change line ends and trim the end.
pub(crate) fn same_text(one: &str, other: &str) -> bool {
    one.replace("\r\n", "\n").trim_end() == other.replace("\r\n", "\n").trim_end()
}

/// Cuts a text after `most` characters.
pub(crate) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text
            .chars()
            .take(most.saturating_sub(1))
            .chain(['…'])
            .collect(),
    }
}

#[cfg(test)]
mod tests;
