//! Each rule by status blocks as clusters write them, and a property test against panics.

#![allow(
    clippy::needless_pass_by_value,
    reason = "json! makes values, not references"
)]

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn object(api_version: &str, kind: &str, rest: Value) -> Object {
    let mut value = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "web", "namespace": "shop"}});
    for (key, field) in rest.as_object().unwrap() {
        match value.get_mut(key).and_then(Value::as_object_mut) {
            Some(there) => there.extend(field.as_object().unwrap().clone()),
            None => value[key] = field.clone(),
        }
    }
    Object::new(value).unwrap()
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2024-05-01T10:00:00Z"})
}

/// Returns the final verdict about an object.
fn verdict(object: &Object) -> Health {
    assess(object, KindTraits::default(), None)
        .at(Timestamp::MAX)
        .clone()
}

#[track_caller]
fn says(api_version: &str, kind: &str, rest: Value, status: HealthStatus, message: &str) {
    let health = verdict(&object(api_version, kind, rest));
    assert_eq!((health.status, health.message.as_str()), (status, message));
}

use HealthStatus::{Current, Failed, InProgress, Terminating, Unknown};

#[test]
fn health_deletion_and_generation_come_first() {
    let ready = json!([condition("Ready", "True", "Ok", "")]);
    says(
        "a.io/v1",
        "A",
        json!({"metadata": {"deletionTimestamp": "2024-05-01T10:00:00Z", "generation": 2}, "status": {"observedGeneration": 1, "conditions": ready}}),
        Terminating,
        "it is scheduled for deletion",
    );
    says(
        "a.io/v1",
        "A",
        json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 1, "conditions": ready}}),
        InProgress,
        "generation 2 is not yet observed, the latest observed is 1",
    );
    says(
        "a.io/v1",
        "A",
        json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 2, "conditions": ready}}),
        Current,
        "it is ready",
    );
    // Without generations there is nothing to observe.
    says(
        "a.io/v1",
        "A",
        json!({"metadata": {"generation": 2}, "status": {"conditions": ready}}),
        Current,
        "it is ready",
    );
}

#[test]
fn health_observed_generation_may_be_text() {
    let object = |observed: Value| json!({"metadata": {"generation": 2}, "status": {"observedGeneration": observed, "conditions": [condition("Ready", "True", "Ok", "")]}});
    let behind = "generation 2 is not yet observed, the latest observed is 1";
    for (observed, status, message) in [
        (json!("1"), InProgress, behind),
        (json!(" 2 "), Current, "it is ready"),
        (
            json!("two"),
            Unknown,
            "status.observedGeneration is no number",
        ),
        (
            json!(2.5),
            Unknown,
            "status.observedGeneration is no number",
        ),
        (
            json!([2]),
            Unknown,
            "status.observedGeneration is no number",
        ),
    ] {
        says("a.io/v1", "A", object(observed), status, message);
    }
}

#[test]
fn health_condition_of_older_generation_waits() {
    for (kind, state, observed, status, message) in [
        (
            "Ready",
            "True",
            json!(2),
            InProgress,
            "Ready is True for generation 2, and the object is at 3",
        ),
        (
            "Ready",
            "True",
            json!("2"),
            InProgress,
            "Ready is True for generation 2, and the object is at 3",
        ),
        ("Ready", "True", json!(3), Current, "it is ready"),
        ("Ready", "True", json!(null), Current, "it is ready"),
        ("Ready", "False", json!(2), InProgress, "because"),
        (
            "Stalled",
            "True",
            json!(2),
            InProgress,
            "Stalled is True for generation 2, and the object is at 3",
        ),
        ("Stalled", "True", json!(3), Failed, "because"),
    ] {
        let mut found = condition(kind, state, "Why", "because");
        found["observedGeneration"] = observed;
        says(
            "a.io/v1",
            "A",
            json!({"metadata": {"generation": 3}, "status": {"conditions": [found]}}),
            status,
            message,
        );
    }
}

