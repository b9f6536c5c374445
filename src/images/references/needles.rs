//! A substring prefilter: parsing dominates a pass, and most files name no watched image.

use super::MARKER;
use crate::core::image::{ImageRef, ImageRepository};
use memchr::memmem::Finder;
use regex::bytes::{Regex, RegexBuilder};
use sha2::{Digest as _, Sha256};
use std::{cmp::Reverse, collections::BTreeSet, ops::Range, sync::LazyLock};

/// The texts of which a file must contain one: the marker, or the last segment of a watched
/// repository's path, which every spelling of the repository contains. The segment counts between
/// characters that no segment has: `api` is not in `apiVersion`.
#[derive(Debug, Clone)]
pub struct Needles {
    marker: Finder<'static>,
    repositories: BTreeSet<ImageRepository>,
    /// All segments in one pattern; `None` if there are none. A pattern of literals is searched
    /// without a regex engine.
    any: Option<Regex>,
    /// True if the segments are too many for a pattern.
    every_file: bool,
}

/// A line of a template with a literal image.
static LITERAL_IMAGE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"(?m)^[ \t]*(?:-[ \t]+)?image:[ \t]*["']?([^\s"'{}#]+)"#).ok());

impl Needles {
    /// The needles of these repositories; of none for files of which only markers count.
    pub fn new<'r>(repositories: impl IntoIterator<Item = &'r ImageRepository>) -> Self {
        let repositories: BTreeSet<ImageRepository> = repositories.into_iter().cloned().collect();
        let segments: BTreeSet<&str> = repositories
            .iter()
            .map(ImageRepository::last_segment)
            .collect();
        let mut segments: Vec<&str> = segments.into_iter().collect();
        // The first alternative wins: of `api` and `api-gateway` it must be the longer one. Where
        // that one has no boundary behind it, the shorter one has none either.
        segments.sort_by_key(|segment| Reverse(segment.len()));
        let pattern = segments
            .iter()
            .map(|segment| regex::escape(segment))
            .collect::<Vec<_>>()
            .join("|");
        // 100,000 needles of 30 bytes compile to about 100 MB; with more, every file is parsed
        // instead.
        let any = (!segments.is_empty())
            .then(|| {
                RegexBuilder::new(&pattern)
                    .unicode(false)
                    .size_limit(256 << 20)
                    .build()
            })
            .transpose();
        Self {
            marker: Finder::new(MARKER.as_bytes()),
            repositories,
            every_file: any.is_err(),
            any: any.unwrap_or_default(),
        }
    }

    /// Returns whether a file with these bytes can have a relevant reference.
    pub fn hit(&self, source: &[u8]) -> bool {
        self.hit_without_segments(source) || self.segments(source).next().is_some()
    }

    /// The places of the segments in a file.
    pub(super) fn segments(&self, source: &[u8]) -> impl Iterator<Item = Range<usize>> {
        let found = self.any.iter().flat_map(|any| any.find_iter(source));
        found
            .map(|found| found.range())
            .filter(|range| is_segment(source, range))
    }

    /// Returns whether a repository is watched.
    pub fn watches(&self, repository: &ImageRepository) -> bool {
        self.repositories.contains(repository)
    }

    /// Returns whether the notes about a file are relevant even if it has none of the segments.
    pub(super) fn hit_without_segments(&self, source: &[u8]) -> bool {
        self.every_file || self.marker.find(source).is_some()
    }

    /// Returns whether the notes about a chart's template are relevant: whether it has a marker, or
    /// the literal `image:` of a watched repository.
    pub(super) fn hit_template(&self, source: &[u8]) -> bool {
        let is_watched = |image: &[u8]| {
            std::str::from_utf8(image)
                .ok()
                .and_then(|image| ImageRef::new(image).ok())
                .is_some_and(|image| self.watches(&image.repository))
        };
        self.marker.find(source).is_some()
            || LITERAL_IMAGE.as_ref().is_some_and(|lines| {
                let mut images = lines.captures_iter(source);
                images.any(|line| {
                    line.get(1)
                        .is_some_and(|image| is_watched(image.as_bytes()))
                })
            })
    }

    /// A hash of the needles, the same in every process: equal fingerprints hit the same files.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for repository in &self.repositories {
            hash.update(repository.as_str());
            hash.update("\n");
        }
        hash.finalize().into()
    }
}

/// Returns whether these bytes are a whole segment of a path, and no part of a longer word.
fn is_segment(source: &[u8], range: &Range<usize>) -> bool {
    let is_inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let before = source[..range.start].last();
    let after = source.get(range.end);
    !before.is_some_and(is_inside) && !after.is_some_and(is_inside)
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
            ("image: my-podinfo:1", false),
            ("podinfo-ui: podinfo", true),
            ("apiVersion: nginx.org/v1", false),
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
    fn needles_are_whole_segments() {
        let repositories = ["a/api", "b/api-gateway", "c/d.e"]
            .map(|name| ImageRepository::new(&format!("ghcr.io/{name}")).unwrap());
        let needles = Needles::new(&repositories);
        for (text, hit) in [
            ("apiVersion: v1", false),
            ("kind: myapi", false),
            ("image: ghcr.io/a/api:1", true),
            ("api", true),
            ("repository: 'a/api'", true),
            (
                "apiVersion: v1\nimage: ghcr.io/b/api-gateway@sha256:0",
                true,
            ),
            ("api-gateways api-gateway-2", false),
            ("apiapi api", true),
            ("image: c/d.e", true),
            ("image: c/dxe c/d.e.f", false),
        ] {
            assert_eq!(needles.hit(text.as_bytes()), hit, "{text}");
        }
    }

    /// A template is mentioned where a literal image of it would have to be updated.
    #[test]
    fn needles_templates_count_with_a_literal_image() {
        let podinfo = ImageRepository::new("ghcr.io/stefanprodan/podinfo").unwrap();
        let needles = Needles::new([&podinfo]);
        for (text, counts) in [
            ("        image: ghcr.io/stefanprodan/podinfo:6.0.0\n", true),
            ("      - image: \"ghcr.io/stefanprodan/podinfo\"\n", true),
            ("name: {{ include \"podinfo.name\" . }}\n", false),
            ("image: \"{{ .Values.image }}/podinfo:{{ .tag }}\"\n", false),
            ("image: ghcr.io/other/podinfo:1\n", false),
            ("# {\"$imagepolicy\": \"a:b\"}\n", true),
        ] {
            let counted = needles.hit_template(text.as_bytes());
            assert_eq!(counted, counts, "{text}");
        }
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
