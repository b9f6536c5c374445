//! An honest config repository beside hostile ones, as users run it: `cargo bench --bench soak`.
//!
//! One daemon follows the honest repository alone, another one follows it beside a hostile tenant,
//! a Git bomb and a hostile registry. They take turns, of which the other one sleeps through, so
//! that a busy machine slows both. Each round publishes a tag and waits for the commit and for the
//! cluster; the first one of a turn does not count. To meet: the honest repository's p95 stays
//! within twice its quiet value, and memory within 256 MiB over the quiet one.
//!
//! The argument is the time beside the hostile ones in minutes: `cargo bench --bench soak -- 30`.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark prints, and stops at the first surprise"
)]

#[path = "support/table.rs"]
mod table;

use axum::{
    Router,
    body::{Body, Bytes},
    http::{StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use futures::StreamExt as _;
use gix::{ObjectId, objs::tree::EntryKind};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tagboat::{
    core::image::Tag,
    sandbox::{
        git::{BareRepository, GitServer},
        kube::{SandboxCluster, SandboxOptions},
        registry::{SandboxImage, SandboxRegistry},
    },
};

const PATIENCE: Duration = Duration::from_secs(120);
const QUIET_TURN: Duration = Duration::from_secs(20);
const HOSTILE_TURN: Duration = Duration::from_secs(60);
const ANN: (&str, &str) = ("Ann", "ann@example.org");
const FILE: &str = "web/config.yaml";

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let minutes = std::env::args()
        .skip(1)
        .find(|argument| argument != "--bench")
        .map_or(2, |minutes| minutes.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut quiet = Turns::start(&runtime, false);
    let mut beside = Turns::start(&runtime, true);
    for _ in 0..minutes {
        quiet.run(&runtime, QUIET_TURN);
        beside.run(&runtime, HOSTILE_TURN);
    }
    let (quiet, beside) = (quiet.times(), beside.times());
    println!(
        "{minutes} min beside hostile ones, {} and {} rounds, p50 / p95 / greatest (s)",
        quiet.to_commit.len(),
        beside.to_commit.len()
    );
    table::heading();
    for (name, of) in [
        ("tag to commit", (&quiet.to_commit, &beside.to_commit)),
        ("commit to cluster", (&quiet.to_cluster, &beside.to_cluster)),
    ] {
        let (quiet, beside) = of;
        let p95 = percentile(quiet, 95);
        let texts = [("quiet", quiet), ("beside hostile ones", beside)];
        for (when, times) in texts {
            println!("    {name}, {when}: {}", row(times));
        }
        table::row(
            &format!("{name} beside hostile ones, p95 (s)"),
            percentile(beside, 95),
            2.0 * p95,
            &format!("twice the quiet p95 of this run, {p95:.3} s"),
        );
    }
    table::row(
        "greatest memory beside hostile ones (MiB)",
        beside.memory,
        quiet.memory + 256.0,
        &format!("256 over the quiet daemon of this run, {:.0}", quiet.memory),
    );
}

/// The servers, the settings and the cluster of one phase.
struct Stage {
    folder: tempfile::TempDir,
    registry: SandboxRegistry,
    honest: BareRepository,
    cluster: SandboxCluster,
    _servers: Vec<GitServer>,
}

struct Times {
    to_commit: Vec<f64>,
    to_cluster: Vec<f64>,
    /// Peak resident memory in MiB.
    memory: f64,
}

impl Stage {
    async fn start(hostile: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = SandboxRegistry::start().await.unwrap();
        let host = registry.host();
        let now = Timestamp::now().as_second() - 60;
        let create = |name: &str, files: &[(&str, &str)]| {
            let path = folder.path().join(format!("{name}.git"));
            BareRepository::create(&path, files, ANN, now, "first").unwrap()
        };
        let config = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: web}}\ndata:\n  image: {host}/team/web:1.0.0 # {{\"$imagepolicy\": \"dev:web\"}}\n"
        );
        let declared = declared("dev", "web", &format!("{host}/team/web"));
        let honest = create("honest", &[("p.yaml", &declared), (FILE, &config)]);
        let mut repositories = vec![("honest", honest.clone(), "clusters")];
        let bad = serve_hostile_registry().await;
        if hostile {
            let files = hostile_files(&bad);
            let files: Vec<(&str, &str)> = files
                .iter()
                .map(|(path, text)| (path.as_str(), text.as_str()))
                .collect();
            repositories.push(("tenant", create("tenant", &files), "tenant"));
            let bomb = create("bomb", &[("a.yaml", "a: b\n")]);
            drop_bomb(&bomb);
            repositories.push(("bomb", bomb, "tenant"));
        }
        let cluster = SandboxCluster::start(SandboxOptions::default())
            .await
            .unwrap();
        std::fs::write(folder.path().join("kubeconfig"), cluster.kubeconfig()).unwrap();
        // A renderer that never ends: what is slow is the tenant's alone.
        let slow = folder.path().join("kustomize");
        std::fs::write(
            &slow,
            "#!/bin/sh\n[ \"$1\" = version ] && echo v5.0.0 && exit\nsleep 600\n",
        )
        .unwrap();
        std::fs::set_permissions(&slow, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let mut text = format!(
            "store: store\nrender: {{kustomize: {}, timeout: 20s}}\nclusters: [{{name: test, kubeconfig: kubeconfig, repositories: [honest]}}]\nregistries:\n- {{prefix: {host}, insecure: true, minimumInterval: 1s}}\n- {{prefix: {bad}, insecure: true, minimumInterval: 1s}}\nrepositories:\n",
            slow.display()
        );
        let mut servers = Vec::new();
        for (name, repository, right) in repositories {
            let server = GitServer::start(repository, None).await.unwrap();
            text += &format!("- name: {name}\n  url: {}\n  interval: 1s\n", server.url());
            if right == "tenant" {
                text += "  tenant: {clusters: [test], namespaces: [team-a], serviceAccountName: deployer}\n";
            }
            servers.push(server);
        }
        std::fs::write(folder.path().join("tagboat.yaml"), text).unwrap();
        for namespace in ["dev", "team-a"] {
            let body =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            post(&cluster, "/api/v1/namespaces", &body).await;
        }
        publish(&registry, 0).await;
        Self {
            folder,
            registry,
            honest,
            cluster,
            _servers: servers,
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn wait_in_cluster(&self, runtime: &tokio::runtime::Runtime, tag: &str, log: &Path) {
        let url = format!(
            "{}/api/v1/namespaces/dev/configmaps/web",
            self.cluster.url()
        );
        let ending = format!(":{tag}");
        wait(log, || {
            let live: Value = runtime.block_on(async {
                let answer = reqwest::get(&url).await.ok()?;
                serde_json::from_slice(&answer.bytes().await.ok()?).ok()
            })?;
            let image = live.pointer("/data/image")?.as_str()?;
            image.ends_with(&ending).then_some(())
        });
    }
}

/// A daemon on its stage, which sleeps between its turns.
struct Turns {
    stage: Stage,
    daemon: Daemon,
    round: usize,
    to_commit: Vec<f64>,
    to_cluster: Vec<f64>,
}

impl Turns {
    fn start(runtime: &tokio::runtime::Runtime, hostile: bool) -> Self {
        let stage = runtime.block_on(Stage::start(hostile));
        let log = stage.log();
        let daemon = Daemon(
            Command::new(env!("CARGO_BIN_EXE_tagboat"))
                .args(["run", "--config", "tagboat.yaml"])
                .current_dir(stage.folder.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(&log).unwrap())
                .spawn()
                .unwrap(),
        );
        stage.wait_in_cluster(runtime, "1.0.0", &log);
        daemon.signal(Signal::STOP);
        Self {
            stage,
            daemon,
            round: 0,
            to_commit: Vec::new(),
            to_cluster: Vec::new(),
        }
    }

    fn run(&mut self, runtime: &tokio::runtime::Runtime, time: Duration) {
        self.daemon.signal(Signal::CONT);
        let log = self.stage.log();
        let (mut is_first, turn) = (true, Instant::now());
        while is_first || turn.elapsed() < time {
            self.round += 1;
            let tag = format!("1.0.{}", self.round);
            runtime.block_on(publish(&self.stage.registry, self.round));
            let begun = Instant::now();
            let wanted = format!(":{tag} ");
            wait(&log, || {
                read_file(&self.stage.honest)
                    .contains(&wanted)
                    .then_some(())
            });
            let committed = Instant::now();
            self.stage.wait_in_cluster(runtime, &tag, &log);
            if !std::mem::take(&mut is_first) {
                self.to_commit.push((committed - begun).as_secs_f64());
                self.to_cluster.push(committed.elapsed().as_secs_f64());
            }
        }
        self.daemon.signal(Signal::STOP);
    }

    fn times(self) -> Times {
        let status = format!("/proc/{}/status", self.daemon.0.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap();
        let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        Times {
            to_commit: self.to_commit,
            to_cluster: self.to_cluster,
            memory: kib / 1024.0,
        }
    }
}

/// A policy, an Environment and an Application, in one file.
fn declared(namespace: &str, path: &str, image: &str) -> String {
    format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {{name: web, namespace: {namespace}}}\nspec: {{image: {image}, interval: 1s, policy: {{semver: {{range: 1.x}}}}}}\n---\napiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {{name: {namespace}}}\nspec: {{paths: ['**'], update: {{via: commit}}}}\n---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: {path}, namespace: {namespace}}}\nspec: {{environment: {namespace}, path: {path}, cluster: test, targetNamespace: {namespace}}}\n"
    )
}

