//! Holds after reverts, by whole passes over real histories.

use super::update_support::{Fleet, deployment, env, environment, hours, now, policy, semver};
use jiff::Timestamp;
use tagboat::{
    sandbox::registry::SandboxImage,
    update::{EnvironmentState, PassReport},
};

const FILE: &str = "envs/dev/a.yaml";

fn fleet(declared: &str, image: &str) -> Fleet {
    Fleet::new(&[
        (
            "p.yaml",
            &(declared.to_owned() + &env("dev", "") + &env("prod", "")),
        ),
        (FILE, &deployment(&[image])),
    ])
}

fn state(report: &PassReport) -> EnvironmentState {
    assert!(report.failures.is_empty(), "{report:#?}");
    environment(report, "dev").state
}

/// A fleet that was updated from 1.0.0 to 1.1.0 and then reverted by a person.
fn reverted() -> Fleet {
    reverted_at(now())
}

fn reverted_at(time: Timestamp) -> Fleet {
    let fleet = fleet(&semver("web", "1.x", ""), "web:1.0.0");
    fleet.publish("team/web", &["1.0.0", "1.0.5", "1.1.0"]);
    assert_eq!(state(&fleet.pass(now())), EnvironmentState::Committed);
    fleet.person_at(
        time,
        &[(FILE, &deployment(&["web:1.0.0"]))],
        "Revert \"dev: web 1.0.0 → 1.1.0\"",
    );
    fleet
}

#[test]
fn revert_holds_until_a_newer_version() {
    let fleet = reverted();
    for n in 0..2 {
        let report = fleet.pass(hours(n));
        assert_eq!(state(&report), EnvironmentState::UpToDate);
        let row = policy(&report, "dev", "default/web");
        assert!(
            row.held.len() == 1
                && row.held[0].starts_with("1.1.0: Ann went back from 1.1.0 to 1.0.0 in "),
            "{row:#?}"
        );
        assert!(
            row.refused
                .iter()
                .any(|refused| refused.tag == "1.1.0" && refused.reason.contains("Ann")),
            "{row:#?}"
        );
    }
    // 1.0.5 was known before the revert, so it is held, too. A version that appears between does
    // not lift the hold, one beyond does.
    fleet.publish("team/web", &["1.0.6"]);
    let report = fleet.pass(hours(3));
    assert!(
        state(&report) == EnvironmentState::Committed
            && policy(&report, "dev", "default/web").held.len() == 1,
        "{report:#?}"
    );
    assert_eq!(fleet.text(FILE), deployment(&["web:1.0.6"]));
    fleet.publish("team/web", &["1.1.1"]);
    assert_eq!(state(&fleet.pass(hours(4))), EnvironmentState::Committed);
    assert_eq!(fleet.text(FILE), deployment(&["web:1.1.1"]));
    fleet.publish("team/web", &["1.2.0"]);
    let report = fleet.pass(hours(5));
    assert!(
        state(&report) == EnvironmentState::Committed
            && policy(&report, "dev", "default/web").held.is_empty(),
        "{report:#?}"
    );
}

#[test]
fn merged_revert_holds_like_the_revert() {
    let fleet = fleet(&semver("web", "1.x", ""), "web:1.0.0");
    fleet.publish("team/web", &["1.0.0", "1.1.0"]);
    fleet.good_pass_but_findings(now());
    fleet.merge(
        &[(FILE, &deployment(&["web:1.0.0"]))],
        "Merge branch 'back'",
    );
    assert_eq!(state(&fleet.pass(hours(1))), EnvironmentState::UpToDate);
    assert_eq!(fleet.text(FILE), deployment(&["web:1.0.0"]));
}

#[test]
fn downgrade_by_the_bot_is_no_hold() {
    let fleet = fleet(&semver("web", "1.x", ""), "web:1.0.0");
    fleet.publish("team/web", &["1.0.0", "1.1.0"]);
    fleet.good_pass_but_findings(now());
    // As `allowDowngrade` would have written it.
    fleet.person(
        &[(FILE, &deployment(&["web:1.0.0"]))],
        "dev: web 1.1.0 → 1.0.0\n\nTagboat-Update: dev",
    );
    assert_eq!(state(&fleet.pass(hours(1))), EnvironmentState::Committed);
    assert_eq!(fleet.text(FILE), deployment(&["web:1.1.0"]));
}

