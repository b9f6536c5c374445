//! The status of an Application, as `tagboat status`, logs and JSON share it.

use super::{cluster_state::observed::ForeignChange, reason::Reason};
use crate::{
    core::name::Name,
    objects::{
        health,
        plan::{DesiredObject, Rollout},
    },
};
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum ApplicationState {
    /// Nothing is known yet.
    Pending,
    /// Waiting for another Application, a kind, or an unreachable cluster.
    Waiting,
    /// Objects are being applied.
    Applying,
    /// Everything was applied; some objects are not healthy yet.
    Progressing,
    /// The cluster has what Git says.
    Synced,
    /// Git says something that has not been applied, in a mode that applies nothing.
    OutOfSync,
    /// Live objects were changed outside Git, which is reported and not repaired (yet).
    Drifted,
    /// Everything was applied, but an object did not become healthy in time.
    Degraded,
    /// Objects would be deleted, and the user must confirm that first.
    ConfirmationRequired,
    /// Something cannot be rendered or applied.
    Failed,
    Suspended,
    /// Removed from Git; its objects are kept.
    Orphaned,
    /// Removed from Git; its objects are being deleted.
    Deleting,
}

impl ApplicationState {
    /// Returns the code, as JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            ApplicationState::Pending => "pending",
            ApplicationState::Waiting => "waiting",
            ApplicationState::Applying => "applying",
            ApplicationState::Progressing => "progressing",
            ApplicationState::Synced => "synced",
            ApplicationState::OutOfSync => "outOfSync",
            ApplicationState::Drifted => "drifted",
            ApplicationState::Degraded => "degraded",
            ApplicationState::ConfirmationRequired => "confirmationRequired",
            ApplicationState::Failed => "failed",
            ApplicationState::Suspended => "suspended",
            ApplicationState::Orphaned => "orphaned",
            ApplicationState::Deleting => "deleting",
        }
    }

    /// Returns the state in words, for sentences.
    pub fn as_text(self) -> &'static str {
        match self {
            ApplicationState::OutOfSync => "out of sync",
            ApplicationState::ConfirmationRequired => "waiting for a confirmation",
            ApplicationState::Deleting => "being deleted",
            other => other.as_str(),
        }
    }

    /// Returns whether the state needs the user's attention.
    pub fn needs_attention(self) -> bool {
        matches!(
            self,
            ApplicationState::Drifted
                | ApplicationState::Degraded
                | ApplicationState::ConfirmationRequired
                | ApplicationState::Failed
        )
    }
}

impl fmt::Display for ApplicationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A message about an object, or about the Application if no object is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Message {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub object: Option<String>,
    /// File and line of the manifest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub place: Option<String>,
    pub message: String,
    /// An imperative sentence.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
}

impl Message {
    pub fn object(object: impl fmt::Display, message: impl Into<String>) -> Self {
        Self {
            object: Some(object.to_string()),
            ..Self::application(message)
        }
    }

    /// Creates a message about a desired object, with its place in Git.
    pub(super) fn desired(object: &DesiredObject, message: impl Into<String>) -> Self {
        Self {
            place: object.manifest.origin.as_ref().map(ToString::to_string),
            ..Self::object(&object.key, message)
        }
    }

    pub fn application(message: impl Into<String>) -> Self {
        Self {
            object: None,
            place: None,
            message: message.into(),
            hint: None,
        }
    }

    #[must_use]
    pub(super) fn with_hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(object) = &self.object {
            write!(f, "{object}")?;
            if let Some(place) = &self.place {
                write!(f, " ({place})")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)
    }
}

/// A live object that was changed outside Git.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriftedObject {
    pub object: String,
    /// The changed fields with their managers; empty if the object was deleted.
    pub fields: Vec<ForeignChange>,
    pub deleted: bool,
    /// The time of a repair that backs off.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub repaired_at: Option<jiff::Timestamp>,
}

