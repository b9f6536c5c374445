//! Defaulting and validation of workloads and services, as far as users see it. Pure.

use super::{
    kinds::SandboxKind,
    refusal::{KubeRefusal, RefusalCause},
};
use serde_json::{Value, json};

/// The API server's message for a missing field.
const REQUIRED: &str = "Required value";

/// Sets absent fields to their defaults.
pub(super) fn add(kind: &SandboxKind, object: &mut Value) {
    match kind.kind.as_str() {
        "Deployment" => {
            default(object, "/spec", "replicas", json!(1));
            default(object, "/spec", "revisionHistoryLimit", json!(10));
            default(object, "/spec", "progressDeadlineSeconds", json!(600));
            default(
                object,
                "/spec",
                "strategy",
                json!({"type": "RollingUpdate"}),
            );
            if object["spec"]["strategy"]["type"] == "RollingUpdate" {
                default(
                    object,
                    "/spec/strategy",
                    "rollingUpdate",
                    json!({"maxUnavailable": "25%", "maxSurge": "25%"}),
                );
            }
        }
        "ReplicaSet" | "StatefulSet" => default(object, "/spec", "replicas", json!(1)),
        "Service" => {
            default(object, "/spec", "type", json!("ClusterIP"));
            default(object, "/spec", "sessionAffinity", json!("None"));
            default(object, "/spec", "internalTrafficPolicy", json!("Cluster"));
            for port in object
                .get_mut("spec")
                .into_iter()
                .flat_map(|spec| elements(spec, "ports"))
            {
                default(port, "", "protocol", json!("TCP"));
                let target = port["port"].clone();
                default(port, "", "targetPort", target);
            }
        }
        "Namespace" => {
            let name = object["metadata"]["name"].clone();
            default(object, "/metadata", "labels", json!({}));
            default(
                object,
                "/metadata/labels",
                "kubernetes.io/metadata.name",
                name,
            );
            default(object, "", "spec", json!({"finalizers": ["kubernetes"]}));
            default(object, "", "status", json!({"phase": "Active"}));
        }
        "Secret" => {
            default(object, "", "type", json!("Opaque"));
            bytes_of_strings(object);
        }
        "PersistentVolumeClaim" => default(object, "", "status", json!({"phase": "Pending"})),
        "Pod" => default(object, "", "status", json!({"phase": "Pending"})),
        _ => {}
    }
    let pod = if kind.kind == "Pod" {
        "/spec"
    } else {
        "/spec/template/spec"
    };
    if kind.builtin
        && let Some(spec) = object.pointer_mut(pod).filter(|spec| spec.is_object())
    {
        pod_spec(
            spec,
            if kind.kind == "Job" {
                "Never"
            } else {
                "Always"
            },
        );
    }
}

fn pod_spec(spec: &mut Value, restart: &str) {
    for (name, value) in [
        ("restartPolicy", json!(restart)),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
    ] {
        default(spec, "", name, value);
    }
    for volume in elements(spec, "volumes") {
        if volume.as_object().is_some_and(|volume| volume.len() == 1) {
            default(volume, "", "emptyDir", json!({}));
        }
    }
    for list in ["containers", "initContainers"] {
        for container in elements(spec, list) {
            let image = container["image"].as_str().unwrap_or_default();
            let tag = image
                .rsplit('/')
                .next()
                .and_then(|last| last.split_once(':'))
                .map(|(_, tag)| tag);
            let always = !image.contains('@') && matches!(tag, None | Some("latest"));
            let pull = json!(if always { "Always" } else { "IfNotPresent" });
            for (name, value) in [
                ("resources", json!({})),
                ("terminationMessagePath", json!("/dev/termination-log")),
                ("terminationMessagePolicy", json!("File")),
                ("imagePullPolicy", pull),
            ] {
                default(container, "", name, value);
            }
            for port in elements(container, "ports") {
                default(port, "", "protocol", json!("TCP"));
            }
        }
    }
}

/// `stringData` of a Secret is for writing only.
fn bytes_of_strings(secret: &mut Value) {
    use base64::Engine;
    let Some(Value::Object(strings)) = secret
        .as_object_mut()
        .and_then(|secret| secret.shift_remove("stringData"))
    else {
        return;
    };
    for (name, value) in strings {
        let text = value.as_str().unwrap_or_default();
        secret["data"][name] = json!(base64::engine::general_purpose::STANDARD.encode(text));
    }
}

/// The elements of a list, if there is one.
fn elements<'a>(object: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    object
        .get_mut(list)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

fn default(object: &mut Value, pointer: &str, name: &str, value: Value) {
    if let Some(Value::Object(map)) = object.pointer_mut(pointer)
        && map.get(name).is_none_or(Value::is_null)
    {
        map.insert(name.to_owned(), value);
    }
}