#[test]
fn hold_applies_to_one_environment() {
    let fleet = reverted();
    fleet.person(&[("envs/prod/a.yaml", &deployment(&["web:1.0.0"]))], "prod");
    let report = fleet.pass(hours(1));
    assert_eq!(
        (state(&report), environment(&report, "prod").state),
        (EnvironmentState::UpToDate, EnvironmentState::Committed)
    );
}

#[test]
fn reapplying_by_hand_lifts_the_hold() {
    let fleet = reverted();
    fleet.person(&[(FILE, &deployment(&["web:1.1.0"]))], "again");
    fleet.person(&[(FILE, &deployment(&["web:1.1.0", "db:1"]))], "more");
    let report = fleet.pass(hours(1));
    assert_eq!(
        (
            state(&report),
            policy(&report, "dev", "default/web").held.len()
        ),
        (EnvironmentState::UpToDate, 0)
    );
}

#[test]
fn release_writes_the_held_version_once() {
    let fleet = reverted_at(Timestamp::now());
    let out = |arguments: &[&str], code: i32| {
        let assert = fleet.tagboat(arguments).assert().code(code);
        String::from_utf8(assert.get_output().stdout.clone()).unwrap()
    };
    let holds = out(&["holds"], 0);
    assert!(
        holds.contains("default/web") && holds.contains("1.1.0") && holds.contains("Ann"),
        "{holds}"
    );
    let explained = out(&["explain", "default:web"], 0);
    assert!(
        explained.contains("held      1.1.0: Ann went back"),
        "{explained}"
    );
    fleet
        .tagboat(&["release", "prod", "default/web"])
        .assert()
        .code(2);
    fleet
        .tagboat(&["release", "nowhere", "default/web"])
        .assert()
        .code(2);
    let released = out(&["release", "dev", "default/web"], 0);
    assert!(
        released.starts_with("dev: default/web is back at 1.1.0 in "),
        "{released}"
    );
    assert_eq!(fleet.text(FILE), deployment(&["web:1.1.0"]));
    let last = fleet.log().pop().unwrap();
    assert!(
        last.message.contains("the hold of 1.1.0 is lifted")
            && last.message.contains("\nTagboat-Update: dev\n"),
        "{last:?}"
    );
    assert_eq!(
        out(&["release", "dev", "default/web"], 0),
        "default/web holds nothing in dev\n"
    );
    assert_eq!(fleet.log().len(), 4);
    fleet.tagboat(&["run", "--once"]).assert().code(0);
    assert_eq!(fleet.log().len(), 4);
}

/// A release waits for the window, and carries the person's name and words.
#[test]
fn release_outside_the_window_needs_now() {
    let declared = semver("web", "1.x", "")
        + &env("dev", "windows: [{cron: '0 0 30 2 *', duration: 1h}]")
        + &env("prod", "");
    let fleet = Fleet::new(&[("p.yaml", &declared), (FILE, &deployment(&["web:1.1.0"]))]);
    fleet.publish("team/web", &["1.0.0", "1.1.0"]);
    fleet.person_at(
        Timestamp::now(),
        &[(FILE, &deployment(&["web:1.0.0"]))],
        "back",
    );
    let refused = fleet
        .tagboat(&["release", "dev", "default/web"])
        .assert()
        .code(2);
    let text = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(
        text.contains("the window of Environment dev is closed") && text.contains("--now"),
        "{text}"
    );
    assert_eq!(fleet.text(FILE), deployment(&["web:1.0.0"]));
    fleet
        .tagboat(&[
            "release",
            "dev",
            "default/web",
            "--now",
            "-m",
            "INC-7 is over",
        ])
        .env("GIT_AUTHOR_NAME", "Bea")
        .env("GIT_AUTHOR_EMAIL", "bea@example.org")
        .assert()
        .code(0);
    assert_eq!(fleet.text(FILE), deployment(&["web:1.1.0"]));
    let last = fleet.log().pop().unwrap();
    assert_eq!(last.author, "Bea");
    assert!(
        last.message
            .contains("\n\nINC-7 is over\n\nReleased by hand: the hold of 1.1.0 is lifted.\n")
            && last.message.contains("\nTagboat-Update: dev\n"),
        "{last:?}"
    );
}

/// `release` refuses a version that the policy would not choose without the hold.
#[test]
fn release_refuses_what_the_policy_refuses() {
    let fleet = reverted_at(Timestamp::now());
    let declared =
        semver("web", "1.x", "  ignoreTags: ['1.1.0']\n") + &env("dev", "") + &env("prod", "");
    fleet.person_at(Timestamp::now(), &[("p.yaml", &declared)], "ignore it");
    let refused = fleet
        .tagboat(&["release", "dev", "default/web"])
        .assert()
        .code(2);
    let text = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(
        text.contains(
            "cannot release 1.1.0: default/web refuses it, because it is listed in ignoreTags"
        ),
        "{text}"
    );
    assert_eq!(fleet.text(FILE), deployment(&["web:1.0.0"]));
}

