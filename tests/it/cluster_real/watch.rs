//! Watches: every change is seen once, nothing is lost during an outage, and nothing is sent while
//! nothing changes.

use super::support::*;
use crate::servers::{
    kube::{Kube, Options},
    proxy::{Fault, Proxy},
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};
use tagboat::{
    core::error::Classify as _,
    io::cluster::{
        ApplyRequest, ClusterClient, ClusterEvent, ClusterProblem, RequestIdentity, WatchScope,
        Watches,
    },
    objects::object::{Gvk, Object},
};
use tokio::sync::mpsc;

const OWN: RequestIdentity = RequestIdentity::Own;

/// A ConfigMap with the label that the watch selects.
fn owned(namespace: &str, name: &str, data: Value) -> Object {
    let mut object = config_map(namespace, name, data);
    object.set_label("tagboat.dev/name", "test");
    object
}

fn maps() -> Gvk {
    Gvk::new("v1", "ConfigMap")
}

struct Watched {
    events: mpsc::Receiver<ClusterEvent>,
    watches: Watches,
}

impl Watched {
    fn start(cluster: &ClusterClient, kinds: &[Gvk]) -> Self {
        let (sink, events) = mpsc::channel(4);
        Self {
            watches: Watches::start(cluster.clone(), kinds.to_vec(), "tagboat.dev/name", sink),
            events,
        }
    }

    async fn next(&mut self) -> ClusterEvent {
        tokio::time::timeout(Duration::from_secs(120), self.events.recv())
            .await
            .expect("an event within 30 s")
            .unwrap()
    }

    /// The events until one matches.
    async fn until(
        &mut self,
        what: &str,
        found: impl Fn(&ClusterEvent) -> bool,
    ) -> Vec<ClusterEvent> {
        let mut seen = Vec::new();
        let end = tokio::time::Instant::now() + Duration::from_secs(120);
        loop {
            match tokio::time::timeout_at(end, self.events.recv()).await {
                Ok(Some(event)) => seen.push(event),
                other => panic!("{what} was not seen ({other:?}), but {seen:#?}"),
            }
            if seen.last().is_some_and(&found) {
                return seen;
            }
        }
    }

    /// All names of a list.
    async fn listed(&mut self) -> BTreeSet<String> {
        let seen = self
            .until("a list", |seen| matches!(seen, ClusterEvent::Listed(..)))
            .await;
        match seen.last() {
            Some(ClusterEvent::Listed(_, keys)) => {
                keys.iter().map(|key| key.name.clone()).collect()
            }
            _ => unreachable!("until returns the matching event last"),
        }
    }
}

fn is_object(name: &str, value: &str) -> impl Fn(&ClusterEvent) -> bool {
    move |seen| matches!(seen, ClusterEvent::Object(_, object) if object.name() == name && object.pointer("/data/a") == Some(&json!(value)))
}

fn is_gone(name: &str) -> impl Fn(&ClusterEvent) -> bool {
    move |seen| matches!(seen, ClusterEvent::Gone(_, key, uid) if key.name == name && !uid.is_empty())
}

async fn apply(cluster: &ClusterClient, object: &Object) {
    cluster
        .apply(&OWN, object, &ApplyRequest::default())
        .await
        .unwrap();
}

async fn delete(kube: &Kube, namespace: &str, name: &str) {
    assert_eq!(
        kube.call(
            Method::DELETE,
            &format!("/api/v1/namespaces/{namespace}/configmaps/{name}"),
            None
        )
        .await
        .0,
        200
    );
}

