//! Refusals of a tenant that depend on the live cluster: objects of other repositories, and missing
//! namespaces.

use super::ApplyRefusal;
use crate::{
    core::name::Name,
    io::cluster::{ApplicationRecord, ClusterClient, ClusterError, ClusterProblem},
    objects::{
        object::{Object, ObjectKey},
        plan, tenancy,
    },
    reconcile::cluster_state::recorded_inventory,
    spec::{Application, rights::RepositoryRights},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::OnceCell;

/// Says of a missing namespace that the tenant may not create it.
pub(crate) fn explain_missing(rights: &RepositoryRights, mut error: ClusterError) -> ClusterError {
    if let ClusterProblem::NamespaceMissing {
        namespace,
        declared: false,
    } = &*error.problem
        && let Some(why) = tenancy::creation_refusal(rights, namespace)
    {
        error.problem = Box::new(ClusterProblem::Refused { why });
    }
    error
}

/// The repositories of other Applications, by their records. Every record is read once.
#[derive(Debug, Default)]
pub struct ForeignOwners(Mutex<HashMap<Name, Arc<OnceCell<RecordOwner>>>>);

/// The repository that a record names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RecordOwner {
    /// There is no record, or it names none.
    Unknown,
    Repository(String),
    /// The record is damaged, or exceeds a bound.
    Unreadable,
}

impl From<&ApplicationRecord> for RecordOwner {
    fn from(record: &ApplicationRecord) -> Self {
        match recorded_inventory(record) {
            Some(inventory) if inventory.repository.is_empty() => Self::Unknown,
            Some(inventory) => Self::Repository(inventory.repository),
            None => Self::Unreadable,
        }
    }
}

impl RecordOwner {
    /// Returns why a tenant gets no object of an Application with this record.
    fn refusal(&self, owner: &Name, repository: &str) -> Option<String> {
        match self {
            Self::Unknown => None,
            Self::Repository(named) => {
                (named != repository).then(|| plan::foreign_owner_refusal(owner))
            }
            // Any object with its labels may be its own.
            Self::Unreadable => Some(plan::shared_claim_refusal(owner)),
        }
    }
}

impl ForeignOwners {
    /// Adds a record that was read with others.
    pub(super) fn learn(&self, record: &ApplicationRecord) {
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = OnceCell::new_with(Some(RecordOwner::from(record)));
        cells.insert(record.application.clone(), Arc::new(known));
    }

    /// Refuses a live object of another repository's Application.
    ///
    /// # Errors
    /// The refusal, as the real apply has it.
    pub(super) async fn refuse(
        &self,
        cluster: &ClusterClient,
        application: &Application,
        key: &ObjectKey,
        live: &Object,
    ) -> Result<(), ApplyRefusal> {
        let rights = &application.rights;
        let owner = plan::owner(live).filter(|owner| *owner != application.name);
        let Some(owner) = owner.filter(|_| rights.tenant.is_some()) else {
            return Ok(());
        };
        let cell = {
            let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(owner.clone()).or_default())
        };
        let read = || async {
            let record = cluster.record(&owner).await?;
            Ok(record.map_or(RecordOwner::Unknown, |record| RecordOwner::from(&record)))
        };
        let known = cell.get_or_try_init(read).await;
        let known = known.map_err(|error| ApplyRefusal::new(error, None, None))?;
        let Some(why) = known.refusal(&owner, &rights.repository) else {
            return Ok(());
        };
        let error = ClusterError {
            cluster: cluster.name().to_owned(),
            subject: key.to_string(),
            problem: Box::new(ClusterProblem::Refused { why }),
        };
        Err(ApplyRefusal::new(error, None, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::plan::{Inventory, text};
    use std::collections::BTreeMap;

    #[test]
    fn foreign_owner_is_judged_by_its_repository() {
        let owner: Name = "shop/zone".parse().unwrap();
        let of = |repository: &str| {
            let inventory = Inventory {
                repository: repository.to_owned(),
                ..Inventory::default()
            };
            let data = BTreeMap::from([(text::INVENTORY.to_owned(), inventory.to_string())]);
            RecordOwner::from(&ApplicationRecord::new(owner.clone(), data)).refusal(&owner, "team")
        };
        assert_eq!(of("team"), None);
        assert_eq!(of(""), None);
        // Also what its inventory does not name, as an object that it has just created.
        assert_eq!(of("platform"), Some(plan::foreign_owner_refusal(&owner)));
        let mut damaged = ApplicationRecord::new(owner.clone(), BTreeMap::new());
        damaged.damaged = Some("a digest differs".to_owned());
        assert_eq!(
            RecordOwner::from(&damaged).refusal(&owner, "team"),
            Some(plan::shared_claim_refusal(&owner))
        );
    }
}
