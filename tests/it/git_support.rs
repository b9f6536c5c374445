//! Fixtures of git tests: a sandbox server, a mirror of it, and a bot.

use std::path::Path;
use tagboat::{
    core::secret::Secret,
    io::git::{
        BranchHead, CommitDraft, CommitMeta, FileEdit, Mirror, ObjectId, Person, Remote,
        RemoteAccess, RepoPath,
    },
    sandbox::git::{BareRepository, GitServer},
};

/// A served repository in a temporary folder.
pub(super) struct Sandbox {
    pub dir: tempfile::TempDir,
    pub repository: BareRepository,
    pub server: GitServer,
    pub runtime: tokio::runtime::Runtime,
}

pub(super) const ANN: (&str, &str) = ("Ann", "ann@example.org");

/// Any moment; commits of tests are some minutes apart from it.
pub(super) const NOW: i64 = 1_790_000_000;

impl Sandbox {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        Self::with_account(files, None)
    }

    pub(super) fn with_account(files: &[(&str, &str)], account: Option<(&str, &Secret)>) -> Self {
        provider();
        let dir = tempfile::tempdir().unwrap();
        let repository =
            BareRepository::create(&dir.path().join("fleet.git"), files, ANN, NOW, "first")
                .unwrap();
        let runtime = runtime();
        let server = runtime
            .block_on(GitServer::start(repository.clone(), account))
            .unwrap();
        Self {
            dir,
            repository,
            server,
            runtime,
        }
    }

    pub(super) fn mirror(&self, name: &str) -> Mirror {
        mirror(
            &self.dir.path().join(name),
            &self.server.url(),
            RemoteAccess::default(),
        )
    }

    pub(super) fn person(&self, files: &[(&str, &str)], message: &str) -> ObjectId {
        self.repository
            .commit(files, ANN, NOW + 60, message)
            .unwrap()
    }
}

/// Installs the TLS provider that every client needs, even without TLS.
pub(super) fn provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

pub(super) fn mirror(dir: &Path, url: &str, access: RemoteAccess) -> Mirror {
    Mirror::open(dir, Remote::new(url, Some("main"), access).unwrap()).unwrap()
}

pub(super) fn edit(path: &str, bytes: &str) -> FileEdit {
    FileEdit {
        path: RepoPath::new(path).unwrap(),
        bytes: bytes.into(),
    }
}

pub(super) fn bot() -> Person {
    Person::new("Bot", "bot@example.org").unwrap()
}

/// Drafts a commit of the bot on `head`.
pub(super) fn draft(
    mirror: &Mirror,
    head: BranchHead,
    edits: &[FileEdit],
    text: &str,
) -> Option<CommitDraft> {
    let bot = bot();
    let message = CommitMeta {
        author: &bot,
        committer: &bot,
        seconds: NOW + 120,
        text,
        key: None,
    };
    mirror.draft(head.commit, edits, &message).unwrap()
}

pub(super) fn text(mirror: &Mirror, commit: ObjectId, path: &str) -> Option<String> {
    let file = mirror.at(commit).unwrap().read(path).unwrap()?;
    Some(String::from_utf8(file.bytes).unwrap())
}
