//! What all tasks of the reconciler share, and the handle by which one is reached.

use super::{
    ApplicationRequest, ReconcileMode, RepositoryId,
    application::Work,
    mailbox::Mailbox,
    render_queue::RenderRetry,
    status::{ApplicationState, ApplicationStatus, Message},
    unselected::{UnselectedObject, UnselectedObjects},
};
use crate::{core::name::Name, spec::Application};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Renderings at once: they block, and the machines this is made for have two cores.
const RENDERINGS: usize = 2;

/// Where an Application is declared to be: cluster, name, and the repository that says so.
pub(crate) type ApplicationPlace = (String, Name, String);

/// What all tasks share.
pub(crate) struct ReconcileContext {
    pub mode: ReconcileMode,
    pub statuses: Mutex<BTreeMap<ApplicationPlace, ApplicationStatus>>,
    /// Counts the times that some status has turned.
    pub turned: watch::Sender<u64>,
    pub asked: Mutex<HashMap<ApplicationPlace, Vec<ApplicationRequest>>>,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    pub renderings: Semaphore,
    /// Applications that a command has not named.
    pub rest: UnselectedObjects,
    /// The revision of each repository whose Applications are known on each cluster.
    taken: Mutex<HashMap<(String, String), String>>,
}

impl ReconcileContext {
    pub fn new(mode: ReconcileMode, stop: CancellationToken, tasks: TaskTracker) -> Self {
        Self {
            mode,
            statuses: Mutex::default(),
            turned: watch::Sender::new(0),
            asked: Mutex::default(),
            stop,
            tasks,
            renderings: Semaphore::new(RENDERINGS),
            rest: UnselectedObjects::default(),
            taken: Mutex::default(),
        }
    }

