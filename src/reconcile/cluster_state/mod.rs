//! What one process knows of one cluster: live objects, claims, and recorded owners.
//!
//! Filled by watches. An event wakes the Applications it concerns; nothing is polled.
//!
//! ```text
//! watches ─▶ observe ─▶ ClusterState { objects, claims, applications } ─▶ wake ─▶ AppReconciler
//! records ─▶ ownership ──────────────▲
//! ```

pub(crate) mod api_resources;
pub(crate) mod claims;
pub(crate) mod observed;
pub(crate) mod released;

mod declared;
mod events;
mod ownership;
mod records;
mod watch_scope;
mod watch_status;

pub(crate) use declared::DeclaredNames;
pub(crate) use ownership::{NameHolder, RECORD_TTL, inventory as recorded_inventory};
pub(crate) use {
    watch_scope::WatchTrouble,
    watch_status::{Unlisted, WatchedScope},
};

use self::{
    claims::Claimants,
    observed::{Observed, WatchedManifest},
};
use super::{
    RepositoryId,
    permits::{WorkPermit, WorkPermits},
};
use crate::{
    core::name::Name,
    io::cluster::{ClusterClient, Watches},
    objects::{
        health::{Health, KindTraits, RunEnd},
        object::{Object, ObjectKey},
        plan::{AtomicFields, DesiredObject, LiveObject},
    },
    spec::HealthRule,
};
use declared::DeclaredRevision;
use jiff::Timestamp;
use records::RecordTable;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    sync::{Notify, OnceCell},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use watch_status::WatchStatus;

/// Group and kind. Objects of one kind are watched in one version.
type GroupKind = (String, String);

