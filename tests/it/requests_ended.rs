//! Requests that ended between passes: just merged, closed and deleted, or with a marker that was
//! cut; and branches that a forge's button rebased.

use super::{
    requests::{FILE, Reviewed, states},
    update_support::{deployment, environment, hours, now, policy},
};
use gix::prelude::ObjectIdExt as _;
use jiff::{SignedDuration, Timestamp};
use tagboat::{
    io::git::ObjectId,
    review::Marker,
    update::{EnvironmentState, PassMode, RequestState},
};

const BRANCH: &str = "tagboat/prod/all";

fn seconds(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

impl Reviewed {
    fn commit(&self, name: &str) -> ObjectId {
        self.fleet.repo().rev_parse_single(name).unwrap().detach()
    }

    /// Opens a request whose marker had no room for its one image.
    fn opened_with_more_than_it_tells(&self) {
        self.pass(now());
        let mut marker = Marker::read(&self.forge.requests()[0].body)
            .unwrap()
            .unwrap();
        (marker.cut, marker.moves) = (1, Vec::new());
        self.forge.rewrite(1, &marker.write(10_000, None)).unwrap();
    }
}

#[test]
fn merge_not_yet_in_git_is_awaited() {
    let world = Reviewed::new("");
    world.pass(now());
    // A person merges it between the fetch and the forge's answer.
    let before = world.commit("main");
    world.forge.set_clock(Some(seconds(10)));
    let merged: ObjectId = world
        .forge
        .merge(1, ("Ann", "ann@example.org"))
        .unwrap()
        .parse()
        .unwrap();
    world.fleet.set_main(before);
    for mode in [PassMode::Plan, PassMode::Write] {
        let report = world.pass_of(&world.fleet.engine(), mode, seconds(20));
        assert_eq!(
            (states(&report), world.open()),
            (vec![RequestState::Waiting], vec![]),
            "{report:#?}"
        );
        let waits = environment(&report, "prod").requests[0].waits.join(" ");
        assert!(waits.contains("Pull request #1 was merged"), "{waits}");
    }
    world.fleet.set_main(merged);
    let report = world.pass(seconds(30));
    assert_eq!(
        (states(&report), world.forge.requests().len()),
        (vec![RequestState::Closed], 1),
        "{report:#?}"
    );
    assert_eq!(world.fleet.text(FILE), deployment(&["web:1.1.0"]));
}

#[test]
fn merge_removed_from_target_stops_the_wait() {
    let world = Reviewed::new("");
    world.pass(now());
    let before = world.commit("main");
    world.forge.set_clock(Some(seconds(10)));
    world.forge.merge(1, ("Ann", "ann@example.org")).unwrap();
    world.fleet.set_main(before);
    assert_eq!(states(&world.pass(seconds(20))), [RequestState::Waiting]);
    assert_eq!(
        (states(&world.pass(hours(1))), world.open()),
        (vec![RequestState::Opened], vec![2])
    );
}

#[test]
fn closed_request_unreadable_stops_no_other() {
    for (status, held) in [(404, 0), (403, 1)] {
        let world = Reviewed::new("");
        world.pass(now());
        world.forge.set_clock(Some(seconds(10)));
        world.forge.close(1, "ann").unwrap();
        world.forge.withhold(1, Some(status)).unwrap();
        let engine = world.fleet.engine();
        for at in [20, 30] {
            let report = world.pass_of(&engine, PassMode::Write, seconds(at));
            let row = policy(&report, "prod", "default/web");
            assert_eq!(
                (row.held.len(), report.warnings.len(), world.open().len()),
                (held, held, 1 - held),
                "{status}: {report:#?}"
            );
            assert!(
                report
                    .warnings
                    .iter()
                    .all(|warning| warning.contains("request #1")),
                "{:?}",
                report.warnings
            );
        }
        // It is queried again.
        world.forge.withhold(1, None).unwrap();
        let report = world.pass_of(&engine, PassMode::Write, seconds(40));
        let row = policy(&report, "prod", "default/web");
        assert!(
            report.warnings.is_empty() && row.held.iter().all(|held| held.contains("ann closed")),
            "{report:#?}"
        );
    }
}

#[test]
fn closed_request_with_cut_marker_holds_its_group() {
    let world = Reviewed::new("");
    world.opened_with_more_than_it_tells();
    world.forge.close(1, "ann").unwrap();
    for round in 1..3 {
        let report = world.pass(hours(round));
        let row = &environment(&report, "prod").requests[0];
        assert_eq!(
            (row.state, world.open()),
            (RequestState::Waiting, vec![]),
            "{report:#?}"
        );
        assert!(
            row.waits[0].contains("Pull request #1, which ann closed")
                && row.waits[0].contains("group"),
            "{row:#?}"
        );
    }
    // Another group is another request, whose images are known.
    let declared = world
        .fleet
        .text("p.yaml")
        .replace("via: pullRequest", "via: pullRequest, group: policy");
    world.fleet.person(&[("p.yaml", &declared)], "groups");
    world.pass(hours(3));
    assert_eq!(world.open(), [2]);
}

#[test]
fn reopened_or_merged_request_lifts_group_hold() {
    let world = Reviewed::new("");
    world.opened_with_more_than_it_tells();
    world.forge.close(1, "ann").unwrap();
    assert_eq!(states(&world.pass(hours(1))), [RequestState::Waiting]);
    world.forge.reopen(1).unwrap();
    world.pass(hours(2));
    world.forge.merge(1, ("Ann", "ann@example.org")).unwrap();
    assert_eq!(
        environment(&world.pass(hours(3)), "prod").state,
        EnvironmentState::UpToDate
    );
    world.fleet.publish("team/web", &["1.2.0"]);
    assert_eq!(
        (states(&world.pass(hours(4))), world.open()),
        (vec![RequestState::Opened], vec![2])
    );
}

#[test]
fn rebased_by_forge_needs_the_rebase_label() {
    let world = Reviewed::new("");
    world.pass(now());
    // The button "rebase" keeps the author and writes another committer.
    let repo = world.fleet.repo();
    let mut commit = repo
        .find_commit(world.commit(BRANCH))
        .unwrap()
        .decode()
        .unwrap()
        .to_owned()
        .unwrap();
    (commit.committer.name, commit.committer.email) = ("Ann".into(), "ann@example.org".into());
    let anew = repo.write_object(&commit).unwrap();
    world.set_branch(BRANCH, &anew.to_string());
    for at in [1, 2] {
        let report = world.pass(hours(at));
        let row = &environment(&report, "prod").requests[0];
        assert_eq!(
            (row.state, world.commit(BRANCH)),
            (RequestState::Stopped, anew.detach()),
            "{report:#?}"
        );
        assert!(
            row.waits[0].contains("Ann rebased") && row.waits[0].contains("tagboat/rebase"),
            "{row:#?}"
        );
    }
    world.forge.label(1, "tagboat/rebase").unwrap();
    assert_eq!(states(&world.pass(hours(3))), [RequestState::Updated]);
    assert_eq!(states(&world.pass(hours(4))), [RequestState::Open]);
    let made = world
        .commit(BRANCH)
        .attach(&repo)
        .object()
        .unwrap()
        .into_commit();
    assert_eq!(made.committer().unwrap().name, made.author().unwrap().name);

    // A commit of her own on top is never overwritten, even with the label.
    let mut own = made.decode().unwrap().to_owned().unwrap();
    own.parents = [made.id].into_iter().collect();
    for who in [&mut own.author, &mut own.committer] {
        (who.name, who.email) = ("Ann".into(), "ann@example.org".into());
    }
    let own = repo.write_object(&own).unwrap();
    world.set_branch(BRANCH, &own.to_string());
    world.forge.label(1, "tagboat/rebase").unwrap();
    let report = world.pass(hours(5));
    let row = &environment(&report, "prod").requests[0];
    assert_eq!(
        (row.state, world.commit(BRANCH)),
        (RequestState::Stopped, own.detach()),
        "{report:#?}"
    );
    assert!(
        row.waits[0].contains("by Ann, which is not the bot's"),
        "{row:#?}"
    );
}