    /// The Applications of a repository at a revision are known on a cluster, and each has a
    /// status.
    pub fn take(&self, cluster: &str, repository: &str, revision: &str) {
        let key = (cluster.to_owned(), repository.to_owned());
        self.taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, revision.to_owned());
        self.turned.send_modify(|count| *count += 1);
    }

    pub fn has_taken(&self, cluster: &str, repository: &str, revision: &str) -> bool {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken
            .get(&(cluster.to_owned(), repository.to_owned()))
            .is_some_and(|taken| taken == revision)
    }

    pub fn plans(&self) -> bool {
        self.mode == ReconcileMode::Plan
    }

    /// Tells a status to everybody.
    pub fn publish(&self, status: &ApplicationStatus) {
        let key = (
            status.cluster.clone(),
            status.application.clone(),
            status.repository.clone(),
        );
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        if statuses.get(&key) == Some(status) {
            return;
        }
        statuses.insert(key, status.clone());
        drop(statuses);
        self.turned.send_modify(|count| *count += 1);
    }

    /// What is said of an Application is old: somebody finds out anew.
    pub fn unsettle(&self, place: &ApplicationPlace) {
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(status) = statuses.get_mut(place) else {
            return;
        };
        status.observed = false;
        drop(statuses);
        self.turned.send_modify(|count| *count += 1);
    }

    /// Takes statuses away.
    pub fn forget(&self, gone: impl Fn(&ApplicationStatus) -> bool) {
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        let before = statuses.len();
        statuses.retain(|_, status| !gone(status));
        if statuses.len() != before {
            drop(statuses);
            self.turned.send_modify(|count| *count += 1);
        }
    }

    pub fn remove(&self, place: &ApplicationPlace) {
        self.statuses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(place);
        self.turned.send_modify(|count| *count += 1);
    }

    /// Whether this is told already.
    pub fn tells(&self, status: &ApplicationStatus) -> bool {
        let statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        let mut same = statuses.values().filter(|told| {
            told.application == status.application && told.cluster == status.cluster
        });
        same.any(|told| told.repository == status.repository && told.problems == status.problems)
    }

    /// Why an Application of a repository must wait for those it depends on, and whether that ends
    /// by itself; nothing if it need not.
    pub fn blocked(
        self: &Arc<Self>,
        repository: &str,
        depends_on: &[Name],
        revision: &str,
    ) -> Option<(Vec<Message>, bool)> {
        if depends_on.is_empty() {
            return None;
        }
        let mut passes = true;
        let rows: Vec<Message> = depends_on
            .iter()
            .filter_map(|needed| {
                let statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
                let gone = |status: &ApplicationStatus| {
                    matches!(
                        status.state,
                        ApplicationState::Orphaned | ApplicationState::Deleting
                    )
                };
                // Of namesakes the one of this repository is meant, and of one that has moved the
                // place where it is declared.
                let named = statuses
                    .values()
                    .filter(|status| status.application == *needed);
                if let Some(found) =
                    named.max_by_key(|status| (status.repository == repository, !gone(status)))
                {
                    // Another repository has revisions of its own.
                    let is_read = found.repository != repository
                        || found.revision.as_deref() == Some(revision);
                    return match found.is_ready() && is_read {
                        true => None,
                        false if found.is_ready() => Some(Message::application(format!(
                            "waits for {needed}, which has not been read at this revision yet"
                        ))),
                        false => Some(Message::application(format!(
                            "waits for {needed}, which is {}",
                            found.state
                        ))),
                    };
                }
                drop(statuses);
                let why = match self.aside(repository, needed) {
                    Some(UnselectedObject::Applied) => return None,
                    Some(UnselectedObject::Nothing) => {
                        return Some(Message::application(format!(
                            "waits for {needed}, which is being read"
                        )));
                    }
                    Some(UnselectedObject::Behind) => "has not been applied as Git says".to_owned(),
                    Some(UnselectedObject::Suspended) => "is suspended".to_owned(),
                    Some(UnselectedObject::Unread(why)) => format!("cannot be read: {why}"),
                    None if self.rest.is_named() => "this repository does not declare".to_owned(),
                    None => {
                        return Some(Message::application(format!(
                            "waits for {needed}, which is not declared"
                        )));
                    }
                };
                passes = false;
                let hint = format!("tagboat sync {needed} first; or tagboat sync --all");
                Some(Message {
                    hint: Some(hint),
                    ..Message::application(format!("waits for {needed}, which {why}"))
                })
            })
            .collect();
        (!rows.is_empty()).then_some((rows, passes))
    }

    pub fn take_asked(&self, place: &ApplicationPlace) -> Vec<ApplicationRequest> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(place)
            .unwrap_or_default()
    }
}

/// The task of an Application, from outside.
#[derive(Clone)]
pub(crate) struct ApplicationHandle {
    pub repository: Arc<RepositoryId>,
    /// What it is to do; closed when it is over.
    pub slot: Arc<Mailbox<Work>>,
    /// Wakes the task.
    pub inbox: Arc<Notify>,
    /// Counts the revisions that were read: what an earlier one comes to late is not handed over
    /// any more.
    pub turn: Arc<AtomicU64>,
    /// What was read last: the declaration, and what stands for its objects. The same again is only
    /// another revision.
    pub last: Arc<Mutex<Option<(Application, String)>>>,
    /// What could not be rendered, and can be tried again.
    pub again: Arc<RenderRetry>,
}

impl ApplicationHandle {
    pub fn new(repository: &RepositoryId) -> Self {
        Self {
            repository: Arc::new(repository.clone()),
            slot: Arc::default(),
            inbox: Arc::default(),
            turn: Arc::default(),
            last: Arc::default(),
            again: Arc::default(),
        }
    }

    /// What comes of an earlier revision is not handed over from now on; gives the turn of this
    /// one.
    pub fn turns(&self) -> u64 {
        let _last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = self.turn.fetch_add(1, Ordering::SeqCst) + 1;
        self.again.forget();
        turn
    }

    /// The same for one that is not rendered: whatever is read after it is news.
    pub fn forgets(&self) {
        self.turns();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
