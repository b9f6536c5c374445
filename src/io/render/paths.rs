//! Paths of a repository, in which the root is the empty path.

use std::collections::BTreeSet;

/// Drops paths below other paths of the set.
pub(super) fn outermost(paths: &BTreeSet<String>) -> Vec<String> {
    let below = |path: &str, folder: &str| {
        folder.is_empty()
            || path
                .strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/'))
    };
    paths
        .iter()
        .filter(|path| {
            !paths
                .iter()
                .any(|other| other != *path && below(path, other))
        })
        .cloned()
        .collect()
}

/// Returns a path below a folder.
pub(super) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

/// Returns a path as a message has it.
pub(super) fn shown(path: &str) -> String {
    if path.is_empty() {
        ".".to_owned()
    } else {
        path.to_owned()
    }
}
