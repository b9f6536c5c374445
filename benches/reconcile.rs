//! The rows of the design's numbers from Git to the cluster: `cargo bench --bench reconcile`.
//!
//! Needs the real API server and kubectl: `eval "$(tests/programs cluster)"` builds both. A
//! thousand Applications in fifty namespaces have a Deployment without pods, a ServiceAccount, a
//! Service and a ConfigMap each. The server runs on the same machine and uses more of it than the
//! client. Therefore the same run also measures the server alone, and kubectl with the same
//! objects.
//!
//! The argument is the duration of the steady state in seconds: `cargo bench --bench reconcile --
//! 600`.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark prints, and stops at the first surprise"
)]

#[path = "support/applications.rs"]
mod applications;
#[path = "../tests/servers/assets.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod assets;
#[path = "support/daemon.rs"]
mod daemon;
#[path = "../tests/servers/kube.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod kube;
#[path = "support/table.rs"]
mod table;

use applications::{NAMESPACES, declarations, objects};
use futures::{StreamExt as _, stream};
use kube::{Kube, Options, call};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use table::{BOUND, figure, heading, row};
use tagboat::{
    core::name::Name,
    events::Recorder,
    io::{
        cluster::RequestStats,
        render::{RenderMethod, Rendered},
    },
    objects::object::{CompactObject, Object, ObjectOrigin},
    reconcile::{ApplicationState, ReconcileMode, Reconciler, RenderFn, RenderStage, RepositoryId},
    spec::{self, Application, Declarations, settings},
};
use tokio_util::sync::CancellationToken;

/// The allocator of the program, because memory is measured here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const APPLICATIONS: usize = 1_000;
/// Applications of the process with 10,000 objects.
const MORE: usize = 2_500;
const OBJECTS: usize = 4;
/// Objects that another manager changes, once each: a second change of one would back off.
const DRIFTS: usize = 50;
/// Requests in flight, for tagboat and for the server alone.
const AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(300);
const REPOSITORY: &str = "fleet";

fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    if let [word, kubeconfig, applications] = arguments.as_slice()
        && word == "hold"
    {
        runtime.block_on(hold(Path::new(kubeconfig), applications.parse().unwrap()));
        return ExitCode::SUCCESS;
    }
    for variable in ["TAGBOAT_TEST_KUBE", "TAGBOAT_TEST_KUBECTL"] {
        if std::env::var_os(variable).is_none() {
            eprintln!(
                "{variable} is not set: `eval \"$(tests/programs cluster)\"` builds the Kubernetes API server and kubectl."
            );
            // Not a failure: `cargo bench` runs the others, too.
            return ExitCode::SUCCESS;
        }
    }
    let steady = arguments
        .first()
        .map_or(60, |seconds| seconds.parse().unwrap());
    // Without controllers no Deployment becomes healthy, and the pods of each are listed.
    let kube = Kube::start(Options {
        controllers: true,
        ..Options::default()
    });
    runtime.block_on(rows(&kube, Duration::from_secs(steady)));
    ExitCode::SUCCESS
}

