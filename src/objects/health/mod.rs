//! How a live object is: object → status and message.
//!
//! The rules are those of kstatus (sigs.k8s.io/cli-utils, `pkg/kstatus`), which `kubectl`-like
//! tools, Flux and kpt share, so that an object is as healthy here as it is there. In their order:
//! deletion, an unobserved generation, the conditions Reconciling and Stalled, the rule of a
//! built-in kind, the condition Ready; what says nothing of itself is current. [`pod_reasons`] says
//! what kstatus leaves out: why the pods of a workload do not come up.

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

/// How an object is. The words are kstatus' own.
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
    /// It is as its spec wants it.
    Current,
    /// It is on its way there.
    InProgress,
    /// It does not get there by itself.
    Failed,
    /// It is being deleted.
    Terminating,
    /// It is not there. No object says so of itself: this word is for those who looked for it.
    NotFound,
    /// What it says of itself cannot be understood.
    Unknown,
}

impl HealthStatus {
    /// The word, as JSON has it.
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

/// A status and why it is so, in one line that is safe to print.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Health {
    /// How it is.
    pub status: HealthStatus,
    /// Why.
    pub message: String,
}

impl Health {
    /// A status with its reason; foreign text in it is made harmless and cut.
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

/// How long a Pod may be without a node before that counts as a failure (kstatus'
/// `ScheduleWindow`).
const SCHEDULE_WINDOW: SignedDuration = SignedDuration::from_secs(15);

/// How an object is, by what it says of itself. A Pod that no node takes has failed, however young
/// it is: see [`of_at`].
pub fn assess(object: &Object) -> Health {
    judge(object, None).unwrap_or_else(|why| Health::new(HealthStatus::Unknown, why))
}

/// [`of`] at a time: a Pod has 15 seconds from its creation to be scheduled, as kstatus has it.
pub fn assess_at(object: &Object, now: Timestamp) -> Health {
    judge(object, Some(now)).unwrap_or_else(|why| Health::new(HealthStatus::Unknown, why))
}

/// What an object says that cannot be understood.
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

/// Whether the controller has not seen the present spec yet. An object without `observedGeneration`
/// is not asked.
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

/// A kind that is not built in, by its condition Ready. One that has none says nothing, and counts
/// as current.
fn ready(conditions: &[Condition<'_>]) -> Health {
    match conditions
        .iter()
        .find(|condition| condition.kind == "Ready")
    {
        None => Health::current("it is there"),
        Some(condition) if condition.is("True") => Health::current("it is ready"),
        // Whether False is a way station or the end, the condition does not say; Stalled would.
        Some(condition) => Health::in_progress(condition.text()),
    }
}

/// One of `status.conditions`.
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

    /// Its message; where it has none, what else it says.
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

/// A whole number of an object, or what counts where it has none.
fn number(object: &Object, pointer: &str, usual: i64) -> i64 {
    object
        .pointer(pointer)
        .and_then(Value::as_i64)
        .unwrap_or(usual)
}

/// A text of an object, or what counts where it has none.
fn text<'o>(object: &'o Object, pointer: &str, usual: &'o str) -> &'o str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or(usual)
}

/// Characters kept of a message: controllers join what all their webhooks and nodes say.
const LONGEST: usize = 500;

/// Foreign text as one harmless line of at most [`LONGEST`] characters.
pub(crate) fn plain(text: &str) -> String {
    crate::core::error::harmless(text, LONGEST)
}
