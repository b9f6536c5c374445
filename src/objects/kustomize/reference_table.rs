//! The fields in which kustomize looks for names of other resources.

use std::sync::LazyLock;

/// A field of one kind that holds the name of an object of another. Parts that are empty match all.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub target_group: &'static str,
    pub target_version: &'static str,
    pub target_kind: &'static str,
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub path: String,
}

/// All references, in the order in which they are updated.
pub(super) static REFERENCES: LazyLock<Vec<Reference>> = LazyLock::new(|| {
    let mut all = Vec::new();
    let mut add = |target: Kind, referrer: Kind, path: String| {
        all.push(Reference {
            target_group: target.0,
            target_version: target.1,
            target_kind: target.2,
            group: referrer.0,
            version: referrer.1,
            kind: referrer.2,
            path,
        });
    };
    for (target, fields) in POD_FIELDS {
        let pods = match target.2 {
            "ConfigMap" | "Secret" => CONTENT_PODS.as_slice(),
            _ => OTHER_PODS.as_slice(),
        };
        for (referrer, pod) in pods {
            for field in *fields {
                add(*target, *referrer, format!("{pod}/{field}"));
            }
        }
    }
    for (target, referrer, path) in FIELDS {
        add(*target, *referrer, (*path).to_owned());
    }
    let rank = |reference: &Reference| ORDER.iter().position(|kind| *kind == reference.target_kind);
    all.sort_by_key(rank);
    all
});

