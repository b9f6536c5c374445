//! The cluster of the story: the one of the sandbox, or with `--kubeconfig` a real one. Everything
//! happens in one namespace, which on a real cluster is the demo's own and goes with it.

use super::stage::broken;
use crate::{
    cli::Screen,
    core::text::escape_control,
    io::cluster::{ClusterClient, DeleteRequest, DeleteResult, RequestIdentity, Resource},
    objects::object::{Gvk, Object},
    reconcile::Reconciler,
    sandbox::kube::{SandboxCluster, SandboxOptions, WorkloadSettings},
    service::{Failure, Progress as _},
    spec::settings,
};
use jiff::SignedDuration;
use serde_json::json;
use std::{
    fs,
    hash::{BuildHasher as _, Hasher as _},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long a cluster may take to answer for the first time, credential plugins included.
const REACH: Duration = Duration::from_secs(30);

/// How long a namespace may take to go, with what is in it.
const GOING: Duration = Duration::from_secs(120);

/// How long the reconciler may take to come to a safe point.
const STOPPING: Duration = Duration::from_secs(10);

/// How long a pod of the sandbox takes to become ready.
pub const READY_AFTER: Duration = Duration::from_millis(400);

/// The namespace in the sandbox.
const NAMESPACE: &str = "dev";

/// The Deployment of the story.
pub const DEPLOYMENT: &str = "podinfo";

/// Where a real cluster is.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RealCluster {
    /// Deploy to this cluster instead of the sandbox's, in a new namespace that is deleted at the
    /// end
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig; without it, its current one
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    pub context: Option<String>,
}

/// The cluster, and what the demo has made there.
pub struct DemoCluster {
    /// Its name in `tagboat.yaml`.
    pub name: &'static str,
    /// The namespace of the story.
    pub namespace: String,
    /// Ends the reconciler.
    pub stop: CancellationToken,
    declared: settings::ClusterSettings,
    cluster: ClusterClient,
    sandbox: Option<SandboxCluster>,
    reconciler: OnceLock<Arc<Reconciler>>,
}

impl DemoCluster {
    /// Starts a cluster, or finds out whether the real one answers. Nothing is made there yet.
    ///
    /// # Errors
    /// A kubeconfig that cannot be used, or a cluster that does not answer.
    pub async fn reach(real: &RealCluster, folder: &Path) -> Result<Self, Failure> {
        let (name, namespace, kubeconfig, sandbox) = match &real.kubeconfig {
            None => {
                let ready_after = SignedDuration::try_from(READY_AFTER).unwrap_or_default();
                let settings = WorkloadSettings {
                    ready_after,
                    ..WorkloadSettings::default()
                };
                let sandbox = SandboxCluster::start(SandboxOptions {
                    settings,
                    ..SandboxOptions::default()
                })
                .await
                .map_err(broken)?;
                let file = folder.join("kubeconfig");
                fs::write(&file, sandbox.kubeconfig()).map_err(broken)?;
                ("sandbox", NAMESPACE.to_owned(), file, Some(sandbox))
            }
            Some(file) => {
                // The hasher's seed is random: enough for a name that nobody else has.
                let random = std::collections::hash_map::RandomState::new()
                    .build_hasher()
                    .finish();
                let namespace = format!("tagboat-demo-{:08x}", random & 0xffff_ffff);
                // The process file stands in another folder.
                (
                    "yours",
                    namespace,
                    std::path::absolute(file).map_err(broken)?,
                    None,
                )
            }
        };
        let declared = settings::ClusterSettings {
            context: real.context.clone(),
            take_over: Vec::new(),
            ..settings::ClusterSettings::new(name, Some(kubeconfig))
        };
        let cluster = ClusterClient::open(&declared, Path::to_path_buf).await?;
        match timeout(REACH, cluster.version()).await {
            Ok(version) => version?,
            Err(_) => {
                let server = escape_control(cluster.server());
                let failure = broken(format_args!(
                    "{server} does not answer within {} s",
                    REACH.as_secs()
                ));
                return Err(failure.hint("`kubectl version` with the same kubeconfig says more."));
            }
        };
        Ok(Self {
            name,
            namespace,
            stop: CancellationToken::new(),
            declared,
            cluster,
            sandbox,
            reconciler: OnceLock::new(),
        })
    }

    /// Makes the namespace. Not to be dropped half way: what was made must be known.
    ///
    /// # Errors
    /// If it may not be made, or is somebody's already.
    pub async fn claim(&self) -> Result<(), Failure> {
        match self
            .cluster
            .ensure_namespace(&RequestIdentity::Own, &self.namespace)
            .await?
        {
            true => Ok(()),
            false => Err(broken(format_args!(
                "there is a namespace {} already",
                self.namespace
            ))),
        }
    }

    /// Whether it is a real one.
    pub fn is_real(&self) -> bool {
        self.sandbox.is_none()
    }

    /// The address of the API server.
    pub fn server(&self) -> String {
        match &self.sandbox {
            Some(sandbox) => sandbox.url(),
            None => self.cluster.server().trim_end_matches('/').to_owned(),
        }
    }

