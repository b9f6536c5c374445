//! The observation kept of a live object: hashes, health, released and changed fields. The object
//! itself is dropped.

use crate::{
    core::pointer::decode,
    objects::{
        health::{self, HealthOverTime, KindTraits, NEW_OBJECT_WINDOW, RunEnd},
        managed_fields,
        object::{CompactObject, Gvk, MANAGER, Object, ObjectKey},
        plan::{
            self, AppliedState, FieldOwnership, FieldPath, KindAtomicFields, LiveObject, ValueHash,
        },
        quantity,
    },
    spec::Ignore,
};
use jiff::Timestamp;
use serde_json::Value;
use std::{cmp::Ordering, sync::Arc};

/// A live object, reduced to what decisions need.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub live: LiveObject,
    pub version: String,
    /// Orders watch events and apply answers: an older one is dropped.
    pub resource_version: u64,
    pub health: HealthOverTime,
    /// How a Job or its like ended.
    pub ended: Option<RunEnd>,
    /// Leaves of the manifest that other managers may set.
    pub released: Vec<ReleasedField>,
    /// Leaves that differ from the answer to the last apply, with their managers.
    pub changed: Vec<ForeignChange>,
    /// The object itself, until it is judged for good: its manifest must be known, and the answer
    /// to its apply, which an event can overtake.
    pub raw: Option<Box<str>>,
}

/// A leaf of the manifest that another manager may set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReleasedField {
    pub path: FieldPath,
    /// The value to send: the live value while tagboat owns the field, because omitting it would
    /// delete it; nothing while another manager owns it.
    pub value: Option<Value>,
    /// The scaler, if the field is released because of a scale.
    pub scaled: Option<ScaledReplicas>,
    /// A remark, if the field is a volume that has grown.
    pub grown: Option<String>,
}

/// Replicas set through the scale subresource.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ScaledReplicas {
    manager: String,
    /// The value in Git.
    git: Value,
    differs: bool,
}

impl ScaledReplicas {
    /// Returns whether a user scaled, not an autoscaler.
    fn is_manual(&self) -> bool {
        self.manager.starts_with("kubectl")
    }
}

impl ReleasedField {
    /// Returns a remark if the live value differs from Git.
    pub(crate) fn note(&self) -> Option<String> {
        if self.grown.is_some() {
            return self.grown.clone();
        }
        let ScaledReplicas { manager, git, .. } =
            self.scaled.as_ref().filter(|scaled| scaled.differs)?;
        Some(format!(
            "spec.replicas is set by {manager} (scale), Git says {git}"
        ))
    }
}

pub(crate) fn replicas(manifest: &Object) -> Option<i32> {
    manifest
        .pointer("/spec/replicas")
        .and_then(Value::as_i64)
        .and_then(|replicas| replicas.try_into().ok())
}

/// Returns the fields that stay released when a manifest is sent. A change of the replicas in Git
/// overrides a manual scale; an autoscaler would set them again at once.
pub(crate) fn still_released(
    released: Vec<ReleasedField>,
    manifest: &Object,
    applied: Option<&AppliedState>,
) -> Vec<ReleasedField> {
    let before = applied.and_then(|applied| applied.replicas);
    let moved = before.is_some() && replicas(manifest).is_some_and(|now| Some(now) != before);
    released
        .into_iter()
        .filter(|released| {
            !(moved
                && released
                    .scaled
                    .as_ref()
                    .is_some_and(ScaledReplicas::is_manual))
        })
        .collect()
}

/// A leaf that another manager changed.
#[derive(
    Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct ForeignChange {
    pub path: String,
    /// The field manager, from `managedFields`.
    pub manager: Option<String>,
}

/// A manifest with everything needed to judge its live object.
#[derive(Debug, Clone)]
pub(crate) struct WatchedManifest {
    pub manifest: CompactObject,
    /// JSON pointers that the Application's `ignore` rules release.
    pub ignore: Arc<[String]>,
    /// The hash of the answer to the last apply.
    pub expected: Option<ValueHash>,
    /// The atomic fields that the last apply revealed.
    pub atomic_fields: KindAtomicFields,
}

/// Returns the JSON pointers of the `ignore` rules that match an object.
pub(crate) fn ignore_pointers(rules: &[Ignore], key: &ObjectKey) -> Arc<[String]> {
    let matches_object = |rule: &&Ignore| {
        let fits = |desired: &Option<String>, value: &str| {
            desired.as_ref().is_none_or(|desired| desired == value)
        };
        fits(&rule.group, &key.group)
            && fits(&rule.kind, &key.kind)
            && fits(
                &rule.namespace,
                key.namespace.as_deref().unwrap_or_default(),
            )
            && fits(&rule.name, &key.name)
    };
    // Most objects match no rule: they share the empty list.
    if !rules.iter().any(|rule| matches_object(&rule)) {
        return Arc::default();
    }
    rules
        .iter()
        .filter(matches_object)
        .flat_map(|rule| rule.pointers.iter().cloned())
        .collect()
}

