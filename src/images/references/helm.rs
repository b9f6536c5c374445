//! Helm values, and what is written like them: `repository` and `tag` side by side, with `registry`
//! and `digest`, or a whole reference under one key.

use super::{
    DigestPlace, Reference, ReferenceOrigin, ReferencePart, ReferenceSlot,
    siblings::{Siblings, value},
};
use crate::core::{
    image::{ImageRef, ImageRepository},
    yaml::Node,
};
use std::collections::HashMap;

/// Returns the reference in a mapping of Helm values. An empty tag, which means the chart's own
/// version, is returned as it is and left alone later with that reason.
pub(crate) fn reference(
    siblings: &Siblings<'_>,
    under_image: bool,
    locator: impl FnOnce() -> String,
) -> Option<Reference> {
    if let Some((node, image)) = siblings.repository.and_then(with_version) {
        return Some(whole(node, image, format!("{}.repository", locator())));
    }
    let has_name = siblings.name_node().is_some();
    let (repository, registry) = match has_name {
        true => siblings.repository(),
        // A `name` that is no repository is the name of something else.
        false => {
            let name = siblings.name.filter(|_| siblings.tag.is_some())?;
            (ImageRepository::new(value(name)?).ok(), None)
        }
    };
    let scalar = |part, node: Option<Node<'_>>| {
        node.filter(|node| node.value().is_some())
            .map(|node| ReferenceSlot::new(part, node))
    };
    let tag = scalar(ReferencePart::Tag, siblings.tag_node(under_image));
    let (digest, digest_place) = siblings.digest_slot(tag.is_some());
    let slots: Vec<ReferenceSlot> = tag.into_iter().chain(digest).collect();
    if slots.is_empty() {
        return None;
    }
    Some(Reference {
        why: ReferenceOrigin::Helm,
        repository: Some(repository?),
        registry,
        slots,
        digest_place,
        locator: locator(),
    })
}

/// Returns the reference in a scalar under a key of values that holds a whole one, such as `image:
/// repo:tag`; none if it has neither tag nor digest.
pub(crate) fn whole_reference(
    node: Node<'_>,
    locator: impl FnOnce() -> String,
) -> Option<Reference> {
    let (node, image) = with_version(node)?;
    Some(whole(node, image, locator()))
}

/// Returns the references in Argo CD's list of Helm parameters, where the repository of
/// `image.tag` is the parameter `image.repository`.
pub(crate) fn parameters<'t>(
    list: Node<'t>,
    mut locator: impl FnMut(usize, Node<'t>) -> String,
) -> Vec<(Node<'t>, Reference)> {
    let named = |item: Node<'t>| Some((item.get("name")?.value()?, item.get("value")?));
    let values: HashMap<&str, Node<'t>> = list.items().filter_map(named).collect();
    let mut all = Vec::new();
    for (index, item) in list.items().enumerate() {
        let Some((name, tag)) = named(item).filter(|(_, tag)| tag.value().is_some()) else {
            continue;
        };
        let Some(prefix) = name.strip_suffix("tag") else {
            continue;
        };
        let of = |key: &str| values.get(format!("{prefix}{key}").as_str()).copied();
        let Some(repository) = of("repository").and_then(value) else {
            continue;
        };
        let registry = of("registry")
            .and_then(value)
            .filter(|registry| !registry.is_empty());
        let text = match registry {
            Some(registry) => format!("{registry}/{repository}"),
            None => repository.to_owned(),
        };
        if let Ok(repository) = ImageRepository::new(&text) {
            let reference = Reference {
                why: ReferenceOrigin::Helm,
                repository: Some(repository),
                registry: registry.map(str::to_owned),
                slots: vec![ReferenceSlot::new(ReferencePart::Tag, tag)],
                digest_place: DigestPlace::BehindTag,
                locator: locator(index, item),
            };
            all.push((tag, reference));
        }
    }
    all
}

/// The scalar with the reference in it, if that has a tag or a digest.
fn with_version(node: Node<'_>) -> Option<(Node<'_>, ImageRef)> {
    let image = ImageRef::new(node.value()?).ok()?;
    (image.tag.is_some() || image.digest.is_some()).then_some((node, image))
}

fn whole(node: Node<'_>, image: ImageRef, locator: String) -> Reference {
    Reference {
        why: ReferenceOrigin::Helm,
        repository: Some(image.repository),
        registry: None,
        slots: vec![ReferenceSlot::new(ReferencePart::Whole, node)],
        digest_place: DigestPlace::None,
        locator,
    }
}
