//! Tokens without a right: the error names the action and the missing right, and not the token.

use super::world::{World, forge_of, merge, new};
use reqwest::Method;
use serde_json::json;
use tagboat::{
    core::error::{Classify, ErrorKind},
    io::forge::{CommitStatus, ForgeError, ForgeProblem, RequestFilter, StatusState},
};

/// The error of a call that must fail; it contains no secret.
fn failed<T: std::fmt::Debug>(
    result: Result<T, ForgeError>,
    token: &str,
) -> (String, ForgeProblem) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Remote);
    let text = format!("{error} {}", error.hint().unwrap_or_default());
    assert!(
        !text.contains(token) && !format!("{error:?}").contains(token),
        "{text}"
    );
    (text, error.problem)
}

#[tokio::test]
#[ignore = "needs Gitea: run tests/run forge"]
async fn token_without_a_right_gets_its_name() {
    let world = World::new().await;
    let request = world.request("tagboat/mine").await;
    let gone = "0123456789012345678901234567890123456789";
    let (text, problem) = failed(
        forge_of(world.gitea, &world.project, gone)
            .list(RequestFilter::Open, "")
            .await,
        gone,
    );
    assert!(
        matches!(problem, ForgeProblem::Unauthorized { .. }),
        "{text}"
    );
    assert!(
        text.contains("list pull requests")
            && text.contains("read:repository")
            && text.contains(&world.project),
        "{text}"
    );

    // Read access only.
    let token = world.gitea.token(&world.bot, &["read:repository"]).await;
    let reader = forge_of(world.gitea, &world.project, &token);
    assert_eq!(
        reader
            .list(RequestFilter::Open, "tagboat/")
            .await
            .unwrap()
            .len(),
        1
    );
    world.push("tagboat/other", "other");
    let status = CommitStatus {
        context: "c".into(),
        state: StatusState::Success,
        description: String::new(),
        url: None,
    };
    for (result, word, needs) in [
        (
            reader.open(&new("tagboat/other")).await.map(drop),
            "open a pull request",
            "write:repository",
        ),
        (
            reader.close(request.number).await,
            "change a pull request",
            "write:repository",
        ),
        (
            reader.comment(&request, "m", "text").await.map(drop),
            "comment on a pull request",
            "write:issue",
        ),
        (
            reader
                .label(request.number, &[super::world::label("l")], &[])
                .await,
            "label a pull request",
            "write:issue",
        ),
        (
            reader.set_status(&request.head_commit, &status).await,
            "set a commit status",
            "write:repository",
        ),
        (
            reader
                .merge(request.number, &merge(&request.head_commit))
                .await
                .map(drop),
            "merge a pull request",
            "write:repository",
        ),
        (
            reader.delete_branch("tagboat/other").await.map(drop),
            "delete a branch",
            "write:repository",
        ),
    ] {
        let (text, problem) = failed(result, &token);
        assert!(matches!(problem, ForgeProblem::Forbidden { .. }), "{text}");
        assert!(text.contains(word) && text.contains(needs), "{text}");
    }

    // A user with read access to the repository.
    let guest = world.gitea.user("guest").await;
    let token = world.gitea.token(&guest, &super::world::SCOPES).await;
    let guest = forge_of(world.gitea, &world.project, &token);
    let error = guest
        .merge(request.number, &merge(&request.head_commit))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not allowed"), "{error}");
    let (text, _) = failed(guest.close(request.number).await, &token);
    assert!(text.contains("change a pull request"), "{text}");

    // For other users a private repository does not exist.
    world
        .admin(Method::PATCH, "", json!({"private": true}))
        .await;
    let (text, problem) = failed(guest.list(RequestFilter::Open, "").await, &token);
    assert!(matches!(problem, ForgeProblem::NotFound { .. }), "{text}");
    assert!(text.contains("hidden from this token"), "{text}");
}
