use super::*;
use crate::{
    core::image::{Digest, TagList},
    images::policy::{
        Comparison, Holds, PolicyInput, PolicyOutcome, RegistryFacts, TagFacts, choose, orders,
        standing,
    },
    service::init::PolicyDraft,
    spec::{self, ImagePolicy},
};
use std::collections::HashMap;

/// A tag, its policy, the next tag that the policy selects, and tags that it never selects,
/// although each may be pushed later.
const ORDERED: [(&str, &str, &str, &str); 44] = [
    (
        "6.1.0",
        "semver: {range: '>=6.1.0 <7.0.0'}",
        "6.2.0",
        "7.0.0 6.3.0-alpine",
    ),
    (
        "v0.3.1",
        "semver: {range: '>=0.3.1 <1.0.0'}",
        "v0.4.0",
        "v1.0.0",
    ),
    // Pre-releases.
    (
        "1.2.0-rc.1",
        "semver: {range: '>=1.2.0-rc.1 <2.0.0-0'}",
        "1.2.0",
        "2.0.0-alpha 1.3.0-alpine 1.3.0-beta.1",
    ),
    (
        "1.2.0-beta.9",
        "semver: {range: '>=1.2.0-beta.9 <2.0.0-0'}",
        "1.2.0-beta.10",
        "1.3.0-dev.1",
    ),
    // Variants.
    (
        "1.25.3-alpine3.18",
        "semver: {range: '>=1.25.3-3.18 <2.0.0-0'}",
        "1.27.0-alpine3.20",
        "1.27.0 1.28.0-alpine 2.0.0-alpine3.20",
    ),
    (
        "1.25.3-alpine3.9",
        "semver: {range: '>=1.25.3-3.9 <2.0.0-0'}",
        "1.25.3-alpine3.10",
        "1.25.4",
    ),
    (
        "1.2.3-build.9",
        "semver: {range: '>=1.2.3-9 <2.0.0-0'}",
        "1.2.3-build.10",
        "1.3.0",
    ),
    (
        "15.4.0-debian-11-r45",
        "semver: {range: '>=15.4.0-11.45 <16.0.0-0'}",
        "15.4.0-debian-12-r5",
        "15.5.0",
    ),
    (
        "1.2.3-4",
        "semver: {range: '>=1.2.3-4 <2.0.0-0'}",
        "1.2.3-10",
        "1.3.0 1.4.0-rc.1",
    ),
    (
        "v1.28.2-k3s9",
        "semver: {range: '>=1.28.2-9 <2.0.0-0'}",
        "v1.28.2-k3s10",
        "v1.29.0-rke2r1",
    ),
    (
        "16.5.1-ce.0",
        "semver: {range: '>=16.5.1-0 <17.0.0-0'}",
        "16.6.0-ce.0",
        "16.7.0-ee.0",
    ),
    (
        "4.8-windowsservercore-ltsc2019",
        "semver: {range: '>=4.8.0 <5.0.0'}",
        "4.9-windowsservercore-ltsc2019",
        "4.9-windowsservercore-ltsc2022 4.10",
    ),
    (
        "1.27.0-windowsservercore-1809",
        "semver: {range: '>=1.27.0 <2.0.0'}",
        "1.27.1-windowsservercore-1809",
        "1.27.1-windowsservercore-2022",
    ),
    (
        "3.1.0-18-minimal",
        "semver: {range: '>=3.1.0 <4.0.0'}",
        "3.1.1-18-minimal",
        "3.1.2 3.1.2-20-minimal 3.1.2-18",
    ),
    (
        "0.5.1-pg15",
        "semver: {range: '>=0.5.1 <1.0.0'}",
        "0.6.0-pg15",
        "0.7.0-pg16",
    ),
    (
        "1.2.3-php8.2-fpm",
        "semver: {range: '>=1.2.3 <2.0.0'}",
        "1.3.0-php8.2-fpm",
        "1.4.0-php8.3-fpm",
    ),
    (
        "1.2.3-arm64",
        "semver: {range: '>=1.2.3 <2.0.0'}",
        "1.3.0-arm64",
        "1.4.0-arm32",
    ),
    (
        "1.2.3-x86_64",
        "semver: {range: '>=1.2.3 <2.0.0'}",
        "1.3.0-x86_64",
        "1.4.0",
    ),
    (
        "17.0.9_9-jdk",
        "semver: {range: '>=17.0.9-9 <18.0.0-0'}",
        "17.0.10_7-jdk",
        "17.0.11_1-jre",
    ),
    (
        "controller-v1.2.3",
        "semver: {range: '>=1.2.3 <2.0.0'}",
        "controller-v1.10.0",
        "v1.11.0 helm-v1.12.0",
    ),
    // Two and four numbers.
    (
        "7.4",
        "semver: {range: '>=7.4.0 <8.0.0'}",
        "7.10",
        "7.11-alpine 8.0",
    ),
    (
        "16.2-bookworm",
        "semver: {range: '>=16.2.0 <17.0.0'}",
        "16.3-bookworm",
        "16.4",
    ),
    (
        "3.10-master-777",
        "semver: {range: '>=3.10.0-777 <4.0.0-0'}",
        "3.10-master-1000",
        "3.10",
    ),
    (
        "3.10-master-999",
        "semver: {range: '>=3.10.0-999 <4.0.0-0'}",
        "3.10-master-1000",
        "3.11-dev-1",
    ),
    (
        "6.4.1.10545",
        "semver: {range: '>=6.4.1-10545 <7.0.0-0'}",
        "6.4.1.10600",
        "6.5.0 7.0.0.1",
    ),
    (
        "4.0.9.1-ls9",
        "semver: {range: '>=4.0.9-1.9 <5.0.0-0'}",
        "4.0.9.1-ls10",
        "4.1.0.1",
    ),
    // Years and dates.
    (
        "2024.11.2",
        "semver: {range: '>=2024.11.2'}",
        "2025.1.0",
        "2025.2.0-rc1",
    ),
    (
        "2024.01.15",
        "semver: {range: '>=2024.1.15'}",
        "2025.02.03",
        "latest",
    ),
    (
        "24.04",
        "semver: {range: '>=24.4.0'}",
        "26.04",
        "26.04-minimal",
    ),
    (
        "20240115.3",
        "semver: {range: '>=20240115.3.0'}",
        "20240116.1",
        "latest",
    ),
    (
        "20240115.9",
        "semver: {range: '>=20240115.9.0'}",
        "20240115.10",
        "latest",
    ),
    (
        "2024-01-15-9",
        "semver: {range: '>=2024.1.15-9'}",
        "2024-01-15-10",
        "2024-01-16",
    ),
    (
        "RELEASE.2024-11-01T10-20-30Z",
        "alphabetical: {order: asc}",
        "RELEASE.2024-12-01T10-20-30Z",
        "RELEASE.x",
    ),
    // Builds.
    (
        "v3.9.0-177-g159857a0b",
        "semver: {range: '>=3.9.0-177 <4.0.0-0'}",
        "v3.9.0-1000-g0a1b2c3d4",
        "v3.9.1",
    ),
    (
        "v3.9.0-99-g159857a0b",
        "semver: {range: '>=3.9.0-99 <4.0.0-0'}",
        "v3.9.0-177-gaaaaaa1",
        "v3.9.0-178",
    ),
    (
        "main-1a2b3c4-1700000000",
        "numerical: {order: asc}",
        "main-ffffff0-1700000001",
        "dev-1a2b3c4-1800000000",
    ),
    (
        "20241101-1a2b3c4",
        "numerical: {order: asc}",
        "20241102-aee7c97b",
        "latest 1700000000-1a2b3c4",
    ),
    (
        "main-1234567-1700000000",
        "numerical: {order: asc}",
        "main-0a1b2c3-1700000001",
        "latest",
    ),
    (
        "pr-12-1700000000",
        "numerical: {order: asc}",
        "pr-12-1700000001",
        "pr-13-1800000000",
    ),
    (
        "pr-12-1.2.3",
        "semver: {range: '>=1.2.3 <2.0.0'}",
        "pr-12-1.3.0",
        "pr-13-1.4.0 1.5.0",
    ),
    ("build-42", "numerical: {order: asc}", "build-100", "x-200"),
    (
        "main-9-1a2b3c4",
        "numerical: {order: asc}",
        "main-10-aaaaaa1",
        "main-11",
    ),
    ("b4567", "numerical: {order: asc}", "b10000", "latest"),
    ("1234", "numerical: {order: asc}", "1300", "latest"),
];

