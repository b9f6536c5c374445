use super::*;
use crate::spec;
use proptest::prelude::*;

fn policy(spec: &str) -> ImagePolicy {
    let file = format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {{name: p}}\nspec: {{image: example.com/app, {spec}}}\n"
    );
    let declared = spec::read([("p.yaml", file.as_bytes())], None);
    assert!(
        declared.mistakes.is_empty(),
        "{spec}: {:?}",
        declared.mistakes
    );
    declared.policies.into_values().next().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const NOW: &str = "2026-06-10T12:00:00Z";

fn digest(letter: char) -> Digest {
    Digest::new(format!("sha256:{}", letter.to_string().repeat(64))).unwrap()
}

fn ask(
    spec: &str,
    tags: &str,
    details: &[(&str, TagFacts)],
    present: Option<&str>,
    holds: &Holds,
) -> PolicyOutcome {
    let policy = policy(spec);
    let tags: TagList = tags.split(' ').collect();
    let details = details
        .iter()
        .map(|(tag, details)| ((*tag).to_owned(), details.clone()))
        .collect();
    let facts = RegistryFacts {
        tags: &tags,
        details: &details,
    };
    let question = PolicyInput {
        policy: &policy,
        present,
        holds,
        now: at(NOW),
    };
    let outcome = choose(&question, &facts);
    let (explained, reasons) = explain(&question, &facts);
    assert_eq!(
        outcome, explained,
        "{spec}: the short way and the long way must agree"
    );
    let chosen = matches!(outcome, PolicyOutcome::Chosen(_));
    assert_eq!(
        reasons.len(),
        tags.len() - usize::from(chosen),
        "{spec}: a reason for every tag"
    );
    outcome
}

/// The reason of every refused tag.
fn explained(spec: &str, tags: &str, details: &[(&str, TagFacts)]) -> HashMap<String, String> {
    let policy = policy(spec);
    let tags: TagList = tags.split(' ').collect();
    let owned = |(tag, details): &(&str, TagFacts)| ((*tag).to_owned(), details.clone());
    let details = details.iter().map(owned).collect();
    let facts = RegistryFacts {
        tags: &tags,
        details: &details,
    };
    let question = PolicyInput {
        policy: &policy,
        present: None,
        holds: &Holds::default(),
        now: at(NOW),
    };
    let (_, refusals) = explain(&question, &facts);
    let text = |(tag, refusal): (String, Refusal)| (tag, refusal.to_string());
    refusals.into_iter().map(text).collect()
}

fn chosen(outcome: &PolicyOutcome) -> &str {
    match outcome {
        PolicyOutcome::Chosen(chosen) => chosen.tag.as_str(),
        PolicyOutcome::Nothing { .. } => "nothing",
        PolicyOutcome::Needs(_) => "needs",
    }
}

