//! Scenarios of the reconcile pass about changes by others and about refused applies, for the
//! sandbox's API server and for the real one.

#![allow(
    clippy::needless_pass_by_value,
    reason = "json! makes values, not references"
)]

use super::support::fleet::{Backend, Fleet, config, problems, states};
use reqwest::Method;
use serde_json::{Value, json};
use tagboat::reconcile::ApplicationState;

/// Calls a macro with the names of all scenarios.
macro_rules! for_each_repair_scenario {
    ($run:ident) => {
        $run!(reconcile_repairs:
            refused_repair_claims_fields_in_the_way,
            refused_apply_removes_server_defaults,
            refused_repair_stands_in_status,
            volume_that_grew_is_left,
            scale_to_zero_is_kept,
            replicas_of_git_count_without_autoscaler,
            replicas_that_leave_git_keep_their_number,
            empty_fields_that_others_fill_are_no_drift,
            drift_blames_only_what_changed,
        );
    };
}
pub(crate) use for_each_repair_scenario;

/// Edits an object as a client does that reads it and writes it back.
pub(super) async fn edit<K: Backend>(
    fleet: &Fleet<K>,
    (plural, name): (&str, &str),
    manager: &str,
    change: impl Fn(&mut Value),
) {
    // A controller may write in between.
    for _ in 0..50 {
        let mut live = fleet.live(plural, name).await.unwrap();
        change(&mut live);
        let path = format!("{}?fieldManager={manager}", fleet.path(plural, name));
        let (status, answer) = fleet.kube.call(Method::PUT, &path, Some(&live)).await;
        if status.is_success() {
            return;
        }
        assert_eq!(status, 409, "{answer}");
    }
    panic!("{name} changes all the time");
}

pub(super) fn workload(name: &str, pod: Value) -> Value {
    let mut spec = json!({"containers": [{"name": "main", "image": "example.org/web:1"}]});
    json_patch::merge(&mut spec, &pod);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec}},
    })
}

fn container<'v>(live: &'v Value, field: &str) -> &'v Value {
    &live["spec"]["template"]["spec"]["containers"][0][field]
}

