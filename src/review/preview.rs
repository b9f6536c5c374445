//! Effect of a change on clusters, for its reviewer: made by the `preview` layer, shown in pull
//! requests and on terminals.

use crate::core::name::Name;
use serde::Serialize;

/// Effect of a change on each Application that it reaches.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// Sorted by name.
    pub applications: Vec<ApplicationPreview>,
    /// Problems of the change as a whole: new errors in declarations, failures of Git.
    pub trouble: Vec<PreviewTrouble>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationPreview {
    pub name: Name,
    /// Its cluster. An Application that moves to another cluster is new there and gone here.
    pub cluster: String,
    pub change: ApplicationChange,
    /// Sentences about its declaration: changed fields, and the fate of its objects.
    pub notes: Vec<String>,
    /// Changed objects in the order of rendering; deleted ones come last.
    pub objects: Vec<ObjectPreview>,
    /// Why a part is unknown: it cannot be rendered, or its cluster cannot be reached.
    pub trouble: Vec<PreviewTrouble>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum ApplicationChange {
    New,
    Declaration,
    Files,
    /// No longer declared.
    Gone,
}

/// A reason why a part of the preview is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviewTrouble {
    pub message: String,
    /// True if a later attempt can help, because the change is not the cause.
    pub transient: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectPreview {
    /// As `Deployment shop/web`.
    pub object: String,
    pub change: ObjectChange,
    /// Unified diff of the rendered object; values of Secrets are masked.
    pub diff: String,
    pub verdict: DryRunVerdict,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum ObjectChange {
    Create,
    Change,
    /// No longer rendered; deleted if the Application prunes.
    Delete,
}

/// Answer of a cluster to a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", tag = "verdict")]
pub enum DryRunVerdict {
    Accepted {
        warnings: Vec<String>,
    },
    Refused {
        /// In the server's words.
        reason: String,
    },
    NotAsked {
        /// No cluster is reachable from here, the kind is not served yet, or the object would be
        /// deleted.
        reason: String,
    },
}

/// Meaning of a preview for an automatic merge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PreviewSummary {
    /// No objection. That includes a change that reaches no Application, or no known cluster.
    #[default]
    Clear,
    /// A cluster would refuse an object; in its words, with the object.
    Refused(String),
    /// A part of the change cannot be read or rendered.
    Broken(String),
    /// Unknown for now.
    Unknown(String),
}

impl Preview {
    /// Returns the meaning for an automatic merge; the most certain objection wins.
    pub fn summary(&self) -> PreviewSummary {
        let objects = self
            .applications
            .iter()
            .flat_map(|application| &application.objects);
        let mut refused = objects.filter_map(|object| match &object.verdict {
            DryRunVerdict::Refused { reason: why } => Some(format!("{}: {why}", object.object)),
            DryRunVerdict::Accepted { .. } | DryRunVerdict::NotAsked { .. } => None,
        });
        let trouble = |transient: bool| {
            self.troubles()
                .find(|trouble| trouble.transient == transient)
                .map(|trouble| trouble.message.clone())
        };
        let refused = refused.next().map(PreviewSummary::Refused);
        refused
            .or_else(|| trouble(false).map(PreviewSummary::Broken))
            .or_else(|| trouble(true).map(PreviewSummary::Unknown))
            .unwrap_or_default()
    }

    /// Tells whether a cluster would refuse an object.
    pub fn is_refused(&self) -> bool {
        let objects = self
            .applications
            .iter()
            .flat_map(|application| &application.objects);
        objects
            .into_iter()
            .any(|object| matches!(object.verdict, DryRunVerdict::Refused { .. }))
    }

    /// Tells whether a later attempt can find more.
    pub fn may_tell_more(&self) -> bool {
        self.troubles().any(|trouble| trouble.transient)
    }

    /// Tells whether a part of the change itself cannot be read or rendered.
    pub fn is_broken(&self) -> bool {
        self.troubles().any(|trouble| !trouble.transient)
    }

    fn troubles(&self) -> impl Iterator<Item = &PreviewTrouble> {
        self.trouble.iter().chain(
            self.applications
                .iter()
                .flat_map(|application| &application.trouble),
        )
    }
}
