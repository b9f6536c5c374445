//! What commands that work on config repositories share: the process file, its store, and who has
//! it open.

use crate::cli::Failure;
use crate::{
    core::error::Classify,
    io::{
        connect::Connect,
        facts::Scanner,
        git::Mirror,
        render::Renderer,
        store::{OpenReport, Store},
    },
    preview::{PreviewClusters, Previewer, RevisionFiles},
    reconcile::{ReconcileMode, Reconciler},
    review,
    spec::settings::{self, ConfigRepository, Settings},
    update::ImageUpdater,
};
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio_util::sync::CancellationToken;

/// Which process file, and which of its repositories.
#[derive(Debug, Clone, clap::Args)]
pub struct ProcessOptions {
    /// The process file
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "tagboat.yaml",
        env = "TAGBOAT_CONFIG"
    )]
    pub config: PathBuf,

    /// Only this repository of the process file, by name
    #[arg(short, long, value_name = "NAME", env = "TAGBOAT_REPOSITORY")]
    pub repository: Option<String>,
}

/// A process file that was read.
pub struct ProcessContext {
    /// What it says.
    pub process: Settings,
    /// Makes of it what the edges take.
    pub connect: Connect,
    /// What is worth a warning in it.
    pub warnings: Vec<String>,
    folder: PathBuf,
    only: Option<String>,
}

/// Everything a process works with.
pub struct Engine {
    /// One for each config repository.
    pub updaters: Vec<Arc<ImageUpdater>>,
    /// What opening it all was worth saying.
    pub warnings: Vec<String>,
    /// Flushed at the end.
    pub scanner: Scanner,
    /// Renders what Applications name.
    pub renderer: Arc<Renderer>,
}

impl ProcessContext {
    /// Reads the process file.
    pub fn read(options: &ProcessOptions) -> Result<Self, Failure> {
        let file = &options.config;
        let source = fs::read_to_string(file).map_err(|error| {
            let failure = Failure::input(format!("{}: {error}", file.display()));
            match error.kind() {
                std::io::ErrorKind::NotFound => {
                    failure.hint("Name the process file with --config; README.md (\"tagboat.yaml\") shows what stands in it.")
                }
                _ => failure,
            }
        })?;
        let name = file.display().to_string();
        let (process, warnings) = settings::read(&name, &source).map_err(|mistakes| {
            let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            Failure::input(format!("{name} cannot be used:\n{}", lines.join("\n")))
        })?;
        if let Some(wanted) = &options.repository
            && !process
                .repositories
                .iter()
                .any(|repository| repository.name == *wanted)
        {
            let known: Vec<&str> = process
                .repositories
                .iter()
                .map(|repository| repository.name.as_str())
                .collect();
            return Err(Failure::input(format!(
                "{name}: there is no repository {wanted:?}; known are {}",
                known.join(", ")
            )));
        }
        let connect = Connect::new(file);
        let folder = match &process.store {
            Some(folder) => connect.path(folder),
            None => default_folder(),
        };
        let warnings = warnings.iter().map(ToString::to_string).collect();
        Ok(Self {
            process,
            connect,
            warnings,
            folder,
            only: options.repository.clone(),
        })
    }

