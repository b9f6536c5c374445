//! `tagboat suspend` and `tagboat resume`, through Git: one entry, one commit, and its effect.

use super::update_support::{Act, Fleet, Setup, deployment, env, hours, now, semver};
use tagboat::{
    service::Outcome,
    update::{CommandCommit, CommandError, EnvironmentState},
};

const FILE: &str = "envs/dev/a.yaml";
const APP: &str = "# Who: team web\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {name: web, namespace: dev} # é\nspec:\n  # where\n  environment: dev\n  path: envs/dev\n  cluster: c\n";

fn fleet() -> Fleet {
    let fleet = Fleet::new(&[
        ("p.yaml", &(semver("web", "1.x", "") + &env("dev", ""))),
        ("app.yaml", APP),
        (FILE, &deployment(&["web:1.0.0"])),
    ]);
    fleet.publish("team/web", &["1.0.0", "1.1.0"]);
    fleet
}

fn run(fleet: &Fleet, arguments: &[&str], exit: Outcome) -> (String, String) {
    let output = fleet
        .tagboat(arguments)
        .assert()
        .code(exit as i32)
        .get_output()
        .clone();
    (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn suspend_is_written_once_and_resume_restores() {
    let fleet = fleet();
    let (out, _) = run(&fleet, &["suspend", "app/dev/web"], Outcome::Done);
    let commit = fleet.log().pop().unwrap();
    assert_eq!(
        out,
        format!(
            "Application dev/web is suspended by {} (app.yaml:4:12)\n",
            &commit.id[..10]
        )
    );
    assert_eq!(
        fleet.text("app.yaml"),
        APP.replace("spec:\n", "spec:\n  suspend: true\n")
    );
    assert_eq!(
        commit.message,
        "Suspend Application dev/web\n\nBy `tagboat suspend application/dev/web`.\n"
    );
    assert_eq!(commit.author, "tagboat", "as configured");
    assert_eq!(
        run(&fleet, &["suspend", "application/dev/web"], Outcome::Done).0,
        "Application dev/web is suspended already (app.yaml:4:12)\n"
    );
    assert_eq!(fleet.log().len(), 2, "a second commit was made");
    let (out, _) = run(
        &fleet,
        &["resume", "application/dev:web", "-o", "json"],
        Outcome::Done,
    );
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (value["kind"].as_str(), value["suspended"].as_bool()),
        (Some("Application"), Some(false))
    );
    assert_eq!(value["commit"].as_str(), Some(fleet.log()[2].id.as_str()));
    assert_eq!(
        (
            fleet.text("app.yaml").as_str(),
            fleet.subjects()[2].as_str()
        ),
        (APP, "Resume Application dev/web")
    );
    assert_eq!(
        run(&fleet, &["resume", "application/dev/web"], Outcome::Done).0,
        "Application dev/web is not suspended (app.yaml:4:12)\n"
    );
    assert_eq!(fleet.log().len(), 3);
}

#[test]
fn suspended_policy_or_environment_is_unchanged() {
    for what in ["policy/web", "environment/dev"] {
        let fleet = fleet();
        let before = fleet.text("p.yaml");
        run(&fleet, &["suspend", what], Outcome::Done);
        let report = fleet.pass(now());
        assert!(
            report.failures.is_empty() && report.pushed() == 0,
            "{report:#?}"
        );
        assert_eq!(
            report.environments[0].state == EnvironmentState::Suspended,
            what.starts_with("env")
        );
        assert_eq!(fleet.text(FILE), deployment(&["web:1.0.0"]));
        run(&fleet, &["resume", what], Outcome::Done);
        assert_eq!(fleet.text("p.yaml"), before);
        fleet.good_pass(hours(1));
        assert_eq!(fleet.text(FILE), deployment(&["web:1.1.0"]));
    }
}

#[test]
fn suspend_unknown_name_suggests_similar() {
    let fleet = fleet();
    for (what, said_so) in [
        (
            "app/web",
            "there is no Application default/web; did you mean dev/web?",
        ),
        (
            "app/dev/wep",
            "there is no Application dev/wep; did you mean dev/web?",
        ),
        ("env/prod", "there is no Environment prod\n"),
        (
            "policy/dev/web",
            "there is no ImagePolicy dev/web; did you mean default/web?",
        ),
    ] {
        let (_, err) = run(&fleet, &["suspend", what], Outcome::BadInput);
        assert!(err.contains(said_so), "{err}");
    }
    for bad in ["web", "deployment/web", "app/", "app/A"] {
        let (_, err) = run(&fleet, &["suspend", bad], Outcome::BadInput);
        assert!(
            err.contains("KIND/NAME") && !err.contains("panicked"),
            "{err}"
        );
    }
    assert_eq!(fleet.log().len(), 1);
    fleet.person(
        &[(
            "bad.yaml",
            "apiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {name: x}\nspec: {}\n",
        )],
        "bad",
    );
    let (_, err) = run(&fleet, &["suspend", "app/x"], Outcome::BadInput);
    assert!(err.contains("tagboat check"), "{err}");
}

/// A concurrent push between reading and writing: to another file, and to the same file.
#[test]
fn suspend_with_concurrent_push_loses_nothing() {
    let fleet = fleet();
    let repository = fleet.repository.clone();
    let changed = APP.replace("cluster: c", "cluster: other");
    let theirs = changed.clone();
    fleet.git.once(
        "POST /fleet.git/git-receive-pack",
        Act::Before(Box::new(move || {
            repository
                .commit(
                    &[("app.yaml", theirs.as_str()), ("other.txt", "x")],
                    super::git_support::ANN,
                    1,
                    "in between",
                )
                .unwrap();
        })),
    );
    let engine = fleet.engine();
    let done = fleet
        .runtime
        .block_on(engine.updaters[0].suspend(
            &"app/dev/web".parse().unwrap(),
            true,
            &CommandCommit::default(),
            now(),
        ))
        .unwrap();
    assert_eq!(done.commit.as_ref(), Some(&fleet.log().pop().unwrap().id));
    assert_eq!(
        fleet.text("app.yaml"),
        changed.replace("spec:\n", "spec:\n  suspend: true\n")
    );
    assert_eq!(
        fleet.subjects(),
        ["first", "in between", "Suspend Application dev/web"]
    );
    assert!(!engine.updaters[0].end(), "a push is still in progress");
}

#[test]
fn suspend_with_lost_response_reports_its_commit() {
    let fleet = fleet();
    fleet
        .git
        .once("POST /fleet.git/git-receive-pack", Act::LoseAnswer);
    let engine = fleet.engine();
    let done = fleet
        .runtime
        .block_on(engine.updaters[0].suspend(
            &"app/dev/web".parse().unwrap(),
            true,
            &CommandCommit::default(),
            now(),
        ))
        .unwrap();
    assert_eq!(
        done.commit,
        Some(fleet.log().pop().unwrap().id),
        "not \"suspended already\""
    );
    assert_eq!(fleet.log().len(), 2);
}

#[test]
fn suspend_on_protected_branch_has_reason() {
    let fleet = Fleet::with(
        &[("app.yaml", &(APP.to_owned() + "---\n" + &env("dev", "")))],
        &Setup::default(),
    );
    fleet.git.rule(|line| {
        if line.contains("receive-pack") {
            super::update_support::reply(403, &[], "no")
        } else {
            Act::Pass
        }
    });
    let engine = fleet.engine();
    let error = fleet
        .runtime
        .block_on(engine.updaters[0].suspend(
            &"app/dev/web".parse().unwrap(),
            true,
            &CommandCommit::default(),
            now(),
        ))
        .unwrap_err();
    assert!(
        matches!(error, CommandError::Git(_)) && error.to_string().contains("push"),
        "{error}"
    );
    assert_eq!(fleet.log().len(), 1);
}

const FLUX: &str = "apiVersion: image.toolkit.fluxcd.io/v1\nkind: ImageRepository\nmetadata:\n  name: web\n  namespace: flux-system\nspec:\n  image: {host}/team/web\n  suspend: true\n---\napiVersion: image.toolkit.fluxcd.io/v1\nkind: ImagePolicy\nmetadata:\n  name: web\n  namespace: flux-system\nspec:\n  imageRepositoryRef:\n    name: web\n  policy:\n    semver:\n      range: 1.x\n---\napiVersion: image.toolkit.fluxcd.io/v1\nkind: ImageUpdateAutomation\nmetadata:\n  name: all\n  namespace: flux-system\nspec:\n  update:\n    path: ./envs\n";

#[test]
fn suspend_flux_resource_uses_its_own_field() {
    let fleet = Fleet::new(&[("clusters/dev/flux.yaml", FLUX)]);
    let (_, err) = run(
        &fleet,
        &["resume", "policy/flux-system/web"],
        Outcome::BadInput,
    );
    assert!(
        err.contains("clusters/dev/flux.yaml:4:3")
            && err.contains("tagboat resume imagerepository/flux-system/web"),
        "{err}"
    );
    // The policy is suspended with its repository; its own suspension is separate.
    run(
        &fleet,
        &["suspend", "policy/flux-system/web"],
        Outcome::Done,
    );
    let (_, err) = run(&fleet, &["resume", "policy/flux-system/web"], Outcome::Done);
    assert!(
        err.contains("note: ImagePolicy flux-system/web is still suspended"),
        "{err}"
    );
    assert_eq!(fleet.text("clusters/dev/flux.yaml"), FLUX);
    // A person wrote this entry: its place stays.
    run(
        &fleet,
        &["resume", "imagerepository/flux-system/web"],
        Outcome::Done,
    );
    let resumed = FLUX.replace("suspend: true", "suspend: false");
    assert_eq!(fleet.text("clusters/dev/flux.yaml"), resumed);
    run(
        &fleet,
        &["suspend", "imageupdateautomation/flux-system/all"],
        Outcome::Done,
    );
    assert_eq!(
        fleet.text("clusters/dev/flux.yaml"),
        resumed.replace("spec:\n  update", "spec:\n  suspend: true\n  update")
    );
    assert_eq!(
        fleet.subjects().pop().unwrap(),
        "Suspend Environment flux-system/all"
    );
}