fn of(tags: &[&str]) -> Result<GuessedRule, String> {
    guess(&tags.iter().map(|tag| (*tag).to_owned()).collect())
}

/// Returns the declaration of a guessed policy, as `init` writes it.
fn declaration(guessed: GuessedRule) -> String {
    super::super::draft::policy(&PolicyDraft {
        name: "apps/x".parse().unwrap(),
        image: "x.io/x".parse().unwrap(),
        rule: guessed.rule,
        notes: guessed.notes,
    })
}

fn policy(guessed: GuessedRule) -> ImagePolicy {
    let text = declaration(guessed);
    let mut declared = spec::read([("x.yaml", text.as_bytes())], None);
    let mistakes = &declared.mistakes;
    assert!(mistakes.is_empty(), "{mistakes:?}\n{text}");
    declared
        .policies
        .remove(&"apps/x".parse().unwrap())
        .unwrap()
}

fn selected(policy: &ImagePolicy, tags: &[&str]) -> Option<String> {
    let facts = TagFacts {
        digest: Digest::new(format!("sha256:{}", "0".repeat(64))).ok(),
        fresh: true,
        ..TagFacts::default()
    };
    let input = PolicyInput {
        policy,
        present: None,
        holds: &Holds::default(),
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let details = tags.iter().map(|tag| ((*tag).to_owned(), facts.clone()));
    let facts = RegistryFacts {
        tags: &tags.iter().copied().collect::<TagList>(),
        details: &HashMap::from_iter(details),
    };
    match choose(&input, &facts) {
        PolicyOutcome::Chosen(chosen) => Some(chosen.tag.to_string()),
        _ => None,
    }
}

#[test]
fn guess_selects_its_tag_and_the_next_one() {
    let mut wrong = Vec::new();
    for (tag, rule, next, refused) in ORDERED {
        let guessed = of(&[tag]).unwrap_or_else(|why| panic!("{why}"));
        let text = format!("{tag}: {:?}", guessed.rule);
        let is_drafted = guessed.rule.policy == rule && guessed.notes.is_empty();
        let policy = policy(guessed);
        let mut tags = vec![tag];
        tags.extend(refused.split(' '));
        let first = selected(&policy, &tags);
        tags.push(next);
        let second = selected(&policy, &tags);
        let is_right = is_drafted
            && orders(&policy, tag)
            && first.as_deref() == Some(tag)
            && second.as_deref() == Some(next)
            && standing(&policy, tag, next) == Comparison::Newer;
        if !is_right {
            wrong.push(format!("{text}: selects {first:?}, then {second:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn guess_without_order_uses_date_or_digest() {
    for (tag, policy) in [
        ("1a2b3c4", "newest: {}"),
        ("sha-1a2b3c4d5e6f", "newest: {}"),
        ("sha-1234567", "newest: {}"),
        ("feature-x-1a2b3c4", "newest: {}"),
        ("1.2.3-aee7c97b", "newest: {}"),
        ("latest", "digest: {tag: 'latest'}"),
        ("16", "digest: {tag: '16'}"),
        ("16-alpine3.20", "digest: {tag: '16-alpine3.20'}"),
        ("lts-alpine3.20", "digest: {tag: 'lts-alpine3.20'}"),
        ("alpine-3.20", "digest: {tag: 'alpine-3.20'}"),
        ("php8.2-fpm", "digest: {tag: 'php8.2-fpm'}"),
        ("pr-12", "digest: {tag: 'pr-12'}"),
        ("defaced", "digest: {tag: 'defaced'}"),
    ] {
        assert_eq!(of(&[tag]).unwrap().rule.policy, policy, "{tag}");
    }
    let mixed = ["latest", "1.2.0", "1.10.0", "main-1a2b3c4-1700000000"];
    assert_eq!(of(&mixed).unwrap().rule.from, "1.10.0");
    assert_eq!(of(&[]), Err(String::new()));
}

#[test]
fn guess_of_commits_stays_with_the_form() {
    let policy = policy(of(&["1.2.3-aee7c97b"]).unwrap());
    for (tag, taken) in [
        ("1.3.0-159857a0b", true),
        ("2.0.0-159857a0b", false),
        ("1.3.0", false),
        ("1.3.0-alpine", false),
    ] {
        let pattern = policy.filter.pattern.as_ref().unwrap();
        assert_eq!(pattern.is_match(tag), taken, "{tag}");
    }
}

#[test]
fn guess_refuses_what_has_no_sure_order() {
    for tag in [
        "1.2.3rc1",
        "2024.12.0b1",
        "1.2.3.4.5",
        "1.2.0-rc.1-alpine",
        "1.2-rc1",
        "2024",
        "build42-1.2.3",
        "1a2b3c4-1.2.3",
        "99999999999999999999.1.2",
    ] {
        let why = of(&[tag]).unwrap_err();
        assert!(
            why.starts_with(&format!("the order of {tag} is not sure: ")),
            "{why}"
        );
    }
}

#[test]
fn guess_of_undotted_pre_release_selects_releases() {
    let guessed = of(&["1.2.0-rc9"]).unwrap();
    assert_eq!(guessed.rule.policy, "semver: {range: '>=1.2.0 <2.0.0'}");
    assert!(guessed.notes[0].contains("without a point"), "{guessed:?}");
    let policy = policy(guessed);
    assert_eq!(selected(&policy, &["1.2.0-rc9", "1.2.0-rc10"]), None);
    let tags = ["1.2.0-rc9", "1.2.0-rc10", "1.2.0"];
    assert_eq!(selected(&policy, &tags).as_deref(), Some("1.2.0"));
    assert_eq!(standing(&policy, "1.2.0-rc9", "1.2.0"), Comparison::Newer);
}

#[test]
fn guess_of_mixed_kinds_leaves_the_others_alone() {
    let guessed = of(&["1.25.3", "1.25.3-alpine", "latest", "0.9.0", "1.24.0"]).unwrap();
    assert_eq!(guessed.rule.from, "1.25.3");
    assert_eq!(
        guessed.notes,
        [
            "The files also have 1.24.0: this policy moves all of them to one tag.",
            "The files also have 0.9.0, of another major version: this policy moves all of them to \
             one tag.",
            "The files also have 1.25.3-alpine, latest, of another kind, which this policy leaves \
             alone: mark both kinds, and write a policy for each.",
        ]
    );
    let policy = policy(guessed);
    assert!(orders(&policy, "1.25.3") && !orders(&policy, "1.25.3-alpine"));
}

#[test]
fn guess_of_mixed_kinds_keeps_releases_from_builds() {
    // Production has a release, and never follows a pre-release.
    let guessed = of(&["1.2.0", "1.3.0-rc.2"]).unwrap();
    assert_eq!(guessed.rule.from, "1.2.0");
    let released = policy(guessed);
    assert!(!orders(&released, "1.3.0-rc.2"));
    let guessed = of(&["RELEASE.2024-11-01T10-20-30Z", "latest"]).unwrap();
    let dated = policy(guessed);
    assert!(orders(&dated, "RELEASE.2024-11-01T10-20-30Z") && !orders(&dated, "latest"));
    // A policy by date knows no order of present tags, and would replace `latest`.
    let why = of(&["1a2b3c4", "latest"]).unwrap_err();
    assert!(why.contains("a policy by date would replace"), "{why}");
    assert!(of(&["1a2b3c4", "aee7c97b"]).is_ok());
}
