//! What is left alone: by annotations, because somebody else has it, because it cannot be watched; and how that is told.

use super::fleet::{Fleet, config, problems, states};
use crate::servers::kube::Kube;
use reqwest::Method;
use serde_json::{Value, json};
use tagboat::reconcile::{Mode, State};

fn notes(fleet: &Fleet) -> Vec<String> {
    fleet.statuses()["shop"].notes.iter().map(ToString::to_string).collect()
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn a_live_object_that_says_so_is_left_alone_and_not_deleted() {
    let fleet = Fleet::start(Kube::shared(), "frozen").await;
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", vec![config("a", "1"), config("b", "1")]);
    fleet.applied().await;
    fleet.kubectl(&["annotate", "configmap", "a", "kustomize.toolkit.fluxcd.io/reconcile=disabled"]);
    fleet.until("it is told", |statuses| !statuses["shop"].notes.is_empty()).await;
    assert!(notes(&fleet)[0].contains("/a: it is left alone: reconcile: disabled on the live object"), "{:?}", notes(&fleet));
    // Neither a change in the cluster nor one in Git moves it.
    fleet.kubectl(&["patch", "configmap", "a", "-p", r#"{"data":{"value":"by hand"}}"#]);
    fleet.manifests("shop", vec![config("a", "2"), config("b", "2")]);
    assert_eq!(states(&fleet.applied().await), [("shop", State::InStep)]);
    assert_eq!(fleet.live("configmaps", "b").await.unwrap()["data"]["value"], "2");
    assert_eq!(fleet.live("configmaps", "a").await.unwrap()["data"]["value"], "by hand");
    // Free again, Git counts.
    fleet.kubectl(&["annotate", "configmap", "a", "kustomize.toolkit.fluxcd.io/reconcile-"]);
    fleet.live_until("configmaps", "a", |live| live["data"]["value"] == "2").await;
    // Gone from Git, it stays.
    fleet.kubectl(&["annotate", "configmap", "a", "tagboat.dev/reconcile=disabled"]);
    fleet.until("it is told again", |statuses| !statuses["shop"].notes.is_empty()).await;
    fleet.manifests("shop", vec![config("b", "3")]);
    fleet.applied().await;
    assert!(notes(&fleet)[0].ends_with("/a: it stays in the cluster: reconcile: disabled"), "{:?}", notes(&fleet));
    assert!(fleet.live("configmaps", "a").await.is_some());
}
