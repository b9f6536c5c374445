//! State of a pass: the types that its stages share.

use super::{
    EnvironmentReport, PassMode, ReleaseOrder, RequestReport, RequestState, Rescan, Scans,
    report::CommitReport,
};
use crate::{
    core::image::ImageRepository,
    io::{
        forge,
        git::{ObjectId, Person},
    },
    review::ChangeSet,
};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// State of a pass that survives a restart on a newer commit: registries are asked once, and
/// everything that was pushed stands in the report.
pub(crate) struct PassState<'p> {
    pub(crate) mode: PassMode,
    pub(crate) rescan: &'p Rescan,
    /// The longest wait for each registry; none waits for every scan.
    pub(crate) patience: Option<Duration>,
    /// A held version that a person has released; then the pass does nothing else.
    pub(crate) release: Option<&'p ReleaseOrder>,
    /// The start of the pass, from which ages in texts are counted.
    pub(crate) now: Timestamp,
    pub(crate) clock: PassClock,
    pub(crate) scans: Scans,
    /// Repositories that could not be scanned.
    pub(crate) failed: HashSet<ImageRepository>,
    /// Pushed commits by Environment.
    pub(super) pushed: BTreeMap<String, Vec<CommitReport>>,
    /// A push whose answer was lost, with its Environment. The next fetch shows whether it arrived.
    pub(super) unsure: Option<(ObjectId, String, CommitReport)>,
    pub(crate) requests: RequestPhase,
    pub(crate) progress: RequestProgress,
}

impl<'p> PassState<'p> {
    pub(super) fn new(mode: PassMode, rescan: &'p Rescan, now: Timestamp) -> Self {
        Self {
            mode,
            rescan,
            patience: None,
            release: None,
            now,
            clock: PassClock::new(now),
            scans: Scans::new(),
            failed: HashSet::new(),
            pushed: BTreeMap::new(),
            unsure: None,
            requests: RequestPhase::NotListed,
            progress: RequestProgress::default(),
        }
    }
}

/// The wall clock of a pass, for decisions that must not be made too late.
///
/// Registries, forges and clusters can take minutes. The elapsed time comes from a monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PassClock {
    start: Timestamp,
    since: Instant,
}

impl PassClock {
    pub(super) fn new(start: Timestamp) -> Self {
        Self {
            start,
            since: Instant::now(),
        }
    }

    pub(crate) fn now(self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.since.elapsed()).unwrap_or(SignedDuration::MAX);
        self.start.checked_add(elapsed).unwrap_or(Timestamp::MAX)
    }
}

/// The forge's pull requests, as far as a pass has read them.
pub(crate) enum RequestPhase {
    NotListed,
    /// The open ones, with the changes that this pass has made to them.
    Listed(Vec<forge::PullRequest>),
    Failed,
}

/// Work of a pass on pull requests, which survives a restart on a newer commit.
#[derive(Default)]
pub(crate) struct RequestProgress {
    /// State of those that still exist, by branch.
    pub(crate) states: BTreeMap<String, RequestState>,
    /// Pull requests that this pass merged or closed, with their Environment.
    pub(crate) ended: Vec<(String, RequestReport)>,
    /// Pushes of each branch.
    pub(crate) pushes: BTreeMap<String, u32>,
    /// New branches whose pull requests are not open yet.
    pub(crate) created: BTreeSet<String>,
    pub(crate) merged: BTreeSet<u64>,
    /// Answers of the forge about what a pull request waits for, with the head they are about and
    /// the end of the wait. The forge is asked once for each head in a pass.
    pub(crate) waiting: HashMap<u64, (ObjectId, Vec<String>, Option<Timestamp>)>,
}

/// The changes of one Environment, before anything is published.
pub(crate) struct PreparedEnvironment {
    pub(crate) report: EnvironmentReport,
    pub(crate) sets: Vec<Arc<ChangeSet>>,
    pub(crate) author: Option<Person>,
}

/// Outcome of one round through the pass.
pub(crate) enum PassStep {
    Done,
    /// A commit was pushed; there may be more to do.
    Pushed,
    /// The branch was moved by someone else.
    Conflict,
}
