//! The registry client against a real docker-registry, with images that oci-client pushed.

use crate::{
    it::support::wire::{config, registries},
    servers::docker_registry::{DockerRegistry, Options, USER},
};
use oci_client::{
    Client, Reference, RegistryOperation,
    client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol, Config, ImageLayer},
    secrets::RegistryAuth,
};
use serde_json::json;
use std::path::PathBuf;
use tagboat::{
    core::{
        error::Classify,
        image::{Digest, ImageRepository, Tag},
        secret::Secret,
    },
    io::registry::{
        Proxy, Registries, RegistryConfig, RegistryLogin, RegistryProblem, RequestKind, Tags,
    },
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A client that pushes as users' tools do.
pub(super) struct Pusher {
    client: Client,
    auth: RegistryAuth,
    host: String,
}

impl Pusher {
    pub(super) async fn new(registry: &DockerRegistry) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (protocol, roots) = match registry.options.tls {
            true => {
                let data = std::fs::read(registry.ca_file()).unwrap();
                (
                    ClientProtocol::Https,
                    vec![Certificate {
                        encoding: CertificateEncoding::Pem,
                        data,
                    }],
                )
            }
            false => (ClientProtocol::Http, Vec::new()),
        };
        let client = Client::new(ClientConfig {
            protocol,
            extra_root_certificates: roots,
            ..ClientConfig::default()
        });
        let auth = match registry.options.sign_in {
            true => RegistryAuth::Basic(USER.0.to_owned(), USER.1.to_owned()),
            false => RegistryAuth::Anonymous,
        };
        Self {
            client,
            auth,
            host: registry.host.clone(),
        }
    }

    fn reference(&self, name: &str) -> Reference {
        format!("{}/{name}", self.host).parse().unwrap()
    }

    /// Pushes an image and returns its digest; `created` is written into the config.
    pub(super) async fn image(&self, name: &str, platform: (&str, &str), created: &str) -> Digest {
        let config = json!({
            "os": platform.0, "architecture": platform.1, "created": created,
            "config": {"Labels": {"org.opencontainers.image.revision": "abc123"}}, "rootfs": {"type": "layers", "diff_ids": []},
        });
        let config = Config::new(
            config.to_string().into_bytes(),
            "application/vnd.oci.image.config.v1+json".to_owned(),
            None,
        );
        let layer = ImageLayer::new(
            b"layer".to_vec(),
            "application/vnd.oci.image.layer.v1.tar".to_owned(),
            None,
        );
        let reference = self.reference(name);
        self.client
            .push(&reference, &[layer], config, &self.auth, None)
            .await
            .unwrap();
        self.digest(&reference).await
    }

    async fn digest(&self, reference: &Reference) -> Digest {
        Digest::new(
            self.client
                .fetch_manifest_digest(reference, &self.auth)
                .await
                .unwrap(),
        )
        .unwrap()
    }

    async fn raw(&self, name: &str, body: Vec<u8>, kind: &str) {
        self.client
            .push_manifest_raw(&self.reference(name), body, kind.parse().unwrap())
            .await
            .unwrap();
    }
}

fn poller(registry: &DockerRegistry, credentials: RegistryLogin) -> Registries {
    let ca_file: Option<PathBuf> = registry.options.tls.then(|| registry.ca_file());
    registries(vec![RegistryConfig {
        insecure: !registry.options.tls,
        ca_file,
        ..config(&registry.host, credentials)
    }])
}

fn signed_in() -> RegistryLogin {
    RegistryLogin::Basic {
        username: USER.0.into(),
        password: Secret::new(USER.1).into(),
    }
}

fn repository(registry: &DockerRegistry, path: &str) -> ImageRepository {
    ImageRepository::new(&format!("{}/{path}", registry.host)).unwrap()
}

fn tag(text: &str) -> Tag {
    Tag::new(text).unwrap()
}

/// Sorted, because this registry lists in the order of its file system.
async fn names(registries: &Registries, repository: &ImageRepository) -> Vec<String> {
    let Tags::Listed(listing) = registries.list_tags(repository, None).await.unwrap() else {
        panic!("304 to an unconditional request")
    };
    let mut names: Vec<String> = listing.tags.iter().map(str::to_owned).collect();
    names.sort();
    names
}

