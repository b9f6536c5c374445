//! What an Application owns in its cluster, and what became of its last revisions: the model and
//! its text.
//!
//! It lies in the cluster itself, so that a new process, on another machine, with an empty store,
//! knows what to prune. An entry is written before the object is first applied: whatever dies in
//! between, nothing is orphaned.

use super::{atomic::KindAtomicFields, field_paths::ValueHash};
use crate::{objects::object::ObjectKey, spec::DeletionPolicy};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// How many revisions are remembered.
const REVISIONS: usize = 20;

/// Names of the texts in a record.
pub mod text {
    /// What is owned.
    pub const INVENTORY: &str = "inventory.json";
    /// The last revisions.
    pub const HISTORY: &str = "history.json";
}

/// What an Application owns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    /// The name of the config repository it comes from.
    pub repository: String,
    /// Where that lies: host and path.
    pub address: String,
    /// The part of it that is read: branch and folder.
    pub part: String,
    /// The revision that was applied last, whole or in part.
    pub revision: Option<String>,
    /// Stands for everything that was rendered when all of it was applied last.
    pub rendered: Option<ValueHash>,
    /// What happens to the objects when the Application is deleted, as last declared.
    pub deletion: DeletionPolicy,
    /// Whether objects that vanish are deleted, as last declared.
    pub prune: bool,
    /// The account it acts as, as last declared.
    pub service_account: Option<String>,
    /// The revision for which a person said yes to a large prune.
    pub confirmed: Option<String>,
    /// How many objects there were when everything had last been applied and nothing was left to
    /// delete: what a prune is measured against.
    pub objects: Option<usize>,
    /// Why an Application that is no longer declared is not deleted without a yes.
    pub doubt: Option<String>,
    /// The objects.
    pub entries: BTreeMap<ObjectKey, InventoryEntry>,
    /// Those of them that are known by their labels alone, since a record was lost.
    pub found: BTreeSet<ObjectKey>,
}

/// An object that is owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InventoryEntry {
    /// The version it was applied in.
    pub version: String,
    /// What came of it; nothing if its apply has not been answered yet.
    pub applied: Option<AppliedState>,
}

/// What the server answered to an apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedState {
    /// The object's identity.
    pub uid: String,
    /// Stands for the manifest.
    pub manifest: ValueHash,
    /// Stands for what the server had at the manifest's leaves.
    pub live: ValueHash,
    /// The maps and lists that were one leaf each.
    #[serde(skip)]
    pub atoms: KindAtomicFields,
    /// Whether it was there already and was left as it was (`ssa: IfNotPresent`): it has no labels
    /// of ours, so no watch shows it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untouched: bool,
    /// The `spec.replicas` of the manifest: where somebody scales, a change of them tells what Git
    /// means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
}

/// What became of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RolloutOutcome {
    /// Everything was applied; what is waited for is not healthy yet.
    Progressing,
    /// Everything was applied, and is healthy where that is waited for.
    Applied,
    /// Something could not be applied.
    Failed,
    /// Everything was applied, but it did not become healthy.
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

/// A revision, its result, and since when: what pass A may know of pass B.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Rollout {
    /// The revision of the config repository.
    pub revision: String,
    /// What became of it.
    pub result: RolloutOutcome,
    /// Since when.
    pub since: Timestamp,
    /// Why, in words; empty where all is well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// The last revisions, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RolloutHistory(pub Vec<Rollout>);

impl RolloutHistory {
    /// Notes a rollout. A result for the newest revision takes the place of what was known of it,
    /// its time only if the result is another one.
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

    /// From its text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}

/// Texts for people who look with kubectl: one line an entry.
impl fmt::Display for RolloutHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lines(f, &self.0)
    }
}

/// The inventory as it is written.
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
    doubt: Option<String>,
    /// What entries name by number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    atoms: Vec<Vec<Box<str>>>,
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
    found: bool,
    #[serde(flatten)]
    applied: Option<AppliedState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    atoms: Option<usize>,
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
        let atoms = |entry: &InventoryEntry| {
            entry
                .applied
                .as_ref()
                .map(|applied| applied.atoms.clone())
                .filter(|atoms| !atoms.is_empty())
        };
        let all: BTreeSet<KindAtomicFields> = self.entries.values().filter_map(atoms).collect();
        let number: BTreeMap<&KindAtomicFields, usize> = all
            .iter()
            .enumerate()
            .map(|(number, atoms)| (atoms, number))
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
            confirmed: confirmed.clone(),
            objects: self.objects,
            doubt: self.doubt.clone(),
            atoms: all.iter().map(|atoms| atoms.places().to_vec()).collect(),
        };
        let entries = self.entries.iter().map(|(key, entry)| SerializedEntry {
            group: key.group.clone(),
            version: entry.version.clone(),
            kind: key.kind.clone(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            found: self.found.contains(key),
            applied: entry.applied.clone(),
            atoms: atoms(entry).and_then(|atoms| number.get(&atoms).copied()),
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

impl Inventory {
    /// Forgets an object.
    pub fn remove(&mut self, key: &ObjectKey) {
        self.entries.remove(key);
        self.found.remove(key);
    }

    /// From its text: a line of JSON for the whole, then one for each object.
    ///
    /// # Errors
    /// What is wrong with it, and in which line. Nothing of a damaged inventory is used: half of
    /// one would prune.
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
            doubt,
            atoms: all,
        } = serde_json::from_str(head.1).map_err(|error| wrong(head, error))?;
        let all: Vec<KindAtomicFields> = all.into_iter().map(KindAtomicFields::new).collect();
        let (mut entries, mut labelled) = (BTreeMap::new(), BTreeSet::new());
        for line in lines {
            let SerializedEntry {
                group,
                version,
                kind,
                namespace,
                name,
                found,
                mut applied,
                atoms,
            } = serde_json::from_str(line.1).map_err(|error| wrong(line, error))?;
            if let (Some(applied), Some(number)) = (&mut applied, atoms) {
                let known = all
                    .get(number)
                    .ok_or_else(|| format!("line {}: there are no atoms {number}", line.0 + 1))?;
                applied.atoms = known.clone();
            }
            let key = ObjectKey::new(group, kind, namespace, name);
            if found {
                labelled.insert(key.clone());
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
            confirmed,
            objects,
            doubt,
            entries,
            found: labelled,
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
