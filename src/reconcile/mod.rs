//! Pass B, from a Git revision to the cluster.
//!
//! ```text
//! revision ─▶ render ─▶ job ─▶ runner (one an Application) ─▶ plan ─▶ cluster
//!                                 ▲                                     │ watches
//!                                hub (one a cluster) ◀──────────────────┘
//! ```
//!
//! [`Reconciler::follow`] takes a revision; everything after that is a task that sleeps until
//! something concerns it. It makes no difference who wrote the commit. Clusters share nothing, so
//! that one that is down delays no other.

mod queries;
mod dependency_cycles;
mod diff;
mod cluster_state;
mod render_queue;
mod repository;
mod unselected;
mod application;
mod context;
mod mailbox;
mod status;
#[cfg(test)]
mod tests;
mod permits;

pub use cluster_state::api_resources::ClusterKinds;
pub use cluster_state::observed::ForeignChange;
pub use diff::{
    ApplyRefusal, ChangeKind, DryRunResult, ObjectDiff, diff_objects, dry_run, unified_diff,
};
pub use queries::{ApplicationRequest, RecordedApplication};
pub use render_queue::{RenderFailure, RenderFn, from_git};
pub use repository::RepositoryId;
pub use status::{ApplicationState, ApplicationStatus, DriftedObject, Message, PlannedAction};

use crate::{
    core::{error::Classify as _, name::Name},
    io::cluster::{ClusterClient, ClusterError},
    spec::{Application, Declarations, settings},
};
use application::{AppReconciler, Work};
use cluster_state::ClusterHandle;
use context::{ApplicationHandle, ApplicationPlace, ReconcileContext};
use dependency_cycles::dependency_cycles;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;
use unselected::UnnamedApplication;

/// What the reconciler may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReconcileMode {
    /// Apply.
    Act,
    /// Say what would be done.
    Plan,
}

/// All clusters, and the Applications on them.
pub struct Reconciler {
    shared: Arc<ReconcileContext>,
    hubs: BTreeMap<String, Arc<ClusterHandle>>,
    /// Clusters that there is no way into, and why.
    closed: BTreeMap<String, ClusterError>,
    /// The repositories that may deploy to each cluster; all if none is named.
    allowed: BTreeMap<String, Vec<String>>,
    runners: Mutex<HashMap<ApplicationPlace, ApplicationHandle>>,
}

impl Reconciler {
    /// Reads the ways into all clusters. Nothing is sent. One without a way stops no other: its
    /// Applications say so.
    ///
    /// # Errors
    /// If there is a way into none of them: what is wrong with the first kubeconfig.
    pub async fn open(
        clusters: &[settings::ClusterSettings],
        resolve: impl Fn(&Path) -> PathBuf,
        mode: ReconcileMode,
        stop: CancellationToken,
    ) -> Result<Self, ClusterError> {
        let tasks = TaskTracker::new();
        let (mut hubs, mut closed, mut allowed) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        for declared in clusters {
            let cluster = match ClusterClient::open(declared, &resolve).await {
                Ok(cluster) => cluster,
                Err(error) => {
                    closed.push((declared.name.clone(), error));
                    continue;
                }
            };
            hubs.insert(
                declared.name.clone(),
                ClusterHandle::new(cluster, declared.concurrency, tasks.clone(), stop.clone()),
            );
            allowed.insert(declared.name.clone(), declared.repositories.clone());
        }
        if hubs.is_empty() && !closed.is_empty() {
            return Err(closed.swap_remove(0).1);
        }
        for (cluster, error) in &closed {
            warn!(cluster, hint = error.hint(), "{error}");
        }
        let closed = closed.into_iter().collect();
        Ok(Self {
            shared: Arc::new(ReconcileContext::new(mode, stop, tasks)),
            hubs,
            closed,
            allowed,
            runners: Mutex::default(),
        })
    }

