//! Renders an Application's folder at a revision into objects.
//!
//! A folder with a kustomization is built by `kustomize`, one with a Chart.yaml rendered by `helm
//! template`, in a copy of its inputs, through `subprocess.rs`; any other folder is read as plain
//! manifests. Everything blocks.
//!
//! Results are cached by the options, the renderer and the ids of every folder and file that the
//! rendering may have read. Another commit costs a few tree lookups for each Application with
//! unchanged inputs, and a change of a shared base reaches everything that reads it.

mod cache;
mod confinement;
mod subprocess;
#[cfg(target_os = "linux")]
mod system_calls;
mod error;
mod finish;
mod helm;
mod in_process;
mod inputs;
mod kept;
mod kustomize;
mod paths;
mod plain;
mod tree;
mod program;

pub use confinement::{sandbox_gap, sandbox_warning};
pub use error::{RenderError, RenderLimit};
pub use subprocess::find as find_program;

use crate::{
    events::Recorder,
    io::git::{Mirror, ObjectId, Revision},
    objects::{
        kustomize::Handover,
        object::{CompactObject, Object, ObjectKey, ObjectOrigin},
    },
    spec::{Application, Helm, resolve, settings::RenderSettings},
};
pub use cache::InputsKey;
use cache::{KnownInputs, RenderCache};
use finish::finished;
use in_process::InProcess;
pub use inputs::{RenderInputs, RenderPrograms};
use kept::KeptRenderings;
use kustomize::ReadPaths;
use paths::{join, outermost, shown};
use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};
use tree::{EntryType, RenderTree};

/// The folder to render, with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderSource {
    /// The folder, from the root, without a slash at its end; the root itself is empty.
    pub path: String,
    pub helm: Option<Helm>,
    /// The name of the release where `helm` has none.
    pub name: String,
    /// The release namespace of a chart.
    pub namespace: String,
    /// The most bytes of a file that is read, where a tenant has a limit.
    pub file_limit: Option<u64>,
}

impl From<&Application> for RenderSource {
    fn from(application: &Application) -> Self {
        Self {
            path: application.path.trim_end_matches('/').to_owned(),
            helm: application.helm.clone(),
            name: application.name.name().to_owned(),
            namespace: application
                .target_namespace
                .clone()
                .unwrap_or_else(|| application.name.namespace().to_owned()),
            file_limit: application.rights.limits().map(|limits| limits.file_size),
        }
    }
}

/// The objects of a folder.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// Manifests in the order of files and documents, each with its origin; compact, since they are
    /// cached.
    pub manifests: Vec<CompactObject>,
    pub how: RenderMethod,
    /// Skipped or suspicious content, one line each.
    pub warnings: Vec<String>,
    /// Declarations below the folder: they are tagboat's, not the cluster's.
    pub left_out: Vec<(ObjectOrigin, ObjectKey)>,
    /// SHA-256 over the objects, in hex: equal where they are.
    pub hash: String,
    /// The inputs, where they lie in Git.
    pub inputs: Option<RenderInputs>,
}

impl Rendered {
    pub fn objects(&self) -> Vec<Object> {
        self.manifests
            .iter()
            .filter_map(|manifest| manifest.object().ok())
            .collect()
    }
}

/// The renderer of the objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum RenderMethod {
    Plain,
    KustomizeInProcess,
    Kustomize {
        /// The reported version, "v5.8.1".
        version: String,
    },
    Helm {
        /// The reported version, "v4.2.4".
        version: String,
    },
}

impl fmt::Display for RenderMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RenderMethod::Plain => f.write_str("plain manifests"),
            RenderMethod::KustomizeInProcess => f.write_str("kustomize, in the process"),
            RenderMethod::Kustomize { version } => write!(f, "kustomize {version}"),
            RenderMethod::Helm { version } => write!(f, "helm {version}"),
        }
    }
}

/// Renders, and remembers.
#[derive(Debug)]
pub struct Renderer {
    settings: RenderSettings,
    folder: PathBuf,
    cache: Mutex<RenderCache>,
    kept: Option<KeptRenderings>,
    keeping_fails: AtomicBool,
    events: Recorder,
    programs: Mutex<HashMap<ProgramIdentity, Arc<str>>>,
    runs: AtomicU64,
}

/// The beginning of a rendering.
#[derive(Debug)]
pub enum RenderStart {
    /// Plain manifests, or a cached result.
    Done(Arc<Rendered>),
    Program(PendingProgram),
}

/// A call of kustomize or helm that a rendering needs.
#[derive(Debug)]
pub struct PendingProgram {
    way: FolderKind,
    /// The reason why kustomize is needed.
    handover: Option<Handover>,
    paths: Arc<[String]>,
    remote: bool,
    /// The hash of all inputs: the files, the options and the program; none without Git.
    pub(crate) inputs: Option<InputsKey>,
}

