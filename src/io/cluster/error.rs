//! Errors of cluster requests, classified.

use crate::{
    core::{
        error::{Classify, ErrorKind},
        image::shown,
    },
    objects::object::Gvk,
};
use std::{fmt, time::Duration};

/// The decoder's message for invalid base64.
pub(crate) const NO_BASE64: &str = "illegal base64 data";

/// A failed request to a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterError {
    /// The cluster, by its name in `tagboat.yaml`.
    pub cluster: String,
    /// The object, as "Deployment shop/web", or what else was asked for; empty where it is about
    /// the cluster itself.
    pub subject: String,
    pub problem: Box<ClusterProblem>,
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster {}: ", self.cluster)?;
        if !self.subject.is_empty() {
            write!(f, "{}: ", self.subject)?;
        }
        write!(f, "{}", self.problem)
    }
}

impl std::error::Error for ClusterError {}

/// A field that another manager held.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldConflict {
    /// The manager, as "kubectl-edit".
    pub manager: String,
    /// The field, as ".spec.replicas".
    pub field: String,
}

impl fmt::Display for FieldConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.field, self.manager)
    }
}

/// The cause. Messages of the API server are kept verbatim; they never contain credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterProblem {
    /// The kubeconfig or the in-cluster configuration cannot be used.
    #[error("{file}: {why}")]
    Kubeconfig { file: String, why: String },
    /// A program or file that gives the credentials failed.
    #[error("credentials from {source_name}: {why}")]
    Credentials {
        /// The program or file.
        source_name: String,
        why: String,
    },
    /// No answer: no connection, a cut one, or silence.
    #[error("cannot reach {server}: {why}")]
    Unreachable { server: String, why: String },
    /// No answer although the connections are open: a server that hangs.
    #[error("{server} has not answered for {} s", silence.as_secs())]
    Silent { server: String, silence: Duration },
    /// 401.
    #[error("{server} does not accept the credentials of {who}")]
    Unauthorized {
        server: String,
        /// The identity whose credentials were refused.
        who: String,
    },
    /// 403 by the cluster's roles.
    #[error("{who} may not {verb} {resource}{}: {message}", place(namespace.as_deref()))]
    Forbidden {
        verb: String,
        /// The resource, as "deployments.apps".
        resource: String,
        /// The namespace; none for what belongs to the whole cluster.
        namespace: Option<String>,
        who: String,
        message: String,
    },
    /// No such kind is served.
    #[error("the cluster has no kind {gvk}{}", because(why.as_deref()))]
    UnknownKind {
        gvk: Gvk,
        /// The likely reason, if known.
        why: Option<String>,
        /// True if the API service of the group is down, so that the kind may exist.
        down: bool,
    },
    /// 404 for an object.
    #[error("it does not exist")]
    NotFound,
    /// The namespace is not there.
    #[error("namespace {namespace} does not exist")]
    NamespaceMissing {
        namespace: String,
        /// True if an Application declares it.
        declared: bool,
    },
    /// The namespace is not there, and its creation failed.
    #[error("namespace {namespace} does not exist and cannot be created: {cause}")]
    NamespaceNotCreated {
        namespace: String,
        cause: Box<ClusterProblem>,
    },
    /// The namespace is on its way out.
    #[error("namespace {namespace} is being deleted, nothing can be created in it")]
    NamespaceTerminating { namespace: String },
    /// 422, or 400: the object is not what its kind asks for.
    #[error("{message}")]
    Invalid {
        message: String,
        /// The invalid fields, as `spec.ports[0].port: Required value`.
        causes: Vec<String>,
    },
    /// A field that cannot be changed on an existing object.
    #[error("{message}")]
    Immutable { message: String },
    /// 409: a concurrent write, or fields owned by other managers.
    #[error("{message}")]
    Conflict {
        /// The server's message, or the owner of the fields.
        message: String,
        /// The fields other managers hold.
        fields: Vec<FieldConflict>,
    },
    /// 429, more often than is waited for here.
    #[error("the server limits requests, next try in {} s", retry_after.as_secs().max(1))]
    Throttled { retry_after: Duration },
    /// An admission webhook that does not answer.
    #[error("admission webhook {} does not answer: {message}", shown(name))]
    Webhook { name: String, message: String },
    /// Refused by an admission webhook, an admission policy, a quota: not by roles.
    #[error("refused by {by}: {message}")]
    Denied {
        /// The webhook or policy that refused, if the response names it.
        by: String,
        message: String,
    },
    /// More than the API server or its database takes.
    #[error("it is too large for the cluster: {message}")]
    TooLarge { message: String },
    /// An answer with more bytes than are read.
    #[error("the answer is larger than {} MiB", limit >> 20)]
    AnswerTooLarge { limit: usize },
    /// 5xx.
    #[error("the server failed ({status}): {message}")]
    Server { status: u16, message: String },
    /// 410: the resource version asked from is no longer kept.
    #[error("the server no longer keeps the version asked from")]
    Gone,
    /// An answer that is not what the protocol promises.
    #[error("the server's answer makes no sense: {why}")]
    Protocol { why: String },
    /// A name that cannot be part of a URL.
    #[error("{why}")]
    Address { why: String },
    /// An operation that this client never performs.
    #[error("{why}")]
    Refused { why: String },
    /// A foreign object is in the place of a record.
    #[error("it is not what tagboat wrote (no {}): a user, or a manifest in Git, replaced it", missing.join(", no "))]
    Replaced {
        /// The missing marks, as "label tagboat.dev/record".
        missing: Vec<String>,
        namespace: String,
        name: String,
    },
    /// The namespace of the records does not exist and cannot be created.
    #[error("cannot create namespace {namespace} for the records of tagboat: {why}")]
    NoRecordNamespace { namespace: String, why: String },
    /// An object that was deleted and does not go.
    #[error("it is being deleted and does not go{}", held_by(finalizers))]
    Stuck { finalizers: Vec<String> },
}

