//! Which objects that are owned and no longer wanted go, which stay, and when somebody must say yes
//! first.

use super::{
    Inventory, LiveObject,
    desired::{DesiredObject, OWNER_LABELS},
};
use crate::{
    core::name::Name,
    objects::object::{Gvk, ObjectKey},
};
use std::collections::HashSet;

/// An object to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneTarget {
    /// Which.
    pub key: ObjectKey,
    /// The version it was applied in.
    pub version: String,
    /// The identity it must still have.
    pub uid: String,
}

/// What becomes of objects that are no longer wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PrunePlan {
    /// Deleted, in this order.
    pub delete: Vec<PruneTarget>,
    /// Owned no longer: they are gone, or somebody else's, or stay for the reason given.
    pub drop: Vec<(ObjectKey, Option<String>)>,
    /// Not there; but they were sent, and nobody knows what the server did with that: it may still
    /// do it.
    pub unanswered: Vec<ObjectKey>,
    /// On their way out already.
    pub going: Vec<ObjectKey>,
    /// Still ours, and wanted by somebody else, whose apply will make them theirs.
    pub handed: Vec<ObjectKey>,
    /// Nothing is deleted before somebody says yes, and why.
    pub needs_yes: Option<String>,
}

/// Objects beyond which a prune of more than half of everything needs a yes.
const MANY: usize = 10;

/// What is the same whenever objects of a kind go: with them goes what lies in them.
const PRECIOUS: [(&str, &str); 3] = [
    ("", "Namespace"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("", "PersistentVolumeClaim"),
];

/// Whether deleting an object of the kind deletes more than itself.
fn precious(key: &ObjectKey) -> bool {
    PRECIOUS.contains(&(key.group.as_str(), key.kind.as_str()))
}

/// Whose objects they are, and what is declared about deleting them.
#[derive(Debug, Clone, Copy)]
pub struct ObjectOwner<'a> {
    /// The Application.
    pub application: &'a Name,
    /// Whether it deletes what vanishes; for one that is being deleted, whether its policy is
    /// Delete.
    pub prune: bool,
    /// Whether it is being deleted itself: then nothing more is rendered, and that needs no yes.
    pub deleting: bool,
    /// The revision that is applied; a yes counts for it alone.
    pub revision: &'a str,
}

/// Works out what becomes of what is owned and no longer wanted. `live` has every object with this
/// owner's labels; `elsewhere` says whether another Application wants an object.
pub fn plan_prune<'l>(
    owner: ObjectOwner<'_>,
    desired: &[DesiredObject],
    inventory: &Inventory,
    live: impl Fn(&ObjectKey) -> Option<&'l LiveObject>,
    elsewhere: impl Fn(&ObjectKey) -> bool,
) -> PrunePlan {
    let ObjectOwner {
        application,
        prune,
        deleting,
        revision,
    } = owner;
    let keep: HashSet<&ObjectKey> = desired.iter().map(|one| &one.key).collect();
    let mut pruning = PrunePlan::default();
    for (key, entry) in inventory
        .entries
        .iter()
        .filter(|(key, _)| !keep.contains(key))
    {
        let known = entry.applied.as_ref().map(|applied| applied.uid.as_str());
        match live(key) {
            None if entry.applied.is_none() => pruning.unanswered.push(key.clone()),
            None => pruning.drop.push((key.clone(), None)),
            Some(live) if live.owner.as_ref() != Some(application) => {
                pruning.drop.push((key.clone(), None))
            }
            Some(_) if elsewhere(key) => pruning.handed.push(key.clone()),
            Some(live) if live.terminating => pruning.going.push(key.clone()),
            Some(_) if !prune => pruning.drop.push((
                key.clone(),
                Some("it stays in the cluster: prune is not set".to_owned()),
            )),
            Some(live) if live.disabled => pruning.drop.push((
                key.clone(),
                Some("it stays in the cluster: reconcile: disabled".to_owned()),
            )),
            Some(live) if live.keep => pruning.drop.push((
                key.clone(),
                Some("it stays in the cluster: prune: disabled".to_owned()),
            )),
            Some(live) if known.is_some_and(|uid| uid != live.uid) => {
                pruning.drop.push((
                    key.clone(),
                    Some("it stays in the cluster: somebody has created it anew".to_owned()),
                ));
            }
            Some(live) => {
                pruning.delete.push(PruneTarget {
                    key: key.clone(),
                    version: entry.version.clone(),
                    uid: live.uid.clone(),
                });
            }
        }
    }
    // Against the order of applying; of one wave by name, so that two runs do the same.
    pruning.delete.sort_by_key(|prune| {
        let gvk = Gvk {
            group: prune.key.group.clone(),
            version: prune.version.clone(),
            kind: prune.key.kind.clone(),
        };
        (
            std::cmp::Reverse(super::desired::wave(&gvk)),
            prune.key.clone(),
        )
    });
    if inventory.confirmed.as_deref() != Some(revision) {
        let whole = doubts(
            desired.is_empty() && !deleting,
            inventory,
            &pruning.delete,
            deleting,
        );
        let all = [whole, strange(inventory, &pruning.delete)];
        let all: Vec<String> = all.into_iter().flatten().collect();
        pruning.needs_yes = (!all.is_empty()).then(|| all.join("; "));
    }
    pruning
}

/// Objects named where only their labels say whose they are.
const LISTED: usize = 20;

/// Objects that no inventory has ever named are listed: somebody else may have copied the labels.
fn strange(inventory: &Inventory, delete: &[PruneTarget]) -> Option<String> {
    let found: Vec<String> = delete
        .iter()
        .filter(|prune| inventory.found.contains(&prune.key))
        .map(|prune| prune.key.to_string())
        .collect();
    let more = found.len().saturating_sub(LISTED);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    (!found.is_empty()).then(|| {
        let named = found.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
        format!(
            "{named}{more} would be deleted, known by labels alone since a record was lost; take the label {} off what is to stay",
            OWNER_LABELS[1]
        )
    })
}

/// Why a prune is not done without a yes.
fn doubts(
    empty: bool,
    inventory: &Inventory,
    delete: &[PruneTarget],
    deleting: bool,
) -> Option<String> {
    // What was just created is no part of what there was.
    let all = inventory.objects.unwrap_or_default().max(delete.len());
    let treasures: Vec<String> = delete
        .iter()
        .filter(|prune| precious(&prune.key))
        .map(|prune| prune.key.to_string())
        .collect();
    if delete.is_empty() {
        None
    } else if let Some(doubt) = inventory.doubt.as_ref().filter(|_| deleting) {
        Some(format!(
            "{doubt}, and {} would be deleted",
            counted(delete.len())
        ))
    } else if empty {
        Some(format!(
            "nothing is rendered any more, and {} would be deleted",
            counted(delete.len())
        ))
    } else if !treasures.is_empty() {
        let named = treasures
            .iter()
            .take(3)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        let more = treasures.len().saturating_sub(3);
        Some(format!(
            "{named}{} would be deleted with all that is in them",
            if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            }
        ))
    } else if !deleting && delete.len() > MANY && delete.len() * 2 > all {
        Some(format!(
            "{} of {all} would be deleted",
            counted(delete.len())
        ))
    } else {
        None
    }
}

fn counted(count: usize) -> String {
    if count == 1 {
        "1 object".to_owned()
    } else {
        format!("{count} objects")
    }
}
