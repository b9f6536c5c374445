//! The Applications that repositories declare for a cluster.

use super::ClusterState;
use crate::core::name::Name;
use std::collections::BTreeSet;

/// The Applications that a repository declares for this cluster at a revision.
pub(super) struct DeclaredRevision {
    pub revision: String,
    pub names: BTreeSet<Name>,
    /// Declared Applications that are refused as a whole. They own nothing here, but an object of
    /// another one may have moved to them.
    pub refused: BTreeSet<Name>,
    /// The Applications whose manifests at the revision are not known yet.
    pub unread: BTreeSet<Name>,
}

/// The Applications that a repository declares for a cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeclaredNames {
    pub accepted: BTreeSet<Name>,
    /// Those that are refused as a whole.
    pub refused: BTreeSet<Name>,
}

impl DeclaredNames {
    pub(crate) fn contains(&self, name: &Name) -> bool {
        self.accepted.contains(name) || self.refused.contains(name)
    }

    pub(crate) fn len(&self) -> usize {
        self.accepted.len() + self.refused.len()
    }
}

impl ClusterState {
    /// Replaces what a repository declares for this cluster.
    ///
    /// `retired` are recorded Applications that the revision no longer declares.
    pub(crate) fn declare(
        &mut self,
        repository: &str,
        revision: &str,
        declared: DeclaredNames,
        retired: BTreeSet<Name>,
    ) {
        let DeclaredNames {
            accepted: names,
            refused,
        } = declared;
        for name in &names {
            if let Some(entry) = self.applications.get_mut(name) {
                entry.retired = false;
            }
        }
        for name in retired {
            self.application(&name).retired = true;
        }
        let is_read = |name: &Name| {
            let entry = self.applications.get(name);
            entry.is_some_and(|entry| entry.read_at.as_deref() == Some(revision))
        };
        let unread = names.iter().filter(|name| !is_read(name)).cloned();
        let declared = DeclaredRevision {
            revision: revision.to_owned(),
            unread: unread.collect(),
            names,
            refused,
        };
        self.declared.insert(repository.to_owned(), declared);
        self.wake_restless();
    }

    /// Returns whether a revision is the newest one declared by a repository.
    pub(crate) fn is_at(&self, repository: &str, revision: &str) -> bool {
        self.declared
            .get(repository)
            .is_some_and(|declared| declared.revision == revision)
    }

    /// Returns the first unread Application of a repository, and how many there are.
    pub(crate) fn unread(&self, repository: &str) -> Option<(Name, usize)> {
        let DeclaredRevision {
            unread, refused, ..
        } = self.declared.get(repository)?;
        let first = unread.first().or_else(|| refused.first())?;
        Some((first.clone(), unread.len() + refused.len()))
    }
}
