//! Applies of one object: creation, changes, conflicts, take-over of fields, and refusals of the
//! server.

use super::support::*;
use crate::servers::kube::Kube;
use serde_json::{Value, json};
use std::time::Duration;
use tagboat::{
    core::error::{Classify, ErrorKind},
    io::cluster::{
        ApplyRequest, ClusterProblem, DeleteRequest, DeleteResult, FieldConflict, RequestIdentity,
    },
    objects::{
        managed_fields::{managers_of, scaled_by},
        object::{Gvk, Object},
    },
};

const OWN: RequestIdentity = RequestIdentity::Own;

fn forced(manager: &str, field: &str) -> FieldConflict {
    FieldConflict {
        manager: manager.to_owned(),
        field: field.to_owned(),
    }
}

fn owners(live: &Object, pointer: &str) -> Vec<String> {
    managers_of(live, pointer)
        .into_iter()
        .map(|manager| manager.name)
        .collect()
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn apply_creates_changes_and_then_writes_nothing() {
    let (_, cluster, namespace) = shared("apply").await;
    let first = config_map(&namespace, "one", json!({"a": "1", "b": "2"}));
    let dry = cluster
        .apply(
            &OWN,
            &first,
            &ApplyRequest {
                dry_run: true,
                ..ApplyRequest::default()
            },
        )
        .await
        .unwrap();
    assert!(dry.created && dry.live.pointer("/data/a").is_some());
    let made = cluster
        .apply(&OWN, &first, &ApplyRequest::default())
        .await
        .unwrap();
    assert!(made.created && made.changed, "a dry run leaves nothing");

    let before = cluster.stats();
    let previous = made.live.resource_version().map(str::to_owned);
    let same = cluster
        .apply(
            &OWN,
            &first,
            &ApplyRequest {
                previous: previous.clone(),
                ..ApplyRequest::default()
            },
        )
        .await
        .unwrap();
    assert!(!same.created && !same.changed && same.took_over.is_empty());
    assert_eq!(
        cluster.stats().without_watches() - before.without_watches(),
        1,
        "one request for an object that is ours"
    );

    // Server-set metadata of a manifest is not sent, and fields that it no longer has are removed.
    let mut second = config_map(&namespace, "one", json!({"a": "3"})).into_value();
    second["metadata"]["resourceVersion"] = "1".into();
    second["metadata"]["managedFields"] = json!([]);
    second["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000".into();
    let changed = cluster
        .apply(
            &OWN,
            &object(second),
            &ApplyRequest {
                previous,
                ..ApplyRequest::default()
            },
        )
        .await
        .unwrap();
    assert!(changed.changed && !changed.created);
    assert_eq!(changed.live.value()["data"], json!({"a": "3"}));
    assert_eq!(owners(&changed.live, "/data/a"), ["tagboat"]);
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn apply_unchanged_is_detected_by_server_clock() {
    let (_, cluster, namespace) = shared("apply").await;
    let manifest = config_map(&namespace, "one", json!({"a": "1"}));
    cluster
        .apply(&OWN, &manifest, &ApplyRequest::default())
        .await
        .unwrap();
    until("the server's clock moved on", async || {
        !cluster
            .apply(&OWN, &manifest, &ApplyRequest::default())
            .await
            .unwrap()
            .changed
    })
    .await;
    let other = config_map(&namespace, "one", json!({"a": "2"}));
    assert!(
        cluster
            .apply(&OWN, &other, &ApplyRequest::default())
            .await
            .unwrap()
            .changed
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn apply_forces_and_names_foreign_fields() {
    let (kube, cluster, namespace) = shared("apply").await;
    let manifest = config_map(&namespace, "one", json!({"a": "1", "b": "1"}));
    cluster
        .apply(&OWN, &manifest, &ApplyRequest::default())
        .await
        .unwrap();
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/one");
    let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"a": "2", "c": "3"}});
    written_by(kube, "operator", &path, &theirs).await;

    let polite = cluster
        .apply(
            &OWN,
            &manifest,
            &ApplyRequest {
                force: false,
                ..ApplyRequest::default()
            },
        )
        .await;
    assert!(
        matches!(problem(polite), ClusterProblem::Conflict { fields, .. } if fields == [forced("operator", ".data.a")])
    );
    let dry = cluster
        .apply(
            &OWN,
            &manifest,
            &ApplyRequest {
                dry_run: true,
                ..ApplyRequest::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(dry.forced, [forced("operator", ".data.a")]);
    let applied = cluster
        .apply(&OWN, &manifest, &ApplyRequest::default())
        .await
        .unwrap();
    assert_eq!(applied.forced, [forced("operator", ".data.a")]);
    // A manager that is no former tool keeps the fields that the manifest lacks.
    assert_eq!(
        applied.live.value()["data"],
        json!({"a": "1", "b": "1", "c": "3"})
    );
    assert_eq!(
        (
            owners(&applied.live, "/data/a"),
            owners(&applied.live, "/data/c")
        ),
        (vec!["tagboat".to_owned()], vec!["operator".to_owned()])
    );
    assert!(applied.took_over.is_empty());
}

fn kubectl(kube: &Kube, arguments: &[&str], manifest: &Object) -> String {
    let path = file(
        kube,
        &format!("{}-{}.json", manifest.namespace().unwrap(), manifest.name()),
        &Value::Object(manifest.value().clone()).to_string(),
    );
    let mut all = arguments.to_vec();
    all.extend(["-f", path.to_str().unwrap()]);
    let output = kube.kubectl(&all);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn apply_takes_over_fields_of_kubectl() {
    let (kube, cluster, namespace) = shared("apply").await;
    let mut old = deployment(&namespace, "web").into_value();
    old["metadata"]["labels"] = json!({"old": "label", "both": "1"});
    old["spec"]["minReadySeconds"] = json!(7);
    old["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "OLD", "value": "1"}]);
    kubectl(kube, &["apply"], &object(old));
    // A replica count set through the scale subresource, and an edit by hand.
    let scaled = kube.kubectl(&["-n", &namespace, "scale", "deployment/web", "--replicas=2"]);
    assert!(scaled.status.success());
    let mut manifest = deployment(&namespace, "web").into_value();
    manifest["metadata"]["labels"] = json!({"both": "1"});
    manifest["spec"].as_object_mut().unwrap().remove("replicas");
    let manifest = object(manifest);

    let dry = cluster
        .apply(
            &OWN,
            &manifest,
            &ApplyRequest {
                dry_run: true,
                ..ApplyRequest::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(dry.took_over, ["kubectl-client-side-apply"]);
    let kept = cluster
        .apply(
            &OWN,
            &manifest,
            &ApplyRequest {
                take_over: false,
                ..ApplyRequest::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(
        kept.live.pointer("/spec/minReadySeconds"),
        Some(&json!(7)),
        "without take-over their fields stay"
    );

    let applied = cluster
        .apply(&OWN, &manifest, &ApplyRequest::default())
        .await
        .unwrap();
    assert_eq!(
        (applied.took_over.as_slice(), applied.changed),
        (["kubectl-client-side-apply".to_owned()].as_slice(), true)
    );
    assert_eq!(
        applied.live.pointer("/metadata/labels"),
        Some(&json!({"both": "1"}))
    );
    assert_eq!(
        applied.live.pointer("/spec/minReadySeconds"),
        None,
        "fields that the manifest lacks are removed"
    );
    assert_eq!(
        applied.live.pointer("/spec/template/spec/containers/0/env"),
        None
    );
    assert_eq!(
        applied
            .live
            .annotation("kubectl.kubernetes.io/last-applied-configuration"),
        None
    );
    assert_eq!(
        owners(&applied.live, "/spec/template/spec/containers/0/image"),
        ["tagboat"]
    );
    // Entries of subresources stay: the scale, and the status written by a controller.
    assert_eq!(applied.live.pointer("/spec/replicas"), Some(&json!(2)));
    assert!(
        scaled_by(&applied.live).is_some(),
        "{:#?}",
        applied.live.pointer("/metadata/managedFields")
    );

    let before = cluster.stats().without_watches();
    let again = cluster
        .apply(&OWN, &manifest, &ApplyRequest::default())
        .await
        .unwrap();
    assert!(again.took_over.is_empty());
    assert_eq!(
        cluster.stats().without_watches() - before,
        1,
        "after the take-over, an apply is one request"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn apply_takes_over_appliers_unless_merge() {
    let (kube, cluster, namespace) = shared("apply").await;
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/one");
    let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"a": "1", "old": "2"}});
    written_by(kube, "kustomize-controller", &path, &theirs).await;
    let mut merged = config_map(&namespace, "one", json!({"a": "1"})).into_value();
    merged["metadata"]["annotations"] = json!({"tagboat.dev/ssa": "Merge"});
    let applied = cluster
        .apply(&OWN, &object(merged), &ApplyRequest::default())
        .await
        .unwrap();
    assert_eq!(
        (applied.live.value()["data"].clone(), applied.took_over),
        (json!({"a": "1", "old": "2"}), vec![])
    );
    let applied = cluster
        .apply(
            &OWN,
            &config_map(&namespace, "one", json!({"a": "1"})),
            &ApplyRequest::default(),
        )
        .await
        .unwrap();
    assert_eq!(
        (applied.live.value()["data"].clone(), applied.took_over),
        (json!({"a": "1"}), vec!["kustomize-controller".to_owned()])
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn apply_if_not_present_creates_only() {
    let (_, cluster, namespace) = shared("apply").await;
    let once = |data: Value| {
        let mut value = config_map(&namespace, "one", data).into_value();
        value["metadata"]["annotations"] =
            json!({"kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent"});
        object(value)
    };
    assert!(
        cluster
            .apply(&OWN, &once(json!({"a": "1"})), &ApplyRequest::default())
            .await
            .unwrap()
            .created
    );
    let left = cluster
        .apply(&OWN, &once(json!({"a": "2"})), &ApplyRequest::default())
        .await
        .unwrap();
    assert!(!left.created && !left.changed);
    assert_eq!(left.live.value()["data"], json!({"a": "1"}));
    // After an apply, the created object is ours.
    let applied = cluster
        .apply(
            &OWN,
            &config_map(&namespace, "one", json!({"b": "1"})),
            &ApplyRequest::default(),
        )
        .await
        .unwrap();
    assert_eq!(applied.live.value()["data"], json!({"b": "1"}));
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn apply_invalid_object_has_the_server_message() {
    let (_, cluster, namespace) = shared("apply").await;
    let apply = async |object: &Object| cluster.apply(&OWN, object, &ApplyRequest::default()).await;

    let mut bad = deployment(&namespace, "bad").into_value();
    bad["spec"]["template"]["spec"]["containers"][0]["ports"] = json!([{"containerPort": 99999}]);
    let error = apply(&object(bad.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error
            .to_string()
            .starts_with(&format!("cluster test: Deployment {namespace}/bad: ")),
        "{error}"
    );
    assert!(
        matches!(&*error.problem, ClusterProblem::Invalid { causes, .. } if causes[0].contains("containers[0].ports[0].containerPort")),
        "{error:?}"
    );
    bad["spec"]["replicaz"] = json!(1);
    assert!(
        matches!(problem(apply(&object(bad)).await), ClusterProblem::Invalid { message, .. } if message.contains("replicaz"))
    );

    let mut moved = deployment(&namespace, "web");
    apply(&moved).await.unwrap();
    moved
        .edit(|value| {
            value["spec"]["selector"]["matchLabels"]["app"] = "other".into();
            value["spec"]["template"]["metadata"]["labels"]["app"] = "other".into();
        })
        .unwrap();
    let error = apply(&moved).await.unwrap_err();
    assert!(
        matches!(&*error.problem, ClusterProblem::Immutable { message } if message.contains("spec.selector")),
        "{error:?}"
    );
    assert!(error.hint().unwrap().contains("force: enabled"));

    let missing = apply(&config_map("no-such-namespace", "one", json!({}))).await;
    assert!(
        matches!(problem(missing), ClusterProblem::NamespaceMissing { namespace, .. } if namespace == "no-such-namespace")
    );
    let large = apply(&config_map(
        &namespace,
        "large",
        json!({"a": "x".repeat(4 << 20)}),
    ))
    .await;
    assert!(matches!(problem(large), ClusterProblem::TooLarge { .. }));
    let unknown =
        apply(&object(json!({"apiVersion": "apps/v9", "kind": "Deployment", "metadata": {"name": "a", "namespace": namespace}}))).await;
    assert!(
        matches!(problem(unknown), ClusterProblem::UnknownKind { gvk, why: Some(why), down: false } if gvk == Gvk::new("apps/v9", "Deployment") && why.contains("apps/v1"))
    );
    for name in ["../secrets/x", "..", "a/b", "a%2fb"] {
        let mut hostile = config_map(&namespace, "x", json!({})).into_value();
        hostile["metadata"]["name"] = name.into();
        assert!(
            matches!(
                problem(apply(&object(hostile)).await),
                ClusterProblem::Address { .. }
            ),
            "{name}"
        );
    }
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": namespace}, "stringData": {"pin": 271828}});
    let error = apply(&object(secret)).await.unwrap_err();
    assert!(
        matches!(*error.problem, ClusterProblem::Invalid { .. })
            && error.to_string().contains("stringData.pin"),
        "{error}"
    );
    assert!(
        !format!("{error:?}").contains("271828"),
        "the message repeats a Secret's value"
    );
    let warned = apply(&object(json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "old", "namespace": namespace}})))
        .await
        .unwrap();
    assert!(
        warned
            .warnings
            .iter()
            .any(|warning| warning.contains("deprecated")),
        "{:?}",
        warned.warnings
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn delete_needs_the_same_uid() {
    let (_, cluster, namespace) = shared("apply").await;
    let manifest = config_map(&namespace, "one", json!({}));
    let resource = cluster.resource(&manifest.gvk()).await.unwrap();
    let key = manifest.key();
    let first = cluster
        .apply(&OWN, &manifest, &ApplyRequest::default())
        .await
        .unwrap()
        .live;
    let dry = DeleteRequest {
        dry_run: true,
        ..DeleteRequest::uid(first.uid().unwrap())
    };
    assert_eq!(
        cluster.delete(&OWN, &resource, &key, &dry).await.unwrap(),
        DeleteResult::Deleted
    );
    assert_eq!(
        cluster
            .delete(&OWN, &resource, &key, &DeleteRequest::uid("another"))
            .await
            .unwrap(),
        DeleteResult::NotOurs
    );
    assert!(cluster.get(&OWN, &resource, &key).await.unwrap().is_some());
    assert!(matches!(
        problem(
            cluster
                .delete(&OWN, &resource, &key, &DeleteRequest::uid(""))
                .await
        ),
        ClusterProblem::Refused { .. }
    ));
    assert_eq!(
        cluster
            .delete(
                &OWN,
                &resource,
                &key,
                &DeleteRequest::uid(first.uid().unwrap())
            )
            .await
            .unwrap(),
        DeleteResult::Deleted
    );
    assert_eq!(
        cluster
            .delete(
                &OWN,
                &resource,
                &key,
                &DeleteRequest::uid(first.uid().unwrap())
            )
            .await
            .unwrap(),
        DeleteResult::WasGone
    );
    assert_eq!(cluster.get(&OWN, &resource, &key).await.unwrap(), None);
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn recreate_immutable_but_never_containers() {
    let (_, cluster, namespace) = shared("apply").await;
    let second = Duration::from_secs(1);
    let mut web = deployment(&namespace, "web");
    let old = cluster
        .apply(&OWN, &web, &ApplyRequest::default())
        .await
        .unwrap()
        .live;
    web.edit(|value| {
        value["spec"]["selector"]["matchLabels"]["app"] = "new".into();
        value["spec"]["template"]["metadata"]["labels"]["app"] = "new".into();
    })
    .unwrap();
    let made = cluster
        .recreate(
            &OWN,
            &web,
            old.uid().unwrap(),
            &ApplyRequest::default(),
            30 * second,
        )
        .await
        .unwrap();
    assert!(made.created && made.live.uid() != old.uid());
    let taken = cluster
        .recreate(
            &OWN,
            &web,
            old.uid().unwrap(),
            &ApplyRequest::default(),
            second,
        )
        .await;
    assert!(
        matches!(problem(taken), ClusterProblem::Conflict { .. }),
        "another UID is another object"
    );

    let mut held = config_map(&namespace, "held", json!({})).into_value();
    held["metadata"]["finalizers"] = json!(["test.tagboat.dev/hold"]);
    let held = object(held);
    let live = cluster
        .apply(&OWN, &held, &ApplyRequest::default())
        .await
        .unwrap()
        .live;
    let stuck = cluster
        .recreate(
            &OWN,
            &held,
            live.uid().unwrap(),
            &ApplyRequest::default(),
            second,
        )
        .await;
    assert!(
        matches!(problem(stuck), ClusterProblem::Stuck { finalizers } if finalizers == ["test.tagboat.dev/hold"])
    );
    // The finalizer is removed while the deletion is awaited.
    let (how, free) = (
        ApplyRequest::default(),
        config_map(&namespace, "held", json!({})),
    );
    let waiting = cluster.recreate(&OWN, &held, live.uid().unwrap(), &how, 30 * second);
    let (made, _) = futures::join!(waiting, async {
        let resource = cluster
            .resource(&Gvk::new("v1", "ConfigMap"))
            .await
            .unwrap();
        until("it is terminating", async || {
            cluster
                .get(&OWN, &resource, &free.key())
                .await
                .unwrap()
                .unwrap()
                .is_terminating()
        })
        .await;
        cluster
            .apply(&OWN, &free, &ApplyRequest::default())
            .await
            .unwrap()
    });
    assert!(made.unwrap().live.uid() != live.uid());

    for (api_version, kind, name) in [
        ("v1", "Namespace", namespace.as_str()),
        ("v1", "PersistentVolumeClaim", "a"),
        ("v1", "PersistentVolume", "a"),
        (
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            "a.b.c",
        ),
    ] {
        let holder =
            object(json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}}));
        let before = cluster.stats();
        assert!(matches!(
            problem(
                cluster
                    .recreate(&OWN, &holder, "u", &ApplyRequest::default(), second)
                    .await
            ),
            ClusterProblem::Refused { .. }
        ));
        assert_eq!(cluster.stats(), before, "nothing was sent");
    }
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn namespace_created_once_terminating_is_named() {
    let (_, cluster, namespace) = shared("apply").await;
    assert!(!cluster.ensure_namespace(&OWN, &namespace).await.unwrap());
    let fresh = format!("{namespace}-fresh");
    assert!(cluster.ensure_namespace(&OWN, &fresh).await.unwrap());
    assert!(!cluster.ensure_namespace(&OWN, &fresh).await.unwrap());
    // A finalizer keeps an object in the namespace, and so the namespace itself.
    let mut held = config_map(&fresh, "held", json!({})).into_value();
    held["metadata"]["finalizers"] = json!(["test.tagboat.dev/hold"]);
    cluster
        .apply(&OWN, &object(held), &ApplyRequest::default())
        .await
        .unwrap();
    let resource = cluster
        .resource(&Gvk::new("v1", "Namespace"))
        .await
        .unwrap();
    let key = resource.key(None, &fresh);
    let live = cluster.get(&OWN, &resource, &key).await.unwrap().unwrap();
    cluster
        .delete(
            &OWN,
            &resource,
            &key,
            &DeleteRequest::uid(live.uid().unwrap()),
        )
        .await
        .unwrap();
    let late = cluster
        .apply(
            &OWN,
            &config_map(&fresh, "late", json!({})),
            &ApplyRequest::default(),
        )
        .await;
    assert!(
        matches!(problem(late), ClusterProblem::NamespaceTerminating { namespace } if namespace == fresh)
    );
    cluster
        .apply(
            &OWN,
            &config_map(&fresh, "held", json!({})),
            &ApplyRequest::default(),
        )
        .await
        .unwrap();
}

/// Prints the objects applied per second, with the budget of 16 requests in flight. Asserts no
/// number.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn apply_throughput_is_printed() {
    let kube = bare();
    let cluster = open(&kube.kubeconfig).await;
    let namespace = kube.namespace("speed").await;
    let objects: Vec<Object> = (0..2000)
        .map(|number| config_map(&namespace, &format!("map-{number}"), json!({"a": "1"})))
        .collect();
    cluster.resources().await.unwrap();
    for round in ["created", "applied again"] {
        let begun = std::time::Instant::now();
        let applied = futures::future::join_all(objects.iter().map(|object| {
            let (cluster, object) = (cluster.clone(), object.clone());
            tokio::spawn(async move {
                cluster
                    .apply(&OWN, &object, &ApplyRequest::default())
                    .await
                    .unwrap()
                    .created
            })
        }))
        .await;
        let created = applied
            .into_iter()
            .filter(|created| *created.as_ref().unwrap())
            .count();
        assert_eq!(created, if round == "created" { objects.len() } else { 0 });
        eprintln!(
            "{round}: {:.0} applies a second",
            objects.len() as f64 / begun.elapsed().as_secs_f64()
        );
    }
}
