//! The part of an answer about charts, units and images that are not handled.

use crate::{
    images::{
        includes,
        references::{FileKind, Needles, YamlFile},
        unsupported::{self, Unsupported, UnwatchedImages},
    },
    io::git::{EntryKind, GitError, Mirror, ObjectId},
    spec::Declarations,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Charts and units that are not handled yet, and images that no policy watches.
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

/// Finds the charts and units of a revision, and the images that none of its policies watches.
///
/// # Errors
/// If an object of the mirror is missing.
pub(super) fn at(
    mirror: &Mirror,
    commit: ObjectId,
    declared: &Declarations,
) -> Result<UnsupportedFindings, GitError> {
    let policies = declared.policies.values();
    let needles = Needles::new(policies.map(|policy| &policy.image));
    let mut unwatched = UnwatchedImages::default();
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
            let file = YamlFile::new(kind, &bytes);
            found.extend(unsupported::find(&entry.path, &file));
            if let Some(includes) = includes::read(&entry.path, &file) {
                unwatched.add_renames(&includes);
            }
            unwatched.add(&entry.path, &file.findings(), &needles);
        }
    }
    found.extend(unwatched.finish());
    Ok(UnsupportedFindings::new(found))
}
