//! A commit made in memory: nothing of it is on disk before a server has taken it.

use super::{
    error::GitError, mirror::Mirror, path::RepoPath, revision::tree_of, sign::CommitSigner,
};
use gix::{
    ObjectId,
    objs::{
        Tree, WriteTo,
        tree::{Entry, EntryKind},
    },
    prelude::FindExt,
};

/// New content for one path. A file keeps its mode; a new one is an ordinary file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEdit {
    pub path: RepoPath,
    /// The whole new content.
    pub bytes: Vec<u8>,
}

/// An author or committer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    name: String,
    email: String,
}

impl Person {
    /// Checks name and address.
    ///
    /// # Errors
    /// [`GitError::Commit`] where either is empty or has a `<`, `>` or control character: it would
    /// break the commit's header.
    pub fn new(name: &str, email: &str) -> Result<Self, GitError> {
        for (what, text) in [("author name", name), ("author address", email)] {
            if text.trim().is_empty() {
                return Err(GitError::Commit {
                    what,
                    why: "is empty",
                });
            }
            if text
                .chars()
                .any(|c| c.is_control() || matches!(c, '<' | '>'))
            {
                return Err(GitError::Commit {
                    what,
                    why: "must not have < > or control characters",
                });
            }
        }
        Ok(Self {
            name: name.trim().to_owned(),
            email: email.trim().to_owned(),
        })
    }

    pub(crate) fn is(&self, name: &str, email: &str) -> bool {
        self.name == name && self.email == email
    }

    fn at(&self, seconds: i64) -> gix::actor::Signature {
        let time = gix::date::Time { seconds, offset: 0 };
        gix::actor::Signature {
            name: self.name.as_str().into(),
            email: self.email.as_str().into(),
            time,
        }
    }
}

/// The metadata of a commit.
#[derive(Debug, Clone)]
pub struct CommitMeta<'a> {
    pub author: &'a Person,
    pub committer: &'a Person,
    /// Now, in seconds since 1970; written as UTC.
    pub seconds: i64,
    /// The text, subject first. Blanks at its end are cut, and it ends with one line end.
    pub text: &'a str,
    pub key: Option<&'a CommitSigner>,
}

/// A commit with all its new objects, ready to be pushed.
pub struct CommitDraft {
    pub commit: ObjectId,
    pub parent: ObjectId,
    pub tree: ObjectId,
    pub(crate) objects: Vec<(ObjectId, gix::objs::Kind, Vec<u8>)>,
}

