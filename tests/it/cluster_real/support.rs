//! Fixtures of the tests with a real cluster.

use crate::servers::kube::{Kube, Options};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};
use tagboat::{
    events::Recorder,
    io::cluster::{ClusterClient, ClusterError, ClusterProblem},
    objects::object::{Gvk, Object},
    spec::settings,
};

/// The cluster's settings, as from `tagboat.yaml`.
pub(super) fn declared(kubeconfig: &Path) -> settings::ClusterSettings {
    settings::ClusterSettings::new("test", Some(kubeconfig.to_owned()))
}

pub(super) async fn open_as(
    declared: &settings::ClusterSettings,
) -> Result<ClusterClient, ClusterError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    ClusterClient::open(declared, Path::to_path_buf, &Recorder::default()).await
}

pub(super) async fn open(kubeconfig: &Path) -> ClusterClient {
    open_as(&declared(kubeconfig)).await.unwrap()
}

/// The shared server as its administrator, and a new namespace.
pub(super) async fn shared(prefix: &str) -> (&'static Kube, ClusterClient, String) {
    let kube = Kube::shared();
    (
        kube,
        open(&kube.kubeconfig).await,
        kube.namespace(prefix).await,
    )
}

/// A server without controllers, shared by tests of kinds and rights.
pub(super) fn bare() -> &'static Kube {
    static BARE: OnceLock<Kube> = OnceLock::new();
    BARE.get_or_init(|| Kube::start(Options::default()))
}

pub(super) fn object(value: Value) -> Object {
    Object::new(value).unwrap()
}

pub(super) fn config_map(namespace: &str, name: &str, data: Value) -> Object {
    let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}});
    map["data"] = data;
    object(map)
}

pub(super) fn deployment(namespace: &str, name: &str) -> Object {
    object(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "example.org/web:1"}]},
            },
        },
    }))
}

/// A definition of `Boat`s in this group.
pub(super) fn definition(group: &str) -> Object {
    object(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("boats.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"plural": "boats", "singular": "boat", "kind": "Boat"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object",
                "properties": {"spec": {"type": "object", "properties": {"masts": {"type": "integer", "maximum": 5}}}},
            }}}],
        },
    }))
}

pub(super) fn boat(group: &str) -> Gvk {
    Gvk::new(&format!("{group}/v1"), "Boat")
}

/// Writes as another manager, by server-side apply with force.
pub(super) async fn written_by(kube: &Kube, manager: &str, path: &str, body: &Value) -> Value {
    let (status, answer) = kube
        .call(
            Method::PATCH,
            &format!("{path}?fieldManager={manager}&force=true"),
            Some(body),
        )
        .await;
    assert!(status.is_success(), "{answer}");
    answer
}

/// The problem of an error, for matching.
pub(super) fn problem<T: std::fmt::Debug>(result: Result<T, ClusterError>) -> ClusterProblem {
    *result.unwrap_err().problem
}

/// Waits for a condition, for at most half a minute.
pub(super) async fn until(what: &str, done: impl AsyncFn() -> bool) {
    for _ in 0..600 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within 30 s: {what}");
}

/// Writes a file beside the server's files.
pub(super) fn file(kube: &Kube, name: &str, text: &str) -> PathBuf {
    let path = kube.folder().join(name);
    std::fs::write(&path, text).unwrap();
    path
}
