//! Scenarios of the reconcile pass about what kinds of objects do, for the sandbox's API server and
//! for the real one.

#![allow(
    clippy::needless_pass_by_value,
    reason = "json! makes values, not references"
)]

use super::support::fleet::{Backend, Fleet, config, states};
use reqwest::Method;
use serde_json::{Value, json};
use tagboat::reconcile::{ApplicationState, Reason};

/// Calls a macro with the names of all scenarios.
macro_rules! for_each_kind_scenario {
    ($run:ident) => {
        $run!(reconcile_kinds:
            job_is_awaited_by_dependents,
            job_that_fails_degrades,
            job_suspended_is_healthy,
            job_with_lifetime_runs_once,
            job_that_failed_and_expired_stays_failed,
            custom_resource_without_status_is_awaited,
            prune_honours_annotations_of_other_tools,
            prune_keeps_config_until_rollout_is_healthy,
        );
    };
}
pub(crate) use for_each_kind_scenario;

/// A Job whose pod takes a while.
fn job(name: &str, image: &str, spec: Value) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {
            "metadata": {"annotations": {"test.tagboat.dev/ready-after": "1500ms"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]},
        }},
    });
    for (field, value) in spec.as_object().unwrap() {
        job["spec"][field] = value.clone();
    }
    job
}

fn revision(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str().unwrap();
    text.parse().unwrap()
}

fn has_condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == kind && condition["status"] == "True")
}

pub(super) async fn job_is_awaited_by_dependents<K: Backend>(fleet: Fleet<K>) {
    for (base, wait) in [("waits", ", wait: true"), ("plain", "")] {
        let late = format!("late-{base}");
        fleet.application(base, wait);
        fleet.manifests(base, vec![job(base, "example.org/migrate:1", json!({}))]);
        let depends = format!(", dependsOn: [{}/{base}]", fleet.namespace);
        fleet.application(&late, &depends);
        fleet.manifests(&late, vec![config(&late, "1")]);
    }
    fleet.applied().await;
    fleet
        .until("all are applied", |statuses| {
            statuses
                .values()
                .all(|status| status.state == ApplicationState::Synced)
        })
        .await;
    for base in ["waits", "plain"] {
        let job = fleet.live("batch/jobs", base).await.unwrap();
        assert!(has_condition(&job, "Complete"), "{job:#}");
        let name = format!("late-{base}");
        let late = fleet.live("configmaps", &name).await.unwrap();
        assert!(revision(&late) > revision(&job), "{late:#} {job:#}");
    }
}

pub(super) async fn job_that_fails_degrades<K: Backend>(fleet: Fleet<K>) {
    fleet.application("base", ", wait: true");
    fleet.manifests(
        "base",
        vec![job("migrate", "example.org/migrate:crash", json!({}))],
    );
    let depends = format!(", dependsOn: [{}/base]", fleet.namespace);
    fleet.application("late", &depends);
    fleet.manifests("late", vec![config("late", "1")]);
    fleet.commit();
    fleet
        .until("the failure is reported", |statuses| {
            statuses["base"].state == ApplicationState::Degraded
                && statuses["late"].reason == Reason::DependencyNotReady
        })
        .await;
    let status = &fleet.statuses()["base"];
    let rollout = status.rollout.as_ref().unwrap();
    assert_eq!(rollout.result.to_string(), "degraded");
    assert!(rollout.message.contains("Job"), "{rollout:?}");
    assert!(fleet.live("configmaps", "late").await.is_none());
}

pub(super) async fn job_suspended_is_healthy<K: Backend>(fleet: Fleet<K>) {
    fleet.application("shop", ", wait: true");
    let suspended = job("later", "example.org/migrate:1", json!({"suspend": true}));
    fleet.manifests("shop", vec![suspended]);
    let statuses = fleet.applied().await;
    assert_eq!(states(&statuses), [("shop", ApplicationState::Synced)]);
}

