//! The reconcile pass: from a Git revision to the cluster.
//!
//! ```text
//! revision ─▶ render ─▶ work ─▶ AppReconciler (one a unit) ─▶ plan ─▶ cluster
//!                                   ▲                                   │ watches
//!                            ClusterState (one a cluster) ◀─────────────┘
//! ```
//!
//! [`Reconciler::reconcile`] accepts a revision. Everything after that runs in tasks that sleep
//! until an event concerns them. The author of the commit makes no difference. Clusters share no
//! state, so that an unreachable one delays no other.
//!
//! Belongs here: when an action is taken, and what is reported about it. Does not belong here:
//! which action an object needs (`objects::plan`), and requests to an API server (`io::cluster`).

mod queries;
mod carry_over;
mod dependency_cycles;
mod diff;
mod cluster_state;
mod fair_slots;
mod render_queue;
mod render_retry;
mod render_slots;
mod render_stage;
mod render_timeouts;
mod repository;
mod unselected;
mod unselected_table;
mod application;
mod autoscalers;
mod blocking;
mod context;
mod mailbox;
mod options;
mod reason;
mod refusals;
mod removal;
mod status;
#[cfg(test)]
mod tests;
mod permits;
mod work;

pub use cluster_state::api_resources::ClusterKinds;
pub use cluster_state::observed::ForeignChange;
pub use diff::{
    ApplyRefusal, ChangeKind, ClusterReads, DryRun, DryRunResult, ForeignOwners, ObjectDiff,
    declared_objects, diff_objects, unified_diff,
};
pub use queries::{ApplicationRequest, PROGRESS_INTERVAL, RecordedApplication};
pub use reason::Reason;
pub use render_stage::{
    GitRevision, RenderFailure, RenderFn, RenderProgram, RenderStage, RevisionRenderer,
    SHORT_RETRY, TIMEOUT_RETRY, from_git,
};
pub use repository::RepositoryId;
pub use status::{ApplicationState, ApplicationStatus, DriftedObject, Message, PlannedAction};

use crate::{
    core::{error::Classify as _, name::Name},
    events::{Event, EventReason, Recorder},
    io::cluster::{ClusterClient, ClusterError},
    spec::{Application, Declarations, rights::RepositoryRights, settings},
};
use application::AppReconciler;
use cluster_state::{ClusterHandle, DeclaredNames};
use context::{ApplicationHandle, ApplicationKey, ReconcileContext};
use dependency_cycles::dependency_cycles;
use removal::RemovalSearch;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use unselected_table::UnselectedApplication;
use work::Work;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReconcileMode {
    Act,
    /// Only report the actions that would be taken.
    Plan,
}

/// All clusters, and the Applications on them.
pub struct Reconciler {
    context: Arc<ReconcileContext>,
    clusters: BTreeMap<String, Arc<ClusterHandle>>,
    /// Clusters whose kubeconfig cannot be used.
    unusable: BTreeMap<String, ClusterError>,
    handles: Mutex<HashMap<ApplicationKey, ApplicationHandle>>,
}

impl Reconciler {
    /// Reads the kubeconfigs of all clusters, without sending a request.
    ///
    /// A cluster with an unusable kubeconfig stops no other: its Applications report the error.
    ///
    /// # Errors
    /// The error of the first kubeconfig, if none can be used.
    pub async fn open(
        clusters: &[settings::ClusterSettings],
        resolve: impl Fn(&Path) -> PathBuf,
        mode: ReconcileMode,
        events: &Recorder,
        stop: CancellationToken,
    ) -> Result<Self, ClusterError> {
        let tasks = TaskTracker::new();
        let mut usable = BTreeMap::new();
        let mut unusable = Vec::new();
        for declared in clusters {
            let client = match ClusterClient::open(declared, &resolve, events).await {
                Ok(client) => client,
                Err(error) => {
                    unusable.push((declared.name.clone(), error));
                    continue;
                }
            };
            usable.insert(
                declared.name.clone(),
                ClusterHandle::new(
                    client,
                    declared.concurrency,
                    declared.health.clone(),
                    tasks.clone(),
                    stop.clone(),
                ),
            );
        }
        if usable.is_empty() && !unusable.is_empty() {
            return Err(unusable.swap_remove(0).1);
        }
        for (cluster, error) in &unusable {
            let event = Event::warning(EventReason::ClusterUnreachable, error.to_string());
            events.record(event.cluster(cluster).hint(error.hint()));
        }
        Ok(Self {
            context: Arc::new(ReconcileContext::new(mode, events.clone(), stop, tasks)),
            clusters: usable,
            unusable: unusable.into_iter().collect(),
            handles: Mutex::default(),
        })
    }

