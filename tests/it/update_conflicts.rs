//! Concurrent pushes, lost responses and killed processes: nothing is lost and nothing is done
//! twice.

use super::{
    support::process::Running,
    update_support::{Act, Fleet, deployment, env, environment, hold, hours, now, semver, wait},
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tagboat::{
    sandbox::git::BareRepository,
    update::{EnvironmentState, PassMode},
};

const FILE: &str = "envs/dev/a.yaml";
const ANN: (&str, &str) = ("Ann", "ann@example.org");

fn declared(range: &str) -> String {
    semver("web", range, "") + &env("dev", "")
}

fn fleet() -> Fleet {
    let fleet = Fleet::new(&[
        ("p.yaml", &declared("1.x")),
        (FILE, &deployment(&["web:1.0.0", "other:1"])),
    ]);
    fleet.publish("team/web", &["1.0.0", "1.0.1", "1.1.0"]);
    fleet
}

/// A person's commit during a request.
fn pushes(fleet: &Fleet, files: Vec<(&'static str, String)>) -> Act {
    let (repository, host): (BareRepository, _) = (fleet.repository.clone(), fleet.registry.host());
    Act::Before(Box::new(move || {
        let files: Vec<(&str, String)> = files
            .iter()
            .map(|(path, text)| (*path, text.replace("{host}", &host)))
            .collect();
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (*path, text.as_str()))
            .collect();
        repository
            .commit(&files, ANN, now().as_second(), "person")
            .unwrap();
    }))
}

#[test]
fn concurrent_push_is_built_upon() {
    type Pushed = Vec<(&'static str, String)>;
    let cases: [(&str, Pushed, &[&str], &[&str]); 4] = [
        (
            "another file",
            vec![("README", "hello\n".into())],
            &["dev: web 1.0.0 → 1.1.0"],
            &["web:1.1.0", "other:1"],
        ),
        (
            "the same file",
            vec![(FILE, deployment(&["web:1.0.0", "other:2"]))],
            &["dev: web 1.0.0 → 1.1.0"],
            &["web:1.1.0", "other:2"],
        ),
        (
            "the same update",
            vec![(FILE, deployment(&["web:1.1.0", "other:1"]))],
            &[],
            &["web:1.1.0", "other:1"],
        ),
        (
            "the policy",
            vec![("p.yaml", declared("1.0.x"))],
            &["dev: web 1.0.0 → 1.0.1"],
            &["web:1.0.1", "other:1"],
        ),
    ];
    for word in [
        "GET /fleet.git/info/refs?service=git-receive-pack",
        "POST /fleet.git/git-receive-pack",
    ] {
        for (name, files, subjects, expected) in &cases {
            let fleet = fleet();
            fleet.git.once(word, pushes(&fleet, files.clone()));
            let report = fleet.good_pass(now());
            assert_eq!(
                fleet.text(FILE),
                deployment(expected),
                "{name} before {word}: {report:#?}"
            );
            assert_eq!(
                fleet.subjects()[1..],
                [&["person"], *subjects].concat(),
                "{name} before {word}"
            );
            assert_eq!(report.pushed(), subjects.len(), "{name}: {report:#?}");
            assert_eq!(
                (report.requests.listings, report.requests.ls_refs >= 2),
                (1, true),
                "no repository is scanned again: {report:#?}"
            );
        }
    }
}

#[test]
fn conflict_every_time_is_left_to_next_pass() {
    let fleet = fleet();
    let (repository, count) = (
        fleet.repository.clone(),
        std::sync::atomic::AtomicUsize::new(0),
    );
    fleet.git.rule(move |line| {
        if !line.contains("service=git-receive-pack") {
            return Act::Pass;
        }
        let (repository, n) = (repository.clone(), count.fetch_add(1, Ordering::SeqCst));
        Act::Before(Box::new(move || {
            repository
                .commit(&[("busy", &n.to_string())], ANN, now().as_second(), "busy")
                .unwrap();
        }))
    });
    let report = fleet.pass(now());
    assert_eq!(
        (report.pushed(), report.failures.len()),
        (0, 1),
        "{report:#?}"
    );
    assert!(
        report.failures[0]
            .message
            .contains("the branch moved first, 10 times in a row"),
        "{report:#?}"
    );
    fleet.git.open();
    assert_eq!(
        environment(&fleet.good_pass(now()), "dev").state,
        EnvironmentState::Committed
    );
}

#[test]
fn push_with_lost_response_is_found_again() {
    let fleet = fleet();
    fleet
        .git
        .once("POST /fleet.git/git-receive-pack", Act::LoseAnswer);
    let report = fleet.good_pass(now());
    assert_eq!(fleet.subjects()[1..], ["dev: web 1.0.0 → 1.1.0"]);
    let row = environment(&report, "dev");
    let id = row.commits.first().and_then(|commit| commit.id.clone());
    assert_eq!(
        (row.state, id),
        (
            EnvironmentState::Committed,
            fleet.log().pop().map(|commit| commit.id)
        ),
        "it is reported: {report:#?}"
    );
    // A push that never arrived is repeated.
    fleet.publish("team/web", &["1.2.0"]);
    fleet.git.once("POST /fleet.git/git-receive-pack", Act::Die);
    let report = fleet.good_pass(hours(1));
    assert_eq!(
        (report.pushed(), fleet.subjects().len()),
        (1, 3),
        "{report:#?}"
    );
}

#[test]
fn concurrent_bots_and_person_lose_nothing() {
    const EACH: usize = 12;
    let fleet = fleet();
    let text = std::fs::read_to_string(fleet.config()).unwrap();
    let second = fleet.dir.path().join("second.yaml");
    std::fs::write(&second, text.replace("store: store", "store: second")).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        for config in [fleet.config(), second] {
            let (fleet, done) = (&fleet, Arc::clone(&done));
            scope.spawn(move || {
                let engine = fleet.engine_of(&config);
                loop {
                    let last = done.load(Ordering::SeqCst);
                    let report = fleet.pass_of(&engine, PassMode::Write, now());
                    assert!(
                        report
                            .failures
                            .iter()
                            .all(|failure| failure.message.contains("pushed first")),
                        "{report:#?}"
                    );
                    if last && report.pushed() == 0 && report.failures.is_empty() {
                        break;
                    }
                }
            });
        }
        let fleet = &fleet;
        scope.spawn(move || {
            for n in 0..EACH {
                fleet.publish("team/web", &[&format!("1.2.{n}")]);
                fleet.person(&[(&format!("ann/{n}"), "x\n")], &format!("ann {n}"));
                // So that bots and person alternate.
                wait("a bot's answer", || {
                    fleet
                        .text(FILE)
                        .contains(&format!("web:1.2.{n}\n"))
                        .then_some(())
                });
            }
            done.store(true, Ordering::SeqCst);
        });
    });
    let subjects = fleet.subjects();
    let unique: BTreeSet<&String> = subjects.iter().collect();
    assert_eq!(
        unique.len(),
        subjects.len(),
        "no commit twice: {subjects:#?}"
    );
    assert_eq!(
        subjects
            .iter()
            .filter(|subject| subject.starts_with("ann "))
            .count(),
        EACH
    );
    assert_eq!(
        fleet.text(FILE),
        deployment(&[&format!("web:1.2.{}", EACH - 1), "other:1"])
    );
    // Every update starts where the one before ended.
    let mut present = "1.0.0".to_owned();
    for subject in subjects
        .iter()
        .filter_map(|subject| subject.strip_prefix("dev: web "))
    {
        let (old, new) = subject.split_once(" → ").unwrap();
        assert_eq!(old, present, "{subjects:#?}");
        present = new.to_owned();
    }
}

