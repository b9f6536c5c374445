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

mod atomic;
mod inventory;
mod field_paths;
mod prune;
mod redact;
mod desired;
#[cfg(test)]
mod tests;

pub use atomic::{AtomicFields, FieldPattern, KindAtomicFields};
pub use desired::{
    ApplyOrder, DesiredObject, KindScopes, OWNER_LABELS, RECORD_LABEL, RefusedObject,
    desired_objects, owner,
};
pub use field_paths::{
    FieldOwnership, FieldPath, FieldStep, ValueHash, hash_all, hash_live, hash_manifest,
    visit_leaves,
};
pub use inventory::{
    AppliedState, Inventory, InventoryEntry, Rollout, RolloutHistory, RolloutOutcome, text,
};
pub use prune::{ObjectOwner, PrunePlan, PruneTarget, plan_prune};
pub use redact::{mask_values, redact_pair};

use crate::{
    core::name::Name,
    objects::object::{ApplyMode, ObjectKey},
};

/// What is kept of a live object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveObject {
    /// Its identity.
    pub uid: String,
    /// Stands for what it has at the manifest's leaves; nothing where there is no manifest (any
    /// more).
    pub hash: Option<ValueHash>,
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
pub trait ObjectClaims {
    /// Whether an Application wants the object in the revision that is applied now; nothing while
    /// that is not known.
    fn wants(&self, application: &Name, key: &ObjectKey) -> Option<bool>;

    /// Other Applications of this process that want it now.
    fn wanted_by(&self, key: &ObjectKey) -> Vec<Name>;

    /// The Application whose record lies where the object would.
    fn record_of(&self, _: &ObjectKey) -> Option<Name> {
        None
    }
}

/// What to do with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectAction {
    /// Send it.
    Apply(ApplyReason),
    /// Nothing is to be done.
    Leave(SkipReason),
    /// Not yet, and why.
    Wait(String),
    /// Never as things are, and why.
    Refuse(String),
}

/// Why an object is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ApplyReason {
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

impl ApplyReason {
    /// In a word, for lines.
    pub fn as_str(self) -> &'static str {
        match self {
            ApplyReason::New => "create",
            ApplyReason::Deleted => "create again",
            ApplyReason::Changed => "change",
            ApplyReason::Drifted => "repair",
            ApplyReason::Taken => "take over",
            ApplyReason::Unanswered => "apply again",
        }
    }

    /// Whether the cluster moved, not Git.
    pub fn is_drift(self) -> bool {
        matches!(self, ApplyReason::Deleted | ApplyReason::Drifted)
    }
}

/// Why an object is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// It is as it is wanted.
    Synced,
    /// `reconcile: disabled` or `ssa: Ignore` in Git.
    Disabled,
    /// `reconcile: disabled` on the live object.
    Frozen,
    /// `ssa: IfNotPresent`, and it is there.
    Present,
}

/// Whether an object is left to others as it is, so that nothing becomes of it here: who needs it
/// does not wait for that.
pub fn is_left_alone(
    one: &DesiredObject,
    entry: Option<&InventoryEntry>,
    live: Option<&LiveObject>,
) -> bool {
    let untouched = entry
        .and_then(|entry| entry.applied.as_ref())
        .is_some_and(|applied| applied.untouched);
    one.settings.reconcile_disabled
        || one.settings.ssa == ApplyMode::Ignore
        || live.is_some_and(|live| live.disabled)
        || (one.settings.ssa == ApplyMode::IfNotPresent && (live.is_some() || untouched))
}

/// What to do with one object.
pub fn decide_action(
    application: &Name,
    one: &DesiredObject,
    entry: Option<&InventoryEntry>,
    live: Option<&LiveObject>,
    claims: &dyn ObjectClaims,
) -> ObjectAction {
    if one.settings.reconcile_disabled || one.settings.ssa == ApplyMode::Ignore {
        return ObjectAction::Leave(SkipReason::Disabled);
    }
    if let Some(of) = claims.record_of(&one.key) {
        return ObjectAction::Refuse(format!(
            "it has the name of tagboat's record of Application {of}; give it another one"
        ));
    }
    if live.is_some_and(|live| live.disabled) {
        return ObjectAction::Leave(SkipReason::Frozen);
    }
    let others = claims.wanted_by(&one.key);
    match live.and_then(|live| live.owner.as_ref()) {
        Some(owner) if owner != application => match claims.wants(owner, &one.key) {
            Some(true) => {
                return ObjectAction::Refuse(format!(
                    "it belongs to Application {owner}, which wants it, too; remove it from one of them"
                ));
            }
            Some(false) => {}
            None => {
                return ObjectAction::Wait(format!(
                    "it belongs to Application {owner}, of which this revision has not been read yet"
                ));
            }
        },
        // Nobody owns it yet: the first by name gets it, so that two do not take it from each
        // other.
        None => {
            if let Some(first) = others.iter().filter(|other| *other < application).min() {
                return ObjectAction::Refuse(format!(
                    "Application {first} wants it, too, and comes first; remove it from one of them"
                ));
            }
        }
        _ => {}
    }
    // A kind that an object of the same Application declares is waited for there.
    if !one.known && one.after.is_empty() {
        return ObjectAction::Wait(format!("the cluster does not serve {} (yet)", one.gvk()));
    }
    let applied = entry.and_then(|entry| entry.applied.as_ref());
    match (live, applied) {
        (None, None) => ObjectAction::Apply(if entry.is_some() {
            ApplyReason::Unanswered
        } else {
            ApplyReason::New
        }),
        // No watch shows it, which says nothing of whether it is there.
        (None, Some(applied)) if applied.untouched => match one.settings.ssa {
            ApplyMode::IfNotPresent => ObjectAction::Leave(SkipReason::Present),
            _ => ObjectAction::Apply(ApplyReason::Taken),
        },
        (None, Some(_)) => ObjectAction::Apply(ApplyReason::Deleted),
        (Some(live), _) if live.terminating => ObjectAction::Wait("it is being deleted".to_owned()),
        (Some(_), _) if one.settings.ssa == ApplyMode::IfNotPresent => {
            ObjectAction::Leave(SkipReason::Present)
        }
        (Some(live), _) if live.owner.as_ref() != Some(application) => {
            ObjectAction::Apply(ApplyReason::Taken)
        }
        (Some(_), None) => ObjectAction::Apply(ApplyReason::Unanswered),
        (Some(_), Some(applied)) if applied.manifest != one.hash => {
            ObjectAction::Apply(ApplyReason::Changed)
        }
        (Some(live), Some(applied))
            if live.uid != applied.uid || live.hash != Some(applied.live) =>
        {
            ObjectAction::Apply(ApplyReason::Drifted)
        }
        _ => ObjectAction::Leave(SkipReason::Synced),
    }
}
