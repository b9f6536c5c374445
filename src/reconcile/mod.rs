//! Pass B, from a Git revision to the cluster.
//!
//! ```text
//! revision ─▶ render ─▶ job ─▶ runner (one an Application) ─▶ plan ─▶ cluster
//!                                 ▲                                     │ watches
//!                                hub (one a cluster) ◀──────────────────┘
//! ```
//!
//! [`Reconciler::follow`] takes a revision; everything after that is a task that sleeps until something concerns it. It
//! makes no difference who wrote the commit. Clusters share nothing, so that one that is down delays no other.

mod circles;
mod claimants;
mod difference;
mod hub;
mod looking;
mod reading;
mod recording;
mod repository;
mod runner;
mod seen;
mod sending;
mod shared;
mod slot;
mod status;
#[cfg(test)]
mod tests;
mod turn;
mod waiting;

pub use difference::{Change, Difference, Tried, Untried, differences, dry_run, unified};
pub use hub::Served;
pub use repository::Repository;
pub use seen::Changed;
pub use status::{Drifted, Planned, Row, State, Status};

use crate::{
    cluster::{Cluster, ClusterError},
    declare::{Application, Declarations, process},
    error::Fault as _,
    git::{Mirror, ObjectId},
    name::Name,
    plan::{History, Inventory, text},
    render::{Rendered, Renderer, Source},
};
use circles::circles;
use hub::Hub;
use runner::{Job, Read, Runner};
use shared::{Handle, Place, Shared};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

/// What the reconciler may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Apply.
    Act,
    /// Say what would be done.
    Plan,
}

/// What people may ask of an Application.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Asked {
    /// Try again now what waits after trouble.
    Now,
    /// Delete what this revision wants deleted.
    ConfirmPrune(String),
}

/// Renders an Application at a revision; blocks. What cannot be rendered is told with its file and object.
pub type Render = dyn Fn(&Application) -> Result<Arc<Rendered>, Row> + Send + Sync;

/// Renders from a commit of a mirror.
pub fn from_git(renderer: Arc<Renderer>, mirror: Arc<Mirror>, commit: ObjectId) -> Arc<Render> {
    Arc::new(move |application| {
        renderer
            .render(&mirror, commit, &Source::from(application))
            .map_err(|error| Row { hint: error.hint(), ..Row::whole(error.to_string()) })
    })
}

/// All clusters, and the Applications on them.
pub struct Reconciler {
    shared: Arc<Shared>,
    hubs: BTreeMap<String, Arc<Hub>>,
    /// The repositories that may deploy to each cluster; all if none is named.
    allowed: BTreeMap<String, Vec<String>>,
    runners: Mutex<HashMap<Place, Handle>>,
}

/// What lies in a cluster about an Application.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// What it owns.
    pub inventory: Inventory,
    /// What became of its last revisions.
    pub history: History,
}

impl Reconciler {
    /// Reads the ways into all clusters. Nothing is sent.
    ///
    /// # Errors
    /// A kubeconfig that cannot be used; every cluster's, in their order.
    pub async fn open(
        clusters: &[process::Cluster],
        resolve: impl Fn(&Path) -> PathBuf,
        mode: Mode,
        stop: CancellationToken,
    ) -> Result<Self, ClusterError> {
        let tasks = TaskTracker::new();
        let (mut hubs, mut allowed) = (BTreeMap::new(), BTreeMap::new());
        for declared in clusters {
            let cluster = Cluster::open(declared, &resolve).await?;
            hubs.insert(declared.name.clone(), Hub::new(cluster, declared.concurrency, tasks.clone(), stop.clone()));
            allowed.insert(declared.name.clone(), declared.repositories.clone());
        }
        Ok(Self { shared: Arc::new(Shared::new(mode, stop, tasks)), hubs, allowed, runners: Mutex::default() })
    }

