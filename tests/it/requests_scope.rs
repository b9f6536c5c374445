//! Several updaters on one branch of one repository, each with declarations of its own: none
//! changes what belongs to another.

use super::{
    requests::{FILE, Reviewed, reviewed, states},
    update_support::{deployment, environment, hours, now, policy, semver},
};
use tagboat::update::{EnvironmentState, PassMode, PassReport, RequestReport, RequestState};

/// Environments `first` in the folder `a` and `second` in `b`; both watch `team/web`.
fn two() -> Reviewed {
    let images = deployment(&["web:1.0.0"]);
    let declared = |name: &str, update: &str| semver("web", "1.x", "") + &reviewed(name, update);
    Reviewed::of(&[
        ("a/p.yaml", &declared("first", "")),
        ("b/p.yaml", &declared("second", "")),
        ("envs/first/a.yaml", &images),
        ("envs/second/a.yaml", &images),
    ])
}

/// Environments of the same name in two folders, with this text below `update`, over different
/// files.
fn namesakes(update: &str) -> Reviewed {
    let images = deployment(&["web:1.0.0"]);
    let prod = semver("web", "1.x", "") + &reviewed("prod", update);
    let other = prod.replace("envs/prod/**", "other/**");
    Reviewed::of(&[
        ("a/p.yaml", &prod),
        ("b/p.yaml", &other),
        (FILE, &images),
        ("other/a.yaml", &images),
    ])
}

fn row<'r>(report: &'r PassReport, name: &str) -> &'r RequestReport {
    let rows = &environment(report, name).requests;
    assert_eq!(rows.len(), 1, "{report:#?}");
    &rows[0]
}

fn branch(reviewed: &Reviewed, name: &str) -> Option<String> {
    reviewed
        .fleet
        .repository
        .branch(name)
        .unwrap()
        .map(|id| id.to_string())
}

#[test]
fn request_of_another_folder_is_left_alone() {
    let reviewed = two();
    let (a, b) = (reviewed.engine_in("a"), reviewed.engine_in("b"));
    assert_eq!(
        row(&reviewed.pass_of(&a, PassMode::Write, now()), "first").state,
        RequestState::Opened
    );
    let report = reviewed.pass_of(&b, PassMode::Write, now());
    assert_eq!(row(&report, "second").state, RequestState::Opened);
    assert_eq!(
        (report.environments.len(), reviewed.open()),
        (1, vec![1, 2]),
        "{report:#?}"
    );
    let before = reviewed.forge.requests();
    for hour in 1..3 {
        assert_eq!(
            row(&reviewed.pass_of(&a, PassMode::Write, hours(hour)), "first").state,
            RequestState::Open
        );
        assert_eq!(
            row(
                &reviewed.pass_of(&b, PassMode::Write, hours(hour)),
                "second"
            )
            .state,
            RequestState::Open
        );
    }
    assert_eq!(reviewed.forge.requests(), before);
    // The branch of a request that a person closed may be deleted only by its own updater.
    reviewed.forge.close(1, "ann").unwrap();
    assert!(
        !reviewed
            .pass_of(&b, PassMode::Write, hours(3))
            .has_changes()
    );
    assert!(branch(&reviewed, "tagboat/first/all").is_some());
    // Its own updater still closes it when it is no longer needed.
    reviewed
        .fleet
        .person(&[("b/p.yaml", &semver("web", "1.x", ""))], "away");
    let report = reviewed.fleet.pass_of(&b, PassMode::Write, hours(4));
    assert_eq!(
        row(&report, "second").waits,
        ["Its Environment is no longer declared."]
    );
    assert_eq!(
        (reviewed.open(), branch(&reviewed, "tagboat/second/all")),
        (vec![], None)
    );
}

#[test]
fn merge_is_reported_by_its_own_updater() {
    let reviewed = two();
    let engines = [reviewed.engine_in("a"), reviewed.engine_in("b")];
    engines
        .iter()
        .for_each(|engine| drop(reviewed.pass_of(engine, PassMode::Write, now())));
    reviewed.forge.merge(1, ("Ann", "ann@example.org")).unwrap();
    let reported = engines.each_ref().map(|engine| {
        reviewed.pass_of(engine, PassMode::Write, hours(1));
        engine.updaters[0]
            .merged
            .borrow()
            .iter()
            .map(|merged| merged.request.number)
            .collect::<Vec<_>>()
    });
    assert_eq!(reported, [vec![1], vec![]]);
}

