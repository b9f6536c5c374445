//! The options of an Application that its passes need.

use crate::{
    core::name::Name,
    objects::plan::Inventory,
    spec::{
        Application, DeletionPolicy, Drift, HealthRule, Ignore, NamespaceCreation,
        rights::RepositoryRights,
    },
};
use std::{sync::Arc, time::Duration};

#[derive(Debug, Clone)]
pub(crate) struct ReconcileOptions {
    pub prune: bool,
    /// Whether to wait for health.
    pub wait: bool,
    pub timeout: Duration,
    pub depends_on: Vec<Name>,
    pub service_account: Option<String>,
    pub repair: bool,
    pub ignore: Vec<Ignore>,
    /// Health rules; the first one for a kind counts.
    pub health: Arc<[Arc<HealthRule>]>,
    pub create_namespace: NamespaceCreation,
    /// The rights of the repository.
    pub rights: Arc<RepositoryRights>,
}

impl ReconcileOptions {
    /// Creates the options of an Application on a cluster with health rules of its own.
    pub(crate) fn new(application: &Application, cluster: &[Arc<HealthRule>]) -> Self {
        Self {
            prune: application.prune,
            wait: application.wait,
            timeout: application.timeout,
            depends_on: application.depends_on.clone(),
            service_account: application.service_account.clone(),
            repair: application.drift == Drift::Repair,
            ignore: application.ignore.clone(),
            health: application.health.iter().chain(cluster).cloned().collect(),
            create_namespace: application.create_namespace,
            rights: Arc::clone(&application.rights),
        }
    }

    /// Returns whether other options make another request of the same manifest, which may succeed
    /// where the last one failed.
    pub(crate) fn changes_requests(&self, other: &Self) -> bool {
        self.ignore != other.ignore
            || self.service_account != other.service_account
            || self.create_namespace != other.create_namespace
    }

    /// Returns the options of an Application that was removed from Git: its record counts.
    pub(crate) fn for_removal(
        inventory: &Inventory,
        account: Option<String>,
        rights: Arc<RepositoryRights>,
    ) -> Self {
        Self {
            prune: inventory.deletion == DeletionPolicy::Delete,
            wait: false,
            timeout: Duration::ZERO,
            depends_on: Vec::new(),
            service_account: account,
            repair: false,
            ignore: Vec::new(),
            health: Arc::default(),
            create_namespace: NamespaceCreation::None,
            rights,
        }
    }
}