/// Groups whose objects get their `caBundle` injected.
const CA_GROUPS: [&str; 3] = [
    "admissionregistration.k8s.io",
    "apiregistration.k8s.io",
    "apiextensions.k8s.io",
];

/// Returns whether a leaf is released: by rule, as scaled replicas, or as an injected certificate.
fn is_released(path: &FieldPath, ignore: &[String], scaled: bool, gvk: &Gvk) -> bool {
    ignore.iter().any(|pointer| path.is_below(pointer))
        || (scaled && path.is_below("/spec/replicas"))
        || (CA_GROUPS.contains(&gvk.group.as_str()) && path.to_string().ends_with("/caBundle"))
}

/// The size of a PersistentVolumeClaim.
const STORAGE: &str = "/spec/resources/requests/storage";

/// Returns whether a leaf is the size of a volume that is larger than in Git: it cannot shrink, so
/// every apply of Git's size is refused.
fn has_grown(path: &FieldPath, desired: &Value, live: Option<&Value>, gvk: &Gvk) -> bool {
    gvk.is("", "PersistentVolumeClaim")
        && path.is_below(STORAGE)
        && live.is_some_and(|live| quantity::compare(live, desired) == Some(Ordering::Greater))
}

/// Hashes the live values at the manifest's leaves, without released ones.
pub(crate) fn hash_observed(
    manifest: &Object,
    live: &Object,
    ignore: &[String],
    atomic_fields: &KindAtomicFields,
) -> ValueHash {
    let (scaled, gvk) = (managed_fields::scaled_by(live).is_some(), manifest.gvk());
    let atomic_fields = atomic_fields.not_reached_by(ignore);
    let ownership = FieldOwnership {
        atomic_fields: &atomic_fields,
        overwritten: &|path| is_overwritten(live, path),
    };
    plan::hash_live(
        manifest,
        live,
        ownership,
        &mut |path, desired, live_value| {
            is_released(path, ignore, scaled, &gvk) || has_grown(path, desired, live_value, &gvk)
        },
    )
}

fn grown_note(git: &Value, live: Option<&Value>) -> String {
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let live = live.map(text).unwrap_or_default();
    format!(
        "spec.resources.requests.storage is {live}, Git says {}; a volume cannot shrink, so it is left",
        text(git)
    )
}

/// Reduces a live object to an observation; judges it if its manifest is known.
pub(crate) fn observe(
    live: &Object,
    watched: Option<&WatchedManifest>,
    traits: KindTraits,
) -> Observed {
    let manifest = watched.and_then(|watched| Some((watched, watched.manifest.object().ok()?)));
    let (mut released, mut other) = (Vec::new(), Vec::new());
    let judged = manifest.map(|(watched, manifest)| {
        let (scaled_by, gvk) = (managed_fields::scaled_by(live), manifest.gvk());
        let atomic_fields = watched.atomic_fields.not_reached_by(&watched.ignore);
        let ownership = FieldOwnership {
            atomic_fields: &atomic_fields,
            overwritten: &|path| is_overwritten(live, path),
        };
        let hash = plan::hash_live(
            &manifest,
            live,
            ownership,
            &mut |path, desired, live_value| {
                let grown = has_grown(path, desired, live_value, &gvk);
                let theirs = grown || is_released(path, &watched.ignore, scaled_by.is_some(), &gvk);
                if theirs {
                    let value = live_value.filter(|_| is_ours(live, path)).cloned();
                    let scaled = scaled_by
                        .clone()
                        .filter(|_| !is_released(path, &watched.ignore, false, &gvk));
                    let scaled = scaled.map(|manager| ScaledReplicas {
                        manager,
                        git: desired.clone(),
                        differs: Some(desired) != live_value,
                    });
                    released.push(ReleasedField {
                        path: path.clone(),
                        value,
                        scaled: scaled.filter(|_| !grown),
                        grown: grown.then(|| grown_note(desired, live_value)),
                    });
                } else if Some(desired) != live_value {
                    other.push((path.clone(), live_value.is_some()));
                }
                theirs
            },
        );
        // A server may normalise values: a leaf counts as changed only if the hash differs too.
        let differs = watched.expected.is_some_and(|expected| expected != hash);
        other.retain(|(path, _)| differs && !is_ours(live, path));
        hash
    });
    let changed = other
        .iter()
        .map(|(path, live_value)| ForeignChange {
            path: path.to_string(),
            manager: last_manager(live, path, *live_value),
        })
        .collect();
    Observed {
        live: LiveObject {
            uid: live.uid().unwrap_or_default().to_owned(),
            hash: judged,
            owner: plan::owner(live),
            terminating: live.is_terminating(),
            retention: live.retention(),
            disabled: live.settings().reconcile_disabled,
        },
        version: live.gvk().version,
        resource_version: live
            .resource_version()
            .and_then(|version| version.parse().ok())
            .unwrap_or_default(),
        health: health::assess(live, traits).no_later_than(
            Timestamp::now()
                .checked_add(NEW_OBJECT_WINDOW)
                .unwrap_or(Timestamp::MAX),
        ),
        ended: health::run_end(live),
        released,
        changed,
        raw: match watched
            .filter(|_| judged.is_some())
            .and_then(|watched| watched.expected)
        {
            Some(_) => None,
            None => Some(Value::Object(live.value().clone()).to_string().into()),
        },
    }
}

