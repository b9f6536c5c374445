//! One watch of one scope, restarted for as long as its events are received.

use super::{ClusterEvent, FIRST, GRACE, JSON, LONGEST, STREAMING_SINCE, WatchScope};
use crate::{
    core::error::{Classify as _, ErrorKind},
    io::cluster::{
        ClusterClient, RequestIdentity,
        crd_watch::until_served,
        discovery::Resource,
        error::{ClusterError, ClusterProblem},
        list::{ObjectList, PAGE},
        liveness::ServerLiveness,
        request::{self, ApiRequest, RequestVerb},
        url,
        watch_timing::{LIFE, LONGEST_REFUSED, NARROWING, WIDENING},
    },
    objects::object::{Gvk, Object, ObjectKey},
};
use futures::StreamExt as _;
use kube::core::WatchEvent;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// The watch of one scope.
pub(super) struct WatchTask {
    pub(super) cluster: ClusterClient,
    pub(super) labels: String,
    pub(super) sink: mpsc::Sender<ClusterEvent>,
    pub(super) waiting: Arc<watch::Sender<BTreeMap<String, usize>>>,
    pub(super) liveness: Arc<ServerLiveness>,
    pub(super) scope: WatchScope,
    /// The reported trouble: true if the kind does not exist.
    pub(super) troubled: Option<bool>,
    /// True if trouble was reported before the user asked to try again.
    pub(super) recovers: bool,
    /// True while the account may not watch the whole cluster.
    pub(super) narrowed: bool,
    /// True after the first list.
    pub(super) listed: bool,
    /// Since when the account may not watch the whole cluster, without an answer in between.
    pub(super) refused_since: Option<Instant>,
    /// Changes when the user asks to try again at once.
    pub(super) retries: watch::Receiver<u64>,
    /// The resourceVersion to resume from; `None` before the first list, and after 410 Gone.
    pub(super) version: Option<String>,
    /// True if the server sends lists as part of a watch; determined once.
    pub(super) streaming: Option<bool>,
}

/// The receiver is gone: the watch ends for good.
pub(super) struct WatchClosed;

/// The end of one watch.
pub(super) enum WatchEnd {
    /// Closed by the server or the network after it worked.
    Cut,
    /// The account may watch less than the whole cluster.
    Narrowed(ClusterError),
    Failed(ClusterError),
}

