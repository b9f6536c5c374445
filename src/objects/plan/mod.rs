//! The plan: desired, owned and live objects → actions with reasons. The same for `sync`, `sync
//! --dry-run` and the daemon.
//!
//! ```text
//! rendered objects ─▶ desired ─▶ action (each object) ─▶ prune (when every object is applied)
//!                        ▲           ▲    ▲                 ▲
//!                   KindScopes Inventory LiveObject       guards
//! ```
//!
//! Nothing here sends a request: callers bring what they have watched.

mod atomic;
mod inventory;
mod order;
mod value_hash;
mod field_paths;
mod leaf_hashes;
mod prune;
mod redact;
mod desired;
mod desired_object;
#[cfg(test)]
mod tests;

pub use atomic::{AtomicFields, FieldPattern, KindAtomicFields};
pub use desired::{KindScopes, OWNER_LABELS, RECORD_LABEL, RECORD_PREFIX, desired_objects, owner};
pub use desired_object::{ApplyOrder, DesiredObject, RefusedObject};
pub use field_paths::{
    FieldOwnership, FieldPath, FieldStep, ListType, hash_all, hash_live, visit_leaves,
};
pub use inventory::{
    AppliedState, Confirmation, Inventory, InventoryEntry, LeftNamespaces, RemovalTerms, Rollout,
    RolloutHistory, RolloutOutcome, text,
};
pub use leaf_hashes::LeafHashes;
pub use prune::{ObjectOwner, PrunePlan, PruneTarget, plan_prune};
pub use redact::{mask_values, redact_pair};
pub use value_hash::{ValueHash, hash_manifest};

use crate::{
    core::name::Name,
    objects::{
        health::RunEnd,
        object::{ApplyMode, ObjectKey, Retention},
    },
};

/// What is kept of a live object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveObject {
    pub uid: String,
    /// The hash of its values at the manifest's leaves; `None` without a manifest.
    pub hash: Option<ValueHash>,
    /// The Application whose labels it carries.
    pub owner: Option<Name>,
    pub terminating: bool,
    /// What its annotations say about its deletion.
    pub retention: Retention,
    /// The same of the annotations that tagboat itself has applied.
    pub applied_retention: Retention,
    /// Whether the annotation `reconcile: disabled` freezes it, as an on-call engineer sets it.
    pub disabled: bool,
}

/// The claims of other Applications to an object.
pub trait ObjectClaims {
    /// Returns whether an Application desires an object at its current revision; `None` until that
    /// revision is read.
    fn claims(&self, application: &Name, key: &ObjectKey) -> Option<bool>;

    /// Returns the Applications of this process that desire an object.
    fn claimants(&self, key: &ObjectKey) -> Vec<Name>;

    /// Returns whether the repository of an Application is a tenant.
    fn is_tenant(&self, application: &Name) -> bool;

    /// Returns whether two Applications are known to belong to different repositories.
    fn are_foreign(&self, one: &Name, other: &Name) -> bool;
}

/// Returns whether an Application may take an object over from another one: a tenant takes nothing
/// from other repositories.
pub fn may_take_over(claims: &dyn ObjectClaims, application: &Name, owner: &Name) -> bool {
    !(claims.is_tenant(application) && claims.are_foreign(application, owner))
}

/// Returns why an Application does not get an object that its owner declares.
pub fn shared_claim_refusal(owner: &Name) -> String {
    format!("it belongs to Application {owner}, which declares it too; remove it from one of them")
}

/// Returns why a tenant does not get an object that another repository declares.
fn foreign_claimant_refusal(claimant: &Name) -> String {
    format!(
        "Application {claimant} of another repository declares it too, and comes before a tenant's"
    )
}

/// Returns why a tenant does not get an object of another repository.
pub fn foreign_owner_refusal(owner: &Name) -> String {
    format!(
        "it belongs to Application {owner} of another repository, from which a tenant takes nothing over"
    )
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectAction {
    Apply(ApplyReason),
    Leave(SkipReason),
    /// Not applied yet, with the reason.
    Wait(String),
    /// Not applied until something changes, with the reason.
    Refuse(String),
}

/// Why an object is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ApplyReason {
    /// It does not exist.
    New,
    /// It was deleted outside Git.
    Deleted,
    /// Its manifest changed.
    Changed,
    /// It was changed outside Git.
    Drifted,
    /// It belonged to another owner.
    Taken,
    /// It was sent before, and the answer was lost.
    Unanswered,
}

