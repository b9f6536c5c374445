//! The rules of declarations, by whole passes over a registry and a Git server.

use super::update_support::{
    Fleet, Setup, deployment, env, environment, hours, now, policy, semver,
};
use tagboat::{
    sandbox::registry::SandboxImage,
    update::{EnvironmentState, PassMode},
};

/// One pass over a repository of `policies.yaml` and a few files.
#[derive(Default)]
struct Case<'a> {
    name: &'a str,
    declared: String,
    /// Before and after; equal where nothing may change.
    files: Vec<(&'a str, String, String)>,
    /// The subjects of the pass's commits.
    subjects: &'a [&'a str],
    states: &'a [(&'a str, EnvironmentState)],
    /// Texts that the report must contain.
    says: &'a [&'a str],
    setup: Setup,
}

/// The tags of `team/web` and `team/db`.
const TAGS: &[&str] = &["1.0.0", "1.0.1", "1.1.0", "2.0.0"];

impl Case<'_> {
    fn run(&self) {
        let name = self.name;
        let mut files: Vec<(&str, &str)> = vec![("policies/policies.yaml", &self.declared)];
        files.extend(
            self.files
                .iter()
                .map(|(path, before, _)| (*path, before.as_str())),
        );
        let fleet = Fleet::with(&files, &self.setup);
        fleet.publish("team/web", TAGS);
        fleet.publish("team/db", TAGS);
        let report = fleet.pass(now());
        let text = format!("{report:#?}");
        for (path, _, after) in &self.files {
            assert_eq!(fleet.text(path), *after, "{name}: {path}\n{text}");
        }
        assert_eq!(fleet.subjects()[1..], *self.subjects, "{name}: {text}");
        for (environment, state) in self.states {
            assert_eq!(
                self::environment(&report, environment).state,
                *state,
                "{name}: {text}"
            );
        }
        for word in self.says {
            assert!(text.contains(word), "{name}: no {word:?} in {text}");
        }
        // Rule 3: the second pass changes nothing.
        let again = fleet.pass(now());
        assert_eq!(
            (again.pushed(), fleet.subjects().len()),
            (0, self.subjects.len() + 1),
            "{name}, again: {again:#?}"
        );
    }
}

/// A second config repository, which is never contacted.
const OTHER: &str = "  - name: other\n    url: http://127.0.0.1:1/other.git\n";

fn both(range: &str) -> String {
    semver("web", range, "") + &semver("db", range, "")
}

fn file<'a>(path: &'a str, before: &[&str], after: &[&str]) -> (&'a str, String, String) {
    (path, deployment(before), deployment(after))
}

fn left<'a>(path: &'a str, images: &[&str]) -> (&'a str, String, String) {
    file(path, images, images)
}

#[test]
fn group_shares_one_commit() {
    let files = |other: &[&str], other_after: &[&str]| {
        vec![
            file(
                "envs/dev/a/app.yaml",
                &["web:1.0.0", "db:1.0.0", "web:1.0.1"],
                &["web:1.1.0", "db:1.1.0", "web:1.1.0"],
            ),
            file("envs/dev/b/app.yaml", other, other_after),
        ]
    };
    for (group, subjects) in [
        (
            "all",
            &["dev: db 1.0.0 → 1.1.0, web 1.0.0 → 1.1.0, web 1.0.1 → 1.1.0"][..],
        ),
        (
            "policy",
            &[
                "dev: db 1.0.0 → 1.1.0",
                "dev: web 1.0.0 → 1.1.0, web 1.0.1 → 1.1.0",
            ],
        ),
        (
            "directory",
            &[
                "dev: db 1.0.0 → 1.1.0, web 1.0.0 → 1.1.0, web 1.0.1 → 1.1.0",
                "dev: db 1.0.0 → 1.1.0",
            ],
        ),
    ] {
        Case {
            name: group,
            declared: both("1.x") + &env("dev", &format!("group: {group}")),
            files: files(&["db:1.0.0"], &["db:1.1.0"]),
            subjects,
            states: &[("dev", EnvironmentState::Committed)],
            ..Case::default()
        }
        .run();
    }
}

