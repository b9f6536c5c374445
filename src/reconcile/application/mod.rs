//! One Application on its cluster: a task that sleeps until something concerns it, looks at
//! everything anew, and does what is to be done. It holds no worker while it waits, and nothing
//! while nothing changes.
//!
//! ```text
//! job ─▶ read ─▶ listed? ─▶ dependencies? ─▶ look ─▶ send ─▶ prune ─▶ health ─▶ outcome ─▶ sleep
//!                                             ▲                                            │
//!                                             └──────── an event, a timer, a job ◀─────────┘
//! ```

pub(crate) mod accept;
pub(crate) mod apply;
pub(crate) mod assess;
pub(crate) mod inventory;
pub(crate) mod options;
pub(crate) mod outcome;

use super::{
    ApplicationHandle, ApplicationRequest, ReconcileContext, RepositoryId,
    application::{
        assess::{Assessment, FailedObject, RepairBackoff},
        options::ReconcileOptions,
    },
    cluster_state::{
        ClusterHandle, Trouble, Unlisted,
        observed::{self, WatchedManifest},
    },
    context::ApplicationPlace,
    permits::WorkPermit,
    status::{ApplicationState, ApplicationStatus, Message},
};
use crate::{
    core::{
        error::{Classify, ErrorKind},
        name::Name,
    },
    io::{
        cluster::{ApplicationRecord, ClusterError, RequestIdentity},
        render::Rendered,
    },
    objects::{
        object::ObjectKey,
        plan::{
            DesiredObject, Inventory, KindAtomicFields, RefusedObject, RolloutHistory,
            RolloutOutcome, ValueHash,
        },
    },
    spec::Application,
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tracing::{info, warn};

/// What an Application is to do.
#[derive(Debug)]
pub(crate) enum Work {
    /// Bring this about.
    Apply(Box<AcceptedRevision>),
    /// The same as before, at another revision.
    Same { revision: String },
    /// It could not be read at this revision; what was read before stays in force.
    Broken { revision: String, row: Message },
    /// It rests.
    Suspend { revision: String },
    /// Nobody declares it any more; with why that is not believed without a yes.
    Gone {
        revision: String,
        doubt: Option<String>,
    },
}

impl Work {
    /// The revision it comes from.
    pub(crate) fn revision(&self) -> &str {
        match self {
            Work::Apply(read) => &read.revision,
            Work::Same { revision }
            | Work::Broken { revision, .. }
            | Work::Suspend { revision }
            | Work::Gone { revision, .. } => revision,
        }
    }

    /// The job that stands for both this one and one that nobody has taken up: what is the same as
    /// before is the same as what is waiting.
    pub fn after(self, waiting: Option<Self>) -> Self {
        match (self, waiting) {
            (Work::Same { revision }, Some(Work::Apply(waiting))) => {
                Work::Apply(Box::new(AcceptedRevision {
                    revision,
                    ..*waiting
                }))
            }
            (job, _) => job,
        }
    }
}

/// An Application at a revision, rendered.
#[derive(Debug)]
pub(crate) struct AcceptedRevision {
    pub application: Application,
    pub revision: String,
    pub rendered: Arc<Rendered>,
}

/// What is being brought about.
pub(crate) struct Target {
    pub terms: ReconcileOptions,
    pub revision: String,
    pub desired: Vec<DesiredObject>,
    pub refused: Vec<RefusedObject>,
    pub notes: Vec<Message>,
    /// Stands for all manifests.
    pub rendered: ValueHash,
    /// When it has failed, if it is not healthy by then.
    pub deadline: Instant,
    /// Whether the Application is gone, and its objects are to go.
    pub deleting: bool,
    /// Whether its outcome was told.
    pub told: Option<RolloutOutcome>,
    /// Whether what others depend on was there once.
    pub released: bool,
    /// What it was read from, as long as the cluster does not serve all its kinds.
    pub unplaced: Option<Box<(Application, Arc<Rendered>)>>,
}

/// The task of one Application.
pub(crate) struct AppReconciler {
    pub name: Name,
    pub repository: Arc<RepositoryId>,
    pub hub: Arc<ClusterHandle>,
    pub shared: Arc<ReconcileContext>,
    pub handle: ApplicationHandle,
    pub status: ApplicationStatus,
    pub(crate) job: Option<Work>,
    /// Whether the name on this cluster is this repository's.
    seated: bool,
    pub(crate) current: Option<Target>,
    pub(crate) record: Option<ApplicationRecord>,
    pub(crate) loaded: bool,
    /// Whether the inventory could not be read.
    pub(crate) lost: bool,
    pub(crate) inventory: Inventory,
    pub(crate) history: RolloutHistory,
    /// Whether the record in the cluster is behind.
    pub(crate) dirty: bool,
    pub(crate) failing: HashMap<ObjectKey, FailedObject>,
    pub(crate) pace: HashMap<ObjectKey, RepairBackoff>,
    pub(crate) deleting: HashSet<ObjectKey>,
    /// Kinds that cannot be watched: nothing is known of their objects.
    pub(crate) unlisted: Unlisted,
    pub(crate) broken: Option<Message>,
    /// What waits for a yes, as it was last logged.
    pub(crate) asked: Option<Message>,
    /// Until when a server may still do what it was sent, and gave no answer to.
    pub(crate) answerable: Instant,
    /// How often in a row the cluster itself could not be asked.
    down: u32,
    pub(crate) reasons: outcome::WaitReasons,
}

/// Back-off after trouble: from one second, doubled each time, up to five minutes.
pub(crate) const BACK_OFF: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(300));

