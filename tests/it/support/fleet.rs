//! A reconciler over an API server, with manifests from memory in place of Git: the fixture of the
//! reconcile tests, for the real server and for the sandbox.

use super::fleet_revision::{FleetFiles, FleetRevision};
use crate::servers::kube::Kube;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tagboat::{
    core::name::Name,
    events::Recorder,
    io::cluster::RequestStats,
    reconcile::{
        ApplicationState, ApplicationStatus, ReconcileMode, Reconciler, RenderFn, RepositoryId,
    },
    spec::{self, rights::RepositoryRights, settings},
};
use tokio_util::sync::CancellationToken;

/// The bound of every wait, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// An API server that the tests write to beside tagboat.
pub(crate) trait Backend: Clone {
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value);
}

impl Backend for &'static Kube {
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        Kube::call(self, method, path, body).await
    }
}

/// A reconciler and its repository.
pub(crate) struct Fleet<K: Backend = &'static Kube> {
    pub kube: K,
    pub reconciler: Arc<Reconciler>,
    /// The namespace of its Applications and, by default, of their objects.
    pub namespace: String,
    pub files: Arc<FleetFiles>,
    declared: Mutex<BTreeMap<String, String>>,
    /// If the declarations have an error.
    pub mistaken: Mutex<bool>,
    revision: Mutex<u32>,
    stop: CancellationToken,
    cluster: settings::ClusterSettings,
    pub repository: RepositoryId,
    rights: Mutex<Arc<RepositoryRights>>,
}

impl Fleet {
    /// Starts a fleet with a namespace of its own.
    pub(crate) async fn start(kube: &'static Kube, prefix: &str) -> Self {
        let namespace = kube.namespace(prefix).await;
        Self::open(kube, namespace, kube.kubeconfig.clone(), ReconcileMode::Act).await
    }

    /// Opens a fleet of another repository in the same namespace.
    pub(crate) async fn open_as(
        kube: &'static Kube,
        namespace: String,
        repository: RepositoryId,
    ) -> Self {
        let mut fleet =
            Self::open(kube, namespace, kube.kubeconfig.clone(), ReconcileMode::Act).await;
        fleet.repository = repository;
        fleet
    }

    /// Runs kubectl in the fleet's namespace; it must succeed.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let mut all = vec!["-n", self.namespace.as_str()];
        all.extend(arguments);
        let output = self.kube.kubectl(&all);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs kubectl on the record of an Application; `arguments` follow its name.
    pub(crate) fn kubectl_record(&self, verb: &[&str], name: &str, arguments: &[&str]) -> String {
        let own = self.own_namespace();
        let record = format!("tagboat-record.{}.{name}", self.namespace);
        let all = [&["-n", &own][..], verb, &[&record], arguments].concat();
        self.kubectl(&all)
    }
}

impl<K: Backend> Fleet<K> {
    /// Opens another repository in the same namespace and the same process.
    pub(crate) fn beside(&self, repository: RepositoryId) -> Self {
        let (files, declared, revision, mistaken) = Default::default();
        let (kube, reconciler, namespace) = (
            self.kube.clone(),
            Arc::clone(&self.reconciler),
            self.namespace.clone(),
        );
        let (stop, cluster) = (CancellationToken::new(), self.cluster.clone());
        Self {
            rights: Mutex::default(),
            kube,
            reconciler,
            namespace,
            files,
            declared,
            mistaken,
            revision,
            stop,
            cluster,
            repository,
        }
    }

    /// Opens a fleet in this namespace, through this kubeconfig.
    pub(crate) async fn open(
        kube: K,
        namespace: String,
        kubeconfig: PathBuf,
        mode: ReconcileMode,
    ) -> Self {
        let cluster = settings::ClusterSettings {
            namespace: own_namespace(&namespace),
            ..settings::ClusterSettings::new("test", Some(kubeconfig))
        };
        Self::open_with(kube, namespace, cluster, mode).await
    }

    /// Opens a fleet whose account has rights in this namespace alone, which is tagboat's own.
    pub(crate) async fn open_confined(kube: K, namespace: String, kubeconfig: PathBuf) -> Self {
        let cluster = settings::ClusterSettings {
            namespace: namespace.clone(),
            ..settings::ClusterSettings::new("test", Some(kubeconfig))
        };
        Self::open_with(kube, namespace, cluster, ReconcileMode::Act).await
    }

    async fn open_with(
        kube: K,
        namespace: String,
        cluster: settings::ClusterSettings,
        mode: ReconcileMode,
    ) -> Self {
        let (stop, repository) = (
            CancellationToken::new(),
            repository(&namespace, "git.example.org"),
        );
        let reconciler = reconciler(&cluster, mode, &stop).await;
        let (files, declared, revision, mistaken) = Default::default();
        Self {
            kube,
            reconciler,
            namespace,
            files,
            declared,
            mistaken,
            revision,
            stop,
            cluster,
            repository,
            rights: Mutex::default(),
        }
    }

