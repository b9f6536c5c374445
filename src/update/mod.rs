//! Pass A, from registry to commit or request.
//!
//! ```text
//! fetch ─▶ world ─▶ list ─▶ scans ─▶ decide ─▶ edits ─▶ holds ─▶ change sets ─▶ commit and push, or review
//!            ▲                                                                    │ conflict, or pushed
//!            └────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! [`ImageUpdater::pass`] is this picture, top to bottom. It is the same for `run`, `run --once` and
//! `plan`; `plan` stops before the last step. What blocks (Git, files) runs on a thread of its own,
//! and from drafting a commit to the answer of its push nothing can interrupt it.

mod commands;
mod plan;
pub(crate) mod history;
mod previews;
mod commit;
pub(crate) mod report;
mod requests;
mod scan;
pub(crate) mod snapshot;

pub use crate::images::scope::{EnvironmentScope, PolicyDecision, PolicyUsage, concerns, decision};
pub use commands::release::ReleaseOutcome;
pub use commands::rollback::{
    FileChangeKind, HeldVersion, RestoredFile, RollbackOutcome, UndoneMove,
};
pub use commands::suspend::SuspendOutcome;
pub use commands::{CommandError, DeclarationKind, DeclarationRef, DeclarationRefError};
pub use history::{HoldHistory, MoveFilter};
pub use previews::Previews;
pub use report::{
    CommitReport, EnvironmentReport, EnvironmentState, FailureReport, LeftReport, PassReport,
    PolicyReport, RefusedReport, RequestReport, RequestState, RequestTotals,
};
pub use requests::facts::{FactsGatherer, FactsQuery, GatheredFacts, PATIENCE, wants};
pub use snapshot::{ReferencedFile, RepoSnapshot, SnapshotCache, declared_in, read};

use crate::{
    core::{error::ErrorKind, image::ImageRepository},
    images::{lint, policy::TagFacts},
    io::{
        facts::{RepositoryScan, Scanner},
        forge::Forge,
        git::{self, CommitSigner, GitError, Mirror, Person},
        registry::RequestKind,
    },
    review::{ChangeSet, CommitMessage, rollout::MergedRequest},
    spec::{Declarations, WriteMode, settings::ConfigRepository},
};
use commit::{PublishOutcome, gate, undone};
use jiff::{SignedDuration, Timestamp};
use requests::cache::RequestCache;
use requests::{RequestsDone, RequestsPhase};
use scan::confirmed;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Repositories scanned at once; each registry has its own bound beside that.
const SCANS: usize = 16;

/// How often a pass begins again because somebody else pushed first. A branch that moves ten times
/// while one pass needs a second is left to the next pass.
const ATTEMPTS: u32 = 10;

/// One config repository with all that a pass needs.
pub struct ImageUpdater {
    /// What the process file says of it.
    pub config: ConfigRepository,
    /// The mirror.
    pub mirror: Arc<Mirror>,
    /// The folder of the index files.
    pub folder: PathBuf,
    /// Registries and store.
    pub scanner: Scanner,
    /// Signs commits.
    pub key: Option<Arc<CommitSigner>>,
    /// Opens requests.
    pub forge: Option<Arc<dyn Forge>>,
    /// Says what a change does on clusters, for the texts of requests; nobody until somebody is
    /// set.
    pub previews: OnceLock<Arc<dyn Previews>>,
    /// Held by whoever works on the repository: a pass and a question never do at the same time.
    pub turn: Arc<tokio::sync::Mutex<()>>,
    /// Every revision that was read, as soon as it was.
    pub revisions: tokio::sync::watch::Sender<Option<RepoSnapshot>>,
    /// The requests merged within the last day whose commits the mirror has.
    pub merged: tokio::sync::watch::Sender<Arc<[MergedRequest]>>,
    memory: Arc<Mutex<(SnapshotCache, HoldHistory)>>,
    confirmed: Mutex<Confirmed>,
    known: Arc<Mutex<RequestCache>>,
    /// Whether the pass under way pushes or has pushed something, which its report has yet to tell.
    publishing: AtomicBool,
    /// Whether a pass shall end at its next safe point.
    ending: AtomicBool,
}

