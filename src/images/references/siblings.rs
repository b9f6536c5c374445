//! The keys of one mapping that say something about an image, collected in one look.

use super::{DigestPlace, Note, NoteKind, ReferencePart, ReferenceSlot};
use crate::core::{
    image::ImageRepository,
    yaml::{Node, NodeKind},
};

/// The scalar and alias values of one mapping; of doubled keys the first.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Siblings<'t> {
    pub image: Option<Node<'t>>,
    pub registry: Option<Node<'t>>,
    pub repository: Option<Node<'t>>,
    pub tag: Option<Node<'t>>,
    pub version: Option<Node<'t>>,
    pub digest: Option<Node<'t>>,
    pub name: Option<Node<'t>>,
    pub new_name: Option<Node<'t>>,
    pub new_tag: Option<Node<'t>>,
    pub image_repository: Option<Node<'t>>,
    pub image_tag: Option<Node<'t>>,
    /// `imageName` of CloudNativePG.
    pub image_name: Option<Node<'t>>,
    /// `reference` of an image volume.
    pub reference: Option<Node<'t>>,
    /// `path` and `value` of a JSON patch.
    pub path: Option<Node<'t>>,
    pub value: Option<Node<'t>>,
    pub api_version: Option<Node<'t>>,
    pub kind: Option<Node<'t>>,
    /// A key of these that is written a second time: which of the two counts differs from reader to
    /// reader.
    pub doubled: Option<Node<'t>>,
    /// True if a key is about an image by itself, as `name`, `kind` and `value` are not.
    pub about_image: bool,
}

impl<'t> Siblings<'t> {
    pub(super) fn of(mapping: Node<'t>) -> Self {
        let mut all = Self::default();
        let mut merged = None;
        for (key, value) in mapping.entries() {
            let Some(name) = key.value() else { continue };
            if name == "<<" {
                merged = merged.or(value.target());
                continue;
            }
            let place = match name {
                "image" => &mut all.image,
                "registry" => &mut all.registry,
                "repository" => &mut all.repository,
                "tag" => &mut all.tag,
                "version" => &mut all.version,
                "digest" => &mut all.digest,
                "name" => &mut all.name,
                "newName" => &mut all.new_name,
                "newTag" => &mut all.new_tag,
                "imageRepository" => &mut all.image_repository,
                "imageTag" => &mut all.image_tag,
                "imageName" => &mut all.image_name,
                "reference" => &mut all.reference,
                "path" => &mut all.path,
                "value" => &mut all.value,
                "apiVersion" => &mut all.api_version,
                "kind" => &mut all.kind,
                _ => continue,
            };
            // A null tag or digest is a place to write one; a null name is no name.
            let is_place = matches!(name, "tag" | "version" | "digest" | "newTag" | "imageTag");
            all.about_image |= !matches!(name, "name" | "value" | "apiVersion" | "kind");
            match (&place, value.kind()) {
                (Some(_), _) => all.doubled = all.doubled.or(Some(key)),
                (None, _) if value.is_null() && !is_place => {}
                (None, NodeKind::Scalar(_) | NodeKind::Alias) => *place = Some(value),
                (None, _) => {}
            }
        }
        if let Some(merged) = merged {
            all.inherit(merged);
        }
        all
    }

    /// Takes over from a merge key (`<<: *name`) where the repository is; the other values of the
    /// merged mapping belong to the place they are written in.
    fn inherit(&mut self, merged: Node<'t>) {
        for (key, value) in merged.entries() {
            let place = match key.value() {
                Some("registry") => &mut self.registry,
                Some("repository") => &mut self.repository,
                Some("imageRepository") => &mut self.image_repository,
                _ => continue,
            };
            if place.is_none() && value.value().is_some() && !value.is_null() {
                *place = Some(value);
            }
        }
    }

    /// Returns whether keys of Helm values name an image here.
    pub(super) fn names_image(&self) -> bool {
        !self.is_kustomize()
            && (self.name_node().is_some() || self.name.is_some() && self.tag.is_some())
    }

