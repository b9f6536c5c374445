//! The reconcile pass with rights on less than the whole cluster, on the sandbox's API server.

use super::{
    reconcile::Sandbox,
    reconcile_confined,
    support::{
        fleet::{Fleet, config, problems, states},
        rights::{Rights, Rule, all_of},
    },
};
use serde_json::{Value, json};
use tagboat::reconcile::{ApplicationRequest, ApplicationState, Reason};

/// Everything but the creation of namespaces.
fn all_but_namespaces() -> Vec<Rule> {
    vec![
        Rule {
            namespace: None,
            resources: vec![
                "configmaps",
                "customresourcedefinitions.apiextensions.k8s.io",
            ],
            verbs: vec!["*"],
        },
        Rule {
            namespace: None,
            resources: vec!["namespaces"],
            verbs: vec!["get", "list", "watch"],
        },
    ]
}

#[tokio::test]
async fn namespace_forbidden_to_create_is_reported() {
    let rights = Rights::default();
    let fleet = Sandbox::start_with(&rights).await.confined().await;
    rights.set(all_but_namespaces());
    fleet.application_in("web", "target", "");
    fleet.manifests("web", vec![config("a", "1")]);
    let statuses = fleet.applied().await;
    let status = &statuses["web"];
    assert_eq!(status.state, ApplicationState::Failed);
    let told = problems(status).join("\n");
    assert!(
        told.contains(
            "namespace target does not exist and cannot be created: ServiceAccount shop/deployer may not create namespaces"
        ),
        "{told}"
    );
    let hint = status.problems[0].hint.as_deref().unwrap();
    assert_eq!(
        hint,
        "create namespace target, or grant ServiceAccount shop/deployer the verb create on namespaces by a ClusterRole"
    );
}

#[tokio::test]
async fn rights_on_one_namespace_suffice() {
    let rights = Rights::default();
    let sandbox = Sandbox::start_with(&rights).await;
    rights.set(vec![all_of("shop")]);
    reconcile_confined::confined_account_suffices(sandbox.confined().await).await;
}

fn secret(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"a": "1"}})
}

fn rule(resources: &[&'static str], verbs: &[&'static str]) -> Rule {
    Rule {
        namespace: Some("shop".to_owned()),
        resources: resources.to_vec(),
        verbs: verbs.to_vec(),
    }
}

/// Has the Applications tried again, and waits for the outcome.
async fn sync(fleet: &Fleet<Sandbox>, name: &str) -> ApplicationState {
    let request = ApplicationRequest::Now;
    assert!(fleet.reconciler.request(&fleet.name(name), &request));
    let revision = fleet.statuses()[name].revision.clone().unwrap();
    fleet.settled(&revision).await[name].state
}

#[tokio::test]
async fn rights_missing_for_a_kind_are_named() {
    let rights = Rights::default();
    let sandbox = Sandbox::start_with(&rights).await;
    let maps = rule(&["configmaps"], &["*"]);
    rights.set(vec![
        maps.clone(),
        rule(&["secrets"], &["get", "patch", "create"]),
    ]);
    let fleet = sandbox.confined().await;
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "1"), secret("b")]);
    fleet.application("other", "");
    fleet.manifests("other", vec![config("c", "1")]);
    let statuses = fleet.applied().await;
    assert_eq!(
        states(&statuses),
        [
            ("other", ApplicationState::Synced),
            ("shop", ApplicationState::Failed)
        ]
    );
    // What can be watched is applied.
    assert!(fleet.live("configmaps", "a").await.is_some());
    let status = &statuses["shop"];
    let told = problems(status).join("\n");
    assert!(
        told.contains("Secret cannot be watched: ServiceAccount shop/deployer may not watch secrets in namespace shop"),
        "{told}"
    );
    assert_eq!(
        status.problems[0].hint.as_deref(),
        Some(
            "grant ServiceAccount shop/deployer the verbs get, list and watch on secrets by a Role in namespace shop"
        )
    );
    // A sync tries again at once, and says the same until the right is there.
    assert_eq!(sync(&fleet, "shop").await, ApplicationState::Failed);
    rights.set(vec![maps, rule(&["secrets"], &["*"])]);
    assert_eq!(sync(&fleet, "shop").await, ApplicationState::Synced);
    assert!(fleet.live("secrets", "b").await.is_some());
}

