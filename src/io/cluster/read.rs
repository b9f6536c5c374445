//! Reads a cluster: version, discovery, one object.

use super::{
    ClusterClient, RequestIdentity,
    discovery::{ACCEPT, AggregatedDiscovery, Resource, ResourceList, Resources},
    error::{ClusterError, ClusterProblem},
    request::{ApiRequest, RequestVerb},
    url,
};
use crate::events::{Event, EventFact, EventReason};
use crate::objects::object::{Gvk, Object, ObjectKey};
use serde::Deserialize;
use serde_json::Value;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, OnceCell, watch};

/// A kind that is not known is not asked for again within this time.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(2);
/// Concurrent requests for single groups.
const GROUPS_AT_ONCE: usize = 8;

/// Cached facts about the server.
pub(crate) struct ServerInfo {
    version: OnceCell<ServerVersion>,
    resources: watch::Sender<Option<Arc<Resources>>>,
    /// The start of the last discovery; locked while it runs.
    asked: Mutex<Option<Instant>>,
}

impl Default for ServerInfo {
    fn default() -> Self {
        Self {
            version: OnceCell::new(),
            resources: watch::Sender::new(None),
            asked: Mutex::new(None),
        }
    }
}

/// The version of an API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerVersion {
    /// The major version, "1".
    pub major: u32,
    /// The minor version, "33".
    pub minor: u32,
    /// The full version, "v1.33.2".
    pub text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawServerVersion {
    major: String,
    minor: String,
    git_version: String,
}

impl ClusterClient {
    /// The server's version, asked once.
    ///
    /// # Errors
    /// As every request: see [`ClusterProblem`].
    pub async fn version(&self) -> Result<ServerVersion, ClusterError> {
        let asked = self.inner.known.version.get_or_try_init(|| async {
            let own = RequestIdentity::Own;
            let call = ApiRequest {
                subject: "its version".to_owned(),
                ..ApiRequest::get(RequestVerb::Discovery, "/version".to_owned(), &own)
            };
            let answer = self.call(call).await?;
            let raw: RawServerVersion = self.read("its version", &answer.body)?;
            // Some distributions write the minor as "33+".
            let number = |text: &str| {
                text.chars()
                    .take_while(char::is_ascii_digit)
                    .collect::<String>()
                    .parse()
                    .unwrap_or(0)
            };
            Ok(ServerVersion {
                major: number(&raw.major),
                minor: number(&raw.minor),
                text: raw.git_version,
            })
        });
        asked.await.cloned()
    }

    /// Returns the served kinds, from the cache after the first call.
    ///
    /// # Errors
    /// As every request: see [`ClusterProblem`].
    pub async fn resources(&self) -> Result<Arc<Resources>, ClusterError> {
        match self.known() {
            Some(resources) => Ok(resources),
            None => self.discover(None).await,
        }
    }

    /// Asks again what the cluster serves: after a CRD was applied, or appeared.
    ///
    /// # Errors
    /// As every request: see [`ClusterProblem`].
    pub async fn refresh(&self) -> Result<Arc<Resources>, ClusterError> {
        self.discover(Some(Instant::now())).await
    }

    /// Returns the resource of a kind. Discovery is repeated for an unknown one, at most every two
    /// seconds.
    ///
    /// # Errors
    /// [`ClusterProblem::UnknownKind`]; and as every request.
    pub async fn resource(&self, gvk: &Gvk) -> Result<Resource, ClusterError> {
        let resources = self.resources().await?;
        if let Some(resource) = resources.find(gvk) {
            return Ok(resource.clone());
        }
        let since = Instant::now().checked_sub(UNKNOWN_PAUSE);
        let resources = self.discover(since).await?;
        resources.find(gvk).cloned().ok_or_else(|| {
            let down = resources.is_unavailable(gvk);
            let why = if down {
                Some(format!(
                    "the API server behind {} does not answer",
                    gvk.api_version()
                ))
            } else {
                resources
                    .preferred(&gvk.group, &gvk.kind)
                    .map(|served| format!("it serves {} of it", served.gvk.api_version()))
                    .or_else(|| {
                        resources
                            .by_group()
                            .contains_key(gvk.group.as_str())
                            .then(|| format!("its group {} has no such kind", gvk.group))
                    })
            };
            self.fault(
                "",
                ClusterProblem::UnknownKind {
                    gvk: gvk.clone(),
                    why,
                    down,
                },
            )
        })
    }

    fn known(&self) -> Option<Arc<Resources>> {
        self.inner.known.resources.borrow().clone()
    }

    /// Subscribes to the results of discovery.
    pub(crate) fn follow_resources(&self) -> watch::Receiver<Option<Arc<Resources>>> {
        self.inner.known.resources.subscribe()
    }