#[test]
fn health_api_service_waits_until_available() {
    for (conditions, status, message) in [
        (json!([]), InProgress, "the API is not available yet"),
        (
            json!([condition(
                "Available",
                "False",
                "MissingEndpoints",
                "no endpoints"
            )]),
            InProgress,
            "no endpoints",
        ),
        (
            json!([condition(
                "Available",
                "True",
                "Passed",
                "all checks passed"
            )]),
            Current,
            "the API is available",
        ),
    ] {
        let status_block = json!({"status": {"conditions": conditions}});
        says(
            "apiregistration.k8s.io/v1",
            "APIService",
            status_block,
            status,
            message,
        );
    }
}

#[test]
fn health_custom_resource_without_status_waits() {
    let created = "2024-05-01T10:00:00Z";
    let at =
        |seconds: i64| created.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds);
    let boat = |rest: Value| {
        let mut boat = object("acme.io/v1", "Boat", rest);
        boat.edit(|fields| fields["metadata"]["creationTimestamp"] = json!(created))
            .unwrap();
        boat
    };
    let kind = KindTraits::of("acme.io", true);
    let without = assess(&boat(json!({})), kind, None);
    assert_eq!(without.at(at(9)).status, InProgress);
    assert_eq!(without.at(at(10)).status, Current);
    assert_eq!(without.changes_after(at(9)), Some(at(10)));
    assert_eq!(without.changes_after(at(10)), None);
    // A clock that is behind that of the API server does not wait for ever.
    let capped = without.no_later_than(at(-100));
    assert_eq!(capped.at(at(-50)).status, Current);
    assert_eq!(
        assess(&boat(json!({"status": {}})), kind, None)
            .at(at(0))
            .status,
        InProgress
    );
    for (group, has_status, rest) in [
        ("acme.io", true, json!({"status": {"phase": "Sailing"}})),
        ("acme.io", false, json!({})),
        ("networking.k8s.io", true, json!({})),
        ("autoscaling", true, json!({})),
    ] {
        let health = assess(&boat(rest), KindTraits::of(group, has_status), None);
        assert_eq!(health.at(at(0)).status, Current, "{group} {has_status}");
        assert_eq!(health.changes_after(at(0)), None);
    }
    assert!(KindTraits::of("gateway.networking.k8s.io", true).writes_status);
}

#[test]
fn health_standard_conditions_come_first() {
    for (kind, status, expected) in [
        ("Reconciling", "True", InProgress),
        ("Stalled", "True", Failed),
        ("Stalled", "False", Current),
        ("Reconciling", "Unknown", Current),
    ] {
        let health = verdict(&object(
            "v1",
            "ConfigMap",
            json!({"status": {"conditions": [condition(kind, status, "Why", "because")]}}),
        ));
        assert_eq!(health.status, expected, "{kind} {status}");
        assert_eq!(
            health.message == "because",
            expected != Current,
            "{kind} {status}"
        );
    }
}

#[test]
fn health_other_kinds_follow_ready_condition() {
    says(
        "cert-manager.io/v1",
        "Certificate",
        json!({}),
        Current,
        "it is there",
    );
    says(
        "cert-manager.io/v1",
        "Certificate",
        json!({"status": {"conditions": null}}),
        Current,
        "it is there",
    );
    says(
        "cert-manager.io/v1",
        "Certificate",
        json!({"status": {"conditions": [condition("Ready", "False", "DoesNotExist", "Issuing certificate")]}}),
        InProgress,
        "Issuing certificate",
    );
    says(
        "cert-manager.io/v1",
        "Certificate",
        json!({"status": {"conditions": [condition("Ready", "Unknown", "", "")]}}),
        InProgress,
        "Ready is Unknown",
    );
    says(
        "networking.k8s.io/v1",
        "Ingress",
        json!({"status": {"loadBalancer": {}}}),
        Current,
        "it is there",
    );
    // Conditions of the other convention have no meaning here.
    says(
        "v1",
        "Namespace",
        json!({"status": {"phase": "Active"}}),
        Current,
        "it is there",
    );
}

