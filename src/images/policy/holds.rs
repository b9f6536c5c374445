//! What reverts hold back.
//!
//! A version that a person took back stays away until something newer comes, or somebody brings it
//! back. The history of the branch says so; nothing else is remembered.

use super::{Comparison, standing};
use crate::{
    core::image::Digest,
    spec::{ImagePolicy, PolicyKind},
};
use jiff::Timestamp;
use std::fmt;

/// One change of one reference in one commit of the first-parent history, or one that people did
/// not want: then it goes back from what a closed request proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldMove {
    /// The commit.
    pub commit: String,
    /// Who wrote it.
    pub author: String,
    /// When.
    pub time: Timestamp,
    /// Whether it is the bot's own: the message has a `Tagboat-Update` trailer, or the commit
    /// merged one that has it.
    pub by_bot: bool,
    /// What stood there before: a tag, or for digest policies a digest.
    pub old: String,
    /// What stands there after.
    pub new: String,
    /// The tag beside a digest that moved.
    pub tag: Option<String>,
    /// The request that a person closed, where no commit moved anything.
    pub request: Option<u64>,
}

/// A held value, and whose commit holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The version taken back: everything up to it is held. For policies without order it alone.
    pub value: String,
    /// What was written instead.
    pub instead: String,
    /// The commit that took it back.
    pub commit: String,
    /// Who wrote that commit.
    pub author: String,
    /// When.
    pub time: Timestamp,
    /// The tag beside a held digest.
    pub tag: Option<String>,
    /// The request whose closing holds it; then there is no commit.
    pub request: Option<u64>,
}

/// The holds of one policy in one Environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    all: Vec<Hold>,
}

impl Holds {
    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The holds.
    pub fn iter(&self) -> impl Iterator<Item = &Hold> {
        self.all.iter()
    }

    /// The hold that keeps a value back, if one does. Digests are held one by one, since nothing
    /// orders them.
    pub fn holding(&self, policy: &ImagePolicy, value: &str) -> Option<&Hold> {
        self.all.iter().find(|hold| {
            hold.value == value
                || (ordered(policy, &[value, &hold.value]) && not_below(policy, value, &hold.value))
        })
    }
}

/// Whether the policy has an order for these values.
fn ordered(policy: &ImagePolicy, values: &[&str]) -> bool {
    matches!(
        policy.choice,
        PolicyKind::Semver(_) | PolicyKind::Numerical(_) | PolicyKind::Alphabetical(_)
    ) && !values.iter().any(|value| Digest::new(*value).is_ok())
}

/// Whether `right` is `left` or above it.
fn not_below(policy: &ImagePolicy, left: &str, right: &str) -> bool {
    matches!(
        standing(policy, left, right),
        Comparison::Newer | Comparison::Equal
    )
}

/// Folds the moves of a policy's references in an Environment, oldest first, into what is held now.
pub fn holds(policy: &ImagePolicy, moves: &[HeldMove]) -> Holds {
    let mut all: Vec<Hold> = Vec::new();
    for step in moves {
        let by_order = ordered(policy, &[&step.old, &step.new]);
        // Whoever brings a held value back, or goes beyond it, lifts the hold: a person, or the bot
        // asked to release. A request that was closed brings nothing.
        let brings = step.request.is_none();
        all.retain(|hold| {
            let beyond = match (by_order, hold.tag.as_deref()) {
                (true, Some(tag)) => standing(policy, tag, &step.new) == Comparison::Newer,
                (true, None) => not_below(policy, &hold.value, &step.new),
                (false, _) => false,
            };
            !(brings && (hold.value == step.new || beyond))
        });
        let taken_back = match by_order {
            _ if step.request.is_some() => true,
            true => standing(policy, &step.old, &step.new) == Comparison::Lower,
            false => unordered_back(policy, step),
        };
        if taken_back && !step.by_bot {
            let HeldMove {
                commit,
                author,
                time,
                old,
                new,
                tag,
                request,
                ..
            } = step.clone();
            all.push(Hold {
                value: old,
                instead: new,
                commit,
                author,
                time,
                tag,
                request,
            });
        }
    }
    Holds { all }
}

/// Where nothing orders the values, leaving one takes it back: of policies without order, and of
/// digests.
fn unordered_back(policy: &ImagePolicy, step: &HeldMove) -> bool {
    step.old != step.new
        && (matches!(policy.choice, PolicyKind::Newest | PolicyKind::Digest(_))
            || Digest::new(step.old.as_str()).is_ok())
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hold {
            value,
            instead,
            commit,
            author,
            time,
            ..
        } = self;
        let commit = &commit[..commit.len().min(10)];
        let author: String = author.chars().filter(|c| !c.is_control()).collect();
        if let Some(number) = self.request {
            return write!(
                f,
                "{author} closed request #{number} ({value}) on {}",
                time.strftime("%Y-%m-%d")
            );
        }
        write!(
            f,
            "{author} went back from {value} to {instead} in {commit} of {}",
            time.strftime("%Y-%m-%d")
        )
    }
}
