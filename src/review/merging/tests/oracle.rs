//! Random worlds, and the rules once more as an oracle of their own.

use super::*;

/// What `requireChecks` says, once more.
fn enough(w: &MergeFixture, checks: &[Check]) -> bool {
    let mut counting = checks.iter().filter(|c| !c.name.starts_with("tagboat/"));
    let passed = |name: Option<&str>| {
        checks.iter().any(|c| {
            !c.name.starts_with("tagboat/")
                && c.state == CheckState::Passed
                && name.is_none_or(|name| name == c.name)
        })
    };
    match &w.auto_merge.require_checks {
        RequireChecks::No => true,
        RequireChecks::Named(names) => names.iter().all(|one| passed(Some(&one.name))),
        RequireChecks::Any if !passed(None) => false,
        RequireChecks::Any => {
            counting.clone().any(|c| c.required)
                || counting.all(|c| {
                    c.at.is_some_and(|at| w.now.as_second() - at.as_second() >= 120)
                })
        }
    }
}

/// The rules once more, as the declaration and the plan say them, without a word of the code above.
fn allowed(w: &MergeFixture) -> bool {
    let no_bad_check = |c: &Check| {
        c.name.starts_with("tagboat/")
            || matches!(c.state, CheckState::Passed | CheckState::Skipped)
    };
    let checks = w
        .checks
        .as_ref()
        .is_some_and(|checks| checks.named.iter().all(no_bad_check) && enough(w, &checks.named));
    let approvals = w.approvals.as_ref().is_some_and(Approvals::suffice);
    let old_enough = w.auto_merge.minimum_age.is_none_or(|age| {
        w.first_seen.len() >= w.moves.len()
            && w.first_seen.iter().take(w.moves.len()).all(|seen| {
                seen.is_some_and(|seen| {
                    w.now.as_second() - seen.as_second() >= i64::try_from(age.as_secs()).unwrap()
                })
            })
    });
    let bumps = !w.moves.is_empty()
        && w.moves
            .iter()
            .all(|row| w.auto_merge.bump.contains(&row.bump));
    let open = w.windows.is_empty() || w.windows.iter().any(|window| window.is_open(w.now));
    let quiet = !w.request.draft && !w.request.labels.iter().any(|label| label == "tagboat/hold");
    let forge = w.request.state == RequestStatus::Open && w.request.mergeable == Mergeable::Yes;
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
        && w.preview == PreviewSummary::Clear
}

/// Mostly the first.
fn mostly<T: Clone + std::fmt::Debug + 'static>(
    usual: T,
    others: Vec<T>,
) -> impl Strategy<Value = T> {
    prop_oneof![6 => Just(usual), 1 => proptest::sample::select(others)]
}

prop_compose! {
    fn worlds()(
        people in (
            mostly(RequestStatus::Open, vec![RequestStatus::Merged, RequestStatus::Closed]),
            mostly(false, vec![true]),
            mostly(vec![], vec![vec![HOLD.to_owned()], vec!["x".to_owned(), HOLD.to_owned()]]),
            mostly(Mergeable::Yes, vec![Mergeable::Unknown, Mergeable::Conflicts, Mergeable::Behind, Mergeable::Blocked("x".to_owned())]),
        ),
        branch in (
            mostly(true, vec![false]),
            mostly(true, vec![false]),
            mostly("main", vec!["stable"]),
            mostly(PreviewSummary::Clear, vec![PreviewSummary::Refused("x".to_owned()), PreviewSummary::Broken("x".to_owned()), PreviewSummary::Unknown("x".to_owned())]),
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
    ) -> MergeFixture {
        MergeFixture::with(|w| {
            (w.request.state, w.request.draft, w.request.labels, w.request.mergeable) = people;
            (w.own, w.current, w.target, w.preview) = branch;
            w.moves = images.iter().map(|(new, _)| row("web", "1.0.0", new)).collect();
            let now = w.now;
            let back = |age: i64| now.checked_sub(SignedDuration::from_secs(age)).unwrap();
            w.first_seen = images.iter().map(|(_, age)| age.map(back)).collect();
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
    fn merging_agrees_with_the_oracle(world in worlds()) {
        match world.decide() {
            MergeDecision::Now => prop_assert!(allowed(&world)),
            MergeDecision::Waits { reasons, until, ask } => {
                prop_assert!(!allowed(&world));
                prop_assert!(!reasons.is_empty());
                prop_assert!(reasons.iter().all(|reason| reason.ends_with('.') && !reason.contains('\n')));
                prop_assert!(until.is_none_or(|until| until > world.now));
                // Asking helps: with good answers from the forge it merges.
                let mut answered = world;
                if !matches!(answered.request.mergeable, Mergeable::Conflicts | Mergeable::Behind) {
                    answered.request.mergeable = Mergeable::Yes;
                }
                (answered.checks, answered.approvals) = (MergeFixture::good().checks, MergeFixture::good().approvals);
                answered.auto_merge.require_checks = RequireChecks::Any;
                prop_assert_eq!(ask, answered.decide() == MergeDecision::Now);
            }
        }
    }
}