    /// Asks, unless an answer to a question asked after `since` is at hand; any answer does where
    /// that is none.
    async fn discover(&self, since: Option<Instant>) -> Result<Arc<Resources>, ClusterError> {
        let mut asked = self.inner.known.asked.lock().await;
        if let (Some(known), Some(at)) = (self.known(), *asked)
            && since.is_none_or(|since| at > since)
        {
            return Ok(known);
        }
        let begun = Instant::now();
        let mut found = self.ask_all().await?;
        if let Some(before) = self.known() {
            found.keep_from(&before);
        }
        let found = Arc::new(found);
        *asked = Some(begun);
        self.inner.known.resources.send_replace(Some(found.clone()));
        Ok(found)
    }

    async fn ask_all(&self) -> Result<Resources, ClusterError> {
        let (core, groups) = futures::try_join!(
            self.ask::<AggregatedDiscovery>("/api", ACCEPT),
            self.ask::<AggregatedDiscovery>("/apis", ACCEPT)
        )?;
        let mut found = Resources::default();
        let mut single: Vec<(String, String)> = Vec::new();
        for answer in [core, groups] {
            match answer.kind.as_str() {
                "APIGroupDiscoveryList" => found.add_aggregated(&answer),
                "APIVersions" => single.extend(
                    answer
                        .versions
                        .iter()
                        .map(|version| (version.clone(), format!("/api/{version}"))),
                ),
                "APIGroupList" => {
                    let versions = answer.groups.iter().flat_map(|group| group.versions());
                    single.extend(
                        versions.map(|version| (version.clone(), format!("/apis/{version}"))),
                    );
                }
                other => {
                    let why = format!(
                        "it is a {}, not what it serves",
                        crate::core::image::shown(other)
                    );
                    return Err(self.fault("what it serves", ClusterProblem::Protocol { why }));
                }
            }
        }
        use futures::StreamExt;
        let mut answers = futures::stream::iter(single)
            .map(|(version, path)| async move {
                let list = self.ask::<ResourceList>(&path, "application/json").await;
                (version, list)
            })
            .buffered(GROUPS_AT_ONCE);
        while let Some((version, list)) = answers.next().await {
            match list {
                Ok(list) => found.add_list(&version, &list),
                Err(error) => {
                    let message = format!("an API group does not answer: {error}");
                    let event = Event::warning(EventReason::ApiGroupUnavailable, message)
                        .fact(EventFact::Group, version.to_string());
                    self.inner.events.record(event);
                    found.add_unavailable(version);
                }
            }
        }
        Ok(found)
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        accept: &'static str,
    ) -> Result<T, ClusterError> {
        let own = RequestIdentity::Own;
        let subject = "what it serves";
        let answer = self
            .call(ApiRequest {
                accept,
                subject: subject.to_owned(),
                ..ApiRequest::get(RequestVerb::Discovery, path.to_owned(), &own)
            })
            .await?;
        self.read(subject, &answer.body)
    }

    /// Reads one object; `None` if it does not exist.
    ///
    /// # Errors
    /// As every request: see [`ClusterProblem`].
    pub async fn get(
        &self,
        identity: &RequestIdentity,
        resource: &Resource,
        key: &ObjectKey,
    ) -> Result<Option<Object>, ClusterError> {
        let path =
            url::item(resource, key).map_err(|problem| self.fault(key.to_string(), problem))?;
        let call = ApiRequest {
            subject: key.to_string(),
            resource: resource.dotted(),
            namespace: key.namespace.as_deref(),
            gvk: Some(&resource.gvk),
            ..ApiRequest::get(RequestVerb::Get, path, identity)
        };
        match self.call(call).await {
            Ok(answer) => self.object(&key.to_string(), &answer.body).map(Some),
            Err(error)
                if matches!(
                    *error.problem,
                    ClusterProblem::NotFound | ClusterProblem::NamespaceMissing { .. }
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The pods of a namespace with these labels, to say why a workload does not come up.
    ///
    /// # Errors
    /// As every request: see [`ClusterProblem`].
    pub async fn pods(&self, namespace: &str, labels: &str) -> Result<Vec<Object>, ClusterError> {
        let pods = core("Pod", "pods", true);
        self.list(&RequestIdentity::Own, &pods, Some(namespace), Some(labels))
            .await
    }

    /// An object the server answered.
    pub(crate) fn object(&self, subject: &str, body: &[u8]) -> Result<Object, ClusterError> {
        let value: Value = self.read(subject, body)?;
        Object::new(value).map_err(|error| {
            self.fault(
                subject,
                ClusterProblem::Protocol {
                    why: error.to_string(),
                },
            )
        })
    }
}

/// A resource that every cluster has.
pub(crate) fn core(kind: &str, plural: &str, namespaced: bool) -> Resource {
    Resource {
        gvk: Gvk::new("v1", kind),
        plural: plural.to_owned(),
        namespaced,
        verbs: Default::default(),
        has_status: false,
    }
}