async fn rows(kube: &Kube, steady: Duration) {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "{processors} processors for the API server, etcd and us; load before: {}",
        load()
    );
    heading();
    let server = Server {
        kube,
        client: kube.http(),
    };
    for prefix in ["bench", "alone", "kubectl"] {
        for number in 0..NAMESPACES {
            let body = json!({"metadata": {"name": format!("{prefix}-{number}")}});
            server
                .call(Method::POST, "/api/v1/namespaces", Some(&body), 201)
                .await;
        }
    }
    let declared = declared(APPLICATIONS);

    // The limit of the server itself: the same objects, sent without any logic.
    let bare: Vec<Value> = (0..APPLICATIONS)
        .flat_map(|number| objects("alone", number, "first"))
        .collect();
    let alone =
        timed(stream::iter(&bare).for_each_concurrent(AT_ONCE, |object| server.apply(object)))
            .await;
    figure("the server alone: 4,000 first applies (s)", alone);

    let mut fleet = Fleet::open(&kube.kubeconfig).await;
    let (worked, theirs) = (processor_time(None), server.worked().await);
    let first = timed(fleet.commit(&declared)).await;
    let sent = fleet.stats();
    assert_eq!(
        sent.of("apply"),
        (APPLICATIONS * OBJECTS) as u64,
        "{sent:?}"
    );
    assert!(fleet.all_synced());
    let against = format!("the server alone with the same writes, this run: {alone:.1} s");
    row(
        "first apply of 1,000 Applications (s)",
        first,
        6.0,
        &against,
    );
    println!(
        "    requests: {}; {:.0} writes/s; load after: {}",
        by_verb(&sent),
        sent.writes() as f64 / first,
        load()
    );
    figure(
        "    processor time of ours (s)",
        processor_time(None) - worked,
    );
    figure(
        "    processor time of the server (s)",
        server.worked().await - theirs,
    );
    figure(
        "    times what the server alone takes for the writes",
        first / (alone * sent.writes() as f64 / bare.len() as f64),
    );

    let mut again = Vec::new();
    let before = fleet.stats();
    for _ in 0..5 {
        again.push(timed(fleet.commit(&declared)).await);
    }
    let sent = fleet.stats().since(&before);
    assert_eq!(
        sent.without_watches(),
        0,
        "a second apply sends nothing: {sent:?}"
    );
    figure(
        "second apply, at a new revision: to the end (s)",
        median(&mut again),
    );
    row(
        "second apply: requests",
        sent.without_watches() as f64,
        0.0,
        BOUND,
    );

    let (mut one, before) = (Vec::new(), fleet.stats());
    for number in 0..20 {
        fleet.change(number, "changed");
        let revision = fleet.follow(&declared);
        let only = BTreeSet::from([name(number)]);
        one.push(timed(fleet.settled(&revision, Some(&only))).await * 1e3);
        fleet.settled(&revision, None).await;
    }
    let sent = fleet.stats().since(&before);
    figure(
        "one Application of 1,000 changed: settled, p50 (ms)",
        median(&mut one),
    );
    println!(
        "    requests for each of {}: {}",
        one.len(),
        by_verb(&RequestStats(
            sent.0
                .iter()
                .map(|(verb, n)| (*verb, n / one.len() as u64))
                .collect()
        ))
    );
    assert_eq!(sent.of("apply"), one.len() as u64, "{sent:?}");

    // The original values, for the processes that follow.
    fleet.values.lock().unwrap().clear();
    fleet.commit(&declared).await;

    let mut drift = Vec::new();
    for number in 100..100 + DRIFTS {
        drift.push(server.repaired(number).await * 1e3);
    }
    drift.sort_by(f64::total_cmp);
    figure("drift of one object: repaired, p50 (ms)", drift[DRIFTS / 2]);
    row(
        "drift of one object: repaired, p95 (ms)",
        drift[DRIFTS * 95 / 100],
        50.0,
        BOUND,
    );

    steady_state(kube, &fleet, steady).await;
    fleet.end().await;

    let mut starts = Vec::new();
    let mut held = Value::Null;
    for _ in 0..3 {
        held = child(kube, APPLICATIONS);
        assert_eq!(held["writes"], 0, "{held}");
        starts.push(held["seconds"].as_f64().unwrap());
    }
    figure(
        "new process: until 1,000 Applications are synced (s)",
        median(&mut starts),
    );
    println!("    requests: {}", held["sent"].as_str().unwrap());
    figure(
        "resident with 4,000 objects (MiB)",
        held["idle"].as_f64().unwrap(),
    );
    println!(
        "    {:.1} over the empty process, {:.1} at its greatest",
        growth(&held),
        held["greatest"].as_f64().unwrap()
    );
    many(kube, &server).await;

    let file = kube.folder().join("objects.yaml");
    let objects: Vec<String> = (0..APPLICATIONS)
        .flat_map(|number| objects("kubectl", number, "first"))
        .map(|value| value.to_string())
        .collect();
    std::fs::write(&file, objects.join("\n---\n")).unwrap();
    let begun = Instant::now();
    let output = kube.kubectl(&["apply", "--server-side", "-f", file.to_str().unwrap()]);
    let kubectl = begun.elapsed().as_secs_f64();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    row(
        "first apply, records and all, beside kubectl (s)",
        first,
        kubectl,
        &format!("kubectl apply --server-side, this run: {kubectl:.1} s"),
    );
    println!("load at the end: {}", load());
}