#[test]
fn same_named_environments_wait_for_each_other() {
    let reviewed = namesakes("request: {maxOpen: 1, perHour: 1}");
    let (a, b) = (reviewed.engine_in("a"), reviewed.engine_in("b"));
    assert_eq!(
        states(&reviewed.pass_of(&a, PassMode::Write, now())),
        [RequestState::Opened]
    );
    let before = (
        reviewed.forge.requests(),
        branch(&reviewed, "tagboat/prod/all"),
    );
    for _ in 0..2 {
        let report = reviewed.pass_of(&b, PassMode::Write, now());
        let row = row(&report, "prod");
        assert_eq!(
            (row.state, row.waits.len()),
            (RequestState::Waiting, 1),
            "{row:#?}"
        );
        assert!(
            row.waits[0].contains("request #1") && row.waits[0].contains("a/p.yaml"),
            "{:?}",
            row.waits
        );
        assert_eq!(
            states(&reviewed.pass_of(&a, PassMode::Write, now())),
            [RequestState::Open]
        );
    }
    assert_eq!(
        (
            reviewed.forge.requests(),
            branch(&reviewed, "tagboat/prod/all")
        ),
        before
    );
    // A hold of one is no hold of the other, and neither counts for the other's limits. It waits
    // for the branch only, which the person who closed the request may still want.
    reviewed.forge.close(1, "ann").unwrap();
    let report = reviewed.pass_of(&b, PassMode::Write, now());
    assert!(
        policy(&report, "prod", "default/web").held.is_empty(),
        "{report:#?}"
    );
    let waits = &row(&report, "prod").waits;
    assert!(
        waits[0].contains("tagboat/prod/all") && waits[0].contains(FILE),
        "{waits:?}"
    );
    assert_eq!(branch(&reviewed, "tagboat/prod/all"), before.1);
    reviewed
        .fleet
        .repository
        .delete_branch("tagboat/prod/all")
        .unwrap();
    assert_eq!(
        (
            states(&reviewed.pass_of(&b, PassMode::Write, now())),
            reviewed.open()
        ),
        (vec![RequestState::Opened], vec![2])
    );
    let report = reviewed.pass_of(&a, PassMode::Write, now());
    assert_eq!(policy(&report, "prod", "default/web").held.len(), 1);
    assert_eq!(reviewed.open(), [2]);
}

#[test]
fn branch_just_made_by_another_is_left_alone() {
    let reviewed = namesakes("group: policy");
    let made = |number: usize| {
        let head = reviewed.forge.requests()[number].head.clone();
        (head.clone(), branch(&reviewed, &head).unwrap())
    };
    reviewed.pass_of(&reviewed.engine_in("a"), PassMode::Write, now());
    let (theirs, commit) = made(0);
    reviewed.forge.close(1, "ann").unwrap();
    reviewed.fleet.repository.delete_branch(&theirs).unwrap();
    let engine = reviewed.engine_in("b");
    assert_eq!(
        row(&reviewed.pass_of(&engine, PassMode::Write, now()), "prod").state,
        RequestState::Opened
    );
    let (_, ours) = made(1);
    // As if each had been killed between a branch and its request, and proposed something else
    // afterwards.
    reviewed.set_branch("tagboat/prod/default-theirs-00000000", &commit);
    reviewed.set_branch("tagboat/prod/default-ours-00000000", &ours);
    reviewed.pass_of(&engine, PassMode::Write, now());
    assert_eq!(
        branch(&reviewed, "tagboat/prod/default-theirs-00000000"),
        Some(commit)
    );
    assert_eq!(
        branch(&reviewed, "tagboat/prod/default-ours-00000000"),
        None
    );
}

#[test]
fn changed_policies_folder_keeps_its_requests() {
    let declared = semver("web", "1.x", "") + &reviewed("prod", "");
    let reviewed = Reviewed::of(&[("a/p.yaml", &declared), (FILE, &deployment(&["web:1.0.0"]))]);
    assert_eq!(
        states(&reviewed.pass_of(&reviewed.engine_in("a"), PassMode::Write, now())),
        [RequestState::Opened]
    );
    // Wider: the same declaration is read.
    assert_eq!(
        (states(&reviewed.pass(hours(1))), reviewed.open()),
        (vec![RequestState::Open], vec![1])
    );
    // Moved: the old place cannot be read.
    let moved = |from: &str, to: &str| {
        reviewed
            .fleet
            .person(&[(from, "# moved\n"), (to, &declared)], "moved")
    };
    moved("a/p.yaml", "c/p.yaml");
    let engine = reviewed.engine_in("c");
    assert_eq!(
        states(&reviewed.pass_of(&engine, PassMode::Write, hours(1))),
        [RequestState::Updated]
    );
    assert_eq!(
        states(&reviewed.pass_of(&engine, PassMode::Write, hours(2))),
        [RequestState::Open]
    );
    assert_eq!(reviewed.open(), [1]);
    assert!(reviewed.forge.requests()[0].body.contains("c/p.yaml"));
    // A hold applies wherever the Environment is declared.
    reviewed.forge.close(1, "ann").unwrap();
    moved("c/p.yaml", "d/p.yaml");
    let report = reviewed.pass_of(&reviewed.engine_in("d"), PassMode::Write, hours(3));
    assert_eq!(
        policy(&report, "prod", "default/web").held.len(),
        1,
        "{report:#?}"
    );
    assert_eq!(
        (environment(&report, "prod").state, reviewed.open()),
        (EnvironmentState::UpToDate, vec![])
    );
}

