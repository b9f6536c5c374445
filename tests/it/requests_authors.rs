//! Pull requests of other accounts from the bot's branches, edited markers, and lost keys.

use super::{
    requests::{FILE, Reviewed, reviewed, states},
    update_support::{deployment, environment, hours, hours_ago, now, policy, semver},
};
use jiff::Timestamp;
use tagboat::{
    review::{Marker, ReleasedVersion},
    update::{PassMode, RequestState},
};

const BRANCH: &str = "tagboat/prod/all";

impl Reviewed {
    fn text_of(&self, number: usize) -> String {
        self.forge.requests()[number - 1].body.clone()
    }

    /// A person closes the bot's pull request; its branch stays, and another account opens a pull
    /// request from it with this text.
    fn taken_by_mallory(&self, text: &str) {
        self.pass(now());
        self.forge.close(1, "ann").unwrap();
        self.pass(hours(1));
        assert_eq!(
            self.forge.open("mallory", BRANCH, "main", "hers").unwrap(),
            2
        );
        self.forge.rewrite(2, text).unwrap();
    }

    /// Runs a command in a process of its own.
    fn run(&self, arguments: &[&str]) -> String {
        let assert = self.fleet.tagboat(arguments).assert().success();
        String::from_utf8_lossy(&assert.get_output().stdout).into_owned()
    }

    /// A person closes the bot's pull request, and then asks for its version.
    fn closed_and_released(&self) {
        self.pass(hours_ago(6));
        self.forge.close(1, "ann").unwrap();
        self.pass(hours_ago(5));
        self.forge.set_clock(None);
        let released = self.run(&["release", "prod", "default/web"]);
        assert!(released.contains("pull request #2"), "{released}");
    }

    /// The versions that are held in the Environment.
    fn held(&self, at: Timestamp) -> usize {
        let report = self.pass(at);
        policy(&report, "prod", "default/web").held.len()
    }

    fn lose_store(&self) {
        std::fs::remove_dir_all(self.fleet.dir.path().join("store")).unwrap();
    }
}

/// The bot's text with another version in its marker.
fn forged(text: &str, version: &str) -> String {
    let mut marker = Marker::read(text).unwrap().unwrap();
    marker.moves[0].new = version.parse().unwrap();
    marker.write(10_000, None)
}

#[test]
fn closed_request_of_a_stranger_holds_nothing() {
    let world = Reviewed::new("");
    world.pass(now());
    let text = forged(&world.text_of(1), "1.2.0");
    world.taken_by_mallory(&text);
    world.forge.close(2, "mallory").unwrap();
    world.fleet.publish("team/web", &["1.2.0"]);
    let engine = world.fleet.engine();
    let report = world.pass_of(&engine, PassMode::Write, hours(2));
    assert_eq!(
        (states(&report), world.open()),
        (vec![RequestState::Opened], vec![3]),
        "{report:#?}"
    );
    let warnings = report.warnings.join(" ");
    assert!(
        warnings.contains("request #2") && warnings.contains("mallory opened it"),
        "{warnings}"
    );
    let report = world.pass_of(&engine, PassMode::Write, hours(3));
    assert!(report.warnings.is_empty(), "{report:#?}");
}

#[test]
fn open_request_of_a_stranger_is_left_alone() {
    let world = Reviewed::new(
        "autoMerge: {bump: [minor], requireChecks: false}, windows: [{cron: '0 14 * * *', duration: 1h}]",
    );
    world.pass(now());
    // The whole text is a copy, signature included.
    let copy = world.text_of(1);
    world.taken_by_mallory(&copy);
    world.fleet.publish("team/web", &["1.2.0"]);
    let before = (
        world.forge.requests(),
        world.fleet.repository.branch(BRANCH).unwrap(),
    );
    for round in 2..6 {
        let report = world.pass(hours(round));
        let row = &environment(&report, "prod").requests[0];
        assert_eq!(row.state, RequestState::Waiting, "{report:#?}");
        assert!(
            row.waits[0].contains("#2, which mallory opened"),
            "{row:#?}"
        );
    }
    let after = (
        world.forge.requests(),
        world.fleet.repository.branch(BRANCH).unwrap(),
    );
    assert_eq!(after, before);
    assert_eq!(world.fleet.text(FILE), deployment(&["web:1.0.0"]));
    world.forge.close(2, "ann").unwrap();
    assert_eq!(
        (states(&world.pass(hours(26))), world.open()),
        (vec![RequestState::Merged], vec![])
    );
    assert_eq!(world.fleet.text(FILE), deployment(&["web:1.2.0"]));
}

