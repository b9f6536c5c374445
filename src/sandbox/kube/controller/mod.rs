//! The controllers of the sandbox: workloads get pods, pods become ready after a while, dependents
//! are garbage collected, namespaces are emptied. Pure: takes the store and the time, and returns
//! when to run again.

mod pods;
mod workloads;

use super::{
    kinds::{SandboxKind, kinds},
    store::{Id, ObjectStore},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The behaviour of workloads.
#[derive(Debug, Clone)]
pub struct WorkloadSettings {
    pub ready_after: SignedDuration,
    /// A pod whose image has this in its tag cannot pull it; empty: every image can be pulled.
    pub missing_tag: String,
    /// A Job's pod whose image has this in its tag ends with an error; empty: every one succeeds.
    pub failing_tag: String,
}

impl Default for WorkloadSettings {
    fn default() -> Self {
        Self {
            ready_after: SignedDuration::from_millis(800),
            missing_tag: "broken".to_owned(),
            failing_tag: "crash".to_owned(),
        }
    }
}

/// One run over all objects.
struct ClusterView<'a> {
    store: &'a mut ObjectStore,
    settings: &'a WorkloadSettings,
    now: Timestamp,
    /// The earliest time at which something is due.
    next: Option<Timestamp>,
}

/// Rounds of one run: a Deployment's ReplicaSet, its pods and their counts take six; the rest is a
/// safety limit.
const ROUNDS: usize = 30;

/// Runs all controllers, and returns when to run again if nothing is written before.
pub(super) fn look(
    store: &mut ObjectStore,
    settings: &WorkloadSettings,
    now: Timestamp,
) -> Option<Timestamp> {
    let mut look = ClusterView {
        store,
        settings,
        now,
        next: None,
    };
    for _ in 0..ROUNDS {
        let before = look.store.revision();
        look.next = None;
        look.namespaces();
        look.definitions();
        look.collect();
        look.workloads();
        look.pods();
        look.claims();
        if look.store.revision() == before {
            break;
        }
    }
    look.next
}

