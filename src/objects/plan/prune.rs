//! What becomes of owned objects that are no longer desired: deleted, dropped, handed over, or
//! confirmed by the user first.

use super::{
    Inventory, LiveObject, desired::OWNER_LABELS, desired_object::DesiredObject, order::wave,
};
use crate::{
    core::name::Name,
    objects::{
        object::{DeletionRule, Gvk, ObjectKey},
        tenancy,
    },
    spec::rights::RepositoryRights,
};
use std::{borrow::Cow, cmp::Reverse, collections::HashSet};

/// An object to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneTarget {
    pub key: ObjectKey,
    /// The API version it was applied in.
    pub version: String,
    /// A precondition of the deletion.
    pub uid: String,
    /// The annotation by which it asks for a confirmation.
    pub asks: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PrunePlan {
    /// Objects to delete, in this order.
    pub delete: Vec<PruneTarget>,
    /// Objects that are no longer owned: gone, owned by others, or kept for the given reason.
    pub drop: Vec<(ObjectKey, Option<String>)>,
    /// Absent objects whose apply was never answered, so that the API server may still create
    /// them.
    pub unanswered: Vec<ObjectKey>,
    /// Objects whose deletion has begun.
    pub terminating: Vec<ObjectKey>,
    /// Objects that another Application desires, whose apply will take them over.
    pub handed_over: Vec<ObjectKey>,
    /// Why the user must confirm the deletions first.
    pub confirmation: Option<String>,
}

/// The owner of the objects, and what it declares about deletions.
#[derive(Debug, Clone, Copy)]
pub struct ObjectOwner<'a> {
    pub application: &'a Name,
    /// Whether objects that vanish from Git are deleted; for a removed Application, whether its
    /// deletion policy is Delete.
    pub prune: bool,
    /// Whether the Application was removed; then rendering nothing needs no confirmation.
    pub deleting: bool,
    /// The applied revision. A confirmation is valid for one revision.
    pub revision: &'a str,
    /// The namespace of the records, which is never deleted.
    pub own_namespace: &'a str,
    /// The rights of its repository, and the cluster on which they count.
    pub rights: &'a RepositoryRights,
    pub cluster: &'a str,
}

impl ObjectOwner<'_> {
    fn honors_annotations(&self) -> bool {
        self.rights.honors_live_annotations(self.cluster)
    }
}

/// Plans what becomes of owned objects that are no longer desired.
///
/// `live` knows every object with the labels of this owner.
pub fn plan_prune<'l>(
    owner: ObjectOwner<'_>,
    desired: &[DesiredObject],
    inventory: &Inventory,
    live: impl Fn(&ObjectKey) -> Option<&'l LiveObject>,
    is_claimed_elsewhere: impl Fn(&ObjectKey) -> bool,
) -> PrunePlan {
    let desired_keys: HashSet<&ObjectKey> = desired.iter().map(|one| &one.key).collect();
    let mut plan = PrunePlan::default();
    for (key, entry) in inventory
        .entries
        .iter()
        .filter(|(key, _)| !desired_keys.contains(key))
    {
        let Some(live) = live(key) else {
            match entry.applied {
                None => plan.unanswered.push(key.clone()),
                Some(_) => plan.drop.push((key.clone(), None)),
            }
            continue;
        };
        if live.owner.as_ref() != Some(owner.application) {
            plan.drop.push((key.clone(), None));
        } else if is_claimed_elsewhere(key) {
            plan.handed_over.push(key.clone());
        } else if live.terminating {
            plan.terminating.push(key.clone());
        } else {
            let uid = entry.applied.as_ref().map(|applied| applied.uid.as_str());
            match kept(owner, key, live, uid) {
                Some(why) => {
                    let why = format!("it stays in the cluster: {why}");
                    plan.drop.push((key.clone(), Some(why)));
                }
                None => plan.delete.push(PruneTarget {
                    key: key.clone(),
                    version: entry.version.clone(),
                    uid: live.uid.clone(),
                    asks: match deletion_rule(owner, live) {
                        DeletionRule::Confirmed(asks) => Some(asks),
                        _ => None,
                    },
                }),
            }
        }
    }
    keep_containers(&mut plan);
    // The reverse of the apply order; within a wave by name, so that every run does the same.
    plan.delete.sort_by_key(|object| {
        let gvk = Gvk {
            group: object.key.group.clone(),
            version: object.version.clone(),
            kind: object.key.kind.clone(),
        };
        (Reverse(wave(&gvk)), object.key.clone())
    });
    plan.confirmation = confirmation(&GuardInput {
        owner,
        inventory,
        delete: &plan.delete,
        renders_nothing: desired.is_empty(),
    });
    plan
}

