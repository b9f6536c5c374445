//! Fixtures of render tests: files on disk and in a mirror, and a renderer of them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tagboat::{
    io::render::{RenderSource, Renderer},
    spec::settings::RenderSettings,
};

/// A folder of files, and a place for everything else.
pub(super) struct World {
    pub temporary: tempfile::TempDir,
}

impl World {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let world = Self {
            temporary: tempfile::tempdir().unwrap(),
        };
        files.iter().for_each(|(path, text)| world.file(path, text));
        world
    }

    /// The root of the files.
    pub(super) fn root(&self) -> PathBuf {
        self.temporary.path().join("repository")
    }

    pub(super) fn file(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes a shell script that stands in for a program.
    pub(super) fn script(&self, name: &str, text: &str) -> PathBuf {
        script(self.temporary.path(), name, text)
    }

    pub(super) fn renderer(&self, settings: &RenderSettings) -> Renderer {
        Renderer::new(settings, &self.temporary.path().join("copies"))
    }

    /// The number of temporary copies that are left.
    pub(super) fn left(&self) -> usize {
        fs::read_dir(self.temporary.path().join("copies")).map_or(0, Iterator::count)
    }
}

pub(super) fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    // Written beside, then renamed: a program that is open for writing cannot be started.
    let new = folder.join(format!("{name}.new"));
    fs::write(&new, format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{text}\n")).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&new, &path).unwrap();
    path
}

pub(super) fn source(path: &str) -> RenderSource {
    RenderSource {
        path: path.to_owned(),
        helm: None,
        name: "web".to_owned(),
        namespace: "shop".to_owned(),
    }
}

/// Missing programs, and a timeout that is short enough for a test.
pub(super) fn settings() -> RenderSettings {
    RenderSettings {
        kustomize: "/nowhere/kustomize".into(),
        helm: "/nowhere/helm".into(),
        timeout: Duration::from_secs(20),
        ..RenderSettings::default()
    }
}
