//! Scenarios of the reconcile pass about namespaces that do not exist yet, for the sandbox's API
//! server and for the real one.

use super::support::fleet::{Backend, Fleet, config};
use reqwest::Method;
use serde_json::{Value, json};
use tagboat::{
    io::render::{RenderMethod, Rendered},
    objects::object::{CompactObject, Object},
    reconcile::{ApplicationRequest, ApplicationState, ChangeKind, ClusterReads, diff_objects},
    spec,
};

/// Calls a macro with the names of all scenarios.
macro_rules! for_each_namespace_scenario {
    ($run:ident) => {
        $run!(reconcile_namespaces:
            namespace_missing_is_created,
            namespace_goes_with_last_application,
            namespace_with_other_objects_stays,
            namespace_with_object_of_new_kind_stays,
            namespace_checks_take_their_time,
            namespace_made_by_others_stays,
            namespace_declared_elsewhere_wins,
            namespace_declared_later_is_taken_over,
            namespace_not_created_is_reported,
            namespace_terminating_is_reported,
            namespace_missing_shows_in_diff,
        );
    };
}
pub(crate) use for_each_namespace_scenario;

async fn namespace<K: Backend>(fleet: &Fleet<K>, name: &str) -> Option<Value> {
    let path = format!("/api/v1/namespaces/{name}");
    let (status, value) = fleet.kube.call(Method::GET, &path, None).await;
    (status == 200).then_some(value)
}

async fn create<K: Backend>(fleet: &Fleet<K>, path: &str, object: &Value) {
    let (status, answer) = fleet.kube.call(Method::POST, path, Some(object)).await;
    assert!(status.is_success(), "{answer}");
}

/// Waits until a namespace is gone, or on its way out.
async fn namespace_goes<K: Backend>(fleet: &Fleet<K>, name: &str) {
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while let Some(live) = namespace(fleet, name).await {
        if live["metadata"]["deletionTimestamp"].is_string() {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{live:#}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Waits until removed Applications are gone from the statuses.
async fn only<K: Backend>(fleet: &Fleet<K>, names: &[&str]) {
    let what = format!("only {names:?} are left");
    fleet
        .until(&what, |statuses| {
            statuses
                .keys()
                .map(String::as_str)
                .eq(names.iter().copied())
        })
        .await;
}

/// Declares Applications that stay, so that most of the repository is still there.
fn stay<K: Backend>(fleet: &Fleet<K>) {
    for name in ["stay-a", "stay-b"] {
        fleet.application(name, "");
        fleet.manifests(name, vec![config(name, "1")]);
    }
}

fn problems<K: Backend>(fleet: &Fleet<K>, name: &str) -> String {
    let status = &fleet.statuses()[name];
    let hints = status
        .problems
        .iter()
        .filter_map(|problem| problem.hint.clone());
    let texts = status.problems.iter().map(ToString::to_string);
    texts.chain(hints).collect::<Vec<_>>().join("\n")
}

const DELETE: &str = ", prune: true, deletionPolicy: Delete";

pub(super) async fn namespace_missing_is_created<K: Backend>(fleet: Fleet<K>) {
    let target = format!("{}-target", fleet.namespace);
    let other = format!("{}-other", fleet.namespace);
    let mut elsewhere = config("b", "1");
    elsewhere["metadata"]["namespace"] = json!(other);
    fleet.application_in("web", &target, "");
    fleet.manifests("web", vec![config("a", "1")]);
    fleet.application_in("all", &target, ", createNamespace: true");
    fleet.manifests("all", vec![config("c", "1"), elsewhere]);
    let statuses = fleet.applied().await;
    for name in ["web", "all"] {
        assert_eq!(
            statuses[name].state,
            ApplicationState::Synced,
            "{statuses:#?}"
        );
    }
    for name in [&target, &other] {
        let live = namespace(&fleet, name).await.unwrap();
        let annotation = &live["metadata"]["annotations"]["tagboat.dev/created-for"];
        assert!(annotation.is_string(), "{live:#}");
        assert!(
            live["metadata"]["labels"]["tagboat.dev/name"].is_null(),
            "{live:#}"
        );
    }
    // A second pass over the same world changes nothing.
    let before = fleet.stats();
    fleet.applied().await;
    assert_eq!(fleet.stats().since(&before).writes(), 0);
}

pub(super) async fn namespace_goes_with_last_application<K: Backend>(fleet: Fleet<K>) {
    let target = format!("{}-target", fleet.namespace);
    stay(&fleet);
    for name in ["a", "b"] {
        fleet.application_in(name, &target, &format!("{DELETE}, wait: true"));
    }
    // The garbage collector deletes its ReplicaSet and its pod a moment later.
    let web = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "example.org/web:1"}]}}},
    });
    fleet.manifests("a", vec![config("a", "1")]);
    fleet.manifests("b", vec![config("b", "1"), web]);
    let statuses = fleet.applied().await;
    assert_eq!(
        statuses["b"].state,
        ApplicationState::Synced,
        "{statuses:#?}"
    );
    fleet.undeclare("a");
    fleet.commit();
    only(&fleet, &["b", "stay-a", "stay-b"]).await;
    let live = namespace(&fleet, &target).await.unwrap();
    assert!(live["metadata"]["deletionTimestamp"].is_null(), "{live:#}");
    fleet.undeclare("b");
    fleet.commit();
    only(&fleet, &["stay-a", "stay-b"]).await;
    namespace_goes(&fleet, &target).await;
}

