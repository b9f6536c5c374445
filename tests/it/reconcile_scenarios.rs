//! Scenarios of the reconcile pass, for the sandbox's API server and for the real one.
//!
//! Each takes a fleet with an empty namespace, and waits for conditions with a bound.

use super::support::fleet::{Backend, Fleet, config, problems, repository, states};
use reqwest::Method;
use serde_json::{Value, json};
use tagboat::reconcile::{ApplicationRequest, ApplicationState, Reason};

/// Calls a macro with the names of all scenarios.
macro_rules! for_each_scenario {
    ($run:ident) => {
        $run!(reconcile_scenarios:
            apply_once_then_no_requests,
            apply_failure_stops_no_other_object,
            drift_is_repaired_and_backs_off,
            drift_reported_is_not_repaired,
            health_is_awaited_and_degrades,
            crd_and_its_objects_in_one_pass,
            dependent_waits_for_its_dependency,
            dependency_cycle_is_reported,
            render_failure_keeps_objects,
            prune_deletes_after_all_is_applied,
            prune_of_most_objects_is_confirmed,
            handover_keeps_the_object,
            suspended_application_writes_nothing,
            removed_application_orphan_keeps_objects,
            removed_application_is_deleted,
            restart_writes_nothing,
            lost_record_is_rebuilt,
            name_of_another_repository_is_refused,
        );
    };
}
pub(crate) use for_each_scenario;

fn deployment(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image}]}}},
    })
}

fn line(status: &tagboat::reconcile::ApplicationStatus) -> (ApplicationState, Reason) {
    (status.state, status.reason)
}

/// Writes a ConfigMap's value as another field manager.
async fn overwrite<K: Backend>(fleet: &Fleet<K>, name: &str, value: &str) {
    let path = format!(
        "{}?fieldManager=intruder&force=true",
        fleet.path("configmaps", name)
    );
    let mut body = config(name, value);
    body["metadata"]["namespace"] = json!(fleet.namespace);
    let (status, answer) = fleet.kube.call(Method::PATCH, &path, Some(&body)).await;
    assert!(status.is_success(), "{answer}");
}

async fn delete<K: Backend>(fleet: &Fleet<K>, name: &str) {
    let path = fleet.path("configmaps", name);
    let (status, answer) = fleet.kube.call(Method::DELETE, &path, None).await;
    assert!(status.is_success(), "{answer}");
}

async fn value<K: Backend>(fleet: &Fleet<K>, name: &str) -> Option<String> {
    let live = fleet.live("configmaps", name).await?;
    Some(live["data"]["value"].as_str()?.to_owned())
}

pub(super) async fn apply_once_then_no_requests<K: Backend>(fleet: Fleet<K>) {
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "1"), config("b", "1")]);
    let statuses = fleet.applied().await;
    assert_eq!(
        line(&statuses["shop"]),
        (ApplicationState::Synced, Reason::Synced),
        "{statuses:#?}"
    );
    assert_eq!(value(&fleet, "a").await.as_deref(), Some("1"));
    let rollout = statuses["shop"].rollout.as_ref().unwrap();
    assert_eq!(rollout.result.to_string(), "applied");
    let before = fleet.stats();
    fleet.applied().await;
    assert_eq!(fleet.stats(), before, "an equal revision sends nothing");
    fleet.manifests("shop", vec![config("a", "2"), config("b", "1")]);
    let before = fleet.stats();
    fleet.applied().await;
    let since = fleet.stats().since(&before);
    // The object and the record.
    assert_eq!((since.of("apply"), since.writes()), (1, 2), "{since:?}");
}

pub(super) async fn apply_failure_stops_no_other_object<K: Backend>(fleet: Fleet<K>) {
    fleet.application("shop", "");
    let elsewhere = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "namespace": "is-not-there"}});
    let unknown = json!({"apiVersion": "acme.io/v1", "kind": "Thing", "metadata": {"name": "t"}});
    fleet.manifests("shop", vec![elsewhere, config("a", "1"), unknown.clone()]);
    fleet.commit();
    fleet
        .until("the failure is reported", |statuses| {
            line(&statuses["shop"]) == (ApplicationState::Failed, Reason::SyncFailed)
        })
        .await;
    assert_eq!(value(&fleet, "a").await.as_deref(), Some("1"));
    let found = problems(&fleet.statuses()["shop"]).join("\n");
    assert!(found.contains("is-not-there"), "{found}");
    assert!(found.contains("does not serve acme.io/v1/Thing"), "{found}");
    fleet.manifests("shop", vec![config("a", "1"), unknown]);
    fleet.commit();
    fleet
        .until("only the kind is missing", |statuses| {
            line(&statuses["shop"]) == (ApplicationState::Waiting, Reason::KindNotServed)
        })
        .await;
    fleet.manifests("shop", vec![config("a", "1")]);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
}

