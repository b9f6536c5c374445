//! The `images` of kustomizations: of kustomize itself and of Flux's Kustomization.

use super::{Reference, ReferenceOrigin, ReferencePart, ReferenceSlot, siblings::Siblings};

/// The reference in an entry of `images`, matched by `newName`, else by `name`. An entry without
/// `newTag` and `digest` has nothing to write a choice into and is still returned, with the name as
/// its only slot.
pub(crate) fn reference(
    siblings: &Siblings<'_>,
    locator: impl FnOnce() -> String,
) -> Option<Reference> {
    let name = siblings.new_name.or(siblings.name)?;
    let repository =
        crate::core::image::ImageRepository::new(super::siblings::value(name)?).ok()?;
    let scalar = |part, node: Option<crate::core::yaml::Node<'_>>| {
        node.filter(|node| node.value().is_some())
            .map(|node| ReferenceSlot::new(part, node))
    };
    // A digest left empty is a place for one, not a pin.
    let digest = siblings
        .digest
        .filter(|node| node.value().is_some_and(|value| !value.is_empty()));
    let mut slots: Vec<ReferenceSlot> = [
        scalar(ReferencePart::Tag, siblings.new_tag),
        scalar(ReferencePart::Digest, digest),
    ]
    .into_iter()
    .flatten()
    .collect();
    if slots.is_empty() {
        slots.extend(scalar(ReferencePart::Name, Some(name)));
    }
    if slots.is_empty() {
        return None;
    }
    Some(Reference {
        why: ReferenceOrigin::Kustomize,
        repository: Some(repository),
        registry: None,
        slots,
        locator: locator(),
    })
}