pub(super) async fn namespace_with_other_objects_stays<K: Backend>(fleet: Fleet<K>) {
    let target = format!("{}-target", fleet.namespace);
    stay(&fleet);
    fleet.application_in("web", &target, DELETE);
    fleet.manifests("web", vec![config("a", "1")]);
    fleet.applied().await;
    let path = format!("/api/v1/namespaces/{target}/configmaps");
    create(&fleet, &path, &config("made-by-hand", "1")).await;
    fleet.undeclare("web");
    fleet.commit();
    only(&fleet, &["stay-a", "stay-b"]).await;
    let live = namespace(&fleet, &target).await.unwrap();
    assert!(live["metadata"]["deletionTimestamp"].is_null(), "{live:#}");
}

pub(super) async fn namespace_with_object_of_new_kind_stays<K: Backend>(fleet: Fleet<K>) {
    let target = format!("{}-target", fleet.namespace);
    stay(&fleet);
    fleet.application_in("web", &target, DELETE);
    fleet.manifests("web", vec![config("a", "1")]);
    fleet.applied().await;
    // Discovery has been cached, and nobody waits for this kind.
    let group = format!("{}.example.org", fleet.namespace);
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("boats.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "boats", "singular": "boat", "kind": "Boat"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    create(&fleet, definitions, &crd).await;
    let path = format!("/apis/{group}/v1/namespaces/{target}/boats");
    let boat =
        json!({"apiVersion": format!("{group}/v1"), "kind": "Boat", "metadata": {"name": "one"}});
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while !fleet
        .kube
        .call(Method::POST, &path, Some(&boat))
        .await
        .0
        .is_success()
    {
        assert!(tokio::time::Instant::now() < end, "the kind is not served");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    fleet.undeclare("web");
    fleet.commit();
    only(&fleet, &["stay-a", "stay-b"]).await;
    let live = namespace(&fleet, &target).await.unwrap();
    assert!(live["metadata"]["deletionTimestamp"].is_null(), "{live:#}");
    let definition = format!("{definitions}/boats.{group}");
    fleet.kube.call(Method::DELETE, &definition, None).await;
}

pub(super) async fn namespace_checks_take_their_time<K: Backend>(fleet: Fleet<K>) {
    let target = format!("{}-target", fleet.namespace);
    stay(&fleet);
    fleet.application_in("web", &target, DELETE);
    fleet.manifests("web", vec![config("a", "1")]);
    fleet.applied().await;
    // An owner in no namespace, which stays.
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let api_version = "rbac.authorization.k8s.io/v1";
    let role = json!({"apiVersion": api_version, "kind": "ClusterRole", "metadata": {"name": target}, "rules": []});
    create(&fleet, roles, &role).await;
    let role_path = format!("{roles}/{target}");
    let (_, role) = fleet.kube.call(Method::GET, &role_path, None).await;
    let mut owned = config("owned", "1");
    owned["metadata"]["ownerReferences"] = json!([{
        "apiVersion": api_version, "kind": "ClusterRole", "name": target, "uid": role["metadata"]["uid"],
    }]);
    let path = format!("/api/v1/namespaces/{target}/configmaps");
    create(&fleet, &path, &owned).await;
    fleet.undeclare("web");
    fleet.commit();
    fleet
        .until("the namespace is in use", |statuses| {
            let web = statuses.get("web").expect("the removal waits");
            let told = web.problems.iter().map(ToString::to_string);
            told.collect::<String>()
                .contains("ConfigMap owned is in it")
        })
        .await;
    // Passes that something else causes are no checks.
    for _ in 0..20 {
        let request = ApplicationRequest::Now;
        assert!(fleet.reconciler.request(&fleet.name("web"), &request));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let owned = format!("{path}/owned");
    fleet.kube.call(Method::DELETE, &owned, None).await;
    fleet.kube.call(Method::DELETE, &role_path, None).await;
    only(&fleet, &["stay-a", "stay-b"]).await;
    namespace_goes(&fleet, &target).await;
}

pub(super) async fn namespace_made_by_others_stays<K: Backend>(fleet: Fleet<K>) {
    let target = format!("{}-target", fleet.namespace);
    // The annotation of another Namespace, copied by hand.
    let made = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": target, "annotations": {"tagboat.dev/created-for": "shop/web"}},
    });
    create(&fleet, "/api/v1/namespaces?fieldManager=kubectl", &made).await;
    stay(&fleet);
    fleet.application_in("web", &target, DELETE);
    fleet.manifests("web", vec![config("a", "1")]);
    fleet.applied().await;
    fleet.undeclare("web");
    fleet.commit();
    only(&fleet, &["stay-a", "stay-b"]).await;
    let live = namespace(&fleet, &target).await.unwrap();
    assert!(live["metadata"]["deletionTimestamp"].is_null(), "{live:#}");
}

/// A Namespace with a label of its own.
fn declared(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"team": "shop"}},
    })
}

