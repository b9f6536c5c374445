//! Health of live objects: status and message.
//!
//! The rules are those of kstatus (sigs.k8s.io/cli-utils, `pkg/kstatus`), which Flux and kpt share,
//! so that an object is as healthy here as it is there. In their order: deletion, an unobserved
//! generation, a rule of the user (which ends the list), the conditions Reconciling and Stalled,
//! the rule of a built-in kind, the condition Ready. An object without any of them is current. The
//! deviations are listed, with their reasons, in `docs/what-tagboat-does-with.md`. [`pod_problems`]
//! adds what kstatus leaves out: why the pods of a workload do not become ready.
//!
//! Two verdicts change by time alone: of a Pod that cannot be scheduled, and of a custom resource
//! whose controller has written no status. They carry what follows, and when: [`HealthOverTime`].

mod ending;
mod kinds;
mod pods;
mod rules;
#[cfg(test)]
mod tests;
mod workloads;

pub use ending::{RunEnd, expires, run_end};
pub use pods::{PodProblem, pod_problems, pod_selector, runs_pods};
pub use rules::rule_for;

use crate::{objects::object::Object, spec::HealthRule};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
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

/// A verdict, and the one that replaces it if the object stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthOverTime {
    first: Health,
    later: Option<(Timestamp, Box<Health>)>,
}

impl HealthOverTime {
    /// Returns the verdict at a time.
    pub fn at(&self, now: Timestamp) -> &Health {
        match &self.later {
            Some((from, later)) if *from <= now => later,
            _ => &self.first,
        }
    }

    /// Returns when the verdict changes by itself, if that is after a time.
    pub fn changes_after(&self, now: Timestamp) -> Option<Timestamp> {
        let (from, _) = self.later.as_ref()?;
        (*from > now).then_some(*from)
    }

    /// Lets the verdict change at a time at the latest: the clock of the API server, which writes
    /// the creation time, may be ahead of ours.
    #[must_use]
    pub fn no_later_than(self, latest: Timestamp) -> Self {
        Self {
            later: self.later.map(|(from, health)| (from.min(latest), health)),
            ..self
        }
    }

    /// Creates a verdict that holds for a while from the creation of the object.
    fn young(object: &Object, window: SignedDuration, first: Health, later: Health) -> Self {
        let created = text(object, "/metadata/creationTimestamp", "").parse::<Timestamp>();
        match created.ok().and_then(|at| at.checked_add(window).ok()) {
            Some(from) => Self {
                first,
                later: Some((from, Box::new(later))),
            },
            None => later.into(),
        }
    }
}

impl From<Health> for HealthOverTime {
    fn from(first: Health) -> Self {
        Self { first, later: None }
    }
}

/// The time for which a verdict about a new object may hold.
pub const NEW_OBJECT_WINDOW: SignedDuration = SCHEDULE_WINDOW;

/// How long a Pod may stay unscheduled before that counts as a failure (kstatus' `ScheduleWindow`).
const SCHEDULE_WINDOW: SignedDuration = SignedDuration::from_secs(15);

/// The time that a controller has for the first status of a custom resource.
const STATUS_WINDOW: SignedDuration = SignedDuration::from_secs(10);

/// Traits of a kind that decide the health of its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KindTraits {
    /// True if a controller is expected to write a status: the kind is that of a custom resource,
    /// and has the subresource `status`.
    pub writes_status: bool,
}

impl KindTraits {
    /// Returns the traits of a kind with or without the subresource `status`.
    pub fn of(group: &str, has_status: bool) -> Self {
        Self {
            writes_status: has_status && !is_builtin(group),
        }
    }
}

/// Returns whether the API server itself defines the kinds of a group. CRDs below `k8s.io`, as
/// those of the Gateway API, have groups of their own.
fn is_builtin(group: &str) -> bool {
    !group.contains('.')
        || matches!(
            group,
            "admissionregistration.k8s.io"
                | "apiextensions.k8s.io"
                | "apiregistration.k8s.io"
                | "authentication.k8s.io"
                | "authorization.k8s.io"
                | "certificates.k8s.io"
                | "coordination.k8s.io"
                | "discovery.k8s.io"
                | "events.k8s.io"
                | "flowcontrol.apiserver.k8s.io"
                | "internal.apiserver.k8s.io"
                | "networking.k8s.io"
                | "node.k8s.io"
                | "rbac.authorization.k8s.io"
                | "resource.k8s.io"
                | "scheduling.k8s.io"
                | "storage.k8s.io"
                | "storagemigration.k8s.io"
        )
}

/// Returns the health of an object by its own status, now and later; by a rule, if there is one.
pub fn assess(object: &Object, kind: KindTraits, rule: Option<&HealthRule>) -> HealthOverTime {
    judge(object, kind, rule).unwrap_or_else(|why| Health::new(HealthStatus::Unknown, why).into())
}

/// Returns the health at a time: a Pod gets 15 seconds from its creation to be scheduled, as in
/// kstatus.
pub fn assess_at(object: &Object, rule: Option<&HealthRule>, now: Timestamp) -> Health {
    assess(object, KindTraits::default(), rule).at(now).clone()
}

/// The description of a malformed field.
type MalformedField = String;