/// The identity of a binary: a replaced or modified file is another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ProgramIdentity {
    file: PathBuf,
    size: u64,
    modified: Option<SystemTime>,
    /// Seconds and nanoseconds of its last change of any kind (`ctime`), which nothing can set:
    /// programs of reproducible images have equal times of modification.
    changed: (i64, i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FolderKind {
    Plain,
    Kustomize,
    /// A kustomization that needs no program.
    InProcess,
    Helm,
}

impl FolderKind {
    fn program(self) -> &'static str {
        if self == FolderKind::Helm {
            "helm"
        } else {
            "kustomize"
        }
    }
}

impl Renderer {
    /// A renderer that puts its temporary copies below `folder`, which is made if it is missing.
    pub fn new(settings: &RenderSettings, folder: &Path) -> Self {
        Self {
            settings: settings.clone(),
            folder: folder.to_owned(),
            cache: Mutex::default(),
            kept: None,
            keeping_fails: AtomicBool::default(),
            events: Recorder::default(),
            programs: Mutex::default(),
            runs: AtomicU64::new(0),
        }
    }

    /// Renders `source` at a commit.
    ///
    /// # Errors
    /// [`RenderError`]; errors in the files are cached like results.
    pub fn render(
        &self,
        mirror: &Mirror,
        commit: ObjectId,
        source: &RenderSource,
    ) -> Result<Arc<Rendered>, RenderError> {
        self.render_at(mirror.at(commit)?, source)
    }

    /// Renders `source` at a commit as far as that needs no program.
    ///
    /// # Errors
    /// As [`Renderer::render`].
    pub fn begin(
        &self,
        mirror: &Mirror,
        commit: ObjectId,
        source: &RenderSource,
    ) -> Result<RenderStart, RenderError> {
        let revision = mirror.at(commit)?.limit_files(source.file_limit);
        self.begin_in(&RenderTree::Git(Box::new(revision)), source)
    }

    /// Runs the program that [`Renderer::begin`] came to at the same commit.
    ///
    /// # Errors
    /// As [`Renderer::render`].
    pub fn finish(
        &self,
        mirror: &Mirror,
        commit: ObjectId,
        source: &RenderSource,
        call: PendingProgram,
    ) -> Result<Arc<Rendered>, RenderError> {
        let revision = mirror.at(commit)?.limit_files(source.file_limit);
        self.finish_in(&RenderTree::Git(Box::new(revision)), source, call)
    }

    /// The objects of `source` in the files of a commit.
    ///
    /// # Errors
    /// As [`Renderer::render`].
    pub fn render_at(
        &self,
        revision: Revision<'_>,
        source: &RenderSource,
    ) -> Result<Arc<Rendered>, RenderError> {
        let revision = revision.limit_files(source.file_limit);
        self.of(&RenderTree::Git(Box::new(revision)), source)
    }

    /// The objects of `source` below a folder on disk; nothing is remembered.
    ///
    /// # Errors
    /// [`RenderError`]
    pub fn render_folder(
        &self,
        root: &Path,
        source: &RenderSource,
    ) -> Result<Arc<Rendered>, RenderError> {
        self.of(&RenderTree::Disk(root.to_owned()), source)
    }

    /// Returns how often kustomize or helm rendered something; cache hits are not counted.
    pub fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    fn of(
        &self,
        tree: &RenderTree<'_>,
        source: &RenderSource,
    ) -> Result<Arc<Rendered>, RenderError> {
        match self.begin_in(tree, source)? {
            RenderStart::Done(rendered) => Ok(rendered),
            RenderStart::Program(call) => self.finish_in(tree, source, call),
        }
    }

    fn begin_in(
        &self,
        tree: &RenderTree<'_>,
        source: &RenderSource,
    ) -> Result<RenderStart, RenderError> {
        if tree.kind(&source.path)? != Some(EntryType::Folder) {
            return Err(RenderError::NoFolder {
                path: shown(&source.path),
            });
        }
        let options = cache::key_of_options(source);
        if let Some(key) = self.known_key(tree, source)?
            && let Some(result) = self.lock().get(key)
        {
            return result.map(RenderStart::Done);
        }
        let way = way(tree, source)?;
        let reads = self.reads(tree, source, way)?;
        let paths: Arc<[String]> = outermost(&reads.paths).into();
        let mut handover = None;
        if way == FolderKind::Kustomize && !reads.remote {
            match self.in_process(tree, source, &paths)? {
                InProcess::Done(rendered) => return Ok(RenderStart::Done(rendered)),
                InProcess::Handover(why) => handover = Some(why),
                InProcess::Unwanted => {}
            }
        }
        let inputs = match way {
            FolderKind::Plain => None,
            _ => self.key(tree, options, &paths, way)?,
        };
        if let Some(result) = inputs.and_then(|key| self.kept(options, way, &paths, key)) {
            return result.map(RenderStart::Done);
        }
        let call = PendingProgram {
            way,
            handover,
            paths,
            remote: reads.remote,
            inputs,
        };
        match way {
            FolderKind::Kustomize | FolderKind::Helm => Ok(RenderStart::Program(call)),
            _ => self.finish_in(tree, source, call).map(RenderStart::Done),
        }
    }

