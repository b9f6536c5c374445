//! The rows of the design's numbers for whole passes: `cargo bench --bench pass`. Needs `git`.
//!
//! The growth rows have 1,000 tags for each policy, and should hardly differ.
//! The config repository has 10,000 files with 2,000 marked images of 50 repositories. "Fresh" has
//! no index in memory and no index file; the mirror is fetched before.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark prints, and stops at the first surprise"
)]

#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/table.rs"]
mod table;

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use std::{
    collections::HashSet,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use table::{BOUND, figure, heading, row};
use tagboat::{
    core::image::{ImageRepository, Tag},
    io::registry::RegistryTimeouts,
    sandbox::{
        git::BareRepository,
        registry::{SandboxImage, SandboxRegistry},
    },
    service::engine::{Engine, ServiceContext, SettingsFile},
    update::{self, EnvironmentState, PassMode, Rescan},
};

const WHO: (&str, &str) = ("Ann", "ann@example.org");
const IMAGES: usize = 50;
const RUNS: usize = 30;
/// Policies of the idle daemon, and tags of each.
const POLICIES: usize = 1_000;

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let temporary = std::env::temp_dir().join(format!("tagboat-bench-{}", std::process::id()));
    std::fs::create_dir(&temporary).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    heading();
    passes(&runtime, &temporary.join("passes"));
    for policies in [50, 250, 1_000] {
        growth(
            &runtime,
            &temporary.join(format!("growth-{policies}")),
            policies,
        );
    }
    idle(&runtime, &temporary.join("idle"), "24h");
    idle(&runtime, &temporary.join("busy"), "10s");
    std::fs::remove_dir_all(&temporary).unwrap();
}

fn policy(name: &str, repository: &str) -> String {
    format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {{name: {name}, namespace: apps}}\nspec:\n  image: {repository}\n  interval: 24h\n  policy: {{semver: {{range: '>=6.0.0'}}}}\n---\n"
    )
}

fn environment(paths: &str) -> String {
    format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {{name: all}}\nspec:\n  paths: ['{paths}']\n  update: {{via: commit}}\n---\n"
    )
}

fn configure(dir: &Path, host: &str) {
    configure_with(dir, host, "");
}

fn configure_with(dir: &Path, host: &str, registry: &str) {
    let url = format!("file://{}", dir.join("fleet.git").display());
    let text = format!(
        "store: store\nregistries:\n  - prefix: {host}\n    insecure: true\n{registry}repositories:\n  - name: fleet\n    url: {url}\n    policies: policies\n    interval: 24h\n"
    );
    std::fs::write(dir.join("tagboat.yaml"), text).unwrap();
}

fn engine(dir: &Path) -> Engine {
    let options = SettingsFile {
        is_named: true,
        config: dir.join("tagboat.yaml"),
        repository: None,
    };
    ServiceContext::read(&options)
        .and_then(|context| context.open(RegistryTimeouts::default()))
        .unwrap_or_else(|failure| panic!("{:#}", failure.error))
}