pub(super) async fn refused_repair_claims_fields_in_the_way<K: Backend>(fleet: Fleet<K>) {
    // One of the tools that are taken over anyway, and one that is not.
    for manager in ["kubectl-edit", "k9s"] {
        let name = |kind: &str| format!("{manager}-{kind}");
        let (port, value, probe, volume) =
            (name("port"), name("value"), name("probe"), name("volume"));
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": port},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]}});
        let main = |more: Value| {
            let mut main = json!({"name": "main", "image": "example.org/web:1"});
            json_patch::merge(&mut main, &more);
            json!({"containers": [main]})
        };
        let objects = vec![
            service,
            workload(
                &value,
                main(json!({"env": [{"name": "LEVEL", "value": "info"}]})),
            ),
            workload(
                &probe,
                main(json!({"livenessProbe": {"httpGet": {"path": "/", "port": 80}}})),
            ),
            workload(
                &volume,
                json!({"volumes": [{"name": "data", "configMap": {"name": "c", "optional": true}}]}),
            ),
        ];
        fleet.application(manager, "");
        fleet.manifests(manager, objects.clone());
        fleet.applied().await;
        edit(&fleet, ("services", &port), manager, |live| {
            live["spec"]["ports"][0]["port"] = json!(81);
        })
        .await;
        let deployments = "apps/deployments";
        edit(&fleet, (deployments, &value), manager, |live| {
            let from = json!({"configMapKeyRef": {"name": "c", "key": "level", "optional": true}});
            let env = json!([{"name": "LEVEL", "valueFrom": from}]);
            live["spec"]["template"]["spec"]["containers"][0]["env"] = env;
        })
        .await;
        edit(&fleet, (deployments, &probe), manager, |live| {
            let probe = json!({"tcpSocket": {"port": 80}});
            live["spec"]["template"]["spec"]["containers"][0]["livenessProbe"] = probe;
        })
        .await;
        edit(&fleet, (deployments, &volume), manager, |live| {
            live["spec"]["template"]["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
        })
        .await;
        fleet
            .live_until("services", &port, |live| {
                live["spec"]["ports"].as_array().map(Vec::len) == Some(1)
                    && live["spec"]["ports"][0]["port"] == 80
            })
            .await;
        fleet
            .live_until(deployments, &value, |live| {
                *container(live, "env") == json!([{"name": "LEVEL", "value": "info"}])
            })
            .await;
        fleet
            .live_until(deployments, &probe, |live| {
                let probe = container(live, "livenessProbe");
                probe["httpGet"]["path"] == "/" && probe.get("tcpSocket").is_none()
            })
            .await;
        fleet
            .live_until(deployments, &volume, |live| {
                let volume = &live["spec"]["template"]["spec"]["volumes"][0];
                volume["configMap"]["name"] == "c" && volume.get("emptyDir").is_none()
            })
            .await;
        fleet
            .until("nothing is wrong any more", |statuses| {
                statuses[manager].state == ApplicationState::Synced
            })
            .await;
    }
}

pub(super) async fn refused_apply_removes_server_defaults<K: Backend>(fleet: Fleet<K>) {
    let volumes = |data: Value| json!({"volumes": [data]});
    fleet.application("shop", "");
    fleet.manifests(
        "shop",
        vec![workload("web", volumes(json!({"name": "data"})))],
    );
    fleet.applied().await;
    let live = fleet.live("apps/deployments", "web").await.unwrap();
    assert!(
        live["spec"]["strategy"]["rollingUpdate"].is_object(),
        "{live:#}"
    );
    let data = json!({"name": "data", "configMap": {"name": "c", "optional": true}});
    let mut changed = workload("web", volumes(data));
    changed["spec"]["strategy"] = json!({"type": "Recreate"});
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = json!("example.org/web:2");
    fleet.manifests("shop", vec![changed]);
    let statuses = fleet.applied().await;
    assert_eq!(
        states(&statuses),
        [("shop", ApplicationState::Synced)],
        "{statuses:#?}"
    );
    let live = fleet.live("apps/deployments", "web").await.unwrap();
    assert_eq!(live["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_eq!(*container(&live, "image"), "example.org/web:2");
    let volume = &live["spec"]["template"]["spec"]["volumes"][0];
    assert!(volume.get("emptyDir").is_none(), "{volume:#}");
    assert_eq!(live["metadata"]["generation"], 2, "one rollout");
}

pub(super) async fn refused_repair_stands_in_status<K: Backend>(fleet: Fleet<K>) {
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": {"name": "web"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "ours"}, "subjects": [],
    });
    fleet.application("shop", "");
    fleet.manifests("shop", vec![binding, config("a", "1")]);
    fleet.applied().await;
    let plural = format!("{group}/rolebindings");
    let mut other = fleet.live(&plural, "web").await.unwrap();
    other["roleRef"]["name"] = json!("theirs");
    let metadata = other["metadata"].as_object_mut().unwrap();
    metadata.retain(|field, _| matches!(field.as_str(), "name" | "namespace" | "labels"));
    let path = fleet.path(&plural, "web");
    let before = fleet.stats();
    // Created again before or after the repair of the deletion, whichever comes first.
    for _ in 0..50 {
        fleet.kube.call(Method::DELETE, &path, None).await;
        let collection = path.rsplit_once('/').unwrap().0;
        let (status, _) = fleet
            .kube
            .call(Method::POST, collection, Some(&other))
            .await;
        if status.is_success() {
            break;
        }
    }
    fleet
        .until("it is refused", |statuses| {
            statuses["shop"].state == ApplicationState::Failed
        })
        .await;
    // The refusal stands through every further attempt, with the reason of the server.
    fleet
        .until("it is refused again and again", |statuses| {
            let status = &statuses["shop"];
            assert!(
                matches!(
                    status.state,
                    ApplicationState::Failed | ApplicationState::Applying
                ),
                "{status:#?}"
            );
            let said = problems(status).join("\n").to_lowercase();
            assert!(
                said.contains("roleref") || said.contains("immutable"),
                "{said}"
            );
            fleet.stats().since(&before).of("apply") >= 4
        })
        .await;
}

pub(super) async fn volume_that_grew_is_left<K: Backend>(fleet: Fleet<K>) {
    // The real server lets claims grow whose class allows it.
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": fleet.namespace},
        "provisioner": "example.org/none", "allowVolumeExpansion": true});
    let classes = "/apis/storage.k8s.io/v1/storageclasses";
    fleet.kube.call(Method::POST, classes, Some(&class)).await;
    let claim = |size: &str, label: &str| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "labels": {"size": label}},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": fleet.namespace, "resources": {"requests": {"storage": size}}},
        })
    };
    fleet.application("shop", "");
    fleet.manifests("shop", vec![claim("1Gi", "small")]);
    fleet.applied().await;
    let plural = "persistentvolumeclaims";
    fleet
        .live_until(plural, "data", |live| live["status"]["phase"] == "Bound")
        .await;
    edit(&fleet, (plural, "data"), "resizer", |live| {
        live["spec"]["resources"]["requests"]["storage"] = json!("2Gi");
    })
    .await;
    let is_said = |status: &tagboat::reconcile::ApplicationStatus| {
        let mut notes = status.notes.iter();
        status.state == ApplicationState::Synced
            && notes.any(|note| note.message.contains("storage is 2Gi, Git says 1Gi"))
    };
    fleet
        .until("the larger volume is noticed", |statuses| {
            is_said(&statuses["shop"])
        })
        .await;
    // A change of another field still arrives.
    fleet.manifests("shop", vec![claim("1Gi", "changed")]);
    fleet.applied().await;
    let live = fleet
        .live_until(plural, "data", |live| {
            live["metadata"]["labels"]["size"] == "changed"
        })
        .await;
    assert_eq!(live["spec"]["resources"]["requests"]["storage"], "2Gi");
    fleet
        .until("it is left", |statuses| is_said(&statuses["shop"]))
        .await;
}

