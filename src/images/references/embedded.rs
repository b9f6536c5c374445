//! YAML inside a literal block scalar: inline patches of kustomize, Helm values of Argo CD.

use super::{Findings, Reference, ReferenceSlot};
use crate::core::yaml::{self, Node, NodeStyle, YamlStream};

/// Returns the references that `find` finds in the YAML that a block scalar holds, with the places
/// of the file that the scalar is in. Markers do not count: no reader of the outer file sees those
/// comments.
pub(super) fn references(
    outer: Node<'_>,
    outer_locator: &str,
    find: impl Fn(&YamlStream<'_>) -> Findings,
) -> Vec<Reference> {
    let (Some(NodeStyle::Literal), Some(text)) = (outer.style(), outer.value()) else {
        return Vec::new();
    };
    let Ok(stream) = yaml::parse(text) else {
        return Vec::new();
    };
    let Findings { references, .. } = find(&stream);
    let lines = BlockLines::of(outer, text);
    references
        .into_iter()
        .filter(|reference| reference.policy().is_none())
        .filter_map(|reference| {
            let slots = reference
                .slots
                .into_iter()
                .map(|slot| lines.outer(text, slot))
                .collect::<Option<Vec<_>>>()?;
            Some(Reference {
                slots,
                locator: format!("{outer_locator}|{}", reference.locator),
                ..reference
            })
        })
        .collect()
}

/// The lines of a literal block: each is a line of the file without its indent.
struct BlockLines<'t> {
    /// The text of the block as the file has it, from its first byte that is no blank.
    written: &'t str,
    start: usize,
    line: u32,
    column: u32,
    /// Empty lines of the text in front of `written`.
    skipped: usize,
}

impl<'t> BlockLines<'t> {
    fn of(outer: Node<'t>, text: &str) -> Self {
        Self {
            written: outer.written(),
            start: outer.span().start,
            line: outer.line(),
            column: outer.column(),
            skipped: text.len() - text.trim_start_matches('\n').len(),
        }
    }

    /// Moves a slot from the text of the block into the file. None if the slot spans lines, or the
    /// file has other bytes there.
    fn outer(&self, text: &str, slot: ReferenceSlot) -> Option<ReferenceSlot> {
        let before = &text[..slot.span.start];
        let row = before.matches('\n').count().checked_sub(self.skipped)?;
        let column = slot.span.start - before.rfind('\n').map_or(0, |at| at + 1);
        let inner = &text[slot.span.clone()];
        if inner.contains('\n') {
            return None;
        }
        let mut at = 0;
        let mut lines = self.written.split_inclusive('\n');
        for line in lines.by_ref().take(row) {
            at += line.len();
        }
        let indent = match row {
            0 => 0,
            _ => usize::try_from(self.column).ok()? - 1,
        };
        let begin = at + indent + column;
        let written = self.written.get(begin..begin + inner.len())?;
        (written == inner).then(|| ReferenceSlot {
            span: self.start + begin..self.start + begin + inner.len(),
            line: self.line + row as u32,
            column: slot.column + self.column - 1,
            ..slot
        })
    }
}
