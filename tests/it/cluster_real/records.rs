//! Records of Applications: one or many ConfigMaps, written by one holder at a time.

use super::support::*;
use crate::servers::proxy::{Fault, Proxy};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tagboat::{
    core::{
        error::{Classify as _, ErrorKind},
        name::Name,
    },
    io::cluster::{ApplicationRecord, ClusterClient, ClusterProblem},
    spec::settings,
};

fn record(namespace: &str, name: &str, text: &str) -> ApplicationRecord {
    ApplicationRecord::new(
        Name::new(namespace, name).unwrap(),
        BTreeMap::from([("inventory.json".to_owned(), text.to_owned())]),
    )
}

async fn read(cluster: &ClusterClient) -> Vec<ApplicationRecord> {
    cluster.records().await.unwrap()
}

/// Opens a cluster whose records are in this namespace.
async fn open_in(kubeconfig: &std::path::Path, namespace: &str) -> ClusterClient {
    let settings = settings::ClusterSettings {
        namespace: namespace.to_owned(),
        ..declared(kubeconfig)
    };
    open_as(&settings).await.unwrap()
}

fn large(letter: &str) -> String {
    letter.repeat(1200 << 10)
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn record_is_saved_and_read_back() {
    let kube = bare();
    let namespace = format!("{}-new", kube.namespace("records").await);
    let cluster = open_in(&kube.kubeconfig, &namespace).await;
    let mut web = record(&namespace, "web", "[\"ä\"]");
    web.data.insert("history.json".to_owned(), "[]".to_owned());
    // A missing namespace is created.
    cluster.save(&mut web, "us").await.unwrap();
    let mut other = record(&namespace, "other", "");
    cluster.save(&mut other, "us").await.unwrap();
    assert_eq!(read(&cluster).await, [other.clone(), web.clone()]);
    let (_, map) = kube
        .call(
            Method::GET,
            &format!("/api/v1/namespaces/{namespace}/configmaps/tagboat-record.{namespace}.web"),
            None,
        )
        .await;
    assert_eq!(
        map["data"]["inventory.json"], "[\"ä\"]",
        "plain text for kubectl"
    );

    web.data
        .insert("inventory.json".to_owned(), "[1]".to_owned());
    let before = cluster.stats().without_watches();
    cluster.save(&mut web, "us").await.unwrap();
    assert_eq!(
        cluster.stats().without_watches() - before,
        1,
        "a save is one request"
    );
    let before = cluster.stats().without_watches();
    assert_eq!(read(&cluster).await[1], web);
    assert_eq!(
        cluster.stats().without_watches() - before,
        1,
        "all records are one request"
    );
    cluster.remove(&web).await.unwrap();
    cluster.remove(&web).await.unwrap();
    assert_eq!(read(&cluster).await, [other]);
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn record_second_holder_is_named() {
    let kube = bare();
    let namespace = kube.namespace("records").await;
    let cluster = open_in(&kube.kubeconfig, &namespace).await;
    let mut ours = record(&namespace, "web", "1");
    let mut theirs = ours.clone();
    cluster
        .save(&mut theirs, "tagboat on ship-2")
        .await
        .unwrap();
    let error = cluster.save(&mut ours, "us").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("tagboat on ship-2"), "{error}");
    let mut ours = read(&cluster).await.remove(0);
    theirs
        .data
        .insert("history.json".to_owned(), "[]".to_owned());
    cluster
        .save(&mut theirs, "tagboat on ship-2")
        .await
        .unwrap();
    assert!(
        matches!(*cluster.save(&mut ours, "us").await.unwrap_err().problem, ClusterProblem::Conflict { message, .. } if message.contains("ship-2"))
    );
    cluster.remove(&theirs).await.unwrap();
    assert!(
        matches!(*cluster.save(&mut ours, "us").await.unwrap_err().problem, ClusterProblem::Conflict { message, .. } if message.contains("removed"))
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn record_lost_response_is_no_conflict() {
    let kube = bare();
    let proxy = Proxy::start(kube).await;
    let namespace = kube.namespace("records").await;
    let cluster = open_in(&kube.kubeconfig_for("admin", &proxy.url, None), &namespace).await;
    let mut web = record(&namespace, "web", "1");
    for (method, text) in [("POST", "1"), ("PUT", "2")] {
        web.data
            .insert("inventory.json".to_owned(), text.to_owned());
        proxy.fault(method, "/configmaps", 1, Fault::CutAnswer);
        cluster.save(&mut web, "us").await.unwrap();
        assert_eq!(read(&cluster).await, [web.clone()]);
    }
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn record_large_is_split_and_joined() {
    let kube = bare();
    let namespace = kube.namespace("records").await;
    let cluster = open_in(&kube.kubeconfig, &namespace).await;
    let path =
        format!("/api/v1/namespaces/{namespace}/configmaps?labelSelector=tagboat.dev/record");
    let maps = async || {
        kube.call(Method::GET, &path, None).await.1["items"]
            .as_array()
            .unwrap()
            .len()
    };
    let mut web = record(&namespace, "web", &large("a"));
    cluster.save(&mut web, "us").await.unwrap();
    assert_eq!(maps().await, 3, "a head and two parts");
    let mut read_back = read(&cluster).await.remove(0);
    assert_eq!((&read_back, read_back.damaged.as_ref()), (&web, None));
    read_back
        .data
        .insert("inventory.json".to_owned(), large("b"));
    cluster.save(&mut read_back, "us").await.unwrap();
    assert_eq!(
        (maps().await, read(&cluster).await),
        (3, vec![read_back.clone()])
    );
    // A removed part.
    let listed = kube.call(Method::GET, &path, None).await.1;
    let part = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|map| map["metadata"]["name"].as_str().unwrap())
        .find(|name| name.contains("-part.") && name.contains(".2."));
    let part = format!(
        "/api/v1/namespaces/{namespace}/configmaps/{}",
        part.unwrap()
    );
    assert_eq!(kube.call(Method::DELETE, &part, None).await.0, 200);
    assert!(
        read(&cluster).await[0]
            .damaged
            .as_ref()
            .unwrap()
            .contains("is missing")
    );
    read_back
        .data
        .insert("inventory.json".to_owned(), "small".to_owned());
    cluster.save(&mut read_back, "us").await.unwrap();
    assert_eq!((maps().await, read(&cluster).await), (1, vec![read_back]));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn record_killed_save_leaves_a_whole_record() {
    let kube = bare();
    let proxy = Proxy::start(kube).await;
    let namespace = kube.namespace("records").await;
    let dying = open_in(&kube.kubeconfig_for("admin", &proxy.url, None), &namespace).await;
    let cluster = open_in(&kube.kubeconfig, &namespace).await;
    let (old, new) = (large("o"), large("n"));
    let mut finished = false;
    for alive in 0..12 {
        let mut before = record(&namespace, &format!("web-{alive}"), &old);
        cluster.save(&mut before, "us").await.unwrap();
        let mut changed = before.clone();
        changed
            .data
            .insert("inventory.json".to_owned(), new.clone());
        // After this many requests the process is cut off from the server.
        proxy.heal();
        proxy.fault(
            "",
            "/configmaps",
            alive,
            Fault::Delay(std::time::Duration::ZERO),
        );
        proxy.fault(
            "",
            "",
            usize::MAX,
            Fault::Answer {
                status: 403,
                retry_after: None,
            },
        );
        let saved = dying.save(&mut changed, "us").await;
        let mut found = read(&cluster).await;
        found.retain(|record| record.application == before.application);
        assert_eq!(found.len(), 1);
        let mut found = found.remove(0);
        assert_eq!(found.damaged, None, "after {alive} requests");
        assert!(
            found.data["inventory.json"] == old
                || (found.data["inventory.json"] == new && saved.is_ok()),
            "after {alive} requests"
        );
        finished |= saved.is_ok() && found.leftovers.is_empty();
        // The next save leaves nothing behind.
        found
            .data
            .insert("inventory.json".to_owned(), "[]".to_owned());
        cluster.save(&mut found, "us").await.unwrap();
        let path =
            format!("/api/v1/namespaces/{namespace}/configmaps?labelSelector=tagboat.dev/record");
        let maps: Vec<Value> = kube.call(Method::GET, &path, None).await.1["items"]
            .as_array()
            .unwrap()
            .clone();
        let ours = maps.iter().filter(|map| {
            map["metadata"]["annotations"]["tagboat.dev/application"]
                == json!(found.application.to_string())
        });
        assert_eq!(ours.count(), 1, "after {alive} requests");
        cluster.remove(&found).await.unwrap();
        if finished {
            return;
        }
    }
    panic!("no save ever finished");
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn record_namespace_that_is_missing_is_explained() {
    let kube = bare();
    let namespace = format!("{}-missing", kube.namespace("records").await);
    let user = "recorder";
    let rights = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": {"name": user}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}]});
    let binding = json!({"metadata": {"name": user}, "subjects": [{"kind": "User", "name": user}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user}});
    for (plural, body) in [("clusterroles", role), ("clusterrolebindings", binding)] {
        let (status, answer) = kube
            .call(Method::POST, &format!("{rights}/{plural}"), Some(&body))
            .await;
        assert_eq!(status, 201, "{answer}");
    }
    let kubeconfig = kube.kubeconfig_for(user, &kube.server, Some(&kube.ca));
    let cluster = open_in(&kubeconfig, &namespace).await;
    // Until the server knows the rights.
    let records = async || cluster.records().await.is_ok();
    until("the account may list records", records).await;
    let mut web = record("shop", "web", "1");
    let error = cluster.save(&mut web, "us").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let message = error.to_string();
    assert!(
        message.contains(&format!("cannot create namespace {namespace}"))
            && message.contains("may not create namespaces"),
        "{message}"
    );
    let hint = error.hint().unwrap();
    assert!(
        hint.contains(&format!("kubectl create namespace {namespace}"))
            && hint.contains("clusters[].namespace"),
        "{hint}"
    );
}

/// Creates large ConfigMaps with the label of records.
async fn fill(kube: &crate::servers::kube::Kube, namespace: &str, count: usize) {
    use futures::StreamExt as _;
    let text = "x".repeat(1000 << 10);
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let mut created = futures::stream::iter(0..count)
        .map(|number| {
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"inventory.json": text}, "metadata": {
                "name": format!("tagboat-record.shop.n{number:03}"),
                "labels": {"tagboat.dev/record": "v1"},
                "annotations": {"tagboat.dev/application": format!("shop/n{number:03}"), "tagboat.dev/digest": "0"},
            }});
            let path = &path;
            async move { kube.call(Method::POST, path, Some(&map)).await }
        })
        .buffer_unordered(4);
    while let Some((status, answer)) = created.next().await {
        assert_eq!(status, 201, "{answer}");
    }
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn records_of_other_namespaces_cost_nothing() {
    let kube = bare();
    let namespace = kube.namespace("records").await;
    fill(kube, &kube.namespace("tenant").await, 300).await;
    let cluster = open_in(&kube.kubeconfig, &namespace).await;
    let mut web = record("shop", "web", "1");
    cluster.save(&mut web, "us").await.unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(read(&cluster).await, [web]);
    assert_eq!(cluster.stats().of("list"), 1, "one small page");
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn records_that_are_large_come_in_small_pages() {
    let kube = bare();
    let namespace = kube.namespace("records").await;
    fill(kube, &namespace, 40).await;
    let cluster = open_in(&kube.kubeconfig, &namespace).await;
    let mut web = record("shop", "web", "1");
    cluster.save(&mut web, "us").await.unwrap();
    let before = cluster.stats();
    let found = read(&cluster).await;
    assert_eq!(found.len(), 41);
    // 500 and 62 objects are more than a page may hold; 7 are not.
    assert_eq!(cluster.stats().since(&before).of("list"), 2 + 6);
    let damaged = found.iter().filter(|record| record.damaged.is_some());
    assert_eq!(damaged.count(), 40, "their digest does not match");
    assert!(found.contains(&web), "the others do not stop it");
}
