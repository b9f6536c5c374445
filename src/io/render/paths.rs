//! Paths of a repository, in which the root is the empty path.

use std::collections::BTreeSet;

/// Drops paths below other paths of the set.
pub(super) fn outermost(paths: &BTreeSet<String>) -> Vec<String> {
    let is_below = |path: &str| {
        let folders = path.match_indices('/').map(|(end, _)| &path[..end]);
        let mut folders = folders.chain((!path.is_empty()).then_some(""));
        folders.any(|folder| paths.contains(folder))
    };
    let outermost = paths.iter().filter(|path| !is_below(path));
    outermost.cloned().collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outermost_drops_what_lies_below() {
        let of = |paths: &[&str]| outermost(&paths.iter().map(|path| (*path).to_owned()).collect());
        assert_eq!(
            of(&["a", "a-b", "a/b", "a/b/c", "ab", "b/c"]),
            ["a", "a-b", "ab", "b/c"]
        );
        assert_eq!(of(&["", "a", "a/b"]), [""]);
        assert!(of(&[]).is_empty());
    }
}
