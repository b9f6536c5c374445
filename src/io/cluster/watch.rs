//! Watches: changes of a cluster as events, without polling.
//!
//! One watch a kind, over the whole cluster, for the objects with our label. Where the account may
//! not watch that much, one watch a kind and namespace instead. Objects are delivered
//! whole and one at a time; the channel is bounded, so a slow receiver applies back-pressure
//! instead of filling memory. A watch that ends (each does, after minutes) resumes from the last
//! resourceVersion; if that is too old (410 Gone), all objects are listed again. While a kind is
//! not served yet, CRDs and APIServices are watched for it.

mod task;

use super::{
    ClusterClient, RequestIdentity,
    api_error::{self, RequestTarget},
    crd_watch::{DEFINITIONS, METADATA, definitions, until_served},
    discovery::Resource,
    error::{ClusterError, ClusterProblem},
    liveness::{LivenessLimits, ServerLiveness},
    request::{self, RequestVerb},
    url,
};
use crate::{
    io::supervise::supervise,
    objects::object::{Gvk, Object, ObjectKey},
};
use futures::StreamExt;
use hyper::Request;
use kube::core::WatchEvent;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use task::WatchTask;
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// A watch that the server did not end in time is dead; so is one that began and says nothing by
/// then.
const GRACE: Duration = Duration::from_secs(10);
/// The time limit for the start of a watch.
const OPENING: Duration = Duration::from_secs(30);
/// The back-off: first and longest delay for a server that does not respond.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);
/// Lists as part of a watch are sent by servers from this minor version on; those that do not want
/// to say so.
const STREAMING_SINCE: u32 = 27;

/// The scope of a watch: a kind in one namespace, or in all.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchScope {
    pub gvk: Gvk,
    pub namespace: Option<Arc<str>>,
}

impl WatchScope {
    /// A kind in the whole cluster.
    pub fn cluster(gvk: Gvk) -> Self {
        let namespace = None;
        Self { gvk, namespace }
    }

    /// A kind in one namespace.
    pub fn namespace(gvk: Gvk, namespace: &str) -> Self {
        let namespace = Some(namespace.into());
        Self { gvk, namespace }
    }
}

/// An event of a watch.
#[derive(Debug)]
pub enum ClusterEvent {
    Object(Gvk, Box<Object>),
    /// An object is gone; with its UID.
    Gone(Gvk, ObjectKey, String),
    /// All objects of the scope after a list: any other known object of it is gone.
    Listed(WatchScope, Vec<ObjectKey>),
    /// The scope cannot be watched at present. Sent once, until [`ClusterEvent::Recovered`]; and
    /// again if the kind turns out not to exist.
    Trouble(WatchScope, ClusterError),
    /// The scope can be watched again.
    Recovered(WatchScope),
    /// The account may not watch the kind in the whole cluster: [`Watches::ensure_scopes`] takes
    /// its namespaces, until the whole cluster is listed again.
    Narrowed(Gvk, ClusterError),
}

impl ClusterEvent {
    /// The kind that the event is about.
    pub(crate) fn gvk(&self) -> &Gvk {
        match self {
            ClusterEvent::Object(gvk, _)
            | ClusterEvent::Gone(gvk, ..)
            | ClusterEvent::Narrowed(gvk, _) => gvk,
            ClusterEvent::Listed(scope, _)
            | ClusterEvent::Trouble(scope, _)
            | ClusterEvent::Recovered(scope) => &scope.gvk,
        }
    }
}

/// The watches of a cluster. They end when this is dropped.
pub struct Watches {
    cluster: ClusterClient,
    labels: String,
    sink: mpsc::Sender<ClusterEvent>,
    running: Mutex<RunningWatch>,
    /// The groups of kinds that are waited for.
    waiting: Arc<watch::Sender<BTreeMap<String, usize>>>,
    liveness: Arc<ServerLiveness>,
    /// Changes when the user asks to try again at once.
    retries: watch::Sender<u64>,
}

#[derive(Default)]
struct RunningWatch {
    scopes: HashMap<WatchScope, AbortHandle>,
    /// Kinds in a version that is waited for, whichever is watched.
    looked_out: HashMap<Gvk, AbortHandle>,
    tasks: JoinSet<()>,
}

impl Watches {
    /// Watches these kinds for objects with these labels ("tagboat.dev/name"), and tells `sink`.
    pub fn start(
        cluster: ClusterClient,
        kinds: impl IntoIterator<Item = Gvk>,
        labels: &str,
        sink: mpsc::Sender<ClusterEvent>,
    ) -> Self {
        Self::start_with(cluster, kinds, labels, sink, LivenessLimits::default())
    }

