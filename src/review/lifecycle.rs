//! The lifecycle of a pull request: from its desired and present state to the next step, with the
//! reason.
//!
//! ```text
//!             push ──▶ open ──▶ (update text, push again, …) ──▶ merge
//!  desired ───┘                        └──▶ close ──▶ delete the branch
//! ```
//!
//! One decision is one step, and idempotent: whatever this process, one that was killed or a person
//! has done before, the next decision starts from the present state. Nothing is lost, and nothing
//! is done twice.

use super::{
    Marker,
    merging::HOLD,
    types::{Mergeable, PullRequest},
};
use crate::core::text::{plain, short_id};
use jiff::{SignedDuration, Timestamp};

/// The label with which people ask for a rebase onto the target's head; removed when it is done.
pub const REBASE: &str = "tagboat/rebase";

/// The label of pull requests that the bot closes. It is set before closing, so that a close
/// without it is known to be a person's.
pub const SUPERSEDED: &str = "tagboat/superseded";

/// The desired and present state of the branch and the pull request of one change set.
#[derive(Debug, Clone)]
pub struct LifecycleInput<'a> {
    pub desired: DesiredBranch,
    /// The branch that pull requests are made for.
    pub target: &'a str,
    /// The bot's branch, if it exists.
    pub branch: Option<BranchInfo>,
    /// The open pull request of the branch.
    pub request: Option<&'a PullRequest>,
    /// The marker in its text; none if it cannot be read.
    pub marker: Option<&'a Marker>,
    /// True if a text that may become better is due to be written again.
    pub text_due: bool,
    /// True if its text was written unsigned and can be signed now.
    pub unsigned: bool,
    /// True if it was opened a short while ago and lacks its labels.
    pub lacks_labels: bool,
    /// True if a foreign pull request is open from the branch, too.
    pub shared: bool,
    /// How the latest pull request of the branch ended.
    pub ended: Option<ClosedRequest>,
    pub quota: RequestQuota,
    pub now: Timestamp,
}

/// The desired state of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DesiredBranch {
    /// It exists, with a change.
    Change {
        /// See [`Marker::content`].
        content: String,
    },
    /// There is nothing to propose.
    Nothing {
        /// A sentence for people.
        why: String,
    },
    /// Unknown for now, or people want no change: everything stays as it is.
    Unknown {
        /// A sentence for people.
        why: String,
    },
}

/// A branch that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchInfo {
    pub head: String,
    pub commits: BranchCommits,
    /// True if it makes exactly the desired change, in one commit.
    pub matches: bool,
    /// True if that commit is made on the target's head.
    pub on_head: bool,
}

/// The authors of the commits that a branch has beyond its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BranchCommits {
    /// There are no commits beyond the target.
    None,
    /// All are the bot's.
    Own,
    /// Some are foreign.
    Others {
        /// One of the foreign commits.
        commit: String,
        author: String,
        /// The committer who rebased it, if the bot is the author of all such commits.
        remade: Option<String>,
    },
}

/// How the latest pull request of a branch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClosedRequest {
    Merged,
    /// Closed by the bot.
    Superseded,
    /// Closed by a person.
    Closed,
}

/// Limits for the pull requests of an Environment, and their present numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestQuota {
    pub max_open: Option<u32>,
    pub open: usize,
    pub per_hour: Option<u32>,
    /// When the latest ones were opened.
    pub opened: Vec<Timestamp>,
}

/// The next step of a pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestAction {
    /// Nothing is desired, and nothing is left to clean up.
    Nothing,
    /// Nothing until something else has happened.
    Wait,
    /// Nothing until a person has acted; a comment on the pull request says so.
    Stop,
    /// Create the branch on the target's head, or replace exactly the known head.
    Push,
    Open,
    /// Add labels and request reviews.
    SetLabels,
    /// Write title and text.
    UpdateText,
    /// Remove the labels [`REBASE`] and [`SUPERSEDED`].
    RemoveLabels,
    /// Close with the reason, and delete the branch.
    Close,
    /// Delete a branch that was left behind.
    Delete,
    /// Nothing; it may merge.
    UpToDate,
}

/// A step with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleStep {
    pub action: RequestAction,
    /// A sentence for people; empty if there is nothing to explain.
    pub reason: String,
    /// When the wait ends by itself.
    pub until: Option<Timestamp>,
}

