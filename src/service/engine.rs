//! The settings, and everything that a process opens from them: store, mirrors, clusters.

use super::{Failure, checkout_trust, types::available};
use crate::{
    core::{error::Classify, text::hex},
    events::Recorder,
    io::{
        connect::Connect,
        facts::Scanner,
        git::Mirror,
        private,
        registry::RegistryTimeouts,
        render::{Renderer, sandbox_warning},
        store::{OpenReport, Store},
    },
    preview::{PreviewClusters, Previewer, RevisionFiles},
    reconcile::{ReconcileMode, Reconciler},
    review,
    spec::{
        Diagnostic,
        settings::{self, ConfigRepository, Settings},
    },
    update::{CommitVerifier, DeclarationScope, DeclaredNames, ImageUpdater},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio_util::sync::CancellationToken;

/// The settings file, and the repository to use of it.
#[derive(Debug, Clone)]
pub struct SettingsFile {
    /// The path.
    pub config: PathBuf,
    /// True if the user named it. A `tagboat.yaml` that is only found in a Git working copy may
    /// choose no program and no credential.
    pub is_named: bool,
    /// The name of the only config repository to use; all if none.
    pub repository: Option<String>,
}

/// The identity of a process's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsIdentity {
    /// The canonical path of the settings file.
    pub path: PathBuf,
    /// The SHA-256 of its content, in hexadecimal.
    pub content: String,
}

/// The settings of a process.
pub struct ServiceContext {
    /// The settings.
    pub settings: Settings,
    /// Opens what the settings name.
    pub connect: Connect,
    /// Warnings about the settings.
    pub warnings: Vec<String>,
    /// Delivers events to the sinks of this process.
    pub events: Recorder,
    /// The settings file and its content, by which a daemon knows its own commands.
    pub identity: SettingsIdentity,
    /// The folder of the store.
    folder: PathBuf,
    /// The settings file as the user named it.
    file: SettingsFile,
}

/// Everything that a process has open.
pub struct Engine {
    /// One for each config repository.
    pub updaters: Vec<Arc<ImageUpdater>>,
    /// Warnings about the settings, the store and the mirrors.
    pub warnings: Vec<String>,
    /// Registries and store; the store has to be flushed at the end.
    pub scanner: Scanner,
    /// Renders Applications.
    pub renderer: Arc<Renderer>,
}

impl ServiceContext {
    /// Reads the settings.
    ///
    /// # Errors
    /// If the file cannot be read, is invalid, or has no repository of the given name; or if it
    /// has settings that count only in a file that the user has named.
    pub fn read(options: &SettingsFile) -> Result<Self, Failure> {
        let context = Self::parse(options, &read_file(&options.config)?)?;
        if !options.is_named {
            checkout_trust::check(&context.settings, &options.config)?;
        }
        Ok(context)
    }

    /// Takes the settings from the text of a file, wherever it comes from.
    ///
    /// # Errors
    /// If it is invalid, or has no repository of the given name.
    pub(super) fn parse(options: &SettingsFile, source: &str) -> Result<Self, Failure> {
        let file = &options.config;
        let name = file.display().to_string();
        let (settings, warnings) = parse(file, source, settings::read)?;
        let mut names = settings.repositories.iter().map(|one| &one.name);
        if let Some(only) = &options.repository
            && names.all(|name| name != only)
        {
            let names = settings.repositories.iter().map(|one| one.name.clone());
            return Err(Failure::input(format!(
                "{name}: no repository {only:?}; {}",
                available(names)
            )));
        }
        let connect = Connect::new(file);
        let identity = SettingsIdentity::of(file, source);
        let folder = match &settings.store {
            Some(folder) => connect.path(folder),
            None => default_folder(&identity.path),
        };
        let warnings = warnings.iter().map(ToString::to_string).collect();
        Ok(Self {
            settings,
            connect,
            warnings,
            events: Recorder::default(),
            identity,
            folder,
            file: options.clone(),
        })
    }

