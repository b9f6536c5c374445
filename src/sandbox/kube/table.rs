//! Objects as a table, which is what `kubectl get` shows. Pure.

use super::kinds::SandboxKind;
use jiff::Timestamp;
use serde_json::{Value, json};

/// The columns of a kind between its name and its age.
fn columns(kind: &SandboxKind) -> &'static [&'static str] {
    match (kind.builtin, kind.kind.as_str()) {
        (true, "Pod") => &["Ready", "Status", "Restarts"],
        (true, "Deployment") => &["Ready", "Up-to-date", "Available"],
        (true, "ReplicaSet") => &["Desired", "Current", "Ready"],
        (true, "StatefulSet") => &["Ready"],
        (true, "DaemonSet") => &["Desired", "Current", "Ready", "Up-to-date", "Available"],
        (true, "Job") => &["Status", "Completions"],
        (true, "CronJob") => &["Schedule", "Suspend"],
        (true, "Service") => &["Type", "Cluster-IP", "External-IP", "Port(s)"],
        (true, "ConfigMap") => &["Data"],
        (true, "Secret") => &["Type", "Data"],
        (true, "Namespace" | "Node" | "PersistentVolumeClaim") => &["Status"],
        (true, "Ingress") => &["Class", "Hosts"],
        (true, "Event") => &["Type", "Reason", "Object", "Message"],
        _ => &[],
    }
}

fn cells(kind: &SandboxKind, object: &Value) -> Vec<Value> {
    if columns(kind).is_empty() {
        return Vec::new();
    }
    let number = |pointer: &str| number(object, pointer);
    let size = |field: &str| json!(object[field].as_object().map_or(0, serde_json::Map::len));
    let ready = || {
        let (ready, wanted) = (number("/status/readyReplicas"), number("/spec/replicas"));
        json!(format!("{ready}/{wanted}"))
    };
    match kind.kind.as_str() {
        "Pod" => pod(object),
        "Deployment" => vec![
            ready(),
            number("/status/updatedReplicas"),
            number("/status/availableReplicas"),
        ],
        "ReplicaSet" => vec![
            number("/spec/replicas"),
            number("/status/replicas"),
            number("/status/readyReplicas"),
        ],
        "StatefulSet" => vec![ready()],
        "DaemonSet" => [
            "desiredNumberScheduled",
            "currentNumberScheduled",
            "numberReady",
            "updatedNumberScheduled",
            "numberAvailable",
        ]
        .map(|field| number(&format!("/status/{field}")))
        .to_vec(),
        "Job" => {
            let is_done = object["status"]["completionTime"].is_string();
            let status = if is_done { "Complete" } else { "Running" };
            let completions = format!("{}/1", number("/status/succeeded"));
            vec![json!(status), json!(completions)]
        }
        "CronJob" => {
            let is_suspended = object["spec"]["suspend"] == true;
            let suspend = if is_suspended { "True" } else { "False" };
            vec![text(object, "/spec/schedule"), json!(suspend)]
        }
        "Service" => service(object),
        "ConfigMap" => vec![size("data")],
        "Secret" => vec![text(object, "/type"), size("data")],
        "Namespace" | "PersistentVolumeClaim" => vec![text(object, "/status/phase")],
        "Node" => vec![json!("Ready")],
        "Ingress" => ingress(object),
        "Event" => event(object),
        _ => Vec::new(),
    }
}

fn number(object: &Value, pointer: &str) -> Value {
    json!(object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0))
}

fn text(object: &Value, pointer: &str) -> Value {
    let text = object.pointer(pointer).and_then(Value::as_str);
    json!(text.unwrap_or("<none>"))
}

fn service(object: &Value) -> Vec<Value> {
    let show = |port: &Value| {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        format!("{}/{protocol}", port["port"])
    };
    let ports = object["spec"]["ports"].as_array().into_iter().flatten();
    let ports: Vec<String> = ports.map(show).collect();
    vec![
        text(object, "/spec/type"),
        text(object, "/spec/clusterIP"),
        json!("<none>"),
        json!(ports.join(",")),
    ]
}

fn ingress(object: &Value) -> Vec<Value> {
    let rules = object["spec"]["rules"].as_array().into_iter().flatten();
    let hosts: Vec<&str> = rules.filter_map(|rule| rule["host"].as_str()).collect();
    let hosts = if hosts.is_empty() {
        "*".to_owned()
    } else {
        hosts.join(",")
    };
    vec![text(object, "/spec/ingressClassName"), json!(hosts)]
}

fn event(object: &Value) -> Vec<Value> {
    let involved = &object["involvedObject"];
    let kind = involved["kind"].as_str().unwrap_or_default().to_lowercase();
    let name = involved["name"].as_str().unwrap_or_default();
    vec![
        text(object, "/type"),
        text(object, "/reason"),
        json!(format!("{kind}/{name}")),
        text(object, "/message"),
    ]
}

fn pod(object: &Value) -> Vec<Value> {
    let statuses = object["status"]["containerStatuses"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let waiting = statuses
        .iter()
        .find_map(|container| container["state"]["waiting"]["reason"].as_str());
    let phase = object["status"]["phase"].as_str().unwrap_or("Pending");
    let status = match (
        object["metadata"]["deletionTimestamp"].is_null(),
        waiting,
        phase,
    ) {
        (false, ..) => "Terminating",
        (_, Some(reason), _) => reason,
        (_, _, "Succeeded") => "Completed",
        (_, _, phase) => phase,
    };
    let ready = statuses
        .iter()
        .filter(|container| container["ready"] == true)
        .count();
    let all = object["spec"]["containers"].as_array().map_or(0, Vec::len);
    vec![json!(format!("{ready}/{all}")), json!(status), json!(0)]
}

/// The part of each object that goes with its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Include {
    Nothing,
    Metadata,
    Whole,
}

/// A table of objects.
pub(super) fn table(
    kind: &SandboxKind,
    objects: &[&Value],
    revision: u64,
    include: Include,
    now: Timestamp,
) -> Value {
    let column = |name: &str, kind: &str, priority: u8| json!({"name": name, "type": kind, "format": if name == "Name" { "name" } else { "" }, "description": "", "priority": priority});
    let mut definitions = vec![column("Name", "string", 0)];
    definitions.extend(columns(kind).iter().map(|name| column(name, "string", 0)));
    definitions.push(column("Age", "string", 0));
    let row = |object: &&Value| {
        let mut all = vec![object["metadata"]["name"].clone()];
        all.extend(cells(kind, object));
        let made = object["metadata"]["creationTimestamp"]
            .as_str()
            .and_then(|time| time.parse::<Timestamp>().ok());
        all.push(json!(made.map_or_else(
            || "<unknown>".to_owned(),
            |made| age(now.duration_since(made).as_secs())
        )));
        let mut row = json!({"cells": all});
        match include {
            Include::Nothing => {}
            Include::Metadata => row["object"] = metadata(object),
            Include::Whole => row["object"] = Value::clone(object),
        }
        row
    };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": revision.to_string()},
        "columnDefinitions": definitions, "rows": objects.iter().map(row).collect::<Vec<_>>(),
    })
}

/// An object's metadata alone, as `PartialObjectMetadata`.
pub(super) fn metadata(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// A span of time as kubectl writes it.
fn age(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}
