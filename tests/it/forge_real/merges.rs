//! Merging: of the verified head only, by every method, at once or by the forge's auto-merge.

use super::world::{World, merge};
use crate::servers::git::{Program, git};
use reqwest::Method;
use serde_json::json;
use tagboat::{
    core::error::{Classify, ErrorKind},
    io::forge::{CommitStatus, ForgeProblem, MergeCommand, RequestStatus, StatusState},
    spec::MergeMethod,
};

fn green(context: &str) -> CommitStatus {
    CommitStatus {
        context: context.to_owned(),
        state: StatusState::Success,
        description: "good".to_owned(),
        url: None,
    }
}

#[tokio::test]
#[ignore = "needs Gitea: run tests/run forge"]
async fn merge_refuses_a_foreign_head() {
    let world = World::new().await;
    let request = world.request("tagboat/prod").await;
    let pushed = world.push("tagboat/prod", "by-ann");
    assert_ne!(pushed, request.head_commit);
    let seen = world
        .until(request.number, "the push is seen", |request| {
            request.head_commit == pushed
        })
        .await;
    world.looked_at(seen.number).await;
    let error = world
        .forge
        .merge(request.number, &merge(&request.head_commit))
        .await
        .unwrap_err();
    assert!(
        matches!(error.problem, ForgeProblem::HeadChanged { .. }),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let error = world
        .forge
        .merge_when_ready(&request, &merge(&request.head_commit))
        .await
        .unwrap_err();
    assert!(
        matches!(error.problem, ForgeProblem::HeadChanged { .. }),
        "{error}"
    );
    assert_eq!(
        world.forge.get(request.number).await.unwrap().state,
        RequestStatus::Open
    );
    let commit = world
        .forge
        .merge(request.number, &merge(&pushed))
        .await
        .unwrap();
    assert!(commit.is_some());
    assert_eq!(
        world.forge.get(request.number).await.unwrap().state,
        RequestStatus::Merged
    );
}

#[tokio::test]
#[ignore = "needs Gitea: run tests/run forge"]
async fn merge_methods_make_their_history() {
    let world = World::new().await;
    let mut before = git(&world.clone, &["rev-parse", "origin/main"]).text();
    for (branch, method, parents) in [
        ("tagboat/merge", Some(MergeMethod::Merge), 2),
        ("tagboat/squash", Some(MergeMethod::Squash), 1),
        ("tagboat/rebase", Some(MergeMethod::Rebase), 1),
    ] {
        let request = world.request(branch).await;
        let wish = MergeCommand {
            method,
            title: format!("title of {branch}"),
            message: "and text".into(),
            delete_branch: true,
            ..merge(&request.head_commit)
        };
        let commit = world
            .forge
            .merge(request.number, &wish)
            .await
            .unwrap()
            .unwrap();
        git(&world.clone, &["fetch", "-q", "--prune", "origin"]).ok();
        assert_eq!(
            git(&world.clone, &["rev-parse", "origin/main"]).text(),
            commit,
            "{branch}"
        );
        let line = git(&world.clone, &["rev-list", "--parents", "-n1", &commit]).text();
        assert_eq!(
            line.split_whitespace().count() - 1,
            parents,
            "{branch}: {line}"
        );
        assert_eq!(
            line.split_whitespace().nth(1),
            Some(before.as_str()),
            "{branch}"
        );
        let text = git(&world.clone, &["log", "-1", "--format=%B", &commit]).text();
        assert_eq!(
            text.starts_with(&format!("title of {branch}\n\nand text")),
            method != Some(MergeMethod::Rebase),
            "{text}"
        );
        assert!(
            !git(
                &world.clone,
                &[
                    "rev-parse",
                    "-q",
                    "--verify",
                    &format!("refs/remotes/origin/{branch}")
                ]
            )
            .status
            .success(),
            "{branch}"
        );
        before = commit;
    }
    // The repository's default method, if none is declared; and one that it does not allow.
    world
        .admin(
            Method::PATCH,
            "",
            json!({"default_merge_style": "squash", "allow_rebase": false}),
        )
        .await;
    let request = world.request("tagboat/own").await;
    let wish = MergeCommand {
        method: Some(MergeMethod::Rebase),
        ..merge(&request.head_commit)
    };
    let error = world.forge.merge(request.number, &wish).await.unwrap_err();
    assert!(
        matches!(error.problem, ForgeProblem::NotMergeable { .. }),
        "{error}"
    );
    let commit = world
        .forge
        .merge(request.number, &merge(&request.head_commit))
        .await
        .unwrap()
        .unwrap();
    git(&world.clone, &["fetch", "-q", "origin"]).ok();
    assert_eq!(
        git(&world.clone, &["rev-parse", &format!("{commit}^")]).text(),
        before
    );
    assert_ne!(commit, request.head_commit);
}

#[tokio::test]
#[ignore = "needs Gitea: run tests/run forge"]
async fn merge_conflict_is_refused() {
    let world = World::new().await;
    let one = world.request("tagboat/one").await;
    git(
        &world.clone,
        &["checkout", "-q", "-b", "tagboat/two", "origin/main"],
    )
    .ok();
    std::fs::write(world.clone.join("tagboat-one"), "otherwise\n").unwrap();
    git(&world.clone, &["add", "-A"]).ok();
    git(&world.clone, &["commit", "-q", "-m", "two"]).ok();
    git(&world.clone, &["push", "-q", "origin", "tagboat/two"]).ok();
    let two = world
        .forge
        .open(&super::world::new("tagboat/two"))
        .await
        .unwrap()
        .request;
    world.looked_at(two.number).await;
    world
        .forge
        .merge(one.number, &merge(&one.head_commit))
        .await
        .unwrap();
    let seen = world
        .until(two.number, "the conflict is seen", |request| {
            request.mergeable != tagboat::io::forge::Mergeable::Yes
        })
        .await;
    let error = world
        .forge
        .merge(two.number, &merge(&seen.head_commit))
        .await
        .unwrap_err();
    // Gitea gives the same answer for a conflict and for a check in progress.
    assert!(
        matches!(error.problem, ForgeProblem::NotYet { .. }),
        "{error}"
    );
}

#[tokio::test]
#[ignore = "needs Gitea: run tests/run forge"]
async fn merge_when_ready_waits_for_the_check() {
    let world = World::new().await;
    world.protect(0, &["ci/test"]).await;
    let request = world.request("tagboat/auto").await;
    let error = world
        .forge
        .merge(request.number, &merge(&request.head_commit))
        .await
        .unwrap_err();
    assert!(
        matches!(error.problem, ForgeProblem::NotMergeable { .. }),
        "{error}"
    );
    let wish = MergeCommand {
        delete_branch: true,
        ..merge(&request.head_commit)
    };
    world.forge.merge_when_ready(&request, &wish).await.unwrap();
    world.forge.merge_when_ready(&request, &wish).await.unwrap();
    assert_eq!(
        world.forge.get(request.number).await.unwrap().state,
        RequestStatus::Open
    );
    world
        .forge
        .set_status(&request.head_commit, &green("ci/test"))
        .await
        .unwrap();
    let merged = world
        .until(request.number, "Gitea merges it", |request| {
            request.state == RequestStatus::Merged
        })
        .await;
    assert!(merged.ended.unwrap().commit.is_some());

    // Auto-merge cancelled, it stays.
    let request = world.request("tagboat/back").await;
    world
        .forge
        .merge_when_ready(&request, &merge(&request.head_commit))
        .await
        .unwrap();
    world.forge.cancel_merge(&request).await.unwrap();
    world.forge.cancel_merge(&request).await.unwrap();
    world
        .forge
        .set_status(&request.head_commit, &green("ci/test"))
        .await
        .unwrap();
    // Gitea merges when the status arrives. Another request that is ready after it shows that Gitea
    // has processed it.
    let other = world.request("tagboat/after").await;
    world
        .forge
        .merge_when_ready(&other, &merge(&other.head_commit))
        .await
        .unwrap();
    world
        .forge
        .set_status(&other.head_commit, &green("ci/test"))
        .await
        .unwrap();
    world
        .until(other.number, "Gitea merges the other", |request| {
            request.state == RequestStatus::Merged
        })
        .await;
    assert_eq!(
        world.forge.get(request.number).await.unwrap().state,
        RequestStatus::Open
    );
}
