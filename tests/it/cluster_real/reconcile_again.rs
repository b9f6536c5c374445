//! What was in the way and is no more: everything goes on without another change in Git.

use super::fleet::{Fleet, config, problems, states};
use crate::servers::kube::Kube;
use tagboat::reconcile::State;

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
