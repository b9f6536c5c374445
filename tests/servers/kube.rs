//! A real kube-apiserver with etcd, and kube-controller-manager and a player of the kubelet on
//! request.
//!
//! It is the program of `tests/servers/kube`, built by `tests/run cluster`, which names it in
//! `TAGBOAT_TEST_KUBE`. Where `KUBEBUILDER_ASSETS` is set, that folder's `etcd` and
//! `kube-apiserver` are used instead ([`assets`]); the rest stays ours.
//!
//! A server takes seconds to start, so tests share [`Kube::shared`] and work in a namespace of
//! their own ([`Kube::namespace`]); a test that counts requests or stops the server starts its own.
//!
//! How a pod fares is said by the tag of its image, or by the annotation `test.tagboat.dev/pod` of
//! the pod template: `missing` (ImagePullBackOff), `invalid` (InvalidImageName), `config`
//! (CreateContainerConfigError), `crash` and `oom` (CrashLoopBackOff), `unschedulable`, `unready`;
//! anything else becomes ready, at once or after the time in the annotation
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

/// The users of every server besides the administrator: no rights but those that a test gives them
/// by RBAC.
pub const USERS: [&str; 3] = ["stranger", "reader", "deployer"];

/// How it is started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// With kube-controller-manager: ReplicaSets, pods, ServiceAccounts, garbage collection,
    /// deletion of namespaces.
    pub controllers: bool,
    /// With something that binds pods and reports how they fare.
    pub kubelet: bool,
}

/// A running server.
pub struct Kube {
    /// The administrator's kubeconfig; its one context is `test`.
    pub kubeconfig: PathBuf,
    /// `https://127.0.0.1:port`.
    pub server: String,
    /// The certificate that signed the server's.
    pub ca: PathBuf,
    /// The administrator's token.
    pub token: String,
    /// Tokens by user: `admin` and [`USERS`].
    pub tokens: BTreeMap<String, String>,
    // Each ends when its standard input closes: with this value, or with this process however it
    // ends.
    children: Vec<Child>,
    folder: tempfile::TempDir,
}

impl Kube {
    /// Starts one and waits until it is ready.
    pub fn start(options: Options) -> Self {
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

    /// The server that tests of this process share, with everything.
    pub fn shared() -> &'static Kube {
        static SHARED: OnceLock<Kube> = OnceLock::new();
        // Never dropped: it ends when this process does, by the closing of its standard input.
        SHARED.get_or_init(|| {
            Kube::start(Options {
                controllers: true,
                kubelet: true,
            })
        })
    }

    /// A server whose parts run already.
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

    /// Runs what `KUBEBUILDER_ASSETS` does not have.
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

    /// A kubeconfig for one of the [`USERS`], or for the administrator (`admin`), against `server`
    /// — this one, or a proxy before it, whose certificate `ca` signed if it has one.
    pub fn kubeconfig_for(&self, user: &str, server: &str, ca: Option<&Path>) -> PathBuf {
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
    pub fn http(&self) -> reqwest::Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let roots =
            reqwest::Certificate::from_pem_bundle(&std::fs::read(&self.ca).unwrap()).unwrap();
        reqwest::Client::builder()
            .tls_certs_only(roots)
            .no_proxy()
            .build()
            .unwrap()
    }

    /// One request as the administrator: its status and body. `path` has the query; an apply is a
    /// PATCH.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        call(&self.http(), &self.server, &self.token, method, path, body).await
    }

    /// Makes a namespace whose name starts like this and is no other test's.
    pub async fn namespace(&self, prefix: &str) -> String {
        let body = json!({"metadata": {"generateName": format!("{prefix}-")}});
        let (status, made) = self
            .call(Method::POST, "/api/v1/namespaces", Some(&body))
            .await;
        assert_eq!(status, 201, "{made}");
        made["metadata"]["name"].as_str().unwrap().to_owned()
    }

    /// What the API server itself counted so far.
    pub async fn metrics(&self) -> Requests {
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
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program("TAGBOAT_TEST_KUBECTL"));
        command
            .args(arguments)
            .env_clear()
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", self.folder.path());
        command.output().unwrap()
    }

    /// The folder with all that it writes; it goes with the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends the server at once, as a cluster that vanishes.
    pub fn kill(&mut self) {
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

/// A program that `tests/run cluster` builds and names in the environment.
pub fn program(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set: run tests/run cluster"))
        .into()
}

/// One request with a token: its status and body. A PATCH is an apply.
pub async fn call(
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

/// Waits for something that other processes do, for at most half a minute.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Requests by verb and resource, as the API server counts them (`apiserver_request_total`). A
/// watch counts when it ends.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Requests(pub BTreeMap<(String, String), u64>);

impl Requests {
    /// Reads the text of `/metrics`.
    pub fn read(text: &str) -> Self {
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

    /// Requests of this verb (`APPLY`, `GET`, `LIST`, `WATCH`, `POST`, `PUT`, `PATCH`, `DELETE`)
    /// for this resource (`deployments`).
    pub fn of(&self, verb: &str, resource: &str) -> u64 {
        self.0
            .get(&(verb.to_owned(), resource.to_owned()))
            .copied()
            .unwrap_or_default()
    }

    /// What came since an earlier count; resources that nothing came for are left out.
    pub fn since(&self, before: &Self) -> Self {
        let more = self.0.iter().map(|(key, count)| {
            (
                key.clone(),
                count - before.0.get(key).copied().unwrap_or_default(),
            )
        });
        Self(more.filter(|(_, count)| *count > 0).collect())
    }
}
