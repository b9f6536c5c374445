//! A base that requires up-to-date branches, and merges that the forge refuses.

use super::fleet::{BRANCH, FILE, Fleet, rows, seen};
use crate::{
    it::update_support::{deployment, wait},
    servers::git::{Program, git},
};
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use tagboat::{
    io::forge::StatusState,
    service::engine::Engine,
    update::{PassMode, RequestState, Rescan},
};

impl Fleet {
    fn admin(&self, method: Method, path: &str, body: Value) {
        self.runtime.block_on(self.world.admin(method, path, body));
    }

    fn protect_main(&self, more: &Value) {
        let mut body = json!({"rule_name": "main", "enable_push": true});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.admin(Method::POST, "branch_protections", body);
    }

    /// Waits until Gitea reports a request's branch as behind, which it computes some time after
    /// the push.
    fn counted_behind(&self, number: u64) {
        let body =
            json!({"Do": "merge", "head_commit_id": "0000000000000000000000000000000000000000"});
        let path = format!("repos/{}/pulls/{number}/merge", self.world.project);
        wait("Gitea counts the commits behind", || {
            let ask = self.world.gitea.call(
                &self.world.ann_token,
                Method::POST,
                &path,
                Some(body.clone()),
            );
            let (status, answer) = self.runtime.block_on(ask);
            (status.as_u16() == 405 && answer["message"].as_str().unwrap().contains("behind"))
                .then_some(())
        });
    }

    /// The parent of the bot's branch.
    fn base_of_branch(&self) -> String {
        git(&self.world.clone, &["fetch", "-q", "--prune", "origin"]).ok();
        git(
            &self.world.clone,
            &["rev-parse", &format!("origin/{BRANCH}^")],
        )
        .text()
    }

