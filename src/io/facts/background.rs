//! Scans that outlive the pass that began them: a registry that is slow delays no commit for the
//! images of another one.
//!
//! A pass waits a few seconds for each registry. What takes longer goes on in a task of its own,
//! within the time limit of the scan, and a later pass takes its result.

use super::{RepositoryScan, ScanError, Scanner};
use crate::{core::image::ImageRepository, images::policy::MissingFacts, io::http::lock};
use jiff::Timestamp;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::AbortOnDropHandle;

/// Slow scans of one registry that run at once: its requests in flight by default.
const CONCURRENCY: usize = 8;

/// The scans of one config repository that take longer than a pass waits for them.
#[derive(Default)]
pub struct BackgroundScans {
    running: Mutex<HashMap<ImageRepository, RunningScan>>,
    /// Registries that the present pass waits for no more.
    slow: Mutex<HashSet<String>>,
    limits: Mutex<HashMap<String, Arc<Semaphore>>>,
    finished: Notify,
}

/// The facts that a task has, with its result.
type ScanOutcome = (Option<RepositoryScan>, Result<(), ScanError>);

struct RunningScan {
    task: AbortOnDropHandle<ScanOutcome>,
    /// True if no pass waits for it.
    is_late: bool,
}

/// The wait of a pass for one registry.
#[derive(Clone)]
pub(super) struct ScanPatience {
    scans: Arc<BackgroundScans>,
    longest: Duration,
}

impl std::fmt::Debug for BackgroundScans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackgroundScans").finish_non_exhaustive()
    }
}

impl BackgroundScans {
    /// Begins a pass: every registry gets its wait again.
    pub fn begin_pass(&self) {
        lock(&self.slow).clear();
    }

    /// Returns the repositories whose scans no pass has taken yet.
    pub fn repositories(&self) -> Vec<ImageRepository> {
        lock(&self.running).keys().cloned().collect()
    }

    /// Waits until a scan ends that no pass waits for.
    pub async fn next_finished(&self) {
        self.finished.notified().await;
    }

    fn limit(&self, host: &str) -> Arc<Semaphore> {
        let mut limits = lock(&self.limits);
        let limit = limits
            .entry(host.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(CONCURRENCY)));
        Arc::clone(limit)
    }

    /// Begins work on a repository in a task.
    fn spawn(
        self: &Arc<Self>,
        repository: &ImageRepository,
        work: impl Future<Output = ScanOutcome> + Send + 'static,
    ) -> AbortOnDropHandle<ScanOutcome> {
        let (scans, key) = (Arc::clone(self), repository.clone());
        let limit = self.limit(repository.registry());
        AbortOnDropHandle::new(tokio::spawn(async move {
            // The semaphore is never closed.
            let _permit = limit.acquire().await;
            let outcome = work.await;
            scans.announce(&key);
            outcome
        }))
    }

    /// Wakes the loop if no pass waits for a repository.
    fn announce(&self, repository: &ImageRepository) {
        let running = lock(&self.running);
        if running.get(repository).is_some_and(|scan| scan.is_late) {
            self.finished.notify_one();
        }
    }

    /// Leaves a task to a later pass.
    fn keep(&self, repository: &ImageRepository, task: AbortOnDropHandle<ScanOutcome>) {
        lock(&self.slow).insert(repository.registry().to_owned());
        let mut running = lock(&self.running);
        // It may have ended before it was kept.
        if task.is_finished() {
            self.finished.notify_one();
        }
        let is_late = true;
        running.insert(repository.clone(), RunningScan { task, is_late });
    }

    /// Takes the task of an earlier pass.
    fn take(&self, repository: &ImageRepository) -> Option<EarlierScan> {
        let mut running = lock(&self.running);
        if !running.get(repository)?.task.is_finished() {
            return Some(EarlierScan::Running);
        }
        let scan = running.remove(repository)?;
        Some(EarlierScan::Finished(scan.task))
    }
}

enum EarlierScan {
    Running,
    Finished(AbortOnDropHandle<ScanOutcome>),
}

impl ScanPatience {
    pub(super) fn new(scans: &Arc<BackgroundScans>, longest: Duration) -> Self {
        Self {
            scans: Arc::clone(scans),
            longest,
        }
    }

    /// Lists the tags of a repository, or takes what an earlier pass began.
    pub(super) async fn scan(
        &self,
        scanner: Scanner,
        repository: &ImageRepository,
        timeout: Duration,
        now: Timestamp,
    ) -> Result<RepositoryScan, ScanError> {
        let task = match self.scans.take(repository) {
            Some(EarlierScan::Running) => return Err(self.late(repository)),
            Some(EarlierScan::Finished(task)) => task,
            None => {
                let key = repository.clone();
                self.scans.spawn(repository, async move {
                    match scanner.list(&key, timeout, now).await {
                        Ok(scan) => (Some(scan), Ok(())),
                        Err(error) => (None, Err(error)),
                    }
                })
            }
        };
        let (scan, result) = self.outcome(repository, task).await?;
        result?;
        scan.ok_or_else(|| self.late(repository))
    }

    /// Answers what a policy needs. A late answer leaves the scan without anything that could
    /// decide, and is found by the next scan of the repository.
    pub(super) async fn answer(
        &self,
        scanner: Scanner,
        scan: &mut RepositoryScan,
        needs: &MissingFacts,
        now: Timestamp,
    ) -> Result<(), ScanError> {
        let repository = scan.repository.clone();
        let (mut asked, needs) = (scan.clone(), needs.clone());
        let task = self.scans.spawn(&repository, async move {
            let result = scanner.answer_now(&mut asked, &needs, now).await;
            (Some(asked), result)
        });
        let (answered, result) = self.outcome(&repository, task).await?;
        if let Some(answered) = answered {
            *scan = answered;
        }
        result
    }

    /// Waits for a task, no longer than this pass waits for its registry.
    async fn outcome(
        &self,
        repository: &ImageRepository,
        mut task: AbortOnDropHandle<ScanOutcome>,
    ) -> Result<ScanOutcome, ScanError> {
        let is_slow = lock(&self.scans.slow).contains(repository.registry());
        let longest = if is_slow {
            Duration::ZERO
        } else {
            self.longest
        };
        match tokio::time::timeout(longest, &mut task).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(self.late(repository)),
            },
            Err(_) => {
                self.scans.keep(repository, task);
                Err(self.late(repository))
            }
        }
    }

    fn late(&self, repository: &ImageRepository) -> ScanError {
        ScanError::Running {
            repository: repository.clone(),
            waited: self.longest,
        }
    }
}
