//! The image references in a file: their present values, byte ranges, and why each was found.
//!
//! ```text
//! bytes ─Needles─▶ worth parsing? ─yaml─▶ tree ─walk─▶ Findings { references, notes }
//! ```
//!
//! [`find`] knows no policy: its result depends on the bytes and the [`FileKind`] alone, so it is
//! cached by blob ([`Findings::encode`]). One file for each reason to find one: `marker`,
//! `image_field`, `kustomize`, `helm`. What could have been a reference and is none becomes a
//! [`Note`], so that nothing is ignored silently.

mod bounds;
mod codec;
mod embedded;
mod file_kind;
mod helm;
mod image_field;
mod kustomize;
mod locator;
mod marker;
mod mentions;
mod needles;
mod siblings;
mod tag_text;
mod walk;
mod yaml_file;

pub use bounds::{MAX_FILE_REFERENCES, MAX_REPOSITORY_REFERENCES};
pub use codec::{DecodeError, VERSION};
pub use file_kind::FileKind;
pub use needles::Needles;
pub(crate) use tag_text::{is_tag, only_piece};
pub use yaml_file::YamlFile;

use crate::core::{
    image::{ImageRef, ImageRepository},
    name::Name,
    yaml::{Node, NodeStyle},
};
use std::{fmt, ops::Range};

/// The text that every marker contains.
pub const MARKER: &str = "$imagepolicy";

/// The result of [`find`] for one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// References in the order of the text.
    pub references: Vec<Reference>,
    /// Texts that look like a reference but are not treated as one, in the order of the text.
    pub notes: Vec<Note>,
}

impl Findings {
    /// Returns whether there is neither a reference nor a note.
    pub fn is_empty(&self) -> bool {
        self.references.is_empty() && self.notes.is_empty()
    }
}

/// One place of a file that names an image: one scalar (`image: repo:tag`) or a few that belong
/// together (`repository` and `tag`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub why: ReferenceOrigin,
    /// The repository, as far as it can be read, from the scalar itself or from the key beside it.
    pub repository: Option<ImageRepository>,
    /// The registry in a key of its own (`registry: docker.io`), which is then no part of the
    /// name's scalar.
    pub registry: Option<String>,
    /// The scalars that a choice is written into; never empty.
    pub slots: Vec<ReferenceSlot>,
    /// The place for a digest that the reference does not have yet.
    pub digest_place: DigestPlace,
    /// The place in the structure,
    /// `Deployment/apps/podinfo:spec.template.spec.containers[name=app].image`. Unique in a file,
    /// and equal in two versions of it whatever lines were added above.
    pub locator: String,
}

/// The reason why a reference was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReferenceOrigin {
    /// A marker comment, `# {"$imagepolicy": "ns:name"}`.
    Marker {
        policy: Name,
        /// Line of the comment, from 1.
        line: u32,
        /// Column of the comment in characters, from 1.
        column: u32,
    },
    /// `image:` in a Kubernetes object.
    ImageField,
    /// An entry of the `images` of a kustomization.
    Kustomize,
    /// `repository` and `tag` side by side in Helm values.
    Helm,
}

/// The place for the digest of a reference whose tag has a scalar of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum DigestPlace {
    /// There is none, or the digest stands there already.
    #[default]
    None,
    /// Behind the tag, `tag: edge@sha256:…`.
    BehindTag,
    /// An empty `digest:` beside the tag, which is one of the slots.
    EmptyKey,
}

/// A scalar that holds an image reference or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceSlot {
    pub part: ReferencePart,
    pub style: NodeStyle,
    /// The byte range in the file, quotes included.
    pub span: Range<usize>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// True if the scalar has an anchor, so that aliases elsewhere repeat it.
    pub anchored: bool,
    /// The present value, unquoted; empty for a YAML null.
    pub value: String,
}

/// The part of an image reference that a scalar contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ReferencePart {
    /// The whole reference, `repo:tag@digest`.
    Whole,
    /// The tag; also `tag@digest`.
    Tag,
    Name,
    Digest,
}

/// A text that looks like a reference but is not treated as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub kind: NoteKind,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The explanation for users; foreign text in it is escaped.
    pub message: String,
}