fn place(namespace: Option<&str>) -> String {
    namespace.map_or_else(
        || " of the whole cluster".to_owned(),
        |namespace| format!(" in namespace {namespace}"),
    )
}

fn because(why: Option<&str>) -> String {
    why.map(|why| format!(": {why}")).unwrap_or_default()
}

fn held_by(finalizers: &[String]) -> String {
    if finalizers.is_empty() {
        String::new()
    } else {
        format!(": finalizers {}", finalizers.join(", "))
    }
}

/// The retry interval for RBAC and admission policies: their changes are not announced.
const RIGHTS: Duration = Duration::from_secs(60);
/// The retry interval for a terminating namespace or a kind that is not served yet.
const SOON: Duration = Duration::from_secs(5);

impl ClusterProblem {
    /// Returns whether the same request may soon succeed, whatever it asks for: overload, restart,
    /// a cut connection.
    pub(crate) fn passes_quickly(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Throttled { .. } => true,
            Self::Server { status, .. } => matches!(status, 500 | 502 | 503 | 504),
            _ => false,
        }
    }
}

impl Classify for ClusterError {
    fn kind(&self) -> ErrorKind {
        self.problem.kind()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.problem.retry_after()
    }

    fn hint(&self) -> Option<String> {
        self.problem.hint()
    }
}

impl Classify for ClusterProblem {
    fn kind(&self) -> ErrorKind {
        match self {
            ClusterProblem::Kubeconfig { .. }
            | ClusterProblem::Forbidden { .. }
            | ClusterProblem::Unauthorized { .. }
            | ClusterProblem::Invalid { .. }
            | ClusterProblem::Immutable { .. }
            | ClusterProblem::Denied { .. }
            | ClusterProblem::TooLarge { .. }
            | ClusterProblem::Address { .. }
            | ClusterProblem::AnswerTooLarge { .. }
            | ClusterProblem::NoRecordNamespace { .. }
            | ClusterProblem::Replaced { .. }
            | ClusterProblem::Refused { .. } => ErrorKind::Config,
            ClusterProblem::NamespaceNotCreated { cause, .. } => cause.kind(),
            ClusterProblem::Conflict { .. } | ClusterProblem::Gone => ErrorKind::Conflict,
            ClusterProblem::Credentials { .. }
            | ClusterProblem::Unreachable { .. }
            | ClusterProblem::Silent { .. }
            | ClusterProblem::UnknownKind { .. }
            | ClusterProblem::NotFound
            | ClusterProblem::NamespaceMissing { .. }
            | ClusterProblem::NamespaceTerminating { .. }
            | ClusterProblem::Throttled { .. }
            | ClusterProblem::Webhook { .. }
            | ClusterProblem::Server { .. }
            | ClusterProblem::Protocol { .. }
            | ClusterProblem::Stuck { .. } => ErrorKind::Remote,
        }
    }