pub(crate) fn back_off(times: u32) -> Duration {
    BACK_OFF
        .0
        .saturating_mul(1 << times.saturating_sub(1).min(9))
        .min(BACK_OFF.1)
}

/// How long a server may work on a request whose sender is gone: kube-apiserver gives each a minute
/// (`--request-timeout`).
pub(crate) const ANSWERABLE: Duration = Duration::from_secs(75);

/// How often in a row a cluster does not answer until that counts as an end for whoever waits for
/// one.
pub(crate) const ENOUGH: u32 = 3;

/// How long a kind that is not served is waited for between two looks.
const UNKNOWN: Duration = Duration::from_secs(5);

impl AppReconciler {
    pub fn new(
        name: Name,
        hub: Arc<ClusterHandle>,
        shared: Arc<ReconcileContext>,
        handle: ApplicationHandle,
    ) -> Self {
        let status =
            ApplicationStatus::new(name.clone(), &handle.repository.name, hub.cluster.name());
        Self {
            name,
            repository: Arc::clone(&handle.repository),
            hub,
            shared,
            handle,
            status,
            job: None,
            seated: false,
            current: None,
            record: None,
            loaded: false,
            lost: false,
            inventory: Inventory::default(),
            history: RolloutHistory::default(),
            dirty: false,
            failing: HashMap::new(),
            pace: HashMap::new(),
            deleting: HashSet::new(),
            unlisted: Unlisted::new(),
            broken: None,
            asked: None,
            answerable: Instant::now(),
            down: 0,
            reasons: outcome::WaitReasons::default(),
        }
    }

