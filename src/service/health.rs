//! `health`: the health of given objects, without any cluster.

use super::{Failure, Outcome};
use crate::{
    objects::{
        health::{self, HealthStatus},
        manifest::Manifests,
    },
    spec,
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks for the health of given objects.
#[derive(Debug, Clone)]
pub struct HealthQuery {
    /// Files of objects, each with the name to show.
    pub files: Vec<(String, Vec<u8>)>,
}

/// The health of given objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthAnswer {
    /// The objects in the order of the files; lists are taken apart.
    pub objects: Vec<ObjectHealth>,
    /// Declarations for tagboat, which have no health, each with its place.
    pub declarations: Vec<String>,
}

/// An object and its health by the rules of kstatus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectHealth {
    /// The API version.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// The namespace; none for cluster-scoped objects.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// The object as `Kind namespace/name`.
    pub object: String,
    /// The health.
    pub status: HealthStatus,
    /// The reason.
    pub message: String,
}

impl HealthAnswer {
    /// Classifies the answer.
    pub fn outcome(&self) -> Outcome {
        let has_failed = |object: &ObjectHealth| object.status == HealthStatus::Failed;
        Outcome::findings_if(self.objects.iter().any(has_failed))
    }
}

/// Judges each object by its own status, and by the rules of the Applications among the files.
///
/// # Errors
/// If a file holds something that is no object, or an Application with a mistake.
pub fn health(query: &HealthQuery) -> Result<HealthAnswer, Failure> {
    let mut manifests = Manifests::default();
    for (name, bytes) in &query.files {
        manifests.read(name, bytes);
    }
    if !manifests.mistakes.is_empty() {
        let lines: Vec<String> = manifests.mistakes.iter().map(ToString::to_string).collect();
        return Err(Failure::input(lines.join("\n")));
    }
    let files = query.files.iter();
    let files = files.map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    let rules = spec::read_health_rules(files).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        Failure::input(lines.join("\n"))
    })?;
    let now = Timestamp::now();
    let objects = manifests.objects.iter().map(|object| {
        let health = health::assess_at(
            object,
            health::rule_for(&rules, &object.key()).as_deref(),
            now,
        );
        ObjectHealth {
            api_version: object.gvk().api_version(),
            kind: object.gvk().kind,
            namespace: object.namespace().map(str::to_owned),
            name: object.name().to_owned(),
            object: object.key().to_string(),
            status: health.status,
            message: health.message,
        }
    });
    let declarations = manifests.left_out.iter();
    Ok(HealthAnswer {
        objects: objects.collect(),
        declarations: declarations
            .map(|(origin, key)| format!("{origin}: {key}"))
            .collect(),
    })
}
