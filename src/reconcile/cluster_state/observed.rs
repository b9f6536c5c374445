//! The observation kept of a live object: hashes, health, released and changed fields. The object
//! itself is dropped.

use super::released::{self, ReleaseRules, ReleasedField, is_ours};
use crate::{
    objects::{
        health::{self, HealthOverTime, KindTraits, NEW_OBJECT_WINDOW, RunEnd},
        managed_fields::{self, AddedField, TakeOverRules},
        object::{ApplyMode, CompactObject, MANAGER, Object, ObjectKey},
        plan::{
            self, FieldOwnership, FieldPath, KindAtomicFields, LeafHashes, ListType, LiveObject,
            ValueHash,
        },
    },
    spec::{HealthRule, Ignore},
};
use jiff::Timestamp;
use serde_json::Value;
use std::{fmt, sync::Arc};

/// Additions of others that are noted of one object.
const NOTED_ADDITIONS: usize = 3;

/// Returns remarks about additions of others that stay.
pub(crate) fn addition_notes(additions: &[ForeignChange]) -> impl Iterator<Item = String> {
    let noted = additions.iter().take(NOTED_ADDITIONS);
    let more = additions.len().saturating_sub(NOTED_ADDITIONS);
    noted
        .map(|addition| format!("{addition}; Git does not name it"))
        .chain((more > 0).then(|| format!("{more} more fields were added by others")))
}

/// A live object, reduced to what decisions need.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub live: LiveObject,
    pub version: String,
    /// Orders watch events and apply answers: an older one is dropped.
    pub resource_version: u64,
    pub health: HealthOverTime,
    /// The rule of the user that the health was judged by.
    pub rule: Option<Arc<HealthRule>>,
    /// The end of a Job, or of another object that runs once.
    pub ended: Option<RunEnd>,
    /// Leaves of the manifest that other managers may set.
    pub released: Vec<ReleasedField>,
    /// Leaves that differ from the answer to the last apply, and additions of tools that have no
    /// say, with their managers.
    pub changed: Vec<ForeignChange>,
    /// Additions of others to the pod template, which stay.
    pub template_additions: Vec<ForeignChange>,
    /// The object itself, until it is judged for good: its manifest must be known, and the answer
    /// to its apply, which an event can overtake.
    pub raw: Option<Box<str>>,
}

/// A leaf that another manager changed or added.
#[derive(
    Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct ForeignChange {
    pub path: String,
    /// The field manager, from `managedFields`.
    pub manager: Option<String>,
    /// True if Git does not name the field.
    #[serde(default)]
    pub added: bool,
}

impl From<AddedField> for ForeignChange {
    fn from(field: AddedField) -> Self {
        Self {
            path: field.path,
            manager: Some(field.manager),
            added: true,
        }
    }
}

/// Writes "/spec/paused was changed by kubectl-edit".
impl fmt::Display for ForeignChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.added { "added" } else { "changed" };
        let manager = self.manager.as_deref().unwrap_or("an unknown manager");
        write!(f, "{} was {verb} by {manager}", self.path)
    }
}

/// A manifest with everything needed to judge its live object.
#[derive(Debug, Clone)]
pub(crate) struct WatchedManifest {
    pub manifest: CompactObject,
    /// JSON pointers that the Application's `ignore` rules release.
    pub ignore: Arc<[String]>,
    /// The hash of the answer to the last apply.
    pub expected: Option<ValueHash>,
    /// The hash of each leaf of it.
    pub expected_leaves: LeafHashes,
    /// The atomic fields that the last apply revealed.
    pub atomic_fields: KindAtomicFields,
    /// Prefixes of the managers whose additions are removed.
    pub take_over: Arc<[String]>,
    /// The rule of the user for its health.
    pub health: Option<Arc<HealthRule>>,
}

impl WatchedManifest {
    fn take_over_rules(&self) -> TakeOverRules<'_> {
        TakeOverRules {
            managers: &self.take_over,
            kept: &self.ignore,
        }
    }
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

/// Hashes the live values at the manifest's leaves, without released ones.
pub(crate) fn hash_observed(
    manifest: &Object,
    live: &Object,
    ignore: &[String],
    atomic_fields: &KindAtomicFields,
) -> (ValueHash, LeafHashes) {
    let rules = ReleaseRules::new(manifest, live, ignore);
    let atomic_fields = atomic_fields.not_reached_by(ignore);
    let ownership = FieldOwnership {
        atomic_fields: &atomic_fields,
        overwritten: &|path| is_overwritten(live, path),
        list_type: &|path| list_type(live, path),
    };
    plan::hash_live(
        manifest,
        live,
        ownership,
        &mut |path, desired, live_value| rules.releases(path, desired, live_value),
    )
}

/// Reduces a live object to an observation; judges it if its manifest is known.
pub(crate) fn observe(
    live: &Object,
    watched: Option<&WatchedManifest>,
    traits: KindTraits,
) -> Observed {
    let judgement =
        watched.and_then(|watched| Some(judge(live, watched, &watched.manifest.object().ok()?)));
    let hash = judgement.as_ref().map(|judgement| judgement.hash);
    let judgement = judgement.unwrap_or_default();
    let rule = watched.and_then(|watched| watched.health.clone());
    Observed {
        live: LiveObject {
            uid: live.uid().unwrap_or_default().to_owned(),
            hash,
            owner: plan::owner(live),
            terminating: live.is_terminating(),
            retention: live.retention(),
            applied_retention: managed_fields::applied_retention(live),
            disabled: live.settings().reconcile_disabled,
        },
        version: live.gvk().version,
        resource_version: live
            .resource_version()
            .and_then(|version| version.parse().ok())
            .unwrap_or_default(),
        health: health::assess(live, traits, rule.as_deref()).no_later_than(
            Timestamp::now()
                .checked_add(NEW_OBJECT_WINDOW)
                .unwrap_or(Timestamp::MAX),
        ),
        rule,
        ended: health::run_end(live),
        released: judgement.released,
        changed: judgement.changed,
        template_additions: judgement.template_additions,
        raw: match watched
            .filter(|_| hash.is_some())
            .and_then(|watched| watched.expected)
        {
            Some(_) => None,
            None => Some(Value::Object(live.value().clone()).to_string().into()),
        },
    }
}

