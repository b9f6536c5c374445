//! GitLab's wire protocol: requests and responses as in its API documentation.

use super::support::{
    forge::{HEAD, TOKEN, forge, json, merge, new, sent},
    wire::{Manner, Reply, Seen, Wire, reply},
};
use serde_json::{Value, json};
use std::sync::Arc;
use tagboat::{
    core::error::{Classify, ErrorKind},
    io::forge::{
        CheckState, ChecksState, CommentOutcome, CommitStatus, Forge, ForgeProblem, MergeCommand,
        Mergeable, NewRequest, RequestFilter, RequestLabel, RequestPatch, RequestStatus,
        RequestedReviewer, StatusState,
    },
    spec::{ForgeKind, MergeMethod},
};

/// The project `group/sub/fleet`, as one segment.
const PROJECT: &str = "/api/v4/projects/group%2Fsub%2Ffleet";

fn gitlab(wire: &Wire) -> Arc<dyn Forge> {
    forge(wire, ForgeKind::Gitlab, "/api/v4", "group/sub/fleet")
}

fn user(id: u64, name: &str) -> Value {
    json!({"id": id, "username": name, "name": name, "state": "active", "web_url": "https://gitlab.example.com/x"})
}

/// A merge request as documented, without fields that are not read.
pub(super) fn request(iid: u64, branch: &str, state: &str) -> Value {
    json!({
        "id": 1000 + iid, "iid": iid, "project_id": 3, "title": "dev: web 1 → 2", "description": null, "state": state,
        "web_url": format!("https://gitlab.example.com/group/sub/fleet/-/merge_requests/{iid}"), "author": user(5, "tagboat"),
        "source_branch": branch, "target_branch": "main", "source_project_id": 3, "target_project_id": 3, "labels": ["images"],
        "draft": false, "sha": HEAD, "merge_commit_sha": null, "squash_commit_sha": null, "detailed_merge_status": "mergeable",
        "merge_status": "can_be_merged", "has_conflicts": false, "created_at": "2026-11-20T10:00:00.000Z",
        "updated_at": "2026-11-20T11:00:00.000Z", "merged_at": null, "closed_at": null, "merge_user": null, "closed_by": null,
        "reviewers": [user(8, "dan")], "head_pipeline": null,
    })
}

