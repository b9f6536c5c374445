//! Scenarios about what a pass reports in the end: confirmed deletions, the history, orphans, and
//! custom resources beside their definition.

use super::support::fleet::{Backend, Fleet, config, problems, repository};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};
use tagboat::{
    objects::plan::RolloutOutcome,
    reconcile::{ApplicationRequest, ApplicationState, ApplicationStatus, Reason},
};

/// Calls a macro with the names of all scenarios of this file.
macro_rules! for_each_result_scenario {
    ($run:ident) => {
        $run!(reconcile_results:
            prune_confirmed_is_awaited,
            prune_confirmed_early_is_asked_again,
            prune_is_awaited_until_objects_are_gone,
            history_keeps_applied_after_later_failure,
            orphan_ends_when_its_objects_are_taken,
            orphan_ends_after_a_restart,
            crd_beside_its_objects_fails_nothing,
            ignore_rule_is_tried_at_once,
            health_rule_decides_for_its_kind,
        );
    };
}
pub(crate) use for_each_result_scenario;

pub(super) async fn prune_confirmed_is_awaited<K: Backend>(fleet: Fleet<K>) {
    fleet.application("shop", ", prune: true");
    let all = (0..12).map(|number| config(&format!("n{number:02}"), "1"));
    fleet.manifests("shop", all.collect());
    fleet.applied().await;
    fleet.manifests("shop", vec![config("n00", "1")]);
    let revision = fleet.commit();
    let statuses = fleet.settled(&revision).await;
    assert_eq!(statuses["shop"].reason, Reason::PruneBlocked);
    let confirm = ApplicationRequest::ConfirmPrune(revision.clone());
    assert!(fleet.reconciler.request(&fleet.name("shop"), &confirm));
    let statuses = fleet.settled(&revision).await;
    assert_eq!(
        statuses["shop"].state,
        ApplicationState::Synced,
        "the status from before the confirmation is no answer"
    );
    assert!(fleet.live("configmaps", "n11").await.is_none());
    // A request is answered by a pass of its own in every state.
    fleet.application("shop", ", suspend: true");
    let revision = fleet.commit();
    fleet.settled(&revision).await;
    assert!(
        fleet
            .reconciler
            .request(&fleet.name("shop"), &ApplicationRequest::Now)
    );
    let statuses = fleet.settled(&revision).await;
    assert_eq!(statuses["shop"].state, ApplicationState::Suspended);
}

pub(super) async fn prune_confirmed_early_is_asked_again<K: Backend>(fleet: Fleet<K>) {
    let all = || (0..12).map(|number| config(&format!("n{number:02}"), "1"));
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", all().collect());
    fleet.applied().await;
    // Another repository declares the objects, and waits before it takes them over.
    let other = fleet.beside(repository("other", "git.example.com"));
    let depends = format!(", dependsOn: [{}/none]", fleet.namespace);
    other.application("heir", &depends);
    other.manifests("heir", all().collect());
    other.commit();
    other
        .until("the heir waits", |statuses| {
            statuses.get("heir").map(|heir| heir.reason) == Some(Reason::DependencyNotReady)
        })
        .await;
    // Nothing is due, and an object cannot be applied yet.
    let namespace = format!("{}-late", fleet.namespace);
    let mut late = config("late", "1");
    late["metadata"]["namespace"] = json!(namespace);
    fleet.manifests("shop", vec![config("kept", "1"), late]);
    let revision = fleet.commit();
    let failed = |statuses: &BTreeMap<String, ApplicationStatus>| {
        let status = &statuses["shop"];
        status.revision.as_ref() == Some(&revision)
            && status.state == ApplicationState::Failed
            && status.observed
    };
    fleet.until("an object fails", failed).await;
    let confirm = ApplicationRequest::ConfirmPrune(revision.clone());
    assert!(fleet.reconciler.request(&fleet.name("shop"), &confirm));
    fleet.until("the request is answered", failed).await;
    // The heir lets go: now 12 deletions are due, which nobody has seen.
    other.manifests("heir", Vec::new());
    other.commit();
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let (status, answer) = fleet
        .kube
        .call(Method::POST, "/api/v1/namespaces", Some(&body))
        .await;
    assert!(status.is_success(), "{answer}");
    let shop = fleet.name("shop");
    assert!(fleet.reconciler.request(&shop, &ApplicationRequest::Now));
    fleet
        .until("the deletions need a confirmation", |statuses| {
            statuses["shop"].reason == Reason::PruneBlocked
        })
        .await;
    assert_eq!(
        problems(&fleet.statuses()["shop"]),
        ["confirmation required: 12 objects of 12 would be deleted"]
    );
    assert!(fleet.live("configmaps", "n11").await.is_some());
}

