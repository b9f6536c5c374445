//! The cluster of the demo: the sandbox's, or with `--kubeconfig` a real one. Everything happens in
//! one namespace, which on a real cluster is created for the demo and deleted at its end.

use super::servers::setup_failure;
use crate::{
    cli::{Screen, safe},
    events::Recorder,
    io::cluster::{ClusterClient, DeleteRequest, DeleteResult, RequestIdentity, Resource},
    objects::object::{Gvk, Object},
    reconcile::Reconciler,
    sandbox::kube::{SandboxCluster, SandboxOptions, WorkloadSettings},
    service::{Failure, Progress as _},
    spec::settings::ClusterSettings,
};
use jiff::SignedDuration;
use serde_json::json;
use std::{
    collections::hash_map::RandomState,
    fs,
    hash::{BuildHasher as _, Hasher as _},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Time for the first answer of a cluster, credential plugins included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for a namespace to be deleted with its objects.
const DELETE_TIMEOUT: Duration = Duration::from_secs(120);

/// Time for the reconciler to reach a safe point.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Time until a pod of the sandbox is ready.
pub(super) const READY_AFTER: Duration = Duration::from_millis(400);

/// The namespace in the sandbox.
const NAMESPACE: &str = "dev";

/// The Deployment of the story, and its container.
pub(super) const DEPLOYMENT: &str = "podinfo";

/// A real cluster to use.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct RealCluster {
    /// Deploy to this cluster instead of the sandbox's, in a new namespace that is deleted at the
    /// end
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    pub kubeconfig: Option<PathBuf>,

    /// Use this context of the kubeconfig; by default its current one
    #[arg(
        long,
        value_name = "NAME",
        requires = "kubeconfig",
        help_heading = "Cluster"
    )]
    pub context: Option<String>,
}

/// The cluster, and the namespace of the demo in it.
pub(super) struct DemoCluster {
    /// The name in `tagboat.yaml`.
    pub name: &'static str,
    pub namespace: String,
    /// Stops the reconciler.
    pub stop: CancellationToken,
    settings: ClusterSettings,
    client: ClusterClient,
    sandbox: Option<SandboxCluster>,
    reconciler: OnceLock<Arc<Reconciler>>,
}

impl DemoCluster {
    /// Starts the sandbox's cluster, or connects to the real one. Creates nothing there yet.
    ///
    /// # Errors
    /// If the kubeconfig is invalid, or the cluster does not answer.
    pub(super) async fn connect(real: &RealCluster, folder: &Path) -> Result<Self, Failure> {
        let sandbox = match real.kubeconfig {
            None => Some(start_sandbox().await?),
            Some(_) => None,
        };
        let kubeconfig = match (&real.kubeconfig, &sandbox) {
            // The settings are in another folder.
            (Some(file), _) => std::path::absolute(file).map_err(setup_failure)?,
            (None, sandbox) => {
                let file = folder.join("kubeconfig");
                let config = sandbox.as_ref().map(SandboxCluster::kubeconfig);
                fs::write(&file, config.unwrap_or_default()).map_err(setup_failure)?;
                file
            }
        };
        let (name, namespace) = match sandbox {
            Some(_) => ("sandbox", NAMESPACE.to_owned()),
            None => ("yours", random_namespace()),
        };
        let settings = ClusterSettings {
            context: real.context.clone(),
            take_over: Vec::new(),
            // Deleted with everything else that the demo makes.
            namespace: namespace.clone(),
            ..ClusterSettings::new(name, Some(kubeconfig))
        };
        let client =
            ClusterClient::open(&settings, Path::to_path_buf, &Recorder::default()).await?;
        match timeout(CONNECT_TIMEOUT, client.version()).await {
            Ok(version) => version?,
            Err(_) => {
                let failure = setup_failure(format_args!(
                    "{} did not answer within {} s",
                    safe(client.server()),
                    CONNECT_TIMEOUT.as_secs()
                ));
                return Err(failure.hint("Run `kubectl version` with the same kubeconfig."));
            }
        };
        Ok(Self {
            name,
            namespace,
            stop: CancellationToken::new(),
            settings,
            client,
            sandbox,
            reconciler: OnceLock::new(),
        })
    }

    /// Creates the namespace. Must not be cancelled: a created namespace has to be deleted again.
    ///
    /// # Errors
    /// If it exists already or must not be created.
    pub(super) async fn create_namespace(&self) -> Result<(), Failure> {
        let created = self
            .client
            .ensure_namespace(&RequestIdentity::Own, &self.namespace);
        if created.await? {
            return Ok(());
        }
        Err(setup_failure(format_args!(
            "namespace {} exists already",
            self.namespace
        )))
    }

    pub(super) fn is_real(&self) -> bool {
        self.sandbox.is_none()
    }

    /// Returns the URL of the API server.
    pub(super) fn server(&self) -> String {
        match &self.sandbox {
            Some(sandbox) => sandbox.url(),
            None => self.client.server().trim_end_matches('/').to_owned(),
        }
    }

    /// Returns the kubectl command with the options for this cluster.
    pub(super) fn kubectl(&self) -> String {
        if let Some(sandbox) = &self.sandbox {
            return format!("kubectl --server {}", sandbox.url());
        }
        let mut command = "kubectl".to_owned();
        if let Some(file) = &self.settings.kubeconfig {
            let file = shell_word(&file.display().to_string());
            command.push_str(&format!(" --kubeconfig {file}"));
        }
        if let Some(context) = &self.settings.context {
            command.push_str(&format!(" --context {}", shell_word(context)));
        }
        command
    }

