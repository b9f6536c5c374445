//! What shares one commit.

use super::{ImageMove, moves};
use crate::{
    images::rewrite::{self, ScalarChange, TextEdit},
    spec::ChangeGroup,
};
use std::collections::BTreeMap;

/// The edits of one file, as the rewrite room gave them.
#[derive(Debug, Clone)]
pub struct FileEdits {
    /// The path from the root of the repository.
    pub path: String,
    /// The bytes before.
    pub source: Vec<u8>,
    /// What changes, in the order of the text; each edit with its meaning.
    pub edits: Vec<(TextEdit, ScalarChange)>,
}

/// What goes into one commit or request.
#[derive(Debug, Clone)]
pub struct ChangeSet {
    /// The Environment.
    pub environment: String,
    /// The policy or directory whose changes these are; none for all together.
    pub group: Option<String>,
    /// The images that move.
    pub moves: Vec<ImageMove>,
    /// Files with their bytes before and after this set, on top of the sets before it.
    pub files: Vec<FileChange>,
}

/// A file before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// The path.
    pub path: String,
    /// The bytes before.
    pub before: Vec<u8>,
    /// The bytes after.
    pub after: Vec<u8>,
}

/// Divides the edits of an Environment for commits. The sets are in a fixed order and each builds
/// on the ones before it, because two of them may edit one file.
pub fn group(environment: &str, by: ChangeGroup, files: &[FileEdits]) -> Vec<ChangeSet> {
    divide(environment, by, files, true)
}

/// Divides the edits of an Environment for requests: each set stands alone on what is there now, as
/// if there were no other, because nobody knows which of them is merged, and when.
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
                // Edits are places in the original, so those of earlier sets are applied again
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
