//! The daemon: a loop for each config repository, the local socket, and shutdown at a safe point.
//!
//! ```text
//! timers (scan due, Git poll, window, age) ─▶ pass ─▶ report ─▶ log, next timers
//! ```
//!
//! Belongs here: when a pass runs, and how the process ends. Does not belong here: what a pass or a
//! query does.
//!
//! One pass at a time works on a repository; its loop sleeps until the first thing that can have
//! changed. A background task that panics is started again alone; one that exits ends the process.

mod pass_events;
mod reload;
mod schedule;
mod signals;
mod socket;
mod watchdog;

pub use signals::Signals;

use crate::{
    core::error::{Classify as _, ErrorKind},
    events::{Event, EventFact, EventReason, EventSubject, Recorder},
    io::{
        blocking,
        facts::BackgroundScans,
        git::{GitError, ObjectId},
        render::Renderer,
        supervise::supervise,
    },
    reconcile::{self, GitRevision, Reconciler, RenderFn},
    rollout::{self, FleetSource},
    service::{
        Failure, Service,
        engine::{Engine, ServiceContext},
        pass_summary::PassSummary,
        scan::{DaemonScans, RepositoryScans, ScanRequest},
    },
    spec::Declarations,
    update::{DeployableRevision, ImageUpdater, RefusedHead, RepoSnapshot},
};
use jiff::Timestamp;
use pass_events::FindingEvents;
use schedule::{ScanQueue, sleep_time};
use signals::DaemonSignal;
use socket::LocalSocket;
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::{runtime::Handle, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use watchdog::Watchdog;

/// The time that a pass waits for each registry. A healthy one lists thousands of tags within it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The delay of a pass after the end of a slow scan, so that further ones can end.
const GATHER: Duration = Duration::from_millis(500);

/// The end of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonEnd {
    /// A signal asked to stop.
    Stopped,
    /// The settings have changed: the daemon has to start again, with the new ones.
    Reload,
}

/// Runs until a signal asks to stop, or to reload settings that have changed.
///
/// # Errors
/// If the socket or a cluster cannot be opened, or a background task exits.
pub async fn run(
    engine: Engine,
    context: &Arc<ServiceContext>,
    mut signals: Signals,
) -> Result<DaemonEnd, Failure> {
    let events = &context.events;
    for warning in &engine.warnings {
        events.record(Event::warning(EventReason::SetupWarning, warning));
    }
    let stop = CancellationToken::new();
    let socket = LocalSocket::open(&context.socket())?;
    let reconciler = context
        .reconciler(reconcile::ReconcileMode::Act, &stop)
        .await?;
    let repositories: Vec<&str> = engine
        .updaters
        .iter()
        .map(|updater| updater.repo.config.name.as_str())
        .collect();
    let clusters: Vec<&str> = context
        .settings
        .clusters
        .iter()
        .map(|cluster| cluster.name.as_str())
        .collect();
    let started = Event::info(EventReason::Started, "tagboat started")
        .fact(EventFact::Version, env!("CARGO_PKG_VERSION"))
        .fact(EventFact::Repositories, repositories.join(","))
        .fact(EventFact::Clusters, clusters.join(","))
        .fact(EventFact::Socket, socket.path().display().to_string());
    events.record(started);
    if let Some(reconciler) = &reconciler {
        let followed = engine.updaters.iter().map(|updater| &updater.repo.config);
        reconciler
            .expect_repositories(followed.map(|config| (config.name.as_str(), &*config.rights)));
    }
    let scans = Arc::new(DaemonScans::new(repositories.iter().copied()));
    let mut tasks = Tasks::default();
    for updater in &engine.updaters {
        context
            .preview_with(updater, &engine.renderer, reconciler.as_deref())
            .await;
        let name = &updater.repo.config.name;
        let events = events.scoped(EventSubject::of_repository(name));
        let (updater, stopped) = (Arc::clone(updater), stop.clone());
        tasks.supervise("the update pass", &events, &stop, {
            let (updater, scans) = (Arc::clone(&updater), scans.of(name).unwrap_or_default());
            let (events, stop) = (events.clone(), stopped.clone());
            move || {
                let (updater, scans) = (Arc::clone(&updater), Arc::clone(&scans));
                run_passes(updater, scans, events.clone(), stop.clone())
            }
        });
        let Some(reconciler) = &reconciler else {
            continue;
        };
        tasks.supervise("the reconciler's source", &events, &stop, {
            let (updater, reconciler) = (Arc::clone(&updater), Arc::clone(reconciler));
            let (renderer, stop) = (Arc::clone(&engine.renderer), stopped.clone());
            let events = events.clone();
            move || {
                let (updater, reconciler) = (Arc::clone(&updater), Arc::clone(&reconciler));
                let renderer = Arc::clone(&renderer);
                follow(updater, reconciler, renderer, events.clone(), stop.clone())
            }
        });
        if updater.forge.is_some() {
            let reconciler = Arc::clone(reconciler);
            let reported = events.clone();
            tasks.supervise("the rollout report", &events, &stop, move || {
                report_rollouts(&updater, &reconciler, reported.clone(), stopped.clone())
            });
        }
    }
    let service = Service::new(context, &engine, reconciler.clone()).with_scans(scans);
    let service = Arc::new(service);
    let socket = Arc::new(socket);
    tasks.supervise("the local socket", events, &stop, {
        let (events, stop) = (events.clone(), stop.clone());
        move || {
            let (socket, service) = (Arc::clone(&socket), Arc::clone(&service));
            socket::serve(socket, service, events.clone(), stop.clone())
        }
    });
    let _watchdog = Watchdog::start(&Handle::current(), events.clone());
    let end = run_until_end(context, &mut signals, &mut tasks).await;
    stop.cancel();
    tasks.finish().await;
    // A push is never cut off, even if its pass or command was dropped.
    for updater in &engine.updaters {
        updater.drain_pushes().await;
    }
    if let Some(reconciler) = &reconciler {
        reconciler.shut_down().await;
    }
    engine.scanner.store.flush()?;
    events.record(Event::info(EventReason::Stopped, "stopped"));
    end
}

