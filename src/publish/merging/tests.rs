//! Each rule of a merge, their combinations, and random worlds against an oracle of its own.

use super::*;
use crate::{
    forge::Check,
    publish::FileLine,
    schedule::{CronLine, duration},
    version,
};
use proptest::prelude::*;

const SETTLING_WORDS: &str = "Its checks ended at 2026-11-21 11:59:00 UTC; another one may begin until 2026-11-21 12:01:00 UTC. It does not wait \
    for checks that autoMerge.requireChecks names or main requires.";

/// Saturday.
const NOW: &str = "2026-11-21T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn row(image: &str, old: &str, new: &str) -> ImageMove {
    ImageMove {
        policy: format!("apps/{image}").parse().unwrap(),
        repository: crate::image::Repository::new(&format!("ghcr.io/acme/{image}")).unwrap(),
        old: Some(old.to_owned()),
        new: crate::image::Tag::new(new).unwrap(),
        digest: None,
        bump: version::bump(Some(old), new),
        places: vec![FileLine { file: "envs/dev/app.yaml".to_owned(), line: 12 }],
    }
}

fn check(name: &str, state: CheckState) -> Check {
    Check { name: name.to_owned(), state, required: false, url: None, at: Some(at("2026-11-21T11:00:00Z")) }
}

/// Everything that a decision borrows; as it is, every rule holds.
#[derive(Debug, Clone)]
struct World {
    auto_merge: AutoMerge,
    windows: Vec<Window>,
    moves: Vec<ImageMove>,
    seen: Vec<Option<Timestamp>>,
    request: Request,
    checks: Option<Checks>,
    approvals: Option<Approvals>,
    own: bool,
    current: bool,
    target: &'static str,
    outlook: Outlook,
    now: Timestamp,
}

impl World {
    fn good() -> Self {
        let request = Request {
            number: 12,
            url: "https://forge.example.org/acme/fleet/pulls/12".to_owned(),
            state: State::Open,
            head: "tagboat/dev/all".to_owned(),
            head_commit: "6dcb09b5b57875f334f61aebed695e2e4193db5e".to_owned(),
            base: "main".to_owned(),
            title: "dev: web 1.0.0 → 1.0.1".to_owned(),
            body: String::new(),
            labels: vec!["images".to_owned()],
            author: "bot".to_owned(),
            draft: false,
            opened: None,
            updated: None,
            ended: None,
            mergeable: Mergeable::Yes,
            id: String::new(),
        };
        Self {
            auto_merge: AutoMerge { bump: vec![Bump::Patch, Bump::Digest], minimum_age: None, require_checks: RequireChecks::Any },
            windows: Vec::new(),
            moves: vec![row("web", "1.0.0", "1.0.1")],
            seen: vec![Some(at("2026-11-21T10:00:00Z"))],
            request,
            checks: Some(Checks::of(vec![check("ci/build", CheckState::Passed)])),
            approvals: Some(Approvals::default()),
            own: true,
            current: true,
            target: "main",
            outlook: Outlook::Clear,
            now: at(NOW),
        }
    }

    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut world = Self::good();
        change(&mut world);
        world
    }

    fn decide(&self) -> Merging {
        decide(&Asked {
            auto_merge: &self.auto_merge,
            windows: &self.windows,
            moves: &self.moves,
            seen: &self.seen,
            request: &self.request,
            checks: self.checks.as_ref(),
            approvals: self.approvals.as_ref(),
            own: self.own,
            current: self.current,
            target: self.target,
            outlook: &self.outlook,
            now: self.now,
        })
    }

    /// When its only check ended.
    fn ended(&mut self, time: &str) {
        self.checks.as_mut().unwrap().named[0].at = Some(at(time));
    }

    /// Names the checks that must pass.
    fn name(&mut self, names: &[&str]) {
        self.auto_merge.require_checks = RequireChecks::Named(names.iter().map(|name| (*name).to_owned()).collect());
    }

    fn checks(&mut self, checks: &[(&str, CheckState)]) {
        self.checks = Some(Checks::of(checks.iter().map(|(name, state)| check(name, *state)).collect()));
    }
}

fn window(cron: &str, open: &str) -> Window {
    Window::new(CronLine::new(cron, None).unwrap(), duration(open).unwrap())
}

/// The reasons, the time, and whether the forge is to be asked.
fn waits(world: &World) -> (Vec<String>, Option<String>, bool) {
    match world.decide() {
        Merging::Now => (Vec::new(), None, false),
        Merging::Waits { reasons, until, ask } => (reasons, until.map(|at| at.to_string()), ask),
    }
}

