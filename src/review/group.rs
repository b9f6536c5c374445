//! Change sets: the changes that share one commit or pull request.

use super::{ImageMove, moves};
use crate::{
    images::rewrite::{self, ScalarChange, TextEdit},
    spec::ChangeGroup,
};
use std::collections::BTreeMap;

/// The edits of one file.
#[derive(Debug, Clone)]
pub struct FileEdits {
    /// Path from the root of the repository.
    pub path: String,
    pub source: Vec<u8>,
    /// Edits in the order of the text, each with its meaning.
    pub edits: Vec<(TextEdit, ScalarChange)>,
}

/// The changes of one commit or pull request.
#[derive(Debug, Clone)]
pub struct ChangeSet {
    pub environment: String,
    /// The policy or directory that groups the changes; none if all are together.
    pub group: Option<String>,
    pub moves: Vec<ImageMove>,
    /// Files before and after this set, on top of the sets before it.
    pub files: Vec<FileChange>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    pub path: String,
    pub before: Vec<u8>,
    pub after: Vec<u8>,
}

/// Divides the edits of an Environment for commits.
///
/// The sets are in a fixed order, and each builds on the ones before it, because two sets may edit
/// one file.
pub fn group(environment: &str, by: ChangeGroup, files: &[FileEdits]) -> Vec<ChangeSet> {
    divide(environment, by, files, true)
}

/// Divides the edits of an Environment for pull requests.
///
/// Each set applies to the present files alone, because it is unknown which pull request is merged
/// first.
pub fn group_apart(environment: &str, by: ChangeGroup, files: &[FileEdits]) -> Vec<ChangeSet> {
    divide(environment, by, files, false)
}

fn divide(
    environment: &str,
    by: ChangeGroup,
    files: &[FileEdits],
    stacked: bool,
) -> Vec<ChangeSet> {
    let mut keys: BTreeMap<Option<String>, ()> = BTreeMap::new();
    let key = |file: &FileEdits, change: &ScalarChange| match by {
        ChangeGroup::All => None,
        ChangeGroup::Policy => Some(change.policy.to_string()),
        ChangeGroup::Directory => Some(
            file.path
                .rsplit_once('/')
                .map_or(".", |(directory, _)| directory)
                .to_owned(),
        ),
    };
    for file in files {
        for (_, change) in &file.edits {
            keys.insert(key(file, change), ());
        }
    }
    let mut done: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    keys.into_keys()
        .map(|group| {
            let mut changed = Vec::new();
            let mut own: Vec<(&str, &ScalarChange)> = Vec::new();
            for file in files {
                let ours: Vec<&ScalarChange> = file
                    .edits
                    .iter()
                    .map(|(_, change)| change)
                    .filter(|change| key(file, change) == group)
                    .collect();
                if ours.is_empty() {
                    continue;
                }
                own.extend(ours.into_iter().map(|change| (file.path.as_str(), change)));
                // Edits are ranges of the original, so those of earlier sets are applied again
                // together with ours.
                let counts = |change: &ScalarChange| {
                    key(file, change) == group || (stacked && key(file, change) < group)
                };
                let edits: Vec<TextEdit> = file
                    .edits
                    .iter()
                    .filter(|(_, change)| counts(change))
                    .map(|(edit, _)| edit.clone())
                    .collect();
                let after = rewrite::apply(&file.source, &edits);
                let before = if stacked {
                    done.insert(&file.path, after.clone())
                } else {
                    None
                }
                .unwrap_or_else(|| file.source.clone());
                changed.push(FileChange {
                    path: file.path.clone(),
                    before,
                    after,
                });
            }
            ChangeSet {
                environment: environment.to_owned(),
                group,
                moves: moves(own.into_iter()),
                files: changed,
            }
        })
        .collect()
}
