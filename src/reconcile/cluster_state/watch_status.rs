//! The state of the watches: first lists, and watches that fail.

use super::{
    ClusterHandle, ClusterState,
    watch_scope::{NarrowedWatch, ScopeStatus, WatchTrouble, too_many_namespaces},
};
use crate::{
    core::error::{Classify as _, ErrorKind},
    events::{Event, EventReason},
    io::cluster::{ClusterError, ClusterProblem, WatchScope},
    objects::{
        health::KindTraits,
        object::{Gvk, ObjectKey},
    },
};
use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};
use tokio::time::Instant;

/// How long a watch may fail before its Applications report it. Restarts of API servers are
/// shorter.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(30);

/// The watches of a kind.
#[derive(Default)]
pub(crate) struct WatchStatus {
    /// Whether the cluster does not serve the kind, so that no object of it can exist.
    unserved: bool,
    /// The traits of the kind that its health depends on.
    pub(super) traits: KindTraits,
    /// The watch of the whole cluster.
    whole: ScopeStatus,
    /// The watches of single namespaces, where the account may not watch the whole cluster.
    narrowed: Option<NarrowedWatch>,
}

impl WatchStatus {
    pub(super) fn new(unserved: bool) -> Self {
        Self {
            unserved,
            ..Self::default()
        }
    }

    /// Returns the state of a watch; `None` if it is not in use any more.
    fn scope(&mut self, namespace: Option<&str>) -> Option<&mut ScopeStatus> {
        match (&mut self.narrowed, namespace) {
            (None, None) => Some(&mut self.whole),
            (Some(narrowed), Some(namespace)) => narrowed.namespaces.get_mut(namespace),
            _ => None,
        }
    }

    fn scopes(&mut self) -> impl Iterator<Item = &mut ScopeStatus> {
        let narrowed = self.narrowed.iter_mut();
        let namespaces = narrowed.flat_map(|narrowed| narrowed.namespaces.values_mut());
        std::iter::once(&mut self.whole).chain(namespaces)
    }
}

impl WatchTrouble {
    #[cfg(test)]
    pub(crate) fn new(message: &str, transient: bool) -> Self {
        Self {
            message: message.to_owned(),
            hint: None,
            transient,
            since: Instant::now(),
        }
    }
}

/// What one watch covers: a kind, in one namespace or in all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WatchedScope {
    pub group: String,
    pub kind: String,
    pub namespace: Option<String>,
}

impl WatchedScope {
    fn of(key: &ObjectKey, namespace: Option<&String>) -> Self {
        Self {
            group: key.group.clone(),
            kind: key.kind.clone(),
            namespace: namespace.cloned(),
        }
    }
}

/// Scopes without a first list, each with the failure of its watch, if any.
#[derive(Debug, Default)]
pub(crate) struct Unlisted(BTreeMap<WatchedScope, Option<WatchTrouble>>);

impl Unlisted {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&WatchedScope, Option<&WatchTrouble>)> {
        self.0
            .iter()
            .map(|(scope, trouble)| (scope, trouble.as_ref()))
    }

    /// Returns the entry that covers an object.
    pub(crate) fn covering(&self, key: &ObjectKey) -> Option<Option<&WatchTrouble>> {
        // Usually empty: no key is cloned for nothing.
        if self.0.is_empty() {
            return None;
        }
        let whole = self.0.get(&WatchedScope::of(key, None));
        let trouble = whole.or_else(|| self.0.get(&WatchedScope::of(key, key.namespace.as_ref())));
        trouble.map(Option::as_ref)
    }
}

