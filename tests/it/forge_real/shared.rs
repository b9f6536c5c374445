//! One repository with several updaters, and with requests of people from the bot's branches. Gitea
//! closes every request of a deleted branch.

use super::fleet::{BRANCH, FILE, Fleet, prod, rows};
use crate::it::update_support::{deployment, semver};
use reqwest::Method;
use serde_json::json;
use std::io::Write;
use tagboat::{
    io::forge::RequestStatus,
    review::Marker,
    update::{PassMode, RequestState},
};

/// A process that reads its declarations in a folder.
fn engine(fleet: &Fleet, store: &str, folder: &str) -> tagboat::service::engine::Engine {
    let mut config = std::fs::OpenOptions::new()
        .append(true)
        .open(fleet.config(store))
        .unwrap();
    writeln!(config, "    policies: {folder}").unwrap();
    fleet.engine(store)
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn branch_used_by_another_request_stays() {
    let fleet = Fleet::new("");
    let number = fleet.only().number.unwrap();
    fleet.push(&["origin/main:refs/heads/staging"]);
    let hers = json!({"head": BRANCH, "base": "staging", "title": "try it on staging"});
    let hers = fleet
        .runtime
        .block_on(fleet.world.ann(Method::POST, "pulls", hers))["number"]
        .as_u64()
        .unwrap();
    assert_eq!(
        fleet
            .quiet_pass()
            .iter()
            .map(|row| row.number)
            .collect::<Vec<_>>(),
        [Some(number)]
    );
    fleet.person(&[(FILE, &deployment(&["web:1.1.0", "db:1.0.0"]))]);
    assert_eq!(
        (fleet.only().state, fleet.open()),
        (RequestState::Closed, vec![hers])
    );
    assert!(fleet.quiet_pass().is_empty());
    let request = fleet.get(hers);
    assert_eq!(
        (request.state, request.title.as_str(), request.labels.len()),
        (RequestStatus::Open, "try it on staging", 0)
    );
    assert_eq!(fleet.comments(hers), [""; 0]);
    // Needed again: the bot opens a pull request beside hers. Then no other one uses the branch.
    fleet.publish("web", &["1.2.0"]);
    let row = fleet.only();
    assert!(
        row.state == RequestState::Opened && row.number > Some(hers),
        "{row:#?}"
    );
    fleet.person(&[(FILE, &deployment(&["web:1.2.0", "db:1.0.0"]))]);
    assert_eq!(fleet.only().state, RequestState::Closed);
    fleet.close(hers);
    fleet.good_pass();
    assert_eq!((fleet.open(), fleet.head(BRANCH)), (vec![], None));
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn two_updaters_of_one_branch_do_not_interfere() {
    let fleet = Fleet::new("");
    let second = semver("web", "1.x", "")
        + &prod("")
            .replace("name: prod", "name: second")
            .replace("envs/prod/", "envs/second/");
    fleet.person(&[
        ("more/p.yaml", &second),
        ("envs/second/app.yaml", &deployment(&["web:1.0.0"])),
    ]);
    let engines = [
        engine(&fleet, "store", "policies"),
        engine(&fleet, "other", "more"),
    ];
    let pass = || {
        engines.each_ref().map(|engine| {
            let report = fleet.pass_of(engine, PassMode::Write);
            assert!(
                report.failures.is_empty()
                    && report.warnings.is_empty()
                    && report.findings.is_empty(),
                "{report:#?}"
            );
            rows(&report)
                .iter()
                .map(|row| (row.number.unwrap(), row.state))
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(
        pass(),
        [[(1, RequestState::Opened)], [(2, RequestState::Opened)]]
    );
    fleet.gate.take();
    assert_eq!(
        pass(),
        [[(1, RequestState::Open)], [(2, RequestState::Open)]]
    );
    assert_eq!(fleet.changing(), [""; 0]);
    let file = |number| {
        Marker::read(&fleet.get(number).body)
            .unwrap()
            .unwrap()
            .scope
            .unwrap()
            .file
    };
    assert_eq!(
        (file(1).as_str(), file(2).as_str()),
        ("policies/p.yaml", "more/p.yaml")
    );
}
