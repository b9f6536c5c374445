//! Each rule of a merge, and their combinations.

mod oracle;

use super::*;
use crate::{
    core::{
        schedule::{CronLine, duration},
        version,
    },
    review::FileLine,
    review::types::Check,
};
use proptest::prelude::*;

const SETTLING_WORDS: &str = "Its checks finished at 2026-11-21 11:59:00 UTC; another one may start \
     until 2026-11-21 12:01:00 UTC. Name them in autoMerge.requireChecks, or require them on main, \
     to merge sooner.";

/// Saturday.
const NOW: &str = "2026-11-21T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn row(image: &str, old: &str, new: &str) -> ImageMove {
    ImageMove {
        policy: format!("apps/{image}").parse().unwrap(),
        repository: crate::core::image::ImageRepository::new(&format!("ghcr.io/acme/{image}"))
            .unwrap(),
        old: Some(old.to_owned()),
        new: crate::core::image::Tag::new(new).unwrap(),
        digest: None,
        bump: version::bump(Some(old), new),
        places: vec![FileLine {
            file: "envs/dev/app.yaml".to_owned(),
            line: 12,
        }],
    }
}

fn check(name: &str, state: CheckState) -> Check {
    Check {
        name: name.to_owned(),
        state,
        required: false,
        url: None,
        at: Some(at("2026-11-21T11:00:00Z")),
        app: None,
    }
}

fn required(name: &str, app: Option<&str>) -> RequiredCheck {
    RequiredCheck {
        name: name.to_owned(),
        app: app.map(str::to_owned),
    }
}

/// Everything that a decision borrows; as it is, every rule holds.
#[derive(Debug, Clone)]
struct MergeFixture {
    auto_merge: AutoMerge,
    windows: Vec<Window>,
    moves: Vec<ImageMove>,
    first_seen: Vec<Option<Timestamp>>,
    request: PullRequest,
    checks: Option<Checks>,
    approvals: Option<Approvals>,
    own: bool,
    current: bool,
    target: &'static str,
    preview: PreviewSummary,
    now: Timestamp,
}

impl MergeFixture {
    fn good() -> Self {
        let request = PullRequest {
            number: 12,
            url: "https://forge.example.org/acme/fleet/pulls/12".to_owned(),
            state: RequestStatus::Open,
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
            auto_merge: AutoMerge {
                bump: vec![Bump::Patch, Bump::Digest],
                minimum_age: None,
                require_checks: RequireChecks::Any,
            },
            windows: Vec::new(),
            moves: vec![row("web", "1.0.0", "1.0.1")],
            first_seen: vec![Some(at("2026-11-21T10:00:00Z"))],
            request,
            checks: Some(Checks::of(vec![check("ci/build", CheckState::Passed)])),
            approvals: Some(Approvals::default()),
            own: true,
            current: true,
            target: "main",
            preview: PreviewSummary::Clear,
            now: at(NOW),
        }
    }

    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut world = Self::good();
        change(&mut world);
        world
    }

    fn decide(&self) -> MergeDecision {
        decide(&MergeInput {
            auto_merge: &self.auto_merge,
            windows: &self.windows,
            moves: &self.moves,
            first_seen: &self.first_seen,
            request: &self.request,
            checks: self.checks.as_ref(),
            approvals: self.approvals.as_ref(),
            own: self.own,
            current: self.current,
            target: self.target,
            preview: &self.preview,
            now: self.now,
        })
    }

    /// When its only check ended.
    fn ended(&mut self, time: &str) {
        self.checks.as_mut().unwrap().named[0].at = Some(at(time));
    }

    /// Names the checks that must pass.
    fn name(&mut self, names: &[&str]) {
        self.auto_merge.require_checks =
            RequireChecks::Named(names.iter().map(|name| required(name, None)).collect());
    }

    /// Names the App that must have reported `ci/test`, and the states that Apps reported.
    fn reported(&mut self, app: &str, by: &[(Option<&str>, CheckState)]) {
        self.auto_merge.require_checks = RequireChecks::Named(vec![required("ci/test", Some(app))]);
        let checks = by.iter().map(|(app, state)| Check {
            app: app.map(str::to_owned),
            ..check("ci/test", *state)
        });
        self.checks = Some(Checks::of(checks.collect()));
    }

    fn checks(&mut self, checks: &[(&str, CheckState)]) {
        self.checks = Some(Checks::of(
            checks
                .iter()
                .map(|(name, state)| check(name, *state))
                .collect(),
        ));
    }
}

