//! What a change does on clusters, in the words that its reviewer reads: made by the `preview`
//! room, shown in requests and on terminals.

use crate::core::name::Name;
use serde::Serialize;

/// What a change does, for each Application that it reaches.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// The Applications reached, by name.
    pub applications: Vec<ApplicationPreview>,
    /// What is wrong with the change as a whole, or why it cannot be read: new mistakes in
    /// declarations, trouble with Git.
    pub trouble: Vec<PreviewTrouble>,
}

/// One Application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationPreview {
    /// Its name.
    pub name: Name,
    /// The cluster it is applied to. One that moves to another cluster is new there and gone here.
    pub cluster: String,
    /// What happens to the Application itself.
    pub change: ApplicationChange,
    /// What else is to be known of it, a sentence each: which of its fields change, what becomes of
    /// its objects.
    pub notes: Vec<String>,
    /// The objects that change, in the order of their rendering; those that go come last.
    pub objects: Vec<ObjectPreview>,
    /// Why something of it is not known, in words for people: it cannot be rendered, or its cluster
    /// cannot be asked.
    pub trouble: Vec<PreviewTrouble>,
}

/// What happens to an Application.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum ApplicationChange {
    /// It is new on the cluster.
    New,
    /// Its declaration changes.
    Declaration,
    /// Only files that it reads change.
    Files,
    /// It is declared no more.
    Gone,
}

/// Why something is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviewTrouble {
    /// What went wrong.
    pub message: String,
    /// Whether asking again later can help: it does not lie in the change.
    pub passes: bool,
}

/// An object that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectPreview {
    /// The object: `Deployment shop/web`.
    pub object: String,
    /// What happens to it.
    pub change: ObjectChange,
    /// The rendered object before and after, as a unified diff; values of Secrets are masked.
    pub diff: String,
    /// What the cluster says to it.
    pub verdict: DryRunVerdict,
}

/// What happens to an object.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum ObjectChange {
    /// It is new.
    Create,
    /// It changes.
    Change,
    /// It is not rendered any more, and deleted where the Application prunes.
    Delete,
}

/// What a cluster says to an object in a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", tag = "verdict")]
pub enum DryRunVerdict {
    /// It would take it.
    Accepted {
        /// What it warns of.
        warnings: Vec<String>,
    },
    /// It would refuse it.
    Refused {
        /// In the server's words.
        why: String,
    },
    /// It was not asked.
    NotAsked {
        /// Why not: no cluster is reachable from here, the kind is not served yet, or the object
        /// would go.
        why: String,
    },
}

/// What a preview means for a change that would merge by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PreviewSummary {
    /// Nothing speaks against it; or there is nobody who could say anything: no Application is
    /// reached, no cluster is named.
    #[default]
    Clear,
    /// A cluster would refuse something; in its words, with the object.
    Refused(String),
    /// Something of the change cannot be read or rendered.
    Broken(String),
    /// It is not known, and may be later.
    Unknown(String),
}

impl Preview {
    /// What it means for a change that would merge by itself: what is surest comes first.
    pub fn summary(&self) -> PreviewSummary {
        let objects = self
            .applications
            .iter()
            .flat_map(|application| &application.objects);
        let mut refused = objects.filter_map(|object| match &object.verdict {
            DryRunVerdict::Refused { why } => Some(format!("{}: {why}", object.object)),
            DryRunVerdict::Accepted { .. } | DryRunVerdict::NotAsked { .. } => None,
        });
        let trouble = |passes: bool| {
            self.troubles()
                .find(|trouble| trouble.passes == passes)
                .map(|trouble| trouble.message.clone())
        };
        let refused = refused.next().map(PreviewSummary::Refused);
        refused
            .or_else(|| trouble(false).map(PreviewSummary::Broken))
            .or_else(|| trouble(true).map(PreviewSummary::Unknown))
            .unwrap_or_default()
    }

    /// Whether a cluster would refuse something.
    pub fn is_refused(&self) -> bool {
        let objects = self
            .applications
            .iter()
            .flat_map(|application| &application.objects);
        objects
            .into_iter()
            .any(|object| matches!(object.verdict, DryRunVerdict::Refused { .. }))
    }

    /// Whether asking again later can tell more.
    pub fn may_tell_more(&self) -> bool {
        self.troubles().any(|trouble| trouble.passes)
    }

    /// Whether something of the change itself cannot be read or rendered.
    pub fn is_broken(&self) -> bool {
        self.troubles().any(|trouble| !trouble.passes)
    }

    fn troubles(&self) -> impl Iterator<Item = &PreviewTrouble> {
        self.trouble.iter().chain(
            self.applications
                .iter()
                .flat_map(|application| &application.trouble),
        )
    }
}
