//! The files that a rendering reads from: those of a commit, or those of a folder on disk.

use super::error::RenderError;
use crate::io::git::{EntryKind, Revision};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryType {
    Folder,
    File,
    Link,
    Submodule,
}

/// An entry below a folder.
#[derive(Debug)]
pub(crate) struct FolderEntry {
    /// From the root, with `/`.
    pub path: String,
    pub kind: EntryType,
    id: Option<crate::io::git::ObjectId>,
}

/// Where files come from.
pub(crate) enum RenderTree<'t> {
    Git(Box<Revision<'t>>),
    /// A folder, and no ids.
    Disk(PathBuf),
}

impl RenderTree<'_> {
    /// What lies at a path, links not followed.
    pub(super) fn kind(&self, path: &str) -> Result<Option<EntryType>, RenderError> {
        Ok(match self {
            Self::Git(revision) => revision.find(path)?.map(|entry| kind(entry.kind)),
            Self::Disk(root) => {
                // A link on the way leads elsewhere, as it does in Git.
                let mut at = root.clone();
                let mut found = Some(EntryType::Folder);
                for part in path.split('/').filter(|part| !part.is_empty()) {
                    if found != Some(EntryType::Folder) {
                        return Ok(None);
                    }
                    at.push(part);
                    found = fs::symlink_metadata(&at)
                        .ok()
                        .and_then(|data| on_disk(&data));
                }
                found
            }
        })
    }

    /// Whether a file lies there.
    pub(super) fn is_file(&self, path: &str) -> Result<bool, RenderError> {
        Ok(self.kind(path)? == Some(EntryType::File))
    }

    /// The id of what lies at a path, as bytes; nothing where there is nothing, or no ids.
    pub(super) fn id(&self, path: &str) -> Result<Option<Vec<u8>>, RenderError> {
        Ok(match self {
            Self::Git(revision) => revision
                .find(path)?
                .map(|entry| entry.id.as_slice().to_vec()),
            Self::Disk(_) => None,
        })
    }

    /// Whether things have ids, so that the same can be known again.
    pub(super) fn has_ids(&self) -> bool {
        matches!(self, Self::Git(_))
    }

    /// Everything below a folder that is no folder, in the order of full paths.
    pub(super) fn list(&self, path: &str) -> Result<Vec<FolderEntry>, RenderError> {
        match self {
            Self::Git(revision) => {
                let entries = revision.list(path)?;
                Ok(entries
                    .into_iter()
                    .map(|entry| FolderEntry {
                        path: entry.path,
                        kind: kind(entry.kind),
                        id: Some(entry.id),
                    })
                    .collect())
            }
            Self::Disk(root) => {
                let mut out = Vec::new();
                below(root, path.trim_matches('/'), &mut out)?;
                out.sort_by(|a, b| a.path.cmp(&b.path));
                Ok(out)
            }
        }
    }

    /// The bytes of a file of [`RenderTree::list`].
    pub(super) fn bytes(&self, entry: &FolderEntry) -> Result<Vec<u8>, RenderError> {
        match (self, entry.id) {
            (Self::Git(revision), Some(id)) => {
                let bytes = revision.blob(id)?;
                revision.check_size(&entry.path, &bytes)?;
                Ok(bytes)
            }
            _ => Ok(self.read(&entry.path)?.unwrap_or_default()),
        }
    }

    /// The bytes of a file; nothing where there is none.
    pub(super) fn read(&self, path: &str) -> Result<Option<Vec<u8>>, RenderError> {
        if !self.is_file(path)? {
            return Ok(None);
        }
        match self {
            Self::Git(revision) => Ok(revision.read(path)?.map(|file| file.bytes)),
            Self::Disk(root) => {
                let path = root.join(path);
                fs::read(&path)
                    .map(Some)
                    .map_err(|error| RenderError::disk(&path, &error))
            }
        }
    }
}

fn kind(kind: EntryKind) -> EntryType {
    match kind {
        EntryKind::Tree => EntryType::Folder,
        EntryKind::Blob | EntryKind::BlobExecutable => EntryType::File,
        EntryKind::Link => EntryType::Link,
        EntryKind::Commit => EntryType::Submodule,
    }
}

fn on_disk(data: &fs::Metadata) -> Option<EntryType> {
    match data.file_type() {
        kind if kind.is_dir() => Some(EntryType::Folder),
        kind if kind.is_file() => Some(EntryType::File),
        kind if kind.is_symlink() => Some(EntryType::Link),
        // Pipes and devices are nothing that Git knows.
        _ => None,
    }
}

fn below(root: &Path, path: &str, out: &mut Vec<FolderEntry>) -> Result<(), RenderError> {
    let folder = root.join(path);
    let entries = fs::read_dir(&folder).map_err(|error| RenderError::disk(&folder, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| RenderError::disk(&folder, &error))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name == ".git" {
            continue;
        }
        let data = entry
            .metadata()
            .map_err(|error| RenderError::disk(&entry.path(), &error))?;
        let path = if path.is_empty() {
            name
        } else {
            format!("{path}/{name}")
        };
        match on_disk(&data) {
            Some(EntryType::Folder) => below(root, &path, out)?,
            Some(kind) => out.push(FolderEntry {
                path,
                kind,
                id: None,
            }),
            None => {}
        }
    }
    Ok(())
}
