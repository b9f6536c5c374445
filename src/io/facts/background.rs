//! Scans that outlive the pass that began them: a registry that is slow delays no commit for the
//! images of another one.
//!
//! A pass waits a few seconds for each registry, for all its answers together. What takes longer
//! goes on in a task of its own, within the time limit of the scan, and a later pass takes its
//! result.

use super::{RepositoryScan, ScanError, Scanner};
use crate::{core::image::ImageRepository, images::policy::MissingFacts, io::http::lock};
use jiff::Timestamp;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinError,
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

/// Slow scans of one registry that run at once: its requests in flight by default.
const CONCURRENCY: usize = 8;

/// The scans of one config repository that take longer than a pass waits for them.
#[derive(Default)]
pub struct BackgroundScans {
    running: Mutex<HashMap<ImageRepository, RunningScan>>,
    /// The time that the present pass has waited, by registry.
    waits: Mutex<HashMap<String, WaitAccount>>,
    limits: Mutex<HashMap<String, Arc<Semaphore>>>,
    finished: Notify,
}

/// The facts that a task has, with its result.
type ScanOutcome = (Option<RepositoryScan>, Result<(), ScanError>);

struct RunningScan {
    task: AbortOnDropHandle<ScanOutcome>,
    /// Set under the lock of the running scans, also by a panic.
    is_done: Arc<AtomicBool>,
}

/// The time that a pass has waited for a registry. Waits at the same time count once.
#[derive(Debug, Default)]
struct WaitAccount {
    spent: Duration,
    waiting: usize,
    since: Option<Instant>,
}

/// A wait for a registry, until it is dropped.
struct Wait<'s> {
    scans: &'s BackgroundScans,
    host: &'s str,
}