    /// Where a daemon of this process file answers.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("tagboat.sock")
    }

    /// The repositories that were asked for.
    pub fn repositories(&self) -> impl Iterator<Item = &ConfigRepository> {
        self.process.repositories.iter().filter(|repository| {
            self.only
                .as_ref()
                .is_none_or(|only| *only == repository.name)
        })
    }

    /// Opens everything. Nothing is sent.
    ///
    /// # Errors
    /// If a secret is missing, or another process has the store.
    pub fn open(&self) -> Result<Engine, Failure> {
        let mut warnings = self.warnings.clone();
        let registries = Arc::new(self.connect.registries(&self.process)?);
        fs::create_dir_all(&self.folder)
            .map_err(|error| Failure::input(format!("store {}: {error}", self.folder.display())))?;
        let (store, opened) = Store::open(&self.folder.join("store.redb"))?;
        if let OpenReport::Rebuilt { moved_to, why } = opened {
            warnings.push(format!(
                "the store was damaged ({why}) and is begun anew; the old file is {}",
                moved_to.display()
            ));
        }
        let scanner = Scanner {
            registries,
            store: Arc::new(store),
        };
        let mut updaters = Vec::new();
        for repository in self.repositories() {
            let remote = self.connect.remote(repository)?;
            let key = self.connect.signing_key(repository)?;
            let folder = self
                .folder
                .join("repositories")
                .join(folder_name(repository));
            fs::create_dir_all(&folder)
                .map_err(|error| Failure::input(format!("store {}: {error}", folder.display())))?;
            let forge = self.connect.forge(repository)?;
            let mut mirror = Mirror::open(&folder.join("mirror"), remote).map_err(|error| {
                let hint = error.hint();
                let mut failure: Failure = error.into();
                failure.hint = hint;
                failure
            })?;
            if let Some(why) = mirror.rebuilt() {
                warnings.push(format!(
                    "{}: the mirror was not usable ({why}) and is cloned anew",
                    repository.name
                ));
            }
            if forge.is_some() {
                mirror = mirror.with_branches(review::PREFIX);
            }
            let updater =
                ImageUpdater::new(repository.clone(), mirror, folder, scanner.clone(), key);
            updaters.push(Arc::new(match forge {
                Some(forge) => updater.with_forge(forge),
                None => updater,
            }));
        }
        let renderer = Arc::new(Renderer::new(&self.render(), &self.folder.join("render")));
        Ok(Engine {
            updaters,
            warnings,
            scanner,
            renderer,
        })
    }

    /// How programs render; paths are relative to the process file, names are looked up on PATH.
    pub(crate) fn render(&self) -> settings::RenderSettings {
        let found = |program: &Path| {
            if program.components().count() > 1 {
                self.connect.path(program)
            } else {
                program.to_owned()
            }
        };
        let render = &self.process.render;
        settings::RenderSettings {
            kustomize: found(&render.kustomize),
            helm: found(&render.helm),
            ..render.clone()
        }
    }

    /// What makes previews of a repository: with the clusters that a reconciler has open, or else
    /// with clusters of its own. Nothing is sent.
    pub async fn previewer(
        &self,
        updater: &ImageUpdater,
        renderer: &Arc<Renderer>,
        reconciler: Option<&Reconciler>,
    ) -> Previewer {
        let (clusters, name) = (&self.process.clusters, &updater.config.name);
        Previewer {
            files: RevisionFiles::Mirror(Arc::clone(&updater.mirror)),
            policies: updater.config.policies.clone(),
            renderer: Arc::clone(renderer),
            clusters: match reconciler {
                Some(reconciler) => PreviewClusters::shared(clusters, name, reconciler),
                None => {
                    PreviewClusters::open(clusters, name, |path: &Path| self.connect.path(path))
                        .await
                }
            },
        }
    }

    /// Gives a repository with a forge its previewer, for the texts of requests. Nothing is sent.
    pub async fn preview_with(
        &self,
        updater: &ImageUpdater,
        renderer: &Arc<Renderer>,
        reconciler: Option<&Reconciler>,
    ) {
        if updater.forge.is_some() {
            let previewer = self.previewer(updater, renderer, reconciler).await;
            // Once set it stays: it is the same each time.
            let _ = updater.previews.set(Arc::new(previewer));
        }
    }

    /// Opens the clusters; nothing where none is named. Nothing is sent.
    ///
    /// # Errors
    /// If a kubeconfig cannot be used.
    pub async fn reconciler(
        &self,
        mode: ReconcileMode,
        stop: &CancellationToken,
    ) -> Result<Option<Arc<Reconciler>>, Failure> {
        if self.process.clusters.is_empty() {
            return Ok(None);
        }
        let resolve = |path: &Path| self.connect.path(path);
        Ok(Some(Arc::new(
            Reconciler::open(&self.process.clusters, resolve, mode, stop.clone()).await?,
        )))
    }
}

/// The folder of one repository's caches: its name for people, and a hash, since another URL or
/// branch is another mirror.
fn folder_name(repository: &ConfigRepository) -> String {
    let hash = Sha256::digest(format!("{}\n{}", repository.url, repository.branch));
    let name: String = repository
        .name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        })
        .collect();
    let short: String = hash
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{name}-{short}")
}

/// The caches of a user, by the XDG base directory specification.
fn default_folder() -> PathBuf {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(|| Path::new(".").to_owned())
        .join("tagboat")
}

/// The runtime of a command: two workers, as the machines it is made for have cores; Git and files
/// have threads of their own.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::input(format!("cannot start: {error}")))
}
