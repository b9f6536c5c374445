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
mod subprocess;
mod error;
mod helm;
mod kustomize;
mod plain;
mod tree;

pub use error::RenderError;

use crate::{
    io::git::{Mirror, ObjectId, RepoPath, Revision},
    objects::{
        manifest::Manifests,
        object::{CompactObject, Object, ObjectKey, ObjectOrigin},
    },
    spec::{Application, Helm, resolve, settings::RenderSettings},
};
use cache::{CacheKey, RenderCache};
use kustomize::ReadPaths;
use std::{
    collections::{BTreeSet, HashMap},
    fmt, fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RenderMethod {
    Plain,
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
    programs: Mutex<HashMap<ProgramIdentity, Arc<str>>>,
    runs: AtomicU64,
}

/// The identity of a binary: a replaced or modified file is another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ProgramIdentity {
    file: PathBuf,
    size: u64,
    modified: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FolderKind {
    Plain,
    Kustomize,
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

    /// The objects of `source` in the files of a commit.
    ///
    /// # Errors
    /// As [`Renderer::render`].
    pub fn render_at(
        &self,
        revision: Revision<'_>,
        source: &RenderSource,
    ) -> Result<Arc<Rendered>, RenderError> {
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
        if tree.kind(&source.path)? != Some(EntryType::Folder) {
            return Err(RenderError::NoFolder {
                path: shown(&source.path),
            });
        }
        let options = options(source);
        // The paths read last time decide whether anything changed: the kustomizations that name
        // them are among them.
        let known = self.lock().reads(options);
        if let Some((paths, way)) = known
            && let Some(key) = self.key(tree, options, &paths, way)?
            && let Some(result) = self.lock().get(key)
        {
            return result;
        }
        let way = way(tree, source)?;
        let reads = self.reads(tree, source, way)?;
        let paths: Arc<[String]> = outermost(&reads.paths).into();
        let result = self.fresh(tree, source, way, &paths, reads.remote);
        if !reads.remote
            && let Some(key) = self.key(tree, options, &paths, way)?
        {
            self.lock().put(options, (paths, way), key, &result);
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
            FolderKind::Kustomize => {
                kustomize::scan(tree, &source.path, self.settings.allow_remote_bases)
            }
            FolderKind::Helm => helm::scan(tree, source),
        }
    }

    fn fresh(
        &self,
        tree: &RenderTree<'_>,
        source: &RenderSource,
        way: FolderKind,
        paths: &[String],
        remote: bool,
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
        manifests.find_duplicates();
        if !manifests.mistakes.is_empty() {
            return Err(RenderError::Manifests(manifests.mistakes));
        }
        let hash = cache::hash_of(&manifests.objects);
        Ok(Arc::new(Rendered {
            manifests: manifests
                .objects
                .into_iter()
                .map(CompactObject::new)
                .collect(),
            how,
            warnings,
            left_out: manifests.left_out,
            hash,
        }))
    }

    fn program(
        &self,
        tree: &RenderTree<'_>,
        source: &RenderSource,
        way: FolderKind,
        paths: &[String],
        remote: bool,
        warnings: &mut Vec<String>,
    ) -> Result<(Manifests, RenderMethod), RenderError> {
        let identity = self
            .identity(way)
            .map_err(|(binary, why)| no_program(source, way, binary, why))?;
        fs::create_dir_all(&self.folder)
            .map_err(|error| RenderError::disk(&self.folder, &error))?;
        let temporary = tempfile::Builder::new()
            .prefix("render-")
            .tempdir_in(&self.folder);
        let temporary = temporary.map_err(|error| RenderError::disk(&self.folder, &error))?;
        // The canonical path: kustomize compares canonical paths to see whether a base is inside
        // the repository.
        let root = temporary
            .path()
            .canonicalize()
            .map_err(|error| RenderError::disk(temporary.path(), &error))?;
        let (copy, home) = (root.join("copy"), root.join("home"));
        for folder in [&copy, &home] {
            fs::create_dir(folder).map_err(|error| RenderError::disk(folder, &error))?;
        }
        copied(tree, paths, &copy, warnings)?;
        let version = self.version(&identity, way, source, &home)?;
        let mut values = None;
        if let Some(helm) = source.helm.as_ref().filter(|helm| !helm.values.is_empty()) {
            let file = root.join("values.yaml");
            fs::write(&file, crate::objects::manifest::to_yaml(&helm.values))
                .map_err(|error| RenderError::disk(&file, &error))?;
            values = Some(file);
        }
        let (arguments, names) = match way {
            FolderKind::Helm => (
                helm::arguments(source, &copy, values.as_deref()),
                join(&source.path, helm::CHART),
            ),
            _ => (
                vec!["build".into(), ".".into()],
                kustomize::file(tree, &source.path)?.unwrap_or_else(|| source.path.clone()),
            ),
        };
        let folder = copy.join(&source.path);
        let call = self.call(&identity, arguments, &folder, &home, remote);
        self.runs.fetch_add(1, Ordering::Relaxed);
        let printed = call
            .run()
            .map_err(|ended| self.ended(source, way, &identity, &root, remote, ended))?;
        let text = String::from_utf8(printed).map_err(|_| RenderError::Failed {
            path: shown(&source.path),
            program: way.program(),
            why: "what it printed is not UTF-8 text".to_owned(),
            remote: false,
        })?;
        let mut manifests = Manifests::default();
        manifests.read_printed(
            &ObjectOrigin {
                file: names.as_str().into(),
                line: 0,
            },
            &text,
        );
        let how = match way {
            FolderKind::Helm => RenderMethod::Helm { version },
            _ => RenderMethod::Kustomize { version },
        };
        Ok((manifests, how))
    }

    fn call<'c>(
        &self,
        identity: &'c ProgramIdentity,
        arguments: Vec<std::ffi::OsString>,
        folder: &'c Path,
        home: &'c Path,
        remote: bool,
    ) -> subprocess::ProgramCall<'c> {
        let RenderSettings {
            kustomize: _,
            helm: _,
            allow_remote_bases: _,
            timeout,
            memory,
        } = self.settings;
        subprocess::ProgramCall {
            binary: &identity.file,
            arguments,
            folder,
            home,
            timeout,
            memory,
            remote,
        }
    }

    fn ended(
        &self,
        source: &RenderSource,
        way: FolderKind,
        identity: &ProgramIdentity,
        root: &Path,
        remote: bool,
        ended: subprocess::ProgramFailure,
    ) -> RenderError {
        let (path, program) = (shown(&source.path), way.program());
        // The temporary folder says nothing to anybody.
        let plain = |why: String| {
            let copy = root.join("copy").display().to_string();
            let why = why.replace(&format!("{copy}/"), "").replace(&copy, ".");
            if why.is_empty() {
                "it said nothing".to_owned()
            } else {
                why
            }
        };
        match ended {
            subprocess::ProgramFailure::NotStarted(why) => no_program(
                source,
                way,
                identity.file.clone(),
                format!("cannot be started: {why}"),
            ),
            subprocess::ProgramFailure::Failed(why) => RenderError::Failed {
                path,
                program,
                why: plain(why),
                remote,
            },
            subprocess::ProgramFailure::Time => RenderError::Stopped {
                path,
                program,
                why: format!(
                    "it took longer than {} s",
                    self.settings.timeout.as_secs_f32()
                ),
                time: true,
            },
            subprocess::ProgramFailure::Output => RenderError::Stopped {
                path,
                program,
                why: "it printed more than 64 MiB".to_owned(),
                time: false,
            },
            subprocess::ProgramFailure::Memory => {
                let why = format!(
                    "it needs more than the {} MiB of memory that it may take",
                    self.settings.memory >> 20
                );
                RenderError::Stopped {
                    path,
                    program,
                    why,
                    time: false,
                }
            }
            subprocess::ProgramFailure::Killed(why) => {
                let why = format!(
                    "it was killed, perhaps for memory (it may take {} MiB): {}",
                    self.settings.memory >> 20,
                    plain(why)
                );
                RenderError::Stopped {
                    path,
                    program,
                    why,
                    time: false,
                }
            }
        }
    }

    fn identity(&self, way: FolderKind) -> Result<ProgramIdentity, (PathBuf, String)> {
        let binary = if way == FolderKind::Helm {
            &self.settings.helm
        } else {
            &self.settings.kustomize
        };
        let Some(file) = subprocess::find(binary) else {
            let why = if binary.components().count() > 1 {
                "is not there"
            } else {
                "is not on PATH"
            };
            return Err((binary.clone(), why.to_owned()));
        };
        let data = fs::metadata(&file)
            .map_err(|error| (file.clone(), format!("cannot be read: {error}")))?;
        Ok(ProgramIdentity {
            size: data.len(),
            modified: data.modified().ok(),
            file,
        })
    }

    /// Returns the version reported by a program; called once for each binary.
    fn version(
        &self,
        identity: &ProgramIdentity,
        way: FolderKind,
        source: &RenderSource,
        home: &Path,
    ) -> Result<String, RenderError> {
        if let Some(known) = self
            .programs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(identity)
        {
            return Ok(known.to_string());
        }
        let arguments: &[&str] = if way == FolderKind::Helm {
            &["version", "--template", "{{.Version}}"]
        } else {
            &["version"]
        };
        let call = self.call(
            identity,
            arguments.iter().map(Into::into).collect(),
            home,
            home,
            false,
        );
        let printed = call
            .run()
            .map_err(|ended| self.ended(source, way, identity, home, false, ended))?;
        let text = String::from_utf8_lossy(&printed);
        let version: String = text
            .lines()
            .next()
            .unwrap_or_default()
            .trim()
            .chars()
            .filter(|c| !c.is_control())
            .take(60)
            .collect();
        let version = if version.is_empty() {
            "of unknown version".to_owned()
        } else {
            version
        };
        self.programs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(identity.clone(), version.as_str().into());
        Ok(version)
    }

    /// Returns the cache key of a result: options, the ids of everything that is read, and the
    /// program. `None` without ids or without the program.
    fn key(
        &self,
        tree: &RenderTree<'_>,
        options: CacheKey,
        paths: &[String],
        way: FolderKind,
    ) -> Result<Option<CacheKey>, RenderError> {
        if !tree.has_ids() {
            return Ok(None);
        }
        let mut hasher = cache::KeyHasher::default();
        hasher.add(&options);
        for path in paths {
            hasher.add(path.as_bytes());
            hasher.add(&tree.id(path)?.unwrap_or_default());
        }
        if way != FolderKind::Plain {
            let Ok(ProgramIdentity {
                file,
                size,
                modified,
            }) = self.identity(way)
            else {
                return Ok(None);
            };
            hasher.add(format!("{} {size} {modified:?}", file.display()).as_bytes());
        }
        Ok(Some(hasher.done()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, RenderCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_program(source: &RenderSource, way: FolderKind, binary: PathBuf, why: String) -> RenderError {
    RenderError::NoProgram {
        path: shown(&source.path),
        program: way.program(),
        binary,
        why,
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
        FolderKind::Kustomize => kustomize::scan(&tree, &source.path, true)?,
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

fn options(source: &RenderSource) -> CacheKey {
    let RenderSource {
        path,
        helm,
        name,
        namespace,
    } = source;
    let mut hasher = cache::KeyHasher::default();
    [path, name, namespace]
        .iter()
        .for_each(|text| hasher.add(text.as_bytes()));
    if let Some(Helm {
        release_name,
        value_files,
        values,
    }) = helm
    {
        hasher.add(format!("{release_name:?} {value_files:?}").as_bytes());
        hasher.add(&serde_json::to_vec(values).unwrap_or_default());
    }
    hasher.done()
}

/// Drops paths below other paths of the set.
fn outermost(paths: &BTreeSet<String>) -> Vec<String> {
    let below = |path: &str, folder: &str| {
        folder.is_empty()
            || path
                .strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/'))
    };
    paths
        .iter()
        .filter(|path| {
            !paths
                .iter()
                .any(|other| other != *path && below(path, other))
        })
        .cloned()
        .collect()
}

/// Copies the inputs. Links and submodules are skipped, so that nothing in the copy leads out of
/// it.
fn copied(
    tree: &RenderTree<'_>,
    paths: &[String],
    copy: &Path,
    warnings: &mut Vec<String>,
) -> Result<(), RenderError> {
    let write = |path: &str, bytes: Vec<u8>| {
        let path = RepoPath::new(path)?;
        let file = copy.join(path.as_str());
        let parent = file.parent().unwrap_or(copy);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&file, bytes))
            .map_err(|error| RenderError::disk(&file, &error))
    };
    for path in paths {
        if tree.kind(path)? != Some(EntryType::Folder) {
            if let Some(bytes) = tree.read(path)? {
                write(path, bytes)?;
            }
            continue;
        }
        for entry in tree.list(path)? {
            match entry.kind {
                EntryType::File => write(&entry.path, tree.bytes(&entry)?)?,
                EntryType::Link => {
                    warnings.push(format!("{}: symbolic links are not followed", entry.path))
                }
                EntryType::Submodule => {
                    warnings.push(format!("{}: submodules are not read", entry.path))
                }
                EntryType::Folder => {}
            }
        }
    }
    Ok(())
}

/// A path below a folder, either of which may be empty.
fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

/// A path as a message has it.
fn shown(path: &str) -> String {
    if path.is_empty() {
        ".".to_owned()
    } else {
        path.to_owned()
    }
}