pub(super) async fn namespace_declared_elsewhere_wins<K: Backend>(fleet: Fleet<K>) {
    let target = format!("{}-target", fleet.namespace);
    fleet.application("z-base", "");
    fleet.manifests("z-base", vec![declared(&target)]);
    for name in ["a", "b"] {
        fleet.application_in(name, &target, "");
        fleet.manifests(name, vec![config(name, "1")]);
    }
    fleet.commit();
    fleet
        .until("all are synced", |statuses| {
            statuses
                .values()
                .all(|status| status.state == ApplicationState::Synced)
        })
        .await;
    let live = namespace(&fleet, &target).await.unwrap();
    assert_eq!(live["metadata"]["labels"]["tagboat.dev/name"], "z-base");
    assert_eq!(live["metadata"]["labels"]["team"], "shop");
}

pub(super) async fn namespace_declared_later_is_taken_over<K: Backend>(fleet: Fleet<K>) {
    let target = format!("{}-target", fleet.namespace);
    stay(&fleet);
    fleet.application_in("web", &target, DELETE);
    fleet.manifests("web", vec![config("a", "1")]);
    fleet.applied().await;
    fleet.application("base", "");
    fleet.manifests("base", vec![declared(&target)]);
    let statuses = fleet.applied().await;
    for name in ["web", "base"] {
        assert_eq!(
            statuses[name].state,
            ApplicationState::Synced,
            "{statuses:#?}"
        );
    }
    // It is that Application's now, also where nothing is left in it.
    fleet.undeclare("web");
    fleet.commit();
    only(&fleet, &["base", "stay-a", "stay-b"]).await;
    let live = namespace(&fleet, &target).await.unwrap();
    assert_eq!(live["metadata"]["labels"]["team"], "shop");
    assert!(live["metadata"]["deletionTimestamp"].is_null(), "{live:#}");
}

