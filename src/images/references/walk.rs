//! The walk over a file's trees, which asks each kind of reference at each mapping.

use super::{
    DigestPlace, FileKind, Findings, Note, NoteKind, Reference, ReferenceOrigin, ReferencePart,
    ReferenceSlot, embedded, helm, image_field, kustomize, locator, marker, siblings::Siblings,
};
use crate::core::{
    image::ImageRef,
    yaml::{Node, YamlStream},
};
use std::collections::{HashMap, HashSet};

/// Finds everything in a parsed file.
pub(crate) fn walk(kind: FileKind, stream: &YamlStream<'_>) -> Findings {
    let (markers, notes) = marker::attach(stream);
    let mut walk = ReferenceWalker {
        kind,
        markers,
        found: Findings {
            references: vec![],
            notes,
        },
        path: locator::NodePath::default(),
        aliases: vec![],
    };
    for (index, root) in stream.documents().enumerate() {
        if let Some(root) = root {
            walk.path = locator::NodePath::at_root(index, root);
            walk.root(root);
        }
    }
    walk.finish()
}

/// The context of the current node.
#[derive(Debug, Clone, Copy, Default)]
struct Position {
    /// The mapping is the top of a document, or an item of a list at the top.
    top: bool,
    /// Inside a Kubernetes object, where an `image:` counts.
    object: bool,
    /// The same without Flux's own kinds, where `repository` beside `tag` counts.
    custom: bool,
    /// True inside Helm values, where `repository` beside `tag` counts.
    values: bool,
    /// At the top or in the `spec` of something with `images` as kustomize has them.
    kustomizes: bool,
    /// An entry of these `images`.
    entry: bool,
    /// True inside the `spec` of an object.
    spec: bool,
    /// Beneath a key that ends in `image`.
    under_image: bool,
    /// The mapping under Argo CD's `helm`.
    argo_helm: bool,
    /// The list under Argo CD's `helm.parameters`.
    parameters: bool,
    /// The mapping under Argo CD's `kustomize`.
    argo_kustomize: bool,
    /// The list under Argo CD's `kustomize.images`, or an item of it.
    image_texts: bool,
    /// Beneath the patches of a kustomization.
    patches: bool,
    /// Beneath `helmCharts` of a kustomization.
    chart: bool,
}

/// Returns whether the `image` of values has its tag in a key of its own.
fn is_split(siblings: &Siblings<'_>, place: Position) -> bool {
    place.values
        && (siblings.tag.is_some() || siblings.digest.is_some())
        && siblings
            .image
            .and_then(Node::value)
            .and_then(|image| ImageRef::new(image).ok())
            .is_some_and(|image| image.tag.is_none() && image.digest.is_none())
}

struct ReferenceWalker<'t> {
    kind: FileKind,
    markers: HashMap<u32, marker::Marker>,
    found: Findings,
    path: locator::NodePath<'t>,
    /// Aliases at places of references, with the scalar that each refers to.
    aliases: Vec<(Node<'t>, u32)>,
}

impl<'t> ReferenceWalker<'t> {
    fn root(&mut self, root: Node<'t>) {
        let top = Position {
            top: true,
            ..Position::default()
        };
        if root.is_mapping() {
            return self.mapping(root, top);
        }
        // A list at the top holds objects (or patches, or anything).
        for (index, item) in root.items().enumerate() {
            self.path.enter_item(index, item);
            self.node(
                item,
                Position {
                    object: false,
                    ..top
                },
            );
            self.path.back();
        }
        self.alone(root);
    }

    fn node(&mut self, node: Node<'t>, place: Position) {
        if node.is_mapping() {
            self.mapping(node, place);
        } else if node.is_sequence() {
            if place.parameters {
                self.parameters(node);
            }
            for (index, item) in node.items().enumerate() {
                self.path.enter_item(index, item);
                self.node(
                    item,
                    Position {
                        top: false,
                        ..place
                    },
                );
                self.path.back();
            }
        } else {
            if place.image_texts && !self.markers.contains_key(&node.id()) {
                let reference = kustomize::image_text(node, || self.path.locator());
                self.found.references.extend(reference);
            }
            if place.patches {
                self.embedded(node);
            }
            self.alone(node);
        }
    }

    /// The references of Argo CD's Helm parameters, but marked ones.
    fn parameters(&mut self, list: Node<'t>) {
        let path = &mut self.path;
        let found = helm::parameters(list, |index, item| {
            path.enter_item(index, item);
            let locator = path.locator();
            path.back();
            locator
        });
        let markers = &self.markers;
        let unmarked = found
            .into_iter()
            .filter(|(tag, _)| !markers.contains_key(&tag.id()));
        self.found
            .references
            .extend(unmarked.map(|(_, reference)| reference));
    }

    /// The references in the YAML of a block scalar.
    fn embedded(&mut self, node: Node<'t>) {
        let inner = |stream: &YamlStream<'_>| walk(FileKind::Yaml, stream);
        let found = embedded::references(node, &self.path.locator(), inner);
        self.found.references.extend(found);
    }

