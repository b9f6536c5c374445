//! kustomize's overlays, rendered in the process: files in, objects out.
//!
//! This is an implementation of what overlays really use. A kustomization that uses anything else,
//! or is read differently by different readers, is handed over to the kustomize program
//! ([`Handover`]): a wrong object is worse than a slow one. Where the two could differ, kustomize 5
//! is right; the tests compare both.
//!
//! Resources are nodes of YAML (`node.rs`) with what kustomize remembers of them (`resource.rs`).
//! [`build`] follows kustomize's order: resources and bases, generators, components, transformers;
//! at the end hashes, references to names, and the order of objects.

mod build;
mod field_order;
mod field_spec;
mod generate;
mod json_patch;
mod kustomization;
mod merge;
mod node;
mod order;
mod parse;
mod patch;
mod problem;
mod reference_table;
mod references;
mod replace;
mod resource;
mod scalar;
mod schema;
mod select;
mod source;
mod tables;
mod transform;
#[cfg(test)]
mod tests;

pub use problem::{Handover, HandoverKind};
pub use source::{KustomizeFiles, Unreadable};

use super::{manifest::Manifests, object::ObjectOrigin};
use node::Node;
use serde_json::Value;
use source::Source;

/// An object that a kustomization makes, and the place of its manifest or generator.
#[derive(Debug, Clone, PartialEq)]
pub struct KustomizedObject {
    pub value: Value,
    pub origin: ObjectOrigin,
}

/// Builds the kustomization of a folder, in kustomize's order of objects.
///
/// # Errors
/// The reason to leave it to the kustomize program.
pub fn build(files: &dyn KustomizeFiles, folder: &str) -> Result<Vec<KustomizedObject>, Handover> {
    let resources = build::build(&Source::new(files), folder)?;
    Ok(resources
        .into_iter()
        .map(|resource| KustomizedObject {
            value: Node::Map(resource.fields).into_value(),
            origin: resource.origin,
        })
        .collect())
}

/// Reads the objects of a kustomization as manifests.
pub fn manifests(objects: Vec<KustomizedObject>) -> Manifests {
    let mut manifests = Manifests::default();
    for KustomizedObject { value, origin } in objects {
        manifests.add(value, &origin);
    }
    manifests
}
