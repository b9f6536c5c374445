//! Watches of an API server that stops answering, in this process.

use reqwest::Method;
use serde_json::json;
use std::{net::SocketAddr, time::Duration};
use tagboat::{
    events::Recorder,
    io::cluster::{ClusterClient, ClusterEvent, ClusterProblem, LivenessLimits, Watches},
    objects::object::Gvk,
    sandbox::kube::{SandboxCluster, SandboxOptions},
    spec::settings,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

const LIMITS: LivenessLimits = LivenessLimits {
    silence: Duration::from_millis(200),
    answer: Duration::from_secs(3),
};

/// Copies bytes unless the server hangs: then connections stay open, and nothing passes.
async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut hangs: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if hangs.wait_for(|hangs| !hangs).await.is_err()
            || to.write_all(&buffer[..read]).await.is_err()
        {
            return;
        }
    }
}

/// A port in front of a server that can be made to hang.
async fn port(server: SocketAddr, hangs: watch::Receiver<bool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(server).await.unwrap();
            let ((from, to), (answers, requests)) = (client.into_split(), server.into_split());
            tokio::spawn(copy(from, requests, hangs.clone()));
            tokio::spawn(copy(answers, to, hangs.clone()));
        }
    });
    address
}

async fn next(events: &mut mpsc::Receiver<ClusterEvent>) -> ClusterEvent {
    let event = tokio::time::timeout(Duration::from_secs(60), events.recv()).await;
    event.expect("an event in time").unwrap()
}

#[tokio::test]
async fn watch_of_a_hung_server_is_trouble() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let sandbox = SandboxCluster::start(SandboxOptions::default())
        .await
        .unwrap();
    let server = sandbox.url();
    let hang = watch::Sender::new(false);
    let address: SocketAddr = server.strip_prefix("http://").unwrap().parse().unwrap();
    let front = format!("http://{}", port(address, hang.subscribe()).await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    let config = sandbox.kubeconfig().replace(&server, &front);
    assert!(config.contains(&front));
    std::fs::write(&file, config).unwrap();
    let declared = settings::ClusterSettings::new("test", Some(file));
    let cluster = ClusterClient::open(&declared, |path| path.to_owned(), &Recorder::default())
        .await
        .unwrap();
    let (sink, mut events) = mpsc::channel(16);
    let kinds = [Gvk::new("v1", "ConfigMap"), Gvk::new("v1", "Secret")];
    let _watches = Watches::start_with(cluster.clone(), kinds, "tagboat.dev/name", sink, LIMITS);
    for _ in 0..2 {
        let event = next(&mut events).await;
        assert!(matches!(event, ClusterEvent::Listed(..)), "{event:?}");
    }

    // A server that answers may be silent as long as it likes.
    let asked = cluster.stats().of("discovery") + 3;
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while cluster.stats().of("discovery") < asked {
        assert!(tokio::time::Instant::now() < end, "{:?}", cluster.stats());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "shop", "labels": {"tagboat.dev/name": "a", "tagboat.dev/namespace": "a"}}});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    for (path, body) in [
        ("/api/v1/namespaces", namespace),
        ("/api/v1/namespaces/shop/configmaps", object),
    ] {
        let request = reqwest::Client::new().request(Method::POST, format!("{server}{path}"));
        let answer = request.json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }
    let event = next(&mut events).await;
    assert!(matches!(event, ClusterEvent::Object(..)), "{event:?}");

    hang.send_replace(true);
    for _ in 0..2 {
        let event = next(&mut events).await;
        let ClusterEvent::Trouble(_, error) = &event else {
            panic!("{event:?}");
        };
        let ClusterProblem::Silent { silence, .. } = *error.problem else {
            panic!("{error}");
        };
        assert!(silence >= LIMITS.silence, "{silence:?}");
    }
    hang.send_replace(false);
    let mut recovered = 0;
    while recovered < 2 {
        let event = next(&mut events).await;
        recovered += usize::from(matches!(event, ClusterEvent::Recovered(_)));
    }
}

#[test]
fn limits_notice_a_hung_server_within_45_s() {
    let LivenessLimits { silence, answer } = LivenessLimits::default();
    assert!(silence + answer <= Duration::from_secs(45));
}
