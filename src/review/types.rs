//! The words of a forge: a request, its checks, approvals and comments, the same for every forge.

use crate::spec::MergeMethod;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// A request for review: a pull request, on GitLab a merge request. Always one whose head lies in
/// the repository itself: those from forks are other people's, whatever their branch is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// Its number in the repository.
    pub number: u64,
    /// Where people read it.
    pub url: String,
    /// What became of it.
    pub state: RequestStatus,
    /// The branch that shall be merged.
    pub head: String,
    /// The commit that the forge knows as its head.
    pub head_commit: String,
    /// The branch it shall be merged into.
    pub base: String,
    /// The title, without the word for a draft that GitLab and Gitea write before it.
    pub title: String,
    /// The text, as it is; empty if there is none.
    pub body: String,
    /// The labels by name.
    pub labels: Vec<String>,
    /// Who opened it, by the forge's login.
    pub author: String,
    /// Whether it is marked as not ready.
    pub draft: bool,
    /// When it was opened.
    pub opened: Option<Timestamp>,
    /// When it last changed in any way.
    pub updated: Option<Timestamp>,
    /// When and by whom it was merged or closed. Reading a single pull request tells more than lists.
    pub ended: Option<RequestEnd>,
    /// Whether it could be merged now, as far as the forge said; lists often say nothing.
    pub mergeable: Mergeable,
    /// What the forge calls it beside its number (GitHub's node id); empty elsewhere.
    pub id: String,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestStatus {
    /// It waits.
    Open,
    /// It was merged.
    Merged,
    /// It was closed without a merge.
    Closed,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestEnd {
    /// When.
    pub at: Option<Timestamp>,
    /// By whom, where the forge said it.
    pub by: Option<String>,
    /// The commit that the merge made on the base.
    pub commit: Option<String>,
}

/// Whether a request can be merged now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mergeable {
    /// Nothing speaks against it.
    Yes,
    /// The forge has not said, or is computing it: ask again later.
    Unknown,
    /// The branches conflict.
    Conflicts,
    /// The base moved, and the repository wants the branch to contain it.
    Behind,
    /// Something else is missing, in the forge's words.
    Blocked(String),
}

/// Which requests are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestFilter {
    /// All that are open.
    Open,
    /// Those merged or closed that changed since then.
    EndedSince(Timestamp),
}

/// What a list showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestList {
    /// The requests that were asked for, latest first.
    pub requests: Vec<PullRequest>,
    /// The latest change of any request that the forge has shown on the way, asked for or not.
    pub latest: Option<Timestamp>,
    /// How far back those that ended were read, where they are more than can be read.
    pub back_to: Option<Timestamp>,
}

/// A request to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRequest {
    /// The branch that shall be merged; it must be there.
    pub head: String,
    /// The branch to merge into.
    pub base: String,
    /// The title; longer ones than [`TextLimits::title`] are cut.
    pub title: String,
    /// The text; longer ones than [`TextLimits::body`] are refused by the forge.
    pub body: String,
    /// Whether it is marked as not ready.
    pub draft: bool,
}

/// What to change of a request; nothing for what is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestPatch {
    /// Another title.
    pub title: Option<String>,
    /// Another text.
    pub body: Option<String>,
}

/// A request that was asked to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedRequest {
    /// It.
    pub request: PullRequest,
    /// Whether it had been there before, or its opening was found after the answer was lost.
    pub found: bool,
}

/// A label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLabel {
    /// Its name.
    pub name: String,
    /// Its colour as six hexadecimal digits, for the case that it has to be made.
    pub color: String,
    /// What it means, for the same case.
    pub description: String,
}

/// Somebody who is asked to review.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestedReviewer {
    /// A user by login.
    User(String),
    /// A team of an organisation; on GitLab the members of a group.
    Team {
        /// The organisation or group; the repository's own if none is written.
        owner: Option<String>,
        /// The team.
        name: String,
    },
}

impl RequestedReviewer {
    /// Reads `login`, `team/NAME` (of the repository's organisation) or `ORG/TEAM`.
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

/// Somebody who could not be asked, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnrequestedReview {
    /// Who.
    pub reviewer: RequestedReviewer,
    /// Why not, in the forge's words.
    pub why: String,
}

