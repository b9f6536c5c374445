//! Guards against deletion and take-over: objects of other repositories, processes and suspended
//! Applications, uncertain objects, and many at once.

use super::fleet::{Fleet, config, problems, repository, states};
use crate::servers::{
    kube::Kube,
    proxy::{Fault, Proxy},
};
use serde_json::{Value, json};
use tagboat::{
    objects::plan::Inventory,
    reconcile::{ApplicationRequest, ApplicationState, ReconcileMode},
    spec::rights::RepositoryRights,
};

/// The inventory in an Application's record.
async fn inventory(fleet: &Fleet, name: &str) -> Inventory {
    Inventory::parse(&fleet.inventory(name).await.unwrap()).unwrap()
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn repositories_of_one_process_are_separate() {
    let fleet = Fleet::start(Kube::shared(), "rivals").await;
    let other = fleet.beside(repository(
        &format!("rival-{}", fleet.namespace),
        "git.example.org",
    ));
    for name in ["c", "d", "e"] {
        fleet.application(name, ", prune: true, deletionPolicy: Delete");
        fleet.manifests(name, vec![config(name, "1")]);
    }
    fleet.applied().await;
    other.application("c", ", prune: true, deletionPolicy: Delete");
    other.manifests("c", vec![config("theirs", "1")]);
    let statuses = other.applied().await;
    assert_eq!(states(&statuses), [("c", ApplicationState::Failed)]);
    assert!(
        problems(&statuses["c"])[0].contains("has an Application of this name on this cluster"),
        "{statuses:#?}"
    );
    assert!(other.live("configmaps", "theirs").await.is_none());
    // Neither reacts to changes of the other.
    fleet.manifests("c", vec![config("c", "2")]);
    assert_eq!(
        states(&fleet.applied().await),
        [
            ("c", ApplicationState::Synced),
            ("d", ApplicationState::Synced),
            ("e", ApplicationState::Synced)
        ]
    );
    other.manifests("c", vec![config("theirs", "2")]);
    assert_eq!(
        states(&other.applied().await),
        [("c", ApplicationState::Failed)]
    );
    other.undeclare("c");
    assert_eq!(states(&other.applied().await), []);
    assert_eq!(
        fleet.live("configmaps", "c").await.unwrap()["data"]["value"],
        "2"
    );
    // The other one gets the name as soon as it is free.
    other.application("c", "");
    assert_eq!(
        states(&other.applied().await),
        [("c", ApplicationState::Failed)]
    );
    fleet.undeclare("c");
    fleet.commit();
    other
        .until("it has the name", |statuses| {
            statuses["c"].state == ApplicationState::Synced
        })
        .await;
    assert!(fleet.live("configmaps", "c").await.is_none());
    assert_eq!(
        other.live("configmaps", "theirs").await.unwrap()["data"]["value"],
        "2"
    );
    assert_eq!(
        inventory(&other, "c").await.repository,
        other.repository.name
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn deletion_of_most_of_a_repository_is_confirmed() {
    let mut fleet = Fleet::start(Kube::shared(), "most").await;
    for name in ["a", "b", "c"] {
        fleet.application(name, ", deletionPolicy: Delete");
        fleet.manifests(name, vec![config(name, "1")]);
    }
    fleet.applied().await;
    // One of three is deleted by its policy.
    fleet.undeclare("b");
    assert_eq!(
        states(&fleet.applied().await),
        [
            ("a", ApplicationState::Synced),
            ("c", ApplicationState::Synced)
        ]
    );
    fleet.gone("b").await;
    // Deleting all of them needs a confirmation, also after a restart.
    fleet.undeclare("a");
    fleet.undeclare("c");
    let revision = fleet.commit();
    for _ in 0..2 {
        fleet
            .until("both need a confirmation", |statuses| {
                statuses.len() == 2
                    && statuses.values().all(|status| {
                        status.state == ApplicationState::ConfirmationRequired && status.observed
                    })
            })
            .await;
        let reported = problems(&fleet.statuses()["a"]);
        assert!(
            reported[0].contains("none of the 2 Applications that it had"),
            "{reported:?}"
        );
        fleet.restart().await;
        fleet.follow(&revision);
    }
    fleet
        .until("both need a confirmation", |statuses| {
            statuses.len() == 2
                && statuses
                    .values()
                    .all(|status| status.state == ApplicationState::ConfirmationRequired)
        })
        .await;
    assert!(fleet.reconciler.request(
        &fleet.name("a"),
        &ApplicationRequest::ConfirmPrune(revision.clone())
    ));
    fleet
        .until("it is deleted", |statuses| !statuses.contains_key("a"))
        .await;
    // The confirmation was for one of them.
    fleet.gone("a").await;
    let revision = fleet.commit();
    fleet.settled(&revision).await;
    assert_eq!(
        states(&fleet.statuses()),
        [("c", ApplicationState::ConfirmationRequired)]
    );
    assert!(fleet.live("configmaps", "c").await.is_some());
    // Declaring it again needs no confirmation.
    fleet.application("c", "");
    assert_eq!(
        states(&fleet.applied().await),
        [("c", ApplicationState::Synced)]
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn prune_share_excludes_just_created_objects() {
    let fleet = Fleet::start(Kube::shared(), "renamed").await;
    fleet.application("shop", ", prune: true");
    let named = |prefix: &str| {
        (0..12)
            .map(|number| config(&format!("{prefix}{number:02}"), "1"))
            .collect::<Vec<_>>()
    };
    fleet.manifests("shop", named("c"));
    fleet.applied().await;
    fleet.manifests("shop", named("d"));
    let statuses = fleet.applied().await;
    assert_eq!(
        states(&statuses),
        [("shop", ApplicationState::ConfirmationRequired)]
    );
    assert!(
        problems(&statuses["shop"])[0]
            .starts_with("confirmation required: 12 objects of 12 would be deleted"),
        "{statuses:#?}"
    );
    assert!(
        fleet.live("configmaps", "c00").await.is_some()
            && fleet.live("configmaps", "d00").await.is_some()
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn apply_waits_until_record_names_the_objects() {
    let kube = Kube::shared();
    let proxy = Proxy::start(kube).await;
    let kubeconfig = kube.kubeconfig_for("admin", &proxy.url, proxy.ca.as_deref());
    let fleet = Fleet::open(
        kube,
        kube.namespace("unsaved").await,
        kubeconfig,
        ReconcileMode::Act,
    )
    .await;
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.applied().await;
    proxy.fault(
        "PUT",
        "tagboat-record.",
        1000,
        Fault::Answer {
            status: 500,
            retry_after: None,
        },
    );
    fleet.manifests("shop", vec![config("a", "1"), config("b", "1")]);
    fleet.commit();
    // Every time, not only the first.
    fleet
        .until("the record cannot be saved", |statuses| {
            statuses["shop"].state == ApplicationState::Waiting && statuses["shop"].observed
        })
        .await;
    assert!(
        fleet.live("configmaps", "b").await.is_none(),
        "it exists, and no record names it"
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn recovered_objects_are_listed_before_prune() {
    let mut fleet = Fleet::start(Kube::shared(), "lost").await;
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", vec![config("a", "1"), config("b", "1")]);
    fleet.applied().await;
    let namespace = format!("tagboat.dev/namespace={}", fleet.namespace);
    fleet.kubectl(&[
        "create",
        "configmap",
        "stranger",
        "--from-literal=value=theirs",
    ]);
    fleet.kubectl(&[
        "label",
        "configmap",
        "stranger",
        &namespace,
        "tagboat.dev/name=shop",
    ]);
    fleet.kubectl_record(
        &["patch", "configmap"],
        "shop",
        &["-p", r#"{"data":{"inventory.json":"damaged"}}"#],
    );
    fleet.restart().await;
    fleet.manifests("shop", vec![config("a", "2")]);
    let revision = fleet.commit();
    let statuses = fleet.settled(&revision).await;
    assert_eq!(
        states(&statuses),
        [("shop", ApplicationState::ConfirmationRequired)]
    );
    let reported = problems(&statuses["shop"]);
    assert!(
        reported[0].contains("/b")
            && reported[0].contains("/stranger")
            && !reported[0].contains("/a,"),
        "{reported:?}"
    );
    assert_eq!(
        fleet.live("configmaps", "a").await.unwrap()["data"]["value"],
        "2",
        "the objects of Git are applied"
    );
    // The next process still knows how they were found.
    fleet.restart().await;
    fleet.follow(&revision);
    assert_eq!(
        states(&fleet.settled(&revision).await),
        [("shop", ApplicationState::ConfirmationRequired)]
    );
    // Without the labels it is not ours.
    fleet.kubectl(&["label", "configmap", "stranger", "tagboat.dev/name-"]);
    fleet
        .until("it is no longer listed", |statuses| {
            !problems(&statuses["shop"])
                .iter()
                .any(|reported| reported.contains("/stranger"))
        })
        .await;
    assert!(fleet.reconciler.request(
        &fleet.name("shop"),
        &ApplicationRequest::ConfirmPrune(revision)
    ));
    fleet.gone("b").await;
    assert!(fleet.live("configmaps", "stranger").await.is_some());
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn manifest_cannot_replace_a_record() {
    let mut fleet = Fleet::start(Kube::shared(), "record").await;
    for name in ["shop", "web"] {
        fleet.application(name, ", prune: true");
        fleet.manifests(name, vec![config(name, "1")]);
    }
    fleet.applied().await;
    let exported = {
        let mut copy = fleet.record("web").await.unwrap();
        let metadata = copy["metadata"].as_object_mut().unwrap();
        metadata.retain(|name, _| name == "labels" || name == "annotations");
        metadata.insert("name".into(), json!("copy"));
        copy
    };
    let records = ["shop", "web"].map(|name| {
        let mut config = config(&format!("tagboat-record.{}.{name}", fleet.namespace), "1");
        config["metadata"]["namespace"] = fleet.own_namespace().into();
        config
    });
    fleet.manifests(
        "shop",
        [&[config("shop", "1"), exported][..], &records].concat(),
    );
    let statuses = fleet.applied().await;
    assert_eq!(
        states(&statuses),
        [
            ("shop", ApplicationState::Failed),
            ("web", ApplicationState::Synced)
        ]
    );
    let reported = problems(&statuses["shop"]);
    for name in [".shop", ".web", "copy"] {
        assert!(
            reported
                .iter()
                .any(|reported| reported.contains(name) && reported.contains("record")),
            "{name}: {reported:?}"
        );
    }
    assert!(fleet.live("configmaps", "copy").await.is_none());
    assert_eq!(
        (
            inventory(&fleet, "shop").await.entries.len(),
            inventory(&fleet, "web").await.entries.len()
        ),
        (1, 1)
    );
    fleet.manifests("shop", vec![config("shop", "1")]);
    assert_eq!(
        states(&fleet.applied().await),
        [
            ("shop", ApplicationState::Synced),
            ("web", ApplicationState::Synced)
        ]
    );
    // Another object has the record's name: the error says what to do, and nothing is sent.
    fleet.kubectl_record(&["delete", "configmap"], "shop", &[]);
    fleet.kubectl_record(
        &["create", "configmap"],
        "shop",
        &["--from-literal=value=1"],
    );
    fleet.restart().await;
    fleet.manifests("shop", vec![config("shop", "2")]);
    fleet.commit();
    fleet
        .until("it is reported", |statuses| {
            statuses["shop"].state == ApplicationState::Failed && statuses["shop"].observed
        })
        .await;
    let status = fleet.statuses().remove("shop").unwrap();
    assert!(
        status.problems[0]
            .message
            .contains("is not what tagboat wrote"),
        "{status:#?}"
    );
    assert!(
        status.problems[0]
            .hint
            .as_ref()
            .unwrap()
            .contains("delete configmap tagboat-record."),
        "{status:#?}"
    );
    assert_eq!(
        fleet.live("configmaps", "shop").await.unwrap()["data"]["value"],
        "1"
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn two_processes_on_one_object_do_not_fight() {
    let fleet = Fleet::start(Kube::shared(), "quarrel").await;
    let other = Fleet::open_as(
        fleet.kube,
        fleet.namespace.clone(),
        repository("quarrel", "git.example.org"),
    )
    .await;
    other.application("two", "");
    other.manifests("two", vec![config("own", "1")]);
    // The other process read the records before the first one had any object.
    other.applied().await;
    fleet.application("one", "");
    fleet.manifests("one", vec![config("shared", "1")]);
    fleet.applied().await;
    let version = |live: Option<Value>| {
        live.unwrap()["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let before = version(fleet.live("configmaps", "shared").await);
    other.manifests("two", vec![config("own", "1"), config("shared", "2")]);
    let statuses = other.applied().await;
    assert_eq!(
        states(&statuses),
        [("two", ApplicationState::Failed)],
        "{statuses:#?}"
    );
    let reported = problems(&statuses["two"]);
    assert!(
        reported[0].contains("/one, which declares it too"),
        "{reported:?}"
    );
    assert_eq!(
        version(fleet.live("configmaps", "shared").await),
        before,
        "it was not changed"
    );
    assert_eq!(
        states(&fleet.applied().await),
        [("one", ApplicationState::Synced)]
    );
    // When the first one stops declaring it, it is free.
    fleet.manifests("one", vec![]);
    fleet.applied().await;
    assert_eq!(
        states(&other.applied().await),
        [("two", ApplicationState::Synced)]
    );
    let live = other.live("configmaps", "shared").await.unwrap();
    assert_eq!(
        (
            &live["data"]["value"],
            &live["metadata"]["labels"]["tagboat.dev/name"]
        ),
        (&json!("2"), &json!("two"))
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn suspended_application_keeps_its_objects() {
    let mut fleet = Fleet::start(Kube::shared(), "rests").await;
    fleet.application("rests", "");
    fleet.manifests("rests", vec![config("shared", "1")]);
    fleet.applied().await;
    fleet.application("rests", ", suspend: true");
    fleet.applied().await;
    fleet.restart().await;
    fleet.application("takes", "");
    fleet.manifests("takes", vec![config("shared", "2")]);
    let statuses = fleet.applied().await;
    assert_eq!(
        states(&statuses),
        [
            ("rests", ApplicationState::Suspended),
            ("takes", ApplicationState::Failed)
        ]
    );
    assert!(
        problems(&statuses["takes"])[0].contains("/rests, which declares it too"),
        "{statuses:#?}"
    );
    assert_eq!(
        fleet.live("configmaps", "shared").await.unwrap()["data"]["value"],
        "1"
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn prune_waits_for_every_repository() {
    let fleet = Fleet::start(Kube::shared(), "waits").await;
    let other = fleet.beside(repository(
        &format!("late-{}", fleet.namespace),
        "git.example.org",
    ));
    let rights = RepositoryRights::default();
    fleet.reconciler.expect_repositories([
        (fleet.repository.name.as_str(), &rights),
        (other.repository.name.as_str(), &rights),
    ]);
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", vec![config("a", "1"), config("moves", "1")]);
    fleet.applied().await;
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.commit();
    let noted = |wanted: &str| {
        let wanted = wanted.to_owned();
        move |statuses: &std::collections::BTreeMap<
            String,
            tagboat::reconcile::ApplicationStatus,
        >| {
            statuses["shop"].notes.iter().any(|note| {
                note.message.contains(&wanted)
                    && note.hint.as_ref().unwrap().contains("--confirm-prune")
            })
        }
    };
    fleet
        .until(
            "it waits",
            noted(&format!(
                "when repository {} has been read",
                other.repository.name
            )),
        )
        .await;
    let uid = fleet.live("configmaps", "moves").await.unwrap()["metadata"]["uid"].clone();
    // The other one declares the objects: they are handed over, not deleted.
    other.application("gets", "");
    other.manifests("gets", vec![config("moves", "2")]);
    assert_eq!(
        states(&other.applied().await),
        [("gets", ApplicationState::Synced)]
    );
    fleet
        .until("nothing is left to delete", |statuses| {
            statuses["shop"].state == ApplicationState::Synced && statuses["shop"].observed
        })
        .await;
    let live = fleet.live("configmaps", "moves").await.unwrap();
    assert_eq!(
        (&live["metadata"]["uid"], &live["data"]["value"]),
        (&uid, &json!("2"))
    );
    // An unreadable Application does not block deletion of objects that it owned itself.
    fleet.manifests("shop", vec![config("a", "1"), config("b", "1")]);
    fleet.applied().await;
    other.manifests("gets", vec![json!(null)]);
    other.commit();
    other
        .until("it cannot be read", |statuses| {
            statuses["gets"].state == ApplicationState::Failed
        })
        .await;
    fleet.manifests("shop", vec![config("a", "1")]);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    fleet.gone("b").await;
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn record_of_another_repository_is_kept() {
    let fleet = Fleet::start(Kube::shared(), "first").await;
    let other = Fleet::open_as(
        fleet.kube,
        fleet.namespace.clone(),
        repository(&format!("second-{}", fleet.namespace), "git.example.org"),
    )
    .await;
    // It read the records before there was any.
    other.application("own", "");
    other.manifests("own", vec![config("own", "1")]);
    other.applied().await;
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.applied().await;
    other.application("shop", ", prune: true");
    other.manifests("shop", vec![config("b", "1")]);
    other.commit();
    other
        .until("it is reported", |statuses| {
            statuses["shop"].state == ApplicationState::Failed && statuses["shop"].observed
        })
        .await;
    assert!(
        problems(&other.statuses()["shop"])[0]
            .contains("has an Application of this name on this cluster")
    );
    assert_eq!(
        inventory(&fleet, "shop").await.repository,
        fleet.repository.name
    );
    assert!(
        fleet.live("configmaps", "a").await.is_some()
            && fleet.live("configmaps", "b").await.is_none()
    );
}