impl ClusterView<'_> {
    /// Emptied when they end, and with a ServiceAccount as long as they do not.
    fn namespaces(&mut self) {
        for namespace in self.all("", "namespaces") {
            let name = text(&namespace, "/metadata/name").to_owned();
            if namespace["metadata"]["deletionTimestamp"].is_null() {
                let id = Id {
                    group: String::new(),
                    plural: "serviceaccounts".to_owned(),
                    namespace: name.clone(),
                    name: "default".to_owned(),
                };
                if self.store.get(&id).is_none() {
                    self.make(
                        id,
                        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}),
                    );
                }
                continue;
            }
            let inside: Vec<Id> = self
                .store
                .all()
                .map(|(id, _)| id)
                .filter(|id| id.namespace == name)
                .cloned()
                .collect();
            if inside.is_empty() {
                self.store.remove(&id_of("", "namespaces", &namespace));
            }
            inside.iter().for_each(|id| self.end(id));
        }
    }

    /// Establishes CRDs at once; their objects are deleted with them.
    fn definitions(&mut self) {
        for definition in self.all("apiextensions.k8s.io", "customresourcedefinitions") {
            self.change(
                &id_of(
                    "apiextensions.k8s.io",
                    "customresourcedefinitions",
                    &definition,
                ),
                |definition, now| {
                    definition["status"]["acceptedNames"] = definition["spec"]["names"].clone();
                    definition["status"]["storedVersions"] =
                        json!([definition["spec"]["versions"][0]["name"]]);
                    condition(
                        definition,
                        "NamesAccepted",
                        "True",
                        "NoConflicts",
                        "no conflicts found",
                        now,
                    );
                    condition(
                        definition,
                        "Established",
                        "True",
                        "InitialNamesAccepted",
                        "the initial names have been accepted",
                        now,
                    );
                },
            );
        }
        let served: BTreeSet<(String, String)> = kinds(self.store)
            .into_iter()
            .map(|SandboxKind { group, plural, .. }| (group, plural))
            .collect();
        let lost: Vec<Id> = self
            .store
            .all()
            .map(|(id, _)| id)
            .filter(|id| !served.contains(&(id.group.clone(), id.plural.clone())))
            .cloned()
            .collect();
        for id in lost {
            self.store.remove(&id);
        }
    }

    /// Garbage collection by owner references.
    fn collect(&mut self) {
        let uid = |object: &Value| {
            object["metadata"]["uid"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let living: BTreeSet<String> = self.store.all().map(|(_, object)| uid(object)).collect();
        let orphans: Vec<Id> = self
            .store
            .all()
            .filter(|(_, object)| {
                let owners = object["metadata"]["ownerReferences"]
                    .as_array()
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                !owners.is_empty()
                    && owners
                        .iter()
                        .all(|owner| !living.contains(owner["uid"].as_str().unwrap_or_default()))
            })
            .map(|(id, _)| id.clone())
            .collect();
        orphans.iter().for_each(|id| self.end(id));

        let ending: Vec<(Id, String, Vec<Value>)> = self
            .store
            .all()
            .filter(|(_, object)| !object["metadata"]["deletionTimestamp"].is_null())
            .map(|(id, object)| {
                (
                    id.clone(),
                    uid(object),
                    object["metadata"]["finalizers"]
                        .as_array()
                        .cloned()
                        .unwrap_or_default(),
                )
            })
            .collect();
        for (id, uid, finalizers) in ending {
            let owned: Vec<Id> = self
                .store
                .all()
                .filter(|(_, object)| owned_by(object, &uid))
                .map(|(id, _)| id.clone())
                .collect();
            if finalizers.contains(&json!("orphan")) {
                for id in &owned {
                    self.change(id, |object, _| {
                        if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
                            owners.retain(|owner| owner["uid"] != *uid);
                        }
                    });
                }
                self.release(&id, "orphan");
            }
            if finalizers.contains(&json!("foregroundDeletion")) {
                owned.iter().for_each(|id| self.end(id));
                if owned.is_empty() {
                    self.release(&id, "foregroundDeletion");
                }
            }
        }
    }

    /// Removes a finalizer, and the object with the last one.
    fn release(&mut self, id: &Id, finalizer: &str) {
        self.change(id, |object, _| {
            if let Some(list) = object["metadata"]["finalizers"].as_array_mut() {
                list.retain(|name| name != finalizer);
            }
        });
        if self.store.get(id).is_some_and(|object| {
            object["metadata"]["finalizers"]
                .as_array()
                .is_none_or(Vec::is_empty)
        }) {
            self.store.remove(id);
        }
    }

    /// Deletes an object, or marks it where finalizers hold it.
    fn end(&mut self, id: &Id) {
        let Some(object) = self.store.get(id) else {
            return;
        };
        if object["metadata"]["finalizers"]
            .as_array()
            .is_none_or(Vec::is_empty)
        {
            self.store.remove(id);
        } else if object["metadata"]["deletionTimestamp"].is_null() {
            let time = seconds(self.now);
            self.change(id, |object, _| {
                object["metadata"]["deletionTimestamp"] = json!(time)
            });
        }
    }

    fn all(&self, group: &str, plural: &str) -> Vec<Value> {
        self.store
            .list(group, plural, None)
            .map(|object| Value::clone(object))
            .collect()
    }

    /// Changes an object; an unchanged one is not written.
    fn change(&mut self, id: &Id, change: impl FnOnce(&mut Value, Timestamp)) {
        let Some(old) = self.store.get(id).cloned() else {
            return;
        };
        let mut new = Value::clone(&old);
        change(&mut new, self.now);
        if new != *old {
            self.store.put(id.clone(), new);
        }
    }

    /// Makes an object of a controller's own.
    fn make(&mut self, id: Id, mut object: Value) {
        let uid = super::write::hex(&format!(
            "{}/{}/{}/{}",
            id.plural,
            id.namespace,
            id.name,
            self.store.revision()
        ));
        object["metadata"]["uid"] = json!(format!(
            "{}-{}-4{}-8{}-{}",
            &uid[..8],
            &uid[8..12],
            &uid[13..16],
            &uid[17..20],
            &uid[20..32]
        ));
        object["metadata"]["creationTimestamp"] = json!(seconds(self.now));
        if object.get("spec").is_some() {
            object["metadata"]["generation"] = json!(1);
        }
        self.store.put(id, object);
    }

    /// Schedules the next run at this time at the latest.
    fn again(&mut self, at: Timestamp) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }
}

/// Text at a pointer; empty if there is none.
fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn id_of(group: &str, plural: &str, object: &Value) -> Id {
    Id {
        group: group.to_owned(),
        plural: plural.to_owned(),
        namespace: text(object, "/metadata/namespace").to_owned(),
        name: text(object, "/metadata/name").to_owned(),
    }
}

fn owned_by(object: &Value, uid: &str) -> bool {
    object["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|owner| owner["uid"] == *uid)
}

/// RFC 3339 in seconds, as objects carry it.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Sets a condition; its times move with its status and reason only.
fn condition(
    object: &mut Value,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    if !object["status"]["conditions"].is_array() {
        object["status"]["conditions"] = json!([]);
    }
    let Some(list) = object["status"]["conditions"].as_array_mut() else {
        return;
    };
    let mut new = json!({"type": kind, "status": status});
    for (field, text) in [("reason", reason), ("message", message)] {
        if !text.is_empty() {
            new[field] = json!(text);
        }
    }
    let old = list.iter().position(|condition| condition["type"] == kind);
    let same = |field: &str| old.filter(|at| list[*at][field] == new[field]);
    let time = json!(seconds(now));
    let moved =
        same("status").map_or_else(|| time.clone(), |at| list[at]["lastTransitionTime"].clone());
    let updated = same("status")
        .and(same("reason"))
        .map_or(time, |at| list[at]["lastUpdateTime"].clone());
    new["lastTransitionTime"] = moved;
    new["lastUpdateTime"] = updated;
    match old {
        Some(at) => list[at] = new,
        None => list.push(new),
    }
}