pub(super) async fn job_with_lifetime_runs_once<K: Backend>(mut fleet: Fleet<K>) {
    let run = |image: &str, ssa: &str| {
        let mut run = job("migrate", image, json!({"ttlSecondsAfterFinished": 0}));
        run["metadata"]["annotations"] = json!({"tagboat.dev/ssa": ssa});
        run
    };
    for (name, spec, ssa) in [
        ("repairs", "", "Override"),
        ("reports", ", drift: report", "Override"),
        ("once", "", "IfNotPresent"),
    ] {
        let mut run = run("example.org/migrate:1", ssa);
        run["metadata"]["name"] = json!(name);
        fleet.application(name, spec);
        fleet.manifests(name, vec![run, config(name, "1")]);
    }
    fleet.applied().await;
    let is_done = |status: &tagboat::reconcile::ApplicationStatus| {
        let has_note = status
            .notes
            .iter()
            .any(|note| note.message.contains("it has completed and is gone"));
        status.state == ApplicationState::Synced && has_note
    };
    fleet
        .until("all have run, and are gone", |statuses| {
            statuses.values().all(is_done)
        })
        .await;
    let before = fleet.stats();
    // Other changes and another process run none of them again.
    for name in ["repairs", "reports", "once"] {
        let (status, _) = fleet
            .kube
            .call(Method::DELETE, &fleet.path("configmaps", name), None)
            .await;
        assert!(status.is_success());
    }
    fleet
        .live_until("configmaps", "repairs", |live| live["data"]["value"] == "1")
        .await;
    fleet
        .until("the other objects are repaired", |statuses| {
            statuses["reports"].state == ApplicationState::Drifted
                && is_done(&statuses["repairs"])
                && is_done(&statuses["once"])
        })
        .await;
    assert_eq!(fleet.stats().since(&before).of("apply"), 2);
    fleet.application("reports", "");
    fleet.restart().await;
    fleet.applied().await;
    fleet
        .until("they are done after a restart", |statuses| {
            statuses.values().all(is_done)
        })
        .await;
    // Another manifest is another run.
    let mut again = run("example.org/migrate:2", "Override");
    again["metadata"]["name"] = json!("repairs");
    fleet.manifests("repairs", vec![again, config("repairs", "1")]);
    let before = fleet.stats();
    fleet.applied().await;
    assert_eq!(fleet.stats().since(&before).of("apply"), 1);
}

pub(super) async fn job_that_failed_and_expired_stays_failed<K: Backend>(fleet: Fleet<K>) {
    fleet.application("shop", "");
    let lifetime = json!({"ttlSecondsAfterFinished": 0});
    fleet.manifests(
        "shop",
        vec![job("migrate", "example.org/migrate:crash", lifetime)],
    );
    fleet.commit();
    fleet
        .until("the failure is kept", |statuses| {
            let unhealthy = statuses["shop"].unhealthy.first();
            unhealthy.is_some_and(|one| one.message.contains("it has failed and is gone"))
        })
        .await;
    assert!(fleet.live("batch/jobs", "migrate").await.is_none());
    assert_eq!(fleet.stats().of("apply"), 1);
}

pub(super) async fn custom_resource_without_status_is_awaited<K: Backend>(fleet: Fleet<K>) {
    let group = format!("{}.example.org", fleet.namespace);
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("boats.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "boats", "singular": "boat", "kind": "Boat"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema}}]},
    });
    let api_version = format!("{group}/v1");
    let boat = json!({"apiVersion": api_version, "kind": "Boat", "metadata": {"name": "one"}, "spec": {"size": 1}});
    fleet.application("kinds", ", wait: true");
    fleet.manifests("kinds", vec![crd]);
    let depends = format!(", wait: true, dependsOn: [{}/kinds]", fleet.namespace);
    fleet.application("boats", &depends);
    fleet.manifests("boats", vec![boat]);
    fleet.commit();
    fleet
        .until("its first status is awaited", |statuses| {
            let unhealthy = statuses["boats"].unhealthy.first();
            unhealthy.is_some_and(|one| one.message.contains("written no status yet"))
        })
        .await;
    let path = format!(
        "/apis/{group}/v1/namespaces/{}/boats/one/status?fieldManager=harbour&force=true",
        fleet.namespace
    );
    let ready = json!({"conditions": [{"type": "Ready", "status": "True", "reason": "Built", "message": "", "lastTransitionTime": "2024-05-01T10:00:00Z"}]});
    let status = json!({"apiVersion": api_version, "kind": "Boat", "metadata": {"name": "one", "namespace": fleet.namespace}, "status": ready});
    let (code, answer) = fleet.kube.call(Method::PATCH, &path, Some(&status)).await;
    assert!(code.is_success(), "{answer}");
    fleet
        .until("it is healthy", |statuses| {
            statuses["boats"].state == ApplicationState::Synced
        })
        .await;
}