impl ApplyReason {
    /// Returns the action as a verb.
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

    /// Returns whether the cluster changed, not Git.
    pub fn is_drift(self) -> bool {
        matches!(self, ApplyReason::Deleted | ApplyReason::Drifted)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SkipReason {
    Synced,
    /// `reconcile: disabled` or `ssa: Ignore` in Git.
    Disabled,
    /// `reconcile: disabled` on the live object.
    Frozen,
    /// `ssa: IfNotPresent`, and it exists.
    Present,
    /// It ran under this manifest, ended, and is gone.
    Ended(RunEnd),
}

/// Returns whether an annotation of the live object freezes it.
fn is_frozen(one: &DesiredObject, live: Option<&LiveObject>) -> bool {
    one.honors_annotations && live.is_some_and(|live| live.disabled)
}

/// Returns whether an object is left as it is, so that dependents need not wait for its apply.
pub fn is_left_alone(
    one: &DesiredObject,
    entry: Option<&InventoryEntry>,
    live: Option<&LiveObject>,
) -> bool {
    let untouched = entry
        .and_then(|entry| entry.applied.as_ref())
        .is_some_and(|applied| applied.untouched);
    let has_completed =
        live.is_none() && entry.and_then(|entry| entry.ended(one.hash)) == Some(RunEnd::Completed);
    one.settings.reconcile_disabled
        || has_completed
        || one.settings.ssa == ApplyMode::Ignore
        || is_frozen(one, live)
        || (one.settings.ssa == ApplyMode::IfNotPresent && (live.is_some() || untouched))
}

/// Decides the action for one object.
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
    if is_frozen(one, live) {
        return ObjectAction::Leave(SkipReason::Frozen);
    }
    let others = claims.claimants(&one.key);
    match live.and_then(|live| live.owner.as_ref()) {
        Some(owner) if owner != application && !may_take_over(claims, application, owner) => {
            return ObjectAction::Refuse(foreign_owner_refusal(owner));
        }
        // A tenant keeps nothing from the platform.
        Some(owner) if owner != application && !may_take_over(claims, owner, application) => {}
        Some(owner) if owner != application => match claims.claims(owner, &one.key) {
            Some(true) => {
                return ObjectAction::Refuse(shared_claim_refusal(owner));
            }
            Some(false) => {}
            None => {
                return ObjectAction::Wait(format!(
                    "it belongs to Application {owner}, which has not been read at this revision yet"
                ));
            }
        },
        // Without an owner, the first claimant by name gets it, so that two do not overwrite each
        // other; tenants come last.
        None => {
            let rank = |name: &Name| (claims.is_tenant(name), name.clone());
            let own = rank(application);
            let earlier = others.iter().filter(|other| rank(other) < own);
            if let Some(first) = earlier.min_by_key(|other| rank(other)) {
                if !may_take_over(claims, application, first) {
                    return ObjectAction::Refuse(foreign_claimant_refusal(first));
                }
                return ObjectAction::Refuse(format!(
                    "Application {first} declares it too, and comes first by name; remove it from one of them"
                ));
            }
        }
        _ => {}
    }
    // A kind whose CRD belongs to the same Application is waited for as a dependency.
    if !one.served && one.after.is_empty() {
        return ObjectAction::Wait(format!("the cluster does not serve {} (yet)", one.gvk()));
    }
    let applied = entry.and_then(|entry| entry.applied.as_ref());
    match (live, applied) {
        (None, None) => ObjectAction::Apply(if entry.is_some() {
            ApplyReason::Unanswered
        } else {
            ApplyReason::New
        }),
        // It carries no labels of ours, so absence from the watch proves nothing.
        (None, Some(applied)) if applied.untouched => match one.settings.ssa {
            ApplyMode::IfNotPresent => ObjectAction::Leave(SkipReason::Present),
            _ => ObjectAction::Apply(ApplyReason::Taken),
        },
        (None, Some(applied)) if applied.manifest != one.hash => {
            ObjectAction::Apply(ApplyReason::New)
        }
        (None, Some(applied)) => match applied.ended {
            Some(RunEnd::Completed) => ObjectAction::Leave(SkipReason::Ended(RunEnd::Completed)),
            // Deleted by the user, it is to run again; deleted by the cluster, it would fail for
            // ever.
            Some(RunEnd::Failed) if one.expires => {
                ObjectAction::Leave(SkipReason::Ended(RunEnd::Failed))
            }
            _ => ObjectAction::Apply(ApplyReason::Deleted),
        },
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
