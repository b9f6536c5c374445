//! Obstacles that go away: everything continues without another change in Git.

use super::{
    fleet::{Fleet, config, problems, states},
    reconcile_faults::behind,
};
use crate::servers::{kube::Kube, proxy::Fault};
use reqwest::Method;
use serde_json::{Value, json};
use tagboat::reconcile::{ApplicationRequest, ApplicationState, ApplicationStatus};

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn dependency_cycle_ends_with_its_commit() {
    let fleet = Fleet::start(Kube::shared(), "circle").await;
    let needs = |name: &str| format!(", prune: true, dependsOn: [{}/{name}]", fleet.namespace);
    fleet.application("first", ", prune: true");
    fleet.application("second", &needs("first"));
    fleet.manifests("first", vec![config("a", "1"), config("old", "1")]);
    fleet.manifests("second", vec![config("b", "1")]);
    assert_eq!(
        states(&fleet.applied().await),
        [
            ("first", ApplicationState::Synced),
            ("second", ApplicationState::Synced)
        ]
    );
    fleet.application("first", &needs("second"));
    let statuses = fleet.applied().await;
    assert_eq!(
        states(&statuses),
        [
            ("first", ApplicationState::Failed),
            ("second", ApplicationState::Failed)
        ]
    );
    assert!(
        problems(&statuses["first"])[0].contains("forms a cycle"),
        "{statuses:#?}"
    );
    // The old content, byte for byte; nothing is sent for it.
    fleet.application("first", ", prune: true");
    let before = fleet.stats();
    let statuses = fleet.applied().await;
    assert_eq!(
        states(&statuses),
        [
            ("first", ApplicationState::Synced),
            ("second", ApplicationState::Synced)
        ],
        "{statuses:#?}"
    );
    assert_eq!(fleet.stats().since(&before).of("apply"), 0);
    // Objects that the next revision lacks are deleted again.
    fleet.manifests("first", vec![config("a", "1")]);
    assert_eq!(
        states(&fleet.applied().await),
        [
            ("first", ApplicationState::Synced),
            ("second", ApplicationState::Synced)
        ]
    );
    fleet.gone("old").await;
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn transient_render_failure_is_retried() {
    let fleet = Fleet::start(Kube::shared(), "busy").await;
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", vec![config("a", "1"), config("old", "1")]);
    fleet.applied().await;
    fleet.manifests("shop", vec![json!("No space left on device")]);
    let revision = fleet.commit();
    let statuses = fleet.settled(&revision).await;
    assert_eq!(states(&statuses), [("shop", ApplicationState::Failed)]);
    assert_eq!(
        problems(&statuses["shop"]),
        ["shop: No space left on device"]
    );
    // The failure passes, without any new commit.
    fleet.manifests("shop", vec![config("a", "2")]);
    fleet
        .until("it is rendered again", |statuses| {
            statuses["shop"].state == ApplicationState::Synced
        })
        .await;
    assert_eq!(
        fleet.live("configmaps", "a").await.unwrap()["data"]["value"],
        "2"
    );
    fleet.gone("old").await;
    assert!(problems(&fleet.statuses()["shop"]).is_empty());
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn failed_rendering_is_retried_on_request() {
    let fleet = Fleet::start(Kube::shared(), "asked").await;
    fleet.application("shop", "");
    fleet.manifests("shop", vec![Value::Null]);
    let revision = fleet.commit();
    assert_eq!(
        states(&fleet.settled(&revision).await),
        [("shop", ApplicationState::Failed)]
    );
    // A sync waits for the answer, which is the same as before if nothing has changed.
    let held = fleet.files.rendering.lock().await;
    assert!(
        fleet
            .reconciler
            .request(&fleet.name("shop"), &ApplicationRequest::Now)
    );
    assert!(
        !fleet.statuses()["shop"].observed,
        "the reported status is old"
    );
    drop(held);
    let statuses = fleet.settled(&revision).await;
    assert_eq!(
        problems(&statuses["shop"]),
        ["shop/broken.yaml:1: not YAML"]
    );
    fleet.manifests("shop", vec![config("a", "1")]);
    assert!(
        fleet
            .reconciler
            .request(&fleet.name("shop"), &ApplicationRequest::Now)
    );
    assert_eq!(
        states(&fleet.settled(&revision).await),
        [("shop", ApplicationState::Synced)]
    );
    assert!(fleet.live("configmaps", "a").await.is_some());
}

/// A definition of Boats in these versions, each served or not.
fn boats(group: &str, versions: &[(&str, bool)]) -> Value {
    let version = |(name, served): &(&str, bool)| {
        let newest = versions.last().is_some_and(|last| last.0 == *name);
        json!({"name": name, "served": served, "storage": newest,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("boats.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "boats", "kind": "Boat"},
            "versions": versions.iter().map(version).collect::<Vec<_>>()},
    })
}

async fn define(fleet: &Fleet, group: &str, versions: &[(&str, bool)]) {
    let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/boats.{group}");
    super::support::written_by(fleet.kube, "somebody", &path, &boats(group, versions)).await;
}

fn boat(group: &str, version: &str, size: u32) -> Value {
    json!({"apiVersion": format!("{group}/{version}"), "kind": "Boat", "metadata": {"name": "one"}, "spec": {"size": size}})
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn watch_follows_new_version_of_a_kind() {
    let fleet = Fleet::start(Kube::shared(), "newer").await;
    let group = format!("{}.example.org", fleet.namespace);
    define(&fleet, &group, &[("v1beta1", true)]).await;
    fleet.application("shop", "");
    fleet.manifests("shop", vec![boat(&group, "v1beta1", 1)]);
    fleet.commit();
    fleet
        .until("it is applied", |statuses| {
            statuses["shop"].state == ApplicationState::Synced
        })
        .await;
    // Git is ahead of the cluster, which another user upgrades.
    fleet.manifests("shop", vec![boat(&group, "v1", 2)]);
    let revision = fleet.commit();
    fleet
        .until("it waits", |statuses| {
            statuses["shop"].revision.as_ref() == Some(&revision)
                && statuses["shop"].state == ApplicationState::Waiting
        })
        .await;
    define(&fleet, &group, &[("v1beta1", true), ("v1", true)]).await;
    fleet
        .until("it continues", |statuses| {
            statuses["shop"].state == ApplicationState::Synced
        })
        .await;
    let path = format!("/apis/{group}/v1/namespaces/{}/boats/one", fleet.namespace);
    let (status, live) = fleet.kube.call(Method::GET, &path, None).await;
    assert_eq!((status.as_u16(), &live["spec"]["size"]), (200, &json!(2)));
    // The watched version goes away; a change by hand is still seen.
    define(&fleet, &group, &[("v1beta1", false), ("v1", true)]).await;
    super::smoke::eventually(
        fleet.kube,
        &format!(
            "/apis/{group}/v1beta1/namespaces/{}/boats/one",
            fleet.namespace
        ),
        |live| live["kind"] != "Boat",
    )
    .await;
    super::support::written_by(fleet.kube, "somebody", &path, &boat(&group, "v1", 9)).await;
    super::smoke::eventually(fleet.kube, &path, |live| live["spec"]["size"] == 2).await;
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn kind_in_another_version_is_awaited() {
    let fleet = Fleet::start(Kube::shared(), "older").await;
    let group = format!("{}.example.org", fleet.namespace);
    fleet.application("shop", "");
    fleet.manifests("shop", vec![boat(&group, "v1", 1)]);
    fleet.commit();
    fleet
        .until("it waits", |statuses| {
            statuses["shop"].state == ApplicationState::Waiting
        })
        .await;
    define(&fleet, &group, &[("v1beta1", true)]).await;
    // Existing objects are watched in the version that exists.
    let cluster = fleet.reconciler.cluster("test").unwrap();
    let older = async || {
        cluster
            .resources()
            .await
            .unwrap()
            .preferred(&group, "Boat")
            .is_some()
    };
    super::support::until("the older version is discovered", older).await;
    define(&fleet, &group, &[("v1beta1", true), ("v1", true)]).await;
    fleet
        .until("it continues", |statuses| {
            statuses["shop"].state == ApplicationState::Synced
        })
        .await;
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn redeclared_during_deletion_is_applied() {
    let fleet = Fleet::start(Kube::shared(), "twice").await;
    fleet.application("stays", "");
    fleet.application("shop", ", deletionPolicy: Delete");
    let mut held = config("a", "1");
    held["metadata"]["finalizers"] = json!(["example.org/held"]);
    fleet.manifests("shop", vec![held.clone()]);
    fleet.applied().await;
    fleet.undeclare("shop");
    fleet.commit();
    fleet
        .live_until("configmaps", "a", |live| {
            live["metadata"]["deletionTimestamp"].is_string()
        })
        .await;
    // Declared again. Before the rendering ends, the object is gone, and its task has nothing left
    // to do.
    let rendering = fleet.files.rendering.lock().await;
    fleet.application("shop", ", deletionPolicy: Delete");
    let revision = fleet.commit();
    fleet.kubectl(&[
        "patch",
        "configmap",
        "a",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ]);
    super::smoke::eventually(fleet.kube, &fleet.record_path("shop"), |live| {
        live["reason"] == "NotFound"
    })
    .await;
    fleet
        .until("its task is over", |statuses| {
            !statuses.contains_key("shop")
        })
        .await;
    drop(rendering);
    fleet
        .until("it exists again", |statuses| {
            statuses
                .get("shop")
                .is_some_and(|status| status.state == ApplicationState::Synced)
        })
        .await;
    assert_eq!(fleet.statuses()["shop"].revision.as_ref(), Some(&revision));
    assert!(fleet.live("configmaps", "a").await.is_some());
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn objects_of_unavailable_group_are_kept() {
    let (mut fleet, proxy) = behind("down").await;
    let job = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "old"}, "spec": {"schedule": "0 0 1 1 *",
        "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}}}}}});
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", vec![config("a", "1"), job]);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    // A new process cannot discover the group, while Git removes an object of it.
    fleet.end().await;
    proxy.drop_header("accept");
    proxy.fault(
        "GET",
        "/apis/batch/v1",
        usize::MAX,
        Fault::Answer {
            status: 503,
            retry_after: None,
        },
    );
    fleet.restart().await;
    fleet.manifests("shop", vec![config("a", "2")]);
    fleet.commit();
    let has_outage = |status: &ApplicationStatus| {
        status
            .notes
            .iter()
            .any(|row| row.to_string().contains("CronJob cannot be watched"))
    };
    fleet
        .until("the outage is reported", |statuses| {
            has_outage(&statuses["shop"])
        })
        .await;
    fleet
        .live_until("configmaps", "a", |live| live["data"]["value"] == "2")
        .await;
    let record = fleet.inventory("shop").await.unwrap();
    assert!(record.contains("CronJob"), "{record}");
    // When the group answers again, the rest of it is found and deleted.
    proxy.heal();
    super::smoke::eventually(fleet.kube, &fleet.path("batch/cronjobs", "old"), |live| {
        live["reason"] == "NotFound"
    })
    .await;
}