/// Announces the end of a task when it is dropped.
struct Announcement {
    scans: Arc<BackgroundScans>,
    repository: ImageRepository,
    is_done: Arc<AtomicBool>,
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
        lock(&self.waits).clear();
    }

    /// Returns the repositories whose scans no pass has taken yet.
    pub fn repositories(&self) -> Vec<ImageRepository> {
        lock(&self.running).keys().cloned().collect()
    }

    /// Ends and forgets the scans of repositories that no policy reads any more.
    pub fn retain(&self, is_wanted: impl Fn(&ImageRepository) -> bool) {
        lock(&self.running).retain(|repository, _| is_wanted(repository));
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
    ) -> RunningScan {
        let is_done = Arc::new(AtomicBool::default());
        let announcement = Announcement {
            scans: Arc::clone(self),
            repository: repository.clone(),
            is_done: Arc::clone(&is_done),
        };
        let limit = self.limit(repository.registry());
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let _announcement = announcement;
            // The semaphore is never closed.
            let _permit = limit.acquire().await;
            work.await
        }));
        RunningScan { task, is_done }
    }

    /// Leaves a task to a later pass. If one of the repository runs already, that one goes on:
    /// otherwise the policies of an image would end each other's questions for ever.
    fn keep(&self, repository: &ImageRepository, scan: RunningScan) {
        let mut running = lock(&self.running);
        if running.contains_key(repository) {
            return;
        }
        // It may have ended before it was kept, when no one could be told.
        if scan.is_done.load(Ordering::SeqCst) {
            self.finished.notify_one();
        }
        running.insert(repository.clone(), scan);
    }

    /// Takes the task of an earlier pass.
    fn take(&self, repository: &ImageRepository) -> Option<EarlierScan> {
        let mut running = lock(&self.running);
        if !running.get(repository)?.is_done.load(Ordering::SeqCst) {
            return Some(EarlierScan::Running);
        }
        let scan = running.remove(repository)?;
        Some(EarlierScan::Finished(scan.task))
    }

    /// Begins a wait for a registry; returns what is left of the pass's time for it.
    fn wait<'s>(&'s self, host: &'s str, longest: Duration) -> (Wait<'s>, Duration) {
        let mut waits = lock(&self.waits);
        let account = waits.entry(host.to_owned()).or_default();
        account.waiting += 1;
        let since = *account.since.get_or_insert_with(Instant::now);
        let left = longest.saturating_sub(account.spent + since.elapsed());
        (Wait { scans: self, host }, left)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut waits = lock(&self.scans.waits);
        // A new pass has new accounts.
        let Some(account) = waits.get_mut(self.host) else {
            return;
        };
        account.waiting = account.waiting.saturating_sub(1);
        if account.waiting == 0
            && let Some(since) = account.since.take()
        {
            account.spent += since.elapsed();
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        let running = lock(&self.scans.running);
        self.is_done.store(true, Ordering::SeqCst);
        let is_kept = running
            .get(&self.repository)
            .is_some_and(|scan| Arc::ptr_eq(&scan.is_done, &self.is_done));
        if is_kept {
            self.scans.finished.notify_one();
        }
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
        let (scan, result) = match self.scans.take(repository) {
            Some(EarlierScan::Running) => return Err(self.late(repository)),
            Some(EarlierScan::Finished(task)) => self.joined(repository, task.await)?,
            None => {
                let key = repository.clone();
                let scan = self.scans.spawn(repository, async move {
                    match scanner.list(&key, timeout, now).await {
                        Ok(scan) => (Some(scan), Ok(())),
                        Err(error) => (None, Err(error)),
                    }
                });
                self.outcome(repository, scan).await?
            }
        };
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
        if lock(&self.scans.running).contains_key(&repository) {
            return Err(self.late(&repository));
        }
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

    /// Waits for a task, no longer than this pass still waits for its registry.
    async fn outcome(
        &self,
        repository: &ImageRepository,
        mut scan: RunningScan,
    ) -> Result<ScanOutcome, ScanError> {
        let (wait, left) = self.scans.wait(repository.registry(), self.longest);
        let ended = tokio::time::timeout(left, &mut scan.task).await;
        drop(wait);
        match ended {
            Ok(joined) => self.joined(repository, joined),
            Err(_) => {
                self.scans.keep(repository, scan);
                Err(self.late(repository))
            }
        }
    }

    /// Returns the outcome of a task that has ended. A panic goes on in the pass.
    fn joined(
        &self,
        repository: &ImageRepository,
        joined: Result<ScanOutcome, JoinError>,
    ) -> Result<ScanOutcome, ScanError> {
        joined.or_else(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(self.late(repository)),
        })
    }

    fn late(&self, repository: &ImageRepository) -> ScanError {
        ScanError::Running {
            repository: repository.clone(),
            waited: self.longest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    /// More than any wait for a task that has nothing left to do.
    const SOON: Duration = Duration::from_secs(60);

    fn image(path: &str) -> ImageRepository {
        ImageRepository::new(&format!("registry.example.org/{path}")).unwrap()
    }

    fn patience(longest: Duration) -> ScanPatience {
        ScanPatience::new(&Arc::default(), longest)
    }

    async fn finished(scans: &BackgroundScans) -> bool {
        let ended = tokio::time::timeout(SOON, scans.next_finished()).await;
        ended.is_ok()
    }

    #[tokio::test]
    async fn wait_for_a_registry_is_bounded_in_a_pass() {
        let (answer, longest) = (Duration::from_millis(160), Duration::from_millis(200));
        let patience = patience(longest);
        let answers = async |host: &str| {
            let begun = Instant::now();
            let mut late = 0;
            for at in 0..10 {
                let image = ImageRepository::new(&format!("{host}/team/app{at}")).unwrap();
                let scan = patience.scans.spawn(&image, async move {
                    tokio::time::sleep(answer).await;
                    (None, Ok(()))
                });
                late += usize::from(patience.outcome(&image, scan).await.is_err());
            }
            (late, begun.elapsed())
        };
        for _ in 0..2 {
            patience.scans.begin_pass();
            patience.scans.retain(|_| false);
            let (late, waited) = answers("slow.example.org").await;
            assert!(late >= 9, "{late}");
            assert!(waited < 4 * answer, "ten answers, one wait: {waited:?}");
        }
        // Another registry has its own time.
        let (late, _) = answers("other.example.org").await;
        assert!(late < 10, "{late}");
    }

    #[tokio::test]
    async fn waits_at_the_same_time_count_once() {
        let patience = patience(SOON);
        let images: Vec<ImageRepository> = (0..8).map(|at| image(&at.to_string())).collect();
        let begun = Instant::now();
        let answers = images.iter().map(|image| {
            let scan = patience.scans.spawn(image, async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                (None, Ok(()))
            });
            patience.outcome(image, scan)
        });
        for answer in futures::future::join_all(answers).await {
            answer.unwrap().1.unwrap();
        }
        let spent = lock(&patience.scans.waits)["registry.example.org"].spent;
        assert!(spent <= begun.elapsed(), "{spent:?}");
    }

    #[tokio::test]
    async fn task_that_ended_before_it_was_kept_is_told() {
        let scans = BackgroundScans::default();
        let scan = RunningScan {
            // It has announced its end, and the runtime has not noted it yet.
            task: AbortOnDropHandle::new(tokio::spawn(pending())),
            is_done: Arc::new(AtomicBool::new(true)),
        };
        scans.keep(&image("app"), scan);
        assert!(finished(&scans).await);
    }

    #[tokio::test]
    async fn task_that_panics_is_told() {
        let scans: Arc<BackgroundScans> = Arc::default();
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let scan = scans.spawn(&image("app"), async move {
            let _ = wait.await;
            panic!("a fault of the scan")
        });
        scans.keep(&image("app"), scan);
        go.send(()).unwrap();
        assert!(finished(&scans).await);
        assert!(matches!(
            scans.take(&image("app")),
            Some(EarlierScan::Finished(_))
        ));
    }

    #[tokio::test]
    async fn later_question_of_an_image_ends_no_earlier() {
        let scans: Arc<BackgroundScans> = Arc::default();
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let first = scans.spawn(&image("app"), async move {
            let _ = wait.await;
            (None, Ok(()))
        });
        scans.keep(&image("app"), first);
        let second = scans.spawn(&image("app"), pending());
        scans.keep(&image("app"), second);
        go.send(()).unwrap();
        assert!(finished(&scans).await);
    }

    #[tokio::test]
    async fn scan_of_a_removed_policy_is_dropped() {
        let scans: Arc<BackgroundScans> = Arc::default();
        for path in ["kept", "removed"] {
            let scan = scans.spawn(&image(path), pending());
            scans.keep(&image(path), scan);
        }
        scans.retain(|repository| repository.path() == "kept");
        assert_eq!(scans.repositories(), [image("kept")]);
    }
}
