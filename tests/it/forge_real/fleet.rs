//! A fleet on a real Gitea. The bot's processes reach its API and its Git through a gate, which
//! records every request and can inject faults. The registry is the sandbox's.

use super::world::World;
use crate::{
    it::{
        git_support::{provider, runtime},
        update_support::{Gate, deployment, semver},
    },
    servers::git::{Program, command, git},
};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request as Asked,
    response::Response,
};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
};
use tagboat::{
    core::image::Tag,
    io::{
        forge::{CommitStatus, PullRequest, RequestLabel, RequestStatus, StatusState},
        registry::RegistryTimeouts,
    },
    sandbox::registry::{SandboxImage, SandboxRegistry},
    service::engine::{Engine, ServiceContext, SettingsFile},
    update::{EnvironmentReport, PassMode, PassReport, RequestReport, RequestState, Rescan},
};

/// The only branch of an Environment with one group.
pub(super) const BRANCH: &str = "tagboat/prod/all";
pub(super) const FILE: &str = "envs/prod/app.yaml";

pub(super) struct Fleet {
    pub runtime: Arc<tokio::runtime::Runtime>,
    pub world: World,
    pub registry: SandboxRegistry,
    /// The gate between the bot and Gitea.
    pub gate: Gate,
    /// The gate in front of the registry.
    pub images: Gate,
    pub dir: tempfile::TempDir,
}

/// An Environment `prod` with this text below `update`.
pub(super) fn prod(update: &str) -> String {
    let comma = if update.is_empty() { "" } else { ", " };
    format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {{name: prod}}\nspec:\n  paths: ['envs/prod/**']\n  update: {{via: pullRequest{comma}{update}}}\n---\n"
    )
}

impl Fleet {
    /// `team/web` and `team/db` at 1.0.0 in one file, and web 1.1.0 in the registry.
    pub(super) fn new(update: &str) -> Self {
        let fleet = Self::bare("");
        let declared = semver("web", "1.x", "") + &semver("db", "1.x", "") + &prod(update);
        fleet.person(&[
            ("policies/p.yaml", &declared),
            (FILE, &deployment(&["web:1.0.0", "db:1.0.0"])),
            ("README", "hello\n"),
        ]);
        fleet.publish("web", &["1.0.0", "1.1.0"]);
        fleet.publish("db", &["1.0.0"]);
        fleet
    }

    /// A fleet without declarations, files and images; `more` is appended to the repository in
    /// `tagboat.yaml`.
    pub(super) fn bare(more: &str) -> Self {
        provider();
        let runtime = Arc::new(runtime());
        let world = runtime.block_on(World::new());
        let (gate, images) = (Gate::default(), Gate::default());
        let registry = runtime
            .block_on(SandboxRegistry::start_with(|app| images.layer(app)))
            .unwrap();
        let address = runtime.block_on(forward(&world.gitea.url, &gate));
        let dir = tempfile::tempdir().unwrap();
        let fleet = Self {
            runtime,
            world,
            registry,
            gate,
            images,
            dir,
        };
        let token = fleet.runtime.block_on(
            fleet
                .world
                .gitea
                .token(&fleet.world.bot, &super::world::SCOPES),
        );
        std::fs::write(fleet.dir.path().join("token"), token).unwrap();
        let text = format!(
            "store: STORE\nregistries:\n  - prefix: {}\n    insecure: true\n    minimumInterval: 1s\nrepositories:\n  - name: fleet\n    url: {address}/{}.git\n    token: {{file: token}}\n    forge: {{kind: gitea, url: {address}/api/v1}}\n{more}",
            fleet.registry.host(),
            fleet.world.project
        );
        for store in ["store", "other"] {
            std::fs::write(fleet.config(store), text.replace("STORE", store)).unwrap();
        }
        fleet
    }

