//! The update pass, from the registries to a commit or a pull request.
//!
//! ```text
//! fetch ─▶ snapshot ─▶ list ─▶ scan ─▶ evaluate ─▶ edits ─▶ holds ─▶ change sets ─▶ commit and push, or pull request
//!             ▲                                                                      │ conflict, or pushed
//!             └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! [`ImageUpdater::pass`] is this picture, top to bottom. It is the same for `run`, `run --once`
//! and `plan`; `plan` stops before the last step.
//!
//! Belongs here: when registries, Git and the forge are asked, and in which order. Does not belong
//! here: how a tag is chosen or bytes change (`images`), and what a pull request says (`review`).
//! Git, files and CPU-bound work run in blocking tasks ([`blocking`]), never on the runtime's
//! workers. From the draft of a commit to the answer of its push nothing interrupts the pass.

mod commands;
mod commit;
mod confirm;
mod decision;
mod declared_names;
mod edits;
mod evaluate;
mod explain;
mod follower;
mod force_push;
pub(crate) mod history;
mod holds;
mod memo;
mod pass;
mod pass_state;
mod plan;
mod policy_status;
mod previews;
pub(crate) mod report;
mod requests;
mod scan;
pub(crate) mod snapshot;
mod verification;

pub use crate::images::scope::{EnvironmentScope, PolicyUsage, ReferencedFile, concerns};
pub use commands::release::ReleaseOrder;
pub use commands::rollback::{
    FileChangeKind, HeldVersion, RestoredFile, RevertedCommit, RollbackOutcome,
};
pub use commands::suspend::SuspendOutcome;
pub use commands::{
    CommandAuthor, CommandCommit, CommandError, DeclarationKind, DeclarationRef,
    DeclarationRefError,
};
pub use decision::PolicyDecision;
pub use declared_names::DeclaredNames;
pub use edits::rewrite_decision;
pub use explain::{ExplainedPolicy, explain};
pub use follower::RepoFollower;
pub use history::{HoldHistory, MoveFilter};
pub use memo::PassWork;
pub use policy_status::{
    ImageStatus, RecordedDecision, ScanFailure, image_statuses, record_scan, recorded_decisions,
};
pub use previews::Previews;
pub use report::{
    CommitReport, EnvironmentReport, EnvironmentState, FailureReport, LeftReport, PassReport,
    PolicyReport, RefusedReport, RequestReport, RequestState, RequestTotals,
};
pub use requests::facts::{FactsGatherer, FactsQuery, GatheredFacts, PATIENCE, wants};
pub use snapshot::{DeclarationScope, RepoSnapshot, SnapshotCache, declared_in, read};
pub use verification::{CommitVerifier, DeployableRevision, RefusedHead};

use crate::{
    core::{image::ImageRepository, name::Name},
    images::policy::{Holds, TagFacts},
    io::{
        blocking,
        facts::{BackgroundScans, RepositoryScan, Scanner},
        forge::Forge,
        git::{CommitSigner, GitError, Mirror, ObjectId},
    },
    review::rollout::MergedRequest,
    spec::{Declarations, Diagnostic, settings::ConfigRepository},
};
use commit::Publisher;
use confirm::ConfirmedChoices;
use force_push::RemovedUpdates;
use holds::HoldSources;
use jiff::Timestamp;
use memo::PassMemory;
use requests::{RequestContext, cache::SharedRequestCache};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::sync::watch;

/// Updates the images of one config repository.
pub struct ImageUpdater {
    pub repo: RepoFollower,
    pub scanner: Scanner,
    pub forge: Option<Arc<dyn Forge>>,
    verifier: Option<Arc<CommitVerifier>>,
    /// Previews for the texts of pull requests; set once, after the clusters are open.
    pub previews: OnceLock<Arc<dyn Previews>>,
    /// Pull requests merged within the last day whose commits the mirror has.
    pub merged: watch::Sender<Arc<[MergedRequest]>>,
    /// The scans of the present pass, for those who wait for it.
    pub scanned: watch::Sender<ScanProgress>,
    /// Scans that go on beyond their pass.
    pub background: Arc<BackgroundScans>,
    publisher: Publisher,
    history: Arc<tokio::sync::Mutex<HoldHistory>>,
    removed: Arc<tokio::sync::Mutex<RemovedUpdates>>,
    confirmed: Mutex<Confirmed>,
    /// The fingerprint of the decisions that the store has; 0 before the first pass.
    decided: AtomicU64,
    choices: ConfirmedChoices,
    memory: Arc<PassMemory>,
    linted: Mutex<Option<LintedSnapshot>>,
    requests: SharedRequestCache,
    /// Set when a pass shall end at its next safe point.
    ending: AtomicBool,
}

