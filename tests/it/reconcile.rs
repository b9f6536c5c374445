//! The reconcile pass on the sandbox's API server, in this process.

use super::{
    reconcile_additions::{self, for_each_addition_scenario},
    reconcile_diffs::{self, for_each_diff_scenario},
    reconcile_fair::{self, for_each_fairness_scenario},
    reconcile_kinds::{self, for_each_kind_scenario},
    reconcile_namespaces::{self, for_each_namespace_scenario},
    reconcile_records::{self, for_each_record_scenario},
    reconcile_repairs::{self, for_each_repair_scenario},
    reconcile_results::{self, for_each_result_scenario},
    reconcile_scenarios::{self, for_each_scenario},
    reconcile_tenant_limits::{self, for_each_limit_scenario},
    reconcile_tenants::{self, for_each_tenant_scenario},
    support::{
        fleet::{Backend, Fleet, config},
        rights::Rights,
    },
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc};
use tagboat::{
    reconcile::{ApplicationState, Reason, ReconcileMode},
    sandbox::kube::{SandboxCluster, SandboxOptions, WorkloadSettings},
};

#[derive(Clone)]
pub(super) struct Sandbox {
    cluster: Arc<SandboxCluster>,
    folder: Arc<tempfile::TempDir>,
    client: reqwest::Client,
}

impl Sandbox {
    async fn start() -> Self {
        Self::start_with(&Rights::default()).await
    }

    /// Starts a server that grants tagboat these rights.
    pub(super) async fn start_with(rights: &Rights) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = SandboxOptions {
            settings: WorkloadSettings {
                ready_after: jiff::SignedDuration::from_millis(50),
                missing_tag: "missing".to_owned(),
                failing_tag: "crash".to_owned(),
            },
            token: None,
        };
        let rights = rights.clone();
        let cluster = SandboxCluster::start_with(options, |app| rights.layer(app))
            .await
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("kubeconfig"), cluster.kubeconfig()).unwrap();
        Self {
            cluster: Arc::new(cluster),
            folder: Arc::new(folder),
            client: reqwest::Client::new(),
        }
    }

    /// The address of the server.
    pub(super) fn url(&self) -> String {
        self.cluster.url()
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Opens a fleet whose account has rights in one namespace alone.
    pub(super) async fn confined(&self) -> Fleet<Self> {
        self.namespace("shop").await;
        Fleet::open_confined(self.clone(), "shop".to_owned(), self.kubeconfig()).await
    }

    /// Creates a namespace.
    pub(super) async fn namespace(&self, name: &str) {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.call(Method::POST, "/api/v1/namespaces", Some(&namespace))
            .await;
    }

    pub(super) async fn fleet(&self, mode: ReconcileMode) -> Fleet<Self> {
        self.namespace("shop").await;
        Fleet::open(self.clone(), "shop".to_owned(), self.kubeconfig(), mode).await
    }
}

impl Backend for Sandbox {
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let kind = if method == Method::PATCH {
            "application/apply-patch+yaml"
        } else {
            "application/json"
        };
        let url = format!("{}{path}", self.cluster.url());
        let mut request = self.client.request(method, url);
        if let Some(body) = body {
            request = request.header("content-type", kind).body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

macro_rules! run_on_sandbox {
    ($module:ident: $($scenario:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $scenario() {
                let fleet = Sandbox::start().await.fleet(ReconcileMode::Act).await;
                $module::$scenario(fleet).await;
            }
        )*
    };
}
for_each_scenario!(run_on_sandbox);
for_each_tenant_scenario!(run_on_sandbox);
for_each_limit_scenario!(run_on_sandbox);
for_each_addition_scenario!(run_on_sandbox);
for_each_diff_scenario!(run_on_sandbox);
for_each_fairness_scenario!(run_on_sandbox);
for_each_kind_scenario!(run_on_sandbox);
for_each_record_scenario!(run_on_sandbox);
for_each_namespace_scenario!(run_on_sandbox);
for_each_repair_scenario!(run_on_sandbox);
for_each_result_scenario!(run_on_sandbox);

#[tokio::test]
async fn plan_mode_reports_and_writes_nothing() {
    let sandbox = Sandbox::start().await;
    let fleet = sandbox.fleet(ReconcileMode::Plan).await;
    fleet.application("shop", "");
    fleet.manifests("shop", vec![config("a", "1")]);
    let statuses = fleet.applied().await;
    let status = &statuses["shop"];
    assert_eq!(
        (status.state, status.reason),
        (ApplicationState::OutOfSync, Reason::OutOfSync)
    );
    assert_eq!(status.planned[0].action, "create");
    assert_eq!(fleet.stats().writes(), 0);
}
