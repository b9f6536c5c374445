//! Watch events and answers, taken into the state.

use super::{ClusterHandle, GroupKind, observed, watch_status::WatchStatus};
use crate::{
    core::retry,
    events::{Event, EventReason},
    io::{
        cluster::{ClusterEvent, Resources, Watches},
        supervise::{BUG_HINT, panic_text},
    },
    objects::{
        health::KindTraits,
        object::{Gvk, Object},
        plan::OWNER_LABELS,
    },
};
use std::{
    collections::{HashMap, hash_map::Entry},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;

/// Bound of the event queue. A faster watch waits.
const EVENT_QUEUE: usize = 256;

/// The first and the longest delay before the watches of a kind are started again.
const RESTART: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

impl ClusterHandle {
    /// Ensures that kinds are watched, each in one version: the requested one, or another that the
    /// cluster serves.
    pub(crate) async fn watch(
        self: &Arc<Self>,
        kinds: impl IntoIterator<Item = Gvk>,
        resources: &Resources,
    ) {
        let mut new = Vec::new();
        let mut unserved_kinds = Vec::new();
        {
            let mut state = self.state();
            for kind in kinds {
                let exact = resources.find(&kind);
                let resource = exact.or_else(|| resources.preferred(&kind.group, &kind.kind));
                let gvk = resource.map_or_else(|| kind.clone(), |resource| resource.gvk.clone());
                let unserved = resource.is_none() && !resources.is_unavailable(&kind);
                if exact.is_none() {
                    unserved_kinds.push(kind.clone());
                }
                let has_status = resource.is_some_and(|resource| resource.has_status);
                let traits = KindTraits::of(&kind.group, has_status);
                match state.kinds.entry((kind.group, kind.kind)) {
                    Entry::Vacant(entry) => {
                        entry.insert(WatchStatus::new(unserved)).traits = traits;
                        new.push(gvk);
                    }
                    // Its CRD may have been created or changed since.
                    Entry::Occupied(entry) => entry.into_mut().traits = traits,
                }
            }
        }
        if new.is_empty() && unserved_kinds.is_empty() && self.watches.initialized() {
            return;
        }
        let watches = self
            .watches
            .get_or_init(|| async {
                let (sender, events) = mpsc::channel(EVENT_QUEUE);
                let cluster = Arc::clone(self);
                self.tasks
                    .spawn(async move { cluster.process_events(events).await });
                Watches::start(self.client.clone(), [], OWNER_LABELS[1], sender)
            })
            .await;
        watches.ensure(new);
        watches.look_out(unserved_kinds);
    }

    async fn process_events(self: Arc<Self>, mut events: mpsc::Receiver<ClusterEvent>) {
        let mut panics: HashMap<GroupKind, u32> = HashMap::new();
        loop {
            let event = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                event = events.recv() => event,
            };
            let Some(event) = event else { return };
            let gvk = event.gvk().clone();
            if !self.process_safely(event) {
                let kind = (gvk.group, gvk.kind);
                let count = panics.entry(kind.clone()).or_default();
                *count += 1;
                self.restart_watches(kind, retry::delay(*count, RESTART.0, RESTART.1));
            }
        }
    }

    /// Processes an event; returns false if that panicked, so that the event is lost.
    fn process_safely(&self, event: ClusterEvent) -> bool {
        let kind = event.gvk().to_string();
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.process(event))) else {
            return true;
        };
        let text = format!(
            "cannot process a watch event of {kind}: a panic ({}); its objects are listed again",
            panic_text(&*panic)
        );
        let event = Event::error(EventReason::TaskPanicked, text).hint(Some(BUG_HINT));
        self.client.events().record(event);
        false
    }

    /// Has the objects of a kind listed again after a delay: the same object may panic again.
    fn restart_watches(self: &Arc<Self>, (group, kind): GroupKind, delay: Duration) {
        let cluster = Arc::clone(self);
        self.tasks.spawn(async move {
            tokio::select! {
                () = cluster.stop.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
            // Under one lock with the list of scopes, as in all that starts or ends watches.
            let _state = cluster.state();
            if let Some(watches) = cluster.watches.get() {
                watches.restart(&group, &kind);
            }
        });
    }

    fn process(&self, event: ClusterEvent) {
        match event {
            ClusterEvent::Object(_, object) => self.observe(&object),
            ClusterEvent::Gone(_, key, uid) => {
                let mut state = self.state();
                let is_known = state
                    .objects
                    .get(&key)
                    .is_some_and(|observed| uid.is_empty() || observed.live.uid == uid);
                if is_known {
                    state.remove_object(&key);
                }
            }
            ClusterEvent::Listed(scope, keys) => self.watch_listed(&scope, &keys),
            ClusterEvent::Trouble(scope, error) => self.watch_failed(scope, &error),
            ClusterEvent::Recovered(scope) => self.watch_recovered(scope),
            ClusterEvent::Narrowed(gvk, error) => self.watch_narrowed(gvk, &error),
        }
    }

    /// Takes in a live object, from a watch or from the answer to an apply.
    pub(crate) fn observe(&self, object: &Object) {
        let key = self.state().intern(object.key());
        loop {
            let (watched, traits) = {
                let state = self.state();
                let watched = state.watched.get(&key);
                (watched.map(|watched| watched.1.clone()), state.traits(&key))
            };
            // Hashing a large object takes a while: the lock is not held meanwhile.
            let observed = observed::observe(object, watched.as_ref(), traits);
            let mut state = self.state();
            let unchanged = match (&watched, state.watched.get(&key)) {
                (Some(before), Some(now)) => {
                    before.manifest.ptr_eq(&now.1.manifest)
                        && before.expected == now.1.expected
                        && before.health == now.1.health
                }
                (None, None) => true,
                _ => false,
            };
            if !unchanged {
                // The manifest changed meanwhile: judge the object again.
                continue;
            }
            let old = state.objects.get(&key);
            if old.is_some_and(|old| {
                old.live.uid == observed.live.uid
                    && old.resource_version > observed.resource_version
            }) {
                return;
            }
            let changed = old.is_none_or(|old| {
                old.live != observed.live
                    || old.health != observed.health
                    || old.ended != observed.ended
                    || old.changed != observed.changed
                    || old.template_additions != observed.template_additions
                    || old.released != observed.released
            });
            let old_owner = old.and_then(|old| old.live.owner.clone());
            state.store(&key, observed);
            if changed {
                old_owner.iter().for_each(|owner| state.wake(owner));
                state.wake_interested(&key);
            }
            return;
        }
    }
}
