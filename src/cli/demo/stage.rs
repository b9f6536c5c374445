//! Where the story is played: a registry and a Git server in this process, and tagboat as a user
//! sets it up, in one temporary folder.

use super::fleet;
use crate::{
    core::{
        error::ErrorKind,
        image::{Platform, Tag},
        secret::Secret,
    },
    io::registry::Tags,
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

/// The person who works on the config repository.
pub const PERSON: (&str, &str) = ("Ada", "ada@example.org");

/// The servers. They stop when this is dropped.
pub struct DemoServers {
    registry: SandboxRegistry,
    forge: SandboxForge,
    repository: BareRepository,
    config: PathBuf,
}

/// Something of the demo cannot be set up on this machine.
pub fn broken(error: impl Display) -> Failure {
    Failure::new(ErrorKind::Remote, format!("the demo cannot run: {error}"))
}

impl DemoServers {
    /// Starts the servers, makes the repository of the first day and writes `tagboat.yaml`, all in
    /// `folder`; `clusters` is what it says of them.
    pub async fn start(
        folder: &Path,
        clusters: &str,
        images: &[(&str, &str)],
        (web, worker): (&str, &str),
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let registry = SandboxRegistry::start().await?;
        let files = fleet::files(&registry.host(), web, worker);
        let first: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (*path, text.as_str()))
            .collect();
        let dir = folder.join("fleet.git");
        let repository = BareRepository::create(
            &dir,
            &first,
            PERSON,
            now.as_second(),
            "The shop, on its first day",
        )
        .map_err(broken)?;
        let token = Secret::new("demo");
        let forge = SandboxForge::start(repository.clone(), "shop/fleet", &token)
            .await
            .map_err(broken)?;
        fs::write(folder.join("token"), token.expose()).map_err(broken)?;
        let config = folder.join("tagboat.yaml");
        let process = format!(
            "repositories:\n- name: fleet\n  url: {}\n  policies: policies\n  interval: 5s\n  forge: {{kind: gitea, token: {{file: token}}}}\nregistries:\n- prefix: {}\n  insecure: true\nstore: store\n{clusters}",
            forge.clone_url(),
            registry.host()
        );
        fs::write(&config, process).map_err(broken)?;
        let stage = Self {
            registry,
            forge,
            repository,
            config,
        };
        for (path, tag) in images {
            stage.publish(path, tag).await?;
        }
        Ok(stage)
    }

    /// Opens what `tagboat run --config tagboat.yaml` opens, with the same code.
    pub fn open(&self) -> Result<Engine, Failure> {
        self.context()?.open()
    }

    /// Reads `tagboat.yaml`.
    pub fn context(&self) -> Result<ServiceContext, Failure> {
        ServiceContext::read(&SettingsFile {
            config: self.config.clone(),
            repository: None,
        })
    }

    /// Pushes an image for two platforms, as a CI job does.
    pub async fn publish(&self, path: &str, tag: &str) -> Result<(), Failure> {
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

    /// Commits whole files as a person does.
    pub fn commit(
        &self,
        files: &[(&str, &str)],
        message: &str,
        now: Timestamp,
    ) -> Result<String, Failure> {
        self.repository
            .commit(files, PERSON, now.as_second(), message)
            .map(|id| id.to_string())
            .map_err(broken)
    }

    /// The commit that the server's branch is at.
    pub fn head(&self) -> Result<String, Failure> {
        Ok(self
            .repository
            .head()
            .map_err(broken)?
            .map(|id| id.to_string())
            .unwrap_or_default())
    }

    /// The address of the registry: `127.0.0.1:port`.
    pub fn registry(&self) -> String {
        self.registry.host()
    }

    /// The address to clone from.
    pub fn clone_url(&self) -> String {
        self.forge.clone_url()
    }

    /// Where requests are opened.
    pub fn forge(&self) -> &SandboxForge {
        &self.forge
    }

    /// The process file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The tags that the registry lists.
    pub async fn tags(&self, updater: &ImageUpdater, path: &str) -> Result<Vec<String>, Failure> {
        let repository = self.registry.repository(path)?;
        match updater
            .scanner
            .registries
            .list_tags(&repository, None)
            .await?
        {
            Tags::Listed(listing) => Ok(listing.tags.iter().map(str::to_owned).collect()),
            Tags::NotModified => Ok(Vec::new()),
        }
    }
}

/// One pass at a moment of the story: what `run --once` and `plan` do.
pub async fn pass(updater: &ImageUpdater, mode: PassMode, now: Timestamp) -> PassReport {
    updater.pass(mode, &Rescan::All, now).await
}

/// A file of the newest commit that the mirror has.
pub fn file(updater: &ImageUpdater, path: &str) -> Result<String, Failure> {
    let head = updater
        .mirror
        .head()
        .ok_or_else(|| broken("the mirror is empty"))?;
    let file = updater
        .mirror
        .at(head)?
        .read(path)?
        .ok_or_else(|| broken(format_args!("{path} is gone")))?;
    String::from_utf8(file.bytes).map_err(broken)
}
