//! Work is proportional to change: the decisions of a pass, counted instead of timed.

use super::update_support::{Fleet, deployment, env, hours, now, semver};
use tagboat::{
    service::engine::Engine,
    update::{PassMode, PassReport, PassWork, Rescan},
};

const APPS: [&str; 4] = ["web", "api", "cron", "db"];

/// A fleet of four apps that are up to date; passes are made by one process.
struct Settled {
    fleet: Fleet,
    engine: Engine,
}

impl Settled {
    fn new(extra: &str) -> Self {
        let policies: String = APPS
            .iter()
            .map(|app| semver(app, "<2.0.0", extra))
            .collect();
        let policies = policies + &env("dev", "");
        let mut files = vec![("policies/policies.yaml".to_owned(), policies)];
        for app in APPS {
            files.push((
                format!("envs/dev/{app}.yaml"),
                deployment(&[&format!("{app}:1.0.0")]),
            ));
        }
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        let fleet = Fleet::new(&files);
        for app in APPS {
            fleet.publish(&format!("team/{app}"), &["0.9.0", "1.0.0", "2.0.0"]);
        }
        let settled = Self {
            engine: fleet.engine(),
            fleet,
        };
        let (first, work) = settled.pass(0);
        assert_eq!((first.pushed(), work.decisions), (0, 4), "{first:#?}");
        settled
    }

    /// Makes a pass that scans everything; returns its report and its work.
    fn pass(&self, hour: i64) -> (PassReport, PassWork) {
        let updater = &self.engine.updaters[0];
        let before = updater.work();
        let report =
            self.fleet
                .runtime
                .block_on(updater.pass(PassMode::Write, &Rescan::All, hours(hour)));
        assert!(report.failures.is_empty(), "{report:#?}");
        let after = updater.work();
        let work = PassWork {
            decisions: after.decisions - before.decisions,
            explanations: after.explanations - before.explanations,
            files: after.files - before.files,
            lists: after.lists - before.lists,
        };
        (report, work)
    }
}

/// Returns the rows of two passes as they would be printed.
fn rows(report: &PassReport) -> String {
    serde_json::to_string(&report.environments).unwrap()
}

#[test]
fn memory_unchanged_pass_makes_no_decision() {
    let settled = Settled::new("");
    let (second, work) = settled.pass(0);
    assert_eq!(work, PassWork::default());
    assert_eq!(second.requests.listings, 4, "all were scanned");
    let refused = &second.environments[0].policies[0].refused;
    assert_eq!(refused.len(), 1, "the reasons are remembered");
    // A new process decides everything again, alike.
    let (third, _) = Settled {
        engine: {
            drop(settled.engine);
            settled.fleet.engine()
        },
        fleet: settled.fleet,
    }
    .pass(0);
    assert_eq!(rows(&second), rows(&third));
}

#[test]
fn memory_new_tag_makes_one_decision() {
    let settled = Settled::new("");
    settled.fleet.publish("team/api", &["0.9.1"]);
    let (report, work) = settled.pass(0);
    let expected = PassWork {
        decisions: 1,
        explanations: 1,
        // One Environment compares the four files that refer to watched images.
        files: 4,
        lists: 0,
    };
    assert_eq!((report.pushed(), work), (0, expected), "{report:#?}");
    assert_eq!(settled.pass(0).1, PassWork::default());
}

/// The choice itself, and the row about the file that has the new tag.
#[test]
fn memory_update_judges_its_own_policy_alone() {
    let settled = Settled::new("");
    settled.fleet.publish("team/api", &["1.1.0"]);
    let (report, work) = settled.pass(0);
    assert_eq!(report.pushed(), 1, "{report:#?}");
    assert!((1..=3).contains(&work.decisions), "{work:?}");
    assert_eq!(work.lists, 0, "{work:?}");
    settled.pass(0);
    assert_eq!(settled.pass(0).1, PassWork::default());
}