/// Returns why an object stays in the cluster.
fn kept(
    owner: ObjectOwner<'_>,
    key: &ObjectKey,
    live: &LiveObject,
    uid: Option<&str>,
) -> Option<Cow<'static, str>> {
    let is_namespace = key.group.is_empty() && key.kind == "Namespace";
    let why = if is_namespace && key.name == owner.own_namespace {
        "it holds the records of all Applications"
    } else if let Some(why) = tenancy::object_refusal(owner.rights, owner.cluster, key) {
        return Some(why.into());
    } else if !owner.prune {
        "prune is not set"
    } else if live.disabled && owner.honors_annotations() {
        "reconcile: disabled"
    } else if let DeletionRule::Kept(words) = deletion_rule(owner, live) {
        words
    } else if uid.is_some_and(|uid| uid != live.uid) {
        "it was re-created outside Git"
    } else {
        return None;
    };
    Some(why.into())
}

fn deletion_rule(owner: ObjectOwner<'_>, live: &LiveObject) -> DeletionRule {
    let retention = if owner.honors_annotations() {
        live.retention
    } else {
        live.applied_retention
    };
    if owner.deleting {
        retention.delete
    } else {
        retention.prune
    }
}

/// Keeps the Namespaces and CRDs of kept objects, which would be deleted with them.
fn keep_containers(plan: &mut PrunePlan) {
    let reasons = plan.drop.iter().filter(|(_, why)| why.is_some());
    let kept: Vec<ObjectKey> = reasons.map(|(key, _)| key.clone()).collect();
    if kept.is_empty() {
        return;
    }
    let targets = std::mem::take(&mut plan.delete);
    for target in targets {
        match kept.iter().find(|inner| contains(&target.key, inner)) {
            Some(inner) => {
                let why = format!("it stays in the cluster: {inner} in it stays");
                plan.drop.push((target.key, Some(why)));
            }
            None => plan.delete.push(target),
        }
    }
}

/// Returns whether the deletion of an object deletes another one: a Namespace what is in it, a CRD
/// the objects of its group.
fn contains(outer: &ObjectKey, inner: &ObjectKey) -> bool {
    match (outer.group.as_str(), outer.kind.as_str()) {
        ("", "Namespace") => inner.namespace.as_ref() == Some(&outer.name),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            let group = outer.name.split_once('.').map(|(_, group)| group);
            group == Some(inner.group.as_str())
        }
        _ => false,
    }
}

/// The facts that decide whether deletions need a confirmation.
pub(crate) struct GuardInput<'a> {
    pub owner: ObjectOwner<'a>,
    pub inventory: &'a Inventory,
    pub delete: &'a [PruneTarget],
    pub renders_nothing: bool,
}