#[test]
fn policy_kinds_selection_table() {
    for (spec, tags, expected) in [
        (
            "policy: {semver: {range: '>=6.0.0 <7.0.0'}}",
            "6.0.0 6.10.0 6.9.0 7.0.0 6.11.0-rc.1 latest 6.12",
            "6.10.0",
        ),
        (
            "policy: {semver: {range: '>=1.0.0-0'}}",
            "1.0.0 1.1.0-rc.1",
            "1.1.0-rc.1",
        ),
        ("policy: {semver: {range: '*'}}", "1.2.0 v1.2.0", "v1.2.0"),
        ("policy: {semver: {range: '*'}}", "v1.2.0 1.2.0", "v1.2.0"),
        ("policy: {semver: {range: '*'}}", "1.2.0+a 1.2.0", "1.2.0"),
        (
            "policy: {semver: {range: '>=2025.01.01'}}",
            "2025.02.03 2025.02.10 2024.12.31",
            "2025.02.10",
        ),
        (
            "policy: {semver: {range: 1.x}}",
            "latest main 2.0.0",
            "nothing",
        ),
        (
            "filterTags: {pattern: '^v(?P<v>.+)$', extract: '$v', exclude: ['-rc']}, policy: {semver: {range: '>=1.0.0-0'}}",
            "v1.0.0 1.5.0 v1.1.0-rc.1 v1.1.0-beta",
            "v1.1.0-beta",
        ),
        (
            "filterTags: {pattern: '-alpine$'}, policy: {semver: {range: '>=1.0.0-0'}}",
            "1.0.0-alpine 1.1.0 1.0.1-alpine",
            "1.0.1-alpine",
        ),
        (
            "filterTags: {pattern: '^main-[a-f0-9]+-(?P<ts>[0-9]+)$', extract: '$ts'}, policy: {numerical: {}}",
            "main-abc-9 main-def-10 main-abc-010 other-12",
            "main-def-10",
        ),
        ("policy: {numerical: {order: desc}}", "9 10 007 x", "007"),
        (
            "policy: {numerical: {order: asc}}",
            "99999999999999999999999 100000000000000000000000 5",
            "100000000000000000000000",
        ),
        ("policy: {numerical: {}}", "1.5 -3 1e9", "nothing"),
        ("policy: {alphabetical: {}}", "a b B 10 9", "b"),
        ("policy: {alphabetical: {order: desc}}", "a b B 10 9", "10"),
        (
            "ignoreTags: ['1.2.0'], policy: {semver: {range: '*'}}",
            "1.1.0 1.2.0",
            "1.1.0",
        ),
    ] {
        let outcome = ask(spec, tags, &[], None, &Holds::default());
        assert_eq!(chosen(&outcome), expected, "{spec} among {tags}");
    }
}

proptest! {
    #[test]
    fn policy_tag_list_order_is_irrelevant(mut tags in proptest::collection::vec("v?[01]\\.[0-2]\\.[0-2](-rc)?|[0-9]{1,3}|[a-c]", 1..20), seed in any::<u64>()) {
        tags.sort();
        tags.dedup();
        let mut shuffled = tags.clone();
        let mut state = seed;
        for index in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            shuffled.swap(index, (state >> 33) as usize % (index + 1));
        }
        for spec in ["policy: {semver: {range: '>=0.1.0-0'}}", "policy: {numerical: {}}", "policy: {alphabetical: {order: desc}}"] {
            let one = ask(spec, &tags.join(" "), &[], None, &Holds::default());
            let other = ask(spec, &shuffled.join(" "), &[], None, &Holds::default());
            prop_assert_eq!(chosen(&one), chosen(&other));
        }
    }
}

fn seen(letter: char, since: &str, fresh: bool) -> TagFacts {
    TagFacts {
        digest: Some(digest(letter)),
        fresh,
        since: Some(at(since)),
        ..TagFacts::default()
    }
}

#[test]
fn policy_minimum_age_needs_confirmed_digest() {
    let spec = "minimumAge: 72h, policy: {semver: {range: '*'}}";
    let ask = |details: &[(&str, TagFacts)], present| {
        ask(
            spec,
            "1.0.0 1.1.0 1.2.0",
            details,
            present,
            &Holds::default(),
        )
    };
    let PolicyOutcome::Needs(needs) = ask(&[], Some("1.0.0")) else {
        panic!("the clocks above the present tag")
    };
    assert_eq!(
        needs.digests,
        [Tag::new("1.2.0").unwrap(), Tag::new("1.1.0").unwrap()]
    );
    let old = seen('a', "2026-06-01T00:00:00Z", true);
    let young = seen('b', "2026-06-09T12:00:00Z", true);
    let outcome = ask(&[("1.1.0", old), ("1.2.0", young.clone())], Some("1.0.0"));
    assert_eq!(chosen(&outcome), "1.1.0");
    let outcome = ask(
        &[("1.1.0", young.clone()), ("1.2.0", young.clone())],
        Some("1.0.0"),
    );
    assert_eq!(
        chosen(&outcome),
        "1.0.0",
        "what stands already does not wait"
    );
    let outcome = ask(
        &[
            ("1.0.0", young.clone()),
            ("1.1.0", young.clone()),
            ("1.2.0", young),
        ],
        None,
    );
    let PolicyOutcome::Nothing { reason, free_at } = outcome else {
        panic!("everything is too young")
    };
    assert_eq!(free_at, Some(at("2026-06-12T12:00:00Z")));
    assert!(
        reason.contains("1.2.0 was first seen 2026-06-09 12:00 UTC and must be seen for 72h: free at 2026-06-12 12:00 UTC"),
        "{reason}"
    );
}

