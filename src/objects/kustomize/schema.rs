//! The parts of Kubernetes' schemas (version 1.21) that kustomize merges by.
//!
//! kustomize 5 carries the OpenAPI document of Kubernetes 1.21. Objects of kinds that it does not
//! name, such as HorizontalPodAutoscaler of autoscaling/v2, are merged like custom resources: maps
//! field by field, lists as a whole.

/// A kind, or a part of one, in which lists are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A whole object.
    Object(ObjectShape),
    Metadata,
    /// A spec with a pod template.
    Workload,
    StatefulSet,
    CronJob,
    JobTemplate,
    PodTemplate,
    PodSpec,
    Container,
    EphemeralContainer,
    Volume,
    EphemeralVolume,
    ServiceSpec,
    NodeSpec,
    CsiSpec,
    /// A status of which only the conditions are merged.
    Status,
    PodStatus,
    NodeStatus,
    /// A list and its elements.
    List(ListShape),
}

/// The merge of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListShape {
    /// The fields that tell elements apart; none for a list of scalars.
    pub keys: &'static [&'static str],
    pub element: Element,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Plain,
    Container,
    EphemeralContainer,
    Volume,
}

/// The fields of an object beside its metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ObjectShape {
    MetadataOnly,
    Workload,
    StatefulSet,
    CronJob,
    Pod,
    PodTemplate,
    Service,
    ServiceAccount,
    Status,
    Node,
    CsiNode,
    ComponentStatus,
    Webhooks,
}

impl Shape {
    /// Returns the shape of the objects of a kind; `None` where kustomize has no schema.
    pub(super) fn of(api_version: &str, kind: &str) -> Option<Self> {
        use ObjectShape as O;
        let shape = match (api_version, kind) {
            ("apps/v1", "Deployment" | "DaemonSet" | "ReplicaSet")
            | ("batch/v1", "Job")
            | ("v1", "ReplicationController") => O::Workload,
            ("apps/v1", "StatefulSet") => O::StatefulSet,
            ("batch/v1" | "batch/v1beta1", "CronJob") => O::CronJob,
            ("v1", "Pod") => O::Pod,
            ("v1", "PodTemplate") => O::PodTemplate,
            ("v1", "Service") => O::Service,
            ("v1", "ServiceAccount") => O::ServiceAccount,
            ("v1", "Namespace" | "PersistentVolumeClaim")
            | ("policy/v1" | "policy/v1beta1", "PodDisruptionBudget")
            | ("apiregistration.k8s.io/v1" | "apiregistration.k8s.io/v1beta1", "APIService") => {
                O::Status
            }
            ("v1", "Node") => O::Node,
            ("v1", "ComponentStatus") => O::ComponentStatus,
            ("storage.k8s.io/v1" | "storage.k8s.io/v1beta1", "CSINode") => O::CsiNode,
            (
                "admissionregistration.k8s.io/v1" | "admissionregistration.k8s.io/v1beta1",
                "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration",
            ) => O::Webhooks,
            _ if is_metadata_only(api_version, kind) => O::MetadataOnly,
            _ => return None,
        };
        Some(Self::Object(shape))
    }

