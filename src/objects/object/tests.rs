//! What makes an object, its words, and its annotations.

use super::*;
use serde_json::json;

fn object(value: Value) -> Object {
    Object::new(value).unwrap()
}

#[test]
fn object_missing_field_is_named() {
    for (value, says) in [
        (json!(null), "it is null, not an object"),
        (json!([]), "it is a list, not an object"),
        (
            json!({"kind": "A", "metadata": {"name": "a"}}),
            "it has no apiVersion",
        ),
        (
            json!({"apiVersion": "v1", "kind": 3, "metadata": {"name": "a"}}),
            "it has no kind",
        ),
        (
            json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": ""}}),
            "it has no metadata.name",
        ),
        (
            json!({"apiVersion": "v1", "kind": "A", "metadata": null}),
            "it has no metadata.name",
        ),
    ] {
        assert_eq!(Object::new(value).unwrap_err().to_string(), says);
    }
}

#[test]
fn key_is_displayed_like_kubectl() {
    for (api, kind, namespace, says) in [
        ("apps/v1", "Deployment", Some("shop"), "Deployment shop/web"),
        ("v1", "Namespace", None, "Namespace web"),
        (
            "networking.k8s.io/v1",
            "Ingress",
            Some("shop"),
            "Ingress shop/web",
        ),
        (
            "cert-manager.io/v1",
            "Issuer",
            Some("shop"),
            "Issuer.cert-manager.io shop/web",
        ),
    ] {
        let mut it = object(json!({"apiVersion": api, "kind": kind, "metadata": {"name": "web"}}));
        it.set_namespace(namespace);
        assert_eq!(it.key().to_string(), says);
        assert_eq!(it.gvk().api_version(), api);
    }
}

#[test]
fn settings_own_prefix_goes_first() {
    let it = object(
        json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "annotations": {
        "kustomize.toolkit.fluxcd.io/prune": "Disabled", "kustomize.toolkit.fluxcd.io/ssa": "Merge", "tagboat.dev/ssa": "IfNotPresent",
        "tagboat.dev/force": "enabled", "tagboat.dev/reconcile": "no"}}}),
    );
    let settings = it.settings();
    assert!(settings.force && !settings.reconcile_disabled);
    assert_eq!(settings.ssa, ApplyMode::IfNotPresent);
}

#[test]
fn set_label_creates_the_map() {
    let mut it =
        object(json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "labels": null}}));
    it.set_label("tagboat.dev/name", "web");
    assert_eq!(it.label("tagboat.dev/name"), Some("web"));
    assert_eq!(
        it.pointer("/metadata/labels/tagboat.dev~1name"),
        Some(&json!("web"))
    );
}

#[test]
fn edit_cannot_remove_kind_or_name() {
    let mut it = object(json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a"}}));
    assert_eq!(
        it.edit(|fields| drop(fields.remove("kind"))),
        Err(ObjectError::Missing("kind"))
    );
    assert_eq!(it.gvk().kind, "A");
}
