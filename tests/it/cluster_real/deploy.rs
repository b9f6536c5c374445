//! The rights that users copy from `deploy/`, in namespaces of the test, on the real server: enough
//! for Applications, and nothing beyond.

use super::fleet::{Fleet, config, problems, states};
use crate::{
    it::{examples::documents, reconcile_tenants, support::cluster},
    servers::kube::Kube,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tagboat::reconcile::{ApplicationState, ReconcileMode};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// The objects of a file, with names of the test in place of `shop` and `tagboat-system`.
fn deployed(file: &str, shop: &str, own: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(file);
    let text = std::fs::read_to_string(path)
        .unwrap()
        .replace("namespace: shop\n", &format!("namespace: {shop}\n"))
        .replace(
            "namespace: tagboat-system\n",
            &format!("namespace: {own}\n"),
        )
        .replace("name: tagboat-platform\n", &format!("name: {own}\n"));
    documents(&text)
}

async fn create(objects: &[Value]) {
    for object in objects {
        let metadata = &object["metadata"];
        let scope = match metadata["namespace"].as_str() {
            Some(namespace) => format!("/namespaces/{namespace}"),
            None => String::new(),
        };
        let path = match object["kind"].as_str().unwrap() {
            "ServiceAccount" => format!("/api/v1{scope}/serviceaccounts"),
            kind => format!("{RBAC}{scope}/{}s", kind.to_lowercase()),
        };
        let (status, answer) = Kube::shared().call(Method::POST, &path, Some(object)).await;
        assert!(
            status.is_success() || status == StatusCode::CONFLICT,
            "{answer}"
        );
    }
}

/// An account with a token.
struct Account {
    token: String,
    kubeconfig: PathBuf,
}

impl Account {
    async fn tagboat(own: &str) -> Self {
        let kube = Kube::shared();
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "tagboat", "namespace": own}});
        create(&[account]).await;
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}});
        let path = format!("/api/v1/namespaces/{own}/serviceaccounts/tagboat/token");
        let (status, answer) = kube.call(Method::POST, &path, Some(&request)).await;
        assert!(status.is_success(), "{answer}");
        let token = answer["status"]["token"].as_str().unwrap().to_owned();
        let server = json!({"server": kube.server, "certificate-authority": kube.ca});
        let config = cluster::kubeconfig(&server, &json!({"token": token}));
        let kubeconfig = kube.folder().join(format!("deploy-{own}"));
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        Self { token, kubeconfig }
    }

    /// Asks the server whether the account may do something.
    async fn may(&self, verb: &str, resource: (&str, &str), namespace: &str, name: &str) -> bool {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": verb, "group": resource.0, "resource": resource.1, "namespace": namespace, "name": name}},
        });
        let kube = Kube::shared();
        let ca = std::fs::read(&kube.ca).unwrap();
        let client = reqwest::Client::builder()
            .add_root_certificate(reqwest::Certificate::from_pem(&ca).unwrap())
            .build()
            .unwrap();
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = client
            .post(format!("{}{path}", kube.server))
            .bearer_auth(&self.token)
            .json(&review)
            .send()
            .await
            .unwrap();
        let answer: Value = answer.json().await.unwrap();
        answer["status"]["allowed"].as_bool().unwrap()
    }

    /// Waits until the server knows the grants.
    async fn granted(&self, verb: &str, resource: (&str, &str), namespace: &str, name: &str) {
        for _ in 0..600 {
            if self.may(verb, resource, namespace, name).await {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("not granted within 30 s: {verb} {resource:?}");
    }
}

/// A namespace of the test, and one that belongs to tagboat.
async fn namespaces(prefix: &str) -> (String, String) {
    let shop = Kube::shared().namespace(prefix).await;
    let own = format!("own-{shop}");
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": own}});
    let (status, answer) = Kube::shared()
        .call(Method::POST, "/api/v1/namespaces", Some(&body))
        .await;
    assert!(status.is_success(), "{answer}");
    (shop, own)
}

fn web() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "example.org/web:1"}]}}},
    })
}

