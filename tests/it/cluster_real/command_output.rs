//! Output of the program: the daemon's log, and answers while one of several clusters is missing.

use super::command::{fleet, run};
use crate::it::{
    support::process::Running,
    update_support::{Fleet, wait},
};
use std::os::unix::net::UnixStream;

fn application(namespace: &str, name: &str, cluster: &str) -> String {
    format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{environment: dev, path: envs/dev/{name}, cluster: {cluster}, targetNamespace: {namespace}}}\n"
    )
}

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: said}\n";

/// Adds a second cluster without a kubeconfig.
fn with_a_lost_cluster(fleet: &Fleet) {
    let text = std::fs::read_to_string(fleet.config()).unwrap();
    std::fs::write(
        fleet.config(),
        format!("{text}  - {{name: lost, kubeconfig: nowhere.config}}\n"),
    )
    .unwrap();
}

#[test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
fn missing_kubeconfig_fails_only_its_applications() {
    let (fleet, _, namespace) = fleet("lost");
    with_a_lost_cluster(&fleet);
    let more = application(&namespace, "far", "lost");
    fleet.person(
        &[("policies/far.yaml", &more), ("envs/dev/far/all.yaml", MAP)],
        "far",
    );
    let text = run(&fleet, &["sync", "--all", "--wait"], 4);
    assert!(
        text.contains("synced") && text.contains("nowhere.config"),
        "{text}"
    );
    let text = run(&fleet, &["diff", &format!("{namespace}/far")], 2);
    assert!(text.contains("nowhere.config"), "{text}");
    let text = run(&fleet, &["history", &format!("{namespace}/far")], 2);
    assert!(
        text.contains("no reachable cluster has a record") && text.contains("nowhere.config"),
        "{text}"
    );
    assert!(run(&fleet, &["history", &format!("{namespace}/web")], 0).contains("applied"));
}

#[test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
fn sync_revision_accepts_only_an_id_prefix() {
    let (fleet, _, namespace) = fleet("digits");
    let first = fleet.repository.head().unwrap().unwrap().to_string();
    fleet.person(&[("envs/dev/web/more.yaml", MAP)], "more");
    let application = format!("{namespace}/web");
    for wrong in ["HEAD", "main", "abc"] {
        let text = run(&fleet, &["sync", &application, "--revision", wrong], 2);
        assert!(
            text.contains("expected the id of a commit, or at least its first four digits"),
            "{text}"
        );
    }
    let text = run(
        &fleet,
        &["sync", &application, "--revision", &first[..8], "--dry-run"],
        0,
    );
    assert!(
        text.contains("would create Deployment") && !text.contains("ConfigMap"),
        "{text}"
    );
}

