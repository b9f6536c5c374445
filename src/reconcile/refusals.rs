//! Applications that cannot be deployed to their cluster at all.

use super::{
    ApplicationState, ApplicationStatus, Message, Reason, Reconciler, RepositoryId, work::Work,
};
use crate::{
    core::{error::Classify as _, name::Name},
    events::{Event, EventFact, EventReason},
    objects::tenancy,
    spec::Application,
};
use std::collections::{BTreeMap, BTreeSet};

impl Reconciler {
    /// Returns why an Application cannot be deployed to its cluster at all.
    pub(super) fn refusal(&self, application: &Application) -> Option<(Reason, String)> {
        let cluster = &application.cluster;
        if let Some(why) = application.rights.cluster_refusal(cluster) {
            return Some((Reason::RepositoryNotAllowed, why.to_owned()));
        }
        if let Some(error) = self.unusable.get(cluster) {
            return Some((Reason::ClusterUnusable, error.to_string()));
        }
        if !self.clusters.contains_key(cluster) {
            let available = available_clusters(self.clusters());
            return Some((
                Reason::ClusterUnknown,
                format!("there is no cluster {cluster:?} in tagboat.yaml; {available}"),
            ));
        }
        let why = tenancy::unit_refusal(application)?;
        Some((Reason::TenantRefused, why))
    }

    /// Publishes the status of an Application that cannot be deployed, and logs it once.
    pub(super) fn refuse(
        &self,
        repository: &RepositoryId,
        revision: &str,
        application: &Application,
        reason: Reason,
        problem: &str,
    ) {
        let mut status = ApplicationStatus::new(
            application.name.clone(),
            &repository.name,
            &application.cluster,
        );
        status.set_state(ApplicationState::Failed, reason, true);
        status.revision = Some(revision.to_owned());
        let unusable = self.unusable.get(&application.cluster);
        status.problems = vec![Message {
            place: Some(application.place.to_string()),
            hint: unusable.and_then(|error| error.hint()),
            ..Message::application(format!("{}: {problem}", application.place))
        }];
        if !self.context.is_published(&status) {
            let problem = &status.problems[0];
            let event = Event::warning(EventReason::ApplicationRefused, problem.to_string())
                .repository(&status.repository)
                .application(&status.application)
                .cluster(&status.cluster)
                .revision(Some(revision))
                .hint(problem.hint.clone())
                .fact(EventFact::State, reason.to_string());
            self.context.events.record(event);
        }
        self.context.publish(&status);
        self.stop_following(repository, revision, application, &status);
    }

    /// Has the task of an Application that was accepted before keep what it has applied.
    fn stop_following(
        &self,
        repository: &RepositoryId,
        revision: &str,
        application: &Application,
        refused: &ApplicationStatus,
    ) {
        let Some(cluster) = self.clusters.get(&application.cluster) else {
            return;
        };
        let cluster_name = &application.cluster;
        let key = (
            cluster_name.clone(),
            application.name.clone(),
            repository.name.clone(),
        );
        let is_running = self
            .handles()
            .get(&key)
            .is_some_and(|handle| !handle.mailbox.is_closed());
        if let Some(message) = refused.problems.first().filter(|_| is_running) {
            let work = Work::Unreadable {
                revision: revision.to_owned(),
                reason: refused.reason,
                message: message.clone(),
            };
            self.hand_over(cluster, repository, &application.name, work);
        }
    }

    /// Removes the statuses of a repository's Applications that have no task and are not `refused`
    /// at this revision.
    pub(super) fn forget_refusals(
        &self,
        repository: &str,
        refused: &BTreeMap<String, BTreeSet<Name>>,
    ) {
        let handles = self.handles();
        let running: BTreeSet<(&str, &Name)> = handles
            .iter()
            .filter(|(_, handle)| handle.repository.name == repository)
            .filter(|(_, handle)| !handle.mailbox.is_closed())
            .map(|((cluster, name, _), _)| (cluster.as_str(), name))
            .collect();
        self.context.forget(|status| {
            let is_refused = refused
                .get(&status.cluster)
                .is_some_and(|names| names.contains(&status.application));
            status.repository == repository
                && !is_refused
                && !running.contains(&(status.cluster.as_str(), &status.application))
        });
    }
}

fn available_clusters<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() {
        "it names no clusters".to_owned()
    } else {
        format!("available: {}", names.join(", "))
    }
}
