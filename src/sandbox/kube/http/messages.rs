//! Fields of Kubernetes' protobuf messages, as far as `kubectl create` sends them. The numbers are
//! those of `generated.proto` in k8s.io/api and k8s.io/apimachinery.

use FieldType::{BytesMap, Flag, IntOrString, Message, SetFlag, SetWhole, Text, TextMap, Whole};

/// The fields of a message: number, name in JSON, type.
pub(super) type Fields = &'static [(u32, &'static str, FieldType)];

#[derive(Debug, Clone, Copy)]
pub(super) enum FieldType {
    Text,
    Whole,
    Flag,
    /// A number or flag that is sent only if it is set: zero means zero.
    SetWhole,
    SetFlag,
    IntOrString,
    Message(Fields),
    TextMap,
    BytesMap,
    /// A repeated text or message.
    List(&'static FieldType),
}

const TEXTS: FieldType = FieldType::List(&Text);

const METADATA: FieldType = Message(&[
    (1, "name", Text),
    (2, "generateName", Text),
    (3, "namespace", Text),
    (11, "labels", TextMap),
    (12, "annotations", TextMap),
    (14, "finalizers", TEXTS),
]);

const SELECTOR: FieldType = Message(&[(1, "matchLabels", TextMap)]);

const CONTAINER: FieldType = Message(&[
    (1, "name", Text),
    (2, "image", Text),
    (3, "command", TEXTS),
    (4, "args", TEXTS),
    (5, "workingDir", Text),
    (
        6,
        "ports",
        FieldType::List(&Message(&[
            (1, "name", Text),
            (2, "hostPort", Whole),
            (3, "containerPort", Whole),
            (4, "protocol", Text),
            (5, "hostIP", Text),
        ])),
    ),
    (14, "imagePullPolicy", Text),
]);

const POD_TEMPLATE: FieldType = Message(&[
    (1, "metadata", METADATA),
    (
        2,
        "spec",
        Message(&[
            (2, "containers", FieldType::List(&CONTAINER)),
            (3, "restartPolicy", Text),
            (6, "dnsPolicy", Text),
            (8, "serviceAccountName", Text),
        ]),
    ),
]);

const DEPLOYMENT: Fields = &[
    (1, "metadata", METADATA),
    (
        2,
        "spec",
        Message(&[
            (1, "replicas", SetWhole),
            (2, "selector", SELECTOR),
            (3, "template", POD_TEMPLATE),
            (4, "strategy", Message(&[(1, "type", Text)])),
            (5, "minReadySeconds", Whole),
            (7, "paused", Flag),
        ]),
    ),
];

const JOB_SPEC: FieldType = Message(&[
    (1, "parallelism", SetWhole),
    (2, "completions", SetWhole),
    (6, "template", POD_TEMPLATE),
    (7, "backoffLimit", SetWhole),
    (8, "ttlSecondsAfterFinished", SetWhole),
    (10, "suspend", SetFlag),
]);

const CRON_JOB: Fields = &[
    (1, "metadata", METADATA),
    (
        2,
        "spec",
        Message(&[
            (1, "schedule", Text),
            (3, "concurrencyPolicy", Text),
            (4, "suspend", SetFlag),
            (
                5,
                "jobTemplate",
                Message(&[(1, "metadata", METADATA), (2, "spec", JOB_SPEC)]),
            ),
            (8, "timeZone", Text),
        ]),
    ),
];

const SERVICE: Fields = &[
    (1, "metadata", METADATA),
    (
        2,
        "spec",
        Message(&[
            (
                1,
                "ports",
                FieldType::List(&Message(&[
                    (1, "name", Text),
                    (2, "protocol", Text),
                    (3, "port", Whole),
                    (4, "targetPort", IntOrString),
                    (5, "nodePort", Whole),
                    (6, "appProtocol", Text),
                ])),
            ),
            (2, "selector", TextMap),
            (3, "clusterIP", Text),
            (4, "type", Text),
            (10, "externalName", Text),
        ]),
    ),
];

const ROLE: Fields = &[
    (1, "metadata", METADATA),
    (
        2,
        "rules",
        FieldType::List(&Message(&[
            (1, "verbs", TEXTS),
            (2, "apiGroups", TEXTS),
            (3, "resources", TEXTS),
            (4, "resourceNames", TEXTS),
            (5, "nonResourceURLs", TEXTS),
        ])),
    ),
];

const ROLE_BINDING: Fields = &[
    (1, "metadata", METADATA),
    (
        2,
        "subjects",
        FieldType::List(&Message(&[
            (1, "kind", Text),
            (2, "apiGroup", Text),
            (3, "name", Text),
            (4, "namespace", Text),
        ])),
    ),
    (
        3,
        "roleRef",
        Message(&[(1, "apiGroup", Text), (2, "kind", Text), (3, "name", Text)]),
    ),
];

const AUTOSCALER: Fields = &[
    (1, "metadata", METADATA),
    (
        2,
        "spec",
        Message(&[
            (
                1,
                "scaleTargetRef",
                Message(&[
                    (1, "kind", Text),
                    (2, "name", Text),
                    (3, "apiVersion", Text),
                ]),
            ),
            (2, "minReplicas", SetWhole),
            (3, "maxReplicas", Whole),
        ]),
    ),
];

/// Returns the fields of a kind that is read.
pub(super) fn of(api_version: &str, kind: &str) -> Option<Fields> {
    Some(match (api_version, kind) {
        ("v1", "ConfigMap") => &[
            (1, "metadata", METADATA),
            (2, "data", TextMap),
            (3, "binaryData", BytesMap),
            (4, "immutable", SetFlag),
        ],
        ("v1", "Secret") => &[
            (1, "metadata", METADATA),
            (2, "data", BytesMap),
            (3, "type", Text),
            (4, "stringData", TextMap),
            (5, "immutable", SetFlag),
        ],
        ("v1", "Namespace" | "ServiceAccount") => &[(1, "metadata", METADATA)],
        ("v1", "Service") => SERVICE,
        ("apps/v1", "Deployment") => DEPLOYMENT,
        ("batch/v1", "Job") => &[(1, "metadata", METADATA), (2, "spec", JOB_SPEC)],
        ("batch/v1", "CronJob") => CRON_JOB,
        ("rbac.authorization.k8s.io/v1", "Role" | "ClusterRole") => ROLE,
        ("rbac.authorization.k8s.io/v1", "RoleBinding" | "ClusterRoleBinding") => ROLE_BINDING,
        ("autoscaling/v2", "HorizontalPodAutoscaler") => AUTOSCALER,
        _ => return None,
    })
}
