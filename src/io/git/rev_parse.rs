//! Revisions that people name: branches, tags, ids; and where a branch began.

use super::{
    error::{GitError, broken, chain},
    mirror::Mirror,
};
use gix::{ObjectId, hash::Prefix, prelude::FindExt};
use std::{collections::HashSet, path::Path, sync::atomic::AtomicBool};

/// The destination of fetched revisions. The last one of each kind is kept, apart from real branch
/// names.
const BRANCH: &str = "refs/asked/branch";
const TAG: &str = "refs/asked/tag";
const COMMIT: &str = "refs/asked/commit";

impl Mirror {
    /// Resolves a branch, a tag or a commit id, fetched if it is missing. A branch wins over a tag
    /// of the same name. An abbreviated id (at least four digits) is looked up among fetched
    /// commits.
    ///
    /// # Errors
    /// [`GitError::Revision`] if the name does not exist; those of a fetch.
    pub fn named(&self, text: &str) -> Result<ObjectId, GitError> {
        let repo = self.local();
        if let Ok(id) = ObjectId::from_hex(text.as_bytes()) {
            if !repo.has_object(id) {
                self.bring(&[&format!("+{text}:{COMMIT}")])
                    .map_err(|error| unknown(text, &error.to_string()))?;
            }
            return commit(&self.local(), self.dir(), text, id);
        }
        if text == self.remote().branch()
            && let Some(head) = self.head()
        {
            return Ok(head);
        }
        if gix::validate::reference::name_partial(text.into()).is_ok() {
            self.forget_asked()?;
            let (branch, tag) = (
                format!("+refs/heads/{text}:{BRANCH}"),
                format!("+refs/tags/{text}:{TAG}"),
            );
            if self.bring(&[&branch, &tag])? {
                let repo = self.local();
                for name in [BRANCH, TAG] {
                    let found = repo.try_find_reference(name).map_err(|error| {
                        broken(self.dir(), "reference", repo.object_hash().null(), &error)
                    })?;
                    if let Some(id) = found.as_ref().and_then(gix::Reference::try_id) {
                        return commit(&repo, self.dir(), text, id.detach());
                    }
                }
            }
        }
        if (4..40).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return prefix(&repo, self.dir(), text);
        }
        Err(unknown(text, "is no branch, no tag and no commit id"))
    }

    /// Returns the merge base of `head` and `branch`, to compare with. For a commit on the branch
    /// itself, its first parent.
    ///
    /// # Errors
    /// [`GitError::Revision`] if there is none.
    pub fn before(&self, head: ObjectId, branch: ObjectId) -> Result<ObjectId, GitError> {
        before(&self.local(), self.dir(), head, branch)
    }

    /// Fetches references by these specifications; whether the remote has any of them.
    fn bring(&self, specifications: &[&str]) -> Result<bool, GitError> {
        let wire = |error: gix::Error| self.remote().wire("fetch", &error);
        let repo = self.local();
        let transport = self.remote().transport(gix_transport::Protocol::V2)?;
        let remote = repo
            .remote_at_without_url_rewrite(self.remote().url().clone())
            .and_then(|remote| {
                remote.with_refspecs(
                    specifications.iter().copied(),
                    gix::remote::Direction::Fetch,
                )
            })
            .map_err(wire)?
            .with_fetch_tags(gix::remote::fetch::Tags::None);
        let connection = remote
            .to_connection_with_transport(transport)
            .with_credentials(|_| Ok(None))
            .with_transport_options(Box::new(self.remote().http_options()?));
        let prepared = connection
            .prepare_fetch(
                gix::progress::Discard,
                gix::remote::ref_map::Options::default(),
            )
            .map_err(wire)?;
        if prepared.ref_map().mappings.is_empty() {
            return Ok(false);
        }
        prepared
            .receive(gix::progress::Discard, &AtomicBool::new(false))
            .map_err(wire)?;
        Ok(true)
    }

    /// Deletes the references of earlier lookups, so that none is taken for the result of this one.
    fn forget_asked(&self) -> Result<(), GitError> {
        let repo = self.local();
        for name in [BRANCH, TAG] {
            let failed = |error: gix::Error| GitError::Mirror {
                dir: self.dir().to_owned(),
                why: chain(&error),
            };
            if let Some(reference) = repo.try_find_reference(name).map_err(failed)? {
                reference.delete().map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// See [`Mirror::before`].
pub(crate) fn before(
    repo: &gix::Repository,
    dir: &Path,
    head: ObjectId,
    branch: ObjectId,
) -> Result<ObjectId, GitError> {
    let fork = repo.merge_base(head, branch).map_err(|error| {
        unknown(
            &short(head),
            &format!("cannot be compared: {}", chain(&error)),
        )
    })?;
    match fork.map(gix::Id::detach) {
        Some(fork) if fork != head => Ok(fork),
        Some(_) => parent(repo, dir, head),
        None => Err(unknown(
            &short(head),
            &format!("shares no history with {}", short(branch)),
        )),
    }
}

/// The first parent of a commit.
pub(crate) fn parent(
    repo: &gix::Repository,
    dir: &Path,
    head: ObjectId,
) -> Result<ObjectId, GitError> {
    let mut buffer = Vec::new();
    let found = repo
        .objects
        .find_commit(&head, &mut buffer)
        .map_err(|error| broken(dir, "commit", head, &error))?;
    let parent = found
        .parents()
        .next()
        .ok_or_else(|| unknown(&short(head), "has no parent to compare it with"))?;
    if !repo.has_object(parent) {
        return Err(unknown(
            &short(head),
            "has its parent cut off: the clone is shallow",
        ));
    }
    Ok(parent)
}

/// The commit that an object is, or that a tag points to.
pub(crate) fn commit(
    repo: &gix::Repository,
    dir: &Path,
    text: &str,
    id: ObjectId,
) -> Result<ObjectId, GitError> {
    let object = repo
        .find_object(id)
        .map_err(|error| broken(dir, "object", id, &error))?;
    object
        .peel_to_commit()
        .map(|commit| commit.id)
        .map_err(|_| unknown(text, "is no commit"))
}

/// The one commit whose id begins so.
fn prefix(repo: &gix::Repository, dir: &Path, text: &str) -> Result<ObjectId, GitError> {
    let prefix = Prefix::from_hex(text).map_err(|error| unknown(text, &error.to_string()))?;
    let mut found = HashSet::new();
    let null = repo.object_hash().null();
    repo.objects
        .lookup_prefix(prefix, Some(&mut found))
        .map_err(|error| broken(dir, "index", null, &error))?;
    let mut buffer = Vec::new();
    let mut commits: Vec<ObjectId> = found
        .into_iter()
        .filter(|id| repo.objects.find_commit(id, &mut buffer).is_ok())
        .collect();
    commits.sort();
    match commits.as_slice() {
        [one] => Ok(*one),
        [] => Err(unknown(
            text,
            "is no branch, no tag, and begins no commit that was fetched",
        )),
        several => {
            let ids: Vec<String> = several
                .iter()
                .map(|id| id.to_hex_with_len(12).to_string())
                .collect();
            Err(unknown(
                text,
                &format!("begins several commits: {}", ids.join(", ")),
            ))
        }
    }
}

pub(crate) fn unknown(text: &str, why: &str) -> GitError {
    GitError::Revision {
        revision: crate::core::image::shown(text),
        why: why.to_owned(),
    }
}

fn short(id: ObjectId) -> String {
    id.to_hex_with_len(12).to_string()
}
