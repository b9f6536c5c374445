//! Health of live objects: status and message.
//!
//! The rules are those of kstatus (sigs.k8s.io/cli-utils, `pkg/kstatus`), which Flux and kpt share,
//! so that an object is as healthy here as it is there. In their order: deletion, an unobserved
//! generation, the conditions Reconciling and Stalled, the rule of a built-in kind, the condition
//! Ready. An object without any of them is current. [`pod_problems`] adds what kstatus leaves out:
//! why the pods of a workload do not become ready.

mod kinds;
mod pods;
#[cfg(test)]
mod tests;
mod workloads;

pub use pods::{PodProblem, pod_problems, pod_selector};

use crate::objects::object::Object;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::fmt;

/// The health of an object, in the terms of kstatus.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
pub enum HealthStatus {
    /// The object is as its spec demands.
    Current,
    /// The object is on its way there.
    InProgress,
    /// The object does not get there by itself.
    Failed,
    Terminating,
    /// The object does not exist; only a look-up can find that.
    NotFound,
    /// Its status is malformed.
    Unknown,
}

impl HealthStatus {
    /// Returns the term, as JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            HealthStatus::Current => "Current",
            HealthStatus::InProgress => "InProgress",
            HealthStatus::Failed => "Failed",
            HealthStatus::Terminating => "Terminating",
            HealthStatus::NotFound => "NotFound",
            HealthStatus::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A status with its reason, in one line that is safe to print.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Health {
    pub status: HealthStatus,
    pub message: String,
}

impl Health {
    /// Creates a health; foreign text in the message is sanitised and truncated.
    pub fn new(status: HealthStatus, message: impl AsRef<str>) -> Self {
        Self {
            status,
            message: plain(message.as_ref()),
        }
    }

    fn current(message: impl AsRef<str>) -> Self {
        Self::new(HealthStatus::Current, message)
    }

    fn in_progress(message: impl AsRef<str>) -> Self {
        Self::new(HealthStatus::InProgress, message)
    }

    fn failed(message: impl AsRef<str>) -> Self {
        Self::new(HealthStatus::Failed, message)
    }
}

/// How long a Pod may stay unscheduled before that counts as a failure (kstatus' `ScheduleWindow`).
const SCHEDULE_WINDOW: SignedDuration = SignedDuration::from_secs(15);

/// Returns the health of an object by its own status. An unschedulable Pod has failed whatever its
/// age: see [`assess_at`].
pub fn assess(object: &Object) -> Health {
    judge(object, None).unwrap_or_else(|why| Health::new(HealthStatus::Unknown, why))
}

/// Returns the health at a time: a Pod gets 15 seconds from its creation to be scheduled, as in
/// kstatus.
pub fn assess_at(object: &Object, now: Timestamp) -> Health {
    judge(object, Some(now)).unwrap_or_else(|why| Health::new(HealthStatus::Unknown, why))
}

/// The description of a malformed field.
type MalformedField = String;

fn judge(object: &Object, now: Option<Timestamp>) -> Result<Health, MalformedField> {
    if object.is_terminating() {
        return Ok(Health::new(
            HealthStatus::Terminating,
            "it is scheduled for deletion",
        ));
    }
    if let Some(health) = generation(object)? {
        return Ok(health);
    }
    let conditions = conditions(object)?;
    for condition in conditions.iter().filter(|condition| condition.is("True")) {
        match condition.kind {
            "Reconciling" => return Ok(Health::in_progress(condition.text())),
            "Stalled" => return Ok(Health::failed(condition.text())),
            _ => {}
        }
    }
    let gvk = object.gvk();
    let rule = match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "ConfigMap" | "Secret") | ("batch", "CronJob") => {
            return Ok(Health::current("it is always ready"));
        }
        ("", "Service") => kinds::service(object),
        ("", "Pod") => return kinds::pod(object, &conditions, now),
        ("", "PersistentVolumeClaim") => kinds::claim(object),
        ("policy", "PodDisruptionBudget") => {
            Health::current("the allowed disruptions are computed")
        }
        ("batch", "Job") => kinds::job(object, &conditions),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => kinds::definition(&conditions),
        ("apps" | "extensions", "Deployment") => workloads::deployment(object, &conditions),
        ("apps" | "extensions", "ReplicaSet") => workloads::replica_set(object, &conditions),
        ("apps" | "extensions", "DaemonSet") => workloads::daemon_set(object),
        ("apps", "StatefulSet") => workloads::stateful_set(object),
        _ => ready(&conditions),
    };
    Ok(rule)
}

/// Returns the health of an object whose controller has not observed its current generation.
/// Objects without `observedGeneration` are skipped.
fn generation(object: &Object) -> Result<Option<Health>, MalformedField> {
    let number = |pointer: &str| match object.pointer(pointer) {
        None => Ok(None),
        Some(value) => value.as_i64().map(Some).ok_or_else(|| {
            format!(
                "{} is no number",
                pointer.trim_start_matches('/').replace('/', ".")
            )
        }),
    };
    let Some(generation) = number("/metadata/generation")? else {
        return Ok(None);
    };
    Ok(number("/status/observedGeneration")?
        .filter(|observed| *observed != generation)
        .map(|observed| {
            Health::in_progress(format!(
                "generation {generation} is not yet observed, the latest observed is {observed}"
            ))
        }))
}

/// Judges any other kind by its condition Ready; without one it is current.
fn ready(conditions: &[Condition<'_>]) -> Health {
    match conditions
        .iter()
        .find(|condition| condition.kind == "Ready")
    {
        None => Health::current("it is there"),
        Some(condition) if condition.is("True") => Health::current("it is ready"),
        // Ready=False may be temporary or final; only Stalled tells.
        Some(condition) => Health::in_progress(condition.text()),
    }
}

/// An entry of `status.conditions`.
struct Condition<'o> {
    kind: &'o str,
    status: &'o str,
    reason: &'o str,
    message: &'o str,
}

impl Condition<'_> {
    fn is(&self, status: &str) -> bool {
        self.status == status
    }

    /// Returns the message, or else the reason or the status.
    fn text(&self) -> String {
        match (self.message, self.reason) {
            ("", "") => format!("{} is {}", self.kind, self.status),
            ("", reason) => reason.to_owned(),
            (message, _) => message.to_owned(),
        }
    }
}

fn conditions(object: &Object) -> Result<Vec<Condition<'_>>, MalformedField> {
    let list = match object.pointer("/status/conditions") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err("status.conditions is no list".to_owned()),
    };
    list.iter()
        .enumerate()
        .map(|(index, condition)| {
            let field = |name: &str| match condition.get(name) {
                None | Some(Value::Null) => Ok(""),
                Some(Value::String(text)) => Ok(text.as_str()),
                Some(_) => Err(format!("status.conditions[{index}].{name} is not text")),
            };
            if !condition.is_object() {
                return Err(format!("status.conditions[{index}] is no object"));
            }
            Ok(Condition {
                kind: field("type")?,
                status: field("status")?,
                reason: field("reason")?,
                message: field("message")?,
            })
        })
        .collect()
}

/// Returns an integer field, or a default.
fn number(object: &Object, pointer: &str, usual: i64) -> i64 {
    object
        .pointer(pointer)
        .and_then(Value::as_i64)
        .unwrap_or(usual)
}

/// Returns a text field, or a default.
fn text<'o>(object: &'o Object, pointer: &str, usual: &'o str) -> &'o str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or(usual)
}

pub(crate) use crate::core::text::plain;