impl RequestAction {
    /// Tells whether the step changes nothing, except for the comment of a stop.
    pub fn is_quiet(self) -> bool {
        matches!(
            self,
            RequestAction::Nothing
                | RequestAction::Wait
                | RequestAction::Stop
                | RequestAction::UpToDate
        )
    }
}

fn because(action: RequestAction, reason: impl Into<String>) -> LifecycleStep {
    LifecycleStep {
        action,
        reason: reason.into(),
        until: None,
    }
}

/// Decides the next step.
pub fn decide(input: &LifecycleInput<'_>) -> LifecycleStep {
    let LifecycleInput {
        desired,
        target,
        branch,
        request,
        ..
    } = input;
    if let Some(request) = request {
        if request.labels.iter().any(|label| label == HOLD) {
            return because(RequestAction::Wait, format!("The label {HOLD} is on it."));
        }
        if request.base != *target {
            let base = plain(&request.base);
            return because(
                RequestAction::Stop,
                format!(
                    "Its base was changed to {base}; change it back to {}, or close it.",
                    plain(target)
                ),
            );
        }
    }
    match desired {
        DesiredBranch::Unknown { .. } if branch.is_none() && request.is_none() => {
            because(RequestAction::Nothing, "")
        }
        DesiredBranch::Unknown { why } => because(RequestAction::Wait, why),
        DesiredBranch::Nothing { why } => nothing_desired(input, why),
        DesiredBranch::Change { content } => change_desired(input, content),
    }
}

/// The stop that a foreign commit on the branch leads to.
fn foreign_commits(input: &LifecycleInput<'_>) -> Option<LifecycleStep> {
    let BranchCommits::Others {
        commit,
        author,
        remade,
    } = &input.branch.as_ref()?.commits
    else {
        return None;
    };
    let commit = short_id(commit);
    let reason = match remade {
        None => format!(
            "Its branch has commit {commit} by {}, which is not the bot's: remove it from the branch, or merge or close by hand.",
            plain(author)
        ),
        Some(committer) => format!(
            "Its branch has commit {commit}, which {} rebased from the bot's, as the rebase button of a forge does: {}.",
            plain(committer),
            match input.request {
                Some(_) => format!(
                    "the label {REBASE} has tagboat rebuild it, without what was changed in it; or merge or close by hand"
                ),
                None => "tagboat rebuilds it when the branch is deleted".to_owned(),
            }
        ),
    };
    Some(because(RequestAction::Stop, reason))
}

fn nothing_desired(input: &LifecycleInput<'_>, why: &str) -> LifecycleStep {
    let (branch, request) = (input.branch.as_ref(), input.request);
    match (branch, request) {
        (_, Some(_)) => {
            foreign_commits(input).unwrap_or_else(|| because(RequestAction::Close, why))
        }
        (None, None) => because(RequestAction::Nothing, ""),
        // Deleting the branch would close the foreign pull request, too.
        (Some(_), None) if input.shared => because(RequestAction::Nothing, ""),
        // A person can reopen the pull request as long as the branch exists.
        (Some(_), None) if input.ended == Some(ClosedRequest::Closed) => {
            because(RequestAction::Nothing, "")
        }
        (
            Some(BranchInfo {
                commits: BranchCommits::Own,
                ..
            }),
            None,
        ) => because(RequestAction::Delete, why),
        (
            Some(BranchInfo {
                commits: BranchCommits::None,
                ..
            }),
            None,
        ) if input.ended.is_some() => because(RequestAction::Delete, why),
        (Some(_), None) => because(RequestAction::Nothing, ""),
    }
}

