//! The life of a request: what is wanted, what its branch and the forge have → the next thing to
//! do, with the reason.
//!
//! ```text
//!            push ──▶ open ──▶ (tell, push again, …) ──▶ merge
//!  wanted ───┘                        └──▶ close ──▶ delete the branch
//! ```
//!
//! One decision is one step. Whatever was done of earlier steps, by this process, one that was
//! killed, or a person, the next decision starts from what is there, so that nothing is lost and
//! nothing done twice.

use super::{Marker, merging::HOLD};
use crate::{
    io::forge::{self, Mergeable},
    objects::health::plain,
};
use jiff::{SignedDuration, Timestamp};

/// The label by which people have a branch built anew on its target's head; taken off when it is
/// done.
pub const REBASE: &str = "tagboat/rebase";

/// The label that tells a request closed by the bot from one closed by a person. It is set before
/// closing.
pub const SUPERSEDED: &str = "tagboat/superseded";

/// The branch and the request of one group of changes, as they are now.
#[derive(Debug, Clone)]
pub struct RequestSituation<'a> {
    /// What is wanted of it.
    pub wanted: DesiredBranch,
    /// The branch that requests are made for.
    pub target: &'a str,
    /// The request's own branch, if it is there.
    pub branch: Option<BranchInfo>,
    /// The open request of the branch.
    pub request: Option<&'a forge::PullRequest>,
    /// What its text tells the bot; none where it cannot be read.
    pub marker: Option<&'a Marker>,
    /// Whether it is time to make a text again that may have become better.
    pub retell: bool,
    /// Whether it was opened a short while ago and lacks labels that it should have had from then
    /// on.
    pub undressed: bool,
    /// Whether somebody else has an open request from the branch, too.
    pub shared: bool,
    /// The latest request of the branch that ended.
    pub ended: Option<ClosedRequest>,
    /// How many requests there may be.
    pub room: RequestQuota,
    /// The time.
    pub now: Timestamp,
}

/// What is wanted of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DesiredBranch {
    /// It shall be there, with changes whose text is made from this (a hash).
    Change {
        /// See [`Marker::content`].
        content: String,
    },
    /// Nothing is left to propose, and why.
    Nothing {
        /// A sentence for people.
        why: String,
    },
    /// It cannot be said now, or people do not want it to be said: everything stays as it is.
    Unknown {
        /// A sentence for people.
        why: String,
    },
}

/// A branch that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchInfo {
    /// Its head.
    pub head: String,
    /// Whose commits it has beyond its target.
    pub commits: BranchCommits,
    /// Whether it does to its target exactly what is wanted, in one commit.
    pub same: bool,
    /// Whether that commit is made on the target's present head.
    pub fresh: bool,
}

/// Whose commits a branch has beyond its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BranchCommits {
    /// Nobody's: the target has all of it.
    None,
    /// The bot's.
    Own,
    /// Some are somebody else's.
    Others {
        /// One of those.
        commit: String,
        /// Its author.
        author: String,
        /// Who made it anew, where its author and that of all such commits is the bot.
        remade: Option<String>,
    },
}

/// How the latest request of a branch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClosedRequest {
    /// It was merged.
    Merged,
    /// The bot closed it.
    Superseded,
    /// A person closed it.
    Closed,
}

/// How many requests of an Environment there may be, and are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestQuota {
    /// The most open at a time.
    pub max_open: Option<u32>,
    /// How many are open.
    pub open: usize,
    /// The most opened in an hour.
    pub per_hour: Option<u32>,
    /// When those of the last hour were opened.
    pub opened: Vec<Timestamp>,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestAction {
    /// Nothing is wanted, and nothing is there that is the bot's to clear away.
    Nothing,
    /// Nothing for now: something has to happen first.
    Wait,
    /// Nothing until a person has done something; where there is a request, it says so.
    Stop,
    /// The branch is made on the target's head: newly, or in place of exactly the head that is
    /// known.
    Push,
    /// The request is opened.
    Open,
    /// It gets its labels and reviewers.
    Dress,
    /// Its title and text are written anew.
    Tell,
    /// The labels [`REBASE`] and [`SUPERSEDED`] are taken off.
    Unlabel,
    /// It is closed with the reason, and its branch deleted.
    Close,
    /// A branch that was left behind is deleted.
    Delete,
    /// It is as it should be; it may merge.
    Settled,
}

