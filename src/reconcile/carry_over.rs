//! Applications that a revision does not touch: only their revision moves.
//!
//! One at rest is not even woken. Its published status moves on here, and its task finds the
//! revision in its mailbox when something else wakes it.

use super::{
    Reconciler, RepositoryId,
    cluster_state::ClusterHandle,
    context::{ApplicationHandle, ApplicationKey, ReconcileContext},
    render_stage::RenderFn,
    work::Work,
};
use crate::{core::name::Name, spec::Application};
use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
};

impl Reconciler {
    /// Moves the Applications that a revision does not touch to it, and returns their names.
    pub(super) fn carry_over<'d>(
        &self,
        cluster: &ClusterHandle,
        repository: &RepositoryId,
        revision: &str,
        applications: impl Iterator<Item = &'d Application>,
        render: &RenderFn,
    ) -> HashSet<&'d Name> {
        let (mut carried, mut asleep) = (HashSet::new(), Vec::new());
        {
            let handles = self.handles();
            let mut state = cluster.state();
            for application in applications {
                let name = &application.name;
                let key: ApplicationKey = (
                    cluster.client.name().to_owned(),
                    name.clone(),
                    repository.name.clone(),
                );
                let handle = handles.get(&key);
                let carried_over = handle.and_then(|handle| {
                    let hash = handle.carry_over(application, revision, render)?;
                    Some((handle, hash))
                });
                let Some((handle, hash)) = carried_over else {
                    continue;
                };
                let work = Work::Same {
                    revision: revision.to_owned(),
                    hash,
                };
                let is_asleep = state.is_at_rest(name, &repository.name);
                let taken = if is_asleep {
                    handle.mailbox.merge_quietly(work, Work::after)
                } else {
                    handle.mailbox.merge(work, Work::after)
                };
                if taken.is_err() {
                    // The task has ended; another one renders the Application.
                    continue;
                }
                if is_asleep {
                    state.carry_over(name, revision);
                    asleep.push(key);
                }
                carried.insert(name);
            }
        }
        self.context.carry_over(&asleep, revision);
        carried
    }
}

impl ApplicationHandle {
    /// Moves the last rendering to a revision that renders the same, and returns its hash. What is
    /// still being rendered is dropped.
    fn carry_over(
        &self,
        application: &Application,
        revision: &str,
        render: &RenderFn,
    ) -> Option<Arc<str>> {
        let mut last = self.last_rendered();
        let last = last
            .as_mut()
            .filter(|last| last.application.declares_like(application))?;
        let inputs = last.inputs.as_ref()?;
        if !render.is_untouched(&last.revision, inputs) {
            return None;
        }
        if last.application.place != application.place {
            last.application.place = application.place.clone();
        }
        revision.clone_into(&mut last.revision);
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.render_retry.cancel();
        Some(Arc::clone(&last.hash))
    }
}

impl ReconcileContext {
    /// Publishes the statuses of Applications at another revision that changes nothing for them.
    fn carry_over(&self, applications: &[ApplicationKey], revision: &str) {
        let mut statuses = self.statuses();
        for key in applications {
            if let Some(status) = statuses.get_mut(key) {
                status.revision = Some(revision.to_owned());
            }
        }
        drop(statuses);
        if !applications.is_empty() {
            self.notify_status_changed();
        }
    }
}