#[test]
fn policy_age_clocks_are_bounded_and_confirmed() {
    let tags: Vec<String> = (0..30).map(|patch| format!("1.0.{patch}")).collect();
    let spec = "minimumAge: 72h, policy: {semver: {range: '*'}}";
    let PolicyOutcome::Needs(needs) = ask(spec, &tags.join(" "), &[], None, &Holds::default())
    else {
        panic!()
    };
    assert_eq!(needs.digests.len(), 20);
    let mut details: Vec<(&str, TagFacts)> = tags[10..]
        .iter()
        .map(|tag| (tag.as_str(), seen('a', "2026-06-10T00:00:00Z", true)))
        .collect();
    let outcome = ask(spec, &tags.join(" "), &details, None, &Holds::default());
    assert!(
        matches!(outcome, PolicyOutcome::Nothing { .. }),
        "nobody has watched the others: {outcome:?}"
    );
    details.push(("1.0.5", seen('b', "2026-06-01T00:00:00Z", false)));
    let outcome = ask(spec, &tags.join(" "), &details, None, &Holds::default());
    assert_eq!(
        outcome,
        PolicyOutcome::Needs(MissingFacts {
            digests: vec![Tag::new("1.0.5").unwrap()],
            ..MissingFacts::default()
        })
    );
}

#[test]
fn policy_platforms_checked_from_best_tag_down() {
    let spec = "platforms: [linux/amd64, linux/arm64], policy: {semver: {range: '*'}}";
    let on = |platforms: &str| TagFacts {
        platforms: Some(platforms.split(' ').map(|p| p.parse().unwrap()).collect()),
        ..TagFacts::default()
    };
    let outcome = ask(spec, "1.0.0 1.1.0", &[], None, &Holds::default());
    assert_eq!(
        outcome,
        PolicyOutcome::Needs(MissingFacts {
            platforms: vec![Tag::new("1.1.0").unwrap()],
            ..MissingFacts::default()
        })
    );
    let details = [
        ("1.1.0", on("linux/amd64")),
        ("1.0.0", on("linux/amd64 linux/arm64/v8")),
    ];
    assert_eq!(
        chosen(&ask(spec, "1.0.0 1.1.0", &details, None, &Holds::default())),
        "1.0.0"
    );
}

#[test]
fn policy_newest_ignores_implausible_dates() {
    let spec = "policy: {newest: {}}";
    let on = |date: Option<&str>| TagFacts {
        created: Some(date.map(at)),
        ..TagFacts::default()
    };
    let PolicyOutcome::Needs(needs) = ask(
        spec,
        "a b",
        &[("a", on(Some("2026-01-01T00:00:00Z")))],
        None,
        &Holds::default(),
    ) else {
        panic!()
    };
    assert_eq!(needs.dates, [Tag::new("b").unwrap()]);
    let details = [
        ("a", on(Some("2026-02-01T00:00:00Z"))),
        ("b", on(Some("2026-01-01T00:00:00Z"))),
        ("c", on(None)),
    ];
    assert_eq!(
        chosen(&ask(spec, "a b c", &details, None, &Holds::default())),
        "a"
    );
    let many: Vec<String> = (0..200).map(|n| format!("t{n}")).collect();
    let PolicyOutcome::Needs(needs) = ask(spec, &many.join(" "), &[], None, &Holds::default())
    else {
        panic!()
    };
    assert_eq!(needs.dates.len(), 50, "one question is bounded");
}

#[test]
fn policy_newest_refuses_what_is_no_image() {
    let spec = "policy: {newest: {}}";
    let old = TagFacts {
        created: Some(Some(at("2026-01-01T00:00:00Z"))),
        ..TagFacts::default()
    };
    let chart = TagFacts {
        created: Some(Some(at("2026-02-01T00:00:00Z"))),
        artifact: Some("a Helm chart".to_owned()),
        ..TagFacts::default()
    };
    let gone = TagFacts {
        fresh: true,
        created: Some(None),
        ..TagFacts::default()
    };
    let details = [("a", old), ("b", chart), ("c", gone)];
    let outcome = ask(spec, "a b c", &details, None, &Holds::default());
    assert_eq!(chosen(&outcome), "a");
    let refusals = explained(spec, "a b c", &details);
    assert_eq!(refusals["b"], "is a Helm chart, not an image");
    assert_eq!(
        refusals["c"],
        "is listed by the registry, which does not have it"
    );
}