pub(super) async fn prune_is_awaited_until_objects_are_gone<K: Backend>(fleet: Fleet<K>) {
    let mut held = config("held", "1");
    held["metadata"]["finalizers"] = json!(["acme.io/hold"]);
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", vec![config("a", "1"), config("b", "1"), held]);
    fleet.applied().await;
    fleet.manifests("shop", vec![config("a", "1")]);
    let revision = fleet.commit();
    fleet
        .until("only the held object is left", |statuses| {
            let status = &statuses["shop"];
            let notes = status.notes.iter().map(ToString::to_string);
            status.revision.as_ref() == Some(&revision)
                && status.reason == Reason::PrunePending
                && notes
                    .collect::<Vec<_>>()
                    .join(" ")
                    .contains("/held: it is being deleted")
        })
        .await;
    assert!(!fleet.statuses()["shop"].observed);
    let mut freed = fleet.live("configmaps", "held").await.unwrap();
    freed["metadata"]["finalizers"] = json!([]);
    let path = fleet.path("configmaps", "held");
    let (status, answer) = fleet.kube.call(Method::PUT, &path, Some(&freed)).await;
    assert!(status.is_success(), "{answer}");
    let statuses = fleet.settled(&revision).await;
    assert_eq!(statuses["shop"].state, ApplicationState::Synced);
    assert!(fleet.live("configmaps", "held").await.is_none());
}

pub(super) async fn history_keeps_applied_after_later_failure<K: Backend>(mut fleet: Fleet<K>) {
    let other = format!("{}-other", fleet.namespace);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}});
    let (status, answer) = fleet
        .kube
        .call(Method::POST, "/api/v1/namespaces", Some(&namespace))
        .await;
    assert!(status.is_success(), "{answer}");
    let mut elsewhere = config("b", "1");
    elsewhere["metadata"]["namespace"] = json!(other);
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "1"), elsewhere]);
    let statuses = fleet.applied().await;
    let applied = statuses["shop"].rollout.clone().unwrap();
    assert_eq!(applied.result, RolloutOutcome::Applied);
    // Somebody deletes the namespace: the object cannot be created again.
    for path in [
        format!("/api/v1/namespaces/{other}"),
        format!("/api/v1/namespaces/{other}/configmaps/b"),
    ] {
        fleet.kube.call(Method::DELETE, &path, None).await;
    }
    let failed = |statuses: &BTreeMap<String, ApplicationStatus>| {
        statuses["shop"].state == ApplicationState::Failed
    };
    fleet.until("the repair fails", failed).await;
    assert_eq!(fleet.statuses()["shop"].rollout, Some(applied.clone()));
    fleet.restart().await;
    fleet.commit();
    fleet.until("it fails after a restart", failed).await;
    assert_eq!(fleet.statuses()["shop"].rollout, Some(applied));
    // A revision that changes something has an outcome of its own.
    fleet.manifests(
        "shop",
        vec![config("a", "2"), {
            let mut elsewhere = config("b", "2");
            elsewhere["metadata"]["namespace"] = json!(other);
            elsewhere
        }],
    );
    let revision = fleet.commit();
    fleet
        .until("the new revision fails", |statuses| {
            let rollout = statuses["shop"].rollout.as_ref();
            rollout.is_some_and(|rollout| {
                rollout.revision == revision && rollout.result == RolloutOutcome::Failed
            })
        })
        .await;
}

/// Renames an Application that keeps its objects.
fn rename<K: Backend>(fleet: &Fleet<K>, from: &str, to: &str) -> String {
    fleet.undeclare(from);
    fleet.application(to, ", deletionPolicy: Orphan");
    fleet.manifests(to, vec![config("a", "1"), config("b", "1")]);
    fleet.commit()
}

