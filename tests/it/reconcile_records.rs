//! Scenarios about records: where they are, what a forged one can do (nothing), and the upgrade
//! from a tagboat that kept them beside the objects.

use super::support::fleet::{Backend, Fleet, config, problems, repository};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use tagboat::reconcile::{ApplicationRequest, ApplicationState, Reason};

/// Calls a macro with the names of all scenarios of this file.
macro_rules! for_each_record_scenario {
    ($run:ident) => {
        $run!(reconcile_records:
            record_is_outside_its_application,
            forged_record_deletes_nothing,
            forged_repository_locks_nothing,
            forged_claim_ends_no_repair,
            forged_confirmation_opens_no_gate,
            former_record_names_kinds_alone,
            record_damaged_keeps_its_holder,
            removal_terms_of_suspended_revision_count,
            removal_terms_of_unrendered_revision_count,
            removal_terms_of_replaced_work_count,
            removal_terms_of_dropped_rendering_count,
        );
    };
}
pub(crate) use for_each_record_scenario;

async fn create<K: Backend>(fleet: &Fleet<K>, path: &str, object: &Value) {
    let (status, answer) = fleet.kube.call(Method::POST, path, Some(object)).await;
    assert!(status.is_success(), "{answer}");
}

async fn delete_record<K: Backend>(fleet: &Fleet<K>, name: &str) {
    let path = fleet.record_path(name);
    let (status, answer) = fleet.kube.call(Method::DELETE, &path, None).await;
    assert!(status.is_success(), "{answer}");
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

/// A record as a user of a namespace may write it, with a valid digest.
fn forged(map: &str, application: &str, lines: &[Value]) -> Value {
    let lines: Vec<String> = lines.iter().map(|line| format!("{line}\n")).collect();
    let data = BTreeMap::from([
        ("history.json", "[]".to_owned()),
        ("inventory.json", lines.concat()),
    ]);
    let digest = hex(&Sha256::digest(serde_json::to_vec(&data).unwrap()));
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data, "metadata": {
        "name": map,
        "labels": {"tagboat.dev/record": "v1"},
        "annotations": {
            "tagboat.dev/application": application,
            "tagboat.dev/holder": "evil",
            "tagboat.dev/digest": digest,
            "tagboat.dev/parts": "0",
        },
    }})
}

/// Writes a forged record of an Application under its old name, and under the new one, in the
/// Application's namespace.
async fn forge<K: Backend>(fleet: &Fleet<K>, name: &str, lines: &[Value]) {
    let application = format!("{}/{name}", fleet.namespace);
    for map in [
        format!("tagboat-{name}"),
        format!("tagboat-record.{}.{name}", fleet.namespace),
    ] {
        let path = format!("/api/v1/namespaces/{}/configmaps", fleet.namespace);
        create(fleet, &path, &forged(&map, &application, lines)).await;
    }
}

fn entry(namespace: &str, name: &str) -> Value {
    json!({"version": "v1", "kind": "ConfigMap", "namespace": namespace, "name": name})
}

/// A ConfigMap with the labels of an Application.
fn labelled<K: Backend>(fleet: &Fleet<K>, application: &str, name: &str) -> Value {
    let mut config = config(name, "theirs");
    config["metadata"]["labels"] =
        json!({"tagboat.dev/namespace": fleet.namespace, "tagboat.dev/name": application});
    config
}

async fn value<K: Backend>(fleet: &Fleet<K>, name: &str) -> Option<String> {
    let live = fleet.live("configmaps", name).await?;
    Some(live["data"]["value"].as_str()?.to_owned())
}

pub(super) async fn record_is_outside_its_application<K: Backend>(fleet: Fleet<K>) {
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.applied().await;
    let path = format!("/api/v1/namespaces/{}/configmaps", fleet.namespace);
    let (_, list) = fleet.kube.call(Method::GET, &path, None).await;
    let maps = list["items"].as_array().unwrap().iter();
    let records: Vec<&Value> = maps
        .filter(|map| map["metadata"]["labels"]["tagboat.dev/record"].is_string())
        .collect();
    assert_eq!(records, [] as [&Value; 0]);
    let record = fleet.record("shop").await.unwrap();
    assert_eq!(record["metadata"]["namespace"], fleet.own_namespace());
    assert_eq!(
        record["metadata"]["annotations"]["tagboat.dev/application"],
        format!("{}/shop", fleet.namespace)
    );
}

