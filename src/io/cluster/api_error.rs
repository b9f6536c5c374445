//! Classifies an unsuccessful API response by its status and message. Pure.

use super::error::{ClusterProblem, FieldConflict, NO_BASE64};
use crate::objects::object::Gvk;
use serde::Deserialize;
use std::time::Duration;

/// The parsed part of `metav1.Status`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ApiStatus {
    message: String,
    reason: String,
    code: u16,
    details: Option<StatusDetails>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StatusDetails {
    kind: String,
    name: String,
    causes: Option<Vec<StatusCause>>,
    retry_after_seconds: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StatusCause {
    reason: String,
    message: String,
    field: String,
}

/// The target of a request, for messages.
#[derive(Debug, Clone)]
pub(crate) struct RequestTarget<'a> {
    /// The verb of the cluster's roles, as "patch".
    pub verb: &'a str,
    /// The resource, as "deployments.apps"; what else was asked for where it is none.
    pub resource: &'a str,
    pub namespace: Option<&'a str>,
    /// The kind, if it may not be served.
    pub gvk: Option<&'a Gvk>,
    pub who: &'a str,
    pub server: &'a str,
}

/// Characters kept of a server's message: a schema error of a CRD can be very long.
const LONGEST: usize = 4000;

fn cut(text: &str) -> String {
    let text = text.trim();
    let mut cut: String = text
        .chars()
        .filter(|c| !c.is_control() || *c == '\n')
        .take(LONGEST)
        .collect();
    if cut.len() < text.len() && cut.chars().count() == LONGEST {
        cut.push('…');
    }
    cut
}

/// Strips values from a message about a Secret, which can quote its content: a number in place of
/// text, an invalid key.
fn without_values(message: &str) -> String {
    let mut masked = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((at, word, end)) = [
        ("Value:", "}"),
        ("Invalid value: \"", "\""),
        ("Unsupported value: \"", "\""),
    ]
    .iter()
    .filter_map(|(word, end)| Some((rest.find(word)?, *word, *end)))
    .min()
    {
        let (before, after) = rest.split_at(at + word.len());
        masked.push_str(before);
        masked.push_str("***");
        // A quote within the value is escaped; an ambiguous rest is dropped altogether.
        rest = after.rfind(end).map_or("", |end| &after[end..]);
    }
    masked.push_str(rest);
    masked
}

/// Messages of immutable fields: validation has no reason code for them. Collected from the
/// validation of the built-in kinds (`pkg/apis/*/validation`): most use "field is immutable", the
/// rest are listed.
const IMMUTABLE: &[&str] = &[
    "immutable",
    "may not change once set",
    "may not be changed",
    "may not change fields other than",
    "for fields other than",
    "cannot change roleref",
    "updates to parameters are forbidden",
    "updates to provisioner are forbidden",
    "updates to reclaimpolicy are forbidden",
    "is forbidden after creation",
    "cannot be changed",
];

const TOO_LARGE: &[&str] = &[
    "request is too large",
    "request entity too large",
    "too long: may not be more than",
    "message larger than max",
];

