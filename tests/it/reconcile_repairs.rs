//! Scenarios of the reconcile pass about changes by others and about refused applies, for the
//! sandbox's API server and for the real one.

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
        );
    };
}
pub(crate) use for_each_repair_scenario;

/// Edits an object as a client does that reads it and writes it back.
async fn edit<K: Backend>(
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

fn workload(name: &str, pod: Value) -> Value {
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
