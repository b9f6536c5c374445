//! Charts and units that are not handled yet, as part of an answer.

use crate::{
    images::{
        references::{FileKind, YamlFile},
        unsupported::{self, Unsupported},
    },
    io::git::{EntryKind, GitError, Mirror, ObjectId},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Charts and units that are not handled yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnsupportedFindings {
    /// The number of all.
    pub total: usize,
    /// The first thousand, by file and line.
    pub items: Vec<Unsupported>,
}

impl UnsupportedFindings {
    /// Sorts and bounds some findings.
    pub(super) fn new(mut items: Vec<Unsupported>) -> Self {
        items.sort();
        items.dedup();
        let total = items.len();
        items.truncate(unsupported::MOST);
        Self { total, items }
    }
}

/// Finds the charts and units of a revision.
///
/// # Errors
/// If an object of the mirror is missing.
pub(super) fn at(mirror: &Mirror, commit: ObjectId) -> Result<UnsupportedFindings, GitError> {
    let revision = mirror.at(commit)?;
    let entries = revision.list("")?;
    let charts: BTreeSet<&str> = entries
        .iter()
        .filter_map(|entry| match entry.path.as_str() {
            "Chart.yaml" => Some(""),
            path => path.strip_suffix("/Chart.yaml"),
        })
        .collect();
    let mut found = Vec::new();
    let is_file = |kind| matches!(kind, EntryKind::Blob | EntryKind::BlobExecutable);
    for entry in entries.iter().filter(|entry| is_file(entry.kind)) {
        let kind = FileKind::of(&entry.path, |folder| charts.contains(folder));
        if kind != FileKind::NotYaml {
            let bytes = revision.blob(entry.id)?;
            found.extend(unsupported::find(&entry.path, &YamlFile::new(kind, &bytes)));
        }
    }
    Ok(UnsupportedFindings::new(found))
}