    /// Returns the shape of a field in which lists are merged.
    pub(super) fn field(self, name: &str) -> Option<Self> {
        Some(match (self, name) {
            (Self::Object(_) | Self::JobTemplate | Self::PodTemplate, "metadata") => Self::Metadata,
            (Self::EphemeralVolume, "volumeClaimTemplate") => {
                Self::Object(ObjectShape::MetadataOnly)
            }
            (Self::Metadata, "finalizers") => list(&[], Element::Plain),
            (Self::Metadata, "ownerReferences") => list(&["uid"], Element::Plain),
            (Self::Object(object), name) => return object.field(name),
            (Self::JobTemplate, "spec") => Self::Workload,
            (Self::Workload | Self::StatefulSet, "template") => Self::PodTemplate,
            (Self::CronJob, "jobTemplate") => Self::JobTemplate,
            (Self::PodTemplate, "spec") => Self::PodSpec,
            (Self::PodSpec, "containers" | "initContainers") => list(&["name"], Element::Container),
            (Self::PodSpec, "ephemeralContainers") => list(&["name"], Element::EphemeralContainer),
            (Self::PodSpec, "hostAliases") => list(&["ip"], Element::Plain),
            (Self::PodSpec, "imagePullSecrets") => list(&["name"], Element::Plain),
            (Self::PodSpec, "topologySpreadConstraints") => {
                list(&["topologyKey", "whenUnsatisfiable"], Element::Plain)
            }
            (Self::PodSpec, "volumes") => list(&["name"], Element::Volume),
            (Self::Container | Self::EphemeralContainer, "env") => list(&["name"], Element::Plain),
            (Self::Container | Self::EphemeralContainer, "volumeDevices") => {
                list(&["devicePath"], Element::Plain)
            }
            (Self::Container | Self::EphemeralContainer, "volumeMounts") => {
                list(&["mountPath"], Element::Plain)
            }
            (Self::Container, "ports") => list(&["containerPort", "protocol"], Element::Plain),
            (Self::Volume, "ephemeral") => Self::EphemeralVolume,
            (Self::ServiceSpec, "ports") => list(&["port", "protocol"], Element::Plain),
            (Self::NodeSpec, "podCIDRs") => list(&[], Element::Plain),
            (Self::CsiSpec, "drivers") => list(&["name"], Element::Plain),
            (Self::Status | Self::PodStatus | Self::NodeStatus, "conditions")
            | (Self::NodeStatus, "addresses") => list(&["type"], Element::Plain),
            (Self::PodStatus, "podIPs") => list(&["ip"], Element::Plain),
            _ => return None,
        })
    }
}

impl ObjectShape {
    fn field(self, name: &str) -> Option<Shape> {
        Some(match (self, name) {
            (Self::Workload, "spec") => Shape::Workload,
            (Self::StatefulSet, "spec") => Shape::StatefulSet,
            (Self::CronJob, "spec") => Shape::CronJob,
            (Self::Pod, "spec") => Shape::PodSpec,
            (Self::PodTemplate, "template") => Shape::PodTemplate,
            (Self::Service, "spec") => Shape::ServiceSpec,
            (Self::Node, "spec") => Shape::NodeSpec,
            (Self::CsiNode, "spec") => Shape::CsiSpec,
            (Self::Workload | Self::StatefulSet | Self::Service | Self::Status, "status") => {
                Shape::Status
            }
            (Self::Pod, "status") => Shape::PodStatus,
            (Self::Node, "status") => Shape::NodeStatus,
            (Self::ServiceAccount, "secrets") | (Self::Webhooks, "webhooks") => {
                list(&["name"], Element::Plain)
            }
            (Self::ComponentStatus, "conditions") => list(&["type"], Element::Plain),
            _ => return None,
        })
    }
}

impl ListShape {
    pub(super) fn element(self) -> Option<Shape> {
        match self.element {
            Element::Plain => None,
            Element::Container => Some(Shape::Container),
            Element::EphemeralContainer => Some(Shape::EphemeralContainer),
            Element::Volume => Some(Shape::Volume),
        }
    }
}

fn list(keys: &'static [&'static str], element: Element) -> Shape {
    Shape::List(ListShape { keys, element })
}