async fn fixed(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Wire {
    Wire::start(move |seen, _| answer(seen)).await
}

#[tokio::test]
async fn gitlab_calls_follow_the_published_api() {
    let wire = fixed(|seen| {
        let rest = seen.path().strip_prefix(PROJECT).unwrap_or(seen.path());
        match (seen.method.as_str(), rest) {
            ("GET", "/labels/tagboat%2Fhold") => json(404, &json!({"message": "404 Label Not Found"})),
            ("POST", "/labels") => json(201, &json!({"id": 2, "name": "tagboat/hold"})),
            ("DELETE", "/repository/branches/tagboat%2Fgone") => json(404, &json!({"message": "404 Branch Not Found"})),
            ("DELETE", _) => reply(204, ""),
            ("GET", "") => json(200, &json!({"id": 3, "merge_method": "ff", "squash_option": "default_off"})),
            ("GET", "/merge_requests") => json(200, &json!([request(7, "tagboat/dev", "opened")])),
            ("GET", "/merge_requests/7/notes") => json(200, &json!([
                {"id": 1, "body": "<!-- tagboat:rollout -->\nold", "author": user(6, "ann"), "system": false},
                {"id": 2, "body": "<!-- tagboat:rollout -->\nold", "author": user(5, "tagboat"), "system": false},
            ])),
            ("GET", "/api/v4/users") => match seen.target.split('=').next_back() {
                Some("ann") => json(200, &json!([user(6, "ann")])),
                _ => json(200, &json!([])),
            },
            ("GET", "/api/v4/groups/group%2Fplatform/members") => json(200, &json!([user(8, "dan"), user(9, "eve"), user(5, "tagboat")])),
            ("PUT", "/merge_requests/7/merge") => {
                let mut merged = request(7, "tagboat/dev", "merged");
                merged["merge_commit_sha"] = json!("abc");
                json(200, &merged)
            }
            ("POST", "/merge_requests/7/cancel_merge_when_pipeline_succeeds") => json(406, &json!({"message": "406 Not Acceptable"})),
            ("POST", path) if path.starts_with("/statuses/") => {
                json(400, &json!({"message": "Cannot transition status via :enqueue from :pending (Reason(s): Status cannot transition via \"enqueue\")"}))
            }
            _ => json(201, &request(7, "tagboat/dev", "opened")),
        }
    })
    .await;
    let forge = gitlab(&wire);
    let opened = forge
        .open(&NewRequest {
            draft: true,
            ..new("tagboat/dev")
        })
        .await
        .unwrap()
        .request;
    assert_eq!(
        (
            opened.number,
            opened.author.as_str(),
            opened.mergeable.clone()
        ),
        (7, "tagboat", Mergeable::Yes)
    );
    forge.find("tagboat/dev").await.unwrap().unwrap();
    forge.list(RequestFilter::Open, "tagboat/").await.unwrap();
    let since = "2026-11-19T00:00:00Z".parse().unwrap();
    assert!(
        forge
            .list(RequestFilter::EndedSince(since), "tagboat/")
            .await
            .unwrap()
            .is_empty(),
        "it is open"
    );
    forge
        .update(
            &opened,
            &RequestPatch {
                title: Some("t".into()),
                body: Some("b".into()),
            },
        )
        .await
        .unwrap();
    forge
        .label(
            7,
            &[RequestLabel {
                name: "tagboat/hold".into(),
                color: "0b7285".into(),
                description: "d".into(),
            }],
            &["images"],
        )
        .await
        .unwrap();
    let unasked = forge
        .ask_reviews(
            &opened,
            &[
                RequestedReviewer::parse("ann"),
                RequestedReviewer::parse("nobody"),
                RequestedReviewer::parse("team/platform"),
            ],
        )
        .await
        .unwrap();
    assert_eq!(
        unasked
            .iter()
            .map(|unasked| unasked.reviewer.to_string())
            .collect::<Vec<_>>(),
        ["nobody", "ann", "eve"],
        "GitLab kept dan alone"
    );
    assert_eq!(
        forge.comment(&opened, "rollout", "done").await.unwrap(),
        CommentOutcome::Changed
    );
    let wish = MergeCommand {
        title: "t".into(),
        message: "m".into(),
        delete_branch: true,
        ..merge()
    };
    assert_eq!(forge.merge(7, &wish).await.unwrap().as_deref(), Some("abc"));
    forge
        .merge_when_ready(
            &opened,
            &MergeCommand {
                method: Some(MergeMethod::Rebase),
                ..merge()
            },
        )
        .await
        .unwrap();
    forge.cancel_merge(&opened).await.unwrap();
    forge.close(7).await.unwrap();
    assert!(forge.delete_branch("tagboat/dev").await.unwrap());
    assert!(!forge.delete_branch("tagboat/gone").await.unwrap());
    forge
        .set_status(
            HEAD,
            &CommitStatus {
                context: "tagboat/dev".into(),
                state: StatusState::Failure,
                description: "d".into(),
                url: None,
            },
        )
        .await
        .unwrap();
    let list = "sort=desc&per_page=100";
    assert_eq!(
        sent(&wire),
        [
            format!(
                "POST {PROJECT}/merge_requests {}",
                json!({"source_branch": "tagboat/dev", "target_branch": "main", "title": "Draft: dev: web 1 → 2", "description": "text"})
            ),
            format!(
                "GET {PROJECT}/merge_requests?source_branch=tagboat%2Fdev&state=all&scope=all&order_by=created_at&{list}"
            ),
            format!(
                "GET {PROJECT}/merge_requests?state=opened&order_by=created_at&scope=all&{list}"
            ),
            format!(
                "GET {PROJECT}/merge_requests?state=all&order_by=updated_at&updated_after=2026-11-19T00%3A00%3A00Z&scope=all&{list}"
            ),
            format!(
                "PUT {PROJECT}/merge_requests/7 {}",
                json!({"title": "t", "description": "b"})
            ),
            format!("GET {PROJECT}/labels/tagboat%2Fhold"),
            format!(
                "POST {PROJECT}/labels {}",
                json!({"name": "tagboat/hold", "color": "#0b7285", "description": "d"})
            ),
            format!(
                "PUT {PROJECT}/merge_requests/7 {}",
                json!({"add_labels": "tagboat/hold", "remove_labels": "images"})
            ),
            "GET /api/v4/users?username=ann".to_owned(),
            "GET /api/v4/users?username=nobody".to_owned(),
            "GET /api/v4/groups/group%2Fplatform/members?per_page=100".to_owned(),
            format!("GET {PROJECT}/merge_requests/7"),
            format!(
                "PUT {PROJECT}/merge_requests/7 {}",
                json!({"reviewer_ids": [6, 8, 9]})
            ),
            format!("GET {PROJECT}/merge_requests/7"),
            format!(
                "GET {PROJECT}/merge_requests/7/notes?sort=asc&order_by=created_at&per_page=100"
            ),
            format!(
                "PUT {PROJECT}/merge_requests/7/notes/2 {}",
                json!({"body": "<!-- tagboat:rollout -->\ndone"})
            ),
            format!(
                "PUT {PROJECT}/merge_requests/7/merge {}",
                json!({"sha": HEAD, "should_remove_source_branch": true, "merge_commit_message": "t\n\nm", "squash_commit_message": "t\n\nm"})
            ),
            format!("GET {PROJECT}"),
            format!(
                "PUT {PROJECT}/merge_requests/7/merge {}",
                json!({"sha": HEAD, "should_remove_source_branch": false, "squash": false, "auto_merge": true, "merge_when_pipeline_succeeds": true})
            ),
            format!("POST {PROJECT}/merge_requests/7/cancel_merge_when_pipeline_succeeds"),
            format!(
                "PUT {PROJECT}/merge_requests/7 {}",
                json!({"state_event": "close"})
            ),
            format!("DELETE {PROJECT}/repository/branches/tagboat%2Fdev"),
            format!("DELETE {PROJECT}/repository/branches/tagboat%2Fgone"),
            format!(
                "POST {PROJECT}/statuses/{HEAD} {}",
                json!({"state": "failed", "name": "tagboat/dev", "description": "d"})
            ),
        ]
    );
    assert!(wire.seen().iter().all(
        |seen| seen.header("private-token") == TOKEN && seen.header("authorization").is_empty()
    ));
    assert_eq!(
        forge.compare_url("a", "b"),
        format!("http://{}/group/sub/fleet/-/compare/a...b", wire.host)
    );
}

#[tokio::test]
async fn gitlab_pages_follow_the_server_count() {
    let wire = fixed(|seen| {
        let page = if seen.target.contains("&page=2") {
            2
        } else {
            1
        };
        let etag = format!("W/\"{page}\"");
        if seen.header("if-none-match") == etag {
            return reply(304, "").with("ETag", etag);
        }
        let mut fork = request(page * 10, "tagboat/dev", "opened");
        fork["source_project_id"] = json!(77);
        let next = if page == 1 { "2" } else { "" };
        json(200, &json!([request(page, "tagboat/dev", "opened"), fork]))
            .with("X-Next-Page", next)
            .with("ETag", etag)
    })
    .await;
    let forge = gitlab(&wire);
    for _ in 0..2 {
        let listed = forge.list(RequestFilter::Open, "tagboat/").await.unwrap();
        assert_eq!(
            listed
                .iter()
                .map(|request| request.number)
                .collect::<Vec<_>>(),
            [1, 2]
        );
    }
    let conditions: Vec<String> = wire
        .seen()
        .iter()
        .map(|seen| seen.header("if-none-match").to_owned())
        .collect();
    assert_eq!(conditions, ["", "", "W/\"1\"", "W/\"2\""]);
}

#[tokio::test]
async fn gitlab_refusal_names_right_not_token() {
    type Case = (
        u16,
        Vec<(&'static str, String)>,
        Value,
        fn(&ForgeProblem) -> bool,
        Option<u64>,
        &'static str,
    );
    let soon = jiff::Timestamp::now().as_second() + 90;
    let none = Vec::new;
    let cases: Vec<Case> = vec![
        (
            401,
            none(),
            json!({"message": "401 Unauthorized"}),
            |p| matches!(p, ForgeProblem::Unauthorized { .. }),
            None,
            "scope api",
        ),
        (
            403,
            none(),
            json!({"error": "insufficient_scope", "error_description": format!("not with {TOKEN}"), "scope": "api"}),
            |p| matches!(p, ForgeProblem::Forbidden { .. }),
            None,
            "with ***",
        ),
        (
            404,
            none(),
            json!({"message": "404 Project Not Found"}),
            |p| matches!(p, ForgeProblem::NotFound { .. }),
            None,
            "Project Not Found",
        ),
        (
            422,
            none(),
            json!({"message": {"base": ["cannot be created"]}}),
            |p| matches!(p, ForgeProblem::Refused { status: 422, .. }),
            None,
            "cannot be created",
        ),
        (
            429,
            vec![
                ("ratelimit-reset", soon.to_string()),
                ("ratelimit-remaining", "0".into()),
            ],
            json!({}),
            |p| matches!(p, ForgeProblem::Throttled { .. }),
            Some(90),
            "next try",
        ),
        (
            429,
            vec![("retry-after", "8".into())],
            json!({}),
            |p| matches!(p, ForgeProblem::Throttled { .. }),
            Some(8),
            "next try",
        ),
        (
            400,
            none(),
            json!({"message": ["title is too long (maximum is 255 characters)"]}),
            |p| matches!(p, ForgeProblem::Refused { status: 400, .. }),
            None,
            "title is too long",
        ),
    ];
    for (status, headers, body, is, wait, words) in cases {
        let shown = format!("{status} {body}");
        let wire = fixed(move |_| {
            headers
                .iter()
                .fold(json(status, &body), |reply, (name, value)| {
                    reply.with(name, value)
                })
        })
        .await;
        let error = gitlab(&wire).open(&new("x")).await.unwrap_err();
        let text = format!("{error} {}", error.hint().unwrap_or_default());
        assert!(
            is(&error.problem)
                && text.contains(words)
                && text.contains("group/sub/fleet: cannot open a pull request"),
            "{shown}: {text}"
        );
        assert!(
            !text.contains(TOKEN) && !format!("{error:?}").contains(TOKEN),
            "{text}"
        );
        assert_eq!(error.kind(), ErrorKind::Remote);
        let delay = error.retry_after().map(|wait| wait.as_secs());
        assert!(
            delay
                .zip(wait)
                .is_none_or(|(delay, wait)| delay.abs_diff(wait) <= 2)
                && delay.is_some() == wait.is_some(),
            "{shown}: {delay:?}"
        );
    }
    for (answer, words) in [
        (reply(200, "[{"), "no such JSON"),
        (
            reply(200, "<!DOCTYPE html>").with("Content-Type", "text/html"),
            "HTML",
        ),
        (
            reply(500, r#"{"message":"500 Internal Server Error"}"#),
            "answered 500",
        ),
    ] {
        let wire = fixed(move |_| answer.clone()).await;
        let error = gitlab(&wire)
            .list(RequestFilter::Open, "")
            .await
            .unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn gitlab_lost_or_existing_is_found() {
    for lost in [true, false] {
        let wire = fixed(move |seen| match (seen.method.as_str(), lost) {
            ("POST", true) => json(201, &request(7, "tagboat/dev", "opened")).manner(Manner::Cut(9)),
            ("POST", false) => json(409, &json!({"message": ["Another open merge request already exists for this source branch: !7"]})),
            _ => json(200, &json!([request(9, "tagboat/dev", "closed"), request(7, "tagboat/dev", "opened")])),
        })
        .await;
        let opened = gitlab(&wire).open(&new("tagboat/dev")).await.unwrap();
        assert!(opened.found && opened.request.number == 7);
        assert_eq!(wire.seen().len(), 2);
    }
}

#[tokio::test]
async fn gitlab_merge_uses_verified_head_and_method() {
    type Case = (
        u16,
        Value,
        &'static str,
        &'static str,
        fn(&Result<Option<String>, ForgeProblem>) -> bool,
    );
    let cases: Vec<Case> = vec![
        (
            401,
            json!({"message": "401 Unauthorized"}),
            "opened",
            HEAD,
            |r| matches!(r, Err(ForgeProblem::Forbidden { .. })),
        ),
        (
            405,
            json!({"message": "405 Method Not Allowed"}),
            "opened",
            HEAD,
            |r| matches!(r, Err(ForgeProblem::NotMergeable { .. })),
        ),
        (
            409,
            json!({"message": "SHA does not match HEAD of source branch: x"}),
            "opened",
            "other",
            |r| matches!(r, Err(ForgeProblem::HeadChanged { .. })),
        ),
        (
            422,
            json!({"message": "Branch cannot be merged"}),
            "opened",
            HEAD,
            |r| matches!(r, Err(ForgeProblem::NotMergeable { .. })),
        ),
        (
            502,
            json!({}),
            "merged",
            HEAD,
            |r| matches!(r, Ok(Some(commit)) if commit == HEAD),
        ),
        (
            405,
            json!({"message": "405 Method Not Allowed"}),
            "merged",
            "other",
            |r| matches!(r, Err(ForgeProblem::NotMergeable { .. })),
        ),
    ];
    for (status, body, state, head, is) in cases {
        let shown = format!("{status} {body} {state}");
        let wire = fixed(move |seen| {
            let mut now = request(7, "tagboat/dev", state);
            now["sha"] = json!(head);
            if seen.method == "PUT" {
                json(status, &body)
            } else {
                json(200, &now)
            }
        })
        .await;
        let merged = gitlab(&wire)
            .merge(7, &merge())
            .await
            .map_err(|error| error.problem);
        assert!(is(&merged), "{shown}: {merged:?}");
        assert_eq!(
            wire.seen()
                .iter()
                .filter(|seen| seen.method == "PUT")
                .count(),
            1,
            "{shown}"
        );
    }
    for (method, settings, words) in [
        (
            MergeMethod::Squash,
            json!({"merge_method": "merge", "squash_option": "never"}),
            "never squashes",
        ),
        (
            MergeMethod::Merge,
            json!({"merge_method": "ff", "squash_option": "default_on"}),
            "fast-forward only",
        ),
        (
            MergeMethod::Rebase,
            json!({"merge_method": "merge", "squash_option": "default_on"}),
            "merge commits",
        ),
        (
            MergeMethod::Merge,
            json!({"merge_method": "merge", "squash_option": "always"}),
            "always squashes",
        ),
    ] {
        let wire = fixed(move |_| json(200, &settings)).await;
        let error = gitlab(&wire)
            .merge(
                7,
                &MergeCommand {
                    method: Some(method),
                    ..merge()
                },
            )
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains(words) && error.kind() == ErrorKind::Config,
            "{error}"
        );
        assert!(wire.seen().iter().all(|seen| seen.method == "GET"));
    }
}

#[tokio::test]
async fn gitlab_pipelines_count_for_their_head() {
    let pipeline = |sha: &str, at: &str, status: &str| json!({"id": 1, "sha": sha, "ref": at, "status": status, "web_url": "https://p"});
    let of_merge = "refs/merge-requests/7/merge";
    for (pipeline, parents, status, expected) in [
        (
            pipeline(HEAD, "tagboat/dev", "success"),
            json!([]),
            "mergeable",
            ChecksState::Passed,
        ),
        (
            pipeline(HEAD, "tagboat/dev", "failed"),
            json!([]),
            "ci_must_pass",
            ChecksState::Failed,
        ),
        (
            pipeline(HEAD, "tagboat/dev", "skipped"),
            json!([]),
            "mergeable",
            ChecksState::None,
        ),
        (
            pipeline("merged", of_merge, "success"),
            json!(["base", HEAD]),
            "mergeable",
            ChecksState::Passed,
        ),
        // It ran before the last push.
        (
            pipeline("merged", of_merge, "success"),
            json!(["base", "before"]),
            "ci_must_pass",
            ChecksState::Pending,
        ),
        (
            pipeline("before", "tagboat/dev", "success"),
            json!([]),
            "mergeable",
            ChecksState::None,
        ),
        (Value::Null, json!([]), "ci_must_pass", ChecksState::Pending),
        (Value::Null, json!([]), "mergeable", ChecksState::None),
    ] {
        let shown = format!("{pipeline} {status}");
        let wire = fixed(move |seen| match seen.path() {
            path if path.ends_with("/statuses") => json(200, &json!([])),
            path if path.contains("/repository/commits/") => {
                json(200, &json!({"id": "merged", "parent_ids": parents}))
            }
            _ => {
                let mut now = request(7, "tagboat/dev", "opened");
                now["head_pipeline"] = pipeline.clone();
                now["detailed_merge_status"] = json!(status);
                json(200, &now)
            }
        })
        .await;
        let forge = gitlab(&wire);
        let now = forge.get(7).await.unwrap();
        assert_eq!(forge.checks(&now).await.unwrap().state, expected, "{shown}");
    }
    // A project that merges after green pipelines does not list its required checks.
    let pipelines = [
        (json!(null), ChecksState::Pending),
        (
            pipeline(HEAD, "tagboat/dev", "success"),
            ChecksState::Passed,
        ),
    ];
    for (pipeline, expected) in pipelines {
        let wire = fixed(move |seen| match seen.path() {
            PROJECT => json(
                200,
                &json!({"id": 3, "only_allow_merge_if_pipeline_succeeds": true}),
            ),
            path if path.ends_with("/statuses") => json(200, &json!([])),
            _ => {
                let mut now = request(7, "tagboat/dev", "opened");
                now["head_pipeline"] = pipeline.clone();
                json(200, &now)
            }
        })
        .await;
        let forge = gitlab(&wire);
        let checks = forge.checks(&forge.get(7).await.unwrap()).await.unwrap();
        assert_eq!(
            (
                checks.state,
                checks.named.iter().all(|check| check.required)
            ),
            (expected, true)
        );
    }
    let wire = fixed(|seen| match seen.path() {
        path if path.ends_with("/statuses") => json(200, &json!([
            {"name": "lint", "status": "failed", "allow_failure": true}, {"name": "build", "status": "success", "created_at": "2026-11-20T10:00:00Z", "finished_at": "2026-11-20T10:01:00Z", "author": user(6, "ann")}, {"name": "deploy", "status": "manual", "allow_failure": true},
            {"name": "e2e", "status": "running", "target_url": "https://e"},
        ])),
        path if path.ends_with("/approvals") => json(200, &json!({"approvals_required": 2, "approvals_left": 1, "approved_by": [{"user": user(6, "ann"), "approved_at": "2026-11-20T11:00:00.000Z"}]})),
        path if path.ends_with("/versions") => json(200, &json!([version(1, HEAD, "10:00")])),
        path if path.ends_with("/reviewers") => json(200, &json!([{"user": user(8, "dan"), "state": "requested_changes"}, {"user": user(6, "ann"), "state": "approved"}])),
        _ => json(200, &request(7, "tagboat/dev", "opened")),
    })
    .await;
    let forge = gitlab(&wire);
    let now = forge.get(7).await.unwrap();
    let checks = forge.checks(&now).await.unwrap();
    let shown: Vec<_> = checks
        .named
        .iter()
        .map(|check| (check.name.as_str(), check.state))
        .collect();
    assert_eq!(
        shown,
        [
            ("build", CheckState::Passed),
            ("deploy", CheckState::Skipped),
            ("e2e", CheckState::Pending),
            ("lint", CheckState::Skipped)
        ]
    );
    assert_eq!(
        checks.named[0].at.unwrap().to_string(),
        "2026-11-20T10:01:00Z"
    );
    assert_eq!(checks.named[0].app.as_deref(), Some("ann"));
    let approvals = forge.approvals(&now).await.unwrap();
    assert_eq!(
        (approvals.by.as_slice(), approvals.required),
        (["ann".to_owned()].as_slice(), Some(2))
    );
    assert_eq!(
        (approvals.changes_requested.as_slice(), approvals.suffice()),
        (["dan".to_owned()].as_slice(), false)
    );
    // The current head is not the verified one.
    let error = forge
        .checks(&tagboat::io::forge::PullRequest {
            head_commit: "before".into(),
            ..now
        })
        .await
        .unwrap_err();
    assert!(
        matches!(error.problem, ForgeProblem::HeadChanged { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn gitlab_merge_method_requires_up_to_date_branch() {
    for (method, expected) in [("merge", false), ("rebase_merge", true), ("ff", true)] {
        let wire = fixed(move |_| {
            json(
                200,
                &json!({"id": 3, "merge_method": method, "squash_option": "default_off"}),
            )
        })
        .await;
        let forge = gitlab(&wire);
        assert_eq!(
            forge.wants_newest("main").await.unwrap(),
            expected,
            "{method}"
        );
        assert_eq!(
            forge.wants_newest("main").await.unwrap(),
            expected,
            "{method}"
        );
        assert_eq!(wire.targets(), [PROJECT], "queried once in a pass");
    }
}

/// A version of a request's diff; each push creates one.
fn version(id: u64, head: &str, time: &str) -> Value {
    json!({
        "id": id, "head_commit_sha": head, "base_commit_sha": "base", "start_commit_sha": "base",
        "created_at": format!("2026-11-20T{time}:00.000Z"), "merge_request_id": 1007, "state": "collected", "real_size": "1",
    })
}

#[tokio::test]
async fn gitlab_approval_of_earlier_head_is_ignored() {
    let approved = |by: &str, time: Option<&str>| match time {
        Some(time) => {
            json!({"user": user(6, by), "approved_at": format!("2026-11-20T{time}:00.000Z")})
        }
        // GitLab before 18.
        None => json!({"user": user(6, by)}),
    };
    let note = |by: &str, body: &str, time: &str, system: bool| json!({"id": 1, "body": body, "author": user(6, by), "system": system, "created_at": format!("2026-11-20T{time}:00.000Z")});
    let words = "approved this merge request";
    let (head, both) = (
        version(2, HEAD, "10:00"),
        vec![version(2, HEAD, "10:00"), version(1, "before", "09:00")],
    );
    let cases = [
        (
            "after the push",
            vec![approved("ann", Some("11:00"))],
            both.clone(),
            vec![],
            vec!["ann"],
            vec![],
        ),
        (
            "before the push",
            vec![approved("ann", Some("09:30"))],
            both.clone(),
            vec![],
            vec![],
            vec!["ann"],
        ),
        (
            "one of each",
            vec![
                approved("ann", Some("09:30")),
                approved("bob", Some("10:30")),
            ],
            both.clone(),
            vec![],
            vec!["bob"],
            vec!["ann"],
        ),
        // A push to the base creates another version of the same head; the approval between the two
        // is for that head.
        (
            "the same head",
            vec![approved("ann", Some("10:30"))],
            vec![
                version(3, HEAD, "11:00"),
                head.clone(),
                version(1, "before", "09:00"),
            ],
            vec![],
            vec!["ann"],
            vec![],
        ),
        // The head was this one, then another, then this one again: the approval may be for the
        // other.
        (
            "pushed back",
            vec![approved("ann", Some("10:30"))],
            vec![
                version(3, HEAD, "11:00"),
                version(2, "other", "10:20"),
                version(1, HEAD, "09:00"),
            ],
            vec![],
            vec![],
            vec!["ann"],
        ),
        // GitLab has not processed the push yet.
        (
            "no version of the head",
            vec![approved("ann", Some("11:00"))],
            vec![version(1, "before", "09:00")],
            vec![],
            vec![],
            vec!["ann"],
        ),
        (
            "no time, no note",
            vec![approved("ann", None)],
            both.clone(),
            vec![],
            vec![],
            vec!["ann"],
        ),
        (
            "a note after",
            vec![approved("ann", None)],
            both.clone(),
            vec![note("ann", words, "10:30", true)],
            vec!["ann"],
            vec![],
        ),
        (
            "a note before, and one of another user",
            vec![approved("ann", None)],
            both.clone(),
            vec![
                note("bob", words, "10:30", true),
                note("ann", words, "09:30", true),
            ],
            vec![],
            vec!["ann"],
        ),
        (
            "a comment",
            vec![approved("ann", None)],
            both,
            vec![note("ann", words, "10:30", false)],
            vec![],
            vec!["ann"],
        ),
    ];
    for (what, approvals, versions, notes, by, earlier) in cases {
        let wire = fixed(move |seen| match seen.path() {
            path if path.ends_with("/approvals") => json(
                200,
                &json!({"approvals_required": 1, "approved_by": approvals}),
            ),
            path if path.ends_with("/versions") => json(200, &json!(versions)),
            path if path.ends_with("/notes") => json(200, &json!(notes)),
            path if path.ends_with("/reviewers") => json(200, &json!([])),
            _ => json(200, &request(7, "tagboat/dev", "opened")),
        })
        .await;
        let forge = gitlab(&wire);
        let now = forge.get(7).await.unwrap();
        let approvals = forge.approvals(&now).await.unwrap();
        assert_eq!(
            (approvals.by.clone(), approvals.earlier.clone()),
            (owned(&by), owned(&earlier)),
            "{what}"
        );
        assert_eq!(approvals.suffice(), !by.is_empty(), "{what}");
    }
    // Without required approvals nothing more is queried.
    let wire = fixed(|seen| match seen.path() {
        path if path.ends_with("/approvals") => json(
            200,
            &json!({"approved": true, "approved_by": [{"user": user(6, "ann")}]}),
        ),
        path if path.ends_with("/reviewers") => json(404, &json!({"message": "404 Not Found"})),
        _ => json(200, &request(7, "tagboat/dev", "opened")),
    })
    .await;
    let forge = gitlab(&wire);
    let now = forge.get(7).await.unwrap();
    assert!(forge.approvals(&now).await.unwrap().suffice());
    assert_eq!(wire.targets().len(), 3, "{:?}", wire.targets());
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[tokio::test]
async fn gitlab_ended_request_names_its_user() {
    let wire = fixed(|_| {
        let mut merged = request(7, "tagboat/dev", "merged");
        merged["merge_user"] = user(6, "ann");
        merged["merged_at"] = json!("2026-11-20T12:00:00.000Z");
        merged["squash_commit_sha"] = json!("squashed");
        let mut closed = request(8, "tagboat/prod", "closed");
        closed["closed_by"] = user(8, "dan");
        json(200, &json!([merged, closed]))
    })
    .await;
    let ended = gitlab(&wire)
        .list(
            RequestFilter::EndedSince("2026-11-19T00:00:00Z".parse().unwrap()),
            "tagboat/",
        )
        .await
        .unwrap();
    let shown: Vec<_> = ended
        .iter()
        .map(|request| {
            (
                request.state,
                request.ended.clone().unwrap().by.unwrap(),
                request.ended.clone().unwrap().commit,
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            (
                RequestStatus::Merged,
                "ann".to_owned(),
                Some("squashed".to_owned())
            ),
            (RequestStatus::Closed, "dan".to_owned(), None)
        ]
    );
}

#[tokio::test]
async fn gitlab_releases_of_another_project_are_read() {
    let wire = fixed(|seen| match seen.path() {
        "/api/v4/projects/other%2Fapp/releases" => json(200, &json!([])),
        _ => json(
            200,
            &json!([{"name": "v1.1.0", "message": ""}, {"name": "v1.0.0"}]),
        ),
    })
    .await;
    let found = gitlab(&wire)
        .releases("other/app", "1.0.0", "1.1.0")
        .await
        .unwrap();
    assert_eq!(
        found
            .iter()
            .map(|release| release.tag.as_str())
            .collect::<Vec<_>>(),
        ["v1.1.0"]
    );
    assert_eq!(
        found[0].url,
        format!("http://{}/other/app/-/tags/v1.1.0", wire.host)
    );
    assert_eq!(
        wire.targets(),
        [
            "/api/v4/projects/other%2Fapp/releases?per_page=100",
            "/api/v4/projects/other%2Fapp/repository/tags?per_page=100"
        ]
    );
}
