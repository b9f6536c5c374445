//! `tagboat demo` as a new user runs it: no git, no configuration, an empty environment.

use super::support::process::Running;
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

/// A bound for a busy machine that runs other tests; the demo itself takes about a second.
const BOUND: Duration = Duration::from_secs(60);

/// The demo with nothing in its environment but a folder for temporary files.
fn demo(temporary: &Path, arguments: &[&str]) -> Command {
    let mut command = crate::servers::environment::tagboat();
    command
        .arg("demo")
        .args(arguments)
        .env("TMPDIR", temporary)
        .env("PATH", temporary)
        .current_dir(temporary);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Checks that the demo ran to its end. Errors come first, because a long message may be cut.
pub(super) fn assert_complete(code: Option<i32>, complaints: &str, text: &str) {
    assert!(
        code == Some(0) && complaints.is_empty(),
        "exit code {code:?}: {complaints}\nafter\n{}",
        ending(text)
    );
}

/// The last line of the output.
pub(super) fn ending(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn demo_passes_all_its_checks() {
    let temporary = tempfile::tempdir().unwrap();
    let output = demo(temporary.path(), &[]).output().unwrap();
    let (text, complaints) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert_complete(output.status.code(), &complaints, &text);
    for line in [
        "$ tagboat plan",
        "✓ nothing was written",
        "    dev: web 1.4.0 → 1.4.1",
        "    Tagboat-Update: dev",
        "✓ only the tag has changed, and no other byte",
        "✓ dev does not get 1.6.0-rc.1: it is a pre-release, which the range \">=1.4.0 <2.0.0\" does",
        "✓ dev does not get 2.0.0: it is outside the range \">=1.4.0 <2.0.0\"",
        "✓ prod does not get 1.5.0: it was first seen",
        "✓ prod does not get 1.5.0: it is held: Ada went back from 1.5.0 to 1.4.1",
        "✓ prod waits until 09:00",
        "✓ prod has 1.4.2",
        "✓ prod has 1.5.1, and 1.5.0 never came back",
        "✓ podinfo 6.7.0 is ready, ",
        "    dev: podinfo 6.7.0 → 6.7.1",
        "✓ the cluster matches Git: podinfo 6.7.1 is ready",
        "dev/podinfo  sandbox",
        "INFO repaired Deployment dev/podinfo: /spec/template/spec/containers[name=podinfo]/image",
        "✓ tagboat repaired it ",
        "$ tagboat rollback dev/podinfo",
        "✓ podinfo 6.7.0 is ready after ",
        "✓ dev does not get 6.7.1: it is held",
        "✓ nothing was written, neither to Git nor to the cluster",
        "✓ podinfo 6.7.2 is ready, and 6.7.1 did not come back",
        "✓ it shows the rendered change and the result of the cluster's dry run",
        "✓ nothing has changed, neither in Git nor at the forge",
        "✓ it was merged automatically, and its branch is deleted",
        "✓ 10 updates by tagboat, and 5 commits by Ada, her rollback included",
        "All checks passed in ",
    ] {
        assert!(
            text.lines().any(|printed| printed.starts_with(line)),
            "{line:?} is missing before\n{}",
            ending(&text)
        );
    }
    let long: Vec<&str> = text
        .lines()
        .filter(|line| line.chars().count() > 100)
        .collect();
    assert!(long.is_empty(), "too wide: {long:#?}");
    assert!(
        !text.contains('\x1b') && !text.contains('✗'),
        "colour only on a terminal"
    );
    assert!(is_empty(temporary.path()), "something is left");
}

#[test]
fn demo_json_has_every_step() {
    let temporary = tempfile::tempdir().unwrap();
    let output = demo(temporary.path(), &["-o", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let steps = printed["steps"].as_array().unwrap();
    assert_eq!(
        (steps.len(), &printed["servers"]),
        (23, &serde_json::Value::Null)
    );
    assert!(
        steps
            .iter()
            .enumerate()
            .all(|(index, step)| step["step"] == index + 1 && step["failed"].is_null())
    );
    let commits = |step: &serde_json::Value| {
        step["pass"]["environments"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|environment| {
                environment["commits"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default()
            })
            .filter(|commit| commit["id"].is_string())
            .count()
    };
    assert_eq!(steps.iter().map(commits).sum::<usize>(), 8);
    assert!(is_empty(temporary.path()));
}

#[test]
fn demo_ignores_proxies_of_the_environment() {
    let temporary = tempfile::tempdir().unwrap();
    // Port 1 of this machine: a client that uses this proxy fails.
    let proxies = [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ];
    let output = demo(temporary.path(), &[])
        .envs(proxies.map(|name| (name, "http://127.0.0.1:1")))
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn demo_closed_pipe_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = Running::start(&mut demo(temporary.path(), &[]));
    drop(child.stdout.take());
    assert_eq!(child.ended().code(), Some(0));
    assert!(is_empty(temporary.path()));
}

#[test]
fn demo_keep_serves_until_interrupted() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = Running::start(&mut demo(temporary.path(), &["--keep"]));
    let (send, lines) = mpsc::channel();
    let out = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        out.lines()
            .map_while(Result::ok)
            .for_each(|line| drop(send.send(line)))
    });
    let mut text = Vec::new();
    while !text
        .last()
        .is_some_and(|line: &String| line.starts_with("Ctrl-C stops"))
    {
        text.push(
            lines
                .recv_timeout(BOUND)
                .unwrap_or_else(|_| panic!("no guide in {text:#?}")),
        );
    }
    let command = |start: &str| {
        let guide = text
            .iter()
            .skip_while(|line| !line.starts_with("The servers keep running"));
        let found = guide
            .filter_map(|line| line.split_once(start))
            .map(|(_, rest)| rest)
            .next();
        found
            .unwrap_or_else(|| panic!("no {start:?} in {text:#?}"))
            .to_owned()
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::blocking::Client::builder()
        .no_proxy()
        .timeout(BOUND)
        .build()
        .unwrap();
    let get = |url: &str| {
        let answer = client.get(url).send().unwrap();
        assert!(answer.status().is_success(), "{url}: {}", answer.status());
        answer.text().unwrap()
    };
    assert!(
        get(&format!(
            "{}/info/refs?service=git-upload-pack",
            command("git clone ")
        ))
        .contains("refs/heads/main")
    );
    assert!(get(&command("curl ")).contains("1.5.2"));
    // The pages that the story's links lead to.
    let pulls = text
        .iter()
        .map(|line| line.trim())
        .find(|line| line.ends_with("/fleet/pulls"));
    let pulls = pulls.unwrap_or_else(|| panic!("no page in {text:#?}"));
    assert!(get(pulls).contains("#1 stage: podinfo"));
    let page = get(&format!("{pulls}/1"));
    assert!(
        page.contains("(merged)") || page.contains(">merged<"),
        "{page}"
    );
    assert!(
        page.contains("<li>ci: success</li>") && !page.contains("<details"),
        "{page}"
    );

    // The guide's commands, in another process: the plan has the latest tag, and the pass writes
    // it.
    let other = |arguments: &str| {
        let output = crate::servers::environment::tagboat()
            .args(arguments.split(' '))
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let (plan, once) = (
        format!("plan {}", command("tagboat plan ")),
        format!("run --once {}", command("tagboat run --once ")),
    );
    let planned = other(&plan);
    assert!(
        planned.contains("web 1.5.1 → 1.5.2") && planned.contains("podinfo 6.7.2 → 6.7.3"),
        "{planned}"
    );
    let kubectl = command("kubectl --server ");
    let (server, rest) = kubectl.split_once(' ').unwrap();
    assert_eq!(rest, "get deploy -n dev");
    let deployment = format!("{server}/apis/apps/v1/namespaces/dev/deployments/podinfo");
    assert!(get(&deployment).contains("shop/podinfo:6.7.2\""));
    assert!(other(&once).contains("dev: committed"));
    assert!(
        get(&deployment).contains("shop/podinfo:6.7.3\""),
        "the pass deploys what it has written"
    );
    assert!(other(&plan).contains("nothing to change"));

    // The guide's daemon logs to a file without colours, and ends on a signal.
    let mut daemon = crate::servers::environment::tagboat();
    let daemon = daemon
        .args(once.replace("--once ", "").split(' '))
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let mut daemon = Running::start(daemon);
    let mut log = BufReader::new(daemon.stderr.take().unwrap());
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    assert!(
        line.contains("tagboat started") && !line.contains('\x1b'),
        "{line:?}"
    );
    daemon.signal("INT");
    log.read_to_string(&mut line).unwrap();
    assert_eq!(daemon.ended().code(), Some(0), "{line}");

    child.signal("INT");
    assert_eq!(child.ended().code(), Some(0));
    reader.join().unwrap();
    assert!(is_empty(temporary.path()), "something is left");
}

#[test]
fn demo_refuses_an_unreachable_cluster() {
    let temporary = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("kubeconfig");
    // Port 1 of this machine has no listener.
    let config = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "a", "users": [{"name": "a", "user": {}}],
        "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}], "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}]}"#;
    fs::write(&file, config).unwrap();
    let file = file.to_str().unwrap();
    let refused = |arguments: &[&str]| {
        let output = demo(temporary.path(), arguments).output().unwrap();
        assert!(output.stdout.is_empty() && is_empty(temporary.path()));
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, text) = refused(&["--kubeconfig", file]);
    assert!(
        code == Some(3) && text.contains("127.0.0.1:1"),
        "{code:?} {text}"
    );
    let (code, text) = refused(&["--kubeconfig", file, "--context", "b"]);
    assert!(
        code == Some(2) && text.contains("no context \"b\"; it has a"),
        "{code:?} {text}"
    );
    let (code, text) = refused(&["--context", "b"]);
    assert!(
        code == Some(2) && text.contains("--kubeconfig"),
        "{code:?} {text}"
    );
}

#[test]
fn demo_interrupted_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = Running::start(&mut demo(temporary.path(), &[]));
    let mut out = child.stdout.take().unwrap();
    // The first line is printed before the servers start, so this is the middle or, on a slow
    // machine, the end.
    out.read_exact(&mut [0]).unwrap();
    child.signal("INT");
    let drained = std::thread::spawn(move || out.read_to_end(&mut Vec::new()).unwrap());
    let code = child.ended().code();
    drained.join().unwrap();
    assert!(matches!(code, Some(0 | 130)), "{code:?}");
    assert!(is_empty(temporary.path()));
}