/// Waits for a signal that ends the daemon, or for a task that exits.
async fn run_until_end(
    context: &Arc<ServiceContext>,
    signals: &mut Signals,
    tasks: &mut Tasks,
) -> Result<DaemonEnd, Failure> {
    let events = &context.events;
    loop {
        tokio::select! {
            biased;
            signal = signals.next() => match signal {
                DaemonSignal::Stop(signal) => {
                    let stopping = Event::info(EventReason::Stopping, "stopping at a safe point");
                    events.record(stopping.fact(EventFact::Signal, signal));
                    return Ok(DaemonEnd::Stopped);
                }
                DaemonSignal::Reload => {
                    if reload::is_due(context).await {
                        return Ok(DaemonEnd::Reload);
                    }
                }
            },
            Some(result) = tasks.running.join_next() => {
                let message = "a background task exited unexpectedly";
                let exited = format!("{message}: {result:?}");
                events.record(Event::error(EventReason::TaskExited, exited));
                let failure = Failure::new(ErrorKind::Bug, message);
                return Err(failure.hint("Report this as a bug of tagboat."));
            }
        }
    }
}

/// Background tasks, which run until the daemon stops.
#[derive(Default)]
struct Tasks {
    /// Waits for all tasks, also those whose result [`JoinSet::join_next`] has given.
    tracker: TaskTracker,
    running: JoinSet<()>,
}

