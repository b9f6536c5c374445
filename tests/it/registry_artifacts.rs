//! The artifact that a digest's manifest describes: an image, or another kind.

use crate::it::support::wire::{Wire, reply};
use serde_json::{Value, json};
use std::collections::HashMap;
use tagboat::{
    core::image::Digest,
    io::registry::{ImageDescription, RegistryLogin},
};

const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn sha256(bytes: &str) -> String {
    use sha2::Digest as _;
    let hex: String = sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

/// Content by its digest.
#[derive(Default, Clone)]
struct Contents(HashMap<String, String>);

impl Contents {
    fn add(&mut self, body: &Value) -> String {
        let text = body.to_string();
        let digest = sha256(&text);
        self.0.insert(digest.clone(), text);
        digest
    }

    /// A manifest with a config of this type and content, and one layer.
    fn manifest(&mut self, config_type: &str, config: &Value, layer: &str) -> String {
        let config = self.add(config);
        self.add(&json!({
            "mediaType": MANIFEST,
            "config": {"mediaType": config_type, "digest": config},
            "layers": [{"mediaType": layer, "digest": config}],
        }))
    }

    async fn describe(&self, digest: &str) -> (ImageDescription, usize) {
        let contents = self.0.clone();
        let wire = Wire::start(move |seen, _| {
            let digest = seen.path().rsplit('/').next().unwrap();
            match contents.get(digest) {
                Some(body) => reply(200, body.as_str()),
                None => reply(404, "{}"),
            }
        })
        .await;
        let registries = wire.registries(RegistryLogin::Anonymous);
        let digest = Digest::new(digest).unwrap();
        let described = registries.describe(&wire.repository(), &digest).await;
        (described.unwrap(), wire.seen().len())
    }
}

/// Kinds of artifacts need no request beyond their manifest.
#[tokio::test]
async fn artifact_is_told_from_an_image() {
    let mut all = Contents::default();
    let date = "2026-05-01T00:00:00Z";
    let platform = json!({"os": "linux", "architecture": "amd64", "created": date});
    let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
    let image = all.manifest(IMAGE_CONFIG, &platform, layer);
    let signature = all.manifest(
        IMAGE_CONFIG,
        &json!({"os": "", "architecture": "", "created": date}),
        "application/vnd.dev.cosign.simplesigning.v1+json",
    );
    let chart = all.manifest(
        "application/vnd.cncf.helm.config.v1+json",
        &json!({"name": "web", "version": "1.0.0"}),
        "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
    );
    let wasm = all.manifest(
        "application/vnd.wasm.config.v0+json",
        &json!({"os": "wasip1", "architecture": "wasm", "created": date}),
        "application/wasm",
    );
    let other = all.manifest("text/x", &json!({"created": date}), "text/plain");
    let index = all.add(&json!({"manifests": [
        {"mediaType": MANIFEST, "digest": image, "platform": {"os": "linux", "architecture": "amd64"}},
        {"mediaType": MANIFEST, "digest": signature, "platform": {"os": "unknown", "architecture": "unknown"},
         "annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
    ]}));
    let plain_index = all.add(&json!({"manifests": [{"mediaType": MANIFEST, "digest": image}]}));
    let charts = all.add(&json!({"manifests": [{"mediaType": MANIFEST, "digest": chart}]}));
    let referrers = all.add(&json!({"manifests": [
        {"mediaType": MANIFEST, "digest": signature, "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json"},
    ]}));
    let empty = all.add(&json!({"manifests": []}));
    for (name, digest, expected, requests) in [
        ("image", &image, None, 2),
        ("signature", &signature, Some("a signature"), 1),
        ("chart", &chart, Some("a Helm chart"), 1),
        ("wasm", &wasm, None, 2),
        ("other", &other, Some(r#"an artifact of type "text/x""#), 2),
        ("index", &index, None, 3),
        ("index without platforms", &plain_index, None, 3),
        ("index of charts", &charts, Some("a Helm chart"), 2),
        ("referrers", &referrers, Some("an index of referrers"), 1),
        ("empty index", &empty, Some("an index without images"), 1),
    ] {
        let (described, sent) = all.describe(digest).await;
        assert_eq!(described.artifact.as_deref(), expected, "{name}");
        assert_eq!(sent, requests, "{name}");
    }
}
