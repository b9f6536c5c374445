//! Hundreds of pull requests on a real Gitea: `cargo bench --bench requests`.
//!
//! Needs `git`, and Gitea: `eval "$(tests/programs forge)"` builds it. An Environment has a hundred
//! policies and `group: policy`, so that each has a branch and a pull request of its own. They are
//! opened, updated to another tag, and left alone; then a second Environment doubles them. The
//! calls of each pass are printed by operation. The calls of a pass without work are asserted.
//! Gitea runs on the same machine and takes most of the time.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark prints, and stops at the first surprise"
)]

#[path = "support/table.rs"]
mod table;
#[path = "../tests/servers/gitea.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod gitea;

use gitea::Gitea;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::json;
use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};
use tagboat::{
    core::image::Tag,
    io::{forge::ForgeOperation, registry::RegistryTimeouts},
    sandbox::registry::{SandboxImage, SandboxRegistry},
    service::engine::{Engine, ServiceContext, SettingsFile},
    update::{PassMode, PassReport, RequestState, Rescan},
};

/// Pull requests of one Environment.
const REQUESTS: usize = 100;
/// Pull requests on one page of Gitea, by its default settings.
const PAGE: usize = 50;

type Calls = BTreeMap<ForgeOperation, u64>;

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    if std::env::var_os("TAGBOAT_TEST_GITEA").is_none() {
        eprintln!(
            "TAGBOAT_TEST_GITEA is not set: `eval \"$(tests/programs forge)\"` builds Gitea."
        );
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let world = World::new(&runtime, temporary.path());
    world.declare("one", "request: {labels: [images, bot]}");
    println!(
        "{REQUESTS} requests on a real Gitea, load {}",
        std::fs::read_to_string("/proc/loadavg")
            .unwrap_or_default()
            .trim()
    );

    table::heading();
    let engine = world.engine();
    let report = world.row("opened", &engine);
    assert_eq!(count(&report, RequestState::Opened), REQUESTS);
    world.quiet("nothing to do", &engine, REQUESTS);
    world.publish("1.2.0");
    let report = world.row("another tag, in place", &engine);
    assert_eq!(count(&report, RequestState::Updated), REQUESTS);
    world.quiet("nothing to do", &engine, REQUESTS);

    world.declare("two", "");
    let report = world.row("a second Environment", &engine);
    assert_eq!(count(&report, RequestState::Opened), REQUESTS);
    world.quiet("200 open, nothing to do", &engine, 2 * REQUESTS);
    drop(engine);
    let engine = world.engine();
    world.quiet("the same, a new process", &engine, 2 * REQUESTS);

    // Checks are queried for a request that may merge automatically, unless something else blocks
    // it.
    world.declare("two", "autoMerge: {bump: [minor], requireChecks: true}");
    world.row("100 of them may merge, new bodies", &engine);
    let report = world.row("100 of them wait for checks", &engine);
    assert_eq!(count(&report, RequestState::Open), 2 * REQUESTS);
}

struct World<'r> {
    runtime: &'r tokio::runtime::Runtime,
    registry: SandboxRegistry,
    _gitea: Gitea,
    dir: &'r Path,
}

impl<'r> World<'r> {
    fn new(runtime: &'r tokio::runtime::Runtime, dir: &'r Path) -> Self {
        let gitea = Gitea::start();
        let registry = runtime.block_on(SandboxRegistry::start()).unwrap();
        let (project, token) = runtime.block_on(async {
            let bot = gitea.user("bot").await;
            gitea
                .admin(Method::POST, "orgs", json!({"username": "acme"}))
                .await;
            gitea
                .admin(
                    Method::POST,
                    "orgs/acme/repos",
                    json!({"name": "fleet", "auto_init": true, "default_branch": "main"}),
                )
                .await;
            gitea
                .admin(
                    Method::PUT,
                    &format!("repos/acme/fleet/collaborators/{bot}"),
                    json!({"permission": "write"}),
                )
                .await;
            (
                "acme/fleet".to_owned(),
                gitea
                    .token(&bot, &["write:repository", "write:issue"])
                    .await,
            )
        });
        std::fs::write(dir.join("token"), token).unwrap();
        let text = format!(
            "store: store\nregistries:\n  - prefix: {}\n    insecure: true\nrepositories:\n  - name: fleet\n    url: {}/{project}.git\n    token: {{file: token}}\n    forge: {{kind: gitea, url: {}/api/v1}}\n",
            registry.host(),
            gitea.url,
            gitea.url
        );
        std::fs::write(dir.join("tagboat.yaml"), text).unwrap();
        git(
            dir,
            &[
                "clone",
                "-q",
                &gitea.remote(&project, "keeper", &gitea.token),
                "clone",
            ],
        );
        let world = Self {
            runtime,
            registry,
            _gitea: gitea,
            dir,
        };
        world.publish("1.0.0");
        world.publish("1.1.0");
        let policy = |number: usize| {
            format!(
                "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {{name: app-{number}}}\nspec:\n  image: {}/team/app-{number}\n  policy: {{semver: {{range: 1.x}}}}\n---\n",
                world.registry.host()
            )
        };
        world.commit(&[(
            "policies/images.yaml".to_owned(),
            (0..REQUESTS).map(policy).collect(),
        )]);
        world
    }