fn judge(
    object: &Object,
    kind: KindTraits,
    rule: Option<&HealthRule>,
) -> Result<HealthOverTime, MalformedField> {
    if object.is_terminating() {
        return Ok(Health::new(HealthStatus::Terminating, "it is scheduled for deletion").into());
    }
    let generation = generation(object)?;
    if let Some(health) = unobserved(object, generation)? {
        return Ok(health.into());
    }
    if let Some(rule) = rule {
        let conditions = conditions(object).unwrap_or_default();
        return Ok(rules::judge(object, rule, &conditions).into());
    }
    let conditions = conditions(object)?;
    for condition in conditions.iter().filter(|condition| condition.is("True")) {
        match condition.kind {
            "Reconciling" => return Ok(Health::in_progress(condition.text()).into()),
            "Stalled" if condition.is_of_older(generation) => {
                return Ok(Health::in_progress(condition.outdated(generation)).into());
            }
            "Stalled" => return Ok(Health::failed(condition.text()).into()),
            _ => {}
        }
    }
    let gvk = object.gvk();
    let rule = match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "ConfigMap" | "Secret") | ("batch", "CronJob") => {
            Health::current("it is always ready")
        }
        ("", "Service") => kinds::service(object),
        ("", "Pod") => return kinds::pod(object, &conditions),
        ("", "PersistentVolumeClaim") => kinds::claim(object),
        ("policy", "PodDisruptionBudget") => {
            Health::current("the allowed disruptions are computed")
        }
        ("batch", "Job") => kinds::job(object, &conditions),
        ("argoproj.io", "Workflow") | ("tekton.dev", "TaskRun" | "PipelineRun") => {
            kinds::run(object, &conditions)
        }
        ("argoproj.io", "Rollout") => kinds::rollout(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => kinds::definition(&conditions),
        ("apiregistration.k8s.io", "APIService") => kinds::api_service(&conditions),
        ("apps" | "extensions", "Deployment") => workloads::deployment(object, &conditions),
        ("apps" | "extensions", "ReplicaSet") => workloads::replica_set(object, &conditions),
        ("apps" | "extensions", "DaemonSet") => workloads::daemon_set(object),
        ("apps", "StatefulSet") => workloads::stateful_set(object),
        _ if kind.writes_status && has_no_status(object) => {
            return Ok(HealthOverTime::young(
                object,
                STATUS_WINDOW,
                Health::in_progress("its controller has written no status yet"),
                ready(&conditions, generation),
            ));
        }
        _ => ready(&conditions, generation),
    };
    Ok(rule.into())
}

fn has_no_status(object: &Object) -> bool {
    object
        .pointer("/status")
        .is_none_or(|status| status.is_null() || status.as_object().is_some_and(Map::is_empty))
}

/// Returns `metadata.generation`.
fn generation(object: &Object) -> Result<Option<i64>, MalformedField> {
    match object.pointer("/metadata/generation") {
        None => Ok(None),
        Some(value) => value
            .as_i64()
            .map(Some)
            .ok_or_else(|| "metadata.generation is no number".to_owned()),
    }
}

/// Returns the health of an object whose controller has not observed its current generation.
/// Objects without `observedGeneration` are skipped.
fn unobserved(object: &Object, generation: Option<i64>) -> Result<Option<Health>, MalformedField> {
    let (Some(generation), Some(value)) =
        (generation, object.pointer("/status/observedGeneration"))
    else {
        return Ok(None);
    };
    let observed =
        whole_number(value).ok_or_else(|| "status.observedGeneration is no number".to_owned())?;
    Ok((observed != generation).then(|| {
        Health::in_progress(format!(
            "generation {generation} is not yet observed, the latest observed is {observed}"
        ))
    }))
}

/// Reads a number, or the text of one: some controllers write `observedGeneration: "3"`.
fn whole_number(value: &Value) -> Option<i64> {
    value
        .as_i64()
        .or_else(|| value.as_str()?.trim().parse().ok())
}

/// Judges any other kind by its condition Ready; without one it is current.
fn ready(conditions: &[Condition<'_>], generation: Option<i64>) -> Health {
    match conditions
        .iter()
        .find(|condition| condition.kind == "Ready")
    {
        None => Health::current("it is there"),
        Some(condition) if condition.is("True") && condition.is_of_older(generation) => {
            Health::in_progress(condition.outdated(generation))
        }
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
    /// The generation that it is about, if it names one.
    generation: Option<i64>,
}

impl Condition<'_> {
    fn is(&self, status: &str) -> bool {
        self.status == status
    }

    /// Returns whether it is about an older generation than the object has.
    fn is_of_older(&self, generation: Option<i64>) -> bool {
        matches!((self.generation, generation), (Some(own), Some(now)) if own < now)
    }

    /// Returns the message about a condition of an older generation.
    fn outdated(&self, generation: Option<i64>) -> String {
        let number = |of: Option<i64>| of.unwrap_or_default();
        format!(
            "{} is {} for generation {}, and the object is at {}",
            self.kind,
            self.status,
            number(self.generation),
            number(generation)
        )
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
                generation: condition.get("observedGeneration").and_then(whole_number),
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