pub(super) async fn namespace_not_created_is_reported<K: Backend>(fleet: Fleet<K>) {
    let target = format!("{}-target", fleet.namespace);
    let mut elsewhere = config("b", "1");
    elsewhere["metadata"]["namespace"] = json!(target);
    fleet.application_in("never", &target, ", createNamespace: false");
    fleet.manifests("never", vec![config("a", "1")]);
    // Only the target namespace is created unasked.
    fleet.application("named", "");
    fleet.manifests("named", vec![elsewhere]);
    fleet.commit();
    fleet
        .until("both fail", |statuses| {
            statuses
                .values()
                .all(|status| status.state == ApplicationState::Failed)
        })
        .await;
    for name in ["never", "named"] {
        let told = problems(&fleet, name);
        assert!(
            told.contains(&format!("namespace {target} does not exist")),
            "{told}"
        );
        assert!(told.contains("set createNamespace: true"), "{told}");
    }
    assert!(namespace(&fleet, &target).await.is_none());
}

pub(super) async fn namespace_terminating_is_reported<K: Backend>(fleet: Fleet<K>) {
    let target = format!("{}-target", fleet.namespace);
    fleet.application_in("web", &target, "");
    fleet.manifests("web", vec![config("a", "1")]);
    fleet.applied().await;
    let maps = format!("/api/v1/namespaces/{target}/configmaps");
    let mut held = config("held", "1");
    held["metadata"]["finalizers"] = json!(["acme.io/hold"]);
    create(&fleet, &maps, &held).await;
    let path = format!("/api/v1/namespaces/{target}");
    fleet.kube.call(Method::DELETE, &path, None).await;
    fleet
        .until("the end of the namespace is told", |statuses| {
            let problems = statuses["web"].problems.iter().map(ToString::to_string);
            problems
                .collect::<String>()
                .contains(&format!("namespace {target} is being deleted"))
        })
        .await;
    let path = format!("{maps}/held");
    let (_, mut freed) = fleet.kube.call(Method::GET, &path, None).await;
    freed["metadata"]["finalizers"] = json!([]);
    let (status, answer) = fleet.kube.call(Method::PUT, &path, Some(&freed)).await;
    assert!(status.is_success(), "{answer}");
    fleet
        .until("it is created again", |statuses| {
            statuses["web"].state == ApplicationState::Synced
        })
        .await;
    let live = namespace(&fleet, &target).await.unwrap();
    assert!(live["metadata"]["deletionTimestamp"].is_null(), "{live:#}");
}

pub(super) async fn namespace_missing_shows_in_diff<K: Backend>(fleet: Fleet<K>) {
    let target = format!("{}-target", fleet.namespace);
    let declared = format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {{name: dev}}\nspec: {{paths: ['**'], update: {{via: commit}}}}\n---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: web, namespace: shop}}\nspec: {{environment: dev, path: web, cluster: test, targetNamespace: {target}}}\n"
    );
    let declared = spec::read([("apps.yaml", declared.as_bytes())], None);
    let application = declared.applications.values().next().unwrap();
    let rendered = Rendered {
        manifests: vec![CompactObject::new(Object::new(config("a", "1")).unwrap())],
        how: RenderMethod::Plain,
        warnings: Vec::new(),
        left_out: Vec::new(),
        hash: String::new(),
        inputs: None,
    };
    let cluster = fleet.reconciler.cluster("test").unwrap();
    let diffs = diff_objects(cluster, application, &rendered, &ClusterReads::default())
        .await
        .unwrap();
    let shown: Vec<(&str, ChangeKind)> = diffs
        .iter()
        .map(|diff| (diff.object.as_str(), diff.change))
        .collect();
    let (namespace_key, key) = (
        format!("Namespace {target}"),
        format!("ConfigMap {target}/a"),
    );
    assert_eq!(
        shown,
        [
            (namespace_key.as_str(), ChangeKind::Create),
            (key.as_str(), ChangeKind::Create)
        ]
    );
    assert!(
        diffs[1].diff.contains("+  value: \"1\""),
        "{}",
        diffs[1].diff
    );
    assert!(namespace(&fleet, &target).await.is_none());
}
