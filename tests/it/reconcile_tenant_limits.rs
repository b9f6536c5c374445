//! Scenarios of a tenant's limits, and of Applications that they refuse.

use super::{
    reconcile_tenants::as_tenant,
    support::fleet::{Backend, Fleet, config, problems},
};
use serde_json::{Value, json};
use tagboat::reconcile::{ApplicationState, ApplicationStatus, Reason};

/// Calls a macro with the names of all scenarios of this file.
macro_rules! for_each_limit_scenario {
    ($run:ident) => {
        $run!(reconcile_tenant_limits:
            tenant_limits_refuse_alone,
            tenant_limit_swap_in_one_commit_is_applied,
            tenant_rename_within_the_limit_is_applied,
            refused_application_keeps_prune_waiting,
        );
    };
}
pub(crate) use for_each_limit_scenario;

fn maps(prefix: &str, count: usize) -> Vec<Value> {
    let names = (0..count).map(|number| format!("{prefix}{number}"));
    names.map(|name| config(&name, "1")).collect()
}

fn is_synced(status: Option<&ApplicationStatus>, objects: usize) -> bool {
    status
        .is_some_and(|status| status.state == ApplicationState::Synced && status.objects == objects)
}

pub(super) async fn tenant_limits_refuse_alone<K: Backend>(fleet: Fleet<K>) {
    as_tenant(&fleet, "    limits: {units: 2, objects: 3}\n").await;
    for (name, count) in [("a", 2), ("b", 2), ("c", 1)] {
        fleet.application(name, "");
        fleet.manifests(name, maps(name, count));
    }
    let revision = fleet.commit();
    let statuses = fleet.settled(&revision).await;
    let told = problems(&statuses["c"]).join("\n");
    assert!(
        told.contains(
            "more than 2 Applications (tenant.limits.units); only the first 2 by name are deployed"
        ),
        "{told}"
    );
    let refused: Vec<&str> = ["a", "b"]
        .into_iter()
        .filter(|name| statuses[*name].state == ApplicationState::Failed)
        .collect();
    assert_eq!(refused.len(), 1, "{statuses:#?}");
    let refused = refused[0];
    let told = problems(&statuses[refused]).join("\n");
    assert!(
        told.contains("it renders 2 objects, beside 2 of other Applications of its repository: more than 3 (tenant.limits.objects)"),
        "{told}"
    );
    // Room is found again, although the refused one renders the same.
    let accepted = if refused == "a" { "b" } else { "a" };
    fleet.manifests(accepted, maps(accepted, 1));
    fleet.commit();
    fleet
        .until("both are applied", |statuses| {
            is_synced(statuses.get(accepted), 1) && is_synced(statuses.get(refused), 2)
        })
        .await;
}

pub(super) async fn tenant_limit_swap_in_one_commit_is_applied<K: Backend>(fleet: Fleet<K>) {
    as_tenant(&fleet, "    limits: {objects: 3}\n").await;
    for (name, count) in [("a", 1), ("b", 2)] {
        fleet.application(name, "");
        fleet.manifests(name, maps(name, count));
    }
    fleet.applied().await;
    // Whichever is read first: one of them grows by what the other one gives up.
    for (a, b) in [(2, 1), (1, 2), (2, 1), (1, 2)] {
        fleet.manifests("a", maps("a", a));
        fleet.manifests("b", maps("b", b));
        fleet.commit();
        fleet
            .until("both are applied", |statuses| {
                is_synced(statuses.get("a"), a) && is_synced(statuses.get("b"), b)
            })
            .await;
    }
}

pub(super) async fn tenant_rename_within_the_limit_is_applied<K: Backend>(fleet: Fleet<K>) {
    as_tenant(&fleet, "    limits: {objects: 3}\n").await;
    fleet.application("keep", "");
    fleet.manifests("keep", vec![]);
    fleet.application("old", ", prune: true, deletionPolicy: Delete");
    fleet.manifests("old", maps("same", 2));
    fleet.applied().await;
    let live = fleet.live("configmaps", "same0").await.unwrap();
    fleet.undeclare("old");
    fleet.application("new", ", prune: true, deletionPolicy: Delete");
    fleet.manifests("new", maps("same", 2));
    fleet.commit();
    fleet
        .until("the objects are taken over", |statuses| {
            is_synced(statuses.get("new"), 2) && !statuses.contains_key("old")
        })
        .await;
    let now = fleet.live("configmaps", "same0").await.unwrap();
    assert_eq!(now["metadata"]["uid"], live["metadata"]["uid"]);
}

pub(super) async fn refused_application_keeps_prune_waiting<K: Backend>(fleet: Fleet<K>) {
    as_tenant(&fleet, "    limits: {units: 2}\n").await;
    fleet.application("a", ", prune: true");
    fleet.manifests("a", maps("moves", 3));
    fleet.applied().await;
    // One object moves to an Application that has a wrong target, another to one too many.
    fleet.manifests("a", maps("moves", 1));
    let inside = |name: &str| {
        let mut map = config(name, "1");
        map["metadata"]["namespace"] = json!(fleet.namespace);
        map
    };
    fleet.application_in("b", "kube-system", "");
    fleet.manifests("b", vec![inside("moves1")]);
    let waits = |statuses: &std::collections::BTreeMap<String, ApplicationStatus>| {
        let status = &statuses["a"];
        status.objects == 1
            && (is_synced(Some(status), 1)
                || status
                    .notes
                    .iter()
                    .any(|note| note.message.contains("which may declare some of them")))
    };
    for refused in ["b", "c"] {
        if refused == "c" {
            fleet.application("b", "");
            fleet.manifests("b", maps("other", 1));
            fleet.application("c", "");
            fleet.manifests("c", vec![inside("moves1"), inside("moves2")]);
        }
        let revision = fleet.commit();
        fleet
            .until("the prune is judged", |statuses| {
                let is_refused = statuses.get(refused).is_some_and(|status| {
                    status.reason == Reason::TenantRefused
                        && status.revision.as_deref() == Some(&revision)
                });
                is_refused
                    && statuses["a"].revision.as_deref() == Some(&revision)
                    && waits(statuses)
            })
            .await;
        for name in ["moves1", "moves2"] {
            let live = fleet.live("configmaps", name).await;
            let live = live.unwrap_or_else(|| panic!("{name}: {:#?}", fleet.statuses()));
            assert!(live["metadata"]["deletionTimestamp"].is_null(), "{live:#}");
        }
    }
    // The tenant has the right to it again.
    fleet.undeclare("b");
    fleet.commit();
    fleet
        .until("the objects are taken over", |statuses| {
            is_synced(statuses.get("c"), 2) && is_synced(statuses.get("a"), 1)
        })
        .await;
}
