//! The daemon: a loop for each config repository, a local socket for the commands, and a shutdown
//! that reaches a safe point.
//!
//! ```text
//! timers (scan due, Git poll, window, age) ─▶ pass ─▶ report ─▶ log, next timers
//! ```
//!
//! One updater works on one repository, one pass at a time; the loop sleeps until the first thing
//! that can have changed. A task that ends unasked ends the process.

use crate::{
    cli::{
        Exit, Failure, Screen,
        client::{self, Service, SocketReply, SocketRequest},
    },
    core::{image::ImageRepository, schedule::Schedule},
    io::render::Renderer,
    reconcile::{self, Reconciler},
    rollout::{self, FleetSource},
    service::engine::{Engine, ProcessContext},
    spec::{Diagnostic, ImagePolicy},
    update::{
        EnvironmentState, ImageUpdater, PassMode, PassReport, RepoSnapshot, RequestState, Rescan,
    },
};
use jiff::Timestamp;
use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

/// Back-off after trouble at a remote: from ten seconds, doubled each time, up to ten minutes.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// The shortest sleep between two passes, so that no clock or schedule makes a busy loop.
const SHORTEST: Duration = Duration::from_millis(200);

/// Questions answered at the same time.
const MOST_QUESTIONS: usize = 16;

/// The longest question taken over the socket.
const MOST_BYTES: u64 = 64 << 10;

/// Runs until a signal asks to stop.
///
/// # Errors
/// If the socket cannot be opened, or a task ends unasked.
pub async fn run(engine: Engine, context: &Arc<ProcessContext>) -> Result<Exit, Failure> {
    for warning in &engine.warnings {
        warn!("{warning}");
    }
    // Before anything can be pushed: from here on a signal is heard, however early it comes.
    let asked = signals();
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let socket = LocalSocket::open(&context.socket())?;
    let reconciler = context
        .reconciler(reconcile::ReconcileMode::Act, &stop)
        .await?;
    let names: Vec<&str> = engine
        .updaters
        .iter()
        .map(|updater| updater.config.name.as_str())
        .collect();
    let clusters: Vec<&str> = context
        .process
        .clusters
        .iter()
        .map(|cluster| cluster.name.as_str())
        .collect();
    info!(repositories = names.join(","), clusters = clusters.join(","), socket = %socket.path.display(), "tagboat {} runs", env!("CARGO_PKG_VERSION"));
    if let Some(reconciler) = &reconciler {
        reconciler.expect_repositories(names.iter().copied());
    }
    let mut ended = tokio::task::JoinSet::new();
    for updater in &engine.updaters {
        context
            .preview_with(updater, &engine.renderer, reconciler.as_deref())
            .await;
        ended.spawn(tasks.track_future(repository(Arc::clone(updater), stop.clone())));
        if let Some(reconciler) = &reconciler {
            let following = follow(
                Arc::clone(updater),
                Arc::clone(reconciler),
                Arc::clone(&engine.renderer),
                stop.clone(),
            );
            ended.spawn(tasks.track_future(following));
        }
        if let (Some(reconciler), true) = (&reconciler, updater.forge.is_some()) {
            ended.spawn(tasks.track_future(talk(updater, reconciler, stop.clone())));
        }
    }
    let desk = Arc::new(Service::new(context, &engine, reconciler.clone()));
    ended.spawn(tasks.track_future(serve(socket, desk, stop.clone())));
    let outcome = tokio::select! {
        biased;
        signal = asked => {
            info!("{signal}: stopping at a safe point");
            Ok(Exit::Done)
        }
        Some(result) = ended.join_next() => {
            error!("a task ended unasked: {result:?}");
            Err(Failure { exit: Exit::Partly, error: anyhow::anyhow!("a task ended unasked"), hint: Some("This is a defect of tagboat.".to_owned()) })
        }
    };
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    if let Some(reconciler) = &reconciler {
        reconciler.shut_down().await;
    }
    engine.scanner.store.flush()?;
    info!("stopped");
    outcome
}

