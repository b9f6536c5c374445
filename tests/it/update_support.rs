//! A fleet for tests of the update pass: a registry, a Git server, a config repository,
//! `tagboat.yaml` and a store, all in a temporary folder. Every request to either server passes a
//! gate, which records it and can inject faults.

use super::git_support::{ANN, provider, runtime};
use axum::{
    Router,
    body::Body,
    extract::Request,
    middleware::{self, Next},
    response::Response,
};
use gix::{
    ObjectId,
    bstr::ByteSlice,
    objs::tree::EntryKind,
    refs::transaction::{Change, LogChange, PreviousValue, RefEdit},
};
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};
use tagboat::{
    core::{
        image::{Digest, Tag},
        secret::Secret,
    },
    io::registry::RegistryTimeouts,
    sandbox::{
        git::{BareRepository, GitServer},
        registry::{SandboxImage, SandboxRegistry},
    },
    service::engine::{Engine, ServiceContext, SettingsFile},
    update::{EnvironmentReport, PassMode, PassReport, PolicyReport, Rescan},
};

/// The treatment of a request.
pub(super) enum Act {
    Pass,
    /// This is the response.
    Reply(Response),
    /// This runs first; it may block as long as it likes.
    Before(Box<dyn FnOnce() + Send>),
    /// The server answers, then this runs, then the response is sent.
    After(Box<dyn FnOnce() + Send>),
    /// The server answers, but the connection is closed before the response.
    LoseAnswer,
    /// The connection is closed at once.
    Die,
}

type Rule = Arc<dyn Fn(&str) -> Act + Send + Sync>;

/// A recorder of every request to a server, with fault injection.
#[derive(Clone, Default)]
pub(super) struct Gate {
    seen: Arc<Mutex<Vec<String>>>,
    rule: Arc<Mutex<Option<Rule>>>,
}

impl Gate {
    /// All requests since the last call, as `METHOD /path?query`.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// Treats every request from now on by `rule`, which gets `METHOD /path?query`.
    pub(super) fn rule(&self, rule: impl Fn(&str) -> Act + Send + Sync + 'static) {
        *self.rule.lock().unwrap() = Some(Arc::new(rule));
    }

    /// Treats the first request whose line contains `word` so; all others pass.
    pub(super) fn once(&self, word: &'static str, act: Act) {
        let act = Mutex::new(Some(act));
        self.rule(move |line| match line.contains(word) {
            true => act.lock().unwrap().take().unwrap_or(Act::Pass),
            false => Act::Pass,
        });
    }

    /// Removes the rule.
    pub(super) fn open(&self) {
        *self.rule.lock().unwrap() = None;
    }

    /// Puts the gate in front of a router.
    pub(super) fn layer(&self, router: Router) -> Router {
        let gate = self.clone();
        router.layer(middleware::from_fn(move |request: Request, next: Next| {
            let gate = gate.clone();
            async move { gate.handle(request, next).await }
        }))
    }

    async fn handle(&self, request: Request, next: Next) -> Response {
        let line = format!("{} {}", request.method(), request.uri());
        self.seen.lock().unwrap().push(line.clone());
        let rule = self.rule.lock().unwrap().clone();
        match rule.map_or(Act::Pass, |rule| rule(&line)) {
            Act::Pass => next.run(request).await,
            Act::Reply(response) => response,
            Act::Before(work) => {
                tokio::task::spawn_blocking(work).await.unwrap();
                next.run(request).await
            }
            Act::After(work) => {
                let response = next.run(request).await;
                tokio::task::spawn_blocking(work).await.unwrap();
                response
            }
            Act::LoseAnswer => {
                next.run(request).await;
                dead()
            }
            Act::Die => dead(),
        }
    }
}

/// A body that breaks: the server closes the connection.
fn dead() -> Response {
    let broken = futures::stream::once(async { Err::<Vec<u8>, _>(std::io::Error::other("dies")) });
    Response::new(Body::from_stream(broken))
}

pub(super) fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Act {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    Act::Reply(response.body(Body::from(body.to_owned())).unwrap())
}

/// Settings of a fleet beside its files.
#[derive(Default)]
pub(super) struct Setup {
    /// Lines below `registries[0]`, at an indent of four.
    pub registry: &'static str,
    /// Lines below `repositories[0]`, at an indent of four.
    pub repository: &'static str,
    /// The Git server's account.
    pub account: Option<(&'static str, &'static str)>,
}

/// A commit in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Logged {
    pub id: String,
    pub subject: String,
    pub message: String,
    pub author: String,
}