/// What became of a comment that is kept up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommentOutcome {
    /// It was written for the first time.
    Made,
    /// It says something else now.
    Changed,
    /// It said so already; nothing was sent.
    Same,
}

/// How one check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CheckState {
    /// It did not apply, and says nothing.
    Skipped,
    /// It is good.
    Passed,
    /// It runs, waits, or is required and has not been heard of.
    Pending,
    /// It is bad.
    Failed,
}

/// One check of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// How it stands.
    pub state: CheckState,
    /// Whether the base wants it, as far as the forge tells.
    pub required: bool,
    /// Where people read about it.
    pub url: Option<String>,
    /// When it last said something, by the forge's clock.
    pub at: Option<Timestamp>,
}

/// All checks of one commit taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChecksState {
    /// There is none that says anything.
    None,
    /// Some have not ended, and none failed.
    Pending,
    /// All that say anything are good.
    Passed,
    /// At least one is bad, required or not.
    Failed,
}

/// The checks of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checks {
    /// All taken together.
    pub state: ChecksState,
    /// Each of them, by name.
    pub named: Vec<Check>,
}

impl Checks {
    /// Folds checks: one that failed fails all; one that is pending keeps all waiting; skipped ones
    /// count for nothing.
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

    /// The same without some, as those that the bot set itself.
    #[must_use]
    pub fn without(self, unwanted: impl Fn(&Check) -> bool) -> Self {
        Self::of(
            self.named
                .into_iter()
                .filter(|check| !unwanted(check))
                .collect(),
        )
    }

    /// Marks what the base requires, adding as pending what has not been heard of. `fits` says
    /// whether a required word means a check.
    pub(crate) fn require(
        named: &mut Vec<Check>,
        required: &[String],
        fits: impl Fn(&str, &str) -> bool,
    ) {
        for word in required {
            let mut heard = false;
            for check in named.iter_mut().filter(|check| fits(word, &check.name)) {
                (check.required, heard) = (true, true);
            }
            if !heard {
                named.push(Check {
                    name: word.clone(),
                    state: CheckState::Pending,
                    required: true,
                    url: None,
                    at: None,
                });
            }
        }
    }
}

/// What people said about a request's present head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Approvals {
    /// Who approved the present head. Where none are needed and the forge does not tell it without
    /// further questions (GitLab), an earlier head may have been meant.
    pub by: Vec<String>,
    /// Who approved an earlier head only: that says nothing of what is there now, whatever the
    /// repository's settings.
    pub earlier: Vec<String>,
    /// How many are needed, where the forge tells.
    pub required: Option<u32>,
    /// Who wants changes.
    pub changes_requested: Vec<String>,
}

/// What somebody said last of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReviewVerdict {
    /// The present head is good.
    Approved,
    /// An earlier one was.
    Earlier,
    /// It must be changed.
    Against,
}

impl Approvals {
    /// What people said last, by login.
    pub(crate) fn of(said: &BTreeMap<String, ReviewVerdict>, required: Option<u32>) -> Self {
        let logins = |wanted: ReviewVerdict| {
            said.iter()
                .filter(|(_, said)| **said == wanted)
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

    /// Whether the forge may count approvals of an earlier head that are not known to be too few:
    /// it does not tell how many it wants, and nobody has approved what is there now.
    pub fn only_earlier(&self) -> bool {
        self.required.is_none() && self.by.is_empty() && !self.earlier.is_empty()
    }

    /// Whether nobody wants changes and there are as many as needed. Where the forge does not tell
    /// it, none are, but if there were some before, one of the present head.
    pub fn suffice(&self) -> bool {
        self.changes_requested.is_empty()
            && self.by.len() >= self.required.unwrap_or(0) as usize
            && !self.only_earlier()
    }
}

/// A merge that shall happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeCommand {
    /// The commit that was verified. With another head nothing is merged.
    pub head: String,
    /// How; the repository's own way if none is declared.
    pub method: Option<MergeMethod>,
    /// First line of the commit that merges; the forge's own if empty.
    pub title: String,
    /// Its further text.
    pub message: String,
    /// Whether the forge is asked to delete the branch with the merge. GitHub cannot be asked for
    /// it; deleting the branch after a merge is fine everywhere.
    pub delete_branch: bool,
}

/// What a commit status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatusState {
    /// It runs.
    Pending,
    /// It is good.
    Success,
    /// It is bad.
    Failure,
}

