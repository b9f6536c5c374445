//! A substring prefilter: parsing dominates a pass, and most files name no watched image.

use super::MARKER;
use crate::core::image::ImageRepository;
use memchr::memmem::Finder;
use regex::bytes::{Regex, RegexBuilder};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// The texts of which a file must contain one: the marker, or the last word of a watched
/// repository's path, which every spelling of the repository contains.
#[derive(Debug, Clone)]
pub struct Needles {
    marker: Finder<'static>,
    words: BTreeSet<String>,
    /// All needles in one pattern; `None` if there are none. A pattern of literals is searched
    /// without a regex engine.
    any: Option<Regex>,
}

impl Needles {
    /// The needles of these repositories; of none for files of which only markers count.
    pub fn new<'r>(repositories: impl IntoIterator<Item = &'r ImageRepository>) -> Self {
        let words: BTreeSet<String> = repositories
            .into_iter()
            .map(|repository| repository.last_segment().to_owned())
            .collect();
        let pattern = words
            .iter()
            .map(|word| regex::escape(word))
            .collect::<Vec<_>>()
            .join("|");
        // 100,000 needles of 30 bytes compile to about 100 MB; with more, every file is parsed
        // instead.
        let any = (!words.is_empty()).then(|| {
            RegexBuilder::new(&pattern)
                .unicode(false)
                .size_limit(256 << 20)
                .build()
        });
        let any = any
            .map(|built| built.or_else(|_| Regex::new("")))
            .and_then(Result::ok);
        Self {
            marker: Finder::new(MARKER.as_bytes()),
            words,
            any,
        }
    }

    /// Returns whether a file with these bytes can have a relevant reference.
    pub fn hit(&self, source: &[u8]) -> bool {
        self.marker.find(source).is_some()
            || self.any.as_ref().is_some_and(|any| any.is_match(source))
    }

    /// A hash of the needles, the same in every process: equal fingerprints hit the same files.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for word in &self.words {
            hash.update(word);
            hash.update("\n");
        }
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needles_hit_markers_and_image_names() {
        let [podinfo, nginx] = ["ghcr.io/stefanprodan/podinfo", "nginx"]
            .map(|name| ImageRepository::new(name).unwrap());
        let needles = Needles::new([&podinfo, &nginx]);
        for (text, hit) in [
            ("image: podinfo:1", true),
            ("x: nginx", true),
            ("# {\"$imagepolicy\": ", true),
            ("image: redis", false),
            ("", false),
        ] {
            assert_eq!(needles.hit(text.as_bytes()), hit, "{text}");
        }
        assert!(
            !Needles::new([]).hit(b"image: podinfo:1") && Needles::new([]).hit(b"$imagepolicy")
        );
        assert_eq!(
            needles.fingerprint(),
            Needles::new([&nginx, &podinfo, &nginx]).fingerprint()
        );
        assert_ne!(needles.fingerprint(), Needles::new([&nginx]).fingerprint());
        let dotted = ImageRepository::new("ghcr.io/a/b.c").unwrap();
        assert!(!Needles::new([&dotted]).hit(b"bxc"));
    }

    #[test]
    fn needles_thousands_of_images_are_one_search() {
        let many: Vec<_> = (0..5_000)
            .map(|i| ImageRepository::new(&format!("ghcr.io/team/app-{i}-service")).unwrap())
            .collect();
        let needles = Needles::new(&many);
        assert!(
            needles.hit(b"image: ghcr.io/team/app-4999-service:1")
                && !needles.hit(b"image: ghcr.io/team/app-5000-service:1")
        );
    }
}