    /// RBAC, policies and credentials change outside of Git, unannounced: although they are
    /// configuration, a retry at this interval is worthwhile.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            ClusterProblem::Throttled { retry_after } => Some(*retry_after),
            ClusterProblem::NamespaceNotCreated { cause, .. } => cause.retry_after(),
            ClusterProblem::Forbidden { .. }
            | ClusterProblem::Unauthorized { .. }
            | ClusterProblem::NoRecordNamespace { .. }
            | ClusterProblem::Denied { .. } => Some(RIGHTS),
            ClusterProblem::NamespaceTerminating { .. } | ClusterProblem::UnknownKind { .. } => {
                Some(SOON)
            }
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            ClusterProblem::Kubeconfig { .. } => "correct the file, or clusters[].kubeconfig and context in tagboat.yaml".to_owned(),
            ClusterProblem::Credentials { .. } => "run the program by hand as the user tagboat runs as".to_owned(),
            ClusterProblem::Unauthorized { .. } => {
                "the credentials have expired or belong to another cluster: renew them in the kubeconfig".to_owned()
            }
            ClusterProblem::Forbidden { resource, who, .. } if resource.starts_with('/') => {
                format!("bind the ClusterRole system:discovery to {who}")
            }
            ClusterProblem::Forbidden { verb, resource, namespace, who, .. } => {
                let verbs = match verb.as_str() {
                    "list" | "watch" => "the verbs get, list and watch".to_owned(),
                    verb => format!("the verb {verb}"),
                };
                let role = match namespace {
                    Some(namespace) => format!("a Role in namespace {namespace}"),
                    None => "a ClusterRole".to_owned(),
                };
                format!("grant {who} {verbs} on {resource} by {role}")
            }
            ClusterProblem::UnknownKind { gvk, down: false, .. } => {
                format!("apply the CustomResourceDefinition of {}, or install what brings it; this waits for it", gvk.kind)
            }
            ClusterProblem::UnknownKind { gvk, .. } => {
                format!("look at the pods behind APIService {}.{}; this waits for it", gvk.version, gvk.group)
            }
            ClusterProblem::NamespaceMissing { namespace, declared: true } => {
                format!("this waits for the Application that declares Namespace {namespace}; look at its status")
            }
            ClusterProblem::NamespaceMissing { namespace, .. } => {
                format!("add a Namespace {namespace} to what is applied, create it, or set createNamespace: true")
            }
            ClusterProblem::NamespaceNotCreated { namespace, cause } => match &**cause {
                ClusterProblem::Forbidden { who, .. } => {
                    format!("create namespace {namespace}, or grant {who} the verb create on namespaces by a ClusterRole")
                }
                other => return other.hint(),
            },
            ClusterProblem::NamespaceTerminating { namespace } => format!(
                "this waits until it is gone; if it does not go, its conditions say why: kubectl get namespace {namespace} -o yaml"
            ),
            ClusterProblem::Immutable { .. } => {
                format!("annotate it with {}/force: enabled to have it deleted and re-created", crate::objects::object::PREFIX)
            }
            ClusterProblem::Invalid { message, .. } if message.contains(NO_BASE64) => {
                "data wants base64: write plain text under stringData".to_owned()
            }
            ClusterProblem::Webhook { .. } => "the service behind the webhook is down: look at its pods, or at its failurePolicy".to_owned(),
            ClusterProblem::TooLarge { .. } => "split the object: an object holds at most about 1 MiB".to_owned(),
            ClusterProblem::Replaced { namespace, name, .. } => format!(
                "remove it from Git if it is there, then: kubectl -n {namespace} delete configmap {name}; objects found by label are listed before anything is deleted"
            ),
            ClusterProblem::NoRecordNamespace { namespace, .. } => format!(
                "create it with: kubectl create namespace {namespace}; or set clusters[].namespace in tagboat.yaml to a namespace that belongs to tagboat alone"
            ),
            ClusterProblem::Stuck { finalizers } if !finalizers.is_empty() => {
                "the controllers of these finalizers have not let go of it".to_owned()
            }
            _ => return None,
        })
    }
}
