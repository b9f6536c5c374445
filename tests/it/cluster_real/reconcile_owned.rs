//! Owned objects: pruned, handed over, kept, and never orphaned, wherever the process dies.

use super::fleet::{Fleet, config, problems, repository, states};
use crate::servers::kube::Kube;
use reqwest::Method;
use serde_json::json;
use tagboat::{
    objects::plan::Inventory,
    reconcile::{ApplicationRequest, ApplicationState, RepositoryId},
};

fn configs(count: usize) -> Vec<serde_json::Value> {
    (0..count)
        .map(|number| config(&format!("c{number:02}"), "1"))
        .collect()
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn prune_of_most_objects_is_confirmed() {
    let fleet = Fleet::start(Kube::shared(), "prune").await;
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", configs(13));
    fleet.applied().await;
    fleet.manifests("shop", configs(12));
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    fleet.gone("c12").await;
    // Deleting twelve at once needs a confirmation of this revision.
    fleet.manifests("shop", configs(1));
    let revision = fleet.commit();
    let statuses = fleet.settled(&revision).await;
    assert_eq!(
        states(&statuses),
        [("shop", ApplicationState::ConfirmationRequired)]
    );
    assert!(
        problems(&statuses["shop"])[0]
            .starts_with("confirmation required: 11 objects of 12 would be deleted"),
        "{:?}",
        problems(&statuses["shop"])
    );
    assert!(fleet.live("configmaps", "c11").await.is_some());
    // A confirmation of another revision does not count.
    assert!(fleet.reconciler.request(
        &fleet.name("shop"),
        &ApplicationRequest::ConfirmPrune("another".into())
    ));
    fleet
        .until("it is accepted", |statuses| {
            statuses["shop"].state == ApplicationState::ConfirmationRequired
                && statuses["shop"].observed
        })
        .await;
    assert!(fleet.live("configmaps", "c11").await.is_some());
    assert!(fleet.reconciler.request(
        &fleet.name("shop"),
        &ApplicationRequest::ConfirmPrune(revision.clone())
    ));
    fleet
        .until("the prune is complete", |statuses| {
            statuses["shop"].state == ApplicationState::Synced
        })
        .await;
    for number in 1..12 {
        fleet.gone(&format!("c{number:02}")).await;
    }
    assert!(fleet.live("configmaps", "c00").await.is_some());
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn prune_waits_for_apply_and_read() {
    let fleet = Fleet::start(Kube::shared(), "unsure").await;
    fleet.application("shop", ", prune: true");
    fleet.application("other", "");
    fleet.manifests("shop", configs(3));
    fleet.manifests("other", vec![config("other", "1")]);
    fleet.applied().await;
    // An unreadable Application may claim the objects.
    fleet.manifests("shop", configs(2));
    fleet.manifests("other", vec![json!(null)]);
    fleet.commit();
    fleet
        .until("the prune waits", |statuses| {
            statuses["shop"].notes.iter().any(|note| {
                note.message
                    .contains("has been read, which may declare some of them")
            })
        })
        .await;
    assert_eq!(fleet.statuses()["other"].state, ApplicationState::Failed);
    assert!(fleet.live("configmaps", "c02").await.is_some());
    // An object cannot be applied.
    let mut wrong = config("c01", "1");
    wrong["data"]["value"] = json!({"not": "text"});
    fleet.manifests("other", vec![config("other", "2")]);
    fleet.manifests("shop", vec![config("c00", "1"), wrong]);
    fleet.commit();
    fleet
        .until("it fails", |statuses| {
            statuses["shop"].state == ApplicationState::Failed
                && statuses["other"].state == ApplicationState::Synced
        })
        .await;
    assert!(fleet.live("configmaps", "c02").await.is_some());
    fleet.manifests("shop", configs(2));
    assert_eq!(
        states(&fleet.applied().await),
        [
            ("other", ApplicationState::Synced),
            ("shop", ApplicationState::Synced)
        ]
    );
    fleet.gone("c02").await;
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn object_moves_without_being_deleted() {
    let fleet = Fleet::start(Kube::shared(), "move").await;
    for name in ["from", "to"] {
        fleet.application(name, ", prune: true");
    }
    fleet.manifests("from", vec![config("moves", "1"), config("stays", "1")]);
    fleet.manifests("to", vec![config("own", "1")]);
    fleet.applied().await;
    let uid = fleet.live("configmaps", "moves").await.unwrap()["metadata"]["uid"].clone();
    fleet.manifests("from", vec![config("stays", "1")]);
    fleet.manifests("to", vec![config("own", "1"), config("moves", "2")]);
    let statuses = fleet.applied().await;
    assert_eq!(
        states(&statuses),
        [
            ("from", ApplicationState::Synced),
            ("to", ApplicationState::Synced)
        ],
        "{statuses:#?}"
    );
    let live = fleet.live("configmaps", "moves").await.unwrap();
    assert_eq!(
        (
            &live["metadata"]["uid"],
            &live["data"]["value"],
            &live["metadata"]["labels"]["tagboat.dev/name"]
        ),
        (&uid, &json!("2"), &json!("to"))
    );
    // Both declare it: the owner keeps it, and both are named.
    fleet.manifests("from", vec![config("stays", "1"), config("moves", "3")]);
    fleet.commit();
    fleet
        .until("the conflict is reported", |statuses| {
            statuses["from"].state == ApplicationState::Failed
        })
        .await;
    let reported = problems(&fleet.statuses()["from"]);
    assert!(
        reported[0].contains("it belongs to Application")
            && reported[0].contains("/to, which declares it too"),
        "{reported:?}"
    );
    assert_eq!(
        fleet.live("configmaps", "moves").await.unwrap()["data"]["value"],
        "2"
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn removed_application_follows_its_record() {
    let mut fleet = Fleet::start(Kube::shared(), "gone").await;
    fleet.application("orphan", "");
    fleet.application("delete", ", deletionPolicy: Delete");
    fleet.manifests("orphan", vec![config("orphan", "1")]);
    fleet.manifests("delete", vec![config("delete", "1")]);
    fleet.applied().await;
    fleet.undeclare("orphan");
    fleet.undeclare("delete");
    // A declaration that cannot be read may be one of them.
    *fleet.mistaken.lock().unwrap() = true;
    fleet.commit();
    fleet
        .until("both are reported", |statuses| {
            statuses
                .values()
                .all(|status| status.state == ApplicationState::Failed)
        })
        .await;
    assert!(fleet.live("configmaps", "delete").await.is_some());
    // A new process knows the policy from the record alone.
    *fleet.mistaken.lock().unwrap() = false;
    fleet.restart().await;
    let revision = fleet.commit();
    fleet
        .until("both need a confirmation", |statuses| {
            statuses
                .get("delete")
                .is_some_and(|status| status.state == ApplicationState::ConfirmationRequired)
        })
        .await;
    assert!(fleet.reconciler.request(
        &fleet.name("delete"),
        &ApplicationRequest::ConfirmPrune(revision)
    ));
    fleet
        .until("one is deleted, one stays", |statuses| {
            !statuses.contains_key("delete")
                && statuses
                    .get("orphan")
                    .is_some_and(|status| status.state == ApplicationState::Orphaned)
        })
        .await;
    assert!(fleet.live("configmaps", "delete").await.is_none());
    assert!(fleet.live("configmaps", "orphan").await.is_some());
    assert!(
        fleet.record("delete").await.is_none(),
        "the record goes with it"
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn kill_at_any_step_orphans_nothing() {
    let mut fleet = Fleet::start(Kube::shared(), "dies").await;
    fleet.application("shop", ", prune: true");
    for round in 0..6 {
        fleet.manifests("shop", configs(40 + round % 2));
        let mut turns = fleet.reconciler.status_changes();
        fleet.commit();
        // Ends a little later each time: before the record, between record and objects, among the
        // objects.
        for _ in 0..round {
            let _ =
                tokio::time::timeout(std::time::Duration::from_millis(30), turns.changed()).await;
        }
        fleet.restart().await;
        let listed = fleet.kubectl(&[
            "get",
            "configmaps",
            "-l",
            "tagboat.dev/name=shop",
            "-o",
            "name",
        ]);
        let record = fleet.inventory("shop").await;
        let owned = record
            .map(|text| Inventory::parse(&text).unwrap())
            .unwrap_or_default();
        for live in listed
            .lines()
            .filter_map(|line| line.strip_prefix("configmap/"))
        {
            assert!(
                owned.entries.keys().any(|key| key.name == live),
                "{live} is orphaned"
            );
        }
    }
    fleet.manifests("shop", configs(40));
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    fleet.gone("c40").await;
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn fields_left_to_others_stay_theirs() {
    let fleet = Fleet::start(Kube::shared(), "ignore").await;
    fleet.application(
        "shop",
        ", ignore: [{kind: ConfigMap, jsonPointers: [/data/theirs]}]",
    );
    let with = |ours: &str, theirs: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"ours": ours, "theirs": theirs}});
    let web = |image: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 2,
        "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image}]}}}})
    };
    fleet.manifests("shop", vec![with("1", "1"), web("example.org/web:1")]);
    fleet.applied().await;
    assert_eq!(
        fleet.live("configmaps", "a").await.unwrap()["data"]["theirs"],
        "1"
    );
    // While another manager has not written it, a new value in Git changes and deletes nothing.
    fleet.manifests("shop", vec![with("2", "2"), web("example.org/web:1")]);
    fleet.applied().await;
    let live = fleet.live("configmaps", "a").await.unwrap();
    assert_eq!(
        (&live["data"]["ours"], &live["data"]["theirs"]),
        (&json!("2"), &json!("1"))
    );
    fleet.kubectl(&[
        "patch",
        "configmap",
        "a",
        "-p",
        r#"{"data":{"theirs":"mine"}}"#,
    ]);
    // Another manager takes ownership of fields, which is no drift: nothing is sent.
    let before = fleet.stats();
    fleet.kubectl(&["scale", "deployment/web", "--replicas=5"]);
    fleet
        .live_until("apps/deployments", "web", |live| {
            live["spec"]["replicas"] == 5 && live["status"]["readyReplicas"] == 5
        })
        .await;
    assert_eq!(fleet.stats().since(&before).writes(), 0);
    fleet.manifests("shop", vec![with("3", "3"), web("example.org/web:2")]);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    let live = fleet.live("configmaps", "a").await.unwrap();
    assert_eq!(
        (&live["data"]["ours"], &live["data"]["theirs"]),
        (&json!("3"), &json!("mine"))
    );
    let live = fleet.live("apps/deployments", "web").await.unwrap();
    assert_eq!(
        (
            &live["spec"]["replicas"],
            &live["spec"]["template"]["spec"]["containers"][0]["image"]
        ),
        (&json!(5), &json!("example.org/web:2"))
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn fields_of_former_tools_are_taken_over() {
    let fleet = Fleet::start(Kube::shared(), "takeover").await;
    let file = fleet.kube.folder().join("takeover.json");
    std::fs::write(
        &file,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"value": "old", "gone": "1"}}).to_string(),
    )
    .unwrap();
    fleet.kubectl(&["apply", "-f", file.to_str().unwrap()]);
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "new")]);
    fleet.applied().await;
    let live = fleet.live("configmaps", "a").await.unwrap();
    assert_eq!(live["data"], json!({"value": "new"}));
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn application_of_two_repositories_is_refused() {
    let kube = Kube::shared();
    let fleet = Fleet::start(kube, "twice").await;
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.applied().await;
    let other = Fleet::open_as(
        kube,
        fleet.namespace.clone(),
        repository("other", "git.example.org"),
    )
    .await;
    other.application("shop", "");
    other.manifests("shop", vec![config("a", "2")]);
    let statuses = other.applied().await;
    assert_eq!(statuses["shop"].state, ApplicationState::Failed);
    assert!(
        problems(&statuses["shop"])[0].contains("has an Application of this name on this cluster"),
        "{statuses:#?}"
    );
    let (_, live) = kube
        .call(Method::GET, &fleet.path("configmaps", "a"), None)
        .await;
    assert_eq!(live["data"]["value"], "1");
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn repository_of_the_same_name_is_another_one() {
    let kube = Kube::shared();
    let fleet = Fleet::start(kube, "namesake").await;
    fleet.application("shop", ", deletionPolicy: Delete");
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.applied().await;
    let ours = repository(&fleet.namespace, "git.example.org");
    let elsewhere = repository(&fleet.namespace, "git.example.com");
    let branch = RepositoryId {
        part: "next".to_owned(),
        ..ours.clone()
    };
    // Neither the other repository nor the other branch declares it; they must not delete it.
    for other in [&elsewhere, &branch] {
        let other = Fleet::open_as(kube, fleet.namespace.clone(), other.clone()).await;
        other.application("own", ", deletionPolicy: Delete");
        other.manifests("own", vec![config("own", "1")]);
        assert_eq!(
            states(&other.applied().await),
            [("own", ApplicationState::Synced)]
        );
        other.undeclare("own");
        let revision = other.commit();
        other
            .until("the deletion needs a confirmation", |statuses| {
                statuses["own"].state == ApplicationState::ConfirmationRequired
            })
            .await;
        assert!(other.reconciler.request(
            &other.name("own"),
            &ApplicationRequest::ConfirmPrune(revision)
        ));
        other
            .until("it is deleted", |statuses| statuses.is_empty())
            .await;
        assert!(
            other.live("configmaps", "own").await.is_none(),
            "its own is deleted"
        );
    }
    assert_eq!(
        fleet.live("configmaps", "a").await.unwrap()["data"]["value"],
        "1"
    );
    // A second repository that declares it is refused. A move within one repository is accepted,
    // once the old process has ended.
    fleet.end().await;
    for (other, state, value) in [
        (elsewhere, ApplicationState::Failed, "1"),
        (branch, ApplicationState::Synced, "2"),
    ] {
        let other = Fleet::open_as(kube, fleet.namespace.clone(), other).await;
        other.application("shop", "");
        other.manifests("shop", vec![config("a", "2")]);
        let statuses = other.applied().await;
        assert_eq!(states(&statuses), [("shop", state)], "{statuses:#?}");
        assert_eq!(
            fleet.live("configmaps", "a").await.unwrap()["data"]["value"],
            value
        );
    }
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn deletion_includes_its_own_namespace() {
    let kube = Kube::shared();
    let fleet = Fleet::start(kube, "along").await;
    fleet.application("shop", ", deletionPolicy: Delete");
    let own =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": fleet.namespace}});
    fleet.manifests("shop", vec![own, config("a", "1")]);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    fleet.undeclare("shop");
    let revision = fleet.commit();
    fleet
        .until("the deletion needs a confirmation", |statuses| {
            statuses["shop"].state == ApplicationState::ConfirmationRequired
        })
        .await;
    assert!(fleet.reconciler.request(
        &fleet.name("shop"),
        &ApplicationRequest::ConfirmPrune(revision)
    ));
    fleet
        .until("it is deleted", |statuses| statuses.is_empty())
        .await;
    let (status, answer) = kube
        .call(
            Method::GET,
            &format!("/api/v1/namespaces/{}", fleet.namespace),
            None,
        )
        .await;
    assert_eq!(status, 404, "{answer:#}");
}
