//! The decision of one policy, tag by tag.

use super::{
    PolicyDecision, blocking,
    evaluate::{COLLECTING, ROUNDS, choose, facts, input},
};
use crate::{
    core::{image::Tag, name::Name},
    images::{
        policy::{self, Holds, MissingFacts, Refusal},
        scope::{EnvironmentScope, PolicyUsage},
    },
    io::facts::{RepositoryScan, ScanError, Scanner},
};
use jiff::Timestamp;
use std::sync::Arc;

/// A policy's decision in an Environment, with the reason of every refused tag.
#[derive(Debug)]
pub struct ExplainedPolicy {
    pub decision: PolicyDecision,
    pub refused: Vec<(String, Refusal)>,
}

/// Returns whether a choice is new to the files, and not confirmed by the registry.
fn is_unconfirmed(scope: &EnvironmentScope, name: &Name, scan: &RepositoryScan, tag: &Tag) -> bool {
    let is_new = |usage: &Arc<PolicyUsage>| !usage.tags.contains(tag.as_str());
    let details = scan.details.get(tag.as_str());
    scope.policies.get(name).is_some_and(is_new) && details.is_none_or(|details| !details.fresh)
}

/// Decides one policy of an Environment, fetching the facts it lacks. The scan is returned for the
/// next Environment.
///
/// # Errors
/// If the registry or the store fails: then nothing is decided.
pub async fn explain(
    scope: &Arc<EnvironmentScope>,
    name: &Name,
    scanner: &Scanner,
    mut scan: RepositoryScan,
    holds: &Holds,
    now: Timestamp,
) -> Result<(RepositoryScan, Option<ExplainedPolicy>), ScanError> {
    let mut round = 0;
    loop {
        let (scope_, name_, holds) = (Arc::clone(scope), name.clone(), holds.clone());
        let scanner_ = scanner.clone();
        let explained;
        (scan, explained) = blocking(move || {
            let explained = scope_.policies.get(&name_).map(|usage| {
                let chosen = choose(usage, &scanner_, &mut scan, &holds, now, round == 0)?;
                let refused = policy::explain(&input(usage, &holds, now), &facts(&scan)?).1;
                Ok::<_, ScanError>((chosen, refused))
            });
            (scan, explained)
        })
        .await;
        let Some(explained) = explained else {
            return Ok((scan, None));
        };
        let (chosen, refused) = explained?;
        let decision = match chosen {
            Ok(PolicyDecision::Chosen(chosen))
                if round + 1 < ROUNDS && is_unconfirmed(scope, name, &scan, &chosen.tag) =>
            {
                let missing = MissingFacts::of_digests(vec![chosen.tag]);
                scanner.answer(&mut scan, &missing, now).await?;
                round += 1;
                continue;
            }
            Ok(decision) => decision,
            Err(_) if round + 1 == ROUNDS => PolicyDecision::nothing(COLLECTING),
            Err(missing) => {
                scanner.answer(&mut scan, &missing, now).await?;
                round += 1;
                continue;
            }
        };
        return Ok((scan, Some(ExplainedPolicy { decision, refused })));
    }
}