#[test]
fn release_refuses_files_of_two_environments() {
    let fleet = reverted_at(Timestamp::now());
    let other = env("x", "").replace("envs/x/**", "envs/dev/*");
    fleet.person_at(Timestamp::now(), &[("x.yaml", &other)], "overlap");
    fleet
        .tagboat(&["release", "dev", "default/web"])
        .assert()
        .code(2);
    assert_eq!(fleet.text(FILE), deployment(&["web:1.0.0"]));
}

#[test]
fn old_revert_is_no_hold() {
    let fleet = reverted();
    assert_eq!(
        state(&fleet.pass(hours(179 * 24))),
        EnvironmentState::UpToDate
    );
    assert_eq!(
        state(&fleet.pass(hours(181 * 24))),
        EnvironmentState::Committed
    );
}

fn one(choice: &str, extra: &str) -> String {
    format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {{name: web}}\nspec:\n  image: {{host}}/team/web\n  policy: {{{choice}}}\n{extra}---\n"
    )
}

#[test]
fn newest_revert_holds_the_exact_value() {
    let fleet = fleet(&one("newest: {}", ""), "web:a");
    let at = |tag: &str, date: &str| {
        fleet.image(
            "team/web",
            tag,
            &SandboxImage {
                created: Some(date.parse().unwrap()),
                salt: tag.into(),
                ..SandboxImage::default()
            },
        );
    };
    at("a", "2026-01-01T00:00:00Z");
    at("b", "2026-02-01T00:00:00Z");
    fleet.good_pass_but_findings(now());
    assert_eq!(fleet.text(FILE), deployment(&["web:b"]));
    fleet.person(&[(FILE, &deployment(&["web:a"]))], "back");
    assert_eq!(state(&fleet.pass(hours(1))), EnvironmentState::UpToDate);
    assert_eq!(fleet.text(FILE), deployment(&["web:a"]));
    at("c", "2026-03-01T00:00:00Z");
    assert_eq!(state(&fleet.pass(hours(2))), EnvironmentState::Committed);
    assert_eq!(fleet.text(FILE), deployment(&["web:c"]));
}

#[test]
fn newest_waits_for_minimum_age() {
    let fleet = fleet(&one("newest: {}", "  minimumAge: 72h\n"), "web:b");
    let at = |tag: &str, date: &str| {
        fleet.image(
            "team/web",
            tag,
            &SandboxImage {
                created: Some(date.parse().unwrap()),
                salt: tag.into(),
                ..SandboxImage::default()
            },
        );
    };
    at("a", "2026-01-01T00:00:00Z");
    at("b", "2026-02-01T00:00:00Z");
    at("c", "2026-03-01T00:00:00Z");
    let report = fleet.pass(now());
    assert_eq!(
        (state(&report), fleet.text(FILE)),
        (EnvironmentState::UpToDate, deployment(&["web:b"])),
        "{report:#?}"
    );
    assert_eq!(
        policy(&report, "dev", "default/web").free_at,
        Some(hours(72))
    );
    assert_eq!(state(&fleet.pass(hours(71))), EnvironmentState::UpToDate);
    assert_eq!(state(&fleet.pass(hours(72))), EnvironmentState::Committed);
    assert_eq!(fleet.text(FILE), deployment(&["web:c"]));
}

#[test]
fn newest_never_selects_an_older_image() {
    // The person's own choice is too young for the policy, which would select the one before it.
    let fleet = fleet(&one("newest: {}", "  minimumAge: 72h\n"), "web:a");
    let at = |tag: &str, date: &str| {
        fleet.image(
            "team/web",
            tag,
            &SandboxImage {
                created: Some(date.parse().unwrap()),
                salt: tag.into(),
                ..SandboxImage::default()
            },
        );
    };
    at("a", "2026-01-01T00:00:00Z");
    at("b", "2026-02-01T00:00:00Z");
    fleet.pass(now());
    at("c", "2026-03-01T00:00:00Z");
    fleet.person(&[(FILE, &deployment(&["web:c"]))], "take c at once");
    let report = fleet.pass(hours(80));
    assert_eq!(
        (state(&report), fleet.text(FILE)),
        (EnvironmentState::UpToDate, deployment(&["web:c"])),
        "{report:#?}"
    );
    assert_eq!(report.environments[0].left[0].code, "downgrade");
    assert_eq!(state(&fleet.pass(hours(160))), EnvironmentState::UpToDate);
    at("d", "2026-04-01T00:00:00Z");
    fleet.pass(hours(161));
    assert_eq!(state(&fleet.pass(hours(240))), EnvironmentState::Committed);
    assert_eq!(fleet.text(FILE), deployment(&["web:d"]));
}

