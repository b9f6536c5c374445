//! What is known of one cluster: the live objects that carry our labels, who wants them, and what
//! lies in the records.
//!
//! Filled by watches alone. Whoever is concerned is woken; nobody asks twice.

pub(crate) mod api_resources;
pub(crate) mod claims;
pub(crate) mod observed;

mod unselected;
mod ownership;
mod watch_status;

pub(crate) use ownership::{CONSULT, Taken};
pub(crate) use watch_status::{Trouble, Unlisted};

use self::{
    claims::ClaimQueue,
    observed::{Observed, WatchedManifest},
};
use super::{
    RepositoryId,
    permits::{WorkPermit, WorkPermits},
};
use crate::{
    core::name::Name,
    io::cluster::{self, ApplicationRecord, ClusterClient, ClusterError, Resources, Watches},
    objects::{
        health::Health,
        object::{Gvk, Object, ObjectKey},
        plan::{AtomicFields, DesiredObject, LiveObject, OWNER_LABELS},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    sync::{Notify, OnceCell, mpsc},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;
use watch_status::WatchStatus;

/// Events that may wait to be looked at; a watch that is faster waits.
const BACKLOG: usize = 256;

/// Group and kind: objects of one kind are watched in one version.
type GroupKind = (String, String);

pub(crate) struct ClusterHandle {
    pub cluster: ClusterClient,
    state: Mutex<ClusterState>,
    watches: OnceCell<Watches>,
    records: tokio::sync::Mutex<Option<RecordTable>>,
    turns: WorkPermits,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What lay in the cluster when it was asked first. Each record is kept until its Application takes
/// it.
struct RecordTable {
    waiting: HashMap<Name, ApplicationRecord>,
    /// The repository that each of them names.
    repositories: HashMap<Name, RepositoryId>,
    /// Repositories whose namesakes were told of.
    told: HashSet<String>,
}

/// What a repository declares for this cluster.
struct DeclaredRevision {
    revision: String,
    names: BTreeSet<Name>,
    /// Those that have not been read at the revision.
    unread: BTreeSet<Name>,
}

#[derive(Default)]
pub(crate) struct ClusterState {
    /// Boxed, as [`Self::watched`]: a table of large values has room for twice as many.
    seen: HashMap<ObjectKey, Box<Observed>>,
    kinds: HashMap<GroupKind, WatchStatus>,
    watched: HashMap<ObjectKey, Box<(Name, WatchedManifest)>>,
    claims: HashMap<ObjectKey, ClaimQueue>,
    claimed: HashMap<Name, Vec<ObjectKey>>,
    /// The revision that each Application has been read at.
    read: HashMap<Name, String>,
    /// By repository.
    declared: HashMap<String, DeclaredRevision>,
    /// Applications that want what another one has, which may not want it any more once it has been
    /// read.
    heirs: HashSet<Name>,
    /// Applications that a whole revision no longer declares.
    retired: HashSet<Name>,
    /// What the records say of each Application, in order.
    owned: HashMap<Name, Box<[ObjectKey]>>,
    /// Applications whose records cannot be read: what carries their labels may be theirs.
    unsure: HashSet<Name>,
    /// When the record of an Application that another process looks after was last read.
    consulted: HashMap<Name, Instant>,
    /// The repository whose Application has a name here.
    seats: HashMap<Name, Arc<RepositoryId>>,
    /// Repositories that are to be followed.
    expected: BTreeSet<String>,
    /// Applications that could not be read, and at which revision.
    broken: HashMap<Name, String>,
    inboxes: HashMap<Name, Arc<Notify>>,
    /// What is one value, of all objects.
    pub atoms: AtomicFields,
}

impl ClusterHandle {
    /// `concurrency` is how many requests the cluster takes at once.
    pub fn new(
        cluster: ClusterClient,
        concurrency: usize,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let (watches, records, turns) = (
            OnceCell::new(),
            tokio::sync::Mutex::default(),
            WorkPermits::new(concurrency),
        );
        Arc::new(Self {
            cluster,
            state: Mutex::default(),
            watches,
            records,
            turns,
            tasks,
            stop,
        })
    }

    /// Waits until an Application may be at work.
    pub async fn turn(&self) -> WorkPermit {
        self.turns.wait().await
    }

    /// Looks at the state. Nothing may be awaited meanwhile.
    pub fn state(&self) -> MutexGuard<'_, ClusterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what lies in the cluster of an Application; all of it is read once, and from then on
    /// its task has it.
    pub async fn take_record(
        &self,
        name: &Name,
    ) -> Result<Option<ApplicationRecord>, ClusterError> {
        self.records(|records| records.waiting.remove(name)).await
    }

    /// The Applications whose records name a repository. Those of another one that is called the
    /// same are not ours to judge.
    pub async fn recorded(
        &self,
        repository: &RepositoryId,
    ) -> Result<BTreeSet<Name>, ClusterError> {
        let (found, namesakes) = self
            .records(|records| {
                let found = records
                    .repositories
                    .iter()
                    .filter(|(_, named)| *named == repository)
                    .map(|(name, _)| name.clone())
                    .collect();
                let other =
                    |named: &&RepositoryId| named.name == repository.name && *named != repository;
                let mut namesakes: BTreeMap<String, usize> = BTreeMap::new();
                if records.told.insert(repository.name.clone()) {
                    for named in records.repositories.values().filter(other) {
                        *namesakes.entry(named.to_string()).or_default() += 1;
                    }
                }
                (found, namesakes)
            })
            .await?;
        for (namesake, count) in namesakes {
            warn!(
                cluster = self.cluster.name(),
                "{count} Applications here are of {namesake}, which is not {repository}: they are left alone"
            );
        }
        Ok(found)
    }

    async fn records<T>(
        &self,
        look: impl FnOnce(&mut RecordTable) -> T,
    ) -> Result<T, ClusterError> {
        let mut records = self.records.lock().await;
        if let Some(records) = records.as_mut() {
            return Ok(look(records));
        }
        let read = self.cluster.records().await?;
        let mut repositories = HashMap::new();
        {
            let mut state = self.state();
            for record in &read {
                repositories.insert(
                    record.application.clone(),
                    RepositoryId::from(&ownership::inventory(record).unwrap_or_default()),
                );
                state.recorded(&record.application, Some(record));
            }
        }
        let waiting = read
            .into_iter()
            .map(|record| (record.application.clone(), record))
            .collect();
        Ok(look(records.insert(RecordTable {
            waiting,
            repositories,
            told: HashSet::new(),
        })))
    }

    /// Reads one Application's record anew, after somebody else has written it.
    pub async fn reread(&self, name: &Name) -> Result<Option<ApplicationRecord>, ClusterError> {
        Ok(self
            .cluster
            .records()
            .await?
            .into_iter()
            .find(|record| record.application == *name))
    }

    /// Sees that kinds are watched, each in one version: the one asked for, or another that is
    /// served.
    pub async fn watch(self: &Arc<Self>, kinds: impl IntoIterator<Item = Gvk>, served: &Resources) {
        let (mut new, mut later) = (Vec::new(), Vec::new());
        {
            let mut state = self.state();
            for kind in kinds {
                let desired = served.find(&kind);
                let resource = desired.or_else(|| served.preferred(&kind.group, &kind.kind));
                let gvk = resource.map_or_else(|| kind.clone(), |resource| resource.gvk.clone());
                let unserved = resource.is_none() && !served.is_unavailable(&kind);
                if desired.is_none() {
                    later.push(kind.clone());
                }
                if let Entry::Vacant(place) = state.kinds.entry((kind.group, kind.kind)) {
                    place.insert(WatchStatus::new(unserved));
                    new.push(gvk);
                }
            }
        }
        if new.is_empty() && later.is_empty() && self.watches.initialized() {
            return;
        }
        let watches = self
            .watches
            .get_or_init(|| async {
                let (to, from) = mpsc::channel(BACKLOG);
                let hub = Arc::clone(self);
                self.tasks.spawn(async move { hub.follow(from).await });
                Watches::start(self.cluster.clone(), [], OWNER_LABELS[1], to)
            })
            .await;
        watches.ensure(new);
        watches.look_out(later);
    }

    async fn follow(self: Arc<Self>, mut from: mpsc::Receiver<cluster::ClusterEvent>) {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                event = from.recv() => match event {
                    Some(event) => self.event(event),
                    None => return,
                },
            }
        }
    }

    fn event(&self, event: cluster::ClusterEvent) {
        match event {
            cluster::ClusterEvent::Object(_, object) => self.observe(&object),
            cluster::ClusterEvent::Gone(_, key, uid) => {
                let mut state = self.state();
                if state
                    .seen
                    .get(&key)
                    .is_some_and(|seen| uid.is_empty() || seen.live.uid == uid)
                {
                    state.gone(&key);
                }
            }
            cluster::ClusterEvent::Listed(gvk, keys) => {
                let mut state = self.state();
                let there: HashSet<&ObjectKey> = keys.iter().collect();
                let gone: Vec<ObjectKey> = state
                    .seen
                    .keys()
                    .filter(|key| gvk.is(&key.group, &key.kind) && !there.contains(key))
                    .cloned()
                    .collect();
                for key in gone {
                    state.gone(&key);
                }
                let first = !std::mem::replace(&mut state.watching(gvk).listed, true);
                if first {
                    state.wake_all();
                }
            }
            cluster::ClusterEvent::Trouble(gvk, error) => self.lost_sight(gvk, &error),
            cluster::ClusterEvent::Recovered(gvk) => self.sees(gvk),
        }
    }

    /// Takes in a live object, from a watch or from the answer to an apply.
    pub fn observe(&self, object: &Object) {
        let key = self.state().same(object.key());
        loop {
            let watched = self
                .state()
                .watched
                .get(&key)
                .map(|judged| judged.1.clone());
            let seen = observed::look(object, watched.as_ref());
            let mut state = self.state();
            let same = match (&watched, state.watched.get(&key)) {
                (Some(before), Some(judged)) => {
                    before.manifest.is(&judged.1.manifest) && before.expected == judged.1.expected
                }
                (None, None) => true,
                _ => false,
            };
            if !same {
                // Its manifest has changed meanwhile: look again.
                continue;
            }
            let old = state.seen.get(&key);
            if old.is_some_and(|old| old.live.uid == seen.live.uid && old.at > seen.at) {
                return;
            }
            let news = old.is_none_or(|old| {
                old.live != seen.live
                    || old.health != seen.health
                    || old.changed != seen.changed
                    || old.held != seen.held
            });
            let before = old.and_then(|old| old.live.owner.clone());
            state.keep(&key, seen);
            if news {
                if let Some(inbox) = before.and_then(|before| state.inboxes.get(&before)) {
                    inbox.notify_one();
                }
                state.wake(&key);
            }
            return;
        }
    }
}

impl ClusterState {
    /// Registers where an Application wants to be woken.
    pub fn enlist(&mut self, name: &Name, inbox: Arc<Notify>) {
        self.inboxes.insert(name.clone(), inbox);
    }

    /// Forgets an Application.
    pub fn dismiss(&mut self, name: &Name) {
        self.inboxes.remove(name);
        self.heirs.remove(name);
        self.read.remove(name);
        for declared in self
            .declared
            .values_mut()
            .filter(|declared| declared.names.contains(name))
        {
            declared.unread.insert(name.clone());
        }
        self.owned.remove(name);
        self.unsure.remove(name);
        self.seats.remove(name);
        self.broken.remove(name);
        self.unclaim(name);
        self.wake_all();
    }

    /// What a revision of a repository declares for this cluster; `retired` are those it does not,
    /// though a record is here.
    pub fn declare(
        &mut self,
        repository: &str,
        revision: &str,
        names: BTreeSet<Name>,
        retired: BTreeSet<Name>,
    ) {
        self.retired.retain(|name| !names.contains(name));
        self.retired.extend(retired);
        let unread = names
            .iter()
            .filter(|name| self.read.get(*name).is_none_or(|at| at != revision))
            .cloned()
            .collect();
        self.declared.insert(
            repository.to_owned(),
            DeclaredRevision {
                revision: revision.to_owned(),
                names,
                unread,
            },
        );
        self.wake_all();
    }

    /// Whether this is the revision of a repository that was taken last.
    pub fn is_at(&self, repository: &str, revision: &str) -> bool {
        self.declared
            .get(repository)
            .is_some_and(|declared| declared.revision == revision)
    }

    /// Notes what an Application wants in a revision, and looks at what was seen of it before that
    /// was known.
    pub fn claim(
        &mut self,
        name: &Name,
        revision: &str,
        desired: &[DesiredObject],
        watched: impl Fn(&DesiredObject) -> WatchedManifest,
    ) {
        self.unclaim(name);
        self.unsure.remove(name);
        for one in desired {
            self.claims
                .entry(one.key.clone())
                .or_insert_with(|| ClaimQueue::new(name))
                .add(name);
            let free = self.watched.get(&one.key).is_none_or(|judged| {
                self.seen
                    .get(&one.key)
                    .is_some_and(|seen| seen.live.owner.as_ref() == Some(name))
                    || judged.0 == *name
            });
            if free {
                self.judge(name, &one.key, watched(one));
            }
        }
        self.claimed.insert(
            name.clone(),
            desired.iter().map(|one| one.key.clone()).collect(),
        );
        self.mark_read(name, revision);
    }

    /// Notes that nothing more is to be learned of an Application in a revision; what it claims
    /// stays.
    pub fn mark_read(&mut self, name: &Name, revision: &str) {
        let before = self.read.insert(name.clone(), revision.to_owned());
        if before.as_deref() == Some(revision) {
            return;
        }
        let mut complete = false;
        for declared in self
            .declared
            .values_mut()
            .filter(|declared| declared.names.contains(name))
        {
            if declared.revision == revision {
                complete |= declared.unread.remove(name) && declared.unread.is_empty();
            } else {
                declared.unread.insert(name.clone());
            }
        }
        // Those that prune wait for all; those that want what this one had, for this one.
        let heirs = std::mem::take(&mut self.heirs);
        if complete {
            self.wake_all();
        } else {
            heirs
                .iter()
                .filter_map(|heir| self.inboxes.get(heir))
                .for_each(|inbox| inbox.notify_one());
        }
    }

    /// An Application wants what another one has: it is woken when one more has been read.
    pub fn inherits(&mut self, name: &Name) {
        self.heirs.insert(name.clone());
    }

    fn unclaim(&mut self, name: &Name) {
        for key in self.claimed.remove(name).unwrap_or_default() {
            if self
                .watched
                .get(&key)
                .is_some_and(|judged| judged.0 == *name)
            {
                self.watched.remove(&key);
            }
            if let Some(names) = self.claims.get_mut(&key) {
                match names.remove(name) {
                    false => drop(self.claims.remove(&key)),
                    true => self.wake(&key),
                }
            }
        }
    }

    /// Sets how a live object is judged, and judges what was kept of it.
    pub fn judge(&mut self, name: &Name, key: &ObjectKey, watched: WatchedManifest) {
        if let Some(seen) = self.seen.get_mut(key) {
            let raw = seen
                .raw
                .take()
                .and_then(|raw| serde_json::from_str(&raw).ok())
                .and_then(|value| Object::new(value).ok());
            if let Some(object) = raw {
                **seen = observed::look(&object, Some(&watched));
            }
        }
        self.watched
            .insert(key.clone(), Box::new((name.clone(), watched)));
    }

    /// Takes in what was seen, with the name of its owner as it is kept already.
    fn keep(&mut self, key: &ObjectKey, mut seen: Observed) {
        if let Some((owner, _)) = seen
            .live
            .owner
            .as_ref()
            .and_then(|owner| self.inboxes.get_key_value(owner))
        {
            seen.live.owner = Some(owner.clone());
        }
        match self.seen.get_mut(key) {
            Some(place) => **place = seen,
            None => drop(self.seen.insert(key.clone(), Box::new(seen))),
        }
    }

    /// Of the Applications of a repository that have not been read at its revision: the first, and
    /// how many there are.
    pub fn unread(&self, repository: &str) -> Option<(Name, usize)> {
        let unread = &self.declared.get(repository)?.unread;
        Some((unread.first()?.clone(), unread.len()))
    }

    /// What is live of an object that carries our labels.
    pub fn live(&self, key: &ObjectKey) -> Option<&LiveObject> {
        self.seen.get(key).map(|seen| &seen.live)
    }

    pub fn seen(&self, key: &ObjectKey) -> Option<&Observed> {
        self.seen.get(key).map(|seen| &**seen)
    }

    pub fn health(&self, key: &ObjectKey) -> Option<&Health> {
        self.seen.get(key).map(|seen| &seen.health)
    }

    /// Live objects whose labels name an Application.
    pub fn labelled<'s>(
        &'s self,
        name: &'s Name,
    ) -> impl Iterator<Item = (&'s ObjectKey, &'s Observed)> {
        self.seen
            .iter()
            .map(|(key, seen)| (key, &**seen))
            .filter(move |(_, seen)| seen.live.owner.as_ref() == Some(name))
    }

    /// An object is no more.
    fn gone(&mut self, key: &ObjectKey) {
        self.wake(key);
        self.seen.remove(key);
    }

    /// Wakes whoever an object concerns.
    fn wake(&self, key: &ObjectKey) {
        let owner = self.seen.get(key).and_then(|seen| seen.live.owner.as_ref());
        let claims = self.claims.get(key).into_iter().flat_map(ClaimQueue::iter);
        for name in claims.chain(owner) {
            if let Some(inbox) = self.inboxes.get(name) {
                inbox.notify_one();
            }
        }
    }

    pub fn wake_all(&self) {
        self.inboxes.values().for_each(|inbox| inbox.notify_one());
    }
}