/// A server and a proxy for one test: objects and requests of other tests would disturb it.
async fn alone() -> (Kube, Proxy, ClusterClient, ClusterClient, String) {
    let kube = tokio::task::spawn_blocking(|| Kube::start(Options::default()))
        .await
        .unwrap();
    let proxy = Proxy::start(&kube).await;
    let watched = open(&kube.kubeconfig_for("admin", &proxy.url, None)).await;
    let direct = open(&kube.kubeconfig).await;
    let namespace = kube.namespace("watch").await;
    (kube, proxy, watched, direct, namespace)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn watch_reports_list_and_changes_without_relist() {
    let (kube, proxy, cluster, direct, namespace) = alone().await;
    for number in 0..20 {
        apply(
            &direct,
            &owned(&namespace, &format!("map-{number}"), json!({"a": "1"})),
        )
        .await;
    }
    apply(
        &direct,
        &config_map(&namespace, "not-ours", json!({"a": "1"})),
    )
    .await;
    let deployments = Gvk::new("apps/v1", "Deployment");
    let mut watched = Watched::start(&cluster, &[maps()]);
    let first = watched
        .until("the list", |seen| matches!(seen, ClusterEvent::Listed(..)))
        .await;
    let objects = first
        .iter()
        .filter(|seen| matches!(seen, ClusterEvent::Object(..)))
        .count();
    assert_eq!(objects, 20);
    assert!(
        matches!(&first[20], ClusterEvent::Listed(scope, keys) if keys.len() == 20 && scope.gvk == maps())
    );
    assert_eq!(
        cluster.stats().0["list"],
        0,
        "the list comes with the watch"
    );

    watched.watches.ensure([maps(), deployments.clone()]);
    assert!(
        matches!(watched.next().await, ClusterEvent::Listed(scope, keys) if scope.gvk == deployments && keys.is_empty())
    );
    assert_eq!(watched.watches.kinds(), [maps(), deployments]);

    let before = cluster.stats();
    let counted = kube.metrics().await;
    apply(&direct, &owned(&namespace, "map-3", json!({"a": "2"}))).await;
    apply(&direct, &owned(&namespace, "fresh", json!({"a": "1"}))).await;
    delete(&kube, &namespace, "map-4").await;
    apply(&direct, &config_map(&namespace, "map-5", json!({"a": "1"}))).await;
    let seen = watched
        .until("the object without the label is gone", is_gone("map-5"))
        .await;
    assert!(
        is_object("map-3", "2")(&seen[0])
            && is_object("fresh", "1")(&seen[1])
            && is_gone("map-4")(&seen[2]),
        "{seen:#?}"
    );
    let object = seen
        .iter()
        .find_map(|seen| {
            if let ClusterEvent::Object(_, object) = seen {
                Some(object)
            } else {
                None
            }
        })
        .unwrap();
    assert!(
        object.pointer("/metadata/managedFields").is_some(),
        "whole objects: drift names its manager from them"
    );
    assert_eq!(cluster.stats(), before, "nothing was sent");
    let since = kube.metrics().await.since(&counted);
    assert!(
        since.of("LIST", "configmaps") == 0 && since.of("WATCH", "configmaps") == 0,
        "{since:?}"
    );

    // Dropped, the watches end.
    drop(watched);
    proxy.forget();
    apply(&direct, &owned(&namespace, "late", json!({}))).await;
    assert!(proxy.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn watch_cut_resumes_at_its_version() {
    let (kube, proxy, cluster, direct, namespace) = alone().await;
    for name in ["stays", "goes"] {
        apply(&direct, &owned(&namespace, name, json!({"a": "1"}))).await;
    }
    let mut watched = Watched::start(&cluster, &[maps()]);
    assert_eq!(
        watched.listed().await,
        BTreeSet::from(["stays".to_owned(), "goes".to_owned()])
    );
    // An outage with many changes.
    proxy.vanish();
    apply(&direct, &owned(&namespace, "stays", json!({"a": "2"}))).await;
    delete(&kube, &namespace, "goes").await;
    apply(&direct, &owned(&namespace, "comes", json!({"a": "1"}))).await;
    let seen = watched
        .until("the outage", |seen| {
            matches!(seen, ClusterEvent::Trouble(..))
        })
        .await;
    assert!(
        matches!(&seen[..], [ClusterEvent::Trouble(scope, error)] if scope.gvk == maps() && matches!(*error.problem, ClusterProblem::Unreachable { .. })),
        "{seen:#?}"
    );
    proxy.heal();
    let seen = watched.until("all changes", is_object("comes", "1")).await;
    assert!(
        seen.iter().any(is_gone("goes")) && seen.iter().any(is_object("stays", "2")),
        "{seen:#?}"
    );
    assert_eq!(
        seen.iter()
            .filter(|seen| matches!(seen, ClusterEvent::Recovered(_)))
            .count(),
        1
    );
    assert!(
        !seen
            .iter()
            .any(|seen| matches!(seen, ClusterEvent::Listed(..))),
        "it resumes at the last version, without a list"
    );

    // Cut among events, repeatedly: no event is lost, and no outage is reported.
    for round in 0..5 {
        proxy.cut_watches();
        apply(
            &direct,
            &owned(&namespace, "stays", json!({"a": format!("round-{round}")})),
        )
        .await;
        let seen = watched
            .until("the change", is_object("stays", &format!("round-{round}")))
            .await;
        assert!(
            !seen
                .iter()
                .any(|seen| matches!(seen, ClusterEvent::Trouble(..))),
            "{seen:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn watch_410_gone_lists_again() {
    let (kube, proxy, cluster, direct, namespace) = alone().await;
    for name in ["stays", "goes"] {
        apply(&direct, &owned(&namespace, name, json!({"a": "1"}))).await;
    }
    let mut watched = Watched::start(&cluster, &[maps()]);
    assert_eq!(watched.listed().await.len(), 2);
    // Within the stream.
    proxy.fault(
        "GET",
        "configmaps",
        3,
        Fault::Answer {
            status: 503,
            retry_after: None,
        },
    );
    proxy.expire_watches();
    delete(&kube, &namespace, "goes").await;
    assert_eq!(
        watched.listed().await,
        BTreeSet::from(["stays".to_owned()]),
        "the list reveals the missed deletion"
    );
    // As a response, and right after the start.
    for fault in [
        Fault::Answer {
            status: 410,
            retry_after: None,
        },
        Fault::WatchExpired,
    ] {
        proxy.fault("GET", "configmaps", 1, fault);
        proxy.cut_watches();
        assert_eq!(watched.listed().await, BTreeSet::from(["stays".to_owned()]));
    }
    apply(&direct, &owned(&namespace, "stays", json!({"a": "2"}))).await;
    watched.until("the change", is_object("stays", "2")).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn watch_without_streaming_lists_uses_pages() {
    let (_kube, proxy, cluster, direct, namespace) = alone().await;
    let objects: Vec<Object> = (0..620)
        .map(|number| owned(&namespace, &format!("map-{number}"), json!({"a": "1"})))
        .collect();
    futures::future::join_all(objects.iter().map(|object| apply(&direct, object))).await;
    // Such a server answers 422.
    proxy.fault(
        "GET",
        "sendInitialEvents",
        9,
        Fault::Answer {
            status: 422,
            retry_after: None,
        },
    );
    let mut watched = Watched::start(&cluster, &[maps()]);
    assert_eq!(watched.listed().await.len(), 620);
    assert_eq!(cluster.stats().0["list"], 2);
    apply(&direct, &owned(&namespace, "map-7", json!({"a": "2"}))).await;
    watched.until("the change", is_object("map-7", "2")).await;
    proxy.cut_watches();
    apply(&direct, &owned(&namespace, "map-8", json!({"a": "2"}))).await;
    watched.until("the change", is_object("map-8", "2")).await;
    assert_eq!(cluster.stats().0["list"], 2);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn watch_begins_once_the_kind_is_served() {
    let (kube, proxy, cluster, direct, namespace) = alone().await;
    let group = "watch.test.tagboat.dev";
    let mut watched = Watched::start(&cluster, &[boat(group)]);
    let seen = watched
        .until("the outage", |seen| {
            matches!(seen, ClusterEvent::Trouble(..))
        })
        .await;
    assert!(
        matches!(&seen[0], ClusterEvent::Trouble(scope, error) if scope.gvk == boat(group) && matches!(*error.problem, ClusterProblem::UnknownKind { .. }))
    );
    until("definitions are watched", async || {
        proxy.seen().iter().filter(|seen| seen.is_watch()).count() == 2
    })
    .await;
    proxy.forget();
    // Created by another user: only the watch of definitions can show it.
    apply(&direct, &definition(group)).await;
    let seen = watched
        .until("the list", |seen| matches!(seen, ClusterEvent::Listed(..)))
        .await;
    assert!(
        matches!(&seen[..], [ClusterEvent::Recovered(_), ClusterEvent::Listed(_, keys)] if keys.is_empty()),
        "{seen:#?}"
    );
    let one = json!({"apiVersion": format!("{group}/v1"), "kind": "Boat", "metadata": {"name": "one", "namespace": namespace, "labels": {"tagboat.dev/name": "x"}}});
    until("the kind is served to others", async || {
        direct.refresh().await.unwrap().find(&boat(group)).is_some()
    })
    .await;
    apply(&direct, &object(one)).await;
    watched
        .until(
            "the object",
            |seen| matches!(seen, ClusterEvent::Object(_, object) if object.name() == "one"),
        )
        .await;
    // Removed, and created again.
    let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/boats.{group}");
    assert_eq!(kube.call(Method::DELETE, &path, None).await.0, 200);
    watched
        .until("the outage", |seen| matches!(seen, ClusterEvent::Trouble(_, error) if matches!(*error.problem, ClusterProblem::UnknownKind { .. })))
        .await;
    until("the definition is gone", async || {
        kube.call(Method::GET, &path, None).await.0 == 404
    })
    .await;
    apply(&direct, &definition(group)).await;
    watched
        .until("the kind is back", |seen| {
            matches!(seen, ClusterEvent::Listed(..))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn watch_forbidden_kind_is_narrowed() {
    let kube = bare();
    let namespace = kube.namespace("narrow").await;
    let stranger = open(&kube.kubeconfig_for("reader", &kube.server, Some(&kube.ca))).await;
    let mut watched = Watched::start(&stranger, &[maps()]);
    match watched.next().await {
        ClusterEvent::Narrowed(gvk, error) => {
            assert_eq!(gvk, maps());
            assert!(
                matches!(&*error.problem, ClusterProblem::Forbidden { verb, resource, namespace: None, .. } if verb == "watch" && resource == "configmaps"),
                "{error}"
            );
        }
        other => panic!("{other:?}"),
    }
    let here = WatchScope::namespace(maps(), &namespace);
    watched.watches.ensure_scopes([here.clone()]);
    match watched.next().await {
        ClusterEvent::Trouble(scope, error) => {
            assert_eq!(scope, here);
            let hint = error.hint().unwrap();
            let wanted = format!(
                "grant user reader the verbs get, list and watch on configmaps by a Role in namespace {namespace}"
            );
            assert_eq!(hint, wanted);
        }
        other => panic!("{other:?}"),
    }
    until("it was retried", async || stranger.stats().0["watch"] >= 4).await;
    assert!(watched.events.try_recv().is_err(), "reported once");
    let role = json!({"metadata": {"name": "watch-maps"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}]});
    let binding = json!({"metadata": {"name": "watch-maps"}, "subjects": [{"kind": "User", "name": "reader"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "watch-maps"}});
    for (plural, body) in [("roles", role), ("rolebindings", binding)] {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/{plural}");
        assert_eq!(kube.call(Method::POST, &path, Some(&body)).await.0, 201);
    }
    assert!(matches!(watched.next().await, ClusterEvent::Recovered(scope) if scope == here));
    assert!(matches!(watched.next().await, ClusterEvent::Listed(scope, _) if scope == here));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn watch_slow_receiver_applies_back_pressure() {
    let (_kube, _proxy, cluster, direct, namespace) = alone().await;
    let objects: Vec<Object> = (0..300)
        .map(|number| {
            owned(
                &namespace,
                &format!("map-{number}"),
                json!({"a": "x".repeat(4000)}),
            )
        })
        .collect();
    futures::future::join_all(objects.iter().map(|object| apply(&direct, object))).await;
    let mut watched = Watched::start(&cluster, &[maps()]);
    until("the channel is full", async || watched.events.len() == 4).await;
    assert_eq!(watched.listed().await.len(), 300);
}
