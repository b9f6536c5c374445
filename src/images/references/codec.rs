//! [`Findings`] as bytes for the cache: numbers as LEB128, texts with their length in front.

use super::{
    DigestPlace, Findings, Note, NoteKind, Reference, ReferenceOrigin, ReferencePart, ReferenceSlot,
};
use crate::core::{image::ImageRepository, name::Name, yaml::NodeStyle};

/// The first byte of the encoding. It changes with the encoding and with what [`super::find`]
/// finds, so that a cache filled by an older version counts as empty.
pub const VERSION: u8 = 3;

/// Bytes that are no findings of this version: look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cached references are of another version or damaged")]
pub struct DecodeError;

impl Findings {
    /// The compact form that [`Findings::decode`] reads.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        number(&mut out, self.references.len());
        for reference in &self.references {
            out.push(match &reference.why {
                ReferenceOrigin::Marker { .. } => 0,
                ReferenceOrigin::ImageField => 1,
                ReferenceOrigin::Kustomize => 2,
                ReferenceOrigin::Helm => 3,
            });
            if let ReferenceOrigin::Marker {
                policy,
                line,
                column,
            } = &reference.why
            {
                text(&mut out, policy.namespace());
                text(&mut out, policy.name());
                number(&mut out, *line as usize);
                number(&mut out, *column as usize);
            }
            text(
                &mut out,
                reference
                    .repository
                    .as_ref()
                    .map_or("", ImageRepository::as_str),
            );
            text(&mut out, reference.registry.as_deref().unwrap_or_default());
            text(&mut out, &reference.locator);
            out.push(reference.digest_place as u8);
            number(&mut out, reference.slots.len());
            for slot in &reference.slots {
                out.extend([slot.part as u8, slot.style as u8, u8::from(slot.anchored)]);
                for value in [
                    slot.span.start,
                    slot.span.len(),
                    slot.line as usize,
                    slot.column as usize,
                ] {
                    number(&mut out, value);
                }
                text(&mut out, &slot.value);
            }
        }
        number(&mut out, self.notes.len());
        for note in &self.notes {
            out.push(note.kind as u8);
            number(&mut out, note.line as usize);
            number(&mut out, note.column as usize);
            text(&mut out, &note.message);
        }
        out
    }

    /// Reads [`Findings::encode`] back.
    ///
    /// # Errors
    /// If the bytes are of another version, cut or damaged. Never panics, and never allocates more
    /// than the bytes can hold.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = CodecReader(bytes);
        if input.byte()? != VERSION {
            return Err(DecodeError);
        }
        let references = (0..input.number()?)
            .map(|_| input.reference())
            .collect::<Result<_, _>>()?;
        let notes = (0..input.number()?)
            .map(|_| input.note())
            .collect::<Result<_, _>>()?;
        if input.0.is_empty() {
            Ok(Self { references, notes })
        } else {
            Err(DecodeError)
        }
    }
}

fn number(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn text(out: &mut Vec<u8>, text: &str) {
    number(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

struct CodecReader<'b>(&'b [u8]);

impl CodecReader<'_> {
    fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.0.split_first().ok_or(DecodeError)?;
        self.0 = rest;
        Ok(first)
    }

    fn number(&mut self) -> Result<usize, DecodeError> {
        let mut value = 0u64;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return usize::try_from(value).map_err(|_| DecodeError);
            }
        }
        Err(DecodeError)
    }

    fn small(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.number()?).map_err(|_| DecodeError)
    }

    fn text(&mut self) -> Result<&str, DecodeError> {
        let length = self.number()?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(DecodeError)?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| DecodeError)
    }

    fn reference(&mut self) -> Result<Reference, DecodeError> {
        let why = match self.byte()? {
            0 => {
                let namespace = self.text()?.to_owned();
                let policy = Name::new(&namespace, self.text()?).map_err(|_| DecodeError)?;
                ReferenceOrigin::Marker {
                    policy,
                    line: self.small()?,
                    column: self.small()?,
                }
            }
            1 => ReferenceOrigin::ImageField,
            2 => ReferenceOrigin::Kustomize,
            3 => ReferenceOrigin::Helm,
            _ => return Err(DecodeError),
        };
        let repository = match self.text()? {
            "" => None,
            text => Some(ImageRepository::new(text).map_err(|_| DecodeError)?),
        };
        let registry = Some(self.text()?.to_owned()).filter(|text| !text.is_empty());
        let locator = self.text()?.to_owned();
        let digest_place = one_of(
            &[
                DigestPlace::None,
                DigestPlace::BehindTag,
                DigestPlace::EmptyKey,
            ],
            self.byte()?,
        )?;
        let slots = (0..self.number()?)
            .map(|_| self.slot())
            .collect::<Result<Vec<_>, _>>()?;
        if slots.is_empty() {
            Err(DecodeError)
        } else {
            Ok(Reference {
                why,
                repository,
                registry,
                slots,
                digest_place,
                locator,
            })
        }
    }

    fn slot(&mut self) -> Result<ReferenceSlot, DecodeError> {
        let part = one_of(
            &[
                ReferencePart::Whole,
                ReferencePart::Tag,
                ReferencePart::Name,
                ReferencePart::Digest,
            ],
            self.byte()?,
        )?;
        let style = one_of(
            &[
                NodeStyle::Plain,
                NodeStyle::SingleQuoted,
                NodeStyle::DoubleQuoted,
                NodeStyle::Literal,
                NodeStyle::Folded,
            ],
            self.byte()?,
        )?;
        let anchored = self.byte()? != 0;
        let start = self.number()?;
        let end = start.checked_add(self.number()?).ok_or(DecodeError)?;
        let (line, column) = (self.small()?, self.small()?);
        Ok(ReferenceSlot {
            part,
            style,
            span: start..end,
            line,
            column,
            anchored,
            value: self.text()?.to_owned(),
        })
    }

    fn note(&mut self) -> Result<Note, DecodeError> {
        use NoteKind::{
            Alias, BadMarker, DoubledKey, Encrypted, LfsPointer, LostMarker, MarkerInText, NotUtf8,
            Template, TooMany, Unmanaged, Unparsable,
        };
        let kinds = [
            NotUtf8,
            LfsPointer,
            Encrypted,
            Template,
            Unparsable,
            BadMarker,
            LostMarker,
            MarkerInText,
            Alias,
            DoubledKey,
            Unmanaged,
            TooMany,
        ];
        let kind = one_of(&kinds, self.byte()?)?;
        Ok(Note {
            kind,
            line: self.small()?,
            column: self.small()?,
            message: self.text()?.to_owned(),
        })
    }
}

fn one_of<T: Copy>(all: &[T], index: u8) -> Result<T, DecodeError> {
    all.get(usize::from(index)).copied().ok_or(DecodeError)
}
