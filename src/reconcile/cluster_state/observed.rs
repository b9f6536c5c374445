//! What is kept of a live object: hashes, health, and which fields are left to others. The object
//! itself is dropped.

use crate::{
    objects::{
        health::{self, Health},
        managed_fields,
        object::{CompactObject, Gvk, MANAGER, Object, ObjectKey},
        plan::{
            self, AppliedState, FieldOwnership, FieldPath, KindAtomicFields, LiveObject, ValueHash,
        },
    },
    spec::Ignore,
};
use serde_json::Value;
use std::sync::Arc;

/// A live object, as far as it matters.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub live: LiveObject,
    /// The version it is served in.
    pub version: String,
    /// The server's version of it; an event that is older than an answer is no news.
    pub at: u64,
    pub health: Health,
    /// Leaves of the manifest that are left to others.
    pub held: Vec<ReleasedField>,
    /// Leaves that differ from what was answered to the last apply, with who changed them.
    pub changed: Vec<ForeignChange>,
    /// The object itself, as long as it cannot be judged for good: until its manifest is known, and
    /// the answer to an apply of it, which an event can overtake.
    pub raw: Option<Box<str>>,
}

/// A leaf that others may change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReleasedField {
    pub path: FieldPath,
    /// What is sent in its place: the live value while the field is ours (leaving it out would
    /// delete it), nothing while it is somebody else's.
    pub value: Option<Value>,
    /// Whoever scales, if it is for that that it is left to others.
    pub scaled: Option<ScaledReplicas>,
}

/// Replicas that somebody set through the scale subresource.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ScaledReplicas {
    manager: String,
    /// What Git says.
    git: Value,
    /// Whether that is something else than what is live.
    differs: bool,
}

impl ScaledReplicas {
    /// Whether a person scaled, not a program that goes on doing so.
    fn by_hand(&self) -> bool {
        self.manager.starts_with("kubectl")
    }
}

impl ReleasedField {
    /// That what Git says does not count, in words.
    pub fn note(&self) -> Option<String> {
        let ScaledReplicas { manager, git, .. } =
            self.scaled.as_ref().filter(|scaled| scaled.differs)?;
        Some(format!(
            "spec.replicas is left to {manager} (scale); Git says {git}"
        ))
    }
}

/// The replicas that a manifest names.
pub(crate) fn replicas(manifest: &Object) -> Option<i32> {
    manifest
        .pointer("/spec/replicas")
        .and_then(Value::as_i64)
        .and_then(|replicas| replicas.try_into().ok())
}

/// What is still left to others when a manifest is sent: a change of the replicas in Git wins over
/// a person's scale. An autoscaler would be back at once.
pub(crate) fn still_held(
    held: Vec<ReleasedField>,
    manifest: &Object,
    applied: Option<&AppliedState>,
) -> Vec<ReleasedField> {
    let before = applied.and_then(|applied| applied.replicas);
    let moved = before.is_some() && replicas(manifest).is_some_and(|now| Some(now) != before);
    held.into_iter()
        .filter(|held| !(moved && held.scaled.as_ref().is_some_and(ScaledReplicas::by_hand)))
        .collect()
}

/// A leaf that somebody changed.
#[derive(
    Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct ForeignChange {
    /// Where.
    pub path: String,
    /// Who, by the server's books.
    pub manager: Option<String>,
}

/// A manifest with what is needed to judge its live object.
#[derive(Debug, Clone)]
pub(crate) struct WatchedManifest {
    pub manifest: CompactObject,
    /// Pointers that the Application's rules ignore.
    pub ignore: Arc<[String]>,
    /// What the last apply answered.
    pub expected: Option<ValueHash>,
    /// What the last apply showed to be one value.
    pub atoms: KindAtomicFields,
}