/// Returns the leaves of a manifest that other managers have overwritten.
pub(crate) fn changed_by(
    manifest: &Object,
    live: &Object,
    ignore: &[String],
    atomic_fields: &KindAtomicFields,
) -> Vec<ForeignChange> {
    let (mut changed, gvk) = (Vec::new(), manifest.gvk());
    let scaled = managed_fields::scaled_by(live).is_some();
    let ownership = FieldOwnership {
        atomic_fields: &atomic_fields.not_reached_by(ignore),
        overwritten: &|path| is_overwritten(live, path),
    };
    plan::visit_leaves(
        manifest,
        live,
        ownership,
        &mut |path, desired, live_value| {
            if Some(desired) != live_value
                && !is_released(path, ignore, scaled, &gvk)
                && !has_grown(path, desired, live_value, &gvk)
                && !is_ours(live, path)
            {
                changed.push(ForeignChange {
                    path: path.to_string(),
                    manager: last_manager(live, path, live_value.is_some()),
                });
            }
        },
    );
    changed
}

fn is_ours(live: &Object, path: &FieldPath) -> bool {
    path.pointer_in(live).is_some_and(|pointer| {
        managed_fields::managers_of(live, &pointer)
            .iter()
            .any(|manager| manager.name == MANAGER)
    })
}

/// Returns whether another manager owns a whole map.
fn is_overwritten(live: &Object, path: &FieldPath) -> bool {
    path.pointer_in(live)
        .is_some_and(|pointer| managed_fields::is_overwritten(live, &pointer, MANAGER))
}

/// Returns the manager of a changed leaf; of a deleted leaf, the last writer of the object.
fn last_manager(live: &Object, path: &FieldPath, live_value: bool) -> Option<String> {
    let owner = || {
        managed_fields::managers_of(live, &path.pointer_in(live)?)
            .into_iter()
            .next()
    };
    match live_value {
        true => owner().map(|manager| manager.name),
        false => managed_fields::last_writer(live).map(|manager| manager.name),
    }
}

/// Returns the manifest as it is sent: released leaves carry their live value, or are left out.
pub(crate) fn outgoing(manifest: Object, released: &[ReleasedField]) -> Object {
    if released.is_empty() {
        return manifest;
    }
    let manifest_before = manifest.clone();
    let mut value = manifest.into_value();
    // From the last to the first, so that list indices stay valid.
    for ReleasedField {
        path, value: live, ..
    } in released.iter().rev()
    {
        let Some(pointer) = path.pointer_in(&manifest_before) else {
            continue;
        };
        let Some((above, last)) = pointer.rsplit_once('/') else {
            continue;
        };
        match (value.pointer_mut(above), live) {
            (Some(Value::Object(fields)), Some(live)) => {
                drop(fields.insert(decode(last).into_owned(), live.clone()))
            }
            (Some(Value::Object(fields)), None) => drop(fields.shift_remove(&*decode(last))),
            (Some(Value::Array(elements)), live) => {
                if let Some(index) = last
                    .parse::<usize>()
                    .ok()
                    .filter(|index| *index < elements.len())
                {
                    match live {
                        Some(live) => elements[index] = live.clone(),
                        None => drop(elements.remove(index)),
                    }
                }
            }
            _ => {}
        }
    }
    // A rule cannot remove what makes an object.
    Object::new(value)
        .map(|sent| match &manifest_before.origin {
            Some(origin) => sent.at(origin.clone()),
            None => sent,
        })
        .unwrap_or(manifest_before)
}
