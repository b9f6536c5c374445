//! A working copy of the user, as in a CI job. It is only read.

use super::{
    error::{GitError, chain},
    mirror::cached,
    object_limit::MAX_OBJECT,
    rev_parse::{self, unknown},
    revision::Revision,
    tree_cache::TreeCache,
};
use gix::ObjectId;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A working copy, opened for reading. Files that are not committed are not seen.
pub struct Checkout {
    dir: PathBuf,
    repo: gix::ThreadSafeRepository,
    trees: Arc<TreeCache>,
}

impl Checkout {
    /// Opens the working copy that contains `dir`. The Git configuration of the user and the
    /// machine and the environment are ignored, so that it does not matter who owns the copy.
    ///
    /// # Errors
    /// [`GitError::Checkout`] if there is none.
    pub fn open(dir: &Path) -> Result<Self, GitError> {
        let failed = |why: String| GitError::Checkout {
            dir: dir.to_owned(),
            why,
        };
        let here = dir
            .canonicalize()
            .map_err(|error| failed(error.to_string()))?;
        let root = here.ancestors().find(|above| above.join(".git").exists());
        let root = root.ok_or_else(|| failed("it lies in no Git working copy".to_owned()))?;
        let repo = gix::ThreadSafeRepository::open_opts(
            root,
            gix::open::Options::isolated().config_overrides([MAX_OBJECT]),
        )
        .map_err(|error| failed(chain(&error)))?;
        if repo.to_thread_local().object_hash() != gix::hash::Kind::Sha1 {
            return Err(failed("it is no SHA-1 repository".to_owned()));
        }
        Ok(Self {
            dir: root.to_owned(),
            repo,
            trees: Arc::default(),
        })
    }

    /// The root of the working copy.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the path from the root of a file, which need not exist, in an existing folder.
    ///
    /// # Errors
    /// [`GitError::Checkout`] if it lies elsewhere.
    pub fn path_of(&self, file: &Path) -> Result<String, GitError> {
        let failed = |why: String| GitError::Checkout {
            dir: self.dir.clone(),
            why: format!("{}: {why}", file.display()),
        };
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let folder = folder
            .canonicalize()
            .map_err(|error| failed(error.to_string()))?;
        let path = folder.join(file.file_name().unwrap_or_default());
        let inside = path.strip_prefix(&self.dir).ok().and_then(Path::to_str);
        inside
            .map(str::to_owned)
            .ok_or_else(|| failed("lies outside of it".to_owned()))
    }

    /// Opens a commit for reading.
    ///
    /// # Errors
    /// [`GitError::Broken`] if it is not there.
    pub fn at(&self, commit: ObjectId) -> Result<Revision<'_>, GitError> {
        Revision::new(
            &self.dir,
            cached(&self.repo),
            commit,
            Arc::clone(&self.trees),
        )
    }

    /// The commit that is checked out.
    ///
    /// # Errors
    /// [`GitError::Checkout`] if there is none yet.
    pub fn head(&self) -> Result<ObjectId, GitError> {
        let repo = self.repo.to_thread_local();
        repo.head_id()
            .map(gix::Id::detach)
            .map_err(|error| GitError::Checkout {
                dir: self.dir.clone(),
                why: chain(&error),
            })
    }

    /// Resolves a revision in any of Git's forms: `v1.2`, `origin/main`, `HEAD~2`, an id.
    ///
    /// # Errors
    /// [`GitError::Revision`] if there is none.
    pub fn named(&self, text: &str) -> Result<ObjectId, GitError> {
        let repo = self.repo.to_thread_local();
        let id = repo.rev_parse_single(text).map_err(|error| {
            unknown(
                text,
                &format!("is not in the working copy: {}", chain(&error)),
            )
        })?;
        let id = id.detach();
        rev_parse::commit(&repo, &self.dir, text, id)
    }

    /// Returns the merge base of `head` and the default branch of `origin`, or else `main` or
    /// `master`; without these, and for a commit on that branch itself, its first parent.
    ///
    /// # Errors
    /// [`GitError::Revision`] if there is none: it is the first commit, or the clone is shallow.
    pub fn before(&self, head: ObjectId) -> Result<ObjectId, GitError> {
        let repo = self.repo.to_thread_local();
        for name in [
            "refs/remotes/origin/HEAD",
            "refs/remotes/origin/main",
            "refs/remotes/origin/master",
        ] {
            let Ok(Some(mut reference)) = repo.try_find_reference(name) else {
                continue;
            };
            let Ok(id) = reference.peel_to_id() else {
                continue;
            };
            return rev_parse::before(&repo, &self.dir, head, id.detach());
        }
        rev_parse::parent(&repo, &self.dir, head)
    }

    /// The name of the branch that is checked out; none where it is a commit by its id.
    pub fn branch(&self) -> Option<String> {
        let name = self.repo.to_thread_local().head_name().ok()??;
        Some(name.shorten().to_string())
    }
}

impl std::fmt::Debug for Checkout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkout")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}
