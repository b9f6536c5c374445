//! Confirmation of deleting Applications that no repository declares any more.

use super::{
    Failure, Service,
    scope::{QueryClusters, SelectedScopes},
};
use crate::{
    core::name::Name,
    reconcile::{ApplicationRequest, ApplicationState, ApplicationStatus},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Time for the objects to be deleted.
const DEADLINE: Duration = Duration::from_secs(120);

/// The result of confirming deletions.
#[derive(Default)]
pub(super) struct ConfirmedDeletions {
    /// The Applications whose objects are deleted.
    pub deleted: Vec<Name>,
    /// The others.
    pub remaining: Vec<ApplicationStatus>,
}

/// Confirms the deletion of Applications that wait for it, and waits until their objects are gone.
///
/// # Errors
/// If no cluster has anything of an Application.
pub(super) async fn confirm(
    service: &Service,
    clusters: &QueryClusters,
    selected: &SelectedScopes,
) -> Result<ConfirmedDeletions, Failure> {
    let (scopes, names) = (&selected.scopes, &selected.undeclared);
    if names.is_empty() {
        return Ok(ConfirmedDeletions::default());
    }
    let reconciler = &clusters.reconciler;
    let only: BTreeSet<Name> = names.iter().cloned().collect();
    if clusters.is_own() {
        for scope in scopes {
            scope.follow_only(service, reconciler, Some(&only));
        }
    }
    let end = tokio::time::Instant::now() + DEADLINE;
    let mut status_changed = reconciler.status_changes();
    // The revision at which each Application was confirmed: a newer one asks again.
    let mut confirmed = BTreeMap::<Name, Option<String>>::new();
    loop {
        status_changed.mark_unchanged();
        let accepted = scopes
            .iter()
            .all(|scope| reconciler.has_accepted(scope.repository(), &scope.revision()));
        let mut statuses = reconciler.statuses();
        statuses.retain(|status| only.contains(&status.application));
        for status in &statuses {
            let at = confirmed.entry(status.application.clone()).or_default();
            if status.state == ApplicationState::ConfirmationRequired && *at != status.revision {
                at.clone_from(&status.revision);
                let revision = status.revision.clone().unwrap_or_default();
                reconciler.request(
                    &status.application,
                    &ApplicationRequest::ConfirmPrune(revision),
                );
            }
        }
        if let Some(name) = names
            .iter()
            .find(|name| accepted && !confirmed.contains_key(*name))
        {
            return Err(selected.undeclared_failure(name));
        }
        let is_busy = |status: &ApplicationStatus| {
            !status.observed || status.state == ApplicationState::ConfirmationRequired
        };
        if accepted && !statuses.iter().any(is_busy) {
            let remains = |name: &&Name| statuses.iter().any(|status| status.application == **name);
            return Ok(ConfirmedDeletions {
                deleted: names
                    .iter()
                    .filter(|name| !remains(name))
                    .cloned()
                    .collect(),
                remaining: statuses,
            });
        }
        tokio::select! {
            _ = status_changed.changed() => {}
            () = tokio::time::sleep_until(end) => return Ok(ConfirmedDeletions {
                deleted: Vec::new(),
                remaining: statuses,
            }),
        }
    }
}
