//! The order of applies: waves of kinds, and dependencies between objects.

use super::desired_object::{ApplyOrder, CRD, DesiredObject, RefusedObject};
use crate::objects::object::{Gvk, Object, ObjectKey, ObjectSetting, PREFIX};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What an object declares about the order.
pub(super) struct OrderingHints {
    /// The text of `depends-on`.
    depends_on: String,
    /// The group and kind of a CRD.
    declares: Option<(String, String)>,
}

impl OrderingHints {
    pub(super) fn of(object: &Object) -> Self {
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let is_crd = object.gvk().is(CRD.0, CRD.1);
        Self {
            depends_on: ObjectSetting::DependsOn
                .of(object)
                .unwrap_or_default()
                .to_owned(),
            declares: if is_crd {
                text("/spec/group").zip(text("/spec/names/kind"))
            } else {
                None
            },
        }
    }
}

/// Returns the wave of a kind: referenced kinds first, webhooks and admission policies last. Kinds
/// of one wave have no order.
pub(crate) fn wave(gvk: &Gvk) -> u8 {
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Namespace") | CRD => 0,
        ("scheduling.k8s.io", _)
        | ("storage.k8s.io", _)
        | ("node.k8s.io", _)
        | ("networking.k8s.io", "IngressClass") => 0,
        ("rbac.authorization.k8s.io", _)
        | ("policy", _)
        | ("networking.k8s.io", "NetworkPolicy") => 1,
        (
            "",
            "ServiceAccount"
            | "Secret"
            | "ConfigMap"
            | "ResourceQuota"
            | "LimitRange"
            | "PersistentVolume"
            | "PersistentVolumeClaim",
        ) => 1,
        ("", "Service" | "Endpoints") | ("discovery.k8s.io", _) => 2,
        ("apps" | "batch", _) | ("", "Pod" | "ReplicationController") => 3,
        ("admissionregistration.k8s.io", _) | ("apiregistration.k8s.io", _) => 5,
        _ => 4,
    }
}

/// Resolves the dependencies of all objects; refuses those that cannot be resolved, with their
/// dependents.
pub(super) fn depend(
    desired: Vec<(DesiredObject, OrderingHints)>,
    places: &HashMap<ObjectKey, usize>,
    refused: &mut Vec<RefusedObject>,
) -> Vec<DesiredObject> {
    let (mut desired, hints): (Vec<DesiredObject>, Vec<OrderingHints>) =
        desired.into_iter().unzip();
    let mut reasons: BTreeMap<usize, String> = BTreeMap::new();
    for (index, after) in dependencies(&desired, &hints, places, &mut reasons)
        .into_iter()
        .enumerate()
    {
        desired[index].after = after;
    }
    for index in cyclic(&desired) {
        reasons
            .entry(index)
            .or_insert_with(|| format!("its {PREFIX}/depends-on forms a cycle"));
    }
    if reasons.is_empty() {
        return desired;
    }
    refuse_dependents(&desired, &mut reasons);
    remove_refused(desired, reasons, refused)
}

/// Returns what each object depends on: its Namespace, its CRD, and what `depends-on` names.
fn dependencies(
    desired: &[DesiredObject],
    hints: &[OrderingHints],
    places: &HashMap<ObjectKey, usize>,
    reasons: &mut BTreeMap<usize, String>,
) -> Vec<Vec<ApplyOrder>> {
    let namespaces: HashMap<&str, usize> = desired
        .iter()
        .enumerate()
        .filter(|(_, one)| one.key.group.is_empty() && one.key.kind == "Namespace")
        .map(|(index, one)| (one.key.name.as_str(), index))
        .collect();
    let kinds: HashMap<&(String, String), usize> = hints
        .iter()
        .enumerate()
        .filter_map(|(index, hints)| Some((hints.declares.as_ref()?, index)))
        .collect();
    let mut all = Vec::with_capacity(desired.len());
    for (index, (one, hints)) in desired.iter().zip(hints).enumerate() {
        let namespace = one.key.namespace.as_deref();
        let namespace = namespace.and_then(|namespace| namespaces.get(namespace));
        let crd = kinds.get(&(one.key.group.clone(), one.key.kind.clone()));
        let namespace = namespace.map(|index| ApplyOrder {
            index: *index,
            healthy: false,
        });
        let crd = crd.map(|index| ApplyOrder {
            index: *index,
            healthy: true,
        });
        let mut after: Vec<ApplyOrder> = namespace.into_iter().chain(crd).collect();
        let references = hints.depends_on.split(',').map(str::trim);
        for text in references.filter(|text| !text.is_empty()) {
            match dependency(text, index, places) {
                Ok(index) => after.push(ApplyOrder {
                    index,
                    healthy: true,
                }),
                Err(why) => drop(reasons.entry(index).or_insert(why)),
            }
        }
        all.push(after);
    }
    all
}

