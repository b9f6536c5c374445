//! The object of an apply with its URL, and the patch that hands fields over.

use super::{
    ClusterClient, RequestIdentity,
    discovery::Resource,
    error::{ClusterError, ClusterProblem},
    request::{ApiRequest, RequestVerb},
    url,
};
use crate::{
    core::pointer,
    objects::{
        autoscale,
        managed_fields::{self, TakeOverRules},
        object::{MANAGER, Object, ObjectKey},
    },
};
use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

/// The annotation in which `kubectl apply` keeps its last manifest.
pub(super) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The rules by which an apply takes fields over.
pub(super) struct TakeOver<'a> {
    pub(super) rules: TakeOverRules<'a>,
    /// The manifest as it is sent.
    pub(super) manifest: &'a Object,
}

/// The object to send, and its URL.
pub(super) struct ApplyTarget<'a> {
    pub(super) identity: &'a RequestIdentity,
    pub(super) resource: &'a Resource,
    pub(super) key: &'a ObjectKey,
    pub(super) subject: &'a str,
    pub(super) body: Bytes,
    pub(super) dry_run: bool,
}

impl<'a> ApplyTarget<'a> {
    pub(super) fn dry_run(&self) -> &'static str {
        if self.dry_run { "All" } else { "" }
    }

    pub(super) fn call(
        &'a self,
        cluster: &ClusterClient,
        count: RequestVerb,
        method: Method,
        query: &str,
    ) -> Result<ApiRequest<'a>, ClusterError> {
        let path = url::item(self.resource, self.key)
            .map_err(|problem| cluster.fault(self.subject, problem))?;
        Ok(ApiRequest {
            method,
            subject: self.subject.to_owned(),
            resource: self.resource.dotted(),
            namespace: self.key.namespace.as_deref(),
            gvk: Some(&self.resource.gvk),
            ..ApiRequest::get(count, format!("{path}{query}"), self.identity)
        })
    }

    /// Leaves the replicas that a former tool has set without an owner, if the manifest does not
    /// name them: they would become the server's default.
    pub(super) fn keep_replicas(&self, entries: Vec<Value>) -> Vec<Value> {
        let names_replicas = serde_json::from_slice::<Value>(&self.body)
            .is_ok_and(|body| body.pointer("/spec/replicas").is_some());
        if names_replicas || !autoscale::keeps_replicas(&self.resource.gvk) {
            return entries;
        }
        managed_fields::disowned(entries, "replicas", MANAGER)
    }

    /// Returns whether the manifest itself has an annotation.
    pub(super) fn names_annotation(&self, name: &str) -> bool {
        serde_json::from_slice::<Value>(&self.body)
            .is_ok_and(|body| body["metadata"]["annotations"].get(name).is_some())
    }
}

/// The JSON patch that hands fields over, valid for exactly this version of the object.
pub(super) fn hand_over(live: &Object, entries: Option<Vec<Value>>, forget: bool) -> Value {
    let mut operations = vec![
        json!({"op": "test", "path": "/metadata/resourceVersion", "value": live.resource_version()}),
    ];
    if forget {
        let path = format!("/metadata/annotations/{}", pointer::encode(LAST_APPLIED));
        operations.push(json!({"op": "remove", "path": path}));
    }
    if let Some(entries) = entries {
        operations
            .push(json!({"op": "replace", "path": "/metadata/managedFields", "value": entries}));
    }
    Value::Array(operations)
}

/// Returns whether the object changed since the patch was computed: the API server answers a failed
/// JSON patch test with 422.
pub(super) fn is_stale(error: &ClusterError) -> bool {
    match &*error.problem {
        ClusterProblem::Conflict { .. } => true,
        ClusterProblem::Invalid { message, .. } | ClusterProblem::Server { message, .. } => {
            let message = message.to_lowercase();
            message.contains("testing value")
                || message.contains("test failed")
                || message.contains("the server rejected our request")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_over_tests_the_resource_version() {
        let live = Object::new(json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "resourceVersion": "7"}})).unwrap();
        let patch = hand_over(&live, Some(vec![json!({})]), true);
        assert_eq!(
            patch[0],
            json!({"op": "test", "path": "/metadata/resourceVersion", "value": "7"})
        );
        assert_eq!(
            patch[1]["path"],
            "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration"
        );
        assert_eq!(patch[2]["value"], json!([{}]));
        assert_eq!(
            hand_over(&live, None, true).as_array().map(Vec::len),
            Some(2)
        );
    }
}
