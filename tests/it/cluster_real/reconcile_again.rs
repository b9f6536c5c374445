//! What was in the way and is no more: everything goes on without another change in Git.

use super::fleet::{Fleet, config, problems, states};
use crate::servers::kube::Kube;
use serde_json::{Value, json};
use tagboat::reconcile::{Asked, State};

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn a_circle_that_is_taken_back_leaves_nothing_behind() {
    let fleet = Fleet::start(Kube::shared(), "circle").await;
    let needs = |name: &str| format!(", prune: true, dependsOn: [{}/{name}]", fleet.namespace);
    fleet.application("first", ", prune: true");
    fleet.application("second", &needs("first"));
    fleet.manifests("first", vec![config("a", "1"), config("old", "1")]);
    fleet.manifests("second", vec![config("b", "1")]);
    assert_eq!(states(&fleet.applied().await), [("first", State::InStep), ("second", State::InStep)]);
    fleet.application("first", &needs("second"));
    let statuses = fleet.applied().await;
    assert_eq!(states(&statuses), [("first", State::Failed), ("second", State::Failed)]);
    assert!(problems(&statuses["first"])[0].contains("leads in a circle"), "{statuses:#?}");
    // As before, byte for byte; nothing is sent for it.
    fleet.application("first", ", prune: true");
    let before = fleet.stats();
    let statuses = fleet.applied().await;
    assert_eq!(states(&statuses), [("first", State::InStep), ("second", State::InStep)], "{statuses:#?}");
    assert_eq!(fleet.stats().since(&before).of("apply"), 0);
    // And what the next revision takes away is deleted again.
    fleet.manifests("first", vec![config("a", "1")]);
    assert_eq!(states(&fleet.applied().await), [("first", State::InStep), ("second", State::InStep)]);
    fleet.gone("old").await;
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn a_rendering_that_failed_in_passing_is_tried_again() {
    let fleet = Fleet::start(Kube::shared(), "busy").await;
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", vec![config("a", "1"), config("old", "1")]);
    fleet.applied().await;
    fleet.manifests("shop", vec![json!("No space left on device")]);
    let revision = fleet.commit();
    let statuses = fleet.settled(&revision).await;
    assert_eq!(states(&statuses), [("shop", State::Failed)]);
    assert_eq!(problems(&statuses["shop"]), ["shop: No space left on device"]);
    // It passes, and nobody commits anything.
    fleet.manifests("shop", vec![config("a", "2")]);
    fleet.until("it is rendered again", |statuses| statuses["shop"].state == State::InStep).await;
    assert_eq!(fleet.live("configmaps", "a").await.unwrap()["data"]["value"], "2");
    fleet.gone("old").await;
    assert!(problems(&fleet.statuses()["shop"]).is_empty());
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn who_asks_for_it_has_what_could_not_be_rendered_tried_again_at_once() {
    let fleet = Fleet::start(Kube::shared(), "asked").await;
    fleet.application("shop", "");
    fleet.manifests("shop", vec![Value::Null]);
    let revision = fleet.commit();
    assert_eq!(states(&fleet.settled(&revision).await), [("shop", State::Failed)]);
    // Whoever asks waits for the answer, and is told the same as before where nothing has changed.
    let held = fleet.rendering.lock().await;
    assert!(fleet.reconciler.ask(&fleet.name("shop"), &Asked::Now));
    assert!(!fleet.statuses()["shop"].settled, "what is said of it is old");
    drop(held);
    let statuses = fleet.settled(&revision).await;
    assert_eq!(problems(&statuses["shop"]), ["shop/broken.yaml:1: not YAML"]);
    fleet.manifests("shop", vec![config("a", "1")]);
    assert!(fleet.reconciler.ask(&fleet.name("shop"), &Asked::Now));
    assert_eq!(states(&fleet.settled(&revision).await), [("shop", State::InStep)]);
    assert!(fleet.live("configmaps", "a").await.is_some());
}