/// Maps on the way to what the server reads and writes; below a `*` each element is one, too.
const MAPS: &[&str] = &[
    "",
    "/metadata",
    "/metadata/labels",
    "/metadata/annotations",
    "/metadata/ownerReferences/*",
];
/// The same in built-in kinds.
const BUILTIN_MAPS: &[&str] = &[
    "/spec",
    "/status",
    "/data",
    "/stringData",
    "/spec/names",
    "/spec/ports/*",
    "/spec/selector",
    "/spec/strategy",
    "/spec/versions/*",
    "/spec/volumeClaimTemplates/*",
    "/spec/containers/*",
    "/spec/initContainers/*",
    "/spec/template",
    "/spec/template/metadata",
    "/spec/template/metadata/labels",
    "/spec/template/metadata/annotations",
    "/spec/template/spec",
    "/spec/template/spec/containers/*",
    "/spec/template/spec/initContainers/*",
    "/status/conditions/*",
];

/// Refuses an object that is not even of the shape that everything here counts on.
///
/// # Errors
/// [`KubeRefusal::BadRequest`] with the first wrong place.
pub(super) fn check_shape(kind: &SandboxKind, object: &Value) -> Result<(), KubeRefusal> {
    let is_map = |value: &Value| value.is_object() || value.is_null();
    for pointer in MAPS
        .iter()
        .chain(if kind.builtin { BUILTIN_MAPS } else { &[] })
    {
        let (place, fine) = match pointer.strip_suffix("/*") {
            Some(list) => {
                let fine = |value: &Value| {
                    value.is_null()
                        || value
                            .as_array()
                            .is_some_and(|all| all.iter().all(Value::is_object))
                };
                (list, object.pointer(list).is_none_or(fine))
            }
            None => (*pointer, object.pointer(pointer).is_none_or(is_map)),
        };
        if !fine || object.is_null() {
            return Err(KubeRefusal::BadRequest(format!(
                "the object has the wrong shape at {:?}",
                place.replace('/', ".")
            )));
        }
    }
    Ok(())
}

/// Removes nulls, which mean absent.
pub(super) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Rejects what the API server would: an invalid name, a workload whose selector does not match, a
/// change of an immutable field.
///
/// # Errors
/// [`KubeRefusal::Invalid`] with each field.
pub(super) fn check(
    kind: &SandboxKind,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), KubeRefusal> {
    let mut causes = Vec::new();
    let mut wrong = |field: &str, message: String| {
        let reason = match message.split(':').next() {
            Some(REQUIRED) => "FieldValueRequired",
            Some("Duplicate value") => "FieldValueDuplicate",
            Some("Forbidden") => "FieldValueForbidden",
            _ => "FieldValueInvalid",
        };
        causes.push(RefusalCause {
            reason,
            message,
            field: field.to_owned(),
        });
    };
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    let is_part = |part: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == ':';
        !part.is_empty()
            && part.chars().all(inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(is_part) {
        wrong(
            "metadata.name",
            format!(
                "Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
            ),
        );
    }
    if matches!(
        (kind.group.as_str(), kind.kind.as_str()),
        (
            "apps",
            "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet"
        )
    ) {
        let selected = new["spec"]["selector"]["matchLabels"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        let labels = &new["spec"]["template"]["metadata"]["labels"];
        if new["spec"]["selector"].is_null() {
            wrong("spec.selector", REQUIRED.to_owned());
        } else if selected
            .iter()
            .any(|(name, value)| labels.get(name) != Some(value))
        {
            wrong(
                "spec.template.metadata.labels",
                format!("Invalid value: {labels}: `selector` does not match template `labels`"),
            );
        }
        if new["spec"]["template"]["spec"]["containers"]
            .as_array()
            .is_none_or(Vec::is_empty)
        {
            wrong("spec.template.spec.containers", REQUIRED.to_owned());
        }
    }
    if kind.builtin {
        super::unions::check(kind, old, new, &mut wrong);
    }
    if let Some(old) = old {
        fixed(kind, old, new, &mut wrong);
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(KubeRefusal::Invalid(causes))
    }
}

/// Reports changes of immutable fields.
fn fixed(kind: &SandboxKind, old: &Value, new: &Value, wrong: &mut dyn FnMut(&str, String)) {
    let fixed: &[&str] = match (kind.group.as_str(), kind.kind.as_str()) {
        ("apps", _) => &["/spec/selector"],
        ("batch", "Job") => &["/spec/selector", "/spec/template"],
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => &["/roleRef"],
        ("", "Secret") => &["/type"],
        _ => &[],
    };
    for pointer in fixed {
        let value = new.pointer(pointer);
        if old.pointer(pointer).is_some() && old.pointer(pointer) != value {
            let value = value.unwrap_or(&Value::Null);
            wrong(
                &pointer[1..].replace('/', "."),
                format!("Invalid value: {value}: field is immutable"),
            );
        }
    }
    let sealed = matches!(kind.kind.as_str(), "ConfigMap" | "Secret") && old["immutable"] == true;
    if sealed && (old["data"] != new["data"] || new["immutable"] != true) {
        wrong(
            "data",
            "Forbidden: field is immutable when `immutable` is set".to_owned(),
        );
    }
}
