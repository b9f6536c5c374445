//! Helm values: `repository` and `tag` side by side, with `registry` and `digest`.

use super::{Reference, ReferenceOrigin, ReferencePart, ReferenceSlot, siblings::Siblings};

/// Returns the reference in a mapping of Helm values. An empty tag, which means the chart's own
/// version, is returned as it is and left alone later with that reason.
pub(crate) fn reference(
    siblings: &Siblings<'_>,
    under_image: bool,
    locator: impl FnOnce() -> String,
) -> Option<Reference> {
    siblings.repository?;
    let (repository, registry) = siblings.repository();
    let scalar = |part, node: Option<crate::core::yaml::Node<'_>>| {
        node.filter(|node| node.value().is_some())
            .map(|node| ReferenceSlot::new(part, node))
    };
    // A digest left empty is a place for one, not a pin.
    let digest = siblings
        .digest
        .filter(|node| node.value().is_some_and(|value| !value.is_empty()));
    let slots: Vec<ReferenceSlot> = [
        scalar(ReferencePart::Tag, siblings.tag_node(under_image)),
        scalar(ReferencePart::Digest, digest),
    ]
    .into_iter()
    .flatten()
    .collect();
    if slots.is_empty() {
        return None;
    }
    Some(Reference {
        why: ReferenceOrigin::Helm,
        repository: Some(repository?),
        registry,
        slots,
        locator: locator(),
    })
}
