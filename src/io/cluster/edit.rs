//! Changing an object as another tool would, for `tagboat demo`: what the reconciler then finds is
//! a change by hand.

use super::{
    ClusterClient, RequestIdentity,
    discovery::Resource,
    error::ClusterError,
    request::{ApiRequest, RequestVerb},
    url,
};
use crate::objects::object::{Object, ObjectKey};
use bytes::Bytes;
use hyper::Method;
use serde_json::Value;

impl ClusterClient {
    /// Sends a strategic merge patch with another field manager, as `kubectl edit` does; returns
    /// the resulting object.
    ///
    /// # Errors
    /// As every request: see [`super::ClusterProblem`].
    pub async fn edit(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        manager: &str,
        patch: &Value,
    ) -> Result<Object, ClusterError> {
        let subject = key.to_string();
        let path = url::item(resource, key).map_err(|problem| self.fault(&subject, problem))?;
        let own = RequestIdentity::Own;
        let call = ApiRequest {
            method: Method::PATCH,
            path: format!("{path}{}", url::query(&[("fieldManager", manager)])),
            body: Bytes::from(patch.to_string()),
            content: "application/strategic-merge-patch+json",
            subject: subject.clone(),
            resource: resource.dotted(),
            namespace: key.namespace.as_deref(),
            gvk: Some(&resource.gvk),
            ..ApiRequest::get(RequestVerb::Patch, String::new(), &own)
        };
        let answer = self.call(call).await?;
        self.object(&subject, &answer.body)
    }
}