    /// Puts the repository under rights, from its next revision on.
    pub(crate) fn grant(&self, rights: Arc<RepositoryRights>) {
        *self.rights.lock().unwrap() = rights;
    }

    /// Ends the process at its next safe point.
    pub(crate) async fn end(&self) {
        self.stop.cancel();
        self.reconciler.shut_down().await;
    }

    /// Ends the process, and starts another.
    pub(crate) async fn restart(&mut self) {
        self.end().await;
        self.stop = CancellationToken::new();
        self.reconciler = reconciler(&self.cluster, ReconcileMode::Act, &self.stop).await;
    }

    /// Ends the process, and starts another whose events go to this recorder.
    pub(crate) async fn record_to(&mut self, events: &Recorder) {
        self.end().await;
        self.stop = CancellationToken::new();
        self.reconciler = recorded(&self.cluster, ReconcileMode::Act, events, &self.stop).await;
    }

    pub(crate) fn name(&self, name: &str) -> Name {
        Name::new(&self.namespace, name).unwrap()
    }

    /// Declares an Application; `spec` follows its path and cluster.
    pub(crate) fn application(&self, name: &str, spec: &str) {
        self.application_in(name, &self.namespace, spec);
    }

    /// Declares an Application with a target namespace.
    pub(crate) fn application_in(&self, name: &str, target: &str, spec: &str) {
        let text = format!(
            "apiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}, namespace: {}}}\nspec: {{environment: dev, path: {name}, cluster: test, targetNamespace: {target}{spec}}}\n",
            self.namespace
        );
        self.declared.lock().unwrap().insert(name.to_owned(), text);
    }

    /// Removes an Application's declaration.
    pub(crate) fn undeclare(&self, name: &str) {
        self.declared.lock().unwrap().remove(name);
    }

    /// Sets the objects of an Application's folder. `null` is a permanent render error; a string is
    /// the message of a transient one.
    pub(crate) fn manifests(&self, name: &str, objects: Vec<Value>) {
        self.files
            .now
            .lock()
            .unwrap()
            .insert(name.to_owned(), objects);
    }

    /// Commits the declarations, starts reconciling them, and returns the revision.
    pub(crate) fn commit(&self) -> String {
        let revision = self.next();
        self.follow(&revision);
        revision
    }

    /// Commits, and reconciles only the named Applications in a new process, as a command does.
    pub(crate) async fn named(&mut self, names: &[&str]) -> BTreeMap<String, ApplicationStatus> {
        self.restart().await;
        let revision = self.next();
        let only = names.iter().map(|name| self.name(name)).collect();
        self.follow_some(&revision, Some(&only));
        let done = self
            .reconciler
            .wait_until_observed(
                &self.repository.name,
                &revision,
                Some(&only),
                PATIENCE,
                |_| {},
            )
            .await;
        assert!(done, "not settled: {:#?}", self.statuses());
        self.statuses()
    }

    fn next(&self) -> String {
        let mut revision = self.revision.lock().unwrap();
        *revision += 1;
        format!("{:040}", *revision)
    }

    /// Starts reconciling a revision.
    pub(crate) fn follow(&self, revision: &str) {
        self.follow_some(revision, None);
    }

    fn follow_some(&self, revision: &str, only: Option<&BTreeSet<Name>>) {
        let mut text =
            "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\nspec: {paths: ['**'], update: {via: commit}}\n"
                .to_owned();
        for declared in self.declared.lock().unwrap().values() {
            text.push_str("---\n");
            text.push_str(declared);
        }
        if *self.mistaken.lock().unwrap() {
            text.push_str("---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {name: wrong}\nspec: {}\n");
        }
        let mut declared = spec::read([("apps.yaml", text.as_bytes())], None);
        declared.restrict(&self.rights.lock().unwrap());
        assert_eq!(
            declared.has_errors(),
            *self.mistaken.lock().unwrap(),
            "{:?}",
            declared.mistakes
        );
        self.files.follow(revision);
        let render = FleetRevision(Arc::clone(&self.files));
        self.reconciler.reconcile(
            &self.repository,
            revision,
            &declared,
            only,
            &(Arc::new(render) as Arc<RenderFn>),
        );
    }

    /// Waits until every Application has reached its final state at a revision; returns the
    /// statuses by name.
    pub(crate) async fn settled(&self, revision: &str) -> BTreeMap<String, ApplicationStatus> {
        let done = self
            .reconciler
            .wait_until_observed(&self.repository.name, revision, None, PATIENCE, |_| {})
            .await;
        assert!(done, "not settled: {:#?}", self.statuses());
        self.statuses()
    }

    /// Commits, and waits until everything is reconciled.
    pub(crate) async fn applied(&self) -> BTreeMap<String, ApplicationStatus> {
        let revision = self.commit();
        self.settled(&revision).await
    }

    pub(crate) fn statuses(&self) -> BTreeMap<String, ApplicationStatus> {
        let here = |status: &ApplicationStatus| {
            status.application.namespace() == self.namespace
                && status.repository == self.repository.name
        };
        let ours = self.reconciler.statuses().into_iter().filter(here);
        ours.map(|status| (status.application.name().to_owned(), status))
            .collect()
    }

