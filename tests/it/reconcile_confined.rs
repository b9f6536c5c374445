//! The reconcile pass of an account with rights in one namespace alone, for the sandbox's API
//! server and for the real one.

use super::support::fleet::{Backend, Fleet, config, states};
use reqwest::Method;
use serde_json::{Value, json};
use tagboat::reconcile::ApplicationState;

fn web(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image}]}}},
    })
}

/// Applies, repairs, prunes and judges health; after a restart, too.
pub(super) async fn confined_account_suffices<K: Backend>(mut fleet: Fleet<K>) {
    fleet.application("shop", ", prune: true, wait: true");
    fleet.manifests(
        "shop",
        vec![web("example.org/web:1"), config("a", "1"), config("b", "1")],
    );
    let statuses = fleet.applied().await;
    assert_eq!(
        states(&statuses),
        [("shop", ApplicationState::Synced)],
        "{statuses:#?}"
    );
    let live = fleet.live("apps/deployments", "web").await.unwrap();
    assert_eq!(live["status"]["readyReplicas"], 1);
    // Drift.
    let mut edited = fleet.live("configmaps", "a").await.unwrap();
    edited["data"]["value"] = json!("by hand");
    let path = fleet.path("configmaps", "a");
    let (status, answer) = fleet.kube.call(Method::PUT, &path, Some(&edited)).await;
    assert!(status.is_success(), "{answer}");
    fleet
        .live_until("configmaps", "a", |live| live["data"]["value"] == "1")
        .await;
    let path = fleet.path("configmaps", "b");
    let uid = uid_of(&fleet, "b").await;
    fleet.kube.call(Method::DELETE, &path, None).await;
    fleet
        .live_until("configmaps", "b", |live| {
            live["metadata"]["uid"].is_string() && live["metadata"]["uid"] != uid
        })
        .await;
    // A new process knows the same, and writes nothing.
    fleet.restart().await;
    let statuses = fleet.applied().await;
    assert_eq!(states(&statuses), [("shop", ApplicationState::Synced)]);
    assert_eq!(fleet.stats().writes(), 0, "{:?}", fleet.stats());
    // At rest nothing is asked.
    let before = fleet.stats();
    fleet.applied().await;
    assert_eq!(fleet.stats(), before);
    // Prune, and a workload that does not come up.
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", vec![web("example.org/web:1"), config("a", "2")]);
    fleet.commit();
    fleet.gone("b").await;
    fleet.manifests(
        "shop",
        vec![web("example.org/web:missing"), config("a", "2")],
    );
    fleet.commit();
    fleet
        .until("the reason of the pods is reported", |statuses| {
            let unhealthy = statuses["shop"].unhealthy.iter().map(ToString::to_string);
            unhealthy.collect::<String>().contains("ImagePullBackOff")
        })
        .await;
    let statuses = fleet.statuses();
    assert_eq!(statuses["shop"].problems, [], "{statuses:#?}");
    assert_eq!(
        fleet.live("configmaps", "a").await.unwrap()["data"]["value"],
        "2"
    );
}

async fn uid_of<K: Backend>(fleet: &Fleet<K>, name: &str) -> Value {
    fleet.live("configmaps", name).await.unwrap()["metadata"]["uid"].clone()
}