/// The pointers of the rules that mean this object.
pub(crate) fn ignored(rules: &[Ignore], key: &ObjectKey) -> Arc<[String]> {
    let means = |rule: &&Ignore| {
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
    // Most objects have no rule: the empty list is the same for all of them.
    if !rules.iter().any(|rule| means(&rule)) {
        return Arc::default();
    }
    rules
        .iter()
        .filter(means)
        .flat_map(|rule| rule.pointers.iter().cloned())
        .collect()
}

/// Groups whose objects get their `caBundle` from others.
const CA_GROUPS: [&str; 3] = [
    "admissionregistration.k8s.io",
    "apiregistration.k8s.io",
    "apiextensions.k8s.io",
];

/// Whether a leaf is left to others: by rule; replicas that an autoscaler sets; certificates that
/// are injected.
fn left_to_others(path: &FieldPath, ignore: &[String], scaled: bool, gvk: &Gvk) -> bool {
    ignore.iter().any(|pointer| path.is_below(pointer))
        || (scaled && path.is_below("/spec/replicas"))
        || (CA_GROUPS.contains(&gvk.group.as_str()) && path.to_string().ends_with("/caBundle"))
}

/// Stands for what `live` has at the manifest's leaves, without those that are left to others.
pub(crate) fn hash(
    manifest: &Object,
    live: &Object,
    ignore: &[String],
    atoms: &KindAtomicFields,
) -> ValueHash {
    let (scaled, gvk) = (managed_fields::scaled_by(live).is_some(), manifest.gvk());
    let atoms = atoms.not_reached_by(ignore);
    let books = FieldOwnership {
        atoms: &atoms,
        overwritten: &|path| is_overwritten(live, path),
    };
    plan::hash_live(manifest, live, books, &mut |path, _, _| {
        left_to_others(path, ignore, scaled, &gvk)
    })
}

/// Looks at a live object, with its manifest if it is known.
pub(crate) fn look(live: &Object, watched: Option<&WatchedManifest>) -> Observed {
    let manifest = watched.and_then(|watched| Some((watched, watched.manifest.object().ok()?)));
    let (mut held, mut other) = (Vec::new(), Vec::new());
    let judged = manifest.map(|(watched, manifest)| {
        let (scaled_by, gvk) = (managed_fields::scaled_by(live), manifest.gvk());
        let atoms = watched.atoms.not_reached_by(&watched.ignore);
        let books = FieldOwnership {
            atoms: &atoms,
            overwritten: &|path| is_overwritten(live, path),
        };
        let hash = plan::hash_live(&manifest, live, books, &mut |path, desired, there| {
            let theirs = left_to_others(path, &watched.ignore, scaled_by.is_some(), &gvk);
            if theirs {
                let value = there.filter(|_| is_ours(live, path)).cloned();
                let scaled = scaled_by
                    .clone()
                    .filter(|_| !left_to_others(path, &watched.ignore, false, &gvk));
                let scaled = scaled.map(|manager| ScaledReplicas {
                    manager,
                    git: desired.clone(),
                    differs: Some(desired) != there,
                });
                held.push(ReleasedField {
                    path: path.clone(),
                    value,
                    scaled,
                });
            } else if Some(desired) != there {
                other.push((path.clone(), there.is_some()));
            }
            theirs
        });
        // Only now is it known whether somebody changed something: a server may write a value in
        // its own way.
        let differs = watched.expected.is_some_and(|expected| expected != hash);
        other.retain(|(path, _)| differs && !is_ours(live, path));
        hash
    });
    let changed = other
        .iter()
        .map(|(path, there)| ForeignChange {
            path: path.to_string(),
            manager: latest(live, path, *there),
        })
        .collect();
    Observed {
        live: LiveObject {
            uid: live.uid().unwrap_or_default().to_owned(),
            hash: judged,
            owner: plan::owner(live),
            terminating: live.is_terminating(),
            keep: live.settings().prune_disabled,
            disabled: live.settings().reconcile_disabled,
        },
        version: live.gvk().version,
        at: live
            .resource_version()
            .and_then(|version| version.parse().ok())
            .unwrap_or_default(),
        health: health::assess(live),
        held,
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

/// What somebody else has written over a manifest's leaves.
pub(crate) fn changed_by(
    manifest: &Object,
    live: &Object,
    ignore: &[String],
    atoms: &KindAtomicFields,
) -> Vec<ForeignChange> {
    let (mut changed, gvk) = (Vec::new(), manifest.gvk());
    let scaled = managed_fields::scaled_by(live).is_some();
    let books = FieldOwnership {
        atoms: &atoms.not_reached_by(ignore),
        overwritten: &|path| is_overwritten(live, path),
    };
    plan::visit_leaves(manifest, live, books, &mut |path, desired, there| {
        if Some(desired) != there
            && !left_to_others(path, ignore, scaled, &gvk)
            && !is_ours(live, path)
        {
            changed.push(ForeignChange {
                path: path.to_string(),
                manager: latest(live, path, there.is_some()),
            });
        }
    });
    changed
}

/// Whether the field manager of our applies owns a leaf.
fn is_ours(live: &Object, path: &FieldPath) -> bool {
    path.pointer_in(live).is_some_and(|pointer| {
        managed_fields::managers_of(live, &pointer)
            .iter()
            .any(|manager| manager.name == MANAGER)
    })
}

/// Whether somebody else has written the whole of a map.
fn is_overwritten(live: &Object, path: &FieldPath) -> bool {
    path.pointer_in(live)
        .is_some_and(|pointer| managed_fields::is_overwritten(live, &pointer, MANAGER))
}

/// Who changed a leaf: its owner; of a leaf that is gone, whoever wrote last.
fn latest(live: &Object, path: &FieldPath, there: bool) -> Option<String> {
    let owner = || {
        managed_fields::managers_of(live, &path.pointer_in(live)?)
            .into_iter()
            .next()
    };
    match there {
        true => owner().map(|manager| manager.name),
        false => managed_fields::last_writer(live).map(|manager| manager.name),
    }
}

/// The manifest as it is sent: leaves that are left to others have their live value, or are left
/// out.
pub(crate) fn sent(manifest: Object, held: &[ReleasedField]) -> Object {
    if held.is_empty() {
        return manifest;
    }
    let gvk_and_name = manifest.clone();
    let mut value = manifest.into_value();
    // From the last to the first, so that places in lists stay what they are.
    for ReleasedField {
        path, value: live, ..
    } in held.iter().rev()
    {
        let Some(pointer) = path.pointer_in(&gvk_and_name) else {
            continue;
        };
        let Some((above, last)) = pointer.rsplit_once('/') else {
            continue;
        };
        match (value.pointer_mut(above), live) {
            (Some(Value::Object(fields)), Some(live)) => {
                drop(fields.insert(last.replace("~1", "/").replace("~0", "~"), live.clone()))
            }
            (Some(Value::Object(fields)), None) => {
                drop(fields.shift_remove(&last.replace("~1", "/").replace("~0", "~")))
            }
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
    // A rule that takes away what makes an object is no rule that can be followed.
    Object::new(value)
        .map(|sent| match &gvk_and_name.origin {
            Some(origin) => sent.at(origin.clone()),
            None => sent,
        })
        .unwrap_or(gvk_and_name)
}