#[test]
fn group_commit_has_only_its_own_lines() {
    let declared = both("1.x") + &env("dev", "group: policy");
    let fleet = Fleet::new(&[
        ("p.yaml", &declared),
        ("envs/dev/a.yaml", &deployment(&["web:1.0.0", "db:1.0.0"])),
    ]);
    fleet.publish("team/web", TAGS);
    fleet.publish("team/db", TAGS);
    let report = fleet.good_pass(now());
    let commits = &environment(&report, "dev").commits;
    assert_eq!(commits.len(), 2, "{report:#?}");
    let texts = |commit: usize| {
        let file = &commits[commit].files[0];
        [&file.before, &file.after]
            .map(|bytes| String::from_utf8_lossy(bytes).replace(&fleet.registry.host(), "{host}"))
    };
    assert_eq!(
        texts(0),
        [
            deployment(&["web:1.0.0", "db:1.0.0"]),
            deployment(&["web:1.0.0", "db:1.1.0"])
        ]
    );
    assert_eq!(
        texts(1),
        [
            deployment(&["web:1.0.0", "db:1.1.0"]),
            deployment(&["web:1.1.0", "db:1.1.0"])
        ]
    );
    assert!(commits.iter().all(|commit| {
        fleet
            .log()
            .iter()
            .any(|logged| Some(&logged.id) == commit.id.as_ref())
    }));
}

