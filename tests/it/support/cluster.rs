//! A way into a cluster.

use serde_json::{Value, json};

/// A kubeconfig of one cluster and one user.
pub fn kubeconfig(cluster: &Value, user: &Value) -> Value {
    json!({
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    })
}
