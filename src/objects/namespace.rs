//! Namespaces that tagboat created because an Application needed them. Pure.
//!
//! Such a Namespace carries no owner labels: several Applications may live in it, and one that
//! declares it takes it over without a conflict. An annotation marks it instead. It is deleted
//! with the last Application in it, unless anything else is left.

use super::{
    managed_fields,
    object::{Gvk, MANAGER, Object},
    plan,
};

/// The annotation of a created Namespace; its value is the Application that needed it first.
pub const CREATED_FOR: &str = "tagboat.dev/created-for";

const CREATED_FOR_POINTER: &str = "/metadata/annotations/tagboat.dev~1created-for";

/// Kinds whose objects the cluster derives from others.
const DERIVED_KINDS: [(&str, &str); 3] =
    [("", "Event"), ("events.k8s.io", "Event"), ("", "Endpoints")];

/// ConfigMaps that Kubernetes, OpenShift and Istio put into every namespace.
const COMMON_CONFIG_MAPS: [&str; 3] = [
    "kube-root-ca.crt",
    "openshift-service-ca.crt",
    "istio-ca-root-cert",
];

/// The ServiceAccount of every namespace.
const DEFAULT_ACCOUNT: &str = "default";

/// Returns whether tagboat created a Namespace and no Application has declared it since.
///
/// The annotation alone proves nothing: it may have been copied from another Namespace.
pub fn is_created_by_us(namespace: &Object) -> bool {
    let writers = managed_fields::managers_of(namespace, CREATED_FOR_POINTER);
    namespace.annotation(CREATED_FOR).is_some()
        && plan::owner(namespace).is_none()
        && writers.iter().any(|writer| writer.name == MANAGER)
}

/// The effect of an object on the deletion of its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupancy {
    /// Part of every namespace, or being deleted.
    None,
    /// It belongs to another object, with which it may be on its way out.
    Dependent,
    /// It would be lost.
    Occupied,
}

/// Returns whether the objects of a kind can occupy a namespace.
pub fn can_occupy(group: &str, kind: &str) -> bool {
    !DERIVED_KINDS.contains(&(group, kind))
}

/// Judges an object of a namespace that its last Application leaves.
pub fn occupancy(gvk: &Gvk, object: &Object) -> Occupancy {
    let is_common = match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "ConfigMap") => COMMON_CONFIG_MAPS.contains(&object.name()),
        ("", "ServiceAccount") => object.name() == DEFAULT_ACCOUNT,
        ("", "Secret") => {
            object.annotation("kubernetes.io/service-account.name") == Some(DEFAULT_ACCOUNT)
        }
        _ => false,
    };
    let has_owner = object
        .pointer("/metadata/ownerReferences/0")
        .is_some_and(serde_json::Value::is_object);
    if is_common || object.is_terminating() {
        Occupancy::None
    } else if has_owner {
        Occupancy::Dependent
    } else {
        Occupancy::Occupied
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(kind: &str, metadata: &Value) -> Object {
        let mut value = json!({"apiVersion": "v1", "kind": kind, "metadata": metadata});
        let metadata = value["metadata"].as_object_mut().unwrap();
        metadata.entry("name").or_insert_with(|| json!("x"));
        Object::new(value).unwrap()
    }

    #[test]
    fn created_namespace_needs_mark_and_manager() {
        let fields =
            json!({"f:metadata": {"f:annotations": {".": {}, "f:tagboat.dev/created-for": {}}}});
        let entry = |manager: &str, operation: &str| json!([{"manager": manager, "operation": operation, "fieldsV1": fields}]);
        let mark = json!({"tagboat.dev/created-for": "shop/web"});
        let cases = [
            (
                true,
                json!({"annotations": mark, "managedFields": entry("tagboat", "Update")}),
            ),
            (false, json!({"managedFields": entry("tagboat", "Update")})),
            (false, json!({"annotations": mark})),
            // A copy, by kubectl apply.
            (
                false,
                json!({"annotations": mark, "managedFields": entry("kubectl-client-side-apply", "Update")}),
            ),
            // Declared by an Application since.
            (
                false,
                json!({
                    "annotations": mark, "managedFields": entry("tagboat", "Update"),
                    "labels": {"tagboat.dev/namespace": "shop", "tagboat.dev/name": "base"},
                }),
            ),
        ];
        for (expected, metadata) in cases {
            assert_eq!(
                is_created_by_us(&object("Namespace", &metadata)),
                expected,
                "{metadata}"
            );
        }
    }

    #[test]
    fn occupancy_ignores_what_every_namespace_has() {
        let owned = json!({"ownerReferences": [{"kind": "ReplicaSet", "name": "web"}]});
        let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        let token = json!({"annotations": {"kubernetes.io/service-account.name": "default"}});
        let cases = [
            (
                Occupancy::None,
                "ConfigMap",
                json!({"name": "kube-root-ca.crt"}),
            ),
            (
                Occupancy::Occupied,
                "ConfigMap",
                json!({"name": "settings"}),
            ),
            (
                Occupancy::None,
                "ServiceAccount",
                json!({"name": "default"}),
            ),
            (
                Occupancy::Occupied,
                "ServiceAccount",
                json!({"name": "deployer"}),
            ),
            (Occupancy::None, "Secret", token),
            (Occupancy::Occupied, "Secret", json!({})),
            (Occupancy::Dependent, "Pod", owned),
            (Occupancy::None, "Pod", going),
            (
                Occupancy::Occupied,
                "PersistentVolumeClaim",
                json!({"name": "data-web-0"}),
            ),
        ];
        for (expected, kind, metadata) in cases {
            let judged = occupancy(&Gvk::new("v1", kind), &object(kind, &metadata));
            assert_eq!(judged, expected, "{kind} {metadata}");
        }
        assert!(can_occupy("", "Pod") && !can_occupy("events.k8s.io", "Event"));
    }
}