#[test]
fn every_rule_is_a_sentence_while_it_does_not_hold() {
    type Case = (fn(&mut World), &'static str, Option<&'static str>, bool);
    let cases: &[Case] = &[
        (|w| w.request.state = State::Closed, "The request is not open any more.", None, false),
        (|w| w.request.draft = true, "The request is a draft.", None, false),
        (|w| w.request.labels.push(HOLD.to_owned()), "The label tagboat/hold is on the request.", None, false),
        (|w| w.own = false, "Its branch has a commit by somebody else.", None, false),
        (|w| w.current = false, "Its branch does not have what is wanted now; it is built anew first.", None, false),
        (|w| w.target = "stable", "It was pointed at main, not at stable.", None, false),
        (
            |w| w.outlook = Outlook::Refused("Deployment shop/web: no tag\nlatest here".to_owned()),
            "A cluster refuses it in a dry run: Deployment shop/web: no tag latest here.",
            None,
            false,
        ),
        (
            |w| w.outlook = Outlook::Broken("apps/web: helm ended.".to_owned()),
            "What it does on clusters cannot be said: apps/web: helm ended.",
            None,
            false,
        ),
        (
            |w| w.outlook = Outlook::Unknown("cluster dev cannot be asked".to_owned()),
            "What it does on clusters is not known yet: cluster dev cannot be asked.",
            None,
            false,
        ),
        (|w| w.request.mergeable = Mergeable::Conflicts, "It conflicts with main; it is built anew first.", None, false),
        (
            |w| w.request.mergeable = Mergeable::Behind,
            "Its branch must contain the newest commit of main; it is built anew first.",
            None,
            false,
        ),
        (|w| w.moves.clear(), "Which images it moves is not known.", None, false),
        (
            |w| w.moves = vec![row("web", "1.0.0", "2.0.0")],
            "web 1.0.0 → 2.0.0 is a step of kind major; autoMerge.bump has patch and digest only.",
            None,
            false,
        ),
        (
            |w| w.auto_merge.minimum_age = Some(duration("24h").unwrap()),
            "web 1.0.1 was first seen 2026-11-21 10:00:00 UTC; it is 24h old at 2026-11-22 10:00:00 UTC.",
            Some("2026-11-22T10:00:00Z"),
            false,
        ),
        (
            |w| (w.auto_merge.minimum_age, w.seen) = (Some(duration("1h").unwrap()), vec![None]),
            "web 1.0.1 has not been seen by a scan yet, so that its age is not known.",
            None,
            false,
        ),
        (
            |w| (w.auto_merge.minimum_age, w.seen) = (Some(duration("1h").unwrap()), Vec::new()),
            "web 1.0.1 has not been seen by a scan yet, so that its age is not known.",
            None,
            false,
        ),
        (
            |w| (w.auto_merge.minimum_age, w.seen) = (Some(duration("1h").unwrap()), vec![Some(Timestamp::MAX)]),
            "web 1.0.1 never comes to an age of 1h.",
            None,
            false,
        ),
        (
            |w| w.windows = vec![window("0 9 * * 1-5", "8h")],
            "No window is open before 2026-11-23 09:00:00 UTC.",
            Some("2026-11-23T09:00:00Z"),
            false,
        ),
        (|w| w.checks = None, "Its checks have not been read yet.", None, true),
        (|w| w.checks(&[]), "No check has said anything about it; autoMerge.requireChecks: false merges without.", None, true),
        (
            |w| w.checks(&[("ci/build", CheckState::Skipped)]),
            "No check has said anything about it; autoMerge.requireChecks: false merges without.",
            None,
            true,
        ),
        // The bot's own word is no check, good or bad.
        (
            |w| w.checks(&[("tagboat/rollout/dev", CheckState::Passed)]),
            "No check has said anything about it; autoMerge.requireChecks: false merges without.",
            None,
            true,
        ),
        (|w| w.checks(&[("a", CheckState::Passed), ("b", CheckState::Pending)]), "The check b has not ended.", None, true),
        (
            |w| {
                w.auto_merge.require_checks = RequireChecks::No;
                w.checks(&["a", "b", "c", "d", "e", "f", "g"].map(|name| (name, CheckState::Pending)));
            },
            "The checks a, b, c, d, e and 2 more have not ended.",
            None,
            true,
        ),
        (
            |w| {
                w.auto_merge.require_checks = RequireChecks::No;
                w.checks(&[("lint\u{202e}\n", CheckState::Failed), ("a", CheckState::Pending)]);
            },
            "The check lint\\u{202e} failed.",
            None,
            true,
        ),
        // Another one may begin, where nobody says which there are.
        (|w| w.ended("2026-11-21T11:59:00Z"), SETTLING_WORDS, Some("2026-11-21T12:01:00Z"), true),
        (
            |w| (w.checks.as_mut().unwrap().named[0].at, w.request.updated) = (None, Some(at("2026-11-21T11:59:00Z"))),
            SETTLING_WORDS,
            Some("2026-11-21T12:01:00Z"),
            true,
        ),
        (
            |w| w.checks.as_mut().unwrap().named[0].at = None,
            "When its checks ended is not told; name them in autoMerge.requireChecks.",
            None,
            true,
        ),
        // The last one counts, skipped or not.
        (
            |w| {
                w.checks(&[("a", CheckState::Passed), ("b", CheckState::Skipped)]);
                w.checks.as_mut().unwrap().named[1].at = Some(at("2026-11-21T11:59:00Z"));
            },
            SETTLING_WORDS,
            Some("2026-11-21T12:01:00Z"),
            true,
        ),
        (|w| w.name(&["ci/build", "e2e"]), "The check e2e has said nothing yet.", None, true),
        (|w| w.name(&["tagboat/rollout/dev", "e2e"]), "The checks tagboat/rollout/dev and e2e have said nothing yet.", None, true),
        (
            |w| {
                w.name(&["a", "b"]);
                w.checks(&[("a", CheckState::Passed), ("b", CheckState::Skipped)]);
            },
            "The check b was skipped, and must pass.",
            None,
            true,
        ),
        (
            |w| {
                w.name(&["a"]);
                w.checks(&[("a", CheckState::Passed), ("b", CheckState::Failed)]);
            },
            "The check b failed.",
            None,
            true,
        ),
        (|w| w.approvals = None, "Its approvals have not been read yet.", None, true),
        (
            |w| w.approvals.as_mut().unwrap().changes_requested = vec!["ann".to_owned(), "bob".to_owned()],
            "ann and bob want changes.",
            None,
            true,
        ),
        (|w| w.approvals.as_mut().unwrap().required = Some(1), "It has 0 of 1 approvals.", None, true),
        (
            |w| (w.approvals) = Some(Approvals { by: vec!["ann".to_owned()], required: Some(2), ..Approvals::default() }),
            "It has 1 of 2 approvals, by ann.",
            None,
            true,
        ),
        (
            |w| {
                w.approvals =
                    Some(Approvals { earlier: vec!["ann".to_owned(), "bob".to_owned()], required: Some(1), ..Approvals::default() })
            },
            "It has 0 of 1 approvals; ann and bob approved an earlier state of it.",
            None,
            true,
        ),
        (
            |w| w.approvals = Some(Approvals { earlier: vec!["ann".to_owned()], ..Approvals::default() }),
            "ann approved an earlier state of it; how many approvals main needs is not told.",
            None,
            true,
        ),
        (
            |w| w.request.mergeable = Mergeable::Blocked("locked\nby ann".to_owned()),
            "The forge does not merge it yet: locked by ann.",
            None,
            true,
        ),
        (|w| w.request.mergeable = Mergeable::Unknown, "The forge has not said yet whether it can be merged.", None, true),
    ];
    assert_eq!(World::good().decide(), Merging::Now);
    for (change, reason, until, ask) in cases {
        let expected = (vec![(*reason).to_owned()], until.map(str::to_owned), *ask);
        assert_eq!(waits(&World::with(change)), expected, "{reason}");
    }
}

