//! Platforms, as `os/architecture[/variant]`.

use super::ImageError;
use std::{fmt, str::FromStr};

/// The operating system, architecture and variant of an image.
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
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// Puts a platform together from the fields of an index or a config.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Result<Self, ImageError> {
        let word = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        for text in [Some(os), Some(architecture), variant]
            .into_iter()
            .flatten()
        {
            if !word(text) {
                return Err(ImageError::new(
                    "platform",
                    text,
                    "must be os/architecture or os/architecture/variant, as linux/arm64",
                ));
            }
        }
        Ok(Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        })
    }

    /// Returns whether an image for `self` satisfies a request for `wanted`.
    ///
    /// A request without a variant accepts any variant, and `arm64` means `arm64/v8`, as in
    /// containerd's normalisation.
    pub fn serves(&self, wanted: &Platform) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (wanted.variant.is_none() || self.normal_variant() == wanted.normal_variant())
    }

    fn normal_variant(&self) -> Option<&str> {
        match (self.architecture.as_str(), self.variant.as_deref()) {
            ("arm64", None) => Some("v8"),
            ("arm", None) => Some("v7"),
            ("amd64", Some("v1")) => None,
            (_, variant) => variant,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = ImageError;
    fn from_str(text: &str) -> Result<Self, ImageError> {
        let mut parts = text.splitn(3, '/');
        let os = parts.next().unwrap_or_default();
        let architecture = parts.next().unwrap_or_default();
        Self::new(os, architecture, parts.next()).map_err(|_| {
            ImageError::new(
                "platform",
                text,
                "must be os/architecture or os/architecture/variant, as linux/arm64",
            )
        })
    }
}

impl TryFrom<String> for Platform {
    type Error = ImageError;
    fn try_from(text: String) -> Result<Self, ImageError> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platform_variant_matters_only_if_wanted() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        for (has, wants, served) in [
            ("linux/arm/v6", "linux/arm", true),
            ("linux/arm/v6", "linux/arm/v7", false),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/amd64", "linux/arm64", false),
            ("windows/amd64", "linux/amd64", false),
        ] {
            assert_eq!(
                platform(has).serves(&platform(wants)),
                served,
                "{has} for {wants}"
            );
        }
        for bad in ["", "linux", "linux/", "/amd64", "linux/a b", "linux/amd64/"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
    }
}
