//! A short hash of each live leaf, to tell which leaves have changed since the last apply.
//!
//! The hash of all leaves together decides whether an object has drifted. These only say where, so
//! that a collision names one field too few.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde_json::Value;
use std::{fmt, sync::Arc};

/// The hashes of an object's leaves, in the order of the manifest. A clone costs nothing.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct LeafHashes(Option<Arc<[u16]>>);

/// The hash of a leaf that is absent.
const ABSENT: u16 = 0;

impl LeafHashes {
    pub(super) fn new(leaves: Vec<u16>) -> Self {
        Self((!leaves.is_empty()).then(|| leaves.into()))
    }

    fn leaves(&self) -> &[u16] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Returns whether nothing is known, as from a record without them.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns whether a leaf has another value than in `before`; `None` if that is not known.
    pub fn differs(&self, before: &Self, index: usize) -> Option<bool> {
        let (now, then) = (self.leaves(), before.leaves());
        (now.len() == then.len()).then_some(())?;
        Some(now.get(index)? != then.get(index)?)
    }

    /// Returns how many leaves have another value than in `before`; `None` if that is not known.
    pub fn count_differing(&self, before: &Self) -> Option<usize> {
        let (now, then) = (self.leaves(), before.leaves());
        let differing = || now.iter().zip(then).filter(|(now, then)| now != then);
        (now.len() == then.len()).then(|| differing().count())
    }

    /// Returns whether a leaf has a value; `None` stands for an absent leaf.
    pub fn is_value(&self, index: usize, value: Option<&Value>) -> bool {
        self.leaves().get(index) == Some(&leaf_hash(value))
    }
}

impl fmt::Debug for LeafHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.leaves()).finish()
    }
}

impl serde::Serialize for LeafHashes {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self
            .leaves()
            .iter()
            .flat_map(|leaf| leaf.to_le_bytes())
            .collect();
        to.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }
}

impl<'de> serde::Deserialize<'de> for LeafHashes {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = STANDARD_NO_PAD
            .decode(text)
            .map_err(serde::de::Error::custom)?;
        let leaves = bytes
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        Ok(Self::new(leaves.collect()))
    }
}

/// Hashes a leaf, independent of the order of its fields.
pub(super) fn leaf_hash(value: Option<&Value>) -> u16 {
    let Some(value) = value else { return ABSENT };
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    hash.value(value);
    let folded = hash.0 ^ (hash.0 >> 32);
    let short = (folded ^ (folded >> 16)) as u16;
    short.max(ABSENT + 1)
}

/// FNV-1a: stable between versions of the program, since records hold its results.
struct Fnv(u64);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                let mut names: Vec<&String> = map.keys().collect();
                names.sort();
                self.bytes(b"{");
                for name in names {
                    self.bytes(name.as_bytes());
                    self.bytes(&[0]);
                    self.value(&map[name]);
                }
                self.bytes(b"}");
            }
            Value::Array(elements) => {
                self.bytes(b"[");
                elements.iter().for_each(|element| self.value(element));
                self.bytes(b"]");
            }
            Value::String(text) => {
                self.bytes(b"\"");
                self.bytes(&(text.len() as u64).to_le_bytes());
                self.bytes(text.as_bytes());
            }
            other => self.bytes(other.to_string().as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn leaf_hashes_survive_as_text() {
        let hashes = LeafHashes::new(
            [Some(json!({"a": 1, "b": [true]})), Some(json!("")), None]
                .iter()
                .map(|value| leaf_hash(value.as_ref()))
                .collect(),
        );
        let text = serde_json::to_string(&hashes).unwrap();
        // Records are read by later versions.
        assert_eq!(text, EXPECTED);
        let read: LeafHashes = serde_json::from_str(&text).unwrap();
        assert_eq!(read, hashes);
        assert_eq!(read.differs(&hashes, 1), Some(false));
        assert!(read.is_value(2, None) && !read.is_value(1, None) && !read.is_value(3, None));
        assert!(read.is_value(1, Some(&json!(""))));
        assert_eq!(read.differs(&LeafHashes::default(), 1), None);
        assert_eq!(
            leaf_hash(Some(&json!({"b": [true], "a": 1}))),
            leaf_hash(Some(&json!({"a": 1, "b": [true]})))
        );
        assert_ne!(leaf_hash(Some(&json!(null))), leaf_hash(None));
    }

    const EXPECTED: &str = "\"NuEu9wAA\"";
}