    /// Publishes a tag of every image.
    fn publish(&self, tag: &str) {
        for number in 0..REQUESTS {
            let image = SandboxImage {
                salt: tag.to_owned(),
                ..SandboxImage::default()
            };
            self.runtime
                .block_on(self.registry.publish(
                    &format!("team/app-{number}"),
                    &Tag::new(tag).unwrap(),
                    &image,
                ))
                .unwrap();
        }
    }

    /// Declares an Environment with all images at 1.0.0, a file each.
    fn declare(&self, name: &str, update: &str) {
        let comma = if update.is_empty() { "" } else { ", " };
        let environment = format!(
            "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {{name: {name}}}\nspec:\n  paths: ['envs/{name}/**']\n  update: {{via: pullRequest, group: policy{comma}{update}}}\n"
        );
        let file = |number: usize| {
            let text = format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: app-{number}}}\nspec:\n  template:\n    spec:\n      containers:\n        - name: app\n          image: {}/team/app-{number}:1.0.0\n",
                self.registry.host()
            );
            (format!("envs/{name}/app-{number}.yaml"), text)
        };
        let mut files: Vec<_> = (0..REQUESTS).map(file).collect();
        files.push((format!("policies/{name}.yaml"), environment));
        self.commit(&files);
    }

    fn commit(&self, files: &[(String, String)]) {
        let clone = self.dir.join("clone");
        git(&clone, &["pull", "-q"]);
        for (path, text) in files {
            let path = clone.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        git(&clone, &["add", "-A"]);
        git(&clone, &["commit", "-q", "-m", "by hand"]);
        git(&clone, &["push", "-q"]);
    }

    fn engine(&self) -> Engine {
        let options = SettingsFile {
            is_named: true,
            config: self.dir.join("tagboat.yaml"),
            repository: None,
        };
        ServiceContext::read(&options)
            .and_then(|context| context.open(RegistryTimeouts::default()))
            .unwrap_or_else(|failure| panic!("{:#}", failure.error))
    }

    /// Runs a pass; returns its report, its calls to the forge, and its seconds.
    fn pass(&self, engine: &Engine) -> (PassReport, Calls, f64) {
        let updater = &engine.updaters[0];
        let forge = updater.forge.as_ref().unwrap();
        let (before, begun) = (forge.calls(), Instant::now());
        let report =
            self.runtime
                .block_on(updater.pass(PassMode::Write, &Rescan::All, Timestamp::now()));
        let seconds = begun.elapsed().as_secs_f64();
        assert!(
            report.failures.is_empty() && report.findings.is_empty(),
            "{:#?} {:#?}",
            report.failures,
            report.findings
        );
        let mut calls = forge.calls();
        calls.retain(|operation, count| {
            *count -= before.get(operation).copied().unwrap_or_default();
            *count > 0
        });
        (report, calls, seconds)
    }

    fn row(&self, what: &str, engine: &Engine) -> PassReport {
        let (report, calls, seconds) = self.pass(engine);
        print(what, seconds, &calls);
        report
    }

    /// Runs a pass that finds this many open requests and nothing to do: it lists them page by
    /// page, and those that were closed since.
    fn quiet(&self, what: &str, engine: &Engine, open: usize) {
        let head = || git(&self.dir.join("clone"), &["ls-remote", "origin"]);
        let before = head();
        let (report, calls, seconds) = self.pass(engine);
        print(what, seconds, &calls);
        assert_eq!(count(&report, RequestState::Open), open);
        let pages = u64::try_from(open.div_ceil(PAGE) + 1).unwrap();
        assert_eq!(
            calls,
            Calls::from([(ForgeOperation::List, pages)]),
            "{what}"
        );
        assert!(before == head(), "{what}: something was pushed");
    }
}

fn count(report: &PassReport, state: RequestState) -> usize {
    report
        .environments
        .iter()
        .flat_map(|row| &row.requests)
        .filter(|row| row.state == state)
        .count()
}

fn print(what: &str, seconds: f64, calls: &Calls) {
    let all: u64 = calls.values().sum();
    let named: Vec<String> = calls
        .iter()
        .map(|(operation, count)| format!("{count} to {}", operation.as_str()))
        .collect();
    table::figure(&format!("{what} (s)"), seconds);
    table::figure("    each of them (s)", seconds / REQUESTS as f64);
    println!("    {all} calls: {}", named.join(", "));
}

/// Runs git as a person; returns its output.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", folder);
    for who in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{who}_NAME"), "Ann")
            .env(format!("GIT_{who}_EMAIL"), "ann@example.org");
    }
    let output = command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdin(Stdio::null())
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
