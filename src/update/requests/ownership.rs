//! Ownership of the forge's pull requests and branches.
//!
//! Several updaters may work on one branch of one repository, and people may open pull requests
//! from the bot's branches.
//!
//! A pull request belongs to the updater that declares its Environment; its marker names the file
//! ([`MarkerScope`]). Two updaters with different `policies` folders leave each other's pull
//! requests alone, and an updater whose folder was changed keeps those whose declarations it still
//! reads. If a declaration was moved from the old folder into the new one, it is gone from its old
//! place, and the pull request is taken over. As long as the old file still declares it, another
//! updater may be reading it: two updaters that both claimed the branch would overwrite each other
//! for ever. So the second one waits, and reports why.

use super::{
    RequestContext,
    authors::{Authorship, RequestAuthors},
    closed::EndedRequests,
};
use crate::{
    core::text::plain,
    io::{
        forge::PullRequest,
        git::{GitError, Mirror, ObjectId},
    },
    review::{Marker, MarkerScope},
    spec,
    update::RepoSnapshot,
};
use std::collections::{BTreeSet, HashSet};

/// What this updater owns.
pub(crate) struct RequestOwnership {
    /// Folder of its declarations; the whole repository if there is none.
    folder: Option<String>,
    /// The branch that pull requests are made for.
    target: String,
    /// Environments that are declared here now, with the files that declare them no more.
    moved: BTreeSet<(String, String)>,
}

#[derive(Default)]
pub(crate) struct SortedRequests {
    pub(crate) ours: Vec<PullRequest>,
    pub(crate) foreign: Vec<ForeignRequest>,
}

/// A pull request from one of the bot's branches that this updater does not own.
#[derive(Debug, Clone)]
pub(crate) struct ForeignRequest {
    pub(crate) request: PullRequest,
    /// The other updater; none if a person opened it.
    pub(crate) scope: Option<MarkerScope>,
    /// True if another account opened it, with the target as base: the forge lets the bot open
    /// none beside it.
    pub(crate) takes_branch: bool,
}

/// Reads the ownership at a snapshot, and marks the foreign ones among the ended pull requests.
pub(crate) async fn read(
    context: RequestContext<'_>,
    snapshot: &RepoSnapshot,
    open: &[PullRequest],
) -> Result<RequestOwnership, GitError> {
    let mut ownership = RequestOwnership {
        folder: context.repo.config.policies.clone(),
        target: context.target().to_owned(),
        moved: BTreeSet::new(),
    };
    let authors = context.authors();
    let outside = {
        let cache = context.cache.lock();
        ownership.outside(snapshot, open, authors.as_deref(), &cache.ended)
    };
    if !outside.is_empty() {
        let commit = snapshot.commit;
        ownership.moved = context
            .repo
            .read(move |mirror| -> Result<_, GitError> {
                let mut moved = BTreeSet::new();
                for (environment, file) in outside {
                    if !declares(mirror, commit, &file, &environment)? {
                        moved.insert((environment, file));
                    }
                }
                Ok(moved)
            })
            .await?;
    }
    for ended in context.cache.lock().ended.all.values_mut() {
        let marker = ended.marker.as_ref();
        ended.foreign = marker.is_some_and(|marker| !ownership.is_ours(marker));
    }
    Ok(ownership)
}

impl RequestOwnership {
    /// Environments that are declared here now, with the file outside of our folder that a pull
    /// request names.
    fn outside(
        &self,
        snapshot: &RepoSnapshot,
        open: &[PullRequest],
        authors: Option<&RequestAuthors>,
        ended: &EndedRequests,
    ) -> BTreeSet<(String, String)> {
        let place = |marker: &Marker| {
            let file = marker.scope.as_ref()?.file.clone();
            Some((marker.environment.clone(), file))
        };
        let open = open
            .iter()
            .filter_map(|request| place(&authors?.marker(request)?));
        let ended = ended
            .all
            .values()
            .filter_map(|ended| place(ended.marker.as_ref()?));
        open.chain(ended)
            .filter(|(environment, file)| {
                !self.reads(file) && snapshot.declared.environments.contains_key(environment)
            })
            .collect()
    }

