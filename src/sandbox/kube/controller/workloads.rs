//! Workloads: each has the pods that it asks for, and a status that counts them.

mod deployment;

use super::{ClusterView, Id, condition, id_of, owned_by, text};
use crate::sandbox::kube::write::hex;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

/// The label that distinguishes the pods of different templates.
const HASH: &str = "pod-template-hash";
/// The number of a Deployment's rollout, on it and on its ReplicaSets.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// The limit of pods for one workload: they are in memory.
const MOST: i64 = 100;

impl ClusterView<'_> {
    pub(super) fn workloads(&mut self) {
        let living = |object: &Value| object["metadata"]["deletionTimestamp"].is_null();
        for deployment in self.all("apps", "deployments").into_iter().filter(living) {
            self.deployment(&deployment);
        }
        for set in self.all("apps", "replicasets").into_iter().filter(living) {
            self.replica_set(&set);
        }
        for set in self.all("apps", "statefulsets").into_iter().filter(living) {
            self.stateful_set(&set);
        }
        for set in self.all("apps", "daemonsets").into_iter().filter(living) {
            self.daemon_set(&set);
        }
        for job in self.all("batch", "jobs").into_iter().filter(living) {
            self.job(&job);
        }
    }

    fn replica_set(&mut self, set: &Value) {
        let pods = self.pods_of(set);
        let wanted = number(set, "/spec/replicas").min(MOST);
        for number in 0..(wanted - pods.len() as i64).max(0) {
            let suffix = hex(&format!(
                "{}/{}/{number}",
                text(set, "/metadata/uid"),
                self.store.revision()
            ));
            self.pod(
                set,
                "apps/v1",
                "ReplicaSet",
                format!("{}-{}", text(set, "/metadata/name"), &suffix[..5]),
                &[],
            );
        }
        // Pods that are not ready are deleted first.
        let mut surplus = pods.clone();
        surplus.sort_by_key(is_ready);
        for pod in surplus
            .iter()
            .take((pods.len() as i64 - wanted).max(0) as usize)
        {
            self.end(&id_of("", "pods", pod));
        }
        let pods = self.pods_of(set);
        let ready = pods.iter().filter(|pod| is_ready(pod)).count() as i64;
        self.change(&id_of("apps", "replicasets", set), |set, _| {
            let total = pods.len() as i64;
            count(
                set,
                &[
                    ("fullyLabeledReplicas", total),
                    ("readyReplicas", ready),
                    ("availableReplicas", ready),
                ],
            );
            set["status"]["replicas"] = json!(total);
        });
    }

    fn stateful_set(&mut self, set: &Value) {
        let (namespace, name) = (
            text(set, "/metadata/namespace"),
            text(set, "/metadata/name"),
        );
        let wanted = number(set, "/spec/replicas").min(MOST);
        let revision = format!(
            "{name}-{}",
            &hex(&set["spec"]["template"].to_string())[..10]
        );
        let label = "controller-revision-hash";
        let pods = self.pods_of(set);
        let stale = pods
            .iter()
            .rev()
            .find(|pod| pod["metadata"]["labels"][label] != revision);
        if let Some(stale) = stale.filter(|stale| pods.iter().all(is_ready) || !is_ready(stale)) {
            self.end(&id_of("", "pods", stale));
        }
        for ordinal in 0..wanted {
            let pod = format!("{name}-{ordinal}");
            let id = Id {
                group: String::new(),
                plural: "pods".to_owned(),
                namespace: namespace.to_owned(),
                name: pod.clone(),
            };
            match self.store.get(&id) {
                Some(found) if is_ready(found) => continue,
                Some(_) => break,
                None => {}
            }
            for claim in set["spec"]["volumeClaimTemplates"]
                .as_array()
                .into_iter()
                .flatten()
            {
                let name = format!("{}-{pod}", text(claim, "/metadata/name"));
                let id = Id {
                    group: String::new(),
                    plural: "persistentvolumeclaims".to_owned(),
                    namespace: namespace.to_owned(),
                    name: name.clone(),
                };
                if self.store.get(&id).is_none() {
                    let metadata = json!({"name": name, "namespace": namespace});
                    self.make(
                        id,
                        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim["spec"]}),
                    );
                }
            }
            self.pod(set, "apps/v1", "StatefulSet", pod, &[(label, &revision)]);
            // One at a time.
            break;
        }
        for pod in &pods {
            let ordinal = text(pod, "/metadata/name")
                .rsplit('-')
                .next()
                .and_then(|text| text.parse::<i64>().ok())
                .unwrap_or(0);
            if ordinal >= wanted {
                self.end(&id_of("", "pods", pod));
            }
        }
        let pods = self.pods_of(set);
        let ready = pods.iter().filter(|pod| is_ready(pod)).count() as i64;
        let updated = pods
            .iter()
            .filter(|pod| pod["metadata"]["labels"][label] == revision)
            .count() as i64;
        self.change(&id_of("apps", "statefulsets", set), |set, _| {
            count(
                set,
                &[
                    ("readyReplicas", ready),
                    ("availableReplicas", ready),
                    ("updatedReplicas", updated),
                    ("currentReplicas", updated),
                ],
            );
            set["status"]["replicas"] = json!(pods.len());
            set["status"]["updateRevision"] = json!(revision);
            if updated == wanted || set["status"]["currentRevision"].is_null() {
                set["status"]["currentRevision"] = json!(revision);
            }
        });
    }

    /// The sandbox has one node.
    fn daemon_set(&mut self, set: &Value) {
        let revision = hex(&set["spec"]["template"].to_string())[..10].to_owned();
        let label = "controller-revision-hash";
        let pods = self.pods_of(set);
        for pod in pods
            .iter()
            .filter(|pod| pod["metadata"]["labels"][label] != revision)
        {
            self.end(&id_of("", "pods", pod));
        }
        if self.pods_of(set).is_empty() {
            self.pod(
                set,
                "apps/v1",
                "DaemonSet",
                format!("{}-{}", text(set, "/metadata/name"), &revision[..5]),
                &[(label, &revision)],
            );
        }
        let ready = self.pods_of(set).iter().filter(|pod| is_ready(pod)).count();
        self.change(&id_of("apps", "daemonsets", set), |set, _| {
            count(
                set,
                &[
                    ("numberAvailable", ready as i64),
                    ("numberUnavailable", 1 - ready as i64),
                    ("updatedNumberScheduled", 1),
                ],
            );
            for (field, value) in [
                ("desiredNumberScheduled", 1),
                ("currentNumberScheduled", 1),
                ("numberMisscheduled", 0),
                ("numberReady", ready),
            ] {
                set["status"][field] = json!(value);
            }
        });
    }

    /// Runs one pod, whose end is that of the Job; a Job that ended is deleted after its time.
    fn job(&mut self, job: &Value) {
        if let Some(ended) = end_of(job) {
            let lifetime = job["spec"]["ttlSecondsAfterFinished"].as_i64();
            let expires = lifetime.and_then(|lifetime| {
                let lifetime = SignedDuration::from_secs(lifetime.max(0));
                ended.checked_add(lifetime).ok()
            });
            match expires {
                Some(expires) if expires <= self.now => self.end(&id_of("batch", "jobs", job)),
                Some(expires) => self.again(expires),
                None => {}
            }
            return;
        }
        if job["spec"]["suspend"] == true {
            for pod in self.pods_of(job) {
                self.end(&id_of("", "pods", &pod));
            }
            self.change(&id_of("batch", "jobs", job), |job, now| {
                if !job["status"].is_object() {
                    job["status"] = json!({});
                }
                condition(
                    job,
                    "Suspended",
                    "True",
                    "JobSuspended",
                    "Job suspended",
                    now,
                );
            });
            return;
        }
        let pods = self.pods_of(job);
        if pods.is_empty() {
            let name = format!(
                "{}-{}",
                text(job, "/metadata/name"),
                &hex(text(job, "/metadata/uid"))[..5]
            );
            self.pod(
                job,
                "batch/v1",
                "Job",
                name,
                &[("job-name", text(job, "/metadata/name"))],
            );
        }
        let ended = |phase: &str| pods.iter().any(|pod| pod["status"]["phase"] == phase);
        let (done, failed) = (ended("Succeeded"), ended("Failed"));
        self.change(&id_of("batch", "jobs", job), |job, now| {
            let time = json!(super::seconds(now));
            if job["status"]["startTime"].is_null() {
                job["status"]["startTime"] = time.clone();
            }
            match done {
                _ if failed => {
                    job["status"] = json!({"startTime": job["status"]["startTime"], "failed": 1, "ready": 0});
                    condition(job, "Failed", "True", "BackoffLimitExceeded", "Job has reached the specified backoff limit", now);
                }
                true => {
                    job["status"] = json!({"startTime": job["status"]["startTime"], "completionTime": time, "succeeded": 1, "ready": 0});
                    condition(job, "Complete", "True", "CompletionsReached", "Reached expected number of succeeded pods", now);
                }
                false => job["status"]["active"] = json!(1),
            }
        });
    }

    fn pods_of(&self, workload: &Value) -> Vec<Value> {
        let uid = text(workload, "/metadata/uid");
        let pods = self
            .store
            .list("", "pods", Some(text(workload, "/metadata/namespace")));
        pods.filter(|pod| owned_by(pod, uid))
            .map(|pod| Value::clone(pod))
            .collect()
    }

    /// Makes a pod from a workload's template.
    fn pod(
        &mut self,
        workload: &Value,
        api_version: &str,
        kind: &str,
        name: String,
        labels: &[(&str, &str)],
    ) {
        let namespace = text(workload, "/metadata/namespace");
        let template = &workload["spec"]["template"];
        let mut metadata = template["metadata"]
            .as_object()
            .cloned()
            .unwrap_or_else(Map::new);
        metadata.insert("name".to_owned(), json!(name));
        metadata.insert("namespace".to_owned(), json!(namespace));
        metadata.insert(
            "ownerReferences".to_owned(),
            owner(workload, api_version, kind),
        );
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"], "status": {"phase": "Pending"}});
        for (label, value) in labels {
            if !pod["metadata"]["labels"].is_object() {
                pod["metadata"]["labels"] = json!({});
            }
            pod["metadata"]["labels"][*label] = json!(value);
        }
        self.make(
            Id {
                group: String::new(),
                plural: "pods".to_owned(),
                namespace: namespace.to_owned(),
                name,
            },
            pod,
        );
    }
}

/// Returns when a Job completed or failed.
fn end_of(job: &Value) -> Option<Timestamp> {
    let conditions = job["status"]["conditions"].as_array()?;
    let ended = conditions.iter().find(|condition| {
        matches!(condition["type"].as_str(), Some("Complete" | "Failed"))
            && condition["status"] == "True"
    })?;
    text(ended, "/lastTransitionTime").parse().ok()
}

fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn owner(object: &Value, api_version: &str, kind: &str) -> Value {
    json!([{
        "apiVersion": api_version, "kind": kind, "name": object["metadata"]["name"], "uid": object["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    }])
}

/// Writes counts into a status, which leaves out those of nothing; and that this generation was
/// seen.
fn count(object: &mut Value, counts: &[(&str, i64)]) {
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    object["status"]["observedGeneration"] = object["metadata"]["generation"].clone();
    for (name, value) in counts {
        match (*value, object["status"].as_object_mut()) {
            (0, Some(status)) => {
                status.shift_remove(*name);
            }
            (value, _) => object["status"][*name] = json!(value),
        }
    }
}
