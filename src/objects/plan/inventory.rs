//! The inventory of an Application and the history of its rollouts: model and text.
//!
//! Both are stored in the cluster, so that a new process on another machine with an empty store
//! knows what to prune. An entry is written before its object is first applied, so that a crash
//! orphans nothing.

use super::{atomic::KindAtomicFields, leaf_hashes::LeafHashes, value_hash::ValueHash};
use crate::{
    objects::{health::RunEnd, object::ObjectKey},
    spec::{Application, DeletionPolicy},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Revisions kept in the history.
const REVISIONS: usize = 20;

/// The keys of a record's data.
pub mod text {
    pub const INVENTORY: &str = "inventory.json";
    pub const HISTORY: &str = "history.json";
}

/// The objects that an Application owns, and the declaration its removal needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    /// The name of the declaring repository.
    pub repository: String,
    /// Host and path of the repository.
    pub address: String,
    /// The branch and folder of the repository.
    pub part: String,
    /// The revision that was applied last.
    pub revision: Option<String>,
    /// The hash of all manifests when all of them were applied last.
    pub rendered: Option<ValueHash>,
    /// The declared `deletionPolicy`.
    pub deletion: DeletionPolicy,
    /// The declared `prune`.
    pub prune: bool,
    /// The declared `serviceAccountName`.
    pub service_account: Option<String>,
    /// The deletions that the user confirmed.
    pub confirmed: Option<Box<Confirmation>>,
    /// The number of objects when everything was applied and nothing was left to delete. A prune is
    /// measured against it.
    pub objects: Option<usize>,
    /// Why the objects of a removed Application are not deleted without a confirmation.
    pub delete_guard: Option<String>,
    /// The namespaces of the objects of a removed Application. Those that tagboat created are
    /// deleted after the objects.
    pub left_namespaces: Option<Box<LeftNamespaces>>,
    pub entries: BTreeMap<ObjectKey, InventoryEntry>,
    /// Whether objects may be missing: a record was lost, and not every kind could be searched.
    pub incomplete: bool,
    /// Entries known by their labels alone, since a record was lost.
    pub recovered: BTreeSet<ObjectKey>,
}

/// The namespaces that a removed Application leaves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeftNamespaces {
    pub names: BTreeSet<String>,
}

/// Deletions that the user confirmed: those that were due at a revision when it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    pub revision: String,
    pub objects: BTreeSet<ObjectKey>,
}

impl Confirmation {
    /// Returns whether deletions at a revision are confirmed. One that came later is not.
    pub fn covers<'k>(
        &self,
        revision: &str,
        mut deletions: impl Iterator<Item = &'k ObjectKey>,
    ) -> bool {
        self.revision == revision && deletions.all(|key| self.objects.contains(key))
    }
}

/// The part of a declaration that the removal of its Application needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovalTerms {
    pub deletion: DeletionPolicy,
    pub prune: bool,
    pub service_account: Option<String>,
}

impl From<&Application> for RemovalTerms {
    fn from(application: &Application) -> Self {
        Self {
            deletion: application.deletion,
            prune: application.prune,
            service_account: application.service_account.clone(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InventoryEntry {
    /// The API version it was applied in.
    pub version: String,
    /// The answer to its apply; `None` until it is answered.
    pub applied: Option<AppliedState>,
}

/// The state after an apply, from its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedState {
    pub uid: String,
    /// The hash of the manifest.
    pub manifest: ValueHash,
    /// The hash of the live values at the manifest's leaves.
    pub live: ValueHash,
    /// The hash of each of them, to name what has changed since.
    #[serde(default, skip_serializing_if = "LeafHashes::is_empty")]
    pub leaves: LeafHashes,
    /// The maps and lists that the API server treats as one value.
    #[serde(skip)]
    pub atomic_fields: KindAtomicFields,
    /// Whether an existing object was left as it is (`ssa: IfNotPresent`). It carries no labels of
    /// ours, so no watch shows it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untouched: bool,
    /// The `spec.replicas` of the manifest. A change in Git overrides a manual scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// The end of a Job, or of another object that runs once, under this manifest. It is not run
    /// again when it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<RunEnd>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RolloutOutcome {
    /// Everything was applied; objects are not healthy yet.
    Progressing,
    /// Everything was applied, and is healthy where `wait` is set.
    Applied,
    /// An object could not be applied.
    Failed,
    /// Everything was applied, but an object did not become healthy.
    Degraded,
    /// A newer revision came first.
    Superseded,
}

impl fmt::Display for RolloutOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RolloutOutcome::Progressing => "progressing",
            RolloutOutcome::Applied => "applied",
            RolloutOutcome::Failed => "failed",
            RolloutOutcome::Degraded => "degraded",
            RolloutOutcome::Superseded => "superseded",
        })
    }
}

