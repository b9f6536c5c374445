//! Holds after a revert: read from the history of the branch, and from pull requests that people
//! closed.

use super::{
    HoldHistory, MoveFilter, RepoFollower, RepoSnapshot, blocking,
    evaluate::HoldsByPolicy,
    requests::{cache::SharedRequestCache, closed::EndedRequests},
};
use crate::{
    images::{
        policy::{HeldMove, holds},
        references::Needles,
        scope::EnvironmentScope,
    },
    io::git::GitError,
    review::ReleasedVersion,
    spec::{Environment, ImagePolicy, PolicyKind, ReferenceScope, WriteMode},
};
use jiff::Timestamp;
use std::sync::Arc;

/// Returns the holds of each policy of an Environment.
pub(crate) async fn read(
    repo: &RepoFollower,
    history: &Arc<tokio::sync::Mutex<HoldHistory>>,
    requests: &SharedRequestCache,
    snapshot: &RepoSnapshot,
    scope: &Arc<EnvironmentScope>,
    now: Timestamp,
) -> Result<HoldsByPolicy, GitError> {
    let mirror = Arc::clone(&repo.mirror);
    let (ended, released) = {
        let cache = requests.lock();
        (cache.ended.clone(), cache.released.clone())
    };
    let (snapshot, scope) = (snapshot.clone(), Arc::clone(scope));
    let mut history = Arc::clone(history).lock_owned().await;
    blocking(move || {
        let policies = snapshot.declared.policies.values();
        let needles = Needles::new(policies.map(|policy| &policy.image));
        history.walk(&mirror, snapshot.commit, &needles, now)?;
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
                digests: matches!(policy.choice, PolicyKind::Digest(_)),
                contains: &contains,
            };
            let moves = history.moves(&filter);
            let moves = with_requests(moves, &ended, &environment.name, policy, base);
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

/// Adds what people refused by closing pull requests, and marks the merges of the bot's own.
fn with_requests(
    mut moves: Vec<HeldMove>,
    ended: &EndedRequests,
    environment: &str,
    policy: &ImagePolicy,
    base: &str,
) -> Vec<HeldMove> {
    for row in moves.iter_mut().filter(|row| !row.by_bot) {
        row.by_bot = ended.proposed(environment, policy, base, row);
    }
    for refused in ended.refused(environment, policy, base) {
        let index = moves
            .iter()
            // Commits have whole seconds, so that one in the same second came later.
            .position(|row| row.time.as_second() >= refused.time.as_second())
            .unwrap_or(moves.len());
        moves.insert(index, refused);
    }
    moves
}
