//! Whose the requests and branches of the forge are: several updaters may work on one branch of one
//! repository, and people may use the bot's branches for requests of their own.
//!
//! A request belongs to whoever declares its Environment, and its marker names the file
//! ([`MarkerScope`]). So two updaters with different `policies` folders leave each other's requests
//! alone, and one whose folder was changed keeps all whose declarations it still reads. Where a
//! declaration was moved out of the old folder into the new one, nobody can read it in its old
//! place any more: then the request is taken over. As long as it is still there, somebody may be
//! reading it, and two who both took the branch would take it from each other for ever: whoever
//! comes second waits, and says why.

use super::closed::EndedRequests;
use crate::update::RepoSnapshot;
use crate::{
    io::{
        forge::PullRequest,
        git::{GitError, Mirror, ObjectId},
    },
    objects::health::plain,
    review::{Marker, MarkerScope},
    spec,
};
use std::collections::{BTreeSet, HashSet};

/// What this updater calls its own.
pub(crate) struct RequestOwner {
    /// Where it reads declarations; everywhere if there is none.
    folder: Option<String>,
    /// The branch that requests are made for.
    target: String,
    /// Environments that are declared here now, and in these files no more.
    moved: BTreeSet<(String, String)>,
}

/// The open requests, by whose they are.
#[derive(Default)]
pub(crate) struct SortedRequests {
    /// This updater's.
    pub(crate) ours: Vec<PullRequest>,
    /// All others from branches of the bot.
    pub(crate) others: Vec<ForeignRequest>,
}

/// A request of somebody else's from a branch of the bot.
#[derive(Debug, Clone)]
pub(crate) struct ForeignRequest {
    pub(crate) request: PullRequest,
    /// Which updater's; none for a person's.
    pub(crate) scope: Option<MarkerScope>,
}

impl RequestOwner {
    /// What is whose at a revision, for these requests and those that ended.
    pub(crate) fn new(
        mirror: &Mirror,
        world: &RepoSnapshot,
        folder: Option<&str>,
        open: &[PullRequest],
        ended: &EndedRequests,
    ) -> Result<Self, GitError> {
        let (folder, target) = (
            folder.map(str::to_owned),
            mirror.remote().branch().to_owned(),
        );
        let mut whose = Self {
            folder,
            target,
            moved: BTreeSet::new(),
        };
        let of = |marker: &Marker| {
            Some((
                marker.environment.clone(),
                marker.scope.as_ref()?.file.clone(),
            ))
        };
        let open = open.iter().filter_map(|request| of(&Marker::of(request)?));
        let ended = ended
            .all
            .values()
            .filter_map(|ended| of(ended.marker.as_ref()?));
        let outside = |(environment, file): &(String, String)| {
            !whose.reads(file) && world.declared.environments.contains_key(environment)
        };
        let outside: BTreeSet<(String, String)> = open.chain(ended).filter(outside).collect();
        for (environment, file) in outside {
            if !declares(mirror, world.commit, &file, &environment)? {
                whose.moved.insert((environment, file));
            }
        }
        Ok(whose)
    }

    fn reads(&self, file: &str) -> bool {
        self.folder.as_deref().is_none_or(|folder| {
            file.strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/'))
        })
    }

    /// Whether the Environment of a marker is this updater's. Of older texts nobody can say it:
    /// they count as its own.
    pub(crate) fn is_ours(&self, marker: &Marker) -> bool {
        let ours = |scope: &MarkerScope| {
            self.reads(&scope.file)
                || self
                    .moved
                    .contains(&(marker.environment.clone(), scope.file.clone()))
        };
        marker.scope.as_ref().is_none_or(ours)
    }

    /// Sorts the open requests. One for another base is this updater's only if a person has pointed
    /// it there: then it was made for this target, and its branch has none that is for it.
    pub(crate) fn sort(&self, open: Vec<PullRequest>) -> SortedRequests {
        let right: HashSet<String> = open
            .iter()
            .filter(|request| request.base == self.target)
            .map(|request| request.head.clone())
            .collect();
        let mut sorted = SortedRequests::default();
        for request in open {
            let marker = Marker::of(&request);
            let elsewhere = request.base != self.target;
            let theirs = |marker: &&Marker| {
                let other = marker
                    .scope
                    .as_ref()
                    .is_some_and(|scope| scope.target != self.target);
                !self.is_ours(marker) || (elsewhere && other)
            };
            let scope = marker
                .as_ref()
                .filter(theirs)
                .and_then(|marker| marker.scope.clone());
            let a_persons = elsewhere && (marker.is_none() || right.contains(&request.head));
            if scope.is_some() || a_persons {
                sorted.others.push(ForeignRequest { request, scope });
            } else {
                sorted.ours.push(request);
            }
        }
        sorted
    }
}

impl ForeignRequest {
    /// Why a branch that is wanted cannot be had, if this is another updater's.
    pub(crate) fn keeps(&self) -> Option<String> {
        let scope = self.scope.as_ref()?;
        let PullRequest { number, base, .. } = &self.request;
        Some(format!(
            "Its branch has request #{number} for {} of another tagboat, whose Environment has the same name ({}): give one of the two another.",
            plain(base),
            plain(&scope.file)
        ))
    }
}

/// Whether a file declares an Environment at a commit; also if that cannot be said.
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
