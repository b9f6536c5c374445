//! Problems of a workload's pods, container by container.

use super::plain;
use crate::objects::object::Object;
use serde_json::Value;

/// A cause that keeps a pod from being ready.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodProblem {
    pub pod: String,
    /// The container; `None` if the problem concerns the whole pod.
    pub container: Option<String>,
    /// The reason code of the cluster, as "ImagePullBackOff".
    pub reason: String,
    /// Details as one sanitised line; may be empty.
    pub message: String,
    /// Whether it lasts until the user changes something.
    pub failing: bool,
}

impl std::fmt::Display for PodProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pod {}", self.pod)?;
        if let Some(container) = &self.container {
            write!(f, ", container {container}")?;
        }
        write!(f, ": {}", self.reason)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

/// Waiting reasons of every normal start.
const ORDINARY: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Returns the problems of pods in the order of their names, init containers first. Pods that are
/// ready, completed or terminating have none.
pub fn pod_problems(pods: &[Object]) -> Vec<PodProblem> {
    let mut pods: Vec<&Object> = pods.iter().filter(|pod| !pod.is_terminating()).collect();
    pods.sort_by_key(|pod| (pod.namespace(), pod.name()));
    pods.into_iter().flat_map(of_pod).collect()
}

fn of_pod(pod: &Object) -> Vec<PodProblem> {
    let text = |pointer: &str| {
        pod.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let reason = |reason: &str, message: &str, failing: bool| PodProblem {
        pod: plain(pod.name()),
        container: None,
        reason: plain(reason),
        message: plain(message),
        failing,
    };
    let mut reasons = Vec::new();
    let phase = text("/status/phase");
    if phase == "Succeeded" {
        return reasons;
    }
    if phase == "Failed" && !text("/status/reason").is_empty() {
        // Evicted, DeadlineExceeded, NodeLost and the like.
        reasons.push(reason(
            text("/status/reason"),
            text("/status/message"),
            true,
        ));
    }
    for condition in pod
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let field = |name: &str| {
            condition
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        if field("type") == "PodScheduled"
            && field("status") == "False"
            && !field("reason").is_empty()
        {
            // A scheduling gate is intended; Unschedulable is a problem.
            reasons.push(reason(
                field("reason"),
                field("message"),
                field("reason") == "Unschedulable",
            ));
        }
    }
    for (list, init) in [
        ("/status/initContainerStatuses", true),
        ("/status/containerStatuses", false),
    ] {
        for container in pod
            .pointer(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if let Some((word, message, failing)) = of_container(container, init, phase == "Failed")
            {
                let container = container.get("name").and_then(Value::as_str).map(plain);
                reasons.push(PodProblem {
                    container,
                    ..reason(&word, &message, failing)
                });
            }
        }
    }
    reasons
}

/// Returns reason, message, and whether the problem lasts.
fn of_container(container: &Value, init: bool, ended: bool) -> Option<(String, String, bool)> {
    let text = |pointer: &str| {
        container
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let there = |pointer: &str| container.pointer(pointer).is_some_and(Value::is_object);
    if there("/state/waiting") {
        let reason = text("/state/waiting/reason");
        if reason.is_empty() || ORDINARY.contains(&reason) {
            return None;
        }
        let message = match reason {
            "CrashLoopBackOff" => last_end(container, "/lastState/terminated")
                .unwrap_or_else(|| text("/state/waiting/message").to_owned()),
            _ => text("/state/waiting/message").to_owned(),
        };
        return Some((reason.to_owned(), message, true));
    }
    if there("/state/terminated") {
        let code = container
            .pointer("/state/terminated/exitCode")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        if code == 0 {
            return None;
        }
        let reason = Some(text("/state/terminated/reason"))
            .filter(|reason| !reason.is_empty())
            .unwrap_or("Error");
        // In a running pod, the container is restarted.
        return Some((
            reason.to_owned(),
            last_end(container, "/state/terminated")?,
            ended,
        ));
    }
    if there("/state/running") && container.get("ready").and_then(Value::as_bool) == Some(false) {
        if init {
            let started = container.get("started").and_then(Value::as_bool) == Some(true);
            return (!started).then(|| ("InitContainerRunning".to_owned(), String::new(), false));
        }
        let killed = text("/lastState/terminated/reason") == "OOMKilled";
        let reason = if killed { "OOMKilled" } else { "NotReady" };
        let message = match last_end(container, "/lastState/terminated") {
            Some(end) => {
                format!("it runs again but is not ready; the last time it ended with {end}")
            }
            None => "it runs but is not ready".to_owned(),
        };
        return Some((reason.to_owned(), message, false));
    }
    None
}

/// Describes a termination: `exit code 1 (Error), restarted 4 times: message`.
fn last_end(container: &Value, pointer: &str) -> Option<String> {
    let end = container.pointer(pointer).filter(|end| end.is_object())?;
    let text = |name: &str| {
        end.get(name)
            .and_then(Value::as_str)
            .map(str::trim)
            .filter(|text| !text.is_empty())
    };
    let mut said = match end
        .get("signal")
        .and_then(Value::as_i64)
        .filter(|signal| *signal != 0)
    {
        Some(signal) => format!("signal {signal}"),
        None => format!(
            "exit code {}",
            end.get("exitCode").and_then(Value::as_i64).unwrap_or(0)
        ),
    };
    if let Some(reason) = text("reason") {
        said.push_str(&format!(" ({reason})"));
    }
    if let Some(restarts) = container
        .get("restartCount")
        .and_then(Value::as_i64)
        .filter(|restarts| *restarts > 0)
    {
        said.push_str(&format!(
            ", restarted {restarts} {}",
            if restarts == 1 { "time" } else { "times" }
        ));
    }
    if let Some(message) = text("message") {
        said.push_str(&format!(": {message}"));
    }
    Some(said)
}

/// Returns whether the objects of a kind run pods, as far as the kind is known.
pub fn runs_pods(group: &str, kind: &str) -> bool {
    match group {
        "" => matches!(kind, "Pod" | "ReplicationController"),
        "apps" | "extensions" => matches!(
            kind,
            "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet"
        ),
        "batch" => kind == "Job",
        "argoproj.io" => matches!(kind, "Rollout" | "Workflow"),
        "serving.knative.dev" => matches!(kind, "Service" | "Configuration" | "Revision"),
        "tekton.dev" => matches!(kind, "TaskRun" | "PipelineRun"),
        "apps.kruise.io"
        | "postgresql.cnpg.io"
        | "leaderworkerset.x-k8s.io"
        | "jobset.x-k8s.io" => true,
        _ => false,
    }
}

/// Returns namespace and label selector of a workload's pods. `None` without a selector or
/// namespace, and for a selector that would match every pod.
pub fn pod_selector(workload: &Object) -> Option<(String, String)> {
    let gvk = workload.gvk();
    let has_pods = match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("apps" | "extensions", kind) => matches!(
            kind,
            "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet"
        ),
        ("batch", kind) => kind == "Job",
        _ => false,
    };
    if !has_pods {
        return None;
    }
    let namespace = workload.namespace()?.to_owned();
    let mut terms = Vec::new();
    for (key, value) in workload
        .pointer("/spec/selector/matchLabels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        terms.push(format!("{key}={}", value.as_str()?));
    }
    for term in workload
        .pointer("/spec/selector/matchExpressions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let key = term.get("key")?.as_str()?;
        let values = || -> Option<String> {
            let values: Option<Vec<&str>> = term
                .get("values")?
                .as_array()?
                .iter()
                .map(Value::as_str)
                .collect();
            Some(values?.join(","))
        };
        terms.push(match term.get("operator")?.as_str()? {
            "In" => format!("{key} in ({})", values()?),
            "NotIn" => format!("{key} notin ({})", values()?),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        });
    }
    if terms.is_empty() && gvk.kind == "Job" {
        // The API server sets the selector of a Job; the label always exists.
        terms.push(format!("batch.kubernetes.io/job-name={}", workload.name()));
    }
    (!terms.is_empty()).then(|| (namespace, terms.join(",")))
}
