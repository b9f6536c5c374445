//! Hashes of JSON values, independent of the order of their fields.

use crate::objects::object::Object;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// A truncated SHA-256: 16 bytes are enough against accidental collisions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ValueHash(pub(super) [u8; 16]);

impl ValueHash {
    /// Returns the hash of a value with more to it.
    pub fn with(self, more: &[&str]) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0);
        for text in more {
            hash.update(text);
            hash.update([0]);
        }
        Self::finish(hash)
    }

    pub(super) fn finish(hash: Sha256) -> Self {
        let mut short = [0; 16];
        short.copy_from_slice(&hash.finalize()[..16]);
        Self(short)
    }
}

impl fmt::Display for ValueHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ValueHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for ValueHash {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 16];
        if text.len() != 32 || !text.is_ascii() {
            return Err(());
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).map_err(drop)?;
        }
        Ok(Self(bytes))
    }
}

impl serde::Serialize for ValueHash {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ValueHash {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse()
            .map_err(|()| serde::de::Error::custom("a hash has 32 hexadecimal digits"))
    }
}

/// Hashes a manifest, independent of the order of its fields.
pub fn hash_manifest(manifest: &Object) -> ValueHash {
    let mut hash = Sha256::new();
    let gvk = manifest.gvk();
    hash.update(gvk.to_string());
    fields(&mut hash, manifest.value());
    ValueHash::finish(hash)
}

fn fields(hash: &mut Sha256, map: &Map<String, Value>) {
    hash.update([b'{']);
    for name in sorted(map) {
        hash.update(name);
        hash.update([0]);
        canonical(hash, &map[name]);
    }
    hash.update([b'}']);
}

pub(super) fn canonical(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Object(map) => fields(hash, map),
        Value::Array(elements) => {
            hash.update([b'[']);
            for element in elements {
                canonical(hash, element);
            }
            hash.update([b']']);
        }
        Value::String(text) => {
            hash.update([b'"']);
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        other => hash.update(other.to_string()),
    }
}

/// Returns the names of fields in order.
pub(super) fn sorted(fields: &Map<String, Value>) -> Vec<&String> {
    let mut names: Vec<&String> = fields.keys().collect();
    names.sort();
    names
}
