//! One Application on its cluster: a task that sleeps until something concerns it, looks at
//! everything anew, and does what is to be done. It holds no worker while it waits, and nothing
//! while nothing changes.
//!
//! ```text
//! job ─▶ read ─▶ listed? ─▶ dependencies? ─▶ look ─▶ send ─▶ prune ─▶ health ─▶ outcome ─▶ sleep
//!                                             ▲                                            │
//!                                             └──────── an event, a timer, a job ◀─────────┘
//! ```

use super::{
    Asked, Handle, Repository, Shared,
    hub::{Hub, Trouble, Unlisted},
    looking::{Failing, Look, Pace},
    seen::{self, Watched},
    shared::Place,
    status::{Row, State, Status},
    terms::Terms,
    turn::Turn,
};
use crate::{
    cluster::{ClusterError, Identity, Record},
    declare::Application,
    error::{Fault, Kind},
    name::Name,
    object::Key,
    plan::{Atoms, Hash, History, Inventory, Outcome, Refused, Wanted},
    render::Rendered,
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
pub(super) enum Job {
    /// Bring this about.
    Apply(Box<Read>),
    /// The same as before, at another revision.
    Same { revision: String },
    /// It could not be read at this revision; what was read before stays in force.
    Broken { revision: String, row: Row },
    /// It rests.
    Suspend { revision: String },
    /// Nobody declares it any more; with why that is not believed without a yes.
    Gone {
        revision: String,
        doubt: Option<String>,
    },
}

impl Job {
    /// The revision it comes from.
    pub(super) fn revision(&self) -> &str {
        match self {
            Job::Apply(read) => &read.revision,
            Job::Same { revision }
            | Job::Broken { revision, .. }
            | Job::Suspend { revision }
            | Job::Gone { revision, .. } => revision,
        }
    }

    /// The job that stands for both this one and one that nobody has taken up: what is the same as
    /// before is the same as what is waiting.
    pub fn after(self, waiting: Option<Self>) -> Self {
        match (self, waiting) {
            (Job::Same { revision }, Some(Job::Apply(waiting))) => Job::Apply(Box::new(Read {
                revision,
                ..*waiting
            })),
            (job, _) => job,
        }
    }
}

/// An Application at a revision, rendered.
#[derive(Debug)]
pub(super) struct Read {
    pub application: Application,
    pub revision: String,
    pub rendered: Arc<Rendered>,
}

/// What is being brought about.
pub(super) struct Current {
    pub terms: Terms,
    pub revision: String,
    pub wanted: Vec<Wanted>,
    pub refused: Vec<Refused>,
    pub notes: Vec<Row>,
    /// Stands for all manifests.
    pub rendered: Hash,
    /// When it has failed, if it is not healthy by then.
    pub deadline: Instant,
    /// Whether the Application is gone, and its objects are to go.
    pub deleting: bool,
    /// Whether its outcome was told.
    pub told: Option<Outcome>,
    /// Whether what others depend on was there once.
    pub released: bool,
    /// What it was read from, as long as the cluster does not serve all its kinds.
    pub unplaced: Option<Box<(Application, Arc<Rendered>)>>,
}

/// The task of one Application.
pub(super) struct Runner {
    pub name: Name,
    pub repository: Arc<Repository>,
    pub hub: Arc<Hub>,
    pub shared: Arc<Shared>,
    pub handle: Handle,
    pub status: Status,
    pub(super) job: Option<Job>,
    /// Whether the name on this cluster is this repository's.
    seated: bool,
    pub(super) current: Option<Current>,
    pub(super) record: Option<Record>,
    pub(super) loaded: bool,
    /// Whether the inventory could not be read.
    pub(super) lost: bool,
    pub(super) inventory: Inventory,
    pub(super) history: History,
    /// Whether the record in the cluster is behind.
    pub(super) dirty: bool,
    pub(super) failing: HashMap<Key, Failing>,
    pub(super) pace: HashMap<Key, Pace>,
    pub(super) deleting: HashSet<Key>,
    /// Kinds that cannot be watched: nothing is known of their objects.
    pub(super) unlisted: Unlisted,
    pub(super) broken: Option<Row>,
    /// What waits for a yes, as it was last logged.
    pub(super) asked: Option<Row>,
    /// Until when a server may still do what it was sent, and gave no answer to.
    pub(super) answerable: Instant,
    /// How often in a row the cluster itself could not be asked.
    down: u32,
    pub(super) reasons: super::waiting::Reasons,
}

/// Back-off after trouble: from one second, doubled each time, up to five minutes.
pub(super) const BACK_OFF: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(300));

