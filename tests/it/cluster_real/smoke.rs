//! The test server itself: it answers, counts requests, and runs workloads.

use crate::servers::kube::{Kube, Options, call};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// A Deployment of one pod with this image.
pub(super) fn deployment(namespace: &str, name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": image}]},
            },
        },
    })
}

/// Reads a path until the answer is as expected, for at most half a minute; returns the last
/// answer.
pub(super) async fn eventually(kube: &Kube, path: &str, done: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..600 {
        let (_, answer) = kube.call(Method::GET, path, None).await;
        if done(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!(
        "{path} does not become what it should: {:#}",
        kube.call(Method::GET, path, None).await.1
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn deployment_becomes_ready() {
    let kube = Kube::shared();
    let namespace = kube.namespace("smoke").await;
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
    let before = kube.metrics().await;
    let (status, answer) = kube
        .call(
            Method::POST,
            &path,
            Some(&deployment(&namespace, "web", "example.org/web:1")),
        )
        .await;
    assert_eq!(status, 201, "{answer}");
    eventually(kube, &format!("{path}/web"), |web| {
        web["status"]["readyReplicas"] == 1
    })
    .await;
    assert!(
        kube.metrics()
            .await
            .since(&before)
            .of("POST", "deployments")
            >= 1
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn pod_fails_as_its_image_tag_says() {
    let kube = Kube::shared();
    let namespace = kube.namespace("smoke").await;
    for (tag, reason) in [
        ("missing", "ImagePullBackOff"),
        ("crash", "CrashLoopBackOff"),
        ("unschedulable", "Unschedulable"),
    ] {
        let body = deployment(&namespace, tag, &format!("example.org/web:{tag}"));
        let (status, answer) = kube
            .call(
                Method::POST,
                &format!("/apis/apps/v1/namespaces/{namespace}/deployments"),
                Some(&body),
            )
            .await;
        assert_eq!(status, 201, "{answer}");
        let pods = format!("/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{tag}");
        eventually(kube, &pods, |pods| {
            let status = &pods["items"][0]["status"];
            status["containerStatuses"][0]["state"]["waiting"]["reason"] == reason
                || status["conditions"][0]["reason"] == reason
        })
        .await;
    }
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn unknown_user_is_forbidden() {
    let kube = Kube::shared();
    let client = kube.http();
    let path = "/api/v1/namespaces/default/configmaps";
    let (status, answer) = call(
        &client,
        &kube.server,
        &kube.tokens["stranger"],
        Method::GET,
        path,
        None,
    )
    .await;
    assert_eq!(
        (status.as_u16(), &answer["reason"]),
        (403, &json!("Forbidden"))
    );
    let (status, _) = call(&client, &kube.server, "nobody's", Method::GET, path, None).await;
    assert_eq!(status, 401);
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn killed_server_leaves_nothing() {
    let mut kube = Kube::start(Options::default());
    let (client, url) = (kube.http(), format!("{}/readyz", kube.server));
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
    let folder = kube.folder().to_owned();
    kube.kill();
    assert!(client.get(&url).send().await.is_err());
    drop(kube);
    assert!(!folder.exists());
}
