//! Answers of the service: valid by their schemas, and the same with and without a daemon.

use super::{
    answer_schema::validate,
    git_support::provider,
    support::process::Running,
    update_support::{Fleet, Setup, deployment, env, semver, wait},
};
use jiff::Timestamp;
use serde_json::Value;
use tagboat::sandbox::kube::{SandboxCluster, SandboxOptions};

const FILE: &str = "envs/dev/a.yaml";

const APPLICATION: &str = "---
apiVersion: tagboat.dev/v1alpha1
kind: Application
metadata: {name: web, namespace: dev}
spec: {environment: dev, path: envs/dev, cluster: test, targetNamespace: dev, wait: true}
";

/// A fleet with an Application on a cluster in this process.
fn fleet() -> (Fleet, SandboxCluster) {
    provider();
    let declared = semver("web", "1.x", "") + &env("dev", "") + APPLICATION;
    let files = [
        ("p.yaml", declared.as_str()),
        (FILE, CONFIG),
        ("charts/web/Chart.yaml", CHART),
    ];
    let fleet = Fleet::with(&files, &Setup::default());
    let cluster = fleet
        .runtime
        .block_on(SandboxCluster::start(SandboxOptions::default()))
        .unwrap();
    std::fs::write(fleet.dir.path().join("kubeconfig"), cluster.kubeconfig()).unwrap();
    fleet.runtime.block_on(create_namespace(&cluster));
    let clusters = "clusters: [{name: test, kubeconfig: kubeconfig}]\n";
    let settings = std::fs::read_to_string(fleet.config()).unwrap() + clusters;
    std::fs::write(fleet.config(), settings).unwrap();
    fleet.publish("team/web", &["1.0.0", "1.1.0"]);
    (fleet, cluster)
}

/// Creates the namespace of the Application's objects.
async fn create_namespace(cluster: &SandboxCluster) {
    let namespace =
        serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "dev"}});
    let request = reqwest::Client::new().post(format!("{}/api/v1/namespaces", cluster.url()));
    let request = request.header("content-type", "application/json");
    let answer = request.body(namespace.to_string()).send().await.unwrap();
    assert!(answer.status().is_success());
}

const CHART: &str = "name: web\ndependencies:\n- name: redis\n  version: 18.6.1\n";

const CONFIG: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: web}
data:
  image: {host}/team/web:1.0.0 # {\"$imagepolicy\": \"default:web\"}
";

/// Runs a command with `-o json`; validates and returns its answer.
fn ask(fleet: &Fleet, arguments: &[&str]) -> Value {
    let output = fleet
        .tagboat(&[arguments, &["-o", "json"]].concat())
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    let answer = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {err}"));
    assert_eq!(err, "", "{arguments:?}");
    validate(arguments[0], &answer);
    answer
}

/// Removes times and counters of requests, which differ between two runs, and what only a daemon
/// knows.
fn normalised(mut answer: Value) -> Value {
    match &mut answer {
        Value::Object(fields) => {
            let own = [
                "requestsSent",
                "since",
                "lastScan",
                "nextScan",
                "fromDaemon",
            ];
            fields.retain(|key, _| !own.contains(&key.as_str()));
            for value in fields.values_mut() {
                *value = normalised(value.take());
            }
        }
        Value::Array(values) => {
            for value in values {
                *value = normalised(value.take());
            }
        }
        _ => {}
    }
    answer
}

#[test]
fn service_answers_follow_their_schemas() {
    let (fleet, _cluster) = fleet();
    let planned = ask(&fleet, &["plan"]);
    let policy = &planned["passes"][0]["environments"][0]["policies"][0];
    assert_eq!(policy["selected"]["tag"], "1.1.0");
    assert_eq!(
        planned["unsupported"][0]["findings"]["items"],
        serde_json::json!([{
            "file": "charts/web/Chart.yaml",
            "line": 4,
            "kind": "chartDependency",
            "name": "redis",
            "version": "18.6.1",
        }])
    );
    assert_eq!(
        ask(&fleet, &["requests"])["pullRequests"],
        Value::Array(vec![])
    );
    assert_eq!(
        ask(&fleet, &["diff", "--all"])["applications"][0]["cluster"],
        "test"
    );
    let ran = ask(&fleet, &["run", "--once"]);
    assert_eq!(ran["applications"][0]["state"], "synced");
    assert_eq!(ran["outcome"], "done");
    let synced = ask(&fleet, &["sync", "dev/web", "--wait"]);
    assert_eq!(synced["applications"][0]["health"], "Current");
    assert_eq!(
        ask(&fleet, &["history", "dev/web"])["clusters"][0]["cluster"],
        "test"
    );
    ask(&fleet, &["preview"]);
    let rolled_back = ask(&fleet, &["rollback", "dev/web"]);
    assert_eq!(rolled_back["held"][0]["version"], "1.1.0");
    let holds = ask(&fleet, &["holds"]);
    assert_eq!(holds["holds"][0]["version"], "1.1.0");
    ask(&fleet, &["plan"]);
    let policies = ask(&fleet, &["policies"]);
    let listed = &policies["policies"][0]["environments"][0];
    assert_eq!(listed["present"][0], "1.0.0");
    assert!(listed["held"][0].as_str().unwrap().contains("1.1.0"));
    let released = ask(&fleet, &["release", "dev", "default/web"]);
    assert_eq!(released["selected"]["tag"], "1.1.0");
    let suspended = ask(&fleet, &["suspend", "application/dev/web"]);
    assert_eq!(suspended["suspended"], true);
    assert_eq!(
        ask(&fleet, &["resume", "application/dev/web"])["suspended"],
        false
    );
}