pub(super) async fn prune_honours_annotations_of_other_tools<K: Backend>(fleet: Fleet<K>) {
    let annotated = |name: &str, annotation: &str, value: &str| {
        let mut object = config(name, "1");
        object["metadata"]["annotations"] = json!({annotation: value});
        object
    };
    let options = "argocd.argoproj.io/sync-options";
    let objects = || {
        vec![
            annotated("helm", "helm.sh/resource-policy", "keep"),
            annotated("no-prune", options, "ServerSideApply=true,Prune=false"),
            annotated("no-delete", options, "Delete=false"),
        ]
    };
    fleet.application("pruned", ", prune: true");
    fleet.manifests("pruned", [objects(), vec![config("stays", "1")]].concat());
    fleet.applied().await;
    fleet.manifests("pruned", vec![config("stays", "1")]);
    fleet.applied().await;
    // What protects from the removal of the Application does not protect from a prune.
    fleet.gone("no-delete").await;
    for kept in ["helm", "no-prune"] {
        assert!(fleet.live("configmaps", kept).await.is_some(), "{kept}");
    }
    let notes = &fleet.statuses()["pruned"].notes;
    assert!(notes.len() <= 2, "{notes:?}");
    // The removal of the Application; others stay, so that it is not most of the repository.
    for name in ["other", "third"] {
        fleet.application(name, "");
        fleet.manifests(name, vec![config(name, "1")]);
    }
    fleet.manifests("pruned", objects());
    fleet.application("pruned", ", prune: true, deletionPolicy: Delete");
    fleet.applied().await;
    fleet
        .live_until("configmaps", "no-delete", |live| {
            live["metadata"]["uid"].is_string()
        })
        .await;
    fleet.undeclare("pruned");
    fleet.commit();
    fleet.gone("no-prune").await;
    fleet
        .until("the Application is deleted", |statuses| {
            !statuses.contains_key("pruned")
        })
        .await;
    for kept in ["helm", "no-delete"] {
        assert!(fleet.live("configmaps", kept).await.is_some(), "{kept}");
    }
}

pub(super) async fn prune_keeps_config_until_rollout_is_healthy<K: Backend>(fleet: Fleet<K>) {
    let deployment = |image: &str, config: &str| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                    "containers": [{"name": "web", "image": image, "envFrom": [{"configMapRef": {"name": config}}]}]}}},
        })
    };
    for (name, wait) in [("plain", ""), ("waits", ", wait: true")] {
        let objects = |image: &str, version: &str| {
            let config_name = format!("{name}-{version}");
            let mut workload = deployment(image, &config_name);
            workload["metadata"]["name"] = json!(name);
            vec![workload, config(&config_name, "1")]
        };
        fleet.application(name, &format!(", prune: true{wait}"));
        fleet.manifests(name, objects("example.org/web:1", "v1"));
        fleet.applied().await;
        fleet
            .live_until("apps/deployments", name, |live| {
                live["status"]["availableReplicas"] == 1
            })
            .await;
        // The new pods do not come up: the old ones still run, and may be restarted.
        fleet.manifests(name, objects("example.org/web:missing", "v2"));
        fleet.commit();
        fleet
            .until("the old ConfigMap is held", |statuses| {
                let mut notes = statuses[name].notes.iter();
                notes.any(|note| note.message.contains("which may still use it"))
            })
            .await;
        let old = format!("{name}-v1");
        assert!(fleet.live("configmaps", &old).await.is_some());
        assert_ne!(fleet.statuses()[name].state, ApplicationState::Synced);
        fleet.manifests(name, objects("example.org/web:2", "v2"));
        fleet.applied().await;
        fleet.gone(&old).await;
    }
}