/// Files by which a tenant tries to harm its neighbours.
fn hostile_files(bad: &str) -> Vec<(String, String)> {
    let mut files = vec![(
        "p.yaml".to_owned(),
        declared("team-a", "app", &format!("{bad}/slow")),
    )];
    for number in 0..50 {
        let image = format!("{bad}/limited-{number}");
        let policy = format!(
            "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {{name: p{number}, namespace: team-a}}\nspec: {{image: {image}, interval: 1s, filterTags: {{pattern: '^(?P<v>.*)$', extract: '$v$v$v$v'}}, policy: {{semver: {{range: 1.x}}}}}}\n"
        );
        files.push((format!("policies/{number}.yaml"), policy));
    }
    for number in 0..12 {
        let application = declared("team-a", &format!("slow-{number}"), &format!("{bad}/slow"));
        let application = application.split("---\n").nth(2).unwrap().to_owned();
        files.push((format!("apps/{number}.yaml"), application));
        let kustomization = "resources: [a.yaml]\nconfigMapGenerator: [{name: a, files: ['http://127.0.0.1:1/']}]\n";
        files.push((
            format!("slow-{number}/kustomization.yaml"),
            kustomization.to_owned(),
        ));
        files.push((format!("slow-{number}/a.yaml"), "a: b\n".to_owned()));
    }
    // Wishes of a cluster-admin, 1,000 of them.
    let wishes: String = (0..1000)
        .map(|number| format!("---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: w{number}}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}}\n"))
        .collect();
    files.push(("app/all.yaml".to_owned(), wishes));
    let markers = "tag: 1.0.0 # {\"$imagepolicy\": \"team-a:web:tag\"}\n".repeat(200_000);
    files.push((
        "markers.yaml".to_owned(),
        format!("# {bad}/slow\n{markers}"),
    ));
    let anchors: String = (1..30)
        .map(|level| format!("a{level}: &a{level} [*a{0}, *a{0}, *a{0}]\n", level - 1))
        .collect();
    files.push((
        "anchors.yaml".to_owned(),
        format!("# kind: ImagePolicy tagboat.dev\na0: &a0 x\n{anchors}"),
    ));
    files
}

