//! Choices written into files: bytes + references + choices → edits.
//!
//! ```text
//! &[Reference] ─Choices::matching─▶ one decision ─values─▶ new texts ─scalar─▶ Edit
//!                      └── none, several, refused ──────────────────────────▶ LeftAlone, with the reason
//! ```
//!
//! Edits are data: ranges of bytes and what replaces them, never overlapping, in the order of the
//! text. A reference is edited whole or not at all, and rewriting the result gives no edit.
//!
//! [`suspend`](suspend()) is the one edit of declarations.

mod choices;
mod inside;
mod reason;
mod scalar;
mod suspend;
mod values;

pub use crate::spec::DigestReflection;
pub use choices::{Choices, MatchingChoices, RewriteDecision, UpdateDirection};
pub use reason::LeaveReason;
pub use suspend::{SuspendError, suspend};

use crate::{
    core::{
        image::{Digest, ImageRepository, Tag},
        name::Name,
    },
    images::references::{Reference, ReferencePart},
};
use std::{collections::BTreeMap, ops::Range};

/// The result of rewriting one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RewriteOutcome {
    /// Edits in the order of the text, without overlap; empty if nothing changes.
    pub edits: Vec<TextEdit>,
    /// The meaning of the edits, one for each, in the same order.
    pub changes: Vec<ScalarChange>,
    /// Every reference without an edit, and why.
    pub left: Vec<LeftAlone>,
}

/// A range of bytes of a file and the text that replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextEdit {
    /// The byte range in the unchanged file.
    pub range: Range<usize>,
    /// The replacement.
    pub text: String,
}

/// A scalar that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalarChange {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    pub part: ReferencePart,
    /// The present value of the scalar, unquoted.
    pub old: String,
    pub new: String,
    pub policy: Name,
    pub repository: ImageRepository,
    /// The tag that the reference had, as written.
    pub old_tag: Option<String>,
    pub new_tag: Tag,
    /// The digest that the reference has afterwards.
    pub new_digest: Option<Digest>,
    /// The place in the structure of the file, see [`Reference::locator`].
    pub locator: String,
    /// An anchor is set on the scalar: every alias of it changes, too.
    pub anchored: bool,
    /// Index of the reference in the slice that was given.
    pub reference: usize,
}

/// A reference without an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftAlone {
    /// Line of the reference, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    pub reason: LeaveReason,
    /// The policy that is in question, if exactly one is.
    pub policy: Option<Name>,
    /// The repository in the file, if it can be read.
    pub repository: Option<ImageRepository>,
    /// The place in the structure of the file.
    pub locator: String,
    /// Index of the reference in the slice that was given.
    pub reference: usize,
}

/// Works out the edits that bring `references`, found in `source`, to `choices`. Pure; never fails:
/// what cannot be edited is left alone with the reason.
pub fn rewrite(source: &[u8], references: &[Reference], choices: &Choices<'_>) -> RewriteOutcome {
    let mut outcome = RewriteOutcome::default();
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    let mut edits: Vec<(TextEdit, ScalarChange)> = vec![];
    for (index, reference) in references.iter().enumerate() {
        let (policy, result) = match choices.matching(reference) {
            MatchingChoices::One(decision) => (
                Some(&decision.policy),
                one(source, reference, decision, index),
            ),
            MatchingChoices::Nothing { policy, reason } => (
                Some(policy),
                Err(LeaveReason::NothingChosen(reason.to_owned())),
            ),
            MatchingChoices::Several(policies) => (
                None,
                Err(LeaveReason::SeveralPolicies(
                    policies.into_iter().cloned().collect(),
                )),
            ),
            MatchingChoices::UnknownPolicy(policy) => {
                (Some(policy), Err(LeaveReason::UnknownPolicy))
            }
            MatchingChoices::MarkersOnly => (None, Err(LeaveReason::MarkersOnly)),
            MatchingChoices::NoPolicy => (None, Err(LeaveReason::NoPolicy)),
        };
        let free = |edit: &TextEdit| {
            taken
                .range(..edit.range.end.max(edit.range.start + 1))
                .next_back()
                .is_none_or(|(_, end)| *end <= edit.range.start)
        };
        let result = result.and_then(|own| {
            if own.iter().all(|(edit, _)| free(edit)) {
                Ok(own)
            } else {
                Err(LeaveReason::Overlap)
            }
        });
        match result {
            Ok(own) => {
                taken.extend(
                    own.iter()
                        .map(|(edit, _)| (edit.range.start, edit.range.end)),
                );
                edits.extend(own);
            }
            Err(reason) => {
                let (line, column) = reference.line_column();
                let (repository, locator) =
                    (reference.repository.clone(), reference.locator.clone());
                outcome.left.push(LeftAlone {
                    line,
                    column,
                    reason,
                    policy: policy.cloned(),
                    repository,
                    locator,
                    reference: index,
                });
            }
        }
    }
    edits.sort_by_key(|(edit, _)| edit.range.start);
    (outcome.edits, outcome.changes) = edits.into_iter().unzip();
    outcome
}

/// Returns whether rewriting can produce an edit, judged by the references alone. If not,
/// [`rewrite`] gives the same result without the bytes, so that an unchanged world reads no file.
pub fn may_edit(references: &[Reference], choices: &Choices<'_>) -> bool {
    references
        .iter()
        .any(|reference| match choices.matching(reference) {
            // Only a reference inside other text needs the bytes to be judged.
            MatchingChoices::One(decision) => matches!(
                values::new_values(&[], reference, decision),
                Ok(_) | Err(LeaveReason::Unwritable)
            ),
            _ => false,
        })
}

/// The edits of one reference; at least one.
fn one(
    source: &[u8],
    reference: &Reference,
    decision: &RewriteDecision<'_>,
    index: usize,
) -> Result<Vec<(TextEdit, ScalarChange)>, LeaveReason> {
    let new = values::new_values(source, reference, decision)?;
    let old_tag = new.old_tag;
    new.texts
        .into_iter()
        .map(|text| {
            let slot = &reference.slots[text.slot];
            let edit = scalar::edit(source, slot, &text).ok_or(LeaveReason::Unwritable)?;
            let change = ScalarChange {
                line: slot.line,
                column: slot.column,
                part: slot.part,
                old: slot.value.clone(),
                new: text.value,
                policy: decision.policy.clone(),
                repository: decision.repository.clone(),
                old_tag: old_tag.clone(),
                new_tag: decision.tag.clone(),
                new_digest: new.digest.clone(),
                locator: reference.locator.clone(),
                anchored: slot.anchored,
                reference: index,
            };
            Ok((edit, change))
        })
        .collect()
}

/// The bytes after `edits`, which must be in the order of the text and must not overlap, as
/// [`rewrite`] gives them.
pub fn apply(source: &[u8], edits: &[TextEdit]) -> Vec<u8> {
    let grown: usize = edits.iter().map(|edit| edit.text.len()).sum();
    let mut out = Vec::with_capacity(source.len() + grown);
    let mut at = 0;
    for edit in edits {
        out.extend_from_slice(&source[at..edit.range.start]);
        out.extend_from_slice(edit.text.as_bytes());
        at = edit.range.end;
    }
    out.extend_from_slice(&source[at..]);
    out
}

impl RewriteOutcome {
    /// The policies whose choice cannot be written until its digest is known.
    pub fn needs_digest(&self) -> impl Iterator<Item = &Name> {
        self.left
            .iter()
            .filter(|left| left.reason == LeaveReason::NeedsDigest)
            .filter_map(|left| left.policy.as_ref())
    }
}

#[cfg(test)]
mod tests;
