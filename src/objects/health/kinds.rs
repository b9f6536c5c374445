//! Rules for kinds other than workloads: those of kstatus, and of kinds that run once.

use super::{
    Condition, Health, HealthOverTime, MalformedField, RunEnd, SCHEDULE_WINDOW, number, run_end,
    text,
};
use crate::objects::object::Object;
use serde_json::Value;

/// A Service is current; one of type LoadBalancer once it has a cluster IP.
pub(crate) fn service(object: &Object) -> Health {
    if text(object, "/spec/type", "ClusterIP") == "LoadBalancer"
        && text(object, "/spec/clusterIP", "").is_empty()
    {
        return Health::in_progress("the load balancer has no clusterIP yet");
    }
    Health::current("the Service is ready")
}

/// A claim is in progress until it is bound.
pub(crate) fn claim(object: &Object) -> Health {
    match text(object, "/status/phase", "unknown") {
        "Bound" => Health::current("the claim is bound"),
        phase => Health::in_progress(format!("the claim is not bound, its phase is {phase}")),
    }
}

/// A Pod is judged by its phase. One that ended without success is current: it does not change any
/// more, and its controller judges it.
pub(crate) fn pod(
    object: &Object,
    conditions: &[Condition<'_>],
) -> Result<HealthOverTime, MalformedField> {
    let health = match text(object, "/status/phase", "") {
        "Succeeded" => Health::current("the Pod has completed"),
        "Failed" => Health::current("the Pod has ended without success"),
        "Running"
            if conditions
                .iter()
                .any(|condition| condition.kind == "Ready" && condition.is("True")) =>
        {
            Health::current("the Pod is ready")
        }
        "Running" => match crash_loops(object) {
            names if names.is_empty() => Health::in_progress("the Pod runs but is not ready"),
            names => Health::failed(format!(
                "containers crash again and again: {}",
                names.join(", ")
            )),
        },
        "Pending" => {
            let refused = conditions
                .iter()
                .find(|condition| condition.kind == "PodScheduled" && condition.is("False"));
            match refused.filter(|condition| condition.reason == "Unschedulable") {
                Some(condition) => {
                    return Ok(HealthOverTime::young(
                        object,
                        SCHEDULE_WINDOW,
                        Health::in_progress("the Pod is not scheduled yet"),
                        Health::failed(format!(
                            "the Pod cannot be scheduled: {}",
                            condition.text()
                        )),
                    ));
                }
                None => Health::in_progress("the Pod is pending"),
            }
        }
        "" => Health::in_progress("no node has seen the Pod yet"),
        phase => return Err(format!("there is no phase {phase} of a Pod")),
    };
    Ok(health.into())
}

fn crash_loops(object: &Object) -> Vec<&str> {
    let containers = object
        .pointer("/status/containerStatuses")
        .and_then(Value::as_array);
    let waits = |container: &&Value| {
        container
            .pointer("/state/waiting/reason")
            .and_then(Value::as_str)
            == Some("CrashLoopBackOff")
    };
    containers
        .into_iter()
        .flatten()
        .filter(waits)
        .filter_map(|container| container.get("name")?.as_str())
        .collect()
}

/// A Job is in progress until it completes or fails: what depends on a migration waits for its end.
/// (kstatus calls a running Job current.) A suspended one is as its spec demands.
pub(crate) fn job(object: &Object, conditions: &[Condition<'_>]) -> Health {
    let completions = number(
        object,
        "/spec/completions",
        number(object, "/spec/parallelism", 1),
    );
    let succeeded = number(object, "/status/succeeded", 0);
    let failed = number(object, "/status/failed", 0);
    for condition in conditions.iter().filter(|condition| condition.is("True")) {
        match condition.kind {
            "Complete" => {
                return Health::current(format!(
                    "the Job has completed, succeeded: {succeeded}/{completions}"
                ));
            }
            "Failed" => {
                return Health::failed(format!(
                    "the Job has failed, failed: {failed}: {}",
                    condition.text()
                ));
            }
            _ => {}
        }
    }
    if object.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true) {
        return Health::current("the Job is suspended");
    }
    if text(object, "/status/startTime", "").is_empty() {
        return Health::in_progress("the Job has not started");
    }
    let active = number(object, "/status/active", 0);
    Health::in_progress(format!(
        "the Job runs, succeeded: {succeeded}/{completions}, active: {active}, failed: {failed}"
    ))
}

/// A run of Argo Workflows or Tekton is judged like a Job: what depends on it waits for its end.
pub(crate) fn run(object: &Object, conditions: &[Condition<'_>]) -> Health {
    let succeeded = conditions.iter().find(|one| one.kind == "Succeeded");
    let message = match succeeded.map(Condition::text) {
        Some(message) => message,
        None => text(object, "/status/message", "").to_owned(),
    };
    let said = |verdict: &str| match message.as_str() {
        "" => verdict.to_owned(),
        message => format!("{verdict}: {message}"),
    };
    match run_end(object) {
        Some(RunEnd::Completed) => Health::current("the run has completed"),
        Some(RunEnd::Failed) => Health::failed(said("the run has failed")),
        None if object.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true) => {
            Health::current("the run is suspended")
        }
        None => Health::in_progress(said("the run has not ended")),
    }
}

/// A Rollout of Argo Rollouts states its phase. A paused one waits for a promotion.
pub(crate) fn rollout(object: &Object) -> Health {
    let message = text(object, "/status/message", "");
    let said = |verdict: &str| match message {
        "" => verdict.to_owned(),
        message => format!("{verdict}: {message}"),
    };
    match text(object, "/status/phase", "") {
        "Healthy" => Health::current("the Rollout is healthy"),
        "Degraded" => Health::failed(said("the Rollout is degraded")),
        "Paused" => Health::in_progress(said("the Rollout is paused until it is promoted")),
        _ => Health::in_progress(said("the Rollout is progressing")),
    }
}

/// An APIService is in progress until its server answers.
pub(crate) fn api_service(conditions: &[Condition<'_>]) -> Health {
    match conditions
        .iter()
        .find(|condition| condition.kind == "Available")
    {
        Some(condition) if condition.is("True") => Health::current("the API is available"),
        Some(condition) => Health::in_progress(condition.text()),
        None => Health::in_progress("the API is not available yet"),
    }
}

/// A CRD is current once its resources are served; it fails on a name conflict with another CRD.
pub(crate) fn definition(conditions: &[Condition<'_>]) -> Health {
    for condition in conditions {
        match condition.kind {
            "NamesAccepted" if condition.is("False") => return Health::failed(condition.text()),
            "Established" if condition.is("False") && condition.reason != "Installing" => {
                return Health::failed(condition.text());
            }
            "Established" if condition.is("True") => {
                return Health::current("the CRD is established");
            }
            _ => {}
        }
    }
    Health::in_progress("the CRD is being installed")
}