/// A status of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitStatus {
    /// Its name: `tagboat/dev`. The same name replaces what was said before.
    pub context: String,
    /// What it says.
    pub state: StatusState,
    /// One line; cut where the forge takes less.
    pub description: String,
    /// Where people read more.
    pub url: Option<String>,
}

/// A release, or a mere tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgeRelease {
    /// The tag.
    pub tag: String,
    /// The title; empty for a mere tag.
    pub name: String,
    /// The notes as their author wrote them: hostile text, at most [`NOTES`] characters.
    pub notes: String,
    /// Where people read it.
    pub url: String,
    /// When it was published.
    pub at: Option<Timestamp>,
}

/// Most characters of one release's notes that are taken; the rest is cut.
pub const NOTES: usize = 16 * 1024;

/// How much text a forge takes, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextLimits {
    /// Of a title.
    pub title: usize,
    /// Of a request's text.
    pub body: usize,
    /// Of a comment.
    pub comment: usize,
    /// Of a status's line.
    pub status: usize,
}

/// Of requests of one head branch, latest first: the open one, else the latest.
pub(crate) fn latest(found: Vec<PullRequest>) -> Option<PullRequest> {
    let open = found
        .iter()
        .position(|request| request.state == RequestStatus::Open);
    found.into_iter().nth(open.unwrap_or(0))
}

/// Whether a comment says what it should: forges may change line ends and cut spaces at the end.
pub(crate) fn same_text(one: &str, other: &str) -> bool {
    one.replace("\r\n", "\n").trim_end() == other.replace("\r\n", "\n").trim_end()
}

/// The first `most` characters.
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
mod tests {
    use super::*;

    fn check(name: &str, state: CheckState) -> Check {
        Check {
            name: name.to_owned(),
            state,
            required: false,
            url: None,
            at: None,
        }
    }

    #[test]
    fn checks_are_as_good_as_the_worst_that_says_anything() {
        use CheckState::{Failed, Passed, Pending, Skipped};
        for (states, expected) in [
            (vec![], ChecksState::None),
            (vec![Skipped], ChecksState::None),
            (vec![Passed, Skipped], ChecksState::Passed),
            (vec![Passed, Pending], ChecksState::Pending),
            (vec![Pending, Failed, Passed], ChecksState::Failed),
        ] {
            let checks = Checks::of(states.iter().map(|state| check("c", *state)).collect());
            assert_eq!(checks.state, expected, "{states:?}");
        }
    }

    #[test]
    fn a_required_check_that_is_not_heard_of_is_waited_for() {
        let mut named = vec![check("build", CheckState::Passed)];
        Checks::require(
            &mut named,
            &["build".to_owned(), "lint".to_owned()],
            |word, name| word == name,
        );
        let checks = Checks::of(named);
        assert_eq!(checks.state, ChecksState::Pending);
        assert!(checks.named.iter().all(|check| check.required));
        assert_eq!(
            checks.without(|check| check.name == "lint").state,
            ChecksState::Passed
        );
    }

    #[test]
    fn reviewers_are_users_and_teams() {
        for (text, expected) in [
            ("ann", RequestedReviewer::User("ann".into())),
            ("@ann", RequestedReviewer::User("ann".into())),
            (
                "team/platform",
                RequestedReviewer::Team {
                    owner: None,
                    name: "platform".into(),
                },
            ),
            (
                "acme/platform",
                RequestedReviewer::Team {
                    owner: Some("acme".into()),
                    name: "platform".into(),
                },
            ),
            (
                "acme/sub/platform",
                RequestedReviewer::Team {
                    owner: Some("acme/sub".into()),
                    name: "platform".into(),
                },
            ),
        ] {
            assert_eq!(RequestedReviewer::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("aäö", 3), "aäö");
        assert_eq!(cut("aäöü", 3), "aä…");
    }
}
