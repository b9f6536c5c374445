//! The cluster client against responses that no real API server gives. `cluster_real` covers those
//! of a real one.

use super::support::cluster::kubeconfig;
use serde_json::json;
use std::path::Path;
use tagboat::{
    core::error::{Classify, ErrorKind},
    events::Recorder,
    io::cluster::{ClusterClient, ClusterProblem, RequestIdentity, Resource},
    objects::object::Gvk,
    spec::settings,
};
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{any, path},
};

const OWN: RequestIdentity = RequestIdentity::Own;

async fn open(server: &str, cluster: &serde_json::Value) -> (ClusterClient, tempfile::TempDir) {
    open_as(
        server,
        cluster,
        &json!({"token": "s3cr3t"}),
        tempfile::tempdir().unwrap(),
    )
    .await
}

async fn open_as(
    server: &str,
    cluster: &serde_json::Value,
    user: &serde_json::Value,
    folder: tempfile::TempDir,
) -> (ClusterClient, tempfile::TempDir) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let file = folder.path().join("kubeconfig");
    let mut named = cluster.clone();
    named["server"] = server.into();
    let config = kubeconfig(&named, user);
    std::fs::write(&file, config.to_string()).unwrap();
    let declared = settings::ClusterSettings::new("test", Some("kubeconfig".into()));
    (
        ClusterClient::open(
            &declared,
            |path: &Path| folder.path().join(path),
            &Recorder::default(),
        )
        .await
        .unwrap(),
        folder,
    )
}

fn maps() -> Resource {
    Resource {
        gvk: Gvk::new("v1", "ConfigMap"),
        plural: "configmaps".to_owned(),
        namespaced: true,
        verbs: Default::default(),
        has_status: false,
    }
}

#[tokio::test]
async fn cluster_malformed_response_is_an_error() {
    for (answer, says) in [
        (
            ResponseTemplate::new(200).set_body_string("<html>sign in</html>"),
            "no such JSON",
        ),
        (
            ResponseTemplate::new(200).set_body_string(""),
            "no such JSON",
        ),
        (
            ResponseTemplate::new(200).set_body_json(json!({"kind": "ConfigMap"})),
            "it has no apiVersion",
        ),
        (
            ResponseTemplate::new(302).insert_header("location", "http://127.0.0.1:1/"),
            "status 302",
        ),
        (
            ResponseTemplate::new(418).set_body_string("tea\u{1b}[31m"),
            "status 418: tea[31m",
        ),
        (
            ResponseTemplate::new(401).set_body_string("<html>no</html>"),
            "does not accept the credentials of user u",
        ),
    ] {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(answer).mount(&server).await;
        let (cluster, _folder) = open(&server.uri(), &json!({})).await;
        let error = cluster
            .get(&OWN, &maps(), &maps().key(Some("shop"), "one"))
            .await
            .unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(!format!("{error} {error:?} {cluster:?}").contains("s3cr3t"));
        assert_ne!(error.kind(), ErrorKind::Bug);
        // A malformed list is no empty list.
        assert!(cluster.list(&OWN, &maps(), None, None).await.is_err());
        assert!(
            cluster.records().await.is_err(),
            "unknown is not the same as empty"
        );
        assert!(cluster.resources().await.is_err());
    }
}

#[tokio::test]
async fn cluster_expired_page_restarts_the_list() {
    let server = MockServer::start().await;
    let page = |name: &str, next: &str| json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "1", "continue": next}, "items": [{"metadata": {"name": name}}]});
    let received = std::sync::atomic::AtomicUsize::new(0);
    Mock::given(path("/api/v1/configmaps"))
        .respond_with(move |request: &Request| {
            let query = request.url.query().unwrap_or_default();
            let times = received.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            match query.contains("continue=next") {
                false => ResponseTemplate::new(200).set_body_json(page("first", "next")),
                true if times == 1 => ResponseTemplate::new(410)
                    .set_body_json(json!({"kind": "Status", "code": 410, "message": "expired"})),
                true => ResponseTemplate::new(200).set_body_json(page("second", "")),
            }
        })
        .mount(&server)
        .await;
    let (cluster, _folder) = open(&server.uri(), &json!({})).await;
    let found = cluster
        .list(&OWN, &maps(), None, Some("a=b"))
        .await
        .unwrap();
    assert_eq!(
        found.iter().map(|object| object.name()).collect::<Vec<_>>(),
        ["first", "second"]
    );
    assert_eq!(
        found[0].gvk(),
        Gvk::new("v1", "ConfigMap"),
        "items carry no kind of their own"
    );
}

#[tokio::test]
async fn cluster_url_path_is_kept_and_token_sent() {
    let server = MockServer::start().await;
    Mock::given(path("/k8s/clusters/one/version"))
        .and(wiremock::matchers::header("authorization", "Bearer s3cr3t"))
        .respond_with(
            ResponseTemplate::new(200).set_body_json(
                json!({"major": "1", "minor": "33+", "gitVersion": "v1.33.1-gke.1"}),
            ),
        )
        .mount(&server)
        .await;
    let (cluster, _folder) = open(&format!("{}/k8s/clusters/one", server.uri()), &json!({})).await;
    assert_eq!(cluster.version().await.unwrap().minor, 33);
}

