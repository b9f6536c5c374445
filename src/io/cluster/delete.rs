//! Deleting one object, and only that one: by its UID. And creating one anew where a field cannot
//! be changed.

use super::{
    ApplyRequest, ApplyResult, ClusterClient, RequestIdentity,
    discovery::Resource,
    error::{ClusterError, ClusterProblem},
    request::{ApiRequest, RequestVerb},
    url,
};
use crate::objects::object::{Object, ObjectKey};
use bytes::Bytes;
use hyper::Method;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// What becomes of the objects that an object owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Propagation {
    /// They are deleted after it, by the cluster.
    #[default]
    Background,
    /// It goes only when they are gone.
    Foreground,
    Orphan,
}

impl Propagation {
    fn word(self) -> &'static str {
        match self {
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
            Propagation::Orphan => "Orphan",
        }
    }
}

/// How an object is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRequest {
    /// The object's UID: another one of the same name is left alone.
    pub uid: String,
    /// What becomes of what it owns.
    pub propagation: Propagation,
    /// The server checks, and deletes nothing.
    pub dry_run: bool,
}

impl DeleteRequest {
    /// Deletes the object with this UID; what it owns follows.
    pub fn uid(uid: impl Into<String>) -> Self {
        Self {
            uid: uid.into(),
            propagation: Propagation::default(),
            dry_run: false,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteResult {
    /// The server took it. Finalizers may hold it for a while.
    Deleted,
    /// It was not there.
    WasGone,
    /// Another object of that name is there now; it was left alone.
    NotOurs,
}

/// Kinds that are never deleted to be created anew: everything in them would go, too.
const NEVER_ANEW: &[(&str, &str)] = &[
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("", "Namespace"),
    ("", "PersistentVolumeClaim"),
    ("", "PersistentVolume"),
];

impl ClusterClient {
    /// Deletes an object if it is the one with this UID.
    ///
    /// # Errors
    /// As every request: see [`ClusterProblem`].
    pub async fn delete(
        &self,
        identity: &RequestIdentity,
        resource: &Resource,
        key: &ObjectKey,
        how: &DeleteRequest,
    ) -> Result<DeleteResult, ClusterError> {
        let subject = key.to_string();
        if how.uid.is_empty() {
            return Err(self.fault(
                subject,
                ClusterProblem::Refused {
                    why: "it is not deleted without its UID".to_owned(),
                },
            ));
        }
        let path = url::item(resource, key).map_err(|problem| self.fault(&subject, problem))?;
        let mut options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "propagationPolicy": how.propagation.word(),
            "preconditions": {"uid": how.uid},
        });
        if how.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        let call = ApiRequest {
            method: Method::DELETE,
            body: Bytes::from(options.to_string()),
            subject,
            resource: resource.dotted(),
            namespace: key.namespace.as_deref(),
            gvk: Some(&resource.gvk),
            ..ApiRequest::get(RequestVerb::Delete, path, identity)
        };
        match self.call(call).await {
            Ok(_) => Ok(DeleteResult::Deleted),
            Err(error) => match &*error.problem {
                // A kind that is no longer served took its objects with it.
                ClusterProblem::NotFound
                | ClusterProblem::NamespaceMissing { .. }
                | ClusterProblem::UnknownKind { .. } => Ok(DeleteResult::WasGone),
                ClusterProblem::Conflict { message, .. } if message.contains("UID") => {
                    Ok(DeleteResult::NotOurs)
                }
                _ => Err(error),
            },
        }
    }

    /// Deletes an object, waits until it is gone, and applies it anew. A process that dies in
    /// between leaves it missing, which the next apply mends.
    ///
    /// # Errors
    /// [`ClusterProblem::Refused`] for kinds that hold other things (CRD, Namespace, PVC, PV);
    /// [`ClusterProblem::Conflict`] where another object took the name; [`ClusterProblem::Stuck`] where it is not
    /// gone within `patience`; and as every request.
    pub async fn recreate(
        &self,
        identity: &RequestIdentity,
        object: &Object,
        uid: &str,
        how: &ApplyRequest,
        patience: Duration,
    ) -> Result<ApplyResult, ClusterError> {
        let key = object.key();
        if NEVER_ANEW
            .iter()
            .any(|(group, kind)| key.group == *group && key.kind == *kind)
        {
            let why = format!(
                "a {} is never deleted to be created anew: what is in it would be lost",
                key.kind
            );
            return Err(self.fault(key.to_string(), ClusterProblem::Refused { why }));
        }
        let resource = self.resource(&object.gvk()).await?;
        let delete = DeleteRequest {
            dry_run: how.dry_run,
            ..DeleteRequest::uid(uid)
        };
        match self.delete(identity, &resource, &key, &delete).await? {
            DeleteResult::NotOurs => {
                let message = format!("its UID is no longer {uid}: somebody else created it anew");
                return Err(self.fault(
                    key.to_string(),
                    ClusterProblem::Conflict {
                        message,
                        fields: Vec::new(),
                    },
                ));
            }
            DeleteResult::Deleted if !how.dry_run => {
                self.wait_until_gone(identity, &resource, &key, uid, patience)
                    .await?
            }
            DeleteResult::Deleted | DeleteResult::WasGone => {}
        }
        if how.dry_run {
            // The old object still stands in the way: what would be created cannot be asked for.
            return Ok(ApplyResult {
                live: object.clone(),
                created: true,
                changed: true,
                forced: Vec::new(),
                took_over: Vec::new(),
                warnings: Vec::new(),
            });
        }
        self.apply(identity, object, how).await
    }

    /// Waits until the object with this UID is gone: on a watch, with a look at it whenever that
    /// ends.
    async fn wait_until_gone(
        &self,
        identity: &RequestIdentity,
        resource: &Resource,
        key: &ObjectKey,
        uid: &str,
        patience: Duration,
    ) -> Result<(), ClusterError> {
        let end = Instant::now() + patience;
        loop {
            let live = match self.get(identity, resource, key).await? {
                Some(live) if live.uid() == Some(uid) => live,
                _ => return Ok(()),
            };
            let now = Instant::now();
            if now >= end {
                let finalizers = live
                    .pointer("/metadata/finalizers")
                    .and_then(|list| list.as_array().cloned())
                    .unwrap_or_default();
                let finalizers = finalizers
                    .iter()
                    .filter_map(|name| name.as_str().map(str::to_owned))
                    .collect();
                return Err(self.fault(key.to_string(), ClusterProblem::Stuck { finalizers }));
            }
            let gone = self.watch_until_deleted(
                identity,
                resource,
                key,
                live.resource_version().unwrap_or_default(),
                end,
            );
            // Where it cannot be watched, look again a little later.
            if gone.await.is_err() {
                tokio::time::sleep_until(end.min(now + Duration::from_secs(1))).await;
            }
        }
    }
}