#[test]
fn health_malformed_status_is_unknown() {
    says(
        "a.io/v1",
        "A",
        json!({"status": {"conditions": "none"}}),
        Unknown,
        "status.conditions is no list",
    );
    says(
        "a.io/v1",
        "A",
        json!({"status": {"conditions": [1]}}),
        Unknown,
        "status.conditions[0] is no object",
    );
    says(
        "a.io/v1",
        "A",
        json!({"status": {"conditions": [{"type": 1}]}}),
        Unknown,
        "status.conditions[0].type is not text",
    );
    says(
        "a.io/v1",
        "A",
        json!({"metadata": {"generation": "1"}}),
        Unknown,
        "metadata.generation is no number",
    );
    says(
        "v1",
        "Pod",
        json!({"status": {"phase": "Odd"}}),
        Unknown,
        "there is no phase Odd of a Pod",
    );
}

#[test]
fn health_deployments_table() {
    let available = condition(
        "Available",
        "True",
        "MinimumReplicasAvailable",
        "Deployment has minimum availability.",
    );
    let new = condition(
        "Progressing",
        "True",
        "NewReplicaSetAvailable",
        "ReplicaSet \"web-1\" has successfully progressed.",
    );
    let exceeded = condition(
        "Progressing",
        "False",
        "ProgressDeadlineExceeded",
        "ReplicaSet \"web-2\" has timed out progressing.",
    );
    let numbers = |r: i64, u: i64, ready: i64, a: i64, conditions: Value| {
        json!({"spec": {"replicas": 3, "progressDeadlineSeconds": 600},
            "status": {"replicas": r, "updatedReplicas": u, "readyReplicas": ready, "availableReplicas": a, "conditions": conditions}})
    };
    for (rest, status, message) in [
        (json!({}), InProgress, "replicas: 0/1"),
        (
            numbers(2, 2, 2, 2, json!([available, new])),
            InProgress,
            "replicas: 2/3",
        ),
        (
            numbers(3, 1, 3, 3, json!([available, new])),
            InProgress,
            "updated: 1/3",
        ),
        (
            numbers(4, 3, 3, 3, json!([available, new])),
            InProgress,
            "pods to be terminated: 1",
        ),
        (
            numbers(3, 3, 3, 2, json!([available, new])),
            InProgress,
            "available: 2/3",
        ),
        (
            numbers(3, 3, 2, 3, json!([available, new])),
            InProgress,
            "ready: 2/3",
        ),
        (
            numbers(3, 3, 3, 3, json!([available])),
            InProgress,
            "the new ReplicaSet is not available",
        ),
        (
            numbers(3, 3, 3, 3, json!([new])),
            InProgress,
            "the Deployment is not available",
        ),
        (
            numbers(3, 3, 3, 3, json!([available, new])),
            Current,
            "available, replicas: 3",
        ),
        (
            numbers(3, 1, 2, 2, json!([available, exceeded])),
            Failed,
            "the progress deadline is exceeded: ReplicaSet \"web-2\" has timed out progressing.",
        ),
        (
            json!({"spec": {"replicas": 1, "paused": true}}),
            InProgress,
            "the Deployment is paused; replicas: 0/1",
        ),
        // Without a deadline the controller writes no Progressing.
        (
            json!({"spec": {"replicas": 0}, "status": {"conditions": [available]}}),
            Current,
            "available, replicas: 0",
        ),
        (
            json!({"spec": {"replicas": 0, "progressDeadlineSeconds": 2147483647}, "status": {"conditions": [available]}}),
            Current,
            "available, replicas: 0",
        ),
    ] {
        says("apps/v1", "Deployment", rest, status, message);
    }
}

