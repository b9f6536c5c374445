//! A command that names some Applications of a repository: the others are not touched, but their
//! claims count.

use super::fleet::{Fleet, config, problems, states};
use crate::servers::kube::Kube;
use serde_json::json;
use tagboat::reconcile::{ApplicationRequest, ApplicationState};

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn confirmation_before_record_read_counts() {
    let mut fleet = Fleet::start(Kube::shared(), "early-yes").await;
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", vec![config("a", "1"), config("b", "1")]);
    fleet.applied().await;
    fleet.restart().await;
    fleet.manifests("shop", vec![]);
    let revision = fleet.commit();
    // One thread: the task has not begun.
    assert!(fleet.reconciler.request(
        &fleet.name("shop"),
        &ApplicationRequest::ConfirmPrune(revision.clone())
    ));
    let statuses = fleet.settled(&revision).await;
    assert_eq!(
        states(&statuses),
        [("shop", ApplicationState::Synced)],
        "{statuses:#?}"
    );
    fleet.gone("a").await;
    fleet.gone("b").await;
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn single_application_prunes_unclaimed_only() {
    let mut fleet = Fleet::start(Kube::shared(), "alone").await;
    fleet.application("shop", ", prune: true");
    fleet.application("other", "");
    fleet.application("rests", ", suspend: true");
    fleet.manifests("shop", ["a", "b", "c"].map(|name| config(name, "1")).into());
    fleet.manifests("other", vec![config("x", "1")]);
    fleet.applied().await;
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.manifests("other", vec![config("x", "2"), config("b", "1")]);
    let statuses = fleet.named(&["shop"]).await;
    assert_eq!(
        states(&statuses),
        [("shop", ApplicationState::Synced)],
        "{statuses:#?}"
    );
    fleet.gone("c").await;
    let notes: Vec<String> = statuses["shop"]
        .notes
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        notes.iter().any(|note| note.contains("/b: ")
            && note.contains("/other takes it over when it is applied")),
        "{notes:?}"
    );
    assert!(fleet.live("configmaps", "b").await.is_some());
    assert_eq!(
        fleet.live("configmaps", "x").await.unwrap()["data"]["value"],
        "1",
        "it was not named"
    );
    // The other one takes it over when it is named alone.
    let statuses = fleet.named(&["other"]).await;
    assert_eq!(
        states(&statuses),
        [("other", ApplicationState::Synced)],
        "{statuses:#?}"
    );
    let labels = fleet.live("configmaps", "b").await.unwrap()["metadata"]["labels"].clone();
    assert!(
        labels
            .as_object()
            .unwrap()
            .values()
            .any(|value| value == "other"),
        "{labels}"
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn unreadable_unselected_blocks_prune() {
    let mut fleet = Fleet::start(Kube::shared(), "unreadable").await;
    fleet.application("shop", ", prune: true");
    fleet.application("other", "");
    fleet.manifests("shop", vec![config("a", "1"), config("b", "1")]);
    fleet.manifests("other", vec![config("x", "1")]);
    fleet.applied().await;
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.manifests("other", vec![json!(null)]);
    let statuses = fleet.named(&["shop"]).await;
    assert_eq!(
        states(&statuses),
        [("shop", ApplicationState::Synced)],
        "{statuses:#?}"
    );
    let notes: Vec<String> = statuses["shop"]
        .notes
        .iter()
        .map(ToString::to_string)
        .collect();
    let wanted = format!(
        "1 old object is not deleted now: {}/other may declare some of them and cannot be read: other/broken.yaml",
        fleet.namespace
    );
    assert!(
        notes.iter().any(|note| note.starts_with(&wanted)),
        "{notes:?}"
    );
    assert!(fleet.live("configmaps", "b").await.is_some());
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn unselected_dependency_read_from_record() {
    let mut fleet = Fleet::start(Kube::shared(), "depends").await;
    fleet.application("base", "");
    let depends = format!(", dependsOn: [{}/base]", fleet.namespace);
    fleet.application("shop", &depends);
    fleet.manifests("base", vec![config("base", "1")]);
    fleet.manifests("shop", vec![config("a", "1")]);
    // Nothing was applied, which is reported at once.
    let statuses = fleet.named(&["shop"]).await;
    assert_eq!(
        states(&statuses),
        [("shop", ApplicationState::Waiting)],
        "{statuses:#?}"
    );
    let reported = problems(&statuses["shop"]);
    assert_eq!(
        reported,
        [format!(
            "waits for {}/base, which has not been applied as Git says",
            fleet.namespace
        )]
    );
    let hint = format!(
        "Run `tagboat sync {}/base` first, or `tagboat sync --all`.",
        fleet.namespace
    );
    assert_eq!(
        statuses["shop"].problems[0].hint.as_deref(),
        Some(hint.as_str())
    );
    assert!(fleet.live("configmaps", "a").await.is_none());
    fleet.named(&["base"]).await;
    let statuses = fleet.named(&["shop"]).await;
    assert_eq!(
        states(&statuses),
        [("shop", ApplicationState::Synced)],
        "{statuses:#?}"
    );
    // Its dependency changes in Git.
    fleet.manifests("base", vec![config("base", "2")]);
    fleet.manifests("shop", vec![config("a", "2")]);
    assert_eq!(
        states(&fleet.named(&["shop"]).await),
        [("shop", ApplicationState::Waiting)]
    );
    let statuses = fleet.named(&["shop", "base"]).await;
    assert_eq!(
        states(&statuses),
        [
            ("base", ApplicationState::Synced),
            ("shop", ApplicationState::Synced)
        ],
        "{statuses:#?}"
    );
}
