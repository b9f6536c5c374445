//! A real Gitea: SQLite, a loopback port, a temporary folder.
//!
//! `tests/run forge` builds the program of `tests/servers/gitea` and names it in
//! `TAGBOAT_TEST_GITEA`, and the folder of its templates and texts in `TAGBOAT_TEST_GITEA_ROOT`.
//! Tests share one server ([`Gitea::shared`]) and create users and repositories of their own.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

const ADMIN: &str = "keeper";
/// The password of every user.
pub(crate) const PASSWORD: &str = "harbour-7-lights";

pub(crate) struct Gitea {
    /// `http://127.0.0.1:port`.
    pub url: String,
    /// The administrator's token, with every scope.
    pub token: String,
    child: Child,
    folder: tempfile::TempDir,
}

impl Gitea {
    /// Starts one and waits until it answers.
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("tagboat-gitea-")
            .tempdir()
            .unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let url = format!("http://127.0.0.1:{port}");
        let root = std::env::var_os("TAGBOAT_TEST_GITEA_ROOT")
            .expect("TAGBOAT_TEST_GITEA_ROOT is not set: run tests/run forge");
        let at = folder.path().display();
        let user =
            String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        let settings = format!(
            "APP_NAME = test\nRUN_MODE = prod\nRUN_USER = {user}\nWORK_PATH = {at}\nI_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true\n\
             [server]\nHTTP_ADDR = 127.0.0.1\nHTTP_PORT = {port}\nROOT_URL = {url}/\nSTATIC_ROOT_PATH = {}\nOFFLINE_MODE = true\n\
             DISABLE_SSH = true\n\
             [database]\nDB_TYPE = sqlite3\nPATH = {at}/gitea.db\nSQLITE_TIMEOUT = 5000\n\
             [security]\nINSTALL_LOCK = true\nSECRET_KEY = only-a-test\nPASSWORD_HASH_ALGO = pbkdf2$1$8\n\
             [log]\nMODE = file\nLEVEL = Warn\nROOT_PATH = {at}/log\n\
             [actions]\nENABLED = false\n[indexer]\nISSUE_INDEXER_TYPE = db\n[cron]\nENABLED = false\n[mailer]\nENABLED = false\n",
            Path::new(&root).display(),
        );
        std::fs::write(folder.path().join("app.ini"), settings).unwrap();
        let run = |arguments: &[&str]| -> Output {
            command(folder.path())
                .args(arguments)
                .output()
                .expect("gitea runs")
        };
        let migrated = run(&["migrate"]);
        assert!(
            migrated.status.success(),
            "{}",
            String::from_utf8_lossy(&migrated.stdout)
        );
        let made = run(&[
            "admin",
            "user",
            "create",
            "--admin",
            "--username",
            ADMIN,
            "--password",
            PASSWORD,
            "--email",
            "keeper@example.org",
            "--must-change-password=false",
            "--access-token",
            "--access-token-name",
            "test",
            "--access-token-scopes",
            "all",
        ]);
        let printed = String::from_utf8_lossy(&made.stdout).into_owned();
        let word = printed
            .split_whitespace()
            .rfind(|word| word.len() == 40 && word.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let token = word
            .unwrap_or_else(|| panic!("no token: {printed}"))
            .to_owned();
        let child = command(folder.path())
            .arg("web")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("gitea runs");
        let mut gitea = Self {
            url,
            token,
            child,
            folder,
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                gitea.child.try_wait().unwrap().is_none(),
                "gitea ended: {}",
                gitea.log()
            );
            assert!(
                Instant::now() < deadline,
                "gitea does not answer: {}",
                gitea.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        gitea
    }

    /// The server that the tests of this process share.
    pub(crate) fn shared() -> &'static Gitea {
        static SHARED: OnceLock<Gitea> = OnceLock::new();
        SHARED.get_or_init(|| {
            let gitea = Gitea::start();
            // A static is never dropped: this shell ends the server when our end of its input
            // closes.
            let script = r#"cat >/dev/null; kill "$1"; rm -rf "$2""#;
            let mut watch = Command::new("sh");
            watch
                .args(["-c", script, "sh", &gitea.child.id().to_string()])
                .arg(gitea.folder.path());
            let child = watch
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::mem::forget(child);
            gitea
        })
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log/gitea.log")).unwrap_or_default()
    }

    /// Sends one request with a token; returns status and body.
    pub(crate) async fn call(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client
            .request(method, format!("{}/api/v1/{path}", self.url))
            .header("authorization", format!("token {token}"));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        (
            answer.status(),
            serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default(),
        )
    }

    /// Sends one request as the administrator, which must succeed.
    pub(crate) async fn admin(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self
            .call(&self.token, method, path, (!body.is_null()).then_some(body))
            .await;
        assert!(status.is_success(), "{path}: {status} {answer}");
        answer
    }

    /// Creates a user with a unique name of this prefix.
    pub(crate) async fn user(&self, prefix: &str) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{prefix}{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let body = json!({"username": name, "email": format!("{name}@example.org"), "password": PASSWORD, "must_change_password": false});
        self.admin(Method::POST, "admin/users", body).await;
        name
    }

    /// Creates a token of a user with these scopes.
    pub(crate) async fn token(&self, user: &str, scopes: &[&str]) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let name = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let request = client
            .post(format!("{}/api/v1/users/{user}/tokens", self.url))
            .basic_auth(user, Some(PASSWORD));
        let answer = request
            .json(&json!({"name": name, "scopes": scopes}))
            .send()
            .await
            .unwrap();
        let answer: Value = answer.error_for_status().unwrap().json().await.unwrap();
        answer["sha1"].as_str().unwrap().to_owned()
    }

    /// The URL of a repository for git, including a token: acceptable for a loopback server.
    pub(crate) fn remote(&self, project: &str, user: &str, token: &str) -> String {
        format!(
            "{}/{project}.git",
            self.url
                .replace("http://", &format!("http://{user}:{token}@"))
        )
    }
}

fn command(folder: &Path) -> Command {
    let program: PathBuf = std::env::var_os("TAGBOAT_TEST_GITEA")
        .expect("TAGBOAT_TEST_GITEA is not set: run tests/run forge")
        .into();
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", folder);
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdin(Stdio::null())
        .arg("--config")
        .arg(folder.join("app.ini"));
    command
}

impl Drop for Gitea {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
