//! Namespaces that tagboat creates for Applications, and what is left in them afterwards.

use super::{
    ClusterClient, RequestIdentity,
    apply_target::ApplyTarget,
    delete::{DeleteRequest, DeleteResult},
    discovery::Resource,
    error::{ClusterError, ClusterProblem},
    list::{ObjectList, PAGE_BYTES},
    read::core,
    request::{ApiRequest, RequestVerb},
    url,
};
use crate::{
    core::name::Name,
    objects::{namespace::CREATED_FOR, object::Object},
};
use bytes::Bytes;
use serde_json::{Value, json};

/// The media type for lists of objects without their content.
const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// The objects of a kind that are asked for: a few show whether a namespace is in use.
const FEW: usize = 20;

/// The first objects of a kind in a namespace, without their content.
pub(crate) struct FirstObjects {
    pub objects: Vec<Object>,
    /// True if there are more.
    pub more: bool,
}

fn namespaces() -> Resource {
    core("Namespace", "namespaces", false)
}

/// Returns the Namespace that is created for an Application.
pub(crate) fn created_namespace(name: &str, application: &Name) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "annotations": {CREATED_FOR: application.to_string()}},
    })
}

impl ClusterClient {
    /// Creates a namespace for an Application, if it is missing; returns whether it was.
    ///
    /// # Errors
    /// [`ClusterProblem::NamespaceNotCreated`] with the cause.
    pub(crate) async fn create_namespace(
        &self,
        identity: &RequestIdentity,
        name: &str,
        application: &Name,
        dry_run: bool,
    ) -> Result<bool, ClusterError> {
        let resource = namespaces();
        let key = resource.key(None, name);
        let subject = key.to_string();
        let to = ApplyTarget {
            identity,
            resource: &resource,
            key: &key,
            subject: &subject,
            body: Bytes::from(created_namespace(name, application).to_string()),
            dry_run,
        };
        match self.create(&to).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(*error.problem, ClusterProblem::Conflict { .. }) => Ok(false),
            Err(error) => Err(self.fault(
                subject,
                ClusterProblem::NamespaceNotCreated {
                    namespace: name.to_owned(),
                    cause: error.problem,
                },
            )),
        }
    }

    /// Reads a Namespace; `None` if it does not exist.
    ///
    /// # Errors
    /// As every request: see [`ClusterProblem`].
    pub(crate) async fn namespace(&self, name: &str) -> Result<Option<Object>, ClusterError> {
        let resource = namespaces();
        let key = resource.key(None, name);
        self.get(&RequestIdentity::Own, &resource, &key).await
    }

    /// Deletes a Namespace with everything in it, if it is the one with this UID.
    ///
    /// # Errors
    /// As every request: see [`ClusterProblem`].
    pub(crate) async fn delete_namespace(
        &self,
        identity: &RequestIdentity,
        name: &str,
        uid: &str,
    ) -> Result<DeleteResult, ClusterError> {
        let resource = namespaces();
        let key = resource.key(None, name);
        self.delete(identity, &resource, &key, &DeleteRequest::uid(uid))
            .await
    }

    /// Lists the first objects of a kind in a namespace, without their content.
    ///
    /// # Errors
    /// As every request: see [`ClusterProblem`].
    pub(crate) async fn first_objects(
        &self,
        resource: &Resource,
        namespace: &str,
    ) -> Result<FirstObjects, ClusterError> {
        let subject = resource.dotted();
        let collection = url::collection(resource, Some(namespace))
            .map_err(|problem| self.fault(&subject, problem))?;
        let query = url::query(&[("limit", &FEW.to_string())]);
        let own = RequestIdentity::Own;
        let call = ApiRequest {
            accept: METADATA_LIST,
            subject: subject.clone(),
            resource: subject.clone(),
            namespace: Some(namespace),
            gvk: Some(&resource.gvk),
            largest: PAGE_BYTES,
            ..ApiRequest::get(RequestVerb::List, format!("{collection}{query}"), &own)
        };
        let answer = self.call(call).await?;
        let list = ObjectList::read(self, &subject, &answer.body)?;
        let more = !list.metadata.next.is_empty();
        let objects = list.objects().collect::<Result<Vec<_>, _>>();
        Ok(FirstObjects {
            objects: objects.map_err(|problem| self.fault(&subject, problem))?,
            more,
        })
    }
}
