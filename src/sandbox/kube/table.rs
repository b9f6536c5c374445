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
    let number =
        |pointer: &str| json!(object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0));
    let text = |pointer: &str| {
        json!(
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or("<none>")
        )
    };
    let size = |field: &str| json!(object[field].as_object().map_or(0, serde_json::Map::len));
    let ready = |wanted: &str| {
        json!(format!(
            "{}/{}",
            number("/status/readyReplicas"),
            number(wanted)
        ))
    };
    match columns(kind) {
        [] => Vec::new(),
        _ => match kind.kind.as_str() {
            "Pod" => pod(object),
            "Deployment" => vec![
                ready("/spec/replicas"),
                number("/status/updatedReplicas"),
                number("/status/availableReplicas"),
            ],
            "ReplicaSet" => vec![
                number("/spec/replicas"),
                number("/status/replicas"),
                number("/status/readyReplicas"),
            ],
            "StatefulSet" => vec![ready("/spec/replicas")],
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
                let done = object["status"]["completionTime"].is_string();
                vec![
                    json!(if done { "Complete" } else { "Running" }),
                    json!(format!("{}/1", number("/status/succeeded"))),
                ]
            }
            "CronJob" => vec![
                text("/spec/schedule"),
                json!(if object["spec"]["suspend"] == true {
                    "True"
                } else {
                    "False"
                }),
            ],
            "Service" => {
                let port = |port: &Value| {
                    format!(
                        "{}/{}",
                        port["port"],
                        port["protocol"].as_str().unwrap_or("TCP")
                    )
                };
                let ports: Vec<String> = object["spec"]["ports"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(port)
                    .collect();
                vec![
                    text("/spec/type"),
                    text("/spec/clusterIP"),
                    json!("<none>"),
                    json!(ports.join(",")),
                ]
            }
            "ConfigMap" => vec![size("data")],
            "Secret" => vec![text("/type"), size("data")],
            "Namespace" | "PersistentVolumeClaim" => vec![text("/status/phase")],
            "Node" => vec![json!("Ready")],
            "Ingress" => {
                let hosts: Vec<&str> = object["spec"]["rules"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|rule| rule["host"].as_str())
                    .collect();
                vec![
                    text("/spec/ingressClassName"),
                    json!(if hosts.is_empty() {
                        "*".to_owned()
                    } else {
                        hosts.join(",")
                    }),
                ]
            }
            "Event" => {
                let of = &object["involvedObject"];
                let about = format!(
                    "{}/{}",
                    of["kind"].as_str().unwrap_or_default().to_lowercase(),
                    of["name"].as_str().unwrap_or_default()
                );
                vec![
                    text("/type"),
                    text("/reason"),
                    json!(about),
                    text("/message"),
                ]
            }
            _ => Vec::new(),
        },
    }
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
pub enum Include {
    Nothing,
    Metadata,
    Whole,
}

/// A table of objects.
pub fn table(
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
pub fn metadata(object: &Value) -> Value {
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