/// Group, version and kind.
type Kind = (&'static str, &'static str, &'static str);

const fn named(kind: &'static str) -> Kind {
    ("", "", kind)
}

const fn core(kind: &'static str) -> Kind {
    ("", "v1", kind)
}

const RBAC: &str = "rbac.authorization.k8s.io";

/// The order of the kinds that are referred to.
const ORDER: [&str; 15] = [
    "StorageClass",
    "ServiceAccount",
    "Role",
    "ClusterRole",
    "ConfigMap",
    "Secret",
    "Service",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "ValidatingAdmissionPolicy",
    "ReplicaSet",
    "ReplicationController",
];

/// The specs of pods that use ConfigMaps and Secrets.
const CONTENT_PODS: [(Kind, &str); 8] = [
    (core("Pod"), "spec"),
    (named("PodTemplate"), "template/spec"),
    (named("Deployment"), "spec/template/spec"),
    (named("ReplicaSet"), "spec/template/spec"),
    (named("DaemonSet"), "spec/template/spec"),
    (named("StatefulSet"), "spec/template/spec"),
    (named("Job"), "spec/template/spec"),
    (named("CronJob"), "spec/jobTemplate/spec/template/spec"),
];

/// The specs of pods that use everything else.
const OTHER_PODS: [(Kind, &str); 7] = [
    (named("Pod"), "spec"),
    (named("StatefulSet"), "spec/template/spec"),
    (named("Deployment"), "spec/template/spec"),
    (named("ReplicationController"), "spec/template/spec"),
    (named("CronJob"), "spec/jobTemplate/spec/template/spec"),
    (named("Job"), "spec/template/spec"),
    (named("DaemonSet"), "spec/template/spec"),
];

/// Names in the spec of a pod.
const POD_FIELDS: &[(Kind, &[&str])] = &[
    (
        core("ConfigMap"),
        &[
            "volumes/configMap/name",
            "containers/env/valueFrom/configMapKeyRef/name",
            "initContainers/env/valueFrom/configMapKeyRef/name",
            "containers/envFrom/configMapRef/name",
            "initContainers/envFrom/configMapRef/name",
            "volumes/projected/sources/configMap/name",
        ],
    ),
    (
        core("Secret"),
        &[
            "volumes/secret/secretName",
            "containers/env/valueFrom/secretKeyRef/name",
            "initContainers/env/valueFrom/secretKeyRef/name",
            "containers/envFrom/secretRef/name",
            "initContainers/envFrom/secretRef/name",
            "imagePullSecrets/name",
            "volumes/projected/sources/secret/name",
        ],
    ),
    (core("ServiceAccount"), &["serviceAccountName"]),
    (
        core("PersistentVolumeClaim"),
        &["volumes/persistentVolumeClaim/claimName"],
    ),
    (
        ("scheduling.k8s.io", "v1", "PriorityClass"),
        &["priorityClassName"],
    ),
];

/// Names elsewhere.
const FIELDS: &[(Kind, Kind, &str)] = &[
    (
        named("Deployment"),
        named("HorizontalPodAutoscaler"),
        "spec/scaleTargetRef/name",
    ),
    (
        named("ReplicationController"),
        named("HorizontalPodAutoscaler"),
        "spec/scaleTargetRef/name",
    ),
    (
        named("ReplicaSet"),
        named("HorizontalPodAutoscaler"),
        "spec/scaleTargetRef/name",
    ),
    (
        named("StatefulSet"),
        named("HorizontalPodAutoscaler"),
        "spec/scaleTargetRef/name",
    ),
    (
        core("ConfigMap"),
        named("Node"),
        "spec/configSource/configMap",
    ),
    (core("ConfigMap"), named("Role"), "rules/resourceNames"),
    (
        core("ConfigMap"),
        named("ClusterRole"),
        "rules/resourceNames",
    ),
    (
        core("ConfigMap"),
        named("Ingress"),
        "metadata/annotations/nginx.ingress.kubernetes.io\\/fastcgi-params-configmap",
    ),
    (core("Secret"), named("Ingress"), "spec/tls/secretName"),
    (
        core("Secret"),
        named("Ingress"),
        "metadata/annotations/ingress.kubernetes.io\\/auth-secret",
    ),
    (
        core("Secret"),
        named("Ingress"),
        "metadata/annotations/nginx.ingress.kubernetes.io\\/auth-secret",
    ),
    (
        core("Secret"),
        named("Ingress"),
        "metadata/annotations/nginx.ingress.kubernetes.io\\/auth-tls-secret",
    ),
    (core("Secret"), named("Ingress"), "spec/tls/secretName"),
    (
        core("Secret"),
        named("ServiceAccount"),
        "imagePullSecrets/name",
    ),
    (
        core("Secret"),
        named("StorageClass"),
        "parameters/secretName",
    ),
    (
        core("Secret"),
        named("StorageClass"),
        "parameters/adminSecretName",
    ),
    (
        core("Secret"),
        named("StorageClass"),
        "parameters/userSecretName",
    ),
    (
        core("Secret"),
        named("StorageClass"),
        "parameters/secretRef",
    ),
    (core("Secret"), named("Role"), "rules/resourceNames"),
    (core("Secret"), named("ClusterRole"), "rules/resourceNames"),
    (
        core("Secret"),
        ("serving.knative.dev", "v1", "Service"),
        "spec/template/spec/containers/env/valueFrom/secretKeyRef/name",
    ),
    (
        core("Secret"),
        named("PersistentVolume"),
        "spec/azureFile/secretName",
    ),
    (
        core("Service"),
        ("apps", "", "StatefulSet"),
        "spec/serviceName",
    ),
    (
        core("Service"),
        named("Ingress"),
        "spec/rules/http/paths/backend/serviceName",
    ),
    (
        core("Service"),
        named("Ingress"),
        "spec/backend/serviceName",
    ),
    (
        core("Service"),
        named("Ingress"),
        "spec/rules/http/paths/backend/service/name",
    ),
    (
        core("Service"),
        named("Ingress"),
        "spec/defaultBackend/service/name",
    ),
    (
        core("Service"),
        ("apiregistration.k8s.io", "", "APIService"),
        "spec/service/name",
    ),
    (
        core("Service"),
        (
            "admissionregistration.k8s.io",
            "",
            "ValidatingWebhookConfiguration",
        ),
        "webhooks/clientConfig/service",
    ),
    (
        core("Service"),
        (
            "admissionregistration.k8s.io",
            "",
            "MutatingWebhookConfiguration",
        ),
        "webhooks/clientConfig/service",
    ),
    (
        (RBAC, "", "Role"),
        (RBAC, "", "RoleBinding"),
        "roleRef/name",
    ),
    (
        (RBAC, "", "ClusterRole"),
        (RBAC, "", "RoleBinding"),
        "roleRef/name",
    ),
    (
        (RBAC, "", "ClusterRole"),
        (RBAC, "", "ClusterRoleBinding"),
        "roleRef/name",
    ),
    (
        core("ServiceAccount"),
        (RBAC, "", "RoleBinding"),
        "subjects",
    ),
    (
        core("ServiceAccount"),
        (RBAC, "", "ClusterRoleBinding"),
        "subjects",
    ),
    (
        core("PersistentVolume"),
        named("PersistentVolumeClaim"),
        "spec/volumeName",
    ),
    (
        core("PersistentVolume"),
        named("ClusterRole"),
        "rules/resourceNames",
    ),
    (
        ("storage.k8s.io", "v1", "StorageClass"),
        named("PersistentVolume"),
        "spec/storageClassName",
    ),
    (
        ("storage.k8s.io", "v1", "StorageClass"),
        named("PersistentVolumeClaim"),
        "spec/storageClassName",
    ),
    (
        ("storage.k8s.io", "v1", "StorageClass"),
        named("StatefulSet"),
        "spec/volumeClaimTemplates/spec/storageClassName",
    ),
    (
        (
            "admissionregistration.k8s.io",
            "",
            "ValidatingAdmissionPolicy",
        ),
        (
            "admissionregistration.k8s.io",
            "",
            "ValidatingAdmissionPolicyBinding",
        ),
        "spec/policyName",
    ),
];