async fn record_is_gone<K: Backend>(fleet: &Fleet<K>, name: &str) {
    fleet
        .until("the former name is forgotten", |statuses| {
            statuses["new"].state == ApplicationState::Synced && !statuses.contains_key(name)
        })
        .await;
    assert!(fleet.record(name).await.is_none());
    assert!(fleet.live("configmaps", "a").await.is_some());
}

pub(super) async fn orphan_ends_when_its_objects_are_taken<K: Backend>(fleet: Fleet<K>) {
    for name in ["third", "old"] {
        fleet.application(name, ", deletionPolicy: Orphan");
        fleet.manifests(name, vec![config(&format!("of-{name}"), "1")]);
    }
    fleet.manifests(
        "old",
        vec![config("a", "1"), config("b", "1"), config("left", "1")],
    );
    fleet.applied().await;
    rename(&fleet, "old", "new");
    fleet
        .until("one object is left to the orphan", |statuses| {
            statuses
                .get("old")
                .is_some_and(|old| (old.state, old.objects) == (ApplicationState::Orphaned, 1))
        })
        .await;
    fleet
        .kube
        .call(Method::DELETE, &fleet.path("configmaps", "left"), None)
        .await;
    record_is_gone(&fleet, "old").await;
}

pub(super) async fn orphan_ends_after_a_restart<K: Backend>(mut fleet: Fleet<K>) {
    fleet.application("old", ", deletionPolicy: Orphan");
    fleet.manifests("old", vec![config("a", "1"), config("b", "1")]);
    fleet.applied().await;
    fleet.end().await;
    fleet.restart().await;
    rename(&fleet, "old", "new");
    record_is_gone(&fleet, "old").await;
}

pub(super) async fn crd_beside_its_objects_fails_nothing<K: Backend>(fleet: Fleet<K>) {
    let group = format!("published.{}.example.org", fleet.namespace);
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("boats.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "boats", "singular": "boat", "kind": "Boat"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]},
    });
    let boat = |version: &str| -> Value {
        json!({"apiVersion": format!("{group}/{version}"), "kind": "Boat", "metadata": {"name": "one"}, "spec": {"size": 1}})
    };
    fleet.application("shop", ", timeout: 2m");
    fleet.manifests("shop", vec![boat("v1"), crd.clone()]);
    let revision = fleet.commit();
    let seen = Mutex::new(BTreeSet::new());
    let done = fleet
        .reconciler
        .wait_until_observed(
            &fleet.repository.name,
            &revision,
            None,
            Duration::from_secs(120),
            |statuses| {
                let states = statuses.iter().map(|status| {
                    (
                        status.state,
                        status
                            .problems
                            .iter()
                            .map(ToString::to_string)
                            .collect::<Vec<_>>(),
                    )
                });
                seen.lock().unwrap().extend(states);
            },
        )
        .await;
    let seen = seen.into_inner().unwrap();
    assert!(done, "{seen:?}");
    assert!(
        !seen
            .iter()
            .any(|(state, _)| *state == ApplicationState::Failed),
        "{seen:?}"
    );
    assert_eq!(fleet.statuses()["shop"].state, ApplicationState::Synced);
    let path = format!("/apis/{group}/v1/namespaces/{}/boats/one", fleet.namespace);
    assert_eq!(fleet.kube.call(Method::GET, &path, None).await.0, 200);
    // A version that the definition does not have is refused, and not waited for without end.
    fleet.manifests("shop", vec![boat("v7"), crd]);
    fleet.commit();
    fleet
        .until("the missing version is named", |statuses| {
            let problems = statuses["shop"].problems.iter().map(ToString::to_string);
            problems
                .collect::<Vec<_>>()
                .join(" ")
                .contains("does not serve")
        })
        .await;
}

pub(super) async fn ignore_rule_is_tried_at_once<K: Backend>(fleet: Fleet<K>) {
    let other = format!("{}-late", fleet.namespace);
    let mut elsewhere = config("b", "1");
    elsewhere["metadata"]["namespace"] = json!(other);
    fleet.application("shop", "");
    fleet.manifests("shop", vec![elsewhere]);
    fleet.commit();
    // By now the next attempt is 8 s away.
    let end = tokio::time::Instant::now() + Duration::from_secs(120);
    while fleet.stats().of("apply") < 4 {
        assert!(tokio::time::Instant::now() < end, "{:?}", fleet.stats());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}});
    let (status, answer) = fleet
        .kube
        .call(Method::POST, "/api/v1/namespaces", Some(&namespace))
        .await;
    assert!(status.is_success(), "{answer}");
    fleet.application(
        "shop",
        ", ignore: [{kind: ConfigMap, jsonPointers: [/data/other]}]",
    );
    let statuses = fleet.applied().await;
    assert_eq!(
        statuses["shop"].state,
        ApplicationState::Synced,
        "{statuses:#?}"
    );
}

