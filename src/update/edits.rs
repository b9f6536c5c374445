//! The edits that decisions make in the files of an Environment.

use super::{
    Scans,
    decision::{Decisions, PolicyDecision},
    report::LeftReport,
};
use crate::{
    core::{image::Digest, name::Name},
    images::{
        policy::{self, Chosen, Comparison},
        rewrite::{self, Choices, LeaveReason, RewriteDecision, UpdateDirection},
        scope::{EnvironmentScope, ReferencedFile},
    },
    io::{
        facts::{ListedTags, RepositoryScan},
        git::RepoPath,
    },
    review::FileEdits,
    spec::{Declarations, ImagePolicy, ReferenceScope},
};
use std::collections::BTreeSet;

/// The edits in the files of an Environment, with what is left alone.
#[derive(Debug, Default)]
pub(super) struct ScopeEdits {
    pub files: Vec<FileEdits>,
    pub left: Vec<LeftReport>,
    /// Policies whose choice cannot be written before its digest is known.
    pub needs_digest: BTreeSet<Name>,
}

/// Edits the files of an Environment. `read` returns the bytes of a file.
///
/// # Errors
/// The errors of `read`.
pub(super) fn edit<E>(
    scope: &EnvironmentScope,
    declared: &Declarations,
    decisions: &Decisions,
    scans: &Scans,
    mut read: impl FnMut(&ReferencedFile) -> Result<Vec<u8>, E>,
) -> Result<ScopeEdits, E> {
    let choices = choices(scope, declared, decisions, scans);
    let mut edits = ScopeEdits::default();
    for file in scope.files() {
        let references = &file.findings.references;
        let bytes = if rewrite::may_edit(references, &choices) {
            read(file)?
        } else {
            Vec::new()
        };
        let outcome = rewrite::rewrite(&bytes, references, &choices);
        edits.needs_digest.extend(outcome.needs_digest().cloned());
        edits.left.extend(
            outcome
                .left
                .into_iter()
                .filter(|left| left.reason != LeaveReason::NoPolicy)
                .map(|left| LeftReport {
                    file: file.path.clone(),
                    line: left.line,
                    column: left.column,
                    code: left.reason.code(),
                    reason: left.reason.to_string(),
                    policy: left.policy,
                }),
        );
        if outcome.edits.is_empty() {
            continue;
        }
        // A file that cannot be written is left alone; the others go on.
        if let Err(error) = RepoPath::new(&file.path) {
            edits
                .left
                .extend(outcome.changes.into_iter().map(|change| LeftReport {
                    file: file.path.clone(),
                    line: change.line,
                    column: change.column,
                    code: LeaveReason::Unwritable.code(),
                    reason: format!("its file cannot be written: {error}"),
                    policy: Some(change.policy),
                }));
        } else {
            edits.files.push(FileEdits {
                path: file.path.clone(),
                source: bytes,
                edits: outcome.edits.into_iter().zip(outcome.changes).collect(),
            });
        }
    }
    Ok(edits)
}

fn choices<'c>(
    scope: &'c EnvironmentScope,
    declared: &'c Declarations,
    decisions: &Decisions,
    scans: &Scans,
) -> Choices<'c> {
    let environment = &scope.environment;
    let mut choices = Choices::new(environment.references == ReferenceScope::Auto);
    for policy in declared.policies.values() {
        let name = policy.name.clone();
        if !environment.selects(policy) {
            choices.add_nothing(
                name,
                None,
                format!(
                    "the Environment {} does not select this policy",
                    environment.name
                ),
            );
            continue;
        }
        let chosen = match decisions.get(&policy.name) {
            Some(PolicyDecision::Chosen(chosen)) => chosen,
            Some(PolicyDecision::Nothing { reason, .. }) => {
                choices.add_nothing(name, Some(policy.image.clone()), reason);
                continue;
            }
            None => {
                let reason = "the policy was not evaluated";
                choices.add_nothing(name, Some(policy.image.clone()), reason);
                continue;
            }
        };
        let scan = scans.get(&policy.image);
        let tags = scan.map(|scan| scan.tags.clone());
        let mut decision = rewrite_decision(
            policy,
            chosen,
            environment.allow_downgrade,
            // Tags that the store has lost count as listed: then the reference is left alone.
            move |present| {
                let tags = tags.as_ref().map(ListedTags::get);
                tags.is_some_and(|tags| tags.map_or(true, |tags| tags.contains(present)))
            },
        );
        if policy.choice.is_by_date() {
            let later = created_later(scope, policy, chosen, scan);
            let compare = decision.compare;
            decision.compare = Box::new(move |present| {
                if later.contains(present) {
                    UpdateDirection::Lower
                } else {
                    compare(present)
                }
            });
        }
        choices.add(decision);
    }
    choices
}

/// Returns the present tags of a `newest` policy whose images are newer than the chosen one.
///
/// That is the policy's own order, which the texts of tags do not show.
fn created_later(
    scope: &EnvironmentScope,
    policy: &ImagePolicy,
    chosen: &Chosen,
    scan: Option<&RepositoryScan>,
) -> BTreeSet<String> {
    let created = |tag: &str| scan?.details.get(tag)?.created.flatten();
    let (Some(usage), Some(limit)) = (
        scope.policies.get(&policy.name),
        created(chosen.tag.as_str()),
    ) else {
        return BTreeSet::new();
    };
    usage
        .tags
        .iter()
        .filter(|tag| created(tag).is_some_and(|time| time > limit))
        .cloned()
        .collect()
}

/// Returns what the rewriter needs to write a choice. `listed` tells whether the registry still
/// lists a present tag.
pub fn rewrite_decision<'p>(
    policy: &'p ImagePolicy,
    chosen: &Chosen,
    allow_downgrade: bool,
    listed: impl Fn(&str) -> bool + Send + Sync + 'p,
) -> RewriteDecision<'p> {
    let tag = chosen.tag.clone();
    RewriteDecision {
        policy: policy.name.clone(),
        repository: policy.image.clone(),
        tag: chosen.tag.clone(),
        digest: chosen.digest.clone(),
        digest_reflection: policy.reflect,
        unpin: false,
        allow_downgrade,
        compare: Box::new(
            move |present| match policy::standing(policy, present, tag.as_str()) {
                Comparison::Newer => UpdateDirection::Newer,
                Comparison::Equal => UpdateDirection::Equal {
                    listed: listed(present),
                },
                Comparison::Lower => UpdateDirection::Lower,
                // A digest alone may belong to any tag of the repository; a policy that follows a
                // digest replaces it.
                Comparison::Unorderable
                    if Digest::new(present).is_ok() && policy.choice.followed().is_some() =>
                {
                    UpdateDirection::Newer
                }
                Comparison::Unorderable => UpdateDirection::Unorderable,
            },
        ),
    }
}