    /// Returns the value that a JSON patch writes into an image field.
    pub(super) fn patched_image(&self) -> Option<Node<'t>> {
        let path = self.path?.value()?;
        self.value.filter(|_| path.ends_with("/image"))
    }

    /// Returns whether this is an entry of a kustomization's `images`.
    pub(super) fn is_kustomize(&self) -> bool {
        self.new_tag.is_some() || self.new_name.is_some()
    }

    /// Returns the scalar that names the repository of the tag beside it.
    pub(super) fn name_node(&self) -> Option<Node<'t>> {
        match self.is_kustomize() {
            true => self.new_name.or(self.name),
            false => self.repository.or(self.image_repository).or(self
                .image
                .filter(|_| self.tag.is_some() || self.digest.is_some())),
        }
    }

    /// The scalar of the tag; `version` counts beneath a key that ends in `image` only.
    pub(super) fn tag_node(&self, under_image: bool) -> Option<Node<'t>> {
        match self.is_kustomize() {
            true => self.new_tag,
            false => self
                .tag
                .or(self.image_tag)
                .or(self.version.filter(|_| under_image)),
        }
    }

    /// Returns the repository beside the tag, as far as it can be read, and the registry if it has
    /// a key of its own.
    pub(super) fn repository(&self) -> (Option<ImageRepository>, Option<String>) {
        let name = self.name_node().and_then(value);
        let registry = self
            .registry
            .filter(|_| self.repository.is_some())
            .and_then(value)
            .filter(|registry| !registry.is_empty());
        let repository = match (name, registry) {
            (Some(name), Some(registry)) => {
                ImageRepository::new(&format!("{registry}/{name}")).ok()
            }
            (Some(name), None) => ImageRepository::new(name).ok(),
            (None, _) => None,
        };
        (repository, registry.map(str::to_owned))
    }

    /// The scalar of the digest beside a tag, as a slot, and the place for a digest if there is
    /// none yet. An empty `digest:` counts beside a tag alone: without one, neither is set.
    pub(super) fn digest_slot(&self, has_tag: bool) -> (Option<ReferenceSlot>, DigestPlace) {
        let slot = self
            .digest
            .filter(|node| node.value().is_some())
            .map(|node| ReferenceSlot::new(ReferencePart::Digest, node));
        match slot {
            Some(slot) if !slot.value.is_empty() => (Some(slot), DigestPlace::None),
            _ if !has_tag => (None, DigestPlace::None),
            Some(slot) if !slot.span.is_empty() => (Some(slot), DigestPlace::EmptyKey),
            // The value of `digest:` is left out or elsewhere.
            Some(_) => (None, DigestPlace::BehindTag),
            None if self.digest.is_some() => (None, DigestPlace::None),
            None => (None, DigestPlace::BehindTag),
        }
    }

    /// The part that the scalar `node` plays in this mapping, if any.
    pub(super) fn part(&self, node: Node<'_>, under_image: bool) -> Option<ReferencePart> {
        let is = |other: Option<Node<'_>>| other.is_some_and(|other| other.id() == node.id());
        if is(self.tag_node(under_image)) {
            Some(ReferencePart::Tag)
        } else if is(self.digest) {
            Some(ReferencePart::Digest)
        } else if is(self.name_node()) {
            Some(ReferencePart::Name)
        } else {
            None
        }
    }

    /// The note about a key written twice.
    pub(super) fn doubled_note(&self) -> Option<Note> {
        self.doubled.map(|key| Note {
            kind: NoteKind::DoubledKey,
            line: key.line(),
            column: key.column(),
            message: format!(
                "the key {} is written twice here, so no image of this mapping is edited",
                crate::core::image::shown(key.value().unwrap_or_default())
            ),
        })
    }
}

/// Returns the text of a scalar, or of the scalar that an alias refers to; a null has none.
pub(crate) fn value(node: Node<'_>) -> Option<&str> {
    let node = node.target().unwrap_or(node);
    node.value().filter(|_| !node.is_null())
}