    fn mapping(&mut self, mapping: Node<'t>, mut place: Position) {
        let siblings = Siblings::of(mapping);
        let is_object = siblings.api_version.is_some() && siblings.kind.is_some();
        let group = siblings
            .api_version
            .and_then(Node::value)
            .and_then(|version| version.split_once('/'))
            .map_or("", |(group, _)| group);
        let kustomization = place.top
            && (self.kind == FileKind::Kustomization || group == "kustomize.config.k8s.io");
        // The `image` of a policy says what to watch and runs nothing.
        let is_policy = matches!(group, "tagboat.dev" | "image.toolkit.fluxcd.io");
        if kustomization {
            place = Position {
                kustomizes: true,
                ..Position::default()
            };
        } else if is_object {
            place = Position {
                object: !is_policy,
                custom: !is_policy && !group.ends_with("toolkit.fluxcd.io"),
                under_image: place.under_image,
                ..Position::default()
            };
        } else if place.top {
            place = Position {
                values: true,
                ..Position::default()
            };
        }
        // Most mappings of most files say nothing about an image.
        if siblings.about_image || place.entry || !self.markers.is_empty() {
            self.here(mapping, &siblings, place);
        }
        for (key, value) in mapping.entries() {
            let name = key.value().unwrap_or_default();
            if !value.is_mapping() && !value.is_sequence() {
                if place.patches && name == "patch" || place.argo_helm && name == "values" {
                    self.path.enter_key(key);
                    self.embedded(value);
                    self.path.back();
                }
                continue;
            }
            let mut inner = Position {
                top: false,
                entry: false,
                spec: false,
                kustomizes: false,
                argo_helm: false,
                argo_kustomize: false,
                ..place
            };
            inner.under_image = name.len() >= 5
                && name.is_char_boundary(name.len() - 5)
                && name[name.len() - 5..].eq_ignore_ascii_case("image");
            match name {
                "metadata" | "data" | "stringData" | "binaryData" | "status" if is_object => {
                    inner.object = false
                }
                "spec" if is_object => (inner.spec, inner.kustomizes) = (true, true),
                "values" if place.spec => inner.values = true,
                "valuesInline" if place.chart => inner.values = true,
                "helmCharts" if place.kustomizes => inner.chart = true,
                "patches" | "patchesStrategicMerge" | "patchesJson6902" if place.kustomizes => {
                    inner.patches = true;
                }
                "helm" if place.object => inner.argo_helm = true,
                "valuesObject" if place.argo_helm => inner.values = true,
                "parameters" if place.argo_helm => inner.parameters = true,
                "kustomize" if place.object => inner.argo_kustomize = true,
                "images" if place.argo_kustomize => inner.image_texts = true,
                "images" if place.kustomizes && value.is_sequence() => inner.entry = true,
                _ => {}
            }
            self.path.enter_key(key);
            self.node(value, inner);
            self.path.back();
        }
    }

    /// The references made of the scalars of one mapping.
    fn here(&mut self, mapping: Node<'t>, siblings: &Siblings<'t>, place: Position) {
        let marked: Vec<(Node<'t>, Node<'t>)> = match self.markers.is_empty() {
            true => vec![],
            false => mapping
                .entries()
                .filter(|(_, value)| self.markers.contains_key(&value.id()))
                .collect(),
        };
        let is_entry = place.entry && (siblings.is_kustomize() || siblings.digest.is_some());
        let has_image = place.object && siblings.image.is_some() && !is_split(siblings, place);
        let has_helm = place.values && siblings.names_image()
            || place.custom && siblings.repository.is_some() && siblings.tag.is_some();
        if let Some(note) = siblings
            .doubled_note()
            .filter(|_| is_entry || has_image || has_helm || !marked.is_empty())
        {
            self.found.notes.push(note);
            return;
        }
        let parts_marked = marked
            .iter()
            .any(|(_, node)| siblings.part(*node, place.under_image).is_some());
        let mut automatic = vec![];
        if (is_entry || place.entry && siblings.name.is_some()) && !parts_marked {
            automatic.extend(kustomize::reference(siblings, || self.path.locator()));
        } else if has_helm && !parts_marked {
            automatic.extend(helm::reference(siblings, place.under_image, || {
                self.path.locator()
            }));
        }
        if has_image
            && !siblings
                .image
                .is_some_and(|node| self.markers.contains_key(&node.id()))
        {
            automatic.extend(image_field::reference(siblings, || self.path.locator()));
        }
        let texts = [
            siblings
                .image
                .filter(|_| place.values && !has_image)
                .map(|node| (node, "image")),
            siblings
                .image_name
                .filter(|_| place.object)
                .map(|node| (node, "imageName")),
            siblings
                .reference
                .filter(|_| place.object && place.under_image)
                .map(|node| (node, "reference")),
            siblings.patched_image().map(|node| (node, "value")),
        ];
        for (node, key) in texts.into_iter().flatten() {
            if !self.markers.contains_key(&node.id()) {
                let locator = || format!("{}.{key}", self.path.locator());
                automatic.extend(helm::whole_reference(node, locator));
            }
        }
        for alias in [
            siblings.image.filter(|_| has_image),
            siblings.new_tag.filter(|_| is_entry),
            siblings.tag.filter(|_| has_helm),
        ] {
            if let Some((alias, target)) = alias.and_then(|alias| Some((alias, alias.target()?))) {
                self.aliases.push((alias, target.id()));
            }
        }
        self.found.references.extend(automatic);
        self.marked(siblings, place.under_image, &marked);
    }