/// A cluster with its client, watches and shared state.
pub(crate) struct ClusterHandle {
    pub client: ClusterClient,
    /// Health rules for every Application on it.
    pub health: Vec<Arc<HealthRule>>,
    state: Mutex<ClusterState>,
    watches: OnceCell<Watches>,
    records: tokio::sync::Mutex<Option<RecordTable>>,
    permits: WorkPermits,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What is known of one Application, whether it has a task here or not.
#[derive(Default)]
struct AppEntry {
    /// Wakes the Application's task; `None` if this process has none.
    wake: Option<Arc<Notify>>,
    /// True if its task sleeps and waits only for changes of its own objects, and for work.
    at_rest: bool,
    /// The repository that has reserved the name.
    owner: Option<Arc<RepositoryId>>,
    /// The revision whose claims are known.
    read_at: Option<String>,
    /// The revision that could not be read.
    unreadable_at: Option<String>,
    claimed: Vec<ObjectKey>,
    /// The number of objects of a tenant's Application.
    reserved: Option<usize>,
    /// Whether others of its tenant leave no room for its objects.
    waits_for_room: bool,
    /// Live objects whose health was judged by another rule than counts now.
    outdated: Vec<ObjectKey>,
    /// Whether a complete revision no longer declares it.
    retired: bool,
    /// The repository that its record names.
    recorded_in: Option<Box<str>>,
    /// The objects its record names, sorted; `None` if the record was never looked up.
    recorded: Option<Box<[ObjectKey]>>,
    /// Whether its record is damaged: any object with its labels may be its own.
    record_damaged: bool,
    /// When its record was last read on behalf of another Application.
    consulted: Option<Instant>,
}

impl AppEntry {
    /// Counts the objects that it has room for.
    fn objects(&self) -> usize {
        let recorded = self.recorded.as_ref().map_or(0, |keys| keys.len());
        self.reserved.unwrap_or(recorded)
    }
}

#[derive(Default)]
pub(crate) struct ClusterState {
    /// Boxed, like [`Self::watched`]: a hash table reserves space for twice its entries.
    objects: HashMap<ObjectKey, Box<Observed>>,
    kinds: HashMap<GroupKind, WatchStatus>,
    watched: HashMap<ObjectKey, Box<(Name, WatchedManifest)>>,
    claims: HashMap<ObjectKey, Claimants>,
    /// How claimed objects that are gone ended, with their UIDs: a Job may be deleted as soon as it
    /// completes. Taken by the Application that applied them.
    ended: HashMap<ObjectKey, (String, RunEnd)>,
    applications: HashMap<Name, AppEntry>,
    /// Declared revisions, by repository.
    declared: HashMap<String, DeclaredRevision>,
    /// Applications waiting to take over an object; woken when the owner's new revision is known.
    /// An index of its own, so that a read revision does not visit every entry.
    waiting_for_handover: HashSet<Name>,
    /// Repositories that will be followed.
    expected_repositories: BTreeSet<String>,
    /// Repositories that are tenants.
    tenants: BTreeSet<String>,
    /// Interned atomic fields of all objects.
    pub atomic_fields: AtomicFields,
}

impl ClusterHandle {
    /// `concurrency` is the number of requests the cluster takes at once.
    pub(crate) fn new(
        client: ClusterClient,
        concurrency: usize,
        health: Vec<Arc<HealthRule>>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            client,
            health,
            state: Mutex::default(),
            watches: OnceCell::new(),
            records: tokio::sync::Mutex::default(),
            permits: WorkPermits::new(concurrency),
            tasks,
            stop,
        })
    }

    /// Waits for a permit to work.
    pub(crate) async fn work_permit(&self) -> WorkPermit {
        self.permits.acquire().await
    }

    /// Locks the state. The guard must not be held across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, ClusterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClusterState {
    fn application(&mut self, name: &Name) -> &mut AppEntry {
        self.applications.entry(name.clone()).or_default()
    }

    /// Registers how the task of an Application is woken.
    pub(crate) fn register(&mut self, name: &Name, wake: Arc<Notify>) {
        self.application(name).wake = Some(wake);
    }

    /// Forgets an Application whose task has ended.
    pub(crate) fn dismiss(&mut self, name: &Name) {
        self.unclaim(name);
        if let Some(entry) = self.applications.remove(name) {
            // Objects with its labels may still be terminating: a retired owner wants none of
            // them, and needs no look at its record.
            let AppEntry {
                retired, consulted, ..
            } = entry;
            if retired || consulted.is_some() {
                let rest = AppEntry {
                    retired,
                    consulted,
                    ..AppEntry::default()
                };
                self.applications.insert(name.clone(), rest);
            }
        }
        self.waiting_for_handover.remove(name);
        for declared in self
            .declared
            .values_mut()
            .filter(|declared| declared.names.contains(name))
        {
            declared.unread.insert(name.clone());
        }
        self.wake_restless();
    }

    /// Claims the desired objects of an Application, and judges those observed before.
    pub(crate) fn claim(
        &mut self,
        name: &Name,
        revision: &str,
        desired: &[DesiredObject],
        watched: impl Fn(&DesiredObject) -> WatchedManifest,
    ) {
        let mut outdated = Vec::new();
        self.unclaim(name);
        self.application(name).record_damaged = false;
        for one in desired {
            self.claim_key(name, &one.key);
            // Of several claimants, the one that owns the live object judges it.
            let judges = self.watched.get(&one.key).is_none_or(|watched| {
                self.objects
                    .get(&one.key)
                    .is_some_and(|observed| observed.live.owner.as_ref() == Some(name))
                    || watched.0 == *name
            });
            if judges && !self.judge(name, &one.key, watched(one)) {
                outdated.push(one.key.clone());
            }
        }
        let entry = self.application(name);
        entry.claimed = desired.iter().map(|one| one.key.clone()).collect();
        entry.outdated = outdated;
        self.mark_read(name, revision);
    }

    /// Returns an object of an Application that must be read again, if there is one.
    pub(crate) fn outdated(&self, name: &Name) -> Option<ObjectKey> {
        self.applications.get(name)?.outdated.last().cloned()
    }

    /// Records that an outdated object was read again.
    pub(crate) fn mark_judged(&mut self, name: &Name, key: &ObjectKey) {
        if let Some(entry) = self.applications.get_mut(name) {
            entry.outdated.retain(|outdated| outdated != key);
        }
    }

    /// Claims objects by key, for an Application that applies nothing now.
    pub(crate) fn claim_keys(
        &mut self,
        name: &Name,
        revision: &str,
        keys: impl IntoIterator<Item = ObjectKey>,
    ) {
        self.unclaim(name);
        let keys: Vec<ObjectKey> = keys
            .into_iter()
            .map(|key| self.intern_recorded(name, key))
            .collect();
        for key in &keys {
            self.claim_key(name, key);
        }
        self.application(name).claimed = keys;
        self.mark_read(name, revision);
    }

    fn claim_key(&mut self, name: &Name, key: &ObjectKey) {
        let claimants = self
            .claims
            .entry(key.clone())
            .or_insert_with(|| Claimants::new(name));
        claimants.add(name);
        if matches!(claimants, Claimants::Several(_)) {
            self.wake_interested(key);
        }
    }

    /// Records that the claims of an Application are known at a revision.
    pub(crate) fn mark_read(&mut self, name: &Name, revision: &str) {
        let before = self.application(name).read_at.replace(revision.to_owned());
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
        // A prune waits for all Applications of a repository, a hand-over only for this one.
        let waiting = std::mem::take(&mut self.waiting_for_handover);
        if complete {
            self.wake_restless();
        } else {
            waiting.iter().for_each(|name| self.wake(name));
        }
    }

    /// Registers an Application that waits to take over an object.
    pub(crate) fn wait_for_handover(&mut self, name: &Name) {
        self.waiting_for_handover.insert(name.clone());
    }

    fn unclaim(&mut self, name: &Name) {
        let Some(entry) = self.applications.get_mut(name) else {
            return;
        };
        for key in std::mem::take(&mut entry.claimed) {
            if self
                .watched
                .get(&key)
                .is_some_and(|watched| watched.0 == *name)
            {
                self.watched.remove(&key);
            }
            if let Some(claimants) = self.claims.get_mut(&key) {
                if claimants.remove(name) {
                    self.wake_interested(&key);
                } else {
                    self.claims.remove(&key);
                }
            }
        }
    }

    /// Sets the manifest that judges a live object, and judges the object if it is kept. Returns
    /// whether its health was judged by the right rule.
    pub(crate) fn judge(&mut self, name: &Name, key: &ObjectKey, watched: WatchedManifest) -> bool {
        let traits = self.traits(key);
        let mut is_judged = true;
        if let Some(observed) = self.objects.get_mut(key) {
            let object = observed
                .raw
                .take()
                .and_then(|raw| serde_json::from_str(&raw).ok())
                .and_then(|value| Object::new(value).ok());
            if let Some(object) = object {
                **observed = observed::observe(&object, Some(&watched), traits);
            }
            is_judged = observed.rule == watched.health;
        }
        self.watched
            .insert(key.clone(), Box::new((name.clone(), watched)));
        is_judged
    }

    /// Stores an observed object; its owner shares memory with the known name.
    fn store(&mut self, key: &ObjectKey, mut observed: Observed) {
        if let Some((owner, _)) = observed
            .live
            .owner
            .as_ref()
            .and_then(|owner| self.applications.get_key_value(owner))
        {
            observed.live.owner = Some(owner.clone());
        }
        match self.objects.get_mut(key) {
            Some(place) => **place = observed,
            None => drop(self.objects.insert(key.clone(), Box::new(observed))),
        }
    }

    pub(crate) fn live(&self, key: &ObjectKey) -> Option<&LiveObject> {
        self.objects.get(key).map(|observed| &observed.live)
    }

    pub(crate) fn observed(&self, key: &ObjectKey) -> Option<&Observed> {
        self.objects.get(key).map(|observed| &**observed)
    }

    /// Returns the health of an object at a time, and when it changes by itself.
    pub(crate) fn health(
        &self,
        key: &ObjectKey,
        now: Timestamp,
    ) -> Option<(&Health, Option<Timestamp>)> {
        let health = &self.objects.get(key)?.health;
        Some((health.at(now), health.changes_after(now)))
    }

    fn traits(&self, key: &ObjectKey) -> KindTraits {
        let kind = (key.group.clone(), key.kind.clone());
        let status = self.kinds.get(&kind);
        status.map_or_else(KindTraits::default, |status| status.traits)
    }

    /// Returns the live objects that carry the labels of an Application.
    pub(crate) fn labelled<'s>(
        &'s self,
        name: &'s Name,
    ) -> impl Iterator<Item = (&'s ObjectKey, &'s Observed)> {
        self.objects
            .iter()
            .map(|(key, observed)| (key, &**observed))
            .filter(move |(_, observed)| observed.live.owner.as_ref() == Some(name))
    }

    /// Returns how an object with a UID ended, whether it is still there or not.
    pub(crate) fn take_end(&mut self, key: &ObjectKey, uid: &str) -> Option<RunEnd> {
        let (of, end) = match self.objects.get(key) {
            Some(observed) => (observed.live.uid.clone(), observed.ended?),
            None => self.ended.remove(key)?,
        };
        (of == uid).then_some(end)
    }

    fn remove_object(&mut self, key: &ObjectKey) {
        self.wake_interested(key);
        let Some(removed) = self.objects.remove(key) else {
            return;
        };
        if let Some(end) = removed.ended
            && self.claims.contains_key(key)
        {
            self.ended.insert(key.clone(), (removed.live.uid, end));
        }
    }

    fn wake(&self, name: &Name) {
        let entry = self.applications.get(name);
        if let Some(wake) = entry.and_then(|entry| entry.wake.as_ref()) {
            wake.notify_one();
        }
    }

    /// Wakes the owner and the claimants of an object.
    fn wake_interested(&self, key: &ObjectKey) {
        let observed = self.objects.get(key);
        let owner = observed.and_then(|observed| observed.live.owner.as_ref());
        let claimants = self.claims.get(key).into_iter().flat_map(Claimants::iter);
        claimants.chain(owner).for_each(|name| self.wake(name));
    }

    pub(crate) fn wake_all(&self) {
        self.applications
            .values()
            .filter_map(|entry| entry.wake.as_ref())
            .for_each(|wake| wake.notify_one());
    }

    /// Wakes the tasks that may wait for something that others declare or apply.
    pub(crate) fn wake_restless(&self) {
        self.applications
            .values()
            .filter(|entry| !entry.at_rest)
            .filter_map(|entry| entry.wake.as_ref())
            .for_each(|wake| wake.notify_one());
    }

    /// Records whether the task of an Application waits for nothing but changes of its own objects
    /// and work.
    pub(crate) fn set_rest(&mut self, name: &Name, at_rest: bool) {
        if let Some(entry) = self.applications.get_mut(name) {
            entry.at_rest = at_rest;
        }
    }

    /// Returns whether the Application of a repository, and not its namesake, is at rest.
    pub(crate) fn is_at_rest(&self, name: &Name, repository: &str) -> bool {
        self.applications.get(name).is_some_and(|entry| {
            let owner = entry.owner.as_ref();
            entry.at_rest && owner.is_some_and(|owner| owner.name == repository)
        })
    }

    /// Records that the claims of an Application are the same at another revision.
    pub(crate) fn carry_over(&mut self, name: &Name, revision: &str) {
        self.application(name).read_at = Some(revision.to_owned());
    }

    /// Returns whether an Application has a task in this process.
    pub(crate) fn has_task(&self, name: &Name) -> bool {
        self.applications
            .get(name)
            .is_some_and(|entry| entry.wake.is_some())
    }
}
