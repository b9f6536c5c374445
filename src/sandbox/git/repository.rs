//! The bare repository that is served, and a person's hand on it.

use gix::{
    ObjectId,
    prelude::FindExt,
    refs::{
        Target,
        transaction::{Change, LogChange, PreviousValue, RefEdit, RefLog},
    },
};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// An error of the sandbox Git server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sandbox git: {0}")]
pub struct SandboxGitError(String);

impl SandboxGitError {
    pub(crate) fn new(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// A bare repository on disk with the branch `main`.
#[derive(Debug, Clone)]
pub struct BareRepository {
    dir: PathBuf,
    /// Serialises writers.
    writing: Arc<Mutex<()>>,
}

impl BareRepository {
    /// Makes a repository in `dir`, with `files` as its first commit.
    ///
    /// # Errors
    /// If the folder is not empty or cannot be written.
    pub fn create(
        dir: &Path,
        files: &[(&str, &str)],
        who: (&str, &str),
        seconds: i64,
        message: &str,
    ) -> Result<Self, SandboxGitError> {
        let options = gix::create::Options {
            destination_must_be_empty: Some(true),
            ..Default::default()
        };
        gix::ThreadSafeRepository::init_opts(dir, gix::create::Kind::Bare, options, isolated())
            .map_err(SandboxGitError::new)?;
        let repository = Self {
            dir: dir.to_owned(),
            writing: Arc::default(),
        };
        repository.commit(files, who, seconds, message)?;
        Ok(repository)
    }

    /// Commits on `main` as a person does: whole files, each `(path, content)`. Gives the commit.
    ///
    /// # Errors
    /// If a path is none or nothing can be written.
    pub fn commit(
        &self,
        files: &[(&str, &str)],
        (name, email): (&str, &str),
        seconds: i64,
        message: &str,
    ) -> Result<ObjectId, SandboxGitError> {
        let writing = self.lock();
        let repo = self.open()?;
        let parent = self.main(&repo)?;
        let tree = match parent {
            Some(parent) => repo
                .find_commit(parent)
                .and_then(|commit| Ok(commit.tree_id()?.detach()))
                .map_err(SandboxGitError::new)?,
            None => ObjectId::empty_tree(gix::hash::Kind::Sha1),
        };
        let mut editor = repo.edit_tree(tree).map_err(SandboxGitError::new)?;
        for (path, text) in files {
            let path = crate::io::git::RepoPath::new(path).map_err(SandboxGitError::new)?;
            let blob = repo.write_blob(text).map_err(SandboxGitError::new)?;
            editor
                .upsert(path.as_str(), gix::objs::tree::EntryKind::Blob, blob)
                .map_err(SandboxGitError::new)?;
        }
        let tree = editor.write().map_err(SandboxGitError::new)?.detach();
        let id = write_commit(
            &repo,
            tree,
            parent.into_iter().collect(),
            (name, email),
            seconds,
            message,
        )?;
        self.change(
            &writing,
            &[("refs/heads/main".to_owned(), parent, Some(id))],
        )?;
        Ok(id)
    }

    /// The commit of `main`.
    ///
    /// # Errors
    /// If the repository cannot be read.
    pub fn head(&self) -> Result<Option<ObjectId>, SandboxGitError> {
        self.main(&self.open()?)
    }

    /// The commit of a branch; nothing if there is none of this name.
    ///
    /// # Errors
    /// If the repository cannot be read.
    pub fn branch(&self, name: &str) -> Result<Option<ObjectId>, SandboxGitError> {
        branch(&self.open()?, name)
    }

    /// Deletes a branch; whether it was there.
    ///
    /// # Errors
    /// If the repository cannot be written.
    pub fn delete_branch(&self, name: &str) -> Result<bool, SandboxGitError> {
        let writing = self.lock();
        let Some(id) = self.branch(name)? else {
            return Ok(false);
        };
        self.change(&writing, &[(format!("refs/heads/{name}"), Some(id), None)])?;
        Ok(true)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn open(&self) -> Result<gix::Repository, SandboxGitError> {
        gix::open_opts(&self.dir, isolated()).map_err(SandboxGitError::new)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Updates references by compare-and-swap, all or none.
    pub(super) fn change(
        &self,
        _writing: &MutexGuard<'_, ()>,
        changes: &[(String, Option<ObjectId>, Option<ObjectId>)],
    ) -> Result<(), SandboxGitError> {
        let repo = self.open()?;
        let mut edits = Vec::new();
        for (name, old, new) in changes {
            let expected = match old {
                Some(old) => PreviousValue::MustExistAndMatch(Target::Object(*old)),
                None => PreviousValue::MustNotExist,
            };
            let change = match new {
                Some(new) => Change::Update {
                    log: LogChange {
                        mode: RefLog::AndReference,
                        force_create_reflog: false,
                        message: "sandbox".into(),
                    },
                    expected,
                    new: Target::Object(*new),
                },
                None => Change::Delete {
                    expected,
                    log: RefLog::AndReference,
                },
            };
            let name = name.as_str().try_into().map_err(SandboxGitError::new)?;
            edits.push(RefEdit {
                change,
                name,
                deref: false,
            });
        }
        let who = gix::actor::SignatureRef {
            name: "sandbox".into(),
            email: "sandbox@localhost".into(),
            time: "0 +0000",
        };
        repo.edit_references_as(edits, Some(who))
            .map_err(SandboxGitError::new)?;
        Ok(())
    }

    fn main(&self, repo: &gix::Repository) -> Result<Option<ObjectId>, SandboxGitError> {
        branch(repo, "main")
    }
}

/// The commit of a branch.
pub(super) fn branch(
    repo: &gix::Repository,
    name: &str,
) -> Result<Option<ObjectId>, SandboxGitError> {
    let found = repo
        .try_find_reference(format!("refs/heads/{name}").as_str())
        .map_err(SandboxGitError::new)?;
    Ok(found.and_then(|reference| Some(reference.try_id()?.detach())))
}

/// Writes a commit, made and committed by one person.
pub(super) fn write_commit(
    repo: &gix::Repository,
    tree: ObjectId,
    parents: Vec<ObjectId>,
    (name, email): (&str, &str),
    seconds: i64,
    message: &str,
) -> Result<ObjectId, SandboxGitError> {
    let time = gix::date::Time { seconds, offset: 0 };
    let who = gix::actor::Signature {
        name: name.into(),
        email: email.into(),
        time,
    };
    let commit = gix::objs::Commit {
        tree,
        parents: parents.into_iter().collect(),
        author: who.clone(),
        committer: who,
        encoding: None,
        message: format!("{}\n", message.trim_end()).into(),
        extra_headers: Vec::new(),
    };
    Ok(repo
        .write_object(commit)
        .map_err(SandboxGitError::new)?
        .detach())
}

fn isolated() -> gix::open::Options {
    gix::open::Options::isolated()
        .open_path_as_is(true)
        .object_store_slots(gix::odb::store::init::Slots::Given(4096))
}

/// References and what they point to, in the order of their names.
pub(super) fn references(
    repo: &gix::Repository,
) -> Result<Vec<(String, ObjectId)>, SandboxGitError> {
    let platform = repo.references().map_err(SandboxGitError::new)?;
    let mut out = Vec::new();
    for reference in platform.all().map_err(SandboxGitError::new)? {
        let reference = reference.map_err(SandboxGitError::new)?;
        if let Some(id) = reference.try_id() {
            out.push((reference.name().as_bstr().to_string(), id.detach()));
        }
    }
    out.sort();
    Ok(out)
}

/// Resolves `HEAD`, with the reference's name.
pub(super) fn head(repo: &gix::Repository) -> Option<(String, ObjectId)> {
    let name = repo.head_name().ok()??.as_bstr().to_string();
    let id = repo.head_id().ok()?.detach();
    Some((name, id))
}

/// Every object that `tips` reach and `known` do not, commits first. An error if one is missing.
pub(super) fn reachable(
    repo: &gix::Repository,
    tips: &[ObjectId],
    known: &[ObjectId],
) -> Result<Vec<ObjectId>, SandboxGitError> {
    let mut seen = HashSet::new();
    let mut ignored = Vec::new();
    for commit in known {
        // Only the trees at the boundary: at worst, deeper objects are sent again.
        let tree = repo
            .find_commit(*commit)
            .and_then(|commit| Ok(commit.tree_id()?.detach()))
            .map_err(SandboxGitError::new)?;
        below(repo, tree, &mut seen, &mut ignored)?;
    }
    let (mut commits, mut rest) = (Vec::new(), Vec::new());
    let walk = repo
        .rev_walk(tips.iter().copied())
        .with_hidden(known.iter().copied())
        .all()
        .map_err(SandboxGitError::new)?;
    for info in walk {
        let id = info.map_err(SandboxGitError::new)?.id;
        let tree = repo
            .find_commit(id)
            .and_then(|commit| Ok(commit.tree_id()?.detach()))
            .map_err(SandboxGitError::new)?;
        commits.push(id);
        below(repo, tree, &mut seen, &mut rest)?;
    }
    commits.extend(rest);
    Ok(commits)
}

fn below(
    repo: &gix::Repository,
    tree: ObjectId,
    seen: &mut HashSet<ObjectId>,
    out: &mut Vec<ObjectId>,
) -> Result<(), SandboxGitError> {
    let mut trees = vec![tree];
    while let Some(id) = trees.pop() {
        if !seen.insert(id) {
            continue;
        }
        out.push(id);
        let mut buffer = Vec::new();
        for entry in &repo
            .objects
            .find_tree(&id, &mut buffer)
            .map_err(SandboxGitError::new)?
            .entries
        {
            if entry.mode.is_tree() {
                trees.push(entry.oid.to_owned());
            } else if !entry.mode.is_commit() && seen.insert(entry.oid.to_owned()) {
                if !repo.has_object(entry.oid) {
                    return Err(SandboxGitError::new(format!(
                        "object {} is missing",
                        entry.oid
                    )));
                }
                out.push(entry.oid.to_owned());
            }
        }
    }
    Ok(())
}