#[test]
fn uneditable_reference_is_left_with_reason() {
    let web = |update: &str| semver("web", "1.x", "") + &env("dev", update);
    let selecting = |labels: &str| {
        both("1.x")
            + &format!(
                "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {{name: dev}}\nspec:\n  paths: ['envs/**']\n  policySelector: {{matchLabels: {{{labels}}}}}\n  update: {{via: commit}}\n"
            )
    };
    let marked = |tag: &str| {
        format!(
            "a:\n  image: {{host}}/team/web:{tag} # {{\"$imagepolicy\": \"default:web\"}}\nb:\n  containers:\n    - image: {{host}}/team/web:1.0.0\n"
        )
    };
    let cases = [
        Case {
            name: "a lower version",
            declared: web(""),
            files: vec![left("envs/dev/a.yaml", &["web:2.0.0"])],
            states: &[("dev", EnvironmentState::UpToDate)],
            says: &["lower"],
            ..Case::default()
        },
        Case {
            name: "a lower version that is allowed",
            declared: web("allowDowngrade: true"),
            files: vec![file("envs/dev/a.yaml", &["web:2.0.0"], &["web:1.1.0"])],
            subjects: &["dev: web 2.0.0 → 1.1.0"],
            states: &[("dev", EnvironmentState::Committed)],
            ..Case::default()
        },
        Case {
            name: "a suspended policy",
            declared: semver("web", "1.x", "  suspend: true\n") + &env("dev", ""),
            files: vec![left("envs/dev/a.yaml", &["web:1.0.0"])],
            states: &[("dev", EnvironmentState::UpToDate)],
            says: &["the policy is suspended"],
            ..Case::default()
        },
        Case {
            name: "a suspended Environment beside another",
            declared: web("").replace(
                "  paths: ['envs/dev/**']\n",
                "  paths: ['envs/dev/**']\n  suspend: true\n",
            ) + &env("prod", ""),
            files: vec![
                left("envs/dev/a.yaml", &["web:1.0.0"]),
                file("envs/prod/a.yaml", &["web:1.0.0"], &["web:1.1.0"]),
            ],
            subjects: &["prod: web 1.0.0 → 1.1.0"],
            states: &[
                ("dev", EnvironmentState::Suspended),
                ("prod", EnvironmentState::Committed),
            ],
            ..Case::default()
        },
        Case {
            name: "a file of two Environments, and one of one",
            declared: web("") + &env("x", "").replace("envs/x/**", "envs/**"),
            files: vec![
                left("envs/dev/a.yaml", &["web:1.0.0"]),
                file("envs/x/a.yaml", &["web:1.0.0"], &["web:1.1.0"]),
            ],
            subjects: &["x: web 1.0.0 → 1.1.0"],
            says: &["Environments dev and x both claim envs/dev/a.yaml"],
            ..Case::default()
        },
        Case {
            name: "two policies of one image without a marker",
            declared: web("") + &semver("other", "1.x", "").replace("team/other", "team/web"),
            files: vec![left("envs/dev/a.yaml", &["web:1.0.0"])],
            states: &[("dev", EnvironmentState::UpToDate)],
            says: &["default/other", "default/web", "envs/dev/a.yaml"],
            ..Case::default()
        },
        Case {
            name: "a policy that is not selected",
            declared: selecting("team: web"),
            files: vec![file(
                "envs/dev/a.yaml",
                &["web:1.0.0", "db:1.0.0"],
                &["web:1.1.0", "db:1.0.0"],
            )],
            subjects: &["dev: web 1.0.0 → 1.1.0"],
            says: &[
                "ImagePolicy default/db has nothing to update: envs/dev/a.yaml refers to it, but Environment dev does not select it",
            ],
            ..Case::default()
        },
        Case {
            name: "markers only",
            declared: web("").replace("  update:", "  references: markers\n  update:"),
            files: vec![("envs/dev/a.yaml", marked("1.0.0"), marked("1.1.0"))],
            subjects: &["dev: web 1.0.0 → 1.1.0"],
            ..Case::default()
        },
        Case {
            name: "a request without a forge",
            declared: web("").replace("via: commit", "via: pullRequest"),
            files: vec![left("envs/dev/a.yaml", &["web:1.0.0"])],
            states: &[("dev", EnvironmentState::Failed)],
            says: &[
                "Environment dev: update.via: pullRequest needs a forge: write `forge` with its token",
            ],
            ..Case::default()
        },
        Case {
            name: "a registry for other repositories",
            declared: web(""),
            files: vec![left("envs/dev/a.yaml", &["web:1.0.0"])],
            says: &["does not list the repository \\\"fleet\\\""],
            setup: Setup {
                registry: "    repositories: [other]\n",
                repository: OTHER,
                ..Setup::default()
            },
            ..Case::default()
        },
        Case {
            name: "a registry for this repository",
            declared: web(""),
            files: vec![file("envs/dev/a.yaml", &["web:1.0.0"], &["web:1.1.0"])],
            subjects: &["dev: web 1.0.0 → 1.1.0"],
            setup: Setup {
                registry: "    repositories: [other, fleet]\n",
                repository: OTHER,
                ..Setup::default()
            },
            ..Case::default()
        },
        Case {
            name: "a tag that is no version",
            declared: web(""),
            files: vec![left("envs/dev/a.yaml", &["web:latest"])],
            says: &["latest"],
            ..Case::default()
        },
        Case {
            name: "a message of tagboat.yaml",
            declared: web(""),
            files: vec![file("envs/dev/a.yaml", &["web:1.0.0"], &["web:1.1.0"])],
            subjects: &["chore(dev): web is 1.1.0 (minor)"],
            setup: Setup {
                repository: "    message: \"chore({{ environment }}): {% for i in images %}{{ i.image }} is {{ i.new }} ({{ i.bump }}){% endfor %}\"\n",
                ..Setup::default()
            },
            ..Case::default()
        },
    ];
    for case in cases {
        case.run();
    }
}

#[test]
fn closed_window_delays_commit_until_named_time() {
    // Noon of a Friday; the window is from two to three at night in Berlin.
    let declared = semver("web", "1.x", "")
        + &env(
            "dev",
            "windows: [{cron: '0 2 * * *', duration: 1h, timeZone: Europe/Berlin}]",
        );
    let fleet = Fleet::new(&[
        ("p.yaml", &declared),
        ("envs/dev/a.yaml", &deployment(&["web:1.0.0"])),
    ]);
    fleet.publish("team/web", TAGS);
    let report = fleet.good_pass(now());
    let row = environment(&report, "dev");
    assert_eq!(
        (row.state, row.until),
        (
            EnvironmentState::WindowClosed,
            Some("2026-11-21T01:00:00Z".parse().unwrap())
        )
    );
    assert_eq!(
        (row.commits.len(), row.commits[0].id.as_deref()),
        (1, None),
        "the waiting update is shown"
    );
    assert_eq!(fleet.log().len(), 1);
    // The end is exclusive, the start inclusive.
    assert_eq!(
        environment(&fleet.good_pass(hours(14)), "dev").state,
        EnvironmentState::WindowClosed
    );
    assert_eq!(
        environment(&fleet.good_pass(hours(13)), "dev").state,
        EnvironmentState::Committed
    );
    assert_eq!(fleet.text("envs/dev/a.yaml"), deployment(&["web:1.1.0"]));
    // Without a change nothing waits.
    assert_eq!(
        environment(&fleet.good_pass(hours(14)), "dev").state,
        EnvironmentState::UpToDate
    );
}

