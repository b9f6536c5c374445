//! The sandbox's API server compared with the real one: equal requests get equal answers, as far as
//! a reconciler can tell.

#![allow(
    clippy::needless_pass_by_value,
    reason = "a table of steps reads better without ampersands"
)]

use crate::servers::kube::Kube;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tagboat::sandbox::kube::{SandboxCluster, SandboxOptions};

const JSON: &str = "application/json";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const PATCH: &str = "application/json-patch+json";

/// One request: user, method, path below the namespace (`cm/web` →
/// `/api/v1/namespaces/N/configmaps/web`), body.
struct Step {
    name: &'static str,
    method: Method,
    manager: &'static str,
    query: &'static str,
    path: String,
    kind: &'static str,
    body: Value,
}

fn step(
    name: &'static str,
    method: Method,
    manager: &'static str,
    query: &'static str,
    path: &str,
    kind: &'static str,
    body: Value,
) -> Step {
    Step {
        name,
        method,
        manager,
        query,
        path: path.to_owned(),
        kind,
        body,
    }
}

fn apply(
    name: &'static str,
    manager: &'static str,
    query: &'static str,
    path: &str,
    body: Value,
) -> Step {
    step(name, Method::PATCH, manager, query, path, APPLY, body)
}

/// An API server and a namespace in it.
struct Side<'a> {
    client: reqwest::Client,
    server: &'a str,
    token: &'a str,
    namespace: String,
}

impl Side<'_> {
    /// Sends a step; returns its normalised answer.
    async fn take(&self, step: &Step) -> Value {
        let url = format!(
            "{}{}?fieldManager={}{}",
            self.server,
            step.path.replace("NAMESPACE", &self.namespace),
            step.manager,
            step.query
        );
        let request = self
            .client
            .request(step.method.clone(), url)
            .bearer_auth(self.token)
            .header("accept", JSON);
        let answer = request
            .header("content-type", step.kind)
            .body(step.body.to_string())
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        seen(status, &answer.json().await.unwrap())
    }
}

/// The part of an answer that must be equal: no times, IDs, versions, or fields that controllers
/// write.
fn seen(status: u16, answer: &Value) -> Value {
    if answer["kind"] == "Status" {
        let mut causes: Vec<String> = Vec::new();
        for cause in answer["details"]["causes"].as_array().into_iter().flatten() {
            causes.push(format!("{} {}", cause["reason"], cause["field"]));
        }
        causes.sort();
        // Messages of other refusals have more detail on the real server; users read those of
        // conflicts.
        let message = answer["message"]
            .as_str()
            .filter(|_| !causes.is_empty() && status == 409)
            .unwrap_or_default();
        return json!({"status": status, "reason": answer["reason"], "causes": causes, "message": message});
    }
    let mut object = answer.clone();
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.shift_remove("deployment.kubernetes.io/revision");
    }
    for field in ["clusterIP", "clusterIPs"] {
        if let Some(spec) = object["spec"].as_object_mut() {
            spec.shift_remove(field);
        }
    }
    let mut owners = BTreeMap::new();
    for entry in answer["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let manager = entry["manager"].as_str().unwrap();
        if manager.len() == 1 {
            let key = format!(
                "{manager} {} {}",
                entry["operation"].as_str().unwrap(),
                entry["subresource"].as_str().unwrap_or_default()
            );
            owners.insert(key, entry["fieldsV1"].clone());
        }
    }
    let none = |value: &Value| value.as_object().is_none_or(serde_json::Map::is_empty);
    let metadata = |field: &str| {
        if none(&object["metadata"][field]) {
            Value::Null
        } else {
            object["metadata"][field].clone()
        }
    };
    json!({
        "status": status, "spec": object["spec"], "data": object["data"], "labels": metadata("labels"),
        "annotations": metadata("annotations"), "finalizers": object["metadata"]["finalizers"],
        "generation": object["metadata"]["generation"], "owners": owners,
    })
}

