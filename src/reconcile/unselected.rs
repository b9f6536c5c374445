//! The Applications of a repository that a command has not selected.
//!
//! Their objects are never touched. What they declare, and whether that was applied, is read only
//! when a selected Application depends on it: a repository may have thousands.

use super::{
    ClusterKinds,
    context::ReconcileContext,
    render_slots::FinishedRender,
    unselected_table::{UnselectedApplication, UnselectedState},
};
use crate::{
    core::name::Name,
    io::supervise::catch_panic,
    objects::plan::{self, RolloutOutcome},
};
use std::sync::Arc;

impl ReconcileContext {
    /// Returns the state of an unselected Application, and starts to read it.
    pub(super) fn read_unselected(
        self: &Arc<Self>,
        repository: &str,
        name: &Name,
    ) -> Option<UnselectedState> {
        let key = (repository.to_owned(), name.clone());
        let mut table = self.unselected.lock();
        let entry = table.entries.get_mut(&key)?;
        if let Some(state) = &entry.state {
            return Some(state.clone());
        }
        entry.state = Some(UnselectedState::Unknown);
        self.spawn_read(key, Arc::clone(&entry.unselected));
        Some(UnselectedState::Unknown)
    }

    /// Starts to read all unselected Applications of a repository on a cluster.
    ///
    /// Once all are read, returns one that cannot be read, and why.
    pub(super) fn read_all_unselected(
        self: &Arc<Self>,
        repository: &str,
        cluster: &str,
    ) -> Option<(Name, String)> {
        let mut table = self.unselected.lock();
        let mut pending = false;
        let mut unreadable = None;
        for (key, entry) in table
            .entries
            .iter_mut()
            .filter(|((of, _), entry)| of == repository && entry.is_on(cluster))
        {
            match &entry.state {
                None => {
                    pending = true;
                    entry.state = Some(UnselectedState::Unknown);
                    self.spawn_read(key.clone(), Arc::clone(&entry.unselected));
                }
                Some(UnselectedState::Unknown) => pending = true,
                Some(UnselectedState::Unreadable(why)) => {
                    unreadable = unreadable.or_else(|| Some((key.1.clone(), why.clone())));
                }
                Some(_) => {}
            }
        }
        unreadable.filter(|_| !pending)
    }

    /// Returns whether an unselected Application of a repository is being read on a cluster.
    pub(super) fn is_reading_unselected(&self, repository: &str, cluster: &str) -> bool {
        self.unselected
            .lock()
            .entries
            .iter()
            .any(|((of, _), entry)| {
                of == repository
                    && entry.is_on(cluster)
                    && entry.state == Some(UnselectedState::Unknown)
            })
    }

    fn spawn_read(self: &Arc<Self>, key: (String, Name), one: Arc<UnselectedApplication>) {
        let context = Arc::clone(self);
        self.tasks.spawn(async move {
            let state = match catch_panic(context.read_one(&one)).await {
                Ok(Ok(state)) => state,
                Ok(Err(why)) => UnselectedState::Unreadable(why),
                Err(panic) => UnselectedState::Unreadable(format!("a panic ({panic})")),
            };
            // A newer revision may have replaced the entry.
            if let Some(entry) = context.unselected.lock().entries.get_mut(&key)
                && Arc::ptr_eq(&entry.unselected, &one)
            {
                entry.state = Some(state);
            }
            one.cluster.state().wake_all();
            context.notify_status_changed();
        });
    }

    /// Registers the objects an Application declares, and returns whether they were applied.
    async fn read_one(&self, one: &UnselectedApplication) -> Result<UnselectedState, String> {
        let UnselectedApplication {
            application,
            cluster,
            repository,
            revision,
            render,
        } = one;
        let recorded = cluster
            .waiting_record(&application.name)
            .await
            .map_err(|error| error.to_string())?;
        if application.suspend {
            // A suspended Application keeps what it owns.
            let owned = recorded
                .into_iter()
                .flat_map(|recorded| recorded.inventory.entries.into_keys());
            cluster
                .state()
                .claim_keys(&application.name, revision, owned);
            return Ok(UnselectedState::Suspended);
        }
        let rendered = self
            .renderings
            .render(repository, application, render, None, || true, || false)
            .await
            .ok_or("the rendering was superseded")?
            .map_err(|failed| failed.failure.message.to_string())?;
        let FinishedRender::Rendered(rendered) = rendered else {
            return Err("there is no last rendering".to_owned());
        };
        let resources = cluster
            .client
            .resources()
            .await
            .map_err(|error| error.to_string())?;
        let application = application.clone();
        // Thousands of objects take a while to parse and hash.
        let name = application.name.clone();
        let kinds = ClusterKinds::new(&cluster.client, resources);
        let (keys, hash) = crate::io::blocking(move || {
            let (desired, _) = plan::desired_objects(&application, rendered.objects(), &kinds);
            let hash = plan::hash_all(&desired);
            (
                desired.into_iter().map(|one| one.key).collect::<Vec<_>>(),
                hash,
            )
        })
        .await;
        cluster.state().claim_keys(&name, revision, keys);
        let applied = recorded.is_some_and(|recorded| {
            recorded.inventory.rendered == Some(hash)
                && recorded
                    .history
                    .0
                    .first()
                    .is_some_and(|newest| newest.result == RolloutOutcome::Applied)
        });
        Ok(if applied {
            UnselectedState::Applied
        } else {
            UnselectedState::OutOfSync
        })
    }
}