/// A dangling tag is refused alone, whatever else the policy asks for.
#[test]
fn policy_vanished_tag_gives_way_to_the_next() {
    let gone = TagFacts {
        fresh: true,
        ..TagFacts::default()
    };
    for spec in [
        "policy: {semver: {range: '*'}}",
        "policy: {numerical: {}}, filterTags: {pattern: '^1\\.(\\d)\\.0$', extract: $1}",
        "policy: {alphabetical: {}}",
        "policy: {semver: {range: '*'}}, minimumAge: 1h",
        "policy: {semver: {range: '*'}}, digestReflectionPolicy: Always",
    ] {
        let details = [
            ("1.2.0", gone.clone()),
            ("1.1.0", seen('a', "2026-01-01T00:00:00Z", true)),
            ("1.0.0", seen('b', "2026-01-01T00:00:00Z", true)),
        ];
        let tags = "1.0.0 1.1.0 1.2.0";
        let outcome = ask(spec, tags, &details, None, &Holds::default());
        assert_eq!(chosen(&outcome), "1.1.0", "{spec}");
        assert_eq!(
            explained(spec, tags, &details)["1.2.0"],
            "is listed by the registry, which does not have it",
            "{spec}"
        );
    }
}

#[test]
fn policy_digest_tag_confirmed_in_every_pass() {
    let spec = "policy: {digest: {tag: latest}}";
    assert_eq!(
        chosen(&ask(spec, "a latest", &[], None, &Holds::default())),
        "needs"
    );
    assert_eq!(
        chosen(&ask(
            spec,
            "a latest",
            &[("latest", seen('a', NOW, false))],
            None,
            &Holds::default()
        )),
        "needs"
    );
    let outcome = ask(
        spec,
        "a latest",
        &[("latest", seen('a', NOW, true))],
        None,
        &Holds::default(),
    );
    assert_eq!(
        outcome,
        PolicyOutcome::Chosen(Chosen {
            tag: Tag::new("latest").unwrap(),
            digest: Some(digest('a'))
        })
    );
    assert_eq!(
        chosen(&ask(spec, "a b", &[], None, &Holds::default())),
        "nothing"
    );
    let aged = "minimumAge: 1h, policy: {digest: {tag: latest}}";
    assert_eq!(
        chosen(&ask(
            aged,
            "latest",
            &[("latest", seen('a', NOW, true))],
            None,
            &Holds::default()
        )),
        "nothing"
    );
    let present = digest('a');
    assert_eq!(
        chosen(&ask(
            aged,
            "latest",
            &[("latest", seen('a', NOW, true))],
            Some(present.as_str()),
            &Holds::default()
        )),
        "latest"
    );
    assert_eq!(
        chosen(&ask(
            aged,
            "latest",
            &[("latest", seen('a', "2026-06-10T10:00:00Z", true))],
            None,
            &Holds::default()
        )),
        "latest"
    );
}

fn step(old: &str, new: &str, by_bot: bool) -> HeldMove {
    HeldMove {
        origin: MoveOrigin::Commit {
            id: "0123456789abcdef".to_owned(),
            author: "Ada".to_owned(),
        },
        time: at("2026-06-01T00:00:00Z"),
        by_bot,
        old: old.to_owned(),
        new: new.to_owned(),
        tag: None,
    }
}