#[test]
fn minimum_age_uses_the_local_clock() {
    let declared = semver("web", "1.x", "  minimumAge: 72h\n") + &env("dev", "");
    let fleet = Fleet::new(&[
        ("p.yaml", &declared),
        ("envs/dev/a.yaml", &deployment(&["web:1.0.0"])),
    ]);
    fleet.publish("team/web", TAGS);
    let report = fleet.good_pass(now());
    let row = policy(&report, "dev", "default/web");
    let chosen = row.chosen.as_ref().map(|tag| tag.as_str());
    assert_eq!(
        (chosen, row.free_at),
        (Some("1.0.0"), Some(hours(72))),
        "tags of the first scan wait, too: {row:#?}"
    );
    assert_eq!(
        report.requests.heads, 2,
        "the tags above the present one are watched: {report:#?}"
    );
    // An old date set by the publisher does not count; a later tag has its own clock.
    let old = SandboxImage {
        created: Some("2020-01-01T00:00:00Z".parse().unwrap()),
        salt: "old".into(),
        ..SandboxImage::default()
    };
    fleet.image("team/web", "1.2.0", &old);
    assert_eq!(
        policy(&fleet.good_pass(hours(24)), "dev", "default/web").free_at,
        Some(hours(72))
    );
    // A changed digest restarts the clock of its tag only.
    fleet.image(
        "team/web",
        "1.1.0",
        &SandboxImage {
            salt: "rebuilt".into(),
            ..SandboxImage::default()
        },
    );
    assert_eq!(
        policy(&fleet.good_pass(hours(48)), "dev", "default/web").free_at,
        Some(hours(72))
    );
    let just_before = hours(72)
        .checked_sub(jiff::SignedDuration::from_secs(1))
        .unwrap();
    assert_eq!(
        environment(&fleet.good_pass(just_before), "dev").state,
        EnvironmentState::UpToDate
    );
    let report = fleet.good_pass(hours(72));
    assert_eq!(
        fleet.subjects()[1..],
        ["dev: web 1.0.0 → 1.0.1"],
        "{report:#?}"
    );
    fleet.good_pass(hours(96));
    assert_eq!(fleet.subjects()[2..], ["dev: web 1.0.1 → 1.2.0"]);
    fleet.good_pass(hours(400));
    assert_eq!(
        fleet.text("envs/dev/a.yaml"),
        deployment(&["web:1.2.0"]),
        "nothing goes back to 1.1.0"
    );
}

#[test]
fn minimum_age_without_store_is_never_shorter() {
    let declared = semver("web", "1.x", "  minimumAge: 72h\n") + &env("dev", "");
    let fleet = Fleet::new(&[
        ("p.yaml", &declared),
        ("envs/dev/a.yaml", &deployment(&["web:1.0.0"])),
    ]);
    fleet.publish("team/web", TAGS);
    fleet.good_pass(now());
    std::fs::remove_dir_all(fleet.dir.path().join("store")).unwrap();
    assert_eq!(
        policy(&fleet.good_pass(hours(71)), "dev", "default/web").free_at,
        Some(hours(143))
    );
    assert_eq!(
        environment(&fleet.good_pass(hours(142)), "dev").state,
        EnvironmentState::UpToDate
    );
    assert_eq!(
        environment(&fleet.good_pass(hours(143)), "dev").state,
        EnvironmentState::Committed
    );
    // With a clock that was set back, nothing is released early.
    std::fs::remove_dir_all(fleet.dir.path().join("store")).unwrap();
    fleet.publish("team/web", &["1.3.0"]);
    fleet.good_pass(hours(200));
    assert_eq!(
        environment(&fleet.good_pass(hours(100)), "dev").state,
        EnvironmentState::UpToDate
    );
    assert_eq!(
        environment(&fleet.good_pass(hours(271)), "dev").state,
        EnvironmentState::UpToDate
    );
}