/// The remark about a Job that has completed and was deleted.
pub(super) const COMPLETED_AND_GONE: &str =
    "it has completed and is gone; it runs again when its manifest changes";

/// Changed fields named in one line.
const NAMED_FIELDS: usize = 5;

impl fmt::Display for DriftedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.object)?;
        if self.deleted {
            return f.write_str("deleted outside Git");
        }
        let fields: Vec<String> = self
            .fields
            .iter()
            .take(NAMED_FIELDS)
            .map(ToString::to_string)
            .collect();
        match fields.as_slice() {
            [] => f.write_str("changed outside Git")?,
            fields => f.write_str(&fields.join(", "))?,
        }
        if let Some(at) = self.repaired_at {
            write!(
                f,
                "; changed repeatedly, next repair at {}",
                at.strftime("%H:%M:%SZ")
            )?;
        }
        Ok(())
    }
}

/// An action that a pass in plan mode would take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlannedAction {
    /// A verb: create, change, repair, delete and so on.
    pub action: String,
    pub object: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationStatus {
    pub application: Name,
    /// The declaring repository.
    pub repository: String,
    pub cluster: String,
    /// The revision that the status is about.
    pub revision: Option<String>,
    pub state: ApplicationState,
    /// The cause of the state.
    pub reason: Reason,
    /// How many objects it has.
    pub objects: usize,
    /// The worst health of its objects; `None` if it has none or nothing is known.
    pub health: Option<health::HealthStatus>,
    /// Why it is not synced.
    pub problems: Vec<Message>,
    pub unhealthy: Vec<Message>,
    pub drifted: Vec<DriftedObject>,
    /// Remarks that are no problems.
    pub notes: Vec<Message>,
    /// The actions that a pass would take, in plan mode.
    pub planned: Vec<PlannedAction>,
    /// The outcome of its newest revision.
    pub rollout: Option<Rollout>,
    /// Whether the pass at this revision is done: nothing more happens until something changes.
    pub observed: bool,
}

impl ApplicationStatus {
    /// Creates the status of an Application of which nothing is known yet.
    pub fn new(application: Name, repository: &str, cluster: &str) -> Self {
        Self {
            application,
            repository: repository.to_owned(),
            cluster: cluster.to_owned(),
            revision: None,
            state: ApplicationState::Pending,
            reason: Reason::Pending,
            objects: 0,
            health: None,
            problems: Vec::new(),
            unhealthy: Vec::new(),
            drifted: Vec::new(),
            notes: Vec::new(),
            planned: Vec::new(),
            rollout: None,
            observed: false,
        }
    }

    /// Returns whether an object is not healthy, with or without `wait`.
    pub fn is_unhealthy(&self) -> bool {
        use health::HealthStatus::{Current, Unknown};
        !matches!(self.health, None | Some(Current | Unknown))
    }

    /// Returns what keeps dependents waiting although everything is applied: an object that is not
    /// healthy, with or without `wait`.
    pub(super) fn unhealthy_summary(&self) -> Option<String> {
        if !self.is_unhealthy() {
            return None;
        }
        let first = self.unhealthy.first();
        Some(match first {
            Some(first) => format!("is not healthy: {first}"),
            None => "is not healthy".to_owned(),
        })
    }

    /// Returns whether it was applied at its revision, and is healthy if `wait` is set.
    pub fn is_ready(&self) -> bool {
        matches!(
            self.state,
            ApplicationState::Synced | ApplicationState::Drifted
        )
    }

    /// Returns the first problem, drift or unhealthy object, in one line.
    pub fn summary(&self) -> Option<String> {
        let first = |messages: &[Message]| messages.first().map(ToString::to_string);
        first(&self.problems)
            .or_else(|| self.drifted.first().map(ToString::to_string))
            .or_else(|| first(&self.unhealthy))
    }

    pub(super) fn set_state(&mut self, state: ApplicationState, reason: Reason, observed: bool) {
        self.state = state;
        self.reason = reason;
        self.observed = observed;
    }
}
