//! Refusals, with the messages and codes of Kubernetes (`kind: Status`).

use super::kinds::SandboxKind;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// One of several causes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RefusalCause {
    /// `FieldManagerConflict`, `FieldValueInvalid`.
    pub reason: &'static str,
    pub message: String,
    /// `.spec.replicas`.
    pub field: String,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KubeRefusal {
    /// 400.
    BadRequest(String),
    /// 401.
    Unauthorized,
    /// 404: no such object.
    NotFound,
    /// 404: no such namespace.
    NoNamespace(String),
    /// 404: no such path.
    NoSuchPath,
    /// 405.
    MethodNotAllowed,
    /// 409: there already.
    AlreadyExists,
    /// 409: changed meanwhile.
    Conflict(String),
    /// 409: others own the fields.
    Conflicts(Vec<RefusalCause>),
    /// 403: nothing new in a namespace that ends.
    Terminating(String),
    /// 410: the watch starts before the oldest kept change.
    Expired(String),
    /// 415.
    MediaType(String),
    /// 422: a JSON patch that does not fit the object.
    PatchMismatch,
    /// 415: a kind, or a field of one, that is read as JSON only.
    Protobuf(String),
    /// 501: a part of a Pod that only a running container has.
    NoContainers(&'static str),
    /// 422.
    Invalid(Vec<RefusalCause>),
}

impl KubeRefusal {
    /// The HTTP status.
    pub(super) fn code(&self) -> u16 {
        match self {
            KubeRefusal::BadRequest(_) => 400,
            KubeRefusal::Unauthorized => 401,
            KubeRefusal::Terminating(_) => 403,
            KubeRefusal::NotFound | KubeRefusal::NoNamespace(_) | KubeRefusal::NoSuchPath => 404,
            KubeRefusal::MethodNotAllowed => 405,
            KubeRefusal::AlreadyExists | KubeRefusal::Conflict(_) | KubeRefusal::Conflicts(_) => {
                409
            }
            KubeRefusal::Expired(_) => 410,
            KubeRefusal::MediaType(_) | KubeRefusal::Protobuf(_) => 415,
            KubeRefusal::PatchMismatch | KubeRefusal::Invalid(_) => 422,
            KubeRefusal::NoContainers(_) => 501,
        }
    }

    /// The body of the answer; kind and name where the request has them.
    pub(super) fn status(&self, kind: Option<&SandboxKind>, name: &str) -> Value {
        let resource = kind.map(SandboxKind::resource).unwrap_or_default();
        let (reason, message) = match self {
            KubeRefusal::BadRequest(why) => ("BadRequest", why.clone()),
            KubeRefusal::Unauthorized => ("Unauthorized", "Unauthorized".to_owned()),
            KubeRefusal::NotFound => ("NotFound", format!("{resource} \"{name}\" not found")),
            KubeRefusal::NoNamespace(namespace) => {
                ("NotFound", format!("namespaces \"{namespace}\" not found"))
            }
            KubeRefusal::NoSuchPath => (
                "NotFound",
                "the server could not find the requested resource".to_owned(),
            ),
            KubeRefusal::MethodNotAllowed => (
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource".to_owned(),
            ),
            KubeRefusal::AlreadyExists => (
                "AlreadyExists",
                format!("{resource} \"{name}\" already exists"),
            ),
            KubeRefusal::Conflict(why) => (
                "Conflict",
                format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}"),
            ),
            KubeRefusal::Conflicts(causes) => ("Conflict", conflicts(causes)),
            KubeRefusal::Terminating(namespace) => (
                "Forbidden",
                format!(
                    "{resource} \"{name}\" is forbidden: unable to create new content in namespace {namespace} because it is being terminated"
                ),
            ),
            KubeRefusal::Expired(why) => ("Expired", why.clone()),
            KubeRefusal::MediaType(kind) => (
                "UnsupportedMediaType",
                format!(
                    "the sandbox does not read bodies of the type {kind} for this kind of object"
                ),
            ),
            KubeRefusal::PatchMismatch => (
                "Invalid",
                "the server rejected our request due to an error in our request".to_owned(),
            ),
            KubeRefusal::Protobuf(part) => (
                "UnsupportedMediaType",
                format!(
                    "the sandbox does not read {part} in protobuf: let kubectl write a manifest, with \
                     `--dry-run=client -o yaml`, and pipe it to `kubectl apply -f -`"
                ),
            ),
            KubeRefusal::NoContainers(part) => (
                "NotImplemented",
                format!("the sandbox runs no containers: there is no pods/{part}"),
            ),
            KubeRefusal::Invalid(causes) => {
                let all: Vec<String> = causes
                    .iter()
                    .map(|cause| format!("{}: {}", cause.field, cause.message))
                    .collect();
                (
                    "Invalid",
                    format!(
                        "{} \"{name}\" is invalid: {}",
                        kind.map(|kind| kind.kind.clone()).unwrap_or_default(),
                        all.join(", ")
                    ),
                )
            }
        };
        let mut details = json!({});
        if let Some(kind) = kind {
            details = json!({"name": name, "group": kind.group, "kind": kind.plural});
        }
        if let KubeRefusal::NoNamespace(namespace) = self {
            details = json!({"name": namespace, "kind": "namespaces"});
        }
        if let KubeRefusal::Conflicts(causes) | KubeRefusal::Invalid(causes) = self {
            let cause = |cause: &RefusalCause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field});
            details["causes"] = causes.iter().map(cause).collect();
        }
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "details": details, "code": self.code(),
        })
    }
}

/// The API server's own wording: the managers in order, each with its fields.
fn conflicts(causes: &[RefusalCause]) -> String {
    if let [one] = causes {
        return format!(
            "Apply failed with 1 conflict: {}: {}",
            one.message, one.field
        );
    }
    let mut lines = Vec::new();
    let managers: BTreeSet<&str> = causes.iter().map(|cause| cause.message.as_str()).collect();
    for manager in managers {
        lines.push(format!("{}:", manager.replacen("conflict", "conflicts", 1)));
        lines.extend(
            causes
                .iter()
                .filter(|cause| cause.message == manager)
                .map(|cause| format!("- {}", cause.field)),
        );
    }
    format!(
        "Apply failed with {} conflicts: {}",
        causes.len(),
        lines.join("\n")
    )
}