#[test]
fn branch_kept_for_request_to_another_base() {
    let reviewed = Reviewed::new("request: {maxOpen: 1, perHour: 2}");
    let main = reviewed
        .fleet
        .repository
        .head()
        .unwrap()
        .unwrap()
        .to_string();
    reviewed.set_branch("staging", &main);
    reviewed.pass(now());
    // Hers is the later one, and comes first in lists.
    assert_eq!(
        reviewed
            .forge
            .open("ann", "tagboat/prod/all", "staging", "try it on staging")
            .unwrap(),
        2
    );
    let hers = || reviewed.forge.requests().remove(1);
    let before = hers();
    assert_eq!(row(&reviewed.pass(now()), "prod").number, Some(1));
    // A newer tag: the bot's request is updated; hers follows the branch and is not changed.
    reviewed.fleet.publish("team/web", &["1.2.0"]);
    let report = reviewed.pass(hours(1));
    assert_eq!(
        (row(&report, "prod").number, row(&report, "prod").state),
        (Some(1), RequestState::Updated),
        "{report:#?}"
    );
    assert_eq!(
        reviewed.forge.requests()[0].title,
        "prod: web 1.0.0 → 1.2.0"
    );
    // The bot closes its own: the branch stays as long as hers is open, and that is reported once.
    reviewed
        .fleet
        .person(&[(FILE, &deployment(&["web:1.2.0"]))], "by hand");
    assert_eq!(
        row(&reviewed.pass(hours(2)), "prod").state,
        RequestState::Closed
    );
    assert!(!reviewed.pass(hours(3)).has_changes());
    assert_eq!((hers(), reviewed.open()), (before.clone(), vec![2]));
    assert!(branch(&reviewed, "tagboat/prod/all").is_some());
    // Wanted again, the bot's own is opened beside hers.
    reviewed.fleet.publish("team/web", &["1.3.0"]);
    assert_eq!(
        (row(&reviewed.pass(hours(4)), "prod").state, reviewed.open()),
        (RequestState::Opened, vec![2, 3])
    );
    assert_eq!(hers(), before);
    // Her close is no hold. After the merge of the bot's, the branch is deleted when hers no longer
    // needs it.
    reviewed.forge.merge(3, ("Ann", "ann@example.org")).unwrap();
    assert!(!reviewed.pass(hours(5)).has_changes());
    assert!(branch(&reviewed, "tagboat/prod/all").is_some());
    reviewed.forge.close(2, "ann").unwrap();
    assert_eq!(
        row(&reviewed.pass(hours(6)), "prod").state,
        RequestState::Closed
    );
    assert_eq!(branch(&reviewed, "tagboat/prod/all"), None);
}

#[test]
fn auto_merge_keeps_a_branch_in_other_use() {
    let reviewed = Reviewed::new(
        "autoMerge: {bump: [minor], requireChecks: false}, windows: [{cron: '0 14 * * *', duration: 1h}]",
    );
    reviewed.set_branch(
        "staging",
        &reviewed
            .fleet
            .repository
            .head()
            .unwrap()
            .unwrap()
            .to_string(),
    );
    reviewed.pass(now());
    reviewed
        .forge
        .open("ann", "tagboat/prod/all", "staging", "try it on staging")
        .unwrap();
    assert_eq!(states(&reviewed.pass(hours(2))), [RequestState::Merged]);
    assert_eq!(
        (reviewed.fleet.text(FILE), reviewed.open()),
        (deployment(&["web:1.1.0"]), vec![2])
    );
    assert!(branch(&reviewed, "tagboat/prod/all").is_some());
}

#[test]
fn retargeted_request_stops() {
    let reviewed = Reviewed::new("");
    reviewed.set_branch(
        "staging",
        &reviewed
            .fleet
            .repository
            .head()
            .unwrap()
            .unwrap()
            .to_string(),
    );
    reviewed.pass(now());
    reviewed.forge.retarget(1, "staging").unwrap();
    let report = reviewed.pass(hours(1));
    assert_eq!(
        (row(&report, "prod").number, row(&report, "prod").state),
        (Some(1), RequestState::Stopped)
    );
    assert_eq!(
        row(&report, "prod").waits,
        ["Its base was changed to staging; change it back to main, or close it."]
    );
    // An updater of the other branch with the same declarations does not adopt it either: it waits.
    let text = std::fs::read_to_string(reviewed.fleet.config()).unwrap();
    let config = reviewed.fleet.dir.path().join("staging.yaml");
    std::fs::write(
        &config,
        text.replace("store: store", "store: other") + "    branch: staging\n",
    )
    .unwrap();
    let engine = reviewed.fleet.engine_of(&config);
    reviewed.forge.retarget(1, "main").unwrap();
    let before = reviewed.forge.requests();
    let report = reviewed.fleet.pass_of(&engine, PassMode::Write, hours(2));
    assert_eq!(
        row(&report, "prod").state,
        RequestState::Waiting,
        "{report:#?}"
    );
    assert!(
        row(&report, "prod").waits[0].contains("request #1 for main"),
        "{report:#?}"
    );
    assert_eq!(
        (reviewed.forge.requests(), reviewed.open()),
        (before, vec![1])
    );
}