    /// Reads the settings again, from the same file.
    ///
    /// # Errors
    /// As [`ServiceContext::read`].
    pub fn read_again(&self) -> Result<Self, Failure> {
        // The argument may be a link that leads elsewhere now.
        Self::read(&self.file)
    }

    /// Checks that everything the settings name can be opened: secrets, keys and kubeconfigs.
    /// Sends nothing, and opens no store.
    ///
    /// # Errors
    /// The first reason why these settings cannot be used.
    pub async fn try_out(&self) -> Result<(), Failure> {
        let timeouts = RegistryTimeouts::default();
        self.connect
            .registries(&self.settings.registries, timeouts)?;
        for repository in self.repositories() {
            self.connect.remote(repository)?;
            self.connect.signing_key(repository)?;
            if let Some(verify) = &repository.verify {
                self.connect.commit_keys(repository, verify, None)?;
            }
            self.connect.forge(repository)?;
        }
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        self.reconciler(ReconcileMode::Plan, &stop).await.map(drop)
    }

    /// The local socket of a daemon with these settings.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("tagboat.sock")
    }

    /// Returns what the config repositories declared when they were read last, for the shell's
    /// completion. Reads small files, and opens nothing.
    pub fn declared_names(&self) -> Vec<DeclaredNames> {
        self.repositories()
            .filter_map(|repository| DeclaredNames::read(&self.repository_folder(repository)))
            .collect()
    }

    /// The folder of a config repository in the store.
    fn repository_folder(&self, repository: &ConfigRepository) -> PathBuf {
        self.folder
            .join("repositories")
            .join(folder_name(repository))
    }

    /// The config repositories to use.
    pub fn repositories(&self) -> impl Iterator<Item = &ConfigRepository> {
        self.settings.repositories.iter().filter(|repository| {
            self.file
                .repository
                .as_ref()
                .is_none_or(|only| *only == repository.name)
        })
    }

    /// Opens the store and the mirrors. Sends nothing.
    ///
    /// # Errors
    /// If a secret is missing, or another process has the store open.
    pub fn open(&self, timeouts: RegistryTimeouts) -> Result<Engine, Failure> {
        let mut warnings = self.warnings.clone();
        let registries = self
            .connect
            .registries(&self.settings.registries, timeouts)?;
        let registries = Arc::new(registries);
        let private_folder = |folder: &Path| {
            private::create_folder(folder)
                .map_err(|error| Failure::input(format!("store {}: {error}", folder.display())))
        };
        // An existing folder that the user named may have other uses; what is in it is closed.
        if !self.folder.is_dir() {
            private_folder(&self.folder)?;
        }
        let (store, opened) = Store::open(&self.folder.join("store.redb"))?;
        if let OpenReport::Rebuilt { moved_to, why } = opened {
            warnings.push(format!(
                "the store was damaged ({why}) and has been recreated; the old file is {}",
                moved_to.display()
            ));
        }
        let scanner = Scanner::new(registries, Arc::new(store));
        private_folder(&self.folder.join("repositories"))?;
        let mut updaters = Vec::new();
        let has_several = self.settings.repositories.len() > 1;
        for repository in self.repositories() {
            let remote = self.connect.remote(repository)?;
            let key = self.connect.signing_key(repository)?;
            let folder = self.repository_folder(repository);
            private_folder(&folder)?;
            let forge = self.connect.forge(repository)?;
            let mut mirror = Mirror::open(&folder.join("mirror"), remote).map_err(|error| {
                let hint = error.hint();
                let mut failure: Failure = error.into();
                failure.hint = hint;
                failure
            })?;
            if let Some(why) = mirror.rebuilt() {
                warnings.push(format!(
                    "{}: the mirror was damaged ({why}) and is cloned again",
                    repository.name
                ));
            }
            if forge.is_some() {
                mirror = mirror.with_branches(review::PREFIX);
            }
            let own = match has_several {
                true => scanner.owned_by(&repository.name),
                false => scanner.clone(),
            };
            let mut updater = ImageUpdater::new(repository.clone(), mirror, folder, own, key);
            if let Some(verifier) = self.verifier(repository, &mut warnings)? {
                updater = updater.with_verifier(verifier);
            }
            updaters.push(Arc::new(match forge {
                Some(forge) => updater.with_forge(forge),
                None => updater,
            }));
        }
        warnings.extend(sandbox_warning(&self.settings.render));
        let renderer = Renderer::new(&self.render(), &self.folder.join("render"));
        let renderer = renderer.keeping(&self.folder.join("renderings"), &self.events);
        Ok(Engine {
            updaters,
            warnings,
            scanner,
            renderer: Arc::new(renderer),
        })
    }

    /// Returns the verifier of a repository whose commits must be signed.
    fn verifier(
        &self,
        repository: &ConfigRepository,
        warnings: &mut Vec<String>,
    ) -> Result<Option<CommitVerifier>, Failure> {
        let Some(verify) = &repository.verify else {
            return Ok(None);
        };
        if repository.signing_key.is_none() {
            warnings.push(format!(
                "repository {}: tagboat signs no commits, and verify deploys none without a \
                 signature: set signingKey, or have pull requests merged by people or the forge",
                repository.name
            ));
        }
        let folder = self.repository_folder(repository).join("keyring");
        let keys = self
            .connect
            .commit_keys(repository, verify, Some(&folder))?;
        Ok(Some(CommitVerifier::new(verify.clone(), keys)))
    }

    /// Returns the render settings. Paths are relative to the settings file; names without a slash
    /// are looked up on PATH.
    pub(crate) fn render(&self) -> settings::RenderSettings {
        let resolve = |program: &Path| match program.components().count() {
            1 => program.to_owned(),
            _ => self.connect.path(program),
        };
        let render = &self.settings.render;
        settings::RenderSettings {
            kustomize: resolve(&render.kustomize),
            helm: resolve(&render.helm),
            ..render.clone()
        }
    }

    /// Returns the kubeconfigs of the clusters.
    pub(super) fn kubeconfigs(&self) -> Vec<PathBuf> {
        let clusters = self.settings.clusters.iter();
        clusters
            .filter_map(|cluster| Some(self.connect.path(cluster.kubeconfig.as_deref()?)))
            .collect()
    }

    /// Returns the previewer of a repository, with the clusters of a reconciler or connections of
    /// its own. Sends nothing.
    pub async fn previewer(
        &self,
        updater: &ImageUpdater,
        renderer: &Arc<Renderer>,
        reconciler: Option<&Reconciler>,
    ) -> Previewer {
        let clusters = &self.settings.clusters;
        Previewer {
            files: RevisionFiles::Mirror(Arc::clone(&updater.repo.mirror)),
            scope: DeclarationScope::from(&updater.repo.config),
            renderer: Arc::clone(renderer),
            clusters: match reconciler {
                Some(reconciler) => PreviewClusters::shared(clusters, reconciler),
                None => {
                    let resolve = |path: &Path| self.connect.path(path);
                    PreviewClusters::open(clusters, resolve, &self.events).await
                }
            },
        }
    }

    /// Sets the previewer of a repository with a forge, for the texts of its pull requests. Sends
    /// nothing.
    pub async fn preview_with(
        &self,
        updater: &ImageUpdater,
        renderer: &Arc<Renderer>,
        reconciler: Option<&Reconciler>,
    ) {
        if updater.forge.is_some() {
            let previewer = self.previewer(updater, renderer, reconciler).await;
            // A previewer that is set already is the same.
            let _ = updater.previews.set(Arc::new(previewer));
        }
    }

    /// Opens the clusters; none if the settings name none. Sends nothing.
    ///
    /// # Errors
    /// If a kubeconfig cannot be used.
    pub async fn reconciler(
        &self,
        mode: ReconcileMode,
        stop: &CancellationToken,
    ) -> Result<Option<Arc<Reconciler>>, Failure> {
        if self.settings.clusters.is_empty() {
            return Ok(None);
        }
        let resolve = |path: &Path| self.connect.path(path);
        Ok(Some(Arc::new(
            Reconciler::open(
                &self.settings.clusters,
                resolve,
                mode,
                &self.events,
                stop.clone(),
            )
            .await?,
        )))
    }
}