#[test]
fn edited_marker_releases_no_held_version() {
    let declared =
        semver("web", "1.x", "") + &semver("api", "1.x", "") + &reviewed("prod", "group: policy");
    let world = Reviewed::of(&[
        ("p.yaml", &declared),
        (FILE, &deployment(&["web:1.0.0", "api:1.0.0"])),
    ]);
    world.fleet.publish("team/api", &["1.0.0", "1.1.0"]);
    world.pass(now());
    let of = |name: &str| {
        let requests = world.forge.requests();
        let found = requests.iter().find(|request| request.head.contains(name));
        found.unwrap().number
    };
    world.forge.close(of("web"), "ann").unwrap();
    world.pass(hours(1));
    let api = of("api");
    let mut marker = Marker::read(&world.text_of(usize::try_from(api).unwrap()))
        .unwrap()
        .unwrap();
    marker.released.push(ReleasedVersion {
        policy: "default/web".parse().unwrap(),
        version: "1.1.0".to_owned(),
    });
    world
        .forge
        .rewrite(api, &marker.write(10_000, None))
        .unwrap();
    let report = world.pass(hours(2));
    let held = &policy(&report, "prod", "default/web").held;
    assert_eq!((held.len(), world.open()), (1, vec![api]), "{report:#?}");
}

#[test]
fn lost_store_keeps_requests_and_holds() {
    let world = Reviewed::new("");
    world.pass(now());
    world.lose_store();
    let before = world.forge.requests();
    for round in 1..3 {
        assert_eq!(states(&world.pass(hours(round))), [RequestState::Open]);
    }
    assert_eq!(world.forge.requests(), before);
    world.forge.close(1, "ann").unwrap();
    world.pass(hours(3));
    world.lose_store();
    let report = world.pass(hours(4));
    let held = &policy(&report, "prod", "default/web").held;
    assert_eq!((held.len(), world.open()), (1, vec![]), "{report:#?}");
}

#[test]
fn changed_account_keeps_its_signed_requests() {
    let world = Reviewed::new("");
    world.pass(now());
    world.forge.set_account(Some("successor"));
    assert_eq!(states(&world.pass(hours(1))), [RequestState::Open]);
    world.forge.close(1, "ann").unwrap();
    let report = world.pass(hours(2));
    let held = &policy(&report, "prod", "default/web").held;
    assert_eq!(held.len(), 1, "{report:#?}");
}

#[test]
fn untold_account_is_learned_by_opening() {
    let world = Reviewed::new("");
    world.forge.set_account(None);
    let engine = world.fleet.engine();
    let pass = |at| world.pass_of(&engine, PassMode::Write, at);
    pass(now());
    let text = forged(&world.text_of(1), "1.2.0");
    world.forge.close(1, "ann").unwrap();
    world.forge.open("mallory", BRANCH, "main", "hers").unwrap();
    world.forge.rewrite(2, &text).unwrap();
    world.forge.close(2, "mallory").unwrap();
    world.fleet.publish("team/web", &["1.2.0"]);
    pass(hours(1));
    assert_eq!(world.open(), [3]);
    // The next text is signed for the account that was learned.
    world.fleet.publish("team/web", &["1.3.0"]);
    pass(hours(2));
    assert!(world.text_of(3).contains("hmac-sha256:"));
}