#[test]
fn what_the_rules_allow_is_merged() {
    let cases: &[fn(&mut World)] = &[
        |w| w.checks(&[("a", CheckState::Passed), ("b", CheckState::Skipped)]),
        |w| w.checks(&[("a", CheckState::Passed), ("tagboat/rollout/dev", CheckState::Failed)]),
        |w| {
            w.auto_merge.require_checks = RequireChecks::No;
            w.checks(&[]);
        },
        // Two minutes after its last check; at once where it is known which there are, or where none need be.
        |w| w.ended("2026-11-21T11:58:00Z"),
        |w| {
            w.ended("2026-11-21T12:00:00Z");
            w.checks.as_mut().unwrap().named[0].required = true;
        },
        |w| {
            w.ended("2026-11-21T12:00:00Z");
            w.name(&["ci/build"]);
        },
        |w| {
            w.ended("2026-11-21T12:00:00Z");
            w.auto_merge.require_checks = RequireChecks::No;
        },
        |w| w.auto_merge.minimum_age = Some(duration("2h").unwrap()),
        |w| w.windows = vec![window("0 9 * * 1-5", "8h"), window("0 12 * * 6", "1h")],
        |w| w.approvals = Some(Approvals { by: vec!["ann".to_owned()], required: Some(1), ..Approvals::default() }),
        |w| w.request.labels = vec!["tagboat/rebase".to_owned(), "hold".to_owned()],
        // An age is asked for only where a minimum is written.
        |w| w.seen.clear(),
    ];
    for (index, change) in cases.iter().enumerate() {
        assert_eq!(World::with(change).decide(), Merging::Now, "case {index}");
    }
}