impl Tasks {
    /// Spawns a task that is started again if it panics.
    fn supervise<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        name: &'static str,
        events: &Recorder,
        stop: &CancellationToken,
        start: impl Fn() -> F + Send + Sync + 'static,
    ) {
        let (events, stop) = (events.clone(), stop.clone());
        let task = async move { supervise(name, &events, &stop, start).await };
        self.running.spawn(self.tracker.track_future(task));
    }

    async fn finish(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Hands every revision of a repository to the reconciler as soon as it is read, independently of
/// the result of the pass.
pub(crate) async fn follow(
    updater: Arc<ImageUpdater>,
    reconciler: Arc<Reconciler>,
    renderer: Arc<Renderer>,
    events: Recorder,
    stop: CancellationToken,
) {
    let mut revisions = updater.repo.revisions.subscribe();
    let mut work_lost = reconciler.work_lost();
    // The head that was reported as refused, and the revision that was handed over last.
    let (mut refused, mut last) = (None, None::<Arc<GitRevision>>);
    loop {
        let snapshot = revisions.borrow_and_update().clone();
        let deployable = match &snapshot {
            Some(snapshot) => verified(&updater, snapshot, &events, &mut refused).await,
            None => Ok(None),
        };
        let failed = deployable.is_err();
        if let Ok(Some((commit, declared))) = deployable {
            let (renderer, mirror) = (Arc::clone(&renderer), Arc::clone(&updater.repo.mirror));
            let before = last.take();
            let revision = blocking(move || match before {
                Some(before) => before.followed_by(commit),
                None => GitRevision::new(renderer, mirror, commit),
            });
            let revision = Arc::new(revision.await);
            last = Some(Arc::clone(&revision));
            reconciler.reconcile(
                &reconcile::RepositoryId::from(&updater.repo.config),
                &commit.to_string(),
                &declared,
                None,
                &(revision as Arc<RenderFn>),
            );
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = revisions.changed() => if changed.is_err() { return },
            Ok(()) = work_lost.changed() => {}
            () = tokio::time::sleep(VERIFY_AGAIN), if failed => {}
        }
    }
}

/// The wait before a head that could not be verified, because of a failure, is tried again.
const VERIFY_AGAIN: Duration = Duration::from_secs(60);

/// Returns the revision that may be deployed; reports a head that may not, once.
///
/// # Errors
/// If the head cannot be verified now; that is reported.
async fn verified(
    updater: &ImageUpdater,
    snapshot: &RepoSnapshot,
    events: &Recorder,
    reported: &mut Option<RefusedHead>,
) -> Result<Option<(ObjectId, Arc<Declarations>)>, GitError> {
    match updater.deployable(snapshot).await {
        Ok(DeployableRevision { revision, refused }) => {
            if let Some(refused) = &refused
                && reported.as_ref() != Some(refused)
            {
                let event = Event::warning(EventReason::RevisionRefused, refused.to_string())
                    .revision(Some(&refused.commit))
                    .hint(Some(RefusedHead::HINT));
                events.record(event);
            }
            *reported = refused;
            Ok(revision)
        }
        Err(error) => {
            let message = format!("cannot verify the head of the branch: {error}");
            let event = Event::error(EventReason::RevisionRefused, message)
                .revision(Some(&snapshot.commit.to_string()));
            events.record(event.hint(error.hint()));
            Err(error)
        }
    }
}

/// Reports the rollouts of merged pull requests to the forge of a repository.
pub(crate) fn report_rollouts(
    updater: &ImageUpdater,
    reconciler: &Arc<Reconciler>,
    events: Recorder,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let source = FleetSource::new(
        &updater.repo.config.name,
        Arc::clone(&updater.repo.mirror),
        updater.repo.revisions.subscribe(),
        Arc::clone(reconciler),
    );
    let (forge, merged) = (updater.forge.clone(), updater.merged.subscribe());
    async move {
        if let Some(forge) = forge {
            let timing = rollout::ReportTiming::default();
            rollout::report(Arc::new(source), forge, merged, timing, events, stop).await;
        }
    }
}

/// Waits for scans that went on beyond a pass. Those that end within a moment share the next pass.
async fn gathered(scans: &BackgroundScans) {
    scans.next_finished().await;
    tokio::time::sleep(GATHER).await;
}

/// Makes passes over one repository until the daemon stops.
async fn run_passes(
    updater: Arc<ImageUpdater>,
    scans: Arc<RepositoryScans>,
    events: Recorder,
    stop: CancellationToken,
) {
    let updater = &updater;
    let mut queue = ScanQueue::default();
    let mut findings = FindingEvents::default();
    // Failures of the config repository itself, in a row.
    let mut failures: u32 = 0;
    // Requests whose scans go on.
    let mut requests: Vec<ScanRequest> = Vec::new();
    loop {
        let now = Timestamp::now();
        let running = updater.background.repositories();
        let new = scans.take();
        let asked = new.iter().flat_map(|request| &request.images);
        let rescan = queue.rescan(asked.chain(&running), now);
        requests.extend(new);
        let mut report = {
            let mut pass = pin!(async {
                let _lock = updater.repo.lock.lock().await;
                updater.patient_pass(&rescan, PATIENCE, now).await
            });
            tokio::select! {
                biased;
                () = stop.cancelled() => match updater.end() {
                    // A push is under way, and its result has to be logged.
                    true => pass.await,
                    false => return,
                },
                report = &mut pass => report,
            }
        };
        // Before the findings are taken out of the report.
        let summary = (!requests.is_empty()).then(|| PassSummary::from(&report));
        pass_events::of(&report)
            .into_iter()
            .for_each(|event| events.record(event));
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = findings.record(&mut report, &events) => {}
        }
        queue.update(updater, &rescan, &report, now).await;
        scans.schedule(queue.next());
        let goes_on = |request: &ScanRequest| !request.images.is_disjoint(&report.running);
        let (waiting, done): (Vec<_>, Vec<_>) = requests.into_iter().partition(goes_on);
        requests = waiting;
        for (request, summary) in done.into_iter().zip(summary.iter().cycle()) {
            request.answer(summary.clone());
        }
        let is_own =
            |failure: &crate::update::FailureReport| failure.repository.is_none() && !failure.forge;
        failures = match report.failures.iter().any(is_own) {
            true => failures.saturating_add(1),
            false => 0,
        };
        let sleep = sleep_time(updater, &report, &queue, failures, Timestamp::now());
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = scans.requested() => {}
            () = gathered(&updater.background) => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}