fn replicas(live: &Value) -> i64 {
    live["spec"]["replicas"].as_i64().unwrap_or(-1)
}

/// Sets the replicas through the scale subresource.
async fn scale<K: Backend>(fleet: &Fleet<K>, name: &str, manager: &str, number: u8) {
    let path = format!("{}/scale", fleet.path("apps/deployments", name));
    for _ in 0..50 {
        let (_, mut scale) = fleet.kube.call(Method::GET, &path, None).await;
        scale["spec"]["replicas"] = json!(number);
        let path = format!("{path}?fieldManager={manager}");
        let (status, answer) = fleet.kube.call(Method::PUT, &path, Some(&scale)).await;
        if status.is_success() {
            return;
        }
        assert_eq!(status, 409, "{answer}");
    }
    panic!("{name} changes all the time");
}

fn scalable(number: Option<u8>, image: &str) -> Value {
    let mut web = workload(
        "web",
        json!({"containers": [{"name": "main", "image": image}]}),
    );
    let spec = web["spec"].as_object_mut().unwrap();
    spec.remove("replicas");
    if let Some(number) = number {
        web["spec"]["replicas"] = json!(number);
    }
    web
}

async fn image_arrives<K: Backend>(fleet: &Fleet<K>, image: &str) -> i64 {
    let live = fleet
        .live_until("apps/deployments", "web", |live| {
            *container(live, "image") == image
        })
        .await;
    replicas(&live)
}

