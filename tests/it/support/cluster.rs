//! Kubeconfigs for tests.

use serde_json::{Value, json};

pub(crate) fn kubeconfig(cluster: &Value, user: &Value) -> Value {
    json!({
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    })
}