/// Purpose of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassMode {
    /// Commit and push.
    Write,
    /// Report what would be done.
    Plan,
}

/// Repositories of images that are listed again in a pass.
#[derive(Debug, Clone)]
pub enum Rescan {
    /// All that have references.
    All,
    /// These, and those that were never listed.
    Only {
        due: HashSet<ImageRepository>,
        /// After a failure: these are not listed even if they never were.
        backing_off: HashSet<ImageRepository>,
    },
}

/// The image repositories that a pass has scanned, of those it has to scan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanProgress {
    pub done: usize,
    pub total: usize,
}

/// Scans of a pass; repositories that could not be scanned are missing.
pub(crate) type Scans = HashMap<ImageRepository, RepositoryScan>;

/// Tags that registries have confirmed since their repositories were listed.
pub(crate) type Confirmed = HashMap<ImageRepository, HashMap<String, TagFacts>>;

/// The scopes and findings of the last revision.
#[derive(Clone)]
struct LintedSnapshot {
    /// Compared by their addresses, which they keep.
    declared: Weak<Declarations>,
    files: Weak<Vec<ReferencedFile>>,
    scopes: Vec<Arc<EnvironmentScope>>,
    findings: Vec<Diagnostic>,
}

impl LintedSnapshot {
    fn is_of(&self, snapshot: &RepoSnapshot) -> bool {
        self.declared.ptr_eq(&Arc::downgrade(&snapshot.declared))
            && self.files.ptr_eq(&Arc::downgrade(&snapshot.files))
    }
}

impl ImageUpdater {
    /// Creates an updater; nothing is sent.
    pub fn new(
        config: ConfigRepository,
        mirror: Mirror,
        index_folder: PathBuf,
        scanner: Scanner,
        signer: Option<CommitSigner>,
    ) -> Self {
        let repo = RepoFollower::new(config, mirror, index_folder);
        Self {
            publisher: Publisher::new(&repo.config, &repo.mirror, signer),
            repo,
            scanner,
            forge: None,
            verifier: None,
            previews: OnceLock::new(),
            merged: watch::Sender::new(Arc::default()),
            scanned: watch::Sender::default(),
            background: Arc::default(),
            history: Arc::default(),
            removed: Arc::default(),
            confirmed: Mutex::default(),
            decided: AtomicU64::default(),
            choices: ConfirmedChoices::default(),
            memory: Arc::default(),
            linted: Mutex::default(),
            requests: SharedRequestCache::default(),
            ending: AtomicBool::default(),
        }
    }

    /// Adds a forge that opens pull requests. The mirror must follow their branches, too
    /// ([`Mirror::with_branches`]).
    #[must_use]
    pub fn with_forge(self, forge: Arc<dyn Forge>) -> Self {
        Self {
            forge: Some(forge),
            ..self
        }
    }

    /// Deploys only verified revisions.
    #[must_use]
    pub fn with_verifier(self, verifier: CommitVerifier) -> Self {
        Self {
            verifier: Some(Arc::new(verifier)),
            ..self
        }
    }

    /// Returns the revision that may be deployed, where `snapshot` is the head of the branch: the
    /// head itself, unless the settings want verified commits.
    ///
    /// # Errors
    /// If an object of the mirror is missing.
    pub async fn deployable(
        &self,
        snapshot: &RepoSnapshot,
    ) -> Result<DeployableRevision, GitError> {
        match &self.verifier {
            Some(verifier) => {
                verifier
                    .deployable(&self.repo, &self.scanner.store, snapshot)
                    .await
            }
            None => Ok(DeployableRevision {
                revision: Some((snapshot.commit, Arc::clone(&snapshot.declared))),
                refused: None,
            }),
        }
    }

    /// Returns the head that was refused last, as long as it is the head.
    pub fn refused_head(&self) -> Option<RefusedHead> {
        self.verifier.as_ref()?.refused_head()
    }

    /// Returns why a commit may not be deployed, where a command names it; none if it may.
    ///
    /// # Errors
    /// If an object of the mirror is missing.
    pub async fn refusal_of(&self, commit: ObjectId) -> Result<Option<String>, GitError> {
        match &self.verifier {
            Some(verifier) => verifier.refusal_of(&self.repo, commit).await,
            None => Ok(None),
        }
    }

    /// Asks passes to end at their next safe point.
    ///
    /// Returns true if a pass is pushing or has pushed something that stands in no report yet: then
    /// it must be waited for. Any other pass can be dropped where it is.
    pub fn end(&self) -> bool {
        self.ending.store(true, Ordering::SeqCst);
        self.publisher.is_publishing()
    }