/// Hands every revision of a repository to the reconciler as soon as it is read, whatever the pass
/// does with it.
pub(crate) async fn follow(
    updater: Arc<ImageUpdater>,
    reconciler: Arc<Reconciler>,
    renderer: Arc<Renderer>,
    stop: CancellationToken,
) {
    let mut revisions = updater.revisions.subscribe();
    loop {
        let world = revisions.borrow_and_update().clone();
        if let Some(RepoSnapshot {
            commit, declared, ..
        }) = world
        {
            let render =
                reconcile::from_git(Arc::clone(&renderer), Arc::clone(&updater.mirror), commit);
            reconciler.reconcile(
                &reconcile::RepositoryId::from(&updater.config),
                &commit.to_string(),
                &declared,
                None,
                &render,
            );
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = revisions.changed() => if changed.is_err() { return },
        }
    }
}

/// Tells the forge of a repository what became of merged requests on the clusters; without a forge
/// there is nothing to tell.
pub(crate) fn talk(
    updater: &ImageUpdater,
    reconciler: &Arc<Reconciler>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let worlds = updater.revisions.subscribe();
    let ground = FleetSource::new(
        &updater.config.name,
        Arc::clone(&updater.mirror),
        worlds,
        Arc::clone(reconciler),
    );
    let (forge, merged) = (updater.forge.clone(), updater.merged.subscribe());
    async move {
        if let Some(forge) = forge {
            rollout::report(
                Arc::new(ground),
                forge,
                merged,
                rollout::ReportTiming::default(),
                stop,
            )
            .await;
        }
    }
}

/// Listens for signals at once, and gives the first one.
fn signals() -> impl Future<Output = &'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let handlers = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    async move {
        let (Ok(mut terminate), Ok(mut interrupt)) = handlers else {
            // Without handlers the system's own answer to a signal holds: the process ends, and the
            // next start redoes.
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    }
}

/// The loop of one repository.
async fn repository(updater: Arc<ImageUpdater>, stop: CancellationToken) {
    let updater = &updater;
    let mut due = ScanQueue::default();
    let mut trouble: u32 = 0;
    let mut told = Vec::new();
    loop {
        let now = Timestamp::now();
        let rescan = due.rescan(now);
        let report = {
            let mut pass = pin!(async {
                let _turn = updater.turn.lock().await;
                updater.pass(PassMode::Write, &rescan, now).await
            });
            tokio::select! {
                biased;
                () = stop.cancelled() => match updater.end() {
                    // A push is under way: what becomes of it is told.
                    true => pass.await,
                    false => return,
                },
                report = &mut pass => report,
            }
        };
        log(&report, &mut told);
        due.scanned(updater, &rescan, &report, now);
        let ours = report
            .failures
            .iter()
            .any(|failure| failure.repository.is_none() && !failure.forge);
        trouble = if ours { trouble.saturating_add(1) } else { 0 };
        let next = wake(updater, &report, &due, trouble, Timestamp::now());
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(next) => {}
        }
    }
}

/// The times of one repository's scans.
#[derive(Debug, Clone, Copy)]
struct ScanTimes {
    last: Timestamp,
    next: Option<Timestamp>,
}

/// When which repository of images is scanned next.
#[derive(Debug, Default)]
struct ScanQueue {
    at: HashMap<ImageRepository, ScanTimes>,
    /// How often in a row a repository could not be scanned.
    trouble: HashMap<ImageRepository, u32>,
}

impl ScanQueue {
    /// What to scan now. The first pass scans everything that was not scanned lately by an earlier
    /// process.
    fn rescan(&self, now: Timestamp) -> Rescan {
        let due = self
            .at
            .iter()
            .filter(|(_, at)| at.next.is_some_and(|next| next <= now))
            .map(|(repository, _)| repository.clone());
        let due: HashSet<ImageRepository> = due.collect();
        let resting = self
            .trouble
            .keys()
            .filter(|repository| !due.contains(*repository))
            .cloned()
            .collect();
        Rescan::Only { due, resting }
    }

