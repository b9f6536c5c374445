//! The files that a build reads, and the bounds on them.

use super::problem::Problem;
use crate::spec::resolve;
use std::cell::Cell;

/// The files of a repository. Paths are from its root, with slashes; the root is empty.
pub trait KustomizeFiles {
    /// Reads a file; `None` where none lies there, links included.
    ///
    /// # Errors
    /// [`Unreadable`]; the caller remembers why.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Unreadable>;

    /// Returns whether a folder lies there.
    ///
    /// # Errors
    /// As [`KustomizeFiles::read`].
    fn is_folder(&self, path: &str) -> Result<bool, Unreadable>;
}

/// A file that cannot be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

impl From<Unreadable> for Problem {
    fn from(_: Unreadable) -> Self {
        Self::unreadable()
    }
}

/// Bytes of files that one build reads, those that are read again counted each time; and the bytes
/// of one file.
const MOST_BYTES: (usize, usize) = (32 << 20, 16 << 20);

/// Kustomizations of one build, those that are built again counted each time.
const MOST_FOLDERS: usize = 5_000;

/// Nodes of YAML that one build reads and copies, texts by their length: some 30 MB of manifests,
/// and some 130 MB of memory.
const MOST_NODES: usize = 1_000_000;

/// Nodes that transformers may look at, and comparisons that they may make.
const MOST_WORK: usize = 200_000_000;

/// The cost of looking at one resource, in nodes.
const RESOURCE: usize = 20;

/// Kustomizations that lead to each other.
pub(super) const DEEPEST_BASE: usize = 50;

/// The files of one build, with what may still be spent.
pub(super) struct Source<'f> {
    files: &'f dyn KustomizeFiles,
    bytes: Cell<usize>,
    folders: Cell<usize>,
    nodes: Cell<usize>,
    work: Cell<usize>,
}

impl<'f> Source<'f> {
    pub(super) fn new(files: &'f dyn KustomizeFiles) -> Self {
        Self {
            files,
            bytes: Cell::new(MOST_BYTES.0),
            folders: Cell::new(MOST_FOLDERS),
            nodes: Cell::new(MOST_NODES),
            work: Cell::new(MOST_WORK),
        }
    }

    /// Reads a file.
    pub(super) fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Problem> {
        let Some(bytes) = self.files.read(path)? else {
            return Ok(None);
        };
        let left = self.bytes.get().checked_sub(bytes.len() + 64);
        match left {
            Some(left) if bytes.len() <= MOST_BYTES.1 => self.bytes.set(left),
            _ => return Err(too_large("files")),
        }
        Ok(Some(bytes))
    }

    /// Reads a text that a kustomization in `folder` names.
    pub(super) fn text(&self, folder: &str, path: &str) -> Result<String, Problem> {
        let bytes = self.named(folder, path)?;
        String::from_utf8(bytes).map_err(|_| Problem::refused(format!("{path:?} is no UTF-8 text")))
    }

    /// Reads a file that a kustomization in `folder` names.
    pub(super) fn named(&self, folder: &str, path: &str) -> Result<Vec<u8>, Problem> {
        self.read(&joined(folder, path)?)?
            .ok_or_else(|| Problem::refused(format!("there is no file {path:?}")))
    }

    pub(super) fn is_folder(&self, path: &str) -> Result<bool, Problem> {
        Ok(self.files.is_folder(path)?)
    }

    pub(super) fn enter(&self) -> Result<(), Problem> {
        spend(&self.folders, 1, "kustomizations")
    }

    /// Counts nodes that are kept.
    pub(super) fn keep(&self, nodes: usize) -> Result<(), Problem> {
        spend(&self.nodes, nodes, "objects")
    }

    /// Counts one look at all resources and what is in them.
    pub(super) fn pass(&self, resources: usize) -> Result<(), Problem> {
        let nodes = MOST_NODES - self.nodes.get();
        self.work(nodes + resources * RESOURCE)
    }

    /// Counts nodes that are looked at.
    pub(super) fn work(&self, nodes: usize) -> Result<(), Problem> {
        spend(&self.work, nodes, "changes")
    }
}

fn spend(left: &Cell<usize>, cost: usize, what: &str) -> Result<(), Problem> {
    match left.get().checked_sub(cost) {
        Some(rest) => {
            left.set(rest);
            Ok(())
        }
        None => Err(too_large(what)),
    }
}

fn too_large(what: &str) -> Problem {
    Problem::unsupported(format!(
        "the {what} are more than are handled in the process"
    ))
}

/// Resolves a path that a kustomization names.
pub(super) fn joined(folder: &str, path: &str) -> Result<String, Problem> {
    let is_plain = |c: char| c.is_alphanumeric() || "/._- +=~,()".contains(c);
    if path.is_empty() || path.starts_with('/') {
        return Err(Problem::refused(format!("{path:?} is no relative path")));
    }
    if !path.chars().all(is_plain) || path.contains("//") {
        return Err(Problem::unsupported(format!("{path:?} may be an address")));
    }
    resolve(folder, path)
        .ok_or_else(|| Problem::refused(format!("{path:?} leads out of the repository")))
}
