//! One watch of one kind, restarted for as long as its events are received.

use super::{ClusterEvent, FIRST, GRACE, JSON, LONGEST, STREAMING_SINCE};
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
        watch_timing::{LIFE, LONGEST_REFUSED},
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

/// The watch of one kind.
pub(super) struct WatchTask {
    pub(super) cluster: ClusterClient,
    pub(super) labels: String,
    pub(super) sink: mpsc::Sender<ClusterEvent>,
    pub(super) waiting: Arc<watch::Sender<BTreeMap<String, usize>>>,
    pub(super) liveness: Arc<ServerLiveness>,
    pub(super) gvk: Gvk,
    /// The reported trouble: true if the kind does not exist.
    pub(super) troubled: Option<bool>,
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
                        (self.gvk, self.version) = (other, None);
                        continue;
                    }
                    if self.trouble(error).await.is_err() {
                        return;
                    }
                    if unknown {
                        // Discovery may still list a removed kind: then this returns at once, and
                        // the delay below applies.
                        let (group, kind) = (&self.gvk.group, &self.gvk.kind);
                        until_served(&self.cluster, &self.waiting, group, |known| {
                            known.preferred(group, kind).is_some()
                        })
                        .await;
                    }
                    let most = if refused { LONGEST_REFUSED } else { LONGEST };
                    tokio::time::sleep(
                        (FIRST * 2u32.saturating_pow(failures)).min(most) + request::jitter(200),
                    )
                    .await;
                    failures = (failures + 1).min(16);
                }
            }
        }
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
        self.tell(ClusterEvent::Trouble(self.gvk.clone(), error))
            .await
    }

    async fn recovered(&mut self) -> Result<(), WatchClosed> {
        if self.troubled.take().is_some() {
            self.tell(ClusterEvent::Recovered(self.gvk.clone())).await
        } else {
            Ok(())
        }
    }

    /// Another version of the kind, where this one is no longer served and that one is.
    async fn served_instead(&self) -> Option<Gvk> {
        let known = self.cluster.resources().await.ok()?;
        let other = &known.preferred(&self.gvk.group, &self.gvk.kind)?.gvk;
        (known.find(&self.gvk).is_none()).then(|| other.clone())
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
                Ok(WatchEnd::Failed(
                    self.cluster
                        .fault(format!("watch of {}", self.gvk), problem),
                ))
            }
        }
    }

    /// Watches from the known version, or from a list, until the watch ends.
    async fn follow(&mut self) -> Result<(), WatchStop> {
        let resource = self
            .cluster
            .resource(&self.gvk)
            .await
            .map_err(|error| WatchStop::Problem(*error.problem))?;
        if !resource.can("watch") {
            let why = format!("the server does not offer to watch {}", resource.dotted());
            return Err(WatchStop::Problem(ClusterProblem::Refused { why }));
        }
        let path = url::collection(&resource, None)?;
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
        let version = self
            .cluster
            .version()
            .await
            .map_err(|error| WatchStop::Problem(*error.problem))?;
        // A server that does not say its version is a build of today.
        let streaming = !(version.major == 1 && version.minor < STREAMING_SINCE);
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
                let event = ClusterEvent::Object(self.gvk.clone(), Box::new(object));
                self.tell(event).await?;
            }
            WatchEvent::Deleted(value) => {
                let object = object(value)?;
                let version = object.resource_version().map(str::to_owned);
                self.version = version.filter(|_| listed.is_none());
                let uid = object.uid().unwrap_or_default().to_owned();
                let event = ClusterEvent::Gone(self.gvk.clone(), object.key(), uid);
                self.tell(event).await?;
            }
            WatchEvent::Bookmark(mark) => {
                let annotations = &mark.metadata.annotations;
                let ends_list = annotations.contains_key("k8s.io/initial-events-end");
                if listed.is_none() || ends_list {
                    self.version = Some(mark.metadata.resource_version);
                    if let Some(keys) = listed.take() {
                        let event = ClusterEvent::Listed(self.gvk.clone(), keys);
                        self.tell(event).await?;
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
                self.tell(ClusterEvent::Object(self.gvk.clone(), Box::new(object)))
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
                return Ok(self
                    .tell(ClusterEvent::Listed(self.gvk.clone(), keys))
                    .await?);
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
