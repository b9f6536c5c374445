//! Holds after a revert: read from the history of the branch, from pull requests that people
//! closed, and from updates that force-pushes removed.

use super::{
    HoldHistory, MoveFilter, RepoFollower, RepoSnapshot, blocking, evaluate::HoldsByPolicy,
    force_push::RemovedUpdates, requests::cache::SharedRequestCache,
};
use crate::{
    images::{
        policy::{HeldMove, holds},
        scope::EnvironmentScope,
    },
    io::git::GitError,
    review::ReleasedVersion,
    spec::{Environment, ImagePolicy, ReferenceScope, WriteMode},
};
use jiff::Timestamp;
use std::sync::Arc;

/// The sources of holds.
#[derive(Clone, Copy)]
pub(crate) struct HoldSources<'a> {
    pub(crate) repo: &'a RepoFollower,
    pub(crate) history: &'a Arc<tokio::sync::Mutex<HoldHistory>>,
    pub(crate) removed: &'a Arc<tokio::sync::Mutex<RemovedUpdates>>,
    pub(crate) requests: &'a SharedRequestCache,
}

/// Returns the holds of each policy of an Environment.
pub(crate) async fn read(
    sources: HoldSources<'_>,
    snapshot: &RepoSnapshot,
    scope: &Arc<EnvironmentScope>,
    now: Timestamp,
) -> Result<HoldsByPolicy, GitError> {
    let mirror = Arc::clone(&sources.repo.mirror);
    let (ended, released) = {
        let cache = sources.requests.lock();
        (cache.ended.clone(), cache.released.clone())
    };
    let (snapshot, scope) = (snapshot.clone(), Arc::clone(scope));
    let mut history = Arc::clone(sources.history).lock_owned().await;
    let removed = sources.removed.lock().await.clone();
    blocking(move || {
        history.walk(&mirror, snapshot.commit, snapshot.needles(), now)?;
        let environment = &scope.environment;
        let contains = |path: &str| environment.paths.contains(path);
        let base = mirror.remote().branch();
        let mut held = HoldsByPolicy::new();
        for (name, usage) in &scope.policies {
            let policy = &usage.policy;
            let filter = MoveFilter {
                policy: &policy.name,
                repository: &policy.image,
                automatic: environment.references == ReferenceScope::Auto,
                digests: policy.choice.followed().is_some(),
                contains: &contains,
            };
            let proposed = |row: &HeldMove| ended.proposed(&environment.name, policy, base, row);
            let mut moves = history.moves(&filter);
            for row in moves.iter_mut().filter(|row| !row.by_bot) {
                row.by_bot = proposed(row);
            }
            insert_by_time(&mut moves, removed.moves(&filter, proposed));
            insert_by_time(&mut moves, ended.refused(&environment.name, policy, base));
            let mut holds = holds(policy, &moves);
            for version in released_in(environment, policy, &released) {
                holds.lift(policy, version);
            }
            held.insert(name.clone(), holds);
        }
        Ok(held)
    })
    .await
}

/// Returns the held versions of a policy that open pull requests of an Environment propose again.
fn released_in<'r>(
    environment: &Environment,
    policy: &ImagePolicy,
    released: &'r [(String, ReleasedVersion)],
) -> impl Iterator<Item = &'r str> {
    let by_request = environment.via != WriteMode::Commit;
    let (environment, policy) = (environment.name.clone(), policy.name.clone());
    released
        .iter()
        .filter(move |(of, version)| by_request && *of == environment && version.policy == policy)
        .map(|(_, version)| version.version.as_str())
}

/// Inserts what no commit of the history did.
fn insert_by_time(moves: &mut Vec<HeldMove>, others: Vec<HeldMove>) {
    for other in others {
        let index = moves
            .iter()
            // Commits have whole seconds, so that one in the same second came later.
            .position(|row| row.time.as_second() >= other.time.as_second())
            .unwrap_or(moves.len());
        moves.insert(index, other);
    }
}