fn change_desired(input: &LifecycleInput<'_>, content: &str) -> LifecycleStep {
    let LifecycleInput {
        target,
        request,
        marker,
        ..
    } = input;
    let rebase = request.is_some_and(|request| request.labels.iter().any(|label| label == REBASE));
    if let Some(stop) = foreign_commits(input) {
        // The label asks for the bot's commit in place of a rebased one. A commit that a person
        // wrote is never overwritten.
        let remade = matches!(
            input.branch,
            Some(BranchInfo {
                commits: BranchCommits::Others {
                    remade: Some(_),
                    ..
                },
                ..
            })
        );
        return if rebase && remade {
            because(RequestAction::Push, format!("The label {REBASE} is on it."))
        } else {
            stop
        };
    }
    let full = request
        .is_none()
        .then(|| input.quota.full(input.now))
        .flatten();
    if let Some(wait) = full {
        return wait;
    }
    let target = plain(target);
    let Some(branch) = &input.branch else {
        return because(RequestAction::Push, "Its branch does not exist.");
    };
    if branch.commits == BranchCommits::None {
        return because(
            RequestAction::Push,
            format!("{target} contains its branch."),
        );
    }
    if !branch.matches {
        return because(
            RequestAction::Push,
            format!(
                "The desired change is different now, or {target} has changed in a file that it edits."
            ),
        );
    }
    let Some(request) = request else {
        return because(RequestAction::Open, "Its branch exists.");
    };
    if !branch.on_head
        && let Some(reason) = outdated(request, rebase, &target)
    {
        return because(RequestAction::Push, reason);
    }
    if rebase {
        return because(
            RequestAction::RemoveLabels,
            format!("It is on the newest commit of {target}."),
        );
    }
    // The bot died while closing it, or a person has reopened it. If the label stayed, a later
    // close by a person would hold nothing back.
    if request.labels.iter().any(|label| label == SUPERSEDED) {
        return because(RequestAction::RemoveLabels, "It is wanted again.");
    }
    if let Some(reason) = stale_text(*marker, content, input) {
        return because(RequestAction::UpdateText, reason);
    }
    if input.lacks_labels {
        return because(
            RequestAction::SetLabels,
            "It was opened without its labels.",
        );
    }
    because(RequestAction::UpToDate, "")
}

/// Returns why a branch below the target's head must be built again, if it must.
fn outdated(request: &PullRequest, rebase: bool, target: &str) -> Option<String> {
    if rebase {
        return Some(format!("The label {REBASE} is on it."));
    }
    match request.mergeable {
        Mergeable::Behind => Some(format!("It must contain the newest commit of {target}.")),
        Mergeable::Conflicts => Some(format!("It conflicts with {target}.")),
        _ => None,
    }
}

/// Returns why the text of a pull request must be written again, if it must.
fn stale_text(
    marker: Option<&Marker>,
    content: &str,
    input: &LifecycleInput<'_>,
) -> Option<&'static str> {
    match marker {
        None => Some("Its text has no readable marker."),
        Some(marker) if marker.content != content => Some("The content of its text has changed."),
        Some(_) if input.unsigned => Some("Its text is not signed yet."),
        Some(marker) if marker.again && input.text_due => {
            Some("More may be known now than when it was written.")
        }
        Some(_) => None,
    }
}

/// Escapes a sentence for a forge's comment: no markup, no mention, no link.
pub fn comment_text(text: &str) -> String {
    let mut out = String::new();
    for c in plain(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' => out.extend(['\\', c]),
            // A zero-width space after the sign keeps `@ann`, `#1`, `!1`, `~label` from being
            // links.
            '@' | '#' | '!' | '~' | '$' | '%' => out.extend([c, '\u{200b}']),
            c => out.push(c),
        }
    }
    out
}

impl RequestQuota {
    /// The wait for a further pull request, if a limit is reached.
    fn full(&self, now: Timestamp) -> Option<LifecycleStep> {
        if let Some(most) = self.max_open.filter(|most| self.open >= *most as usize) {
            return Some(because(
                RequestAction::Wait,
                format!(
                    "Open pull requests: {}; request.maxOpen is {most}.",
                    self.open
                ),
            ));
        }
        let hour = SignedDuration::from_hours(1);
        let mut recent: Vec<Timestamp> = self
            .opened
            .iter()
            .copied()
            .filter(|at| now.duration_since(*at) < hour)
            .collect();
        recent.sort();
        let most = self
            .per_hour
            .filter(|most| recent.len() >= *most as usize)?;
        // The limit allows another one when enough of them are an hour old.
        let freeing = (recent.len() - most as usize).min(recent.len().saturating_sub(1));
        let until = recent.get(freeing).and_then(|at| at.checked_add(hour).ok());
        let reason = format!(
            "Pull requests opened within an hour: {}; request.perHour is {most}.",
            recent.len()
        );
        Some(LifecycleStep {
            action: RequestAction::Wait,
            reason,
            until,
        })
    }
}

#[cfg(test)]
mod tests;
