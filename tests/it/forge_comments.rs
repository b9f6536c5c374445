//! The bot's one comment on each forge's wire protocol, also after the bot's account has changed.

use super::support::{
    forge::{HEAD, forge, json, sent},
    wire::{Reply, Wire, reply},
};
use serde_json::{Value, json};
use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};
use tagboat::{
    io::forge::{CommentOutcome, Mergeable, PullRequest, RequestFilter, RequestStatus},
    spec::ForgeKind,
};

const KINDS: [ForgeKind; 3] = [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea];

/// A request that the bot opened with its old account.
fn request() -> PullRequest {
    PullRequest {
        number: 7,
        url: String::new(),
        state: RequestStatus::Open,
        head: "tagboat/dev".into(),
        head_commit: HEAD.into(),
        base: "main".into(),
        title: String::new(),
        body: String::new(),
        labels: Vec::new(),
        author: "before".into(),
        draft: false,
        opened: None,
        updated: None,
        ended: None,
        mergeable: Mergeable::Unknown,
        id: String::new(),
    }
}

/// A forge with comments and the account `now`. It allows changes of its own comments only, and
/// reveals the account's name if `tells`.
async fn start(kind: ForgeKind, tells: bool, comments: &[(&str, &str)]) -> Wire {
    let user = move |name: &str| match kind {
        ForgeKind::Gitlab => json!({"id": 1, "username": name}),
        _ => json!({"id": 1, "login": name}),
    };
    let entry = move |id: u64, name: &str, body: &str| match kind {
        ForgeKind::Gitlab => json!({"id": id, "body": body, "author": user(name), "system": false}),
        _ => json!({"id": id, "body": body, "user": user(name)}),
    };
    let first = comments
        .iter()
        .zip(1..)
        .map(|((name, text), id)| entry(id, name, &format!("<!-- tagboat:rollout -->\n{text}")));
    let (comments, next): (Mutex<Vec<Value>>, _) =
        (Mutex::new(first.collect()), AtomicU64::new(100));
    Wire::start(move |seen, _| -> Reply {
        let mut comments = comments.lock().unwrap();
        let body = || serde_json::from_str::<Value>(&seen.body).unwrap()["body"].clone();
        match (seen.method.as_str(), seen.path()) {
            ("POST", "/graphql") if tells => {
                json(200, &json!({"data": {"viewer": {"login": "now"}}}))
            }
            ("GET", "/user") if tells => json(200, &user("now")),
            (_, "/graphql" | "/user") => json(
                403,
                &json!({"message": "Resource not accessible by integration"}),
            ),
            ("GET", path) if path.ends_with("/pulls") || path.ends_with("/merge_requests") => {
                json(200, &json!([]))
            }
            ("GET", _) => json(200, &json!(*comments)),
            ("POST", _) => {
                comments.push(entry(
                    next.fetch_add(1, Ordering::Relaxed),
                    "now",
                    body().as_str().unwrap(),
                ));
                json(201, comments.last().unwrap())
            }
            (_, path) => {
                let id: u64 = path.rsplit('/').next().unwrap().parse().unwrap();
                let found = comments
                    .iter_mut()
                    .find(|comment| comment["id"] == id)
                    .unwrap();
                let author = if kind == ForgeKind::Gitlab {
                    &found["author"]["username"]
                } else {
                    &found["user"]["login"]
                };
                if author != "now" {
                    return json(403, &json!({"message": "403 Forbidden"}));
                }
                found["body"] = body();
                reply(200, found.to_string())
            }
        }
    })
    .await
}

#[tokio::test]
async fn comment_of_another_account_is_not_edited() {
    use CommentOutcome::{Changed, Made, Same};
    for kind in KINDS {
        for tells in [false, true] {
            // No comment yet; a comment of another user with the marker does not count.
            for before in [&[][..], &[("mallory", "x")], &[("before", "old")]] {
                let wire = start(kind, tells, before).await;
                let shown = format!("{kind} {tells} {before:?}");
                let forge = forge(&wire, kind, "", "acme/fleet");
                for (text, done) in [
                    ("one", Made),
                    ("one", Same),
                    ("two", Changed),
                    ("three", Changed),
                ] {
                    forge.list(RequestFilter::Open, "").await.unwrap();
                    assert_eq!(
                        forge.comment(&request(), "rollout", text).await.unwrap(),
                        done,
                        "{shown}: {text}"
                    );
                }
                let made = sent(&wire)
                    .iter()
                    .filter(|line| line.starts_with("POST") && !line.contains("graphql"))
                    .count();
                assert_eq!(made, 1, "{shown}");
            }
        }
    }
}

#[tokio::test]
async fn comment_is_found_by_another_process() {
    for kind in KINDS {
        for before in [
            &[("now", "old")][..],
            &[("mallory", "x"), ("now", "old")],
            &[("before", "old"), ("now", "old")],
        ] {
            let wire = start(kind, true, before).await;
            let shown = format!("{kind} {before:?}");
            let forge = forge(&wire, kind, "", "acme/fleet");
            assert_eq!(
                forge.comment(&request(), "rollout", "new").await.unwrap(),
                CommentOutcome::Changed,
                "{shown}"
            );
        }
    }
}

#[tokio::test]
async fn comment_known_author_needs_no_user_request() {
    for kind in KINDS {
        let wire = start(kind, true, &[("mallory", "x"), ("now", "old")]).await;
        let forge = forge(&wire, kind, "", "acme/fleet");
        let own = PullRequest {
            author: "now".into(),
            ..request()
        };
        assert_eq!(
            forge.comment(&own, "rollout", "new").await.unwrap(),
            CommentOutcome::Changed,
            "{kind}"
        );
        assert!(
            sent(&wire)
                .iter()
                .all(|line| !line.contains("graphql") && !line.contains("/user")),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn account_is_told_or_unknown() {
    for kind in [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea] {
        for tells in [true, false] {
            let wire = start(kind, tells, &[]).await;
            let forge = forge(&wire, kind, "", "acme/fleet");
            let account = forge.account().await.unwrap();
            assert_eq!(account.as_deref(), tells.then_some("now"), "{kind}");
        }
    }
}