    /// Works out the next times, from the policies of the last pass. Each repository is scanned at
    /// the shortest wish, a little apart from the others; one in trouble when its registry says, or
    /// after its back-off.
    fn scanned(
        &mut self,
        updater: &ImageUpdater,
        rescan: &Rescan,
        report: &PassReport,
        now: Timestamp,
    ) {
        let Some(declared) = updater.declared() else {
            return;
        };
        let mut wishes: HashMap<&ImageRepository, Vec<&ImagePolicy>> = HashMap::new();
        for policy in declared.policies.values().filter(|policy| !policy.suspend) {
            wishes.entry(&policy.image).or_default().push(policy);
        }
        self.at
            .retain(|repository, _| wishes.contains_key(repository));
        self.trouble
            .retain(|repository, _| wishes.contains_key(repository));
        let mut failed: HashMap<&ImageRepository, Option<u64>> = HashMap::new();
        for failure in &report.failures {
            if let Some(repository) = &failure.repository {
                failed.insert(repository, failure.retry_after);
            }
        }
        for (repository, policies) in wishes {
            // A pass that did not come to the revision has scanned nothing.
            let just = report.revision.is_some()
                && match rescan {
                    Rescan::All => true,
                    Rescan::Only { due, .. } => due.contains(repository),
                };
            if let Some(asked) = failed.get(repository) {
                let times = self.trouble.entry(repository.clone()).or_default();
                *times = times.saturating_add(1);
                let wait = asked.map_or_else(
                    || back_off(*times),
                    |seconds| Duration::from_secs(seconds).max(SHORTEST),
                );
                self.at.insert(
                    repository.clone(),
                    ScanTimes {
                        last: now,
                        next: now.checked_add(wait).ok(),
                    },
                );
                continue;
            }
            let last = match self.at.get(repository) {
                _ if just => now,
                // Its next time is the end of its back-off.
                Some(_) if self.trouble.contains_key(repository) => continue,
                Some(known) => known.last,
                // What an earlier process scanned keeps its time; the first pass scanned what it
                // did not know.
                None => updater
                    .scanner
                    .last(repository)
                    .ok()
                    .flatten()
                    .map_or(now, |(_, fetched)| fetched),
            };
            self.trouble.remove(repository);
            // Worked out anew each time: a person may have declared another interval.
            let next = policies
                .iter()
                .filter_map(|policy| {
                    policy
                        .scan
                        .next(last)
                        .map(|at| spread(repository, &policy.scan, at))
                })
                .min();
            self.at.insert(repository.clone(), ScanTimes { last, next });
        }
    }

    fn first(&self) -> Option<Timestamp> {
        self.at.values().filter_map(|at| at.next).min()
    }
}

/// Moves a time of an interval by up to a tenth of it, the same for a repository every time, so
/// that a thousand repositories are not scanned in one second. Cron lines mean what they say.
fn spread(repository: &ImageRepository, schedule: &Schedule, at: Timestamp) -> Timestamp {
    let Schedule::Every(interval) = schedule else {
        return at;
    };
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hash = DefaultHasher::new();
    repository.hash(&mut hash);
    let tenth = u64::try_from(interval.as_millis() / 10)
        .unwrap_or(u64::MAX)
        .max(1);
    at.checked_sub(Duration::from_millis(hash.finish() % tenth))
        .unwrap_or(at)
}

/// How long to sleep: until the first scan, the Git poll, a window or an age; after trouble with
/// the config repository itself at least the back-off.
fn wake(
    updater: &ImageUpdater,
    report: &PassReport,
    due: &ScanQueue,
    trouble: u32,
    now: Timestamp,
) -> Duration {
    let until =
        |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO);
    let mut sleep = updater.config.interval;
    let ages = report
        .environments
        .iter()
        .flat_map(|environment| &environment.policies)
        .filter_map(|policy| policy.free_at);
    let windows = report
        .environments
        .iter()
        .filter_map(|environment| environment.until);
    for at in due.first().into_iter().chain(ages).chain(windows) {
        sleep = sleep.min(until(at));
    }
    if trouble > 0 {
        sleep = sleep.max(back_off(trouble));
    }
    sleep.max(SHORTEST)
}

/// The wait after so many times of trouble in a row.
fn back_off(trouble: u32) -> Duration {
    BACK_OFF
        .0
        .saturating_mul(1 << trouble.saturating_sub(1).min(6))
        .min(BACK_OFF.1)
}