pub(super) async fn forged_record_deletes_nothing<K: Backend>(mut fleet: Fleet<K>) {
    for name in ["shop", "other", "third"] {
        fleet.application(name, ", deletionPolicy: Orphan");
        fleet.manifests(name, vec![config(name, "1")]);
    }
    fleet.applied().await;
    fleet.end().await;
    // An object elsewhere that carries the labels.
    let victims = format!("{}-victims", fleet.namespace);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": victims}});
    create(&fleet, "/api/v1/namespaces", &namespace).await;
    let path = format!("/api/v1/namespaces/{victims}/configmaps");
    create(&fleet, &path, &labelled(&fleet, "shop", "victim")).await;
    let head = json!({
        "repository": fleet.repository.name, "address": fleet.repository.address,
        "part": fleet.repository.part, "prune": true, "delete": true,
        "confirmed": format!("{:040}", 2), "objects": 2,
    });
    let lines = [
        head,
        entry(&victims, "victim"),
        entry(&fleet.namespace, "shop"),
    ];
    forge(&fleet, "shop", &lines).await;
    // The declaration leaves Git while no process runs.
    fleet.undeclare("shop");
    fleet.restart().await;
    let revision = fleet.commit();
    let is_orphaned = |status: &tagboat::reconcile::ApplicationStatus| {
        status.state == ApplicationState::Orphaned && status.revision.as_ref() == Some(&revision)
    };
    fleet
        .until("its objects are kept", |statuses| {
            statuses.get("shop").is_some_and(is_orphaned)
        })
        .await;
    let victim = format!("{path}/victim");
    let is_kept = async |fleet: &Fleet<K>| {
        let (status, _) = fleet.kube.call(Method::GET, &victim, None).await;
        status.is_success() && fleet.live("configmaps", "shop").await.is_some()
    };
    assert!(is_kept(&fleet).await);
    assert_eq!(fleet.stats().of("delete"), 0);
    // Declared again, with rights: what Git says counts, for what Git has declared.
    fleet.application("shop", ", prune: true, deletionPolicy: Delete");
    let statuses = fleet.applied().await;
    assert_eq!(statuses["shop"].state, ApplicationState::Synced);
    assert!(is_kept(&fleet).await);
    assert_eq!(fleet.stats().of("delete"), 0);
}

pub(super) async fn forged_repository_locks_nothing<K: Backend>(mut fleet: Fleet<K>) {
    let head = json!({"repository": "evil", "address": "evil.example.org/fleet", "part": "main"});
    forge(&fleet, "shop", &[head]).await;
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "1")]);
    let statuses = fleet.applied().await;
    assert_eq!(statuses["shop"].state, ApplicationState::Synced);
    fleet.restart().await;
    let statuses = fleet.applied().await;
    assert_eq!(statuses["shop"].state, ApplicationState::Synced);
    assert_eq!(fleet.stats().writes(), 0);
}

pub(super) async fn forged_claim_ends_no_repair<K: Backend>(mut fleet: Fleet<K>) {
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.applied().await;
    let head = json!({"repository": "evil", "address": "evil.example.org/fleet", "part": "main"});
    forge(&fleet, "ghost", &[head, entry(&fleet.namespace, "a")]).await;
    fleet.restart().await;
    fleet.applied().await;
    let mut stolen = labelled(&fleet, "ghost", "a");
    stolen["metadata"]["namespace"] = fleet.namespace.clone().into();
    let path = format!(
        "{}?fieldManager=evil&force=true",
        fleet.path("configmaps", "a")
    );
    let (status, answer) = fleet.kube.call(Method::PATCH, &path, Some(&stolen)).await;
    assert!(status.is_success(), "{answer}");
    fleet
        .live_until("configmaps", "a", |live| {
            live["data"]["value"] == "1" && live["metadata"]["labels"]["tagboat.dev/name"] == "shop"
        })
        .await;
}

pub(super) async fn forged_confirmation_opens_no_gate<K: Backend>(mut fleet: Fleet<K>) {
    let all: Vec<Value> = (0..12)
        .map(|number| config(&format!("n{number:02}"), "1"))
        .collect();
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", all.clone());
    fleet.applied().await;
    fleet.end().await;
    let head = json!({
        "repository": fleet.repository.name, "address": fleet.repository.address,
        "part": fleet.repository.part, "prune": true, "confirmed": format!("{:040}", 2), "objects": 99,
    });
    let entries = (0..12).map(|number| {
        let mut entry = entry(&fleet.namespace, &format!("n{number:02}"));
        entry["confirmed"] = true.into();
        entry
    });
    let lines: Vec<Value> = std::iter::once(head).chain(entries).collect();
    forge(&fleet, "shop", &lines).await;
    fleet.manifests("shop", all[..1].to_vec());
    fleet.restart().await;
    let statuses = fleet.applied().await;
    assert_eq!(
        (statuses["shop"].state, statuses["shop"].reason),
        (ApplicationState::ConfirmationRequired, Reason::PruneBlocked)
    );
    assert_eq!(fleet.stats().of("delete"), 0);
}

