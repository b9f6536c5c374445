//! New choices against what the registry really has: dangling tags, artifacts, wrong dates.

use super::update_support::{Act, Fleet, deployment, env, hours, now, reply, semver};
use tagboat::{
    core::error::ErrorKind,
    sandbox::registry::SandboxImage,
    update::{PassMode, PassReport},
};

const FILE: &str = "envs/dev/a.yaml";
const GONE: &str = "is listed by the registry, which does not have it";

/// A fleet at `web:1.0.0`, with tags whose manifests are missing.
fn fleet(extra: &str, tags: &[&str], dangling: &'static [&'static str]) -> Fleet {
    let declared = semver("web", "*", extra) + &env("dev", "");
    let fleet = Fleet::new(&[("p.yaml", &declared), (FILE, &deployment(&["web:1.0.0"]))]);
    fleet.publish("team/web", tags);
    fleet.images.rule(move |line| {
        match dangling
            .iter()
            .any(|tag| line.ends_with(&format!("/manifests/{tag}")))
        {
            true => reply(404, &[], "{}"),
            false => Act::Pass,
        }
    });
    fleet
}

/// The reasons of the refused tags of the only policy.
fn refused(report: &PassReport) -> Vec<(String, String)> {
    let policy = &report.environments[0].policies[0];
    let row =
        |refused: &tagboat::update::RefusedReport| (refused.tag.clone(), refused.reason.clone());
    policy.refused.iter().map(row).collect()
}

#[test]
fn dangling_tag_gives_way_to_the_next() {
    for extra in [
        "",
        "  digestReflectionPolicy: Always\n",
        "  minimumAge: 1h\n",
    ] {
        let fleet = fleet(
            extra,
            &["1.0.0", "1.0.1", "1.1.0", "1.2.0"],
            &["1.1.0", "1.2.0"],
        );
        let engine = fleet.engine();
        fleet.pass_of(&engine, PassMode::Plan, now());
        let report = fleet.pass_of(&engine, PassMode::Write, hours(2));
        assert!(report.failures.is_empty(), "{extra:?}: {report:#?}");
        assert!(
            fleet.text(FILE).contains("web:1.0.1"),
            "{extra:?}: {report:#?}"
        );
        assert_eq!(
            refused(&report),
            [
                ("1.2.0".to_owned(), GONE.to_owned()),
                ("1.1.0".to_owned(), GONE.to_owned())
            ],
            "{extra:?}"
        );
        // Nothing more to write: the dangling tag costs requests at a scan, and no commit.
        let again = fleet.pass_of(&engine, PassMode::Write, hours(3));
        assert_eq!(again.pushed(), 0, "{extra:?}: {again:#?}");
    }
}

#[test]
fn new_choice_costs_one_head_and_rest_none() {
    let fleet = fleet("", &["1.0.0", "1.0.1"], &[]);
    let engine = fleet.engine();
    let plan = |hour| fleet.pass_of(&engine, PassMode::Plan, hours(hour));
    assert_eq!(plan(0).requests.heads, 1);
    assert_eq!(
        plan(1).requests.heads,
        0,
        "a pending choice is confirmed once"
    );
    assert_eq!(plan(26).requests.heads, 1, "and again a day later");
    let report = fleet.pass_of(&engine, PassMode::Write, hours(27));
    assert_eq!(
        (report.pushed(), report.requests.heads),
        (1, 0),
        "{report:#?}"
    );
    let rest = fleet.pass_of(&engine, PassMode::Write, hours(28));
    assert_eq!((rest.pushed(), rest.requests.heads), (0, 0), "{rest:#?}");
}

#[test]
fn new_choice_that_cannot_be_confirmed_is_not_written() {
    let fleet = fleet("", &["1.0.0", "1.0.1"], &[]);
    fleet.images.rule(|line| match line.starts_with("HEAD") {
        true => reply(500, &[], "oops"),
        false => Act::Pass,
    });
    let report = fleet.pass(now());
    assert_eq!(report.pushed(), 0);
    assert_eq!(report.failures.len(), 1, "{report:#?}");
    assert_eq!(report.failures[0].kind, ErrorKind::Remote);
    assert!(report.environments[0].policies[0].unknown, "{report:#?}");
    fleet.images.open();
    fleet.good_pass(hours(1));
    assert!(fleet.text(FILE).contains("web:1.0.1"));
}

fn newest() -> Fleet {
    let declared = "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {name: web}\nspec: {image: '{host}/team/web', policy: {newest: {}}}\n---\n".to_owned()
        + &env("dev", "");
    Fleet::new(&[("p.yaml", &declared), (FILE, &deployment(&["web:zebra"]))])
}

fn dated(fleet: &Fleet, tag: &str, date: &str) {
    let image = SandboxImage {
        created: Some(date.parse().unwrap()),
        salt: tag.to_owned(),
        ..SandboxImage::default()
    };
    fleet.image("team/web", tag, &image);
}

#[test]
fn newest_ignores_dates_ahead_of_the_clock() {
    let fleet = newest();
    dated(&fleet, "apple", "2026-03-01T00:00:00Z");
    dated(&fleet, "tomorrow", "2026-11-21T11:00:00Z");
    dated(&fleet, "wrong", "2099-01-01T00:00:00Z");
    fleet.good_pass(now());
    assert!(fleet.text(FILE).contains("web:tomorrow"));
    // The date is believed once it has come, without another request for it.
    dated(&fleet, "later", "2026-11-23T00:00:00Z");
    fleet.good_pass(hours(1));
    assert!(fleet.text(FILE).contains("web:tomorrow"));
    fleet.images.take();
    fleet.good_pass(hours(60));
    assert!(fleet.text(FILE).contains("web:later"));
    assert!(
        fleet
            .images
            .take()
            .iter()
            .all(|line| !line.contains("/blobs/"))
    );
}

#[test]
fn newest_dates_a_moved_tag_again() {
    let fleet = newest();
    dated(&fleet, "apple", "2026-03-01T00:00:00Z");
    dated(&fleet, "mango", "2026-04-01T00:00:00Z");
    let engine = fleet.engine();
    fleet.pass_of(&engine, PassMode::Plan, now());
    drop(engine);
    // Another image takes the tag: its date is another, too.
    dated(&fleet, "mango", "2026-01-01T00:00:00Z");
    fleet.good_pass(hours(1));
    assert!(fleet.text(FILE).contains("web:apple"));
}
