//! Scenarios of the reconcile pass about fields that others add to what Git says, for the sandbox's
//! API server and for the real one.

#![allow(
    clippy::needless_pass_by_value,
    reason = "json! makes values, not references"
)]

use super::{
    reconcile_repairs::{edit, workload},
    support::fleet::{Backend, Fleet, config},
};
use reqwest::Method;
use serde_json::{Value, json};
use tagboat::{
    io::render::{RenderMethod, Rendered},
    objects::object::{CompactObject, Object},
    reconcile::{self, ApplicationState, ChangeKind, ClusterReads, ObjectDiff},
    spec,
};

/// Calls a macro with the names of all scenarios.
macro_rules! for_each_addition_scenario {
    ($run:ident) => {
        $run!(reconcile_additions:
            additions_by_kubectl_are_removed,
            additions_by_others_are_noted,
            additions_are_reported_and_ignored,
            additions_that_defaults_restore_are_no_change,
        );
    };
}
pub(crate) use for_each_addition_scenario;

const DEPLOYMENTS: &str = "apps/deployments";

fn pod(live: &Value) -> &Value {
    &live["spec"]["template"]["spec"]
}

fn containers(live: &Value) -> usize {
    pod(live)["containers"].as_array().map_or(0, Vec::len)
}

/// Adds to the pod template of a Deployment what Git does not name.
fn add_to_template(live: &mut Value) {
    let template = &mut live["spec"]["template"];
    template["metadata"]["annotations"] =
        json!({"note": "mine", "kubectl.kubernetes.io/restartedAt": "2026-11-30T10:00:00Z"});
    template["spec"]["hostPID"] = json!(true);
    let debug = json!({"name": "debug", "image": "example.org/debug:1"});
    let containers = template["spec"]["containers"].as_array_mut().unwrap();
    containers[0]["env"] = json!([{"name": "DEBUG", "value": "1"}]);
    containers.push(debug);
}

/// Compares an Application of one object with the cluster.
async fn diff<K: Backend>(fleet: &Fleet<K>, object: Value) -> ObjectDiff {
    let text = format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {{name: dev}}\nspec: {{paths: ['**'], update: {{via: commit}}}}\n---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: shop, namespace: {0}}}\nspec: {{environment: dev, path: shop, cluster: test, targetNamespace: {0}}}\n",
        fleet.namespace
    );
    let declared = spec::read([("apps.yaml", text.as_bytes())], None);
    let application = declared.applications.values().next().unwrap();
    let rendered = Rendered {
        manifests: vec![CompactObject::new(Object::new(object).unwrap())],
        how: RenderMethod::Plain,
        warnings: Vec::new(),
        left_out: Vec::new(),
        hash: String::new(),
        inputs: None,
    };
    let cluster = fleet.reconciler.cluster("test").unwrap();
    let diffs =
        reconcile::diff_objects(cluster, application, &rendered, &ClusterReads::default()).await;
    diffs.unwrap().remove(0)
}

pub(super) async fn additions_by_kubectl_are_removed<K: Backend>(fleet: Fleet<K>) {
    fleet.application("shop", "");
    fleet.manifests("shop", vec![workload("web", json!({})), config("map", "1")]);
    fleet.applied().await;
    edit(
        &fleet,
        (DEPLOYMENTS, "web"),
        "kubectl-edit",
        add_to_template,
    )
    .await;
    edit(&fleet, ("configmaps", "map"), "kubectl-patch", |live| {
        live["data"]["more"] = json!("2");
        let annotations = json!({"note": "mine", "tagboat.dev/prune": "disabled"});
        live["metadata"]["annotations"] = annotations;
    })
    .await;
    let live = fleet
        .live_until(DEPLOYMENTS, "web", |live| containers(live) == 1)
        .await;
    let template = &live["spec"]["template"];
    assert!(pod(&live).get("hostPID").is_none(), "{live:#}");
    assert!(pod(&live)["containers"][0].get("env").is_none(), "{live:#}");
    // Removing it would restart the pods once more.
    assert_eq!(
        template["metadata"]["annotations"],
        json!({"kubectl.kubernetes.io/restartedAt": "2026-11-30T10:00:00Z"})
    );
    // An annotation by which a person protects the object stays.
    let live = fleet
        .live_until("configmaps", "map", |live| {
            live["data"] == json!({"value": "1"})
        })
        .await;
    assert_eq!(
        live["metadata"]["annotations"],
        json!({"tagboat.dev/prune": "disabled"})
    );
    fleet
        .until("nothing is left to repair", |statuses| {
            let shop = &statuses["shop"];
            shop.notes
                .iter()
                .any(|note| note.message.contains("restartedAt"))
                && shop.drifted.is_empty()
        })
        .await;
}

