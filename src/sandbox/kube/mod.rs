//! As much of a Kubernetes API as the demo needs, in this process and on loopback: discovery,
//! objects of the usual kinds and of CustomResourceDefinitions, watches, server-side apply, and
//! workloads that become ready by themselves. `kubectl --server` can look at it. It proves nothing
//! about the real thing; what both must do alike is compared by a test.
//!
//! ```text
//! http ── discovery, table          what goes over the wire
//!   │
//! write ── apply, patch, defaults   what a request does to an object (pure)
//!   │        └ fields, schema
//! store ◀── controller              the objects, and what happens to them by itself (pure)
//! ```
//!
//! Absent: users and rights, admission, validation by schema, conversion between versions,
//! running containers (logs, exec), protobuf but for what `kubectl create` sends.

mod apply;
mod controller;
mod defaults;
mod discovery;
mod fields;
mod http;
mod kinds;
mod patch;
mod refusal;
mod schema;
mod selector;
mod store;
mod table;
mod unions;
#[cfg(test)]
mod tests;
mod write;

pub use controller::WorkloadSettings;

use crate::core::secret::Secret;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use store::{Id, ObjectStore};
use tokio::{sync::watch, task::JoinHandle};

/// Start options.
#[derive(Debug, Default)]
pub struct SandboxOptions {
    pub settings: WorkloadSettings,
    /// The bearer token required of every request, if set.
    pub token: Option<Secret>,
}

/// A running API server; it stops when dropped.
#[derive(Debug)]
pub struct SandboxCluster {
    address: SocketAddr,
    token: Option<Secret>,
    tasks: Vec<JoinHandle<()>>,
}

/// The state shared by all requests.
#[derive(Debug)]
struct SandboxState {
    store: Mutex<ObjectStore>,
    /// The revision of the last change; watches and controllers follow it.
    revision: watch::Sender<u64>,
    /// The required `Authorization` header.
    authorization: Option<String>,
}

impl SandboxCluster {
    /// Starts one on a free loopback port, with the namespaces `default` and `kube-system` and one
    /// node.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(options: SandboxOptions) -> std::io::Result<Self> {
        Self::start_with(options, |app| app).await
    }

    /// Starts one behind a layer, which sees every request first: tests put their faults there.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start_with(
        options: SandboxOptions,
        layer: impl FnOnce(axum::Router) -> axum::Router,
    ) -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let authorization = options
            .token
            .as_ref()
            .map(|token| format!("Bearer {}", token.expose()));
        let cluster = Arc::new(SandboxState {
            store: Mutex::default(),
            revision: watch::channel(0).0,
            authorization,
        });
        cluster.with(seed);
        let router = layer(http::router(cluster.clone()));
        let server = tokio::spawn(async move {
            // It ends with the task; its result has no receiver.
            let _ = axum::serve(listener, router).await;
        });
        let controllers = tokio::spawn(control(cluster, options.settings));
        Ok(Self {
            address,
            token: options.token,
            tasks: vec![server, controllers],
        })
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A kubeconfig whose one context, `sandbox`, leads here.
    pub fn kubeconfig(&self) -> String {
        let mut user = json!({});
        if let Some(token) = &self.token {
            user["token"] = json!(token.expose());
        }
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "sandbox", "cluster": {"server": self.url()}}],
            "users": [{"name": "sandbox", "user": user}],
            "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "sandbox"}}],
            "current-context": "sandbox",
        });
        // YAML is a superset of JSON.
        format!("{config:#}\n")
    }
}

impl Drop for SandboxCluster {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl SandboxState {
    /// Works on the store, and tells those who wait if it changed.
    fn with<T>(&self, work: impl FnOnce(&mut ObjectStore) -> T) -> T {
        // A panic while it was held is a bug of one request; the objects are whole, since each is
        // replaced at once.
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work(&mut store);
        let revision = store.revision();
        self.revision
            .send_if_modified(|last| std::mem::replace(last, revision) != revision);
        done
    }
}

/// Creates the objects of every new cluster.
fn seed(store: &mut ObjectStore) {
    let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let id = |plural: &str, name: &str| Id {
        group: String::new(),
        plural: plural.to_owned(),
        namespace: String::new(),
        name: name.to_owned(),
    };
    let metadata = |name: &str| json!({"name": name, "uid": write::hex(name)[..32], "creationTimestamp": time});
    for name in ["default", "kube-system"] {
        let mut namespace: Value =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata(name)});
        namespace["metadata"]["labels"]["kubernetes.io/metadata.name"] = json!(name);
        namespace["spec"]["finalizers"] = json!(["kubernetes"]);
        namespace["status"]["phase"] = json!("Active");
        store.put(id("namespaces", name), namespace);
    }
    let mut node =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata("sandbox"), "spec": {}});
    node["status"]["conditions"] = json!([{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": time}]);
    node["status"]["nodeInfo"]["kubeletVersion"] = json!(discovery::VERSION);
    store.put(id("nodes", "sandbox"), node);
}

/// Runs the controllers after every change, and when something is due.
async fn control(cluster: Arc<SandboxState>, settings: WorkloadSettings) {
    let mut changes = cluster.revision.subscribe();
    loop {
        let now = Timestamp::now();
        // Before the look, not after it: what changes meanwhile is looked at again. Its own changes
        // are, too, and come to an end.
        changes.mark_unchanged();
        let next = cluster.with(|store| controller::look(store, &settings, now));
        let wait = next.map(|next| next.duration_since(now).unsigned_abs());
        let due = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = due => {}
        }
    }
}