impl SettingsIdentity {
    fn of(file: &Path, source: &str) -> Self {
        Self {
            // The file was just read, so that this fails only in a race with its removal.
            path: fs::canonicalize(file).unwrap_or_else(|_| file.to_owned()),
            content: hex(&Sha256::digest(source)),
        }
    }

    /// Checks that a client has the settings of this daemon.
    ///
    /// # Errors
    /// If it has another settings file, or the file was changed after the daemon has read it.
    pub fn check(&self, client: &Self) -> Result<(), Failure> {
        if self.path != client.path {
            return Err(Failure::input(format!(
                "the daemon that uses this store has the settings file {}, this command has {}",
                self.path.display(),
                client.path.display()
            ))
            .hint("Give each settings file a `store` of its own, or leave `store` out."));
        }
        if self.content != client.content {
            return Err(Failure::input(format!(
                "{} has changed since the daemon has read it",
                self.path.display()
            ))
            .hint("Send the daemon SIGHUP, so that it reads the file again, or restart it."));
        }
        Ok(())
    }
}

/// Reads a settings file, or a part of it.
///
/// # Errors
/// If the file cannot be read or that part is invalid.
pub(super) fn read_settings<T>(
    file: &Path,
    read: impl FnOnce(&str, &str) -> Result<(T, Vec<Diagnostic>), Vec<Diagnostic>>,
) -> Result<(T, Vec<Diagnostic>), Failure> {
    let source = read_file(file)?;
    parse(file, &source, read)
}

