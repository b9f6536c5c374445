//! How an Application is, in words that `tagboat status`, logs and JSON share.

use super::cluster_state::observed::ForeignChange;
use crate::{
    core::name::Name,
    objects::{
        health,
        plan::{DesiredObject, Rollout},
    },
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How an Application is.
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
    /// It waits for another Application, a kind, or a cluster that cannot be reached.
    Waiting,
    /// Something is being sent.
    Applying,
    /// Everything was applied, and some of it is not healthy yet.
    Progressing,
    /// The cluster has what Git says.
    Synced,
    /// Git says something that has not been applied (where nothing is applied, only looked at).
    OutOfSync,
    /// Somebody has changed something, which is reported and stays.
    Drifted,
    /// Everything was applied, and it did not become healthy in time.
    Degraded,
    /// Something would be deleted, and somebody must say yes first.
    ConfirmationRequired,
    /// Something cannot be rendered or applied.
    Failed,
    /// It rests.
    Suspended,
    /// Nobody declares it any more; its objects stay.
    Orphaned,
    /// Nobody declares it any more; its objects go.
    Deleting,
}

impl ApplicationState {
    /// For people.
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

    /// Whether somebody should look at it.
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

/// Something about one object, or about the Application where no object is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Message {
    /// The object.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub object: Option<String>,
    /// Where its manifest stands.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub place: Option<String>,
    /// What there is to say.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
}

impl Message {
    /// About an object.
    pub fn object(object: impl fmt::Display, message: impl Into<String>) -> Self {
        Self {
            object: Some(object.to_string()),
            place: None,
            message: message.into(),
            hint: None,
        }
    }

    /// About one that is wanted, with its place in Git.
    pub(super) fn desired(one: &DesiredObject, message: impl Into<String>) -> Self {
        Self {
            place: one.manifest.origin.as_ref().map(ToString::to_string),
            ..Self::object(&one.key, message)
        }
    }

    /// About the Application.
    pub fn application(message: impl Into<String>) -> Self {
        Self {
            object: None,
            place: None,
            message: message.into(),
            hint: None,
        }
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

/// An object that somebody changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DriftedObject {
    /// The object.
    pub object: String,
    /// What was changed, and by whom; empty if it was deleted.
    pub fields: Vec<ForeignChange>,
    /// Whether it is gone.
    pub deleted: bool,
    /// When it is changed back, if that waits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub repaired_at: Option<jiff::Timestamp>,
}

impl fmt::Display for DriftedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.object)?;
        if self.deleted {
            return f.write_str("somebody deleted it");
        }
        let fields: Vec<String> = self
            .fields
            .iter()
            .take(5)
            .map(|ForeignChange { path, manager }| {
                format!(
                    "{path} was changed by {}",
                    manager.as_deref().unwrap_or("somebody")
                )
            })
            .collect();
        match fields.as_slice() {
            [] => f.write_str("somebody changed it")?,
            fields => f.write_str(&fields.join(", "))?,
        }
        if let Some(at) = self.repaired_at {
            write!(
                f,
                "; changed again and again: it is changed back at {}",
                at.strftime("%H:%M:%SZ")
            )?;
        }
        Ok(())
    }
}

/// Something that would be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PlannedAction {
    /// What: create, change, repair, delete and so on.
    pub action: String,
    /// To which object.
    pub object: String,
}

/// An Application on its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationStatus {
    /// Which.
    pub application: Name,
    /// The repository it is declared in.
    pub repository: String,
    /// The cluster.
    pub cluster: String,
    /// The revision it was read at.
    pub revision: Option<String>,
    /// How it is.
    pub state: ApplicationState,
    /// How many objects it has.
    pub objects: usize,
    /// The worst health of them; nothing if it has none or nothing is known.
    pub health: Option<health::HealthStatus>,
    /// What keeps it from being in step.
    pub problems: Vec<Message>,
    /// Objects that are not healthy, and why.
    pub unhealthy: Vec<Message>,
    /// What somebody changed.
    pub drifted: Vec<DriftedObject>,
    /// What is worth knowing and wrong with nobody.
    pub notes: Vec<Message>,
    /// What would be done, where nothing may be.
    pub planned: Vec<PlannedAction>,
    /// What became of its newest revision.
    pub rollout: Option<Rollout>,
    /// Whether nothing more happens before something changes.
    pub observed: bool,
}

impl ApplicationStatus {
    /// Nothing is known yet.
    pub fn new(application: Name, repository: &str, cluster: &str) -> Self {
        Self {
            application,
            repository: repository.to_owned(),
            cluster: cluster.to_owned(),
            revision: None,
            state: ApplicationState::Pending,
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

    /// Whether those that depend on it may go on: it has been applied at its revision, and is
    /// healthy where that is waited for.
    pub fn is_ready(&self) -> bool {
        matches!(
            self.state,
            ApplicationState::Synced | ApplicationState::Drifted
        )
    }

    /// Why it is not in step, in a line.
    pub fn reason(&self) -> Option<String> {
        let first = |rows: &[Message]| rows.first().map(ToString::to_string);
        first(&self.problems)
            .or_else(|| self.drifted.first().map(ToString::to_string))
            .or_else(|| first(&self.unhealthy))
    }
}
