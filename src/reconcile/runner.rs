//! One Application on its cluster: a task that sleeps until something concerns it, looks at everything anew, and does
//! what is to be done. It holds no worker while it waits, and nothing while nothing changes.
//!
//! ```text
//! job ─▶ read ─▶ listed? ─▶ dependencies? ─▶ look ─▶ send ─▶ prune ─▶ health ─▶ outcome ─▶ sleep
//!                                             ▲                                            │
//!                                             └──────── an event, a timer, a job ◀─────────┘
//! ```

use super::{
    Asked, Handle, Shared,
    hub::{Hub, Served},
    looking::{Failing, Look, Pace},
    seen::{self, Watched},
    status::{Row, State, Status},
};
use crate::{
    cluster::{ClusterError, Identity, Record},
    declare::{Application, DeletionPolicy, Drift, Ignore},
    error::{Fault, Kind},
    name::Name,
    object::{Gvk, Key},
    plan::{self, Entry, Hash, History, Inventory, Outcome, Refused, Rollout, Wanted, text},
    render::Rendered,
};
use jiff::Timestamp;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::Instant;
use tracing::{error, info, warn};

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
    /// Nobody declares it any more.
    Gone { revision: String },
}

impl Job {
    /// The job that stands for both this one and one that nobody has taken up: what is the same as before is the same as
    /// what is waiting.
    pub fn after(self, waiting: Option<Self>) -> Self {
        match (self, waiting) {
            (Job::Same { revision }, Some(Job::Apply(waiting))) => Job::Apply(Box::new(Read { revision, ..*waiting })),
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
}

/// What an Application says about how its objects are applied.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub prune: bool,
    pub wait: bool,
    pub timeout: Duration,
    pub depends_on: Vec<Name>,
    pub service_account: Option<String>,
    pub repair: bool,
    pub ignore: Vec<Ignore>,
}

impl Terms {
    fn of(application: &Application) -> Self {
        Self {
            prune: application.prune,
            wait: application.wait,
            timeout: application.timeout,
            depends_on: application.depends_on.clone(),
            service_account: application.service_account.clone(),
            repair: application.drift == Drift::Repair,
            ignore: application.ignore.clone(),
        }
    }

    /// For one that nobody declares any more: what was recorded of it counts.
    fn recorded(inventory: &Inventory) -> Self {
        Self {
            prune: inventory.deletion == DeletionPolicy::Delete,
            wait: false,
            timeout: Duration::ZERO,
            depends_on: Vec::new(),
            service_account: inventory.service_account.clone(),
            repair: false,
            ignore: Vec::new(),
        }
    }
}

/// The task of one Application.
pub(super) struct Runner {
    pub name: Name,
    pub repository: String,
    pub hub: Arc<Hub>,
    pub shared: Arc<Shared>,
    pub handle: Handle,
    pub status: Status,
    job: Option<Job>,
    pub(super) current: Option<Current>,
    pub(super) record: Option<Record>,
    loaded: bool,
    /// Whether the inventory could not be read.
    lost: bool,
    pub(super) inventory: Inventory,
    pub(super) history: History,
    /// Whether the record in the cluster is behind.
    pub(super) dirty: bool,
    pub(super) failing: HashMap<Key, Failing>,
    pub(super) pace: HashMap<Key, Pace>,
    pub(super) deleting: HashSet<Key>,
    broken: Option<Row>,
    /// How often in a row the cluster itself could not be asked.
    down: u32,
    pub(super) reasons: super::waiting::Reasons,
}

/// Back-off after trouble: from one second, doubled each time, up to five minutes.
pub(super) const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

pub(super) fn back_off(times: u32) -> Duration {
    BACK_OFF.0.saturating_mul(1 << times.saturating_sub(1).min(9)).min(BACK_OFF.1)
}

/// How long a kind that is not served is waited for between two looks.
const UNKNOWN: Duration = Duration::from_secs(5);

impl Runner {
    pub fn new(name: Name, hub: Arc<Hub>, shared: Arc<Shared>, handle: Handle) -> Self {
        let status = Status::new(name.clone(), &handle.repository, hub.cluster.name());
        Self {
            name,
            repository: handle.repository.clone(),
            hub,
            shared,
            handle,
            status,
            job: None,
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
            broken: None,
            down: 0,
            reasons: super::waiting::Reasons::default(),
        }
    }

