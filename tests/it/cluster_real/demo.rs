//! `tagboat demo --kubeconfig` on the real server: all its checks pass, and its namespace is
//! deleted.

use crate::{
    it::{
        demo::{assert_complete, ending},
        support::process::Running,
    },
    servers::kube::Kube,
};
use reqwest::Method;
use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
};

fn demo(kubeconfig: &Path, temporary: &Path) -> Command {
    let mut command = crate::servers::environment::tagboat();
    command
        .arg("demo")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .env("TMPDIR", temporary)
        .current_dir(temporary);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The namespace that the demo prints.
fn namespace(text: &str) -> String {
    let at = text
        .find("tagboat-demo-")
        .unwrap_or_else(|| panic!("no namespace in {}", ending(text)));
    text[at..]
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .next()
        .unwrap()
        .to_owned()
}

async fn is_gone(kube: &Kube, namespace: &str) -> bool {
    kube.call(
        Method::GET,
        &format!("/api/v1/namespaces/{namespace}"),
        None,
    )
    .await
    .0 == 404
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn demo_on_real_cluster_leaves_nothing_behind() {
    let kube = Kube::shared();
    let temporary = tempfile::tempdir().unwrap();
    let mut command = demo(&kube.kubeconfig, temporary.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let (text, complaints) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert_complete(output.status.code(), &complaints, &text);
    let namespace = namespace(&text);
    let application = format!("{namespace}/podinfo");
    for line in [
        "✓ the cluster matches Git: podinfo 6.7.1 is rolled out".to_owned(),
        format!("INFO repaired Deployment {application}:"),
        format!("$ tagboat rollback {application}"),
        "✓ nothing was written, neither to Git nor to the cluster".to_owned(),
        "✓ podinfo 6.7.2 is rolled out, and 6.7.1 did not come back".to_owned(),
    ] {
        assert!(
            text.lines().any(|printed| printed.starts_with(&line)),
            "{line:?} is missing before\n{}",
            ending(&text)
        );
    }
    assert!(is_gone(kube, &namespace).await, "{namespace} is left");
    assert!(
        std::fs::read_dir(temporary.path())
            .unwrap()
            .next()
            .is_none()
    );
}

#[tokio::test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
async fn demo_interrupted_deletes_its_namespace() {
    let kube = Kube::shared();
    let temporary = tempfile::tempdir().unwrap();
    let mut command = demo(&kube.kubeconfig, temporary.path());
    let (code, text) = tokio::task::spawn_blocking(move || {
        let mut child = Running::start(&mut command);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.contains("tagboat-demo-") {
            assert!(
                out.read_line(&mut text).unwrap() > 0,
                "no namespace in {}",
                ending(&text)
            );
        }
        child.signal("INT");
        out.read_to_string(&mut text).unwrap();
        (child.ended().code(), text)
    })
    .await
    .unwrap();
    assert_eq!(code, Some(130), "{}", ending(&text));
    assert!(is_gone(kube, &namespace(&text)).await);
    assert!(
        std::fs::read_dir(temporary.path())
            .unwrap()
            .next()
            .is_none()
    );
}
