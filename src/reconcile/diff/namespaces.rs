//! Namespaces that do not exist yet, in a diff.

use super::{ChangeKind, Comparison, ObjectDiff, diff_in_background};
use crate::{
    core::error::Classify as _,
    io::cluster::{ClusterError, ClusterProblem, created_namespace},
    objects::{
        object::{Object, ObjectKey},
        plan::DesiredObject,
    },
};
use std::sync::PoisonError;

impl Comparison<'_> {
    /// Returns whether an apply of the Application itself provides what an error misses.
    pub(super) fn provides_missing(&self, error: &ClusterError, one: &DesiredObject) -> bool {
        match &*error.problem {
            ClusterProblem::NamespaceMissing { namespace, .. } => {
                let is_declared = self.desired.iter().any(|other| {
                    other.key.group.is_empty()
                        && other.key.kind == "Namespace"
                        && other.key.name == *namespace
                });
                let is_created = !is_declared && self.application.creates_namespace(namespace);
                if is_created {
                    let missing = self.missing_namespaces.lock();
                    let mut missing = missing.unwrap_or_else(PoisonError::into_inner);
                    missing.insert(namespace.clone());
                }
                is_declared || is_created
            }
            ClusterProblem::UnknownKind { .. } => !one.served && !one.after.is_empty(),
            _ => false,
        }
    }

    /// Returns the namespaces that an apply would create, asked of the server as a dry run.
    pub(super) async fn diff_namespaces(&self) -> Vec<ObjectDiff> {
        let missing = {
            let missing = self.missing_namespaces.lock();
            std::mem::take(&mut *missing.unwrap_or_else(PoisonError::into_inner))
        };
        let application = &self.application.name;
        let mut diffs = Vec::new();
        for name in missing {
            let key = ObjectKey::new("", "Namespace", None, name.as_str());
            let asked = self
                .cluster
                .create_namespace(self.identity, &name, application, true)
                .await;
            diffs.push(match asked {
                Ok(_) => {
                    let manifest = Object::new(created_namespace(&name, application)).ok();
                    ObjectDiff {
                        diff: diff_in_background(&key, None, manifest).await,
                        ..ObjectDiff::new(&key, None, ChangeKind::Create)
                    }
                }
                Err(error) => ObjectDiff {
                    hint: error.hint(),
                    error: Some(error.problem.to_string()),
                    ..ObjectDiff::new(&key, None, ChangeKind::Refused)
                },
            });
        }
        diffs
    }
}
