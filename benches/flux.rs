//! tagboat beside Flux's controllers, on the same API server: run by `benches/flux/run`, which
//! builds the controllers.
//!
//! Needs `git`, which serves the repositories. Both deploy the same Applications from equal Git
//! repositories of the same server, each into namespaces of its own, one after the other: four
//! objects for each Application, a Kustomization or an Application for each. Measured are the first
//! apply, a commit that touches nothing that is deployed, and a commit that touches one
//! Application; with the requests that the API server counted, and the processor time of the
//! controllers. Flux is notified of each commit at once, as by its webhook receiver. It runs with
//! the concurrency and limits that its documentation names for large installations;
//! `FLUX_ARGUMENTS` replaces those of kustomize-controller.
//!
//! The argument is the number of Applications.

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
#[path = "../tests/servers/environment.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod environment;
#[path = "../tests/servers/git.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod git;
#[path = "../tests/servers/kube.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod kube;
#[path = "support/table.rs"]
mod table;

use applications::{NAMESPACES, declarations, objects};
use git::HttpBackend;
use kube::{Kube, Options};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};
use table::{heading, row};
use tagboat::sandbox::git::BareRepository;
use tokio::runtime::Runtime;

const WHO: (&str, &str) = ("Ann", "ann@example.org");
/// The namespace of Flux's objects.
const FLUX: &str = "flux-system";
/// The most that a step may take, and so much more for each Application.
const PATIENCE: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(1)];
/// The time between two looks at the Kustomizations.
const LOOK: Duration = Duration::from_millis(500);
/// As Flux's documentation has them for large installations.
const FLUX_ARGUMENTS: &str = "--concurrent=20 --kube-api-qps=500 --kube-api-burst=1000";

/// The cost of one step of one tool.
#[derive(Debug, Clone, Copy)]
struct Usage {
    seconds: f64,
    requests: f64,
    processor: f64,
}

fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for variable in [
        "TAGBOAT_TEST_KUBE",
        "TAGBOAT_BENCH_FLUX",
        "TAGBOAT_BENCH_FLUX_CRDS",
    ] {
        if std::env::var_os(variable).is_none() {
            eprintln!("{variable} is not set: run `benches/flux/run`, which builds Flux.");
            // Not a failure: `cargo bench` runs the others, too.
            return ExitCode::SUCCESS;
        }
    }
    let applications = std::env::args()
        .skip(1)
        .find(|argument| argument != "--bench")
        .map_or(1_000, |applications| applications.parse().unwrap());
    let runtime = Runtime::new().unwrap();
    let kube = Kube::start(Options {
        controllers: true,
        ..Options::default()
    });
    let bench = Bench {
        kube: &kube,
        runtime: &runtime,
        applications,
    };
    let flux = bench.flux();
    let ours = bench.tagboat();
    heading();
    let steps = [
        "first apply",
        "a commit that touches nothing",
        "a commit that touches one Application",
    ];
    for (step, (ours, flux)) in steps.iter().zip(ours.iter().zip(&flux)) {
        let what = |of: &str| format!("{applications} Applications, {step}: {of}");
        for (of, ours, theirs) in [
            ("(s)", ours.seconds, flux.seconds),
            ("requests", ours.requests, flux.requests),
            ("processor (s)", ours.processor, flux.processor),
        ] {
            row(&what(of), ours, theirs, "the figure of Flux, this run");
        }
    }
    ExitCode::SUCCESS
}

struct Bench<'a> {
    kube: &'a Kube,
    runtime: &'a Runtime,
    applications: usize,
}

/// A config repository and its server.
struct Source {
    repository: BareRepository,
    server: HttpBackend,
    prefix: &'static str,
}

impl Source {
    fn text(&self, number: usize, value: &str) -> (String, String) {
        let mut text = String::new();
        for object in objects(self.prefix, number, value) {
            writeln!(text, "---\n{object}").unwrap();
        }
        (format!("app-{number}/all.yaml"), text)
    }

    fn commit(&self, files: &[(String, String)], message: &str) -> String {
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        let seconds = jiff::Timestamp::now().as_second();
        let commit = self.repository.commit(&files, WHO, seconds, message);
        commit.unwrap().to_string()
    }
}