/// What a pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassMode {
    /// Commit and push.
    Write,
    /// Say what would be done.
    Plan,
}

/// Which repositories are listed anew.
#[derive(Debug, Clone)]
pub enum Rescan {
    /// All that have references.
    All,
    /// These, and those never listed.
    Only {
        /// These.
        due: HashSet<ImageRepository>,
        /// In trouble: not even if they were never listed.
        resting: HashSet<ImageRepository>,
    },
}

/// What one pass knows of repositories; repositories that could not be scanned are missing.
pub(crate) type Scans = HashMap<ImageRepository, RepositoryScan>;

/// What registries have confirmed of single tags since their repositories were listed.
pub(crate) type Confirmed = HashMap<ImageRepository, HashMap<String, TagFacts>>;

/// How many confirmed tags of a repository are kept between its scans: three policies' clocks. With
/// more it is asked again, so that memory stays small.
const MOST_CONFIRMED: usize = 64;

/// What a pass keeps when it begins again on a newer commit: registries are asked once, and what
/// was pushed is told.
pub(crate) struct PassState<'p> {
    mode: PassMode,
    rescan: &'p Rescan,
    /// When it began; what it says of ages is said of this moment.
    now: Timestamp,
    clock: PassClock,
    scans: Scans,
    /// Repositories that could not be scanned.
    failed: HashSet<ImageRepository>,
    /// Commits that were pushed, by Environment.
    pushed: BTreeMap<String, Vec<CommitReport>>,
    /// A push whose answer was lost, with its Environment: the next fetch shows what became of it.
    unsure: Option<(git::ObjectId, String, CommitReport)>,
    /// The forge's requests.
    requesting: RequestsPhase,
    /// What was done with requests.
    done: RequestsDone,
}

/// Says what time it is by now, for what must not be done too late: registries, forges and clusters
/// can take minutes. The time that goes by within a pass is taken from a clock that only goes
/// forward.
#[derive(Debug, Clone, Copy)]
struct PassClock {
    at: Timestamp,
    since: Instant,
}

impl PassClock {
    fn new(at: Timestamp) -> Self {
        Self {
            at,
            since: Instant::now(),
        }
    }

    fn now(self) -> Timestamp {
        let gone = SignedDuration::try_from(self.since.elapsed()).unwrap_or(SignedDuration::MAX);
        self.at.checked_add(gone).unwrap_or(Timestamp::MAX)
    }
}

/// The changes of one Environment, before anything is published.
pub(crate) struct PreparedEnvironment {
    report: EnvironmentReport,
    sets: Vec<ChangeSet>,
    person: Option<Person>,
}

impl ImageUpdater {
    /// Puts an updater together. Nothing is sent.
    pub fn new(
        config: ConfigRepository,
        mirror: Mirror,
        folder: PathBuf,
        scanner: Scanner,
        key: Option<CommitSigner>,
    ) -> Self {
        Self {
            config,
            mirror: Arc::new(mirror),
            folder,
            scanner,
            key: key.map(Arc::new),
            forge: None,
            previews: OnceLock::new(),
            turn: Arc::default(),
            revisions: tokio::sync::watch::Sender::new(None),
            merged: tokio::sync::watch::Sender::new(Arc::default()),
            memory: Arc::default(),
            confirmed: Mutex::default(),
            known: Arc::default(),
            publishing: AtomicBool::default(),
            ending: AtomicBool::default(),
        }
    }

    /// The same with a forge that opens requests. The mirror must follow their branches, too
    /// ([`Mirror::with_branches`]).
    #[must_use]
    pub fn with_forge(self, forge: Arc<dyn Forge>) -> Self {
        Self {
            forge: Some(forge),
            ..self
        }
    }