    /// Waits for pushes that are under way, also those whose command was dropped.
    ///
    /// After it the runtime can be shut down without waiting for other blocking tasks.
    pub async fn drain_pushes(&self) {
        self.publisher.drain().await;
    }

    /// Reads the head of the branch, and what people refused at the forge, for commands that show
    /// or lift holds.
    ///
    /// Failures of the forge stand in the report; then there may be more holds than are known.
    ///
    /// # Errors
    /// If the remote cannot be reached or the mirror is damaged.
    pub async fn refresh_for_holds(
        &self,
        now: Timestamp,
        report: &mut PassReport,
    ) -> Result<RepoSnapshot, GitError> {
        let snapshot = self.repo.refresh(&mut report.warnings).await?;
        self.observe_head(&snapshot, now, report).await;
        if let Some(context) = self.request_context() {
            requests::list::for_holds(context, &snapshot, report).await?;
        }
        Ok(snapshot)
    }

    /// Returns the holds of each policy of an Environment.
    ///
    /// # Errors
    /// If an object of the mirror is missing.
    pub async fn holds(
        &self,
        snapshot: &RepoSnapshot,
        scope: &Arc<EnvironmentScope>,
        now: Timestamp,
    ) -> Result<BTreeMap<Name, Holds>, GitError> {
        holds::read(self.hold_sources(), snapshot, scope, now).await
    }

    /// Commits `suspend: true` (or `false`) in a declaration, and nothing else.
    ///
    /// # Errors
    /// [`CommandError`]; then nothing was changed.
    pub async fn suspend(
        &self,
        declaration: &DeclarationRef,
        suspend: bool,
        commit: &CommandCommit,
        now: Timestamp,
    ) -> Result<SuspendOutcome, CommandError> {
        let (repo, publisher) = (&self.repo, &self.publisher);
        commands::suspend::suspend(repo, publisher, declaration, suspend, commit, now).await
    }

    /// Restores the folder of an Application as it was at `to`, a commit in the history of the
    /// branch; by default as it was before the last commit that changed the folder.
    ///
    /// Declarations below the folder stay as they are.
    ///
    /// # Errors
    /// [`CommandError`]; then nothing was changed.
    pub async fn roll_back(
        &self,
        application: &Name,
        to: Option<ObjectId>,
        commit: &CommandCommit,
        now: Timestamp,
    ) -> Result<RollbackOutcome, CommandError> {
        commands::rollback::roll_back(self, application, to, commit, now).await
    }

    /// Counts what the passes so far had to do. Lists are counted for all repositories together.
    pub fn work(&self) -> PassWork {
        self.memory.work(self.scanner.store.lists_read())
    }

    fn hold_sources(&self) -> HoldSources<'_> {
        HoldSources {
            repo: &self.repo,
            history: &self.history,
            removed: &self.removed,
            requests: &self.requests,
        }
    }

    /// Notes the updates that a force-push removed since the last pass.
    async fn observe_head(&self, snapshot: &RepoSnapshot, now: Timestamp, report: &mut PassReport) {
        let store = &self.scanner.store;
        let warnings = force_push::observe(&self.removed, &self.repo, store, snapshot, now).await;
        report.warnings.extend(warnings);
    }

    /// Returns the scope of each Environment, and all findings; made once for a revision.
    async fn lint(&self, snapshot: &RepoSnapshot) -> (Vec<Arc<EnvironmentScope>>, Vec<Diagnostic>) {
        let known = {
            let linted = self.linted.lock().unwrap_or_else(PoisonError::into_inner);
            linted.clone().filter(|linted| linted.is_of(snapshot))
        };
        if let Some(known) = known {
            return (known.scopes, known.findings);
        }
        let (scopes, findings) = snapshot.lint().await;
        let linted = LintedSnapshot {
            declared: Arc::downgrade(&snapshot.declared),
            files: Arc::downgrade(&snapshot.files),
            scopes: scopes.clone(),
            findings: findings.clone(),
        };
        *self.linted.lock().unwrap_or_else(PoisonError::into_inner) = Some(linted);
        (scopes, findings)
    }

    /// What the work on pull requests needs; none without a forge.
    fn request_context(&self) -> Option<RequestContext<'_>> {
        Some(RequestContext {
            repo: &self.repo,
            publisher: &self.publisher,
            scanner: &self.scanner,
            forge: self.forge.as_ref()?,
            previews: self.previews.get(),
            cache: &self.requests,
        })
    }
}
