//! A registry in this process: ferro-oci-server on a loopback port, in memory.
//!
//! Images are put straight into its stores; every reader speaks HTTP to it, as to any other
//! registry.

use crate::core::image::{Digest, ImageRepository, Platform, Tag};
use axum::Router;
use ferro_blob_store::{Digest as BlobDigest, InMemoryBlobStore};
use ferro_oci_server::{AppState, InMemoryRegistryMeta, Reference, router};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// A tar archive of no files (1,024 zero bytes), compressed: the smallest layer that any client
/// unpacks.
const EMPTY_LAYER: [u8; 29] = [
    31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 99, 96, 24, 5, 163, 96, 20, 140, 84, 0, 0, 46, 175, 181, 239,
    0, 4, 0, 0,
];
/// The digest of that archive before compression.
const EMPTY_TAR: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// The metadata of a sandbox image.
#[derive(Debug, Clone, Default)]
pub struct SandboxImage {
    /// The creation date, as annotation and in the config.
    pub created: Option<Timestamp>,
    /// With more than one, an index is pushed; with none, an image for `linux/amd64`.
    pub platforms: Vec<Platform>,
    pub labels: BTreeMap<String, String>,
    /// Makes two images with equal fields differ: "rebuilt".
    pub salt: String,
}

/// An error of the sandbox registry.
#[derive(Debug, thiserror::Error)]
pub enum SandboxRegistryError {
    #[error("sandbox registry: no loopback port: {0}")]
    Listen(#[from] std::io::Error),
    /// The server's store refused.
    #[error("sandbox registry: {subject}: {why}")]
    Store { subject: String, why: String },
}

impl crate::core::error::Classify for SandboxRegistryError {
    fn kind(&self) -> crate::core::error::ErrorKind {
        match self {
            SandboxRegistryError::Listen(_) => crate::core::error::ErrorKind::Remote,
            SandboxRegistryError::Store { .. } => crate::core::error::ErrorKind::Bug,
        }
    }
}

/// A running registry. [`SandboxRegistry::stop`] ends it after the requests it is at; dropping it
/// ends it, too.
pub struct SandboxRegistry {
    address: SocketAddr,
    state: Arc<AppState>,
    stop: CancellationToken,
    server: Option<JoinHandle<std::io::Result<()>>>,
}

impl SandboxRegistry {
    /// Starts one on a free loopback port.
    ///
    /// # Errors
    /// If there is none.
    pub async fn start() -> Result<Self, SandboxRegistryError> {
        Self::start_with(|app| app).await
    }

    /// Starts one behind a layer, which sees every request first: tests put their faults there.
    ///
    /// # Errors
    /// If there is no loopback port.
    pub async fn start_with(
        layer: impl FnOnce(Router) -> Router,
    ) -> Result<Self, SandboxRegistryError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state = AppState::new(
            Arc::new(InMemoryBlobStore::new()),
            Arc::new(InMemoryRegistryMeta::new()),
        );
        let stop = CancellationToken::new();
        let app = layer(router(state.clone()));
        let serve =
            axum::serve(listener, app).with_graceful_shutdown(stop.clone().cancelled_owned());
        let server = tokio::spawn(async move { serve.await });
        Ok(Self {
            address,
            state,
            stop,
            server: Some(server),
        })
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The repository at `path` here.
    ///
    /// # Errors
    /// If `path` is none of a repository.
    pub fn repository(
        &self,
        path: &str,
    ) -> Result<ImageRepository, crate::core::image::ImageError> {
        ImageRepository::new(&format!("{}/{path}", self.host()))
    }

    /// Puts a tiny image (or an index of them) at `path:tag` and gives its digest. The same image
    /// twice is one digest.
    ///
    /// # Errors
    /// If the server's store refuses.
    pub async fn publish(
        &self,
        path: &str,
        tag: &Tag,
        image: &SandboxImage,
    ) -> Result<Digest, SandboxRegistryError> {
        let mut annotations = image.labels.clone();
        if let Some(created) = image.created {
            annotations.insert(
                "org.opencontainers.image.created".to_owned(),
                created.to_string(),
            );
        }
        let platforms = match image.platforms.as_slice() {
            [] => vec!["linux/amd64".to_owned()],
            platforms => platforms.iter().map(ToString::to_string).collect(),
        };
        let mut children = Vec::new();
        for platform in &platforms {
            let mut words = platform.split('/');
            let mut place = json!({"os": words.next(), "architecture": words.next()});
            if let Some(variant) = words.next() {
                place["variant"] = json!(variant);
            }
            let mut config = place.clone();
            config["config"] =
                json!({"Labels": image.labels, "Env": [format!("SALT={}", image.salt)]});
            config["rootfs"] = json!({"type": "layers", "diff_ids": [EMPTY_TAR]});
            if let Some(created) = image.created {
                config["created"] = json!(created.to_string());
            }
            let manifest = json!({
                "schemaVersion": 2, "mediaType": MANIFEST, "annotations": annotations,
                "config": self.blob(CONFIG, config.to_string().into_bytes()).await?,
                "layers": [self.blob(LAYER, EMPTY_LAYER.to_vec()).await?],
            });
            // The last manifest of a tag wins, so that one image needs no index.
            let at = if platforms.len() == 1 {
                Some(tag)
            } else {
                None
            };
            let mut child = self.manifest(path, at, MANIFEST, &manifest).await?;
            child["platform"] = place;
            children.push(child);
        }
        let descriptor = match children.as_slice() {
            [only] => only.clone(),
            _ => {
                let index = json!({"schemaVersion": 2, "mediaType": INDEX, "annotations": annotations, "manifests": children});
                self.manifest(path, Some(tag), INDEX, &index).await?
            }
        };
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        Digest::new(digest).map_err(|error| SandboxRegistryError::Store {
            subject: format!("{path}:{tag}"),
            why: error.to_string(),
        })
    }

    /// Ends the server after the requests it is at, and waits for that.
    ///
    /// # Errors
    /// If it ended badly before.
    pub async fn stop(mut self) -> Result<(), SandboxRegistryError> {
        self.stop.cancel();
        match self.server.take() {
            Some(server) => Ok(server.await.map_err(std::io::Error::other)??),
            None => Ok(()),
        }
    }

    async fn blob(&self, media_type: &str, bytes: Vec<u8>) -> Result<Value, SandboxRegistryError> {
        let digest = BlobDigest::sha256_of(&bytes);
        let descriptor =
            json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()});
        let stored = self.state.blob_store.put(&digest, bytes.into()).await;
        stored.map_err(|error| SandboxRegistryError::Store {
            subject: "blob".to_owned(),
            why: error.to_string(),
        })?;
        Ok(descriptor)
    }

    async fn manifest(
        &self,
        path: &str,
        tag: Option<&Tag>,
        media_type: &str,
        body: &Value,
    ) -> Result<Value, SandboxRegistryError> {
        let bytes = body.to_string().into_bytes();
        let digest = BlobDigest::sha256_of(&bytes);
        let descriptor =
            json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()});
        let reference = match tag {
            Some(tag) => Reference::Tag(tag.to_string()),
            None => Reference::Digest(digest.clone()),
        };
        let stored = self
            .state
            .registry
            .put_manifest(path, &reference, &digest, media_type, bytes.into())
            .await;
        stored.map_err(|error| SandboxRegistryError::Store {
            subject: path.to_owned(),
            why: error.to_string(),
        })?;
        Ok(descriptor)
    }
}

impl Drop for SandboxRegistry {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
