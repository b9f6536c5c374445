//! Atomic fields belong to Git as a whole; in granular fields, other managers keep their entries.

use super::fleet::{Fleet, states};
use crate::servers::kube::Kube;
use serde_json::{Value, json};
use tagboat::reconcile::ApplicationState;

const ROLES: &str = "rbac.authorization.k8s.io/roles";
const BINDINGS: &str = "rbac.authorization.k8s.io/rolebindings";
const POLICIES: &str = "networking.k8s.io/networkpolicies";

/// Objects with atomic rules, subjects, peers and selectors, and a workload.
fn guarded() -> Vec<Value> {
    let metadata = json!({"name": "a"});
    vec![
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "a"},
            "subjects": [{"kind": "ServiceAccount", "name": "a"}]}),
        // The server adds a protocol to the port.
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata,
            "spec": {"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "b"}}}], "ports": [{"port": 80}]}]}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": {"app": "a"}, "ports": [{"port": 80}]}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "a"}}, "template": {"metadata": {"labels": {"app": "a"}},
                "spec": {"securityContext": {}, "containers": [
                    {"name": "a", "image": "example.org/web:1", "args": ["one"], "ports": [{"containerPort": 80}], "resources": {}}]}}}}),
    ]
}

/// Adds an entry, and waits until it is removed again.
async fn undone(fleet: &Fleet, plural: &str, patch: Value, place: &str, git: Value) {
    let kind = plural.rsplit('/').next().unwrap();
    fleet.kubectl(&["patch", kind, "a", "--type=json", "-p", &patch.to_string()]);
    fleet
        .live_until(plural, "a", |live| live.pointer(place) == Some(&git))
        .await;
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn addition_to_atomic_field_is_removed() {
    let mut fleet = Fleet::start(Kube::shared(), "atoms").await;
    fleet.application("shop", "");
    fleet.manifests("shop", guarded());
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    let live = fleet.live(POLICIES, "a").await.unwrap();
    let ingress = live["spec"]["ingress"].clone();
    let args = "/spec/template/spec/containers/0/args";
    let rule = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]});
    let git = &guarded()[0]["rules"];
    undone(
        &fleet,
        ROLES,
        json!([{"op": "add", "path": "/rules/-", "value": rule}]),
        "/rules",
        git.clone(),
    )
    .await;
    let subject =
        json!({"kind": "User", "name": "mallory", "apiGroup": "rbac.authorization.k8s.io"});
    let patch = json!([{"op": "add", "path": "/subjects/-", "value": subject}]);
    undone(
        &fleet,
        BINDINGS,
        patch,
        "/subjects",
        guarded()[1]["subjects"].clone(),
    )
    .await;
    undone(
        &fleet,
        POLICIES,
        json!([{"op": "add", "path": "/spec/ingress/-", "value": {}}]),
        "/spec/ingress",
        ingress,
    )
    .await;
    let patch =
        json!([{"op": "add", "path": "/spec/podSelector/matchLabels", "value": {"app": "none"}}]);
    undone(&fleet, POLICIES, patch, "/spec/podSelector", json!({})).await;
    let patch = json!([{"op": "add", "path": "/spec/selector/more", "value": "1"}]);
    undone(
        &fleet,
        "services",
        patch,
        "/spec/selector",
        json!({"app": "a"}),
    )
    .await;
    undone(
        &fleet,
        "apps/deployments",
        json!([{"op": "add", "path": format!("{args}/-"), "value": "two"}]),
        args,
        json!(["one"]),
    )
    .await;

    // A new process knows the atomic fields from the record, and writes nothing to learn them.
    fleet.restart().await;
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    assert_eq!(fleet.stats().writes(), 0, "{:?}", fleet.stats());
    undone(
        &fleet,
        ROLES,
        json!([{"op": "add", "path": "/rules/-", "value": rule}]),
        "/rules",
        git.clone(),
    )
    .await;
    assert_eq!(
        fleet.stats().of("apply"),
        2,
        "sent, and sent again with force: {:?}",
        fleet.stats()
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn addition_to_granular_field_stays() {
    let fleet = Fleet::start(Kube::shared(), "many").await;
    fleet.application("shop", "");
    fleet.manifests("shop", guarded());
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    let before = fleet.stats();
    let side = json!({"spec": {"template": {"metadata": {"annotations": {"injected": "yes"}}, "spec": {
        "volumes": [{"name": "v", "emptyDir": {}}], "tolerations": [{"operator": "Exists"}], "securityContext": {"runAsUser": 7},
        "containers": [{"name": "proxy", "image": "example.org/proxy:1"}, {"name": "a", "env": [{"name": "X", "value": "1"}],
            "resources": {"requests": {"cpu": "1m"}}, "ports": [{"containerPort": 81, "protocol": "TCP"}]}]}}}});
    // Additions by kubectl itself are drift.
    let manager = "--field-manager=injector";
    fleet.kubectl(&["patch", "deployment", "a", manager, "-p", &side.to_string()]);
    fleet.kubectl(&["annotate", "deployment", "a", manager, "theirs=1"]);
    fleet.kubectl(&["label", "service", "a", manager, "theirs=1"]);
    fleet.kubectl(&[
        "patch",
        "service",
        "a",
        manager,
        "-p",
        r#"{"spec":{"ports":[{"name":"first","port":80},{"name":"more","port":81}]}}"#,
    ]);
    // A later change of a field in Git arrives on the same watch, and is the only one that is
    // repaired.
    fleet.kubectl(&[
        "patch",
        "service",
        "a",
        "-p",
        r#"{"spec":{"selector":{"app":"b"}}}"#,
    ]);
    fleet
        .live_until("services", "a", |live| {
            live["spec"]["selector"] == json!({"app": "a"})
        })
        .await;
    fleet.kubectl(&["set", "image", "deployment/a", "a=example.org/web:9"]);
    let containers = |live: &Value| {
        live["spec"]["template"]["spec"]["containers"]
            .as_array()
            .unwrap()
            .clone()
    };
    let ours = |live: &Value| {
        containers(live)
            .into_iter()
            .find(|container| container["name"] == "a")
            .unwrap()
    };
    let live = fleet
        .live_until("apps/deployments", "a", |live| {
            ours(live)["image"] == "example.org/web:1"
        })
        .await;
    assert_eq!(
        fleet.stats().since(&before).of("apply"),
        4,
        "two changes, each sent and sent again with force"
    );
    assert_eq!(containers(&live).len(), 2);
    assert_eq!(ours(&live)["env"][0]["name"], "X");
    assert_eq!(ours(&live)["ports"].as_array().unwrap().len(), 2);
    assert_eq!(
        live["spec"]["template"]["spec"]["securityContext"],
        json!({"runAsUser": 7})
    );
    assert_eq!(live["metadata"]["annotations"]["theirs"], "1");
    assert_eq!(
        fleet.live("services", "a").await.unwrap()["spec"]["ports"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}