/// Writes the status of an object, as its controller does.
async fn write_status<K: Backend>(fleet: &Fleet<K>, path: &str, status: Value) {
    let (code, live) = fleet.kube.call(Method::GET, path, None).await;
    assert_eq!(code, 200, "{live}");
    let written = json!({"apiVersion": live["apiVersion"], "kind": live["kind"],
        "metadata": {"name": live["metadata"]["name"], "namespace": live["metadata"]["namespace"]}, "status": status});
    let path = format!("{path}/status?fieldManager=harbour&force=true");
    let (code, answer) = fleet.kube.call(Method::PATCH, &path, Some(&written)).await;
    assert!(code.is_success(), "{answer}");
}

/// Waits until the health of an Application's objects reads like this.
async fn until_unhealthy<K: Backend>(fleet: &Fleet<K>, text: &str) {
    fleet
        .until(text, |statuses| {
            let messages = statuses["shop"].unhealthy.iter().map(ToString::to_string);
            let messages: Vec<String> = messages.collect();
            messages.join("; ").contains(text)
        })
        .await;
}

pub(super) async fn health_rule_decides_for_its_kind<K: Backend>(mut fleet: Fleet<K>) {
    let group = format!("rules.{}.example.org", fleet.namespace);
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("boats.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "boats", "singular": "boat", "kind": "Boat"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]},
    });
    let boat = json!({"apiVersion": format!("{group}/v1"), "kind": "Boat", "metadata": {"name": "one"}, "spec": {"size": 1}});
    let rules = |current: &str| {
        format!(
            ", wait: true, timeout: 2m, health: [{{apiVersion: {group}/v1, kind: Boat, failed: \"status.phase == 'Sunk'\", current: \"{current}\"}}, \
             {{apiVersion: v1, kind: ConfigMap, current: \"data.ready == 'yes'\"}}]"
        )
    };
    fleet.application("shop", &rules("status.phase == 'Sailing'"));
    let mut config = config("a", "1");
    config["data"]["ready"] = json!("no");
    fleet.manifests("shop", vec![crd.clone(), boat.clone(), config.clone()]);
    fleet.commit();
    // A missing field waits, and a rule counts more than the one of a built-in kind.
    until_unhealthy(&fleet, "the object has no field `status`").await;
    until_unhealthy(&fleet, "none of its health rules holds").await;
    let path = format!("/apis/{group}/v1/namespaces/{}/boats/one", fleet.namespace);
    write_status(&fleet, &path, json!({"phase": "Sunk"})).await;
    until_unhealthy(&fleet, "Failed: its health rule `failed` holds").await;
    write_status(&fleet, &path, json!({"phase": "Sailing"})).await;
    config["data"]["ready"] = json!("yes");
    fleet.manifests("shop", vec![crd.clone(), boat.clone(), config.clone()]);
    let statuses = fleet.applied().await;
    assert_eq!(
        (statuses["shop"].state, statuses["shop"].unhealthy.len()),
        (ApplicationState::Synced, 0),
        "{statuses:#?}"
    );
    // Another rule judges the objects that are there, also after a restart, and applies nothing.
    let applies = fleet.stats().of("apply");
    fleet.application("shop", &rules("status.phase == 'Moored'"));
    fleet.commit();
    until_unhealthy(&fleet, "none of its health rules holds").await;
    assert_eq!(fleet.stats().of("apply"), applies);
    fleet.restart().await;
    fleet.commit();
    until_unhealthy(&fleet, "none of its health rules holds").await;
    fleet.application("shop", ", wait: true");
    let statuses = fleet.applied().await;
    assert_eq!(
        statuses["shop"].state,
        ApplicationState::Synced,
        "{statuses:#?}"
    );
}