#[test]
fn release_of_a_held_digest_writes_it() {
    let fleet = fleet(&one("digest: {tag: stable}", ""), "web:stable");
    let publish = |salt: &str| {
        fleet.image(
            "team/web",
            "stable",
            &SandboxImage {
                salt: salt.into(),
                ..SandboxImage::default()
            },
        )
    };
    let first = publish("1");
    fleet.good_pass_but_findings(now());
    let second = publish("2");
    fleet.good_pass_but_findings(hours(1));
    fleet.person_at(
        Timestamp::now(),
        &[(FILE, &deployment(&[&format!("web:stable@{first}")]))],
        "back",
    );
    let output = fleet
        .tagboat(&["release", "dev", "default/web"])
        .assert()
        .code(0)
        .get_output()
        .stdout
        .clone();
    assert!(String::from_utf8(output).unwrap().contains(second.as_str()));
    assert_eq!(
        fleet.text(FILE),
        deployment(&[&format!("web:stable@{second}")])
    );
    fleet
        .tagboat(&["release", "dev", "default/web"])
        .assert()
        .code(0)
        .stdout("default/web holds nothing in dev\n");
}

#[test]
fn digest_revert_holds_the_exact_digest() {
    let fleet = fleet(&one("digest: {tag: stable}", ""), "web:stable");
    let publish = |salt: &str| {
        fleet.image(
            "team/web",
            "stable",
            &SandboxImage {
                salt: salt.into(),
                ..SandboxImage::default()
            },
        )
    };
    let first = publish("1");
    fleet.good_pass_but_findings(now());
    publish("2");
    fleet.good_pass_but_findings(hours(1));
    let back = deployment(&[&format!("web:stable@{first}")]);
    fleet.person(&[(FILE, &back)], "back");
    assert_eq!(state(&fleet.pass(hours(2))), EnvironmentState::UpToDate);
    assert_eq!(fleet.text(FILE), back);
    let third = publish("3");
    assert_eq!(state(&fleet.pass(hours(3))), EnvironmentState::Committed);
    assert_eq!(
        fleet.text(FILE),
        deployment(&[&format!("web:stable@{third}")])
    );
}

#[test]
fn digest_waits_for_minimum_age() {
    let fleet = fleet(
        &one("digest: {tag: stable}", "  minimumAge: 24h\n"),
        "web:stable",
    );
    let publish = |salt: &str| {
        fleet.image(
            "team/web",
            "stable",
            &SandboxImage {
                salt: salt.into(),
                ..SandboxImage::default()
            },
        )
    };
    let first = publish("1");
    let report = fleet.pass(now());
    assert_eq!(
        (
            state(&report),
            policy(&report, "dev", "default/web").free_at
        ),
        (EnvironmentState::UpToDate, Some(hours(24))),
        "{report:#?}"
    );
    assert_eq!(state(&fleet.pass(hours(24))), EnvironmentState::Committed);
    let pinned = deployment(&[&format!("web:stable@{first}")]);
    let second = publish("2");
    assert_eq!(state(&fleet.pass(hours(30))), EnvironmentState::UpToDate);
    assert_eq!(fleet.text(FILE), pinned);
    assert_eq!(state(&fleet.pass(hours(54))), EnvironmentState::Committed);
    assert_eq!(
        fleet.text(FILE),
        deployment(&[&format!("web:stable@{second}")])
    );
}