/// Reads the text of a settings file.
fn read_file(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|error| {
        let failure = Failure::input(format!("{}: {error}", file.display()));
        match error.kind() {
            std::io::ErrorKind::NotFound => failure
                .hint("Name the settings file with --config, or draft one with `tagboat init`."),
            _ => failure,
        }
    })
}

/// Parses the text of a settings file, or a part of it.
fn parse<T>(
    file: &Path,
    source: &str,
    read: impl FnOnce(&str, &str) -> Result<(T, Vec<Diagnostic>), Vec<Diagnostic>>,
) -> Result<(T, Vec<Diagnostic>), Failure> {
    let name = file.display().to_string();
    read(&name, source).map_err(|diagnostics| {
        let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        Failure::input(format!("{name} is invalid:\n{}", lines.join("\n")))
    })
}

/// Returns the folder name of a repository's caches. Another URL or branch needs another mirror.
fn folder_name(repository: &ConfigRepository) -> String {
    let branch = repository.branch.as_deref().unwrap_or("HEAD");
    let key = format!("{}\n{branch}", repository.url);
    keyed_name(&repository.name, key.as_bytes())
}

/// Returns a folder name: a name for people, and a hash of the key.
fn keyed_name(name: &str, key: &[u8]) -> String {
    let name: String = name
        .chars()
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() || c == '-' => c,
            _ => '_',
        })
        .collect();
    format!("{name}-{}", hex(&Sha256::digest(key)[..6]))
}

/// Returns the folder of a settings file below the user's cache folder (XDG Base Directory
/// Specification). It is named after the folder that the file is in.
fn default_folder(settings: &Path) -> PathBuf {
    let parent = settings.parent().and_then(Path::file_name);
    // The path of a socket has a hundred bytes in all.
    let name: String = parent
        .map_or("root".into(), |name| name.to_string_lossy())
        .chars()
        .take(24)
        .collect();
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(|| Path::new(".").to_owned())
        .join("tagboat")
        .join(keyed_name(&name, settings.as_os_str().as_encoded_bytes()))
}

/// Builds the async runtime. Two workers suffice: Git and files have threads of their own.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::input(format!("cannot start the runtime: {error}")))
}