/// Checks that the next start completes the update, wherever the first was cut short.
fn ends_well(fleet: &Fleet, what: &str) {
    fleet.images.open();
    fleet.git.open();
    let output = fleet
        .tagboat(&["run", "--once"])
        .assert()
        .get_output()
        .clone();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{what}: {stderr}");
    assert_eq!(stderr, "", "{what}");
    assert_eq!(
        fleet.text(FILE),
        deployment(&["web:1.1.0", "other:1"]),
        "{what}"
    );
    assert_eq!(fleet.subjects()[1..], ["dev: web 1.0.0 → 1.1.0"], "{what}");
}

#[test]
fn kill_at_any_request_writes_exactly_once() {
    let requests = [
        (true, "GET /fleet.git/info/refs?service=git-upload-pack"),
        (true, "POST /fleet.git/git-upload-pack"),
        (false, "POST /fleet.git/git-upload-pack"),
        (true, "/tags/list"),
        (false, "/tags/list"),
        (true, "GET /fleet.git/info/refs?service=git-receive-pack"),
        (true, "POST /fleet.git/git-receive-pack"),
        (false, "POST /fleet.git/git-receive-pack"),
    ];
    for (before, word) in requests {
        let fleet = fleet();
        let gate = if word.contains("fleet.git") {
            &fleet.git
        } else {
            &fleet.images
        };
        let (came, release) = hold(gate, word, before);
        let child = Running::start(
            fleet
                .tagboat_std(&["run", "--once"])
                .stdout(std::process::Stdio::null()),
        );
        came.recv_timeout(Duration::from_secs(30))
            .unwrap_or_else(|_| panic!("no {word}"));
        drop(child);
        drop(release);
        ends_well(&fleet, word);
    }
}

#[test]
fn kill_at_any_moment_writes_exactly_once() {
    // A pass takes some 60 ms here: the kills are spread over it and beyond.
    for n in 0..10 {
        let fleet = fleet();
        for again in 0..2 {
            let child = Running::start(
                fleet
                    .tagboat_std(&["run", "--once"])
                    .stdout(std::process::Stdio::null()),
            );
            std::thread::sleep(Duration::from_millis(4 + 9 * n + 5 * again));
            drop(child);
        }
        ends_well(&fleet, &format!("killed at moment {n}"));
    }
}