    /// Runs until it is stopped, or the Application is gone and its objects with it.
    pub async fn run(mut self) {
        let mut turned = self.shared.turned.subscribe();
        loop {
            // Asleep it takes little room; at work, much: not all are at once.
            let turn = tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return,
                turn = self.hub.turn() => turn,
            };
            if let Some(job) = self.handle.slot.take() {
                // One that a cluster in trouble has not let us take up yet is not lost to the news
                // that nothing changed.
                self.job = Some(job.after(self.job.take()));
            }
            turned.mark_unchanged();
            let mut depends = false;
            // Boxed: a task that sleeps keeps no room for what it does when awake, and there are
            // thousands.
            let wake = match Box::pin(self.step(&turn)).await {
                Ok(Requeue::Ended) => {
                    if self.seated {
                        self.hub.forget(&self.name).await;
                        self.hub.state().dismiss(&self.name);
                    }
                    self.shared.remove(&self.place());
                    if self.handle.slot.close() {
                        return;
                    }
                    // It has been declared again meanwhile, and begins anew.
                    self = Self::new(self.name, self.hub, self.shared, self.handle);
                    self.shared.publish(&self.status);
                    continue;
                }
                Ok(Requeue::At(wake)) => {
                    self.down = 0;
                    wake
                }
                Ok(Requeue::Turned) => {
                    (self.down, depends) = (0, true);
                    None
                }
                Err(error) => Some(self.trouble(&error)),
            };
            drop(turn);
            // Whoever asked for another rendering waits for what comes of it.
            self.status.observed &= !self.handle.again.is_asked();
            self.shared.publish(&self.status);
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return,
                () = self.handle.slot.filled() => {}
                () = self.handle.inbox.notified() => {}
                // Whoever waits for another Application looks again when one has turned.
                _ = turned.changed(), if depends => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// The cluster could not be asked: the time to try again.
    fn trouble(&mut self, error: &ClusterError) -> Instant {
        self.down = self.down.saturating_add(1);
        let wait = error.retry_after().unwrap_or_else(|| back_off(self.down));
        if self.down == 1 {
            warn!(application = %self.name, hint = error.hint(), "{error}");
        }
        self.status.state = if error.kind() == ErrorKind::Remote {
            ApplicationState::Waiting
        } else {
            ApplicationState::Failed
        };
        self.status.problems = vec![Message {
            hint: error.hint(),
            ..Message::application(error.to_string())
        }];
        // Whoever waits for an end has one when the same has been seen a few times.
        self.status.observed = error.kind() != ErrorKind::Remote || self.down >= ENOUGH;
        Instant::now() + wait
    }

    /// Everything, from the start. What is done already costs a look.
    async fn step(&mut self, turn: &WorkPermit) -> Result<Requeue, ClusterError> {
        if !self.seated {
            match self.hub.sit(&self.name, &self.repository).await? {
                None => self.seated = true,
                Some(taken) => return Ok(self.turned_away(&taken)),
            }
            self.hub
                .state()
                .enlist(&self.name, Arc::clone(&self.handle.inbox));
        }
        if !self.loaded {
            self.load().await?;
        }
        // What was asked for is noted beside what was read, which would overwrite it.
        self.asked();
        let news = self.job.is_some();
        if let Some(job) = self.job.take()
            && let Err((job, error)) = self.read(job).await
        {
            self.job = Some(job);
            return Err(error);
        }
        if self.status.state == ApplicationState::Deleting && self.current.is_none() {
            return Ok(Requeue::Ended);
        }
        let Some(current) = &mut self.current else {
            return Ok(Requeue::At(None));
        };
        if current.desired.iter().any(|one| !one.known) {
            let served = self.hub.cluster.resources().await?;
            let now_served = current
                .desired
                .iter()
                .any(|one| !one.known && served.find(&one.gvk()).is_some());
            if let Some((application, rendered)) = current
                .unplaced
                .take_if(|_| now_served)
                .map(|unplaced| *unplaced)
            {
                // Now it is known whether their objects lie in namespaces, which makes others of
                // them.
                let revision = current.revision.clone();
                if let Err((job, error)) = self
                    .read(Work::Apply(Box::new(AcceptedRevision {
                        application,
                        revision,
                        rendered,
                    })))
                    .await
                {
                    self.job = Some(job);
                    return Err(error);
                }
            }
        }
        let Some(current) = &mut self.current else {
            return Ok(Requeue::At(None));
        };
        // What cannot be read at a newer revision is told of that one.
        if self.broken.is_none() {
            self.status.revision = Some(current.revision.clone());
        }
        let kinds = current
            .desired
            .iter()
            .map(|one| &one.key)
            .chain(self.inventory.entries.keys());
        let unlisted = self.hub.unlisted(kinds);
        // Of a kind that cannot be watched only the objects wait.
        if unlisted.values().any(Option::is_none) {
            let row = |((_, kind), trouble): (&(String, String), &Option<Trouble>)| match trouble {
                Some(trouble) => unwatched(kind, trouble),
                None => Message::application(format!("waiting for the first list of {kind}")),
            };
            self.status.state = ApplicationState::Waiting;
            self.status.problems = unlisted.iter().map(row).collect();
            self.status.observed = unlisted.values().all(Option::is_some);
            return Ok(Requeue::At(None));
        }
        self.unlisted = unlisted;
        self.find_lost();
        let Some(current) = &mut self.current else {
            return Ok(Requeue::At(None));
        };
        if !current.released && !self.shared.plans() {
            if let Some((rows, passes)) = self.shared.blocked(
                &self.repository.name,
                &current.terms.depends_on,
                &current.revision,
            ) {
                self.status.state = ApplicationState::Waiting;
                self.status.problems = rows;
                self.status.observed = !passes;
                return Ok(Requeue::Turned);
            }
            current.released = true;
            current.deadline = Instant::now() + current.terms.timeout;
        }
        let mut look = self.look();
        if news {
            look.strangers.values_mut().for_each(|now| *now = true);
        }
        if !look.strangers.is_empty() && self.hub.consult(&look.strangers).await? {
            look = self.look();
        }
        if self.minds_others(&look) {
            let (repository, cluster) = (&self.repository.name, self.hub.cluster.name());
            self.shared.read_aside(repository, cluster);
            if self.shared.plans() && self.shared.is_looking_aside(repository, cluster) {
                self.status.observed = false;
                return Ok(Requeue::Turned);
            }
        }
        if self.shared.plans() {
            self.planned(&look);
            return Ok(Requeue::At(None));
        }
        if !look.todo.is_empty() {
            self.status.state = ApplicationState::Applying;
            self.status.observed = false;
            self.shared.publish(&self.status);
            self.send(&look.todo, turn).await?;
            look = self.look();
        }
        if self.handle.slot.is_filled() {
            return Ok(Requeue::At(Some(Instant::now())));
        }
        let pruned = self.prune(&look).await?;
        let next = self.conclude(&look, pruned).await;
        if self.note_down().await? {
            if let Some(record) = self.record.take() {
                self.hub.cluster.remove(&record).await?;
            }
            info!(application = %self.name, cluster = self.hub.cluster.name(), "deleted, with its objects");
            return Ok(Requeue::Ended);
        }
        Ok(Requeue::At(next))
    }

    /// Where it is declared to be.
    fn place(&self) -> ApplicationPlace {
        (
            self.hub.cluster.name().to_owned(),
            self.name.clone(),
            self.repository.name.clone(),
        )
    }

    /// What people asked for over the socket.
    fn asked(&mut self) {
        for asked in self.shared.take_asked(&self.place()) {
            match asked {
                ApplicationRequest::Now => {
                    self.failing.clear();
                    self.pace.clear();
                }
                ApplicationRequest::ConfirmPrune(revision) => {
                    self.inventory.confirmed = Some(revision);
                    self.dirty = true;
                }
            }
        }
    }

    /// As whom objects are sent.
    pub(crate) fn identity(&self) -> RequestIdentity {
        let account = match &self.current {
            Some(current) => &current.terms.service_account,
            None => &self.inventory.service_account,
        };
        RequestIdentity::of(&self.name, account.as_deref())
    }

    /// How an object is judged from now on.
    pub(crate) fn judge(&self, index: usize, expected: Option<ValueHash>, atoms: KindAtomicFields) {
        let Some(current) = &self.current else { return };
        let one = &current.desired[index];
        let ignore = observed::ignored(&current.terms.ignore, &one.key);
        let watched = WatchedManifest {
            manifest: one.manifest.clone(),
            ignore,
            expected,
            atoms,
        };
        self.hub.state().judge(&self.name, &one.key, watched);
    }

    /// The row of what could not be read, if the newest revision could not.
    pub(crate) fn broken(&self) -> Option<&Message> {
        self.broken.as_ref()
    }

    /// Says what would be done.
    fn planned(&mut self, look: &Assessment) {
        let Some(current) = &self.current else { return };
        let state = self.hub.state();
        let pruning = self.pruning(current, &state);
        drop(state);
        self.status.planned = look.plan(current, &pruning);
        look.tell(&mut self.status);
        self.status.objects = current.desired.len();
        self.status
            .problems
            .extend(pruning.needs_yes.map(Message::application));
        self.status.problems.extend(self.broken.clone());
        self.status.notes.extend(current.notes.iter().cloned());
        let moves = look.todo.values().any(|why| !why.is_drift()) || !pruning.delete.is_empty();
        self.status.state = if !self.status.problems.is_empty() {
            ApplicationState::Failed
        } else if moves {
            ApplicationState::OutOfSync
        } else if !look.todo.is_empty() || !look.drifted.is_empty() {
            ApplicationState::Drifted
        } else {
            ApplicationState::Synced
        };
        self.status.observed = true;
    }

    /// When to look for kinds that are not served.
    pub(crate) fn unknown_kinds(&self) -> Option<Instant> {
        let current = self.current.as_ref()?;
        current
            .desired
            .iter()
            .any(|one| !one.known)
            .then(|| Instant::now() + UNKNOWN)
    }
}

/// A kind that cannot be watched, in words.
pub(crate) fn unwatched(kind: &str, trouble: &Trouble) -> Message {
    Message {
        hint: trouble.hint.clone(),
        ..Message::application(format!("{kind} cannot be watched: {}", trouble.message))
    }
}

/// What follows a step.
pub(crate) enum Requeue {
    /// Sleep, at most until then.
    At(Option<Instant>),
    /// Sleep until another Application has turned.
    Turned,
    /// There is nothing left to look after.
    Ended,
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The first ten digits of a commit id, as people know it.
pub(crate) fn short(revision: &str) -> &str {
    revision.get(..10).unwrap_or(revision)
}