impl ClusterHandle {
    /// Returns the scopes that cannot be judged yet, because their first list has not come. Starts
    /// the watches of namespaces that a narrowed kind needs for these objects.
    pub(crate) fn unlisted<'k>(&self, keys: impl Iterator<Item = &'k ObjectKey>) -> Unlisted {
        // Under one lock with the list of scopes, as in all that starts or ends watches.
        let mut state = self.state();
        let (unlisted, started) = state.unlisted(keys);
        if let Some(watches) = self.watches.get().filter(|_| !started.is_empty()) {
            watches.ensure_scopes(started);
        }
        unlisted
    }

    /// Returns the scopes whose watch has failed for [`STALE_AFTER`], so that their objects may be
    /// stale; and the time when the next one will be reported.
    pub(crate) fn stale_watches<'k>(
        &self,
        keys: impl Iterator<Item = &'k ObjectKey>,
    ) -> (BTreeMap<WatchedScope, WatchTrouble>, Option<Instant>) {
        let mut state = self.state();
        let mut stale = BTreeMap::new();
        let mut next: Option<Instant> = None;
        let has_trouble = {
            let mut scopes = state.kinds.values_mut().flat_map(WatchStatus::scopes);
            scopes.any(|scope| scope.trouble.is_some())
        };
        if !has_trouble {
            return (stale, next);
        }
        for key in keys {
            let kind = (key.group.clone(), key.kind.clone());
            let Some(status) = state.kinds.get_mut(&kind) else {
                continue;
            };
            let namespace = key.namespace.as_ref().filter(|_| status.narrowed.is_some());
            let scope = status.scope(namespace.map(String::as_str));
            let Some(scope) = scope.filter(|scope| scope.listed) else {
                continue;
            };
            let Some(trouble) = &scope.trouble else {
                continue;
            };
            let due = trouble.since + STALE_AFTER;
            if due > Instant::now() {
                next = Some(next.map_or(due, |next| next.min(due)));
                continue;
            }
            if !std::mem::replace(&mut scope.logged, true) {
                let message = format!(
                    "the watch of {} fails, changes go unnoticed: {}",
                    key.kind, trouble.message
                );
                let event = Event::warning(EventReason::WatchFailed, message);
                self.client
                    .events()
                    .record(event.hint(trouble.hint.clone()));
            }
            stale.insert(WatchedScope::of(key, namespace), trouble.clone());
        }
        (stale, next)
    }

    pub(super) fn watch_failed(&self, scope: WatchScope, error: &ClusterError) {
        // Of a server that hangs, nothing was heard for a while before it was noticed.
        let silence = match *error.problem {
            ClusterProblem::Silent { silence, .. } => silence,
            _ => Duration::ZERO,
        };
        let now = Instant::now();
        let WatchScope { gvk, namespace } = scope;
        let kind = gvk.kind.clone();
        let mut state = self.state();
        let status = state.watch_status(gvk);
        status.unserved = matches!(
            *error.problem,
            ClusterProblem::UnknownKind { down: false, .. }
        );
        let Some(scope) = status.scope(namespace.as_deref()) else {
            return;
        };
        let before = scope.trouble.as_ref().map(|trouble| trouble.since);
        let trouble = WatchTrouble {
            message: error.problem.to_string(),
            hint: error.hint(),
            transient: error.kind() != ErrorKind::Config,
            since: before.unwrap_or_else(|| now.checked_sub(silence).unwrap_or(now)),
        };
        // Rights are not missing for a moment, as a server is that restarts.
        let is_logged = !trouble.transient && !scope.listed;
        if is_logged && !std::mem::replace(&mut scope.logged, true) {
            let message = format!("{kind} cannot be watched: {}", trouble.message);
            let event = Event::warning(EventReason::WatchFailed, message);
            self.client
                .events()
                .record(event.hint(trouble.hint.clone()));
        }
        scope.trouble = Some(trouble);
        state.wake_all();
    }

    pub(super) fn watch_recovered(&self, scope: WatchScope) {
        let WatchScope { gvk, namespace } = scope;
        let kind = gvk.kind.clone();
        let mut state = self.state();
        let status = state.watch_status(gvk);
        status.unserved = false;
        let Some(scope) = status.scope(namespace.as_deref()) else {
            return;
        };
        scope.trouble = None;
        if std::mem::take(&mut scope.logged) {
            let message = match namespace {
                Some(namespace) => format!("the watch of {kind} in {namespace} works again"),
                None => format!("the watch of {kind} works again"),
            };
            let event = Event::info(EventReason::WatchRecovered, message);
            self.client.events().record(event);
        }
        state.wake_all();
    }

    /// Has a kind watched in single namespaces from now on: as passes need them.
    pub(super) fn watch_narrowed(&self, gvk: Gvk, error: &ClusterError) {
        let message = format!(
            "{} is watched in single namespaces: {}",
            gvk.kind, error.problem
        );
        let event = Event::info(EventReason::WatchNarrowed, message);
        self.client.events().record(event);
        self.state().narrow(gvk);
    }

    /// Takes in a complete list of a scope.
    pub(super) fn watch_listed(&self, scope: &WatchScope, keys: &[ObjectKey]) {
        let mut state = self.state();
        let widened = state.process_list(scope, keys);
        if let Some(watches) = self.watches.get() {
            watches.end_scopes(widened);
        }
    }

    /// Tries refused watches again at once, at the user's request.
    pub(crate) fn retry_watches(&self) {
        let Some(watches) = self.watches.get() else {
            return;
        };
        let mut state = self.state();
        let scopes = state.kinds.values_mut().flat_map(WatchStatus::scopes);
        for scope in scopes.filter(|scope| !scope.listed) {
            // Pending, until the new attempt has an answer.
            scope.trouble.take_if(|trouble| !trouble.transient);
        }
        drop(state);
        watches.retry();
    }

    /// Ends the watches of namespaces in which no Application has objects any more.
    pub(crate) fn release_watches(&self) {
        let mut state = self.state();
        let released = state.release_scopes();
        if let Some(watches) = self.watches.get() {
            watches.end_scopes(released);
        }
    }
}