/// Kinds that kustomize knows and merges no list of, beside those of the metadata.
fn is_metadata_only(api_version: &str, kind: &str) -> bool {
    match api_version {
        "v1" => matches!(
            kind,
            "Binding"
                | "ConfigMap"
                | "Endpoints"
                | "Event"
                | "LimitRange"
                | "PersistentVolume"
                | "ResourceQuota"
                | "Secret"
        ),
        "apps/v1" => kind == "ControllerRevision",
        "authentication.k8s.io/v1" => matches!(kind, "TokenRequest" | "TokenReview"),
        "authentication.k8s.io/v1beta1" => kind == "TokenReview",
        "authorization.k8s.io/v1" | "authorization.k8s.io/v1beta1" => matches!(
            kind,
            "LocalSubjectAccessReview"
                | "SelfSubjectAccessReview"
                | "SelfSubjectRulesReview"
                | "SubjectAccessReview"
        ),
        "autoscaling/v1" => matches!(kind, "HorizontalPodAutoscaler" | "Scale"),
        "autoscaling/v2beta1" | "autoscaling/v2beta2" => kind == "HorizontalPodAutoscaler",
        "certificates.k8s.io/v1" | "certificates.k8s.io/v1beta1" => {
            kind == "CertificateSigningRequest"
        }
        "coordination.k8s.io/v1" | "coordination.k8s.io/v1beta1" => kind == "Lease",
        "discovery.k8s.io/v1" | "discovery.k8s.io/v1beta1" => kind == "EndpointSlice",
        "events.k8s.io/v1" | "events.k8s.io/v1beta1" => kind == "Event",
        "extensions/v1beta1" => kind == "Ingress",
        "flowcontrol.apiserver.k8s.io/v1beta1" => {
            matches!(kind, "FlowSchema" | "PriorityLevelConfiguration")
        }
        "networking.k8s.io/v1" => matches!(kind, "Ingress" | "IngressClass" | "NetworkPolicy"),
        "networking.k8s.io/v1beta1" => matches!(kind, "Ingress" | "IngressClass"),
        "node.k8s.io/v1" | "node.k8s.io/v1beta1" => kind == "RuntimeClass",
        "policy/v1beta1" => matches!(kind, "Eviction" | "PodSecurityPolicy"),
        "rbac.authorization.k8s.io/v1" | "rbac.authorization.k8s.io/v1beta1" => matches!(
            kind,
            "ClusterRole" | "ClusterRoleBinding" | "Role" | "RoleBinding"
        ),
        "scheduling.k8s.io/v1" | "scheduling.k8s.io/v1beta1" => kind == "PriorityClass",
        "storage.k8s.io/v1" => {
            matches!(kind, "CSIDriver" | "StorageClass" | "VolumeAttachment")
        }
        "storage.k8s.io/v1beta1" => matches!(
            kind,
            "CSIDriver" | "CSIStorageCapacity" | "StorageClass" | "VolumeAttachment"
        ),
        "apiextensions.k8s.io/v1" | "apiextensions.k8s.io/v1beta1" => {
            kind == "CustomResourceDefinition"
        }
        _ => false,
    }
}

/// Returns whether kustomize knows a kind as cluster-scoped.
pub(super) fn is_cluster_scoped(api_version: &str, kind: &str) -> bool {
    match api_version {
        "v1" => matches!(
            kind,
            "ComponentStatus" | "Namespace" | "Node" | "NodeProxyOptions" | "PersistentVolume"
        ),
        "admissionregistration.k8s.io/v1" | "admissionregistration.k8s.io/v1beta1" => matches!(
            kind,
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration"
        ),
        "apiextensions.k8s.io/v1" | "apiextensions.k8s.io/v1beta1" => {
            kind == "CustomResourceDefinition"
        }
        "apiregistration.k8s.io/v1" | "apiregistration.k8s.io/v1beta1" => kind == "APIService",
        "certificates.k8s.io/v1" | "certificates.k8s.io/v1beta1" => {
            kind == "CertificateSigningRequest"
        }
        "flowcontrol.apiserver.k8s.io/v1beta1" => {
            matches!(kind, "FlowSchema" | "PriorityLevelConfiguration")
        }
        "networking.k8s.io/v1" | "networking.k8s.io/v1beta1" => kind == "IngressClass",
        "node.k8s.io/v1" | "node.k8s.io/v1beta1" => kind == "RuntimeClass",
        "policy/v1beta1" => kind == "PodSecurityPolicy",
        "rbac.authorization.k8s.io/v1" | "rbac.authorization.k8s.io/v1beta1" => {
            matches!(kind, "ClusterRole" | "ClusterRoleBinding")
        }
        "scheduling.k8s.io/v1" | "scheduling.k8s.io/v1beta1" => kind == "PriorityClass",
        "storage.k8s.io/v1" | "storage.k8s.io/v1beta1" => matches!(
            kind,
            "CSIDriver" | "CSINode" | "StorageClass" | "VolumeAttachment"
        ),
        _ => false,
    }
}