    /// Asks passes to end. Gives whether one is at a push or has done one: then it must be waited
    /// for, and ends before it does more. Any other can be dropped where it is.
    pub fn end(&self) -> bool {
        self.ending.store(true, Ordering::SeqCst);
        self.publishing.load(Ordering::SeqCst)
    }

    /// One pass. Never fails as a whole: what went wrong stands in the report beside what went
    /// well.
    pub async fn pass(&self, mode: PassMode, rescan: &Rescan, now: Timestamp) -> PassReport {
        let mut report = PassReport {
            repository: self.config.name.clone(),
            ..PassReport::default()
        };
        let before = self.scanner.registries.stats();
        let (scans, failed, pushed, unsure) = Default::default();
        let (requesting, done) = (RequestsPhase::Unasked, RequestsDone::default());
        let mut pass = PassState {
            mode,
            rescan,
            now,
            clock: PassClock::new(now),
            scans,
            failed,
            pushed,
            unsure,
            requesting,
            done,
        };
        let (mut conflicts, mut rebuilt) = (0, false);
        while !self.ending.load(Ordering::SeqCst) {
            let step = match self.world(&mut report).await {
                Ok(world) => self.once(&world, &mut pass, &mut report).await,
                Err(error) => Err(error),
            };
            match step {
                Ok(PassStep::Done) => break,
                // Later sets build on this commit, so the world is read again; nothing is scanned
                // again.
                Ok(PassStep::Pushed) => conflicts = 0,
                Ok(PassStep::Conflict) if conflicts < ATTEMPTS => {
                    conflicts += 1;
                    tokio::time::sleep(jitter(conflicts)).await;
                }
                Ok(PassStep::Conflict) => {
                    report.failures.push(FailureReport {
                        kind: ErrorKind::Conflict,
                        message: format!(
                            "{}: somebody else pushed first, {ATTEMPTS} times in a row",
                            self.mirror.remote().shown()
                        ),
                        hint: Some("The next pass tries again.".to_owned()),
                        repository: None,
                        retry_after: None,
                        forge: false,
                    });
                    break;
                }
                // The mirror is a cache.
                Err(error @ GitError::Broken { .. }) if !rebuilt => {
                    rebuilt = true;
                    report
                        .warnings
                        .push(format!("{error}; the mirror is cloned anew"));
                    if let Err(error) = self.forget().await {
                        report.failures.push(FailureReport::new(&error));
                        break;
                    }
                }
                Err(error) => {
                    report.failures.push(FailureReport::new(&error));
                    break;
                }
            }
        }
        self.publishing.store(false, Ordering::SeqCst);
        if report.failures.is_empty()
            && let Err(error) = self.compact().await
        {
            report.warnings.push(error.to_string());
        }
        if let Some(head) = self.mirror.head()
            && self.forge.is_some()
            && let Err(error) = self.tell_merged(head, now)
        {
            report.warnings.push(error.to_string());
        }
        let PassState {
            mut pushed,
            scans,
            done,
            ..
        } = pass;
        *self
            .confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) =
            scans.into_iter().filter_map(confirmed).collect();
        // A pass that ended in trouble may not have come to the rows of what it had pushed.
        for name in pushed.keys() {
            if !report
                .environments
                .iter()
                .any(|environment| environment.name == *name)
            {
                report
                    .environments
                    .push(EnvironmentReport::new(name, EnvironmentState::Committed));
            }
        }
        for (name, request) in done.ended {
            requests::add(&mut report, &name, vec![request]);
        }
        report
            .environments
            .sort_by(|left, right| left.name.cmp(&right.name));
        for environment in &mut report.environments {
            if let Some(mut commits) = pushed.remove(&environment.name) {
                commits.append(&mut environment.commits);
                environment.commits = commits;
                if matches!(
                    environment.state,
                    EnvironmentState::UpToDate | EnvironmentState::Unknown
                ) {
                    environment.state = EnvironmentState::Committed;
                }
            }
        }
        let after = self.scanner.registries.stats();
        report.requests.listings = after.total(RequestKind::Tags) - before.total(RequestKind::Tags);
        report.requests.heads = after.total(RequestKind::Head) - before.total(RequestKind::Head);
        report.requests.registry = after.all() - before.all();
        report
    }

    /// One walk through the picture. Commits that were pushed are noted in `pass` at once, so that
    /// no later trouble hides them.
    async fn once(
        &self,
        world: &RepoSnapshot,
        pass: &mut PassState<'_>,
        report: &mut PassReport,
    ) -> Result<PassStep, GitError> {
        report.revision = Some(world.commit.to_string());
        if let Some((commit, environment, row)) = pass.unsure.take()
            && self.mirror.contains(world.commit, commit)?
        {
            pass.pushed.entry(environment).or_default().push(row);
        }
        report.environments.clear();
        let (locals, found) = lint::find(&world.declared, &world.files);
        report.findings = found;
        self.list(world, pass, report).await?;
        self.scan(&locals, pass, report).await;
        let mut all = Vec::new();
        for local in &locals {
            all.push(self.prepare(world, local, pass, report).await?);
        }
        let via_commit = |prepared: &PreparedEnvironment| {
            world
                .declared
                .environments
                .get(&prepared.report.name)
                .is_none_or(|known| known.via == WriteMode::Commit)
        };
        // Requests are made on the target as it is after the commits.
        let (committed, reviewed): (Vec<_>, Vec<_>) = all.into_iter().partition(via_commit);
        for PreparedEnvironment {
            report: mut environment,
            sets,
            person,
        } in committed
        {
            // Where nothing changes, nothing waits.
            let shut = !sets.is_empty()
                && gate(
                    world.declared.environments.get(&environment.name),
                    pass.clock.now(),
                    &mut environment,
                );
            let blocked = shut || self.in_doubt(&sets, &mut environment, report);
            for set in sets {
                let message = match CommitMessage::new(self.config.message.clone()).of(&set) {
                    Ok(message) => message,
                    Err(error) => {
                        environment.state = EnvironmentState::Failed;
                        report.failures.push(FailureReport::new(&error));
                        break;
                    }
                };
                let planned = CommitReport {
                    id: None,
                    message,
                    images: set.moves.clone(),
                    files: set.files.clone(),
                };
                if blocked || pass.mode == PassMode::Plan {
                    if !blocked {
                        environment.state = EnvironmentState::Planned;
                    }
                    environment.commits.push(planned);
                    continue;
                }
                let done = pass.pushed.get(&environment.name);
                if done.is_some_and(|done| done.iter().any(|commit| commit.images == set.moves)) {
                    environment.state = EnvironmentState::Failed;
                    report
                        .failures
                        .push(undone(self.mirror.remote().shown(), &planned));
                    environment.commits.push(planned);
                    break;
                }
                match self
                    .publish(&set, &planned.message, person.as_ref(), pass.now)
                    .await
                {
                    Ok(PublishOutcome::Done(commit)) => {
                        let commit = CommitReport {
                            id: Some(commit.to_string()),
                            ..planned
                        };
                        pass.pushed
                            .entry(environment.name.clone())
                            .or_default()
                            .push(commit);
                        return Ok(PassStep::Pushed);
                    }
                    Ok(PublishOutcome::Unsure(commit)) => {
                        let row = CommitReport {
                            id: Some(commit.to_string()),
                            ..planned
                        };
                        pass.unsure = Some((commit, environment.name.clone(), row));
                        return Ok(PassStep::Conflict);
                    }
                    Ok(PublishOutcome::Conflict) => return Ok(PassStep::Conflict),
                    Ok(PublishOutcome::Refused(refusal)) => {
                        environment.state = EnvironmentState::Failed;
                        report.failures.push(FailureReport::new(&refusal));
                        environment.commits.push(planned);
                        break;
                    }
                    Err(error @ GitError::Broken { .. }) => return Err(error),
                    Err(error) => {
                        environment.state = EnvironmentState::Failed;
                        report.failures.push(FailureReport::new(&error));
                        environment.commits.push(planned);
                        break;
                    }
                }
            }
            report.environments.push(environment);
        }
        self.review(world, reviewed, pass, report).await
    }

    /// Forgets the mirror with everything that was read from it.
    async fn forget(&self) -> Result<(), GitError> {
        let (mirror, memory) = (Arc::clone(&self.mirror), Arc::clone(&self.memory));
        blocking(move || {
            *memory.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
            mirror.rebuild()
        })
        .await
    }

    /// Keeps the mirror small; a look at a folder most of the time.
    async fn compact(&self) -> Result<(), GitError> {
        let mirror = Arc::clone(&self.mirror);
        blocking(move || mirror.compact().map(drop)).await
    }

    /// Fetches, and reads the revision.
    async fn world(&self, report: &mut PassReport) -> Result<RepoSnapshot, GitError> {
        report.requests.ls_refs += 1;
        let (mirror, memory) = (Arc::clone(&self.mirror), Arc::clone(&self.memory));
        let (policies, folder) = (self.config.policies.clone(), self.folder.clone());
        let (world, warnings) = blocking(move || {
            let head = mirror.fetch()?;
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            read(
                &mirror,
                head.commit,
                policies.as_deref(),
                &folder,
                &mut memory.0,
            )
        })
        .await?;
        report.warnings.extend(warnings);
        self.revisions.send_if_modified(|known| {
            let news = known
                .as_ref()
                .is_none_or(|known| known.commit != world.commit);
            if news {
                *known = Some(world.clone());
            }
            news
        });
        Ok(world)
    }

    /// What another commit declares, for commands that look at one by its id. Nothing of it is
    /// remembered.
    ///
    /// # Errors
    /// If an object of the mirror is missing.
    pub async fn declared_at(&self, commit: git::ObjectId) -> Result<Declarations, GitError> {
        let (mirror, policies) = (Arc::clone(&self.mirror), self.config.policies.clone());
        blocking(move || snapshot::declared_at(&mirror, commit, policies.as_deref())).await
    }

    /// What the revision of the last pass declares.
    pub fn declared(&self) -> Option<Arc<Declarations>> {
        self.memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .declared()
    }

    /// Reads the revision that the remote has now, for commands that only look.
    ///
    /// # Errors
    /// If the remote cannot be asked or the mirror is damaged.
    pub async fn look(&self, report: &mut PassReport) -> Result<RepoSnapshot, GitError> {
        self.world(report).await
    }

    /// The same for those that show holds or lift them: what people refused at the forge is learnt,
    /// as in a pass. What goes wrong there stands in the report; then there may be more holds than
    /// are known.
    ///
    /// # Errors
    /// If the remote cannot be asked or the mirror is damaged.
    pub async fn look_for_holds(&self, report: &mut PassReport) -> Result<RepoSnapshot, GitError> {
        let world = self.world(report).await?;
        self.learn_for_holds(&world, report).await?;
        Ok(world)
    }
}

/// How one walk ended.
pub(crate) enum PassStep {
    /// Nothing is left to do.
    Done,
    /// A commit was pushed; there may be more to do.
    Pushed,
    /// Somebody else has moved the branch.
    Conflict,
}

/// Runs what blocks on a thread of its own. A panic there is a panic here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("blocking tasks are never cancelled"),
        },
    }
}

/// A pause that grows with the attempts and differs between processes: up to 50 ms, 100 ms, …, half
/// a second.
fn jitter(attempt: u32) -> Duration {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    Duration::from_millis(random % u64::from(50 * attempt.min(10)))
}
