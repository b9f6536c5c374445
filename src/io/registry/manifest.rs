//! The parsed shapes of manifests, indexes and configs, and the verification of their digest.

use super::artifact::{IMAGE_CONFIGS, ManifestContent};
use crate::core::{
    image::{Digest, Platform},
    text::hex,
};
use jiff::Timestamp;
use serde::Deserialize;
use sha2::Digest as _;
use std::collections::BTreeMap;

/// The `Accept` header for manifests: all four media types.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A body that is one or the other.
#[derive(Debug)]
pub(crate) enum OciManifest {
    Index {
        created: Option<Timestamp>,
        labels: OciLabels,
        children: Vec<ChildManifest>,
        /// True if it lists what refers to an image: signatures, attestations.
        has_referrers: bool,
    },
    Image {
        created: Option<Timestamp>,
        labels: OciLabels,
        config: Digest,
        content: ManifestContent,
    },
}

/// Source, revision and version of an image, by their full annotation names.
pub(crate) type OciLabels = BTreeMap<String, String>;

/// An image of an index.
#[derive(Debug)]
pub(crate) struct ChildManifest {
    pub(crate) digest: Digest,
    pub(crate) platform: Option<Platform>,
    pub(crate) is_index: bool,
}

/// The parsed image config.
#[derive(Debug, Default)]
pub(crate) struct ImageConfig {
    pub(crate) created: Option<Timestamp>,
    pub(crate) platform: Option<Platform>,
    pub(crate) labels: OciLabels,
}