async fn same(steps: Vec<Step>) {
    let kube = Kube::shared();
    let sandbox = SandboxCluster::start(SandboxOptions::default())
        .await
        .unwrap();
    let url = sandbox.url();
    let real = Side {
        client: kube.http(),
        server: &kube.server,
        token: &kube.token,
        namespace: kube.namespace("same").await,
    };
    let ours = Side {
        client: reqwest::Client::builder().no_proxy().build().unwrap(),
        server: &url,
        token: "",
        namespace: "default".to_owned(),
    };
    let mut wrong = String::new();
    for step in steps {
        let (theirs, own) = (real.take(&step).await, ours.take(&step).await);
        if theirs != own {
            let diff = similar::TextDiff::from_lines(lines(&theirs), lines(&own))
                .unified_diff()
                .to_string();
            wrong += &format!(
                "{} {} ({}): - real, + sandbox\n{diff}\n",
                step.method, step.path, step.name
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The value as text, with maps sorted by key.
fn lines(value: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(map) => map
                .iter()
                .collect::<BTreeMap<_, _>>()
                .into_iter()
                .map(|(name, value)| (name.clone(), sorted(value)))
                .collect(),
            Value::Array(list) => list.iter().map(sorted).collect(),
            scalar => scalar.clone(),
        }
    }
    format!("{:#}\n", sorted(value))
}

fn config(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": data})
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn sandbox_applies_config_maps_like_kubernetes() {
    let (list, one) = (
        "/api/v1/namespaces/NAMESPACE/configmaps",
        "/api/v1/namespaces/NAMESPACE/configmaps/one",
    );
    let labelled = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "labels": {"app": "web"}}, "data": {"a": "1"}});
    let mut held = config(json!({"a": "1"}));
    held["metadata"]["finalizers"] = json!(["example.org/hold"]);
    same(vec![
        apply(
            "dry run of a new one",
            "a",
            "&dryRun=All",
            one,
            config(json!({"a": "1"})),
        ),
        step(
            "which is not there",
            Method::GET,
            "a",
            "",
            one,
            JSON,
            Value::Null,
        ),
        apply("create", "a", "", one, config(json!({"a": "1", "b": "2"}))),
        apply(
            "the same again",
            "a",
            "",
            one,
            config(json!({"a": "1", "b": "2"})),
        ),
        apply("change", "a", "", one, config(json!({"a": "2", "b": "2"}))),
        apply(
            "another's own field",
            "b",
            "",
            one,
            config(json!({"c": "3"})),
        ),
        apply(
            "another's same value is shared",
            "b",
            "",
            one,
            config(json!({"c": "3", "b": "2"})),
        ),
        apply(
            "a conflict",
            "b",
            "",
            one,
            config(json!({"c": "3", "b": "9"})),
        ),
        apply(
            "a conflict, dry",
            "b",
            "&dryRun=All",
            one,
            config(json!({"a": "9", "b": "9"})),
        ),
        apply(
            "forced",
            "b",
            "&force=true",
            one,
            config(json!({"c": "3", "b": "9"})),
        ),
        apply(
            "the loser drops it",
            "a",
            "&force=true",
            one,
            config(json!({"a": "2"})),
        ),
        apply("a field goes", "b", "", one, config(json!({"b": "9"}))),
        apply(
            "all fields of one go",
            "b",
            "",
            one,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}),
        ),
        apply("labels", "a", "", one, labelled),
        step(
            "an edit takes",
            Method::PATCH,
            "c",
            "",
            one,
            MERGE,
            json!({"data": {"a": "edited", "d": "4"}, "metadata": {"labels": {"app": null}}}),
        ),
        apply("and conflicts", "a", "", one, config(json!({"a": "1"}))),
        apply(
            "until forced",
            "a",
            "&force=true",
            one,
            config(json!({"a": "1"})),
        ),
        step(
            "a replacement",
            Method::PUT,
            "c",
            "",
            one,
            JSON,
            config(json!({"z": "1"})),
        ),
        step("a stale one", Method::PUT, "c", "", one, JSON, {
            let mut stale = config(json!({"z": "2"}));
            stale["metadata"]["resourceVersion"] = json!("1");
            stale
        }),
        step(
            "json patch",
            Method::PATCH,
            "d",
            "",
            one,
            PATCH,
            json!([{"op": "add", "path": "/data/y", "value": "1"}]),
        ),
        step(
            "there already",
            Method::POST,
            "d",
            "",
            list,
            JSON,
            config(json!({})),
        ),
        apply(
            "another name",
            "a",
            "",
            one,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "two"}}),
        ),
        apply("held", "a", "&force=true", one, held),
        step(
            "delete another",
            Method::DELETE,
            "a",
            "",
            one,
            JSON,
            json!({"preconditions": {"uid": "1234"}}),
        ),
        step("delete", Method::DELETE, "a", "", one, JSON, Value::Null),
        step(
            "released",
            Method::PATCH,
            "c",
            "",
            one,
            MERGE,
            json!({"metadata": {"finalizers": null}}),
        ),
        step("gone", Method::GET, "a", "", one, JSON, Value::Null),
        step(
            "delete a deleted object",
            Method::DELETE,
            "a",
            "",
            one,
            JSON,
            Value::Null,
        ),
    ])
    .await;
}

