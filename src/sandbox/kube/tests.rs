//! Tests of the pure parts. That applies come out as on the real server is compared in
//! `tests/it/cluster_real`.

use super::{
    controller::{WorkloadSettings, look},
    fields::{Fields, compare, merge, remove},
    kinds::{SandboxKind, kinds},
    patch::strategic,
    refusal::KubeRefusal,
    schema::KindSchema,
    selector::ListSelector,
    store::{Id, ObjectStore},
    write::{Deletion, PatchBody, WritePart, WriteRequest},
};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

const BUILTIN: KindSchema = KindSchema { builtin: true };
const START: &str = "2026-01-01T00:00:00Z";

fn kind(store: &ObjectStore, name: &str) -> SandboxKind {
    kinds(store)
        .into_iter()
        .find(|kind| kind.kind == name)
        .unwrap()
}

/// Applies as a given manager.
fn apply(
    store: &mut ObjectStore,
    of: &str,
    namespace: &str,
    manager: &str,
    force: bool,
    body: Value,
) -> Result<(bool, Value), KubeRefusal> {
    let kind = kind(store, of);
    let name = body["metadata"]["name"].as_str().unwrap().to_owned();
    let write = WriteRequest {
        kind: &kind,
        namespace,
        name: &name,
        part: WritePart::Main,
        manager,
        dry_run: false,
        time: START,
    };
    write
        .patch(store, PatchBody::Apply(body, force))
        .map(|(created, object)| (created, Value::clone(&object)))
}

fn delete(
    store: &mut ObjectStore,
    of: &str,
    namespace: &str,
    name: &str,
    propagation: Option<&str>,
) -> bool {
    let kind = kind(store, of);
    let write = WriteRequest {
        kind: &kind,
        namespace,
        name,
        part: WritePart::Main,
        manager: "t",
        dry_run: false,
        time: START,
    };
    write
        .delete(
            store,
            &Deletion {
                propagation: propagation.map(str::to_owned),
                ..Deletion::default()
            },
        )
        .unwrap()
        .1
}

fn world() -> ObjectStore {
    let mut store = ObjectStore::default();
    apply(
        &mut store,
        "Namespace",
        "",
        "t",
        false,
        json!({"metadata": {"name": "default"}}),
    )
    .unwrap();
    store
}

fn web(image: &str, replicas: u64) -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": image}]}},
        },
    })
}

fn id(group: &str, plural: &str, name: &str) -> Id {
    Id {
        group: group.to_owned(),
        plural: plural.to_owned(),
        namespace: "default".to_owned(),
        name: name.to_owned(),
    }
}

fn at(seconds: i64) -> Timestamp {
    START.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

fn pods(store: &ObjectStore) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    store
        .list("", "pods", None)
        .map(|pod| {
            (
                text(&pod["spec"]["containers"][0]["image"]),
                text(&pod["status"]["phase"]),
            )
        })
        .collect()
}

#[test]
fn apply_conflict_names_manager_and_fields() {
    let mut store = world();
    apply(
        &mut store,
        "Deployment",
        "default",
        "a",
        false,
        web("x:1", 1),
    )
    .unwrap();
    let refusal = apply(
        &mut store,
        "Deployment",
        "default",
        "b",
        false,
        web("x:2", 2),
    )
    .unwrap_err();
    let KubeRefusal::Conflicts(causes) = &refusal else {
        panic!("{refusal:?}")
    };
    let mut fields: Vec<&str> = causes.iter().map(|cause| cause.field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            ".spec.replicas",
            ".spec.template.spec.containers[name=\"main\"].image"
        ]
    );
    assert_eq!(causes[0].message, "conflict with \"a\"");
    // Nothing was written, and the same values are shared.
    assert_eq!(
        store.get(&id("apps", "deployments", "web")).unwrap()["spec"]["replicas"],
        1
    );
    assert!(
        apply(
            &mut store,
            "Deployment",
            "default",
            "b",
            false,
            web("x:1", 1)
        )
        .is_ok()
    );
}