pub(super) async fn additions_by_others_are_noted<K: Backend>(fleet: Fleet<K>) {
    fleet.application("shop", "");
    fleet.manifests("shop", vec![workload("web", json!({}))]);
    fleet.applied().await;
    edit(&fleet, (DEPLOYMENTS, "web"), "injector", |live| {
        let debug = json!({"name": "debug", "image": "example.org/debug:1"});
        let containers = &mut live["spec"]["template"]["spec"]["containers"];
        containers.as_array_mut().unwrap().push(debug);
    })
    .await;
    let noted =
        "/spec/template/spec/containers[name=debug] was added by injector; Git does not name it";
    fleet
        .until("the addition is noted", |statuses| {
            let notes = &statuses["shop"].notes;
            notes.iter().any(|note| note.message == noted)
        })
        .await;
    let diff = diff(&fleet, workload("web", json!({}))).await;
    assert_eq!(
        (diff.change, diff.notes),
        (ChangeKind::None, vec![noted.to_owned()])
    );
    // It is still there after the next commit.
    fleet.manifests("shop", vec![workload("web", json!({"hostname": "web"}))]);
    fleet.applied().await;
    let live = fleet.live(DEPLOYMENTS, "web").await.unwrap();
    assert_eq!(
        (containers(&live), &pod(&live)["hostname"]),
        (2, &json!("web"))
    );
}

pub(super) async fn additions_are_reported_and_ignored<K: Backend>(fleet: Fleet<K>) {
    let ignore = ", drift: report, ignore: [{kind: Deployment, jsonPointers: [/spec/template/spec/containers/1]}]";
    fleet.application("shop", ignore);
    fleet.manifests("shop", vec![workload("web", json!({}))]);
    fleet.applied().await;
    edit(
        &fleet,
        (DEPLOYMENTS, "web"),
        "kubectl-edit",
        add_to_template,
    )
    .await;
    fleet
        .until("the additions are reported", |statuses| {
            statuses["shop"].state == ApplicationState::Drifted
        })
        .await;
    let drifted = fleet.statuses()["shop"].drifted.clone();
    assert_eq!(
        drifted[0].to_string(),
        format!(
            "Deployment {}/web: /spec/template/metadata/annotations/note was added by kubectl-edit, \
             /spec/template/spec/containers[name=main]/env[name=DEBUG] was added by kubectl-edit, \
             /spec/template/spec/hostPID was added by kubectl-edit",
            fleet.namespace
        )
    );
    // A diff shows that the next apply removes them.
    let diff = diff(&fleet, workload("web", json!({}))).await;
    assert_eq!(diff.change, ChangeKind::Change);
    assert!(diff.diff.contains("-      hostPID: true"), "{}", diff.diff);
    assert!(
        diff.changed_by.iter().all(|change| change.added),
        "{diff:#?}"
    );
    // A commit removes them, but what is to be ignored.
    fleet.manifests("shop", vec![workload("web", json!({"hostname": "web"}))]);
    fleet.applied().await;
    let live = fleet.live(DEPLOYMENTS, "web").await.unwrap();
    assert!(pod(&live).get("hostPID").is_none(), "{live:#}");
    assert_eq!(
        (containers(&live), &pod(&live)["hostname"]),
        (2, &json!("web"))
    );
}

/// Tools that create an object own the defaults of the API server, too.
pub(super) async fn additions_that_defaults_restore_are_no_change<K: Backend>(fleet: Fleet<K>) {
    let mut created = workload("web", json!({}));
    created["metadata"]["namespace"] = json!(fleet.namespace);
    created["spec"]["template"]["spec"]["hostPID"] = json!(true);
    let path = fleet.path(DEPLOYMENTS, "web");
    let collection = path.rsplit_once('/').unwrap().0;
    let collection = format!("{collection}?fieldManager=kubectl-create");
    let (status, answer) = fleet
        .kube
        .call(Method::POST, &collection, Some(&created))
        .await;
    assert!(status.is_success(), "{answer}");
    let diff = diff(&fleet, workload("web", json!({}))).await;
    let removed: Vec<&str> = diff
        .diff
        .lines()
        .filter(|line| line.starts_with('-') && !line.starts_with("---"))
        .collect();
    assert_eq!(removed, ["-      hostPID: true"], "{}", diff.diff);
    let added = diff.changed_by.iter().filter(|change| change.added);
    let added: Vec<String> = added.map(ToString::to_string).collect();
    assert_eq!(
        added,
        ["/spec/template/spec/hostPID was added by kubectl-create"]
    );
}