    /// Runs until it is stopped, or the Application is gone and its objects with it.
    pub async fn run(mut self) {
        self.hub.state().enlist(&self.name, Arc::clone(&self.handle.inbox));
        let mut turned = self.shared.turned.subscribe();
        loop {
            if let Some(job) = self.handle.slot.take() {
                self.job = Some(job);
            }
            turned.mark_unchanged();
            let wake = match self.step().await {
                Ok(Next::Ended) => {
                    self.handle.ended.store(true, Ordering::SeqCst);
                    self.hub.state().dismiss(&self.name);
                    self.shared.remove(self.hub.cluster.name(), &self.name);
                    return;
                }
                Ok(Next::At(wake)) => {
                    self.down = 0;
                    wake
                }
                Err(error) => Some(self.trouble(&error)),
            };
            self.shared.publish(&self.status);
            let depends = self.status.state == State::Waiting;
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
        self.status.state = if error.kind() == Kind::Remote { State::Waiting } else { State::Failed };
        self.status.problems = vec![Row { hint: error.hint(), ..Row::whole(error.to_string()) }];
        // Whoever waits for an end has one when the same has been seen a few times.
        self.status.settled = error.kind() != Kind::Remote || self.down >= 3;
        Instant::now() + wait
    }

    /// Everything, from the start. What is done already costs a look.
    async fn step(&mut self) -> Result<Next, ClusterError> {
        self.asked();
        if !self.loaded {
            self.load().await?;
        }
        if let Some(job) = self.job.take()
            && let Err((job, error)) = self.read(job).await
        {
            self.job = Some(job);
            return Err(error);
        }
        if self.status.state == State::Deleting && self.current.is_none() {
            return Ok(Next::Ended);
        }
        let Some(current) = &mut self.current else { return Ok(Next::At(None)) };
        if current.wanted.iter().any(|one| !one.known) {
            let served = self.hub.cluster.resources().await?;
            let mut new = Vec::new();
            for one in current.wanted.iter_mut().filter(|one| !one.known && served.find(&one.gvk()).is_some()) {
                one.known = true;
                new.push(one.gvk());
            }
            self.hub.watch(new, &served).await;
        }
        self.status.revision = Some(current.revision.clone());
        let kinds = current.wanted.iter().map(|one| &one.key).chain(self.inventory.entries.keys());
        let unlisted = self.hub.unlisted(kinds);
        if !unlisted.is_empty() {
            self.status.state = State::Waiting;
            self.status.problems = unlisted
                .iter()
                .map(|(kind, trouble)| {
                    Row::whole(match trouble {
                        Some(trouble) => format!("{kind} cannot be watched: {trouble}"),
                        None => format!("waiting for the first list of {kind}"),
                    })
                })
                .collect();
            self.status.settled = unlisted.iter().all(|(_, trouble)| trouble.is_some());
            return Ok(Next::At(None));
        }
        self.find_lost();
        let Some(current) = &mut self.current else { return Ok(Next::At(None)) };
        if !current.released && !self.shared.plans() {
            if let Some(rows) = self.shared.blocked(&current.terms.depends_on, &current.revision) {
                self.status.state = State::Waiting;
                self.status.problems = rows;
                self.status.settled = false;
                return Ok(Next::At(None));
            }
            current.released = true;
            current.deadline = Instant::now() + current.terms.timeout;
        }
        let mut look = self.look();
        if self.shared.plans() {
            self.planned(&look);
            return Ok(Next::At(None));
        }
        if !look.todo.is_empty() {
            self.status.state = State::Applying;
            self.status.settled = false;
            self.shared.publish(&self.status);
            self.send(&look.todo).await?;
            look = self.look();
        }
        if self.handle.slot.is_filled() {
            return Ok(Next::At(Some(Instant::now())));
        }
        let pruned = self.prune(&look).await?;
        let next = self.conclude(&look, pruned).await;
        if self.dirty {
            self.save().await?;
        }
        if self.current.as_ref().is_some_and(|current| current.deleting) && self.inventory.entries.is_empty() {
            if let Some(record) = self.record.take() {
                self.hub.cluster.remove(&record).await?;
            }
            info!(application = %self.name, cluster = self.hub.cluster.name(), "deleted, with its objects");
            return Ok(Next::Ended);
        }
        Ok(Next::At(next))
    }

    /// What people asked for over the socket.
    fn asked(&mut self) {
        for asked in self.shared.take_asked(self.hub.cluster.name(), &self.name) {
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

    /// What lies in the cluster.
    async fn load(&mut self) -> Result<(), ClusterError> {
        self.record = self.hub.record(&self.name).await?;
        if let Some(record) = &self.record {
            let text = |name: &str| record.data.get(name).map(String::as_str);
            let damaged = match (&record.damaged, text(text::INVENTORY).map(Inventory::parse)) {
                (None, Some(Ok(inventory))) => {
                    self.inventory = inventory;
                    None
                }
                (None, Some(Err(why))) => Some(why),
                (None, None) => Some("it is missing".to_owned()),
                (Some(why), _) => Some(why.clone()),
            };
            if let Some(why) = damaged {
                warn!(application = %self.name, cluster = self.hub.cluster.name(), "its inventory is damaged ({why}); it is begun anew from the labels of what is live");
                (self.lost, self.dirty) = (true, true);
            }
            if let Some(Ok(history)) = text(text::HISTORY).map(History::parse) {
                self.history = history;
            }
            self.status.rollout = self.history.0.first().cloned();
        }
        self.loaded = true;
        Ok(())
    }

    /// Takes into a lost inventory what carries our labels.
    fn find_lost(&mut self) {
        if std::mem::take(&mut self.lost) {
            let state = self.hub.state();
            for (key, seen) in state.labelled(&self.name) {
                self.inventory.entries.entry(key.clone()).or_insert_with(|| Entry { version: seen.version.clone(), applied: None });
            }
        }
    }

    /// Takes up a job; gives it back if the cluster cannot say what it serves.
    async fn read(&mut self, job: Job) -> Result<(), (Job, ClusterError)> {
        let read = match job {
            Job::Broken { revision, row } => {
                // Not read: who would prune what this one may want waits.
                self.status.revision = Some(revision);
                self.status.state = State::Failed;
                self.status.problems = vec![row.clone()];
                self.status.settled = true;
                self.broken = Some(row);
                return Ok(());
            }
            Job::Suspend { revision } => {
                self.current = None;
                self.broken = None;
                self.hub.state().mark_read(&self.name, &revision);
                self.status = Status {
                    rollout: self.history.0.first().cloned(),
                    ..Status::new(self.name.clone(), &self.repository, self.hub.cluster.name())
                };
                self.status.objects = self.inventory.entries.len();
                (self.status.revision, self.status.state, self.status.settled) = (Some(revision), State::Suspended, true);
                return Ok(());
            }
            Job::Same { revision } => {
                self.hub.state().mark_read(&self.name, &revision);
                self.status.revision = Some(revision.clone());
                if let Some(current) = &mut self.current {
                    current.revision = revision;
                }
                return Ok(());
            }
            Job::Gone { revision } => {
                self.broken = None;
                if self.inventory.entries.is_empty() && self.record.is_none() {
                    // It never came to anything.
                    (self.current, self.status.state) = (None, State::Deleting);
                    return Ok(());
                }
                if self.inventory.deletion == DeletionPolicy::Orphan {
                    self.current = None;
                    self.status.objects = self.inventory.entries.len();
                    (self.status.revision, self.status.state, self.status.settled) = (Some(revision), State::Orphaned, true);
                    self.status.problems = Vec::new();
                    return Ok(());
                }
                let served = match self.hub.cluster.resources().await {
                    Ok(served) => served,
                    Err(error) => return Err((Job::Gone { revision }, error)),
                };
                self.hub.watch(self.kinds(), &served).await;
                self.hub.state().claim(&self.name, &revision, &[], |one| watched(one, &[], None));
                self.current = Some(Current {
                    terms: Terms::recorded(&self.inventory),
                    revision,
                    wanted: Vec::new(),
                    refused: Vec::new(),
                    notes: Vec::new(),
                    rendered: plan::of_all(&[]),
                    deadline: Instant::now(),
                    deleting: true,
                    told: None,
                    released: true,
                });
                return Ok(());
            }
            Job::Apply(read) => read,
        };
        if !self.inventory.repository.is_empty() && self.inventory.repository != self.repository {
            self.status.revision = Some(read.revision);
            self.status.state = State::Failed;
            self.status.settled = true;
            self.status.problems = vec![Row {
                hint: Some("Give one of them another name or namespace, or delete the record to hand the objects over.".to_owned()),
                ..Row::whole(format!(
                    "repository {} has an Application of this name on this cluster (record ConfigMap {}/tagboat-{})",
                    self.inventory.repository,
                    self.name.namespace(),
                    self.name.name()
                ))
            }];
            return Ok(());
        }
        let served = match self.hub.cluster.resources().await {
            Ok(served) => served,
            Err(error) => return Err((Job::Apply(read), error)),
        };
        let Read { application, revision, rendered } = *read;
        let notes = rendered.warnings.iter().map(Row::whole).collect();
        let (wanted, refused) = plan::wanted(&application, rendered.objects.clone(), &Served(Arc::clone(&served)));
        let rendered = plan::of_all(&wanted);
        self.broken = None;
        let same = self.current.as_ref().is_some_and(|current| current.rendered == rendered && !current.deleting);
        let terms = Terms::of(&application);
        let entries = &self.inventory.entries;
        self.hub.state().claim(&self.name, &revision, &wanted, |one| watched(one, &terms.ignore, entries.get(&one.key)));
        let kinds: Vec<_> = wanted.iter().map(Wanted::gvk).chain(self.kinds()).collect();
        self.hub.watch(kinds, &served).await;
        let known: HashSet<&Key> = wanted.iter().map(|one| &one.key).collect();
        self.failing.retain(|key, _| known.contains(key));
        self.reasons.forget();
        let settings = (application.deletion, application.prune, application.service_account.clone());
        let recorded = (self.inventory.deletion, self.inventory.prune, self.inventory.service_account.clone());
        if self.record.is_some() && settings != recorded {
            self.dirty = true;
        }
        (self.inventory.deletion, self.inventory.prune, self.inventory.service_account) = settings;
        self.inventory.repository.clone_from(&self.repository);
        let (told, released) = match &self.current {
            // Another revision that says the same is no rollout.
            Some(current) if same => (current.told, current.released),
            _ => (None, false),
        };
        let deadline = Instant::now() + application.timeout;
        self.current = Some(Current { terms, revision, wanted, refused, notes, rendered, deadline, deleting: false, told, released });
        Ok(())
    }

    /// The kinds of what is owned.
    fn kinds(&self) -> Vec<Gvk> {
        self.inventory
            .entries
            .iter()
            .map(|(key, entry)| Gvk { group: key.group.clone(), version: entry.version.clone(), kind: key.kind.clone() })
            .collect()
    }

    /// As whom objects are sent.
    pub(super) fn identity(&self) -> Identity {
        let account = match &self.current {
            Some(current) => &current.terms.service_account,
            None => &self.inventory.service_account,
        };
        match account {
            None => Identity::Own,
            Some(name) => Identity::ServiceAccount { namespace: self.name.namespace().to_owned(), name: name.clone() },
        }
    }

    /// How an object is judged from now on.
    pub(super) fn judge(&self, index: usize, expected: Option<Hash>) {
        let Some(current) = &self.current else { return };
        let one = &current.wanted[index];
        let watched = Watched { manifest: one.manifest.clone(), ignore: seen::ignored(&current.terms.ignore, &one.key), expected };
        self.hub.state().judge(&self.name, &one.key, watched);
    }

    /// Writes the record: before the first apply of an object, and when something has come of it.
    pub(super) async fn save(&mut self) -> Result<(), ClusterError> {
        /// How often somebody else's write is taken in.
        const TRIES: usize = 3;
        for attempt in 1.. {
            let mut record = self.record.clone().unwrap_or_else(|| Record::new(self.name.clone(), Default::default()));
            record.data.insert(text::INVENTORY.to_owned(), self.inventory.to_string());
            record.data.insert(text::HISTORY.to_owned(), self.history.to_string());
            match self.hub.cluster.save(&mut record, &self.repository).await {
                Ok(()) => {
                    self.record = Some(record);
                    self.dirty = false;
                    self.status.rollout = self.history.0.first().cloned();
                    return Ok(());
                }
                Err(error) if error.kind() == Kind::Conflict && attempt < TRIES => {
                    // What somebody else has noted is kept: of two inventories the union orphans nothing.
                    self.record = self.hub.reread(&self.name).await?;
                    let theirs = self.record.as_ref().and_then(|record| Inventory::parse(record.data.get(text::INVENTORY)?).ok());
                    for (key, entry) in theirs.into_iter().flat_map(|theirs| theirs.entries) {
                        self.inventory.entries.entry(key).or_insert(entry);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Notes what became of the revision, and tells it once.
    pub(super) fn outcome(&mut self, result: Outcome, message: String) {
        let Some(current) = &mut self.current else { return };
        if current.deleting {
            return;
        }
        let newest = self.history.0.first();
        let applied = newest.is_some_and(|newest| newest.result == Outcome::Applied);
        // A revision that changed nothing here is no news, unless the last word was another one.
        if self.inventory.rendered == Some(current.rendered) && applied && result == Outcome::Applied {
            current.told = Some(result);
            return;
        }
        // What worked once and is unwell now is a matter of status, not of the revision.
        if current.told == Some(Outcome::Applied) && result != Outcome::Failed {
            return;
        }
        let rollout = Rollout { revision: current.revision.clone(), result, since: Timestamp::now(), message };
        let before = self.history.clone();
        self.history.note(rollout);
        if self.history != before {
            self.dirty = true;
        }
        if result == Outcome::Applied {
            self.inventory.rendered = Some(current.rendered);
            self.inventory.revision = Some(current.revision.clone());
        }
        if current.told != Some(result) {
            current.told = Some(result);
            let message = self.history.0.first().map(|newest| newest.message.clone()).unwrap_or_default();
            let (application, cluster, revision) = (&self.name, self.hub.cluster.name(), short(&current.revision));
            match result {
                Outcome::Applied => info!(%application, cluster, revision, objects = current.wanted.len(), "in step"),
                Outcome::Progressing => info!(%application, cluster, revision, "applied; waiting for health"),
                Outcome::Superseded => {}
                Outcome::Failed => error!(%application, cluster, revision, "not applied: {message}"),
                Outcome::Unhealthy => error!(%application, cluster, revision, "applied, but not healthy: {message}"),
            }
        }
        self.status.rollout = self.history.0.first().cloned();
    }

    /// The row of what could not be read, if the newest revision could not.
    pub(super) fn broken(&self) -> Option<&Row> {
        self.broken.as_ref()
    }

    /// Says what would be done.
    fn planned(&mut self, look: &Look) {
        let Some(current) = &self.current else { return };
        let state = self.hub.state();
        let pruning =
            plan::prune(&self.name, current.terms.prune, &current.revision, &current.wanted, &self.inventory, |key| state.live(key));
        drop(state);
        self.status.planned = look.plan(current, &pruning);
        look.tell(&mut self.status);
        self.status.objects = current.wanted.len();
        self.status.problems.extend(pruning.needs_yes.map(Row::whole));
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
        current.wanted.iter().any(|one| !one.known).then(|| Instant::now() + UNKNOWN)
    }
}

/// What follows a step.
enum Next {
    /// Sleep, at most until then.
    At(Option<Instant>),
    /// There is nothing left to look after.
    Ended,
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// How a wanted object is judged: against what the last apply of this very manifest answered.
fn watched(one: &Wanted, rules: &[Ignore], entry: Option<&Entry>) -> Watched {
    let applied = entry.and_then(|entry| entry.applied.as_ref()).filter(|applied| applied.manifest == one.hash);
    Watched { manifest: one.manifest.clone(), ignore: seen::ignored(rules, &one.key), expected: applied.map(|applied| applied.live) }
}

/// The first ten digits of a commit id, as people know it.
pub(super) fn short(revision: &str) -> &str {
    revision.get(..10).unwrap_or(revision)
}