/// An action with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleStep {
    /// What to do.
    pub action: RequestAction,
    /// Why, in a sentence for people; empty where there is nothing to say.
    pub reason: String,
    /// When the wait ends by itself.
    pub until: Option<Timestamp>,
}

impl RequestAction {
    /// Whether nothing is sent for it that changes anything (a comment that says why it stopped
    /// aside).
    pub fn is_quiet(self) -> bool {
        matches!(
            self,
            RequestAction::Nothing
                | RequestAction::Wait
                | RequestAction::Stop
                | RequestAction::Settled
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
pub fn decide(situation: &RequestSituation<'_>) -> LifecycleStep {
    let RequestSituation {
        wanted,
        target,
        branch,
        request,
        ..
    } = situation;
    if let Some(request) = request {
        if request.labels.iter().any(|label| label == HOLD) {
            return because(RequestAction::Wait, format!("The label {HOLD} is on it."));
        }
        if request.base != *target {
            let base = plain(&request.base);
            return because(
                RequestAction::Stop,
                format!(
                    "It was pointed at {base}; point it at {} again, or close it.",
                    plain(target)
                ),
            );
        }
    }
    match wanted {
        DesiredBranch::Unknown { .. } if branch.is_none() && request.is_none() => {
            because(RequestAction::Nothing, "")
        }
        DesiredBranch::Unknown { why } => because(RequestAction::Wait, why),
        DesiredBranch::Nothing { why } => unwanted(situation, why),
        DesiredBranch::Change { content } => wanted_now(situation, content),
    }
}

/// What somebody's commit on the branch leads to.
fn others(situation: &RequestSituation<'_>) -> Option<LifecycleStep> {
    let BranchCommits::Others {
        commit,
        author,
        remade,
    } = &situation.branch.as_ref()?.commits
    else {
        return None;
    };
    let commit = &commit[..commit.len().min(10)];
    let reason = match remade {
        None => format!(
            "Its branch has the commit {commit} by {}, which is not the bot's: take it off the branch, or merge or close by hand.",
            plain(author)
        ),
        Some(committer) => format!(
            "Its branch has the commit {commit}, which {} has made anew from the bot's, as the rebase button of a forge does: {}.",
            plain(committer),
            match situation.request {
                Some(_) => format!(
                    "the label {REBASE} has tagboat make it once more, without what was changed in it; or merge or close by hand"
                ),
                None => "tagboat makes it once more when the branch is deleted".to_owned(),
            }
        ),
    };
    Some(because(RequestAction::Stop, reason))
}

fn unwanted(situation: &RequestSituation<'_>, why: &str) -> LifecycleStep {
    let (branch, request) = (situation.branch.as_ref(), situation.request);
    match (branch, request) {
        (_, Some(_)) => others(situation).unwrap_or_else(|| because(RequestAction::Close, why)),
        (None, None) => because(RequestAction::Nothing, ""),
        // With its branch the other request would be closed.
        (Some(_), None) if situation.shared => because(RequestAction::Nothing, ""),
        // Whoever closed the request may open it again as long as the branch is there.
        (Some(_), None) if situation.ended == Some(ClosedRequest::Closed) => {
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
        ) if situation.ended.is_some() => because(RequestAction::Delete, why),
        (Some(_), None) => because(RequestAction::Nothing, ""),
    }
}

fn wanted_now(situation: &RequestSituation<'_>, content: &str) -> LifecycleStep {
    let RequestSituation {
        target,
        request,
        marker,
        ..
    } = situation;
    let rebase = request.is_some_and(|request| request.labels.iter().any(|label| label == REBASE));
    if let Some(stop) = others(situation) {
        // Whoever sets the label wants the bot's commit; one of somebody's own is never
        // overwritten.
        let remade = matches!(
            situation.branch,
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
        .then(|| situation.room.full(situation.now))
        .flatten();
    if let Some(wait) = full {
        return wait;
    }
    let target = plain(target);
    let Some(branch) = &situation.branch else {
        return because(RequestAction::Push, "Its branch is not there.");
    };
    if branch.commits == BranchCommits::None {
        return because(
            RequestAction::Push,
            format!("{target} has all that its branch has."),
        );
    }
    if !branch.same {
        return because(
            RequestAction::Push,
            format!("What is wanted has changed, or {target} has in a file that it edits."),
        );
    }
    let Some(request) = request else {
        return because(RequestAction::Open, "Its branch is there.");
    };
    if rebase && !branch.fresh {
        return because(RequestAction::Push, format!("The label {REBASE} is on it."));
    }
    match request.mergeable {
        Mergeable::Behind if !branch.fresh => {
            return because(
                RequestAction::Push,
                format!("It must contain the newest commit of {target}."),
            );
        }
        Mergeable::Conflicts if !branch.fresh => {
            return because(RequestAction::Push, format!("It conflicts with {target}."));
        }
        _ => {}
    }
    if rebase {
        return because(
            RequestAction::Unlabel,
            format!("It is on the newest commit of {target}."),
        );
    }
    // Its closing was not ended, or a person has opened it again: with the label a person's close
    // would hold nothing.
    if request.labels.iter().any(|label| label == SUPERSEDED) {
        return because(RequestAction::Unlabel, "It is wanted again.");
    }
    match marker {
        None => {
            return because(
                RequestAction::Tell,
                "Its text has no marker that can be read.",
            );
        }
        Some(marker) if marker.content != content => {
            return because(
                RequestAction::Tell,
                "What its text is made from has changed.",
            );
        }
        Some(marker) if marker.again && situation.retell => {
            return because(
                RequestAction::Tell,
                "More may be known now than when it was written.",
            );
        }
        Some(_) => {}
    }
    if situation.undressed {
        return because(RequestAction::Dress, "It was opened without its labels.");
    }
    because(RequestAction::Settled, "")
}

/// A sentence of the bot's as forges take it in a comment: no markup, nobody named in it is called,
/// nothing is linked.
pub fn said(text: &str) -> String {
    let mut out = String::new();
    for c in plain(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' => out.extend(['\\', c]),
            // Between the sign and the word a space of no width: `@ann`, `#1`, `!1`, `~label` are
            // words then.
            '@' | '#' | '!' | '~' | '$' | '%' => out.extend([c, '\u{200b}']),
            c => out.push(c),
        }
    }
    out
}

impl RequestQuota {
    /// Why no further request may be opened now.
    fn full(&self, now: Timestamp) -> Option<LifecycleStep> {
        if let Some(most) = self.max_open.filter(|most| self.open >= *most as usize) {
            return Some(because(
                RequestAction::Wait,
                format!(
                    "{} requests are open, and request.maxOpen is {most}.",
                    self.open
                ),
            ));
        }
        let hour = SignedDuration::from_hours(1);
        let mut lately: Vec<Timestamp> = self
            .opened
            .iter()
            .copied()
            .filter(|at| now.duration_since(*at) < hour)
            .collect();
        lately.sort();
        let most = self
            .per_hour
            .filter(|most| lately.len() >= *most as usize)?;
        // When enough of them are an hour old.
        let freeing = (lately.len() - most as usize).min(lately.len().saturating_sub(1));
        let until = lately.get(freeing).and_then(|at| at.checked_add(hour).ok());
        let reason = format!(
            "{} requests were opened within an hour, and request.perHour is {most}.",
            lately.len()
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
