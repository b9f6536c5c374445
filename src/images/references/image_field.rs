//! `image:` in Kubernetes objects: containers, and custom resources of any kind.

use super::{
    DigestPlace, Reference, ReferenceOrigin, ReferencePart, ReferenceSlot, siblings::Siblings,
};
use crate::core::image::{ImageRef, ImageRepository};

/// Returns the reference in the `image` field of a mapping inside a Kubernetes object. Invalid text
/// that begins with a repository (`ghcr.io/a/b:${TAG}`) counts too, so that it is reported as left
/// alone.
pub(crate) fn reference(
    siblings: &Siblings<'_>,
    locator: impl FnOnce() -> String,
) -> Option<Reference> {
    let node = siblings.image?;
    let value = node.value().filter(|value| !value.is_empty())?;
    let repository = match ImageRef::new(value) {
        Ok(image) => image.repository,
        Err(_) => {
            let after_host = value.rfind('/').map_or(0, |slash| slash + 1);
            let end = value[after_host..]
                .find([':', '@'])
                .map_or(value.len(), |at| after_host + at);
            ImageRepository::new(&value[..end]).ok()?
        }
    };
    let slots = vec![ReferenceSlot::new(ReferencePart::Whole, node)];
    Some(Reference {
        why: ReferenceOrigin::ImageField,
        repository: Some(repository),
        registry: None,
        slots,
        digest_place: DigestPlace::None,
        locator: format!("{}.image", locator()),
    })
}