fn passes(runtime: &tokio::runtime::Runtime, dir: &Path) {
    std::fs::create_dir(dir).unwrap();
    let registry = runtime.block_on(SandboxRegistry::start()).unwrap();
    let mut files: Vec<(String, String)> = fleet::fleet(7)
        .into_iter()
        .map(|(path, text)| (path, text.replace("registry.example.org", &registry.host())))
        .collect();
    let declared: String = (0..IMAGES)
        .map(|n| {
            policy(
                &format!("app-{n}"),
                &format!("{}/team/app-{n}", registry.host()),
            )
        })
        .collect();
    files.push((
        "policies/all.yaml".to_owned(),
        declared + &environment("clusters/**"),
    ));
    let borrowed: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let repository = BareRepository::create(
        &dir.join("fleet.git"),
        &borrowed,
        WHO,
        Timestamp::now().as_second() - 60,
        "first",
    )
    .unwrap();
    configure(dir, &registry.host());
    let publish = |image: usize, tag: &str| {
        let tag = Tag::new(tag).unwrap();
        runtime
            .block_on(registry.publish(
                &format!("team/app-{image}"),
                &tag,
                &SandboxImage::default(),
            ))
            .unwrap();
    };
    for image in 0..IMAGES {
        for minor in 0..100 {
            publish(image, &format!("6.{minor}.0"));
        }
    }
    let engine = engine(dir);
    let updater = &engine.updaters[0];

    // References of a revision, by the extractor of the update pass.
    let head = updater.repo.mirror.fetch().unwrap().commit;
    let read = |commit, memory: &mut update::SnapshotCache| {
        let (world, _) = update::read(
            &updater.repo.mirror,
            commit,
            &Some("policies").into(),
            &updater.repo.index_folder,
            memory,
        )
        .unwrap();
        assert_eq!(world.files.len(), 2_000);
    };
    let forget = || {
        for file in ["declared.index", "references.index"] {
            let _ = std::fs::remove_file(updater.repo.index_folder.join(file));
        }
    };
    let cold = (0..9).map(|_| {
        forget();
        let mut memory = update::SnapshotCache::default();
        timed(|| read(head, &mut memory))
    });
    // Every file of the fleet contains a watched word, so everything is parsed.
    row(
        "references, no index yet, everything parsed (ms)",
        median(cold),
        90.0,
        BOUND,
    );
    let same = (0..RUNS).map(|_| {
        let mut memory = update::SnapshotCache::default();
        timed(|| read(head, &mut memory))
    });
    row(
        "references, nothing changed, fresh memory (ms)",
        median(same),
        2.0,
        BOUND,
    );
    let mut memory = update::SnapshotCache::default();
    read(head, &mut memory);
    let running = (0..RUNS)
        .map(|_| timed(|| read(head, &mut memory)))
        .collect::<Vec<_>>();
    row(
        "references, nothing changed, running (ms)",
        median(running.into_iter()),
        0.1,
        BOUND,
    );
    let mut edited = borrowed
        .iter()
        .find(|(_, text)| text.contains("/team/app-49:"))
        .map(|(path, text)| (*path, (*text).to_owned()))
        .unwrap();
    let mut changed = Vec::new();
    for n in 0..15 {
        edited.1.push_str(&format!("# {n}\n"));
        repository
            .commit(
                &[(edited.0, &edited.1)],
                WHO,
                Timestamp::now().as_second() - 30,
                "one",
            )
            .unwrap();
        let commit = updater.repo.mirror.fetch().unwrap().commit;
        changed.push(timed(|| read(commit, &mut memory)));
    }
    row(
        "references, one file changed, running (ms)",
        median(changed.into_iter()),
        0.3,
        BOUND,
    );

    // From a tag to the pushed commit: 40 references of the image are rewritten.
    let first = runtime.block_on(updater.pass(PassMode::Write, &Rescan::All, Timestamp::now()));
    let report = (
        &first.failures,
        first
            .environments
            .iter()
            .map(|row| (row.state, row.left.first()))
            .collect::<Vec<_>>(),
        first.findings.first(),
    );
    assert_eq!(
        (first.pushed(), first.failures.len()),
        (1, 0),
        "{report:#?}"
    );
    let image = ImageRepository::new(&format!("{}/team/app-0", registry.host())).unwrap();
    let mut times = Vec::new();
    for run in 0..RUNS {
        publish(0, &format!("7.{run}.0"));
        let rescan = Rescan::Only {
            due: HashSet::from([image.clone()]),
            backing_off: HashSet::new(),
        };
        let begun = Instant::now();
        let report = runtime.block_on(updater.pass(PassMode::Write, &rescan, Timestamp::now()));
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        assert!(
            report.pushed() == 1 && report.environments[0].state == EnvironmentState::Committed,
            "{:#?}",
            report.failures
        );
    }
    times.sort_by(f64::total_cmp);
    row(
        "trigger to pushed commit, p50 (ms)",
        times[RUNS / 2],
        100.0,
        BOUND,
    );
    row(
        "trigger to pushed commit, p95 (ms)",
        times[RUNS * 95 / 100],
        100.0,
        BOUND,
    );
    let quiet = (0..RUNS).map(|_| {
        timed(|| {
            let report =
                runtime.block_on(updater.pass(PassMode::Write, &Rescan::All, Timestamp::now()));
            assert_eq!(
                (
                    report.pushed(),
                    report.requests.listings,
                    report.requests.registry
                ),
                (0, IMAGES as u64, IMAGES as u64)
            );
        })
    });
    figure(
        "a whole pass over an unchanged world, p50 (ms)",
        median(quiet),
    );
    let nothing_due = Rescan::Only {
        due: HashSet::new(),
        backing_off: HashSet::new(),
    };
    let between = (0..RUNS).map(|_| {
        timed(|| {
            let report =
                runtime.block_on(updater.pass(PassMode::Write, &nothing_due, Timestamp::now()));
            assert_eq!((report.pushed(), report.requests.registry), (0, 0));
        })
    });
    figure("the same with nothing due, p50 (ms)", median(between));
    let fetch = (0..RUNS).map(|_| timed(|| assert!(!updater.repo.mirror.fetch().unwrap().changed)));
    figure(
        "of which the question where the branch is (ms)",
        median(fetch),
    );
}

