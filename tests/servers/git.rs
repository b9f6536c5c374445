//! Real Git programs, isolated from the configuration of the machine and the user.

use super::environment;
use axum::response::IntoResponse;
use base64::Engine;
use std::{
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

pub(crate) trait Program {
    /// Standard output without its last line end. Panics if the program failed.
    fn text(&self) -> String;
    /// Panics if the program failed.
    fn ok(&self) {
        self.text();
    }
}

impl Program for Output {
    fn text(&self) -> String {
        assert!(
            self.status.success(),
            "{}{}",
            String::from_utf8_lossy(&self.stdout),
            String::from_utf8_lossy(&self.stderr)
        );
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }
}

/// Returns `git` without any configuration but the one below. Its commits carry the machine's time,
/// as commits of people do: holds reach back a limited time, so a fixed date would expire.
pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new("git");
    environment::clear(&mut command)
        .current_dir(dir)
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", dir);
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0");
    for (role, name) in [("AUTHOR", "Ann"), ("COMMITTER", "Ann")] {
        command
            .env(format!("GIT_{role}_NAME"), name)
            .env(format!("GIT_{role}_EMAIL"), "ann@example.org");
    }
    command
}

pub(crate) fn git(dir: &Path, arguments: &[&str]) -> Output {
    command(dir).args(arguments).output().expect("git runs")
}

/// Creates a bare repository `fleet.git` below `dir` with one commit on `main`.
pub(crate) fn seed(dir: &Path, files: &[(&str, &str)]) -> PathBuf {
    seed_with(dir, files, command)
}

/// Like [`seed`], with the time of the first commit in seconds since 1970, for histories with fixed
/// times.
pub(crate) fn seed_at(dir: &Path, files: &[(&str, &str)], seconds: i64) -> PathBuf {
    seed_with(dir, files, |dir| {
        let mut command = command(dir);
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_DATE"), format!("{seconds} +0000"));
        }
        command
    })
}

fn seed_with(dir: &Path, files: &[(&str, &str)], command: impl Fn(&Path) -> Command) -> PathBuf {
    let git = |dir: &Path, arguments: &[&str]| command(dir).args(arguments).output().unwrap();
    let (bare, work) = (dir.join("fleet.git"), dir.join("work"));
    git(dir, &["init", "-q", "--bare", "-b", "main", "fleet.git"]).ok();
    git(dir, &["clone", "-q", "fleet.git", "work"]).ok();
    for (path, text) in files {
        let file = work.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    git(&work, &["checkout", "-q", "-B", "main"]).ok();
    git(&work, &["add", "-A"]).ok();
    git(&work, &["commit", "-q", "-m", "first"]).ok();
    git(&work, &["push", "-q", "origin", "main"]).ok();
    bare
}

/// `git http-backend` behind a small HTTP server on loopback: a plain Git host.
pub(crate) struct HttpBackend {
    address: SocketAddr,
    /// Runs the server, and ends it on drop.
    _runtime: tokio::runtime::Runtime,
}

impl HttpBackend {
    /// Serves every repository below `root`. With an account (`name:password`), only that may read.
    pub(crate) fn start(root: &Path, account: Option<&str>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let authorization = account.map(|both| {
            format!(
                "Basic {}",
                base64::engine::general_purpose::STANDARD.encode(both)
            )
        });
        let backend = std::sync::Arc::new((root.to_owned(), authorization));
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new()
            .fallback(backend_answer)
            .with_state(backend);
        runtime.spawn(async move {
            axum::serve(
                listener,
                router.layer(axum::extract::DefaultBodyLimit::max(1 << 28)),
            )
            .await
        });
        Self {
            address,
            _runtime: runtime,
        }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }
}

type Backend = std::sync::Arc<(PathBuf, Option<String>)>;

async fn backend_answer(
    axum::extract::State(backend): axum::extract::State<Backend>,
    method: axum::http::Method,
    uri: axum::http::Uri,
    headers: axum::http::HeaderMap,
    body: axum::body::Bytes,
) -> axum::response::Response {
    let (root, authorization) = &*backend;
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    if authorization
        .as_ref()
        .is_some_and(|wanted| *wanted != header("authorization"))
    {
        let realm = [("www-authenticate", "Basic realm=\"git\"")];
        return (axum::http::StatusCode::UNAUTHORIZED, realm).into_response();
    }
    let mut command = command(root);
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "bot");
    command
        .env("PATH_INFO", uri.path())
        .env("QUERY_STRING", uri.query().unwrap_or_default())
        .env("REQUEST_METHOD", method.as_str());
    command
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string());
    for (name, variable) in [
        ("git-protocol", "GIT_PROTOCOL"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
    ] {
        if headers.contains_key(name) {
            command.env(variable, header(name));
        }
    }
    let output = tokio::task::spawn_blocking(move || run(command, &body))
        .await
        .unwrap();
    let end = output
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .expect("a CGI answer");
    let mut response = axum::response::Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").expect("a CGI header");
        response = match name {
            "Status" => response.status(value[..3].parse::<u16>().unwrap()),
            name => response.header(name, value),
        };
    }
    response.body(output[end + 4..].to_vec().into()).unwrap()
}

/// Runs a program with `input`; returns its standard output.
fn run(mut command: Command, input: &[u8]) -> Vec<u8> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // The program may answer, and stop reading, before it has read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}

/// An OpenSSH server: host key, user key and known hosts in a folder, on a loopback port.
pub(crate) struct Sshd {
    child: Child,
    pub port: u16,
    pub identity: PathBuf,
    pub known_hosts: PathBuf,
}

impl Sshd {
    pub(crate) fn start(dir: &Path) -> Self {
        let file = |name: &str| dir.join(name);
        for name in ["host", "user"] {
            let path = file(name);
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(&path)
                .output();
            made.expect("ssh-keygen runs").ok();
        }
        std::fs::copy(file("user.pub"), file("authorized_keys")).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let host = std::fs::read_to_string(file("host.pub")).unwrap();
        std::fs::write(file("known_hosts"), format!("[127.0.0.1]:{port} {host}")).unwrap();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nAcceptEnv GIT_PROTOCOL\nPermitRootLogin prohibit-password\n",
            file("host").display(),
            file("authorized_keys").display()
        );
        std::fs::write(file("sshd_config"), config).unwrap();
        if Path::new("/run").is_dir() {
            // sshd separates its privileges there; Debian's service creates it.
            let _ = std::fs::create_dir("/run/sshd");
        }
        let log = std::fs::File::create(file("sshd.log")).unwrap();
        let child = Command::new("/usr/sbin/sshd")
            .arg("-D")
            .arg("-e")
            .arg("-f")
            .arg(file("sshd_config"))
            .stderr(log)
            .spawn()
            .expect("sshd runs");
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = std::fs::read_to_string(file("sshd.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "sshd does not answer: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self {
            child,
            port,
            identity: file("user"),
            known_hosts: file("known_hosts"),
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
