//! Autoscalers, and who scaled an object.

use super::object::{Gvk, Object, ObjectKey};
use serde_json::Value;

/// The kinds that scale other objects. KEDA makes HorizontalPodAutoscalers, but none while it is
/// paused.
pub const AUTOSCALERS: [(&str, &str); 2] = [
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("keda.sh", "ScaledObject"),
];

/// Returns the object that an autoscaler scales.
pub fn scale_target(autoscaler: &Object) -> Option<ObjectKey> {
    let target = autoscaler.pointer("/spec/scaleTargetRef")?;
    let text = |field: &str| target.get(field).and_then(Value::as_str);
    // KEDA's defaults.
    let gvk = Gvk::new(
        text("apiVersion").unwrap_or("apps/v1"),
        text("kind").unwrap_or("Deployment"),
    );
    let namespace = autoscaler.namespace().map(str::to_owned);
    Some(ObjectKey::new(
        gvk.group,
        gvk.kind,
        namespace,
        text("name")?,
    ))
}

/// Returns whether a field manager that has set a scale is an autoscaler, not a person's client.
pub fn is_autoscaler(manager: &str) -> bool {
    matches!(
        manager,
        "kube-controller-manager" | "horizontal-pod-autoscaler"
    ) || manager.starts_with("keda")
}

/// Returns whether the number of an object's replicas stays when Git stops naming it: a default of
/// the API server would take its place.
pub fn keeps_replicas(gvk: &Gvk) -> bool {
    match gvk.group.as_str() {
        "apps" => matches!(
            gvk.kind.as_str(),
            "Deployment" | "StatefulSet" | "ReplicaSet"
        ),
        "" => gvk.kind == "ReplicationController",
        "argoproj.io" => gvk.kind == "Rollout",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scale_target_table() {
        let autoscaler = |target: Value| {
            let object = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "web", "namespace": "shop"}, "spec": {"scaleTargetRef": target}});
            scale_target(&Object::new(object).unwrap())
                .map(|key| (key.group.clone(), key.to_string()))
        };
        let found = |group: &str, key: &str| Some((group.to_owned(), key.to_owned()));
        for (target, expected) in [
            (
                json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db"}),
                found("apps", "StatefulSet shop/db"),
            ),
            (json!({"name": "web"}), found("apps", "Deployment shop/web")),
            (json!({"kind": "Deployment"}), None),
            (json!(null), None),
        ] {
            assert_eq!(autoscaler(target), expected);
        }
        assert!(is_autoscaler("keda-operator") && is_autoscaler("kube-controller-manager"));
        assert!(!is_autoscaler("k9s") && !is_autoscaler("kubectl"));
    }
}