pub(super) async fn scale_to_zero_is_kept<K: Backend>(mut fleet: Fleet<K>) {
    fleet.application("shop", "");
    fleet.manifests("shop", vec![scalable(Some(2), "example.org/web:1")]);
    fleet.applied().await;
    scale(&fleet, "web", "kubectl", 0).await;
    let is_said = |status: &tagboat::reconcile::ApplicationStatus| {
        let mut notes = status.notes.iter();
        status.state == ApplicationState::Synced
            && notes.any(|note| note.message.contains("(scale), Git says 2"))
    };
    fleet
        .until("the scale is noticed", |statuses| {
            is_said(&statuses["shop"])
        })
        .await;
    // A commit to another field and another process keep it.
    fleet.manifests("shop", vec![scalable(Some(2), "example.org/web:2")]);
    fleet.applied().await;
    assert_eq!(image_arrives(&fleet, "example.org/web:2").await, 0);
    fleet.restart().await;
    fleet.applied().await;
    fleet
        .until("the scale is noticed again", |statuses| {
            is_said(&statuses["shop"])
        })
        .await;
    // Another number in Git counts.
    fleet.manifests("shop", vec![scalable(Some(3), "example.org/web:2")]);
    fleet.applied().await;
    fleet
        .live_until("apps/deployments", "web", |live| replicas(live) == 3)
        .await;
}

pub(super) async fn replicas_of_git_count_without_autoscaler<K: Backend>(fleet: Fleet<K>) {
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
        "spec": {"minReplicas": 1, "maxReplicas": 9, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    });
    let deployments = "apps/deployments";
    fleet.application("shop", ", prune: true");
    // Whatever client a person scales with, the next number in Git counts.
    fleet.manifests("shop", vec![scalable(Some(2), "example.org/web:1")]);
    fleet.applied().await;
    scale(&fleet, "web", "k9s", 4).await;
    fleet
        .until("the scale is noticed", |statuses| {
            let mut notes = statuses["shop"].notes.iter();
            notes.any(|note| note.message.contains("k9s (scale)"))
        })
        .await;
    fleet.manifests("shop", vec![scalable(Some(2), "example.org/web:2")]);
    fleet.applied().await;
    assert_eq!(image_arrives(&fleet, "example.org/web:2").await, 4);
    fleet.manifests("shop", vec![scalable(Some(3), "example.org/web:2")]);
    fleet.applied().await;
    fleet
        .live_until(deployments, "web", |live| replicas(live) == 3)
        .await;
    // While an autoscaler targets the object, its number stays.
    fleet.manifests(
        "shop",
        vec![scalable(Some(3), "example.org/web:2"), autoscaler.clone()],
    );
    fleet.applied().await;
    scale(&fleet, "web", "kube-controller-manager", 5).await;
    fleet
        .until("the autoscaler is noticed", |statuses| {
            let mut notes = statuses["shop"].notes.iter();
            notes.any(|note| note.message.contains("kube-controller-manager (scale)"))
        })
        .await;
    fleet.manifests(
        "shop",
        vec![scalable(Some(2), "example.org/web:3"), autoscaler],
    );
    fleet.applied().await;
    assert_eq!(image_arrives(&fleet, "example.org/web:3").await, 5);
    // It is gone: the number in Git counts.
    fleet.manifests("shop", vec![scalable(Some(2), "example.org/web:3")]);
    fleet.applied().await;
    fleet
        .live_until(deployments, "web", |live| replicas(live) == 2)
        .await;
}

pub(super) async fn replicas_that_leave_git_keep_their_number<K: Backend>(fleet: Fleet<K>) {
    let deployments = "apps/deployments";
    fleet.application("shop", "");
    fleet.manifests("shop", vec![scalable(Some(3), "example.org/web:1")]);
    fleet.applied().await;
    for image in ["example.org/web:2", "example.org/web:3"] {
        fleet.manifests("shop", vec![scalable(None, image)]);
        fleet.applied().await;
        assert_eq!(image_arrives(&fleet, image).await, 3);
    }
    // The number that an autoscaler sets then stays, too.
    scale(&fleet, "web", "kube-controller-manager", 4).await;
    fleet.manifests("shop", vec![scalable(None, "example.org/web:4")]);
    fleet.applied().await;
    assert_eq!(image_arrives(&fleet, "example.org/web:4").await, 4);
    // So does that of a tool whose fields are taken over.
    let mut adopted = scalable(Some(2), "example.org/web:1");
    adopted["metadata"] = json!({"name": "adopted", "namespace": fleet.namespace});
    let path = fleet.path(deployments, "adopted");
    let collection = path.rsplit_once('/').unwrap().0;
    let collection = format!("{collection}?fieldManager=kubectl-client-side-apply");
    let (status, answer) = fleet
        .kube
        .call(Method::POST, &collection, Some(&adopted))
        .await;
    assert!(status.is_success(), "{answer}");
    let mut desired = scalable(None, "example.org/web:2");
    desired["metadata"]["name"] = json!("adopted");
    fleet.manifests("shop", vec![scalable(None, "example.org/web:4"), desired]);
    fleet.applied().await;
    let live = fleet.live(deployments, "adopted").await.unwrap();
    assert_eq!(*container(&live, "image"), "example.org/web:2");
    assert_eq!(replicas(&live), 2);
}

