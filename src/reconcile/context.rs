//! State shared by the tasks of the reconciler, and the handle of one task.

use super::{
    ApplicationRequest, ReconcileMode, RepositoryId,
    mailbox::Mailbox,
    render_retry::RenderRetry,
    render_slots::RenderSlots,
    status::{ApplicationState, ApplicationStatus, Message},
    unselected_table::{UnselectedApplications, UnselectedState},
    work::Work,
};
use crate::{
    core::name::Name, events::Recorder, io::render::RenderInputs, objects::plan::RemovalTerms,
    spec::Application,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Cluster, name, and declaring repository of an Application.
pub(crate) type ApplicationKey = (String, Name, String);

pub(crate) struct ReconcileContext {
    pub mode: ReconcileMode,
    pub events: Recorder,
    statuses: Mutex<BTreeMap<ApplicationKey, ApplicationStatus>>,
    /// Counts changes of any status.
    pub status_changed: watch::Sender<u64>,
    /// Counts the tasks that have lost their work, and ask for it.
    pub(super) work_lost: watch::Sender<u64>,
    requests: Mutex<HashMap<ApplicationKey, Vec<ApplicationRequest>>>,
    /// Passes of all tasks.
    pub(super) passes: AtomicU64,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    pub renderings: RenderSlots,
    pub unselected: UnselectedApplications,
    /// The accepted revision, by cluster and repository.
    accepted: Mutex<HashMap<(String, String), String>>,
}

/// Dependencies that are not ready.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnreadyDependencies {
    pub messages: Vec<Message>,
    /// Whether waiting may help.
    pub transient: bool,
}