impl Mirror {
    /// Makes a commit on `parent` with new content for some files; nothing where every file has its
    /// content already.
    ///
    /// # Errors
    /// [`GitError::Path`] for a path twice, one that is a link, submodule or folder, and one below
    /// something that is no folder; [`GitError::Commit`], [`GitError::Key`], [`GitError::Broken`].
    pub fn draft(
        &self,
        parent: ObjectId,
        edits: &[FileEdit],
        message: &CommitMeta<'_>,
    ) -> Result<Option<CommitDraft>, GitError> {
        let mut sorted: Vec<(&str, &FileEdit)> = edits
            .iter()
            .map(|edit| (edit.path.as_str(), edit))
            .collect();
        sorted.sort_by_key(|(path, _)| *path);
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(refused(twice[0].1, "is edited twice"));
        }
        let mut repo = self.local().with_object_memory();
        let old = tree_of(self.dir(), &repo, parent)?;
        let tree = self.edit_tree(&repo, Some(old), &sorted)?;
        self.seal(&mut repo, parent, old, tree, message)
    }

    /// Keeps a draft's objects in the mirror, so that its commit can be read like any other. No
    /// branch has it: the next compaction may forget it.
    ///
    /// # Errors
    /// [`GitError::Mirror`] if they cannot be written.
    pub fn keep(&self, draft: &CommitDraft) -> Result<(), GitError> {
        let repo = self.local();
        for (id, kind, data) in &draft.objects {
            if !repo.has_object(*id) {
                gix::objs::Write::write_buf(&repo.objects, *kind, data)
                    .map_err(|error| self.unwritten(&error))?;
            }
        }
        Ok(())
    }

    /// Makes the commit of a tree, and gathers every object that was written into memory on the
    /// way; nothing for the old tree.
    pub(crate) fn seal(
        &self,
        repo: &mut gix::Repository,
        parent: ObjectId,
        old: ObjectId,
        tree: ObjectId,
        message: &CommitMeta<'_>,
    ) -> Result<Option<CommitDraft>, GitError> {
        let text = message.text.trim_end();
        if text.trim().is_empty() || text.contains('\0') {
            return Err(GitError::Commit {
                what: "message",
                why: "is empty or holds a zero byte",
            });
        }
        if tree == old {
            return Ok(None);
        }
        let mut commit = gix::objs::Commit {
            tree,
            parents: [parent].into_iter().collect(),
            author: message.author.at(message.seconds),
            committer: message.committer.at(message.seconds),
            encoding: None,
            message: format!("{text}\n").into(),
            extra_headers: Vec::new(),
        };
        if let Some(key) = message.key {
            let mut payload = Vec::new();
            commit
                .write_to(&mut payload)
                .map_err(|_| GitError::Commit {
                    what: "header",
                    why: "cannot be written",
                })?;
            commit
                .extra_headers
                .push(("gpgsig".into(), key.sign(&payload)?.into()));
        }
        let id = self.write(repo, commit)?;
        let memory = repo.objects.take_object_memory().unwrap_or_default();
        let mut objects: Vec<_> = memory
            .iter()
            .map(|(id, (kind, data))| (*id, *kind, data.clone()))
            .collect();
        // Commits, trees, blobs as Git packs them, and the same pack for the same objects.
        objects.sort_by_key(|(id, kind, _)| {
            (
                *kind != gix::objs::Kind::Commit,
                *kind != gix::objs::Kind::Tree,
                *id,
            )
        });
        Ok(Some(CommitDraft {
            commit: id,
            parent,
            tree,
            objects,
        }))
    }

    /// Writes the tree with the edits; `edits` are sorted, and their paths relative to it. Every
    /// tree on the way is read and written once.
    fn edit_tree(
        &self,
        repo: &gix::Repository,
        tree: Option<ObjectId>,
        edits: &[(&str, &FileEdit)],
    ) -> Result<ObjectId, GitError> {
        let mut buffer = Vec::new();
        let mut entries: Vec<Entry> = match tree {
            None => Vec::new(),
            Some(id) => {
                let found = repo
                    .objects
                    .find_tree(&id, &mut buffer)
                    .map_err(|error| self.broken("tree", id, &error))?;
                found.entries.iter().map(|&entry| entry.into()).collect()
            }
        };
        let by_name = |entries: &[Entry], name: &str| {
            entries
                .iter()
                .position(|entry| entry.filename == name.as_bytes())
        };
        let known = entries.len();
        for group in edits.chunk_by(|a, b| first(a.0) == first(b.0)) {
            let name = first(group[0].0);
            let at = by_name(&entries[..known], name);
            let kind = at.map(|at| entries[at].mode.kind());
            let (kind, id) = match (group[0].0.split_once('/'), kind) {
                (None, _) if group.len() > 1 => {
                    return Err(refused(group[1].1, "lies below a file"));
                }
                (None, None | Some(EntryKind::Blob)) => {
                    (EntryKind::Blob, self.write_blob(repo, &group[0].1.bytes)?)
                }
                (None, Some(EntryKind::BlobExecutable)) => (
                    EntryKind::BlobExecutable,
                    self.write_blob(repo, &group[0].1.bytes)?,
                ),
                (None, Some(EntryKind::Link)) => {
                    return Err(refused(group[0].1, "is a symbolic link"));
                }
                (None, Some(EntryKind::Commit)) => {
                    return Err(refused(group[0].1, "is a submodule"));
                }
                (None, Some(EntryKind::Tree)) => return Err(refused(group[0].1, "is a folder")),
                (Some(_), None | Some(EntryKind::Tree)) => {
                    let below: Vec<_> = group
                        .iter()
                        .filter_map(|(path, edit)| Some((path.split_once('/')?.1, *edit)))
                        .collect();
                    (
                        EntryKind::Tree,
                        self.edit_tree(repo, at.map(|at| entries[at].oid), &below)?,
                    )
                }
                (Some(_), Some(_)) => {
                    return Err(refused(
                        group[0].1,
                        "lies below something that is no folder",
                    ));
                }
            };
            match at {
                Some(at) => entries[at].oid = id,
                None => entries.push(Entry {
                    mode: kind.into(),
                    filename: name.into(),
                    oid: id,
                }),
            }
        }
        if entries.len() > known {
            entries.sort();
        }
        self.write(repo, Tree { entries })
    }

    fn write_blob(&self, repo: &gix::Repository, bytes: &[u8]) -> Result<ObjectId, GitError> {
        repo.write_blob(bytes)
            .map(gix::Id::detach)
            .map_err(|error| self.unwritten(&error))
    }

    fn write(&self, repo: &gix::Repository, object: impl WriteTo) -> Result<ObjectId, GitError> {
        repo.write_object(object)
            .map(gix::Id::detach)
            .map_err(|error| self.unwritten(&error))
    }

    fn unwritten(&self, error: &gix::Error) -> GitError {
        GitError::Mirror {
            dir: self.dir().to_owned(),
            why: super::error::chain(error),
        }
    }
}

impl std::fmt::Debug for CommitDraft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            commit,
            parent,
            tree,
            objects,
        } = self;
        write!(
            f,
            "Draft {{ commit: {commit}, parent: {parent}, tree: {tree}, {} objects }}",
            objects.len()
        )
    }
}

fn first(path: &str) -> &str {
    path.split_once('/').map_or(path, |(first, _)| first)
}

fn refused(edit: &FileEdit, why: &'static str) -> GitError {
    GitError::Path {
        path: crate::core::image::shown(edit.path.as_str()),
        why,
    }
}
