//! Deletes one object by its UID, and recreates one whose immutable field changed.

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

/// The fate of an object's dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Propagation {
    /// The garbage collector deletes them afterwards.
    #[default]
    Background,
    /// The object stays until they are gone.
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

/// Options of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRequest {
    /// The object's UID: another one of the same name is left alone.
    pub uid: String,
    pub propagation: Propagation,
    /// The server checks, and deletes nothing.
    pub dry_run: bool,
}

impl DeleteRequest {
    /// Deletes the object with this UID; dependents follow in the background.
    pub fn uid(uid: impl Into<String>) -> Self {
        Self {
            uid: uid.into(),
            propagation: Propagation::default(),
            dry_run: false,
        }
    }
}

/// The result of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteResult {
    /// The server took it. Finalizers may hold it for a while.
    Deleted,
    /// The object did not exist.
    WasGone,
    /// Another object of that name exists now; it was left alone.
    NotOurs,
}

/// Kinds that are never recreated: their content would be deleted, too.
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

    /// Deletes an object, waits until it is gone, and applies it again. If the process dies in
    /// between, the object is missing until the next apply.
    ///
    /// # Errors
    /// [`ClusterProblem::Refused`] for kinds that contain other things (CRD, Namespace, PVC, PV);
    /// [`ClusterProblem::Conflict`] if another object took the name; [`ClusterProblem::Stuck`] if
    /// it is not gone within `patience`; and as every request.
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
                "a {} is never re-created: what is in it would be lost",
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
                let message = format!("its UID is no longer {uid}: it was re-created");
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
            // The old object is still in the way, so a dry run of the new one is impossible.
            return Ok(ApplyResult {
                live: object.clone(),
                created: true,
                changed: true,
                forced: Vec::new(),
                took_over: Vec::new(),
                removes: Vec::new(),
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
            // If it cannot be watched, poll it.
            if gone.await.is_err() {
                tokio::time::sleep_until(end.min(now + Duration::from_secs(1))).await;
            }
        }
    }
}
