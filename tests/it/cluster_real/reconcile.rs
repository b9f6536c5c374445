//! The reconcile pass on the real server: applied once, kept so, and no request while nothing
//! changes.

use super::fleet::{Fleet, config, problems, states};
use crate::servers::kube::Kube;
use reqwest::Method;
use serde_json::json;
use tagboat::reconcile::ApplicationState;

fn web(image: &str) -> serde_json::Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image, "resources": {"requests": {"cpu": "1000m"}}}]}}},
    })
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn apply_once_then_no_requests() {
    let mut fleet = Fleet::start(Kube::shared(), "once").await;
    fleet.application("shop", ", wait: true");
    fleet.manifests(
        "shop",
        vec![
            web("example.org/web:1"),
            config("a", "1"),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"}}),
        ],
    );
    let statuses = fleet.applied().await;
    assert_eq!(
        states(&statuses),
        [("shop", ApplicationState::Synced)],
        "{statuses:#?}"
    );
    assert_eq!(
        fleet.live("configmaps", "a").await.unwrap()["data"]["value"],
        "1"
    );
    assert_eq!(
        fleet.live("apps/deployments", "web").await.unwrap()["status"]["readyReplicas"],
        1
    );
    assert_eq!(
        statuses["shop"]
            .rollout
            .as_ref()
            .unwrap()
            .result
            .to_string(),
        "applied"
    );

    // The same objects at another revision: no request.
    let before = fleet.stats();
    let statuses = fleet.applied().await;
    assert_eq!(fleet.stats(), before);
    assert_eq!(statuses["shop"].state, ApplicationState::Synced);

    // One changed object: one apply, and the record.
    fleet.manifests(
        "shop",
        vec![
            web("example.org/web:1"),
            config("a", "2"),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"}}),
        ],
    );
    let before = fleet.stats();
    fleet.applied().await;
    let since = fleet.stats().since(&before);
    assert_eq!((since.of("apply"), since.writes()), (1, 2), "{since:?}");
    assert_eq!(
        fleet.live("configmaps", "a").await.unwrap()["data"]["value"],
        "2"
    );

    // A new process, which knows only the cluster, writes nothing.
    fleet.restart().await;
    let statuses = fleet.applied().await;
    assert_eq!(states(&statuses), [("shop", ApplicationState::Synced)]);
    assert_eq!(fleet.stats().writes(), 0, "{:?}", fleet.stats());
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn drift_is_repaired_at_once() {
    let fleet = Fleet::start(Kube::shared(), "drift").await;
    fleet.application("shop", "");
    fleet.manifests("shop", vec![web("example.org/web:1"), config("a", "1")]);
    fleet.applied().await;
    fleet.kubectl(&[
        "patch",
        "configmap",
        "a",
        "-p",
        r#"{"data":{"value":"hand-made","more":"theirs"}}"#,
    ]);
    let live = fleet
        .live_until("configmaps", "a", |live| {
            live["data"] == json!({"value": "1"})
        })
        .await;
    let uid = live["metadata"]["uid"].clone();
    fleet.kubectl(&["delete", "configmap", "a"]);
    fleet
        .live_until("configmaps", "a", |live| {
            live["metadata"]["uid"].is_string() && live["metadata"]["uid"] != uid
        })
        .await;
    // The same field again: the second repair backs off and names the other manager.
    fleet.kubectl(&["set", "image", "deployment/web", "web=example.org/web:9"]);
    fleet
        .live_until("apps/deployments", "web", |live| {
            live["spec"]["template"]["spec"]["containers"][0]["image"] == "example.org/web:1"
        })
        .await;
    fleet.kubectl(&["set", "image", "deployment/web", "web=example.org/web:9"]);
    fleet
        .until("the back-off is reported", |statuses| {
            statuses["shop"].state == ApplicationState::Drifted
        })
        .await;
    let drifted = fleet.statuses()["shop"].drifted[0].to_string();
    let path = "Deployment drift".to_owned();
    assert!(drifted.starts_with(&path), "{drifted}");
    assert!(
        drifted
            .contains("containers[name=web]/image was changed by kubectl-set; changed repeatedly"),
        "{drifted}"
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn drift_reported_is_not_repaired() {
    let fleet = Fleet::start(Kube::shared(), "report").await;
    fleet.application("shop", ", drift: report");
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.applied().await;
    let before = fleet.stats();
    fleet.kubectl(&[
        "patch",
        "configmap",
        "a",
        "--field-manager=somebody",
        "-p",
        r#"{"data":{"value":"2"}}"#,
    ]);
    fleet
        .until("the drift is reported", |statuses| {
            statuses["shop"].state == ApplicationState::Drifted
        })
        .await;
    assert!(
        fleet.statuses()["shop"].drifted[0]
            .to_string()
            .ends_with("/data/value was changed by somebody")
    );
    assert_eq!(fleet.stats().since(&before).writes(), 0);
    // A change in Git is still applied.
    fleet.manifests("shop", vec![config("a", "3")]);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    assert_eq!(
        fleet.live("configmaps", "a").await.unwrap()["data"]["value"],
        "3"
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn apply_failure_stops_no_other_object() {
    let fleet = Fleet::start(Kube::shared(), "bad").await;
    fleet.application("shop", "");
    let mut wrong = web("example.org/web:1");
    wrong["spec"]["replicas"] = json!("three");
    let elsewhere = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "namespace": "is-not-there"}});
    fleet.manifests(
        "shop",
        vec![
            wrong,
            elsewhere,
            config("a", "1"),
            json!({"apiVersion": "acme.io/v1", "kind": "Thing", "metadata": {"name": "t"}}),
        ],
    );
    let revision = fleet.commit();
    fleet
        .until("the failures are reported", |statuses| {
            statuses["shop"].problems.len() == 3
                && statuses["shop"].state == ApplicationState::Failed
        })
        .await;
    assert_eq!(
        fleet.live("configmaps", "a").await.unwrap()["data"]["value"],
        "1"
    );
    let reported = problems(&fleet.statuses()["shop"]);
    assert!(
        reported
            .iter()
            .any(|row| row.contains("(shop/all.yaml:1)") && row.contains("replicas")),
        "{reported:#?}"
    );
    assert!(
        reported
            .iter()
            .any(|row| row.contains("namespace is-not-there does not exist")),
        "{reported:#?}"
    );
    assert!(
        reported
            .iter()
            .any(|row| row.contains("the cluster does not serve acme.io/v1/Thing (yet)")),
        "{reported:#?}"
    );
    // Corrected in Git: no failure stays.
    fleet.manifests("shop", vec![web("example.org/web:1"), config("a", "1")]);
    let next = fleet.commit();
    assert_ne!(revision, next);
    assert_eq!(
        states(&fleet.settled(&next).await),
        [("shop", ApplicationState::Synced)]
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn degraded_workload_names_the_cause() {
    let fleet = Fleet::start(Kube::shared(), "unwell").await;
    fleet.application("shop", ", wait: true, timeout: 6s");
    fleet.manifests("shop", vec![web("example.org/web:missing")]);
    let statuses = fleet.applied().await;
    let status = &statuses["shop"];
    assert_eq!(status.state, ApplicationState::Degraded, "{status:#?}");
    assert!(
        status.unhealthy[0]
            .message
            .contains("container web: ImagePullBackOff"),
        "{status:#?}"
    );
    assert_eq!(
        status.rollout.as_ref().unwrap().result.to_string(),
        "degraded"
    );
    // A newer revision heals it.
    fleet.manifests("shop", vec![web("example.org/web:2")]);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn crd_with_objects_and_late_kind() {
    let fleet = Fleet::start(Kube::shared(), "kinds").await;
    let group = format!("{}.example.org", fleet.namespace);
    let crd = |plural: &str, kind: &str| {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("{plural}.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]},
        })
    };
    let thing = |kind: &str| json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": "one"}, "spec": {"size": 1}});
    fleet.application("both", "");
    fleet.manifests("both", vec![thing("Boat"), crd("boats", "Boat")]);
    fleet.application("early", "");
    fleet.manifests("early", vec![thing("Oar"), config("early", "1")]);
    fleet.application(
        "depends",
        ", dependsOn: [NS/both]"
            .replace("NS", &fleet.namespace)
            .as_str(),
    );
    fleet.manifests("depends", vec![config("late", "1")]);
    fleet.commit();
    fleet
        .until("both exist", |statuses| {
            statuses["both"].state == ApplicationState::Synced
                && statuses["depends"].state == ApplicationState::Synced
        })
        .await;
    fleet
        .until("the early one waits", |statuses| {
            statuses["early"].state == ApplicationState::Waiting
        })
        .await;
    assert!(fleet.live("configmaps", "early").await.is_some());
    // Another user installs the kind.
    let (status, answer) = fleet
        .kube
        .call(
            Method::POST,
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            Some(&crd("oars", "Oar")),
        )
        .await;
    assert_eq!(status, 201, "{answer}");
    fleet
        .until("the early one continues", |statuses| {
            statuses["early"].state == ApplicationState::Synced
        })
        .await;
    let (status, _) = fleet
        .kube
        .call(
            Method::GET,
            &format!("/apis/{group}/v1/namespaces/{}/oars/one", fleet.namespace),
            None,
        )
        .await;
    assert_eq!(status, 200);
}
