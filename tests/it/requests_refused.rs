//! Holds of closed requests, after the Environment has changed, and with or without an answer from
//! the forge.

use super::{
    requests::{FILE, Reviewed, states},
    update_support::{deployment, env, environment, hours, hours_ago, now, policy, semver},
};
use jiff::Timestamp;
use tagboat::{
    sandbox::forge::BOT,
    update::{EnvironmentState, PassMode, PassReport, RequestState},
};

fn declared(update: &str) -> String {
    semver("web", "1.x", "") + &env("dev", "") + &env("prod", update)
}

/// A request that Ann closed and whose branch is deleted, in an Environment that now writes
/// commits; `dev` has committed 1.1.0.
fn refused() -> Reviewed {
    refused_at(now())
}

/// The same, closed at this time.
fn refused_at(time: Timestamp) -> Reviewed {
    let world = Reviewed::new("");
    assert_eq!(states(&world.pass(time)), [RequestState::Opened]);
    world.forge.close(1, "ann").unwrap();
    world
        .fleet
        .repository
        .delete_branch("tagboat/prod/all")
        .unwrap();
    world
        .fleet
        .person(&[("p.yaml", &declared(""))], "commits from now on");
    world
}

/// Makes the forge refuse every connection, or work again; Git stays up.
fn down(world: &Reviewed, down: bool) {
    std::fs::write(
        world.fleet.dir.path().join("token"),
        if down { "wrong" } else { "t0ken" },
    )
    .unwrap();
}

fn lose_store(world: &Reviewed) {
    std::fs::remove_dir_all(world.fleet.dir.path().join("store")).unwrap();
}

fn held(report: &PassReport) -> Vec<String> {
    policy(report, "prod", "default/web").held.clone()
}

#[test]
fn switch_to_commits_keeps_its_holds() {
    let closed = hours_ago(3);
    let world = refused_at(closed);
    lose_store(&world);
    let report = world.pass(hours_ago(2));
    assert_eq!(
        (environment(&report, "prod").state, held(&report).len()),
        (EnvironmentState::UpToDate, 1),
        "{report:#?}"
    );
    assert_eq!(world.fleet.text(FILE), deployment(&["web:1.0.0"]));
    for arguments in [&["holds"][..], &["explain", "default/web"]] {
        let output = world.fleet.tagboat(arguments).assert().success();
        let text = String::from_utf8_lossy(&output.get_output().stdout).into_owned();
        assert!(
            text.contains(&format!(
                "ann closed pull request #1 (1.1.0) on {}",
                closed.strftime("%Y-%m-%d")
            )),
            "{text}"
        );
    }
    world.fleet.publish("team/web", &["1.2.0"]);
    assert_eq!(
        environment(&world.pass(hours_ago(1)), "prod").state,
        EnvironmentState::Committed
    );
}

#[test]
fn forge_down_after_restart_changes_nothing() {
    let world = refused();
    assert_eq!(held(&world.pass(hours(1))).len(), 1);
    down(&world, true);
    world.fleet.publish("team/db", &["1.0.0", "1.1.0"]);
    world.fleet.person(
        &[
            ("db.yaml", &semver("db", "1.x", "")),
            ("envs/dev/b.yaml", &deployment(&["db:1.0.0"])),
        ],
        "more",
    );
    let report = world.fleet.pass(hours(2));
    assert!(
        report.failures.iter().all(|failure| failure.forge) && report.warnings.is_empty(),
        "{report:#?}"
    );
    assert_eq!(
        (
            report.failures.len(),
            environment(&report, "prod").state,
            held(&report).len()
        ),
        (1, EnvironmentState::UpToDate, 1)
    );
    assert_eq!(
        environment(&report, "dev").state,
        EnvironmentState::Committed,
        "nothing else waits"
    );
    let output = world.fleet.tagboat(&["holds"]).assert().code(4);
    let text = String::from_utf8_lossy(&output.get_output().stdout).into_owned();
    assert!(text.contains("ann closed pull request #1"), "{text}");
}