/// Deploys, changes, repairs and prunes.
async fn deploys(fleet: &Fleet) {
    fleet.application("shop", ", prune: true, wait: true");
    fleet.manifests("shop", vec![web(), config("a", "1"), config("b", "1")]);
    let statuses = fleet.applied().await;
    assert_eq!(
        states(&statuses),
        [("shop", ApplicationState::Synced)],
        "{statuses:#?}"
    );
    let path = fleet.path("configmaps", "a");
    let mut edited = fleet.live("configmaps", "a").await.unwrap();
    edited["data"]["value"] = json!("by hand");
    let (status, answer) = fleet.kube.call(Method::PUT, &path, Some(&edited)).await;
    assert!(status.is_success(), "{answer}");
    fleet
        .live_until("configmaps", "a", |live| live["data"]["value"] == "1")
        .await;
    fleet.manifests("shop", vec![web(), config("a", "2")]);
    fleet.commit();
    fleet.gone("b").await;
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn deploy_updates_only_may_nothing() {
    let (shop, own) = namespaces("updates").await;
    create(
        &deployed("kubernetes.yaml", &shop, &own)
            .into_iter()
            .filter(|object| {
                let kind = object["kind"].as_str().unwrap();
                kind == "ServiceAccount" || kind.contains("Role")
            })
            .collect::<Vec<_>>(),
    )
    .await;
    let account = Account::tagboat(&own).await;
    for verb in [
        "get",
        "list",
        "watch",
        "create",
        "patch",
        "delete",
        "impersonate",
    ] {
        for resource in ["configmaps", "secrets", "serviceaccounts", "namespaces"] {
            let allowed = account.may(verb, ("", resource), &own, "deployer").await;
            assert!(!allowed, "{verb} {resource}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn deploy_impersonation_of_named_account_suffices() {
    let (shop, own) = namespaces("imperson").await;
    for file in ["rbac-records.yaml", "rbac-impersonate.yaml"] {
        create(&deployed(file, &shop, &own)).await;
    }
    let account = Account::tagboat(&own).await;
    account
        .granted("impersonate", ("", "serviceaccounts"), &shop, "deployer")
        .await;
    account
        .granted("update", ("", "configmaps"), &own, "x")
        .await;
    // Not with tagboat's own rights, as no other account, and nowhere else.
    for (verb, resource, namespace, name) in [
        ("patch", ("", "configmaps"), shop.as_str(), "a"),
        ("create", ("apps", "deployments"), &shop, "web"),
        ("delete", ("", "configmaps"), &shop, "a"),
        ("impersonate", ("", "serviceaccounts"), &shop, "default"),
        (
            "impersonate",
            ("", "serviceaccounts"),
            "kube-system",
            "deployer",
        ),
        ("impersonate", ("", "groups"), "", "system:masters"),
        ("impersonate", ("", "users"), "", "admin"),
        ("list", ("", "secrets"), &own, ""),
        ("list", ("", "configmaps"), "", ""),
    ] {
        let allowed = account.may(verb, resource, namespace, name).await;
        assert!(!allowed, "{verb} {resource:?} {namespace} {name}");
    }
    let kube = Kube::shared();
    let fleet = Fleet::open(kube, shop.clone(), account.kubeconfig, ReconcileMode::Act).await;
    fleet.grant(reconcile_tenants::rights(&own, &[&shop], ""));
    deploys(&fleet).await;
    // A kind that the account may not apply is refused to the account.
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "evil"}, "rules": []});
    fleet.manifests("shop", vec![web(), config("a", "3"), role]);
    fleet.commit();
    fleet
        .until("the role is refused", |statuses| {
            let told = problems(&statuses["shop"]).join("\n");
            told.contains("roles") && told.contains("may not")
        })
        .await;
    fleet
        .live_until("configmaps", "a", |live| live["data"]["value"] == "3")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn deploy_platform_needs_no_cluster_admin() {
    let (shop, own) = namespaces("platform").await;
    for file in ["rbac-records.yaml", "rbac-platform.yaml"] {
        create(&deployed(file, &shop, &own)).await;
    }
    let account = Account::tagboat(&own).await;
    account.granted("create", ("", "namespaces"), "", "x").await;
    account
        .granted("update", ("", "configmaps"), &own, "x")
        .await;
    for (verb, resource) in [
        (
            "create",
            ("rbac.authorization.k8s.io", "clusterrolebindings"),
        ),
        ("create", ("rbac.authorization.k8s.io", "rolebindings")),
        ("escalate", ("rbac.authorization.k8s.io", "clusterroles")),
        ("impersonate", ("", "serviceaccounts")),
        ("create", ("", "pods")),
        ("get", ("", "nodes")),
        (
            "create",
            (
                "admissionregistration.k8s.io",
                "validatingwebhookconfigurations",
            ),
        ),
    ] {
        assert!(
            !account.may(verb, resource, "", "x").await,
            "{verb} {resource:?}"
        );
    }
    let kube = Kube::shared();
    let fleet = Fleet::open(kube, shop.clone(), account.kubeconfig, ReconcileMode::Act).await;
    deploys(&fleet).await;
    // Another namespace comes and goes with its Application.
    let zone = format!("{shop}-zone");
    fleet.application_in("zone", &zone, ", prune: true, deletionPolicy: Delete");
    fleet.manifests("zone", vec![config("c", "1")]);
    let statuses = fleet.applied().await;
    assert_eq!(
        statuses["zone"].state,
        ApplicationState::Synced,
        "{statuses:#?}"
    );
}
