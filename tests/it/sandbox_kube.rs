//! The sandbox's API server, used by the client of tagboat.

use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, Client, Config,
    api::{
        ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, WatchEvent,
        WatchParams,
    },
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
    discovery::Discovery,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use std::time::Duration;
use tagboat::{
    core::secret::Secret,
    sandbox::kube::{SandboxCluster, SandboxOptions, WorkloadSettings},
};

async fn client(sandbox: &SandboxCluster) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Kubeconfig::from_yaml(&sandbox.kubeconfig()).unwrap();
    Client::try_from(
        Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
            .await
            .unwrap(),
    )
    .unwrap()
}

fn api(client: &Client, group: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    Api::namespaced_with(client.clone(), "default", &resource)
}

async fn apply(api: &Api<DynamicObject>, name: &str, body: &Value) -> kube::Result<DynamicObject> {
    api.patch(name, &PatchParams::apply("test"), &Patch::Apply(body))
        .await
}

fn config(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"value": value}}, "data": {"value": value}})
}

fn web(tag: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "main", "image": format!("127.0.0.1:5000/web:{tag}")}]},
            },
        },
    })
}

/// Reads until a condition holds, for at most ten seconds.
async fn until(api: &Api<DynamicObject>, name: &str, done: impl Fn(&DynamicObject) -> bool) {
    for _ in 0..500 {
        if api.get(name).await.is_ok_and(|object| done(&object)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!(
        "{name} does not become what it should: {:?}",
        api.get(name).await
    );
}

#[tokio::test]
async fn deployment_becomes_ready_or_has_a_reason() {
    let settings = WorkloadSettings {
        ready_after: jiff::SignedDuration::from_millis(20),
        missing_tag: "broken".to_owned(),
        failing_tag: "crash".to_owned(),
    };
    let sandbox = SandboxCluster::start(SandboxOptions {
        settings,
        token: None,
    })
    .await
    .unwrap();
    let client = client(&sandbox).await;
    let (deployments, pods) = (api(&client, "apps", "Deployment"), api(&client, "", "Pod"));
    apply(&deployments, "web", &web("1")).await.unwrap();
    until(&deployments, "web", |web| {
        web.data["status"]["readyReplicas"] == 1
    })
    .await;
    apply(&deployments, "web", &web("2-broken")).await.unwrap();
    until(&deployments, "web", |web| {
        web.data["status"]["replicas"] == 2
    })
    .await;
    for _ in 0..500 {
        let list = pods
            .list(&ListParams::default().labels("app=web"))
            .await
            .unwrap();
        let reasons = list
            .items
            .iter()
            .map(|pod| &pod.data["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]);
        if reasons
            .into_iter()
            .any(|reason| reason == "ImagePullBackOff")
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no pod says that its image is missing");
}

#[tokio::test]
async fn discovery_lists_custom_resources() {
    let sandbox = SandboxCluster::start(SandboxOptions::default())
        .await
        .unwrap();
    let client = client(&sandbox).await;
    let definitions: Api<DynamicObject> = Api::all_with(
        client.clone(),
        &ApiResource::from_gvk(&GroupVersionKind::gvk(
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
        )),
    );
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "gadgets.example.org"},
        "spec": {
            "group": "example.org", "scope": "Namespaced", "names": {"kind": "Gadget", "plural": "gadgets"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}}}],
        },
    });
    apply(&definitions, "gadgets.example.org", &definition)
        .await
        .unwrap();
    until(&definitions, "gadgets.example.org", |crd| {
        crd.data["status"]["conditions"][1]["type"] == "Established"
    })
    .await;
    let kind = GroupVersionKind::gvk("example.org", "v1", "Gadget");
    // Both forms of discovery have the same content.
    for found in [
        Discovery::new(client.clone()).run().await.unwrap(),
        Discovery::new(client.clone())
            .run_aggregated()
            .await
            .unwrap(),
    ] {
        let (resource, capabilities) = found.resolve_gvk(&kind).unwrap();
        assert_eq!(
            (resource.plural.as_str(), capabilities.subresources.len()),
            ("gadgets", 1)
        );
        assert!(
            found
                .resolve_gvk(&GroupVersionKind::gvk("apps", "v1", "Deployment"))
                .is_some()
        );
    }
    let gadget = json!({"apiVersion": "example.org/v1", "kind": "Gadget", "metadata": {"name": "g"}, "spec": {"size": 1}});
    let made = apply(&api(&client, "example.org", "Gadget"), "g", &gadget)
        .await
        .unwrap();
    assert_eq!(made.data["spec"]["size"], 1);
}