#[test]
fn service_answers_are_the_same_with_a_daemon() {
    let (fleet, _cluster) = fleet();
    let files = fleet.text(FILE);
    let log = fleet.dir.path().join("log");
    let mut daemon = Running::start(
        fleet
            .tagboat_std(&["run"])
            .stdout(std::process::Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap()),
    );
    let is_synced = |status: &Value| status["applications"][0]["state"] == "synced";
    wait("the first commit to reach the cluster", || {
        let socket = fleet.dir.path().join("store/tagboat.sock");
        (socket.exists() && fleet.text(FILE).contains("1.1.0")).then_some(())
    });
    fleet.person_at(Timestamp::now(), &[(FILE, &files)], "back");
    ask(&fleet, &["sync", "--all", "--wait"]);
    wait("the revert to reach the cluster", || {
        is_synced(&ask(&fleet, &["status"])).then_some(())
    });
    let queries: [&[&str]; 9] = [
        &["plan"],
        &["policies"],
        &["explain", "default/web"],
        &["holds"],
        &["requests"],
        &["status"],
        &["diff", "--all"],
        &["history", "dev/web"],
        &["preview"],
    ];
    let with_daemon = queries.map(|query| normalised(ask(&fleet, query)));
    daemon.signal("TERM");
    daemon.ended();
    for (query, with_daemon) in queries.iter().zip(with_daemon) {
        assert_eq!(normalised(ask(&fleet, query)), with_daemon, "{query:?}");
    }
}

#[test]
fn service_failure_is_one_object_on_standard_error() {
    let fleet = Fleet::with(
        &[
            ("p.yaml", &env("dev", "")),
            (FILE, &deployment(&["web:1.0.0"])),
        ],
        &Setup::default(),
    );
    let output = fleet
        .tagboat(&["explain", "default/nothing", "-o", "json"])
        .output()
        .unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    validate("error", &error);
    assert_eq!(error["kind"], "config");
    assert_eq!(
        error["error"],
        "no ImagePolicy default/nothing; none is declared"
    );
}

/// Declares an Application of the folder `envs/dev/NAME`.
fn declare(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}, namespace: dev}}\nspec: {{environment: dev, path: envs/dev/{name}, cluster: test, targetNamespace: dev{spec}}}\n"
    )
}

/// Sets the declarations and the files of a fleet, as a person.
fn set(fleet: &Fleet, applications: &str, files: &[(&str, &str)]) {
    let declared = env("dev", "") + applications;
    let all = [&[("p.yaml", declared.as_str())], files].concat();
    fleet.person_at(Timestamp::now(), &all, "change");
}

/// Runs a command with `-o json`; returns its exit code and its answer, or its failure, which
/// follows the warnings.
fn ask_with_code(fleet: &Fleet, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = fleet
        .tagboat(&[arguments, &["-o", "json"]].concat())
        .output()
        .unwrap();
    let answer = match output.stdout.is_empty() {
        true => &output.stderr,
        false => &output.stdout,
    };
    let text = String::from_utf8_lossy(answer);
    let values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let answer = values.last().and_then(Result::ok);
    let answer = answer.unwrap_or_else(|| panic!("{arguments:?}: {text}"));
    (output.status.code(), answer)
}