/// The outcome of a revision. The update pass knows nothing else of the reconcile pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Rollout {
    pub revision: String,
    pub result: RolloutOutcome,
    pub since: Timestamp,
    /// The reason; empty on success.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// The last rollouts, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RolloutHistory(pub Vec<Rollout>);

impl RolloutHistory {
    /// Adds a rollout. A result for the newest revision replaces the earlier one, and keeps its
    /// time if the result is the same.
    pub fn note(&mut self, rollout: Rollout) {
        match self.0.first_mut() {
            Some(newest) if newest.revision == rollout.revision => {
                let since = if newest.result == rollout.result {
                    newest.since
                } else {
                    rollout.since
                };
                *newest = Rollout { since, ..rollout };
            }
            newest => {
                if let Some(newest) =
                    newest.filter(|newest| newest.result == RolloutOutcome::Progressing)
                {
                    newest.result = RolloutOutcome::Superseded;
                }
                self.0.insert(0, rollout);
                self.0.truncate(REVISIONS);
            }
        }
    }

    /// Parses the text of a record.
    ///
    /// # Errors
    /// A description of the damage.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}

/// Writes one line an entry, readable with kubectl.
impl fmt::Display for RolloutHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lines(f, &self.0)
    }
}

/// The first line of an inventory's text.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SerializedInventory {
    repository: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    part: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rendered: Option<ValueHash>,
    #[serde(default)]
    prune: bool,
    #[serde(default)]
    delete: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service_account: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confirmed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    objects: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delete_guard: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    incomplete: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left_namespaces: Option<Box<LeftNamespaces>>,
    /// The sets that entries reference by index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    atomic_fields: Vec<Vec<Box<str>>>,
}

#[derive(Serialize, Deserialize)]
struct SerializedEntry {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    group: String,
    version: String,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    name: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    recovered: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    confirmed: bool,
    #[serde(flatten)]
    applied: Option<AppliedState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    atomic_fields: Option<usize>,
}

impl fmt::Display for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            repository,
            address,
            part,
            revision,
            rendered,
            deletion,
            prune,
            service_account,
            confirmed,
            ..
        } = self;
        let atomic_fields = |entry: &InventoryEntry| {
            entry
                .applied
                .as_ref()
                .map(|applied| applied.atomic_fields.clone())
                .filter(|atomic_fields| !atomic_fields.is_empty())
        };
        let all: BTreeSet<KindAtomicFields> =
            self.entries.values().filter_map(atomic_fields).collect();
        let number: BTreeMap<&KindAtomicFields, usize> = all
            .iter()
            .enumerate()
            .map(|(number, atomic_fields)| (atomic_fields, number))
            .collect();
        let head = SerializedInventory {
            repository: repository.clone(),
            address: address.clone(),
            part: part.clone(),
            revision: revision.clone(),
            rendered: *rendered,
            prune: *prune,
            delete: *deletion == DeletionPolicy::Delete,
            service_account: service_account.clone(),
            confirmed: confirmed.as_ref().map(|given| given.revision.clone()),
            objects: self.objects,
            delete_guard: self.delete_guard.clone(),
            incomplete: self.incomplete,
            left_namespaces: self.left_namespaces.clone(),
            atomic_fields: all
                .iter()
                .map(|atomic_fields| atomic_fields.places().to_vec())
                .collect(),
        };
        let entries = self.entries.iter().map(|(key, entry)| SerializedEntry {
            group: key.group.clone(),
            version: entry.version.clone(),
            kind: key.kind.clone(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            recovered: self.recovered.contains(key),
            confirmed: confirmed
                .as_ref()
                .is_some_and(|given| given.objects.contains(key)),
            applied: entry.applied.clone(),
            atomic_fields: atomic_fields(entry)
                .and_then(|atomic_fields| number.get(&atomic_fields).copied()),
        });
        writeln!(
            f,
            "{}",
            serde_json::to_string(&head).map_err(|_| fmt::Error)?
        )?;
        for entry in entries {
            writeln!(
                f,
                "{}",
                serde_json::to_string(&entry).map_err(|_| fmt::Error)?
            )?;
        }
        Ok(())
    }
}