/// Changes a ConfigMap by hand, and waits until it is changed back.
async fn is_repaired(fleet: &Fleet<Sandbox>, path: &str, value: &str) {
    let client = reqwest::Client::new();
    let url = format!("{}{path}", fleet.kube.url());
    let mut live: Value = client.get(&url).send().await.unwrap().json().await.unwrap();
    live["data"] = json!({"value": value, "by": "hand"});
    let answer = client.put(&url).json(&live).send().await.unwrap();
    assert!(answer.status().is_success());
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let live: Value = client.get(&url).send().await.unwrap().json().await.unwrap();
        if live["data"]["value"] == "1" {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{live:#}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn rights_that_change_are_followed() {
    let rights = Rights::default();
    let sandbox = Sandbox::start_with(&rights).await;
    sandbox.namespace("store").await;
    let fleet = sandbox.confined().await;
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.applied().await;
    // From the whole cluster to one namespace.
    rights.set(vec![all_of("shop")]);
    is_repaired(&fleet, "/api/v1/namespaces/shop/configmaps/a", "2").await;
    // A namespace that comes later, without rights and with them.
    fleet.application_in("store", "store", "");
    fleet.manifests("store", vec![config("b", "1")]);
    let statuses = fleet.applied().await;
    assert_eq!(
        states(&statuses),
        [
            ("shop", ApplicationState::Synced),
            ("store", ApplicationState::Failed)
        ],
        "{statuses:#?}"
    );
    let told = problems(&statuses["store"]).join("\n");
    assert!(
        told.contains("may not watch configmaps in namespace store"),
        "{told}"
    );
    rights.set(vec![all_of("shop"), all_of("store")]);
    assert_eq!(sync(&fleet, "store").await, ApplicationState::Synced);
    is_repaired(&fleet, "/api/v1/namespaces/store/configmaps/b", "2").await;
    assert!(!rights.watches().contains(&"configmaps of *".to_owned()));
    // And to the whole cluster again: one watch replaces those of the namespaces.
    rights.set(vec![Rule {
        namespace: None,
        ..all_of("")
    }]);
    assert_eq!(sync(&fleet, "store").await, ApplicationState::Synced);
    is_repaired(&fleet, "/api/v1/namespaces/shop/configmaps/a", "3").await;
    is_repaired(&fleet, "/api/v1/namespaces/store/configmaps/b", "3").await;
    let watches = rights.watches();
    assert!(
        watches.contains(&"configmaps of *".to_owned()),
        "{watches:?}"
    );
}

#[tokio::test]
async fn watch_refused_once_is_not_narrowed() {
    let rights = Rights::default();
    let fleet = Sandbox::start_with(&rights).await.confined().await;
    let everything = vec![Rule {
        namespace: None,
        ..all_of("")
    }];
    rights.set(everything.clone());
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.applied().await;
    rights.watches();
    rights.set(vec![all_of("shop")]);
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while !rights.has_refused("configmaps of *") {
        assert!(tokio::time::Instant::now() < end);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    rights.set(everything);
    assert_eq!(sync(&fleet, "shop").await, ApplicationState::Synced);
    is_repaired(&fleet, "/api/v1/namespaces/shop/configmaps/a", "2").await;
    let watches = rights.watches();
    assert!(
        watches.contains(&"configmaps of *".to_owned()),
        "{watches:?}"
    );
    assert!(
        !watches.contains(&"configmaps of shop".to_owned()),
        "{watches:?}"
    );
}

#[tokio::test]
async fn rights_on_definitions_are_not_needed() {
    let rights = Rights::default();
    let sandbox = Sandbox::start_with(&rights).await;
    rights.set(vec![all_of("shop")]);
    let fleet = sandbox.confined().await;
    let boat =
        json!({"apiVersion": "example.org/v1", "kind": "Boat", "metadata": {"name": "first"}});
    fleet.application("boats", "");
    fleet.manifests("boats", vec![boat, config("a", "1")]);
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("b", "1")]);
    // A kind of the whole cluster cannot be watched by a Role.
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"}, "rules": []});
    fleet.application("wide", "");
    fleet.manifests("wide", vec![role, config("c", "1")]);
    fleet.commit();
    let reasons = [
        ("boats", Reason::KindNotServed),
        ("shop", Reason::Synced),
        ("wide", Reason::SyncFailed),
    ];
    fleet
        .until("each has its reason", |statuses| {
            let seen = statuses
                .iter()
                .map(|(name, status)| (name.as_str(), status.reason));
            seen.eq(reasons)
        })
        .await;
    let statuses = fleet.statuses();
    for (name, told) in [
        ("boats", "the cluster does not serve example.org/v1/Boat"),
        (
            "wide",
            "may not watch clusterroles.rbac.authorization.k8s.io of the whole cluster",
        ),
    ] {
        let problems = problems(&statuses[name]).join("\n");
        assert!(problems.contains(told), "{problems}");
    }
    for name in ["a", "b", "c"] {
        assert!(fleet.live("configmaps", name).await.is_some(), "{name}");
    }
}
