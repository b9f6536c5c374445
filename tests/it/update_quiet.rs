//! Work is proportional to change: the requests of a pass between two scans.

use super::update_support::{Fleet, Setup, deployment, env, hours, now, semver};
use std::collections::HashSet;
use tagboat::update::{PassMode, RequestTotals, Rescan};

const DB: &str = "apiVersion: tagboat.dev/v1alpha1
kind: ImagePolicy
metadata: {name: db}
spec: {image: '{host}/team/db', policy: {digest: {tag: latest}}}
---
";

fn nothing_due() -> Rescan {
    Rescan::Only {
        due: HashSet::new(),
        backing_off: HashSet::new(),
    }
}

/// Policies of every kind that need more than tags, and files that are up to date.
#[test]
fn quiet_pass_makes_one_ls_refs_request() {
    let policies = semver("web", "*", "  minimumAge: 1h\n") + DB + &env("dev", "");
    let files = deployment(&["web:1.0.0", "db:latest"]);
    let fleet = Fleet::with(
        &[
            ("policies/policies.yaml", &policies),
            ("envs/dev/app.yaml", &files),
        ],
        &Setup::default(),
    );
    fleet.publish("team/web", &["1.0.0", "1.1.0"]);
    fleet.publish("team/db", &["latest"]);
    let engine = fleet.engine();
    let pass = |rescan: &Rescan, now| {
        fleet
            .runtime
            .block_on(engine.updaters[0].pass(PassMode::Write, rescan, now))
    };
    let first = pass(&Rescan::All, now());
    assert_eq!(
        (first.requests.listings, first.requests.heads),
        (2, 2),
        "{first:#?}"
    );
    let between = pass(&nothing_due(), hours(0));
    assert_eq!(
        between.requests,
        RequestTotals {
            ls_refs: 1,
            ..RequestTotals::default()
        },
        "{between:#?}"
    );
    // A digest confirmed by the last scan is old enough later; before the commit it is confirmed
    // once more.
    let later = pass(&nothing_due(), hours(2));
    assert_eq!(
        (
            later.pushed(),
            later.requests.listings,
            later.requests.heads
        ),
        (1, 0, 2),
        "{later:#?}"
    );
    assert!(fleet.text("envs/dev/app.yaml").contains("team/web:1.1.0"));
}
