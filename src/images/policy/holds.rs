//! Holds: versions that a person reverted.
//!
//! A reverted version stays away until something newer appears or a person brings it back: a higher
//! version, or one that the registry first listed after the revert. Holds come from the
//! first-parent history of the branch, from closed pull requests, and from force-pushes that
//! removed a commit of the bot.

use super::{Comparison, orders_by_text, standing};
use crate::{
    core::{
        image::Digest,
        text::{short_id, without_controls},
    },
    spec::ImagePolicy,
};
use jiff::Timestamp;
use std::fmt;

/// One change of one reference, or the refusal of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldMove {
    pub origin: MoveOrigin,
    pub time: Timestamp,
    /// True for the bot's own commits: a `Tagboat-Update` trailer, or a merge of a commit that has
    /// one.
    pub by_bot: bool,
    /// The value before: a tag, or for digest policies a digest.
    pub old: String,
    /// The value after.
    pub new: String,
    /// The tag of a digest that moved.
    pub tag: Option<String>,
}

/// The act that changed a reference, or refused to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoveOrigin {
    /// A commit of the first-parent history.
    Commit { id: String, author: String },
    /// A pull request that a person closed unmerged; nothing was written.
    ClosedRequest { number: u64, author: String },
    /// A force-push that removed this commit of the bot from the branch.
    ForcePush { removed: String },
}

/// A held value, and the act that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The reverted version. It is held, and what lies between it and the present version
    /// ([`Holds::holding`]); without an order, only the version itself.
    pub value: String,
    /// The value that replaced it.
    pub instead: String,
    pub origin: MoveOrigin,
    pub time: Timestamp,
    /// The tag of a held digest.
    pub tag: Option<String>,
}

/// The holds of one policy in one Environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    all: Vec<Hold>,
}

impl Holds {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Hold> {
        self.all.iter()
    }

    /// Removes the hold of a value, and those below it.
    pub fn lift(&mut self, policy: &ImagePolicy, value: &str) {
        self.all.retain(|hold| {
            let is_below =
                ordered(policy, &[value, &hold.value]) && not_below(policy, &hold.value, value);
            hold.value != value && !is_below
        });
    }

    /// The hold of this very value.
    pub fn of(&self, value: &str) -> Option<&Hold> {
        self.all.iter().find(|hold| hold.value == value)
    }

    /// The hold that keeps a value back, if one does: its own, or that of a higher value for which
    /// `reaches_down` is true. Digests are held one by one, since nothing orders them.
    pub fn holding(
        &self,
        policy: &ImagePolicy,
        value: &str,
        reaches_down: impl Fn(&Hold) -> bool,
    ) -> Option<&Hold> {
        self.of(value).or_else(|| {
            self.all.iter().find(|hold| {
                ordered(policy, &[value, &hold.value])
                    && not_below(policy, value, &hold.value)
                    && reaches_down(hold)
            })
        })
    }
}

/// Returns whether the policy can order these values.
fn ordered(policy: &ImagePolicy, values: &[&str]) -> bool {
    orders_by_text(policy) && !values.iter().any(|value| Digest::new(*value).is_ok())
}

/// Returns whether `right` is `left` or above it.
fn not_below(policy: &ImagePolicy, left: &str, right: &str) -> bool {
    matches!(
        standing(policy, left, right),
        Comparison::Newer | Comparison::Equal
    )
}

/// Folds the moves of a policy's references in an Environment, oldest first, into its holds.
pub fn holds(policy: &ImagePolicy, moves: &[HeldMove]) -> Holds {
    let mut all: Vec<Hold> = Vec::new();
    for step in moves {
        let by_order = ordered(policy, &[&step.old, &step.new]);
        // Writing a held value again, or a higher one, lifts the hold: by a person, or by the bot
        // after `release`. A closed pull request writes nothing.
        let refused = matches!(step.origin, MoveOrigin::ClosedRequest { .. });
        all.retain(|hold| {
            let beyond = match (by_order, hold.tag.as_deref()) {
                (true, Some(tag)) => standing(policy, tag, &step.new) == Comparison::Newer,
                (true, None) => not_below(policy, &hold.value, &step.new),
                (false, _) => false,
            };
            refused || hold.value != step.new && !beyond
        });
        let taken_back = match by_order {
            _ if refused => true,
            true => standing(policy, &step.old, &step.new) == Comparison::Lower,
            false => unordered_back(policy, step),
        };
        if taken_back && !step.by_bot {
            let hold = Hold {
                value: step.old.clone(),
                instead: step.new.clone(),
                origin: step.origin.clone(),
                time: step.time,
                tag: step.tag.clone(),
            };
            // A commit that reverts several files is one hold.
            if !all.contains(&hold) {
                all.push(hold);
            }
        }
    }
    Holds { all }
}

/// Returns whether a move leaves a value that no order compares: policies without an order, and
/// digests.
fn unordered_back(policy: &ImagePolicy, step: &HeldMove) -> bool {
    step.old != step.new && (!orders_by_text(policy) || Digest::new(step.old.as_str()).is_ok())
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hold { value, instead, .. } = self;
        let date = self.time.strftime("%Y-%m-%d");
        match &self.origin {
            MoveOrigin::Commit { id, author } => {
                let (author, id) = (without_controls(author, usize::MAX), short_id(id));
                write!(
                    f,
                    "{author} went back from {value} to {instead} in {id} of {date}"
                )
            }
            MoveOrigin::ClosedRequest { number, author } => {
                let author = without_controls(author, usize::MAX);
                write!(
                    f,
                    "{author} closed pull request #{number} ({value}) on {date}"
                )
            }
            MoveOrigin::ForcePush { removed } => {
                let removed = short_id(removed);
                write!(
                    f,
                    "a force-push took {value} back to {instead} by removing {removed}, seen on {date}"
                )
            }
        }
    }
}