/// Measures passes over 10,000 files with so many policies, of a thousand tags each.
fn growth(runtime: &tokio::runtime::Runtime, dir: &Path, policies: usize) {
    std::fs::create_dir(dir).unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let (registry, new) = listing_registry(runtime, &requests);
    let host = registry.host();
    let declared: String = (0..policies)
        .map(|n| policy(&format!("app-{n}"), &format!("{host}/team/app-{n}")))
        .collect();
    let mut files: Vec<(String, String)> = fleet::fleet(7)
        .into_iter()
        .map(|(path, text)| (path, text.replace("registry.example.org", &host)))
        .collect();
    // The fleet refers to fifty images; every further policy has a file of its own.
    files.truncate(fleet::FILES - policies.saturating_sub(IMAGES));
    files.extend((IMAGES..policies).map(|n| (format!("clusters/more/{n}.yaml"), pod(&host, n))));
    files.push((
        "policies/all.yaml".to_owned(),
        declared + &environment("clusters/**"),
    ));
    create(dir, &files);
    configure(dir, &host);
    let engine = engine(dir);
    let updater = &engine.updaters[0];
    let pass = |rescan: &Rescan| {
        let begun = Instant::now();
        let report = runtime.block_on(updater.pass(PassMode::Write, rescan, Timestamp::now()));
        assert!(report.failures.is_empty(), "{:#?}", report.failures);
        (report, begun.elapsed().as_secs_f64() * 1e3)
    };
    let publish = |tag: String| {
        let tag_ = Tag::new(tag.as_str()).unwrap();
        let image = SandboxImage::default();
        runtime
            .block_on(registry.publish("team/app-0", &tag_, &image))
            .unwrap();
        new.lock().unwrap().push(tag);
    };
    for n in 0..policies {
        // The first pass brings every file to the last of its tags, which must exist.
        let tag = Tag::new(format!("6.99.{}", n * 10 + 9)).unwrap();
        let image = SandboxImage::default();
        let name = format!("team/app-{n}");
        let published = registry.publish(&name, &tag, &image);
        runtime.block_on(published).unwrap();
    }
    assert_eq!(pass(&Rescan::All).0.pushed(), 1);
    pass(&Rescan::All);
    let before = updater.work();
    let mut quiet: Vec<f64> = (0..RUNS).map(|_| pass(&nothing_due()).1).collect();
    assert_eq!(before, updater.work(), "an unchanged pass decides nothing");
    quiet.sort_by(f64::total_cmp);
    row(
        &format!("{policies} policies: pass with nothing due, p50 (ms)"),
        quiet[RUNS / 2],
        20.0,
        BOUND,
    );
    let image = ImageRepository::new(&format!("{host}/team/app-0")).unwrap();
    let due = Rescan::Only {
        due: HashSet::from([image]),
        backing_off: HashSet::new(),
    };
    let mut times: Vec<f64> = (0..RUNS)
        .map(|run| {
            publish(format!("7.{run}.0"));
            let (report, time) = pass(&due);
            assert_eq!(report.pushed(), 1);
            time
        })
        .collect();
    let decided = updater.work().decisions - before.decisions;
    times.sort_by(f64::total_cmp);
    row(
        &format!("{policies} policies: trigger to commit, p50 (ms)"),
        times[RUNS / 2],
        100.0,
        BOUND,
    );
    row(
        &format!("{policies} policies: trigger to commit, p95 (ms)"),
        times[RUNS * 95 / 100],
        100.0,
        BOUND,
    );
    figure(
        "of which decisions of policies",
        decided as f64 / RUNS as f64,
    );
}

fn nothing_due() -> Rescan {
    Rescan::Only {
        due: HashSet::new(),
        backing_off: HashSet::new(),
    }
}

/// Returns a file that refers to the last tag of a repository, so that nothing is to be done.
fn pod(host: &str, app: usize) -> String {
    let last = app * 10 + 9;
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: app}}\nspec:\n  containers:\n    - name: app\n      image: {host}/team/app-{app}:6.99.{last} # {{\"$imagepolicy\": \"apps:app-{app}\"}}\n"
    )
}

fn create(dir: &Path, files: &[(String, String)]) {
    let borrowed: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    BareRepository::create(
        &dir.join("fleet.git"),
        &borrowed,
        WHO,
        Timestamp::now().as_second() - 60,
        "first",
    )
    .unwrap();
}

