//! A yes to deleting Applications that no repository declares any more.

use super::{
    Failure, Screen,
    applications::{self, RepositoryApplications},
    client::Service,
};
use crate::{
    core::name::Name,
    reconcile::{ApplicationRequest, ApplicationState, ApplicationStatus, Reconciler},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// How long the objects may take to go.
const PATIENCE: Duration = Duration::from_secs(120);

/// Says yes for each Application that waits for one, and waits until it is gone; gives how those
/// are that are still there. `own` is whether the reconciler is this command's, which has to find
/// them first.
///
/// # Errors
/// If there is nothing of an Application in any cluster.
pub(super) async fn confirm(
    reconciler: &Arc<Reconciler>,
    desk: &Service,
    own: bool,
    scopes: &[RepositoryApplications],
    gone: &[Name],
    screen: &mut Screen,
) -> Result<Vec<ApplicationStatus>, Failure> {
    if gone.is_empty() {
        return Ok(Vec::new());
    }
    let only: BTreeSet<Name> = gone.iter().cloned().collect();
    if own {
        for scope in scopes {
            reconciler.reconcile(
                &scope.repository(),
                &scope.revision(),
                &scope.declared,
                Some(&only),
                &scope.render(desk),
            );
        }
    }
    let end = tokio::time::Instant::now() + PATIENCE;
    let (mut turned, mut said) = (
        reconciler.status_changes(),
        BTreeMap::<Name, Option<String>>::new(),
    );
    loop {
        turned.mark_unchanged();
        let taken = scopes
            .iter()
            .all(|scope| reconciler.has_accepted(&scope.updater.config.name, &scope.revision()));
        let statuses: Vec<ApplicationStatus> = reconciler
            .statuses()
            .into_iter()
            .filter(|status| only.contains(&status.application))
            .collect();
        for status in &statuses {
            let confirmed = said.entry(status.application.clone()).or_default();
            if status.state == ApplicationState::ConfirmationRequired
                && *confirmed != status.revision
            {
                confirmed.clone_from(&status.revision);
                reconciler.request(
                    &status.application,
                    &ApplicationRequest::ConfirmPrune(status.revision.clone().unwrap_or_default()),
                );
            }
        }
        if let Some(name) = gone.iter().find(|name| taken && !said.contains_key(*name)) {
            return Err(applications::unknown(name, scopes));
        }
        let waits = |status: &ApplicationStatus| {
            !status.observed || status.state == ApplicationState::ConfirmationRequired
        };
        if taken && !statuses.iter().any(waits) {
            for name in gone
                .iter()
                .filter(|name| !statuses.iter().any(|status| status.application == **name))
            {
                screen.note(format_args!("{name} is deleted, with its objects"));
            }
            return Ok(statuses);
        }
        tokio::select! {
            _ = turned.changed() => {}
            () = tokio::time::sleep_until(end) => return Ok(statuses),
        }
    }
}