#[test]
fn memory_edited_policy_decides_anew() {
    let settled = Settled::new("");
    let policies = settled.fleet.text("policies/policies.yaml");
    let policies = policies.replacen("<2.0.0", "<3.0.0", 1);
    settled
        .fleet
        .person(&[("policies/policies.yaml", &policies)], "allow 2.x");
    let (report, _) = settled.pass(0);
    assert_eq!(report.pushed(), 1, "{report:#?}");
    assert!(
        settled
            .fleet
            .text("envs/dev/web.yaml")
            .contains("web:2.0.0")
    );
    assert!(
        settled
            .fleet
            .text("envs/dev/api.yaml")
            .contains("api:1.0.0")
    );
}

#[test]
fn memory_comment_in_a_policy_decides_nothing() {
    let settled = Settled::new("");
    let policies = settled.fleet.text("policies/policies.yaml");
    let commented = format!("# They are few.\n{policies}");
    settled
        .fleet
        .person(&[("policies/policies.yaml", &commented)], "comment");
    let (report, work) = settled.pass(0);
    assert_eq!((report.pushed(), work.decisions), (0, 0), "{report:#?}");
}

#[test]
fn memory_revert_holds_the_version() {
    let settled = Settled::new("");
    settled.fleet.publish("team/api", &["1.1.0"]);
    assert_eq!(settled.pass(0).0.pushed(), 1);
    let file = ("envs/dev/api.yaml", deployment(&["api:1.0.0"]));
    let reverted = [(file.0, file.1.as_str())];
    settled.fleet.person_at(hours(1), &reverted, "go back");
    for _ in 0..2 {
        let (report, _) = settled.pass(2);
        let row = &report.environments[0].policies;
        let row = row.iter().find(|row| row.name.to_string().ends_with("api"));
        let row = row.unwrap();
        assert_eq!((report.pushed(), row.held.len()), (0, 1), "{row:#?}");
        assert_eq!(row.chosen.as_ref().unwrap().as_str(), "1.0.0");
    }
    assert_eq!(settled.pass(2).1.decisions, 0, "also under a hold");
    settled.fleet.publish("team/api", &["1.2.0"]);
    assert_eq!(settled.pass(3).0.pushed(), 1);
}

#[test]
fn memory_age_ends_a_decision() {
    let settled = Settled::new("  minimumAge: 3h\n");
    settled.fleet.publish("team/api", &["1.1.0"]);
    let (young, _) = settled.pass(1);
    assert_eq!(young.pushed(), 0);
    let free_at = young.environments[0]
        .policies
        .iter()
        .filter_map(|row| row.free_at);
    assert_eq!(free_at.min(), Some(hours(4)), "{young:#?}");
    assert_eq!(settled.pass(2).0.pushed(), 0);
    let (old, _) = settled.pass(5);
    assert_eq!(old.pushed(), 1, "{old:#?}");
    assert!(now() < hours(5));
}

#[test]
fn memory_moved_digest_decides_anew() {
    let policy = "apiVersion: tagboat.dev/v1alpha1
kind: ImagePolicy
metadata: {name: db}
spec: {image: '{host}/team/db', policy: {digest: {tag: latest}}}
---
";
    let files = deployment(&["db:latest"]);
    let fleet = Fleet::new(&[
        (
            "policies/policies.yaml",
            &(policy.to_owned() + &env("dev", "")),
        ),
        ("envs/dev/app.yaml", &files),
    ]);
    let engine = fleet.engine();
    for salt in ["one", "two", "three"] {
        let image = tagboat::sandbox::registry::SandboxImage {
            salt: salt.to_owned(),
            ..Default::default()
        };
        let digest = fleet.image("team/db", "latest", &image);
        let report = fleet.pass_of(&engine, PassMode::Write, now());
        assert_eq!(report.pushed(), 1, "{report:#?}");
        assert!(fleet.text("envs/dev/app.yaml").contains(digest.as_str()));
    }
}