pub(super) fn back_off(times: u32) -> Duration {
    BACK_OFF
        .0
        .saturating_mul(1 << times.saturating_sub(1).min(9))
        .min(BACK_OFF.1)
}

/// How long a server may work on a request whose sender is gone: kube-apiserver gives each a minute
/// (`--request-timeout`).
pub(super) const ANSWERABLE: Duration = Duration::from_secs(75);

/// How often in a row a cluster does not answer until that counts as an end for whoever waits for
/// one.
pub(super) const ENOUGH: u32 = 3;

/// How long a kind that is not served is waited for between two looks.
const UNKNOWN: Duration = Duration::from_secs(5);

impl Runner {
    pub fn new(name: Name, hub: Arc<Hub>, shared: Arc<Shared>, handle: Handle) -> Self {
        let status = Status::new(name.clone(), &handle.repository.name, hub.cluster.name());
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
            history: History::default(),
            dirty: false,
            failing: HashMap::new(),
            pace: HashMap::new(),
            deleting: HashSet::new(),
            unlisted: Unlisted::new(),
            broken: None,
            asked: None,
            answerable: Instant::now(),
            down: 0,
            reasons: super::waiting::Reasons::default(),
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
                Ok(Next::Ended) => {
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
                Ok(Next::At(wake)) => {
                    self.down = 0;
                    wake
                }
                Ok(Next::Turned) => {
                    (self.down, depends) = (0, true);
                    None
                }
                Err(error) => Some(self.trouble(&error)),
            };
            drop(turn);
            // Whoever asked for another rendering waits for what comes of it.
            self.status.settled &= !self.handle.again.is_asked();
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
        self.status.state = if error.kind() == Kind::Remote {
            State::Waiting
        } else {
            State::Failed
        };
        self.status.problems = vec![Row {
            hint: error.hint(),
            ..Row::whole(error.to_string())
        }];
        // Whoever waits for an end has one when the same has been seen a few times.
        self.status.settled = error.kind() != Kind::Remote || self.down >= ENOUGH;
        Instant::now() + wait
    }