pub(super) struct Fleet {
    pub runtime: tokio::runtime::Runtime,
    pub dir: tempfile::TempDir,
    pub registry: SandboxRegistry,
    pub images: Gate,
    pub repository: BareRepository,
    pub server: GitServer,
    pub git: Gate,
}

/// The time of a test's first pass; commits of people precede it.
pub(super) fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

/// `now` plus this many hours.
pub(super) fn hours(hours: i64) -> Timestamp {
    now() + jiff::SignedDuration::from_hours(hours)
}

/// A time by the machine's clock, which the commands of the binary use: holds expire by it.
pub(super) fn hours_ago(hours: i64) -> Timestamp {
    Timestamp::now() - jiff::SignedDuration::from_hours(hours)
}

impl Fleet {
    /// A fleet with these files; `{host}` in them is the registry.
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        Self::with(files, &Setup::default())
    }

    pub(super) fn with(files: &[(&str, &str)], setup: &Setup) -> Self {
        provider();
        let runtime = runtime();
        let dir = tempfile::tempdir().unwrap();
        let (images, git) = (Gate::default(), Gate::default());
        let registry = runtime
            .block_on(SandboxRegistry::start_with(|app| images.layer(app)))
            .unwrap();
        let files: Vec<(&str, String)> = files
            .iter()
            .map(|(path, text)| (*path, text.replace("{host}", &registry.host())))
            .collect();
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (*path, text.as_str()))
            .collect();
        let seconds = now().as_second() - 3600;
        let repository =
            BareRepository::create(&dir.path().join("fleet.git"), &files, ANN, seconds, "first")
                .unwrap();
        let password = setup
            .account
            .map(|(user, password)| (user, Secret::new(password)));
        let account = password.as_ref().map(|(user, password)| (*user, password));
        let server = runtime
            .block_on(GitServer::start_with(repository.clone(), account, |app| {
                git.layer(app)
            }))
            .unwrap();
        let fleet = Self {
            runtime,
            dir,
            registry,
            images,
            repository,
            server,
            git,
        };
        fleet.configure(&fleet.server.url(), setup);
        fleet
    }

    /// Writes `tagboat.yaml`.
    pub(super) fn configure(&self, url: &str, setup: &Setup) {
        let text = format!(
            "store: store\nregistries:\n  - prefix: {}\n    insecure: true\n    minimumInterval: 1s\n{}repositories:\n  - name: fleet\n    url: {url}\n{}",
            self.registry.host(),
            setup.registry,
            setup.repository
        );
        std::fs::write(self.config(), text).unwrap();
    }

    pub(super) fn config(&self) -> PathBuf {
        self.dir.path().join("tagboat.yaml")
    }

    /// Publishes tags of a repository, each with an image of its own.
    pub(super) fn publish(&self, path: &str, tags: &[&str]) {
        for tag in tags {
            self.image(
                path,
                tag,
                &SandboxImage {
                    salt: (*tag).to_owned(),
                    ..SandboxImage::default()
                },
            );
        }
    }

    pub(super) fn image(&self, path: &str, tag: &str, image: &SandboxImage) -> Digest {
        self.runtime
            .block_on(self.registry.publish(path, &Tag::new(tag).unwrap(), image))
            .unwrap()
    }

    /// A process: registries, store and mirror, as `tagboat run` opens them.
    pub(super) fn engine(&self) -> Engine {
        self.engine_of(&self.config())
    }

    /// A process with another settings file.
    pub(super) fn engine_of(&self, config: &Path) -> Engine {
        ServiceContext::read(&SettingsFile {
            is_named: true,
            config: config.to_owned(),
            repository: None,
        })
        .and_then(|context| context.open(RegistryTimeouts::default()))
        .unwrap_or_else(|failure| panic!("{:#}", failure.error))
    }

    pub(super) fn pass_of(&self, engine: &Engine, mode: PassMode, now: Timestamp) -> PassReport {
        self.runtime
            .block_on(engine.updaters[0].pass(mode, &Rescan::All, now))
    }

    /// Runs one writing pass in a new process.
    pub(super) fn pass(&self, now: Timestamp) -> PassReport {
        self.pass_of(&self.engine(), PassMode::Write, now)
    }

    /// Runs a writing pass that must have no failures, warnings or findings.
    pub(super) fn good_pass(&self, now: Timestamp) -> PassReport {
        let report = self.pass(now);
        assert!(
            report.failures.is_empty() && report.findings.is_empty() && report.warnings.is_empty(),
            "{report:#?}"
        );
        report
    }

    /// Commits as a person.
    pub(super) fn person(&self, files: &[(&str, &str)], message: &str) -> ObjectId {
        self.person_at(now(), files, message)
    }

    /// Commits as a person at another time; commands of the binary use the machine's clock.
    pub(super) fn person_at(
        &self,
        now: Timestamp,
        files: &[(&str, &str)],
        message: &str,
    ) -> ObjectId {
        let files: Vec<(&str, String)> = files
            .iter()
            .map(|(path, text)| (*path, text.replace("{host}", &self.registry.host())))
            .collect();
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (*path, text.as_str()))
            .collect();
        self.repository
            .commit(&files, ANN, now.as_second(), message)
            .unwrap()
    }

    /// Commits bytes and symbolic links (`true`) as a person.
    pub(super) fn raw(&self, files: &[(&str, &[u8], bool)]) {
        let repo = self.repo();
        let main = repo.rev_parse_single("main").unwrap().detach();
        let mut commit = repo
            .find_commit(main)
            .unwrap()
            .decode()
            .unwrap()
            .to_owned()
            .unwrap();
        let mut editor = repo.edit_tree(commit.tree).unwrap();
        for (path, bytes, link) in files {
            let kind = if *link {
                EntryKind::Link
            } else {
                EntryKind::Blob
            };
            editor
                .upsert(*path, kind, repo.write_blob(bytes).unwrap())
                .unwrap();
        }
        (commit.tree, commit.parents, commit.message) = (
            editor.write().unwrap().detach(),
            [main].into_iter().collect(),
            "raw\n".into(),
        );
        let commit = repo.write_object(commit).unwrap().detach();
        self.set_main(commit);
    }

    /// Moves the branch, wherever it is.
    pub(super) fn set_main(&self, commit: ObjectId) {
        self.set_branch("main", commit);
    }

    /// Sets a branch of the remote, which need not exist.
    pub(super) fn set_branch(&self, branch: &str, commit: ObjectId) {
        let repo = self.repo();
        let who = gix::actor::SignatureRef {
            name: "Ann".into(),
            email: "ann@example.org".into(),
            time: "0 +0000",
        };
        let change = Change::Update {
            log: LogChange::default(),
            expected: PreviousValue::Any,
            new: gix::refs::Target::Object(commit),
        };
        let edit = RefEdit {
            change,
            name: format!("refs/heads/{branch}").try_into().unwrap(),
            deref: false,
        };
        repo.edit_references_as([edit], Some(who)).unwrap();
    }

    /// Runs a pass without failures; findings such as an Environment without files are allowed.
    pub(super) fn good_pass_but_findings(&self, now: Timestamp) -> PassReport {
        let report = self.pass(now);
        assert!(
            report.failures.is_empty() && report.warnings.is_empty(),
            "{report:#?}"
        );
        report
    }

    /// Merges a person's branch with one commit of these files.
    pub(super) fn merge(&self, files: &[(&str, &str)], message: &str) {
        let main = self.repo().rev_parse_single("main").unwrap().detach();
        let side = self.person(files, "on a branch");
        let repo = self.repo();
        let mut merge = repo
            .find_commit(side)
            .unwrap()
            .decode()
            .unwrap()
            .to_owned()
            .unwrap();
        merge.parents = [main, side].into_iter().collect();
        merge.message = format!("{message}\n").into();
        let merge = repo.write_object(merge).unwrap().detach();
        self.set_main(merge);
    }

    /// Merges a person's branch with commits of this text of `envs/dev/a.yaml`, each with its
    /// message; the merge has its own.
    pub(super) fn merge_commits(&self, commits: &[(&str, &str)], merged: &str, message: &str) {
        let file = "envs/dev/a.yaml";
        let main = self.repo().rev_parse_single("main").unwrap().detach();
        let side = commits
            .iter()
            .map(|(text, message)| self.person(&[(file, text)], message))
            .last()
            .unwrap();
        let made = self.person(&[(file, merged)], "what the merge has");
        let repo = self.repo();
        let mut merge = repo
            .find_commit(made)
            .unwrap()
            .decode()
            .unwrap()
            .to_owned()
            .unwrap();
        merge.parents = [main, side].into_iter().collect();
        merge.message = format!("{message}\n").into();
        let merge = repo.write_object(merge).unwrap().detach();
        self.set_main(merge);
    }

    pub(super) fn repo(&self) -> gix::Repository {
        gix::open_opts(
            self.repository.dir(),
            gix::open::Options::isolated().open_path_as_is(true),
        )
        .unwrap()
    }

    /// A file of `main`.
    pub(super) fn file(&self, path: &str) -> Vec<u8> {
        let repo = self.repo();
        let id = repo
            .rev_parse_single(format!("main:{path}").as_str())
            .unwrap();
        id.object().unwrap().data.clone()
    }

    /// A file of `main`, with the registry as `{host}`.
    pub(super) fn text(&self, path: &str) -> String {
        String::from_utf8(self.file(path))
            .unwrap()
            .replace(&self.registry.host(), "{host}")
    }

    /// The history of `main`, oldest first.
    pub(super) fn log(&self) -> Vec<Logged> {
        let repo = self.repo();
        let head = repo.rev_parse_single("main").unwrap();
        let mut all: Vec<Logged> = repo
            .rev_walk([head])
            .first_parent_only()
            .all()
            .unwrap()
            .map(|info| {
                let commit = repo.find_commit(info.unwrap().id).unwrap();
                let decoded = commit.decode().unwrap();
                Logged {
                    id: commit.id.to_string(),
                    subject: decoded.message_summary().to_string(),
                    message: decoded.message.to_string(),
                    author: decoded.author().unwrap().name.to_str_lossy().into_owned(),
                }
            })
            .collect();
        all.reverse();
        all
    }

    pub(super) fn subjects(&self) -> Vec<String> {
        self.log()
            .into_iter()
            .map(|commit| commit.subject)
            .collect()
    }

    /// The binary without anything from this machine's environment.
    pub(super) fn tagboat(&self, arguments: &[&str]) -> assert_cmd::Command {
        assert_cmd::Command::from_std(self.tagboat_std(arguments))
    }

    /// Like [`Fleet::tagboat`], as a command that can be spawned.
    pub(super) fn tagboat_std(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = crate::servers::environment::tagboat();
        command
            .env("HOME", self.dir.path())
            .env("TAGBOAT_CONFIG", self.config())
            .args(arguments);
        command
            .current_dir(self.dir.path())
            .stdin(std::process::Stdio::null());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }
}

