//! Lists of custom resources, which only their CRD knows how to merge.

use super::fleet::{Fleet, states};
use crate::servers::kube::Kube;
use reqwest::Method;
use serde_json::{Value, json};
use tagboat::reconcile::ApplicationState;

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn crd_lists_are_matched_by_their_keys() {
    let fleet = Fleet::start(Kube::shared(), "lists").await;
    let group = format!("{}.example.org", fleet.namespace);
    let api_version = format!("{group}/v1");
    let rule = json!({"type": "object", "required": ["host", "path"],
        "properties": {"host": {"type": "string"}, "path": {"type": "string"}, "to": {"type": "string"}}});
    let spec = json!({"type": "object", "properties": {
        "rules": {"type": "array", "items": rule, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["host", "path"]},
        "hosts": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
    }});
    let schema = json!({"type": "object", "properties": {"spec": spec}});
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("routes.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "routes", "singular": "route", "kind": "Route"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
    });
    let route = |name: &str, to: &str| {
        json!({"apiVersion": api_version, "kind": "Route", "metadata": {"name": name}, "spec": {
            "hosts": ["b.example.org"],
            "rules": [{"host": "b", "path": "/", "to": to}, {"host": "b", "path": "/two", "to": to}]}})
    };
    fleet.application("kinds", "");
    fleet.manifests("kinds", vec![crd]);
    fleet.applied().await;
    fleet.application("routes", ", drift: report");
    fleet.manifests(
        "routes",
        vec![route("one", "ours"), route("marker", "ours")],
    );
    fleet.commit();
    fleet
        .until("the routes are applied", |statuses| {
            statuses["routes"].state == ApplicationState::Synced
        })
        .await;
    let path = |name: &str| {
        format!(
            "/apis/{api_version}/namespaces/{}/routes/{name}",
            fleet.namespace
        )
    };
    let edit = async |name: &str, change: &dyn Fn(&mut Value)| {
        let (_, mut live) = fleet.kube.call(Method::GET, &path(name), None).await;
        change(&mut live);
        let (status, answer) = fleet
            .kube
            .call(
                Method::PUT,
                &format!("{}?fieldManager=harbour", path(name)),
                Some(&live),
            )
            .await;
        assert!(status.is_success(), "{answer}");
    };
    // Another controller adds its own elements in front.
    edit("one", &|live| {
        let rules = live["spec"]["rules"].as_array_mut().unwrap();
        rules.insert(0, json!({"host": "a", "path": "/", "to": "theirs"}));
        let hosts = live["spec"]["hosts"].as_array_mut().unwrap();
        hosts.insert(0, json!("a.example.org"));
    })
    .await;
    edit("marker", &|live| {
        live["spec"]["rules"][1]["to"] = json!("theirs")
    })
    .await;
    fleet
        .until("the drift of the other is reported", |statuses| {
            !statuses["routes"].drifted.is_empty()
        })
        .await;
    let statuses = fleet.statuses();
    let drifted: Vec<String> = statuses["routes"]
        .drifted
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(drifted.len(), 1, "{drifted:#?}");
    assert!(
        drifted[0].contains("/marker: /spec/rules[host=b,path=/two]/to was changed by harbour"),
        "{drifted:#?}"
    );
    assert_eq!(states(&statuses)[0], ("kinds", ApplicationState::Synced));
}