#[test]
fn health_other_workloads_table() {
    let set = |l: i64, a: i64, ready: i64, r: i64| json!({"spec": {"replicas": 2}, "status": {"fullyLabeledReplicas": l, "availableReplicas": a, "readyReplicas": ready, "replicas": r}});
    for (rest, status, message) in [
        (set(1, 2, 2, 2), InProgress, "labelled: 1/2"),
        (set(2, 1, 2, 2), InProgress, "available: 1/2"),
        (set(2, 2, 1, 2), InProgress, "ready: 1/2"),
        (set(3, 3, 3, 3), InProgress, "pods to be terminated: 1"),
        (set(2, 2, 2, 2), Current, "available, replicas: 2"),
        (
            json!({"status": {"conditions": [condition("ReplicaFailure", "True", "FailedCreate", "quota exceeded")]}}),
            InProgress,
            "pods cannot be made or deleted: quota exceeded",
        ),
    ] {
        says("apps/v1", "ReplicaSet", rest, status, message);
    }
    let set = |c: i64, u: i64, a: i64, r: i64| json!({"status": {"observedGeneration": 1, "desiredNumberScheduled": 4, "currentNumberScheduled": c, "updatedNumberScheduled": u, "numberAvailable": a, "numberReady": r}});
    for (rest, status, message) in [
        (json!({}), InProgress, "its controller has not seen it yet"),
        (
            json!({"status": {"observedGeneration": 1}}),
            InProgress,
            "the number of nodes is not yet known",
        ),
        (set(3, 4, 4, 4), InProgress, "scheduled: 3/4"),
        (set(4, 3, 4, 4), InProgress, "updated: 3/4"),
        (set(4, 4, 3, 4), InProgress, "available: 3/4"),
        (set(4, 4, 4, 3), InProgress, "ready: 3/4"),
        (set(4, 4, 4, 4), Current, "on every node, replicas: 4"),
        (
            json!({"spec": {"updateStrategy": {"type": "OnDelete"}}, "status": {"observedGeneration": 1, "desiredNumberScheduled": 4, "currentNumberScheduled": 4, "updatedNumberScheduled": 1, "numberAvailable": 4, "numberReady": 4}}),
            Current,
            "its pods are updated when they are deleted (OnDelete)",
        ),
        (
            json!({"metadata": {"generation": 2}, "spec": {"updateStrategy": {"type": "OnDelete"}}, "status": {"observedGeneration": 1}}),
            InProgress,
            "generation 2 is not yet observed, the latest observed is 1",
        ),
    ] {
        says("apps/v1", "DaemonSet", rest, status, message);
    }
    let set = |strategy: Value, r: i64, ready: i64, c: i64, u: i64, new: &str| {
        json!({"spec": {"replicas": 3, "updateStrategy": strategy}, "status": {"replicas": r, "readyReplicas": ready, "currentReplicas": c,
            "updatedReplicas": u, "currentRevision": "web-1", "updateRevision": new}})
    };
    let rolling = || json!({"type": "RollingUpdate"});
    let partition = || json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}});
    for (rest, status, message) in [
        (
            json!({"spec": {"updateStrategy": {"type": "OnDelete"}}}),
            Current,
            "its pods are updated when they are deleted (OnDelete)",
        ),
        (
            set(rolling(), 2, 3, 3, 3, "web-1"),
            InProgress,
            "replicas: 2/3",
        ),
        (
            set(rolling(), 3, 2, 3, 3, "web-1"),
            InProgress,
            "ready: 2/3",
        ),
        (
            set(rolling(), 4, 3, 3, 3, "web-1"),
            InProgress,
            "pods to be terminated: 1",
        ),
        (
            set(rolling(), 3, 3, 2, 3, "web-1"),
            InProgress,
            "current: 2/3",
        ),
        (
            set(rolling(), 3, 3, 3, 3, "web-2"),
            InProgress,
            "some pods are of the old revision",
        ),
        (
            set(rolling(), 3, 3, 3, 3, "web-1"),
            Current,
            "all pods are there, replicas: 3",
        ),
        (
            set(partition(), 3, 3, 1, 1, "web-2"),
            InProgress,
            "updated: 1/2",
        ),
        (
            set(partition(), 3, 3, 1, 2, "web-2"),
            Current,
            "the rollout of the partition is complete, updated: 2",
        ),
    ] {
        says("apps/v1", "StatefulSet", rest, status, message);
    }
}