    /// Says which repositories will be followed: before each of them has been read, what it may want is not deleted.
    pub fn expect<'r>(&self, repositories: impl IntoIterator<Item = &'r str>) {
        for repository in repositories {
            for (cluster, hub) in &self.hubs {
                let may =
                    self.allowed.get(cluster).is_some_and(|allowed| allowed.is_empty() || allowed.iter().any(|name| name == repository));
                if may {
                    hub.state().expect(repository);
                }
            }
        }
    }

    /// Takes a revision of a repository: what it declares is brought about from now on. What cannot be, because there is no
    /// such cluster or the repository may not deploy to it, is told in the statuses.
    ///
    /// `only` names the Applications that are wanted, for commands; nothing else is touched then. One that is not declared is
    /// taken for one that was.
    pub fn follow(
        self: &Arc<Self>,
        repository: &Repository,
        revision: &str,
        declared: &Declarations,
        only: Option<&BTreeSet<Name>>,
        render: &Arc<Render>,
    ) {
        let circles = circles(declared);
        let mut by_cluster: BTreeMap<&str, Vec<&Application>> = self.hubs.keys().map(|name| (name.as_str(), Vec::new())).collect();
        for application in declared.applications.values() {
            let problem = match self.allowed.get(&application.cluster) {
                None => Some(format!("there is no cluster {:?} in tagboat.yaml{}", application.cluster, known(self.hubs.keys()))),
                Some(allowed) if !allowed.is_empty() && !allowed.contains(&repository.name) => {
                    Some(format!("repository {} may not deploy to cluster {}", repository.name, application.cluster))
                }
                Some(_) => None,
            };
            match problem {
                Some(problem) => {
                    let mut status = Status::new(application.name.clone(), &repository.name, &application.cluster);
                    (status.state, status.settled, status.revision) = (State::Failed, true, Some(revision.to_owned()));
                    status.problems =
                        vec![Row { place: Some(application.place.to_string()), ..Row::whole(format!("{}: {problem}", application.place)) }];
                    self.shared.publish(&status);
                }
                None => by_cluster.entry(application.cluster.as_str()).or_default().push(application),
            }
        }
        for (cluster, applications) in by_cluster {
            let hub = &self.hubs[cluster];
            let names: BTreeSet<Name> = applications.iter().map(|application| application.name.clone()).collect();
            hub.state().declare(&repository.name, revision, names.clone(), BTreeSet::new());
            let wanted = applications.into_iter().filter(|application| only.is_none_or(|only| only.contains(&application.name)));
            for application in wanted {
                let handle = self.runner(hub, repository, &application.name);
                if let Some(circle) = circles.get(&application.name) {
                    handle.turn.fetch_add(1, Ordering::SeqCst);
                    handle.slot.put(Job::Broken { revision: revision.to_owned(), row: Row::whole(circle.clone()) });
                } else if application.suspend {
                    handle.turn.fetch_add(1, Ordering::SeqCst);
                    *handle.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    handle.slot.put(Job::Suspend { revision: revision.to_owned() });
                } else {
                    self.render(handle, application.clone(), revision.to_owned(), Arc::clone(render));
                }
            }
            let gone = |only: &BTreeSet<Name>| only.iter().any(|name| !declared.applications.contains_key(name));
            match only {
                _ if only.is_none_or(gone) => self.retire(cluster, repository, revision, names, !declared.has_errors(), only),
                _ => self.shared.take(cluster, &repository.name, revision),
            }
        }
    }

    /// Renders on a thread of its own, and hands over what comes of it, unless a later revision has been read meanwhile.
    fn render(&self, handle: Handle, application: Application, revision: String, render: Arc<Render>) {
        let shared = Arc::clone(&self.shared);
        let turn = handle.turn.fetch_add(1, Ordering::SeqCst) + 1;
        self.shared.tasks.spawn(async move {
            let Ok(_permit) = shared.renderings.acquire().await else { return };
            if handle.turn.load(Ordering::SeqCst) != turn || shared.stop.is_cancelled() {
                return;
            }
            let declared = application.clone();
            let rendered = tokio::task::spawn_blocking(move || render(&declared)).await;
            let mut last = handle.last.lock().unwrap_or_else(PoisonError::into_inner);
            if handle.turn.load(Ordering::SeqCst) != turn {
                return;
            }
            let (job, now) = match rendered {
                Ok(Ok(rendered)) => {
                    let now = Some((application.clone(), rendered.hash.clone()));
                    match *last == now {
                        true => (Job::Same { revision }, now),
                        false => (Job::Apply(Box::new(Read { application, revision, rendered })), now),
                    }
                }
                Ok(Err(row)) => (Job::Broken { revision, row }, None),
                Err(panic) => (Job::Broken { revision, row: Row::whole(format!("rendering ended unasked: {panic}")) }, None),
            };
            *last = now;
            handle.slot.merge(|waiting| job.after(waiting));
        });
    }

    /// The task of an Application, begun if there is none.
    fn runner(&self, hub: &Arc<Hub>, repository: &Repository, name: &Name) -> Handle {
        let key = (hub.cluster.name().to_owned(), name.clone(), repository.name.clone());
        let mut runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = runners.get(&key).filter(|handle| !handle.ended.load(Ordering::SeqCst)) {
            return handle.clone();
        }
        let handle = Handle::new(repository);
        let runner = Runner::new(name.clone(), Arc::clone(hub), Arc::clone(&self.shared), handle.clone());
        self.shared.publish(&runner.status);
        self.shared.tasks.spawn(runner.run());
        runners.insert(key, handle.clone());
        handle
    }

    /// Finds what the records of a cluster, or tasks, have of a repository that it no longer declares.
    fn retire(
        self: &Arc<Self>,
        cluster: &str,
        repository: &Repository,
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
                        if times >= runner::ENOUGH {
                            // Whoever waits for an end learns it from the Applications; what is still unknown is found later.
                            this.shared.take(hub.cluster.name(), &repository.name, &revision);
                        }
                        tokio::select! {
                            () = this.shared.stop.cancelled() => return,
                            () = tokio::time::sleep(runner::back_off(times)) => {}
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
                let handle = this.runner(&hub, &repository, &name);
                handle.turn.fetch_add(1, Ordering::SeqCst);
                *handle.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
                handle.slot.put(match complete {
                    true => Job::Gone { revision: revision.clone(), doubt: doubt.clone() },
                    false => Job::Broken {
                        revision: revision.clone(),
                        row: Row {
                            hint: Some("`tagboat check` names the declarations that cannot be read.".to_owned()),
                            ..Row::whole("it is not declared, or its declaration cannot be read; what it has applied stays")
                        },
                    },
                });
            }
            this.shared.take(hub.cluster.name(), &repository.name, &revision);
        });
    }

    /// The Applications of a repository that have a task on a cluster.
    fn running(&self, cluster: &str, repository: &str) -> Vec<Name> {
        let runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
        let here = runners.iter().filter(|((at, _, of), _)| at == cluster && of == repository);
        here.filter(|(_, handle)| !handle.ended.load(Ordering::SeqCst)).map(|((_, name, _), _)| name.clone()).collect()
    }

    /// Whether the Applications of a repository at a revision are known on every cluster: those it declares, and those it no
    /// longer does. Statuses say nothing of the others before that.
    pub fn has_taken(&self, repository: &str, revision: &str) -> bool {
        self.hubs.keys().all(|cluster| self.shared.has_taken(cluster, repository, revision))
    }

    /// How everything is, by cluster and name.
    pub fn statuses(&self) -> Vec<Status> {
        self.shared.statuses.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Asks something of an Application, on whichever clusters it is; whether there is one.
    pub fn ask(&self, name: &Name, asked: &Asked) -> bool {
        let runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
        let mut any = false;
        for (key, handle) in runners.iter().filter(|((_, other, _), _)| other == name) {
            any = true;
            self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default().push(asked.clone());
            handle.inbox.notify_one();
        }
        any
    }

    /// Waits until Applications have come to an end at a revision, all of them if none is named; gives whether they have
    /// before the time was over. `tell` hears of turns, several at once where many turn.
    pub async fn settled(
        &self,
        repository: &str,
        revision: &str,
        only: Option<&BTreeSet<Name>>,
        patience: Duration,
        mut tell: impl FnMut(&[Status]),
    ) -> bool {
        /// A thousand Applications turn thousands of times within seconds; nobody reads faster than this.
        const TOLD: Duration = Duration::from_millis(50);
        let mut turned = self.shared.turned.subscribe();
        let ours = |status: &&Status| status.repository == repository && only.is_none_or(|only| only.contains(&status.application));
        let end = tokio::time::Instant::now() + patience;
        let mut due = tokio::time::Instant::now();
        loop {
            turned.mark_unchanged();
            let now = tokio::time::Instant::now();
            let taken = self.has_taken(repository, revision);
            let (done, told) = {
                let statuses = self.shared.statuses.lock().unwrap_or_else(PoisonError::into_inner);
                let done =
                    taken && statuses.values().filter(ours).all(|status| status.settled && status.revision.as_deref() == Some(revision));
                let told = (done || now >= due).then(|| statuses.values().filter(ours).cloned().collect::<Vec<_>>());
                (done, told)
            };
            let late = told.is_none();
            if let Some(statuses) = told {
                tell(&statuses);
                due = now + TOLD;
            }
            if done {
                return true;
            }
            tokio::select! {
                _ = turned.changed() => {}
                () = tokio::time::sleep_until(due), if late => {}
                () = tokio::time::sleep_until(end) => return false,
                () = self.shared.stop.cancelled() => return false,
            }
        }
    }

    /// Tells of each turn of some status.
    pub fn turns(&self) -> watch::Receiver<u64> {
        self.shared.turned.subscribe()
    }

    /// What lies in the records of a cluster, or of all.
    ///
    /// # Errors
    /// If a cluster cannot be asked.
    pub async fn recorded(&self, cluster: Option<&str>) -> Result<BTreeMap<(String, Name), Recorded>, ClusterError> {
        let mut all = BTreeMap::new();
        for (name, hub) in self.hubs.iter().filter(|(name, _)| cluster.is_none_or(|wanted| wanted == *name)) {
            for record in hub.cluster.records().await? {
                let text = |of: &str| record.data.get(of).map(String::as_str).unwrap_or_default();
                let inventory = Inventory::parse(text(text::INVENTORY)).unwrap_or_default();
                let history = History::parse(text(text::HISTORY)).unwrap_or_default();
                all.insert((name.clone(), record.application.clone()), Recorded { inventory, history });
            }
        }
        Ok(all)
    }

    /// What lies, in each cluster, in the place of an Application's record without being one.
    ///
    /// # Errors
    /// If a cluster cannot be asked.
    pub async fn in_place_of_record(&self, name: &Name) -> Result<Vec<ClusterError>, ClusterError> {
        let mut all = Vec::new();
        for hub in self.hubs.values() {
            all.extend(hub.cluster.in_place_of_record(name).await?);
        }
        Ok(all)
    }

    /// A cluster by name.
    pub fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.hubs.get(name).map(|hub| &hub.cluster)
    }

    /// Waits until every task has come to a safe point, after the stop.
    pub async fn end(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

/// Why what a repository no longer declares is not deleted without a yes: most of it at once is more often a mistake (a
/// folder that was moved, a branch that was emptied) than meant.
fn doubt(repository: &str, gone: usize, kept: usize) -> Option<String> {
    let all = gone + kept;
    let counted = if all == 1 { "1 Application".to_owned() } else { format!("{all} Applications") };
    match kept {
        0 => Some(format!("repository {repository} declares none of the {counted} that it had on this cluster")),
        _ if gone > kept => Some(format!("repository {repository} no longer declares {gone} of the {counted} that it had on this cluster")),
        _ => None,
    }
}

fn known<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() { "; it names no clusters".to_owned() } else { format!("; known are {}", names.join(", ")) }
}
