//! Runs kustomize and helm, and describes their failures.

use super::{
    FolderKind, ProgramIdentity, RenderMethod, RenderSource, Renderer,
    error::{RenderError, RenderLimit},
    helm, join, kustomize, shown, subprocess,
    tree::{EntryType, RenderTree},
};
use crate::{
    core::text::without_controls,
    io::{git::RepoPath, private},
    objects::{manifest::Manifests, object::ObjectOrigin},
    spec::settings::RenderSettings,
};
use std::os::unix::fs::MetadataExt as _;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{PoisonError, atomic::Ordering},
};

/// The end of the message of a Go program that is refused a socket.
const NO_SOCKET: &str = "socket: operation not permitted";

/// Bytes and files that are copied for one rendering.
const LARGEST_COPY: (u64, usize) = (512 << 20, 100_000);

pub(super) fn no_program(
    source: &RenderSource,
    way: FolderKind,
    binary: PathBuf,
    why: String,
) -> RenderError {
    RenderError::NoProgram {
        path: shown(&source.path),
        program: way.program(),
        binary,
        why,
    }
}

/// Copies the inputs. Links and submodules are skipped, so that nothing in the copy leads out of
/// it.
pub(super) fn copied(
    tree: &RenderTree<'_>,
    paths: &[String],
    copy: &Path,
    warnings: &mut Vec<String>,
) -> Result<(), RenderError> {
    let (mut bytes_left, mut files_left) = LARGEST_COPY;
    let mut write = |path: &str, bytes: Vec<u8>| {
        let (left, files) = (
            bytes_left.checked_sub(bytes.len() as u64),
            files_left.checked_sub(1),
        );
        let (Some(left), Some(files)) = (left, files) else {
            return Err(RenderError::TooLarge {
                path: path.to_owned(),
                mebibytes: LARGEST_COPY.0 >> 20,
                files: LARGEST_COPY.1,
            });
        };
        bytes_left = left;
        files_left = files;
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

impl Renderer {
    pub(super) fn program(
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
        private::create_folder(&self.folder)
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
                kustomize::arguments(),
                kustomize::file(tree, &source.path)?.unwrap_or_else(|| source.path.clone()),
            ),
        };
        let folder = copy.join(&source.path);
        let call = self.call(&identity, arguments, &folder, &root, &home, remote);
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

    pub(super) fn call<'c>(
        &self,
        identity: &'c ProgramIdentity,
        arguments: Vec<std::ffi::OsString>,
        folder: &'c Path,
        inputs: &'c Path,
        home: &'c Path,
        remote: bool,
    ) -> subprocess::ProgramCall<'c> {
        let RenderSettings {
            kustomize: _,
            kustomize_mode: _,
            helm: _,
            allow_remote_bases: _,
            sandbox,
            timeout,
            memory,
        } = self.settings;
        subprocess::ProgramCall {
            binary: &identity.file,
            arguments,
            folder,
            inputs,
            home,
            timeout,
            memory,
            remote,
            sandbox,
        }
    }

    pub(super) fn ended(
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
            subprocess::ProgramFailure::Unconfined(why) => {
                RenderError::Unconfined { path, program, why }
            }
            subprocess::ProgramFailure::Failed(why) if why.contains(NO_SOCKET) => {
                RenderError::Network {
                    path,
                    program,
                    why: plain(why),
                }
            }
            subprocess::ProgramFailure::Failed(why) => RenderError::Failed {
                path,
                program,
                why: plain(why),
                remote,
            },
            subprocess::ProgramFailure::Files => RenderError::Stopped {
                path,
                program,
                why: format!("it wrote more than {} MiB", subprocess::SCRATCH >> 20),
                limit: RenderLimit::Files,
            },
            subprocess::ProgramFailure::Processes => RenderError::Stopped {
                path,
                program,
                why: format!("it ran more than {} processes", subprocess::PROCESSES),
                limit: RenderLimit::Processes,
            },
            subprocess::ProgramFailure::Time => RenderError::Stopped {
                path,
                program,
                why: format!(
                    "it took longer than {} s",
                    self.settings.timeout.as_secs_f32()
                ),
                limit: RenderLimit::Time,
            },
            subprocess::ProgramFailure::Output => RenderError::Stopped {
                path,
                program,
                why: "it printed more than 64 MiB".to_owned(),
                limit: RenderLimit::Output,
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
                    limit: RenderLimit::Memory,
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
                    limit: RenderLimit::Memory,
                }
            }
        }
    }

    pub(super) fn identity(&self, way: FolderKind) -> Result<ProgramIdentity, (PathBuf, String)> {
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
            changed: (data.ctime(), data.ctime_nsec()),
            file,
        })
    }

    /// Returns the version reported by a program; called once for each binary.
    pub(super) fn version(
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
            home,
            false,
        );
        let printed = call
            .run()
            .map_err(|ended| self.ended(source, way, identity, home, false, ended))?;
        let text = String::from_utf8_lossy(&printed);
        let version = text.lines().next().unwrap_or_default();
        let version = without_controls(version.trim(), 60);
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
}