pub(super) async fn former_record_names_kinds_alone<K: Backend>(mut fleet: Fleet<K>) {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "old"}, "stringData": {"a": "1"}});
    fleet.application("shop", ", prune: true");
    fleet.manifests("shop", vec![config("a", "1"), secret]);
    fleet.applied().await;
    fleet.end().await;
    // As an older tagboat left it, but with rights and a confirmation that Git never gave.
    let text = fleet.inventory("shop").await.unwrap();
    let mut lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    lines[0]["delete"] = true.into();
    lines[0]["repository"] = "evil".into();
    lines[0]["confirmed"] = format!("{:040}", 2).into();
    delete_record(&fleet, "shop").await;
    forge(&fleet, "shop", &lines).await;
    // The Secret leaves Git, and with it the last object of its kind.
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.restart().await;
    let revision = fleet.commit();
    let statuses = fleet.settled(&revision).await;
    assert_eq!(
        statuses["shop"].state,
        ApplicationState::ConfirmationRequired
    );
    let found = problems(&statuses["shop"]).join("\n");
    assert!(
        found.contains("Secret") && found.contains("known by labels alone"),
        "{found}"
    );
    assert!(fleet.live("secrets", "old").await.is_some());
    assert_eq!(value(&fleet, "a").await.as_deref(), Some("1"));
    let record = fleet.inventory("shop").await.unwrap();
    assert!(
        record.contains("\"old\"")
            && !record.contains("evil")
            && !record.contains("\"delete\":true"),
        "{record}"
    );
    fleet.gone("tagboat-shop").await;
    let confirm = ApplicationRequest::ConfirmPrune(revision);
    assert!(fleet.reconciler.request(&fleet.name("shop"), &confirm));
    fleet
        .live_until("secrets", "old", |live| live["reason"] == "NotFound")
        .await;
}

pub(super) async fn record_damaged_keeps_its_holder<K: Backend>(mut fleet: Fleet<K>) {
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "1")]);
    fleet.applied().await;
    fleet.end().await;
    fleet.repository = repository("other", "git.example.com");
    fleet.restart().await;
    let statuses = fleet.applied().await;
    assert_eq!(statuses["shop"].reason, Reason::NameConflict);
    let mut record = fleet.record("shop").await.unwrap();
    record["data"]["history.json"] = json!("[ ]");
    let path = fleet.record_path("shop");
    let (status, answer) = fleet.kube.call(Method::PUT, &path, Some(&record)).await;
    assert!(status.is_success(), "{answer}");
    let statuses = fleet.applied().await;
    assert_eq!(statuses["shop"].reason, Reason::NameConflict);
}

pub(super) async fn removal_terms_of_suspended_revision_count<K: Backend>(mut fleet: Fleet<K>) {
    removal_terms_count(&mut fleet, ", deletionPolicy: Orphan, suspend: true", false).await;
}

pub(super) async fn removal_terms_of_unrendered_revision_count<K: Backend>(mut fleet: Fleet<K>) {
    removal_terms_count(&mut fleet, ", deletionPolicy: Orphan", true).await;
}

/// The newest declaration keeps the objects, but its revision is not applied; then it is removed.
async fn removal_terms_count<K: Backend>(fleet: &mut Fleet<K>, newest: &str, broken: bool) {
    apply_deletable(fleet).await;
    fleet.application("shop", newest);
    if broken {
        fleet.manifests("shop", vec![Value::Null]);
    }
    fleet.applied().await;
    fleet.undeclare("shop");
    fleet.restart().await;
    fleet.commit();
    is_orphaned(fleet).await;
}

pub(super) async fn removal_terms_of_replaced_work_count<K: Backend>(fleet: Fleet<K>) {
    apply_deletable(&fleet).await;
    let more = (0..40).map(|number| config(&format!("n{number:02}"), "1"));
    fleet.manifests("shop", more.chain([config("shop", "1")]).collect());
    let revision = fleet.commit();
    fleet
        .until("a pass is under way", |statuses| {
            let status = &statuses["shop"];
            status.revision.as_ref() == Some(&revision)
                && status.state == ApplicationState::Applying
        })
        .await;
    fleet.application("shop", ", deletionPolicy: Orphan, suspend: true");
    fleet.commit();
    fleet.undeclare("shop");
    fleet.commit();
    is_orphaned(&fleet).await;
}

pub(super) async fn removal_terms_of_dropped_rendering_count<K: Backend>(fleet: Fleet<K>) {
    apply_deletable(&fleet).await;
    let rendering = fleet.files.rendering.lock().await;
    fleet.application("shop", ", deletionPolicy: Orphan");
    fleet.commit();
    fleet.undeclare("shop");
    fleet.commit();
    is_orphaned(&fleet).await;
    drop(rendering);
}

/// Applies three Applications whose objects a removal deletes.
async fn apply_deletable<K: Backend>(fleet: &Fleet<K>) {
    for name in ["shop", "other", "third"] {
        fleet.application(name, ", deletionPolicy: Delete");
        fleet.manifests(name, vec![config(name, "1")]);
    }
    fleet.applied().await;
}

/// Waits until a removed Application has left its objects.
async fn is_orphaned<K: Backend>(fleet: &Fleet<K>) {
    fleet
        .until("its objects are kept", |statuses| {
            statuses
                .get("shop")
                .is_some_and(|status| status.state == ApplicationState::Orphaned)
        })
        .await;
    assert!(fleet.live("configmaps", "shop").await.is_some());
}
