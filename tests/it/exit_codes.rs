//! Exit codes, the same for every command.

use super::{
    support::process::Running,
    update_daemon::{FILE, fleet},
    update_support::{Act, Fleet, Setup, deployment, hold, reply, wait},
};
use serde_json::Value;
use std::{
    fs::File,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

fn run(fleet: &Fleet, arguments: &[&str]) -> Output {
    fleet.tagboat(arguments).output().unwrap()
}

fn code(fleet: &Fleet, arguments: &[&str]) -> i32 {
    run(fleet, arguments).status.code().unwrap()
}

/// Commands that read a config repository and its registries, or write to it.
const COMMANDS: &[&[&str]] = &[
    &["plan"],
    &["run", "--once"],
    &["scan"],
    &["explain", "default/web"],
    &["holds"],
    &["release", "dev", "default/web"],
    &["suspend", "environment/dev"],
    &["resume", "environment/dev"],
];

#[test]
fn exit_code_1_is_what_needs_attention() {
    let fleet = fleet("1h", &Setup::default());
    assert_eq!(code(&fleet, &["plan"]), 0);
    assert_eq!(code(&fleet, &["plan", "--check"]), 1);
    assert_eq!(code(&fleet, &["run", "--once"]), 0);
    assert_eq!(code(&fleet, &["plan", "--check"]), 0);
}

#[test]
fn exit_code_2_is_wrong_input_or_setup() {
    let fleet = fleet("1h", &Setup::default());
    assert_eq!(code(&fleet, &["plan", "--no-such-option"]), 2);
    assert_eq!(code(&fleet, &["plan", "-c", "none.yaml"]), 2);
    assert_eq!(code(&fleet, &["explain", "default/nothing"]), 2);
    // Another process has the store open.
    let _engine = fleet.engine();
    for command in COMMANDS {
        let output = run(&fleet, &[command, &["-o", "json"] as &[&str]].concat());
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        let failure: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(failure["kind"], "local", "{command:?}: {failure}");
    }
}

#[test]
fn exit_code_3_is_an_unreachable_remote() {
    let fleet = fleet("1h", &Setup::default());
    fleet.git.rule(|_| Act::Die);
    for command in COMMANDS {
        let output = run(&fleet, command);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{command:?}: {err}");
    }
    fleet.git.open();
    fleet.images.rule(|_| reply(503, &[], ""));
    for command in [&["plan"] as &[&str], &["run", "--once"], &["scan"]] {
        assert_eq!(code(&fleet, command), 3, "{command:?}");
    }
}

#[test]
fn exit_code_4_is_work_done_in_part() {
    let fleet = fleet("1h", &Setup::default());
    let policy = super::update_support::semver("db", "1.x", "");
    fleet.person(&[("q.yaml", &policy)], "db");
    fleet.images.rule(|line| match line.contains("/team/db/") {
        true => reply(503, &[], ""),
        false => Act::Pass,
    });
    for command in [&["plan"] as &[&str], &["scan"], &["run", "--once"]] {
        assert_eq!(code(&fleet, command), 4, "{command:?}");
    }
}

#[test]
fn exit_code_130_is_an_interruption() {
    let fleet = fleet("1h", &Setup::default());
    for (arguments, signal) in [
        (&["run", "--once"] as &[&str], "INT"),
        (&["plan"], "TERM"),
        (&["scan"], "INT"),
    ] {
        let (came, release) = hold(&fleet.images, "/tags/list", true);
        let mut child = Running::start(
            fleet
                .tagboat_std(arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        came.recv_timeout(Duration::from_secs(60)).unwrap();
        let started = Instant::now();
        child.signal(signal);
        assert_eq!(child.ended().code(), Some(130), "{arguments:?}");
        assert!(started.elapsed() < Duration::from_secs(10), "{arguments:?}");
        drop(release);
    }
    assert_eq!(fleet.log().len(), 1, "nothing was committed");
    // A command that works with files alone.
    let mut child = Running::start(
        fleet
            .tagboat_std(&["health", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null()),
    );
    let status = format!("/proc/{}/status", child.id());
    wait("the handlers", || {
        let status = std::fs::read_to_string(&status).ok()?;
        let caught = status.lines().find(|line| line.starts_with("SigCgt:"))?;
        // SIGINT is bit 2.
        let mask = u64::from_str_radix(caught.split_whitespace().nth(1)?, 16).ok()?;
        (mask & 2 != 0).then_some(())
    });
    child.signal("INT");
    assert_eq!(child.ended().code(), Some(130));
}

#[test]
fn interruption_waits_for_a_push() {
    let fleet = fleet("1h", &Setup::default());
    let push = "POST /fleet.git/git-receive-pack";
    let (came, release) = hold(&fleet.git, push, false);
    let out = fleet.dir.path().join("out");
    let mut child = Running::start(
        fleet
            .tagboat_std(&["run", "--once"])
            .stdout(File::create(&out).unwrap())
            .stderr(Stdio::null()),
    );
    came.recv_timeout(Duration::from_secs(60)).unwrap();
    child.signal("INT");
    // It would have ended by now if it did not wait: its handlers run in milliseconds.
    let ended = Instant::now() + Duration::from_millis(500);
    while Instant::now() < ended {
        assert!(child.try_wait().unwrap().is_none(), "it waits for the push");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(release);
    assert_eq!(child.ended().code(), Some(130));
    assert_eq!(fleet.text(FILE), deployment(&["web:1.1.0", "db:1.0.0"]));
    let shown = std::fs::read_to_string(&out).unwrap();
    assert!(shown.contains("dev: web 1.0.0 → 1.1.0"), "{shown}");
}

#[test]
fn second_interruption_waits_for_nothing() {
    let fleet = fleet("1h", &Setup::default());
    let push = "POST /fleet.git/git-receive-pack";
    let (came, release) = hold(&fleet.git, push, true);
    let mut child = Running::start(
        fleet
            .tagboat_std(&["run", "--once"])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    came.recv_timeout(Duration::from_secs(60)).unwrap();
    // Signals that come at the same time count as one.
    wait("its end", || {
        if child.try_wait().unwrap().is_none() {
            child.signal("INT");
        }
        child.try_wait().unwrap().map(drop)
    });
    assert_eq!(child.ended().code(), Some(130));
    drop(release);
}
