//! Faults in a request's life, on a real Gitea: nothing is lost, and nothing is done twice.

use super::fleet::{BRANCH, FILE, Fleet, rows, seen};
use crate::{
    it::{
        support::process::Running,
        update_support::{Act, deployment, reply, wait},
    },
    servers::git::git,
};
use reqwest::Method;
use serde_json::json;
use std::{process::Stdio, sync::Arc, time::Duration};
use tagboat::{
    io::forge::{RequestStatus, StatusState},
    review::lifecycle::SUPERSEDED,
    update::{PassMode, RequestState},
};

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn kill_between_branch_and_request_opens_one() {
    for (opening, after) in [(false, false), (false, true), (true, false), (true, true)] {
        let fleet = Fleet::new("request: {labels: [images]}");
        let project = &fleet.world.project;
        let line = if opening {
            format!("POST /api/v1/repos/{project}/pulls")
        } else {
            format!("POST /{project}.git/git-receive-pack")
        };
        killed_at(&fleet, line, after);
        // A request on its way may arrive or not, as in a real network: there is one request in any
        // case.
        let row = fleet.only();
        assert!(
            matches!(
                row.state,
                RequestState::Opened | RequestState::Updated | RequestState::Open
            ),
            "{row:#?}"
        );
        assert_eq!(fleet.open(), [row.number.unwrap()]);
        assert_eq!(
            fleet.get(row.number.unwrap()).labels,
            ["images"],
            "and it has its labels"
        );
        fleet.quiet_pass();
    }
}

