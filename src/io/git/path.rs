//! Paths inside a repository.

use super::error::GitError;
use std::fmt;

/// A path that may be written: relative, `/` between the parts, and no part that Git or a checkout
/// would take for something else (`.`, `..`, `.git` in any spelling that a file system may fold
/// into it). Names that only Windows refuses (`aux.yaml`, `prod:eu`) are refused on Windows alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoPath(String);

impl RepoPath {
    /// Checks `path`.
    ///
    /// # Errors
    /// [`GitError::Path`], saying why.
    pub fn new(path: &str) -> Result<Self, GitError> {
        let refused = |why| {
            Err(GitError::Path {
                path: crate::core::image::shown(path),
                why,
            })
        };
        if path.is_empty() {
            return refused("is empty");
        }
        let has_drive = cfg!(windows) && path.as_bytes().get(1) == Some(&b':');
        if path.starts_with('/') || path.contains('\\') || has_drive {
            return refused("must be relative, with / between its parts");
        }
        if path.contains('\0') {
            return refused("holds a zero byte");
        }
        for part in path.split('/') {
            if part.is_empty() {
                return refused("has an empty part");
            }
            if matches!(part, "." | "..") {
                return refused("leads out of its folder");
            }
            // Git's own rule (fsck.hasDotgit) covers the foldings of NTFS and HFS+, too.
            let options = gix::validate::path::component::Options {
                protect_windows: cfg!(windows),
                protect_hfs: true,
                protect_ntfs: true,
            };
            match gix::validate::path::component(part.into(), None, options) {
                Ok(_) => {}
                Err(_) if part.to_lowercase().contains("git") => {
                    return refused("has a part that stands for .git");
                }
                Err(_) => return refused("has a part that no checkout could hold"),
            }
        }
        Ok(Self(path.to_owned()))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_outside_the_work_tree_is_refused() {
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "a//b",
            "a/",
            "../a",
            "a/../b",
            "./a",
            ".",
            ".git/config",
            "a/.git/hooks/x",
            ".GIT/config",
            "git~1/x",
            ".git ",
            ".g\u{200c}it/config",
            "a\\b",
            "a\0b",
        ] {
            let error = RepoPath::new(bad).unwrap_err();
            assert!(!error.to_string().contains('\0'), "{error}");
        }
        for good in [
            "a",
            "a/b.yaml",
            ".github/x",
            "a/..b",
            "é/ü.yaml",
            "a b/c",
            ".gitignore",
            #[cfg(not(windows))]
            "aux.yaml",
            #[cfg(not(windows))]
            "prod:eu/a.yaml",
            #[cfg(not(windows))]
            "C:/x",
            #[cfg(not(windows))]
            "rbac/metallb-system:controller.yaml",
            #[cfg(not(windows))]
            "trailing./dot .yaml",
        ] {
            assert_eq!(RepoPath::new(good).unwrap().as_str(), good);
        }
    }
}
