//! Holds after a force-push that took the bot's commit away, by whole passes.

use super::update_support::{Fleet, deployment, env, environment, hours, now, policy, semver};
use tagboat::{io::git::ObjectId, update::EnvironmentState};

const FILE: &str = "envs/dev/a.yaml";

/// A fleet that was updated from 1.0.0 to 1.1.0, and its head before that.
fn updated(declared: &str) -> (Fleet, ObjectId) {
    let fleet = Fleet::new(&[
        ("p.yaml", &(declared.to_owned() + &env("dev", ""))),
        (FILE, &deployment(&["web:1.0.0"])),
    ]);
    fleet.publish("team/web", &["1.0.0", "1.1.0"]);
    fleet.good_pass(now());
    let before = fleet.repo().rev_parse_single("main~1").unwrap().detach();
    assert_eq!(fleet.text(FILE), deployment(&["web:1.1.0"]));
    (fleet, before)
}

#[test]
fn force_push_that_removes_update_is_a_revert() {
    let (fleet, before) = updated(&semver("web", "1.x", ""));
    let removed = fleet
        .repo()
        .rev_parse_single("main")
        .unwrap()
        .to_hex_with_len(10)
        .to_string();
    fleet.set_main(before);
    // Each pass is a process of its own.
    for n in 1..3 {
        let report = fleet.good_pass(hours(n));
        let row = policy(&report, "dev", "default/web");
        assert_eq!(
            environment(&report, "dev").state,
            EnvironmentState::UpToDate
        );
        assert_eq!(row.held.len(), 1, "{row:#?}");
        assert_eq!(
            row.held[0],
            format!(
                "1.1.0: a force-push took 1.1.0 back to 1.0.0 by removing {removed}, seen on 2026-11-20"
            )
        );
    }
    fleet.publish("team/web", &["1.1.1"]);
    fleet.good_pass(hours(3));
    assert_eq!(fleet.text(FILE), deployment(&["web:1.1.1"]));
}

#[test]
fn force_push_after_other_commits_holds_update() {
    let (fleet, before) = updated(&semver("web", "1.x", ""));
    fleet.person(&[("README.md", "text\n")], "docs");
    fleet.good_pass(hours(1));
    fleet.set_main(before);
    fleet.person(&[("README.md", "text\n")], "docs, rebased");
    let report = fleet.good_pass(hours(2));
    assert_eq!(policy(&report, "dev", "default/web").held.len(), 1);
    // Writing the version by hand lifts the hold.
    fleet.person_at(
        hours(3),
        &[(FILE, &deployment(&["web:1.1.0"]))],
        "web 1.1.0 again",
    );
    let report = fleet.good_pass(hours(4));
    assert!(policy(&report, "dev", "default/web").held.is_empty());
}

#[test]
fn force_push_that_keeps_update_holds_nothing() {
    let (fleet, before) = updated(&semver("web", "1.x", ""));
    fleet.set_main(before);
    fleet.person(&[("README.md", "text\n")], "inserted below");
    fleet.person(
        &[(FILE, &deployment(&["web:1.1.0"]))],
        "the update, rebased",
    );
    fleet.publish("team/web", &["1.0.5"]);
    let report = fleet.good_pass(hours(1));
    assert!(policy(&report, "dev", "default/web").held.is_empty());
    assert_eq!(fleet.text(FILE), deployment(&["web:1.1.0"]));
}

#[test]
fn force_push_of_lost_mirror_is_named() {
    let (fleet, before) = updated(&semver("web", "1.x", ""));
    fleet.set_main(before);
    // The mirror is a cache: cloned again, it lacks the removed commit.
    for entry in std::fs::read_dir(fleet.dir.path().join("store")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    let report = fleet.pass(hours(1));
    assert!(
        report
            .warnings
            .iter()
            .any(|warning| warning.contains("the branch main was force-pushed, and")),
        "{report:#?}"
    );
}