pub(super) fn environment<'r>(report: &'r PassReport, name: &str) -> &'r EnvironmentReport {
    report
        .environments
        .iter()
        .find(|environment| environment.name == name)
        .unwrap_or_else(|| panic!("no {name}: {report:#?}"))
}

pub(super) fn policy<'r>(
    report: &'r PassReport,
    environment: &str,
    policy: &str,
) -> &'r PolicyReport {
    let row = self::environment(report, environment);
    row.policies
        .iter()
        .find(|row| row.name.to_string() == policy)
        .unwrap_or_else(|| panic!("no {policy}: {row:#?}"))
}

/// Blocks requests whose line contains `word`: reports the first one, and releases all when the
/// sender is dropped.
pub(super) fn hold(
    gate: &Gate,
    word: &'static str,
    before: bool,
) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (come, came) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let work = Box::new(move || {
        let _ = come.send(());
        let _ = released.recv_timeout(Duration::from_secs(120));
    });
    gate.once(
        word,
        if before {
            Act::Before(work)
        } else {
            Act::After(work)
        },
    );
    (came, release)
}

/// Waits for a condition, for at most two minutes: other tests and servers share the machine.
pub(super) fn wait<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The number of requests by method and path, without queries.
pub(super) fn counted(seen: &[String]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in seen {
        *counts
            .entry(line.split('?').next().unwrap().to_owned())
            .or_default() += 1;
    }
    counts
}

/// A policy of `{host}/team/<name>` named `default/<name>`, with `extra` below its spec.
pub(super) fn semver(name: &str, range: &str, extra: &str) -> String {
    format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {{name: {name}, labels: {{team: {name}}}}}\nspec:\n  image: {{host}}/team/{name}\n  policy: {{semver: {{range: '{range}'}}}}\n{extra}---\n"
    )
}

/// An Environment over `envs/<name>/**`, with `update` below its `update`.
pub(super) fn env(name: &str, update: &str) -> String {
    format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {{name: {name}}}\nspec:\n  paths: ['envs/{name}/**']\n  update: {{via: commit{}{update}}}\n---\n",
        if update.is_empty() { "" } else { ", " }
    )
}

/// A Deployment with one container for each image (`name:tag`, in `{host}/team`).
pub(super) fn deployment(images: &[&str]) -> String {
    let containers: String = images
        .iter()
        .map(|image| {
            format!(
                "        - name: {}\n          image: {{host}}/team/{image}\n",
                image.split(':').next().unwrap()
            )
        })
        .collect();
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: app}}\nspec:\n  template:\n    spec:\n      containers:\n{containers}"
    )
}