    /// Says which repositories will be followed: before each of them has been read, what it may
    /// want is not deleted.
    pub fn expect_repositories<'r>(&self, repositories: impl IntoIterator<Item = &'r str>) {
        for repository in repositories {
            for (cluster, hub) in &self.hubs {
                let may = self.allowed.get(cluster).is_some_and(|allowed| {
                    allowed.is_empty() || allowed.iter().any(|name| name == repository)
                });
                if may {
                    hub.state().expect(repository);
                }
            }
        }
    }

    /// Takes a revision of a repository: what it declares is brought about from now on. What cannot
    /// be, because there is no such cluster or the repository may not deploy to it, is told in the
    /// statuses.
    ///
    /// `only` names the Applications that are wanted, for commands; nothing else is touched then.
    /// One that is not declared is taken for one that was.
    pub fn reconcile(
        self: &Arc<Self>,
        repository: &RepositoryId,
        revision: &str,
        declared: &Declarations,
        only: Option<&BTreeSet<Name>>,
        render: &Arc<RenderFn>,
    ) {
        let circles = dependency_cycles(declared);
        let mut by_cluster: BTreeMap<&str, Vec<&Application>> = self
            .hubs
            .keys()
            .map(|name| (name.as_str(), Vec::new()))
            .collect();
        let mut refused = BTreeSet::new();
        for application in declared.applications.values() {
            let closed = self.closed.get(&application.cluster);
            let problem = match self.allowed.get(&application.cluster) {
                _ if closed.is_some() => closed.map(ToString::to_string),
                None => Some(format!(
                    "there is no cluster {:?} in tagboat.yaml{}",
                    application.cluster,
                    known(self.clusters())
                )),
                Some(allowed) if !allowed.is_empty() && !allowed.contains(&repository.name) => {
                    Some(format!(
                        "repository {} may not deploy to cluster {}",
                        repository.name, application.cluster
                    ))
                }
                Some(_) => None,
            };
            match problem {
                Some(problem) => {
                    let mut status = ApplicationStatus::new(
                        application.name.clone(),
                        &repository.name,
                        &application.cluster,
                    );
                    (status.state, status.observed, status.revision) =
                        (ApplicationState::Failed, true, Some(revision.to_owned()));
                    let hint = closed.and_then(|error| error.hint());
                    let place = Some(application.place.to_string());
                    status.problems = vec![Message {
                        place,
                        hint,
                        ..Message::application(format!("{}: {problem}", application.place))
                    }];
                    if !self.shared.tells(&status) {
                        let (cluster, hint) = (&status.cluster, &status.problems[0].hint);
                        warn!(application = %status.application, cluster, revision = application::short(revision), hint, "{}", status.problems[0]);
                    }
                    self.shared.publish(&status);
                    refused.insert((application.cluster.clone(), application.name.clone()));
                }
                None => by_cluster
                    .entry(application.cluster.as_str())
                    .or_default()
                    .push(application),
            }
        }
        self.forget(&repository.name, &refused);
        if let Some(only) = only {
            let unnamed = by_cluster.iter().flat_map(|(cluster, applications)| {
                applications.iter().map(move |one| (*cluster, *one))
            });
            let unnamed =
                unnamed
                    .filter(|(_, one)| !only.contains(&one.name))
                    .map(|(cluster, one)| UnnamedApplication {
                        application: one.clone(),
                        hub: Arc::clone(&self.hubs[cluster]),
                        revision: revision.to_owned(),
                        render: Arc::clone(render),
                    });
            self.shared.rest.leave(&repository.name, unnamed);
        }
        for (cluster, applications) in by_cluster {
            let hub = &self.hubs[cluster];
            let names: BTreeSet<Name> = applications
                .iter()
                .map(|application| application.name.clone())
                .collect();
            hub.state()
                .declare(&repository.name, revision, names.clone(), BTreeSet::new());
            let desired = applications
                .into_iter()
                .filter(|application| only.is_none_or(|only| only.contains(&application.name)));
            for application in desired {
                if let Some(circle) = circles.get(&application.name) {
                    let job = Work::Broken {
                        revision: revision.to_owned(),
                        row: Message::application(circle.clone()),
                    };
                    self.hand(hub, repository, &application.name, job);
                } else if application.suspend {
                    self.hand(
                        hub,
                        repository,
                        &application.name,
                        Work::Suspend {
                            revision: revision.to_owned(),
                        },
                    );
                } else {
                    self.render(
                        hub,
                        repository,
                        application.clone(),
                        revision.to_owned(),
                        Arc::clone(render),
                    );
                }
            }
            let gone = |only: &BTreeSet<Name>| {
                only.iter()
                    .any(|name| !declared.applications.contains_key(name))
            };
            match only {
                _ if only.is_none_or(gone) => self.retire(
                    cluster,
                    repository,
                    revision,
                    names,
                    !declared.has_errors(),
                    only,
                ),
                _ => self.shared.take(cluster, &repository.name, revision),
            }
        }
    }

    /// Forgets what was said of a repository's Applications that have no task and are not `refused`
    /// now.
    fn forget(&self, repository: &str, refused: &BTreeSet<(String, Name)>) {
        let runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = runners
            .iter()
            .filter(|(_, handle)| handle.repository.name == repository && !handle.slot.is_closed());
        let kept: BTreeSet<(&str, &Name)> = ours.map(|(key, _)| (key.0.as_str(), &key.1)).collect();
        self.shared.forget(|status| {
            let place = (status.cluster.clone(), status.application.clone());
            status.repository == repository
                && !refused.contains(&place)
                && !kept.contains(&(status.cluster.as_str(), &status.application))
        });
    }

    /// The task of an Application, begun if there is none.
    fn runner(
        &self,
        hub: &Arc<ClusterHandle>,
        repository: &RepositoryId,
        name: &Name,
    ) -> ApplicationHandle {
        let key = (
            hub.cluster.name().to_owned(),
            name.clone(),
            repository.name.clone(),
        );
        let mut runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = runners.get(&key).filter(|handle| !handle.slot.is_closed()) {
            return handle.clone();
        }
        let handle = ApplicationHandle::new(repository);
        let runner = AppReconciler::new(
            name.clone(),
            Arc::clone(hub),
            Arc::clone(&self.shared),
            handle.clone(),
        );
        self.shared.publish(&runner.status);
        self.shared.tasks.spawn(runner.run());
        runners.insert(key, handle.clone());
        handle
    }

    /// Gives a job that is not rendered to the task of an Application: to another one, where that
    /// has just come to its end.
    fn hand(&self, hub: &Arc<ClusterHandle>, repository: &RepositoryId, name: &Name, job: Work) {
        let mut left = Some(job);
        while let Some(job) = left {
            let handle = self.runner(hub, repository, name);
            handle.forgets();
            left = handle.slot.put(job).err();
        }
    }

    /// Finds what the records of a cluster, or tasks, have of a repository that it no longer
    /// declares.
    fn retire(
        self: &Arc<Self>,
        cluster: &str,
        repository: &RepositoryId,
        revision: &str,
        names: BTreeSet<Name>,
        complete: bool,
        only: Option<&BTreeSet<Name>>,
    ) {
        let only = only.cloned();
        let (this, hub) = (Arc::clone(self), Arc::clone(&self.hubs[cluster]));
        let (repository, revision) = (repository.clone(), revision.to_owned());
        self.shared.tasks.spawn(async move {
            let mut times = 0;
            let mut gone = loop {
                match hub.recorded(&repository).await {
                    Ok(recorded) => break recorded,
                    Err(error) => {
                        if times == 0 {
                            warn!(cluster = hub.cluster.name(), hint = error.hint(), "{error}");
                        }
                        times += 1;
                        if times >= application::ENOUGH {
                            // Whoever waits for an end learns it from the Applications; what is
                            // still unknown is found later.
                            this.shared.take(hub.cluster.name(), &repository.name, &revision);
                        }
                        tokio::select! {
                            () = this.shared.stop.cancelled() => return,
                            () = tokio::time::sleep(application::back_off(times)) => {}
                        }
                    }
                }
            };
            gone.extend(this.running(hub.cluster.name(), &repository.name));
            gone.retain(|name| !names.contains(name));
            if !hub.state().is_at(&repository.name, &revision) {
                return;
            }
            if gone.is_empty() {
                this.shared.take(hub.cluster.name(), &repository.name, &revision);
                return;
            }
            let doubt = doubt(&repository.name, gone.len(), names.len());
            gone.retain(|name| only.as_ref().is_none_or(|only| only.contains(name)));
            let retired = if complete { gone.clone() } else { BTreeSet::new() };
            hub.state().declare(&repository.name, &revision, names, retired);
            for name in gone {
                let job = match complete {
                    true => Work::Gone { revision: revision.clone(), doubt: doubt.clone() },
                    false => Work::Broken {
                        revision: revision.clone(),
                        row: Message {
                            hint: Some("`tagboat check` names the declarations that cannot be read.".to_owned()),
                            ..Message::application("it is not declared, or its declaration cannot be read; what it has applied stays")
                        },
                    },
                };
                this.hand(&hub, &repository, &name, job);
            }
            this.shared.take(hub.cluster.name(), &repository.name, &revision);
        });
    }

    /// The Applications of a repository that have a task on a cluster.
    fn running(&self, cluster: &str, repository: &str) -> Vec<Name> {
        let runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
        let here = runners
            .iter()
            .filter(|((at, _, of), _)| at == cluster && of == repository);
        here.filter(|(_, handle)| !handle.slot.is_closed())
            .map(|((_, name, _), _)| name.clone())
            .collect()
    }

    /// Waits until every task has come to a safe point, after the stop.
    pub async fn shut_down(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

/// Why what a repository no longer declares is not deleted without a yes: most of it at once is
/// more often a mistake (a folder that was moved, a branch that was emptied) than meant.
fn doubt(repository: &str, gone: usize, kept: usize) -> Option<String> {
    let all = gone + kept;
    let counted = if all == 1 {
        "1 Application".to_owned()
    } else {
        format!("{all} Applications")
    };
    match kept {
        0 => Some(format!(
            "repository {repository} declares none of the {counted} that it had on this cluster"
        )),
        _ if gone > kept => Some(format!(
            "repository {repository} no longer declares {gone} of the {counted} that it had on this cluster"
        )),
        _ => None,
    }
}

fn known<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() {
        "; it names no clusters".to_owned()
    } else {
        format!("; known are {}", names.join(", "))
    }
}
