//! The program itself, from a registry through Git to a real cluster.

use crate::{
    it::{
        support::process::Running,
        update_support::{Fleet, Setup, env, semver, wait},
    },
    servers::kube::Kube,
};
use serde_json::Value;

fn declared(namespace: &str) -> String {
    format!(
        "{}{}apiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: web, namespace: {namespace}}}\nspec: {{environment: dev, path: envs/dev/web, cluster: test, targetNamespace: {namespace}, prune: true, wait: true, timeout: 30s}}\n",
        semver("app", ">=1.0.0", ""),
        env("dev", "")
    )
}

const WEB: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 1\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      containers:\n        - name: web\n          image: {host}/team/app:1.0.0\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: korrekt-pferd-7}\n";

/// A fleet whose settings file names the shared cluster, and its namespace there.
pub(super) fn fleet(prefix: &str) -> (Fleet, &'static Kube, String) {
    let kube = Kube::shared();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let namespace = runtime.block_on(kube.namespace(prefix));
    let declared = declared(&namespace);
    let fleet = Fleet::with(
        &[
            ("policies/all.yaml", declared.as_str()),
            ("envs/dev/web/all.yaml", WEB),
        ],
        &Setup {
            repository: "    interval: 1s\n",
            ..Setup::default()
        },
    );
    let mut text = std::fs::read_to_string(fleet.config()).unwrap();
    text.push_str(&format!(
        "clusters:\n  - {{name: test, kubeconfig: {}}}\n",
        kube.kubeconfig.display()
    ));
    std::fs::write(fleet.config(), text).unwrap();
    fleet.publish("team/app", &["1.0.0", "1.1.0"]);
    (fleet, kube, namespace)
}

pub(super) fn run(fleet: &Fleet, arguments: &[&str], code: i32) -> String {
    let output = fleet.tagboat(arguments).output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(
        !text.contains("korrekt") && !text.contains("a29ycmVrdC"),
        "a secret is shown: {text}"
    );
    text
}

fn image(kube: &Kube, namespace: &str) -> String {
    let output = kube.kubectl(&[
        "-n",
        namespace,
        "get",
        "deployment",
        "web",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].image}",
    ]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
fn run_once_from_registry_to_ready_deployment() {
    let (fleet, kube, namespace) = fleet("command");
    let application = format!("{namespace}/web");
    let text = run(&fleet, &["status"], 0);
    assert!(
        text.contains("outOfSync") && text.contains("would create Deployment"),
        "{text}"
    );
    let text = run(&fleet, &["diff", &application], 1);
    assert!(
        text.contains("would be created (envs/dev/web/all.yaml:1)")
            && text.contains("+      - name: web"),
        "{text}"
    );
    let text = run(&fleet, &["sync", &application, "--dry-run"], 0);
    assert!(text.contains("would create Secret"), "{text}");
    assert_eq!(image(kube, &namespace), "", "nothing was applied so far");

    let text = run(&fleet, &["run", "--once"], 0);
    assert!(
        text.contains("app 1.0.0 → 1.1.0") && text.contains("synced"),
        "{text}"
    );
    assert!(image(kube, &namespace).ends_with("/team/app:1.1.0"));
    assert!(run(&fleet, &["diff", "--all"], 0).contains("synced"));
    let all: Value = serde_json::from_str(&run(&fleet, &["status", "-o", "json"], 0)).unwrap();
    let all = &all["applications"];
    assert_eq!(
        (&all[0]["state"], &all[0]["health"], &all[0]["objects"]),
        (&"synced".into(), &"Current".into(), &2.into())
    );
    let text = run(&fleet, &["history", &application], 0);
    assert!(
        text.contains("applied") && text.contains("app 1.0.0 → 1.1.0"),
        "{text}"
    );

    // A change by hand is repaired, and its manager is named.
    assert!(
        kube.kubectl(&[
            "-n",
            &namespace,
            "set",
            "image",
            "deployment/web",
            "web=example.org/web:9"
        ])
        .status
        .success()
    );
    let text = run(&fleet, &["diff", &application], 1);
    assert!(
        text.contains("containers[name=web]/image was changed by kubectl-set")
            && text.contains("-        image: example.org/web:9"),
        "{text}"
    );
    run(&fleet, &["sync", &application, "--wait"], 0);
    assert!(image(kube, &namespace).ends_with("/team/app:1.1.0"));
    let text = run(&fleet, &["sync", "no/such"], 2);
    assert!(
        text.contains("no Application no/such; available:"),
        "{text}"
    );
}

