//! Rules of kstatus for workloads that keep a number of pods.

use super::{Condition, Health, number, text};
use crate::objects::object::Object;
use serde_json::Value;

const ON_DELETE: &str = "its pods are updated when they are deleted (OnDelete)";

/// A Deployment fails after its progress deadline; it is current when every replica is updated and
/// available.
pub(crate) fn deployment(object: &Object, conditions: &[Condition<'_>]) -> Health {
    // Without a deadline (or with the greatest value, which means the same) the controller never
    // writes Progressing.
    let unbounded = i64::from(i32::MAX);
    let mut progressed = number(object, "/spec/progressDeadlineSeconds", unbounded) == unbounded;
    let mut available = false;
    for condition in conditions {
        match condition.kind {
            "Progressing" if condition.reason == "ProgressDeadlineExceeded" => {
                let more = if condition.message.is_empty() {
                    String::new()
                } else {
                    format!(": {}", condition.message)
                };
                return Health::failed(format!("the progress deadline is exceeded{more}"));
            }
            "Progressing" => {
                progressed |= condition.is("True") && condition.reason == "NewReplicaSetAvailable"
            }
            "Available" => available |= condition.is("True"),
            _ => {}
        }
    }
    let wanted = number(object, "/spec/replicas", 1);
    let there = number(object, "/status/replicas", 0);
    let updated = number(object, "/status/updatedReplicas", 0);
    let ready = number(object, "/status/readyReplicas", 0);
    let usable = number(object, "/status/availableReplicas", 0);
    let message = if wanted > there {
        format!("replicas: {there}/{wanted}")
    } else if wanted > updated {
        format!("updated: {updated}/{wanted}")
    } else if there > wanted {
        format!("pods to be terminated: {}", there.saturating_sub(wanted))
    } else if updated > usable {
        format!("available: {usable}/{updated}")
    } else if wanted > ready {
        format!("ready: {ready}/{wanted}")
    } else if !progressed {
        "the new ReplicaSet is not available".to_owned()
    } else if !available {
        "the Deployment is not available".to_owned()
    } else {
        return Health::current(format!("available, replicas: {there}"));
    };
    let paused = object.pointer("/spec/paused").and_then(Value::as_bool) == Some(true);
    Health::in_progress(match paused {
        true => format!("the Deployment is paused; {message}"),
        false => message,
    })
}

/// A ReplicaSet cannot fail: its controller retries for ever.
pub(crate) fn replica_set(object: &Object, conditions: &[Condition<'_>]) -> Health {
    if let Some(failure) = conditions
        .iter()
        .find(|condition| condition.kind == "ReplicaFailure" && condition.is("True"))
    {
        return Health::in_progress(format!(
            "pods cannot be made or deleted: {}",
            failure.text()
        ));
    }
    let wanted = number(object, "/spec/replicas", 1);
    let there = number(object, "/status/replicas", 0);
    let labelled = number(object, "/status/fullyLabeledReplicas", 0);
    let usable = number(object, "/status/availableReplicas", 0);
    let ready = number(object, "/status/readyReplicas", 0);
    let message = if wanted > labelled {
        format!("labelled: {labelled}/{wanted}")
    } else if wanted > usable {
        format!("available: {usable}/{wanted}")
    } else if wanted > ready {
        format!("ready: {ready}/{wanted}")
    } else if there > wanted {
        format!("pods to be terminated: {}", there.saturating_sub(wanted))
    } else {
        return Health::current(format!("available, replicas: {there}"));
    };
    Health::in_progress(message)
}

pub(crate) fn daemon_set(object: &Object) -> Health {
    // The API server writes zeros into the status of a new one.
    if object.pointer("/status/observedGeneration").is_none() {
        return Health::in_progress("its controller has not seen it yet");
    }
    // kstatus waits for updates that only a deletion of the pods brings.
    if text(object, "/spec/updateStrategy/type", "") == "OnDelete" {
        return Health::current(ON_DELETE);
    }
    let wanted = number(object, "/status/desiredNumberScheduled", -1);
    let scheduled = number(object, "/status/currentNumberScheduled", 0);
    let updated = number(object, "/status/updatedNumberScheduled", 0);
    let usable = number(object, "/status/numberAvailable", 0);
    let ready = number(object, "/status/numberReady", 0);
    let message = if wanted == -1 {
        "the number of nodes is not yet known".to_owned()
    } else if wanted > scheduled {
        format!("scheduled: {scheduled}/{wanted}")
    } else if wanted > updated {
        format!("updated: {updated}/{wanted}")
    } else if wanted > usable {
        format!("available: {usable}/{wanted}")
    } else if wanted > ready {
        format!("ready: {ready}/{wanted}")
    } else {
        return Health::current(format!("on every node, replicas: {wanted}"));
    };
    Health::in_progress(message)
}

/// A StatefulSet writes no conditions. Only its numbers and revisions count, and it cannot fail.
pub(crate) fn stateful_set(object: &Object) -> Health {
    if text(object, "/spec/updateStrategy/type", "") == "OnDelete" {
        return Health::current(ON_DELETE);
    }
    let wanted = number(object, "/spec/replicas", 1);
    let there = number(object, "/status/replicas", 0);
    let ready = number(object, "/status/readyReplicas", 0);
    let current = number(object, "/status/currentReplicas", 0);
    let updated = number(object, "/status/updatedReplicas", 0);
    let partition = number(object, "/spec/updateStrategy/rollingUpdate/partition", -1);
    let message = if wanted > there {
        format!("replicas: {there}/{wanted}")
    } else if wanted > ready {
        format!("ready: {ready}/{wanted}")
    } else if there > wanted {
        format!("pods to be terminated: {}", there.saturating_sub(wanted))
    } else if partition != -1 {
        // Only pods from the partition up are updated.
        let due = wanted.saturating_sub(partition);
        if updated >= due {
            return Health::current(format!(
                "the rollout of the partition is complete, updated: {updated}"
            ));
        }
        format!("updated: {updated}/{due}")
    } else if wanted > current {
        format!("current: {current}/{wanted}")
    } else if text(object, "/status/currentRevision", "")
        != text(object, "/status/updateRevision", "")
    {
        "some pods are of the old revision".to_owned()
    } else {
        return Health::current(format!("all pods are there, replicas: {there}"));
    };
    Health::in_progress(message)
}