impl WatchTask {
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            match self.once().await {
                Err(WatchClosed) => return,
                Ok(WatchEnd::Cut) => {
                    failures = 0;
                    if began.elapsed() < FIRST {
                        tokio::time::sleep(FIRST + request::jitter(100)).await;
                    }
                }
                Ok(WatchEnd::Narrowed(_)) if self.may_be_refused_once() => {
                    self.pause(NARROWING).await;
                }
                Ok(WatchEnd::Narrowed(error)) => {
                    if !std::mem::replace(&mut self.narrowed, true) {
                        let event = ClusterEvent::Narrowed(self.scope.gvk.clone(), error);
                        if self.tell(event).await.is_err() {
                            return;
                        }
                    }
                    self.version = None;
                    self.pause(WIDENING).await;
                }
                // The namespaces have watches of their own, which report such trouble.
                Ok(WatchEnd::Failed(_)) if self.narrowed => self.pause(WIDENING).await,
                Ok(WatchEnd::Failed(error)) if matches!(*error.problem, ClusterProblem::Gone) => {
                    // The version is no longer kept: list again, and not in a circle.
                    self.version = None;
                    tokio::time::sleep(request::jitter(50)).await;
                }
                Ok(WatchEnd::Failed(error)) => {
                    let refused = error.kind() == ErrorKind::Config;
                    let unknown = matches!(
                        *error.problem,
                        ClusterProblem::UnknownKind { down: false, .. }
                    );
                    if unknown && let Some(other) = self.served_instead().await {
                        // The same objects, in the version that is left.
                        (self.scope.gvk, self.version) = (other, None);
                        continue;
                    }
                    if self.trouble(error).await.is_err() {
                        return;
                    }
                    if unknown {
                        // Discovery may still list a removed kind: then this returns at once, and
                        // the delay below applies.
                        let (group, kind) = (&self.scope.gvk.group, &self.scope.gvk.kind);
                        until_served(&self.cluster, &self.waiting, group, |known| {
                            known.preferred(group, kind).is_some()
                        })
                        .await;
                    }
                    let most = if refused { LONGEST_REFUSED } else { LONGEST };
                    let delay = (FIRST * 2u32.saturating_pow(failures)).min(most);
                    self.pause(delay).await;
                    failures = (failures + 1).min(16);
                }
            }
        }
    }

    /// Returns whether a refusal may be a moment's: a watch that worked was not refused for long.
    fn may_be_refused_once(&mut self) -> bool {
        let since = *self.refused_since.get_or_insert_with(Instant::now);
        self.listed && !self.narrowed && since.elapsed() < NARROWING
    }

    /// Waits, unless a user asks for another attempt at once.
    async fn pause(&mut self, delay: Duration) {
        let asked = self.retries.changed();
        let delay = tokio::time::sleep(delay + request::jitter(200));
        let is_asked = tokio::select! {
            () = delay => false,
            Ok(()) = asked => true,
        };
        if is_asked {
            // The user is told again, whether it works now or not.
            self.recovers |= self.troubled.take().is_some();
        }
    }

    /// Passes on that a list is complete.
    async fn tell_listed(&mut self, keys: Vec<ObjectKey>) -> Result<(), WatchClosed> {
        (self.narrowed, self.listed) = (false, true);
        let event = ClusterEvent::Listed(self.scope.clone(), keys);
        self.tell(event).await
    }

    async fn tell(&self, seen: ClusterEvent) -> Result<(), WatchClosed> {
        self.sink.send(seen).await.map_err(|_| WatchClosed)
    }

    async fn trouble(&mut self, error: ClusterError) -> Result<(), WatchClosed> {
        let unknown = matches!(
            *error.problem,
            ClusterProblem::UnknownKind { down: false, .. }
        );
        // Other trouble with a kind that was not there is that of one which is coming.
        if self.troubled.is_some_and(|told| told || !unknown) {
            return Ok(());
        }
        self.troubled = Some(unknown);
        self.tell(ClusterEvent::Trouble(self.scope.clone(), error))
            .await
    }

    async fn recovered(&mut self) -> Result<(), WatchClosed> {
        self.refused_since = None;
        let recovers = std::mem::take(&mut self.recovers);
        if self.troubled.take().is_some() || recovers {
            self.tell(ClusterEvent::Recovered(self.scope.clone())).await
        } else {
            Ok(())
        }
    }

    /// Another version of the kind, where this one is no longer served and that one is.
    async fn served_instead(&self) -> Option<Gvk> {
        let known = self.cluster.resources().await.ok()?;
        let other = &known
            .preferred(&self.scope.gvk.group, &self.scope.gvk.kind)?
            .gvk;
        (known.find(&self.scope.gvk).is_none()).then(|| other.clone())
    }

    /// From where we are until the watch ends.
    async fn once(&mut self) -> Result<WatchEnd, WatchClosed> {
        match self.follow().await {
            Ok(()) => Ok(WatchEnd::Cut),
            Err(WatchStop::Closed) => Err(WatchClosed),
            Err(WatchStop::Problem(problem)) => {
                if matches!(problem, ClusterProblem::UnknownKind { down: false, .. }) {
                    // The discovery cache is stale.
                    let _ = self.cluster.refresh().await;
                }
                let narrows = self.narrows(&problem).await;
                let subject = match &self.scope.namespace {
                    Some(namespace) => format!("watch of {} in {namespace}", self.scope.gvk),
                    None => format!("watch of {}", self.scope.gvk),
                };
                let error = self.cluster.fault(subject, problem);
                Ok(if narrows {
                    WatchEnd::Narrowed(error)
                } else {
                    WatchEnd::Failed(error)
                })
            }
        }
    }

    /// Returns whether the account may still watch the kind in single namespaces.
    async fn narrows(&self, problem: &ClusterProblem) -> bool {
        let is_forbidden = matches!(problem, ClusterProblem::Forbidden { .. });
        if !is_forbidden || self.scope.namespace.is_some() {
            return false;
        }
        let resource = self.cluster.resource(&self.scope.gvk).await;
        resource.is_ok_and(|resource| resource.namespaced)
    }

    /// Watches from the known version, or from a list, until the watch ends.
    async fn follow(&mut self) -> Result<(), WatchStop> {
        let resource = self
            .cluster
            .resource(&self.scope.gvk)
            .await
            .map_err(|error| WatchStop::Problem(*error.problem))?;
        if !resource.can("watch") {
            let why = format!("the server does not offer to watch {}", resource.dotted());
            return Err(WatchStop::Problem(ClusterProblem::Refused { why }));
        }
        let path = url::collection(&resource, self.scope.namespace.as_deref())?;
        if !self.lists_stream().await? && self.version.is_none() {
            self.list(&resource, &path).await?;
        }
        let life = LIFE + request::jitter(LIFE * 200).as_millis() as u64 / 1000;
        let end = Instant::now() + Duration::from_secs(life) + GRACE;
        let path = format!("{path}{}", self.watch_query(life));
        let mut events = match self
            .cluster
            .watch(&RequestIdentity::Own, &resource, path, JSON)
            .await
        {
            // A server that does not send lists this way says that the parameters are invalid.
            Err(ClusterProblem::Invalid { .. }) if self.version.is_none() => {
                self.streaming = Some(false);
                return Ok(());
            }
            other => other?,
        };
        // The keys of the list that comes first, if one does.
        let mut listed = self.version.is_none().then(Vec::new);
        self.recovered().await?;
        self.liveness.hear();
        let mut silent = self.liveness.follow();
        loop {
            let event = tokio::select! {
                event = tokio::time::timeout_at(end, events.next()) => event,
                _ = silent.changed() => {
                    return Err(WatchStop::Problem(self.liveness.problem(&self.cluster)));
                }
            };
            let Ok(Some(event)) = event else {
                return Ok(());
            };
            self.liveness.hear();
            self.receive(event?, &mut listed, &resource).await?;
        }
    }

    /// Returns whether the server sends lists as part of a watch; asked once.
    async fn lists_stream(&mut self) -> Result<bool, WatchStop> {
        if let Some(known) = self.streaming {
            return Ok(known);
        }
        // A server that does not say its version is a build of today; so is one that refuses to.
        let streaming = match self.cluster.version().await {
            Ok(version) => !(version.major == 1 && version.minor < STREAMING_SINCE),
            Err(error) if matches!(*error.problem, ClusterProblem::Forbidden { .. }) => true,
            Err(error) => return Err(WatchStop::Problem(*error.problem)),
        };
        Ok(*self.streaming.insert(streaming))
    }

    /// Returns the query of a watch of `life` seconds from the known version; without one, with a
    /// list first.
    fn watch_query(&self, life: u64) -> String {
        let life = life.to_string();
        let mut pairs = vec![
            ("watch", "1"),
            ("allowWatchBookmarks", "true"),
            ("labelSelector", self.labels.as_str()),
            ("timeoutSeconds", &life),
        ];
        match &self.version {
            Some(version) => pairs.push(("resourceVersion", version)),
            None => pairs.extend([
                ("sendInitialEvents", "true"),
                ("resourceVersionMatch", "NotOlderThan"),
            ]),
        }
        url::query(&pairs)
    }

    /// Passes an event on and notes the version to resume from. While `listed` collects keys, the
    /// list is incomplete and there is no such version.
    async fn receive(
        &mut self,
        event: WatchEvent<Value>,
        listed: &mut Option<Vec<ObjectKey>>,
        resource: &Resource,
    ) -> Result<(), WatchStop> {
        match event {
            WatchEvent::Added(value) | WatchEvent::Modified(value) => {
                let object = object(value)?;
                match listed {
                    Some(keys) => keys.push(object.key()),
                    None => self.version = object.resource_version().map(str::to_owned),
                }
                let event = ClusterEvent::Object(self.scope.gvk.clone(), Box::new(object));
                self.tell(event).await?;
            }
            WatchEvent::Deleted(value) => {
                let object = object(value)?;
                let version = object.resource_version().map(str::to_owned);
                self.version = version.filter(|_| listed.is_none());
                let uid = object.uid().unwrap_or_default().to_owned();
                let event = ClusterEvent::Gone(self.scope.gvk.clone(), object.key(), uid);
                self.tell(event).await?;
            }
            WatchEvent::Bookmark(mark) => {
                let annotations = &mark.metadata.annotations;
                let ends_list = annotations.contains_key("k8s.io/initial-events-end");
                if listed.is_none() || ends_list {
                    self.version = Some(mark.metadata.resource_version);
                    if let Some(keys) = listed.take() {
                        self.tell_listed(keys).await?;
                    }
                }
            }
            WatchEvent::Error(status) => {
                let problem = self.cluster.problem_of(&status, resource);
                return Err(WatchStop::Problem(problem));
            }
        }
        Ok(())
    }

    /// Lists all objects page by page, for servers that do not stream lists.
    async fn list(&mut self, resource: &Resource, path: &str) -> Result<(), WatchStop> {
        let limit = PAGE.to_string();
        let (mut keys, mut next) = (Vec::new(), String::new());
        loop {
            let query = url::query(&[
                ("labelSelector", &self.labels),
                ("limit", &limit),
                ("continue", &next),
            ]);
            let own = RequestIdentity::Own;
            let call = ApiRequest {
                resource: resource.dotted(),
                namespace: self.scope.namespace.as_deref(),
                gvk: Some(&resource.gvk),
                ..ApiRequest::get(RequestVerb::List, format!("{path}{query}"), &own)
            };
            let answer = self
                .cluster
                .call(call)
                .await
                .map_err(|error| WatchStop::Problem(*error.problem))?;
            let list = ObjectList::read(&self.cluster, "", &answer.body)
                .map_err(|error| WatchStop::Problem(*error.problem))?;
            let (version, more) = (
                list.metadata.resource_version.clone(),
                list.metadata.next.clone(),
            );
            for object in list.objects() {
                let object = object?;
                keys.push(object.key());
                self.tell(ClusterEvent::Object(
                    self.scope.gvk.clone(),
                    Box::new(object),
                ))
                .await?;
            }
            next = more;
            if next.is_empty() {
                if version.is_empty() {
                    return Err(WatchStop::Problem(ClusterProblem::Protocol {
                        why: "its lists have no version to watch from".to_owned(),
                    }));
                }
                self.version = Some(version);
                return Ok(self.tell_listed(keys).await?);
            }
        }
    }
}

/// The reason why following stopped.
pub(super) enum WatchStop {
    Closed,
    Problem(ClusterProblem),
}

impl From<WatchClosed> for WatchStop {
    fn from(WatchClosed: WatchClosed) -> Self {
        WatchStop::Closed
    }
}

impl From<ClusterProblem> for WatchStop {
    fn from(problem: ClusterProblem) -> Self {
        WatchStop::Problem(problem)
    }
}

pub(super) fn object(value: Value) -> Result<Object, ClusterProblem> {
    Object::new(value).map_err(|error| ClusterProblem::Protocol {
        why: format!("a watch brought what is no object: {error}"),
    })
}