#[test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
fn daemon_applies_commits_and_reports_them() {
    let (fleet, kube, namespace) = fleet("daemon");
    let log = fleet.dir.path().join("log");
    let mut daemon = Running::start(
        fleet
            .tagboat_std(&["run"])
            .stderr(std::fs::File::create(&log).unwrap()),
    );
    let text = || std::fs::read_to_string(&log).unwrap();
    wait("the bot's commit to reach the cluster", || {
        image(kube, &namespace)
            .ends_with("/team/app:1.1.0")
            .then_some(())
    });
    wait("synced", || {
        run_any(&fleet, &["status"])
            .contains("synced")
            .then_some(())
    });
    // A person's commit is applied without a command.
    fleet.person(
        &[(
            "envs/dev/web/config.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: more}\ndata: {a: '1'}\n",
        )],
        "more",
    );
    wait("the person's commit to reach the cluster", || {
        kube.kubectl(&["-n", &namespace, "get", "configmap", "more"])
            .status
            .success()
            .then_some(())
    });
    assert!(
        kube.kubectl(&["-n", &namespace, "delete", "configmap", "more"])
            .status
            .success()
    );
    wait("the repair", || {
        text().contains("repaired ConfigMap").then_some(())
    });
    assert!(text().contains("deleted outside Git"));
    // The daemon answers commands.
    run(&fleet, &["sync", &format!("{namespace}/web"), "--wait"], 0);
    assert!(run(&fleet, &["diff", "--all"], 0).contains("synced"));
    assert!(run(&fleet, &["history", &format!("{namespace}/web")], 0).contains("more"));
    assert!(
        run(&fleet, &["sync", "--all", "--revision", &"0".repeat(40)], 2)
            .contains("while a daemon follows the branch")
    );
    daemon.signal("TERM");
    assert!(daemon.ended().success(), "{}", text());
    assert!(text().ends_with("stopped reason=Stopped\n"), "{}", text());
}

fn run_any(fleet: &Fleet, arguments: &[&str]) -> String {
    String::from_utf8_lossy(&fleet.tagboat(arguments).output().unwrap().stdout).into_owned()
}

#[test]
#[ignore = "needs kube-apiserver: run tests/run cluster"]
fn last_application_deleted_after_confirmation() {
    let (fleet, kube, namespace) = fleet("vanished");
    let application = format!("{namespace}/web");
    let with = declared(&namespace).replace("wait: true", "deletionPolicy: Delete");
    let without = with
        .split("apiVersion: tagboat.dev/v1alpha1\nkind: Application")
        .next()
        .unwrap()
        .to_owned();
    fleet.person(&[("policies/all.yaml", &with)], "delete");
    run(&fleet, &["sync", &application], 0);
    fleet.person(&[("policies/all.yaml", &without)], "gone");
    let text = run(&fleet, &["sync", "--all"], 1);
    assert!(text.contains("declares none of the 1 Application that it had on this cluster, and 2 objects would be deleted"), "{text}");
    assert!(
        text.contains(&format!("tagboat sync {application} --confirm-prune")),
        "{text}"
    );
    assert!(image(kube, &namespace).ends_with("/team/app:1.0.0"));
    // The Application is no longer declared: only the confirmation still accepts its name.
    run(&fleet, &["sync", &application], 2);
    assert!(
        run(&fleet, &["sync", "no/such", "--confirm-prune"], 2).contains("no Application no/such")
    );
    let text = run(&fleet, &["sync", &application, "--confirm-prune"], 0);
    assert!(
        text.contains(&format!("{application} and its objects are deleted")),
        "{text}"
    );
    assert_eq!(image(kube, &namespace), "");
    // An unreadable record is not the same as a missing one.
    let history = ["history", application.as_str()];
    assert!(run(&fleet, &history, 2).contains("it was never applied"));
    assert!(
        kube.kubectl(&[
            "-n",
            "tagboat-system",
            "create",
            "configmap",
            &format!("tagboat-record.{namespace}.web")
        ])
        .status
        .success()
    );
    let text = run(&fleet, &history, 2);
    assert!(
        text.contains("cannot read the record of Application")
            && text.contains("cluster test: ConfigMap"),
        "{text}"
    );
}