#[test]
fn status_of_broken_is_the_same_without_daemon() {
    let (fleet, _cluster) = fleet();
    // The default settings of the sandbox take this tag for a missing one.
    let pull = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 1\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      containers:\n        - {name: web, image: 'example.org/web:broken'}\n";
    let refused = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: r, namespace: is-not-there}\n";
    set(
        &fleet,
        &(declare("pull", "") + &declare("refused", "")),
        &[
            ("envs/dev/pull/a.yaml", pull),
            ("envs/dev/refused/a.yaml", refused),
        ],
    );
    let log = fleet.dir.path().join("log");
    let mut daemon = Running::start(
        fleet
            .tagboat_std(&["run"])
            .stdout(std::process::Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap()),
    );
    let socket = fleet.dir.path().join("store/tagboat.sock");
    wait("the daemon", || socket.exists().then_some(()));
    let names_reason = |name: &str, field: &str, reason: &str| {
        let (code, answer) = ask_with_code(&fleet, &["status", &format!("dev/{name}")]);
        let status = &answer["applications"][0];
        let named = status[field].to_string().contains(reason);
        (code == Some(1) && named).then(|| status["state"].clone())
    };
    let (pod, namespace) = (
        ("pull", "unhealthy", "ImagePullBackOff"),
        ("refused", "problems", "is-not-there"),
    );
    let with_daemon = [pod, namespace].map(|(name, field, reason)| {
        wait("the reason in the daemon's answer", || {
            names_reason(name, field, reason)
        })
    });
    daemon.signal("TERM");
    daemon.ended();
    let without = [pod, namespace].map(|(name, field, reason)| {
        names_reason(name, field, reason)
            .unwrap_or_else(|| panic!("{:?}", ask_with_code(&fleet, &["status"])))
    });
    assert_eq!(without, with_daemon);
    assert_eq!(with_daemon, ["synced", "failed"]);
}

/// The `verify` of a repository whose key nobody has; `from` follows it.
fn verify(from: &str) -> String {
    format!(
        "    verify:\n      keys: [{{ssh: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA}}]\n{from}"
    )
}

/// Without a verified revision nothing is deployed, and no command has an answer.
#[test]
fn unverified_repository_fails_every_command() {
    let (fleet, _cluster) = fleet();
    let head = fleet.repository.head().unwrap().unwrap().to_string();
    let settings = std::fs::read_to_string(fleet.config()).unwrap();
    let unverified = settings.replace("clusters:", &(verify("") + "clusters:"));
    std::fs::write(fleet.config(), unverified).unwrap();
    let reason = format!(
        "commit {} is not deployed: it is not signed; nothing is deployed before a verified commit",
        &head[..10]
    );
    let commands = [
        &["sync", "--all"][..],
        &["sync", "dev/web"],
        &["sync", "dev/web", "--confirm-prune"],
        &["diff", "--all"],
        &["diff", "dev/web"],
        &["status"],
        &["status", "dev/web"],
    ];
    for command in commands {
        let (code, failure) = ask_with_code(&fleet, command);
        assert_eq!(code, Some(2), "{command:?}: {failure:#}");
        let failure: Vec<&str> = ["error", "kind", "hint"]
            .iter()
            .map(|field| failure[*field].as_str().unwrap())
            .collect();
        assert_eq!(failure[0], format!("fleet: {reason}"), "{command:?}");
        assert_eq!(failure[1], "config", "{command:?}");
        assert!(failure[2].contains("repositories[].verify"), "{command:?}");
    }
    // A daemon answers with what it observes: nothing, and why.
    let socket = fleet.dir.path().join("store/tagboat.sock");
    let mut daemon = Running::start(
        fleet
            .tagboat_std(&["run"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null()),
    );
    wait("the daemon to refuse the head", || {
        if !socket.exists() {
            return None;
        }
        let (code, status) = ask_with_code(&fleet, &["status"]);
        let refused = status["refusedHeads"][0]["commit"] == head;
        refused.then(|| assert_eq!(code, Some(1), "{status:#}"))
    });
    daemon.signal("TERM");
    daemon.ended();
}

/// An Application that only a head declares that is not deployed is missing for that reason.
#[test]
fn unverified_repository_explains_an_unknown_name() {
    let (fleet, _cluster) = fleet();
    fleet.set_branch("other", fleet.repository.head().unwrap().unwrap());
    set(
        &fleet,
        &(APPLICATION.to_owned() + &declare("extra", "")),
        &[],
    );
    let url = fleet.server.url();
    let other = format!("  - name: other\n    url: {url}\n    branch: other\nclusters:");
    let settings = std::fs::read_to_string(fleet.config()).unwrap();
    let both = settings.replace("clusters:", &(verify("") + &other));
    std::fs::write(fleet.config(), both).unwrap();
    for command in ["sync", "diff", "status"] {
        let (code, failure) = ask_with_code(&fleet, &[command, "dev/extra"]);
        assert_eq!(code, Some(2), "{command}: {failure:#}");
        let error = failure["error"].as_str().unwrap();
        assert!(
            error.starts_with("no Application dev/extra; available: dev/web; fleet: commit ")
                && error.ends_with("nothing is deployed before a verified commit"),
            "{command}: {error}"
        );
        let hint = failure["hint"].as_str().unwrap();
        assert!(hint.contains("repositories[].verify"), "{command}: {hint}");
    }
}

#[test]
fn unverified_head_is_told_by_every_command() {
    let (fleet, _cluster) = fleet();
    let head = fleet.repository.head().unwrap().unwrap();
    let settings = std::fs::read_to_string(fleet.config()).unwrap();
    let with = |from: &str| settings.replace("clusters:", &(verify(from) + "clusters:"));
    std::fs::write(fleet.config(), with("")).unwrap();
    let commands = [&["status"][..], &["diff", "--all"], &["sync", "--all"]];
    for command in commands {
        let output = fleet.tagboat(command).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{command:?}: {text}");
        assert!(
            text.contains("is not deployed: it is not signed; nothing is deployed before"),
            "{command:?}: {text}"
        );
    }
    std::fs::write(fleet.config(), with(&format!("      from: '{head}'\n"))).unwrap();
    assert_eq!(ask_with_code(&fleet, &["sync", "--all"]).0, Some(0));
    fleet.person_at(Timestamp::now(), &[("README", "x")], "unsigned");
    for command in commands {
        let (code, answer) = ask_with_code(&fleet, command);
        let refused = &answer["refusedHeads"][0];
        assert_eq!(
            refused["inForce"],
            head.to_string(),
            "{command:?}: {answer:#}"
        );
        assert_eq!(refused["reason"], "is not signed", "{command:?}");
        if command[0] != "diff" {
            assert_eq!(code, Some(1), "{command:?}: {answer:#}");
        }
    }
    let newest = fleet.repository.head().unwrap().unwrap().to_string();
    let output = fleet
        .tagboat(&["sync", "--all", "--revision", &newest])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && text.contains("is not signed"),
        "{text}"
    );
}

