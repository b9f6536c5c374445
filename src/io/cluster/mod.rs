//! A client of one Kubernetes cluster: discovery, reading, watching, and one action at a time.
//!
//! The client decides nothing about order, prunes or drift. It sends an action as the given
//! identity, within the cluster's rate limit, and reports exactly what happened:
//! [`ClusterClient::apply`], [`ClusterClient::delete`], [`ClusterClient::records`], [`Watches`].
//!
//! Clusters share nothing: one that is down delays no other. A cluster has one connection pool; the
//! identity ([`RequestIdentity`]) belongs to each request.

mod apply;
mod apply_target;
mod claim;
mod config;
mod connection;
mod credential;
mod crd_watch;
mod delete;
mod discovery;
#[cfg(feature = "demo")]
mod edit;
mod error;
mod list;
mod liveness;
mod namespaces;
mod url;
mod read;
mod records;
mod api_error;
mod watch;
mod watch_timing;
mod request;

pub use apply::{ApplyRequest, ApplyResult};
pub use delete::{DeleteRequest, DeleteResult, Propagation};
pub use discovery::{Resource, Resources};
pub use error::{ClusterError, ClusterProblem, FieldConflict};
pub use liveness::LivenessLimits;
pub(crate) use namespaces::created_namespace;
pub use read::ServerVersion;
pub use records::{ApplicationRecord, FormerRecord};
pub use request::RequestStats;
pub use watch::{ClusterEvent, WatchScope, Watches};

use crate::{
    core::name::Name,
    events::{EventSubject, Recorder},
    spec::settings,
};
use connection::Connection;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};
use tokio::sync::{Mutex, Semaphore};

/// The identity of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum RequestIdentity {
    /// The user of the kubeconfig, or the pod's service account.
    #[default]
    Own,
    ServiceAccount {
        namespace: String,
        name: String,
    },
}

impl RequestIdentity {
    /// Returns the account that an Application names, in the Application's namespace; our own
    /// identity if it names none.
    pub fn of(application: &Name, account: Option<&str>) -> Self {
        match account {
            None => Self::Own,
            Some(name) => Self::ServiceAccount {
                namespace: application.namespace().to_owned(),
                name: name.to_owned(),
            },
        }
    }
}

/// A client of a cluster. Cheap to clone: clones share connections, rate limit and discovery.
#[derive(Clone)]
pub struct ClusterClient {
    inner: Arc<ClientInner>,
}

struct ClientInner {
    name: String,
    events: Recorder,
    server: String,
    user: String,
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    take_over: Arc<[String]>,
    /// The namespace of the records.
    namespace: String,
    permits: Semaphore,
    pace: Option<request::RateLimiter>,
    counts: request::RequestCounts,
    connection: RwLock<Option<Arc<Connection>>>,
    /// The last connection attempt; locked during one.
    opened: Mutex<Option<request::ConnectAttempt>>,
    known: read::ServerInfo,
}

impl std::fmt::Debug for ClusterClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.inner.name)
            .field("server", &self.inner.server)
            .finish_non_exhaustive()
    }
}

impl ClusterClient {
    /// Reads the kubeconfig. Sends nothing and runs no credential plugin: the first request does.
    /// `resolve` resolves paths of `tagboat.yaml`.
    ///
    /// # Errors
    /// [`ClusterProblem::Kubeconfig`] names the file and the problem.
    pub async fn open(
        declared: &settings::ClusterSettings,
        resolve: impl Fn(&Path) -> PathBuf,
        events: &Recorder,
    ) -> Result<Self, ClusterError> {
        let kubeconfig = declared.kubeconfig.as_deref().map(resolve);
        let way = config::read(kubeconfig.as_deref(), declared.context.as_deref())
            .await
            .map_err(|problem| ClusterError {
                cluster: declared.name.clone(),
                subject: String::new(),
                problem: Box::new(problem),
            })?;
        Ok(Self {
            inner: Arc::new(ClientInner {
                name: declared.name.clone(),
                events: events.scoped(EventSubject::of_cluster(&declared.name)),
                server: way.server,
                user: format!("user {}", way.user),
                kubeconfig,
                // The context is fixed here: a later `kubectl config use-context` must not move us
                // to another cluster.
                context: way.context,
                take_over: declared.take_over.as_slice().into(),
                namespace: declared.namespace.clone(),
                permits: Semaphore::new(declared.concurrency.clamp(1, Semaphore::MAX_PERMITS)),
                pace: request::RateLimiter::new(declared.requests_per_second),
                counts: request::RequestCounts::default(),
                connection: RwLock::new(None),
                opened: Mutex::new(None),
                known: read::ServerInfo::default(),
            }),
        })
    }

    /// Returns the name in `tagboat.yaml`.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Returns the recorder of events about this cluster.
    pub fn events(&self) -> &Recorder {
        &self.inner.events
    }

    /// Returns the prefixes of the managers whose fields are taken over.
    pub(crate) fn take_over_managers(&self) -> &Arc<[String]> {
        &self.inner.take_over
    }

    /// The address of its API server.
    pub fn server(&self) -> &str {
        &self.inner.server
    }

    /// The requests sent so far.
    pub fn stats(&self) -> RequestStats {
        self.inner.counts.read()
    }
}