/// Memory of the daemon itself with 10,000 objects: after it has applied them, and in a process
/// that found them applied.
async fn many(kube: &Kube, server: &Server<'_>) {
    for number in 0..NAMESPACES {
        let body = json!({"metadata": {"name": format!("many-{number}")}});
        server
            .call(Method::POST, "/api/v1/namespaces", Some(&body), 201)
            .await;
    }
    let folder = kube.folder().join("daemon");
    std::fs::create_dir(&folder).unwrap();
    let applications =
        (0..MORE).map(|number| (format!("app-{number}"), objects("many", number, "first")));
    let ground = daemon::DaemonFixture::new(
        &folder,
        &kube.kubeconfig,
        &declarations("many", MORE),
        applications,
    );
    for what in ["applied them", "found them applied"] {
        let usage = ground.run();
        assert_eq!(usage.synced, MORE);
        row(
            &format!("{} objects, tagboat run that {what} (MiB)", MORE * OBJECTS),
            usage.resident,
            64.0,
            BOUND,
        );
        println!(
            "    {:.1} at its greatest; {:.1} are the program's own file",
            usage.greatest, usage.program
        );
        println!(
            "    idle after {:.1} s, {:.1} s of a processor; load: {}",
            usage.seconds,
            usage.worked,
            load()
        );
    }
}

/// Requests while nothing changes, counted by tagboat and by the server.
async fn steady_state(kube: &Kube, fleet: &Fleet, time: Duration) {
    let (ours, theirs) = (fleet.stats(), kube.metrics().await);
    tokio::time::sleep(time).await;
    let (sent, counted) = (
        fleet.stats().since(&ours),
        kube.metrics().await.since(&theirs),
    );
    assert_eq!(sent.without_watches(), 0, "{sent:?}");
    for resource in ["deployments", "services", "serviceaccounts", "configmaps"] {
        let requested: Vec<_> = counted
            .0
            .iter()
            .filter(|((verb, of), _)| of == resource && verb != "WATCH")
            .collect();
        assert!(requested.is_empty(), "{requested:?}");
    }
    let hours = time.as_secs_f64() / 3600.0;
    row(
        "steady state: requests per object and hour",
        sent.without_watches() as f64 / (APPLICATIONS * OBJECTS) as f64 / hours,
        0.0,
        BOUND,
    );
    println!(
        "    in {} s, watches begun by us: {}",
        time.as_secs(),
        sent.of("watch")
    );
    let counted: Vec<String> = counted
        .0
        .iter()
        .map(|((verb, of), count)| {
            format!(
                "{count} {verb} {}",
                if of.is_empty() { "(none)" } else { of }
            )
        })
        .collect();
    println!(
        "    the server's own count, its own requests to itself included: {}",
        counted.join(", ")
    );
}

/// Runs a reconciler in a process of its own: seconds until everything is synced, and its memory.
fn child(kube: &Kube, applications: usize) -> Value {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .arg("hold")
        .arg(&kube.kubeconfig)
        .arg(applications.to_string());
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn hold(kubeconfig: &Path, applications: usize) {
    let empty = memory(None, "VmRSS");
    let declared = declared(applications);
    let mut fleet = Fleet::open(kubeconfig).await;
    let seconds = timed(fleet.commit(&declared)).await;
    assert!(fleet.all_synced());
    drop(declared);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (sent, idle, greatest) = (fleet.stats(), memory(None, "VmRSS"), memory(None, "VmHWM"));
    let result = json!({
        "seconds": seconds, "writes": sent.writes(), "sent": by_verb(&sent),
        "empty": empty, "idle": idle, "greatest": greatest,
    });
    println!("{result}");
}

fn growth(held: &Value) -> f64 {
    held["idle"].as_f64().unwrap() - held["empty"].as_f64().unwrap()
}

/// The API server, accessed without tagboat.
struct Server<'k> {
    kube: &'k Kube,
    client: reqwest::Client,
}