    /// The merges requested since the last call.
    fn merges(&self) -> usize {
        self.changing()
            .iter()
            .filter(|line| line.starts_with("POST ") && line.contains("/merge"))
            .count()
    }
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn behind_refused_merge_rebuilds_the_branch() {
    let fleet = Fleet::new("autoMerge: {bump: [minor], requireChecks: true}");
    fleet.protect_main(&json!({"enable_status_check": true, "status_check_contexts": ["ci/test"], "block_on_outdated_branch": true}));
    let number = fleet.only().number.unwrap();
    fleet.settled(number);
    fleet.check(number, StatusState::Success);
    // The file is outside of the request. The bot may write, but not read the branch protection.
    let main = fleet.person(&[("README", "more\n")]);
    fleet.counted_behind(number);
    fleet.gate.take();
    // Gitea may still be checking the push; meanwhile no merge is sent.
    let until = |state: RequestState| {
        wait("Gitea to check the push", || {
            (fleet.only().state == state).then_some(())
        })
    };
    until(RequestState::Updated);
    assert!(fleet.merges() > 0, "the refusal reveals it");
    assert_eq!(fleet.base_of_branch(), main);
    fleet.settled(number);
    assert_eq!(
        seen(&fleet.quiet_pass()[0]).2,
        "The check ci/test has not finished."
    );
    fleet.check(number, StatusState::Success);
    until(RequestState::Merged);
    assert_eq!(
        fleet.text("main", FILE),
        deployment(&["web:1.1.0", "db:1.0.0"])
    );
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn behind_protected_base_rebuilds_all_branches() {
    let fleet = Fleet::new("");
    let admin = json!({"permission": "admin"});
    fleet.admin(
        Method::PUT,
        &format!("collaborators/{}", fleet.world.bot),
        admin,
    );
    let number = fleet.only().number.unwrap();
    let first = fleet.head(BRANCH);
    // No rule requires a rebuild: the branch stays on its commit.
    fleet.person(&[("README", "more\n")]);
    fleet.settled(number);
    fleet.quiet_pass();
    assert_eq!(fleet.head(BRANCH), first);
    fleet.protect_main(&json!({"block_on_outdated_branch": true}));
    let main = fleet.person(&[("README", "and more\n")]);
    fleet.gate.take();
    let row = fleet.only();
    assert_eq!(
        (row.number, row.state),
        (Some(number), RequestState::Updated),
        "{row:#?}"
    );
    assert_eq!((fleet.merges(), fleet.base_of_branch()), (0, main));
    fleet.settled(number);
    fleet.gate.take();
    let engine = fleet.engine("store");
    let pass = |later: i64| {
        let now = Timestamp::now()
            .checked_add(SignedDuration::from_mins(later))
            .unwrap();
        let report =
            fleet
                .runtime
                .block_on(engine.updaters[0].pass(PassMode::Write, &Rescan::All, now));
        assert!(report.failures.is_empty(), "{report:#?}");
        seen(&rows(&report)[0]).1
    };
    assert_eq!(pass(0), RequestState::Open);
    let sent = fleet.gate.take();
    assert!(
        !sent
            .iter()
            .any(|line| line.contains("/branches/") || line.contains("protections")),
        "nothing is behind: {sent:#?}"
    );
    // A rebuild runs the checks and dismisses approvals again, so it does not follow every commit
    // of a busy base.
    let moved = fleet.person(&[("README", "and more\nand more\n")]);
    assert_eq!(
        (pass(0), fleet.base_of_branch()),
        (RequestState::Updated, moved.clone()),
        "the first of this process"
    );
    fleet.person(&[("README", "and\n")]);
    assert_eq!(
        (pass(1), fleet.base_of_branch()),
        (RequestState::Open, moved)
    );
    let last = fleet.person(&[("README", "at last\n")]);
    assert_eq!(
        (pass(62), fleet.base_of_branch()),
        (RequestState::Updated, last)
    );
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn behind_requests_rebuild_and_merge_in_turn() {
    let fleet = Fleet::new("group: policy, autoMerge: {bump: [minor], requireChecks: [ci/test]}");
    let admin = json!({"permission": "admin"});
    fleet.admin(
        Method::PUT,
        &format!("collaborators/{}", fleet.world.bot),
        admin,
    );
    fleet.protect_main(&json!({"block_on_outdated_branch": true}));
    fleet.publish("db", &["1.1.0"]);
    let engine = fleet.engine("store");
    let pass = || {
        let report = fleet.pass_of(&engine, PassMode::Write);
        assert!(report.failures.is_empty(), "{report:#?}");
        rows(&report)
    };
    let numbers: Vec<u64> = pass().iter().filter_map(|row| row.number).collect();
    assert_eq!(numbers.len(), 2);
    let main = fleet.person(&[("README", "more\n")]);
    let looked = |number: u64| drop(fleet.runtime.block_on(fleet.world.looked_at(number)));
    numbers.iter().for_each(|number| looked(*number));
    numbers
        .iter()
        .for_each(|number| fleet.check(*number, StatusState::Success));
    let parents = || {
        git(&fleet.world.clone, &["fetch", "-q", "--prune", "origin"]).ok();
        let branches = git(
            &fleet.world.clone,
            &[
                "for-each-ref",
                "--format=%(refname)",
                "refs/remotes/origin/tagboat",
            ],
        )
        .text();
        branches
            .lines()
            .map(|branch| git(&fleet.world.clone, &["rev-parse", &format!("{branch}^")]).text())
            .collect::<Vec<_>>()
    };
    // Both are ready and both are behind: one is rebuilt, and the other one waits for it.
    let states = wait("the rebuild of one", || {
        let rows = pass();
        rows.iter()
            .any(|row| row.state == RequestState::Updated)
            .then_some(rows)
    });
    let front = states
        .iter()
        .find(|row| row.state == RequestState::Updated)
        .and_then(|row| row.number)
        .unwrap();
    looked(front);
    for _ in 0..2 {
        let rows = pass();
        let other = rows.iter().find(|row| row.number != Some(front)).unwrap();
        assert!(
            other
                .waits
                .join(" ")
                .contains(&format!("waits for pull request {front}")),
            "{rows:#?}"
        );
        assert_eq!(
            parents().iter().filter(|parent| **parent == main).count(),
            1
        );
    }
    fleet.check(front, StatusState::Success);
    let other = numbers.into_iter().find(|number| *number != front).unwrap();
    wait("the merge, and the rebuild of the other one", || {
        let rows = pass();
        rows.iter()
            .any(|row| row.number == Some(other) && row.state == RequestState::Updated)
            .then_some(())
    });
    looked(other);
    fleet.check(other, StatusState::Success);
    wait("both merges", || {
        pass();
        fleet.open().is_empty().then_some(())
    });
    assert_eq!(
        fleet.text("main", FILE),
        deployment(&["web:1.1.0", "db:1.1.0"])
    );
}

#[test]
#[ignore = "needs Gitea: run tests/run forge"]
fn refused_merge_is_retried_after_a_change() {
    let fleet = Fleet::new("autoMerge: {bump: [minor], requireChecks: false}");
    fleet.protect_main(
        &json!({"enable_merge_whitelist": true, "merge_whitelist_usernames": [fleet.world.ann]}),
    );
    let number = fleet.only().number.unwrap();
    fleet.settled(number);
    let engine = fleet.engine("store");
    let pass = |engine: &Engine, mode: PassMode, later: SignedDuration| {
        fleet.gate.take();
        let now = Timestamp::now().checked_add(later).unwrap();
        let report = fleet
            .runtime
            .block_on(engine.updaters[0].pass(mode, &Rescan::All, now));
        assert!(report.failures.is_empty(), "{report:#?}");
        let row = rows(&report).remove(0);
        (fleet.merges(), row)
    };
    let now = SignedDuration::ZERO;
    let reason =
        "The forge did not merge it: it cannot be merged now: \"User not allowed to merge PR\".";
    // Gitea checks a push more than once, during which it has no answer.
    wait("the refusal", || {
        (seen(&pass(&engine, PassMode::Write, now).1).2 == reason).then_some(())
    });
    let row = wait("the next refusal", || {
        let (sent, row) = pass(&engine, PassMode::Write, now);
        assert_eq!((sent, row.state), (0, RequestState::Open), "{row:#?}");
        (seen(&row).2 == reason).then_some(row)
    });
    assert!(
        row.until.is_some_and(|until| until > Timestamp::now()),
        "a daemon retries by itself: {row:#?}"
    );
    let (sent, row) = pass(&engine, PassMode::Plan, now);
    assert_eq!(
        (sent, row.state),
        (0, RequestState::Open),
        "nothing would be merged"
    );
    let again = |what: &str, later: SignedDuration| {
        wait(what, || {
            (pass(&engine, PassMode::Write, later).0 > 0).then_some(())
        });
        assert_eq!(pass(&engine, PassMode::Write, later).0, 0, "{what}");
    };
    fleet.check(number, StatusState::Success);
    again("the forge says something else", now);
    fleet.person(&[("README", "more\n")]);
    again("the base moves", now);
    again("it has rested", SignedDuration::from_mins(61));
    // The obstacle is removed; no event reports it.
    fleet.admin(
        Method::PATCH,
        "branch_protections/main",
        json!({"enable_merge_whitelist": false}),
    );
    wait("the merge", || {
        (pass(&engine, PassMode::Write, SignedDuration::from_mins(123))
            .1
            .state
            == RequestState::Merged)
            .then_some(())
    });
}
