//! The servers of the demo, and tagboat set up as a user sets it up, in one temporary folder.

use super::seed;
use crate::{
    core::{
        error::ErrorKind,
        image::{Platform, Tag},
        secret::Secret,
    },
    io::registry::{RegistryTimeouts, Tags},
    sandbox::{
        forge::SandboxForge,
        git::BareRepository,
        registry::{SandboxImage, SandboxRegistry},
    },
    service::{
        Failure,
        engine::{Engine, ServiceContext, SettingsFile},
    },
    update::{ImageUpdater, PassMode, PassReport, Rescan},
};
use jiff::Timestamp;
use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
};

/// The token of the bot at the forge; everything listens on loopback only.
pub(super) const TOKEN: &str = "demo";

/// The user who works on the config repository.
pub(super) const ADA: (&str, &str) = ("Ada", "ada@example.org");

/// A registry, a forge with its Git repository, and the settings. The servers stop when dropped.
pub(super) struct DemoServers {
    registry: SandboxRegistry,
    forge: SandboxForge,
    repository: BareRepository,
    config: PathBuf,
}

/// The failure to set up something on this machine.
pub(super) fn setup_failure(error: impl Display) -> Failure {
    Failure::new(ErrorKind::Local, format!("cannot run the demo: {error}"))
}

impl DemoServers {
    /// Starts the servers, creates the repository and writes `tagboat.yaml`, all in `folder`.
    /// `clusters` is the clusters part of the settings.
    pub(super) async fn start(
        folder: &Path,
        clusters: &str,
        images: &[(&str, &str)],
        (web, worker): (&str, &str),
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let registry = SandboxRegistry::start().await?;
        let files = seed::files(&registry.host(), web, worker);
        let repository = BareRepository::create(
            &folder.join("fleet.git"),
            &seed::borrowed(&files),
            ADA,
            now.as_second(),
            "The shop, on its first day",
        )
        .map_err(setup_failure)?;
        let token = Secret::new(TOKEN);
        let forge = SandboxForge::start(repository.clone(), "shop/fleet", &token)
            .await
            .map_err(setup_failure)?;
        fs::write(folder.join("token"), token.expose()).map_err(setup_failure)?;
        let config = folder.join("tagboat.yaml");
        let settings = format!(
            "repositories:
- name: fleet
  url: {}
  policies: policies
  interval: 5s
  forge: {{kind: gitea, token: {{file: token}}}}
registries:
- prefix: {}
  insecure: true
  minimumInterval: 5s
store: store
{clusters}",
            forge.clone_url(),
            registry.host()
        );
        fs::write(&config, settings).map_err(setup_failure)?;
        let servers = Self {
            registry,
            forge,
            repository,
            config,
        };
        for (path, tag) in images {
            servers.publish(path, tag).await?;
        }
        Ok(servers)
    }

    /// Opens what `tagboat run --config tagboat.yaml` opens, with the same code.
    pub(super) fn open(&self) -> Result<Engine, Failure> {
        self.context()?.open(RegistryTimeouts::default())
    }

    pub(super) fn context(&self) -> Result<ServiceContext, Failure> {
        ServiceContext::read(&SettingsFile {
            is_named: true,
            config: self.config.clone(),
            repository: None,
        })
    }

    /// Pushes an image for two platforms, as a CI job does.
    pub(super) async fn publish(&self, path: &str, tag: &str) -> Result<(), Failure> {
        let platforms = ["amd64", "arm64"]
            .iter()
            .map(|architecture| Platform::new("linux", architecture, None))
            .collect::<Result<_, _>>();
        let image = SandboxImage {
            platforms: platforms?,
            salt: format!("{path}:{tag}"),
            ..SandboxImage::default()
        };
        self.registry.publish(path, &Tag::new(tag)?, &image).await?;
        Ok(())
    }

    /// Commits whole files as Ada; returns the commit.
    pub(super) fn commit(
        &self,
        files: &[(&str, &str)],
        message: &str,
        now: Timestamp,
    ) -> Result<String, Failure> {
        self.repository
            .commit(files, ADA, now.as_second(), message)
            .map(|id| id.to_string())
            .map_err(setup_failure)
    }

    /// Returns the head of the branch on the server.
    pub(super) fn head(&self) -> Result<String, Failure> {
        let head = self.repository.head().map_err(setup_failure)?;
        Ok(head.map(|id| id.to_string()).unwrap_or_default())
    }

    /// Returns the address of the registry, as `127.0.0.1:PORT`.
    pub(super) fn registry(&self) -> String {
        self.registry.host()
    }

    pub(super) fn clone_url(&self) -> String {
        self.forge.clone_url()
    }

    pub(super) fn forge(&self) -> &SandboxForge {
        &self.forge
    }

    /// Returns the path of the settings.
    pub(super) fn config(&self) -> &Path {
        &self.config
    }

    /// Returns the tags that the registry lists.
    pub(super) async fn tags(
        &self,
        updater: &ImageUpdater,
        path: &str,
    ) -> Result<Vec<String>, Failure> {
        let repository = self.registry.repository(path)?;
        let registries = &updater.scanner.registries;
        match registries.list_tags(&repository, None).await? {
            Tags::Listed(listing) => Ok(listing.tags.iter().map(str::to_owned).collect()),
            Tags::NotModified => Ok(Vec::new()),
        }
    }
}

/// Makes a pass at a time of the story, as `run --once` and `plan` do.
pub(super) async fn pass(updater: &ImageUpdater, mode: PassMode, now: Timestamp) -> PassReport {
    updater.pass(mode, &Rescan::All, now).await
}

/// Returns a file of the newest commit in the mirror.
pub(super) fn file(updater: &ImageUpdater, path: &str) -> Result<String, Failure> {
    let mirror = &updater.repo.mirror;
    let head = mirror
        .head()
        .ok_or_else(|| setup_failure("the mirror is empty"))?;
    let file = mirror
        .at(head)?
        .read(path)?
        .ok_or_else(|| setup_failure(format_args!("{path} is missing")))?;
    String::from_utf8(file.bytes).map_err(setup_failure)
}