pub(super) async fn drift_is_repaired_and_backs_off<K: Backend>(fleet: Fleet<K>) {
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "1"), config("b", "1")]);
    fleet.applied().await;
    overwrite(&fleet, "a", "2").await;
    fleet
        .live_until("configmaps", "a", |live| live["data"]["value"] == "1")
        .await;
    let uid = fleet.live("configmaps", "b").await.unwrap()["metadata"]["uid"].clone();
    delete(&fleet, "b").await;
    fleet
        .live_until("configmaps", "b", |live| {
            live["metadata"]["uid"].is_string() && live["metadata"]["uid"] != uid
        })
        .await;
    overwrite(&fleet, "a", "3").await;
    fleet
        .until("the repair backs off", |statuses| {
            line(&statuses["shop"]) == (ApplicationState::Drifted, Reason::DriftRepairDelayed)
        })
        .await;
    let drifted = fleet.statuses()["shop"].drifted[0].to_string();
    assert!(
        drifted.contains("/data/value was changed by intruder; changed repeatedly"),
        "{drifted}"
    );
    // A sync does not wait for the back-off.
    let name = fleet.name("shop");
    assert!(fleet.reconciler.request(&name, &ApplicationRequest::Now));
    fleet
        .live_until("configmaps", "a", |live| live["data"]["value"] == "1")
        .await;
}

pub(super) async fn drift_reported_is_not_repaired<K: Backend>(fleet: Fleet<K>) {
    fleet.application("shop", ", drift: report");
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.applied().await;
    let before = fleet.stats();
    overwrite(&fleet, "a", "2").await;
    fleet
        .until("the drift is reported", |statuses| {
            line(&statuses["shop"]) == (ApplicationState::Drifted, Reason::DriftReported)
        })
        .await;
    assert_eq!(fleet.stats().since(&before).writes(), 0);
    fleet.manifests("shop", vec![config("a", "3")]);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    assert_eq!(value(&fleet, "a").await.as_deref(), Some("3"));
}

pub(super) async fn health_is_awaited_and_degrades<K: Backend>(fleet: Fleet<K>) {
    fleet.application("shop", ", wait: true, timeout: 3s");
    fleet.manifests("shop", vec![deployment("example.org/web:missing")]);
    let statuses = fleet.applied().await;
    let status = &statuses["shop"];
    assert_eq!(
        line(status),
        (ApplicationState::Degraded, Reason::HealthDegraded),
        "{status:#?}"
    );
    assert!(
        status.unhealthy[0].message.contains("ImagePullBackOff"),
        "{status:#?}"
    );
    let rollout = status.rollout.as_ref().unwrap();
    assert_eq!(rollout.result.to_string(), "degraded");
    fleet.application("shop", ", wait: true");
    fleet.manifests("shop", vec![deployment("example.org/web:1")]);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
}

pub(super) async fn crd_and_its_objects_in_one_pass<K: Backend>(fleet: Fleet<K>) {
    let group = format!("{}.example.org", fleet.namespace);
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("boats.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "boats", "singular": "boat", "kind": "Boat"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]},
    });
    let boat = json!({"apiVersion": format!("{group}/v1"), "kind": "Boat", "metadata": {"name": "one"}, "spec": {"size": 1}});
    fleet.application("shop", "");
    fleet.manifests("shop", vec![boat, crd]);
    fleet.commit();
    fleet
        .until("the kind and its object are there", |statuses| {
            statuses["shop"].state == ApplicationState::Synced
        })
        .await;
    let path = format!("/apis/{group}/v1/namespaces/{}/boats/one", fleet.namespace);
    assert_eq!(fleet.kube.call(Method::GET, &path, None).await.0, 200);
}

pub(super) async fn dependent_waits_for_its_dependency<K: Backend>(fleet: Fleet<K>) {
    fleet.application("base", "");
    fleet.manifests("base", vec![json!("no network yet")]);
    let depends = format!(", dependsOn: [{}/base]", fleet.namespace);
    fleet.application("late", &depends);
    fleet.manifests("late", vec![config("late", "1")]);
    fleet.commit();
    fleet
        .until("the dependent waits", |statuses| {
            line(&statuses["late"]) == (ApplicationState::Waiting, Reason::DependencyNotReady)
                && line(&statuses["base"]) == (ApplicationState::Failed, Reason::RenderFailed)
        })
        .await;
    assert!(fleet.live("configmaps", "late").await.is_none());
    fleet.manifests("base", vec![config("base", "1")]);
    assert_eq!(
        states(&fleet.applied().await),
        [
            ("base", ApplicationState::Synced),
            ("late", ApplicationState::Synced)
        ]
    );
}