/// Kills the program (SIGKILL) at its first request to the forge or Git that begins so, before or
/// `after` it.
fn killed_at(fleet: &Fleet, begins: String, after: bool) {
    let (come, came) = std::sync::mpsc::channel();
    let (kept, gone) = std::sync::mpsc::channel::<()>();
    let stop = std::sync::Mutex::new(Some((come, gone)));
    let what = begins.clone();
    fleet.gate.rule(move |request_line| {
        match stop
            .lock()
            .unwrap()
            .take_if(|_| request_line.starts_with(&begins))
        {
            Some((come, gone)) => {
                let work = Box::new(move || {
                    let _ = come.send(());
                    let _ = gone.recv_timeout(Duration::from_secs(30));
                });
                if after {
                    Act::After(work)
                } else {
                    Act::Before(work)
                }
            }
            None => Act::Pass,
        }
    });
    let process = Running::start(
        fleet
            .tagboat(&["run", "--once"])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    came.recv_timeout(Duration::from_secs(60))
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    drop(process);
    drop(kept);
    fleet.gate.open();
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn kill_inside_close_is_finished_by_the_next() {
    let fleet = Fleet::new("request: {labels: [images]}");
    let project = format!("/api/v1/repos/{}", fleet.world.project);
    let both = |tag: &str| deployment(&[&format!("web:{tag}"), "db:1.0.0"]);
    let cases = [
        "POST issues/comments",
        "POST issues/labels",
        "PATCH pulls",
        "POST git-receive-pack",
    ];
    let mut minor = 1;
    for (case, after) in cases.iter().flat_map(|case| [(case, false), (case, true)]) {
        // Gitea may still process the deletion of the branch, and then closes the new request with
        // it.
        let number = wait("a request that stays", || {
            let number = fleet.only().number.unwrap();
            (fleet.settled(number).state == RequestStatus::Open).then_some(number)
        });
        // A person commits its proposal.
        let wanted = format!("1.{minor}.0");
        fleet.person(&[(FILE, &both(&wanted))]);
        let line = match *case {
            "POST issues/comments" => format!("POST {project}/issues/{number}/comments"),
            "POST issues/labels" => format!("POST {project}/issues/{number}/labels"),
            "PATCH pulls" => format!("PATCH {project}/pulls/{number}"),
            _ => format!("POST /{}.git/git-receive-pack", fleet.world.project),
        };
        killed_at(&fleet, line, after);
        fleet.good_pass();
        let request = fleet.get(number);
        assert_eq!(
            (
                request.state,
                request.labels.contains(&SUPERSEDED.to_owned())
            ),
            (RequestStatus::Closed, true),
            "{case} {after}"
        );
        let comment =
            format!("<!-- tagboat:closed -->\nClosed by tagboat: web is {wanted} already.");
        assert_eq!(
            (fleet.comments(number), fleet.head(BRANCH), fleet.open()),
            (vec![comment], None, vec![]),
            "{case} {after}"
        );
        assert!(fleet.quiet_pass().is_empty());
        // The close is no hold.
        minor += 1;
        fleet.publish("web", &[&format!("1.{minor}.0")]);
    }
    // Wanted again before the next process starts, it goes on; a close by a person holds.
    let number = fleet.only().number.unwrap();
    fleet.settled(number);
    fleet.person(&[(FILE, &both(&format!("1.{minor}.0")))]);
    killed_at(
        &fleet,
        format!("POST {project}/issues/{number}/labels"),
        true,
    );
    assert_eq!(
        (
            fleet.open(),
            fleet.get(number).labels.contains(&SUPERSEDED.to_owned())
        ),
        (vec![number], true)
    );
    fleet.publish("web", &[&format!("1.{}.0", minor + 1)]);
    assert_eq!(seen(&fleet.only()).1, RequestState::Updated);
    assert_eq!(fleet.get(number).labels, ["images"]);
    fleet.quiet_pass();
    fleet.close(number);
    assert!(
        fleet.good_pass().is_empty(),
        "a request that a person closed is held"
    );
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn lost_response_and_outage_open_one_request() {
    let fleet = Fleet::new("");
    // The forge is down, Git is not: nothing is pushed for requests, and commits elsewhere go on.
    fleet.gate.rule(|line| {
        if line.contains("/api/v1/") {
            reply(503, &[], "")
        } else {
            Act::Pass
        }
    });
    let report = fleet.pass();
    assert_eq!(
        (fleet.head(BRANCH), rows(&report).len()),
        (None, 0),
        "{report:#?}"
    );
    assert_eq!(
        report.environments[0].state,
        tagboat::update::EnvironmentState::Waiting
    );
    assert!(
        report.failures.iter().all(|failure| failure.forge)
            && report.failures[0].message.contains("503"),
        "{report:#?}"
    );
    // The process dies after the branch was pushed.
    let opening = format!("POST /api/v1/repos/{}/pulls", fleet.world.project);
    let line = opening.clone();
    fleet.gate.rule(move |request_line| {
        if request_line == line {
            Act::Die
        } else {
            Act::Pass
        }
    });
    let report = fleet.pass();
    assert_eq!(
        (fleet.open().len(), rows(&report)[0].state),
        (0, RequestState::Failed),
        "{report:#?}"
    );
    let pushed = fleet.head(BRANCH).expect("the branch waits");
    // The request is opened, and the response is lost.
    fleet.gate.rule(move |request_line| {
        if request_line == opening {
            Act::LoseAnswer
        } else {
            Act::Pass
        }
    });
    let row = fleet.only();
    assert_eq!(
        (row.state, fleet.open().len(), fleet.head(BRANCH)),
        (RequestState::Opened, 1, Some(pushed))
    );
    fleet.gate.open();
    fleet.quiet_pass();
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn branch_deleted_or_protected_is_respected() {
    let fleet = Fleet::new("");
    let number = fleet.only().number.unwrap();
    fleet.push(&["--delete", BRANCH]);
    // Gitea closes the request of a deleted branch a moment later: that counts as a person's close.
    let closed = fleet.world.until(number, "Gitea closes it", |request| {
        request.state == RequestStatus::Closed
    });
    fleet.runtime.block_on(closed);
    assert!(fleet.quiet_pass().is_empty());
    let protect = json!({"rule_name": "tagboat/**", "enable_push": false});
    fleet.runtime.block_on(
        fleet
            .world
            .admin(Method::POST, "branch_protections", protect),
    );
    fleet.publish("web", &["1.2.0"]);
    let report = fleet.pass();
    assert!(
        !report.failures.is_empty() && report.failures[0].forge,
        "{report:#?}"
    );
    assert!(
        report.failures[0]
            .message
            .contains(&format!("refs/heads/{BRANCH}")),
        "{report:#?}"
    );
    assert!(
        rows(&report)
            .iter()
            .any(|row| row.state == RequestState::Failed),
        "{report:#?}"
    );
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn change_between_list_and_action_is_respected() {
    let fleet = Arc::new(Fleet::new(
        "autoMerge: {bump: [minor], requireChecks: [ci/test]}",
    ));
    let number = fleet.only().number.unwrap();
    fleet.settled(number);
    // Ann pushes just before the merge: her commit is not merged.
    fleet.check(number, StatusState::Success);
    let clone = fleet.world.clone.clone();
    let meddle = move || {
        git(&clone, &["fetch", "-q", "origin"])
            .status
            .success()
            .then_some(())
            .unwrap();
        git(
            &clone,
            &[
                "checkout",
                "-q",
                "-B",
                "theirs",
                &format!("origin/{BRANCH}"),
            ],
        );
        std::fs::write(clone.join("hers"), "hers\n").unwrap();
        git(&clone, &["add", "-A"]);
        git(&clone, &["commit", "-q", "-m", "hers"]);
        assert!(
            git(
                &clone,
                &["push", "-q", "origin", &format!("HEAD:refs/heads/{BRANCH}")]
            )
            .status
            .success()
        );
    };
    fleet.gate.once("/merge", Act::Before(Box::new(meddle)));
    let report = fleet.pass();
    fleet.gate.open();
    assert_eq!(fleet.get(number).state, RequestStatus::Open, "{report:#?}");
    assert_eq!(
        fleet.text("main", FILE),
        deployment(&["web:1.0.0", "db:1.0.0"])
    );
    assert_eq!(seen(&fleet.good_pass()[0]).1, RequestState::Stopped);
    // Her commit is removed. Then the request is no longer needed, and she merges it before it is
    // closed.
    let built = git(
        &fleet.world.clone,
        &["rev-parse", &format!("origin/{BRANCH}")],
    );
    let built = String::from_utf8_lossy(&built.stdout).trim().to_owned();
    let first = git(&fleet.world.clone, &["rev-parse", &format!("{built}^")]);
    let first = String::from_utf8_lossy(&first.stdout).trim().to_owned();
    let own = if fleet.message(BRANCH).contains("hers") {
        first
    } else {
        built
    };
    fleet.push(&["--force", &format!("{own}:refs/heads/{BRANCH}")]);
    fleet.settled(number);
    fleet.person(&[("policies/p.yaml", "# nothing\n")]);
    let (token, path) = (
        fleet.world.ann_token.clone(),
        format!("repos/{}/pulls/{number}/merge", fleet.world.project),
    );
    let gitea = fleet.world.gitea;
    let handle = fleet.runtime.handle().clone();
    // Gitea checks for conflicts first.
    let merge = move || {
        wait("Ann's merge", || {
            let (status, answer) = handle.block_on(gitea.call(
                &token,
                Method::POST,
                &path,
                Some(json!({"Do": "merge"})),
            ));
            assert!(status.is_success() || status == 405, "{status} {answer}");
            status.is_success().then_some(())
        });
    };
    let word: &'static str = Box::leak(
        format!("GET /api/v1/repos/{}/pulls/{number}", fleet.world.project).into_boxed_str(),
    );
    fleet.gate.once(word, Act::Before(Box::new(merge)));
    let report = fleet.pass();
    fleet.gate.open();
    let request = fleet.get(number);
    assert_eq!(
        (
            request.state,
            request.labels.contains(&"tagboat/superseded".to_owned())
        ),
        (RequestStatus::Merged, false),
        "{report:#?}"
    );
    assert_eq!(
        fleet.comments(number).len(),
        1,
        "only of her commit: {:?}",
        fleet.comments(number)
    );
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn push_just_before_close_keeps_the_request() {
    let fleet = Arc::new(Fleet::new(""));
    let number = fleet.only().number.unwrap();
    fleet.person(&[("policies/p.yaml", "# nothing\n")]);
    let clone = fleet.world.clone.clone();
    let meddle = move || {
        assert!(git(&clone, &["fetch", "-q", "origin"]).status.success());
        git(
            &clone,
            &[
                "checkout",
                "-q",
                "-B",
                "theirs",
                &format!("origin/{BRANCH}"),
            ],
        );
        std::fs::write(clone.join("hers"), "hers\n").unwrap();
        git(&clone, &["add", "-A"]);
        git(&clone, &["commit", "-q", "-m", "hers"]);
        assert!(
            git(
                &clone,
                &["push", "-q", "origin", &format!("HEAD:refs/heads/{BRANCH}")]
            )
            .status
            .success()
        );
    };
    let word: &'static str = Box::leak(
        format!("GET /api/v1/repos/{}/pulls/{number}", fleet.world.project).into_boxed_str(),
    );
    fleet.gate.once(word, Act::Before(Box::new(meddle)));
    let report = fleet.pass();
    fleet.gate.open();
    assert_eq!(
        (fleet.get(number).state, seen(&rows(&report)[0]).1),
        (RequestStatus::Open, RequestState::Stopped),
        "{report:#?}"
    );
    assert!(fleet.message(BRANCH).contains("hers"));
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn concurrent_bots_open_one_request() {
    let fleet = Fleet::new("");
    let engines = [fleet.engine("store"), fleet.engine("other")];
    std::thread::scope(|scope| {
        let passes: Vec<_> = engines
            .iter()
            .map(|engine| scope.spawn(|| fleet.pass_of(engine, PassMode::Write)))
            .collect();
        for pass in passes {
            let report = pass.join().unwrap();
            assert!(report.failures.is_empty(), "{report:#?}");
        }
    });
    // Gitea accepts two requests in the same moment; then the first one stays.
    let first = fleet.open().into_iter().min().unwrap();
    for engine in &engines {
        let report = fleet.pass_of(engine, PassMode::Write);
        assert!(report.failures.is_empty(), "{report:#?}");
    }
    assert_eq!(fleet.open(), [first]);
    fleet.publish("web", &["1.2.0"]);
    for engine in engines.iter().chain(&engines) {
        let report = fleet.pass_of(engine, PassMode::Write);
        assert!(report.failures.is_empty(), "{report:#?}");
    }
    assert_eq!(fleet.open(), [first]);
    fleet.gate.take();
    for engine in &engines {
        fleet.pass_of(engine, PassMode::Write);
    }
    assert_eq!(fleet.changing(), [""; 0]);
    // A person retargets one of them.
    let number = fleet.open()[0];
    fleet.push(&["origin/main:refs/heads/release"]);
    fleet.ann(number, json!({"base": "release"}));
    let report = fleet.pass_of(&engines[0], PassMode::Write);
    assert_eq!(
        seen(&rows(&report)[0]).1,
        RequestState::Stopped,
        "{report:#?}"
    );
    assert_eq!((fleet.changing(), fleet.open()), (vec![], vec![number]));
}
