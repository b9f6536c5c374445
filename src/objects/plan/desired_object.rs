//! Desired objects and their dependencies: the types that planning and ordering share.

use super::value_hash::ValueHash;
use crate::objects::object::{CompactObject, Gvk, ObjectKey, ObjectOrigin, ObjectSettings};

pub(super) const CRD: (&str, &str) = ("apiextensions.k8s.io", "CustomResourceDefinition");

#[derive(Debug, Clone)]
pub struct DesiredObject {
    /// The object, in its namespace and with its owner's labels.
    pub manifest: CompactObject,
    pub key: ObjectKey,
    /// The API version of the manifest.
    pub version: String,
    pub settings: ObjectSettings,
    /// True if `reconcile: disabled` on the live object freezes it.
    pub honors_annotations: bool,
    /// The hash of the manifest.
    pub hash: ValueHash,
    /// Lower waves are answered before it is sent.
    pub wave: u8,
    /// Objects that must be applied first.
    pub after: Vec<ApplyOrder>,
    /// True if the cluster serves its kind.
    pub served: bool,
    /// True if the cluster deletes it after it has ended.
    pub expires: bool,
    /// True if its namespace is created if it is missing.
    pub creates_namespace: bool,
}

impl DesiredObject {
    pub fn gvk(&self) -> Gvk {
        Gvk {
            group: self.key.group.clone(),
            version: self.version.clone(),
            kind: self.key.kind.clone(),
        }
    }
}

/// A dependency on another object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyOrder {
    /// The index of the dependency.
    pub index: usize,
    /// True if the dependency must be healthy, not only applied.
    pub healthy: bool,
}

/// An object that cannot be applied as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedObject {
    pub key: ObjectKey,
    pub origin: Option<ObjectOrigin>,
    pub why: String,
}