#[tokio::test]
#[ignore = "needs docker-registry: run tests/run registry"]
async fn images_have_digest_date_and_platforms() {
    for options in [
        Options::default(),
        Options {
            tls: true,
            sign_in: true,
        },
    ] {
        let registry = DockerRegistry::start(options);
        let pusher = Pusher::new(&registry).await;
        let amd = pusher
            .image("team/app:1.0", ("linux", "amd64"), "2026-11-01T10:00:00Z")
            .await;
        let arm = pusher
            .image("team/app:arm", ("linux", "arm64"), "1970-01-01T00:00:00Z")
            .await;
        let entry = |digest: &Digest, architecture: &str, size: usize| json!({"mediaType": MANIFEST, "digest": digest, "size": size, "platform": {"os": "linux", "architecture": architecture}});
        let mut sizes = Vec::new();
        for name in ["team/app:1.0", "team/app:arm"] {
            let (body, _) = pusher
                .client
                .pull_manifest_raw(&pusher.reference(name), &pusher.auth, &[MANIFEST])
                .await
                .unwrap();
            sizes.push(body.len());
        }
        let index = json!({
            "schemaVersion": 2, "mediaType": INDEX, "annotations": {"org.opencontainers.image.version": "2.0"},
            "manifests": [entry(&amd, "amd64", sizes[0]), entry(&arm, "arm64", sizes[1])],
        });
        pusher
            .raw("team/app:2.0", index.to_string().into_bytes(), INDEX)
            .await;

        let credentials = if options.sign_in {
            signed_in()
        } else {
            RegistryLogin::Anonymous
        };
        let registries = poller(&registry, credentials);
        let app = repository(&registry, "team/app");
        assert_eq!(names(&registries, &app).await, ["1.0", "2.0", "arm"]);
        assert_eq!(registries.digest(&app, &tag("1.0")).await.unwrap(), amd);
        let index = registries.digest(&app, &tag("2.0")).await.unwrap();
        let described = registries.describe(&app, &index).await.unwrap();
        assert_eq!(
            described
                .platforms
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            ["linux/amd64", "linux/arm64"]
        );
        assert_eq!(
            described.created.unwrap().to_string(),
            "2026-11-01T10:00:00Z",
            "its first image's"
        );
        assert_eq!(described.labels["org.opencontainers.image.version"], "2.0");
        let described = registries.describe(&app, &arm).await.unwrap();
        assert_eq!(
            (
                described.created,
                described.labels["org.opencontainers.image.revision"].as_str()
            ),
            (None, "abc123")
        );
        let stats = registries.stats();
        assert_eq!(
            (
                stats.total(RequestKind::Tags),
                stats.total(RequestKind::Head)
            ),
            (1, 2)
        );
        assert_eq!(
            stats.total(RequestKind::Challenge),
            u64::from(options.sign_in)
        );
        let missing = registries.digest(&app, &tag("none")).await.unwrap_err();
        assert_eq!(missing.problem, RegistryProblem::NotFound { what: "tag" });
        let missing = registries
            .list_tags(&repository(&registry, "team/none"), None)
            .await
            .unwrap_err();
        assert_eq!(
            missing.problem,
            RegistryProblem::NotFound { what: "repository" }
        );
    }
}

#[tokio::test]
#[ignore = "needs docker-registry: run tests/run registry"]
async fn tags_of_many_pages_are_listed_completely() {
    let registry = DockerRegistry::start(Options::default());
    let pusher = Pusher::new(&registry).await;
    pusher
        .image("many:0000", ("linux", "amd64"), "2026-11-01T10:00:00Z")
        .await;
    let reference = pusher.reference("many:0000");
    let (body, _) = pusher
        .client
        .pull_manifest_raw(&reference, &pusher.auth, &[MANIFEST])
        .await
        .unwrap();
    pusher
        .client
        .auth(&reference, &pusher.auth, RegistryOperation::Push)
        .await
        .unwrap();
    for n in 1..=1000 {
        pusher
            .raw(&format!("many:{n:04}"), body.to_vec(), MANIFEST)
            .await;
    }
    let expected: Vec<String> = (0..=1000).map(|n| format!("{n:04}")).collect();
    assert_eq!(
        names(
            &poller(&registry, RegistryLogin::Anonymous),
            &repository(&registry, "many")
        )
        .await,
        expected
    );
}

#[tokio::test]
#[ignore = "needs docker-registry: run tests/run registry"]
async fn refused_sign_in_names_the_account() {
    let registry = DockerRegistry::start(Options {
        tls: true,
        sign_in: true,
    });
    Pusher::new(&registry)
        .await
        .image("app:1", ("linux", "amd64"), "2026-11-01T10:00:00Z")
        .await;
    let app = repository(&registry, "app");
    let wrong = RegistryLogin::Basic {
        username: "robot".into(),
        password: Secret::new("hunter2").into(),
    };
    for (credentials, expected) in [
        (RegistryLogin::Anonymous, "with no credentials"),
        (wrong, r#"with user "robot""#),
    ] {
        let error = poller(&registry, credentials)
            .list_tags(&app, None)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.hint().is_some() && !format!("{error:?}").contains("hunter2"));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    // base64 of "robot:correct horse"
    let auth = json!({"auths": {format!("https://{}/v2/", registry.host): {"auth": "cm9ib3Q6Y29ycmVjdCBob3JzZQ=="}}});
    std::fs::write(&path, auth.to_string()).unwrap();
    assert_eq!(
        names(
            &poller(&registry, RegistryLogin::DockerConfig { path }),
            &app
        )
        .await,
        ["1"]
    );
}

#[tokio::test]
#[ignore = "needs docker-registry: run tests/run registry"]
async fn certificate_of_unknown_ca_is_refused() {
    let registry = DockerRegistry::start(Options {
        tls: true,
        sign_in: false,
    });
    let app = repository(&registry, "app");
    let unknown = RegistryConfig {
        proxy: Proxy::Direct,
        ..RegistryConfig::new(&*registry.host)
    };
    let error = registries(vec![unknown])
        .list_tags(&app, None)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("cannot reach")
            && error.hint().is_some_and(|hint| hint.contains("caFile")),
        "{error}"
    );
    let plain = registries(vec![config(&registry.host, RegistryLogin::Anonymous)])
        .list_tags(&app, None)
        .await
        .unwrap_err();
    assert!(plain.to_string().contains("answered 400"), "{plain}");
}
