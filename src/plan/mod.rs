//! What is wanted + what is owned + what is live → what to do, and why; the same for `sync`, `sync
//! --dry-run` and the daemon.
//!
//! ```text
//! rendered objects ─▶ wanted ─▶ action (each object) ─▶ prune (when every object was applied)
//!                       ▲           ▲    ▲                ▲
//!                     Kinds    Inventory Live          Guards
//! ```
//!
//! Nothing here asks a cluster: whoever calls has watched it.

mod atoms;
mod inventory;
mod leaves;
mod prune;
mod shown;
mod wanted;
#[cfg(test)]
mod tests;

pub use atoms::{AllAtoms, Atoms, Place};
pub use inventory::{Applied, Entry, History, Inventory, Outcome, Rollout, text};
pub use leaves::{Books, Hash, Part, Path, each, of_all, of_live, of_manifest};
pub use prune::{Owner, Prune, Pruning, prune};
pub use shown::{masked, shown};
pub use wanted::{After, Kinds, OWNER, RECORD, Refused, Wanted, owner, wanted};

use crate::{
    name::Name,
    object::{Key, Ssa},
};

/// What is kept of a live object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Its identity.
    pub uid: String,
    /// Stands for what it has at the manifest's leaves; nothing where there is no manifest (any
    /// more).
    pub hash: Option<Hash>,
    /// Whose labels it carries.
    pub owner: Option<Name>,
    /// Whether it is on its way out.
    pub terminating: bool,
    /// Whether its annotations forbid to delete it: `prune: disabled`.
    pub keep: bool,
    /// Whether its annotations forbid to touch it: `reconcile: disabled`, as whoever is on call
    /// sets it.
    pub disabled: bool,
}

/// Who else lays claim to an object.
pub trait Claims {
    /// Whether an Application wants the object in the revision that is applied now; nothing while
    /// that is not known.
    fn wants(&self, application: &Name, key: &Key) -> Option<bool>;

    /// Other Applications of this process that want it now.
    fn wanted_by(&self, key: &Key) -> Vec<Name>;

    /// The Application whose record lies where the object would.
    fn record_of(&self, _: &Key) -> Option<Name> {
        None
    }
}

/// What to do with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send it.
    Apply(Why),
    /// Nothing is to be done.
    Leave(Left),
    /// Not yet, and why.
    Wait(String),
    /// Never as things are, and why.
    Refuse(String),
}

/// Why an object is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Why {
    /// It is not there.
    New,
    /// It was there, and somebody deleted it.
    Deleted,
    /// Its manifest changed.
    Changed,
    /// Somebody changed it.
    Drifted,
    /// It belonged to somebody else.
    Taken,
    /// It was sent before, and the answer was lost.
    Unanswered,
}

impl Why {
    /// In a word, for lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::New => "create",
            Why::Deleted => "create again",
            Why::Changed => "change",
            Why::Drifted => "repair",
            Why::Taken => "take over",
            Why::Unanswered => "apply again",
        }
    }

    /// Whether the cluster moved, not Git.
    pub fn is_drift(self) -> bool {
        matches!(self, Why::Deleted | Why::Drifted)
    }
}

/// Why an object is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Left {
    /// It is as it is wanted.
    InStep,
    /// `reconcile: disabled` or `ssa: Ignore` in Git.
    Disabled,
    /// `reconcile: disabled` on the live object.
    Frozen,
    /// `ssa: IfNotPresent`, and it is there.
    Present,
}

/// Whether an object is left to others as it is, so that nothing becomes of it here: who needs it
/// does not wait for that.
pub fn is_left(one: &Wanted, entry: Option<&Entry>, live: Option<&Live>) -> bool {
    let untouched = entry
        .and_then(|entry| entry.applied.as_ref())
        .is_some_and(|applied| applied.untouched);
    one.settings.reconcile_disabled
        || one.settings.ssa == Ssa::Ignore
        || live.is_some_and(|live| live.disabled)
        || (one.settings.ssa == Ssa::IfNotPresent && (live.is_some() || untouched))
}

/// What to do with one object.
pub fn action(
    application: &Name,
    one: &Wanted,
    entry: Option<&Entry>,
    live: Option<&Live>,
    claims: &dyn Claims,
) -> Action {
    if one.settings.reconcile_disabled || one.settings.ssa == Ssa::Ignore {
        return Action::Leave(Left::Disabled);
    }
    if let Some(of) = claims.record_of(&one.key) {
        return Action::Refuse(format!(
            "it has the name of tagboat's record of Application {of}; give it another one"
        ));
    }
    if live.is_some_and(|live| live.disabled) {
        return Action::Leave(Left::Frozen);
    }
    let others = claims.wanted_by(&one.key);
    match live.and_then(|live| live.owner.as_ref()) {
        Some(owner) if owner != application => match claims.wants(owner, &one.key) {
            Some(true) => {
                return Action::Refuse(format!(
                    "it belongs to Application {owner}, which wants it, too; remove it from one of them"
                ));
            }
            Some(false) => {}
            None => {
                return Action::Wait(format!(
                    "it belongs to Application {owner}, of which this revision has not been read yet"
                ));
            }
        },
        // Nobody owns it yet: the first by name gets it, so that two do not take it from each
        // other.
        None => {
            if let Some(first) = others.iter().filter(|other| *other < application).min() {
                return Action::Refuse(format!(
                    "Application {first} wants it, too, and comes first; remove it from one of them"
                ));
            }
        }
        _ => {}
    }
    // A kind that an object of the same Application declares is waited for there.
    if !one.known && one.after.is_empty() {
        return Action::Wait(format!("the cluster does not serve {} (yet)", one.gvk()));
    }
    let applied = entry.and_then(|entry| entry.applied.as_ref());
    match (live, applied) {
        (None, None) => Action::Apply(if entry.is_some() {
            Why::Unanswered
        } else {
            Why::New
        }),
        // No watch shows it, which says nothing of whether it is there.
        (None, Some(applied)) if applied.untouched => match one.settings.ssa {
            Ssa::IfNotPresent => Action::Leave(Left::Present),
            _ => Action::Apply(Why::Taken),
        },
        (None, Some(_)) => Action::Apply(Why::Deleted),
        (Some(live), _) if live.terminating => Action::Wait("it is being deleted".to_owned()),
        (Some(_), _) if one.settings.ssa == Ssa::IfNotPresent => Action::Leave(Left::Present),
        (Some(live), _) if live.owner.as_ref() != Some(application) => Action::Apply(Why::Taken),
        (Some(_), None) => Action::Apply(Why::Unanswered),
        (Some(_), Some(applied)) if applied.manifest != one.hash => Action::Apply(Why::Changed),
        (Some(live), Some(applied))
            if live.uid != applied.uid || live.hash != Some(applied.live) =>
        {
            Action::Apply(Why::Drifted)
        }
        _ => Action::Leave(Left::InStep),
    }
}
