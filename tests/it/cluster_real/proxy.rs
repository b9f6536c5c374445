//! The faults of the proxy, and its forwarding to the real server.

use crate::servers::{
    kube::{Kube, call},
    proxy::{Fault, Proxy},
};
use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

const PATH: &str = "/api/v1/namespaces/default/configmaps";

async fn get(
    kube: &Kube,
    client: &reqwest::Client,
    proxy: &Proxy,
) -> Result<reqwest::Response, reqwest::Error> {
    client
        .get(format!("{}{PATH}", proxy.url))
        .bearer_auth(&kube.token)
        .send()
        .await
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn proxy_faults_hit_matching_requests() {
    let kube = Kube::shared();
    let proxy = Proxy::start(kube).await;
    let client = kube.http();
    assert_eq!(
        get(kube, &client, &proxy)
            .await
            .unwrap()
            .json::<Value>()
            .await
            .unwrap()["kind"],
        "ConfigMapList"
    );

    proxy.fault(
        "GET",
        "/configmaps",
        1,
        Fault::Answer {
            status: 429,
            retry_after: Some(2),
        },
    );
    let answer = get(kube, &client, &proxy).await.unwrap();
    assert_eq!(
        (
            answer.status().as_u16(),
            answer.headers()["retry-after"].to_str().unwrap()
        ),
        (429, "2")
    );
    assert_eq!(
        answer.json::<Value>().await.unwrap()["reason"],
        "TooManyRequests"
    );
    // It applies once, and to no other method.
    proxy.fault("PATCH", "/configmaps", 1, Fault::Cut);
    assert_eq!(get(kube, &client, &proxy).await.unwrap().status(), 200);

    proxy.heal();
    proxy.fault("", PATH, 1, Fault::CutAfter(10));
    assert!(
        get(kube, &client, &proxy)
            .await
            .unwrap()
            .bytes()
            .await
            .is_err()
    );

    // The server created it, and the client does not know.
    let namespace = kube.namespace("proxy").await;
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    proxy.fault("POST", "", 2, Fault::CutAnswer);
    let body = json!({"metadata": {"name": "made"}});
    assert!(
        client
            .post(format!("{}{path}", proxy.url))
            .bearer_auth(&kube.token)
            .json(&body)
            .send()
            .await
            .is_err()
    );
    assert_eq!(
        kube.call(Method::GET, &format!("{path}/made"), None)
            .await
            .0,
        200
    );
    assert!(
        proxy
            .seen()
            .iter()
            .any(|seen| seen.method == "POST" && seen.path == path && seen.json() == body)
    );

    proxy.forget();
    proxy.fault("GET", "", 1, Fault::Hang);
    assert!(
        tokio::time::timeout(Duration::from_millis(200), get(kube, &client, &proxy))
            .await
            .is_err()
    );
    assert_eq!(proxy.seen().len(), 1);

    proxy.vanish();
    assert!(get(kube, &client, &proxy).await.is_err());
    proxy.heal();
    proxy.fault("", "", 1, Fault::Delay(Duration::from_millis(1)));
    assert_eq!(get(kube, &client, &proxy).await.unwrap().status(), 200);
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn proxy_cuts_watches() {
    let kube = Kube::shared();
    let proxy = Proxy::start_tls(kube).await;
    let roots =
        reqwest::Certificate::from_pem_bundle(&std::fs::read(proxy.ca.as_ref().unwrap()).unwrap())
            .unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only(roots)
        .no_proxy()
        .build()
        .unwrap();
    let namespace = kube.namespace("proxy").await;
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let (status, _) = call(
        &client,
        &proxy.url,
        &kube.token,
        Method::POST,
        &path,
        Some(&json!({"metadata": {"name": "one"}})),
    )
    .await;
    assert_eq!(status, 201);
    let watch = || async {
        let answer = client
            .get(format!(
                "{}{path}?watch=true&fieldSelector=metadata.name%3Done",
                proxy.url
            ))
            .bearer_auth(&kube.token)
            .send()
            .await
            .unwrap();
        let mut events = answer.bytes_stream();
        // The first event: the watch is open.
        (
            serde_json::from_slice::<Value>(&events.next().await.unwrap().unwrap()).unwrap(),
            events,
        )
    };
    let (first, mut events) = watch().await;
    assert_eq!(first["type"], "ADDED");
    proxy.cut_watches();
    assert!(events.next().await.unwrap().is_err());

    let (_, mut events) = watch().await;
    proxy.expire_watches();
    let last: Value = serde_json::from_slice(&events.next().await.unwrap().unwrap()).unwrap();
    assert_eq!(
        (&last["type"], &last["object"]["code"]),
        (&json!("ERROR"), &json!(410))
    );
    assert!(events.next().await.is_none());

    proxy.fault("GET", "watch=true", 1, Fault::WatchExpired);
    assert_eq!(watch().await.0["type"], "ERROR");
    assert!(proxy.seen().iter().filter(|seen| seen.is_watch()).count() == 3);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn proxy_serves_kubectl() {
    let kube = Kube::shared();
    let proxy = Proxy::start_tls(kube).await;
    let config = kube.kubeconfig_for("stranger", &proxy.url, proxy.ca.as_deref());
    let output = kube.kubectl(&[
        "--kubeconfig",
        config.to_str().unwrap(),
        "get",
        "--raw",
        "/version",
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(proxy.seen()[0].path, "/version");
}
