//! The cluster room against answers that no real API server gives. What a real one does is proved in `cluster_real`.

use serde_json::json;
use std::path::Path;
use tagboat::{
    cluster::{Cluster, Identity, Problem, Resource},
    declare::process,
    error::{Fault, Kind},
    object::Gvk,
};
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{any, path},
};

const OWN: Identity = Identity::Own;

async fn open(server: &str, cluster: &serde_json::Value) -> (Cluster, tempfile::TempDir) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    let mut named = cluster.clone();
    named["server"] = server.into();
    let config = json!({
        "clusters": [{"name": "c", "cluster": named}],
        "users": [{"name": "u", "user": {"token": "s3cr3t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    });
    std::fs::write(&file, config.to_string()).unwrap();
    let declared = process::Cluster {
        name: "test".to_owned(),
        kubeconfig: Some("kubeconfig".into()),
        context: None,
        repositories: Vec::new(),
        requests_per_second: None,
        concurrency: 4,
        take_over: Vec::new(),
    };
    (Cluster::open(&declared, |path: &Path| folder.path().join(path)).await.unwrap(), folder)
}

fn maps() -> Resource {
    Resource { gvk: Gvk::new("v1", "ConfigMap"), plural: "configmaps".to_owned(), namespaced: true, verbs: Default::default() }
}

#[tokio::test]
async fn answers_that_make_no_sense_are_named_and_nothing_is_taken_from_them() {
    for (answer, says) in [
        (ResponseTemplate::new(200).set_body_string("<html>sign in</html>"), "no such JSON"),
        (ResponseTemplate::new(200).set_body_string(""), "no such JSON"),
        (ResponseTemplate::new(200).set_body_json(json!({"kind": "ConfigMap"})), "it has no apiVersion"),
        (ResponseTemplate::new(302).insert_header("location", "http://127.0.0.1:1/"), "status 302"),
        (ResponseTemplate::new(418).set_body_string("tea\u{1b}[31m"), "status 418: tea[31m"),
        (ResponseTemplate::new(401).set_body_string("<html>no</html>"), "does not accept the credentials of user u"),
    ] {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(answer).mount(&server).await;
        let (cluster, _folder) = open(&server.uri(), &json!({})).await;
        let error = cluster.get(&OWN, &maps(), &maps().key(Some("shop"), "one")).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(!format!("{error} {error:?} {cluster:?}").contains("s3cr3t"));
        assert_ne!(error.kind(), Kind::Bug);
        // A list of them is no empty list.
        assert!(cluster.list(&OWN, &maps(), None, None).await.is_err());
        assert!(cluster.records().await.is_err(), "nothing is known, not: there is nothing");
        assert!(cluster.resources().await.is_err());
    }
}

#[tokio::test]
async fn pages_that_expire_are_read_once_more_from_the_start() {
    let server = MockServer::start().await;
    let page = |name: &str, next: &str| json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "1", "continue": next}, "items": [{"metadata": {"name": name}}]});
    let asked = std::sync::atomic::AtomicUsize::new(0);
    Mock::given(path("/api/v1/configmaps"))
        .respond_with(move |request: &Request| {
            let query = request.url.query().unwrap_or_default();
            let times = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            match query.contains("continue=next") {
                false => ResponseTemplate::new(200).set_body_json(page("first", "next")),
                true if times == 1 => {
                    ResponseTemplate::new(410).set_body_json(json!({"kind": "Status", "code": 410, "message": "expired"}))
                }
                true => ResponseTemplate::new(200).set_body_json(page("second", "")),
            }
        })
        .mount(&server)
        .await;
    let (cluster, _folder) = open(&server.uri(), &json!({})).await;
    let found = cluster.list(&OWN, &maps(), None, Some("a=b")).await.unwrap();
    assert_eq!(found.iter().map(|object| object.name()).collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(found[0].gvk(), Gvk::new("v1", "ConfigMap"), "items carry no kind of their own");
}

#[tokio::test]
async fn the_path_of_a_server_behind_a_gateway_is_kept_and_the_token_is_sent() {
    let server = MockServer::start().await;
    Mock::given(path("/k8s/clusters/one/version"))
        .and(wiremock::matchers::header("authorization", "Bearer s3cr3t"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"major": "1", "minor": "33+", "gitVersion": "v1.33.1-gke.1"})))
        .mount(&server)
        .await;
    let (cluster, _folder) = open(&format!("{}/k8s/clusters/one", server.uri()), &json!({})).await;
    assert_eq!(cluster.version().await.unwrap().minor, 33);
}

/// A proxy that answers CONNECT: tells what it was asked, and connects.
async fn tunnel() -> (String, tokio::sync::mpsc::Receiver<String>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (send, asked) = tokio::sync::mpsc::channel(10);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let target = head.split_whitespace().nth(1).unwrap().to_owned();
            send.send(head).await.unwrap();
            let mut server = tokio::net::TcpStream::connect(target).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut server).await });
        }
    });
    (address, asked)
}

#[tokio::test]
async fn the_proxy_of_a_kubeconfig_is_used_with_its_password() {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(200).set_body_json(json!({"major": "1", "minor": "33", "gitVersion": "v1.33.1"}));
    Mock::given(path("/version")).respond_with(answer).mount(&server).await;
    let (address, mut asked) = tunnel().await;
    let (cluster, _folder) = open(&server.uri(), &json!({"proxy-url": format!("http://me:p%40ss@{address}")})).await;
    assert_eq!(cluster.version().await.unwrap().text, "v1.33.1");
    let head = asked.recv().await.unwrap().to_lowercase();
    assert!(head.starts_with(&format!("connect {} ", server.address())), "{head}");
    // "me:p@ss"
    assert!(head.contains("proxy-authorization: basic bwu6cebzcw=="), "{head}");

    let (cluster, _folder) = open(&server.uri(), &json!({"proxy-url": "ftp://127.0.0.1:1"})).await;
    let error = cluster.version().await.unwrap_err();
    assert!(matches!(&*error.problem, Problem::Kubeconfig { why, .. } if why.contains("ftp") || why.contains("proxy")), "{error}");
}