#[test]
fn unsigned_hold_outlives_a_changed_account() {
    let world = Reviewed::new("");
    world.pass(now());
    // As an earlier version wrote it.
    let marker = Marker::read(&world.text_of(1)).unwrap().unwrap();
    world.forge.rewrite(1, &marker.write(10_000, None)).unwrap();
    world.forge.close(1, "ann").unwrap();
    assert_eq!(world.held(hours(1)), 1);
    world.forge.set_account(Some("successor"));
    for round in 2..5 {
        assert_eq!(world.held(hours(round)), 1);
        assert_eq!(world.open(), Vec::<u64>::new());
    }
    // What people write there later takes nothing back either.
    for text in ["", "<!-- tagboat:request {"] {
        world.forge.rewrite(1, text).unwrap();
        assert_eq!(world.held(hours(6)), 1, "{text}");
    }
}

#[test]
fn deleted_account_keeps_its_holds() {
    for is_kept in [true, false] {
        let world = Reviewed::new("");
        world.pass(now());
        world.forge.close(1, "ann").unwrap();
        assert_eq!(world.held(hours(1)), 1);
        world.forge.reassign(1, "ghost").unwrap();
        world.forge.set_account(Some("successor"));
        if !is_kept {
            world.lose_store();
        }
        for round in 2..4 {
            assert_eq!(world.held(hours(round)), 1, "store kept: {is_kept}");
        }
    }
}

#[test]
fn release_by_an_untold_account_stays() {
    let world = Reviewed::new("");
    world.forge.set_account(None);
    world.closed_and_released();
    assert!(world.text_of(2).contains("hmac-sha256:"));
    for _ in 0..3 {
        let report = world.pass(Timestamp::now());
        assert_eq!(world.open(), [2], "{report:#?}");
    }
    assert_eq!(world.run(&["holds"]), "nothing is held\n");
}

#[test]
fn copied_release_lifts_no_hold() {
    let world = Reviewed::new("");
    world.closed_and_released();
    let text = world.text_of(2);
    world.forge.close(2, "ann").unwrap();
    world.fleet.publish("team/web", &["1.2.0"]);
    world.pass(Timestamp::now());
    assert_eq!(world.open(), [3]);
    let held = world.run(&["holds"]);
    assert!(held.contains("ann closed pull request #2"), "{held}");
    // The branch is the same, and the line is signed.
    world.forge.set_clock(None);
    world.forge.rewrite(3, &text).unwrap();
    assert_eq!(world.run(&["holds"]), held);
}

#[test]
fn stranger_is_found_once_the_account_is_known() {
    let world = Reviewed::new("");
    world.pass(now());
    let text = forged(&world.text_of(1), "1.2.0");
    world.forge.close(1, "ann").unwrap();
    world.forge.open("mallory", BRANCH, "main", "hers").unwrap();
    world.forge.rewrite(2, &text).unwrap();
    world.forge.close(2, "ann").unwrap();
    world.forge.set_account(None);
    world.fleet.publish("team/web", &["1.2.0"]);
    let engine = world.fleet.engine();
    let mut warnings = Vec::new();
    let mut held = |at| {
        let report = world.pass_of(&engine, PassMode::Write, at);
        warnings.extend(report.warnings.clone());
        policy(&report, "prod", "default/web").held.len()
    };
    // Until then it can only make tagboat wait.
    assert_eq!((held(hours(1)), world.open()), (2, vec![]));
    world.fleet.publish("team/web", &["1.3.0"]);
    held(hours(2));
    assert_eq!(world.open(), [3]);
    assert_eq!(held(hours(3)), 1);
    assert_eq!(held(hours(4)), 1);
    for said in ["which account the token belongs to", "mallory opened it"] {
        let told = warnings.iter().filter(|warning| warning.contains(said));
        assert_eq!(told.count(), 1, "{warnings:#?}");
    }
}