impl Server<'_> {
    async fn call(&self, method: Method, path: &str, body: Option<&Value>, expected: u16) -> Value {
        let (status, answer) = call(
            &self.client,
            &self.kube.server,
            &self.kube.token,
            method,
            path,
            body,
        )
        .await;
        assert_eq!(status.as_u16(), expected, "{path}: {answer}");
        answer
    }

    /// Seconds of processor time of the server, including etcd.
    async fn worked(&self) -> f64 {
        let answer = self
            .client
            .get(format!("{}/metrics", self.kube.server))
            .bearer_auth(&self.kube.token)
            .send()
            .await
            .unwrap();
        let text = answer.error_for_status().unwrap().text().await.unwrap();
        text.lines()
            .find_map(|line| line.strip_prefix("process_cpu_seconds_total "))
            .unwrap()
            .parse()
            .unwrap()
    }

    async fn apply(&self, object: &Value) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap();
        let prefix = if text("/apiVersion") == "v1" {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{}", text("/apiVersion"))
        };
        let (namespace, plural) = (
            text("/metadata/namespace"),
            format!("{}s", text("/kind").to_lowercase()),
        );
        let path = format!(
            "{prefix}/namespaces/{namespace}/{plural}/{}?fieldManager=bench",
            text("/metadata/name")
        );
        self.call(Method::PATCH, &path, Some(object), 201).await;
    }

    /// Changes a value as another manager; returns the seconds from that response until the server
    /// has the old value again.
    async fn repaired(&self, number: usize) -> f64 {
        let path = format!(
            "/api/v1/namespaces/bench-{}/configmaps/app-{number}",
            number % NAMESPACES
        );
        let before = self.call(Method::GET, &path, None, 200).await["data"]["value"].clone();
        let change = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("app-{number}")}, "data": {"value": "by hand"}});
        let changed = self
            .call(
                Method::PATCH,
                &format!("{path}?fieldManager=somebody&force=true"),
                Some(&change),
                200,
            )
            .await;
        let begun = Instant::now();
        assert!(
            before != "by hand" && changed["data"]["value"] == "by hand",
            "{before} {changed}"
        );
        while self.call(Method::GET, &path, None, 200).await["data"]["value"] != before {
            assert!(begun.elapsed() < PATIENCE, "not repaired: {path}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        begun.elapsed().as_secs_f64()
    }
}

struct Fleet {
    reconciler: Arc<Reconciler>,
    stop: CancellationToken,
    /// Values that differ from the first one, by number of the Application.
    values: Arc<Mutex<BTreeMap<usize, String>>>,
    revision: u32,
}

impl Fleet {
    async fn open(kubeconfig: &Path) -> Self {
        let cluster = settings::ClusterSettings {
            concurrency: AT_ONCE,
            ..settings::ClusterSettings::new("test", Some(kubeconfig.to_owned()))
        };
        let stop = CancellationToken::new();
        let reconciler = Reconciler::open(
            &[cluster],
            |path| path.to_owned(),
            ReconcileMode::Act,
            &Recorder::default(),
            stop.clone(),
        )
        .await
        .unwrap();
        Self {
            reconciler: Arc::new(reconciler),
            stop,
            values: Arc::default(),
            revision: 0,
        }
    }

    fn change(&self, number: usize, value: &str) {
        self.values.lock().unwrap().insert(number, value.to_owned());
    }

