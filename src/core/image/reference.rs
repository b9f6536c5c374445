//! Image references as files spell them.

use super::{Digest, ImageError, ImageRepository, Tag};
use std::{fmt, str::FromStr};

/// An image reference, `name[:tag][@digest]`: the name as written beside its canonical
/// [`ImageRepository`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageRef {
    /// The name in the spelling of the file, `nginx`.
    pub name: String,
    /// The canonical form of the name, `docker.io/library/nginx`.
    pub repository: ImageRepository,
    /// The tag, if one is written.
    pub tag: Option<Tag>,
    /// The digest, if the reference is pinned.
    pub digest: Option<Digest>,
}

impl ImageRef {
    /// Reads a reference.
    ///
    /// # Errors
    /// If a part breaks the grammar; the message names the part.
    pub fn new(text: &str) -> Result<Self, ImageError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::new(digest)?)),
            None => (text, None),
        };
        let after_host = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[after_host..].find(':') {
            Some(colon) => (
                &rest[..after_host + colon],
                Some(Tag::new(&rest[after_host + colon + 1..])?),
            ),
            None => (rest, None),
        };
        Ok(Self {
            name: name.to_owned(),
            repository: ImageRepository::new(name)?,
            tag,
            digest,
        })
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for ImageRef {
    type Err = ImageError;
    fn from_str(text: &str) -> Result<Self, ImageError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_parts_round_trip() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, repository, tag, pinned) in [
            ("nginx".to_owned(), "docker.io/library/nginx", None, false),
            (
                "nginx:1.25".to_owned(),
                "docker.io/library/nginx",
                Some("1.25"),
                false,
            ),
            (
                "localhost:5000/app".to_owned(),
                "localhost:5000/app",
                None,
                false,
            ),
            (
                "localhost:5000/app:v1".to_owned(),
                "localhost:5000/app",
                Some("v1"),
                false,
            ),
            (
                format!("ghcr.io/a/b:v1@{digest}"),
                "ghcr.io/a/b",
                Some("v1"),
                true,
            ),
            (format!("ghcr.io/a/b@{digest}"), "ghcr.io/a/b", None, true),
        ] {
            let image = ImageRef::new(&text).unwrap();
            assert_eq!(image.to_string(), text);
            assert_eq!(image.repository.as_str(), repository);
            assert_eq!(image.tag.as_ref().map(Tag::as_str), tag);
            assert_eq!(image.digest.is_some(), pinned);
        }
        for bad in [
            "",
            ":1",
            "a:",
            "a:b:c",
            "a@",
            "a@sha256:1",
            "a b:1",
            "A:1",
            "${IMAGE}",
            "{{ .Values.image }}",
        ] {
            assert!(ImageRef::new(bad).is_err(), "{bad:?}");
        }
    }
}