    /// Everything, from the start. What is done already costs a look.
    async fn step(&mut self, turn: &Turn) -> Result<Next, ClusterError> {
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
        if self.status.state == State::Deleting && self.current.is_none() {
            return Ok(Next::Ended);
        }
        let Some(current) = &mut self.current else {
            return Ok(Next::At(None));
        };
        if current.wanted.iter().any(|one| !one.known) {
            let served = self.hub.cluster.resources().await?;
            let now_served = current
                .wanted
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
                    .read(Job::Apply(Box::new(Read {
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
            return Ok(Next::At(None));
        };
        // What cannot be read at a newer revision is told of that one.
        if self.broken.is_none() {
            self.status.revision = Some(current.revision.clone());
        }
        let kinds = current
            .wanted
            .iter()
            .map(|one| &one.key)
            .chain(self.inventory.entries.keys());
        let unlisted = self.hub.unlisted(kinds);
        // Of a kind that cannot be watched only the objects wait.
        if unlisted.values().any(Option::is_none) {
            let row = |((_, kind), trouble): (&(String, String), &Option<Trouble>)| match trouble {
                Some(trouble) => unwatched(kind, trouble),
                None => Row::whole(format!("waiting for the first list of {kind}")),
            };
            self.status.state = State::Waiting;
            self.status.problems = unlisted.iter().map(row).collect();
            self.status.settled = unlisted.values().all(Option::is_some);
            return Ok(Next::At(None));
        }
        self.unlisted = unlisted;
        self.find_lost();
        let Some(current) = &mut self.current else {
            return Ok(Next::At(None));
        };
        if !current.released && !self.shared.plans() {
            if let Some((rows, passes)) = self.shared.blocked(
                &self.repository.name,
                &current.terms.depends_on,
                &current.revision,
            ) {
                self.status.state = State::Waiting;
                self.status.problems = rows;
                self.status.settled = !passes;
                return Ok(Next::Turned);
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
                self.status.settled = false;
                return Ok(Next::Turned);
            }
        }
        if self.shared.plans() {
            self.planned(&look);
            return Ok(Next::At(None));
        }
        if !look.todo.is_empty() {
            self.status.state = State::Applying;
            self.status.settled = false;
            self.shared.publish(&self.status);
            self.send(&look.todo, turn).await?;
            look = self.look();
        }
        if self.handle.slot.is_filled() {
            return Ok(Next::At(Some(Instant::now())));
        }
        let pruned = self.prune(&look).await?;
        let next = self.conclude(&look, pruned).await;
        if self.note_down().await? {
            if let Some(record) = self.record.take() {
                self.hub.cluster.remove(&record).await?;
            }
            info!(application = %self.name, cluster = self.hub.cluster.name(), "deleted, with its objects");
            return Ok(Next::Ended);
        }
        Ok(Next::At(next))
    }

    /// Where it is declared to be.
    fn place(&self) -> Place {
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
                Asked::Now => {
                    self.failing.clear();
                    self.pace.clear();
                }
                Asked::ConfirmPrune(revision) => {
                    self.inventory.confirmed = Some(revision);
                    self.dirty = true;
                }
            }
        }
    }

    /// As whom objects are sent.
    pub(super) fn identity(&self) -> Identity {
        let account = match &self.current {
            Some(current) => &current.terms.service_account,
            None => &self.inventory.service_account,
        };
        Identity::of(&self.name, account.as_deref())
    }

    /// How an object is judged from now on.
    pub(super) fn judge(&self, index: usize, expected: Option<Hash>, atoms: Atoms) {
        let Some(current) = &self.current else { return };
        let one = &current.wanted[index];
        let ignore = seen::ignored(&current.terms.ignore, &one.key);
        let watched = Watched {
            manifest: one.manifest.clone(),
            ignore,
            expected,
            atoms,
        };
        self.hub.state().judge(&self.name, &one.key, watched);
    }

    /// The row of what could not be read, if the newest revision could not.
    pub(super) fn broken(&self) -> Option<&Row> {
        self.broken.as_ref()
    }

    /// Says what would be done.
    fn planned(&mut self, look: &Look) {
        let Some(current) = &self.current else { return };
        let state = self.hub.state();
        let pruning = self.pruning(current, &state);
        drop(state);
        self.status.planned = look.plan(current, &pruning);
        look.tell(&mut self.status);
        self.status.objects = current.wanted.len();
        self.status
            .problems
            .extend(pruning.needs_yes.map(Row::whole));
        self.status.problems.extend(self.broken.clone());
        self.status.notes.extend(current.notes.iter().cloned());
        let moves = look.todo.values().any(|why| !why.is_drift()) || !pruning.delete.is_empty();
        self.status.state = if !self.status.problems.is_empty() {
            State::Failed
        } else if moves {
            State::Behind
        } else if !look.todo.is_empty() || !look.drifted.is_empty() {
            State::Drifted
        } else {
            State::InStep
        };
        self.status.settled = true;
    }

    /// When to look for kinds that are not served.
    pub(super) fn unknown_kinds(&self) -> Option<Instant> {
        let current = self.current.as_ref()?;
        current
            .wanted
            .iter()
            .any(|one| !one.known)
            .then(|| Instant::now() + UNKNOWN)
    }
}

/// A kind that cannot be watched, in words.
pub(super) fn unwatched(kind: &str, trouble: &Trouble) -> Row {
    Row {
        hint: trouble.hint.clone(),
        ..Row::whole(format!("{kind} cannot be watched: {}", trouble.message))
    }
}

/// What follows a step.
pub(super) enum Next {
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
pub(super) fn short(revision: &str) -> &str {
    revision.get(..10).unwrap_or(revision)
}