    /// Announces the repositories that will be followed.
    ///
    /// Until each of them has been read, an object that it may declare is not deleted. A tenant
    /// takes no object over, so that nothing waits for it.
    pub fn expect_repositories<'r>(
        &self,
        repositories: impl IntoIterator<Item = (&'r str, &'r RepositoryRights)>,
    ) {
        for (repository, rights) in repositories {
            for (name, cluster) in &self.clusters {
                if rights.tenant.is_none() && rights.cluster_refusal(name).is_none() {
                    cluster.state().expect_repository(repository);
                }
            }
        }
    }

    /// Starts reconciling the Applications declared at a revision.
    ///
    /// An Application that cannot be deployed, because its cluster is unknown or its repository
    /// is not allowed there, reports that in its status.
    ///
    /// `only` selects Applications for a command; no other is touched. A selected Application
    /// that is not declared counts as removed from Git.
    pub fn reconcile(
        self: &Arc<Self>,
        repository: &RepositoryId,
        revision: &str,
        declared: &Declarations,
        only: Option<&BTreeSet<Name>>,
        render: &Arc<RenderFn>,
    ) {
        let cycles = dependency_cycles(declared);
        let AcceptedDeclarations {
            by_cluster,
            refused,
        } = self.accept_declarations(repository, revision, declared);
        if let Some(only) = only {
            self.leave_unselected(repository, revision, &by_cluster, only, render);
        }
        for (name, applications) in by_cluster {
            let cluster = &self.clusters[name];
            if declared.rights.cluster_refusal(name).is_some() {
                // Not even asked. What the repository has there stays as it is.
                self.context.accept(name, &repository.name, revision);
                continue;
            }
            cluster
                .state()
                .set_tenant(&repository.name, declared.rights.tenant.is_some());
            let accepted = applications
                .iter()
                .map(|application| application.name.clone())
                .collect();
            let names = DeclaredNames {
                accepted,
                refused: refused.get(name).cloned().unwrap_or_default(),
            };
            let selected: Vec<&Application> = applications
                .into_iter()
                .filter(|application| only.is_none_or(|only| only.contains(&application.name)))
                .collect();
            let deployed = selected
                .iter()
                .copied()
                .filter(|one| !one.suspend && !cycles.contains_key(&one.name));
            let carried = self.carry_over(cluster, repository, revision, deployed, &**render);
            cluster
                .state()
                .declare(&repository.name, revision, names.clone(), BTreeSet::new());
            for application in selected {
                if carried.contains(&application.name) {
                    continue;
                }
                let handle = self.handle(cluster, repository, &application.name);
                handle.set_removal_terms(application.into());
                let revision = revision.to_owned();
                if let Some(cycle) = cycles.get(&application.name) {
                    let work = Work::Unreadable {
                        revision,
                        reason: Reason::DependencyCycle,
                        message: Message::application(cycle.clone()),
                    };
                    self.hand_over(cluster, repository, &application.name, work);
                } else if application.suspend {
                    let work = Work::Suspend { revision };
                    self.hand_over(cluster, repository, &application.name, work);
                } else {
                    let render = Arc::clone(render);
                    self.render(cluster, repository, application.clone(), revision, render);
                }
            }
            let selects_removed = only.is_none_or(|only| {
                only.iter()
                    .any(|name| !declared.applications.contains_key(name))
            });
            if selects_removed {
                let search = RemovalSearch {
                    cluster: Arc::clone(cluster),
                    repository: repository.clone(),
                    revision: revision.to_owned(),
                    declared: names,
                    rights: Arc::clone(&declared.rights),
                    complete: !declared.has_errors(),
                    only: only.cloned(),
                };
                self.find_removed(search);
            } else {
                self.context.accept(name, &repository.name, revision);
            }
        }
    }

    /// Groups the declared Applications by cluster; refuses those that cannot be deployed.
    fn accept_declarations<'d>(
        &self,
        repository: &RepositoryId,
        revision: &str,
        declared: &'d Declarations,
    ) -> AcceptedDeclarations<'_, 'd> {
        let mut by_cluster: BTreeMap<&str, Vec<&Application>> = self
            .clusters
            .keys()
            .map(|name| (name.as_str(), Vec::new()))
            .collect();
        let mut refused: BTreeMap<String, BTreeSet<Name>> = BTreeMap::new();
        for application in declared.applications.values() {
            match (
                self.refusal(application),
                self.clusters.get_key_value(&application.cluster),
            ) {
                (None, Some((cluster, _))) => {
                    by_cluster.entry(cluster).or_default().push(application);
                }
                (refusal, _) => {
                    if let Some((reason, problem)) = refusal {
                        self.refuse(repository, revision, application, reason, &problem);
                    }
                    let cluster = application.cluster.clone();
                    let names = refused.entry(cluster).or_default();
                    names.insert(application.name.clone());
                }
            }
        }
        self.forget_refusals(&repository.name, &refused);
        AcceptedDeclarations {
            by_cluster,
            refused,
        }
    }

    /// Registers the Applications that a command has not selected.
    fn leave_unselected(
        &self,
        repository: &RepositoryId,
        revision: &str,
        by_cluster: &BTreeMap<&str, Vec<&Application>>,
        only: &BTreeSet<Name>,
        render: &Arc<RenderFn>,
    ) {
        let unselected = by_cluster.iter().flat_map(|(cluster, applications)| {
            applications
                .iter()
                .filter(|application| !only.contains(&application.name))
                .map(move |application| UnselectedApplication {
                    application: (*application).clone(),
                    cluster: Arc::clone(&self.clusters[*cluster]),
                    repository: repository.name.clone(),
                    revision: revision.to_owned(),
                    render: Arc::clone(render),
                })
        });
        self.context
            .unselected
            .replace(&repository.name, unselected);
    }

    fn handles(&self) -> MutexGuard<'_, HashMap<ApplicationKey, ApplicationHandle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the handle of an Application's task; starts one if none runs.
    fn handle(
        &self,
        cluster: &Arc<ClusterHandle>,
        repository: &RepositoryId,
        name: &Name,
    ) -> ApplicationHandle {
        let key = (
            cluster.client.name().to_owned(),
            name.clone(),
            repository.name.clone(),
        );
        let mut handles = self.handles();
        let mut handle = ApplicationHandle::new(repository);
        if let Some(last) = handles.get(&key) {
            if !last.mailbox.is_closed() {
                return last.clone();
            }
            handle = handle.after(last);
        }
        let reconciler = AppReconciler::new(
            name.clone(),
            Arc::clone(cluster),
            Arc::clone(&self.context),
            handle.clone(),
        );
        self.context.publish(&reconciler.status);
        self.context.tasks.spawn(reconciler.run());
        handles.insert(key, handle.clone());
        handle
    }

    /// Hands work without a rendering to an Application's task.
    ///
    /// The loop covers a race: a task may end between the look-up and the hand-over.
    fn hand_over(
        &self,
        cluster: &Arc<ClusterHandle>,
        repository: &RepositoryId,
        name: &Name,
        work: Work,
    ) {
        let mut pending = Some(work);
        while let Some(work) = pending {
            let handle = self.handle(cluster, repository, name);
            handle.supersede_rendering();
            pending = handle.mailbox.put(work).err();
        }
    }

    /// Waits until every task has reached a safe point, after the stop.
    pub async fn shut_down(&self) {
        self.context.tasks.close();
        self.context.tasks.wait().await;
    }
}

/// The Applications of a revision.
struct AcceptedDeclarations<'c, 'd> {
    /// Those that are deployed, by cluster.
    by_cluster: BTreeMap<&'c str, Vec<&'d Application>>,
    /// Those that are refused as a whole; they are not removed.
    refused: BTreeMap<String, BTreeSet<Name>>,
}