pub(super) async fn dependency_cycle_is_reported<K: Backend>(fleet: Fleet<K>) {
    for (name, dependency) in [("one", "two"), ("two", "one")] {
        let depends = format!(", dependsOn: [{}/{dependency}]", fleet.namespace);
        fleet.application(name, &depends);
        fleet.manifests(name, vec![config(name, "1")]);
    }
    let statuses = fleet.applied().await;
    for name in ["one", "two"] {
        assert_eq!(
            line(&statuses[name]),
            (ApplicationState::Failed, Reason::DependencyCycle)
        );
    }
    assert!(fleet.live("configmaps", "one").await.is_none());
}

pub(super) async fn render_failure_keeps_objects<K: Backend>(fleet: Fleet<K>) {
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", vec![config("a", "1"), config("b", "1")]);
    fleet.applied().await;
    fleet.manifests("shop", vec![Value::Null]);
    let statuses = fleet.applied().await;
    assert_eq!(
        line(&statuses["shop"]),
        (ApplicationState::Failed, Reason::RenderFailed)
    );
    assert!(
        problems(&statuses["shop"])[0].contains("not YAML"),
        "{statuses:#?}"
    );
    // The last readable revision stays in force.
    overwrite(&fleet, "a", "2").await;
    fleet
        .live_until("configmaps", "a", |live| live["data"]["value"] == "1")
        .await;
    fleet.manifests("shop", vec![config("a", "1")]);
    assert_eq!(
        states(&fleet.applied().await),
        [("shop", ApplicationState::Synced)]
    );
    fleet.gone("b").await;
}

pub(super) async fn prune_deletes_after_all_is_applied<K: Backend>(fleet: Fleet<K>) {
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", vec![config("a", "1"), config("old", "1")]);
    fleet.applied().await;
    // Another object cannot be applied: the old one stays.
    let elsewhere = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "namespace": "is-not-there"}});
    fleet.manifests("shop", vec![config("a", "1"), elsewhere]);
    fleet.commit();
    fleet
        .until("the failure is reported", |statuses| {
            statuses["shop"].state == ApplicationState::Failed
        })
        .await;
    assert!(fleet.live("configmaps", "old").await.is_some());
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.applied().await;
    fleet.gone("old").await;
    // Without `prune`, objects stay.
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("c", "1")]);
    let statuses = fleet.applied().await;
    assert_eq!(statuses["shop"].state, ApplicationState::Synced);
    assert!(fleet.live("configmaps", "a").await.is_some());
}

pub(super) async fn prune_of_most_objects_is_confirmed<K: Backend>(fleet: Fleet<K>) {
    fleet.application("shop", ", prune: true");
    let all = (0..12).map(|number| config(&format!("n{number:02}"), "1"));
    fleet.manifests("shop", all.collect());
    fleet.applied().await;
    fleet.manifests("shop", vec![config("n00", "1")]);
    let revision = fleet.commit();
    let statuses = fleet.settled(&revision).await;
    assert_eq!(
        line(&statuses["shop"]),
        (ApplicationState::ConfirmationRequired, Reason::PruneBlocked)
    );
    assert_eq!(
        problems(&statuses["shop"]),
        ["confirmation required: 11 objects of 12 would be deleted"]
    );
    assert!(fleet.live("configmaps", "n11").await.is_some());
    let confirm = ApplicationRequest::ConfirmPrune(revision);
    assert!(fleet.reconciler.request(&fleet.name("shop"), &confirm));
    fleet.gone("n11").await;
    fleet
        .until("it is synced", |statuses| {
            line(&statuses["shop"]) == (ApplicationState::Synced, Reason::Synced)
        })
        .await;
}

pub(super) async fn handover_keeps_the_object<K: Backend>(fleet: Fleet<K>) {
    for name in ["from", "to"] {
        fleet.application(name, ", prune: true");
        fleet.manifests(name, vec![config(name, "1")]);
    }
    fleet.manifests("from", vec![config("from", "1"), config("moved", "1")]);
    fleet.applied().await;
    let uid = fleet.live("configmaps", "moved").await.unwrap()["metadata"]["uid"].clone();
    fleet.manifests("from", vec![config("from", "1")]);
    fleet.manifests("to", vec![config("to", "1"), config("moved", "1")]);
    fleet.applied().await;
    let live = fleet
        .live_until("configmaps", "moved", |live| {
            live["metadata"]["labels"]["tagboat.dev/name"] == "to"
        })
        .await;
    assert_eq!(live["metadata"]["uid"], uid, "moved, not re-created");
    // Both declare it: the owner keeps it, and the other one reports a conflict.
    fleet.manifests("from", vec![config("from", "1"), config("moved", "1")]);
    fleet.commit();
    fleet
        .until("the conflict is reported", |statuses| {
            statuses["from"].state == ApplicationState::Failed
        })
        .await;
    let found = problems(&fleet.statuses()["from"]).join("\n");
    assert!(found.contains("which declares it too"), "{found}");
}

