//! Deployments: a ReplicaSet for each template, scaled step by step.

use super::{
    ClusterView, HASH, Id, REVISION, condition, count, id_of, number, owned_by, owner, text,
};
use crate::sandbox::kube::write::hex;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// The pods of all ReplicaSets of a Deployment.
struct RolloutCounts {
    wanted: i64,
    total: i64,
    available: i64,
    /// Pods of the present template.
    updated: i64,
    /// The number of the rollout.
    revision: u64,
}

impl RolloutCounts {
    fn is_complete(&self) -> bool {
        [self.updated, self.total, self.available] == [self.wanted; 3]
    }
}

impl ClusterView<'_> {
    /// A ReplicaSet for its template; those of older templates shrink as the new one's pods become
    /// ready.
    pub(super) fn deployment(&mut self, deployment: &Value) {
        let hash = &hex(&deployment["spec"]["template"].to_string())[..10];
        let id = Id {
            group: "apps".to_owned(),
            plural: "replicasets".to_owned(),
            namespace: text(deployment, "/metadata/namespace").to_owned(),
            name: format!("{}-{hash}", text(deployment, "/metadata/name")),
        };
        if self.store.get(&id).is_none() && deployment["spec"]["paused"] != true {
            let set = replica_set(deployment, &id.name, hash);
            self.make(id.clone(), set);
        }
        self.scale(deployment, &id);
        let counts = self.rollout_counts(deployment, &id);
        self.report_rollout(deployment, &id, &counts);
    }

    fn replica_sets(&self, deployment: &Value) -> Vec<Value> {
        let namespace = text(deployment, "/metadata/namespace");
        let uid = text(deployment, "/metadata/uid");
        self.store
            .list("apps", "replicasets", Some(namespace))
            .filter(|set| owned_by(set, uid))
            .map(|set| Value::clone(set))
            .collect()
    }

    /// Scales the ReplicaSet of the present template up and the others down.
    fn scale(&mut self, deployment: &Value, id: &Id) {
        let wanted = number(deployment, "/spec/replicas");
        let mut older = self.replica_sets(deployment);
        older.retain(|set| set["metadata"]["name"] != id.name);
        let last = older.iter().map(revision_of).max().unwrap_or(0);
        let ready = self
            .store
            .get(id)
            .map_or(0, |set| number(set, "/status/readyReplicas"));
        let recreate = deployment["spec"]["strategy"]["type"] == "Recreate";
        let most = if recreate { 0 } else { (wanted - ready).max(0) };
        let mut old_pods = 0;
        for set in &older {
            old_pods += number(set, "/status/replicas");
            self.change(&id_of("apps", "replicasets", set), |set, _| {
                set["spec"]["replicas"] = json!(number(set, "/spec/replicas").min(most));
            });
        }
        self.change(id, |set, _| {
            let must_wait = recreate && old_pods > 0;
            set["spec"]["replicas"] = json!(if must_wait { 0 } else { wanted });
            if revision_of(set) <= last {
                set["metadata"]["annotations"][REVISION] = json!((last + 1).to_string());
            }
        });
    }

    fn rollout_counts(&self, deployment: &Value, id: &Id) -> RolloutCounts {
        let sets = self.replica_sets(deployment);
        let sum = |field: &str| sets.iter().map(|set| number(set, field)).sum::<i64>();
        let (updated, revision) = self.store.get(id).map_or((0, 0), |set| {
            (number(set, "/status/replicas"), revision_of(set))
        });
        RolloutCounts {
            wanted: number(deployment, "/spec/replicas"),
            total: sum("/status/replicas"),
            available: sum("/status/availableReplicas"),
            updated,
            revision,
        }
    }

    /// Writes the status of a Deployment, and looks again when its deadline passes.
    fn report_rollout(&mut self, deployment: &Value, id: &Id, counts: &RolloutCounts) {
        let deadline =
            SignedDuration::from_secs(number(deployment, "/spec/progressDeadlineSeconds"));
        let set = format!("ReplicaSet \"{}\"", id.name);
        let mut due = None;
        self.change(
            &id_of("apps", "deployments", deployment),
            |deployment, now| {
                if !deployment["metadata"]["annotations"].is_object() {
                    deployment["metadata"]["annotations"] = json!({});
                }
                deployment["metadata"]["annotations"][REVISION] =
                    json!(counts.revision.to_string());
                set_counts(deployment, counts);
                set_available(deployment, counts, now);
                due = set_progressing(deployment, &set, counts.is_complete(), deadline, now);
            },
        );
        if let Some(due) = due {
            self.again(due);
        }
    }
}

fn replica_set(deployment: &Value, name: &str, hash: &str) -> Value {
    let mut template = deployment["spec"]["template"].clone();
    template["metadata"]["labels"][HASH] = json!(hash);
    let mut selector = deployment["spec"]["selector"].clone();
    selector["matchLabels"][HASH] = json!(hash);
    let mut set = json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": text(deployment, "/metadata/namespace"),
            "labels": template["metadata"]["labels"],
            "annotations": {},
        },
        "spec": {
            "replicas": number(deployment, "/spec/replicas"),
            "selector": selector,
            "template": template,
        },
        "status": {},
    });
    set["metadata"]["ownerReferences"] = owner(deployment, "apps/v1", "Deployment");
    set
}

fn revision_of(set: &Value) -> u64 {
    set["metadata"]["annotations"][REVISION]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn set_counts(deployment: &mut Value, counts: &RolloutCounts) {
    let most = counts.wanted.max(counts.total);
    count(
        deployment,
        &[
            ("replicas", counts.total),
            ("updatedReplicas", counts.updated),
            ("readyReplicas", counts.available),
            ("availableReplicas", counts.available),
            ("unavailableReplicas", (most - counts.available).max(0)),
        ],
    );
}

fn set_available(deployment: &mut Value, counts: &RolloutCounts, now: Timestamp) {
    // The default of maxUnavailable is 25 %, rounded down.
    let (status, reason, message) = if counts.available >= counts.wanted - counts.wanted / 4 {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    condition(deployment, "Available", status, reason, message, now);
}

/// Sets the condition `Progressing`; returns the end of the deadline while it runs.
fn set_progressing(
    deployment: &mut Value,
    set: &str,
    is_complete: bool,
    deadline: SignedDuration,
    now: Timestamp,
) -> Option<Timestamp> {
    let conditions = deployment["status"]["conditions"].as_array();
    let progress = conditions
        .into_iter()
        .flatten()
        .find(|one| one["type"] == "Progressing");
    let since = progress.filter(|one| {
        one["message"]
            .as_str()
            .is_some_and(|text| text.starts_with(set))
    });
    let gave_up = since.is_some_and(|one| one["status"] == "False");
    let end = since
        .and_then(|one| one["lastUpdateTime"].as_str()?.parse().ok())
        .unwrap_or(now)
        + deadline;
    let (status, reason, message) = if is_complete {
        (
            "True",
            "NewReplicaSetAvailable",
            "has successfully progressed.",
        )
    } else if gave_up || end <= now {
        (
            "False",
            "ProgressDeadlineExceeded",
            "has timed out progressing.",
        )
    } else {
        ("True", "ReplicaSetUpdated", "is progressing.")
    };
    let message = format!("{set} {message}");
    condition(deployment, "Progressing", status, reason, &message, now);
    (reason == "ReplicaSetUpdated").then_some(end)
}