#[tokio::test]
async fn cluster_stays_when_kubeconfig_changes() {
    let [ours, other] = [MockServer::start().await, MockServer::start().await];
    let answer = || {
        ResponseTemplate::new(200)
            .set_body_json(json!({"major": "1", "minor": "33", "gitVersion": "v1.33.1"}))
    };
    Mock::given(any()).respond_with(answer()).mount(&ours).await;
    Mock::given(any())
        .respond_with(answer())
        .mount(&other)
        .await;
    let (cluster, folder) = open(&ours.uri(), &json!({})).await;
    let file = folder.path().join("kubeconfig");
    let written = std::fs::read_to_string(&file).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&written).unwrap();
    // `kubectl config use-context` by a user who shares the file.
    config["clusters"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "o", "cluster": {"server": other.uri()}}));
    config["contexts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "other", "context": {"cluster": "o", "user": "u"}}));
    config["current-context"] = "other".into();
    std::fs::write(&file, config.to_string()).unwrap();
    cluster.version().await.unwrap();
    // The same context with another server: it may be another cluster.
    let (cluster, folder) = open(&ours.uri(), &json!({})).await;
    std::fs::write(
        folder.path().join("kubeconfig"),
        written.replace(&ours.uri(), &other.uri()),
    )
    .unwrap();
    let error = cluster.version().await.unwrap_err();
    assert!(
        error.to_string().contains(&other.uri()) && error.to_string().contains("restart tagboat"),
        "{error}"
    );
    assert_eq!(other.received_requests().await.unwrap().len(), 0);
}

/// A proxy that accepts CONNECT: records the request, and connects.
async fn tunnel() -> (String, tokio::sync::mpsc::Receiver<String>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (send, received) = tokio::sync::mpsc::channel(10);
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
            tokio::spawn(
                async move { tokio::io::copy_bidirectional(&mut stream, &mut server).await },
            );
        }
    });
    (address, received)
}

#[tokio::test]
async fn cluster_kubeconfig_proxy_with_password_is_used() {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(200)
        .set_body_json(json!({"major": "1", "minor": "33", "gitVersion": "v1.33.1"}));
    Mock::given(path("/version"))
        .respond_with(answer)
        .mount(&server)
        .await;
    let (address, mut received) = tunnel().await;
    let (cluster, _folder) = open(
        &server.uri(),
        &json!({"proxy-url": format!("http://me:p%40ss@{address}")}),
    )
    .await;
    assert_eq!(cluster.version().await.unwrap().text, "v1.33.1");
    let head = received.recv().await.unwrap().to_lowercase();
    assert!(
        head.starts_with(&format!("connect {} ", server.address())),
        "{head}"
    );
    // "me:p@ss"
    assert!(
        head.contains("proxy-authorization: basic bwu6cebzcw=="),
        "{head}"
    );

    let (cluster, _folder) = open(&server.uri(), &json!({"proxy-url": "ftp://127.0.0.1:1"})).await;
    let error = cluster.version().await.unwrap_err();
    assert!(
        matches!(&*error.problem, ClusterProblem::Kubeconfig { why, .. } if why.contains("ftp") || why.contains("proxy")),
        "{error}"
    );
}

/// An API server that requires client certificates: it serves only its version, and records the
/// client's name.
async fn with_client_certificates(
    accepted: &[&rcgen::Certificate],
) -> (String, String, tokio::sync::mpsc::Receiver<Vec<u8>>) {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let _ = rustls::crypto::ring::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    for certificate in accepted {
        roots.add(certificate.der().clone()).unwrap();
    }
    let config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(
            rustls::server::WebPkiClientVerifier::builder(roots.into())
                .build()
                .unwrap(),
        )
        .with_single_cert(
            vec![CertificateDer::from(made.cert.der().to_vec())],
            PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (send, received) = tokio::sync::mpsc::channel(100);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let peer = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            send.send(peer).await.unwrap();
            let body = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"one"}}"#;
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    (format!("https://{address}"), made.cert.pem(), received)
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_exec_certificate_is_renewed_early() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use std::os::unix::fs::PermissionsExt;
    let made = ["first", "second"]
        .map(|name| rcgen::generate_simple_self_signed(vec![format!("{name}.example")]).unwrap());
    let (server, ca, mut received) =
        with_client_certificates(&[&made[0].cert, &made[1].cert]).await;
    let folder = tempfile::tempdir().unwrap();
    let given = folder.path().join("credential");
    let give = |certificate: &rcgen::CertifiedKey<rcgen::KeyPair>, life: i64| {
        let expires = jiff::Timestamp::now()
            .checked_add(jiff::SignedDuration::from_secs(life))
            .unwrap();
        let status = json!({
            "expirationTimestamp": expires.to_string(),
            "clientCertificateData": certificate.cert.pem(), "clientKeyData": certificate.signing_key.serialize_pem(),
        });
        let credential = json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status});
        std::fs::write(&given, credential.to_string()).unwrap();
    };
    give(&made[0], 5);
    let program = folder.path().join("program.sh");
    std::fs::write(
        &program,
        format!("#!/bin/sh\nexec cat {}\n", given.display()),
    )
    .unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let user = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./program.sh"}});
    let (cluster, _folder) = open_as(
        &server,
        &json!({"certificate-authority-data": STANDARD.encode(ca)}),
        &user,
        folder,
    )
    .await;
    let mut ask = async || {
        cluster
            .get(&OWN, &maps(), &maps().key(Some("shop"), "one"))
            .await
            .unwrap()
            .unwrap();
        received.recv().await.unwrap()
    };
    assert_eq!(ask().await, made[0].cert.der().to_vec());
    // The program fails when it is called again: the certificate stays in use while it is valid.
    std::fs::remove_file(&given).unwrap();
    let renewal = std::time::Instant::now() + std::time::Duration::from_millis(4500);
    while std::time::Instant::now() < renewal {
        assert_eq!(ask().await, made[0].cert.der().to_vec());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    give(&made[1], 3600);
    let mut renewed = false;
    for _ in 0..100 {
        renewed = ask().await == made[1].cert.der().to_vec();
        if renewed {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(renewed, "the new certificate is never used");
}