/// Ten levels of ten folders, each of one tree: 10,000,000,000 files.
fn drop_bomb(repository: &BareRepository) {
    use gix::objs::{Tree, tree::Entry};
    let repo = open(repository);
    let blob = repo.write_blob(b"a: b\n").unwrap().detach();
    let tree = |mode: EntryKind, oid: ObjectId| {
        let entries = (0..10).map(|number| Entry {
            mode: mode.into(),
            filename: format!("{number}.yaml").into(),
            oid,
        });
        let entries = entries.collect();
        repo.write_object(&Tree { entries }).unwrap().detach()
    };
    let mut top = tree(EntryKind::Blob, blob);
    for _ in 1..10 {
        top = tree(EntryKind::Tree, top);
    }
    let who = gix::actor::SignatureRef {
        name: "Eve".into(),
        email: "eve@example.org".into(),
        time: "1790000100 +0000",
    };
    let head = repo.rev_parse_single("main").unwrap().detach();
    let commit = repo.new_commit_as(who, who, "bomb", top, [head]).unwrap();
    let previous = gix::refs::transaction::PreviousValue::Any;
    repo.reference("refs/heads/main", commit.id, previous, "bomb")
        .unwrap();
}

/// A registry whose lists never end, 15 s a page, and that limits every other image.
async fn serve_hostile_registry() -> String {
    let answer = |uri: Uri| async move {
        let path = uri.path().to_owned();
        if path.contains("limited") {
            let wait = [(header::RETRY_AFTER, "21600")];
            return (StatusCode::TOO_MANY_REQUESTS, wait, "slow down").into_response();
        }
        if !path.ends_with("/tags/list") {
            return StatusCode::OK.into_response();
        }
        let page = Timestamp::now().as_nanosecond();
        let body = format!("{{\"name\": \"slow\", \"tags\": [\"1.0.{page}\"]}}");
        let bytes = body.into_bytes();
        let pace = Duration::from_secs(15) / u32::try_from(bytes.len()).unwrap();
        let stream = futures::stream::iter(bytes).then(move |byte| async move {
            tokio::time::sleep(pace).await;
            Ok::<_, std::io::Error>(Bytes::from(vec![byte]))
        });
        Response::builder()
            .header(header::LINK, format!("<{path}?last={page}>; rel=\"next\""))
            .body(Body::from_stream(stream))
            .unwrap()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    address.to_string()
}

async fn publish(registry: &SandboxRegistry, round: usize) {
    let image = SandboxImage {
        salt: round.to_string(),
        ..SandboxImage::default()
    };
    let tag = Tag::new(format!("1.0.{round}")).unwrap();
    registry.publish("team/web", &tag, &image).await.unwrap();
}

async fn post(cluster: &SandboxCluster, path: &str, body: &Value) {
    let request = reqwest::Client::new().post(format!("{}{path}", cluster.url()));
    let request = request.header("content-type", "application/json");
    let answer = request.body(body.to_string()).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

fn open(repository: &BareRepository) -> gix::Repository {
    let options = gix::open::Options::isolated().open_path_as_is(true);
    gix::open_opts(repository.dir(), options).unwrap()
}

fn read_file(repository: &BareRepository) -> String {
    let repo = open(repository);
    let id = repo
        .rev_parse_single(format!("main:{FILE}").as_str())
        .unwrap();
    String::from_utf8(id.object().unwrap().data.clone()).unwrap()
}

fn wait<T>(log: &Path, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            Instant::now() < end,
            "nothing happens: {}",
            std::fs::read_to_string(log).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn percentile(times: &[f64], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn row(times: &[f64]) -> String {
    let of = |percent| percentile(times, percent);
    format!("{:.2} / {:.2} / {:.2}", of(50), of(95), of(100))
}

/// Killed on drop.
struct Daemon(Child);

impl Daemon {
    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.0.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