#[test]
fn apply_without_change_writes_nothing() {
    let mut store = world();
    apply(
        &mut store,
        "Deployment",
        "default",
        "a",
        false,
        web("x:1", 1),
    )
    .unwrap();
    let before = store.revision();
    let (created, object) = apply(
        &mut store,
        "Deployment",
        "default",
        "a",
        true,
        web("x:1", 1),
    )
    .unwrap();
    assert_eq!((created, store.revision()), (false, before));
    assert_eq!(object["metadata"]["generation"], 1);
}

#[test]
fn dry_run_writes_nothing() {
    let mut store = world();
    let kind = kind(&store, "Deployment");
    let write = WriteRequest {
        kind: &kind,
        namespace: "default",
        name: "web",
        part: WritePart::Main,
        manager: "a",
        dry_run: true,
        time: START,
    };
    let before = store.revision();
    let (created, object) = write
        .patch(&mut store, PatchBody::Apply(web("x:1", 1), false))
        .unwrap();
    assert!(created && object["spec"]["strategy"]["type"] == "RollingUpdate");
    assert_eq!(store.revision(), before);
}

#[test]
fn strategic_patch_merges_lists_by_key() {
    let mut live = json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}], "x": 1}});
    let patch = json!({"spec": {"containers": [{"name": "b", "image": "2"}, {"name": "a", "$patch": "delete"}, {"name": "c"}], "x": null}});
    strategic(&mut live, &patch, BUILTIN);
    assert_eq!(
        live,
        json!({"spec": {"containers": [{"name": "c"}, {"name": "b", "image": "2"}]}})
    );
    strategic(
        &mut live,
        &json!({"spec": {"$patch": "replace", "y": 2}}),
        BUILTIN,
    );
    assert_eq!(live, json!({"spec": {"y": 2}}));
    let mut live = json!({"metadata": {"finalizers": ["a", "b"]}});
    strategic(
        &mut live,
        &json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}}),
        BUILTIN,
    );
    assert_eq!(live, json!({"metadata": {"finalizers": ["b", "c"]}}));
}

#[test]
fn selector_matches_like_kubectl() {
    let object = json!({"metadata": {"name": "web", "labels": {"app": "web", "tier": "front"}}, "status": {"phase": "Running"}});
    for (labels, fields, expected) in [
        ("", "", true),
        ("app=web", "", true),
        ("app==web,tier!=back", "", true),
        ("app=api", "", false),
        ("app in (web, api)", "", true),
        ("app notin (web,api)", "", false),
        ("team notin (a)", "", true),
        ("team!=a", "", true),
        ("tier", "", true),
        ("!tier", "", false),
        ("!team", "", true),
        ("", "metadata.name=web", true),
        ("", "metadata.name=web,status.phase!=Running", false),
        ("", "spec.nodeName=", true),
    ] {
        let selector = ListSelector::parse(labels, fields).unwrap();
        assert_eq!(selector.matches(&object), expected, "{labels} {fields}");
    }
    for wrong in ["app in web", "a b", "app within (a)"] {
        assert!(ListSelector::parse(wrong, "").is_err(), "{wrong}");
    }
    assert!(ListSelector::parse("", "metadata.name").is_err());
}

#[test]
fn store_keeps_the_last_thousand_changes() {
    let mut store = ObjectStore::default();
    for number in 0..1_050 {
        store.put(
            id("", "configmaps", "one"),
            json!({"metadata": {}, "data": {"n": number}}),
        );
    }
    assert!(store.changes_after(40).is_none());
    assert_eq!(store.changes_after(50).unwrap().count(), 1_000);
    assert_eq!(store.changes_after(1_049).unwrap().count(), 1);
    assert_eq!(store.changes_after(1_050).unwrap().count(), 0);
}