impl InventoryEntry {
    /// Returns how the object ended, if it ran under a manifest.
    pub fn ended(&self, manifest: ValueHash) -> Option<RunEnd> {
        let applied = self.applied.as_ref()?;
        applied.ended.filter(|_| applied.manifest == manifest)
    }
}

impl Inventory {
    pub fn remove(&mut self, key: &ObjectKey) {
        self.entries.remove(key);
        self.recovered.remove(key);
        if let Some(confirmed) = &mut self.confirmed {
            confirmed.objects.remove(key);
        }
    }

    /// Sets the terms of a removal; returns whether they changed.
    pub fn set_terms(&mut self, terms: RemovalTerms) -> bool {
        let before = RemovalTerms {
            deletion: self.deletion,
            prune: self.prune,
            service_account: self.service_account.take(),
        };
        let changed = before != terms;
        self.deletion = terms.deletion;
        self.prune = terms.prune;
        self.service_account = terms.service_account;
        changed
    }

    /// Parses a text: one line of JSON for the inventory, one for each object.
    ///
    /// # Errors
    /// The damage with its line. A damaged inventory is not used at all: half of one would prune.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.is_empty());
        let wrong = |(number, _): (usize, &str), error: serde_json::Error| {
            format!("line {}: {error}", number + 1)
        };
        let head = lines.next().ok_or("it is empty")?;
        let SerializedInventory {
            repository,
            address,
            part,
            revision,
            rendered,
            prune,
            delete,
            service_account,
            confirmed,
            objects,
            delete_guard,
            incomplete,
            left_namespaces,
            atomic_fields: all,
        } = serde_json::from_str(head.1).map_err(|error| wrong(head, error))?;
        let all: Vec<KindAtomicFields> = all.into_iter().map(KindAtomicFields::new).collect();
        let (mut entries, mut recovered_keys) = (BTreeMap::new(), BTreeSet::new());
        let mut confirmed_keys = BTreeSet::new();
        for line in lines {
            let SerializedEntry {
                group,
                version,
                kind,
                namespace,
                name,
                recovered,
                confirmed,
                mut applied,
                atomic_fields,
            } = serde_json::from_str(line.1).map_err(|error| wrong(line, error))?;
            if let (Some(applied), Some(number)) = (&mut applied, atomic_fields) {
                let known = all.get(number).ok_or_else(|| {
                    format!("line {}: there are no atomic fields {number}", line.0 + 1)
                })?;
                applied.atomic_fields = known.clone();
            }
            let key = ObjectKey::new(group, kind, namespace, name);
            if recovered {
                recovered_keys.insert(key.clone());
            }
            if confirmed {
                confirmed_keys.insert(key.clone());
            }
            entries.insert(key, InventoryEntry { version, applied });
        }
        let deletion = if delete {
            DeletionPolicy::Delete
        } else {
            DeletionPolicy::Orphan
        };
        let of = Self {
            repository,
            address,
            part,
            revision,
            rendered,
            deletion,
            prune,
            ..Self::default()
        };
        Ok(Self {
            service_account,
            confirmed: confirmed.map(|revision| {
                Box::new(Confirmation {
                    revision,
                    objects: confirmed_keys,
                })
            }),
            objects,
            delete_guard,
            incomplete,
            left_namespaces,
            entries,
            recovered: recovered_keys,
            ..of
        })
    }
}

fn lines<T: Serialize>(f: &mut fmt::Formatter<'_>, all: &[T]) -> fmt::Result {
    f.write_str("[")?;
    for (index, one) in all.iter().enumerate() {
        let separator = if index == 0 { "\n" } else { ",\n" };
        write!(
            f,
            "{separator}{}",
            serde_json::to_string(one).map_err(|_| fmt::Error)?
        )?;
    }
    f.write_str("\n]\n")
}
