//! The table of unselected Applications, with the state of each.

use super::{RenderFn, cluster_state::ClusterHandle};
use crate::{core::name::Name, spec::Application};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UnselectedState {
    /// Not read yet, or being read.
    Unknown,
    /// The declared manifests were applied.
    Applied,
    /// The declared manifests were not applied.
    OutOfSync,
    Suspended,
    Unreadable(String),
}

pub(crate) struct UnselectedApplication {
    pub application: Application,
    pub cluster: Arc<ClusterHandle>,
    pub repository: String,
    pub revision: String,
    pub render: Arc<RenderFn>,
}

/// The unselected Applications of all repositories.
#[derive(Default)]
pub(crate) struct UnselectedApplications(Mutex<UnselectedTable>);

#[derive(Default)]
pub(super) struct UnselectedTable {
    /// True once a command has selected Applications.
    has_selection: bool,
    pub entries: BTreeMap<(String, Name), UnselectedEntry>,
}

pub(super) struct UnselectedEntry {
    pub unselected: Arc<UnselectedApplication>,
    /// `None` until a read is started.
    pub state: Option<UnselectedState>,
}

impl UnselectedApplications {
    pub(super) fn lock(&self) -> MutexGuard<'_, UnselectedTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the unselected Applications of a repository.
    pub(super) fn replace(
        &self,
        repository: &str,
        unselected: impl IntoIterator<Item = UnselectedApplication>,
    ) {
        let mut table = self.lock();
        table.has_selection = true;
        table.entries.retain(|(other, _), _| other != repository);
        for one in unselected {
            let key = (repository.to_owned(), one.application.name.clone());
            let entry = UnselectedEntry {
                unselected: Arc::new(one),
                state: None,
            };
            table.entries.insert(key, entry);
        }
    }

    pub(super) fn has_selection(&self) -> bool {
        self.lock().has_selection
    }
}

impl UnselectedEntry {
    pub(super) fn is_on(&self, cluster: &str) -> bool {
        self.unselected.cluster.client.name() == cluster
    }
}