    /// The same, with limits of its own for a server that says nothing.
    pub fn start_with(
        cluster: ClusterClient,
        kinds: impl IntoIterator<Item = Gvk>,
        labels: &str,
        sink: mpsc::Sender<ClusterEvent>,
        limits: LivenessLimits,
    ) -> Self {
        let watches = Self {
            cluster,
            labels: labels.to_owned(),
            sink,
            running: Mutex::default(),
            waiting: Arc::new(watch::Sender::default()),
            liveness: Arc::new(ServerLiveness::new(limits)),
            retries: watch::Sender::default(),
        };
        {
            let mut running = watches
                .running
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let (liveness, cluster) = (Arc::clone(&watches.liveness), watches.cluster.clone());
            watches.spawn(&mut running, move || {
                let (liveness, cluster) = (Arc::clone(&liveness), cluster.clone());
                async move { liveness.supervise(&cluster).await }
            });
            for (kind, plural) in DEFINITIONS {
                let (cluster, waiting) = (watches.cluster.clone(), watches.waiting.subscribe());
                watches.spawn(&mut running, move || {
                    let gvk = Gvk::new(kind.0, kind.1);
                    definitions(cluster.clone(), gvk, plural, waiting.clone())
                });
            }
        }
        watches.ensure(kinds);
        watches
    }

    /// Spawns a task that is started again if it panics. It is aborted with the watches.
    fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        running: &mut RunningWatch,
        start: impl Fn() -> F + Send + Sync + 'static,
    ) -> AbortHandle {
        let events = self.cluster.events().clone();
        running.tasks.spawn(async move {
            let never = CancellationToken::new();
            supervise("a watch", &events, &never, start).await;
        })
    }

    /// Adds these kinds. A kind that is not served yet is reported as [`ClusterEvent::Trouble`] and
    /// watched as soon as it is.
    pub fn ensure(&self, kinds: impl IntoIterator<Item = Gvk>) {
        self.ensure_scopes(kinds.into_iter().map(WatchScope::cluster));
    }

    /// Adds these scopes, as [`Watches::ensure`] does.
    pub fn ensure_scopes(&self, scopes: impl IntoIterator<Item = WatchScope>) {
        let mut guard = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let running = &mut *guard;
        for scope in scopes {
            if !running.scopes.contains_key(&scope) {
                self.start_scope(running, scope, false);
            }
        }
    }

    /// Starts all watches of a kind again, each with a list: the receiver has lost an event.
    pub(crate) fn restart(&self, group: &str, kind: &str) {
        let mut guard = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let running = &mut *guard;
        let scopes = running.scopes.keys();
        let scopes: Vec<WatchScope> = scopes
            .filter(|scope| scope.gvk.is(group, kind))
            .cloned()
            .collect();
        for scope in scopes {
            if let Some(task) = running.scopes.remove(&scope) {
                task.abort();
            }
            self.start_scope(running, scope, true);
        }
        while running.tasks.try_join_next().is_some() {}
    }

    /// `recovers`: whether the receiver may still believe in trouble of the scope.
    fn start_scope(&self, running: &mut RunningWatch, scope: WatchScope, recovers: bool) {
        let (cluster, labels, sink) =
            (self.cluster.clone(), self.labels.clone(), self.sink.clone());
        let (waiting, liveness) = (self.waiting.clone(), Arc::clone(&self.liveness));
        let (retries, of_task) = (self.retries.subscribe(), scope.clone());
        let start = move || {
            let task = WatchTask {
                cluster: cluster.clone(),
                labels: labels.clone(),
                sink: sink.clone(),
                waiting: waiting.clone(),
                liveness: Arc::clone(&liveness),
                scope: of_task.clone(),
                recovers,
                narrowed: false,
                listed: false,
                refused_since: None,
                retries: retries.clone(),
                troubled: None,
                version: None,
                streaming: None,
            };
            task.run()
        };
        let task = self.spawn(running, start);
        running.scopes.insert(scope, task);
    }

    /// Tries refused and failed watches again at once.
    pub(crate) fn retry(&self) {
        self.retries.send_modify(|count| *count += 1);
    }

    /// Ends the watches of these scopes.
    pub(crate) fn end_scopes(&self, scopes: impl IntoIterator<Item = WatchScope>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for scope in scopes {
            if let Some(task) = running.scopes.remove(&scope) {
                task.abort();
            }
        }
        while running.tasks.try_join_next().is_some() {}
    }

    /// Triggers discovery when these kinds may have appeared, of which another version may be
    /// watched.
    pub fn look_out(&self, kinds: impl IntoIterator<Item = Gvk>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while running.tasks.try_join_next().is_some() {}
        running.looked_out.retain(|_, task| !task.is_finished());
        for gvk in kinds {
            if running.looked_out.contains_key(&gvk) {
                continue;
            }
            let (cluster, waiting, wanted) =
                (self.cluster.clone(), self.waiting.clone(), gvk.clone());
            let task = running.tasks.spawn(async move {
                // The kind may have appeared before this watch started.
                let now = async { drop(cluster.refresh().await) };
                tokio::join!(
                    until_served(&cluster, &waiting, &wanted.group, |known| known
                        .find(&wanted)
                        .is_some()),
                    now
                );
            });
            running.looked_out.insert(gvk, task);
        }
    }

    /// The kinds that are watched, or waited for.
    pub fn kinds(&self) -> Vec<Gvk> {
        let mut kinds: Vec<Gvk> = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .scopes
            .keys()
            .map(|scope| scope.gvk.clone())
            .collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }
}