/// The kinds of [`Note`].
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum NoteKind {
    /// The file is not UTF-8.
    NotUtf8,
    /// The file is a pointer to large-file storage, not the file itself.
    LfsPointer,
    /// The file is encrypted by SOPS.
    Encrypted,
    /// The file is a template of a Helm chart, or another template that is no YAML.
    Template,
    /// The file is no YAML.
    Unparsable,
    /// A marker that cannot be read.
    BadMarker,
    /// A marker that belongs to no scalar.
    LostMarker,
    /// A comment that has other text beside a marker, so that it is none.
    MarkerInText,
    /// An alias at the place of a reference whose anchored value is not one.
    Alias,
    /// A key is written twice in one mapping.
    DoubledKey,
    /// A text that names a watched image outside of every place that is edited.
    Unmanaged,
    /// References or notes beyond a bound were left out.
    TooMany,
}

/// Finds the references of a file, as [`YamlFile::findings`] does.
pub fn find(kind: FileKind, source: &[u8]) -> Findings {
    YamlFile::new(kind, source).findings()
}

impl Reference {
    /// The scalar that holds `part`.
    pub fn slot(&self, part: ReferencePart) -> Option<&ReferenceSlot> {
        self.slots.iter().find(|slot| slot.part == part)
    }

    /// Line and column of the first scalar.
    pub fn line_column(&self) -> (u32, u32) {
        self.slots
            .first()
            .map_or((1, 1), |slot| (slot.line, slot.column))
    }

    /// Returns the present tag, read from the tag's own scalar or from the whole reference. It is
    /// text of the file and need not be a valid tag.
    pub fn tag(&self) -> Option<String> {
        if let Some(slot) = self.slot(ReferencePart::Tag) {
            return self.tag_in(slot).map(str::to_owned);
        }
        let image = ImageRef::new(&self.slot(ReferencePart::Whole)?.value).ok()?;
        image.tag.map(|tag| tag.as_str().to_owned())
    }

    /// Returns the tag in the scalar of a tag. A marked scalar may have other text around it.
    pub(crate) fn tag_in<'s>(&self, slot: &'s ReferenceSlot) -> Option<&'s str> {
        if self.policy().is_some() {
            return tag_text::range(&slot.value).map(|range| &slot.value[range]);
        }
        let value = slot.value.trim();
        let tag = value.split_once('@').map_or(value, |(tag, _)| tag);
        Some(tag).filter(|tag| !tag.is_empty())
    }

    /// The digest that stands there now, valid or not; an empty scalar is none.
    pub fn digest(&self) -> Option<String> {
        if let Some(slot) = self.slot(ReferencePart::Digest) {
            return Some(slot.value.clone()).filter(|value| !value.is_empty());
        }
        if let Some(slot) = self.slot(ReferencePart::Whole) {
            let digest = ImageRef::new(&slot.value).ok()?.digest?;
            return Some(digest.as_str().to_owned());
        }
        let (_, digest) = self.slot(ReferencePart::Tag)?.value.split_once('@')?;
        Some(digest.to_owned())
    }

    /// The policy that a marker names.
    pub fn policy(&self) -> Option<&Name> {
        match &self.why {
            ReferenceOrigin::Marker { policy, .. } => Some(policy),
            _ => None,
        }
    }
}

impl ReferenceSlot {
    fn new(part: ReferencePart, node: Node<'_>) -> Self {
        Self {
            part,
            style: node.style().unwrap_or(NodeStyle::Plain),
            span: node.span(),
            line: node.line(),
            column: node.column(),
            anchored: node.anchored(),
            value: node
                .value()
                .filter(|_| !node.is_null())
                .unwrap_or_default()
                .to_owned(),
        }
    }
}

impl ReferenceOrigin {
    /// The word for it in logs and JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            ReferenceOrigin::Marker { .. } => "marker",
            ReferenceOrigin::ImageField => "image",
            ReferenceOrigin::Kustomize => "kustomize",
            ReferenceOrigin::Helm => "helm",
        }
    }
}

impl ReferencePart {
    /// The word for it in markers and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            ReferencePart::Whole => "whole",
            ReferencePart::Tag => "tag",
            ReferencePart::Name => "name",
            ReferencePart::Digest => "digest",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

#[cfg(test)]
mod tests;
