//! The life of a request on a real Gitea, driven by files, pushes and actions of people.

use super::fleet::{BRANCH, FILE, Fleet, prod, seen};
use crate::it::update_support::{Act, deployment, reply, semver, wait};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::json;
use tagboat::{
    core::image::Tag,
    io::forge::{RequestStatus, StatusState},
    review::{Marker, merging::SETTLING},
    sandbox::registry::SandboxImage,
    update::{PassMode, RequestState, Rescan},
};

fn file(images: &[&str]) -> String {
    deployment(images)
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn request_life_from_first_tag_to_close() {
    let fleet = Fleet::new("request: {labels: [images, bot]}");
    // Planning writes nothing.
    let engine = fleet.engine("store");
    let planned = super::fleet::rows(&fleet.pass_of(&engine, PassMode::Plan));
    assert_eq!(
        (planned.len(), seen(&planned[0]).1, planned[0].files.len()),
        (1, RequestState::WouldOpen, 1)
    );
    assert_eq!(
        (fleet.changing(), fleet.head(BRANCH), fleet.open()),
        (vec![], None, vec![])
    );
    drop(engine);

    let row = fleet.only();
    let number = row.number.unwrap();
    assert_eq!(
        (row.state, row.title.as_str()),
        (RequestState::Opened, "prod: web 1.0.0 → 1.1.0")
    );
    let request = fleet.settled(number);
    assert_eq!(
        (
            request.title.as_str(),
            request.base.as_str(),
            request.author.as_str()
        ),
        (row.title.as_str(), "main", fleet.world.bot.as_str())
    );
    assert_eq!(request.labels, ["bot", "images"]);
    let marker = Marker::read(&request.body).unwrap().unwrap();
    assert_eq!(
        (
            marker.environment.as_str(),
            marker.moves.len(),
            marker.moves[0].new.as_str()
        ),
        ("prod", 1, "1.1.0")
    );
    assert_eq!(fleet.text(BRANCH, FILE), file(&["web:1.1.0", "db:1.0.0"]));
    assert!(
        fleet.message(BRANCH).ends_with("Tagboat-Update: prod"),
        "{}",
        fleet.message(BRANCH)
    );
    let first = fleet.head(BRANCH).unwrap();
    assert_eq!(fleet.quiet_pass()[0].number, Some(number));

    // A person's edit of the body stays until its content changes.
    fleet.ann(
        number,
        json!({"title": "Ann's words", "body": format!("Mine.\n\n{}", request.body)}),
    );
    fleet.quiet_pass();
    // The target gets an unrelated commit.
    fleet.person(&[("README", "hello again\n")]);
    fleet.quiet_pass();
    assert_eq!(
        (
            fleet.head(BRANCH).as_ref(),
            fleet.get(number).title.as_str()
        ),
        (Some(&first), "Ann's words")
    );

    // A newer tag: the same request with a new body.
    fleet.publish("web", &["1.2.0"]);
    let row = fleet.only();
    assert_eq!(
        (row.number, row.state),
        (Some(number), RequestState::Updated)
    );
    let request = fleet.settled(number);
    assert_eq!(request.title, "prod: web 1.0.0 → 1.2.0");
    assert_eq!(
        Marker::read(&request.body).unwrap().unwrap().moves[0]
            .new
            .as_str(),
        "1.2.0"
    );
    assert_eq!(fleet.text(BRANCH, FILE), file(&["web:1.2.0", "db:1.0.0"]));
    let second = fleet.head(BRANCH).unwrap();
    assert_ne!(first, second);
    fleet.quiet_pass();

    // The target changes the edited file: the branch is rebuilt on it, never merged as text.
    let commented = format!("# by ann\n{}", file(&["web:1.0.0", "db:1.0.0"]));
    let main = fleet.person(&[(FILE, &commented)]);
    let row = fleet.only();
    assert_eq!(
        (row.number, row.state),
        (Some(number), RequestState::Updated)
    );
    assert_eq!(
        fleet.text(BRANCH, FILE),
        commented.replace("web:1.0.0", "web:1.2.0")
    );
    assert_eq!(fleet.get(number).base, "main");
    let parent = crate::servers::git::git(
        &fleet.world.clone,
        &["rev-parse", &format!("origin/{BRANCH}^")],
    );
    assert_eq!(String::from_utf8_lossy(&parent.stdout).trim(), main);
    fleet.quiet_pass();

    // A person commits the update: nothing is left to do, and the comment says so.
    fleet.person(&[(FILE, &file(&["web:1.2.0", "db:1.0.0"]))]);
    let row = fleet.only();
    assert_eq!(
        (row.number, row.state, row.waits.as_slice()),
        (
            Some(number),
            RequestState::Closed,
            &["web is 1.2.0 already.".to_owned()][..]
        )
    );
    let request = fleet.get(number);
    assert_eq!(
        (
            request.state,
            request.labels.contains(&"tagboat/superseded".to_owned())
        ),
        (RequestStatus::Closed, true)
    );
    assert_eq!(
        fleet.comments(number),
        ["<!-- tagboat:closed -->\nClosed by tagboat: web is 1.2.0 already."]
    );
    assert_eq!(fleet.head(BRANCH), None);
    assert!(fleet.quiet_pass().is_empty());
    // Its own close is no hold.
    fleet.person(&[(FILE, &file(&["web:1.1.0", "db:1.0.0"]))]);
    fleet.publish("web", &["1.3.0"]);
    let row = fleet.only();
    assert_eq!(
        (row.state, row.title.as_str()),
        (RequestState::Opened, "prod: web 1.1.0 → 1.3.0")
    );
    assert_ne!(row.number, Some(number));
    // The Environment is removed.
    fleet.person(&[(
        "policies/p.yaml",
        &(semver("web", "1.x", "") + &semver("db", "1.x", "")),
    )]);
    let report = fleet.pass();
    let rows = super::fleet::rows(&report);
    assert_eq!(
        (rows[0].state, rows[0].waits.as_slice()),
        (
            RequestState::Closed,
            &["Its Environment is no longer declared.".to_owned()][..]
        ),
        "{report:#?}"
    );
    assert_eq!((fleet.open(), fleet.head(BRANCH)), (vec![], None));
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn draft_requests_reviewers_once_and_is_merged() {
    let fleet = Fleet::bare("");
    let reviewers = format!("reviewers: [{}, nobody-here]", fleet.world.ann);
    let update = prod(&format!(
        "request: {{labels: [images], draft: true, {reviewers}, mergeMethod: squash}}, autoMerge: {{bump: [minor], requireChecks: false}}"
    ));
    fleet.person(&[
        ("policies/p.yaml", &(semver("web", "1.x", "") + &update)),
        (FILE, &file(&["web:1.0.0"])),
    ]);
    fleet.publish("web", &["1.0.0", "1.1.0"]);
    let report = fleet.pass();
    assert!(report.failures.is_empty(), "{report:#?}");
    let row = super::fleet::rows(&report).remove(0);
    let number = row.number.unwrap();
    // A reviewer who cannot be requested is reported once; the others are requested.
    assert!(
        report.warnings.len() == 1
            && report.warnings[0].contains("cannot request a review from nobody-here"),
        "{report:#?}"
    );
    let shown = fleet.runtime.block_on(fleet.world.ann(
        Method::GET,
        &format!("pulls/{number}"),
        json!(null),
    ));
    assert_eq!(
        (&shown["draft"], &shown["requested_reviewers"][0]["login"]),
        (&json!(true), &json!(fleet.world.ann)),
        "{shown}"
    );
    let row = fleet.quiet_pass().remove(0);
    assert_eq!(
        (row.state, row.waits.as_slice()),
        (
            RequestState::Open,
            &["The pull request is a draft.".to_owned()][..]
        )
    );
    // Ann marks it as ready: it merges as one commit.
    let title = shown["title"]
        .as_str()
        .unwrap()
        .trim_start_matches("WIP: ")
        .to_owned();
    fleet.ann(number, json!({"title": title}));
    fleet.settled(number);
    let row = fleet.only();
    assert_eq!(
        (row.number, row.state),
        (Some(number), RequestState::Merged),
        "{row:#?}"
    );
    assert_eq!(fleet.text("main", FILE), file(&["web:1.1.0"]));
    let parents = crate::servers::git::git(
        &fleet.world.clone,
        &["rev-list", "--parents", "-n1", "origin/main"],
    );
    assert_eq!(
        String::from_utf8_lossy(&parents.stdout)
            .split_whitespace()
            .count(),
        2,
        "one commit with one parent"
    );
    assert!(
        fleet.message("main").ends_with("Tagboat-Update: prod"),
        "{}",
        fleet.message("main")
    );
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn commit_of_a_person_is_never_overwritten() {
    let fleet = Fleet::new(
        "autoMerge: {bump: [minor, patch], requireChecks: false}, windows: [{cron: '0 0 1 1 *', duration: 1m}]",
    );
    let number = fleet.only().number.unwrap();
    let built = fleet.head(BRANCH).unwrap();
    let hers = fleet.meddle(&[("envs/prod/note.txt", "by ann\n")]);
    let row = fleet.only();
    assert_eq!(
        (row.number, row.state),
        (Some(number), RequestState::Stopped)
    );
    assert!(
        row.waits[0].contains(&format!("commit {} by Ann", &hers[..10])),
        "{:?}",
        row.waits
    );
    let comments = fleet.comments(number);
    assert!(
        comments.len() == 1
            && comments[0].contains(&hers[..10])
            && comments[0].contains("leaves this pull request as it is"),
        "{comments:?}"
    );
    // A newer tag, a change of the file, the end of the update or a new process do not change it,
    // and it is reported once.
    fleet.publish("web", &["1.2.0"]);
    fleet.quiet_pass();
    fleet.person(&[(
        FILE,
        &format!("# more\n{}", file(&["web:1.0.0", "db:1.0.0"])),
    )]);
    fleet.quiet_pass();
    fleet.person(&[(FILE, &file(&["web:1.2.0", "db:1.0.0"]))]);
    assert_eq!(seen(&fleet.quiet_pass()[0]).1, RequestState::Stopped);
    assert_eq!(
        (fleet.head(BRANCH).as_ref(), fleet.comments(number).len()),
        (Some(&hers), 1)
    );
    assert_eq!(fleet.get(number).state, RequestStatus::Open);
    // Without the person's commit, the bot goes on.
    fleet.publish("web", &["1.3.0"]);
    fleet.push(&["--force", &format!("{built}:refs/heads/{BRANCH}")]);
    let row = fleet.only();
    assert_eq!(
        (row.number, row.state, row.title.as_str()),
        (
            Some(number),
            RequestState::Updated,
            "prod: web 1.2.0 → 1.3.0"
        )
    );
    assert_eq!(fleet.text(BRANCH, FILE), file(&["web:1.3.0", "db:1.0.0"]));
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn request_closed_by_a_person_is_held() {
    let fleet = Fleet::new("");
    let number = fleet.only().number.unwrap();
    fleet.close(number);
    let report = fleet.pass();
    assert!(
        super::fleet::rows(&report).is_empty() && report.failures.is_empty(),
        "{report:#?}"
    );
    let web = report.environments[0]
        .policies
        .iter()
        .find(|policy| policy.name.to_string() == "default/web")
        .unwrap();
    let held = format!(
        "1.1.0: {} closed pull request #{number} (1.1.0) on ",
        fleet.world.ann
    );
    assert!(
        web.held.len() == 1 && web.held[0].starts_with(&held),
        "{:?}",
        web.held
    );
    assert!(fleet.quiet_pass().is_empty());
    assert!(
        fleet.head(BRANCH).is_some(),
        "who closed it may open it again"
    );
    // Reopened, it is as before.
    fleet.ann(number, json!({"state": "open"}));
    assert_eq!(
        seen(&fleet.quiet_pass()[0]),
        (
            Some(number),
            RequestState::Open,
            "It waits for a person to merge it: autoMerge is not declared.".to_owned()
        )
    );
    fleet.close(number);
    assert!(fleet.quiet_pass().is_empty());
    // A newer version comes in a new request.
    fleet.publish("web", &["1.2.0"]);
    let row = fleet.only();
    assert_eq!(
        (row.state, row.title.as_str()),
        (RequestState::Opened, "prod: web 1.0.0 → 1.2.0")
    );
    assert_ne!(row.number, Some(number));
    fleet.quiet_pass();
    // Closed, too; then a person commits it, which lifts the hold.
    fleet.close(row.number.unwrap());
    assert!(fleet.good_pass().is_empty());
    fleet.person(&[(FILE, &file(&["web:1.2.0", "db:1.0.0"]))]);
    fleet.publish("web", &["1.2.1"]);
    assert_eq!(fleet.only().title, "prod: web 1.2.0 → 1.2.1");
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn labels_hold_and_rebase_and_limits_apply() {
    let fleet = Fleet::new("group: policy, request: {maxOpen: 1, perHour: 2}");
    fleet.publish("db", &["1.1.0"]);
    let rows = fleet.good_pass();
    assert_eq!(
        rows.iter().map(|row| row.state).collect::<Vec<_>>(),
        [RequestState::Opened, RequestState::Waiting]
    );
    assert_eq!(
        rows[1].waits,
        ["Open pull requests: 1; request.maxOpen is 1."]
    );
    let (number, db) = (rows[0].number.unwrap(), rows[0].branch.clone());
    assert!(
        rows[0].title.contains("db") && fleet.head(&rows[1].branch).is_none(),
        "{rows:#?}"
    );
    fleet.quiet_pass();
    // A held request stays as it is.
    let built = fleet.head(&db).unwrap();
    fleet.label(number, "tagboat/hold");
    fleet.publish("db", &["1.2.0"]);
    assert_eq!(
        seen(&fleet.quiet_pass()[0]),
        (
            Some(number),
            RequestState::Waiting,
            "The label tagboat/hold is on it.".to_owned()
        )
    );
    assert_eq!(fleet.head(&db).as_ref(), Some(&built));
    fleet.unlabel(number, "tagboat/hold");
    assert_eq!(seen(&fleet.good_pass()[0]).1, RequestState::Updated);
    // With the label, it is rebuilt on the target's head, once.
    let main = fleet.person(&[("README", "more\n")]);
    fleet.label(number, "tagboat/rebase");
    assert_eq!(seen(&fleet.good_pass()[0]).1, RequestState::Updated);
    fleet.text(&db, FILE);
    let parent =
        crate::servers::git::git(&fleet.world.clone, &["rev-parse", &format!("origin/{db}^")]);
    assert_eq!(String::from_utf8_lossy(&parent.stdout).trim(), main);
    assert!(
        !fleet
            .get(number)
            .labels
            .contains(&"tagboat/rebase".to_owned())
    );
    fleet.quiet_pass();
    // One is closed, another may be opened; then two were opened within the hour.
    fleet.close(number);
    let rows = fleet.good_pass();
    assert_eq!(
        (rows.len(), rows[0].state),
        (1, RequestState::Opened),
        "{rows:#?}"
    );
    fleet.close(rows[0].number.unwrap());
    fleet.publish("web", &["1.5.0"]);
    let rows = fleet.quiet_pass();
    assert_eq!(
        rows[0].waits,
        ["Pull requests opened within an hour: 2; request.perHour is 2."]
    );
    assert!(rows[0].until.is_some());
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn auto_merge_when_its_check_turns_green() {
    let fleet = Fleet::new(
        "autoMerge: {bump: [minor], requireChecks: true}, request: {mergeMethod: squash}",
    );
    let number = fleet.only().number.unwrap();
    fleet.settled(number);
    let waits = |fleet: &Fleet| seen(&fleet.quiet_pass()[0]).2;
    assert_eq!(
        waits(&fleet),
        "No check has reported; autoMerge.requireChecks: false merges without checks."
    );
    fleet.check(number, StatusState::Pending);
    assert_eq!(waits(&fleet), "The check ci/test has not finished.");
    fleet.check(number, StatusState::Failure);
    assert_eq!(waits(&fleet), "The check ci/test failed.");
    fleet.check(number, StatusState::Success);
    // The list of checks is unknown: another one may start.
    let row = fleet.quiet_pass().remove(0);
    assert!(
        row.waits.join(" ").starts_with("Its checks finished at ") && row.until.is_some(),
        "{row:#?}"
    );
    let engine = fleet.engine("store");
    let later = Timestamp::now().checked_add(SETTLING).unwrap();
    let pass = |mode| {
        super::fleet::rows(&fleet.runtime.block_on(engine.updaters[0].pass(
            mode,
            &Rescan::All,
            later,
        )))
        .remove(0)
    };
    wait("Gitea to check the branch again", || {
        (pass(PassMode::Plan).state == RequestState::WouldMerge).then_some(())
    });
    let row = pass(PassMode::Write);
    assert_eq!(
        (row.number, row.state),
        (Some(number), RequestState::Merged)
    );
    drop(engine);
    assert_eq!(fleet.get(number).state, RequestStatus::Merged);
    assert_eq!(fleet.text("main", FILE), file(&["web:1.1.0", "db:1.0.0"]));
    let message = fleet.message("main");
    assert!(
        message.starts_with("prod: web 1.0.0 → 1.1.0")
            && message.contains("\nTagboat-Update: prod"),
        "{message}"
    );
    assert_eq!(fleet.head(BRANCH), None);
    assert!(fleet.quiet_pass().is_empty());
    // A step that may not merge automatically waits for people.
    fleet.publish("web", &["1.1.1"]);
    // Gitea may still process the deletion of the branch, and then closes the new request with it.
    wait("a request that stays", || {
        let row = fleet.only();
        fleet.check(row.number.unwrap(), StatusState::Success);
        (row.waits == ["web 1.1.0 → 1.1.1 is a patch step; autoMerge.bump allows minor only."])
            .then_some(())
    });
    // Reverted by a person, it is held.
    fleet.person(&[(FILE, &file(&["web:1.0.0", "db:1.0.0"]))]);
    let rows = fleet.good_pass();
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert!(
        rows[0].title.contains("1.1.1"),
        "1.1.0 was taken back, 1.1.1 is newer: {rows:#?}"
    );
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn groups_are_separate_and_rebuilt_after_a_merge() {
    let fleet = Fleet::new("group: policy, autoMerge: {bump: [minor], requireChecks: false}");
    fleet.publish("db", &["1.1.0"]);
    // Both are opened and merge when Gitea has checked them; each is rebuilt after the other.
    wait("both merges", || {
        fleet.good_pass();
        (fleet.text("main", FILE) == file(&["web:1.1.0", "db:1.1.0"])).then_some(())
    });
    let log = crate::servers::git::git(
        &fleet.world.clone,
        &["log", "--first-parent", "--format=%s", "origin/main"],
    );
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    assert_eq!(
        log.lines()
            .filter(|line| line.starts_with("prod: "))
            .count(),
        2,
        "{log}"
    );
    assert!(fleet.quiet_pass().is_empty());
    assert_eq!(fleet.open(), [0; 0]);
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn missing_facts_close_no_request() {
    let fleet = Fleet::new("");
    let number = fleet.only().number.unwrap();
    let whole = semver("web", "1.x", "") + &semver("db", "1.x", "") + &prod("");
    let declare = |text: &str| fleet.person(&[("policies/p.yaml", text)]);
    // The registry does not answer.
    fleet.publish("web", &["1.2.0"]);
    fleet.images.rule(|line| {
        if line.contains("/team/web/") {
            reply(403, &[], "")
        } else {
            Act::Pass
        }
    });
    fleet.gate.take();
    let report = fleet.pass();
    assert_eq!(
        (fleet.changing(), fleet.open()),
        (vec![], vec![number]),
        "{report:#?}"
    );
    let row = &super::fleet::rows(&report)[0];
    assert!(
        row.state == RequestState::Waiting && row.waits[0].contains("could not be read"),
        "{row:#?}"
    );
    fleet.images.open();
    // Suspended, or with an error beside it.
    for text in [
        whole.replace("  update:", "  suspend: true\n  update:"),
        whole.replace("kind: Environment", "kind: Environment\nwrong: yes"),
        whole.replace(
            "image: {host}/team/web\n",
            "image: {host}/team/web\n  suspend: true\n",
        ),
        // The age counts from now.
        whole.replace("range: '1.x'}}\n", "range: '1.x'}}\n  minimumAge: 72h\n"),
    ] {
        declare(&text);
        fleet.gate.take();
        let report = fleet.pass();
        assert_eq!(
            (fleet.changing(), fleet.open()),
            (vec![], vec![number]),
            "{text}\n{report:#?}"
        );
        assert!(
            super::fleet::rows(&report)
                .iter()
                .all(|row| row.state == RequestState::Waiting),
            "{text}\n{report:#?}"
        );
    }
    declare(&whole);
    assert_eq!(seen(&fleet.only()).1, RequestState::Updated);
    assert_eq!(fleet.quiet_pass()[0].number, Some(number));
    // Via commit, it is no longer needed.
    declare(&whole.replace("via: pullRequest", "via: commit"));
    let report = fleet.pass();
    assert_eq!((fleet.open(), report.pushed()), (vec![], 1), "{report:#?}");
    assert!(
        fleet
            .get(number)
            .labels
            .contains(&"tagboat/superseded".to_owned())
    );
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn forge_is_queried_once_per_request_and_pass() {
    let fleet = Fleet::new("group: policy");
    fleet.publish("db", &["1.1.0"]);
    // In two files: a merge of one leaves the other's branch as it is.
    fleet.person(&[
        (FILE, &file(&["web:1.0.0"])),
        ("envs/prod/db.yaml", &file(&["db:1.0.0"])),
    ]);
    let before = fleet.good_pass();
    let wait = "It waits for a person to merge it.";
    let numbers: Vec<u64> = before.iter().filter_map(|row| row.number).collect();
    assert!(
        numbers.len() == 2
            && numbers
                .iter()
                .all(|number| fleet.get(*number).body.contains(wait)),
        "{before:#?}"
    );
    // With autoMerge declared, only their bodies change.
    let heads: Vec<_> = before.iter().map(|row| fleet.head(&row.branch)).collect();
    let declared = semver("web", "1.x", "")
        + &semver("db", "1.x", "")
        + &prod("group: policy, autoMerge: {bump: [minor], requireChecks: [ci/test]}");
    fleet.person(&[("policies/p.yaml", &declared)]);
    let rows = fleet.good_pass();
    assert!(
        rows.iter().all(|row| row.state == RequestState::Updated),
        "{rows:#?}"
    );
    assert_eq!(
        rows.iter()
            .map(|row| fleet.head(&row.branch))
            .collect::<Vec<_>>(),
        heads
    );
    let texts: Vec<String> = numbers
        .iter()
        .map(|number| fleet.get(*number).body)
        .collect();
    assert!(
        texts
            .iter()
            .all(|text| !text.contains(wait) && text.contains("its check ci/test has passed")),
        "{texts:#?}"
    );
    fleet.quiet_pass();
    // The second one merges when Gitea has checked it, after which all are read again: the state of
    // the first is known.
    fleet.check(numbers[1], StatusState::Success);
    let (states, sent) = crate::it::update_support::wait("the merge", || {
        fleet.gate.take();
        let states: Vec<_> = fleet.good_pass().iter().map(|row| row.state).collect();
        (states[1] == RequestState::Merged).then(|| (states, fleet.gate.take()))
    });
    assert_eq!(states, [RequestState::Open, RequestState::Merged]);
    let first = format!("/statuses/{}", heads[0].as_ref().unwrap());
    assert_eq!(
        sent.iter().filter(|line| line.contains(&first)).count(),
        1,
        "{sent:#?}"
    );
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn merge_by_hand_is_no_revert() {
    for way in ["merge", "squash", "rebase"] {
        let fleet = Fleet::bare("");
        let stable = |salt: &str| {
            let image = SandboxImage {
                salt: salt.to_owned(),
                ..SandboxImage::default()
            };
            fleet
                .runtime
                .block_on(
                    fleet
                        .registry
                        .publish("team/web", &Tag::new("stable").unwrap(), &image),
                )
                .unwrap()
        };
        let pinned = |digest: &str| file(&[&format!("web:stable@{digest}")]);
        let (first, declared) = (
            stable("1"),
            semver("web", "", "").replace("semver: {range: ''}", "digest: {tag: stable}")
                + &prod(""),
        );
        fleet.person(&[
            ("policies/p.yaml", &declared),
            (FILE, &pinned(first.as_str())),
        ]);
        let second = stable("2");
        let number = fleet.only().number.unwrap();
        fleet.settled(number);
        let body = json!({"Do": way, "MergeTitleField": "I take it", "MergeMessageField": "in my own words"});
        let path = format!("repos/{}/pulls/{number}/merge", fleet.world.project);
        wait("Ann's merge", || {
            let ask = fleet.world.gitea.call(
                &fleet.world.ann_token,
                Method::POST,
                &path,
                Some(body.clone()),
            );
            fleet.runtime.block_on(ask).0.is_success().then_some(())
        });
        assert_eq!(fleet.text("main", FILE), pinned(second.as_str()), "{way}");
        // The tag goes back to its old image, which no one has refused.
        stable("1");
        let row = fleet.only();
        assert_eq!(row.state, RequestState::Opened, "{way}: {row:#?}");
        assert_eq!(fleet.text(BRANCH, FILE), pinned(first.as_str()), "{way}");
    }
}