/// What a live object is, compared with its manifest.
#[derive(Default)]
struct Judgement {
    hash: ValueHash,
    released: Vec<ReleasedField>,
    changed: Vec<ForeignChange>,
    template_additions: Vec<ForeignChange>,
}

fn judge(live: &Object, watched: &WatchedManifest, manifest: &Object) -> Judgement {
    let (mut released, mut other) = (Vec::new(), Vec::new());
    let rules = ReleaseRules::new(manifest, live, &watched.ignore);
    let atomic_fields = watched.atomic_fields.not_reached_by(&watched.ignore);
    let ownership = FieldOwnership {
        atomic_fields: &atomic_fields,
        overwritten: &|path| is_overwritten(live, path),
        list_type: &|path| list_type(live, path),
    };
    let mut index = 0;
    let (mut hash, leaves) = plan::hash_live(manifest, live, ownership, &mut |path, git, value| {
        index += 1;
        let is_released = rules.releases(path, git, value);
        if is_released {
            released.push(rules.field(live, path, git, value));
        } else if Some(git) != value {
            other.push(ChangedLeaf {
                index: index - 1,
                path: path.clone(),
                is_present: value.is_some(),
                empty: is_empty(git).then(|| git.clone()),
            });
        }
        is_released
    });
    released.extend(released::kept_replicas(manifest, live));
    let expected = watched.expected.filter(|expected| *expected != hash);
    let before = &watched.expected_leaves;
    // A server may normalise values: a leaf counts as changed only if it differs from the answer to
    // the last apply.
    other.retain(|leaf| expected.is_some() && leaves.differs(before, leaf.index).unwrap_or(true));
    // Others may fill what Git leaves empty.
    let is_filled = |leaf: &&ChangedLeaf| {
        let was_empty = |empty: &Value| {
            before.is_value(leaf.index, None) || before.is_value(leaf.index, Some(empty))
        };
        leaf.empty.as_ref().is_some_and(was_empty)
            && leaf.is_present
            && !is_overwritten(live, &leaf.path)
    };
    if let Some(expected) = expected
        && leaves.count_differing(before) == Some(other.iter().filter(is_filled).count())
    {
        hash = expected;
        other.clear();
    }
    other.retain(|leaf| !is_ours(live, &leaf.path));
    let changed = other.iter().map(|leaf| ForeignChange {
        path: leaf.path.to_string(),
        manager: last_manager(live, &leaf.path, leaf.is_present),
        added: false,
    });
    let mut changed: Vec<ForeignChange> = changed.collect();
    // Most objects have no manager but us.
    let take_over = watched.take_over_rules();
    let additions = match manifest.settings().ssa {
        ApplyMode::Override => take_over.additions(live, manifest),
        ApplyMode::Merge | ApplyMode::IfNotPresent | ApplyMode::Ignore => Vec::new(),
    };
    if !additions.is_empty() {
        let paths: Vec<&str> = additions.iter().map(|field| field.path.as_str()).collect();
        hash = hash.with(&paths);
        changed.extend(additions.into_iter().map(ForeignChange::from));
    }
    let template_additions = take_over.template_additions(live, manifest);
    Judgement {
        hash,
        changed,
        released,
        template_additions: template_additions.into_iter().map(Into::into).collect(),
    }
}

/// A leaf whose live value is not that of the manifest.
struct ChangedLeaf {
    /// Its place among the leaves.
    index: usize,
    path: FieldPath,
    is_present: bool,
    /// The empty map or list of the manifest.
    empty: Option<Value>,
}

fn is_empty(desired: &Value) -> bool {
    match desired {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        _ => false,
    }
}

/// Returns how the API server merges a list.
fn list_type(live: &Object, path: &FieldPath) -> ListType {
    path.pointer_in(live)
        .map(|pointer| managed_fields::list_type(live, &pointer, MANAGER))
        .unwrap_or_default()
}

/// Returns the leaves of a manifest that other managers have overwritten.
pub(crate) fn changed_by(
    manifest: &Object,
    live: &Object,
    ignore: &[String],
    atomic_fields: &KindAtomicFields,
) -> Vec<ForeignChange> {
    let mut changed = Vec::new();
    let rules = ReleaseRules::new(manifest, live, ignore);
    let ownership = FieldOwnership {
        atomic_fields: &atomic_fields.not_reached_by(ignore),
        overwritten: &|path| is_overwritten(live, path),
        list_type: &|path| list_type(live, path),
    };
    plan::visit_leaves(
        manifest,
        live,
        ownership,
        &mut |path, desired, live_value| {
            if Some(desired) != live_value
                && !rules.releases(path, desired, live_value)
                && !is_ours(live, path)
            {
                changed.push(ForeignChange {
                    path: path.to_string(),
                    manager: last_manager(live, path, live_value.is_some()),
                    added: false,
                });
            }
        },
    );
    changed
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
