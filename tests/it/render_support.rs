//! Fixtures of render tests: files on disk and in a mirror, and a renderer of them.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tagboat::{
    io::render::{RenderSource, Renderer},
    spec::settings::{KustomizeMode, RenderSettings},
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
        file_limit: None,
    }
}

/// Missing programs, and a timeout that is short enough for a test.
pub(super) fn settings() -> RenderSettings {
    RenderSettings {
        kustomize: "/nowhere/kustomize".into(),
        kustomize_mode: KustomizeMode::Program,
        helm: "/nowhere/helm".into(),
        timeout: Duration::from_secs(20),
        ..RenderSettings::default()
    }
}

/// A server on the loopback address that answers every request with one text.
pub(super) struct SecretServer {
    port: u16,
    requests: Arc<AtomicUsize>,
}

impl SecretServer {
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The number of requests so far.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

pub(super) fn secret_server(answer: &str) -> SecretServer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(AtomicUsize::new(0));
    let (answer, counter) = (answer.to_owned(), Arc::clone(&requests));
    // It ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]);
            let length = answer.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(format!("{head}{answer}").as_bytes());
        }
    });
    SecretServer { port, requests }
}

/// Runs a test in a thread for which the kernel has no Landlock: its system calls are unknown.
#[cfg(target_os = "linux")]
pub(super) fn without_landlock(test: impl FnOnce() + Send) {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
    // ENOSYS, and landlock_create_ruleset on every architecture.
    let (unknown, call) = (SeccompAction::Errno(38), 444);
    let filter = SeccompFilter::new(
        [(call, Vec::new())].into(),
        SeccompAction::Allow,
        unknown,
        TargetArch::try_from(std::env::consts::ARCH).unwrap(),
    );
    let program = BpfProgram::try_from(filter.unwrap()).unwrap();
    thread::scope(|scope| {
        let run = scope.spawn(|| {
            seccompiler::apply_filter(&program).unwrap();
            test();
        });
        if let Err(panic) = run.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