    fn reads(&self, file: &str) -> bool {
        self.folder.as_deref().is_none_or(|folder| {
            file.strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/'))
        })
    }

    /// Tells whether the Environment of a marker is this updater's. Markers of older versions do
    /// not name a file; they count as its own.
    pub(crate) fn is_ours(&self, marker: &Marker) -> bool {
        marker.scope.as_ref().is_none_or(|scope| {
            self.reads(&scope.file)
                || self
                    .moved
                    .contains(&(marker.environment.clone(), scope.file.clone()))
        })
    }

    /// Divides the open pull requests by owner.
    ///
    /// One with another base is this updater's only if a person has changed its base: then it was
    /// made for this target, and no other pull request of its branch is for the target. One of
    /// another account has no owner here, whatever its text says.
    pub(crate) fn sort(
        &self,
        open: Vec<PullRequest>,
        authors: Option<&RequestAuthors>,
    ) -> SortedRequests {
        let mut sorted = SortedRequests::default();
        let by_stranger = |request: &PullRequest| {
            authors.is_none_or(|known| known.authorship(request) == Authorship::Stranger)
        };
        let (strange, open): (Vec<_>, Vec<_>) = open.into_iter().partition(by_stranger);
        let on_target: HashSet<String> = open
            .iter()
            .filter(|request| request.base == self.target)
            .map(|request| request.head.clone())
            .collect();
        sorted
            .foreign
            .extend(strange.into_iter().map(|request| ForeignRequest {
                takes_branch: request.base == self.target && !on_target.contains(&request.head),
                request,
                scope: None,
            }));
        for request in open {
            let marker = Marker::of(&request);
            let elsewhere = request.base != self.target;
            let is_foreign = |marker: &&Marker| {
                let other_target = marker
                    .scope
                    .as_ref()
                    .is_some_and(|scope| scope.target != self.target);
                !self.is_ours(marker) || (elsewhere && other_target)
            };
            let scope = marker
                .as_ref()
                .filter(is_foreign)
                .and_then(|marker| marker.scope.clone());
            let by_person = elsewhere && (marker.is_none() || on_target.contains(&request.head));
            if scope.is_some() || by_person {
                sorted.foreign.push(ForeignRequest {
                    request,
                    scope,
                    takes_branch: false,
                });
            } else {
                sorted.ours.push(request);
            }
        }
        sorted
    }
}

impl ForeignRequest {
    /// The reason why this pull request keeps its branch from us, if it is another updater's, or
    /// another account's in the place of ours.
    pub(crate) fn conflict(&self) -> Option<String> {
        let PullRequest {
            number,
            base,
            author,
            ..
        } = &self.request;
        if self.takes_branch {
            return Some(format!(
                "Its branch has pull request #{number}, which {} opened and tagboat did not: close it, and tagboat opens its own.",
                plain(author)
            ));
        }
        let scope = self.scope.as_ref()?;
        Some(format!(
            "Its branch has pull request #{number} for {} of another tagboat, whose Environment has the same name ({}): rename one of the two.",
            plain(base),
            plain(&scope.file)
        ))
    }
}

/// Tells whether a file declares an Environment at a commit; true also if it has errors.
fn declares(
    mirror: &Mirror,
    commit: ObjectId,
    file: &str,
    environment: &str,
) -> Result<bool, GitError> {
    let Some(found) = mirror.at(commit)?.read(file)? else {
        return Ok(false);
    };
    let declared = spec::read(
        [(file, found.bytes.as_slice())],
        Some(mirror.remote().branch()),
    );
    Ok(declared.environments.contains_key(environment) || declared.has_errors())
}