#[test]
fn deployment_becomes_ready_after_its_delay() {
    let settings = WorkloadSettings {
        ready_after: SignedDuration::from_secs(2),
        missing_tag: "broken".to_owned(),
        failing_tag: "crash".to_owned(),
    };
    let mut store = world();
    apply(
        &mut store,
        "Deployment",
        "default",
        "a",
        false,
        web("x:1", 2),
    )
    .unwrap();
    let next = look(&mut store, &settings, at(0));
    assert_eq!(
        pods(&store),
        vec![("x:1".to_owned(), "Pending".to_owned()); 2]
    );
    assert_eq!(next, Some(at(2)));
    look(&mut store, &settings, at(2));
    let deployment = id("apps", "deployments", "web");
    let status = store.get(&deployment).unwrap()["status"].clone();
    assert_eq!(
        (&status["readyReplicas"], &status["observedGeneration"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(status["conditions"][1]["reason"], "NewReplicaSetAvailable");
    // A steady state: nothing is written and nothing is due.
    let before = store.revision();
    assert_eq!(look(&mut store, &settings, at(3)), None);
    assert_eq!(store.revision(), before);

    // The new image does not exist: the old pods stay, and the rollout does not progress.
    apply(
        &mut store,
        "Deployment",
        "default",
        "a",
        false,
        web("x:broken-2", 2),
    )
    .unwrap();
    look(&mut store, &settings, at(10));
    look(&mut store, &settings, at(12));
    let running = pods(&store)
        .into_iter()
        .filter(|(image, phase)| image == "x:1" && phase == "Running")
        .count();
    assert_eq!(running, 2, "{:?}", pods(&store));
    assert!(
        store
            .list("", "events", None)
            .any(|event| event["reason"] == "Failed")
    );
    let next = look(&mut store, &settings, at(13)).unwrap();
    assert_eq!(next, at(610));
    look(&mut store, &settings, next);
    let conditions = store.get(&deployment).unwrap()["status"]["conditions"].clone();
    assert_eq!(conditions[1]["reason"], "ProgressDeadlineExceeded");

    apply(
        &mut store,
        "Deployment",
        "default",
        "a",
        false,
        web("x:3", 1),
    )
    .unwrap();
    look(&mut store, &settings, at(700));
    look(&mut store, &settings, at(702));
    assert_eq!(pods(&store), [("x:3".to_owned(), "Running".to_owned())]);
    assert!(delete(&mut store, "Deployment", "default", "web", None));
    look(&mut store, &settings, at(703));
    assert_eq!(
        (
            pods(&store).len(),
            store.list("apps", "replicasets", None).count()
        ),
        (0, 0)
    );
}

#[test]
fn delete_propagates_to_owned_objects() {
    for (propagation, survives) in [
        (None, false),
        (Some("Foreground"), false),
        (Some("Orphan"), true),
    ] {
        let mut store = world();
        apply(
            &mut store,
            "Deployment",
            "default",
            "a",
            false,
            web("x:1", 1),
        )
        .unwrap();
        look(&mut store, &WorkloadSettings::default(), at(0));
        delete(&mut store, "Deployment", "default", "web", propagation);
        look(&mut store, &WorkloadSettings::default(), at(1));
        assert!(
            store.get(&id("apps", "deployments", "web")).is_none(),
            "{propagation:?}"
        );
        assert_eq!(
            store.list("apps", "replicasets", None).count() == 1,
            survives,
            "{propagation:?}"
        );
    }
}

#[test]
fn namespace_is_emptied_before_deletion() {
    let mut store = world();
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.org/hold"]}});
    apply(&mut store, "ConfigMap", "default", "a", false, held).unwrap();
    assert!(!delete(&mut store, "Namespace", "", "default", None));
    look(&mut store, &WorkloadSettings::default(), at(0));
    let refusal = apply(
        &mut store,
        "ConfigMap",
        "default",
        "a",
        false,
        json!({"metadata": {"name": "new"}}),
    )
    .unwrap_err();
    assert_eq!(refusal.code(), 403);
    assert_eq!(store.list("", "namespaces", None).count(), 1);
    apply(
        &mut store,
        "ConfigMap",
        "default",
        "a",
        false,
        json!({"metadata": {"name": "held"}}),
    )
    .unwrap();
    look(&mut store, &WorkloadSettings::default(), at(1));
    assert_eq!(store.all().count(), 0);
}

#[test]
fn workload_of_every_kind_gets_pods() {
    let mut store = world();
    let template = json!({"metadata": {"labels": {"app": "w"}}, "spec": {"containers": [{"name": "main", "image": "x:1"}]}});
    let spec =
        json!({"selector": {"matchLabels": {"app": "w"}}, "template": template, "replicas": 2});
    for kind in ["StatefulSet", "DaemonSet"] {
        apply(
            &mut store,
            kind,
            "default",
            "a",
            false,
            json!({"metadata": {"name": kind.to_lowercase()}, "spec": spec}),
        )
        .unwrap();
    }
    apply(
        &mut store,
        "Job",
        "default",
        "a",
        false,
        json!({"metadata": {"name": "job"}, "spec": {"template": template}}),
    )
    .unwrap();
    let settings = WorkloadSettings {
        ready_after: SignedDuration::from_secs(1),
        ..WorkloadSettings::default()
    };
    for second in 0..6 {
        look(&mut store, &settings, at(second));
    }
    let status = |plural: &str, group: &str, name: &str| {
        store.get(&id(group, plural, name)).unwrap()["status"].clone()
    };
    assert_eq!(
        status("statefulsets", "apps", "statefulset")["readyReplicas"],
        2
    );
    assert_eq!(status("daemonsets", "apps", "daemonset")["numberReady"], 1);
    assert_eq!(status("jobs", "batch", "job")["succeeded"], 1);
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (0..3i64).prop_map(Value::from),
        "[ab]".prop_map(Value::from)
    ];
    let containers = prop::collection::btree_map("[abc]", "[xy]", 0..3).prop_map(|all| {
        all.into_iter()
            .map(|(name, image)| json!({"name": name, "image": image}))
            .collect::<Vec<_>>()
    });
    let map = leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::btree_map("[pqr]", inner.clone(), 1..4)
                .prop_map(|map| map.into_iter().collect::<Value>()),
            prop::collection::vec(inner, 1..3).prop_map(Value::from),
        ]
    });
    (prop::collection::btree_map("[pqr]", map, 0..4), containers).prop_map(|(map, containers)| {
        let mut object: Value = json!({"spec": map.into_iter().collect::<Value>()});
        if !containers.is_empty() {
            object["spec"]["containers"] = json!(containers);
        }
        object
    })
}

proptest! {
    #[test]
    fn fields_round_trip_as_json(object in value()) {
        let fields = Fields::of(&object, BUILTIN);
        prop_assert_eq!(Fields::from_json(&fields.to_json()), fields);
    }

    #[test]
    fn merge_is_complete_and_idempotent(live in value(), applied in value()) {
        let merged = merge(&live, &applied, BUILTIN);
        prop_assert_eq!(&merge(&merged, &applied, BUILTIN), &merged);
        let wanted = Fields::of(&applied, BUILTIN);
        let difference = compare(&applied, &merged, BUILTIN);
        prop_assert!(difference.changed.intersection(&wanted).is_empty() || live == applied, "{:?}", difference);
    }

    #[test]
    fn remove_all_fields_leaves_nothing(object in value()) {
        let mut rest = object.clone();
        remove(&mut rest, &Fields::of(&object, BUILTIN), BUILTIN);
        prop_assert!(Fields::of(&rest, BUILTIN).below.values().all(|below| below.below.is_empty()), "{rest}");
    }

    #[test]
    fn difference_with_itself_is_empty(object in value()) {
        let difference = compare(&object, &object, BUILTIN);
        prop_assert!(difference.changed.is_empty() && difference.removed.is_empty());
    }
}
