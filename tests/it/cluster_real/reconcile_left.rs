//! Objects that are left alone, by annotation, owner or missing watch, and how that is reported.

use super::fleet::{Fleet, config, problems, states};
use crate::servers::kube::Kube;
use reqwest::Method;
use serde_json::{Value, json};
use tagboat::reconcile::{ApplicationState, ReconcileMode};

fn notes(fleet: &Fleet) -> Vec<String> {
    fleet.statuses()["shop"]
        .notes
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn frozen_live_object_is_left_alone() {
    let fleet = Fleet::start(Kube::shared(), "frozen").await;
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", vec![config("a", "1"), config("b", "1")]);
    fleet.applied().await;
    fleet.kubectl(&[
        "annotate",
        "configmap",
        "a",
        "kustomize.toolkit.fluxcd.io/reconcile=disabled",
    ]);
    fleet
        .until("it is reported", |statuses| {
            !statuses["shop"].notes.is_empty()
        })
        .await;
    assert!(
        notes(&fleet)[0].contains("/a: it is left alone: reconcile: disabled on the live object"),
        "{:?}",
        notes(&fleet)
    );
    // Neither a change in the cluster nor one in Git has an effect.
    fleet.kubectl(&[
        "patch",
        "configmap",
        "a",
        "-p",
        r#"{"data":{"value":"by hand"}}"#,
    ]);
    fleet.manifests("shop", vec![config("a", "2"), config("b", "2")]);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    assert_eq!(
        fleet.live("configmaps", "b").await.unwrap()["data"]["value"],
        "2"
    );
    assert_eq!(
        fleet.live("configmaps", "a").await.unwrap()["data"]["value"],
        "by hand"
    );
    // Without the annotation, Git applies again.
    fleet.kubectl(&[
        "annotate",
        "configmap",
        "a",
        "kustomize.toolkit.fluxcd.io/reconcile-",
    ]);
    fleet
        .live_until("configmaps", "a", |live| live["data"]["value"] == "2")
        .await;
    // Removed from Git, it stays.
    fleet.kubectl(&[
        "annotate",
        "configmap",
        "a",
        "tagboat.dev/reconcile=disabled",
    ]);
    fleet
        .until("it is reported again", |statuses| {
            !statuses["shop"].notes.is_empty()
        })
        .await;
    fleet.manifests("shop", vec![config("b", "3")]);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    assert!(fleet.live("configmaps", "a").await.is_some());
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn existing_object_if_not_present_is_left() {
    let mut fleet = Fleet::start(Kube::shared(), "present").await;
    fleet.kubectl(&[
        "create",
        "configmap",
        "theirs",
        "--from-literal=value=theirs",
    ]);
    fleet.application("shop", ", prune: true");
    let once = |name: &str| {
        let mut object = config(name, "1");
        object["metadata"]["annotations"] = json!({"tagboat.dev/ssa": "IfNotPresent"});
        object
    };
    fleet.manifests("shop", vec![once("theirs"), once("ours")]);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    // An object that no watch shows was not deleted; plan mode reports that, too.
    let looking = Fleet::open(
        fleet.kube,
        fleet.namespace.clone(),
        fleet.kube.kubeconfig.clone(),
        ReconcileMode::Plan,
    )
    .await;
    looking.application("shop", ", prune: true");
    looking.manifests("shop", vec![once("theirs"), once("ours")]);
    let statuses = looking.applied().await;
    assert_eq!(
        states(&statuses),
        [("shop", ApplicationState::Synced)],
        "{:?}",
        statuses["shop"].planned
    );
    fleet.restart().await;
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    assert_eq!(fleet.stats().writes(), 0, "{:?}", fleet.stats());
    // A deleted object that tagboat created is created again.
    let uid = fleet.live("configmaps", "ours").await.unwrap()["metadata"]["uid"].clone();
    fleet.kubectl(&["delete", "configmap", "ours"]);
    fleet
        .live_until("configmaps", "ours", |live| {
            live["metadata"]["uid"].is_string() && live["metadata"]["uid"] != uid
        })
        .await;
    // Git declares it without the annotation: it is taken over, and then ours.
    fleet.manifests("shop", vec![config("theirs", "2"), once("ours")]);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    assert_eq!(
        fleet.live("configmaps", "theirs").await.unwrap()["data"]["value"],
        "2"
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn late_cluster_scoped_kind_has_no_namespace() {
    let fleet = Fleet::start(Kube::shared(), "issuers").await;
    let group = format!("{}.example.org", fleet.namespace);
    fleet.application("shop", "");
    let issuer = json!({"apiVersion": format!("{group}/v1"), "kind": "Issuer", "metadata": {"name": "one"}, "spec": {"size": 1}});
    fleet.manifests("shop", vec![issuer, config("a", "1")]);
    fleet.commit();
    fleet
        .until("it waits", |statuses| {
            statuses["shop"].state == ApplicationState::Waiting
        })
        .await;
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("issuers.{group}")},
        "spec": {"group": group, "scope": "Cluster", "names": {"plural": "issuers", "kind": "Issuer"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]},
    });
    let (status, answer) = fleet
        .kube
        .call(
            Method::POST,
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            Some(&definition),
        )
        .await;
    assert_eq!(status, 201, "{answer}");
    fleet
        .until("it is applied", |statuses| {
            statuses["shop"].state == ApplicationState::Synced
        })
        .await;
    // The watch shows the same object: it is not created again, and a change is repaired.
    let path = format!("/apis/{group}/v1/issuers/one");
    let before = fleet.stats();
    let patch = json!({"apiVersion": format!("{group}/v1"), "kind": "Issuer", "metadata": {"name": "one"}, "spec": {"size": 2}});
    super::support::written_by(fleet.kube, "somebody", &path, &patch).await;
    super::smoke::eventually(fleet.kube, &path, |live| live["spec"]["size"] == 1).await;
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    assert_eq!(
        fleet.stats().since(&before).of("apply"),
        2,
        "sent, and sent again with force"
    );
}

/// Grants a user all verbs on core and RBAC kinds in a namespace, and reading of everything in the
/// cluster but the named kind.
async fn grant(fleet: &Fleet, user: &str, not: &str) {
    let every = [
        "get", "list", "watch", "patch", "create", "update", "delete", "escalate", "bind",
    ];
    let watched: Vec<&str> = ["configmaps", "secrets", "services", "namespaces"]
        .into_iter()
        .filter(|plural| *plural != not)
        .collect();
    let rules = json!([
        {"apiGroups": [""], "resources": watched, "verbs": every},
        {"apiGroups": [""], "resources": [not], "verbs": ["get", "patch", "create"]},
    ]);
    let name = format!("{}-{user}", fleet.namespace);
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let binding = json!({"metadata": {"name": name}, "subjects": [{"kind": "User", "name": user}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}});
    for (path, body) in [
        (roles, json!({"metadata": {"name": name}, "rules": rules})),
        (
            &format!("{roles}bindings").replace("rolesb", "roleb"),
            binding,
        ),
    ] {
        let (status, answer) = fleet.kube.call(Method::POST, path, Some(&body)).await;
        assert_eq!(status, 201, "{answer}");
    }
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn unwatchable_kind_stops_only_its_objects() {
    let kube = Kube::shared();
    let namespace = kube.namespace("unwatched").await;
    let kubeconfig = kube.kubeconfig_for("deployer", &kube.server, Some(&kube.ca));
    let fleet = Fleet::open(kube, namespace, kubeconfig, ReconcileMode::Act).await;
    grant(&fleet, "deployer", "services").await;
    fleet.application("shop", ", prune: true");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}});
    fleet.manifests(
        "shop",
        vec![service.clone(), config("a", "1"), config("b", "1")],
    );
    let revision = fleet.commit();
    let statuses = fleet.settled(&revision).await;
    assert_eq!(states(&statuses), [("shop", ApplicationState::Failed)]);
    let problem = &statuses["shop"].problems[0];
    let reported = problem.to_string();
    assert!(
        reported.starts_with(&format!(
            "Service {}/a (shop/all.yaml:1): Service cannot be watched",
            fleet.namespace
        )),
        "{reported}"
    );
    assert!(
        reported.contains("user deployer may not watch services"),
        "{reported}"
    );
    assert!(
        problem
            .hint
            .as_ref()
            .unwrap()
            .contains("grant user deployer the verbs get, list and watch on services"),
        "{problem:?}"
    );
    assert_eq!(problems(&statuses["shop"]).len(), 1);
    assert_eq!(
        fleet.live("configmaps", "a").await.unwrap()["data"]["value"],
        "1"
    );
    assert!(fleet.live("services", "a").await.is_none());
    // The other objects are kept in sync meanwhile; nothing is deleted while a kind cannot be
    // watched.
    fleet.kubectl(&["patch", "configmap", "a", "-p", r#"{"data":{"value":"2"}}"#]);
    fleet
        .live_until("configmaps", "a", |live| live["data"]["value"] == "1")
        .await;
    fleet.manifests("shop", vec![service, config("a", "1")]);
    fleet.applied().await;
    assert!(fleet.live("configmaps", "b").await.is_some());
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn manual_replicas_yield_to_git_change() {
    let mut fleet = Fleet::start(Kube::shared(), "scaled").await;
    fleet.application("shop", "");
    let web = |replicas: u32, image: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": image}]}}}})
    };
    let replicas = |live: &Value| live["spec"]["replicas"].clone();
    fleet.manifests("shop", vec![web(1, "example.org/web:1")]);
    fleet.applied().await;
    fleet.kubectl(&["scale", "deployment/web", "--replicas=3"]);
    fleet
        .until("it is reported", |statuses| {
            !statuses["shop"].notes.is_empty()
        })
        .await;
    assert!(
        notes(&fleet)[0].ends_with("/web: spec.replicas is set by kubectl (scale), Git says 1"),
        "{:?}",
        notes(&fleet)
    );
    // Another change in Git leaves them alone; a change by their manager counts, also after a
    // restart.
    fleet.manifests("shop", vec![web(1, "example.org/web:2")]);
    fleet.applied().await;
    assert_eq!(
        replicas(&fleet.live("apps/deployments", "web").await.unwrap()),
        3
    );
    fleet.restart().await;
    fleet.manifests("shop", vec![web(5, "example.org/web:2")]);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    assert_eq!(
        replicas(&fleet.live("apps/deployments", "web").await.unwrap()),
        5
    );
    assert_eq!(notes(&fleet), [""; 0]);
    // Replicas of an object that an autoscaler targets stay its own.
    let autoscaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web", "namespace": fleet.namespace},
        "spec": {"maxReplicas": 9, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
    let collection = format!(
        "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
        fleet.namespace
    );
    let (status, answer) = fleet
        .kube
        .call(Method::POST, &collection, Some(&autoscaler))
        .await;
    assert_eq!(status, 201, "{answer}");
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web", "namespace": fleet.namespace}, "spec": {"replicas": 4}});
    let path = format!(
        "{}/scale?fieldManager=autoscaler",
        fleet.path("apps/deployments", "web")
    );
    let (status, answer) = fleet.kube.call(Method::PUT, &path, Some(&scale)).await;
    assert_eq!(status, 200, "{answer}");
    fleet
        .until("it is reported, too", |statuses| {
            !statuses["shop"].notes.is_empty()
        })
        .await;
    fleet.manifests("shop", vec![web(6, "example.org/web:2")]);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    assert_eq!(
        replicas(&fleet.live("apps/deployments", "web").await.unwrap()),
        4
    );
    assert!(
        notes(&fleet)[0].ends_with("/web: spec.replicas is set by autoscaler (scale), Git says 6"),
        "{:?}",
        notes(&fleet)
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn secret_without_base64_fails_as_git_mistake() {
    let fleet = Fleet::start(Kube::shared(), "plain").await;
    fleet.application("shop", "");
    fleet.manifests(
        "shop",
        vec![json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"password": "hunter2!"}})],
    );
    let statuses = fleet.applied().await;
    assert_eq!(states(&statuses), [("shop", ApplicationState::Failed)]);
    let problem = &statuses["shop"].problems[0];
    assert!(
        problem
            .hint
            .as_ref()
            .is_some_and(|hint| hint.contains("stringData")),
        "{problem:?}"
    );
    assert!(!problem.to_string().contains("hunter2"), "{problem}");
    assert_eq!(fleet.stats().of("apply"), 1, "it is not sent repeatedly");
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn aggregated_role_rules_are_not_applied() {
    let mut fleet = Fleet::start(Kube::shared(), "aggregated").await;
    fleet.application("shop", "");
    let (part, whole) = (
        format!("{}-part", fleet.namespace),
        format!("{}-whole", fleet.namespace),
    );
    let role = |name: &str, more: Value| {
        let mut role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name, "labels": {&part: "yes"}}});
        role.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        role
    };
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let selector = json!({"clusterRoleSelectors": [{"matchLabels": {&part: "yes"}, "matchExpressions": [{"key": "whole", "operator": "DoesNotExist"}]}]});
    let mut aggregated = role(&whole, json!({"aggregationRule": selector, "rules": []}));
    aggregated["metadata"]["labels"] = json!({"whole": "yes"});
    let with = |value: &str| {
        vec![
            role(&part, json!({"rules": rules})),
            aggregated.clone(),
            config("a", value),
        ]
    };
    fleet.manifests("shop", with("1"));
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    let path = format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{whole}");
    let filled = |live: &Value| live["rules"] == rules;
    let settled = super::smoke::eventually(fleet.kube, &path, filled).await;
    for again in 1..3 {
        // A later change in the cluster is seen later: drift would have been repaired by then.
        fleet.kubectl(&[
            "patch",
            "configmap",
            "a",
            "-p",
            r#"{"data":{"value":"by hand"}}"#,
        ]);
        let reported = again.to_string();
        fleet
            .live_until("configmaps", "a", |live| live["data"]["value"] == reported)
            .await;
        // Neither a new commit nor a new process starts a conflict.
        fleet.restart().await;
        fleet.manifests("shop", with(&(again + 1).to_string()));
        assert_eq!(
            states(&fleet.applied().await),
            [("shop", ApplicationState::Synced)]
        );
        let (_, live) = fleet.kube.call(Method::GET, &path, None).await;
        assert_eq!(
            live["metadata"]["resourceVersion"], settled["metadata"]["resourceVersion"],
            "{live:#}"
        );
    }
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn dependent_of_left_object_does_not_wait() {
    let fleet = Fleet::start(Kube::shared(), "needs").await;
    fleet.application("shop", ", timeout: 3s");
    let own = |kind: &str, name: &str, annotation: &str, value: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "annotations": {annotation: value}}});
    let namespace = own(
        "Namespace",
        &fleet.namespace,
        "kustomize.toolkit.fluxcd.io/ssa",
        "Ignore",
    );
    fleet.kubectl(&["create", "serviceaccount", "theirs"]);
    let present = own(
        "ServiceAccount",
        "theirs",
        "tagboat.dev/ssa",
        "IfNotPresent",
    );
    let needing = |name: &str, needs: &str| {
        let mut object = config(name, "1");
        object["metadata"]["annotations"] = json!({"tagboat.dev/depends-on": format!("/{needs}")});
        object
    };
    let on = |kind: &str, name: &str| format!("namespaces/{}/{kind}/{name}", fleet.namespace);
    let disabled = own("ConfigMap", "disabled", "tagboat.dev/reconcile", "disabled");
    let all = vec![
        namespace,
        present,
        disabled,
        config("a", "1"),
        needing("b", &on("ServiceAccount", "theirs")),
        needing("c", &on("ConfigMap", "disabled")),
    ];
    fleet.manifests("shop", all);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    for name in ["a", "b", "c"] {
        assert!(fleet.live("configmaps", name).await.is_some(), "{name}");
    }
    // A dependent that waits names its dependency.
    let web = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "example.org/web:missing"}]}}}});
    let mut after = needing("after", "");
    after["metadata"]["annotations"]["tagboat.dev/depends-on"] =
        format!("apps/{}", on("Deployment", "web")).into();
    fleet.manifests("shop", vec![web, after]);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Waiting)]
    );
    let reported = problems(&fleet.statuses()["shop"]).join("\n");
    assert!(
        reported.contains(&format!(
            "ConfigMap {0}/after (shop/all.yaml:2): it waits for Deployment {0}/web, which is not healthy yet",
            fleet.namespace
        )),
        "{reported}"
    );
}