const JSON: &str = "application/json";

pub(crate) type Events =
    futures::stream::BoxStream<'static, Result<WatchEvent<Value>, ClusterProblem>>;

impl ClusterClient {
    /// Opens a watch. It counts in no budget: it is one request for minutes.
    pub(crate) async fn watch(
        &self,
        identity: &RequestIdentity,
        resource: &Resource,
        path: String,
        accept: &'static str,
    ) -> Result<Events, ClusterProblem> {
        let mut refused = None;
        loop {
            let connection = self.connection(refused).await?;
            let mut request = Request::get(&path)
                .header("accept", accept)
                .header("user-agent", concat!("tagboat/", env!("CARGO_PKG_VERSION")))
                .body(Vec::new())
                .map_err(|error| ClusterProblem::Address {
                    why: format!("no request: {error}"),
                })?;
            connection.sign(&mut request, identity).await?;
            self.inner.counts.add(RequestVerb::Watch);
            let opened =
                tokio::time::timeout(OPENING, connection.client.request_events::<Value>(request))
                    .await;
            let (cluster, resource) = (self.clone(), resource.clone());
            match opened {
                Err(_) => {
                    let why = format!("no answer to a watch within {} s", OPENING.as_secs());
                    return Err(ClusterProblem::Unreachable {
                        server: connection.server.clone(),
                        why,
                    });
                }
                Ok(Ok(events)) => {
                    return Ok(events
                        .map(move |event| event.map_err(|error| cluster.problem(&error, &resource)))
                        .boxed());
                }
                Ok(Err(error)) => match self.problem(&error, &resource) {
                    ClusterProblem::Unauthorized { .. }
                        if refused.is_none() && self.may_reopen() =>
                    {
                        refused = Some(connection.generation)
                    }
                    problem => return Err(problem),
                },
            }
        }
    }

    /// Classifies an error of a watch.
    fn problem(&self, error: &kube::Error, resource: &Resource) -> ClusterProblem {
        match error {
            kube::Error::Api(status) => self.problem_of(status, resource),
            kube::Error::SerdeError(error) => ClusterProblem::Protocol {
                why: format!("an event of a watch is no JSON of one: {error}"),
            },
            other => ClusterProblem::Unreachable {
                server: self.inner.server.clone(),
                why: request::transport(other),
            },
        }
    }

    fn problem_of(&self, said: &kube::core::Status, resource: &Resource) -> ClusterProblem {
        let body = serde_json::to_vec(said).unwrap_or_default();
        let (name, who) = (resource.dotted(), self.who(&RequestIdentity::Own));
        let asked = RequestTarget {
            verb: "watch",
            resource: &name,
            namespace: None,
            gvk: Some(&resource.gvk),
            who: &who,
            server: &self.inner.server,
        };
        api_error::problem(said.code, None, &body, &asked)
    }

    /// Follows one object until it is deleted, the watch ends, or it is `end`. An error where it
    /// cannot be watched.
    pub(crate) async fn watch_until_deleted(
        &self,
        identity: &RequestIdentity,
        resource: &Resource,
        key: &ObjectKey,
        version: &str,
        end: Instant,
    ) -> Result<(), ClusterProblem> {
        let collection = url::collection(resource, key.namespace.as_deref())?;
        let name = format!("metadata.name={}", key.name);
        let left = end
            .saturating_duration_since(Instant::now())
            .as_secs()
            .max(1)
            .to_string();
        let query = url::query(&[
            ("watch", "1"),
            ("fieldSelector", &name),
            ("resourceVersion", version),
            ("timeoutSeconds", &left),
        ]);
        let mut events = self
            .watch(identity, resource, format!("{collection}{query}"), METADATA)
            .await?;
        while let Ok(Some(event)) = tokio::time::timeout_at(end, events.next()).await {
            match event? {
                WatchEvent::Deleted(_) => return Ok(()),
                WatchEvent::Error(status) => return Err(self.problem_of(&status, resource)),
                _ => {}
            }
        }
        Ok(())
    }
}
