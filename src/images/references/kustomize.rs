//! The `images` of kustomizations: of kustomize itself and of Flux's Kustomization.

use super::{
    DigestPlace, Reference, ReferenceOrigin, ReferencePart, ReferenceSlot, siblings::Siblings,
};

/// The reference in a text of Argo CD's `kustomize.images`, `repo:tag` or `name=repo:tag`.
pub(crate) fn image_text(
    node: crate::core::yaml::Node<'_>,
    locator: impl FnOnce() -> String,
) -> Option<Reference> {
    let text = node.value()?;
    let image = text.split_once('=').map_or(text, |(_, image)| image);
    let image = crate::core::image::ImageRef::new(image).ok()?;
    (image.tag.is_some() || image.digest.is_some()).then(|| Reference {
        why: ReferenceOrigin::Kustomize,
        repository: Some(image.repository),
        registry: None,
        slots: vec![ReferenceSlot::new(ReferencePart::Whole, node)],
        digest_place: DigestPlace::None,
        locator: locator(),
    })
}

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
    let tag = scalar(ReferencePart::Tag, siblings.new_tag);
    let (digest, digest_place) = siblings.digest_slot(tag.is_some());
    let mut slots: Vec<ReferenceSlot> = tag.into_iter().chain(digest).collect();
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
        digest_place,
        locator: locator(),
    })
}