/// A condition under which deletions need a confirmation.
pub(crate) struct PruneGuard {
    pub name: &'static str,
    pub message: fn(&GuardInput<'_>) -> Option<String>,
}

/// Guards about the extent of the deletions; the first that applies is reported.
pub(crate) const EXTENT_GUARDS: [PruneGuard; 4] = [
    PruneGuard {
        name: "removed",
        message: |input| {
            let guard = input.inventory.delete_guard.as_ref()?;
            let objects = count_objects(input.delete.len());
            input
                .owner
                .deleting
                .then(|| format!("{guard}, and {objects} would be deleted"))
        },
    },
    PruneGuard {
        name: "empty",
        message: |input| {
            let objects = count_objects(input.delete.len());
            (input.renders_nothing && !input.owner.deleting)
                .then(|| format!("nothing is rendered any more, and {objects} would be deleted"))
        },
    },
    PruneGuard {
        name: "cascade",
        message: |input| {
            let keys = input.delete.iter().map(|object| &object.key);
            let cascading: Vec<&ObjectKey> = keys.filter(|key| cascades(key)).collect();
            let named = name_objects(&cascading, NAMED_CASCADES);
            (!cascading.is_empty())
                .then(|| format!("{named} would be deleted with everything in them"))
        },
    },
    PruneGuard {
        name: "majority",
        message: |input| {
            let deletions = input.delete.len();
            // Objects created by this revision are no part of what there was.
            let all = input.inventory.objects.unwrap_or_default().max(deletions);
            let objects = count_objects(deletions);
            (!input.owner.deleting && deletions > FEW && deletions * 2 > all)
                .then(|| format!("{objects} of {all} would be deleted"))
        },
    },
];

/// A guard about objects that no inventory has ever named: their labels may be copies.
pub(crate) const RECOVERED_GUARD: PruneGuard = PruneGuard {
    name: "recovered",
    message: |input| {
        let keys = input.delete.iter().map(|object| &object.key);
        let recovered: Vec<&ObjectKey> = keys
            .filter(|key| input.inventory.recovered.contains(key))
            .collect();
        let named = name_objects(&recovered, NAMED_RECOVERED);
        (!recovered.is_empty()).then(|| {
            format!(
                "{named} would be deleted, known by labels alone since a record was lost; remove the label {} from what is to stay",
                OWNER_LABELS[1]
            )
        })
    },
};

/// A guard about objects that ask for a confirmation themselves.
pub(crate) const ASKING_GUARD: PruneGuard = PruneGuard {
    name: "asking",
    message: |input| {
        let asking: Vec<&PruneTarget> = input
            .delete
            .iter()
            .filter(|target| target.asks.is_some())
            .collect();
        let words = asking.first()?.asks?;
        let keys: Vec<&ObjectKey> = asking.iter().map(|target| &target.key).collect();
        let named = name_objects(&keys, NAMED_CASCADES);
        Some(format!("{named} would be deleted, with {words}"))
    },
};

/// Deletions that need no confirmation even if they are most of the objects.
const FEW: usize = 10;

const NAMED_CASCADES: usize = 3;

const NAMED_RECOVERED: usize = 20;

/// Kinds whose deletion deletes what they contain.
const CASCADING_KINDS: [(&str, &str); 3] = [
    ("", "Namespace"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("", "PersistentVolumeClaim"),
];

fn cascades(key: &ObjectKey) -> bool {
    CASCADING_KINDS.contains(&(key.group.as_str(), key.kind.as_str()))
}

/// Returns why deletions need a confirmation, unless the user gave it for these of this revision.
fn confirmation(input: &GuardInput<'_>) -> Option<String> {
    if input.delete.is_empty() {
        return None;
    }
    let confirmed = input.inventory.confirmed.as_ref();
    let keys = || input.delete.iter().map(|target| &target.key);
    if confirmed.is_some_and(|given| given.covers(input.owner.revision, keys())) {
        return None;
    }
    let reasons: Vec<String> = raised_guards(input)
        .into_iter()
        .map(|(_, message)| message)
        .collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Returns the names and messages of the guards that apply.
pub(crate) fn raised_guards(input: &GuardInput<'_>) -> Vec<(&'static str, String)> {
    let raised = |guard: &PruneGuard| Some((guard.name, (guard.message)(input)?));
    let extent = EXTENT_GUARDS.iter().find_map(raised);
    extent
        .into_iter()
        .chain(raised(&RECOVERED_GUARD))
        .chain(raised(&ASKING_GUARD))
        .collect()
}

/// Names the first objects, and counts the others.
fn name_objects(keys: &[&ObjectKey], limit: usize) -> String {
    let named = keys.iter().take(limit).map(ToString::to_string);
    let named = named.collect::<Vec<_>>().join(", ");
    match keys.len().saturating_sub(limit) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn count_objects(count: usize) -> String {
    if count == 1 {
        "1 object".to_owned()
    } else {
        format!("{count} objects")
    }
}
