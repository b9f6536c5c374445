//! Refusals of a tenant that depend on the live cluster: objects of other repositories, and missing
//! namespaces.

use super::ApplyRefusal;
use crate::{
    io::cluster::{ClusterClient, ClusterError, ClusterProblem},
    objects::{
        object::{Object, ObjectKey},
        plan, tenancy,
    },
    reconcile::RecordedApplication,
    spec::{Application, rights::RepositoryRights},
};

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

/// Refuses a live object that the record of another repository's Application names.
///
/// # Errors
/// The refusal, as the real apply has it.
pub(super) async fn refuse(
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
    let record = cluster.record(&owner).await;
    let record = record.map_err(|error| ApplyRefusal::new(error, None, None))?;
    let is_foreign = record
        .as_ref()
        .map(RecordedApplication::from)
        .is_some_and(|record| {
            let inventory = record.inventory;
            inventory.repository != rights.repository && inventory.entries.contains_key(key)
        });
    if !is_foreign {
        return Ok(());
    }
    let error = ClusterError {
        cluster: cluster.name().to_owned(),
        subject: key.to_string(),
        problem: Box::new(ClusterProblem::Refused {
            why: plan::foreign_owner_refusal(&owner),
        }),
    };
    Err(ApplyRefusal::new(error, None, None))
}
