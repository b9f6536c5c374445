//! Content digests.

use super::ImageError;
use std::{fmt, str::FromStr};

/// A content digest, `algorithm:hex`. Only the algorithms registered by the OCI image specification
/// are taken: sha256 (64 hexadecimal digits) and sha512 (128), in lower case.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Checks `text`.
    pub fn new(text: impl Into<String>) -> Result<Self, ImageError> {
        let text = text.into();
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(ImageError::new(
                "digest",
                &text,
                "has no algorithm (sha256:…)",
            ));
        };
        let length = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => {
                return Err(ImageError::new(
                    "digest",
                    &text,
                    "the algorithm is neither sha256 nor sha512",
                ));
            }
        };
        if hex.len() != length {
            return Err(ImageError::new("digest", &text, "has the wrong length"));
        }
        if !hex
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(ImageError::new(
                "digest",
                &text,
                "is not lower-case hexadecimal",
            ));
        }
        Ok(Self(text))
    }

    /// The whole text, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `sha256:` and the first twelve digits, for people.
    pub fn short(&self) -> &str {
        let colon = self.0.find(':').unwrap_or(0);
        &self.0[..colon + 13]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = ImageError;
    fn from_str(text: &str) -> Result<Self, ImageError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Digest {
    type Error = ImageError;
    fn try_from(text: String) -> Result<Self, ImageError> {
        Self::new(text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_needs_known_algorithm_and_full_length() {
        let good = format!("sha256:{}", "0f".repeat(32));
        assert_eq!(Digest::new(&good).unwrap().short(), "sha256:0f0f0f0f0f0f");
        for bad in [
            "",
            "sha256:",
            "sha256:00",
            "md5:00",
            "0f0f",
            &good.to_uppercase(),
            &format!("{good}0"),
            &format!("{good}\n"),
        ] {
            assert!(Digest::new(bad).is_err(), "{bad:?}");
        }
    }
}
