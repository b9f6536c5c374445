//! Applications of four objects each, as several benchmarks deploy them.

use serde_json::{Value, json};

/// Namespaces that the Applications of a benchmark are spread over.
pub(crate) const NAMESPACES: usize = 50;

/// Declares Applications, in fifty namespaces that begin with `prefix`.
pub(crate) fn declarations(prefix: &str, applications: usize) -> String {
    let mut text =
        "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\nspec: {paths: ['**'], update: {via: commit}}\n"
            .to_owned();
    for number in 0..applications {
        let namespace = format!("{prefix}-{}", number % NAMESPACES);
        text.push_str(&format!(
            "---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: app-{number}, namespace: {namespace}}}\nspec: {{environment: dev, path: app-{number}, cluster: test, targetNamespace: {namespace}}}\n"
        ));
    }
    text
}

/// The objects of an Application: a Deployment without pods, a ServiceAccount, a Service and a
/// ConfigMap with this value.
pub(crate) fn objects(prefix: &str, number: usize, value: &str) -> Vec<Value> {
    let (name, namespace) = (
        format!("app-{number}"),
        format!("{prefix}-{}", number % NAMESPACES),
    );
    let metadata = json!({"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "fleet"}});
    let labels = json!({"app.kubernetes.io/name": name});
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, "automountServiceAccountToken": false}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": value, "log-level": "info", "listen": "0.0.0.0:8080"}}),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "serviceAccountName": name,
                        "containers": [{
                            "name": "main",
                            "image": format!("registry.example.org/team/{name}:1.2.3"),
                            "ports": [{"name": "http", "containerPort": 8080}],
                            "envFrom": [{"configMapRef": {"name": name}}],
                            "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
                        }],
                    },
                },
            },
        }),
    ]
}
