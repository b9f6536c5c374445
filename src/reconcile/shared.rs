//! What all tasks of the reconciler share, and the handle by which one is reached.

use super::{
    Asked, Mode, Repository,
    runner::Job,
    slot::Slot,
    status::{Row, Status},
};
use crate::{declare::Application, name::Name};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64},
    },
};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Renderings at once: they block, and the machines this is made for have two cores.
const RENDERINGS: usize = 2;

/// Where an Application is declared to be: cluster, name, and the repository that says so.
pub(super) type Place = (String, Name, String);

/// What all tasks share.
pub(super) struct Shared {
    pub mode: Mode,
    pub statuses: Mutex<BTreeMap<Place, Status>>,
    /// Counts the times that some status has turned.
    pub turned: watch::Sender<u64>,
    pub asked: Mutex<HashMap<Place, Vec<Asked>>>,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    pub renderings: Semaphore,
    /// The revision of each repository whose Applications are known on each cluster.
    taken: Mutex<HashMap<(String, String), String>>,
}

impl Shared {
    pub fn new(mode: Mode, stop: CancellationToken, tasks: TaskTracker) -> Self {
        Self {
            mode,
            statuses: Mutex::default(),
            turned: watch::Sender::new(0),
            asked: Mutex::default(),
            stop,
            tasks,
            renderings: Semaphore::new(RENDERINGS),
            taken: Mutex::default(),
        }
    }

    /// The Applications of a repository at a revision are known on a cluster, and each has a status.
    pub fn take(&self, cluster: &str, repository: &str, revision: &str) {
        let key = (cluster.to_owned(), repository.to_owned());
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(key, revision.to_owned());
        self.turned.send_modify(|count| *count += 1);
    }

    pub fn has_taken(&self, cluster: &str, repository: &str, revision: &str) -> bool {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.get(&(cluster.to_owned(), repository.to_owned())).is_some_and(|taken| taken == revision)
    }

    pub fn plans(&self) -> bool {
        self.mode == Mode::Plan
    }

    /// Tells a status to everybody.
    pub fn publish(&self, status: &Status) {
        let key = (status.cluster.clone(), status.application.clone(), status.repository.clone());
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        if statuses.get(&key) == Some(status) {
            return;
        }
        statuses.insert(key, status.clone());
        drop(statuses);
        self.turned.send_modify(|count| *count += 1);
    }

    pub fn remove(&self, place: &Place) {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).remove(place);
        self.turned.send_modify(|count| *count += 1);
    }

    /// Why an Application must wait for those it depends on; nothing if it need not.
    pub fn blocked(&self, depends_on: &[Name], revision: &str) -> Option<Vec<Row>> {
        if depends_on.is_empty() {
            return None;
        }
        let statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        let rows: Vec<Row> = depends_on
            .iter()
            .filter_map(|needed| {
                let named = statuses.iter().filter(|((_, name, _), _)| name == needed).map(|(_, status)| status);
                // Of namesakes the one of this revision is meant.
                let found = named.max_by_key(|status| status.revision.as_deref() == Some(revision));
                match found {
                    Some(status) if status.is_ready() && status.revision.as_deref() == Some(revision) => None,
                    Some(status) => Some(Row::whole(format!("waits for {needed}, which is {}", status.state))),
                    None => Some(Row::whole(format!("waits for {needed}, which is not declared"))),
                }
            })
            .collect();
        (!rows.is_empty()).then_some(rows)
    }

    pub fn take_asked(&self, place: &Place) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(place).unwrap_or_default()
    }
}

/// The task of an Application, from outside.
#[derive(Clone)]
pub(super) struct Handle {
    pub repository: Arc<Repository>,
    pub slot: Arc<Slot<Job>>,
    /// Wakes the task.
    pub inbox: Arc<Notify>,
    /// Counts the revisions that were read: what an earlier one comes to late is not handed over any more.
    pub turn: Arc<AtomicU64>,
    /// What was read last: the declaration, and what stands for its objects. The same again is only another revision.
    pub last: Arc<Mutex<Option<(Application, String)>>>,
    /// Whether the task is over.
    pub ended: Arc<AtomicBool>,
}

impl Handle {
    pub fn new(repository: &Repository) -> Self {
        Self {
            repository: Arc::new(repository.clone()),
            slot: Arc::default(),
            inbox: Arc::default(),
            turn: Arc::default(),
            last: Arc::default(),
            ended: Arc::default(),
        }
    }
}