    /// Accepts a new revision and returns it.
    fn follow(&mut self, declared: &Declarations) -> String {
        self.revision += 1;
        let (revision, values) = (format!("{:040}", self.revision), Arc::clone(&self.values));
        let render = move |application: &Application| {
            let number = application
                .path
                .strip_prefix("app-")
                .unwrap()
                .parse()
                .unwrap();
            let value = values
                .lock()
                .unwrap()
                .get(&number)
                .map_or_else(|| "first".to_owned(), Clone::clone);
            let origin = |line| ObjectOrigin {
                file: format!("{}/all.yaml", application.path).into(),
                line,
            };
            let objects = objects("bench", number, &value).into_iter().enumerate();
            let objects =
                objects.map(|(line, value)| Object::new(value).unwrap().at(origin(line + 1)));
            let hash = format!("{number} {value}");
            let manifests = objects.map(CompactObject::new).collect();
            Ok(RenderStage::Rendered(Arc::new(Rendered {
                manifests,
                how: RenderMethod::Plain,
                warnings: Vec::new(),
                left_out: Vec::new(),
                hash,
                inputs: None,
            })))
        };
        let repository = RepositoryId {
            name: REPOSITORY.to_owned(),
            address: "git.example.org/fleet".to_owned(),
            part: "main".to_owned(),
        };
        self.reconciler.reconcile(
            &repository,
            &revision,
            declared,
            None,
            &(Arc::new(render) as Arc<RenderFn>),
        );
        revision
    }

    async fn settled(&self, revision: &str, only: Option<&BTreeSet<Name>>) {
        let done = self
            .reconciler
            .wait_until_observed(REPOSITORY, revision, only, PATIENCE, |_| {})
            .await;
        assert!(
            done,
            "not settled: {:?}",
            self.reconciler
                .statuses()
                .iter()
                .find(|status| status.state != ApplicationState::Synced)
        );
    }

    /// Commits a new revision and waits until it is reconciled.
    async fn commit(&mut self, declared: &Declarations) {
        let revision = self.follow(declared);
        self.settled(&revision, None).await;
    }

    fn all_synced(&self) -> bool {
        self.reconciler
            .statuses()
            .iter()
            .all(|status| status.state == ApplicationState::Synced)
    }

    fn stats(&self) -> RequestStats {
        self.reconciler.cluster("test").unwrap().stats()
    }

    async fn end(self) {
        self.stop.cancel();
        self.reconciler.shut_down().await;
    }
}

fn name(number: usize) -> Name {
    Name::new(
        &format!("bench-{}", number % NAMESPACES),
        &format!("app-{number}"),
    )
    .unwrap()
}

fn declared(applications: usize) -> Declarations {
    let text = declarations("bench", applications);
    let declared = spec::read([("apps.yaml", text.as_bytes())], None);
    assert!(
        !declared.has_errors() && declared.applications.len() == applications,
        "{:?}",
        declared.mistakes
    );
    declared
}

fn by_verb(stats: &RequestStats) -> String {
    let counts: Vec<String> = stats
        .0
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(verb, count)| format!("{count} {verb}"))
        .collect();
    if counts.is_empty() {
        "none".to_owned()
    } else {
        counts.join(", ")
    }
}

/// Memory of a process, or of this one, in MiB.
fn memory(process: Option<u32>, what: &str) -> f64 {
    let status = std::fs::read_to_string(format!(
        "/proc/{}/status",
        process.unwrap_or_else(std::process::id)
    ))
    .unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<f64>()
        .unwrap()
        / 1024.0
}

/// Processor time of a process, or of this one: fields 14 and 15 of `stat`, in hundredths of a
/// second.
fn processor_time(process: Option<u32>) -> f64 {
    let stat = std::fs::read_to_string(format!(
        "/proc/{}/stat",
        process.unwrap_or_else(std::process::id)
    ))
    .unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    fields[11..13]
        .iter()
        .map(|ticks| ticks.parse::<f64>().unwrap() / 100.0)
        .sum()
}

/// The load average of the last minute.
fn load() -> String {
    std::fs::read_to_string("/proc/loadavg")
        .unwrap()
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_owned()
}

async fn timed(work: impl Future<Output = ()>) -> f64 {
    let begun = Instant::now();
    work.await;
    begun.elapsed().as_secs_f64()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