#[test]
fn reasons_stand_together_and_the_last_time_counts() {
    let world = World::with(|w| {
        w.auto_merge.minimum_age = Some(duration("72h").unwrap());
        w.windows = vec![window("0 9 * * 1-5", "8h")];
        w.moves = vec![row("api", "1.0.0", "1.0.1"), row("web", "1.0.0", "1.1.0")];
        w.seen = vec![Some(at("2026-11-21T10:00:00Z")), Some(at("2026-11-01T10:00:00Z"))];
        w.checks = None;
        w.request.mergeable = Mergeable::Blocked("a check is missing".to_owned());
    });
    let (reasons, until, ask) = waits(&world);
    assert_eq!(
        reasons,
        [
            "web 1.0.0 → 1.1.0 is a step of kind minor; autoMerge.bump has patch and digest only.",
            "api 1.0.1 was first seen 2026-11-21 10:00:00 UTC; it is 72h old at 2026-11-24 10:00:00 UTC.",
            "No window is open before 2026-11-23 09:00:00 UTC.",
        ]
    );
    assert_eq!((until.as_deref(), ask), (Some("2026-11-24T10:00:00Z"), false));
    // A time that never comes leaves nothing to wake up for.
    let never = World::with(|w| {
        w.auto_merge.minimum_age = Some(duration("72h").unwrap());
        w.moves.push(row("api", "1.0.0", "1.0.1"));
        w.seen.push(Some(Timestamp::MAX));
    });
    assert_eq!(waits(&never).1, None);
}

/// What `requireChecks` says, once more.
fn enough(w: &World, checks: &[Check]) -> bool {
    let mut counting = checks.iter().filter(|c| !c.name.starts_with("tagboat/"));
    let passed = |name: Option<&str>| {
        checks.iter().any(|c| !c.name.starts_with("tagboat/") && c.state == CheckState::Passed && name.is_none_or(|name| name == c.name))
    };
    match &w.auto_merge.require_checks {
        RequireChecks::No => true,
        RequireChecks::Named(names) => names.iter().all(|name| passed(Some(name))),
        RequireChecks::Any if !passed(None) => false,
        RequireChecks::Any => {
            counting.clone().any(|c| c.required) || counting.all(|c| c.at.is_some_and(|at| w.now.as_second() - at.as_second() >= 120))
        }
    }
}

/// The rules once more, as the declaration and the plan say them, without a word of the code above.
fn allowed(w: &World) -> bool {
    let no_bad_check = |c: &Check| c.name.starts_with("tagboat/") || matches!(c.state, CheckState::Passed | CheckState::Skipped);
    let checks = w.checks.as_ref().is_some_and(|checks| checks.named.iter().all(no_bad_check) && enough(w, &checks.named));
    let approvals = w.approvals.as_ref().is_some_and(Approvals::suffice);
    let old_enough = w.auto_merge.minimum_age.is_none_or(|age| {
        w.seen.len() >= w.moves.len()
            && w.seen
                .iter()
                .take(w.moves.len())
                .all(|seen| seen.is_some_and(|seen| w.now.as_second() - seen.as_second() >= i64::try_from(age.as_secs()).unwrap()))
    });
    let bumps = !w.moves.is_empty() && w.moves.iter().all(|row| w.auto_merge.bump.contains(&row.bump));
    let open = w.windows.is_empty() || w.windows.iter().any(|window| window.is_open(w.now));
    let quiet = !w.request.draft && !w.request.labels.iter().any(|label| label == "tagboat/hold");
    let forge = w.request.state == State::Open && w.request.mergeable == Mergeable::Yes;
    checks
        && approvals
        && old_enough
        && bumps
        && open
        && quiet
        && forge
        && w.own
        && w.current
        && w.target == "main"
        && w.outlook == Outlook::Clear
}