#[test]
fn health_other_kinds_table() {
    for (rest, status, message) in [
        (json!({}), InProgress, "the Job has not started"),
        (
            json!({"status": {"startTime": "2024-05-01T10:00:00Z", "active": 1}}),
            InProgress,
            "the Job runs, succeeded: 0/1, active: 1, failed: 0",
        ),
        // It is about to fail: its pods are still terminating.
        (
            json!({"status": {"startTime": "2024-05-01T10:00:00Z", "failed": 1, "conditions": [condition("FailureTarget", "True", "BackoffLimitExceeded", "")]}}),
            InProgress,
            "the Job runs, succeeded: 0/1, active: 0, failed: 1",
        ),
        (
            json!({"spec": {"suspend": true}}),
            Current,
            "the Job is suspended",
        ),
        (
            json!({"spec": {"suspend": true}, "status": {"conditions": [condition("Suspended", "True", "JobSuspended", "Job suspended")]}}),
            Current,
            "the Job is suspended",
        ),
        // The end of a Job stays its end.
        (
            json!({"spec": {"suspend": true}, "status": {"conditions": [condition("Failed", "True", "DeadlineExceeded", "too late")]}}),
            Failed,
            "the Job has failed, failed: 0: too late",
        ),
        (
            json!({"spec": {"suspend": false}, "status": {"conditions": [condition("Suspended", "False", "JobResumed", "")]}}),
            InProgress,
            "the Job has not started",
        ),
        (
            json!({"spec": {"completions": 2}, "status": {"succeeded": 2, "conditions": [condition("Complete", "True", "", "")]}}),
            Current,
            "the Job has completed, succeeded: 2/2",
        ),
        (
            json!({"status": {"failed": 7, "conditions": [condition("Failed", "True", "BackoffLimitExceeded", "Job has reached the specified backoff limit")]}}),
            Failed,
            "the Job has failed, failed: 7: Job has reached the specified backoff limit",
        ),
    ] {
        says("batch/v1", "Job", rest, status, message);
    }
    says(
        "v1",
        "Service",
        json!({"spec": {"type": "ClusterIP"}}),
        Current,
        "the Service is ready",
    );
    says(
        "v1",
        "Service",
        json!({"spec": {"type": "LoadBalancer"}}),
        InProgress,
        "the load balancer has no clusterIP yet",
    );
    says(
        "v1",
        "Service",
        json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1"}}),
        Current,
        "the Service is ready",
    );
    says(
        "v1",
        "PersistentVolumeClaim",
        json!({"status": {"phase": "Pending"}}),
        InProgress,
        "the claim is not bound, its phase is Pending",
    );
    says(
        "v1",
        "PersistentVolumeClaim",
        json!({"status": {"phase": "Bound"}}),
        Current,
        "the claim is bound",
    );
    for (conditions, status, message) in [
        (json!([]), InProgress, "the CRD is being installed"),
        (
            json!([
                condition("NamesAccepted", "True", "", ""),
                condition("Established", "False", "Installing", "")
            ]),
            InProgress,
            "the CRD is being installed",
        ),
        (
            json!([condition(
                "NamesAccepted",
                "False",
                "PluralConflict",
                "\"widgets\" is already in use"
            )]),
            Failed,
            "\"widgets\" is already in use",
        ),
        (
            json!([condition(
                "Established",
                "False",
                "NotAccepted",
                "not all names are accepted"
            )]),
            Failed,
            "not all names are accepted",
        ),
        (
            json!([condition("Established", "True", "InitialNamesAccepted", "")]),
            Current,
            "the CRD is established",
        ),
    ] {
        says(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            json!({"status": {"conditions": conditions}}),
            status,
            message,
        );
    }
    for (api, kind) in [
        ("v1", "ConfigMap"),
        ("v1", "Secret"),
        ("batch/v1", "CronJob"),
        ("policy/v1", "PodDisruptionBudget"),
    ] {
        assert_eq!(
            verdict(&object(api, kind, json!({}))).status,
            Current,
            "{kind}"
        );
    }
    // A kind of the same name in another group is not judged by the rule.
    says(
        "example.org/v1",
        "Deployment",
        json!({}),
        Current,
        "it is there",
    );
}