    /// How kubectl finds it: its options as text.
    pub fn kubectl(&self) -> String {
        match (&self.sandbox, &self.declared) {
            (Some(sandbox), _) => format!("kubectl --server {}", sandbox.url()),
            (
                None,
                settings::ClusterSettings {
                    kubeconfig,
                    context,
                    ..
                },
            ) => {
                let file = kubeconfig
                    .as_deref()
                    .map_or(String::new(), |file| shell(&file.display().to_string()));
                let context = context.as_deref().map_or(String::new(), |context| {
                    format!(" --context {}", shell(context))
                });
                format!("kubectl --kubeconfig {file}{context}")
            }
        }
    }

    /// How many replicas the Deployment has: images of the sandbox cannot be pulled elsewhere.
    pub fn replicas(&self) -> i64 {
        if self.is_real() { 0 } else { 2 }
    }

    /// What `tagboat.yaml` says of it.
    pub fn declaration(&self) -> String {
        let settings::ClusterSettings {
            name,
            kubeconfig,
            context,
            ..
        } = &self.declared;
        // JSON is YAML, whatever the path holds.
        let mut said = json!({"name": name, "kubeconfig": kubeconfig});
        if let Some(context) = context {
            said["context"] = json!(context);
        }
        format!("clusters: [{said}]\n")
    }

    /// Takes note of the reconciler, so that it ends before the namespace does.
    pub fn works_with(&self, reconciler: &Arc<Reconciler>) {
        let _ = self.reconciler.set(Arc::clone(reconciler));
    }

    /// The Deployment, if it is there.
    pub async fn deployment(&self) -> Result<Option<Object>, Failure> {
        self.named(DEPLOYMENT).await
    }

    /// A Deployment by its name, if it is there.
    pub async fn named(&self, name: &str) -> Result<Option<Object>, Failure> {
        let kind = self.kind("apps/v1", "Deployment").await?;
        Ok(self
            .cluster
            .get(
                &RequestIdentity::Own,
                &kind,
                &kind.key(Some(&self.namespace), name),
            )
            .await?)
    }

    /// Changes the image of the Deployment as `kubectl edit` does.
    pub async fn edit(&self, image: &str) -> Result<Object, Failure> {
        let kind = self.kind("apps/v1", "Deployment").await?;
        let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": DEPLOYMENT, "image": image}]}}}});
        Ok(self
            .cluster
            .edit(
                &kind,
                &kind.key(Some(&self.namespace), DEPLOYMENT),
                "kubectl-edit",
                &patch,
            )
            .await?)
    }

    async fn kind(&self, api_version: &str, kind: &str) -> Result<Resource, Failure> {
        Ok(self.cluster.resource(&Gvk::new(api_version, kind)).await?)
    }

    /// Ends the reconciler at a safe point.
    pub async fn rest(&self) {
        self.stop.cancel();
        if let Some(reconciler) = self.reconciler.get() {
            let _ = timeout(STOPPING, reconciler.shut_down()).await;
        }
    }

    /// Ends the reconciler, and deletes the namespace of a real cluster; waits until it is gone.
    ///
    /// # Errors
    /// If it is not.
    pub async fn leave(&self, screen: &Screen) -> Result<(), Failure> {
        self.rest().await;
        if !self.is_real() {
            return Ok(());
        }
        let spinner = screen.spinner();
        spinner.update(&format!("deleting namespace {}", self.namespace));
        let advice = format!(
            "Delete it by hand: {} delete namespace {}",
            self.kubectl(),
            self.namespace
        );
        let going = timeout(GOING, self.delete_namespace()).await;
        let late = || {
            broken(format_args!(
                "namespace {} is not gone after {} s",
                self.namespace,
                GOING.as_secs()
            ))
        };
        going
            .unwrap_or_else(|_| Err(late()))
            .map_err(|failure| failure.hint(advice))
    }

    async fn delete_namespace(&self) -> Result<(), Failure> {
        let kind = self.kind("v1", "Namespace").await?;
        let key = kind.key(None, &self.namespace);
        let mut asked = None;
        while let Some(live) = self.cluster.get(&RequestIdentity::Own, &kind, &key).await? {
            let uid = live.uid().unwrap_or_default().to_owned();
            if asked.as_ref() != Some(&uid) {
                if asked.is_some() {
                    // Ours is gone, and this is somebody else's.
                    return Ok(());
                }
                let deleted = self
                    .cluster
                    .delete(
                        &RequestIdentity::Own,
                        &kind,
                        &key,
                        &DeleteRequest::uid(uid.clone()),
                    )
                    .await?;
                if deleted == DeleteResult::WasGone {
                    return Ok(());
                }
                asked = Some(uid);
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Waits until the Deployment is as wanted; gives it with the time that it took, or nothing if
    /// it does not come to that.
    pub async fn until(
        &self,
        begun: Instant,
        patience: Duration,
        done: impl Fn(&Object) -> bool,
    ) -> Result<Option<Duration>, Failure> {
        loop {
            if self.deployment().await?.as_ref().is_some_and(&done) {
                return Ok(Some(begun.elapsed()));
            }
            if begun.elapsed() > patience {
                return Ok(None);
            }
            sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The image of a Deployment's one container.
pub fn image(deployment: &Object) -> &str {
    deployment
        .pointer("/spec/template/spec/containers/0/image")
        .and_then(|image| image.as_str())
        .unwrap_or_default()
}

/// Text as one word of a shell.
fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@=+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