/// Mostly the first.
fn mostly<T: Clone + std::fmt::Debug + 'static>(usual: T, others: Vec<T>) -> impl Strategy<Value = T> {
    prop_oneof![6 => Just(usual), 1 => proptest::sample::select(others)]
}

prop_compose! {
    fn worlds()(
        people in (
            mostly(State::Open, vec![State::Merged, State::Closed]),
            mostly(false, vec![true]),
            mostly(vec![], vec![vec![HOLD.to_owned()], vec!["x".to_owned(), HOLD.to_owned()]]),
            mostly(Mergeable::Yes, vec![Mergeable::Unknown, Mergeable::Conflicts, Mergeable::Behind, Mergeable::Blocked("x".to_owned())]),
        ),
        branch in (
            mostly(true, vec![false]),
            mostly(true, vec![false]),
            mostly("main", vec!["stable"]),
            mostly(Outlook::Clear, vec![Outlook::Refused("x".to_owned()), Outlook::Broken("x".to_owned()), Outlook::Unknown("x".to_owned())]),
        ),
        images in proptest::collection::vec(
            (mostly("1.0.1", vec!["1.1.0", "2.0.0", "main"]), mostly(Some(7200), vec![None, Some(0), Some(3599), Some(3600)])),
            0..4,
        ),
        rules in (mostly(Some("1h"), vec![None]), proptest::sample::select(vec![None, Some(vec![]), Some(vec!["a"]), Some(vec!["a", "b"])]), mostly(vec!["0 12 * * *"], vec![vec!["0 9 * * 1-5"], vec!["0 3 * * 0", "0 12 * * 6"]])),
        checks in mostly(Some(()), vec![None]),
        named in proptest::collection::vec(
            (
                proptest::sample::select(vec!["a", "b", "tagboat/rollout/dev"]),
                mostly(CheckState::Passed, vec![CheckState::Skipped, CheckState::Pending, CheckState::Failed]),
                mostly(false, vec![true]),
                mostly(120, vec![0, 119, -5]),
            ),
            0..4,
        ),
        approvals in mostly(
            Some((1, Some(1), 0)),
            vec![None, Some((0, None, 0)), Some((0, Some(1), 0)), Some((2, Some(1), 1)), Some((2, Some(3), 0))],
        ),
    ) -> World {
        World::with(|w| {
            (w.request.state, w.request.draft, w.request.labels, w.request.mergeable) = people;
            (w.own, w.current, w.target, w.outlook) = branch;
            w.moves = images.iter().map(|(new, _)| row("web", "1.0.0", new)).collect();
            let now = w.now;
            let back = |age: i64| now.checked_sub(SignedDuration::from_secs(age)).unwrap();
            w.seen = images.iter().map(|(_, age)| age.map(back)).collect();
            w.auto_merge.minimum_age = rules.0.map(|age| duration(age).unwrap());
            match rules.1 {
                None => w.auto_merge.require_checks = RequireChecks::No,
                Some(names) if names.is_empty() => {}
                Some(names) => w.name(&names),
            }
            w.windows = rules.2.iter().map(|cron| window(cron, "1h")).collect();
            w.checks = checks.map(|()| Checks::of(named
                .iter()
                .map(|(name, state, required, ago)| Check { required: *required, at: Some(back(*ago)), ..check(name, *state) })
                .collect()));
            w.approvals = approvals.map(|(by, required, against): (usize, Option<u32>, usize)| Approvals {
                by: vec!["ann".to_owned(); by],
                required,
                changes_requested: vec!["bob".to_owned(); against],
                // They never help.
                earlier: vec!["kim".to_owned(); by],
            });
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn it_merges_exactly_if_every_rule_holds(world in worlds()) {
        match world.decide() {
            Merging::Now => prop_assert!(allowed(&world)),
            Merging::Waits { reasons, until, ask } => {
                prop_assert!(!allowed(&world));
                prop_assert!(!reasons.is_empty());
                prop_assert!(reasons.iter().all(|reason| reason.ends_with('.') && !reason.contains('\n')));
                prop_assert!(until.is_none_or(|until| until > world.now));
                // Asking helps: with good answers from the forge it merges.
                let mut answered = world;
                if !matches!(answered.request.mergeable, Mergeable::Conflicts | Mergeable::Behind) {
                    answered.request.mergeable = Mergeable::Yes;
                }
                (answered.checks, answered.approvals) = (World::good().checks, World::good().approvals);
                answered.auto_merge.require_checks = RequireChecks::Any;
                prop_assert_eq!(ask, answered.decide() == Merging::Now);
            }
        }
    }
}