#[test]
fn missing_platform_excludes_a_tag() {
    let declared =
        semver("web", "1.x", "  platforms: [linux/amd64, linux/arm64]\n") + &env("dev", "");
    let fleet = Fleet::new(&[
        ("p.yaml", &declared),
        ("envs/dev/a.yaml", &deployment(&["web:1.0.0"])),
    ]);
    let two = ["linux/amd64", "linux/arm64"]
        .map(|text| text.parse().unwrap())
        .to_vec();
    for (tag, platforms) in [
        ("1.0.0", two.clone()),
        ("1.0.1", two),
        ("1.1.0", Vec::new()),
    ] {
        fleet.image(
            "team/web",
            tag,
            &SandboxImage {
                platforms,
                salt: tag.into(),
                ..SandboxImage::default()
            },
        );
    }
    let report = fleet.good_pass(now());
    assert_eq!(
        fleet.subjects()[1..],
        ["dev: web 1.0.0 → 1.0.1"],
        "{report:#?}"
    );
    let refused = &policy(&report, "dev", "default/web").refused[0];
    assert!(
        refused.tag == "1.1.0" && refused.reason.contains("linux/arm64"),
        "{refused:?}"
    );
    // A digest is immutable: the second pass confirms digests, and reads no manifest.
    let report = fleet.good_pass(hours(1));
    assert!(
        fleet
            .images
            .take()
            .iter()
            .rev()
            .take(report.requests.registry as usize)
            .all(|line| !line.starts_with("GET /v2/team/web/manifests"))
    );
}

fn one(name: &str, choice: &str, extra: &str) -> String {
    format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {{name: {name}}}\nspec:\n  image: {{host}}/team/{name}\n  policy: {{{choice}}}\n{extra}---\n"
    )
}

#[test]
fn newest_follows_the_creation_date() {
    let declared = one("web", "newest: {}", "") + &env("dev", "");
    let fleet = Fleet::new(&[
        ("p.yaml", &declared),
        ("envs/dev/a.yaml", &deployment(&["web:zebra"])),
    ]);
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
    at("zebra", "2026-01-01T00:00:00Z");
    at("apple", "2026-03-01T00:00:00Z");
    at("mango", "2026-02-01T00:00:00Z");
    at("none", "1970-01-01T00:00:00Z");
    let report = fleet.good_pass(now());
    assert_eq!(
        fleet.subjects()[1..],
        ["dev: web zebra → apple"],
        "{report:#?}"
    );
    // Dates are requested once; then a pass costs the listing.
    fleet.images.take();
    let report = fleet.good_pass(hours(1));
    assert_eq!(report.pushed(), 0);
    assert!(
        fleet
            .images
            .take()
            .iter()
            .all(|line| !line.starts_with("GET /v2/team/web/blobs")),
        "{report:#?}"
    );
    at("berry", "2026-04-01T00:00:00Z");
    fleet.good_pass(hours(2));
    assert_eq!(fleet.subjects()[2..], ["dev: web apple → berry"]);
}

