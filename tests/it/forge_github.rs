//! GitHub's wire protocol: requests as in its REST description of 2022-11-28, responses as
//! documented.

use super::support::{
    forge::{HEAD, TOKEN, connect, forge, json, merge, new, sent},
    wire::{Manner, Reply, Seen, Wire, reply},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::{rsa, signature};
use rustls::pki_types::{PrivatePkcs1KeyDer, pem::PemObject};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tagboat::{
    core::{
        error::{Classify, ErrorKind},
        secret::Secret,
    },
    io::forge::{
        CheckState, ChecksState, CommentOutcome, CommitStatus, Forge, ForgeLogin, ForgeProblem,
        MergeCommand, Mergeable, RequestFilter, RequestLabel, RequestPatch, RequestStatus,
        RequestedReviewer, StatusState,
    },
    spec::{ForgeKind, MergeMethod},
};

const PULLS: &str = "/repos/acme/fleet/pulls";

fn github(wire: &Wire) -> Arc<dyn Forge> {
    forge(wire, ForgeKind::Github, "", "acme/fleet")
}

/// A pull request as documented, without fields that are not read.
pub(super) fn pull(number: u64, branch: &str, state: &str) -> Value {
    json!({
        "number": number, "node_id": format!("PR_{number}"), "html_url": format!("https://github.com/acme/fleet/pull/{number}"),
        "state": state, "title": "dev: web 1 → 2", "body": null, "draft": false, "labels": [{"id": 1, "name": "images"}],
        "user": {"login": "tagboat[bot]", "type": "Bot"}, "created_at": "2026-11-20T10:00:00Z", "updated_at": "2026-11-20T11:00:00Z",
        "closed_at": null, "merged_at": null, "merge_commit_sha": "e5bd3914e2e596debea16f433f57875b5b90bcd6",
        "head": {"label": format!("acme:{branch}"), "ref": branch, "sha": HEAD, "repo": {"id": 1, "full_name": "acme/fleet"}},
        "base": {"label": "acme:main", "ref": "main", "sha": HEAD, "repo": {"id": 1, "full_name": "acme/fleet"}},
        "mergeable": true, "mergeable_state": "clean", "merged_by": null,
    })
}

async fn fixed(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Wire {
    Wire::start(move |seen, _| answer(seen)).await
}

#[tokio::test]
async fn github_calls_follow_the_published_api() {
    let wire = fixed(|seen| match (seen.method.as_str(), seen.path()) {
        ("GET", "/repos/acme/fleet/labels/tagboat%2Fhold") => json(404, &json!({"message": "Not Found"})),
        ("POST", "/repos/acme/fleet/labels") => json(201, &json!({"id": 2, "name": "tagboat/hold"})),
        ("DELETE", "/repos/acme/fleet/git/refs/heads/tagboat/gone") => json(422, &json!({"message": "Reference does not exist"})),
        ("DELETE", _) => reply(204, ""),
        ("PUT", _) => json(200, &json!({"sha": "abc", "merged": true, "message": "Pull Request successfully merged"})),
        ("GET", "/repos/acme/fleet") => {
            json(200, &json!({"allow_merge_commit": false, "allow_squash_merge": true, "allow_rebase_merge": true}))
        }
        ("GET", "/repos/acme/fleet/issues/7/comments") => json(200, &json!([])),
        ("GET", PULLS) => json(200, &json!([pull(7, "tagboat/dev", "open")])),
        ("POST", "/graphql") => json(200, &json!({"data": {"enablePullRequestAutoMerge": {"clientMutationId": null}}})),
        _ => json(201, &pull(7, "tagboat/dev", "open")),
    })
    .await;
    let forge = github(&wire);
    let request = forge.open(&new("tagboat/dev")).await.unwrap().request;
    assert_eq!(
        (
            request.number,
            request.author.as_str(),
            request.mergeable.clone()
        ),
        (7, "tagboat[bot]", Mergeable::Yes)
    );
    forge.find("tagboat/dev").await.unwrap().unwrap();
    forge.list(RequestFilter::Open, "tagboat/").await.unwrap();
    forge
        .update(
            &request,
            &RequestPatch {
                title: Some("t".into()),
                body: None,
            },
        )
        .await
        .unwrap();
    forge
        .update(&request, &RequestPatch::default())
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
    forge
        .ask_reviews(
            &request,
            &[
                RequestedReviewer::parse("ann"),
                RequestedReviewer::parse("team/platform"),
                RequestedReviewer::parse("other/team"),
            ],
        )
        .await
        .unwrap();
    assert_eq!(
        forge.comment(&request, "rollout", "done").await.unwrap(),
        CommentOutcome::Made
    );
    let wish = MergeCommand {
        title: "t".into(),
        message: "m".into(),
        ..merge()
    };
    assert_eq!(forge.merge(7, &wish).await.unwrap().as_deref(), Some("abc"));
    forge
        .merge_when_ready(
            &request,
            &MergeCommand {
                method: Some(MergeMethod::Rebase),
                ..merge()
            },
        )
        .await
        .unwrap();
    forge.close(7).await.unwrap();
    assert!(forge.delete_branch("tagboat/dev").await.unwrap());
    assert!(!forge.delete_branch("tagboat/gone").await.unwrap());
    let status = CommitStatus {
        context: "tagboat/dev".into(),
        state: StatusState::Failure,
        description: "x".repeat(200),
        url: Some("https://x".into()),
    };
    forge.set_status(HEAD, &status).await.unwrap();
    let cut = format!("{}…", "x".repeat(139));
    let mutation = "mutation($input: EnablePullRequestAutoMergeInput!) { enablePullRequestAutoMerge(input: $input) { clientMutationId } }";
    assert_eq!(
        sent(&wire),
        [
            format!(
                "POST {PULLS} {}",
                json!({"title": "dev: web 1 → 2", "head": "tagboat/dev", "base": "main", "body": "text", "draft": false, "maintainer_can_modify": false})
            ),
            format!(
                "GET {PULLS}?state=all&head=acme%3Atagboat%2Fdev&sort=created&direction=desc&per_page=100"
            ),
            format!("GET {PULLS}?state=open&sort=created&direction=desc&per_page=100"),
            format!("PATCH {PULLS}/7 {}", json!({"title": "t"})),
            "GET /repos/acme/fleet/labels/tagboat%2Fhold".to_owned(),
            format!(
                "POST /repos/acme/fleet/labels {}",
                json!({"name": "tagboat/hold", "color": "0b7285", "description": "d"})
            ),
            format!(
                "POST /repos/acme/fleet/issues/7/labels {}",
                json!({"labels": ["tagboat/hold"]})
            ),
            "DELETE /repos/acme/fleet/issues/7/labels/images".to_owned(),
            format!(
                "POST {PULLS}/7/requested_reviewers {}",
                json!({"reviewers": ["ann"], "team_reviewers": ["platform"]})
            ),
            "GET /repos/acme/fleet/issues/7/comments?per_page=100".to_owned(),
            format!(
                "POST /repos/acme/fleet/issues/7/comments {}",
                json!({"body": "<!-- tagboat:rollout -->\ndone"})
            ),
            "GET /repos/acme/fleet".to_owned(),
            format!(
                "PUT {PULLS}/7/merge {}",
                json!({"sha": HEAD, "merge_method": "squash", "commit_title": "t", "commit_message": "m"})
            ),
            format!(
                "POST /graphql {}",
                json!({"query": mutation, "variables": {"input": {"pullRequestId": "PR_7", "mergeMethod": "REBASE", "expectedHeadOid": HEAD}}})
            ),
            format!("PATCH {PULLS}/7 {}", json!({"state": "closed"})),
            "DELETE /repos/acme/fleet/git/refs/heads/tagboat/dev".to_owned(),
            "DELETE /repos/acme/fleet/git/refs/heads/tagboat/gone".to_owned(),
            format!(
                "POST /repos/acme/fleet/statuses/{HEAD} {}",
                json!({"state": "failure", "context": "tagboat/dev", "description": cut, "target_url": "https://x"})
            ),
        ]
    );
    for seen in wire.seen() {
        assert_eq!(seen.header("authorization"), format!("Bearer {TOKEN}"));
        assert_eq!(
            (seen.header("accept"), seen.header("x-github-api-version")),
            ("application/vnd.github+json", "2022-11-28")
        );
        assert!(seen.header("user-agent").starts_with("tagboat/"));
    }
    assert_eq!(
        forge.compare_url("a", "b"),
        format!("http://{}/acme/fleet/compare/a...b", wire.host)
    );
}

#[tokio::test]
async fn github_pages_are_conditional_requests() {
    let wire = fixed(|seen| {
        let page = if seen.target.contains("page=2") { 2 } else { 1 };
        let etag = format!("W/\"page-{page}\"");
        if seen.header("if-none-match") == etag {
            return reply(304, "").with("ETag", etag);
        }
        let mut fork = pull(page * 10, "tagboat/dev", "open");
        fork["head"]["repo"] = json!({"full_name": "stranger/fleet"});
        let mut gone = pull(page * 10 + 1, "tagboat/dev", "open");
        gone["head"]["repo"] = Value::Null;
        let answer = json!([pull(page, &format!("tagboat/{page}"), "open"), pull(page * 100, "feature", "open"), fork, gone]);
        let answer = json(200, &answer).with("ETag", etag);
        match page {
            1 => answer.with(
                "Link",
                format!(r#"<http://{}{PULLS}?per_page=100&page=2>; rel="next", <http://x/>; rel="last""#, seen.header("host")),
            ),
            _ => answer,
        }
    })
    .await;
    let forge = github(&wire);
    for _ in 0..3 {
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
    assert_eq!(
        conditions,
        [
            "",
            "",
            "W/\"page-1\"",
            "W/\"page-2\"",
            "W/\"page-1\"",
            "W/\"page-2\""
        ]
    );
}

#[tokio::test]
async fn github_refusal_names_right_not_token() {
    type Case = (
        u16,
        Vec<(&'static str, String)>,
        Value,
        fn(&ForgeProblem) -> bool,
        Option<u64>,
        &'static str,
    );
    let soon = jiff::Timestamp::now().as_second() + 120;
    let none = Vec::new;
    let cases: Vec<Case> = vec![
        (
            401,
            none(),
            json!({"message": "Bad credentials"}),
            |p| matches!(p, ForgeProblem::Unauthorized { .. }),
            None,
            "Pull requests: read and write",
        ),
        (
            403,
            none(),
            json!({"message": format!("Resource not accessible by {TOKEN}")}),
            |p| matches!(p, ForgeProblem::Forbidden { .. }),
            None,
            "by ***",
        ),
        (
            403,
            vec![
                ("x-ratelimit-remaining", "0".into()),
                ("x-ratelimit-reset", soon.to_string()),
            ],
            json!({"message": "API rate limit exceeded"}),
            |p| matches!(p, ForgeProblem::Throttled { .. }),
            Some(120),
            "next try",
        ),
        (
            403,
            vec![("retry-after", "30".into())],
            json!({"message": "You have exceeded a secondary rate limit."}),
            |p| matches!(p, ForgeProblem::Throttled { .. }),
            Some(30),
            "next try",
        ),
        (
            403,
            none(),
            json!({"message": "You have exceeded a secondary rate limit. Please wait"}),
            |p| matches!(p, ForgeProblem::Throttled { .. }),
            Some(60),
            "next try",
        ),
        (
            429,
            vec![("retry-after", "7".into())],
            json!({}),
            |p| matches!(p, ForgeProblem::Throttled { .. }),
            Some(7),
            "next try",
        ),
        (
            404,
            none(),
            json!({"message": "Not Found"}),
            |p| matches!(p, ForgeProblem::NotFound { .. }),
            None,
            "hidden from this token",
        ),
        (
            422,
            none(),
            json!({"message": "Validation Failed", "errors": [{"resource": "PullRequest", "code": "custom", "message": "No commits between main and x"}]}),
            |p| matches!(p, ForgeProblem::Refused { status: 422, .. }),
            None,
            "No commits between",
        ),
        (
            301,
            vec![(
                "location",
                "https://api.github.com/repositories/1/pulls".into(),
            )],
            json!({}),
            |p| matches!(p, ForgeProblem::Redirect { .. }),
            None,
            "new address",
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
        let forge = github(&wire);
        let error = forge.open(&new("x")).await.unwrap_err();
        let text = format!("{error} {}", error.hint().unwrap_or_default());
        assert!(
            is(&error.problem)
                && text.contains(words)
                && text.contains("acme/fleet: cannot open a pull request"),
            "{shown}: {text}"
        );
        assert!(
            !text.contains(TOKEN) && !format!("{error:?}{forge:?}").contains(TOKEN),
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
        let before = wire.seen().len();
        let again = forge.list(RequestFilter::Open, "").await;
        assert_eq!(
            wire.seen().len() == before,
            wait.is_some(),
            "{shown}: nothing is sent while it waits: {again:?}"
        );
    }
}

#[tokio::test]
async fn github_broken_response_names_the_endpoint() {
    let cases: Vec<(Reply, &str)> = vec![
        (
            reply(200, r#"[{"number": 1"#),
            "GET /repos/acme/fleet/pulls with something else",
        ),
        (json(200, &json!({"message": "hi"})), "no such JSON"),
        (json(200, &json!([{"number": -1}])), "no such JSON"),
        (
            reply(200, "<html>sign in</html>").with("Content-Type", "text/html"),
            "HTML",
        ),
        (
            reply(502, "<html>bad gateway</html>").with("Content-Type", "text/html"),
            "HTML with status 502",
        ),
        (
            json(200, &json!([])).with("Link", r#"<https://evil.example/p>; rel="next""#),
            "redirected to \"evil.example\"",
        ),
        (
            reply(200, vec![b' '; 1000]).with("Content-Length", 1u64 << 40),
            "more than",
        ),
    ];
    for (answer, words) in cases {
        let shown = format!("{answer:?}");
        let wire = fixed(move |_| answer.clone()).await;
        let error = github(&wire)
            .list(RequestFilter::Open, "")
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains(words),
            "{error}: {}",
            &shown[..shown.len().min(200)]
        );
    }
}

#[tokio::test]
async fn github_lost_response_is_sent_once() {
    // The response to the creation is cut; the request exists.
    for lost in [0, 1, 2] {
        let wire = fixed(move |seen| match (seen.method.as_str(), lost) {
            ("POST", 0) => json(201, &pull(7, "tagboat/dev", "open")).manner(Manner::Cut(20)),
            ("POST", 1) => reply(502, "{}"),
            ("POST", _) => json(
                422,
                &json!({"message": "Validation Failed", "errors": [{"message": "A pull request already exists for acme:tagboat/dev."}]}),
            ),
            _ => json(200, &json!([pull(7, "tagboat/dev", "open")])),
        })
        .await;
        let opened = github(&wire).open(&new("tagboat/dev")).await.unwrap();
        assert!(opened.found && opened.request.number == 7);
        assert_eq!(
            wire.seen()
                .iter()
                .filter(|seen| seen.method == "POST")
                .count(),
            1
        );
    }
    // It does not exist: then the first error counts.
    let wire = fixed(|seen| {
        if seen.method == "POST" {
            reply(500, "{}")
        } else {
            json(200, &json!([]))
        }
    })
    .await;
    let error = github(&wire).open(&new("tagboat/dev")).await.unwrap_err();
    assert!(
        matches!(error.problem, ForgeProblem::Status { status: 500, .. }),
        "{error}"
    );
    // Reads are sent again.
    let wire = Wire::start(|_, before| {
        if before < 2 {
            reply(503, "{}")
        } else {
            json(200, &json!([]))
        }
    })
    .await;
    assert!(
        github(&wire)
            .list(RequestFilter::Open, "")
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(wire.seen().len(), 3);
}

#[tokio::test]
async fn github_merge_failure_has_reason_lost_is_found() {
    type Case = (
        u16,
        Value,
        &'static str,
        &'static str,
        fn(&Result<Option<String>, ForgeProblem>) -> bool,
    );
    let cases: Vec<Case> = vec![
        (
            405,
            json!({"message": "Pull Request is not mergeable"}),
            "open",
            HEAD,
            |r| matches!(r, Err(ForgeProblem::NotMergeable { .. })),
        ),
        (
            409,
            json!({"message": "Head branch was modified. Review and try the merge again."}),
            "open",
            "other",
            |r| matches!(r, Err(ForgeProblem::HeadChanged { .. })),
        ),
        (
            405,
            json!({"message": "Base branch was modified. Review and try the merge again."}),
            "open",
            HEAD,
            |r| matches!(r, Err(ForgeProblem::NotYet { .. })),
        ),
        (
            405,
            json!({"message": "Pull Request is not mergeable"}),
            "open",
            "other",
            |r| matches!(r, Err(ForgeProblem::HeadChanged { .. })),
        ),
        (
            502,
            json!({}),
            "closed",
            HEAD,
            |r| matches!(r, Ok(Some(commit)) if commit == "e5bd3914e2e596debea16f433f57875b5b90bcd6"),
        ),
        (502, json!({}), "closed", "other", |r| {
            matches!(r, Err(ForgeProblem::Status { status: 502, .. }))
        }),
        (
            403,
            json!({"message": "Resource not accessible"}),
            "closed",
            HEAD,
            |r| matches!(r, Err(ForgeProblem::Forbidden { .. })),
        ),
    ];
    for (status, body, state, head, is) in cases {
        let shown = format!("{status} {body} {state} {head}");
        let wire = fixed(move |seen| {
            let mut now = pull(7, "tagboat/dev", state);
            now["head"]["sha"] = json!(head);
            if state == "closed" {
                now["merged_at"] = json!("2026-11-20T12:00:00Z");
            }
            if seen.method == "PUT" {
                json(status, &body)
            } else {
                json(200, &now)
            }
        })
        .await;
        let merged = github(&wire)
            .merge(
                7,
                &MergeCommand {
                    method: Some(MergeMethod::Merge),
                    ..merge()
                },
            )
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
}

#[tokio::test]
async fn github_checks_and_reviews_belong_to_the_head() {
    let wire = fixed(|seen| match seen.path() {
        path if path.ends_with("/check-runs") => json(200, &json!({"total_count": 3, "check_runs": [
            {"name": "build", "status": "completed", "conclusion": "success", "html_url": "https://ci/1", "started_at": "2026-11-20T10:00:00Z", "completed_at": "2026-11-20T10:01:00Z", "app": {"id": 15368, "slug": "github-actions", "name": "GitHub Actions"}},
            {"name": "docs", "status": "completed", "conclusion": "skipped", "html_url": null},
            {"name": "e2e", "status": "in_progress", "conclusion": null},
        ]})),
        path if path.ends_with("/status") => json(200, &json!({"state": "failure", "statuses": [{"context": "legacy", "state": "error", "target_url": null, "updated_at": "2026-11-20T10:02:00Z"}]})),
        "/repos/acme/fleet/branches/main" => json(200, &json!({"name": "main", "protected": true, "protection": {"enabled": true, "required_status_checks": {"enforcement_level": "everyone", "contexts": ["build"], "checks": []}}})),
        "/repos/acme/fleet/rules/branches/main" => json(200, &json!([
            {"type": "required_status_checks", "parameters": {"required_status_checks": [{"context": "scan", "integration_id": 1}]}},
            {"type": "pull_request", "parameters": {"required_approving_review_count": 2}},
            {"type": "non_fast_forward"},
        ])),
        path if path.ends_with("/reviews") => json(200, &json!([
            {"user": {"login": "ann"}, "state": "CHANGES_REQUESTED", "commit_id": HEAD, "author_association": "MEMBER"},
            {"user": {"login": "ann"}, "state": "APPROVED", "commit_id": HEAD, "author_association": "MEMBER"},
            {"user": {"login": "ann"}, "state": "COMMENTED", "commit_id": HEAD, "author_association": "MEMBER"},
            {"user": {"login": "bob"}, "state": "APPROVED", "commit_id": "before", "author_association": "COLLABORATOR"},
            {"user": {"login": "eve"}, "state": "APPROVED", "commit_id": HEAD, "author_association": "NONE"},
            // An approval of a commit that no longer exists.
            {"user": {"login": "kim"}, "state": "APPROVED", "commit_id": null, "author_association": "MEMBER"},
            // A dismissed review does not count.
            {"user": {"login": "lee"}, "state": "APPROVED", "commit_id": "before", "author_association": "MEMBER"},
            {"user": {"login": "lee"}, "state": "DISMISSED", "commit_id": HEAD, "author_association": "MEMBER"},
            {"user": {"login": "dan"}, "state": "CHANGES_REQUESTED", "commit_id": "before", "author_association": "OWNER"},
        ])),
        "/repos/acme/fleet/collaborators/eve/permission" => json(200, &json!({"permission": "read", "role_name": "read"})),
        _ => json(200, &pull(7, "tagboat/dev", "open")),
    })
    .await;
    let forge = github(&wire);
    let request = forge.get(7).await.unwrap();
    let checks = forge.checks(&request).await.unwrap();
    let shown: Vec<_> = checks
        .named
        .iter()
        .map(|check| (check.name.as_str(), check.state, check.required))
        .collect();
    assert_eq!(
        shown,
        [
            ("build", CheckState::Passed, true),
            ("docs", CheckState::Skipped, false),
            ("e2e", CheckState::Pending, false),
            ("legacy", CheckState::Failed, false),
            ("scan", CheckState::Pending, true),
        ]
    );
    assert_eq!(checks.state, ChecksState::Failed);
    let ended: Vec<_> = checks
        .named
        .iter()
        .filter_map(|check| Some((check.name.as_str(), check.at?.to_string())))
        .collect();
    assert_eq!(
        ended,
        [
            ("build", "2026-11-20T10:01:00Z".to_owned()),
            ("legacy", "2026-11-20T10:02:00Z".to_owned())
        ]
    );
    let apps: Vec<Option<&str>> = checks
        .named
        .iter()
        .map(|check| check.app.as_deref())
        .collect();
    assert_eq!(
        apps.iter().flatten().collect::<Vec<_>>(),
        [&"github-actions"]
    );
    let mut targets = wire.targets()[1..].to_vec();
    targets.sort();
    assert_eq!(
        targets,
        [
            "/repos/acme/fleet/branches/main".to_owned(),
            format!("/repos/acme/fleet/commits/{HEAD}/check-runs?filter=latest&per_page=100"),
            format!("/repos/acme/fleet/commits/{HEAD}/status?per_page=100"),
            "/repos/acme/fleet/rules/branches/main?per_page=100".to_owned(),
        ]
    );
    let approvals = forge.approvals(&request).await.unwrap();
    assert_eq!(
        (approvals.by.as_slice(), approvals.required),
        (["ann".to_owned()].as_slice(), Some(2))
    );
    assert_eq!(approvals.changes_requested, ["dan"]);
    assert_eq!(approvals.earlier, ["bob", "kim"]);
}

#[tokio::test]
async fn github_ruleset_requires_up_to_date_branch() {
    let rule = |strict: Value| json!([{"type": "required_status_checks", "parameters": {"strict_required_status_checks_policy": strict, "required_status_checks": [{"context": "scan"}]}}]);
    for (rules, expected) in [
        (json(200, &rule(json!(true))), true),
        (json(200, &rule(json!(false))), false),
        (json(200, &json!([])), false),
        // Rulesets are not part of this plan.
        (
            json(
                403,
                &json!({"message": "Upgrade to GitHub Pro or make this repository public to enable this feature."}),
            ),
            false,
        ),
    ] {
        let rules = std::sync::Mutex::new(Some(rules));
        let wire = fixed(move |seen| match seen.path() {
            "/repos/acme/fleet/branches/main" => {
                json(200, &json!({"name": "main", "protected": true}))
            }
            // Queried once in a pass.
            _ => rules.lock().unwrap().take().unwrap(),
        })
        .await;
        let forge = github(&wire);
        assert_eq!(forge.wants_newest("main").await.unwrap(), expected);
        assert_eq!(forge.wants_newest("main").await.unwrap(), expected);
    }
}

#[tokio::test]
async fn github_app_signs_in_and_renews_its_token() {
    let pem = include_str!("../cases/forge/app.pem");
    for (life, renewals) in [(3600, 1), (200, 3)] {
        let wire = fixed(move |seen| match seen.path() {
            "/api/v3/repos/acme/fleet/installation" => json(200, &json!({"id": 99, "app_id": 12345})),
            "/api/v3/app/installations/99/access_tokens" => {
                let expires = jiff::Timestamp::now() + Duration::from_secs(life);
                json(201, &json!({"token": "ghs_installation", "expires_at": expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), "permissions": {}}))
            }
            _ => json(200, &json!([])),
        })
        .await;
        let credentials = ForgeLogin::App {
            id: 12345,
            installation: None,
            private_key: Secret::new(pem).into(),
        };
        let forge = connect(
            &wire,
            ForgeKind::Github,
            "/api/v3",
            "acme/fleet",
            credentials,
        );
        for _ in 0..3 {
            forge.list(RequestFilter::Open, "").await.unwrap();
        }
        let seen = wire.seen();
        let bought: Vec<&Seen> = seen
            .iter()
            .filter(|seen| seen.path().ends_with("/access_tokens"))
            .collect();
        assert_eq!(bought.len(), renewals, "a token of {life} s");
        assert_eq!(bought[0].body, r#"{"repositories":["fleet"]}"#);
        assert!(
            seen.iter()
                .filter(|seen| seen.path().ends_with("/pulls"))
                .all(|seen| seen.header("authorization") == "Bearer ghs_installation")
        );
        // The JWT is signed by the key, short-lived, and issued for the App.
        let jwt = bought[0]
            .header("authorization")
            .strip_prefix("Bearer ")
            .unwrap();
        let (signed, sign) = jwt.rsplit_once('.').unwrap();
        let key = rsa::KeyPair::from_der(
            PrivatePkcs1KeyDer::from_pem_slice(pem.as_bytes())
                .unwrap()
                .secret_pkcs1_der(),
        )
        .unwrap();
        let public = signature::UnparsedPublicKey::new(
            &signature::RSA_PKCS1_2048_8192_SHA256,
            key.public().as_ref(),
        );
        public
            .verify(signed.as_bytes(), &BASE64.decode(sign).unwrap())
            .unwrap();
        let part = |at: usize| {
            serde_json::from_slice::<Value>(
                &BASE64.decode(signed.split('.').nth(at).unwrap()).unwrap(),
            )
            .unwrap()
        };
        assert_eq!(part(0), json!({"alg": "RS256", "typ": "JWT"}));
        let claims = part(1);
        assert_eq!(claims["iss"], "12345");
        assert!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap() <= 600);
        assert!(claims["iat"].as_i64().unwrap() < jiff::Timestamp::now().as_second());
    }
}

#[tokio::test]
async fn github_app_refused_token_is_renewed_once() {
    let wire = fixed(|seen| match seen.path() {
        path if path.ends_with("/access_tokens") => json(
            201,
            &json!({"token": "ghs_x", "expires_at": "2099-01-01T00:00:00Z"}),
        ),
        _ => json(401, &json!({"message": "Bad credentials"})),
    })
    .await;
    let pem = include_str!("../cases/forge/app.pem");
    let credentials = ForgeLogin::App {
        id: 1,
        installation: Some(5),
        private_key: Secret::new(pem).into(),
    };
    let error = connect(&wire, ForgeKind::Github, "", "acme/fleet", credentials)
        .list(RequestFilter::Open, "")
        .await
        .unwrap_err();
    assert!(matches!(error.problem, ForgeProblem::Unauthorized { .. }));
    assert_eq!(
        sent(&wire)
            .iter()
            .filter(|line| line.contains("access_tokens"))
            .count(),
        2
    );
    // An invalid key is named as such, without its text.
    let credentials = ForgeLogin::App {
        id: 1,
        installation: Some(5),
        private_key: Secret::new("not a key").into(),
    };
    let error = connect(&wire, ForgeKind::Github, "", "acme/fleet", credentials)
        .list(RequestFilter::Open, "")
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("private key") && !error.to_string().contains("not a key"),
        "{error}"
    );
}

#[tokio::test]
async fn github_auto_merge_refusal_has_reason() {
    for (answer, is) in [
        (
            json!({"errors": [{"type": "UNPROCESSABLE", "message": "Pull request Auto merge is not allowed for this repository"}]}),
            "Allow auto-merge",
        ),
        (
            json!({"errors": [{"type": "FORBIDDEN", "message": "Resource not accessible by integration"}]}),
            "may not do that",
        ),
        (
            json!({"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}]}),
            "next try",
        ),
        (
            json!({"errors": [{"type": "UNPROCESSABLE", "message": "Head SHA does not match expectedHeadOid"}]}),
            "not the commit that was verified",
        ),
    ] {
        let wire = fixed(move |seen| {
            if seen.path() == "/graphql" {
                json(200, &answer)
            } else {
                json(200, &pull(7, "tagboat/dev", "open"))
            }
        })
        .await;
        let forge = github(&wire);
        let request = forge.get(7).await.unwrap();
        let error = forge
            .merge_when_ready(
                &request,
                &MergeCommand {
                    method: Some(MergeMethod::Merge),
                    ..merge()
                },
            )
            .await
            .unwrap_err();
        assert!(error.to_string().contains(is), "{error}");
    }
    // Nothing to wait for: it is merged at once, with the same head.
    let wire = fixed(|seen| match (seen.method.as_str(), seen.path()) {
        ("POST", "/graphql") => {
            json(200, &json!({"errors": [{"type": "UNPROCESSABLE", "message": "Pull request Pull request is in clean status"}]}))
        }
        ("PUT", _) => json(200, &json!({"sha": "abc", "merged": true})),
        _ => json(200, &pull(7, "tagboat/dev", "open")),
    })
    .await;
    let forge = github(&wire);
    let request = forge.get(7).await.unwrap();
    assert_eq!(request.state, RequestStatus::Open);
    forge
        .merge_when_ready(
            &request,
            &MergeCommand {
                method: Some(MergeMethod::Merge),
                ..merge()
            },
        )
        .await
        .unwrap();
    assert!(
        sent(&wire)
            .last()
            .unwrap()
            .contains(&format!(r#""sha":"{HEAD}""#))
    );
}

#[tokio::test]
async fn settings_name_forge_and_secret_location() {
    let wire = fixed(|_| json(200, &json!([pull(7, "tagboat/dev", "open")]))).await;
    let folder = tempfile::tempdir().unwrap();
    let file = format!(
        "repositories:\n  - url: http://{}/acme/fleet.git\n    forge: {{kind: github, token: {{file: token}}}}\n  - url: https://x.example/a/b\n",
        wire.host
    );
    let (process, mistakes) = tagboat::spec::settings::read("tagboat.yaml", &file).unwrap();
    assert_eq!(mistakes, []);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let connect = tagboat::io::connect::Connect::new(&folder.path().join("tagboat.yaml"));
    assert!(connect.forge(&process.repositories[1]).unwrap().is_none());
    let forge = connect.forge(&process.repositories[0]).unwrap().unwrap();
    let error = forge.list(RequestFilter::Open, "").await.unwrap_err();
    assert!(
        error.to_string().contains("no credentials from file"),
        "{error}"
    );
    // The file is read for each call, so that a new token is picked up.
    for token in ["one", "two"] {
        std::fs::write(folder.path().join("token"), format!("{token}\n")).unwrap();
        assert_eq!(forge.list(RequestFilter::Open, "").await.unwrap().len(), 1);
    }
    let seen: Vec<String> = wire
        .seen()
        .iter()
        .map(|seen| format!("{} {}", seen.path(), seen.header("authorization")))
        .collect();
    assert_eq!(
        seen,
        [
            "/api/v3/repos/acme/fleet/pulls Bearer one",
            "/api/v3/repos/acme/fleet/pulls Bearer two"
        ]
    );
}