    fn finish_in(
        &self,
        tree: &RenderTree<'_>,
        source: &RenderSource,
        call: PendingProgram,
    ) -> Result<Arc<Rendered>, RenderError> {
        let PendingProgram {
            way,
            paths,
            remote,
            handover,
            ..
        } = call;
        if remote {
            return self.fresh(tree, source, (way, remote), &paths, None);
        }
        let options = cache::key_of_options(source);
        let key = self.key(tree, options, &paths, way)?;
        // The same folder may have been rendered for another cluster meanwhile.
        if let Some(result) = key.and_then(|key| self.lock().get(key)) {
            return result;
        }
        let inputs = key.map(|key| RenderInputs {
            key,
            paths: Arc::clone(&paths),
        });
        let result = self
            .fresh(tree, source, (way, remote), &paths, inputs)
            .map_err(|error| in_process::placed(error, handover.as_ref()));
        if let Some(key) = key {
            if let Ok(rendered) = &result
                && way != FolderKind::Plain
            {
                self.keep(rendered);
            }
            self.lock()
                .put(options, KnownInputs { paths, way, key }, &result);
        }
        result
    }

    fn reads(
        &self,
        tree: &RenderTree<'_>,
        source: &RenderSource,
        way: FolderKind,
    ) -> Result<ReadPaths, RenderError> {
        match way {
            FolderKind::Plain => Ok(ReadPaths {
                paths: [source.path.clone()].into(),
                remote: false,
            }),
            FolderKind::Kustomize | FolderKind::InProcess => {
                kustomize::scan(tree, &source.path, self.settings.allow_remote_bases)
            }
            FolderKind::Helm => helm::scan(tree, source),
        }
    }

    fn fresh(
        &self,
        tree: &RenderTree<'_>,
        source: &RenderSource,
        (way, remote): (FolderKind, bool),
        paths: &[String],
        inputs: Option<RenderInputs>,
    ) -> Result<Arc<Rendered>, RenderError> {
        let mut warnings = Vec::new();
        let (mut manifests, how) = match way {
            FolderKind::Plain => (
                plain::read(tree, &source.path, &mut warnings)?,
                RenderMethod::Plain,
            ),
            _ => self.program(tree, source, way, paths, remote, &mut warnings)?,
        };
        if way == FolderKind::Helm {
            helm::without_hooks(&mut manifests, &source.path, &mut warnings);
        }
        if way == FolderKind::Kustomize {
            self.compare(tree, source, &manifests, &mut warnings)?;
        }
        finished(manifests, how, way, warnings, inputs)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, RenderCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The folders and files that a rendering of `source` at a commit may read, from the root, none of
/// them below another. No program is run. The empty path is the whole repository.
///
/// # Errors
/// [`RenderError`], where the folder is none that can be rendered.
pub fn reads(
    mirror: &Mirror,
    commit: ObjectId,
    source: &RenderSource,
) -> Result<Vec<String>, RenderError> {
    reads_at(mirror.at(commit)?, source)
}

/// Like [`reads`], in the files of a commit.
///
/// # Errors
/// [`RenderError`], if the folder cannot be rendered.
pub fn reads_at(revision: Revision<'_>, source: &RenderSource) -> Result<Vec<String>, RenderError> {
    let tree = RenderTree::Git(Box::new(revision));
    let reads = match way(&tree, source)? {
        FolderKind::Plain => return Ok(vec![source.path.clone()]),
        FolderKind::Kustomize | FolderKind::InProcess => {
            kustomize::scan(&tree, &source.path, true)?
        }
        FolderKind::Helm => helm::scan(&tree, source)?,
    };
    Ok(outermost(&reads.paths))
}

fn way(tree: &RenderTree<'_>, source: &RenderSource) -> Result<FolderKind, RenderError> {
    let path = || shown(&source.path);
    match (
        kustomize::file(tree, &source.path)?,
        tree.is_file(&join(&source.path, helm::CHART))?,
    ) {
        (Some(_), true) => Err(RenderError::Both { path: path() }),
        (None, true) => Ok(FolderKind::Helm),
        (_, false) if source.helm.is_some() => Err(RenderError::NoChart { path: path() }),
        (Some(_), false) => Ok(FolderKind::Kustomize),
        (None, false) => Ok(FolderKind::Plain),
    }
}
