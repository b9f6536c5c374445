//! What users type into kubectl, against the sandbox's API server.

use super::sandbox::{kubectl, kubectl_output};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use tagboat::sandbox::kube::{SandboxCluster, SandboxOptions};

/// Returns whether an object has everything that another one says; empty values say nothing.
fn says_all(live: &Value, said: &Value) -> bool {
    match said {
        Value::Null => true,
        Value::Object(fields) => fields
            .iter()
            .all(|(name, value)| says_all(live.get(name).unwrap_or(&Value::Null), value)),
        Value::Array(list) => {
            let elements = live.as_array().map_or(&[][..], Vec::as_slice);
            elements.len() == list.len()
                && elements
                    .iter()
                    .zip(list)
                    .all(|(live, said)| says_all(live, said))
        }
        said => live == said,
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: run tests/run cluster"]
async fn sandbox_creates_what_kubectl_types() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = SandboxCluster::start(SandboxOptions::default())
        .await
        .unwrap();
    let run = |arguments: &[&str]| kubectl(&sandbox, folder.path(), arguments, "");
    let create = [
        (
            "deployment web --image=example.org/web:1 --replicas=0 --port=80",
            "deployment/web",
        ),
        ("deployment two --image=a:1 --image=b:1", "deployment/two"),
        (
            "deployment sleeper --image=a:1 -- sleep 1",
            "deployment/sleeper",
        ),
        (
            "configmap one --from-literal=a=b --from-literal=c=ä",
            "configmap/one",
        ),
        (
            "secret generic s --from-literal=password=hunter2",
            "secret/s",
        ),
        (
            "secret docker-registry r --docker-server=a --docker-username=b --docker-password=c",
            "secret/r",
        ),
        ("namespace extra", "namespace/extra"),
        ("serviceaccount bot", "serviceaccount/bot"),
        ("service clusterip web --tcp=80:8080", "service/web"),
        ("service nodeport node --tcp=80:http", "service/node"),
        (
            "service externalname away --external-name=example.org",
            "service/away",
        ),
        ("job j --image=busybox -- echo hello", "job/j"),
        (
            "cronjob c --image=busybox --schedule=0_4_*_*_* -- echo hello",
            "cronjob/c",
        ),
        (
            "role reader --verb=get,list --resource=pods,deployments.apps",
            "role/reader",
        ),
        (
            "rolebinding readers --role=reader --serviceaccount=default:bot --user=ada",
            "rolebinding/readers",
        ),
        (
            "clusterrole all --verb=* --non-resource-url=/metrics",
            "clusterrole/all",
        ),
        (
            "clusterrolebinding everyone --clusterrole=all --group=everyone",
            "clusterrolebinding/everyone",
        ),
    ];
    for (command, name) in create {
        let words: Vec<String> = command
            .split(' ')
            .map(|word| word.replace('_', " "))
            .collect();
        let mut typed = vec!["create"];
        typed.extend(words.iter().map(String::as_str));
        let mut planned = typed.clone();
        let end = typed
            .iter()
            .position(|word| *word == "--")
            .unwrap_or(typed.len());
        planned.splice(end..end, ["--dry-run=client", "-o", "json"]);
        let mut said: Value = serde_json::from_str(&run(&planned)).unwrap();
        said["metadata"]["creationTimestamp"] = Value::Null;
        said["status"] = Value::Null;
        assert!(run(&typed).ends_with("created\n"), "{command}");
        let live: Value = serde_json::from_str(&run(&["get", name, "-o", "json"])).unwrap();
        assert!(says_all(&live, &said), "{command}: {said:#} and {live:#}");
    }
    run(&["autoscale", "deployment", "web", "--max=3"]);
    assert_eq!(
        run(&[
            "get",
            "hpa",
            "web",
            "-o",
            "jsonpath={.spec.maxReplicas} {.spec.scaleTargetRef.name}"
        ]),
        "3 web"
    );

    // An editor that adds a field once: kubectl would open it again after a refusal.
    let editor = folder.path().join("editor");
    std::fs::write(&editor, "#!/bin/sh\ngrep -q minReadySeconds \"$1\" || sed -i 's/^spec:/spec:\\n  minReadySeconds: 3/' \"$1\"\n").unwrap();
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).unwrap();
    let edit = kubectl_output(
        &sandbox,
        folder.path(),
        &["edit", "deployment", "web"],
        &[("KUBE_EDITOR", editor.to_str().unwrap())],
        "",
    );
    assert!(edit.status.success(), "{edit:?}");
    assert_eq!(
        run(&[
            "get",
            "deployment",
            "web",
            "-o",
            "jsonpath={.spec.minReadySeconds}"
        ]),
        "3"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: run tests/run cluster"]
async fn sandbox_tells_kubectl_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = SandboxCluster::start(SandboxOptions::default())
        .await
        .unwrap();
    let run = |arguments: &[&str]| kubectl(&sandbox, folder.path(), arguments, "");
    run(&["run", "one", "--image=example.org/one:1"]);
    run(&["wait", "--for=condition=Ready", "pod/one", "--timeout=60s"]);
    for (command, says) in [
        (
            "create ingress i --rule=example.org/=web:80",
            "pipe it to `kubectl apply -f -`",
        ),
        (
            "create deployment x --image=a --dry-run=server -n missing",
            "namespaces \"missing\" not found",
        ),
        (
            "logs one",
            "the sandbox runs no containers: there is no pods/log",
        ),
        (
            "exec one -- ls",
            "the sandbox runs no containers: there is no pods/exec",
        ),
        (
            "attach one",
            "the sandbox runs no containers: there is no pods/attach",
        ),
        (
            "port-forward one 8080:80",
            "the sandbox runs no containers: there is no pods/portforward",
        ),
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let output = kubectl_output(&sandbox, folder.path(), &words, &[], "");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && text.contains(says),
            "{command}: {text}"
        );
    }
}