    /// The marked scalars of one mapping. Those of one policy that are parts of one image make one
    /// reference, so that tag, name and digest change together or not at all.
    fn marked(
        &mut self,
        siblings: &Siblings<'t>,
        under_image: bool,
        marked: &[(Node<'t>, Node<'t>)],
    ) {
        if marked.is_empty() {
            return;
        }
        let (repository, registry) = siblings.repository();
        let first = self.found.references.len();
        for &(key, node) in marked {
            let Some(marker) = self.markers.remove(&node.id()) else {
                continue;
            };
            let shared =
                siblings.part(node, under_image).is_some() && marker.part != ReferencePart::Whole;
            let slot = ReferenceSlot::new(marker.part, node);
            // At most three scalars of a mapping are parts of its image, so this looks at few
            // references.
            let mut parts = self.found.references[first..].iter_mut().take(3);
            if let Some(reference) = parts.find(|reference| {
                shared
                    && reference.policy() == Some(&marker.policy)
                    && reference.slot(ReferencePart::Whole).is_none()
                    && reference.slot(marker.part).is_none()
            }) {
                // A marked digest is asked for, whatever the policy pins.
                if slot.part == ReferencePart::Digest {
                    reference.digest_place = DigestPlace::None;
                }
                reference.slots.push(slot);
                continue;
            }
            self.path.enter_key(key);
            let locator = self.path.locator();
            self.path.back();
            let (repository, registry) = match marker.part {
                ReferencePart::Whole => (
                    ImageRef::new(&slot.value)
                        .ok()
                        .map(|image| image.repository),
                    None,
                ),
                _ => (repository.clone(), registry.clone()),
            };
            let why = ReferenceOrigin::Marker {
                policy: marker.policy,
                line: marker.line,
                column: marker.column,
            };
            let mut slots = vec![slot];
            // Keeping the digest beside a marked tag would pin the old image under the new tag.
            let digest_is_marked = siblings
                .digest
                .is_some_and(|digest| marked.iter().any(|(_, other)| other.id() == digest.id()));
            let mut digest_place = DigestPlace::None;
            if marker.part == ReferencePart::Tag && shared && !digest_is_marked {
                let (digest, place) = siblings.digest_slot(true);
                slots.extend(digest);
                digest_place = place;
            }
            self.found.references.push(Reference {
                why,
                repository,
                registry,
                slots,
                digest_place,
                locator,
            });
        }
    }

    /// Handles a marked scalar outside any mapping.
    fn alone(&mut self, node: Node<'t>) {
        let Some(marker) = self.markers.remove(&node.id()) else {
            return;
        };
        let slot = ReferenceSlot::new(marker.part, node);
        let repository = match marker.part {
            ReferencePart::Whole => ImageRef::new(&slot.value)
                .ok()
                .map(|image| image.repository),
            _ => None,
        };
        let why = ReferenceOrigin::Marker {
            policy: marker.policy,
            line: marker.line,
            column: marker.column,
        };
        self.found.references.push(Reference {
            why,
            repository,
            registry: None,
            slots: vec![slot],
            digest_place: DigestPlace::None,
            locator: self.path.locator(),
        });
    }

    fn finish(mut self) -> Findings {
        if !self.aliases.is_empty() {
            let edited: HashSet<usize> = self
                .found
                .references
                .iter()
                .flat_map(|reference| &reference.slots)
                .map(|slot| slot.span.start)
                .collect();
            for (alias, target) in std::mem::take(&mut self.aliases) {
                let Some(target) = alias
                    .target()
                    .filter(|node| node.id() == target && !edited.contains(&node.span().start))
                else {
                    continue;
                };
                self.found.notes.push(Note {
                    kind: NoteKind::Alias,
                    line: alias.line(),
                    column: alias.column(),
                    message: format!(
                        "an alias is never edited, and the value it repeats (line {}) is no reference: mark that value",
                        target.line()
                    ),
                });
            }
        }
        for reference in &mut self.found.references {
            reference.slots.sort_by_key(|slot| slot.part);
        }
        self.found
            .references
            .sort_by_key(|reference| reference.slots.iter().map(|slot| slot.span.start).min());
        self.found
            .notes
            .sort_by_key(|note| (note.line, note.column));
        locator::number(&mut self.found.references);
        self.found
    }
}
