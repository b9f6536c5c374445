//! The reconcile pass with a failing network, proxy or cluster.

use super::fleet::{Fleet, config, problems, states};
use crate::servers::{
    kube::Kube,
    proxy::{Fault, Proxy},
};
use serde_json::json;
use std::time::Duration;
use tagboat::reconcile::{ApplicationState, ReconcileMode};

/// A fleet whose requests go through a proxy.
pub(super) async fn behind(prefix: &str) -> (Fleet, Proxy) {
    let kube = Kube::shared();
    let proxy = Proxy::start(kube).await;
    let kubeconfig = kube.kubeconfig_for("admin", &proxy.url, proxy.ca.as_deref());
    let namespace = kube.namespace(prefix).await;
    (
        Fleet::open(kube, namespace, kubeconfig, ReconcileMode::Act).await,
        proxy,
    )
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn faults_pass_and_everything_is_applied() {
    let (fleet, proxy) = behind("faults").await;
    fleet.application("shop", "");
    fleet.manifests(
        "shop",
        (0..20)
            .map(|number| config(&format!("c{number}"), "1"))
            .collect(),
    );
    for (method, fault) in [
        (
            "PATCH",
            Fault::Answer {
                status: 500,
                retry_after: None,
            },
        ),
        (
            "PATCH",
            Fault::Answer {
                status: 429,
                retry_after: Some(1),
            },
        ),
        ("PATCH", Fault::Cut),
        ("PATCH", Fault::CutAnswer),
        (
            "PATCH",
            Fault::Answer {
                status: 409,
                retry_after: None,
            },
        ),
        ("POST", Fault::CutAnswer),
    ] {
        proxy.fault(method, "configmaps", 2, fault);
    }
    fleet.commit();
    fleet
        .until("all is applied", |statuses| {
            statuses["shop"].state == ApplicationState::Synced
        })
        .await;
    for number in 0..20 {
        assert!(
            fleet
                .live("configmaps", &format!("c{number}"))
                .await
                .is_some()
        );
    }
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn cluster_outage_is_reported_and_passes() {
    let (fleet, proxy) = behind("vanish").await;
    fleet.application("shop", "");
    fleet.manifests(
        "shop",
        (0..60)
            .map(|number| config(&format!("c{number}"), "1"))
            .collect(),
    );
    proxy.fault("PATCH", "c59", 1, Fault::Hang);
    let mut turns = fleet.reconciler.status_changes();
    fleet.commit();
    // Some objects exist, then nothing answers any more.
    turns.mark_unchanged();
    fleet
        .until("it is applying", |statuses| {
            statuses["shop"].state == ApplicationState::Applying
        })
        .await;
    proxy.vanish();
    fleet
        .until("the outage is reported", |statuses| {
            problems(&statuses["shop"])
                .iter()
                .any(|row| row.contains("cannot reach"))
        })
        .await;
    proxy.heal();
    fleet
        .until("it continues", |statuses| {
            statuses["shop"].state == ApplicationState::Synced
        })
        .await;
    assert!(fleet.live("configmaps", "c59").await.is_some());
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn drift_during_watch_outage_is_repaired() {
    let (fleet, proxy) = behind("cut").await;
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "1"), config("b", "1")]);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    // During an outage of the watches, a user changes one object and deletes the other.
    proxy.vanish();
    fleet.kubectl(&["patch", "configmap", "a", "-p", r#"{"data":{"value":"2"}}"#]);
    fleet.kubectl(&["delete", "configmap", "b"]);
    proxy.heal();
    fleet
        .live_until("configmaps", "a", |live| live["data"]["value"] == "1")
        .await;
    fleet
        .live_until("configmaps", "b", |live| live["data"]["value"] == "1")
        .await;
    // The resource version is too old: everything is listed again, and nothing is written.
    fleet
        .until("everything is synced", |statuses| {
            statuses["shop"].state == ApplicationState::Synced
        })
        .await;
    let before = fleet.stats();
    proxy.expire_watches();
    proxy.cut_watches();
    fleet.kubectl(&[
        "patch",
        "configmap",
        "a",
        "--field-manager=controller",
        "-p",
        r#"{"data":{"other":"theirs"}}"#,
    ]);
    fleet.kubectl(&["delete", "configmap", "b"]);
    fleet
        .live_until("configmaps", "b", |live| {
            live["metadata"]["uid"].is_string()
        })
        .await;
    assert_eq!(fleet.stats().since(&before).of("apply"), 1);
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn commit_during_outage_is_not_lost() {
    let (fleet, proxy) = behind("away").await;
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "1")]);
    // The outage begins before any state is known, so that the change cannot even be accepted.
    proxy.vanish();
    fleet.commit();
    fleet
        .until("the outage is reported", |statuses| {
            problems(&statuses["shop"])
                .iter()
                .any(|row| row.contains("cannot reach"))
        })
        .await;
    // A revision without a change here must not replace the change before it.
    let revision = fleet.commit();
    fleet
        .until("it has retried", |statuses| statuses["shop"].observed)
        .await;
    proxy.heal();
    fleet
        .until("it is synced", |statuses| {
            statuses["shop"].revision.as_ref() == Some(&revision)
        })
        .await;
    assert_eq!(
        states(&fleet.settled(&revision).await),
        [("shop", ApplicationState::Synced)]
    );
    assert_eq!(
        fleet.live("configmaps", "a").await.unwrap()["data"]["value"],
        "1"
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn late_apply_of_dead_process_is_no_orphan() {
    let (mut fleet, proxy) = behind("orphan").await;
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", vec![config("a", "1"), config("late", "1")]);
    proxy.fault(
        "PATCH",
        "/configmaps/late",
        1,
        Fault::Late(Duration::from_secs(5)),
    );
    proxy.fault("PATCH", "/configmaps/late", usize::MAX, Fault::Cut);
    fleet.commit();
    fleet
        .until("the apply is lost", |statuses| {
            problems(&statuses["shop"])
                .iter()
                .any(|row| row.contains("late"))
        })
        .await;
    fleet.restart().await;
    // The next process sees no such object, and Git has it no longer.
    fleet.manifests("shop", vec![config("a", "1")]);
    let before = fleet.stats();
    let statuses = fleet.applied().await;
    assert_eq!(states(&statuses), [("shop", ApplicationState::Synced)]);
    assert!(
        fleet.live("configmaps", "late").await.is_none(),
        "the machine is too slow: the late apply came first"
    );
    assert!(
        statuses["shop"]
            .notes
            .iter()
            .any(|note| note.message.contains("may still arrive")),
        "{statuses:#?}"
    );
    super::support::until("the late object was deleted", async || {
        fleet.stats().since(&before).of("delete") == 1
    })
    .await;
    fleet.gone("late").await;
    super::support::until("nothing is left", async || {
        !fleet.inventory("shop").await.unwrap().contains("late")
    })
    .await;
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn refusal_masks_quoted_secret_values() {
    let kube = Kube::shared();
    let fleet = Fleet::start(kube, "quoted").await;
    fleet.application("shop", "");
    let secret = |value: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "labels": {"forbidden": "yes"}}, "stringData": {"password": value}});
    fleet.manifests("shop", vec![secret("geheimwort-0")]);
    fleet.applied().await;
    super::preview::policies(kube, &fleet.namespace).await;
    // Until the server enforces its policy.
    for number in 1.. {
        fleet.manifests("shop", vec![secret(&format!("geheimwort-{number}"))]);
        if fleet.applied().await["shop"].state == ApplicationState::Failed {
            break;
        }
        assert!(number < 500, "the policy refuses nothing");
    }
    let statuses = fleet.statuses();
    let reported = problems(&statuses["shop"]).join("\n");
    assert!(
        reported.contains("not with") && reported.contains("it was"),
        "{reported}"
    );
    let record = fleet.kubectl_record(&["get", "configmap"], "shop", &["-o", "yaml"]);
    for text in [reported, record] {
        assert!(
            !text.contains("geheimwo") && !text.contains("Z2VoZWltd2"),
            "{text}"
        );
    }
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn unwatched_object_is_not_reported_synced() {
    let (fleet, proxy) = behind("blind").await;
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "1")]);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    proxy.vanish();
    fleet
        .until("the outage is reported", |statuses| {
            statuses["shop"].state == ApplicationState::Waiting
        })
        .await;
    let reported = problems(&fleet.statuses()["shop"]);
    assert!(
        reported.len() == 1 && reported[0].starts_with("ConfigMap cannot be watched: cannot reach"),
        "{reported:?}"
    );
    // Meanwhile a user changes the object.
    fleet.kubectl(&[
        "patch",
        "configmap",
        "a",
        "-p",
        r#"{"data":{"value":"by hand"}}"#,
    ]);
    proxy.heal();
    fleet
        .live_until("configmaps", "a", |live| live["data"]["value"] == "1")
        .await;
    fleet
        .until("it is synced again", |statuses| {
            statuses["shop"].state == ApplicationState::Synced
                && statuses["shop"].problems.is_empty()
        })
        .await;
}
