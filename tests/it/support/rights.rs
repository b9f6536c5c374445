//! Rights in front of the sandbox's API server, which has none: roles for the requests of tagboat.
//! A test's own requests pass.

use axum::{
    Json, Router,
    body::Body,
    extract::Request,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use futures::StreamExt as _;
use reqwest::StatusCode;
use serde_json::json;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

/// A rule of a Role, or of a ClusterRole if it has no namespace. `*` is everything.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub namespace: Option<String>,
    /// As "deployments.apps".
    pub resources: Vec<&'static str>,
    pub verbs: Vec<&'static str>,
}

/// All rights in one namespace.
pub(crate) fn all_of(namespace: &str) -> Rule {
    Rule {
        namespace: Some(namespace.to_owned()),
        resources: vec!["*"],
        verbs: vec!["*"],
    }
}

/// The rules in force.
#[derive(Clone, Default)]
pub(crate) struct Rights(Arc<Mutex<RightsState>>);

#[derive(Default)]
struct RightsState {
    /// None: everything is allowed.
    rules: Option<Vec<Rule>>,
    /// The watches that were allowed by the rules.
    watches: Vec<String>,
    /// The watches that were refused.
    refused: Vec<String>,
    /// Ends the open watches.
    cut: CancellationToken,
}

impl Rights {
    /// Sets the rules, and ends open watches, as a real server does within minutes.
    pub(crate) fn set(&self, rules: Vec<Rule>) {
        let mut state = self.0.lock().unwrap();
        state.rules = Some(rules);
        std::mem::take(&mut state.cut).cancel();
    }

    /// Returns the allowed watches since the last call, as "secrets of shop".
    pub(crate) fn watches(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().watches)
    }

    /// Returns whether a watch was refused, as "secrets of shop".
    pub(crate) fn has_refused(&self, watch: &str) -> bool {
        self.0
            .lock()
            .unwrap()
            .refused
            .iter()
            .any(|one| one == watch)
    }

    pub(crate) fn layer(self, app: Router) -> Router {
        app.layer(from_fn(move |request: Request, next: Next| {
            let rights = self.clone();
            async move {
                let cut = rights.0.lock().unwrap().cut.clone();
                match rights.refusal(&request) {
                    Some(refusal) => refusal,
                    None => {
                        let answer = next.run(request).await;
                        answer.map(|body| {
                            let ended = async move { cut.cancelled().await };
                            let data = body.into_data_stream().take_until(Box::pin(ended));
                            Body::from_stream(data)
                        })
                    }
                }
            }
        }))
    }

    fn refusal(&self, request: &Request) -> Option<Response> {
        let agent = request.headers().get("user-agent")?.to_str().ok()?;
        if !agent.starts_with("tagboat/") {
            return None;
        }
        let asked = Asked::of(request)?;
        let mut state = self.0.lock().unwrap();
        let rules = state.rules.as_ref()?;
        let is_allowed = rules.iter().any(|rule| asked.is_allowed_by(rule));
        if asked.verb == "watch" {
            let namespace = asked.namespace.as_deref().unwrap_or("*");
            let watched = format!("{} of {namespace}", asked.dotted());
            match is_allowed {
                true => state.watches.push(watched),
                false => state.refused.push(watched),
            }
        }
        if is_allowed {
            return None;
        }
        let place = match &asked.namespace {
            Some(namespace) => format!("in the namespace \"{namespace}\""),
            None => "at the cluster scope".to_owned(),
        };
        let Asked {
            group,
            resource,
            verb,
            ..
        } = &asked;
        let message = format!(
            "{} is forbidden: User \"system:serviceaccount:shop:deployer\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {place}",
            asked.dotted()
        );
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": "Forbidden", "code": 403,
            "details": {"group": group, "kind": resource},
        });
        Some((StatusCode::FORBIDDEN, Json(body)).into_response())
    }
}

/// A request for objects.
struct Asked {
    group: String,
    resource: String,
    verb: &'static str,
    namespace: Option<String>,
}

impl Asked {
    fn of(request: &Request) -> Option<Self> {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, rest) = match parts.as_slice() {
            ["api", _, rest @ ..] => ("", rest),
            ["apis", group, _, rest @ ..] => (*group, rest),
            _ => return None,
        };
        let (namespace, resource, has_name) = match rest {
            ["namespaces", namespace, resource, rest @ ..] => {
                (Some((*namespace).to_owned()), *resource, !rest.is_empty())
            }
            [resource, rest @ ..] => (None, *resource, !rest.is_empty()),
            [] => return None,
        };
        let query = request.uri().query().unwrap_or_default();
        let verb = match (request.method().as_str(), has_name) {
            ("GET", _) if query.contains("watch=1") => "watch",
            ("GET", true) => "get",
            ("GET", false) => "list",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            _ => "delete",
        };
        Some(Self {
            group: group.to_owned(),
            resource: resource.to_owned(),
            verb,
            namespace,
        })
    }

    fn dotted(&self) -> String {
        match self.group.as_str() {
            "" => self.resource.clone(),
            group => format!("{}.{group}", self.resource),
        }
    }

    fn is_allowed_by(&self, rule: &Rule) -> bool {
        let has = |words: &[&str], word: &str| words.contains(&"*") || words.contains(&word);
        (rule.namespace.is_none() || rule.namespace == self.namespace)
            && has(&rule.resources, &self.dotted())
            && has(&rule.verbs, self.verb)
    }
}