/// Starts a registry that lists a thousand tags for each repository, and more of the first one.
fn listing_registry(
    runtime: &tokio::runtime::Runtime,
    requests: &Arc<AtomicUsize>,
) -> (SandboxRegistry, Arc<Mutex<Vec<String>>>) {
    let new: Arc<Mutex<Vec<String>>> = Arc::default();
    let (counter, listed) = (Arc::clone(requests), Arc::clone(&new));
    let registry = runtime.block_on(SandboxRegistry::start_with(move |app: Router| {
        app.layer(middleware::from_fn(move |request: Request, next: Next| {
            let (counter, listed) = (Arc::clone(&counter), Arc::clone(&listed));
            async move { answer(&counter, &listed, request, next).await }
        }))
    }));
    (registry.unwrap(), new)
}

/// Measures a daemon of a thousand policies with a thousand tags each, after its first pass.
fn idle(runtime: &tokio::runtime::Runtime, dir: &Path, every: &str) {
    std::fs::create_dir(dir).unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let (registry, _) = listing_registry(runtime, &requests);
    let declared: String = (0..POLICIES)
        .map(|n| {
            policy(
                &format!("app-{n}"),
                &format!("{}/team/app-{n}", registry.host()),
            )
            .replace("interval: 24h", &format!("interval: {every}"))
        })
        .collect();
    let mut files = vec![(
        "policies/all.yaml".to_owned(),
        declared + &environment("apps/**"),
    )];
    files.extend((0..POLICIES).map(|n| (format!("apps/{n}.yaml"), pod(&registry.host(), n))));
    create(dir, &files);
    configure_with(
        dir,
        &registry.host(),
        &format!("    minimumInterval: {every}\n"),
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_tagboat"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .args(["run", "--log", "tagboat=debug", "--config"])
        .arg(dir.join("tagboat.yaml"));
    let log = dir.join("log");
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let daemon = Daemon(child);
    let begun = Instant::now();
    while !std::fs::read_to_string(&log)
        .unwrap()
        .contains("pass finished")
    {
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "no pass: {}",
            std::fs::read_to_string(&log).unwrap()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let seconds = begun.elapsed().as_secs_f64();
    figure("first pass of 1,000 policies x 1,000 tags (s)", seconds);
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(
        requests.load(Ordering::SeqCst) >= POLICIES && log.contains("reason=PassCompleted"),
        "{log}"
    );
    if every == "10s" {
        // Until the store's first writes, and the scans of the start, are over.
        std::thread::sleep(Duration::from_secs(15));
        let (scans, cpu) = (requests.load(Ordering::SeqCst), daemon.cpu());
        std::thread::sleep(Duration::from_secs(40));
        let (scans, cpu) = (requests.load(Ordering::SeqCst) - scans, daemon.cpu() - cpu);
        figure(
            "1,000 policies scanned every 10 s: scans a second",
            scans as f64 / 40.0,
        );
        row(
            "the same: share of a core (%)",
            cpu / 40.0 * 100.0,
            2.0,
            BOUND,
        );
    }
    row(
        "idle daemon, resident (MiB)",
        daemon.memory("VmRSS"),
        64.0,
        BOUND,
    );
    figure("the same at its greatest (MiB)", daemon.memory("VmHWM"));
}

/// Answers with a thousand tags that are unique to each repository; the registry answers the rest.
async fn answer(
    requests: &AtomicUsize,
    new: &Mutex<Vec<String>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(name) = request
        .uri()
        .path()
        .strip_prefix("/v2/")
        .and_then(|path| path.strip_suffix("/tags/list"))
    else {
        return next.run(request).await;
    };
    requests.fetch_add(1, Ordering::SeqCst);
    let number: u32 = name
        .rsplit('-')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_default();
    let mut tags: Vec<String> = (0..1000)
        .map(|n| format!("6.{}.{}", n / 10, number * 10 + n % 10))
        .collect();
    if number == 0 {
        tags.extend(new.lock().unwrap().iter().cloned());
    }
    axum::Json(serde_json::json!({"name": name, "tags": tags})).into_response()
}

struct Daemon(Child);

impl Daemon {
    /// Seconds of processor time so far, of all threads.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let fields = stat.rsplit(')').next().unwrap().split_whitespace();
        let ticks: f64 = fields
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<f64>().unwrap())
            .sum();
        ticks / 100.0
    }

    fn memory(&self, what: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<f64>()
            .unwrap()
            / 1024.0
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn timed(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64() * 1e3
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
