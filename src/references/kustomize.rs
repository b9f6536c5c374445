//! The `images` of kustomizations: of kustomize itself and of Flux's Kustomization.

use super::{Part, Reference, Slot, Why, siblings::Siblings};

/// The reference in an entry of `images`, matched by `newName`, else by `name`. An entry without
/// `newTag` and `digest` has nothing to write a choice into and is still returned, with the name as
/// its only slot.
pub(super) fn reference(
    siblings: &Siblings<'_>,
    locator: impl FnOnce() -> String,
) -> Option<Reference> {
    let name = siblings.new_name.or(siblings.name)?;
    let repository = crate::image::Repository::new(super::siblings::value(name)?).ok()?;
    let scalar = |part, node: Option<crate::yaml::Node<'_>>| {
        node.filter(|node| node.value().is_some())
            .map(|node| Slot::new(part, node))
    };
    // A digest left empty is a place for one, not a pin.
    let digest = siblings
        .digest
        .filter(|node| node.value().is_some_and(|value| !value.is_empty()));
    let mut slots: Vec<Slot> = [
        scalar(Part::Tag, siblings.new_tag),
        scalar(Part::Digest, digest),
    ]
    .into_iter()
    .flatten()
    .collect();
    if slots.is_empty() {
        slots.extend(scalar(Part::Name, Some(name)));
    }
    if slots.is_empty() {
        return None;
    }
    Some(Reference {
        why: Why::Kustomize,
        repository: Some(repository),
        registry: None,
        slots,
        locator: locator(),
    })
}