pub(super) async fn suspended_application_writes_nothing<K: Backend>(fleet: Fleet<K>) {
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.applied().await;
    fleet.application("shop", ", suspend: true");
    fleet.manifests("shop", vec![config("a", "2")]);
    let statuses = fleet.applied().await;
    assert_eq!(
        line(&statuses["shop"]),
        (ApplicationState::Suspended, Reason::Suspended)
    );
    assert_eq!(value(&fleet, "a").await.as_deref(), Some("1"));
    fleet.application("shop", "");
    fleet.applied().await;
    assert_eq!(value(&fleet, "a").await.as_deref(), Some("2"));
}

pub(super) async fn removed_application_orphan_keeps_objects<K: Backend>(fleet: Fleet<K>) {
    for name in ["stays", "goes", "third"] {
        fleet.application(name, ", deletionPolicy: Orphan");
        fleet.manifests(name, vec![config(name, "1")]);
    }
    fleet.applied().await;
    fleet.undeclare("goes");
    let statuses = fleet.applied().await;
    assert_eq!(
        line(&statuses["goes"]),
        (ApplicationState::Orphaned, Reason::Orphaned)
    );
    assert!(fleet.live("configmaps", "goes").await.is_some());
}

pub(super) async fn removed_application_is_deleted<K: Backend>(fleet: Fleet<K>) {
    for name in ["stays", "goes", "third"] {
        fleet.application(name, ", deletionPolicy: Delete");
        fleet.manifests(name, vec![config(name, "1")]);
    }
    fleet.applied().await;
    fleet.undeclare("goes");
    fleet.commit();
    fleet.gone("goes").await;
    fleet
        .until("its status is gone", |statuses| {
            !statuses.contains_key("goes")
        })
        .await;
    assert!(fleet.record("goes").await.is_none());
    // Most of a repository at once needs a confirmation.
    fleet.undeclare("stays");
    fleet.undeclare("third");
    let revision = fleet.commit();
    fleet
        .until("both wait for a confirmation", |statuses| {
            ["stays", "third"].iter().all(|name| {
                line(&statuses[*name])
                    == (ApplicationState::ConfirmationRequired, Reason::PruneBlocked)
            })
        })
        .await;
    let confirm = ApplicationRequest::ConfirmPrune(revision);
    assert!(fleet.reconciler.request(&fleet.name("third"), &confirm));
    fleet.gone("third").await;
    assert!(fleet.live("configmaps", "stays").await.is_some());
}

pub(super) async fn restart_writes_nothing<K: Backend>(mut fleet: Fleet<K>) {
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", vec![config("a", "1"), config("b", "1")]);
    fleet.applied().await;
    fleet.restart().await;
    let statuses = fleet.applied().await;
    assert_eq!(states(&statuses), [("shop", ApplicationState::Synced)]);
    assert_eq!(fleet.stats().writes(), 0, "{:?}", fleet.stats());
    // An object that was removed from Git while no process ran is deleted by the next one.
    fleet.end().await;
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.restart().await;
    fleet.applied().await;
    fleet.gone("b").await;
}

pub(super) async fn lost_record_is_rebuilt<K: Backend>(mut fleet: Fleet<K>) {
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", vec![config("a", "1"), config("b", "1")]);
    fleet.applied().await;
    fleet.end().await;
    let (status, _) = fleet
        .kube
        .call(Method::DELETE, &fleet.record_path("shop"), None)
        .await;
    assert_eq!(status.as_u16(), 200);
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.restart().await;
    let revision = fleet.commit();
    let statuses = fleet.settled(&revision).await;
    assert_eq!(
        line(&statuses["shop"]),
        (ApplicationState::ConfirmationRequired, Reason::PruneBlocked)
    );
    let found = problems(&statuses["shop"]).join("\n");
    assert!(
        found.contains("/b would be deleted, known by labels alone"),
        "{found}"
    );
    let confirm = ApplicationRequest::ConfirmPrune(revision);
    assert!(fleet.reconciler.request(&fleet.name("shop"), &confirm));
    fleet.gone("b").await;
}

pub(super) async fn name_of_another_repository_is_refused<K: Backend>(fleet: Fleet<K>) {
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.applied().await;
    let other = fleet.beside(repository("other", "git.example.com"));
    other.application("shop", ", prune: true");
    other.manifests("shop", vec![config("theirs", "1")]);
    let statuses = other.applied().await;
    assert_eq!(
        line(&statuses["shop"]),
        (ApplicationState::Failed, Reason::NameConflict)
    );
    assert!(fleet.live("configmaps", "theirs").await.is_none());
    assert_eq!(value(&fleet, "a").await.as_deref(), Some("1"));
}