#[test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
fn daemon_logs_a_warning_once_and_no_disconnects() {
    let (fleet, _, namespace) = fleet("says");
    let log = fleet.dir.path().join("log");
    let mut daemon = Running::start(
        fleet
            .tagboat_std(&["run"])
            .stderr(std::fs::File::create(&log).unwrap()),
    );
    let text = || std::fs::read_to_string(&log).unwrap();
    let warnings = |of: &str| {
        text()
            .lines()
            .filter(|line| line.contains("WARN") && line.contains(of))
            .count()
    };
    wait("synced", || text().contains("synced").then_some(()));
    // An unknown cluster name.
    fleet.person(
        &[
            (
                "policies/astray.yaml",
                &application(&namespace, "astray", "testt"),
            ),
            ("envs/dev/astray/all.yaml", MAP),
        ],
        "astray",
    );
    wait("the report of the unknown cluster", || {
        text()
            .contains("there is no cluster \"testt\" in tagboat.yaml; available: test")
            .then_some(())
    });
    // A folder that cannot be rendered.
    fleet.person(
        &[("envs/dev/web/broken.yaml", "apiVersion: v1\nkind: {\n")],
        "broken",
    );
    wait("the report of the render failure", || {
        text().contains("broken.yaml").then_some(())
    });
    run(&fleet, &["sync", "--all"], 4);
    fleet.person(&[("README.md", "words\n")], "words");
    run(&fleet, &["sync", "--all"], 4);
    assert_eq!(
        warnings(&format!("application={namespace}/astray")),
        1,
        "{}",
        text()
    );
    assert_eq!(
        warnings(&format!("application={namespace}/web")),
        1,
        "{}",
        text()
    );
    // Corrected: no status of the unknown cluster stays, and nothing waits for it.
    fleet.person(
        &[
            (
                "policies/astray.yaml",
                &application(&namespace, "astray", "test"),
            ),
            (
                "envs/dev/web/broken.yaml",
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: mended}\n",
            ),
        ],
        "corrected",
    );
    let shown = run(&fleet, &["sync", "--all", "--wait"], 0);
    assert!(
        !shown.contains("testt") && shown.matches("synced").count() == 2,
        "{shown}"
    );
    // A required confirmation is logged once, in however many passes.
    let pruning = application(&namespace, "astray", "test").replace("path:", "prune: true, path:");
    fleet.person(
        &[
            ("policies/astray.yaml", &pruning),
            ("envs/dev/astray/all.yaml", "# nothing\n"),
        ],
        "nothing",
    );
    let logged = || {
        warnings(
            "confirmation required: nothing is rendered any more, and 1 object would be deleted",
        )
    };
    wait("the prune that needs a confirmation", || {
        (logged() > 0).then_some(())
    });
    run(&fleet, &["sync", "--all"], 1);
    assert_eq!(logged(), 1, "{}", text());
    // No longer declared.
    fleet.person(&[("policies/astray.yaml", "# nothing\n")], "gone");
    wait("the report of the removed Application", || {
        (warnings("Application removed from Git; objects kept (deletionPolicy: Orphan)") == 1)
            .then_some(())
    });
    let is_socket = |path: &std::path::PathBuf| {
        path.extension()
            .is_some_and(|extension| extension == "sock")
    };
    let socket = wait("the socket", || {
        walk(fleet.dir.path()).into_iter().find(is_socket)
    });
    drop(UnixStream::connect(&socket).unwrap());
    run(&fleet, &["status"], 0);
    assert!(
        !text().contains("a question over the local socket"),
        "{}",
        text()
    );
    daemon.signal("TERM");
    assert!(daemon.ended().success(), "{}", text());
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path().is_dir() && !entry.path().is_symlink() {
            true => found.extend(walk(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

#[test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
fn diff_names_exactly_what_sync_would_delete() {
    let (fleet, kube, namespace) = fleet("rule");
    let map = |name: &str| MAP.replace("said", name);
    let all: Vec<String> = ["goes", "kept", "anew"].map(map).into();
    fleet.person(&[("envs/dev/web/maps.yaml", &all.join("---\n"))], "maps");
    run(&fleet, &["sync", "--all", "--wait"], 0);
    let kubectl = |arguments: &[&str]| {
        assert!(
            kube.kubectl(&[&["-n", &namespace], arguments].concat())
                .status
                .success(),
            "{arguments:?}"
        )
    };
    kubectl(&[
        "annotate",
        "configmap",
        "kept",
        "tagboat.dev/prune=disabled",
    ]);
    kubectl(&["delete", "configmap", "anew"]);
    kubectl(&["create", "configmap", "anew"]);
    fleet.person(&[("envs/dev/web/maps.yaml", "# none\n")], "no maps");
    let text = run(&fleet, &["diff", "--all"], 1);
    assert!(
        text.contains("/goes would be deleted") && text.matches("would be deleted").count() == 1,
        "{text}"
    );
    run(&fleet, &["sync", "--all", "--wait"], 0);
    let there = |name: &str| {
        kube.kubectl(&["-n", &namespace, "get", "configmap", name])
            .status
            .success()
    };
    wait("the deletion", || (!there("goes")).then_some(()));
    assert!(there("kept") && there("anew"));
}