pub(super) async fn empty_fields_that_others_fill_are_no_drift<K: Backend>(fleet: Fleet<K>) {
    let named = |name: &str, kind: &str, rest: Value| {
        let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
        json_patch::merge(&mut object, &rest);
        object
    };
    let mut objects = vec![
        named("empty", "ConfigMap", json!({"data": {}})),
        named("marker", "ConfigMap", json!({"data": {"value": "1"}})),
        named("empty", "ServiceAccount", json!({"secrets": []})),
        named(
            "marker",
            "ServiceAccount",
            json!({"automountServiceAccountToken": true}),
        ),
    ];
    objects[0]["metadata"]["annotations"] = json!({});
    fleet.application("shop", ", drift: report");
    fleet.manifests("shop", objects);
    fleet.applied().await;
    edit(&fleet, ("configmaps", "empty"), "intruder", |live| {
        live["metadata"]["annotations"] = json!({"theirs": "1"});
        live["data"] = json!({"theirs": "1"});
    })
    .await;
    edit(&fleet, ("serviceaccounts", "empty"), "intruder", |live| {
        live["secrets"] = json!([{"name": "theirs"}]);
    })
    .await;
    // What changed later, and is drift, has been seen: so has the rest.
    edit(&fleet, ("configmaps", "marker"), "intruder", |live| {
        live["data"]["value"] = json!("2");
    })
    .await;
    edit(&fleet, ("serviceaccounts", "marker"), "intruder", |live| {
        live["automountServiceAccountToken"] = json!(false);
    })
    .await;
    fleet
        .until("the drift of the others is reported", |statuses| {
            statuses["shop"].drifted.len() >= 2
        })
        .await;
    let statuses = fleet.statuses();
    let drifted: Vec<String> = statuses["shop"]
        .drifted
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(drifted.len(), 2, "{drifted:#?}");
    assert!(
        drifted.iter().all(|one| one.contains("marker")),
        "{drifted:#?}"
    );
}

pub(super) async fn drift_blames_only_what_changed<K: Backend>(fleet: Fleet<K>) {
    let main = json!({"name": "main", "image": "example.org/web:1", "args": [], "command": null,
        "env": [{"name": "EMPTY", "value": ""}], "resources": {"limits": {}}});
    fleet.application("shop", ", drift: report");
    let mut web = workload("web", json!({"nodeSelector": {}, "tolerations": []}));
    web["spec"]["template"]["spec"]["containers"][0] = main;
    fleet.manifests("shop", vec![web]);
    fleet.applied().await;
    edit(&fleet, ("apps/deployments", "web"), "intruder", |live| {
        live["spec"]["template"]["spec"]["containers"][0]["image"] = json!("example.org/web:2");
    })
    .await;
    fleet
        .until("the drift is reported", |statuses| {
            statuses["shop"].state == ApplicationState::Drifted
        })
        .await;
    let fields = fleet.statuses()["shop"].drifted[0].fields.clone();
    let fields: Vec<(&str, Option<&str>)> = fields
        .iter()
        .map(|field| (field.path.as_str(), field.manager.as_deref()))
        .collect();
    let image = "/spec/template/spec/containers[name=main]/image";
    assert_eq!(fields, [(image, Some("intruder"))]);
}