/// Resolves one reference of `depends-on`.
fn dependency(text: &str, own: usize, places: &HashMap<ObjectKey, usize>) -> Result<usize, String> {
    let Some(key) = reference(text) else {
        return Err(format!(
            "{PREFIX}/depends-on: write group/namespaces/NAMESPACE/Kind/name or group/Kind/name, not {text:?}"
        ));
    };
    let index = places.get(&key).copied().filter(|index| *index != own);
    index.ok_or_else(|| {
        format!("{PREFIX}/depends-on names {text:?}, which is no other object of this Application")
    })
}

/// Refuses the dependents of refused objects, transitively.
fn refuse_dependents(desired: &[DesiredObject], reasons: &mut BTreeMap<usize, String>) {
    loop {
        let next = desired.iter().enumerate().find_map(|(index, one)| {
            if reasons.contains_key(&index) {
                return None;
            }
            let missing = one
                .after
                .iter()
                .find(|after| reasons.contains_key(&after.index))?;
            let key = &desired[missing.index].key;
            Some((index, format!("it needs {key}, which cannot be applied")))
        });
        match next {
            Some((index, why)) => drop(reasons.insert(index, why)),
            None => return,
        }
    }
}

/// Moves refused objects out of the list, and renumbers the dependencies of the others.
fn remove_refused(
    desired: Vec<DesiredObject>,
    mut reasons: BTreeMap<usize, String>,
    refused: &mut Vec<RefusedObject>,
) -> Vec<DesiredObject> {
    let mut kept = 0;
    let new_indices: Vec<Option<usize>> = (0..desired.len())
        .map(|index| {
            let is_kept = !reasons.contains_key(&index);
            let new_index = is_kept.then_some(kept);
            kept += usize::from(is_kept);
            new_index
        })
        .collect();
    let mut remaining = Vec::with_capacity(kept);
    for (index, mut one) in desired.into_iter().enumerate() {
        if let Some(why) = reasons.remove(&index) {
            refused.push(RefusedObject {
                key: one.key,
                origin: one.manifest.origin,
                why,
            });
            continue;
        }
        one.after = one
            .after
            .into_iter()
            .filter_map(|after| new_indices[after.index].map(|index| ApplyOrder { index, ..after }))
            .collect();
        remaining.push(one);
    }
    remaining
}

/// Parses `apps/namespaces/shop/Deployment/web` or `rbac.authorization.k8s.io/ClusterRole/web`, the
/// form of `config.kubernetes.io/depends-on`; the core group is empty.
fn reference(text: &str) -> Option<ObjectKey> {
    let parts: Vec<&str> = text.split('/').collect();
    let (group, namespace, kind, name) = match parts.as_slice() {
        [group, "namespaces", namespace, kind, name] => {
            (group, Some((*namespace).to_owned()), kind, name)
        }
        [group, kind, name] => (group, None, kind, name),
        _ => return None,
    };
    Some(ObjectKey::new(*group, *kind, namespace, *name))
}

/// Returns the objects that depend on themselves. A lower wave counts as a dependency, so that a
/// Namespace cannot depend on an object in it.
fn cyclic(desired: &[DesiredObject]) -> Vec<usize> {
    // Remove what has no open dependency until nothing changes; the rest is in a cycle or behind
    // one.
    let mut left: HashSet<usize> = (0..desired.len()).collect();
    loop {
        let free: Vec<usize> = left
            .iter()
            .copied()
            .filter(|index| {
                !desired[*index]
                    .after
                    .iter()
                    .any(|after| left.contains(&after.index))
            })
            .collect();
        if free.is_empty() {
            break;
        }
        for index in free {
            left.remove(&index);
        }
    }
    // Behind a cycle, the cycle is the cause.
    let mut cyclic: Vec<usize> = left
        .iter()
        .copied()
        .filter(|start| {
            let (mut seen, mut open) = (HashSet::new(), vec![*start]);
            while let Some(index) = open.pop() {
                for after in &desired[index].after {
                    if after.index == *start {
                        return true;
                    }
                    if seen.insert(after.index) {
                        open.push(after.index);
                    }
                }
            }
            false
        })
        .collect();
    cyclic.sort_unstable();
    cyclic
}
