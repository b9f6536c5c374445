//! The reconcile pass of a ServiceAccount with a Role in one namespace.

use super::fleet::{Fleet, config, problems};
use crate::{
    it::{examples::documents, reconcile_confined, support::cluster},
    servers::kube::Kube,
};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tagboat::reconcile::{ApplicationRequest, ApplicationState};

async fn post(path: &str, body: &Value) -> Value {
    let (status, answer) = Kube::shared().call(Method::POST, path, Some(body)).await;
    assert!(status.is_success(), "{answer}");
    answer
}

/// Grants an account of one namespace rights in another.
async fn grant(account: &str, namespace: &str, rules: &Value) {
    let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
    let role = json!({"metadata": {"name": "tagboat"}, "rules": rules});
    let binding = json!({
        "metadata": {"name": "tagboat"},
        "subjects": [{"kind": "ServiceAccount", "name": "tagboat", "namespace": account}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tagboat"},
    });
    post(&format!("{rbac}/roles"), &role).await;
    post(&format!("{rbac}/rolebindings"), &binding).await;
}

/// The kubeconfig of a new ServiceAccount `tagboat`.
async fn account(namespace: &str) -> PathBuf {
    let kube = Kube::shared();
    let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
    post(&accounts, &json!({"metadata": {"name": "tagboat"}})).await;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}});
    let answer = post(&format!("{accounts}/tagboat/token"), &request).await;
    let token = answer["status"]["token"].as_str().unwrap();
    let server = json!({"server": kube.server, "certificate-authority": kube.ca});
    let config = cluster::kubeconfig(&server, &json!({"token": token}));
    let path = kube.folder().join(format!("confined-{namespace}"));
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

fn everything() -> Value {
    json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}])
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn rights_on_one_namespace_suffice() {
    let kube = Kube::shared();
    let namespace = kube.namespace("confined").await;
    let kubeconfig = account(&namespace).await;
    // The rights that users copy, in one namespace.
    let mut rules = Vec::new();
    for file in ["rbac-records.yaml", "rbac-namespace.yaml"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("deploy")
            .join(file);
        let documents = documents(&std::fs::read_to_string(file).unwrap());
        let roles = documents.iter().filter(|object| object["kind"] == "Role");
        rules.extend(roles.flat_map(|role| role["rules"].as_array().unwrap().clone()));
    }
    grant(&namespace, &namespace, &json!(rules)).await;
    let fleet = Fleet::open_confined(kube, namespace, kubeconfig).await;
    reconcile_confined::confined_account_suffices(fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn rights_on_another_namespace_come_later() {
    let kube = Kube::shared();
    let (namespace, other) = (
        kube.namespace("confined").await,
        kube.namespace("later").await,
    );
    let kubeconfig = account(&namespace).await;
    grant(&namespace, &namespace, &everything()).await;
    let fleet = Fleet::open_confined(kube, namespace.clone(), kubeconfig).await;
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.application_in("later", &other, "");
    fleet.manifests("later", vec![config("b", "1")]);
    let statuses = fleet.applied().await;
    assert_eq!(
        statuses["shop"].state,
        ApplicationState::Synced,
        "{statuses:#?}"
    );
    assert_eq!(
        statuses["later"].state,
        ApplicationState::Failed,
        "{statuses:#?}"
    );
    let told = problems(&statuses["later"]).join("\n");
    assert!(
        told.contains(&format!(
            "ConfigMap cannot be watched: ServiceAccount {namespace}/tagboat may not watch configmaps in namespace {other}"
        )),
        "{told}"
    );
    grant(&namespace, &other, &everything()).await;
    // The authorizer of the API server learns of the grant a moment later.
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let later = fleet.name("later");
        assert!(fleet.reconciler.request(&later, &ApplicationRequest::Now));
        let revision = fleet.statuses()["later"].revision.clone().unwrap();
        let statuses = fleet.settled(&revision).await;
        if statuses["later"].state == ApplicationState::Synced {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{statuses:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}