#[test]
fn policy_closed_request_holds_its_proposal() {
    let semver = policy("policy: {semver: {range: '*'}}");
    // As a move back: from what was proposed to what stands there.
    let closed = |proposed: &str, stands: &str| HeldMove {
        origin: MoveOrigin::ClosedRequest {
            number: 12,
            author: "Ada".to_owned(),
        },
        ..step(proposed, stands, false)
    };
    let held = |moves: &[HeldMove]| {
        holds(&semver, moves)
            .iter()
            .map(|hold| hold.value.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(held(&[closed("1.1.0", "1.0.0")]), ["1.1.0"]);
    assert_eq!(
        held(&[closed("1.1.0", "latest")]),
        ["1.1.0"],
        "whatever stands there"
    );
    assert_eq!(
        held(&[closed("1.1.0", "1.0.0"), step("1.0.0", "1.1.0", false)]),
        [""; 0],
        "somebody writes it"
    );
    assert_eq!(
        held(&[closed("1.1.0", "1.0.0"), step("1.0.0", "1.0.5", true)]),
        ["1.1.0"]
    );
    assert_eq!(
        held(&[step("1.3.0", "1.0.0", false), closed("1.5.0", "1.4.0")]),
        ["1.3.0", "1.5.0"],
        "a closed request lifts nothing"
    );
    let holds = holds(&semver, &[closed("1.1.0", "1.0.0")]);
    let PolicyOutcome::Nothing { reason, .. } =
        ask("policy: {semver: {range: '*'}}", "1.1.0", &[], None, &holds)
    else {
        panic!()
    };
    assert_eq!(
        reason,
        "the best tag 1.1.0 is held: Ada closed pull request #12 (1.1.0) on 2026-06-01"
    );
    let newest = policy("policy: {newest: {}}");
    assert!(super::holds(&newest, &[closed("b", "a")]).of("b").is_some());
}

#[test]
fn policy_reverted_version_held_until_newer() {
    let semver = policy("policy: {semver: {range: '*'}}");
    let held = |moves: &[HeldMove]| {
        holds(&semver, moves)
            .iter()
            .map(|hold| hold.value.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        held(&[step("1.0.0", "1.1.0", true), step("1.1.0", "1.0.0", false)]),
        ["1.1.0"]
    );
    assert_eq!(
        held(&[step("1.1.0", "1.0.0", true)]),
        [""; 0],
        "the bot's own downgrade holds nothing"
    );
    assert_eq!(
        held(&[step("1.1.0", "1.0.0", false), step("1.0.0", "1.2.0", true)]),
        [""; 0],
        "newer lifts"
    );
    assert_eq!(
        held(&[step("1.1.0", "1.0.0", false), step("1.0.0", "1.1.0", true)]),
        [""; 0],
        "released"
    );
    assert_eq!(
        held(&[step("1.1.0", "1.0.0", false), step("1.0.0", "1.0.5", false)]),
        ["1.1.0"],
        "not reached"
    );
    assert_eq!(
        held(&[step("x", "1.0.0", false), step("1.0.0", "latest", false)]),
        [""; 0],
        "no order, no hold"
    );
    let newest = policy("policy: {newest: {}}");
    assert_eq!(
        holds(&newest, &[step("b", "a", false)])
            .iter()
            .next()
            .unwrap()
            .value,
        "b"
    );
    assert!(holds(&newest, &[step("b", "a", false), step("a", "b", true)]).is_empty());

    let holds = holds(&semver, &[step("1.1.0", "1.0.0", false)]);
    let spec = "policy: {semver: {range: '*'}}";
    assert_eq!(
        chosen(&ask(spec, "1.0.0 1.0.5 1.1.0", &[], Some("1.0.0"), &holds)),
        "1.0.0",
        "the present version is not held"
    );
    assert_eq!(
        chosen(&ask(
            spec,
            "1.0.0 1.0.5 1.1.0 1.2.0",
            &[],
            Some("1.0.0"),
            &holds
        )),
        "1.2.0"
    );
    let PolicyOutcome::Nothing { reason, .. } = ask(spec, "1.1.0", &[], None, &holds) else {
        panic!()
    };
    assert_eq!(
        reason,
        "the best tag 1.1.0 is held: Ada went back from 1.1.0 to 1.0.0 in 0123456789 of 2026-06-01"
    );
}

/// A hold reaches down to versions that were known before the revert, and only while the policy
/// could choose the held version.
#[test]
fn policy_hold_ends_at_what_is_newer() {
    let listed = |tag: &'static str, time: &str| {
        (
            tag,
            TagFacts {
                listed: Some(at(time)),
                ..TagFacts::default()
            },
        )
    };
    // The files followed 0.999.0, which a person took back on 1 June.
    let any = "policy: {semver: {range: '*'}}";
    let holds = holds(&policy(any), &[step("0.999.0", "0.110.3", false)]);
    let before = [listed("0.110.4", "2026-05-31T00:00:00Z")];
    let after = [listed("0.110.4", "2026-06-02T00:00:00Z")];
    let all = "0.110.2 0.110.3 0.110.4 0.999.0";
    for (spec, tags, facts, expected) in [
        (any, all, &[][..], "0.110.3"),
        (any, all, &before[..], "0.110.3"),
        (any, all, &after[..], "0.110.4"),
        (any, "0.110.3 0.110.4", &[][..], "0.110.4"),
        (
            "ignoreTags: ['0.999.0'], policy: {semver: {range: '*'}}",
            all,
            &[][..],
            "0.110.4",
        ),
        (
            "policy: {semver: {range: '<0.900.0'}}",
            all,
            &[][..],
            "0.110.4",
        ),
        (
            "filterTags: {exclude: ['999']}, policy: {semver: {range: '*'}}",
            all,
            &[][..],
            "0.110.4",
        ),
    ] {
        let outcome = ask(spec, tags, facts, Some("0.110.3"), &holds);
        assert_eq!(chosen(&outcome), expected, "{spec}: {tags}");
    }
    let policy = policy(any);
    let tags: TagList = all.split(' ').collect();
    let question = PolicyInput {
        policy: &policy,
        present: Some("0.110.3"),
        holds: &holds,
        now: at(NOW),
    };
    let facts = RegistryFacts {
        tags: &tags,
        details: &HashMap::new(),
    };
    let held: Vec<String> = explain(&question, &facts)
        .1
        .into_iter()
        .filter(|(_, refusal)| matches!(refusal, Refusal::Held(_)))
        .map(|(tag, _)| tag)
        .collect();
    assert_eq!(held, ["0.110.4", "0.999.0"], "neither running nor older");
}

#[test]
fn policy_revert_of_several_files_is_one_hold() {
    let moves = [step("1.1.0", "1.0.0", false), step("1.1.0", "1.0.0", false)];
    let semver = policy("policy: {semver: {range: '*'}}");
    assert_eq!(holds(&semver, &moves).iter().count(), 1);
}

#[test]
fn policy_orders_current_values() {
    use Comparison::{Equal, Lower, Newer, Unorderable};
    for (spec, present, chosen, expected) in [
        ("policy: {semver: {range: '>=6'}}", "5.0.0", "6.0.0", Newer),
        ("policy: {semver: {range: '<6'}}", "6.0.0", "5.9.0", Lower),
        ("policy: {semver: {range: '*'}}", "v1.0.0", "1.0.0", Equal),
        (
            "policy: {semver: {range: '*'}}",
            "latest",
            "1.0.0",
            Unorderable,
        ),
        (
            "policy: {semver: {range: '*'}}",
            "1.0.0-rc.1",
            "1.0.0",
            Newer,
        ),
        (
            "filterTags: {pattern: '^a-(\\d+)$', extract: '$1'}, policy: {numerical: {}}",
            "a-9",
            "a-10",
            Newer,
        ),
        (
            "filterTags: {pattern: '^a-(\\d+)$', extract: '$1'}, policy: {numerical: {}}",
            "b-9",
            "a-10",
            Unorderable,
        ),
        ("policy: {alphabetical: {order: desc}}", "b", "a", Newer),
        ("policy: {alphabetical: {}}", "b", "a", Lower),
        ("policy: {newest: {}}", "b", "a", Newer),
        (
            "policy: {digest: {tag: latest}}",
            "1.0",
            "latest",
            Unorderable,
        ),
        ("policy: {digest: {tag: latest}}", "latest", "latest", Equal),
    ] {
        assert_eq!(
            standing(&policy(spec), present, chosen),
            expected,
            "{spec}: {present} → {chosen}"
        );
    }
}

#[test]
fn policy_reason_texts_table() {
    let policy = policy(
        "ignoreTags: ['6.4.1'], filterTags: {exclude: ['-beta']}, policy: {semver: {range: '>=6.0.0 <7.0.0'}}",
    );
    let tags: TagList = "6.4.1 7.0.0 6.5.0-rc.1 6.6.0-beta latest 6.3 6.2.0 6.4.0"
        .split(' ')
        .collect();
    let question = PolicyInput {
        policy: &policy,
        present: None,
        holds: &Holds::default(),
        now: at(NOW),
    };
    let (_, reasons) = explain(
        &question,
        &RegistryFacts {
            tags: &tags,
            details: &HashMap::new(),
        },
    );
    let reasons: Vec<String> = reasons
        .iter()
        .map(|(tag, refusal)| format!("{tag} {refusal}"))
        .collect();
    assert_eq!(
        reasons,
        [
            "6.4.1 is listed in ignoreTags",
            "7.0.0 is outside the range \">=6.0.0 <7.0.0\"",
            "6.5.0-rc.1 is a pre-release, which the range \">=6.0.0 <7.0.0\" does not take",
            "6.6.0-beta matches the exclusion \"-beta\"",
            "latest is no version",
            "6.3 has fewer than three numeric parts, so it is no version",
            "6.2.0 is eligible, but 6.4.0 is preferred",
        ]
    );
}

proptest! {
    /// Judging only the tags above gives the same reasons as judging all of them.
    #[test]
    fn policy_refused_above_equals_explain(
        tags in proptest::collection::vec("(v?[0-3]\\.[0-2]\\.[0-2](-(rc|x)\\.[0-2])?|[a-c]{1,3}-[0-9])", 1..12),
        young in proptest::collection::vec(0u8..3, 12),
        hold in 0usize..12,
        spec in 0usize..5,
    ) {
        let policy = policy([
            "policy: {semver: {range: '<3.0.0'}}",
            "ignoreTags: ['2.0.0'], policy: {semver: {range: '*'}}",
            "minimumAge: 1h, policy: {semver: {range: '*'}}",
            "policy: {alphabetical: {order: desc}}",
            "filterTags: {pattern: '^[a-c]+-([0-9])$', extract: '$1'}, policy: {numerical: {}}",
        ][spec]);
        let mut tags = tags;
        tags.dedup();
        let details = tags.iter().zip(&young).map(|(tag, young)| {
            let since = if *young == 0 { at(NOW) } else { at("2026-06-01T12:00:00Z") };
            (tag.clone(), TagFacts { digest: Some(digest('a')), fresh: *young < 2, since: Some(since), ..TagFacts::default() })
        });
        let details: HashMap<String, TagFacts> = details.collect();
        let held = &tags[hold % tags.len()];
        let holds = if spec == 1 { holds(&policy, &[step(held, "0.0.1", false)]) } else { Holds::default() };
        let list: TagList = tags.iter().map(String::as_str).collect();
        let facts = RegistryFacts { tags: &list, details: &details };
        let question = PolicyInput { policy: &policy, present: None, holds: &holds, now: at(NOW) };
        let (outcome, reasons) = explain(&question, &facts);
        prop_assume!(!matches!(outcome, PolicyOutcome::Needs(_)));
        let chosen = match &outcome {
            PolicyOutcome::Chosen(chosen) => chosen.tag.as_str().to_owned(),
            _ => tags[0].clone(),
        };
        let mut expected: Vec<(String, String)> = reasons
            .into_iter()
            .filter(|(tag, refusal)| {
                !matches!(refusal, Refusal::NotBest { .. } | Refusal::Unknown)
                    && standing(&policy, &chosen, tag) == Comparison::Newer
            })
            .map(|(tag, refusal)| (tag, refusal.to_string()))
            .collect();
        let above = refused_above(&question, &facts, &chosen, usize::MAX);
        let mut above: Vec<(String, String)> = above
            .into_iter()
            .map(|(tag, refusal)| (tag, refusal.to_string()))
            .collect();
        expected.sort();
        above.sort();
        prop_assert_eq!(above, expected, "above {}", chosen);
    }
}
