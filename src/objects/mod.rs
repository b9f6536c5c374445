//! The pure half of the reconcile pass: Kubernetes objects, manifests, plans and health.
//!
//! Belongs here: what an object is, how manifests are read and overlays built, which action an
//! object needs, and how healthy it is. Does not belong here: requests to an API server
//! (`io::cluster`), and when an action is taken (`reconcile`).

pub mod autoscale;
pub(crate) mod ca_bundle;
pub mod health;
pub mod kustomize;
pub mod managed_fields;
pub mod manifest;
pub mod namespace;
pub mod object;
pub mod plan;
pub mod quantity;
pub(crate) mod refused_fields;
pub mod tenancy;
pub mod unhandled;
