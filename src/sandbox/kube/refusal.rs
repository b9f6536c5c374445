//! Why a request is refused, in the words and numbers of Kubernetes (`kind: Status`).

use super::kinds::Kind;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// One reason among several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `FieldManagerConflict`, `FieldValueInvalid`.
    pub reason: &'static str,
    /// In words.
    pub message: String,
    /// `.spec.replicas`.
    pub field: String,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
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
    Conflicts(Vec<Cause>),
    /// 403: nothing new in a namespace that ends.
    Terminating(String),
    /// 410: a watch from before what is remembered.
    Expired(String),
    /// 415.
    MediaType(String),
    /// 422.
    Invalid(Vec<Cause>),
}

impl Refusal {
    /// The HTTP status.
    pub fn code(&self) -> u16 {
        match self {
            Refusal::BadRequest(_) => 400,
            Refusal::Unauthorized => 401,
            Refusal::Terminating(_) => 403,
            Refusal::NotFound | Refusal::NoNamespace(_) | Refusal::NoSuchPath => 404,
            Refusal::MethodNotAllowed => 405,
            Refusal::AlreadyExists | Refusal::Conflict(_) | Refusal::Conflicts(_) => 409,
            Refusal::Expired(_) => 410,
            Refusal::MediaType(_) => 415,
            Refusal::Invalid(_) => 422,
        }
    }

    /// The body of the answer; kind and name where the request has them.
    pub fn status(&self, kind: Option<&Kind>, name: &str) -> Value {
        let resource = kind.map(Kind::resource).unwrap_or_default();
        let (reason, message) = match self {
            Refusal::BadRequest(why) => ("BadRequest", why.clone()),
            Refusal::Unauthorized => ("Unauthorized", "Unauthorized".to_owned()),
            Refusal::NotFound => ("NotFound", format!("{resource} \"{name}\" not found")),
            Refusal::NoNamespace(namespace) => {
                ("NotFound", format!("namespaces \"{namespace}\" not found"))
            }
            Refusal::NoSuchPath => (
                "NotFound",
                "the server could not find the requested resource".to_owned(),
            ),
            Refusal::MethodNotAllowed => (
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource".to_owned(),
            ),
            Refusal::AlreadyExists => (
                "AlreadyExists",
                format!("{resource} \"{name}\" already exists"),
            ),
            Refusal::Conflict(why) => (
                "Conflict",
                format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}"),
            ),
            Refusal::Conflicts(causes) => ("Conflict", conflicts(causes)),
            Refusal::Terminating(namespace) => (
                "Forbidden",
                format!(
                    "{resource} \"{name}\" is forbidden: unable to create new content in namespace {namespace} because it is being terminated"
                ),
            ),
            Refusal::Expired(why) => ("Expired", why.clone()),
            Refusal::MediaType(kind) => (
                "UnsupportedMediaType",
                format!(
                    "the sandbox does not read bodies of the type {kind} for this kind of object"
                ),
            ),
            Refusal::Invalid(causes) => {
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
        if let Refusal::NoNamespace(namespace) = self {
            details = json!({"name": namespace, "kind": "namespaces"});
        }
        if let Refusal::Conflicts(causes) | Refusal::Invalid(causes) = self {
            let cause = |cause: &Cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field});
            details["causes"] = causes.iter().map(cause).collect();
        }
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "details": details, "code": self.code(),
        })
    }
}

/// The API server's own wording: the managers in order, each with its fields.
fn conflicts(causes: &[Cause]) -> String {
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