#[test]
fn digest_policy_pins_with_one_head_request() {
    let declared = one("web", "digest: {tag: stable}", "") + &env("dev", "");
    let fleet = Fleet::new(&[
        ("p.yaml", &declared),
        ("envs/dev/a.yaml", &deployment(&["web:stable", "db:1"])),
    ]);
    let first = fleet.image("team/web", "stable", &SandboxImage::default());
    let report = fleet.good_pass(now());
    assert_eq!(
        fleet.text("envs/dev/a.yaml"),
        deployment(&[&format!("web:stable@{first}"), "db:1"]),
        "{report:#?}"
    );
    fleet.images.take();
    let report = fleet.good_pass(hours(1));
    assert_eq!(
        (
            report.requests.listings,
            report.requests.heads,
            report.requests.registry,
            report.requests.ls_refs
        ),
        (1, 1, 2, 1)
    );
    assert_eq!(fleet.images.take().len(), 2);
    let second = fleet.image(
        "team/web",
        "stable",
        &SandboxImage {
            salt: "2".into(),
            ..SandboxImage::default()
        },
    );
    fleet.good_pass(hours(2));
    assert_eq!(
        fleet.text("envs/dev/a.yaml"),
        deployment(&[&format!("web:stable@{second}"), "db:1"])
    );
    let subject =
        |digest: &tagboat::core::image::Digest| format!("dev: web stable → {}", digest.short());
    assert_eq!(fleet.subjects()[1..], [subject(&first), subject(&second)]);
}

#[test]
fn digest_reflection_follows_the_policy() {
    let fleet_of = |reflect: &str, image: &str| {
        let declared = semver(
            "web",
            "1.x",
            &format!("  digestReflectionPolicy: {reflect}\n"),
        ) + &env("dev", "");
        let fleet = Fleet::new(&[
            ("p.yaml", &declared),
            ("envs/dev/a.yaml", &deployment(&[image])),
        ]);
        let digest = |tag: &str| {
            fleet.image(
                "team/web",
                tag,
                &SandboxImage {
                    salt: tag.into(),
                    ..SandboxImage::default()
                },
            )
        };
        let digests = [digest("1.0.0"), digest("1.1.0")];
        (fleet, digests)
    };
    let stale = format!("sha256:{}", "a".repeat(64));
    for (reflect, before, pinned) in [
        ("Never", "web:1.0.0".to_owned(), false),
        ("Never", format!("web:1.0.0@{stale}"), true),
        ("IfNotPresent", "web:1.0.0".to_owned(), true),
        ("IfNotPresent", "web:1.1.0".to_owned(), true),
        ("Always", "web:1.0.0".to_owned(), true),
        ("Always", format!("web:1.1.0@{stale}"), true),
    ] {
        let (fleet, [_, new]) = fleet_of(reflect, &before);
        let report = fleet.good_pass(now());
        let expected = if pinned {
            format!("web:1.1.0@{new}")
        } else {
            "web:1.1.0".to_owned()
        };
        assert_eq!(
            fleet.text("envs/dev/a.yaml"),
            deployment(&[&expected]),
            "{reflect} {before}: {report:#?}"
        );
        assert_eq!(fleet.good_pass(hours(1)).pushed(), 0, "{reflect} {before}");
        // The tag moves: only `Always` follows.
        let moved = fleet.image(
            "team/web",
            "1.1.0",
            &SandboxImage {
                salt: "moved".into(),
                ..SandboxImage::default()
            },
        );
        fleet.good_pass(hours(2));
        let expected = if reflect == "Always" {
            format!("web:1.1.0@{moved}")
        } else {
            expected
        };
        assert_eq!(
            fleet.text("envs/dev/a.yaml"),
            deployment(&[&expected]),
            "{reflect} {before}, moved"
        );
    }
}

#[test]
fn plan_commits_nothing() {
    let declared = both("1.x") + &env("dev", "group: policy");
    let fleet = Fleet::new(&[
        ("p.yaml", &declared),
        ("envs/dev/a.yaml", &deployment(&["web:1.0.0", "db:1.0.0"])),
    ]);
    fleet.publish("team/web", TAGS);
    fleet.publish("team/db", TAGS);
    let report = fleet.pass_of(&fleet.engine(), PassMode::Plan, now());
    let row = environment(&report, "dev");
    assert_eq!(
        (
            row.state,
            row.commits.len(),
            report.pushed(),
            fleet.log().len()
        ),
        (EnvironmentState::Planned, 2, 0, 1)
    );
    assert!(
        fleet
            .git
            .take()
            .iter()
            .all(|line| !line.contains("receive-pack"))
    );
}
