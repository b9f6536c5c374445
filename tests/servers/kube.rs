//! A real kube-apiserver with etcd; with kube-controller-manager and a fake kubelet on request.
//!
//! `tests/run cluster` builds the program of `tests/servers/kube` and names it in
//! `TAGBOAT_TEST_KUBE`. If `KUBEBUILDER_ASSETS` is set, that folder's `etcd` and `kube-apiserver`
//! are used instead ([`assets`]); the rest stays ours.
//!
//! A server takes seconds to start, so tests share [`Kube::shared`] and work in a namespace of
//! their own ([`Kube::namespace`]). A test that counts requests or stops the server starts its own.
//!
//! The tag of a pod's image, or the annotation `test.tagboat.dev/pod` of the pod template, selects
//! its state: `missing` (ImagePullBackOff), `invalid` (InvalidImageName), `config`
//! (CreateContainerConfigError), `crash` and `oom` (CrashLoopBackOff), `unschedulable`, `unready`.
//! Any other pod becomes ready, at once or after the time in the annotation
//! `test.tagboat.dev/ready-after` ("1500ms"). Pods of a Job succeed.

use super::assets;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

/// The users of every server besides the administrator, without any rights until a test grants some
/// by RBAC.
pub(crate) const USERS: [&str; 4] = ["stranger", "reader", "deployer", "recorder"];

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// With kube-controller-manager: ReplicaSets, pods, ServiceAccounts, garbage collection,
    /// deletion of namespaces.
    pub controllers: bool,
    /// With a fake kubelet, which binds pods and reports their state.
    pub kubelet: bool,
}

pub(crate) struct Kube {
    /// The administrator's kubeconfig; its one context is `test`.
    pub kubeconfig: PathBuf,
    /// `https://127.0.0.1:port`.
    pub server: String,
    /// The CA certificate of the server.
    pub ca: PathBuf,
    pub token: String,
    /// Tokens by user: `admin` and [`USERS`].
    pub tokens: BTreeMap<String, String>,
    // Each child ends when its standard input closes: on drop, or however this process ends.
    children: Vec<Child>,
    folder: tempfile::TempDir,
}

impl Kube {
    /// Starts one and waits until it is ready.
    pub(crate) fn start(options: Options) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("tagboat-kube-")
            .tempdir()
            .unwrap();
        let mut kube = match std::env::var_os("KUBEBUILDER_ASSETS") {
            Some(programs) => assets::start(Path::new(&programs), folder, options.controllers),
            None => Self::start_ours(folder, options),
        };
        if std::env::var_os("KUBEBUILDER_ASSETS").is_some() {
            kube.add_ours(options);
        }
        kube
    }

    /// The server that tests of this process share, with controllers and kubelet.
    pub(crate) fn shared() -> &'static Kube {
        static SHARED: OnceLock<Kube> = OnceLock::new();
        // Never dropped: its standard input closes with this process.
        SHARED.get_or_init(|| {
            Kube::start(Options {
                controllers: true,
                kubelet: true,
            })
        })
    }

    /// Returns a server whose parts are already running.
    pub(super) fn running(answer: &Value, children: Vec<Child>, folder: tempfile::TempDir) -> Self {
        let text = |name: &str| {
            answer[name]
                .as_str()
                .unwrap_or_else(|| panic!("{name} in {answer}"))
                .to_owned()
        };
        let tokens = answer["tokens"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(user, token)| (user.clone(), token.as_str().unwrap().to_owned()));
        Self {
            kubeconfig: text("kubeconfig").into(),
            server: text("server"),
            ca: text("ca").into(),
            token: text("token"),
            tokens: tokens.collect(),
            children,
            folder,
        }
    }

    fn start_ours(folder: tempfile::TempDir, options: Options) -> Self {
        let mut command = Command::new(program("TAGBOAT_TEST_KUBE"));
        command.arg("serve").arg("--dir").arg(folder.path());
        for user in USERS {
            command.args(["--user", user]);
        }
        for (flag, wanted) in [
            ("--controllers", options.controllers),
            ("--play-kubelet", options.kubelet),
        ] {
            if wanted {
                command.arg(flag);
            }
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, ready) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let Ok(line) = ready.recv_timeout(Duration::from_secs(90)) else {
            let _ = child.kill();
            panic!(
                "the Kubernetes server does not get ready: {:?}",
                child.wait()
            );
        };
        Self::running(&serde_json::from_str(&line).unwrap(), vec![child], folder)
    }

    /// Starts the parts that `KUBEBUILDER_ASSETS` lacks.
    fn add_ours(&mut self, options: Options) {
        let mut add = |arguments: &[&Path]| {
            let child = Command::new(program("TAGBOAT_TEST_KUBE"))
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            self.children.push(child);
        };
        let config = ["--kubeconfig".as_ref(), self.kubeconfig.as_path()];
        if options.controllers {
            let key = self.folder.path().join(assets::ACCOUNT_KEY);
            add(&[
                "controllers".as_ref(),
                config[0],
                config[1],
                "--service-account-key".as_ref(),
                &key,
                "--root-ca".as_ref(),
                &self.ca,
            ]);
        }
        if options.kubelet {
            add(&["kubelet".as_ref(), config[0], config[1]]);
        }
        if options.controllers {
            let account = ["get", "serviceaccount", "default", "-n", "default"];
            wait_until("the default ServiceAccount is there", || {
                self.kubectl(&account).status.success()
            });
        }
    }

    /// Writes a kubeconfig for one of [`USERS`] or for `admin`. `server` is this server or a proxy
    /// in front of it; `ca` signed the proxy's certificate, if it has one.
    pub(crate) fn kubeconfig_for(&self, user: &str, server: &str, ca: Option<&Path>) -> PathBuf {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let mut cluster = json!({"server": server});
        if let Some(ca) = ca {
            cluster["certificate-authority"] = json!(ca);
        }
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": self.tokens[user]}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "current-context": "test",
        });
        let path = self.folder.path().join(format!(
            "kubeconfig-{}",
            NUMBER.fetch_add(1, Ordering::Relaxed)
        ));
        // YAML is a superset of JSON.
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// A client that trusts the server, without any credentials.
    pub(crate) fn http(&self) -> reqwest::Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let roots =
            reqwest::Certificate::from_pem_bundle(&std::fs::read(&self.ca).unwrap()).unwrap();
        reqwest::Client::builder()
            .tls_certs_only(roots)
            .no_proxy()
            .build()
            .unwrap()
    }

    /// Sends one request as the administrator; returns status and body. `path` includes the query;
    /// a PATCH is an apply.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        call(&self.http(), &self.server, &self.token, method, path, body).await
    }

    /// Creates a namespace with a unique name of this prefix.
    pub(crate) async fn namespace(&self, prefix: &str) -> String {
        let body = json!({"metadata": {"generateName": format!("{prefix}-")}});
        let (status, made) = self
            .call(Method::POST, "/api/v1/namespaces", Some(&body))
            .await;
        assert_eq!(status, 201, "{made}");
        made["metadata"]["name"].as_str().unwrap().to_owned()
    }

    /// The API server's own request counters.
    pub(crate) async fn metrics(&self) -> Requests {
        let answer = self
            .http()
            .get(format!("{}/metrics", self.server))
            .bearer_auth(&self.token)
            .send()
            .await
            .unwrap();
        Requests::read(&answer.error_for_status().unwrap().text().await.unwrap())
    }

    /// Runs kubectl as the administrator.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program("TAGBOAT_TEST_KUBECTL"));
        command
            .args(arguments)
            .env_clear()
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", self.folder.path());
        command.output().unwrap()
    }

    /// The folder of all the server's files; removed with the server.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills the server, as if the cluster vanished.
    pub(crate) fn kill(&mut self) {
        for child in &mut self.children {
            drop(child.stdin.take());
        }
        for child in &mut self.children {
            wait_until("the server ends when its input closes", || {
                child.try_wait().unwrap().is_some()
            });
        }
        self.children.clear();
    }
}

