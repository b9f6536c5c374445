//! `etcd` and `kube-apiserver` as upstream builds, from the folder in `KUBEBUILDER_ASSETS`.

use super::kube::{Kube, USERS, wait_until};
use serde_json::{Value, json};
use std::{
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

/// The key that signs tokens of ServiceAccounts, in the server's folder.
pub(crate) const ACCOUNT_KEY: &str = "service-account.key";

/// Starts both and waits until the server is ready. Without controllers there are no
/// ServiceAccounts.
pub(crate) fn start(programs: &Path, folder: tempfile::TempDir, controllers: bool) -> Kube {
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (store, peer, port) = (free_port(), free_port(), free_port());
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(path(ACCOUNT_KEY), key.serialize_pem()).unwrap();
    std::fs::write(path("service-account.pub"), key.public_key_pem()).unwrap();
    // The server ends with the test, so its tokens may be guessable.
    let mut tokens = json!({"admin": "token-of-admin"});
    let mut lines = "token-of-admin,admin,admin,system:masters\n".to_owned();
    for user in USERS {
        tokens[user] = json!(format!("token-of-{user}"));
        lines += &format!("token-of-{user},{user},{user}\n");
    }
    std::fs::write(path("tokens.csv"), lines).unwrap();

    let etcd = run(
        programs,
        "etcd",
        folder.path(),
        &[
            format!("--data-dir={}", path("etcd")),
            "--unsafe-no-fsync".to_owned(),
            format!("--listen-client-urls=http://127.0.0.1:{store}"),
            format!("--advertise-client-urls=http://127.0.0.1:{store}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-cluster=default=http://127.0.0.1:{peer}"),
        ],
    );
    wait_until("etcd listens", || {
        TcpStream::connect(("127.0.0.1", store)).is_ok()
    });
    let mut flags = vec![
        format!("--etcd-servers=http://127.0.0.1:{store}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", folder.path().display()),
        format!("--token-auth-file={}", path("tokens.csv")),
        "--authorization-mode=RBAC".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", path("service-account.pub")),
        format!("--service-account-signing-key-file={}", path(ACCOUNT_KEY)),
        "--service-cluster-ip-range=10.0.0.0/16".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--max-requests-inflight=4000".to_owned(),
        "--max-mutating-requests-inflight=2000".to_owned(),
    ];
    if !controllers {
        flags.push("--disable-admission-plugins=ServiceAccount".to_owned());
    }
    let server = run(programs, "kube-apiserver", folder.path(), &flags);
    let answer = json!({
        "kubeconfig": path("kubeconfig"),
        "server": format!("https://127.0.0.1:{port}"),
        "ca": path("apiserver.crt"),
        "token": "token-of-admin",
        "tokens": tokens,
    });
    wait_until("the server has a certificate", || {
        std::fs::metadata(path("apiserver.crt")).is_ok_and(|file| file.len() > 0)
    });
    std::fs::write(path("kubeconfig"), kubeconfig(&answer).to_string()).unwrap();
    let kube = Kube::running(&answer, vec![server, etcd], folder);
    wait_until("the server is ready", || {
        kube.kubectl(&["get", "--raw", "/readyz"]).status.success()
    });
    kube
}

fn kubeconfig(answer: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": answer["server"], "certificate-authority": answer["ca"]}}],
        "users": [{"name": "admin", "user": {"token": answer["token"]}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    })
}

/// Runs a program that is removed with its folder when our end of its standard input closes, so
/// also when this process is killed.
fn run(programs: &Path, name: &str, folder: &Path, flags: &[String]) -> Child {
    let script =
        r#"folder=$1; shift; "$@" </dev/null & cat >/dev/null; kill -9 $!; rm -rf "$folder""#;
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh"])
        .arg(folder)
        .arg(programs.join(name))
        .args(flags);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A port that was free a moment ago: these programs do not report a port that they choose.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