#[test]
fn diff_announces_only_deletions_of_a_sync() {
    let (fleet, _cluster) = fleet();
    let applications = declare("from", ", prune: true") + &declare("to", ", prune: true");
    let config =
        |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
    let (moved, stays, here) = (config("moved"), config("stays"), config("here"));
    set(
        &fleet,
        &applications,
        &[
            ("envs/dev/from/a.yaml", &format!("{moved}---\n{stays}")),
            ("envs/dev/to/a.yaml", &here),
        ],
    );
    assert_eq!(ask_with_code(&fleet, &["sync", "--all"]).0, Some(0));
    let objects = |code| {
        let (found, answer) = ask_with_code(&fleet, &["diff", "dev/from"]);
        assert_eq!(found, Some(code), "{answer:#}");
        answer["applications"][0]["objects"].clone()
    };
    set(
        &fleet,
        &applications,
        &[
            ("envs/dev/from/a.yaml", &stays),
            ("envs/dev/to/a.yaml", &format!("{moved}---\n{here}")),
        ],
    );
    let found = objects(0).to_string();
    assert!(!found.contains("\"delete\""), "{found}");
    assert!(found.contains("Application dev/to declares it"), "{found}");
    // Of an unreadable Application nothing is known: nothing is deleted.
    set(
        &fleet,
        &applications,
        &[("envs/dev/to/a.yaml", "apiVersion: [\n")],
    );
    let found = objects(0).to_string();
    assert!(!found.contains("\"delete\""), "{found}");
    assert!(
        found.contains("before dev/to, which may declare it"),
        "{found}"
    );
    // A deletion that needs a confirmation says so.
    set(
        &fleet,
        &applications,
        &[
            ("envs/dev/from/a.yaml", "# nothing\n"),
            ("envs/dev/to/a.yaml", &here),
        ],
    );
    let found = objects(1);
    for object in found.as_array().unwrap() {
        assert_eq!(object["change"], "delete", "{found:#}");
        let notes = object["notes"].to_string();
        assert!(notes.contains("sync dev/from --confirm-prune"), "{notes}");
    }
    assert_eq!(found.as_array().unwrap().len(), 2, "{found:#}");
}

#[test]
fn history_shows_no_record_of_another_repository() {
    let (fleet, _cluster) = fleet();
    assert_eq!(ask_with_code(&fleet, &["sync", "--all"]).0, Some(0));
    assert_eq!(ask_with_code(&fleet, &["history", "dev/web"]).0, Some(0));
    let text = std::fs::read_to_string(fleet.config()).unwrap();
    let renamed = text.replacen("name: fleet", "name: other", 1);
    assert_ne!(renamed, text);
    std::fs::write(fleet.config(), renamed).unwrap();
    let (code, answer) = ask_with_code(&fleet, &["history", "dev/web"]);
    assert_eq!(code, Some(2), "{answer:#}");
    let error = answer["error"].to_string();
    assert!(error.contains("belongs to repository fleet"), "{error}");
}
