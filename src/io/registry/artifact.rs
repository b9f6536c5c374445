//! The kinds of content that a manifest may have: an image, or an artifact that is none.

/// The media types of the config of an image.
pub(super) const IMAGE_CONFIGS: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];
/// Parts of media types, and the kinds of artifacts that have them.
const ARTIFACTS: [(&str, &str); 11] = [
    ("simplesigning", "a signature"),
    ("cosign", "a signature"),
    ("sigstore", "a signature"),
    ("notary", "a signature"),
    ("in-toto", "an attestation"),
    ("dsse", "an attestation"),
    ("helm", "a Helm chart"),
    (".flux", "a Flux artifact"),
    ("spdx", "an SBOM"),
    ("cyclonedx", "an SBOM"),
    ("syft", "an SBOM"),
];

/// The content of a manifest that is no index, as far as its media types tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ManifestContent {
    Image,
    /// An artifact of this kind: "a Helm chart".
    Artifact(&'static str),
    /// Another type, escaped; an image only if its config names a platform.
    Unknown(String),
}

impl ManifestContent {
    /// Reads it from the type of the artifact, of the config, and of the layers. The signatures of
    /// cosign have the config of an image, so that only their layers tell.
    pub(super) fn read<'a>(
        artifact: Option<&'a str>,
        config: Option<&'a str>,
        layers: impl Iterator<Item = &'a str>,
    ) -> Self {
        let config_is_image = config.is_some_and(|kind| IMAGE_CONFIGS.contains(&kind));
        let types = artifact.into_iter().chain(config).chain(layers);
        match types.filter_map(artifact_kind).next() {
            Some(kind) => Self::Artifact(kind),
            None if config_is_image => Self::Image,
            None => {
                let written = artifact.filter(|kind| !kind.is_empty()).or(config);
                Self::Unknown(crate::core::image::shown(written.unwrap_or_default()))
            }
        }
    }
}

fn artifact_kind(media_type: &str) -> Option<&'static str> {
    let known = |(part, _): &&(&str, &str)| media_type.contains(part);
    ARTIFACTS.iter().find(known).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifact_kind_is_told_by_media_types() {
        const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
        const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
        const EMPTY: &str = "application/vnd.oci.empty.v1+json";
        let unknown = |kind: &str| ManifestContent::Unknown(crate::core::image::shown(kind));
        for (artifact, config, layer, expected) in [
            ("", CONFIG, LAYER, ManifestContent::Image),
            ("", CONFIG, "", ManifestContent::Image),
            (
                "",
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                ManifestContent::Image,
            ),
            (
                "",
                CONFIG,
                "application/vnd.dev.cosign.simplesigning.v1+json",
                ManifestContent::Artifact("a signature"),
            ),
            (
                "",
                CONFIG,
                "application/vnd.dsse.envelope.v1+json",
                ManifestContent::Artifact("an attestation"),
            ),
            (
                "",
                CONFIG,
                "application/vnd.in-toto+json",
                ManifestContent::Artifact("an attestation"),
            ),
            (
                "application/vnd.dev.sigstore.bundle.v0.3+json",
                EMPTY,
                "application/vnd.dev.sigstore.bundle.v0.3+json",
                ManifestContent::Artifact("a signature"),
            ),
            (
                "application/vnd.cncf.notary.signature",
                EMPTY,
                "application/jose+json",
                ManifestContent::Artifact("a signature"),
            ),
            (
                "",
                "application/vnd.cncf.helm.config.v1+json",
                "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
                ManifestContent::Artifact("a Helm chart"),
            ),
            (
                "",
                "application/vnd.cncf.flux.config.v1+json",
                "application/vnd.cncf.flux.content.v1.tar+gzip",
                ManifestContent::Artifact("a Flux artifact"),
            ),
            (
                "",
                "application/vnd.wasm.config.v0+json",
                "",
                unknown("application/vnd.wasm.config.v0+json"),
            ),
            ("text/x", EMPTY, "", unknown("text/x")),
            ("", "", "", unknown("")),
        ] {
            let given = |text: &'static str| Some(text).filter(|text| !text.is_empty());
            let content =
                ManifestContent::read(given(artifact), given(config), given(layer).into_iter());
            assert_eq!(content, expected, "{artifact} {config} {layer}");
        }
    }
}