/// One line for each thing that happened. An unchanged world says nothing at the usual level:
/// findings that the last pass `told` already are not told again.
fn log(report: &PassReport, told: &mut Vec<Diagnostic>) {
    let repository = report.repository.as_str();
    for environment in &report.environments {
        for commit in environment
            .commits
            .iter()
            .filter(|commit| commit.id.is_some())
        {
            let subject = commit.message.lines().next().unwrap_or_default();
            info!(
                repository,
                environment = environment.name,
                commit = commit.id,
                "{subject}"
            );
        }
        for request in environment
            .requests
            .iter()
            .filter(|request| request.state.is_change())
        {
            let why = request.waits.join(" ");
            info!(
                repository,
                environment = environment.name,
                request = request.url,
                why,
                "{}: {}",
                request.state.as_str(),
                request.title
            );
        }
        for request in environment
            .requests
            .iter()
            .filter(|request| request.state == RequestState::Stopped)
        {
            tracing::debug!(
                repository,
                environment = environment.name,
                request = request.url,
                "stopped: {}",
                request.waits.join(" ")
            );
        }
        match environment.state {
            EnvironmentState::WindowClosed => info!(
                repository,
                environment = environment.name,
                until = environment.until.map(tracing::field::display),
                "changes wait for a window"
            ),
            EnvironmentState::Failed => warn!(
                repository,
                environment = environment.name,
                "changes could not be published"
            ),
            _ => {}
        }
    }
    for warning in &report.warnings {
        warn!(repository, "{warning}");
    }
    for finding in report
        .findings
        .iter()
        .filter(|finding| !told.contains(finding))
    {
        warn!(repository, place = %finding.place, severity = %finding.severity, "{}", finding.message);
    }
    // A pass that did not come to read the revision has found nothing.
    if report.revision.is_some() {
        told.clone_from(&report.findings);
    }
    for failure in &report.failures {
        error!(repository, kind = %failure.kind, hint = failure.hint, "{}", failure.message);
    }
    tracing::debug!(
        repository,
        revision = report.revision,
        listings = report.requests.listings,
        heads = report.requests.heads,
        "pass done"
    );
}

/// The local socket; its file goes with it.
struct LocalSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl LocalSocket {
    /// Opens it for the owner alone. A file left by a process that died is taken over; the store's
    /// lock has made sure that no other daemon is there.
    fn open(path: &Path) -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::input(format!("socket {}: {error}", path.display()));
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .map_err(failed)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve(socket: LocalSocket, desk: Arc<Service>, stop: CancellationToken) {
    let mut asked = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = socket.listener.accept(), if asked.len() < MOST_QUESTIONS => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!("the local socket: {error}");
                    tokio::time::sleep(SHORTEST).await;
                    continue;
                }
            },
            Some(_) = asked.join_next() => continue,
        };
        let desk = Arc::clone(&desk);
        asked.spawn(async move {
            match answer(stream, &desk).await {
                Ok(()) => {}
                // Whoever asked has gone away, as people do.
                Err(error) if is_gone(&error) => {
                    tracing::debug!("a question over the local socket: {error}")
                }
                Err(error) => warn!("a question over the local socket: {error}"),
            }
        });
    }
}

/// Whether nobody listens to the answer any more.
fn is_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}

/// Answers a question; whoever asked hears of the progress meanwhile, and ends the work by going
/// away.
async fn answer(stream: UnixStream, desk: &Service) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read.take(MOST_BYTES));
    let mut line = String::new();
    tokio::time::timeout(Duration::from_secs(10), read.read_line(&mut line)).await??;
    let SocketRequest {
        query,
        repository,
        json,
        color,
    } = serde_json::from_str(&line)?;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut screen = Screen::collecting(client::output(json), color, Some(tell));
    let desk = desk.only(repository.as_deref());
    let line = |said: &SocketReply| serde_json::to_string(said).map(|text| text + "\n");
    let exit = {
        let mut work = pin!(client::answer(&desk, &query, &mut screen));
        loop {
            tokio::select! {
                biased;
                Some(progress) = told.recv() => write.write_all(line(&SocketReply::Progress(progress))?.as_bytes()).await?,
                exit = &mut work => break exit,
            }
        }
    };
    let exit = match exit {
        Ok(exit) => exit,
        Err(failure) => {
            screen.failure(&failure);
            failure.exit
        }
    };
    let answered = SocketReply::Answer {
        kept: screen.into_kept(),
        exit: exit as u8,
    };
    write.write_all(line(&answered)?.as_bytes()).await
}