    /// Returns the replicas of the Deployment: none on a real cluster, which cannot pull from the
    /// demo's registry.
    pub(super) fn replicas(&self) -> i64 {
        if self.is_real() { 0 } else { 2 }
    }

    /// Returns the clusters part of `tagboat.yaml`.
    pub(super) fn settings(&self) -> String {
        let ClusterSettings {
            name,
            kubeconfig,
            context,
            namespace,
            ..
        } = &self.settings;
        // JSON is valid YAML, whatever characters the path has.
        let mut cluster = json!({"name": name, "kubeconfig": kubeconfig, "namespace": namespace});
        if let Some(context) = context {
            cluster["context"] = json!(context);
        }
        format!("clusters: [{cluster}]\n")
    }

    /// Remembers the reconciler, which has to stop before the namespace is deleted.
    pub(super) fn set_reconciler(&self, reconciler: &Arc<Reconciler>) {
        let _ = self.reconciler.set(Arc::clone(reconciler));
    }

    /// Returns the Deployment of the story, if it exists.
    pub(super) async fn deployment(&self) -> Result<Option<Object>, Failure> {
        self.deployment_named(DEPLOYMENT).await
    }

    pub(super) async fn deployment_named(&self, name: &str) -> Result<Option<Object>, Failure> {
        let kind = self.kind("apps/v1", "Deployment").await?;
        let key = kind.key(Some(&self.namespace), name);
        let live = self.client.get(&RequestIdentity::Own, &kind, &key);
        Ok(live.await?)
    }

    /// Changes the image of the Deployment as `kubectl edit` does.
    pub(super) async fn edit_image(&self, image: &str) -> Result<Object, Failure> {
        let kind = self.kind("apps/v1", "Deployment").await?;
        let key = kind.key(Some(&self.namespace), DEPLOYMENT);
        let containers = json!([{"name": DEPLOYMENT, "image": image}]);
        let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
        let edited = self.client.edit(&kind, &key, "kubectl-edit", &patch);
        Ok(edited.await?)
    }

    async fn kind(&self, api_version: &str, kind: &str) -> Result<Resource, Failure> {
        Ok(self.client.resource(&Gvk::new(api_version, kind)).await?)
    }

    /// Stops the reconciler at a safe point.
    pub(super) async fn stop_reconciler(&self) {
        self.stop.cancel();
        if let Some(reconciler) = self.reconciler.get() {
            let _ = timeout(STOP_TIMEOUT, reconciler.shut_down()).await;
        }
    }

    /// Stops the reconciler; deletes the namespace of a real cluster and waits until it is gone.
    ///
    /// # Errors
    /// If it is not gone in time.
    pub(super) async fn clean_up(&self, screen: &Screen) -> Result<(), Failure> {
        self.stop_reconciler().await;
        if !self.is_real() {
            return Ok(());
        }
        let namespace = &self.namespace;
        let spinner = screen.spinner();
        spinner.update(&format!("deleting namespace {namespace}"));
        let deleted = timeout(DELETE_TIMEOUT, self.delete_namespace()).await;
        let deleted = deleted.unwrap_or_else(|_| {
            Err(setup_failure(format_args!(
                "namespace {namespace} still exists after {} s",
                DELETE_TIMEOUT.as_secs()
            )))
        });
        deleted.map_err(|failure| {
            let kubectl = self.kubectl();
            failure.hint(format!(
                "Delete it with: {kubectl} delete namespace {namespace}"
            ))
        })
    }

    async fn delete_namespace(&self) -> Result<(), Failure> {
        let kind = self.kind("v1", "Namespace").await?;
        let key = kind.key(None, &self.namespace);
        let own = RequestIdentity::Own;
        let mut deleted_uid = None;
        while let Some(live) = self.client.get(&own, &kind, &key).await? {
            let uid = live.uid().unwrap_or_default().to_owned();
            if deleted_uid.as_ref() != Some(&uid) {
                if deleted_uid.is_some() {
                    // Another namespace of this name, which is not the demo's.
                    return Ok(());
                }
                let request = DeleteRequest::uid(uid.clone());
                let result = self.client.delete(&own, &kind, &key, &request).await?;
                if result == DeleteResult::WasGone {
                    return Ok(());
                }
                deleted_uid = Some(uid);
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Waits until the Deployment satisfies a condition; returns the time since `start`, or none
    /// after `limit`.
    pub(super) async fn wait_until(
        &self,
        start: Instant,
        limit: Duration,
        condition: impl Fn(&Object) -> bool,
    ) -> Result<Option<Duration>, Failure> {
        loop {
            if self.deployment().await?.as_ref().is_some_and(&condition) {
                return Ok(Some(start.elapsed()));
            }
            if start.elapsed() > limit {
                return Ok(None);
            }
            sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn start_sandbox() -> Result<SandboxCluster, Failure> {
    let settings = WorkloadSettings {
        ready_after: SignedDuration::try_from(READY_AFTER).unwrap_or_default(),
        ..WorkloadSettings::default()
    };
    let options = SandboxOptions {
        settings,
        ..SandboxOptions::default()
    };
    SandboxCluster::start(options).await.map_err(setup_failure)
}

/// Returns a name that no other namespace has.
fn random_namespace() -> String {
    // The seed of the hasher is random.
    let random = RandomState::new().build_hasher().finish();
    format!("tagboat-demo-{:08x}", random & 0xffff_ffff)
}

/// Returns the image of a Deployment's only container.
pub(super) fn image(deployment: &Object) -> &str {
    deployment
        .pointer("/spec/template/spec/containers/0/image")
        .and_then(|image| image.as_str())
        .unwrap_or_default()
}

/// Quotes a text as one word of a shell.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@=+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
