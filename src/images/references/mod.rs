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

pub use codec::{DecodeError, VERSION};
pub use file_kind::FileKind;
pub use mentions::{add as add_mentions, find_watched};
pub use needles::Needles;
pub(crate) use tag_text::{is_tag, only_piece};

use crate::core::{
    image::{ImageRef, ImageRepository},
    name::Name,
    yaml::{self, Node, NodeStyle},
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
}

/// Finds the references of a file. Never fails: what cannot be read is a [`Note`].
///
/// The result depends on `kind` and `source` alone. Time is linear in the length of `source`.
pub fn find(kind: FileKind, source: &[u8]) -> Findings {
    let whole = |kind, (line, column), message: String| Findings {
        references: vec![],
        notes: vec![Note {
            kind,
            line,
            column,
            message,
        }],
    };
    if kind == FileKind::NotYaml {
        return Findings::default();
    }
    let text = match std::str::from_utf8(source) {
        Ok(text) => text,
        Err(error) => {
            let good = std::str::from_utf8(&source[..error.valid_up_to()]).unwrap_or_default();
            return whole(
                NoteKind::NotUtf8,
                yaml::line_column(good, good.len()),
                "the file is not UTF-8".to_owned(),
            );
        }
    };
    if text.starts_with("version https://git-lfs.github.com/spec/") {
        return whole(
            NoteKind::LfsPointer,
            (1, 1),
            "the file is a pointer to large-file storage".to_owned(),
        );
    }
    if kind == FileKind::ChartTemplate {
        let place = yaml::line_column(text, text.find(MARKER).unwrap_or(0));
        return whole(
            NoteKind::Template,
            place,
            "a template of a chart is not edited: mark the chart's values instead".to_owned(),
        );
    }
    let stream = match yaml::parse(text) {
        Ok(stream) => stream,
        // Other formats have this ending, too: with comments, a value on each line.
        Err(_) if kind == FileKind::Json => return Findings::default(),
        Err(error) if text.contains("{{") => {
            return whole(
                NoteKind::Template,
                (error.line, error.column),
                format!(
                    "a template that is no YAML is not edited ({})",
                    error.message
                ),
            );
        }
        Err(error) => {
            return whole(
                NoteKind::Unparsable,
                (error.line, error.column),
                error.message,
            );
        }
    };
    if let Some(place) = encrypted(&stream) {
        return whole(
            NoteKind::Encrypted,
            place,
            "the file is encrypted by SOPS".to_owned(),
        );
    }
    walk::walk(kind, &stream)
}

/// Returns where a file shows that SOPS encrypted it: a `sops` key at the top of a document, or a
/// value in its form. Either suffices, since any edit breaks the file's MAC.
fn encrypted(stream: &yaml::YamlStream<'_>) -> Option<(u32, u32)> {
    let source = stream.source().as_bytes();
    if memchr::memmem::find(source, b"sops").is_some() {
        let key = stream
            .documents()
            .flatten()
            .find_map(|root| root.entry("sops").filter(|(_, value)| value.is_mapping()));
        if let Some((key, _)) = key {
            return Some((key.line(), key.column()));
        }
    }
    memchr::memmem::find(source, b"ENC[")?;
    let node = stream
        .nodes()
        .find(|node| node.value().is_some_and(|value| value.starts_with("ENC[")))?;
    Some((node.line(), node.column()))
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