    /// The program without anything from this machine's environment.
    pub(super) fn tagboat(&self, arguments: &[&str]) -> Command {
        let mut command = crate::servers::environment::tagboat();
        command
            .env("HOME", self.dir.path())
            .env("TAGBOAT_CONFIG", self.config("store"))
            .args(arguments);
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    pub(super) fn config(&self, store: &str) -> PathBuf {
        self.dir.path().join(format!("{store}.yaml"))
    }

    pub(super) fn publish(&self, image: &str, tags: &[&str]) {
        for tag in tags {
            let salted = SandboxImage {
                salt: (*tag).to_owned(),
                ..SandboxImage::default()
            };
            self.runtime
                .block_on(self.registry.publish(
                    &format!("team/{image}"),
                    &Tag::new(*tag).unwrap(),
                    &salted,
                ))
                .unwrap();
        }
    }

    pub(super) fn engine(&self, store: &str) -> Engine {
        ServiceContext::read(&SettingsFile {
            is_named: true,
            config: self.config(store),
            repository: None,
        })
        .and_then(|context| context.open(RegistryTimeouts::default()))
        .unwrap_or_else(|failure| panic!("{:#}", failure.error))
    }

    pub(super) fn pass_of(&self, engine: &Engine, mode: PassMode) -> PassReport {
        self.runtime
            .block_on(engine.updaters[0].pass(mode, &Rescan::All, Timestamp::now()))
    }

    /// Runs one writing pass in a new process.
    pub(super) fn pass(&self) -> PassReport {
        self.pass_of(&self.engine("store"), PassMode::Write)
    }

    /// Runs a pass without failures; returns its requests.
    pub(super) fn good_pass(&self) -> Vec<RequestReport> {
        let report = self.pass();
        assert!(
            report.failures.is_empty() && report.findings.is_empty() && report.warnings.is_empty(),
            "{report:#?}"
        );
        rows(&report)
    }

    /// Returns the only request after a pass without failures.
    pub(super) fn only(&self) -> RequestReport {
        let mut rows = self.good_pass();
        assert_eq!(rows.len(), 1, "{rows:#?}");
        rows.remove(0)
    }

    /// The writing calls since the last one.
    pub(super) fn changing(&self) -> Vec<String> {
        let seen = self.gate.take();
        let changes =
            |line: &&String| !line.starts_with("GET ") && !line.contains("git-upload-pack");
        seen.iter().filter(changes).cloned().collect()
    }

    /// Runs a pass that writes nothing.
    pub(super) fn quiet_pass(&self) -> Vec<RequestReport> {
        self.gate.take();
        let rows = self.good_pass();
        assert_eq!(self.changing(), [""; 0], "{rows:#?}");
        assert!(rows.iter().all(|row| !row.state.is_change()), "{rows:#?}");
        rows
    }

    /// Commits to main as a person; `{host}` is the registry.
    pub(super) fn person(&self, files: &[(&str, &str)]) -> String {
        let clone = &self.world.clone;
        git(clone, &["fetch", "-q", "origin"]).ok();
        git(clone, &["checkout", "-q", "-B", "main", "origin/main"]).ok();
        self.commit(files);
        git(clone, &["push", "-q", "origin", "main"]).ok();
        git(clone, &["rev-parse", "HEAD"]).text()
    }

    /// Commits to the bot's branch as a person.
    pub(super) fn meddle(&self, files: &[(&str, &str)]) -> String {
        self.meddle_on(BRANCH, files)
    }

    /// Commits to one of the bot's branches as a person.
    pub(super) fn meddle_on(&self, branch: &str, files: &[(&str, &str)]) -> String {
        let clone = &self.world.clone;
        git(clone, &["fetch", "-q", "origin"]).ok();
        git(
            clone,
            &[
                "checkout",
                "-q",
                "-B",
                "theirs",
                &format!("origin/{branch}"),
            ],
        )
        .ok();
        self.commit(files);
        git(
            clone,
            &["push", "-q", "origin", &format!("HEAD:refs/heads/{branch}")],
        )
        .ok();
        git(clone, &["rev-parse", "HEAD"]).text()
    }

    fn commit(&self, files: &[(&str, &str)]) {
        let clone = &self.world.clone;
        for (path, text) in files {
            let file = clone.join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text.replace("{host}", &self.registry.host())).unwrap();
        }
        git(clone, &["add", "-A"]).ok();
        // A time of its own, so that no two commits are the same.
        assert!(
            command(clone)
                .args(["commit", "-q", "-m", "by hand"])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Runs `git push` as a person.
    pub(super) fn push(&self, arguments: &[&str]) {
        let mut all = vec!["push", "-q", "origin"];
        all.extend(arguments);
        git(&self.world.clone, &all).ok();
    }

    /// The commit of a branch; `None` if it does not exist.
    pub(super) fn head(&self, branch: &str) -> Option<String> {
        let line = git(
            &self.world.clone,
            &["ls-remote", "origin", &format!("refs/heads/{branch}")],
        )
        .text();
        line.split_whitespace().next().map(str::to_owned)
    }

    /// A file of a branch, with the registry as `{host}`.
    pub(super) fn text(&self, branch: &str, path: &str) -> String {
        let clone = &self.world.clone;
        git(clone, &["fetch", "-q", "--prune", "origin"]).ok();
        let text = git(clone, &["show", &format!("origin/{branch}:{path}")]).text();
        format!("{}\n", text.replace(&self.registry.host(), "{host}"))
    }

    /// The message of a branch's latest commit.
    pub(super) fn message(&self, branch: &str) -> String {
        git(&self.world.clone, &["fetch", "-q", "--prune", "origin"]).ok();
        git(
            &self.world.clone,
            &["log", "-1", "--format=%B", &format!("origin/{branch}")],
        )
        .text()
    }

    pub(super) fn get(&self, number: u64) -> PullRequest {
        self.runtime.block_on(self.world.forge.get(number)).unwrap()
    }

    /// The bot's open requests.
    pub(super) fn open(&self) -> Vec<u64> {
        let list = self
            .runtime
            .block_on(
                self.world
                    .forge
                    .list(tagboat::io::forge::RequestFilter::Open, "tagboat/"),
            )
            .unwrap();
        list.iter().map(|request| request.number).collect()
    }

    /// Changes a request as Ann.
    pub(super) fn ann(&self, number: u64, change: Value) {
        self.runtime.block_on(
            self.world
                .ann(Method::PATCH, &format!("pulls/{number}"), change),
        );
    }

    pub(super) fn close(&self, number: u64) {
        self.ann(number, json!({"state": "closed"}));
    }

    /// Labels a request as Ann.
    pub(super) fn label(&self, number: u64, name: &str) {
        let label = RequestLabel {
            name: name.to_owned(),
            color: "123456".to_owned(),
            description: String::new(),
        };
        self.runtime
            .block_on(self.world.forge.label(number, &[label], &[]))
            .unwrap();
    }

    pub(super) fn unlabel(&self, number: u64, name: &str) {
        self.runtime
            .block_on(self.world.forge.label(number, &[], &[name]))
            .unwrap();
    }

    /// Sets the status of a request's head.
    pub(super) fn check(&self, number: u64, state: StatusState) {
        let head = self.get(number).head_commit;
        let status = CommitStatus {
            context: "ci/test".to_owned(),
            state,
            description: "by a test".to_owned(),
            url: None,
        };
        self.runtime
            .block_on(self.world.forge.set_status(&head, &status))
            .unwrap();
    }

    pub(super) fn comments(&self, number: u64) -> Vec<String> {
        let answer = self.runtime.block_on(self.world.gitea.call(
            &self.world.ann_token,
            Method::GET,
            &format!("repos/{}/issues/{number}/comments", self.world.project),
            None,
        ));
        answer
            .1
            .as_array()
            .unwrap()
            .iter()
            .map(|comment| comment["body"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits until Gitea has processed the push, and knows if it can be merged.
    pub(super) fn settled(&self, number: u64) -> PullRequest {
        let head = self.head(BRANCH).unwrap();
        let wanted = |request: &PullRequest| {
            request.state != RequestStatus::Open
                || (request.head_commit == head
                    && request.mergeable == tagboat::io::forge::Mergeable::Yes)
        };
        self.runtime.block_on(
            self.world
                .until(number, "Gitea has checked the branch", wanted),
        )
    }
}

pub(super) fn rows(report: &PassReport) -> Vec<RequestReport> {
    report
        .environments
        .iter()
        .flat_map(|row: &EnvironmentReport| row.requests.clone())
        .collect()
}

/// Number, state and reasons of a request.
pub(super) fn seen(row: &RequestReport) -> (Option<u64>, RequestState, String) {
    (row.number, row.state, row.waits.join(" "))
}

/// Serves the server at `to` behind the gate.
async fn forward(to: &str, gate: &Gate) -> String {
    let (client, to) = (
        reqwest::Client::builder().no_proxy().build().unwrap(),
        to.to_owned(),
    );
    let pass = move |request: Asked| {
        let (client, to) = (client.clone(), to.clone());
        async move {
            let (parts, body) = request.into_parts();
            let mut headers = parts.headers;
            headers.remove("host");
            headers.remove("content-length");
            headers.remove("transfer-encoding");
            let body = to_bytes(body, 64 << 20).await.unwrap();
            let sent = client
                .request(parts.method, format!("{to}{}", parts.uri))
                .headers(headers)
                .body(body)
                .send()
                .await;
            let Ok(answer) = sent else {
                return Response::builder().status(502).body(Body::empty()).unwrap();
            };
            let mut response = Response::builder().status(answer.status());
            for (name, value) in answer.headers() {
                if !["transfer-encoding", "content-length", "connection"].contains(&name.as_str()) {
                    response = response.header(name, value);
                }
            }
            response
                .body(Body::from(answer.bytes().await.unwrap_or_default()))
                .unwrap()
        }
    };
    let app = gate.layer(Router::new().fallback(pass));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}
