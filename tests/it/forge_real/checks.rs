//! Checks and approvals, as a protected branch requires them.

use super::world::{World, merge};
use reqwest::Method;
use serde_json::json;
use tagboat::io::forge::{
    CheckState, Checks, ChecksState, CommitStatus, ForgeProblem, RequestStatus, StatusState,
};

fn status(context: &str, state: StatusState) -> CommitStatus {
    CommitStatus {
        context: context.to_owned(),
        state,
        description: "d".repeat(400),
        url: Some("https://ci.example.org/1".to_owned()),
    }
}

fn shown(checks: &Checks) -> Vec<(&str, CheckState, bool)> {
    checks
        .named
        .iter()
        .map(|check| (check.name.as_str(), check.state, check.required))
        .collect()
}

#[tokio::test]
#[ignore = "needs Gitea: run tests/run forge"]
async fn checks_turn_green_for_exactly_one_commit() {
    let world = World::new().await;
    let request = world.request("tagboat/checked").await;
    let checks = async || world.forge.checks(&request).await.unwrap();
    let set = async |context: &str, state| {
        world
            .forge
            .set_status(&request.head_commit, &status(context, state))
            .await
            .unwrap()
    };
    assert_eq!(checks().await.state, ChecksState::None);
    set("ci/build", StatusState::Pending).await;
    assert_eq!(checks().await.state, ChecksState::Pending);
    set("ci/build", StatusState::Failure).await;
    assert_eq!(checks().await.state, ChecksState::Failed);
    set("ci/build", StatusState::Success).await;
    let green = checks().await;
    assert_eq!(green.state, ChecksState::Passed);
    assert_eq!(
        green.named[0].url.as_deref(),
        Some("https://ci.example.org/1")
    );
    // More contexts than a page has, the failed one first.
    set("ci/first", StatusState::Failure).await;
    for number in 0..60 {
        set(&format!("ci/{number:02}"), StatusState::Success).await;
    }
    let many = checks().await;
    assert_eq!((many.named.len(), many.state), (62, ChecksState::Failed));
    assert_eq!(
        many.without(|check| check.name == "ci/first").state,
        ChecksState::Passed
    );
    // A new head has no statuses.
    let pushed = world.push("tagboat/checked", "more");
    let request = world
        .until(request.number, "the push is seen", |request| {
            request.head_commit == pushed
        })
        .await;
    assert_eq!(
        world.forge.checks(&request).await.unwrap().state,
        ChecksState::None
    );
}

#[tokio::test]
#[ignore = "needs Gitea: run tests/run forge"]
async fn checks_required_by_the_branch_are_awaited() {
    let world = World::new().await;
    world.protect(1, &["ci/test", "lint-*"]).await;
    let request = world.request("tagboat/guarded").await;
    let checks = world.forge.checks(&request).await.unwrap();
    assert_eq!(
        shown(&checks),
        [
            ("ci/test", CheckState::Pending, true),
            ("lint-*", CheckState::Pending, true)
        ]
    );
    assert_eq!(checks.state, ChecksState::Pending);
    for context in ["ci/test", "lint-rust", "extra"] {
        world
            .forge
            .set_status(&request.head_commit, &status(context, StatusState::Success))
            .await
            .unwrap();
    }
    let checks = world.forge.checks(&request).await.unwrap();
    assert_eq!(
        shown(&checks),
        [
            ("ci/test", CheckState::Passed, true),
            ("extra", CheckState::Passed, false),
            ("lint-rust", CheckState::Passed, true)
        ]
    );
    assert_eq!(checks.state, ChecksState::Passed);

    let approvals = world.forge.approvals(&request).await.unwrap();
    assert_eq!(
        (approvals.by.len(), approvals.required, approvals.suffice()),
        (0, Some(1), false)
    );
    let error = world
        .forge
        .merge(request.number, &merge(&request.head_commit))
        .await
        .unwrap_err();
    assert!(
        matches!(error.problem, ForgeProblem::NotMergeable { .. }),
        "{error}"
    );

    let review = async |event: &str| {
        let body = json!({"event": event, "body": "words", "commit_id": request.head_commit});
        world
            .ann(
                Method::POST,
                &format!("pulls/{}/reviews", request.number),
                body,
            )
            .await;
        world.forge.approvals(&request).await.unwrap()
    };
    let against = review("REQUEST_CHANGES").await;
    assert_eq!(
        (against.changes_requested.as_slice(), against.suffice()),
        ([world.ann.clone()].as_slice(), false)
    );
    let talk = review("COMMENT").await;
    assert_eq!(
        talk.changes_requested, against.changes_requested,
        "a comment does not dismiss the approval"
    );
    let good = review("APPROVED").await;
    assert_eq!(
        (good.by.as_slice(), good.suffice()),
        ([world.ann.clone()].as_slice(), true)
    );
    // Any user may review a public repository; such a review does not count.
    let stranger = world.gitea.user("stranger").await;
    let token = world.gitea.token(&stranger, &["all"]).await;
    let body = json!({"event": "APPROVED", "body": "me too"});
    let path = format!("repos/{}/pulls/{}/reviews", world.project, request.number);
    assert!(
        world
            .gitea
            .call(&token, Method::POST, &path, Some(body))
            .await
            .0
            .is_success()
    );
    assert_eq!(world.forge.approvals(&request).await.unwrap().by, good.by);

    // An approval does not apply to a head pushed later.
    let pushed = world.push("tagboat/guarded", "after");
    let moved = world
        .until(request.number, "the push is seen", |request| {
            request.head_commit == pushed
        })
        .await;
    let moved = world.looked_at(moved.number).await;
    let before = world.forge.approvals(&moved).await.unwrap();
    assert_eq!(
        (before.by.len(), before.earlier.as_slice(), before.suffice()),
        (0, [world.ann.clone()].as_slice(), false)
    );
    let body = json!({"event": "APPROVED", "body": "again"});
    world
        .ann(
            Method::POST,
            &format!("pulls/{}/reviews", moved.number),
            body,
        )
        .await;
    for context in ["ci/test", "lint-rust"] {
        world
            .forge
            .set_status(&pushed, &status(context, StatusState::Success))
            .await
            .unwrap();
    }
    world
        .forge
        .merge(moved.number, &merge(&pushed))
        .await
        .unwrap();
    assert_eq!(
        world.forge.get(moved.number).await.unwrap().state,
        RequestStatus::Merged
    );
}