impl Bench<'_> {
    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.kube.folder().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Creates the namespaces of a tool, and its empty repository.
    fn source(&self, prefix: &'static str) -> Source {
        for number in 0..NAMESPACES {
            self.kubectl(&["create", "namespace", &format!("{prefix}-{number}")]);
        }
        let bare = self.folder(prefix).join("fleet.git");
        let readme = [("README.md", "nothing is declared yet\n")];
        let seconds = jiff::Timestamp::now().as_second() - 60;
        let repository = BareRepository::create(&bare, &readme, WHO, seconds, "first").unwrap();
        let server = HttpBackend::start(&self.folder(prefix), None);
        Source {
            repository,
            server,
            prefix,
        }
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.kube.kubectl(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn apply(&self, objects: &[Value]) {
        let file = self.folder("applied").join("objects.json");
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        std::fs::write(&file, list.to_string()).unwrap();
        self.kubectl(&["apply", "--server-side", "-f", file.to_str().unwrap()]);
    }

    /// Requests that the API server has counted, watches not included.
    fn requests(&self) -> f64 {
        let counted = self.runtime.block_on(self.kube.metrics());
        let counted = counted.0.iter().filter(|((verb, _), _)| verb != "WATCH");
        counted.map(|(_, count)| *count as f64).sum()
    }

    /// Measures a step. `work` returns the requests that were its own.
    fn step(&self, processes: &[u32], work: impl FnOnce() -> f64) -> Usage {
        let worked = || processes.iter().map(|id| processor_time(*id)).sum::<f64>();
        let (requests, processor) = (self.requests(), worked());
        let begun = Instant::now();
        let own = work();
        Usage {
            seconds: begun.elapsed().as_secs_f64(),
            // The count of the first look is one request itself.
            requests: self.requests() - requests - own - 1.0,
            processor: worked() - processor,
        }
    }

    fn flux(&self) -> [Usage; 3] {
        for folder in std::env::var("TAGBOAT_BENCH_FLUX_CRDS").unwrap().split(':') {
            self.kubectl(&["apply", "--server-side", "-f", folder]);
        }
        self.kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd",
            "--all",
            "--timeout=60s",
        ]);
        self.kubectl(&["create", "namespace", FLUX]);
        let source = self.source("flux");
        let files: Vec<(String, String)> = (0..self.applications)
            .map(|number| source.text(number, "first"))
            .collect();
        let first = source.commit(&files, "everything");
        let controllers = self.controllers();
        let ids: Vec<u32> = controllers.iter().map(|child| child.0.id()).collect();
        // Everything is declared before the source may be read.
        self.apply(&[self.git_repository(&source, true)]);
        let all = (0..self.applications).map(kustomization);
        self.apply(&all.collect::<Vec<_>>());
        let first = self.step(&ids, || {
            self.apply(&[self.git_repository(&source, false)]);
            self.until_applied(&first, 0)
        });
        let readme = [("README.md".to_owned(), "unchanged\n".to_owned())];
        let nothing = source.commit(&readme, "a README");
        let unchanged = self.step(&ids, || self.told(&nothing, 0));
        let one = source.commit(&[source.text(7, "second")], "one Application");
        let changed = self.step(&ids, || self.told(&one, 7));
        [first, unchanged, changed]
    }

    fn git_repository(&self, source: &Source, suspend: bool) -> Value {
        json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
            "metadata": {"name": "fleet", "namespace": FLUX},
            "spec": {"url": source.server.url("fleet.git"), "interval": "1h", "ref": {"branch": "main"}, "suspend": suspend},
        })
    }

    /// Starts source-controller and kustomize-controller.
    fn controllers(&self) -> [Controller; 2] {
        let folder = PathBuf::from(std::env::var_os("TAGBOAT_BENCH_FLUX").unwrap());
        let storage = format!("127.0.0.1:{}", free_port());
        let artifacts = self.folder("artifacts");
        let speed = std::env::var("FLUX_ARGUMENTS").unwrap_or_else(|_| FLUX_ARGUMENTS.to_owned());
        let start = |name: &str, arguments: &[&str]| {
            let log = std::fs::File::create(self.folder("flux").join(format!("{name}.log")));
            let child = Command::new(folder.join(name))
                .args(arguments)
                .args(["--metrics-addr=127.0.0.1:0", "--health-addr=127.0.0.1:0"])
                .args(["--log-level=error", "--events-addr="])
                .env("KUBECONFIG", &self.kube.kubeconfig)
                .env("RUNTIME_NAMESPACE", FLUX)
                .env("TUF_ROOT", self.folder("tuf"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log.unwrap())
                .spawn();
            Controller(child.unwrap())
        };
        let addresses = [
            &format!("--storage-addr={storage}"),
            &format!("--storage-adv-addr={storage}"),
            &format!("--storage-path={}", artifacts.display()),
        ];
        [
            start("source-controller", &addresses.map(String::as_str)),
            start(
                "kustomize-controller",
                &speed.split(' ').collect::<Vec<_>>(),
            ),
        ]
    }

    /// Tells Flux of a commit, as a webhook does, and waits until it is applied.
    fn told(&self, commit: &str, number: usize) -> f64 {
        let note = format!("reconcile.fluxcd.io/requestedAt={commit}");
        self.kubectl(&[
            "annotate",
            "--overwrite",
            "gitrepository",
            "fleet",
            "-n",
            FLUX,
            &note,
        ]);
        self.until_applied(commit, number)
    }

    /// Waits until every Kustomization has applied a commit, that of one Application first, which
    /// costs less to look at; returns the number of looks.
    fn until_applied(&self, commit: &str, number: usize) -> f64 {
        let begun = Instant::now();
        let mut looks = 0.0;
        let name = format!("app-{number}");
        let path = "jsonpath={.status.lastAppliedRevision}";
        while !self
            .kubectl(&["get", "kustomization", &name, "-n", FLUX, "-o", path])
            .ends_with(commit)
        {
            looks += 1.0;
            self.pause(begun);
        }
        let path = "jsonpath={range .items[*]}{.status.lastAppliedRevision}{\"\\n\"}{end}";
        loop {
            looks += (self.applications as f64 / 500.0).ceil();
            let all = self.kubectl(&["get", "kustomizations", "-n", FLUX, "-o", path]);
            let applied = all.lines().filter(|line| line.ends_with(commit)).count();
            if applied == self.applications {
                return looks + 1.0;
            }
            self.pause(begun);
        }
    }

    fn pause(&self, begun: Instant) {
        let [least, each] = PATIENCE;
        let most = least + each * u32::try_from(self.applications).unwrap();
        if begun.elapsed() > most {
            let log = self.folder("flux").join("source-controller.log");
            let log = std::fs::read_to_string(log).unwrap_or_default();
            panic!("Flux is not ready after {most:?}: {log}");
        }
        std::thread::sleep(LOOK);
    }

    fn tagboat(&self) -> [Usage; 3] {
        let source = self.source("tagboat");
        let folder = self.folder("tagboat");
        let settings = format!(
            "store: store\nrepositories:\n- name: fleet\n  url: {}\n  policies: policies\n  interval: 24h\nclusters:\n- name: test\n  kubeconfig: {}\n",
            source.server.url("fleet.git"),
            self.kube.kubeconfig.display()
        );
        std::fs::write(folder.join("tagboat.yaml"), settings).unwrap();
        let daemon = Controller(
            tagboat(&folder, &["run"])
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(folder.join("log")).unwrap())
                .spawn()
                .unwrap(),
        );
        let ids = [daemon.0.id()];
        let socket = folder.join("store/tagboat.sock");
        kube::wait_until("the daemon's socket", || socket.exists());
        let sync = || {
            let output = tagboat(&folder, &["sync", "--all"]).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{error}");
            0.0
        };
        let declared = declarations("tagboat", self.applications);
        let mut files = vec![("policies/apps.yaml".to_owned(), declared)];
        files.extend((0..self.applications).map(|number| source.text(number, "first")));
        source.commit(&files, "everything");
        let first = self.step(&ids, sync);
        let readme = [("README.md".to_owned(), "unchanged\n".to_owned())];
        source.commit(&readme, "a README");
        let unchanged = self.step(&ids, sync);
        source.commit(&[source.text(7, "second")], "one Application");
        let changed = self.step(&ids, sync);
        [first, unchanged, changed]
    }
}

fn kustomization(number: usize) -> Value {
    json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"name": format!("app-{number}"), "namespace": FLUX},
        "spec": {
            "interval": "1h", "prune": true, "path": format!("./app-{number}"),
            "sourceRef": {"kind": "GitRepository", "name": "fleet"},
        },
    })
}

fn tagboat(folder: &Path, arguments: &[&str]) -> Command {
    let mut tagboat = Command::new(env!("CARGO_BIN_EXE_tagboat"));
    tagboat
        .args(arguments)
        .args(["--config", "tagboat.yaml"])
        .current_dir(folder)
        .stdin(Stdio::null());
    tagboat
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Processor time of a process in seconds: fields 14 and 15 of `stat`, in hundredths.
fn processor_time(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks = fields[11..13].iter().map(|ticks| ticks.parse::<f64>());
    ticks.map(|ticks| ticks.unwrap() / 100.0).sum()
}

/// Asked to end on drop.
struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}