impl ReconcileContext {
    pub(super) fn new(
        mode: ReconcileMode,
        events: Recorder,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            mode,
            events,
            statuses: Mutex::default(),
            status_changed: watch::Sender::new(0),
            work_lost: watch::Sender::new(0),
            requests: Mutex::default(),
            passes: AtomicU64::default(),
            stop,
            tasks,
            renderings: RenderSlots::default(),
            unselected: UnselectedApplications::default(),
            accepted: Mutex::default(),
        }
    }

    pub(super) fn statuses(&self) -> MutexGuard<'_, BTreeMap<ApplicationKey, ApplicationStatus>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notify_status_changed(&self) {
        self.status_changed.send_modify(|count| *count += 1);
    }

    /// Asks for the newest revision to be handed over again.
    pub(super) fn ask_for_work(&self) {
        self.work_lost.send_modify(|count| *count += 1);
    }

    /// Records that every Application of a repository at a revision has a status on a cluster.
    pub(super) fn accept(&self, cluster: &str, repository: &str, revision: &str) {
        let key = (cluster.to_owned(), repository.to_owned());
        self.accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, revision.to_owned());
        self.notify_status_changed();
    }

    pub(super) fn has_accepted(&self, cluster: &str, repository: &str, revision: &str) -> bool {
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted
            .get(&(cluster.to_owned(), repository.to_owned()))
            .is_some_and(|accepted| accepted == revision)
    }

    pub(super) fn is_plan(&self) -> bool {
        self.mode == ReconcileMode::Plan
    }

    /// Publishes a status, and wakes its readers if it changed.
    ///
    /// A request that came after the pass had begun makes its status stale.
    pub(super) fn publish(&self, status: &ApplicationStatus) {
        let key = (
            status.cluster.clone(),
            status.application.clone(),
            status.repository.clone(),
        );
        let mut status = status.clone();
        // The lock is held over both steps: `request` marks a status published before as stale.
        let mut statuses = self.statuses();
        status.observed &= !self.requests().contains_key(&key);
        if statuses.get(&key) == Some(&status) {
            return;
        }
        statuses.insert(key, status);
        drop(statuses);
        self.notify_status_changed();
    }

    /// Hands a request to the next pass of an Application, and marks its status as stale: only the
    /// result of that pass answers the request.
    pub(super) fn request(&self, key: &ApplicationKey, request: ApplicationRequest) {
        let mut requests = self.requests();
        requests.entry(key.clone()).or_default().push(request);
        drop(requests);
        self.mark_stale(key);
    }

    /// Marks a published status as stale, because another attempt was requested.
    fn mark_stale(&self, key: &ApplicationKey) {
        let mut statuses = self.statuses();
        let Some(status) = statuses.get_mut(key) else {
            return;
        };
        status.observed = false;
        drop(statuses);
        self.notify_status_changed();
    }

    /// Removes the statuses that match.
    pub(super) fn forget(&self, matches: impl Fn(&ApplicationStatus) -> bool) {
        let mut statuses = self.statuses();
        let before = statuses.len();
        statuses.retain(|_, status| !matches(status));
        if statuses.len() != before {
            drop(statuses);
            self.notify_status_changed();
        }
    }

    pub(super) fn remove(&self, key: &ApplicationKey) {
        self.statuses().remove(key);
        self.notify_status_changed();
    }

    /// Returns whether the problems of a status are published already.
    pub(super) fn is_published(&self, status: &ApplicationStatus) -> bool {
        self.statuses().values().any(|published| {
            published.application == status.application
                && published.cluster == status.cluster
                && published.repository == status.repository
                && published.problems == status.problems
        })
    }

    /// Returns the dependencies of an Application that are not ready at a revision. A tenant learns
    /// nothing of other repositories.
    pub(super) fn unready_dependencies(
        self: &Arc<Self>,
        repository: &str,
        depends_on: &[Name],
        revision: &str,
        is_tenant: bool,
    ) -> Option<UnreadyDependencies> {
        if depends_on.is_empty() {
            return None;
        }
        let mut transient = true;
        let messages: Vec<Message> = depends_on
            .iter()
            .filter_map(|dependency| {
                let (message, may_pass) =
                    self.unready(repository, dependency, revision, is_tenant)?;
                transient &= may_pass;
                Some(message)
            })
            .collect();
        (!messages.is_empty()).then_some(UnreadyDependencies {
            messages,
            transient,
        })
    }

    /// Returns why a dependency is not ready, and whether waiting may help.
    fn unready(
        self: &Arc<Self>,
        repository: &str,
        dependency: &Name,
        revision: &str,
        is_tenant: bool,
    ) -> Option<(Message, bool)> {
        let waits =
            |why: &str| Message::application(format!("waits for {dependency}, which {why}"));
        if let Some(why) = self.unready_status(repository, dependency, revision, is_tenant) {
            return why.map(|why| (waits(&why), true));
        }
        let why = match self.read_unselected(repository, dependency) {
            Some(UnselectedState::Applied) => return None,
            Some(UnselectedState::Unknown) => return Some((waits("is being read"), true)),
            Some(UnselectedState::OutOfSync) => "has not been applied as Git says".to_owned(),
            Some(UnselectedState::Suspended) => "is suspended".to_owned(),
            Some(UnselectedState::Unreadable(why)) => format!("cannot be read: {why}"),
            None if self.unselected.has_selection() => {
                "this repository does not declare".to_owned()
            }
            None if is_tenant => return Some((waits("this repository does not declare"), true)),
            None => return Some((waits("is not declared"), true)),
        };
        let hint = format!("Run `tagboat sync {dependency}` first, or `tagboat sync --all`.");
        let message = Message {
            hint: Some(hint),
            ..waits(&why)
        };
        Some((message, false))
    }

    /// Returns why a dependency with a status is not ready; `None` if it has no status.
    fn unready_status(
        &self,
        repository: &str,
        dependency: &Name,
        revision: &str,
        is_tenant: bool,
    ) -> Option<Option<String>> {
        let statuses = self.statuses();
        let is_removed = |status: &ApplicationStatus| {
            matches!(
                status.state,
                ApplicationState::Orphaned | ApplicationState::Deleting
            )
        };
        // The same repository goes before its namesakes; of an Application that moved to another
        // cluster, the place where it is declared now counts.
        let found = statuses
            .values()
            .filter(|status| status.application == *dependency)
            .filter(|status| !is_tenant || status.repository == repository)
            .max_by_key(|status| (status.repository == repository, !is_removed(status)))?;
        // Revisions of different repositories cannot be compared.
        let is_current =
            found.repository != repository || found.revision.as_deref() == Some(revision);
        Some(match (found.is_ready(), is_current) {
            (true, true) => found.unhealthy_summary(),
            (true, false) => Some("has not been read at this revision yet".to_owned()),
            (false, _) => Some(format!("is {}", found.state.as_text())),
        })
    }

    fn requests(&self) -> MutexGuard<'_, HashMap<ApplicationKey, Vec<ApplicationRequest>>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_requests(&self, key: &ApplicationKey) -> Vec<ApplicationRequest> {
        self.requests().remove(key).unwrap_or_default()
    }
}