/// A tag that is pushed again changes the digest alone, so reverting that is a revert, too: by
/// going back or by unpinning.
#[test]
fn digest_beside_tag_is_held_after_a_revert() {
    let back = |first: &str| format!("web:1.0.0@{first}");
    let unpinned = |_: &str| "web:1.0.0".to_owned();
    let ways: [&dyn Fn(&str) -> String; 2] = [&back, &unpinned];
    for (way, instead) in ways.iter().enumerate() {
        let fleet = fleet(
            &one("semver: {range: '*'}", "  digestReflectionPolicy: Always\n"),
            "web:1.0.0",
        );
        let publish = |tag: &str, salt: &str| {
            fleet.image(
                "team/web",
                tag,
                &SandboxImage {
                    salt: salt.into(),
                    ..SandboxImage::default()
                },
            )
        };
        let first = publish("1.0.0", "1");
        fleet.good_pass_but_findings(now());
        let second = publish("1.0.0", "2");
        fleet.good_pass_but_findings(hours(1));
        assert_eq!(
            fleet.text(FILE),
            deployment(&[&format!("web:1.0.0@{second}")])
        );
        let reverted = deployment(&[&instead(first.as_str())]);
        fleet.person_at(hours(2), &[(FILE, &reverted)], "back");
        let report = fleet.good_pass_but_findings(hours(3));
        assert_eq!(
            (report.pushed(), fleet.text(FILE)),
            (0, reverted),
            "way {way}: {report:#?}"
        );
        // Another push of the tag, or a newer tag, is new.
        let third = publish("1.0.0", "3");
        fleet.good_pass_but_findings(hours(4));
        assert_eq!(
            fleet.text(FILE),
            deployment(&[&format!("web:1.0.0@{third}")]),
            "way {way}"
        );
    }
}

/// A pinned digest moves from the first to the second image; returns both.
fn pinned() -> (Fleet, [String; 2]) {
    let fleet = fleet(&one("digest: {tag: stable}", ""), "web:stable");
    let publish = |salt: &str| {
        fleet.image(
            "team/web",
            "stable",
            &SandboxImage {
                salt: salt.into(),
                ..SandboxImage::default()
            },
        )
    };
    let first = publish("1");
    fleet.good_pass_but_findings(now());
    let second = publish("2");
    (
        fleet,
        [first, second].map(|digest| deployment(&[&format!("web:stable@{digest}")])),
    )
}

/// The holds after the tag was moved back to the first image, and if the bot followed it.
fn goes_back(fleet: &Fleet, time: i64) -> (Vec<String>, bool) {
    let first = fleet.image(
        "team/web",
        "stable",
        &SandboxImage {
            salt: "1".into(),
            ..SandboxImage::default()
        },
    );
    let report = fleet.pass(hours(time));
    (
        policy(&report, "dev", "default/web").held.clone(),
        fleet.text(FILE) == deployment(&[&format!("web:stable@{first}")]),
    )
}

const UPDATE: &str = "dev: web\n\nTagboat-Update: dev";

#[test]
fn merge_of_a_bot_proposal_is_no_revert() {
    let (fleet, [_, second]) = pinned();
    fleet.merge_commits(&[(&second, UPDATE)], &second, "Merge request #1");
    assert_eq!(goes_back(&fleet, 2), (vec![], true));
    // In two commits of the bot.
    let (fleet, [_, second]) = pinned();
    let between = deployment(&[&format!("web:stable@sha256:{}", "0".repeat(64))]);
    fleet.merge_commits(
        &[(&between, UPDATE), (&second, UPDATE)],
        &second,
        "Merge request #1",
    );
    assert_eq!(goes_back(&fleet, 2), (vec![], true));
}

#[test]
fn merge_of_a_persons_value_is_a_revert() {
    let other = deployment(&[&format!("web:stable@sha256:{}", "0".repeat(64))]);
    type Case<'c> = (
        &'c str,
        &'c dyn Fn(&str) -> (Vec<(String, &'static str)>, String),
    );
    let cases: &[Case<'_>] = &[
        ("her own branch", &|second| {
            (vec![(second.to_owned(), "mine")], second.to_owned())
        }),
        ("on top of the bot's commit", &|second| {
            (
                vec![(second.to_owned(), UPDATE), (other.clone(), "mine")],
                other.clone(),
            )
        }),
        ("below the bot's commit", &|second| {
            (
                vec![(other.clone(), "mine"), (second.to_owned(), UPDATE)],
                second.to_owned(),
            )
        }),
        ("written while merging", &|second| {
            (vec![(second.to_owned(), UPDATE)], other.clone())
        }),
    ];
    for (what, case) in cases {
        let (fleet, [_, second]) = pinned();
        let (commits, merged) = case(&second);
        let commits: Vec<(&str, &str)> = commits
            .iter()
            .map(|(text, message)| (text.as_str(), *message))
            .collect();
        fleet.merge_commits(&commits, &merged, "Merge branch 'x'");
        let (held, followed) = goes_back(&fleet, 2);
        assert!(
            held.len() == 1 && held[0].contains("Ann went back from sha256:") && !followed,
            "{what}: {held:#?}"
        );
    }
}