#[test]
fn health_pods_table() {
    let phase = |phase: &str, rest: Value| {
        let mut status = json!({"phase": phase});
        status
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        json!({"metadata": {"creationTimestamp": "2024-05-01T10:00:00Z"}, "status": status})
    };
    let refused = json!({"conditions": [condition("PodScheduled", "False", "Unschedulable", "0/3 nodes are available")]});
    for (rest, status, message) in [
        (json!({}), InProgress, "no node has seen the Pod yet"),
        (
            phase("Pending", json!({})),
            InProgress,
            "the Pod is pending",
        ),
        (
            phase("Pending", refused.clone()),
            Failed,
            "the Pod cannot be scheduled: 0/3 nodes are available",
        ),
        (
            phase(
                "Running",
                json!({"conditions": [condition("Ready", "True", "", "")]}),
            ),
            Current,
            "the Pod is ready",
        ),
        (
            phase(
                "Running",
                json!({"conditions": [condition("Ready", "False", "", "")]}),
            ),
            InProgress,
            "the Pod runs but is not ready",
        ),
        (
            phase(
                "Running",
                json!({"containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
            ),
            Failed,
            "containers crash again and again: app",
        ),
        (
            phase("Succeeded", json!({})),
            Current,
            "the Pod has completed",
        ),
        (
            phase("Failed", json!({})),
            Current,
            "the Pod has ended without success",
        ),
    ] {
        says("v1", "Pod", rest, status, message);
    }
    let pod = object("v1", "Pod", phase("Pending", refused));
    assert_eq!(
        assess_at(&pod, None, "2024-05-01T10:00:14Z".parse().unwrap()).status,
        InProgress
    );
    assert_eq!(
        assess_at(&pod, None, "2024-05-01T10:00:15Z".parse().unwrap()).status,
        Failed
    );
}

fn pod(name: &str, status: Value) -> Object {
    let mut pod = object("v1", "Pod", json!({"status": status}));
    pod.edit(|fields| fields["metadata"]["name"] = name.into())
        .unwrap();
    pod
}

#[test]
fn pod_problems_are_sorted_by_name() {
    let waiting = |name: &str, reason: &str, message: &str| json!({"name": name, "ready": false, "state": {"waiting": {"reason": reason, "message": message}}});
    let pods = [
        pod(
            "c",
            json!({"phase": "Running", "containerStatuses": [
            {"name": "app", "ready": false, "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 1m20s"}},
             "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "no such table: orders\n"}}},
            {"name": "proxy", "ready": true, "state": {"running": {}}}]}),
        ),
        pod(
            "b",
            json!({"phase": "Pending", "initContainerStatuses": [waiting("migrate", "ImagePullBackOff", "Back-off pulling image \"a:1\"")],
            "containerStatuses": [waiting("app", "PodInitializing", "")]}),
        ),
        pod(
            "a",
            json!({"phase": "Pending", "conditions": [condition("PodScheduled", "False", "Unschedulable", "0/3 nodes are available: 3 Insufficient cpu.")]}),
        ),
        pod(
            "d",
            json!({"phase": "Running", "containerStatuses": [{"name": "app", "ready": false, "restartCount": 1, "state": {"running": {}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}),
        ),
        pod(
            "e",
            json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}),
        ),
        pod(
            "f",
            json!({"phase": "Pending", "containerStatuses": [waiting("app", "CreateContainerConfigError", "secret \"db\" not found"), waiting("x", "InvalidImageName", "")]}),
        ),
        pod(
            "g",
            json!({"phase": "Running", "containerStatuses": [{"name": "app", "ready": true, "state": {"running": {}}}]}),
        ),
        pod(
            "h",
            json!({"phase": "Succeeded", "containerStatuses": [{"name": "app", "ready": false, "state": {"terminated": {"exitCode": 0}}}]}),
        ),
    ];
    let said: Vec<String> = pod_problems(&pods)
        .iter()
        .map(|reason| format!("{}{reason}", if reason.failing { "! " } else { "  " }))
        .collect();
    assert_eq!(
        said,
        [
            "! pod a: Unschedulable: 0/3 nodes are available: 3 Insufficient cpu.",
            "! pod b, container migrate: ImagePullBackOff: Back-off pulling image \"a:1\"",
            "! pod c, container app: CrashLoopBackOff: exit code 1 (Error), restarted 4 times: no such table: orders",
            "  pod d, container app: OOMKilled: it runs again but is not ready; the last time it ended with exit code 137 (OOMKilled), restarted 1 time",
            "! pod e: Evicted: The node was low on resource: memory.",
            "! pod f, container app: CreateContainerConfigError: secret \"db\" not found",
            "! pod f, container x: InvalidImageName",
        ]
    );
}

#[test]
fn pod_problem_hostile_text_is_one_short_line() {
    let message = format!("\u{1b}[31mred\n{}", "x".repeat(100_000));
    let pods = [pod(
        "a",
        json!({"phase": "Pending", "containerStatuses": [{"name": "\u{202e}a", "state": {"waiting": {"reason": "ErrImagePull", "message": message}}}]}),
    )];
    let [reason] = &pod_problems(&pods)[..] else {
        panic!()
    };
    assert!(
        reason.message.chars().count() < 520 && reason.message.starts_with("\\u{1b}[31mred x"),
        "{reason}"
    );
    assert_eq!(reason.container.as_deref(), Some("\\u{202e}a"));
}

#[test]
fn pod_selector_of_workloads_table() {
    for (api, kind, rest, expected) in [
        (
            "apps/v1",
            "Deployment",
            json!({"spec": {"selector": {"matchLabels": {"app": "web", "tier": ""}}}}),
            Some("app=web,tier="),
        ),
        (
            "apps/v1",
            "StatefulSet",
            json!({"spec": {"selector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["x", "y"]}, {"key": "b", "operator": "NotIn", "values": ["z"]},
            {"key": "c", "operator": "Exists"}, {"key": "d", "operator": "DoesNotExist"}]}}}),
            Some("a in (x,y),b notin (z),c,!d"),
        ),
        (
            "batch/v1",
            "Job",
            json!({}),
            Some("batch.kubernetes.io/job-name=web"),
        ),
        (
            "apps/v1",
            "Deployment",
            json!({"spec": {"selector": {}}}),
            None,
        ),
        (
            "apps/v1",
            "Deployment",
            json!({"spec": {"selector": {"matchExpressions": [{"key": "a", "operator": "Odd"}]}}}),
            None,
        ),
        (
            "v1",
            "Service",
            json!({"spec": {"selector": {"matchLabels": {"app": "web"}}}}),
            None,
        ),
    ] {
        assert_eq!(
            pod_selector(&object(api, kind, rest)),
            expected.map(|selector| ("shop".to_owned(), selector.to_owned())),
            "{kind}"
        );
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-zA-Z/]{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "True",
            "False",
            "Running",
            "Pending",
            "Failed",
            "Unschedulable",
            "LoadBalancer"
        ])
        .prop_map(Value::from)
    ];
    let key = prop::sample::select(vec![
        "conditions",
        "type",
        "status",
        "reason",
        "phase",
        "replicas",
        "state",
        "waiting",
        "terminated",
        "containerStatuses",
        "initContainerStatuses",
        "lastState",
        "name",
        "generation",
        "observedGeneration",
        "selector",
        "matchLabels",
        "matchExpressions",
        "updateStrategy",
        "rollingUpdate",
        "partition",
        "exitCode",
    ]);
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..8).prop_map(|fields| Value::Object(
                fields
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()
            ))
        ]
    })
}

proptest! {
    #[test]
    fn health_any_object_never_panics(spec in any_json(), status in any_json(), generation in any_json(), kind in prop::sample::select(vec![
        ("apps/v1", "Deployment"), ("apps/v1", "ReplicaSet"), ("apps/v1", "StatefulSet"), ("apps/v1", "DaemonSet"), ("v1", "Pod"), ("v1", "Service"),
        ("batch/v1", "Job"), ("apiregistration.k8s.io/v1", "APIService"), ("v1", "PersistentVolumeClaim"), ("apiextensions.k8s.io/v1", "CustomResourceDefinition"), ("a.io/v1", "A")])) {
        let value = json!({"apiVersion": kind.0, "kind": kind.1, "metadata": {"name": "a", "namespace": "b", "generation": generation}, "spec": spec, "status": status});
        let object = Object::new(value).unwrap();
        let health = assess_at(&object, None, Timestamp::UNIX_EPOCH);
        prop_assert!(health.status != HealthStatus::NotFound && health.message.chars().count() <= 6 * 500);
        let _ = pod_selector(&object);
        let _ = pod_problems(&[object]);
    }
}