/// Classifies `status` with this body and `Retry-After`.
pub(crate) fn problem(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
    asked: &RequestTarget<'_>,
) -> ClusterProblem {
    let said = serde_json::from_slice::<ApiStatus>(body).unwrap_or_default();
    let details = said.details.unwrap_or_default();
    let causes = details.causes.unwrap_or_default();
    let secret = asked.resource == "secrets";
    let message = shown_message(&said.message, body, status, secret);
    let lower = message.to_lowercase();
    let status = if said.code >= 400 { said.code } else { status };
    let has_cause = |reason: &str| causes.iter().any(|cause| cause.reason == reason);

    if let Some(problem) = admission_problem(&message) {
        return problem;
    }
    match status {
        401 => ClusterProblem::Unauthorized {
            server: asked.server.to_owned(),
            who: asked.who.to_owned(),
        },
        403 if has_cause("NamespaceTerminating")
            || lower.contains("because it is being terminated") =>
        {
            ClusterProblem::NamespaceTerminating {
                namespace: asked.namespace.unwrap_or(&details.name).to_owned(),
            }
        }
        403 => forbidden(message, asked),
        404 if details.kind == "namespaces" && asked.resource != "namespaces" => {
            ClusterProblem::NamespaceMissing {
                namespace: details.name,
                declared: false,
            }
        }
        404 if said.reason == "NotFound" && !details.name.is_empty() => ClusterProblem::NotFound,
        404 => match asked.gvk {
            Some(gvk) => ClusterProblem::UnknownKind {
                gvk: gvk.clone(),
                why: Some("its resource is not served".to_owned()),
                down: false,
            },
            None => ClusterProblem::NotFound,
        },
        409 => ClusterProblem::Conflict {
            fields: causes.iter().filter_map(field_conflict).collect(),
            message,
        },
        410 => ClusterProblem::Gone,
        413 => ClusterProblem::TooLarge { message },
        429 => {
            let said = Some(details.retry_after_seconds)
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs);
            ClusterProblem::Throttled {
                retry_after: retry_after.or(said).unwrap_or(Duration::from_secs(1)),
            }
        }
        _ if TOO_LARGE.iter().any(|words| lower.contains(words)) => {
            ClusterProblem::TooLarge { message }
        }
        422 if IMMUTABLE.iter().any(|words| lower.contains(words)) => {
            ClusterProblem::Immutable { message }
        }
        // A typed conversion of server-side apply fails with 500 and this message: the manifest is
        // wrong, not the server. So does a Secret whose data is not base64.
        500 if lower.contains(NO_BASE64) => ClusterProblem::Invalid {
            message,
            causes: Vec::new(),
        },
        500 if lower.contains("failed to create typed patch object")
            || lower.contains("field not declared in schema") =>
        {
            ClusterProblem::Invalid {
                message,
                causes: Vec::new(),
            }
        }
        400 | 406 | 415 | 422 => ClusterProblem::Invalid {
            causes: causes
                .iter()
                .filter(|cause| !cause.message.is_empty())
                .map(|cause| cause.shown(secret))
                .collect(),
            message,
        },
        500.. => ClusterProblem::Server { status, message },
        _ => ClusterProblem::Protocol {
            why: format!("status {status}: {message}"),
        },
    }
}

/// Returns the server's message, cut; of a Secret without values.
fn shown_message(message: &str, body: &[u8], status: u16, secret: bool) -> String {
    let message = match message {
        "" => cut(&String::from_utf8_lossy(body)),
        message => cut(message),
    };
    match message.as_str() {
        "" => format!("status {status}"),
        message if secret => without_values(message),
        _ => message,
    }
}

/// Classifies a message of admission, whose status is any.
fn admission_problem(message: &str) -> Option<ClusterProblem> {
    if let Some(name) = between(message, "failed calling webhook \"", "\"") {
        return Some(ClusterProblem::Webhook {
            name: name.to_owned(),
            message: message.to_owned(),
        });
    }
    let webhook = between(message, "admission webhook \"", "\" denied the request");
    let by = if let Some(name) = webhook {
        format!("admission webhook {name:?}")
    } else {
        let name = between(message, "ValidatingAdmissionPolicy '", "'")?;
        format!("admission policy {name:?}")
    };
    Some(ClusterProblem::Denied {
        by,
        message: message.to_owned(),
    })
}

impl StatusCause {
    /// Returns the cause with its field; of a Secret without values.
    fn shown(&self, secret: bool) -> String {
        let cause = if self.field.is_empty() {
            cut(&self.message)
        } else {
            cut(&format!("{}: {}", self.field, self.message))
        };
        if secret {
            without_values(&cause)
        } else {
            cause
        }
    }
}

/// Classifies a 403: RBAC if it names a user and a verb, else an admission plugin or webhook.
fn forbidden(message: String, asked: &RequestTarget<'_>) -> ClusterProblem {
    let Some(rest) = message
        .split_once("User \"")
        .and_then(|(_, rest)| rest.split_once("\" cannot "))
        .map(|(_, rest)| rest)
    else {
        let by = if message.contains("violates PodSecurity") {
            "pod security"
        } else if message.contains("exceeded quota") {
            "a resource quota"
        } else {
            "admission"
        };
        return ClusterProblem::Denied {
            by: by.to_owned(),
            message,
        };
    };
    let verb = rest
        .split_whitespace()
        .next()
        .unwrap_or(asked.verb)
        .to_owned();
    let resource = match (
        between(rest, "resource \"", "\""),
        between(rest, "API group \"", "\""),
    ) {
        (Some(resource), None | Some("")) => resource.to_owned(),
        (Some(resource), Some(group)) => {
            let (plural, sub) = resource.split_once('/').unwrap_or((resource, ""));
            if sub.is_empty() {
                format!("{plural}.{group}")
            } else {
                format!("{plural}.{group}/{sub}")
            }
        }
        // Of discovery: "cannot get path "/apis"".
        (None, _) => between(rest, "path \"", "\"")
            .unwrap_or(asked.resource)
            .to_owned(),
    };
    let namespace = between(rest, "in the namespace \"", "\"").map(str::to_owned);
    // Whom the server saw is not always whom the kubeconfig names.
    let who = match between(&message, "User \"", "\" cannot ") {
        None | Some("") => asked.who.to_owned(),
        Some(user) => match user
            .strip_prefix("system:serviceaccount:")
            .and_then(|account| account.split_once(':'))
        {
            Some((namespace, name)) => format!("ServiceAccount {namespace}/{name}"),
            None => format!("user {user}"),
        },
    };
    let (verb, resource, namespace) =
        impersonation(&verb, asked).unwrap_or((verb, resource, namespace));
    ClusterProblem::Forbidden {
        verb,
        resource,
        namespace,
        who,
        message,
    }
}