fn window(cron: &str, open: &str) -> Window {
    Window::new(CronLine::new(cron, None).unwrap(), duration(open).unwrap())
}

/// The reasons, the time, and whether the forge is to be asked.
fn waits(world: &MergeFixture) -> (Vec<String>, Option<String>, bool) {
    match world.decide() {
        MergeDecision::Now => (Vec::new(), None, false),
        MergeDecision::Waits {
            reasons,
            until,
            ask,
        } => (reasons, until.map(|at| at.to_string()), ask),
    }
}

#[test]
fn merging_unmet_rule_has_its_sentence() {
    type Case = (
        fn(&mut MergeFixture),
        &'static str,
        Option<&'static str>,
        bool,
    );
    let cases: &[Case] = &[
        (
            |w| w.request.state = RequestStatus::Closed,
            "The pull request is no longer open.",
            None,
            false,
        ),
        (
            |w| w.request.draft = true,
            "The pull request is a draft.",
            None,
            false,
        ),
        (
            |w| w.request.labels.push(HOLD.to_owned()),
            "The label tagboat/hold is on the pull request.",
            None,
            false,
        ),
        (
            |w| w.own = false,
            "Its branch has a commit by someone else.",
            None,
            false,
        ),
        (
            |w| w.current = false,
            "Its branch does not have the desired change; it is rebuilt first.",
            None,
            false,
        ),
        (
            |w| w.target = "stable",
            "Its base is main, not stable.",
            None,
            false,
        ),
        (
            |w| {
                w.preview =
                    PreviewSummary::Refused("Deployment shop/web: no tag\nlatest here".to_owned())
            },
            "A cluster refuses it in a dry run: Deployment shop/web: no tag latest here.",
            None,
            false,
        ),
        (
            |w| w.preview = PreviewSummary::Broken("apps/web: helm ended.".to_owned()),
            "Its effect on clusters cannot be determined: apps/web: helm ended.",
            None,
            false,
        ),
        (
            |w| w.preview = PreviewSummary::Unknown("cluster dev cannot be asked".to_owned()),
            "Its effect on clusters is not known yet: cluster dev cannot be asked.",
            None,
            false,
        ),
        (
            |w| w.request.mergeable = Mergeable::Conflicts,
            "It conflicts with main; it is rebuilt first.",
            None,
            false,
        ),
        (
            |w| w.request.mergeable = Mergeable::Behind,
            "Its branch must contain the newest commit of main; it is rebuilt first.",
            None,
            false,
        ),
        (
            |w| w.moves.clear(),
            "The images that it moves are unknown.",
            None,
            false,
        ),
        (
            |w| w.moves = vec![row("web", "1.0.0", "2.0.0")],
            "web 1.0.0 → 2.0.0 is a major step; autoMerge.bump allows patch and digest only.",
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
            |w| {
                (w.auto_merge.minimum_age, w.first_seen) =
                    (Some(duration("1h").unwrap()), vec![None])
            },
            "web 1.0.1 has not been scanned yet, so its age is unknown.",
            None,
            false,
        ),
        (
            |w| {
                (w.auto_merge.minimum_age, w.first_seen) =
                    (Some(duration("1h").unwrap()), Vec::new())
            },
            "web 1.0.1 has not been scanned yet, so its age is unknown.",
            None,
            false,
        ),
        (
            |w| {
                (w.auto_merge.minimum_age, w.first_seen) =
                    (Some(duration("1h").unwrap()), vec![Some(Timestamp::MAX)])
            },
            "web 1.0.1 never reaches an age of 1h.",
            None,
            false,
        ),
        (
            |w| w.windows = vec![window("0 9 * * 1-5", "8h")],
            "No window is open before 2026-11-23 09:00:00 UTC.",
            Some("2026-11-23T09:00:00Z"),
            false,
        ),
        (
            |w| w.checks = None,
            "Its checks have not been read yet.",
            None,
            true,
        ),
        (
            |w| w.checks(&[]),
            "No check has reported; autoMerge.requireChecks: false merges without checks.",
            None,
            true,
        ),
        (
            |w| w.checks(&[("ci/build", CheckState::Skipped)]),
            "No check has reported; autoMerge.requireChecks: false merges without checks.",
            None,
            true,
        ),
        (
            |w| w.reported("github-actions", &[(Some("mallory"), CheckState::Passed)]),
            "The check ci/test was reported by mallory, and must pass by github-actions.",
            None,
            true,
        ),
        (
            |w| w.reported("github-actions", &[(None, CheckState::Passed)]),
            "The check ci/test was reported by one that the forge does not tell, and must pass by github-actions.",
            None,
            true,
        ),
        (
            |w| w.reported("github-actions", &[]),
            "The check ci/test (by github-actions) has not reported yet.",
            None,
            true,
        ),
        // The bot's own word is no check, good or bad.
        (
            |w| w.checks(&[("tagboat/rollout/dev", CheckState::Passed)]),
            "No check has reported; autoMerge.requireChecks: false merges without checks.",
            None,
            true,
        ),
        (
            |w| w.checks(&[("a", CheckState::Passed), ("b", CheckState::Pending)]),
            "The check b has not finished.",
            None,
            true,
        ),
        (
            |w| {
                w.auto_merge.require_checks = RequireChecks::No;
                w.checks(
                    &["a", "b", "c", "d", "e", "f", "g"].map(|name| (name, CheckState::Pending)),
                );
            },
            "The checks a, b, c, d, e and 2 more have not finished.",
            None,
            true,
        ),
        (
            |w| {
                w.auto_merge.require_checks = RequireChecks::No;
                w.checks(&[
                    ("lint\u{202e}\n", CheckState::Failed),
                    ("a", CheckState::Pending),
                ]);
            },
            "The check lint\\u{202e} failed.",
            None,
            true,
        ),
        // Another one may begin, where nobody says which there are.
        (
            |w| w.ended("2026-11-21T11:59:00Z"),
            SETTLING_WORDS,
            Some("2026-11-21T12:01:00Z"),
            true,
        ),
        (
            |w| {
                (w.checks.as_mut().unwrap().named[0].at, w.request.updated) =
                    (None, Some(at("2026-11-21T11:59:00Z")))
            },
            SETTLING_WORDS,
            Some("2026-11-21T12:01:00Z"),
            true,
        ),
        (
            |w| w.checks.as_mut().unwrap().named[0].at = None,
            "The forge does not tell when its checks finished; name them in autoMerge.requireChecks.",
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
        (
            |w| w.name(&["ci/build", "e2e"]),
            "The check e2e has not reported yet.",
            None,
            true,
        ),
        (
            |w| w.name(&["tagboat/rollout/dev", "e2e"]),
            "The checks tagboat/rollout/dev and e2e have not reported yet.",
            None,
            true,
        ),
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
        (
            |w| w.approvals = None,
            "Its approvals have not been read yet.",
            None,
            true,
        ),
        (
            |w| {
                w.approvals.as_mut().unwrap().changes_requested =
                    vec!["ann".to_owned(), "bob".to_owned()]
            },
            "ann and bob want changes.",
            None,
            true,
        ),
        (
            |w| w.approvals.as_mut().unwrap().required = Some(1),
            "It has 0 of 1 approvals.",
            None,
            true,
        ),
        (
            |w| {
                (w.approvals) = Some(Approvals {
                    by: vec!["ann".to_owned()],
                    required: Some(2),
                    ..Approvals::default()
                })
            },
            "It has 1 of 2 approvals, by ann.",
            None,
            true,
        ),
        (
            |w| {
                w.approvals = Some(Approvals {
                    earlier: vec!["ann".to_owned(), "bob".to_owned()],
                    required: Some(1),
                    ..Approvals::default()
                })
            },
            "It has 0 of 1 approvals; ann and bob approved an earlier state.",
            None,
            true,
        ),
        (
            |w| {
                w.approvals = Some(Approvals {
                    earlier: vec!["ann".to_owned()],
                    ..Approvals::default()
                })
            },
            "ann approved an earlier state; the number of approvals that main requires is unknown.",
            None,
            true,
        ),
        (
            |w| w.request.mergeable = Mergeable::Blocked("locked\nby ann".to_owned()),
            "The forge does not merge it yet: locked by ann.",
            None,
            true,
        ),
        (
            |w| w.request.mergeable = Mergeable::Unknown,
            "The forge has not determined yet whether it can be merged.",
            None,
            true,
        ),
    ];
    assert_eq!(MergeFixture::good().decide(), MergeDecision::Now);
    for (change, reason, until, ask) in cases {
        let expected = (vec![(*reason).to_owned()], until.map(str::to_owned), *ask);
        assert_eq!(waits(&MergeFixture::with(change)), expected, "{reason}");
    }
}

#[test]
fn merging_all_rules_met_merges() {
    let cases: &[fn(&mut MergeFixture)] = &[
        |w| w.checks(&[("a", CheckState::Passed), ("b", CheckState::Skipped)]),
        |w| {
            w.checks(&[
                ("a", CheckState::Passed),
                ("tagboat/rollout/dev", CheckState::Failed),
            ])
        },
        |w| {
            w.auto_merge.require_checks = RequireChecks::No;
            w.checks(&[]);
        },
        // Two minutes after its last check; at once where it is known which there are, or where
        // none need be.
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
        |w| {
            w.approvals = Some(Approvals {
                by: vec!["ann".to_owned()],
                required: Some(1),
                ..Approvals::default()
            })
        },
        |w| w.request.labels = vec!["tagboat/rebase".to_owned(), "hold".to_owned()],
        // An age is asked for only where a minimum is written.
        |w| w.first_seen.clear(),
    ];
    for (index, change) in cases.iter().enumerate() {
        assert_eq!(
            MergeFixture::with(change).decide(),
            MergeDecision::Now,
            "case {index}"
        );
    }
}

#[test]
fn merging_reasons_combine_and_latest_time_wins() {
    let world = MergeFixture::with(|w| {
        w.auto_merge.minimum_age = Some(duration("72h").unwrap());
        w.windows = vec![window("0 9 * * 1-5", "8h")];
        w.moves = vec![row("api", "1.0.0", "1.0.1"), row("web", "1.0.0", "1.1.0")];
        w.first_seen = vec![
            Some(at("2026-11-21T10:00:00Z")),
            Some(at("2026-11-01T10:00:00Z")),
        ];
        w.checks = None;
        w.request.mergeable = Mergeable::Blocked("a check is missing".to_owned());
    });
    let (reasons, until, ask) = waits(&world);
    assert_eq!(
        reasons,
        [
            "web 1.0.0 → 1.1.0 is a minor step; autoMerge.bump allows patch and digest only.",
            "api 1.0.1 was first seen 2026-11-21 10:00:00 UTC; it is 72h old at 2026-11-24 10:00:00 UTC.",
            "No window is open before 2026-11-23 09:00:00 UTC.",
        ]
    );
    assert_eq!(
        (until.as_deref(), ask),
        (Some("2026-11-24T10:00:00Z"), false)
    );
    // A time that never comes leaves nothing to wake up for.
    let never = MergeFixture::with(|w| {
        w.auto_merge.minimum_age = Some(duration("72h").unwrap());
        w.moves.push(row("api", "1.0.0", "1.0.1"));
        w.first_seen.push(Some(Timestamp::MAX));
    });
    assert_eq!(waits(&never).1, None);
}