#[test]
fn unknown_holds_block_their_environment() {
    let world = refused();
    world.fleet.person(
        &[("envs/dev/a.yaml", &deployment(&["web:1.1.0"]))],
        "by hand",
    );
    lose_store(&world);
    down(&world, true);
    let output = world
        .fleet
        .tagboat(&["explain", "default/web"])
        .assert()
        .code(4);
    let text = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(text.contains("error"), "{text}");
    let engine = world.fleet.engine();
    for mode in [PassMode::Plan, PassMode::Write] {
        let report = world.fleet.pass_of(&engine, mode, hours(1));
        assert_eq!(
            (
                environment(&report, "prod").state,
                environment(&report, "dev").state
            ),
            (EnvironmentState::Waiting, EnvironmentState::UpToDate),
            "{report:#?}"
        );
        assert!(
            report.warnings.len() == 1 && report.warnings[0].contains("prod waits"),
            "{:?}",
            report.warnings
        );
    }
    assert_eq!(world.fleet.text(FILE), deployment(&["web:1.0.0"]));
    // The forge recovers for the same process; then it may fail again.
    down(&world, false);
    for at in [2, 3] {
        let report = world.fleet.pass_of(&engine, PassMode::Write, hours(at));
        assert_eq!(
            (environment(&report, "prod").state, held(&report).len()),
            (EnvironmentState::UpToDate, 1),
            "{report:#?}"
        );
        down(&world, true);
    }
}

#[test]
fn reopened_request_lifts_its_hold() {
    let world = Reviewed::new("");
    world.pass(now());
    world.forge.close(1, "ann").unwrap();
    assert_eq!(held(&world.pass(hours(1))).len(), 1);
    world.forge.reopen(1).unwrap();
    assert_eq!(states(&world.pass(hours(2))), [RequestState::Open]);
    // No hold is stored either.
    down(&world, true);
    world
        .fleet
        .person(&[("p.yaml", &declared(""))], "commits from now on");
    assert_eq!(
        environment(&world.fleet.pass(hours(3)), "prod").state,
        EnvironmentState::Committed
    );
}

#[test]
fn request_closed_with_its_branch_is_no_hold() {
    let world = Reviewed::new("");
    let seconds = |seconds: i64| now() + jiff::SignedDuration::from_secs(seconds);
    world.pass(now());
    world.forge.merge(1, ("Ann", "ann@example.org")).unwrap();
    world.pass(seconds(10));
    world.fleet.publish("team/web", &["1.2.0"]);
    assert_eq!(states(&world.pass(seconds(20))), [RequestState::Opened]);
    // The first branch was deleted. Only now the forge closes what it finds under its name, as the
    // bot.
    world.forge.set_clock(Some(seconds(22)));
    world.forge.close(2, BOT).unwrap();
    // Committed by a person meanwhile, nothing is left to update, and the branch is deleted;
    // otherwise it is opened again.
    let text = world.fleet.text(FILE);
    let before = world.fleet.person(&[], "before");
    world
        .fleet
        .person(&[(FILE, &deployment(&["web:1.2.0"]))], "by hand");
    assert_eq!(states(&world.pass(seconds(25))), [RequestState::Closed]);
    assert_eq!(
        world.fleet.repository.branch("tagboat/prod/all").unwrap(),
        None
    );
    world.fleet.set_main(before);
    assert_eq!(world.fleet.text(FILE), text);
    let report = world.pass(seconds(30));
    assert_eq!(
        (held(&report), states(&report), world.open()),
        (vec![], vec![RequestState::Opened], vec![3]),
        "{report:#?}"
    );
    // A later close with the bot's account is a user's decision.
    world.forge.set_clock(Some(hours(1)));
    world.forge.close(3, BOT).unwrap();
    let report = world.pass(hours(1));
    assert_eq!(
        (held(&report).len(), world.open()),
        (1, vec![]),
        "{report:#?}"
    );
}