    /// Waits until the statuses satisfy a condition.
    pub(crate) async fn until(
        &self,
        what: &str,
        done: impl Fn(&BTreeMap<String, ApplicationStatus>) -> bool,
    ) {
        let end = tokio::time::Instant::now() + PATIENCE;
        let mut turns = self.reconciler.status_changes();
        loop {
            turns.mark_unchanged();
            if done(&self.statuses()) {
                return;
            }
            let turned = tokio::time::timeout_at(end, turns.changed()).await;
            assert!(turned.is_ok(), "{what}: {:#?}", self.statuses());
        }
    }

    /// The requests sent so far.
    pub(crate) fn stats(&self) -> RequestStats {
        self.reconciler.cluster("test").unwrap().stats()
    }

    /// A live object by its plural ("configmaps", "apps/deployments"), in the fleet's namespace.
    pub(crate) async fn live(&self, plural: &str, name: &str) -> Option<Value> {
        let (status, value) = self
            .kube
            .call(Method::GET, &self.path(plural, name), None)
            .await;
        match status.as_u16() {
            200 => Some(value),
            404 => None,
            _ => panic!("{value:#}"),
        }
    }

    pub(crate) fn path(&self, plural: &str, name: &str) -> String {
        match plural.split_once('/') {
            None => format!("/api/v1/namespaces/{}/{plural}/{name}", self.namespace),
            Some((group, plural)) => format!(
                "/apis/{group}/v1/namespaces/{}/{plural}/{name}",
                self.namespace
            ),
        }
    }

    /// The namespace of the records.
    pub(crate) fn own_namespace(&self) -> String {
        own_namespace(&self.namespace)
    }

    /// The path of an Application's record.
    pub(crate) fn record_path(&self, name: &str) -> String {
        let (own, namespace) = (self.own_namespace(), &self.namespace);
        format!("/api/v1/namespaces/{own}/configmaps/tagboat-record.{namespace}.{name}")
    }

    /// The record of an Application.
    pub(crate) async fn record(&self, name: &str) -> Option<Value> {
        let path = self.record_path(name);
        let (status, value) = self.kube.call(Method::GET, &path, None).await;
        match status.as_u16() {
            200 => Some(value),
            404 => None,
            _ => panic!("{value:#}"),
        }
    }

    /// The text of the inventory in an Application's record.
    pub(crate) async fn inventory(&self, name: &str) -> Option<String> {
        let record = self.record(name).await?;
        Some(record["data"]["inventory.json"].as_str()?.to_owned())
    }

    /// Waits until a ConfigMap is gone.
    pub(crate) async fn gone(&self, name: &str) {
        self.live_until("configmaps", name, |live| live["reason"] == "NotFound")
            .await;
    }

    /// Waits until a live object satisfies a condition, and returns it.
    pub(crate) async fn live_until(
        &self,
        plural: &str,
        name: &str,
        done: impl Fn(&Value) -> bool,
    ) -> Value {
        let path = self.path(plural, name);
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (_, live) = self.kube.call(Method::GET, &path, None).await;
            if done(&live) {
                return live;
            }
            assert!(tokio::time::Instant::now() < end, "{path}: {live:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl<K: Backend> Drop for Fleet<K> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The repository of a fleet, on a host.
pub(crate) fn repository(name: &str, host: &str) -> RepositoryId {
    RepositoryId {
        name: format!("fleet-{name}"),
        address: format!("{host}/shop/fleet"),
        part: "main".to_owned(),
    }
}

/// The namespace of the records of a fleet. In a list of all namespaces, a forged record in the
/// fleet's namespace would come after it, and count.
fn own_namespace(namespace: &str) -> String {
    format!("own-{namespace}")
}

async fn reconciler(
    cluster: &settings::ClusterSettings,
    mode: ReconcileMode,
    stop: &CancellationToken,
) -> Arc<Reconciler> {
    recorded(cluster, mode, &Recorder::default(), stop).await
}

async fn recorded(
    cluster: &settings::ClusterSettings,
    mode: ReconcileMode,
    events: &Recorder,
    stop: &CancellationToken,
) -> Arc<Reconciler> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Arc::new(
        Reconciler::open(
            std::slice::from_ref(cluster),
            |path| path.to_owned(),
            mode,
            events,
            stop.clone(),
        )
        .await
        .unwrap(),
    )
}

pub(crate) fn config(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value}})
}

pub(crate) fn states(
    statuses: &BTreeMap<String, ApplicationStatus>,
) -> Vec<(&str, ApplicationState)> {
    statuses
        .iter()
        .map(|(name, status)| (name.as_str(), status.state))
        .collect()
}

/// The problems of a status, as text.
pub(crate) fn problems(status: &ApplicationStatus) -> Vec<String> {
    status.problems.iter().map(ToString::to_string).collect()
}
