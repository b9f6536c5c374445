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
    spec::{ImagePolicy, PolicyKind, ReferenceScope},
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
    let ended = requests.lock().ended.clone();
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
            held.insert(name.clone(), holds(policy, &moves));
        }
        Ok(held)
    })
    .await
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
            .position(|row| row.time > refused.time)
            .unwrap_or(moves.len());
        moves.insert(index, refused);
    }
    moves
}
