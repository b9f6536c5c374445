//! GitHub's wire protocol: whose reviews count, the number of approvals that the base requires, and
//! the cost of the queries.

use super::{
    forge_github::pull,
    support::{
        forge::{HEAD, forge, json},
        wire::{Reply, Seen, Wire, reply},
    },
};
use serde_json::{Value, json};
use std::sync::Arc;
use tagboat::{
    io::forge::{Forge, Mergeable},
    spec::ForgeKind,
};

async fn github(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> (Wire, Arc<dyn Forge>) {
    let wire = Wire::start(move |seen, _| answer(seen)).await;
    let forge = forge(&wire, ForgeKind::Github, "", "acme/fleet");
    (wire, forge)
}

fn review(login: &str, state: &str, commit: &str, association: &str) -> Value {
    json!({"user": {"login": login}, "state": state, "commit_id": commit, "author_association": association})
}

#[tokio::test]
async fn review_of_earlier_head_is_no_approval() {
    let count = |count: Value| json!({"data": {"repository": {"ref": {"refUpdateRule": {"requiredApprovingReviewCount": count}}}}});
    let unknown =
        json!({"errors": [{"message": "Field 'refUpdateRule' doesn't exist on type 'Ref'"}]});
    // GraphQL's response, the branch protection, the rulesets; the required number, and if it is
    // met.
    let cases = [
        (json(200, &count(json!(1))), true, 0, Some(1), false),
        (json(200, &count(json!(2))), true, 1, Some(2), false),
        (json(200, &count(json!(1))), true, 3, Some(3), false),
        (json(200, &count(Value::Null)), true, 0, Some(0), true),
        (
            json(
                200,
                &json!({"data": {"repository": {"ref": {"refUpdateRule": null}}}}),
            ),
            true,
            0,
            Some(0),
            true,
        ),
        // The setting is unknown: a person must approve the current head.
        (json(200, &unknown), true, 0, None, false),
        (json(200, &unknown), true, 1, Some(1), false),
        (
            json(
                403,
                &json!({"message": "Resource not accessible by integration"}),
            ),
            true,
            0,
            None,
            false,
        ),
        (
            json(200, &json!({"data": {"repository": null}})),
            true,
            0,
            None,
            false,
        ),
        // Nothing is queried without protection.
        (reply(500, "{}"), false, 0, Some(0), true),
        (reply(500, "{}"), false, 1, Some(1), false),
    ];
    for (graphql, protected, rules, required, suffice) in cases {
        let shown = format!("{graphql:?} {protected} {rules}");
        let (wire, forge) = github(move |seen| match seen.path() {
            "/graphql" => graphql.clone(),
            "/repos/acme/fleet/branches/main" => json(200, &json!({"name": "main", "protected": protected})),
            "/repos/acme/fleet/rules/branches/main" if rules == 0 => json(200, &json!([])),
            "/repos/acme/fleet/rules/branches/main" => {
                json(200, &json!([{"type": "pull_request", "parameters": {"required_approving_review_count": rules}}]))
            }
            path if path.ends_with("/reviews") => json(200, &json!([review("ann", "APPROVED", "before", "MEMBER")])),
            _ => json(200, &pull(7, "tagboat/dev", "open")),
        })
        .await;
        let request = forge.get(7).await.unwrap();
        for _ in 0..2 {
            let approvals = forge.approvals(&request).await.unwrap();
            assert_eq!(
                (approvals.required, approvals.earlier.as_slice()),
                (required, ["ann".to_owned()].as_slice()),
                "{shown}"
            );
            assert_eq!(approvals.suffice(), suffice, "{shown}");
        }
        // Once in a pass, for this branch.
        let questions: Vec<Seen> = wire
            .seen()
            .into_iter()
            .filter(|seen| seen.path() == "/graphql")
            .collect();
        assert_eq!(questions.len(), usize::from(protected), "{shown}");
        for seen in questions {
            let body: Value = serde_json::from_str(&seen.body).unwrap();
            assert_eq!(
                body["variables"],
                json!({"owner": "acme", "name": "fleet", "ref": "refs/heads/main"})
            );
            assert!(
                body["query"]
                    .as_str()
                    .unwrap()
                    .contains("{ refUpdateRule { requiredApprovingReviewCount } }"),
                "{body}"
            );
        }
    }
}

#[tokio::test]
async fn review_approvals_uncountable_are_an_error() {
    let (_wire, forge) = github(|seen| match seen.path() {
        "/graphql" => reply(502, "{}"),
        "/repos/acme/fleet/branches/main" => json(200, &json!({"name": "main", "protected": true})),
        path if path.ends_with("/main") || path.ends_with("/reviews") => json(200, &json!([])),
        _ => json(200, &pull(7, "tagboat/dev", "open")),
    })
    .await;
    let request = forge.get(7).await.unwrap();
    assert!(
        forge
            .approvals(&request)
            .await
            .unwrap_err()
            .to_string()
            .contains("502")
    );
}

#[tokio::test]
async fn review_hidden_member_permission_is_queried() {
    let permission = |word: &str| {
        json(
            200,
            &json!({"permission": word, "role_name": word, "user": {"login": "ann"}}),
        )
    };
    // The association, the permission that GitHub reports; if his approval and his objection count.
    let cases = [
        ("CONTRIBUTOR", permission("write"), true, true),
        ("NONE", permission("admin"), true, true),
        ("NONE", permission("read"), false, false),
        ("FIRST_TIME_CONTRIBUTOR", permission("none"), false, false),
        (
            "NONE",
            json(404, &json!({"message": "ann is not a user"})),
            false,
            false,
        ),
        // The permission is unknown: his objection blocks, and his approval does not count.
        (
            "NONE",
            json(
                403,
                &json!({"message": "Resource not accessible by integration"}),
            ),
            false,
            true,
        ),
        ("MEMBER", reply(500, "{}"), true, true),
    ];
    for (association, permission, approves, objects) in cases {
        for (state, counts) in [("APPROVED", approves), ("CHANGES_REQUESTED", objects)] {
            let (shown, permission) = (
                format!("{association} {state} {permission:?}"),
                permission.clone(),
            );
            let (wire, forge) = github(move |seen| match seen.path() {
                "/repos/acme/fleet/collaborators/ann/permission" => permission.clone(),
                "/repos/acme/fleet/branches/main" => {
                    json(200, &json!({"name": "main", "protected": false}))
                }
                "/repos/acme/fleet/rules/branches/main" => json(200, &json!([])),
                path if path.ends_with("/reviews") => json(
                    200,
                    &json!([
                        review("bob", "COMMENTED", HEAD, "NONE"),
                        review("ann", state, HEAD, association)
                    ]),
                ),
                _ => json(200, &pull(7, "tagboat/dev", "open")),
            })
            .await;
            let request = forge.get(7).await.unwrap();
            for _ in 0..2 {
                let approvals = forge.approvals(&request).await.unwrap();
                let counted = if state == "APPROVED" {
                    approvals.by
                } else {
                    approvals.changes_requested
                };
                assert_eq!(counted, ["ann"].repeat(usize::from(counts)), "{shown}");
            }
            // Once in a pass, and only where it is unknown.
            let questions = wire
                .targets()
                .iter()
                .filter(|target| target.contains("/collaborators/"))
                .count();
            assert_eq!(questions, usize::from(association != "MEMBER"), "{shown}");
        }
    }
}

#[tokio::test]
async fn review_permission_queries_are_bounded() {
    let (wire, forge) = github(|seen| match seen.path() {
        path if path.ends_with("/permission") => json(200, &json!({"permission": "read"})),
        "/repos/acme/fleet/branches/main" => {
            json(200, &json!({"name": "main", "protected": false}))
        }
        "/repos/acme/fleet/rules/branches/main" => json(200, &json!([])),
        path if path.ends_with("/reviews") => {
            let state = |number: usize| {
                if number == 90 {
                    "CHANGES_REQUESTED"
                } else {
                    "APPROVED"
                }
            };
            let all: Vec<Value> = (0..100)
                .map(|number| {
                    review(
                        &format!("stranger-{number:02}"),
                        state(number),
                        HEAD,
                        "NONE",
                    )
                })
                .collect();
            json(200, &json!(all))
        }
        _ => json(200, &pull(7, "tagboat/dev", "open")),
    })
    .await;
    let request = forge.get(7).await.unwrap();
    let approvals = forge.approvals(&request).await.unwrap();
    assert_eq!(
        (approvals.by.len(), approvals.changes_requested.as_slice()),
        (0, ["stranger-90".to_owned()].as_slice())
    );
    assert_eq!(
        wire.targets()
            .iter()
            .filter(|target| target.contains("/collaborators/"))
            .count(),
        30
    );
}

#[tokio::test]
async fn review_single_request_is_conditional() {
    let wire = Wire::start(|seen, before| {
        let mut now = pull(7, "tagboat/dev", "open");
        // It changes before the fourth query.
        if before >= 3 {
            now["mergeable_state"] = json!("blocked");
        }
        let etag = format!("W/{}", now["mergeable_state"]);
        if seen.header("if-none-match") == etag {
            reply(304, "").with("ETag", etag)
        } else {
            json(200, &now).with("ETag", etag)
        }
    })
    .await;
    let forge = forge(&wire, ForgeKind::Github, "", "acme/fleet");
    let mut states = Vec::new();
    for _ in 0..5 {
        states.push(forge.get(7).await.unwrap().mergeable);
    }
    let blocked = Mergeable::Blocked("blocked: a required check or review is missing".to_owned());
    assert_eq!(
        states,
        [
            Mergeable::Yes,
            Mergeable::Yes,
            Mergeable::Yes,
            blocked.clone(),
            blocked
        ]
    );
    let conditions: Vec<String> = wire
        .seen()
        .iter()
        .map(|seen| seen.header("if-none-match").to_owned())
        .collect();
    assert_eq!(
        conditions,
        [
            "",
            "W/\"clean\"",
            "W/\"clean\"",
            "W/\"clean\"",
            "W/\"blocked\""
        ]
    );
}