#[tokio::test]
async fn watch_reports_changes_of_its_selector() {
    let sandbox = SandboxCluster::start(SandboxOptions::default())
        .await
        .unwrap();
    let maps = api(&client(&sandbox).await, "", "ConfigMap");
    apply(&maps, "one", &config("one", "a")).await.unwrap();
    let list = maps.list(&ListParams::default()).await.unwrap();
    let version = list.metadata.resource_version.unwrap();
    let params = WatchParams::default().labels("value=b");
    let mut events = maps.watch(&params, &version).await.unwrap().boxed();
    for value in ["b", "b2", "b"] {
        maps.patch(
            "one",
            &PatchParams::apply("test").force(),
            &Patch::Apply(config("one", value)),
        )
        .await
        .unwrap();
    }
    maps.delete("one", &DeleteParams::default()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 4 {
        match tokio::time::timeout(Duration::from_secs(10), events.try_next())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
        {
            WatchEvent::Added(_) => seen.push("added"),
            WatchEvent::Modified(_) => seen.push("modified"),
            WatchEvent::Deleted(_) => seen.push("deleted"),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(error) => panic!("{error}"),
        }
    }
    assert_eq!(seen, ["added", "deleted", "added", "deleted"]);
}

#[tokio::test]
async fn watch_of_kube_crate_starts_in_both_modes() {
    let sandbox = SandboxCluster::start(SandboxOptions::default())
        .await
        .unwrap();
    let maps = api(&client(&sandbox).await, "", "ConfigMap");
    apply(&maps, "one", &config("one", "a")).await.unwrap();
    for way in [
        watcher::Config::default(),
        watcher::Config::default().streaming_lists(),
    ] {
        let mut objects = watcher(maps.clone(), way).applied_objects().boxed();
        let next = tokio::time::timeout(Duration::from_secs(10), objects.try_next())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(next.unwrap().metadata.name.as_deref(), Some("one"));
        maps.patch(
            "one",
            &PatchParams::default(),
            &Patch::Merge(json!({"data": {"more": "1"}})),
        )
        .await
        .unwrap();
        let next = tokio::time::timeout(Duration::from_secs(10), objects.try_next())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(next.unwrap().data["data"]["more"], "1");
        maps.patch(
            "one",
            &PatchParams::default(),
            &Patch::Merge(json!({"data": {"more": null}})),
        )
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn watch_from_an_old_version_is_gone() {
    let sandbox = SandboxCluster::start(SandboxOptions::default())
        .await
        .unwrap();
    let maps = api(&client(&sandbox).await, "", "ConfigMap");
    for number in 0..1_100 {
        let body = json!({"data": {"n": number.to_string()}});
        match number {
            0 => drop(apply(&maps, "one", &config("one", "a")).await.unwrap()),
            _ => drop(
                maps.patch("one", &PatchParams::default(), &Patch::Merge(body))
                    .await
                    .unwrap(),
            ),
        }
    }
    let Err(kube::Error::Api(status)) = maps.watch(&WatchParams::default(), "3").await.map(|_| ())
    else {
        panic!("it began")
    };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
}

#[tokio::test]
async fn token_is_required_and_never_shown() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let token = Secret::new("hunter2".to_owned());
    let sandbox = SandboxCluster::start(SandboxOptions {
        settings: WorkloadSettings::default(),
        token: Some(token),
    })
    .await
    .unwrap();
    assert!(!format!("{sandbox:?}").contains("hunter2"));
    let answer = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .get(format!("{}/version", sandbox.url()))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 401);
    assert!(
        api(&client(&sandbox).await, "", "ConfigMap")
            .list(&ListParams::default())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn hostile_requests_get_an_error() {
    let sandbox = SandboxCluster::start(SandboxOptions::default())
        .await
        .unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let maps = "/api/v1/namespaces/default/configmaps";
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deep = format!("{}1{}", "{\"a\":".repeat(5_000), "}".repeat(5_000));
    for (method, path, kind, body, expected) in [
        ("GET", "/", "application/json", "", 404),
        ("GET", "//api//v1//", "application/json", "", 200),
        ("GET", "/api/v1/widgets", "application/json", "", 404),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps/a/b/c",
            "application/json",
            "",
            404,
        ),
        (
            "GET",
            "/api/v1/configmaps?labelSelector=a%20b",
            "application/json",
            "",
            400,
        ),
        (
            "GET",
            "/api/v1/configmaps?watch=1&resourceVersion=x",
            "application/json",
            "",
            400,
        ),
        ("POST", maps, "application/json", "[]", 400),
        ("POST", maps, "application/json", "null", 400),
        ("POST", maps, "application/json", "{", 400),
        ("POST", maps, "application/json", "{\"metadata\": 1}", 400),
        (
            "POST",
            maps,
            "application/json",
            "{\"metadata\": {\"name\": \"../x\"}}",
            422,
        ),
        (
            "POST",
            maps,
            "application/json",
            "{\"metadata\": {\"name\": [\"x\"]}}",
            422,
        ),
        (
            "POST",
            maps,
            "application/json",
            "{\"metadata\": {\"name\": \"x\", \"ownerReferences\": [1]}}",
            400,
        ),
        (
            "POST",
            deployments,
            "application/json",
            "{\"metadata\": {\"name\": \"x\"}, \"spec\": {\"template\": {\"metadata\": {\"labels\": 1}}}}",
            400,
        ),
        (
            "POST",
            deployments,
            "application/json",
            "{\"metadata\": {\"name\": \"x\"}, \"spec\": {\"replicas\": \"many\"}}",
            422,
        ),
        (
            "POST",
            maps,
            "application/vnd.kubernetes.protobuf",
            "k8s",
            400,
        ),
        (
            "POST",
            maps,
            "application/vnd.kubernetes.protobuf",
            "k8s\0\n\x09\n\x02v1\x12\x03Pod",
            415,
        ),
        ("POST", maps, "application/cbor", "{}", 415),
        ("POST", maps, "application/json", deep.as_str(), 400),
        (
            "POST",
            "/api/v1/namespaces/absent/configmaps",
            "application/json",
            "{\"metadata\": {\"name\": \"x\"}}",
            404,
        ),
        (
            "PATCH",
            "/api/v1/namespaces/default/configmaps/x?fieldManager=a",
            "application/apply-patch+yaml",
            "- a",
            400,
        ),
        (
            "PATCH",
            "/api/v1/namespaces/default/configmaps/x",
            "application/merge-patch+json",
            "{}",
            404,
        ),
        (
            "PATCH",
            "/api/v1/namespaces/default/configmaps/x",
            "text/plain",
            "{}",
            415,
        ),
        ("PUT", maps, "application/json", "{}", 405),
    ] {
        let method: reqwest::Method = method.parse().unwrap();
        let request = client
            .request(method.clone(), format!("{}{path}", sandbox.url()))
            .header("content-type", kind);
        let answer = request.body(body.to_owned()).send().await.unwrap();
        let status = answer.status().as_u16();
        let shown: String = body.chars().take(40).collect();
        assert_eq!(
            status,
            expected,
            "{method} {path} {shown}: {}",
            answer.text().await.unwrap()
        );
    }
}