const CREATED: &str = "org.opencontainers.image.created";
const KEPT: [&str; 3] = [
    "org.opencontainers.image.source",
    "org.opencontainers.image.revision",
    "org.opencontainers.image.version",
];
/// More images than that has no index; the largest known have some fifty.
const MOST_CHILDREN: usize = 1000;
/// A URL or a revision; longer ones are left out.
const LONGEST_LABEL: usize = 512;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawManifest {
    media_type: Option<String>,
    artifact_type: Option<String>,
    manifests: Option<Vec<RawChild>>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawLayer>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    digest: Digest,
    media_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawLayer {
    media_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawChild {
    digest: Digest,
    media_type: Option<String>,
    artifact_type: Option<String>,
    platform: Option<RawPlatform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

impl RawPlatform {
    /// None for `unknown/unknown`, which marks attestations, and for text that is no platform.
    fn read(&self) -> Option<Platform> {
        if self.os == "unknown" || self.architecture == "unknown" {
            return None;
        }
        Platform::new(
            &self.os,
            &self.architecture,
            self.variant
                .as_deref()
                .filter(|variant| !variant.is_empty()),
        )
        .ok()
    }
}

#[derive(Deserialize)]
struct RawConfig {
    created: Option<String>,
    #[serde(flatten)]
    platform: RawPlatform,
    config: Option<RawSettings>,
}

#[derive(Deserialize)]
struct RawSettings {
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
}

/// Reads the body of a manifest.
///
/// # Errors
/// If it is neither an index nor an image, or could be taken for both (a body that two readers
/// understand differently, CVE-2021-41190), or has too many images.
pub(crate) fn read(body: &[u8]) -> Result<OciManifest, String> {
    let raw: RawManifest =
        serde_json::from_slice(body).map_err(|error| unreadable("manifest", &error))?;
    let annotations = raw.annotations.unwrap_or_default();
    let created = annotations.get(CREATED).and_then(|text| date(text));
    let labels = labels(annotations);
    match (raw.manifests, raw.config) {
        (Some(_), Some(_)) => Err("both an index and an image".to_owned()),
        (None, None) => {
            let kind = raw
                .media_type
                .map(|kind| format!(" ({})", crate::core::image::shown(&kind)))
                .unwrap_or_default();
            Err(format!("neither an index nor an image{kind}"))
        }
        (None, Some(config)) => {
            let layers = raw.layers.unwrap_or_default();
            let layers = layers
                .iter()
                .filter_map(|layer| layer.media_type.as_deref());
            let written = raw.artifact_type.as_deref();
            Ok(OciManifest::Image {
                created,
                labels,
                content: ManifestContent::read(written, config.media_type.as_deref(), layers),
                config: config.digest,
            })
        }
        (Some(children), None) if children.len() > MOST_CHILDREN => Err(format!(
            "an index of {} images; at most {MOST_CHILDREN} are read",
            children.len()
        )),
        (Some(children), None) => Ok(OciManifest::Index {
            created,
            labels,
            has_referrers: children.iter().any(RawChild::is_referrer),
            children: children.into_iter().filter_map(child).collect(),
        }),
    }
}

impl RawChild {
    /// Returns whether it refers to an image: only then has a descriptor another type than that of
    /// an image's config (OCI distribution specification, "referrers tag schema").
    fn is_referrer(&self) -> bool {
        self.artifact_type
            .as_deref()
            .is_some_and(|kind| !kind.is_empty() && !IMAGE_CONFIGS.contains(&kind))
    }
}

fn child(raw: RawChild) -> Option<ChildManifest> {
    let attestation = raw
        .annotations
        .is_some_and(|map| map.contains_key("vnd.docker.reference.type"));
    let unknown = raw
        .platform
        .as_ref()
        .is_some_and(|platform| platform.os == "unknown" && platform.architecture == "unknown");
    if attestation || unknown {
        return None;
    }
    let is_index = raw
        .media_type
        .is_some_and(|kind| kind.contains("index") || kind.contains("manifest.list"));
    Some(ChildManifest {
        digest: raw.digest,
        platform: raw.platform.as_ref().and_then(RawPlatform::read),
        is_index,
    })
}

/// Reads a config. One that is no image's (a chart's, an empty object) says nothing.
pub(crate) fn read_config(body: &[u8]) -> ImageConfig {
    let Ok(raw) = serde_json::from_slice::<RawConfig>(body) else {
        return ImageConfig::default();
    };
    let own = raw
        .config
        .and_then(|settings| settings.labels)
        .unwrap_or_default();
    ImageConfig {
        created: raw.created.as_deref().and_then(date),
        platform: raw.platform.read(),
        labels: labels(own),
    }
}

fn labels(mut map: BTreeMap<String, String>) -> OciLabels {
    let kept = KEPT.iter().filter_map(|name| map.remove_entry(*name));
    kept.filter(|(_, text)| {
        !text.is_empty() && text.len() <= LONGEST_LABEL && !text.chars().any(char::is_control)
    })
    .collect()
}

/// A date of RFC 3339. 1970 and 0001 are what reproducible builds and empty fields write: no date.
fn date(text: &str) -> Option<Timestamp> {
    let date: Timestamp = text.trim().parse().ok()?;
    let year = date.to_zoned(jiff::tz::TimeZone::UTC).year();
    (year > 1 && year != 1970).then_some(date)
}

/// The parser's place without its quotations, which are the registry's text.
fn unreadable(what: &str, error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Eof => format!("the {what} ends early"),
        _ => format!(
            "no {what} (line {}, column {})",
            error.line(),
            error.column()
        ),
    }
}

/// The digest of `body` in the algorithm of `like`; sha256 where there is nothing to be like.
pub(crate) fn digest_of(body: &[u8], like: Option<&Digest>) -> Digest {
    let text = match like.is_some_and(|digest| digest.as_str().starts_with("sha512:")) {
        true => format!("sha512:{}", hex(&sha2::Sha512::digest(body))),
        false => format!("sha256:{}", hex(&sha2::Sha256::digest(body))),
    };
    Digest::new(text).expect("a hash in lower-case hexadecimal is a digest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_placeholder_date_is_none() {
        for (text, expected) in [
            ("2026-11-20T10:00:00Z", Some("2026-11-20T10:00:00Z")),
            (
                "2026-11-20T10:00:00.123456789+02:00",
                Some("2026-11-20T08:00:00.123456789Z"),
            ),
            ("1970-01-01T00:00:00Z", None),
            ("1970-12-31T23:59:59Z", None),
            ("0001-01-01T00:00:00Z", None),
            ("0000-01-01T00:00:00Z", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(
                date(text).map(|date| date.to_string()).as_deref(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn manifest_digest_equals_sha256sum_and_sha512sum() {
        assert_eq!(
            digest_of(b"", None).as_str(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let like = Digest::new(format!("sha512:{}", "0".repeat(128))).unwrap();
        assert!(
            digest_of(b"", Some(&like))
                .as_str()
                .starts_with("sha512:cf83e1357eefb8bdf1542850d66d8007")
        );
    }

    #[test]
    fn manifest_hostile_is_refused_with_reason() {
        let digest = digest_of(b"", None);
        let child = format!(r#"{{"digest":"{digest}"}}"#);
        let many = format!(
            r#"{{"manifests":[{}]}}"#,
            vec![child.as_str(); 1001].join(",")
        );
        let deep = format!(r#"{{"x":{}"#, "[".repeat(10_000));
        for (body, reason) in [
            ("", "ends early"),
            ("<html>", "no manifest (line 1"),
            ("{}", "neither an index nor an image"),
            (
                r#"{"mediaType":"\u001b[31m","schemaVersion":1}"#,
                r#"neither an index nor an image ("\u{1b}[31m")"#,
            ),
            (&format!(r#"{{"manifests":[],"config":{child}}}"#), "both"),
            (r#"{"config":{"digest":"sha256:00"}}"#, "no manifest"),
            (&many, "1001 images"),
            (&deep, "ends early"),
        ] {
            let refused = read(body.as_bytes()).unwrap_err();
            assert!(
                refused.contains(reason),
                "{}: {refused}",
                &body[..body.len().min(80)]
            );
        }
    }

    #[test]
    fn manifest_skips_attestations_and_bad_labels() {
        let digest = digest_of(b"", None);
        let body = serde_json::json!({
            "annotations": {"org.opencontainers.image.source": "https://git.example/a", "org.opencontainers.image.revision": "a\nb", "other": "x"},
            "manifests": [
                {"digest": digest, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
                {"digest": digest, "platform": {"os": "unknown", "architecture": "unknown"}},
                {"digest": digest, "platform": {"os": "linux", "architecture": "\u{1b}"}},
                {"digest": digest, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
                {"digest": digest, "mediaType": "application/vnd.oci.image.index.v1+json"},
            ],
        });
        let OciManifest::Index {
            labels,
            children,
            created,
            ..
        } = read(body.to_string().as_bytes()).unwrap()
        else {
            panic!("an index")
        };
        assert_eq!(
            labels.into_iter().collect::<Vec<_>>(),
            [(
                "org.opencontainers.image.source".into(),
                "https://git.example/a".into()
            )]
        );
        let children: Vec<_> = children
            .iter()
            .map(|child| {
                (
                    child.platform.as_ref().map(ToString::to_string),
                    child.is_index,
                )
            })
            .collect();
        assert_eq!(
            children,
            [
                (Some("linux/arm64/v8".into()), false),
                (None, false),
                (None, true)
            ]
        );
        assert_eq!(created, None);
    }

    #[test]
    fn manifest_config_has_date_platform_and_labels() {
        let config = read_config(
            br#"{"created":"2026-01-02T03:04:05Z","os":"linux","architecture":"amd64","config":{"Labels":{"org.opencontainers.image.version":"1.2"}},"rootfs":{}}"#,
        );
        assert_eq!(config.platform.unwrap().to_string(), "linux/amd64");
        assert_eq!(config.labels["org.opencontainers.image.version"], "1.2");
        assert!(config.created.is_some());
        for other in ["{}", "[]", "chart", r#"{"created":5}"#] {
            let config = read_config(other.as_bytes());
            assert!(
                config.created.is_none() && config.platform.is_none() && config.labels.is_empty(),
                "{other}"
            );
        }
    }
}
