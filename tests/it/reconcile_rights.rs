//! The reconcile pass with rights on less than the whole cluster, on the sandbox's API server.

use super::{
    reconcile::Sandbox,
    support::{
        fleet::{Backend as _, config, problems},
        rights::{Rights, Rule},
    },
};
use reqwest::Method;
use serde_json::json;
use tagboat::reconcile::{ApplicationState, ReconcileMode};

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
    let fleet = Sandbox::start_with(&rights)
        .await
        .fleet(ReconcileMode::Act)
        .await;
    // The namespace of the records is there.
    let own = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop-own"}});
    let path = "/api/v1/namespaces";
    fleet.kube.call(Method::POST, path, Some(&own)).await;
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
