//! The terms on which an Application is applied.

use crate::{
    core::name::Name,
    objects::plan::Inventory,
    spec::{Application, DeletionPolicy, Drift, Ignore},
};
use std::time::Duration;

/// What an Application says about how its objects are applied.
#[derive(Debug, Clone)]
pub(crate) struct ReconcileOptions {
    pub prune: bool,
    pub wait: bool,
    pub timeout: Duration,
    pub depends_on: Vec<Name>,
    pub service_account: Option<String>,
    pub repair: bool,
    pub ignore: Vec<Ignore>,
}

impl ReconcileOptions {
    pub(crate) fn of(application: &Application) -> Self {
        Self {
            prune: application.prune,
            wait: application.wait,
            timeout: application.timeout,
            depends_on: application.depends_on.clone(),
            service_account: application.service_account.clone(),
            repair: application.drift == Drift::Repair,
            ignore: application.ignore.clone(),
        }
    }

    /// For one that nobody declares any more: what was recorded of it counts.
    pub(crate) fn recorded(inventory: &Inventory) -> Self {
        Self {
            prune: inventory.deletion == DeletionPolicy::Delete,
            wait: false,
            timeout: Duration::ZERO,
            depends_on: Vec::new(),
            service_account: inventory.service_account.clone(),
            repair: false,
            ignore: Vec::new(),
        }
    }
}