fn deployment(containers: Value, more: Value) -> Value {
    let mut object = super::smoke::deployment("", "web", "");
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .shift_remove("namespace");
    object["spec"]["template"]["spec"]["containers"] = containers;
    for (name, value) in more.as_object().unwrap() {
        object["spec"][name] = value.clone();
    }
    object
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn sandbox_applies_deployments_like_kubernetes() {
    let (web, scale) = (
        "/apis/apps/v1/namespaces/NAMESPACE/deployments/web",
        "/apis/apps/v1/namespaces/NAMESPACE/deployments/web/scale",
    );
    let main = |image: &str| json!({"name": "main", "image": image, "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "1"}]});
    let side = json!({"name": "side", "image": "example.org/side"});
    let zero = json!({"replicas": 0});
    let mut selector = deployment(json!([main("example.org/web:2")]), zero.clone());
    selector["spec"]["selector"] = json!({"matchLabels": {"app": "other"}});
    selector["spec"]["template"]["metadata"]["labels"] = json!({"app": "other"});
    same(vec![
        apply("create, dry", "a", "&dryRun=All", web, deployment(json!([main("example.org/web:1")]), zero.clone())),
        apply("create", "a", "", web, deployment(json!([main("example.org/web:1"), side]), zero.clone())),
        apply("a new image", "a", "", web, deployment(json!([main("example.org/web:2"), side]), zero.clone())),
        apply("another's container", "b", "", web, json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "annotations": {"by": "b"}},
            "spec": {"template": {"spec": {"containers": [{"name": "extra", "image": "example.org/extra:1"}]}}},
        })),
        apply("a container goes", "a", "", web, deployment(json!([main("example.org/web:2")]), zero.clone())),
        step("a user sets the image", Method::PATCH, "c", "", web, STRATEGIC, json!({
            "spec": {"template": {"spec": {"containers": [{"name": "main", "image": "example.org/web:evil"}]}}},
        })),
        apply("a conflict", "a", "", web, deployment(json!([main("example.org/web:2")]), zero.clone())),
        apply("repaired", "a", "&force=true", web, deployment(json!([main("example.org/web:2")]), zero.clone())),
        step("scaled", Method::PATCH, "c", "", scale, MERGE, json!({"spec": {"replicas": 1}})),
        apply("a conflict with the scale", "a", "", web, deployment(json!([main("example.org/web:2")]), zero.clone())),
        apply("without replicas", "a", "", web, deployment(json!([main("example.org/web:2")]), json!({}))),
        step("a container by strategic merge", Method::PATCH, "c", "", web, STRATEGIC, json!({
            "spec": {"template": {"spec": {"containers": [{"name": "extra", "$patch": "delete"}, {"name": "new", "image": "example.org/new:1"}]}}},
        })),
        apply("an immutable field", "a", "&force=true", web, selector),
        apply("apply without a manager", "", "", web, deployment(json!([main("example.org/web:2")]), json!({}))),
        apply("without containers", "a", "&force=true", "/apis/apps/v1/namespaces/NAMESPACE/deployments/bad", json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bad"},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}}},
        })),
    ])
    .await;
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn sandbox_applies_other_kinds_like_kubernetes() {
    let service = "/api/v1/namespaces/NAMESPACE/services/web";
    let ports = |ports: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}});
    let crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gadgets.same.example.org";
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "gadgets.same.example.org"},
        "spec": {
            "group": "same.example.org", "scope": "Namespaced",
            "names": {"kind": "Gadget", "plural": "gadgets", "singular": "gadget", "listKind": "GadgetList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {
                    "list": {"type": "array", "items": {"type": "integer"}},
                    "map": {"type": "object", "additionalProperties": {"type": "integer"}},
                }}}}},
            }],
        },
    });
    let kube = Kube::shared();
    let (status, answer) = kube
        .call(
            Method::PATCH,
            &format!("{crd}?fieldManager=a&force=true"),
            Some(&definition),
        )
        .await;
    assert!(status.is_success(), "{answer}");
    super::smoke::eventually(kube, "/apis/same.example.org/v1", |list| {
        list["kind"] == "APIResourceList"
    })
    .await;
    let gadget = "/apis/same.example.org/v1/namespaces/NAMESPACE/gadgets/g";
    let of = |spec: Value| json!({"apiVersion": "same.example.org/v1", "kind": "Gadget", "metadata": {"name": "g"}, "spec": spec});
    same(vec![
        apply(
            "a service",
            "a",
            "",
            service,
            ports(json!([{"name": "http", "port": 80}, {"name": "metrics", "port": 81, "targetPort": "m"}])),
        ),
        apply("without a port", "a", "", service, ports(json!([{"name": "http", "port": 80}]))),
        step("another's port", Method::PATCH, "b", "", service, STRATEGIC, json!({"spec": {"ports": [{"name": "x", "port": 90}]}})),
        apply("which stays", "a", "", service, ports(json!([{"name": "http", "port": 80, "targetPort": 8080}]))),
        step("force is for applies", Method::PATCH, "z", "&force=true", "/api/v1/namespaces/NAMESPACE/configmaps/absent", MERGE, json!({})),
    ])
    .await;
    let sandbox = SandboxCluster::start(SandboxOptions::default())
        .await
        .unwrap();
    let url = sandbox.url();
    let ours = Side {
        client: reqwest::Client::builder().no_proxy().build().unwrap(),
        server: &url,
        token: "",
        namespace: "default".to_owned(),
    };
    assert_eq!(
        ours.take(&apply("", "a", "", crd, definition)).await["status"],
        201
    );
    let real = Side {
        client: kube.http(),
        server: &kube.server,
        token: &kube.token,
        namespace: kube.namespace("same").await,
    };
    for step in [
        apply(
            "a custom resource",
            "a",
            "",
            gadget,
            of(json!({"list": [1, 2], "map": {"a": 1, "b": 2}})),
        ),
        apply(
            "its lists are whole",
            "b",
            "",
            gadget,
            of(json!({"list": [1, 2, 3]})),
        ),
        apply(
            "its maps are not",
            "b",
            "",
            gadget,
            of(json!({"map": {"d": 3}})),
        ),
        apply(
            "a field goes",
            "a",
            "",
            gadget,
            of(json!({"map": {"b": 2}})),
        ),
        step(
            "strategic merge is not for it",
            Method::PATCH,
            "c",
            "",
            gadget,
            STRATEGIC,
            of(json!({})),
        ),
        step(
            "merge is",
            Method::PATCH,
            "c",
            "",
            gadget,
            MERGE,
            json!({"spec": {"map": {"b": null}}}),
        ),
    ] {
        let (theirs, own) = (real.take(&step).await, ours.take(&step).await);
        assert_eq!(theirs, own, "{}", step.name);
    }
}