impl ClusterState {
    /// Returns the scopes of objects without a first list, and those whose watch must be started.
    fn unlisted<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k ObjectKey>,
    ) -> (Unlisted, Vec<WatchScope>) {
        let mut unlisted = Unlisted::default();
        let mut started = Vec::new();
        for key in keys {
            let kind = (key.group.clone(), key.kind.clone());
            let Some(status) = self.kinds.get_mut(&kind).filter(|status| !status.unserved) else {
                continue;
            };
            let Some(narrowed) = &mut status.narrowed else {
                if !status.whole.listed {
                    let trouble = status.whole.trouble.clone();
                    unlisted.0.insert(WatchedScope::of(key, None), trouble);
                }
                continue;
            };
            let Some(namespace) = &key.namespace else {
                continue;
            };
            if !narrowed.namespaces.contains_key(namespace) {
                if narrowed.is_full() {
                    let trouble = too_many_namespaces(&key.kind);
                    let place = WatchedScope::of(key, Some(namespace));
                    unlisted.0.insert(place, Some(trouble));
                    continue;
                }
                let gvk = Gvk {
                    group: kind.0,
                    version: narrowed.version.clone(),
                    kind: kind.1,
                };
                started.push(WatchScope::namespace(gvk, namespace));
            }
            let scope = narrowed.namespaces.entry(namespace.clone()).or_default();
            if !scope.listed {
                let place = WatchedScope::of(key, Some(namespace));
                unlisted.0.insert(place, scope.trouble.clone());
            }
        }
        (unlisted, started)
    }

    /// Has a kind watched in single namespaces from now on.
    fn narrow(&mut self, gvk: Gvk) {
        let version = gvk.version.clone();
        let status = self.watch_status(gvk);
        status.whole = ScopeStatus::default();
        status.narrowed = Some(NarrowedWatch {
            version,
            ..NarrowedWatch::default()
        });
        self.wake_all();
    }

    /// Takes in a complete list of a scope: objects of it that are not in the list were deleted.
    /// Returns the scopes that the list of a whole cluster makes needless.
    fn process_list(&mut self, scope: &WatchScope, keys: &[ObjectKey]) -> Vec<WatchScope> {
        let WatchScope { gvk, namespace } = scope;
        let listed: HashSet<&ObjectKey> = keys.iter().collect();
        let is_covered = |key: &ObjectKey| {
            gvk.is(&key.group, &key.kind)
                && (namespace.is_none() || namespace.as_deref() == key.namespace.as_deref())
        };
        let deleted: Vec<ObjectKey> = self
            .objects
            .keys()
            .filter(|key| is_covered(key) && !listed.contains(key))
            .cloned()
            .collect();
        for key in deleted {
            self.remove_object(&key);
        }
        let status = self.watch_status(gvk.clone());
        let narrowed = status.narrowed.take_if(|_| namespace.is_none());
        let was_listed = match status.scope(namespace.as_deref()) {
            Some(scope) => std::mem::replace(&mut scope.listed, true),
            None => true,
        };
        if !was_listed {
            self.wake_all();
        }
        narrowed.map_or_else(Vec::new, |narrowed| narrowed.scopes(gvk))
    }

    /// Forgets the scopes of narrowed kinds in which no Application declares or has an object.
    fn release_scopes(&mut self) -> Vec<WatchScope> {
        let mut released = Vec::new();
        let mut was_full = false;
        for ((group, kind), status) in &mut self.kinds {
            let Some(narrowed) = &mut status.narrowed else {
                continue;
            };
            let used: HashSet<&str> = (self.claims.keys().chain(self.objects.keys()))
                .filter(|key| key.group == *group && key.kind == *kind)
                .filter_map(|key| key.namespace.as_deref())
                .collect();
            let gvk = Gvk {
                group: group.clone(),
                version: narrowed.version.clone(),
                kind: kind.clone(),
            };
            let is_unused = |namespace: &String| !used.contains(namespace.as_str());
            let unused: Vec<String> = narrowed
                .namespaces
                .keys()
                .filter(|name| is_unused(name))
                .cloned()
                .collect();
            was_full |= narrowed.is_full() && !unused.is_empty();
            for namespace in unused {
                narrowed.namespaces.remove(&namespace);
                released.push(WatchScope::namespace(gvk.clone(), &namespace));
            }
        }
        if was_full {
            self.wake_all();
        }
        released
    }

    pub(super) fn watch_status(&mut self, gvk: Gvk) -> &mut WatchStatus {
        self.kinds.entry((gvk.group, gvk.kind)).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{core::name::Name, reconcile::cluster_state::watch_scope::MOST_NAMESPACES};

    fn maps() -> Gvk {
        Gvk::new("v1", "ConfigMap")
    }

    fn map(namespace: &str) -> ObjectKey {
        ObjectKey::new("", "ConfigMap", Some(namespace.to_owned()), "a")
    }

    /// Returns the namespaces whose list is missing, and those whose watch is started.
    fn seen(state: &mut ClusterState, namespaces: &[&str]) -> (Vec<String>, Vec<String>) {
        let keys: Vec<ObjectKey> = namespaces.iter().map(|name| map(name)).collect();
        let (unlisted, started) = state.unlisted(keys.iter());
        let whole = || "*".to_owned();
        let missing = unlisted
            .iter()
            .map(|(scope, _)| scope.namespace.clone().unwrap_or_else(whole));
        let started = started
            .iter()
            .map(|scope| scope.namespace.as_deref().map_or_else(whole, str::to_owned));
        (missing.collect(), started.collect())
    }

    #[test]
    fn narrowed_kind_has_most_namespaces() {
        let mut state = ClusterState::default();
        state.watch_status(maps());
        state.narrow(maps());
        let names: Vec<String> = (0..MOST_NAMESPACES).map(|one| format!("n{one}")).collect();
        let keys: Vec<ObjectKey> = names.iter().map(|name| map(name)).collect();
        assert_eq!(state.unlisted(keys.iter()).1.len(), MOST_NAMESPACES);
        let (unlisted, started) = state.unlisted([map("more")].iter());
        assert!(started.is_empty());
        let trouble = unlisted.covering(&map("more")).flatten().unwrap();
        assert!(trouble.message.contains("200 namespaces"), "{trouble:?}");
        // A namespace that is left makes room.
        state.release_scopes();
        assert_eq!(state.unlisted([map("more")].iter()).1.len(), 1);
    }

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn narrowed_kind_is_watched_where_it_is_used() {
        let name: Name = "shop/web".parse().unwrap();
        let mut state = ClusterState::default();
        state.watch_status(maps());
        state.claim_keys(&name, "1", [map("shop")]);
        assert_eq!(seen(&mut state, &["shop"]), (texts(&["*"]), texts(&[])));
        state.narrow(maps());
        assert_eq!(
            seen(&mut state, &["shop", "store"]),
            (texts(&["shop", "store"]), texts(&["shop", "store"]))
        );
        assert_eq!(seen(&mut state, &["shop"]), (texts(&["shop"]), texts(&[])));
        let shop = WatchScope::namespace(maps(), "shop");
        assert!(state.process_list(&shop, &[]).is_empty());
        assert_eq!(
            seen(&mut state, &["shop", "store"]),
            (texts(&["store"]), texts(&[]))
        );
        // No Application has anything in the other namespace.
        let store = WatchScope::namespace(maps(), "store");
        assert_eq!(state.release_scopes(), [store]);
        // The list of the whole cluster replaces what is left.
        let whole = WatchScope::cluster(maps());
        assert_eq!(state.process_list(&whole, &[]), [shop]);
        assert_eq!(
            seen(&mut state, &["shop", "store"]),
            (texts(&[]), texts(&[]))
        );
    }
}