/// Returns the right that a refused impersonation needs. Newer servers name the verbs of
/// constrained impersonation, which they tried first; `impersonate` on the account is enough for
/// all of them.
fn impersonation(
    verb: &str,
    asked: &RequestTarget<'_>,
) -> Option<(String, String, Option<String>)> {
    let is_constrained = ["impersonate:", "impersonate-on:"]
        .iter()
        .any(|prefix| verb.starts_with(prefix));
    let account = asked.who.strip_prefix("ServiceAccount ")?;
    let (namespace, _) = account.split_once('/')?;
    is_constrained.then(|| {
        (
            "impersonate".to_owned(),
            "serviceaccounts".to_owned(),
            Some(namespace.to_owned()),
        )
    })
}

/// Parses `conflict with "kubectl-edit" using apps/v1` and the field of the cause.
fn field_conflict(cause: &StatusCause) -> Option<FieldConflict> {
    (cause.reason == "FieldManagerConflict").then(|| FieldConflict {
        manager: between(&cause.message, "conflict with \"", "\"")
            .unwrap_or(&cause.message)
            .to_owned(),
        field: cause.field.clone(),
    })
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::error::Classify as _;

    fn asked<'a>(gvk: &'a Gvk) -> RequestTarget<'a> {
        RequestTarget {
            verb: "patch",
            resource: "deployments.apps",
            namespace: Some("shop"),
            gvk: Some(gvk),
            who: "us",
            server: "https://c",
        }
    }

    fn told(status: u16, message: &str, details: &str) -> ClusterProblem {
        let gvk = Gvk::new("apps/v1", "Deployment");
        let body = format!(
            r#"{{"kind":"Status","message":{},"reason":"NotFound","code":{status},"details":{details}}}"#,
            serde_json::json!(message)
        );
        problem(status, None, body.as_bytes(), &asked(&gvk))
    }

    #[test]
    fn forbidden_impersonation_names_the_account() {
        let gvk = Gvk::new("v1", "ConfigMap");
        let asked = RequestTarget {
            who: "ServiceAccount team/deployer",
            ..asked(&gvk)
        };
        let message = r#"configmaps "one" is forbidden: User "tagboat" cannot impersonate-on:serviceaccount:patch resource "configmaps" in API group "" in the namespace "shop""#;
        let problem = forbidden(message.to_owned(), &asked);
        let ClusterProblem::Forbidden {
            verb,
            resource,
            namespace,
            who,
            ..
        } = &problem
        else {
            panic!("{problem:?}");
        };
        assert_eq!(
            [verb, resource, who],
            ["impersonate", "serviceaccounts", "user tagboat"]
        );
        assert_eq!(namespace.as_deref(), Some("team"));
    }

    #[test]
    fn forbidden_discovery_names_its_path() {
        let message = r#"forbidden: User "system:serviceaccount:a:b" cannot get path "/apis""#;
        let problem = told(403, message, "{}");
        assert!(
            matches!(&problem, ClusterProblem::Forbidden { resource, .. } if resource == "/apis")
        );
        assert_eq!(
            problem.hint().unwrap(),
            "bind the ClusterRole system:discovery to ServiceAccount a/b"
        );
    }

    #[test]
    fn forbidden_distinguishes_rbac_from_admission() {
        let roles = r#"deployments.apps "web" is forbidden: User "system:serviceaccount:a:b" cannot patch resource "deployments" in API group "apps" in the namespace "shop""#;
        match told(403, roles, "{}") {
            ClusterProblem::Forbidden {
                verb,
                resource,
                namespace,
                who,
                ..
            } => {
                assert_eq!(
                    (
                        verb.as_str(),
                        resource.as_str(),
                        namespace.as_deref(),
                        who.as_str()
                    ),
                    (
                        "patch",
                        "deployments.apps",
                        Some("shop"),
                        "ServiceAccount a/b"
                    )
                );
            }
            other => panic!("{other:?}"),
        }
        for (status, message, by) in [
            (
                403,
                r#"pods "a" is forbidden: violates PodSecurity "restricted:latest": x"#,
                "pod security",
            ),
            (
                403,
                r#"pods "a" is forbidden: exceeded quota: q"#,
                "a resource quota",
            ),
            (
                400,
                r#"admission webhook "v.example" denied the request: no"#,
                r#"admission webhook "v.example""#,
            ),
            (
                422,
                r#"deployments.apps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"#,
                r#"admission policy "p""#,
            ),
        ] {
            assert!(
                matches!(told(status, message, "{}"), ClusterProblem::Denied { by: found, .. } if found == by),
                "{message}"
            );
        }
    }

    #[test]
    fn api_error_status_table() {
        let webhook = r#"Internal error occurred: failed calling webhook "w.example": failed to call webhook: Post "https://w": refused"#;
        assert!(
            matches!(told(500, webhook, "{}"), ClusterProblem::Webhook { name, .. } if name == "w.example")
        );
        assert!(
            matches!(told(404, "x", r#"{"kind":"namespaces","name":"shop"}"#), ClusterProblem::NamespaceMissing { namespace, .. } if namespace == "shop")
        );
        assert_eq!(
            told(404, "x", r#"{"kind":"deployments","name":"web"}"#),
            ClusterProblem::NotFound
        );
        assert!(matches!(
            told(
                404,
                "the server could not find the requested resource",
                "{}"
            ),
            ClusterProblem::UnknownKind { .. }
        ));
        assert!(matches!(
            told(
                422,
                "spec.selector: Invalid value: x: field is immutable",
                "{}"
            ),
            ClusterProblem::Immutable { .. }
        ));
        assert!(matches!(
            told(500, "etcdserver: request is too large", "{}"),
            ClusterProblem::TooLarge { .. }
        ));
        let plain = told(
            500,
            "failed to prune fields: failed add back owned items: failed to convert: illegal base64 data at input byte 7",
            "{}",
        );
        assert!(matches!(plain, ClusterProblem::Invalid { .. }), "{plain:?}");
        assert!(matches!(
            told(500, "boom", "{}"),
            ClusterProblem::Server { status: 500, .. }
        ));
        assert_eq!(told(410, "too old", "{}"), ClusterProblem::Gone);
        assert_eq!(
            told(429, "slow", r#"{"retryAfterSeconds":7}"#),
            ClusterProblem::Throttled {
                retry_after: Duration::from_secs(7)
            }
        );
        let causes = r#"{"causes":[{"reason":"FieldValueRequired","message":"Required value","field":"spec.ports"}]}"#;
        assert!(
            matches!(told(422, "bad", causes), ClusterProblem::Invalid { causes, .. } if causes == ["spec.ports: Required value"])
        );
        let held = r#"{"causes":[{"reason":"FieldManagerConflict","message":"conflict with \"kubectl-edit\" using apps/v1","field":".spec.replicas"}]}"#;
        assert!(
            matches!(told(409, "Apply failed", held), ClusterProblem::Conflict { fields, .. }
            if fields == [FieldConflict { manager: "kubectl-edit".into(), field: ".spec.replicas".into() }])
        );
        let ending = r#"{"causes":[{"reason":"NamespaceTerminating","message":"x","field":"metadata.namespace"}]}"#;
        assert!(
            matches!(told(403, "x", ending), ClusterProblem::NamespaceTerminating { namespace } if namespace == "shop")
        );
    }

    #[test]
    fn api_error_masks_secret_values() {
        for (message, masked) in [
            (
                "failed: .stringData.pin: expected string, got &value.valueUnstructured{Value:1234}",
                "failed: .stringData.pin: expected string, got &value.valueUnstructured{Value:***}",
            ),
            (
                r#"data[a]: Invalid value: "hunter2": bad"#,
                r#"data[a]: Invalid value: "***": bad"#,
            ),
            (
                r#"x: Invalid value: "hun"ter": bad, y: Invalid value: "two": bad"#,
                r#"x: Invalid value: "***": bad"#,
            ),
            ("nothing said", "nothing said"),
            ("Value:1234", "Value:***"),
        ] {
            assert_eq!(without_values(message), masked);
        }
    }

    #[test]
    fn api_error_without_status_is_shown_and_cut() {
        let gvk = Gvk::new("v1", "Pod");
        let long = format!("<html>{}\u{1b}[31m", "x".repeat(100_000));
        match problem(502, None, long.as_bytes(), &asked(&gvk)) {
            ClusterProblem::Server {
                status: 502,
                message,
            } => assert!(message.chars().count() <= LONGEST + 1 && !message.contains('\u{1b}')),
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            problem(302, None, b"", &asked(&gvk)),
            ClusterProblem::Protocol { .. }
        ));
    }
}