/// Runs kubectl against a sandbox; returns its output, which must be a success.
pub(super) fn kubectl(
    sandbox: &SandboxCluster,
    folder: &std::path::Path,
    arguments: &[&str],
    input: &str,
) -> String {
    let output = kubectl_output(sandbox, folder, arguments, &[], input);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // `diff` exits with 1 if there is a difference.
    let well =
        output.status.success() || (arguments[0] == "diff" && output.status.code() == Some(1));
    assert!(
        well,
        "kubectl {arguments:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs kubectl against a sandbox.
pub(super) fn kubectl_output(
    sandbox: &SandboxCluster,
    folder: &std::path::Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
    input: &str,
) -> std::process::Output {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };
    let mut command = Command::new(crate::servers::kube::program("TAGBOAT_TEST_KUBECTL"));
    command
        .args(["--server", &sandbox.url()])
        .args(arguments)
        .env_clear()
        .env("HOME", folder)
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(environment.iter().copied());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: run tests/run cluster"]
async fn sandbox_serves_kubectl() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = SandboxCluster::start(SandboxOptions::default())
        .await
        .unwrap();
    let run = |arguments: &[&str], input: &str| kubectl(&sandbox, folder.path(), arguments, input);
    let web =
        |image: &str| deployment(json!([{"name": "main", "image": image}]), json!({})).to_string();

    let namespace = r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}"#;
    assert_eq!(
        run(&["create", "-f", "-"], namespace),
        "namespace/shop created\n"
    );
    assert_eq!(
        run(
            &["apply", "--server-side", "-n", "shop", "-f", "-"],
            &web("example.org/web:1")
        ),
        "deployment.apps/web serverside-applied\n"
    );
    run(
        &[
            "rollout",
            "status",
            "-n",
            "shop",
            "deployment/web",
            "--timeout=30s",
        ],
        "",
    );
    let list = run(&["get", "deploy,po", "-A"], "");
    assert!(
        list.contains("1/1") && list.contains("Running") && list.starts_with("NAMESPACE"),
        "{list}"
    );
    let diff = run(
        &["diff", "--server-side", "-n", "shop", "-f", "-"],
        &web("example.org/web:2"),
    );
    assert!(diff.contains("image: example.org/web:2"), "{diff}");

    run(
        &["scale", "-n", "shop", "deployment/web", "--replicas=2"],
        "",
    );
    run(
        &[
            "set",
            "image",
            "-n",
            "shop",
            "deployment/web",
            "main=example.org/web:broken",
        ],
        "",
    );
    let waits = |what: &str, arguments: &[&str], wanted: &str| {
        crate::servers::kube::wait_until(what, || run(arguments, "").contains(wanted));
    };
    waits(
        "the image is missing",
        &["get", "pods", "-n", "shop"],
        "ImagePullBackOff",
    );
    waits(
        "an event says so",
        &["get", "events", "-n", "shop"],
        "Failed to pull image",
    );
    assert!(
        run(&["describe", "deployment", "web", "-n", "shop"], "")
            .contains("example.org/web:broken")
    );
    run(&["rollout", "undo", "-n", "shop", "deployment/web"], "");
    run(
        &[
            "rollout",
            "status",
            "-n",
            "shop",
            "deployment/web",
            "--timeout=30s",
        ],
        "",
    );
    assert!(
        run(
            &[
                "get",
                "deployment",
                "web",
                "-n",
                "shop",
                "-o",
                "yaml",
                "--show-managed-fields"
            ],
            ""
        )
        .contains("manager: kubectl")
    );

    assert_eq!(
        run(
            &["apply", "-n", "shop", "-f", "-"],
            &config(json!({"a": "1"})).to_string()
        ),
        "configmap/one created\n"
    );
    assert_eq!(
        run(
            &["apply", "-n", "shop", "-f", "-"],
            &config(json!({"b": "1"})).to_string()
        ),
        "configmap/one configured\n"
    );
    assert_eq!(
        run(
            &["get", "cm", "one", "-n", "shop", "-o", "jsonpath={.data}"],
            ""
        ),
        r#"{"b":"1"}"#
    );
    run(&["label", "cm", "one", "-n", "shop", "app=web"], "");
    assert_eq!(
        run(&["get", "cm", "-A", "-l", "app in (web)", "-o", "name"], ""),
        "configmap/one\n"
    );

    run(&["delete", "deployment", "web", "-n", "shop"], "");
    waits(
        "its pods go with it",
        &["get", "rs,po", "-n", "shop", "-o", "jsonpath={.items}"],
        "[]",
    );
    run(&["delete", "namespace", "shop"], "");
    assert!(!run(&["get", "cm", "-A"], "").contains("shop"));
}