/// A declaration with its rendering. An equal pair is only another revision.
#[derive(Clone)]
pub(crate) struct LastRendered {
    pub application: Application,
    /// The hash of the objects.
    pub hash: Arc<str>,
    pub inputs: Option<RenderInputs>,
    /// The newest revision that is known to render the same.
    pub revision: String,
}

impl LastRendered {
    /// Returns whether both give the same objects to the same declaration.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.application.declares_like(&other.application) && self.hash == other.hash
    }
}

/// The handle of an Application's task.
#[derive(Clone)]
pub(crate) struct ApplicationHandle {
    pub repository: Arc<RepositoryId>,
    /// The newest work; closed when the task has ended.
    pub mailbox: Arc<Mailbox<Work>>,
    pub wake: Arc<Notify>,
    /// Generation counter. A render result is dropped if a newer revision was accepted meanwhile.
    pub generation: Arc<AtomicU64>,
    /// The last rendering that succeeded.
    last_rendered: Arc<Mutex<Option<LastRendered>>>,
    pub render_retry: Arc<RenderRetry>,
    /// What the newest readable declaration says about a removal; newer work replaces work and
    /// renderings that no pass has taken up, but a removal must know this.
    removal_terms: Arc<Mutex<Option<RemovalTerms>>>,
}

impl ApplicationHandle {
    pub(super) fn new(repository: &RepositoryId) -> Self {
        Self {
            repository: Arc::new(repository.clone()),
            mailbox: Arc::default(),
            wake: Arc::default(),
            generation: Arc::default(),
            last_rendered: Arc::default(),
            render_retry: Arc::default(),
            removal_terms: Arc::default(),
        }
    }

    /// Creates the handle of a task that follows one that has ended.
    pub(super) fn after(self, ended: &Self) -> Self {
        Self {
            removal_terms: Arc::clone(&ended.removal_terms),
            ..self
        }
    }

    pub(super) fn set_removal_terms(&self, terms: RemovalTerms) {
        *self
            .removal_terms
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(terms);
    }

    /// Returns the newest terms of a removal; `None` if this process has read no declaration.
    pub(super) fn removal_terms(&self) -> Option<RemovalTerms> {
        self.removal_terms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn last_rendered(&self) -> MutexGuard<'_, Option<LastRendered>> {
        self.last_rendered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a new generation and returns it; results of earlier ones are dropped.
    pub(super) fn next_generation(&self) -> u64 {
        let _last = self.last_rendered();
        let generation = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        self.render_retry.cancel();
        generation
    }

    pub(super) fn is_current(&self, generation: u64) -> bool {
        self.generation.load(Ordering::SeqCst) == generation
    }

    /// Begins a generation without a rendering; the next rendering counts as changed.
    pub(super) fn supersede_rendering(&self) {
        self.next_generation();
        self.forget_rendering();
    }

    /// Has the next rendering count as changed.
    pub(super) fn forget_rendering(&self) {
        *self.last_rendered() = None;
    }
}
