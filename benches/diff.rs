//! `diff --all` and `history` of many Applications: `cargo bench --bench diff`.
//!
//! Needs the real API server and kubectl: `eval "$(tests/programs cluster)"` builds both. Each
//! figure is a process of the program as users run it; requests are those that the API server
//! counted. The arguments are the numbers of Applications: `cargo bench --bench diff -- 250 1000
//! 4000`.

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
#[path = "../tests/servers/kube.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod kube;
#[path = "support/table.rs"]
mod table;

use applications::{NAMESPACES, declarations, objects};
use kube::{Kube, Options};
use std::{
    fmt::Write as _,
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};
use table::{BOUND, growth, heading, row};
use tagboat::sandbox::git::BareRepository;

const WHO: (&str, &str) = ("Ann", "ann@example.org");

fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for variable in ["TAGBOAT_TEST_KUBE", "TAGBOAT_TEST_KUBECTL"] {
        if std::env::var_os(variable).is_none() {
            eprintln!(
                "{variable} is not set: `eval \"$(tests/programs cluster)\"` builds the Kubernetes API server and kubectl."
            );
            // Not a failure: `cargo bench` runs the others, too.
            return ExitCode::SUCCESS;
        }
    }
    let mut sizes: Vec<usize> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .map(|size| size.parse().unwrap())
        .collect();
    if sizes.is_empty() {
        sizes = vec![250, 1_000, 4_000];
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    heading();
    let (mut times, mut requests) = (Vec::new(), Vec::new());
    for size in sizes {
        let (time, sent) = measure(&runtime, size);
        times.push((size, time));
        requests.push((size, sent));
    }
    growth("diff --all, nothing differs (s)", &times, 1.1);
    growth("diff --all, nothing differs: requests", &requests, 1.0);
    ExitCode::SUCCESS
}

/// Seconds and requests of `diff --all` over Applications that are synced.
fn measure(runtime: &tokio::runtime::Runtime, size: usize) -> (f64, f64) {
    let kube = Kube::start(Options {
        controllers: true,
        ..Options::default()
    });
    for number in 0..NAMESPACES {
        let name = format!("diff-{number}");
        assert!(
            kube.kubectl(&["create", "namespace", &name])
                .status
                .success()
        );
    }
    let folder = kube.folder().join("diff");
    std::fs::create_dir(&folder).unwrap();
    let files = (0..size).map(|number| (path(number), text(number, "first")));
    let mut files: Vec<(String, String)> = files.collect();
    files.push(("policies/apps.yaml".to_owned(), declarations("diff", size)));
    let borrowed: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let bare = folder.join("fleet.git");
    let repository = BareRepository::create(&bare, &borrowed, WHO, 1_780_000_000, "first").unwrap();
    let settings = format!(
        "store: store\nrepositories:\n- name: fleet\n  url: file://{}\n  policies: policies\nclusters:\n- name: test\n  kubeconfig: {}\n",
        bare.display(),
        kube.kubeconfig.display()
    );
    std::fs::write(folder.join("tagboat.yaml"), settings).unwrap();
    run(&folder, &["sync", "--all"], 0);

    let requests = || runtime.block_on(kube.metrics()).0.values().sum::<u64>();
    let before = requests();
    let begun = Instant::now();
    run(&folder, &["diff", "--all", "--output", "json"], 0);
    let (time, sent) = (begun.elapsed().as_secs_f64(), (requests() - before) as f64);
    let target = 5.0 * (size as f64 / 1000.0).max(1.0);
    let what = |of: &str| format!("{size} Applications: {of}");
    row(
        &what("diff --all, nothing differs (s)"),
        time,
        target,
        BOUND,
    );
    let each = (size * 4) as f64;
    let against = format!("one request for each of {each} objects");
    row(
        &what("    requests, the server's own included"),
        sent,
        each,
        &against,
    );

    let changes: Vec<(String, String)> = (0..size)
        .step_by(10)
        .map(|number| (path(number), text(number, "second")))
        .collect();
    let borrowed: Vec<(&str, &str)> = changes
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    repository
        .commit(&borrowed, WHO, 1_780_000_100, "a tenth")
        .unwrap();
    let begun = Instant::now();
    run(&folder, &["diff", "--all", "--output", "json"], 1);
    let took = begun.elapsed().as_secs_f64();
    row(
        &what("diff --all, a tenth differs (s)"),
        took,
        target,
        BOUND,
    );

    let begun = Instant::now();
    run(&folder, &["history", "diff-0/app-0"], 0);
    let took = begun.elapsed().as_secs_f64();
    row(&what("history of one (s)"), took, 1.0, BOUND);
    (time, sent)
}

fn path(number: usize) -> String {
    format!("app-{number}/all.yaml")
}

fn text(number: usize, value: &str) -> String {
    let mut text = String::new();
    for object in objects("diff", number, value) {
        writeln!(text, "---\n{object}").unwrap();
    }
    text
}

/// Runs the program; it must end with this code.
fn run(folder: &Path, arguments: &[&str], code: i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_tagboat"))
        .args(arguments)
        .args(["--config", "tagboat.yaml"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