impl Drop for Kube {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The path of a program that `tests/run cluster` builds and names in the environment.
pub(crate) fn program(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set: run tests/run cluster"))
        .into()
}

/// Sends one request with a token; returns status and body. A PATCH is an apply.
pub(crate) async fn call(
    client: &reqwest::Client,
    server: &str,
    token: &str,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> (StatusCode, Value) {
    let kind = if method == Method::PATCH {
        "application/apply-patch+yaml"
    } else {
        "application/json"
    };
    let mut request = client
        .request(method, format!("{server}{path}"))
        .bearer_auth(token)
        .header("accept", "application/json");
    if let Some(body) = body {
        request = request.header("content-type", kind).body(body.to_string());
    }
    let answer = request.send().await.unwrap();
    (
        answer.status(),
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default(),
    )
}

/// Waits for a condition, for at most half a minute.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Requests by verb and resource, as the API server counts them (`apiserver_request_total`). A
/// watch counts when it ends.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Requests(pub BTreeMap<(String, String), u64>);

impl Requests {
    /// Parses the text of `/metrics`.
    pub(crate) fn read(text: &str) -> Self {
        let mut counts = BTreeMap::new();
        for line in text
            .lines()
            .filter_map(|line| line.strip_prefix("apiserver_request_total{"))
        {
            let (labels, count) = line.rsplit_once("} ").unwrap();
            let label = |name: &str| {
                let value = labels
                    .split_once(&format!("{name}=\""))
                    .map_or("", |(_, rest)| rest);
                value.split('"').next().unwrap_or_default().to_owned()
            };
            *counts
                .entry((label("verb"), label("resource")))
                .or_default() += count.parse::<f64>().unwrap() as u64;
        }
        Self(counts)
    }

    /// Requests of a verb (`APPLY`, `GET`, `LIST`, `WATCH`, `POST`, `PUT`, `PATCH`, `DELETE`) for a
    /// resource (`deployments`).
    pub(crate) fn of(&self, verb: &str, resource: &str) -> u64 {
        self.0
            .get(&(verb.to_owned(), resource.to_owned()))
            .copied()
            .unwrap_or_default()
    }

    /// The requests since an earlier count, without resources that had none.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let more = self.0.iter().map(|(key, count)| {
            (
                key.clone(),
                count - before.0.get(key).copied().unwrap_or_default(),
            )
        });
        Self(more.filter(|(_, count)| *count > 0).collect())
    }
}
