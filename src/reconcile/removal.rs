//! Applications that were removed from Git.

use super::{
    Message, Reason, Reconciler, RepositoryId,
    application::{MAX_ATTEMPTS, back_off},
    cluster_state::{ClusterHandle, DeclaredNames},
    work::Work,
};
use crate::{
    core::{error::Classify as _, name::Name},
    events::{Event, EventReason},
    io::{cluster::ClusterError, supervise::supervise},
    spec::rights::RepositoryRights,
};
use std::{collections::BTreeSet, sync::Arc};

impl Reconciler {
    /// Finds the Applications of a repository that a cluster or a task knows and that the
    /// repository no longer declares, and hands the removal to their tasks.
    pub(super) fn find_removed(self: &Arc<Self>, search: RemovalSearch) {
        let this = Arc::clone(self);
        self.context.tasks.spawn(async move {
            let events = search.cluster.client.events();
            supervise(
                "the search for removed Applications",
                events,
                &this.context.stop,
                || async {
                    if let Some(recorded) = search.recorded(&this).await {
                        search.hand_over(&this, recorded);
                    }
                },
            )
            .await;
        });
    }

    /// Returns the Applications of a repository that have a task on a cluster.
    fn running(&self, cluster: &str, repository: &str) -> Vec<Name> {
        self.handles()
            .iter()
            .filter(|((at, _, of), _)| at == cluster && of == repository)
            .filter(|(_, handle)| !handle.mailbox.is_closed())
            .map(|((_, name, _), _)| name.clone())
            .collect()
    }
}

/// The search for the removed Applications of a repository on a cluster.
pub(super) struct RemovalSearch {
    pub cluster: Arc<ClusterHandle>,
    pub repository: RepositoryId,
    pub revision: String,
    pub declared: DeclaredNames,
    /// The rights of the repository: they count for a removal, too.
    pub rights: Arc<RepositoryRights>,
    /// Whether all declarations could be read; otherwise a missing one proves nothing.
    pub complete: bool,
    pub only: Option<BTreeSet<Name>>,
}

impl RemovalSearch {
    /// Reads the recorded Applications, retrying until the process stops.
    async fn recorded(&self, reconciler: &Reconciler) -> Option<BTreeSet<Name>> {
        let mut failures = 0;
        loop {
            let error = match self.cluster.recorded(&self.repository).await {
                Ok(recorded) => return Some(recorded),
                Err(error) => error,
            };
            failures += 1;
            self.note_failure(reconciler, failures, &error);
            tokio::select! {
                () = reconciler.context.stop.cancelled() => return None,
                () = tokio::time::sleep(back_off(failures)) => {}
            }
        }
    }

    fn note_failure(&self, reconciler: &Reconciler, failures: u32, error: &ClusterError) {
        if failures == 1 {
            let event = Event::warning(EventReason::ClusterUnreachable, error.to_string());
            let events = self.cluster.client.events();
            events.record(event.hint(error.hint()));
        }
        if failures >= MAX_ATTEMPTS {
            // A caller that waits for the result reads it from the declared Applications; removed
            // ones are found as soon as the cluster answers.
            self.accept(reconciler);
        }
    }

    fn accept(&self, reconciler: &Reconciler) {
        reconciler.context.accept(
            self.cluster.client.name(),
            &self.repository.name,
            &self.revision,
        );
    }

    fn hand_over(&self, reconciler: &Reconciler, recorded: BTreeSet<Name>) {
        let mut removed = recorded;
        removed.extend(reconciler.running(self.cluster.client.name(), &self.repository.name));
        removed.retain(|name| !self.declared.contains(name));
        if !self
            .cluster
            .state()
            .is_at(&self.repository.name, &self.revision)
        {
            return;
        }
        if removed.is_empty() {
            self.accept(reconciler);
            return;
        }
        let delete_guard = delete_guard(&self.repository.name, removed.len(), self.declared.len());
        removed.retain(|name| self.only.as_ref().is_none_or(|only| only.contains(name)));
        let retired = if self.complete {
            removed.clone()
        } else {
            BTreeSet::new()
        };
        self.cluster.state().declare(
            &self.repository.name,
            &self.revision,
            self.declared.clone(),
            retired,
        );
        for name in removed {
            let revision = self.revision.clone();
            let work = if self.complete {
                Work::Remove {
                    revision,
                    delete_guard: delete_guard.clone(),
                    rights: Arc::clone(&self.rights),
                }
            } else {
                Work::Unreadable {
                    revision,
                    reason: Reason::DeclarationInvalid,
                    message: Message::application(
                        "it is not declared, or its declaration is invalid; its objects are kept",
                    )
                    .with_hint(Some(
                        "Run `tagboat check` to list the invalid declarations.".to_owned(),
                    )),
                }
            };
            reconciler.hand_over(&self.cluster, &self.repository, &name, work);
        }
        self.accept(reconciler);
    }
}

/// Returns why removed Applications are not deleted without a confirmation.
///
/// Most of a repository at once is more often a mistake (a moved folder, an emptied branch) than
/// intent.
fn delete_guard(repository: &str, removed: usize, declared: usize) -> Option<String> {
    let all = removed + declared;
    let counted = if all == 1 {
        "1 Application".to_owned()
    } else {
        format!("{all} Applications")
    };
    if declared == 0 {
        return Some(format!(
            "repository {repository} declares none of the {counted} that it had on this cluster"
        ));
    }
    (removed > declared).then(|| {
        format!(
            "repository {repository} no longer declares {removed} of the {counted} that it had on this cluster"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delete_guard_most_removed_needs_confirmation() {
        for (removed, declared, guarded) in [
            (1, 0, true),
            (2, 1, true),
            (1, 1, false),
            (1, 5, false),
            (3, 2, true),
        ] {
            assert_eq!(
                delete_guard("fleet", removed, declared).is_some(),
                guarded,
                "{removed} of {declared}"
            );
        }
        assert_eq!(
            delete_guard("fleet", 1, 0).unwrap(),
            "repository fleet declares none of the 1 Application that it had on this cluster"
        );
    }
}
